"""
Qwen's login as Qwen Code has it, for a credential in the shape of its ``oauth_creds.json``.

Its client is a public one, without a secret. That its free tier has ended is told by
`IProviderFactory.terms`, and not by this.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from aiclient2api.interfaces import ILoginFlow, ILogins, LoginOption
from aiclient2api.oauth.device import GRANT, DeviceCode, DeviceLogin, Pace, device_code
from aiclient2api.oauth.pkce import METHOD, Proof, new_proof
from aiclient2api.oauth.requests import Answer, Asker, incomplete, seconds_left
from aiclient2api.values import Headers, Runtime

BASE = "https://chat.qwen.ai"
CLIENT = "f0304373b74a44d2b584a3fb70ca9e56"
"""The public client of Qwen Code: its login takes no other."""

SCOPE = "openid profile email model.completion"
PACE = Pace(plus=0.0, times=1.5, longest=10.0, recovers=True)
"""How the real client slows down, and recovers."""

_NAMES = {
    "secret": "device_code",
    "code": "user_code",
    "url": "verification_uri",
    "whole": "verification_uri_complete",
    "seconds": "expires_in",
    "interval": "interval",
}
_INTERVAL = 2.0


@attrs.frozen
class Qwen:
    """
    Qwen, asked for one login.

    :ivar now: Returns Unix seconds.
    :ivar new_id: Returns an id for a request.
    """

    asker: Asker
    base: str = BASE
    now: Callable[[], float] = time.time
    new_id: Callable[[], object] = uuid.uuid4
    proof: Proof = attrs.field(factory=new_proof)

    @property
    def whose(self) -> str:
        """How a sentence calls it."""
        return self.asker.whose

    def begin(self) -> Deferred[DeviceCode]:
        """Ask for a code."""
        return Deferred.fromCoroutine(self._begin())

    async def _begin(self) -> DeviceCode:
        answer = await self.asker.form(
            f"{self.base}/api/v1/oauth2/device/code",
            {
                "client_id": CLIENT,
                "scope": SCOPE,
                "code_challenge": self.proof.challenge,
                "code_challenge_method": METHOD,
            },
            self._headers(),
        )
        return device_code(answer, whose=self.whose, names=_NAMES, interval=_INTERVAL)

    def ask(self, secret: str) -> Deferred[Answer]:
        """Ask whether the person has logged in."""
        return self.asker.form(
            f"{self.base}/api/v1/oauth2/token",
            {
                "grant_type": GRANT,
                "client_id": CLIENT,
                "device_code": secret,
                "code_verifier": self.proof.verifier,
            },
            self._headers(),
        )

    def credential(self, answer: Answer) -> Mapping[str, Any]:
        """Make the document; when it expires is reckoned at once, for nobody can later."""
        document: dict[str, Any] = {}
        for key in ("access_token", "refresh_token", "token_type", "resource_url"):
            if answer.text(key):
                document[key] = answer.text(key)
        for key in ("access_token", "refresh_token"):
            if key not in document:
                raise incomplete(self.whose, key.replace("_", " "))
        document.setdefault("token_type", "Bearer")
        document["expiry_date"] = int((self.now() + seconds_left(answer)) * 1000)
        return document

    def _headers(self) -> Headers:
        return ((b"x-request-id", str(self.new_id()).encode("ascii")),)


@implementer(ILogins)
@attrs.frozen
class QwenLogins:
    """
    Logs in to Qwen.

    :ivar file_key: The key of an account that names its credential file.
    """

    file_key: str = "QWEN_OAUTH_CREDS_FILE_PATH"
    base: str = BASE
    now: Callable[[], float] = time.time
    options: Sequence[LoginOption] = ()
    folder: str = "qwen"
    file_name: str = "oauth_creds.json"
    usual_files: Sequence[str] = (".qwen/oauth_creds.json",)

    def login(
        self, *, options: Mapping[str, str], runtime: Runtime, settings: Mapping[str, Any]
    ) -> ILoginFlow:
        """Make a flow."""
        asker = Asker(
            runtime.upstream, runtime.clock, "Qwen's login", settings.get("proxy_url") or None
        )
        base = str(settings.get("qwen_oauth_base_url") or self.base).rstrip("/")
        vendor = Qwen(asker, base=base, now=self.now)
        return DeviceLogin(vendor, clock=runtime.clock, pace=PACE, now=self.now)

    def entry(self, *, path: Path, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the account that uses the file."""
        return {self.file_key: str(path)}

    def recognises(self, *, document: Mapping[str, Any]) -> bool:
        """Say whether it is Qwen's: only hers tells where to ask, or is for completions."""
        texts = all(isinstance(document.get(key), str) for key in ("access_token", "refresh_token"))
        scope = document.get("scope")
        mine = isinstance(document.get("resource_url"), str)
        return texts and (mine or (isinstance(scope, str) and "model.completion" in scope.split()))
