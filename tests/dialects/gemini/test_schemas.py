"""Any JSON Schema as one that Google takes."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.dialects.gemini.schemas import (
    OUTPUT,
    PARAMETERS,
    TYPES,
    Accepted,
    Shape,
    for_gemini,
)
from aiclient2api.framing.json_text import exact, number


def made(schema: Any, accepted: Accepted = PARAMETERS) -> Any:
    """Return *schema* for Google, after a look whether Google takes it."""
    out, _ = for_gemini(schema, accepted=accepted)
    check(out, accepted)
    return out


def of(schema: Any, **more: Any) -> Any:
    """Return what becomes of one property."""
    return made({"type": "object", "properties": {"p": schema}, **more})["properties"]["p"]


def check(schema: Any, accepted: Accepted) -> None:
    """
    Hold *schema* to the description of what is accepted.

    :raise AssertionError: if Google would refuse it.
    """
    assert isinstance(schema, dict), schema
    for keyword, value in schema.items():
        assert keyword in accepted, keyword
        assert _SHAPES[accepted[keyword]](value, schema, accepted), (keyword, value)
    if schema.get("type") == "array":
        assert "items" in schema, schema


def _is_schema(value: Any, schema: Any, accepted: Accepted) -> bool:
    check(value, accepted)
    return True


def _are_schemas(values: Any, accepted: Accepted) -> bool:
    for value in values:
        check(value, accepted)
    return True


def _is_type_or_null(value: Any, schema: Any, accepted: Accepted) -> bool:
    if isinstance(value, list):
        return len(value) == 2 and value[0] in TYPES[:-1] and value[1] == "null"
    return value in TYPES


def _types(schema: Any) -> list[Any]:
    told = schema["type"]
    return told if isinstance(told, list) else [told]


_SHAPES = {
    Shape.TYPE: lambda value, schema, accepted: value in TYPES[:-1],
    Shape.TYPE_OR_NULL: _is_type_or_null,
    Shape.TEXT: lambda value, schema, accepted: isinstance(value, str),
    Shape.NUMBER: lambda value, schema, accepted: (
        number(value) is not None and bool({"integer", "number"} & set(_types(schema)))
    ),
    Shape.COUNT: lambda value, schema, accepted: type(value) is int and value >= 0,
    Shape.TEXTS: lambda value, schema, accepted: (
        bool(value)
        and all(isinstance(each, str) and each for each in value)
        and len(set(value)) == len(value)
        and schema["type"] == "string"
    ),
    Shape.SCALARS: lambda value, schema, accepted: (
        bool(value)
        and (
            all(isinstance(each, str) for each in value)
            or all(number(each) is not None for each in value)
        )
    ),
    Shape.NAMES: lambda value, schema, accepted: (
        bool(value) and set(value) <= set(schema["properties"])
    ),
    Shape.SCHEMA: _is_schema,
    Shape.SCHEMAS: lambda value, schema, accepted: bool(value) and _are_schemas(value, accepted),
    Shape.NAMED: lambda value, schema, accepted: (
        schema["type"] in ("object", ["object", "null"]) and _are_schemas(value.values(), accepted)
    ),
    Shape.SCHEMA_OR_FLAG: lambda value, schema, accepted: (
        isinstance(value, bool) or _is_schema(value, schema, accepted)
    ),
}


class VectorTests(SynchronousTestCase):
    """The vectors of the protocols' description."""

    def test_the_vector(self) -> None:
        """What Google does not take becomes words, and everything else stays."""
        schema = {
            "$schema": "x",
            "type": "object",
            "additionalProperties": False,
            "required": ["a", "zz"],
            "properties": {
                "a": {"type": ["integer", "null"], "enum": [1, 2], "default": 1},
                "format": {"type": "string", "format": "uri", "minLength": 2},
                "b": {
                    "anyOf": [
                        {"type": "string"},
                        {"type": "object", "properties": {"k": {"const": "v"}}},
                    ]
                },
            },
        }
        self.assertEqual(
            made(schema),
            {
                "type": "object",
                "description": "No extra properties allowed",
                "properties": {
                    "a": {
                        "type": "string",
                        "enum": ["1", "2"],
                        "description": "Allowed: 1, 2 (default: 1)",
                    },
                    "format": {"type": "string", "description": "minLength: 2 (format: uri)"},
                    "b": {
                        "type": "object",
                        "properties": {"k": {"type": "string", "enum": ["v"]}},
                        "description": "Accepts: string | object",
                    },
                },
            },
        )

    def test_what_is_accepted_stays(self) -> None:
        """And nobody is told that anything was lost."""
        for schema in (
            {"type": "object"},
            {
                "type": "object",
                "description": "d",
                "properties": {
                    "a": {"type": "string", "enum": ["c", "f"]},
                    "b": {"type": "array", "items": {"type": "number", "minimum": 0.5}},
                    "c": {},
                },
                "required": ["a"],
            },
        ):
            for accepted in (PARAMETERS, OUTPUT):
                self.assertEqual(for_gemini(schema, accepted=accepted), (schema, False))


