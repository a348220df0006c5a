"""JSON Schemas for Anthropic."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.dialects.anthropic_messages.schemas import answer_schema, input_schema

A, B = {"type": "string"}, {"type": "integer"}


class InputTests(SynchronousTestCase):
    """What a tool is given."""

    def test_as_it_is(self) -> None:
        """A schema of an object keeps every keyword, and is not touched itself."""
        schema = {
            "$schema": "x",
            "type": "object",
            "properties": {"a": {"anyOf": [A, B], "minimum": 1}},
            "required": ["a"],
            "additionalProperties": False,
            "$defs": {"T": {"type": "object", "oneOf": []}},
        }
        before = repr(schema)
        self.assertEqual(input_schema(schema), (schema, ()))
        self.assertEqual(repr(schema), before)

    def test_nothing(self) -> None:
        """A tool without a schema is given an empty object."""
        empty = {"type": "object", "properties": {}}
        for schema in (None, {}, {"type": "object", "properties": None}):
            self.assertEqual(input_schema(schema), (empty, ()))

    def test_all_of(self) -> None:
        """What must hold together is one object; nothing is lost."""
        schema = {
            "description": "d",
            "allOf": [
                {"properties": {"a": A}, "required": ["a"]},
                {"$ref": "#/$defs/T"},
                {"allOf": [{"properties": {"c": A}, "additionalProperties": False}]},
            ],
            "$defs": {"T": {"properties": {"b": B}, "required": ["b", "a"]}},
        }
        made, lost = input_schema(schema)
        self.assertEqual(
            made,
            {
                "type": "object",
                "description": "d",
                "properties": {"a": A, "b": B, "c": A},
                "required": ["a", "b"],
                "additionalProperties": False,
                "$defs": schema["$defs"],
            },
        )
        self.assertEqual(lost, ())

    def test_choices(self) -> None:
        """What may be one or the other may be both; what was meant is told."""
        for key in ("anyOf", "oneOf"):
            schema: dict[str, Any] = {
                "type": "object",
                "properties": {"x": A},
                "required": ["x"],
                key: [
                    {"properties": {"a": A, "n": A}, "required": ["a", "n"]},
                    {"properties": {"b": B, "n": B}, "required": ["n", "b"]},
                ],
            }
            made, lost = input_schema(schema)
            self.assertEqual(
                made,
                {
                    "type": "object",
                    "properties": {"a": A, "n": {"anyOf": [A, B]}, "b": B, "x": A},
                    "required": ["x", "n"],
                    "description": "One of these belongs together: a, n | n, b",
                },
            )
            self.assertEqual(lost, ("schema",))

    def test_references(self) -> None:
        """A root that is elsewhere is fetched; one that is nowhere is an empty object."""
        definitions = {"a/b": {"type": "object", "properties": {"a": A}}}
        made, lost = input_schema({"$ref": "#/$defs/a~1b", "$defs": definitions})
        self.assertEqual((made["properties"], lost), ({"a": A}, ()))
        made, _ = input_schema({"$ref": "#/$defs/none"})
        self.assertEqual(made, {"type": "object", "properties": {}})
        for loop in ({"$ref": "#"}, {"allOf": [{"$ref": "#"}]}):
            self.assertEqual(input_schema(loop)[0], {"type": "object", "properties": {}})

    def test_what_is_no_object(self) -> None:
        """Is made one, and that is told."""
        odd: tuple[Any, ...] = ({"type": ["object", "null"]}, {"type": "string"}, {"type": []})
        for schema in odd:
            made, lost = input_schema(schema)
            self.assertEqual((made["type"], lost), ("object", ("schema",)))

    def test_odd_forms(self) -> None:
        """Keywords of the wrong form are no reason to fail."""
        odd: dict[str, Any] = {
            "allOf": {"a": 1},
            "anyOf": [7, None],
            "oneOf": "x",
            "required": "a",
            "properties": [],
            "$ref": 7,
        }
        made, _ = input_schema(odd)
        self.assertEqual(made["type"], "object")
        self.assertFalse({"allOf", "anyOf", "oneOf"} & set(made))

    def test_all_of_all_of(self) -> None:
        """Each of several that are made of several counts; what contradicts is told."""
        nested: Any = [{"allOf": [{"properties": {name: A}, "required": [name]}]} for name in "abc"]
        made, lost = input_schema({"allOf": nested})
        wanted = {"type": "object", "properties": dict.fromkeys("abc", A), "required": list("abc")}
        self.assertEqual((made, lost), (wanted, ()))
        made, lost = input_schema({"allOf": [{"properties": {"a": A}}, {"properties": {"a": B}}]})
        self.assertEqual((made["properties"], lost), ({"a": A}, ("schema",)))
        unions: Any = [{"anyOf": [{"required": [name]}]} for name in "ab"]
        self.assertEqual(input_schema({"allOf": unions})[1], ("schema",))

    def test_work_is_bounded(self) -> None:
        """Many parts take no longer than their length, whatever they refer to."""
        many = range(4000)
        target = {f"p{n}": A for n in many}
        junk = {f"x{n}": n for n in many}
        constants: Any = [{"properties": {"p": {"const": n}}, "required": ["p"]} for n in many]
        names: Any = [{"properties": {f"p{n}": A}, "required": [f"p{n}"]} for n in many]
        hops = {f"h{n}": {"$ref": f"#/$defs/h{n + 1}", f"x{n}": n} for n in many}
        for parts, extra, told in (
            (names, {}, 4000),
            (constants, {}, 1),
            ([{"$ref": "#"} for _ in many], {}, 0),
            ([{"$ref": "#/$defs/T"} for _ in many], {"T": {"properties": target}}, 4000),
            ([{"$ref": "#/$defs/T"} for _ in many], {"T": junk}, 0),
            (
                [{"$ref": "#/$defs/T", "required": [f"p{n}"]} for n in many],
                {"T": {"properties": target}},
                4000,
            ),
            ([{"$ref": f"#/$defs/h{n}"} for n in many], hops, 0),
        ):
            for key in ("allOf", "oneOf", "anyOf"):
                for _ in range(3):
                    began = time.process_time()
                    made, _ = input_schema({key: parts, "$defs": extra})
                    took = time.process_time() - began
                    # Whoever shares the processor makes it slow, but not every time.
                    if took < 0.7:
                        break
                self.assertLess(took, 0.7, key)
                self.assertEqual(len(made["properties"]), told)
        made, lost = input_schema({"oneOf": constants})
        self.assertEqual(len(made["properties"]["p"]["anyOf"]), 4000)
        self.assertEqual((made["required"], lost), (["p"], ("schema",)))


class AnswerTests(SynchronousTestCase):
    """What an answer is held to."""

    def test_what_can_be_held(self) -> None:
        """Stays, and objects are closed."""
        schema = {
            "$schema": "x",
            "type": "object",
            "description": "d",
            "properties": {
                "a": {"type": ["string", "null"], "enum": ["x", None]},
                "b": {"type": "array", "items": {"$ref": "#/$defs/T"}, "minItems": 1},
                "default": {"type": "string", "format": "date", "default": "x"},
            },
            "required": ["a"],
            "$defs": {"T": {"type": "object", "properties": {}, "additionalProperties": False}},
        }
        made, lost = answer_schema(schema)
        wanted = {**schema, "additionalProperties": False}
        del wanted["$schema"]
        self.assertEqual((made, lost), (wanted, ()))

    def test_what_cannot(self) -> None:
        """Is told in the description."""
        made, lost = answer_schema(
            {
                "type": "object",
                "properties": {
                    "a": {"type": "integer", "description": "d", "minimum": 1, "maximum": 2},
                    "b": {"oneOf": [{"type": "string", "pattern": "x"}, B]},
                    "c": {"type": "array", "minItems": 2},
                },
                "additionalProperties": {"type": "string"},
            }
        )
        self.assertEqual(
            made,
            {
                "type": "object",
                "properties": {
                    "a": {"type": "integer", "description": "d\n\n{minimum: 1, maximum: 2}"},
                    "b": {"anyOf": [{"type": "string", "description": '{pattern: "x"}'}, B]},
                    "c": {"type": "array", "description": "{minItems: 2}"},
                },
                "additionalProperties": False,
            },
        )
        self.assertEqual(lost, ("schema",))

    def test_open_objects(self) -> None:
        """Free keys cannot be held to anything."""
        for free in (True, {"type": "string"}):
            made, lost = answer_schema({"type": "object", "additionalProperties": free})
            self.assertEqual(made, {"type": "object", "additionalProperties": False})
            self.assertEqual(lost, ("schema",))
