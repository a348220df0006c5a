"""
Servers that speak byte by byte as a test says, over loopback, and a CA for them.

They know nothing of the package: what arrives is shown as it came.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, PrivateCertificate
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import BrowserLikePolicyForHTTPS

from aiclient2api.errors import UpstreamError
from aiclient2api.interfaces import IUpstreamResponse
from aiclient2api.upstream.client import Upstream
from aiclient2api.values import UpstreamRequest

Script = Callable[["Peer"], None]

# The reactor is a module that poses as an object.
REACTOR: Any = reactor


class Peer(Protocol):
    """One accepted connection. Its script is called whenever bytes came."""

    transport: Any

    def __init__(self, script: Script) -> None:
        """Speak as *script* says."""
        self.script = script
        self.unread = bytearray()
        self.open = True
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Show the script what came."""
        self.unread += data
        self.script(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note the end."""
        self.open = False
        self.gone.callback(None)

    def take_request(self) -> bytes | None:
        """Take one whole request, body and all, or nothing."""
        end = self.unread.find(b"\r\n\r\n") + 4
        if end < 4:
            return None
        length = re.search(rb"(?i)\ncontent-length: *(\d+)", self.unread[:end])
        if length is not None:
            end += int(length[1])
        return self.take(end) if len(self.unread) >= end else None

    def take(self, size: int) -> bytes:
        """Take that many bytes."""
        taken = bytes(self.unread[:size])
        del self.unread[:size]
        return taken

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.write(data)

    def close(self) -> None:
        """Close politely."""
        self.transport.loseConnection()

    def reset(self) -> None:
        """Close rudely."""
        self.transport.abortConnection()


class Server(Factory):
    """A listening socket whose connections follow one script."""

    noisy = False

    def __init__(self, script: Script, tls: PrivateCertificate | None = None) -> None:
        """Listen on a free port of 127.0.0.1."""
        self.script = script
        self.peers: list[Peer] = []
        self._waiting: list[Deferred[Peer]] = []
        factory: Any = self
        if tls is not None:
            factory = TLSMemoryBIOFactory(tls.options(), False, self, clock=REACTOR)
        self.listening = REACTOR.listenTCP(0, factory, interface="127.0.0.1")
        self.port: int = self.listening.getHost().port
        self.scheme = "https" if tls else "http"

    def buildProtocol(self, addr: object) -> Peer:
        """Accept a connection."""
        peer = Peer(self.script)
        self.peers.append(peer)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            REACTOR.callLater(0, each.callback, peer)
        return peer

    def next_peer(self) -> Deferred[Peer]:
        """Fire with the next connection that comes."""
        coming: Deferred[Peer] = Deferred()
        self._waiting.append(coming)
        return coming

    def url(self, path: str = "/v1/secret-path?q=hush") -> str:
        """Return a URL of this server."""
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    async def stop(self) -> None:
        """Close everything and wait for it."""
        await maybeDeferred(self.listening.stopListening)
        for peer in self.peers:
            if peer.open:
                peer.reset()
                await peer.gone


class Tunnel(Protocol):
    """The far side of a proxy's tunnel: passes bytes on, both ways."""

    transport: Any

    def __init__(self, near: Peer) -> None:
        """Join *near* to what we get connected to."""
        self.near = near

    def connectionMade(self) -> None:
        """Pass on what waited, and all that comes."""
        self.near.script = self.forward
        self.near.gone.addBoth(lambda _: self.transport.abortConnection())
        self.forward(self.near)

    def forward(self, near: Peer) -> None:
        """Pass on towards the target."""
        data = near.take(len(near.unread))
        if data:
            self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        """Pass on towards the client."""
        self.near.send(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The target closed."""
        if self.near.open:
            self.near.close()


def join(peer: Peer, target: Server) -> None:
    """Make *peer* a tunnel to *target*, whatever host was asked for."""
    endpoint = TCP4ClientEndpoint(REACTOR, "127.0.0.1", target.port)
    connectProtocol(endpoint, Tunnel(peer)).addErrback(lambda _: peer.close())


def reply(body: bytes = b"", *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """Return an answer with a Content-Length."""
    head = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *lines, b"", b""]
    return b"\r\n".join(head) + body


def hello(peer: Peer) -> None:
    """Answer every request with ``hello``."""
    while peer.take_request() is not None:
        peer.send(reply(b"hello"))


def silent(peer: Peer) -> None:
    """Take everything, say nothing."""


class Sink(Protocol):
    """Receives a body: its bytes and its end; pauses after each piece if told to."""

    transport: Any

    def __init__(self, *, pausing: bool = False) -> None:
        """Wait for bytes."""
        self.pausing = pausing
        self.data = bytearray()
        self.ends: list[Failure] = []
        self.ended: Deferred[None] = Deferred()
        self.fed: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Take bytes."""
        self.data += data
        if self.pausing:
            self.transport.pauseProducing()
        if not self.fed.called:
            self.fed.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take the end: only once."""
        self.ends.append(reason)
        if not self.ended.called:
            # Fires on a later turn, when whatever called us has returned.
            REACTOR.callLater(0, self.ended.callback, None)


async def read(response: IUpstreamResponse) -> tuple[bytes, Failure]:
    """Read a body to its end."""
    sink = Sink()
    response.deliver(sink)
    await sink.ended
    return bytes(sink.data), sink.ends[0]


def turns(count: int = 1) -> Deferred[None]:
    """Let the reactor go round so many times."""
    done: Deferred[None] = Deferred()

    def turn(left: int) -> None:
        if left:
            REACTOR.callLater(0, turn, left - 1)
        else:
            done.callback(None)

    turn(count)
    return done


@attrs.frozen
class Authority:
    """A throw-away CA: `trust` believes in it alone."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls) -> Authority:
        """Make one."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key, _certificate("test CA", key, "test CA", key, None))

    def trust(self) -> BrowserLikePolicyForHTTPS:
        """Return the policy of a client that trusts this CA and no other."""
        pem = self.certificate.public_bytes(serialization.Encoding.PEM)
        return BrowserLikePolicyForHTTPS(Certificate.loadPEM(pem))

    def issue(self, *names: str) -> PrivateCertificate:
        """Return a certificate for these names and addresses, with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _certificate("leaf", key, "test CA", self.key, names)
        pem = leaf.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return PrivateCertificate.loadPEM(pem)


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...] | None,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
    )
    if names is not None:
        alternatives: list[x509.GeneralName] = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


