"""
Gemini: any JSON Schema as one that Google takes.

Google refuses a whole request for one keyword it does not know, and there is no end of
keywords. So nothing is taken out here: a schema is built anew from what the target is known
to take, which `PARAMETERS` and `OUTPUT` describe, and whatever else was said is told to the
model in the description. It must never know what a schema is for.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import attrs
import msgspec

from aiclient2api.framing.json_text import number, write


class Shape(enum.Enum):
    """What may stand under a keyword."""

    TYPE = "one name of a type"
    TYPE_OR_NULL = "a name of a type, or a list of it and null"
    TEXT = "a text"
    NUMBER = "a number"
    COUNT = "an integer, not negative"
    TEXTS = "a list of texts, none empty"
    SCALARS = "a list of texts or one of numbers"
    NAMES = "a list of names that stand among the properties"
    SCHEMA = "a schema"
    SCHEMAS = "a list of schemas"
    NAMED = "schemas by name"
    SCHEMA_OR_FLAG = "a schema, true or false"


Accepted = Mapping[str, Shape]
"""What a target takes: each keyword, and what may stand under it."""

PARAMETERS: Accepted = {
    "type": Shape.TYPE,
    "description": Shape.TEXT,
    "properties": Shape.NAMED,
    "required": Shape.NAMES,
    "items": Shape.SCHEMA,
    "enum": Shape.TEXTS,
    "minimum": Shape.NUMBER,
    "maximum": Shape.NUMBER,
}
"""For the parameters of functions: what all of Google's endpoints have in common."""

OUTPUT: Accepted = {
    **PARAMETERS,
    "type": Shape.TYPE_OR_NULL,
    "enum": Shape.SCALARS,
    "anyOf": Shape.SCHEMAS,
    "title": Shape.TEXT,
    "format": Shape.TEXT,
    "minItems": Shape.COUNT,
    "maxItems": Shape.COUNT,
    "additionalProperties": Shape.SCHEMA_OR_FLAG,
}
"""For the form of answers: https://ai.google.dev/gemini-api/docs/structured-output."""

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
MAX_DEPTH = 32
MOST_NODES = 20_000
"""How many schemas may be reached through references; the rest are stubs."""

_RANKS = {"object": 3, "array": 2, "null": 0}
_HINT_LENGTH = 200
_MOST_TOLD = 10
_LAST = ("format", "default")
# What these say, the model need not know.
_SILENT = frozenset({"title", "definitions", "if", "propertyOrdering", "nullable"})
# Under these an object is no property of a map that somebody forgot to wrap.
_OBJECTS = frozenset(
    (
        *("additionalItems", "additionalProperties", "const", "contains", "contentSchema"),
        *("default", "definitions", "dependencies", "dependentRequired", "dependentSchemas"),
        *("discriminator", "else", "example", "examples", "externalDocs", "if", "items", "not"),
        *("patternProperties", "properties", "propertyNames", "then", "unevaluatedItems"),
        *("unevaluatedProperties", "xml"),
    )
)

_LISTS = ("properties", "required")

_Stack = frozenset[str]
_Placed = tuple[Any, _Stack]
"""Something in a schema, and the references that led to it."""


@attrs.define
class Budget:
    """How many more schemas may be reached through references, in all of one request."""

    left: int = MOST_NODES


def for_gemini(
    schema: Any, *, accepted: Accepted = PARAMETERS, budget: Budget | None = None
) -> tuple[dict[str, Any], bool]:
    """
    Return *schema* as one that is *accepted*.

    Never fails, whatever it is given. References are put in place and merged, a union of
    types becomes the one that says most, a constant an enum of one; what is left over is
    told in the descriptions.

    :return: And whether anything that says something had to be changed.
    """
    rewriter = _Rewriter(schema, accepted, budget or Budget())
    made, _ = rewriter.node((schema, frozenset()), 0)
    if "type" not in made and "anyOf" not in made:
        made = {"type": "object", **made}
    if isinstance(schema, dict):
        # That an object has no properties need not be said.
        schema = {word: value for word, value in schema.items() if value or word not in _LISTS}
    return made, made != schema


