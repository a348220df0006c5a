"""Getting a connection: proxies, TLS, the connect clock, and cancelling in every step."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IHostnameResolver
from zope.interface import implementer

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.upstream import line
from aiclient2api.upstream.client import Upstream
from tests.raw_peers import (
    REACTOR,
    Authority,
    Peer,
    Script,
    Server,
    Sink,
    WireCase,
    hello,
    join,
    read,
    reply,
    silent,
    turns,
)

AUTHORITY = Authority.create()


@implementer(IHostnameResolver)
class Resolver:
    """Knows no name: says so at once, or never says anything. Addresses are addresses."""

    def __init__(self, *, answers: bool) -> None:
        """Say that there is no such name, or say nothing."""
        self.answers = answers
        self.asked: list[str] = []

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Note the question."""
        self.asked.append(hostName)
        resolutionReceiver.resolutionBegan(None)
        if hostName == "127.0.0.1":
            resolutionReceiver.addressResolved(IPv4Address("TCP", hostName, portNumber))
        if self.answers or hostName == "127.0.0.1":
            resolutionReceiver.resolutionComplete()
        return resolutionReceiver


def connect_proxy(target: Server, seen: list[bytes], login: bytes = b"") -> Script:
    """Return the script of an HTTP proxy that leads everything to *target*."""

    def script(peer: Peer) -> None:
        request = peer.take_request()
        if request is None:
            return
        seen.append(request)
        if login and b"Basic " + login not in request:
            peer.send(reply(b"no", status=b"407 Proxy Authentication Required"))
            return
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.script = silent
        join(peer, target)

    return script


def socks_proxy(target: Server, seen: list[bytes], verdict: int = 0) -> Script:
    """Return the script of a SOCKS5 proxy that asks for ``user`` and ``word``."""
    steps = [(4, b"\x05\x02"), (11, b"\x01\x00")]
    done: dict[Peer, int] = {}

    def script(peer: Peer) -> None:
        for size, answer in steps[done.get(peer, 0) :]:
            if len(peer.unread) < size:
                return
            seen.append(peer.take(size))
            done[peer] = done.get(peer, 0) + 1
            peer.send(answer)
        if len(peer.unread) > 4:
            seen.append(peer.take(len(peer.unread)))
            peer.send(bytes([5, verdict]) + b"\x00\x01" + b"\x00" * 6)
            peer.script = silent
            if verdict == 0:
                join(peer, target)

    return script


