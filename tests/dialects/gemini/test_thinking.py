"""How much to think, as each of Google's models wants to be told."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import Thinking
from aiclient2api.dialects.gemini.thinking import model_of, thinking_config

_PRO, _FLASH, _LITE = "gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite"
_PRO3, _FLASH3 = "gemini-3-pro-preview", "gemini-3-flash-preview"


def told(
    model: str, max_tokens: int | None = None, **fields: Any
) -> tuple[dict[str, Any] | None, bool]:
    """Return what *model* is told, and whether that is exact."""
    config, lost = thinking_config(Thinking(**fields), model_of(model), max_tokens)
    return config, not lost


def shown(**config: Any) -> dict[str, Any]:
    """Return a configuration that shows the thoughts."""
    return {**config, "includeThoughts": True}


class ThinkingTests(SynchronousTestCase):
    """What is said, and whether it is what was meant."""

    def test_nothing_is_said_unasked(self) -> None:
        """A model thinks as it will."""
        for name in (_PRO, _PRO3, "unknown"):
            self.assertEqual(thinking_config(None, model_of(name), None), (None, ()))

    def test_budgets(self) -> None:
        """Each within its model's range."""
        for name, budget, config, exact in (
            (_PRO, 8192, shown(thinkingBudget=8192), True),
            (_PRO, 100, shown(thinkingBudget=128), False),
            (_PRO, 50000, shown(thinkingBudget=32768), False),
            (_PRO, 0, {"thinkingBudget": 128}, False),
            (_FLASH, 0, {"thinkingBudget": 0}, True),
            (_FLASH, 1, shown(thinkingBudget=1), True),
            (_FLASH, 32768, shown(thinkingBudget=24576), False),
            (_LITE, 100, shown(thinkingBudget=512), False),
            (_LITE, 0, {"thinkingBudget": 0}, True),
            ("models/" + _LITE + "-preview", -1, shown(thinkingBudget=-1), True),
            ("unknown", 99999, shown(thinkingBudget=99999), True),
        ):
            self.assertEqual(told(name, budget=budget), (config, exact), (name, budget))

    def test_efforts_as_budgets(self) -> None:
        """By the table, within the model's range."""
        for name, effort, config, exact in (
            (_PRO, "low", shown(thinkingBudget=1024), True),
            (_FLASH, "high", shown(thinkingBudget=24576), True),
            (_FLASH, "max", shown(thinkingBudget=24576), False),
            (_FLASH, "none", {"thinkingBudget": 0}, True),
            (_PRO, "none", {"thinkingBudget": 128}, False),
            (_PRO, "auto", shown(thinkingBudget=-1), True),
            ("unknown", "medium", shown(thinkingBudget=8192), True),
        ):
            self.assertEqual(told(name, effort=effort), (config, exact), (name, effort))

    def test_levels(self) -> None:
        """The next one up where there is none of that name, the least where none is wanted."""
        for name, fields, config, exact in (
            (_PRO3, {"effort": "low"}, shown(thinkingLevel="low"), True),
            (_PRO3, {"effort": "minimal"}, shown(thinkingLevel="low"), False),
            (_PRO3, {"effort": "medium"}, shown(thinkingLevel="high"), False),
            (_PRO3, {"effort": "xhigh"}, shown(thinkingLevel="high"), False),
            (_PRO3, {"effort": "none"}, {"thinkingLevel": "low"}, False),
            (_PRO3, {"effort": "auto"}, shown(), True),
            (_FLASH3, {"effort": "minimal"}, shown(thinkingLevel="minimal"), True),
            (_FLASH3, {"budget": 5000}, shown(thinkingLevel="medium"), False),
            (_FLASH3, {"effort": "low", "budget": 9000}, shown(thinkingLevel="low"), True),
            ("gemini-3.1-pro-preview", {"budget": -1}, shown(), True),
        ):
            self.assertEqual(told(name, **fields), (config, exact), (name, fields))

    def test_showing(self) -> None:
        """Thoughts are shown unless they are not to be."""
        self.assertEqual(told(_PRO, shown=True), (shown(), True))
        self.assertEqual(told(_PRO, shown=False), (None, True))
        self.assertEqual(told(_PRO, budget=1024, shown=False), ({"thinkingBudget": 1024}, True))

    def test_room_for_the_answer(self) -> None:
        """Thoughts do not take all the tokens there are."""
        self.assertEqual(told(_FLASH, 1000, budget=8192), (shown(thinkingBudget=750), False))
        self.assertEqual(told(_PRO, 100, budget=8192), (shown(thinkingBudget=128), False))
        self.assertEqual(told(_FLASH, 9000, budget=1024), (shown(thinkingBudget=1024), True))

    def test_models_that_cannot_think(self) -> None:
        """Are told nothing: they would refuse the request."""
        for name in (
            "gemini-2.0-flash",
            "gemini-1.5-pro-002",
            "gemma-3-27b-it",
            "gemini-2.5-flash-image",
            "gemini-3-pro-image-preview",
            "gemini-2.5-flash-preview-tts",
        ):
            self.assertEqual(told(name, effort="high"), (None, False), name)
            self.assertEqual(told(name, effort="none"), (None, True), name)
