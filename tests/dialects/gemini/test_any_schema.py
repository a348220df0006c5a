"""Schemas that nobody would write, and some that were made to cost."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.dialects.gemini.read_schemas import json_schema
from aiclient2api.dialects.gemini.schemas import (
    MAX_DEPTH,
    OUTPUT,
    PARAMETERS,
    TYPES,
    Accepted,
    Budget,
    for_gemini,
)
from tests.dialects.gemini.test_schemas import check, made

_EMPTY = ("properties", "required")
_SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(("", "a", "#/$defs/A"))
_KEYWORDS = st.sampled_from(
    (
        *("$ref", "$defs", "additionalProperties", "allOf", "anyOf", "oneOf", "const", "default"),
        *("description", "else", "enum", "format", "items", "maximum", "minItems", "minimum"),
        *("not", "nullable", "pattern", "prefixItems", "properties", "required", "then", "title"),
        *("type", "x-a", "A", "a", "#"),
    )
)
_REFERENCES = st.sampled_from(
    [{"$ref": "#"}, {"$ref": "#/$defs/A"}, {"$ref": "#/$defs/a"}, {"$ref": "#/properties/a"}]
)
_TYPED = st.sampled_from([{"type": name} for name in (*TYPES, "STRING", "date")])
_JSON = st.recursive(
    _SCALARS | _REFERENCES | _TYPED | st.sampled_from(TYPES),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_KEYWORDS, inner, min_size=1, max_size=4)
    ),
    max_leaves=25,
)


class AnySchemaTests(SynchronousTestCase):
    """Whatever is given, Google takes what comes of it."""

    @settings(max_examples=400, deadline=None)
    @given(_JSON, st.sampled_from((PARAMETERS, OUTPUT)))
    def test_any(self, schema: Any, accepted: Accepted) -> None:
        """It never fails, it keeps to the description, and doing it again changes nothing."""
        given_schema, before = schema, json.dumps(schema)
        out, changed = for_gemini(schema, accepted=accepted)
        check(out, accepted)
        self.assertEqual(for_gemini(out, accepted=accepted), (out, False))
        if isinstance(schema, dict):
            schema = {word: schema[word] for word in schema if schema[word] or word not in _EMPTY}
        self.assertEqual(changed, out != schema)
        self.assertEqual(json.dumps(given_schema), before)

    @settings(max_examples=100, deadline=None)
    @given(_JSON)
    def test_any_of_googles(self, schema: Any) -> None:
        """A schema in Google's style is read whatever it is, too."""
        out, _ = for_gemini(json_schema(schema))
        check(out, PARAMETERS)


def _bottom(schema: Any) -> tuple[Any, int]:
    """Return the innermost property called a, and how deep it is."""
    depth = 0
    while "properties" in schema:
        schema, depth = schema["properties"]["a"], depth + 1
    return schema, depth


class HostileTests(SynchronousTestCase):
    """Schemas that are made to cost."""

    def test_depth(self) -> None:
        """Too deep a schema ends in a stub."""
        schema: Any = {"type": "string"}
        for _ in range(5000):
            schema = {"properties": {"a": schema}}
        self.assertEqual(_bottom(made(schema)), ({"type": "object"}, MAX_DEPTH))
        lists: Any = {"type": "array", "description": "d", "items": {"type": "number"}}
        for _ in range(MAX_DEPTH):
            lists = {"properties": {"a": lists}}
        stub = {"type": "array", "description": "d", "items": {"type": "string"}}
        self.assertEqual(_bottom(made(lists)), (stub, MAX_DEPTH))
        for keyword in ("allOf", "anyOf", "not", "items", "then"):
            deep: Any = {"type": "string"}
            for _ in range(5000):
                deep = {keyword: [deep] if keyword.endswith("Of") else deep}
            made(deep)
            made(deep, OUTPUT)

    def test_references_that_double(self) -> None:
        """A definition that holds the next one twice, and so on, is cut where it is too much."""
        definitions: dict[str, Any] = {}
        for index in range(30):
            after = {"$ref": f"#/$defs/D{index + 1}"}
            definitions[f"D{index}"] = {
                "properties": {"a": after, "b": after},
                "allOf": [after, after],
                "anyOf": [after, after],
            }
        schema = {"$ref": "#/$defs/D0", "$defs": definitions}
        for accepted in (PARAMETERS, OUTPUT):
            budget = Budget(2000)
            out, changed = for_gemini(schema, accepted=accepted, budget=budget)
            check(out, accepted)
            self.assertTrue(changed)
            self.assertLess(len(json.dumps(out)), 1_000_000)
            self.assertLessEqual(budget.left, 0)

    def test_one_budget_for_all(self) -> None:
        """What one schema of a request has used up, the next cannot."""
        schema = {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"x": {"type": "string"}}}}}
        budget = Budget(0)
        self.assertEqual(for_gemini(schema, budget=budget)[0], {"type": "object"})
