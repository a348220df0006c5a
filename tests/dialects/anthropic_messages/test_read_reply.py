"""What an upstream of Messages answers, as the hub understands it."""

from __future__ import annotations

import json
import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.conversation.events import (
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Cited,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    Sealed,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.grammar import Grammar, fold
from aiclient2api.conversation.seals import Seal
from aiclient2api.errors import Fault
from aiclient2api.interfaces import IEventDecoder
from aiclient2api.testing import SEAL, Call, messages_body, messages_events
from aiclient2api.values import Usage
from tests.dialects.anthropic_messages.answering import NAME, decoder, folded, streamed, whole
from tests.streams import splits, stream

_START = {"type": "message_start", "message": {"id": "msg_1", "model": "m"}}


_TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}


_CALL = {
    "type": "content_block_start",
    "index": 0,
    "content_block": {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
}


_STOP = {"type": "content_block_stop", "index": 0}


_STOPPED = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}


def delta(kind: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    """Return one delta of a block."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def read(*records: Any, ended: bool = True) -> list[Event]:
    """Return what a stream of *records* says."""
    reader = decoder()
    events: list[Event] = []
    for record in records:
        data = record if isinstance(record, bytes) else json.dumps(record).encode()
        found = reader.record(event=b"", data=data)
        assert found is not None, record
        events += found
    return [*events, *(reader.end() if ended else ())]


class StreamTests(SynchronousTestCase):
    """Streams of events."""

    def test_interface(self) -> None:
        """It is what the converter asks for."""
        verifyObject(IEventDecoder, decoder())

    def test_golden(self) -> None:
        """A thought with its signature, a text, a call; the usage grows along."""
        first = Usage(input=13, output=1, cached=4, cache_write=3)
        last = Usage(input=13, output=9, cached=4, cache_write=3)
        wanted = [
            Started("msg_1", "m"),
            UsageReported(first),
            BlockOpened(0, "reasoning"),
            ReasoningDelta(0, "hm"),
            Sealed(0, Seal(NAME, "c2ln")),
            BlockClosed(0),
            BlockOpened(1, "text"),
            TextDelta(1, "Grüße "),
            TextDelta(1, "😀"),
            BlockClosed(1),
            BlockOpened(2, "call", "toolu_1", "f"),
            ArgumentsDelta(2, '{"a":'),
            ArgumentsDelta(2, "1}"),
            BlockClosed(2),
            UsageReported(last),
            Finished("tool_use"),
        ]
        for pieces in splits(stream("anthropic_messages", "thinking_tool.sse")):
            self.assertEqual(streamed(pieces), wanted)

    def test_message_stop_may_be_missing(self) -> None:
        """The reason is the end, not the record after it."""
        events = streamed([stream("anthropic_messages", "no_message_stop.sse")])
        self.assertEqual(events[-1], Finished("end"))

    def test_no_reason_is_no_end(self) -> None:
        """A stream that broke off closes nothing, and never passes for a whole one."""
        events = streamed([stream("anthropic_messages", "never_finished.sse")])
        reply = fold(events)
        self.assertEqual(reply.reason, None)
        self.assertEqual(reply.blocks[0].text, "Grüße 😀")
        self.assertFalse(any(isinstance(event, Finished) for event in events))
        cut = read(_START, _TEXT, delta("text_delta", text="a"), {"type": "message_stop"})
        self.assertEqual(cut, [Started("msg_1", "m"), BlockOpened(0, "text"), TextDelta(0, "a")])

    def test_errors(self) -> None:
        """An error record is the last thing that is heard."""
        events = streamed([stream("anthropic_messages", "overloaded.sse")])
        assert isinstance(events[-1], Failed)
        error = events[-1].error
        self.assertEqual((error.fault, error.status), (Fault.CAPACITY, 529))
        self.assertEqual(error.message, "Overloaded")
        early = streamed([stream("anthropic_messages", "error_first.sse")])
        self.assertEqual([type(event) for event in early], [Started, UsageReported, Failed])
        named = decoder().record(event=b"error", data=b"not even JSON")
        self.assertIsInstance((named or ["nothing"])[0], Failed)

    def test_stop_reasons(self) -> None:
        """Each has one meaning; a call is what a reason of calls needs."""
        for told, meant in (
            ("end_turn", "end"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "context"),
            ("refusal", "filtered"),
            ("pause_turn", "paused"),
            ("tool_use", "end"),
            ("content_filter", "filtered"),
            ("length", "length"),
        ):
            stopped = {"type": "message_delta", "delta": {"stop_reason": told}}
            self.assertEqual(read(_START, stopped)[-1], Finished(meant), told)
        stopped = {
            "type": "message_delta",
            "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        }
        self.assertEqual(read(_START, stopped)[-1], Finished("stop_sequence", "END"))
        called = read(_START, _CALL, _STOP, _STOPPED)
        self.assertEqual(called[-1], Finished("tool_use"))
        cut = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}
        self.assertEqual(read(_START, _CALL, _STOP, cut)[-1], Finished("length"))

    def test_a_reason_is_not_forgotten(self) -> None:
        """A later event that gives none changes nothing."""
        later = {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {}}
        self.assertEqual(read(_START, _STOPPED, later)[-1], Finished("end"))

    def test_usage_that_comes_late(self) -> None:
        """Some vendors count at the very end; counts only grow."""
        late = {"type": "message_stop", "usage": {"input_tokens": 5, "output_tokens": 7}}
        events = read(_START, _STOPPED, late)
        self.assertEqual(events[1:], [UsageReported(Usage(input=5, output=7)), Finished("end")])
        thought = {
            "type": "message_delta",
            "delta": {},
            "usage": {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}},
        }
        again = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 3}}
        self.assertEqual(
            read(_START, thought, again),
            [Started("msg_1", "m"), UsageReported(Usage(output=9, reasoning=4))],
        )

    def test_hidden_thoughts(self) -> None:
        """What was never shown is sealed all the same."""
        block = {"type": "redacted_thinking", "data": "Em"}
        events = read(
            _START, {"type": "content_block_start", "index": 0, "content_block": block}, _STOP
        )
        self.assertEqual(
            events[1:],
            [
                BlockOpened(0, "reasoning"),
                Sealed(0, Seal(NAME, "Em", hidden=True)),
                BlockClosed(0),
            ],
        )

    def test_a_block_that_begins_with_something(self) -> None:
        """Text, thought and input may stand in the start; deltas replace an input."""
        text = {"type": "text", "text": "Hel"}
        events = read(
            {"type": "content_block_start", "index": 3, "content_block": text},
            delta("text_delta", 3, text="lo"),
            {"type": "content_block_stop", "index": 3},
        )
        self.assertEqual(
            events,
            [
                Started(),
                BlockOpened(0, "text"),
                TextDelta(0, "Hel"),
                TextDelta(0, "lo"),
                BlockClosed(0),
            ],
        )
        given = b'{"a":1.10}'
        start = (
            b'{"type":"content_block_start","index":0,"content_block":'
            b'{"type":"tool_use","id":"t","name":"f","input":' + given + b"}}"
        )
        alone = read(start, _STOP)
        self.assertEqual(alone[2:], [ArgumentsDelta(0, given.decode()), BlockClosed(0)])
        both = read(start, delta("input_json_delta", partial_json="{}"), _STOP)
        self.assertEqual(both[2:], [ArgumentsDelta(0, "{}"), BlockClosed(0)])

    def test_a_signature_in_the_start(self) -> None:
        """And one that is told again: the last one counts, once."""
        block = {"type": "thinking", "thinking": "a", "signature": "s1"}
        start = {"type": "content_block_start", "index": 0, "content_block": block}
        self.assertEqual(read(start, _STOP)[-2], Sealed(0, Seal(NAME, "s1")))
        twice = read(start, delta("signature_delta", signature="s2"), _STOP)
        self.assertEqual(twice[-2:], [Sealed(0, Seal(NAME, "s2")), BlockClosed(0)])

    def test_citations(self) -> None:
        """Where a text came from, as far as there is an address or a title."""
        events = read(
            _START,
            _TEXT,
            delta("text_delta", text="a"),
            delta(
                "citations_delta",
                citation={
                    "type": "web_search_result_location",
                    "url": "https://e.x",
                    "title": "T",
                    "cited_text": "q",
                    "encrypted_index": "E",
                },
            ),
            delta(
                "citations_delta",
                citation={"type": "char_location", "document_title": "D", "cited_text": "r"},
            ),
        )
        self.assertEqual(
            events[3:],
            [Cited(0, "https://e.x", "T", "q"), Cited(0, "", "D", "r")],
        )

    def test_what_vendors_run_is_passed_over(self) -> None:
        """With its deltas; the blocks after it are numbered without a hole."""
        server = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
        events = read(
            _START,
            {"type": "content_block_start", "index": 0, "content_block": server},
            delta("input_json_delta", partial_json='{"query":"x"}'),
            _STOP,
            {**_TEXT, "index": 1},
            delta("text_delta", 1, text="a"),
            {"type": "content_block_stop", "index": 1},
            _STOPPED,
        )
        self.assertEqual(
            events,
            [
                Started("msg_1", "m"),
                BlockOpened(0, "text"),
                TextDelta(0, "a"),
                BlockClosed(0),
                Finished("end"),
            ],
        )

    def test_what_belongs_nowhere_is_passed_over(self) -> None:
        """What says nothing, before a block, after its end, or of another kind."""
        events = read(
            _START,
            delta("text_delta", text=""),
            _TEXT,
            delta("thinking_delta", thinking=""),
            delta("input_json_delta", partial_json=""),
            delta("signature_delta", signature="wrong"),
            delta("text_delta", text=""),
            delta("text_delta", text=["no text"]),
            {"type": "content_block_delta", "index": 0},
            _STOP,
            _STOP,
            delta("signature_delta", signature="late"),
            _START,
            {"type": "content_block_start", "index": 5},
            {"type": "something_new", "index": [1]},
        )
        self.assertEqual(events, [Started("msg_1", "m"), BlockOpened(0, "text"), BlockClosed(0)])

    def test_numbers_used_twice(self) -> None:
        """A block that begins where one is still open ends that one."""
        events = read(_START, _TEXT, _TEXT, _STOPPED)
        self.assertEqual(
            events[1:],
            [
                BlockOpened(0, "text"),
                BlockClosed(0),
                BlockOpened(1, "text"),
                BlockClosed(1),
                Finished("end"),
            ],
        )

    def test_calls_without_an_id(self) -> None:
        """They get one that is theirs alone."""
        block = {"type": "tool_use", "name": "f"}
        start = {"type": "content_block_start", "index": 0, "content_block": block}
        first, second = read(start)[1], read(start)[1]
        assert isinstance(first, BlockOpened) and isinstance(second, BlockOpened)
        self.assertRegex(first.id, r"^toolu_[0-9a-f]{24}$")
        self.assertNotEqual(first.id, second.id)

    def test_records_that_are_no_json(self) -> None:
        """They are told apart from those that merely say nothing."""
        for data in (b"{", b"\xff\xfe", b'{"type":'):
            self.assertEqual(decoder().record(event=b"", data=data), None)
        for data in (b"", b" ", b"[DONE]", b"null", b"[]", b"7", b'"x"', b'{"delta":7}'):
            self.assertEqual(decoder().record(event=b"ping", data=data), ())

    def test_odd_json_is_read(self) -> None:
        """Lone surrogates, NaN, control characters and a byte order mark."""
        record = (
            b'\xef\xbb\xbf{"type":"content_block_delta","index":0,"x":NaN,'
            b'"delta":{"type":"text_delta","text":"a\\ud83d\tb\xff"}}'
        )
        self.assertEqual(read(_START, _TEXT, record)[-1], TextDelta(0, "a\ufffd\tb\ufffd"))

    def test_the_events_name_stands_in(self) -> None:
        """For a type that is missing."""
        reader = decoder()
        reader.record(event=b"message_start", data=b'{"message":{"id":"msg_1"}}')
        reader.record(
            event=b"content_block_start", data=b'{"content_block":{"type":"text","text":"a"}}'
        )
        found = reader.record(
            event=b"content_block_delta", data=b'{"delta":{"type":"text_delta","text":"b"}}'
        )
        self.assertEqual(found, (TextDelta(0, "b"),))


class WholeTests(SynchronousTestCase):
    """Answers in one piece."""

    def test_as_a_stream(self) -> None:
        """A message and its stream say the same."""
        usage = Usage(input=20, output=9, cached=5)
        tools = (Call("toolu_1", "f", '{"a":1}'), Call("toolu_2", "g"))
        body = messages_body("Grüße 😀", "tool_use", usage, thinking="hm so", tools=tools)
        events = messages_events(
            ["Grüße ", "😀"], "tool_use", usage, thinking=["hm ", "so"], tools=tools
        )
        one, other = folded(body), fold(streamed(events))
        self.assertEqual(one, other)
        self.assertEqual(
            [block.kind for block in one.blocks], ["reasoning", "text", "call", "call"]
        )
        self.assertEqual(one.blocks[0].seal, Seal(NAME, SEAL))
        self.assertEqual([block.text for block in one.blocks[2:]], ['{"a":1}', "{}"])
        self.assertEqual((one.reason, one.usage), ("tool_use", Usage(20, 9, 5, 0)))

    def test_numbers_keep_their_digits(self) -> None:
        """In the arguments of a call."""
        given = b'{"z":1.10,"a":12345678901234567890123}'
        body = (
            b'{"id":"msg_1","type":"message","model":"m","stop_reason":"tool_use","content":'
            b'[{"type":"tool_use","id":"t","name":"f","input":' + given + b"}]}"
        )
        self.assertEqual(folded(body).blocks[0].text, given.decode())
        quoted = {"type": "tool_use", "id": "t", "name": "f", "input": '{"a": 1}'}
        told = folded({"content": [quoted], "stop_reason": "tool_use"})
        self.assertEqual(told.blocks[0].text, '{"a": 1}')

    def test_an_answer_without_a_reason(self) -> None:
        """It is not taken for a whole one: none is invented."""
        content = [{"type": "text", "text": "a"}, None, {"type": "odd"}]
        self.assertIsNone(whole({"content": content}))
        reply = folded({"content": content, "stop_reason": "end_turn"})
        self.assertEqual((reply.reason, [block.text for block in reply.blocks]), ("end", ["a"]))
        reply = folded({"content": [], "stop_reason": "stop_sequence", "stop_sequence": "E"})
        self.assertEqual((reply.reason, reply.stop_sequence), ("stop_sequence", "E"))

    def test_errors(self) -> None:
        """Also within a 200."""
        (failed,) = (
            whole({"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}) or ()
        )
        assert isinstance(failed, Failed)
        self.assertEqual((failed.error.fault, failed.error.message), (Fault.RATE_LIMIT, "x"))

    def test_what_is_no_answer(self) -> None:
        """Is told apart from an empty one."""
        for answer in (b"", b"{", b"[]", b"{}", b'{"content":"text"}', b'{"content":null}'):
            self.assertEqual(whole(answer), None, answer)

    def test_counts(self) -> None:
        """A count of tokens is the usage of an empty answer."""
        self.assertEqual(
            whole({"input_tokens": 7}, "count_tokens"),
            (Started(), UsageReported(Usage(input=7)), Finished("end")),
        )
        self.assertEqual(whole({"input_tokens": "7"}, "count_tokens"), None)
        (failed,) = whole({"type": "error", "error": {"message": "no"}}, "count_tokens") or ()
        self.assertIsInstance(failed, Failed)


class HostileTests(SynchronousTestCase):
    """Upstreams that say anything in any order."""

    BLOCKS: tuple[Any, ...] = (
        {"type": "text", "text": "t", "citations": [{"url": "u"}, 7]},
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "redacted_thinking", "data": "d", "thinking": "x"},
        {"type": "tool_use", "id": "", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": 7, "name": ["f"], "input": "x"},
        {"type": "web_search_tool_result"},
        {"type": None, "text": {}},
        7,
    )
    DELTAS: tuple[Any, ...] = (
        {"type": "text_delta", "text": "a"},
        {"type": "thinking_delta", "thinking": "a"},
        {"type": "signature_delta", "signature": "a"},
        {"type": "input_json_delta", "partial_json": "{"},
        {"type": "citations_delta", "citation": {"url": 1}},
        {"type": ["text_delta"], "text": 7},
        {"stop_reason": "tool_use"},
        {"stop_reason": {"a": 1}, "stop_sequence": []},
        "x",
    )
    KINDS: tuple[Any, ...] = (
        "message_start",
        "content_block_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        None,
    )

    def test_the_law_holds(self) -> None:
        """Whatever they send, writers of other dialects get what they may rely on."""
        chance = random.Random(7)
        finished = 0
        for _ in range(3000):
            reader, grammar = decoder(), Grammar()
            for _ in range(chance.randrange(1, 25)):
                record: dict[str, Any] = {
                    "type": chance.choice(self.KINDS),
                    "index": chance.choice((0, 1, 2, None, -1, "0", 1.5)),
                    "message": chance.choice(({"id": 1, "usage": {"input_tokens": -3}}, 7, None)),
                    "content_block": chance.choice(self.BLOCKS),
                    "delta": chance.choice(self.DELTAS),
                    "usage": chance.choice(({"output_tokens": 1e9}, {"output_tokens": "x"}, [])),
                }
                for event in reader.record(event=b"", data=json.dumps(record).encode()) or ():
                    grammar.take(event)
            for event in reader.end():
                grammar.take(event)
            finished += grammar.reply.reason is not None
        self.assertGreater(finished, 200)

    def test_whole_answers(self) -> None:
        """The same for answers in one piece."""
        chance = random.Random(8)
        for _ in range(1000):
            answer: dict[str, Any] = {
                "id": chance.choice(("msg_1", 7, None)),
                "content": [chance.choice(self.BLOCKS[:-1]) for _ in range(chance.randrange(5))],
                "stop_reason": chance.choice(("end_turn", "tool_use", 7, None, [])),
                "usage": chance.choice((None, 7, {"input_tokens": 1})),
            }
            events = whole(answer)
            calls = [block for block in answer["content"] if block["type"] == "tool_use"]
            nameless = any(isinstance(block["name"], list) for block in calls)
            if nameless or answer["stop_reason"] == 7:
                self.assertIsInstance((events or (None,))[-1], Failed)
            elif answer["stop_reason"]:
                self.assertNotEqual(fold(events or ()).reason, None)
            else:
                self.assertIsNone(events)
