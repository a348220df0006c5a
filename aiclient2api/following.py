"""
Follow a file while it is edited: what it holds is taken as soon as it is whole and sound.

It looks at bytes only, by their digest; it must never know what they mean, and it writes
nothing. What an editor, an orchestrator or a crash leaves half done changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from aiclient2api.errors import ConfigurationError
from aiclient2api.state.timers import every
from aiclient2api.values import Clock

ABSENT = ""
"""The digest of a file that is not there."""

_COARSE = 2.0
"""Seconds; some file systems tell no finer when a file changed."""

_Stamp = tuple[int, ...]


@attrs.frozen
class _Seen:
    """
    What a look found.

    :ivar stamp: What changes when the file does; None: look closer the next time.
    :ivar changed: Unix seconds of the last change, as far as the file system tells.
    :ivar digest: Of the content; `ABSENT`; None if the file was not read.
    :ivar error: Why it could not be.
    """

    stamp: _Stamp | None = None
    changed: float = 0.0
    digest: str | None = None
    error: str | None = None


class FollowedFile:
    """
    Have the content of a file taken when it changes.

    A content that is refused is told of once, and tried again only when it is another. A
    file that vanishes changes nothing. No two reloads run at once.

    :param path: Returns which file is followed now, whether it exists or not; None: none.
    :param reload: Puts what the file holds in force, or raises `ConfigurationError` and
        changes nothing. May return a Deferred.
    :param seconds: Between two looks.
    :param in_thread: Calls a function with arguments in a thread and returns a
        Deferred, as ``partial(deferToThreadPool, reactor, pool)`` does.
    :param loaded: Unix seconds at which the content in force was read, or earlier. What
        changed since then is taken at the first look; if None, what the first look finds
        counts as in force.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        path: Callable[[], Path | None],
        reload: Callable[[], object],
        clock: Clock,
        in_thread: Callable[..., Deferred[Any]],
        seconds: float = 1.0,
        loaded: float | None = None,
    ) -> None:
        self._path = path
        self._reload = reload
        self._clock = clock
        self._in_thread = in_thread
        self._seconds = seconds
        self._loaded = loaded
        self._loop: LoopingCall | None = None
        self._looking: Deferred[None] | None = None
        self._file: Path | None = None
        self._stamp: _Stamp | None = None
        self._settled = False
        self._known = False
        self._in_force: str | None = None
        self._refused: str | None = None
        self._told: object = None

    def start(self) -> None:
        """Begin to look: now, and then again and again."""
        if self._loop is None:
            self._loop = every(self._clock, self._seconds, self._look)

    def stop(self) -> None:
        """Look no more; a look or a reload that is under way is cancelled."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()
        if self._looking is not None:
            self._looking.cancel()

    def _look(self) -> Deferred[None]:
        self._looking = Deferred.fromCoroutine(self._follow())
        return self._looking.addErrback(self._cancelled).addBoth(self._looked)

    def _cancelled(self, failure: Failure) -> None:
        if self._loop is not None:
            failure.raiseException()
        failure.trap(CancelledError)

    def _looked(self, result: Any) -> Any:
        self._looking = None
        return result

    async def _follow(self) -> None:
        path = self._path()
        if path is None:
            return
        if path != self._file:
            self._file, self._stamp = path, None
        seen = await self._in_thread(glance, path, self._stamp if self._settled else None)
        # A change within the same tick of the file system's clock leaves the same stamp, so
        # that one is believed only once the file was read a second time under it.
        self._settled = seen.stamp is not None and seen.stamp == self._stamp
        self._stamp = seen.stamp
        if seen.error is not None:
            # Whatever it holds once it can be read, nobody has taken it.
            self._known = True
            self._tell_error(path, seen.error)
        elif seen.digest is not None:
            await self._compare(path, seen)

    async def _compare(self, path: Path, seen: _Seen) -> None:
        if not self._known:
            self._known = True
            loaded = self._loaded
            if loaded is None or seen.digest == ABSENT or seen.changed < loaded - _COARSE:
                self._in_force = seen.digest
        if seen.digest == self._in_force:
            self._refused = self._told = None
        elif seen.digest == ABSENT:
            self._tell_gone(path)
        elif seen.digest != self._refused:
            await self._take(path, seen)

    async def _take(self, path: Path, seen: _Seen) -> None:
        error: Exception | None = None
        try:
            await maybeDeferred(self._reload)
        except CancelledError:
            raise
        except Exception as raised:
            error = raised
        # The reload reads the file by itself. If that changed meanwhile, nobody knows which
        # of its contents was taken or refused: the next look decides.
        after = await self._in_thread(glance, path, seen.stamp)
        steady = after.stamp is not None and after.stamp == seen.stamp
        if not steady:
            self._stamp = None
        if error is None:
            self._in_force = seen.digest if steady else None
            self._refused = self._told = None
            self._log.info(
                "{file} was edited; what it says of accounts is in force now.", file=path.name
            )
        elif steady:
            self._refused = self._told = seen.digest
            self._tell_refused(path, error)

    def _tell_refused(self, path: Path, error: Exception) -> None:
        if isinstance(error, ConfigurationError):
            self._log.error(
                "{file} was edited, but the old accounts stay in force. {faults}",
                file=path.name,
                faults=" | ".join(error.faults),
            )
        else:
            # Its words may quote a key.
            self._log.error(
                "{file} was edited, but taking it failed: {kind}. This is a bug; restart to try "
                "the file again.",
                file=path.name,
                kind=type(error).__qualname__,
            )

    def _tell_gone(self, path: Path) -> None:
        self._refused = None
        if self._told != ABSENT:
            self._told = ABSENT
            self._log.warn(
                "{file} is gone, and the accounts that it named stay in force. Put {path} back, "
                "or restart without it.",
                file=path.name,
                path=path,
            )

    def _tell_error(self, path: Path, error: str) -> None:
        self._refused = None
        if self._told != (error,):
            self._told = (error,)
            self._log.error(
                "{file} cannot be read ({error}), and the old accounts stay in force. Make {path} "
                "a file that the gateway's user may read.",
                file=path.name,
                error=error,
                path=path,
            )


def glance(path: Path, stamp: _Stamp | None) -> _Seen:
    """
    Look at a file, and read it if it changed. For a thread: it waits for the disk.

    :param stamp: What an earlier look found; None: read it in any case.
    """
    try:
        if stamp is not None and _stamp(os.stat(path)) == stamp:
            return _Seen(stamp)
        # Without O_NONBLOCK a FIFO put in its place would hold the thread for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return _Seen(digest=ABSENT)
    except OSError as error:
        return _Seen(error=error.strerror or type(error).__name__)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return _Seen(error="it is no regular file")
        digest = hashlib.sha256()
        while piece := os.read(descriptor, 1 << 20):
            digest.update(piece)
    except OSError as error:
        return _Seen(error=error.strerror or type(error).__name__)
    finally:
        os.close(descriptor)
    # As it was before it was read: a change while that went on shows at the next look.
    changed = max(found.st_mtime, found.st_ctime)
    return _Seen(_stamp(found), changed, digest.hexdigest())


def _stamp(found: os.stat_result) -> _Stamp:
    return (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )
