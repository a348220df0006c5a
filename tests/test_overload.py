"""
More than the gateway may take: from the client's bytes to the counts, in memory.

Each way that a request can end gives back what it was counted with, exactly once.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from aiclient2api.testing import MemoryResponse, chat_body, chat_chunks
from aiclient2api.web.channel import IDLE_CONNECTION, GatewayChannel
from aiclient2api.web.load import Load
from tests.web_fixture import KEY, GatewayTestCase, Wire

OTHER = "other-key"
CHAT = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[]}'
STREAM = b'{"model":"m","messages":[],"stream":true}'
SSE = ((b"content-type", b"text/event-stream"),)
JSON = ((b"content-type", b"application/json"),)
PATHS = (CHAT, "/v1/responses", "/v1/messages", "/v1beta/models/m:generateContent")


def whole() -> MemoryResponse:
    """Return a good answer."""
    return MemoryResponse(200, JSON, [chat_body("hi")])


def begun() -> MemoryResponse:
    """Return an answer that has begun, and does not end."""
    return MemoryResponse(200, SSE, chat_chunks(["hi"])[:2], end=None)


class OverloadCase(GatewayTestCase):
    """What these tests share."""

    @property
    def load(self) -> Load:
        """Return what counts."""
        return self.setup.load

    def started(self, *answers: Any, **limits: int) -> None:
        """Build a gateway with *limits* and two keys."""
        self.build(list(answers), required_api_key=[KEY, OTHER], limits=limits)

    def assert_under_way(self, places: int, size: int = 0) -> None:
        """So many are counted."""
        self.assertEqual((self.load.in_flight, self.load.size), (places, size))

    def lose(self) -> None:
        """Have the last connection lost."""
        self.channel.connectionLost(Failure(ConnectionDone()))

    def head(self, *lines: str, path: str = CHAT) -> None:
        """Send the head of a POST on a new connection."""
        self.connect()
        head = [f"POST {path} HTTP/1.1", "Host: h", f"Authorization: Bearer {KEY}", *lines]
        self.channel.dataReceived("\r\n".join(head).encode() + b"\r\n\r\n")


class EndingTests(OverloadCase):
    """The ways that a request can end."""

    def test_answered(self) -> None:
        """A whole answer: counted while the upstream is asked, and no longer."""
        self.started(None)
        self.send("POST", CHAT, BODY)
        self.assert_under_way(1, len(BODY))
        self.upstream.sent[0].reply(whole())
        self.assertEqual(self.reply().status, 200)
        self.assert_under_way(0)

    def test_a_stream(self) -> None:
        """Counted to its last byte."""
        self.started(begun())
        self.send("POST", CHAT, STREAM)
        self.assert_under_way(1, len(STREAM))
        answer = self.upstream.sent[0].answer
        assert isinstance(answer, MemoryResponse)
        for frame in chat_chunks(["hi"])[2:]:
            answer.push(frame)
        answer.finish()
        self.assert_under_way(0)

    def test_several_on_one_connection(self) -> None:
        """Each counts for itself, also if they were sent in one go."""
        self.started(whole(), None)
        self.connect()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\n"
        request = head.encode() + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
        self.channel.dataReceived(request * 2)
        self.assert_under_way(1, len(BODY))
        self.lose()
        self.assert_under_way(0)

    def test_the_upstream_fails(self) -> None:
        """An error is an answer."""
        self.started(MemoryResponse(400, JSON, [b"{}"]))
        self.assertEqual(self.ask("POST", CHAT, BODY).status, 400)
        self.assert_under_way(0)

    def test_the_upstream_breaks_off(self) -> None:
        """A stream that was cut is over once its error was told."""
        self.started(begun())
        self.send("POST", CHAT, STREAM)
        answer = self.upstream.sent[0].answer
        assert isinstance(answer, MemoryResponse)
        answer.finish()
        self.assert_under_way(0)

    def test_a_body_that_is_none(self) -> None:
        """What cannot be read is answered, and over."""
        self.started()
        self.assertEqual(self.ask("POST", CHAT, b"{").status, 400)
        self.assert_under_way(0)

    def test_no_such_path(self) -> None:
        """The same for what has no route."""
        self.started()
        self.assertEqual(self.ask("POST", "/nowhere", BODY).status, 404)
        self.assert_under_way(0)

    def test_the_gateway_fails(self) -> None:
        """A bug of ours takes no place for ever."""
        self.started(whole())

        def broken(*_: object, **__: object) -> Any:
            raise RuntimeError("a bug")

        self.patch(self.setup.dialects[0].__class__, "parse", broken)
        for dialect in self.setup.dialects:
            self.patch(type(dialect), "parse", broken)
        self.assertEqual(self.ask("POST", CHAT, BODY).status, 500)
        self.assert_under_way(0)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_the_client_leaves_while_it_sends(self) -> None:
        """What was reserved for its body is free again."""
        self.started()
        self.head("Content-Length: 1000")
        self.channel.dataReceived(b"x" * 10)
        self.assert_under_way(1, 1000)
        self.lose()
        self.assert_under_way(0)

    def test_the_client_leaves_while_it_is_answered(self) -> None:
        """In the middle of a stream, and before its first byte."""
        for answer in (begun(), None):
            self.started(answer)
            self.send("POST", CHAT, STREAM)
            self.assert_under_way(1, len(STREAM))
            self.lose()
            self.assert_under_way(0)

    def test_the_upload_is_too_slow(self) -> None:
        """Refused is over, also while the client may still read why."""
        self.started()
        self.head("Content-Length: 1000")
        self.clock.advance(60)
        self.assertEqual(self.reply().status, 408)
        self.assert_under_way(0)
        self.lose()
        self.assert_under_way(0)

    def test_the_body_is_too_large(self) -> None:
        """The same for one that turns out to be over the limit."""
        self.started(body_bytes=100)
        self.head("Transfer-Encoding: chunked")
        self.channel.dataReceived(b"50\r\n" + b"x" * 80 + b"\r\n")
        self.assert_under_way(1, 80)
        self.channel.dataReceived(b"50\r\n" + b"x" * 80 + b"\r\n")
        self.assertEqual(self.reply().status, 413)
        self.assert_under_way(0)

    def test_bad_chunks(self) -> None:
        """And for one that cannot be read at all."""
        self.started()
        self.head("Transfer-Encoding: chunked")
        self.channel.dataReceived(b"zz\r\n")
        self.assertEqual(self.reply().status, 400)
        self.clock.advance(5)
        self.lose()
        self.assert_under_way(0)

    def test_a_client_that_does_not_read(self) -> None:
        """An answer that was written but did not leave still takes its place."""
        self.started(None)
        self.send("POST", CHAT, BODY)
        self.channel.pauseProducing()
        self.upstream.sent[0].reply(whole())
        self.assertEqual(self.reply().status, 200)
        self.assert_under_way(1, len(BODY))
        self.assertEqual(self.site.close_idle(), 0)
        self.channel.resumeProducing()
        self.assert_under_way(0)
        self.assertEqual(self.site.close_idle(), 1)

    def test_one_that_never_reads_is_closed(self) -> None:
        """Also if it asked for the connection to be closed behind the answer."""
        self.started(None)
        self.send("POST", CHAT, BODY, headers={"Connection": "close"})
        self.channel.pauseProducing()
        self.upstream.sent[0].reply(whole())
        self.assert_under_way(1, len(BODY))
        self.clock.advance(IDLE_CONNECTION)
        self.assertTrue(self.wire.aborted)
        self.lose()
        self.assert_under_way(0)


class RefusalTests(OverloadCase):
    """What is told to those who are too many."""

    def told(self, path: str, **headers: str) -> tuple[int, str, Any]:
        """Return the status, the time to come back, and the error of a refused request."""
        reply = self.ask("POST", path, BODY, headers=headers)
        return reply.status, reply.headers["retry-after"], json.loads(reply.body)

    def test_in_every_dialect(self) -> None:
        """429 for a key's own fault, 503 for the gateway's, each with a time and a remedy."""
        kinds = {429: "rate_limit_error", 503: "overloaded_error"}
        for limit, status in (("per_key", 429), ("in_flight", 503)):
            for path in PATHS:
                self.started(None, **{limit: 1})
                self.send("POST", CHAT, BODY)
                found, when, error = self.told(path)
                self.assertEqual((found, when), (status, "2"), path)
                self.assertIn(f"limits.{limit}", error["error"]["message"])
                if path == "/v1/messages":
                    self.assertEqual(error["error"]["type"], kinds[status])
                self.assert_under_way(1, len(BODY))

    def test_before_the_body_is_read(self) -> None:
        """Nobody is asked to send what will not be taken."""
        self.started(None, in_flight=1)
        self.send("POST", CHAT, BODY)
        self.head("Content-Length: 1000", "Expect: 100-continue")
        self.assertNotIn(b"100 Continue", self.wire.value())
        self.assertEqual(self.reply().status, 503)

    def test_without_a_body(self) -> None:
        """A list of models is a request like others; its connection stays."""
        self.started(None, None, in_flight=1)
        self.send("GET", "/v1/models")
        self.assert_under_way(1)
        self.assertEqual(self.ask("GET", "/v1/models").status, 503)
        self.assertFalse(self.wire.half_closed)
        self.assert_under_way(1)

    def test_a_stranger(self) -> None:
        """One without a key is told so, and takes no place."""
        self.started(None, in_flight=1)
        self.send("POST", CHAT, BODY)
        self.assertEqual(self.ask("POST", CHAT, BODY, key=None).status, 401)
        self.assertEqual(self.ask("GET", "/v1/models", key=None).status, 401)
        self.assert_under_way(1, len(BODY))

    def test_another_key(self) -> None:
        """What one key has under way is not another's fault."""
        self.started(None, whole(), per_key=1)
        self.send("POST", CHAT, BODY)
        self.assertEqual(self.ask("POST", CHAT, BODY).status, 429)
        self.assertEqual(self.ask("POST", CHAT, BODY, key=OTHER).status, 200)

    def test_operators_are_let_in(self) -> None:
        """Monitors and those who look after the gateway are never too many."""
        self.started(None, in_flight=1)
        self.send("POST", CHAT, BODY)
        for path in ("/health", "/ready", "/provider_health", "/"):
            self.assertEqual(self.ask("GET", path).status, 200, path)
        reset = self.ask("POST", "/provider_health/reset", b"{}")
        self.assertEqual(reset.status, 200)
        self.assert_under_way(1, len(BODY))

    def test_an_operators_path_is_no_way_round_it(self) -> None:
        """A body as large as no operator sends is counted, wherever it goes."""
        self.started(None, in_flight=1)
        self.send("POST", CHAT, BODY)
        for line in ("Content-Length: 100000", "Transfer-Encoding: chunked"):
            self.head(line, path="/provider_health/reset")
            self.assertEqual(self.reply().status, 503, line)

    def test_a_burst(self) -> None:
        """Of a hundred at once, exactly as many as may be are begun."""
        self.started(*[None] * 10, in_flight=10)
        statuses = []
        for _ in range(100):
            self.send("POST", CHAT, BODY)
            statuses.append(self.reply().status if self.wire.value() else 0)
        self.assertEqual((statuses.count(0), statuses.count(503)), (10, 90))
        self.assertEqual(len(self.upstream.sent), 10)

    def test_bytes_that_are_announced(self) -> None:
        """Bodies that do not fit are refused at their heads."""
        self.started(total_bytes=1500)
        self.head("Content-Length: 1000")
        self.head("Content-Length: 1000")
        self.assertEqual(self.reply().status, 503)
        self.assertIn("limits.total_bytes", self.reply().json()["error"]["message"])
        self.assert_under_way(1, 1000)

    def test_bytes_that_are_not(self) -> None:
        """Those in chunks are refused while they come, once, in whatever pieces."""
        self.started(total_bytes=1500)
        self.head("Content-Length: 1000")
        self.head("Transfer-Encoding: chunked")
        for _ in range(3):
            self.channel.dataReceived((b"64\r\n" + b"x" * 100 + b"\r\n") * 3)
        self.assertEqual(self.wire.value().count(b"HTTP/1.1 "), 1)
        self.assertEqual(self.reply().status, 503)
        self.assert_under_way(1, 1000)

    def test_short_of_memory(self) -> None:
        """What is under way goes on; nothing else is begun; monitors see it."""
        self.started(None)
        self.send("POST", CHAT, BODY)
        first = self.wire
        self.load.shedding = True
        found, when, error = self.told(CHAT)
        self.assertEqual((found, when), (503, "5"))
        self.assertIn("limits.memory_bytes", error["error"]["message"])
        ready = self.ask("GET", "/ready")
        self.assertEqual(ready.status, 503)
        self.assertIn("limits.memory_bytes", ready.json()["message"])
        self.assertEqual(self.ask("GET", "/health").status, 200)
        self.upstream.sent[0].reply(whole())
        self.assertIn(b"HTTP/1.1 200 OK", first.value())


