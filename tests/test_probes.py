"""Probes: who is asked, when, with which model, and what comes of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.interfaces import ILease, IProvider
from aiclient2api.probes import AGAIN, HOLD, MOST, PATIENCE, Probes
from aiclient2api.testing import FixedLease
from aiclient2api.values import Account, Usage


@attrs.frozen
class Rules:
    """See `ProbeRules`."""

    mode: str = "passive"
    model: str | None = None
    interval: float = 600.0
    jitter: float = 0.0
    providers: tuple[str, ...] | None = None
    at_start: bool = False


@attrs.define
class DuePool:
    """
    The part of a pool that is probed.

    :ivar resting: Ids of accounts that rest, and may be tried.
    :ivar closed: Ids of accounts, and models, that are not leased.
    :ivar leases: By account id, the last one of each.
    """

    accounts: Sequence[Account]
    resting: Collection[str] = ()
    closed: Collection[str] = ()
    answered: dict[str, str] = attrs.field(factory=dict)
    leases: dict[str, FixedLease] = attrs.field(factory=dict)
    offered: list[tuple[str, str]] = attrs.field(factory=list)

    def snapshot(self) -> Sequence[Account]:
        """Return the accounts."""
        return self.accounts

    def due(self) -> Sequence[str]:
        """Return those that rest."""
        return tuple(self.resting)

    def last_model(self, *, id: str) -> str | None:
        """Return what the test says."""
        return self.answered.get(id)

    def probe(self, *, id: str, model: str) -> ILease | None:
        """Lease it, unless it is closed."""
        self.offered.append((id, model))
        if id in self.closed or model in self.closed:
            return None
        last = self.leases.get(id)
        assert last is None or last.end is not None, f"{id} is probed twice at a time."
        lease = self.leases[id] = FixedLease(
            next(account for account in self.accounts if account.id == id)
        )
        return lease

    def ends(self) -> dict[str, str | None]:
        """Return how the last lease of each account ended."""
        return {id: lease.end and lease.end[0] for id, lease in self.leases.items()}


@attrs.frozen
class Named:
    """The part of a provider that probes look at."""

    name: str
    known_models: tuple[str, ...] = ("known-model",)


@attrs.frozen
class Target:
    """A provider and its pool."""

    provider: Any
    pool: Any


@attrs.define(eq=False)
class Asked:
    """A probe under way: who is asked, for what, and the answer to come."""

    provider: str
    account: str
    model: str
    at: float
    cancelled: bool = False
    answer: Deferred[Usage | None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.answer = Deferred(self._cancel)

    def _cancel(self, _: object) -> None:
        self.cancelled = True


def account(id: str, provider: str = "p", **fields: Any) -> Account:
    """Return an account."""
    return Account(provider=provider, id=id, settings=None, **fields)


def error(fault: Fault = Fault.RATE_LIMIT, **fields: Any) -> UpstreamError:
    """Return what went wrong."""
    return UpstreamError("The upstream is out of order.", fault=fault, status=500, **fields)


class ProbesTests(SynchronousTestCase):
    """`Probes` over pools that do as the test says."""

    def setUp(self) -> None:
        """Have a clock, chance that is none, and passive rules."""
        self.clock = Clock()
        self.chance: list[float] = []
        self.rules = Rules()
        self.asked: list[Asked] = []
        self.targets: list[Target] = []

    def pool(self, *accounts: Account, models: tuple[str, ...] = ("known-model",)) -> DuePool:
        """Add a provider with these accounts, all of them resting and due."""
        pool = DuePool(accounts, resting={each.id for each in accounts})
        self.targets.append(Target(Named(accounts[0].provider, models), pool))
        return pool

    def begin(self) -> Probes:
        """Start probing."""
        probes = Probes(
            clock=self.clock,
            jitter=lambda: self.chance.pop(0) if self.chance else 0.5,
            targets=lambda: self.targets,
            ask=self._ask,
            rules=lambda: self.rules,
        )
        probes.start()
        self.addCleanup(probes.stop)
        return probes

    def _ask(self, provider: IProvider, account: Account, model: str) -> Deferred[Usage | None]:
        asked = Asked(provider.name, account.id, model, self.clock.seconds())
        self.asked.append(asked)
        return asked.answer

    def who(self) -> list[str]:
        """Return whom was asked so far, in order."""
        return [each.account for each in self.asked]

    def answer_all(self) -> None:
        """Let every probe that is under way go well."""
        for each in self.asked:
            if not each.answer.called:
                each.answer.callback(None)

    def run_for(self, seconds: int) -> None:
        """Let time pass, and every probe go well at once."""
        for _ in range(seconds):
            self.clock.advance(1)
            self.answer_all()

    # --- who --------------------------------------------------------------------

    def test_off_is_nobody(self) -> None:
        """However long they rest."""
        self.rules = Rules(mode="off")
        self.pool(account("a"))
        self.begin()
        self.run_for(5)
        self.assertEqual(self.who(), [])

    def test_passive_is_those_that_rest_and_may_be_tried(self) -> None:
        """Within a second of that moment, and nobody who is well."""
        pool = self.pool(account("a"), account("b"))
        pool.resting = ()
        self.begin()
        self.run_for(2000)
        self.assertEqual(self.who(), [])
        pool.resting = {"b"}
        self.clock.advance(1)
        self.assertEqual(self.who(), ["b"])

    def test_scheduled_is_everybody_again_and_again(self) -> None:
        """Once an interval each."""
        self.rules = Rules(mode="scheduled", interval=100)
        pool = self.pool(account("a"), account("b"))
        pool.resting = ()
        self.begin()
        self.run_for(1000)
        for id in ("a", "b"):
            times = [each.at for each in self.asked if each.account == id]
            self.assertEqual(times, [100.0 * each for each in range(1, 11)])

    def test_scheduled_tries_those_that_rest_as_passive_does(self) -> None:
        """At once, when their time has come."""
        self.rules = Rules(mode="scheduled", interval=1000)
        self.pool(account("a"))
        self.begin()
        self.assertEqual(self.who(), ["a"])

    def test_an_account_may_forbid_it(self) -> None:
        """checkHealth: false is never, whatever the mode."""
        self.rules = Rules(mode="scheduled", interval=10)
        pool = self.pool(account("a", check_health=False), account("b", check_health=False))
        pool.resting = {"a"}
        self.begin()
        self.run_for(100)
        self.assertEqual(self.who(), [])

    def test_an_account_may_want_it(self) -> None:
        """checkHealth: true is scheduled, whatever the mode."""
        for mode in ("off", "passive"):
            self.rules = Rules(mode=mode, interval=10)
            self.targets, self.asked = [], []
            pool = self.pool(account("a", check_health=True), account("b"))
            pool.resting = ()
            probes = self.begin()
            self.run_for(40)
            self.assertEqual(set(self.who()), {"a"}, mode)
            self.assertGreaterEqual(len(self.asked), 3)
            pool.resting = {"a"}
            self.clock.advance(1)
            self.assertEqual(self.asked[-1].at, self.clock.seconds())
            probes.stop()

    def test_a_schedule_may_be_for_some_providers(self) -> None:
        """The others are passive then."""
        self.rules = Rules(mode="scheduled", interval=10, providers=("p",))
        first, second = self.pool(account("a")), self.pool(account("b", "q"))
        first.resting = second.resting = ()
        self.begin()
        self.run_for(30)
        self.assertEqual(set(self.who()), {"a"})
        second.resting = {"b"}
        self.clock.advance(1)
        self.assertIn("b", self.who())

    def test_a_schedule_for_no_provider_is_for_none(self) -> None:
        """An empty list is not all."""
        self.rules = Rules(mode="scheduled", interval=10, providers=())
        self.pool(account("a")).resting = ()
        self.begin()
        self.run_for(30)
        self.assertEqual(self.who(), [])

    # --- when -------------------------------------------------------------------

    def test_accounts_are_not_probed_all_at_once(self) -> None:
        """The first probe comes by chance within half to one and a half intervals."""
        self.rules = Rules(mode="scheduled", interval=100)
        self.chance = [0.0, 0.5, 0.99]
        self.pool(account("a"), account("b"), account("c")).resting = ()
        self.begin()
        self.run_for(160)
        first = {each.account: each.at for each in reversed(self.asked)}
        self.assertEqual(first, {"a": 50.0, "b": 100.0, "c": 149.0})

    def test_chance_makes_an_interval_longer(self) -> None:
        """By the jitter that is configured."""
        self.rules = Rules(mode="scheduled", interval=100, jitter=20)
        self.pool(account("a")).resting = ()
        self.begin()
        self.run_for(400)
        self.assertEqual([each.at for each in self.asked], [100.0, 210.0, 320.0])

    def test_a_schedule_may_begin_at_once(self) -> None:
        """Only then is anybody asked at the start; later ones are spread as ever."""
        self.rules = Rules(mode="scheduled", interval=100, at_start=True)
        pool = self.pool(account("a"))
        pool.resting = ()
        self.begin()
        self.answer_all()
        pool.accounts = (account("a"), account("b"))
        self.run_for(199)
        told = [(each.account, each.at) for each in self.asked]
        self.assertEqual(told, [("a", 0.0), ("a", 100.0), ("b", 101.0)])

    def test_a_start_is_not_missed(self) -> None:
        """Accounts that could not yet be leased are asked a little later."""
        self.rules = Rules(mode="scheduled", interval=100, at_start=True)
        pool = self.pool(account("a"))
        pool.resting, pool.closed = (), {"a"}
        self.begin()
        pool.closed = ()
        self.run_for(int(AGAIN))
        self.assertEqual([each.at for each in self.asked], [AGAIN])

    def test_new_rules_hold_at_once(self) -> None:
        """A reload with a shorter interval is not heeded an old interval later."""
        self.rules = Rules(mode="scheduled", interval=10_000)
        self.pool(account("a")).resting = ()
        self.begin()
        self.run_for(10)
        self.rules = Rules(mode="scheduled", interval=10)
        self.run_for(16)
        self.assertEqual(self.who(), ["a"])
        self.rules = Rules(mode="off")
        self.run_for(100)
        self.assertEqual(self.who(), ["a"])

    def test_an_account_is_probed_by_one_probe_at_a_time(self) -> None:
        """The next one waits for its end, also where the pool would lease it."""
        pool = self.pool(account("a"))
        self.begin()
        self.clock.pump([1] * 5)
        self.assertEqual(self.who(), ["a"])
        self.answer_all()
        self.clock.advance(1)
        self.assertEqual(self.who(), ["a", "a"])
        self.assertEqual(len(pool.leases), 1)

    def test_few_are_at_work_at_once(self) -> None:
        """Over all providers; the others wait for one to end."""
        self.pool(*(account(f"a{each}") for each in range(MOST)))
        self.pool(account("b", "q"))
        probes = self.begin()
        self.clock.pump([1] * 3)
        self.assertEqual((len(self.asked), probes.running), (MOST, MOST))
        self.asked[0].answer.callback(None)
        self.clock.advance(1)
        self.assertEqual(self.who()[-1], "b")
        self.assertEqual(probes.running, MOST)

    def test_who_was_tried_longest_ago_is_first(self) -> None:
        """Many that never answer must not keep others from being tried."""
        self.pool(*(account(f"a{each}") for each in range(10)))
        self.begin()
        self.clock.advance(1)
        self.answer_all()
        for _ in range(2):
            self.clock.advance(1)
            self.answer_all()
        self.assertEqual(set(self.who()), {f"a{each}" for each in range(10)})

    def test_those_that_rest_go_before_those_that_are_well(self) -> None:
        """They are what users wait for."""
        self.rules = Rules(mode="scheduled", interval=100, at_start=True)
        self.pool(*(account(f"a{each}") for each in range(10))).resting = ()
        self.pool(account("b", "q"))
        self.begin()
        self.assertEqual(self.who()[0], "b")

    def test_two_providers_may_have_an_account_of_the_same_id(self) -> None:
        """They are two accounts."""
        self.pool(account("a"))
        self.pool(account("a", "q"))
        self.begin()
        self.assertEqual([each.provider for each in self.asked], ["p", "q"])

    # --- which model ------------------------------------------------------------

    def model_for(
        self, of: Account, *, answered: str | None = None, models: Iterable[str] = ("known-model",)
    ) -> str | None:
        """Return the model that an account is probed with, None if it is not."""
        self.targets, self.asked = [], []
        pool = self.pool(of, models=tuple(models))
        if answered:
            pool.answered[of.id] = answered
        self.begin().stop()
        return self.asked[0].model if self.asked else None

    def test_the_model_that_fits_best(self) -> None:
        """The account's own, the rules', one it is said to serve, its last, a known one."""
        self.assertEqual(self.model_for(account("a")), "known-model")
        self.assertEqual(self.model_for(account("a"), answered="last"), "last")
        some = account("a", supported=("s1", "s2"))
        self.assertEqual(self.model_for(some, answered="s2"), "s1")
        self.rules = Rules(model="m")
        self.assertEqual(self.model_for(account("a"), answered="last"), "m")
        self.assertEqual(self.model_for(account("a", check_model="own")), "own")

    def test_no_model_that_the_account_does_not_serve(self) -> None:
        """What is meant for another provider's accounts is passed by."""
        self.rules = Rules(model="m")
        self.assertEqual(self.model_for(account("a", supported=("s",))), "s")
        self.assertEqual(self.model_for(account("a", unsupported=("m",))), "known-model")
        found = self.model_for(account("a", unsupported=("m", "k1")), models=("k1", "k2"))
        self.assertEqual(found, "k2")

    def test_a_model_that_rests_is_not_asked_for(self) -> None:
        """Another one is, if the account has any."""
        self.rules = Rules(model="m")
        pool = self.pool(account("a"))
        pool.closed = {"m"}
        self.begin()
        self.assertEqual(self.asked[0].model, "known-model")
        self.assertEqual(pool.offered, [("a", "m"), ("a", "known-model")])

    def test_without_a_model_nobody_is_asked(self) -> None:
        """That is said once, with a remedy; others are probed all the same."""
        pool = self.pool(account("a", name="main"), account("b", check_model="m"), models=())
        with capturedLogs() as events:
            self.begin()
            self.run_for(int(3 * HOLD))
        self.assertEqual(set(self.who()), {"b"})
        self.assertNotIn("a", pool.leases)
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                "Account main of p cannot be probed: no model of it is known. Name one as its "
                "checkModelName, or in supportedModels."
            ],
        )

    # --- what comes of it -------------------------------------------------------

    def probed(self) -> tuple[DuePool, Asked]:
        """Return a pool with one account that is being probed, and the probe."""
        pool = self.pool(account("a"))
        self.begin()
        return pool, self.asked[0]

    def end(self, pool: DuePool) -> Any:
        """Return how the lease of the account ended."""
        return pool.leases["a"].end

    def test_an_answer_ends_the_lease_well(self) -> None:
        """With the tokens it took."""
        pool, asked = self.probed()
        usage = Usage(input=8, output=1)
        asked.answer.callback(usage)
        self.assertEqual(self.end(pool), ("succeeded", usage))

    def test_an_error_is_the_pool_s_to_judge(self) -> None:
        """It is given what a real request would have given it."""
        pool, asked = self.probed()
        why = error()
        asked.answer.errback(why)
        self.assertEqual(self.end(pool), ("failed", why))

    def test_silence_is_an_error_and_the_connection_is_closed(self) -> None:
        """After fifteen seconds."""
        pool, asked = self.probed()
        pool.resting = ()
        self.clock.advance(PATIENCE - 0.1)
        self.assertFalse(asked.cancelled)
        self.clock.advance(0.1)
        self.assertTrue(asked.cancelled)
        how, why = self.end(pool)
        self.assertEqual((how, why.fault, why.code), ("failed", Fault.TIMEOUT, "probe_timeout"))

    def test_a_model_that_is_not_there_is_told_once(self) -> None:
        """The operator may have named another provider's."""
        pool, asked = self.probed()
        with capturedLogs() as events:
            asked.answer.errback(error(Fault.NOT_FOUND))
            self.clock.advance(1)
            self.asked[-1].answer.errback(error(Fault.NOT_FOUND))
        self.assertEqual(len(self.asked), 2)
        self.assertEqual(self.end(pool)[0], "failed")
        lines = [str(formatEvent(event)) for event in events]
        self.assertEqual(len(lines), 1)
        self.assertIn("model known-model, and there is no such model", lines[0])

    def test_a_provider_that_cannot_be_asked_is_told_once(self) -> None:
        """The account did nothing wrong, and is left alone for a while."""
        pool, asked = self.probed()
        with capturedLogs() as events:
            asked.answer.errback(InvalidRequest("p has no such call."))
            self.clock.pump([1] * int(HOLD - 1))
            self.assertEqual(len(self.asked), 1)
            self.clock.advance(1)
            self.asked[-1].answer.errback(InvalidRequest("p has no such call."))
        self.assertEqual((len(self.asked), self.end(pool)[0]), (2, "abandoned"))
        lines = [str(formatEvent(event)) for event in events]
        self.assertEqual(lines, ["Account a of p cannot be probed: p has no such call."])

    def test_a_bug_of_ours_is_nobody_s_fault(self) -> None:
        """It is logged without its words, and the account left alone for a while."""
        for bug in (ValueError("a secret"), error(Fault.SERVER, code="gateway_bug")):
            self.targets, self.asked = [], []
            pool = self.pool(account("a"))
            probes = self.begin()
            asked = self.asked[0]
            with capturedLogs() as events:
                asked.answer.errback(bug)
                self.clock.pump([1] * int(HOLD - 1))
            self.assertEqual((len(self.asked), self.end(pool)[0]), (1, "abandoned"))
            lines = [str(formatEvent(event)) for event in events]
            kind = type(bug).__name__
            self.assertEqual(lines, [f"A probe of account a of p failed: {kind}. This is a bug."])
            probes.stop()

    def test_a_question_that_raises_is_a_bug_too(self) -> None:
        """The lease ends, and others are probed."""
        pool = self.pool(account("a"), account("b"))
        asking = self._ask

        def ask(provider: IProvider, account: Account, model: str) -> Deferred[Usage | None]:
            if account.id == "a":
                raise ValueError("a secret")
            return asking(provider, account, model)

        self._ask = ask  # type: ignore[method-assign]
        with capturedLogs() as events:
            self.begin()
        self.assertEqual(pool.ends(), {"a": "abandoned", "b": None})
        self.assertEqual(len(events), 1)

    def test_stop_closes_what_is_at_work(self) -> None:
        """The lease is given back, no timer is left, and nobody is asked any more."""
        pool = self.pool(account("a"))
        probes = self.begin()
        probes.stop()
        self.assertTrue(self.asked[0].cancelled)
        self.assertEqual((self.end(pool), probes.running), (("abandoned", None), 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        probes.stop()

    def test_accounts_that_are_gone_are_forgotten(self) -> None:
        """What is remembered does not grow with every account there ever was."""
        self.rules = Rules(mode="scheduled", interval=100)
        pool = self.pool(account("a"))
        pool.resting = ()
        probes = self.begin()
        for each in range(50):
            pool.accounts = (account(f"a{each}"),)
            self.clock.advance(1)
        self.assertLessEqual(len(probes._known), 1)
