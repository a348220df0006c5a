"""Tools as an upstream of Messages is told of them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import (
    Call,
    Result,
    Tool,
    ToolChoice,
    Turn,
)
from aiclient2api.values import Traits
from tests.dialects.anthropic_messages.asking import (
    CLAUDE,
    TOOL,
    USER,
    asked,
)


class ToolTests(SynchronousTestCase):
    """Tools, and which may be called."""

    def test_tools(self) -> None:
        """Functions, free text and shells are functions; a search is Anthropic's own."""
        told = asked(
            tools=(
                TOOL,
                Tool("custom", "patch", "p", raw={"format": {"definition": "start: x"}}),
                Tool("local_shell", "local_shell"),
                Tool("web_search", "web_search", raw={"filters": {"allowed_domains": ["e.x"]}}),
                Tool("function", "f", "another"),
                Tool("function", "bare", strict=True),
            )
        )
        self.assertEqual(
            told["tools"][0],
            {
                "name": "f",
                "description": "d",
                "input_schema": {"type": "object", "properties": {}},
            },
        )
        names = [tool["name"] for tool in told["tools"]]
        self.assertEqual(names, ["f", "patch", "local_shell", "web_search", "bare"])
        self.assertEqual(told["tools"][1]["input_schema"]["required"], ["input"])
        self.assertEqual(
            told["tools"][3],
            {"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["e.x"]},
        )
        self.assertEqual(told["losses"], ("tool:duplicate", "tool_grammar", "strict"))

    def test_a_search_is_claudes(self) -> None:
        """Other vendors who speak like Anthropic search for nobody."""
        told = asked("kimi-k2", tools=(Tool("web_search", "web_search"),))
        self.assertNotIn("tools", told)
        self.assertEqual(told["losses"], ("tool:web_search",))

    def test_what_cannot_be_said_of_a_search(self) -> None:
        """Is named."""
        raw = {
            "allowed_domains": ["a.x"],
            "blocked_domains": ["b.x"],
            "max_uses": 2,
            "search_context_size": "low",
        }
        told = asked(tools=(Tool("web_search", "web_search", raw=raw),))
        self.assertNotIn("blocked_domains", told["tools"][0])
        self.assertEqual(told["tools"][0]["max_uses"], 2)
        self.assertEqual(
            told["losses"],
            ("field:web_search.blocked_domains", "field:web_search.search_context_size"),
        )
        raw = {"blocked_domains": ["b.x"], "search_context_size": "medium"}
        told = asked(tools=(Tool("web_search", "web_search", raw=raw),))
        self.assertEqual((told["tools"][0]["blocked_domains"], told["losses"]), (["b.x"], ()))

    def test_names(self) -> None:
        """They are bent everywhere alike."""
        turns = (USER, Turn("assistant", (Call("a", "dir/f.x"),)))
        told = asked(
            turns=turns,
            tools=(Tool("function", "dir/f.x"),),
            tool_choice=ToolChoice("named", ("dir/f.x",)),
        )
        name = told["tools"][0]["name"]
        self.assertRegex(name, r"^[A-Za-z0-9_-]{1,64}$")
        self.assertEqual(told["messages"][1]["content"][0]["name"], name)
        self.assertEqual(told["tool_choice"], {"type": "tool", "name": name})

    def test_schemas(self) -> None:
        """A choice at the root becomes one object, and that is told."""
        union: dict[str, Any] = {"anyOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}
        told = asked(tools=(Tool("function", "f", parameters=union),))
        self.assertEqual(set(told["tools"][0]["input_schema"]["properties"]), {"a", "b"})
        self.assertEqual(told["losses"], ("schema",))

    def test_choices(self) -> None:
        """Each has its word, and one tool at a time can be asked for with most of them."""
        tools = (TOOL, Tool("function", "g"))
        for choice, parallel, wanted in (
            (None, None, None),
            (None, True, None),
            (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
            (ToolChoice("auto"), None, {"type": "auto"}),
            (ToolChoice("none"), False, {"type": "none"}),
            (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
            (ToolChoice("named", ("g",)), None, {"type": "tool", "name": "g"}),
        ):
            told = asked(tools=tools, tool_choice=choice, parallel=parallel)
            self.assertEqual(told.get("tool_choice"), wanted)
            self.assertEqual(told["losses"], ())

    def test_some_of_the_tools(self) -> None:
        """Only those are offered that may be called."""
        tools = (TOOL, Tool("function", "g"), Tool("function", "h"))
        for mode, word in (("required", "any"), ("auto", "auto")):
            told = asked(tools=tools, tool_choice=ToolChoice(mode, ("g", "h")))
            self.assertEqual([tool["name"] for tool in told["tools"]], ["g", "h"])
            self.assertEqual((told["tool_choice"], told["losses"]), ({"type": word}, ()))

    def test_choices_that_cannot_be(self) -> None:
        """Of a tool that is not there, or of a model or a vendor that cannot be made to."""
        lost = ("tool_choice",)
        named, required = ToolChoice("named", ("nobody",)), ToolChoice("required")
        nobody = ToolChoice("required", ("nobody",))
        for model, choice, word in (
            (CLAUDE, named, "auto"),
            (CLAUDE, nobody, "any"),
            ("claude-opus-5-5", required, "auto"),
        ):
            told = asked(model, tools=(TOOL,), tool_choice=choice)
            self.assertEqual((told["tool_choice"], told["losses"]), ({"type": word}, lost))
        told = asked(tool_choice=named)
        self.assertNotIn("tool_choice", told)
        self.assertEqual(told["losses"], lost)
        traits = Traits(auto_tools_only=True)
        told = asked("glm-5", tools=(TOOL,), tool_choice=required, traits=traits)
        self.assertEqual((told["tool_choice"], told["losses"]), ({"type": "auto"}, lost))
        told = asked("glm-5", tools=(TOOL,), tool_choice=ToolChoice("none"), traits=traits)
        self.assertEqual((told.get("tools"), told.get("tool_choice")), (None, None))

    def test_calls_of_tools_that_are_gone(self) -> None:
        """A history with calls is refused without tools, so they are named and closed."""
        turns = (
            USER,
            Turn("assistant", (Call("a", "f"), Call("b", "f"))),
            Turn("user", (Result("a"), Result("b"))),
        )
        told = asked(turns=turns)
        self.assertEqual([tool["name"] for tool in told["tools"]], ["f"])
        self.assertEqual((told["tool_choice"], told["losses"]), ({"type": "none"}, ()))