class ScheduleTests(OverloadCase):
    """Many clients, each doing anything at any time."""

    def test_the_counts_are_the_truth(self) -> None:
        """At every moment as many are counted as are under way; at the end none."""
        for seed in range(25):
            chance = random.Random(seed)
            self.started(*[None] * 200, in_flight=4, per_key=3, total_bytes=400, key_bytes=300)
            clients: list[tuple[Wire, GatewayChannel]] = []
            answered = 0
            for _ in range(40):
                act = chance.choice(("come", "come", "body", "answer", "leave", "wait"))
                if act == "come":
                    kind = chance.choice(("whole", "part", "chunks", "get", "stranger"))
                    self._come(kind, chance)
                    clients.append((self.wire, self.channel))
                elif act == "body" and clients:
                    wire, channel = chance.choice(clients)
                    if not wire.disconnecting and not channel._handlingRequest:
                        channel.dataReceived(b"20\r\n" + b" " * 32 + b"\r\n")
                elif act == "answer" and answered < len(self.upstream.sent):
                    sent = self.upstream.sent[answered]
                    answered += 1
                    if not sent.cancelled:
                        sent.reply(chance.choice((whole, begun, self._refused))())
                elif act == "leave" and clients:
                    clients.pop(chance.randrange(len(clients)))[1].connectionLost(
                        Failure(ConnectionDone())
                    )
                elif act == "wait":
                    self.clock.advance(chance.choice((1, 30)))
                self._agree(clients)
            for _, channel in clients:
                channel.connectionLost(Failure(ConnectionDone()))
            self.assert_under_way(0)
            self.assertEqual(len(self.site.connections), 0)

    def _come(self, kind: str, chance: random.Random) -> None:
        key: Callable[[], str] = lambda: chance.choice((KEY, KEY, OTHER))  # noqa: E731
        if kind == "whole":
            self.send("POST", CHAT, chance.choice((BODY, STREAM)), key=key())
        elif kind == "get":
            self.send("GET", "/health", key=key())
        elif kind == "stranger":
            self.send("POST", CHAT, BODY, key="wrong")
        elif kind == "part":
            self.head(f"Content-Length: {chance.choice((10, 150, 290))}")
        else:
            self.head("Transfer-Encoding: chunked")

    def _refused(self) -> MemoryResponse:
        return MemoryResponse(400, JSON, [b"{}"])

    def _agree(self, clients: list[tuple[Wire, GatewayChannel]]) -> None:
        """What is counted is what the connections have under way."""
        held = [
            request.place
            for _, channel in clients
            for request in channel.requests
            if request.place is not None and not channel._refused
        ]
        self.assertEqual(self.load.in_flight, len(held))
        self.assertEqual(self.load.size, sum(place._size for place in held))
        self.assertLessEqual(self.load.in_flight, 4)
