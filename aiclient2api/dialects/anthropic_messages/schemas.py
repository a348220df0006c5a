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
_MOST_FOLLOWED = 50_000
"""How many keywords may be fetched by references: what refers to itself has no end of them."""
_NOTES = ("title", "description", "$schema", "$id", "$comment", "examples")
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
    references = _References(schema or {})
    root = references.resolved(schema or {})
    lost = root.get("type") not in (None, "object")
    root["type"] = "object"
    lost = _merge(root, references) or lost
    for key in _UNIONS:
        branches = [references.resolved(part) for part in _objects(root.pop(key, ()))]
        if branches:
            lost = True
            _unite(root, branches)
    if not isinstance(root.get("properties"), dict):
        root["properties"] = {}
    return root, ("schema",) if lost or references.short else ()


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


class _References:
    """
    Follows the references of a schema.

    :ivar short: Whether some were left, because there were too many.
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.short = False
        self._root = root
        self._room = _MOST_FOLLOWED

    def resolved(self, schema: Mapping[str, Any]) -> _Schema:
        """Return *schema* with what it refers to put in its place, should it be nothing else."""
        seen: set[str] = set()
        made = dict(schema)
        while isinstance(made.get("$ref"), str) and made["$ref"] not in seen:
            reference = made.pop("$ref")
            seen.add(reference)
            found = _at(self._root, reference)
            self._room -= 1 + len(found) + len(made)
            if self._room < 0:
                self.short = True
                break
            made = {**found, **made}
        made.pop("$ref", None)
        return made


def _at(root: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
    """Return what a pointer such as ``#/$defs/A`` leads to."""
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if _is_map(found) else None
    return found if _is_map(found) else {}


def _merge(root: _Schema, references: _References) -> bool:
    """
    Add to *root* what must hold besides, and return whether something contradicted it.

    What is met again, by another reference, is no more than it was: nothing is done twice.
    """
    waiting = [root.pop("allOf", None)]
    properties, required = dict(_properties(root)), dict.fromkeys(_required(root))
    seen = {id(root.get("properties")), id(root.get("required"))}
    lost = False
    for each in waiting:
        # What is merged may itself be made of several, or of itself: the list grows.
        for part in map(references.resolved, _objects(_new(each, seen))):
            waiting.append(part.pop("allOf", None))
            fresh = _new(part.pop("properties", None), seen)
            for name, schema in (fresh if isinstance(fresh, dict) else {}).items():
                lost = properties.setdefault(name, schema) != schema or lost
            more = _new(part.pop("required", None), seen)
            required |= dict.fromkeys(_required({"required": more}))
            for key, value in part.items():
                lost = (root.setdefault(key, value) != value and key not in _NOTES) or lost
    if len(waiting) > 1:
        root["properties"] = properties
        if required:
            root["required"] = list(required)
    return lost


def _unite(root: _Schema, branches: Sequence[Mapping[str, Any]]) -> None:
    """Add to *root* what may be in any of *branches*, and must be if it is in all."""
    found: dict[str, dict[bytes, Any]] = {}
    choices: dict[str, None] = {}
    seen: set[int] = set()
    common = dict.fromkeys(_required(branches[0]))
    for branch in branches:
        # What two branches refer to is looked at once.
        must, may = branch.get("required"), branch.get("properties")
        new_must, new_may = id(must) not in seen, id(may) not in seen
        seen |= {id(must), id(may)}
        if new_must:
            required = dict.fromkeys(_required(branch))
            common = {name: None for name in common if name in required}
            choices[", ".join(required)] = None
        if new_may:
            for name, schema in _properties(branch).items():
                found.setdefault(name, {}).setdefault(write(schema), schema)
            if not must:
                choices[", ".join(_properties(branch))] = None
    united = {
        name: schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        for name, schemas in ((name, list(each.values())) for name, each in found.items())
    }
    root["properties"] = {**united, **_properties(root)}
    all_required = dict.fromkeys((*_required(root), *common))
    if all_required:
        root["required"] = list(all_required)
    _describe(root, "One of these belongs together: " + " | ".join(filter(None, choices)))


def _new(value: Any, seen: set[int]) -> Any:
    """Return *value*, None if it was met before."""
    if id(value) in seen:
        return None
    seen.add(id(value))
    return value


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
