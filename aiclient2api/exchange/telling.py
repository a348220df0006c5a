"""
Which of several errors the client is told, and what each says of its upstream.

It must never know who is asked next.
"""

from __future__ import annotations

from aiclient2api.accounts.account import Kind, kind_of
from aiclient2api.errors import Fault, GatewayError, NoAccount, UpstreamError

TROUBLE = frozenset(
    {
        Fault.CAPACITY,
        Fault.SERVER,
        Fault.UNREACHABLE,
        Fault.RESET,
        Fault.TIMEOUT,
        Fault.TRUNCATED,
    }
)
"""
What may come of an upstream in trouble: asking on adds to it.

Anything else is one account's own affair, and the next one has nothing to do with it.
"""

# Of several errors the caller is told of the one that tells most: when to come back, then
# that an upstream is in trouble; that a key of the operator's is wrong comes last.
_RANK = (
    Fault.RATE_LIMIT,
    Fault.QUOTA,
    Fault.CAPACITY,
    Fault.SERVER,
    Fault.TIMEOUT,
    Fault.TRUNCATED,
    Fault.RESET,
    Fault.UNREACHABLE,
    Fault.NOT_FOUND,
    Fault.PERMISSION,
    Fault.CREDENTIAL,
)


def rank(error: UpstreamError) -> int:
    """Return how much *error* tells the caller; the lower, the more."""
    final = kind_of(error) is Kind.CALLERS_FAULT
    return -1 if final else _RANK.index(error.fault)


def passes(error: GatewayError) -> bool:
    """Say whether it makes sense to come back later."""
    if isinstance(error, UpstreamError):
        return error.fault in TROUBLE or error.fault in (Fault.RATE_LIMIT, Fault.QUOTA)
    return isinstance(error, NoAccount)


def bare(error: UpstreamError) -> UpstreamError:
    """
    Return *error* without its history, for whoever keeps it.

    Its traceback knows who asked, and so the request: with it they would stay in memory until
    the next collection of garbage.
    """
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)
