"""Credentials renewed by a timer, and accounts that come back when somebody logs in anew."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from aiclient2api.accounts.affinity import Affinities
from aiclient2api.accounts.pool import AccountPool, Rules
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.interfaces import IRenewing
from aiclient2api.renewals import EACH, MOST, WATCH, Renewals
from aiclient2api.values import Account, Credential


@implementer(IRenewing)
class Provider:
    """A provider of which only the credentials count."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []
        self.answers: list[Deferred[object]] = []
        self.versions: dict[str, str] = {}

    def credential(
        self, *, account: Account, refused: Credential | None = None
    ) -> Deferred[Credential]:
        """Return a token."""
        return succeed(Credential("token"))

    def renew_early(self, *, account: Account, seconds: float) -> Deferred[object]:
        """Note the question, and answer when the test says so."""
        self.asked.append((account.id, seconds))
        answer: Deferred[object] = Deferred()
        self.answers.append(answer)
        return answer

    def version(self, *, account: Account) -> str:
        """Return what the test says."""
        return self.versions.get(account.id, "1")


@attrs.frozen
class Seat:
    """A provider and its pool."""

    provider: Any
    pool: AccountPool


class RenewalsTests(SynchronousTestCase):
    """The timers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.provider = Provider()
        self.pool = AccountPool(
            "p",
            clock=self.clock,
            now=self.clock.seconds,
            jitter=lambda: 0.0,
            affinities=Affinities(ttl=0.0, size=0),
        )
        self.early: float | None = 900.0
        self.renewals = Renewals(
            clock=self.clock,
            targets=lambda: [Seat(self.provider, self.pool), Seat(object(), self.pool)],
            early=lambda: self.early,
        )
        self.lines: list[str] = []
        observer: Any = self.note
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def note(self, event: LogEvent) -> None:
        """Keep what is logged as a warning."""
        if event.get("log_level") is LogLevel.warn:
            self.lines.append(str(event.get("why")))

    def accounts(self, count: int) -> None:
        """Give the pool so many accounts."""
        accounts = [Account(provider="p", id=f"a{n}", settings=None) for n in range(count)]
        self.pool.adopt(accounts, Rules())

    def test_all_that_expires_is_renewed(self) -> None:
        """Each account is asked about at every look, a few at a time, none twice at once."""
        self.accounts(MOST + 2)
        self.renewals.start()
        self.addCleanup(self.renewals.stop)
        self.assertEqual(len(self.provider.asked), MOST)
        self.clock.advance(EACH)
        self.assertEqual(len(self.provider.asked), MOST)
        for answer in self.provider.answers[:2]:
            answer.callback(None)
        self.assertEqual(self.provider.asked, [(f"a{n}", 900.0) for n in range(MOST + 2)])

    def test_switched_off(self) -> None:
        """``cron_refresh_token: false`` asks for nothing."""
        self.accounts(1)
        self.early = None
        self.renewals.look()
        self.assertEqual(self.provider.asked, [])

    def test_what_goes_wrong_is_told_once(self) -> None:
        """Not at every look."""
        self.accounts(1)
        for _ in range(3):
            self.renewals.look()
            error = UpstreamError("Log in again.", fault=Fault.CREDENTIAL, status=401)
            self.provider.answers.pop().callback(error)
        self.assertEqual(self.lines, ["Log in again."])

    def test_a_bug_ends_nothing(self) -> None:
        """It is logged, and the next look asks again."""
        self.accounts(1)
        self.renewals.look()
        self.provider.answers.pop().errback(RuntimeError("canary"))
        self.renewals.look()
        self.assertEqual(len(self.provider.asked), 2)
        self.provider.answers.pop().callback(None)

    def test_who_logs_in_anew_is_tried_at_once(self) -> None:
        """An account that rests for its credential is ready when that is another one."""
        self.accounts(2)
        self.renewals.start()
        self.addCleanup(self.renewals.stop)
        for fault in (Fault.CREDENTIAL, Fault.RATE_LIMIT):
            lease = self.successResultOf(self.pool.acquire(model="m"))
            lease.failed(error=UpstreamError("no", fault=fault, status=401))
        self.clock.advance(WATCH)
        self.assertFalse(self.pool.ready(model="m"))
        self.provider.versions = {"a0": "2", "a1": "2"}
        self.clock.advance(WATCH)
        states = [report.standing.state for report in self.pool.report()]
        self.assertEqual(states, ["ready", "cooling"])

    def test_the_end(self) -> None:
        """No timer is left, and no renewal is cut off."""
        self.accounts(1)
        self.renewals.start()
        self.renewals.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
