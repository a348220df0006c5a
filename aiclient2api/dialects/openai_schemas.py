"""
JSON Schemas as OpenAI takes them: an object at the root, and what may be called strict.

It must never know which of OpenAI's two dialects it is used for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

_COMBINED = ("anyOf", "oneOf", "allOf")
_NOT_AT_ROOT = (*_COMBINED, "enum", "not")


def holds_strictly(schema: Any) -> bool:
    """
    Say whether *schema* may be called strict: objects closed, their properties required.

    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    """
    if isinstance(schema, list):
        return all(map(holds_strictly, schema))
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if isinstance(properties, Mapping) or schema.get("type") == "object":
        names = set(properties) if isinstance(properties, Mapping) else set()
        required = schema.get("required")
        named = {each for each in required if isinstance(each, str)} if _list(required) else set()
        if schema.get("additionalProperties") is not False or names != named:
            return False
    return all(holds_strictly(value) for value in schema.values())


def rooted(schema: Mapping[str, Any] | None) -> tuple[dict[str, Any], bool]:
    """
    Return *schema* with a plain object at its root.

    :return: And whether something of it was lost on the way.
    """
    root: dict[str, Any] = dict(schema or {})
    lost = False
    properties = dict(root["properties"]) if isinstance(root.get("properties"), Mapping) else {}
    required = [*root["required"]] if _list(root.get("required")) else []
    for word in _COMBINED:
        for branch in _mappings(root.get(word)):
            more = branch.get("properties")
            for name, each in more.items() if isinstance(more, Mapping) else ():
                properties.setdefault(name, each)
            if word == "allOf" and _list(branch.get("required")):
                required += [name for name in branch["required"] if name not in required]
    for word in _NOT_AT_ROOT:
        lost = root.pop(word, None) is not None or lost
    if root.get("type", "object") != "object":
        lost = True
    root = {**root, "type": "object", "properties": properties}
    if required:
        root["required"] = required
    return root, lost


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if _list(value) else []


def _list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)
