"""Answers of an upstream of Messages that are no whole ones, and must not pass for such."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.events import (
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Event,
    Failed,
    Finished,
    Started,
    TextDelta,
)
from aiclient2api.errors import Fault
from tests.dialects.anthropic_messages.answering import decoder, whole

_MISSING = object()


def numbered(record: dict[str, Any], index: Any) -> dict[str, Any]:
    """Return *record* with a block's number, or without one."""
    return record if index is _MISSING else {**record, "index": index}


def block(index: Any, delta: dict[str, Any], **content: Any) -> list[dict[str, Any]]:
    """Return the records of a block with one delta."""
    return [
        numbered({"type": "content_block_start", "content_block": content}, index),
        numbered({"type": "content_block_delta", "delta": delta}, index),
        numbered({"type": "content_block_stop"}, index),
    ]


def text(index: Any, words: str = "a") -> list[dict[str, Any]]:
    """Return the records of a text."""
    return block(index, {"type": "text_delta", "text": words}, type="text", text="")


def call(index: Any) -> list[dict[str, Any]]:
    """Return the records of a call."""
    delta = {"type": "input_json_delta", "partial_json": '{"a":1}'}
    return block(index, delta, type="tool_use", id="t", name="f", input={})


def stopped(reason: Any) -> dict[str, Any]:
    """Return the record that says why an answer ended."""
    return {"type": "message_delta", "delta": {"stop_reason": reason}}


def heard(*records: Any) -> list[Event] | None:
    """Return what a stream of *records* says, None if one of them is garbled."""
    reader = decoder()
    events: list[Event] = []
    for record in records:
        found = reader.record(event=b"", data=json.dumps(record).encode())
        if found is None:
            return None
        events += found
    return [*events, *reader.end()]


class ReasonTests(SynchronousTestCase):
    """Why an answer ended."""

    def failed(self, events: Sequence[Event] | None, word: str) -> None:
        """Check that *events* end in a failure that may be tried again and names *word*."""
        assert events is not None
        (*_, last) = events
        assert isinstance(last, Failed), last
        self.assertEqual((last.error.fault, last.error.status), (Fault.SERVER, 502))
        self.assertIn(word, last.error.message)
        self.assertEqual(sum(isinstance(event, Finished) for event in events), 0)

    def test_words_that_are_not_known(self) -> None:
        """They are no clean end, streamed or whole, and the word is told."""
        content = [{"type": "text", "text": "half an ans"}]
        for word in ("error", "abort", "compaction", "something\nnew", 7, {"a": 1}, ["end_turn"]):
            shown = json.dumps(word, separators=(",", ":"))
            self.failed(heard(*text(0), stopped(word), {"type": "message_stop"}), shown)
            self.failed(whole({"content": content, "stop_reason": word}), shown)

    def test_a_long_word(self) -> None:
        """It is not told in full."""
        failed = (heard(stopped("x" * 9999)) or (None,))[0]
        assert isinstance(failed, Failed)
        self.assertLess(len(failed.error.message), 200)

    def test_none(self) -> None:
        """A whole answer without a reason is no answer."""
        for word in (None, "", 0):
            self.assertIsNone(whole({"content": [], "stop_reason": word}))


class PlaceTests(SynchronousTestCase):
    """Where a record belongs."""

    def test_numbers_told_otherwise(self) -> None:
        """A string, a fraction of nothing, none at all: the block is the same."""
        for index in (0, "0", 0.0, _MISSING, None, "17", 2**64):
            self.assertEqual(
                heard(*text(index), *call(index), stopped("tool_use")),
                [
                    Started(),
                    BlockOpened(0, "text"),
                    TextDelta(0, "a"),
                    BlockClosed(0),
                    BlockOpened(1, "call", "t", "f"),
                    ArgumentsDelta(1, '{"a":1}'),
                    BlockClosed(1),
                    Finished("tool_use"),
                ],
                index,
            )

    def test_numbers_that_come_and_go(self) -> None:
        """A record without one belongs to the block that is open."""
        start, delta, stop = text(3)
        mixed = [start, {**delta, "index": "3"}, {**delta, "index": None}, {**stop, "index": None}]
        self.assertEqual(
            (heard(*mixed, stopped("end_turn")) or [])[1:-1],
            [BlockOpened(0, "text"), TextDelta(0, "a"), TextDelta(0, "a"), BlockClosed(0)],
        )

    def test_numbers_that_are_none(self) -> None:
        """Such a record is garbled, whatever is in it."""
        odd: tuple[Any, ...] = ("a", "", "-1", "²", 1.5, True, [0], {}, "9" * 5000)
        for index in odd:
            for record in text(index):
                self.assertIsNone(heard(*text(0), record), (index, record))

    def test_deltas_that_belong_nowhere(self) -> None:
        """A part of an answer that cannot be placed is not passed over."""
        start, delta, stop = text(0)
        calling = call(0)[1]
        thinking = {"type": "thinking_delta", "thinking": "hm"}
        for records in (
            [delta],
            [start, {**delta, "index": 1}],
            [start, stop, delta],
            [start, calling],
            [start, {**delta, "delta": thinking}],
            [*call(0)[:1], delta],
        ):
            self.assertIsNone(heard(*records), records)

    def test_what_vendors_run(self) -> None:
        """Its deltas have a place: they go with it."""
        for index in (0, _MISSING):
            own = block(
                index,
                {"type": "input_json_delta", "partial_json": "{}"},
                type="server_tool_use",
                name="web_search",
            )
            self.assertEqual(heard(*own, stopped("end_turn")), [Started(), Finished("end")])

    def test_blocks_of_the_wrong_form(self) -> None:
        """What stands where a block or a delta should be is not passed over."""
        for record in (
            {"type": "content_block_start", "index": 0, "content_block": "a"},
            {"type": "content_block_delta", "index": 0, "delta": "a"},
        ):
            self.assertIsNone(heard(*text(0)[:1], record))
        self.assertEqual(heard({"type": "ping", "delta": "a"}), [])
        contents: tuple[Any, ...] = ("a", 7)
        for content in contents:
            self.assertIsNone(whole({"content": [content], "stop_reason": "end_turn"}))


class CallTests(SynchronousTestCase):
    """Calls that cannot be told."""

    def test_without_a_name(self) -> None:
        """A call of nothing is a failure, not an answer without a call."""
        for name in (None, "", ["f"]):
            content: dict[str, Any] = {"type": "tool_use", "id": "t", "name": name, "input": {}}
            start = {"type": "content_block_start", "index": 0, "content_block": content}
            told = [{"type": "text", "text": "a"}, content]
            for events in (
                heard(*text(1), start, stopped("tool_use")),
                whole({"content": told, "stop_reason": "tool_use"}),
            ):
                kinds = [type(event) for event in events or ()]
                self.assertEqual(kinds, [Started, BlockOpened, TextDelta, BlockClosed, Failed])
