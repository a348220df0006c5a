"""Conversations and their accounts: remembered for a time, within bounds."""

from __future__ import annotations

import random
from collections import Counter

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.accounts.affinity import Affinities
from aiclient2api.accounts.pool import AccountPool, Rules
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.interfaces import ILease
from aiclient2api.values import Account, Affinity


class AffinitiesTests(SynchronousTestCase):
    """The table."""

    def test_the_surest_name_wins(self) -> None:
        """Names are looked for in their order."""
        known = Affinities(ttl=60.0, size=10)
        known.bind(["session:x"], "a", 0.0)
        known.bind(["begin:y"], "b", 0.0)
        self.assertEqual(known.find(["session:x", "begin:y"], 1.0), ("a", "session:x"))
        self.assertEqual(known.find(["session:z", "begin:y"], 1.0), ("b", "begin:y"))
        self.assertIsNone(known.find(["session:z"], 1.0))

    def test_it_expires_when_it_is_not_used(self) -> None:
        """Each turn makes it last anew."""
        known = Affinities(ttl=60.0, size=10)
        known.bind(["x"], "a", 0.0)
        for now in (50.0, 100.0, 150.0):
            self.assertEqual(known.find(["x"], now), ("a", "x"))
        self.assertIsNone(known.find(["x"], 211.0))
        self.assertEqual(len(known), 0)

    def test_it_is_bounded(self) -> None:
        """Those that were not used for longest go first."""
        known = Affinities(ttl=60.0, size=3)
        for number, name in enumerate("wxy"):
            known.bind([name], name.upper(), float(number))
        known.find(["w"], 3.0)
        known.bind(["z"], "Z", 4.0)
        found = [known.find([name], 5.0) for name in "wxyz"]
        self.assertEqual(found, [("W", "w"), None, ("Y", "y"), ("Z", "z")])
        known.limit(ttl=60.0, size=1)
        self.assertEqual(len(known), 1)

    def test_zero_seconds_remember_nothing(self) -> None:
        """Switched off, also while running."""
        known = Affinities(ttl=60.0, size=3)
        known.bind(["x"], "a", 0.0)
        known.limit(ttl=0.0, size=3)
        known.bind(["y"], "a", 0.0)
        self.assertEqual([known.find([name], 0.0) for name in "xy"], [None, None])

    def test_no_name_is_kept(self) -> None:
        """Of what a client calls its conversation, or how that begins, a digest is all."""
        known = Affinities(ttl=60.0, size=3)
        known.bind(["session:canary \ud83d"], "a", 0.0)
        self.assertNotIn("canary", repr(vars(known)))

    def test_a_clock_set_back_does_not_make_it_last(self) -> None:
        """An entry of the future is none."""
        known = Affinities(ttl=60.0, size=3)
        known.bind(["x"], "a", 1e6)
        self.assertIsNone(known.find(["x"], 10.0))


class ConversationsTests(SynchronousTestCase):
    """A thousand conversations over four accounts."""

    def test_they_stay_and_they_spread(self) -> None:
        """99.5 % of the turns stay while all is well, and the load differs by 10 % at most."""
        for seed in range(3):
            stayed, turns, load = self.play(random.Random(seed), faults=0)
            self.assertGreater(turns, 5_000)
            self.assertGreaterEqual(stayed / turns, 0.995)
            mean = sum(load.values()) / len(load)
            self.assertLessEqual(max(abs(each - mean) for each in load.values()) / mean, 0.10)

    def test_they_move_only_when_they_have_to(self) -> None:
        """With accounts that fail now and then, nearly all turns stay all the same."""
        stayed, turns, _ = self.play(random.Random(7), faults=20)
        self.assertGreaterEqual(stayed / turns, 0.9)

    def play(self, chance: random.Random, faults: int) -> tuple[int, int, Counter[str]]:
        """
        Hold 1,000 conversations of 1 to 20 turns, many at a time.

        :return: Later turns that went where the one before went, later turns, and the load.
        """
        clock = Clock()
        pool = AccountPool(
            "p",
            clock=clock,
            now=lambda: 1.79e9 + clock.seconds(),
            jitter=lambda: 0.0,
            affinities=Affinities(ttl=3600.0, size=10_000),
        )
        pool.adopt([Account(provider="p", id=f"a{n}", settings=None) for n in range(4)], Rules())
        left = {f"begin:{n}": chance.randint(1, 20) for n in range(1000)}
        last: dict[str, str] = {}
        load: Counter[str] = Counter()
        stayed = turns = 0
        under_way: list[ILease] = []
        failing = set(chance.sample(range(8000), faults))
        for step in range(sum(left.values())):
            name = chance.choice(list(left)[:40])
            first = name not in last
            affinity = Affinity(find=() if first else (name,), bind=(name,))
            lease = self.successResultOf(pool.acquire(model="m", affinity=affinity))
            id = lease.account.id
            load[id] += 1
            if not first:
                turns += 1
                stayed += last[name] == id
            last[name] = id
            left[name] -= 1
            if not left[name]:
                del left[name]
            under_way.append(lease)
            if len(under_way) > 8:
                done = under_way.pop(chance.randrange(len(under_way)))
                if step in failing:
                    done.failed(
                        error=UpstreamError(
                            "no", fault=Fault.RATE_LIMIT, status=429, retry_after=10.0
                        )
                    )
                else:
                    done.succeeded(usage=None)
            clock.advance(0.5)
        for lease in under_way:
            lease.abandoned()
        clock.advance(0)
        return stayed, turns, load
