"""
The ``openai`` library's Responses, through the gateway to an upstream of its kind.

Iterating over the raw events of a response raises on neither ``error`` nor
``response.failed``: what proves an answer whole is ``response.completed``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from aiclient2api.testing import responses_body, responses_events, sse_reply
from aiclient2api.values import Usage
from tests.live import sdk_case, sdk_cells
from tests.live.sdk import (
    IMAGE,
    MODEL,
    PLAIN,
    WEATHER,
    Answer,
    Sdk,
    Seen,
    Weather,
    seen_call,
)
from tests.live.sdk_openai import CODES, OpenAILibrary

_PLAIN = {"model": MODEL, "input": [{"role": "user", "content": "Wie geht es dir? 你好 😀"}]}
_TOOLS = [{"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False}]
_IMAGE = [
    {"type": "input_text", "text": "What is this?"},
    {
        "type": "input_image",
        "image_url": f"data:image/png;base64,{IMAGE}",
        "detail": "auto",
    },
]
_ENDS = ("response.completed", "response.incomplete")
_ENDINGS = {"filtered": "content_filter"}


class ResponsesSdk(OpenAILibrary, Sdk):
    """The table; see `tests.live.sdk.Sdk`."""

    provider = "openaiResponses-custom"
    id = "resp_test"
    bases = ("/v1", "/openaiResponses-custom/v1")
    finish = {
        "stop": "completed",
        "tools": "completed",
        "short": "incomplete",
        "filtered": "incomplete",
    }
    untold = frozenset({"cache_write"})
    handshake = 2
    tail = 1
    midway = None
    asked = {
        "plain": _PLAIN,
        "thinking": {**_PLAIN, "reasoning": {"effort": "high", "summary": "auto"}},
        "tools": {**_PLAIN, "tools": _TOOLS, "store": False},
        "text and tools": {**_PLAIN, "tools": _TOOLS, "parallel_tool_calls": True},
        "image": {"model": MODEL, "input": [{"role": "user", "content": _IMAGE}]},
        "short": {**_PLAIN, "max_output_tokens": 16},
    }

    def frames(self, answer: Answer) -> list[bytes]:
        """Return *answer* as a stream."""
        return responses_events(
            answer.pieces,
            _ENDINGS.get(answer.finish, self.finish[answer.finish]),
            answer.usage,
            thinking=answer.thinking,
            tools=answer.tools,
        )

    def body(self, answer: Answer) -> bytes:
        """Return *answer* whole."""
        return responses_body(
            "".join(answer.pieces),
            _ENDINGS.get(answer.finish, self.finish[answer.finish]),
            answer.usage,
            thinking="".join(answer.thinking),
            tools=answer.tools,
        )

    def error_frame(self, status: int, message: str) -> bytes:
        """Return the record that tells of an error in a stream."""
        kind, code = CODES[status]
        told = {"type": "error", "code": code or kind, "message": message, "param": None}
        return b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n"

    def whole(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a whole response."""
        return client.responses.create(**asked)

    def stream(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a stream."""
        return client.responses.create(**asked, stream=True)

    def gathered(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a stream and return the response it ends with."""
        with client.responses.stream(**asked) as stream:
            for event in stream:
                if event.type in _ENDS:
                    return event.response
        raise AssertionError("the response was never completed")

    def read(self, reply: Any) -> Seen:
        """Read a response."""
        thoughts = [item for item in reply.output if item.type == "reasoning"]
        return Seen(
            id=reply.id,
            model=reply.model,
            text=reply.output_text,
            finish=reply.status,
            usage=Usage(
                input=reply.usage.input_tokens,
                output=reply.usage.output_tokens,
                cached=reply.usage.input_tokens_details.cached_tokens,
                reasoning=reply.usage.output_tokens_details.reasoning_tokens,
            ),
            thinking="".join(part.text for item in thoughts for part in item.summary),
            calls=tuple(
                seen_call(item.call_id, item.name, item.arguments)
                for item in reply.output
                if item.type == "function_call"
            ),
        )

    def fold(self, events: Sequence[Any]) -> Seen:
        """Read all events: the deltas must say what the last response says."""
        (last,) = [event.response for event in events if event.type in _ENDS]
        seen = self.read(last)
        assert seen.text == self.text(events)
        assert seen.thinking == _deltas(events, "response.reasoning_summary_text.delta")
        assert [event.sequence_number for event in events] == list(range(len(events)))
        done = [each for each in events if each.type == "response.function_call_arguments.done"]
        assert [event.item_id for event in done] == [
            item.id for item in last.output if item.type == "function_call"
        ]
        return seen

    def text(self, events: Sequence[Any]) -> str:
        """Return the text in some events."""
        return _deltas(events, "response.output_text.delta")

    def ended(self, events: Sequence[Any]) -> bool:
        """Say whether the response was completed."""
        return any(event.type in _ENDS for event in events)

    def troubles(self, events: Sequence[Any]) -> str:
        """Return the message of the error, or of the failed response."""
        for event in events:
            if event.type == "error":
                return str(event.message)
            if event.type == "response.failed":
                return str(event.response.error.message)
        return ""

    def follow_up(
        self, asked: Mapping[str, Any], reply: Any, results: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Return what to ask next: all output goes back, then each result."""
        told = [
            {
                "type": "function_call_output",
                "call_id": item.call_id,
                "output": results[item.call_id],
            }
            for item in reply.output
            if item.type == "function_call"
        ]
        return {**asked, "input": [*asked["input"], *reply.output, *told]}

    def parsed(self, client: Any) -> Iterator[Weather]:
        """Ask for `Weather`, whole and as a stream."""
        yield client.responses.parse(**_PLAIN, text_format=Weather).output_parsed
        with client.responses.stream(**_PLAIN, text_format=Weather) as stream:
            yield stream.get_final_response().output_parsed


def _deltas(events: Sequence[Any], kind: str) -> str:
    return "".join(event.delta for event in events if event.type == kind)


class ResponsesCellsTests(sdk_cells.SdkCells):
    """Every cell of the matrix."""

    sdk = ResponsesSdk()


class ResponsesOnlyTests(sdk_case.SdkCase):
    """What only Responses has: an answer that says of itself that it failed."""

    sdk = ResponsesSdk()

    async def test_failed_before_anything_was_said(self) -> None:
        """``response.failed`` first has a status of its own, not 200."""
        gateway, _ = await self.start()
        self.answering(gateway, sse_reply([*self._begun(0), self._failed()]))
        error = await self.call(self.refusal, self.sdk.stream, self.client(gateway))
        self.assertIsInstance(error, self.sdk.refusals[429])
        self.assertIn("Upstream says 429.", str(error))

    async def test_failed_in_mid_stream(self) -> None:
        """``response.failed`` later arrives as it is, and nothing after it."""
        gateway, _ = await self.start()
        rest = self.sdk.frames(PLAIN)[-1:]
        self.answering(gateway, sse_reply([*self._begun(4), self._failed(), *rest]))
        events, error = await self.call(self.drain, self.client(gateway), _PLAIN)
        self.assertIsNone(error)
        self.assertEqual("response.failed", events[-1].type)
        self.assertEqual("Upstream says 429.", self.sdk.troubles(events))
        self.assertEqual("rate_limit_exceeded", events[-1].response.error.code)

    def _begun(self, more: int) -> list[bytes]:
        return self.sdk.frames(PLAIN)[: self.sdk.handshake + more]

    def _failed(self) -> bytes:
        last = self.sdk.frames(PLAIN)[-1].partition(b"data: ")[2]
        told = {"code": "rate_limit_exceeded", "message": "Upstream says 429."}
        event = msgspec.json.decode(last)
        event["type"] = "response.failed"
        event["response"].update(status="failed", error=told, output=[], usage=None)
        return b"event: response.failed\ndata: " + msgspec.json.encode(event) + b"\n\n"
