"""The front: paths before they are routed, and what is counted and logged."""

from __future__ import annotations

import time

from twisted.internet.error import ConnectionDone
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from aiclient2api.testing import MemoryResponse, chat_chunks
from aiclient2api.web.front import dialect_of, nearest_path, split_path
from tests.web_fixture import KEY, GatewayTestCase

CHAT = b'{"model":"m","messages":[],"stream":true}'
SSE = ((b"content-type", b"text/event-stream"),)


class PathTests(GatewayTestCase):
    """What is taken off a path, and what a wrong one is taken for."""

    def setUp(self) -> None:
        """Build a gateway that is asked nothing."""
        self.build([])

    def test_prefixes_and_doublings_come_off(self) -> None:
        """A provider's name, a doubled /v1, a trailing slash."""
        for path, expected in (
            ("v1/messages", (None, "v1/messages")),
            ("claude-custom/v1/messages", ("claude-custom", "v1/messages")),
            ("claude-custom/v1/v1/messages/", ("claude-custom", "v1/messages")),
            ("gemini-custom/v1/v1beta/models", ("gemini-custom", "v1beta/models")),
            ("v1beta/v1/models/m:generateContent", (None, "v1/models/m:generateContent")),
            ("auto/v1/models", ("auto", "v1/models")),
            ("gemini-cli-oauth/v1/messages", ("gemini-cli-oauth", "v1/messages")),
            ("nobody/v1/messages", (None, "nobody/v1/messages")),
            ("claude-custom", ("claude-custom", "")),
            ("claude-custom/", ("claude-custom", "")),
            ("", (None, "")),
        ):
            provider, segments = split_path(path.split("/"), self.setup)
            self.assertEqual((provider, "/".join(segments)), expected, path)

    def test_an_error_is_told_in_the_dialect_of_its_path(self) -> None:
        """Also for paths that are only nearly right."""
        for path, name in (
            ("/v1/messages", "anthropic-messages"),
            ("/claude-custom/v1/v1/messages/count_tokens?beta=true", "anthropic-messages"),
            ("/v1/message", "anthropic-messages"),
            ("/v1/responses", "openai-responses"),
            ("/v1/chat/completion", "openai-chat"),
            ("/v1beta/models/a/b:generateContent", "gemini"),
            ("/v1/models/a/b:generateContent", "gemini"),
            ("/v1beta/modelz", "gemini"),
        ):
            self.assertEqual(dialect_of(path, self.setup).name, name, path)

    def test_a_path_of_nothing_but_segments_is_cheap(self) -> None:
        """Nobody was asked for a key yet; in steps of one it took three seconds."""
        slashes, versions = [""] * 65_000, ["v1"] * 65_000
        began = time.process_time()
        self.assertEqual(split_path(slashes, self.setup), (None, [""]))
        self.assertEqual(split_path(versions, self.setup), (None, ["v1", "v1"]))
        self.assertEqual(split_path(["auto", *slashes], self.setup), ("auto", [""]))
        nearest_path("/" + "ab" * 30_000, self.setup)
        self.assertLess(time.process_time() - began, 1)

    def test_what_is_told_of_a_long_path_is_short(self) -> None:
        """An error is no place to send everything back."""
        reply = self.ask("GET", "/" + "x" * 60_000)
        self.assertEqual(reply.status, 404)
        self.assertLess(len(reply.body), 1000)

    def test_the_nearest_route_is_named(self) -> None:
        """With MODEL where a model's name would stand."""
        self.assertEqual(nearest_path("/v1/chat/completion", self.setup)[0], "/v1/chat/completions")
        self.assertEqual(
            nearest_path("/v1beta/modelss/MODEL", self.setup)[0], "/v1beta/models/MODEL"
        )


class AccessLogTests(GatewayTestCase):
    """One line a request, without a key in it."""

    def logged(self) -> list[str]:
        """Return the access log's lines from now on, in a list that grows."""
        lines: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            if "exchange" not in event and "{method}" in (event.get("log_format") or ""):
                lines.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return lines

    def test_a_request_is_logged_once_without_its_key(self) -> None:
        """Method, path, status, size and id; no query."""
        self.build([])
        lines = self.logged()
        reply = self.ask("GET", f"/health?key={KEY}&x=1", key=None)
        self.assertEqual(len(lines), 1)
        self.assertRegex(lines[0], r"^127\.0\.0\.1 GET /health 200 \d+ B ")
        self.assertIn(reply.headers["x-aiclient2api-request-id"], lines[0])
        self.assertNotIn(KEY, lines[0])

    def test_a_request_that_was_refused_at_the_door_is_logged(self) -> None:
        """Without the key it presented."""
        self.build([])
        lines = self.logged()
        self.ask("POST", "/v1/messages?key=wr0ng", CHAT, key=None)
        (line,) = lines
        self.assertRegex(line, "^127.0.0.1 POST /v1/messages 401 refused: invalid_api_key ")
        self.assertIn(self.reply().headers["x-aiclient2api-request-id"], line)

    def test_a_broken_off_answer_is_logged_as_such(self) -> None:
        """The line says that the connection was lost."""
        self.build([MemoryResponse(200, SSE, chat_chunks(["hi"])[:2], end=None)])
        lines = self.logged()
        self.send("POST", "/v1/chat/completions", CHAT)
        self.assertEqual(lines, [])
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(lines[0].endswith("(connection lost)"), lines)


class InFlightTests(GatewayTestCase):
    """What the service waits for when it stops."""

    def test_it_is_in_flight_until_the_answer_is_over(self) -> None:
        """Counted from its arrival to the last byte."""
        self.build([MemoryResponse(200, SSE, chat_chunks(["hi"])[:2], end=None)])
        self.assertEqual(self.front.in_flight, 0)
        self.send("POST", "/v1/chat/completions", CHAT)
        self.assertEqual(self.front.in_flight, 1)
        answer = self.upstream.sent[0].answer
        assert isinstance(answer, MemoryResponse)
        for frame in chat_chunks(["hi"])[2:]:
            answer.push(frame)
        answer.finish()
        self.assertEqual(self.front.in_flight, 0)

    def test_the_rest_can_be_cut_off(self) -> None:
        """Their connections are aborted."""
        self.build([None])
        self.send("POST", "/v1/chat/completions", CHAT)
        self.front.cut_off()
        self.assertTrue(self.wire.aborted)
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(self.upstream.sent[0].cancelled)
