"""Answers over loopback: heads, bodies and how they end, packed or not."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.values import UpstreamRequest
from tests.raw_peers import Peer, Sink, WireCase, read, reply, turns

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


class AnswerTests(WireCase):
    """What comes back."""

    async def answer(self, raw: bytes, *, method: str = "POST", close: bool = False) -> Any:
        """Return the answer to a request that the server answers with *raw*."""

        def script(peer: Peer) -> None:
            if peer.take_request() is not None:
                peer.send(raw)
                if close:
                    peer.close()

        url = self.server(script).url()
        body = b"{}" if method == "POST" else None
        request = UpstreamRequest(method=method, url=url, headers=(), body=body)
        return await self.upstream().send(request)

    async def test_head(self) -> None:
        """Status and headers: lower-case names, repeated lines kept, no framing."""
        lines = (b"X-Request-Id: 7", b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"Connection: x")
        response = await self.answer(reply(b"{}", *lines, status=b"429 Slow"))
        self.assertEqual(response.status, 429)
        self.assertEqual(
            response.headers,
            ((b"x-request-id", b"7"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")),
        )
        self.assertEqual((await read(response))[0], b"{}")

    async def test_whole_bodies(self) -> None:
        """A counted or chunked body ends cleanly, whatever it holds."""
        for raw in (
            reply(b"hello"),
            CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
        ):
            data, end = await read(await self.answer(raw))
            self.assertEqual(data, b"hello")
            self.assertTrue(end.check(ResponseDone))

    async def test_empty_bodies(self) -> None:
        """204, HEAD and a zero length end cleanly at once."""
        for raw, method in (
            (b"HTTP/1.1 204 None\r\n\r\n", "POST"),
            (reply(b""), "POST"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD"),
        ):
            data, end = await read(await self.answer(raw, method=method))
            self.assertEqual(data, b"")
            self.assertTrue(end.check(ResponseDone))

    async def test_body_until_close(self) -> None:
        """A body that only the close ends is told apart from a counted one."""
        data, end = await read(await self.answer(EVENTS + b"data: 1\n\n", close=True))
        self.assertEqual(data, b"data: 1\n\n")
        self.assertTrue(end.check(PotentialDataLoss))

    async def test_cut_bodies(self) -> None:
        """A counted or chunked body that is cut never ends cleanly."""
        for raw in (reply(b"hello")[:-1], CHUNKED + b"5\r\nhello\r\n", CHUNKED + b"5\r\nhe"):
            _, end = await read(await self.answer(raw, close=True))
            self.assertIsNone(end.check(ResponseDone, PotentialDataLoss))

    async def test_bad_chunks(self) -> None:
        """Chunking that cannot be read is a break, and closes the connection."""
        response = await self.answer(CHUNKED + b"5\r\nhello\r\nzz\r\n")
        data, end = await read(response)
        self.assertEqual(data, b"hello")
        self.assertIsNone(end.check(ResponseDone, PotentialDataLoss))
        await self.servers[0].peers[0].gone

    async def test_reset_is_no_close(self) -> None:
        """A reset in a body that the close would end is a break."""
        response = await self.answer(EVENTS + b"data: 1\n\n")
        sink = Sink()
        response.deliver(sink)
        await sink.fed
        self.servers[0].peers[0].reset()
        await sink.ended
        self.assertIsNone(sink.ends[0].check(ResponseDone, PotentialDataLoss))

    async def test_interim_answers(self) -> None:
        """100 and 103 are not the answer."""
        raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + reply(b"ok")
        response = await self.answer(raw)
        self.assertEqual((response.status, response.headers), (200, ()))
        self.assertEqual((await read(response))[0], b"ok")

    async def test_redirects(self) -> None:
        """A redirect is an answer like any other: credentials never follow it."""
        response = await self.answer(reply(b"", b"Location: /elsewhere", status=b"307 Go"))
        self.assertEqual(response.status, 307)
        await read(response)
        self.assertEqual(len(self.servers[0].peers), 1)

    async def test_not_http(self) -> None:
        """An upstream that speaks something else is a clear error, and is hung up on."""
        for raw in (b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n", reply(b"", b"Set-Cookie: \xe9=1")):
            error: Any = None
            try:
                await self.answer(raw)
            except UpstreamError as caught:
                error = caught
            self.assertEqual((error.fault, error.status), (Fault.RESET, 502))
            self.assertIn(f"http://127.0.0.1:{self.servers[-1].port} did not", error.message)
            self.assertNotIn("secret-path", error.message)
            await self.servers[-1].peers[0].gone

    async def test_second_receiver(self) -> None:
        """A body has one receiver."""
        response = await self.answer(reply(b"ok"))
        await read(response)
        self.assertRaises(RuntimeError, response.deliver, Sink())


class GzipTests(WireCase):
    """Packed bodies, unpacked on the way."""

    async def packed(self, body: bytes) -> Any:
        """Return an answer with this packed body."""

        def script(peer: Peer) -> None:
            if peer.take_request() is not None:
                peer.send(reply(body, b"Content-Encoding: gzip", b"X-A: b"))

        return await self.upstream().send(self.post(self.server(script).url()))

    async def test_unpacked(self) -> None:
        """The body is unpacked and no header says otherwise; members join."""
        for body in (
            gzip.compress(b"hello"),
            gzip.compress(b"he") + gzip.compress(b"llo"),
            gzip.compress(b"hello") + b"\0" * 7,
        ):
            response = await self.packed(body)
            self.assertEqual(response.headers, ((b"x-a", b"b"),))
            data, end = await read(response)
            self.assertEqual(data, b"hello")
            self.assertTrue(end.check(ResponseDone))

    async def test_empty(self) -> None:
        """An empty body is empty, packed or not."""
        data, end = await read(await self.packed(b""))
        self.assertEqual(data, b"")
        self.assertTrue(end.check(ResponseDone))

    async def test_cut_or_bad(self) -> None:
        """A stream that is cut or damaged never ends cleanly, and ends once."""
        packed = gzip.compress(bytes(range(256)) * 99)
        for body in (packed[:-1], packed[:50], b"no gzip at all", packed + b"no gzip"):
            sink = Sink()
            (await self.packed(body)).deliver(sink)
            await sink.ended
            await turns(5)
            self.assertEqual(len(sink.ends), 1)
            self.assertIsNone(sink.ends[0].check(ResponseDone, PotentialDataLoss))

    async def test_events_are_not_held_back(self) -> None:
        """Each flushed event arrives before the next is sent."""
        packer = zlib.compressobj(wbits=31)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
        first = packer.compress(b"data: 1\n\n") + packer.flush(zlib.Z_SYNC_FLUSH)
        rest = packer.compress(b"data: 2\n\n") + packer.flush()

        def script(peer: Peer) -> None:
            if peer.take_request() is not None:
                peer.send(head + first)

        server = self.server(script)
        response = await self.upstream().send(self.post(server.url()))
        sink = Sink()
        response.deliver(sink)
        await sink.fed
        self.assertEqual(sink.data, b"data: 1\n\n")
        server.peers[0].send(rest)
        server.peers[0].close()
        await sink.ended
        self.assertEqual(sink.data, b"data: 1\n\ndata: 2\n\n")

    async def test_bomb(self) -> None:
        """A small body that unpacks to 20 MB comes piece by piece, as it is asked for."""
        sink = Sink(pausing=True)
        (await self.packed(gzip.compress(b"\0" * 20_000_000))).deliver(sink)
        await sink.fed
        await turns(20)
        self.assertEqual((len(sink.data), sink.ends), (65536, []))
        for _ in range(3):
            sink.transport.resumeProducing()
        self.assertEqual(len(sink.data), 4 * 65536)
        sink.pausing = False
        sink.transport.resumeProducing()
        await sink.ended
        self.assertEqual(len(sink.data), 20_000_000)
        self.assertTrue(sink.ends[0].check(ResponseDone))

    async def test_abort_while_held_back(self) -> None:
        """Aborting a body that is all here but not delivered ends it, once, not at once."""
        response = await self.packed(gzip.compress(b"\0" * 20_000_000))
        sink = Sink(pausing=True)
        response.deliver(sink)
        await sink.fed
        await turns(20)
        response.abort()
        self.assertEqual(sink.ends, [])
        sink.transport.resumeProducing()
        await sink.ended
        await turns(5)
        self.assertEqual((len(sink.data), len(sink.ends)), (65536, 1))
        self.assertIsNone(sink.ends[0].check(ResponseDone))
