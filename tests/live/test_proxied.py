"""
The way out of a whole gateway: through proxies, over TLS, and never round a redirect.

Each test asks a gateway as a client would, and looks at who was asked on the other side:
the proxy, the upstream, or nobody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from aiclient2api import tap
from aiclient2api.options import Options
from aiclient2api.testing import (
    STREAM_HEAD,
    Chunk,
    Head,
    Hold,
    Received,
    Script,
    ScriptedUpstream,
    Send,
    chat_chunks,
)
from aiclient2api.upstream.client import Upstream
from tests.live import gateway as live
from tests.live.gateway import ACCOUNT_KEY, PROVIDERS, LiveGateway, Reply, good_answer
from tests.live.measure import front, until
from tests.raw_peers import Authority

AUTHORITY = Authority.create()
REACTOR: Any = reactor

REQUESTS = {
    "openai-custom": ("/v1/chat/completions", {"model": "m-1", "messages": [], "stream": True}),
    "openaiResponses-custom": ("/v1/responses", {"model": "m-1", "stream": True}),
    "claude-custom": ("/v1/messages", {"model": "m-1", "messages": [], "stream": True}),
    "gemini-custom": ("/v1beta/models/m-1:streamGenerateContent?alt=sse", {"contents": []}),
}


class Proxy(Factory):
    """
    An HTTP (CONNECT only) or SOCKS5 proxy on 127.0.0.1.

    :param to: The port that every tunnel leads to, whatever was asked for; None: there.
    :param login: What an HTTP client must present, in base64.

    :ivar asked: ``host:port`` of every tunnel asked for.
    :ivar open: How many connections are open.
    """

    noisy = False

    def __init__(
        self, test: TestCase, *, socks: bool = False, to: int | None = None, login: bytes = b""
    ) -> None:
        self.socks = socks
        self.to = to
        self.login = login
        self.asked: list[str] = []
        self.open = 0
        self._wires: set[_Near] = set()
        self._listening = REACTOR.listenTCP(0, self, interface="127.0.0.1")
        self.port = self._listening.getHost().port
        scheme = "socks5" if socks else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        test.addCleanup(self._stop)

    def buildProtocol(self, addr: object) -> _Near:
        """Accept a connection."""
        return _Near(self)

    async def _stop(self) -> None:
        await maybeDeferred(self._listening.stopListening)
        for wire in tuple(self._wires):
            wire.transport.abortConnection()
        await until(lambda: not self.open, what="the proxy is closed")


class _Near(Protocol):
    """The side of a tunnel that the gateway is on."""

    transport: Any

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.far: _Far | None = None
        self._unread = b""
        self._greeted = False

    def connectionMade(self) -> None:
        self.proxy.open += 1
        self.proxy._wires.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self.far is not None:
            self.far.transport.write(data)
            return
        self._unread += data
        if self.proxy.socks:
            self._socks()
        else:
            self._connect()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.proxy.open -= 1
        self.proxy._wires.discard(self)
        if self.far is not None:
            self.far.transport.abortConnection()

    def _connect(self) -> None:
        head, end, rest = self._unread.partition(b"\r\n\r\n")
        if not end:
            return
        assert not rest, "It went on before it was let through."
        if self.proxy.login not in head:
            self.transport.write(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n")
            return
        verb, target, _ = head.split(b"\r\n")[0].split(b" ")
        assert verb == b"CONNECT", head
        self._lead(target.decode(), b"HTTP/1.1 200 Connected\r\n\r\n")

    def _socks(self) -> None:
        if not self._greeted and len(self._unread) >= 3:
            self._greeted, self._unread = True, self._unread[3:]
            self.transport.write(b"\x05\x00")
        if self._greeted and len(self._unread) > 4:
            kind, rest = self._unread[3], self._unread[4:]
            size = {1: 4, 3: rest[0] + 1}[kind]
            if len(rest) < size + 2:
                return
            host = ".".join(map(str, rest[:4])) if kind == 1 else rest[1:size].decode()
            port = int.from_bytes(rest[size : size + 2], "big")
            self._lead(f"{host}:{port}", b"\x05\x00\x00\x01" + bytes(6))

    def _lead(self, target: str, yes: bytes) -> None:
        self.proxy.asked.append(target)
        port = self.proxy.to or int(target.rpartition(":")[2])
        far = connectProtocol(TCP4ClientEndpoint(REACTOR, "127.0.0.1", port), _Far(self))

        def joined(protocol: _Far) -> None:
            self.far = protocol
            self.transport.write(yes)

        far.addCallbacks(joined, lambda _: self.transport.abortConnection())


class _Far(Protocol):
    """The side of a tunnel that the upstream is on."""

    transport: Any

    def __init__(self, near: _Near) -> None:
        self._near = near

    def dataReceived(self, data: bytes) -> None:
        self._near.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._near.transport.loseConnection()


class OutwardTests(TestCase):
    """What the tests share."""

    timeout = 20

    async def started(
        self,
        *,
        environ: Mapping[str, str] = {},
        pools: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
        **config: object,
    ) -> LiveGateway:
        """Start a gateway under an environment, with accounts of our own if given."""

        def options(*, environ: Mapping[str, str], cwd: Path, more: Mapping[str, str]) -> Options:
            return Options(environ={**environ, **more}, cwd=cwd)

        self.patch(live, "Options", partial(options, more=environ))
        config["request_max_retries"] = 0
        if pools is not None:
            path = Path(self.mktemp()).absolute()
            path.write_text(json.dumps(pools))
            config["provider_pools_file_path"] = str(path)
        return await LiveGateway(self, config=config).start()

    async def ask(self, gateway: LiveGateway, provider: str = "openai-custom") -> Reply:
        """Ask a provider for a stream."""
        path, body = REQUESTS[provider]
        headers = (*gateway.bearer, ("model-provider", provider))
        return await gateway.request("POST", path, headers, json.dumps(body).encode())

    def account(self, url: str, **more: object) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """Return pools of one account of Chat Completions."""
        account = {"openai_api_key": ACCOUNT_KEY, "openai_base_url": url, **more}
        return {"openai-custom": [account]}

    def assert_good(self, reply: Reply, received: Received) -> None:
        """The client got what that upstream sent."""
        self.assertEqual(200, reply.status, reply.body)
        sent = b"".join(s.data for s in good_answer(received) if isinstance(s, Chunk | Send))
        self.assertEqual(sent, reply.body)

    def assert_502(self, reply: Reply, *words: str) -> str:
        """The client was told why, in words that hold no secret."""
        self.assertEqual(502, reply.status)
        message: str = reply.json()["error"]["message"]
        for word in words:
            self.assertIn(word, message)
        self.assertNotIn(ACCOUNT_KEY, message)
        return message


class ProxiedTests(OutwardTests):
    """Through a proxy, or past it."""

    async def test_environment(self) -> None:
        """HTTP_PROXY, ALL_PROXY and their kinds: each dialect's stream comes through whole."""
        for name, socks in (("HTTP_PROXY", False), ("ALL_PROXY", True), ("http_proxy", True)):
            proxy = Proxy(self, socks=socks)
            gateway = await self.started(environ={name: proxy.url})
            for provider in PROVIDERS:
                upstream = gateway.upstreams[provider]
                reply = await self.ask(gateway, provider)
                self.assert_good(reply, upstream.requests[0])
                self.assertEqual(upstream.url.removeprefix("http://"), proxy.asked[-1])
            self.assertEqual(len(PROVIDERS), len(proxy.asked))
            # A kept connection is a kept tunnel.
            await self.ask(gateway)
            self.assertEqual(len(PROVIDERS), len(proxy.asked))
            await gateway.stop()

    async def test_no_proxy(self) -> None:
        """NO_PROXY leads past the proxy."""
        proxy = Proxy(self)
        environ = {"ALL_PROXY": proxy.url, "NO_PROXY": "example.com, 127.0.0.0/8"}
        gateway = await self.started(environ=environ)
        reply = await self.ask(gateway)
        self.assert_good(reply, gateway.upstreams["openai-custom"].requests[0])
        self.assertEqual([], proxy.asked)

    async def test_settings_beat_the_environment(self) -> None:
        """proxy_url serves all providers, and not the environment's proxy."""
        ours, theirs = Proxy(self, socks=True), Proxy(self)
        environ = {"HTTP_PROXY": theirs.url, "NO_PROXY": "*"}
        gateway = await self.started(environ=environ, proxy_url=ours.url)
        for provider in PROVIDERS:
            self.assertEqual(200, (await self.ask(gateway, provider)).status)
        self.assertEqual((len(PROVIDERS), 0), (len(ours.asked), len(theirs.asked)))

    async def test_some_providers(self) -> None:
        """proxy_enabled_providers says which providers it is for."""
        proxy = Proxy(self)
        names = ["claude-custom"]
        gateway = await self.started(proxy_url=proxy.url, proxy_enabled_providers=names)
        for provider in PROVIDERS:
            self.assertEqual(200, (await self.ask(gateway, provider)).status)
        url = gateway.upstreams["claude-custom"].url.removeprefix("http://")
        self.assertEqual([url], proxy.asked)

    async def test_an_account_of_its_own(self) -> None:
        """An account's proxy_url beats the one for all; the name is the proxy's to resolve."""
        upstream = ScriptedUpstream(good_answer)
        port = await upstream.listen(REACTOR)
        self.addCleanup(upstream.stop)
        for socks in (False, True):
            own, shared = Proxy(self, socks=socks, to=port), Proxy(self)
            pools = self.account("http://api.invalid:81/v1", proxy_url=own.url)
            gateway = await self.started(pools=pools, proxy_url=shared.url)
            reply = await self.ask(gateway)
            self.assert_good(reply, upstream.requests[-1])
            self.assertEqual(b"api.invalid:81", upstream.requests[-1].header(b"host"))
            self.assertEqual((["api.invalid:81"], []), (own.asked, shared.asked))
            await gateway.stop()

    async def test_login(self) -> None:
        """The proxy's password goes to the proxy and to nobody else."""
        proxy = Proxy(self, login=b"Basic dXNlcjpodXNo")
        url = proxy.url.replace("http://", "http://user:hush@")
        gateway = await self.started(proxy_url=url)
        reply = await self.ask(gateway)
        (received,) = gateway.upstreams["openai-custom"].requests
        self.assert_good(reply, received)
        self.assertIsNone(received.header(b"proxy-authorization"))
        gateway.reload(proxy_url=proxy.url.replace("http://", "http://user:wrong-hush@"))
        message = self.assert_502(await self.ask(gateway), str(proxy.port), "password")
        self.assertNotIn("hush", message)

    async def test_a_proxy_that_is_not_there(self) -> None:
        """The proxy is named, not the upstream behind it; nobody goes round it."""
        proxy = Proxy(self)
        await maybeDeferred(proxy._listening.stopListening)
        gateway = await self.started(environ={"HTTP_PROXY": proxy.url})
        self.assert_502(await self.ask(gateway), f"127.0.0.1:{proxy.port}", "proxy")
        self.assertEqual([], gateway.upstreams["openai-custom"].connections)

    async def test_disconnect(self) -> None:
        """A client that leaves closes the tunnel and the upstream at its other end."""
        for socks in (False, True):
            await self.leave(Proxy(self, socks=socks))

    async def leave(self, proxy: Proxy) -> None:
        """Leave in the middle of a stream that comes through *proxy*."""
        gateway = await self.started(proxy_url=proxy.url)
        upstream = gateway.upstreams["openai-custom"]
        chunks = [Chunk(frame) for frame in chat_chunks(["a"])[:2]]
        script: Script = (STREAM_HEAD, *chunks, Hold())
        gateway.answers["openai-custom"] = lambda request: script
        wire = await gateway.connect()
        path, body = REQUESTS["openai-custom"]
        asking = wire.request("POST", path, gateway.bearer, json.dumps(body).encode())
        asking.addErrback(lambda _: None)
        await until(lambda: b"data: " in wire.received, what="the stream's beginning")
        wire.abort()
        await upstream.when_closed(1)
        await until(lambda: not proxy.open, what="the tunnel is closed")
        await until(lambda: not front(gateway).in_flight, what="nothing in flight")
        await gateway.stop()


