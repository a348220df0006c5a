"""
Gemini: the tools that a request offers, and the choice among them.

It must never know how another dialect writes them.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiclient2api.conversation.request import Tool, ToolChoice
from aiclient2api.dialects.gemini.read_schemas import json_schema
from aiclient2api.dialects.nodes import Node, code
from aiclient2api.errors import InvalidRequest

WEB_SEARCH = "web_search"

_DECLARED = ("name", "description", "parameters", "parametersJsonSchema")
_MODES = ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")
# Arguments are streamed to a client that asks for it, or come at once: the answer is the same.
_CHOSEN = ("mode", "allowedFunctionNames", "streamFunctionCallArguments")


def read_tools(request: Node) -> tuple[tuple[Tool, ...], list[str]]:
    """Return the tools of *request*, and codes of those that only Google can run."""
    tools: list[Tool] = []
    dropped: list[str] = []
    for entry in request.objects("tools"):
        for kind in entry.told():
            if kind == "functionDeclarations":
                tools += _declared(entry, dropped)
            elif kind == "googleSearch":
                search = entry.object(kind)
                dropped += (
                    [code("field", f"{kind}.{key}") for key in search.told()] if search else []
                )
                tools.append(Tool(WEB_SEARCH, WEB_SEARCH, raw=entry.members))
            else:
                dropped.append(code("tool", kind))
    return tuple(tools), dropped


def _declared(entry: Node, dropped: list[str]) -> Iterator[Tool]:
    for function in entry.objects("functionDeclarations"):
        key = "parametersJsonSchema"
        schema = function.object(key)
        if schema is None:
            key = "parameters"
            schema = function.object(key)
        parameters = schema.members if schema is not None else None
        yield Tool(
            "function",
            function.name("name"),
            function.text("description"),
            parameters=json_schema(parameters) if key == "parameters" else parameters,
            raw=function.members,
        )
        dropped += [code("field", each) for each in function.told() if each not in _DECLARED]


def read_choice(request: Node) -> tuple[ToolChoice | None, list[str]]:
    """
    Return which tools may or must be called, and codes of what cannot be said.

    :raise InvalidRequest: if the choice is malformed.
    """
    dropped: list[str] = []
    config = request.object("toolConfig")
    if config is None:
        return None, dropped
    dropped += [
        code("field", f"toolConfig.{key}")
        for key in config.told()
        if key != "functionCallingConfig"
    ]
    calling = config.object("functionCallingConfig")
    if calling is None:
        return None, dropped
    dropped += [
        code("field", f"functionCallingConfig.{key}")
        for key in calling.told()
        if key not in _CHOSEN
    ]
    mode = calling.enum("mode", _MODES) or _MODES[0]
    allowed = calling.texts("allowedFunctionNames")
    if mode not in _MODES:
        raise InvalidRequest(
            f"The field {calling.path('mode')} has a value that is not known; send AUTO, ANY,"
            " NONE or VALIDATED.",
            code="invalid_value",
            param=calling.path("mode"),
        )
    if mode == "NONE":
        return ToolChoice("none"), dropped
    if mode == "ANY":
        return ToolChoice("named" if len(allowed) == 1 else "required", allowed), dropped
    if mode == "VALIDATED":
        dropped.append("strict")
    elif mode == _MODES[0] and not allowed:
        return None, dropped
    return ToolChoice("auto", allowed), dropped
