"""
What the doubles in memory promise, so that the tests that use them can be believed.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from zope.interface.verify import verifyObject

from aiclient2api.errors import Fault, ProviderUnavailable, UnknownModel, UpstreamError
from aiclient2api.interfaces import (
    IAccountPool,
    IClientReply,
    IExchangeObserver,
    ILease,
    IUpstream,
    IUpstreamResponse,
)
from aiclient2api.testing import (
    FixedPool,
    HeldThreads,
    MemoryObserver,
    MemoryReply,
    MemoryResponse,
    MemoryUpstream,
    one_account,
)
from aiclient2api.values import Account, ExchangeRecord, Outcome, UpstreamRequest, Usage, setting

REQUEST = UpstreamRequest(method="POST", url="http://upstream.test/", headers=(), body=b"{}")
BROKEN = UpstreamError("The upstream broke; try again.", fault=Fault.SERVER, status=502)


class Reader(Protocol):
    """A receiver of a body that keeps what it gets."""

    def __init__(self) -> None:
        self.reads: list[bytes] = []
        self.losses: list[Failure] = []
        self.gone: Deferred[None] = Deferred()

    @property
    def data(self) -> bytes:
        return b"".join(self.reads)

    def dataReceived(self, data: bytes) -> None:
        self.reads.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.losses.append(reason)
        if len(self.losses) == 1:
            self.gone.callback(None)


class MemoryUpstreamTests(SynchronousTestCase):
    """`MemoryUpstream` and `MemoryResponse`."""

    def delivered(self, response: MemoryResponse, clock: Clock | None = None) -> Reader:
        """Send a request that *response* answers, and read its body."""
        upstream = MemoryUpstream([response], clock)
        reader = Reader()
        self.successResultOf(upstream.send(REQUEST)).deliver(reader)
        return reader

    def test_it_is_an_upstream(self) -> None:
        """It has all that the contract asks for."""
        verifyObject(IUpstream, MemoryUpstream([]))
        verifyObject(IUpstreamResponse, MemoryResponse())
        verifyObject(IPushProducer, MemoryResponse())

    def test_pieces_then_the_end(self) -> None:
        """Scripted pieces arrive one by one, then the clean end, once."""
        reader = self.delivered(MemoryResponse(pieces=[b"a", b"b"]))
        self.assertEqual(reader.reads, [b"a", b"b"])
        self.assertEqual([each.type for each in reader.losses], [ResponseDone])

    def test_a_break_after_pieces(self) -> None:
        """A scripted break is told as that break."""
        reader = self.delivered(MemoryResponse(pieces=[b"a"], end=ConnectionLost()))
        self.assertEqual([each.type for each in reader.losses], [ConnectionLost])

    def test_pieces_wait_while_paused(self) -> None:
        """A receiver that pauses gets the next piece when it resumes."""
        response = MemoryResponse(pieces=[b"a", b"b"])

        class Pausing(Reader):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                response.pauseProducing()

        reader = Pausing()
        response.deliver(reader)
        self.assertEqual((reader.reads, response.paused), ([b"a"], True))
        response.resumeProducing()
        self.assertEqual(reader.reads, [b"a", b"b"])
        self.assertEqual(reader.losses, [])
        response.resumeProducing()
        self.assertEqual((response.pauses, response.resumes, len(reader.losses)), (2, 2, 1))

    def test_pushed_bytes_arrive_while_paused(self) -> None:
        """What was in a buffer arrives even while the receiver is paused."""
        response = MemoryResponse(end=None)
        reader = self.delivered(response)
        response.pauseProducing()
        response.push(b"late")
        response.finish()
        self.assertEqual(reader.data, b"late")
        self.assertRaises(AssertionError, response.push, b"later")

    def test_abort_is_told_in_the_next_turn(self) -> None:
        """An abort brings one loss, not before the next turn, and no more bytes."""
        clock = Clock()
        response = MemoryResponse(end=None)
        reader = self.delivered(response, clock)
        response.abort()
        response.stopProducing()
        response.push(b"too late")
        self.assertEqual((response.aborted, reader.losses), (True, []))
        clock.advance(0)
        self.assertEqual([each.type for each in reader.losses], [ConnectionAborted])
        self.assertEqual(reader.data, b"")

    def test_a_failing_send(self) -> None:
        """An exception in the list is what send() fails with."""
        upstream = MemoryUpstream([BROKEN])
        self.assertIs(self.failureResultOf(upstream.send(REQUEST)).value, BROKEN)

    def test_a_waiting_send_is_answered_later(self) -> None:
        """None leaves the request waiting until the test replies."""
        upstream = MemoryUpstream([None])
        waiting = upstream.send(REQUEST)
        self.assertNoResult(waiting)
        response = MemoryResponse()
        upstream.sent[0].reply(response)
        self.assertIs(self.successResultOf(waiting), response)

    def test_a_cancelled_send_is_noted(self) -> None:
        """Cancelling closes the connection: the test can see that it happened."""
        upstream = MemoryUpstream([None])
        waiting = upstream.send(REQUEST)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(upstream.sent[0].cancelled)

    def test_one_request_too_many_fails_loudly(self) -> None:
        """A request nobody scripted does not pass unnoticed."""
        self.assertRaises(AssertionError, MemoryUpstream([]).send, REQUEST)


class MemoryReplyTests(SynchronousTestCase):
    """`MemoryReply`."""

    def test_it_is_a_reply(self) -> None:
        """It has all that the contract asks for."""
        verifyObject(IClientReply, MemoryReply())

    def test_it_keeps_what_it_is_given(self) -> None:
        """Status, headers, body and end can be looked at."""
        reply = MemoryReply()
        reply.begin(200, ((b"a", b"1"),))
        reply.write(b"x")
        reply.write(b"y")
        reply.finish()
        seen = (reply.status, reply.header(b"a"), reply.writes, reply.body, reply.ended)
        self.assertEqual(seen, (200, b"1", [b"x", b"y"], b"xy", "finished"))

    def test_it_refuses_what_http_cannot_do(self) -> None:
        """Two heads, a body without a head, and bytes after the end are errors."""
        reply = MemoryReply()
        self.assertRaises(AssertionError, reply.write, b"early")
        self.assertRaises(AssertionError, reply.finish)
        reply.begin(200, ())
        self.assertRaises(AssertionError, reply.begin, 200, ())
        reply.abort()
        self.assertRaises(AssertionError, reply.write, b"late")
        self.assertRaises(AssertionError, reply.finish)

    def test_a_slow_client_pauses_the_producer(self) -> None:
        """slow() and drain() reach whatever producer is registered."""
        reply, producer = MemoryReply(), MemoryResponse()
        self.assertRaises(AssertionError, reply.slow)
        producer.deliver(Reader())
        reply.register_producer(producer)
        self.assertRaises(AssertionError, reply.register_producer, producer)
        reply.slow()
        self.assertTrue(producer.paused)
        reply.drain()
        self.assertFalse(producer.paused)
        reply.begin(200, ())
        self.assertRaises(AssertionError, reply.finish)
        reply.unregister_producer()
        reply.unregister_producer()
        reply.finish()


@attrs.frozen
class Settings:
    """Settings of some provider."""

    api_key: str = setting(kind="secret", help="The key.")
    base_url: str = setting(kind="url", help="Where.", default="")


class AccountTests(SynchronousTestCase):
    """`one_account`, `FixedPool` and its leases."""

    def test_they_keep_the_contracts(self) -> None:
        """Pool and lease have all that the contracts ask for."""
        pool = FixedPool([one_account("p", None)])
        verifyObject(IAccountPool, pool)
        verifyObject(ILease, self.successResultOf(pool.acquire(model="m")))

    def test_an_account_knows_its_secrets(self) -> None:
        """The secret settings are the account's secrets, and further fields pass."""
        account = one_account("p", Settings(api_key="sk-test"), supported=("m",))
        self.assertEqual(account.secrets, ("sk-test",))
        self.assertEqual((account.id, account.provider, account.supported), ("a1", "p", ("m",)))

    def test_accounts_in_order(self) -> None:
        """Failing over walks the list; at its end no account is left."""
        pool = FixedPool([Account("p", "a", None), Account("p", "b", None)])
        first = self.successResultOf(pool.acquire(model="m"))
        second = self.successResultOf(pool.acquire(model="m", exclude=["a"]))
        self.assertEqual((first.account.id, second.account.id), ("a", "b"))
        third = pool.acquire(model="m", exclude=["a", "b"])
        self.failureResultOf(third, ProviderUnavailable)
        self.assertEqual([each.id for each in pool.snapshot()], ["a", "b"])

    def test_models_are_respected(self) -> None:
        """A model that no account serves is told apart from no account."""
        pool = FixedPool([Account("p", "a", None, unsupported=("m",))])
        self.failureResultOf(pool.acquire(model="m"), UnknownModel)
        self.failureResultOf(FixedPool([]).acquire(model="m"), ProviderUnavailable)

    def test_every_lease_ends_once(self) -> None:
        """A lease that ends twice, and one that never ends, are found."""
        pool = FixedPool([Account("p", "a", None)])
        first = self.successResultOf(pool.acquire(model="m"))
        self.assertRaises(AssertionError, pool.ends)
        first.failed(BROKEN)
        self.assertRaises(AssertionError, first.abandoned)
        self.successResultOf(pool.acquire(model="m")).succeeded(Usage(output=1))
        self.assertEqual(pool.ends(), ["failed", "succeeded"])
        self.assertEqual(pool.leases[1].end, ("succeeded", Usage(output=1)))

    def test_a_queue_for_accounts(self) -> None:
        """With waits=True callers wait until granted; who cancels leaves the queue."""
        pool = FixedPool([Account("p", "a", None)], waits=True)
        left, stays = pool.acquire(model="m"), pool.acquire(model="m")
        left.cancel()
        self.failureResultOf(left, CancelledError)
        self.assertEqual((pool.waiting, pool.leases), (1, []))
        pool.grant()
        self.successResultOf(stays).abandoned()
        self.assertEqual(pool.ends(), ["abandoned"])


