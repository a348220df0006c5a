"""
The use of one account by one exchange, which ends once.

It knows nothing of what an end means.
"""

from __future__ import annotations

from typing import Protocol

import attrs
from zope.interface import implementer

from aiclient2api.accounts.lines import Member
from aiclient2api.errors import UpstreamError
from aiclient2api.interfaces import ILease
from aiclient2api.values import Account, Usage


class Lessor(Protocol):
    """Who is told how leases end."""

    def proved(self, lease: Lease) -> None:
        """The account answers."""

    def ended(self, lease: Lease, usage: Usage | None, error: UpstreamError | None) -> None:
        """The exchange ended; well without an error."""

    def abandoned(self, lease: Lease, usage: Usage | None) -> None:
        """Nothing was learnt."""


@implementer(ILease)
@attrs.define(eq=False)
class Lease:
    """
    See `ILease`.

    :ivar generation: The account's when the lease began, to tell whether it is late.
    :ivar model_generation: The same of its state for the model.
    :ivar over: How it ended, or None.
    :ivar begun: True once the upstream began to answer.
    """

    account: Account
    model: str
    generation: int
    model_generation: int
    pool: Lessor = attrs.field(repr=False)
    member: Member = attrs.field(repr=False)
    over: str | None = None
    begun: bool = False

    def answered(self) -> None:
        """See `ILease`."""
        if self.over is None:
            self.begun = True
            self.pool.proved(self)

    def succeeded(self, usage: Usage | None) -> None:
        """See `ILease`."""
        self._end("succeeded")
        self.pool.ended(self, usage, None)

    def failed(self, error: UpstreamError, usage: Usage | None = None) -> None:
        """See `ILease`."""
        self._end("failed")
        self.pool.ended(self, usage, error)

    def abandoned(self, usage: Usage | None = None) -> None:
        """See `ILease`."""
        self._end("abandoned")
        self.pool.abandoned(self, usage)

    def _end(self, how: str) -> None:
        if self.over is not None:
            raise RuntimeError(f"a lease that {self.over} cannot also have {how}")
        self.over = how
