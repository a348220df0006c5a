"""
Tools and the choice among them, as an upstream is offered them.

It must never know which dialect they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from aiclient2api.conversation.request import Conversation, Tool, ToolChoice
from aiclient2api.conversation.tools import as_function
from aiclient2api.dialects.nodes import code
from aiclient2api.dialects.openai_chat.models import Model
from aiclient2api.dialects.openai_schemas import holds_strictly, rooted

# What every tool has, or what is told as a loss of its own.
_OF_NO_WISH = ("type", "name", "cache_control")
_PLACE = ("city", "country", "region", "timezone")


@attrs.define
class ToolsOut:
    """
    What a request says of its tools.

    :ivar fields: Of the request, none if there is nothing to say.
    :ivar losses: Codes of what could not be said.
    """

    fields: dict[str, Any] = attrs.field(factory=dict)
    losses: list[str] = attrs.field(factory=list)


def tools_out(asked: Conversation, model: Model) -> ToolsOut:
    """
    Return what is said of the tools of *asked*.

    :param asked: With names that fit, see `aiclient2api.conversation.tool_names.renamed`.
    """
    out = ToolsOut()
    tools = [tool for tool in asked.tools if tool.kind != "web_search"]
    for tool in asked.tools:
        if tool.kind == "web_search" and model.searches:
            out.fields["web_search_options"] = _search(tool.raw or {}, out.losses)
            if tool.cache is not None:
                out.losses.append("cache_control")
        elif tool.kind == "web_search":
            out.losses.append("tool:web_search")
    choice = asked.tool_choice or ToolChoice()
    if asked.traits.auto_tools_only and choice.mode == "none":
        # There is no other way to have none called.
        return out
    if choice.allowed and choice.mode in ("auto", "required"):
        # OpenAI alone knows how to be told which of its tools are allowed.
        left = [tool for tool in tools if tool.name in choice.allowed]
        tools = left or tools
        if not left:
            out.losses.append("tool_choice")
    if not tools:
        if choice.mode in ("required", "named"):
            out.losses.append("tool_choice")
        return out
    out.fields["tools"] = [_function(tool, out.losses) for tool in tools]
    if asked.tool_choice is not None:
        out.fields["tool_choice"] = _choice(choice, tools, asked, out.losses)
    if asked.parallel is not None and model.parallel:
        out.fields["parallel_tool_calls"] = asked.parallel
    elif asked.parallel is False:
        out.losses.append("parallel_tool_calls")
    return out


def _choice(choice: ToolChoice, tools: list[Tool], asked: Conversation, losses: list[str]) -> Any:
    if choice.mode == "auto":
        return "auto"
    if asked.traits.auto_tools_only:
        losses.append("tool_choice")
        return "auto"
    if choice.mode != "named":
        return choice.mode
    names = {tool.name for tool in tools}
    name = next((name for name in choice.allowed[:1] if name in names), None)
    if name is None:
        losses.append("tool_choice")
        return "auto"
    return {"type": "function", "function": {"name": name}}


def _function(tool: Tool, losses: list[str]) -> dict[str, Any]:
    function, lost = as_function(tool)
    losses += lost
    if tool.cache is not None:
        losses.append("cache_control")
    told: dict[str, Any] = {"name": function.name}
    if function.description:
        told["description"] = function.description
    told["parameters"], changed = rooted(function.parameters)
    if changed:
        losses.append("schema")
    if tool.strict and holds_strictly(told["parameters"]):
        told["strict"] = True
    elif tool.strict:
        # Refused where the schema does not keep to certain rules, and most do not.
        losses.append("strict")
    return {"type": "function", "function": told}


def _search(raw: Mapping[str, Any], losses: list[str]) -> dict[str, Any]:
    """Return how to search; whatever else was wished is named in *losses*."""
    told: dict[str, Any] = {}
    if raw.get("search_context_size") in ("low", "medium", "high"):
        told["search_context_size"] = raw["search_context_size"]
    place = raw.get("user_location")
    if isinstance(place, Mapping):
        known = {key: place[key] for key in _PLACE if isinstance(place.get(key), str)}
        if known:
            told["user_location"] = {"type": "approximate", "approximate": known}
    wished = (key for key, value in raw.items() if value not in (None, "", [], {}))
    losses += [
        code("field", f"web_search.{key}") for key in wished if key not in (*told, *_OF_NO_WISH)
    ]
    return told
