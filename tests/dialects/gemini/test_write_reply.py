"""What a client of Google's libraries is answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.conversation import seals
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
from aiclient2api.conversation.grammar import Reply, fold
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.convert import conversation_of
from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.errors import Fault, ProviderUnavailable, UpstreamError
from aiclient2api.interfaces import IEventEncoder
from aiclient2api.values import Route, Usage
from tests.dialects.gemini.test_read_reply import streamed, whole
from tests.strict_replies import judge_reply

NAME = "gemini"
_HEAD = b'data: {"candidates":[{"content":{"parts":['
_TAIL = b'],"role":"model"},"index":0}],"modelVersion":"asked-for","responseId":"r1"}\r\n\r\n'
SEAL = Seal("anthropic-messages", "EqQB")


def encoder(action: str = "generate", framing: str = "sse") -> IEventEncoder:
    """Return a writer of an answer."""
    route = Route(action, model="m", streaming=framing != "whole", framing=framing)
    request = GEMINI.parse(body=b'{"contents":[]}', route=route)
    return GEMINI.encoder(
        request=request,
        conversation=conversation_of(request),
        model="asked-for",
        make_id=lambda: "0123456789abcdef" * 2,
        now=lambda: 0.0,
    )


def stream_of(events: Sequence[Event]) -> bytes:
    """Return the stream that *events* are written as, judged."""
    writer = encoder()
    body = b"".join(writer.encode(event=event) for event in events)
    judge_reply(NAME, body)
    return body


def array_of(events: Sequence[Event]) -> bytes:
    """Return the array that *events* are written as, judged."""
    writer = encoder(framing="json_array")
    body = b"".join(writer.encode(event=event) for event in events)
    judge_reply(NAME, body)
    return body


def response_of(events: Sequence[Event]) -> dict[str, Any]:
    """Return the response that *events* are written as, judged and decoded."""
    body = encoder(framing="whole").reply(events=events)
    judge_reply(NAME, body)
    told: dict[str, Any] = json.loads(body)
    return told


def told(events: Sequence[Event]) -> list[Any]:
    """Return what the chunks of a stream say."""
    records = stream_of(events).split(b"\r\n\r\n")
    assert records.pop() == b""
    return [json.loads(record.removeprefix(b"data: ")) for record in records]


def parts(*chunks: Any) -> list[Any]:
    """Return all parts of *chunks*, but for the empty text in the last of a stream."""
    found = [part for each in chunks for part in each["candidates"][0]["content"].get("parts", [])]
    return found[:-1] if found[-1:] == [{"text": ""}] else found


def reasons(*chunks: Any) -> list[str]:
    """Return the reasons why *chunks* ended."""
    return [
        each["candidates"][0]["finishReason"]
        for each in chunks
        if "finishReason" in each["candidates"][0]
    ]


def block(index: int, kind: str, *deltas: Event, id: str = "", name: str = "") -> list[Event]:
    """Return the events of a whole block."""
    return [BlockOpened(index, kind, id, name), *deltas, BlockClosed(index)]


def call(index: int, *pieces: str, id: str = "c") -> list[Event]:
    """Return the events of a call."""
    deltas = [ArgumentsDelta(index, piece) for piece in pieces]
    return block(index, "call", *deltas, id=id, name="f")


EVERYTHING: list[Event] = [
    Started("r1", "gpt", 7),
    UsageReported(Usage(input=10, cached=4)),
    BlockOpened(0, "reasoning"),
    ReasoningDelta(0, "hm"),
    ReasoningDelta(0, "so", 1),
    Sealed(0, SEAL),
    BlockClosed(0),
    BlockOpened(1, "reasoning"),
    Sealed(1, Seal("openai-responses", "gAAA", id="rs_1", hidden=True)),
    BlockClosed(1),
    BlockOpened(2, "text"),
    TextDelta(2, "Grüße "),
    TextDelta(2, "\ud83d"),
    Cited(2, "https://a", "A", start=0, end=5),
    Cited(2, title="no address"),
    BlockClosed(2),
    *block(3, "media", MediaDelta(3, "image/png", "AAAA")),
    BlockOpened(4, "call", "call_1", "f"),
    BlockOpened(5, "call", "call_2", "g"),
    ArgumentsDelta(4, '{"a":'),
    ArgumentsDelta(5, '{"b":1.10}'),
    ArgumentsDelta(4, "1}"),
    Sealed(4, Seal(NAME, "AAAA")),
    BlockClosed(4),
    BlockClosed(5),
    *call(6, id="call_3"),
    UsageReported(Usage(input=10, output=7, cached=4, reasoning=2)),
    Finished("tool_use"),
]


class StreamTests(SynchronousTestCase):
    """Chunk by chunk."""

    def test_it_is_an_encoder(self) -> None:
        """Nothing goes on from an answer of this dialect."""
        verifyObject(IEventEncoder, encoder())
        self.assertIsNone(encoder().final)

    def test_bytes(self) -> None:
        """Each piece of text is a chunk, written at once and ended as Google ends them."""
        writer = encoder()
        self.assertEqual(writer.encode(event=Started("r1", "gpt")), b"")
        self.assertEqual(writer.encode(event=BlockOpened(0, "text")), b"")
        for text in ("a", "b", 'c"\n'):
            chunk = writer.encode(event=TextDelta(0, text))
            quoted = json.dumps(text).encode()
            self.assertEqual(chunk, _HEAD + b'{"text":' + quoted + b"}" + _TAIL)
        self.assertEqual(writer.encode(event=BlockClosed(0)), b"")
        usage = Usage(input=10, output=8, cached=4, reasoning=3)
        self.assertEqual(writer.encode(event=UsageReported(usage)), b"")
        self.assertEqual(
            json.loads(writer.encode(event=Finished("end")).removeprefix(b"data: ")),
            {
                "candidates": [
                    {
                        "content": {"parts": [{"text": ""}], "role": "model"},
                        "finishReason": "STOP",
                        "index": 0,
                    }
                ],
                "usageMetadata": {
                    "promptTokenCount": 10,
                    "candidatesTokenCount": 5,
                    "thoughtsTokenCount": 3,
                    "cachedContentTokenCount": 4,
                    "totalTokenCount": 18,
                },
                "modelVersion": "asked-for",
                "responseId": "r1",
            },
        )

    def test_everything(self) -> None:
        """Whatever an answer may hold has its place."""
        chunks = told(EVERYTHING)
        hidden = Seal("openai-responses", "gAAA", id="rs_1", hidden=True)
        self.assertEqual(
            parts(*chunks),
            [
                {"text": "hm", "thought": True},
                {"text": "\n\nso", "thought": True},
                {"text": "", "thought": True, "thoughtSignature": seals.carried(SEAL, NAME)},
                {"text": "", "thought": True, "thoughtSignature": seals.carried(hidden, NAME)},
                {"text": "Grüße "},
                {"text": "\ufffd"},
                {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                {
                    "functionCall": {"id": "call_1", "name": "f", "args": {"a": 1}},
                    "thoughtSignature": "AAAA",
                },
                {"functionCall": {"id": "call_2", "name": "g", "args": {"b": 1.1}}},
                {"functionCall": {"id": "call_3", "name": "f", "args": {}}},
            ],
        )
        last = chunks[-1]["candidates"][0]
        source = {"uri": "https://a", "title": "A", "startIndex": 0, "endIndex": 7}
        self.assertEqual(last["citationMetadata"], {"citationSources": [source]})
        self.assertEqual({chunk["responseId"] for chunk in chunks}, {"r1"})
        self.assertIn(b'{"b":1.10}', stream_of(EVERYTHING))

    def test_line_ends_that_only_javascript_sees(self) -> None:
        """They are escaped wherever they stand: Google's own SDK looks for one line."""
        said = "a\u2028b\u2029c\u2014d"
        events: list[Event] = [
            Started("r"),
            BlockOpened(0, "reasoning"),
            ReasoningDelta(0, said),
            BlockClosed(0),
            BlockOpened(1, "text"),
            TextDelta(1, said),
            TextDelta(1, said),
            BlockClosed(1),
            BlockOpened(2, "call", "call_1", "f"),
            ArgumentsDelta(2, json.dumps({"a": said}, ensure_ascii=False)),
            BlockClosed(2),
            Finished("tool_use"),
        ]
        body = stream_of(events)
        failed = encoder().error(error=UpstreamError(said, fault=Fault.SERVER, status=502))
        for data in (body, failed or b""):
            self.assertNotIn("\u2028".encode(), data)
            self.assertNotIn("\u2029".encode(), data)
            self.assertIn("\u2014".encode(), data)
        chunks = told(events)
        self.assertEqual([part["text"] for part in parts(*chunks)[:3]], [said] * 3)
        self.assertEqual(parts(*chunks)[3]["functionCall"]["args"], {"a": said})

    def test_an_array(self) -> None:
        """Who does not ask for events gets one JSON array, whole at its end."""
        nothing: list[Event] = [Started(), Finished("filtered")]
        for events in (EVERYTHING, nothing):
            self.assertEqual(json.loads(array_of(events))[1:], told(events)[1:])
        writer = encoder(framing="json_array")
        body = [writer.encode(event=event) for event in EVERYTHING]
        pieces = [piece for piece in body if piece]
        self.assertTrue(pieces[0].startswith(b'[{"'))
        self.assertTrue(all(piece.startswith(b',\r\n{"') for piece in pieces[1:]))
        self.assertTrue(pieces[-1].endswith(b'"}]'))

    def test_an_id_is_made_if_there_is_none(self) -> None:
        """And the name of the model is the one that was asked for."""
        for each in (told([Started(), Finished("end")])[0], response_of([Started()])):
            self.assertEqual(each["responseId"], "0123456789abcdef01234567")
            self.assertEqual(each["modelVersion"], "asked-for")

    def test_reasons(self) -> None:
        """Google has fewer words for the end than others."""
        for reason, finish in (
            ("end", "STOP"),
            ("stop_sequence", "STOP"),
            ("tool_use", "STOP"),
            ("paused", "STOP"),
            ("length", "MAX_TOKENS"),
            ("context", "MAX_TOKENS"),
            ("filtered", "SAFETY"),
        ):
            events = [Started(), *block(0, "text", TextDelta(0, "a")), Finished(reason)]
            self.assertEqual(reasons(*told(events)), [finish])
            self.assertEqual(reasons(response_of(events)), [finish])

    def test_a_refusal(self) -> None:
        """Is text, and an end for safety's sake."""
        events = [Started(), *block(0, "refusal", TextDelta(0, "No.")), Finished("end")]
        for chunks in (told(events), [response_of(events)]):
            self.assertEqual(parts(*chunks), [{"text": "No."}])
            self.assertEqual(reasons(*chunks), ["SAFETY"])

    def test_errors(self) -> None:
        """An event stream can tell of one, nothing else can; nothing follows it."""
        error = ProviderUnavailable("There is no account left; try later.")
        frame = encoder().error(error=error)
        assert frame is not None
        self.assertTrue(frame.startswith(b'data: {"error":{"code":503,'))
        self.assertTrue(frame.endswith(b'"status":"UNAVAILABLE","details":[]}}\r\n\r\n'))
        for framing in ("json_array", "whole"):
            self.assertIsNone(encoder(framing=framing).error(error=error))
        failed = UpstreamError("It broke.", fault=Fault.SERVER, status=502)
        self.assertIn(b"It broke.", encoder().encode(event=Failed(failed)))
        self.assertEqual(encoder(framing="json_array").encode(event=Failed(failed)), b"")

    def test_a_prompt_that_is_too_long(self) -> None:
        """Is told in Google's own words: clients look for them."""
        for message in ("prompt is too long: 9 > 8", "The input token count (9) exceeds 8."):
            for said in (400, 413, 500):
                error = UpstreamError(message, fault=Fault.CONTEXT, status=said)
                status, body = GEMINI.render_error(error)
                told_of = json.loads(body)["error"]
                self.assertEqual((status, told_of["code"]), (400, 400))
                self.assertEqual(told_of["status"], "INVALID_ARGUMENT")
                self.assertRegex(told_of["message"], "^The input token count.* exceeds")
                self.assertIn(message, told_of["message"])


