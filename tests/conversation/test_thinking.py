"""
How much to think: words and numbers, and what the one comes to in the other.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import Thinking
from aiclient2api.conversation.thinking import BUDGETS, budget_of, effort_of, is_on


class ThinkingTests(SynchronousTestCase):
    """One table, both ways."""

    def test_what_was_told_counts(self) -> None:
        """A word stays the word, a number the number, even if both are told."""
        both = Thinking(effort="high", budget=100)
        self.assertEqual("high", effort_of(both))
        self.assertEqual(100, budget_of(both))

    def test_a_budget_comes_to_the_effort_that_it_is_enough_for(self) -> None:
        """The bounds belong to the lower effort; minus one is up to the model."""
        for budget, effort in (
            (-1, "auto"),
            (0, "none"),
            (1, "minimal"),
            (512, "minimal"),
            (513, "low"),
            (1024, "low"),
            (1025, "medium"),
            (8192, "medium"),
            (8193, "high"),
            (24576, "high"),
            (24577, "xhigh"),
            (1_000_000, "xhigh"),
        ):
            self.assertEqual(effort, effort_of(Thinking(budget=budget)), budget)

    def test_every_effort_has_a_budget(self) -> None:
        """And comes back as itself; but for the most, which is more than any budget tells."""
        for effort, budget in BUDGETS.items():
            self.assertEqual(budget, budget_of(Thinking(effort=effort)))
            back = effort_of(Thinking(budget=budget))
            self.assertEqual("xhigh" if effort == "max" else effort, back)

    def test_what_was_not_told_is_not_known(self) -> None:
        """Nobody's wish is made up; an unknown word has no number."""
        for thinking in (Thinking(), Thinking(shown=True)):
            self.assertIsNone(effort_of(thinking))
            self.assertIsNone(budget_of(thinking))
        self.assertIsNone(budget_of(Thinking(effort="a lot")))

    def test_whether_to_think_at_all(self) -> None:
        """Nothing, a zero and "none" are all no."""
        for thinking in (None, Thinking(), Thinking(effort="none"), Thinking(budget=0)):
            self.assertFalse(is_on(thinking))
        for thinking in (Thinking(effort="auto"), Thinking(budget=-1), Thinking(effort="minimal")):
            self.assertTrue(is_on(thinking))
