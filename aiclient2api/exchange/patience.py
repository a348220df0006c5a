"""
How long and how often one account is tried, as pure rules.

They must never know who is asked, nor how.
"""

from __future__ import annotations

import attrs

from aiclient2api.dialects.rescuing import NOT_REPRODUCED
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.values import HELD_LIMIT, Clock, ExchangeRecord

LONGEST_WAIT = 30.0
"""Seconds: no wait of ours is longer; a longer ``Retry-After`` is the caller's to wait for."""

LONGEST_PAUSE = 1.0
"""Seconds to wait before asking the same account again while another one is free."""

# A wrong base URL, and a bug of ours, answer the same however often one asks. And who tells
# something else this time would do so the next time, too.
_FINAL = frozenset({"no_answer", "redirected", "gateway_bug", NOT_REPRODUCED})
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


def time_left(record: ExchangeRecord, patience: Patience, clock: Clock) -> float | None:
    """Return the seconds an exchange has left, None for no limit."""
    if not patience.total:
        return None
    return float(record.began + patience.total - clock.seconds())
