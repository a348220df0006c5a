"""
Requests that wait for an account, the first come first served, none without a deadline.

It knows nothing of accounts: it asks whether somebody can be served now, and when it is
worth asking again.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from aiclient2api.errors import GatewayError
from aiclient2api.interfaces import ILease
from aiclient2api.values import Affinity, Clock

Note = Callable[[str, str, str], None]


@attrs.frozen
class Wish:
    """What `IAccountPool.acquire` was asked for."""

    model: str
    exclude: frozenset[str] = frozenset()
    affinity: Affinity | None = None
    wait: float = 0.0
    note: Note | None = None


_Asked = tuple[str, frozenset[str]]


def _asked(wish: Wish) -> _Asked:
    """Return what decides whether there is an account for a wish."""
    return wish.model, wish.exclude


@attrs.define(eq=False)
class Waiter:
    """
    One request that waits.

    :ivar queued: True if it waits for an account that is busy, and counts in its queue.
    """

    wish: Wish
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


class WaitingRoom:
    """
    Those who wait.

    :param serve: Returns a lease for a wish if there is one now.
    :param hopeless: Says whether waiting leads to nothing.
    :param soonest: Returns in how many seconds it is worth asking again, or None.
    """

    def __init__(
        self,
        clock: Clock,
        serve: Callable[[Wish], ILease | None],
        hopeless: Callable[[Waiter], bool],
        soonest: Callable[[Wish], float | None],
    ) -> None:
        self._clock = clock
        self._serve = serve
        self._hopeless = hopeless
        self._soonest = soonest
        self._waiters: dict[Waiter, None] = {}
        self._alarm: IDelayedCall | None = None
        self._looking: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._waiters)

    def queued(self, model: str) -> int:
        """Return how many wait for a busy account to serve *model*."""
        return sum(1 for each in self._waiters if each.queued and each.wish.model == model)

    def enter(
        self, wish: Wish, seconds: float, *, queued: bool, error: Callable[[Wish], GatewayError]
    ) -> Deferred[ILease]:
        """
        Wait for so many seconds, then fail. Cancelling gives up.

        :param error: Makes the error; called when nothing came of it.
        """
        waiter = Waiter(wish, queued, error, self._clock, self._clock.seconds() + seconds)
        waiter.deferred = Deferred(lambda _: self._leave(waiter))
        waiter.timer = self._clock.callLater(seconds, self._give_up, waiter)
        self._waiters[waiter] = None
        self._set_alarm()
        return waiter.deferred

    def close(self) -> None:
        """Send everybody away, and look no more."""
        for waiter in tuple(self._waiters):
            self._give_up(waiter)
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def look(self) -> None:
        """Serve whom it can be served now; send away whom it never will."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if not self._waiters:
            return
        refused: set[_Asked] = set()
        for waiter in tuple(self._waiters):
            if waiter not in self._waiters:
                continue
            # Whom nobody was free for a moment ago, nobody is free for now.
            asked = _asked(waiter.wish)
            lease = None if asked in refused else self._serve(waiter.wish)
            if lease is not None:
                self._leave(waiter)
                waiter.deferred.callback(lease)
                continue
            refused.add(asked)
            if self._hopeless(waiter):
                self._give_up(waiter)
        self._set_alarm()

    def look_later(self) -> None:
        """Look as soon as what goes on now is over."""
        if self._waiters and self._looking is None:
            self._looking = self._clock.callLater(0, self._look)

    def _look(self) -> None:
        self._looking = None
        self.look()

    def _give_up(self, waiter: Waiter) -> None:
        self._leave(waiter)
        waiter.deferred.errback(waiter.error(waiter.wish))

    def _leave(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)
        if waiter.timer is not None and waiter.timer.active():
            waiter.timer.cancel()
        if not self._waiters:
            self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        wishes = {_asked(waiter.wish): waiter.wish for waiter in self._waiters}
        moments = map(self._soonest, wishes.values())
        # 0 means that it is being found out: then somebody will say so.
        soonest = min((moment for moment in moments if moment), default=None)
        if soonest is not None:
            self._alarm = self._clock.callLater(soonest, self._rung)

    def _rung(self) -> None:
        self._alarm = None
        self.look()
