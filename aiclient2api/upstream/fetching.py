"""
Images and documents that a request names by address, for upstreams that want the bytes.

What a caller names is fetched from the public Internet only, with nothing of ours or of the
caller's in the request, and within bounds on bytes, time and number. It must never know a
dialect, and never keep what it fetched.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Container, Sequence
from typing import Any

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    DeferredSemaphore,
    FirstError,
    succeed,
)
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HostnameCachingHTTPSPolicy,
    ResponseDone,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IPolicyForHTTPS, IResponse

from aiclient2api import __version__
from aiclient2api.conversation.request import Inline
from aiclient2api.errors import InvalidRequest, UpstreamError
from aiclient2api.upstream.addresses import Allowed, NotPublic, is_public
from aiclient2api.upstream.body import Answer
from aiclient2api.upstream.public_road import PublicRoad
from aiclient2api.upstream.targets import NotFetched, Target, shown

REDIRECTS = 3
"""How many redirects are followed for one address."""

AT_A_TIME = 4
"""How many addresses of one request are fetched at a time."""

IN_ALL = 16
"""How many are fetched at a time for all requests together."""

MOST = 100
"""How many different addresses one request may name."""

TOGETHER = 2
"""How many times the limit for one all that one request names may have together."""

_REDIRECTED = frozenset((301, 302, 303, 307, 308))

_HEADERS = Headers(
    {
        # What every model takes; asked for anything, some servers send what few models do.
        b"Accept": [
            b"image/png,image/jpeg,image/webp,image/gif,image/*;q=0.5,application/pdf;q=0.5"
        ],
        b"User-Agent": [f"aiclient2api/{__version__}".encode("ascii")],
    }
)

_MAGIC = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"%PDF-"), "application/pdf"),
)
_KNOWN_BY_MAGIC = frozenset(("image/jpg", *(kind for _, kind in _MAGIC)))
_IMAGE = re.compile(r"image/[a-z0-9][a-z0-9.+-]{0,60}")


# --- what is got ---------------------------------------------------------------


def kind_of(body: bytes, told: str) -> str | None:
    """
    Say what *body* is: what its first bytes say, else what the server *told*.

    :param told: A Content-Type, ``""`` for none.
    :return: Its MIME type; None if it is neither an image nor a PDF file.
    """
    for pattern, kind in _MAGIC:
        if pattern.match(body):
            return kind
    kind = told.partition(";")[0].strip().lower()
    if kind == "application/pdf" and b"%PDF-" in body[:1024]:
        # The format allows for something in front of it.
        return kind
    if kind in _KNOWN_BY_MAGIC or not _IMAGE.fullmatch(kind) or not body:
        return None
    return kind


class _Room:
    """How much all that a request names may still have together, in bytes."""

    def __init__(self, whole: int) -> None:
        self._whole = whole
        self._left = whole

    def must_hold(self, size: int) -> None:
        if size > self._left:
            raise NotFetched(f"All that this request names has over {self._whole} bytes together.")

    def take(self, size: int) -> None:
        self.must_hold(size)
        self._left -= size


class _Body(Protocol):
    """
    Gathers one body, within its own limit and what there is room for.

    Its Deferred has no canceller: who waits for it closes the connection in any case.
    """

    def __init__(self, limit: int, room: _Room) -> None:
        self._limit = limit
        self._room = room
        self._size = 0
        self._parts: list[bytes] = []
        self.result: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        if self.result.called:
            # The rest of what was read along with the byte too much.
            return
        self._size += len(data)
        self._parts.append(data)
        try:
            _within(self._size, self._limit)
            self._room.take(len(data))
        except NotFetched:
            self._parts.clear()
            self.result.errback()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.result.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.result.callback(b"".join(self._parts))
        else:
            self.result.errback(NotFetched("Its server broke off in the middle of it."))


def _within(size: int, limit: int) -> None:
    if size > limit:
        raise NotFetched(f"It has over {limit} bytes (fetch_images.bytes).")


# --- how it is got -------------------------------------------------------------


class ImageFetcher:
    """
    Fetches images and PDF files by address.

    :param limit: Bytes that one may have.
    :param seconds: How long one may take, from looking up its host to its last byte,
        redirects included; above 0. Waiting for a turn does not count.
    :param resolver: Looks names up; by default the reactor's.
    :param trust: Who is believed to be who; by default the system's authorities.
    :param allowed: Which addresses may be connected to.
    :param ports: Which ports may be.
    """

    def __init__(
        self,
        *,
        reactor: Any,
        limit: int,
        seconds: float,
        resolver: IHostnameResolver | None = None,
        trust: IPolicyForHTTPS | None = None,
        allowed: Allowed = is_public,
        ports: Container[int] = (80, 443),
    ) -> None:
        self._reactor = reactor
        self._limit = limit
        self._seconds = seconds
        self._resolver = resolver
        self._trust = trust or HostnameCachingHTTPSPolicy(BrowserLikePolicyForHTTPS())
        self._allowed = allowed
        self._ports = ports
        self._turns = DeferredSemaphore(IN_ALL)

    def fetch(self, url: str) -> Deferred[Inline]:
        """
        Fetch what one address names. Cancelling closes the connection, in every phase.

        :raise InvalidRequest: ``remote_media`` if it cannot be had: all that can go wrong
            is the address's fault as far as we can tell.
        """
        return self._fetch(url, _Room(TOGETHER * self._limit))

    def fetch_all(self, urls: Sequence[str]) -> Deferred[dict[str, Inline]]:
        """
        Fetch what each of a request's addresses names, each once.

        Cancelling closes all connections, and so does the first failure.

        :raise InvalidRequest: as `fetch` does.
        """
        return Deferred.fromCoroutine(self._fetch_all(tuple(dict.fromkeys(urls))))

    async def _fetch_all(self, urls: tuple[str, ...]) -> dict[str, Inline]:
        if len(urls) > MOST:
            raise _refusal(
                f"This request names {len(urls)} images or files by address, and at most "
                f"{MOST} are fetched. Name fewer, or send the bytes of some in the request."
            )
        room = _Room(TOGETHER * self._limit)
        todo = iter(urls)
        found: dict[str, Inline] = {}

        async def work() -> None:
            for url in todo:
                found[url] = await self._fetch(url, room)

        working = [Deferred.fromCoroutine(work()) for _ in urls[:AT_A_TIME]]
        try:
            await DeferredList(working, fireOnOneErrback=True, consumeErrors=True)
        except FirstError as first:
            first.subFailure.raiseException()
        finally:
            for each in working:
                each.cancel()
        return {url: found[url] for url in urls}

    def _fetch(self, url: str, room: _Room) -> Deferred[Inline]:
        errand = _Errand(self, url, room)
        result: Deferred[Inline] = Deferred(lambda _: errand.leave())

        def settle(outcome: Inline | Failure) -> None:
            # Cancelled, it fails with this or that; the caller has gone already.
            if not errand.left:
                result.callback(outcome)

        errand.going = Deferred.fromCoroutine(errand.run())
        errand.going.addBoth(settle)
        return result


class _Errand:
    """One `fetch`, from its place in the queue to its last byte."""

    def __init__(self, fetcher: ImageFetcher, url: str, room: _Room) -> None:
        self._fetcher = fetcher
        self._url = url
        self._room = room
        self._road: PublicRoad | None = None
        self._late = False
        self.going: Deferred[Any] = succeed(None)
        self.left = False

    def leave(self) -> None:
        """Stop whatever step it is at; nothing of it is to be left open."""
        self.left = True
        self.going.cancel()

    async def run(self) -> Inline:
        """Fetch, when it is our turn."""
        fetcher = self._fetcher
        await fetcher._turns.acquire()
        timer = fetcher._reactor.callLater(fetcher._seconds, self._expire)
        try:
            return await self._follow()
        except (CancelledError, NotFetched, NotPublic, UpstreamError) as reason:
            if self.left:
                raise
            why = self._why(reason)
            raise _refusal(
                f"The image or file at {shown(self._url)} could not be fetched. {why} "
                "Its bytes can also be sent in the request."
            ) from None
        finally:
            if timer.active():
                timer.cancel()
            fetcher._turns.release()

    def _why(self, reason: Exception) -> str:
        if self._late and self._road is not None:
            seconds = self._fetcher._seconds
            return f"It took over {seconds:g} seconds, {self._road.doing} (fetch_images.seconds)."
        if isinstance(reason, NotPublic):
            return "Its host has an address that is not on the public Internet."
        return reason.message if isinstance(reason, UpstreamError) else str(reason)

    def _expire(self) -> None:
        self._late = True
        self.going.cancel()

    async def _follow(self) -> Inline:
        ports = self._fetcher._ports
        target = Target.from_url(self._url, ports)
        for _ in range(REDIRECTS + 1):
            road = self._road = self._road_to(target)
            try:
                answer, length = await self._ask(target, road)
                if answer.status not in _REDIRECTED:
                    road.doing = "reading it"
                    return await self._take(answer, length)
            finally:
                road.close()
            target = target.redirected(_header(answer, b"location"), ports)
        raise NotFetched(f"Its server redirects more than {REDIRECTS} times.")

    def _road_to(self, target: Target) -> PublicRoad:
        fetcher = self._fetcher
        return PublicRoad(
            reactor=fetcher._reactor,
            resolver=fetcher._resolver or fetcher._reactor.nameResolver,
            origin=target.origin,
            trust=fetcher._trust,
            allowed=fetcher._allowed,
        )

    async def _ask(self, target: Target, road: PublicRoad) -> tuple[Answer, int | None]:
        """Return the answer at its head, and how long it says its body is."""
        reactor = self._fetcher._reactor
        agent = Agent.usingEndpointFactory(reactor, road)

        def answered(response: IResponse) -> tuple[Answer, int | None]:
            road.head_is_here()
            assert road.line is not None
            answer = Answer(response=response, gzipped=False, line=road.line, clock=reactor)
            length = response.length
            return answer, None if length is UNKNOWN_LENGTH else length

        # A callback, not an await: it must run before the parser reads on.
        pending = agent.request(b"GET", target.url.encode("ascii"), _HEADERS)
        try:
            at_its_head: tuple[Answer, int | None] = await pending.addCallback(answered)
        except (CancelledError, NotPublic, UpstreamError):
            raise
        except Exception as reason:
            if road.overlong:
                raise NotFetched("The head of its server's answer has no end.") from reason
            raise NotFetched(
                "Its server broke off, or did not answer as an HTTP server does."
            ) from reason
        return at_its_head

    async def _take(self, answer: Answer, length: int | None) -> Inline:
        if answer.status != 200:
            raise NotFetched(f"Its server answered with status {answer.status}.")
        if _header(answer, b"content-encoding").lower() not in ("", "identity"):
            raise NotFetched("Its server sends it packed, which was not asked for.")
        limit, room = self._fetcher._limit, self._room
        if length is not None:
            _within(length, limit)
            room.must_hold(length)
        body = _Body(limit, room)
        answer.deliver(body)
        data = await body.result
        kind = kind_of(data, _header(answer, b"content-type"))
        if kind is None:
            raise NotFetched("It is neither an image of a known kind nor a PDF file.")
        return Inline(kind, base64.b64encode(data).decode("ascii"))


def _header(answer: Answer, name: bytes) -> str:
    """Return a header's first value, ``""`` if there is none."""
    values = (value for header, value in answer.headers if header == name)
    return next(values, b"").decode("utf-8", "replace").strip()


def _refusal(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="remote_media")
