"""Chat Completions: what a client is answered, written from events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.conversation.events import (
    CALL,
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
from aiclient2api.conversation.grammar import Reply, fold
from aiclient2api.conversation.seals import Seal, carried
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.openai_chat.read_reply import ChatDecoder
from aiclient2api.dialects.openai_chat.read_request import read_request
from aiclient2api.dialects.openai_chat.request import NAME
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.sse import SSEFramer
from aiclient2api.interfaces import IEventEncoder
from aiclient2api.values import Usage
from tests.dialects.openai_chat.judge import (
    ID,
    NOW,
    chunks,
    decoded,
    deltas,
    encoded,
    encoder,
    parsed,
    replied,
)

_SEAL = Seal("gemini", "AAAA")
_CARRIED = {"google": {"thought_signature": carried(_SEAL, NAME)}}
_STARTED = Started("resp_r1", "gemini-3", 7)
_COUNTED = {"stream_options": {"include_usage": True}}
_EVERYTHING: tuple[Event, ...] = (
    _STARTED,
    BlockOpened(0, REASONING),
    ReasoningDelta(0, "h"),
    ReasoningDelta(0, "m"),
    BlockClosed(0),
    BlockOpened(1, TEXT),
    TextDelta(1, "Grü"),
    TextDelta(1, "ße\u2028😀"),
    BlockClosed(1),
    BlockOpened(2, MEDIA),
    MediaDelta(2, "image/png", "aGk="),
    BlockClosed(2),
    BlockOpened(3, CALL, "c1", "f"),
    ArgumentsDelta(3, '{"a":'),
    BlockOpened(4, CALL, "c2", "g"),
    ArgumentsDelta(3, "1}"),
    Sealed(3, Seal(NAME, "AAAA")),
    BlockClosed(3),
    BlockClosed(4),
    UsageReported(Usage(10, 8, 4, 1, 3)),
    Finished("tool_use"),
)
_SOURCED: tuple[Event, ...] = (
    _STARTED,
    BlockOpened(0, TEXT),
    TextDelta(0, "Hello"),
    Cited(0, "https://a", "A", "", 0, 5),
    BlockClosed(0),
    Finished("end"),
)
_REFUSED: tuple[Event, ...] = (
    _STARTED,
    BlockOpened(0, REFUSAL),
    TextDelta(0, "I "),
    TextDelta(0, "won't"),
    BlockClosed(0),
    Finished("filtered"),
)


def _texts(*texts: str, kind: str = TEXT, reason: str = "end") -> list[Event]:
    """Return an answer of some texts, a block each."""
    events: list[Event] = [_STARTED]
    for index, text in enumerate(texts):
        delta: Event = ReasoningDelta(index, text) if kind == REASONING else TextDelta(index, text)
        events += [BlockOpened(index, kind), delta, BlockClosed(index)]
    return [*events, Finished(reason)]


def _put_together(stream: bytes) -> Any:
    """Return the completion that OpenAI's own library makes of a stream."""
    state: Any = ChatCompletionStreamState()
    for each in chunks(stream):
        state.handle_chunk(ChatCompletionChunk.model_validate(each))
    return state.current_completion_snapshot