class ProxyTests(WireCase):
    """Through proxies, to targets with and without TLS."""

    def setUp(self) -> None:
        """Forbid every look-up: names are the proxy's business."""
        super().setUp()
        self.resolver = Resolver(answers=True)
        real = REACTOR.installNameResolver(self.resolver)
        self.addCleanup(REACTOR.installNameResolver, real)
        self.seen: list[bytes] = []
        self.tls = AUTHORITY.issue("api.invalid", "127.0.0.1")

    async def fetch(self, upstream: Upstream, url: str, **more: Any) -> bytes:
        """Return the body of an answer."""
        data, _ = await read(await upstream.send(self.post(url, **more)))
        return data

    async def test_connect(self) -> None:
        """HTTP and TLS targets, HTTP and TLS proxies: CONNECT, and nobody looks up a name."""
        for target_tls in (None, self.tls):
            for proxy_tls in (None, self.tls):
                target = self.server(hello, target_tls)
                proxy = self.server(connect_proxy(target, self.seen), proxy_tls)
                upstream = self.upstream(trust=AUTHORITY.trust())
                url = f"{target.scheme}://api.invalid:81/v1"
                setting = f"{proxy.scheme}://127.0.0.1:{proxy.port}"
                for _ in range(2):
                    self.assertEqual(await self.fetch(upstream, url, proxy=setting), b"hello")
                self.assertIn(b"CONNECT api.invalid:81 HTTP/1.1\r\n", self.seen[-1])
                self.assertEqual((len(proxy.peers), len(target.peers)), (1, 1))
        self.assertNotIn("api.invalid", self.resolver.asked)

    async def test_connect_login(self) -> None:
        """Credentials of the proxy URL go to the proxy, and not to the target."""
        heard: list[bytes] = []

        def listen(peer: Peer) -> None:
            heard.append(bytes(peer.unread))
            hello(peer)

        target = self.server(listen)
        proxy = self.server(connect_proxy(target, self.seen, b"dXNlcjp3QHJk"))
        setting = f"http://user:w%40rd@127.0.0.1:{proxy.port}"
        body = await self.fetch(self.upstream(), "http://api.invalid/", proxy=setting)
        self.assertEqual(body, b"hello")
        self.assertNotIn(b"Proxy-", b"".join(heard))

    async def test_socks(self) -> None:
        """SOCKS5 with a password, to targets with and without TLS, names unresolved."""
        for tls in (None, self.tls):
            target = self.server(hello, tls)
            self.seen.clear()
            proxy = self.server(socks_proxy(target, self.seen))
            url = f"{target.scheme}://api.invalid:81/v1"
            setting = f"socks5h://user:word@127.0.0.1:{proxy.port}"
            upstream = self.upstream(trust=AUTHORITY.trust())
            self.assertEqual(await self.fetch(upstream, url, proxy=setting), b"hello")
            self.assertEqual(
                self.seen,
                [
                    b"\x05\x02\x00\x02",
                    b"\x01\x04user\x04word",
                    b"\x05\x01\x00\x03\x0bapi.invalid\x00Q",
                ],
            )
        self.assertNotIn("api.invalid", self.resolver.asked)

    async def test_environment(self) -> None:
        """The environment's proxy serves who names none; an own proxy or ``direct`` wins."""
        target, other = self.server(hello), self.server(hello)
        proxy = self.server(connect_proxy(other, self.seen))
        mine = self.server(connect_proxy(other, []))
        environ = {"http_proxy": f"http://127.0.0.1:{proxy.port}"}
        upstream = self.upstream(environ=environ)
        await self.fetch(upstream, target.url())
        await self.fetch(upstream, target.url(), proxy="direct")
        setting = f"http://127.0.0.1:{mine.port}"
        await self.fetch(upstream, target.url(), proxy=setting)
        told = [len(each.peers) for each in (proxy, mine, target)]
        self.assertEqual(told, [1, 1, 1])
        free = self.upstream(environ={**environ, "NO_PROXY": "127.0.0.0/8"})
        await self.fetch(free, target.url())
        await self.fetch(free, target.url(), proxy=setting)
        self.assertEqual([len(each.peers) for each in (proxy, mine, target)], [1, 2, 2])

    async def refusal(self, proxy: str, url: str = "http://api.invalid:81/hush") -> UpstreamError:
        """Return the error of a request that finds no way through."""
        sending = self.upstream(trust=AUTHORITY.trust()).send(self.post(url, proxy=proxy))
        error = await self.failure(sending)
        self.assertEqual((error.fault, error.status), (Fault.UNREACHABLE, 502))
        self.assertNotIn("hush", error.message)
        return error

    async def test_refusals(self) -> None:
        """A proxy that refuses is named, with its reason, and hung up on."""
        target = self.server(silent)
        login = self.server(connect_proxy(target, self.seen, b"other"))
        forbids = self.server(lambda peer: peer.send(reply(status=b"403 No")))
        socks = self.server(socks_proxy(target, self.seen, verdict=5))
        closes = self.server(Peer.close)
        for proxy, url, word in (
            (login, "http://127.0.0.1", "put them into its URL"),
            (login, "http://u:hush@127.0.0.1", "refused the user name"),
            (forbids, "http://127.0.0.1", "status 403"),
            (socks, "socks5://user:word@127.0.0.1", "target refused the connection"),
            (forbids, "socks5://127.0.0.1", "does not speak SOCKS5"),
            (closes, "http://127.0.0.1", "closed the connection"),
            (closes, "socks5://127.0.0.1", "closed the connection"),
        ):
            error = await self.refusal(f"{url}:{proxy.port}")
            self.assertIn(f"127.0.0.1:{proxy.port}", error.message)
            self.assertIn(word, error.message)
            await proxy.peers[-1].gone

    async def test_bad_settings(self) -> None:
        """A proxy setting that cannot be used is an error, not a direct connection."""
        error = await self.refusal("socks4://127.0.0.1:1")
        self.assertIn("'socks4'", error.message)
        upstream = self.upstream(environ={"ALL_PROXY": "nonsense://x"})
        sending = upstream.send(self.post("http://api.invalid/"))
        error = await self.failure(sending)
        self.assertIn("ALL_PROXY", error.message)

    async def test_unreachable(self) -> None:
        """A proxy that is not there is told apart from a target that is not."""
        gone = self.server(hello)
        await gone.listening.stopListening()
        error = await self.refusal(f"http://127.0.0.1:{gone.port}")
        self.assertIn(f"the proxy http://127.0.0.1:{gone.port}: it refused", error.message)


