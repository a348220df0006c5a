"""
Answers made for tests are what the official SDKs expect of the real services.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from anthropic.types import Message, RawMessageStreamEvent
from google.genai.types import GenerateContentResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.testing import (
    Call,
    chat_body,
    chat_chunks,
    gemini_array,
    gemini_body,
    gemini_chunks,
    messages_body,
    messages_events,
    responses_body,
    responses_events,
)
from aiclient2api.values import Usage


def unknown_fields(value: object) -> Iterator[str]:
    """Name the fields in a validated SDK model that the SDK does not know."""
    if isinstance(value, BaseModel):
        yield from value.model_extra or ()
        for _, child in value:
            yield from unknown_fields(child)
    elif isinstance(value, list):
        for child in value:
            yield from unknown_fields(child)


def records(frames: list[bytes]) -> list[Any]:
    """Decode the data of each frame but ``[DONE]``."""
    data = [frame.split(b"data: ", 1)[1].strip() for frame in frames]
    return [json.loads(each) for each in data if each != b"[DONE]"]


class StreamTests(SynchronousTestCase):
    """The answers of `aiclient2api.testing.streams`, judged by the official SDKs' models."""

    usage = Usage(input=10, output=5, cached=4, cache_write=1, reasoning=2)
    call = Call("call_1", "weather", '{"city":"Köln"}')

    def validated(self, kind: Any, value: Any, extensions: set[str] | None = None) -> Any:
        """Return *value* as the SDK's model; it may hold no field the SDK doesn't know."""
        model = TypeAdapter(kind).validate_python(value)
        self.assertEqual(set(unknown_fields(model)) - (extensions or set()), set())
        return model

    def test_chat(self) -> None:
        """Chat streams and answers are what the OpenAI SDK expects."""
        frames = chat_chunks(
            ["Hel", "lo"], usage=self.usage, thinking=["hm"], tools=[self.call], finish="tool_calls"
        )
        chunks = [
            self.validated(ChatCompletionChunk, each, {"reasoning_content"})
            for each in records(frames)
        ]
        deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
        self.assertEqual("".join(delta.content or "" for delta in deltas), "Hello")
        calls = [call for delta in deltas for call in delta.tool_calls or ()]
        arguments = "".join(call.function.arguments for call in calls)
        self.assertEqual((calls[0].id, arguments), ("call_1", self.call.arguments))
        self.assertEqual(chunks[-2].choices[0].finish_reason, "tool_calls")
        self.assertEqual(chunks[-1].usage.total_tokens, 15)
        self.assertEqual(frames[-1], b"data: [DONE]\n\n")

        body = chat_body("", "tool_calls", self.usage, thinking="hm", tools=[self.call])
        whole = self.validated(ChatCompletion, json.loads(body), {"reasoning_content"})
        self.assertIsNone(whole.choices[0].message.content)
        self.assertEqual(whole.choices[0].message.tool_calls[0].function.name, "weather")

    def test_responses(self) -> None:
        """Responses streams and answers are what the OpenAI SDK expects."""
        frames = responses_events(
            ["Hel", "lo"], usage=self.usage, thinking=["h", "m"], tools=[self.call]
        )
        # The API sends a call's name with its finished arguments; the SDK doesn't know.
        events = [self.validated(ResponseStreamEvent, each, {"name"}) for each in records(frames)]
        self.assertEqual([each.sequence_number for each in events], list(range(len(events))))
        named = [frame.split(b"\n")[0].removeprefix(b"event: ").decode() for frame in frames]
        self.assertEqual([each.type for each in events], named)
        deltas = [each.delta for each in events if each.type == "response.output_text.delta"]
        self.assertEqual(deltas, ["Hel", "lo"])
        final = events[-1].response
        self.assertEqual((final.status, final.output_text), ("completed", "Hello"))
        done = [each.item for each in events if each.type == "response.output_item.done"]
        self.assertEqual(done, final.output)

        body = responses_body("Hello", "incomplete", self.usage, thinking="hm", tools=[self.call])
        whole = self.validated(Response, json.loads(body))
        self.assertEqual((whole.status, whole.output_text), ("incomplete", "Hello"))
        self.assertEqual(whole.usage.total_tokens, 15)

    def test_messages(self) -> None:
        """Messages streams and answers are what the Anthropic SDK expects."""
        frames = messages_events(
            ["Hel", "lo"], "tool_use", self.usage, thinking=["hm"], tools=[self.call]
        )
        raw = records(frames)
        self.assertEqual(raw.pop(1), {"type": "ping"})
        events = [self.validated(RawMessageStreamEvent, each) for each in raw]
        opened = [each.index for each in events if each.type == "content_block_start"]
        closed = [each.index for each in events if each.type == "content_block_stop"]
        self.assertEqual((opened, closed), ([0, 1, 2], [0, 1, 2]))
        deltas = [each.delta for each in events if each.type == "content_block_delta"]
        text = [delta.text for delta in deltas if delta.type == "text_delta"]
        self.assertEqual(text, ["Hel", "lo"])
        self.assertEqual(events[-2].delta.stop_reason, "tool_use")
        self.assertEqual((events[-2].usage.input_tokens, events[-2].usage.output_tokens), (5, 5))
        self.assertEqual(events[-1].type, "message_stop")

        body = messages_body("Hello", "tool_use", self.usage, thinking="hm", tools=[self.call])
        whole = self.validated(Message, json.loads(body))
        self.assertEqual([each.type for each in whole.content], ["thinking", "text", "tool_use"])
        self.assertEqual(whole.content[2].input, {"city": "Köln"})

    def test_gemini(self) -> None:
        """Gemini streams, arrays and answers are what Google's SDK expects."""
        frames = gemini_chunks(["Hel", "lo"], usage=self.usage, thinking=["hm"], tools=[self.call])
        replies = records(frames)
        parts = []
        for each in replies:
            model = self.validated(GenerateContentResponse, each)
            parts += model.candidates[0].content.parts
        self.assertEqual([part.text for part in parts], ["hm", "Hel", "lo", None])
        self.assertEqual(parts[3].function_call.args, {"city": "Köln"})
        self.assertEqual(model.candidates[0].finish_reason.value, "STOP")
        self.assertEqual(model.usage_metadata.candidates_token_count, 3)
        self.assertEqual(json.loads(gemini_array(frames)), replies)

        body = gemini_body("Hello", "MAX_TOKENS", self.usage, thinking="hm")
        whole = self.validated(GenerateContentResponse, json.loads(body))
        self.assertEqual(whole.text, "Hello")
        self.assertEqual(whole.usage_metadata.total_token_count, 15)

    def test_an_empty_answer_still_ends(self) -> None:
        """No text at all gives a stream with its proper end."""
        ends = (
            chat_chunks([])[-2],
            responses_events([])[-1],
            messages_events([])[-2],
            gemini_chunks([])[-1],
        )
        marks = (b'"stop"', b'"response.completed"', b'"end_turn"', b'"STOP"')
        for end, mark in zip(ends, marks, strict=True):
            self.assertIn(mark, end)
