"""Chat Completions: what an upstream answers, read into events."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

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
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.grammar import Reply, fold
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.openai_chat.read_reply import ChatDecoder
from aiclient2api.framing.sse import SSEFramer
from aiclient2api.interfaces import IEventDecoder
from aiclient2api.testing import Call, chat_body, chat_chunks
from aiclient2api.values import Usage
from tests.dialects.openai_chat.judge import chunk, completion, decoded, parsed, piece
from tests.streams import splits, stream

_STARTED = Started("c1", "m-1", 7)
_PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}


def _whole(answer: Any) -> list[Event]:
    events = ChatDecoder().whole(body=json.dumps(answer).encode())
    assert events is not None
    return list(events)


class StreamTests(SynchronousTestCase):
    """Chunks."""

    def test_contract(self) -> None:
        """A decoder is what a translation expects."""
        decoder = OPENAI_CHAT.decoder(request=parsed({}))
        verifyObject(IEventDecoder, decoder)
        self.assertFalse(decoder.arrays)

    def test_everything_in_order(self) -> None:
        """A thought, a text and a call, each whole before the next; the usage; the end."""
        usage = {
            "prompt_tokens": 10,
            "completion_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 2},
        }
        told = [
            chunk(role="assistant", content=""),
            chunk(reasoning_content="hm"),
            chunk(content="Hel"),
            chunk(content="lo"),
            chunk(**piece(id="call_1", type="function", name="f", arguments="")),
            chunk(**piece(arguments='{"a":')),
            chunk(**piece(arguments="1}")),
            chunk("tool_calls"),
            {"id": "c1", "choices": [], "usage": usage},
        ]
        self.assertEqual(
            decoded(told),
            [
                _STARTED,
                BlockOpened(0, REASONING),
                ReasoningDelta(0, "hm"),
                BlockClosed(0),
                BlockOpened(1, TEXT),
                TextDelta(1, "Hel"),
                TextDelta(1, "lo"),
                BlockClosed(1),
                BlockOpened(2, CALL, "call_1", "f"),
                ArgumentsDelta(2, '{"a":'),
                ArgumentsDelta(2, "1}"),
                UsageReported(Usage(10, 7, 4, 1, 2)),
                BlockClosed(2),
                Finished("tool_use"),
            ],
        )

    def test_each_piece_at_once(self) -> None:
        """Nothing is held back that may be told."""
        decoder = ChatDecoder()
        for told, count in (
            (chunk(role="assistant"), 1),
            (chunk(content="a"), 2),
            (chunk(content="b"), 1),
            (chunk(**piece(id="c", name="f", arguments="{")), 3),
            (chunk("stop"), 0),
        ):
            events = decoder.record(event=b"", data=json.dumps(told).encode())
            assert events is not None
            self.assertEqual(len(events), count, told)

    def test_no_end_without_a_reason(self) -> None:
        """A stream that was cut closes nothing, whatever it says of being done."""
        events = decoded([chunk(content="half")])
        self.assertEqual(events, [_STARTED, BlockOpened(0, TEXT), TextDelta(0, "half")])
        decoder = ChatDecoder()
        self.assertEqual(decoder.record(event=b"", data=b"[DONE]"), [])
        self.assertEqual(decoder.end(), ())

    def test_text_that_goes_on_after_calls(self) -> None:
        """It is a text of its own; the calls stay open to the end."""
        events = decoded(
            [
                chunk(content="a"),
                chunk(**piece(0, id="c0", name="f")),
                chunk(content="b"),
                chunk(**piece(1, id="c1", name="g")),
                chunk(**piece(0, arguments="{}")),
                chunk("stop"),
            ]
        )
        reply = fold(events)
        told = [(block.kind, block.text) for block in reply.blocks]
        self.assertEqual(told, [(TEXT, "a"), (CALL, "{}"), (TEXT, "b"), (CALL, "{}")])
        self.assertEqual(reply.reason, "tool_use")

    def test_thoughts_of_all_vendors(self) -> None:
        """Each tells them under another name; twice in one chunk is once."""
        for delta in (
            {"reasoning_content": "hm", "reasoning": "hm"},
            {"reasoning": "hm", "reasoning_details": [{"text": "hm"}], "content": ""},
            {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
        ):
            reply = fold(decoded([chunk(**delta), chunk("stop", content="a")]))
            told = [(block.kind, block.text) for block in reply.blocks]
            self.assertEqual(told, [(REASONING, "hm"), (TEXT, "a")])

    def test_refusals(self) -> None:
        """What is refused is no text."""
        reply = fold(decoded([chunk(refusal="I "), chunk("stop", refusal="won't")]))
        self.assertEqual([(b.kind, b.text) for b in reply.blocks], [(REFUSAL, "I won't")])

    def test_sources(self) -> None:
        """They belong to the text, before it or after."""
        source = {"url": "https://a", "title": "A", "start_index": 0, "end_index": 2}
        annotation = {"type": "url_citation", "url_citation": source}
        cited = Cited(0, "https://a", "A", "", 0, 2)
        ways: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
            ({"annotations": [annotation]}, {}),
            ({}, {"content": "", "annotations": [annotation, {"type": "x"}]}),
        )
        for first, last in ways:
            told = [chunk(**first), chunk(content="Hi"), chunk("stop", **last)]
            self.assertEqual(fold(decoded(told)).blocks[0].citations, [cited])

    def test_pictures(self) -> None:
        """A block each; what is no picture of base64 is passed over."""
        odd = {"type": "image_url", "image_url": {"url": "https://a/b.png"}}
        told = [chunk(content="a"), chunk(images=[_PICTURE, odd]), chunk("stop")]
        self.assertEqual(
            decoded(told)[3:],
            [
                BlockClosed(0),
                BlockOpened(1, MEDIA),
                MediaDelta(1, "image/png", "aGk="),
                BlockClosed(1),
                Finished("end"),
            ],
        )

    def test_only_the_first_alternative(self) -> None:
        """Others are passed over, wherever they stand."""
        told = [chunk(index=1, content="x"), chunk(content="a"), chunk("length", index=1)]
        self.assertEqual(len(decoded(told)), 3)
        self.assertEqual(fold(decoded([*told, chunk("stop")])).reason, "end")

    def test_reasons(self) -> None:
        """Those of vendors, too; a reason that is not known is none."""
        for finish, wanted in (
            ("stop", "end"),
            ("length", "length"),
            ("content_filter", "filtered"),
            ("sensitive", "filtered"),
            ("model_context_window_exceeded", "context"),
            ("MAX_TOKENS", "length"),
            ("tool_calls", "end"),
            ("eos", "end"),
            ("stop_sequence", "end"),
            ("whatever", None),
            ("abort", None),
            ("null", None),
            ("", None),
            (5, None),
        ):
            reply = fold(decoded([chunk(content="a"), chunk(finish)]))  # type: ignore[arg-type]
            self.assertEqual(reply.reason, wanted, finish)

    def test_a_message_that_tells_all_again(self) -> None:
        """What the deltas told is not told twice; what they did not tell counts."""
        call = {"id": "c1", "function": {"name": "f", "arguments": "{}"}}
        message = {"content": "Hello", "reasoning_content": "hm", "tool_calls": [call]}
        last: dict[str, Any]
        for last in (
            {"message": message, "finish_reason": "stop"},
            {"message": message, "delta": {}, "finish_reason": "stop"},
        ):
            final = {"id": "c1", "choices": [last]}
            for deltas in (
                [chunk(reasoning_content="hm"), chunk(content="Hel"), chunk(content="lo")],
                [chunk(reasoning_content="hm"), chunk(content="Hello"), chunk(tool_calls=[call])],
                [chunk(role="assistant")],
            ):
                blocks = fold(decoded([*deltas, final])).blocks
                told = [(block.kind, block.text) for block in blocks]
                self.assertEqual(told, [(REASONING, "hm"), (TEXT, "Hello"), (CALL, "{}")])
        pieces = [{"id": "c1", "choices": [{"message": {"content": each}}]} for each in "abc"]
        reply = fold(decoded([*pieces, chunk("stop")]))
        self.assertEqual([block.text for block in reply.blocks], ["abc"])

    def test_a_reason_is_not_taken_back(self) -> None:
        """Some say "stop" once more at the very end."""
        told = [chunk("length", content="a"), chunk("stop")]
        self.assertEqual(fold(decoded(told)).reason, "length")

    def test_usage_of_all_vendors(self) -> None:
        """Wherever it stands and however it is called; what is told again is not news."""
        for usage, wanted in (
            ({"prompt_tokens": 8, "completion_tokens": 3, "cached_tokens": 6}, Usage(8, 3, 6)),
            ({"prompt_tokens": 8, "prompt_cache_hit_tokens": 6}, Usage(8, None, 6)),
            (
                {"prompt_tokens": 8, "prompt_tokens_details": {"cache_creation_input_tokens": 6}},
                Usage(8, cache_write=6),
            ),
        ):
            within = chunk(content="a")
            within["choices"][0]["usage"] = usage
            for told in ([within], [chunk(content="a"), {"choices": [], "usage": usage}] * 2):
                events = decoded(told)
                reports = [each for each in events if isinstance(each, UsageReported)]
                self.assertEqual(reports, [UsageReported(wanted)])
        self.assertEqual(decoded([{**chunk(), "usage": {}}]), [_STARTED])

    def test_golden(self) -> None:
        """However the bytes arrive, the events are the same."""
        for name, wanted in (
            ("plain.sse", "Grüße a\u2028b\x85 😀"),
            ("moonshot_usage.sse", "hi"),
            ("two_choices.sse", "a"),
        ):
            sent = stream("openai_chat", name)
            before = decoded(sent)
            reply = fold(before)
            self.assertEqual([block.text for block in reply.blocks], [wanted])
            self.assertEqual(reply.reason, "end")
            for pieces in splits(sent):
                framer, decoder, events = SSEFramer(), ChatDecoder(), list[Event]()
                for record in (each for data in pieces for each in framer.feed(data)):
                    if not record.comment:
                        found = decoder.record(event=record.event, data=record.data)
                        assert found is not None
                        events += found
                self.assertEqual([*events, *decoder.end()], before)
        tools = fold(decoded(stream("openai_chat", "tools_crlf.sse")))
        self.assertEqual([block.text for block in tools.blocks], ["hm", '{"a":1}'])
        self.assertIsNone(fold(decoded(stream("openai_chat", "never_finished.sse"))).reason)


class WholeTests(SynchronousTestCase):
    """Answers that are no streams."""

    def test_everything(self) -> None:
        """In the order in which a stream would tell it."""
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
        source = {"type": "url_citation", "url_citation": {"url": "https://a"}}
        answer = completion(
            "tool_calls",
            content="a",
            reasoning_content="hm",
            refusal="no",
            annotations=[source],
            images=[_PICTURE],
            tool_calls=[call, {**call, "id": None}, {"function": {}}],
            audio={"id": "a1", "data": "aGk="},
        )
        answer["usage"] = {"prompt_tokens": 1, "completion_tokens": 2}
        events = _whole(answer)
        reply = fold(events)
        made = reply.blocks[-1].id
        self.assertRegex(made, "^call_[0-9a-f]{24}$")
        self.assertEqual(
            [(block.kind, block.text, block.id) for block in reply.blocks],
            [
                (REASONING, "hm", ""),
                (TEXT, "a", ""),
                (REFUSAL, "no", ""),
                (MEDIA, "", ""),
                (CALL, "{}", "c1"),
                (CALL, "{}", made),
            ],
        )
        self.assertEqual(reply.blocks[1].citations, [Cited(1, "https://a")])
        self.assertEqual((reply.usage, reply.reason), (Usage(1, 2), "tool_use"))
        self.assertEqual(events[0], _STARTED)

    def test_a_stream_says_what_a_whole_answer_says(self) -> None:
        """Once it is put together."""
        usage = Usage(input=9, output=5, cached=2, reasoning=3)
        tools = (Call("c1", "f", '{"a":1}'), Call("c2", "g", "{}"))
        streamed = chat_chunks(["Hel", "lo"], "tool_calls", usage, thinking=["h", "m"], tools=tools)
        whole = chat_body("Hello", "tool_calls", usage, thinking="hm", tools=tools)
        events = ChatDecoder().whole(body=whole)
        assert events is not None
        self.assertEqual(_plain(fold(decoded(b"".join(streamed)))), _plain(fold(events)))

    def test_without_a_reason(self) -> None:
        """It is not taken for a whole one: none is invented."""
        body = json.dumps(completion(None, content="a")).encode()
        self.assertIsNone(ChatDecoder().whole(body=body))

    def test_no_answer(self) -> None:
        """What holds no alternative is none; neither is what is cut."""
        for body in (b"{}", b'{"choices":[]}', b'{"detail":"no"}', b"[]", b'{"choices":[{"ind'):
            self.assertIsNone(ChatDecoder().whole(body=body), body)


def _plain(reply: Reply) -> Any:
    blocks = [(b.kind, b.id, b.name, b.text, b.closed) for b in reply.blocks]
    return blocks, reply.usage, reply.reason
