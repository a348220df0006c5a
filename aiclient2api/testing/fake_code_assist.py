"""
A fake of Google's Code Assist and of the login service before it, over loopback.

It plays what the Gemini CLI talks to, and refuses what the real services refuse, with their
statuses and bodies; what it answers is scripted. It must never know the gateway's own
provider: that is what it judges. Import it from `aiclient2api.testing`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
from twisted.internet.defer import Deferred

from aiclient2api.testing.code_assist_answers import (
    SIGNATURE,
    CodeAssistAnswer,
    Refusal,
    error_info,
)
from aiclient2api.testing.code_assist_rules import (
    Refused,
    check_count,
    check_generate,
    check_load,
    check_of_project,
    check_onboard,
)
from aiclient2api.testing.scripts import Script, json_reply
from aiclient2api.testing.sockets import Received, ScriptedUpstream

SCOPE = (
    "https://www.googleapis.com/auth/cloud-platform "
    "https://www.googleapis.com/auth/userinfo.email "
    "https://www.googleapis.com/auth/userinfo.profile"
)
_VERSION = "/v1internal"
_LIFETIME = 3599
_MODELS = (
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-3-pro-preview",
    "gemini-3-flash-preview",
    "gemini-3.1-pro-preview",
    "gemini-3.1-flash-lite",
    "gemini-3.1-flash-lite-preview",
    "gemini-3.5-flash",
)
_FREE = {
    "id": "free-tier",
    "name": "Gemini Code Assist for individuals",
    "description": "Free tier",
    "userDefinedCloudaicompanionProject": False,
    "isDefault": True,
    "privacyNotice": {"showNotice": False},
}
_STANDARD = {
    "id": "standard-tier",
    "name": "Gemini Code Assist",
    "description": "Paid tier",
    "userDefinedCloudaicompanionProject": True,
    "isDefault": True,
}
_TIERS = {tier["id"]: tier for tier in (_FREE, _STANDARD)}
_CONTENT = ("generateContent", "streamGenerateContent")
_NO_PAGE = Refusal(404, text=b"<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>")


@attrs.frozen
class Asked:
    """
    One request and what it was answered with.

    :ivar what: The method, such as ``generateContent``; ``token``, ``tokeninfo``,
        ``userinfo``, or ``operation``.
    :ivar body: The decoded body; a form as a dict.
    :ivar bearer: The access token it came with.
    """

    what: str
    body: Any
    status: int
    bearer: str | None = None
    received: Received | None = attrs.field(default=None, repr=False)


@attrs.define
class _Token:
    account: str
    expires: float


@attrs.define(eq=False)
class FakeCodeAssist:
    """
    The services, and one user's account there.

    :ivar project: The project that Google manages for the user.
    :ivar projects: Those that are the user's own.
    :ivar tier: The user's tier: ``free-tier``, ``standard-tier``; None: not onboarded yet.
    :ivar offered: The tier that an onboarding leads to.
    :ivar ineligible: ``ineligibleTiers`` of the answer to ``loadCodeAssist``.
    :ivar names_project: Whether ``loadCodeAssist`` tells the project of an onboarded user.
    :ivar polls: How often an onboarding is asked after before it is done; -1: it never is.
    :ivar finds_project: Whether an onboarding comes with a project.
    :ivar locked: VPC service controls forbid ``loadCodeAssist``.
    :ivar rotates: Whether a renewal comes with a new refresh token; Google's does not.
    :ivar asked: Every request so far, with its outcome.
    """

    project: str = "fake-managed-project"
    projects: set[str] = attrs.field(factory=set)
    tier: str | None = "free-tier"
    offered: str = "free-tier"
    ineligible: list[Mapping[str, Any]] = attrs.field(factory=list)
    names_project: bool = True
    polls: int = 0
    finds_project: bool = True
    locked: bool = False
    rotates: bool = False
    models: tuple[str, ...] = _MODELS
    client_id: str = "1234567890-fakefakefakefakefakefake.apps.googleusercontent.com"
    client_secret: str = "fake-client-secret"
    buckets: list[Mapping[str, Any]] = attrs.field(
        factory=lambda: [
            {
                "remainingAmount": "998",
                "remainingFraction": 0.998,
                "resetTime": "2026-11-23T07:00:00Z",
                "tokenType": "REQUESTS",
                "modelId": "gemini-2.5-pro",
            }
        ]
    )
    asked: list[Asked] = attrs.field(factory=list)
    signatures: set[str] = attrs.field(factory=lambda: {SIGNATURE})
    _answers: deque[CodeAssistAnswer | Refusal] = attrs.field(factory=deque)
    _faults: dict[str, deque[Refusal]] = attrs.field(factory=dict)
    _access: dict[str, _Token] = attrs.field(factory=dict)
    _refresh: dict[str, str] = attrs.field(factory=dict)
    _number: int = 0
    _operation: dict[str, Any] = attrs.field(factory=dict)
    _server: ScriptedUpstream = attrs.field(init=False)
    _seconds: Callable[[], float] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._server = ScriptedUpstream(self._respond)
        self._seconds = lambda: 0.0

    # --- for the test -------------------------------------------------------------

    def listen(self, reactor: Any) -> Deferred[int]:
        """Start to listen on 127.0.0.1; fire with the port."""
        self._seconds = reactor.seconds
        return self._server.listen(reactor)

    def stop(self) -> Deferred[None]:
        """Stop listening and break what is open."""
        return self._server.stop()

    @property
    def url(self) -> str:
        """The base URL of Code Assist, to be used as ``gemini_base_url``."""
        return self._server.url

    @property
    def token_url(self) -> str:
        """The address of the token endpoint, to be used as ``gemini_oauth_token_url``."""
        return f"{self._server.url}/token"

    def login(self, *, lifetime: float = _LIFETIME) -> dict[str, Any]:
        """
        Log the user in and return the credential file the Gemini CLI would write.

        :param lifetime: Seconds until the access token expires.
        """
        self._number += 1
        refresh = f"1//fake-refresh-{self._number}"
        self._refresh[refresh] = "user@example.com"
        return {
            "access_token": self._issue("user@example.com", lifetime),
            "refresh_token": refresh,
            "scope": SCOPE,
            "token_type": "Bearer",
            "id_token": "fake.id.token",
            "expiry_date": int((self._seconds() + lifetime) * 1000),
        }

    def accept(self, token: str, *, lifetime: float = _LIFETIME) -> None:
        """Take *token*, which somebody else made, for one of ours."""
        self._access[token] = _Token("user@example.com", self._seconds() + lifetime)

    def expire(self, token: str) -> None:
        """Let an access token expire now."""
        self._access[token].expires = self._seconds()

    def revoke(self) -> None:
        """Log the user out everywhere: no refresh token is good any more."""
        self._refresh.clear()

    def play(self, *answers: CodeAssistAnswer | Refusal) -> None:
        """Answer the next requests for content so; then with a greeting again."""
        for answer in answers:
            self._answers.append(answer)
            for part in getattr(answer, "parts", ()):
                if "thoughtSignature" in part:
                    self.signatures.add(part["thoughtSignature"])

    def fail(self, what: str, *refusals: Refusal) -> None:
        """Answer the next requests of one method so, whatever they are."""
        self._faults.setdefault(what, deque()).extend(refusals)

    def calls(self, what: str) -> list[Asked]:
        """Return the requests of one method so far."""
        return [each for each in self.asked if each.what == what]

    # --- the services -------------------------------------------------------------

    def _respond(self, request: Received) -> Script:
        path = urlsplit(request.target).path
        what = {"/token": "token", "/tokeninfo": "tokeninfo"}.get(path, "")
        if path == "/oauth2/v2/userinfo":
            what = "userinfo"
        elif path.startswith(f"{_VERSION}/operations/"):
            what = "operation"
        elif path.startswith(f"{_VERSION}:"):
            what = path.removeprefix(f"{_VERSION}:")
        body: Any = None
        try:
            body = _decoded(request)
            if self._faults.get(what):
                raise _Scripted(self._faults[what].popleft())
            script = self._answer(what, request, body)
        except _Scripted as scripted:
            script = scripted.refusal.script(streaming=False)
        except Refused as refused:
            script = json_reply(refused.status, refused.body)
        status: int = script[0].status  # type: ignore[union-attr]
        self.asked.append(Asked(what, body, status, _bearer(request), request))
        return script

    def _answer(self, what: str, request: Received, body: Any) -> Script:
        if what == "token":
            return self._token(request, body)
        if what == "tokeninfo":
            return self._token_info(request, body)
        if what == "userinfo":
            return json_reply(200, self._user_info(self._user(request)))
        method = "GET" if what in ("operation", "getCodeAssistGlobalUserSetting") else "POST"
        if what not in (*_METHODS, *_CONTENT) or request.method != method:
            raise _Scripted(_NO_PAGE)
        self._user(request)
        if what in _CONTENT:
            return self._generate(what, request, body)
        told = _METHODS[what](self, request, body)
        return json_reply(200, told)

    def _user(self, request: Received) -> str:
        bearer = _bearer(request)
        if bearer is None:
            message = (
                "Request is missing required authentication credential. Expected OAuth 2 access "
                "token, login cookie or other valid authentication credential. See "
                "https://developers.google.com/identity/sign-in/web/devconsole-project."
            )
            raise Refused(401, message, error_info("CREDENTIALS_MISSING", "googleapis.com"))
        token = self._access.get(bearer)
        if token is None or token.expires <= self._seconds():
            reason = "ACCESS_TOKEN_TYPE_UNSUPPORTED" if token is None else "ACCESS_TOKEN_EXPIRED"
            message = (
                "Request had invalid authentication credentials. Expected OAuth 2 access token, "
                "login cookie or other valid authentication credential. See "
                "https://developers.google.com/identity/sign-in/web/devconsole-project."
            )
            raise Refused(401, message, error_info(reason, "googleapis.com"))
        return token.account

    def _generate(self, what: str, request: Received, body: Any) -> Script:
        check_generate(body, self._usable, self.models, self.signatures)
        streaming = what == "streamGenerateContent"
        if streaming and parse_qs(urlsplit(request.target).query).get("alt") != ["sse"]:
            raise Refused(400, "This fake streams with alt=sse only, as all known clients ask.")
        answer = self._answers.popleft() if self._answers else CodeAssistAnswer()
        return answer.script(streaming=streaming)

    def _count(self, request: Received, body: Any) -> Any:
        check_count(body, self.models)
        return {"totalTokens": max(1, len(json.dumps(body["request"]["contents"])) // 4)}

    def _load(self, request: Received, body: Any) -> Any:
        check_load(body, self._usable)
        if self.locked:
            detail = error_info("SECURITY_POLICY_VIOLATED", "googleapis.com")
            raise Refused(403, "Request is prohibited by organization's policy.", detail)
        told: dict[str, Any] = {}
        if self.tier is not None:
            told["currentTier"] = _TIERS.get(self.tier, {"id": self.tier})
            own = body.get("cloudaicompanionProject")
            if self.names_project:
                told["cloudaicompanionProject"] = own or self.project
        else:
            told["allowedTiers"] = [_TIERS.get(self.offered, {"id": self.offered})]
        if self.ineligible:
            told["ineligibleTiers"] = list(self.ineligible)
        return told

    def _onboard(self, request: Received, body: Any) -> Any:
        check_onboard(body, self._usable, (self.offered, "legacy-tier"))
        self.tier = body["tierId"]
        own = body.get("cloudaicompanionProject", self.project)
        self._operation = {"id": own, "name": own, "projectNumber": "123456789012"}
        return self._progress()

    def _progress(self) -> Any:
        name = "operations/fake-onboard-1"
        if self.polls:
            self.polls -= self.polls > 0
            return {"name": name, "done": False}
        found = {"cloudaicompanionProject": self._operation} if self.finds_project else {}
        kind = "type.googleapis.com/google.internal.cloud.code.v1internal.OnboardUserResponse"
        return {"name": name, "done": True, "response": {"@type": kind, **found}}

    def _operations(self, request: Received, body: Any) -> Any:
        if not request.target.endswith("/operations/fake-onboard-1") or not self._operation:
            raise Refused(404, "Requested entity was not found.")
        return self._progress()

    def _quota(self, request: Received, body: Any) -> Any:
        check_of_project(body, self._usable, "userAgent")
        return {"buckets": self.buckets}

    def _experiments(self, request: Received, body: Any) -> Any:
        check_of_project(body, self._usable, "metadata")
        return {"experimentIds": [], "flags": []}

    def _metrics(self, request: Received, body: Any) -> Any:
        check_of_project(body, self._usable, "requestId", "metadata", "metrics", "timestamp")
        return {}

    def _controls(self, request: Received, body: Any) -> Any:
        check_of_project(body, self._usable)
        return {"adminControlsApplicable": False}

    def _settings(self, request: Received, body: Any) -> Any:
        return {"cloudaicompanionProject": self.project, "freeTierDataCollectionOptin": False}

    @property
    def _usable(self) -> set[str]:
        return {self.project, *self.projects}

    # --- the login ----------------------------------------------------------------

    def _issue(self, account: str, lifetime: float = _LIFETIME) -> str:
        self._number += 1
        token = f"ya29.fake-access-{self._number}"
        self._access[token] = _Token(account, self._seconds() + lifetime)
        return token

    def _token(self, request: Received, form: Any) -> Script:
        if request.method != "POST":
            raise _Scripted(_NO_PAGE)
        kind = (request.header(b"content-type") or b"").partition(b";")[0].strip()
        if kind != b"application/x-www-form-urlencoded":
            return _oauth_error(400, "invalid_request", "Bad Request")
        if form.get("client_id") != self.client_id:
            return _oauth_error(401, "invalid_client", "The OAuth client was not found.")
        if form.get("client_secret") != self.client_secret:
            return _oauth_error(401, "invalid_client", "Unauthorized")
        if form.get("grant_type") != "refresh_token":
            return _oauth_error(400, "unsupported_grant_type", "Invalid grant_type: ")
        account = self._refresh.get(form.get("refresh_token", ""))
        if account is None:
            return _oauth_error(400, "invalid_grant", "Token has been expired or revoked.")
        told = {
            "access_token": self._issue(account),
            "expires_in": _LIFETIME,
            "scope": SCOPE,
            "token_type": "Bearer",
            "id_token": "fake.id.token",
        }
        if self.rotates:
            del self._refresh[form["refresh_token"]]
            self._number += 1
            told["refresh_token"] = f"1//fake-refresh-{self._number}"
            self._refresh[told["refresh_token"]] = account  # type: ignore[index]
        return json_reply(200, told)

    def _token_info(self, request: Received, form: Any) -> Script:
        query = parse_qs(urlsplit(request.target).query)
        given = query.get("access_token", [""])[0] or (form or {}).get("access_token", "")
        token = self._access.get(given or _bearer(request) or "")
        if token is None or token.expires <= self._seconds():
            return _oauth_error(400, "invalid_token", "Invalid Value")
        left = int(token.expires - self._seconds())
        told = {"azp": self.client_id, "aud": self.client_id, "scope": SCOPE, "exp": str(left)}
        return json_reply(200, {**told, "expires_in": str(left), "email": token.account})

    def _user_info(self, account: str) -> Mapping[str, Any]:
        return {"id": "1", "email": account, "verified_email": True, "name": "A. User"}


_METHODS: Mapping[str, Callable[[FakeCodeAssist, Received, Any], Any]] = {
    "countTokens": FakeCodeAssist._count,
    "loadCodeAssist": FakeCodeAssist._load,
    "onboardUser": FakeCodeAssist._onboard,
    "operation": FakeCodeAssist._operations,
    "retrieveUserQuota": FakeCodeAssist._quota,
    "listExperiments": FakeCodeAssist._experiments,
    "recordCodeAssistMetrics": FakeCodeAssist._metrics,
    "fetchAdminControls": FakeCodeAssist._controls,
    "getCodeAssistGlobalUserSetting": FakeCodeAssist._settings,
    "setCodeAssistGlobalUserSetting": FakeCodeAssist._settings,
}


class _Scripted(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


def _oauth_error(status: int, error: str, description: str) -> Script:
    return json_reply(status, {"error": error, "error_description": description})


def _bearer(request: Received) -> str | None:
    kind, _, token = (request.header(b"authorization") or b"").partition(b" ")
    return token.decode("latin-1") if kind.lower() == b"bearer" and token else None


def _decoded(request: Received) -> Any:
    kind = request.header(b"content-type") or b""
    if kind.startswith(b"application/x-www-form-urlencoded"):
        pairs = parse_qs(request.body.decode("latin-1"), keep_blank_values=True)
        return {name: values[0] for name, values in pairs.items()}
    if not request.body:
        return {} if request.method == "POST" else None
    try:
        return json.loads(request.body)
    except ValueError:
        raise Refused(400, "Invalid JSON payload received. Parsing terminated.") from None
