"""
The way out: sends a request, keeps connections and cookies, names what went wrong.

It must never know a provider, retry a refusal, or wait longer than its connect clock
for anything but an answer; how long an answer may take is its caller's to say.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs
from hyperlink import EncodedURL
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.interfaces import IConsumer, IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    GzipDecoder,
    HostnameCachingHTTPSPolicy,
    HTTPConnectionPool,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers as TwistedHeaders
from twisted.web.iweb import (
    IAgentEndpointFactory,
    IBodyProducer,
    IPolicyForHTTPS,
)
from zope.interface import implementer

from aiclient2api import __version__
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.interfaces import IUpstream, IUpstreamResponse
from aiclient2api.upstream.body import Answer
from aiclient2api.upstream.connecting import Origin, Road
from aiclient2api.upstream.line import Line
from aiclient2api.upstream.proxy import DIRECT, Proxy, ProxySettings
from aiclient2api.values import UpstreamRequest

IDLE_CONNECTION = 60
"""Seconds an unused connection is kept: about as long as servers keep theirs."""

CLIENTS = 256
"""How many accounts' cookies are kept; the longest unused are forgotten."""

_USER_AGENT = f"aiclient2api/{__version__}".encode("ascii")
_PORTS = {"http": 80, "https": 443}

# Said by the connection itself, or by treq: a second, different word would be a fault.
_NOT_SENT = frozenset(
    (b"accept-encoding", b"connection", b"content-length", b"host", b"transfer-encoding")
)


@implementer(IUpstream)
class Upstream:
    """
    Sends requests over HTTP/1.1, TLS verified, through the proxies that are asked for.

    :param connect_timeout: Seconds for name, socket, proxy and TLS together; 0 for no
        limit. May be set at any time; the next connection heeds it.
    :param environ: Where the proxy variables are looked up.
    :param trust: Who is believed to be who; by default the system's authorities.
    :param pool_size: Idle connections kept per origin and proxy.
    """

    def __init__(
        self,
        *,
        reactor: Any,
        connect_timeout: float,
        environ: Mapping[str, str],
        trust: IPolicyForHTTPS | None = None,
        pool_size: int = 64,
    ) -> None:
        self.connect_timeout = connect_timeout
        self._reactor = reactor
        self._settings = ProxySettings.from_environ(environ)
        # Reading the system's authorities takes long enough to be done once per host.
        self._trust = trust or HostnameCachingHTTPSPolicy(BrowserLikePolicyForHTTPS())
        self._pool_size = pool_size
        self._ways: dict[Proxy | None, _Way] = {}
        self._clients: OrderedDict[tuple[str, Proxy | None], _Client] = OrderedDict()

    def send(self, request: UpstreamRequest) -> Deferred[IUpstreamResponse]:
        """Send one request; fire at the response headers."""
        visit = _Visit(self._reactor)
        result: Deferred[IUpstreamResponse] = Deferred(lambda _: visit.leave())
        visit.asking = Deferred.fromCoroutine(self._send(request, visit))

        def settle(outcome: Answer | Failure) -> None:
            # Cancelled, it fails with this or that; the caller has gone already.
            if not visit.left:
                result.callback(outcome)

        visit.asking.addBoth(settle)
        return result

    def close(self) -> Deferred[None]:
        """Close the connections that nobody uses; fires when they are closed."""
        closed = [pool.empty() for way in self._ways.values() for pool in way.pools]
        return gatherResults(closed).addCallback(lambda _: None)

    async def _send(self, request: UpstreamRequest, visit: _Visit) -> Answer:
        origin = _origin(request.url)
        client = self._client(request.account, self._proxy(request, origin))
        try:
            try:
                return await client.ask(request, visit, fresh=request.once)
            except ResponseNeverReceived:
                # A kept connection may be closed by the other side while our request is
                # on its way there. Not a byte of an answer was seen: nothing is lost.
                if visit.left or not visit.reused:
                    raise
                return await client.ask(request, visit, fresh=True)
        except (CancelledError, UpstreamError):
            raise
        except Exception as reason:
            visit.hang_up()
            raise _no_answer(reason, origin) from reason

    def _proxy(self, request: UpstreamRequest, origin: Origin) -> Proxy | None:
        try:
            if request.proxy is None:
                return self._settings.proxy_for(
                    scheme=origin.scheme, host=origin.host, port=origin.port
                )
            return None if request.proxy == DIRECT else Proxy.from_url(request.proxy)
        except ValueError as fault:
            raise UpstreamError(
                f"No connection to {origin}: {fault}",
                fault=Fault.UNREACHABLE,
                status=502,
                code="connect_failed",
            ) from None

    def _client(self, account: str, proxy: Proxy | None) -> _Client:
        client = self._clients.pop((account, proxy), None)
        if client is None:
            way = self._ways.get(proxy)
            if way is None:
                way = self._ways[proxy] = _Way(self, proxy)
            client = _Client(way, self._reactor)
            while len(self._clients) >= CLIENTS:
                self._clients.popitem(last=False)
        self._clients[account, proxy] = client
        return client