class StreamTests(SynchronousTestCase):
    """Chunks."""

    def test_contract(self) -> None:
        """An encoder is what a translation expects."""
        request = parsed({})
        made = OPENAI_CHAT.encoder(
            request=request,
            conversation=read_request(request),
            model="m",
            make_id=lambda: ID,
            now=lambda: NOW,
        )
        verifyObject(IEventEncoder, made)

    def test_an_answer_of_gemini(self) -> None:
        """Every chunk, byte for byte: a thought, two calls, the usage that was asked for."""
        stream = encoded(
            [
                Started("r1", "gemini-3-pro-preview", 7),
                BlockOpened(0, REASONING),
                ReasoningDelta(0, "plan"),
                BlockClosed(0),
                BlockOpened(1, CALL, "call_1", "f"),
                ArgumentsDelta(1, '{"a":1}'),
                Sealed(1, _SEAL),
                BlockClosed(1),
                BlockOpened(2, CALL, "call_2", "g"),
                BlockClosed(2),
                UsageReported(Usage(10, 8, 4, None, 3)),
                Finished("tool_use"),
            ],
            **_COUNTED,
        )
        head = {"id": "chatcmpl-r1", "object": "chat.completion.chunk", "created": 7}
        head["model"] = "asked-for"

        def called(index: int, id: str, name: str) -> dict[str, Any]:
            function = {"name": name, "arguments": ""}
            return {"index": index, "id": id, "type": "function", "function": function}

        nothing = {"function": {"arguments": ""}}
        told: list[tuple[dict[str, Any], str | None]] = [
            ({"role": "assistant", "content": ""}, None),
            ({"reasoning_content": "plan"}, None),
            ({"tool_calls": [called(0, "call_1", "f")]}, None),
            ({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}, None),
            ({"tool_calls": [{"index": 0, **nothing, "extra_content": _CARRIED}]}, None),
            ({"tool_calls": [called(1, "call_2", "g")]}, None),
            ({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}, None),
            ({}, "tool_calls"),
        ]
        wanted = [
            {
                **head,
                "choices": [
                    {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
                ],
                "usage": None,
            }
            for delta, finish in told
        ]
        usage = {
            "prompt_tokens": 10,
            "completion_tokens": 8,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 3},
        }
        wanted.append({**head, "choices": [], "usage": usage})
        frames = [
            b"data: " + json.dumps(each, separators=(",", ":")).encode() + b"\n\n"
            for each in wanted
        ]
        self.assertEqual(stream, b"".join([*frames, b"data: [DONE]\n\n"]))

    def test_text(self) -> None:
        """A piece at a time, as it is: whatever stands in it."""
        stream = encoded(_texts('a"\n\u2028', "😀", " b\ud83d"))
        told = [{"content": text} for text in ('a"\n\u2028', "😀", " b\ufffd")]
        self.assertEqual(deltas(stream)[1:], [*told, {}])
        self.assertNotIn("usage", next(chunks(stream)))

    def test_usage_only_if_asked_for(self) -> None:
        """And only if it is known."""
        events = [*_texts("a")[:-1], UsageReported(Usage(1, 2)), Finished("end")]
        for fields, told in ((_COUNTED, True), ({}, False), ({"stream_options": None}, False)):
            last = [*chunks(encoded(events, **fields))][-1]
            self.assertEqual(last["choices"] == [], told, fields)
        self.assertEqual(len([*chunks(encoded(_texts("a"), **_COUNTED))]), 3)

    def test_the_end_is_the_last(self) -> None:
        """``[DONE]`` comes with it, not before."""
        writer = encoder()
        stream = b"".join(writer.encode(each) for each in _EVERYTHING[:-1])
        self.assertNotIn(b"[DONE]", stream)
        self.assertNotIn(b'"finish_reason":"', stream)
        self.assertTrue(writer.encode(Finished("tool_use")).endswith(b"}\n\ndata: [DONE]\n\n"))
        self.assertIsNone(writer.final)

    def test_reasons(self) -> None:
        """Every reason has a word of this dialect."""
        wanted = {
            "end": "stop",
            "stop_sequence": "stop",
            "length": "length",
            "context": "length",
            "tool_use": "tool_calls",
            "filtered": "content_filter",
            "paused": "stop",
        }
        self.assertEqual(set(wanted), set(REASONS))
        for reason, finish in wanted.items():
            events = _texts("a", reason=reason)
            (*_, last) = chunks(encoded(events))
            self.assertEqual(last["choices"][0]["finish_reason"], finish)
            self.assertEqual(replied(events)["choices"][0]["finish_reason"], finish)

    def test_ids(self) -> None:
        """The upstream's, in this dialect's form, or a new one; the same in every chunk."""
        for id, wanted in (
            ("chatcmpl-1", "chatcmpl-1"),
            ("msg_01AB", "chatcmpl-01AB"),
            ("resp_1", "chatcmpl-1"),
            ("gen-1", "chatcmpl-1"),
            ("a b/c=", "chatcmpl-abc"),
            ("", f"chatcmpl-{ID}"),
        ):
            events = [Started(id), *_texts("a")[1:]]
            heads = {(each["id"], each["created"]) for each in chunks(encoded(events))}
            self.assertEqual(heads, {(wanted, NOW)})
            answer = replied(events)
            self.assertEqual((answer["id"], answer["created"]), (wanted, NOW))

    def test_an_error(self) -> None:
        """One chunk, before or after the beginning, and no end after it."""
        error = UpstreamError("It broke.", fault=Fault.CAPACITY, status=503)
        told = {"message": "It broke.", "type": "server_error", "param": None, "code": None}
        frame = b'data: {"error":%s}\n\n' % json.dumps(told, separators=(",", ":")).encode()
        self.assertEqual(encoder().error(error), frame)
        writer = encoder()
        writer.encode(_STARTED)
        self.assertEqual(writer.encode(Failed(error)), frame)

    def test_thoughts(self) -> None:
        """A line stands between two sections, and between two thoughts."""
        events: list[Event] = [
            _STARTED,
            BlockOpened(0, REASONING),
            ReasoningDelta(0, "a", 0),
            ReasoningDelta(0, "b", 1),
            ReasoningDelta(0, "c", 1),
            Sealed(0, _SEAL),
            BlockClosed(0),
            BlockOpened(1, TEXT),
            TextDelta(1, "t"),
            BlockClosed(1),
            BlockOpened(2, REASONING),
            ReasoningDelta(2, "d"),
            BlockClosed(2),
            Finished("end"),
        ]
        thoughts = [each.get("reasoning_content") for each in deltas(encoded(events))]
        told = [thought for thought in thoughts if thought is not None]
        self.assertEqual(told, ["a", "\n\nb", "c", "\n\nd"])
        message = replied(events)["choices"][0]["message"]
        self.assertEqual(message["reasoning_content"], "a\n\nbc\n\nd")

    def test_sources(self) -> None:
        """Their places count in all of the text; one without a place is for its own text."""
        events: list[Event] = [
            _STARTED,
            BlockOpened(0, TEXT),
            TextDelta(0, "abc"),
            BlockClosed(0),
            BlockOpened(1, TEXT),
            Cited(1, "https://a", "A"),
            TextDelta(1, "de"),
            Cited(1, "https://b", "", "", 0, 1),
            Cited(1, quoted="nowhere"),
            BlockClosed(1),
            Finished("end"),
        ]
        annotations = [
            {
                "type": "url_citation",
                "url_citation": {"start_index": start, "end_index": end, "title": t, "url": url},
            }
            for start, end, t, url in ((3, 5, "A", "https://a"), (3, 4, "", "https://b"))
        ]
        self.assertEqual(deltas(encoded(events))[-2:], [{"annotations": annotations}, {}])
        self.assertEqual(replied(events)["choices"][0]["message"]["annotations"], annotations)

    def test_blocks_that_overlap(self) -> None:
        """Texts and refusals are told as they come."""
        events: list[Event] = [
            _STARTED,
            BlockOpened(0, TEXT),
            BlockOpened(1, REFUSAL),
            BlockOpened(2, TEXT),
            TextDelta(0, "a"),
            TextDelta(2, "b"),
            TextDelta(1, "no"),
            BlockClosed(0),
            TextDelta(2, "c"),
            BlockClosed(2),
            BlockClosed(1),
            Finished("end"),
        ]
        told = [{"content": "a"}, {"content": "b"}, {"refusal": "no"}, {"content": "c"}]
        self.assertEqual(deltas(encoded(events))[1:], [*told, {}])

    def test_sounds(self) -> None:
        """They have no place; a sentence says so."""
        opened = BlockOpened(0, MEDIA)
        sound = MediaDelta(0, "audio/wav", "aGk=")
        events: list[Event] = [_STARTED, opened, sound, BlockClosed(0), Finished("end")]
        text = "[Here the model made something of the type audio/wav, 2 bytes, which this API"
        self.assertIn(text, deltas(encoded(events))[1]["content"])
        self.assertIn(text, replied(events)["choices"][0]["message"]["content"])

    def test_calls_are_counted_by_themselves(self) -> None:
        """Their numbers are no numbers of blocks, and have no holes."""
        numbers = [
            call["index"]
            for each in deltas(encoded(_EVERYTHING))
            for call in each.get("tool_calls", ())
        ]
        self.assertEqual(sorted(set(numbers)), [0, 1])


