"""
Everything ten real clients were seen to send passes through the gateway untouched.

Each recorded request goes over a socket to a gateway whose default provider speaks the
request's own dialect, and on to an upstream that notes what arrives.
"""

from __future__ import annotations

import hashlib

from twisted.trial.unittest import TestCase

from aiclient2api.testing import Chunk, Received, Send
from tests.live.gateway import ACCOUNT_KEY, KEY, PROVIDERS, LiveGateway, Reply, good_answer
from tests.recordings import Recording, all_recordings, recordings

_AUTH = {
    "openai-chat": (b"authorization", b"Bearer " + ACCOUNT_KEY.encode()),
    "openai-responses": (b"authorization", b"Bearer " + ACCOUNT_KEY.encode()),
    "anthropic-messages": (b"x-api-key", ACCOUNT_KEY.encode()),
    "gemini": (b"x-goog-api-key", ACCOUNT_KEY.encode()),
}
_CREDENTIALS = {b"authorization", b"x-api-key", b"x-goog-api-key", b"cookie"}


def _expected_path(recording: Recording) -> str:
    """Return where a request belongs upstream: Google's own version is v1beta."""
    if recording.dialect == "gemini":
        return recording.path.replace("/v1/", "/v1beta/")
    return recording.path


def _body_sent(request: Received) -> bytes:
    """Return the body with which the upstream answered *request*."""
    return b"".join(step.data for step in good_answer(request) if isinstance(step, Chunk | Send))


class RecordedRequestsTests(TestCase):
    """One test per dialect, one kept-alive connection each."""

    timeout = 30

    async def test_chat_completions(self) -> None:
        """Every client of Chat Completions."""
        await self._relayed("openai-custom", at_least=60)

    async def test_responses(self) -> None:
        """Every client of Responses, Codex among them."""
        await self._relayed("openaiResponses-custom", at_least=40)

    async def test_messages(self) -> None:
        """Every client of Messages, Claude Code among them."""
        await self._relayed("claude-custom", at_least=60)

    async def test_gemini(self) -> None:
        """Every client of Gemini, in both spellings, under both versions."""
        await self._relayed("gemini-custom", at_least=55)

    async def _relayed(self, provider: str, *, at_least: int) -> None:
        gateway = await LiveGateway(self, default=provider).start()
        dialect = PROVIDERS[provider][0]
        chosen = [
            each for each in all_recordings() if each.dialect == dialect and not each.malformed
        ]
        self.assertGreater(len(chosen), at_least)
        wire = await gateway.connect()
        for recording in chosen:
            body = recording.as_bytes()
            headers = recording.with_key(KEY)
            reply = await wire.request(recording.method, recording.target, headers, body)
            self.assertEqual(200, reply.status, (recording.name, reply.body))
            received = gateway.upstreams[provider].requests[-1]
            self._check_request(recording, body, received)
            self._check_reply(recording, reply, received)
        self.assertEqual(len(chosen), len(gateway.upstreams[provider].requests))

    def _check_request(self, recording: Recording, body: bytes, received: Received) -> None:
        name = recording.name
        self.assertEqual(hashlib.sha256(body).hexdigest(), received.sha256, name)
        path = received.target.partition("?")[0]
        self.assertEqual(_expected_path(recording), path, name)
        self.assertEqual(recording.framing == "sse", self._asks_for_sse(recording, received), name)
        auth = _AUTH[str(recording.dialect)]
        credentials = [pair for pair in received.headers if pair[0] in _CREDENTIALS]
        self.assertEqual([auth], credentials, name)
        everything = repr((received.target, received.headers)).encode() + received.body
        self.assertNotIn(KEY.encode(), everything, name)
        self.assertNotIn(b"redacted", everything, name)
        told = dict(recording.headers)
        for header in ("anthropic-version", "anthropic-beta"):
            if header in told:
                self.assertEqual(told[header].encode(), received.header(header.encode()), name)

    def _asks_for_sse(self, recording: Recording, received: Received) -> bool:
        if recording.dialect == "gemini":
            return "alt=sse" in received.target
        return received.header(b"accept") == b"text/event-stream"

    def _check_reply(self, recording: Recording, reply: Reply, received: Received) -> None:
        name = recording.name
        self.assertTrue(reply.complete, name)
        self.assertEqual(hashlib.sha256(_body_sent(received)).hexdigest(), reply.sha256, name)
        kind = b"text/event-stream" if recording.framing == "sse" else b"application/json"
        self.assertEqual(kind, (reply.header(b"content-type") or b"").partition(b";")[0], name)


class RecordedQuestionsTests(TestCase):
    """What clients ask beside generating."""

    timeout = 20

    async def test_claude_code_may_knock_first(self) -> None:
        """``HEAD /`` is answered without a key and without a body."""
        gateway = await LiveGateway(self, default="claude-custom").start()
        knocks = [each for each in recordings("claude-code") if each.method == "HEAD"]
        self.assertTrue(knocks)
        wire = await gateway.connect()
        for knock in knocks:
            reply = await wire.request(knock.method, knock.target, knock.headers)
            self.assertEqual(200, reply.status)
            self.assertEqual(b"", reply.body)
        self.assertEqual([], gateway.upstreams["claude-custom"].requests)

    async def test_each_model_list_comes_in_its_clients_shape(self) -> None:
        """``GET /v1/models`` serves the OpenAI, Anthropic and Gemini SDKs alike."""
        shapes = {
            "openai-python-chat": lambda body: [model["id"] for model in body["data"]],
            "anthropic-python": lambda body: [
                model["id"] for model in body["data"] if model["type"] == "model"
            ],
            "google-genai-python": lambda body: [
                model["name"].removeprefix("models/") for model in body["models"]
            ],
        }
        for default in PROVIDERS:
            gateway = await LiveGateway(self, default=default).start()
            for client, read in shapes.items():
                asked = [each for each in recordings(client) if each.method == "GET"]
                self.assertTrue(asked, client)
                for recording in asked:
                    headers = recording.with_key(KEY)
                    reply = await gateway.request("GET", recording.target, headers)
                    self.assertEqual(200, reply.status, (default, recording.name))
                    self.assertEqual(["m-1"], read(reply.json()), (default, recording.name))

    async def test_a_client_without_our_key_gets_nothing(self) -> None:
        """A recorded request with another key is a 401, and no upstream hears of it."""
        gateway = await LiveGateway(self).start()
        for recording in all_recordings():
            if recording.case != "plain" or recording.dialect is None:
                continue
            headers = recording.with_key("sk-other")
            reply = await gateway.request(
                recording.method, recording.target, headers, recording.as_bytes()
            )
            self.assertEqual(401, reply.status, recording.name)
            self.assertIsNotNone(reply.header(b"www-authenticate"), recording.name)
        heard = [upstream.requests for upstream in gateway.upstreams.values()]
        self.assertEqual([[], [], [], []], heard)