class TlsTests(OutwardTests):
    """Upstreams over TLS, whose authority is our own."""

    def setUp(self) -> None:
        """Trust our authority and no other."""
        self.patch(tap, "Upstream", partial(Upstream, trust=AUTHORITY.trust()))

    async def upstream(self, authority: Authority, *names: str) -> ScriptedUpstream:
        """Start an upstream that says it is *names*."""
        upstream = ScriptedUpstream(good_answer)
        await upstream.listen(REACTOR, context_factory=authority.issue(*names).options())
        self.addCleanup(upstream.stop)
        return upstream

    async def test_verified(self) -> None:
        """A certificate that is right is believed, directly and through either proxy."""
        upstream = await self.upstream(AUTHORITY, "127.0.0.1")
        pools = self.account(upstream.url + "/v1")
        for proxy in (None, Proxy(self), Proxy(self, socks=True)):
            settings: dict[str, Any] = {} if proxy is None else {"proxy_url": proxy.url}
            gateway = await self.started(pools=pools, **settings)
            self.assert_good(await self.ask(gateway), upstream.requests[-1])
            if proxy is not None:
                self.assertEqual([upstream.url.removeprefix("https://")], proxy.asked)
            await gateway.stop()
        self.assertEqual(3, len(upstream.requests))

    async def test_by_name_through_a_proxy(self) -> None:
        """The name that was asked for is the name that must be in the certificate."""
        upstream = await self.upstream(AUTHORITY, "api.invalid")
        proxy = Proxy(self, to=int(upstream.url.rpartition(":")[2]))
        pools = self.account("https://api.invalid/v1", proxy_url=proxy.url)
        gateway = await self.started(pools=pools)
        self.assert_good(await self.ask(gateway), upstream.requests[0])
        self.assertEqual(["api.invalid:443"], proxy.asked)

    async def test_wrong_name(self) -> None:
        """A certificate for another name is refused, and nothing is sent."""
        upstream = await self.upstream(AUTHORITY, "other.invalid")
        for proxy in (None, Proxy(self)):
            settings: dict[str, Any] = {} if proxy is None else {"proxy_url": proxy.url}
            gateway = await self.started(pools=self.account(upstream.url + "/v1"), **settings)
            reply = await self.ask(gateway)
            self.assert_502(reply, "127.0.0.1", "is for another name")
            await gateway.stop()
        self.assertEqual([], upstream.requests)

    async def test_unknown_authority(self) -> None:
        """A certificate that nobody vouches for is refused, and nothing is sent."""
        upstream = await self.upstream(Authority.create(), "127.0.0.1")
        gateway = await self.started(pools=self.account(upstream.url + "/v1"))
        self.assert_502(await self.ask(gateway), "is not trusted")
        self.assertEqual([], upstream.requests)


class RedirectTests(OutwardTests):
    """Upstreams that send us elsewhere."""

    def play(self, script: Script, request: Received) -> Script:
        """Answer any request with *script*."""
        return script

    async def test_never_followed(self) -> None:
        """A redirect is a 502 that says where the base URL should point; no key goes there."""
        elsewhere = ScriptedUpstream(good_answer)
        await elsewhere.listen(REACTOR)
        self.addCleanup(elsewhere.stop)
        gateway = await self.started()
        for status in (301, 302, 303, 307, 308):
            location = f"{elsewhere.url}/moved?token=hush".encode()
            lines = ((b"location", location), (b"content-length", b"0"))
            script: Script = (Head(status, lines),)
            for provider in PROVIDERS:
                gateway.answers[provider] = partial(self.play, script)
                reply = await self.ask(gateway, provider)
                message = self.assert_502(reply, str(status), "redirect", "/moved", "base_url")
                self.assertNotIn("hush", message)
                self.assertIsNone(reply.header(b"location"))
        self.assertEqual([], elsewhere.connections)
