"""
Tools of one vendor in the dress of functions, and undressed again.
"""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import Tool
from aiclient2api.conversation.tools import INPUT, arguments_of, as_function, text_of
from tests.tape import cases


class AsFunctionTests(SynchronousTestCase):
    """What a model is offered."""

    def test_a_function_is_itself(self) -> None:
        """Nothing is to be done."""
        tool = Tool("function", "f", parameters={"type": "object"})
        self.assertEqual((tool, ()), as_function(tool))

    def test_a_tool_that_takes_text_takes_one_string(self) -> None:
        """Under the one name that it is looked for later."""
        function, lost = as_function(Tool("custom", "apply_patch", description="Patch files."))
        self.assertEqual(("function", "apply_patch"), (function.kind, function.name))
        assert function.parameters is not None
        self.assertEqual([INPUT], function.parameters["required"])
        self.assertEqual("Patch files.", function.description)
        self.assertEqual((), lost)

    def test_a_grammar_is_told_in_words(self) -> None:
        """Wherever the two OpenAI dialects keep it; that it is only told is a loss."""
        for form in (
            {"type": "grammar", "definition": "start: WORD"},
            {"type": "grammar", "grammar": {"definition": "start: WORD"}},
        ):
            function, lost = as_function(Tool("custom", "f", "Does it.", raw={"format": form}))
            self.assertEqual(
                "Does it.\n\nIts input must match this grammar:\nstart: WORD", function.description
            )
            self.assertEqual(("tool_grammar",), lost)

    def test_a_shell_takes_a_command(self) -> None:
        """Under the name that it was offered by."""
        function, lost = as_function(Tool("local_shell", "local_shell"))
        assert function.parameters is not None
        self.assertEqual(["command"], function.parameters["required"])
        self.assertTrue(function.description)
        self.assertEqual((), lost)

    def test_what_its_vendor_runs_is_none(self) -> None:
        """There is nothing that a client could be asked to call."""
        self.assertRaises(ValueError, as_function, Tool("web_search", "web_search"))


class TextTests(SynchronousTestCase):
    """What a model calls it with."""

    def test_a_model_that_keeps_to_the_schema(self) -> None:
        """The text, and nothing around it."""
        self.assertEqual("a\n\u2028b", text_of('{"input": "a\\n\u2028b"}'))

    def test_a_model_that_does_not(self) -> None:
        """It is taken at its word."""
        for arguments, text in (
            ('{"patch": "x"}', "x"),
            ('"x"', "x"),
            ("x", "x"),
            ('{"a": "x", "b": "y"}', '{"a": "x", "b": "y"}'),
            ('{"input": 1}', '{"input": 1}'),
            ("[1]", "[1]"),
            ("{}", "{}"),
            ("", ""),
            ('{"input": "x"', '{"input": "x"'),
        ):
            self.assertEqual(text, text_of(arguments))

    @cases(200)
    @given(st.text())
    def test_any_text_goes_there_and_back(self, text: str) -> None:
        """What no JSON can hold becomes a question mark; nothing raises."""
        arguments = arguments_of(text)
        self.assertEqual({INPUT}, set(json.loads(arguments)))
        self.assertEqual(text.encode("utf-8", "replace").decode(), text_of(arguments))

    @cases(150)
    @given(st.text())
    def test_any_arguments_are_some_text(self, arguments: str) -> None:
        """Whatever a model writes."""
        self.assertIsInstance(text_of(arguments), str)
