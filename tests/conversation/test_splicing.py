"""Answers put together from several runs: never a letter that no run told in its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.events import (
    CALL,
    MEDIA,
    REASONING,
    REFUSAL,
    TEXT,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Cited,
    Event,
    Finished,
    MediaDelta,
    ReasoningDelta,
    Sealed,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.grammar import Reply, fold, unfold
from aiclient2api.conversation.seals import Seal
from aiclient2api.conversation.splicing import NotReproducedError, Splicer, moved
from aiclient2api.values import Usage
from tests.event_streams import answers

LIMIT = 1 << 20
TALE = "Grüße, 世界 — 😀 and so on.\n\nThe end."


def told(*texts: str, end: str | None = "end") -> list[Event]:
    """Return the events of an answer of one text."""
    events: list[Event] = [Started("id"), BlockOpened(0, TEXT)]
    events += [TextDelta(0, text) for text in texts]
    if end is not None:
        events += [BlockClosed(0), UsageReported(Usage(input=1)), Finished(end)]
    return events


def take(splicer: Splicer, events: Sequence[Event]) -> list[Event]:
    """Let *splicer* take copies of *events*; return what it returns."""
    return [each for event in events for each in splicer.take(attrs.evolve(event))]


def broken(events: Sequence[Event], **limits: int) -> tuple[Splicer, list[Event]]:
    """Return a splicer that was told *events*, after which the run broke off."""
    splicer = Splicer(limits.get("limit", LIMIT))
    return splicer, take(splicer, events)


def pieces(text: str, sizes: Iterator[int]) -> Iterator[str]:
    """Cut *text* into pieces."""
    while text:
        size = next(sizes)
        yield text[:size]
        text = text[size:]


def told_again(reply: Reply, sizes: Iterator[int]) -> list[Event]:
    """Return *reply* as another run may tell it: in other pieces, one block after the other."""
    events: list[Event] = []
    for event in unfold(reply):
        if isinstance(event, TextDelta):
            events += [TextDelta(event.index, text) for text in pieces(event.text, sizes)]
        elif isinstance(event, ReasoningDelta):
            events += [
                ReasoningDelta(event.index, text, event.section)
                for text in pieces(event.text, sizes)
            ]
        else:
            events.append(event)
    return events


def sizes_from(data: Any) -> Iterator[int]:
    """Draw sizes, for ever."""
    found = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=8))
    while True:
        yield from found


class RepeatTests(SynchronousTestCase):
    """A run that has to tell all again."""

    @settings(max_examples=150, deadline=None)
    @given(answers(kinds=(TEXT, REASONING, MEDIA, CALL)), st.data())
    def test_the_same_in_other_pieces(self, events: list[Event], data: Any) -> None:
        """However the two runs are cut into pieces, and wherever the first one broke."""
        at = data.draw(st.integers(1, len(events) - 1))
        splicer, before = broken(events[:at])
        whole = fold(events)
        if splicer.why_not is not None:
            self.assertIn(CALL, {block.kind for block in fold(events[:at]).blocks})
            return
        splicer.repeat()
        after = take(splicer, told_again(whole, sizes_from(data)))
        self.assertTrue(splicer.caught_up)
        self.assertEqual(fold([*before, *after]), whole)

    @settings(max_examples=150, deadline=None)
    @given(answers(kinds=(TEXT, REASONING)), st.data())
    def test_another_letter(self, events: list[Event], data: Any) -> None:
        """At any place that was told: nothing at all is passed on."""
        at = data.draw(st.integers(1, len(events) - 1))
        splicer, _ = broken(events[:at])
        known = [
            (index, section, place)
            for index, block in enumerate(fold(events[:at]).blocks)
            for section, text in enumerate(block.sections or [block.text])
            for place in range(len(text))
        ]
        if not known:
            return
        index, section, place = data.draw(st.sampled_from(known))
        other = fold(events)
        block = other.blocks[index]
        sections = block.sections or [block.text]
        letter = "x" if sections[section][place] != "x" else "y"
        changed = sections[section][:place] + letter + sections[section][place + 1 :]
        if block.sections:
            block.sections[section] = changed
        else:
            block.text = changed
        splicer.repeat()
        passed: list[Event] = []
        with self.assertRaises(NotReproducedError):
            for event in told_again(other, sizes_from(data)):
                passed += splicer.take(event)
        self.assertEqual(passed, [])

    @settings(max_examples=100, deadline=None)
    @given(answers(kinds=(TEXT, REASONING, MEDIA)), answers(kinds=(TEXT, REASONING)), st.data())
    def test_anything_else(self, events: list[Event], others: list[Event], data: Any) -> None:
        """A run with other blocks is passed on only if it begins with all that was told."""
        at = data.draw(st.integers(1, len(events) - 1))
        splicer, before = broken(events[:at])
        splicer.repeat()
        try:
            after = take(splicer, others)
        except NotReproducedError:
            return
        made, other, known = fold([*before, *after]), fold(others), fold(events[:at])
        self.assertEqual(
            [(block.kind, block.text, block.sections) for block in made.blocks],
            [(block.kind, block.text, block.sections) for block in other.blocks],
        )
        for block, beginning in zip(made.blocks, known.blocks, strict=False):
            self.assertTrue(block.text.startswith(beginning.text))

    def test_every_place_of_a_text(self) -> None:
        """Cut between any two letters, letter by letter: the same text, once."""
        for at in range(len(TALE) + 1):
            splicer, before = broken(told(*TALE[:at], end=None))
            self.assertEqual(splicer.characters, at)
            splicer.repeat()
            after = take(splicer, told(TALE))
            made = fold([*before, *after])
            self.assertEqual((made.blocks[0].text, made.reason), (TALE, "end"))
            self.assertEqual(splicer.characters, len(TALE))

    def test_a_run_that_ends_earlier(self) -> None:
        """It is not what was told, however well it begins."""
        runs: tuple[list[Event], ...] = (
            told("Grü"),
            told("Grüße, "),
            [Started(), Finished("end")],
            [*told("Grü", end=None), BlockClosed(0), BlockOpened(1, TEXT), TextDelta(1, "ße, 世")],
        )
        for events in runs:
            splicer, _ = broken(told("Grüße, 世", end=None))
            splicer.repeat()
            with self.assertRaises(NotReproducedError):
                take(splicer, events)

    def test_a_block_that_was_closed(self) -> None:
        """It cannot grow: not by text, and not by a source."""
        first: list[Event] = [*told("Hi", end=None), BlockClosed(0)]
        for more in (TextDelta(0, "!"), Cited(0, "http://a.example")):
            splicer, _ = broken(first)
            splicer.repeat()
            with self.assertRaises(NotReproducedError):
                take(splicer, [*told("Hi", end=None), more, BlockClosed(0)])

    def test_another_kind_of_block(self) -> None:
        """A thought in the place of a text, or the other way round."""
        splicer, _ = broken(told("Hi", end=None))
        splicer.repeat()
        with self.assertRaises(NotReproducedError):
            take(splicer, [Started(), BlockOpened(0, REASONING)])

    def test_another_picture_or_source(self) -> None:
        """What was made or named has to be the same."""
        picture: list[Event] = [
            Started(),
            BlockOpened(0, MEDIA),
            MediaDelta(0, "image/png", "AAAA"),
        ]
        splicer, _ = broken(picture)
        splicer.repeat()
        with self.assertRaises(NotReproducedError):
            take(splicer, [*picture[:2], MediaDelta(0, "image/png", "AAAB")])
        source: list[Event] = [*told("Hi", end=None), Cited(0, "http://a.example")]
        splicer, _ = broken(source)
        splicer.repeat()
        with self.assertRaises(NotReproducedError):
            take(splicer, [*source[:-1], Cited(0, "http://b.example")])

    def test_each_run_has_its_own_seal(self) -> None:
        """The one that was told stays; one that was not told yet comes from the new run."""
        thought: list[Event] = [Started(), BlockOpened(0, REASONING), ReasoningDelta(0, "Hm.")]
        rest: list[Event] = [BlockClosed(0), Finished("end")]
        first, second = Seal("a", "one"), Seal("a", "two")
        told_seal: list[Event] = [Sealed(0, first)]
        for known, wanted in ((told_seal, first), (told_seal[1:], second)):
            splicer, before = broken([*thought, *known])
            splicer.repeat()
            after = take(splicer, [*thought, Sealed(0, second), *rest])
            self.assertEqual(fold([*before, *after]).blocks[0].seal, wanted)

    def test_what_is_held_back_is_bounded(self) -> None:
        """A run that tells much before it has caught up is given up."""
        first: list[Event] = [
            Started(),
            BlockOpened(0, TEXT),
            BlockOpened(1, TEXT),
            TextDelta(1, "abc"),
        ]
        splicer, _ = broken(first, limit=1000)
        splicer.repeat()
        with self.assertRaises(NotReproducedError):
            take(splicer, [*first[:3], TextDelta(0, "x" * 1000)])

    def test_again_and_again(self) -> None:
        """A run that went on may break off, too; so may one that had not caught up."""
        splicer, made = broken(told("One, ", end=None))
        splicer.repeat()
        made += take(splicer, told("One, two, ", end=None))
        splicer.repeat()
        made += take(splicer, told("One, t", end=None))
        self.assertFalse(splicer.caught_up)
        splicer.repeat()
        made += take(splicer, told("One, two, three."))
        self.assertEqual(fold(made).blocks[0].text, "One, two, three.")


class ContinuationTests(SynchronousTestCase):
    """A run that goes on with the text so far."""

    def test_at_every_place(self) -> None:
        """The model is given the text without the blanks at its end, and brings those back."""
        for at in range(1, len(TALE)):
            splicer, before = broken(told(TALE[:at], end=None))
            prefix = splicer.prefix
            self.assertEqual(prefix, TALE[:at].rstrip())
            splicer.go_on()
            after = take(splicer, told(*TALE[len(prefix or "") :]))
            made = fold([*before, *after])
            self.assertEqual((made.blocks[0].text, len(made.blocks)), (TALE, 1))

    def test_other_blanks(self) -> None:
        """What the model was not shown it must tell again."""
        for text in ("next", " next", "\nnext"):
            splicer, _ = broken(told("One.\n\n", end=None))
            splicer.go_on()
            with self.assertRaises(NotReproducedError):
                take(splicer, told(text))
        splicer, _ = broken(told("One. ", end=None))
        splicer.go_on()
        with self.assertRaises(NotReproducedError):
            take(splicer, [Started(), Finished("end")])

    def test_nothing_to_add(self) -> None:
        """Then the answer ends where it broke off."""
        bare: list[Event] = [Started("x"), Finished("end")]
        for events in (told(), bare):
            splicer, before = broken(told("One.", end=None))
            splicer.go_on()
            made = fold([*before, *take(splicer, events)])
            self.assertEqual((made.blocks[0].text, made.reason), ("One.", "end"))
            self.assertTrue(made.blocks[0].closed)

    def test_a_call_follows(self) -> None:
        """At once, or behind more text."""
        call: list[Event] = [
            BlockOpened(0, CALL, "c", "f"),
            ArgumentsDelta(0, "{}"),
            BlockClosed(0),
        ]
        splicer, before = broken(told("I look.", end=None))
        splicer.go_on()
        made = fold([*before, *take(splicer, [Started(), *call, Finished("tool_use")])])
        self.assertEqual([block.kind for block in made.blocks], [TEXT, CALL])
        more: list[Event] = [*told(" Now.", end=None), BlockClosed(0)]
        more += [moved(attrs.evolve(each), 1) for each in call]
        splicer, before = broken(told("I look.", end=None))
        splicer.go_on()
        made = fold([*before, *take(splicer, [*more, Finished("tool_use")])])
        self.assertEqual([block.text for block in made.blocks], ["I look. Now.", "{}"])

    def test_behind_a_thought(self) -> None:
        """A finished thought is not told again, and the text behind it goes on."""
        thought: list[Event] = [Started(), BlockOpened(0, REASONING), ReasoningDelta(0, "Hm.")]
        text: list[Event] = [BlockClosed(0), BlockOpened(1, TEXT), TextDelta(1, "One, ")]
        splicer, before = broken([*thought, *text])
        self.assertEqual(splicer.prefix, "One,")
        splicer.go_on()
        made = fold([*before, *take(splicer, told(" two."))])
        self.assertEqual([block.text for block in made.blocks], ["Hm.", "One, two."])

    def test_a_model_that_thinks_anew(self) -> None:
        """It does not go on with the text."""
        splicer, _ = broken(told("One.", end=None))
        splicer.go_on()
        with self.assertRaises(NotReproducedError):
            take(splicer, [Started(), BlockOpened(0, REASONING)])

    def test_where_there_is_more_than_a_text(self) -> None:
        """Open thoughts, two texts, sources, pictures, nothing at all: nobody can go on so."""
        opened: list[Event] = [Started(), BlockOpened(0, TEXT)]
        runs: tuple[list[Event], ...] = (
            opened[:1],
            opened,
            [*told("One.", end=None), BlockClosed(0)],
            [*told("One.", end=None), Cited(0, "http://a.example")],
            [*opened, BlockOpened(1, TEXT), TextDelta(1, "x")],
            [Started(), BlockOpened(0, REASONING), BlockOpened(1, TEXT), TextDelta(1, "x")],
        )
        for events in runs:
            self.assertIsNone(broken(events)[0].prefix, events)


class WhyNotTests(SynchronousTestCase):
    """What nobody goes on with."""

    def test_calls_and_refusals(self) -> None:
        """Open or closed, at once or behind a text."""
        for kind in (CALL, REFUSAL):
            events: list[Event] = [*told("One.", end=None), BlockClosed(0)]
            events.append(BlockOpened(1, kind, "c", "f"))
            closed: list[Event] = [BlockClosed(1)]
            for more in (closed[1:], closed):
                splicer, made = broken([*events, *more])
                self.assertIsNotNone(splicer.why_not)
                self.assertIsNone(splicer.prefix)
                self.assertEqual(len(made), len(events) + len(more))

    def test_too_long(self) -> None:
        """No more is held than may be; the answer itself is as long as it likes."""
        splicer, made = broken(told(*["0123456789"] * 100), limit=2000)
        self.assertEqual(len(fold(made).blocks[0].text), 1000)
        self.assertIn("limits.held_bytes", splicer.why_not or "")
        self.assertEqual((splicer.text, splicer.characters), ("", 1000))