class WholeTests(SynchronousTestCase):
    """Completions."""

    def test_everything(self) -> None:
        """In the dialect's own shape."""
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
        extra = {"extra_content": {"google": {"thought_signature": "AAAA"}}}
        other = {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}
        image = {"type": "image_url", "index": 0}
        image_url = {"url": "data:image/png;base64,aGk="}
        self.assertEqual(
            replied(_EVERYTHING),
            {
                "id": "chatcmpl-r1",
                "object": "chat.completion",
                "created": 7,
                "model": "asked-for",
                "choices": [
                    {
                        "index": 0,
                        "message": {
                            "role": "assistant",
                            "content": "Grüße\u2028😀",
                            "refusal": None,
                            "reasoning_content": "hm",
                            "tool_calls": [{**call, **extra}, other],
                            "images": [{**image, "image_url": image_url}],
                        },
                        "logprobs": None,
                        "finish_reason": "tool_calls",
                    }
                ],
                "usage": {
                    "prompt_tokens": 10,
                    "completion_tokens": 8,
                    "total_tokens": 18,
                    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
                    "completion_tokens_details": {"reasoning_tokens": 3},
                },
            },
        )

    def test_content_without_text(self) -> None:
        """Null beside calls and refusals, else empty."""
        called: list[Event] = [
            *_EVERYTHING[:1],
            BlockOpened(0, CALL, "c", "f"),
            BlockClosed(0),
            Finished("end"),
        ]
        nothing: list[Event] = [_STARTED, Finished("end")]
        for events, content, refusal in (
            (called, None, None),
            ([*_REFUSED], None, "I won't"),
            (nothing, "", None),
        ):
            message = replied(events)["choices"][0]["message"]
            self.assertEqual((message["content"], message["refusal"]), (content, refusal))

    def test_usage_that_is_not_known(self) -> None:
        """Nothing is made up."""
        self.assertNotIn("usage", replied(_texts("a")))

    def test_a_stream_says_what_a_whole_answer_says(self) -> None:
        """As OpenAI's own library puts it together."""
        for events in (
            _EVERYTHING,
            _SOURCED,
            _REFUSED,
            _texts("a", "b"),
            _texts("a", "b", kind=REASONING),
        ):
            whole = replied(events)
            streamed = _put_together(encoded(events, **_COUNTED)).model_dump(exclude_unset=True)
            message = whole["choices"][0]["message"]
            told = streamed["choices"][0]["message"]
            for each in told.get("tool_calls") or ():
                del each["index"], each["function"]["parsed_arguments"]
            for key in ("reasoning_content", "tool_calls", "annotations", "images", "refusal"):
                self.assertEqual(told.get(key), message.get(key), key)
            self.assertEqual(told.get("content") or None, message["content"] or None)
            finish = streamed["choices"][0]["finish_reason"]
            self.assertEqual(finish, whole["choices"][0]["finish_reason"])
            self.assertEqual(streamed["usage"], whole.get("usage"))


