"""From a request to the ways to answer it: fallbacks, the operator's own models, the heads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiclient2api.testing import MemoryResponse, chat_body, messages_body, responses_body
from tests.web_fixture import GatewayTestCase

JSON = ((b"content-type", b"application/json"),)
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES: dict[str, Any] = {**CHAT, "max_tokens": 9}


def body(document: dict[str, Any]) -> bytes:
    """Return a request's body."""
    return json.dumps(document).encode()


def good(content: bytes) -> MemoryResponse:
    """Return a good answer."""
    return MemoryResponse(200, JSON, [content])


def bad(status: int, **error: str) -> MemoryResponse:
    """Return an error answer."""
    return MemoryResponse(status, JSON, [body({"error": {"message": "no", **error}})])


class FallbackTests(GatewayTestCase):
    """Providers and models to fall back on."""

    CHAIN = {"openai-custom": ["claude-custom"]}

    def test_the_client_gets_its_own_dialect_and_its_own_name(self) -> None:
        """Whoever answers; the head says who did, and the system prompt is in both."""
        self.build(
            [bad(401), good(messages_body("hello"))],
            providerFallbackChain=self.CHAIN,
            system_prompt_replacements=[{"old": "old", "new": "new"}],
        )
        asked = {**CHAT, "messages": [{"role": "system", "content": "old"}, *CHAT["messages"]]}
        reply = self.ask("POST", "/v1/chat/completions", body(asked))
        self.assertEqual(reply.status, 200)
        answer = reply.json()
        self.assertEqual(answer["model"], "m")
        self.assertEqual(answer["choices"][0]["message"]["content"], "hello")
        self.assertEqual(reply.headers["x-aiclient2api-provider"], "claude-custom")
        self.assertEqual(reply.headers["x-aiclient2api-model"], "m")
        self.assertTrue(reply.headers["x-aiclient2api-account"])
        first, second = (sent.request for sent in self.upstream.sent)
        for request in (first, second):
            assert request.body is not None
            self.assertIn(b'"new"', request.body)
        self.assertTrue(second.url.endswith("/v1/messages"))

    def test_an_error_names_whom_it_is_of(self) -> None:
        """Where nobody could answer, the head names who was asked last."""
        self.build([bad(401), bad(403)], providerFallbackChain=self.CHAIN)
        reply = self.ask("POST", "/v1/chat/completions", body(CHAT))
        self.assertEqual(reply.status, 403)
        self.assertEqual(reply.headers["x-aiclient2api-provider"], "claude-custom")
        self.assertEqual(set(reply.json()["error"]), {"message", "type", "code", "param"})

    def test_nobody_is_left(self) -> None:
        """The next request is refused in its own dialect, with when to come back."""
        limited = MemoryResponse(429, (*JSON, (b"retry-after", b"77")), [b'{"error":{}}'])
        self.build([limited], request_max_retries=0)
        self.assertEqual(self.ask("POST", "/v1/chat/completions", body(CHAT)).status, 429)
        reply = self.ask(
            "POST", "/v1/messages", body(MESSAGES), headers={"Model-Provider": "openai-custom"}
        )
        self.assertEqual((reply.status, reply.headers["retry-after"]), (429, "77"))
        self.assertEqual(reply.json()["error"]["type"], "rate_limit_error")
        self.assertEqual(len(self.upstream.sent), 1)

    def test_a_long_context_goes_to_a_wider_model(self) -> None:
        """By what is known of their windows."""
        self.build(
            [bad(400, code="context_length_exceeded"), good(chat_body("long"))],
            modelFallbackMapping={
                "gpt-4o": [
                    {"targetProviderType": "claude-custom", "targetModel": "who-knows"},
                    {"targetModel": "gpt-4.1"},
                ]
            },
        )
        reply = self.ask("POST", "/v1/chat/completions", body({**CHAT, "model": "gpt-4o"}))
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.headers["x-aiclient2api-model"], "gpt-4.1")
        self.assertEqual(len(self.upstream.sent), 2)

    def test_a_provider_that_cannot_be_used_is_fallen_back_from(self) -> None:
        """Switched off or without a credential: whoever stands in for it answers."""
        self.build(
            [good(messages_body("hello"))],
            openai_api_key=None,
            openai_base_url=None,
            providerFallbackChain=self.CHAIN,
        )
        reply = self.ask("POST", "/v1/chat/completions", body(CHAT))
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual(reply.headers["x-aiclient2api-provider"], "claude-custom")
        self.assertEqual(self.ask("GET", "/ready", key=None).status, 200)

    def test_a_count_is_worth_no_trouble(self) -> None:
        """What the provider does not tell is estimated, and no account rests for it."""
        counting = "/v1/messages/count_tokens"
        limited = MemoryResponse(429, (*JSON, (b"retry-after", b"60")), [b"{}"])
        self.build([bad(404), limited, bad(400), good(messages_body("hello"))])
        headers = {"Model-Provider": "claude-custom"}
        for _ in range(2):
            reply = self.ask("POST", counting, body(CHAT), headers=headers)
            self.assertEqual(reply.status, 200, reply.body)
            self.assertEqual(reply.headers["x-aiclient2api-estimated"], "true")
            self.assertGreater(reply.json()["input_tokens"], 0)
            self.clock.advance(60)
        self.assertEqual(self.ask("POST", counting, body(CHAT), headers=headers).status, 400)
        reply = self.ask("POST", "/v1/messages", body(MESSAGES), headers=headers)
        self.assertEqual(reply.status, 200, reply.body)

    def test_an_answer_that_is_not_there_rests_nobody(self) -> None:
        """``GET /v1/responses/{id}`` of an id that nobody knows is a 404, and that is all."""
        self.build([bad(404), bad(404), good(responses_body("hello"))])
        headers = {"Model-Provider": "openaiResponses-custom"}
        for method in ("GET", "DELETE"):
            reply = self.ask(method, "/v1/responses/resp_x", headers=headers)
            self.assertEqual(reply.status, 404)
        self.assertEqual(len(self.upstream.sent), 2)
        asked = body({"model": "m", "input": "hi"})
        self.assertEqual(self.ask("POST", "/v1/responses", asked, headers=headers).status, 200)

    def test_a_policy_refusal_is_told(self) -> None:
        """Nobody else is asked."""
        self.build([bad(400, code="content_filter")], providerFallbackChain=self.CHAIN)
        self.assertEqual(self.ask("POST", "/v1/chat/completions", body(CHAT)).status, 400)
        self.assertEqual(len(self.upstream.sent), 1)


