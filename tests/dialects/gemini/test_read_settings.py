"""What a client of Google's libraries wants: tools, settings, thoughts."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import (
    OutputFormat,
    Sampling,
    Thinking,
    Tool,
    ToolChoice,
)
from aiclient2api.errors import InvalidRequest
from tests.dialects.gemini.test_read_request import config, read, turns


class ToolTests(SynchronousTestCase):
    """What may be called."""

    def test_declarations(self) -> None:
        """A schema in Google's style becomes a JSON Schema, a JSON Schema stays."""
        google = {
            "type": "OBJECT",
            "properties": {
                "type": {"type": "STRING", "nullable": True, "enum": ["a"]},
                "n": {"type": 3, "format": "enum", "enum": ["1", "2", "x", "true", 3]},
                "list": {"type": "ARRAY", "items": {"type": "NUMBER"}, "min_items": "2"},
                "any": {"any_of": [{"type": "STRING"}], "nullable": True, "example": 5},
                "un": {"type": "TYPE_UNSPECIFIED", "propertyOrdering": ["x"]},
                "ref": {"ref": "#/defs/A"},
            },
            "property_ordering": ["n"],
            "defs": {"A": {"type": "BOOLEAN"}},
        }
        expected = {
            "type": "object",
            "properties": {
                "type": {"type": ["string", "null"], "enum": ["a", None]},
                "n": {"type": "integer", "enum": [1, 2, "x", "true", 3]},
                "list": {"type": "array", "items": {"type": "number"}, "minItems": 2},
                "any": {"anyOf": [{"type": "string"}, {"type": "null"}], "examples": [5]},
                "un": {},
                "ref": {"$ref": "#/$defs/A"},
            },
            "$defs": {"A": {"type": "boolean"}},
        }
        json_schema = {"type": "object", "properties": {"ref": {"const": 1}}}
        for declarations in ("functionDeclarations", "function_declarations"):
            functions = [
                {"name": "f", "description": "d", "parameters": google},
                {"name": "g", "parametersJsonSchema": json_schema, "parameters": google},
                {"name": "h"},
            ]
            tools = read(tools=[{declarations: functions}]).tools
            self.assertEqual([tool.name for tool in tools], ["f", "g", "h"])
            schemas = [tool.parameters for tool in tools]
            self.assertEqual(schemas, [expected, json_schema, None])
            self.assertEqual(tools[0].description, "d")

    def test_vendor_tools(self) -> None:
        """A search is one everywhere, the others are Google's alone."""
        tools: list[dict[str, Any]] = [
            {"googleSearch": {"excludeDomains": ["a"]}},
            {"code_execution": {}, "urlContext": {}},
            {"googleSearchRetrieval": {}},
        ]
        conversation = read(tools=tools)
        self.assertEqual(conversation.tools, (Tool("web_search", "web_search", raw=tools[0]),))
        self.assertEqual(
            conversation.dropped,
            (
                "field:googleSearch.excludeDomains",
                "tool:codeExecution",
                "tool:urlContext",
                "tool:googleSearchRetrieval",
            ),
        )

    def test_choices(self) -> None:
        """Modes by name or by number, with the functions that are allowed."""
        names = ["f", "g"]
        for calling, expected in (
            ({"mode": "AUTO"}, ToolChoice("auto")),
            ({"mode": "auto"}, ToolChoice("auto")),
            ({"mode": 3}, ToolChoice("none")),
            ({"mode": "ANY"}, ToolChoice("required")),
            ({"mode": 2, "allowed_function_names": names}, ToolChoice("required", ("f", "g"))),
            ({"mode": "ANY", "allowedFunctionNames": ["f"]}, ToolChoice("named", ("f",))),
            ({"mode": "MODE_UNSPECIFIED"}, None),
            ({}, None),
        ):
            forms: tuple[dict[str, Any], ...] = (
                {"toolConfig": {"functionCallingConfig": calling}},
                {"tool_config": {"function_calling_config": calling}},
            )
            for tool_config in forms:
                conversation = read(**tool_config)
                self.assertEqual(conversation.tool_choice, expected)
                self.assertEqual(conversation.dropped, ())
        validated = read(toolConfig={"functionCallingConfig": {"mode": "VALIDATED"}})
        self.assertEqual(validated.tool_choice, ToolChoice("auto"))
        self.assertEqual(validated.dropped, ("strict",))

    def test_malformed_tools(self) -> None:
        """Are refused, and the error says where."""
        for fields, param in (
            ({"tools": 5}, "tools"),
            ({"tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
            (
                {"tools": {"functionDeclarations": {"name": "f", "parameters": []}}},
                "tools.functionDeclarations.parameters",
            ),
            (
                {"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}},
                "toolConfig.functionCallingConfig.mode",
            ),
        ):
            error = self.assertRaises(InvalidRequest, read, **fields)
            self.assertEqual(error.param, param)


class SettingTests(SynchronousTestCase):
    """How to answer."""

    def test_sampling(self) -> None:
        """Each of the settings, in either spelling; zero is zero."""
        conversation = config(
            temperature=0,
            topP=0.5,
            top_k=40.0,
            maxOutputTokens=7,
            stop_sequences=["a", "b"],
            seed=0,
            presencePenalty=0.1,
            frequencyPenalty=-0.1,
            responseLogprobs=True,
            logprobs=3,
            candidateCount=1,
            responseModalities=["TEXT"],
        )
        self.assertEqual(
            conversation.sampling,
            Sampling(7, 0, 0.5, 40, ("a", "b"), 0, 0.1, -0.1, 3),
        )
        self.assertEqual(conversation.dropped, ())
        self.assertEqual(read(generation_config={"seed": 1}).sampling, Sampling(seed=1))
        self.assertEqual(config(responseLogprobs=True).sampling.logprobs, 0)
        self.assertIsNone(config(logprobs=3).sampling.logprobs)

    def test_output(self) -> None:
        """JSON of any form, or of one."""
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        google = {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}
        mime = {"responseMimeType": "application/json"}
        for fields, expected in (
            ({}, None),
            ({"responseMimeType": "text/plain"}, None),
            (mime, OutputFormat()),
            ({**mime, "responseJsonSchema": schema}, OutputFormat(schema)),
            ({**mime, "_responseJsonSchema": schema}, OutputFormat(schema)),
            ({**mime, "response_schema": google}, OutputFormat(schema)),
            ({"responseSchema": google}, OutputFormat(schema)),
        ):
            conversation = config(**fields)
            self.assertEqual(conversation.output, expected)
            self.assertEqual(conversation.dropped, ())
        enum = config(responseMimeType="text/x.enum", responseSchema={"type": "STRING"})
        self.assertEqual((enum.output, enum.dropped), (None, ("field:responseMimeType",)))

    def test_thinking(self) -> None:
        """A budget, a level, and whether it is shown."""
        for fields, expected in (
            ({}, None),
            ({"includeThoughts": True}, Thinking(shown=True)),
            ({"thinkingBudget": -1, "includeThoughts": False}, Thinking(budget=-1, shown=False)),
            ({"thinking_budget": 0}, Thinking(budget=0)),
            ({"thinkingLevel": "LOW"}, Thinking(effort="low")),
            ({"thinking_level": "minimal"}, Thinking(effort="minimal")),
            ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, None),
        ):
            conversation = config(thinkingConfig=fields)
            self.assertEqual((conversation.thinking, conversation.dropped), (expected, ()))
        for level in ("enormous", 3):
            unknown = config(thinkingConfig={"thinkingLevel": level, "more": 1})
            self.assertEqual(unknown.thinking, None)
            self.assertEqual(unknown.dropped, ("field:thinkingLevel", "field:thinkingConfig.more"))

    def test_what_is_left_out(self) -> None:
        """Everything that only Google knows has a name."""
        conversation = read(
            safetySettings=[],
            cached_content="cachedContents/x",
            labels={"team": "a"},
            model="models/m",
            newThing=1,
            nothing=None,
            generationConfig={
                "candidateCount": 2,
                "responseModalities": ["IMAGE"],
                "speechConfig": {},
            },
        )
        self.assertEqual(conversation.metadata, {"team": "a"})
        self.assertEqual(
            conversation.dropped,
            (
                "field:safetySettings",
                "field:newThing",
                "cached_content",
                "field:speechConfig",
                "n",
                "field:responseModalities",
            ),
        )

    def test_malformed_settings(self) -> None:
        """Are refused, and the error says where."""
        for key, value in (
            ("temperature", "hot"),
            ("maxOutputTokens", "many"),
            ("stopSequences", [1]),
            ("responseLogprobs", 1),
            ("responseJsonSchema", "x"),
            ("thinkingConfig", []),
        ):
            error = self.assertRaises(InvalidRequest, config, **{key: value})
            self.assertEqual(error.param, f"generationConfig.{key}")
        error = self.assertRaises(InvalidRequest, turns, {"role": "system", "parts": []})
        self.assertEqual(error.param, "contents[0].role")
