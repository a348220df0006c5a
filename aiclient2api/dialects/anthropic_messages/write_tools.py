"""
Anthropic Messages: write the tools of a request, and which of them may be called.

It must never know what was said before, but for the names of the tools that were called.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import attrs

from aiclient2api.conversation.request import Conversation, Tool, ToolChoice
from aiclient2api.conversation.tools import as_function
from aiclient2api.dialects.anthropic_messages.models import Model
from aiclient2api.dialects.anthropic_messages.schemas import input_schema
from aiclient2api.dialects.anthropic_messages.write_messages import Block, marker
from aiclient2api.dialects.nodes import code

_SEARCH = "web_search"
# The newest that needs no other tool beside it:
# https://docs.claude.com/en/docs/agents-and-tools/tool-use/web-search-tool
_SEARCH_TYPE = "web_search_20250305"
_NO_TOOL = "This tool was offered earlier and is not any more."


@attrs.define
class ToolsOut:
    """
    The tools of a request.

    :ivar tools: As they are sent.
    :ivar choice: Which may be called, None if nothing need be said.
    :ivar losses: Codes of `aiclient2api.conversation.losses`.
    """

    tools: list[Block] = attrs.field(factory=list)
    choice: Block | None = None
    losses: list[str] = attrs.field(factory=list)

    @property
    def forced(self) -> bool:
        """Whether the model is made to call a tool."""
        return self.choice is not None and self.choice["type"] in ("any", "tool")


def tools_out(conversation: Conversation, model: Model, called: Collection[str]) -> ToolsOut:
    """
    Return the tools of *conversation*.

    :param conversation: With names as the dialect wants them.
    :param called: The names of tools that were called in it.
    """
    out = ToolsOut()
    for tool in conversation.tools:
        _offer(out, tool, model)
    choice = conversation.tool_choice
    if choice is not None:
        choice = _narrowed(out, choice)
    if choice is not None and choice.mode == "none" and conversation.traits.auto_tools_only:
        # To such an upstream, no tools are the only way to say so.
        out.tools = []
        return out
    if not out.tools:
        if choice is not None and choice.mode in ("required", "named"):
            out.losses.append("tool_choice")
        if called:
            # A history with calls is refused if no tools are named.
            out.tools = [_stub(name) for name in dict.fromkeys(called)]
            out.choice = {"type": "none"}
        return out
    forcible = model.forced and not conversation.traits.auto_tools_only
    out.choice = _chosen(out, choice, forcible=forcible)
    if conversation.parallel is False and out.choice != {"type": "none"}:
        out.choice = {**(out.choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return out


def _offer(out: ToolsOut, tool: Tool, model: Model) -> None:
    if tool.kind == _SEARCH:
        if model.claude and all(each["name"] != _SEARCH for each in out.tools):
            out.tools.append(_search(tool, out.losses))
        else:
            out.losses.append(code("tool", _SEARCH))
        return
    try:
        function, lost = as_function(tool)
    except ValueError:
        out.losses.append(code("tool", tool.kind))
        return
    schema, untold = input_schema(function.parameters)
    out.losses += (*lost, *untold)
    if function.strict:
        out.losses.append("strict")
    block: Block = {"name": function.name}
    if function.description:
        block["description"] = function.description
    block["input_schema"] = schema
    out.tools.append(_with_marker(block, function.cache))


def _narrowed(out: ToolsOut, choice: ToolChoice) -> ToolChoice:
    """Leave only the tools that may be called, where there is no other way to say so."""
    if choice.mode == "named" or not choice.allowed:
        return choice
    left = [tool for tool in out.tools if tool["name"] in choice.allowed]
    if not left:
        out.losses.append("tool_choice")
        return ToolChoice(choice.mode)
    out.tools = left
    return ToolChoice(choice.mode)


def _chosen(out: ToolsOut, choice: ToolChoice | None, *, forcible: bool) -> Block | None:
    if choice is None:
        return None
    if choice.mode == "none":
        return {"type": "none"}
    if choice.mode == "auto":
        return {"type": "auto"}
    name = choice.allowed[0] if choice.allowed else ""
    known = choice.mode != "named" or any(tool["name"] == name for tool in out.tools)
    if not forcible or not known:
        out.losses.append("tool_choice")
        return {"type": "auto"}
    return {"type": "tool", "name": name} if choice.mode == "named" else {"type": "any"}


def _search(tool: Tool, losses: list[str]) -> Block:
    """Return Anthropic's search, as narrow as the caller wanted its own vendor's to be."""
    raw = tool.raw or {}
    block: Block = {"type": _SEARCH_TYPE, "name": _SEARCH}
    filters = raw.get("filters")
    for source in (raw, filters if isinstance(filters, Mapping) else {}):
        for key in ("allowed_domains", "blocked_domains"):
            if _is_names(source.get(key)):
                block[key] = source[key]
    # Refused together.
    if "allowed_domains" in block and block.pop("blocked_domains", None):
        losses.append(code("field", f"{_SEARCH}.blocked_domains"))
    if raw.get("search_context_size") not in (None, "", "medium"):
        losses.append(code("field", f"{_SEARCH}.search_context_size"))
    if isinstance(raw.get("max_uses"), int):
        block["max_uses"] = raw["max_uses"]
    place = raw.get("user_location")
    if isinstance(place, Mapping):
        known = ("city", "country", "region", "timezone")
        told = {key: place[key] for key in known if isinstance(place.get(key), str)}
        if told:
            block["user_location"] = {"type": "approximate", **told}
    return _with_marker(block, tool.cache)


def _stub(name: str) -> Block:
    return {
        "name": name,
        "description": _NO_TOOL,
        "input_schema": {"type": "object", "properties": {}},
    }


def _with_marker(block: Block, cache: Mapping[str, Any] | None) -> Block:
    found = marker(cache)
    return block if found is None else {**block, "cache_control": found}


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)
