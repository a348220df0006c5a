"""
Short ways to read and write this dialect, and the SDK's own models as strict judges.

What the SDK's models lack and the API has stands here in one place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import typing_extensions
from openai.types.responses import Response, ResponseStreamEvent

from aiclient2api.conversation.events import Event
from aiclient2api.conversation.request import Conversation, Text, Turn
from aiclient2api.dialects.openai_responses import OPENAI_RESPONSES
from aiclient2api.dialects.openai_responses.read_reply import ResponsesDecoder
from aiclient2api.dialects.openai_responses.read_request import read_request
from aiclient2api.dialects.openai_responses.request import NAME, ResponsesRequest
from aiclient2api.dialects.openai_responses.write_reply import ResponsesEncoder
from aiclient2api.dialects.openai_responses.write_request import write_request
from aiclient2api.framing.sse import SSEFramer
from aiclient2api.values import Route
from tests.live.strict import strict
from tests.strict_requests import judge

ID = "0123456789abcdef01234567"
"""The id that every answer here has."""
NOW = 1_700_000_000


def parsed(body: Mapping[str, Any] | bytes) -> ResponsesRequest:
    """Return a request as the gateway first sees it."""
    raw = body if isinstance(body, bytes) else json.dumps({"model": "m", **body}).encode()
    return OPENAI_RESPONSES.parse(body=raw, route=Route("generate"))


def read(body: Mapping[str, Any] | bytes) -> Conversation:
    """Return what a request says."""
    return read_request(parsed(body))


def said(*items: Any) -> tuple[Turn, ...]:
    """Return the turns of an input."""
    return read({"input": [*items]}).turns


def written(conversation: Conversation) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the body of the request that is written, having judged it, and what it lost."""
    request = write_request(conversation)
    body: dict[str, Any] = json.loads(request.raw)
    judge_request(body)
    return body, request.losses


def asked(*turns: Turn, model: str = "m", **fields: Any) -> Conversation:
    """Return a conversation; one line of text if no turns are given."""
    return Conversation(model, False, turns or (Turn("user", (Text("Hi"),)),), **fields)


def records(body: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the data of every event of a stream."""
    for record in SSEFramer().feed(body):
        yield record.event.decode(), json.loads(record.data)


def decoded(stream: bytes | Iterable[bytes], *, ends: bool = True) -> list[Event]:
    """Return what a stream says."""
    decoder, events = ResponsesDecoder(), list[Event]()
    raw = stream if isinstance(stream, bytes) else b"".join(stream)
    for record in SSEFramer().feed(raw):
        found = decoder.record(event=record.event, data=record.data)
        assert found is not None, record
        events += found
    return [*events, *decoder.end()] if ends else events


def told(*events: Mapping[str, Any]) -> list[bytes]:
    """Return a stream of *events*, numbered and framed."""
    frames = []
    for number, event in enumerate(events):
        data = json.dumps({**event, "sequence_number": number})
        frames.append(f"event: {event['type']}\ndata: {data}\n\n".encode())
    return frames


def encoder(body: Mapping[str, Any] | None = None, *, model: str = "m") -> ResponsesEncoder:
    """Return a writer of the answer to a request."""
    request = parsed({"input": "Hi", **(body or {})})
    return ResponsesEncoder(
        request=request,
        conversation=read_request(request),
        model=model,
        make_id=lambda: ID,
        now=lambda: NOW + 0.5,
    )


def encoded(events: Sequence[Event], body: Mapping[str, Any] | None = None) -> bytes:
    """Return a stream of *events*, having judged it."""
    writer = encoder(body)
    stream = b"".join(writer.encode(event) for event in events)
    judge_stream(stream)
    return stream


def judge_stream(stream: bytes) -> None:
    """
    Judge every event, and that they are numbered from 0.

    :raise pydantic.ValidationError: if the SDK knows no such event.
    """
    for number, (name, event) in enumerate(records(stream)):
        assert event["type"] == name, (event["type"], name)
        assert event["sequence_number"] == number, event
        _judge_event(event)


def judge_response(response: Mapping[str, Any]) -> None:
    """Judge a whole response."""
    strict(Response).model_validate_json(json.dumps(_known(response)))


def judge_request(body: Mapping[str, Any]) -> None:
    """Judge a request, in which no field may be that the SDK does not know."""
    judge(NAME, body)


def _judge_event(event: Mapping[str, Any]) -> None:
    known = dict(event)
    if "response" in known:
        known["response"] = _known(known["response"])
    # The API's reference has the name, the SDK's model does not.
    if known["type"] == "response.function_call_arguments.done":
        assert known.pop("name")
    if "item" in known:
        known["item"] = _known_item(known["item"])
    strict(_kinds()[known["type"]]).model_validate_json(json.dumps(known))


def _known(response: Mapping[str, Any]) -> dict[str, Any]:
    # The API tells whether a response is stored, the SDK's model has no field for it.
    assert isinstance(response["store"], bool)
    known = {key: value for key, value in response.items() if key != "store"}
    return {**known, "output": [*map(_known_item, response["output"])]}


def _known_item(item: Mapping[str, Any]) -> dict[str, Any]:
    # The API tells a status of these, too; ours have one only if they were cut.
    cut = item["type"] == "custom_tool_call" and item.get("status") == "incomplete"
    return {key: value for key, value in item.items() if not (cut and key == "status")}


@cache
def _kinds() -> Mapping[str, Any]:
    (union, *_) = typing_extensions.get_args(ResponseStreamEvent)
    return {
        name: member
        for member in typing_extensions.get_args(union)
        for name in typing_extensions.get_args(member.model_fields["type"].annotation)
    }
