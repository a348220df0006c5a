"""
Kiro by its login: its requests, its credentials, its errors; and all of it once more against
its services over loopback, for clients of all four dialects.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.interfaces import IEnveloping, ILogins, IRenewing
from aiclient2api.oauth.tokens import TokenBook
from aiclient2api.providers._kiro_token import expiry, is_social, oidc_region, service_region
from aiclient2api.providers.claude_kiro_oauth import PATIENCE, ClaudeKiroOAuth
from aiclient2api.providers.claude_kiro_oauth import claude_kiro_oauth as FACTORY
from aiclient2api.testing import (
    MemoryResponse,
    MemoryUpstream,
    one_account,
)
from aiclient2api.values import (
    Account,
    Credential,
    Headers,
    Route,
    Runtime,
    UpstreamRequest,
)
from tests.test_providers_contract import KEY, AskedRequest, ProviderContract

NOW = 1_800_000_000
DATE = (b"date", b"Fri, 15 Jan 2027 08:00:00 GMT")
JSON = (b"content-type", b"application/json")
ARN = "arn:aws:codewhisperer:us-east-1:123456789012:profile/P"
GOOD = {
    "accessToken": "aoa-secret-1",
    "refreshToken": "aor-secret-1",
    "profileArn": ARN,
    "expiresAt": "2027-01-15T09:00:00.000Z",
    "authMethod": "social",
    "provider": "Google",
    "region": "us-east-1",
}
IDC = {
    "accessToken": "aoa-secret-1",
    "refreshToken": "aor-secret-1",
    "expiresAt": "2027-01-15T07:00:00Z",
    "authMethod": "IdC",
    "provider": "Enterprise",
    "region": "ap-southeast-1",
    "clientIdHash": "0123456789abcdef0123456789abcdef01234567",
    "profileArn": ARN.replace("us-east-1", "eu-central-1"),
}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def packed(document: Any) -> str:
    """Return a document in base64."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def book(clock: Clock) -> TokenBook:
    """Return a book of tokens that works at once."""
    return TokenBook(clock=clock, now=clock.seconds, jitter=lambda: 0.0, in_thread=maybeDeferred)


def told(status: int, **fields: Any) -> MemoryResponse:
    """Return an answer of a service."""
    return MemoryResponse(status, (JSON, DATE), [json.dumps(fields).encode()])


def parsed(body: Mapping[str, Any]) -> Any:
    """Return a Messages request."""
    return ANTHROPIC_MESSAGES.parse(body=json.dumps(body).encode(), route=Route(action="generate"))


HI = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}],
}


