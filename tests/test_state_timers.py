"""Calls that are made again and again."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.state.timers import every


class EveryTests(SynchronousTestCase):
    """`every`."""

    def setUp(self) -> None:
        """Have a clock, and a call whose results are set by the test."""
        self.clock = Clock()
        self.calls: list[float] = []
        self.result: object = None

    def call(self) -> object:
        """Note the time; return or raise the result."""
        self.calls.append(self.clock.seconds())
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def test_now_and_then(self) -> None:
        """It is called at once and after each interval, until it is stopped."""
        loop = every(self.clock, 10, self.call)
        self.clock.pump([5] * 5)
        self.assertEqual(self.calls, [0, 10, 20])
        loop.stop()
        self.clock.advance(100)
        self.assertEqual(len(self.calls), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_outlives_a_failing_call(self) -> None:
        """A call that raises is told of, without its words, and is not the last."""
        self.result = ValueError("a secret prompt")
        with capturedLogs() as events:
            every(self.clock, 10, self.call)
            self.clock.advance(10)
        self.assertEqual(self.calls, [0, 10])
        name = "EveryTests.call"
        told = f"{name} failed: ValueError. This is a bug."
        self.assertEqual([formatEvent(event) for event in events], [told, told])

    def test_it_outlives_a_failing_deferred(self) -> None:
        """As above, if the call took its time to fail."""
        waiting: Deferred[None] = Deferred()
        self.result = waiting
        every(self.clock, 10, self.call)
        with capturedLogs() as events:
            waiting.errback(ValueError("a secret prompt"))
        self.assertEqual(len(events), 1)
        self.result = None
        self.clock.advance(10)
        self.assertEqual(self.calls, [0, 10])

    def test_calls_do_not_overlap(self) -> None:
        """One that takes longer than the interval delays the next."""
        waiting: Deferred[None] = Deferred()
        self.result = waiting
        every(self.clock, 10, self.call)
        self.clock.advance(25)
        self.assertEqual(self.calls, [0])
        self.result = None
        waiting.callback(None)
        self.clock.advance(5)
        self.assertEqual(self.calls, [0, 30])