class CallTests(SynchronousTestCase):
    """No half call is ever run."""

    def both(self, *events: Event) -> list[str]:
        """Return the ids of the calls a client is told of, streamed or not."""
        all_events = [Started(), *events]
        found = parts(*told(all_events))
        self.assertCountEqual(found, parts(response_of(all_events)))
        return [part["functionCall"]["id"] for part in found if "functionCall" in part]

    def test_a_call_that_was_cut(self) -> None:
        """Is left out, whatever is missing; those before it are whole."""
        for reason in ("length", "context", "filtered"):
            end = Finished(reason)
            self.assertEqual(self.both(*call(0, '{"a":'), end), [])
            self.assertEqual(self.both(*call(0), end), [])
            self.assertEqual(self.both(*call(0, '{"a":1}'), end), ["c"])
            self.assertEqual(
                self.both(*call(0, id="b"), *call(1, '{"a":1}'), *call(2, '{"a"', id="d"), end),
                ["b", "c"],
            )
            said = block(1, "text", TextDelta(1, "a"))
            self.assertEqual(self.both(*call(0), *said, end), ["c"])

    def test_calls_at_once_that_were_cut(self) -> None:
        """One that lacks its arguments while the next has begun needs none."""
        opened = [BlockOpened(index, "call", f"c{index}", "f") for index in range(2)]
        closed = [BlockClosed(index) for index in range(2)]
        self.assertEqual(self.both(*opened, *closed, Finished("length")), ["c0"])

    def test_a_call_that_was_not_cut(self) -> None:
        """Is told as well as can be, after all that could be told at once."""
        broken = [*call(0, "{'a': 1}", id="b"), *call(1, "nonsense", id="c"), *call(2, id="d")]
        self.assertEqual(self.both(*broken, Finished("tool_use")), ["b", "c", "d"])
        found = parts(*told([Started(), *broken, Finished("tool_use")]))
        self.assertEqual(
            [part["functionCall"]["args"] for part in found],
            [{"a": 1}, {"raw_arguments": "nonsense"}, {}],
        )

    def test_a_call_does_not_wait_longer_than_it_must(self) -> None:
        """A whole one is told when it is closed, one without arguments with the next block."""
        writer = encoder()
        writer.encode(event=Started())
        seen = [bool(writer.encode(event=event)) for event in call(0, '{"a":1}')]
        self.assertEqual(seen, [False, False, True])
        self.assertEqual([writer.encode(event=event) for event in call(1)], [b"", b""])
        self.assertTrue(writer.encode(event=BlockOpened(2, "text")))


