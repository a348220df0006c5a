"""
A provider that is down for 60 of 80 seconds: everybody is served, and it comes back into use.

On a virtual clock; ``AICLIENT2API_LONG=1`` runs it for real as well, which takes two minutes.
"""

from __future__ import annotations

import os
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from aiclient2api.accounts.affinity import Affinities
from aiclient2api.accounts.budget import RetryBudget
from aiclient2api.accounts.pool import AccountPool, Rules
from aiclient2api.dialects.convert import Converted, relayed
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.exchange import Exchange, Patience, Way
from aiclient2api.providers.openai_custom import openai_custom as FACTORY
from aiclient2api.testing import (
    MemoryObserver,
    MemoryReply,
    MemoryResponse,
    MemoryUpstream,
    chat_body,
    one_account,
)
from aiclient2api.testing.memory import Sent
from aiclient2api.values import ExchangeRecord, Route, Runtime, UpstreamRequest

DOWN, PERIOD = 60.0, 80.0
REQUESTS = 20
JSON = ((b"content-type", b"application/json"),)


@attrs.define
class Served:
    """One request: when it came, when it was answered, and by whom."""

    at: float
    took: float
    status: int | None
    who: str
    body: bytes = attrs.field(default=b"", repr=False)


class Flapping:
    """
    A provider that is down at first and then up, and one to fall back on.

    :param how: ``503``, ``refused`` or ``silence``: what it is like to be down.
    """

    def __init__(self, clock: Any, how: str) -> None:
        self.clock = clock
        self.began = clock.seconds()
        self.how = how
        self.attempts: list[tuple[float, bool]] = []
        self.served: list[Served] = []
        self.observer = MemoryObserver()
        self.budget = RetryBudget()
        self.ways = [self.way("primary"), self.way("fallback")]

    # What speaks one dialect, at once; others speak others.

    latency = 0.0
    """Seconds until an upstream answers, if it does."""
    factory: Any = FACTORY
    settings: Any = FACTORY.settings(openai_api_key="sk-1", openai_base_url="http://127.0.0.1:1/v1")

    def wire(self) -> Any:
        """Return a request as a client sends it."""
        return OPENAI_CHAT.parse(
            body=b'{"model":"m","messages":[]}', route=Route(action="generate")
        )

    async def converted(self, request: Any, way: Way) -> Converted:
        """Return *request* as a provider is asked."""
        return relayed(request, source=OPENAI_CHAT)

    def answer(self) -> MemoryResponse:
        """Return what whoever is up answers."""
        return MemoryResponse(200, JSON, [chat_body("hi")])

    @property
    def now(self) -> float:
        """Return the seconds since it began."""
        return float(self.clock.seconds() - self.began)

    @property
    def down(self) -> bool:
        """Say whether the primary is down now."""
        return self.now % PERIOD < DOWN

    def way(self, name: str) -> Way:
        """Return a provider with one account."""
        upstream = _Upstream(self, primary=name == "primary")
        runtime = Runtime(clock=self.clock, upstream=upstream)
        provider = self.factory.provider(name=name, runtime=runtime)
        pool = AccountPool(
            name,
            clock=self.clock,
            now=lambda: 1.79e9 + self.now,
            jitter=lambda: 0.5,
            affinities=Affinities(ttl=0.0, size=0),
        )
        pool.adopt([one_account(name, self.settings, id=name)], Rules())
        return Way(provider, pool, "m", "default")

    def ask(self, number: int) -> Deferred[None]:
        """Send one request."""
        request = self.wire()

        async def convert(way: Way) -> Converted:
            return await self.converted(request, way)

        reply, began = MemoryReply(), self.now
        record = ExchangeRecord(
            id=f"x{number}",
            caller="c",
            request=request,
            provider="primary",
            model="m",
            began=self.clock.seconds(),
        )
        exchange = Exchange(
            record=record,
            ways=self.ways,
            convert=convert,
            reply=reply,
            patience=Patience(response_headers=2.0),
            clock=self.clock,
            jitter=lambda: 0.5,
            observers=self.observer,
            budget=self.budget,
        )

        def done(_: object) -> None:
            told = Served(began, self.now - began, reply.status, record.provider, reply.body)
            self.served.append(told)

        return Deferred.fromCoroutine(exchange.run()).addCallback(done)


class _Upstream(MemoryUpstream):
    """Answers at once, or is down."""

    def __init__(self, flapping: Flapping, *, primary: bool) -> None:
        super().__init__((), clock=flapping.clock)
        self._flapping = flapping
        self._primary = primary

    def send(self, request: UpstreamRequest) -> Any:
        down = self._primary and self._flapping.down
        if self._primary:
            self._flapping.attempts.append((self._flapping.now, down))
        answer = self._down() if down else self._flapping.answer()
        latency = self._flapping.latency
        self._answers = [None if latency else answer]
        sending = super().send(request)
        if latency and answer is not None:
            self._flapping.clock.callLater(latency, self._reply, self.sent[-1], answer)
        return sending

    def _reply(self, sent: Sent, answer: MemoryResponse | Exception) -> None:
        if not sent.cancelled:
            sent.reply(answer)

    def _down(self) -> MemoryResponse | Exception | None:
        down: dict[str, MemoryResponse | Exception | None] = {
            "503": MemoryResponse(503, JSON, [b'{"error":{"message":"busy"}}']),
            "refused": UpstreamError("nobody listens", fault=Fault.UNREACHABLE, status=502),
            "silence": None,
        }
        return down[self.how]

    @property
    def how(self) -> str:
        """Return what being down is like."""
        return self._flapping.how


def judge(test: SynchronousTestCase | TestCase, flapping: Flapping) -> None:
    """See that nobody noticed but by the time it took."""
    test.assertEqual(len(flapping.served), REQUESTS)
    test.assertEqual({each.status for each in flapping.served}, {200})
    early = [each for each in flapping.served if each.at < DOWN]
    test.assertEqual({each.who for each in early}, {"fallback"})
    back = [each.at for each in flapping.served if each.who == "primary"]
    test.assertTrue(back, "the primary never came back into use")
    test.assertLess(min(back) - DOWN, 30.0)
    # Once it rests it is tried now and then, and not hammered.
    wasted = [at for at, down in flapping.attempts if down]
    test.assertLess(len(wasted), 20)
    test.assertLess(max(each.took for each in flapping.served), 10.0)


class FlappingTests(SynchronousTestCase):
    """20 requests in 80 seconds, of which the primary is up for the last 20."""

    def test_everybody_is_served(self) -> None:
        """Whatever it is like to be down; the primary is back in use within 30 s."""
        for how in ("503", "refused", "silence"):
            clock = Clock()
            flapping = Flapping(clock, how)
            for number in range(REQUESTS):
                flapping.ask(number)
                for _ in range(40):
                    clock.advance(0.1)
            clock.pump([0.5] * 20)
            judge(self, flapping)


class RealFlappingTests(TestCase):
    """The same on the real clock."""

    timeout = 120

    if not os.environ.get("AICLIENT2API_LONG"):
        skip = "takes 80 seconds; set AICLIENT2API_LONG=1, or run tox -e faults"

    async def test_everybody_is_served(self) -> None:
        """As on the virtual clock."""
        flapping = Flapping(reactor, "refused")
        asking = []
        for number in range(REQUESTS):
            asking.append(flapping.ask(number))
            await deferLater(reactor, PERIOD / REQUESTS)
        for each in asking:
            await each
        judge(self, flapping)
