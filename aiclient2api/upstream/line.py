"""
One connection outwards, layer upon layer: a socket, tunnels, TLS, and HTTP on top.

A line must never know which proxy or host it leads to, nor what an error means.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from aiclient2api.upstream.tunnels import Handshake

LINGER = 5.0
"""
Seconds a polite close may take. TLS waits for the peer's own close alert, and a socket
for its last bytes to be read: a peer that does neither would keep the connection open.
"""

_PIECE = 64 * 1024


@implementer(ITransport, IConsumer, IPushProducer, IHandshakeListener)
class Line(Protocol):
    """
    One layer: a protocol to what is below, a transport to what is above.

    Twisted's HTTP client is handed no `abortConnection`, waits with an answer until
    the request is written, and cannot say whether a connection was used before. So it
    is given a line for its transport: that takes a whole request body at once and
    feeds it on at the peer's pace, and can be closed at any moment.

    :ivar uses: How many requests it was taken for.
    :ivar lost: Why it was lost, or None while it stands.
    """

    # A socket, TLS or another line: Twisted has no one interface for all we need of it.
    transport: Any
    disconnecting = False

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._upper: IProtocol | None = None
        self._is_top = False
        self._waiter: Deferred[Line] | None = None
        self._handshake: Handshake | None = None
        self._early = b""
        self._upload: _Upload | None = None
        self._lingering: IDelayedCall | None = None
        self._aborted = False
        self.uses = 0
        self.lost: Failure | None = None

    # Building it up, from the socket to HTTP.

    def tunnel(self, handshake: Handshake) -> Deferred[Line]:
        """
        Talk to a proxy until it has become a tunnel. Cancelling closes the line.

        :return: Fires with this line; fails with `ProxyRefused`, or with why the
            connection was lost.
        """
        self._handshake = handshake
        self.transport.write(handshake.greeting())
        return self._wait()

    def secure(self, creator: IOpenSSLClientConnectionCreator) -> Deferred[Line]:
        """
        Put TLS on top, and wait for its handshake. Cancelling closes the line.

        :return: Fires with a new line on top; fails with why TLS gave up.
        """
        upper = Line(self._clock)
        factory = TLSMemoryBIOFactory(creator, True, _Only(upper), clock=self._clock)
        ready = upper._wait()
        self._carry(factory.buildProtocol(self.getPeer()))
        return ready

    def carry_http(self, protocol: IProtocol) -> None:
        """Put HTTP on top, for good."""
        self._is_top = True
        self._carry(protocol)

    def abort(self) -> None:
        """Close now, whatever is under way; safe at any time, also twice."""
        if not self._aborted and self.lost is None and self.transport is not None:
            self._aborted = True
            self._drop_upload()
            self.transport.abortConnection()

    @property
    def uploading(self) -> bool:
        """True while part of a request body is still to be sent."""
        return self._upload is not None

    # What is below calls these.

    def dataReceived(self, data: bytes) -> None:
        """Pass bytes up, or to the handshake that is under way."""
        if self._upper is not None:
            self._upper.dataReceived(data)
            return
        handshake = self._handshake
        if handshake is None or self._waiter is None:
            return
        try:
            reply = handshake.feed(data)
        except Exception:
            self._settle(Failure())
            return
        if reply:
            self.transport.write(reply)
        if handshake.done:
            self._early = handshake.rest
            self._settle(self)

    def handshakeCompleted(self) -> None:
        """TLS below us is up, and the peer's certificate was found good."""
        self._settle(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell whoever waits, and what is above."""
        self.lost = reason
        self._upload = None
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        self._settle(reason)
        upper, self._upper = self._upper, None
        if upper is not None:
            upper.connectionLost(reason)

    # What is above calls these.

    def write(self, data: bytes) -> None:
        """Send bytes; a large request body, HTTP's last word, goes on in pieces."""
        if self._aborted:
            return
        if self._is_top and len(data) > _PIECE and self._upload is None:
            self._upload = _Upload(data, self.transport, self._uploaded)
            self.transport.registerProducer(self._upload, True)
            self._upload.resumeProducing()
        else:
            self.transport.write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send bytes."""
        self.transport.writeSequence(iovec)

    def loseConnection(self) -> None:
        """Close politely, but not for ever."""
        if self.disconnecting or self.lost is not None:
            return
        self.disconnecting = True
        self._lingering = self._clock.callLater(LINGER, self._lingered)
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close now."""
        self.abort()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pass on TLS's producer; HTTP's has nothing left when it is registered."""
        if not self._is_top:
            self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Undo `registerProducer`."""
        if not self._is_top:
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        """Stop reading."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again."""
        if not self._aborted:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Close now: nobody wants what is to come."""
        self.abort()

    def getPeer(self) -> IAddress:
        """Return the other end's address."""
        peer: IAddress = self.transport.getPeer()
        return peer

    def getHost(self) -> IAddress:
        """Return our end's address."""
        host: IAddress = self.transport.getHost()
        return host

    # Ours.

    def _carry(self, protocol: IProtocol) -> None:
        self._upper = protocol
        protocol.makeConnection(self)
        early, self._early = self._early, b""
        if early:
            protocol.dataReceived(early)

    def _wait(self) -> Deferred[Line]:
        self._waiter = Deferred(self._give_up)
        return self._waiter

    def _give_up(self, _: Deferred[Line]) -> None:
        # It has its result, a `CancelledError`, before the connection is lost.
        self._waiter = None
        self.abort()

    def _settle(self, result: Line | Failure) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._handshake = None
            waiter.callback(result)

    def _uploaded(self) -> None:
        self._upload = None
        self.transport.unregisterProducer()

    def _drop_upload(self) -> None:
        if self._upload is not None:
            self._upload.stopProducing()
            self._uploaded()

    def _lingered(self) -> None:
        self._lingering = None
        self.abort()


@implementer(IPushProducer)
class _Upload:
    """A request body on its way, as fast as the peer takes it."""

    def __init__(self, body: bytes, consumer: Any, done: Any) -> None:
        self._body = body
        self._sent = 0
        self._consumer = consumer
        self._done = done
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        while not self._paused and self._sent < len(self._body):
            piece = self._body[self._sent : self._sent + _PIECE]
            self._sent += len(piece)
            self._consumer.write(piece)
        if not self._paused and self._body:
            self._body = b""
            self._done()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._paused = True
        self._body = b""


class Lines(Factory):
    """Makes a bare line for each socket that gets connected."""

    noisy = False

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    def buildProtocol(self, addr: IAddress | None) -> Line:
        """Return a new line."""
        return Line(self._clock)


class _Only(Factory):
    """Gives TLS the one protocol that is to be on top of it."""

    noisy = False

    def __init__(self, protocol: Line) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: IAddress | None) -> Line:
        return self._protocol
