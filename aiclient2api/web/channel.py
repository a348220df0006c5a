"""
One client's connection: what it may send, and for how long.

Oversize, endless and malformed requests are refused here while they arrive, before
any route runs. A key in the URL is cut out at this door, so nothing behind it can
log one. This file must never know what a request is about; `Admission` does.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as HTTPRequest
from twisted.web.server import Request
from zope.interface import implementer

from aiclient2api.errors import GatewayError, UploadTimeout, UpstreamError
from aiclient2api.web.admission import Admission as Admission
from aiclient2api.web.admission import too_large
from aiclient2api.web.load import Place
from aiclient2api.web.target import origin_form, without_key
from aiclient2api.web.target import peer_name as peer_name
from aiclient2api.web.wellformed import field_is_good, head_is_good, target_is_good

if TYPE_CHECKING:
    from aiclient2api.web.site import GatewaySite

HEADER_LIMIT = 64 * 1024
"""Bytes of request line and headers; coding agents send metadata of several KiB."""

IDLE_CONNECTION = 75.0
"""Seconds a kept-alive connection may stand between two requests."""

LINGER_SECONDS = 2.0
"""How long a refused sender is listened to, so that it can read the refusal."""

LINGER_BYTES = 64 * 1024 * 1024
"""How much of what a refused sender still sends is thrown away."""

CHUNK_OVERHEAD = 16
"""Bytes on the wire for each byte of a chunked body at most, beside `HEADER_LIMIT`."""

SERVER = b"aiclient2api"

ID_HEADER = b"x-aiclient2api-request-id"
"""Names a request in the answer and in the log."""


class GatewayRequest(Request):
    """
    One request; its URL never holds a key.

    :ivar query_keys: What stood in ``?key=``.
    :ivar exchange_id: Set by the front; names this request in log and answer.
    :ivar path_provider: The provider named by the first path segment, if any.
    :ivar interrupt: Set while a route is at work: has it end now, with this error.
    :ivar break_off: Set by what answers: breaks off an answer that has begun, or returns
        False if none has.
    :ivar target: Where it is to go, known once the head of one with a body is here.
    :ivar announced: Bytes that its body is said to have; None: it does not say.
    :ivar place: What this request is counted with, once it is; given back when it is over.
    """

    defaultContentType = None
    query_keys: Sequence[str] = ()
    exchange_id = "-"
    path_provider: str | None = None
    interrupt: Callable[[UpstreamError], None] | None = None
    break_off: Callable[[UpstreamError], bool] | None = None
    target = b""
    announced: int | None = None
    place: Place | None = None
    _taken = 0

    def body(self) -> bytes:
        """Return the whole body."""
        return self._body.getvalue()

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory, however long: no temporary file."""
        self.content = self._body = io.BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body, up to the limit."""
        channel = cast(GatewayChannel, self.channel)
        self._taken += len(data)
        limit = channel.site.admission.body_limit()
        if self._taken > limit:
            self.content = self._body = io.BytesIO()
            channel.refuse(self, too_large(limit))
            return
        if self.place is not None and (error := self.place.hold(self._taken)) is not None:
            self.content = self._body = io.BytesIO()
            channel.refuse(self, error)
            return
        self._body.write(data)

    def leave(self) -> None:
        """Give back what this request was counted with."""
        if self.place is not None:
            self.place.leave()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Cut the key out of the URL before anything can see it."""
        clean, self.query_keys = without_key(origin_form(path))
        super().requestReceived(command, clean, version)

    def processingFailed(self, reason: Failure) -> None:
        """Answer a failure outside all routes without HTML and without details."""
        self._log.failure("{id}: this is a bug", failure=reason, id=self.exchange_id)
        if self.startedWriting:
            self.loseConnection()
            return
        body = b'{"error":{"message":"The gateway failed at this request.","type":"server_error"}}'
        self.setResponseCode(500)
        self.setHeader(b"content-type", b"application/json; charset=utf-8")
        self.setHeader(b"content-length", b"%d" % len(body))
        self.write(body)
        self.finish()


