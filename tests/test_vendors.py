"""
Vendor presets: the table is sound, and its names mean what users type.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.vendors import VENDORS, context_window, vendor_of


class VendorsTests(SynchronousTestCase):
    """The table."""

    def test_promised_vendors(self) -> None:
        """Kimi K2 and GLM-4.5 are there, global, in China, and as coding plans."""
        for suffix in ("kimi", "kimi-cn", "kimi-coding", "glm", "glm-cn", "glm-coding"):
            self.assertIn(suffix, VENDORS)
            self.assertTrue(VENDORS[suffix].models)
        self.assertIn("kimi-k2-0905-preview", VENDORS["kimi"].models)
        self.assertIn("glm-4.5", VENDORS["glm-cn"].models)

    def test_urls(self) -> None:
        """Every base URL is https, without the slash and the path that are added."""
        for vendor in VENDORS.values():
            for base in (vendor.chat, vendor.messages):
                self.assertTrue(base.startswith("https://"), base)
                self.assertFalse(base.endswith(("/", "/messages", "/completions")), base)

    def test_zhipu_keeps_its_version(self) -> None:
        """Zhipu's API is at version 4, not 1."""
        self.assertTrue(VENDORS["glm-cn"].chat.endswith("/v4"))

    def test_models_once(self) -> None:
        """No list names a model twice."""
        for vendor in VENDORS.values():
            self.assertEqual(len(vendor.models), len(set(vendor.models)))

    def test_names(self) -> None:
        """Only the very name of a vendor behind the factory's name means that vendor."""
        self.assertIs(vendor_of("claude-custom-kimi-cn", "claude-custom"), VENDORS["kimi-cn"])
        for name in (
            "claude-custom",
            "claude-custom-",
            "claude-custom-b",
            "claude-custom-kimi-b",
            "my-claude-custom-kimi",
            "openai-custom-kimi",
        ):
            self.assertIsNone(vendor_of(name, "claude-custom"))


class ContextWindowTests(SynchronousTestCase):
    """How much a model takes, by its name."""

    def test_families(self) -> None:
        """The promised ones, also where a router puts the vendor in front."""
        for model, tokens in (
            ("gpt-4o-mini", 128_000),
            ("gpt-4.1-nano", 1_047_576),
            ("gpt-5-mini", 400_000),
            ("o3-mini", 200_000),
            ("o4-mini", 200_000),
            ("claude-opus-4-5-20251101", 200_000),
            ("anthropic/claude-sonnet-4.5", 200_000),
            ("gemini-2.5-flash", 1_048_576),
            ("models/gemini-3-pro-preview", 1_048_576),
            ("kimi-k2-0711-preview", 131_072),
            ("kimi-k2-0905-preview", 262_144),
            ("kimi-k2.5", 262_144),
            ("moonshot-v1-32k", 32_768),
            ("glm-4.5-air", 131_072),
            ("GLM-4.6", 200_000),
            ("qwen3-coder-480b-a35b-instruct", 262_144),
            ("deepseek-chat", 131_072),
        ):
            self.assertEqual(context_window(model), tokens, model)

    def test_the_longest_start_counts(self) -> None:
        """``qwen3-coder-plus`` is not what ``qwen3-coder`` is."""
        self.assertEqual(context_window("qwen3-coder-plus-2025-09-23"), 1_000_000)
        self.assertEqual(context_window("gemini-1.5-pro-002"), 2_097_152)
        self.assertEqual(context_window("glm-4.5v"), 65_536)

    def test_what_is_not_known_is_not_guessed(self) -> None:
        """Neither a stranger nor an empty name."""
        for model in ("", "llama3", "gpt-4", "my-gpt-4o", "claude"):
            self.assertIsNone(context_window(model), model)

    def test_all_that_presets_list_is_known(self) -> None:
        """A vendor we name models of has windows for them."""
        for suffix in ("kimi", "glm", "kimi-coding", "deepseek"):
            for model in VENDORS[suffix].models:
                self.assertIsNotNone(context_window(model), model)
