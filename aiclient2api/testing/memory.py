"""
Doubles that live in memory, for tests: nothing happens but when the test says so.

They know the contracts in `aiclient2api.interfaces` and no implementation of them.
Import them from `aiclient2api.testing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from zope.interface import implementer

from aiclient2api.errors import UpstreamError
from aiclient2api.interfaces import (
    IClientReply,
    IExchangeObserver,
    IUpstream,
    IUpstreamResponse,
)
from aiclient2api.values import (
    Clock,
    ExchangeRecord,
    Headers,
    Outcome,
    UpstreamRequest,
)

# --- the way out ----------------------------------------------------------------


_CLEAN = ResponseDone()


@implementer(IUpstreamResponse, IPushProducer)
class MemoryResponse:
    """
    An upstream's answer whose body the test hands over.

    It is also the push producer its receiver gets as transport.

    :param pieces: Delivered first, one ``dataReceived`` each, not while paused.
    :param end: The exception that ends the body after *pieces* (``ResponseDone`` is
        the clean end, the default); None leaves it open: see `push`, `finish`, `lose`.

    :ivar paused: True while the receiver does not want more.
    :ivar pauses: How often it said so; *resumes* how often it took that back.
    :ivar aborted: True once the receiver closed the connection, by `abort` or by
        ``stopProducing``.
    :ivar lost: The exception the receiver was told of, or None so far.
    """

    def __init__(
        self,
        status: int = 200,
        headers: Headers = (),
        pieces: Iterable[bytes] = (),
        end: Exception | None = _CLEAN,
    ) -> None:
        self.status = status
        self.headers = headers
        self.paused = False
        self.pauses = 0
        self.resumes = 0
        self.aborted = False
        self.lost: Exception | None = None
        self.clock: Clock = None
        self._pieces = list(pieces)
        self._end = ResponseDone() if end is _CLEAN else end
        self._receiver: IProtocol | None = None

    def deliver(self, receiver: IProtocol) -> None:
        assert self._receiver is None, "deliver() was called twice."
        self._receiver = receiver
        receiver.makeConnection(self)  # type: ignore[arg-type]
        self._flow()

    def abort(self) -> None:
        if self.aborted or self.lost is not None:
            return
        self.aborted = True
        if self.clock is not None:
            self.clock.callLater(0, self._tell, ConnectionAborted())

    def push(self, data: bytes) -> None:
        """Hand over *data* at once, even while paused, as a full socket buffer would."""
        assert self._receiver is not None, "Nobody has called deliver() yet."
        assert self.lost is None, "This body has ended."
        if not self.aborted:
            self._receiver.dataReceived(data)

    def finish(self) -> None:
        """End the body cleanly."""
        self.lose(ResponseDone())

    def lose(self, reason: Exception) -> None:
        """End the body with *reason*; after an abort, that is the loss it brings."""
        assert self._receiver is not None, "Nobody has called deliver() yet."
        assert self.lost is None, "This body has ended."
        self._tell(reason)

    def pauseProducing(self) -> None:
        self.paused = True
        self.pauses += 1

    def resumeProducing(self) -> None:
        self.paused = False
        self.resumes += 1
        self._flow()

    def stopProducing(self) -> None:
        self.abort()

    def _flow(self) -> None:
        assert self._receiver is not None
        while self._pieces and not self.paused and not self.aborted:
            self._receiver.dataReceived(self._pieces.pop(0))
        ready = not (self._pieces or self.paused or self.aborted)
        if ready and self._end is not None:
            self._tell(self._end)

    def _tell(self, reason: Exception) -> None:
        if self.lost is None:
            self.lost = reason
            if self._receiver is not None:
                self._receiver.connectionLost(Failure(reason))


@attrs.define(eq=False)
class Sent:
    """
    One request handed to a `MemoryUpstream`.

    :ivar answer: What it was answered with, or None while it waits.
    :ivar cancelled: True once its Deferred was cancelled: the connection is closed.
    """

    request: UpstreamRequest
    answer: MemoryResponse | Exception | None = None
    cancelled: bool = False
    _clock: Clock = None
    _deferred: Deferred[IUpstreamResponse] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._deferred = Deferred(self._cancel)

    def _cancel(self, deferred: Deferred[IUpstreamResponse]) -> None:
        self.cancelled = True

    def reply(self, answer: MemoryResponse | Exception) -> None:
        """Fire with a response's head, or fail with an exception."""
        assert self.answer is None, "This request has been answered."
        assert not self.cancelled, "This request was cancelled."
        self.answer = answer
        if isinstance(answer, MemoryResponse):
            answer.clock = self._clock
            self._deferred.callback(answer)
        else:
            self._deferred.errback(answer)


