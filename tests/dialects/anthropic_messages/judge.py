"""
A judge of Messages requests: the SDK's own parameter types, with unknown fields forbidden.

It adds what Anthropic's documentation says and its types cannot: who speaks first, what is
answered where. It knows nothing of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from anthropic.types import ContentBlockParam, MessageCountTokensParams
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from pydantic import ConfigDict, TypeAdapter

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
_WHOLE = TypeAdapter(list[MessageCreateParamsNonStreaming], config=_STRICT)
_STREAM = TypeAdapter(list[MessageCreateParamsStreaming], config=_STRICT)
_COUNT = TypeAdapter(list[MessageCountTokensParams], config=_STRICT)
# A message's content may be an answer's model, too, which takes any field.
_BLOCKS = TypeAdapter(list[ContentBlockParam], config=_STRICT)

_SAMPLING = ("temperature", "top_p", "top_k")
"""What the SDK does not know any more, though models up to 4.6 take it."""


def judge_request(body: bytes, *, counting: bool = False) -> dict[str, Any]:
    """
    Judge a request, and return it decoded.

    :raise pydantic.ValidationError: if the SDK knows no such request.
    :raise AssertionError: if Anthropic would refuse it all the same.
    """
    told: dict[str, Any] = json.loads(body)
    known = {key: value for key, value in told.items() if counting or key not in _SAMPLING}
    adapter = _COUNT if counting else (_STREAM if told.get("stream") else _WHOLE)
    _drained(adapter.validate_python([known]))
    roles = [message["role"] for message in told["messages"]]
    assert roles == (["user", "assistant"] * len(roles))[: len(roles)], roles
    for message in told["messages"]:
        _drained(_BLOCKS.validate_python(message["content"]))
        assert message["content"], "a message without content"
    for text in _texts([told.get("system"), told["messages"]]):
        assert text.strip(), "a text block of blanks"
    _judge_calls(told["messages"])
    names = [tool["name"] for tool in told.get("tools", [])]
    assert len(names) == len(set(names)), names
    thinking = told.get("thinking", {})
    if thinking.get("type") == "enabled" and not counting:
        assert 1024 <= thinking["budget_tokens"] < told["max_tokens"], thinking
    assert body.count(b'"cache_control"') <= 4
    return told


def _judge_calls(messages: list[Any]) -> None:
    for index, message in enumerate(messages):
        kinds = [block["type"] for block in message["content"]]
        calls = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        if calls:
            after = messages[index + 1]["content"]
            answered = [block.get("tool_use_id") for block in after[: len(calls)]]
            assert answered == calls, (answered, calls)
        results = kinds.count("tool_result")
        assert kinds[:results] == ["tool_result"] * results, kinds
        if results:
            before = messages[index - 1]["content"]
            assert sum(block["type"] == "tool_use" for block in before) == results
        thoughts = ("thinking", "redacted_thinking")
        assert kinds[-1] not in thoughts, kinds
        assert kinds[0] in thoughts or not set(thoughts) & set(kinds), kinds


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    if not isinstance(value, dict):
        return []
    if value.get("type") == "text" and "text" in value:
        return [value["text"]]
    return _texts(value.get("content"))


def _drained(value: Any) -> Any:
    """Look at everything: pydantic judges what is iterable only while it is iterated."""
    if isinstance(value, Mapping):
        return {key: _drained(each) for key, each in value.items()}
    if value is None or isinstance(value, str | bytes | int | float):
        return value
    return [_drained(each) for each in value]