class CustomModelTests(GatewayTestCase):
    """Models of the operator's own naming."""

    def custom(self, answers: list[MemoryResponse], *models: dict[str, Any], **more: Any) -> None:
        """Build a gateway with custom models."""
        file = Path(self.mktemp()).absolute()
        file.write_text(json.dumps(models))
        self.build(answers, custom_models_file_path=str(file), **more)

    def test_a_model_of_ones_own(self) -> None:
        """It is answered by the actual model, with the operator's sampling, under its name."""
        self.custom(
            [good(chat_body("hello")), good(chat_body("hello"))],
            {
                "id": "calm",
                "alias": "quiet",
                "actualProvider": "openai-custom",
                "actualModel": "gpt-x",
                "temperature": 0,
                "topP": 0.5,
                "maxTokens": 77,
            },
        )
        for name in ("calm", "openai-custom:quiet"):
            asked = {**CHAT, "model": name, "temperature": 1.5}
            reply = self.ask("POST", "/v1/chat/completions", body(asked))
            self.assertEqual(reply.status, 200, reply.body)
            self.assertEqual(reply.headers["x-aiclient2api-model"], "gpt-x")
            sent = json.loads(self.upstream.sent[-1].request.body or b"")
            self.assertEqual(sent["model"], "gpt-x")
            self.assertEqual((sent["temperature"], sent["top_p"], sent["max_tokens"]), (0, 0.5, 77))

    def test_in_another_dialect(self) -> None:
        """The sampling travels through the conversion, and the client's name comes back."""
        self.custom(
            [good(messages_body("hello"))],
            {
                "id": "calm",
                "actualProvider": "claude-custom",
                "actualModel": "claude-x",
                "temperature": 0.25,
                "maxTokens": 55,
            },
        )
        asked = {"model": "calm", "input": "hi", "temperature": 1}
        reply = self.ask("POST", "/v1/responses", body(asked))
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual(reply.json()["model"], "calm")
        sent = json.loads(self.upstream.sent[-1].request.body or b"")
        self.assertEqual(
            (sent["model"], sent["temperature"], sent["max_tokens"]), ("claude-x", 0.25, 55)
        )

    def test_it_is_listed(self) -> None:
        """Under its provider, and by itself; with a prefix in ``auto`` mode."""
        custom = {
            "id": "calm",
            "actualProvider": "openai-custom",
            "actualModel": "m-1",
            "contextLength": 1000,
        }
        listing = body({"object": "list", "data": [{"id": "m-1", "object": "model"}]})
        self.custom([good(listing)], custom)
        models = self.ask("GET", "/v1/models").json()["data"]
        self.assertEqual([model["id"] for model in models], ["m-1", "calm"])
        self.assertEqual(self.ask("GET", "/v1/models/calm").json()["id"], "calm")
        self.custom(
            [],
            custom,
            model_provider="auto",
            claude_api_key=None,
            claude_base_url=None,
            gemini_api_key=None,
            gemini_api_base_url=None,
            openai_api_key=None,
            openai_base_url=None,
        )
        told = self.ask("GET", "/v1/models").json()["data"]
        self.assertIn("sandbox:sandbox", [model["id"] for model in told])

    def test_a_name_of_anothers_is_left_alone(self) -> None:
        """Who names a provider in the path means that provider's own model."""
        self.custom(
            [good(responses_body("hello"))],
            {"id": "m", "actualProvider": "claude-custom", "actualModel": "claude-x"},
            openaiResponses_custom_key=None,
        )
        asked = {"model": "m", "input": "hi"}
        self.ask("POST", "/openaiResponses-custom/v1/responses", body(asked))
        (sent,) = self.upstream.sent
        self.assertEqual(json.loads(sent.request.body or b"")["model"], "m")


