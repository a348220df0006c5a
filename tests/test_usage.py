"""One row for each exchange: who asked, who answered, how it ended, what it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.errors import Fault, GatewayError, UnknownModel, UpstreamError
from aiclient2api.interfaces import IExchangeObserver
from aiclient2api.observe import usage
from aiclient2api.observe.usage import NAMESPACE, Row, Tokens, UsageBook, read
from aiclient2api.state.memory import MemoryStore
from aiclient2api.values import Outcome, Spent, Usage
from tests.test_traces import Asked as Traced
from tests.test_traces import exchange as traced

ID = "4f2c91d07a6b4c1f9d3e5a7b8c9d0e1f"


@attrs.frozen
class Asked(Traced):
    """A request, as much of it as may be looked at, and some that may not."""

    action: str = "generate"


def exchange(**changes: Any) -> Any:
    """Return an exchange that went as most do."""
    return traced(request=changes.pop("request", Asked()), **changes)


SPENT = Spent(Usage(input=1200, output=300, cached=1024), True, Usage(input=7))


class UsageBookTests(SynchronousTestCase):
    """`UsageBook`."""

    def setUp(self) -> None:
        """Book into a store on a clock of our own."""
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.store = MemoryStore(clock=self.clock, now=self.clock.seconds)
        self.book = UsageBook(self.store, now=self.clock.seconds)

    def rows(self, caller: str = "key-1") -> dict[str, Row]:
        """Return what is booked."""
        rows: Mapping[str, Row] = self.successResultOf(self.book.rows(caller))
        return dict(rows)

    def booked(self, outcome: Outcome, **changes: Any) -> Row:
        """Return the row of an exchange."""
        record = exchange(**changes)
        self.book.ended(exchange=record, outcome=outcome)
        return self.rows(record.caller)[record.id]

    def test_it_provides_the_interface(self) -> None:
        """It is an observer, one that wants no texts."""
        verifyObject(IExchangeObserver, self.book)
        self.assertFalse(self.book.wants_text)

    def test_what_is_booked(self) -> None:
        """When, who, what was asked for, who answered, how, and the tokens."""
        row = self.booked(Outcome("complete", 2.50049, usage=Usage(input=9), spent=SPENT))
        self.assertEqual(
            msgspec.to_builtins(row),
            [
                "1",
                1_700_000_000.0,
                "key-1",
                "anthropic-messages",
                "claude-sonnet-4-5",
                "openai-custom",
                "gpt-5",
                "a2",
                "generate",
                "complete",
                1,
                2.5,
                [1200, 300, 1024, None, None],
                True,
                [7, None, None, None, None],
                "",
            ],
        )

    def test_nothing_before_the_end(self) -> None:
        """An exchange under way has no row."""
        self.book.began(exchange=exchange())
        self.book.attempt(exchange=exchange(), error=None)
        self.book.first_byte(exchange=exchange())
        self.assertEqual(self.rows(), {})

    def test_however_it_ended(self) -> None:
        """Each exchange has its row."""
        for how in ("complete", "failed", "truncated", "cancelled"):
            self.assertEqual(self.booked(Outcome(how, 1.0, spent=SPENT), id=how).how, how)
        self.assertEqual(len(self.rows()), 4)

    def test_the_kind_of_error(self) -> None:
        """Its class and whose fault it was; not its words."""
        errors: list[tuple[GatewayError, str]] = [
            (
                UpstreamError("CANARY", fault=Fault.RATE_LIMIT, status=429),
                "UpstreamError rate_limit",
            ),
            (UnknownModel("CANARY"), "UnknownModel"),
        ]
        for error, told in errors:
            self.assertEqual(self.booked(Outcome("failed", 1.0, error=error)).error, told)

    def test_no_word_of_what_was_said(self) -> None:
        """Neither prompt, answer, key nor message."""
        error = UpstreamError("CANARY", fault=Fault.SERVER, status=500)
        self.booked(Outcome("failed", 1.0, error=error, text="CANARY", spent=SPENT))
        value = self.successResultOf(self.store.get(namespace=NAMESPACE, owner="key-1", key=ID))
        assert value is not None
        self.assertNotIn(b"CANARY", value)

    def test_each_caller_has_his_own(self) -> None:
        """Who asks for the rows of one does not get those of another."""
        self.booked(Outcome("complete", 1.0, spent=SPENT))
        self.booked(Outcome("complete", 1.0, spent=SPENT), caller="key-2", id="b")
        self.assertEqual((list(self.rows()), list(self.rows("key-2"))), ([ID], ["b"]))

    def test_a_client_cannot_fill_it(self) -> None:
        """What it calls a model is cut; half a character is mended."""
        row = self.booked(
            Outcome("complete", 1.0), request=Asked(model="\ud83d" + "m" * 9999), model="m" * 9999
        )
        self.assertEqual((row.asked, row.model), ("?" + "m" * 199, "m" * 200))

    def test_a_secret_is_cut_out(self) -> None:
        """Also if a client calls a model by a key."""
        self.book = UsageBook(
            self.store, now=self.clock.seconds, clean=lambda text: text.replace("sk-1", "[secret]")
        )
        row = self.booked(Outcome("complete", 1.0), request=Asked(model="gpt sk-1"))
        self.assertEqual(row.asked, "gpt [secret]")

    def test_the_largest_fits(self) -> None:
        """There is no row that the store would not take."""
        long = "\U0001f44b" * 9999
        row = self.booked(
            Outcome("complete", 1.0),
            request=Asked(model=long),
            model=long,
            provider=long,
            account=long,
        )
        self.assertEqual(len(row.account), 200)

    def test_it_has_its_time_and_its_measure(self) -> None:
        """400 days; and the oldest make room."""
        self.booked(Outcome("complete", 1.0))
        self.clock.advance(400 * 86400 - 1)
        self.assertEqual(len(self.rows()), 1)
        self.clock.advance(1)
        self.assertEqual(self.rows(), {})
        self.book = UsageBook(self.store, now=self.clock.seconds, total=1000)
        for number in range(10):
            self.booked(Outcome("complete", 1.0), id=str(number) * 32)
        kept = [id[0] for id in self.rows()]
        self.assertEqual(kept, [str(number) for number in range(10)][-len(kept) :])
        self.assertIn(len(kept), range(3, 9))

    def test_half_a_million_are_kept(self) -> None:
        """A row takes what the documentation says."""
        self.booked(Outcome("complete", 1.0, spent=SPENT))
        value = self.successResultOf(self.store.get(namespace=NAMESPACE, owner="key-1", key=ID))
        assert value is not None
        self.assertLess((len(value) + 16 + 32) * 500_000, usage.TOTAL)

    def test_what_cannot_be_read(self) -> None:
        """What is mutilated, or of another version, is none."""
        good = usage._encode(self.booked(Outcome("complete", 1.0)))
        self.assertIsNotNone(read(good))
        for value in (b"", b"\xff", good[:-5], good.replace(b"\xa11", b"\xa12", 1)):
            self.assertIsNone(read(value), value)

    def test_the_form_is_for_good(self) -> None:
        """What an earlier run has booked can be read."""
        value = (
            b"\xdc\x00\x10\xa11\xcb?\xf0\x00\x00\x00\x00\x00\x00\xa1c\xa1d\xa1a\xa1p\xa1m\xa2a1"
            b"\xa8generate\xa6failed\x02\xcb@\x00\x00\x00\x00\x00\x00\x00"
            b"\x95\x01\x02\xc0\xc0\xc0\xc3\x95\x03\xc0\xc0\xc0\xc0\xa1E"
        )
        row = Row(
            ended=1.0,
            caller="c",
            dialect="d",
            asked="a",
            provider="p",
            model="m",
            account="a1",
            action="generate",
            how="failed",
            attempts=2,
            seconds=2.0,
            tokens=Tokens(1, 2, None, None, None),
            estimated=True,
            lost=Tokens(3, None, None, None, None),
            error="E",
        )
        self.assertEqual(read(value), row)
        self.assertEqual(usage._encode(row), value)