class WireCase(TestCase):
    """Tests of the real client against raw servers; everything is closed afterwards."""

    timeout = 20

    def setUp(self) -> None:
        """Start with no server."""
        self.upstreams: list[Upstream] = []
        self.servers: list[Server] = []

    async def tearDown(self) -> None:  # type: ignore[override]
        """Close clients, then servers."""
        for upstream in self.upstreams:
            await upstream.close()
        for server in self.servers:
            await server.stop()

    def upstream(self, **changes: Any) -> Upstream:
        """Return a client; *changes* are constructor arguments."""
        arguments: dict[str, Any] = {"reactor": REACTOR, "connect_timeout": 10, "environ": {}}
        upstream = Upstream(**{**arguments, **changes})
        self.upstreams.append(upstream)
        return upstream

    def server(self, script: Script, tls: PrivateCertificate | None = None) -> Server:
        """Return a listening server."""
        server = Server(script, tls)
        self.servers.append(server)
        return server

    async def failure(self, sending: Deferred[Any]) -> UpstreamError:
        """Return the error that a request must end with."""
        error: UpstreamError = await self.assertFailure(sending, UpstreamError)
        return error

    def post(self, url: str, body: bytes | None = b"{}", **more: Any) -> UpstreamRequest:
        """Return a request."""
        headers = more.pop("headers", ((b"content-type", b"application/json"),))
        method = "GET" if body is None else "POST"
        return UpstreamRequest(method=method, url=url, headers=headers, body=body, **more)
