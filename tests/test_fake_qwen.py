"""
Qwen's services as tests know them: what they refuse is what the real ones refuse.

And what the real Qwen Code sends, they take.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from twisted.internet.task import Clock

from aiclient2api.testing import QWEN_CLIENT, Call, FakeQwen, QwenReply
from aiclient2api.values import Headers, UpstreamRequest
from tests.raw_peers import REACTOR, WireCase, read
from tests.recordings import recordings

FORM = ((b"content-type", b"application/x-www-form-urlencoded"),)
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
SCOPE = "openid profile email model.completion"
VERIFIER = "v" * 43
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
BEGIN = {
    "client_id": QWEN_CLIENT,
    "scope": SCOPE,
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}
LOGGED_IN = Path(__file__).parent / "qwen_recordings"
HI = {"model": "coder-model", "messages": [{"role": "user", "content": "hi"}]}


class FakeQwenCase(WireCase):
    """One fake on loopback, and a way to ask it."""

    async def setUp(self) -> None:  # type: ignore[override]
        """Start it."""
        super().setUp()
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.qwen = FakeQwen(seconds=self.clock.seconds)
        await self.qwen.listen(REACTOR)
        self.addCleanup(self.qwen.stop)
        self.way = self.upstream()

    async def ask(
        self, path: str, body: bytes | None, headers: Headers = (), method: str = "POST"
    ) -> tuple[int, Any]:
        """Send a request; return status and JSON, or the bytes of a stream."""
        request = UpstreamRequest(method, self.qwen.url + path, headers, body)
        response = await self.way.send(request)
        told, _ = await read(response)
        kind = dict(response.headers)[b"content-type"]
        return response.status, json.loads(told) if kind == b"application/json" else told

    async def form(self, path: str, **fields: str) -> tuple[int, Any]:
        """Post a form to the login service."""
        return await self.ask(f"/api/v1/oauth2/{path}", urlencode(fields).encode(), FORM)

    async def poll(self, code: str, verifier: str = VERIFIER) -> tuple[int, Any]:
        """Ask whether the user has decided."""
        told = {"grant_type": DEVICE, "client_id": QWEN_CLIENT, "device_code": code}
        return await self.form("token", **told, code_verifier=verifier)

    async def renew(self, token: str, client: str = QWEN_CLIENT) -> tuple[int, Any]:
        """Ask for new tokens."""
        told = {"grant_type": "refresh_token", "client_id": client}
        return await self.form("token", **told, refresh_token=token)

    async def chat(self, token: str, body: Any, headers: Headers = ()) -> tuple[int, Any]:
        """Ask for an answer."""
        own = (
            (b"content-type", b"application/json"),
            (b"authorization", b"Bearer " + token.encode()),
        )
        return await self.ask("/v1/chat/completions", json.dumps(body).encode(), own + headers)


class LoginTests(FakeQwenCase):
    """The device flow."""

    async def begin(self) -> Any:
        """Begin a login."""
        status, told = await self.form("device/code", **BEGIN)
        self.assertEqual(status, 200)
        return told

    async def test_a_login(self) -> None:
        """Pending, until the user allows it; then tokens, once."""
        told = await self.begin()
        self.assertIn(told["user_code"], told["verification_uri_complete"])
        self.assertNotIn("interval", told)
        status, answer = await self.poll(told["device_code"])
        self.assertEqual((status, answer["error"]), (400, "authorization_pending"))
        status, answer = await self.poll(told["device_code"])
        self.assertEqual((status, answer["error"]), (429, "slow_down"))
        self.qwen.approve(told["user_code"])
        self.clock.advance(2)
        status, answer = await self.poll(told["device_code"])
        self.assertEqual(
            (status, answer["token_type"], answer["expires_in"]), (200, "Bearer", 21600)
        )
        self.assertEqual(answer["resource_url"], self.qwen.base)
        self.assertNotIn("expiry_date", answer)
        self.assertEqual((await self.chat(answer["access_token"], HI))[0], 200)
        self.assertEqual((await self.poll(told["device_code"]))[0], 401)

    async def test_a_login_that_fails(self) -> None:
        """Denied, expired and unknown codes."""
        told = await self.begin()
        self.qwen.deny(told["user_code"])
        status, answer = await self.poll(told["device_code"])
        self.assertEqual((status, answer["error"]), (400, "access_denied"))
        told = await self.begin()
        self.clock.advance(900)
        status, answer = await self.poll(told["device_code"])
        self.assertEqual((status, answer["error"]), (401, "expired_token"))
        self.assertEqual((await self.poll("device-of-nobody"))[0], 401)

    async def test_the_proof_is_checked(self) -> None:
        """Another verifier than the one the challenge was made of gets nothing."""
        told = await self.begin()
        self.qwen.approve(told["user_code"])
        status, answer = await self.poll(told["device_code"], "w" * 43)
        self.assertEqual((status, answer["error"]), (400, "invalid_grant"))
        self.assertEqual((await self.poll(told["device_code"]))[0], 200)

    async def test_what_cannot_begin(self) -> None:
        """A wrong client, no challenge by S256, no scope, no form, another method."""
        for change, error in (
            ({"client_id": "x"}, "invalid_client"),
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"code_challenge": "short"}, "invalid_request"),
            ({"scope": "openid"}, "invalid_scope"),
        ):
            status, told = await self.form("device/code", **{**BEGIN, **change})
            self.assertEqual((status, told["error"]), (400, error))
        status, told = await self.ask("/api/v1/oauth2/device/code", json.dumps(BEGIN).encode())
        self.assertEqual((status, told["error"]), (400, "invalid_client"))
        self.assertEqual((await self.ask("/api/v1/oauth2/token", None, method="GET"))[0], 405)
        self.assertEqual((await self.ask("/api/v2", b"{}"))[0], 404)


class RenewalTests(FakeQwenCase):
    """Refresh tokens that are good for one use."""

    async def test_rotation(self) -> None:
        """Each renewal gives another refresh token; the old access token lives on."""
        first = self.qwen.log_in()
        status, second = await self.renew(first["refresh_token"])
        self.assertEqual(status, 200)
        self.assertNotEqual(second["refresh_token"], first["refresh_token"])
        self.assertEqual((await self.chat(second["access_token"], HI))[0], 200)
        self.assertEqual((await self.renew(second["refresh_token"]))[0], 200)
        self.assertEqual((self.qwen.refreshed, self.qwen.burnt), (2, 0))

    async def test_a_reused_one_burns_the_account(self) -> None:
        """Nothing that came of the login is good any more, the newest tokens included."""
        first = self.qwen.log_in()
        _, second = await self.renew(first["refresh_token"])
        status, told = await self.renew(first["refresh_token"])
        self.assertEqual((status, told["error"]), (400, "invalid_grant"))
        self.assertEqual(self.qwen.burnt, 1)
        self.assertEqual((await self.renew(second["refresh_token"]))[0], 400)
        self.assertEqual((await self.chat(second["access_token"], HI))[0], 401)
        other = self.qwen.log_in()
        self.assertEqual((await self.chat(other["access_token"], HI))[0], 200)

    async def test_what_is_refused(self) -> None:
        """An unknown token, client or grant; and trouble as scripted."""
        token = self.qwen.log_in()["refresh_token"]
        self.assertEqual((await self.renew("nonsense"))[0], 400)
        self.assertEqual((await self.renew(token, "x"))[1]["error"], "invalid_client")
        status, told = await self.form("token", client_id=QWEN_CLIENT, grant_type="password")
        self.assertEqual((status, told["error"]), (400, "unsupported_grant_type"))
        self.qwen.troubles.extend((503, 401))
        self.assertEqual((await self.renew(token))[0], 503)
        self.assertEqual((await self.renew(token))[0], 401)
        self.assertEqual((await self.renew(token))[0], 200)


class ModelServiceTests(FakeQwenCase):
    """The model service."""

    async def refused(self, **changes: Any) -> str:
        """Return why a request with *changes* is a 400."""
        status, told = await self.chat(self.qwen.log_in()["access_token"], {**HI, **changes})
        self.assertEqual(status, 400)
        self.assertEqual(told["error"]["code"], "invalid_parameter_error")
        return str(told["error"]["message"])

    async def test_tokens(self) -> None:
        """An unknown, an expired, a revoked and any token after the end of the tier: a 401."""
        document = self.qwen.log_in()
        token = document["access_token"]
        self.assertEqual(document["expiry_date"], (1_800_000_000 + 21600) * 1000)
        wrong = {
            "code": "invalid_api_key",
            "message": "invalid access token or token expired",
            "param": None,
            "type": "invalid_request_error",
        }
        status, told = await self.chat("nonsense", HI)
        self.assertEqual((status, told["error"]), (401, wrong))
        self.assertIn("request_id", told)
        self.assertEqual((await self.chat(token, HI))[0], 200)
        self.qwen.discontinued = True
        self.assertEqual((await self.chat(token, HI))[0], 401)
        self.qwen.discontinued = False
        self.clock.advance(21600)
        self.assertEqual((await self.chat(token, HI))[0], 401)
        fresh = self.qwen.log_in()["access_token"]
        self.qwen.revoke(fresh)
        self.assertEqual((await self.chat(fresh, HI))[0], 401)

    async def test_system_messages(self) -> None:
        """There may be one, in front, and it is not called developer."""
        user, system = {"role": "user", "content": "hi"}, {"role": "system", "content": "s"}
        parts = [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]
        marked = {"role": "system", "content": parts}
        for good in ([user], [system, user], [marked, user]):
            token = self.qwen.log_in()["access_token"]
            self.assertEqual((await self.chat(token, {**HI, "messages": good}))[0], 200)
        for bad in ([user, system], [system, system, user], [system, user, marked]):
            self.assertIn("beginning", await self.refused(messages=bad))
        self.assertIn("developer", await self.refused(messages=[{**system, "role": "developer"}]))

    async def test_other_rules(self) -> None:
        """No messages, an empty list of tools, an answer to no call, a strange model."""
        self.assertIn("required", await self.refused(messages=[]))
        self.assertIn("too short", await self.refused(tools=[]))
        lost = [{"role": "tool", "tool_call_id": "x", "content": "1"}]
        self.assertIn("must follow", await self.refused(messages=lost))
        self.assertIn(
            "empty",
            await self.refused(
                messages=[{"role": "system", "content": "s"}][:0]
                or [{"role": "user", "content": ""}]
            ),
        )
        token = self.qwen.log_in()["access_token"]
        status, told = await self.chat(token, {**HI, "model": "gpt-5"})
        self.assertEqual((status, told["error"]["code"]), (404, "model_not_found"))
        own = ((b"authorization", b"Bearer " + token.encode()),)
        status, told = await self.ask("/v1/chat/completions", b"{", own)
        self.assertEqual(status, 400)

    async def test_limits(self) -> None:
        """A spent day is a 403, or a 429; too fast is a 429."""
        token = self.qwen.log_in()["access_token"]
        for script, status, code in (
            (self.qwen.quota_used_up(), 403, "insufficient_quota"),
            (self.qwen.quota_used_up(429), 429, "insufficient_quota"),
            (self.qwen.too_fast(), 429, "limit_requests"),
        ):
            self.qwen.refusals.append(script)
            got, told = await self.chat(token, HI)
            self.assertEqual((got, told["error"]["code"]), (status, code))
        self.assertEqual((await self.chat(token, HI))[0], 200)

    async def test_models(self) -> None:
        """The list needs a token, too."""
        token = self.qwen.log_in()["access_token"].encode()
        self.assertEqual((await self.ask("/v1/models", None, method="GET"))[0], 401)
        own = ((b"authorization", b"Bearer " + token),)
        status, told = await self.ask("/v1/models", None, own, method="GET")
        self.assertEqual(status, 200)
        self.assertIn("coder-model", [each["id"] for each in told["data"]])

    async def test_answers(self) -> None:
        """Text, thoughts and calls, whole and streamed; usage in a stream only if asked for."""
        reply = QwenReply("Well .", "Hm .", (Call("c1", "look", '{"a":1}'),))
        tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
        token = self.qwen.log_in()["access_token"]
        self.qwen.replies.extend([reply] * 3)
        _, told = await self.chat(token, {**HI, "tools": [tool]})
        message = told["choices"][0]["message"]
        self.assertEqual(message["reasoning_content"], "Hm .")
        self.assertEqual(message["tool_calls"][0]["id"], "c1")
        self.assertEqual(told["choices"][0]["finish_reason"], "tool_calls")
        _, stream = await self.chat(token, {**HI, "tools": [tool], "stream": True})
        self.assertIn(b'"reasoning_content":"Hm "', stream)
        self.assertNotIn(b'"prompt_tokens"', stream)
        counted = {"stream": True, "stream_options": {"include_usage": True}}
        _, stream = await self.chat(token, {**HI, **counted})
        self.assertIn(b'"prompt_tokens"', stream)
        self.assertNotIn(b"tool_calls", stream)

    async def test_poison(self) -> None:
        """Streaming without a tool, a poisoned model says and calls what means nothing."""
        self.qwen.poisoned = True
        token = self.qwen.log_in()["access_token"]
        tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
        _, stream = await self.chat(token, {**HI, "stream": True})
        self.assertIn(b'"stray"', stream)
        for calm in ({"stream": True, "tools": [tool]}, {"stream": False}):
            _, told = await self.chat(token, {**HI, **calm})
            self.assertNotIn("stray", str(told))


class RecordedTests(FakeQwenCase):
    """What the real Qwen Code sends."""

    async def replay(self, headers: Any, body: Any) -> None:
        """Send a recorded request with a good token, and see it answered."""
        token = self.qwen.log_in()["access_token"]
        lines = {name: value.replace("<redacted>", token) for name, value in headers}
        kept = tuple(
            (name.encode(), value.encode())
            for name, value in lines.items()
            if name not in ("host", "content-length", "connection", "accept-encoding")
        )
        status, stream = await self.ask("/v1/chat/completions", json.dumps(body).encode(), kept)
        self.assertEqual(status, 200, stream)
        self.assertIn(b"[DONE]", stream)
        self.assertEqual(self.qwen.chats[-1], body)

    async def test_logged_in(self) -> None:
        """With its login: one marked system message in front, parts everywhere."""
        found = sorted(LOGGED_IN.glob("*.json"))
        self.assertEqual(len(found), 3)
        for path in found:
            stored = json.loads(path.read_bytes())
            await self.replay(stored["headers"].items(), stored["body"])

    async def test_with_a_key(self) -> None:
        """As a plain OpenAI client it sends what is taken as well."""
        found = [each for each in recordings("qwen-code") if each.body is not None]
        self.assertGreater(len(found), 3)
        for each in found:
            await self.replay(each.headers, each.body)
