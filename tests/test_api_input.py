"""The routes: requests that are refused, and what is told beside an answer."""

from __future__ import annotations

import gzip
import json
from typing import Any

from aiclient2api.testing import MemoryResponse, chat_body
from tests.web_fixture import GatewayTestCase

JSON = ((b"content-type", b"application/json"),)

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


class BadInputTests(GatewayTestCase):
    """Each fault has its clear error in the caller's dialect, and nothing is sent."""

    TARGETS = {
        "/v1/chat/completions": ('"model":"m"', '"messages":[]'),
        "/v1/responses": ('"model":"m"', '"input":"x"'),
        "/v1/messages": ('"model":"m"', '"messages":[]'),
        "/v1beta/models/g:generateContent": ('"contents":[]',),
    }

    def refused(self, target: str, body: bytes, status: int = 400) -> str:
        """Return the message of the refusal of *body*."""
        self.build([])
        reply = self.ask("POST", target, body)
        self.assertEqual(reply.status, status, (target, body[:60], reply.body))
        self.assertEqual(self.upstream.sent, [])
        message: str = reply.json()["error"]["message"]
        return message

    def test_bodies_that_are_no_request(self) -> None:
        """Nothing, no JSON, no object, no UTF-8, too deep."""
        deep = b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        for target in self.TARGETS:
            for body, word in (
                (b"", "no body"),
                (b'{"model": "m",', "JSON"),
                (b"[1, 2]", "object"),
                (b'{"model": "\xff"}', "UTF-8"),
                (deep, "deep"),
            ):
                self.assertIn(word, self.refused(target, body), target)

    def test_wrong_types_name_their_field(self) -> None:
        """The message says which field and what it should be."""
        self.assertIn("model", self.refused("/v1/chat/completions", b'{"messages":[]}'))
        self.assertIn("model", self.refused("/v1/messages", b'{"model":5,"messages":[]}'))
        self.assertIn("messages", self.refused("/v1/messages", b'{"model":"m","messages":{}}'))
        self.assertIn("input", self.refused("/v1/responses", b'{"model":"m","input":5}'))
        body = b'{"model":"m","messages":[],"stream":"yes"}'
        self.assertIn("stream", self.refused("/v1/chat/completions", body))
        self.assertIn(
            "contents", self.refused("/v1beta/models/g:generateContent", b'{"contents":5}')
        )
        body = b'{"contents":[{},5]}'
        self.assertIn("contents[1]", self.refused("/v1beta/models/g:generateContent", body))
        self.assertIn("messages[0]", self.refused("/v1/messages", b'{"model":"m","messages":[5]}'))

    def test_a_key_given_twice_is_refused(self) -> None:
        """Policy and upstream might read different ones."""
        body = b'{"model":"m","messages":[],"model":"other"}'
        self.assertIn("model", self.refused("/v1/chat/completions", body))

    def test_unknown_verbs_providers_and_paths(self) -> None:
        """A 404 names the nearest route, a 400 the providers there are."""
        self.assertIn(
            "generateContent", self.refused("/v1beta/models/g:generate", b'{"contents":[]}', 404)
        )
        self.assertIn("/v1/chat/completions", self.refused("/v1/chat/completion", CHAT, 404))
        self.assertIn("/v1/messages", self.refused("/nobody/v1/messages", CHAT, 404))
        self.assertIn("/health", self.ask("GET", "/healthz").json()["error"]["message"])
        self.refused("/grok-web/v1/chat/completions", CHAT, 503)
        self.build([])
        reply = self.ask("POST", "/v1/chat/completions", CHAT, headers={"Model-Provider": "opnai"})
        self.assertEqual(reply.status, 400)
        self.assertIn("openai-custom", reply.json()["error"]["message"])

    def test_an_oversize_body_is_refused_in_the_callers_dialect(self) -> None:
        """The limit is the operator's."""
        for target, kind in (("/v1/messages", "request_too_large"), ("/v1/responses", None)):
            self.build([], limits={"body_bytes": 1000})
            reply = self.ask("POST", target, b" " * 1001)
            self.assertEqual(reply.status, 413)
            if kind:
                self.assertEqual(reply.json()["error"]["type"], kind)

    def test_a_compressed_body_is_refused_unread(self) -> None:
        """Whatever opens it could fill the memory: a 415 says what to do, in each dialect."""
        bomb = gzip.compress(b" " * 1_000_000)
        for target in self.TARGETS:
            for coding in ("gzip", "deflate", "br", "zstd", "identity, gzip", "x"):
                self.build([])
                headers = {"Content-Encoding": coding}
                reply = self.ask("POST", target, bomb, headers=headers)
                self.assertEqual(reply.status, 415, (target, coding))
                self.assertIn("uncompressed", reply.json()["error"]["message"])
                self.assertEqual(reply.headers["accept-encoding"], "identity")
                self.assertEqual(self.upstream.sent, [])
            self.assertIn("JSON", self.refused(target, bomb))
        reply = self.ask("POST", "/v1/messages", bomb, key=None, headers={"Content-Encoding": "x"})
        self.assertEqual(reply.status, 401)

    def test_a_body_that_says_that_it_is_not_compressed(self) -> None:
        """Is answered like any other."""
        for coding in ("identity", "Identity", ""):
            self.build([MemoryResponse(200, JSON, [chat_body("x")])])
            headers = {"Content-Encoding": coding}
            reply = self.ask("POST", "/v1/chat/completions", CHAT, headers=headers)
            self.assertEqual(reply.status, 200)

    def test_a_wrong_method_names_the_right_one(self) -> None:
        """As JSON, with Allow, in the dialect of the path."""
        self.build([])
        reply = self.ask("GET", "/v1/messages")
        self.assertEqual((reply.status, reply.headers["allow"]), (405, "POST"))
        self.assertEqual(reply.json()["type"], "error")

    def test_a_path_that_is_no_utf8(self) -> None:
        """JSON, not HTML."""
        self.build([])
        reply = self.ask("POST", "/v1beta/models/%ff:generateContent", b"{}")
        self.assertEqual(reply.status, 400)
        self.assertEqual(reply.json()["error"]["status"], "INVALID_ARGUMENT")

    def test_a_model_whose_name_is_a_path(self) -> None:
        """It leads to no other place of the upstream, to which the operator's key opens."""
        for name in ("..", "a/../b", "%2e%2e/b", "./b", "../../v1/files"):
            target = f"/gemini-custom/v1beta/models/{name}:generateContent"
            body = b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}'
            self.build([MemoryResponse(200, JSON, [b"{}"])])
            reply = self.ask("POST", target, body)
            self.assertIn(reply.status, (400, 404), name)
            self.assertEqual(self.upstream.sent, [])

    def test_the_process_is_unharmed(self) -> None:
        """After all that a good request is answered, and nothing was logged as a bug."""
        self.test_bodies_that_are_no_request()
        self.build([MemoryResponse(200, JSON, [chat_body("x")])])
        self.assertEqual(self.ask("POST", "/v1/chat/completions", CHAT).status, 200)
        self.assertEqual(self.flushLoggedErrors(), [])


