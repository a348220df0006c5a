"""Questions to an authorization server: what goes out, what may come back."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.oauth.requests import ANSWER_LIMIT, SECONDS, Answer, Asker, refused
from aiclient2api.testing import MemoryResponse, MemoryUpstream

URL = "https://login.example/token"


def said(status: int, document: Any) -> MemoryResponse:
    """Return an answer that holds *document* as JSON."""
    return MemoryResponse(status, (), [json.dumps(document).encode()])


class AskerTests(SynchronousTestCase):
    """One question, one answer."""

    def setUp(self) -> None:
        """Have a clock that stands still."""
        self.clock = Clock()

    def asker(self, *answers: MemoryResponse | Exception | None, **more: Any) -> Asker:
        """Return what asks, and remember the way out."""
        self.upstream = MemoryUpstream(answers, clock=self.clock)
        return Asker(self.upstream, self.clock, "The login", **more)

    def failed(self, *answers: MemoryResponse | Exception | None) -> UpstreamError:
        """Return what a question fails with."""
        asking = self.asker(*answers).form(URL, {"code": "the-secret-code"})
        error = self.failureResultOf(asking, UpstreamError).value
        assert isinstance(error, UpstreamError)
        self.assertNotIn("secret-code", error.message)
        return error

    def test_a_form(self) -> None:
        """Fields are quoted, headers and proxy go along, and the answer is read."""
        asker = self.asker(said(200, {"access_token": "t"}), proxy="http://127.0.0.1:9")
        asking = asker.form(URL, {"a": "1 2", "b": "&"}, ((b"x-request-id", b"7"),))
        answer = self.successResultOf(asking)
        self.assertTrue(answer.ok)
        self.assertEqual((answer.text("access_token"), answer.text("none")), ("t", ""))
        sent = self.upstream.sent[0].request
        self.assertEqual((sent.method, sent.url, sent.body), ("POST", URL, b"a=1+2&b=%26"))
        headers = dict(sent.headers)
        self.assertEqual(headers[b"content-type"], b"application/x-www-form-urlencoded")
        self.assertEqual((headers[b"x-request-id"], sent.proxy), (b"7", "http://127.0.0.1:9"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_json(self) -> None:
        """The same as JSON."""
        asking = self.asker(said(200, {})).json(URL, {"scopes": ["a"]})
        self.successResultOf(asking)
        sent = self.upstream.sent[0].request
        self.assertEqual(json.loads(sent.body or b""), {"scopes": ["a"]})
        self.assertEqual(dict(sent.headers)[b"content-type"], b"application/json")

    def test_a_refusal_is_an_answer(self) -> None:
        """Its word and its sentence are told, without what was sent."""
        told = {"error": "invalid_grant", "error_description": "no the-secret-code\x1b[2J"}
        asking = self.asker(said(400, told)).form(URL, {"code": "the-secret-code"})
        answer = self.successResultOf(asking)
        self.assertFalse(answer.ok)
        self.assertEqual((answer.error, answer.told), ("invalid_grant", "no [secret] [2J"))
        self.assertIn("no [secret]", refused("The login", answer).message)

    def test_a_refusal_without_json(self) -> None:
        """Its status is all that is told."""
        asking = self.asker(MemoryResponse(403, (), [b"<html>no</html>"])).form(URL, {})
        answer = self.successResultOf(asking)
        self.assertEqual((answer.status, answer.error, answer.told), (403, "", ""))

    def test_no_json_is_no_answer(self) -> None:
        """Neither a page, nor a redirect, nor a list."""
        for response in (
            MemoryResponse(200, (), [b"<html>"]),
            MemoryResponse(302, ((b"location", b"https://e.example"),), []),
            said(200, [1]),
            MemoryResponse(200, (), [b"[" * 100_000]),
        ):
            error = self.failed(response)
            self.assertIs(error.fault, Fault.SERVER)
            self.assertIn("login.example", error.message)

    def test_out_of_order(self) -> None:
        """A 5xx is passing, whatever it says."""
        error = self.failed(said(503, {"error": "x"}))
        self.assertIs(error.fault, Fault.SERVER)
        self.assertIn("503", error.message)

    def test_when_it_wants_to_be_asked_again(self) -> None:
        """``Retry-After`` of a refusal and of a failure."""
        later = ((b"retry-after", b"7"),)
        asking = self.asker(MemoryResponse(429, later, [b"{}"])).form(URL, {})
        self.assertEqual(self.successResultOf(asking).retry_after, 7.0)
        self.assertEqual(self.failed(MemoryResponse(503, later, [b"{}"])).retry_after, 7.0)
        self.assertIsNone(self.failed(said(503, {})).retry_after)

    def test_nothing_goes_out_twice(self) -> None:
        """A refresh token that comes a second time would be taken for stolen."""
        self.successResultOf(self.asker(said(200, {})).form(URL, {"refresh_token": "r"}))
        self.assertTrue(self.upstream.sent[0].request.once)

    def test_an_answer_is_bounded(self) -> None:
        """One that does not end is not read to its end."""
        response = MemoryResponse(200, (), [b"x" * ANSWER_LIMIT, b"x"], end=None)
        self.failed(response)
        self.assertTrue(response.aborted)

    def test_a_broken_answer(self) -> None:
        """Half of one is none."""
        error = self.failed(MemoryResponse(200, (), [b"{}"], end=ConnectionLost()))
        self.assertIs(error.fault, Fault.RESET)

    def test_time_is_up(self) -> None:
        """An answer that stalls is given up, and its connection closed."""
        response = MemoryResponse(200, (), [b"{"], end=None)
        asking = self.asker(response).form(URL, {})
        self.clock.advance(SECONDS)
        error = self.failureResultOf(asking, UpstreamError).value
        self.assertIs(error.fault, Fault.TIMEOUT)
        self.assertTrue(response.aborted)

    def test_giving_up(self) -> None:
        """Cancelling closes the connection, and leaves no timer behind."""
        asking = self.asker(None).form(URL, {})
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertTrue(self.upstream.sent[0].cancelled)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_numbers(self) -> None:
        """Nonsense where a number should be is not believed."""
        told = {"a": 5, "b": "5", "c": True, "d": -1, "e": 1e300, "f": 2.5}
        answer = Answer(200, told)
        found = [answer.number(key, 7.0) for key in "abcdefg"]
        self.assertEqual(found, [5.0, 7.0, 7.0, 7.0, 7.0, 2.5, 7.0])

    def test_nothing_of_it_is_printed(self) -> None:
        """An answer in a log shows no token."""
        self.assertNotIn("tok", repr(Answer(200, {"access_token": "tok"}, "", "tok")))
