"""
The OpenAI Chat Completions provider: its URLs, its key, and its vendors.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.providers.openai_custom import openai_custom
from tests.test_providers_contract import STREAMED, AskedRequest, listed, prepared, provider_of

_LIST = b'{"object":"list","data":[{"id":"b"},{"id":"a"}]}'


class OpenAICustomTests(SynchronousTestCase):
    """What goes over the wire."""

    def test_urls(self) -> None:
        """The path is appended to the base URL, whatever version that ends in."""
        for base, url in (
            ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
            ("https://a.test/api/paas/v4/", "https://a.test/api/paas/v4/chat/completions"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/chat/completions"),
            (
                "https://a.test/deploy?api-version=1",
                "https://a.test/deploy/chat/completions?api-version=1",
            ),
        ):
            self.assertEqual(prepared(openai_custom, openai_base_url=base).url, url)

    def test_default_base(self) -> None:
        """Without a base URL it is OpenAI's own."""
        url = "https://api.openai.com/v1/chat/completions"
        self.assertEqual(prepared(openai_custom).url, url)
        self.assertEqual(prepared(openai_custom, openai_base_url="").url, url)

    def test_key(self) -> None:
        """The key goes as a Bearer token."""
        headers = dict(prepared(openai_custom, openai_api_key="sk-test").headers)
        self.assertEqual(headers[b"authorization"], b"Bearer sk-test")

    def test_no_key(self) -> None:
        """A local server without a key gets no Authorization at all."""
        headers = dict(prepared(openai_custom, STREAMED, openai_api_key="").headers)
        self.assertNotIn(b"authorization", headers)

    def test_query(self) -> None:
        """Query arguments that the dialect passes on are kept."""
        sent = prepared(openai_custom, AskedRequest(query=(("a", "b c"),)))
        self.assertTrue(sent.url.endswith("/chat/completions?a=b+c"), sent.url)

    def test_models(self) -> None:
        """The models are listed below the same base URL, in the upstream's order."""
        models, asked = listed(self, openai_custom, _LIST, openai_base_url="https://a.test/v4")
        self.assertEqual(models, ["b", "a"])
        self.assertEqual([request.url for request in asked], ["https://a.test/v4/models"])

    def test_vendor(self) -> None:
        """A grouped name that is a vendor's brings its base URL and its models."""
        name = "openai-custom-glm-coding"
        self.assertEqual(
            openai_custom.defaults(name=name),
            {"openai_base_url": "https://api.z.ai/api/coding/paas/v4"},
        )
        provider, _ = provider_of(openai_custom, name=name)
        self.assertIn("glm-4.5", provider.known_models)

    def test_who_goes_on(self) -> None:
        """Moonshot's models that do not think, and only where Moonshot itself is asked."""
        for name, model, wanted in (
            ("openai-custom-kimi", "moonshot-v1-8k", True),
            ("openai-custom-kimi-cn", "kimi-k2-0905-preview", True),
            ("openai-custom-kimi", "kimi-k2.5", False),
            ("openai-custom-kimi", "kimi-k2-thinking", False),
            ("openai-custom-kimi", "m", False),
            ("openai-custom-glm", "moonshot-v1-8k", False),
            ("openai-custom", "moonshot-v1-8k", False),
        ):
            provider, _ = provider_of(openai_custom, name=name)
            self.assertEqual(provider.traits(model=model).prefill, wanted, (name, model))

    def test_no_vendor(self) -> None:
        """Any other grouped name implies nothing."""
        for name in ("openai-custom", "openai-custom-b", "openai-custom-kimi-2"):
            self.assertEqual(openai_custom.defaults(name=name), {})
            self.assertEqual(provider_of(openai_custom, name=name)[0].known_models, ())
