"""
Tools and the choice among them, as a request offers them.

It must never know how another dialect writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from aiclient2api.conversation.request import Tool, ToolChoice
from aiclient2api.dialects.nodes import Node, code
from aiclient2api.dialects.openai_responses.read_items import SHELL

WEB_SEARCH = "web_search"
"""The search, and how the names of its older versions begin."""

_SEARCH = ("type", "search_context_size", "user_location", "filters")
"""What of a search other dialects may have a word for; who writes it says what was lost."""

_ONLINE = ("external_web_access", True)
"""What is so unless it is said otherwise; Codex says it."""

_MODES = ("auto", "none", "required")


def read_tools(request: Node) -> tuple[tuple[Tool, ...], list[str]]:
    """
    Return the tools of *request*, and codes of those that only OpenAI runs.

    :raise InvalidRequest: if one is malformed.
    """
    tools: list[Tool] = []
    dropped: list[str] = []
    for node in request.objects("tools"):
        kind = node.name("type")
        if kind == "namespace":
            if node.text("description"):
                dropped.append("field:namespace.description")
            for inner in node.objects("tools"):
                _read(inner, inner.name("type"), node.name("name"), tools, dropped)
        else:
            _read(node, kind, "", tools, dropped)
    return tuple(tools), dropped


def _read(node: Node, kind: str, namespace: str, tools: list[Tool], dropped: list[str]) -> None:
    if kind == "function":
        parameters = node.object("parameters")
        tool = Tool(
            "function",
            node.name("name"),
            description=node.text("description"),
            parameters=None if parameters is None else parameters.members,
            strict=node.flag("strict"),
            namespace=namespace,
            raw=node.members,
        )
    elif kind == "custom":
        tool = Tool(
            "custom",
            node.name("name"),
            description=node.text("description"),
            namespace=namespace,
            raw=node.members,
        )
    elif kind == "local_shell":
        tool = Tool("local_shell", SHELL, raw=node.members)
    elif kind.startswith(WEB_SEARCH):
        tool = Tool("web_search", WEB_SEARCH, raw=node.members)
        dropped += [
            code("field", f"{WEB_SEARCH}.{key}")
            for key, value in node.members.items()
            if value is not None and key not in _SEARCH and (key, value) != _ONLINE
        ]
    else:
        dropped.append(code("tool", kind))
        return
    tools.append(tool)


def read_choice(request: Node, tools: Sequence[Tool]) -> tuple[ToolChoice | None, list[str]]:
    """
    Return which of *tools* may or must be called, and what of it cannot be said.

    :raise InvalidRequest: if the choice is malformed.
    """
    value = request.members.get("tool_choice")
    if value is None:
        return None, []
    if isinstance(value, str):
        return ToolChoice(request.choice("tool_choice", *_MODES) or "auto"), []
    choice = request.object("tool_choice")
    if choice is None or not tools:
        return None, []
    offer = _Offer.of(tools)
    if choice.name("type") == "allowed_tools":
        mode = choice.choice("mode", "auto", "required") or "auto"
        named = [_named(each, offer) for each in choice.objects("tools")]
        allowed = tuple(name for name in named if name)
        if named and not allowed:
            return None, ["tool_choice"]
        return ToolChoice(mode, allowed), [] if len(named) == len(allowed) else ["tool_choice"]
    name = _named(choice, offer)
    if not name:
        return None, ["tool_choice"]
    return ToolChoice("named", (name,)), []


@attrs.frozen
class _Offer:
    """
    The tools there are, by name.

    :ivar flat: All flat names.
    :ivar bare: Names without their namespaces, to the flat names they may mean.
    """

    flat: frozenset[str]
    bare: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, tools: Sequence[Tool]) -> _Offer:
        """Return what *tools* are called."""
        bare: dict[str, set[str]] = {}
        for tool in tools:
            bare.setdefault(tool.name, set()).add(tool.flat_name)
        flat = frozenset(tool.flat_name for tool in tools)
        return cls(flat, {name: frozenset(flats) for name, flats in bare.items()})


def _named(choice: Node, offer: _Offer) -> str:
    """Return the flat name of the tool that *choice* means, ``""`` for one that was dropped."""
    kind = choice.name("type")
    if kind == "local_shell":
        name, namespace = SHELL, ""
    elif kind.startswith(WEB_SEARCH):
        name, namespace = WEB_SEARCH, ""
    elif kind in ("function", "custom"):
        name, namespace = choice.name("name"), choice.text("namespace")
    else:
        return ""
    flat = Tool(kind, name, namespace=namespace).flat_name
    if flat in offer.flat:
        return flat
    # Without its namespace a name is good enough as long as it means one tool only.
    meant = offer.bare.get(name, frozenset())
    return next(iter(meant)) if len(meant) == 1 else ""
