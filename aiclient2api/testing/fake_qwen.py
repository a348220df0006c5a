"""
Qwen's login service and its model service, as one server over loopback, for tests.

It keeps Qwen's rules down to statuses and bodies: the device flow with PKCE, refresh tokens
that are good for one use, and the oddities of its Chat Completions. It must never know a
provider or a login of ours. Import it from `aiclient2api.testing`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

import attrs
from twisted.internet.defer import Deferred

from aiclient2api.testing.scripts import Script, json_reply, raw_reply, sse_reply
from aiclient2api.testing.sockets import Received, ScriptedUpstream
from aiclient2api.testing.streams import Call, chat_body, chat_chunks
from aiclient2api.values import Headers, Usage

QWEN_CLIENT = "f0304373b74a44d2b584a3fb70ca9e56"
"""The public client id of Qwen Code; there is no secret to it."""

QWEN_MODELS = ("coder-model", "vision-model", "qwen3-coder-plus", "qwen3-coder-flash")
"""What the model service serves."""

_CODES = "/api/v1/oauth2/device/code"
_TOKENS = "/api/v1/oauth2/token"
_DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
_FORM = b"application/x-www-form-urlencoded"
_INSTRUCTING = ("system", "developer")
_PIECE = re.compile(r"\S+\s*|\s+")
_QUICKEST = 1.0
_USAGE = Usage(input=11, output=7, cached=3, reasoning=2)
_NONSENSE = "\u5e93\u5b58 }}> 0x3f\u00a0]]"


@attrs.frozen
class QwenReply:
    """
    What the model says to one request.

    :ivar nothing_offered: Calls made although no tool, or only one that stands for none, was
        offered; their names are kept as they are.
    """

    text: str = "Hello!"
    thinking: str = ""
    calls: tuple[Call, ...] = ()
    finish: str | None = None
    nothing_offered: bool = False


@attrs.define(eq=False)
class _Device:
    user_code: str
    challenge: str
    until: float
    state: str = "pending"
    polled: float | None = None


@attrs.define(eq=False)
class _Family:
    """All tokens that came of one login."""

    refresh: str
    alive: bool = True


class FakeQwen:
    """
    The two services on one port; `url` is set once it listens.

    :param seconds: Tells the time in Unix seconds; it decides what has expired.
    :param lifetime: Seconds an access token is good for.

    :ivar requests: Every request as it arrived.
    :ivar chats: The bodies of those requests for an answer that were taken.
    :ivar refreshed: How often tokens were renewed.
    :ivar burnt: How often a refresh token came that had been used before.
    :ivar discontinued: Every token is refused, as since 15 April 2026.
    :ivar poisoned: A stream for which no tool is offered holds what nobody asked for.
    :ivar resource_url: What tokens are told to be used at; None: at this server.
    :ivar interval: Told to whoever asks for a device code, if not None.
    :ivar refusals: Answers to give instead, one a request for an answer, in order.
    :ivar troubles: Statuses to answer the next requests for new tokens with, in order.
    :ivar replies: What the model says, one a request; afterwards `QwenReply()`.
    """

    def __init__(self, *, seconds: Callable[[], float], lifetime: int = 21600) -> None:
        self.chats: list[dict[str, Any]] = []
        self.refreshed = 0
        self.burnt = 0
        self.discontinued = False
        self.poisoned = False
        self.resource_url: str | None = None
        self.interval: int | None = None
        self.refusals: deque[Script] = deque()
        self.troubles: deque[int] = deque()
        self.replies: deque[QwenReply] = deque()
        self._seconds = seconds
        self._lifetime = lifetime
        self._issued = 0
        self._devices: dict[str, _Device] = {}
        self._families: dict[str, _Family] = {}
        self._access: dict[str, tuple[_Family, float]] = {}
        self._server = ScriptedUpstream(self._answer)

    # --- what a test does ------------------------------------------------------

    def listen(self, reactor: Any) -> Deferred[int]:
        """Start to listen on 127.0.0.1; fire with the port."""
        return self._server.listen(reactor)

    def stop(self) -> Deferred[None]:
        """Stop, and break what is open."""
        return self._server.stop()

    @property
    def url(self) -> str:
        """Return where it listens, without a last slash; the login service is there."""
        return self._server.url

    @property
    def base(self) -> str:
        """Return the base URL of the model service."""
        return f"{self.url}/v1"

    @property
    def requests(self) -> list[Received]:
        """Return every request as it arrived."""
        return self._server.requests

    def log_in(self) -> dict[str, Any]:
        """Return a credential document as Qwen Code writes it after a login."""
        document = self._grant(_Family(""))
        document["expiry_date"] = int(self._seconds() + document.pop("expires_in")) * 1000
        del document["status"], document["scope"]
        return document

    def approve(self, user_code: str) -> None:
        """Let the user allow the login that shows *user_code*."""
        self._shown(user_code).state = "approved"

    def deny(self, user_code: str) -> None:
        """Let the user refuse it."""
        self._shown(user_code).state = "denied"

    def revoke(self, access_token: str) -> None:
        """Let an access token be good no longer; its refresh token still is."""
        self._access.pop(access_token, None)

    def is_good(self, access_token: str) -> bool:
        """Say whether requests with this token are answered."""
        family, until = self._access.get(access_token, (None, 0.0))
        alive = family is not None and family.alive
        return alive and self._seconds() < until and not self.discontinued

    # --- refusals to put into `refusals` ----------------------------------------

    def quota_used_up(self, status: int = 403) -> Script:
        """Return how it is told that the day's requests are used up: with a 403, mostly."""
        message = "Free allocated quota exceeded."
        return self._refuse(status, "insufficient_quota", message, "insufficient_quota")

    def too_fast(self) -> Script:
        """Return how it is told that there were too many requests this minute."""
        message = "Requests rate limit exceeded, please try again later."
        return self._refuse(429, "limit_requests", message, "limit_requests")

    def refused_token(self) -> Script:
        """Return how a token that is no good is refused."""
        message = "invalid access token or token expired"
        return self._refuse(401, "invalid_api_key", message, "invalid_request_error")

    # --- the server ---------------------------------------------------------------

    def _answer(self, request: Received) -> Script:
        path = request.target.partition("?")[0]
        method, serve = {
            _CODES: ("POST", self._device_code),
            _TOKENS: ("POST", self._token),
            "/v1/chat/completions": ("POST", self._chat),
            "/v1/models": ("GET", self._models),
        }.get(path, ("", self._models))
        if not method:
            return self._json(404, {"error": {"message": "Not found.", "code": "not_found"}})
        if request.method != method:
            return self._json(405, {"error": {"message": "Method not allowed."}})
        return serve(request)

    def _device_code(self, request: Received) -> Script:
        form = self._form(request)
        if form is None or form.get("client_id") != QWEN_CLIENT:
            return self._oauth(400, "invalid_client", "The client is not known.")
        challenge = form.get("code_challenge", "")
        if form.get("code_challenge_method") != "S256" or len(challenge) != 43:
            return self._oauth(400, "invalid_request", "A challenge by S256 is needed.")
        if "model.completion" not in form.get("scope", "").split():
            return self._oauth(400, "invalid_scope", "The scope holds no model.completion.")
        number = self._next()
        code, user_code = f"device-{number}", f"QWEN-{number:04d}"
        self._devices[code] = _Device(user_code, challenge, self._seconds() + 900)
        page = "https://chat.qwen.ai/authorize"
        told: dict[str, Any] = {
            "device_code": code,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={user_code}&client=qwen-code",
            "expires_in": 900,
        }
        if self.interval is not None:
            told["interval"] = self.interval
        return self._json(200, told)

    def _token(self, request: Received) -> Script:
        form = self._form(request)
        if form is None or form.get("client_id") != QWEN_CLIENT:
            return self._oauth(400, "invalid_client", "The client is not known.")
        kind = form.get("grant_type")
        if kind == _DEVICE:
            return self._poll(form)
        if kind == "refresh_token":
            return self._refresh(form)
        return self._oauth(400, "unsupported_grant_type", "That grant is not known.")

    def _poll(self, form: Mapping[str, str]) -> Script:
        device = self._devices.get(form.get("device_code", ""))
        now = self._seconds()
        if device is None or now >= device.until or device.state == "used":
            return self._oauth(401, "expired_token", "The device code has expired.")
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != device.challenge:
            return self._oauth(400, "invalid_grant", "The verifier does not fit.")
        last, device.polled = device.polled, now
        if device.state == "denied":
            return self._oauth(400, "access_denied", "The user refused.")
        if device.state == "pending":
            if last is not None and now - last < _QUICKEST:
                return self._oauth(429, "slow_down", "Ask less often.")
            return self._oauth(400, "authorization_pending", "The user has not decided.")
        device.state = "used"
        return self._json(200, self._grant(_Family("")))

    def _refresh(self, form: Mapping[str, str]) -> Script:
        if self.troubles:
            return self._oauth(self.troubles.popleft(), "server_error", "Try again.")
        token = form.get("refresh_token", "")
        family = self._families.get(token)
        if family is None or not family.alive:
            return self._oauth(400, "invalid_grant", "The refresh token is not valid.")
        if family.refresh != token:
            # Somebody has it who should not: nothing that came of this login is good now.
            self.burnt += 1
            family.alive = False
            return self._oauth(400, "invalid_grant", "The refresh token was used before.")
        self.refreshed += 1
        return self._json(200, self._grant(family))

    def _grant(self, family: _Family) -> dict[str, Any]:
        number = self._next()
        access, family.refresh = f"qwen-access-{number}", f"qwen-refresh-{number}"
        self._families[family.refresh] = family
        self._access[access] = (family, self._seconds() + self._lifetime)
        return {
            "status": "success",
            "access_token": access,
            "refresh_token": family.refresh,
            "token_type": "Bearer",
            "resource_url": self.base if self.resource_url is None else self.resource_url,
            "expires_in": self._lifetime,
            "scope": "openid profile email model.completion",
        }

    def _models(self, request: Received) -> Script:
        if not self._knows(request):
            return self.refused_token()
        models = [{"id": id, "object": "model", "owned_by": "qwen"} for id in QWEN_MODELS]
        return self._json(200, {"object": "list", "data": models})

    def _chat(self, request: Received) -> Script:
        if not self._knows(request):
            return self.refused_token()
        if self.refusals:
            return self.refusals.popleft()
        try:
            body = json.loads(request.body)
        except ValueError:
            return self._invalid("The body is not valid JSON.")
        fault = _fault(body)
        if fault:
            return self._invalid(fault)
        if body["model"] not in QWEN_MODELS:
            message = f"The model `{body['model']}` does not exist or you do not have access to it."
            return self._refuse(404, "model_not_found", message, "invalid_request_error")
        self.chats.append(body)
        return self._say(body)

    def _say(self, body: Mapping[str, Any]) -> Script:
        reply = self.replies.popleft() if self.replies else QwenReply()
        offered = {tool["function"]["name"] for tool in body.get("tools") or ()}
        calls = tuple(c for c in reply.calls if c.name in offered or reply.nothing_offered)
        text = reply.text
        if self.poisoned and body.get("stream") and not offered:
            text, calls = text + _NONSENSE, (*calls, Call("call_stray", "stray", "{}"))
        finish = reply.finish or ("tool_calls" if calls else "stop")
        model: str = body["model"]
        if not body.get("stream"):
            thinking = reply.thinking or None
            whole = chat_body(text, finish, _USAGE, model=model, thinking=thinking, tools=calls)
            return raw_reply(200, whole, headers=self._date())
        counted = (body.get("stream_options") or {}).get("include_usage")
        return sse_reply(
            chat_chunks(
                _PIECE.findall(text),
                finish,
                _USAGE if counted else None,
                model=model,
                thinking=_PIECE.findall(reply.thinking),
                tools=calls,
            )
        )

    def _knows(self, request: Received) -> bool:
        kind, _, token = (request.header(b"authorization") or b"").decode("latin-1").partition(" ")
        return kind == "Bearer" and self.is_good(token)

    def _form(self, request: Received) -> dict[str, str] | None:
        kind = (request.header(b"content-type") or b"").partition(b";")[0].strip()
        return dict(parse_qsl(request.body.decode("latin-1"))) if kind == _FORM else None

    def _shown(self, user_code: str) -> _Device:
        return next(each for each in self._devices.values() if each.user_code == user_code)

    def _next(self) -> int:
        self._issued += 1
        return self._issued

    def _date(self) -> Headers:
        return ((b"date", formatdate(self._seconds(), usegmt=True).encode()),)

    def _json(self, status: int, body: object) -> Script:
        return json_reply(status, body, headers=self._date())

    def _oauth(self, status: int, error: str, description: str) -> Script:
        return self._json(status, {"error": error, "error_description": description})

    def _invalid(self, message: str) -> Script:
        return self._refuse(400, "invalid_parameter_error", message, "invalid_request_error")

    def _refuse(self, status: int, code: str, message: str, kind: str) -> Script:
        error = {"code": code, "message": message, "param": None, "type": kind}
        return self._json(status, {"error": error, "request_id": f"req-{self._next()}"})


def _fault(body: Any) -> str:
    """Return what the model service has against a request; ``""`` if it is content."""
    messages = body.get("messages") if isinstance(body, dict) else None
    if not isinstance(messages, list) or not messages or not isinstance(body.get("model"), str):
        return "'model' and 'messages' are required."
    if not all(isinstance(each, dict) for each in messages):
        return "'messages' must hold objects."
    roles = [each.get("role") for each in messages]
    if any(role in _INSTRUCTING for role in roles[1:]):
        return "System message must be at the beginning."
    if roles[0] == "developer":
        return "developer is not one of ['system', 'assistant', 'user', 'tool', 'function']"
    if "tools" in body and not body["tools"]:
        return "[] is too short - 'tools'"
    called: set[str] = set()
    for message in messages:
        if message.get("role") == "tool" and message.get("tool_call_id") not in called:
            return "messages with role 'tool' must follow a message with 'tool_calls'."
        called |= {call.get("id") for call in message.get("tool_calls") or ()}
    if not any(_says(message) for message in messages):
        return "The content of the messages is empty."
    return ""


def _says(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    if isinstance(content, list):
        return any(part.get("text") or part.get("type") != "text" for part in content)
    return bool(content) or bool(message.get("tool_calls"))
