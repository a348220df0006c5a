"""A provider whose accounts can be asked for their models, and lists that ask them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.values import Account, ModelInfo, setting
from aiclient2api.web.model_lists import ModelLists


@attrs.frozen
class Settings:
    """What an account is configured with."""

    key: str = setting(kind="secret", help="A key.", default="k")
    base_url: str = setting(kind="url", help="Where.", default="https://one.example")


def account(id: str, url: str = "https://one.example", **more: Any) -> Account:
    """Return an account whose key is its id."""
    return Account(provider="p", id=id, settings=Settings(f"key-{id}", url), **more)


def down(message: str = "down") -> Failure:
    """Return what an upstream that cannot be asked gives."""
    return Failure(UpstreamError(message, fault=Fault.UNREACHABLE, status=502))


class Provider:
    """
    A provider that can be asked for its models.

    :ivar serving: What each account lists, or a Deferred of it; who is not in it is down.
    :ivar asked: The ids of those who were asked, in order.
    :ivar looks: How often its built-in models were looked at.
    """

    name = "p"

    def __init__(self, known: tuple[str, ...] = (), /, **serving: Any) -> None:
        self.known = known
        self.serving: dict[str, Any] = serving
        self.asked: list[str] = []
        self.looks = 0

    @property
    def known_models(self) -> tuple[str, ...]:
        """The built-in ones."""
        self.looks += 1
        return self.known

    def models(self, *, account: Account) -> Deferred[Sequence[ModelInfo]]:
        """Answer for *account*."""
        self.asked.append(account.id)
        serving = self.serving.get(account.id, down())
        if isinstance(serving, Deferred):
            return serving
        if isinstance(serving, Failure):
            return fail(serving)
        return succeed(
            [each if isinstance(each, ModelInfo) else ModelInfo(id=each) for each in serving]
        )


class Fixture(SynchronousTestCase):
    """Lists without a past."""

    def setUp(self) -> None:
        """Start with nothing known."""
        self.clock = Clock()
        self.now = 1_700_000_000.0
        self.lists = ModelLists(self.clock)

    def listing(self, provider: Provider, *accounts: Account) -> Deferred[Sequence[ModelInfo]]:
        """Ask for a listing."""
        return Deferred.fromCoroutine(
            self.lists.listed(provider, accounts)  # type: ignore[arg-type]
        )

    def listed(self, provider: Provider, *accounts: Account) -> list[str]:
        """Return the ids listed at once."""
        return [each.id for each in self.successResultOf(self.listing(provider, *accounts))]

    def known(self, provider: Provider, *accounts: Account) -> list[str]:
        """Return the ids known."""
        return list(self.lists.known(provider, accounts))  # type: ignore[arg-type]
