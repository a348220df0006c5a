"""
Build one `Setup` out of settings: which providers have a seat, and by what rules.

Used at start and at every reload, so that a reload is a dry build and one swap.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import attrs

from aiclient2api.accounts.account import PACES, Kind, Law
from aiclient2api.accounts.budget import RetryBudget
from aiclient2api.accounts.pool import Rules
from aiclient2api.accounts.pools import Pools
from aiclient2api.config import Settings
from aiclient2api.conversions import Conversions
from aiclient2api.exchange import Patience
from aiclient2api.fallbacks import Fallbacks
from aiclient2api.interfaces import (
    IDialect,
    IExchangeObserver,
    IProvider,
    IProviderFactory,
    IWireRequest,
)
from aiclient2api.observe.scrubber import Scrubber
from aiclient2api.policy import Directory
from aiclient2api.values import Account, Clock, Jitter, Runtime
from aiclient2api.web.kept import Answers, Given
from aiclient2api.web.keys import Keyring
from aiclient2api.web.load import Bounds, Load
from aiclient2api.web.model_lists import ModelLists
from aiclient2api.web.setup import Seat, Setup

UNLIMITED = 2**31
"""As many further tries as anybody may want."""


class Served(Mapping[str, Collection[str]]):
    """What each seated provider is known to serve, looked up when it is asked."""

    def __init__(self, seats: Mapping[str, Seat], lists: ModelLists) -> None:
        self._seats = seats
        self._lists = lists

    def __getitem__(self, name: str) -> Collection[str]:
        seat = self._seats[name]
        return self._lists.known(seat.provider, seat.pool.snapshot())

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._seats)

    def __len__(self) -> int:
        return len(self._seats)

    def __contains__(self, name: object) -> bool:
        return name in self._seats


def build_setup(
    settings: Settings,
    *,
    keys: Sequence[str],
    factories: Sequence[IProviderFactory],
    dialects: Sequence[IDialect],
    runtime: Runtime,
    lists: ModelLists,
    conversions: Conversions,
    answers: Answers | None,
    pools: Pools,
    budget: RetryBudget,
    load: Load | None = None,
    observers: IExchangeObserver,
    saw: Callable[[IWireRequest], None],
    clock: Clock,
    jitter: Jitter,
    given: Given | None = None,
    scrubber: Scrubber | None = None,
) -> Setup:
    """
    Return the setup that *settings* describe, and put its accounts in force.

    Sends nothing. What can fail comes first, so that a pool is changed only when nothing
    else can go wrong.
    """
    by_name = {factory.name: factory for factory in factories}
    seats: dict[str, Seat] = {}
    unavailable = {
        name: "it is known, but not built yet; choose another provider"
        for name in settings.known_providers
        if name not in by_name
    }
    for name, configured in settings.providers.items():
        factory = by_name.get(configured.base)
        if configured.reason is not None or factory is None or not configured.accounts:
            unavailable[name] = configured.reason or "it has no account"
            continue
        provider: IProvider = factory.provider(name=name, runtime=runtime)
        seats[name] = Seat(provider, pools.pool(name), free=not factory.needs_credential)
    timeouts = settings.timeouts
    setup = Setup(
        dialects=tuple(dialects),
        keyring=Keyring(keys),
        seats=seats,
        directory=Directory(
            served=Served(seats, lists),
            speaks={name: seat.provider.dialect.name for name, seat in seats.items()},
            unavailable=unavailable,
            known=settings.known_providers,
            defaults=() if settings.auto else settings.default_providers,
            custom=settings.custom_models,
        ),
        lists=lists,
        conversions=conversions,
        answers=answers,
        given=given,
        system=settings.system_prompt,
        patience=Patience(
            max_retries=settings.max_retries,
            base_delay=settings.base_delay,
            response_headers=timeouts.response_headers,
            first_event=timeouts.first_event,
            idle=timeouts.idle,
            total=timeouts.total,
            held_bytes=settings.limits.held_bytes,
            max_switches=settings.credential_switch_max_retries,
            wait=settings.wait_for_account,
        ),
        observers=observers,
        saw=saw,
        clock=clock,
        jitter=jitter,
        body_limit=settings.limits.body_bytes,
        upload_seconds=timeouts.upload,
        cors_origins=settings.cors_origins,
        fallbacks=Fallbacks(settings.fallback_chains, settings.model_fallbacks),
        on_cut=settings.on_cut,
        budget=budget,
        load=Load() if load is None else load,
        head_seconds=timeouts.head,
        affinity=settings.affinity.ttl > 0,
        known=pools.known,
        scrubber=Scrubber() if scrubber is None else scrubber,
    )
    allowed = settings.retry_budget
    budget.share = 1.0 if allowed is None else allowed.share
    budget.floor = UNLIMITED if allowed is None else allowed.floor
    setup.load.bounds = Bounds(
        in_flight=settings.limits.in_flight,
        per_key=settings.limits.per_key,
        total_bytes=settings.limits.total_bytes,
        key_bytes=settings.limits.key_bytes,
    )
    pools.remember(ttl=settings.affinity.ttl, size=settings.affinity.size)
    pools.adopt({name: _pooled(settings, name) for name in seats})
    return setup


def _pooled(settings: Settings, name: str) -> tuple[Sequence[Account], Rules]:
    rest = settings.rest
    limited = attrs.evolve(PACES[Kind.RATE_LIMITED], first=rest.first, longest=rest.longest)
    rules = Rules(
        strategy=settings.strategy_for(name),
        law=Law(
            faults=settings.max_error_count,
            paces={**PACES, Kind.RATE_LIMITED: limited},
        ),
        spread=rest.jitter,
        queue_seconds=settings.timeouts.queue,
    )
    return settings.providers[name].accounts, rules
