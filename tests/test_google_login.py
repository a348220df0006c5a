"""Google's login: what it is asked, and the credential that comes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.errors import InvalidRequest, UpstreamError
from aiclient2api.interfaces import ILogins
from aiclient2api.oauth.google_login import AUTHORIZE, SCOPES, TOKEN, GoogleLogins
from aiclient2api.oauth.pkce import challenge_of
from aiclient2api.testing import MemoryResponse, MemoryUpstream
from aiclient2api.values import Runtime

GRANTED = {
    "access_token": "ya29.secret",
    "refresh_token": "1//secret",
    "scope": " ".join(SCOPES),
    "token_type": "Bearer",
    "id_token": "id.secret",
    "expires_in": 3599,
}


def found(settings: Mapping[str, Any]) -> tuple[str, str]:
    """Return the client that the settings name, as a provider's finder does."""
    if not settings.get("gemini_oauth_client_id"):
        raise InvalidRequest("Install Gemini CLI, or set gemini_oauth_client_id.")
    return settings["gemini_oauth_client_id"], "client-secret"


class GoogleLoginTests(SynchronousTestCase):
    """One login to Google."""

    settings: Mapping[str, Any] = {"gemini_oauth_client_id": "the-client"}

    def begun(self, *answers: MemoryResponse, **settings: Any) -> Deferred[Mapping[str, Any]]:
        """Start a login and wait for its end."""
        self.upstream = MemoryUpstream(answers)
        self.reactor = MemoryReactorClock()
        self.logins = GoogleLogins(found, now=lambda: 1_700_000_000.0)
        runtime = Runtime(clock=self.reactor, upstream=self.upstream)
        told = {**self.settings, **settings}
        self.flow = self.logins.login(options={"port": "8085"}, runtime=runtime, settings=told)
        self.successResultOf(self.flow.start())
        self.asked = {
            key: value[0] for key, value in parse_qs(urlsplit(self.flow.url).query).items()
        }
        return self.flow.finish()

    def come_back(self) -> None:
        """Paste the address that Google sends the browser to."""
        self.flow.paste(
            f"{self.asked['redirect_uri']}?state={self.asked['state']}&code=4%2F0the-code"
        )

    def test_a_login(self) -> None:
        """The credential has the shape of Gemini CLI's own file."""
        finishing = self.begun(
            MemoryResponse(200, (), [json.dumps(GRANTED).encode()]), proxy_url="http://127.0.0.1:9"
        )
        self.assertTrue(self.flow.url.startswith(f"{AUTHORIZE}?"))
        self.assertEqual(self.asked["client_id"], "the-client")
        self.assertEqual(self.asked["scope"], " ".join(SCOPES))
        self.assertEqual(
            [self.asked[key] for key in ("response_type", "access_type", "prompt")],
            ["code", "offline", "consent"],
        )
        self.assertTrue(self.asked["redirect_uri"].endswith("/oauth2callback"))
        self.assertNotIn("client-secret", self.flow.url)
        self.come_back()
        document = self.successResultOf(finishing)
        wanted = {key: value for key, value in GRANTED.items() if key != "expires_in"}
        self.assertEqual(document, {**wanted, "expiry_date": 1_700_003_599_000})
        (sent,) = self.upstream.sent
        self.assertEqual((sent.request.url, sent.request.proxy), (TOKEN, "http://127.0.0.1:9"))
        form = {
            key: value[0] for key, value in parse_qs((sent.request.body or b"").decode()).items()
        }
        self.assertEqual(challenge_of(form.pop("code_verifier")), self.asked["code_challenge"])
        self.assertEqual(
            form,
            {
                "code": "4/0the-code",
                "client_id": "the-client",
                "client_secret": "client-secret",
                "redirect_uri": self.asked["redirect_uri"],
                "grant_type": "authorization_code",
            },
        )

    def test_without_a_refresh_token(self) -> None:
        """Such a login would be over in an hour, and is none."""
        short = {key: value for key, value in GRANTED.items() if key != "refresh_token"}
        finishing = self.begun(MemoryResponse(200, (), [json.dumps(short).encode()]))
        self.come_back()
        error = self.failureResultOf(finishing, UpstreamError).value
        self.assertIn("refresh token", error.message)

    def test_refused(self) -> None:
        """Google's words are told, and neither code nor client secret."""
        said = {"error": "invalid_grant", "error_description": "Bad 4/0the-code client-secret"}
        finishing = self.begun(MemoryResponse(400, (), [json.dumps(said).encode()]))
        self.come_back()
        error = self.failureResultOf(finishing, UpstreamError).value
        self.assertIn("Bad [secret] [secret]", error.message)

    def test_another_token_address(self) -> None:
        """A setting says where codes are redeemed."""
        finishing = self.begun(
            MemoryResponse(200, (), [json.dumps(GRANTED).encode()]),
            gemini_oauth_token_url="http://127.0.0.1:1/token",
        )
        self.come_back()
        self.successResultOf(finishing)
        self.assertEqual(self.upstream.sent[0].request.url, "http://127.0.0.1:1/token")

    def test_without_a_client(self) -> None:
        """The finder's own words say where to get one."""
        logins = GoogleLogins(found)
        runtime = Runtime(clock=MemoryReactorClock(), upstream=MemoryUpstream([]))
        self.assertRaises(InvalidRequest, logins.login, options={}, runtime=runtime, settings={})

    def test_giving_up_while_it_is_redeemed(self) -> None:
        """The connection is closed."""
        response = MemoryResponse(200, (), [b"{"], end=None)
        finishing = self.begun(response)
        self.come_back()
        finishing.cancel()
        self.failureResultOf(finishing, CancelledError)
        self.assertTrue(response.aborted)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_what_an_account_needs(self) -> None:
        """The file, in the Node version's spelling."""
        logins = GoogleLogins(found)
        verifyObject(ILogins, logins)
        entry = logins.entry(path=Path("/x/y.json"), document={})
        self.assertEqual(entry, {"GEMINI_OAUTH_CREDS_FILE_PATH": "/x/y.json"})

    def test_shapes(self) -> None:
        """Its own are recognised; those of others with the same keys are not."""
        logins = GoogleLogins(found)
        self.assertTrue(logins.recognises(document=GRANTED))
        for other in (
            {},
            {**GRANTED, "scope": "openid profile email model.completion"},
            {**GRANTED, "scope": f"{GRANTED['scope']} https://www.googleapis.com/auth/cclog"},
            {**GRANTED, "scope": 1},
            {**GRANTED, "refresh_token": None},
        ):
            self.assertFalse(logins.recognises(document=other))
