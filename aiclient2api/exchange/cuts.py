"""
An answer that broke off after some of it was sent: whether to go on, and what it came to.

Who is asked then is decided where all of that is, in `failover`. It must never know how an
answer is written.
"""

from __future__ import annotations

from aiclient2api.accounts.account import Kind, kind_of
from aiclient2api.dialects.rescuing import NOT_REPRODUCED, Rescue
from aiclient2api.errors import Fault, UpstreamError


def hopeless(rescue: Rescue, error: UpstreamError) -> str | None:
    """Return why nobody is to go on with an answer after *error*, None if somebody may."""
    if rescue.why_not is not None:
        return rescue.why_not
    if error.code == "gateway_bug":
        return "the gateway itself failed"
    if kind_of(error) is Kind.CALLERS_FAULT:
        # Of the request, or of what it asks for: a refusal is never routed round.
        return f"anybody would say the same ({error.fault.value})"
    return None


def differs(error: UpstreamError) -> bool:
    """Say whether a run told something else than was told: nobody's fault."""
    return error.code == NOT_REPRODUCED


def refuses_prefill(error: UpstreamError) -> bool:
    """Say whether a model that was given the answer so far may do better without it."""
    return error.fault is Fault.CALLER or differs(error)
