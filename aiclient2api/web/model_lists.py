"""
Which models each provider serves, asked of its upstream and remembered.

A list that could be had once outlives an upstream that cannot be asked just now.
Nothing here runs on the path of a generation: routing only looks at what is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from twisted.internet.defer import Deferred

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.exchange import without_secrets
from aiclient2api.interfaces import IProvider
from aiclient2api.upstream.deadlines import within
from aiclient2api.values import Account, Clock, ModelInfo

FRESH = 300.0
"""Seconds a list is given out without asking again."""

PATIENCE = 20.0
"""Seconds an upstream may take over its list."""


@attrs.define
class _Remembered:
    models: Sequence[ModelInfo]
    at: float


class ModelLists:
    """
    The last good model list of each account.

    :param clock: Tells how old a list is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lists: dict[Account, _Remembered] = {}

    def known(self, provider: IProvider, accounts: Sequence[Account]) -> Sequence[str]:
        """Return the model ids known of *provider* without asking anyone."""
        configured = [model for account in accounts for model in account.supported]
        if configured:
            return configured
        live = [
            model.id
            for account in accounts
            if account in self._lists
            for model in self._lists[account].models
        ]
        return list(dict.fromkeys([*provider.known_models, *live]))

    async def listed(self, provider: IProvider, account: Account) -> Sequence[ModelInfo]:
        """
        Return the models of *provider*, freshly asked for if the list is old.

        :raise UpstreamError: if it cannot be asked and nothing is known of it.
        """
        if account.supported:
            return [ModelInfo(id=model, owned_by=provider.name) for model in account.supported]
        last = self._lists.get(account)
        if last is not None and self._clock.seconds() - last.at < FRESH:
            return last.models
        try:
            models = await self._asked(provider, account)
        except UpstreamError as error:
            if last is not None:
                return last.models
            if provider.known_models:
                return [
                    ModelInfo(id=model, owned_by=provider.name) for model in provider.known_models
                ]
            raise without_secrets(error, account.secrets) from None
        models = [model for model in models if model.id not in account.unsupported]
        self._lists[account] = _Remembered(models, self._clock.seconds())
        return models

    def keep(self, accounts: Sequence[Account]) -> None:
        """Forget the lists of all accounts but these."""
        self._lists = {each: self._lists[each] for each in accounts if each in self._lists}

    def _asked(self, provider: IProvider, account: Account) -> Deferred[Sequence[ModelInfo]]:
        def late() -> UpstreamError:
            return UpstreamError(
                f"{provider.name} did not list its models within {PATIENCE:g} seconds.",
                fault=Fault.TIMEOUT,
                status=504,
            )

        return within(self._clock, PATIENCE, provider.models(account=account), late)