class KiroContractTests(ProviderContract, SynchronousTestCase):
    """What every provider promises; this one in a form of its service's own."""

    factory = FACTORY
    settings = {"kiro_oauth_creds_base64": KEY}
    base_key = "kiro_base_url"
    sample = (json.dumps(HI).encode(), "")

    def _account(self, **fields: Any) -> Account:
        held = Credential(KEY, details={"region": "us-east-1"}, secrets=(KEY,))
        return super()._account(credential=held, **fields)

    def _prepared(self, request: AskedRequest, **fields: Any) -> UpstreamRequest:
        body = {**HI, "stream": request.streaming}
        provider, _ = self._provider()
        asked = attrs.evolve(parsed(body), action=request.action, headers=request.headers)
        return provider.prepare(request=asked, account=self._account(**fields))

    def test_body_is_untouched(self) -> None:
        """What goes out is the service's own form; see `tests.test_kiro_request`."""
        sent = self._prepared(AskedRequest())
        self.assertIn(b'"conversationState"', sent.body or b"")

    test_real_request = test_body_is_untouched

    def test_accept(self) -> None:
        """The service streams in any case."""
        for streaming in (False, True):
            headers = dict(self._prepared(AskedRequest(streaming=streaming)).headers)
            self.assertEqual(headers[b"accept"], b"application/json")
            self.assertEqual(headers[b"content-type"], b"application/json")

    def test_no_disguise(self) -> None:
        """What every client of Amazon's sends, and no client's or machine's name."""
        headers = dict(self._prepared(AskedRequest()).headers)
        self.assertEqual(
            set(headers),
            {
                b"content-type",
                b"accept",
                b"authorization",
                b"amz-sdk-invocation-id",
                b"amz-sdk-request",
                b"x-amzn-codewhisperer-optout",
                b"x-amzn-kiro-agent-mode",
            },
        )
        self.assertNotIn(b"kiroide", b" ".join(headers.values()).lower())
        again = dict(self._prepared(AskedRequest()).headers)
        self.assertNotEqual(headers[b"amz-sdk-invocation-id"], again[b"amz-sdk-invocation-id"])

    def test_client_headers(self) -> None:
        """A client's headers mean nothing to this service, and stay here."""
        passed = ((b"anthropic-beta", b"1"), (b"x-passed", b"1"))
        headers = dict(self._prepared(AskedRequest(headers=passed)).headers)
        self.assertFalse({b"anthropic-beta", b"x-passed"} & set(headers))

    def test_classify_status(self) -> None:
        """Each status has its fault; the service's own form reaches nobody."""
        provider, _ = self._provider()
        for status, fault in (
            (400, Fault.CALLER),
            (401, Fault.CREDENTIAL),
            (402, Fault.QUOTA),
            (403, Fault.PERMISSION),
            (404, Fault.NOT_FOUND),
            (413, Fault.CALLER),
            (429, Fault.RATE_LIMIT),
            (500, Fault.SERVER),
            (503, Fault.CAPACITY),
            (529, Fault.CAPACITY),
        ):
            error = provider.classify(status=status, headers=(), body=b'{"message":"because"}')
            self.assertEqual((error.fault, error.status), (fault, status))
            self.assertIn("because", error.message)
            self.assertTrue(error.message.startswith(provider.name))
            self.assertIsNone(error.reply)

    def test_needs_credential(self) -> None:
        """It counts as configured only once there is a credential; the keys are as ever."""
        self.assertTrue(FACTORY.needs_credential)
        kinds = {field.name: field.metadata["kind"] for field in attrs.fields(FACTORY.settings)}
        self.assertEqual(
            kinds,
            {
                "kiro_oauth_creds_file_path": "path",
                "kiro_oauth_creds_base64": "secret",
                "kiro_oauth_creds_dir_path": "path",
                "kiro_base_url": "text",
                "kiro_refresh_url": "text",
                "kiro_refresh_idc_url": "text",
                "kiro_request_min_interval_ms": "text",
            },
        )

    def test_terms(self) -> None:
        """Whoever looks at it learns what happened to others."""
        self.assertIn("suspended", FACTORY.terms)


