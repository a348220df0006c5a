"""
Ask accounts of our own accord whether they work, so that no user has to find out.

It decides whom, when and with which model; what is asked is said in `probe_request`,
what an answer means to an account is its pool's business. It must never know a dialect,
a state's name, or any time but its clock's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from aiclient2api.errors import Fault, GatewayError, UpstreamError
from aiclient2api.interfaces import IAccountPool, ILease, IProvider
from aiclient2api.state.timers import every
from aiclient2api.upstream.deadlines import within
from aiclient2api.values import Account, Clock, Jitter, Usage

EACH = 1.0
"""Seconds from one look for accounts to probe to the next."""

MOST = 4
"""Probes that may be at work at once."""

PATIENCE = 15.0
"""Seconds that a probe may take; then its connection is closed."""

HOLD = 60.0
"""Seconds that an account is left alone after a probe that said nothing of it."""

AGAIN = 10.0
"""Seconds until an account is looked at again that could not be leased."""

MOST_MODELS = 5
"""Models that an account is offered to be probed with, one after the other."""

OFF, PASSIVE, SCHEDULED = "off", "passive", "scheduled"


class ProbeRules(Protocol):
    """
    Whom to probe, and when. Values of one class that can be compared.

    An account's own `check_health` beats the mode: True is scheduled, False is off.
    """

    @property
    def mode(self) -> str:
        """
        Return ``off``, ``passive`` or ``scheduled``.

        Passive: accounts that rest, once they may be tried. Scheduled: all others as well.
        """

    @property
    def model(self) -> str | None:
        """Return which model to ask for, of accounts that name none and may serve it."""

    @property
    def interval(self) -> float:
        """Return the seconds from one scheduled probe of an account to its next."""

    @property
    def jitter(self) -> float:
        """Return up to how many seconds are added to that, by chance."""

    @property
    def providers(self) -> tuple[str, ...] | None:
        """Return who is probed on schedule, None for all; for the others it is passive."""

    @property
    def at_start(self) -> bool:
        """Say whether scheduled probes begin at once, instead of within the interval."""


class ProbeTarget(Protocol):
    """A provider whose accounts are probed."""

    @property
    def provider(self) -> IProvider:
        """Return the provider."""

    @property
    def pool(self) -> IAccountPool:
        """Return its accounts."""


Ask = Callable[[IProvider, Account, str], "Deferred[Usage | None]"]
"""Asks an account for a model, see `probe_request.ask`; cancelling closes the connection."""

_Key = tuple[str, str]


@attrs.define
class _Known:
    """
    What is remembered of one account; clock seconds.

    :ivar planned: When its next scheduled probe is; None: not yet planned.
    :ivar phased: False until its probes are spread over the interval.
    :ivar tried: When its last probe began.
    :ivar held: Until when it is left alone.
    :ivar told: Which faults of its configuration were logged.
    """

    planned: float | None = None
    phased: bool = False
    tried: float = -math.inf
    held: float = 0.0
    told: set[str] = attrs.field(factory=set)


@attrs.frozen
class _Wanted:
    """An account to probe now; those that rest go first, then who has waited longest."""

    order: tuple[int, float]
    key: _Key
    target: ProbeTarget
    account: Account
    known: _Known
    rules: ProbeRules


class Probes:
    """
    Probes accounts, few at a time and each by one probe at a time.

    :param targets: Returns those to probe; asked at every look.
    :param rules: Returns the rules in force; asked at every look.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: Clock,
        jitter: Jitter,
        targets: Callable[[], Iterable[ProbeTarget]],
        ask: Ask,
        rules: Callable[[], ProbeRules],
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._targets = targets
        self._ask = ask
        self._rules = rules
        self._known: dict[_Key, _Known] = {}
        self._running: dict[_Key, Deferred[Any]] = {}
        self._in_force: ProbeRules | None = None
        self._starting = True
        self._loop: LoopingCall | None = None

    @property
    def running(self) -> int:
        """How many probes are at work."""
        return len(self._running)

    def start(self) -> None:
        """Begin to look for accounts to probe."""
        if self._loop is None:
            self._loop = every(self._clock, EACH, self.look)

    def stop(self) -> None:
        """Probe no more, and close the connections of probes at work."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()
        for probing in list(self._running.values()):
            probing.cancel()

    def look(self) -> None:
        """Begin the probes that are wanted now, as many as may be at work."""
        room = MOST - len(self._running)
        if room <= 0:
            return
        now = self._clock.seconds()
        for wanted in sorted(self._wanted(now), key=lambda each: each.order):
            room -= self._begun(wanted, now)
            if not room:
                break

    # --- whom ---------------------------------------------------------------------

    def _wanted(self, now: float) -> Sequence[_Wanted]:
        rules = self._rules()
        if rules != self._in_force:
            self._replan(rules)
        found: list[_Wanted] = []
        there = 0
        for target in self._targets():
            accounts = target.pool.snapshot()
            there += len(accounts)
            found += self._wanted_of(target, accounts, rules, now)
        self._starting = False
        if len(self._known) > there:
            self._forget()
        return found

    def _wanted_of(
        self, target: ProbeTarget, accounts: Sequence[Account], rules: ProbeRules, now: float
    ) -> Iterable[_Wanted]:
        name = target.provider.name
        by_rule = _mode(rules, name)
        if by_rule != SCHEDULED:
            # Most of the time there is nothing to do, and some have thousands of accounts.
            wishes = any(account.check_health for account in accounts)
            if by_rule == OFF and not wishes:
                return
        resting = frozenset(target.pool.due())
        if by_rule != SCHEDULED and not wishes and not resting:
            return
        for account in accounts:
            mode = by_rule
            if account.check_health is not None:
                mode = SCHEDULED if account.check_health else OFF
            rests = account.id in resting
            if mode == OFF or not (rests or mode == SCHEDULED):
                continue
            key = (name, account.id)
            known = self._known.get(key)
            if known is None:
                known = self._known[key] = _Known()
            if mode == SCHEDULED and known.planned is None:
                self._plan(known, rules, now)
            if known.held > now or key in self._running:
                continue
            if rests:
                yield _Wanted((0, known.tried), key, target, account, known, rules)
            elif known.planned is not None and known.planned <= now:
                yield _Wanted((1, known.planned), key, target, account, known, rules)

    def _forget(self) -> None:
        """Keep nothing of accounts that there are no more."""
        there = {
            (target.provider.name, account.id)
            for target in self._targets()
            for account in target.pool.snapshot()
        }
        self._known = {key: known for key, known in self._known.items() if key in there}

    # --- when ---------------------------------------------------------------------

    def _replan(self, rules: ProbeRules) -> None:
        self._in_force = rules
        for known in self._known.values():
            known.planned = None
            known.phased = False

    def _plan(self, known: _Known, rules: ProbeRules, now: float) -> None:
        if known.phased:
            known.planned = now + rules.interval + rules.jitter * self._jitter()
        elif self._starting and rules.at_start:
            known.planned = now
        else:
            # Once, so that accounts that began together do not go on together.
            known.phased = True
            known.planned = now + rules.interval * (0.5 + self._jitter())

    # --- how ----------------------------------------------------------------------

    def _begun(self, wanted: _Wanted, now: float) -> bool:
        provider, known = wanted.target.provider, wanted.known
        models = _models(wanted)
        leased = self._lease(wanted, models)
        if leased is None:
            known.held = now + (AGAIN if models else HOLD)
            if not models:
                self._tell_once(
                    wanted,
                    "no model",
                    "Account {account} of {provider} cannot be probed: no model of it is known. "
                    "Name one as its checkModelName, or in supportedModels.",
                )
            return False
        lease, model = leased
        known.tried = now
        self._plan(known, wanted.rules, now)
        asking = maybeDeferred(self._ask, provider, lease.account, model)
        probing: Deferred[Any] = within(self._clock, PATIENCE, asking, partial(_late, provider))
        self._running[wanted.key] = probing
        probing.addCallbacks(
            partial(self._answered, lease), partial(self._failed, lease, wanted, model)
        )
        probing.addErrback(self._bug, wanted)
        probing.addBoth(lambda _: self._running.pop(wanted.key, None))
        return True

    def _lease(self, wanted: _Wanted, models: Iterable[str]) -> tuple[ILease, str] | None:
        for model in models:
            # One of its models may rest while others do not.
            lease = wanted.target.pool.probe(id=wanted.account.id, model=model)
            if lease is not None:
                return lease, model
        return None

    def _answered(self, lease: ILease, usage: Usage | None) -> None:
        lease.succeeded(usage=usage)

    def _failed(self, lease: ILease, wanted: _Wanted, model: str, failure: Failure) -> None:
        error = failure.value
        if failure.check(CancelledError):
            lease.abandoned()
        elif not isinstance(error, UpstreamError) or error.code == "gateway_bug":
            # Nothing was learnt of the account, and asking again at once teaches no more.
            wanted.known.held = self._clock.seconds() + HOLD
            lease.abandoned()
            self._not_asked(wanted, failure)
        else:
            if error.fault is Fault.NOT_FOUND:
                self._tell_once(
                    wanted,
                    "unknown model " + model,
                    "Account {account} of {provider} was probed with model {model}, and there is "
                    "no such model: name another as its checkModelName or as probe.model.",
                    model=model,
                )
            lease.failed(error=error)

    def _not_asked(self, wanted: _Wanted, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, UpstreamError) or not isinstance(error, GatewayError):
            self._bug(failure, wanted)
            return
        self._tell_once(
            wanted,
            error.message,
            "Account {account} of {provider} cannot be probed: {why}",
            why=error.message,
        )

    def _bug(self, failure: Failure, wanted: _Wanted) -> None:
        # Its words may quote anything.
        self._log.error(
            "A probe of account {account} of {provider} failed: {kind}. This is a bug.",
            account=wanted.account.name or wanted.account.id,
            provider=wanted.target.provider.name,
            kind=type(failure.value).__qualname__,
        )

    def _tell_once(self, wanted: _Wanted, what: str, sentence: str, **fields: str) -> None:
        if what in wanted.known.told:
            return
        wanted.known.told.add(what)
        self._log.warn(
            sentence,
            account=wanted.account.name or wanted.account.id,
            provider=wanted.target.provider.name,
            **fields,
        )


def _mode(rules: ProbeRules, provider: str) -> str:
    listed = rules.providers is None or provider in rules.providers
    return PASSIVE if rules.mode == SCHEDULED and not listed else rules.mode


def _models(wanted: _Wanted) -> Sequence[str]:
    """Return models that the account may be asked for, the most fitting first."""
    account, provider = wanted.account, wanted.target.provider
    if account.check_model:
        return (account.check_model,)
    candidates = (
        wanted.rules.model,
        *account.supported[:1],
        wanted.target.pool.last_model(id=account.id),
        *provider.known_models,
    )
    fitting = dict.fromkeys(each for each in candidates if each and _may_serve(account, each))
    return list(fitting)[:MOST_MODELS]


def _may_serve(account: Account, model: str) -> bool:
    if account.supported:
        return model in account.supported
    return model not in account.unsupported


def _late(provider: IProvider) -> UpstreamError:
    return UpstreamError(
        f"{provider.name} did not answer a probe within {PATIENCE:g} seconds.",
        fault=Fault.TIMEOUT,
        status=504,
        code="probe_timeout",
    )
