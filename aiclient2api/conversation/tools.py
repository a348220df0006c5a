"""
Tools that only one vendor knows, as functions that every model can call.

A tool that takes free text becomes a function with one string; a shell becomes a function
with a command. The calls come back in the same dress, and are undressed by whoever offered
the tool. It must never know which dialect needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from aiclient2api.conversation.request import Tool

INPUT = "input"
"""The one property of a function that stands for a tool with free text."""

_TEXT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {INPUT: {"type": "string", "description": "What the tool is given, as text."}},
    "required": [INPUT],
}
# https://platform.openai.com/docs/guides/tools-local-shell
_SHELL_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "command": {
            "type": "array",
            "items": {"type": "string"},
            "description": "The command and its arguments.",
        },
        "working_directory": {"type": "string", "description": "Where to run it."},
        "timeout_ms": {"type": "integer", "description": "Milliseconds it may take."},
        "env": {
            "type": "object",
            "description": "Environment variables to set.",
            "additionalProperties": {"type": "string"},
        },
    },
    "required": ["command"],
}
_SHELL_TEXT = "Run a command on the user's machine and return its output."


def as_function(tool: Tool) -> tuple[Tool, tuple[str, ...]]:
    """
    Return *tool* as a function; one that is a function already is itself.

    :return: And ``tool_grammar`` if what its input must look like is only told in words.
    :raise ValueError: for a tool that its vendor runs: there is nothing to call.
    """
    if tool.kind == "function":
        return tool, ()
    if tool.kind == "local_shell":
        shell = attrs.evolve(
            tool,
            kind="function",
            description=tool.description or _SHELL_TEXT,
            parameters=_SHELL_SCHEMA,
        )
        return shell, ()
    if tool.kind != "custom":
        raise ValueError(f"{tool.kind} is no tool that can be called")
    grammar = _grammar(tool.raw)
    parts = [tool.description, grammar and f"Its input must match this grammar:\n{grammar}"]
    description = "\n\n".join(part for part in parts if part)
    function = attrs.evolve(tool, kind="function", description=description, parameters=_TEXT_SCHEMA)
    return function, ("tool_grammar",) if grammar else ()


def arguments_of(text: str) -> str:
    """Return the arguments of a call of a tool that takes free *text*."""
    sendable = text.encode("utf-8", "replace").decode()
    return msgspec.json.encode({INPUT: sendable}).decode()


def text_of(arguments: str) -> str:
    """
    Return the free text in the arguments of a call; `arguments_of` made them, or a model.

    A model that does not keep to the schema is taken at its word.
    """
    try:
        given = _ANY.decode(arguments)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return arguments
    if isinstance(given, dict) and isinstance(given.get(INPUT), str):
        return str(given[INPUT])
    if isinstance(given, dict) and len(given) == 1:
        (only,) = given.values()
        if isinstance(only, str):
            return only
    return given if isinstance(given, str) else arguments


def _grammar(raw: Mapping[str, Any] | None) -> str:
    given = raw.get("format") if raw else None
    if isinstance(given, Mapping) and isinstance(given.get("grammar"), Mapping):
        # Chat Completions holds it one level deeper than Responses.
        given = given["grammar"]
    definition = given.get("definition") if isinstance(given, Mapping) else None
    return definition if isinstance(definition, str) else ""


_ANY = msgspec.json.Decoder()
