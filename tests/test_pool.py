"""The pool: who is leased, who waits, what is remembered, and what is said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.accounts.account import Law
from aiclient2api.accounts.affinity import Affinities
from aiclient2api.accounts.pool import AccountPool, Rules
from aiclient2api.accounts.waiting import MOST, Wish
from aiclient2api.errors import (
    Fault,
    NoAccount,
    ProviderUnavailable,
    UnknownModel,
    UpstreamError,
)
from aiclient2api.interfaces import IAccountPool, ILease
from aiclient2api.values import Account, Affinity, Standing, Usage

NOW = 1.79e9


def account(id: str, **fields: object) -> Account:
    """Return an account without a credential."""
    return Account(provider="p", id=id, settings=None, **fields)  # type: ignore[arg-type]


def limited(after: float | None = None, **more: object) -> UpstreamError:
    """Return a rate limit."""
    return UpstreamError(
        "Slow down.",
        fault=Fault.RATE_LIMIT,
        status=429,
        retry_after=after,
        **more,  # type: ignore[arg-type]
    )


def fault(kind: Fault, after: float | None = None) -> UpstreamError:
    """Return an upstream's error."""
    return UpstreamError(f"It said {kind.value}.", fault=kind, status=500, retry_after=after)


class Kept:
    """A keeper in memory, which knows what was written at once and what soon."""

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}
        self.marked: dict[str, Callable[[], bytes]] = {}

    def mark(self, provider: str, id: str, encode: Callable[[], bytes]) -> None:
        self.marked[id] = encode

    def now(self, provider: str, id: str, value: bytes) -> None:
        self.written[id] = value

    def flush(self) -> None:
        """Write what was marked."""
        self.written.update({id: encode() for id, encode in self.marked.items()})
        self.marked.clear()