class _Visit:
    """
    One `send`: which connection it got, and whether its caller has gone.

    The pool picks a connection inside the call that makes the request, so that it can
    be noted here which one it is.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._line: Line | None = None
        self.asking: Deferred[Any] = succeed(None)
        self.reused = False
        self.left = False

    def took(self, connection: Any) -> Any:
        """Note what the pool gave us, and pass it on."""
        line = connection.transport
        assert isinstance(line, Line)
        self._line = line
        self.reused = line.uses > 0
        line.uses += 1
        return connection

    def answered(self, response: Any) -> Answer:
        """Take over at the head of an answer, before any of its body is looked at."""
        assert self._line is not None
        gzipped = False
        # treq's decoder is left out: see the body's own.
        while hasattr(response, "original"):
            gzipped = gzipped or isinstance(response, GzipDecoder)
            response = response.original
        return Answer(response=response, gzipped=gzipped, line=self._line, clock=self._clock)

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self._line is not None:
            self._line.abort()

    def leave(self) -> None:
        """Stop whatever step it is at; nothing of it is to be left open."""
        self.left = True
        self.asking.cancel()


class _Pool(HTTPConnectionPool):
    """Twisted's pool, telling a visit which connection it got."""

    def __init__(self, *, reactor: Any, kept: bool, size: int) -> None:
        super().__init__(reactor, persistent=kept)  # type: ignore[no-untyped-call]
        self.maxPersistentPerHost = size
        self.cachedConnectionTimeout = IDLE_CONNECTION
        self.retryAutomatically = False
        self.visit: _Visit | None = None

    def empty(self) -> Deferred[None]:
        """Close what is idle; fires when it is closed."""
        closed: Deferred[None] = HTTPConnectionPool.closeCachedConnections(self)
        return closed

    def getConnection(self, key: Hashable, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """Supply a connection, kept or new."""
        connection = super().getConnection(key, endpoint)
        if self.visit is not None:
            connection.addCallback(self.visit.took)
        return connection


@implementer(IAgentEndpointFactory)
class _Way:
    """
    All connections through one proxy, or through none.

    The second agent keeps no connection: what a stale one did not answer is asked
    again where none can be stale.
    """

    def __init__(self, upstream: Upstream, proxy: Proxy | None) -> None:
        self._upstream = upstream
        self._proxy = proxy
        reactor = upstream._reactor
        self.pools = [
            _Pool(reactor=reactor, kept=kept, size=upstream._pool_size) for kept in (True, False)
        ]
        self.agents = [Agent.usingEndpointFactory(reactor, self, pool=pool) for pool in self.pools]

    def endpointForURI(self, uri: URI) -> Road:
        """Return the way to one origin."""
        return Road(
            reactor=self._upstream._reactor,
            origin=Origin(uri.scheme.decode("ascii"), uri.host.decode("ascii"), uri.port),
            proxy=self._proxy,
            trust=self._upstream._trust,
            limit=self._upstream.connect_timeout,
        )


class _Client:
    """One account's cookies, on one way."""

    def __init__(self, way: _Way, reactor: Any) -> None:
        self._way = way
        self._reactor = reactor
        jar = IndexableCookieJar()
        self._clients = [HTTPClient(agent, jar, _Whole) for agent in way.agents]

    async def ask(self, request: UpstreamRequest, visit: _Visit, fresh: bool = False) -> Answer:
        """Send the request, on a connection made for it if *fresh*."""
        pool = self._way.pools[fresh]
        pool.visit = visit
        try:
            pending = self._clients[fresh].request(
                request.method,
                _Verbatim(request.url),
                headers=_headers(request),
                data=request.body,
                unbuffered=True,
                allow_redirects=False,
                reactor=self._reactor,
            )
        finally:
            pool.visit = None
        # A callback, not an await: it must run before the parser reads on.
        answer: Answer = await pending.addCallback(visit.answered)
        return answer


@implementer(IBodyProducer)
@attrs.define
class _Whole:
    """
    A body written in one go: the line below feeds it on at the peer's pace.

    Twisted holds back an answer until the request is written, and some upstreams
    refuse a large request before they have read it.
    """

    body: bytes = attrs.field(repr=False)
    length: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.length = len(self.body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write it all."""
        consumer.write(self.body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """There is nothing left to pause."""

    def resumeProducing(self) -> None:
        """There is nothing left to resume."""

    def stopProducing(self) -> None:
        """There is nothing left to stop."""


class _Verbatim(EncodedURL):
    """
    A URL that treq sends as it is.

    It would read and write it anew, which costs time, changes a quote or two, and
    fails on an IPv6 address (https://github.com/python-hyper/hyperlink/issues/68).
    """

    def __init__(self, text: str) -> None:
        self._verbatim = text

    def to_uri(self) -> _Verbatim:
        """It is one."""
        return self

    def to_text(self, with_password: bool = False) -> str:
        """Return what was given."""
        return self._verbatim


def _headers(request: UpstreamRequest) -> TwistedHeaders:
    headers = TwistedHeaders()
    for name, value in request.headers:
        if name not in _NOT_SENT:
            headers.addRawHeader(name, value)
    if not headers.hasHeader(b"user-agent"):
        headers.addRawHeader(b"User-Agent", _USER_AGENT)
    return headers


def _origin(url: str) -> Origin:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        if not parts.hostname or parts.username is not None:
            raise ValueError
    except (ValueError, KeyError):
        raise UpstreamError(
            "An upstream's URL cannot be used: its base URL must be http:// or https://, a "
            "host without user name or password, and perhaps a port and a path.",
            fault=Fault.UNREACHABLE,
            status=502,
            code="connect_failed",
        ) from None
    return Origin(parts.scheme, parts.hostname, port)


def _no_answer(reason: Exception, origin: Origin) -> UpstreamError:
    if isinstance(reason, ResponseNeverReceived):
        what = "closed the connection without an answer. Try again."
    else:
        what = (
            "did not answer as an HTTP server does, or broke off in the head of its answer "
            f"({type(reason).__name__}). Check scheme and port of its base URL."
        )
    return UpstreamError(f"{origin} {what}", fault=Fault.RESET, status=502, code="upstream_reset")
