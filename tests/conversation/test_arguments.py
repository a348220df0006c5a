"""
Arguments of calls: what is whole stays as it was told, the rest becomes an object.
"""

from __future__ import annotations

import json
import warnings

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.arguments import digest, is_object, settled
from aiclient2api.framing.json_text import exact
from tests.tape import ARGUMENTS, arguments, cases, drawn


class SettledTests(SynchronousTestCase):
    """Any text as the JSON text of an object."""

    def test_an_object_stays_as_it_was_told(self) -> None:
        """Key order, spacing and the digits of numbers are not touched."""
        for text in (*ARGUMENTS, '{"b":1,"a":2,"b":3}', '{"n":1.50e+00}'):
            self.assertEqual(text, settled(text))

    def test_space_around_it_goes(self) -> None:
        """What a stream leaves around the object is no part of it."""
        self.assertEqual('{"a": 1}', settled(' \n{"a": 1}\r\n'))

    def test_nothing_is_an_empty_object(self) -> None:
        """A call without arguments has an empty object."""
        for text in ("", " ", "\n\t"):
            self.assertEqual("{}", settled(text))

    def test_another_value_stands_under_value(self) -> None:
        """Lists and scalars are kept, digits and all."""
        for text in ("[1, 2]", '"x"', "1.10", "true", "null", "123456789012345678901234567890"):
            self.assertEqual(f'{{"value":{text}}}', settled(text))

    def test_a_python_literal_is_taken_for_what_it_means(self) -> None:
        """Models write single quotes, True and None."""
        self.assertEqual(
            {"a": True, "b": None, "c": ["x"]},
            json.loads(settled("{'a': True, 'b': None, 'c': ('x',)}")),
        )

    def test_nothing_of_it_is_said_in_a_warning(self) -> None:
        """Python would complain of a path of Windows; it is nobody's business."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            self.assertEqual({"path": "C:\\dir"}, json.loads(settled("{'path': 'C:\\dir'}")))
        self.assertEqual([], told)

    def test_what_is_neither_is_kept_as_text(self) -> None:
        """Half an object, a call in words or an expression is never run by mistake."""
        for text in (
            '{"a": 1',
            "ls -la",
            "{'a': __import__('os')}",
            "{1: 2}",
            "{'a': 1j}",
            "{'a'}",
            '{{"a": 1}}',
            "{[]: 1}",
            "{'a': {{}}}",
            "{" + "'a': 1, " * 1100 + "}",
            "{'a': " + "[" * 500 + "]" * 500 + "}",
            "[" * 100_000,
            "a\0b",
        ):
            self.assertEqual({"raw_arguments": text}, json.loads(settled(text)))

    def test_a_lone_surrogate_is_no_reason_to_fail(self) -> None:
        """A text cut in the middle of an emoji can still be sent."""
        self.assertEqual({"raw_arguments": "a?"}, json.loads(settled("a\ud83d")))

    def test_half_an_emoji_is_replaced_where_it_stands(self) -> None:
        """It is no reason to take an object for none: digits and order stay."""
        for text, made in (
            (r'{"b":"\ud83d","a":1.10}', r'{"b":"\ufffd","a":1.10}'),
            (r'{"b":"\ud83d\ude00 \\ud83d"}', r'{"b":"\ud83d\ude00 \\ud83d"}'),
            ('{"b":"\ud83d","a":1.10}', '{"b":"?","a":1.10}'),
            (r'["\ude00", 1.10]', r'{"value":["\ufffd", 1.10]}'),
            (r"{'b': '\ud83d'}", '{"b":"\ufffd"}'),
            (r"echo \ud83d", r'{"raw_arguments":"echo \\ud83d"}'),
        ):
            self.assertEqual(made, settled(text))

    @cases(150)
    @given(st.text())
    def test_any_text_becomes_an_object(self, text: str) -> None:
        """Whatever a model writes, the upstream gets an object, and it never raises."""
        made = settled(text)
        self.assertIsInstance(json.loads(made), dict)
        self.assertTrue(is_object(made))
        self.assertEqual(made, settled(made))

    @cases(150)
    @given(st.text("{}[]\"':,0123.eE+- nultrfas\\", max_size=20))
    def test_what_looks_like_json_becomes_an_object(self, text: str) -> None:
        """Almost-JSON is the likeliest thing to go wrong."""
        self.assertIsInstance(exact(settled(text).encode()), dict)

    @cases(100)
    @given(drawn(arguments))
    def test_any_object_stays_as_it_was_told(self, text: str) -> None:
        """No object is ever written anew."""
        self.assertEqual(text, settled(text))


class DigestTests(SynchronousTestCase):
    """Whether two arguments mean the same."""

    def test_how_they_are_written_does_not_count(self) -> None:
        """Order, spacing, escapes, and the form of numbers."""
        same = ('{"a":1.0,"b":"\xe9"}', '{ "b": "\\u00e9", "a": 1 }', "{'a': 1, 'b': '\xe9'}")
        self.assertEqual(1, len({digest(text) for text in same}))
        self.assertEqual(digest(""), digest("{}"))

    def test_what_they_say_counts(self) -> None:
        """Each of these is another call."""
        others = ("", '{"a":1}', '{"a":"1"}', '{"a":2}', '{"b":1}', "[1]", "[2]", "ls", "ls -l")
        self.assertEqual(len(others), len({digest(text) for text in others}))

    @cases(100)
    @given(st.text() | st.text(st.characters(), max_size=9).map(lambda text: f'{{"a":"{text}"}}'))
    def test_any_text_has_one(self, text: str) -> None:
        """Nothing raises, and what is settled means the same."""
        self.assertEqual(digest(text), digest(settled(text)))