@attrs.define
class _Flat:
    """
    A schema without references and ``allOf``: what it says itself comes first.

    :ivar words: What stands under each keyword but ``properties`` and ``required``.
    """

    words: dict[str, _Placed] = attrs.field(factory=dict)
    properties: dict[str, _Placed] = attrs.field(factory=dict)
    required: list[str] = attrs.field(factory=list)
    hints: list[str] = attrs.field(factory=list)
    nullable: bool = False

    def get(self, word: str) -> Any:
        """Return what stands under a keyword."""
        return self.words.get(word, (None,))[0]

    @property
    def types(self) -> list[str]:
        """The types it names, or that its keywords imply."""
        told = self.get("type")
        named = [name.lower() for name in _listed(told) if isinstance(name, str)]
        types = [name for name in dict.fromkeys(named) if name in TYPES]
        if types:
            return types
        if self.properties:
            return ["object"]
        if "items" in self.words or "prefixItems" in self.words:
            return ["array"]
        return list(dict.fromkeys(map(_type_of, self.values)))

    @property
    def values(self) -> list[Any]:
        """The values of its enum, or its constant."""
        if isinstance(self.get("enum"), list):
            return list(self.get("enum"))
        return [self.get("const")] if "const" in self.words else []

    def merge(self, other: _Flat) -> None:
        """Add what *other* says; what is said already wins."""
        for word, placed in other.words.items():
            self.words.setdefault(word, placed)
        for name, placed in other.properties.items():
            self.add(name, placed)
        self.required += other.required
        self.hints += other.hints
        self.nullable = self.nullable or other.nullable

    def add(self, name: str, placed: _Placed) -> None:
        """Add a property; where there is one of that name, both must hold."""
        known = self.properties.get(name)
        if known is not None and known[0] is not placed[0]:
            placed = {"allOf": [known[0], placed[0]]}, known[1] | placed[1]
        self.properties[name] = placed


