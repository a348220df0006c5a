"""
Who answers in another's place: ``provider_fallback_chain`` and ``model_fallback_mapping``.
"""

from __future__ import annotations

from aiclient2api.config import Settings
from tests.config_fakes import ConfigTestCase

KEY = {"openai_api_key": "sk-a"}


class FallbackCase(ConfigTestCase):
    """Three providers that are configured, and one of a group."""

    def having(self, **body: object) -> Settings:
        """Load with three providers, one of them of a group."""
        return self.load({**KEY, **body}, pools={"openai-custom-b": [{}]})


class ChainTests(FallbackCase):
    """Fallbacks of providers."""

    def test_in_order(self) -> None:
        """Names, kinds and patterns, in the order of the file, with their chains."""
        chains = {
            "openai-custom": ["openaiResponses-custom", "sandbox"],
            "openai-custom-b": "openai-custom, sandbox",
            "openai*": ["sandbox"],
            "*": ["sandbox"],
        }
        found = self.having(providerFallbackChain=chains)
        self.assertEqual(
            found.fallback_chains,
            (
                ("openai-custom", ("openaiResponses-custom", "sandbox")),
                ("openai-custom-b", ("openai-custom", "sandbox")),
                ("openai*", ("sandbox",)),
                ("*", ("sandbox",)),
            ),
        )
        self.assertEqual(found.warnings, ())

    def test_spellings(self) -> None:
        """The key is known in each of its spellings; nothing is the default."""
        for spelling in (
            "provider_fallback_chain",
            "providerFallbackChain",
            "PROVIDER_FALLBACK_CHAIN",
        ):
            found = self.load({**KEY, spelling: {"openai-custom": ["sandbox"]}})
            self.assertEqual(found.fallback_chains, (("openai-custom", ("sandbox",)),))
        self.assertEqual(self.load({}).fallback_chains, ())

    def test_unknown_names(self) -> None:
        """A provider nobody knows is told of with the one that was meant, and left out."""
        found = self.having(providerFallbackChain={"openai-custom": ["sandbx", "openai-custom-b"]})
        self.assertEqual(found.fallback_chains, (("openai-custom", ("openai-custom-b",)),))
        where = 'config.json: providerFallbackChain."openai-custom"'
        self.assertWarned(found, where, "sandbx", 'did you mean "sandbox"?')
        found = self.having(providerFallbackChain={"opena-custom": ["sandbox"]})
        self.assertWarned(found, '"opena-custom"', 'did you mean "openai-custom"?')

    def test_nearest_configured_name(self) -> None:
        """A slip in a group's name is answered with the group."""
        found = self.having(providerFallbackChain={"sandbox": ["openi-custom-b"]})
        self.assertWarned(found, 'did you mean "openai-custom-b"?')

    def test_not_configured(self) -> None:
        """A provider that is known but has no account is told of, as key and as target."""
        found = self.having(providerFallbackChain={"sample-oauth": ["gemini-antigravity"]})
        self.assertEqual(found.fallback_chains, (("sample-oauth", ()),))
        self.assertWarned(found, "sample-oauth is not configured")
        self.assertWarned(found, "gemini-antigravity is not configured")

    def test_to_itself(self) -> None:
        """A provider does not fall back to itself."""
        found = self.having(providerFallbackChain={"sandbox": ["sandbox", "openai-custom"]})
        self.assertEqual(found.fallback_chains, (("sandbox", ("openai-custom",)),))
        self.assertWarned(found, '"sandbox": falls back to itself')

    def test_an_empty_chain_stays(self) -> None:
        """A provider that is to fall back to nobody is not caught by a wider pattern."""
        chains = {"openai-custom": [], "*": ["sandbox"], "_comment": "x", "sandbox": None}
        found = self.having(providerFallbackChain=chains)
        self.assertEqual(found.fallback_chains, (("openai-custom", ()), ("*", ("sandbox",))))

    def test_faults(self) -> None:
        """Everything of the wrong shape is a fault, with its key."""
        self.assertFault({"providerFallbackChain": []}, "providerFallbackChain: is a list")
        found = self.faults({"providerFallbackChain": {"sandbox": 5, "*": [5]}})
        self.assertEqual(len(found), 2)
        self.assertIn('config.json: providerFallbackChain."sandbox": is 5', found[0])


