"""The routes: from a client's request to the upstream's, and back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from aiclient2api.testing import (
    MemoryResponse,
    chat_body,
    chat_chunks,
    gemini_array,
    gemini_body,
    gemini_chunks,
    messages_body,
    messages_events,
    responses_body,
    responses_events,
)
from tests.web_fixture import KEY, GatewayTestCase

JSON = ((b"content-type", b"application/json"),)
SSE = ((b"content-type", b"text/event-stream"),)

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'

ODD = (
    rb' { "zz\u00e9" : 1e400, "deep": ' + b"[" * 199 + b"]" * 199 + rb', "half": "\ud83d",'
    rb' "twice": 1, "twice": [2], "text": "\u003ca\u003e", "tail" : null ,'
)
"""Members that decoding and encoding again would change, or refuse."""


def odd(*members: bytes) -> bytes:
    """Return an odd body with these members."""
    return ODD + b",".join(members) + b"\n}"


class RelayedTests(GatewayTestCase):
    """The same dialect on both sides: the bytes go through."""

    def check(
        self,
        target: str,
        body: bytes,
        answer: bytes,
        url: str,
        *,
        stream: bool,
        headers: dict[str, str] | None = None,
        **config: Any,
    ) -> None:
        """*body* arrives at *url*, *answer* comes back, both unchanged."""
        self.build([MemoryResponse(200, SSE if stream else JSON, [answer])], **config)
        reply = self.ask("POST", target, body, headers=headers)
        sent = self.upstream.sent[0].request
        self.assertEqual(sent.url, url)
        self.assertEqual(hashlib.sha256(sent.body or b"").digest(), hashlib.sha256(body).digest())
        self.assertEqual(reply.status, 200)
        self.assertEqual(hashlib.sha256(reply.body).digest(), hashlib.sha256(answer).digest())
        lines = b"\n".join(name + b": " + value for name, value in sent.headers)
        self.assertNotIn(KEY.encode(), lines + sent.url.encode())

    def test_chat_completions(self) -> None:
        """Whole and streamed, with a body no JSON library would reproduce."""
        body = odd(b'"model":"m"', b'"messages":[{"role":"user","content":"hi"}]')
        url = "http://127.0.0.1:1/v1/chat/completions"
        self.check("/v1/chat/completions", body, chat_body("hello"), url, stream=False)
        body = odd(b'"model":"m"', b'"messages":[]', b'"stream": true')
        answer = b"".join(chat_chunks(["hel", "lo"]))
        self.check("/v1/chat/completions", body, answer, url, stream=True)

    def test_responses(self) -> None:
        """Codex's dialect, through its own provider."""
        url = "http://127.0.0.1:1/v1/responses"
        provider: dict[str, Any] = {"model_provider": "openaiResponses-custom"}
        body = odd(b'"model":"m"', b'"input":"hi"')
        self.check("/v1/responses", body, responses_body("hello"), url, stream=False, **provider)
        body = odd(b'"model":"m"', b'"input":[]', b'"stream": true')
        answer = b"".join(responses_events(["hel", "lo"]))
        self.check("/v1/responses", body, answer, url, stream=True, **provider)

    def test_messages(self) -> None:
        """Claude Code's dialect, with its query and beta header."""
        url = "http://127.0.0.1:2/v1/messages?beta=true"
        body = odd(b'"model":"m"', b'"messages":[]', b'"max_tokens":9')
        target = "/claude-custom/v1/messages?beta=true"
        self.check(target, body, messages_body("hello"), url, stream=False)
        body = odd(b'"model":"m"', b'"messages":[]', b'"stream":true')
        answer = b"".join(messages_events(["hel", "lo"]))
        self.check(target, body, answer, url, stream=True, headers={"anthropic-beta": "b1"})
        sent = dict(self.upstream.sent[0].request.headers)
        self.assertEqual(sent[b"anthropic-beta"], b"b1")
        self.assertEqual(sent[b"x-api-key"], b"sk-test-claude")

    def test_count_tokens(self) -> None:
        """Counting is asked of the upstream that counts."""
        body = odd(b'"model":"m"', b'"messages":[]')
        self.check(
            "/claude-custom/v1/messages/count_tokens",
            body,
            b'{"input_tokens":7}',
            "http://127.0.0.1:2/v1/messages/count_tokens",
            stream=False,
        )
        self.check(
            "/gemini-custom/v1beta/models/g:countTokens",
            odd(b'"contents":[]'),
            b'{"totalTokens":7}',
            "http://127.0.0.1:3/v1beta/models/g:countTokens",
            stream=False,
        )

    def test_gemini(self) -> None:
        """Whole, as events, as an array; under /v1 and /v1beta; snake_case bodies."""
        body = odd(b'"contents":[{"parts":[{"text":"hi"}]}]', b'"system_instruction":{"parts":[]}')
        base = "http://127.0.0.1:3/v1beta/models/"
        model = "org/g:x"
        self.check(
            f"/gemini-custom/v1beta/models/{model}:generateContent",
            body,
            gemini_body("hello"),
            f"{base}org/g%3Ax:generateContent",
            stream=False,
        )
        self.check(
            "/gemini-custom/v1/models/org%2Fg%3Ax:streamGenerateContent?alt=sse&$alt=json",
            body,
            b"".join(gemini_chunks(["hel", "lo"])),
            f"{base}org/g%3Ax:streamGenerateContent?alt=sse",
            stream=True,
        )
        self.check(
            "/gemini-custom/v1beta/models/g:streamGenerateContent",
            body,
            gemini_array(gemini_chunks(["hel", "lo"])),
            f"{base}g:streamGenerateContent",
            stream=False,
        )

    def test_a_model_prefix_is_cut_out_and_nothing_else(self) -> None:
        """The edited body differs in the prefix's bytes only."""
        self.build([MemoryResponse(200, JSON, [chat_body("hello")])])
        body = odd(b'"model" : "openai-custom:m"', b'"messages":[]')
        reply = self.ask("POST", "/v1/chat/completions", body)
        self.assertEqual(self.upstream.sent[0].request.body, body.replace(b"openai-custom:", b""))
        self.assertEqual(reply.headers["x-aiclient2api-model"], "m")
        self.assertEqual(reply.headers["x-aiclient2api-provider"], "openai-custom")

    def test_the_system_prompt_is_put_in_place(self) -> None:
        """Only the system prompt's bytes change."""
        prompt = Path(self.mktemp()).absolute()
        prompt.write_text("Be brief.")
        self.build(
            [MemoryResponse(200, JSON, [chat_body("x")])],
            system_prompt_file_path=str(prompt),
            system_prompt_mode="append",
        )
        body = odd(b'"model":"m"', b'"messages":[{"role":"system","content":"Old."}]')
        self.ask("POST", "/v1/chat/completions", body)
        expected = body.replace(b'"Old."', rb'"Old.\nBe brief."')
        self.assertEqual(self.upstream.sent[0].request.body, expected)
        self.assertEqual(self.saw[0].to_bytes(), body)

    def test_an_upstream_error_comes_back_as_it_is(self) -> None:
        """Status, body and Retry-After are the upstream's own."""
        body = b'{"error":{"message":"slow down","type":"rate_limit_error","x":1}}'
        headers = (*JSON, (b"retry-after", b"120"), (b"set-cookie", b"a=b"))
        self.build([MemoryResponse(429, headers, [body])])
        reply = self.ask("POST", "/v1/chat/completions", CHAT)
        self.assertEqual((reply.status, reply.body), (429, body))
        self.assertEqual(reply.headers["retry-after"], "120")
        self.assertNotIn("set-cookie", reply.headers)

    def test_an_answer_without_a_type_is_never_html(self) -> None:
        """twisted.web would call it that; a browser might run what is in it."""
        for status in (200, 400):
            self.build([MemoryResponse(status, (), [chat_body("<script>")])])
            reply = self.ask("POST", "/v1/chat/completions", CHAT)
            self.assertEqual(reply.headers["content-type"], "application/json")
            self.assertEqual(reply.headers["x-content-type-options"], "nosniff")

    def test_header_lines_of_one_name_are_joined(self) -> None:
        """Two anthropic-beta lines are one list."""
        self.build([MemoryResponse(200, JSON, [messages_body("x")])])
        body = b'{"model":"m","messages":[],"max_tokens":9}'
        headers = {"anthropic-beta": "b1\r\nanthropic-beta: b2"}
        self.ask("POST", "/claude-custom/v1/messages", body, headers=headers)
        sent = dict(self.upstream.sent[0].request.headers)
        self.assertEqual(sent[b"anthropic-beta"], b"b1, b2")

    def test_a_failed_stream_has_a_real_status(self) -> None:
        """An error as first event is no 200, so that clients' own retries work."""
        error = b'event: error\ndata: {"type":"error","error":{"type":"invalid_request_error",'
        error += b'"message":"bad tool"}}\n\n'
        self.build([MemoryResponse(200, SSE, [error])])
        body = b'{"model":"m","messages":[],"stream":true}'
        reply = self.ask("POST", "/claude-custom/v1/messages", body)
        self.assertEqual(reply.status, 400)
        self.assertEqual(reply.json()["error"]["type"], "invalid_request_error")
        self.assertIn("bad tool", reply.json()["error"]["message"])

    def test_a_client_that_leaves_closes_the_upstream(self) -> None:
        """Also before any header came."""
        self.build([None])
        self.send("POST", "/v1/chat/completions", CHAT)
        self.assertEqual(self.front.in_flight, 1)
        self.channel.readConnectionLost()
        self.assertTrue(self.wire.aborted)
        from twisted.internet.error import ConnectionAborted
        from twisted.python.failure import Failure

        self.channel.connectionLost(Failure(ConnectionAborted()))
        self.assertTrue(self.upstream.sent[0].cancelled)
        self.assertEqual(self.front.in_flight, 0)


