"""
What Kiro refuses of a request with ``Improperly formed request.``, rule by rule, for tests.

The service never says which rule was broken; here each has a sentence, so that a failing
test does. It must never know tokens, accounts or regions.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any

LONGEST_DESCRIPTION = 9216
"""Characters of a tool's description; somewhere above it the service refuses."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FORMATS = ("png", "jpeg", "gif", "webp")
_TOP = {"conversationState", "profileArn", "inferenceConfig"}
_OF_SERVER = {"web_search", "WebSearch"}
_ORIGINS = ("AI_EDITOR", "KIRO_CLI")


def violations(document: Any) -> list[str]:
    """Return a sentence for each rule that a request breaks."""
    if not isinstance(document, dict):
        return ["the body is no JSON object"]
    broken = [f"8: null at {where}" for where in _nulls(document, "")]
    broken += [f"unknown field {key}" for key in document.keys() - _TOP]
    state = document.get("conversationState")
    if not isinstance(state, dict):
        return [*broken, "conversationState is missing"]
    if state.get("chatTriggerType") != "MANUAL":
        broken.append("chatTriggerType is not MANUAL")
    if not state.get("conversationId"):
        broken.append("conversationId is missing")
    return [*broken, *_turns(state)]


def _turns(state: Mapping[str, Any]) -> Iterator[str]:
    current = state.get("currentMessage")
    if not isinstance(current, dict) or set(current) != {"userInputMessage"}:
        yield "1: currentMessage is no userInputMessage"
        return
    history = state.get("history", [])
    if "history" in state and not history:
        yield "3: history is empty"
    calls: list[Mapping[str, Any]] = []
    named: set[str] = set()
    for index, item in enumerate(history):
        role = "userInputMessage" if index % 2 == 0 else "assistantResponseMessage"
        if not isinstance(item, dict) or set(item) != {role}:
            yield f"3: history[{index}] is no {role}"
            return
        where, told = f"history[{index}]", item[role]
        if index % 2 == 0:
            yield from _user(told, where, calls)
            calls = []
        else:
            yield from _content(told, where)
            if "toolUses" in told and not told["toolUses"]:
                yield f"3: toolUses of {where} is empty"
            calls = told.get("toolUses", [])
            named |= {call.get("name", "") for call in calls}
            yield from _calls(calls, where)
    if len(history) % 2:
        yield "3: history ends with the user"
    message = current["userInputMessage"]
    yield from _user(message, "currentMessage", calls)
    tools = message.get("userInputMessageContext", {}).get("tools", [])
    offered = [tool.get("toolSpecification", {}).get("name") for tool in tools]
    for name in sorted(named - set(offered)):
        yield f"4: the tool {name} of the history is not in tools"
    for name in sorted({str(name) for name in offered if offered.count(name) > 1}):
        yield f"5: the tool {name} stands in tools twice"
    for tool in tools:
        yield from _tool(tool)


def _user(told: Any, where: str, calls: list[Mapping[str, Any]]) -> Iterator[str]:
    yield from _content(told, where)
    if not told.get("modelId"):
        yield f"{where} names no model"
    if told.get("origin") not in _ORIGINS:
        yield f"{where} has no origin"
    for key in ("images", "userInputMessageContext"):
        if key in told and not told[key]:
            yield f"3: {key} of {where} is empty"
    for image in told.get("images", []):
        yield from _image(image, where)
    context = told.get("userInputMessageContext", {})
    for key in ("tools", "toolResults"):
        if key in context and not context[key]:
            yield f"3: {key} of {where} is empty"
    asked = [call.get("toolUseId") for call in calls]
    answered = [result.get("toolUseId") for result in context.get("toolResults", [])]
    if len(answered) != len(set(answered)):
        yield f"4: {where} answers a call twice"
    for id in answered:
        if id not in asked:
            yield f"4: {where} answers {id}, which was not asked just before"
    for id in asked:
        if id not in answered:
            yield f"4: {where} does not answer {id}"
    for result in context.get("toolResults", []):
        if result.get("status") not in ("success", "error") or not result.get("content"):
            yield f"4: a result of {where} has no status or no content"


def _content(told: Any, where: str) -> Iterator[str]:
    content = told.get("content")
    if not isinstance(content, str) or not content.strip():
        yield f"2: the content of {where} is empty"


def _calls(calls: list[Mapping[str, Any]], where: str) -> Iterator[str]:
    for call in calls:
        if not call.get("toolUseId") or not isinstance(call.get("input"), dict):
            yield f"4: a call of {where} has no id, or an input that is no object"
        elif _has_empty_key(call["input"]):
            yield f"5: a call of {where} has an input with an empty key"


def _tool(tool: Any) -> Iterator[str]:
    if not isinstance(tool, dict) or set(tool) != {"toolSpecification"}:
        yield "6: a tool is no toolSpecification"
        return
    told = tool["toolSpecification"]
    name, description = told.get("name"), told.get("description")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        yield f"5: {name!r} is no name of a tool"
    if name in _OF_SERVER:
        yield f"6: {name} is the vendor's own"
    if not isinstance(description, str) or not description.strip():
        yield f"5: the tool {name} has no description"
    elif len(description) > LONGEST_DESCRIPTION:
        yield f"5: the description of the tool {name} is too long"
    schema = told.get("inputSchema", {}).get("json")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        yield f"5: the schema of the tool {name} is of no object"


def _image(image: Any, where: str) -> Iterator[str]:
    data = image.get("source", {}).get("bytes")
    try:
        whole = bool(base64.b64decode(data, validate=True))
    except (TypeError, ValueError, binascii.Error):
        whole = False
    if image.get("format") not in _FORMATS or not whole:
        yield f"an image of {where} is no image"


def _nulls(value: Any, where: str) -> Iterator[str]:
    if value is None:
        yield where
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _nulls(each, f"{where}.{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _nulls(each, f"{where}[{index}]")


def _has_empty_key(value: Any) -> bool:
    if isinstance(value, dict):
        return "" in value or any(map(_has_empty_key, value.values()))
    return isinstance(value, list) and any(map(_has_empty_key, value))
