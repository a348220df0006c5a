"""
One provider asked with one account: sent, read, and asked again while that makes sense.

All of it happens within one lease. Whether another account is asked afterwards is the
exchange's business. It must never know HTTP on either side: requests go through
`IUpstream`, answers through `IClientReply`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from aiclient2api.dialects.convert import Converted
from aiclient2api.errors import Fault, RawReply, UpstreamError
from aiclient2api.exchange.metering import Meter
from aiclient2api.exchange.opened import Opened
from aiclient2api.interfaces import (
    IClientReply,
    IEnveloping,
    IExchangeObserver,
    ILease,
    IProvider,
    IRenewing,
    IUpstreamResponse,
    IWatcher,
)
from aiclient2api.observe.redaction import SHORTEST, without, without_bytes
from aiclient2api.observe.scrubber import Scrubber
from aiclient2api.upstream.answers import ERROR_BODY_SECONDS, passed_headers, refusal
from aiclient2api.upstream.deadlines import within
from aiclient2api.upstream.relay import Clocks, Ending, Relay
from aiclient2api.values import (
    HELD_LIMIT,
    Account,
    Clock,
    Credential,
    ExchangeRecord,
    Headers,
    Jitter,
    Step,
    UpstreamRequest,
)

_T = TypeVar("_T")

LONGEST_WAIT = 30.0
"""Seconds: no wait of ours is longer; a longer ``Retry-After`` is the caller's to wait for."""

LONGEST_PAUSE = 1.0
"""Seconds to wait before asking the same account again while another one is free."""

# A wrong base URL, and a bug of ours, answer the same however often one asks.
_FINAL = frozenset({"no_answer", "redirected", "gateway_bug"})
# A success with one of these has no body (RFC 9110, sections 15.3.5 and 15.3.6).
_BODILESS = frozenset({204, 205})

# What an upstream says in its headers that holds for a converted answer, too.
_OF_ANY_DIALECT = frozenset((b"request-id", b"x-request-id"))
_TYPES = {
    "sse": b"text/event-stream; charset=utf-8",
    "json_array": b"application/json; charset=utf-8",
    "whole": b"application/json; charset=utf-8",
}

_REPEATABLE = frozenset(
    {Fault.UNREACHABLE, Fault.RESET, Fault.TRUNCATED, Fault.CAPACITY, Fault.SERVER}
)


@attrs.frozen
class Patience:
    """
    How long and how often to try; seconds, 0 is off.

    :ivar max_retries: Further attempts with one account (``request_max_retries``).
    :ivar base_delay: Seconds before the first retry; doubles with each further one.
    :ivar max_switches: Other accounts to ask (``credential_switch_max_retries``).
    :ivar wait: How long to wait for an account that rests (``wait_for_account``).
    :ivar held_bytes: How much of one answer is held at a time, to see whether it is whole.
    """

    max_retries: int = 3
    base_delay: float = 1.0
    response_headers: float = 600.0
    first_event: float = 300.0
    idle: float = 300.0
    total: float = 0.0
    held_bytes: int = HELD_LIMIT
    max_switches: int = 5
    wait: float = 10.0


def retry_delay(
    error: UpstreamError,
    *,
    tries: int,
    plain: int,
    patience: Patience,
    left: float | None,
    jitter: float,
    alternative: bool = False,
) -> float | None:
    """
    Return how many seconds to wait before asking the same account again, or None to stop.

    A rate limit is waited for only if its hint is short; a plain 500 is tried once
    more; what the caller, a filter or a credential is at fault for is final.

    :param tries: Retries made so far.
    :param plain: Attempts that ended in a plain 500, this one included.
    :param left: Seconds the exchange has left, None for no limit.
    :param jitter: In [0, 1): spreads the wait over half its length.
    :param alternative: Whether another account could answer: then one is asked again once
        at most, and nobody waits for long, nor for a rate limit at all.
    """
    if tries >= patience.max_retries or error.code in _FINAL:
        return None
    if error.fault is Fault.RATE_LIMIT:
        if error.retry_after is None or alternative:
            return None
    elif error.fault not in _REPEATABLE or (error.status == 500 and plain > 1):
        return None
    delay: float = min(patience.base_delay * 2.0 ** min(tries, 60), LONGEST_WAIT)
    delay *= 1 - jitter / 2
    if error.retry_after is not None:
        delay = max(error.retry_after, 0.0)
        if delay > LONGEST_WAIT:
            return None
    if alternative and (tries or delay > LONGEST_PAUSE):
        return None
    if left is not None and delay >= left:
        return None
    return delay


