"""What is booked of an exchange, however it ends: once, for whoever answered."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.exchange import Patience
from aiclient2api.observe.observers import Observers
from aiclient2api.observe.usage import Row, UsageBook
from aiclient2api.state.memory import MemoryStore
from aiclient2api.testing import MemoryResponse, chat_chunks
from aiclient2api.values import Usage
from tests.test_failover import SSE, FailoverCase, refusal, well

WORDS = ["Each", " of", " these", " is", " one", " token"]
STARTED = b"".join(chat_chunks(WORDS)[: 1 + len(WORDS)])
TOLD = Usage(input=30, output=6, cached=2)
NO_TOKENS = (0, 0, 0, 0, 0)
ONCE = Patience(max_retries=0, wait=0.0)


class BookingTests(FailoverCase):
    """Exchanges whose rows are read back."""

    def setUp(self) -> None:
        """Book beside the observer that the case has."""
        super().setUp()
        self.store = MemoryStore(clock=self.clock, now=self.clock.seconds)
        self.book = UsageBook(self.store, now=self.clock.seconds)

    def started(self, *args: object, **kwargs: object) -> Deferred[None]:
        """Start an exchange that is booked."""
        first = self.observer
        self.observer = Observers(first, self.book)  # type: ignore[assignment]
        try:
            return self.exchange(*args, **kwargs)  # type: ignore[arg-type]
        finally:
            self.observer = first

    def row(self) -> Row:
        """Return the one row that there is."""
        ((id, row),) = self.successResultOf(self.book.rows("c")).items()
        self.assertEqual(id, "x1")
        self.assert_over()
        return row

    def tokens(self, row: Row) -> tuple[int | None, ...]:
        """Return input, output, and those of caches and thoughts."""
        told = row.tokens
        return (told.input, told.output, told.cached, told.cache_write, told.reasoning)

    def test_an_answer_that_was_told(self) -> None:
        """What the upstream says stands, and nothing is estimated."""
        frames = chat_chunks(WORDS, usage=TOLD)
        done = self.started(self.way("one", [MemoryResponse(200, SSE, frames)]))
        self.successResultOf(done)
        row = self.row()
        self.assertEqual(self.tokens(row), (30, 6, 2, None, 0))
        self.assertEqual(
            (row.how, row.estimated, row.lost, row.attempts), ("complete", False, None, 1)
        )
        self.assertEqual((row.provider, row.account, row.model), ("one", "one-0", "m"))

    def test_an_answer_of_which_nothing_was_told(self) -> None:
        """As a stream of Chat Completions without ``include_usage``: it is estimated."""
        done = self.started(self.way("one", [MemoryResponse(200, SSE, chat_chunks(WORDS))]))
        self.successResultOf(done)
        row = self.row()
        self.assertEqual((row.how, row.estimated, row.tokens.output), ("complete", True, 6))
        self.assertIn(row.tokens.input, range(1, 10))

    def test_the_account_that_answered(self) -> None:
        """After a failover the row is that of the account that gave the answer."""
        frames = chat_chunks(WORDS, usage=TOLD)
        way = self.way("one", [refusal(429), MemoryResponse(200, SSE, frames)], accounts=2)
        self.successResultOf(self.started(way, patience=ONCE))
        row = self.row()
        self.assertEqual((row.account, row.attempts, row.lost), ("one-1", 2, None))
        self.assertEqual(row.tokens.output, 6)

    def test_what_a_failed_attempt_took(self) -> None:
        """An upstream told of tokens and failed: they are booked, apart from the answer's."""
        told = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}\n\n'
        lost = [MemoryResponse(200, SSE, [told], end=ConnectionLost()) for _ in range(2)]
        frames = chat_chunks(WORDS, usage=TOLD)
        way = self.way("one", [*lost, MemoryResponse(200, SSE, frames)], accounts=2)
        done = self.started(way)
        self.clock.advance(0)
        self.successResultOf(done)
        row = self.row()
        assert row.lost is not None
        self.assertEqual((row.lost.input, row.lost.output), (18, 8))
        self.assertEqual((row.tokens.input, row.tokens.output), (30, 6))
        self.assertEqual((row.attempts, row.account), (3, "one-1"))

    def test_an_error(self) -> None:
        """Nobody answered: zero tokens, and what went wrong."""
        self.failureResultOf(self.started(self.way("one", [refusal(429)]), patience=ONCE))
        row = self.row()
        self.assertEqual((self.tokens(row), row.estimated), (NO_TOKENS, False))
        self.assertEqual((row.how, row.error), ("failed", "UpstreamError rate_limit"))

    def test_nobody_was_reached(self) -> None:
        """Zero as well, also where nobody could be asked."""
        refused = UpstreamError("no", fault=Fault.UNREACHABLE, status=502)
        self.failureResultOf(self.started(self.way("one", [refused]), patience=ONCE))
        self.assertEqual(self.tokens(self.row()), NO_TOKENS)
        self.setUp()
        self.failureResultOf(self.started(self.way("one", []), unconvertible=["one"]))
        row = self.row()
        self.assertEqual((self.tokens(row), row.attempts), (NO_TOKENS, 0))

    def test_a_client_who_leaves(self) -> None:
        """What was seen is booked, and said to be estimated."""
        done = self.started(self.way("one", [MemoryResponse(200, SSE, [STARTED], end=None)]))
        done.cancel()
        self.failureResultOf(done, CancelledError)
        row = self.row()
        self.assertEqual((row.how, row.estimated, row.tokens.output), ("cancelled", True, 6))
        self.assertIn(row.tokens.input, range(1, 10))

    def test_a_client_who_leaves_before_the_answer(self) -> None:
        """Nothing was seen of one: zero, but the upstream may have begun."""
        done = self.started(self.way("one", [None]))
        done.cancel()
        self.failureResultOf(done, CancelledError)
        row = self.row()
        self.assertEqual((self.tokens(row), row.how, row.estimated), (NO_TOKENS, "cancelled", True))

    def test_a_client_who_leaves_while_waiting(self) -> None:
        """The only account rests, so nobody was asked: zero, and that is certain."""
        way = self.way("one", [])
        got = way.pool.acquire(model="m")
        limit = UpstreamError("no", fault=Fault.RATE_LIMIT, status=429, retry_after=3)
        self.successResultOf(got).failed(error=limit)
        done = self.started(way, patience=Patience(max_retries=0, wait=5.0))
        self.assertNoResult(done)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        row = self.row()
        self.assertEqual(
            (self.tokens(row), row.how, row.estimated), (NO_TOKENS, "cancelled", False)
        )

    def test_an_answer_that_breaks_off(self) -> None:
        """What the client got of it is booked."""
        answer = MemoryResponse(200, SSE, [STARTED], end=ConnectionLost())
        self.successResultOf(self.started(self.way("one", [answer])))
        row = self.row()
        self.assertEqual((row.how, row.estimated, row.tokens.output), ("truncated", True, 6))
        self.assertEqual(row.error, "UpstreamError truncated")

    def test_a_question(self) -> None:
        """A count of tokens has a row, and took none."""
        self.successResultOf(self.started(self.way("one", [well()]), action="count_tokens"))
        row = self.row()
        self.assertEqual((row.action, self.tokens(row)), ("count_tokens", NO_TOKENS))
