"""
Why a request went where it went: one record of each exchange, for its operator.

It is told of exchanges and puts into the store what was decided and what came of it. It
must never keep what was said: no prompt, no answer, no body, no key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from zope.interface import implementer

from aiclient2api.errors import GatewayError, UpstreamError
from aiclient2api.interfaces import IExchangeObserver, IStateStore
from aiclient2api.values import ExchangeRecord, Outcome, Step, Usage

NAMESPACE = "traces"
OWNER = ""
"""No caller's: whoever may read the file may read them."""

TTL = 7 * 86400.0
TOTAL = 32 * 1024 * 1024
ONE = 64 * 1024

STEPS = 200
"""So many steps are kept of one exchange; of the others only how many there were."""
MESSAGE = 500
"""Characters of an error's message."""
WHY = 300
"""Characters of what a step says."""
WORDS = 200
"""Characters of every other text: a client chooses some of them."""


class TraceStep(msgspec.Struct, frozen=True, array_like=True):
    """See `Step`."""

    at: float
    what: str
    provider: str
    model: str
    account: str
    why: str
    status: int | None


class TraceUsage(msgspec.Struct, frozen=True, array_like=True):
    """See `Usage`."""

    input: int | None
    output: int | None
    cached: int | None
    cache_write: int | None
    reasoning: int | None


class TraceError(msgspec.Struct, frozen=True, array_like=True):
    """
    The error that an exchange ended with.

    :ivar name: Its class.
    :ivar fault: See `errors.Fault`; ``""`` if it is not an upstream's.
    """

    name: str
    fault: str
    status: int
    code: str
    message: str
    retry_after: float | None


class Trace(msgspec.Struct, frozen=True, array_like=True, tag="1"):
    """
    One exchange. The tag is the form's version.

    :ivar began: Unix seconds; so *ended*.
    :ivar asked: The model the client named.
    :ivar provider: Who answered, or was asked last; so *model* and *account*.
    :ivar how: See `Outcome`.
    :ivar left_out: How many steps are missing in the middle of *steps*.
    """

    began: float
    ended: float
    caller: str
    dialect: str
    asked: str
    provider: str
    model: str
    account: str
    attempts: int
    how: str
    usage: TraceUsage | None
    error: TraceError | None
    steps: list[TraceStep]
    left_out: int


_encode: Callable[[Trace], bytes] = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Trace] = msgspec.msgpack.Decoder(Trace).decode


@implementer(IExchangeObserver)
class Traces:
    """
    Keep a `Trace` of every exchange that ended, however it did.

    :param now: Returns the time, in seconds since the epoch.
    :param ttl: Seconds that one is kept. 0 keeps none, and what was kept goes too.
    :param total: Bytes that all of them may have; the oldest go first.
    :param clean: Takes secrets out of a text.
    """

    wants_text = False

    def __init__(
        self,
        store: IStateStore,
        *,
        now: Callable[[], float],
        ttl: float = TTL,
        total: int = TOTAL,
        clean: Callable[[str], str] = str,
    ) -> None:
        self._clean = clean
        self._store = store
        self._now = now
        self._ttl = ttl
        store.limit(namespace=NAMESPACE, total=total if ttl > 0 else 0, one=ONE)

    def began(self, exchange: ExchangeRecord) -> None:
        pass

    def attempt(self, exchange: ExchangeRecord, error: UpstreamError | None) -> None:
        pass

    def first_byte(self, exchange: ExchangeRecord) -> None:
        pass

    def ended(self, exchange: ExchangeRecord, outcome: Outcome) -> None:
        if self._ttl <= 0:
            return
        most, now = STEPS, self._now()
        while len(value := self._written(exchange, outcome, now, most)) > ONE and most:
            most //= 2
        self._store.put(
            namespace=NAMESPACE, owner=OWNER, key=exchange.id, value=value, ttl=self._ttl
        )

    def _written(self, exchange: ExchangeRecord, outcome: Outcome, now: float, most: int) -> bytes:
        try:
            return _encode(_trace(exchange, outcome, now, most, self._cut))
        except UnicodeEncodeError:
            # A client may send half of a surrogate pair, in the name of a model for example.
            return _encode(_trace(exchange, outcome, now, most, self._mended))

    def _cut(self, text: str, most: int) -> str:
        # Twice as much is looked at: a cut must not hide a secret's end from the scrubber.
        return self._clean(text[: 2 * most])[:most]

    def _mended(self, text: str, most: int) -> str:
        return self._cut(text, most).encode("utf-8", "replace").decode("utf-8")


def read(value: bytes) -> Trace | None:
    """Return what was kept; None if another version did it, or if it is mutilated."""
    try:
        return _decode(value)
    except msgspec.DecodeError:
        return None


def _trace(
    exchange: ExchangeRecord,
    outcome: Outcome,
    now: float,
    most: int,
    text: Callable[[str, int], str],
) -> Trace:
    steps, left_out = _outer(exchange.steps, most)
    return Trace(
        began=now - outcome.seconds,
        ended=now,
        caller=text(exchange.caller, WORDS),
        dialect=exchange.request.dialect,
        asked=text(exchange.request.model, WORDS),
        provider=text(exchange.provider, WORDS),
        model=text(exchange.model, WORDS),
        account=text(exchange.account, WORDS),
        attempts=exchange.attempts,
        how=outcome.how,
        usage=None if outcome.usage is None else _usage(outcome.usage),
        error=None if outcome.error is None else _error(outcome.error, text),
        steps=[
            TraceStep(
                each.at,
                each.what,
                text(each.provider, WORDS),
                text(each.model, WORDS),
                text(each.account, WORDS),
                text(each.why, WHY),
                each.status,
            )
            for each in steps
        ],
        left_out=left_out,
    )


def _outer(steps: Sequence[Step], most: int) -> tuple[Sequence[Step], int]:
    """Return the first and the last of many steps, and how many lie between."""
    left_out = max(0, len(steps) - most)
    if not left_out:
        return steps, 0
    first = (most + 1) // 2
    return [*steps[:first], *steps[first + left_out :]], left_out


def _usage(usage: Usage) -> TraceUsage:
    return TraceUsage(usage.input, usage.output, usage.cached, usage.cache_write, usage.reasoning)


def _error(error: GatewayError, text: Callable[[str, int], str]) -> TraceError:
    return TraceError(
        name=type(error).__name__,
        fault=error.fault.value if isinstance(error, UpstreamError) else "",
        status=error.status,
        code=text(error.code or "", WORDS),
        message=text(error.message, MESSAGE),
        retry_after=error.retry_after,
    )
