"""
Answers with everything in them: as OpenAI sends one, and as one is made of our events.

The first is written from OpenAI's own reference; every field that a reader looks at is
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    Sealed,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.seals import Seal
from aiclient2api.values import Usage

SOURCE = {
    "type": "url_citation",
    "url": "https://x",
    "title": "X",
    "start_index": 0,
    "end_index": 2,
}
TEXT_PART = {"type": "output_text", "text": "Hello", "annotations": [SOURCE]}
ITEMS: list[dict[str, Any]] = [
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "so"}, {"type": "summary_text", "text": "be"}],
        "encrypted_content": "gAAAA",
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "content": [TEXT_PART, {"type": "refusal", "refusal": "No."}],
    },
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "f",
        "arguments": '{"a":1.10}',
    },
    {
        "type": "custom_tool_call",
        "id": "ctc_1",
        "call_id": "call_2",
        "name": "p",
        "input": 'a"b\n',
    },
    {
        "type": "local_shell_call",
        "id": "lsh_1",
        "call_id": "call_3",
        "action": {"type": "exec", "command": ["ls"], "env": {}},
    },
    {"type": "web_search_call", "id": "ws_1", "status": "completed"},
    {"type": "image_generation_call", "id": "ig_1", "result": "aGk=", "output_format": "webp"},
]


def response(output: Sequence[Any], **fields: Any) -> dict[str, Any]:
    """Return a response that is whole, with these items in it."""
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1730000000,
        "model": "m",
        "status": "completed",
        "output": output,
        "usage": usage,
        **fields,
    }


def answer_events(output: Sequence[Any] = ITEMS) -> list[dict[str, Any]]:
    """Return the events of the answer that `ITEMS` are, all that OpenAI sends."""
    reasoning, message, call, custom, shell, search, image = ITEMS
    created = response([], status="in_progress", usage=None)
    events: list[dict[str, Any]] = [{"type": "response.created", "response": created}]

    def event(kind: str, at: int, **fields: Any) -> None:
        events.append({"type": f"response.{kind}", "output_index": at, **fields})

    event("output_item.added", 0, item={**reasoning, "summary": [], "encrypted_content": "g"})
    for at, text in enumerate(("so", "be")):
        where = {"item_id": "rs_1", "summary_index": at}
        part = {"type": "summary_text", "text": text}
        event("reasoning_summary_part.added", 0, **where, part={**part, "text": ""})
        event("reasoning_summary_text.delta", 0, **where, delta=text[:1])
        event("reasoning_summary_text.delta", 0, **where, delta=text[1:])
        event("reasoning_summary_text.done", 0, **where, text=text)
        event("reasoning_summary_part.done", 0, **where, part=part)
    event("output_item.done", 0, item=reasoning)
    event("output_item.added", 1, item={**message, "content": []})
    where = {"item_id": "msg_1", "content_index": 0}
    event("content_part.added", 1, **where, part={**TEXT_PART, "text": "", "annotations": []})
    for piece in ("Hel", "lo"):
        event("output_text.delta", 1, **where, delta=piece, logprobs=[])
    added = {"annotation_index": 0, "annotation": SOURCE}
    event("output_text.annotation.added", 1, **where, **added)
    event("output_text.done", 1, **where, text="Hello", logprobs=[])
    event("content_part.done", 1, **where, part=TEXT_PART)
    where["content_index"] = 1
    event("refusal.delta", 1, **where, delta="No.")
    event("refusal.done", 1, **where, refusal="No.")
    event("content_part.done", 1, **where, part=message["content"][1])
    event("output_item.done", 1, item=message)
    event("output_item.added", 2, item={**call, "arguments": ""})
    for piece in ('{"a":', "1.10}"):
        event("function_call_arguments.delta", 2, item_id="fc_1", delta=piece)
    event("function_call_arguments.done", 2, item_id="fc_1", arguments=call["arguments"])
    event("output_item.done", 2, item=call)
    event("output_item.added", 3, item={**custom, "input": ""})
    for piece in ('a"', "b\n"):
        event("custom_tool_call_input.delta", 3, item_id="ctc_1", delta=piece)
    event("custom_tool_call_input.done", 3, item_id="ctc_1", input=custom["input"])
    event("output_item.done", 3, item=custom)
    event("output_item.added", 4, item={**shell, "action": {"type": "exec", "command": []}})
    event("output_item.done", 4, item=shell)
    event("output_item.added", 5, item=search)
    event("web_search_call.searching", 5, item_id="ws_1")
    event("output_item.done", 5, item=search)
    event("output_item.added", 6, item={**image, "result": None})
    event("image_generation_call.partial_image", 6, item_id="ig_1", partial_image_b64="aA==")
    event("output_item.done", 6, item=image)
    events.append({"type": "response.completed", "response": response(output)})
    return events


OFFERED = {
    "tools": [
        {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False},
        {"type": "custom", "name": "patch"},
        {"type": "local_shell"},
        {
            "type": "namespace",
            "name": "agents",
            "description": "d",
            "tools": [
                {"type": "function", "name": "spawn", "parameters": {}, "strict": False},
                {"type": "custom", "name": "say"},
            ],
        },
    ]
}
EVENTS: list[Event] = [
    Started("chatcmpl-1", "other", 7),
    BlockOpened(0, REASONING),
    ReasoningDelta(0, "so"),
    ReasoningDelta(0, " be"),
    ReasoningDelta(0, "it", 1),
    Sealed(0, Seal("anthropic-messages", "c2ln")),
    BlockClosed(0),
    BlockOpened(1, TEXT),
    TextDelta(1, "Hel"),
    Cited(1, "https://x", "X", start=0, end=3),
    TextDelta(1, "lo \U0001f600"),
    BlockClosed(1),
    BlockOpened(2, REFUSAL),
    TextDelta(2, "No."),
    BlockClosed(2),
    BlockOpened(3, CALL, "call_1", "f"),
    ArgumentsDelta(3, '{"a":'),
    ArgumentsDelta(3, "1.10}"),
    Sealed(3, Seal("gemini", "AAAA")),
    BlockClosed(3),
    BlockOpened(4, CALL, "call_2", "f"),
    BlockClosed(4),
    BlockOpened(5, CALL, "call_3", "patch"),
    ArgumentsDelta(5, '{"input":"a\\n'),
    ArgumentsDelta(5, 'b"}'),
    BlockClosed(5),
    BlockOpened(6, CALL, "call_4", "local_shell"),
    ArgumentsDelta(6, '{"command":["ls","-l"],"timeout_ms":5,"env":{}}'),
    BlockClosed(6),
    BlockOpened(7, CALL, "call_5", "agents__spawn"),
    ArgumentsDelta(7, '{"n":1}'),
    BlockClosed(7),
    BlockOpened(8, CALL, "call_6", "agents__say"),
    ArgumentsDelta(8, '{"input":"hey"}'),
    BlockClosed(8),
    BlockOpened(9, MEDIA),
    MediaDelta(9, "image/png", "aGk="),
    BlockClosed(9),
    UsageReported(Usage(input=10, output=5, cached=4, cache_write=3, reasoning=2)),
    Finished("tool_use"),
]
