"""
JSON Schemas as Anthropic takes them: a tool's input, and the form of an answer.

What it refuses is told in descriptions, where the model may still read it. Only schemas
come here, never the values they describe. It must never know what a schema is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiclient2api.framing.json_text import write

_Schema = dict[str, Any]

_UNIONS = ("anyOf", "oneOf")
_SUBSCHEMAS = ("properties", "$defs", "definitions")
_MOST_MERGES = 8
# https://platform.claude.com/docs/en/build-with-claude/structured-outputs
_KEPT = (
    "$ref",
    "const",
    "default",
    "description",
    "enum",
    "required",
    "title",
    "type",
)
_SAYS_NOTHING = ("$schema", "$id", "$comment", "additionalProperties")
_FORMATS = (
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "time",
    "uri",
    "uuid",
)


def input_schema(schema: Mapping[str, Any] | None) -> tuple[_Schema, tuple[str, ...]]:
    """
    Return the schema of a tool's input: at its root an object, and no choice between several.

    :return: And ``schema`` if something is only told in words.
    """
    root = _resolved(schema or {}, schema or {})
    lost = root.get("type") not in (None, "object")
    root["type"] = "object"
    for _ in range(_MOST_MERGES):
        # What is merged may itself be made of several, or of itself.
        for part in _objects(root.pop("allOf", ())):
            _merge(root, _resolved(part, schema or {}))
    root.pop("allOf", None)
    for key in _UNIONS:
        branches = [_resolved(part, schema or {}) for part in _objects(root.pop(key, ()))]
        if branches:
            lost = True
            _unite(root, branches)
    if not isinstance(root.get("properties"), dict):
        root["properties"] = {}
    return root, ("schema",) if lost else ()


def answer_schema(schema: Mapping[str, Any]) -> tuple[_Schema, tuple[str, ...]]:
    """
    Return the schema of an answer, with nothing in it but what Anthropic can hold it to.

    :return: And ``schema`` if something is only told in words.
    """
    held = _Held()
    return held.node(schema), ("schema",) if held.lost else ()


class _Held:
    """
    Makes a schema one that an answer can be held to.

    :ivar lost: Whether something is only told in words.
    """

    def __init__(self) -> None:
        self.lost = False

    def node(self, schema: Mapping[str, Any]) -> _Schema:
        """Return one schema and all within it."""
        made: _Schema = {}
        told: list[str] = []
        for key, value in schema.items():
            if key in _SUBSCHEMAS and isinstance(value, dict):
                made[key] = {name: self._any(each) for name, each in value.items()}
            elif key in (*_UNIONS, "allOf") and isinstance(value, list):
                made["anyOf" if key in _UNIONS else key] = [self._any(each) for each in value]
            elif key == "items":
                made[key] = self._any(value)
            elif (
                key in _KEPT
                or (key == "format" and value in _FORMATS)
                or (key == "minItems" and value in (0, 1))
            ):
                made[key] = value
            elif key not in _SAYS_NOTHING:
                told.append(f"{key}: {write(value).decode()}")
        if _is_object(schema):
            self.lost = self.lost or schema.get("additionalProperties") not in (None, False)
            made["additionalProperties"] = False
        if told:
            self.lost = True
            _describe(made, "{" + ", ".join(told) + "}")
        return made

    def _any(self, value: Any) -> Any:
        return self.node(value) if isinstance(value, dict) else value


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> _Schema:
    """Return *schema* with what it refers to put in its place, should it be nothing else."""
    seen: set[str] = set()
    made = dict(schema)
    while isinstance(made.get("$ref"), str) and made["$ref"] not in seen:
        reference = made.pop("$ref")
        seen.add(reference)
        made = {**_at(root, reference), **made}
    made.pop("$ref", None)
    return made


def _at(root: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
    """Return what a pointer such as ``#/$defs/A`` leads to."""
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if _is_map(found) else None
    return found if _is_map(found) else {}


def _merge(root: _Schema, part: Mapping[str, Any]) -> None:
    """Add to *root* what must hold besides."""
    root["properties"] = {**_properties(part), **_properties(root)}
    required = dict.fromkeys((*_required(root), *_required(part)))
    if required:
        root["required"] = list(required)
    for key, value in part.items():
        root.setdefault(key, value)


def _unite(root: _Schema, branches: Sequence[Mapping[str, Any]]) -> None:
    """Add to *root* what may be in any of *branches*, and must be if it is in all."""
    found: dict[str, list[Any]] = {}
    for branch in branches:
        for name, schema in _properties(branch).items():
            if schema not in found.setdefault(name, []):
                found[name].append(schema)
    united = {
        name: schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        for name, schemas in found.items()
    }
    root["properties"] = {**united, **_properties(root)}
    common = [
        name for name in _required(branches[0]) if all(name in _required(b) for b in branches)
    ]
    required = dict.fromkeys((*_required(root), *common))
    if required:
        root["required"] = list(required)
    choices = [", ".join(_required(branch) or _properties(branch)) for branch in branches]
    _describe(root, "One of these belongs together: " + " | ".join(filter(None, choices)))


def _describe(schema: _Schema, words: str) -> None:
    before = schema.get("description")
    schema["description"] = f"{before}\n\n{words}" if before and isinstance(before, str) else words


def _objects(value: Any) -> Iterable[Mapping[str, Any]]:
    return [each for each in value if _is_map(each)] if isinstance(value, list) else []


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def _required(schema: Mapping[str, Any]) -> Sequence[str]:
    found = schema.get("required")
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _is_object(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return (
        kind == "object"
        or (isinstance(kind, list) and "object" in kind)
        or (kind is None and isinstance(schema.get("properties"), dict))
    )


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)
