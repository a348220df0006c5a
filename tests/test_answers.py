"""
URLs, headers and small bodies: what all providers share around a request.
"""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import PotentialDataLoss

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.observe.redaction import without_bytes
from aiclient2api.providers.openai_custom import openai_custom
from aiclient2api.testing import MemoryResponse, MemoryUpstream
from aiclient2api.upstream.answers import (
    ERROR_BODY_LIMIT,
    ERROR_BODY_SECONDS,
    collect,
    dressed,
    join,
    passed_headers,
    path_segment,
    peek,
    refusal,
    versioned,
)
from aiclient2api.upstream.faults import MESSAGE_LIMIT
from aiclient2api.values import Runtime


class URLTests(SynchronousTestCase):
    """Base URLs as users write them."""

    def test_join(self) -> None:
        """A path is appended after any number of slashes, before the base's own query."""
        for base, expected in (
            ("https://a.test/v1", "https://a.test/v1/x"),
            ("https://a.test/v1//", "https://a.test/v1/x"),
            ("https://a.test", "https://a.test/x"),
            ("https://a.test/v1/?k=1", "https://a.test/v1/x?k=1"),
        ):
            self.assertEqual(join(base, "/x"), expected)

    def test_query(self) -> None:
        """Arguments are quoted and follow those of the base URL."""
        self.assertEqual(
            join("http://a.test?k=1", "/x", (("q", "a&b"), ("q", "é"))),
            "http://a.test/x?k=1&q=a%26b&q=%C3%A9",
        )

    def test_international(self) -> None:
        """A base URL in any script comes out ready for the wire."""
        self.assertEqual(
            join("https://例え.test/模型", "/x"), "https://xn--r8jz45g.test/%E6%A8%A1%E5%9E%8B/x"
        )

    def test_versioned(self) -> None:
        """Only a last segment that is a version counts as one."""
        for base in ("https://a.test/v1", "https://a.test/v1beta/", "https://a.test/x/v4?k=1"):
            self.assertTrue(versioned(base), base)
        for base in ("https://a.test", "https://v1", "https://a.test/v1/x", "https://a.test/via"):
            self.assertEqual(versioned(base), base == "https://v1", base)

    def test_path_segment(self) -> None:
        """Slashes stay; what would end a path does not."""
        self.assertEqual(path_segment("a/b?c#d"), "a/b%3Fc%23d")


class HeaderTests(SynchronousTestCase):
    """Headers outwards and inwards."""

    def test_dressed(self) -> None:
        """Ours win, the client's follow, its credentials are dropped."""
        own = ((b"accept", b"1"),)
        passed = ((b"accept", b"2"), (b"cookie", b"c"), (b"x-a", b"3"), (b"x-a", b"4"))
        self.assertEqual(dressed(own, passed), ((b"accept", b"1"), (b"x-a", b"3"), (b"x-a", b"4")))

    def test_passed(self) -> None:
        """Request ids, hints on when to try again, and rate limits reach the client."""
        headers = tuple(
            (name, b"v")
            for name in (
                b"content-type",
                b"retry-after",
                b"retry-after-ms",
                b"request-id",
                b"x-request-id",
                b"x-should-retry",
                b"anthropic-ratelimit-tokens-reset",
                b"x-ratelimit-remaining-requests",
                b"openai-processing-ms",
                b"openai-version",
                b"cache-control",
            )
        )
        self.assertEqual(passed_headers(headers), headers)

    def test_held_back(self) -> None:
        """Cookies, connection matters, lengths and organization ids stay here."""
        names = (
            b"set-cookie",
            b"server",
            b"date",
            b"connection",
            b"keep-alive",
            b"transfer-encoding",
            b"content-length",
            b"content-encoding",
            b"openai-organization",
            b"anthropic-organization-id",
            b"www-authenticate",
        )
        self.assertEqual(passed_headers(tuple((name, b"v") for name in names)), ())


class CollectTests(SynchronousTestCase):
    """Reading a small body whole."""

    def test_whole(self) -> None:
        """All pieces come as one."""
        self.assertEqual(
            self.successResultOf(collect(MemoryResponse(200, (), [b"ab", b"c"]), 3)), b"abc"
        )
        self.assertEqual(self.successResultOf(collect(MemoryResponse(200, ()), 3)), b"")

    def test_end_by_close(self) -> None:
        """A body that only the connection's close ends is taken as it is."""
        response = MemoryResponse(200, (), [b"ab"], end=PotentialDataLoss())
        self.assertEqual(self.successResultOf(collect(response, 9)), b"ab")

    def test_too_long(self) -> None:
        """A body over the limit closes the connection and is an error."""
        clock = Clock()
        response = MemoryResponse(200, (), [b"abc", b"d", b"e"], end=None)
        response.clock = clock
        failure = self.failureResultOf(collect(response, 3), UpstreamError)
        self.assertIs(failure.value.fault, Fault.SERVER)
        self.assertTrue(response.aborted)
        clock.advance(0)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_broken(self) -> None:
        """A body that breaks off is no body."""
        response = MemoryResponse(200, (), [b"ab"], end=ConnectionLost())
        failure = self.failureResultOf(collect(response, 9), UpstreamError)
        self.assertEqual((failure.value.fault, failure.value.status), (Fault.RESET, 502))

    def test_cancelled(self) -> None:
        """Cancelling closes the connection, once, and what still comes is ignored."""
        clock = Clock()
        response = MemoryResponse(200, (), [b"a"], end=None)
        response.clock = clock
        reading = collect(response, 9)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assertTrue(response.aborted)
        clock.advance(0)
        self.assertEqual(self.flushLoggedErrors(), [])