class KeywordTests(SynchronousTestCase):
    """One keyword after the other."""

    def test_no_schema_at_all(self) -> None:
        """Is an object about which nothing is known."""
        schemas: tuple[Any, ...] = ({}, True, False, None, 5, "x", [], [{"type": "string"}])
        for schema in schemas:
            self.assertEqual(made(schema), {"type": "object"})

    def test_references(self) -> None:
        """Are put in place; what stands beside one wins."""
        definitions = {"N": {"type": "object", "properties": {"x": {"type": "number"}}}}
        expected = {"type": "object", "properties": {"x": {"type": "number"}}}
        for key in ("$defs", "definitions"):
            reference = {"$ref": f"#/{key}/N"}
            self.assertEqual(of(reference, **{key: definitions}), expected)
            beside = {**reference, "description": "d"}
            told = of(beside, **{key: definitions})
            self.assertEqual(told, {**expected, "description": "d"})
        odd = {"a/b~c d": {"type": "boolean"}}
        self.assertEqual(of({"$ref": "#/$defs/a~1b~0c%20d"}, **{"$defs": odd}), {"type": "boolean"})

    def test_references_that_lead_nowhere(self) -> None:
        """Are stubs that name what they meant; so are circles."""
        for reference in ("#/$defs/Gone", "other.json#/Gone", "#Gone", "#/properties/p/9/Gone"):
            self.assertEqual(of({"$ref": reference})["description"][-4:], "Gone", reference)
        tree = {"type": "object", "properties": {"kids": {"type": "array"}}}
        tree["properties"]["kids"]["items"] = {"$ref": "#/$defs/Tree"}  # type: ignore[index]
        told = of({"$ref": "#/$defs/Tree"}, **{"$defs": {"Tree": tree}})
        stub = {"type": "object", "description": "See: Tree"}
        self.assertEqual(told["properties"]["kids"]["items"], stub)
        own = {"type": "object", "properties": {"next": {"$ref": "#"}}}
        self.assertEqual(
            made(own)["properties"]["next"]["properties"]["next"]["description"], "See: #"
        )
        self.assertEqual(made({"$ref": "#"}), {"type": "object", "description": "See: #"})

    def test_all_of(self) -> None:
        """Is one schema; of two that name the same property both hold."""
        schema = {
            "allOf": [
                {"properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]},
                {"properties": {"a": {"description": "d"}}, "required": ["b"], "title": "T"},
            ],
            "description": "own",
            "properties": {"c": {"type": "number"}},
        }
        self.assertEqual(
            made(schema),
            {
                "type": "object",
                "description": "own",
                "properties": {
                    "c": {"type": "number"},
                    "a": {"type": "string", "description": "d"},
                    "b": {},
                },
                "required": ["a", "b"],
            },
        )

    def test_the_same_reference_twice_is_no_circle(self) -> None:
        """Beside each other, a definition may stand as often as it likes."""
        definitions = {"A": {"properties": {"x": {"type": "string"}}}}
        schema = {
            "allOf": [{"$ref": "#/$defs/A"}],
            "properties": {"y": {"$ref": "#/$defs/A"}},
            "$defs": definitions,
        }
        told = made(schema)["properties"]
        self.assertEqual(told["y"]["properties"], {"x": {"type": "string"}})
        self.assertEqual(told["x"], {"type": "string"})

    def test_unions(self) -> None:
        """The branch that says most is taken, and all are named."""
        array = {"type": "array", "items": {"type": "number"}}
        for branches, expected in (
            ([{"type": "string"}, array], {**array, "description": "Accepts: string | array"}),
            ([{"type": "string"}, {"type": "string"}], {"type": "string"}),
            ([{"const": "a"}, {"enum": ["b", "a"]}], {"type": "string", "enum": ["a", "b"]}),
            ([{"const": "a"}, {"type": "string"}], {"type": "string"}),
            ([{"type": "string"}, {}], {"type": "string"}),
            ([{"type": "null"}, {"type": "string"}], {"type": "string", "description": "nullable"}),
            ([{"type": "null"}], {"description": "nullable"}),
            ([{"required": ["a"]}, {"required": ["b"]}], {}),
            ([], {}),
        ):
            for keyword in ("anyOf", "oneOf"):
                self.assertEqual(of({keyword: branches}), expected)
        inner = {"anyOf": [{"oneOf": [{"type": "boolean"}]}], "description": "d"}
        self.assertEqual(of(inner), {"type": "boolean", "description": "d"})

    def test_what_may_be_null_is_not_required(self) -> None:
        """However it is said."""
        for schema in (
            {"type": ["string", "null"]},
            {"type": "STRING", "nullable": True},
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
            {"enum": ["a", None]},
        ):
            told = made({"type": "object", "properties": {"p": schema}, "required": ["p"]})
            self.assertNotIn("required", told, schema)
            self.assertEqual(told["properties"]["p"]["type"], "string")
        described = of({"type": ["string", "null"], "description": "A name."})
        self.assertEqual(described, {"type": "string", "description": "A name. (nullable)"})

    def test_enums(self) -> None:
        """Are texts, whatever they were; booleans need none."""
        for schema, expected in (
            ({"enum": ["a", "", "a"]}, {"type": "string", "enum": ["a"]}),
            ({"type": "integer", "enum": [1]}, {"type": "string", "enum": ["1"]}),
            (
                {"enum": [1.5, 20]},
                {
                    "type": "string",
                    "enum": ["1.5", "20"],
                    "description": "Accepts: number | integer (Allowed: 1.5, 20)",
                },
            ),
            ({"enum": [True]}, {"type": "boolean", "description": "Allowed: true"}),
            ({"enum": []}, {}),
            ({"enum": "x"}, {}),
            ({"type": "object", "enum": ["a"]}, {"type": "object", "description": "Allowed: a"}),
            ({"const": {"a": 1}}, {"type": "object", "description": 'Allowed: {"a":1}'}),
            (
                {"type": "boolean", "enum": [True, False]},
                {"type": "boolean", "description": "Allowed: true, false"},
            ),
        ):
            self.assertEqual(of(schema), expected, schema)

    def test_hints(self) -> None:
        """What cannot be said is told, in brackets behind what is told already."""
        for schema, description in (
            ({"pattern": "^a$", "description": "d"}, "d (pattern: ^a$)"),
            ({"uniqueItems": True, "minItems": 2}, "uniqueItems: true (minItems: 2)"),
            ({"default": False}, "default: false"),
            ({"default": 5, "description": "How many (default: 5)."}, "How many (default: 5)."),
            ({"default": 0, "deprecated": False, "x-note": 5, "title": "T"}, "default: 0"),
            ({"not": {"type": "string"}}, 'not: {"type":"string"}'),
            ({"minimum": 3}, "minimum: 3"),
            ({"minimum": "3"}, "minimum: 3"),
            ({"something": "new"}, "something: new"),
            ({"type": "date"}, "type: date"),
            ({"pattern": "a" * 300}, "pattern: " + "a" * 197 + "..."),
        ):
            self.assertEqual(of(schema)["description"], description)
        none: tuple[Any, ...] = (
            {"default": None},
            {"pattern": ""},
            {"$comment": "c"},
            {"examples": []},
        )
        for silent in none:
            self.assertEqual(of(silent), {})

    def test_arrays(self) -> None:
        """Have items."""
        text = {"type": "string"}
        for schema, items in (
            ({"type": "array"}, text),
            ({"type": "array", "items": True}, text),
            ({"items": {"type": "number"}}, {"type": "number"}),
            ({"type": "array", "items": [text, text]}, text),
            ({"prefixItems": [{"type": "number"}]}, {"type": "number"}),
        ):
            told = of(schema)
            self.assertEqual((told["type"], told["items"]), ("array", items))

    def test_conditions(self) -> None:
        """What may have to be given under a condition may be given."""
        schema = {
            "properties": {"a": {"type": "string"}},
            "required": ["a"],
            "if": {"properties": {"a": {"const": "x"}}},
            "then": {"properties": {"a": {"type": "number"}, "b": {}}, "required": ["b"]},
            "else": {"allOf": [{"properties": {"c": {"type": "number"}}}]},
        }
        self.assertEqual(
            made(schema),
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {}, "c": {"type": "number"}},
                "required": ["a"],
            },
        )

    def test_lists_with_nothing_in_them(self) -> None:
        """Say nothing, so nothing is lost."""
        schema = {"type": "object", "properties": {}, "required": []}
        self.assertEqual(for_gemini(schema), ({"type": "object"}, False))

    def test_references_into_lists(self) -> None:
        """Count from zero, in digits and no other signs."""
        branches = [{"type": "number"}, {"type": "boolean"}]
        for place, expected in (
            ("0", "number"),
            ("1", "boolean"),
            ("2", "object"),
            ("²", "object"),
        ):
            told = of({"$ref": f"#/x/{place}"}, x=branches)
            self.assertEqual(told["type"], expected)

    def test_names_are_no_keywords(self) -> None:
        """A property may be called like anything."""
        names = ("format", "properties", "$ref", "enum", "required", "type", "x-y", "items")
        schema = {
            "type": "object",
            "properties": {name: {"type": "number"} for name in names},
            "required": list(names),
        }
        self.assertEqual(for_gemini(schema), (schema, False))

    def test_malformed_ones(self) -> None:
        """Are read as what they were meant to be."""
        bare = {"city": {"type": "string"}, "format": {"enum": ["a"]}}
        expected = {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "format": {"type": "string", "enum": ["a"]},
            },
        }
        self.assertEqual(made(bare), expected)
        flagged = {"properties": {"a": {"type": "string", "required": True}, "b": False, "c": True}}
        told = made(flagged)
        self.assertEqual(told["required"], ["a"])
        self.assertEqual(told["properties"], {"a": {"type": "string"}, "c": {}})

    def test_exact_numbers(self) -> None:
        """Digits stay as they were written."""
        schema = exact(b'{"properties":{"a":{"type":"number","maximum":1e400,"enum":[1.10]}}}')
        told = made(schema)["properties"]["a"]
        self.assertEqual(told["enum"], ["1.10"])
        limit = exact(b'{"properties":{"a":{"type":"number","maximum":1.10}}}')
        self.assertIn(b'"maximum":1.10', msgspec.json.encode(made(limit)))