class PoolCase(SynchronousTestCase):
    """A pool on clocks of our own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.kept = Kept()
        self.changes: list[tuple[str, str, str]] = []

    def pool(
        self, *accounts: Account, kept: dict[str, bytes] | None = None, **rules: object
    ) -> AccountPool:
        """Return a pool of *accounts*."""
        pool = AccountPool(
            "p",
            clock=self.clock,
            now=lambda: NOW + self.clock.seconds(),
            jitter=lambda: 0.5,
            affinities=Affinities(ttl=3600.0, size=1000),
            keeper=self.kept,
            changed=self.changed,
        )
        pool.open_later()
        pool.adopt(accounts, Rules(**rules))  # type: ignore[arg-type]
        pool.restore(kept or {})
        return pool

    def changed(self, account: Account, before: Standing, after: Standing) -> None:
        """Note a change."""
        self.changes.append((account.id, before.state, after.state))

    def lease(self, pool: AccountPool, **asked: object) -> ILease:
        """Return a lease that is there at once."""
        wish = {"model": "m", **asked}
        lease: ILease = self.successResultOf(pool.acquire(**wish))  # type: ignore[arg-type]
        return lease

    def order(self, pool: AccountPool, count: int, **asked: object) -> list[str]:
        """Return who is leased, one request after the other."""
        ids = []
        for _ in range(count):
            lease = self.lease(pool, **asked)
            ids.append(lease.account.id)
            lease.succeeded(usage=None)
        return ids

    def refused(self, pool: AccountPool, **asked: object) -> NoAccount:
        """Return the error for a request that nobody can take."""
        wish = {"model": "m", **asked}
        failure = self.failureResultOf(pool.acquire(**wish), NoAccount)  # type: ignore[arg-type]
        error = failure.value
        assert isinstance(error, NoAccount)
        return error


class SelectionTests(PoolCase):
    """Who is next."""

    def test_it_keeps_its_contract(self) -> None:
        """Pool and lease provide their interfaces."""
        pool = self.pool(account("a"))
        self.assertTrue(verifyObject(IAccountPool, pool))
        self.assertTrue(verifyObject(ILease, self.lease(pool)))

    def test_round_robin(self) -> None:
        """Each in its turn."""
        pool = self.pool(account("a"), account("b"), account("c"))
        self.assertEqual(self.order(pool, 6), list("abcabc"))

    def test_who_returns_makes_up_for_nothing(self) -> None:
        """An account that rested is one of the round again, no more."""
        pool = self.pool(account("a"), account("b"))
        self.lease(pool).failed(error=limited(60.0))
        self.assertEqual(self.order(pool, 10), ["b"] * 10)
        self.clock.advance(61)
        # One that it still has in the round under way, then one of two.
        self.assertEqual(Counter(self.order(pool, 11)), {"a": 6, "b": 5})

    def test_least_recently_used(self) -> None:
        """Whoever was leased longest ago."""
        pool = self.pool(account("a"), account("b"), strategy="least_recently_used")
        self.order(pool, 1, exclude=("a",))
        self.assertEqual(self.order(pool, 3), list("aba"))

    def test_least_busy(self) -> None:
        """Whoever has least at work."""
        pool = self.pool(account("a"), account("b"), strategy="least_busy")
        first, second = self.lease(pool), self.lease(pool)
        self.assertEqual((first.account.id, second.account.id), ("a", "b"))
        second.succeeded(usage=None)
        self.assertEqual(self.lease(pool).account.id, "b")

    def test_fill_first(self) -> None:
        """The first of the file, until it rests."""
        pool = self.pool(account("a"), account("b"), strategy="fill_first")
        self.assertEqual(self.order(pool, 3), list("aaa"))
        self.lease(pool).failed(error=limited(60.0))
        self.assertEqual(self.order(pool, 3), list("bbb"))

    def test_weighted(self) -> None:
        """Each as often as its weight says."""
        pool = self.pool(account("a", weight=3), account("b"), strategy="weighted")
        self.assertEqual(Counter(self.order(pool, 40)), {"a": 30, "b": 10})

    def test_priorities(self) -> None:
        """Others are leased only while nobody of the highest priority can be."""
        pool = self.pool(account("a"), account("b", priority=5), account("c", priority=5))
        self.assertEqual(self.order(pool, 4), list("bcbc"))
        for _ in range(2):
            self.lease(pool).failed(error=limited(60.0))
        self.assertEqual(self.order(pool, 2), list("aa"))

    def test_allow_and_deny_lists(self) -> None:
        """An account is leased only for what it serves; an allow list beats a deny list."""
        pool = self.pool(
            account("a", supported=("m1",), unsupported=("m1",)),
            account("b", unsupported=("m1",)),
        )
        self.assertEqual(self.order(pool, 2, model="m1"), ["a", "a"])
        self.assertEqual(self.order(pool, 2, model="m2"), ["b", "b"])

    def test_a_model_that_nobody_serves(self) -> None:
        """It is said which ones are."""
        pool = self.pool(account("a", supported=("m1", "m2")))
        failure = self.failureResultOf(pool.acquire(model="m3"), UnknownModel)
        self.assertIn("m1, m2", str(failure.value))

    def test_a_pool_without_accounts(self) -> None:
        """Those that are switched off are none."""
        pool = self.pool(account("a", disabled=True))
        self.failureResultOf(pool.acquire(model="m"), ProviderUnavailable)
        self.assertEqual(pool.snapshot(), ())
        self.assertFalse(pool.usable())

    def test_nobody_is_leased_twice_in_one_exchange(self) -> None:
        """Whoever was asked already is passed by, and then nobody is left."""
        pool = self.pool(account("a"), account("b"))
        self.assertEqual(self.lease(pool, exclude=("a",)).account.id, "b")
        error = self.refused(pool, exclude=("a", "b"))
        self.assertIn("asked already", error.message)

    def test_a_lease_ends_once(self) -> None:
        """A second end is a bug and says so."""
        lease = self.lease(self.pool(account("a")))
        lease.succeeded(usage=None)
        self.assertRaises(RuntimeError, lease.abandoned)


class RestTests(PoolCase):
    """Accounts that failed."""

    def test_an_account_at_its_limit_is_left_alone(self) -> None:
        """Until the upstream said it would be back."""
        pool = self.pool(account("a"), account("b"))
        self.lease(pool).failed(error=limited(30.0))
        self.assertEqual(self.order(pool, 4), list("bbbb"))
        self.clock.advance(30)
        self.assertIn("a", self.order(pool, 2))

    def test_one_limit_of_the_account_is_not_learnt_model_by_model(self) -> None:
        """Having failed with one model, it is not asked for another."""
        pool = self.pool(account("a"), account("b"))
        self.lease(pool, model="m1").failed(error=limited(30.0))
        self.assertEqual(self.order(pool, 3, model="m2"), list("bbb"))

    def test_a_limit_of_one_model_leaves_the_others(self) -> None:
        """Where the upstream says so."""
        pool = self.pool(account("a"))
        self.lease(pool, model="m1").failed(error=limited(30.0, of_model=True))
        self.assertEqual(self.order(pool, 2, model="m2"), list("aa"))
        error = self.refused(pool, model="m1")
        self.assertEqual(error.retry_after, 30.0)
        self.clock.advance(31)
        self.assertEqual(self.order(pool, 2, model="m1"), list("aa"))

    def test_a_model_without_capacity_rests_alone(self) -> None:
        """A crowded model is not the account's fault."""
        pool = self.pool(account("a"))
        crowded = UpstreamError("no", fault=Fault.CAPACITY, status=503, of_model=True)
        self.lease(pool, model="m1").failed(error=crowded)
        error = self.refused(pool, model="m1")
        self.assertIn("1 cooling (capacity)", error.message)
        self.lease(pool, model="m2")

    def test_a_model_that_all_accounts_lack_is_unknown(self) -> None:
        """It isn't told as an outage, once each account said that there is no such model."""
        pool = self.pool(account("a"), account("b"))
        for _ in range(2):
            self.lease(pool, model="typo").failed(error=fault(Fault.NOT_FOUND))
        self.failureResultOf(pool.acquire(model="typo"), UnknownModel)
        self.lease(pool, model="m")

    def test_only_so_many_models_are_remembered(self) -> None:
        """A caller who invents names fills nothing up."""
        pool = self.pool(account("a"))
        for number in range(200):
            self.lease(pool, model=f"m{number}").failed(error=fault(Fault.NOT_FOUND))
        (report,) = pool.report()
        self.assertEqual(len(report.models), 64)
        self.assertLess(len(self.kept.written["a"]), 20_000)

    def test_a_faulty_request_is_not_the_accounts_fault(self) -> None:
        """Nor is a refusal by a filter, nor a context that is too long."""
        pool = self.pool(account("a"))
        for kind in (Fault.CALLER, Fault.POLICY, Fault.CONTEXT):
            for _ in range(5):
                self.lease(pool).failed(error=fault(kind))
        (report,) = pool.report()
        self.assertTrue(report.standing.usable)
        self.assertEqual((report.tally.requests, report.tally.failures), (15, 0))

    def test_a_client_that_leaves_is_not_the_accounts_fault(self) -> None:
        """However often."""
        pool = self.pool(account("a"))
        for _ in range(10):
            self.lease(pool).abandoned()
        self.lease(pool)

    def test_a_few_upstream_faults_are_borne(self) -> None:
        """The third in a row rests the account, for seconds."""
        pool = self.pool(account("a"), law=Law(faults=3))
        for _ in range(3):
            self.lease(pool).failed(error=fault(Fault.RESET))
        self.assertEqual(self.refused(pool).retry_after, 5.0)

    def test_a_wrong_key_rests_the_account(self) -> None:
        """It is tried again after minutes, and at once with another key."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=fault(Fault.CREDENTIAL))
        self.assertEqual(self.refused(pool).status, 503)
        pool.adopt([Account(provider="p", id="a", settings="another key")], Rules())
        self.lease(pool)

    def test_a_try_is_alone(self) -> None:
        """When the rest is over one request may try it; the others go elsewhere."""
        pool = self.pool(account("a"), account("b"), strategy="fill_first")
        self.lease(pool).failed(error=limited(30.0))
        self.clock.advance(31)
        trying = self.lease(pool)
        self.assertEqual(trying.account.id, "a")
        self.assertEqual(self.order(pool, 3), list("bbb"))
        trying.succeeded(usage=None)
        self.assertEqual(self.order(pool, 2), list("aa"))

    def test_a_try_that_begins_to_answer_has_succeeded(self) -> None:
        """A long stream does not keep the others away."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(30.0))
        self.clock.advance(31)
        trying = self.lease(pool)
        self.refused(pool)
        trying.answered()
        self.lease(pool)
        trying.succeeded(usage=None)
        self.lease(pool)

    def test_a_try_that_fails_rests_longer(self) -> None:
        """Twice as long as before, without a hint."""
        pool = self.pool(account("a"))
        for seconds in (5.0, 10.0, 20.0):
            self.lease(pool).failed(error=limited())
            self.assertEqual(self.refused(pool).retry_after, seconds)
            self.clock.advance(seconds)

    def test_a_wrong_hint_strands_nobody(self) -> None:
        """Told to come back in 18 days, it is tried again within half an hour."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(18 * 86_400.0))
        self.clock.advance(1801)
        self.lease(pool).succeeded(usage=None)
        self.assertEqual(self.order(pool, 2), list("aa"))

    def test_ten_that_fail_at_once_are_one_fault(self) -> None:
        """The rest is as long as after one."""
        pool = self.pool(account("a"))
        leases = [self.lease(pool) for _ in range(10)]
        for lease in leases:
            lease.failed(error=limited())
        self.assertEqual(self.refused(pool).retry_after, 5.0)

    def test_an_operator_can_end_a_rest(self) -> None:
        """By its id; what there is not is not told to be done."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(600.0))
        self.assertEqual(pool.reset(ids=["a", "z"]), ["a"])
        self.lease(pool)

    def test_changes_are_told(self) -> None:
        """Whoever wants to know learns of every change."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(30.0))
        self.clock.advance(31)
        self.lease(pool).succeeded(usage=None)
        self.assertEqual(
            self.changes,
            [("a", "ready", "cooling"), ("a", "cooling", "probing"), ("a", "probing", "ready")],
        )

    def test_what_was_so_from_the_start_is_not_told(self) -> None:
        """Only an edit that switches an account off, or on, is a change."""
        pool = self.pool(account("a", disabled=True), account("b", ill=True))
        self.assertEqual(self.changes, [])
        pool.adopt([account("a"), account("b", disabled=True)], Rules())
        self.assertEqual(self.changes, [("a", "disabled", "ready"), ("b", "cooling", "disabled")])


class WaitingTests(PoolCase):
    """Requests that wait for an account."""

    def test_no_more_than_may_be_at_work(self) -> None:
        """Without a queue one more is refused at once, with a 429."""
        pool = self.pool(account("a", concurrency=2))
        self.lease(pool), self.lease(pool)
        error = self.refused(pool)
        self.assertEqual((error.status, error.kind, error.retry_after), (429, "rate_limit", 1.0))
        self.assertTrue(pool.usable())

    def test_the_queue_is_first_come_first_served(self) -> None:
        """As many wait as the queue has room for; the next ones are refused."""
        pool = self.pool(account("a", concurrency=1, queue=2))
        first = self.lease(pool)
        one, two = pool.acquire(model="m"), pool.acquire(model="m")
        self.refused(pool)
        first.succeeded(usage=None)
        # Who comes just now does not overtake.
        late = pool.acquire(model="m")
        lease = self.successResultOf(one)
        self.assertNoResult(two)
        self.assertNoResult(late)
        lease.succeeded(usage=None)
        self.clock.advance(0)
        self.successResultOf(two).succeeded(usage=None)
        self.clock.advance(0)
        self.successResultOf(late)

    def test_nobody_waits_for_ever(self) -> None:
        """After the queue's deadline it is a 429."""
        pool = self.pool(account("a", concurrency=1, queue=1), queue_seconds=60.0)
        self.lease(pool)
        waiting = pool.acquire(model="m")
        self.clock.advance(59)
        self.assertNoResult(waiting)
        self.clock.advance(2)
        self.assertEqual(self.failureResultOf(waiting, NoAccount).value.status, 429)

    def test_a_wait_can_be_given_up(self) -> None:
        """The client left: nobody is leased to it."""
        pool = self.pool(account("a", concurrency=1, queue=1))
        first = self.lease(pool)
        waiting = pool.acquire(model="m")
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        first.succeeded(usage=None)
        self.clock.advance(0)
        (report,) = pool.report()
        self.assertEqual(report.active, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_short_rest_is_waited_for(self) -> None:
        """If that is within the patience; and otherwise refused at once."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(8.0))
        self.refused(pool, wait=7.0)
        waiting = pool.acquire(model="m", wait=10.0)
        self.clock.advance(7.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.2)
        self.successResultOf(waiting)

    def test_those_who_wait_wait_for_the_try(self) -> None:
        """One is the try; the others go on once it begins to answer."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(5.0))
        waiting = [pool.acquire(model="m", wait=10.0) for _ in range(3)]
        self.clock.advance(5)
        trying = self.successResultOf(waiting[0])
        for each in waiting[1:]:
            self.assertNoResult(each)
        trying.answered()
        self.clock.advance(0)
        for each in waiting[1:]:
            self.successResultOf(each)

    def test_waiting_that_leads_nowhere_ends(self) -> None:
        """If the try fails and the next one is too far off, nobody waits it out."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(5.0))
        waiting = [pool.acquire(model="m", wait=10.0) for _ in range(2)]
        self.clock.advance(5)
        self.successResultOf(waiting[0]).failed(error=limited(600.0))
        self.clock.advance(0)
        error = self.failureResultOf(waiting[1], NoAccount).value
        self.assertEqual((error.status, error.retry_after), (429, 600.0))

    def test_who_comes_during_a_try_waits_for_it(self) -> None:
        """With patience it is not refused while that is being found out."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(5.0))
        self.clock.advance(5)
        trying = self.lease(pool)
        self.refused(pool)
        waiting = pool.acquire(model="m", wait=10.0)
        self.assertNoResult(waiting)
        trying.succeeded(usage=None)
        self.clock.advance(0)
        self.successResultOf(waiting)

    def test_an_edit_that_brings_an_account_serves_those_who_wait(self) -> None:
        """A new account is leased to them."""
        pool = self.pool(account("a", concurrency=1, queue=1))
        self.lease(pool)
        waiting = pool.acquire(model="m")
        pool.adopt([account("a", concurrency=1, queue=1), account("b")], Rules())
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(waiting).account.id, "b")

    def test_the_end_sends_everybody_away(self) -> None:
        """No timer is left behind."""
        pool = self.pool(account("a", concurrency=1, queue=1))
        self.lease(pool)
        waiting = pool.acquire(model="m")
        pool.close()
        self.failureResultOf(waiting, NoAccount)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_try_that_says_nothing_is_given_up(self) -> None:
        """A minute later another one may try; what becomes of the first one is late."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(5.0))
        self.clock.advance(5)
        silent = self.lease(pool)
        self.clock.advance(59)
        self.refused(pool)
        self.clock.advance(1)
        second = self.lease(pool)
        second.answered()
        silent.failed(error=limited(900.0))
        self.lease(pool)

    def test_who_waits_for_a_try_is_woken_by_another_account(self) -> None:
        """It does not wait for the one that is being tried alone."""
        pool = self.pool(account("a"), account("b"))
        self.lease(pool).failed(error=limited(5.0))
        self.lease(pool).failed(error=limited(7.0))
        self.clock.advance(5)
        self.lease(pool)
        waiting = pool.acquire(model="m", wait=10.0)
        self.clock.advance(1.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.2)
        self.assertEqual(self.successResultOf(waiting).account.id, "b")

    def test_nobody_queues_for_whom_it_has_asked(self) -> None:
        """A busy account that was asked already is no reason to wait."""
        pool = self.pool(account("a", concurrency=1, queue=5), account("b"))
        self.lease(pool)
        self.refused(pool, exclude=("a", "b"))
        self.assertEqual(len(pool._waiting), 0)

    def test_the_queue_has_room_for_all_models_together(self) -> None:
        """However many names are asked for."""
        pool = self.pool(account("a", concurrency=1, queue=2))
        self.lease(pool)
        waiting = [pool.acquire(model=f"m{n}") for n in range(2)]
        self.refused(pool, model="m9")
        for each in waiting:
            self.assertNoResult(each)

    def test_no_wait_is_longer_than_the_request_may_take(self) -> None:
        """The exchange's own clock ends it."""
        pool = self.pool(account("a", concurrency=1, queue=1))
        self.lease(pool)
        waiting = pool.acquire(model="m", limit=2.0)
        self.clock.advance(2)
        self.failureResultOf(waiting, NoAccount)

    def test_thousands_that_wait_cost_no_more_than_they_are(self) -> None:
        """Counted in questions put to the pool; and there is an end to it."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(5.0))
        asked = 0
        serve = pool._waiting._serve

        def counted(wish: Wish) -> ILease | None:
            nonlocal asked
            asked += 1
            return serve(wish)

        pool._waiting._serve = counted
        waiting = [pool.acquire(model="m", wait=10.0) for _ in range(MOST)]
        self.assertEqual(asked, 0)
        self.refused(pool, wait=10.0)
        self.clock.advance(5)
        self.successResultOf(waiting[0]).answered()
        self.clock.advance(0)
        for each in waiting[1:]:
            self.successResultOf(each)
        self.assertLess(asked, MOST + 10)


class RefusalTests(PoolCase):
    """What is said when nobody is free."""

    def test_limits_are_a_429_with_the_soonest_return(self) -> None:
        """Of all accounts, the first to be back is the one that counts."""
        pool = self.pool(account("a"), account("b"))
        self.lease(pool).failed(error=limited(90.0))
        self.lease(pool).failed(error=limited(40.0))
        error = self.refused(pool)
        self.assertEqual((error.status, error.kind, error.retry_after), (429, "rate_limit", 40.0))
        self.assertIn("2 cooling (rate_limit)", error.message)

    def test_anything_else_is_a_503(self) -> None:
        """A limit beside a wrong key is no limit that passes for sure."""
        pool = self.pool(account("a"), account("b"))
        self.lease(pool).failed(error=limited(90.0))
        self.lease(pool).failed(error=fault(Fault.CREDENTIAL))
        error = self.refused(pool)
        self.assertEqual((error.status, error.kind), (503, "overloaded"))
        self.assertIn("1 rejected (credential)", error.message)

    def test_nobody_is_told_to_come_back_at_once(self) -> None:
        """While a try is under way nobody knows; a second it is at least."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(5.0))
        self.clock.advance(5)
        self.lease(pool)
        self.assertEqual(self.refused(pool).retry_after, 1.0)

    def test_the_wait_is_the_soonest(self) -> None:
        """Asked when it would lease one, the pool tells."""
        pool = self.pool(account("a"), account("b"))
        self.assertEqual(pool.soonest(model="m"), 0.0)
        self.lease(pool).failed(error=limited(90.0))
        self.assertEqual(pool.soonest(model="m", exclude=("b",)), 90.0)
        self.assertIsNone(pool.soonest(model="m", exclude=("a", "b")))