class ChosenProviderTests(GatewayTestCase):
    """Prefix, path, header, model, default."""

    def url(self, target: str) -> str:
        """Return where a chat request went."""
        self.build([MemoryResponse(200, JSON, [chat_body("x")])])
        self.ask("POST", target, CHAT)
        return self.upstream.sent[0].request.url

    def test_a_doubled_v1_and_a_trailing_slash_are_forgiven(self) -> None:
        """Base URLs are given with and without /v1."""
        for target in (
            "/v1/chat/completions",
            "/v1/chat/completions/",
            "/v1/v1/chat/completions",
            "/openai-custom/v1/chat/completions",
            "/openai-custom/v1/v1/chat/completions",
        ):
            self.assertEqual(self.url(target), "http://127.0.0.1:1/v1/chat/completions", target)

    def test_a_sandbox_model_needs_no_prefix(self) -> None:
        """Only the sandbox serves it, so nothing is sent upstream."""
        self.build([])
        reply_body = b'{"model":"sandbox-fast","messages":[{"role":"user","content":"hi"}]}'
        self.send("POST", "/v1/chat/completions", reply_body)
        self.clock.pump([0.01] * 200)
        self.assertEqual(self.reply().headers["x-aiclient2api-provider"], "sandbox")

    def test_a_header_chooses(self) -> None:
        """``Model-Provider`` works where the path says nothing."""
        self.build([])
        self.send("POST", "/v1/chat/completions", CHAT, headers={"Model-Provider": "sandbox"})
        self.clock.pump([0.01] * 10)
        self.assertEqual(self.reply().headers["x-aiclient2api-provider"], "sandbox")

    def test_a_provider_not_built_yet_answers_503(self) -> None:
        """In the caller's dialect, with its name and the reason."""
        self.build([], model_provider="gemini-cli-oauth")
        reply = self.ask(
            "POST", "/v1beta/models/gemini-2.5-pro:generateContent", b'{"contents":[]}'
        )
        self.assertEqual((reply.status, reply.json()["error"]["status"]), (503, "UNAVAILABLE"))
        self.assertIn("gemini-cli-oauth", reply.json()["error"]["message"])

    def test_a_list_of_defaults_serves_each_dialect(self) -> None:
        """Claude Code and an OpenAI client at one address, each to its own provider."""
        self.build(
            [MemoryResponse(200, JSON, [messages_body("x")])],
            model_provider=["openai-custom", "claude-custom"],
        )
        self.ask("POST", "/v1/messages", b'{"model":"m","messages":[],"max_tokens":1}')
        self.assertEqual(self.upstream.sent[0].request.url, "http://127.0.0.1:2/v1/messages")

    def test_the_default_answers_every_dialect(self) -> None:
        """Where nothing else decides, a client of another dialect is served as well."""
        self.build([MemoryResponse(200, JSON, [chat_body("hello")])])
        body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":1}'
        reply = self.ask("POST", "/v1/messages", body)
        self.assertEqual(
            self.upstream.sent[0].request.url, "http://127.0.0.1:1/v1/chat/completions"
        )
        self.assertEqual(reply.json()["content"], [{"type": "text", "text": "hello"}])


