"""What a client of Messages is answered, as a stream."""

from __future__ import annotations

import json
import random

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.conversation import call_ids, seals
from aiclient2api.conversation.events import (
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
from aiclient2api.conversation.grammar import fold
from aiclient2api.conversation.seals import Seal
from aiclient2api.errors import Fault, ProviderUnavailable, UpstreamError
from aiclient2api.interfaces import IEventEncoder
from aiclient2api.values import Usage
from tests.dialects.anthropic_messages.answering import (
    NAME,
    accumulated,
    encoder,
    message_of,
    shapes,
    stream_of,
    streamed,
    text,
    told,
    whole,
)

EVERYTHING: list[Event] = [
    Started("chatcmpl-1", "gpt", 7),
    UsageReported(Usage(input=10, cached=4, cache_write=1)),
    BlockOpened(0, "reasoning"),
    ReasoningDelta(0, "hm"),
    ReasoningDelta(0, "so", 1),
    Sealed(0, Seal("openai-responses", "gAAA", id="rs_1")),
    BlockClosed(0),
    BlockOpened(1, "reasoning"),
    Sealed(1, Seal("openai-responses", "gBBB")),
    BlockClosed(1),
    BlockOpened(2, "text"),
    TextDelta(2, "Grüße "),
    TextDelta(2, "\u2028😀"),
    Cited(2, "https://e.x", "T", "q", 0, 5),
    Sealed(2, Seal("gemini", "AAAA")),
    BlockClosed(2),
    BlockOpened(3, "media"),
    MediaDelta(3, "image/png", "AAAA"),
    BlockClosed(3),
    BlockOpened(4, "call", "call_1", "f"),
    ArgumentsDelta(4, '{"a":'),
    ArgumentsDelta(4, "1}"),
    Sealed(4, Seal("gemini", "AAAA")),
    BlockClosed(4),
    BlockOpened(5, "call", "call.2", "g"),
    BlockClosed(5),
    UsageReported(Usage(input=10, output=7, cached=4, cache_write=1, reasoning=2)),
    Finished("tool_use"),
]


_UNSEALED = seals.carried(Seal("none", ""), "anthropic-messages")


class StreamTests(SynchronousTestCase):
    """Streams of events."""

    def test_interface(self) -> None:
        """It is what the converter asks for."""
        verifyObject(IEventEncoder, encoder())

    def test_a_chat_stream(self) -> None:
        """A thought, a text and a call of an OpenAI model, as Claude Code wants to see them."""
        body = stream_of(
            [
                Started("c1", "m", 1),
                BlockOpened(0, "reasoning"),
                ReasoningDelta(0, "hm"),
                BlockClosed(0),
                BlockOpened(1, "text"),
                TextDelta(1, "Hel"),
                TextDelta(1, "lo"),
                BlockClosed(1),
                BlockOpened(2, "call", "call_1", "f"),
                ArgumentsDelta(2, '{"a":'),
                ArgumentsDelta(2, "1}"),
                BlockClosed(2),
                UsageReported(Usage(input=10, output=7, cached=4, reasoning=2)),
                Finished("tool_use"),
            ]
        )
        self.assertEqual(
            shapes(body),
            [
                "message_start",
                (
                    "content_block_start",
                    0,
                    {"type": "thinking", "thinking": "", "signature": ""},
                ),
                ("content_block_delta", 0, {"type": "thinking_delta", "thinking": "hm"}),
                ("content_block_delta", 0, {"type": "signature_delta", "signature": _UNSEALED}),
                ("content_block_stop", 0),
                ("content_block_start", 1, {"type": "text", "text": ""}),
                ("content_block_delta", 1, {"type": "text_delta", "text": "Hel"}),
                ("content_block_delta", 1, {"type": "text_delta", "text": "lo"}),
                ("content_block_stop", 1),
                (
                    "content_block_start",
                    2,
                    {"type": "tool_use", "id": "call_1", "name": "f", "input": {}},
                ),
                ("content_block_delta", 2, {"type": "input_json_delta", "partial_json": '{"a":'}),
                ("content_block_delta", 2, {"type": "input_json_delta", "partial_json": "1}"}),
                ("content_block_stop", 2),
                (
                    "message_delta",
                    {"stop_reason": "tool_use", "stop_sequence": None},
                    {"input_tokens": 6, "cache_read_input_tokens": 4, "output_tokens": 7},
                ),
                "message_stop",
            ],
        )
        self.assertEqual(
            told(body)[0]["message"],
            {
                "id": "msg_c1",
                "type": "message",
                "role": "assistant",
                "model": "asked-for",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 0,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "output_tokens": 1,
                },
            },
        )

    def test_the_bytes(self) -> None:
        """Each record is an event line, a data line and a blank one."""
        body = stream_of([Started("x"), *text("a\n😀"), Finished("end")])
        self.assertIn(
            "event: content_block_delta\n"
            'data: {"type":"content_block_delta","index":0,'
            '"delta":{"type":"text_delta","text":"a\\n😀"}}\n\n'.encode(),
            body,
        )
        self.assertTrue(
            body.endswith(b'}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n')
        )
        self.assertNotIn(b"\n\n\n", body)

    def test_what_is_known_early_stands_in_the_start(self) -> None:
        """Whoever shows the prompt's tokens need not wait for the end."""
        usage = Usage(input=10, cached=4, cache_write=1)
        body = stream_of([Started(), UsageReported(usage), *text("a"), Finished("end")])
        self.assertEqual(
            told(body)[0]["message"]["usage"],
            {
                "input_tokens": 5,
                "cache_creation_input_tokens": 1,
                "cache_read_input_tokens": 4,
                "output_tokens": 1,
            },
        )

    def test_everything_as_the_sdk_sees_it(self) -> None:
        """The official client puts the stream together to the very message."""
        made = accumulated(stream_of(EVERYTHING))
        message = message_of(EVERYTHING)
        self.assertEqual(
            made["content"], json.loads(json.dumps(message["content"]).replace("null", '""'))
        )
        self.assertEqual(made["usage"], message["usage"])
        for key in ("id", "model", "stop_reason"):
            self.assertEqual(made[key], message[key])

    def test_blocks_that_overlap(self) -> None:
        """Calls that an upstream tells at once come one after the other."""
        events: list[Event] = [
            Started(),
            BlockOpened(0, "call", "a", "f"),
            BlockOpened(1, "call", "b", "g"),
            ArgumentsDelta(1, '{"b":1}'),
            BlockOpened(2, "text"),
            TextDelta(2, "t"),
            ArgumentsDelta(0, '{"a":1}'),
            BlockClosed(1),
            BlockClosed(0),
            TextDelta(2, "u"),
            BlockClosed(2),
            Finished("tool_use"),
        ]
        body = stream_of(events)
        order = [shape[:2] for shape in shapes(body) if isinstance(shape, tuple)][:-1]
        start, change, stop = (f"content_block_{each}" for each in ("start", "delta", "stop"))
        self.assertEqual(
            order,
            [
                (start, 0),
                (change, 0),
                (stop, 0),
                (start, 1),
                (change, 1),
                (stop, 1),
                (start, 2),
                (change, 2),
                (change, 2),
                (stop, 2),
            ],
        )
        self.assertEqual(accumulated(body)["content"], message_of(events)["content"])

    def test_a_call_without_arguments(self) -> None:
        """Is told as Anthropic tells one, and read as an empty object."""
        events: list[Event] = [
            Started(),
            BlockOpened(0, "call", "a", "f"),
            BlockClosed(0),
            Finished("tool_use"),
        ]
        body = stream_of(events)
        self.assertEqual(
            shapes(body)[2],
            ("content_block_delta", 0, {"type": "input_json_delta", "partial_json": ""}),
        )
        self.assertEqual(accumulated(body)["content"][0]["input"], {})

    def test_nothing_in_a_block_is_no_block(self) -> None:
        """Empty texts would be refused when they are sent back."""
        body = stream_of(
            [
                Started(),
                *text(),
                BlockOpened(1, "reasoning"),
                BlockClosed(1),
                BlockOpened(2, "text"),
                Cited(2, "https://e.x"),
                BlockClosed(2),
                *text("a", index=3),
                Finished("end"),
            ]
        )
        starts = [shape for shape in shapes(body) if shape[0] == "content_block_start"]
        self.assertEqual(starts, [("content_block_start", 0, {"type": "text", "text": ""})])

    def test_an_empty_answer(self) -> None:
        """Has a start and an end, and a content that is a list."""
        body = stream_of([Started(), Finished("end")])
        self.assertEqual(shapes(body)[0], "message_start")
        self.assertEqual(accumulated(body)["content"], [])
        self.assertEqual(message_of([Started(), Finished("end")])["content"], [])

    def test_when_it_begins(self) -> None:
        """With the first block, lest a client wait for a thought that is long in coming."""
        writer = encoder()
        self.assertEqual(writer.encode(event=Started()), b"")
        self.assertEqual(writer.encode(event=UsageReported(Usage(input=1))), b"")
        self.assertEqual(shapes(writer.encode(event=BlockOpened(0, "text"))), ["message_start"])
        begun = shapes(writer.encode(event=TextDelta(0, "a")))
        self.assertEqual(
            [shape[0] for shape in begun], ["content_block_start", "content_block_delta"]
        )

    def test_errors(self) -> None:
        """The last record is the error: nothing that looks like an end follows."""
        writer = encoder()
        writer.encode(event=Started())
        error = UpstreamError("Overloaded", fault=Fault.CAPACITY, status=529)
        frame = writer.error(error=error)
        self.assertEqual(
            frame,
            b'event: error\ndata: {"type":"error","error":'
            b'{"type":"overloaded_error","message":"Overloaded"}}\n\n',
        )
        self.assertEqual(writer.encode(event=Failed(error)), frame)
        frame = writer.error(error=ProviderUnavailable("None is left.")) or b""
        self.assertIn(b"overloaded_error", frame)


