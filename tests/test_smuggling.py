"""
Requests in which another one hides, or which two readers would read in two ways.

Each is sent whole, byte by byte, and cut in two at every byte; whatever stands behind it,
nothing is executed, there is one bare refusal, and the connection is closed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import NOT_DONE_YET

from aiclient2api.web.admission import Admission
from aiclient2api.web.channel import HEADER_LIMIT
from aiclient2api.web.site import GatewaySite
from tests.test_site import Echo
from tests.web_fixture import Wire

LIMIT = 1000
UPLOAD = 30.0
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\n"
HOST = b"Host: h\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    """Return a request with these header lines behind its Host."""
    return POST + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def chunks(body: bytes) -> bytes:
    """Return a request whose body is *body*, chunks and all."""
    return POST + HOST + CHUNKED + b"\r\n" + body


MALFORMED = (
    # Two lengths, or none that is one.
    post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    post(b"Content-Length: 0", b"Transfer-Encoding: identity"),
    post(b"Transfer-Encoding: identity", b"Content-Length: 0"),
    post(b"Content-Length: 0", b"Content-Length: 34"),
    post(b"Content-Length: 0", b"Content-Length: 0"),
    post(b"Content-Length: 0, 0"),
    post(b"Content-Length: -1"),
    post(b"Content-Length: +0"),
    post(b"Content-Length: 0x0"),
    post(b"Content-Length: 0_0"),
    post(b"Content-Length: zero"),
    post(b"Content-Length:"),
    post(b"Content-Length : 0"),
    post(b"Content-Length: 0\x00"),
    post(b"Content-Length:\x0b0"),
    post(b"Content-Length: " + b"0" * 30),
    # Codings that are no chunks to everybody.
    post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: chunked;a=b", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding:\x0cchunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n"),
    post(b" Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    post(b"X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding:", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    b"POST /p HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /p HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # Chunks.
    chunks(b"-5\r\nhello\r\n0\r\n\r\n"),
    chunks(b"+5\r\nhello\r\n0\r\n\r\n"),
    chunks(b"0x5\r\nhello\r\n0\r\n\r\n"),
    chunks(b"0_5\r\nhello\r\n0\r\n\r\n"),
    chunks(b" 5\r\nhello\r\n0\r\n\r\n"),
    chunks(b"5 \r\nhello\r\n0\r\n\r\n"),
    chunks(b"\r\nhello\r\n0\r\n\r\n"),
    chunks(b";a\r\nhello\r\n0\r\n\r\n"),
    chunks(b"5\nhello\r\n0\r\n\r\n"),
    chunks(b"5\rhello\r\n0\r\n\r\n"),
    chunks(b"5\r\nhello\n0\r\n\r\n"),
    chunks(b"5\r\nhello0\r\n\r\n"),
    chunks(b"5\r\nhello!\r\n0\r\n\r\n"),
    chunks(b"5\r\nhel\r\n0\r\n\r\n"),
    chunks(b"5;a=\n\r\nhello\r\n0\r\n\r\n"),
    chunks(b"5;a=\x00\r\nhello\r\n0\r\n\r\n"),
    # Trailers: one reader's end is another's middle.
    chunks(b"0\r\n\n"),
    chunks(b"0\r\n\nGET / HTTP/1.1\r\n\r\n"),
    chunks(b"0\r\nno colon\r\n\r\n"),
    chunks(b"0\r\n folded: x\r\n\r\n"),
    chunks(b"0\r\nX: y\nZ: w\r\n\r\n"),
    chunks(b"0\r\nX\x00: y\r\n\r\n"),
    chunks(b"0\r\nGET / HTTP/1.1\r\n\r\n"),
    # Heads.
    post(b"X: 1", b" folded"),
    post(b"X: 1", b"\tfolded"),
    post(b"X: 1", b" "),
    b"POST /p HTTP/1.1\r\n Host: h\r\n\r\n",
    b"POST /p HTTP/1.1\r\n\tX: y\r\nHost: h\r\n\r\n",
    post(b"X: a\rb"),
    post(b"X: a\nb"),
    post(b"X: a\x00b"),
    post(b"X: a\x01b"),
    post(b"X: a\x7fb"),
    post(b"X\x00: a"),
    post(b"X Y: a"),
    post(b"X\xff: a"),
    post(b"X(: a"),
    post(b": a"),
    post(b"no colon"),
    b"POST /p HTTP/1.1\nHost: h\n\n",
    b"POST /p HTTP/1.1\r\nHost: h\n\r\n\r\n",
    b"POST /p HTTP/1.1\rHost: h\r\r",
    b"\nPOST /p HTTP/1.1\r\nHost: h\r\n\r\n",
    b" POST /p HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\r\n\r\nPOST /p HTTP/1.1\r\nHost: h\r\n\r\n",
    # Hosts.
    b"POST /p HTTP/1.1\r\n\r\n",
    post(b"Host: other"),
    post(b"Host: h"),
    b"POST /p HTTP/1.1\r\nHost: a b\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: h/../x\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: h@x\r\n\r\n",
    # Request lines.
    b"POST /p\r\n\r\n",
    b"POST /p HTTP/0.9\r\n\r\n",
    b"POST /p HTTP/2.0\r\nHost: h\r\n\r\n",
    b"POST /p HTTP/1.2\r\nHost: h\r\n\r\n",
    b"POST /p HTTP/1.10\r\nHost: h\r\n\r\n",
    b"POST /p HTTP/01.1\r\nHost: h\r\n\r\n",
    b"POST /p http/1.1\r\nHost: h\r\n\r\n",
    b"POST /p HTTP/1.1 \r\nHost: h\r\n\r\n",
    b"POST  /p HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST\t/p\tHTTP/1.1\r\nHost: h\r\n\r\n",
    b"PO(ST /p HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /p q HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /p\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /p#q HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /\x80 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST p HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST xp HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST ftp://h/p HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST http:///p HTTP/1.1\r\nHost: h\r\n\r\n",
    b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"CONNECT /p HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: h\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
)
"""What must be refused with a bare 400, whole or in any pieces."""


class Door:
    """A site that echoes, and a clock; connections of it are asked one after another."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self.clock = Clock()
        self.echo = Echo()
        self.site = GatewaySite(
            self.echo,
            Admission(
                body_limit=lambda: LIMIT,
                upload_seconds=lambda: UPLOAD,
                admit=lambda request: None,
                render=lambda error, target, request: (error.status, (), b""),
            ),
            self.clock,
        )
        self.site.startFactory()
        test.addCleanup(self.site.stopFactory)

    def ask(self, pieces: Sequence[bytes], *, wait: float = 0.0) -> Wire:
        """Send *pieces* on a new connection, wait, close it; return what it was like."""
        self.echo.seen.clear()
        wire = Wire()
        channel = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 9))
        channel.callLater = self.clock.callLater
        channel.makeConnection(wire)
        for piece in pieces:
            if wire.aborted:
                break
            channel.dataReceived(piece)
        self.clock.advance(wait)
        channel.connectionLost(Failure(ConnectionDone()))
        return wire


