"""
A way out that leads nowhere: plays the sandbox's scripts as if they came over a network.

It keeps the promises of `IUpstream` that a real connection keeps: chunks over time, a
producer that pauses, an abort in every phase, one end. It must never know what the
bytes mean.
"""

from __future__ import annotations

import hashlib
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from zope.interface import implementer

from aiclient2api.interfaces import IUpstream, IUpstreamResponse
from aiclient2api.providers._sandbox_script import Script, script
from aiclient2api.values import Headers, UpstreamRequest

_REMEMBERED = 1000


@implementer(IUpstreamResponse, IPushProducer)
class SandboxResponse:
    """One answer being played; it is its own transport and push producer."""

    disconnecting = False

    def __init__(self, play: Script, clock: IReactorTime) -> None:
        self.status: int = play.status
        self.headers: Headers = play.headers
        self._play = play
        self._clock = clock
        self._next = 0
        self._paused = False
        self._ended = False
        self._lost = False
        self._timer: IDelayedCall | None = None
        self._receiver: IProtocol | None = None
        # A whole answer took its time before its headers came.
        whole = not any(value.startswith(b"text/event-stream") for _, value in play.headers)
        self._pace = 0.0 if whole else play.pace

    def deliver(self, receiver: IProtocol) -> None:
        """Start the body. Nothing arrives before the clock moves on."""
        self._receiver = receiver
        receiver.makeConnection(cast(ITransport, self))
        if self._ended:
            self._lose_later()
        else:
            self._schedule()

    def abort(self) -> None:
        """Stop now: no more bytes; a receiver hears of it on the clock's next turn."""
        if self._ended:
            return
        self._ended = True
        self._unschedule()
        if self._receiver is not None:
            self._lose_later()

    def pauseProducing(self) -> None:
        """Send nothing until `resumeProducing`."""
        self._paused = True
        self._unschedule()

    def resumeProducing(self) -> None:
        """Go on at the same pace."""
        self._paused = False
        self._schedule()

    def stopProducing(self) -> None:
        """Close the connection."""
        self.abort()

    def loseConnection(self) -> None:
        """Close the connection."""
        self.abort()

    def abortConnection(self) -> None:
        """Close the connection."""
        self.abort()

    def _schedule(self) -> None:
        waiting = self._timer is not None or self._paused or self._ended
        if not waiting and self._receiver is not None:
            self._timer = self._clock.callLater(self._pace, self._tick)

    def _unschedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        assert self._receiver is not None
        pieces = self._play.pieces
        # Without a pace, all that the receiver can take goes in one turn.
        while self._next < len(pieces) and not (self._paused or self._ended):
            piece = pieces[self._next]
            self._next += 1
            self._receiver.dataReceived(piece)
            if self._pace:
                break
        if self._next < len(pieces):
            self._schedule()
        elif not self._ended and not self._paused:
            self._finish()

    def _finish(self) -> None:
        if self._play.ending == "silence":
            return
        self._ended = True
        self._unschedule()
        self._lose(ConnectionLost() if self._play.ending == "reset" else ResponseDone())

    def _lose_later(self) -> None:
        self._clock.callLater(0, self._lose, ConnectionAborted())

    def _lose(self, reason: Exception) -> None:
        assert self._receiver is not None
        if not self._lost:
            self._lost = True
            self._receiver.connectionLost(Failure(reason))


@implementer(IUpstream)
class SandboxUpstream:
    """
    Answers every request out of memory.

    :param clock: What it waits with.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # Bodies whose last attempt failed on purpose, oldest first (a dict keeps order).
        self._failed: dict[bytes, None] = {}

    def send(self, request: UpstreamRequest) -> Deferred[IUpstreamResponse]:
        """
        Fire at the headers: at once for a stream, after its pace for a whole answer.

        Cancelling stops the timer; there is nothing else to close.
        """
        body = request.body or b""
        play = script(body, odd_attempt=self._odd(body))
        if play.mute:
            return Deferred()
        response = SandboxResponse(play, self._clock)
        streams = any(value.startswith(b"text/event-stream") for _, value in play.headers)
        timer: list[IDelayedCall] = []
        headers: Deferred[IUpstreamResponse] = Deferred(lambda _: timer[0].cancel())
        if streams or not play.pace:
            headers.callback(response)
        else:
            timer.append(self._clock.callLater(play.pace, headers.callback, response))
        return headers

    def _odd(self, body: bytes) -> bool:
        if b"sandbox-flaky" not in body:
            return False
        digest = hashlib.sha256(body).digest()
        if digest in self._failed:
            del self._failed[digest]
            return False
        self._failed[digest] = None
        if len(self._failed) > _REMEMBERED:
            del self._failed[next(iter(self._failed))]
        return True
