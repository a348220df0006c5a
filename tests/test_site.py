"""The door: what a connection may send, for how long, and how it is refused."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from aiclient2api.errors import GatewayError, Unauthorized
from aiclient2api.values import Headers
from aiclient2api.web.admission import Admission
from aiclient2api.web.channel import HEADER_LIMIT, LINGER_BYTES, LINGER_SECONDS, GatewayRequest
from aiclient2api.web.site import GatewaySite
from aiclient2api.web.target import without_key
from tests.web_fixture import Wire

LIMIT = 1000
UPLOAD = 30.0


class Echo(Resource):
    """Answers with what it was asked."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[GatewayRequest] = []

    def render(self, request: GatewayRequest) -> bytes:
        """Answer with the URI and the body."""
        self.seen.append(request)
        return request.uri + b"|" + request.body()


class DoorTests(SynchronousTestCase):
    """Requests as they arrive, byte by byte if need be."""

    def setUp(self) -> None:
        """Open a site with small limits on a clock of our own."""
        self.clock = Clock()
        self.echo = Echo()
        self.refusal: GatewayError | None = None
        self.admitted = 0
        self.site = site = GatewaySite(
            self.echo,
            Admission(
                body_limit=lambda: LIMIT,
                upload_seconds=lambda: UPLOAD,
                admit=self.admit,
                render=self.render,
            ),
            self.clock,
        )
        site.startFactory()
        self.addCleanup(site.stopFactory)
        self.wire = Wire()
        self.channel = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 9))
        self.channel.callLater = self.clock.callLater
        self.channel.makeConnection(self.wire)
        self.addCleanup(self.hang_up)

    def hang_up(self) -> None:
        """Close the connection, so that no timer is left."""
        self.channel.connectionLost(self.failure())

    def failure(self) -> object:
        """Return why a connection was lost."""
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        return Failure(ConnectionDone())

    def admit(self, request: GatewayRequest) -> GatewayError | None:
        """Refuse if the test wants that."""
        self.admitted += 1
        return self.refusal

    def render(
        self, error: GatewayError, target: bytes, request: GatewayRequest
    ) -> tuple[int, Headers, bytes]:
        """Tell the error plainly."""
        return error.status, ((b"x-target", target),), error.message.encode()

    def send(self, data: bytes) -> bytes:
        """Send *data*; return all that came back so far."""
        self.channel.dataReceived(data)
        return self.wire.value()

    def test_hanging_up_closes_what_is_open(self) -> None:
        """It waits for the last connection, and for none when there is none."""
        gone = self.site.hang_up()
        self.assertTrue(self.wire.disconnecting)
        self.assertFalse(self.wire.aborted)
        self.assertNoResult(gone)
        self.hang_up()
        self.successResultOf(gone)
        self.successResultOf(self.site.hang_up())

    def test_hanging_up_can_be_cut_short(self) -> None:
        """Then what is still open is closed at once, unsent or not."""
        gone = self.site.hang_up()
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.assertTrue(self.wire.aborted)

    def assert_refused(self, answer: bytes, status: int) -> None:
        """The answer has *status*, the connection is closing, nothing was rendered."""
        self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), answer)
        self.assertIn(b"connection: close", answer.lower())
        self.assertTrue(self.wire.half_closed)
        self.assertEqual(self.echo.seen, [])

    def post(self, length: int, *headers: bytes) -> bytes:
        """Return the head of a POST."""
        lines = [b"POST /p HTTP/1.1", b"Host: h", b"Content-Length: %d" % length, *headers]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def test_a_request_in_any_pieces_is_answered(self) -> None:
        """Byte by byte, the same answer comes back."""
        for byte in self.post(5) + b"hello":
            answer = self.send(bytes([byte]))
        self.assertTrue(answer.endswith(b"/p|hello"), answer)

    def test_an_oversize_body_is_refused_at_its_head(self) -> None:
        """Before a byte of it was sent; the client reads why."""
        answer = self.send(self.post(LIMIT + 1))
        self.assert_refused(answer, 413)
        self.assertIn(b"limits.body_bytes", answer)

    def test_an_oversize_chunked_body_is_refused_while_it_arrives(self) -> None:
        """No Content-Length announces it; the limit holds all the same."""
        self.send(b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(LIMIT // 100):
            self.assertEqual(self.send(b"64\r\n" + b"x" * 100 + b"\r\n"), b"")
        self.assert_refused(self.send(b"1\r\nx\r\n"), 413)

    def test_no_continue_is_sent_to_a_body_that_is_refused(self) -> None:
        """``Expect: 100-continue`` is answered by the refusal alone."""
        answer = self.send(self.post(LIMIT + 1, b"Expect: 100-continue"))
        self.assert_refused(answer, 413)
        self.assertNotIn(b"100 Continue", answer)

    def test_a_body_within_the_limit_is_continued(self) -> None:
        """The expected 100 comes, and then the answer."""
        self.assertIn(b"100 Continue", self.send(self.post(2, b"Expect: 100-continue")))
        self.assertTrue(self.send(b"ok").endswith(b"/p|ok"))

    def test_a_body_without_a_key_is_refused_unread(self) -> None:
        """Authentication comes before the body, not after it."""
        self.refusal = Unauthorized("no key")
        self.assert_refused(self.send(self.post(LIMIT)), 401)

    def test_what_comes_after_a_refusal_is_thrown_away(self) -> None:
        """It is neither answered nor kept, and there is an end to it."""
        before = self.send(self.post(LIMIT + 1))
        self.assertEqual(self.send(b"x" * LINGER_BYTES), before)
        self.assertFalse(self.wire.aborted)
        self.send(b"x")
        self.assertTrue(self.wire.aborted)

    def test_a_refused_client_that_stays_is_cut_off(self) -> None:
        """It has a moment to read the answer, no more."""
        self.send(self.post(LIMIT + 1))
        self.clock.advance(LINGER_SECONDS)
        self.assertTrue(self.wire.aborted)

    def test_a_body_that_drips_is_timed_out(self) -> None:
        """The upload clock runs over the whole request and is not reset by bytes."""
        self.send(self.post(500))
        for _ in range(29):
            self.clock.advance(1)
            self.send(b"x")
        self.assertEqual(self.wire.value(), b"")
        self.clock.advance(1)
        self.assert_refused(self.wire.value(), 408)
        self.assertIn(b"timeouts.upload", self.wire.value())

    def test_a_request_line_that_drips_is_timed_out(self) -> None:
        """Also before there is a line to parse."""
        self.send(b"POS")
        self.clock.advance(UPLOAD)
        self.assert_refused(self.wire.value(), 408)

    def test_the_upload_clock_stops_with_the_request(self) -> None:
        """A long answer, or a quiet kept-alive connection, is not an upload."""
        self.send(self.post(2) + b"ok")
        self.clock.advance(UPLOAD + 1)
        self.assertNotIn(b" 408 ", self.wire.value())
        self.assertTrue(self.send(self.post(2) + b"ok").endswith(b"/p|ok"))

    def test_a_stray_line_end_starts_no_clock(self) -> None:
        """Old clients send one behind a body; an answer to it would be taken for the next."""
        answer = self.send(self.post(2) + b"ok\r\n")
        self.clock.advance(UPLOAD + 1)
        self.assertEqual(self.wire.value(), answer)

    def test_an_absolute_target_is_its_path(self) -> None:
        """As a client behind a proxy setting sends it; the key is cut out all the same."""
        answer = self.send(b"GET http://h:1/p?key=s3cret&a=1 HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertTrue(answer.endswith(b"/p?a=1|"), answer)

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        """Two requests in one read give two answers, first one first."""
        answer = self.send(self.post(1) + b"a" + self.post(1) + b"b")
        self.assertLess(answer.index(b"/p|a"), answer.index(b"/p|b"))

    def test_folded_headers_are_refused(self) -> None:
        """Proxies disagree on what they mean; twisted.web would join them."""
        answer = self.send(b"POST /p HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n folded\r\n\r\n")
        self.assert_refused(answer, 400)

    def test_two_lengths_are_refused(self) -> None:
        """Content-Length with Transfer-Encoding, or twice, is how requests are smuggled."""
        answer = self.send(self.post(5, b"Transfer-Encoding: chunked"))
        self.assert_refused(answer, 400)

    def test_headers_without_end_are_refused(self) -> None:
        """One long line, or many lines: neither grows for ever."""
        answer = self.send(b"GET / HTTP/1.1\r\nX: " + b"x" * (HEADER_LIMIT + 1))
        self.assert_refused(answer, 431)

    def test_a_key_in_the_url_is_gone_before_anything_sees_it(self) -> None:
        """Not in the URI, not in the arguments, not in the repr."""
        self.send(b"GET /p?a=1&key=s3cret&b=2 HTTP/1.1\r\nHost: h\r\n\r\n")
        (request,) = self.echo.seen
        self.assertEqual(request.uri, b"/p?a=1&b=2")
        self.assertEqual(request.query_keys, ["s3cret"])
        self.assertNotIn("s3cret", repr(request) + repr(request.args))

    def test_a_key_in_the_url_of_a_refused_request_is_not_shown(self) -> None:
        """Neither to the renderer of the refusal."""
        target = b"POST /p?key=s3cret HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n"
        self.assertNotIn(b"s3cret", self.send(target))

    def test_a_client_that_shuts_down_its_side_has_left(self) -> None:
        """A half-closed connection is aborted, so that its upstream is closed."""
        self.send(self.post(10))
        self.channel.readConnectionLost()
        self.assertTrue(self.wire.aborted)


class WithoutKeyTests(SynchronousTestCase):
    """Cutting the key out of a request target."""

    def check(self, target: bytes, clean: bytes, keys: list[str]) -> None:
        """*target* is cut to *clean* and *keys*."""
        self.assertEqual(without_key(target), (clean, keys))

    def test_every_spelling_is_found(self) -> None:
        """Percent-encoded names, several keys, empty ones."""
        cases: Callable[..., None] = self.check
        cases(b"/p", b"/p", [])
        cases(b"/p?key=k", b"/p", ["k"])
        cases(b"/p?%6Bey=a%2Bb", b"/p", ["a+b"])
        cases(b"/p?key=a&key=b&alt=sse", b"/p?alt=sse", ["a", "b"])
        cases(b"/p?monkey=1&key", b"/p?monkey=1", [""])
        cases(b"/p?beta=true", b"/p?beta=true", [])
