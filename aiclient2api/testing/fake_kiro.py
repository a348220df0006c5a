"""
Kiro and the two places that give its tokens, on 127.0.0.1, for tests.

One server plays them all, each below a path that names its region: the social login's
refresh, AWS's OIDC with refresh tokens that work once, and the service itself. It refuses
what the real ones were seen to refuse, in their words. It is written from what is known of
them and imports nothing of the provider it is asked by.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
from twisted.internet.defer import Deferred

from aiclient2api.testing.fake_kiro_frames import kiro_metadata, kiro_text
from aiclient2api.testing.fake_kiro_rules import violations
from aiclient2api.testing.scripts import Chunk, EndChunks, Head, Script, json_reply
from aiclient2api.testing.sockets import Received, ScriptedUpstream

KIRO_MODELS = (
    "auto",
    "claude-haiku-4.5",
    "claude-opus-4.5",
    "claude-opus-4.6",
    "claude-opus-4.7",
    "claude-opus-4.8",
    "claude-sonnet-4",
    "claude-sonnet-4.5",
    "claude-sonnet-4.6",
)
KIRO_STREAM_HEAD = Head(
    200,
    (
        (b"content-type", b"application/vnd.amazon.eventstream"),
        (b"transfer-encoding", b"chunked"),
        (b"x-amzn-requestid", b"req-1"),
    ),
)
"""The head of an answer, for scripts that end badly."""

_SOCIAL_REGION = "us-east-1"
_LIFE = 3600
_INVALID_TOKEN = "The bearer token included in the request is invalid."
_UNAUTHORIZED = "User is not authorized to make this call."
_IMPROPER = "Improperly formed request."

Answer = Sequence[bytes] | Script | Callable[[Mapping[str, Any]], "Sequence[bytes] | Script"]
"""Frames of one whole answer, a script, or what makes one of them of the request."""


def kiro_refusal(status: int, message: str, reason: str | None = None) -> Script:
    """Return a script that refuses as the service does."""
    return json_reply(status, {"message": message, "reason": reason})


def kiro_reply(frames: Sequence[bytes]) -> Script:
    """Return a script that streams *frames*, a chunk each, and ends well."""
    return (KIRO_STREAM_HEAD, *map(Chunk, frames), EndChunks())


@attrs.define(eq=False)
class _Login:
    """
    Who is logged in.

    :ivar refresh: Its refresh token; *client* is whose it is, for OIDC.
    """

    kind: str
    region: str
    arn: str | None
    refresh: str = ""
    client: str = ""
    access: set[str] = attrs.field(factory=set)


@attrs.define(eq=False)
class FakeKiro:
    """
    Everything that Kiro is.

    :ivar region: Where the service is; a token sent to another region is refused.
    :ivar oidc_region: Where those who log in without a social account do.
    :ivar longest: Bytes of a request; more are too long.
    :ivar life: Seconds a token is good for.
    :ivar expired_status: How an expired token is refused: the service was seen to do both.
    :ivar answers: What the next questions are answered with; then a friendly sentence is.
    :ivar approved: Whether the person at the browser has approved the device.
    :ivar plan: What ``getUsageLimits`` answers.
    :ivar asked: The bodies of the questions that were answered.
    :ivar broken: For each question refused as improper, the rules it broke.
    :ivar burned: Refresh tokens that were used again.
    :ivar renewed: How many tokens were renewed.
    """

    region: str = "us-east-1"
    oidc_region: str = "us-east-1"
    longest: int = 900 * 1024
    life: int = _LIFE
    expired_status: int = 403
    now: Callable[[], float] = time.time
    answers: list[Answer] = attrs.field(factory=list)
    approved: bool = False
    plan: Mapping[str, Any] = attrs.field(factory=lambda: _PLAN)
    asked: list[Mapping[str, Any]] = attrs.field(factory=list)
    broken: list[list[str]] = attrs.field(factory=list)
    burned: list[str] = attrs.field(factory=list)
    renewed: int = 0
    server: ScriptedUpstream = attrs.field(init=False)
    _logins: list[_Login] = attrs.field(factory=list)
    _clients: dict[str, tuple[str, str, bool]] = attrs.field(factory=dict)
    _used: set[str] = attrs.field(factory=set)
    _expired: set[str] = attrs.field(factory=set)
    _devices: dict[str, tuple[str, str]] = attrs.field(factory=dict)
    _count: Any = attrs.field(factory=itertools.count)

    def __attrs_post_init__(self) -> None:
        self.server = ScriptedUpstream(self._answer)

    def listen(self, reactor: Any) -> Deferred[int]:
        """Start to listen on 127.0.0.1; fire with the port."""
        return self.server.listen(reactor)

    def stop(self) -> Deferred[None]:
        """Stop, and break what is open."""
        return self.server.stop()

    @property
    def settings(self) -> dict[str, str]:
        """The settings that lead a provider here."""
        url = self.server.url
        return {
            "kiro_base_url": url + "/q/{{region}}",
            "kiro_refresh_url": url + "/desktop/{{region}}/refreshToken",
            "kiro_refresh_idc_url": url + "/oidc/{{region}}/token",
        }

    # What a login leaves behind.

    def social(self, *, arn: bool = True) -> dict[str, Any]:
        """Log somebody in with Google; return the credential file."""
        login = _Login("social", _SOCIAL_REGION, self._arn(_SOCIAL_REGION))
        told = self._issued(login) | {"authMethod": "social", "provider": "Google"}
        return told | ({"profileArn": login.arn} if arn else {})

    def builder_id(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Log in with a Builder ID; return the credential file and the registration's."""
        return self._idc("BuilderId", None)

    def enterprise(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Log in with an organisation's Identity Center; its profile has to be found out."""
        return self._idc("Enterprise", self._arn(self.region))

    def expire(self, token: str) -> None:
        """Let an access token expire now."""
        self._expired.add(token)

    def expire_registration(self, client: str) -> None:
        """Let a client's registration expire."""
        region, secret, _ = self._clients[client]
        self._clients[client] = (region, secret, True)

    def revoke(self, refresh: str) -> None:
        """Let a refresh token be used up by somebody else."""
        self._used.add(refresh)

    def arn_of(self, token: str) -> str | None:
        """Return the profile that a token is for."""
        return next((each.arn for each in self._logins if token in each.access), None)

    def _arn(self, region: str) -> str:
        return f"arn:aws:codewhisperer:{region}:123456789012:profile/P{next(self._count)}"

    def _idc(self, provider: str, arn: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
        client, secret = self._registered(self.oidc_region)
        login = _Login("idc", self.region, arn, client=client)
        told = self._issued(login) | {
            "authMethod": "IdC",
            "provider": provider,
            "region": self.oidc_region,
            "clientIdHash": f"{next(self._count):040x}",
        }
        expires = _iso(self.now() + 90 * 86400)
        return told, {"clientId": client, "clientSecret": secret, "expiresAt": expires}

    def _registered(self, region: str) -> tuple[str, str]:
        number = next(self._count)
        client, secret = f"client-{number}", f"client-secret-{number}"
        self._clients[client] = (region, secret, False)
        return client, secret

    def _issued(self, login: _Login) -> dict[str, Any]:
        if login not in self._logins:
            self._logins.append(login)
        number = next(self._count)
        access = f"aoa-access-{number}"
        login.access.add(access)
        login.refresh = f"aor-refresh-{number}"
        return {
            "accessToken": access,
            "refreshToken": login.refresh,
            "expiresAt": _iso(self.now() + self.life),
        }

    # What comes in.

    def _answer(self, request: Received) -> Script:
        parts = urlsplit(request.target)
        steps = parts.path.split("/")
        if len(steps) < 3:
            return json_reply(404, {"message": "no such place"})
        place, region, path = steps[1], steps[2], "/" + "/".join(steps[3:])
        query = dict(parse_qsl(parts.query))
        if request.method == "GET":
            if (place, path) == ("q", "/getUsageLimits"):
                return self._usage(request, region, query)
            return json_reply(404, {"message": "no such place"})
        try:
            body = json.loads(request.body)
        except ValueError:
            return kiro_refusal(400, _IMPROPER)
        if place == "desktop" and path == "/refreshToken":
            return self._social_refresh(region, body)
        if place == "oidc" and path in _OIDC:
            return _OIDC[path](self, region, body)
        if place == "q":
            return self._service(request, region, path, body)
        return json_reply(404, {"message": "no such place"})

    def _social_refresh(self, region: str, body: Mapping[str, Any]) -> Script:
        found = [
            each
            for each in self._logins
            if each.kind == "social" and each.refresh == body.get("refreshToken")
        ]
        if not found or region != _SOCIAL_REGION or found[0].refresh in self._used:
            self._burn(body)
            return json_reply(401, {"message": "Bad credentials"})
        self.renewed += 1
        told = self._issued(found[0])
        del told["expiresAt"]
        return json_reply(200, told | {"expiresIn": self.life, "profileArn": found[0].arn})

    def _burn(self, body: Mapping[str, Any]) -> None:
        token = str(body.get("refreshToken"))
        if token in self._used:
            self.burned.append(token)

    def _register(self, region: str, body: Mapping[str, Any]) -> Script:
        if not body.get("clientName") or body.get("clientType") != "public":
            return _oidc_error(400, "invalid_client_metadata", "clientType has to be public")
        client, secret = self._registered(region)
        expires = int(self.now() + 90 * 86400)
        told = {"clientId": client, "clientSecret": secret, "clientSecretExpiresAt": expires}
        return json_reply(200, told)

    def _unknown_client(self, region: str, body: Mapping[str, Any]) -> Script | None:
        found = self._clients.get(str(body.get("clientId")))
        if found is None or found[1] != body.get("clientSecret") or found[2]:
            return _oidc_error(401, "invalid_client", "Invalid client provided")
        if found[0] != region:
            return _oidc_error(400, "invalid_request", "Invalid token provided")
        return None

    def _device(self, region: str, body: Mapping[str, Any]) -> Script:
        refused = self._unknown_client(region, body)
        if refused is not None:
            return refused
        if not str(body.get("startUrl", "")).startswith("https://"):
            return _oidc_error(400, "invalid_request", "startUrl is missing")
        code = f"device-{next(self._count)}"
        self._devices[code] = (body["clientId"], region)
        url = "https://device.sso.us-east-1.amazonaws.com/"
        return json_reply(
            200,
            {
                "deviceCode": code,
                "userCode": "ABCD-EFGH",
                "verificationUri": url,
                "verificationUriComplete": url + "?user_code=ABCD-EFGH",
                "expiresIn": 600,
                "interval": 1,
            },
        )

    def _token(self, region: str, body: Mapping[str, Any]) -> Script:
        refused = self._unknown_client(region, body)
        if refused is not None:
            return refused
        kind = body.get("grantType")
        if kind == "urn:ietf:params:oauth:grant-type:device_code":
            return self._device_token(body)
        if kind != "refresh_token":
            return _oidc_error(400, "unsupported_grant_type", "no such grant")
        refresh = str(body.get("refreshToken"))
        found = [
            each
            for each in self._logins
            if each.refresh == refresh and each.client == body["clientId"]
        ]
        if not found or refresh in self._used:
            self._burn(body)
            return _oidc_error(400, "invalid_grant", "Invalid refresh token provided")
        self._used.add(refresh)
        self.renewed += 1
        return self._granted(found[0])

    def _device_token(self, body: Mapping[str, Any]) -> Script:
        code = str(body.get("deviceCode"))
        if code not in self._devices:
            return _oidc_error(400, "expired_token", "Device code is expired")
        if not self.approved:
            return _oidc_error(400, "authorization_pending", "Authorization is still pending")
        client, _ = self._devices.pop(code)
        return self._granted(_Login("idc", self.region, None, client=client))

    def _granted(self, login: _Login) -> Script:
        told = self._issued(login)
        del told["expiresAt"]
        return json_reply(200, told | {"expiresIn": self.life, "tokenType": "Bearer"})

    # The service.

    def _login(self, request: Received, region: str) -> _Login | Script:
        scheme, _, token = (request.header(b"authorization") or b"").decode().partition(" ")
        found = [each for each in self._logins if token in each.access]
        if scheme != "Bearer" or not found or found[0].region != region:
            return kiro_refusal(403, _INVALID_TOKEN)
        if token in self._expired:
            if self.expired_status == 401:
                return kiro_refusal(401, "The security token included in the request is expired")
            return kiro_refusal(self.expired_status, _INVALID_TOKEN)
        return found[0]

    def _service(self, request: Received, region: str, path: str, body: Any) -> Script:
        login = self._login(request, region)
        if not isinstance(login, _Login):
            return login
        target = (request.header(b"x-amz-target") or b"").decode().partition(".")[2]
        kind = request.header(b"content-type")
        if path == "/" and kind == b"application/x-amz-json-1.0":
            if target == "ListAvailableProfiles":
                found = [] if login.arn is None else [{"arn": login.arn, "profileName": "P"}]
                return json_reply(200, {"profiles": found})
            if target == "GenerateAssistantResponse":
                return self._generate(request, login, region, body)
        elif path == "/generateAssistantResponse" and kind == b"application/json":
            return self._generate(request, login, region, body)
        return json_reply(400, {"__type": "com.amazon.coral.service#UnknownOperationException"})

    def _of_another(self, login: _Login, region: str, arn: object) -> Script | None:
        if arn is None and login.kind == "social":
            return kiro_refusal(400, "profileArn is required for this request.")
        if arn != login.arn:
            if isinstance(arn, str) and f":{region}:" not in arn:
                return kiro_refusal(400, _IMPROPER)
            return kiro_refusal(403, _UNAUTHORIZED)
        return None

    def _generate(self, request: Received, login: _Login, region: str, body: Any) -> Script:
        told = body.get("profileArn") if isinstance(body, dict) else None
        refused = self._of_another(login, region, told)
        if refused is not None:
            return refused
        if len(request.body) > self.longest:
            return kiro_refusal(400, "Input is too long.", "CONTENT_LENGTH_EXCEEDS_THRESHOLD")
        broken = violations(body)
        if broken:
            self.broken.append(broken)
            return kiro_refusal(400, _IMPROPER)
        message = body["conversationState"]["currentMessage"]["userInputMessage"]
        if message["modelId"] not in KIRO_MODELS:
            said = "Invalid model. Please select a different model to continue."
            return kiro_refusal(400, said, "INVALID_MODEL_ID")
        self.asked.append(body)
        answer: Any = self.answers.pop(0) if self.answers else _FRIENDLY
        if callable(answer):
            answer = answer(body)
        if all(isinstance(each, bytes) for each in answer):
            answer = kiro_reply(answer)
        return answer  # type: ignore[no-any-return]

    def _usage(self, request: Received, region: str, query: Mapping[str, str]) -> Script:
        login = self._login(request, region)
        if not isinstance(login, _Login):
            return login
        if (query.get("origin"), query.get("resourceType")) != ("AI_EDITOR", "AGENTIC_REQUEST"):
            return kiro_refusal(400, _IMPROPER)
        if query.get("profileArn") != login.arn:
            return kiro_refusal(403, _UNAUTHORIZED)
        return json_reply(200, self.plan)


_OIDC: Mapping[str, Callable[[FakeKiro, str, Mapping[str, Any]], Script]] = {
    "/client/register": FakeKiro._register,
    "/device_authorization": FakeKiro._device,
    "/token": FakeKiro._token,
}
_FRIENDLY = (
    kiro_text("Hello from "),
    kiro_text("Kiro."),
    kiro_metadata({"inputTokens": 11, "outputTokens": 4, "totalTokens": 15}),
)
_PLAN: Mapping[str, Any] = {
    "nextDateReset": 1735689600.0,
    "daysUntilReset": 3,
    "usageBreakdownList": [
        {
            "resourceType": "CREDIT",
            "displayName": "Credit",
            "unit": "INVOCATIONS",
            "currentUsage": 10,
            "currentUsageWithPrecision": 10.4,
            "usageLimit": 50,
            "usageLimitWithPrecision": 50.0,
            "nextDateReset": 1735689600.0,
            "overageRate": 0.04,
            "freeTrialInfo": {
                "freeTrialStatus": "ACTIVE",
                "freeTrialExpiry": 1730000000.0,
                "currentUsage": 0,
                "usageLimit": 500,
                "currentUsageWithPrecision": 0.0,
                "usageLimitWithPrecision": 500.0,
            },
            "bonuses": [
                {
                    "bonusCode": "B1",
                    "displayName": "Welcome",
                    "status": "ACTIVE",
                    "expiresAt": 0,
                    "currentUsage": 1,
                    "usageLimit": 25,
                }
            ],
        }
    ],
    "subscriptionInfo": {"subscriptionTitle": "KIRO FREE", "type": "Q_DEVELOPER_STANDALONE_FREE"},
    "userInfo": {"email": "somebody@example.com", "userId": "u-1"},
}


def _oidc_error(status: int, error: str, description: str) -> Script:
    return json_reply(status, {"error": error, "error_description": description})


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
