"""Chat Completions: what an upstream answers, read into events."""

from __future__ import annotations

import json
from random import Random
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
    Failed,
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
from aiclient2api.errors import Fault
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


def _failure(events: list[Event]) -> tuple[Fault, int, str]:
    failed = events[-1]
    assert isinstance(failed, Failed)
    fold(events)
    error = failed.error
    return error.fault, error.status, error.message


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
        """Those of vendors, too; a reason that is not known is an end."""
        for finish, wanted in (
            ("stop", "end"),
            ("length", "length"),
            ("content_filter", "filtered"),
            ("sensitive", "filtered"),
            ("model_context_window_exceeded", "context"),
            ("MAX_TOKENS", "length"),
            ("tool_calls", "end"),
            ("whatever", "end"),
            (5, "end"),
        ):
            reply = fold(decoded([chunk(content="a"), chunk(finish)]))  # type: ignore[arg-type]
            self.assertEqual(reply.reason, wanted, finish)

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
            tool_calls=[call, {**call, "id": None}, {"id": "c3", "function": {}}],
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


class ErrorTests(SynchronousTestCase):
    """What an upstream says went wrong."""

    def test_in_mid_stream(self) -> None:
        """It is the last event, and nothing after it counts."""
        events = decoded(stream("openai_chat", "error_midway.sse"))
        wanted = (Fault.CAPACITY, 503, "The engine is overloaded.")
        self.assertEqual(_failure(events), wanted)
        self.assertIn(TextDelta(0, "half"), events)
        events = decoded([chunk(content="a"), {"error": "no"}, chunk(content="b"), chunk("stop")])
        self.assertEqual(_failure(events)[2], "no")

    def test_at_once(self) -> None:
        """An upstream may fail before it has begun."""
        events = decoded(stream("openai_chat", "error_first.sse"))
        self.assertEqual(len(events), 1)
        self.assertEqual(_failure(events), (Fault.RATE_LIMIT, 429, "Slow down."))

    def test_forms(self) -> None:
        """An object, a text, a number for a code, fields beside it, an event's name."""
        for told, wanted in (
            ({"error": {"message": "no", "code": 429}}, (Fault.RATE_LIMIT, 429, "no")),
            ({"error": "no"}, (Fault.SERVER, 502, "no")),
            (
                {"object": "error", "message": "no", "code": "context_length_exceeded"},
                (Fault.CONTEXT, 400, "no"),
            ),
        ):
            self.assertEqual(_failure(decoded([told])), wanted)
            self.assertEqual(_failure(_whole(told)), wanted)
        for data in (b"no JSON", b'{"message":"no"}'):
            events = ChatDecoder().record(event=b"error", data=data)
            assert events is not None
            self.assertIsInstance(events[0], Failed)

    def test_an_answer_that_broke_off(self) -> None:
        """It names a reason to finish that is none."""
        for reason in ("error", "network_error", "insufficient_system_resource"):
            events = decoded([chunk(content="a"), chunk(reason)])
            self.assertEqual(_failure(events)[:2], (Fault.SERVER, 502))
            self.assertEqual(_failure(_whole(completion(reason, content="a")))[1], 502)
        told = chunk("error")
        told["choices"][0]["error"] = {"message": "no", "code": 503}
        self.assertEqual(_failure(decoded([told])), (Fault.CAPACITY, 503, "no"))


