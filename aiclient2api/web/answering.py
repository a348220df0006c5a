"""
From a parsed request to an exchange: the ways to an answer, each in its provider's dialect.

What a request needs afresh for every provider that is asked is done here, and only when
one is asked. It must never know a provider's or a dialect's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs

from aiclient2api.conversions import mendable
from aiclient2api.dialects.convert import Converted, relayed
from aiclient2api.dialects.rescuing import Rescue
from aiclient2api.errors import Fault, GatewayError, NoAccount, UpstreamError
from aiclient2api.exchange import Convert, Exchange, Way
from aiclient2api.fallbacks import Target, targets, wider
from aiclient2api.interfaces import IDialect, IProvider, IWireRequest
from aiclient2api.policy import Choice
from aiclient2api.values import Affinity, Caller, ExchangeRecord, Headers
from aiclient2api.web.channel import GatewayRequest
from aiclient2api.web.kept import Remembering
from aiclient2api.web.noting import Noting
from aiclient2api.web.replies import ClientReply, header_text, send_json
from aiclient2api.web.setup import Setup

_LOSSY = 1024
"""Bytes that the codes of one answer may take."""
_MORE = ", more"

_WHERE = {"default": "default provider", "header": "Model-Provider header"}
"""What a reason of `policy` is called in a sentence."""

PROVIDER = b"x-aiclient2api-provider"
MODEL = b"x-aiclient2api-model"
ACCOUNT = b"x-aiclient2api-account"
LOSSY = b"x-aiclient2api-lossy"


@attrs.define(eq=False)
class Answering:
    """
    One request that is to be answered by a model.

    :ivar wire: The request as the client sent it.
    :ivar choice: Who is to answer it.
    """

    request: GatewayRequest
    setup: Setup
    caller: Caller
    dialect: IDialect
    wire: IWireRequest
    choice: Choice
    _targets: dict[Way, Target] = attrs.field(factory=dict, init=False)
    _affinity: Affinity | None = attrs.field(default=None, init=False)
    _keepers: tuple[str, ...] = attrs.field(default=(), init=False)
    _record: ExchangeRecord | None = attrs.field(default=None, init=False)
    _rescue: Rescue | None = attrs.field(default=None, init=False)

    async def run(self) -> None:
        """Answer, estimate, or raise what the client is to be told."""
        setup, choice = self.setup, self.choice
        setup.saw(self.wire)
        found = self._reachable()
        counting = self.wire.action == "count_tokens"
        if counting and not setup.seat(found[0].provider).provider.counts_tokens:
            self._estimate(found[0])
            return
        await self._find_keepers(found)
        if await self._may_be_resumed(found):
            limit = setup.patience.held_bytes
            self._rescue = Rescue(comments=self.dialect.comments, limit=limit)
        try:
            await self._exchange([self._way(target) for target in found])
        except (UpstreamError, NoAccount) as error:
            # A count is worth no trouble: what nobody tells is estimated. But what is wrong
            # with the request itself is told.
            if not counting or _callers(error):
                raise
            self._estimate(Target(choice.provider, choice.model, choice.reason))

    async def _may_be_resumed(self, found: Sequence[Target]) -> bool:
        """Say whether the answer is gone on with after a cut, should there be one."""
        wire, choice, custom = self.wire, self.choice, self.choice.custom
        if wire.action != "generate" or wire.framing != "sse":
            return False
        names = [choice.model, wire.model]
        if custom is not None:
            names = [custom.id, custom.alias or custom.id, choice.model]
        if not self.setup.on_cut.resumes(choice.provider, names):
            return False
        remembering = remembering_of(self.setup, self.caller, self.dialect)
        provider = self.setup.seat(found[0].provider).provider
        named = provider.name if self._is_spoken_by(provider) else None
        try:
            wire = await remembering.continued(wire, verbatim=named)
        except GatewayError:
            # The client is told of that on the way that every request takes.
            return False
        # One that goes on from an answer which only its upstream knows cannot be read.
        return mendable(wire)

    def _reachable(self) -> Sequence[Target]:
        """
        Return where the request may go.

        :raise GatewayError: if what was chosen cannot be used, and nothing stands in for it.
        """
        setup, choice = self.setup, self.choice
        found = targets(choice, setup.directory, setup.fallbacks)
        seated = [target for target in found if target.provider in setup.seats]
        if not seated:
            where = _WHERE.get(choice.reason, choice.reason)
            setup.directory.named(choice.provider, where=where)
        return seated

    def _estimate(self, target: Target) -> None:
        """Answer how many tokens the request is, as far as that can be told from here."""
        wire = self._amended(target)
        count = self.setup.conversions.counted(wire, source=self.dialect, model=self.wire.model)
        for name, value in self._names(target.provider, target.model):
            self.request.setHeader(name, value)
        self.request.setHeader(b"x-aiclient2api-estimated", b"true")
        send_json(self.request, 200, count)

    async def relay_only(self, keeper: str | None) -> None:
        """
        Let the chosen provider answer, in the client's own dialect, and nobody else.

        :param keeper: The account that keeps what is asked for, if one is known to.
        """
        way = self._way(Target(self.choice.provider, self.choice.model, self.choice.reason))
        self._keepers = () if keeper is None else (keeper,)

        async def convert(way: Way) -> Converted:
            return relayed(self.wire, source=self.dialect)

        await self._exchange([way], convert=convert)

    async def _exchange(self, ways: Sequence[Way], convert: Convert | None = None) -> None:
        setup, choice = self.setup, self.choice
        self._record = record = ExchangeRecord(
            id=self.request.exchange_id,
            caller=self.caller.id,
            request=self.wire,
            provider=choice.provider,
            model=choice.model,
            began=setup.clock.seconds(),
        )
        reply = ClientReply(self.request)
        exchange = Exchange(
            record=record,
            ways=ways,
            convert=convert or self._converted,
            reply=reply,
            patience=setup.patience,
            clock=setup.clock,
            jitter=setup.jitter,
            observers=setup.observers,
            budget=setup.budget,
            head=self._head,
            wider=self._wider,
            affinity=self._conversation,
            scrubber=setup.scrubber,
            rescue=self._rescue,
        )
        self.request.break_off = exchange.interrupt
        try:
            await exchange.run()
        except GatewayError:
            # Whom the error is of; nothing was sent yet.
            for name, value in self._names(record.provider, record.model, record.account):
                self.request.setHeader(name, value)
            raise
        # An aborted connection is lost only in a later turn of the reactor.
        await reply.settled

    # --- for each provider that is asked ----------------------------------------

    def _way(self, target: Target) -> Way:
        seat = self.setup.seat(target.provider)
        way = Way(seat.provider, seat.pool, target.model, target.why)
        self._targets[way] = target
        return way

    def _amended(self, target: Target) -> IWireRequest:
        return self.wire.amended(
            model=target.model if target.model != self.wire.model else None,
            system=self.setup.system,
            sampling=target.sampling,
        )

    async def _converted(self, way: Way) -> Converted:
        wire, provider = self._amended(self._targets[way]), way.provider
        remembering = remembering_of(self.setup, self.caller, self.dialect)
        wire = await remembering.continued(
            wire, verbatim=provider.name if self._is_spoken_by(provider) else None
        )
        converted = await self.setup.conversions.converted(
            wire,
            source=self.dialect,
            provider=provider,
            model=self.wire.model,
            caller=self.caller.id,
            keep=partial(remembering.keep, wire),
            rescue=self._rescue,
        )
        if not converted.verbatim or not remembering.applies:
            return converted
        assert self._record is not None
        give = remembering.given_by(provider.name, self._record.account)
        return attrs.evolve(converted, watch=lambda *how: Noting(converted.watch(*how), give))

    def _is_spoken_by(self, provider: IProvider) -> bool:
        return bool(provider.dialect.name == self.dialect.name)

    async def _find_keepers(self, found: Sequence[Target]) -> None:
        """Find out which accounts keep what the request goes on from."""
        remembering = remembering_of(self.setup, self.caller, self.dialect)
        if remembering.applies:
            names = dict.fromkeys(target.provider for target in found)
            seats = (self.setup.seat(name).provider for name in names)
            spoken = [each.name for each in seats if self._is_spoken_by(each)]
            self._keepers = await remembering.keepers(self.wire, spoken)

    def _wider(self, way: Way) -> Sequence[Way]:
        found = tuple(self._targets.values())
        at = found.index(self._targets[way])
        return [self._way(target) for target in wider(found, at, self.setup.lists.window)]

    def _conversation(self) -> Affinity | None:
        if not self.setup.affinity:
            # That an account keeps something is no matter of taste.
            return Affinity(keepers=self._keepers) if self._keepers else None
        if self._affinity is None:
            self._affinity = _of_caller(self.wire.affinity(), self.caller.id, self._keepers)
        return self._affinity

    # --- what stands in the head of the answer ----------------------------------

    def _head(self, record: ExchangeRecord, converted: Converted) -> Headers:
        names = self._names(record.provider, record.model, record.account)
        losses = converted.request.losses
        return (*names, (LOSSY, _lossy(losses))) if losses else names

    def _names(self, provider: str, model: str, account: str = "") -> Headers:
        names = ((PROVIDER, header_text(provider)), (MODEL, header_text(model)))
        return (*names, (ACCOUNT, header_text(account))) if account else names


def _callers(error: GatewayError) -> bool:
    return isinstance(error, UpstreamError) and error.fault in (Fault.CALLER, Fault.CONTEXT)


def remembering_of(setup: Setup, caller: Caller, dialect: IDialect) -> Remembering:
    """Return what requests of *caller* in *dialect* may refer to."""
    return Remembering(dialect, caller.id, setup.answers, setup.given, setup.keyring.sole)


def _of_caller(affinity: Affinity, caller: str, keepers: tuple[str, ...]) -> Affinity:
    """Return *affinity* with names that nobody else's conversations can have."""

    def own(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{caller}:{name}" for name in names)

    return Affinity(find=own(affinity.find), bind=own(affinity.bind), keepers=keepers)


def _lossy(codes: Sequence[str]) -> bytes:
    """Return all of *codes*, or as many as a header may hold and ``more``."""
    whole = ", ".join(codes)
    if len(whole) <= _LOSSY:
        return header_text(whole, _LOSSY)
    # A code is much shorter than that, so there is always one that fits.
    fitting = whole[: _LOSSY - len(_MORE)].rpartition(", ")[0]
    return header_text(fitting + _MORE, _LOSSY)
