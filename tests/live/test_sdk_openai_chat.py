"""
The ``openai`` library's Chat Completions, through the gateway to an upstream of its kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import openai

from aiclient2api.testing import chat_body, chat_chunks, json_reply, sse_reply
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
    expected,
    seen_call,
)
from tests.live.sdk_openai import OpenAILibrary

_USER = {"role": "user", "content": "Wie geht es dir? 你好 😀"}
_TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
_PLAIN = {"model": MODEL, "messages": [_USER]}
_IMAGE = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}},
]


class ChatSdk(OpenAILibrary, Sdk):
    """The table; see `tests.live.sdk.Sdk`."""

    provider = "openai-custom"
    id = "chatcmpl-test"
    bases = ("/v1", "/openai-custom/v1")
    finish = {
        "stop": "stop",
        "tools": "tool_calls",
        "short": "length",
        "filtered": "content_filter",
    }
    untold = frozenset({"cache_write"})
    handshake = 1
    tail = 3
    midway = openai.APIError
    asked = {
        "plain": _PLAIN,
        "thinking": {**_PLAIN, "reasoning_effort": "high"},
        "tools": {**_PLAIN, "tools": _TOOLS},
        "text and tools": {**_PLAIN, "tools": _TOOLS, "parallel_tool_calls": True},
        "image": {"model": MODEL, "messages": [{"role": "user", "content": _IMAGE}]},
        "short": {**_PLAIN, "max_completion_tokens": 2},
    }

    def frames(self, answer: Answer) -> list[bytes]:
        """Return *answer* as a stream."""
        return chat_chunks(
            answer.pieces,
            self.finish[answer.finish],
            answer.usage,
            thinking=answer.thinking,
            tools=answer.tools,
        )

    def body(self, answer: Answer) -> bytes:
        """Return *answer* whole."""
        return chat_body(
            "".join(answer.pieces),
            self.finish[answer.finish],
            answer.usage,
            thinking="".join(answer.thinking) or None,
            tools=answer.tools,
        )

    def error_frame(self, status: int, message: str) -> bytes:
        """Return the record that tells of an error in a stream."""
        return b"data: " + msgspec.json.encode(self.error(status, message)) + b"\n\n"

    def whole(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a whole answer."""
        return client.chat.completions.create(**asked)

    def stream(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a stream, and for its count of tokens."""
        counted = {"include_usage": True}
        return client.chat.completions.create(**asked, stream=True, stream_options=counted)

    def gathered(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a stream and return the completion the library makes of it."""
        with client.chat.completions.stream(
            **asked, stream_options={"include_usage": True}
        ) as stream:
            try:
                return stream.get_final_completion()
            except openai.LengthFinishReasonError as short:
                return short.completion

    def read(self, reply: Any) -> Seen:
        """Read a completion."""
        (choice,) = reply.choices
        message = choice.message
        return Seen(
            id=reply.id,
            model=reply.model,
            text=message.content or "",
            finish=choice.finish_reason,
            usage=_usage(reply.usage),
            thinking=getattr(message, "reasoning_content", None) or "",
            calls=tuple(
                seen_call(call.id, call.function.name, call.function.arguments)
                for call in message.tool_calls or ()
            ),
        )

    def fold(self, events: Sequence[Any]) -> Seen:
        """Read all chunks."""
        ((id, model),) = {(chunk.id, chunk.model) for chunk in events}
        choices = [choice for chunk in events for choice in chunk.choices]
        (finish,) = [choice.finish_reason for choice in choices if choice.finish_reason]
        (usage,) = [chunk.usage for chunk in events if chunk.usage]
        calls: dict[int, list[Any]] = {}
        for choice in choices:
            for told in choice.delta.tool_calls or ():
                call = calls.setdefault(told.index, [told.id, told.function.name, ""])
                call[2] += told.function.arguments
        return Seen(
            id=id,
            model=model,
            text=self.text(events),
            finish=finish,
            usage=_usage(usage),
            thinking="".join(
                getattr(choice.delta, "reasoning_content", None) or "" for choice in choices
            ),
            calls=tuple(seen_call(*calls[index]) for index in sorted(calls)),
        )

    def text(self, events: Sequence[Any]) -> str:
        """Return the text in some chunks."""
        deltas = [choice.delta for chunk in events for choice in chunk.choices]
        return "".join(delta.content or "" for delta in deltas)

    def ended(self, events: Sequence[Any]) -> bool:
        """Say whether a chunk told why the answer ended."""
        return any(choice.finish_reason for chunk in events for choice in chunk.choices)

    def troubles(self, events: Sequence[Any]) -> str:
        """Return nothing: iterating raises."""
        raise NotImplementedError

    def follow_up(
        self, asked: Mapping[str, Any], reply: Any, results: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Return what to ask next: the message itself goes back, then each result."""
        message = reply.choices[0].message
        told = [
            {"role": "tool", "tool_call_id": call.id, "content": results[call.id]}
            for call in message.tool_calls
        ]
        return {**asked, "messages": [*asked["messages"], message, *told]}

    def parsed(self, client: Any) -> Iterator[Weather]:
        """Ask for `Weather`, whole and as a stream."""
        completions = client.chat.completions
        yield completions.parse(**_PLAIN, response_format=Weather).choices[0].message.parsed
        with completions.stream(**_PLAIN, response_format=Weather) as stream:
            yield stream.get_final_completion().choices[0].message.parsed


def _usage(told: Any) -> Usage:
    return Usage(
        input=told.prompt_tokens,
        output=told.completion_tokens,
        cached=told.prompt_tokens_details.cached_tokens,
        reasoning=told.completion_tokens_details.reasoning_tokens,
    )


class ChatCellsTests(sdk_cells.SdkCells):
    """Every cell of the matrix."""

    sdk = ChatSdk()


class ChatOnlyTests(sdk_case.SdkCase):
    """What only Chat Completions has."""

    sdk = ChatSdk()

    async def test_an_end_without_done(self) -> None:
        """A stream that told its finish reason is whole without ``[DONE]``."""
        gateway, _ = await self.start()
        self.answering(gateway, sse_reply(self.sdk.frames(PLAIN)[:-1]))
        events, error = await self.call(self.drain, self.client(gateway), _PLAIN)
        self.assertIsNone(error)
        self.assertEqual(expected(self.sdk, PLAIN), self.sdk.fold(events))

    async def test_done_without_an_end(self) -> None:
        """``[DONE]`` alone proves nothing: without a finish reason it is an error."""
        gateway, _ = await self.start()
        frames = self.sdk.frames(PLAIN)
        self.answering(gateway, sse_reply([*frames[:3], frames[-1]]))
        events, error = await self.call(self.drain, self.client(gateway), _PLAIN)
        self.assertIsInstance(error, openai.APIError)
        self.assertFalse(self.sdk.ended(events))

    async def test_what_the_exception_knows(self) -> None:
        """Code, type, request id and our own id can be read from the exception."""
        gateway, _ = await self.start()
        refusal = json_reply(429, self.sdk.error(429, "Slow."), ((b"x-request-id", b"req_test"),))
        self.answering(gateway, refusal)
        error: Any = await self.call(self.refusal, self.sdk.whole, self.client(gateway))
        self.assertEqual("rate_limit_exceeded", error.code)
        self.assertEqual("rate_limit_error", error.type)
        self.assertEqual("req_test", error.request_id)
        self.assertEqual(32, len(error.response.headers["x-aiclient2api-request-id"]))
