"""
How much of a Kiro account's plan is used up, as plain values.

The service's answer is documented nowhere: what is missing is None, what is not known is
left out. It must never know how it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from aiclient2api.framing.json_text import read
from aiclient2api.framing.json_values import number


@attrs.frozen
class Allowance:
    """
    One of the things that are counted.

    :ivar kind: ``plan``, ``trial`` or ``bonus``.
    :ivar unit: What is counted, such as ``INVOCATIONS``.
    :ivar resets: When it begins anew, or ends, in Unix seconds.
    :ivar over: What one more costs beyond the limit.
    """

    kind: str
    name: str
    unit: str
    used: float | None
    limit: float | None
    resets: float | None = None
    over: float | None = None


@attrs.frozen
class KiroUsage:
    """
    What an account has used.

    :ivar plan: The subscription's name, such as ``KIRO FREE``.
    :ivar resets: When it begins anew, in Unix seconds.
    :ivar email: Whose it is, or ``""``.
    """

    plan: str
    resets: float | None
    allowances: tuple[Allowance, ...] = ()
    email: str = attrs.field(default="", repr=False)


def usage_of(body: bytes) -> KiroUsage:
    """
    Read the service's answer.

    :raise ValueError: if it is none.
    """
    told = read(body)
    if not isinstance(told, dict) or not isinstance(told.get("usageBreakdownList"), list):
        raise ValueError("no usage")
    resets = _number(told, "nextDateReset")
    return KiroUsage(
        plan=_text(_object(told, "subscriptionInfo"), "subscriptionTitle"),
        resets=resets,
        allowances=tuple(
            allowance
            for item in told["usageBreakdownList"]
            if isinstance(item, dict)
            for allowance in _allowances(item, resets)
        ),
        email=_text(_object(told, "userInfo"), "email"),
    )


def _allowances(item: Mapping[str, Any], resets: float | None) -> Iterator[Allowance]:
    name = _text(item, "displayName") or _text(item, "resourceType")
    unit = _text(item, "unit")
    own = _number(item, "nextDateReset")
    yield _allowance(
        item, "plan", name, unit, resets if own is None else own, _number(item, "overageRate")
    )
    trial = _object(item, "freeTrialInfo")
    if _text(trial, "freeTrialStatus") == "ACTIVE":
        yield _allowance(trial, "trial", name, unit, _number(trial, "freeTrialExpiry"))
    bonuses = item.get("bonuses")
    for bonus in bonuses if isinstance(bonuses, list) else ():
        if isinstance(bonus, dict) and _text(bonus, "status") == "ACTIVE":
            called = _text(bonus, "displayName") or _text(bonus, "bonusCode")
            yield _allowance(bonus, "bonus", called, unit, _number(bonus, "expiresAt") or None)


def _allowance(
    told: Mapping[str, Any],
    kind: str,
    name: str,
    unit: str,
    resets: float | None,
    over: float | None = None,
) -> Allowance:
    used, limit = (
        _number(told, f"{key}WithPrecision", key) for key in ("currentUsage", "usageLimit")
    )
    return Allowance(kind, name, unit, used, limit, resets, over)


def _object(told: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = told.get(key)
    return value if isinstance(value, dict) else {}


def _text(told: Mapping[str, Any], key: str) -> str:
    value = told.get(key)
    return value if isinstance(value, str) else ""


def _number(told: Mapping[str, Any], *keys: str) -> float | None:
    found = (number(told.get(key)) for key in keys)
    return next((each for each in found if each is not None), None)
