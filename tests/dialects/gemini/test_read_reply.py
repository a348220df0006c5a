"""What an upstream that speaks like Google answers, as events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.conversation import seals
from aiclient2api.conversation.events import (
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
from aiclient2api.conversation.grammar import Reply, fold
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.framing.json_array import JSONArrayFramer
from aiclient2api.framing.sse import SSEFramer
from aiclient2api.interfaces import IEventDecoder
from aiclient2api.testing import gemini_body, gemini_chunks
from aiclient2api.testing.streams import Call
from aiclient2api.values import Route, Usage
from tests.streams import splits, stream

NAME = "gemini"
_LONG = 1 << 20


def decoder(action: str = "generate") -> IEventDecoder:
    """Return a reader of an answer."""
    request = GEMINI.parse(body=b'{"contents":[]}', route=Route(action, model="m"))
    return GEMINI.decoder(request=request)


def streamed(pieces: Iterable[bytes], *, array: bool = False) -> list[Event]:
    """Return the events of a stream, as the relay reads it."""
    reader = decoder()
    events: list[Event] = []
    framer: Any = JSONArrayFramer(limit=_LONG) if array else SSEFramer(limit=_LONG)
    for piece in pieces:
        for record in framer.feed(piece):
            if array or not record.comment:
                name = b"" if array else record.event
                events += reader.record(event=name, data=record.data) or ()
    return [*events, *reader.end()]


def chunked(*chunks: Any) -> list[Event]:
    """Return the events of a stream of *chunks*."""
    reader = decoder()
    events: list[Event] = []
    for chunk in chunks:
        events += reader.record(event=b"", data=json.dumps(chunk).encode()) or ()
    return [*events, *reader.end()]


def whole(body: Any, action: str = "generate") -> Sequence[Event] | None:
    """Return the events of a whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decoder(action).whole(body=data)


def answer(*parts: Any, finish: Any = "STOP", **fields: Any) -> dict[str, Any]:
    """Return a response with *parts*."""
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "responseId": "r1", "modelVersion": "m", **fields}


def thought(text: str, **more: Any) -> dict[str, Any]:
    """Return a thought part."""
    return {"text": text, "thought": True, **more}


def folded(*chunks: Any) -> Reply:
    """Return the answer that a stream of *chunks* makes, which must be legal."""
    return fold(chunked(*chunks))


def told(reply: Reply) -> list[Any]:
    """Return the blocks of an answer in short."""
    return [(block.kind, block.text, block.seal and block.seal.value) for block in reply.blocks]


