"""
Where a credential is kept: in a file that others use as well, or in memory only.

A place is read and written as a whole, from the reactor; the file's part of the work runs in
threads and under a lock. It must never know when a credential is good, nor how it is renewed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from aiclient2api.oauth.credential_file import (
    CredentialFile,
    Found,
    NoCredential,
    Stamp,
    check_tokens,
)
from aiclient2api.oauth.locks import FileLock
from aiclient2api.values import Clock

_PAUSES = (0.05, 0.15, 0.3)
"""Seconds between looks at what somebody seems to be writing in place."""


class Unreadable(Exception):
    """There is no credential to be had. A sentence, without the remedy."""


class Place(Protocol):
    """Where a credential is kept."""

    @property
    def title(self) -> str:
        """Return what messages call it."""

    def stamp(self) -> Stamp | None:
        """Return what changes whenever the credential may have; None if there is none. Fast."""

    async def read(self) -> Found:
        """
        Return the credential.

        :raise Unreadable: if there is none.
        """

    async def lock(self) -> None:
        """
        Keep all other processes from it. Cancelling gives it up.

        :raise LockTaken: if somebody else holds it for too long.
        :raise OSError: if it cannot be locked.
        """

    async def unlock(self) -> None:
        """Undo `lock`."""

    async def prepare(self) -> None:
        """
        See that it can be written, and put in place what was written before. Under the lock.

        :raise NotWritable: if it cannot.
        """

    async def write(
        self,
        changes: Mapping[str, Any],
        *,
        used: str | None = None,
        instead: Mapping[str, Any] | None = None,
    ) -> Found:
        """
        Put *changes* into it; see `CredentialFile.merge`. Under the lock.

        :raise NotWritable: if it cannot be written.
        :raise Unreadable: if there is nothing to put them into.
        """


class FilePlace:
    """A credential file, its lock beside it; see `Place`."""

    def __init__(
        self,
        path: Path,
        *,
        lock: Path,
        clock: Clock,
        now: Callable[[], float],
        in_thread: Callable[..., Deferred[Any]],
        lock_pause: float,
    ) -> None:
        self._file = CredentialFile(path)
        self.title = self._file.title
        self._clock = clock
        self._now = now
        self._in_thread = in_thread
        self._lock = FileLock(lock, clock=clock, now=now, in_thread=in_thread, first=lock_pause)

    def stamp(self) -> Stamp | None:
        """See `Place`."""
        return self._file.stamp()

    async def read(self) -> Found:
        """See `Place`. Waits up to half a second for who writes it in place."""
        for pause in (*_PAUSES, None):
            try:
                found: Found = await self._in_thread(self._file.read)
                return found
            except NoCredential as error:
                if pause is None:
                    raise Unreadable(f"{self._title()} {error}.") from None
            except OSError as error:
                raise Unreadable(f"{self._title()} {_why(error)}.") from None
            await deferLater(self._clock, pause)
        raise AssertionError("unreachable")

    async def lock(self) -> None:
        """See `Place`."""
        await self._lock.acquire()

    async def unlock(self) -> None:
        """See `Place`."""
        await self._lock.release()

    async def prepare(self) -> None:
        """See `Place`."""
        await self._in_thread(self._prepare)

    def _prepare(self) -> None:
        try:
            self._file.recover(now=self._now())
        except (OSError, NoCredential):
            # Whoever reads it next says so.
            return
        self._file.check_writable()

    async def write(
        self,
        changes: Mapping[str, Any],
        *,
        used: str | None = None,
        instead: Mapping[str, Any] | None = None,
    ) -> Found:
        """See `Place`."""
        try:
            found: Found = await self._in_thread(
                partial(self._file.merge, changes, used=used, instead=instead)
            )
        except NoCredential as error:
            raise Unreadable(f"{self._title()} {error}.") from None
        except OSError as error:
            raise Unreadable(f"{self._title()} {_why(error)}.") from None
        return found

    def _title(self) -> str:
        return self.title[0].upper() + self.title[1:]


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "is not there"
    return f"cannot be read ({error.strerror or type(error).__name__})"


class MemoryPlace:
    """A credential that stood in the configuration, and is renewed in memory only."""

    title = "the credential in the configuration"

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = dict(document)
        self._count = 0

    def stamp(self) -> Stamp:
        """See `Place`."""
        return (self._count,)

    async def read(self) -> Found:
        """See `Place`."""
        try:
            check_tokens(self._document)
        except NoCredential as error:
            raise Unreadable(f"The credential in the configuration {error}.") from None
        return Found(self._document, self.stamp())

    async def lock(self) -> None:
        """See `Place`: no other process has it."""

    async def unlock(self) -> None:
        """See `Place`."""

    async def prepare(self) -> None:
        """See `Place`."""

    async def write(
        self,
        changes: Mapping[str, Any],
        *,
        used: str | None = None,
        instead: Mapping[str, Any] | None = None,
    ) -> Found:
        """See `Place`."""
        self._document = {**self._document, **changes}
        self._count += 1
        return Found(self._document, self.stamp())
