"""
Take note of the ids in an answer while it passes, before its client can use them.

It knows neither what they stand for nor where they are remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs
from zope.interface import implementer

from aiclient2api.conversation.pieces import Pieces
from aiclient2api.errors import GatewayError, UpstreamError
from aiclient2api.interfaces import IWatcher
from aiclient2api.values import Usage


@implementer(IWatcher)
@attrs.define(eq=False)
class Noting:
    """
    A watcher of an answer whose ids are remembered before its client has seen them.

    A client may go on from an answer as soon as it has read it.
    """

    _watcher: IWatcher
    _give: Callable[[Iterable[str]], None]
    _given: set[str] = attrs.field(factory=set, init=False)
    _told: tuple[str | None, Sequence[str]] = attrs.field(default=(None, ()), init=False)

    @property
    def started(self) -> bool:
        """See `IWatcher`."""
        return bool(self._watcher.started)

    @property
    def complete(self) -> bool:
        """See `IWatcher`."""
        return bool(self._watcher.complete)

    @property
    def failure(self) -> UpstreamError | None:
        """See `IWatcher`."""
        failure: UpstreamError | None = self._watcher.failure
        return failure

    @property
    def events(self) -> int:
        """See `IWatcher`."""
        return int(self._watcher.events)

    @property
    def usage(self) -> Usage | None:
        """See `IWatcher`."""
        usage: Usage | None = self._watcher.usage
        return usage

    @property
    def text(self) -> str:
        """See `IWatcher`."""
        return str(self._watcher.text)

    @property
    def pieces(self) -> Pieces:
        """See `IWatcher`."""
        pieces: Pieces = self._watcher.pieces
        return pieces

    @property
    def reply_id(self) -> str | None:
        """See `IWatcher`."""
        id: str | None = self._watcher.reply_id
        return id

    @property
    def kept_ids(self) -> Sequence[str]:
        """See `IWatcher`."""
        ids: Sequence[str] = self._watcher.kept_ids
        return ids

    @property
    def framing(self) -> str:
        """See `IWatcher`."""
        return str(self._watcher.framing)

    def feed(self, data: bytes) -> bytes:
        """See `IWatcher`."""
        shown: bytes = self._watcher.feed(data)
        self._note()
        return shown

    def end(self) -> bytes:
        """See `IWatcher`."""
        shown: bytes = self._watcher.end()
        self._note()
        return shown

    def error_frame(self, error: GatewayError) -> bytes | None:
        """See `IWatcher`."""
        frame: bytes | None = self._watcher.error_frame(error)
        return frame

    def _note(self) -> None:
        told = self._watcher.reply_id, self._watcher.kept_ids
        if told != self._told:
            self._told = told
            new = [id for id in (told[0], *told[1]) if id is not None and id not in self._given]
            self._given.update(new)
            if new:
                self._give(new)
