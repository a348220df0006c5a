"""
The flapping primary of the catalogue, between any two dialects: it opens, tries, closes.

On a virtual clock; each pair meets one way to be down, and with ``AICLIENT2API_LONG=1`` all of
them. What it is like to be down comes from `tests.test_flapping`. Three
requests come every four seconds, so that a try is never the only one that could be made.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.accounts.account import PACES, Kind, Law
from aiclient2api.conversation.vault import SealVault
from aiclient2api.conversions import Conversions
from aiclient2api.dialects.all import DIALECTS as ALL
from aiclient2api.dialects.convert import Converted
from aiclient2api.exchange import Way
from aiclient2api.options import provider_factories
from aiclient2api.testing import MemoryResponse
from tests.faults import reading
from tests.faults.answers import DIALECTS, SPEAKERS, Asked, answer
from tests.faults.stage import request
from tests.faults.table import ELSEWHERE, Cell
from tests.live.gateway import PROVIDERS
from tests.test_flapping import DOWN, PERIOD, Flapping

FACTORIES = {factory.name: factory for factory in provider_factories()}
BURST = 3
EACH = 4.0
"""Seconds from one burst of requests to the next."""
LATENCY = 0.5
"""Seconds an upstream takes to answer: long enough for others to come meanwhile."""
LONG = bool(os.environ.get("AICLIENT2API_LONG"))
STREAM = ((b"content-type", b"text/event-stream"),)
HOW = ("503", "refused", "silence")


class Paired(Flapping):
    """A client of one dialect before providers of another."""

    latency = LATENCY

    def __init__(self, clock: Clock, how: str, client: str, upstream: str) -> None:
        self.client = client
        self.upstream = upstream
        name = SPEAKERS[upstream].provider
        _, key_name, url_name, base = PROVIDERS[name]
        self.factory = FACTORIES[name]
        self.settings = self.factory.settings(
            **{key_name: "sk-1", url_name: f"http://127.0.0.1:1{base}"}
        )
        self.source = next(each for each in ALL if each.name == DIALECTS[client])
        self.conversions = Conversions(
            vault=SealVault(clock.seconds), make_id=lambda: "0" * 48, now=time.time
        )
        super().__init__(clock, how)

    def wire(self) -> Any:
        """Return a request as a client sends it."""
        target, body = request(Cell("flapping", "", self.client, self.upstream))
        path, _, query = target.partition("?")
        endpoint = next(each for each in self.source.endpoints if each.action == "generate")
        rest = path.partition("/models/")[2]
        route = self.source.route(endpoint=endpoint, rest=rest, query=parse_qsl(query), headers={})
        return self.source.parse(body=body, route=route)

    async def converted(self, request: Any, way: Way) -> Converted:
        """Return *request* as a provider is asked."""
        return await self.conversions.converted(
            request, source=self.source, provider=way.provider, model="m", caller="c"
        )

    def answer(self) -> MemoryResponse:
        """Return what whoever is up answers."""
        return MemoryResponse(200, STREAM, Asked(self.upstream, "a", True).frames())


class CircuitTests(SynchronousTestCase):
    """60 requests in 80 seconds before a primary that is up for the last 20."""

    def test_it_has_the_fault(self) -> None:
        """What the catalogue does not play itself is played here."""
        self.assertEqual(__name__, ELSEWHERE["flapping"])

    def test_every_pair(self) -> None:
        """All are answered in full; the account rests, is tried by one at a time, and returns."""
        pairs = itertools.product(SPEAKERS, SPEAKERS)
        ways = itertools.product(pairs, HOW) if LONG else zip(pairs, itertools.cycle(HOW))
        for (client, upstream), how in ways:
            clock, number = Clock(), itertools.count()
            flapping = Paired(clock, how, client, upstream)
            for _ in range(int(PERIOD / EACH)):
                for _ in range(BURST):
                    flapping.ask(next(number))
                for _ in range(int(EACH / 0.25)):
                    clock.advance(0.25)
            clock.pump([0.5] * 20)
            try:
                self.judge(flapping)
            except AssertionError as wrong:
                self.fail(f"{client} before {upstream}, {how}: {wrong}")

    def judge(self, flapping: Paired) -> None:
        """See that nobody was told, and how often the primary was asked."""
        self.assertEqual(BURST * PERIOD / EACH, len(flapping.served))
        text = "".join(answer("a").pieces)
        for each in flapping.served:
            view = reading.stream(flapping.client, each.body)
            self.assertEqual((200, text, None), (each.status, view.text, view.error))
            self.assertTrue(view.ended)
            self.assertLess(each.took, 10.0)
        self.assertEqual({"fallback"}, {each.who for each in flapping.served if each.at < DOWN})
        self.opens(flapping)
        self.closes(flapping)

    def opens(self, flapping: Paired) -> None:
        """While it is down it is asked by the first burst, then by one try at a time."""
        wasted = [at for at, down in flapping.attempts if down]
        # Each of the first may ask it twice: they come before anybody knows.
        first = [at for at in wasted if at < EACH]
        self.assertLessEqual(len(first), 2 * BURST)
        self.assertGreaterEqual(len(first), Law().faults)
        tries = wasted[len(first) :]
        self.assertTrue(tries)
        rest = PACES[Kind.UPSTREAM_FAULT]
        for before, after in itertools.pairwise([first[-1], *tries]):
            gap = after - before
            # A try may be asked a second time, within the second.
            self.assertTrue(gap <= 1.0 + LATENCY or gap >= rest.first, f"{gap} s")
        bursts = Counter(int(at // EACH) for at in tries)
        self.assertLessEqual(max(bursts.values()), 2)
        self.assertLess(len(tries), 20)

    def closes(self, flapping: Paired) -> None:
        """Once it is up one request tries it, and then all go there."""
        back = [each for each in flapping.served if each.who == "primary"]
        self.assertTrue(back, "the primary never came back into use")
        begun = min(each.at for each in back)
        self.assertLess(begun - DOWN, 30.0)
        burst = [each for each in flapping.served if each.at == begun]
        self.assertEqual(["fallback", "fallback", "primary"], sorted(each.who for each in burst))
        later = {each.who for each in flapping.served if each.at > begun}
        self.assertEqual({"primary"}, later)
