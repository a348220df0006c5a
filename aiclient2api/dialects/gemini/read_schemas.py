"""
Gemini: a schema in Google's style, a subset of OpenAPI 3.0, as a JSON Schema.

Clients also send JSON Schemas in its place; they come through as they are. Anything may
stand in a schema, so nothing here fails. It must never know where the schema stood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from aiclient2api.dialects.nodes import camel
from aiclient2api.framing.json_text import number

# The numbers are those of the enum on the wire; LangChain sends them.
_TYPES = (None, "string", "number", "integer", "boolean", "array", "object", "null")
_NOTHING = "type_unspecified"
# Integers of 64 bits are strings in Google's JSON.
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
# Only Google knows these: the order in which properties are told, and that an enum is one.
_UNTOLD = frozenset({"propertyOrdering", "nullable", "example"})


def json_schema(schema: Any) -> Any:
    """Return *schema* as a JSON Schema; what is no object is returned as it is."""
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for written, value in schema.items():
        key = camel(written)
        if key in _UNTOLD:
            continue
        key = _RENAMED.get(key, key)
        reader = _READERS.get(key)
        made[key if reader is not None else written] = reader(value) if reader else value
    return _settled(made, schema)


def _settled(made: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return *made* with what one keyword of *schema* says of another."""
    if made.get("type") is None:
        made.pop("type", None)
    if made.get("format") == "enum":
        del made["format"]
    if "example" in schema and "examples" not in made:
        made["examples"] = [schema["example"]]
    enum = made.get("enum")
    if isinstance(enum, list) and made.get("type") in ("integer", "number"):
        # Google writes the numbers of an enum as strings.
        made["enum"] = enum = [_number_in(value) for value in enum]
    if schema.get("nullable") is True:
        if isinstance(made.get("type"), str):
            made["type"] = [made["type"], "null"]
            if isinstance(enum, list) and None not in enum:
                made["enum"] = [*enum, None]
        elif isinstance(made.get("anyOf"), list):
            made["anyOf"] = [*made["anyOf"], {"type": "null"}]
    return made


def _type(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(_TYPES):
        return _TYPES[value]
    if isinstance(value, list):
        return [name for name in map(_type, value) if name is not None]
    if isinstance(value, str):
        lower = value.lower()
        return None if lower == _NOTHING else lower if lower in _TYPES else value
    return value


def _named(value: Any) -> Any:
    # These keys are names that people chose, not keywords.
    if isinstance(value, dict):
        return {name: json_schema(inner) for name, inner in value.items()}
    return value


def _listed(value: Any) -> Any:
    return [json_schema(each) for each in value] if isinstance(value, list) else value


def _items(value: Any) -> Any:
    return _listed(value) if isinstance(value, list) else json_schema(value)


def _reference(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("#/defs/"):
        return "#/$defs/" + value.removeprefix("#/defs/")
    return value


def _count(value: Any) -> Any:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return value


def _number_in(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        found = number(msgspec.json.decode(value))
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return value
    return value if found is None else found


_RENAMED = {"ref": "$ref", "defs": "$defs"}
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "type": _type,
    "properties": _named,
    "patternProperties": _named,
    "$defs": _named,
    "definitions": _named,
    "items": _items,
    "prefixItems": _listed,
    "anyOf": _listed,
    "oneOf": _listed,
    "allOf": _listed,
    "additionalProperties": json_schema,
    "not": json_schema,
    "$ref": _reference,
    **dict.fromkeys(_COUNTS, _count),
}
