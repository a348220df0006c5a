"""Connections for which there is no room, and those that go so that there is."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import alsoProvides

from aiclient2api.testing import MemoryResponse, chat_body
from aiclient2api.web.channel import GatewayChannel
from aiclient2api.web.no_room import STAYING, NoRoom
from tests.web_fixture import KEY, GatewayTestCase, Wire

JSON = ((b"content-type", b"application/json"),)
PEER = IPv4Address("TCP", "127.0.0.1", 9)
HEALTH = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"


class RoomTests(GatewayTestCase):
    """A gateway that takes three connections."""

    def setUp(self) -> None:
        """Build it."""
        self.build([None] * 9, limits={"connections": 3, "in_flight": 2})

    def opened(self, data: bytes = b"") -> tuple[Wire, Protocol]:
        """Open a connection, whoever answers it, and send *data*."""
        wire, protocol = Wire(peerAddress=PEER), self.site.buildProtocol(PEER)
        if isinstance(protocol, GatewayChannel):
            protocol.callLater = self.clock.callLater  # type: ignore[assignment,method-assign]
        protocol.makeConnection(wire)
        if data:
            protocol.dataReceived(data)
        return wire, protocol

    def asking(self) -> tuple[Wire, Protocol]:
        """Open a connection with a request that the upstream does not answer."""
        body = b'{"model":"m","messages":[]}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n"
        key = b"Authorization: Bearer " + KEY.encode()
        return self.opened(head % len(body) + key + b"\r\n\r\n" + body)

    def test_a_slow_head_makes_room(self) -> None:
        """The oldest goes; who comes is served, again and again."""
        slow = [self.opened(b"GET / HT")[0] for _ in range(3)]
        for each in slow:
            wire, protocol = self.opened(HEALTH)
            self.assertTrue(each.aborted)
            self.assertIn(b" 200 ", wire.value())
            protocol.connectionLost(Failure(ConnectionDone()))

    def test_an_idle_one_goes_after_those(self) -> None:
        """It is closed, not aborted: what it was answered may not be sent yet."""
        idle, _ = self.opened(HEALTH)
        silent = [self.opened()[0], self.opened()[0]]
        for each in silent:
            self.opened()
            self.assertTrue(each.aborted)
        self.assertFalse(idle.disconnecting)
        for _ in range(3):
            self.opened()
        self.assertFalse(idle.aborted)

    def test_requests_at_work_stay(self) -> None:
        """Then it is the new one that is told to come back, and nothing of it is read."""
        self.opened(HEALTH)
        asking = [self.asking()[0] for _ in range(2)]
        self.opened(b"POST /v1/messages HTTP/1.1\r\n")
        wire, _ = self.opened(HEALTH)
        self.assertIn(b" 200 ", wire.value())
        self.assertEqual([each.aborted for each in asking], [False, False])
        self.assertEqual(len(self.upstream.sent), 2)

    def test_all_are_at_work(self) -> None:
        """A connection beyond that costs a few bytes."""
        self.setup.load.bounds = type(self.setup.load.bounds)()
        asking = [self.asking() for _ in range(3)]
        wire, protocol = self.opened(HEALTH)
        self.assertIsInstance(protocol, NoRoom)
        head, _, body = wire.value().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 503 "), head)
        self.assertIn(b"\r\nretry-after: ", head)
        self.assertEqual(body, b"")
        self.assertTrue(wire.half_closed)
        protocol.readConnectionLost()  # type: ignore[attr-defined]
        self.assertTrue(wire.aborted)
        # As soon as one was answered there is room.
        self.upstream.sent[0].reply(MemoryResponse(200, JSON, [chat_body("hi")]))
        self.assertIn(b" 200 ", asking[0][0].value())
        wire, _ = self.opened(HEALTH)
        self.assertIn(b" 200 ", wire.value())

    def test_those_turned_away_do_not_pile_up(self) -> None:
        """The first of them goes when there are too many, and all when the gateway stops."""
        self.setup.load.bounds = type(self.setup.load.bounds)()
        for _ in range(3):
            self.asking()
        away = [self.opened()[0] for _ in range(STAYING + 2)]
        self.assertEqual([each.aborted for each in away].count(True), 2)
        self.assertTrue(away[0].aborted and away[1].aborted)
        self.site.hang_up()
        self.assertTrue(all(each.aborted for each in away))

    def test_over_tls(self) -> None:
        """There nothing is said: it would take a handshake."""
        wire = Wire()
        alsoProvides(wire, ISSLTransport)
        self.setup.load.bounds = type(self.setup.load.bounds)()
        for _ in range(3):
            self.asking()
        self.site.buildProtocol(PEER).makeConnection(wire)
        self.assertTrue(wire.aborted)
        self.assertEqual(wire.value(), b"")

    def test_idle_ones_can_be_closed(self) -> None:
        """When memory is short: those that ask for nothing, and only those."""
        idle, asking, silent = self.opened(HEALTH)[0], self.asking()[0], self.opened(b"GET")[0]
        self.assertEqual(self.site.close_idle(), 1)
        self.assertTrue(idle.disconnecting)
        self.assertFalse(asking.disconnecting or silent.disconnecting)


class HeadClockTests(GatewayTestCase):
    """How long a head may take."""

    def dripped(self, seconds: int) -> None:
        """Send a byte of a header each second."""
        for _ in range(seconds):
            self.clock.advance(1)
            self.channel.dataReceived(b"x")

    def begun(self) -> None:
        """Begin a request on a new connection."""
        self.connect()
        self.channel.dataReceived(b"POST /v1/messages HTTP/1.1\r\nHost: h\r\nX-Slow: ")

    def test_a_head_has_a_shorter_clock(self) -> None:
        """Than a whole request; the refusal names it, in the dialect of the path."""
        self.build([], timeouts={"head": 5, "upload": 60})
        self.begun()
        self.dripped(4)
        self.assertEqual(self.wire.value(), b"")
        self.dripped(1)
        self.assertEqual(self.reply().status, 408)
        error = self.reply().json()
        self.assertEqual(error["type"], "error")
        self.assertIn("timeouts.head", error["error"]["message"])

    def test_the_rest_is_for_the_body(self) -> None:
        """The whole time stays what it was."""
        self.build([], timeouts={"head": 5, "upload": 60})
        self.begun()
        self.dripped(3)
        key = b"\r\nx-api-key: " + KEY.encode()
        self.channel.dataReceived(key + b"\r\nContent-Length: 999\r\n\r\n")
        self.dripped(56)
        self.assertEqual(self.wire.value(), b"")
        self.dripped(1)
        self.assertIn("timeouts.upload", self.reply().json()["error"]["message"])

    def test_one_without_the_other(self) -> None:
        """Either can be off; the shorter of the two holds for the head."""
        for timeouts, until in (
            ({"head": 5, "upload": 0}, 5),
            ({"head": 0, "upload": 7}, 7),
            ({"head": 9, "upload": 4}, 4),
        ):
            self.build([], timeouts=timeouts)
            self.begun()
            self.dripped(until - 1)
            self.assertEqual(self.wire.value(), b"", timeouts)
            self.dripped(1)
            self.assertEqual(self.reply().status, 408, timeouts)

    def test_no_clock_begins_again_in_a_body(self) -> None:
        """A body may take as long as it likes, if only its head has a clock."""
        self.build([], timeouts={"head": 5, "upload": 0})
        self.begun()
        key = b"\r\nx-api-key: " + KEY.encode()
        self.channel.dataReceived(key + b"\r\nContent-Length: 999\r\n\r\n")
        self.dripped(100)
        self.assertEqual(self.wire.value(), b"")
        self.channel.connectionLost(Failure(ConnectionDone()))