class ErrorTests(WireCase):
    """Every way not to get a connection, in words."""

    async def error(self, url: str, **changes: Any) -> UpstreamError:
        """Return the error of a request to *url*."""
        sending = self.upstream(**changes).send(self.post(url))
        error = await self.failure(sending)
        self.assertNotIn("secret-path", error.message)
        self.assertNotIn("hush", error.message)
        return error

    async def test_refused(self) -> None:
        """Nobody listens there."""
        server = self.server(hello)
        await server.listening.stopListening()
        error = await self.error(server.url())
        self.assertEqual((error.fault, error.status), (Fault.UNREACHABLE, 502))
        self.assertIn(f"http://127.0.0.1:{server.port}: it refused", error.message)

    async def test_address_of_six(self) -> None:
        """An IPv6 address is named in brackets, whatever keeps us from it."""
        error = await self.error("http://[::1]:1/secret-path")
        self.assertEqual(error.fault, Fault.UNREACHABLE)
        self.assertIn("http://[::1]:1:", error.message)

    async def test_invalid_name(self) -> None:
        """A name that no resolver would take."""
        error = await self.error("http://my_server.invalid/secret-path")
        self.assertEqual(error.fault, Fault.UNREACHABLE)
        self.assertIn("http://my_server.invalid:80: its host name is not a valid", error.message)

    async def test_unknown_name(self) -> None:
        """A name that does not resolve."""
        real = REACTOR.installNameResolver(Resolver(answers=True))
        self.addCleanup(REACTOR.installNameResolver, real)
        error = await self.error("https://api.invalid/secret-path")
        self.assertEqual((error.fault, error.status), (Fault.UNREACHABLE, 502))
        self.assertIn("https://api.invalid:443: its name cannot be resolved", error.message)

    async def test_untrusted(self) -> None:
        """A certificate of an unknown authority is not trusted; nothing was sent."""
        server = self.server(hello, Authority.create().issue("127.0.0.1"))
        for changes in ({}, {"trust": AUTHORITY.trust()}):
            error = await self.error(server.url(), **changes)
            self.assertEqual((error.fault, error.status), (Fault.UNREACHABLE, 502))
            self.assertIn("is not trusted", error.message)
            self.assertEqual(server.peers[-1].unread, b"")
            await server.peers[-1].gone

    async def test_wrong_name(self) -> None:
        """A certificate for another name is refused; nothing was sent."""
        server = self.server(hello, AUTHORITY.issue("other.invalid"))
        error = await self.error(server.url(), trust=AUTHORITY.trust())
        self.assertEqual((error.fault, error.status), (Fault.UNREACHABLE, 502))
        self.assertIn("is for another name", error.message)
        self.assertEqual(server.peers[-1].unread, b"")
        await server.peers[-1].gone

    async def test_no_tls(self) -> None:
        """A port that speaks plain HTTP, or hangs up, when asked for TLS."""
        for script, word in (
            (lambda peer: peer.send(b"HTTP/1.1 400 Bad\r\n\r\n"), "speaks TLS"),
            (Peer.close, "closed the connection"),
            (Peer.reset, "closed the connection"),
        ):
            server = self.server(script)
            url = server.url().replace("http:", "https:")
            error = await self.error(url, trust=AUTHORITY.trust())
            self.assertEqual((error.fault, error.status), (Fault.UNREACHABLE, 502))
            self.assertIn(word, error.message)

    async def test_bad_urls(self) -> None:
        """A URL that cannot be used is an error with a remedy, and shows no password."""
        for url in ("ftp://h/", "http:///x", "http://h:x/", "http://u:hush@h/", "http://[::1/"):
            error = await self.error(url)
            self.assertEqual((error.fault, error.status), (Fault.UNREACHABLE, 502))
            self.assertIn("base URL", error.message)


