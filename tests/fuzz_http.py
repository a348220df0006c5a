"""
What the fuzzer throws at the door: requests put together wrongly, several on a connection.

The law: nothing is raised or logged as a bug, every request is answered or its connection
closed before the clocks have run out, a refusal is the last thing on its connection, and
nothing is executed that another strict reader of HTTP (h11) would not have read out of the
same bytes. It must never know a dialect beyond one body that each takes.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile

import attrs
import h11
from twisted.internet.error import ConnectionDone
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from zope.interface import implementer

from aiclient2api.testing import MemoryResponse, chat_body
from aiclient2api.web.channel import HEADER_LIMIT, GatewayRequest
from aiclient2api.web.front import Front
from tests.tape import Tape, text
from tests.web_fixture import KEY, GatewayTestCase

Read = tuple[bytes, bytes, bytes]
"""What a reader made of a request: method, target, body."""

_JSON = ((b"content-type", b"application/json"),)
_BODIES = (
    b'{"model":"m","messages":[]}',
    b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":9}',
    b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}',
    b'{"model":"m","input":"hi"}',
    b"{",
    b"",
    b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n",
    b"0\r\n\r\nPOST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
)
_METHODS = (
    b"POST",
    b"GET",
    b"POST",
    b"OPTIONS",
    b"HEAD",
    b"DELETE",
    b"CONNECT",
    b"TRACE",
    b"po st",
)
_TARGETS = (
    b"/v1/chat/completions",
    b"/v1/messages",
    b"/v1beta/models/m:generateContent",
    b"/health",
    b"/",
    b"/v1/models",
    b"http://elsewhere.invalid/v1/chat/completions",
    b"http://elsewhere.invalid",
    b"https://u:p@[::1]:9/v1/models?x=1",
    b"//v1//chat/completions",
    b"/%ff",
    b"/v1/models/%00",
    b"/v1/models/..%2f..%2fetc",
    b"/../v1/models;x=1",
    b"/v1/models?key=" + KEY.encode(),
    b"/v1/models?%6bey=&&==%",
    b"*",
    b"host:443",
    b"v1/models",
    b"/a#b",
    b"/\x80",
    b"/" + b"x" * 2000,
)
_VERSIONS = (
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"http/1.1",
    b"",
)
_KEY = b"Authorization: Bearer " + KEY.encode()
_LINES = (
    _KEY,
    b"Authorization: Bearer wrong",
    b"X-Api-Key: \xff\xfe",
    b"Host: other",
    b"Host : h",
    b"Host:",
    b"Connection: close",
    b"Connection: close, te",
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Expect: a-miracle",
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: -1",
    b"Content-Length: +3",
    b"Content-Length: 3, 3",
    b"Content-Length: " + b"9" * 5000,
    b"Content-Length:",
    b"Content-Length: 0x10",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: Chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: chunked\nX: y",
    b" folded",
    b"\tfolded: too",
    b"X-A: b\rc",
    b"X-A: b\x00c",
    b"X\xe9: a",
    b"no colon",
    b": no name",
    b"X-Long: " + b"v" * 9000,
    b"Content-Encoding: gzip",
    b"Content-Type: application/x-www-form-urlencoded",
    b"Content-Type: multipart/form-data",
    b"Cookie: a=b; ;=;c",
    b"Model-Provider: claude-custom",
    b"Model-Provider: \xff",
    b"Origin: http://evil.invalid",
    b"X-Forwarded-For: 127.0.0.1",
    b"X-Original-URL: /v1/models",
)
_SIZES = (
    b"%x",
    b"%X",
    b"0%x",
    b"+%x",
    b"-%x",
    b"0x%x",
    b"%x ",
    b" %x",
    b"%x_",
    b"1" + b"0" * 16 + b"%x",
)
_EXTENSIONS = (b"", b"", b"", b";a=b", b';a="\r\n"', b";" + b"a" * 900, b";" + b"a" * 2000, b";\n")
_ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"", b"\r\n\r\n")
_TRAILERS = (
    b"",
    b"",
    b"",
    b"X-A: b\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    _KEY + b"\r\n",
    b"no colon\r\n",
    b"\nGET /health HTTP/1.1\r\n",
    b"X: " + b"t" * 70_000 + b"\r\n",
)


@attrs.define
class _Counting(Resource):
    """Notes what is executed on its way to the real root."""

    front: Front
    seen: list[Read] = attrs.field(factory=list)
    isLeaf = True

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def render(self, request: GatewayRequest) -> int | bytes:
        self.seen.append((request.method, request.uri, request.body()))
        return self.front.render(request)


class _Gateway(GatewayTestCase):
    """A gateway that is built once and asked a million times."""

    def mktemp(self) -> str:
        return tempfile.mkdtemp(prefix="fuzz-") + "/gateway"

    def runTest(self) -> None:
        """Nothing: it is no test."""


@functools.cache
def _gateway() -> tuple[_Gateway, _Counting]:
    gateway = _Gateway()
    gateway.build(limits={"body_bytes": 5000})
    counting = _Counting(gateway.front)
    gateway.site.resource = counting
    return gateway, counting


def _chunked(tape: Tape, body: bytes) -> bytes:
    """Return *body* in chunks, mostly as it should be."""
    careless = tape.one_in(2)
    told, at = b"", 0
    while at < len(body):
        piece = body[at : at + 1 + tape.number(40)]
        at += len(piece)
        size = (tape.pick(_SIZES) if careless and tape.one_in(4) else b"%x") % len(piece)
        extension = tape.pick(_EXTENSIONS) if careless and tape.one_in(4) else b""
        end = tape.pick(_ENDS) if careless and tape.one_in(4) else b"\r\n"
        told += size + extension + b"\r\n" + piece + end
    return told + b"0\r\n" + (tape.pick(_TRAILERS) if careless else b"") + b"\r\n"


def _one(tape: Tape) -> bytes:
    """Return a request, good or bad."""
    good = tape.one_in(3)
    method, target, version = b"POST", _TARGETS[tape.number(3)], b"HTTP/1.1"
    if not good:
        method, target, version = map(tape.pick, (_METHODS, _TARGETS, _VERSIONS))
    body = tape.pick(_BODIES)
    lines = [b"Host: h", _KEY]
    if tape.one_in(3):
        lines.append(b"Transfer-Encoding: chunked")
        body = _chunked(tape, body)
    else:
        lines.append(b"Content-Length: %d" % len(body))
    if not good:
        for _ in range(tape.number(4)):
            at = tape.number(len(lines) + 1)
            if tape.one_in(4):
                del lines[at : at + 1]
            else:
                lines.insert(at, tape.pick(_LINES))
    end = tape.pick(_ENDS) if not good and tape.one_in(8) else b"\r\n"
    first = b" ".join(filter(None, (method, target, version)))
    return end.join([first, *lines]) + end + b"\r\n" + body


def _flip(tape: Tape, raw: bytes) -> bytes:
    changed = bytearray(raw)
    for _ in range(1 + tape.number(3)):
        # Where heads end and sizes stand is where it hurts.
        at = tape.number(min(len(changed), 600) + 1)
        kind = tape.number(3)
        new = tape.pick(
            (b"\r", b"\n", b"\r\n", b":", b" ", b"\t", b"\0", b"\x7f", b"\xff", b"0", b";")
        )
        if kind == 0:
            changed[at : at + 1] = new
        elif kind == 1:
            changed[at:at] = new
        else:
            del changed[at : at + 1 + tape.number(3)]
    return bytes(changed)


def requests(tape: Tape) -> None:
    """Up to four requests on one connection, any of them wrong, split anywhere."""
    raw = b"".join(_one(tape) for _ in range(1 + tape.number(4)))
    if tape.one_in(3):
        raw = _flip(tape, raw)
    if tape.one_in(30):
        raw = text(tape).encode() * tape.pick((1, 1000)) + raw
    judge(raw, tape.pick((len(raw), len(raw), 1000, 7, 1)))


def judge(raw: bytes, size: int) -> None:
    """
    Send *raw* in pieces of *size* and see that the law holds.

    :raise AssertionError: if it does not.
    """
    gateway, counting = _gateway()
    counting.seen.clear()
    answers: list[MemoryResponse | Exception | None] = [
        MemoryResponse(200, _JSON, [chat_body("x")]) for _ in range(12)
    ]
    gateway.upstream._answers = answers
    gateway.upstream.sent.clear()
    with _Bugs() as bugs:
        wire = gateway.connect()
        # A socket is read 64 KiB at a time, and not at all once it is being closed.
        size = max(1, min(size, 65536))
        for at in range(0, len(raw), size):
            if wire.aborted or wire.disconnecting:
                break
            gateway.channel.dataReceived(raw[at : at + size])
        # One jump lets a retry begin, but not end.
        gateway.clock.pump([61.0, *[20.0] * 10])
        closed = wire.half_closed or wire.aborted or wire.disconnecting
        gateway.channel.connectionLost(Failure(ConnectionDone()))
        gateway.clock.advance(700)
    assert not bugs.found, bugs.found[0]
    assert closed, "The connection is still open."
    assert not gateway.front.in_flight, "Something is still in flight."
    left = gateway.clock.getDelayedCalls()
    # One is the site's own, for dates.
    assert len(left) <= 1, f"Clocks still run: {left}"
    _judge_answers(bytes(wire.value()), counting.seen)
    _judge_executed(raw, counting.seen)


def _judge_answers(told: bytes, seen: list[Read]) -> None:
    """As many answers as were executed, and at most one refusal behind them."""
    statuses = [int(each) for each in re.findall(rb"HTTP/1\.[01] (\d{3}) ", told)]
    answers = [status for status in statuses if status != 100]
    refused = len(answers) - len(seen)
    assert refused in (0, 1), f"{len(seen)} were executed, and answered with {answers}"
    assert all(status < 500 or status in (502, 503) for status in answers), answers
    if refused:
        assert answers[-1] in (400, 401, 408, 413, 415, 431), answers


def _judge_executed(raw: bytes, seen: list[Read]) -> None:
    """What was executed is what h11 reads, from the first on."""
    read, ended = read_by_h11(raw)
    for number, (method, target, body) in enumerate(seen):
        if number >= len(read):
            # It wants no stray line end between requests, which old clients send.
            assert "no request line" in ended, f"h11 did not read {method!r} {target!r}: {ended}"
            return
        assert (method, body) == (read[number][0], read[number][2]), (seen, read)
        there = re.sub(rb"(?i)^(https?://[^/?]*|\*$)", b"", read[number][1]) or b"/"
        assert there.partition(b"?")[0] == target.partition(b"?")[0], (target, there)


def read_by_h11(raw: bytes) -> tuple[list[Read], str]:
    """Return the requests that h11 finds in *raw*, and why it stopped."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=4 * HEADER_LIMIT)
    reader.receive_data(raw)
    found: list[Read] = []
    request, body = None, b""
    try:
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                found.append((bytes(request.method), bytes(request.target), body))
                reader.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                reader.send(h11.EndOfMessage())
                if reader.our_state is not h11.DONE:
                    return found, "it closes"
                reader.start_next_cycle()
            else:
                return found, "it waits"
    except h11.ProtocolError as error:
        return found, str(error)


@implementer(ILogObserver)
class _Bugs:
    """Collects what is logged as a failure."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __enter__(self) -> _Bugs:
        globalLogPublisher.addObserver(self)
        return self

    def __exit__(self, *exception: object) -> None:
        globalLogPublisher.removeObserver(self)

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_failure") is not None or event.get("log_level") is LogLevel.critical:
            self.found.append(str(event.get("log_failure") or json.dumps(str(event))))
