"""How clients are let go: told, waited for, and interrupted with an honest word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import attrs
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from aiclient2api.errors import stopping
from aiclient2api.testing import (
    MemoryResponse,
    chat_chunks,
    gemini_chunks,
    messages_events,
    responses_events,
)
from aiclient2api.testing.streams import gemini_array
from aiclient2api.web.leaving import Clients
from tests.web_fixture import KEY, GatewayTestCase

SSE = ((b"content-type", b"text/event-stream"),)
JSON = ((b"content-type", b"application/json"),)
HELLO = [{"role": "user", "content": "hi"}]
PIECES = ["one ", "two ", "three"]


@attrs.frozen
class Case:
    """
    A dialect: how it is asked for a stream, how an upstream of it streams.

    :ivar ends: What the end of a stream that was answered in full looks like.
    """

    provider: str
    path: str
    body: dict[str, object]
    frames: Sequence[bytes]
    ends: Sequence[bytes]
    head: tuple[tuple[bytes, bytes], ...] = SSE

    @property
    def part(self) -> Sequence[bytes]:
        """Return what is sent of it when the gateway stops."""
        return self.frames[: -3 if len(self.frames) > 4 else -1]


CASES = (
    Case(
        "openai-custom",
        "/v1/chat/completions",
        {"model": "m", "messages": HELLO, "stream": True},
        chat_chunks(PIECES),
        (b"[DONE]", b'"finish_reason":"stop"'),
    ),
    Case(
        "openaiResponses-custom",
        "/v1/responses",
        {"model": "m", "input": "hi", "stream": True},
        responses_events(PIECES),
        (b"response.completed", b"response.incomplete"),
    ),
    Case(
        "claude-custom",
        "/v1/messages",
        {"model": "m", "max_tokens": 9, "messages": HELLO, "stream": True},
        messages_events(PIECES),
        (b"message_stop", b"message_delta"),
    ),
    Case(
        "gemini-custom",
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        {"contents": []},
        gemini_chunks(PIECES),
        (b'"finishReason"',),
    ),
)


class InterruptTests(GatewayTestCase):
    """What clients read whose answers were not done in time."""

    def begin(self, case: Case, answers: Sequence[MemoryResponse | None], **config: object) -> None:
        """Have a request of *case* in flight, and its clients at hand."""
        self.build(answers, model_provider=case.provider, **config)
        self.clients = Clients(self.front, self.site)
        body = json.dumps(case.body).encode()
        self.send("POST", case.path, body, headers={"Anthropic-Version": "2023-06-01"})
        self.assertEqual(self.clients.busy, 1)

    def assert_told(self) -> None:
        """Check that a whole error was read that says when to come back."""
        reply = self.reply()
        self.assertEqual(reply.status, 503)
        self.assertEqual(reply.headers["retry-after"], "5")
        self.assertEqual(reply.headers["connection"], "close")
        self.assertIn("stopped", reply.json()["error"]["message"])
        self.assertEqual(len(reply.body), int(reply.headers["content-length"]))
        self.assertTrue(self.wire.disconnecting)
        self.assertFalse(self.wire.aborted)

    def interrupt(self) -> None:
        """Do what a stop does at the end of its grace."""
        self.clients.tell()
        self.clients.interrupt(stopping())
        self.assertEqual(self.clients.busy, 0)

    def outcome(self) -> tuple[str, str | None]:
        """Return how the one exchange ended, as observers were told."""
        (outcome,) = self.observer.outcomes.values()
        return outcome.how, outcome.error.code if outcome.error else None

    def assert_nobody_blamed(self, case: Case) -> None:
        """Check that the lease came back without a word against the account."""
        (report,) = self.setup.pools[case.provider].report()
        self.assertEqual((report.active, report.tally.failures), (0, 0))
        self.assertTrue(report.standing.usable)

    def test_before_the_head(self) -> None:
        """A 503 in the caller's dialect, and the upstream's connection is closed."""
        for case in CASES:
            self.begin(case, [None])
            self.interrupt()
            self.assert_told()
            self.assertTrue(self.upstream.sent[0].cancelled)
            self.assertEqual(self.outcome(), ("failed", "gateway_stopping"))
            self.assert_nobody_blamed(case)

    def test_before_the_first_event(self) -> None:
        """The same, though the upstream's head is here."""
        for case in CASES:
            response = MemoryResponse(200, case.head, (), end=None)
            self.begin(case, [response])
            self.interrupt()
            self.assert_told()
            self.assertTrue(response.aborted)
            self.assertEqual(self.outcome(), ("failed", "gateway_stopping"))

    def test_in_mid_stream(self) -> None:
        """An error event is the last that is read, and nothing that looks like an end."""
        for case in CASES:
            response = MemoryResponse(200, case.head, case.part, end=None)
            self.begin(case, [response])
            self.assertFalse(self.wire.disconnecting)
            self.interrupt()
            self.assertTrue(response.aborted)
            reply = self.reply()
            self.assertEqual(reply.status, 200)
            self.assertTrue(reply.body.startswith(b"".join(case.part)[:40]))
            last = reply.body.rstrip(b"\n").rpartition(b"\n\n")[2]
            self.assertIn(b"The gateway was stopped before this answer was complete", last)
            self.assertIn(b"error", last)
            for end in case.ends:
                self.assertNotIn(end, reply.body.replace(b'"finish_reason":null', b""))
            self.assertEqual(self.outcome(), ("truncated", "gateway_stopping"))
            self.assert_nobody_blamed(case)

    def test_a_form_without_room_for_an_error(self) -> None:
        """An array in mid-answer is broken off without its last chunk."""
        case = attrs.evolve(CASES[3], path="/v1beta/models/m:streamGenerateContent", head=JSON)
        whole = gemini_array(case.frames)
        self.begin(case, [MemoryResponse(200, case.head, [whole[: len(whole) // 2]], end=None)])
        self.interrupt_and_lose()
        self.assertFalse(self.wire.value().endswith(b"0\r\n\r\n"))
        self.assertNotIn(b"gateway_stopping", self.wire.value())
        self.assertEqual(self.outcome(), ("truncated", "gateway_stopping"))

    def interrupt_and_lose(self) -> None:
        """Interrupt, and close the connection as soon as that was asked for."""
        self.clients.tell()
        self.clients.interrupt(stopping())
        self.assertTrue(self.wire.disconnecting or self.wire.aborted)
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clients.busy, 0)

    def test_converted_answers(self) -> None:
        """It is the caller's dialect that counts, not the upstream's."""
        for provider, frames in (("claude-custom", messages_events(PIECES)),):
            case = attrs.evolve(CASES[0], provider=provider, frames=frames)
            self.begin(case, [MemoryResponse(200, SSE, frames[:-3], end=None)])
            self.interrupt()
            body = self.reply().body
            self.assertIn(b'{"error":{"message":"The gateway was stopped', body)
            self.assertNotIn(b"[DONE]", body)

    def test_between_two_attempts(self) -> None:
        """A timer that would have asked again is stopped, and nobody is asked."""
        case = CASES[2]
        self.begin(case, [MemoryResponse(500, JSON, [b"{}"])])
        self.interrupt()
        self.assert_told()
        self.clock.pump([1.0] * 60)
        self.assertEqual(len(self.upstream.sent), 1)
        self.assertEqual(self.outcome(), ("failed", "gateway_stopping"))

    def test_waiting_for_an_account(self) -> None:
        """Whoever waits until one is free is told as well."""
        case = CASES[0]
        account = {"openai_api_key": "k", "concurrencyLimit": 1, "queueLimit": 9}
        pools = Path(self.mktemp())
        pools.write_text(json.dumps({case.provider: [account]}))
        self.begin(case, [None], provider_pools_file_path=str(pools.absolute()))
        self.send("POST", case.path, json.dumps(case.body).encode())
        self.assertEqual((self.clients.busy, len(self.upstream.sent)), (2, 1))
        self.interrupt()
        self.assert_told()
        self.clock.pump([1.0] * 20)
        self.assertEqual(len(self.upstream.sent), 1)

    def test_a_list_of_models(self) -> None:
        """What is no exchange is told as well."""
        self.build([None])
        self.clients = Clients(self.front, self.site)
        self.send("GET", "/v1/models")
        self.assertEqual(self.clients.busy, 1)
        self.interrupt()
        self.assert_told()
        self.assertTrue(self.upstream.sent[0].cancelled)

    def test_a_request_that_still_arrives(self) -> None:
        """It is refused in its own dialect; without a whole head, with a bare 503."""
        self.build([])
        self.clients = Clients(self.front, self.site)
        self.connect()
        head = f"POST /v1/messages HTTP/1.1\r\nHost: g\r\nx-api-key: {KEY}\r\n"
        self.channel.dataReceived(head.encode() + b"content-length: 9\r\n\r\n{")
        self.assertEqual(self.clients.busy, 1)
        self.interrupt()
        reply = self.reply()
        self.assertEqual((reply.status, reply.json()["type"]), (503, "error"))
        self.assertEqual(reply.headers["retry-after"], "5")
        self.connect()
        self.channel.dataReceived(head.encode())
        self.interrupt()
        self.assertEqual(self.reply().status, 503)

    def test_what_is_over_is_not_interrupted(self) -> None:
        """An answer that was sent stays as it was."""
        case = CASES[0]
        self.build([MemoryResponse(200, SSE, case.frames)])
        self.ask("POST", case.path, json.dumps(case.body).encode())
        before = self.wire.value()
        Clients(self.front, self.site).interrupt(stopping())
        self.assertEqual(self.wire.value(), before)


class GoodbyeTests(GatewayTestCase):
    """What clients notice before that."""

    def begin(self, answers: Sequence[MemoryResponse | None] = ()) -> Clients:
        """Build a gateway; return its clients."""
        self.build(answers)
        return Clients(self.front, self.site)

    def again(self, method: str = "GET", target: str = "/health") -> bytes:
        """Send one more request on the connection there is; return what came."""
        self.wire.clear()
        self.channel.dataReceived(f"{method} {target} HTTP/1.1\r\nHost: g\r\n\r\n".encode())
        return self.wire.value()

    def test_it_is_not_ready_but_alive(self) -> None:
        """``/ready`` says why; ``/health`` is as ever."""
        clients = self.begin()
        self.assertEqual(self.ask("GET", "/ready").status, 200)
        clients.tell()
        reply = self.ask("GET", "/ready")
        self.assertEqual((reply.status, reply.json()["reason"]), (503, "draining"))
        self.assertEqual(self.ask("GET", "/ready?provider=openai-custom").status, 503)
        self.assertEqual(self.ask("GET", "/health").status, 200)

    def test_no_connection_is_kept_but_none_is_closed_unawares(self) -> None:
        """The next answer says that it is the last."""
        clients = self.begin()
        self.assertNotIn("connection", self.ask("GET", "/health").headers)
        clients.tell()
        self.assertFalse(self.wire.disconnecting)
        self.assertIn(b"\r\nConnection: close\r\n", self.again())
        self.assertTrue(self.wire.disconnecting)

    def test_an_answer_whose_head_is_out_is_not_the_last(self) -> None:
        """Its client may send one request more, for it does not know."""
        frames = chat_chunks(["hi"])
        clients = self.begin([MemoryResponse(200, SSE, frames[:2], end=None)])
        self.send("POST", "/v1/chat/completions", json.dumps(CASES[0].body).encode())
        clients.tell()
        answer = self.upstream.sent[0].answer
        assert isinstance(answer, MemoryResponse)
        for frame in frames[2:]:
            answer.push(frame)
        answer.finish()
        self.assertFalse(self.wire.disconnecting)
        clients.close_idle(2.0)
        self.clock.advance(1.9)
        self.assertIn(b"\r\nConnection: close\r\n", self.again())
        self.assertTrue(self.wire.disconnecting)

    def test_idle_connections_close(self) -> None:
        """After a while, also those that were at work when it began."""
        clients = self.begin([None])
        self.ask("GET", "/health")
        idle = self.wire
        self.send("POST", "/v1/messages", json.dumps(CASES[2].body).encode())
        clients.close_idle(2.0)
        self.clock.advance(1.9)
        self.assertFalse(idle.disconnecting)
        self.clock.advance(0.2)
        self.assertTrue(idle.disconnecting)
        self.assertFalse(self.wire.disconnecting)
        self.assertEqual(clients.busy, 1)
        self.channel.connectionLost(Failure(ConnectionDone()))
