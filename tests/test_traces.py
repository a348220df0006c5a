"""What is kept of each exchange, and what never is."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.errors import (
    Fault,
    GatewayError,
    NoAccount,
    RawReply,
    UnknownModel,
    UpstreamError,
)
from aiclient2api.interfaces import IExchangeObserver
from aiclient2api.observe import traces
from aiclient2api.observe.traces import NAMESPACE, OWNER, Trace, Traces, TraceStep, read
from aiclient2api.state.memory import MemoryStore
from aiclient2api.values import ExchangeRecord, Outcome, Step, Usage

ID = "4f2c91d07a6b4c1f9d3e5a7b8c9d0e1f"


@attrs.frozen
class Asked:
    """As much of a request as may be looked at, and some that may not."""

    dialect: str = "anthropic-messages"
    model: str = "claude-sonnet-4-5"
    raw: bytes = b"CANARY body"
    headers: tuple[tuple[bytes, bytes], ...] = ((b"authorization", b"CANARY key"),)
    query: tuple[tuple[str, str], ...] = (("key", "CANARY query"),)

    def prompt_text(self) -> str:
        """Return the prompt."""
        return "CANARY prompt"


STEPS = [
    Step(at=0.0, what="target", provider="openai-custom", model="gpt-5"),
    Step(at=0.0, what="skipped", provider="openai-custom", account="a1", why="cooling, 12 s"),
    Step(at=0.25, what="chosen", provider="openai-custom", account="a2", why="round_robin"),
    Step(at=1.5, what="attempt", provider="openai-custom", account="a2", status=200),
]


def exchange(**changes: Any) -> ExchangeRecord:
    """Return an exchange that went as most do."""
    record = ExchangeRecord(
        id=ID,
        caller="key-1",
        request=Asked(),
        provider="openai-custom",
        model="gpt-5",
        began=7.0,
        account="a2",
        attempts=1,
        steps=list(STEPS),
    )
    return attrs.evolve(record, **changes)


def upstream_error(message: str = "Slow down.") -> UpstreamError:
    """Return what an upstream may say."""
    return UpstreamError(
        message,
        fault=Fault.RATE_LIMIT,
        status=429,
        code="rate_limit_exceeded",
        retry_after=12.0,
        reply=RawReply(429, ((b"x", b"CANARY header"),), b"CANARY reply"),
    )


class TracesTests(SynchronousTestCase):
    """`Traces`."""

    def setUp(self) -> None:
        """Keep traces in a store on a clock of our own."""
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.store = MemoryStore(clock=self.clock, now=self.clock.seconds)
        self.traces = Traces(self.store, now=self.clock.seconds)

    def kept(self, id: str = ID) -> bytes | None:
        """Return what is in the store."""
        value: bytes | None = self.successResultOf(
            self.store.get(namespace=NAMESPACE, owner=OWNER, key=id)
        )
        return value

    def traced(self, record: ExchangeRecord | None = None, outcome: Outcome | None = None) -> Trace:
        """Return what is kept of an exchange."""
        self.traces.ended(
            exchange=record or exchange(), outcome=outcome or Outcome("complete", 2.0)
        )
        trace = read(self.kept(record.id if record else ID) or b"")
        assert trace is not None
        return trace

    def test_it_provides_the_interface(self) -> None:
        """It is an observer, one that wants no texts."""
        verifyObject(IExchangeObserver, self.traces)
        self.assertFalse(self.traces.wants_text)

    def test_what_is_kept(self) -> None:
        """When, who asked for what, who answered, how it ended, and every step."""
        usage = Usage(input=1200, output=300, cached=1024, reasoning=0)
        trace = self.traced(outcome=Outcome("complete", 2.5, usage=usage))
        self.assertEqual(
            msgspec.to_builtins(trace),
            [
                "1",
                1_700_000_000 - 2.5,
                1_700_000_000.0,
                "key-1",
                "anthropic-messages",
                "claude-sonnet-4-5",
                "openai-custom",
                "gpt-5",
                "a2",
                1,
                "complete",
                [1200, 300, 1024, None, 0],
                None,
                [
                    [0.0, "target", "openai-custom", "gpt-5", "", "", None],
                    [0.0, "skipped", "openai-custom", "", "a1", "cooling, 12 s", None],
                    [0.25, "chosen", "openai-custom", "", "a2", "round_robin", None],
                    [1.5, "attempt", "openai-custom", "", "a2", "", 200],
                ],
                0,
            ],
        )

    def test_nothing_before_the_end(self) -> None:
        """An exchange under way leaves nothing that would have to be taken back."""
        self.traces.began(exchange=exchange())
        self.traces.attempt(exchange=exchange(), error=upstream_error())
        self.traces.first_byte(exchange=exchange())
        self.assertIsNone(self.kept())

    def test_however_it_ended(self) -> None:
        """Also if the client left."""
        for how in ("complete", "failed", "truncated", "cancelled"):
            trace = self.traced(exchange(id=how * 4), Outcome(how, 1.0))
            self.assertEqual((trace.how, len(trace.steps)), (how, 4))

    def test_the_error(self) -> None:
        """Its class, whose fault it is, and what the caller was told."""
        errors: list[tuple[GatewayError, list[object]]] = [
            (
                upstream_error(),
                [
                    "UpstreamError",
                    "rate_limit",
                    429,
                    "rate_limit_exceeded",
                    "Slow down.",
                    12.0,
                ],
            ),
            (
                NoAccount("All rest.", code="no_account", limited=True, retry_after=3),
                ["NoAccount", "", 429, "no_account", "All rest.", 3],
            ),
            (UnknownModel("No such."), ["UnknownModel", "", 404, "", "No such.", None]),
        ]
        for error, told in errors:
            trace = self.traced(outcome=Outcome("failed", 1.0, error=error))
            self.assertEqual(msgspec.to_builtins(trace.error), told)

    def test_no_word_of_what_was_said(self) -> None:
        """Neither body, prompt, answer, query, header nor key; nor what an upstream replied."""
        for how in ("complete", "failed", "truncated", "cancelled"):
            self.traces.ended(
                exchange=exchange(),
                outcome=Outcome(how, 1.0, error=upstream_error(), text="CANARY answer"),
            )
            kept = self.kept() or b""
            self.assertIn(b"Slow down.", kept)
            self.assertNotIn(b"CANARY", kept)

    def test_a_message_has_its_measure(self) -> None:
        """However much an upstream had to say."""
        error = upstream_error("é" * 499 + "xyz" + "z" * 10_000)
        trace = self.traced(outcome=Outcome("failed", 1.0, error=error))
        assert trace.error is not None
        self.assertEqual(trace.error.message, "é" * 499 + "x")

    def test_a_client_cannot_fill_it(self) -> None:
        """What it calls a model is cut, wherever it stands."""
        long = "m" * 100_000
        steps = [Step(at=0.0, what="target", model=long, why=long)]
        record = exchange(request=Asked(model=long), model=long, steps=steps)
        trace = self.traced(record)
        self.assertEqual({trace.asked, trace.model, trace.steps[0].model}, {"m" * 200})
        self.assertEqual(trace.steps[0].why, "m" * 300)

    def test_half_a_character(self) -> None:
        """A model's name with half of a surrogate pair is kept as well as can be."""
        trace = self.traced(exchange(request=Asked(model="gpt\ud83d")))
        self.assertEqual(trace.asked, "gpt?")
        self.assertEqual(trace.provider, "openai-custom")

    def test_many_steps(self) -> None:
        """The first and the last hundred are kept, the others counted."""
        steps = [Step(at=float(number), what="skipped") for number in range(3000)]
        trace = self.traced(exchange(steps=steps))
        self.assertEqual([each.at for each in trace.steps], [*range(100), *range(2900, 3000)])
        self.assertEqual(trace.left_out, 2800)
        trace = self.traced(exchange(steps=steps[:200]))
        self.assertEqual((len(trace.steps), trace.left_out), (200, 0))
        trace = self.traced(exchange(steps=steps[:201]))
        self.assertEqual([each.at for each in trace.steps], [*range(100), *range(101, 201)])
        self.assertEqual(trace.left_out, 1)

    def test_one_has_its_measure(self) -> None:
        """Of steps that say too much there are fewer; the first and the last are there still."""
        for count in (1, 2, 3, 50, 200, 1000):
            steps = [
                Step(
                    at=float(number),
                    what="skipped",
                    provider="\U0001f44b" * 200,
                    model="\U0001f44b" * 200,
                    account="\U0001f44b" * 200,
                    why="\U0001f44b" * 200,
                )
                for number in range(count)
            ]
            trace = self.traced(exchange(steps=steps))
            self.assertLessEqual(len(self.kept() or b""), traces.ONE)
            self.assertEqual((trace.steps[0].at, trace.steps[-1].at), (0.0, count - 1.0))
            self.assertEqual(len(trace.steps) + trace.left_out, count)
            self.assertGreaterEqual(len(trace.steps), min(count, 12))

    def test_all_have_their_measure(self) -> None:
        """The oldest make room."""
        self.traces = Traces(self.store, now=self.clock.seconds, total=1000)
        for number in range(10):
            self.traced(exchange(id=str(number) * 32))
        found = [number for number in range(10) if self.kept(str(number) * 32)]
        self.assertEqual(found, list(range(10 - len(found), 10)))
        self.assertIn(len(found), range(2, 5))

    def test_it_has_its_time(self) -> None:
        """Seven days, and no longer."""
        self.traced()
        self.clock.advance(7 * 86400 - 1)
        self.assertIsNotNone(self.kept())
        self.clock.advance(1)
        self.assertIsNone(self.kept())

    def test_off(self) -> None:
        """A time of 0 keeps none, and lets go of those that were kept."""
        self.traced()
        self.traces = Traces(self.store, now=self.clock.seconds, ttl=0)
        self.assertIsNone(self.kept())
        self.traces.ended(exchange=exchange(), outcome=Outcome("complete", 1.0))
        self.assertIsNone(self.kept())

    def test_what_cannot_be_read(self) -> None:
        """What is mutilated, or of another version, is none."""
        good = traces._encode(self.traced())
        self.assertIsNotNone(read(good))
        for value in (b"", b"\xff", good[:-5], good.replace(b"\xa11", b"\xa12", 1), b"\x91\xa11"):
            self.assertIsNone(read(value), value)

    def test_the_form_is_for_good(self) -> None:
        """What an earlier run has kept can be read."""
        value = (
            b"\x9f\xa11\xcb?\xf0\x00\x00\x00\x00\x00\x00\xcb@\x08\x00\x00\x00\x00\x00\x00"
            b"\xa1c\xa1d\xa1a\xa1p\xa1m\xa2a1\x02\xa6failed\x95\x01\x02\xc0\xc0\xc0"
            b"\x96\xa1E\xa1f\xcd\x01\xad\xa1k\xa1w\xc0"
            b"\x91\x97\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xa6chosen\xa1p\xa1m\xa2a1\xa1y\xc0\x03"
        )
        self.assertEqual(
            read(value),
            Trace(
                began=1.0,
                ended=3.0,
                caller="c",
                dialect="d",
                asked="a",
                provider="p",
                model="m",
                account="a1",
                attempts=2,
                how="failed",
                usage=traces.TraceUsage(1, 2, None, None, None),
                error=traces.TraceError("E", "f", 429, "k", "w", None),
                steps=[TraceStep(0.0, "chosen", "p", "m", "a1", "y", None)],
                left_out=3,
            ),
        )
        self.assertEqual(traces._encode(read(value)), value)  # type: ignore[arg-type]