@implementer(IHalfCloseableProtocol)
class GatewayChannel(HTTPChannel):
    """
    One client connection.

    Beyond ``twisted.web``'s own checks it bounds the time a request may take to
    arrive, refuses what is not `wellformed`, and answers an oversize body while it
    comes in.
    """

    site: GatewaySite
    totalHeadersSize = HEADER_LIMIT
    MAX_LENGTH = HEADER_LIMIT
    # Twisted stops reading beyond this, and would not see a client leave; see below.
    _optimisticEagerReadSize = HEADER_LIMIT
    _log = Logger()

    def __init__(self) -> None:
        super().__init__()
        self._upload: IDelayedCall | None = None
        self._rest: float | None = None
        self._answered = False
        self._linger: IDelayedCall | None = None
        self._arriving = self._refused = False
        self._thrown_away = 0
        self._raw = 0
        self._unsent: list[GatewayRequest] = []

    def connectionMade(self) -> None:
        """Have a peer that vanished without a word found out in the end."""
        self.site.channels.add(self)
        self.site.connections.came(self)
        super().connectionMade()
        if ITCPTransport.providedBy(self.transport):
            ITCPTransport(self.transport).setTcpKeepAlive(True)

    @property
    def arriving(self) -> bool:
        """Say whether a request has begun to arrive and is not here yet."""
        return self._arriving

    def dataReceived(self, data: bytes) -> None:
        """Take bytes; once refused, only so that the refusal can be read."""
        if self._refused:
            self._thrown_away += len(data)
            if self._thrown_away > LINGER_BYTES:
                self.abort()
            return
        if not self._handlingRequest and (data.strip(b"\r\n") or len(self._buffer) + len(data) > 2):
            # One stray line end is forgiven, and is no request; more of them are a bad one.
            self._start_upload()
        super().dataReceived(data)
        if self._handlingRequest and len(self._dataBuffer) > 64:
            # twisted.web adds up their lengths at every read; there may be one for each byte.
            self._dataBuffer[:] = [b"".join(self._dataBuffer)]
        if self._handlingRequest and sum(map(len, self._dataBuffer)) > HEADER_LIMIT:
            # Nobody pipelines so much behind a request that is still being answered.
            self.abort()

    def lineReceived(self, line: bytes) -> None:
        """Start the clock of a request that was buffered; refuse a malformed head."""
        if self._refused:
            return
        in_headers = hasattr(self, "_command")
        if in_headers and line and not field_is_good(line):
            self._respondToBadRequestAndDisconnect()
            return
        if line:
            self._start_upload()
        super().lineReceived(line)
        if self._refused or in_headers or not hasattr(self, "_command"):
            return
        if not target_is_good(self._command, self._path):
            self._respondToBadRequestAndDisconnect()

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a header line that is too long."""
        self._refuse_bare(b"431 Request Header Fields Too Large")

    def rawDataReceived(self, data: bytes) -> None:
        """Take body bytes, unless the request was refused in the middle of a read."""
        if self._refused:
            return
        self._raw += len(data)
        super().rawDataReceived(data)
        if self._refused or self._handlingRequest or self.length is not None:
            return
        # A body in chunks, of which more is to come; this one may be longer than all we take.
        taken, limit = self.requests[-1]._taken, self.site.admission.body_limit()
        decoder = self._transferDecoder
        coming = decoder.length if decoder is not None and decoder.state == "BODY" else 0
        if self._raw > HEADER_LIMIT + CHUNK_OVERHEAD * taken:
            # Extensions and trailers count for no body, and would have no end.
            self._respondToBadRequestAndDisconnect()
        elif taken + coming > limit:
            self.refuse(self.requests[-1], too_large(limit))

    def allHeadersReceived(self) -> None:
        """Judge a request that brings a body before reading it."""
        request, length = self.requests[-1], self.length
        admission = self.site.admission
        self._raw = 0
        if not head_is_good(self._version, request.requestHeaders):
            self._respondToBadRequestAndDisconnect()
            return
        self.site.connections.at_work(self)
        self._await_body()
        if length != 0:
            error: GatewayError | None = None
            limit = admission.body_limit()
            if length is not None and length > limit:
                error = too_large(limit)
            else:
                request.target, request.query_keys = without_key(origin_form(self._path))
                request.announced = length
                error = admission.admit(request)
            if error is not None:
                request.content = io.BytesIO()
                self.refuse(request, error)
                return
        super().allHeadersReceived()

    def checkPersistence(self, request: HTTPRequest, version: bytes) -> bool:
        """
        Say whether more may come behind *request*, and tell the client if not.

        twisted.web overlooks ``close, te``.
        """
        lines = request.requestHeaders.getRawHeaders(b"connection", ())
        tokens = {token.strip().lower() for token in b",".join(lines).split(b",")}
        if version != b"HTTP/1.1":
            return False
        if b"close" in tokens or self.site.leaving:
            request.responseHeaders.setRawHeaders(b"connection", [b"close"])
            return False
        return True

    def allContentReceived(self) -> None:
        """The request is here: stop its clock and hand it on."""
        # They never become headers, but they say where the request ends.
        trailers = getattr(self._transferDecoder, "_trailerHeaders", ())
        if not all(map(field_is_good, trailers)):
            self._respondToBadRequestAndDisconnect()
        if self._refused:
            return
        self._stop_upload()
        super().allContentReceived()

    def requestDone(self, request: GatewayRequest) -> None:
        """
        The answer is written: it is over once it has left this process, too.

        What a client does not read stays in memory, so until then its place is taken.
        """
        if self._waitingForTransport:
            self._unsent.append(request)
        else:
            request.leave()
            self.site.connections.rests(self)
        self._answered = True
        super().requestDone(request)
        if not self.persistent and self in self.site.channels:
            # Nothing else would ever end one that does not read.
            self._linger = self.callLater(IDLE_CONNECTION, self._stop_lingering)

    def resumeProducing(self) -> None:
        """The client has read what was written."""
        super().resumeProducing()
        self._all_sent()
        if not self._handlingRequest and not self._arriving:
            self.site.connections.rests(self)

    def timeoutConnection(self) -> None:
        """Close an idle connection."""
        self._stop_upload()
        super().timeoutConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client is gone."""
        self._stop_upload()
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        super().connectionLost(reason)
        for request in self.requests:
            request.leave()
        self._all_sent()
        self.site.forget(self)

    def readConnectionLost(self) -> None:
        """
        The client shut down its sending side: it has left.

        Providing `IHalfCloseableProtocol` keeps our own half-close in `refuse` from
        being taken for the end of the connection.
        """
        self.abort()

    def writeConnectionLost(self) -> None:
        """Our half-close went out."""

    def abort(self) -> None:
        """Close now; what was not sent is lost."""
        ITCPTransport(self.transport).abortConnection()

    def give_way(self) -> None:
        """Make room for another: nothing is being answered here."""
        if self._refused or not self._answered:
            self.abort()
        else:
            # What was answered last may not be sent yet.
            self.loseConnection()

    def refuse(self, request: GatewayRequest, error: GatewayError) -> None:
        """
        Answer a request that has not fully arrived, and close.

        Closing at once would reset the connection under a client that is still
        sending, and it would never read the answer: so the sending side is closed
        and what still comes is thrown away, for a bounded while.
        """
        if self._refused:
            return
        request.leave()
        target = without_key(self._path)[0]
        status, headers, body = self.site.admission.render(error, target, request)
        head = [b"HTTP/1.1 %d %s" % (status, _REASONS.get(status, b"Error"))]
        head += [b"%s: %s" % pair for pair in headers]
        exchange_id = uuid.uuid4().hex
        head.append(ID_HEADER + b": " + exchange_id.encode())
        head += [b"content-length: %d" % len(body), b"connection: close", b"server: " + SERVER]
        self._log.info(
            "{peer} {method} {path} {status} refused: {why} {id}",
            peer=peer_name(self.getPeer()),
            method=self._command.decode("ascii", "replace"),
            path=target.partition(b"?")[0].decode("ascii", "replace"),
            status=status,
            why=error.code or error.kind,
            id=exchange_id,
        )
        self._close_with(b"\r\n".join(head) + b"\r\n\r\n" + body)

    def interrupt(self, error: GatewayError) -> None:
        """Refuse a request that is still arriving: nobody will be here to answer it."""
        if self._arriving and hasattr(self, "_command") and self.requests:
            self.refuse(self.requests[-1], error)
        elif self._arriving:
            self._refuse_bare(b"503 Service Unavailable")

    def idle_after(self, seconds: float) -> None:
        """Close the connection once it was idle for so long, from now on."""
        if self._handlingRequest:
            self._savedTimeOut = seconds
        elif not self._arriving and not self._refused:
            self.setTimeout(seconds)

    def _respondToBadRequestAndDisconnect(self) -> None:
        # The base class calls this under this name for every malformed request.
        self._refuse_bare(b"400 Bad Request")

    def _refuse_bare(self, status: bytes) -> None:
        if not self._refused:
            self._close_with(
                b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )

    def _close_with(self, answer: bytes) -> None:
        self._refused = True
        self._stop_upload()
        self.site.connections.rests(self)
        self.setTimeout(None)
        self._networkProducer.resumeProducing()
        transport = self.transport
        assert transport is not None
        transport.write(answer)
        self._linger = self.callLater(LINGER_SECONDS, self._stop_lingering)
        if ISSLTransport.providedBy(transport):
            # TLS has no half-close; its close alert goes out behind the answer.
            transport.loseConnection()
        else:
            ITCPTransport(transport).loseWriteConnection()

    def _stop_lingering(self) -> None:
        self._linger = None
        self.abort()

    def _all_sent(self) -> None:
        for request in self._unsent:
            request.leave()
        self._unsent.clear()

    def _upload_late(self) -> None:
        self._upload = None
        admission = self.site.admission
        what, seconds, key = "request", admission.upload_seconds(), "upload"
        if self._rest is not None:
            what, seconds, key = "request's head", admission.head_seconds(), "head"
        if not hasattr(self, "_command"):
            self._refuse_bare(b"408 Request Timeout")
            return
        self.refuse(
            self.requests[-1],
            UploadTimeout(
                f"The {what} did not arrive within {seconds:g} seconds; send it faster or "
                f"raise timeouts.{key}.",
                code="upload_timeout",
            ),
        )

    def _start_upload(self) -> None:
        if self._arriving:
            return
        self._arriving = True
        self.site.connections.speaks(self)
        head, whole = self.site.admission.head_seconds(), self.site.admission.upload_seconds()
        # What is left for the body once the head is here; None: the head has no clock.
        self._rest = max(0.0, whole - head) if head and not 0 < whole <= head else None
        if first := whole if self._rest is None else head:
            self._upload = self.callLater(first, self._upload_late)

    def _await_body(self) -> None:
        rest, self._rest = self._rest, None
        if self._upload is not None and rest is not None:
            if rest:
                self._upload.delay(rest)
            else:
                self._upload.cancel()
                self._upload = None

    def _stop_upload(self) -> None:
        self._arriving = False
        if self._upload is not None:
            self._upload.cancel()
            self._upload = None


_REASONS = {
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    408: b"Request Timeout",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    429: b"Too Many Requests",
    503: b"Service Unavailable",
}
