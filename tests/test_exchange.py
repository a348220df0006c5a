"""The exchange: attempts, waits and ends, over an upstream in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.dialects.convert import Converted, relayed
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.errors import Fault, UnknownModel, UpstreamError
from aiclient2api.exchange import Exchange, Patience, Way
from aiclient2api.providers.openai_custom import openai_custom as FACTORY
from aiclient2api.testing import (
    FixedPool,
    MemoryObserver,
    MemoryReply,
    MemoryResponse,
    MemoryUpstream,
    chat_body,
    chat_chunks,
    one_account,
)
from aiclient2api.values import ExchangeRecord, Headers, Route, Runtime, Usage

USAGE = Usage(input=3, output=1, cached=2, reasoning=0)
STREAM = b"".join(chat_chunks(["hi"], usage=USAGE))
SSE = ((b"content-type", b"text/event-stream"),)
JSON = ((b"content-type", b"application/json"),)


def refused() -> UpstreamError:
    """Return a connection that could not be made."""
    return UpstreamError("nobody listens", fault=Fault.UNREACHABLE, status=502)


class ExchangeTests(SynchronousTestCase):
    """One request against scripted answers."""

    def setUp(self) -> None:
        """Wait without jitter, on a clock of our own."""
        self.clock = Clock()
        self.observer = MemoryObserver(wants_text=True)
        self.reply = MemoryReply()

    def exchange(
        self,
        answers: Sequence[MemoryResponse | Exception | None],
        *,
        streaming: bool = True,
        patience: Patience = Patience(),  # noqa: B008
        waits: bool = False,
        supported: tuple[str, ...] = (),
    ) -> Deferred[None]:
        """Start an exchange whose attempts get *answers*."""
        self.upstream = MemoryUpstream(answers, clock=self.clock)
        provider = FACTORY.provider(
            name="openai-custom", runtime=Runtime(clock=self.clock, upstream=self.upstream)
        )
        settings = FACTORY.settings(
            openai_api_key="sk-test-1", openai_base_url="http://127.0.0.1:1/v1"
        )
        account = one_account("openai-custom", settings, supported=supported)
        self.pool = FixedPool([account], waits=waits)
        body = b'{"model":"m","messages":[],"stream":%s}' % (b"true" if streaming else b"false")
        request = OPENAI_CHAT.parse(body=body, route=Route(action="generate"))

        async def convert(way: Way) -> Converted:
            return relayed(request, source=OPENAI_CHAT)

        exchange = Exchange(
            record=ExchangeRecord(
                id="x1", caller="c", request=request, provider="openai-custom", model="m", began=0.0
            ),
            ways=[Way(provider, self.pool, "m", "default")],
            convert=convert,
            reply=self.reply,
            patience=patience,
            clock=self.clock,
            jitter=lambda: 0.0,
            observers=self.observer,
        )
        return Deferred.fromCoroutine(exchange.run())

    def assert_over(self, how: str, *leases: str) -> None:
        """The exchange ended in this way, once; each lease ended once."""
        self.assertEqual(self.pool.ends(), list(leases))
        self.assertEqual(self.observer.outcomes["x1"].how, how)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_answer_is_relayed_and_booked(self) -> None:
        """Status, passed headers, bytes, usage and text."""
        answer = MemoryResponse(200, (*SSE, (b"set-cookie", b"s=1")), [STREAM])
        self.successResultOf(self.exchange([answer]))
        self.assertEqual((self.reply.status, self.reply.body), (200, STREAM))
        self.assertEqual(self.reply.header(b"content-type"), b"text/event-stream")
        self.assertIsNone(self.reply.header(b"set-cookie"))
        self.assert_over("complete", "succeeded")
        outcome = self.observer.outcomes["x1"]
        self.assertEqual((outcome.text, outcome.usage), ("hi", USAGE))
        self.assertEqual(self.observer.told, ["began", "first_byte", "attempt", "ended"])

    def test_a_refused_connection_is_tried_again(self) -> None:
        """With growing waits, and the client never learns of it."""
        done = self.exchange([refused(), refused(), MemoryResponse(200, SSE, [STREAM])])
        self.clock.advance(1)
        self.assertNoResult(done)
        self.clock.advance(2)
        self.successResultOf(done)
        self.assertEqual(self.reply.body, STREAM)
        self.assert_over("complete", "succeeded")

    def test_retries_end(self) -> None:
        """After request_max_retries the last error is the answer."""
        done = self.exchange([refused()] * 3, patience=Patience(max_retries=2))
        self.clock.pump([1, 2])
        self.failureResultOf(done, UpstreamError)
        self.assertEqual(len(self.upstream.sent), 3)
        self.assert_over("failed", "failed")

    def test_an_error_answer_is_kept_verbatim(self) -> None:
        """Its status and body are what a client of the same dialect gets."""
        body = b'{"error": {"message": "no such model", "code": "model_not_found"}}'
        done = self.exchange([MemoryResponse(404, JSON, [body])])
        error = self.failureResultOf(done, UpstreamError).value
        assert error.reply is not None
        self.assertEqual((error.status, error.reply.body), (404, body))
        self.assert_over("failed", "failed")

    def test_a_credential_echoed_by_the_upstream_is_cut_out(self) -> None:
        """Neither the caller nor the log sees the account's key."""
        body = b'{"error": {"message": "Incorrect API key provided: sk-test-1"}}'
        error = self.failureResultOf(self.exchange([MemoryResponse(401, JSON, [body])])).value
        assert isinstance(error, UpstreamError) and error.reply is not None
        self.assertNotIn(b"sk-test-1", error.reply.body)
        self.assertNotIn("sk-test-1", error.message)

    def test_a_rate_limit_is_waited_for_as_long_as_it_says(self) -> None:
        """``Retry-After: 7`` is seven seconds."""
        limited = MemoryResponse(429, (*JSON, (b"retry-after", b"7")), [b"{}"])
        done = self.exchange([limited, MemoryResponse(200, SSE, [STREAM])])
        self.clock.advance(6.9)
        self.assertEqual(len(self.upstream.sent), 1)
        self.clock.advance(0.2)
        self.successResultOf(done)

    def test_a_long_rate_limit_is_passed_on(self) -> None:
        """At once, with its Retry-After."""
        limited = MemoryResponse(429, (*JSON, (b"retry-after", b"3600")), [b'{"error":{}}'])
        error = self.failureResultOf(self.exchange([limited]), UpstreamError).value
        self.assertEqual((error.status, error.retry_after), (429, 3600))

    def test_an_error_as_first_event_is_an_attempt_that_failed(self) -> None:
        """A 200 that turns out to be an error is tried again like one."""
        error = b'data: {"error":{"message":"busy","type":"server_error","code":503}}\n\n'
        done = self.exchange(
            [MemoryResponse(200, SSE, [error]), MemoryResponse(200, SSE, [STREAM])]
        )
        self.clock.advance(1)
        self.successResultOf(done)
        self.assertEqual(self.reply.body, STREAM)

    def test_nothing_is_tried_again_after_the_first_byte(self) -> None:
        """A cut stream ends in an error; the account is told."""
        cut = b"".join(chat_chunks(["hi"])[:2])
        done = self.exchange([MemoryResponse(200, SSE, [cut], end=ConnectionLost())])
        self.successResultOf(done)
        self.assertEqual(len(self.upstream.sent), 1)
        self.assert_over("truncated", "failed")

    def test_a_whole_answer_cut_off_is_tried_again(self) -> None:
        """Nothing was sent, so nothing is lost but time."""
        body = chat_body("hello")
        done = self.exchange(
            [MemoryResponse(200, JSON, [body[:20]]), MemoryResponse(200, JSON, [body])],
            streaming=False,
        )
        self.clock.advance(1)
        self.successResultOf(done)
        self.assertEqual(self.reply.body, body)
        self.assertEqual(self.reply.header(b"content-length"), b"%d" % len(body))

    def test_headers_that_never_come_are_given_up(self) -> None:
        """The response_headers clock closes the connection."""
        done = self.exchange([None], patience=Patience(response_headers=5))
        self.clock.advance(5)
        error = self.failureResultOf(done, UpstreamError).value
        self.assertEqual((error.fault, error.status), (Fault.TIMEOUT, 504))
        self.assertIn("timeouts.response_headers", error.message)
        self.assertTrue(self.upstream.sent[0].cancelled)
        self.assert_over("failed", "failed")

    def test_a_stalled_error_answer_keeps_its_status(self) -> None:
        """After ten seconds what came of it is enough to say what is wrong."""
        stalled = MemoryResponse(401, JSON, [b'{"error":{"message":"bad key"}}'], end=None)
        done = self.exchange([stalled])
        self.clock.advance(9.9)
        self.assertNoResult(done)
        self.clock.advance(0.1)
        error = self.failureResultOf(done, UpstreamError).value
        self.assertEqual((error.fault, error.status), (Fault.CREDENTIAL, 401))
        self.assertIn("bad key", error.message)
        self.assertTrue(stalled.aborted)
        self.clock.advance(0)
        self.assert_over("failed", "failed")

    def test_a_stalled_error_answer_ends_with_the_total_clock(self) -> None:
        """No longer than the whole exchange may take."""
        stalled = MemoryResponse(500, JSON, [b"{"], end=None)
        done = self.exchange([stalled], patience=Patience(total=4))
        self.clock.advance(4)
        self.assertEqual(self.failureResultOf(done, UpstreamError).value.status, 500)

    def test_a_status_without_a_body_is_no_answer(self) -> None:
        """A 204 or 205 is told as what it is, at once."""
        for status in (204, 205):
            self.setUp()
            nothing = MemoryResponse(status, (), end=None)
            done = self.exchange([nothing])
            error = self.failureResultOf(done, UpstreamError).value
            self.assertEqual((error.fault, error.status), (Fault.SERVER, 502))
            self.assertEqual(error.code, "no_answer")
            self.assertIn(f"answered {status} without an answer", error.message)
            self.assertTrue(nothing.aborted)
            self.clock.advance(0)
            self.assert_over("failed", "failed")

    def test_the_total_clock_runs_over_all_attempts(self) -> None:
        """Waits and attempts together get that long, no matter which is under way."""
        done = self.exchange([refused(), None], patience=Patience(total=4))
        self.clock.pump([1, 2.9])
        self.assertNoResult(done)
        self.clock.advance(0.1)
        error = self.failureResultOf(done, UpstreamError).value
        self.assertIn("timeouts.total", error.message)

    def test_a_client_that_leaves_ends_it_in_every_phase(self) -> None:
        """Waiting for an account, for headers, between attempts, in the stream."""
        first = b"".join(chat_chunks(["hi"])[:2])
        phases: tuple[tuple[list[Any], bool, list[str]], ...] = (
            ([], True, []),
            ([None], False, ["abandoned"]),
            ([refused(), None], False, ["abandoned"]),
            ([MemoryResponse(200, SSE, [], end=None)], False, ["abandoned"]),
            ([MemoryResponse(200, SSE, [first], end=None)], False, ["abandoned"]),
            ([MemoryResponse(500, JSON, [b"{"], end=None)], False, ["abandoned"]),
        )
        for answers, waits, ends in phases:
            self.setUp()
            done = self.exchange(answers, waits=waits)
            self.assertNoResult(done)
            done.cancel()
            self.failureResultOf(done, CancelledError)
            self.clock.advance(0)
            self.assert_over("cancelled", *ends)
            for sent in self.upstream.sent:
                answer = sent.answer
                closed = answer.aborted if isinstance(answer, MemoryResponse) else True
                self.assertTrue(sent.cancelled or (answer is not None and closed))
            self.assertIsNone(self.reply.ended)
            self.assertEqual(self.pool.waiting, 0)

    def test_a_model_that_no_account_serves_is_told_to_the_caller(self) -> None:
        """No lease is made, nothing is sent."""
        done = self.exchange([], supported=("other",))
        self.failureResultOf(done, UnknownModel)
        self.assertEqual(self.upstream.sent, [])
        self.assert_over("failed")

    def test_a_bug_of_ours_blames_no_account(self) -> None:
        """An unexpected exception abandons the lease and ends the exchange."""
        done = self.exchange([ZeroDivisionError()])
        self.failureResultOf(done, ZeroDivisionError)
        self.assert_over("failed", "abandoned")

    def test_a_body_that_cannot_be_delivered_leaves_nothing_behind(self) -> None:
        """The connection is closed and no clock goes on running."""

        class Undeliverable(MemoryResponse):
            """Fails in the middle of its body."""

            def deliver(self, receiver: IProtocol) -> None:
                """Give a piece, then fail."""
                super().deliver(receiver)
                raise ZeroDivisionError

        for pieces in ([], [b"".join(chat_chunks(["hi"])[:2])], [STREAM[:-1]]):
            self.setUp()
            response = Undeliverable(200, SSE, pieces, end=None)
            done = self.exchange([response], patience=Patience(total=900))
            self.failureResultOf(done, ZeroDivisionError)
            self.assertTrue(response.aborted)
            self.assertIsNone(self.reply.producer)
            self.clock.advance(0)
            self.assert_over("failed", "abandoned")
        response = Undeliverable(200, SSE, [], end=ConnectionLost())
        self.setUp()
        self.failureResultOf(self.exchange([response]), ZeroDivisionError)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_an_answer_too_large_to_hold_is_given_up(self) -> None:
        """limits.held_bytes bounds a whole answer and a single record."""
        done = self.exchange(
            [MemoryResponse(200, JSON, [chat_body("x" * 2000)])],
            streaming=False,
            patience=Patience(held_bytes=1000, max_retries=0),
        )
        error = self.failureResultOf(done, UpstreamError).value
        self.assertEqual(error.code, "record_too_long")

    def test_a_bug_in_the_relay_blames_no_account(self) -> None:
        """It is logged once, the client is answered, the upstream closed."""

        def broken(status: int, headers: Headers) -> None:
            raise ZeroDivisionError

        self.patch(self.reply, "begin", broken)
        done = self.exchange([MemoryResponse(200, SSE, [STREAM])])
        error = self.failureResultOf(done, UpstreamError).value
        self.assertEqual(error.code, "gateway_bug")
        self.clock.advance(0)
        self.assert_over("failed", "abandoned")
        self.assertEqual(len(self.upstream.sent), 1)
        self.flushLoggedErrors()
