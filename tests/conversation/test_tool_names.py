"""
Names of tools: fit for whoever is particular, none the same, and back again.
"""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import Call, Conversation, Result, Tool, ToolChoice, Turn
from aiclient2api.conversation.tool_names import (
    DUPLICATE,
    GEMINI,
    PLAIN64,
    Rule,
    fitted,
    known,
    originals,
    renamed,
)
from tests.tape import cases

_ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
_NAMES = st.lists(_ANY | st.text("ab./_ 2", max_size=4) | st.text("x", min_size=62, max_size=70))


class RuleTests(SynchronousTestCase):
    """What a name may look like."""

    def test_a_name_that_fits_is_itself(self) -> None:
        """Nothing changes without need."""
        for rule, name in (
            (PLAIN64, "mcp__a-b__c"),
            (PLAIN64, "9" * 64),
            (GEMINI, "a.b:c-d"),
            (GEMINI, "_x"),
        ):
            self.assertTrue(rule.fits(name))
            self.assertEqual(name, rule.bent(name))

    def test_a_name_that_does_not_is_bent(self) -> None:
        """It can still be recognised."""
        for rule, name, made in (
            (PLAIN64, "a.b c", "a_b_c"),
            (PLAIN64, "f\n", "f_"),
            (PLAIN64, "", "tool"),
            (GEMINI, "9lives", "_9lives"),
            (GEMINI, "-x", "_-x"),
            (GEMINI, "\xe9t\xe9", "_t_"),
        ):
            self.assertFalse(rule.fits(name), name)
            self.assertEqual(made, rule.bent(name))

    def test_a_long_name_keeps_its_beginning(self) -> None:
        """And a part that tells it from others that begin alike."""
        one, other = "mcp__" + "x" * 80, "mcp__" + "x" * 81
        self.assertEqual(64, len(PLAIN64.bent(one)))
        self.assertTrue(PLAIN64.bent(one).startswith("mcp__xxx"))
        self.assertNotEqual(PLAIN64.bent(one), PLAIN64.bent(other))

    @cases(150)
    @given(_ANY, st.sampled_from([PLAIN64, GEMINI, Rule("a-z0-9_", "a-z_", 20)]))
    def test_any_name_can_be_bent(self, name: str, rule: Rule) -> None:
        """Once: what is bent fits."""
        self.assertTrue(rule.fits(rule.bent(name)), rule.bent(name))


class FittedTests(SynchronousTestCase):
    """Several names at a time."""

    def test_a_name_that_fits_comes_first(self) -> None:
        """Whoever stands before it, the plain one is called by its name."""
        self.assertEqual(
            {"a.b": "a_b_2", "a_b": "a_b", "a/b": "a_b_3"},
            fitted(["a.b", "a_b", "a/b", "a.b"], PLAIN64),
        )

    @cases(150)
    @given(_NAMES, st.sampled_from([PLAIN64, GEMINI]))
    def test_no_two_become_one(self, names: list[str], rule: Rule) -> None:
        """Every tool can still be told from every other, and each is fit."""
        found = fitted(names, rule)
        self.assertEqual(set(names), set(found))
        self.assertEqual(len(found), len(set(found.values())))
        for name, made in found.items():
            self.assertTrue(rule.fits(made), made)
            if rule.fits(name):
                self.assertEqual(name, made)


class RenamedTests(SynchronousTestCase):
    """A whole conversation."""

    def setUp(self) -> None:
        self.asked = Conversation(
            "m",
            False,
            turns=(
                Turn("assistant", (Call("1", "a.b"), Call("2", "old tool"))),
                Turn("user", (Result("1", "a.b"), Result("2"))),
            ),
            tools=(
                Tool("function", "a.b"),
                Tool("function", "read", namespace="files"),
                Tool("function", "a.b", description="again"),
            ),
            tool_choice=ToolChoice("required", ("a.b", "files__read")),
        )

    def test_it_is_renamed_wherever_it_stands(self) -> None:
        """Offered, chosen, called and answered; of two tools of one name the first is left."""
        found = renamed(self.asked, PLAIN64)
        self.assertEqual((Tool("function", "a_b"), Tool("function", "files__read")), found.tools)
        self.assertEqual(ToolChoice("required", ("a_b", "files__read")), found.tool_choice)
        self.assertEqual((Call("1", "a_b"), Call("2", "old_tool")), found.turns[0].parts)
        self.assertEqual((Result("1", "a_b"), Result("2")), found.turns[1].parts)

    def test_the_way_back_is_known(self) -> None:
        """Without any memory but the request itself."""
        self.assertEqual(
            {"a_b": "a.b", "old_tool": "old tool"}, dict(originals(self.asked, PLAIN64))
        )
        self.assertEqual({"old_tool": "old tool"}, dict(originals(self.asked, GEMINI)))

    def test_two_tools_that_come_to_one_name_stay_two(self) -> None:
        """Each is offered, and the way back leads to the very one."""
        flat, grouped = Tool("function", "a__b"), Tool("function", "b", namespace="a")
        third = Tool("function", "a__b_2")
        asked = attrs.evolve(self.asked, tools=(flat, grouped, third), turns=(), tool_choice=None)
        table = known(asked.tools)
        self.assertEqual({"a__b": flat, "a__b_3": grouped, "a__b_2": third}, table)
        found = renamed(asked, PLAIN64)
        self.assertEqual(["a__b", "a__b_3", "a__b_2"], [tool.name for tool in found.tools])
        self.assertEqual((), found.dropped)
        back = originals(asked, PLAIN64)
        self.assertEqual(
            [flat, grouped, third], [table[back.get(t.name, t.name)] for t in found.tools]
        )

    def test_the_way_back_leads_to_a_bent_tool_of_a_namespace(self) -> None:
        """Numbers of both kinds do not get into each other's way."""
        tools = (Tool("function", "a.c__b"), Tool("function", "b", namespace="a.c"))
        asked = attrs.evolve(self.asked, tools=tools, turns=(), tool_choice=None)
        names, back = [t.name for t in renamed(asked, PLAIN64).tools], originals(asked, PLAIN64)
        self.assertEqual(2, len(set(names)))
        self.assertEqual(list(tools), [known(tools)[back.get(name, name)] for name in names])

    def test_the_second_tool_of_one_name_is_told(self) -> None:
        """It is not offered: nobody could say which of the two was called."""
        self.assertEqual((DUPLICATE,), renamed(self.asked, PLAIN64).dropped)

    def test_thousands_of_tools_that_are_bent_alike_take_no_time(self) -> None:
        """None tries the numbers again that others have."""
        names = [chr(0x4E00 + at) for at in range(20_000)]
        self.assertEqual(20_000, len(set(fitted(names, PLAIN64).values())))

    def test_what_fits_is_not_touched(self) -> None:
        """The common case."""
        asked = attrs.evolve(self.asked, tools=(Tool("function", "f"),), turns=(), tool_choice=None)
        self.assertEqual(asked, renamed(asked, PLAIN64))
        self.assertEqual({}, dict(originals(asked, PLAIN64)))