class HeldThreadsTests(SynchronousTestCase):
    """`HeldThreads`."""

    def test_calls_wait_for_the_test(self) -> None:
        """A call is made when the test runs it; its result or error arrives then."""
        threads = HeldThreads()
        sums, fails = threads(sum, [1, 2]), threads(int, "x")
        self.assertNoResult(sums)
        threads.run()
        self.assertEqual((self.successResultOf(sums), len(threads.calls)), (3, 1))
        threads.run()
        self.failureResultOf(fails, ValueError)


class MemoryObserverTests(SynchronousTestCase):
    """`MemoryObserver`."""

    def test_it_keeps_what_it_is_told(self) -> None:
        """Calls, errors and the outcome can be looked at; a second end is found."""
        observer = MemoryObserver(wants_text=True)
        verifyObject(IExchangeObserver, observer)
        record = ExchangeRecord("x1", "me", None, "p", "m", 0.0)
        observer.began(record)
        observer.attempt(record, BROKEN)
        observer.attempt(record, None)
        observer.first_byte(record)
        outcome = Outcome(how="complete", seconds=1.0)
        observer.ended(record, outcome)
        self.assertEqual(observer.told, ["began", "attempt", "attempt", "first_byte", "ended"])
        self.assertEqual((observer.errors, observer.outcomes), ([BROKEN, None], {"x1": outcome}))
        self.assertRaises(AssertionError, observer.ended, record, outcome)
