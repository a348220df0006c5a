"""
Credentials that expire, renewed before anybody has to wait for it.

A timer asks each provider to renew what expires soon; another one looks whether somebody
else has renewed, or has logged in anew: then an account that rests for want of a good
credential is tried at once. It must never know what a credential is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from aiclient2api.errors import UpstreamError
from aiclient2api.interfaces import IAccountPool, IProvider, IRenewing
from aiclient2api.state.timers import every
from aiclient2api.values import Account, Clock

EACH = 30.0
"""Seconds between two looks at what expires soon."""

WATCH = 2.0
"""Seconds between two looks at what others have renewed."""

MOST = 4
"""Renewals at a time."""

AGAIN = 3600.0
"""Seconds until the same trouble of the same account is told again."""

_CREDENTIAL = frozenset({"credential", "refresh"})


class RenewTarget(Protocol):
    """A provider, and its accounts."""

    @property
    def provider(self) -> IProvider:
        """Return the provider."""

    @property
    def pool(self) -> IAccountPool:
        """Return its accounts."""


class Renewals:
    """
    The two timers.

    :param targets: Returns the providers in use; asked at every look.
    :param early: Returns how many seconds before its expiry a credential is renewed, None
        if none is.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: Clock,
        targets: Callable[[], Iterable[RenewTarget]],
        early: Callable[[], float | None],
    ) -> None:
        self._clock = clock
        self._targets = targets
        self._early = early
        self._room = DeferredSemaphore(MOST)
        self._renewing: dict[tuple[str, str], Deferred[None]] = {}
        self._versions: dict[tuple[str, str], str] = {}
        self._told: dict[tuple[str, str], tuple[str, float]] = {}
        self._loops: list[LoopingCall] = []

    def start(self) -> None:
        """Begin to look."""
        if not self._loops:
            self._loops = [
                every(self._clock, WATCH, self.watch),
                every(self._clock, EACH, self.look),
            ]

    def stop(self) -> None:
        """Look no more. A renewal under way goes on to its end: nobody may cut it off."""
        loops, self._loops = self._loops, []
        for loop in loops:
            loop.stop()
        for waiting in tuple(self._renewing.values()):
            waiting.cancel()

    def look(self) -> None:
        """Ask for all that expires soon to be renewed."""
        seconds = self._early()
        if seconds is None:
            return
        for renewing, _, account in self._accounts():
            key = (account.provider, account.id)
            if key not in self._renewing:
                self._renewing[key] = Deferred.fromCoroutine(
                    self._renew(renewing, account, seconds)
                )
                self._renewing[key].addBoth(self._renewed, key)
        self._renewing = {key: each for key, each in self._renewing.items() if not each.called}

    def watch(self) -> None:
        """Let accounts be tried whose credential is another one by now."""
        seen = {}
        for renewing, pool, account in self._accounts():
            key = (account.provider, account.id)
            version = seen[key] = renewing.version(account=account)
            before = self._versions.get(key)
            if before is not None and before != version:
                self._changed(pool, account)
        self._versions = seen

    def _changed(self, pool: IAccountPool, account: Account) -> None:
        for report in pool.report():
            if report.account.id == account.id and report.standing.reason in _CREDENTIAL:
                pool.reset([account.id])
                self._log.info(
                    "Account {id} of {provider} has another credential; it is tried again.",
                    id=account.id,
                    provider=account.provider,
                )

    async def _renew(self, renewing: IRenewing, account: Account, seconds: float) -> None:
        await self._room.acquire()
        try:
            error = await renewing.renew_early(account=account, seconds=seconds)
        finally:
            self._room.release()
        if isinstance(error, UpstreamError):
            self._tell(account, error)

    def _renewed(self, result: object, key: tuple[str, str]) -> None:
        self._renewing.pop(key, None)
        cause = getattr(result, "value", None)
        if cause is not None and not isinstance(cause, CancelledError):
            # Its words may quote anything.
            self._log.error(
                "Renewing account {id} of {provider} failed: {kind}. This is a bug.",
                id=key[1],
                provider=key[0],
                kind=type(cause).__qualname__,
            )

    def _tell(self, account: Account, error: UpstreamError) -> None:
        key, now = (account.provider, account.id), self._clock.seconds()
        said, at = self._told.get(key, ("", -AGAIN))
        if said == error.message and now - at < AGAIN:
            return
        self._told[key] = error.message, now
        self._log.warn(
            "Account {id} of {provider} could not be renewed: {why}",
            id=account.id,
            provider=account.provider,
            why=error.message,
        )

    def _accounts(self) -> Iterable[tuple[IRenewing, IAccountPool, Account]]:
        for target in self._targets():
            renewing = IRenewing(target.provider, None)
            if renewing is not None:
                for account in target.pool.snapshot():
                    yield renewing, target.pool, account
