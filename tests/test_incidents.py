"""
Incidents of gateways like this one, tried on a whole gateway in memory.

Each test names its incident; the table in ``docs/security.md`` names each test. What the
program is made of is in `test_incidents_source`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import http

from aiclient2api import __version__
from aiclient2api.config.access import PUBLISHED_KEYS
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.errors import Unauthorized
from aiclient2api.state.memory import MemoryStore
from aiclient2api.testing import (
    MemoryResponse,
    chat_body,
    chat_chunks,
    gemini_body,
    messages_body,
    responses_body,
)
from aiclient2api.web.front import OPERATORS
from aiclient2api.web.keys import Keyring
from tests.config_fakes import ConfigTestCase
from tests.installed import ROOT
from tests.web_fixture import CONFIG, KEY, GatewayTestCase, Reply

JSON = ((b"content-type", b"application/json"),)
OPEN = {("GET", "/"), ("GET", "/health"), ("GET", "/ready")}
"""Who has no key may ask these, and is told next to nothing."""

ASKED: Mapping[str, tuple[str, Mapping[str, Any], bytes]] = {
    "openai-chat": ("/v1/chat/completions", {"model": "m", "messages": []}, chat_body("Hi!")),
    "openai-responses": ("/v1/responses", {"model": "m", "input": "Hi."}, responses_body("Hi!")),
    "anthropic-messages": (
        "/v1/messages",
        {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi."}]},
        messages_body("Hi!"),
    ),
    "gemini": (
        "/v1beta/models/m:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "Hi."}]}]},
        gemini_body("Hi!"),
    ),
}
"""Of each dialect: where it is asked, with what, and what an upstream answers."""

UPSTREAMS = {
    "openai-chat": ("openai-custom", "http://127.0.0.1:1/v1/", "sk-test-openai"),
    "openai-responses": ("openaiResponses-custom", "http://127.0.0.1:1/v1/", "sk-test-openai"),
    "anthropic-messages": ("claude-custom", "http://127.0.0.1:2/", "sk-test-claude"),
    "gemini": ("gemini-custom", "http://127.0.0.1:3/", "test-gemini"),
}
"""Of each dialect: its provider, where that is, and the key that goes there."""

BESIDE = [
    "",
    " ",
    "wrong",
    KEY[:-1],
    KEY + "1",
    KEY.upper(),
    f"{KEY},{KEY}x",
    f"Bearer {KEY}",
    "null",
    "undefined",
    "*",
    "sk-test-openai",
    *sorted(PUBLISHED_KEYS)[:3],
]
"""Keys that are none: nearly ours, an upstream's, everybody's."""

CLAIMS: Sequence[Mapping[str, str]] = (
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-For": "::1, 127.0.0.1", "X-Real-IP": "127.0.0.1"},
    {"Forwarded": "for=127.0.0.1;host=localhost"},
    {"X-Forwarded-Host": "localhost", "X-Forwarded-Proto": "https"},
    {"Host": "localhost"},
    {"Host": "health"},
    {"X-Original-URL": "/health", "X-Rewrite-URL": "/health"},
    {"X-HTTP-Method-Override": "GET"},
    {"Origin": "http://localhost:3000", "Referer": "http://localhost:3000/health"},
    {"Cookie": f"session={KEY}; key={KEY}; token={KEY}"},
    {"Authorization": f"Basic {KEY}"},
    {"Authorization": KEY},
    {"X-Internal": "true", "X-Admin": "1", "Remote-User": "admin"},
)
"""What a client can say of itself that is no key."""

ODD_HOSTS = ("127.0.0.1@evil.example", "/health", "x/health?", "x/../health", "", "localhost evil")
"""Hosts that two readers could read in two ways."""


class RouteTests(GatewayTestCase):
    """Every route there is, taken from the map itself: one that is added is tried as well."""

    def routes(self) -> Iterator[tuple[str, str]]:
        """Yield every method and path that is answered."""
        app: Klein = self.front._tree._app  # type: ignore[attr-defined]
        for rule in app.url_map.iter_rules():
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield method, rule.rule

    def targets(self) -> Iterator[tuple[str, str]]:
        """Yield the same as a client asks, without those that are open."""
        for method, rule in self.routes():
            if (method, rule) not in OPEN:
                for rest in ("m", "m:generateContent", "m:streamGenerateContent"):
                    yield method, rule.replace("<path:rest>", rest)
                    if "<" not in rule:
                        break

    def refused(self, method: str, target: str, **how: Any) -> Reply:
        """Ask, and be refused, whatever it is: 401, and nobody else was asked."""
        body = b"{}" if method == "POST" else None
        reply = self.ask(method, target, body, **how)
        self.assertEqual(reply.status, 401, (method, target, how))
        self.assertEqual(self.upstream.sent, [])
        return reply

    def test_the_map_is_known(self) -> None:
        """CVE-2026-35029: no route changes the configuration, and only one changes anything."""
        self.build()
        found = set(self.routes())
        spoken = {(e.method, e.path) for dialect in DIALECTS for e in dialect.endpoints}
        own = {("GET", path) for path in OPERATORS if not path.endswith("/reset")}
        self.assertEqual(found, spoken | own | {("GET", "/"), ("POST", "/provider_health/reset")})
        for path in (
            "/config",
            "/config/update",
            "/admin",
            "/ui",
            "/login",
            "/mcp",
            "/key/generate",
        ):
            for method in ("GET", "POST", "PUT", "PATCH"):
                self.assertIn(self.ask(method, path).status, (404, 405), path)

    def test_every_route_needs_a_key(self) -> None:
        """gh-aw-firewall#1454, CVE-2026-35029, CVE-2026-12795: none, or a wrong one, is a 401."""
        self.build()
        targets = list(self.targets())
        self.assertGreater(len(targets), 12)
        for method, target in targets:
            self.refused(method, target, key=None)
            for key in BESIDE:
                self.refused(method, target, key=key)
                if key and " " not in key:
                    self.refused(method, target, key=None, headers={"x-api-key": key})
                    self.refused(method, f"{target}?key={key}", key=None)
            self.refused(method, target, key=None, headers={"x-goog-api-key": "wrong"})

    def test_nothing_else_counts_as_one(self) -> None:
        """CVE-2026-48710, CLIProxyAPI a6cb16bb: no Host, address, cookie or path opens anything."""
        self.build()
        for method, target in self.targets():
            for headers in CLAIMS:
                self.refused(method, target, key=None, headers=headers)
            for host in ODD_HOSTS:
                body = b"{}" if method == "POST" else None
                reply = self.ask(method, target, body, key=None, headers={"Host": host})
                self.assertIn(reply.status, (400, 401), host)
                self.assertEqual(self.upstream.sent, [])
            for before in ("", "/openai-custom", "/claude-custom", "/auto", "http://localhost"):
                self.refused(method, before + target, key=None)

    def test_no_spelling_of_a_path_goes_round(self) -> None:
        """CVE-2026-48710: a path that is read in two ways is answered in neither."""
        self.build()
        for method, target in self.targets():
            for odd in (
                f"/health/..{target}",
                f"/health%2f..{target}",
                f"/health;{target}",
                f"/{target}",
                f"{target}/.",
                f"{target}%00",
                f"{target}%2e%2e/health",
                f"{target};/health",
                f"//localhost{target}",
                f"{target}?/health",
                f"{target}#/health",
                target.replace("/v1", "/V1"),
            ):
                reply = self.ask(method, odd, b"{}" if method == "POST" else None, key=None)
                self.assertIn(reply.status, (400, 401, 404, 405), odd)
                self.assertEqual(self.upstream.sent, [])

    def test_a_key_opens_them(self) -> None:
        """The same questions with a key are not refused for want of one."""
        self.build([MemoryResponse(200, JSON, [b'{"data":[]}']) for _ in range(99)])
        for method, target in self.targets():
            reply = self.ask(method, target, b"{}" if method == "POST" else None)
            self.assertNotIn(reply.status, (401, 403), (method, target))

    def test_nobody_is_told_anything_without_a_key(self) -> None:
        """GreyNoise and NuClide: a scanner learns no version, provider, model or account."""
        self.build()
        told = (__version__, "custom", "sandbox", "Twisted", "klein", "python", "sk-", "127.0.0.1:")
        asked = [("GET", path) for _, path in OPEN] + list(self.targets())
        asked += [("GET", "/nowhere"), ("PUT", "/v1/models"), ("GET", "/metrics"), ("GET", "/docs")]
        asked += [
            ("GET", "/openapi.json"),
            ("TRACE", "/"),
            ("GET", "/ready?provider=openai-custom"),
        ]
        for method, target in asked:
            self.send(method, target, b"{}" if method == "POST" else None, key=None)
            answer = self.wire.value().decode().replace(target, "")
            for word in told:
                self.assertNotIn(word.lower(), answer.lower(), (method, target))
        ready = self.ask("GET", "/ready", key=None).json()
        self.assertEqual(list(ready), ["ready"])

    def test_a_body_is_not_read_without_a_key(self) -> None:
        """CVE-2024-8984: who has no key is answered at the head."""
        self.build()
        for method, target in self.targets():
            if method == "POST":
                length = {"Content-Length": "50000000"}
                self.refused_at_the_head(target, length)
                self.refused_at_the_head(target, {"Transfer-Encoding": "chunked"})

    def refused_at_the_head(self, target: str, headers: Mapping[str, str]) -> None:
        """Send a head only, and have the answer."""
        self.send("POST", target, None, key=None, headers=headers)
        self.assertEqual(self.reply().status, 401, target)
        self.assertTrue(self.wire.half_closed)


