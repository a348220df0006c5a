"""
Write moments the way monitors read them: ISO 8601, in UTC, to the millisecond.

It must never read a clock.
"""

from __future__ import annotations

from datetime import UTC, datetime


def moment(seconds: float | None) -> str | None:
    """
    Return *seconds* as text such as ``2023-11-14T22:13:20.500Z``.

    :param seconds: Unix time; 0 and None are "never".
    :return: None for "never", and for what no calendar has a day for.
    """
    if not seconds:
        return None
    try:
        text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return None
    return text.replace("+00:00", "Z")
