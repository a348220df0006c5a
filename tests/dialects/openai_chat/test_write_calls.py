"""Chat Completions: calls and errors, as a client is told them."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.events import (
    CALL,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Event,
    Finished,
    Sealed,
    Started,
)
from aiclient2api.conversation.seals import Seal, carried
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.openai_chat.request import NAME
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from tests.dialects.openai_chat.judge import (
    chunks,
    deltas,
    encoded,
    replied,
)

_SEAL = Seal("gemini", "AAAA")
_CARRIED = {"google": {"thought_signature": carried(_SEAL, NAME)}}
_STARTED = Started("resp_r1", "gemini-3", 7)


class CallTests(SynchronousTestCase):
    """Calls in the form in which the client offered the tool."""

    def test_a_seal_of_a_tool_with_free_text(self) -> None:
        """It stands in a piece of the call's own form."""
        events: list[Event] = [*self._EVENTS[:2], Sealed(0, _SEAL), *self._EVENTS[2:]]
        tools = [{"type": "custom", "custom": {"name": "f"}}]
        (call,) = deltas(encoded(events, tools=tools))[2]["tool_calls"]
        self.assertEqual(call, {"index": 0, "custom": {"input": ""}, "extra_content": _CARRIED})
        call, _ = replied(events, tools=tools)["choices"][0]["message"]["tool_calls"]
        self.assertEqual(call["extra_content"], _CARRIED)

    _EVENTS: tuple[Event, ...] = (
        _STARTED,
        BlockOpened(0, CALL, "c1", "f"),
        ArgumentsDelta(0, '{"in'),
        ArgumentsDelta(0, 'put":"a\\"b"}'),
        BlockClosed(0),
        BlockOpened(1, CALL, "c2", "f"),
        BlockClosed(1),
        Finished("tool_use"),
    )

    def test_tools_with_free_text(self) -> None:
        """They are called with a text, once it is whole."""
        tools = [{"type": "custom", "custom": {"name": "f"}}]
        told = [each["tool_calls"][0] for each in deltas(encoded(self._EVENTS, tools=tools))[1:-1]]
        opened = {"type": "custom", "custom": {"name": "f", "input": ""}}
        self.assertEqual(
            told,
            [
                {"index": 0, "id": "c1", **opened},
                {"index": 0, "custom": {"input": 'a"b'}},
                {"index": 1, "id": "c2", **opened},
                {"index": 1, "custom": {"input": "{}"}},
            ],
        )
        calls = replied(self._EVENTS, tools=tools)["choices"][0]["message"]["tool_calls"]
        custom = {"name": "f", "input": 'a"b'}
        self.assertEqual(calls[0], {"id": "c1", "type": "custom", "custom": custom})

    def test_a_call_that_was_cut_before_its_arguments(self) -> None:
        """It must not look as if it could be run."""
        tools = [{"type": "custom", "custom": {"name": "f"}}]
        for reason, bare in (("length", ""), ("context", ""), ("filtered", ""), ("tool_use", "{}")):
            events: list[Event] = [
                _STARTED,
                BlockOpened(0, CALL, "c1", "f"),
                BlockClosed(0),
                BlockOpened(1, CALL, "c2", "g"),
                ArgumentsDelta(1, "{}"),
                BlockClosed(1),
                Finished(reason),
            ]
            (choice,) = replied(events)["choices"]
            calls = choice["message"]["tool_calls"]
            given = [call["function"]["arguments"] for call in calls]
            self.assertEqual(given, [bare, "{}"], reason)
            told = ["", ""]
            for delta in deltas(encoded(events)):
                for call in delta.get("tool_calls", ()):
                    told[call["index"]] += call["function"]["arguments"]
            self.assertEqual(told, [bare, "{}"], reason)
            (call, _) = replied(events, tools=tools)["choices"][0]["message"]["tool_calls"]
            self.assertEqual(call["custom"]["input"], bare)

    def test_functions_of_old(self) -> None:
        """They are called in the old way, of which there is but one an answer."""
        asked = {"functions": [{"name": "f", "parameters": {}}]}
        stream = encoded(self._EVENTS, **asked)
        given = '{"input":"a\\"b"}'
        self.assertEqual(
            deltas(stream)[1:],
            [
                {"function_call": {"name": "f", "arguments": ""}},
                {"function_call": {"arguments": '{"in'}},
                {"function_call": {"arguments": 'put":"a\\"b"}'}},
                {},
            ],
        )
        (*_, last) = chunks(stream)
        self.assertEqual(last["choices"][0]["finish_reason"], "function_call")
        (choice,) = replied(self._EVENTS, **asked)["choices"]
        self.assertEqual(choice["finish_reason"], "function_call")
        self.assertEqual(choice["message"]["function_call"], {"name": "f", "arguments": given})
        self.assertNotIn("tool_calls", choice["message"])


class ErrorTests(SynchronousTestCase):
    """Errors as bodies."""

    def test_a_conversation_that_is_too_long(self) -> None:
        """Clients know the code, whoever said it in which words."""
        error = UpstreamError(
            "prompt is too long: 9 tokens > 8 maximum",
            fault=Fault.CONTEXT,
            status=413,
            code="invalid_request_error",
        )
        status, body = OPENAI_CHAT.render_error(error)
        told = json.loads(body)["error"]
        self.assertEqual(status, 400)
        self.assertEqual(told["code"], "context_length_exceeded")
        self.assertEqual(told["type"], "invalid_request_error")
        self.assertIn("9 tokens", told["message"])

    def test_another_error(self) -> None:
        """It keeps its status and its code."""
        status, body = OPENAI_CHAT.render_error(InvalidRequest("No.", code="c", param="p"))
        told = {"message": "No.", "type": "invalid_request_error", "param": "p", "code": "c"}
        self.assertEqual((status, json.loads(body)), (400, {"error": told}))
