"""
What holds of every conversion, whatever is converted: proved on cases that nobody thought of.

An answer that is written in a dialect and read again is the same but for the losses that
`tests.reply_losses` declares; a stream says what the whole answer says; how the bytes are
cut makes no difference; and nothing an upstream sends makes a reader break the law.

``AICLIENT2API_LONG=1`` runs each property on 200,000 cases.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.events import (
    REFUSAL,
    TEXT,
    Cited,
    Event,
    Failed,
    Finished,
    TextDelta,
)
from aiclient2api.conversation.grammar import Grammar, Reply, fold
from aiclient2api.conversation.sequencing import OneAtATime
from tests.both_ways import FRAMINGS, NAMES, read, there_and_back, written
from tests.event_streams import answer, answers, failed
from tests.mutations import broken_json, broken_stream, encoded
from tests.reply_losses import PROJECTIONS
from tests.streams import stream
from tests.tape import Tape, cases, drawn, value


def _in_order(events: Sequence[Event]) -> list[Event]:
    """Return *events* with one block after the other."""
    order = OneAtATime()
    return [told for event in events for told in order.take(event)]


class ThereAndBackTests(SynchronousTestCase):
    """Write an answer, read it, and compare."""

    def _compare(self, name: str, events: Sequence[Event], framing: str, loose: bool) -> None:
        meant, was = PROJECTIONS[name]
        reply = there_and_back(name, events, framing)
        self.assertEqual(meant(fold(events), loose), was(reply, loose), (name, framing))

    def _compare_all(self, name: str, events: Sequence[Event]) -> None:
        for framing in FRAMINGS[name]:
            self._compare(name, events, framing, framing != "whole")

    @cases(500)
    @given(answers())
    def test_messages_loses_what_it_says_it_loses(self, events: list[Event]) -> None:
        """Claude's clients see every answer, whoever gave it, with its blocks in order."""
        self._compare_all("anthropic-messages", events)

    @cases(500)
    @given(answers())
    def test_responses_loses_what_it_says_it_loses(self, events: list[Event]) -> None:
        """Codex sees every answer, whoever gave it, with its items in order."""
        self._compare_all("openai-responses", events)

    @cases(500)
    @given(answers(overlap=False))
    def test_chat_loses_what_it_says_it_loses(self, events: list[Event]) -> None:
        """Clients of Chat Completions see one text, and every call."""
        self._compare_all("openai-chat", events)

    @cases(500)
    @given(answers(overlap=False))
    def test_gemini_loses_what_it_says_it_loses(self, events: list[Event]) -> None:
        """Gemini's clients see every part, and whole calls only."""
        self._compare_all("gemini", events)

    @cases(200)
    @given(answers().map(_in_order))
    def test_gemini_keeps_the_order_of_blocks_that_do_not_overlap(
        self, events: list[Event]
    ) -> None:
        """A stream of one block after the other is read in that order."""
        for framing in FRAMINGS["gemini"]:
            self._compare("gemini", events, framing, loose=False)

    @cases(150)
    @given(answers())
    def test_blocks_may_overlap_in_any_dialect(self, events: list[Event]) -> None:
        """Not a character is lost, even if an upstream tells two texts at the same time."""
        for name in NAMES:
            for framing in FRAMINGS[name]:
                reply = there_and_back(name, events, framing)
                told = "".join(e.text for e in events if isinstance(e, TextDelta))
                text = "".join(b.text for b in reply.blocks if b.kind in (TEXT, REFUSAL))
                # Sentences about media may be there, too.
                for character in set(told):
                    self.assertGreaterEqual(text.count(character), told.count(character), name)


class StreamAndWholeTests(SynchronousTestCase):
    """A client may ask for a stream or not: it is told the same."""

    @cases(200)
    @given(answers(overlap=False))
    def test_a_stream_says_what_the_whole_answer_says(self, events: list[Event]) -> None:
        """Folding the stream gives the whole; but for sources, see `tests.reply_losses.chat`."""
        events = [event for event in events if not isinstance(event, Cited)]
        for name in NAMES:
            _, was = PROJECTIONS[name]
            whole = was(there_and_back(name, events, "whole"), True)
            for framing in FRAMINGS[name][:-1]:
                streamed = was(there_and_back(name, events, framing), True)
                # Of counts a stream of Messages tells at least one: see `messages`.
                self.assertEqual(
                    attrs.evolve(whole, usage=None), attrs.evolve(streamed, usage=None), name
                )


class SplitsTests(SynchronousTestCase):
    """How an upstream's bytes arrive is chance."""

    @cases(40)
    @given(drawn(lambda tape: (answer(tape, overlap=False), tape.number(1 << 16))))
    def test_any_split_gives_the_same_events(self, case: tuple[list[Event], int]) -> None:
        """In the middle of a character, of a line end, of a number: everywhere."""
        events, seed = case
        for name in NAMES:
            for framing in FRAMINGS[name]:
                data = written(name, events, framing)
                once = _comparable(read(name, [data], framing))
                for pieces in _splits(data, seed):
                    split = _comparable(read(name, pieces, framing))
                    self.assertEqual(once, split, (name, framing, pieces))


