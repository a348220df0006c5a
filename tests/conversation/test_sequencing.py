"""
One block at a time: nothing overlaps, nothing is lost.
"""

from __future__ import annotations

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.events import (
    TEXT,
    BlockClosed,
    BlockOpened,
    Event,
    Failed,
    Finished,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.grammar import fold
from aiclient2api.conversation.sequencing import OneAtATime
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.values import Usage
from tests.event_streams import answers, failures
from tests.tape import cases


def _told(events: list[Event]) -> list[Event]:
    sequence = OneAtATime()
    return [told for event in events for told in sequence.take(event)]


def _at_once(events: list[Event]) -> int:
    """Return how many blocks are open at a time, at most."""
    count = most = 0
    for event in events:
        count += isinstance(event, BlockOpened) - isinstance(event, BlockClosed)
        most = max(most, count)
    return most


class OneAtATimeTests(SynchronousTestCase):
    """What waits, and how long."""

    def test_one_after_the_other_is_told_at_once(self) -> None:
        """A stream that is in order is never held up."""
        events: list[Event] = [
            Started(),
            BlockOpened(0, TEXT),
            TextDelta(0, "a"),
            BlockClosed(0),
            BlockOpened(1, TEXT),
            UsageReported(Usage()),
            BlockClosed(1),
            Finished("end"),
        ]
        sequence = OneAtATime()
        for event in events:
            self.assertEqual([event], list(sequence.take(event)))

    def test_a_second_block_waits_for_the_first_to_close(self) -> None:
        """What it has so far is told then, and from then on at once."""
        sequence = OneAtATime()
        first, second = BlockOpened(0, TEXT), BlockOpened(1, TEXT)
        self.assertEqual([first], list(sequence.take(first)))
        self.assertEqual([], list(sequence.take(second)))
        self.assertEqual([], list(sequence.take(TextDelta(1, "b"))))
        delta = TextDelta(0, "a")
        self.assertEqual([delta], list(sequence.take(delta)))
        self.assertEqual(
            [BlockClosed(0), second, TextDelta(1, "b")], list(sequence.take(BlockClosed(0)))
        )
        later = TextDelta(1, "c")
        self.assertEqual([later], list(sequence.take(later)))

    def test_blocks_that_closed_while_they_waited_follow_whole(self) -> None:
        """All that can be told is told, in the order in which they were opened."""
        sequence = OneAtATime()
        opened: list[Event] = [BlockOpened(index, TEXT) for index in range(4)]
        for event in (*opened, BlockClosed(2), BlockClosed(1)):
            sequence.take(event)
        told = list(sequence.take(BlockClosed(0)))
        expected = [BlockClosed(0), opened[1], BlockClosed(1), opened[2], BlockClosed(2), opened[3]]
        self.assertEqual(expected, told)

    def test_a_failure_is_told_at_once(self) -> None:
        """What waits behind another block then has no end to wait for."""
        sequence = OneAtATime()
        failed = Failed(UpstreamError("It broke.", fault=Fault.SERVER, status=502))
        for event in (Started(), BlockOpened(0, TEXT), BlockOpened(1, TEXT)):
            sequence.take(event)
        self.assertEqual([failed], list(sequence.take(failed)))

    @cases(200)
    @given(answers())
    def test_no_two_blocks_of_any_answer_overlap_and_nothing_is_lost(
        self, events: list[Event]
    ) -> None:
        """The answer is the same, only in order."""
        told = _told(events)
        self.assertLessEqual(_at_once(told), 1)
        self.assertEqual(fold(events), fold(told))
        self.assertEqual(sorted(map(id, events)), sorted(map(id, told)))

    @cases(75)
    @given(failures())
    def test_an_answer_that_fails_obeys_the_law(self, events: list[Event]) -> None:
        """To its last event."""
        told = _told(events)
        fold(told)
        self.assertLessEqual(_at_once(told), 1)
        self.assertIs(events[-1], told[-1])
