"""
Judges of answers: the official SDKs' own models, with unknown fields forbidden.

Each takes an answer as a client gets it, a stream or a body, and raises what pydantic
raises where a record is not what the SDK says it is. It knows nothing of ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, get_args

from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from google.genai import types as google
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

from tests.live.strict import strict


def records(body: bytes) -> Iterator[tuple[str, Any]]:
    """Yield the name and the decoded data of every server-sent event of *body*."""
    for record in body.decode().replace("\r\n", "\n").split("\n\n"):
        lines = [line.partition(":") for line in record.split("\n") if line]
        data = "\n".join(value.removeprefix(" ") for key, _, value in lines if key == "data")
        event = "".join(value.removeprefix(" ") for key, _, value in lines if key == "event")
        if data and data != "[DONE]":
            yield event, json.loads(data)


def judge_reply(dialect: str, body: bytes) -> None:
    """
    Judge one whole answer or stream of *dialect*.

    :raise pydantic.ValidationError: if the SDK of that dialect knows no such answer.
    """
    whole, _ = _JUDGES[dialect]
    if body.lstrip()[:1] in (b"{", b"["):
        told = json.loads(body)
        for each in told if isinstance(told, list) else [told]:
            whole(each)
        return
    seen = 0
    for name, told in records(body):
        judge_record(dialect, name, told)
        seen += 1
    assert seen, "an empty stream"


def judge_record(dialect: str, event: str, told: Any) -> None:
    """
    Judge one record of a stream of *dialect*.

    :param event: The name it came under, or ``""``.
    :param told: Its data, decoded.
    :raise pydantic.ValidationError: if the SDK of that dialect knows no such record.
    """
    _JUDGES[dialect][1](told)
    if event:
        assert event == told["type"], (event, told["type"])


def _by(model: type[BaseModel]) -> Callable[[Any], None]:
    def judge(told: Any) -> None:
        strict(model).model_validate_json(json.dumps(told))

    return judge


@cache
def _kinds(union: Any) -> Mapping[str, type[BaseModel]]:
    members = get_args(union)
    if members and not isinstance(members[0], type):
        members = get_args(members[0])
    found: dict[str, type[BaseModel]] = {}
    for member in members:
        for name in get_args(member.model_fields["type"].annotation):
            found[name] = member
    return found


def _by_type(union: Any) -> Callable[[Any], None]:
    def judge(told: Any) -> None:
        # Anthropic's pings are documented, though its SDK has no model for them.
        if told != {"type": "ping"}:
            _by(_kinds(union)[told["type"]])(told)

    return judge


def _messages(told: Any) -> None:
    _by(Message if "content" in told else MessageTokensCount)(told)


def _gemini(told: Any) -> None:
    # Google's models forbid unknown fields as they come.
    counted = "totalTokens" in told
    (google.CountTokensResponse if counted else google.GenerateContentResponse).model_validate(told)


_JUDGES: Mapping[str, tuple[Callable[[Any], None], Callable[[Any], None]]] = {
    "openai-chat": (_by(ChatCompletion), _by(ChatCompletionChunk)),
    "openai-responses": (_by(Response), _by_type(ResponseStreamEvent)),
    "anthropic-messages": (_messages, _by_type(RawMessageStreamEvent)),
    "gemini": (_gemini, _gemini),
}
