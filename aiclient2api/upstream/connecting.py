"""
From a URL's origin to a connection that HTTP can use, within one time limit.

Name, socket, proxy, TLS: every step is waited for here, so that a peer which stalls in
one of them runs into the connect clock and not into a later, longer one. It must never
know what is sent over the connection.
"""

from __future__ import annotations

from typing import Any, TypeVar

import attrs
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.upstream.deadlines import within
from aiclient2api.upstream.line import Line, Lines
from aiclient2api.upstream.proxy import Proxy
from aiclient2api.upstream.tunnels import HttpConnect, ProxyRefused, Socks5

_T = TypeVar("_T")

_AN_HOUR = 3600.0
"""Twisted's own limit, out of the way: ours covers all steps, and may be off."""


@attrs.frozen
class Origin:
    """Where a request goes: all of its URL that a message may name."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@implementer(IStreamClientEndpoint)
class Road:
    """
    The way to one origin.

    :param proxy: None to go there directly.
    :param limit: Seconds for all of it; 0 for no limit.
    """

    def __init__(
        self,
        *,
        reactor: Any,
        origin: Origin,
        proxy: Proxy | None,
        trust: IPolicyForHTTPS,
        limit: float,
    ) -> None:
        self._reactor = reactor
        self._origin = origin
        self._proxy = proxy
        self._trust = trust
        self._limit = limit
        self._doing = ""

    def __repr__(self) -> str:
        return f"<Road to {self._origin}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect. Cancelling closes what was opened, in every step.

        :return: Fires with the protocol once the line under it is ready; fails with
            `UpstreamError`.
        """
        opened: Deferred[IProtocol] = Deferred.fromCoroutine(self._open(protocolFactory))
        return within(self._reactor, self._limit, opened, self._too_late)

    async def _open(self, factory: IProtocolFactory) -> IProtocol:
        target, proxy = str(self._origin), self._proxy
        if proxy is None:
            line = await self._dial(self._origin.host, self._origin.port, target)
        else:
            line = await self._dial(proxy.host, proxy.port, f"the proxy {proxy.origin}")
        try:
            if proxy is not None:
                line = await self._through(line, proxy)
            if self._origin.scheme == "https":
                line = await self._secure(line, self._origin.host, self._origin.port, target)
            protocol = factory.buildProtocol(line.getPeer())
            if protocol is None:
                raise error.NoProtocol
            line.carry_http(protocol)
        except BaseException:
            line.abort()
            raise
        return protocol

    async def _dial(self, host: str, port: int, who: str) -> Line:
        endpoint = HostnameEndpoint(self._reactor, host, port, timeout=_AN_HOUR)
        line = await self._step("reaching it", who, endpoint.connect(Lines(self._reactor)))
        assert isinstance(line, Line)
        if line.transport is not None and hasattr(line.transport, "setTcpNoDelay"):
            line.transport.setTcpNoDelay(True)
        return line

    async def _through(self, line: Line, proxy: Proxy) -> Line:
        who = f"the proxy {proxy.origin}"
        if proxy.scheme == "https":
            line = await self._secure(line, proxy.host, proxy.port, who)
        shake = Socks5 if proxy.scheme == "socks5" else HttpConnect
        try:
            handshake = shake(
                host=self._origin.host, port=self._origin.port, credentials=proxy.credentials
            )
            return await self._step("waiting for its tunnel", who, line.tunnel(handshake))
        except ProxyRefused as refusal:
            raise _unreachable(str(self._origin), f"{who} {refusal}.") from None

    async def _secure(self, line: Line, host: str, port: int, who: str) -> Line:
        creator = self._trust.creatorForNetloc(host.encode("ascii"), port)
        return await self._step("in its TLS handshake", who, line.secure(creator))

    async def _step(self, doing: str, who: str, pending: Deferred[_T]) -> _T:
        self._doing = doing if who == str(self._origin) else f"{doing} ({who})"
        try:
            return await pending
        except (CancelledError, ProxyRefused):
            raise
        except Exception as reason:
            raise connect_error(reason, who) from reason

    def _too_late(self) -> UpstreamError:
        return _unreachable(
            str(self._origin),
            f"it took over {self._limit:g} seconds, {self._doing}. Check that it is up and "
            "nothing in between swallows packets, or allow more with timeouts.connect.",
            fault=Fault.TIMEOUT,
        )


def connect_error(reason: BaseException, who: str) -> UpstreamError:
    """
    Say why there is no connection, and what to do about it.

    :param who: The host or proxy that was being talked to.
    """
    if isinstance(reason, UpstreamError):
        return reason
    if isinstance(reason, error.TCPTimedOutError | error.TimeoutError):
        return _unreachable(
            who, "it did not react. Check that it is up and reachable.", fault=Fault.TIMEOUT
        )
    return _unreachable(who, _why(reason))


def _why(reason: BaseException) -> str:
    if isinstance(reason, error.DNSLookupError | error.UnknownHostError):
        return "its name cannot be resolved. Check the host's spelling and this machine's DNS."
    if isinstance(reason, error.ConnectionRefusedError):
        return "it refused. Check that it is running, and the port."
    if isinstance(reason, VerificationError):
        return "its TLS certificate is for another name. Use a host name that the certificate has."
    if isinstance(reason, SSL.Error):
        return _tls_trouble(reason)
    if isinstance(reason, error.ConnectionClosed):
        return (
            "it closed the connection while that was being set up. Check scheme and port; "
            "if both are right, try again."
        )
    if isinstance(reason, ValueError):
        return "its host name is not a valid one. Use a valid name (no underscores) or an address."
    if isinstance(reason, error.ConnectError):
        return f"{reason} Check this machine's network."
    return f"it failed with {type(reason).__name__}. Check that scheme, host and port are right."


def _tls_trouble(reason: SSL.Error) -> str:
    told = reason.args[0] if reason.args and isinstance(reason.args[0], list) else []
    words = ", ".join(str(entry[-1]) for entry in told) or "no reason given"
    if "certificate verify failed" in words:
        return (
            "its TLS certificate is not trusted (self-signed, expired, or of an authority "
            "unknown to this system). Install the authority's certificate in the system's "
            "store, or name it in SSL_CERT_FILE."
        )
    return f"TLS failed ({words}). Check that the port speaks TLS, or write http:// if it does not."


def _unreachable(who: str, why: str, *, fault: Fault = Fault.UNREACHABLE) -> UpstreamError:
    late = fault is Fault.TIMEOUT
    return UpstreamError(
        f"No connection to {who}: {why}",
        fault=fault,
        status=504 if late else 502,
        code="connect_timeout" if late else "connect_failed",
    )
