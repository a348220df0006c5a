"""Clocks: what they cut off, what they leave alone, and that they clean up."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.upstream.deadlines import IdleClock, within


def too_late() -> UpstreamError:
    """Make the error the tests expect."""
    return UpstreamError("Too late.", fault=Fault.TIMEOUT, status=504)


class WithinTests(SynchronousTestCase):
    """A limit on one Deferred."""

    def setUp(self) -> None:
        """Start at zero."""
        self.clock = Clock()

    def test_in_time(self) -> None:
        """What comes in time comes through, and no timer stays behind."""
        waiting: Deferred[str] = Deferred()
        limited = within(self.clock, 5, waiting, too_late)
        self.clock.advance(4.9)
        waiting.callback("here")
        self.assertEqual(self.successResultOf(limited), "here")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_already_there(self) -> None:
        """What is there already needs no timer."""
        limited = within(self.clock, 5, succeed("here"), too_late)
        self.assertEqual(self.successResultOf(limited), "here")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_late(self) -> None:
        """When time is up, the work is cancelled and the caller told why."""
        cancelled: list[object] = []
        waiting: Deferred[str] = Deferred(cancelled.append)
        limited = within(self.clock, 5, waiting, too_late)
        self.clock.advance(5)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.failureResultOf(limited, UpstreamError).value.status, 504)

    def test_any_failure_of_the_cancelled(self) -> None:
        """Endpoints fail with errors of their own when cancelled: still a timeout."""
        waiting: Deferred[str] = Deferred(lambda d: d.errback(OSError("cancelled")))
        limited = within(self.clock, 5, waiting, too_late)
        self.clock.advance(5)
        self.failureResultOf(limited, UpstreamError)

    def test_result_of_the_cancelled(self) -> None:
        """A result in spite of the cancellation is not lost: it may need closing."""
        waiting: Deferred[str] = Deferred(lambda d: d.callback("a connection"))
        limited = within(self.clock, 5, waiting, too_late)
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(limited), "a connection")

    def test_own_failure(self) -> None:
        """A failure in time is passed on as it is."""
        waiting: Deferred[str] = Deferred()
        limited = within(self.clock, 5, waiting, too_late)
        waiting.errback(KeyError("k"))
        self.failureResultOf(limited, KeyError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled_from_outside(self) -> None:
        """Whoever cancels gets `CancelledError`; the work and the timer go."""
        cancelled: list[object] = []
        waiting: Deferred[str] = Deferred(cancelled.append)
        limited = within(self.clock, 5, waiting, too_late)
        limited.cancel()
        self.assertEqual(len(cancelled), 1)
        self.failureResultOf(limited, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_limit(self) -> None:
        """0 and None are no limit: no timer at all."""
        for seconds in (0, None):
            waiting: Deferred[str] = Deferred()
            self.assertIs(within(self.clock, seconds, waiting, too_late), waiting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_later_work_is_not_limited(self) -> None:
        """The limit covers what was given, not what the caller does with it."""
        waiting: Deferred[str] = Deferred()
        more: Deferred[str] = Deferred()
        limited = within(self.clock, 5, waiting, too_late).addCallback(lambda _: more)
        waiting.callback("here")
        self.clock.advance(10)
        more.callback("done")
        self.assertEqual(self.successResultOf(limited), "done")


class IdleClockTests(SynchronousTestCase):
    """A limit on silence."""

    def setUp(self) -> None:
        """Begin to listen at zero."""
        self.clock = Clock()
        self.expired: list[float] = []
        self.idle = IdleClock(self.clock, 10, lambda: self.expired.append(self.clock.seconds()))

    def test_silence(self) -> None:
        """Silence is told of once, when it has lasted, and the timer is gone."""
        self.idle.start()
        self.clock.advance(9.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.clock.pump([100] * 3)
        self.assertEqual(self.expired, [10])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_touch(self) -> None:
        """A sound at second 7 moves the end to second 17 exactly."""
        self.idle.start()
        self.clock.advance(7)
        self.idle.touch()
        self.clock.advance(3)
        self.clock.advance(6.5)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.5)
        self.assertEqual(self.expired, [17])

    def test_touch_moves_no_timer(self) -> None:
        """The hot path costs no timer work: a thousand sounds leave the one there was."""
        self.idle.start()
        before = self.clock.getDelayedCalls()
        for _ in range(1000):
            self.idle.touch()
        self.assertEqual(self.clock.getDelayedCalls(), before)

    def test_steady_sound(self) -> None:
        """A stream that never falls silent is never cut."""
        self.idle.start()
        for _ in range(100):
            self.clock.advance(9)
            self.idle.touch()
        self.assertEqual(self.expired, [])
        self.idle.stop()

    def test_pause(self) -> None:
        """While we told the other side to be silent, silence does not count."""
        self.idle.start()
        self.clock.advance(9)
        self.idle.pause()
        self.idle.pause()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1000)
        self.idle.resume()
        self.clock.advance(9.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [1019])

    def test_resume_unpaused(self) -> None:
        """Resuming what runs does not move the end."""
        self.idle.start()
        self.clock.advance(5)
        self.idle.resume()
        self.clock.advance(5)
        self.assertEqual(self.expired, [10])

    def test_stop(self) -> None:
        """After `stop` nothing happens, whatever is called then; stopping twice is safe."""
        self.idle.start()
        self.idle.stop()
        self.idle.stop()
        self.idle.touch()
        self.idle.pause()
        self.idle.resume()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(100)
        self.assertEqual(self.expired, [])

    def test_never_started(self) -> None:
        """A clock that was not started cannot be resumed into running."""
        self.idle.resume()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_restart(self) -> None:
        """`start` again begins a full period, with one timer."""
        self.idle.start()
        self.clock.advance(6)
        self.idle.start()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(9.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(self.expired, [16])

    def test_expired_is_over(self) -> None:
        """Once it has expired, pausing and resuming does not start it again."""
        self.idle.start()
        self.clock.advance(10)
        self.idle.pause()
        self.idle.resume()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_off(self) -> None:
        """0 seconds is off: no timer, however it is used."""
        idle = IdleClock(self.clock, 0, lambda: self.fail("It is off."))
        idle.start()
        idle.touch()
        idle.pause()
        idle.resume()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        idle.stop()
