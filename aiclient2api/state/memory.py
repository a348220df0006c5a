"""
The store that forgets everything when the gateway stops.

For tests, and for whoever wants nothing on a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from aiclient2api.interfaces import IStateStore
from aiclient2api.state.shelf import Entry, Name, Shelf
from aiclient2api.state.timers import every
from aiclient2api.values import Clock

PURGE_SECONDS = 60.0


@implementer(IStateStore)
class MemoryStore:
    """
    Keep values in memory.

    :param clock: An ``IReactorTime``: when to look for what has expired.
    :param now: Returns the time, in seconds, that values expire by.
    """

    def __init__(self, *, clock: Clock, now: Callable[[], float]) -> None:
        self._clock = clock
        self._now = now
        self._shelf = Shelf()
        self._loop: LoopingCall | None = None
        self._closed = False

    def start(self) -> None:
        if self._loop is None and not self._closed:
            self._loop = every(self._clock, PURGE_SECONDS, self._purge)

    def limit(self, *, namespace: str, total: int, one: int) -> None:
        self._shelf.limit(namespace, total=total, one=one)

    def put(self, *, namespace: str, owner: str, key: str, value: bytes, ttl: float | None) -> bool:
        name = Name(namespace, owner, key)
        entry = Entry.of(name, value, None if ttl is None else self._now() + ttl)
        if self._closed or not self._shelf.admits(entry):
            self._shelf.take(name)
            return False
        self._shelf.put(entry)
        return True

    def get(self, *, namespace: str, owner: str, key: str) -> Deferred[bytes | None]:
        entry = self._shelf.get(Name(namespace, owner, key))
        return succeed(None if entry is None else entry.at(self._now()))

    def scan(self, *, namespace: str, owner: str) -> Deferred[Mapping[str, bytes]]:
        now = self._now()
        found = ((each.name.key, each.at(now)) for each in self._shelf.owned(namespace, owner))
        return succeed({key: value for key, value in found if value is not None})

    def delete(self, *, namespace: str, owner: str, key: str) -> Deferred[bool]:
        entry = self._shelf.take(Name(namespace, owner, key))
        return succeed(entry is not None and entry.at(self._now()) is not None)

    def flushed(self) -> Deferred[None]:
        return succeed(None)

    def close(self) -> Deferred[None]:
        self._closed = True
        self._shelf = Shelf()
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        return succeed(None)

    def _purge(self) -> None:
        self._shelf.purge(self._now())