class PhaseTests(WireCase):
    """Stalled in some step: the connect clock, and cancelling."""

    async def stalls(self) -> dict[str, tuple[str, str | None, Callable[[], int]]]:
        """Return, by step, a URL, a proxy, and a count of what was opened so far."""
        resolver = Resolver(answers=False)
        real = REACTOR.installNameResolver(resolver)
        self.addCleanup(REACTOR.installNameResolver, real)
        full = self.full_port()
        mute = self.server(silent)
        half = self.server(
            lambda peer: peer.send(b"HTTP/1.1 2") if peer.unread.endswith(b"\r\n\r\n") else None
        )
        target = self.server(silent)
        tunnel = self.server(connect_proxy(target, []))

        def heard(server: Server) -> Callable[[], int]:
            return lambda: sum(bool(peer.unread) for peer in server.peers)

        at, tls = "http://127.0.0.1", f"https://127.0.0.1:{mute.port}"
        return {
            "resolving": ("http://api.invalid/", None, lambda: len(resolver.asked)),
            "connecting": (f"{at}:{full}/", None, lambda: 1000),
            "TLS": (tls, None, heard(mute)),
            "CONNECT": ("http://h.invalid/", f"{at}:{half.port}", heard(half)),
            "SOCKS": ("http://h.invalid/", f"socks5://127.0.0.1:{mute.port}", heard(mute)),
            "TLS to the proxy": ("http://h.invalid/", tls, heard(mute)),
            "TLS in the tunnel": ("https://h.invalid/", f"{at}:{tunnel.port}", heard(target)),
        }

    def full_port(self) -> int:
        """Return a port where no connection is ever accepted, nor refused."""
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        self.addCleanup(listening.close)
        port: int = listening.getsockname()[1]
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            self.addCleanup(filler.close)
        return port

    async def all_gone(self) -> int:
        """Wait for every accepted connection's end; return how many there were."""
        peers = [peer for server in self.servers for peer in server.peers]
        await DeferredList([peer.gone for peer in peers])
        return len(peers)

    async def test_cancel(self) -> None:
        """Twenty requests cancelled in each step: every socket closed, at once told."""
        for step, (url, proxy, opened) in (await self.stalls()).items():
            upstream = self.upstream(connect_timeout=0)
            before = opened()
            sending = [upstream.send(self.post(url, proxy=proxy)) for _ in range(20)]
            while opened() < min(before + 20, 1000):
                await turns()
            await turns(5)
            for each in sending:
                self.assertNoResult(each)
                each.cancel()
                self.failureResultOf(each, CancelledError)
            await self.all_gone()
            left = [each for each in REACTOR.getReaders() if getattr(each, "connector", None)]
            self.assertEqual(left, [], step)
        self.assertGreaterEqual(await self.all_gone(), 100)

    async def test_connect_clock(self) -> None:
        """Each step runs into the connect clock, which says where and what to do."""
        for step, (url, proxy, _) in (await self.stalls()).items():
            upstream = self.upstream(connect_timeout=0.05)
            error = await self.failure(upstream.send(self.post(url, proxy=proxy)))
            self.assertEqual((error.fault, error.status), (Fault.TIMEOUT, 504), step)
            self.assertIn(url.rstrip("/"), error.message)
            self.assertIn("timeouts.connect", error.message)
            if proxy:
                self.assertIn(proxy if "tunnel" not in step else "TLS", error.message)
        await self.all_gone()

    async def test_clock_ends_with_connecting(self) -> None:
        """A slow answer is none of the connect clock's business; 0 is off."""
        for limit in (0.05, 0):
            waiting: Deferred[None] = Deferred()

            def script(peer: Peer, waiting: Deferred[None] = waiting) -> None:
                REACTOR.callLater(0.15, waiting.callback, None)
                waiting.addCallback(lambda _: hello(peer))

            upstream = self.upstream(connect_timeout=limit)
            data, _ = await read(await upstream.send(self.post(self.server(script).url())))
            self.assertEqual(data, b"hello")

    async def test_clock_can_be_changed(self) -> None:
        """The limit may change while we run: the next connection heeds it."""
        upstream = self.upstream(connect_timeout=0, trust=AUTHORITY.trust())
        url = self.server(silent).url().replace("http:", "https:")
        upstream.connect_timeout = 0.02
        await self.failure(upstream.send(self.post(url)))


