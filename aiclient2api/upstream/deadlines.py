"""
Clocks for the way out: a limit on one Deferred, and a limit on silence.

It must never know what is being waited for, nor read any time but its clock's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from aiclient2api.errors import UpstreamError

_T = TypeVar("_T")


def within(
    clock: IReactorTime,
    seconds: float | None,
    deferred: Deferred[_T],
    error: Callable[[], UpstreamError],
) -> Deferred[_T]:
    """
    Give *deferred* so many seconds, then cancel it and fail with *error* instead.

    `Deferred.addTimeout` does not serve: it looks for a `CancelledError`, and a
    cancelled `HostnameEndpoint` fails with something else. Should *deferred* fire with
    a result although it was cancelled, that result is passed on: it may be an open
    connection, which somebody has to close.

    :param seconds: 0 or None for no limit.
    :param error: Makes the error; called only when time is up.
    :return: The same Deferred: cancelling it cancels what it waits for, as ever, and
        the timer goes with it.
    """
    if not seconds:
        return deferred
    late = False

    def expire() -> None:
        nonlocal late
        late = True
        deferred.cancel()

    timer = clock.callLater(seconds, expire)

    def settle(result: _T | Failure) -> _T | Failure:
        if timer.active():
            timer.cancel()
        if late and isinstance(result, Failure):
            return Failure(error())
        return result

    return deferred.addBoth(settle)


class IdleClock:
    """
    Call *expired*, once, when nothing was heard for so many seconds.

    `touch` is for the hot path: it notes the time and moves no timer. The timer looks
    at that note when it goes off, and sleeps again for what is left.

    :param seconds: How much silence is too much; 0 for no limit.
    """

    def __init__(self, clock: IReactorTime, seconds: float, expired: Callable[[], None]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._expired = expired
        self._heard = 0.0
        self._timer: IDelayedCall | None = None
        self._running = False

    def start(self) -> None:
        """Begin to listen; a second call begins a new full period."""
        self._running = True
        self._rearm()

    def touch(self) -> None:
        """Note that something was heard."""
        self._heard = self._clock.seconds()

    def pause(self) -> None:
        """Stop counting: whoever we listen to has been told to be silent."""
        self._disarm()

    def resume(self) -> None:
        """Count again, from a full period; nothing unless started and paused."""
        if self._running and self._timer is None:
            self._rearm()

    def stop(self) -> None:
        """Stop for good: `resume` has no effect until the next `start`. Safe twice."""
        self._running = False
        self._disarm()

    def _rearm(self) -> None:
        self._disarm()
        if self._seconds:
            self._heard = self._clock.seconds()
            self._timer = self._clock.callLater(self._seconds, self._look)

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        self._timer = None
        left = self._heard + self._seconds - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
            return
        self._running = False
        self._expired()
