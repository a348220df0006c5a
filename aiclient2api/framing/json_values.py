"""
What a foreign JSON document holds, as what it should have been. Pure.

It says what a value is not, never why; that it may be missing is for the caller to judge.
"""

from __future__ import annotations

from math import isfinite
from typing import Any


def string(value: Any) -> str:
    """Return *value* if it is a string, else ``""``."""
    return value if isinstance(value, str) else ""


def number(value: Any) -> float | None:
    """Return *value* if it is a number that a float can hold, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        # A whole number of hundreds of digits is valid JSON.
        return None
    return found if isfinite(found) else None
