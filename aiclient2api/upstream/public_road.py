"""
From a URL's origin to a connection, for origins that a caller named.

Like the `Road` to an upstream, but it looks the host up itself, judges every address and
connects to one of those it judged: a name that means something else a moment later (DNS
rebinding) gains nothing. It goes through no proxy, for which the proxy would do the
looking up. It must never know what is fetched, and has no clock of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IHostnameResolver,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from aiclient2api.upstream.addresses import Address, Allowed, NotPublic, addresses_of, is_public
from aiclient2api.upstream.connecting import Origin, connect_error
from aiclient2api.upstream.line import Line, Lines

HEAD_LIMIT = 32 * 1024
"""How many bytes an answer may have before its head is over."""

ATTEMPT = 5.0
"""Seconds one address gets to react, as long as there are others."""

_AN_HOUR = 3600.0
"""For the last address: whoever waits has a shorter clock."""


@implementer(IStreamClientEndpoint, IAgentEndpointFactory)
class PublicRoad:
    """
    The way to one origin, for one request.

    :param allowed: Which addresses may be connected to.
    :ivar doing: What it is waiting for, for a sentence.
    :ivar line: The connection, once there is one.
    :ivar overlong: True if it was given up because the head of an answer had no end.
    """

    def __init__(
        self,
        *,
        reactor: Any,
        resolver: IHostnameResolver,
        origin: Origin,
        trust: IPolicyForHTTPS,
        allowed: Allowed,
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._origin = origin
        self._trust = trust
        self._allowed = allowed
        self._counter: _Head | None = None
        self.doing = "looking up its host"
        self.line: Line | None = None

    def endpointForURI(self, uri: URI) -> PublicRoad:
        """Return this one: there is no other way, whatever Twisted reads in the URL."""
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect. Cancelling closes what was opened, in every step.

        :return: Fails with `NotPublic`, or with `UpstreamError` if there is no connection;
            cancelled, with whatever Twisted makes of it.
        """
        return Deferred.fromCoroutine(self._open(protocolFactory))

    def head_is_here(self) -> None:
        """Count no more: from here on whoever takes the body counts its bytes."""
        if self._counter is not None:
            self._counter.over = True

    @property
    def overlong(self) -> bool:
        """True if it was given up because the head of an answer had no end."""
        return self._counter is not None and self._counter.overlong

    def close(self) -> None:
        """Close the connection, if there is one; safe at any time, also twice."""
        if self.line is not None:
            self.line.abort()

    async def _open(self, factory: IProtocolFactory) -> IProtocol:
        try:
            line = self.line = await self._dial(await self._addresses())
            if _leads_home(line):
                raise NotPublic
            if self._origin.scheme == "https":
                line = self.line = await self._secure(line)
        except (CancelledError, NotPublic):
            self.close()
            raise
        except Exception as reason:
            self.close()
            raise connect_error(reason, str(self._origin)) from reason
        self.doing = "waiting for its answer"
        protocol = factory.buildProtocol(line.getPeer())
        assert protocol is not None
        self._counter = _Head(protocol, line)
        line.carry_http(self._counter)
        return protocol

    async def _addresses(self) -> Sequence[Address]:
        host, port = self._origin.host, self._origin.port
        return await addresses_of(host, port, resolver=self._resolver, allowed=self._allowed)

    async def _dial(self, addresses: Sequence[Address]) -> Line:
        self.doing = "reaching it"
        *others, last = addresses
        for address in others:
            try:
                return await self._reach(address, ATTEMPT)
            except error.ConnectError:
                continue
        return await self._reach(last, _AN_HOUR)

    async def _reach(self, address: Address, seconds: float) -> Line:
        endpoint = TCP6ClientEndpoint if isinstance(address, IPv6Address) else TCP4ClientEndpoint
        dialling = endpoint(self._reactor, str(address), self._origin.port, timeout=seconds)
        line = await dialling.connect(Lines(self._reactor))
        assert isinstance(line, Line)
        return line

    async def _secure(self, line: Line) -> Line:
        self.doing = "in its TLS handshake"
        creator = self._trust.creatorForNetloc(self._origin.host.encode("ascii"), self._origin.port)
        return await line.secure(creator)


def _leads_home(line: Line) -> bool:
    """
    Say whether *line* is to a public address of this very machine.

    Its firewall may keep others from what it lets the machine itself reach.
    """
    here, there = line.getHost().host, line.getPeer().host  # type: ignore[attr-defined]
    return here == there and is_public(ip_address(there))


@implementer(IProtocol)
class _Head:
    """
    Passes bytes up to HTTP, and gives up on a head without end.

    Twisted limits a line of a head, but neither their number nor how many answers of
    status 100 may come before the one that counts.
    """

    def __init__(self, upper: IProtocol, line: Line) -> None:
        self._upper = upper
        self._line = line
        self._size = 0
        self.over = False
        self.overlong = False

    def makeConnection(self, transport: ITransport) -> None:
        """Pass it on."""
        self._upper.makeConnection(transport)

    def connectionMade(self) -> None:
        """HTTP was told by `makeConnection`."""

    def dataReceived(self, data: bytes) -> None:
        """Pass bytes on, then count them: a body may begin among them."""
        self._size += len(data)
        self._upper.dataReceived(data)
        if not self.over and self._size > HEAD_LIMIT:
            self.over = self.overlong = True
            self._line.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass it on."""
        self._upper.connectionLost(reason)