def _splits(data: bytes, seed: int) -> Iterator[list[bytes]]:
    """Yield *data* in pieces of 1 and 7 bytes, and in two at some places."""
    for size in (1, 7):
        yield [data[at : at + size] for at in range(0, len(data), size)]
    step = max(1, len(data) // 5)
    for at in range(seed % step, len(data), step):
        yield [data[:at], data[at:]]


def _comparable(events: Sequence[Event]) -> list[str]:
    # Where no id was told one is made up, each time another; errors are equal to nothing.
    return [repr(event) for event in events if not isinstance(event, Failed)]


_GOLDEN = {
    "anthropic-messages": (
        "error_first.sse",
        "never_finished.sse",
        "no_message_stop.sse",
        "overloaded.sse",
        "thinking_tool.sse",
    ),
    "gemini": ("blocked.sse", "error_midway.sse", "never_finished.sse", "plain.sse"),
    "openai-chat": (
        "error_first.sse",
        "error_midway.sse",
        "moonshot_usage.sse",
        "odd_records.sse",
        "plain.sse",
        "tools_crlf.sse",
        "two_choices.sse",
    ),
    "openai-responses": (
        "error_first.sse",
        "failed.sse",
        "incomplete.sse",
        "never_finished.sse",
        "plain.sse",
    ),
}


def _streams(tape: Tape, name: str) -> bytes:
    """Return a stream of the dialect *name*: one that was recorded, or one we write."""
    golden = tape.pick(_GOLDEN[name])
    if tape.one_in(3):
        return stream(name.replace("-", "_"), golden)
    return written(name, failed(tape) if tape.one_in(6) else answer(tape))


def broken(tape: Tape) -> tuple[str, bytes]:
    """Return the name of a dialect, and a stream of it with something wrong."""
    name = tape.pick(NAMES)
    return name, broken_stream(tape, _streams(tape, name))


def broken_whole(tape: Tape) -> tuple[str, bytes]:
    """Return the name of a dialect, and a whole answer of it with something wrong."""
    name = tape.pick(NAMES)
    told = json.loads(written(name, answer(tape), "whole"))
    return name, encoded(broken_json(tape, told))


class LawTests(SynchronousTestCase):
    """No answer, however hostile, makes a reader say what may not be said."""

    def _judge(self, name: str, data: bytes, framing: str) -> Reply:
        grammar = Grammar()
        for event in read(name, [data], framing):
            grammar.take(event)
        return grammar.reply

    @cases(2000)
    @given(drawn(broken, size=320))
    def test_a_broken_stream_is_read_by_the_law(self, case: tuple[str, bytes]) -> None:
        """Records lost, doubled, swapped, cut or full of the wrong things."""
        name, data = case
        self._judge(name, data, "sse")

    @cases(1000)
    @given(drawn(broken_whole, size=320))
    def test_a_broken_answer_is_read_by_the_law(self, case: tuple[str, bytes]) -> None:
        """Also one that is no stream."""
        name, data = case
        self._judge(name, data, "whole")

    @cases(600)
    @given(st.sampled_from(NAMES), drawn(lambda tape: tape.several(lambda: value(tape, 4), 5)))
    def test_any_json_is_read_by_the_law(self, name: str, told: list[object]) -> None:
        """Records that are nothing of the dialect at all."""
        records = [b"data: " + encoded(each) + b"\n\n" for each in told]
        self._judge(name, b"".join(records), "sse")
        for each in told:
            self._judge(name, encoded(each), "whole")
        self._judge(name, encoded(told), "json_array" if name == "gemini" else "whole")

    @cases(400)
    @given(st.sampled_from(NAMES), st.binary(max_size=200))
    def test_any_bytes_are_read_by_the_law(self, name: str, data: bytes) -> None:
        """Bytes that are no text at all."""
        for framing in FRAMINGS[name]:
            self._judge(name, data, framing)
            self._judge(name, b"data: " + data + b"\n\n", framing)

    @cases(200)
    @given(drawn(failed))
    def test_an_answer_that_fails_is_read_as_one(self, events: list[Event]) -> None:
        """Nothing that looks like an end follows, and what was said before is still there."""
        for name in NAMES:
            data = written(name, events)
            told = read(name, [data])
            fold(told)
            self.assertFalse(any(isinstance(event, Finished) for event in told), name)
            self.assertIsInstance(told[-1], Failed, name)

    @cases(150)
    @given(drawn(lambda tape: (answer(tape), tape.number(1 << 16))))
    def test_an_answer_that_breaks_off_never_finishes(self, case: tuple[list[Event], int]) -> None:
        """Cut anywhere before the end is told, it has no end."""
        events, seed = case
        for name in NAMES:
            unfinished = written(name, events[:-1])
            data = unfinished[: seed % (len(unfinished) + 1)]
            told = read(name, [data])
            fold(told)
            self.assertFalse(any(isinstance(e, Finished | Failed) for e in told), name)