class CallerTests(GatewayTestCase):
    """Who may call, in any of four ways."""

    def test_a_page_may_read_why_it_was_refused(self) -> None:
        """A refusal at the door has the same CORS headers as any other answer."""
        self.build([], cors_origins=["http://app.local"])
        headers = {"Origin": "http://app.local"}
        for method, body in (("POST", CHAT), ("GET", None)):
            target = "/v1/chat/completions" if body else "/v1/models"
            reply = self.ask(method, target, body, key="wrong", headers=headers)
            self.assertEqual(reply.status, 401)
            self.assertEqual(reply.headers["access-control-allow-origin"], "http://app.local")

    def test_all_four_forms_open(self) -> None:
        """Bearer in any case, two headers, one query argument."""
        for target, headers in (
            ("/v1/models/m", {"Authorization": f"Bearer {KEY}"}),
            ("/v1/models/m", {"Authorization": f"bEaReR  {KEY}"}),
            ("/v1/models/m", {"x-api-key": KEY}),
            ("/v1/models/m", {"X-Goog-Api-Key": KEY}),
            (f"/v1/models/m?key={KEY}", {}),
            ("/v1/models/m", {"Authorization": "Bearer wrong", "x-api-key": KEY}),
        ):
            self.build([MemoryResponse(200, JSON, [b'{"object":"list","data":[{"id":"m"}]}'])])
            reply = self.ask("GET", target, key=None, headers=headers)
            self.assertEqual(reply.status, 200, (target, headers))
            self.build([MemoryResponse(200, JSON, [chat_body("x")])])
            target = target.replace("models/m", "chat/completions")
            reply = self.ask("POST", target, CHAT, key=None, headers=headers)
            self.assertEqual(reply.status, 200, (target, headers))

    def test_every_route_that_answers_needs_a_key(self) -> None:
        """In the caller's dialect, with WWW-Authenticate, and with nothing sent."""
        cases = {
            ("POST", "/v1/chat/completions"): lambda e: e["error"]["code"] == "invalid_api_key",
            ("POST", "/v1/responses"): lambda e: e["error"]["code"] == "invalid_api_key",
            ("GET", "/v1/responses/r"): lambda e: e["error"]["code"] == "invalid_api_key",
            ("DELETE", "/v1/responses/r"): lambda e: e["error"]["code"] == "invalid_api_key",
            ("POST", "/v1/messages"): lambda e: e["error"]["type"] == "authentication_error",
            ("POST", "/v1/messages/count_tokens"): lambda e: e["type"] == "error",
            ("POST", "/v1beta/models/g:generateContent"): (
                lambda e: e["error"]["status"] == "UNAUTHENTICATED"
            ),
            ("POST", "/v1/models/g:countTokens"): lambda e: e["error"]["code"] == 401,
            ("GET", "/v1/models"): lambda e: e["error"]["code"] == "invalid_api_key",
            ("GET", "/v1/models/m"): lambda e: e["error"]["code"] == "invalid_api_key",
            ("GET", "/v1beta/models"): lambda e: e["error"]["code"] == 401,
            ("GET", "/v1beta/models/m"): lambda e: e["error"]["code"] == 401,
        }
        for (method, target), holds in cases.items():
            for key in (None, "wrong-key-1"):
                self.build([])
                body = CHAT if method == "POST" else None
                reply = self.ask(method, target, body, key=key)
                self.assertEqual(reply.status, 401, target)
                self.assertTrue(holds(reply.json()), (target, reply.body))
                self.assertTrue(reply.headers["www-authenticate"].startswith("Bearer"))
                self.assertNotIn(b"wrong-key-1", reply.body)
                self.assertEqual(self.upstream.sent, [])

    def test_every_route_of_every_dialect_was_tried(self) -> None:
        """A route that is added must be added to the test above, too."""
        from aiclient2api.dialects.all import DIALECTS

        paths = {(e.method, e.path.partition("<")[0]) for d in DIALECTS for e in d.endpoints}
        self.assertEqual(
            paths,
            {
                ("POST", "/v1/chat/completions"),
                ("POST", "/v1/responses"),
                ("GET", "/v1/responses/"),
                ("DELETE", "/v1/responses/"),
                ("POST", "/v1/messages"),
                ("POST", "/v1/messages/count_tokens"),
                ("POST", "/v1beta/models/"),
                ("POST", "/v1/models/"),
                ("GET", "/v1/models"),
                ("GET", "/v1/models/"),
                ("GET", "/v1beta/models"),
                ("GET", "/v1beta/models/"),
            },
        )

    def test_health_and_the_root_are_open(self) -> None:
        """A monitor and Claude Code's first HEAD need no key."""
        self.build([])
        for method, target in (
            ("GET", "/health"),
            ("HEAD", "/health"),
            ("HEAD", "/"),
            ("GET", "/"),
        ):
            self.assertEqual(self.ask(method, target, key=None).status, 200, (method, target))
        health = self.ask("GET", "/health", key=None).json()
        self.assertEqual((health["status"], health["provider"]), ("healthy", None))
        self.assertEqual(self.ask("GET", "/health").json()["provider"], "openai-custom")
        self.assertRegex(health["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


class ModelListTests(GatewayTestCase):
    """One list in the shape the client reads."""

    LIST = b'{"object":"list","data":[{"id":"m1","object":"model","created":5,"owned_by":"o"}]}'

    def test_three_shapes_on_one_path(self) -> None:
        """The client's headers tell them apart."""
        for headers, first in (
            ({}, lambda body: body["data"][0]["object"] == "model"),
            ({"anthropic-version": "2023-06-01"}, lambda body: body["data"][0]["type"] == "model"),
            ({"x-goog-api-client": "x"}, lambda body: body["models"][0]["name"] == "models/m1"),
            ({"x-goog-api-key": KEY}, lambda body: "models" in body),
        ):
            self.build([MemoryResponse(200, JSON, [self.LIST])])
            reply = self.ask("GET", "/v1/models", headers=headers)
            self.assertEqual(reply.status, 200)
            self.assertTrue(first(reply.json()), (headers, reply.body))

    def test_gemini_lists_under_v1beta(self) -> None:
        """And one model, whose id may hold a slash."""
        listed = b'{"object":"list","data":[{"id":"org/m:1"}]}'
        self.build([MemoryResponse(200, JSON, [listed])])
        self.assertEqual(
            self.ask("GET", "/v1beta/models").json()["models"][0]["name"], "models/org/m:1"
        )
        for target in ("/v1beta/models/org/m:1", "/v1beta/models/org%2Fm%3A1"):
            self.assertEqual(self.ask("GET", target).json()["name"], "models/org/m:1")

    def test_an_unknown_model_is_not_found(self) -> None:
        """In the OpenAI shape with its code."""
        self.build([MemoryResponse(200, JSON, [self.LIST])])
        reply = self.ask("GET", "/v1/models/nope")
        self.assertEqual((reply.status, reply.json()["error"]["code"]), (404, "model_not_found"))

    def test_a_list_is_remembered(self) -> None:
        """The upstream is asked once in five minutes, and its silence is bridged."""
        self.build([MemoryResponse(200, JSON, [self.LIST]), MemoryResponse(500, JSON, [b"{}"])])
        for _ in range(3):
            self.assertEqual(self.ask("GET", "/v1/models").json()["data"][0]["id"], "m1")
        self.assertEqual(len(self.upstream.sent), 1)
        self.clock.advance(301)
        self.assertEqual(self.ask("GET", "/v1/models").json()["data"][0]["id"], "m1")
        self.assertEqual(len(self.upstream.sent), 2)

    def test_one_model_is_found_as_a_request_for_it_would_be(self) -> None:
        """By prefix, and by the one provider that serves it; under the name asked for."""
        self.build([])
        for asked in ("sandbox:sandbox-fast", "sandbox-fast"):
            self.assertEqual(self.ask("GET", f"/v1/models/{asked}").json()["id"], asked)
        self.assertEqual(self.ask("GET", "/sandbox/v1/models/nope").status, 404)

    def test_auto_lists_every_provider_with_its_prefix(self) -> None:
        """So that a listed name can be sent as it is; one that is down hides no other."""
        down = [MemoryResponse(500, JSON, [b"{}"]) for _ in range(3)]
        listed = MemoryResponse(200, JSON, [self.LIST])
        self.build([*down[:2], listed, down[2]], model_provider="auto")
        names = [model["id"] for model in self.ask("GET", "/v1/models").json()["data"]]
        self.assertIn("sandbox:sandbox-fast", names)
        self.assertIn("openai-custom:m1", names)

    def test_supported_models_are_the_list(self) -> None:
        """What the operator wrote is not asked upstream."""
        self.build([])
        self.assertEqual(self.ask("GET", "/sandbox/v1/models").status, 200)
        self.assertEqual(self.upstream.sent, [])