class HealthRoutesTests(GatewayTestCase):
    """What monitors and operators are told."""

    def test_ready_follows_the_pool(self) -> None:
        """False as soon as the only account of the default rests, true after a reset."""
        self.build([bad(401)])
        self.assertEqual(self.ask("GET", "/ready", key=None).json(), {"ready": True})
        self.ask("POST", "/v1/chat/completions", body(CHAT))
        reply = self.ask("GET", "/ready", key=None)
        self.assertEqual((reply.status, reply.json()), (503, {"ready": False}))
        detail = self.ask("GET", "/ready").json()
        self.assertEqual(detail["empty"], ["openai-custom"])
        self.assertEqual(self.ask("GET", "/ready?provider=claude-custom").status, 200)
        self.assertEqual(self.ask("GET", "/ready?provider=nobody", key=None).status, 404)
        self.assertEqual(self.ask("GET", "/health", key=None).status, 200)
        reset = self.ask("POST", "/provider_health/reset", b'{"provider": "openai-custom"}')
        self.assertEqual(len(reset.json()["reset"]), 1)
        self.assertEqual(self.ask("GET", "/ready", key=None).status, 200)

    def test_ready_counts_what_is_fallen_back_on(self) -> None:
        """The default route has an account as long as its chain has one."""
        self.build([bad(401), bad(401)], providerFallbackChain=FallbackTests.CHAIN)
        self.ask("POST", "/openai-custom/v1/chat/completions", body(CHAT))
        self.assertEqual(self.ask("GET", "/ready", key=None).status, 503)
        self.build([bad(401)], providerFallbackChain=FallbackTests.CHAIN)
        self.assertEqual(self.ask("GET", "/ready", key=None).status, 200)

    def test_ready_in_auto_mode(self) -> None:
        """The sandbox, which needs no account, says nothing of those who do."""
        nobody = dict.fromkeys(
            (
                "claude_api_key",
                "claude_base_url",
                "gemini_api_key",
                "gemini_api_base_url",
            )
        )
        self.build([bad(401), bad(401)], model_provider="auto", **nobody)
        for provider in ("openai-custom", "openaiResponses-custom"):
            asked = {**CHAT, "model": f"{provider}:m"}
            self.ask("POST", "/v1/chat/completions", body(asked))
        self.assertEqual(self.ask("GET", "/ready", key=None).status, 503)
        self.assertEqual(self.ask("GET", "/ready?provider=sandbox", key=None).status, 200)
        self.build([], model_provider="sandbox")
        self.assertEqual(self.ask("GET", "/ready", key=None).status, 200)

    def test_how_accounts_fare(self) -> None:
        """For those with a key; with state, reason and next try, and without a secret."""
        self.build([bad(401, code="sk-test-openai")])
        self.ask("POST", "/v1/chat/completions", body(CHAT))
        self.assertEqual(self.ask("GET", "/provider_health", key=None).status, 401)
        self.assertEqual(self.ask("POST", "/provider_health/reset", b"{}", key="no").status, 401)
        reply = self.ask("GET", "/provider_health?provider=openai-custom")
        (item,) = reply.json()["items"]
        self.assertEqual((item["state"], item["reason"]), ("rejected", "credential"))
        self.assertEqual(item["failures"], 1)
        self.assertTrue(item["nextTry"])
        self.assertNotIn(b"sk-test-openai", reply.body)
        self.assertEqual(self.ask("GET", "/provider_health?provider=x").status, 400)
        self.assertEqual(self.ask("POST", "/provider_health/reset", b"{").status, 400)
        self.assertEqual(self.ask("DELETE", "/provider_health").status, 405)
