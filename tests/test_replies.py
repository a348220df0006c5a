"""Replies: the one map from failures to what a client reads."""

from __future__ import annotations

import json

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest
from zope.interface.verify import verifyObject

from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.errors import (
    Fault,
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    ProviderUnavailable,
    RawReply,
    Unauthorized,
    UpstreamError,
)
from aiclient2api.interfaces import IClientReply
from aiclient2api.observe.scrubber import Scrubber
from aiclient2api.testing import MemoryReply
from aiclient2api.web.channel import GatewayRequest
from aiclient2api.web.replies import ClientReply, error_headers, error_reply, fail, phrase


class Request(DummyRequest):
    """A request that ``fail`` can answer."""

    exchange_id = "id-1"
    startedWriting = 0
    _disconnected = False
    lost = False

    def loseConnection(self) -> None:
        """Note it."""
        self.lost = True


def request() -> GatewayRequest:
    """Return a request in memory."""
    made: GatewayRequest = Request([b""])  # type: ignore[assignment]
    return made


class ErrorReplyTests(SynchronousTestCase):
    """Each error in each dialect."""

    def test_every_error_has_a_body_in_every_dialect(self) -> None:
        """JSON with the message in it, and the error's own status."""
        for error in (
            GatewayError("it failed"),
            InvalidRequest("it failed", param="model"),
            Unauthorized("it failed"),
            ProviderUnavailable("it failed", retry_after=1.2),
            UpstreamError("it failed", fault=Fault.TIMEOUT, status=504),
        ):
            for dialect in DIALECTS:
                status, headers, body = error_reply(error, dialect, Scrubber())
                self.assertEqual(status, error.status)
                self.assertIn("it failed", json.dumps(json.loads(body)))
                self.assertIn((b"content-type", b"application/json; charset=utf-8"), headers)

    def test_an_upstreams_own_answer_goes_out_verbatim(self) -> None:
        """Status, headers and body."""
        raw = RawReply(418, ((b"content-type", b"text/x"),), b"teapot")
        error = UpstreamError("it failed", fault=Fault.SERVER, status=502, reply=raw)
        self.assertEqual(
            error_reply(error, ANTHROPIC_MESSAGES, Scrubber()), (raw.status, raw.headers, raw.body)
        )

    def test_headers_that_help_the_client(self) -> None:
        """Retry-After in whole seconds, Allow, WWW-Authenticate."""
        self.assertEqual(
            error_headers(ProviderUnavailable("x", retry_after=1.2)), ((b"retry-after", b"2"),)
        )
        self.assertEqual(
            error_headers(MethodNotAllowed("x", allowed=["GET", "POST"])),
            ((b"allow", b"GET, POST"),),
        )
        self.assertEqual(error_headers(Unauthorized("x"))[0][0], b"www-authenticate")


class FailTests(SynchronousTestCase):
    """Three arms: ours, cancelled, a bug."""

    def test_a_bug_is_logged_and_not_shown(self) -> None:
        """The client gets a 500 and the id to look for."""
        asked = request()
        fail(asked, Failure(ZeroDivisionError("secret detail")), ANTHROPIC_MESSAGES, Scrubber())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        body = b"".join(asked.written)  # type: ignore[attr-defined]
        self.assertNotIn(b"secret detail", body)
        self.assertIn(b"id-1", body)
        self.assertEqual(asked.responseCode, 500)  # type: ignore[attr-defined]

    def test_a_client_that_left_is_told_nothing(self) -> None:
        """Cancelling is no failure."""
        asked = request()
        asked._disconnected = True
        fail(asked, Failure(CancelledError()), ANTHROPIC_MESSAGES, Scrubber())
        self.assertEqual(asked.written, [])  # type: ignore[attr-defined]

    def test_nothing_is_added_to_an_answer_that_began(self) -> None:
        """The connection is closed instead: the client sees that it is not whole."""
        asked = request()
        asked.startedWriting = 1
        fail(asked, Failure(InvalidRequest("late")), ANTHROPIC_MESSAGES, Scrubber())
        self.assertEqual(asked.written, [])  # type: ignore[attr-defined]
        self.assertTrue(asked.lost)  # type: ignore[attr-defined]


class ClientReplyTests(SynchronousTestCase):
    """The seam between exchange and ``twisted.web``."""

    def test_it_keeps_its_contract(self) -> None:
        """As the double that stands for it does."""
        self.assertTrue(verifyObject(IClientReply, ClientReply(request())))
        self.assertTrue(verifyObject(IClientReply, MemoryReply()))

    def test_a_stream_must_not_be_held_back_by_proxies(self) -> None:
        """A body without length is a stream and says so; a whole answer does not."""
        asked = request()
        ClientReply(asked).begin(200, ((b"content-type", b"text/event-stream"),))
        headers = asked.responseHeaders
        self.assertEqual(headers.getRawHeaders(b"x-accel-buffering"), [b"no"])
        asked = request()
        ClientReply(asked).begin(200, ((b"content-length", b"3"),))
        self.assertFalse(asked.responseHeaders.hasHeader(b"x-accel-buffering"))

    def test_every_status_has_its_words(self) -> None:
        """Those that Twisted does not know, too."""
        told = {status: phrase(status) for status in (200, 429, 529, 599)}
        self.assertEqual(
            told, {200: b"OK", 429: b"Too Many Requests", 529: b"Overloaded", 599: b"Unknown"}
        )

    def test_nothing_is_written_once_the_request_is_over(self) -> None:
        """A client that left is not written to, and its end is told once."""
        asked = request()
        reply = ClientReply(asked)
        reply.begin(200, ())
        asked.processingFailed(Failure(ConnectionError()))
        self.successResultOf(reply.settled)
        reply.write(b"x")
        reply.finish()
        reply.abort()
        reply.unregister_producer()
        self.assertEqual(asked.written, [])  # type: ignore[attr-defined]