class CORSTests(GatewayTestCase):
    """Browsers may call only from listed origins."""

    def preflight(self, **config: Any) -> dict[str, str]:
        """Return the headers of a preflight's answer."""
        self.build([], **config)
        reply = self.ask(
            "OPTIONS",
            "/v1/messages",
            key=None,
            headers={
                "Origin": "http://app.local",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "x-api-key,x-stainless-lang,x-evil",
            },
        )
        self.assertEqual((reply.status, reply.body), (204, b""))
        return dict(reply.headers)

    def test_it_is_off_by_default(self) -> None:
        """No web page can spend the user's tokens."""
        self.assertFalse([name for name in self.preflight() if name.startswith("access-control")])
        other = self.preflight(cors_origins=["http://other.local"])
        self.assertNotIn("access-control-allow-origin", other)

    def test_a_listed_origin_may_call(self) -> None:
        """With the SDKs' own headers, and no others."""
        headers = self.preflight(cors_origins=["http://app.local"])
        self.assertEqual(headers["access-control-allow-origin"], "http://app.local")
        allowed = headers["access-control-allow-headers"]
        for name in ("x-api-key", "authorization", "x-stainless-lang", "anthropic-version"):
            self.assertIn(name, allowed)
        self.assertNotIn("x-evil", allowed)


class LossyTests(GatewayTestCase):
    """What of a request the provider could not be told."""

    def lossy(self, *names: str) -> str:
        """Return the header of an answer to a request with fields of these *names*."""
        self.build([MemoryResponse(200, JSON, [chat_body("x")])])
        body = {"model": "m", "input": "hi", **dict.fromkeys(names, 1)}
        return self.ask("POST", "/v1/responses", json.dumps(body).encode()).headers[
            "x-aiclient2api-lossy"
        ]

    def test_all_codes_that_fit(self) -> None:
        """To the last byte."""
        names = [f"{number:02}{'x' * 36}" for number in range(22)]
        wanted = ", ".join(f"field:{name}" for name in names)
        self.assertEqual(self.lossy(*names), wanted)
        last = "z" * (1024 - len(wanted) - len(", field:"))
        self.assertEqual(self.lossy(*names, last), f"{wanted}, field:{last}")

    def test_more_codes_than_fit(self) -> None:
        """No code is cut in two, and the last word says that there are more."""
        names = [f"field_number_{number}" for number in range(300)]
        told = self.lossy(*names)
        self.assertLessEqual(len(told), 1024)
        *codes, more = told.split(", ")
        self.assertEqual(more, "more")
        self.assertEqual(codes, [f"field:{name}" for name in names[: len(codes)]])
        self.assertGreater(len(codes), 30)