class KiroCase(SynchronousTestCase):
    """One provider without a network."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.book = book(self.clock)

    def provider(self, *answers: MemoryResponse | Exception | None) -> ClaudeKiroOAuth:
        """Return a provider whose way out gives *answers*."""
        self.way = MemoryUpstream(answers, clock=self.clock)
        runtime = Runtime(clock=self.clock, upstream=self.way, tokens=self.book)
        return cast(ClaudeKiroOAuth, FACTORY.provider(name="claude-kiro-oauth", runtime=runtime))

    def account(self, document: Any = None, **settings: Any) -> Account:
        """Return an account with *document* in base64."""
        if document is not None:
            settings["kiro_oauth_creds_base64"] = packed(document)
        return one_account(FACTORY.name, FACTORY.settings(**settings))

    def held(self, region: str = "us-east-1", arn: str = "", **settings: Any) -> Account:
        """Return an account that has its token already."""
        details = {"region": region, **({"profile_arn": arn} if arn else {})}
        held = Credential("aoa-secret-1", details=details, secrets=("aoa-secret-1",))
        return attrs.evolve(self.account(**settings), credential=held)

    def credential(self, account: Account, *answers: MemoryResponse) -> Credential:
        """Return the credential of an account."""
        got: Credential = self.successResultOf(self.provider(*answers).credential(account=account))
        return got

    def refused(self, account: Account, *answers: MemoryResponse) -> UpstreamError:
        """Return why there is no credential."""
        asking = self.provider(*answers).credential(account=account)
        error: UpstreamError = self.failureResultOf(asking, UpstreamError).value
        self.assertNotIn("secret", error.message)
        return error

    def sent(self) -> list[tuple[str, Any]]:
        """Return where was asked what."""
        return [
            (each.request.url, json.loads(each.request.body or b"null")) for each in self.way.sent
        ]


class RequestTests(KiroCase):
    """What goes over the wire, around the body."""

    def test_interfaces(self) -> None:
        """It renews, it takes answers out of envelopes, and it can be logged in to."""
        provider = self.provider()
        verifyObject(IRenewing, provider)
        verifyObject(IEnveloping, provider)
        verifyObject(ILogins, ILogins(FACTORY))

    def test_where_it_goes(self) -> None:
        """To the service's region; the configuration wins, with the path or without."""
        for base, url in (
            (None, "https://q.eu-central-1.amazonaws.com/generateAssistantResponse"),
            ("http://127.0.0.1:9/x/", "http://127.0.0.1:9/x/generateAssistantResponse"),
            (
                "https://q.{{region}}.a.test/generateAssistantResponse",
                "https://q.eu-central-1.a.test/generateAssistantResponse",
            ),
        ):
            account = self.held("eu-central-1", kiro_base_url=base)
            sent = self.provider().prepare(request=parsed(HI), account=account)
            self.assertEqual(sent.url, url)

    def test_nothing_without_a_token(self) -> None:
        """A request is not sent without one."""
        with self.assertRaises(UpstreamError) as caught:
            self.provider().prepare(request=parsed(HI), account=self.account(GOOD))
        self.assertIs(caught.exception.fault, Fault.CREDENTIAL)

    def test_the_profile(self) -> None:
        """It goes along where it is known."""
        for arn in ("", ARN):
            account = self.held(arn=arn)
            sent = self.provider().prepare(request=parsed(HI), account=account)
            self.assertEqual(json.loads(sent.body or b"").get("profileArn", ""), arn)
            self.assertNotIn("aoa-secret-1", repr(sent))

    def test_no_counting(self) -> None:
        """Tokens cannot be counted there."""
        provider = self.provider()
        self.assertFalse(provider.counts_tokens)
        asked = attrs.evolve(parsed(HI), action="count_tokens")
        with self.assertRaises(InvalidRequest):
            provider.prepare(request=asked, account=self.held())

    def test_models(self) -> None:
        """The list is known beforehand; requests come by dashed and dated names as well."""
        provider = self.provider()
        models = self.successResultOf(provider.models(account=self.account(GOOD)))
        self.assertIn("claude-sonnet-4.5", [model.id for model in models])
        for name in ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929", "claude-sonnet-4.5"):
            self.assertIn(name, provider.known_models)

    def test_apart(self) -> None:
        """Requests begin so far apart as is configured; who leaves is not waited for."""
        account = self.account(GOOD, kiro_request_min_interval_ms="500")
        provider = self.provider()
        first, second, third = (provider.credential(account=account) for _ in range(3))
        self.successResultOf(first)
        self.assertNoResult(second)
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.clock.advance(0.5)
        self.successResultOf(second)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for odd in ("", "soon", None, "-1"):
            settings = {"kiro_request_min_interval_ms": odd}
            self.successResultOf(provider.credential(account=self.account(GOOD, **settings)))