@implementer(IUpstream)
class MemoryUpstream:
    """
    An upstream without a network: everything happens when the test says so.

    :param answers: One for each request in order: a `MemoryResponse`, an exception to
        fail with, or None to let the request wait (then use ``sent[n].reply()``).
        One request more is an `AssertionError`.
    :param clock: A ``twisted.internet.task.Clock``. With it, a receiver that aborts is
        told of the loss in the next turn, as sockets do; without it, when the test
        calls `MemoryResponse.lose`.

    :ivar sent: A `Sent` for each request so far.
    """

    def __init__(
        self, answers: Iterable[MemoryResponse | Exception | None], clock: Clock = None
    ) -> None:
        self.sent: list[Sent] = []
        self._answers = list(answers)
        self._clock = clock

    def send(self, request: UpstreamRequest) -> Deferred[IUpstreamResponse]:
        assert self._answers, f"No answer is left for {request.method} {request.url}."
        answer = self._answers.pop(0)
        sent = Sent(request=request, clock=self._clock)
        self.sent.append(sent)
        if answer is not None:
            sent.reply(answer)
        return sent._deferred


# --- the client -----------------------------------------------------------------


@implementer(IClientReply)
class MemoryReply:
    """
    A client's reply that keeps what it is given.

    :ivar writes: The body, write by write.
    :ivar ended: None, then ``finished`` or ``aborted``.
    :ivar producer: The registered producer, or None.
    :ivar producers: Every producer that was ever registered.
    """

    def __init__(self) -> None:
        self.begun = False
        self.status: int | None = None
        self.headers: Headers = ()
        self.writes: list[bytes] = []
        self.ended: str | None = None
        self.producer: IPushProducer | None = None
        self.producers: list[IPushProducer] = []

    @property
    def body(self) -> bytes:
        """Return all that was written."""
        return b"".join(self.writes)

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of *name* (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)

    def begin(self, status: int, headers: Headers) -> None:
        assert not self.begun, "begin() was called twice."
        assert self.ended is None, f"begin() after the reply was {self.ended}."
        self.begun, self.status, self.headers = True, status, headers

    def write(self, data: bytes) -> None:
        assert self.begun, "write() before begin()."
        assert self.ended is None, f"write() after the reply was {self.ended}."
        self.writes.append(data)

    def finish(self) -> None:
        assert self.begun, "finish() before begin()."
        assert self.producer is None, "finish() with a producer still registered."
        self._end("finished")

    def abort(self) -> None:
        self._end("aborted")

    def register_producer(self, producer: IPushProducer) -> None:
        assert self.producer is None, "A producer is registered already."
        self.producer = producer
        self.producers.append(producer)

    def unregister_producer(self) -> None:
        self.producer = None

    def slow(self) -> None:
        """Be a client whose buffer is full: pause the registered producer."""
        assert self.producer is not None, "No producer is registered."
        self.producer.pauseProducing()

    def drain(self) -> None:
        """Be a client that has read everything: resume the registered producer."""
        assert self.producer is not None, "No producer is registered."
        self.producer.resumeProducing()

    def _end(self, how: str) -> None:
        assert self.ended is None, f"{how}, but the reply was {self.ended} already."
        self.ended = how


# --- observing ------------------------------------------------------------------


@implementer(IExchangeObserver)
class MemoryObserver:
    """
    An observer that keeps what it is told.

    :ivar told: The names of the calls in order, such as ``["began", "ended"]``.
    :ivar errors: What each attempt ended with; None where it ended well.
    :ivar outcomes: The `Outcome` of each exchange, by its id.
    """

    def __init__(self, *, wants_text: bool = False) -> None:
        self.wants_text = wants_text
        self.told: list[str] = []
        self.errors: list[UpstreamError | None] = []
        self.outcomes: dict[str, Outcome] = {}

    def began(self, exchange: ExchangeRecord) -> None:
        self.told.append("began")

    def attempt(self, exchange: ExchangeRecord, error: UpstreamError | None) -> None:
        self.told.append("attempt")
        self.errors.append(error)

    def first_byte(self, exchange: ExchangeRecord) -> None:
        self.told.append("first_byte")

    def ended(self, exchange: ExchangeRecord, outcome: Outcome) -> None:
        assert exchange.id not in self.outcomes, f"ended() twice for {exchange.id}."
        self.told.append("ended")
        self.outcomes[exchange.id] = outcome


# --- threads --------------------------------------------------------------------


class HeldThreads:
    """
    Stand in for ``deferToThread``: a call is made when the test says so, in its thread.

    :ivar calls: The calls that wait, oldest first.
    """

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def __call__(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.calls.append(lambda: execute(function, *args).chainDeferred(done))
        return done

    def run(self) -> None:
        """Make the oldest call."""
        self.calls.pop(0)()