class TlsTests(WireCase):
    """What differs once TLS is in between."""

    def tls_server(self, script: Script) -> tuple[Upstream, Server]:
        """Return a client and a server that trust one another."""
        server = self.server(script, AUTHORITY.issue("127.0.0.1"))
        return self.upstream(trust=AUTHORITY.trust()), server

    async def test_reuse(self) -> None:
        """Connections are kept and used again, paused at the last byte or not."""
        upstream, server = self.tls_server(hello)
        for pausing in (False, True, False):
            sink = Sink(pausing=pausing)
            (await upstream.send(self.post(server.url()))).deliver(sink)
            await sink.ended
            self.assertEqual(sink.data, b"hello")
        self.assertEqual(len(server.peers), 1)

    async def test_large_upload(self) -> None:
        """A large body arrives whole."""
        body = bytes(range(256)) * 20_000
        upstream, server = self.tls_server(hello)
        data, _ = await read(await upstream.send(self.post(server.url(), body)))
        self.assertEqual(data, b"hello")

    async def test_abort_and_cancel(self) -> None:
        """Closing is at once: waiting, uploading, streaming and while closing already."""
        upstream, server = self.tls_server(silent)
        for body in (b"{}", b"x" * 20_000_000):
            coming = server.next_peer()
            sending = upstream.send(self.post(server.url(), body))
            peer = await coming
            while not peer.unread:
                await turns()
            sending.cancel()
            self.failureResultOf(sending, CancelledError)
            await peer.gone

    async def test_abort_in_the_middle(self) -> None:
        """A stream that is aborted is closed, paused or not."""
        head = b"HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n"
        upstream, server = self.tls_server(lambda peer: peer.send(head))
        for pausing in (False, True):
            response = await upstream.send(self.post(server.url()))
            sink = Sink(pausing=pausing)
            response.deliver(sink)
            await sink.fed
            response.abort()
            await server.peers[-1].gone
            await sink.ended

    async def test_polite_close_is_bounded(self) -> None:
        """A peer that never answers the close of TLS is cut off after a while."""
        self.patch(line, "LINGER", 0.05)

        def script(peer: Peer) -> None:
            if peer.take_request() is not None:
                peer.send(reply(b"x", b"Connection: close"))
                # Reads no more: it will not see the close alert, nor answer it.
                peer.transport.transport.pauseProducing()

        upstream, server = self.tls_server(script)
        response = await upstream.send(self.post(server.url()))
        await read(response)
        waiting: Deferred[None] = Deferred()
        REACTOR.callLater(0.2, waiting.callback, None)
        await waiting
        left = [each for each in REACTOR.getReaders() if getattr(each, "connector", None)]
        self.assertEqual(left, [])
        peer = server.peers[0]
        peer.transport.transport.resumeProducing()
        await peer.gone
