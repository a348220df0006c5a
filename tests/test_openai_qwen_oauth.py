"""
Qwen by the login of Qwen Code: its requests, its credentials, its errors; and all of it once
more against its services over loopback.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api import __version__
from aiclient2api.dialects.convert import relayed
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.exchange import Exchange, Patience, Way
from aiclient2api.interfaces import IEnveloping, ILogins, IRenewing, IWireRequest
from aiclient2api.oauth.tokens import Renewal, Source, TokenBook, TokenKeeper
from aiclient2api.providers._qwen_token import document_of, expiry
from aiclient2api.providers.openai_qwen_oauth import OpenAIQwenOAuth
from aiclient2api.providers.openai_qwen_oauth import openai_qwen_oauth as FACTORY
from aiclient2api.testing import (
    Call,
    FakeQwen,
    FixedPool,
    MemoryObserver,
    MemoryReply,
    MemoryResponse,
    MemoryUpstream,
    QwenReply,
    one_account,
)
from aiclient2api.values import (
    Account,
    Credential,
    ExchangeRecord,
    Headers,
    Route,
    Runtime,
    UpstreamRequest,
)
from tests.raw_peers import REACTOR, WireCase
from tests.test_providers_contract import KEY, AskedRequest, KeyedContract

NOW = 1_800_000_000
DATE = ((b"date", b"Fri, 15 Jan 2027 08:00:00 GMT"),)
GOOD = {
    "access_token": "access-secret-1",
    "refresh_token": "refresh-secret-1",
    "token_type": "Bearer",
    "resource_url": "portal.qwen.ai",
    "expiry_date": (NOW + 3600) * 1000,
}
FRESH = {"access_token": "a2", "refresh_token": "r2", "expires_in": 100}
HI = b'{"messages":[{"role":"user","content":"hi"}],"model":"coder-model","stream":true}'
JSON = ((b"content-type", b"application/json"),)


class Book:
    """The real book of tokens, which works at once and notes what it was asked for."""

    def __init__(self, clock: Clock) -> None:
        self.sources: list[Source] = []
        self._book = TokenBook(
            clock=clock, now=clock.seconds, jitter=lambda: 0.0, in_thread=maybeDeferred
        )

    def keeper(self, *, source: Source, renewal: Renewal) -> TokenKeeper:
        """Return whoever keeps it."""
        self.sources.append(source)
        return self._book.keeper(source=source, renewal=renewal)


def settings_of(document: Any = None, **more: Any) -> Any:
    """Return settings with *document* in base64."""
    if document is not None:
        more["qwen_oauth_creds_base64"] = base64.b64encode(json.dumps(document).encode()).decode()
    return FACTORY.settings(**more)


def account_of(settings: Any, **details: str) -> Account:
    """Return an account that has a token already."""
    held = Credential("access-secret-1", details=details, secrets=("access-secret-1",))
    return one_account(FACTORY.name, settings, credential=held)


def parsed(body: bytes) -> IWireRequest:
    """Return a request of a client."""
    return OPENAI_CHAT.parse(body=body, route=Route(action="generate"))


class QwenCase(SynchronousTestCase):
    """One provider without a network."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.book = Book(self.clock)

    def provider(self, *answers: MemoryResponse | Exception | None) -> OpenAIQwenOAuth:
        """Return a provider whose way out gives *answers*."""
        self.way = MemoryUpstream(answers, clock=self.clock)
        runtime = Runtime(clock=self.clock, upstream=self.way, tokens=self.book)
        return cast(OpenAIQwenOAuth, FACTORY.provider(name="openai-qwen-oauth", runtime=runtime))

    def prepared(self, body: bytes, settings: Any = None, **details: str) -> UpstreamRequest:
        """Return what is sent for *body*."""
        account = account_of(settings or settings_of(), **details)
        return self.provider().prepare(request=parsed(body), account=account)

    def classified(
        self, status: int, error: Mapping[str, Any], headers: Headers = ()
    ) -> UpstreamError:
        """Return what an error answer means."""
        body = json.dumps({"error": error}).encode()
        return self.provider().classify(status=status, headers=headers, body=body)