class OutputTests(SynchronousTestCase):
    """For the form of an answer Google takes more."""

    def test_unions_stay(self) -> None:
        """So a field that may be null may be required, as OpenAI's clients want it."""
        for schema in (
            {
                "type": "object",
                "properties": {
                    "a": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "b": {"type": ["integer", "null"]},
                    "c": {"type": "integer", "enum": [1, 2]},
                    "d": {"type": "string", "format": "date-time", "title": "D"},
                    "e": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    "f": {"type": "object", "additionalProperties": {"type": "number"}},
                },
                "required": ["a", "b"],
                "additionalProperties": False,
            },
        ):
            check(schema, OUTPUT)
            self.assertEqual(for_gemini(schema, accepted=OUTPUT), (schema, False))

    def test_what_has_to_change(self) -> None:
        """References go, constants are enums, and the rest is told."""
        schema = {
            "type": "object",
            "properties": {
                "a": {"oneOf": [{"$ref": "#/$defs/A"}, {"const": "x"}]},
                "b": {"type": ["string", "null"], "enum": ["y", None], "pattern": "."},
                "c": {"nullable": True, "anyOf": [{"type": "string"}]},
            },
            "$defs": {"A": {"type": "object"}},
        }
        self.assertEqual(
            made(schema, OUTPUT)["properties"],
            {
                "a": {"anyOf": [{"type": "object"}, {"type": "string", "enum": ["x"]}]},
                "b": {"type": ["string", "null"], "enum": ["y"], "description": "pattern: ."},
                "c": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
        )
