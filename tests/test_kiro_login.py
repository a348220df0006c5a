"""Kiro's logins: each of its ways, and the credentials in AIClient-2-API's spelling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.errors import InvalidRequest, UpstreamError
from aiclient2api.interfaces import ILogins
from aiclient2api.oauth.kiro_login import REDIRECT, SCOPES, START, KiroLogins
from aiclient2api.oauth.pkce import challenge_of
from aiclient2api.testing import MemoryResponse, MemoryUpstream
from aiclient2api.values import Runtime

TOKENS = {"accessToken": "aoa-secret", "refreshToken": "aor-secret", "expiresIn": 3600}
ARN = "arn:aws:codewhisperer:us-east-1:699475941385:profile/X"
CLIENT = {"clientId": "c-1", "clientSecret": "c-secret", "clientSecretExpiresAt": 1_707_776_000}
CODE = {
    "deviceCode": "d-secret",
    "userCode": "ABCD-EFGH",
    "verificationUri": "https://device.sso.us-east-1.amazonaws.com/",
    "verificationUriComplete": "https://device.sso.us-east-1.amazonaws.com/?user_code=ABCD-EFGH",
    "expiresIn": 600,
    "interval": 1,
}


def said(status: int, document: Any) -> MemoryResponse:
    """Return an answer that holds *document* as JSON."""
    return MemoryResponse(status, (), [json.dumps(document).encode()])


class KiroLoginTests(SynchronousTestCase):
    """One login to Kiro."""

    def begun(self, options: dict[str, str], *answers: MemoryResponse, **settings: Any) -> Any:
        """Start a login; return its end."""
        self.reactor = MemoryReactorClock()
        self.upstream = MemoryUpstream(answers)
        runtime = Runtime(clock=self.reactor, upstream=self.upstream)
        logins = KiroLogins(now=lambda: 1_700_000_000.0)
        self.flow = logins.login(options=options, runtime=runtime, settings=settings)
        self.successResultOf(self.flow.start())
        return self.flow.finish()

    def sent(self) -> list[tuple[str, Any]]:
        """Return the addresses that were asked, and what they were asked."""
        requests = [sent.request for sent in self.upstream.sent]
        return [(request.url, json.loads(request.body or b"null")) for request in requests]

    def pasted(self) -> dict[str, str]:
        """Paste the address that the browser ends up at; return what Kiro was asked."""
        asked = {key: value[0] for key, value in parse_qs(urlsplit(self.flow.url).query).items()}
        self.flow.paste(f"{REDIRECT}?code=the-code&state={asked['state']}")
        return asked

    def test_social(self) -> None:
        """Google by default: the address is pasted, for only the IDE opens it."""
        finishing = self.begun({}, said(200, {**TOKENS, "profileArn": ARN}))
        self.assertEqual(self.reactor.tcpServers, [])
        self.assertIn("kiro://kiro.kiroAgent", self.flow.hint)
        asked = self.pasted()
        self.assertTrue(
            self.flow.url.startswith("https://prod.us-east-1.auth.desktop.kiro.dev/login?")
        )
        self.assertEqual((asked["idp"], asked["redirect_uri"]), ("Google", REDIRECT))
        self.assertEqual(
            self.successResultOf(finishing),
            {
                "accessToken": "aoa-secret",
                "refreshToken": "aor-secret",
                "expiresAt": "2023-11-14T23:13:20.000Z",
                "profileArn": ARN,
                "authMethod": "social",
                "provider": "Google",
                "socialProvider": "Google",
                "region": "us-east-1",
            },
        )
        ((url, body),) = self.sent()
        self.assertEqual(url, "https://prod.us-east-1.auth.desktop.kiro.dev/oauth/token")
        self.assertEqual(challenge_of(body.pop("code_verifier")), asked["code_challenge"])
        self.assertEqual(body, {"code": "the-code", "redirect_uri": REDIRECT})

    def test_github(self) -> None:
        """The other one, from a server that a setting names."""
        self.begun(
            {"social": "github"}, kiro_refresh_url="http://127.0.0.1:1/{{region}}/refreshToken"
        )
        self.assertEqual(self.pasted_idp(), "Github")
        self.assertTrue(self.flow.url.startswith("http://127.0.0.1:1/us-east-1/login?"))

    def pasted_idp(self) -> str:
        """Return whom Kiro is to ask."""
        return parse_qs(urlsplit(self.flow.url).query)["idp"][0]

    def test_a_handler_of_links(self) -> None:
        """With --port there is a door for it, and the address stays what it is."""
        self.begun({"port": "19876"})
        ((port, _, _, host),) = self.reactor.tcpServers
        self.assertEqual((port, host), (19876, "127.0.0.1"))
        self.assertIn("kiro%3A%2F%2F", self.flow.url)

    def test_social_refused(self) -> None:
        """What Kiro says is told, and no code."""
        finishing = self.begun({}, said(401, {"message": "Bad credentials the-code"}))
        self.pasted()
        error = self.failureResultOf(finishing, UpstreamError).value
        self.assertIn("Bad credentials [secret]", error.message)

    def test_builder_id(self) -> None:
        """Registered as ourselves; the registration is kept, for renewals need it."""
        finishing = self.begun(
            {"builder-id": ""},
            said(200, CLIENT),
            said(200, CODE),
            said(400, {"error": "authorization_pending"}),
            said(400, {"error": "slow_down"}),
            said(200, {**TOKENS, "tokenType": "Bearer"}),
        )
        self.assertEqual(
            (self.flow.code, self.flow.url), ("ABCD-EFGH", CODE["verificationUriComplete"])
        )
        self.reactor.pump([1.0] * 8)
        self.assertEqual(
            self.successResultOf(finishing),
            {
                "accessToken": "aoa-secret",
                "refreshToken": "aor-secret",
                "expiresAt": "2023-11-14T23:13:20.000Z",
                "authMethod": "builder-id",
                "clientId": "c-1",
                "clientSecret": "c-secret",
                "region": "us-east-1",
                "idcRegion": "us-east-1",
                "startUrl": START,
                "registrationExpiresAt": "2024-02-12T22:13:20.000Z",
            },
        )
        base = "https://oidc.us-east-1.amazonaws.com"
        pair = {"clientId": "c-1", "clientSecret": "c-secret"}
        self.assertEqual(
            self.sent()[:3],
            [
                (
                    f"{base}/client/register",
                    {"clientName": "aiclient2api", "clientType": "public", "scopes": list(SCOPES)},
                ),
                (f"{base}/device_authorization", {**pair, "startUrl": START}),
                (
                    f"{base}/token",
                    {
                        **pair,
                        "deviceCode": "d-secret",
                        "grantType": "urn:ietf:params:oauth:grant-type:device_code",
                    },
                ),
            ],
        )

    def test_idc(self) -> None:
        """An organisation's own start page and region."""
        finishing = self.begun(
            {"idc": "https://example.awsapps.com/start eu-west-1"},
            said(200, {**CLIENT, "clientSecretExpiresAt": "soon"}),
            said(200, CODE),
            said(200, TOKENS),
            kiro_refresh_idc_url="http://127.0.0.1:1/{{region}}/token",
        )
        self.reactor.advance(1)
        document = self.successResultOf(finishing)
        self.assertEqual(
            [document[key] for key in ("authMethod", "idcRegion", "startUrl")],
            ["idc", "eu-west-1", "https://example.awsapps.com/start"],
        )
        self.assertNotIn("registrationExpiresAt", document)
        self.assertEqual(self.sent()[0][0], "http://127.0.0.1:1/eu-west-1/client/register")

    def test_no_registration(self) -> None:
        """Refused, or with nothing in it: it is said, and nothing more is asked."""
        for answer in (said(400, {"error": "invalid_request"}), said(200, {"clientId": "c"})):
            upstream = MemoryUpstream([answer])
            runtime = Runtime(clock=MemoryReactorClock(), upstream=upstream)
            flow = KiroLogins().login(options={"builder-id": ""}, runtime=runtime, settings={})
            self.failureResultOf(flow.start(), UpstreamError)

    def test_half_a_credential(self) -> None:
        """Without a refresh token it is none."""
        finishing = self.begun({}, said(200, {"accessToken": "aoa"}))
        self.pasted()
        self.assertIn("refresh token", self.failureResultOf(finishing, UpstreamError).value.message)

    def test_options_that_make_no_sense(self) -> None:
        """Each is refused before anything is asked; a region becomes part of a host's name."""
        runtime = Runtime(clock=MemoryReactorClock(), upstream=MemoryUpstream([]))
        for options in (
            {"social": "facebook"},
            {"idc": "http://example.awsapps.com/start eu-west-1"},
            {"idc": "https:///start eu-west-1"},
            {"idc": "https://example.awsapps.com/start evil.example/"},
            {"idc": "https://example.awsapps.com/start"},
            {"builder-id": "", "port": "1"},
            {"port": "x"},
        ):
            self.assertRaises(
                InvalidRequest, KiroLogins().login, options=options, runtime=runtime, settings={}
            )

    def test_what_an_account_needs(self) -> None:
        """The file, in the Node version's spelling."""
        logins = KiroLogins()
        verifyObject(ILogins, logins)
        entry = logins.entry(path=Path("/x/y.json"), document={})
        self.assertEqual(entry, {"KIRO_OAUTH_CREDS_FILE_PATH": "/x/y.json"})

    def test_shapes(self) -> None:
        """Kiro's are recognised; those of the AWS command line beside them are not."""
        logins = KiroLogins()
        for mine in (
            {**TOKENS, "authMethod": "social"},
            {**TOKENS, "profileArn": ARN},
            {**TOKENS, "authMethod": "IdC", "clientIdHash": "0" * 40},
        ):
            self.assertTrue(logins.recognises(document=mine))
        for other in (
            {},
            {**TOKENS, "startUrl": START, "region": "us-east-1", **CLIENT},
            {"clientId": "c", "clientSecret": "s", "authMethod": "social"},
        ):
            self.assertFalse(logins.recognises(document=other))
