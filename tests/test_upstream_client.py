"""The way out, over loopback: requests, kept connections, closing at any moment."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import CancelledError, DeferredList, gatherResults
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from zope.interface.verify import verifyObject

from aiclient2api import __version__
from aiclient2api.errors import Fault
from aiclient2api.interfaces import IUpstream, IUpstreamResponse
from aiclient2api.upstream import client
from aiclient2api.values import UpstreamRequest
from tests.raw_peers import (
    REACTOR,
    Peer,
    Server,
    Sink,
    WireCase,
    hello,
    read,
    reply,
    silent,
    turns,
)

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


class RequestTests(WireCase):
    """What goes on the wire."""

    async def sent(self, request: UpstreamRequest, server: Server | None = None) -> list[bytes]:
        """Send a request and return it as it arrived, line by line, the body last."""
        seen: list[bytes] = []

        def script(peer: Peer) -> None:
            request = peer.take_request()
            if request is not None:
                seen.append(request)
                peer.send(reply())

        server = self.server(script)
        upstream = self.upstream()
        request = UpstreamRequest(
            method=request.method,
            url=request.url.replace("SERVER", f"127.0.0.1:{server.port}"),
            headers=request.headers,
            body=request.body,
        )
        await read(await upstream.send(request))
        text = seen[0].replace(b"127.0.0.1:%d" % server.port, b"SERVER")
        return text.split(b"\r\n")

    async def test_interfaces(self) -> None:
        """Client and answer keep to the interfaces."""
        upstream = self.upstream()
        verifyObject(IUpstream, upstream)
        response = await upstream.send(self.post(self.server(hello).url()))
        verifyObject(IUpstreamResponse, response)
        await read(response)

    async def test_exact_headers(self) -> None:
        """A request carries our headers, what HTTP needs, and nothing else."""
        headers = ((b"x-api-key", b"sk-test"), (b"anthropic-beta", b"a"), (b"user-agent", b"me/1"))
        request = self.post("http://SERVER/v1", b'{"a":1}', headers=headers)
        *lines, blank, body = await self.sent(request)
        self.assertEqual(lines[0], b"POST /v1 HTTP/1.1")
        self.assertEqual(
            sorted(lines[1:]),
            [
                b"Accept-Encoding: gzip",
                b"Anthropic-Beta: a",
                b"Content-Length: 7",
                b"Host: SERVER",
                b"User-Agent: me/1",
                b"X-Api-Key: sk-test",
            ],
        )
        self.assertEqual((blank, body), (b"", b'{"a":1}'))

    async def test_wire_headers_are_ours(self) -> None:
        """Framing that slipped into the headers is not repeated on the wire."""
        headers = (
            (b"content-length", b"99"),
            (b"transfer-encoding", b"chunked"),
            (b"host", b"evil"),
            (b"accept-encoding", b"br"),
            (b"connection", b"close"),
        )
        lines = await self.sent(self.post("http://SERVER/v1", b"{}", headers=headers))
        text = b"\n".join(lines)
        self.assertEqual(text.count(b"Content-Length: 2"), 1)
        for stray in (b"99", b"chunked", b"evil", b"br", b"close"):
            self.assertNotIn(stray, text)

    async def test_user_agent(self) -> None:
        """We say who we are unless the request says otherwise."""
        lines = await self.sent(self.post("http://SERVER/"))
        self.assertIn(b"User-Agent: aiclient2api/" + __version__.encode(), lines)

    async def test_no_body(self) -> None:
        """GET and HEAD go without a body; an empty POST says that it is empty."""
        lines = await self.sent(self.post("http://SERVER/", None, headers=()))
        self.assertFalse([line for line in lines if line.lower().startswith(b"content-")])
        lines = await self.sent(self.post("http://SERVER/", b"", headers=()))
        self.assertIn(b"Content-Length: 0", lines)

    async def test_url_is_kept(self) -> None:
        """Colons, escapes, dollar signs and order in a URL reach the upstream unchanged."""
        for path in (
            "/v1beta/models/gemini-x:streamGenerateContent?alt=sse&$alt=json",
            "/a%2Fb/c%3Ad?x=a+b%20c&x=&y",
            "/v4//x/../y?beta=true&quote='\"",
        ):
            lines = await self.sent(self.post(f"http://SERVER{path}"))
            self.assertEqual(lines[0], b"POST " + path.encode() + b" HTTP/1.1")

    async def test_cookies_stay_with_the_account(self) -> None:
        """A cookie comes back for the account that got it, and for no other."""
        seen: list[bytes] = []

        def script(peer: Peer) -> None:
            request = peer.take_request()
            if request is not None:
                seen.append(request)
                peer.send(reply(b"", b"Set-Cookie: session=one; Path=/"))

        upstream, url = self.upstream(), self.server(script).url()
        for account in ("a", "a", "b"):
            await read(await upstream.send(self.post(url, account=account)))
        self.assertEqual([b"Cookie: session=one" in each for each in seen], [False, True, False])

    async def test_accounts_are_bounded(self) -> None:
        """However many accounts pass by, the cookies of only so many are kept."""
        last: list[bytes] = []

        def script(peer: Peer) -> None:
            request = peer.take_request()
            if request is not None:
                last[:] = [request]
                peer.send(reply(b"", b"Set-Cookie: session=one; Path=/"))

        upstream, url = self.upstream(), self.server(script).url()
        self.patch(client, "CLIENTS", 3)
        for account, known in (
            ("a", 0),
            ("b", 0),
            ("c", 0),
            ("a", 1),
            ("d", 0),
            ("a", 1),
            ("b", 0),
        ):
            await read(await upstream.send(self.post(url, account=account)))
            self.assertEqual(last[0].count(b"Cookie: session=one"), known)


class KeptConnectionTests(WireCase):
    """Connections used again, and those that must not be."""

    async def test_reuse(self) -> None:
        """Requests that follow one another share a connection, whatever the account."""
        upstream, server = self.upstream(), self.server(hello)
        for account in ("a", "b", "a"):
            data, _ = await read(await upstream.send(self.post(server.url(), account=account)))
            self.assertEqual(data, b"hello")
        self.assertEqual(len(server.peers), 1)
        # A small request must not wait for the acknowledgement of the one before.
        clients = [each for each in REACTOR.getReaders() if getattr(each, "connector", None)]
        self.assertEqual([each.getTcpNoDelay() for each in clients], [1])

    async def test_many_are_kept(self) -> None:
        """Eight connections used at once are all kept for the next eight requests."""
        upstream, server = self.upstream(), self.server(hello)
        for _ in range(2):
            sending = [upstream.send(self.post(server.url())) for _ in range(8)]
            for response in await gatherResults(sending):
                await read(response)
        self.assertEqual(len(server.peers), 8)

    async def test_close_is_heeded(self) -> None:
        """A connection that the upstream says it will close is not used again."""

        def script(peer: Peer) -> None:
            if peer.take_request() is not None:
                peer.send(reply(b"x", b"Connection: close"))

        upstream, server = self.upstream(), self.server(script)
        for _ in range(2):
            await read(await upstream.send(self.post(server.url())))
        self.assertEqual(len(server.peers), 2)
        await server.peers[0].gone

    async def test_closing(self) -> None:
        """`close` closes what is idle."""
        upstream, server = self.upstream(), self.server(hello)
        await read(await upstream.send(self.post(server.url())))
        self.assertTrue(server.peers[0].open)
        await upstream.close()
        await server.peers[0].gone

    async def test_paused_at_the_last_byte(self) -> None:
        """A connection whose reader paused at the last byte serves the next request."""
        upstream, server = self.upstream(), self.server(hello)
        for _ in range(3):
            sink = Sink(pausing=True)
            (await upstream.send(self.post(server.url()))).deliver(sink)
            await sink.ended
            self.assertEqual(sink.data, b"hello")
        self.assertEqual(len(server.peers), 1)

    def stale(self, requests: list[bytes], last_words: bytes = b"") -> Server:
        """Return a server that answers ``/first``, and hangs up on the next thing asked."""

        def script(peer: Peer) -> None:
            request = peer.take_request()
            if request is None:
                return
            requests.append(request)
            others = sum(b"/first" not in each for each in requests)
            if b"/first" in request or others > 1:
                peer.send(reply(b"hello"))
            else:
                peer.send(last_words)
                peer.close()

        return self.server(script)

    async def test_stale_connection(self) -> None:
        """A request that a closing connection swallowed is sent again, once, unnoticed."""
        requests: list[bytes] = []
        upstream, server = self.upstream(), self.stale(requests)
        first = [upstream.send(self.post(server.url("/first"))) for _ in range(3)]
        for response in await gatherResults(first):
            await read(response)
        data, _ = await read(await upstream.send(self.post(server.url("/then"), b"precious")))
        self.assertEqual(data, b"hello")
        # Three connections were idle; the repeat goes past the other two to a new one.
        self.assertEqual(len(server.peers), 4)
        self.assertEqual(sum(b"/then" in each for each in requests), 2)
        self.assertTrue(requests[-1].endswith(b"precious"))

    async def test_what_must_not_come_twice_goes_past_kept_connections(self) -> None:
        """So that it cannot be lost on one that is closing, and need not be sent again."""
        requests: list[bytes] = []
        upstream, server = self.upstream(), self.stale(requests)
        await read(await upstream.send(self.post(server.url("/first"))))
        once = attrs.evolve(self.post(server.url("/then")), once=True)
        error = await self.failure(upstream.send(once))
        self.assertEqual((error.fault, len(server.peers)), (Fault.RESET, 2))
        self.assertEqual(sum(b"/then" in each for each in requests), 1)

    async def test_half_an_answer_is_not_stale(self) -> None:
        """Once a byte of an answer was seen, nothing is sent twice."""
        requests: list[bytes] = []
        upstream, server = self.upstream(), self.stale(requests, b"HTTP/1.1 2")
        await read(await upstream.send(self.post(server.url("/first"))))
        error = await self.failure(upstream.send(self.post(server.url())))
        self.assertEqual(error.fault, Fault.RESET)
        self.assertEqual(len(requests), 2)

    async def test_new_connection_is_not_stale(self) -> None:
        """A new connection that closes without an answer is an error, sent once."""
        for last in (Peer.close, Peer.reset):
            requests: list[bytes | None] = []

            def script(
                peer: Peer, requests: list[bytes | None] = requests, last: Any = last
            ) -> None:
                requests.append(peer.take_request())
                last(peer)

            server = self.server(script)
            sending = self.upstream().send(self.post(server.url()))
            error = await self.failure(sending)
            self.assertEqual((error.fault, error.status), (Fault.RESET, 502))
            self.assertIn(f"http://127.0.0.1:{server.port} closed", error.message)
            self.assertNotIn("hush", error.message)
            self.assertEqual(len(requests), 1)


class ClosingTests(WireCase):
    """Aborting and cancelling: the upstream sees the close, now."""

    async def streaming(self) -> tuple[Any, Any, Server]:
        """Return client, server and an answer whose body goes on for ever."""

        def script(peer: Peer) -> None:
            if peer.take_request() is not None:
                peer.send(EVENTS + b"data: 1\n\n")

        upstream, server = self.upstream(), self.server(script)
        return upstream, await upstream.send(self.post(server.url())), server

    async def test_abort_before_delivery(self) -> None:
        """A body nobody read: aborting closes the connection."""
        _, response, server = await self.streaming()
        response.abort()
        response.abort()
        await server.peers[0].gone
        sink = Sink()
        response.deliver(sink)
        await sink.ended
        self.assertEqual(sink.data, b"")
        self.assertIsNone(sink.ends[0].check(ResponseDone, PotentialDataLoss))

    async def test_abort_in_the_middle(self) -> None:
        """Aborting closes now, paused or not; the receiver hears of it once, later."""
        for pausing in (False, True):
            _, response, server = await self.streaming()
            sink = Sink(pausing=pausing)
            response.deliver(sink)
            await sink.fed
            response.abort()
            self.assertEqual(sink.ends, [])
            await server.peers[0].gone
            await sink.ended
            self.assertEqual(len(sink.ends), 1)
            self.assertIsNone(sink.ends[0].check(ResponseDone, PotentialDataLoss))

    async def test_stop_producing(self) -> None:
        """The producer's `stopProducing` closes as well."""
        _, response, server = await self.streaming()
        sink = Sink()
        response.deliver(sink)
        await sink.fed
        sink.transport.stopProducing()
        await server.peers[0].gone

    async def test_abort_after_the_end(self) -> None:
        """Aborting what is over does not touch the connection's next user."""

        def script(peer: Peer) -> None:
            request = peer.take_request()
            if request is not None:
                peer.send(reply(b"hello") if b"/first" in request else reply(b"hello")[:-3])

        for deliver in (True, False):
            upstream, server = self.upstream(), self.server(script)
            old = await upstream.send(self.post(server.url("/first")))
            if deliver:
                await read(old)
            else:
                await turns(5)
            new = await upstream.send(self.post(server.url("/then")))
            sink = Sink()
            new.deliver(sink)
            old.abort()
            await turns(5)
            server.peers[0].send(b"llo")
            await sink.ended
            self.assertEqual(sink.data, b"hello")
            self.assertTrue(sink.ends[0].check(ResponseDone))
            self.assertEqual(len(server.peers), 1)

    async def test_cancel_while_waiting(self) -> None:
        """Fifty requests cancelled while the upstream thinks: fifty sockets closed."""
        upstream, server = self.upstream(), self.server(silent)
        sending = [upstream.send(self.post(server.url())) for _ in range(50)]
        while sum(bool(peer.unread) for peer in server.peers) < 50:
            await turns()
        for each in sending:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        await DeferredList([peer.gone for peer in server.peers])
        self.assertEqual(len(server.peers), 50)

    async def test_cancel_on_a_kept_connection(self) -> None:
        """A cancelled request on a kept connection closes it, and is not sent again."""

        def script(peer: Peer) -> None:
            if b"/first" in peer.unread:
                hello(peer)

        upstream, server = self.upstream(), self.server(script)
        await read(await upstream.send(self.post(server.url("/first"))))
        sending = upstream.send(self.post(server.url("/then")))
        await turns(5)
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        await server.peers[0].gone
        await turns(20)
        self.assertEqual(len(server.peers), 1)

    async def test_cancel_during_the_upload(self) -> None:
        """A request is dropped in the middle of its upload."""
        server = self.server(silent)
        coming = server.next_peer()
        sending = self.upstream().send(self.post(server.url(), b"x" * 30_000_000))
        peer = await coming
        peer.transport.pauseProducing()
        await turns(20)
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        peer.transport.resumeProducing()
        await peer.gone
        self.assertLess(len(peer.unread), 25_000_000)

    async def test_large_upload(self) -> None:
        """A body of 20 MB arrives whole, byte for byte."""
        got: list[bytes] = []

        def script(peer: Peer) -> None:
            if len(peer.unread) >= len(body):
                request = peer.take_request()
                if request is not None:
                    got.append(request)
                    peer.send(reply(b"ok"))

        body = bytes(range(256)) * 80_000
        server = self.server(script)
        data, _ = await read(await self.upstream().send(self.post(server.url(), body)))
        self.assertEqual(data, b"ok")
        self.assertEqual(got[0].partition(b"\r\n\r\n")[2], body)

    async def test_early_refusal(self) -> None:
        """A refusal sent before the upload is done arrives, and ends the connection."""
        for head in (reply(b"too large", status=b"413 Large"), reply(b"", status=b"413 Large")):

            def script(peer: Peer, head: bytes = head) -> None:
                peer.transport.pauseProducing()
                peer.send(head)
                peer.script = silent

            upstream, server = self.upstream(), self.server(script)
            response = await upstream.send(self.post(server.url(), b"x" * 30_000_000))
            self.assertEqual(response.status, 413)
            _, end = await read(response)
            self.assertTrue(end.check(ResponseDone))
            server.peers[0].transport.resumeProducing()
            await server.peers[0].gone

    async def test_slow_reader(self) -> None:
        """A paused receiver stops the upstream: nothing piles up on our side."""
        total = 50_000_000

        def script(peer: Peer) -> None:
            if peer.take_request() is not None:
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
                peer.send(b"x" * total)

        server = self.server(script)
        response = await self.upstream().send(self.post(server.url()))
        await turns(50)
        sink = Sink(pausing=True)
        response.deliver(sink)
        await sink.fed
        await turns(200)
        # At most two reads of Twisted's 64 KiB: one held with the head, one after.
        self.assertLessEqual(len(sink.data), 2 * 65536)
        sink.pausing = False
        sink.transport.resumeProducing()
        await sink.ended
        self.assertEqual(len(sink.data), total)
