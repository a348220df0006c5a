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
        provider = FACTORY.provider(name=name, runtime=Runtime(clock=self.clock, upstream=upstream))
        pool = AccountPool(
            name,
            clock=self.clock,
            now=lambda: 1.79e9 + self.now,
            jitter=lambda: 0.5,
            affinities=Affinities(ttl=0.0, size=0),
        )
        settings = FACTORY.settings(openai_api_key="sk-1", openai_base_url="http://127.0.0.1:1/v1")
        pool.adopt([one_account(name, settings, id=name)], Rules())
        return Way(provider, pool, "m", "default")

    def ask(self, number: int) -> Deferred[None]:
        """Send one request."""
        request = OPENAI_CHAT.parse(
            body=b'{"model":"m","messages":[]}', route=Route(action="generate")
        )

        async def convert(way: Way) -> Converted:
            return relayed(request, source=OPENAI_CHAT)

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
            self.served.append(Served(began, self.now - began, reply.status, record.provider))

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
        self._answers = [self._down() if down else MemoryResponse(200, JSON, [chat_body("hi")])]
        return super().send(request)

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