class _Rewriter:
    """Rewrites one schema; *root* is what its references point into."""

    def __init__(self, root: Any, accepted: Accepted, budget: Budget) -> None:
        self._root = root
        self._accepted = accepted
        self._budget = budget
        self._unions = "anyOf" in accepted

    def node(self, placed: _Placed, depth: int) -> tuple[dict[str, Any], bool]:
        """Return one schema, and whether null may stand in its place."""
        schema, stack = placed
        if depth >= MAX_DEPTH or (stack and self._budget.left <= 0):
            return _stub(schema), False
        flat = self._flat(schema, stack)
        made: dict[str, Any] = {}
        if not self._unions:
            self._choose(flat)
        elif isinstance(flat.get("anyOf") or flat.get("oneOf"), list):
            made["anyOf"] = self._branches(flat, depth)
        kind = self._typed(flat, made)
        if kind == "object":
            self._object(flat, made, depth)
        elif kind == "array":
            made["items"] = self._items(flat, depth)
        hints = [*flat.hints, *self._rest(flat, made, kind, depth)]
        description = flat.get("description")
        told = description if isinstance(description, str) else ""
        for hint in hints:
            if hint not in told:
                told = f"{told} ({hint})" if told else hint
        if told:
            made["description"] = told
        return made, flat.nullable

    # --- references and allOf -------------------------------------------------

    def _flat(self, schema: Any, stack: _Stack) -> _Flat:
        flat = _Flat()
        parts: deque[_Placed] = deque([(schema, stack)])
        perhaps: deque[_Placed] = deque()
        while parts or perhaps:
            optional = not parts
            part, stack = (parts or perhaps).popleft()
            if stack:
                self._budget.left -= 1
            if not isinstance(part, dict) or self._budget.left < 0:
                continue
            for word, value in _repaired(part).items():
                if word == "$ref":
                    self._follow(value, stack, flat, perhaps if optional else parts)
                elif word == "allOf":
                    (perhaps if optional else parts).extend(
                        (each, stack) for each in _listed(value)
                    )
                elif word in ("then", "else"):
                    perhaps.append((value, stack))
                elif word == "properties" and isinstance(value, dict):
                    for name, inner in value.items():
                        if not optional or name not in flat.properties:
                            flat.add(name, (inner, stack))
                elif word == "required" and not optional:
                    flat.required += [name for name in _listed(value) if isinstance(name, str)]
                elif not optional and word not in ("properties", "required"):
                    flat.words.setdefault(word, (value, stack))
        flat.nullable = flat.get("nullable") is True
        return flat

    def _follow(self, reference: Any, stack: _Stack, flat: _Flat, parts: deque[_Placed]) -> None:
        if not isinstance(reference, str):
            return
        target = None if reference in stack else self._target(reference)
        if isinstance(target, dict | bool):
            parts.append((target, stack | {reference}))
            return
        # It leads nowhere, or round in a circle.
        flat.hints.append(f"See: {reference.rpartition('/')[2][:100]}")
        kind = _stub(self._target(reference))["type"]
        parts.append(({"type": kind}, stack))

    def _target(self, reference: str) -> Any:
        if reference != "#" and not reference.startswith("#/"):
            return None
        at = self._root
        for token in unquote(reference).split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            if isinstance(at, dict):
                at = at.get(name)
            elif isinstance(at, list) and name.isascii() and name.isdigit() and len(name) < 7:
                at = at[int(name)] if int(name) < len(at) else None
            else:
                return None
        return at

    # --- unions ---------------------------------------------------------------

    def _choose(self, flat: _Flat) -> None:
        """Put the branch that says most in the place of ``anyOf`` and ``oneOf``."""
        while union := flat.words.pop("anyOf", None) or flat.words.pop("oneOf", None):
            branches = [self._flat(each, union[1]) for each in _listed(union[0])]
            branches = [each for each in branches if each.words or each.properties]
            some = [each for each in branches if not _only_null(each)]
            flat.nullable = flat.nullable or len(some) < len(branches)
            if not some:
                continue
            kinds = [name for each in some for name in each.types or ["any"] if name != "null"]
            if len(set(kinds)) > 1:
                flat.hints.append("Accepts: " + " | ".join(dict.fromkeys(kinds)))
            values = [value for each in some for value in each.values]
            if len(some) > 1 and all(each.values for each in some):
                best = _Flat({"enum": (values, frozenset())})
            else:
                best = max(some, key=_worth)
            flat.merge(best)

    def _branches(self, flat: _Flat, depth: int) -> list[dict[str, Any]]:
        union = flat.words.pop("anyOf", None)
        other = flat.words.pop("oneOf", None)
        value, stack = union or other or ([], frozenset())
        made = [self.node((each, stack), depth + 1)[0] for each in _listed(value)]
        return made or [{}]

    # --- keywords -------------------------------------------------------------

    def _typed(self, flat: _Flat, made: dict[str, Any]) -> str:
        """Write type and enum; return the type, ``""`` for any."""
        named = flat.types
        told = flat.get("type")
        if told and not named and isinstance(told, str):
            flat.hints.append(f"type: {told[:_HINT_LENGTH]}")
        values = flat.values
        flat.nullable = flat.nullable or "null" in named or None in values
        types = [name for name in named if name != "null"]
        if len(types) > 1 and not any(hint.startswith("Accepts: ") for hint in flat.hints):
            flat.hints.append("Accepts: " + " | ".join(types))
        kind = types[0] if types else ""
        values = [each for each in values if each is not None]
        if kind not in ("object", "array"):
            kind = self._enum(values, kind, flat, made)
        elif values:
            flat.hints.append(f"Allowed: {', '.join(map(_told, values[:_MOST_TOLD]))}")
        if not self._unions:
            if kind:
                made["type"] = kind
            if flat.nullable and "enum" not in made:
                flat.hints.append("nullable")
        elif kind or flat.nullable:
            if "anyOf" in made and not kind:
                made["anyOf"].append({"type": "null"})
            else:
                made["type"] = ([kind, "null"] if kind else "null") if flat.nullable else kind
        return kind

    def _enum(self, values: list[Any], kind: str, flat: _Flat, made: dict[str, Any]) -> str:
        """Write the enum, if it can be said; return the type it makes."""
        texts = [each if isinstance(each, str) else _told(each) for each in values]
        texts = [text for text in dict.fromkeys(texts) if text]
        if not texts:
            return kind
        same = all(isinstance(each, str) for each in values)
        numbers = all(number(each) is not None for each in values)
        if self._accepted["enum"] is Shape.SCALARS and (same or numbers):
            made["enum"] = [each for each in values if each != ""]
            return "string" if same else kind if kind in ("integer", "number") else "number"
        if same or (numbers and kind != "boolean"):
            made["enum"] = texts
            kind = "string"
        if not same and (2 <= len(texts) <= _MOST_TOLD or "enum" not in made):
            flat.hints.append(f"Allowed: {', '.join(texts[:_MOST_TOLD])}")
        return kind

    def _object(self, flat: _Flat, made: dict[str, Any], depth: int) -> None:
        properties: dict[str, Any] = {}
        nullable: set[str] = set()
        required = dict.fromkeys(flat.required)
        for name, (schema, stack) in flat.properties.items():
            if schema is False:
                continue
            if isinstance(schema, dict) and schema.get("required") is True:
                required[name] = None
            properties[name], may_be_null = self.node((schema, stack), depth + 1)
            if may_be_null and not self._unions:
                nullable.add(name)
        if properties:
            made["properties"] = properties
        names = [name for name in required if name in properties and name not in nullable]
        if names:
            made["required"] = names

    def _items(self, flat: _Flat, depth: int) -> dict[str, Any]:
        value, stack = flat.words.get("items") or flat.words.get("prefixItems") or (None, _EMPTY)
        if isinstance(value, list):
            value = {"anyOf": value}
        if not isinstance(value, dict):
            return {"type": "string"}
        return self.node((value, stack), depth + 1)[0]

    def _rest(self, flat: _Flat, made: dict[str, Any], kind: str, depth: int) -> Iterator[str]:
        """Write the keywords that are taken as they are; yield what the others say."""
        words = [word for word in flat.words if word not in _LAST]
        for word in (*words, *(word for word in _LAST if word in flat.words)):
            value, stack = flat.words[word]
            if word in _BUILT or word in _SILENT or word.startswith(("$", "x-")):
                if word == "title" and "title" in self._accepted and isinstance(value, str):
                    made[word] = value
                continue
            shape = self._accepted.get(word)
            if shape is Shape.SCHEMA_OR_FLAG and kind == "object":
                made[word] = (
                    value if isinstance(value, bool) else self.node((value, stack), depth + 1)[0]
                )
            elif shape is not None and _fits(value, shape, kind):
                made[word] = value
            elif word == "additionalProperties" and value is False:
                yield "No extra properties allowed"
            elif word == "default":
                if value is not None:
                    yield f"default: {_told(value)}"
            elif value not in (None, False, "", [], {}) or number(value) is not None:
                yield f"{word}: {_told(value)}"


