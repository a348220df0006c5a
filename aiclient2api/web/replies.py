"""
How answers go back to a client, and the one map from failures to replies.

Every failure of the whole site ends in `fail`: ours is told in the caller's
dialect, an upstream's own answer of that dialect goes out verbatim, anything else
is a logged bug and a bare 500. This file must never know a provider.
"""

from __future__ import annotations

import json
import math
from http import HTTPStatus

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from zope.interface import implementer

from aiclient2api.errors import (
    GatewayError,
    MethodNotAllowed,
    Unauthorized,
    UnsupportedEncoding,
    UpstreamError,
)
from aiclient2api.interfaces import IClientReply, IDialect
from aiclient2api.observe.scrubber import Scrubber
from aiclient2api.values import Headers
from aiclient2api.web.channel import GatewayRequest

FLUSH_SECONDS = 30
"""How long an answer that was broken off may take to reach a slow client."""

_log = Logger()


@implementer(IClientReply)
class ClientReply:
    """
    The answer to one ``twisted.web`` request.

    :ivar settled: Fires with None once the request is over: answered or lost.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._gone = False
        self._producing = False
        self.begun = False
        self.settled: Deferred[None] = Deferred()
        request.notifyFinish().addBoth(self._settle)

    def begin(self, status: int, headers: Headers) -> None:
        """See `IClientReply`."""
        request = self._request
        self.begun = True
        request.setResponseCode(status, phrase(status))
        streaming = True
        for name, value in headers:
            request.responseHeaders.setRawHeaders(name, [value])
            streaming = streaming and name != b"content-length"
        if not request.responseHeaders.hasHeader(b"content-type"):
            kind = b"text/event-stream" if streaming else b"application/json"
            request.setHeader(b"content-type", kind)
        if streaming:
            request.setHeader(b"cache-control", b"no-cache")
            # nginx and its kin hold a stream back unless they are told not to.
            request.setHeader(b"x-accel-buffering", b"no")

    def write(self, data: bytes) -> None:
        """See `IClientReply`."""
        if not self._gone:
            self._request.write(data)

    def finish(self) -> None:
        """See `IClientReply`."""
        if not self._gone:
            self._request.finish()

    def abort(self) -> None:
        """See `IClientReply`."""
        if self._gone:
            return
        if self._request.chunked:
            # What was relayed so far still arrives; the last chunk that does not is what
            # tells the client. One that stopped reading is not waited for.
            self._request.channel.setTimeout(FLUSH_SECONDS)
            self._request.loseConnection()
        else:
            ITCPTransport(self._request.transport).abortConnection()

    def register_producer(self, producer: IPushProducer) -> None:
        """See `IClientReply`."""
        if not self._gone:
            self._producing = True
            self._request.registerProducer(producer, True)

    def unregister_producer(self) -> None:
        """See `IClientReply`."""
        if self._producing and not self._gone:
            self._request.unregisterProducer()
        self._producing = False

    def _settle(self, _: object) -> None:
        self._gone = True
        self.settled.callback(None)


def phrase(status: int) -> bytes:
    """Return the words that go with *status*; those of RFC 6585 and later too."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Overloaded" if status == 529 else b"Unknown"


def send_json(request: Request, status: int, body: bytes) -> None:
    """Answer *request* whole with a JSON body."""
    request.setResponseCode(status, phrase(status))
    request.setHeader(b"content-type", b"application/json; charset=utf-8")
    request.setHeader(b"content-length", b"%d" % len(body))
    request.write(body)
    request.finish()


def header_text(text: str, most: int = 256) -> bytes:
    """Return *text*, perhaps a client's own, as far as a header may hold it."""
    return text.encode("ascii", "replace").translate(_PRINTABLE)[:most]


_PRINTABLE = bytes(c if 32 <= c < 127 else ord("?") for c in range(256))


def to_json(value: object) -> bytes:
    """Return *value* as compact UTF-8 JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def error_headers(error: GatewayError) -> Headers:
    """Return the headers that go with *error* whatever its body."""
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b'Bearer realm="aiclient2api"'))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if isinstance(error, UnsupportedEncoding):
        headers.append((b"accept-encoding", b"identity"))
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(0, math.ceil(error.retry_after))))
    return tuple(headers)


def error_reply(
    error: GatewayError, dialect: IDialect, scrubber: Scrubber
) -> tuple[int, Headers, bytes]:
    """Return status, headers and body of *error* in *dialect*, without secrets."""
    error = scrubber.error(error)
    if isinstance(error, UpstreamError) and error.reply is not None:
        reply, headers = error.reply, error.reply.headers
        if not any(name == b"retry-after" for name, _ in headers):
            headers = (*headers, *error_headers(error))
        return reply.status, headers, reply.body
    status, body = dialect.render_error(error=error)
    json_type = (b"content-type", b"application/json; charset=utf-8")
    return status, (json_type, *error_headers(error)), body


def fail(request: GatewayRequest, failure: Failure, dialect: IDialect, scrubber: Scrubber) -> None:
    """
    Answer *request* with what went wrong.

    Once an answer has begun nothing can be added to it: the connection is closed
    without a clean end, which is what tells the client.
    """
    if failure.check(CancelledError) and request._disconnected:
        return
    error = failure.value
    if not isinstance(error, GatewayError):
        _log.failure("{id}: this is a bug", failure=failure, id=request.exchange_id)
        error = GatewayError(
            "The gateway failed at this request; its log tells more under the id "
            f"{request.exchange_id}.",
            code="internal_error",
        )
    if request.startedWriting or request.finished or request._disconnected:
        request.loseConnection()
        return
    request.write(prepare_error(request, error, dialect, scrubber))
    request.finish()


def prepare_error(
    request: GatewayRequest, error: GatewayError, dialect: IDialect, scrubber: Scrubber
) -> bytes:
    """Set the head of *request*'s answer to *error*, and return its body."""
    status, headers, body = error_reply(error, dialect, scrubber)
    request.setResponseCode(status, phrase(status))
    request.setHeader(b"content-type", b"application/json")
    for name, value in headers:
        request.responseHeaders.setRawHeaders(name, [value])
    request.setHeader(b"content-length", b"%d" % len(body))
    return body
