"""What is known of Claude's generations."""

from __future__ import annotations

from typing import get_args

from anthropic.types.model import Model as SDKModel
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.dialects.anthropic_messages.models import goes_on, model_of


class ModelTests(SynchronousTestCase):
    """Models by their names."""

    def test_names(self) -> None:
        """A model is known under all that its resellers call it."""
        for names, limit, thinks, sampling in (
            (("claude-3-haiku-20240307", "claude-3-opus-latest"), 4096, "never", "both"),
            (("claude-3-5-sonnet-20241022", "claude-3.5-haiku"), 8192, "never", "both"),
            (("claude-3-7-sonnet-latest", "anthropic/claude-3.7-sonnet"), 64000, "budget", "both"),
            (
                ("claude-opus-4-20250514", "claude-opus-4-0", "claude-4-opus-20250514"),
                32000,
                "budget",
                "both",
            ),
            (("claude-sonnet-4@20250514", "claude-sonnet-4"), 64000, "budget", "both"),
            (("claude-opus-4-1-20250805", "Claude-Opus-4.1"), 32000, "budget", "one"),
            (
                (
                    "claude-sonnet-4-5-20250929",
                    "claude-haiku-4-5@20251001",
                    "claude-opus-4-5",
                    "us.anthropic.claude-haiku-4-5-20251001-v1:0",
                ),
                64000,
                "budget",
                "one",
            ),
            (
                ("claude-opus-4-6", "anthropic.claude-opus-4-6-v1:0", "claude-sonnet-4.6-thinking"),
                128000,
                "adaptive",
                "one",
            ),
            (
                ("claude-opus-4-7", "claude-opus-4-8", "claude-sonnet-5", "claude-mythos-preview"),
                128000,
                "adaptive",
                "none",
            ),
            (("claude-haiku-5-5", "claude-opus-6", "claude-fable-5-2"), 128000, "adaptive", "none"),
        ):
            for name in names:
                model = model_of(name)
                found = (model.claude, model.limit, model.thinks, model.sampling)
                self.assertEqual(found, (True, limit, thinks, sampling), name)

    def test_others(self) -> None:
        """Who is not known may be anything: little is asked for, and nothing forbidden."""
        for name, claude in (
            ("kimi-k2-0905-preview", False),
            ("glm-4.6", False),
            ("", False),
            ("claude-latest", True),
        ):
            model = model_of(name)
            self.assertEqual((model.claude, model.limit, model.usual), (claude, None, 8192), name)
            self.assertEqual((model.thinks, model.forced, model.prefill), ("budget", True, True))

    def test_who_goes_on(self) -> None:
        """With a turn of its own: Claude before 4.6, and nobody of whom that is not known."""
        for name in ("claude-3-5-haiku-20241022", "claude-sonnet-4-5", "claude-opus-4-1-20250805"):
            self.assertTrue(goes_on(name), name)
        for name in ("claude-opus-4-6", "claude-sonnet-5", "claude-latest", "glm-4.6", "", "m"):
            self.assertFalse(goes_on(name), name)

    def test_how_thoughts_end(self) -> None:
        """Each family has its own way, and some have none."""
        for name, off, forced in (
            ("claude-sonnet-4-5", "disabled", True),
            ("claude-opus-4-8", "", True),
            ("claude-opus-5", "disabled", True),
            ("claude-sonnet-5", "disabled", True),
            ("claude-haiku-5-5", "disabled", True),
            ("claude-sonnet-5-5", "between_tools", False),
            ("claude-opus-5-5", None, False),
            ("claude-fable-5", None, True),
            ("claude-fable-5-1", None, False),
            ("claude-mythos-preview", None, True),
        ):
            model = model_of(name)
            self.assertEqual((model.off, model.forced), (off, forced), name)
            self.assertTrue(model.off is not None or model.efforts)

    def test_the_sdks_models_are_known(self) -> None:
        """Every model that the official SDK has a name for is a Claude with a limit."""
        names = get_args(get_args(SDKModel)[0])
        self.assertGreater(len(names), 15)
        for name in names:
            model = model_of(name)
            self.assertTrue(model.claude and model.limit, name)
            self.assertLessEqual(model.usual, model.limit or 0)
