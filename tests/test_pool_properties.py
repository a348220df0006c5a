"""
What no schedule of faults, hints, restarts and jumps of the clock makes a pool do.

A model of the pool, so simple that it looks at every account each time, is driven by the
same law as the real one; whatever the real one leases, the model must allow.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.accounts.account import LONGEST_REST, Event, Kind, Law
from aiclient2api.accounts.affinity import Affinities
from aiclient2api.accounts.leases import Lease
from aiclient2api.accounts.lines import STRATEGIES, Member, serves
from aiclient2api.accounts.pool import AccountPool, Rules
from aiclient2api.errors import Fault, GatewayError, UpstreamError
from aiclient2api.interfaces import ILease
from aiclient2api.values import Account, Affinity, Usage

SCHEDULES = 100_000 if os.environ.get("AICLIENT2API_LONG") else 2_000
STEPS = 25
SEED = 20261127
MODELS = ("m1", "m2", "m3")
FAULTS = tuple(Fault)
HINTS = (None, None, None, 0.0, 0.5, 3.0, 40.0, 700.0, 5e4, 1.6e6, float("inf"))


class Kept:
    """A keeper that writes at once, as a disk that never fails would."""

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}

    def mark(self, provider: str, id: str, encode: Callable[[], bytes]) -> None:
        self.written[id] = encode()

    def now(self, provider: str, id: str, value: bytes) -> None:
        self.written[id] = value


@attrs.define(eq=False)
class Use:
    """A lease under way; *tried* holds what the exchange it is of has leased before."""

    lease: Lease
    tried: set[str]


class Schedule:
    """One random life of one pool."""

    def __init__(self, test: SynchronousTestCase, seed: int) -> None:
        self.test = test
        self.chance = random.Random(seed)
        self.clock = Clock()
        self.time = 1.79e9
        self.kept = Kept()
        chance = self.chance
        self.law = Law(faults=chance.choice((0, 1, 3)))
        self.rules = Rules(
            strategy=chance.choice(tuple(STRATEGIES)),
            law=self.law,
            queue_seconds=chance.choice((0.5, 30.0)),
        )
        self.accounts = [self.account(n) for n in range(chance.randint(1, 6))]
        self.out: list[Account] = []
        self.uses: list[Use] = []
        self.waiting: list[tuple[Deferred[ILease], set[str]]] = []
        self.served = 0
        self.open()

    def account(self, number: int) -> Account:
        chance = self.chance
        return Account(
            provider="p",
            id=f"a{number}",
            settings=None,
            supported=chance.choice(((), (), ("m1",), ("m1", "m2"))),
            unsupported=chance.choice(((), (), ("m2",))),
            priority=chance.choice((0, 0, 1)),
            weight=chance.choice((1, 3)),
            concurrency=chance.choice((0, 0, 1, 2)),
            queue=chance.choice((0, 2)),
            disabled=chance.random() < 0.05,
        )

    def open(self) -> None:
        """Start the process, or start it again."""
        self.pool = AccountPool(
            "p",
            clock=self.clock,
            now=lambda: self.time,
            jitter=lambda: 0.0,
            affinities=Affinities(ttl=60.0, size=5),
            keeper=self.kept,
        )
        self.pool.open_later()
        self.pool.adopt(self.accounts, self.rules)
        self.pool.restore(dict(self.kept.written))

    def run(self) -> None:
        """Live, and be judged at every step."""
        for _ in range(STEPS):
            step = self.chance.choices(
                (self.ask, self.end, self.wait, self.jump, self.restart, self.edit),
                (10, 8, 4, 0.3, 0.4, 0.4),
            )[0]
            step()
            self.judge()
        self.settle()

    # --- what happens

    def ask(self, tried: set[str] | None = None) -> None:
        """Ask for an account, perhaps with some patience."""
        tried = set() if tried is None else tried
        model = self.chance.choice(MODELS)
        before = self.allowed(model, tried)
        names = (f"c{self.chance.randrange(4)}",)
        affinity = self.chance.choice((None, Affinity(find=names, bind=names)))
        wait = self.chance.choice((0.0, 0.0, 20.0))
        asking = self.pool.acquire(model=model, exclude=tried, affinity=affinity, wait=wait)
        self.waiting.append((asking, tried))
        if asking.called and isinstance(asking.result, Lease):
            self.test.assertIn(asking.result.account.id, before, "leased against the law")
        self.gather()
        if asking.called:
            return
        # Who waits does so because nobody was free.
        self.test.assertEqual(self.allowed(model, tried), set())

    def gather(self) -> None:
        """Take what those who waited were given."""
        for entry in tuple(self.waiting):
            asking, tried = entry
            if not asking.called:
                continue
            self.waiting.remove(entry)
            outcome: list[object] = []
            asking.addBoth(outcome.append)
            lease = outcome[0]
            if isinstance(lease, Lease):
                self.test.assertNotIn(lease.account.id, tried, "picked twice in one exchange")
                self.uses.append(Use(lease, tried | {lease.account.id}))
                self.served += 1
            else:
                failure = lease
                self.test.assertTrue(failure.check(GatewayError), failure)  # type: ignore[attr-defined]

    def end(self) -> None:
        """End a lease, in one way or another; perhaps go on to another account."""
        if not self.uses:
            return
        use = self.uses.pop(self.chance.randrange(len(self.uses)))
        how = self.chance.random()
        if how < 0.2:
            use.lease.answered()
        if how < 0.35:
            use.lease.succeeded(Usage(input=3, output=1))
        elif how < 0.45:
            use.lease.abandoned()
        else:
            fault = self.chance.choice(FAULTS)
            use.lease.failed(
                UpstreamError(
                    "no",
                    fault=fault,
                    status=500,
                    retry_after=self.chance.choice(HINTS),
                    of_model=self.chance.choice((None, None, True, False)),
                )
            )
            if self.chance.random() < 0.5:
                self.ask(use.tried)

    def wait(self) -> None:
        """Let time pass."""
        seconds = self.chance.choice((0.01, 1.0, 7.0, 100.0, 2_000.0, 5_000.0))
        self.time += seconds
        self.clock.advance(seconds)
        self.gather()

    def jump(self) -> None:
        """Set the clock, forward or back, by up to a year."""
        self.time += self.chance.choice((-3e7, -4_000.0, -30.0, 30.0, 4_000.0, 3e7))

    def restart(self) -> None:
        """Kill the process: what was under way is gone, what was written is there."""
        for asking, _ in self.waiting:
            asking.addErrback(lambda _: None)
            asking.cancel()
        self.waiting, self.uses = [], []
        self.clock = Clock()
        self.open()

    def edit(self) -> None:
        """Change the configuration."""
        at = self.chance.randrange(len(self.accounts))
        what = self.chance.random()
        if what < 0.2 and len(self.accounts) > 1:
            self.out.append(self.accounts.pop(at))
        elif what < 0.4 and self.out:
            self.accounts.insert(at, self.out.pop())
        elif what < 0.5:
            strategy = self.chance.choice(tuple(STRATEGIES))
            self.rules = attrs.evolve(self.rules, strategy=strategy)
        else:
            self.accounts[at] = self.account(int(self.accounts[at].id[1:]))
        self.pool.adopt(self.accounts, self.rules)
        self.clock.advance(0)
        self.gather()

    # --- what must hold

    def members(self) -> list[Member]:
        return list(self.pool._roster)

    def allowed(self, model: str, tried: set[str]) -> set[str]:
        """Return whom the model would lease."""
        self.pool._roster.now()
        found = set()
        for member in self.members():
            opens = member.opens_at(model)
            free = opens is not None and opens <= self.time and not member.busy
            if free and serves(member.account, model) and member.account.id not in tried:
                found.add(member.account.id)
        return found

    def judge(self) -> None:
        """See that nothing is as it may not be."""
        self.clock.advance(0)
        self.gather()
        test, pool = self.test, self.pool
        for model in MODELS:
            for tried in (set(), {"a0"}):
                allowed = self.allowed(model, tried)
                test.assertEqual(pool.ready(model=model, exclude=tried), bool(allowed))
        active = {member.account.id: 0 for member in self.members()}
        for use in self.uses:
            if use.lease.account.id in active:
                active[use.lease.account.id] += 1
        for member in self.members():
            test.assertEqual(member.active, active[member.account.id])
            limit = member.account.concurrency
            opens = member.state.opens_at
            if opens is not None and member.state.rests:
                test.assertLessEqual(opens - max(self.time, member.state.since), LONGEST_REST)
            if limit and not any(
                use.lease.member is member and use.lease.account.concurrency != limit
                for use in self.uses
            ):
                test.assertLessEqual(member.active, limit)
        # A try is alone: at most one lease of this generation on an account under trial.
        for member in self.members():
            if member.state.passing:
                trying = [
                    use
                    for use in self.uses
                    if use.lease.member is member
                    and use.lease.generation == member.state.generation
                ]
                test.assertLessEqual(len(trying), 1)

    def settle(self) -> None:
        """In the end everybody can be leased who is not switched off."""
        for use in self.uses:
            use.lease.abandoned()
        self.uses = []
        self.time = max(self.time, max(member.state.since for member in self.members()))
        self.time += LONGEST_REST + 1
        self.clock.advance(LONGEST_REST + 1)
        self.gather()
        for use in self.uses:
            use.lease.abandoned()
        for member in self.members():
            if not member.account.disabled:
                opens = member.state.opens_at
                assert opens is not None, member
                self.test.assertLessEqual(opens, self.time, member)
        self.clock.advance(100)
        self.test.assertEqual(self.waiting, [])


class PoolPropertiesTests(SynchronousTestCase):
    """Random schedules, each judged after every step."""

    def test_schedules(self) -> None:
        """
        No account is stranded past its bound or called while it rests, none is tried by
        two at a time, and none is leased twice in one exchange.
        """
        served = 0
        for number in range(SCHEDULES):
            schedule = Schedule(self, SEED + number)
            try:
                schedule.run()
            except Exception:
                print(f"schedule {SEED + number}")
                raise
            served += schedule.served
        self.assertGreater(served, SCHEDULES * 3)

    def test_the_judge_sees_a_wrong_lease(self) -> None:
        """A pool that leased somebody who rests would be caught."""
        schedule = Schedule(self, SEED)
        member = schedule.members()[0]
        schedule.pool._roster.happen(member, Event(Kind.OUT_OF_QUOTA, hint=1e6), schedule.time)
        schedule.pool._roster.field._of[member]._usual.by_strategy.push(member)
        member.state = attrs.evolve(member.state, next_try=schedule.time + 9 * LONGEST_REST)
        self.assertRaises(self.failureException, schedule.judge)
