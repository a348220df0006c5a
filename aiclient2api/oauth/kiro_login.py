"""
Kiro's logins: Google or GitHub, AWS Builder ID, and an organisation's IAM Identity Center.

The credential is written with AIClient-2-API's keys. Nothing of this is documented by its
vendor: it is what other gateways do, and every answer is read leniently.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import ILoginFlow, ILogins, LoginOption
from aiclient2api.oauth.device import GRANT, DeviceCode, DeviceLogin, device_code
from aiclient2api.oauth.loopback import CodeLogin, port_of, proven, with_query
from aiclient2api.oauth.requests import Answer, Asker, incomplete, refused, seconds_left
from aiclient2api.values import Runtime

SOCIAL = "https://prod.{region}.auth.desktop.kiro.dev"
OIDC = "https://oidc.{region}.amazonaws.com"
REGION = "us-east-1"
"""Where social logins and Builder IDs are."""

START = "https://view.awsapps.com/start"
"""The start page of every Builder ID."""

REDIRECT = "kiro://kiro.kiroAgent/authenticate-success"
"""The one address that a social login leads back to; only the Kiro IDE opens it."""

PATH = "/oauth/callback"
SCOPES = ("codewhisperer:completions", "codewhisperer:analysis", "codewhisperer:conversations")
NAME = "aiclient2api"
"""As whom we register: as ourselves."""

_IDPS = {"google": "Google", "github": "Github"}
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d{1,2}")
_NAMES = {
    "secret": "deviceCode",
    "code": "userCode",
    "url": "verificationUri",
    "whole": "verificationUriComplete",
    "seconds": "expiresIn",
    "interval": "interval",
}


@attrs.frozen
class Social:
    """
    Kiro's own login page, asked for one login.

    :ivar idp: ``Google`` or ``Github``.
    :ivar now: Returns Unix seconds.
    """

    asker: Asker
    idp: str
    base: str = SOCIAL.format(region=REGION)
    now: Callable[[], float] = time.time

    @property
    def whose(self) -> str:
        """How a sentence calls it."""
        return self.asker.whose

    def address(self, *, redirect: str, state: str, challenge: str) -> str:
        """Return the page that leads to Google or GitHub."""
        return with_query(
            f"{self.base}/login",
            {"idp": self.idp, "redirect_uri": redirect, **proven(state, challenge)},
        )

    def redeem(self, *, code: str, verifier: str, redirect: str) -> Deferred[Mapping[str, Any]]:
        """Give the code for a credential document."""
        return Deferred.fromCoroutine(self._redeem(code, verifier, redirect))

    async def _redeem(self, code: str, verifier: str, redirect: str) -> Mapping[str, Any]:
        answer = await self.asker.json(
            f"{self.base}/oauth/token",
            {"code": code, "code_verifier": verifier, "redirect_uri": redirect},
        )
        if not answer.ok:
            raise refused(self.whose, answer)
        document = _tokens(answer, self.whose, self.now())
        if answer.text("profileArn"):
            document["profileArn"] = answer.text("profileArn")
        return {
            **document,
            "authMethod": "social",
            "provider": self.idp,
            "socialProvider": self.idp,
            "region": REGION,
        }


@attrs.define
class Oidc:
    """
    AWS's device login, asked for one login.

    :ivar start: The start page: AWS's for a Builder ID, an organisation's own for IdC.
    :ivar base: Where the issuer is; in its region.
    :ivar method: What the document says of how one logged in.
    :ivar now: Returns Unix seconds.
    """

    asker: Asker
    start: str
    region: str
    base: str
    method: str
    now: Callable[[], float] = time.time
    _client: Mapping[str, Any] = attrs.field(factory=dict, repr=False)

    @property
    def whose(self) -> str:
        """How a sentence calls it."""
        return self.asker.whose

    def begin(self) -> Deferred[DeviceCode]:
        """Register, and ask for a code."""
        return Deferred.fromCoroutine(self._begin())

    async def _begin(self) -> DeviceCode:
        answer = await self.asker.json(
            f"{self.base}/client/register",
            {"clientName": NAME, "clientType": "public", "scopes": list(SCOPES)},
        )
        if not answer.ok:
            raise refused(self.whose, answer)
        client = {key: answer.text(key) for key in ("clientId", "clientSecret")}
        if not all(client.values()):
            raise incomplete(self.whose, "registration")
        ends = answer.document.get("clientSecretExpiresAt")
        # Unix seconds; anything that is no year we shall see is not worth keeping.
        known = isinstance(ends, int | float) and 0 < ends < 4e9
        self._client = {**client, "expires": _iso(float(ends or 0)) if known else ""}
        answer = await self.asker.json(
            f"{self.base}/device_authorization", {**client, "startUrl": self.start}
        )
        return device_code(answer, whose=self.whose, names=_NAMES, interval=5.0)

    def ask(self, secret: str) -> Deferred[Answer]:
        """Ask whether the person has logged in."""
        client = {key: self._client[key] for key in ("clientId", "clientSecret")}
        return self.asker.json(
            f"{self.base}/token", {**client, "deviceCode": secret, "grantType": GRANT}
        )

    def credential(self, answer: Answer) -> Mapping[str, Any]:
        """Make the document; the registration belongs to it, for renewals need it."""
        document = {
            **_tokens(answer, self.whose, self.now()),
            "authMethod": self.method,
            "clientId": self._client["clientId"],
            "clientSecret": self._client["clientSecret"],
            "region": self.region,
            "idcRegion": self.region,
            "startUrl": self.start,
        }
        if self._client["expires"]:
            document["registrationExpiresAt"] = self._client["expires"]
        return document


def _tokens(answer: Answer, whose: str, now: float) -> dict[str, Any]:
    document = {key: answer.text(key) for key in ("accessToken", "refreshToken")}
    for key, what in (("accessToken", "access token"), ("refreshToken", "refresh token")):
        if not document[key]:
            raise incomplete(whose, what)
    return {**document, "expiresAt": _iso(now + seconds_left(answer))}


def _iso(seconds: float) -> str:
    told = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return told.replace("+00:00", "Z")


@implementer(ILogins)
@attrs.frozen
class KiroLogins:
    """
    Logs in to Kiro in each of its ways.

    :ivar file_key: The key of an account that names its credential file.
    :ivar social: Kiro's own login; *oidc* AWS's. ``{region}`` in them is filled in.
    """

    file_key: str = "KIRO_OAUTH_CREDS_FILE_PATH"
    social: str = SOCIAL
    oidc: str = OIDC
    now: Callable[[], float] = time.time
    options: Sequence[LoginOption] = (
        LoginOption(
            "social",
            "log in with Google (the default) or GitHub",
            ("google|github",),
            choices=("google", "github"),
            way=True,
        ),
        LoginOption("builder-id", "log in with an AWS Builder ID", way=True),
        LoginOption(
            "idc",
            "log in at an organisation's IAM Identity Center: its start page and region",
            ("URL", "REGION"),
            way=True,
        ),
        LoginOption(
            "port",
            "with --social: take the answer at http://127.0.0.1:N/oauth/callback as well, for a "
            "handler of kiro:// links that you have",
            ("N",),
        ),
    )
    folder: str = "kiro"
    file_name: str = "kiro-auth-token.json"
    usual_files: Sequence[str] = (
        ".aws/sso/cache/kiro-auth-token.json",
        ".kiro/oauth_creds.json",
    )

    def login(
        self, *, options: Mapping[str, str], runtime: Runtime, settings: Mapping[str, Any]
    ) -> ILoginFlow:
        """Make a flow for the way that is asked for."""
        asker = Asker(
            runtime.upstream, runtime.clock, "Kiro's login", settings.get("proxy_url") or None
        )
        if "idc" in options or "builder-id" in options:
            if "port" in options:
                raise InvalidRequest("--port goes with --social only: the other logins have none.")
            base = _base(settings.get("kiro_refresh_idc_url"), "/token") or self.oidc
            return self._by_code(asker, options, runtime, base)
        told = options.get("social", "google")
        if told not in _IDPS:
            raise InvalidRequest("--social takes google or github.")
        base = _base(settings.get("kiro_refresh_url"), "/refreshToken") or self.social
        vendor = Social(asker, _IDPS[told], base=_filled(base, REGION), now=self.now)
        return CodeLogin(
            vendor,
            reactor=runtime.clock,
            path=PATH,
            port=port_of(options, None),
            redirect=REDIRECT,
            hint=(
                "Log in in the browser. In the end it is sent to an address that begins with "
                f"{REDIRECT.partition('/auth')[0]}: do not let Kiro open it, copy it and paste it "
                "here (from the address bar, or from the link of the last page)."
            ),
            now=self.now,
        )

    def _by_code(
        self, asker: Asker, options: Mapping[str, str], runtime: Runtime, base: str
    ) -> ILoginFlow:
        if "idc" not in options:
            start, region, method = START, REGION, "builder-id"
        else:
            start, _, region = options["idc"].partition(" ")
            method = "idc"
            if urlsplit(start).scheme != "https" or not urlsplit(start).hostname:
                raise InvalidRequest(
                    "--idc takes the organisation's start page, such as "
                    "https://example.awsapps.com/start, and a region."
                )
            if not _REGION.fullmatch(region):
                raise InvalidRequest("--idc takes a region behind the address, such as eu-west-1.")
        vendor = Oidc(
            asker,
            start=start,
            region=region,
            base=_filled(base, region),
            method=method,
            now=self.now,
        )
        return DeviceLogin(vendor, clock=runtime.clock, now=self.now)

    def entry(self, *, path: Path, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the account that uses the file."""
        return {self.file_key: str(path)}

    def recognises(self, *, document: Mapping[str, Any]) -> bool:
        """
        Say whether it is Kiro's.

        The AWS command line keeps tokens of the same spelling in the same folder; of how one
        logged in it says nothing.
        """
        if not all(isinstance(document.get(key), str) for key in ("accessToken", "refreshToken")):
            return False
        arn = document.get("profileArn")
        ours = isinstance(arn, str) and arn.startswith("arn:aws:codewhisperer:")
        return ours or isinstance(document.get("authMethod"), str)


def _base(url: Any, ending: str) -> str:
    """Return where a server is whose renewal address is configured, ``""`` if none is."""
    return url.removesuffix(ending).rstrip("/") if isinstance(url, str) else ""


def _filled(base: str, region: str) -> str:
    return base.replace("{{region}}", region).replace("{region}", region)
