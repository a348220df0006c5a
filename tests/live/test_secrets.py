"""
Keys stay where they belong: a caller's with us, an account's with its upstream.

Every form of key is sent to every kind of route with every kind of fault, by people who
may call and by people who may not, and then everything that was said is searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor
from twisted.logger import LogEvent, eventAsText, globalLogPublisher
from twisted.trial.unittest import TestCase

from aiclient2api.testing import Received, Script, json_reply
from tests.live.gateway import ACCOUNT_KEY, KEY, LiveGateway, raw_exchange

LIMIT = 100_000
CHAT = "/v1/chat/completions"
BODY = b'{"model":"m-1","messages":[]}'
WRONG = "sk-wrong"
_REACTOR: Any = reactor


class SecretsTests(TestCase):
    """Where a key must never turn up."""

    timeout = 30

    async def test_no_key_is_ever_logged_or_told(self) -> None:
        """Whatever goes wrong with whatever form of key: log, replies, upstreams are clean."""
        events: list[LogEvent] = []
        observe: Any = events.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        config = {"log_level": "debug", "limits": {"body_bytes": LIMIT}, "request_max_retries": 0}
        gateway = await LiveGateway(self, config=config).start()
        gateway.answers["openai-custom"] = _indiscreet
        replies: list[bytes] = []
        for key in (KEY, WRONG):
            for target, headers in _forms(key):
                for path in (CHAT, "/v1/models", "/nowhere", "/v1/messages", "/%ff", "//v1//chat"):
                    for body in (BODY, b"?", b'{"model":"fail","messages":[]}', b" " * (LIMIT + 1)):
                        wire = await gateway.connect()
                        method = "GET" if path == "/v1/models" else "POST"
                        sent = b"" if method == "GET" else body
                        asking = wire.request(method, path + target, headers, sent)
                        await asking.addTimeout(10, _REACTOR)
                        replies.append(bytes(wire.received))
                        wire.abort()
        for raw in _raw_forms():
            replies.append(await raw_exchange(gateway.port, raw))
        await gateway.stop()
        logged = "\n".join(eventAsText(event, includeTraceback=True) for event in events)
        self.assertIn("POST /v1/chat/completions 200", logged)
        self.assertTrue(any(b"[secret]" in reply for reply in replies))
        seen = b"".join(replies)
        for key in (KEY, WRONG, ACCOUNT_KEY):
            self.assertNotIn(key, logged)
            self.assertNotIn(key.encode(), seen)
        heard = [each for upstream in gateway.upstreams.values() for each in upstream.requests]
        self.assertTrue(heard)
        for request in heard:
            everything = repr((request.target, request.headers)).encode() + request.body
            self.assertNotIn(KEY.encode(), everything)
            self.assertNotIn(WRONG.encode(), everything)


def _indiscreet(request: Received) -> Script:
    """Quote the account's key in every error."""
    if b"fail" not in request.body:
        return json_reply(200, {"object": "list", "choices": [], "data": []})
    said = request.header(b"authorization") or b""
    error = {"message": f"Bad key: {said.decode()}", "code": "invalid_api_key"}
    return json_reply(401, {"error": error}, headers=((b"x-request-id", said),))


def _forms(key: str) -> Sequence[tuple[str, tuple[tuple[str, str], ...]]]:
    """Return every way to present *key*: what goes behind the path, and headers."""
    return (
        (f"?key={key}", ()),
        (f"?alt=sse&key={key}&beta=true", ()),
        (f"?%6bey={key}", ()),
        ("", (("authorization", f"Bearer {key}"),)),
        ("", (("authorization", f"bEARER   {key}"),)),
        ("", (("x-api-key", key),)),
        ("", (("x-goog-api-key", key),)),
    )


def _raw_forms() -> Sequence[bytes]:
    """Return malformed requests that hold a key."""
    key = KEY.encode()
    return (
        b"GET /health?key=" + key + b" HTTP/9.9\r\n\r\n",
        b"GET /health?key=" + key + b"\r\n\r\n",
        b"GET http://x/health?key=" + key + b" HTTP/1.1\r\nconnection: close\r\n\r\n",
        b"GET /health HTTP/1.1\r\nx-api-key " + key + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nx-api-key: x\r\n " + key + b"\r\n\r\n",
        _post(b"x-api-key: " + key + b"\r\ncontent-length: x"),
        _post(b"connection: close", f"?key={KEY}"),
    )


def _post(line: bytes, query: str = "") -> bytes:
    target = f"{CHAT}{query}".encode()
    return b"POST " + target + b" HTTP/1.1\r\nhost: x\r\n" + line + b"\r\n\r\n"
