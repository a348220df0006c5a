"""
All pools of a gateway: one a provider, kept over reloads, restored at the start.

It knows how accounts are read back from the store, and nothing of what is in a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from aiclient2api.accounts.affinity import Affinities
from aiclient2api.accounts.pool import AccountPool, Rules
from aiclient2api.accounts.roster import Changed, Keeper
from aiclient2api.values import Account, Clock, Jitter


class Cellar(Keeper, Protocol):
    """Where accounts are written down, and read from."""

    def load(self, provider: str) -> Deferred[dict[str, bytes]]:
        """Return what is kept of a provider's accounts, by id."""


class Pools(Mapping[str, AccountPool]):
    """
    Pools by the provider's configured name; only those of providers in use.

    :param now: Returns Unix seconds.
    :param cellar: Where accounts are kept between two runs.
    :param changed: Told of every change of an account's state.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: Clock,
        now: Callable[[], float],
        jitter: Jitter,
        cellar: Cellar | None = None,
        changed: Changed = lambda account, before, after: None,
        clean: Callable[[str], str] = str,
    ) -> None:
        self._clean = clean
        self._clock = clock
        self._now = now
        self._jitter = jitter
        self._cellar = cellar
        self._changed = changed
        self._affinities: dict[str, Affinities] = {}
        self._bounds: tuple[float, int] = (3600.0, 10_000)
        self._made: dict[str, AccountPool] = {}
        self._used: tuple[str, ...] = ()
        self._opened = cellar is None
        self._loading: set[str] = set()
        self._waiting: list[Deferred[None]] = []

    def __getitem__(self, name: str) -> AccountPool:
        if name not in self._used:
            raise KeyError(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._used)

    def __len__(self) -> int:
        return len(self._used)

    def pool(self, name: str) -> AccountPool:
        """Return a provider's pool, made if there is none; empty until `adopt`."""
        made = self._made.get(name)
        if made is None:
            ttl, size = self._bounds
            self._affinities[name] = Affinities(ttl=ttl, size=size)
            made = self._made[name] = AccountPool(
                name,
                clock=self._clock,
                now=self._now,
                jitter=self._jitter,
                affinities=self._affinities[name],
                keeper=self._cellar,
                changed=self._changed,
                clean=self._clean,
            )
            if self._cellar is not None:
                made.open_later()
        return made

    def remember(self, *, ttl: float, size: int) -> None:
        """Set for how long, and how many, conversations stay with their account."""
        self._bounds = ttl, size
        for affinities in self._affinities.values():
            affinities.limit(ttl=ttl, size=size)

    def adopt(self, accounts: Mapping[str, tuple[Sequence[Account], Rules]]) -> None:
        """Take over what is configured: every provider's accounts and rules, in one step."""
        for name in set(self._made) - set(accounts):
            self._made[name].adopt((), Rules())
        fresh = [name for name in accounts if name not in self._used]
        self._used = tuple(accounts)
        for name, (listed, rules) in accounts.items():
            self.pool(name).adopt(listed, rules)
        if self._opened:
            self._read(fresh)

    def open(self) -> None:
        """Read how the accounts fare, then lease them."""
        self._opened = True
        self._read(self._used)

    def known(self) -> Deferred[None]:
        """Fire once it is known how all accounts fare. Cancelling gives up the wait."""
        if self._opened and not self._loading:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def close(self) -> None:
        """Let nobody wait any more."""
        for pool in self._made.values():
            pool.close()

    def _read(self, names: Sequence[str]) -> None:
        if self._cellar is None:
            return
        for name in names:
            pool = self._made[name]
            if pool.opening:
                self._loading.add(name)
                loading = self._cellar.load(name)
                loading.addErrback(self._lost, name).addCallback(self._restored, name)
        self._tell()

    def _restored(self, kept: dict[str, bytes], name: str) -> None:
        self._made[name].restore(kept)
        self._loading.discard(name)
        self._tell()

    def _tell(self) -> None:
        if not self._loading:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    def _lost(self, failure: Failure, name: str) -> dict[str, bytes]:
        self._log.error(
            "How the accounts of {name} fare could not be read ({kind}); they begin anew.",
            name=name,
            kind=type(failure.value).__qualname__,
        )
        return {}
