"""Responses: tools as an upstream is offered them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import Call, Result, Text, Tool, ToolChoice, Turn
from aiclient2api.dialects.openai_schemas import holds_strictly, rooted
from aiclient2api.values import Traits
from tests.dialects.openai_responses.judge import asked, written

_CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


class ToolTests(SynchronousTestCase):
    """Each kind of tool."""

    def tool(self, tool: Tool) -> tuple[Any, tuple[str, ...]]:
        """Return a tool as it is offered, and what was lost of it."""
        body, losses = written(asked(tools=(tool,)))
        return body["tools"][0], losses

    def test_strict_is_said_either_way(self) -> None:
        """Not to say it would mean yes; yes is said only where OpenAI takes it."""
        for strict, schema, told, lost in (
            (None, _CLOSED, False, ()),
            (False, _CLOSED, False, ()),
            (True, _CLOSED, True, ()),
            (True, {"type": "object", "properties": {"a": {}}}, False, ("strict",)),
        ):
            tool, losses = self.tool(Tool("function", "f", parameters=schema, strict=strict))
            self.assertEqual((tool["strict"], losses), (told, lost))

    def test_no_parameters(self) -> None:
        """A function without any takes an object without any."""
        tool, _ = self.tool(Tool("function", "f"))
        self.assertEqual(tool["parameters"], {"type": "object", "properties": {}})
        self.assertNotIn("description", tool)

    def test_names(self) -> None:
        """A name that OpenAI does not take is bent, in its calls as well."""
        body, _ = written(
            asked(
                Turn("assistant", (Call("c", "mcp.list"),)),
                Turn("user", (Result("c", parts=(Text("x"),)),)),
                tools=(Tool("function", "mcp.list"), Tool("function", "g", namespace="n")),
                tool_choice=ToolChoice("named", ("mcp.list",)),
            )
        )
        self.assertEqual([tool["name"] for tool in body["tools"]], ["mcp_list", "n__g"])
        self.assertEqual(body["input"][0]["name"], "mcp_list")
        self.assertEqual(body["tool_choice"], {"type": "function", "name": "mcp_list"})

    def test_free_text(self) -> None:
        """It stays free text, with its grammar, whichever of OpenAI's dialects it came from."""
        grammar = {"syntax": "lark", "definition": "start: /x/"}
        told = {"type": "grammar", **grammar}
        ours = {"type": "custom", "name": "p", "format": told}
        chat = {"name": "p", "format": {"type": "grammar", "grammar": grammar}}
        for raw in (ours, chat, {"type": "custom", "custom": chat}):
            tool, losses = self.tool(Tool("custom", "p", "d", raw=raw))
            self.assertEqual(
                tool, {"type": "custom", "name": "p", "description": "d", "format": told}
            )
            self.assertEqual(losses, ())
        tool, _ = self.tool(Tool("custom", "p", raw={"format": {"type": "grammar"}}))
        self.assertEqual(tool, {"type": "custom", "name": "p"})

    def test_free_text_in_calls(self) -> None:
        """Their input is text again, and their answers answer them."""
        body, _ = written(
            asked(
                Turn("assistant", (Call("c", "p", '{"input":"a\\nb"}'),)),
                Turn("user", (Result("c", parts=(Text("done"),)),)),
                tools=(Tool("custom", "p"),),
            )
        )
        self.assertEqual(
            body["input"],
            [
                {"type": "custom_tool_call", "call_id": "c", "name": "p", "input": "a\nb"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
            ],
        )

    def test_shell(self) -> None:
        """A local shell is a function with a command."""
        tool, losses = self.tool(Tool("local_shell", "local_shell"))
        self.assertEqual((tool["type"], tool["name"]), ("function", "local_shell"))
        self.assertIn("command", tool["parameters"]["properties"])
        self.assertEqual(losses, ())

    def test_search(self) -> None:
        """What Claude's search and OpenAI's have in common goes along."""
        where = {"type": "approximate", "city": "Kiel"}
        claude = {
            "type": "web_search_20250305",
            "name": "web_search",
            "max_uses": 5,
            "allowed_domains": ["x.org"],
            "user_location": where,
        }
        tool, losses = self.tool(Tool("web_search", "web_search", raw=claude))
        self.assertEqual(losses, ("field:web_search.max_uses",))
        self.assertEqual(
            tool,
            {
                "type": "web_search",
                "user_location": where,
                "filters": {"allowed_domains": ["x.org"]},
            },
        )
        self.assertEqual(self.tool(Tool("web_search", "web_search"))[0], {"type": "web_search"})

    def test_where_not_to_search(self) -> None:
        """No limit of a search is lost in silence."""
        for raw, losses in (
            ({"blocked_domains": ["x.org"]}, ("field:web_search.blocked_domains",)),
            ({"filters": {"blocked_domains": ["x"]}}, ("field:web_search.blocked_domains",)),
            ({"allowed_domains": "x.org"}, ("field:web_search.allowed_domains",)),
            ({"allowed_domains": [], "blocked_domains": []}, ()),
        ):
            found = self.tool(Tool("web_search", "web_search", raw=raw))
            self.assertEqual(found, ({"type": "web_search"}, losses))


class SchemaTests(SynchronousTestCase):
    """What OpenAI asks of a schema."""

    def test_strict_schemas(self) -> None:
        """Every object in it is closed, and all its properties are required."""
        inner = {"type": "object", "properties": {"o": _CLOSED}, "required": ["o"]}
        self.assertTrue(holds_strictly({**inner, "additionalProperties": False}))
        self.assertFalse(holds_strictly(inner))
        self.assertFalse(holds_strictly({**_CLOSED, "required": []}))
        self.assertFalse(holds_strictly({"anyOf": [_CLOSED, {"type": "object"}]}))
        self.assertTrue(holds_strictly({"type": "string"}))

    def test_the_root_is_an_object(self) -> None:
        """Alternatives at the root become properties of one object."""
        a: dict[str, Any] = {"properties": {"a": {"type": "string"}}}
        b: dict[str, Any] = {"properties": {"b": {}}}
        self.assertEqual(
            rooted({"anyOf": [{**a, "required": ["a"]}, b], "description": "d"}),
            (
                {
                    "description": "d",
                    "type": "object",
                    "properties": {"a": {"type": "string"}, "b": {}},
                },
                True,
            ),
        )
        self.assertEqual(
            rooted({"type": "object", "allOf": [{**a, "required": ["a"]}, b]})[0]["required"],
            ["a"],
        )
        self.assertEqual(rooted(_CLOSED), (_CLOSED, False))
        self.assertEqual(rooted({"type": "string"}), (rooted(None)[0], True))


class ChoiceTests(SynchronousTestCase):
    """The choice among tools."""

    def choice(self, choice: ToolChoice | None, **fields: Any) -> tuple[Any, tuple[str, ...]]:
        """Return how a choice is told, and what was lost of it."""
        offered = (
            Tool("function", "f"),
            Tool("custom", "p"),
            Tool("web_search", "web_search"),
        )
        body, losses = written(asked(tool_choice=choice, **{"tools": offered, **fields}))
        return body.get("tool_choice"), losses

    def test_choices(self) -> None:
        """All, some, or one of them, by its kind."""
        function, free = {"type": "function", "name": "f"}, {"type": "custom", "name": "p"}
        search = {"type": "web_search"}

        def allowed(mode: str, *tools: Any) -> Any:
            return {"type": "allowed_tools", "mode": mode, "tools": [*tools]}

        for choice, told, lost in (
            (None, None, ()),
            (ToolChoice("auto"), "auto", ()),
            (ToolChoice("none"), "none", ()),
            (ToolChoice("required"), "required", ()),
            (ToolChoice("named", ("f",)), function, ()),
            (ToolChoice("named", ("p",)), free, ()),
            (ToolChoice("named", ("web_search",)), allowed("required", search), ()),
            (ToolChoice("auto", ("f", "p")), allowed("auto", function, free), ()),
            (ToolChoice("required", ("f", "x")), allowed("required", function), ("tool_choice",)),
            (ToolChoice("named", ("x",)), "auto", ("tool_choice",)),
        ):
            self.assertEqual(self.choice(choice), (told, lost), choice)

    def test_without_tools(self) -> None:
        """There is nothing to choose from, and nothing to be said of it."""
        self.assertEqual(self.choice(ToolChoice("auto"), tools=()), (None, ()))
        self.assertEqual(self.choice(ToolChoice("required"), tools=()), (None, ("tool_choice",)))
        body, _ = written(asked(parallel=False))
        self.assertNotIn("parallel_tool_calls", body)

    def test_upstreams_that_cannot_be_made_to_choose(self) -> None:
        """They are left to choose."""
        traits = Traits(auto_tools_only=True)
        choice = ToolChoice("named", ("f",))
        self.assertEqual(self.choice(choice, traits=traits), ("auto", ("tool_choice",)))

    def test_parallel(self) -> None:
        """Whether several may be called at once is said as it was."""
        for parallel in (True, False):
            body, _ = written(asked(parallel=parallel, tools=(Tool("function", "f"),)))
            self.assertIs(body["parallel_tool_calls"], parallel)