class WholeTests(SynchronousTestCase):
    """Answers in one piece."""

    def test_everything(self) -> None:
        """Thoughts and texts are one part each, with their seals."""
        response = response_of(EVERYTHING)
        found = parts(response)
        self.assertEqual(
            found[0],
            {"text": "hm\n\nso", "thought": True, "thoughtSignature": seals.carried(SEAL, NAME)},
        )
        self.assertEqual(found[2], {"text": "Grüße \ufffd"})
        streamed_parts = parts(*told(EVERYTHING))
        self.assertEqual(found[3:], streamed_parts[6:])
        last = told(EVERYTHING)[-1]
        for key in ("usageMetadata", "modelVersion", "responseId"):
            self.assertEqual(response[key], last[key])
        citations = [each["candidates"][0]["citationMetadata"] for each in (response, last)]
        self.assertEqual(*citations)

    def test_nothing(self) -> None:
        """An answer with nothing in it has a content without parts, as Google's have."""
        events = [Started(), *block(0, "text"), Finished("filtered")]
        (candidate,) = response_of(events)["candidates"]
        self.assertEqual(candidate["content"], {"role": "model"})

    def test_counted_tokens(self) -> None:
        """A count of tokens is a number."""
        counted = [Started(), UsageReported(Usage(input=31)), Finished("end")]
        body = encoder("count_tokens", framing="whole").reply(events=counted)
        judge_reply(NAME, body)
        self.assertEqual(json.loads(body), {"totalTokens": 31})


