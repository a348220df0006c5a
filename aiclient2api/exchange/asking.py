"""
One provider asked with one account: sent, read, and asked again while that makes sense.

All of it happens within one lease. Whether another account is asked afterwards is the
exchange's business. It must never know HTTP on either side: requests go through
`IUpstream`, answers through `IClientReply`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from aiclient2api.dialects.convert import Converted
from aiclient2api.dialects.rescuing import Rescue
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.exchange import cuts
from aiclient2api.exchange.metering import Meter, added
from aiclient2api.exchange.opened import Opened
from aiclient2api.exchange.patience import Patience, retry_delay, time_left
from aiclient2api.exchange.shown import without_secrets
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
from aiclient2api.observe.redaction import without_bytes
from aiclient2api.observe.scrubber import Scrubber
from aiclient2api.upstream.answers import ERROR_BODY_SECONDS, passed_headers, refusal
from aiclient2api.upstream.deadlines import within
from aiclient2api.upstream.relay import Clocks, Ending, Relay
from aiclient2api.values import (
    Account,
    Clock,
    Credential,
    ExchangeRecord,
    Headers,
    Jitter,
    Step,
    UpstreamRequest,
    Usage,
)

_T = TypeVar("_T")

# A success with one of these has no body (RFC 9110, sections 15.3.5 and 15.3.6).
_BODILESS = frozenset({204, 205})

# What an upstream says in its headers that holds for a converted answer, too.
_OF_ANY_DIALECT = frozenset((b"request-id", b"x-request-id"))
_TYPES = {
    "sse": b"text/event-stream; charset=utf-8",
    "json_array": b"application/json; charset=utf-8",
    "whole": b"application/json; charset=utf-8",
}


@attrs.define(eq=False)
class Asking:
    """
    The attempts of one lease.

    :ivar converted: The request in the provider's own dialect, and how its answer is read.
    :ivar again: Returns the same afresh, as it is to be asked after an answer broke off.
    :ivar head: Returns what of the gateway's own stands in the head of the answer.
    :ivar alternative: Says whether another account could answer.
    :ivar may_retry: Says whether one more attempt after this error is in the budget.
    :ivar meter: Counts what the answers take.
    :ivar scrubber: What takes secrets out of errors, those of other accounts as well.
    :ivar watcher: The reader of the last answer, if there was one.
    :ivar spent: What the runs before that one told of their tokens, if it goes on with them.
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
    again: Callable[[], Coroutine[Any, Any, Converted]]
    scrubber: Scrubber = attrs.field(factory=Scrubber, repr=False)
    watcher: IWatcher | None = attrs.field(default=None, init=False)
    spent: Usage | None = attrs.field(default=None, init=False)
    _account: Account = attrs.field(init=False)
    _opened: bool = attrs.field(default=False, init=False)
    _relaying: Relay | None = attrs.field(default=None, init=False)

    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._account = self.lease.account
        if self._account.patience:
            own: Any = self._account.patience
            self.patience = attrs.evolve(self.patience, **own)

    @property
    def usage(self) -> Usage | None:
        """What was told of the tokens so far."""
        return added(self.spent, None if self.watcher is None else self.watcher.usage)

    async def run(self) -> Ending:
        """
        Ask until an answer has been sent or broken off. Cancelling closes the connection.

        :return: `Ending.open` if somebody else is to go on with it.
        :raise UpstreamError: if nothing was sent to the client, or somebody is to go on with
            what was, and asking the same account again makes no sense.
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
                if self._without_prefill(error):
                    self._note("retry", "without the text so far")
                    self.converted = await self.again()
                    continue
                plain += error.status == 500
                delay = self._delay(error, tries, plain)
                if delay is None or not self.may_retry(error):
                    raise error from None
            else:
                ending = self._ended(ending)
                if ending.error is None or not ending.open:
                    return ending
                error, delay = ending.error, self._patient_delay(ending.error, tries)
                if delay is None or not self.may_retry(error):
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
            if self._resuming:
                self.converted = await self.again()

    def _ended(self, ending: Ending) -> Ending:
        """Note how an answer ended of which something was sent."""
        if ending.error is not None:
            ending = attrs.evolve(ending, error=self._discreet(ending.error))
        said = ending.how if ending.error is None else _said(ending.error)
        self._note("attempt", said, status=200)
        self.observers.attempt(exchange=self.record, error=ending.error)
        rescue = self.converted.rescue
        if ending.open and ending.error is not None and rescue is not None:
            record = self.record
            rescue.broke(ending.error, (record.provider, record.model, record.account))
            self.meter.shown()
            self._note("cut", f"after {rescue.cut_at} characters")
        return ending

    def _delay(self, error: UpstreamError, tries: int, plain: int) -> float | None:
        return retry_delay(
            error,
            tries=tries,
            plain=plain,
            patience=self.patience,
            left=time_left(self.record, self.patience, self.clock),
            jitter=self.jitter(),
            alternative=self.alternative(),
        )

    def _patient_delay(self, error: UpstreamError, tries: int) -> float | None:
        """Return how long to wait before the account goes on itself, None if others shall."""
        rescue = self.converted.rescue
        if rescue is None or cuts.hopeless(rescue, error) or self.alternative():
            return None
        return self._delay(error, tries, 0)

    @property
    def _resuming(self) -> bool:
        """Say whether something of the answer was sent already."""
        return self.converted.rescue is not None and self.converted.rescue.begun

    def _without_prefill(self, error: UpstreamError) -> bool:
        """Say whether to ask again, without giving the model the answer so far; once."""
        rescue = self.converted.rescue
        if rescue is None or not self.converted.continues or not cuts.refuses_prefill(error):
            return False
        rescue.prefills = False
        return True

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
        if self._resuming:
            self.spent = self.usage
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
            leaves_open=self.converted.rescue is not None,
            marks_end=envelope is None or envelope.marks_end,
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
        if self.converted.native or error.reply is None:
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
        rescue = self.converted.rescue

        def begin(length: int | None) -> None:
            if rescue is not None and rescue.begun:
                self._resumed(rescue)
                return
            headers = passed_headers(response.headers)
            headers = tuple((name, self.scrubber.data(value)) for name, value in headers)
            if self._opened or not self.converted.verbatim:
                whole = self.converted.native and not self._opened
                own = tuple(
                    line
                    for line in headers
                    if line[0] in _OF_ANY_DIALECT or (whole and line[0] != b"content-type")
                )
                headers = (*own, (b"content-type", _TYPES[watcher.framing]))
            if length is not None:
                headers += ((b"content-length", b"%d" % length),)
            self.lease.answered()
            self.reply.begin(response.status, (*headers, *self.head()))
            self.observers.first_byte(exchange=self.record)
            if rescue is not None:
                rescue.begun = True

        return begin

    def _resumed(self, rescue: Rescue) -> None:
        """Note that the answer goes on, and have the client told at its end."""
        self.lease.answered()
        self.head()
        how = "continued" if self.converted.continues else "repeated and verified"
        where = f"after {rescue.cut_at} characters"
        self._note("resumed", f"{how}, {where}")
        record = self.record
        rescue.comment(
            f"resumed {where} ({how}) by provider {record.provider}, model {record.model},"
            f" account {record.account}"
        )

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


def _said(error: UpstreamError) -> str:
    return f"{error.fault.value}: {error.message[:200]}"


def _first(headers: Headers, name: bytes) -> bytes:
    return next((value for key, value in headers if key == name), b"")


def _sleep(clock: Clock, seconds: float) -> Deferred[None]:
    waiting: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, waiting.callback, None)
    return waiting
