"""
Short ways to read and write this dialect, and the SDK's own models as strict judges.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiclient2api.conversation.events import Event
from aiclient2api.conversation.request import Conversation, Text, Turn
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.openai_chat.read_reply import ChatDecoder
from aiclient2api.dialects.openai_chat.read_request import read_request
from aiclient2api.dialects.openai_chat.request import NAME, ChatRequest
from aiclient2api.dialects.openai_chat.write_reply import ChatEncoder
from aiclient2api.dialects.openai_chat.write_request import write_request
from aiclient2api.framing.sse import SSEFramer
from aiclient2api.values import Route
from tests.strict_replies import judge_reply
from tests.strict_requests import judge

ID = "0123456789abcdef01234567"
"""The id that is made for every answer here."""
NOW = 1_700_000_000
HI = Turn("user", (Text("Hi"),))


def parsed(body: Mapping[str, Any] | bytes) -> ChatRequest:
    """Return a request as the gateway first sees it; one word is said if nothing else is."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    raw = body if isinstance(body, bytes) else json.dumps({**asked, **body}).encode()
    return OPENAI_CHAT.parse(body=raw, route=Route("generate"))


def read(**fields: Any) -> Conversation:
    """Return what a request says."""
    return read_request(parsed(fields))


def said(*messages: Any) -> tuple[Turn, ...]:
    """Return the turns of a request."""
    return read(messages=[*messages]).turns


def asked(*turns: Turn, model: str = "m", **fields: Any) -> Conversation:
    """Return a conversation; one word if no turns are given."""
    return Conversation(model, False, turns or (HI,), **fields)


def written(
    conversation: Conversation, *, judged: bool = True
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """
    Return the body of the request that is written, and what it lost.

    :param judged: False for what only a vendor takes.
    """
    request = write_request(conversation)
    body: dict[str, Any] = json.loads(request.raw)
    if judged:
        judge(NAME, body)
    return body, request.losses


def messages(*turns: Turn, judged: bool = True, **fields: Any) -> tuple[list[Any], tuple[str, ...]]:
    """Return the messages that are written for *turns*, and what they lost."""
    body, losses = written(asked(*turns, **fields), judged=judged)
    return body["messages"], losses


def chunk(finish: str | None = None, *, index: int = 0, **delta: Any) -> dict[str, Any]:
    """Return a chunk with a delta."""
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "model": "m-1", "created": 7, "choices": [choice]}


def piece(index: int | None = 0, **fields: Any) -> dict[str, Any]:
    """Return a delta with a piece of a call; name and arguments go where they belong."""
    function = {key: fields.pop(key) for key in ("name", "arguments") if key in fields}
    number = {} if index is None else {"index": index}
    return {"tool_calls": [{**number, **fields, "function": function}]}


def completion(finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    """Return a whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"id": "c1", "model": "m-1", "created": 7, "choices": [choice]}


def decoded(stream: bytes | Iterable[Mapping[str, Any]], *, ends: bool = True) -> list[Event]:
    """Return what a stream says; *ends* if its body ends cleanly."""
    if not isinstance(stream, bytes):
        stream = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in stream)
    decoder, events = ChatDecoder(), list[Event]()
    for record in SSEFramer().feed(stream):
        found = decoder.record(event=record.event, data=record.data)
        assert found is not None, record
        events += found
    return [*events, *decoder.end()] if ends else events


def encoder(**fields: Any) -> ChatEncoder:
    """Return a writer of the answer to a request."""
    request = parsed(fields)
    return ChatEncoder(
        request=request,
        conversation=read_request(request),
        model="asked-for",
        make_id=lambda: ID,
        now=lambda: NOW + 0.5,
    )


def encoded(events: Sequence[Event], **fields: Any) -> bytes:
    """Return a stream of *events*, having judged it."""
    writer = encoder(**fields)
    stream = b"".join(writer.encode(event) for event in events)
    judge_reply(NAME, stream)
    return stream


def replied(events: Sequence[Event], **fields: Any) -> dict[str, Any]:
    """Return a whole answer of *events*, having judged it."""
    body = encoder(**fields).reply(events)
    judge_reply(NAME, body)
    answer: dict[str, Any] = json.loads(body)
    return answer


def chunks(stream: bytes) -> Iterator[dict[str, Any]]:
    """Yield the chunks of a stream, ``[DONE]`` being none."""
    for record in SSEFramer().feed(stream):
        if record.data != b"[DONE]":
            yield json.loads(record.data)


def deltas(stream: bytes) -> list[dict[str, Any]]:
    """Return what each chunk of a stream adds."""
    return [choice["delta"] for each in chunks(stream) for choice in each["choices"]]