class CredentialTests(KiroCase):
    """From a credential document to a token."""

    def folder(self, document: Any, **files: Any) -> Path:
        """Return a folder with a credential file and others in it."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for name, held in {"kiro-auth-token": document, **files}.items():
            (folder / f"{name}.json").write_text(json.dumps(held))
        return folder

    def test_a_good_one(self) -> None:
        """It is used as it is, wherever it stands, and its secrets are known."""
        folder = self.folder(GOOD)
        for account in (
            self.account(GOOD),
            self.account(kiro_oauth_creds_dir_path=folder),
            self.account(kiro_oauth_creds_file_path=folder / "kiro-auth-token.json"),
        ):
            got = self.credential(account)
            self.assertEqual(got.token, "aoa-secret-1")
            self.assertEqual(got.details, {"region": "us-east-1", "profile_arn": ARN})
            self.assertEqual(set(got.secrets), {"aoa-secret-1", "aor-secret-1"})
            self.assertNotIn("secret", repr(got))
            self.assertTrue(self.provider().version(account=account))

    def test_social(self) -> None:
        """Kiro renews it, in its one region; what is not told stays."""
        folder = self.folder({**GOOD, "expiresAt": "2027-01-15T07:59:00Z", "own": 1})
        account = self.account(kiro_oauth_creds_dir_path=folder)
        got = self.credential(account, told(200, accessToken="aoa-2", expiresIn=3600))
        self.assertEqual(got.token, "aoa-2")
        self.assertEqual(
            self.sent(),
            [
                (
                    "https://prod.us-east-1.auth.desktop.kiro.dev/refreshToken",
                    {"refreshToken": "aor-secret-1"},
                )
            ],
        )
        kept = json.loads((folder / "kiro-auth-token.json").read_text())
        self.assertEqual((kept["refreshToken"], kept["own"]), ("aor-secret-1", 1))
        self.assertEqual(kept["expiresAt"], "2027-01-15T09:00:00.000Z")

    def test_idc(self) -> None:
        """AWS renews it where it was issued, with exactly its own registration."""
        registration = {"clientId": "c-1", "clientSecret": "client-secret-1"}
        other = {"clientId": "c-2", "clientSecret": "x", "accessToken": "foreign", "expiresAt": ""}
        folder = self.folder(IDC, **{IDC["clientIdHash"]: registration, "other": other})
        account = self.account(kiro_oauth_creds_dir_path=folder)
        fresh = told(200, accessToken="aoa-2", refreshToken="aor-2", expiresIn=3600)
        got = self.credential(account, fresh)
        self.assertEqual((got.token, got.details["region"]), ("aoa-2", "eu-central-1"))
        self.assertEqual(
            self.sent(),
            [
                (
                    "https://oidc.ap-southeast-1.amazonaws.com/token",
                    {
                        "refreshToken": "aor-secret-1",
                        "clientId": "c-1",
                        "clientSecret": "client-secret-1",
                        "grantType": "refresh_token",
                    },
                )
            ],
        )
        kept = json.loads((folder / "kiro-auth-token.json").read_text())
        self.assertEqual(kept["refreshToken"], "aor-2")
        self.assertNotIn("clientId", kept)

    def test_the_other_programs_shape(self) -> None:
        """What AIClient-2-API writes has the registration in it, and two regions."""
        document = {**IDC, "clientId": "c-1", "clientSecret": "client-secret-1"}
        del document["clientIdHash"]
        document |= {"authMethod": "builder-id", "region": "us-east-1", "idcRegion": "eu-west-1"}
        fresh = told(200, accessToken="aoa-2", expiresIn=3600)
        account = self.account(document, kiro_refresh_idc_url="https://o.{{region}}.a.test/token/")
        got = self.credential(account, fresh)
        self.assertEqual(self.sent()[0][0], "https://o.eu-west-1.a.test/token")
        self.assertIn("client-secret-1", got.secrets)

    def test_no_registration(self) -> None:
        """Without it nothing can be renewed, and the file that is missing is named."""
        for name in (IDC["clientIdHash"], "../../etc/passwd", ""):
            folder = self.folder({**IDC, "clientIdHash": name})
            error = self.refused(self.account(kiro_oauth_creds_dir_path=folder))
            self.assertIs(error.fault, Fault.PERMISSION)
            self.assertIn("registration", error.message)
            self.assertEqual(IDC["clientIdHash"] in error.message, name == IDC["clientIdHash"])
            self.assertNotIn("passwd", error.message)
            self.assertEqual(self.way.sent, [])

    def test_dead(self) -> None:
        """What is refused for good is told with what to do; the file stays."""
        registered = {**IDC, "clientId": "c-1", "clientSecret": "client-secret-1"}
        social = {**GOOD, "expiresAt": "2027-01-15T07:00:00Z"}
        for document, answer, words in (
            (social, told(401, message="Bad credentials"), "login"),
            (registered, told(400, error="invalid_grant"), "login"),
            (registered, told(401, error="invalid_client"), "login"),
        ):
            folder = self.folder(document)
            account = self.account(kiro_oauth_creds_dir_path=folder)
            error = self.refused(account, answer)
            self.assertIs(error.fault, Fault.CREDENTIAL)
            self.assertIn(words, error.message)
            self.assertEqual(json.loads((folder / "kiro-auth-token.json").read_text()), document)
            # And it is not asked again with it.
            self.refused(account)

    def test_another_region(self) -> None:
        """A login that was issued elsewhere is not dead; what to write is told."""
        document = {**IDC, "clientId": "c-1", "clientSecret": "client-secret-1"}
        answer = told(400, error="invalid_request", error_description="Invalid token provided")
        error = self.refused(self.account(document), answer)
        self.assertIs(error.fault, Fault.PERMISSION)
        self.assertIn("idcRegion", error.message)
        self.assertIn("ap-southeast-1", error.message)

    def test_what_passes(self) -> None:
        """A login that is out of order kills no account."""
        document = {**GOOD, "expiresAt": "2027-01-15T07:00:00Z"}
        for answer, fault in (
            (told(500), Fault.SERVER),
            (told(429, message="slow"), Fault.RATE_LIMIT),
            (told(403, message="no"), Fault.SERVER),
            (told(200, expiresIn=3600), Fault.SERVER),
        ):
            self.book = book(self.clock)
            self.assertIs(self.refused(self.account(document), answer).fault, fault)

    def test_no_credential(self) -> None:
        """What is missing is told by its key."""
        for settings, words in (
            ({}, "no credential"),
            ({"kiro_oauth_creds_base64": "!!"}, "kiro_oauth_creds_base64"),
            ({"kiro_oauth_creds_base64": packed([1])}, "kiro_oauth_creds_base64"),
        ):
            account = self.account(**settings)
            error = self.refused(account)
            self.assertIs(error.fault, Fault.CREDENTIAL)
            self.assertIn(words, error.message)
            early = self.provider().renew_early(account=account, seconds=900)
            self.assertIsInstance(self.successResultOf(early), UpstreamError)
            self.assertEqual(self.provider().version(account=account), "")

    def test_early(self) -> None:
        """Before its end comes near, it is renewed."""
        account = self.account(GOOD)
        self.assertIsNone(
            self.successResultOf(self.provider().renew_early(account=account, seconds=900))
        )
        self.assertEqual(self.way.sent, [])
        provider = self.provider(told(200, accessToken="aoa-2", expiresIn=3600))
        self.assertIsNone(self.successResultOf(provider.renew_early(account=account, seconds=4000)))
        self.assertEqual(len(self.way.sent), 1)

    def test_moments(self) -> None:
        """A time without a zone is UTC; numbers are seconds or milliseconds."""
        for written, moment in (
            ("2027-01-15T08:00:00.000Z", NOW),
            ("2027-01-15T08:00:00", NOW),
            ("2027-01-15T08:00:00.1234567Z", NOW + 0.123456),
            ("2027-01-15T10:00:00+02:00", NOW),
            (NOW, NOW),
            (NOW * 1000, NOW),
            (str(NOW * 1000), NOW),
            ("soon", None),
            (None, None),
            (0, None),
            (float("inf"), None),
            (10**400, None),
        ):
            found = expiry({"expiresAt": written})
            self.assertEqual(found if moment is None else round(found or 0, 6), moment, written)

    def test_kinds(self) -> None:
        """How one logged in, however it is spelt, and where it leads."""
        for document, social, issued, service in (
            ({"authMethod": "social", "region": "eu-west-1"}, True, "eu-west-1", "us-east-1"),
            ({}, True, "us-east-1", "us-east-1"),
            ({"clientId": "c", "clientSecret": "s"}, False, "us-east-1", "us-east-1"),
            ({"clientIdHash": "ab"}, False, "us-east-1", "us-east-1"),
            ({"authMethod": "Idc", "region": "eu-west-1"}, False, "eu-west-1", "us-east-1"),
            ({**IDC, "idcRegion": "us-east-2"}, False, "us-east-2", "eu-central-1"),
            ({"authMethod": "idc", "region": "a.test/x"}, False, "us-east-1", "us-east-1"),
            (
                {"authMethod": "idc", "profileArn": "arn:aws:codewhisperer:evil-x:1:profile/P"},
                False,
                "us-east-1",
                "us-east-1",
            ),
        ):
            self.assertEqual(is_social(document), social, document)
            self.assertEqual(oidc_region(document), issued, document)
            self.assertEqual(service_region(document), service, document)


class ProfileTests(KiroCase):
    """A profile that the credential does not name."""

    def setUp(self) -> None:
        super().setUp()
        self.document = {**IDC, "expiresAt": "2027-01-15T09:00:00Z"}
        del self.document["profileArn"]

    def test_found(self) -> None:
        """It is asked for once, first where the login is, and kept."""
        arn = IDC["profileArn"]
        account = self.account(self.document)
        refused = told(403, message="The bearer token included in the request is invalid.")
        got = self.credential(account, refused, told(200, profiles=[{"arn": arn}]))
        self.assertEqual(got.details, {"region": "eu-central-1", "profile_arn": arn})
        self.assertEqual(
            [url for url, _ in self.sent()],
            [
                "https://codewhisperer.us-east-1.amazonaws.com/",
                "https://q.eu-central-1.amazonaws.com/",
            ],
        )
        headers = dict(self.way.sent[0].request.headers)
        self.assertTrue(headers[b"x-amz-target"].endswith(b".ListAvailableProfiles"))
        self.assertEqual(self.credential(account), got)

    def test_where_the_login_is(self) -> None:
        """A login of a region that is served is asked for there first."""
        account = self.account({**self.document, "region": "eu-central-1"})
        self.credential(account, told(200, profiles=[{"arn": IDC["profileArn"]}]))
        self.assertEqual(self.sent()[0][0], "https://q.eu-central-1.amazonaws.com/")

    def test_there_is_none(self) -> None:
        """Builder IDs have none: they go without, and are not asked each time."""
        account = self.account(self.document, kiro_base_url="http://127.0.0.1:9")
        provider = self.provider(told(200, profiles=[]), told(200, profiles=3))
        for wait in (0.0, PATIENCE - 1, 1.0):
            self.clock.advance(wait)
            asking = provider.credential(account=account)
            self.assertEqual(self.successResultOf(asking).details, {"region": "us-east-1"})
        self.assertEqual([url for url, _ in self.sent()], ["http://127.0.0.1:9/"] * 2)


class ErrorTests(KiroCase):
    """What refusals mean."""

    def classified(
        self, status: int, message: str, reason: str | None = None, headers: Headers = (DATE,)
    ) -> UpstreamError:
        """Return what a refusal means."""
        body = json.dumps({"message": message, "reason": reason}).encode()
        return self.provider().classify(status=status, headers=headers, body=body)

    def test_table(self) -> None:
        """Each is somebody's fault."""
        for status, message, reason, fault in (
            (400, "Improperly formed request.", None, Fault.CALLER),
            (400, "Input is too long.", "CONTENT_LENGTH_EXCEEDS_THRESHOLD", Fault.CONTEXT),
            (400, "x", "CONTENT_LENGTH_EXCEEDS_THRESHOLD", Fault.CONTEXT),
            (400, "Invalid model. Please select", "INVALID_MODEL_ID", Fault.NOT_FOUND),
            (400, "profileArn is required for this request.", None, Fault.PERMISSION),
            (401, "expired", None, Fault.CREDENTIAL),
            (402, "You have reached the limit", "MONTHLY_REQUEST_COUNT", Fault.QUOTA),
            (403, "The bearer token included in the request is invalid.", None, Fault.CREDENTIAL),
            (403, "Token is expired", None, Fault.CREDENTIAL),
            (403, "Your account is suspended; token", "TEMPORARILY_SUSPENDED", Fault.PERMISSION),
            (403, "User is not authorized to access this", None, Fault.PERMISSION),
            (403, "User is not authorized to make this call.", None, Fault.PERMISSION),
            (429, "Too many requests", None, Fault.RATE_LIMIT),
            (429, "busy", "INSUFFICIENT_MODEL_CAPACITY", Fault.CAPACITY),
            (429, "x", "DAILY_REQUEST_COUNT", Fault.QUOTA),
            (500, "oops", None, Fault.SERVER),
        ):
            error = self.classified(status, message, reason)
            self.assertIs(error.fault, fault, (status, message, reason))
            self.assertIsNone(error.reply)

    def test_until_when(self) -> None:
        """A month that is used up ends on the first, a day at midnight, both UTC."""
        error = self.classified(402, "reached the limit", "MONTHLY_REQUEST_COUNT")
        self.assertEqual(error.retry_after, 16 * 86400 + 16 * 3600)
        error = self.classified(429, "x", "DAILY_REQUEST_COUNT")
        self.assertEqual(error.retry_after, 16 * 3600)
        self.assertIsNone(self.classified(402, "x", "MONTHLY_REQUEST_COUNT", ()).retry_after)
        error = self.classified(429, "slow", None, (DATE, (b"retry-after", b"7")))
        self.assertEqual((error.fault, error.retry_after), (Fault.RATE_LIMIT, 7.0))

    def test_of_the_model(self) -> None:
        """A model that is busy, or unknown, is no fault of the account."""
        for status, reason in ((429, "INSUFFICIENT_MODEL_CAPACITY"), (400, "INVALID_MODEL_ID")):
            self.assertTrue(self.classified(status, "x", reason).of_model)

    def test_the_type_in_a_header(self) -> None:
        """Amazon may tell the kind beside the body."""
        kind = (b"x-amzn-errortype", b"TokenExpiredException:http://internal")
        self.assertIs(self.classified(403, "no", None, (kind,)).fault, Fault.CREDENTIAL)


