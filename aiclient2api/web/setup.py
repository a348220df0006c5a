"""
What the front door works with: one immutable value, swapped whole at a reload.

A request takes the value once and keeps it, so a reload never changes the rules
under a request that is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred, succeed

from aiclient2api.accounts.budget import RetryBudget
from aiclient2api.conversions import Conversions
from aiclient2api.cut_routes import OnCut
from aiclient2api.errors import ProviderUnavailable
from aiclient2api.exchange import Patience
from aiclient2api.fallbacks import Fallbacks
from aiclient2api.interfaces import (
    IAccountPool,
    IDialect,
    IExchangeObserver,
    IKeyring,
    IProvider,
    IWireRequest,
)
from aiclient2api.observe.scrubber import Scrubber
from aiclient2api.policy import Directory
from aiclient2api.values import Clock, Jitter, SystemEdit
from aiclient2api.web.kept import Answers, Given
from aiclient2api.web.load import Load
from aiclient2api.web.model_lists import ModelLists


@attrs.frozen
class Seat:
    """
    One configured provider and its accounts.

    :ivar free: True if it works with no account at all.
    """

    provider: IProvider
    pool: IAccountPool
    free: bool = False


@attrs.frozen
class Setup:
    """
    Everything a request is judged and answered by.

    :ivar dialects: In the order in which they may claim a shared path.
    :ivar seats: Configured provider name to its seat; only usable ones.
    :ivar saw: Told of each request as the client sent it, before the system prompt
        is edited.
    :ivar answers: Answers that later requests may refer to; None if none are kept.
    :ivar given: To whom upstreams gave the ids of what they keep; None if nobody knows.
    :ivar fallbacks: Who is asked where the first choice cannot answer.
    :ivar on_cut: Which streams are gone on with after they broke off.
    :ivar budget: How much of the traffic may be further tries; one for all requests.
    :ivar affinity: Whether conversations stay with their account.
    :ivar known: Fires once it is known how the accounts fare.
    :ivar load: What is under way; one for all requests.
    :ivar head_seconds: How long a request's head may take to arrive; 0: for ever.
    :ivar body_limit: Bytes a request body may have.
    :ivar cors_origins: Origins that browsers may call from; ``*`` for any.
    :ivar scrubber: What takes secrets out of errors, and of what operators are told.
    """

    dialects: tuple[IDialect, ...]
    keyring: IKeyring = attrs.field(repr=False)
    seats: Mapping[str, Seat]
    directory: Directory
    lists: ModelLists
    conversions: Conversions
    answers: Answers | None
    system: SystemEdit | None = attrs.field(repr=False)
    patience: Patience
    observers: IExchangeObserver
    saw: Callable[[IWireRequest], None]
    clock: Clock
    jitter: Jitter
    body_limit: int
    upload_seconds: float
    given: Given | None = None
    fallbacks: Fallbacks = attrs.field(factory=Fallbacks)
    on_cut: OnCut = attrs.field(factory=OnCut)
    budget: RetryBudget = attrs.field(factory=RetryBudget)
    load: Load = attrs.field(factory=Load)
    head_seconds: float = 0.0
    affinity: bool = True
    known: Callable[[], Deferred[None]] = lambda: succeed(None)
    cors_origins: tuple[str, ...] = ()
    scrubber: Scrubber = attrs.field(factory=Scrubber, repr=False)

    @property
    def pools(self) -> Mapping[str, IAccountPool]:
        """Return the accounts of every seated provider."""
        return {name: seat.pool for name, seat in self.seats.items()}

    @property
    def earnest_pools(self) -> Mapping[str, IAccountPool]:
        """Return the same without those that need none, if there are any others."""
        earnest = {name: seat.pool for name, seat in self.seats.items() if not seat.free}
        return earnest or self.pools

    def seat(self, name: str) -> Seat:
        """
        Return the seat of a provider that `Directory.named` let through.

        :raise ProviderUnavailable: if it has none.
        """
        try:
            return self.seats[name]
        except KeyError:
            raise ProviderUnavailable(f"Provider {name} is not configured.") from None
