"""
Accounts and pools for tests: a lease notes its end, a pool leases what it is told to.

They keep the contracts of `ILease` and `IAccountPool` and know nothing of a pool's rules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from aiclient2api.errors import GatewayError, NoAccount, UnknownModel, UpstreamError
from aiclient2api.interfaces import IAccountPool, ILease
from aiclient2api.values import Account, AccountReport, Affinity, Standing, Tally, Usage


def one_account(provider: str, settings: Any, id: str = "a1", **fields: Any) -> Account:
    """
    Return an account of *provider*, its secrets taken from *settings*.

    :param settings: An instance of the provider factory's settings class.
    :param fields: Further fields of `Account`.
    """
    secrets = tuple(
        value
        for field in (attrs.fields(type(settings)) if attrs.has(type(settings)) else ())
        if field.metadata.get("kind") == "secret" and (value := getattr(settings, field.name))
    )
    return Account(provider=provider, id=id, settings=settings, **{"secrets": secrets, **fields})


@implementer(ILease)
class FixedLease:
    """
    A lease that notes its end, and fails on a second one.

    :ivar end: None, then ``("succeeded", usage)``, ``("failed", error)`` or
        ``("abandoned", None)``.
    :ivar begun: True once the upstream began to answer.
    """

    def __init__(self, account: Account) -> None:
        self.account = account
        self.begun = False
        self.end: tuple[str, Usage | UpstreamError | None] | None = None

    def answered(self) -> None:
        self.begun = True

    def succeeded(self, usage: Usage | None) -> None:
        self._note("succeeded", usage)

    def failed(self, error: UpstreamError, usage: Usage | None = None) -> None:
        self._note("failed", error)

    def abandoned(self, usage: Usage | None = None) -> None:
        self._note("abandoned", None)

    def _note(self, how: str, why: Usage | UpstreamError | None) -> None:
        assert self.end is None, f"{how}, but the lease ended before: {self.end}."
        self.end = (how, why)


@implementer(IAccountPool)
class FixedPool:
    """
    A pool that always leases the first account that may serve.

    :param waits: True: `acquire` waits until the test calls `grant`.

    :ivar leases: Every `FixedLease` so far.
    """

    def __init__(self, accounts: Iterable[Account], *, waits: bool = False) -> None:
        self.leases: list[FixedLease] = []
        self._accounts = tuple(accounts)
        self._waits = waits
        self._waiting: list[tuple[Deferred[ILease], Callable[[], FixedLease]]] = []

    def acquire(
        self,
        *,
        model: str,
        exclude: Collection[str] = (),
        affinity: Affinity | None = None,
        wait: float = 0.0,
        limit: float | None = None,
        note: Callable[[str, str, str], None] | None = None,
    ) -> Deferred[ILease]:
        if not self._waits:
            try:
                return succeed(self._lease(model, exclude))
            except GatewayError:
                return fail()
        waiting: tuple[Deferred[ILease], Callable[[], FixedLease]]
        waiting = (
            Deferred(lambda _: self._waiting.remove(waiting)),
            lambda: self._lease(model, exclude),
        )
        self._waiting.append(waiting)
        return waiting[0]

    def ready(self, *, model: str, exclude: Collection[str] = ()) -> bool:
        return any(_serves(each, model) and each.id not in exclude for each in self._accounts)

    def soonest(self, *, model: str, exclude: Collection[str] = ()) -> float | None:
        return 0.0 if self.ready(model=model, exclude=exclude) else None

    def usable(self) -> bool:
        return bool(self._accounts)

    def report(self) -> Sequence[AccountReport]:
        return [
            AccountReport(each, Standing("ready", usable=True), {}, 0, Tally())
            for each in self._accounts
        ]

    def reset(self, ids: Collection[str]) -> Sequence[str]:
        return [each.id for each in self._accounts if each.id in ids]

    def due(self) -> Sequence[str]:
        return ()

    def probe(self, id: str, model: str) -> ILease | None:
        found = [each for each in self._accounts if each.id == id and _serves(each, model)]
        return FixedLease(found[0]) if found else None

    def last_model(self, id: str) -> str | None:
        return None

    @property
    def waiting(self) -> int:
        """Return how many callers of `acquire` wait."""
        return len(self._waiting)

    def grant(self) -> None:
        """Let the caller go on that has waited longest."""
        deferred, lease = self._waiting.pop(0)
        try:
            deferred.callback(lease())
        except GatewayError as error:
            deferred.errback(error)

    def snapshot(self) -> Sequence[Account]:
        return self._accounts

    def ends(self) -> list[str]:
        """
        Return how each lease ended, in the order they were given.

        :raise AssertionError: if one has not ended: an account would leak.
        """
        ended = [lease.end for lease in self.leases if lease.end is not None]
        left = [lease.account.id for lease in self.leases if lease.end is None]
        assert not left, f"Never ended: the leases of {left}."
        return [how for how, _ in ended]

    def _lease(self, model: str, exclude: Collection[str]) -> FixedLease:
        able = [each for each in self._accounts if _serves(each, model)]
        if self._accounts and not able:
            raise UnknownModel(f"No account serves {model}; ask for another model.")
        free = [each for each in able if each.id not in exclude]
        if not free:
            raise NoAccount("No account is left; add one, or try again later.", code="no_account")
        lease = FixedLease(free[0])
        self.leases.append(lease)
        return lease


def _serves(account: Account, model: str) -> bool:
    named = not account.supported or model in account.supported
    return named and model not in account.unsupported
