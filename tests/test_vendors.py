"""
Vendor presets: the table is sound, and its names mean what users type.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.vendors import VENDORS, vendor_of


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
