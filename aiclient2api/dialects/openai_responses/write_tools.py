"""
Tools and the choice among them, as an upstream is offered them.

OpenAI is particular about schemas: an object at the root, and strict only where each
property is named and required. It must never know which dialect they came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from aiclient2api.conversation.request import Conversation, Tool, ToolChoice
from aiclient2api.conversation.tools import as_function
from aiclient2api.dialects.nodes import code
from aiclient2api.dialects.openai_responses.read_tools import WEB_SEARCH
from aiclient2api.dialects.openai_schemas import holds_strictly, rooted

_UNTOLD = ("blocked_domains", "max_uses")
_LOCATION = ("type", "city", "country", "region", "timezone")


def written_tools(tools: Sequence[Tool]) -> tuple[list[Any], list[str]]:
    """Return *tools* for the wire, and codes of what could not be said of them."""
    losses: list[str] = []
    return [_tool(tool, losses) for tool in tools], losses


def written_choice(conversation: Conversation) -> tuple[Any, list[str]]:
    """Return the choice for the wire, None if nothing is to be said, and what was lost."""
    choice = conversation.tool_choice
    if choice is None:
        return None, []
    if not conversation.tools:
        return None, ["tool_choice"] if choice.mode in ("required", "named") else []
    if conversation.traits.auto_tools_only and choice != ToolChoice("auto"):
        return "auto", ["tool_choice"]
    kinds = {tool.name: tool.kind for tool in conversation.tools}
    known = [name for name in choice.allowed if name in kinds]
    losses = ["tool_choice"] if len(known) < len(choice.allowed) else []
    if not choice.allowed:
        # Nothing is named: a choice of no tool in particular.
        return ("required" if choice.mode == "named" else choice.mode), losses
    if not known or choice.mode == "none":
        return ("none" if choice.mode == "none" else "auto"), losses
    if choice.mode == "named" and kinds[known[0]] != "web_search":
        return _reference(known[0], kinds), losses
    if choice.mode == "named":
        # There is no other way to name a tool that OpenAI runs in all its versions.
        known = known[:1]
    mode = "auto" if choice.mode == "auto" else "required"
    allowed = [_reference(name, kinds) for name in known]
    return {"type": "allowed_tools", "mode": mode, "tools": allowed}, losses


def _tool(tool: Tool, losses: list[str]) -> dict[str, Any]:
    if tool.cache is not None:
        losses.append("cache_control")
    if tool.kind == "web_search":
        return _search(tool.raw or {}, losses)
    if tool.kind == "custom":
        return _custom(tool)
    # A local shell comes from clients of this very dialect only, and then as bytes: here it
    # is offered as what every model can call.
    function, lost = as_function(tool)
    losses += lost
    parameters, changed = rooted(function.parameters)
    if changed:
        losses.append("schema")
    strict = bool(function.strict) and holds_strictly(parameters)
    if function.strict and not strict:
        losses.append("strict")
    written: dict[str, Any] = {"type": "function", "name": function.name}
    if function.description:
        written["description"] = function.description
    # Not to say it means strict.
    return {**written, "parameters": parameters, "strict": strict}


def _custom(tool: Tool) -> dict[str, Any]:
    written: dict[str, Any] = {"type": "custom", "name": tool.name}
    if tool.description:
        written["description"] = tool.description
    raw = tool.raw or {}
    # Chat Completions holds both the tool and its grammar one level deeper.
    raw = raw["custom"] if isinstance(raw.get("custom"), Mapping) else raw
    form = raw.get("format")
    if isinstance(form, Mapping) and form.get("type") == "grammar":
        grammar = form["grammar"] if isinstance(form.get("grammar"), Mapping) else form
        told = {key: grammar.get(key) for key in ("syntax", "definition")}
        if all(isinstance(each, str) for each in told.values()):
            written["format"] = {"type": "grammar", **told}
    return written


def _search(raw: Mapping[str, Any], losses: list[str]) -> dict[str, Any]:
    """Return OpenAI's search, as narrow as the caller wanted its own vendor's to be."""
    written: dict[str, Any] = {"type": WEB_SEARCH}
    location = raw.get("user_location")
    if isinstance(location, Mapping):
        told = {key: location[key] for key in _LOCATION if isinstance(location.get(key), str)}
        written["user_location"] = {**told, "type": "approximate"}
    filters = raw.get("filters")
    where = {**raw, **(filters if isinstance(filters, Mapping) else {})}
    domains = where.get("allowed_domains")
    names = [each for each in domains if isinstance(each, str)] if _list(domains) else []
    if names:
        written["filters"] = {"allowed_domains": names}
    elif domains:
        losses.append(code("field", f"{WEB_SEARCH}.allowed_domains"))
    size = raw.get("search_context_size")
    if size in ("low", "medium", "high"):
        written["search_context_size"] = size
    # An empty list of domains limits nothing.
    losses += [code("field", f"{WEB_SEARCH}.{key}") for key in _UNTOLD if where.get(key)]
    return written


def _reference(name: str, kinds: Mapping[str, str]) -> dict[str, Any]:
    if kinds[name] == "web_search":
        return {"type": WEB_SEARCH}
    return {"type": "custom" if kinds[name] == "custom" else "function", "name": name}


def _list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)
