"""
Carry one upstream answer to one client, as it comes.

The hot path: one read of the upstream is at most one write to the client, with no
Deferred, no adapter, no log call and no queue in between. A slow client pauses the
upstream's socket. The head goes out with the first real event, so a failure before
it can still become a status or another attempt; a failure after it is told in the
client's own dialect, and an answer that broke off never ends like a whole one.

It must never know what is relayed: the watcher knows the dialect.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from zope.interface import implementer

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.interfaces import IClientReply, IUpstreamResponse, IWatcher
from aiclient2api.upstream.deadlines import IdleClock
from aiclient2api.values import Clock

HELD_BEFORE_FIRST_EVENT = 4 * 1024 * 1024
"""Bytes of handshake records held back at most; beyond it the head goes out."""


@attrs.frozen
class Ending:
    """
    How an answer ended after its head was sent.

    :ivar how: ``complete``, ``failed`` (the upstream said so) or ``truncated``.
    :ivar open: True if the client was told neither an end nor an error: somebody may go on.
    """

    how: str
    error: UpstreamError | None = None
    open: bool = False


@attrs.frozen
class Clocks:
    """
    The clocks that run while an answer comes in, seconds; 0 is off.

    :ivar first_event: From the upstream's headers to its first real event.
    :ivar idle: Between two events; stands still while the client holds us up.
    :ivar total: What is left of the whole exchange's time.
    """

    first_event: float
    idle: float
    total: float


@implementer(IPushProducer)
class Relay(Protocol):
    """
    Receives the upstream's body, writes the client's.

    :param response: The upstream's answer; aborted when the client leaves.
    :param begin: Sends the head to the client; given the body's length if known.
    :param clean: Takes the account's secrets out of an error record: an upstream may
        quote a key in one.
    :param leaves_open: Whether an answer that breaks off is left as it is, for whoever reads
        `done` to go on with, or to end.
    :param marks_end: Whether the answer itself says where it ends; see `IEnvelope`.
    :ivar done: Fires with an `Ending`; fails with `UpstreamError` if nothing has
        reached the client, so that another attempt may be made. Cancelling it
        closes the upstream.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        response: IUpstreamResponse,
        watcher: IWatcher,
        reply: IClientReply,
        begin: Callable[[int | None], None],
        clean: Callable[[bytes], bytes],
        clock: Clock,
        clocks: Clocks,
        leaves_open: bool = False,
        marks_end: bool = True,
    ) -> None:
        self._response = response
        self._watcher = watcher
        self._reply = reply
        self._begin = begin
        self._clean = clean
        self._clock = clock
        self._clocks = clocks
        self._leaves_open = leaves_open
        self._ends = (ResponseDone, PotentialDataLoss) if marks_end else (ResponseDone,)
        self._held: list[bytes] = []
        self._held_size = 0
        self._begun = False
        self._events = 0
        self._over = False
        self._idle = IdleClock(clock, clocks.idle, self._idled)
        self._first: IDelayedCall | None = None
        self._last: IDelayedCall | None = None
        self.done: Deferred[Ending] = Deferred(self._cancelled)
        self.done.addBoth(self._let_go)

    # Twisted calls these.

    def connectionMade(self) -> None:
        """Start the clocks."""
        clocks, later = self._clocks, self._clock.callLater
        if clocks.first_event and not self._whole():
            self._first = later(clocks.first_event, self._no_first_event)
        else:
            self._idle.start()
        if clocks.total:
            self._last = later(clocks.total, self._out_of_time)

    def dataReceived(self, data: bytes) -> None:
        """Pass on what is whole. Called while paused, too."""
        if self._over:
            return
        watcher = self._watcher
        try:
            out = watcher.feed(data)
            if self._begun:
                if out:
                    self._reply.write(out if watcher.failure is None else self._clean(out))
            elif watcher.failure is None:
                self._hold(out)
            if watcher.failure is not None:
                self._upstream_failed(watcher.failure)
            elif watcher.events != self._events or self._whole():
                self._events = watcher.events
                self._idle.touch()
        except UpstreamError as error:
            self.expire(error)
        except Exception as error:
            self._crashed(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body ended, cleanly or not."""
        if self._over:
            return
        if not reason.check(*self._ends):
            self.expire(_truncated("The upstream's connection broke before its answer was"))
            return
        try:
            rest = self._watcher.end()
            if self._watcher.failure is not None:
                if self._begun and rest:
                    self._reply.write(self._clean(rest))
                self._upstream_failed(self._watcher.failure)
            elif self._watcher.complete:
                self._complete(rest)
            else:
                self.expire(_truncated("The upstream's answer ended before it was"))
        except Exception as error:
            self._crashed(error)

    def pauseProducing(self) -> None:
        """The client is slow: stop reading the upstream, and stop the idle clock."""
        if not self._over:
            self._idle.pause()
            self._producer().pauseProducing()

    def resumeProducing(self) -> None:
        """The client has caught up."""
        if not self._over:
            self._idle.resume()
            self._producer().resumeProducing()

    def stopProducing(self) -> None:
        """The client's connection is gone; its `notifyFinish` cancels `done`."""

    # The exchange calls these.

    @property
    def begun(self) -> bool:
        """Say whether the head went out."""
        return self._begun

    def expire(self, error: UpstreamError) -> None:
        """Give up on the upstream: close it and tell the client, or the exchange."""
        if self._over:
            return
        self._stop()
        self._response.abort()
        if not self._begun:
            self.done.errback(error)
            return
        if self._leaves_open:
            self.done.callback(Ending("truncated", error, open=True))
            return
        try:
            frame = self._watcher.error_frame(error)
            if frame is None:
                # A body that cannot say what happened must not look whole.
                self._reply.abort()
            else:
                self._reply.write(self._clean(frame))
                self._reply.finish()
        except Exception as caught:
            self._crashed(caught)
            return
        self.done.callback(Ending("truncated", error))

    # Ours.

    def _whole(self) -> bool:
        # The watcher knows for certain only once it has seen a byte.
        return bool(not self._over and self._watcher.framing == "whole")

    def _catching_up(self) -> bool:
        # What is awaited then is no first event: the client has seen that long ago.
        return self._leaves_open and self._reply.begun and self._watcher.events > 0

    def _hold(self, out: bytes) -> None:
        if self._first is not None and (self._whole() or self._catching_up()):
            self._first_is_here()
        if out:
            self._held.append(out)
            self._held_size += len(out)
        if self._watcher.started or self._held_size > HELD_BEFORE_FIRST_EVENT:
            self._start_reply(None)

    def _start_reply(self, length: int | None) -> None:
        if self._first is not None:
            self._first_is_here()
        self._begun = True
        self._begin(length)
        self._reply.register_producer(self)
        held, self._held = b"".join(self._held), []
        if held:
            self._reply.write(held)

    def _first_is_here(self) -> None:
        first, self._first = self._first, None
        if first is not None:
            first.cancel()
        self._idle.start()

    def _complete(self, rest: bytes) -> None:
        if not self._begun:
            self._start_reply(self._held_size + len(rest) if self._whole() else None)
        if rest:
            self._reply.write(rest)
        self._stop()
        self._reply.finish()
        self.done.callback(Ending("complete"))

    def _upstream_failed(self, error: UpstreamError) -> None:
        # Its error record, if any of the answer was sent, is on its way already.
        if not self._begun:
            self.expire(error)
            return
        self._stop()
        self._response.abort()
        if self._leaves_open:
            self.done.callback(Ending("failed", error, open=True))
            return
        if self._watcher.framing == "sse":
            self._reply.finish()
        else:
            # The error is there to be read, but in an array no reader looks for one.
            self._reply.abort()
        self.done.callback(Ending("failed", error))

    def _crashed(self, caught: Exception) -> None:
        """Log a bug of ours, leave nothing open, and end as after any break."""
        # Its own words may hold a piece of the answer: only its kind and place are told.
        told = RuntimeError(type(caught).__name__)
        self._log.failure(
            "The relay of an answer failed", Failure(told, RuntimeError, caught.__traceback__)
        )
        error = UpstreamError(
            "The gateway failed while it relayed the answer; its log says where. Please report it.",
            fault=Fault.SERVER,
            status=502,
            code="gateway_bug",
        )
        self._begun = self._begun and self._reply.begun
        if not self._over:
            self.expire(error)
        if self.done.called:
            return
        # It happened while the answer was being ended.
        self._response.abort()
        if not self._begun:
            self.done.errback(error)
            return
        try:
            self._reply.abort()
        finally:
            self.done.callback(Ending("truncated", error))

    def _no_first_event(self) -> None:
        self._first = None
        self.expire(_too_late("sent no event", self._clocks.first_event, "first_event"))

    def _idled(self) -> None:
        self.expire(_too_late("fell silent", self._clocks.idle, "idle"))

    def _out_of_time(self) -> None:
        self._last = None
        self.expire(_too_late("was not done", self._clocks.total, "total"))

    def _cancelled(self, _: Deferred[Ending]) -> None:
        self._stop()
        self._response.abort()

    def _stop(self) -> None:
        self._over = True
        self._idle.stop()
        for call in (self._first, self._last):
            if call is not None:
                call.cancel()
        self._first = self._last = None
        self._held = []
        if self._begun:
            self._reply.unregister_producer()

    def _let_go(self, outcome: Ending | Failure) -> Ending | Failure:
        """
        Forget who waited for the answer, and the answer.

        The relay, its clock and the upstream's answer know one another, so they stay in memory
        until the next collection of garbage; the request and the answer, which may be large,
        must not stay with them.
        """
        self._begin, self._clean = _nobody_waits, bytes
        del self._watcher
        return outcome

    def _producer(self) -> IPushProducer:
        return IPushProducer(self.transport)


def _nobody_waits(length: int | None) -> None:
    raise RuntimeError("a relay whose answer has ended began one")


def _truncated(what: str) -> UpstreamError:
    return UpstreamError(
        f"{what} complete.",
        fault=Fault.TRUNCATED,
        status=502,
        code="upstream_truncated",
    )


def _too_late(what: str, seconds: float, key: str) -> UpstreamError:
    return UpstreamError(
        f"The upstream {what} for {seconds:g} seconds (timeouts.{key}).",
        fault=Fault.TIMEOUT,
        status=504,
        code=f"{key}_timeout",
    )
