"""
One client request and every attempt made for it.

Here, and only here, it is decided what happens after an error: providers classify,
this file waits, tries again, passes on or gives up. It must never know HTTP on
either side: requests go through `IUpstream`, answers through `IClientReply`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from aiclient2api.dialects.convert import Converted
from aiclient2api.errors import Fault, GatewayError, RawReply, UpstreamError
from aiclient2api.interfaces import (
    IAccountPool,
    IClientReply,
    IExchangeObserver,
    ILease,
    IProvider,
    IUpstreamResponse,
    IWatcher,
)
from aiclient2api.observe.redaction import SHORTEST, without, without_bytes
from aiclient2api.upstream.answers import ERROR_BODY_SECONDS, passed_headers, refusal
from aiclient2api.upstream.deadlines import within
from aiclient2api.upstream.relay import Clocks, Ending, Relay
from aiclient2api.values import (
    HELD_LIMIT,
    Account,
    Clock,
    ExchangeRecord,
    Headers,
    Jitter,
    Outcome,
    UpstreamRequest,
)

_T = TypeVar("_T")

LONGEST_WAIT = 30.0
"""Seconds: no wait of ours is longer; a longer ``Retry-After`` is the caller's to wait for."""

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

    :ivar max_retries: Further attempts after the first (``request_max_retries``).
    :ivar base_delay: Seconds before the first retry; doubles with each further one.
    :ivar held_bytes: How much of one answer is held at a time, to see whether it is whole.
    """

    max_retries: int = 3
    base_delay: float = 1.0
    response_headers: float = 600.0
    first_event: float = 300.0
    idle: float = 300.0
    total: float = 0.0
    held_bytes: int = HELD_LIMIT


def retry_delay(
    error: UpstreamError,
    *,
    tries: int,
    plain: int,
    patience: Patience,
    left: float | None,
    jitter: float,
) -> float | None:
    """
    Return how many seconds to wait before trying again, or None to give up.

    A rate limit is waited for only if its hint is short; a plain 500 is tried once
    more; what the caller, a filter or a credential is at fault for is final.

    :param tries: Retries made so far.
    :param plain: Attempts that ended in a plain 500, this one included.
    :param left: Seconds the exchange has left, None for no limit.
    :param jitter: In [0, 1): spreads the wait over half its length.
    """
    if tries >= patience.max_retries or error.code in _FINAL:
        return None
    if error.fault is Fault.RATE_LIMIT:
        if error.retry_after is None:
            return None
    elif error.fault not in _REPEATABLE or (error.status == 500 and plain > 1):
        return None
    delay: float = min(patience.base_delay * 2.0 ** min(tries, 60), LONGEST_WAIT)
    delay *= 1 - jitter / 2
    if error.retry_after is not None:
        delay = max(error.retry_after, 0.0)
        if delay > LONGEST_WAIT:
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
    )


@attrs.define(eq=False)
class Exchange:
    """
    Answer one request.

    :ivar converted: The request in the provider's own dialect, and how its answer is read.
    :ivar observers: Told of every step; never on the per-chunk path.
    """

    record: ExchangeRecord
    converted: Converted
    provider: IProvider
    pool: IAccountPool
    reply: IClientReply
    patience: Patience
    clock: Clock
    jitter: Jitter
    observers: IExchangeObserver
    _watcher: IWatcher | None = attrs.field(default=None, init=False)

    _log = Logger()

    async def run(self) -> None:
        """
        Answer the request; return when the answer has been sent or broken off.

        Cancelling closes the upstream's connection in whatever phase it is.

        :raise GatewayError: if nothing was sent to the client yet.
        """
        self.observers.began(exchange=self.record)
        try:
            lease = await self.pool.acquire(model=self.record.model)
            ending = await self._leased(lease)
        except CancelledError:
            self._ended("cancelled", None)
            raise
        except GatewayError as error:
            self._ended("failed", error)
            raise
        except BaseException:
            self._ended("failed", None)
            raise
        self._ended(ending.how, ending.error)

    async def _leased(self, lease: ILease) -> Ending:
        account = lease.account
        self.record.account = account.id
        try:
            ending = await self._with_retries(account)
        except UpstreamError as error:
            self._give_back(lease, error)
            raise
        except BaseException:
            # The client left, or the fault is ours: the account did nothing wrong.
            lease.abandoned()
            raise
        if ending.error is None:
            lease.succeeded(self._watcher.usage if self._watcher else None)
        else:
            self._give_back(lease, ending.error)
        return ending

    def _give_back(self, lease: ILease, error: UpstreamError) -> None:
        if error.code == "gateway_bug":
            lease.abandoned()
        else:
            lease.failed(error)

    async def _with_retries(self, account: Account) -> Ending:
        outgoing = self.provider.prepare(request=self.converted.request, account=account)
        tries = plain = 0
        while True:
            self.record.attempts += 1
            try:
                ending = await self._attempt(outgoing, account)
            except UpstreamError as caught:
                error = without_secrets(self._told(caught), account.secrets)
                self.observers.attempt(exchange=self.record, error=error)
                plain += error.status == 500
                delay = retry_delay(
                    error,
                    tries=tries,
                    plain=plain,
                    patience=self.patience,
                    left=self._left(),
                    jitter=self.jitter(),
                )
                if delay is None:
                    raise error from None
            else:
                if ending.error is not None:
                    told = without_secrets(ending.error, account.secrets)
                    ending = attrs.evolve(ending, error=told)
                self.observers.attempt(exchange=self.record, error=ending.error)
                return ending
            tries += 1
            self._log.info(
                "{id}: {provider} failed ({fault}); trying again in {delay:.1f} s",
                id=self.record.id,
                provider=self.record.provider,
                fault=error.fault.value,
                delay=delay,
            )
            await _sleep(self.clock, delay)

    async def _attempt(self, outgoing: UpstreamRequest, account: Account) -> Ending:
        response = await self._in_time(
            self.provider.upstream.send(request=outgoing),
            self.patience.response_headers,
            "sent no response headers",
            "response_headers",
        )
        if not 200 <= response.status < 300:
            left = self._left()
            seconds = ERROR_BODY_SECONDS if left is None else min(left, ERROR_BODY_SECONDS)
            raise await refusal(
                provider=self.provider,
                response=response,
                clean=partial(without_bytes, secrets=account.secrets),
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
        return await self._relay(response, account)

    async def _relay(self, response: IUpstreamResponse, account: Account) -> Ending:
        watcher = self._watcher = self.converted.watch(
            _first(response.headers, b"content-type"),
            self.observers.wants_text,
            self.patience.held_bytes,
        )
        left = self._left()
        relay = Relay(
            response=response,
            watcher=watcher,
            reply=self.reply,
            begin=self._beginner(response, watcher),
            clean=partial(without_bytes, secrets=account.secrets),
            clock=self.clock,
            clocks=Clocks(
                first_event=self.patience.first_event,
                idle=self.patience.idle,
                total=0.0 if left is None else max(left, 0.001),
            ),
        )
        try:
            response.deliver(receiver=relay)
        except BaseException:
            # Nobody will wait for the relay, and its clocks must not go on without it.
            response.abort()
            relay.done.cancel()
            relay.done.addErrback(lambda _: None)
            raise
        return await relay.done

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
        )

    def _beginner(
        self, response: IUpstreamResponse, watcher: IWatcher
    ) -> Callable[[int | None], None]:
        def begin(length: int | None) -> None:
            headers = passed_headers(response.headers)
            if not self.converted.verbatim:
                own = tuple(line for line in headers if line[0] in _OF_ANY_DIALECT)
                headers = (*own, (b"content-type", _TYPES[watcher.framing]))
            if length is not None:
                headers += ((b"content-length", b"%d" % length),)
            self.reply.begin(response.status, headers)
            self.observers.first_byte(exchange=self.record)

        return begin

    def _left(self) -> float | None:
        if not self.patience.total:
            return None
        return float(self.record.began + self.patience.total - self.clock.seconds())

    def _in_time(self, waiting: Deferred[_T], seconds: float, what: str, key: str) -> Deferred[_T]:
        left = self._left()
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

    def _ended(self, how: str, error: GatewayError | None) -> None:
        watcher = self._watcher
        self.observers.ended(
            exchange=self.record,
            outcome=Outcome(
                how=how,
                seconds=self.clock.seconds() - self.record.began,
                usage=watcher.usage if watcher else None,
                error=error,
                text=watcher.text if watcher else "",
            ),
        )


def _first(headers: Headers, name: bytes) -> bytes:
    return next((value for key, value in headers if key == name), b"")


def _sleep(clock: Clock, seconds: float) -> Deferred[None]:
    waiting: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, waiting.callback, None)
    return waiting