class OddTests(SynchronousTestCase):
    """Records nobody should send."""

    def test_no_json(self) -> None:
        """It is not taken for nothing."""
        decoder = ChatDecoder()
        for data in (b'{"choices": [', b"oops", b"\xff"):
            self.assertIsNone(decoder.record(event=b"", data=data), data)

    def test_json_of_no_form(self) -> None:
        """It says nothing, and what stands beside it counts all the same."""
        decoder = ChatDecoder()
        for data in (b"null", b"5", b'"x"', b"[]", b"{}", b"", b'{"choices":5}'):
            self.assertEqual(decoder.record(event=b"", data=data), [], data)
        for told in (
            {"choices": [5, {"delta": {"content": "a"}, "finish_reason": "stop"}]},
            {"choices": {"index": "0", "delta": {"content": "a"}, "finish_reason": "stop"}},
            {
                "choices": [
                    {
                        "delta": {"content": "a", "tool_calls": [5, {"function": 5}]},
                        "finish_reason": "stop",
                    }
                ]
            },
        ):
            reply = fold(decoded([told]))
            texts = [block.text for block in reply.blocks]
            self.assertEqual((texts, reply.reason), (["a"], "end"), told)

    def test_text_that_is_none(self) -> None:
        """Half a character is replaced; so are bytes that are no UTF-8."""
        for data in (
            b'{"choices":[{"delta":{"content":"\\ud83d"}}]}',
            b'{"choices":[{"delta":{"content":"\xff"}}]}',
        ):
            decoder = ChatDecoder()
            for index in range(2):
                events = decoder.record(event=b"", data=data)
                assert events is not None
                self.assertEqual(events[-1], TextDelta(0, "\ufffd"), index)

    def test_any_records_obey_the_law(self) -> None:
        """Whatever is sent, nobody downstream has to be on guard."""
        random = Random(4)
        for _ in range(300):
            events = decoded([_odd(random, 0) for _ in range(6)])
            fold(events)
            whole = ChatDecoder().whole(body=json.dumps(_odd(random, 0)).encode())
            fold(whole or [Started()])

    def test_what_comes_beside_a_text_is_not_overlooked(self) -> None:
        """However used one is to texts alone."""
        begun = [chunk(content="a"), chunk(content="b")]
        usage = {"prompt_tokens": 1}
        for told, kind in (
            (chunk("stop", content="c"), TextDelta),
            ({**chunk(content="c"), "usage": usage}, UsageReported),
            ({**chunk(content="c"), "error": {"message": "no"}}, Failed),
            (chunk(content="c", reasoning_content="hm"), ReasoningDelta),
            (chunk(content="c", **piece(id="c1", name="f")), BlockOpened),
            (chunk(content="c", images=[_PICTURE]), MediaDelta),
            (chunk(content="c", refusal="no"), BlockClosed),
        ):
            events = decoded([*begun, told], ends=False)[4:]
            self.assertIn(kind, [type(each) for each in events], told)
        events = decoded([*begun, chunk(index=1, content="x")])
        self.assertEqual(len(events), 4)


_KEYS = (
    *("id", "model", "choices", "usage", "index", "delta", "message", "finish_reason"),
    *("content", "reasoning_content", "refusal", "tool_calls", "function_call", "annotations"),
    *("images", "function", "custom", "name", "arguments", "input", "extra_content", "google"),
    *("thought_signature", "type", "text", "url_citation", "url", "image_url", "prompt_tokens"),
)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    1,
    -1,
    1.5,
    1e300,
    10**30,
    "",
    "x",
    "stop",
    "{}",
    "\ud800",
    [],
    {},
)
_FORM: dict[str, Any] = {
    "id": "c1",
    "choices": [
        {
            "index": 0,
            "delta": {
                "content": "a",
                "reasoning_content": "hm",
                "refusal": "no",
                "tool_calls": [
                    {
                        "index": 0,
                        "id": "c1",
                        "function": {"name": "f", "arguments": "{"},
                        "extra_content": {"google": {"thought_signature": "AAAA"}},
                    },
                    {"index": 1, "function": {"name": "g"}},
                ],
                "function_call": {"name": "h"},
                "annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}],
                "images": [_PICTURE],
            },
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1},
}


def _odd(random: Random, depth: int, form: Any = _FORM) -> Any:
    """Return something that is like *form*, but for what is missing or of another type."""
    if random.random() < 0.12 and depth:
        return random.choice(_VALUES)
    if isinstance(form, dict):
        told = {
            key: _odd(random, depth + 1, each)
            for key, each in form.items()
            if random.random() < 0.7
        }
        if random.random() < 0.1:
            told[random.choice(_KEYS)] = random.choice(_VALUES)
        return told
    if isinstance(form, list):
        return [_odd(random, depth + 1, each) for each in form]
    return form


def _plain(reply: Reply) -> Any:
    blocks = [(b.kind, b.id, b.name, b.text, b.closed) for b in reply.blocks]
    return blocks, reply.usage, reply.reason
