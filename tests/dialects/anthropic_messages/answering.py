"""Answers of the Messages dialect, read and written in one line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from aiclient2api.conversation.events import (
    BlockClosed,
    BlockOpened,
    Event,
    TextDelta,
)
from aiclient2api.conversation.grammar import Reply, fold
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.dialects.convert import conversation_of
from aiclient2api.framing.sse import SSEFramer
from aiclient2api.interfaces import IEventDecoder, IEventEncoder
from aiclient2api.values import Route
from tests.strict_replies import judge_reply, records

NAME = "anthropic-messages"
_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def decoder(action: str = "generate") -> IEventDecoder:
    """Return a reader of one answer."""
    request = ANTHROPIC_MESSAGES.parse(body=b'{"model":"m","messages":[]}', route=Route(action))
    return ANTHROPIC_MESSAGES.decoder(request=request)


def streamed(pieces: Iterable[bytes]) -> list[Event]:
    """Return what a stream of bytes says, cut as it is."""
    framer, reader = SSEFramer(), decoder()
    events: list[Event] = []
    for piece in pieces:
        for record in framer.feed(piece):
            if not record.comment:
                events += reader.record(event=record.event, data=record.data) or ()
    last = framer.finish()
    if last is not None:
        events += reader.record(event=last.event, data=last.data) or ()
    return [*events, *reader.end()]


def whole(answer: Any, action: str = "generate") -> Sequence[Event] | None:
    """Return what a whole answer says."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return decoder(action).whole(body=body)


def folded(answer: Any) -> Reply:
    """Return the reply that a whole answer makes."""
    events = whole(answer)
    assert events is not None
    return fold(events)


def encoder(action: str = "generate", **fields: Any) -> IEventEncoder:
    """Return a writer of an answer to a request with *fields*."""
    body = json.dumps({"model": "m", "messages": [], **fields}).encode()
    request = ANTHROPIC_MESSAGES.parse(body=body, route=Route(action))
    return ANTHROPIC_MESSAGES.encoder(
        request=request,
        conversation=conversation_of(request),
        model="asked-for",
        make_id=lambda: "0123456789abcdef" * 2,
        now=lambda: 0.0,
    )


def stream_of(events: Sequence[Event], **fields: Any) -> bytes:
    """Return the stream that *events* are written as, judged."""
    writer = encoder(**fields)
    body = b"".join(writer.encode(event=event) for event in events)
    judge_reply(NAME, body)
    return body


def message_of(events: Sequence[Event], **fields: Any) -> dict[str, Any]:
    """Return the message that *events* are written as, judged."""
    body = encoder(**fields).reply(events=events)
    judge_reply(NAME, body)
    told: dict[str, Any] = json.loads(body)
    return told


def told(body: bytes) -> list[Any]:
    """Return what the records of a stream say."""
    return [data for _, data in records(body)]


def shapes(body: bytes) -> list[Any]:
    """Return the records of a stream in short."""
    found: list[Any] = []
    for _, data in records(body):
        kind = data["type"]
        if kind == "content_block_start":
            found.append((kind, data["index"], data["content_block"]))
        elif kind == "content_block_delta":
            found.append((kind, data["index"], data["delta"]))
        elif kind == "content_block_stop":
            found.append((kind, data["index"]))
        elif kind == "message_delta":
            found.append((kind, data["delta"], data["usage"]))
        else:
            found.append(kind)
    return found


def accumulated(body: bytes) -> dict[str, Any]:
    """Return the message that the official SDK makes of a stream."""
    snapshot: Any = None
    inputs: dict[int, bytes] = {}
    for _, data in records(body):
        event = _EVENT.validate_python(data)
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=inputs)
    made: dict[str, Any] = json.loads(snapshot.model_dump_json(exclude_none=True))
    return made


def text(*pieces: str, index: int = 0) -> list[Event]:
    """Return the events of a block of text."""
    deltas = [TextDelta(index, piece) for piece in pieces]
    return [BlockOpened(index, "text"), *deltas, BlockClosed(index)]
