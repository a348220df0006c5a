"""
Which models each provider serves, asked of its upstreams and remembered.

A list that could be had once outlives an upstream that cannot be asked just now, and
the gateway that asked. Nothing here runs on the path of a generation: routing only
looks at what is known. It must never know how an account fares.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.exchange import without_secrets
from aiclient2api.interfaces import IProvider, IStateStore
from aiclient2api.observe.scrubber import Scrubber
from aiclient2api.upstream.deadlines import within
from aiclient2api.values import Account, Clock, CustomModel, ModelInfo
from aiclient2api.vendors import context_window
from aiclient2api.web.told_lists import ToldLists, packed, same, upstream_of

FRESH = 300.0
"""Seconds a list is given out without asking again."""

PATIENCE = 20.0
"""Seconds an upstream may take over its list."""

REST = 30.0
"""Seconds that an account which did not list its models is spared, if others can be asked."""

MOST = 5
"""Accounts of one provider that are asked for one listing, and at once."""

NAMESPACE = "model_lists"

KEPT = 30 * 86400.0
"""Seconds a list is kept in the store."""

TOTAL_BYTES = 32 * 1024 * 1024
ONE_BYTES = 4 * 1024 * 1024


class _Question:
    """
    One question to an upstream, and all who wait for its answer.

    Each waits on a Deferred of his own; when the last one has left, it is given up.

    :ivar open: False once it was given up or answered.
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.open = True
        self._waiting: list[Deferred[None]] = []
        self._asking: Deferred[None] | None = None

    def join(self) -> Deferred[None]:
        """Return a Deferred that fires when the answer is in, or fails as it failed."""
        waiter: Deferred[None] = Deferred(self._left)
        self._waiting.append(waiter)
        return waiter

    def ask(self, asking: Deferred[None]) -> None:
        """Wait for *asking*; to be called once, when somebody has joined."""
        self._asking = asking
        asking.addBoth(self._settle)

    def _left(self, waiter: Deferred[None]) -> None:
        self._waiting.remove(waiter)
        if not self._waiting and self._asking is not None:
            self.open = False
            self._asking.cancel()

    def _settle(self, result: Failure | None) -> None:
        # A cancellation ends here: it was made by the last one who left.
        self.open = False
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(None)


@attrs.frozen
class _Known:
    """What `ModelLists.known` found, and what of."""

    provider: IProvider
    accounts: tuple[Account, ...]
    names: Collection[str]


@attrs.define(eq=False)
class _Desk:
    """
    All that concerns one provider.

    :ivar failed: When an account last failed to tell, by its id.
    """

    told: ToldLists = attrs.field(factory=lambda: ToldLists(FRESH))
    failed: dict[str, float] = attrs.field(factory=dict)
    asking: dict[str, _Question] = attrs.field(factory=dict)
    room: DeferredSemaphore = attrs.field(factory=lambda: DeferredSemaphore(MOST))
    known: _Known | None = None