class RoundTripTests(SynchronousTestCase):
    """What is written is read again."""

    def test_everything(self) -> None:
        """All that this dialect has a place for survives; a stream and a message are alike."""
        usage = Usage(input=10, output=7, cached=4, cache_write=1)
        body = encoder().reply(events=EVERYTHING)
        for found in (streamed([stream_of(EVERYTHING)]), whole(body)):
            reply = fold(found or ())
            first = Seal("openai-responses", "gAAA", id="rs_1")
            self.assertEqual((reply.id, reply.model), ("msg_1", "asked-for"))
            self.assertEqual((reply.reason, reply.usage), ("tool_use", usage))
            thought, hidden, words, picture, call, bare = reply.blocks
            self.assertEqual(thought.text, "hm\n\nso")
            self.assertEqual(seals.taken(thought.seal.value if thought.seal else "", NAME), first)
            self.assertEqual(hidden.text, "")
            self.assertEqual(words.text, "Grüße \u2028😀")
            self.assertEqual([cited.url for cited in words.citations], ["https://e.x"])
            self.assertIn("image/png", picture.text)
            self.assertEqual((call.id, call.name, call.text), ("call_1", "f", '{"a":1}'))
            self.assertEqual((call_ids.original(bare.id), bare.text), ("call.2", "{}"))

    def test_any_order(self) -> None:
        """However blocks overlap, the stream obeys, and says what the message says."""
        chance = random.Random(9)
        for _ in range(300):
            events = _shuffled(chance)
            body = stream_of(events)
            self.assertEqual(accumulated(body)["content"], message_of(events)["content"])
            message = encoder().reply(events=events)
            self.assertEqual(fold(streamed([body])).blocks, fold(whole(message) or ()).blocks)


