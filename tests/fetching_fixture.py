"""
A small Internet in memory: names, sockets that connect when a test says so, and time.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from aiclient2api.conversation.request import Inline
from aiclient2api.errors import InvalidRequest
from aiclient2api.upstream.fetching import ImageFetcher

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
PUBLIC = "93.184.216.34"
PLAIN = "http://a.example/cat.png?sig=hush"


@implementer(IHostnameResolver)
class Names:
    """
    Knows names: each time the next list of addresses, the last one for ever.

    A name with no list at all is never answered.
    """

    def __init__(self, names: Mapping[str, list[list[str]]]) -> None:
        """Know these names and no other."""
        self.names = names
        self.asked: list[str] = []
        self.waiting: list[Any] = []

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Answer at once, or never."""
        self.asked.append(hostName)
        resolutionReceiver.resolutionBegan(None)
        lists = self.names.get(hostName, [[]])
        if not lists:
            self.waiting.append(resolutionReceiver)
            return resolutionReceiver
        for text in lists.pop(0) if len(lists) > 1 else lists[0]:
            kind = IPv6Address if ":" in text else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", text, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolutionReceiver


class Wire(StringTransport):
    """Our end of a connection, as the test sees it from the other one."""

    def __init__(self, protocol: Any, host: IPv4Address, peer: IPv4Address) -> None:
        """Connect *protocol*."""
        super().__init__(host, peer)
        self.aborted = False
        self._protocol = protocol
        self._lost = False
        protocol.makeConnection(self)

    def abortConnection(self) -> None:
        """Note it; the protocol hears of it in `lose`."""
        self.aborted = True

    def send(self, data: bytes) -> None:
        """Deliver bytes to our end."""
        self._protocol.dataReceived(data)

    def close(self) -> None:
        """Close the connection as a server does."""
        self.lose(ConnectionDone())

    def lose(self, reason: Exception | None = None) -> None:
        """Tell our end that the connection is gone."""
        if not self._lost:
            self._lost = True
            self._protocol.connectionLost(Failure(reason or ConnectionAborted()))

    @property
    def gone(self) -> bool:
        """True if our end closed it, or was told that it is closed."""
        return self.aborted or self.disconnecting or self._lost


class World:
    """One fetcher and all it can see."""

    def __init__(self, names: Mapping[str, list[list[str]]] | None = None, **changes: Any) -> None:
        """Know *names*; *changes* are constructor arguments."""
        self.names = Names({"a.example": [[PUBLIC]], **(names or {})})
        self.reactor = MemoryReactorClock()
        arguments: dict[str, Any] = {"limit": 1000, "seconds": 15.0, "resolver": self.names}
        self.fetcher = ImageFetcher(reactor=self.reactor, **{**arguments, **changes})
        self.wires: list[Wire] = []

    @property
    def dialled(self) -> list[tuple[str, int]]:
        """Every address that was connected to, or tried."""
        return [(host, port) for host, port, *_ in self.reactor.tcpClients]

    @property
    def calls(self) -> int:
        """How many timers are set."""
        return len(self.reactor.getDelayedCalls())

    def accept(self, at: int = -1, *, here: str = "192.168.0.2") -> Wire:
        """Accept a connection, by default the last one."""
        host, port, factory, _, _ = self.reactor.tcpClients[at]
        peer = IPv4Address("TCP", host, port)
        wire = Wire(factory.buildProtocol(peer), IPv4Address("TCP", here, 50000), peer)
        self.wires.append(wire)
        return wire

    def refuse(self, at: int = -1) -> None:
        """Refuse a connection."""
        _, _, factory, _, _ = self.reactor.tcpClients[at]
        reason = Failure(ConnectionRefusedError())
        factory.clientConnectionFailed(self.reactor.connectors[at], reason)

    def answer(self, body: bytes = PNG, *lines: bytes, status: bytes = b"200 OK") -> Wire:
        """Accept a connection and answer its request in one go."""
        wire = self.accept()
        wire.send(reply(body, *lines, status=status))
        return wire


def reply(body: bytes = PNG, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """Return an answer with a Content-Length."""
    head = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *lines, b"", b""]
    return b"\r\n".join(head) + body


def inline(body: bytes = PNG, kind: str = "image/png") -> Inline:
    """Return what *body* is when it was fetched."""
    return Inline(kind, base64.b64encode(body).decode())


class FetchCase(SynchronousTestCase):
    """What all tests in memory check in the same way."""

    def assertRefused(self, fetching: Deferred[Any], *words: str) -> InvalidRequest:
        """Check that it failed with a sentence that holds *words*, and no secret."""
        error = self.failureResultOf(fetching, InvalidRequest).value
        assert isinstance(error, InvalidRequest)
        self.assertEqual((error.status, error.code), (400, "remote_media"))
        for word in words:
            self.assertIn(word, error.message)
        self.assertNotIn("hush", error.message)
        return error

    def assertQuiet(self, world: World) -> None:
        """Check that every connection was closed by us and that no timer is left."""
        self.assertEqual([wire.gone for wire in world.wires], [True] * len(world.wires))
        for wire in world.wires:
            wire.lose()
        self.assertEqual(world.calls, 0)