class AffinityTests(PoolCase):
    """Conversations stay with their account."""

    def turns(self, name: str, first: bool = False) -> Affinity:
        """Return a turn of the conversation *name*."""
        return Affinity(find=() if first else (name,), bind=(name,))

    def test_a_conversation_stays(self) -> None:
        """Its next turns go where the first one went."""
        pool = self.pool(*map(account, "abcd"))
        (chosen,) = self.order(pool, 1, affinity=self.turns("x", first=True))
        self.order(pool, 3)
        self.assertEqual(self.order(pool, 5, affinity=self.turns("x")), [chosen] * 5)

    def test_the_first_turn_goes_to_the_least_loaded(self) -> None:
        """Who has had least to do is given the new conversation."""
        pool = self.pool(*map(account, "ab"))
        self.order(pool, 3, exclude=("b",))
        self.assertEqual(self.order(pool, 1, affinity=self.turns("x", first=True)), ["b"])

    def test_what_fills_up_first_fills_up_first(self) -> None:
        """With ``fill_first`` a new conversation goes to the first account as well."""
        pool = self.pool(*map(account, "ab"), strategy="fill_first")
        for name in "xyz":
            self.assertEqual(self.order(pool, 1, affinity=self.turns(name, first=True)), ["a"])

    def test_it_leaves_an_account_that_rests(self) -> None:
        """And stays with the next one, also when the first is back."""
        pool = self.pool(*map(account, "ab"))
        self.order(pool, 1, affinity=self.turns("x", first=True))
        self.lease(pool, affinity=self.turns("x")).failed(error=limited(30.0))
        self.assertEqual(self.order(pool, 2, affinity=self.turns("x")), ["b", "b"])
        self.clock.advance(31)
        self.assertEqual(self.order(pool, 2, affinity=self.turns("x")), ["b", "b"])

    def test_a_busy_account_lends_a_turn_only(self) -> None:
        """Where its account has as much to do as it may, one turn goes elsewhere."""
        pool = self.pool(account("a", concurrency=1), account("b"))
        first = self.lease(pool, affinity=self.turns("x", first=True))
        self.assertEqual(first.account.id, "a")
        self.assertEqual(self.order(pool, 1, affinity=self.turns("x")), ["b"])
        first.succeeded(usage=None)
        self.clock.advance(0)
        self.assertEqual(self.order(pool, 1, affinity=self.turns("x")), ["a"])

    def test_an_answer_can_be_gone_on_from(self) -> None:
        """What an upstream keeps it keeps for one account."""
        pool = self.pool(*map(account, "abc"))
        for id in "abc":
            later = Affinity(keepers=("gone", id))
            self.assertEqual(self.order(pool, 3, affinity=later), [id] * 3)

    def test_what_one_account_keeps_no_other_is_asked_for(self) -> None:
        """While it rests the request is refused, with when it is back."""
        pool = self.pool(*map(account, "abc"))
        lease = self.lease(pool)
        lease.failed(error=limited(40.0))
        later = Affinity(bind=("begin:x",), keepers=(lease.account.id,))
        error = self.refused(pool, affinity=later)
        self.assertEqual(error.retry_after, 40.0)
        self.clock.advance(41)
        self.assertEqual(self.order(pool, 1, affinity=later), [lease.account.id])

    def test_an_edit_changes_no_order(self) -> None:
        """Whoever was next is next, and an account that is new is one of many."""
        for strategy in ("round_robin", "least_recently_used", "least_busy", "weighted"):
            pool = self.pool(*map(account, "abc"), strategy=strategy)
            self.order(pool, 300)
            pool.adopt([account(id) for id in "abc"], Rules(strategy=strategy))
            self.assertEqual(set(Counter(self.order(pool, 30)).values()), {10}, strategy)
            pool.adopt([account(id) for id in "abcd"], Rules(strategy=strategy))
            counts = Counter(self.order(pool, 40))
            self.assertLessEqual(counts["d"], 11, strategy)
            self.assertGreaterEqual(counts["d"], 9, strategy)

    def test_a_hot_account_keeps_nobody_out(self) -> None:
        """Conversations of one account do not put those that return at the end."""
        pool = self.pool(*map(account, "abc"))
        (hot,) = self.order(pool, 1, affinity=self.turns("x", first=True))
        cold = next(id for id in "abc" if id != hot)
        self.lease(pool, exclude=set("abc") - {cold}).failed(error=limited(30.0))
        self.order(pool, 900, affinity=self.turns("x"))
        self.clock.advance(31)
        new = [Affinity(bind=(f"c{n}",)) for n in range(60)]
        counts = Counter(self.order(pool, 1, affinity=each)[0] for each in new)
        self.assertGreater(counts[cold], 20)

    def test_an_account_that_does_not_serve_the_model_is_no_home(self) -> None:
        """A conversation that changes the model goes to who serves it."""
        pool = self.pool(account("a", supported=("m1",)), account("b"))
        one, two = self.turns("x", first=True), self.turns("x")
        self.assertEqual(self.order(pool, 1, model="m1", affinity=one), ["a"])
        self.assertEqual(self.order(pool, 1, model="m2", affinity=two), ["b"])


