"""
The Gemini provider: its URLs with the model in them, and its paged model list.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import InvalidRequest
from aiclient2api.providers.gemini_custom import gemini_custom
from tests.test_providers_contract import STREAMED, AskedRequest, listed, prepared

_HOST = "https://generativelanguage.googleapis.com"


class GeminiCustomTests(SynchronousTestCase):
    """What goes over the wire."""

    def test_base(self) -> None:
        """The version is added exactly where the base URL has none."""
        for base, front in (
            ("", f"{_HOST}/v1beta"),
            (_HOST, f"{_HOST}/v1beta"),
            (f"{_HOST}/v1/", f"{_HOST}/v1"),
            (f"{_HOST}/v1alpha", f"{_HOST}/v1alpha"),
            ("http://127.0.0.1:1/gemini", "http://127.0.0.1:1/gemini/v1beta"),
        ):
            sent = prepared(gemini_custom, gemini_api_base_url=base)
            self.assertEqual(sent.url, f"{front}/models/m-1:generateContent")

    def test_verbs(self) -> None:
        """Each action and framing has its verb; only an SSE stream says ``alt=sse``."""
        stem = f"{_HOST}/v1beta/models/m-1:"
        for request, end, accept in (
            (AskedRequest(), "generateContent", b"application/json"),
            (STREAMED, "streamGenerateContent?alt=sse", b"text/event-stream"),
            (
                AskedRequest(streaming=True, framing="json_array"),
                "streamGenerateContent",
                b"application/json",
            ),
            (AskedRequest(action="count_tokens"), "countTokens", b"application/json"),
        ):
            sent = prepared(gemini_custom, request)
            self.assertEqual(sent.url, stem + end)
            self.assertEqual(dict(sent.headers)[b"accept"], accept)

    def test_model_ids(self) -> None:
        """A model id is quoted for the path, its slashes and all else kept."""
        for model, segment in (
            ("gemini-2.5-pro", "gemini-2.5-pro"),
            ("models/gemini-2.5-pro", "gemini-2.5-pro"),
            ("a/b", "a/b"),
            ("a b?c#d%e:f", "a%20b%3Fc%23d%25e%3Af"),
            ("模型", "%E6%A8%A1%E5%9E%8B"),
        ):
            sent = prepared(gemini_custom, AskedRequest(model=model))
            self.assertEqual(sent.url, f"{_HOST}/v1beta/models/{segment}:generateContent")

    def test_model_id_stays_in_its_place(self) -> None:
        """A model id cannot climb to another path of the upstream."""
        for model in ("../cachedContents", "a/../../b", "."):
            with self.assertRaises(InvalidRequest):
                prepared(gemini_custom, AskedRequest(model=model))

    def test_key(self) -> None:
        """The key goes as x-goog-api-key."""
        headers = dict(prepared(gemini_custom, gemini_api_key="sk-test").headers)
        self.assertEqual(headers[b"x-goog-api-key"], b"sk-test")
        self.assertNotIn(b"x-goog-api-key", dict(prepared(gemini_custom).headers))

    def test_pages(self) -> None:
        """The model list is followed from page to page."""
        models, asked = listed(
            self,
            gemini_custom,
            b'{"models":[{"name":"models/a"}],"nextPageToken":"t/2"}',
            b'{"models":[{"name":"models/b"}]}',
        )
        self.assertEqual(models, ["a", "b"])
        self.assertEqual(
            [request.url for request in asked],
            [
                f"{_HOST}/v1beta/models?pageSize=1000",
                f"{_HOST}/v1beta/models?pageSize=1000&pageToken=t%2F2",
            ],
        )

    def test_endless_pages(self) -> None:
        """An upstream that always promises another page is asked ten times."""
        page = b'{"models":[{"name":"models/a"}],"nextPageToken":"t"}'
        models, asked = listed(self, gemini_custom, *[page] * 10)
        self.assertEqual((len(models), len(asked)), (10, 10))
