"""
Google's login as Gemini CLI has it, for a credential in the shape of its ``oauth_creds.json``.

Which program it is that logs in is a setting or comes from the user's own installation: no
client's id or secret stands here. What Google thinks of it, `IProviderFactory.terms` says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from aiclient2api.interfaces import ILoginFlow, ILogins, LoginOption
from aiclient2api.oauth.loopback import CodeLogin, port_of, proven, with_query
from aiclient2api.oauth.requests import Asker, incomplete, refused, seconds_left
from aiclient2api.values import Runtime

AUTHORIZE = "https://accounts.google.com/o/oauth2/v2/auth"
TOKEN = "https://oauth2.googleapis.com/token"
SCOPES = (
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/userinfo.profile",
)
PATH = "/oauth2callback"
"""Where Google sends the browser back to, on any port of 127.0.0.1."""

FOREIGN = ("/auth/cclog", "/auth/experimentsandconfigs")
"""Scopes by which another product's credential of the same shape is known."""

Client = tuple[str, str]
"""A client's id and its secret."""


@attrs.frozen
class Google:
    """
    Google, asked for one login.

    :ivar client: Which program asks.
    :ivar now: Returns Unix seconds.
    """

    asker: Asker
    client: Client = attrs.field(repr=False)
    authorize: str = AUTHORIZE
    token: str = TOKEN
    now: Callable[[], float] = time.time

    @property
    def whose(self) -> str:
        """How a sentence calls it."""
        return self.asker.whose

    def address(self, *, redirect: str, state: str, challenge: str) -> str:
        """Return the page where a person chooses an account and consents."""
        return with_query(
            self.authorize,
            {
                "client_id": self.client[0],
                "redirect_uri": redirect,
                "response_type": "code",
                "access_type": "offline",
                "scope": " ".join(SCOPES),
                # Without it Google gives a refresh token the first time only.
                "prompt": "consent",
                **proven(state, challenge),
            },
        )

    def redeem(self, *, code: str, verifier: str, redirect: str) -> Deferred[Mapping[str, Any]]:
        """Give the code for a credential document."""
        return Deferred.fromCoroutine(self._redeem(code, verifier, redirect))

    async def _redeem(self, code: str, verifier: str, redirect: str) -> Mapping[str, Any]:
        answer = await self.asker.form(
            self.token,
            {
                "code": code,
                "client_id": self.client[0],
                "client_secret": self.client[1],
                "redirect_uri": redirect,
                "grant_type": "authorization_code",
                "code_verifier": verifier,
            },
        )
        if not answer.ok:
            raise refused(self.whose, answer)
        document: dict[str, Any] = {}
        for key in ("access_token", "refresh_token", "scope", "token_type", "id_token"):
            if answer.text(key):
                document[key] = answer.text(key)
        for key in ("access_token", "refresh_token"):
            if key not in document:
                raise incomplete(self.whose, key.replace("_", " "))
        document.setdefault("token_type", "Bearer")
        document["expiry_date"] = int((self.now() + seconds_left(answer)) * 1000)
        return document


@implementer(ILogins)
@attrs.frozen
class GoogleLogins:
    """
    Logs in to Google for `gemini-cli-oauth` or what is like it.

    :ivar find_client: Given the provider's settings, returns the client's id and secret;
        raises an error that says where to get them if there are none.
    :ivar file_key: The key of an account that names its credential file.
    """

    find_client: Callable[[Mapping[str, Any]], Client]
    file_key: str = "GEMINI_OAUTH_CREDS_FILE_PATH"
    authorize: str = AUTHORIZE
    token: str = TOKEN
    now: Callable[[], float] = time.time
    options: Sequence[LoginOption] = (
        LoginOption("port", "the port of 127.0.0.1 where the browser comes back to", ("N",)),
    )
    folder: str = "gemini"
    file_name: str = "oauth_creds.json"
    usual_files: Sequence[str] = (".gemini/oauth_creds.json",)

    def login(
        self, *, options: Mapping[str, str], runtime: Runtime, settings: Mapping[str, Any]
    ) -> ILoginFlow:
        """Make a flow."""
        vendor = Google(
            Asker(
                runtime.upstream, runtime.clock, "Google's login", settings.get("proxy_url") or None
            ),
            client=self.find_client(settings),
            authorize=self.authorize,
            token=settings.get("gemini_oauth_token_url") or self.token,
            now=self.now,
        )
        return CodeLogin(
            vendor, reactor=runtime.clock, path=PATH, port=port_of(options), now=self.now
        )

    def entry(self, *, path: Path, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the account that uses the file."""
        return {self.file_key: str(path)}

    def recognises(self, *, document: Mapping[str, Any]) -> bool:
        """Say whether it is an installed client's credential for Google Cloud."""
        scope = document.get("scope")
        if not isinstance(scope, str) or any(each in scope for each in FOREIGN):
            return False
        return SCOPES[0] in scope.split() and isinstance(document.get("refresh_token"), str)
