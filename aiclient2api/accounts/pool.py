"""
Lease the accounts of one provider.

One account answers everything here; the pool's contract is already the one that
several accounts need, so that nothing above it has to change. It must never know
HTTP, a dialect or what a provider is.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from aiclient2api.errors import ProviderUnavailable, UnknownModel, UpstreamError
from aiclient2api.interfaces import IAccountPool, ILease
from aiclient2api.values import Account, Usage


@implementer(ILease)
@attrs.define
class SoleLease:
    """
    The use of the one account.

    :ivar outcome: How it ended: ``succeeded``, ``failed``, ``abandoned`` or None.
    """

    account: Account
    outcome: str | None = None

    def succeeded(self, usage: Usage | None) -> None:
        """See `ILease`."""
        self._end("succeeded")

    def failed(self, error: UpstreamError) -> None:
        """See `ILease`."""
        self._end("failed")

    def abandoned(self) -> None:
        """See `ILease`."""
        self._end("abandoned")

    def _end(self, outcome: str) -> None:
        if self.outcome is not None:
            raise RuntimeError(f"a lease that {self.outcome} cannot also have {outcome}")
        self.outcome = outcome


@implementer(IAccountPool)
@attrs.frozen
class SolePool:
    """A pool of one account."""

    account: Account

    def acquire(self, *, model: str, exclude: Sequence[str] = ()) -> Deferred[ILease]:
        """See `IAccountPool`. Never waits, so there is nothing to cancel."""
        account = self.account
        refused = (
            model in account.unsupported
            if not account.supported
            else (model not in account.supported)
        )
        if model and refused:
            return fail(
                UnknownModel(
                    f"Provider {account.provider} does not serve model {model!r}"
                    + (
                        f"; it serves {', '.join(account.supported)}." if account.supported else "."
                    ),
                    code="model_not_found",
                    param="model",
                )
            )
        if account.id in exclude:
            return fail(
                ProviderUnavailable(f"Provider {account.provider} has no other account to try.")
            )
        return succeed(SoleLease(account))

    def snapshot(self) -> Sequence[Account]:
        """See `IAccountPool`."""
        return (self.account,)
