"""
Tools and the choice among them, as a request offers them.

It must never know how another dialect writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiclient2api.conversation.request import Tool, ToolChoice
from aiclient2api.dialects.nodes import Node, code

WEB_SEARCH = "web_search"

# Mistral says "any" for "required".
_MODES = {"auto": "auto", "none": "none", "required": "required", "any": "required"}


def read_tools(request: Node) -> tuple[tuple[Tool, ...], list[str]]:
    """
    Return the tools of *request*, and codes of those that only a vendor runs.

    :raise InvalidRequest: if one is malformed.
    """
    tools: list[Tool] = []
    dropped: list[str] = []
    for node in request.objects("tools"):
        kind = node.name("type")
        if kind in ("function", "custom"):
            told = node.object(kind)
            if told is None:
                raise node.wrong(kind, "an object with the name of the tool")
            tools.append(_tool(kind, told, _cache(node) or _cache(told)))
        elif kind.startswith(WEB_SEARCH):
            tools.append(Tool("web_search", WEB_SEARCH, raw=node.members))
        else:
            dropped.append(code("tool", kind))
    tools += [_tool("function", node, None) for node in request.objects("functions")]
    options = request.object("web_search_options")
    if options is not None:
        tools.append(Tool("web_search", WEB_SEARCH, raw=_search(options)))
    return tuple(tools), dropped


def read_choice(
    request: Node, tools: tuple[Tool, ...]
) -> tuple[ToolChoice | None, tuple[str, ...]]:
    """
    Return which of *tools* may or must be called, and what of it cannot be said.

    :raise InvalidRequest: if the choice is malformed.
    """
    key = "tool_choice" if request.has("tool_choice") else "function_call"
    value = request.members.get(key)
    if isinstance(value, str):
        return ToolChoice(_MODES[request.choice(key, *_MODES) or "auto"]), ()
    choice = request.object(key)
    if choice is None:
        return None, ()
    mode, named = "named", [choice]
    if key == "tool_choice":
        kind = choice.name("type")
        if kind == "allowed_tools":
            allowed = choice.object(kind)
            if allowed is None:
                raise choice.wrong(kind, "an object with mode and tools")
            mode = allowed.choice("mode", "auto", "required") or "auto"
            named = [_inner(each) for each in allowed.objects("tools")]
        else:
            named = [_inner(choice)]
    offered = {tool.flat_name for tool in tools}
    names = tuple(name for name in (node.name("name") for node in named) if name in offered)
    losses = ("tool_choice",) if len(names) < len(named) else ()
    return (ToolChoice(mode, names) if names else None), losses


def _tool(kind: str, told: Node, cache: Mapping[str, Any] | None) -> Tool:
    parameters = told.object("parameters") if kind == "function" else None
    return Tool(
        kind,
        told.name("name"),
        description=told.text("description"),
        parameters=None if parameters is None else parameters.members,
        strict=told.flag("strict") if kind == "function" else None,
        cache=cache,
        raw=told.members,
    )


def _inner(choice: Node) -> Node:
    """Return what names a tool: it stands under the tool's own type."""
    kind = choice.choice("type", "function", "custom")
    told = choice.object(kind) if kind else None
    if told is None:
        raise choice.wrong(kind or "type", "the tool's type, and its name in an object under it")
    return told


def _search(options: Node) -> dict[str, Any]:
    """Return the options as those of a tool; the place stands one level higher there."""
    told = dict(options.members)
    place = options.object("user_location")
    if place is not None:
        nearby = place.object("approximate")
        told["user_location"] = {"type": "approximate", **(nearby.members if nearby else {})}
    return told


def _cache(node: Node) -> Mapping[str, Any] | None:
    marker = node.members.get("cache_control")
    return marker if isinstance(marker, dict) else None