class QwenContractTests(KeyedContract, SynchronousTestCase):
    """What every provider promises; this one with a credential, and more demanding errors."""

    factory = FACTORY
    settings = {"qwen_oauth_creds_base64": KEY}
    base_key = "qwen_base_url"
    sample = (
        b'{"messages":[{"role":"system","content":[{"type":"text","text":"s","cache_control":'
        b'{"type":"ephemeral"}}]},{"role":"user","content":"hi"}], "model":"m-1"}',
        "",
    )
    models_url = "https://dashscope.aliyuncs.com/compatible-mode/v1/models"
    models_body = b'{"object":"list","data":[{"id":"m-1","object":"model"}]}'

    def _account(self, **fields: Any) -> Account:
        return super()._account(credential=Credential(KEY, secrets=(KEY,)), **fields)

    def test_no_disguise(self) -> None:
        """Beyond the token only what the service reads, and in it our own name."""
        streamed = AskedRequest(streaming=True, framing="sse")
        headers = dict(self._prepared(streamed).headers)
        agent = f"aiclient2api/{__version__}".encode()
        self.assertEqual(headers.pop(b"x-dashscope-useragent"), agent)
        self.assertEqual(
            set(headers),
            {
                b"content-type",
                b"accept",
                b"authorization",
                b"x-dashscope-authtype",
                b"x-dashscope-cachecontrol",
            },
        )

    def test_classify_status(self) -> None:
        """A 403 that is no quota is a token refused; all else as everywhere."""
        provider, _ = self._provider()
        body = b'{"error":{"message":"because"}}'
        for status, fault in (
            (400, Fault.CALLER),
            (401, Fault.CREDENTIAL),
            (402, Fault.QUOTA),
            (403, Fault.CREDENTIAL),
            (404, Fault.NOT_FOUND),
            (429, Fault.RATE_LIMIT),
            (500, Fault.SERVER),
            (503, Fault.CAPACITY),
        ):
            error = provider.classify(status=status, headers=(), body=body)
            self.assertEqual((error.fault, error.status), (fault, status))
            self.assertTrue(error.message.startswith(provider.name))
            assert error.reply is not None
            self.assertEqual((error.reply.status, error.reply.body), (status, body))


class RequestTests(QwenCase):
    """What goes over the wire."""

    def test_interfaces(self) -> None:
        """It renews, it takes answers out of envelopes, and it can be logged in to."""
        provider = self.provider()
        verifyObject(IRenewing, provider)
        verifyObject(IEnveloping, provider)
        verifyObject(ILogins, ILogins(FACTORY))

    def test_where_it_goes(self) -> None:
        """Where the login said, with https and /v1 where they lack; the configuration wins."""
        for told, url in (
            ("", "https://dashscope.aliyuncs.com/compatible-mode/v1"),
            ("portal.qwen.ai", "https://portal.qwen.ai/v1"),
            ("portal.qwen.ai/v1", "https://portal.qwen.ai/v1"),
            ("https://portal.qwen.ai/", "https://portal.qwen.ai/v1"),
            ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"),
        ):
            self.assertEqual(
                self.prepared(HI, resource_url=told).url, f"{url}/chat/completions", told
            )
        chosen = settings_of(qwen_base_url="https://a.test/x/v1")
        sent = self.prepared(HI, chosen, resource_url="portal.qwen.ai")
        self.assertEqual(sent.url, "https://a.test/x/v1/chat/completions")

    def test_headers(self) -> None:
        """The token, and what the service itself reads."""
        headers = dict(self.prepared(HI).headers)
        self.assertEqual(headers[b"authorization"], b"Bearer access-secret-1")
        self.assertEqual(headers[b"x-dashscope-authtype"], b"qwen-oauth")
        self.assertEqual(headers[b"x-dashscope-cachecontrol"], b"enable")
        self.assertNotIn("access-secret-1", repr(self.prepared(HI)))

    def test_nothing_without_a_token(self) -> None:
        """A request is not sent without one."""
        with self.assertRaises(UpstreamError) as caught:
            self.provider().prepare(
                request=parsed(HI), account=one_account(FACTORY.name, settings_of())
            )
        self.assertIs(caught.exception.fault, Fault.CREDENTIAL)

    def test_marked_as_discontinued(self) -> None:
        """Whoever looks at it learns that the free tier is over, and since when."""
        for text in (FACTORY.title, FACTORY.terms):
            self.assertIn("15 April 2026", text)

    def test_peculiarities(self) -> None:
        """Whatever a model is called here, it is one of Qwen's and keeps its thoughts."""
        traits = self.provider().traits(model="coder-model")
        self.assertEqual((traits.thinking, traits.family), ("enable", "qwen"))
        self.assertTrue(traits.replays_reasoning)
        self.assertIn("coder-model", self.provider().known_models)


