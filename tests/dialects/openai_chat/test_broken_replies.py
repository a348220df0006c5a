"""Chat Completions: answers that fail, break off, or are of no known form."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.events import (
    BlockClosed,
    BlockOpened,
    Event,
    Failed,
    MediaDelta,
    ReasoningDelta,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.grammar import fold
from aiclient2api.dialects.openai_chat.read_reply import ChatDecoder
from aiclient2api.errors import Fault
from tests.dialects.openai_chat.judge import chunk, completion, decoded, piece
from tests.streams import stream

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
        for word in ("abort", "cancelled", "timeout", "interrupted", "incomplete", "whatever", 5):
            for events in (
                decoded([chunk(content="a"), chunk(word)]),  # type: ignore[arg-type]
                _whole(completion(word, content="a")),  # type: ignore[arg-type]
            ):
                fault, status, message = _failure(events)
                self.assertEqual((fault, status), (Fault.SERVER, 502))
                self.assertIn(repr(str(word)), message)
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
