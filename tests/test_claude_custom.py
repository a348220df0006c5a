"""
The Anthropic Messages provider: both ways to write its base URL, and its three headers.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.providers.claude_custom import claude_custom
from tests.test_providers_contract import AskedRequest, listed, prepared, provider_of


class ClaudeCustomTests(SynchronousTestCase):
    """What goes over the wire."""

    def test_urls(self) -> None:
        """The version is added exactly where the base URL has none."""
        for base, url in (
            ("", "https://api.anthropic.com/v1/messages"),
            ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
            ("https://api.anthropic.com/v1", "https://api.anthropic.com/v1/messages"),
            ("https://api.anthropic.com/v1/", "https://api.anthropic.com/v1/messages"),
            ("https://a.test/anthropic", "https://a.test/anthropic/v1/messages"),
            ("https://a.test/v2/proxy", "https://a.test/v2/proxy/v1/messages"),
        ):
            self.assertEqual(prepared(claude_custom, claude_base_url=base).url, url)

    def test_count_tokens(self) -> None:
        """Counting tokens has its own path below both kinds of base URL."""
        request = AskedRequest(action="count_tokens")
        for base in ("https://a.test", "https://a.test/v1"):
            self.assertEqual(
                prepared(claude_custom, request, claude_base_url=base).url,
                "https://a.test/v1/messages/count_tokens",
            )

    def test_beta(self) -> None:
        """A client's ``?beta=true`` goes along."""
        sent = prepared(claude_custom, AskedRequest(query=(("beta", "true"),)))
        self.assertEqual(sent.url, "https://api.anthropic.com/v1/messages?beta=true")

    def test_version(self) -> None:
        """A version is sent unless the client sent its own, with its betas."""
        headers = prepared(claude_custom).headers
        self.assertIn((b"anthropic-version", b"2023-06-01"), headers)
        passed = ((b"anthropic-version", b"2030-01-01"), (b"anthropic-beta", b"b-1"))
        headers = prepared(claude_custom, AskedRequest(headers=passed)).headers
        self.assertEqual([line for line in headers if b"anthropic" in line[0]], list(passed))

    def test_key(self) -> None:
        """The key goes where the setting says: x-api-key, Bearer token, or both."""
        plain, bearer = (b"x-api-key", b"sk-test"), (b"authorization", b"Bearer sk-test")
        for how, expected in (
            ("x-api-key", {plain}),
            ("bearer", {bearer}),
            ("both", {plain, bearer}),
        ):
            sent = prepared(claude_custom, claude_api_key="sk-test", claude_auth_header=how)
            found = {line for line in sent.headers if b"sk-test" in line[1]}
            self.assertEqual(found, expected)
        self.assertNotIn(b"x-api-key", dict(prepared(claude_custom, claude_api_key="").headers))

    def test_models(self) -> None:
        """The models are listed with the version header, below both kinds of base URL."""
        for base in ("https://a.test", "https://a.test/v1"):
            models, asked = listed(
                self,
                claude_custom,
                b'{"data":[{"type":"model","id":"a"}],"has_more":false}',
                claude_base_url=base,
            )
            self.assertEqual(models, ["a"])
            self.assertEqual(asked[0].url, "https://a.test/v1/models?limit=1000")
            self.assertIn((b"anthropic-version", b"2023-06-01"), asked[0].headers)

    def test_vendor(self) -> None:
        """A grouped name that is a vendor's brings its Anthropic base URL and its models."""
        name = "claude-custom-kimi"
        self.assertEqual(
            claude_custom.defaults(name=name),
            {"claude_base_url": "https://api.moonshot.ai/anthropic"},
        )
        self.assertIn("kimi-k2.5", provider_of(claude_custom, name=name)[0].known_models)
