"""What a foreign JSON document holds, whatever it holds."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.framing.json_values import number, string


class JsonValuesTests(SynchronousTestCase):
    """Each kind of value."""

    def test_string(self) -> None:
        """Only a string is one."""
        self.assertEqual(string("a"), "a")
        for value in (None, 1, True, ["a"], {"a": "b"}, b"a"):
            self.assertEqual(string(value), "", value)

    def test_number(self) -> None:
        """Whole or not; a float in any case."""
        for value in (3, 0, -3, 2.5, 1e308):
            found = number(value)
            self.assertIs(type(found), float)
            self.assertEqual(found, value)

    def test_no_number(self) -> None:
        """A truth value is none, nor is what a float cannot hold."""
        values: list[Any] = [None, True, False, "1", [], {}]
        values += [float("nan"), float("inf"), 10**400, -(10**400)]
        for value in values:
            self.assertIsNone(number(value), value)
