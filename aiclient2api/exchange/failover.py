"""
One client request, and everybody who was asked to answer it.

Here, and only here, it is decided who is asked next: providers classify errors, pools
lease accounts, `asking` asks one of them; this file goes on to the next account, to the
next way, waits, passes an error on or gives up. It must never know HTTP on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import attrs
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from aiclient2api.accounts.account import Kind, concerns_model, kind_of
from aiclient2api.accounts.budget import RetryBudget
from aiclient2api.dialects.convert import Converted
from aiclient2api.dialects.rescuing import Rescue
from aiclient2api.errors import (
    Fault,
    GatewayError,
    InvalidRequest,
    ProviderUnavailable,
    UnknownModel,
    UpstreamError,
)
from aiclient2api.exchange import cuts
from aiclient2api.exchange.asking import Asking
from aiclient2api.exchange.metering import Meter, added
from aiclient2api.exchange.patience import Patience, time_left
from aiclient2api.exchange.telling import TROUBLE, bare, passes, rank
from aiclient2api.interfaces import (
    IAccountPool,
    IClientReply,
    IExchangeObserver,
    ILease,
    IProvider,
)
from aiclient2api.observe.scrubber import Scrubber
from aiclient2api.upstream.relay import Ending
from aiclient2api.values import (
    Affinity,
    Clock,
    ExchangeRecord,
    Headers,
    Jitter,
    Outcome,
    Step,
    Usage,
)

_ANY = ""
"""Stands for all models of a provider."""


@attrs.frozen
class Way:
    """
    One way to an answer: a provider, its accounts, and the model it is asked for.

    :ivar why: Why it is one, such as ``providerFallbackChain``.
    """

    provider: IProvider
    pool: IAccountPool
    model: str
    why: str


Convert = Callable[[Way], Coroutine[Any, Any, Converted]]


def _none_wider(way: Way) -> Sequence[Way]:
    return ()


@attrs.define(eq=False)
class Exchange:
    """
    Answer one request.

    :ivar ways: The way that was chosen, then those to fall back on, in order.
    :ivar convert: Returns the request as a way's provider is to be asked.
    :ivar head: Returns what of the gateway's own stands in the head of the answer.
    :ivar wider: Returns the ways to go on with where the request was too long for one.
    :ivar affinity: Returns which conversation the request belongs to.
    :ivar rescue: The client's answer, if it is to be gone on with after a cut, else None;
        *convert* is to put it into what it returns.
    :ivar observers: Told of every step; never on the per-chunk path.
    :ivar scrubber: What takes secrets out of errors.
    """

    record: ExchangeRecord
    ways: Sequence[Way]
    convert: Convert
    reply: IClientReply
    patience: Patience
    clock: Clock
    jitter: Jitter
    observers: IExchangeObserver
    budget: RetryBudget = attrs.field(factory=RetryBudget)
    head: Callable[[ExchangeRecord, Converted], Headers] = lambda record, converted: ()
    wider: Callable[[Way], Sequence[Way]] = _none_wider
    affinity: Callable[[], Affinity | None] = lambda: None
    scrubber: Scrubber = attrs.field(factory=Scrubber, repr=False)
    rescue: Rescue | None = None
    _meter: Meter = attrs.field(factory=Meter, init=False)
    _asked: dict[tuple[str, str], set[str]] = attrs.field(factory=dict, init=False)
    _last: Asking | None = attrs.field(default=None, init=False)
    _error: GatewayError | None = attrs.field(default=None, init=False)
    _blamed: tuple[str, str, str] | None = attrs.field(default=None, init=False)
    _switches: int = attrs.field(default=0, init=False)
    _trying: bool = attrs.field(default=False, init=False)
    _interrupted: UpstreamError | None = attrs.field(default=None, init=False)
    _spent: Usage | None = attrs.field(default=None, init=False)

    _log = Logger()

    async def run(self) -> None:
        """
        Answer the request; return when the answer has been sent or broken off.

        Cancelling closes the upstream's connection in whatever phase it is.

        :raise GatewayError: if nothing was sent to the client yet.
        """
        self.observers.began(exchange=self.record)
        self.budget.working += 1
        try:
            ending = await self._answered_or_cut()
        except CancelledError:
            if self._interrupted is None:
                self._ended("cancelled", None)
                raise
            if self.rescue is None or not self.rescue.begun:
                self._ended("failed", self._interrupted)
                raise self._interrupted from None
            # Somebody was about to go on with an answer that had broken off.
            ending = self._broken_off(self.rescue, self._interrupted, self._interrupted)
        except GatewayError as error:
            self._ended("failed", error)
            raise
        except BaseException:
            self._ended("failed", None)
            raise
        finally:
            self.budget.working -= 1
            self.budget.trying -= self._trying
        self._ended(ending.how, ending.error)

    def interrupt(self, error: UpstreamError) -> bool:
        """
        End now: the gateway has to. Nobody else is asked, and no account is blamed.

        :return: True if an answer that had begun was broken off, with *error* at its end.
            Otherwise cancel `run`, which then raises *error*.
        """
        self._interrupted = error
        if self.rescue is not None:
            self.rescue.lose("the gateway had to stop")
        return self._last is not None and self._last.interrupt(error)

    # --- an answer that broke off -------------------------------------------------

    @property
    def _cut(self) -> UpstreamError | None:
        """What the answer broke off with, if it did after some of it was sent."""
        return None if self.rescue is None else self.rescue.cut

    async def _answered_or_cut(self) -> Ending:
        try:
            return await self._answered()
        except GatewayError as error:
            if self.rescue is None or self.rescue.cut is None:
                raise
            return self._broken_off(self.rescue, self.rescue.cut, error)

    def _broken_off(self, rescue: Rescue, cut: UpstreamError, last: GatewayError) -> Ending:
        """
        End an answer that nobody goes on with, with the error that cut it.

        :param last: What kept the last one from going on.
        """
        record = self.record
        why = cuts.hopeless(rescue, cut) or last.message[:200]
        self._note("not resumed", None, why=why)
        if rescue.cut_by is not None:
            record.provider, record.model, record.account = rescue.cut_by
        rescue.comment(f"not resumed after {rescue.cut_at} characters")
        self.reply.write(self.scrubber.data(rescue.error_frame(cut)))
        self.reply.finish()
        return Ending("truncated", cut)

    # --- who is asked -----------------------------------------------------------

    async def _answered(self) -> Ending:
        ways = list(self.ways)
        met: list[Way] = []
        while ways:
            way = ways.pop(0)
            met.append(way)
            self._note("target", way, why=way.why)
            ending, error = await self._by_way(way)
            if ending is not None:
                return ending
            if error is not None and error.fault is Fault.CONTEXT:
                # Only a model that takes more is of any use.
                ways = list(self.wider(way))
                met = []
        return await self._by_waiting(met)

    async def _by_way(self, way: Way) -> tuple[Ending | None, UpstreamError | None]:
        """Ask one account after the other, as long as there is one that is free."""
        while True:
            lease = await self._leased(way, wait=0.0)
            if lease is None:
                return None, None
            ending, error = await self._by_lease(way, lease)
            if ending is not None or error is None or error.fault is Fault.CONTEXT:
                return ending, error
            if self._switches >= self.patience.max_switches:
                # Each further way may still be tried with one account.
                return None, error
            self._switches += 1

    async def _by_waiting(self, ways: Sequence[Way]) -> Ending:
        """Wait for the first account that returns, if one does so soon enough."""
        until = self.clock.seconds() + self.patience.wait
        while True:
            left = until - self.clock.seconds()
            total = time_left(self.record, self.patience, self.clock)
            left = left if total is None else min(left, total)
            soonest = [
                (seconds, at)
                for at, way in enumerate(ways)
                if (seconds := way.pool.soonest(model=way.model, exclude=self._past(way)))
                is not None
            ]
            spent = self._switches >= self.patience.max_switches
            if left <= 0 or spent or not soonest or min(soonest)[0] > left:
                raise self._final(ways)
            way = ways[min(soonest)[1]]
            lease = await self._leased(way, wait=left)
            if lease is None:
                raise self._final(ways)
            ending, error = await self._by_lease(way, lease)
            if ending is not None:
                return ending
            if error is None or error.fault is Fault.CONTEXT:
                raise self._final(ways)
            self._switches += 1

    async def _leased(self, way: Way, *, wait: float) -> ILease | None:
        def note(what: str, account: str, why: str) -> None:
            self._note(what, way, account=account, why=why)

        several = len(way.pool.snapshot()) > 1
        try:
            lease: ILease = await way.pool.acquire(
                model=way.model,
                exclude=self._past(way),
                affinity=self.affinity() if several else None,
                wait=wait,
                limit=time_left(self.record, self.patience, self.clock),
                note=note,
            )
        except (ProviderUnavailable, UnknownModel) as error:
            self._note("refused", way, why=error.message[:300])
            # What an upstream said itself tells more than that nobody is left.
            if self._error is None or (
                not isinstance(self._error, UpstreamError) and error.retry_after is not None
            ):
                self._error = error
            return None
        self._asked.setdefault((way.provider.name, way.model), set()).add(lease.account.id)
        return lease

    def _past(self, way: Way) -> set[str]:
        """
        Return the accounts that are not to be leased again.

        One that was asked for a model is never asked for it again, nor for any other, unless
        only that model was at fault.
        """
        name = way.provider.name
        return self._asked.get((name, way.model), set()) | self._asked.get((name, _ANY), set())

    async def _by_lease(
        self, way: Way, lease: ILease
    ) -> tuple[Ending | None, UpstreamError | None]:
        """
        Ask one account.

        :return: How the answer ended, or what went wrong if another one may be asked, or
            neither if this way is none.
        """
        record = self.record
        record.provider, record.model = way.provider.name, way.model
        record.account = lease.account.id
        if self._cut is not None:
            self._spent = added(self._spent, self._usage)
        self._last = None
        try:
            converted = await self.convert(way)
            asking = self._last = self._asking(way, lease, converted)
            ending = await asking.run()
            if ending.open and ending.error is not None:
                # Others may go on with it, as if nothing had been sent.
                raise ending.error
        except UpstreamError as error:
            self._give_back(lease, error)
            self._worse(error)
            if error.fault is not Fault.CONTEXT and not concerns_model(error):
                self._asked.setdefault((way.provider.name, _ANY), set()).add(lease.account.id)
            self._go_on(way, error)
            return None, bare(error)
        except InvalidRequest as error:
            lease.abandoned()
            if way is self.ways[0]:
                raise
            # The way to fall back on cannot be asked such a thing; another one may.
            self._note("refused", way, why=error.message[:300])
            return None, None
        except BaseException:
            # The client left, or the fault is ours: the account did nothing wrong.
            lease.abandoned(usage=self._usage)
            raise
        if ending.error is None:
            lease.succeeded(self._usage)
        else:
            self._give_back(lease, ending.error)
        return ending, None

    def _asking(self, way: Way, lease: ILease, converted: Converted) -> Asking:
        return Asking(
            record=self.record,
            provider=way.provider,
            lease=lease,
            converted=converted,
            reply=self.reply,
            patience=self.patience,
            clock=self.clock,
            jitter=self.jitter,
            observers=self.observers,
            head=lambda: self._begun(converted),
            alternative=lambda: self._alternative(way),
            may_retry=self._affordable,
            scrubber=self.scrubber,
            meter=self._meter,
            again=lambda: self.convert(way),
        )

    def _begun(self, converted: Converted) -> Headers:
        """Return the head of an answer that begins: the trouble is over."""
        self.budget.trying -= self._trying
        self._trying = False
        return self.head(self.record, converted)

    def _give_back(self, lease: ILease, error: UpstreamError) -> None:
        # What came of a mere question says nothing of how answers would fare, nor does it that
        # a model does not say the same twice.
        telling = self._judging or error.fault is Fault.CREDENTIAL
        innocent = error.code == "gateway_bug" or cuts.differs(error)
        if telling and not innocent and self._interrupted is None:
            lease.failed(error=error, usage=self._usage)
        else:
            lease.abandoned(usage=self._usage)

    @property
    def _judging(self) -> bool:
        """Say whether it is an answer of a model that is asked for."""
        return bool(self.record.request.action == "generate")

    @property
    def _usage(self) -> Usage | None:
        return None if self._last is None else self._last.usage

    # --- whether to go on -------------------------------------------------------

    def _alternative(self, way: Way) -> bool:
        """Say whether another account could answer at once."""
        after = self.ways[self.ways.index(way) :] if way in self.ways else (way,)
        return any(each.pool.ready(model=each.model, exclude=self._past(each)) for each in after)

    def _go_on(self, way: Way, error: UpstreamError) -> None:
        """Raise what the caller is to be told, unless another account may be asked."""
        if self.rescue is not None and self._cut is not None and cuts.hopeless(self.rescue, error):
            raise error
        if error.fault is Fault.CONTEXT and self.wider(way):
            return
        if not self._judging or kind_of(error) is Kind.CALLERS_FAULT:
            raise error
        if error.code == "gateway_bug":
            raise self._final(self.ways)
        left = time_left(self.record, self.patience, self.clock)
        if (left is not None and left <= 0) or not self._affordable(error):
            raise self._final(self.ways)
        self._log.info(
            "{id}: {provider} failed ({fault}); looking for another account",
            id=self.record.id,
            provider=way.provider.name,
            fault=error.fault.value,
        )

    def _affordable(self, error: UpstreamError) -> bool:
        """Say whether asking on is in the budget, and take it from there."""
        if self._trying or error.fault not in TROUBLE:
            return True
        if not self.budget.allows():
            self._note("refused", None, why="the budget for further tries is used up")
            return False
        self._trying = True
        self.budget.trying += 1
        return True

    def _worse(self, error: UpstreamError) -> None:
        """Keep the error that tells most."""
        old = self._error
        if isinstance(old, UpstreamError) and rank(old) < rank(error):
            return
        record = self.record
        self._error, self._blamed = error, (record.provider, record.model, record.account)

    def _final(self, ways: Sequence[Way]) -> GatewayError:
        """Return what the caller is told when nobody is left to ask."""
        error, record = self._error, self.record
        assert error is not None, "nobody was asked and nobody refused"
        if self._blamed is not None and isinstance(error, UpstreamError):
            record.provider, record.model, record.account = self._blamed
        if not passes(error):
            return error
        back = (way.pool.soonest(model=way.model) for way in ways)
        soonest = min((seconds for seconds in back if seconds is not None), default=None)
        several = len(ways) > 1 or any(len(way.pool.snapshot()) > 1 for way in ways)
        # Of one account nobody knows better than its upstream when it is back; and where
        # somebody is ready already, nobody's word is no word either.
        if soonest is not None and (soonest > 0 if error.retry_after is None else several):
            error.retry_after = max(soonest, 1.0)
        return error

    # --- telling ----------------------------------------------------------------

    def _note(self, what: str, way: Way | None, *, account: str = "", why: str = "") -> None:
        self.record.steps.append(
            Step(
                at=self.clock.seconds() - self.record.began,
                what=what,
                provider=way.provider.name if way is not None else "",
                model=way.model if way is not None else "",
                account=account,
                why=why,
            )
        )

    def _ended(self, how: str, error: GatewayError | None) -> None:
        watcher = self._last.watcher if self._last is not None else None
        self._note("ended", None, why=how if error is None else f"{how}: {error.message[:200]}")
        self.observers.ended(
            exchange=self.record,
            outcome=Outcome(
                how=how,
                seconds=self.clock.seconds() - self.record.began,
                usage=added(self._spent, self._usage),
                error=error,
                text=watcher.text if watcher else "",
                spent=self._meter.spent(generated=self._judging),
            ),
        )
        # It knows this exchange in turn, and with the two the request and the answer would
        # stay in memory until the next collection of garbage, however large they are.
        self._last = self._error = None
