"""
Clients that break the rules, stop half-way, flood or snoop, over real sockets.

Each is told off as far as it can be, in its own dialect once its route is known, none
reaches an upstream, and whoever comes next is served as if nothing had been.
"""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from aiclient2api.testing import (
    STREAM_HEAD,
    Chunk,
    EndChunks,
    Hold,
    Received,
    Script,
    chat_chunks,
    sse_reply,
)
from tests.live.gateway import KEY, LiveGateway, Reply, raw_exchange
from tests.live.measure import RawClient, front, now, parsed, pause, until
from tests.test_smuggling import MALFORMED

LIMIT = 1_000_000
TOO_MUCH = 20_000_000
"""More than what a kernel would take off the client's hands."""
CHAT = "/v1/chat/completions"
BODY = b'{"model":"m-1","messages":[]}'
BEARER = f"authorization: Bearer {KEY}\r\n".encode()
WRONG = "sk-wrong"
_JSON = b"application/json; charset=utf-8"
_REACTOR: Any = reactor


def post(*lines: bytes, path: str = CHAT, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """Return a request with exactly these header lines, and a Host."""
    head = b"POST " + path.encode() + b" HTTP/" + version + b"\r\nhost: x\r\n"
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def blocking(port: int, pieces: Sequence[bytes], *, close_after: bool = False) -> bytes:
    """
    Send all *pieces* as a simple client does, and only then read, until the end.

    To be called in a thread. A client whose `sendall` fails does not get to read.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        for piece in pieces:
            wire.sendall(piece)
        received = b""
        while data := wire.recv(65536):
            received += data
        return received


class HostileTests(TestCase):
    """What the tests share: a gateway that is still fine afterwards."""

    timeout = 30

    async def started(self, **config: object) -> LiveGateway:
        """Start a gateway with a short upload clock and a small limit."""
        limits = {"body_bytes": LIMIT}
        config = {"timeouts": {"upload": 5}, "limits": limits, "request_max_retries": 0, **config}
        return await LiveGateway(self, config=config).start()

    async def assert_unharmed(self, gateway: LiveGateway, requests: int = 0) -> None:
        """An ordinary client is served, and no upstream has heard of the others."""
        heard = [each for upstream in gateway.upstreams.values() for each in upstream.requests]
        self.assertEqual(requests, len(heard))
        reply = await gateway.request("POST", CHAT, gateway.bearer, BODY)
        self.assertEqual(200, reply.status)
        await until(lambda: not front(gateway).in_flight, what="nothing in flight")

    async def thread(self, call: Callable[..., bytes], *args: Any) -> Reply:
        """Call a blocking client in a thread; return the reply that it could read."""
        return parsed(await deferToThread(call, *args))

    def assert_error(self, reply: Reply, status: int, code: str | None = None) -> None:
        """The reply is an error in the shape of Chat Completions."""
        self.assertEqual(status, reply.status, reply.body)
        self.assertTrue(reply.complete)
        error = reply.json()["error"]
        self.assertTrue(error["message"])
        if code is not None:
            self.assertEqual(code, error["code"])


class SlowTests(HostileTests):
    """Clients that take their time, or all of it."""

    async def dripped(self, gateway: LiveGateway, start: bytes, drip: bytes) -> tuple[bytes, float]:
        """Send *start*, then *drip* again and again; return the answer and the seconds."""
        wire, began = await gateway.connect(), now()
        wire.send(start)
        while not wire.lost and now() - began < 5:
            if not wire.received:
                wire.send(drip)
            await pause(0.05)
        return bytes(wire.received), now() - began

    async def test_slow_head(self) -> None:
        """A head that never ends is cut off on time, however steadily it drips."""
        gateway = await self.started(timeouts={"upload": 0.4})
        for start, drip in (
            (b"", b"x"),
            (b"POS", b"x"),
            (b"POST / HTTP/1.1\r\nhost: x\r\n", b"x"),
            (b"", b"\n"),
        ):
            answer, seconds = await self.dripped(gateway, start, drip)
            self.assertTrue(answer.startswith(b"HTTP/1.1 408 "), answer)
            self.assertLess(seconds, 3)
        await self.assert_unharmed(gateway)

    async def test_slow_body(self) -> None:
        """A body that drips is cut off on time, in the caller's dialect."""
        gateway = await self.started(timeouts={"upload": 0.4})
        start = post(BEARER.strip(), b"content-length: 1000")
        answer, seconds = await self.dripped(gateway, start, b" ")
        self.assert_error(parsed(answer), 408, "upload_timeout")
        self.assertLess(seconds, 3)
        start = post(b"x-api-key: " + KEY.encode(), b"content-length: 99", path="/v1/messages")
        answer, seconds = await self.dripped(gateway, start, b" ")
        reply = parsed(answer)
        self.assertEqual((408, "error"), (reply.status, reply.json()["type"]))
        await self.assert_unharmed(gateway)

    async def test_slow_chunks(self) -> None:
        """The same for a body without a length."""
        gateway = await self.started(timeouts={"upload": 0.4})
        start = post(BEARER.strip(), b"transfer-encoding: chunked")
        answer, seconds = await self.dripped(gateway, start, b"1\r\n \r\n")
        self.assert_error(parsed(answer), 408, "upload_timeout")
        self.assertLess(seconds, 3)
        await self.assert_unharmed(gateway)

    async def test_silent_connections(self) -> None:
        """A hundred connections that say nothing keep nobody else from being served."""
        gateway = await self.started()
        for _ in range(100):
            self.addCleanup(RawClient(gateway.port).close)
            # Accepting is the reactor's, which is ours: its backlog is not endless.
            await pause(0)
        await until(lambda: gateway.connections == 100, what="all are accepted")
        began = now()
        await self.assert_unharmed(gateway)
        self.assertLess(now() - began, 2)


class OversizeTests(HostileTests):
    """Bodies over the limit, from clients that do not listen while they send."""

    async def test_length(self) -> None:
        """A client that sends 20 MB past a limit of 1 MB gets to read why not."""
        gateway = await self.started()
        head = post(BEARER.strip(), b"content-length: %d" % TOO_MUCH)
        reply = await self.thread(blocking, gateway.port, [head, b" " * TOO_MUCH])
        self.assert_error(reply, 413, "request_too_large")
        await self.assert_unharmed(gateway)

    async def test_chunked(self) -> None:
        """The same where the length was not told."""
        gateway = await self.started()
        head = post(BEARER.strip(), b"transfer-encoding: chunked")
        chunk = b"%x\r\n%b\r\n" % (50_000, b" " * 50_000)
        pieces = [head, *[chunk] * (TOO_MUCH // 50_000), b"0\r\n\r\n"]
        reply = await self.thread(blocking, gateway.port, pieces)
        self.assert_error(reply, 413, "request_too_large")
        await self.assert_unharmed(gateway)

    async def test_chunks_in_one_read(self) -> None:
        """However many chunks were read with the one too many, there is one answer."""
        gateway = await self.started(limits={"body_bytes": 1000})
        head = post(BEARER.strip(), b"transfer-encoding: chunked")
        answer = await raw_exchange(gateway.port, head + b"64\r\n%b\r\n" % (b" " * 100) * 50)
        self.assertEqual(1, answer.count(b"HTTP/1.1 "), answer)
        self.assert_error(parsed(answer), 413, "request_too_large")

    async def test_expect(self) -> None:
        """Who asks first is told at once, and never invited to go on."""
        gateway = await self.started()
        lines = (BEARER.strip(), b"expect: 100-continue")
        for length in (b"content-length: %d" % TOO_MUCH, b"transfer-encoding: chunked"):
            wire = await gateway.connect()
            wire.send(post(*lines, length))
            if b"chunked" in length:
                await until(partial(bytes, wire.received), what="the invitation")
                self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", bytes(wire.received))
                wire.received.clear()
                wire.send(b"%x\r\n" % TOO_MUCH + b" " * (LIMIT + 1))
            answer = await wire.until_closed()
            self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer)
            self.assertNotIn(b"100 Continue", answer)
        stranger = b"authorization: Bearer " + WRONG.encode()
        for length in (b"content-length: 9", b"transfer-encoding: chunked"):
            answer = await raw_exchange(gateway.port, post(stranger, lines[1], length))
            self.assertTrue(answer.startswith(b"HTTP/1.1 401 "), answer)
            self.assertNotIn(b"100 Continue", answer)
        await self.assert_unharmed(gateway)

    async def test_just_within(self) -> None:
        """Exactly the limit is not too much."""
        gateway = await self.started()
        body = BODY[:-1] + b" " * (LIMIT - len(BODY)) + b"}"
        reply = await gateway.request("POST", CHAT, gateway.bearer, body)
        self.assertEqual(200, reply.status)
        over = await gateway.request("POST", CHAT, gateway.bearer, body + b" ")
        self.assert_error(over, 413)
        await self.assert_unharmed(gateway, requests=1)

    async def test_wrong_key(self) -> None:
        """A stranger is refused before the body is read, whether it listens or not."""
        gateway = await self.started(limits={"body_bytes": 2**40})
        lines = (b"authorization: Bearer " + WRONG.encode(), b"content-length: 50000000")
        wire = await gateway.connect()
        wire.send(post(*lines) + b" " * 1000)
        answer = await wire.until_closed()
        self.assert_error(parsed(answer), 401)
        self.assertIn(b"www-authenticate: Bearer", answer)
        head = post(lines[0], b"content-length: %d" % TOO_MUCH)
        reply = await self.thread(blocking, gateway.port, [head, b" " * TOO_MUCH])
        self.assert_error(reply, 401)
        await self.assert_unharmed(gateway)


class MalformedTests(HostileTests):
    """Requests that are none, or two at once."""

    async def refused(self, gateway: LiveGateway, request: bytes, *statuses: int) -> bytes:
        """Send *request*; it is answered with one of *statuses* and the connection closed."""
        closing: Deferred[bytes] = Deferred.fromCoroutine(raw_exchange(gateway.port, request))
        answer = await closing.addTimeout(5, _REACTOR)
        status = int(answer[9:12] or b"0")
        self.assertIn(status, statuses, (request[:200], answer))
        self.assertEqual(1, answer.count(b"HTTP/1.1 "), "It was answered twice.")
        return answer

    async def test_two_lengths(self) -> None:
        """Where a body ends must be beyond doubt, or a second request could hide in it."""
        gateway = await self.started()
        hidden = post(BEARER.strip(), b"content-length: %d" % len(BODY), body=BODY)
        chunked = b"0\r\n\r\n" + hidden
        for lines in (
            (b"content-length: 5", b"transfer-encoding: chunked"),
            (b"transfer-encoding: chunked", b"content-length: 5"),
            (b"content-length: 5", b"content-length: 6"),
            (b"content-length: +5",),
            (b"content-length: -1",),
            (b"content-length: 5, 5",),
            (b"content-length: five",),
            (b"transfer-encoding: chunked, identity",),
            (b"transfer-encoding: xchunked",),
            (b"transfer-encoding : chunked",),
            (b"content-length: 5\x00",),
        ):
            request = post(BEARER.strip(), *lines, body=chunked)
            await self.refused(gateway, request, 400, 411, 501)
        await self.assert_unharmed(gateway)

    async def test_broken_chunks(self) -> None:
        """A chunk whose length cannot be read ends the connection."""
        gateway = await self.started()
        for body in (b"zz\r\n", b"-1\r\n", b"0x5\r\n", b"5\r\nhello!!\r\n", b"1" * 5000):
            request = post(BEARER.strip(), b"transfer-encoding: chunked", body=body)
            await self.refused(gateway, request, 400)
        await self.assert_unharmed(gateway)

    async def test_bad_heads(self) -> None:
        """What is not the head of a request is refused, quickly."""
        gateway = await self.started(timeouts={"upload": 0.5})
        for head in (
            b"GET\r\n\r\n",
            b"GET /health\r\n\r\n",
            b"GET /health HTTP/1.1 now\r\n\r\n",
            b"GET /health HTTP/2.0\r\n\r\n",
            b"GET /health FTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET /health HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET /health HTTP/1.1\r\n: no name\r\n\r\n",
            b"GET /health HTTP/1.1\r\nhost: x\r\n folded\r\n\r\n",
            b"GET /health HTTP/1.1\r\nhost: x\r\nname : value\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ):
            await self.refused(gateway, head, 400, 408, 505)
        await self.assert_unharmed(gateway)

    async def test_header_flood(self) -> None:
        """Too many or too long header lines are refused before they are all read."""
        gateway = await self.started()
        many = b"".join(b"x-%d: %b\r\n" % (n, b"v" * 50) for n in range(5000))
        for head in (
            b"GET /health HTTP/1.1\r\n" + many + b"\r\n",
            b"GET /health HTTP/1.1\r\nx: " + b"v" * 200_000 + b"\r\n\r\n",
            b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
        ):
            await self.refused(gateway, head, 400, 414, 431)
        await self.assert_unharmed(gateway)

    async def test_a_big_head_is_fine(self) -> None:
        """Agents send several KiB of metadata."""
        gateway = await self.started()
        headers = (*gateway.bearer, ("x-metadata", "m" * 12_000))
        reply = await gateway.request("POST", CHAT, headers, BODY)
        self.assertEqual(200, reply.status)

    async def test_http_1_0(self) -> None:
        """An old client gets its stream unchunked, ended by the close."""
        gateway = await self.started()
        frames = chat_chunks(["a", "b"])
        gateway.answers["openai-custom"] = lambda request: sse_reply(frames)
        body = b'{"model":"m-1","messages":[],"stream":true}'
        lines = (BEARER.strip(), b"content-length: %d" % len(body))
        answer = await raw_exchange(gateway.port, post(*lines, body=body, version=b"1.0"))
        head, _, rest = answer.partition(b"\r\n\r\n")
        self.assertIn(b" 200 ", head.split(b"\r\n")[0])
        self.assertNotIn(b"chunked", head.lower())
        self.assertEqual(b"".join(frames), rest)


class SmugglingTests(HostileTests):
    """Requests in which another one hides, with a right key in both of them."""

    async def test_the_whole_table(self) -> None:
        """Each is a bare 400 on a connection that closes; no upstream hears of either."""
        gateway = await self.started()
        length = b"content-length: %d" % len(BODY)
        hidden = post(BEARER.strip(), length, body=BODY)
        for number, raw in enumerate(MALFORMED):
            asked = raw.replace(b" /p", b" " + CHAT.encode(), 1)
            asked = asked.replace(b"Host: h\r\n", b"Host: h\r\n" + BEARER, 1) + hidden
            wire = await gateway.connect()
            at = number % len(asked)
            wire.send(asked[:at])
            await pause(0)
            wire.send(asked[at:])
            answer = await wire.until_closed().addTimeout(5, _REACTOR)
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), (asked[:200], answer))
            self.assertEqual(1, answer.count(b"HTTP/1.1 "), asked[:200])
        self.assertGreater(len(MALFORMED), 100)
        await self.assert_unharmed(gateway)

    async def test_a_compressed_body(self) -> None:
        """A bomb stays closed: a 415 in the caller's dialect says what to do."""
        gateway = await self.started()
        bomb = gzip.compress(bytes(LIMIT * 200))
        headers = (*gateway.bearer, ("content-encoding", "gzip"))
        for path in (CHAT, "/v1/messages", "/v1/responses", "/v1beta/models/m:generateContent"):
            reply = await gateway.request("POST", path, headers, bomb)
            self.assertEqual(415, reply.status)
            self.assertIn("uncompressed", reply.json()["error"]["message"])
        await self.assert_unharmed(gateway)

    async def test_upgrades_and_expectations(self) -> None:
        """Nobody is led to another protocol, and what is expected in vain is passed over."""
        gateway = await self.started()
        for lines in (
            (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAM"),
            (b"connection: Upgrade", b"upgrade: websocket", b"sec-websocket-version: 13"),
            (b"expect: a-miracle",),
            (b"expect: 100-continue, a-miracle",),
        ):
            wire = await gateway.connect()
            length = b"content-length: %d" % len(BODY)
            wire.send(post(BEARER.strip(), length, *lines, body=BODY))
            reply = await wire.reply()
            self.assertEqual(200, reply.status, lines)
            self.assertIsNone(reply.header(b"upgrade"))
            self.assertNotIn(b" 101 ", bytes(wire.received))
        await self.assert_unharmed(gateway, requests=4)


class PathTests(HostileTests):
    """Targets that no client should send, and methods that some do."""

    async def test_odd_targets(self) -> None:
        """Each has an answer in JSON, of at most 4xx, and the connection goes on."""
        gateway = await self.started()
        wire = await gateway.connect()
        for target in (
            "/%ff",
            "/v1/%ff/completions",
            "/v1/models/%ff",
            "//v1//chat/completions",
            "/v1/chat",
            "/../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/v1/chat/completions/%00",
            "/%E4%B8%96/%F0%9F%98%80",
            "http://elsewhere.invalid/v1/chat/completions",
            "http://user:word@elsewhere.invalid/",
            "/?key=%ff",
        ):
            for method in ("GET", "POST"):
                body = BODY if method == "POST" else b""
                reply = await wire.request(method, target, gateway.bearer, body)
                where = f"{method} {target}: {reply.status} {reply.body!r}"
                self.assertIn(reply.header(b"content-type"), (b"application/json", _JSON), where)
                told = json.loads(reply.body)
                if reply.status >= 400:
                    self.assertLess(reply.status, 500, where)
                    self.assertTrue(told["error"]["message"], where)
        await self.assert_unharmed(gateway, len(gateway.upstreams["openai-custom"].requests))

    async def test_slashes_too_many(self) -> None:
        """``//v1//chat/completions`` is a 404 that names the way."""
        gateway = await self.started()
        reply = await gateway.request("POST", "//v1//chat/completions", gateway.bearer, BODY)
        self.assert_error(reply, 404, "unknown_route")
        self.assertIn(CHAT, reply.json()["error"]["message"])
        reply = await gateway.request("POST", CHAT + "/", gateway.bearer, BODY)
        self.assertEqual(200, reply.status)

    async def test_options(self) -> None:
        """OPTIONS of anything, a star included, is answered without a body."""
        gateway = await self.started()
        wire = await gateway.connect()
        for target in ("*", "/", CHAT, "/v1/models", "/nowhere"):
            reply = await wire.request("OPTIONS", target)
            self.assertEqual((204, b""), (reply.status, reply.body), target)
            self.assertIsNotNone(reply.header(b"allow"), target)
        await self.assert_unharmed(gateway)

    async def test_head(self) -> None:
        """HEAD tells of each GET what it would say, and nothing is left on the wire."""
        gateway = await self.started()
        wire = await gateway.connect()
        for path in (
            "/",
            "/health",
            "/v1/models",
            "/v1/models/m-1",
            "/v1/models/nobody",
            "/v1beta/models",
            "/v1beta/models/m-1",
            CHAT,
            "/nowhere",
        ):
            got = await wire.request("GET", path, gateway.bearer)
            reply = await wire.request("HEAD", path, gateway.bearer)
            self.assertEqual((got.status, b""), (reply.status, reply.body), path)
            for name in (b"content-type", b"allow"):
                self.assertEqual(got.header(name), reply.header(name), path)
        await self.assert_unharmed(gateway, len(gateway.upstreams["openai-custom"].requests))

    async def test_unknown_methods(self) -> None:
        """A method that does not fit is a 405 that says which do."""
        gateway = await self.started()
        wire = await gateway.connect()
        for method in ("DELETE", "PUT", "PATCH", "BREW", "TRACE"):
            reply = await wire.request(method, CHAT, gateway.bearer)
            self.assert_error(reply, 405, "method_not_allowed")
            self.assertEqual(b"POST", reply.header(b"allow"))
            self.assertNotIn(KEY.encode(), reply.body)


class PipelineTests(HostileTests):
    """Several requests in one go."""

    async def test_two_streams(self) -> None:
        """Two different streams come back in order, neither mixed into the other."""
        gateway = await self.started()
        upstream = gateway.upstreams["openai-custom"]
        frames = {name: chat_chunks([name] * 50) for name in ("first", "second")}

        def answer(request: Received) -> Script:
            name = json.loads(request.body)["name"]
            if name == "second":
                return sse_reply(frames[name])
            chunks = [Chunk(frame) for frame in frames[name]]
            return (STREAM_HEAD, *chunks[:20], Hold(), *chunks[20:], EndChunks())

        gateway.answers["openai-custom"] = answer
        wire = await gateway.connect()
        wire.send(self.stream("first") + self.stream("second"))
        first = wire.reply()
        await until(lambda: b"first" in wire.received, what="the first one's beginning")
        await pause(0.1)
        self.assertNotIn(b"second", bytes(wire.received))
        upstream.release()
        self.assertEqual(b"".join(frames["first"]), (await first).body)
        self.assertEqual(b"".join(frames["second"]), (await wire.reply()).body)
        self.assertEqual(2, len({request.body for request in upstream.requests}))

    async def test_a_refused_one_first(self) -> None:
        """Behind a request whose body is refused nothing is read as a request."""
        gateway = await self.started()
        wire = await gateway.connect()
        key = b"authorization: Bearer " + WRONG.encode()
        refused = post(key, b"content-length: 3", body=b"{ }")
        wire.send(refused + self.stream("second"))
        answer = await wire.until_closed()
        self.assertEqual(1, answer.count(b"HTTP/1.1 "), answer)
        self.assert_error(parsed(answer), 401)
        await self.assert_unharmed(gateway)

    async def test_different_answers(self) -> None:
        """Errors, lists and answers of one connection come in the order of the questions."""
        gateway = await self.started()
        wire = await gateway.connect()
        get = b"GET %b HTTP/1.1\r\nhost: x\r\n" + BEARER + b"\r\n"
        bad = post(BEARER.strip(), b"content-length: 1", body=b"?")
        wire.send(get % b"/v1/models" + bad + self.stream("x") + get % b"/nowhere")
        statuses = [(await wire.reply()).status for _ in range(4)]
        self.assertEqual([200, 400, 200, 404], statuses)

    async def test_a_flood_behind_a_stream(self) -> None:
        """What waits is bounded: who sends more of it is cut off, and so is its upstream."""
        gateway = await self.started()
        chunks = [Chunk(frame) for frame in chat_chunks(["a"] * 5)]
        held: Script = (STREAM_HEAD, *chunks[:3], Hold(), *chunks[3:], EndChunks())
        gateway.answers["openai-custom"] = lambda request: held
        wire = await gateway.connect()
        wire.send(self.stream("first"))
        await until(lambda: b"chatcmpl" in wire.received, what="the stream's beginning")
        flood = self.stream("x" * 1000) * 100
        while not wire.lost:
            wire.send(flood)
            await pause(0.01)
        upstream = gateway.upstreams["openai-custom"]
        await until(lambda: not front(gateway).in_flight, what="nothing in flight")
        self.assertEqual(1, len(upstream.requests))
        gateway.answers["openai-custom"] = lambda request: sse_reply(chat_chunks(["a"]))
        await self.assert_unharmed(gateway, requests=1)

    def stream(self, name: str) -> bytes:
        """Return a request for a stream."""
        asked = {"model": "m-1", "messages": [], "stream": True, "name": name}
        body = json.dumps(asked).encode()
        return post(BEARER.strip(), b"content-length: %d" % len(body), body=body)
