"""
The book of all credentials that are renewed while running: one keeper for each.

What a provider needs of this package stands here: where a credential is (`Source`), how it is
renewed (`Renewal`), and who keeps it (`TokenKeeper`). It must never know a provider.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults

from aiclient2api.oauth.credential_file import access_token, digest, refresh_token
from aiclient2api.oauth.keeper import Met, Renewal, TokenKeeper, no_one
from aiclient2api.oauth.places import FilePlace, MemoryPlace, Place
from aiclient2api.values import Clock, Jitter

__all__ = ["Renewal", "Source", "TokenBook", "TokenKeeper", "access_token", "refresh_token"]


@attrs.frozen
class Source:
    """
    Where a credential is.

    :ivar path: A credential file; a symbolic link is followed.
    :ivar inline: What the configuration itself holds, decoded, where there is no file. It is
        renewed in memory only.
    :ivar lock: The lock file that the vendor's own client uses, if it does; else one beside
        the credential file, its name with ``.lock``.
    """

    path: Path | None = None
    inline: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    lock: Path | None = None


class TokenBook:
    """
    All keepers, kept over reloads.

    :param now: Unix seconds; what expiries and file dates are compared with.
    :param in_thread: Calls a function with arguments in a thread and returns a Deferred.
    :param met: Told of every credential that is read or renewed, before it is used.
    :param lock_pause: Seconds before a taken lock is tried again; doubles up to 2 s.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        now: Callable[[], float],
        jitter: Jitter,
        in_thread: Callable[..., Deferred[Any]],
        lock_pause: float = 0.1,
        met: Met = no_one,
    ) -> None:
        self._clock = clock
        self._now = now
        self._jitter = jitter
        self._in_thread = in_thread
        self._lock_pause = lock_pause
        self._met = met
        self._keepers: dict[str, TokenKeeper] = {}

    def keeper(self, *, source: Source, renewal: Renewal) -> TokenKeeper:
        """
        Return whoever keeps the credential at *source*, from now on renewed by *renewal*.

        Cheap. Ask each time rather than once: a link may lead elsewhere by then.

        :raise ValueError: if *source* names nothing.
        """
        path = None if source.path is None else Path(os.path.realpath(source.path))
        if path is not None:
            key = str(path)
        elif source.inline is not None:
            key = "\0" + digest(json.dumps(source.inline, sort_keys=True, default=str))
        else:
            raise ValueError("a source is a file or a document")
        keeper = self._keepers.get(key)
        if keeper is None:
            keeper = self._keepers[key] = TokenKeeper(
                self._place(path, source),
                renewal,
                clock=self._clock,
                now=self._now,
                jitter=self._jitter,
                met=self._met,
            )
        keeper.renewal = renewal
        return keeper

    def close(self) -> Deferred[None]:
        """Renew no more; fires once renewals under way are written, within some seconds."""
        closing = [keeper.close() for keeper in self._keepers.values()]
        return gatherResults(closing).addCallback(lambda _: None)

    def _place(self, path: Path | None, source: Source) -> Place:
        if path is None:
            return MemoryPlace(source.inline or {})
        return FilePlace(
            path,
            lock=source.lock or path.with_name(f"{path.name}.lock"),
            clock=self._clock,
            now=self._now,
            in_thread=self._in_thread,
            lock_pause=self._lock_pause,
        )
