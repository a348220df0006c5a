"""
A lock file that processes of different makers respect: whoever creates it has the lock.

The protocol is Qwen Code's own: created exclusively, tried again after 100 ms, then twice as
long up to 2 s, taken for abandoned once its date is 10 s old, removed at the end. Ours says
more than that: its date is kept young while the lock is held, and it is under an flock, which
the kernel lifts when a process dies, so that a killed gateway holds up nobody. It must never
know what is locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater

from aiclient2api.values import Clock

STALE = 10.0
"""Seconds without a sign of life after which a lock is broken."""

_OURS = b"aiclient2api"
_FLOCKED = b"flock"


class LockTaken(Exception):
    """Somebody else held the lock for as long as we would wait."""


@attrs.frozen
class _Seen:
    """A lock that somebody else holds; it changes with each sign of life."""

    device: int
    inode: int
    changed: int


class FileLock:
    """
    A lock file; see the module. One holder at a time also within a process.

    :param path: Where the file is to be.
    :param clock: Waits, and tells how long a lock has given no sign of life.
    :param now: Unix seconds, as file dates have them.
    :param in_thread: Calls a function with arguments in a thread and returns a Deferred.
    :param first: Seconds before the second attempt; doubles from there.
    :param longest: Seconds between two attempts at most.
    :param attempts: How often to try.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        now: Callable[[], float],
        in_thread: Callable[..., Deferred[Any]],
        first: float = 0.1,
        longest: float = 2.0,
        attempts: int = 20,
    ) -> None:
        self.path = path
        self._clock = clock
        self._now = now
        self._in_thread = in_thread
        self._first = first
        self._longest = longest
        self._attempts = attempts
        self._held: int | None = None
        self._alive: LoopingCall | None = None

    async def acquire(self) -> None:
        """
        Take the lock. Cancelling gives it up, also where it was just being taken.

        :raise LockTaken: if it is still taken after the last attempt.
        :raise OSError: if no file can be made there.
        """
        seen, since = None, 0.0
        for attempt in range(self._attempts):
            if attempt:
                await deferLater(
                    self._clock, min(self._first * 2.0 ** (attempt - 1), self._longest)
                )
            silent = self._clock.seconds() - since >= STALE
            found = await self._try(seen if silent else None)
            if isinstance(found, int):
                self._held = found
                self._alive = LoopingCall(self._live)
                self._alive.clock = self._clock
                self._alive.start(STALE / 3)
                return
            if found != seen:
                seen, since = found, self._clock.seconds()
        raise LockTaken(f"{self.path} is held by another program")

    async def release(self) -> None:
        """Remove the file, if it is still ours. Safe to call without having the lock."""
        held, self._held = self._held, None
        alive, self._alive = self._alive, None
        if alive is not None:
            alive.stop()
        if held is not None:
            await self._in_thread(_release, held, self.path)

    async def __aenter__(self) -> FileLock:
        await self.acquire()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.release()

    def _live(self) -> None:
        # Not in a thread: by then the descriptor might be another file's.
        if self._held is not None:
            with contextlib.suppress(OSError):
                os.utime(self._held)

    def _try(self, silent: _Seen | None) -> Deferred[int | _Seen | None]:
        # A thread cannot be stopped: if nobody waits for it any more, what it took is released.
        waiter: Deferred[int | _Seen | None] = Deferred(lambda _: None)
        trying = self._in_thread(_take, self.path, self._now(), silent)

        def tried(found: int | _Seen | None) -> object:
            if waiter.called:
                return self._in_thread(_release, found, self.path) if isinstance(found, int) else 0
            waiter.callback(found)
            return None

        trying.addCallback(tried).addErrback(
            lambda failure: None if waiter.called else waiter.errback(failure)
        )
        return waiter


def _take(path: Path, now: float, silent: _Seen | None) -> int | _Seen | None:
    """
    Try to create the file, once more if what is in the way can be taken out of it.

    :param silent: A lock that was watched for long enough to know that it is abandoned.
    :return: The descriptor of the lock; else what is in the way, None if it was just released.
    """
    for again in (True, False):
        try:
            return _create(path)
        except FileExistsError:
            seen = _break(path, now, silent)
            if seen is not None or not again:
                return seen
    return None


def _create(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    words = [_OURS, str(os.getpid()).encode(), uuid.uuid4().hex.encode()]
    try:
        # Before it says that it is: else it would be taken for a dead man's.
        if _flock(descriptor):
            words.append(_FLOCKED)
        os.write(descriptor, b" ".join(words) + b"\n")
    except BaseException:
        _release(descriptor, path)
        raise
    return descriptor


def _release(descriptor: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        # It may have been broken while we were held up; then another's may be there.
        if os.path.samestat(os.stat(path), os.fstat(descriptor)):
            os.unlink(path)
    os.close(descriptor)


def _break(path: Path, now: float, silent: _Seen | None) -> _Seen | None:
    """Break a lock that its holder abandoned; return it if it is in force."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(descriptor)
        seen = _Seen(found.st_dev, found.st_ino, found.st_mtime_ns)
        words = os.read(descriptor, 200).split()
        marked = words[:1] == [_OURS] and words[-1:] == [_FLOCKED]
        stale = now - found.st_mtime > STALE or seen == silent
        if not stale and not marked:
            return seen
        # Two who break the same lock meet here: as long as we have it open, no other file can
        # have its inode, and only one of us has it flocked.
        flocked = _flock(descriptor)
        if flocked is False and not (stale and marked):
            # Alive, or just being broken. Only one of ours that is held up keeps its flock.
            return seen
        if not flocked and not stale:
            return seen
        return None if _remove(path, found) else seen
    finally:
        os.close(descriptor)


def _remove(path: Path, found: os.stat_result) -> bool:
    """Take the file away if it is the one that was found, and not a newer one."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.stale")
    try:
        if not os.path.samestat(os.stat(path), found):
            return False
        os.rename(path, aside)
    except FileNotFoundError:
        return True
    try:
        ours = os.path.samestat(os.stat(aside), found)
        if not ours:
            # Between the two calls it was broken and taken by others: it is theirs.
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        return ours
    finally:
        os.unlink(aside)


def _flock(descriptor: int) -> bool | None:
    """Return whether it is ours now; None on a file system that knows no such thing."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