class DecoderTests(SynchronousTestCase):
    """Streams and whole answers."""

    def test_it_is_a_decoder(self) -> None:
        """Gemini streams may come as an array."""
        reader = decoder()
        verifyObject(IEventDecoder, reader)
        self.assertTrue(reader.arrays)

    def test_the_stream_of_the_vectors(self) -> None:
        """Thought, two calls and the end come out in order, each once."""
        calls = [
            {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "AAAA"},
            {"functionCall": {"name": "g", "args": {}}},
        ]
        usage = {
            "promptTokenCount": 10,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 3,
            "cachedContentTokenCount": 4,
            "totalTokenCount": 18,
        }
        events = chunked(
            answer(thought("plan"), finish=None, modelVersion="gemini-3-pro-preview"),
            answer({"text": ""}, finish=None),
            answer(*calls, finish=None),
            answer({"text": ""}, usageMetadata=usage),
        )
        ids = [event.id for event in events if isinstance(event, BlockOpened) and event.id]
        self.assertEqual(
            events,
            [
                Started("r1", "gemini-3-pro-preview"),
                BlockOpened(0, "reasoning"),
                ReasoningDelta(0, "plan"),
                BlockClosed(0),
                BlockOpened(1, "call", ids[0], "f"),
                ArgumentsDelta(1, '{"a": 1}'),
                Sealed(1, Seal(NAME, "AAAA")),
                BlockClosed(1),
                BlockOpened(2, "call", ids[1], "g"),
                BlockClosed(2),
                UsageReported(Usage(input=10, output=8, cached=4, reasoning=3)),
                Finished("tool_use"),
            ],
        )
        self.assertNotEqual(*ids)
        for id in ids:
            self.assertRegex(id, "^call_[0-9a-f]{24}$")

    def test_recorded_streams(self) -> None:
        """However the bytes arrive, the same is read of them, as events and as an array."""
        expected = [
            ("reasoning", "hm", None),
            ("text", 'Grüße ] } " \\ 😀', None),
        ]
        usage = Usage(input=11, output=5, cached=4, reasoning=2)
        for name in ("plain.sse", "array.json"):
            for pieces in splits(stream(NAME, name)):
                reply = fold(streamed(pieces, array=name.endswith("json")))
                self.assertEqual(told(reply), expected)
                self.assertEqual((reply.usage, reply.reason), (usage, "end"))

    def test_a_blocked_prompt(self) -> None:
        """Is an answer with nothing in it, that was filtered: no error, and no success."""
        for events in (
            streamed([stream(NAME, "blocked.sse")]),
            whole({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}}),
        ):
            reply = fold(events or ())
            self.assertEqual((reply.blocks, reply.reason), ([], "filtered"))

    def test_a_stream_without_an_end(self) -> None:
        """Is given none: what is open stays open."""
        for name in ("never_finished.sse", "array_never_closed.json"):
            array = name.endswith("json")
            events = streamed([stream(NAME, name)], array=array)
            ended = isinstance(events[-1], Finished)
            # An array that was not closed is the framing's affair: its chunks were whole.
            self.assertEqual(ended, array)
        events = chunked(answer({"text": "a"}, finish="FINISH_REASON_UNSPECIFIED"))
        self.assertEqual(events[-1], TextDelta(0, "a"))

    def test_a_stream_and_a_body_say_the_same(self) -> None:
        """Ids, texts, calls and counts, all of it."""
        usage = Usage(input=10, output=5, cached=4, reasoning=2)
        tools = [Call("", "f", '{"a":1.10}'), Call("x", "g")]
        frames = gemini_chunks(["a", "b"], usage=usage, thinking=["t", "u"], tools=tools)
        body = gemini_body("ab", usage=usage, thinking="tu", tools=tools)
        self.assertEqual(fold(streamed(frames)), fold(whole(body) or ()))

    def test_counted_tokens(self) -> None:
        """A count is read as the tokens of the prompt."""
        self.assertEqual(
            whole({"totalTokens": 31}, "count_tokens"),
            (Started(), UsageReported(Usage(input=31)), Finished("end")),
        )
        self.assertIsNone(whole({}, "count_tokens"))

    def test_an_answer_that_gives_no_reason(self) -> None:
        """Is none: nobody knows whether it is whole. Nor is one with nothing in it."""
        for told_of in (answer({"text": "a"}, finish=None), answer(finish=None)):
            self.assertIsNone(whole(told_of))
        for body in (b"{}", b"[]", b'{"usageMetadata":{}}', b"", b"{", b'"a"', b"null"):
            self.assertIsNone(whole(body), body)

    def test_when_it_was_made(self) -> None:
        """Is told, if it can be read."""
        for moment, seconds in (
            ("2025-01-01T00:00:00.123456789Z", 1735689600),
            ("yesterday", 0),
            (5, 0),
        ):
            started = chunked(answer(createTime=moment))[0]
            self.assertEqual(started, Started("r1", "m", seconds))


