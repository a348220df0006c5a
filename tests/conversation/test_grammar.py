"""
The law of events, case by case, and the two ways between events and a whole answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.events import (
    CALL,
    KINDS,
    MEDIA,
    REASONING,
    REASONS,
    REFUSAL,
    TEXT,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Cited,
    Event,
    Failed,
    Finished,
    MediaDelta,
    ReasoningDelta,
    Sealed,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.grammar import (
    Block,
    Grammar,
    GrammarError,
    Reply,
    ended,
    fold,
    unfold,
)
from aiclient2api.conversation.seals import Seal
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.values import Usage
from tests.event_streams import answers, failures
from tests.tape import cases

_SEAL = Seal("gemini", "c2VhbA==")
_ERROR = UpstreamError("It broke.", fault=Fault.SERVER, status=502)
_TEXT = (BlockOpened(0, TEXT), TextDelta(0, "hi"), BlockClosed(0))


def _call(index: int = 0) -> BlockOpened:
    return BlockOpened(index, CALL, "call_1", "f")


class LegalTests(SynchronousTestCase):
    """What may be told."""

    def _fold(self, *events: Event) -> Reply:
        return fold([Started(), *events])

    def test_a_text(self) -> None:
        """The common case: a text in pieces, the counts, the end."""
        reply = fold(
            [
                Started("id", "m", 7),
                BlockOpened(0, TEXT, "msg_1"),
                TextDelta(0, "Hel"),
                TextDelta(0, "lo"),
                BlockClosed(0),
                UsageReported(Usage(input=1)),
                UsageReported(Usage(input=1, output=2)),
                Finished("stop_sequence", "END"),
            ]
        )
        self.assertEqual(
            Reply(
                id="id",
                model="m",
                created=7,
                blocks=[Block(TEXT, "msg_1", text="Hello", closed=True)],
                usage=Usage(input=1, output=2),
                reason="stop_sequence",
                stop_sequence="END",
            ),
            reply,
        )

    def test_an_empty_answer(self) -> None:
        """A model may say nothing."""
        self.assertEqual(Reply(reason="end"), self._fold(Finished("end")))

    def test_blocks_may_interleave(self) -> None:
        """Parallel calls come piece by piece, in turn."""
        reply = self._fold(
            _call(),
            BlockOpened(1, CALL, "call_2", "g"),
            ArgumentsDelta(1, "{"),
            ArgumentsDelta(0, '{"a":'),
            ArgumentsDelta(1, "}"),
            BlockClosed(1),
            ArgumentsDelta(0, "1}"),
            BlockClosed(0),
            Finished("tool_use"),
        )
        self.assertEqual(['{"a":1}', "{}"], [block.text for block in reply.blocks])

    def test_a_call_without_arguments_has_an_empty_object(self) -> None:
        """No piece at all is an empty object, not an empty text."""
        reply = self._fold(_call(), BlockClosed(0), Finished("tool_use"))
        self.assertEqual("{}", reply.blocks[0].text)

    def test_thoughts_come_in_sections(self) -> None:
        """Sections are told one after the other; the text is all of them."""
        reply = self._fold(
            BlockOpened(0, REASONING),
            ReasoningDelta(0, "a"),
            ReasoningDelta(0, "b", 0),
            ReasoningDelta(0, "c", 1),
            Sealed(0, _SEAL),
            BlockClosed(0),
            Finished("end"),
        )
        self.assertEqual(["ab", "c"], reply.blocks[0].sections)
        self.assertEqual("abc", reply.blocks[0].text)
        self.assertEqual(_SEAL, reply.blocks[0].seal)

    def test_a_thought_that_breaks_off_is_told_as_far_as_it_went(self) -> None:
        """Its sections as well as its text."""
        block = self._fold(
            BlockOpened(0, REASONING), ReasoningDelta(0, "a"), ReasoningDelta(0, "b", 1)
        ).blocks[0]
        self.assertEqual((["a", "b"], "ab", False), (block.sections, block.text, block.closed))

    def test_a_long_thought_is_not_copied_with_every_piece(self) -> None:
        """It is joined once, at its end."""
        pieces = [ReasoningDelta(0, "abcd" * 25) for _ in range(100_000)]
        reply = self._fold(BlockOpened(0, REASONING), *pieces, BlockClosed(0), Finished("end"))
        self.assertEqual(["abcd" * 2_500_000], reply.blocks[0].sections)

    def test_media_and_citations(self) -> None:
        """A picture is whole at once; a text may name its sources."""
        media, cited = MediaDelta(0, "image/png", "AA=="), Cited(1, url="https://x")
        reply = self._fold(
            BlockOpened(0, MEDIA),
            media,
            BlockClosed(0),
            BlockOpened(1, TEXT),
            cited,
            BlockClosed(1),
            Finished("end"),
        )
        self.assertEqual(media, reply.blocks[0].media)
        self.assertEqual([cited], reply.blocks[1].citations)

    def test_it_may_fail_at_any_point(self) -> None:
        """Before it began, and in the middle of a block; what was told stays told."""
        self.assertEqual(Reply(), fold([Failed(_ERROR)]))
        reply = self._fold(*_TEXT[:2], Failed(_ERROR))
        self.assertEqual([Block(TEXT, text="hi")], reply.blocks)
        self.assertIsNone(reply.reason)

    def test_every_reason_and_kind_is_legal(self) -> None:
        """Whatever the names say may be told, may be told."""
        for reason in REASONS:
            self.assertEqual(reason, self._fold(Finished(reason)).reason)
        for kind in KINDS:
            self._fold(BlockOpened(0, kind, "id", "f"))

    def test_an_answer_that_breaks_off_has_no_reason(self) -> None:
        """What never finished is told as far as it went."""
        reply = self._fold(BlockOpened(0, TEXT), TextDelta(0, "half"))
        self.assertEqual(("half", False), (reply.blocks[0].text, reply.blocks[0].closed))
        self.assertIsNone(reply.reason)


class IllegalTests(SynchronousTestCase):
    """What may not."""

    def _refused(self, *events: Event) -> None:
        """Assert that the last of *events*, and no other, is refused."""
        grammar = Grammar()
        for event in events[:-1]:
            grammar.take(event)
        self.assertRaises(GrammarError, grammar.take, events[-1])

    def test_it_starts_once_and_first(self) -> None:
        """Nothing comes before the start but a failure, and no second start after it."""
        self._refused(BlockOpened(0, TEXT))
        self._refused(UsageReported(Usage()))
        self._refused(Finished("end"))
        self._refused(Started(), Started())

    def test_nothing_follows_the_end(self) -> None:
        """An end is an end."""
        for last in (Finished("end"), Failed(_ERROR)):
            for event in (Started(), Finished("end"), Failed(_ERROR), UsageReported(Usage())):
                self._refused(Started(), last, event)

    def test_a_finish_needs_a_reason_and_every_block_closed(self) -> None:
        """Half a block is no whole answer."""
        self._refused(Started(), Finished("stop"))
        self._refused(Started(), BlockOpened(0, TEXT), Finished("end"))

    def test_blocks_are_numbered_from_zero(self) -> None:
        """No gap, no number twice, no unknown kind."""
        self._refused(Started(), BlockOpened(1, TEXT))
        self._refused(Started(), BlockOpened(-1, TEXT))
        self._refused(Started(), *_TEXT, BlockOpened(0, TEXT))
        self._refused(Started(), BlockOpened(0, "thought"))

    def test_a_call_has_an_id_and_a_name(self) -> None:
        """Nobody can answer a call without."""
        self._refused(Started(), BlockOpened(0, CALL, "", "f"))
        self._refused(Started(), BlockOpened(0, CALL, "call_1", ""))

    def test_a_block_takes_only_its_own_kind(self) -> None:
        """Every event in every kind of block."""
        takes: dict[str, Sequence[type]] = {
            TEXT: (TextDelta, Cited, Sealed),
            REFUSAL: (TextDelta,),
            REASONING: (ReasoningDelta, Sealed),
            CALL: (ArgumentsDelta, Sealed),
            MEDIA: (MediaDelta,),
        }
        told: tuple[Event, ...] = (
            TextDelta(0, "x"),
            ReasoningDelta(0, "x"),
            ArgumentsDelta(0, "x"),
            MediaDelta(0, "image/png", "AA=="),
            Cited(0),
            Sealed(0, _SEAL),
        )
        for kind, taken in takes.items():
            for event in told:
                opened = (Started(), BlockOpened(0, kind, "id", "f"))
                if isinstance(event, tuple(taken)):
                    fold([*opened, event])
                else:
                    self._refused(*opened, event)

    def test_a_block_that_is_not_open_takes_nothing(self) -> None:
        """Neither before its opening nor after its close, nor a close of its own."""
        for event in (TextDelta(0, "x"), BlockClosed(0), Cited(0), Sealed(0, _SEAL)):
            self._refused(Started(), event)
            self._refused(Started(), *_TEXT, event)
        self._refused(Started(), BlockOpened(0, TEXT), TextDelta(-1, "x"))

    def test_no_delta_is_empty(self) -> None:
        """What says nothing is not told."""
        self._refused(Started(), BlockOpened(0, TEXT), TextDelta(0, ""))
        self._refused(Started(), BlockOpened(0, REASONING), ReasoningDelta(0, ""))
        self._refused(Started(), _call(), ArgumentsDelta(0, ""))

    def test_sections_come_in_turn(self) -> None:
        """The first is 0, and each next one is one more."""
        opened = (Started(), BlockOpened(0, REASONING))
        self._refused(*opened, ReasoningDelta(0, "x", 1))
        self._refused(*opened, ReasoningDelta(0, "x", -1))
        told = (*opened, ReasoningDelta(0, "x"), ReasoningDelta(0, "x", 1))
        self._refused(*told, ReasoningDelta(0, "x", 0))
        self._refused(*told, ReasoningDelta(0, "x", 3))

    def test_a_block_is_sealed_once_and_holds_one_medium(self) -> None:
        """A second seal or picture has no place; a block of media without one is none."""
        self._refused(Started(), BlockOpened(0, TEXT), Sealed(0, _SEAL), Sealed(0, _SEAL))
        media = MediaDelta(0, "image/png", "AA==")
        self._refused(Started(), BlockOpened(0, MEDIA), media, media)
        self._refused(Started(), BlockOpened(0, MEDIA), BlockClosed(0))


class FoldTests(SynchronousTestCase):
    """Events to an answer, and back."""

    @cases(150)
    @given(answers())
    def test_every_legal_answer_survives(self, events: list[Event]) -> None:
        """What is unfolded folds to the same, with each block in one piece."""
        reply = fold(events)
        told = unfold(reply)
        self.assertEqual(reply, fold(told))
        opened = [event for event in told if isinstance(event, BlockOpened)]
        self.assertEqual(opened, [event for event in events if isinstance(event, BlockOpened)])
        texts = [event for event in told if isinstance(event, TextDelta | ArgumentsDelta)]
        self.assertEqual(len(texts), len({event.index for event in texts}))

    @cases(75)
    @given(failures())
    def test_an_answer_that_failed_is_told_as_far_as_it_went(self, events: list[Event]) -> None:
        """The texts so far are there; nothing is said to be finished."""
        reply = fold(events)
        self.assertIsNone(reply.reason)
        self.assertEqual(reply, fold(unfold(reply)))
        whole = "".join(e.text for e in events if isinstance(e, TextDelta))
        texts = [block.text for block in reply.blocks if block.kind in (TEXT, REFUSAL)]
        self.assertEqual(sorted(whole), sorted("".join(texts)))

    @cases(150)
    @given(answers())
    def test_no_event_can_be_moved_behind_the_end(self, events: list[Event]) -> None:
        """The law holds for every answer, not only for the ones thought of."""
        for event in events[:-1]:
            rest = [each for each in events if each is not event]
            self.assertRaises(GrammarError, fold, [*rest, event])

    def test_fold_does_not_change_the_events(self) -> None:
        """Events may be folded twice: whole answers are written from them afterwards."""
        events: list[Event] = [
            Started(),
            BlockOpened(0, REASONING),
            ReasoningDelta(0, "a"),
            ReasoningDelta(0, "b"),
            BlockClosed(0),
            Finished("end"),
        ]
        copies = [attrs.evolve(event) for event in events]
        self.assertEqual(fold(events), fold(events))
        self.assertEqual(copies, events)


class EndedTests(SynchronousTestCase):
    """Why an answer ended, given what it holds."""

    def test_an_answer_with_a_call_wants_it_run(self) -> None:
        """Gemini says STOP after a call; clients would not run it."""
        self.assertEqual("tool_use", ended("end", called=True))
        self.assertEqual("tool_use", ended("stop_sequence", called=True))
        self.assertEqual("tool_use", ended("tool_use", called=True))

    def test_an_answer_without_a_call_wants_none_run(self) -> None:
        """Clients would look for a call in vain."""
        self.assertEqual("end", ended("tool_use", called=False))

    def test_an_answer_that_was_cut_stays_cut(self) -> None:
        """Half a call must not be run."""
        for reason in ("length", "context", "filtered", "paused"):
            self.assertEqual(reason, ended(reason, called=True))
            self.assertEqual(reason, ended(reason, called=False))

    def test_any_other_reason_stays(self) -> None:
        """Without a call, an end is an end."""
        self.assertEqual("end", ended("end", called=False))
        self.assertEqual("stop_sequence", ended("stop_sequence", called=False))