def ways(raw: bytes) -> Iterator[Sequence[bytes]]:
    """Return the ways to send *raw*: whole, in single bytes, in two pieces cut anywhere."""
    yield [raw]
    yield [raw[at : at + 1] for at in range(len(raw))]
    for at in range(1, len(raw)):
        yield [raw[:at], raw[at:]]


class MalformedTests(SynchronousTestCase):
    """The table, in every way it can arrive."""

    def setUp(self) -> None:
        """Open the door."""
        self.door = Door(self)

    def test_each_is_refused_in_any_pieces(self) -> None:
        """One bare 400, the connection closed, nothing executed: neither it nor what follows."""
        for raw in MALFORMED:
            for pieces in ways(raw + HIDDEN):
                wire = self.door.ask(pieces, wait=UPLOAD)
                where = (raw[-160:], [len(piece) for piece in pieces][:3])
                answer = wire.value()
                self.assertEqual(answer.count(b"HTTP/1.1 "), 1, (where, answer))
                self.assertTrue(answer.startswith(b"HTTP/1.1 400 Bad Request\r\n"), where)
                self.assertIn(b"connection: close", answer)
                self.assertTrue(wire.half_closed, where)
                self.assertEqual(self.door.echo.seen, [], where)

    def test_behind_a_good_request(self) -> None:
        """The good one is answered, the bad one refused, and the next one is not read."""
        for raw in MALFORMED:
            if raw.startswith(b"\r\n"):
                continue
            wire = self.door.ask([b"GET /good HTTP/1.1\r\nHost: h\r\n\r\n" + raw + HIDDEN])
            answer = wire.value()
            self.assertEqual([each.uri for each in self.door.echo.seen], [b"/good"], raw)
            self.assertEqual(answer.count(b"HTTP/1.1 "), 2, (raw, answer))
            self.assertIn(b"/good|HTTP/1.1 400 ", answer)

    def test_the_table_would_notice(self) -> None:
        """What is well-formed is answered in any pieces, and so is what follows it."""
        for raw in (
            post(b"Content-Length: 5", body=b"hello"),
            post(b"Content-Length: 0"),
            post(b"Transfer-Encoding: chunked", body=b"5;a=b\r\nhello\r\n0\r\n\r\n"),
            post(b"Transfer-Encoding: Chunked", body=b"05\r\nhello\r\n000\r\nX: y\r\n\r\n"),
            b"\r\n" + post(),
            b"POST http://elsewhere.invalid:1/p HTTP/1.1\r\nHost: h\r\n\r\n",
        ):
            for pieces in ways(raw + HIDDEN):
                self.door.ask(pieces)
                seen = [each.uri for each in self.door.echo.seen]
                self.assertEqual(seen, [b"/p", b"/hidden"], (raw, pieces[0]))