class KeyTests(GatewayTestCase):
    """Whose key it is."""

    def test_keys_that_begin_alike_are_two(self) -> None:
        """CVE-2026-35030: all of a key counts, however long; and all of its digest."""
        for shared in (20, 64, 5000):
            one, two = ("k" * shared + end for end in ("a", "b"))
            ring = Keyring([one, two])
            callers = [ring.who(presented=[key]).id for key in (one, two)]
            self.assertEqual(len(set(callers)), 2)
            self.assertEqual({len(each) for each in callers}, {64})
            for key in ("k" * shared, one + "a", one[:-1] + "c"):
                self.assertRaises(Unauthorized, ring.who, presented=[key])

    def test_neither_finds_what_is_the_others(self) -> None:
        """CVE-2026-35030: what is kept for one of them is not the other's."""
        one, two = ("k" * 64 + end for end in ("a", "b"))
        self.build([MemoryResponse(200, JSON, [chat_body("Hello!")])], required_api_key=[one, two])
        body = b'{"model":"m","input":"Hi."}'
        id = self.ask("POST", "/v1/responses", body, key=one).json()["id"]
        self.assertEqual(self.ask("GET", f"/v1/responses/{id}", key=two).status, 404)
        self.assertEqual(self.ask("GET", f"/v1/responses/{id}", key=one).status, 200)

    def test_who_calls_is_known_without_the_store(self) -> None:
        """CVE-2026-42208: before a key is found right, nothing is looked up anywhere."""
        self.store = UntouchedStore(clock=Clock(), now=lambda: 0.0)
        self.build()
        self.store.touched.clear()
        for key in ("' OR 1=1 --", "x'; DROP TABLE entry; --", "%", "9" * 9000):
            for target in ("/v1/chat/completions", "/v1/responses/resp_1", "/provider_health"):
                self.assertEqual(self.ask("GET", target, key=key).status // 100, 4)
        self.assertEqual(self.store.touched, [])

    def test_there_is_no_session(self) -> None:
        """CVE-2026-12772, CVE-2026-12796: no cookie is given, so none outlives anything."""
        head = (*JSON, (b"set-cookie", b"a=b"))
        bodies = (chat_body("Hi!"), b'{"data":[]}')
        self.build([MemoryResponse(200, head, [each]) for each in bodies])
        path, body, _ = ASKED["openai-chat"]
        for target, sent in ((path, json.dumps(body).encode()), ("/v1/models", None), ("/", None)):
            reply = self.ask("POST" if sent else "GET", target, sent)
            self.assertNotIn("set-cookie", reply.headers)

    def test_a_key_taken_back_opens_nothing_at_once(self) -> None:
        """CVE-2026-12772: on a connection that it opened before as well."""
        self.build([MemoryResponse(200, JSON, [b'{"data":[]}'])])
        request = f"GET /v1/models/x HTTP/1.1\r\nHost: x\r\nx-api-key: {KEY}\r\n\r\n".encode()
        self.connect()
        self.channel.dataReceived(request)
        self.assertNotIn(b" 401 ", self.wire.value())
        wire, channel = self.wire, self.channel
        wire.clear()
        object.__setattr__(self.setup, "keyring", Keyring(["another-key"]))
        channel.dataReceived(request)
        self.assertIn(b" 401 ", wire.value())


class UntouchedStore(MemoryStore):
    """A store that notes who asks it."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.touched: list[str] = []

    def put(self, *, namespace: str, owner: str, key: str, value: bytes, ttl: float | None) -> bool:
        self.touched.append("put")
        return True

    def get(self, *, namespace: str, owner: str, key: str) -> Deferred[bytes | None]:
        self.touched.append("get")
        return succeed(None)


class RequestTests(GatewayTestCase):
    """What a request may say, and what it can bring about."""

    def ask_upstream(
        self, dialect: str, fields: Mapping[str, Any] = {}, query: str = "", **headers: str
    ) -> Any:
        """Ask in a dialect; return the upstream's request."""
        provider, *_ = UPSTREAMS[dialect]
        path, body, answer = ASKED[dialect]
        self.build([MemoryResponse(200, JSON, [answer])], model_provider=provider)
        reply = self.ask(
            "POST", path + query, json.dumps({**body, **fields}).encode(), headers=headers
        )
        self.assertEqual(reply.status, 200, reply.body)
        (sent,) = self.upstream.sent
        return sent.request

    def test_no_request_names_a_host(self) -> None:
        """CVE-2024-6587, Portkey custom host: our key goes where the configuration says."""
        evil = "http://evil.invalid/v1"
        fields: dict[str, Any] = dict.fromkeys(
            (
                *("api_base", "base_url", "baseUrl", "baseURL", "api_host", "host", "url"),
                *("endpoint", "azure_endpoint", "aws_bedrock_runtime_endpoint", "proxy"),
                *("proxies", "custom_llm_provider", "api_key", "extra_headers"),
            ),
            evil,
        )
        fields["litellm_params"] = fields["model_info"] = {"api_base": evil}
        headers = dict.fromkeys(
            (
                *("X-Portkey-Custom-Host", "X-Portkey-Config", "X-Api-Base", "X-Base-Url"),
                *("X-Forwarded-Host", "X-LiteLLM-Api-Base", "X-Upstream", "X-Target-Url"),
                *("Proxy", "Location", "X-Original-Url", "OpenAI-Organization"),
            ),
            evil,
        )
        headers["Host"] = "evil.invalid"
        for dialect, (_, base, key) in UPSTREAMS.items():
            request = self.ask_upstream(
                dialect, fields, "?api_base=http://evil.invalid&base_url=x", **headers
            )
            self.assertTrue(request.url.startswith(base), request.url)
            told = b"\n".join(name + b": " + value for name, value in request.headers)
            self.assertNotIn(b"evil", told)
            self.assertNotIn("evil", request.url)
            self.assertIn(key.encode(), told)
            self.assertNotIn(KEY.encode(), told)

    def test_no_text_is_evaluated(self) -> None:
        """CVE-2026-42203, CVE-2024-2952: what looks like a template goes through as it is."""
        texts = (
            "{{777*777}}",
            "${777*777}",
            "{0.__class__}",
            "%(x)s%n",
            "{model}",
            "<%= 777*777 %>",
            "`id`",
        )
        for dialect, (_, body, _) in ASKED.items():
            sent = self.ask_upstream(dialect, {"metadata": {"a": " ".join(texts)}}).body
            self.assertEqual(
                json.loads(sent), {**body, "metadata": {"a": " ".join(texts)}}, dialect
            )
        self.build([MemoryResponse(404, JSON, [b'{"error":{"message":"{{777*777}} {0.x}"}}'])])
        with capturedLogs() as events:
            sent = json.dumps({"model": " ".join(texts), "messages": []}).encode()
            reply = self.ask("POST", "/v1/chat/completions", sent)
            said = " ".join(formatEvent(event) for event in events)
        self.assertEqual(reply.status, 404)
        self.assertNotIn("603729", reply.json()["error"]["message"] + said)

    def test_forms_are_not_parsed(self) -> None:
        """CVE-2024-8984: a boundary is never looked for; a form is no JSON, and that is all."""

        def parsed(*_: Any, **__: Any) -> Any:
            raise AssertionError("a form was parsed")

        self.patch(http, "_getMultiPartArgs", parsed)
        self.patch(http, "parse_qs", parsed)
        self.build()
        for kind in (
            "multipart/form-data; boundary=a",
            f"multipart/form-data; boundary={'-' * 60000}",
            "multipart/form-data",
            "application/x-www-form-urlencoded",
        ):
            for body in (b"--a" * 100_000, b"--a\r\n" * 50_000 + b"--a--", b"a=b&" * 1000):
                reply = self.ask(
                    "POST", "/v1/chat/completions", body, headers={"Content-Type": kind}
                )
                self.assertIn(reply.status, (400, 431), kind[:40])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_an_empty_key_is_none(self) -> None:
        """CVE-2026-41432: a vendor is not asked without a key, nor anybody with an empty one."""
        path, body, answer = ASKED["openai-chat"]
        for empty in ("", None):
            self.build(openai_api_key=empty, openai_base_url=None)
            self.assertEqual(self.ask("POST", path, json.dumps(body).encode()).status, 503)
            self.build([MemoryResponse(200, JSON, [answer])], openai_api_key=empty)
            self.assertEqual(self.ask("POST", path, json.dumps(body).encode()).status, 200)
            (sent,) = self.upstream.sent
            self.assertNotIn(b"authorization", dict(sent.request.headers))

    def test_the_log_names_who_really_called(self) -> None:
        """CLIProxyAPI a6cb16bb: the address is that of the connection, whatever is claimed."""
        self.build()
        with capturedLogs() as events:
            self.ask("GET", "/", headers={"X-Forwarded-For": "6.6.6.6", "X-Real-IP": "6.6.6.6"})
            lines = [formatEvent(event) for event in events]
        self.assertTrue(any(line.startswith("127.0.0.1 GET / 200") for line in lines), lines)
        self.assertFalse(any("6.6.6.6" in line for line in lines), lines)

    def test_no_key_is_told_in_an_answer(self) -> None:
        """CVE-2024-9606, CVE-2025-0330, CVE-2025-11203: neither by health routes nor by errors."""
        secrets = [KEY, *(str(value) for name, value in CONFIG.items() if name.endswith("api_key"))]
        leaky = json.dumps({"error": {"message": f"bad key {CONFIG['openai_api_key']}"}}).encode()
        self.build([MemoryResponse(401, JSON, [leaky])])
        path, body, _ = ASKED["openai-chat"]
        with capturedLogs() as events:
            answers = [
                self.ask("POST", path, json.dumps(body).encode()),
                *(self.ask("GET", f"{target}?key={KEY}", key=None) for target in OPERATORS[:3]),
                self.ask("GET", f"/nowhere?key={KEY}"),
                self.ask("POST", path, KEY.encode()),
            ]
            said = " ".join(formatEvent(event) for event in events)
        told = b" ".join(reply.body for reply in answers).decode() + said
        self.assertIn("[secret]", told)
        for secret in secrets:
            self.assertNotIn(secret, told)

    def test_no_error_is_a_page(self) -> None:
        """CVE-2022-39348, CVE-2024-41810: an error is JSON, whatever was asked for."""
        self.build([MemoryResponse(200, JSON, [b'{"data":[]}'])])
        script = "<script>alert(1)</script>"
        for method, target, headers in (
            ("GET", f"/{script}", {}),
            ("GET", f"/?{script}", {}),
            ("PUT", "/v1/models", {}),
            ("GET", "/%ff", {}),
            ("GET", f"/v1/models/{script}", {}),
            ("GET", "/", {"Host": script}),
            ("GET", "/health/", {"Host": f"x/{script}"}),
            ("GET", "//evil.example", {}),
            ("TRACE", "/", {"X-Echo": script}),
        ):
            reply = self.ask(method, target, headers=headers)
            if not reply.body:
                # Refused before it was a request at all.
                self.assertEqual(reply.status, 400, (method, target))
                continue
            self.assertTrue(
                reply.headers["content-type"].startswith("application/json"), (method, target)
            )
            self.assertEqual(reply.headers["x-content-type-options"], "nosniff")
            self.assertNotIn("location", reply.headers)
            reply.json()

    def test_pipelined_answers_keep_their_order(self) -> None:
        """CVE-2023-46137, CVE-2024-41671: nobody gets another request's answer."""
        self.build([None, MemoryResponse(200, JSON, [chat_body("second")])])
        asked = b"".join(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nx-api-key: {KEY}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            for body in ('{"model":"first","messages":[]}', '{"model":"second","messages":[]}')
        )
        self.connect()
        self.channel.dataReceived(asked + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(self.wire.value(), b"")
        self.assertEqual(len(self.upstream.sent), 1)
        self.upstream.sent[0].reply(MemoryResponse(200, JSON, [chat_body("first")]))
        self.clock.advance(0)
        answers = self.wire.value()
        places = [answers.index(word) for word in (b"first", b"second", b"healthy")]
        self.assertEqual(places, sorted(places))

    def test_what_is_relayed_is_what_was_sent(self) -> None:
        """arXiv 2604.08407: request and answer pass byte for byte, calls of tools included."""
        spaced = b'{ "model":"m" , "messages":[],"stream":true, "x":1.0,"y":"\\u00e9" }'
        frames = b"".join(chat_chunks(["rm -rf", " /"]))
        kind = ((b"content-type", b"text/event-stream"),)
        self.build([MemoryResponse(200, kind, [frames])])
        reply = self.ask("POST", "/v1/chat/completions", spaced)
        self.assertEqual(self.upstream.sent[0].request.body, spaced)
        self.assertEqual(reply.body, frames)


class SettingTests(ConfigTestCase):
    """What a configuration that says little comes to."""

    def test_it_listens_on_this_machine_only(self) -> None:
        """GreyNoise and NuClide: nobody outside finds what was not put outside."""
        self.assertEqual(self.load({}).listen, ("tcp:3000:interface=127.0.0.1",))

    def test_an_empty_secret_is_none(self) -> None:
        """CVE-2026-41432: what is empty is off, or a fault, and never matches anything."""
        for empty in ([""], ["sk-good", ""], []):
            self.faults({"required_api_key": empty})
        self.assertIsNone(self.load({}, environ={"AICLIENT2API_KEY": ""}).keys)
        self.assertFalse(self.load({"health_alert_webhook_url": ""}).health_alert_webhook_url)
        for presented in ([""], [], ["", ""]):
            self.assertRaises(Unauthorized, Keyring(["a-key"]).who, presented=presented)

    def test_no_page_may_read_by_default(self) -> None:
        """GHSA-8hmm-4crw-vm2c: origins are listed or there are none."""
        self.assertEqual(self.load({}).cors_origins, ())


class GateTests(SynchronousTestCase):
    """What has to pass before a change counts."""

    def test_nothing_is_merged_without_these_tests(self) -> None:
        """NextAPI, July 2023: continuous integration runs all tests, and none can be left out."""
        ci = (ROOT / ".ci/run").read_text()
        self.assertRegex(ci, r'(?m)^exec .*/bin/test" "\$@" </dev/null$')
        script = (ROOT / "bin/test").read_text()
        self.assertIn('"$venv/bin/python" "$root/tests" "$@"', script)
        skipping = re.compile(r"^ *(skip|todo) *=|\.skip\b|SkipTest|skipUnless|skipIf")
        for name in ("test_incidents", "test_stored_ids", "test_keys", "test_origins", "test_api"):
            lines = (ROOT / "tests" / f"{name}.py").read_text().splitlines()
            skipped = [line for line in lines if skipping.search(line) and "compile" not in line]
            self.assertEqual(skipped, [], name)
