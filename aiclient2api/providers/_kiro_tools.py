"""
Tools as Kiro takes them: names that fit, descriptions of bounded length, no nulls.

What a description has too much of goes to the instructions, so that nothing is lost. It
must never know what else stands in a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiclient2api.conversation.request import Call, Conversation, Tool
from aiclient2api.conversation.tool_names import PLAIN64, fitted, known

LONGEST_DESCRIPTION = 9216
"""Characters; other gateways found the service to refuse some thousand more."""

_GOES_ON = "\n(This description goes on in the instructions.)"
# Refused as the names of the vendor's own tools, whoever runs them.
_TAKEN = ("web_search", "WebSearch")


def sent_names(conversation: Conversation) -> dict[str, str]:
    """Return what each tool that is offered or was called is sent as; no two the same."""
    names = fitted([*_offered(conversation), *_called(conversation)], PLAIN64)
    used = set(names.values())
    for name in _TAKEN:
        if name in names:
            made = f"{name}_tool"
            while made in used:
                made += "_"
            used.add(made)
            names[name] = made
    return names


def specifications(
    conversation: Conversation, names: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """
    Return the tools of a request, and what is to be added to its instructions.

    The service refuses a history with calls of tools that it is not told of: one that is
    not offered any more is told of as such.

    :param names: As `sent_names` has them.
    """
    choice = conversation.tool_choice
    offered = {} if choice is not None and choice.mode == "none" else _offered(conversation)
    told: list[dict[str, Any]] = []
    added: list[str] = []
    for name, tool in offered.items():
        description = tool.description
        if not description.strip():
            description = f"Call {names[name]}."
        if len(description) > LONGEST_DESCRIPTION:
            end = LONGEST_DESCRIPTION - len(_GOES_ON)
            added.append(f"The description of the tool {names[name]} goes on:{description[end:]}")
            description = description[:end] + _GOES_ON
        told.append(_specification(names[name], description, _schema(tool.parameters)))
    for name in _called(conversation):
        if name not in offered:
            gone = f"{names[name]} was offered earlier and cannot be called any more."
            told.append(_specification(names[name], gone, _schema(None)))
    return told, added


def without_nothing(value: Any) -> Any:
    """Return decoded JSON without nulls and without empty keys, of which one is refused."""
    if isinstance(value, dict):
        return {
            key: without_nothing(each)
            for key, each in value.items()
            if key != "" and each is not None
        }
    if isinstance(value, list):
        return [without_nothing(each) for each in value if each is not None]
    return value


def _offered(conversation: Conversation) -> dict[str, Tool]:
    tools = known(conversation.tools)
    return {name: tool for name, tool in tools.items() if tool.kind != "web_search"}


def _called(conversation: Conversation) -> Iterable[str]:
    called = [
        part.name for turn in conversation.turns for part in turn.parts if isinstance(part, Call)
    ]
    return dict.fromkeys(called)


def _schema(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    schema: dict[str, Any] = without_nothing(dict(parameters or {}))
    if not isinstance(schema.get("properties"), dict):
        schema["properties"] = {}
    if not schema.get("required"):
        schema.pop("required", None)
    return {**schema, "type": "object"}


def _specification(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    told = {"name": name, "description": description, "inputSchema": {"json": schema}}
    return {"toolSpecification": told}