class BoundTests(SynchronousTestCase):
    """What would go on for ever, or cost more than it should."""

    def setUp(self) -> None:
        """Open the door."""
        self.door = Door(self)

    def refused(self, pieces: Sequence[bytes], status: int) -> None:
        """Send *pieces*; they are refused with *status* before the clock runs out."""
        answer = self.door.ask(pieces).value()
        self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), answer)
        self.assertEqual(self.door.echo.seen, [])

    def test_a_chunk_longer_than_everything_we_take(self) -> None:
        """It is refused when it is announced; its length is not cut down to a smaller one."""
        for size in (b"%x" % (LIMIT + 1), b"1" + b"0" * 16, b"f" * 1000):
            self.refused([chunks(size + b"\r\nhello\r\n0\r\n\r\n") + HIDDEN], 413)

    def test_extensions_without_end(self) -> None:
        """They count for no body, so they have limits of their own."""
        self.refused([chunks(b"5;" + b"a" * 1100 + b"\r\nhello\r\n")], 400)
        piece = b"1;" + b"a" * 1000 + b"\r\nx\r\n"
        self.refused([chunks(b""), *[piece] * 100], 400)

    def test_trailers_without_end(self) -> None:
        """In one line or many."""
        self.refused([chunks(b"0\r\n"), *[b"X: " + b"y" * 1000 + b"\r\n"] * 100], 400)
        self.refused([chunks(b"0\r\nX: "), *[b"y" * 1000] * 100], 400)

    def test_trailers_are_no_headers(self) -> None:
        """Whatever their names: they are read past, and nobody sees them."""
        trailers = b"Authorization: Bearer x\r\nContent-Length: 9\r\nHost: other\r\n"
        wire = self.door.ask([chunks(b"2\r\nok\r\n0\r\n" + trailers + b"\r\n")])
        self.assertTrue(wire.value().endswith(b"/p|ok"), wire.value())
        (request,) = self.door.echo.seen
        self.assertFalse(request.requestHeaders.hasHeader(b"authorization"))
        self.assertEqual(request.requestHeaders.getRawHeaders(b"host"), [b"h"])

    def test_many_headers(self) -> None:
        """Five hundred at most, and 64 KiB in all."""
        lines = [b"x-%d: y" % number for number in range(501)]
        self.refused([post(*lines)], 400)
        self.refused([post(*[b"x: " + b"y" * 1000] * 70)], 400)

    def test_a_length_of_thousands_of_digits(self) -> None:
        """It is refused like any other that is none, and nothing is logged as a bug."""
        self.refused([post(b"Content-Length: " + b"1" * 5000)], 400)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_line_ends_without_end(self) -> None:
        """One stray line end is forgiven; who goes on sending them is timed out or refused."""
        wire = self.door.ask([b"\n"] * 10, wait=UPLOAD)
        self.assertTrue(wire.value().startswith(b"HTTP/1.1 408 "), wire.value())
        self.refused([b"\n"] * (HEADER_LIMIT + 2), 431)
        self.refused([b"\r\n"] * 2, 400)

    def test_close_among_other_words(self) -> None:
        """``Connection: close, te`` closes as well; what comes behind it is not read."""
        for line in (b"close, te", b"te,close", b"Close", b"keep-alive\r\nConnection: close"):
            wire = self.door.ask([post(b"Connection: " + line) + HIDDEN])
            self.assertEqual([each.uri for each in self.door.echo.seen], [b"/p"], line)
            self.assertIn(b"connection: close", wire.value().lower())
            self.assertTrue(wire.disconnecting)

    def test_pipelined_in_single_bytes(self) -> None:
        """What waits behind a request costs no more the more pieces it comes in."""
        pieces = [b"x"] * (HEADER_LIMIT // 2)
        self.patch(self.door.echo, "render", lambda request: NOT_DONE_YET)
        began = time.process_time()
        wire = self.door.ask([post(), *pieces])
        # One sum over all pieces for each of them took half a minute.
        self.assertLess(time.process_time() - began, 5)
        self.assertFalse(wire.aborted)
