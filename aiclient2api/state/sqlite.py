"""
The store that outlives the gateway: one SQLite file, written behind in a thread.

What was put is found at once, in memory, and is written at once or a moment later: what
is put in quick succession goes together, for a transaction costs more than what is in it.
While the file cannot be had, memory is all there is, within the same limits, and the file
is tried again each minute. Of tables it knows nothing; see `database`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from aiclient2api.interfaces import IStateStore
from aiclient2api.state import database
from aiclient2api.state.shelf import Entry, Name, Shelf
from aiclient2api.state.timers import every
from aiclient2api.values import Clock

T = TypeVar("T")

FILE = "state.sqlite3"
"""Its name in the state directory."""

PURGE_SECONDS = 60.0
"""How often to look for what has expired, and to try again where something failed."""
REST_SECONDS = 0.05
"""How long to wait after a transaction for what may go into the next."""
BATCH_BYTES = 8 * 1024 * 1024
"""What is written in one transaction, for whose end another gateway may wait."""
PATIENCE = 10.0
"""Seconds to wait for another gateway."""

_EXPECTED = (sqlite3.Error, OSError, database.NotOurs)
"""What may become of a file on a disk. The words of these quote no value."""


@implementer(IStateStore)
class SQLiteStore:
    """
    Keep values in a file that only its owner can read.

    Values are compressed. A damaged file is renamed, not deleted, and a new one begun.
    Several gateways may use one file.

    :param path: The file; it and its folder are made once the store has started.
    :param reactor: Runs the thread.
    :param clock: An ``IReactorTime``: when to purge and to try again.
    :param now: Returns the time, in seconds since the epoch, that values expire by.
    :param patience: Seconds to wait for another gateway to let go of the file.
    """

    _log = Logger()

    def __init__(
        self,
        path: Path,
        *,
        reactor: Any,
        clock: Clock,
        now: Callable[[], float],
        patience: float = PATIENCE,
    ) -> None:
        self._path = path.absolute()
        self._reactor = reactor
        self._clock = clock
        self._now = now
        self._patience = patience
        self._unwritten = Shelf()
        self._pool: ConnectionPool | None = None
        self._loop: LoopingCall | None = None
        self._writing: Deferred[None] | None = None
        self._resting: IDelayedCall | None = None
        self._failing = self._paused = False
        self._closed = self._left = False
        self._waiting: list[Deferred[None]] = []

    def start(self) -> None:
        if self._pool is not None or self._closed:
            return
        # One thread: all that is asked of it is done in the order it was asked.
        self._pool = ConnectionPool(
            database.__name__,
            self._path,
            self._patience,
            cp_reactor=self._reactor,
            cp_min=1,
            cp_max=1,
        )
        self._loop = every(self._clock, PURGE_SECONDS, self._purge)

    def limit(self, *, namespace: str, total: int, one: int) -> None:
        self._unwritten.limit(namespace, total=total, one=min(one, database.LARGEST))

    def put(self, *, namespace: str, owner: str, key: str, value: bytes, ttl: float | None) -> bool:
        if self._closed:
            return False
        name = Name(namespace, owner, key)
        entry = Entry.of(name, value, None if ttl is None else self._now() + ttl)
        admitted = self._unwritten.admits(entry)
        self._unwritten.put(entry if admitted else Entry.of(name, None))
        self._drain()
        return admitted

    def get(self, *, namespace: str, owner: str, key: str) -> Deferred[bytes | None]:
        if self._closed:
            return succeed(None)
        name = Name(namespace, owner, key)
        entry = self._unwritten.get(name)
        if entry is not None:
            return succeed(entry.at(self._now()))
        return self._asked(database.read, None, name)

    def scan(self, *, namespace: str, owner: str) -> Deferred[Mapping[str, bytes]]:
        if self._closed:
            return succeed({})
        nothing: dict[str, bytes] = {}
        found = self._asked(database.scan, nothing, namespace, owner)
        return found.addCallback(self._with_unwritten, namespace, owner)

    def delete(self, *, namespace: str, owner: str, key: str) -> Deferred[bool]:
        if self._closed:
            return succeed(False)
        name = Name(namespace, owner, key)
        entry = self._unwritten.get(name)
        if entry is not None:
            found = succeed(entry.at(self._now()) is not None)
        else:
            # Before the thread is told to delete it.
            found = self._asked(database.has, False, name)
        self._unwritten.put(Entry.of(name, None))
        self._drain()
        return found

    def flushed(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._written(list(self._unwritten)))

    def close(self) -> Deferred[None]:
        if not self._closed:
            self._closed = True
            if self._loop is not None and self._loop.running:
                self._loop.stop()
            if self._resting is not None:
                self._resting.cancel()
            self._run(self._leave()).addCallback(self._gone)
        if self._left:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    # --- what goes on behind

    def _drain(self) -> None:
        """Write what waits, unless that goes on already, or has ended or failed just now."""
        idle = self._writing is None and self._resting is None
        if (
            idle
            and not self._paused
            and not self._closed
            and self._pool is not None
            and len(self._unwritten)
        ):
            self._writing = self._run(self._write())
            self._writing.addCallback(self._wrote)

    async def _written(self, entries: list[Entry]) -> None:
        """Return once these are written, or another in their place, or none can be."""
        while any(self._unwritten.get(entry.name) is entry for entry in entries):
            if self._resting is not None:
                self._resting.cancel()
                self._resting = None
            self._drain()
            if self._writing is None:
                return
            written: Deferred[None] = Deferred()
            self._writing.addCallback(written.callback)
            await written

    def _wrote(self, _: None) -> None:
        self._writing = None
        if not self._closed:
            self._resting = self._clock.callLater(REST_SECONDS, self._rested)

    def _rested(self) -> None:
        self._resting = None
        self._drain()

    async def _write(self) -> None:
        mended = False
        while batch := self._batch():
            all_there_is = len(batch) == len(self._unwritten)
            try:
                await self._changed(database.write, batch)
            except _EXPECTED as error:
                wrong = error if mended else await self._mend(error)
                if wrong is not None:
                    self._complain(wrong)
                    return
                mended = True
            else:
                self._settle(batch)
                if all_there_is and not self._closed:
                    return

    def _batch(self) -> list[Entry]:
        """Return what to write next: one entry at least, if there is any."""
        batch: list[Entry] = []
        weight = 0
        for entry in self._unwritten:
            weight += entry.weight
            if batch and weight > BATCH_BYTES:
                break
            batch.append(entry)
        return batch

    def _settle(self, batch: list[Entry]) -> None:
        for entry in batch:
            # Another may have been put in its place meanwhile.
            if self._unwritten.get(entry.name) is entry:
                self._unwritten.take(entry.name)
        if self._failing:
            self._failing = False
            self._log.info("State is kept in {path} again.", path=str(self._path))

    async def _purge(self) -> None:
        self._unwritten.purge(self._now())
        try:
            await self._changed(database.purge)
        except _EXPECTED as error:
            wrong = await self._mend(error)
            if wrong is not None:
                self._complain(wrong)
                return
        self._paused = False
        if not len(self._unwritten):
            self._settle([])
        self._drain()

    async def _leave(self) -> None:
        """Write the rest and let go of the file."""
        if self._pool is None:
            return
        if self._writing is None:
            await self._write()
        else:
            written: Deferred[None] = Deferred()
            self._writing.addCallback(written.callback)
            await written
        pool, self._pool = self._pool, None
        await deferToThreadPool(self._reactor, pool.threadpool, _disconnect, pool)
        if len(self._unwritten):
            self._log.error(
                "{count} changes of state are lost: {path} could not be written.",
                count=len(self._unwritten),
                path=str(self._path),
            )
        pool.close()

    def _gone(self, _: None) -> None:
        self._left = True
        self._unwritten = Shelf()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    # --- to the thread and back

    def _asked(self, question: Callable[..., T], otherwise: T, *what: object) -> Deferred[T]:
        """Ask the file; *otherwise* is the answer if it has none."""
        pool, now = self._pool, self._now()
        if pool is None:
            return succeed(otherwise)

        async def ask() -> T:
            try:
                answer: T = await pool.runInteraction(question, *what, now)
            except CancelledError:
                raise
            except Exception as error:
                self._run(self._look_after(error))
                return otherwise
            return answer

        return Deferred.fromCoroutine(ask())

    def _with_unwritten(
        self, found: dict[str, bytes], namespace: str, owner: str
    ) -> Mapping[str, bytes]:
        """Bring up to date what was read: whatever the thread had not written yet is here."""
        now = self._now()
        for entry in self._unwritten.owned(namespace, owner):
            value = entry.at(now)
            if value is None:
                found.pop(entry.name.key, None)
            else:
                found[entry.name.key] = value
        return found

    def _changed(self, change: Callable[..., None], *args: object) -> Deferred[None]:
        """Change the file, in one transaction."""
        assert self._pool is not None
        totals, now = self._unwritten.totals(), self._now()
        changed: Deferred[None] = self._pool.runInteraction(change, *args, totals, now)
        return changed

    def _set_aside(self, pool: ConnectionPool, suffix: str) -> str | None:
        _disconnect(pool)
        return database.set_aside(self._path, suffix, self._patience)

    # --- when something fails

    def _run(self, work: Coroutine[Any, Any, None]) -> Deferred[None]:
        """Start *work*, whose Deferred never fails."""
        return Deferred.fromCoroutine(work).addErrback(self._note_bug)

    def _note_bug(self, failure: Failure) -> None:
        self._paused = True
        kind = type(failure.value).__qualname__
        self._log.error("The state store failed: {kind}. This is a bug.", kind=kind)

    async def _look_after(self, error: BaseException) -> None:
        wrong = await self._mend(error)
        if wrong is not None:
            self._complain(wrong)

    async def _mend(self, error: BaseException) -> BaseException | None:
        """
        Begin a new file if *error* means that the old one is damaged.

        :return: What is wrong still, None if it was mended.
        """
        pool = self._pool
        if not database.is_damage(error) or pool is None:
            return error
        at = datetime.fromtimestamp(self._now(), UTC)
        suffix = f".damaged-{at:%Y%m%d-%H%M%S}"
        try:
            new = await deferToThreadPool(
                self._reactor, pool.threadpool, self._set_aside, pool, suffix
            )
        except _EXPECTED as another:
            return another
        if new is not None:
            self._log.warn(
                "{path} is damaged ({error}), so what was kept in it is not found any more. "
                "It was renamed to {new}, and a new one is begun.",
                path=str(self._path),
                error=str(error),
                new=new,
            )
        return None

    def _complain(self, error: BaseException) -> None:
        self._paused = True
        if self._failing:
            return
        self._failing = True
        self._log.warn(
            "State cannot be kept in {path}: {error}. Until it can, it is kept in memory; free "
            "the disk, correct the rights, or name another folder with --state-dir.",
            path=str(self._path),
            error=str(error) if isinstance(error, _EXPECTED) else type(error).__qualname__,
        )


def _disconnect(pool: ConnectionPool) -> None:
    """Close the connection, in the thread that uses it."""
    pool.disconnect(pool.connections.get(pool.threadID()))
