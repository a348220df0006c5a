"""
An answer taken out of its envelope while it passes, so that its dialect's watcher can read it.

It knows neither what the envelope is nor what the answer says.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from zope.interface import implementer

from aiclient2api.conversation.pieces import Pieces
from aiclient2api.errors import GatewayError, UpstreamError
from aiclient2api.interfaces import IEnvelope, IWatcher
from aiclient2api.values import Usage


@implementer(IWatcher)
@attrs.define(eq=False)
class Opened:
    """A watcher that is fed what comes in an envelope."""

    _watcher: IWatcher
    _envelope: IEnvelope

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
        opened = self._envelope.open(data)
        return self._watcher.feed(opened) if opened else b""

    def end(self) -> bytes:
        """See `IWatcher`."""
        last = self._envelope.end()
        shown = self._watcher.feed(last) if last else b""
        return shown + self._watcher.end()

    def error_frame(self, error: GatewayError) -> bytes | None:
        """See `IWatcher`."""
        return self._watcher.error_frame(error)