def _shuffled(chance: random.Random) -> list[Event]:
    """Return a lawful answer of a few blocks that overlap."""
    queues: list[list[Event]] = []
    for index in range(chance.randrange(1, 6)):
        kind = chance.choice(("text", "reasoning", "call", "refusal"))
        events: list[Event] = [BlockOpened(index, kind, f"c{index}" if kind == "call" else "", "f")]
        for number in range(chance.randrange(3)):
            if kind == "reasoning":
                events.append(ReasoningDelta(index, f"t{number}"))
            elif kind != "call":
                events.append(TextDelta(index, f"t{number}"))
        if kind == "call" and chance.random() < 0.7:
            events += [ArgumentsDelta(index, '{"a":'), ArgumentsDelta(index, "1}")]
        if kind == "reasoning" and chance.random() < 0.5:
            events.append(Sealed(index, Seal("gemini", "AAAA", hidden=chance.random() < 0.3)))
        queues.append([*events, BlockClosed(index)])
    out: list[Event] = [Started("x")]
    opened = 0
    while any(queues):
        ready = [n for n, queue in enumerate(queues) if queue and n <= opened]
        number = chance.choice(ready)
        opened += number == opened
        out.append(queues[number].pop(0))
    called = any(isinstance(e, BlockOpened) and e.kind == "call" for e in out)
    return [*out, Finished("tool_use" if called else "end")]