class MemoryTests(PoolCase):
    """What is known after a restart."""

    def test_what_a_client_that_left_had_counts(self) -> None:
        """Once an answer has begun it is booked, as far as it was told."""
        pool = self.pool(account("a"))
        self.lease(pool).abandoned()
        lease = self.lease(pool)
        lease.answered()
        lease.abandoned(usage=Usage(input=9, output=1))
        lease = self.lease(pool)
        lease.failed(error=fault(Fault.TRUNCATED), usage=Usage(input=4))
        tally = pool.report()[0].tally
        self.assertEqual((tally.requests, tally.failures, tally.input), (2, 1, 13))

    def test_a_refusal_of_the_old_key_says_nothing_of_the_new(self) -> None:
        """A request that began before the key was changed is late."""
        pool = self.pool(account("a"))
        lease = self.lease(pool)
        pool.adopt([Account(provider="p", id="a", settings="new")], Rules())
        lease.failed(error=fault(Fault.CREDENTIAL))
        self.lease(pool)

    def test_rests_survive(self) -> None:
        """An account that rested rests on, to the second."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(90.0))
        self.clock.advance(60)
        pool = self.pool(account("a"), kept=self.kept.written)
        self.assertEqual(self.refused(pool).retry_after, 30.0)
        (report,) = pool.report()
        self.assertEqual(report.standing.message, "Slow down.")

    def test_counters_survive(self) -> None:
        """Requests, failures and tokens go on counting."""
        pool = self.pool(account("a"))
        self.lease(pool).succeeded(usage=Usage(input=5, output=2, cached=1, reasoning=1))
        self.lease(pool).failed(error=limited())
        self.kept.flush()
        (report,) = self.pool(account("a"), kept=self.kept.written).report()
        tally = report.tally
        self.assertEqual((tally.requests, tally.failures), (2, 1))
        self.assertEqual((tally.input, tally.output, tally.cached, tally.reasoning), (5, 2, 1, 1))
        self.assertEqual(tally.last_used, NOW)

    def test_a_new_credential_begins_anew_but_for_what_it_did(self) -> None:
        """The counters stay, the rest does not."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=fault(Fault.CREDENTIAL))
        self.kept.flush()
        changed = Account(provider="p", id="a", settings="new")
        pool = self.pool(changed, kept=self.kept.written)
        self.lease(pool)
        self.assertEqual(pool.report()[0].tally.failures, 1)

    def test_what_cannot_be_read_is_not_there(self) -> None:
        """A damaged record is no reason not to start."""
        for value in (b"", b"\xc1", b"\x91\xa11", b"x" * 1000):
            self.lease(self.pool(account("a"), kept={"a": value}))

    def test_an_ill_account_counts_at_first_sight_only(self) -> None:
        """``isHealthy: false`` makes it one to be tried; what is known later wins."""
        pool = self.pool(account("a", ill=True), account("b"))
        self.assertEqual(pool.report()[0].standing.state, "cooling")
        trying = self.lease(pool)
        self.assertEqual(trying.account.id, "a")
        trying.succeeded(usage=None)
        pool = self.pool(account("a", ill=True), account("b"), kept=self.kept.written)
        self.assertEqual(pool.report()[0].standing.state, "ready")

    def test_nobody_is_leased_before_it_is_known_how_they_fare(self) -> None:
        """A request that comes too early waits for the store."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(90.0))
        written = dict(self.kept.written)
        pool = AccountPool(
            "p",
            clock=self.clock,
            now=lambda: NOW,
            jitter=lambda: 0.0,
            affinities=Affinities(ttl=1.0, size=1),
            keeper=self.kept,
        )
        pool.open_later()
        pool.adopt([account("a")], Rules())
        self.assertEqual(self.kept.written, written)
        early, gone = pool.acquire(model="m"), pool.acquire(model="m")
        self.assertNoResult(early)
        self.assertFalse(pool.usable())
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        pool.restore(written)
        self.failureResultOf(early, NoAccount)

    def test_an_account_taken_out_for_a_moment_loses_nothing(self) -> None:
        """Put back into the file, it rests on and goes on counting."""
        pool = self.pool(account("a"), account("b"))
        self.lease(pool).failed(error=limited(90.0))
        pool.adopt([account("b")], Rules())
        self.assertEqual(self.order(pool, 2), ["b", "b"])
        pool.adopt([account("a"), account("b")], Rules())
        self.assertEqual(self.order(pool, 2), ["b", "b"])
        self.assertEqual(pool.report()[0].tally.failures, 1)

    def test_what_is_under_way_is_booked_though_the_account_was_out(self) -> None:
        """Taken out and put back meanwhile, it has the request still at work."""
        pool = self.pool(account("a", concurrency=1), account("b"))
        lease = self.lease(pool)
        pool.adopt([account("b")], Rules())
        pool.adopt([account("a", concurrency=1), account("b")], Rules())
        self.assertEqual([report.active for report in pool.report()], [1, 0])
        self.assertEqual(self.order(pool, 2), ["b", "b"])
        lease.succeeded(usage=Usage(input=7))
        self.assertEqual(pool.report()[0].tally.input, 7)
        self.assertIn("a", self.order(pool, 2))

    def test_what_ends_while_the_account_is_out_is_booked(self) -> None:
        """Put back afterwards, it knows of it."""
        pool = self.pool(account("a"), account("b"))
        lease = self.lease(pool)
        pool.adopt([account("b")], Rules())
        lease.failed(error=limited(90.0))
        pool.adopt([account("a"), account("b")], Rules())
        self.assertEqual(pool.report()[0].tally.failures, 1)
        self.assertEqual(self.order(pool, 2), ["b", "b"])

    def test_an_edit_leaves_what_is_under_way(self) -> None:
        """A lease of an account that is gone ends like any other."""
        pool = self.pool(account("a"), account("b"))
        lease = self.lease(pool)
        pool.adopt([account("b")], Rules())
        lease.failed(error=limited(90.0))
        self.assertEqual(self.order(pool, 2), ["b", "b"])

    def test_a_switched_off_account_is_not_leased(self) -> None:
        """Switched on again, it is."""
        pool = self.pool(account("a"), account("b"))
        pool.adopt([account("a", disabled=True), account("b")], Rules())
        self.assertEqual(self.order(pool, 2), ["b", "b"])
        self.assertEqual(pool.report()[0].standing.state, "disabled")
        pool.adopt([account("a"), account("b")], Rules())
        self.assertIn("a", self.order(pool, 2))


class TraceTests(PoolCase):
    """What is said of each choice."""

    def noted(self, pool: AccountPool, **asked: object) -> Sequence[tuple[str, str, str]]:
        """Return what was noted of one request."""
        found: list[tuple[str, str, str]] = []
        asking: Deferred[ILease] = pool.acquire(
            model="m",
            note=lambda what, account, why: found.append((what, account, why)),
            **asked,  # type: ignore[arg-type]
        )
        asking.addErrback(lambda _: None)
        return found

    def test_each_account_that_was_passed_by_and_why(self) -> None:
        """Then who was chosen, and by what rule."""
        pool = self.pool(
            account("a"),
            account("b", supported=("other",)),
            account("c", disabled=True),
            account("d", concurrency=1),
            account("e"),
            strategy="fill_first",
        )
        self.lease(pool).failed(error=limited(30.0))
        self.lease(pool, exclude=("e",))
        self.assertEqual(
            self.noted(pool),
            [
                ("skipped", "a", "cooling (rate_limit), tried again in 30 s"),
                ("skipped", "b", "does not serve the model"),
                ("skipped", "c", "disabled (by configuration)"),
                ("skipped", "d", "has 1 requests at work"),
                ("chosen", "e", "fill_first"),
            ],
        )

    def test_a_try_says_so(self) -> None:
        """And so does a conversation's account."""
        pool = self.pool(account("a"), account("b"), strategy="fill_first")
        self.lease(pool).failed(error=limited(30.0))
        self.clock.advance(31)
        self.assertEqual(
            self.noted(pool), [("chosen", "a", "fill_first; a try, for its rest is over")]
        )
        affinity = Affinity(find=("x",), bind=("x",))
        self.noted(pool, affinity=affinity)
        self.assertEqual(self.noted(pool, affinity=affinity)[-1][2], "its conversation's account")

    def test_of_a_large_pool_how_many(self) -> None:
        """Thousands are not told one by one."""
        pool = self.pool(*[account(f"a{n}") for n in range(100)])
        for _ in range(30):
            self.lease(pool).failed(error=limited(30.0))
        self.assertEqual(
            self.noted(pool)[0], ("skipped", "", "30 accounts are cooling (rate_limit)")
        )


