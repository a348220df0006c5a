"""
What a request says, as it stands on the wire, and what of it is not in another request.

Every text, name, argument and medium of the one must be found in the other, whatever form it
has there, or be excused by a loss that tells of it. This looks at JSON and at the names that
fields have in any dialect; it knows nothing of how a conversion is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

_SAID = ("text", "content", "instructions", "input", "output", "system", "arguments", "result")
_THOUGHT = ("thinking", "reasoning_content", "encrypted_content", "signature")
_MEDIA = ("data", "url", "image_url", "file_data", "fileUri", "file_uri")
_SCHEMAS = (
    "input_schema",
    "parameters",
    "parametersJsonSchema",
    "parameters_json_schema",
    "response_json_schema",
    "responseJsonSchema",
    "response_schema",
    "responseSchema",
    "schema",
)
_OBJECTS = ("input", "args", "response")
_TOOLS = ("tools", "functions")

_EXCUSES: Mapping[str, tuple[str, ...]] = {
    "text": ("attribution", "tool_result"),
    "thought": ("reasoning",),
    "medium": ("image", "audio", "file", "file_id", "reasoning"),
    "schema": ("schema", "output_format", "tool", "tool_grammar"),
    "tool": ("tool",),
    "description": ("tool", "output_format", "field:namespace.description"),
    "argument": (),
}
"""What is said, and the codes (or families of codes) that may tell that it is not any more."""


def unsaid(source: Mapping[str, Any], target: Mapping[str, Any], codes: Iterable[str]) -> list[str]:
    """Return what *source* says and *target* does not, and *codes* do not tell of."""
    told = {each for code in codes for each in (code, code.partition(":")[0])}
    there = "\n".join(_strings(target))
    return [
        f"{kind} {words!r:.120}"
        for kind, words in _items(source, "", "")
        if words.strip() and words.strip() not in there and not told.intersection(_EXCUSES[kind])
    ]


def _strings(value: Any) -> Iterator[str]:
    """Yield every string in *value*, keys and what JSON strings hold among them."""
    if isinstance(value, str):
        yield value
        if value[:1] == "{":
            with suppress(ValueError):
                yield from _strings(json.loads(value))
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield key
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    else:
        yield json.dumps(value)


def _items(value: Any, key: str, within: str) -> Iterator[tuple[str, str]]:
    """
    Yield what *value* says, and of what kind it is.

    :param key: Under which it stands.
    :param within: ``schema``, ``argument``, ``thought`` or ``tool``, if it is part of one.
    """
    if isinstance(value, list):
        for each in value:
            # Arguments are an object; a list of inputs is what was said.
            yield from _items(each, "" if key in _OBJECTS else key, within)
    elif isinstance(value, Mapping):
        inner = _entered(key, within)
        if inner in ("schema", "argument"):
            yield from ((inner, each) for each in _names_in(value, inner))
        for name, each in value.items():
            yield from _items(each, name, inner)
    elif isinstance(value, str):
        kind = _kind(key, within)
        if kind == "argument" and value[:1] == "{":
            yield from _items(json.loads(value), "input", "")
        elif kind == "medium" and value.startswith("data:"):
            yield kind, value.partition(",")[2]
        elif kind is not None:
            yield kind, value


def _entered(key: str, within: str) -> str:
    if within in ("schema", "argument"):
        return within
    if key in _SCHEMAS:
        return "schema"
    if key in _OBJECTS and within != "tool":
        return "argument"
    if key == "summary":
        return "thought"
    return "tool" if key in _TOOLS or within == "tool" else ""


def _names_in(value: Mapping[str, Any], within: str) -> Iterator[str]:
    if within == "argument":
        # What a function returned has to be an object for Google: these are its wrappings.
        if value.keys() not in ({"result"}, {"output"}, {"error"}):
            yield from value
        return
    properties = value.get("properties")
    if isinstance(properties, Mapping):
        yield from properties


def _kind(key: str, within: str) -> str | None:
    if within == "schema":
        return "schema" if key in ("description", "enum") else None
    if within == "argument" or key == "arguments":
        return "argument"
    if within == "tool":
        return {"name": "tool", "description": "description"}.get(key)
    if key in _THOUGHT or (within == "thought" and key == "text"):
        return "thought"
    if key in _MEDIA:
        return "medium"
    return "text" if key in _SAID else None
