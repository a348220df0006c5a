"""
What Code Assist tells of an account's allowances.

It must never know what is done about them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from aiclient2api.dialects.wire_request import entry, listed
from aiclient2api.framing.json_values import number, string


@attrs.frozen
class QuotaBucket:
    """
    How much is left of one allowance.

    :ivar model: The model it is for, ``""`` if it is for all.
    :ivar fraction: What is left, from 0 to 1, or None.
    :ivar amount: What is left in units of *kind*, or None.
    :ivar kind: What is counted, such as ``REQUESTS``.
    :ivar resets_at: When it is full again, in Unix seconds, or None.
    """

    model: str
    fraction: float | None = None
    amount: int | None = None
    kind: str = ""
    resets_at: float | None = None


def buckets_in(told: Mapping[str, Any]) -> list[QuotaBucket]:
    """Return what an answer to ``retrieveUserQuota`` tells; what is not understood is left out."""
    return [_bucket(each) for each in listed(entry(told, "buckets")) if isinstance(each, dict)]


def _bucket(told: Mapping[str, Any]) -> QuotaBucket:
    amount = str(told.get("remainingAmount"))
    return QuotaBucket(
        model=string(told.get("modelId")),
        fraction=number(told.get("remainingFraction")),
        # A 64-bit number is a text in Google's JSON.
        amount=int(amount) if amount.isascii() and amount.isdigit() and len(amount) < 20 else None,
        kind=string(told.get("tokenType")),
        resets_at=_moment(told.get("resetTime")),
    )


def _moment(text: Any) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