class PartTests(SynchronousTestCase):
    """What becomes of each part."""

    def test_texts_and_thoughts_take_turns(self) -> None:
        """A block lasts until there is something else; what is empty is nothing."""
        reply = folded(
            answer(thought("a"), thought("b"), finish=None),
            answer({"text": ""}, thought(""), thought("c"), {"text": "d"}, finish=None),
            answer(thought("e"), {"text": "f"}),
        )
        self.assertEqual(
            told(reply),
            [
                ("reasoning", "abc", None),
                ("text", "d", None),
                ("reasoning", "e", None),
                ("text", "f", None),
            ],
        )

    def test_where_a_signature_stands(self) -> None:
        """It seals the block it came with, or after, once; a call has its own."""
        cases: list[tuple[list[Any], list[Any]]] = [
            ([thought("a", thoughtSignature="S")], [("reasoning", "a", "S")]),
            ([thought("a"), thought("", thoughtSignature="S")], [("reasoning", "a", "S")]),
            ([thought("a"), {"text": "", "thoughtSignature": "S"}], [("reasoning", "a", "S")]),
            ([{"text": "a", "thoughtSignature": "S"}], [("text", "a", "S")]),
            ([{"text": "a"}, {"text": "", "thoughtSignature": "S"}], [("text", "a", "S")]),
            ([{"text": "a"}, {"thoughtSignature": "S"}], [("text", "a", "S")]),
            ([thought("", thoughtSignature="S")], [("reasoning", "", "S")]),
            ([{"thought": True, "thoughtSignature": "S"}], [("reasoning", "", "S")]),
            ([{"text": "", "thoughtSignature": "S"}], []),
            (
                [{"text": "a", "thoughtSignature": "S"}, {"text": "", "thoughtSignature": "T"}],
                [("text", "a", "S")],
            ),
            (
                [{"text": "a", "thoughtSignature": "S"}, {"text": "b"}],
                [("text", "ab", "S")],
            ),
            (
                [thought("a", thoughtSignature="S"), thought("b", thoughtSignature="T")],
                [("reasoning", "a", "S"), ("reasoning", "b", "T")],
            ),
            (
                [thought("a", thoughtSignature="S"), thought("b")],
                [("reasoning", "a", "S"), ("reasoning", "b", None)],
            ),
            (
                [{"text": "a"}, thought("", thoughtSignature="S"), {"text": "b"}],
                [("text", "a", None), ("reasoning", "", "S"), ("text", "b", None)],
            ),
            (
                [thought("a"), {"functionCall": {"name": "f"}, "thoughtSignature": "S"}],
                [("reasoning", "a", None), ("call", "{}", "S")],
            ),
            (
                [{"functionCall": {"name": "f"}}, {"text": "", "thoughtSignature": "S"}],
                [("call", "{}", None)],
            ),
            (
                [{"text": "a", "thoughtSignature": "skip_thought_signature_validator"}],
                [("text", "a", None)],
            ),
            ([{"text": "a", "thoughtSignature": 5}], [("text", "a", None)]),
        ]
        for parts, expected in cases:
            self.assertEqual(told(folded(answer(*parts))), expected, parts)
            chunks = [answer(part, finish=None) for part in parts]
            self.assertEqual(told(folded(*chunks, answer())), expected, parts)

    def test_a_parcel(self) -> None:
        """Another gateway of our kind hands on the seals of others as they were."""
        seal = Seal("anthropic-messages", "EqQB", hidden=True)
        reply = folded(answer(thought("", thoughtSignature=seals.carried(seal, NAME))))
        self.assertEqual(reply.blocks[0].seal, seal)
        broken = seals.PARCEL + "%%%"
        self.assertIsNone(folded(answer(thought("a", thoughtSignature=broken))).blocks[0].seal)

    def test_the_ids_of_calls(self) -> None:
        """One that is told is kept; others are made, the same each time, no two alike."""
        call = {"functionCall": {"name": "f", "args": {}}}
        named = {"functionCall": {"name": "f", "args": {}, "id": "own"}}
        first, again = folded(answer(call, call)), folded(answer(call, call))
        ids = [block.id for block in first.blocks]
        self.assertEqual(ids, [block.id for block in again.blocks])
        self.assertNotEqual(*ids)
        other = folded(answer(call, responseId="r2"))
        self.assertNotIn(other.blocks[0].id, ids)
        own, second = (block.id for block in folded(answer(named, named)).blocks)
        self.assertEqual(own, "own")
        self.assertNotEqual(own, second)
        nameless = [folded(answer(call, responseId=None)).blocks[0].id for _ in range(2)]
        self.assertNotEqual(*nameless)

    def test_arguments(self) -> None:
        """Come as they were written, digits and all; only line breaks between them go."""
        for written, expected in (
            ('{"a":1.10,"b":12345678901234567890}', '{"a":1.10,"b":12345678901234567890}'),
            ('{\n  "a": [1,\n 2]\n}', '{"a":[1,2]}'),
            ("{}", "{}"),
            ("{\n}", "{}"),
            ("null", "{}"),
            ('"text"', '"text"'),
            ('{"a":"\\ud83d"}', '{"a":"\\ufffd"}'),
        ):
            part = f'{{"functionCall":{{"name":"f","args":{written}}}}}'
            body = f'{{"candidates":[{{"content":{{"parts":[{part}]}},"finishReason":"STOP"}}]}}'
            (block,) = fold(whole(body.encode()) or ()).blocks
            self.assertEqual(block.text, expected)

    def test_a_call_without_a_name(self) -> None:
        """Cannot be made, and is passed over."""
        calls: tuple[Any, ...] = ({"args": {}}, {"name": ""}, {"name": 5}, "f", None)
        for call in calls:
            reply = folded(answer({"text": "a"}, {"functionCall": call}))
            self.assertEqual((told(reply), reply.reason), ([("text", "a", None)], "end"))

    def test_streamed_arguments(self) -> None:
        """Pieces of values are put together, in the order they came."""

        def piece(*args: Any, more: bool = True, **fields: Any) -> Any:
            call = {"partialArgs": list(args), "willContinue": more, **fields}
            return answer({"functionCall": call}, finish=None)

        text = {"jsonPath": "$.city.name", "stringValue": "New ", "willContinue": True}
        reply = folded(
            answer({"functionCall": {"name": "f", "willContinue": True}}, finish=None),
            piece(text, {"jsonPath": "$.days[0]", "numberValue": 3}),
            piece({"jsonPath": "$.city.name", "stringValue": "York"}),
            piece({"jsonPath": "$['now']", "boolValue": False}),
            piece({"jsonPath": "$.days[1]", "nullValue": "NULL_VALUE"}),
            piece({"jsonPath": "$.days[9]", "numberValue": 1}, {"jsonPath": "days"}, 5),
            piece({"jsonPath": "$.days.x", "numberValue": 1}, {"jsonPath": "$.a", "x": 1}),
            piece({"jsonPath": "$.days..x", "numberValue": 1}, {"jsonPath": "$" + ".a" * 99}),
            answer({"functionCall": {}}, finish=None),
            answer({"functionCall": {"name": "g", "args": {"a": 1}}}),
        )
        first, second = reply.blocks
        expected = {"city": {"name": "New York"}, "days": [3, None], "now": False}
        self.assertEqual(json.loads(first.text), expected)
        self.assertEqual((first.name, second.name, second.text), ("f", "g", '{"a": 1}'))
        cut = folded(piece({"jsonPath": "$.a", "stringValue": "b"}, name="f"), answer())
        self.assertEqual([block.text for block in cut.blocks], ['{"a":"b"}'])

    def test_media(self) -> None:
        """Pictures and sounds are blocks of their own, in standard base64."""
        blob = {"mimeType": "image/png", "data": "-_8"}
        events = chunked(answer({"text": "a"}, {"inlineData": blob}, {"inlineData": {}}))
        self.assertEqual(
            events[3:-1],
            [
                BlockClosed(0),
                BlockOpened(1, "media"),
                MediaDelta(1, "image/png", "+/8="),
                BlockClosed(1),
            ],
        )
        drafts = chunked(answer(thought("x"), {"inlineData": blob, "thought": True}))
        self.assertFalse([event for event in drafts if isinstance(event, MediaDelta)])

    def test_media_that_cannot_be_read(self) -> None:
        """Are told of in words: nobody can show them."""
        note = ("text", "[Here were media that cannot be read.]", None)
        for mime, data in (
            ("image/png", "A"),
            ("image/png", "%%%%"),
            ("image/png", "=="),
            ("image/png", "AA=A"),
            ("image", "AAAA"),
            ("image/png,", "AAAA"),
            ("image/png;base64", "AAAA"),
            ("image/png\n", "AAAA"),
        ):
            reply = folded(answer({"text": "a"}, {"inlineData": {"mimeType": mime, "data": data}}))
            self.assertEqual(told(reply), [("text", "a", None), note], (mime, data))
        for mime in ("audio/L16;codec=pcm;rate=24000", 'audio/ogg; codecs="opus"'):
            blob = {"mimeType": mime, "data": "AA\nAA"}
            (block,) = folded(answer({"inlineData": blob})).blocks
            assert block.media is not None
            self.assertEqual((block.media.mime, block.media.data), (mime, "AAAA"))

    def test_what_only_google_knows(self) -> None:
        """Code that was run there is passed over, the text around it is one text."""
        code = {"executableCode": {"language": "PYTHON", "code": "1"}}
        result = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}
        reply = folded(answer({"text": "a"}, code, result, {"text": "b"}))
        self.assertEqual(told(reply), [("text", "ab", None)])

    def test_sources(self) -> None:
        """Pages are told once, with their places in characters."""
        web = [{"web": {"uri": f"https://{name}", "title": name}} for name in "ab"]
        support = {
            "segment": {"endIndex": 6, "text": "Grüß"},
            "groundingChunkIndices": [0, 7],
        }
        metadata = {"groundingChunks": web, "groundingSupports": [support]}
        chunk = answer({"text": "üß!"})
        chunk["candidates"][0]["groundingMetadata"] = metadata
        events = chunked(answer({"text": "Gr"}, finish=None), chunk, chunk)
        self.assertEqual(
            [event for event in events if isinstance(event, Cited)],
            [
                Cited(0, "https://a", "a", start=0, end=4),
                Cited(0, "https://b", "b"),
            ],
        )
        chunk["candidates"][0] = {
            "content": {"parts": [{"text": "Grüß"}]},
            "citationMetadata": {
                "citationSources": [{"startIndex": 2, "endIndex": 4, "uri": "u"}, {"title": "t"}]
            },
        }
        (cited,) = (event for event in chunked(chunk) if isinstance(event, Cited))
        self.assertEqual(cited, Cited(0, "u", start=2, end=3))