_EMPTY: _Stack = frozenset()
_BUILT = frozenset({"type", "description", "items", "enum", "const", "anyOf", "oneOf"})


def _fits(value: Any, shape: Shape, kind: str) -> bool:
    if shape is Shape.NUMBER:
        return number(value) is not None and kind in ("integer", "number")
    if shape is Shape.COUNT:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return shape is Shape.TEXT and isinstance(value, str)


def _stub(schema: Any) -> dict[str, Any]:
    """Return a schema that says no more than the type of *schema*."""
    told = schema.get("type") if isinstance(schema, dict) else None
    kinds = [name for name in _listed(told) if isinstance(name, str) and name in TYPES[:-1]]
    stub: dict[str, Any] = {"type": kinds[0] if kinds else "object"}
    if stub["type"] == "array":
        stub["items"] = {"type": "string"}
    if isinstance(schema, dict) and isinstance(schema.get("description"), str):
        stub["description"] = schema["description"]
    return stub


def _repaired(part: dict[str, Any]) -> dict[str, Any]:
    """Return *part*, or an object with its members as properties if it is nothing else."""
    values = part.values()
    if (
        part
        and all(isinstance(value, dict) for value in values)
        and not any(key in _OBJECTS or key.startswith(("$", "x-")) for key in part)
        and any(_SCHEMATIC & value.keys() for value in values)
    ):
        return {"type": "object", "properties": part}
    return part


_SCHEMATIC = frozenset({"type", "$ref", "properties", "enum", "anyOf", "oneOf", "description"})


def _only_null(flat: _Flat) -> bool:
    return flat.types == ["null"]


def _worth(flat: _Flat) -> tuple[int, bool]:
    kind = next((name for name in flat.types if name != "null"), "")
    # Of two scalars, the one that leaves more open.
    return _RANKS.get(kind, 1), not flat.values


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    if isinstance(value, dict):
        return "object"
    return "integer" if isinstance(value, int) else "number"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _told(value: Any) -> str:
    """Return *value* as a model can read it, not too long."""
    if isinstance(value, str):
        text = value
    else:
        try:
            text = write(value).decode()
        except (TypeError, ValueError, RecursionError, msgspec.EncodeError):
            text = "..."
    return text if len(text) <= _HINT_LENGTH else text[: _HINT_LENGTH - 3] + "..."
