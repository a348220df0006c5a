"""
What ``aiclient2api check`` prints.
"""

from __future__ import annotations

from aiclient2api.config import report
from tests.config_fakes import ConfigTestCase


class ReportTests(ConfigTestCase):
    """What ``aiclient2api check`` prints."""

    def test_it_says_what_matters(self) -> None:
        """Source, listeners, key, default, every provider's state and all warnings."""
        text = report(
            self.load(
                {"model_provider": "openai-custom,forward-api", "required_api_key": "sk-mine"},
                pools={"openai-custom": [{"OPENAI_API_KEY": "sk-a"}, {"OPENAI_API_KEY": "sk-b"}]},
            )
        )
        for part in (
            str(self.cwd / "config.json"),
            "tcp:3000:interface=127.0.0.1",
            "1 configured",
            "default provider  openai-custom, forward-api",
            "openai-custom: ready (2 accounts)",
            "forward-api: cannot be used: it is not built yet",
        ):
            self.assertIn(part, text)
        for secret in ("sk-mine", "sk-a", "sk-b"):
            self.assertNotIn(secret, text)

    def test_key_states(self) -> None:
        """It says whether a key is made, asked or not asked."""
        self.assertIn("a random one is made", report(self.load()))
        self.assertIn("open to everybody", report(self.load({"required_api_key": ""})))

    def test_accounts(self) -> None:
        """It says how many accounts there are, and how many of them are of no use."""
        entries = [
            {"OPENAI_API_KEY": "sk-a"},
            {"OPENAI_API_KEY": "sk-b", "isDisabled": True},
            {},
            {"OPENAI_API_KEY": "sk-a"},
        ]
        disabled = {"isDisabled": True, "SAMPLE_CREDS_FILE_PATH": "c"}
        pools = {"openai-custom": entries, "sample-oauth": [disabled]}
        lines = report(self.load(pools=pools)).splitlines()
        for line in (
            "provider          openai-custom: ready (4 accounts, 1 disabled, 2 unusable)",
            "provider          sample-oauth: cannot be used: all its accounts are disabled"
            " (1 account, 1 disabled)",
            "provider          sandbox: ready",
        ):
            self.assertIn(line, lines)

    def test_rules(self) -> None:
        """It says how accounts are chosen and probed, who falls back to whom, and the models."""
        models = [{"id": f"m{at}", "provider": "sandbox"} for at in range(12)]
        self.write("custom_models.json", models)
        found = self.load(
            {
                "openai_api_key": "sk-a",
                "selection": {"*": "weighted", "sandbox": "fill_first"},
                "providerFallbackChain": {"openai-*": ["sandbox"], "sandbox": []},
                "modelFallbackMapping": {
                    "a": [
                        {"targetModel": "b"},
                        {"targetModel": "c", "targetProviderType": "sandbox"},
                    ]
                },
                "probe": {"mode": "scheduled", "interval": 900},
                "health_alert_webhook_url": "https://hooks.example/hush",
            }
        )
        lines = report(found).splitlines()
        for line in (
            "selection         weighted, sandbox: fill_first",
            "fallback          openai-* -> sandbox",
            "fallback          sandbox -> none",
            "model fallback    a -> b, sandbox:c",
            "custom models     m0, m1, m2, m3, m4, m5, m6, m7, m8, m9 and 2 more",
            "probes            scheduled, every 900 s, of all providers",
            "alerts            sent to a webhook",
        ):
            self.assertIn(line, lines)

    def test_what_is_not_set(self) -> None:
        """Of rules that nobody set there is nothing to tell."""
        lines = report(self.load()).splitlines()
        self.assertIn("selection         round_robin", lines)
        for word in ("fallback", "model fallback", "custom models", "probes", "alerts"):
            self.assertEqual([line for line in lines if line.startswith(word)], [])