class PeekTests(SynchronousTestCase):
    """Reading an error's body, of which any part is better than none."""

    def setUp(self) -> None:
        """Read on a clock of our own."""
        self.clock = Clock()

    def peek(self, response: MemoryResponse, limit: int) -> Deferred[bytes]:
        """Read for ten seconds at most."""
        return peek(response, limit, clock=self.clock, seconds=10)

    def test_whole(self) -> None:
        """A short body comes whole."""
        self.assertEqual(
            self.successResultOf(self.peek(MemoryResponse(500, (), [b"a", b"b"]), 2)), b"ab"
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_long(self) -> None:
        """Of a long body the beginning is enough, and the connection is closed."""
        response = MemoryResponse(500, (), [b"abc", b"de"], end=None)
        self.assertEqual(self.successResultOf(self.peek(response, 4)), b"abcd")
        self.assertTrue(response.aborted)

    def test_broken(self) -> None:
        """Of a body that breaks off there is what came."""
        response = MemoryResponse(500, (), [b"ab"], end=ConnectionLost())
        self.assertEqual(self.successResultOf(self.peek(response, 9)), b"ab")

    def test_cancelled(self) -> None:
        """Cancelling closes the connection."""
        response = MemoryResponse(500, (), [b"a"], end=None)
        reading = self.peek(response, 9)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assertTrue(response.aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stalled(self) -> None:
        """Of a body that does not end there is what came in time; the connection is closed."""
        response = MemoryResponse(500, (), [b"ab"], end=None)
        reading = self.peek(response, 9)
        self.clock.advance(9.9)
        self.assertNoResult(reading)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(reading), b"ab")
        self.assertTrue(response.aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class RefusalTests(SynchronousTestCase):
    """Reading an error answer, and what it means."""

    def refused(self, response: MemoryResponse, secret: str) -> UpstreamError:
        """Return what a provider makes of *response*, on an account with *secret*."""
        clock = Clock()
        provider = openai_custom.provider(
            name="vendor-b", runtime=Runtime(clock=clock, upstream=MemoryUpstream([]))
        )
        reading = Deferred.fromCoroutine(
            refusal(
                provider=provider,
                response=response,
                clean=partial(without_bytes, secrets=[secret]),
                clock=clock,
            )
        )
        clock.advance(ERROR_BODY_SECONDS)
        return self.successResultOf(reading)

    def test_stalled(self) -> None:
        """A body that stalls does not hide the status."""
        response = MemoryResponse(401, (), [b'{"error":{"mess'], end=None)
        error = self.refused(response, "sk-test")
        self.assertEqual((error.fault, error.status), (Fault.CREDENTIAL, 401))
        self.assertTrue(response.aborted)

    def test_no_cut_bares_a_part_of_a_secret(self) -> None:
        """Wherever a body, a message or a redirect is cut, no part of a key is left."""
        secret = "open/sesame+now"
        head = b'{"error":{"message":"'
        for at in range(-len(secret) - 40, 1):
            for status, limit, start, end in (
                (400, ERROR_BODY_LIMIT, head, b'"}}'),
                (400, ERROR_BODY_LIMIT, b"", b""),
                (400, MESSAGE_LIMIT + len(head), head, b'"}}'),
                (400, 200, b"", b""),
            ):
                for spelling in (secret, secret.replace("/", "\\/").replace("+", "\\u002b")):
                    fill = b"x" * (limit + at - len(start))
                    body = start + fill + spelling.encode() + b" is wrong" + end
                    error = self.refused(MemoryResponse(status, (), [body]), secret)
                    shown = error.message.encode() + (error.reply.body if error.reply else b"")
                    self.assertNotIn(b"open/s", shown)
                    self.assertNotIn(b"open\\/s", shown)
            place = (
                b"https://b.test/" + b"x" * (199 + at) + b"open/sesame+now/v1?key=open/sesame+now"
            )
            error = self.refused(MemoryResponse(302, ((b"location", place),)), secret)
            self.assertNotIn("open/s", error.message)

    def test_a_body_that_breaks_off_in_a_secret(self) -> None:
        """Nor is it left where the upstream itself stopped in the middle."""
        for body in (b"no such key: sk-test-12", b'{"error":{"message":"sk-test-12'):
            for end in (None, ConnectionLost()):
                error = self.refused(MemoryResponse(500, (), [body], end=end), "sk-test-1234")
                self.assertNotIn("sk-test", error.message)
