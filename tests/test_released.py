"""What an exchange leaves in memory when it is over: neither its request nor its answer."""

from __future__ import annotations

import gc
from collections import Counter

from aiclient2api.testing import MemoryResponse
from tests.test_failover import SSE, STREAM, FailoverCase, refusal, well

LARGE = ("ChatRequest", "Converted", "Exchange", "Asking", "Watcher")


class ReleasedTests(FailoverCase):
    """Exchanges, without any collection of garbage."""

    def left(self, *answers: MemoryResponse) -> Counter[str]:
        """Return what is there once more after an exchange than before it."""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        before = self.count()
        self.successResultOf(self.exchange(self.way("one", answers, accounts=2)))
        for name in ("record", "reply", "observer", "upstreams", "pools"):
            delattr(self, name)
        return self.count() - before

    def count(self) -> Counter[str]:
        """Count what may be large."""
        names = Counter(type(each).__name__ for each in gc.get_objects())
        return Counter({name: names[name] for name in LARGE})

    def test_an_answer(self) -> None:
        """Large ones would stay for a hundred more exchanges, until garbage is collected."""
        self.assertEqual(Counter(), self.left(well()))

    def test_a_failover(self) -> None:
        """The same, if another account had failed before."""
        self.assertEqual(Counter(), self.left(refusal(401), well()))

    def test_a_stream_without_an_end(self) -> None:
        """The same, if the client was told that it broke off."""
        self.assertEqual(Counter(), self.left(MemoryResponse(200, SSE, [STREAM[:-200]])))
