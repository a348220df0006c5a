"""
What was used: one row for each exchange, in the state store.

It is told of exchanges and books who asked, who answered, how it ended and how many tokens
it took. It must never keep what was said, and never judge or add up: that is a ledger's
business, and whoever keeps one begins with these rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from aiclient2api.errors import GatewayError, UpstreamError
from aiclient2api.interfaces import IExchangeObserver, IStateStore
from aiclient2api.values import ExchangeRecord, Outcome, Spent, Usage

NAMESPACE = "usage"

TTL = 400 * 86400.0
"""Seconds: a year, and what it takes to look back on it."""
TOTAL = 128 * 1024 * 1024
"""About half a million exchanges."""
ONE = 8 * 1024

WORDS = 200
"""Characters of a text: a client chooses some of them."""


class Tokens(msgspec.Struct, frozen=True, array_like=True):
    """See `Usage`: None is "not known"."""

    input: int | None
    output: int | None
    cached: int | None
    cache_write: int | None
    reasoning: int | None


class Row(msgspec.Struct, frozen=True, array_like=True, tag="1"):
    """
    One exchange. The tag is the form's version.

    :ivar ended: Unix seconds.
    :ivar asked: The model the client named.
    :ivar provider: Who answered, or was asked last; so *model* and *account*.
    :ivar action: ``generate`` or ``count_tokens``.
    :ivar how: See `Outcome`.
    :ivar tokens: Of the answer that the client got, or would have got. All of them are 0 if
        nobody began to answer.
    :ivar estimated: True if the upstream did not tell all of *tokens*: see `Spent`.
    :ivar lost: Tokens of attempts that failed before the client saw anything of them.
    :ivar error: The class of the error it ended with, and for an upstream's its fault; or "".
    """

    ended: float
    caller: str
    dialect: str
    asked: str
    provider: str
    model: str
    account: str
    action: str
    how: str
    attempts: int
    seconds: float
    tokens: Tokens
    estimated: bool
    lost: Tokens | None
    error: str


_encode: Callable[[Row], bytes] = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Row] = msgspec.msgpack.Decoder(Row).decode


@implementer(IExchangeObserver)
class UsageBook:
    """
    Book every exchange that ended, however it did, once.

    :param now: Returns the time, in seconds since the epoch.
    :param ttl: Seconds that a row is kept.
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
        self._store = store
        self._clean = clean
        self._now = now
        self._ttl = ttl
        store.limit(namespace=NAMESPACE, total=total, one=ONE)

    def began(self, exchange: ExchangeRecord) -> None:
        pass

    def attempt(self, exchange: ExchangeRecord, error: UpstreamError | None) -> None:
        pass

    def first_byte(self, exchange: ExchangeRecord) -> None:
        pass

    def ended(self, exchange: ExchangeRecord, outcome: Outcome) -> None:
        self._store.put(
            namespace=NAMESPACE,
            owner=exchange.caller,
            key=exchange.id,
            value=_encode(self._row(exchange, outcome)),
            ttl=self._ttl,
        )

    def rows(self, caller: str) -> Deferred[Mapping[str, Row]]:
        """Return what was booked for *caller*, by the ids of the exchanges."""
        found: Deferred[Mapping[str, bytes]] = self._store.scan(namespace=NAMESPACE, owner=caller)
        return found.addCallback(
            lambda values: {id: row for id, value in values.items() if (row := read(value))}
        )

    def _row(self, exchange: ExchangeRecord, outcome: Outcome) -> Row:
        spent = outcome.spent or Spent(outcome.usage or Usage())
        return Row(
            ended=self._now(),
            caller=exchange.caller,
            dialect=exchange.request.dialect,
            asked=self._cut(exchange.request.model),
            provider=self._cut(exchange.provider),
            model=self._cut(exchange.model),
            account=self._cut(exchange.account),
            action=exchange.request.action,
            how=outcome.how,
            attempts=exchange.attempts,
            seconds=round(outcome.seconds, 3),
            tokens=_tokens(spent.usage),
            estimated=spent.estimated,
            lost=None if spent.lost is None else _tokens(spent.lost),
            error="" if outcome.error is None else _kind(outcome.error),
        )

    def _cut(self, text: str) -> str:
        """Return *text* as it is kept: short, without a secret or half of a surrogate pair."""
        clean = self._clean(text[: 2 * WORDS])[:WORDS]
        return clean.encode("utf-8", "replace").decode("utf-8")


def read(value: bytes) -> Row | None:
    """Return what was booked; None if another version did it, or if it is mutilated."""
    try:
        return _decode(value)
    except msgspec.DecodeError:
        return None


def _tokens(usage: Usage) -> Tokens:
    return Tokens(usage.input, usage.output, usage.cached, usage.cache_write, usage.reasoning)


def _kind(error: GatewayError) -> str:
    name = type(error).__name__
    return f"{name} {error.fault.value}" if isinstance(error, UpstreamError) else name
