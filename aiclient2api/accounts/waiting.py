"""
Requests that wait for an account, the first come first served, none without a deadline.

It knows nothing of accounts: it asks whether somebody can be served now, and when it is
worth asking again. What it costs does not grow with the number of those who wait, but only
with that of the different things they wait for.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from aiclient2api.errors import GatewayError
from aiclient2api.interfaces import ILease
from aiclient2api.values import Affinity, Clock

Note = Callable[[str, str, str], None]

MOST = 1000
"""Requests of one pool that may wait at a time."""


@attrs.frozen
class Wish:
    """
    What `IAccountPool.acquire` was asked for.

    :ivar firm: The one account that will do, if only one will.
    """

    model: str
    exclude: frozenset[str] = frozenset()
    affinity: Affinity | None = None
    wait: float = 0.0
    note: Note | None = None
    firm: str | None = None


_Key = tuple[str, frozenset[str], str | None]


@attrs.define(eq=False)
class Waiter:
    """
    One request that waits.

    :ivar queued: True if it waits for an account that is busy, and counts in its queue.
    """

    wish: Wish
    serial: int
    queued: bool
    error: Callable[[Wish], GatewayError]
    clock: Clock
    deadline: float
    deferred: Deferred[ILease] = attrs.field(init=False)
    timer: IDelayedCall | None = None

    @property
    def left(self) -> float:
        """Return how many seconds it waits still."""
        return float(self.deadline - self.clock.seconds())

    @property
    def key(self) -> _Key:
        """Return what it has in common with all who are served by the same accounts."""
        return self.wish.model, self.wish.exclude, self.wish.firm


class WaitingRoom:
    """
    Those who wait, in lines of those who wait for the same.

    :param serve: Returns a lease for a wish if there is one now.
    :param hopeless: Says whether waiting leads to nothing.
    :param returns: Returns in how many seconds somebody returns who rests, or None.
    """

    def __init__(
        self,
        clock: Clock,
        serve: Callable[[Wish], ILease | None],
        hopeless: Callable[[Waiter], bool],
        returns: Callable[[Wish], float | None],
    ) -> None:
        self._clock = clock
        self._serve = serve
        self._hopeless = hopeless
        self._returns = returns
        self._lines: dict[_Key, dict[Waiter, None]] = {}
        self._count = self.queued = 0
        self._serials = itertools.count()
        self._alarm: IDelayedCall | None = None
        self._looking: IDelayedCall | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Say whether nobody more may wait."""
        return self._count >= MOST

    def enter(
        self, wish: Wish, seconds: float, *, queued: bool, error: Callable[[Wish], GatewayError]
    ) -> Deferred[ILease]:
        """
        Wait for so many seconds, then fail. Cancelling gives up.

        :param error: Makes the error; called when nothing came of it.
        """
        now = self._clock.seconds()
        waiter = Waiter(wish, next(self._serials), queued, error, self._clock, now + seconds)
        waiter.deferred = Deferred(lambda _: self._leave(waiter))
        waiter.timer = self._clock.callLater(seconds, self._give_up, waiter)
        self._lines.setdefault(waiter.key, {})[waiter] = None
        self._count += 1
        self.queued += queued
        self._sooner(self._returns(wish))
        return waiter.deferred

    def close(self) -> None:
        """Send everybody away, and look no more."""
        for line in tuple(self._lines.values()):
            for waiter in tuple(line):
                self._give_up(waiter)
        self._look_no_more()

    def look_first(self) -> None:
        """Serve those who wait before somebody new, if anything has changed."""
        if self._looking is not None:
            self.look()

    def look(self) -> None:
        """Serve whom it can be served now; send away whom it never will."""
        self._look_no_more()
        heads = [(next(iter(line)).serial, key) for key, line in self._lines.items()]
        heapq.heapify(heads)
        while heads:
            _, key = heapq.heappop(heads)
            line = self._lines.get(key)
            if not line:
                continue
            waiter = next(iter(line))
            lease = self._serve(waiter.wish)
            if lease is None:
                self._give_hopeless_up(key)
                continue
            self._leave(waiter)
            if line:
                heapq.heappush(heads, (next(iter(line)).serial, key))
            waiter.deferred.callback(lease)
        self._set_alarm()

    def look_later(self) -> None:
        """Look as soon as what goes on now is over."""
        if self._count and self._looking is None:
            self._looking = self._clock.callLater(0, self._look)

    def _look(self) -> None:
        self._looking = None
        self.look()

    def _look_no_more(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _give_hopeless_up(self, key: _Key) -> None:
        # Who came first gives up first, or nearly so: the rest need not be looked at.
        while (line := self._lines.get(key)) and self._hopeless(waiter := next(iter(line))):
            self._give_up(waiter)

    def _give_up(self, waiter: Waiter) -> None:
        self._leave(waiter)
        waiter.deferred.errback(waiter.error(waiter.wish))

    def _leave(self, waiter: Waiter) -> None:
        line = self._lines.get(waiter.key)
        if line is None or waiter not in line:
            return
        del line[waiter]
        self._count -= 1
        self.queued -= waiter.queued
        if not line:
            del self._lines[waiter.key]
        if waiter.timer is not None and waiter.timer.active():
            waiter.timer.cancel()
        if not self._count:
            self._set_alarm()
            self._look_no_more()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for line in self._lines.values():
            self._sooner(self._returns(next(iter(line)).wish))

    def _sooner(self, seconds: float | None) -> None:
        """Have a look in so many seconds, unless there will be one before."""
        if seconds is None:
            return
        if self._alarm is not None:
            if self._alarm.getTime() <= self._clock.seconds() + seconds:
                return
            self._alarm.cancel()
        self._alarm = self._clock.callLater(seconds, self._rung)

    def _rung(self) -> None:
        self._alarm = None
        self.look()