class RoundTripTests(SynchronousTestCase):
    """What is written is read again."""

    def test_there_and_back(self) -> None:
        """Every kind of event survives, in a stream and whole."""
        for events in (_EVERYTHING, _SOURCED, _REFUSED, _texts("a"), _texts("a", kind=REASONING)):
            wanted = _plain(fold(events))
            stream = encoded(events, **_COUNTED)
            self.assertEqual(_plain(fold(decoded(stream))), wanted)
            whole = ChatDecoder().whole(body=encoder().reply(events))
            assert whole is not None
            self.assertEqual(_plain(fold(whole)), wanted)

    def test_a_cut_answer_never_ends(self) -> None:
        """Wherever it is cut, no client takes it for whole."""
        stream = encoded(_EVERYTHING, **_COUNTED)
        end = stream.index(b'"finish_reason":"tool_calls"')
        for at in range(0, end, 7):
            framer = SSEFramer()
            records = list(framer.feed(stream[:at]))
            self.assertIsNone(fold(_read(records)).reason)


def _read(records: Sequence[Any]) -> list[Event]:
    decoder, events = ChatDecoder(), list[Event]()
    for record in records:
        found = decoder.record(event=record.event, data=record.data)
        assert found is not None
        events += found
    return [*events, *decoder.end()]


def _plain(reply: Reply) -> Any:
    """Return what of a reply this dialect can say; sources are numbered anew by its reader."""
    blocks = [
        (
            block.kind,
            block.id,
            block.name,
            block.text,
            block.seal,
            block.media and (block.media.mime, block.media.data),
            [attrs.evolve(each, index=0) for each in block.citations],
        )
        for block in reply.blocks
    ]
    return blocks, reply.usage, reply.reason