def without_secrets(error: UpstreamError, secrets: Sequence[str]) -> UpstreamError:
    """Return *error* with every one of *secrets* cut out of what a client may see."""
    if not any(len(secret) >= SHORTEST for secret in secrets):
        return error
    reply = error.reply
    if reply is not None:
        headers = tuple((name, without_bytes(value, secrets)) for name, value in reply.headers)
        reply = RawReply(reply.status, headers, without_bytes(reply.body, secrets))
    return UpstreamError(
        without(error.message, secrets),
        fault=error.fault,
        status=error.status,
        reply=reply,
        code=None if error.code is None else without(error.code, secrets),
        param=None if error.param is None else without(error.param, secrets),
        retry_after=error.retry_after,
        of_model=error.of_model,
    )


@attrs.define(eq=False)
class Asking:
    """
    The attempts of one lease.

    :ivar converted: The request in the provider's own dialect, and how its answer is read.
    :ivar head: Returns what of the gateway's own stands in the head of the answer.
    :ivar alternative: Says whether another account could answer.
    :ivar may_retry: Says whether one more attempt after this error is in the budget.
    :ivar meter: Counts what the answers take.
    :ivar scrubber: What takes secrets out of errors, those of other accounts as well.
    :ivar watcher: The reader of the last answer, if there was one.
    """

    record: ExchangeRecord
    provider: IProvider
    lease: ILease
    converted: Converted
    reply: IClientReply
    patience: Patience
    clock: Clock
    jitter: Jitter
    observers: IExchangeObserver
    head: Callable[[], Headers]
    alternative: Callable[[], bool]
    may_retry: Callable[[UpstreamError], bool]
    meter: Meter
    scrubber: Scrubber = attrs.field(factory=Scrubber, repr=False)
    watcher: IWatcher | None = attrs.field(default=None, init=False)
    _account: Account = attrs.field(init=False)
    _opened: bool = attrs.field(default=False, init=False)
    _relaying: Relay | None = attrs.field(default=None, init=False)

    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._account = self.lease.account
        if self._account.patience:
            own: Any = self._account.patience
            self.patience = attrs.evolve(self.patience, **own)

    async def run(self) -> Ending:
        """
        Ask until an answer has been sent or broken off. Cancelling closes the connection.

        :raise UpstreamError: if nothing was sent to the client, and asking the same account
            again makes no sense.
        """
        tries = plain = 0
        refused: Credential | None = None
        while True:
            self.record.attempts += 1
            try:
                self._account = await self._with_credential(refused)
                outgoing = self.provider.prepare(
                    request=self.converted.request, account=self._account
                )
                self.meter.asked()
                ending = await self._attempt(outgoing)
            except UpstreamError as caught:
                self.meter.failed()
                error = self._discreet(self._told(caught))
                self._note("attempt", _said(error), status=error.status)
                self.observers.attempt(exchange=self.record, error=error)
                if self._worth_renewing(error, refused):
                    refused = self._account.credential
                    self._note("retry", "with a renewed credential")
                    continue
                plain += error.status == 500
                delay = retry_delay(
                    error,
                    tries=tries,
                    plain=plain,
                    patience=self.patience,
                    left=time_left(self.record, self.patience, self.clock),
                    jitter=self.jitter(),
                    alternative=self.alternative(),
                )
                if delay is None or not self.may_retry(error):
                    raise error from None
            else:
                if ending.error is not None:
                    ending = attrs.evolve(ending, error=self._discreet(ending.error))
                said = ending.how if ending.error is None else _said(ending.error)
                self._note("attempt", said, status=200)
                self.observers.attempt(exchange=self.record, error=ending.error)
                return ending
            tries += 1
            self._note("retry", f"the same account in {delay:.1f} s")
            self._log.info(
                "{id}: {provider} failed ({fault}); trying again in {delay:.1f} s",
                id=self.record.id,
                provider=self.provider.name,
                fault=error.fault.value,
                delay=delay,
            )
            await _sleep(self.clock, delay)

    def interrupt(self, error: UpstreamError) -> bool:
        """Break off an answer that has begun, with *error* at its end; say whether there is one."""
        relay = self._relaying
        if relay is None or not relay.begun:
            return False
        relay.expire(error)
        return True

    async def _with_credential(self, refused: Credential | None) -> Account:
        """Return the account with what it is asked with now, where that changes."""
        account: Account = self.lease.account
        renewing = IRenewing(self.provider, None)
        if renewing is None:
            return account
        credential = await self._in_time(
            renewing.credential(account=account, refused=refused),
            0.0,
            "was not done",
            "total",
        )
        secrets = (*account.secrets, *credential.secrets)
        return attrs.evolve(account, credential=credential, secrets=secrets)

    def _worth_renewing(self, error: UpstreamError, refused: Credential | None) -> bool:
        """Say whether the upstream refused a credential that may be renewed; once."""
        return (
            error.fault is Fault.CREDENTIAL
            and refused is None
            and self._account.credential is not None
        )

    async def _attempt(self, outgoing: UpstreamRequest) -> Ending:
        response = await self._in_time(
            self.provider.upstream.send(request=outgoing),
            self.patience.response_headers,
            "sent no response headers",
            "response_headers",
        )
        if not 200 <= response.status < 300:
            left = time_left(self.record, self.patience, self.clock)
            seconds = ERROR_BODY_SECONDS if left is None else min(left, ERROR_BODY_SECONDS)
            raise await refusal(
                provider=self.provider,
                response=response,
                clean=self._clean,
                clock=self.clock,
                seconds=max(seconds, 0.001),
            )
        if response.status in _BODILESS:
            response.abort()
            raise UpstreamError(
                f"Provider {self.provider.name} answered {response.status} without an answer: "
                "see whether its base URL is right.",
                fault=Fault.SERVER,
                status=502,
                code="no_answer",
            )
        return await self._relay(response)

    async def _relay(self, response: IUpstreamResponse) -> Ending:
        enveloping = IEnveloping(self.provider, None)
        envelope = None
        if enveloping is not None:
            envelope = enveloping.envelope(request=self.converted.request)
        watcher = self.converted.watch(
            _first(response.headers, b"content-type")
            if envelope is None
            else envelope.content_type,
            self.observers.wants_text,
            self.patience.held_bytes,
        )
        self._opened = envelope is not None
        if envelope is not None:
            watcher = Opened(watcher, envelope)
        self.watcher = watcher
        self.meter.began(watcher, self.converted.request)
        left = time_left(self.record, self.patience, self.clock)
        relay = Relay(
            response=response,
            watcher=watcher,
            reply=self.reply,
            begin=self._beginner(response, watcher),
            clean=self._clean,
            clock=self.clock,
            clocks=Clocks(
                first_event=self.patience.first_event,
                idle=self.patience.idle,
                total=0.0 if left is None else max(left, 0.001),
            ),
        )
        self._relaying = relay
        try:
            response.deliver(receiver=relay)
        except BaseException:
            # Nobody will wait for the relay, and its clocks must not go on without it.
            response.abort()
            relay.done.cancel()
            relay.done.addErrback(lambda _: None)
            raise
        return await relay.done

    def _discreet(self, error: UpstreamError) -> UpstreamError:
        """Return *error* without secrets: this account's in any spelling, all others' as well."""
        return self.scrubber.error(without_secrets(error, self._account.secrets))

    def _clean(self, body: bytes) -> bytes:
        return self.scrubber.data(without_bytes(body, self._account.secrets))

    def _told(self, error: UpstreamError) -> UpstreamError:
        """Return *error* as the client may be told of it: in no dialect but its own."""
        if self.converted.verbatim or error.reply is None:
            return error
        return UpstreamError(
            error.message,
            fault=error.fault,
            status=error.status,
            code=error.code,
            param=error.param,
            retry_after=error.retry_after,
            of_model=error.of_model,
        )

    def _beginner(
        self, response: IUpstreamResponse, watcher: IWatcher
    ) -> Callable[[int | None], None]:
        def begin(length: int | None) -> None:
            headers = passed_headers(response.headers)
            headers = tuple((name, self.scrubber.data(value)) for name, value in headers)
            if self._opened or not self.converted.verbatim:
                own = tuple(line for line in headers if line[0] in _OF_ANY_DIALECT)
                headers = (*own, (b"content-type", _TYPES[watcher.framing]))
            if length is not None:
                headers += ((b"content-length", b"%d" % length),)
            self.lease.answered()
            self.reply.begin(response.status, (*headers, *self.head()))
            self.observers.first_byte(exchange=self.record)

        return begin

    def _note(self, what: str, why: str, status: int | None = None) -> None:
        self.record.steps.append(
            Step(
                at=self.clock.seconds() - self.record.began,
                what=what,
                provider=self.provider.name,
                model=self.record.model,
                account=self.lease.account.id,
                why=why,
                status=status,
            )
        )

    def _in_time(self, waiting: Deferred[_T], seconds: float, what: str, key: str) -> Deferred[_T]:
        left = time_left(self.record, self.patience, self.clock)
        if left is not None and (not seconds or left < seconds):
            seconds, what, key = max(left, 0.001), "was not done", "total"

        def late() -> UpstreamError:
            return UpstreamError(
                f"Provider {self.provider.name} {what} for {seconds:g} seconds (timeouts.{key}).",
                fault=Fault.TIMEOUT,
                status=504,
                code=f"{key}_timeout",
            )

        return within(self.clock, seconds, waiting, late)


def time_left(record: ExchangeRecord, patience: Patience, clock: Clock) -> float | None:
    """Return the seconds an exchange has left, None for no limit."""
    if not patience.total:
        return None
    return float(record.began + patience.total - clock.seconds())


def _said(error: UpstreamError) -> str:
    return f"{error.fault.value}: {error.message[:200]}"


def _first(headers: Headers, name: bytes) -> bytes:
    return next((value for key, value in headers if key == name), b"")


def _sleep(clock: Clock, seconds: float) -> Deferred[None]:
    waiting: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, waiting.callback, None)
    return waiting