class MappingTests(FallbackCase):
    """Fallbacks of models."""

    def test_in_order(self) -> None:
        """One target or a list; the provider may be left out; either spelling."""
        mapping = {
            "claude-opus-4-5": {"targetProviderType": "sandbox", "targetModel": "m1"},
            "claude-*": [
                {"targetModel": "m2"},
                {"target_provider_type": "openai-custom-b", "target_model": "m3"},
            ],
            "*": {"targetModel": "m4", "targetProviderType": ""},
        }
        found = self.having(modelFallbackMapping=mapping)
        self.assertEqual(
            found.model_fallbacks,
            (
                ("claude-opus-4-5", (("sandbox", "m1"),)),
                ("claude-*", ((None, "m2"), ("openai-custom-b", "m3"))),
                ("*", ((None, "m4"),)),
            ),
        )
        self.assertEqual(found.warnings, ())

    def test_spellings(self) -> None:
        """The key is known in each of its spellings; nothing is the default."""
        for spelling in ("model_fallback_mapping", "MODEL_FALLBACK_MAPPING"):
            found = self.load({spelling: {"a": {"TARGET_MODEL": "b"}}})
            self.assertEqual(found.model_fallbacks, (("a", ((None, "b"),)),))
        self.assertEqual(self.load({}).model_fallbacks, ())

    def test_unknown_providers(self) -> None:
        """A target of a provider that is not there is told of and left out."""
        targets = [
            {"targetProviderType": "sandbx", "targetModel": "m"},
            {"targetProviderType": "sample-oauth", "targetModel": "m"},
            {"targetModel": "m"},
        ]
        found = self.having(modelFallbackMapping={"a": targets})
        self.assertEqual(found.model_fallbacks, (("a", ((None, "m"),)),))
        self.assertWarned(found, 'modelFallbackMapping."a"[0]', 'did you mean "sandbox"?')
        self.assertWarned(found, 'modelFallbackMapping."a"[1]', "is not configured")

    def test_to_itself(self) -> None:
        """A model does not fall back to itself, unless with another provider."""
        mapping = {
            "a": [{"targetModel": "a"}, {"targetModel": "a", "targetProviderType": "sandbox"}]
        }
        found = self.having(modelFallbackMapping=mapping)
        self.assertEqual(found.model_fallbacks, (("a", (("sandbox", "a"),)),))
        self.assertWarned(found, 'modelFallbackMapping."a"[0]: falls back to itself')

    def test_faults(self) -> None:
        """A target needs a model; everything else of the wrong shape is a fault, too."""
        self.assertFault({"modelFallbackMapping": "x"}, "modelFallbackMapping: is ")
        mapping = {
            "a": {"targetProviderType": "sandbox"},
            "b": [{"targetModel": ""}, 5],
            "c": {"targetModel": 1.5},
            "d": {"targetModel": "m", "targetProviderType": []},
        }
        found = self.faults({"modelFallbackMapping": mapping})
        self.assertEqual(len(found), 5, found)
        self.assertIn('modelFallbackMapping."a": has no targetModel', found[0])
        self.assertIn('modelFallbackMapping."b"[0]: has no targetModel', found[1])
        self.assertIn('modelFallbackMapping."b"[1]: is 5', found[2])
        self.assertIn('modelFallbackMapping."c".targetModel: is 1.5', found[3])
        self.assertIn('modelFallbackMapping."d".targetProviderType: is a list', found[4])

    def test_strange_keys(self) -> None:
        """A slip in a target is told with the key that was meant."""
        found = self.having(modelFallbackMapping={"a": {"targetModel": "m", "targetModle": "x"}})
        self.assertWarned(found, '"targetModle" is no key that is known')