class UsageTests(KiroCase):
    """How much of a plan is used up."""

    def test_nonsense(self) -> None:
        """Something else than limits names the setting to look at."""
        for body in (b"<html>", b"[]", b'{"usageBreakdownList":3}'):
            answer = MemoryResponse(200, (JSON,), [body])
            asking = self.provider(answer).usage(self.held(arn=ARN))
            error = self.failureResultOf(asking, UpstreamError).value
            self.assertIn("kiro_base_url", error.message)

    def test_little_is_told(self) -> None:
        """What is missing is None."""
        answer = told(200, usageBreakdownList=[{"resourceType": "CREDIT"}, 3])
        usage = self.successResultOf(self.provider(answer).usage(self.held()))
        self.assertEqual((usage.plan, usage.resets, usage.email), ("", None, ""))
        self.assertEqual([(each.name, each.used) for each in usage.allowances], [("CREDIT", None)])

    def test_numbers_that_are_none(self) -> None:
        """Nonsense is as good as missing."""
        nonsense = {"resourceType": "CREDIT", "currentUsage": 10**400, "usageLimit": True}
        answer = told(200, usageBreakdownList=[nonsense])
        (found,) = self.successResultOf(self.provider(answer).usage(self.held())).allowances
        self.assertEqual((found.name, found.used, found.limit), ("CREDIT", None, None))

    def test_refused(self) -> None:
        """A refusal is classified like any other, and giving up closes the connection."""
        asking = self.provider(told(403, message="token is invalid")).usage(self.held())
        error = self.failureResultOf(asking, UpstreamError).value
        self.assertIs(error.fault, Fault.CREDENTIAL)
        asking = self.provider(None).usage(self.held())
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertTrue(self.way.sent[0].cancelled)