class ModelLists:
    """
    The last good model lists of all providers.

    Accounts of one provider with the same base URL are taken to be much alike: of a pool
    of thousands a few are asked, and speak for the others.

    :param clock: Tells how old a list is.
    :param store: Where lists outlive the gateway; None to have them in memory only.
    :param now: Returns Unix seconds: by them the store's lists are dated.
    :param scrubber: What takes secrets out of errors.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        store: IStateStore | None = None,
        now: Callable[[], float] = time.time,
        scrubber: Scrubber | None = None,
    ) -> None:
        self._scrubber = Scrubber() if scrubber is None else scrubber
        self._clock = clock
        self._store = store
        self._now = now
        self._desks: dict[str, _Desk] = {}
        if store is not None:
            store.limit(namespace=NAMESPACE, total=TOTAL_BYTES, one=ONE_BYTES)

    def known(self, provider: IProvider, accounts: Sequence[Account]) -> Collection[str]:
        """
        Return the model ids known of *provider* without asking anyone.

        Costs next to nothing until a list or the accounts change.

        :param accounts: Best the very same tuple each time: then none of them is looked at.
        """
        desk = self._desk(provider.name)
        last = desk.known
        if last is not None and last.provider is provider:
            if last.accounts is accounts:
                return last.names
            if last.accounts == tuple(accounts):
                desk.known = attrs.evolve(last, accounts=tuple(accounts))
                return last.names
        union = desk.told.union(accounts, _built_in(provider), besides=True)
        desk.known = _Known(provider, tuple(accounts), union.keys())
        return desk.known.names

    async def listed(self, provider: IProvider, accounts: Sequence[Account]) -> Sequence[ModelInfo]:
        """
        Return the models that *accounts* of *provider* serve, those of the first one first.

        What is old is asked for anew: of the first account of each base URL, then of others
        until it is `MOST`, all at once. Accounts whose models are configured are not asked.
        One that cannot be asked is answered for by its last good list, by others with the
        same base URL, or by what is built in.

        Cancelling gives up the wait, and the questions that nobody else waits for.

        :param accounts: The usable ones.
        :raise UpstreamError: if nothing is known from anyone: that of the first one asked.
        """
        desk = self._desk(provider.name)
        asked = [self._question(desk, provider, each) for each in self._due(desk, accounts)]
        errors: list[UpstreamError] = []
        if asked:
            for _, answer in await DeferredList(asked, consumeErrors=True):
                if isinstance(answer, Failure):
                    if not isinstance(answer.value, UpstreamError):
                        answer.raiseException()
                    errors.append(answer.value)
        models = desk.told.union(accounts, _built_in(provider), besides=False)
        if errors and not models:
            raise errors[0]
        return list(models.values())

    def window(self, provider: str, model: str) -> int | None:
        """
        Return how many tokens the context of *model* may have at *provider*, if known.

        What an upstream told counts more than what is known of the model's vendor.
        """
        desk = self._desks.get(provider)
        told = None if desk is None else desk.told.window(model)
        return context_window(model) if told is None else told

    def keep(self, accounts: Sequence[Account]) -> None:
        """Forget what was told of upstreams that no account of these has."""
        by_provider: dict[str, list[Account]] = {}
        for account in accounts:
            by_provider.setdefault(account.provider, []).append(account)
        self._desks = {name: desk for name, desk in self._desks.items() if name in by_provider}
        for name, desk in self._desks.items():
            desk.told.keep(by_provider[name])
            desk.failed.clear()
            desk.known = None

    def load(self, provider: str, accounts: Sequence[Account]) -> Deferred[None]:
        """
        Fetch from the store what earlier runs were told of upstreams that are still there.

        Never fails. Cancelling gives up the wait, and then nothing is fetched.
        """
        if self._store is None:
            return succeed(None)
        found: Deferred[Mapping[str, bytes]] = self._store.scan(namespace=NAMESPACE, owner=provider)
        return found.addCallback(self._loaded, provider, accounts)

    def _loaded(
        self, found: Mapping[str, bytes], provider: str, accounts: Sequence[Account]
    ) -> None:
        desk = self._desk(provider)
        desk.told.restore(found, accounts, at=self._clock.seconds(), now=self._now())
        desk.known = None

    def _desk(self, provider: str) -> _Desk:
        desk = self._desks.get(provider)
        if desk is None:
            desk = self._desks[provider] = _Desk()
        return desk

    def _due(self, desk: _Desk, accounts: Sequence[Account]) -> Sequence[Account]:
        """Return whom to ask now, at most `MOST`."""
        newest = desk.told.newest()
        firsts: list[Account] = []
        others: list[Account] = []
        spared: list[Account] = []
        upstreams: set[object] = set()
        for account in accounts:
            if account.supported:
                continue
            upstream = upstream_of(account)
            if upstream not in newest and self._rests(desk, account):
                # It speaks for nobody: another is to take its place.
                spared.append(account)
                continue
            (others if upstream in upstreams else firsts).append(account)
            upstreams.add(upstream)
        speakers = [*firsts, *others][: max(MOST, len(firsts))]
        due = [
            account
            for account in speakers
            if not self._rests(desk, account) and not self._is_fresh(desk, account)
        ]
        return (due if speakers else spared)[:MOST]

    def _rests(self, desk: _Desk, account: Account) -> bool:
        failed = desk.failed.get(account.id)
        return failed is not None and self._clock.seconds() - failed < REST

    def _is_fresh(self, desk: _Desk, account: Account) -> bool:
        told = desk.told.own(account)
        return told is not None and self._clock.seconds() - told.at < FRESH

    def _question(self, desk: _Desk, provider: IProvider, account: Account) -> Deferred[None]:
        """Ask *account*, or join those who already wait for what it tells."""
        question = desk.asking.get(account.id)
        if question is not None and question.open and same(question.settings, account.settings):
            return question.join()
        question = desk.asking[account.id] = _Question(account.settings)
        waiter = question.join()
        asking: Deferred[Sequence[ModelInfo]] = desk.room.run(self._asked, provider, account)
        question.ask(asking.addBoth(self._answered, desk, account, question))
        return waiter

    def _answered(
        self,
        answer: Sequence[ModelInfo] | Failure,
        desk: _Desk,
        account: Account,
        question: _Question,
    ) -> Failure | None:
        # One that was given up, or asked with other settings since, tells nothing any more.
        current = desk.asking.get(account.id) is question
        if current:
            del desk.asking[account.id]
        current = current and question.open
        if not isinstance(answer, Failure):
            if current:
                self._tell(desk, account, answer)
            return None
        if not isinstance(answer.value, UpstreamError):
            return answer
        error = self._scrubber.error(without_secrets(answer.value, account.secrets))
        if current:
            desk.failed[account.id] = self._clock.seconds()
            self._log.info(
                "Account {account} of {provider} did not list its models: {why}",
                account=account.id,
                provider=account.provider,
                why=error.message,
            )
        return Failure(error)

    def _tell(self, desk: _Desk, account: Account, models: Sequence[ModelInfo]) -> None:
        desk.failed.pop(account.id, None)
        desk.told.tell(account, models, self._clock.seconds())
        desk.known = None
        value = None if self._store is None else packed(account, models, self._now())
        if self._store is not None and value is not None:
            self._store.put(
                namespace=NAMESPACE, owner=account.provider, key=account.id, value=value, ttl=KEPT
            )

    def _asked(self, provider: IProvider, account: Account) -> Deferred[Sequence[ModelInfo]]:
        def late() -> UpstreamError:
            return UpstreamError(
                f"{provider.name} did not list its models within {PATIENCE:g} seconds.",
                fault=Fault.TIMEOUT,
                status=504,
            )

        return within(self._clock, PATIENCE, provider.models(account=account), late)


def merged(
    models: Sequence[ModelInfo],
    custom: Sequence[CustomModel],
    provider: str | None = None,
) -> Sequence[ModelInfo]:
    """
    Return *models* with the operator's own ones, each in the place of one of the same id.

    :param provider: Add only those that are listed under this one; None for all.
    """
    union = {model.id: model for model in models}
    own: dict[str, ModelInfo] = {}
    for each in custom:
        owner = each.owner or each.provider
        if provider in (None, owner):
            # The first one of a name is the one that routing takes.
            own.setdefault(each.id, _listing(each, owner))
    return list({**union, **own}.values())


def _listing(custom: CustomModel, owner: str) -> ModelInfo:
    return ModelInfo(
        id=custom.id,
        owned_by=owner,
        display_name=custom.name,
        input_limit=custom.context,
        output_limit=custom.sampling.max_tokens,
    )


def _built_in(provider: IProvider) -> Sequence[ModelInfo]:
    return [ModelInfo(id=model, owned_by=provider.name) for model in provider.known_models]
