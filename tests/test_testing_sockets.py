"""
Upstreams for tests over loopback sockets, talked to by hand.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from aiclient2api.testing import (
    STREAM_HEAD,
    Blackhole,
    Chunk,
    Close,
    Flood,
    Head,
    Hold,
    Reset,
    ScriptedUpstream,
    Send,
    Wait,
    json_reply,
    sse_reply,
)

reactor: Any = _reactor


class Reader(Protocol):
    """A client that keeps what it gets."""

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


class ScriptedUpstreamTests(TestCase):
    """`ScriptedUpstream` over loopback, talked to by hand."""

    timeout = 30

    async def serve(self, scripts: Any) -> ScriptedUpstream:
        """Start an upstream that is stopped at the end of the test."""
        upstream = ScriptedUpstream(scripts)
        self.port = await upstream.listen(reactor)
        self.addCleanup(upstream.stop)
        return upstream

    async def connect(self) -> Any:
        """Connect a `Reader` to the upstream."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)
        reader = await connectProtocol(endpoint, Reader())
        self.addCleanup(reader.transport.loseConnection)
        return reader

    def ask(self, reader: Any, body: bytes = b"", more: bytes = b"") -> None:
        """Write one POST with *body*."""
        length = str(len(body)).encode()
        head = b"POST /v1/x?y=1 HTTP/1.1\r\nHost: h\r\nX-Case: Kept\r\n" + more
        reader.transport.write(head + b"Content-Length: " + length + b"\r\n\r\n" + body)

    async def test_a_request_is_recorded(self) -> None:
        """Method, target, headers, body and digest of a request can be looked at."""
        upstream = await self.serve([json_reply(200, {"a": 1})])
        reader = await self.connect()
        self.ask(reader, b"hello", more=b"Connection: close\r\n")
        await reader.gone
        head, _, body = reader.data.partition(b"\r\n\r\n")
        self.assertEqual((head.split(b"\r\n")[0], body), (b"HTTP/1.1 200 OK", b'{"a": 1}'))
        (request,) = upstream.requests
        self.assertEqual((request.method, request.target), ("POST", "/v1/x?y=1"))
        self.assertEqual((request.header(b"x-case"), request.body), (b"Kept", b"hello"))
        self.assertEqual(request.header(b"absent"), None)
        self.assertEqual(
            request.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        )
        self.assertEqual(request.connection.number, 0)

    async def test_keep_alive_and_the_end_of_the_scripts(self) -> None:
        """One connection serves many requests; after the last script comes a 500."""
        upstream = await self.serve([json_reply(200, {}), sse_reply([b"data: 1\n\n"])])
        reader = await self.connect()
        self.ask(reader, b"1")
        self.ask(reader, b"2")
        self.ask(reader, b"3", more=b"Connection: close\r\n")
        await reader.gone
        self.assertEqual([each.body for each in upstream.requests], [b"1", b"2", b"3"])
        self.assertEqual(len(upstream.connections), 1)
        self.assertIn(b"9\r\ndata: 1\n\n\r\n0\r\n\r\n", reader.data)
        self.assertIn(b"HTTP/1.1 500", reader.data)

    async def test_a_chunked_request_body_in_small_writes(self) -> None:
        """A chunked request body is put together, however it arrives."""
        upstream = await self.serve(lambda request: json_reply(200, {}))
        reader = await self.connect()
        text = b"PUT /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n"
        for byte in text + b"0\r\nTrailer: 1\r\n\r\n":
            reader.transport.write(bytes([byte]))
        await upstream.when_requests(1)
        self.assertEqual(upstream.requests[0].body, b"abcde")

    async def test_a_callable_chooses(self) -> None:
        """A callable sees the request and picks the script."""
        await self.serve(lambda request: json_reply(418, {"you": request.body.decode()}))
        reader = await self.connect()
        self.ask(reader, b"tea", more=b"Connection: close\r\n")
        await reader.gone
        self.assertTrue(reader.data.startswith(b"HTTP/1.1 418 I'm a Teapot\r\n"))
        self.assertIn(b'"tea"', reader.data)

    async def test_close_and_reset(self) -> None:
        """A close reaches the client as an orderly end, a reset as a broken connection."""
        await self.serve([[Send(b"partial"), Close(), Send(b"never")], [STREAM_HEAD, Reset()]])
        closed, broken = await self.connect(), await self.connect()
        self.ask(closed)
        await closed.gone
        self.ask(broken)
        await broken.gone
        self.assertEqual(closed.data, b"partial")
        self.assertEqual(closed.losses[0].type, ConnectionDone)
        self.assertEqual(broken.losses[0].type, ConnectionLost)

    async def test_wait_then_more(self) -> None:
        """A gap lets each frame arrive on its own."""
        await self.serve([[Send(b"1"), Wait(0.02), Send(b"2"), Close()]])
        reader = await self.connect()
        self.ask(reader)
        await reader.gone
        self.assertEqual(reader.reads, [b"1", b"2"])

    async def test_hold_until_released(self) -> None:
        """A held script stands still until the test releases it."""
        upstream = await self.serve([[Send(b"1"), Hold(), Send(b"2"), Close()]])
        reader = await self.connect()
        self.ask(reader)
        await upstream.when_requests(1)
        upstream.release()
        await reader.gone
        self.assertEqual(reader.data, b"12")

    async def test_a_client_that_leaves_is_noticed(self) -> None:
        """Whoever closes, the upstream knows that and when a connection closed."""
        upstream = await self.serve([[STREAM_HEAD, Chunk(b"x"), Hold()]])
        reader = await self.connect()
        self.ask(reader)
        await upstream.when_requests(1)
        self.assertEqual((upstream.open, upstream.closed), (1, 0))
        self.assertIsNone(upstream.connections[0].closed)
        reader.transport.abortConnection()
        await upstream.when_closed(1)
        self.assertEqual((upstream.open, upstream.closed), (0, 1))
        self.assertGreaterEqual(upstream.connections[0].closed or 0, upstream.connections[0].opened)

    async def test_stop_leaves_nothing_open(self) -> None:
        """After stop() no socket is open and no timer runs, whatever was being played."""
        upstream = ScriptedUpstream([[Wait(3600)], [Hold()], [Flood(10**9, b"x" * 4096)]])
        self.port = await upstream.listen(reactor)
        readers = [await self.connect() for _ in range(4)]
        for number, reader in enumerate(readers[:3]):
            self.ask(reader)
            await upstream.when_requests(number + 1)
        await upstream.when_connected(4)
        await upstream.stop()
        self.assertEqual((upstream.open, upstream.closed), (0, 4))
        for reader in readers:
            await reader.gone

    async def test_a_flood_stops_when_nobody_reads(self) -> None:
        """The upstream offers no more than a stopped reader's buffers hold."""
        upstream = await self.serve(
            [[Head(200), Flood(64 * 2**20, b"x" * 16384, chunked=False), Close()]]
        )
        reader = await self.connect()
        reader.transport.pauseProducing()
        self.ask(reader)
        await upstream.when_requests(1)
        before = -1
        while before != upstream.flooded:
            before = upstream.flooded
            pause: Deferred[None] = Deferred()
            reactor.callLater(0.05, pause.callback, None)
            await pause
        self.assertLess(upstream.flooded, 64 * 2**20)
        self.assertGreater(upstream.flooded, 0)
        reader.transport.abortConnection()
        await upstream.when_closed(1)

    async def test_a_flood_is_whole(self) -> None:
        """A reader that reads gets every piece, framed, and the script goes on after it."""
        upstream = await self.serve([[STREAM_HEAD, Flood(300_000, b"y" * 100_001), Close()]])
        reader = await self.connect()
        self.ask(reader)
        await reader.gone
        body = reader.data.partition(b"\r\n\r\n")[2]
        self.assertEqual(body, (b"186a1\r\n" + b"y" * 100_001 + b"\r\n") * 3)
        self.assertEqual(upstream.flooded, 300_003)

    async def test_a_cancelled_wait_is_forgotten(self) -> None:
        """A test may give up waiting for an event."""
        upstream = await self.serve([])
        waiting = upstream.when_requests(1)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        reader = await self.connect()
        self.ask(reader)
        await upstream.when_requests(1)


class BlackholeTests(TestCase):
    """`Blackhole` over loopback."""

    timeout = 30

    async def test_connecting_hangs_until_given_up(self) -> None:
        """A connect neither succeeds nor fails; giving up closes its socket."""
        hole = Blackhole()
        self.addCleanup(hole.close)
        self.assertEqual(hole.connecting(), 0)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", hole.port)
        connecting = connectProtocol(endpoint, Reader())
        while not hole.connecting():
            turn: Deferred[None] = Deferred()
            reactor.callLater(0.01, turn.callback, None)
            await turn
        self.assertNoResult(connecting)
        connecting.cancel()
        self.assertEqual(hole.connecting(), 0)
        self.assertEqual(self.failureResultOf(connecting).check(CancelledError), None)