class ProbeTests(PoolCase):
    """How probes get at an account."""

    def test_who_is_due(self) -> None:
        """Those whose rest is over, and nobody else."""
        pool = self.pool(account("a"), account("b"))
        self.lease(pool).failed(error=limited(30.0))
        self.assertEqual(pool.due(), [])
        self.clock.advance(31)
        self.assertEqual(pool.due(), ["a"])

    def test_one_probe_at_a_time(self) -> None:
        """An account that rests is not leased, nor one that is being tried."""
        pool = self.pool(account("a"))
        self.lease(pool).failed(error=limited(30.0))
        self.assertIsNone(pool.probe(id="a", model="m"))
        self.assertIsNone(pool.probe(id="z", model="m"))
        self.clock.advance(31)
        probe = pool.probe(id="a", model="m")
        assert probe is not None
        self.assertIsNone(pool.probe(id="a", model="m"))
        probe.succeeded(usage=None)
        self.lease(pool)

    def test_what_it_answered_last(self) -> None:
        """The model of its last good answer is known."""
        pool = self.pool(account("a"))
        self.assertIsNone(pool.last_model("a"))
        self.lease(pool, model="m7").succeeded(usage=None)
        self.assertEqual(pool.last_model("a"), "m7")

    def test_usable_by_time(self) -> None:
        """A pool whose only account rests is not, until within a second of its return."""
        pool = self.pool(account("a"))
        self.assertTrue(pool.usable())
        self.lease(pool).failed(error=limited(30.0))
        self.assertFalse(pool.usable())
        self.clock.advance(29.5)
        self.assertTrue(pool.usable())
        self.clock.advance(1)
        trying = self.lease(pool)
        self.assertFalse(pool.usable())
        trying.answered()
        self.assertTrue(pool.usable())
