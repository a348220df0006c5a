"""
Well-formed answers of the four dialects, as streams and whole, for tests.

Each ``*_chunks`` or ``*_events`` function returns the frames of one event stream, a
record each, as a well-behaved upstream sends them; each ``*_body`` function returns
the same answer in one piece. They are written from the published formats and import
no dialect of ours: a test compares two sources. Import them from
`aiclient2api.testing`.

In all of them *pieces* are the deltas of the answer's text, *thinking* those of its
reasoning, *tools* the calls it makes; reasoning comes first, then text, then calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

from aiclient2api.values import Usage

_CREATED = 1_730_000_000
SEAL = "c2lnbmVk"
"""What every answer seals its thoughts with, in the dialects that seal them."""


@attrs.frozen
class Call:
    """One tool call; *arguments* is JSON text."""

    id: str
    name: str
    arguments: str = "{}"


def _frame(record: object, event: str | None = None) -> bytes:
    name = b"" if event is None else b"event: " + event.encode() + b"\n"
    return name + b"data: " + msgspec.json.encode(record) + b"\n\n"


def _without_nothing(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# --- OpenAI Chat Completions --------------------------------------------------


def _chat_usage(usage: Usage) -> dict[str, Any]:
    given, made = usage.input or 0, usage.output or 0
    return {
        "prompt_tokens": given,
        "completion_tokens": made,
        "total_tokens": given + made,
        "prompt_tokens_details": {"cached_tokens": usage.cached or 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
    }


def _chat_call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def chat_chunks(
    pieces: Sequence[str],
    finish: str = "stop",
    usage: Usage | None = None,
    *,
    model: str = "test-model",
    thinking: Sequence[str] = (),
    tools: Sequence[Call] = (),
) -> list[bytes]:
    """
    Return a Chat Completions stream, ``[DONE]`` included.

    :param usage: Told in a chunk of its own, as with ``stream_options.include_usage``.
    """

    def chunk(choices: list[Any], **more: Any) -> bytes:
        head = {"id": "chatcmpl-test", "object": "chat.completion.chunk", "created": _CREATED}
        return _frame({**head, "model": model, "choices": choices, **more})

    def delta(finish_reason: str | None = None, **delta: Any) -> bytes:
        nulled = {} if usage is None else {"usage": None}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return chunk([choice], **nulled)

    frames = [delta(role="assistant", content="")]
    frames += [delta(reasoning_content=piece) for piece in thinking]
    frames += [delta(content=piece) for piece in pieces]
    for index, call in enumerate(tools):
        opened = _chat_call(attrs.evolve(call, arguments=""))
        frames.append(delta(tool_calls=[{"index": index, **opened}]))
        rest = {"index": index, "function": {"arguments": call.arguments}}
        frames.append(delta(tool_calls=[rest]))
    frames.append(delta(finish))
    if usage is not None:
        frames.append(chunk([], usage=_chat_usage(usage)))
    return [*frames, b"data: [DONE]\n\n"]


def chat_body(
    text: str,
    finish: str = "stop",
    usage: Usage | None = None,
    *,
    model: str = "test-model",
    thinking: str | None = None,
    tools: Sequence[Call] = (),
) -> bytes:
    """Return a whole Chat Completions answer."""
    calls = [_chat_call(call) for call in tools] or None
    message = _without_nothing(reasoning_content=thinking, tool_calls=calls)
    content = None if tools and not text else text
    message = {"role": "assistant", "content": content, "refusal": None, **message}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    answer = {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": _CREATED,
        "model": model,
        "choices": [choice],
        "usage": _chat_usage(usage or Usage()),
    }
    return msgspec.json.encode(answer)


# --- OpenAI Responses ---------------------------------------------------------


def _responses_usage(usage: Usage) -> dict[str, Any]:
    given, made = usage.input or 0, usage.output or 0
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": usage.cached or 0, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": given + made,
    }


def _response(status: str, output: list[Any], usage: Usage | None, model: str) -> dict[str, Any]:
    filtered = status == "content_filter"
    cut = {"reason": "content_filter" if filtered else "max_output_tokens"}
    status = "incomplete" if filtered else status
    broken = {"code": "server_error", "message": "It broke."} if status == "failed" else None
    return {
        "id": "resp_test",
        "object": "response",
        "created_at": _CREATED,
        "status": status,
        "error": broken,
        "incomplete_details": cut if status == "incomplete" else None,
        "instructions": None,
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None if usage is None else _responses_usage(usage),
    }


def _reasoning_item(text: str) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "reasoning", "id": "rs_test", "summary": []}
    if text:
        summary = [{"type": "summary_text", "text": text}]
        item.update(summary=summary, encrypted_content=SEAL)
    return item


def _message_item(text: str | None, status: str = "completed") -> dict[str, Any]:
    content = [] if text is None else [_text_part(text)]
    item = {"type": "message", "id": "msg_test", "status": status, "role": "assistant"}
    return {**item, "content": content}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call_item(index: int, call: Call, status: str = "completed") -> dict[str, Any]:
    item = {"type": "function_call", "id": f"fc_test{index}", "call_id": call.id}
    return {**item, "name": call.name, "arguments": call.arguments, "status": status}


def _responses_output(thinking: str, text: str, tools: Sequence[Call]) -> list[Any]:
    output = [_reasoning_item(thinking)] if thinking else []
    output += [_message_item(text)] if text or not tools else []
    return [*output, *(_call_item(index, call) for index, call in enumerate(tools))]


def responses_events(
    pieces: Sequence[str],
    finish: str = "completed",
    usage: Usage | None = None,
    *,
    model: str = "test-model",
    thinking: Sequence[str] = (),
    tools: Sequence[Call] = (),
) -> list[bytes]:
    """
    Return a Responses stream.

    :param finish: The end: ``completed``, ``incomplete``, ``content_filter`` (which is
        incomplete, too) or ``failed``.
    """
    frames: list[bytes] = []
    output = _responses_output("".join(thinking), "".join(pieces), tools)

    def event(kind: str, **fields: Any) -> None:
        record = {"type": kind, "sequence_number": len(frames), **fields}
        frames.append(_frame(record, kind))

    started = _response("in_progress", [], None, model)
    event("response.created", response=started)
    event("response.in_progress", response=started)
    calls = iter(enumerate(tools))
    for at, item in enumerate(output):
        where = {"item_id": item["id"], "output_index": at}
        match item["type"]:
            case "reasoning":
                event("response.output_item.added", output_index=at, item=_reasoning_item(""))
                part = {**where, "summary_index": 0}
                kind, blank = "response.reasoning_summary", {"type": "summary_text", "text": ""}
                event(f"{kind}_part.added", **part, part=blank)
                for piece in thinking:
                    event(f"{kind}_text.delta", **part, delta=piece)
                event(f"{kind}_text.done", **part, text="".join(thinking))
                event(f"{kind}_part.done", **part, part=item["summary"][0])
            case "message":
                opened = _message_item(None, "in_progress")
                event("response.output_item.added", output_index=at, item=opened)
                part = {**where, "content_index": 0}
                event("response.content_part.added", **part, part=_text_part(""))
                for piece in pieces:
                    event("response.output_text.delta", **part, delta=piece, logprobs=[])
                text = "".join(pieces)
                event("response.output_text.done", **part, text=text, logprobs=[])
                event("response.content_part.done", **part, part=item["content"][0])
            case "function_call":
                index, call = next(calls)
                opened = _call_item(index, attrs.evolve(call, arguments=""), "in_progress")
                event("response.output_item.added", output_index=at, item=opened)
                kind = "response.function_call_arguments"
                event(f"{kind}.delta", **where, delta=call.arguments)
                event(f"{kind}.done", **where, name=call.name, arguments=call.arguments)
        event("response.output_item.done", output_index=at, item=item)
    last = _response(finish, output, usage, model)
    event(f"response.{last['status']}", response=last)
    return frames


def responses_body(
    text: str,
    finish: str = "completed",
    usage: Usage | None = None,
    *,
    model: str = "test-model",
    thinking: str = "",
    tools: Sequence[Call] = (),
) -> bytes:
    """Return a whole Responses answer."""
    output = _responses_output(thinking, text, tools)
    return msgspec.json.encode(_response(finish, output, usage or Usage(), model))


# --- Anthropic Messages -------------------------------------------------------


def _messages_usage(usage: Usage) -> dict[str, Any]:
    cached, written = usage.cached or 0, usage.cache_write or 0
    return {
        "input_tokens": (usage.input or 0) - cached - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output or 0,
    }


def _message(content: list[Any], reason: str | None, usage: Usage, model: str) -> dict[str, Any]:
    return {
        "id": "msg_test",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": _messages_usage(usage),
    }


def messages_events(
    pieces: Sequence[str],
    finish: str = "end_turn",
    usage: Usage | None = None,
    *,
    model: str = "test-model",
    thinking: Sequence[str] = (),
    tools: Sequence[Call] = (),
) -> list[bytes]:
    """Return a Messages stream, with one ping after its start."""
    frames: list[bytes] = []
    usage = usage or Usage()

    def event(kind: str, **fields: Any) -> None:
        frames.append(_frame({"type": kind, **fields}, kind))

    def block(index: int, start: dict[str, Any], deltas: Sequence[dict[str, Any]]) -> None:
        event("content_block_start", index=index, content_block=start)
        for delta in deltas:
            event("content_block_delta", index=index, delta=delta)
        event("content_block_stop", index=index)

    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if thinking:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in thinking]
        deltas.append({"type": "signature_delta", "signature": SEAL})
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
    if pieces or not tools:
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
        blocks.append(({"type": "text", "text": ""}, deltas))
    for call in tools:
        start = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": call.arguments}
        blocks.append((start, [delta]))

    event("message_start", message=_message([], None, attrs.evolve(usage, output=1), model))
    event("ping")
    for index, (start, deltas) in enumerate(blocks):
        block(index, start, deltas)
    ending = {"stop_reason": finish, "stop_sequence": None}
    event("message_delta", delta=ending, usage=_messages_usage(usage))
    event("message_stop")
    return frames


def messages_body(
    text: str,
    finish: str = "end_turn",
    usage: Usage | None = None,
    *,
    model: str = "test-model",
    thinking: str = "",
    tools: Sequence[Call] = (),
) -> bytes:
    """Return a whole Messages answer."""
    content: list[dict[str, Any]] = []
    if thinking:
        content.append({"type": "thinking", "thinking": thinking, "signature": SEAL})
    if text or not tools:
        content.append({"type": "text", "text": text})
    for call in tools:
        arguments = msgspec.json.decode(call.arguments)
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}
        content.append(block)
    return msgspec.json.encode(_message(content, finish, usage or Usage(), model))


# --- Gemini -------------------------------------------------------------------


def _gemini_usage(usage: Usage) -> dict[str, Any]:
    thought = usage.reasoning or 0
    return {
        "promptTokenCount": usage.input or 0,
        "candidatesTokenCount": (usage.output or 0) - thought,
        "totalTokenCount": (usage.input or 0) + (usage.output or 0),
        "thoughtsTokenCount": thought,
        "cachedContentTokenCount": usage.cached or 0,
    }


def _gemini_reply(
    parts: list[Any], finish: str | None, usage: Usage | None, model: str
) -> dict[str, Any]:
    candidate = _without_nothing(
        index=0, content={"role": "model", "parts": parts}, finishReason=finish
    )
    return _without_nothing(
        candidates=[candidate],
        usageMetadata=None if usage is None else _gemini_usage(usage),
        modelVersion=model,
        responseId="test",
    )


def _gemini_parts(
    thinking: Sequence[str], pieces: Sequence[str], tools: Sequence[Call]
) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"text": piece, "thought": True} for piece in thinking]
    parts += [{"text": piece} for piece in pieces]
    for index, call in enumerate(tools):
        arguments = msgspec.json.decode(call.arguments)
        part: dict[str, Any] = {"id": call.id, "name": call.name, "args": arguments}
        # The first of several calls is the one that is signed.
        sealed = {"thoughtSignature": SEAL} if thinking and index == 0 else {}
        parts.append({"functionCall": part, **sealed})
    return parts


def gemini_chunks(
    pieces: Sequence[str],
    finish: str = "STOP",
    usage: Usage | None = None,
    *,
    model: str = "test-model",
    thinking: Sequence[str] = (),
    tools: Sequence[Call] = (),
) -> list[bytes]:
    """Return a Gemini stream as sent with ``alt=sse``; its end is in the last chunk."""
    parts = _gemini_parts(thinking, pieces, tools)
    replies = [_gemini_reply([part], None, None, model) for part in parts[:-1]]
    replies.append(_gemini_reply(parts[-1:], finish, usage, model))
    return [b"data: " + msgspec.json.encode(reply) + b"\r\n\r\n" for reply in replies]


def gemini_array(chunks: Sequence[bytes]) -> bytes:
    """Return the frames of `gemini_chunks` as the JSON array sent without ``alt=sse``."""
    replies = (chunk.removeprefix(b"data: ").strip() for chunk in chunks)
    return b"[" + b",\r\n".join(replies) + b"]"


def gemini_body(
    text: str,
    finish: str = "STOP",
    usage: Usage | None = None,
    *,
    model: str = "test-model",
    thinking: str = "",
    tools: Sequence[Call] = (),
) -> bytes:
    """Return a whole Gemini answer."""
    parts = _gemini_parts([thinking] if thinking else [], [text] if text else [], tools)
    return msgspec.json.encode(_gemini_reply(parts, finish, usage or Usage(), model))
