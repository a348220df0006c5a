"""
A piece of work that is done once for everybody who wants it at the time.

Each of them waits on a Deferred of their own: who leaves takes nothing from the others, and
the work goes on even if nobody is left. It must never know what the work is.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_T = TypeVar("_T")


class Shared(Generic[_T]):
    """
    Work that is shared.

    :param work: Begins it. An error is better its result than raised: who raises the same
        one twice mixes up where it came from.
    """

    def __init__(self, work: Callable[[], Coroutine[Deferred[Any], Any, _T]]) -> None:
        self._work = work
        self._waiters: list[Deferred[_T]] = []
        self.busy = False

    def join(self) -> Deferred[_T]:
        """
        Begin the work, or wait for the end of what is under way.

        Cancelling gives up the wait only.
        """
        waiter: Deferred[_T] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        if not self.busy:
            self.busy = True
            Deferred.fromCoroutine(self._work()).addBoth(self._done)
        return waiter

    def _done(self, result: _T | Failure) -> None:
        self.busy = False
        # Not a copy: one of them may make another leave.
        waiters, self._waiters = self._waiters, []
        while waiters:
            waiters.pop(0).callback(result)


def detached(work: Coroutine[Deferred[Any], Any, _T]) -> Deferred[_T]:
    """Begin work that goes on to its end, also if whoever waits for it is cancelled."""
    waiter: Deferred[_T] = Deferred(lambda _: None)

    def done(result: _T | Failure) -> None:
        if not waiter.called:
            waiter.callback(result)

    Deferred.fromCoroutine(work).addBoth(done)
    return waiter
