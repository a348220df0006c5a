"""Qwen's login: the device grant as Qwen Code asks for it, over loopback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.errors import UpstreamError
from aiclient2api.interfaces import ILogins
from aiclient2api.oauth.pkce import challenge_of
from aiclient2api.oauth.qwen_login import BASE, CLIENT, SCOPE, QwenLogins
from aiclient2api.testing import MemoryResponse, MemoryUpstream
from aiclient2api.values import Runtime

CODE = {
    "device_code": "d-secret",
    "user_code": "ABCD-EFGH",
    "verification_uri": "https://chat.qwen.ai/authorize",
    "verification_uri_complete": "https://chat.qwen.ai/authorize?user_code=ABCD-EFGH",
    "expires_in": 900,
}
GRANTED = {
    "access_token": "a-secret",
    "refresh_token": "r-secret",
    "token_type": "Bearer",
    "resource_url": "portal.qwen.ai",
    "expires_in": 21600,
    "scope": SCOPE,
}
NOT_YET = {"error": "authorization_pending", "error_description": "not yet"}


def said(status: int, document: Any) -> MemoryResponse:
    """Return an answer that holds *document* as JSON."""
    return MemoryResponse(status, (), [json.dumps(document).encode()])


class QwenLoginTests(SynchronousTestCase):
    """One login to Qwen."""

    def begun(self, *answers: MemoryResponse, **settings: Any) -> Any:
        """Start a login; return its end."""
        self.clock = Clock()
        self.upstream = MemoryUpstream(answers)
        runtime = Runtime(clock=self.clock, upstream=self.upstream)
        logins = QwenLogins(now=lambda: 1_700_000_000.0)
        self.flow = logins.login(options={}, runtime=runtime, settings=settings)
        starting = self.flow.start()
        if starting.called and answers[0].status == 200:
            self.successResultOf(starting)
            return self.flow.finish()
        return starting

    def form(self, number: int) -> Mapping[str, str]:
        """Return the form of one of the questions."""
        return dict(parse_qsl((self.upstream.sent[number].request.body or b"").decode()))

    def test_a_login(self) -> None:
        """The credential has the shape of Qwen Code's own file; it says when it expires."""
        finishing = self.begun(said(200, CODE), said(400, NOT_YET), said(200, GRANTED))
        self.assertEqual(self.flow.code, "ABCD-EFGH")
        self.assertEqual(self.flow.url, CODE["verification_uri_complete"])
        self.assertEqual(self.flow.expires, 1_700_000_900.0)
        self.clock.pump([2.0, 2.0])
        document = self.successResultOf(finishing)
        self.assertEqual(
            document,
            {
                "access_token": "a-secret",
                "refresh_token": "r-secret",
                "token_type": "Bearer",
                "resource_url": "portal.qwen.ai",
                "expiry_date": 1_700_021_600_000,
            },
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_asked(self) -> None:
        """The addresses, forms and headers of the real client, but for its name."""
        self.begun(said(200, CODE), said(200, GRANTED), proxy_url="http://127.0.0.1:9")
        self.clock.advance(2)
        first, second = (sent.request for sent in self.upstream.sent)
        self.assertEqual(first.url, f"{BASE}/api/v1/oauth2/device/code")
        self.assertEqual(second.url, f"{BASE}/api/v1/oauth2/token")
        self.assertEqual((first.proxy, second.proxy), ("http://127.0.0.1:9",) * 2)
        self.assertRegex(dict(first.headers)[b"x-request-id"], rb"\A[0-9a-f-]{36}\Z")
        asked, redeemed = self.form(0), self.form(1)
        self.assertEqual(
            (asked["client_id"], asked["scope"], asked["code_challenge_method"]),
            (CLIENT, SCOPE, "S256"),
        )
        self.assertEqual(challenge_of(redeemed["code_verifier"]), asked["code_challenge"])
        self.assertEqual(redeemed["device_code"], "d-secret")
        self.assertEqual(redeemed["grant_type"], "urn:ietf:params:oauth:grant-type:device_code")

    def test_another_server(self) -> None:
        """A setting says where the login is."""
        self.begun(said(200, CODE), qwen_oauth_base_url="http://127.0.0.1:1/")
        url = self.upstream.sent[0].request.url
        self.assertEqual(url, "http://127.0.0.1:1/api/v1/oauth2/device/code")

    def test_slow_down(self) -> None:
        """A 429 slows us down by half."""
        finishing = self.begun(
            said(200, CODE), said(429, {"error": "slow_down"}), said(200, GRANTED)
        )
        self.clock.pump([2.0, 2.0])
        self.assertNoResult(finishing)
        self.clock.advance(1.0)
        self.successResultOf(finishing)

    def test_the_code_is_not_good_any_more(self) -> None:
        """A 401 ends it."""
        finishing = self.begun(said(200, CODE), said(401, {}))
        self.clock.advance(2)
        self.assertIn("expired", self.failureResultOf(finishing, UpstreamError).value.message)

    def test_no_code(self) -> None:
        """A refusal at the start is told."""
        starting = self.begun(said(400, {"error": "invalid_client"}))
        error = self.failureResultOf(starting, UpstreamError).value
        self.assertIn("invalid_client", error.message)

    def test_half_a_credential(self) -> None:
        """Without a refresh token it is none."""
        half = {key: value for key, value in GRANTED.items() if key != "refresh_token"}
        finishing = self.begun(said(200, CODE), said(200, half))
        self.clock.advance(2)
        self.assertIn("refresh token", self.failureResultOf(finishing, UpstreamError).value.message)

    def test_what_an_account_needs(self) -> None:
        """The file, in the Node version's spelling."""
        logins = QwenLogins()
        verifyObject(ILogins, logins)
        entry = logins.entry(path=Path("/x/y.json"), document={})
        self.assertEqual(entry, {"QWEN_OAUTH_CREDS_FILE_PATH": "/x/y.json"})

    def test_shapes(self) -> None:
        """The real client's and AIClient-2-API's are recognised, others' are not."""
        logins = QwenLogins()
        written = {**GRANTED, "expiry_date": 1}
        del written["scope"]
        for mine in (GRANTED, written, {**GRANTED, "resource_url": None}):
            self.assertTrue(logins.recognises(document=mine))
        for other in (
            {},
            {**GRANTED, "resource_url": None, "scope": "https://www.googleapis.com/auth/x"},
            {"resource_url": "portal.qwen.ai"},
            {**GRANTED, "access_token": 1},
        ):
            self.assertFalse(logins.recognises(document=other))
