"""The store in memory: the contract of all stores, and that it lets go of what expired."""

from __future__ import annotations

import sys

from twisted.trial.unittest import TestCase

from aiclient2api.state.memory import MemoryStore
from tests.state_contract import StoreContract


class MemoryStoreTests(StoreContract, TestCase):
    """`MemoryStore`."""

    def made(self) -> MemoryStore:
        """Return a store that was not started."""
        return MemoryStore(clock=self.clock, now=self.clock.seconds)

    async def test_what_expired_takes_no_memory(self) -> None:
        """Within a minute, though nobody asks for it."""
        short, long = bytes(1000), bytes(1001)
        before = sys.getrefcount(short), sys.getrefcount(long)
        self.put("a", short, ttl=10)
        self.put("b", long, ttl=1000)
        self.clock.advance(60)
        self.assertEqual(sys.getrefcount(short), before[0])
        self.assertGreater(sys.getrefcount(long), before[1])
        await self.store.close()
        self.assertEqual(sys.getrefcount(long), before[1])

    async def test_it_leaves_no_timer(self) -> None:
        """A store that is closed waits for nothing."""
        await self.store.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
