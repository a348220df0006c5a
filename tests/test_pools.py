"""All pools of a gateway: read back at the start, kept over reloads."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.accounts.pool import Rules
from aiclient2api.accounts.pools import Pools
from aiclient2api.errors import Fault, NoAccount, UpstreamError
from aiclient2api.values import Account, Affinity, Standing


def account(provider: str, id: str) -> Account:
    """Return an account of a provider."""
    return Account(provider=provider, id=id, settings=None)


class Cellar:
    """Where accounts are kept: in memory, and read when the test says so."""

    def __init__(self) -> None:
        self.written: dict[str, dict[str, bytes]] = {}
        self.loads: list[tuple[str, Deferred[dict[str, bytes]]]] = []

    def mark(self, provider: str, id: str, encode: Callable[[], bytes]) -> None:
        self.now(provider, id, encode())

    def now(self, provider: str, id: str, value: bytes) -> None:
        self.written.setdefault(provider, {})[id] = value

    def load(self, provider: str) -> Deferred[dict[str, bytes]]:
        loading: Deferred[dict[str, bytes]] = Deferred()
        self.loads.append((provider, loading))
        return loading

    def answer(self) -> None:
        """Answer all that was asked so far."""
        loads, self.loads = self.loads, []
        for provider, loading in loads:
            loading.callback(dict(self.written.get(provider, {})))


class PoolsTests(SynchronousTestCase):
    """From start to reload to the end."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.cellar = Cellar()
        self.told: list[str] = []

    def pools(self) -> Pools:
        """Return the pools of a gateway that is just being built."""
        return Pools(
            clock=self.clock,
            now=lambda: 1.79e9 + self.clock.seconds(),
            jitter=lambda: 0.0,
            cellar=self.cellar,
            changed=self.changed,
        )

    def changed(self, account: Account, before: Standing, after: Standing) -> None:
        """Note a change."""
        self.told.append(f"{account.id} {after.state}")

    def rest(self, pools: Pools, name: str, seconds: float) -> None:
        """Let an account fail."""
        error = UpstreamError("no", fault=Fault.RATE_LIMIT, status=429, retry_after=seconds)
        self.successResultOf(pools[name].acquire(model="m")).failed(error=error)

    def test_nothing_is_leased_before_it_is_read(self) -> None:
        """Then accounts that rested rest on."""
        first = self.pools()
        first.adopt({"p": ([account("p", "a")], Rules())})
        first.open()
        self.cellar.answer()
        self.rest(first, "p", 60.0)
        again = self.pools()
        again.adopt({"p": ([account("p", "a")], Rules())})
        early = again["p"].acquire(model="m")
        again.open()
        self.assertNoResult(early)
        known, gone = again.known(), again.known()
        self.assertNoResult(known)
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.cellar.answer()
        self.successResultOf(known)
        error = self.failureResultOf(early, NoAccount).value
        self.assertEqual(error.retry_after, 60.0)

    def test_what_cannot_be_read_begins_anew(self) -> None:
        """A store that fails keeps nobody from being served."""
        pools = self.pools()
        pools.adopt({"p": ([account("p", "a")], Rules())})
        pools.open()
        ((_, loading),) = self.cellar.loads
        loading.errback(OSError("no disk"))
        self.successResultOf(pools["p"].acquire(model="m"))

    def test_a_reload_keeps_what_is_known(self) -> None:
        """And a provider that comes with it is read, and then leased."""
        pools = self.pools()
        pools.adopt({"p": ([account("p", "a")], Rules())})
        pools.open()
        self.cellar.answer()
        self.rest(pools, "p", 60.0)
        pools.adopt(
            {
                "p": ([account("p", "a")], Rules()),
                "q": ([account("q", "b")], Rules()),
            }
        )
        self.assertEqual([name for name, _ in self.cellar.loads], ["q"])
        self.assertEqual(list(pools), ["p", "q"])
        self.failureResultOf(pools["p"].acquire(model="m"), NoAccount)
        waiting = pools["q"].acquire(model="m")
        self.cellar.answer()
        self.successResultOf(waiting)

    def test_a_provider_that_is_gone_has_no_pool(self) -> None:
        """Put back, its accounts are as they were."""
        pools = self.pools()
        both = {name: ([account(name, name)], Rules()) for name in "pq"}
        pools.adopt(both)
        pools.open()
        self.cellar.answer()
        self.rest(pools, "q", 60.0)
        pools.adopt({"p": both["p"]})
        self.assertEqual((list(pools), len(pools)), (["p"], 1))
        self.assertRaises(KeyError, pools.__getitem__, "q")
        pools.adopt(both)
        self.failureResultOf(pools["q"].acquire(model="m"), NoAccount)

    def test_changes_are_told_and_written_at_once(self) -> None:
        """What a kill of the process must not undo."""
        pools = self.pools()
        pools.adopt({"p": ([account("p", "a")], Rules())})
        pools.open()
        self.cellar.answer()
        self.rest(pools, "p", 60.0)
        self.assertEqual(self.told, ["a cooling"])
        self.assertIn(b"cooling", self.cellar.written["p"]["a"])

    def test_the_bounds_of_affinity_hold_for_all(self) -> None:
        """Those that are there and those that come later."""
        pools = self.pools()
        pools.remember(ttl=0.0, size=10)
        pools.adopt({"p": ([account("p", "a"), account("p", "b")], Rules())})
        pools.open()
        self.cellar.answer()
        turn = Affinity(find=("x",), bind=("x",))
        ids = set()
        for _ in range(4):
            lease = self.successResultOf(pools["p"].acquire(model="m", affinity=turn))
            ids.add(lease.account.id)
            lease.succeeded(usage=None)
        self.assertEqual(ids, {"a", "b"})

    def test_without_a_store_it_leases_at_once(self) -> None:
        """Nothing is kept then, and nothing is waited for."""
        pools = Pools(clock=self.clock, now=self.clock.seconds, jitter=lambda: 0.0)
        pools.adopt({"p": ([account("p", "a")], Rules())})
        self.successResultOf(pools["p"].acquire(model="m"))
        pools.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
