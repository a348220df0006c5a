"""The probe's request: what goes out in each dialect, and what an answer means."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.probe_request import ANSWER_LIMIT, ask, question
from aiclient2api.providers.claude_custom import claude_custom
from aiclient2api.providers.gemini_custom import gemini_custom
from aiclient2api.providers.openai_custom import openai_custom
from aiclient2api.providers.openai_responses_custom import openai_responses_custom
from aiclient2api.testing import (
    MemoryResponse,
    MemoryUpstream,
    chat_body,
    chat_chunks,
    gemini_body,
    messages_body,
    one_account,
    responses_body,
)
from aiclient2api.values import Headers, Runtime, Usage

KEY = "sk-test-secret"
JSON = ((b"content-type", b"application/json"),)
HTML = ((b"content-type", b"text/html"),)
KEYS = {
    openai_custom: "openai_api_key",
    openai_responses_custom: "openai_api_key",
    claude_custom: "claude_api_key",
    gemini_custom: "gemini_api_key",
}


class ProbeRequestTests(SynchronousTestCase):
    """`ask` over an upstream in memory."""

    def setUp(self) -> None:
        """Have a clock."""
        self.clock = Clock()

    def asked(
        self,
        *answers: MemoryResponse | Exception | None,
        factory: Any = openai_custom,
        model: str = "m-1",
    ) -> Deferred[Usage | None]:
        """Ask an account of a provider whose way out gives *answers*."""
        self.upstream = MemoryUpstream(answers, clock=self.clock)
        runtime = Runtime(clock=self.clock, upstream=self.upstream)
        provider = factory.provider(name=factory.name, runtime=runtime)
        account = one_account(factory.name, factory.settings(**{KEYS[factory]: KEY}))
        return ask(provider, account, model, clock=self.clock)

    def answered(self, status: int, body: bytes, headers: Headers = JSON) -> Usage | None:
        """Return what an answer means of which the account works."""
        return self.successResultOf(self.asked(MemoryResponse(status, headers, [body])))

    def refused(self, status: int, body: bytes, headers: Headers = JSON) -> UpstreamError:
        """Return what an answer means of which the account does not work."""
        asking = self.asked(MemoryResponse(status, headers, [body]))
        error = self.failureResultOf(asking, UpstreamError).value
        assert isinstance(error, UpstreamError)
        return error

    # --- what goes out ----------------------------------------------------------

    def sent(self, factory: Any, answer: bytes, model: str) -> tuple[str, dict[bytes, bytes], Any]:
        """Return URL, headers and body of the question, and see that *answer* is enough."""
        asking = self.asked(MemoryResponse(200, JSON, [answer]), factory=factory, model=model)
        self.successResultOf(asking)
        self.assertEqual(len(self.upstream.sent), 1)
        request = self.upstream.sent[0].request
        self.assertEqual((request.method, request.account), ("POST", "a1"))
        return request.url, dict(request.headers), json.loads(request.body or b"")

    def test_chat_completions(self) -> None:
        """One word, one token, no stream."""
        url, headers, body = self.sent(openai_custom, chat_body("H", "length"), "gpt-4o-mini")
        self.assertEqual(url, "https://api.openai.com/v1/chat/completions")
        self.assertEqual(headers[b"authorization"], f"Bearer {KEY}".encode())
        self.assertEqual(headers[b"accept"], b"application/json")
        self.assertEqual(
            body,
            {
                "model": "gpt-4o-mini",
                "messages": [{"role": "user", "content": "Hi"}],
                "max_tokens": 1,
            },
        )

    def test_chat_completions_of_a_model_that_thinks(self) -> None:
        """The limit has its other name."""
        _, _, body = self.sent(openai_custom, chat_body("H", "length"), "gpt-5-mini")
        self.assertEqual(body["max_completion_tokens"], 1)
        self.assertNotIn("max_tokens", body)

    def test_responses(self) -> None:
        """Not kept, and with the least number of tokens that OpenAI takes."""
        answer = responses_body("H", "incomplete")
        url, _, body = self.sent(openai_responses_custom, answer, "gpt-4o-mini")
        self.assertEqual(url, "https://api.openai.com/v1/responses")
        self.assertEqual((body["model"], body["store"]), ("gpt-4o-mini", False))
        self.assertEqual(body["max_output_tokens"], 16)
        self.assertIn("Hi", json.dumps(body["input"]))
        self.assertNotIn("stream", body)

    def test_messages(self) -> None:
        """With the API's version."""
        answer = messages_body("H", "max_tokens")
        url, headers, body = self.sent(claude_custom, answer, "claude-haiku-4-5")
        self.assertEqual(url, "https://api.anthropic.com/v1/messages")
        self.assertEqual(headers[b"x-api-key"], KEY.encode())
        self.assertEqual(headers[b"anthropic-version"], b"2023-06-01")
        self.assertEqual((body["model"], body["max_tokens"]), ("claude-haiku-4-5", 1))
        self.assertEqual([turn["role"] for turn in body["messages"]], ["user"])
        self.assertIn("Hi", json.dumps(body["messages"]))
        self.assertLessEqual(set(body), {"model", "max_tokens", "messages", "stream"})
        self.assertFalse(body.get("stream"))

    def test_gemini(self) -> None:
        """The model stands in the URL."""
        answer = gemini_body("H", "MAX_TOKENS")
        url, headers, body = self.sent(gemini_custom, answer, "gemini-2.5-flash")
        self.assertEqual(
            url,
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash"
            ":generateContent",
        )
        self.assertEqual(headers[b"x-goog-api-key"], KEY.encode())
        self.assertEqual(body["contents"], [{"role": "user", "parts": [{"text": "Hi"}]}])
        self.assertEqual(body["generationConfig"]["maxOutputTokens"], 1)

    def test_a_dialect_that_cannot_be_written_is_told(self) -> None:
        """By name, with a remedy."""

        class Odd:
            title = "Odd"

            def request_interface(self, conversation: object, alternate: object) -> object:
                return alternate

        class OddProvider:
            name = "odd"
            dialect = Odd()

            def traits(self, *, model: str) -> object:
                return None

        with self.assertRaises(InvalidRequest) as caught:
            question(OddProvider(), "m")  # type: ignore[arg-type]
        self.assertIn("odd cannot be probed", caught.exception.message)

    # --- what comes back --------------------------------------------------------

    def test_an_answer_means_that_it_works(self) -> None:
        """And tells what it took."""
        usage = self.answered(200, chat_body("H", "length", Usage(input=8, output=1)))
        assert usage is not None
        self.assertEqual((usage.input, usage.output), (8, 1))

    def test_an_answer_that_is_a_stream_is_one_too(self) -> None:
        """Some upstreams know nothing else."""
        stream = b"".join(chat_chunks(["H"]))
        headers = ((b"content-type", b"text/event-stream"),)
        self.answered(200, stream, headers)

    def test_a_fault_of_the_question_means_that_it_works(self) -> None:
        """Who finds fault with what was asked has let us in."""
        for status, body in (
            (400, b'{"error":{"message":"max_tokens is too small"}}'),
            (422, b'{"error":{"message":"no"}}'),
            (400, b'{"error":{"message":"no","code":"content_filter"}}'),
            (400, b'{"error":{"message":"no","code":"context_length_exceeded"}}'),
        ):
            self.assertIsNone(self.answered(status, body))

    def test_what_is_wrong_is_classified(self) -> None:
        """As for a real request: its fault, and when to come again."""
        error = self.refused(429, b"{}", (*JSON, (b"retry-after", b"120")))
        self.assertEqual((error.fault, error.retry_after), (Fault.RATE_LIMIT, 120.0))
        self.assertIs(self.refused(401, b"{}").fault, Fault.CREDENTIAL)
        self.assertIs(self.refused(500, b"{}").fault, Fault.SERVER)
        self.assertIs(self.refused(404, b'{"error":{"message":"no"}}').fault, Fault.NOT_FOUND)

    def test_another_program_s_page_is_no_answer(self) -> None:
        """Neither as a success nor as a refusal: a wrong base URL is not an account that works."""
        page = b"<html>welcome</html>"
        for status in (200, 400, 404, 405):
            self.assertIs(self.refused(status, page, HTML).fault, Fault.SERVER, status)
        for body in (b"", b"[]", b"{"):
            self.assertIs(self.refused(200, body).fault, Fault.SERVER, body)
        self.assertIs(self.refused(204, b"").fault, Fault.SERVER)

    def test_an_error_in_a_success_is_one(self) -> None:
        """Some vendors tell of it with a status of 200."""
        body = b'{"error":{"message":"no","code":"insufficient_quota"}}'
        self.assertIsInstance(self.refused(200, body), UpstreamError)

    def test_an_answer_without_end_is_given_up(self) -> None:
        """Its connection is closed."""
        answer = MemoryResponse(200, JSON, [b'{"a":"', b"x" * ANSWER_LIMIT], end=None)
        error = self.failureResultOf(self.asked(answer), UpstreamError).value
        assert isinstance(error, UpstreamError)
        self.assertIs(error.fault, Fault.SERVER)
        self.assertTrue(answer.aborted)

    def test_no_secret_is_told(self) -> None:
        """An upstream may quote the key; nothing of its answer is kept but its words."""
        body = b'{"error":{"message":"wrong key sk-test-secret","code":"sk-test-secret"}}'
        for error in (self.refused(401, body), self.refused(200, body)):
            self.assertNotIn(KEY, error.message)
            self.assertNotIn(KEY, error.code or "")
            self.assertIsNone(error.reply)
        broken = UpstreamError(
            f"No way for {KEY}", fault=Fault.UNREACHABLE, status=502, of_model=True
        )
        error = self.failureResultOf(self.asked(broken), UpstreamError).value
        assert isinstance(error, UpstreamError)
        self.assertNotIn(KEY, error.message)
        self.assertIs(error.fault, Fault.UNREACHABLE)
        self.assertTrue(error.of_model)

    def test_cancelling_closes_the_connection(self) -> None:
        """Before the head, in the body, and in the body of an error."""
        asking = self.asked(None)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertTrue(self.upstream.sent[0].cancelled)
        for status in (200, 500):
            answer = MemoryResponse(status, JSON, [b"{"], end=None)
            asking = self.asked(answer)
            asking.cancel()
            self.failureResultOf(asking, CancelledError)
            self.assertTrue(answer.aborted)
            self.clock.advance(0)
            self.assertEqual(self.clock.getDelayedCalls(), [])