class BodyTests(QwenCase):
    """What is changed in a body, and what is not."""

    def sent(self, body: bytes) -> bytes:
        """Return the body that goes out."""
        sent = self.prepared(body).body
        assert sent is not None
        return sent

    def test_as_the_real_client_writes_it(self) -> None:
        """One marked system message of parts in front, and tools: not a byte changes."""
        folder = Path(__file__).parent / "qwen_recordings"
        for path in folder.glob("*.json"):
            for separators in ((",", ":"), (", ", ": ")):
                told = json.loads(path.read_bytes())["body"]
                body = json.dumps(told, separators=separators).encode()
                self.assertEqual(self.sent(body), body)

    def test_a_system_prompt_becomes_parts(self) -> None:
        """A string becomes one marked part; its bytes, escapes and all, stay."""
        body = (
            b'{"model":"m", "messages":[ {"role":"system","content":"a\\ud83d\\u00e9"},'
            b'{"role":"user","content":"b"}],"x":1e400}'
        )
        self.assertEqual(
            self.sent(body),
            b'{"model":"m", "messages":[ {"role":"system","content":[{"type":"text","text":'
            b'"a\\ud83d\\u00e9","cache_control":{"type":"ephemeral"}}]},'
            b'{"role":"user","content":"b"}],"x":1e400}',
        )

    def test_all_are_put_together(self) -> None:
        """Developer messages, too, wherever they stand; only the last part is marked."""
        messages = [
            {"role": "user", "content": "1"},
            {"role": "developer", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": "2"},
            {"role": "system", "content": "b"},
        ]
        told = json.loads(self.sent(json.dumps({"model": "m", "messages": messages}).encode()))
        first, *rest = told["messages"]
        self.assertEqual([each["text"] for each in first["content"]], ["a", "b"])
        self.assertEqual(first["role"], "system")
        self.assertEqual(["cache_control" in each for each in first["content"]], [False, True])
        self.assertEqual(rest, [messages[0], messages[2]])

    def test_marks_of_the_client_count(self) -> None:
        """Where the client marked anything, nothing is marked by us: four marks are the most."""
        part = {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}
        messages = [{"role": "system", "content": "a"}, {"role": "user", "content": [part]}]
        body = json.dumps({"model": "m", "messages": messages}).encode()
        self.assertEqual(self.sent(body).count(b'"cache_control"'), 1)

    def test_without_one(self) -> None:
        """The service is given one that says nothing; no words are put into the prompt."""
        told = json.loads(self.sent(HI))
        empty = {"type": "text", "text": "", "cache_control": {"type": "ephemeral"}}
        self.assertEqual(told["messages"][0], {"role": "system", "content": [empty]})
        self.assertEqual(told["messages"][1:], json.loads(HI)["messages"])

    def test_nothing_but_system_messages(self) -> None:
        """They are put together as well."""
        messages = [{"role": "system", "content": text} for text in ("a", "b")]
        told = json.loads(self.sent(json.dumps({"model": "m", "messages": messages}).encode()))
        self.assertEqual([each["text"] for each in told["messages"][0]["content"]], ["a", "b"])
        self.assertEqual(len(told["messages"]), 1)
        told = json.loads(self.sent(b'{"model":"m","messages":[]}'))
        self.assertEqual(len(told["messages"]), 1)

    def test_content_of_no_form(self) -> None:
        """A system prompt that is a number is the caller's mistake."""
        with self.assertRaises(InvalidRequest) as caught:
            self.sent(b'{"model":"m","messages":[{"role":"system","content":[1]}]}')
        self.assertIn("messages[0].content", caught.exception.message)

    def test_a_tool_where_there_is_none(self) -> None:
        """Only a stream is given one; an empty list, which is refused, is left out."""
        for tools in (b"", b',"tools":[]', b',"tools":null'):
            for streaming in (True, False):
                flag = b"true" if streaming else b"false"
                body = b'{"model":"m","stream":%b%b,"messages":[]}' % (flag, tools)
                told = json.loads(self.sent(body))
                self.assertEqual(len(told.get("tools", ())), int(streaming), body)
                self.assertEqual("tools" in told, streaming)
        body = HI[:-1] + b',"tools":[{"type":"function","function":{"name":"f"}}]}'
        self.assertEqual(json.loads(self.sent(body))["tools"], json.loads(body)["tools"])


class CredentialTests(QwenCase):
    """From a credential document to a token."""

    def credential(self, settings: Any, *answers: MemoryResponse) -> Credential:
        """Return the credential of an account."""
        account = one_account(FACTORY.name, settings)
        return self.successResultOf(self.provider(*answers).credential(account=account))

    def refused(self, settings: Any, *answers: MemoryResponse) -> UpstreamError:
        """Return why there is none."""
        account = one_account(FACTORY.name, settings)
        asking = self.provider(*answers).credential(account=account)
        error = self.failureResultOf(asking, UpstreamError).value
        assert isinstance(error, UpstreamError)
        return error

    def kept(self, settings: Any) -> Mapping[str, Any]:
        """Return the document that an account has by now."""
        keeper = self.provider()._keeper(one_account(FACTORY.name, settings))
        return self.successResultOf(keeper.current())

    def answer(self, status: int, **told: Any) -> MemoryResponse:
        """Return an answer of the login service."""
        return MemoryResponse(status, JSON, [json.dumps(told).encode()])

    def test_a_good_one(self) -> None:
        """Token and address come from the document; both tokens are secrets."""
        found = self.credential(settings_of(GOOD))
        self.assertEqual(
            (found.token, found.details["resource_url"]), ("access-secret-1", "portal.qwen.ai")
        )
        self.assertEqual(found.secrets, ("access-secret-1", "refresh-secret-1"))
        self.assertEqual(self.way.sent, [])

    def test_thirty_seconds_before_its_end(self) -> None:
        """It is renewed by a form, under our own name, and its address may move."""
        fresh = {**FRESH, "resource_url": "b.test"}
        old = {**GOOD, "expiry_date": (NOW + 30) * 1000, "scope": "kept"}
        found = self.credential(settings_of(old), self.answer(200, **fresh))
        self.assertEqual((found.token, found.details["resource_url"]), ("a2", "b.test"))
        sent = self.way.sent[0].request
        self.assertEqual(sent.url, "https://chat.qwen.ai/api/v1/oauth2/token")
        self.assertEqual(
            sent.body,
            b"grant_type=refresh_token&refresh_token=refresh-secret-1"
            b"&client_id=f0304373b74a44d2b584a3fb70ca9e56",
        )
        document = self.kept(settings_of(old))
        self.assertEqual(document["expiry_date"], (NOW + 100) * 1000)
        self.assertEqual((document["token_type"], document["scope"]), ("Bearer", "kept"))

    def test_a_raw_answer_of_the_login(self) -> None:
        """Since when it lasts nobody knows: it is renewed first, and complete then."""
        raw = {key: GOOD[key] for key in ("access_token", "refresh_token", "token_type")}
        settings = settings_of({**raw, "expires_in": 9})
        found = self.credential(settings, self.answer(200, **FRESH))
        self.assertEqual(found.token, "a2")
        self.assertEqual(self.kept(settings)["expiry_date"], (NOW + 100) * 1000)

    def test_what_lacks_something(self) -> None:
        """Qwen Code would refuse the file; so do we, say what is missing, and renew nothing."""
        for key in ("refresh_token", "token_type", "expiry_date"):
            for wrong in ({}, {key: None}, {key: [1]}):
                document = {name: value for name, value in GOOD.items() if name != key} | wrong
                error = self.refused(settings_of(document))
                self.assertIs(error.fault, Fault.CREDENTIAL)
                self.assertIn(key, error.message)
                self.assertNotIn("secret", error.message)
                self.assertIn("aiclient2api login openai-qwen-oauth", error.message)
                self.assertEqual(self.way.sent, [])

    def test_a_document_with_a_refresh_token_only(self) -> None:
        """It is made whole by the first renewal."""
        settings = settings_of({"refresh_token": "refresh-secret-1"})
        self.assertEqual(self.credential(settings, self.answer(200, **FRESH)).token, "a2")

    def test_a_dead_refresh_token(self) -> None:
        """A 400 or a 401 is final, and says how to log in again, and that it may not help."""
        old = settings_of({**GOOD, "expiry_date": 1})
        for status in (400, 401):
            self.book = Book(self.clock)
            error = self.refused(old, self.answer(status, error="invalid_grant"))
            self.assertIs(error.fault, Fault.CREDENTIAL)
            self.assertIn("login openai-qwen-oauth", error.message)
            self.assertIn("15 April 2026", error.message)

    def test_what_passes(self) -> None:
        """Anything else is tried again later."""
        old = settings_of({**GOOD, "expiry_date": 1})
        for answer, fault, told in (
            (self.answer(403), Fault.SERVER, 7.0),
            (self.answer(429, error="slow_down"), Fault.RATE_LIMIT, 7.0),
            (self.answer(503), Fault.SERVER, 7.0),
            (MemoryResponse(200, JSON, [b'{"status":"pending"}']), Fault.SERVER, 7.0),
            (MemoryResponse(200, (), [b"<html>"]), Fault.SERVER, None),
        ):
            self.book = Book(self.clock)
            answer.headers = ((b"retry-after", b"7"),)
            error = self.refused(old, answer)
            self.assertEqual((error.fault, error.retry_after), (fault, told))

    def test_no_credential(self) -> None:
        """Neither a file nor base64, or base64 of something else."""
        for settings in (
            settings_of(),
            settings_of(qwen_oauth_creds_base64="%"),
            settings_of(qwen_oauth_creds_base64=base64.b64encode(b"[1]").decode()),
        ):
            self.assertEqual(self.refused(settings).code, "no_credential")
            account = one_account(FACTORY.name, settings)
            early = self.provider().renew_early(account=account, seconds=1.0)
            self.assertIsInstance(self.successResultOf(early), UpstreamError)
            self.assertEqual(self.provider().version(account=account), "")

    def test_the_lock_of_the_real_client(self) -> None:
        """Beside its own file stands its own lock; beside others the one that others use."""
        for name, lock in (
            ("oauth_creds.json", "oauth_creds.lock"),
            ("17_oauth_creds.json", None),
        ):
            folder = Path(self.mktemp())
            folder.mkdir()
            (folder / name).write_text(json.dumps(GOOD))
            self.credential(settings_of(qwen_oauth_creds_file_path=folder / name))
            source = self.book.sources[-1]
            self.assertEqual(source.path, folder / name)
            self.assertEqual(source.lock, lock and folder / lock)

    def test_early(self) -> None:
        """A timer renews it before anybody waits; what went wrong is a result."""
        account = one_account(FACTORY.name, settings_of(GOOD))
        provider = self.provider(self.answer(200, **FRESH), self.answer(400))
        before = provider.version(account=account)

        def early(seconds: float) -> Any:
            return self.successResultOf(provider.renew_early(account=account, seconds=seconds))

        self.assertIsNone(early(3599.0))
        self.assertEqual(self.way.sent, [])
        self.assertIsNone(early(3601.0))
        self.assertNotEqual(provider.version(account=account), before)
        self.clock.advance(60)
        self.assertIs(early(99999.0).fault, Fault.CREDENTIAL)

    def test_moments(self) -> None:
        """Milliseconds, seconds, and a date as another gateway writes it; else none."""
        for document, moment in (
            ({"expiry_date": NOW * 1000}, NOW),
            ({"expiry_date": NOW}, NOW),
            ({"expired": "2027-01-15T16:00:00+08:00"}, NOW),
            ({"expired": "2027-01-15T08:00:00"}, NOW),
            ({"expired": 3}, 0.0),
            ({"expiry_date": True}, 0.0),
            ({"expiry_date": float("inf")}, 0.0),
            ({"expiry_date": 10**400}, 0.0),
            ({}, 0.0),
        ):
            self.assertEqual(expiry(document), moment, document)

    def test_documents(self) -> None:
        """An answer without a refresh token keeps the old one; without a token it is none."""
        self.assertNotIn("refresh_token", document_of({"access_token": "a"}, now=0.0))
        self.assertEqual(document_of({"access_token": "a"}, now=0.0)["expiry_date"], 21600000)
        with self.assertRaises(ValueError):
            document_of({"access_token": 3}, now=0.0)

    def test_nonsense_about_the_lifetime(self) -> None:
        """It is not believed, and costs nobody the tokens that it came with."""
        for lasts in (0, -1, 1e9, 1e308, 10**400, "soon", None, True):
            told = {"access_token": "a", "expires_in": lasts}
            self.assertEqual(document_of(told, now=0.0)["expiry_date"], 21600000, lasts)


class ErrorTests(QwenCase):
    """What its errors mean."""

    def test_a_spent_day(self) -> None:
        """Whatever its status, it is a quota, over at midnight in Beijing."""
        for status, error in (
            (403, {"code": "insufficient_quota", "message": "x"}),
            (403, {"type": "quota_exceeded", "message": "x"}),
            (403, {"message": "Free allocated quota exceeded."}),
            (429, {"code": "insufficient_quota", "message": "x"}),
            (429, {"message": "free allocated quota exceeded"}),
        ):
            found = self.classified(status, error, DATE)
            self.assertEqual((found.fault, found.status), (Fault.QUOTA, 429))
            # 08:00 in Greenwich is 16:00 there.
            self.assertEqual(found.retry_after, 8 * 3600)
            assert found.reply is not None
            self.assertEqual(found.reply.status, 429)

    def test_midnight(self) -> None:
        """A second before it is a second; at midnight it is a day; without a date, nobody knows."""
        spent = {"code": "insufficient_quota", "message": "x"}
        for date, wait in (
            (b"Thu, 15 Jan 2026 15:59:59 GMT", 1),
            (b"Thu, 15 Jan 2026 16:00:00 GMT", 86400),
            (b"nonsense", None),
        ):
            found = self.classified(403, spent, ((b"date", date),))
            self.assertEqual(found.retry_after, wait)

    def test_a_minute(self) -> None:
        """Too many requests in a minute are a rate limit, and no quota."""
        found = self.classified(429, {"code": "limit_requests", "message": "slow"}, DATE)
        self.assertEqual((found.fault, found.retry_after), (Fault.RATE_LIMIT, None))

    def test_a_refused_token(self) -> None:
        """By its status or by its words; and the message says that it may stay so."""
        for status, message in (
            (401, "invalid access token or token expired"),
            (403, "nothing in particular"),
            (400, "Invalid API key provided"),
            (400, "Access denied."),
        ):
            found = self.classified(status, {"message": message})
            self.assertIs(found.fault, Fault.CREDENTIAL, message)
            self.assertIn("15 April 2026", found.message)

    def test_other_errors(self) -> None:
        """Words of refusal in an error of another kind change nothing."""
        for status, error, fault in (
            (400, {"message": "max_tokens is too large"}, Fault.CALLER),
            (400, {"code": "data_inspection_failed", "message": "forbidden"}, Fault.POLICY),
            (429, {"message": "forbidden to ask so often"}, Fault.RATE_LIMIT),
            (500, {"message": "authentication backend"}, Fault.SERVER),
        ):
            self.assertIs(self.classified(status, error).fault, fault)


class ModelTests(QwenCase):
    """Which models there are."""

    def test_asked_with_a_token(self) -> None:
        """Without one at hand, one is got first."""
        body = b'{"data":[{"id":"m-1"}]}'
        provider = self.provider(MemoryResponse(200, JSON, [body]))
        account = one_account(FACTORY.name, settings_of(GOOD))
        found = self.successResultOf(provider.models(account=account))
        self.assertEqual([each.id for each in found], ["m-1"])
        sent = self.way.sent[0].request
        self.assertEqual(sent.url, "https://portal.qwen.ai/v1/models")
        self.assertEqual(dict(sent.headers)[b"authorization"], b"Bearer access-secret-1")

    def test_where_there_is_no_list(self) -> None:
        """A 404 is no fault: the models that are known are told."""
        provider = self.provider(MemoryResponse(404, JSON, [b"{}"]))
        found = self.successResultOf(provider.models(account=account_of(settings_of())))
        self.assertEqual([each.id for each in found], list(provider.known_models))


class LoopbackTests(WireCase):
    """All of it against the services, over loopback, through a real exchange."""

    async def setUp(self) -> None:  # type: ignore[override]
        """Start the services, and log in."""
        super().setUp()
        self.clock = Clock()
        self.clock.advance(NOW)
        self.qwen = FakeQwen(seconds=self.clock.seconds)
        await self.qwen.listen(REACTOR)
        self.addCleanup(self.qwen.stop)
        folder = Path(self.mktemp())
        folder.mkdir()
        self.file = folder / "oauth_creds.json"
        self.file.write_text(json.dumps(self.qwen.log_in()))
        runtime = Runtime(clock=self.clock, upstream=self.upstream(), tokens=Book(self.clock))
        self.provider = FACTORY.provider(name=FACTORY.name, runtime=runtime)
        settings = settings_of(
            qwen_oauth_creds_file_path=self.file, qwen_oauth_base_url=self.qwen.url
        )
        self.pool = FixedPool([one_account(FACTORY.name, settings)])

    async def ask(self, body: bytes = HI) -> bytes:
        """Ask for an answer as a client does; return it."""
        self.reply, request = MemoryReply(), parsed(body)

        async def convert(way: Way) -> Any:
            return relayed(request, source=OPENAI_CHAT)

        exchange = Exchange(
            record=ExchangeRecord(
                id="x1", caller="c", request=request, provider=FACTORY.name, model="m", began=NOW
            ),
            ways=[Way(self.provider, self.pool, "coder-model", "default")],
            convert=convert,
            reply=self.reply,
            patience=Patience(wait=0.0, response_headers=0.0, first_event=0.0, idle=0.0),
            clock=self.clock,
            jitter=lambda: 0.0,
            observers=MemoryObserver(),
        )
        await exchange.run()
        return self.reply.body

    async def failing(self) -> UpstreamError:
        """Ask, and return the error."""
        return await self.failure(Deferred.fromCoroutine(self.ask()))

    def stored(self) -> Any:
        """Return the credential file."""
        return json.loads(self.file.read_text())

    async def test_an_answer(self) -> None:
        """It comes with its thoughts, as it was sent."""
        self.qwen.replies.append(QwenReply("Hel lo", "Hm hm"))
        told = await self.ask()
        for piece in (b'"Hm "', b'"hm"', b'"Hel "', b'"lo"', b"[DONE]"):
            self.assertIn(piece, told)

    async def test_whole(self) -> None:
        """Without a stream, too."""
        told = json.loads(await self.ask(HI.replace(b"true", b"false")))
        self.assertEqual(told["choices"][0]["message"]["content"], "Hello!")
        self.assertNotIn("tools", self.qwen.chats[0])

    async def test_rotation(self) -> None:
        """Tokens are renewed each time they expire, and no refresh token is used twice."""
        for round in range(1, 5):
            await self.ask()
            self.assertEqual(self.qwen.refreshed, round - 1)
            self.clock.advance(21600 - 30)
        self.assertEqual(self.qwen.burnt, 0)
        self.assertTrue(self.qwen.is_good(self.stored()["access_token"]))

    async def test_a_revoked_token(self) -> None:
        """The client never learns of it: it is renewed once, and asked again."""
        self.qwen.revoke(self.stored()["access_token"])
        self.assertIn(b"Hello!", await self.ask())
        self.assertEqual(self.qwen.refreshed, 1)
        self.assertEqual(self.pool.ends(), ["succeeded"])

    async def test_an_address_that_moves(self) -> None:
        """From the renewal on, requests go where it says."""
        other = FakeQwen(seconds=self.clock.seconds)
        await other.listen(REACTOR)
        self.addCleanup(other.stop)
        self.qwen.resource_url = other.url
        self.qwen.revoke(self.stored()["access_token"])
        error = await self.failing()
        self.assertEqual(error.status, 401)
        self.assertEqual(self.stored()["resource_url"], other.url)
        self.assertEqual(other.requests[0].target, "/v1/chat/completions")

    async def test_after_the_end(self) -> None:
        """The tokens are renewed, and refused all the same: the message says why."""
        self.qwen.discontinued = True
        error = await self.failing()
        self.assertIs(error.fault, Fault.CREDENTIAL)
        self.assertIn("15 April 2026", error.message)
        self.assertEqual(len(self.qwen.requests), 3)

    async def test_a_spent_day(self) -> None:
        """No renewal helps against it, and none is tried."""
        for status in (403, 429):
            self.qwen.refusals.append(self.qwen.quota_used_up(status))
            error = await self.failing()
            self.assertIs(error.fault, Fault.QUOTA)
            self.assertEqual(error.retry_after, 8 * 3600)
        self.assertEqual(self.qwen.refreshed, 0)

    async def test_a_dead_account(self) -> None:
        """Its file is left where it is."""
        first = self.stored()
        await self.ask()
        self.clock.advance(21600)
        await self.ask()
        self.file.write_text(json.dumps(first))
        self.provider = attrs.evolve(cast(Any, self.provider), tokens=Book(self.clock))
        error = await self.failing()
        self.assertIs(error.fault, Fault.CREDENTIAL)
        self.assertEqual((self.qwen.burnt, self.stored()), (1, first))

    async def test_system_messages(self) -> None:
        """What would be refused otherwise is answered."""
        body = json.loads(HI)
        body["messages"].append({"role": "developer", "content": "d"})
        self.assertIn(b"Hello!", await self.ask(json.dumps(body).encode()))

    async def test_poison(self) -> None:
        """A model that says nonsense without tools is kept quiet, and stray calls are dropped."""
        self.qwen.poisoned = True
        self.assertIn(b"Hello!", await self.ask())
        self.qwen.replies.append(
            QwenReply("So.", calls=(Call("c", "stray", '{"a":1}'),), nothing_offered=True)
        )
        told = await self.ask()
        self.assertNotIn(b"stray", told)
        self.assertNotIn(b"tool_calls", told)
        self.assertIn(b'"finish_reason":"stop"', told)
        self.assertIn(b"[DONE]", told)

    async def test_models(self) -> None:
        """The list of the service."""
        account = self.pool.snapshot()[0]
        found = await self.provider.models(account=account)
        self.assertIn("coder-model", [each.id for each in found])