def seen(reply: Reply) -> Reply:
    """
    Return an answer as this dialect can tell it.

    Blocks of the same kind that follow each other are one, refusals are texts.
    """
    blocks: list[Any] = []
    for each in reply.blocks:
        kind = "text" if each.kind == "refusal" else each.kind
        text = "\n\n".join(each.sections) if kind == "reasoning" else each.text
        sections = [text] if kind == "reasoning" and text else []
        made = attrs.evolve(each, kind=kind, text=text, sections=sections, citations=[])
        if kind in ("text", "reasoning") and not text and each.seal is None:
            continue
        last = blocks[-1] if blocks else None
        if last is not None and last.kind == kind == "text":
            last.text += text
        elif last is not None and last.kind == kind == "reasoning" and last.seal is None:
            last.text += text
            last.seal = each.seal
            last.sections = [last.text] if last.text else []
        else:
            blocks.append(made)
    return attrs.evolve(reply, blocks=blocks, model="asked-for", created=0)


class RoundTripTests(SynchronousTestCase):
    """What is written is read again as what it was."""

    def test_everything(self) -> None:
        """Streamed as events, streamed as an array, and whole."""
        plain = [
            event
            for event in EVERYTHING
            if not isinstance(event, Cited) and event != TextDelta(2, "\ud83d")
        ]
        wanted = seen(fold(plain))
        self.assertEqual(fold(streamed([stream_of(plain)])), wanted)
        self.assertEqual(fold(streamed([array_of(plain)], array=True)), wanted)
        body = encoder(framing="whole").reply(events=plain)
        self.assertEqual(fold(whole(body) or ()), wanted)

    def test_sources(self) -> None:
        """Come back where they stood, if the text is still open where they are told."""
        cited = Cited(0, "https://a", start=2, end=4)
        said = block(0, "text", TextDelta(0, "Grüße"), cited)
        events = [Started("r1"), *said, Finished("end")]
        (read,) = fold(streamed([stream_of(events)])).blocks
        self.assertEqual(read.citations, [cited])

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_any_answer(self, data: st.DataObject) -> None:
        """Whatever is legal survives, block by block."""
        events: list[Event] = [Started("r1", "m")]
        called = False
        texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
        values = st.sampled_from(("AAAA", "EqQB"))
        sealed = st.none() | st.builds(Seal, st.sampled_from([NAME, "x"]), values)
        for index in range(data.draw(st.integers(1, 6))):
            kind = data.draw(st.sampled_from(("text", "reasoning", "call", "media")))
            deltas: list[Event] = []
            if kind == "text":
                deltas = [TextDelta(index, text) for text in data.draw(st.lists(texts, max_size=3))]
            elif kind == "reasoning":
                pieces = data.draw(st.lists(texts, max_size=3))
                deltas = [ReasoningDelta(index, text, at) for at, text in enumerate(pieces)]
            elif kind == "call":
                called = True
                deltas = [ArgumentsDelta(index, '{"a":1}')] if data.draw(st.booleans()) else []
            else:
                deltas = [MediaDelta(index, "image/png", "AAAA")]
            seal = data.draw(sealed) if kind in ("reasoning", "call") else None
            if seal is not None:
                deltas.append(Sealed(index, seal))
            id, name = (f"c{index}", "f") if kind == "call" else ("", "")
            events += block(index, kind, *deltas, id=id, name=name)
        events += [UsageReported(Usage(1, 2)), Finished("tool_use" if called else "end")]
        wanted = seen(fold(events))
        # An answer that says nothing is read as none.
        assume(wanted.blocks)
        self.assertEqual(told_of(fold(streamed([stream_of(events)]))), told_of(wanted))
        body = encoder(framing="whole").reply(events=events)
        self.assertEqual(told_of(fold(whole(body) or ())), told_of(wanted))


def told_of(reply: Reply) -> list[Any]:
    """Return the blocks of an answer, and why it ended."""
    return [reply.reason, *((b.kind, b.id, b.name, b.text, b.seal) for b in reply.blocks)]
