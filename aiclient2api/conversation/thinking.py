"""
How much to think: efforts by name, budgets in tokens, and the table between the two.

Providers say the one or the other. It must never know which says which.
"""

from __future__ import annotations

from aiclient2api.conversation.request import Thinking

AUTO = "auto"
NONE = "none"

BUDGETS = {
    NONE: 0,
    "minimal": 512,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 32768,
    "max": 128000,
    AUTO: -1,
}
"""Tokens that each effort stands for; -1 is "as many as the model sees fit"."""

_UP_TO = ((512, "minimal"), (1024, "low"), (8192, "medium"), (24576, "high"))


def effort_of(thinking: Thinking) -> str | None:
    """Return the effort that was asked for, or that the budget comes to; None if neither."""
    if thinking.effort is not None:
        return thinking.effort
    budget = thinking.budget
    if budget is None:
        return None
    if budget == 0:
        return NONE
    if budget < 0:
        return AUTO
    return next((effort for most, effort in _UP_TO if budget <= most), "xhigh")


def budget_of(thinking: Thinking) -> int | None:
    """Return the budget that was asked for, or that the effort stands for; None if neither."""
    if thinking.budget is not None:
        return thinking.budget
    return None if thinking.effort is None else BUDGETS.get(thinking.effort)


def is_on(thinking: Thinking | None) -> bool:
    """Say whether the model was asked to think."""
    return thinking is not None and effort_of(thinking) not in (None, NONE)
