"""
The OpenAI Responses provider: its URLs and its key.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.providers.openai_responses_custom import openai_responses_custom
from tests.test_providers_contract import listed, prepared


class ResponsesCustomTests(SynchronousTestCase):
    """What goes over the wire."""

    def test_urls(self) -> None:
        """The path is appended to the base URL as it is written."""
        for base, url in (
            ("", "https://api.openai.com/v1/responses"),
            ("https://a.test/v1/", "https://a.test/v1/responses"),
            ("https://a.test/openai", "https://a.test/openai/responses"),
        ):
            self.assertEqual(prepared(openai_responses_custom, openai_base_url=base).url, url)

    def test_key(self) -> None:
        """The key goes as a Bearer token, and an empty one not at all."""
        headers = dict(prepared(openai_responses_custom, openai_api_key="sk-test").headers)
        self.assertEqual(headers[b"authorization"], b"Bearer sk-test")
        headers = dict(prepared(openai_responses_custom, openai_api_key="").headers)
        self.assertNotIn(b"authorization", headers)

    def test_models(self) -> None:
        """The models are listed below the same base URL."""
        models, asked = listed(
            self,
            openai_responses_custom,
            b'{"object":"list","data":[{"id":"a"}]}',
            openai_base_url="https://a.test/v1",
        )
        self.assertEqual((models, asked[0].url), (["a"], "https://a.test/v1/models"))

    def test_no_vendors(self) -> None:
        """No preset claims a dialect that its vendor may not have."""
        self.assertEqual(openai_responses_custom.defaults(name="openaiResponses-custom-kimi"), {})
