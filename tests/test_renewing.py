"""Credentials that expire, and answers in envelopes: what an exchange makes of them."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from aiclient2api.dialects.convert import Converted, relayed
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.exchange import Exchange, Patience, Way
from aiclient2api.interfaces import (
    IEnvelope,
    IEnveloping,
    IProvider,
    IRenewing,
    IWireRequest,
)
from aiclient2api.providers.openai_custom import openai_custom as FACTORY
from aiclient2api.testing import (
    FixedPool,
    MemoryObserver,
    MemoryReply,
    MemoryResponse,
    MemoryUpstream,
    chat_chunks,
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

STREAM = b"".join(chat_chunks(["hi"]))
SSE = ((b"content-type", b"text/event-stream"),)
JSON = ((b"content-type", b"application/json"),)


@implementer(IEnvelope)
class Shifted:
    """An envelope: every byte is one more than it should be."""

    content_type = b"text/event-stream"
    marks_end = True

    def open(self, data: bytes) -> bytes:
        """Return the bytes as they should be."""
        if b"\x00" in data:
            raise UpstreamError("It is damaged.", fault=Fault.SERVER, status=502)
        return bytes(byte - 1 for byte in data)

    def end(self) -> bytes:
        """Return nothing."""
        return b""

    @staticmethod
    def shut(data: bytes) -> bytes:
        """Put bytes into the envelope."""
        return bytes(byte + 1 for byte in data)


@implementer(IProvider, IRenewing, IEnveloping)
class Renewing:
    """A provider whose credential is renewed; it asks with the token as its key."""

    def __init__(self, upstream: MemoryUpstream, clock: Clock, *, enveloped: bool) -> None:
        self._plain = FACTORY.provider(
            name="renewing", runtime=Runtime(clock=clock, upstream=upstream)
        )
        self.name = "renewing"
        self.dialect = self._plain.dialect
        self.upstream = upstream
        self.known_models = ()
        self.counts_tokens = False
        self.traits = self._plain.traits
        self.classify = self._plain.classify
        self.models = self._plain.models
        self.tokens: list[str | Exception | Deferred[Credential]] = []
        self.refused: list[str | None] = []
        self._enveloped = enveloped

    def prepare(self, *, request: IWireRequest, account: Account) -> UpstreamRequest:
        """Dress a request with the token."""
        assert account.credential is not None
        sent: UpstreamRequest = self._plain.prepare(request=request, account=account)
        token = account.credential.token.encode()
        return attrs.evolve(sent, headers=(*sent.headers, (b"x-token", token)))

    def credential(
        self, *, account: Account, refused: Credential | None = None
    ) -> Deferred[Credential]:
        """Return the next token."""
        self.refused.append(None if refused is None else refused.token)
        token = self.tokens.pop(0)
        if isinstance(token, Exception):
            return fail(token)
        if isinstance(token, str):
            return succeed(Credential(token, secrets=(token,)))
        return token

    def renew_early(self, *, account: Account, seconds: float) -> Deferred[object]:
        """Do nothing."""
        return succeed(None)

    def version(self, *, account: Account) -> str:
        """Return always the same."""
        return ""

    def envelope(self, *, request: IWireRequest) -> IEnvelope | None:
        """Return an envelope if there is one."""
        return Shifted() if self._enveloped else None


class RenewingTests(SynchronousTestCase):
    """One account whose credential is renewed."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.observer, self.reply = MemoryObserver(), MemoryReply()

    def exchange(
        self,
        answers: list[MemoryResponse],
        *tokens: Any,
        enveloped: bool = False,
        body: bytes = b'{"model":"m","messages":[],"stream":true}',
    ) -> Deferred[None]:
        """Start an exchange whose account has *tokens*, one after the other."""
        self.upstream = MemoryUpstream(answers, clock=self.clock)
        self.provider = Renewing(self.upstream, self.clock, enveloped=enveloped)
        self.provider.tokens = list(tokens)
        settings = FACTORY.settings(openai_api_key="", openai_base_url="http://127.0.0.1:1/v1")
        self.pool = FixedPool([one_account("renewing", settings)])
        request = OPENAI_CHAT.parse(body=body, route=Route(action="generate"))

        async def convert(way: Way) -> Converted:
            return relayed(request, source=OPENAI_CHAT)

        exchange = Exchange(
            record=ExchangeRecord(
                id="x1", caller="c", request=request, provider="renewing", model="m", began=0.0
            ),
            ways=[Way(self.provider, self.pool, "m", "default")],
            convert=convert,
            reply=self.reply,
            patience=Patience(wait=0.0, total=30.0),
            clock=self.clock,
            jitter=lambda: 0.0,
            observers=self.observer,
        )
        return Deferred.fromCoroutine(exchange.run())

    def sent_with(self) -> list[bytes]:
        """Return the token of each attempt."""
        return [dict(sent.request.headers)[b"x-token"] for sent in self.upstream.sent]

    def test_it_keeps_its_contract(self) -> None:
        """The double provides what it says."""
        self.exchange([MemoryResponse(200, SSE, [STREAM])], "token-1")
        for interface in (IProvider, IRenewing, IEnveloping):
            self.assertTrue(verifyObject(interface, self.provider))
        self.assertTrue(verifyObject(IEnvelope, Shifted()))

    def test_it_is_asked_with_what_it_has_now(self) -> None:
        """The credential is fetched before each attempt."""
        self.successResultOf(self.exchange([MemoryResponse(200, SSE, [STREAM])], "token-1"))
        self.assertEqual(self.sent_with(), [b"token-1"])
        self.assertEqual(self.provider.refused, [None])
        self.assertEqual(self.pool.ends(), ["succeeded"])

    def test_a_refused_one_is_renewed_once(self) -> None:
        """A 401 is asked again with another one, at once, and the client never learns of it."""
        answers = [MemoryResponse(401, JSON, [b"{}"]), MemoryResponse(200, SSE, [STREAM])]
        self.successResultOf(self.exchange(answers, "token-1", "token-2"))
        self.assertEqual(self.sent_with(), [b"token-1", b"token-2"])
        self.assertEqual(self.provider.refused, [None, "token-1"])
        self.assertEqual(self.reply.body, STREAM)
        self.assertEqual(self.pool.ends(), ["succeeded"])

    def test_only_once(self) -> None:
        """Refused again, it is the account's fault."""
        answers = [MemoryResponse(401, JSON, [b"{}"]) for _ in range(2)]
        done = self.exchange(answers, "token-1", "token-2")
        self.assertEqual(self.failureResultOf(done, UpstreamError).value.status, 401)
        self.assertEqual(self.pool.ends(), ["failed"])

    def test_without_one_nothing_is_sent(self) -> None:
        """What kept it from being renewed is told of the account."""
        error = UpstreamError("Log in again.", fault=Fault.CREDENTIAL, status=401)
        done = self.exchange([], error)
        self.assertIn("Log in", str(self.failureResultOf(done, UpstreamError).value))
        self.assertEqual(self.pool.ends(), ["failed"])

    def test_leaving_while_it_is_renewed(self) -> None:
        """The wait is given up, and the lease with it."""
        waiting: Deferred[Credential] = Deferred()
        done = self.exchange([], waiting)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(self.pool.ends(), ["abandoned"])

    def test_a_renewal_that_hangs_ends_with_the_exchange(self) -> None:
        """The total clock runs over it, too."""
        done = self.exchange([], Deferred())
        self.clock.advance(30)
        self.assertEqual(self.failureResultOf(done, UpstreamError).value.status, 504)

    def test_a_token_is_shown_to_nobody(self) -> None:
        """An upstream that quotes it is cut short."""
        quoting = MemoryResponse(400, JSON, [b'{"error":{"message":"bad token-secret-1"}}'])
        error = self.failureResultOf(self.exchange([quoting], "token-secret-1")).value
        assert isinstance(error, UpstreamError) and error.reply is not None
        self.assertNotIn("token-secret-1", error.message)
        self.assertNotIn(b"token-secret-1", error.reply.body)

    def test_an_answer_is_taken_out_of_its_envelope(self) -> None:
        """Whatever the upstream calls it, the client gets its dialect's own."""
        kind: Headers = ((b"content-type", b"application/vnd.shifted"),)
        pieces = [Shifted.shut(STREAM[:40]), Shifted.shut(STREAM[40:])]
        done = self.exchange([MemoryResponse(200, kind, pieces)], "token-1", enveloped=True)
        self.successResultOf(done)
        self.assertEqual(self.reply.body, STREAM)
        self.assertEqual(self.reply.header(b"content-type"), b"text/event-stream; charset=utf-8")

    def test_a_damaged_envelope_is_an_error(self) -> None:
        """Before the first byte of the answer, a real one."""
        done = self.exchange(
            [MemoryResponse(200, SSE, [b"\x00"]) for _ in range(4)],
            *["token-1"] * 4,
            enveloped=True,
        )
        self.clock.pump([1, 2, 4])
        self.assertEqual(self.failureResultOf(done, UpstreamError).value.status, 502)
