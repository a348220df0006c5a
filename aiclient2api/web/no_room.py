"""
What becomes of a connection for which there is no room: a few bytes, and the end.

It must never read what a client sends, nor do anything that costs more than that.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

STAYING = 128
"""How many of them may stay at once, to read why."""

ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


@implementer(IHalfCloseableProtocol)
class NoRoom(Protocol):
    """
    One that is turned away.

    Closed at once, it would be reset under a client that has sent its request already,
    and the client would not get to read why; so it may stay until it has. Those that
    stay are few: the first of them goes when there are more.

    :param staying: Those that stay.
    """

    def __init__(self, staying: OrderedDict[NoRoom, None]) -> None:
        self._staying = staying

    def connectionMade(self) -> None:
        """Say no."""
        if ISSLTransport.providedBy(self.transport):
            # To say anything would take a handshake.
            self.abort()
            return
        wire = ITCPTransport(self.transport)
        wire.write(ANSWER)
        wire.loseWriteConnection()
        self._staying[self] = None
        if len(self._staying) > STAYING:
            self._staying.popitem(last=False)[0].abort()

    def readConnectionLost(self) -> None:
        """The client has read it, and closed."""
        self.abort()

    def writeConnectionLost(self) -> None:
        """Our half-close went out."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self._staying.pop(self, None)

    def abort(self) -> None:
        """Close now."""
        ITCPTransport(self.transport).abortConnection()
