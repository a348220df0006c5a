"""
When an upstream says that it will be back: headers, fields and prose, as seconds from now.

Pure: moments are counted from the answer's own ``Date``, for our clock may differ. It must
never know what a limit means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from aiclient2api.values import Headers

MOST_WAIT = 366 * 86400.0
"""Seconds: longer waits are cut down to this; no clock or header need bear more."""

# Bounded, so that a text made of digits is not searched again from each of them.
_LONGEST_DURATION = 40
_NUMBER = r"\d{1,36}(?:\.\d{1,36})?"
_DURATION = rf"((?:{_NUMBER}(?:ms|h|m|s)){{1,8}})(?!\d)"
_WAIT_PROSE = re.compile(rf"(?:retry in|try again in|reset after|retry after) {_DURATION}", re.I)
_WORDY_PROSE = re.compile(
    rf"(?:try again|retry|reset) (?:in|after) ({_NUMBER}) ?(second|minute|hour|day)s?\b", re.I
)
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|h|m|s)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_WORDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
# Larger numbers are milliseconds since 1970: as seconds it would be the year 5138.
_MILLISECONDS = 1e11


def duration(text: str) -> float | None:
    """
    Return the seconds in ``34.07s``, ``900ms`` or ``12h3m4s``; None for anything else.

    :return: At most `MOST_WAIT`.
    """
    if len(text) > _LONGEST_DURATION:
        return None
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(map("".join, parts)) != text:
        return None
    return min(sum(float(number) * _UNITS[unit] for number, unit in parts), MOST_WAIT)


def prose_wait(message: str) -> float | None:
    """Return the seconds in ``Please try again in 20s`` and its like."""
    found = _WAIT_PROSE.search(message)
    if found is not None:
        return duration(found.group(1))
    found = _WORDY_PROSE.search(message)
    if found is None:
        return None
    return min(float(found.group(1)) * _WORDS[found.group(2).lower()], MOST_WAIT)


def header_wait(headers: Headers) -> float | None:
    """Return what ``Retry-After`` says, in seconds or as a date, or its like in milliseconds."""
    first = _firsts(headers)
    for name, unit in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        try:
            seconds = float(first[name]) * unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return min(seconds, MOST_WAIT)
    try:
        until = parsedate_to_datetime(first[b"retry-after"])
        seconds = (until - parsedate_to_datetime(first[b"date"])).total_seconds()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, seconds), MOST_WAIT)


def number_wait(numbers: Mapping[str, float], headers: Headers) -> float | None:
    """
    Return what ``resets_in_seconds`` or ``resets_at`` of an error says.

    :param numbers: The error's fields that are numbers.
    """
    seconds = numbers.get("resets_in_seconds")
    if seconds is None and "resets_at" in numbers:
        moment = numbers["resets_at"]
        told = _date(headers)
        if told is not None and math.isfinite(moment):
            seconds = (moment / 1000 if moment > _MILLISECONDS else moment) - told
    if seconds is None or not math.isfinite(seconds):
        return None
    return min(max(0.0, seconds), MOST_WAIT)


def window_wait(headers: Headers) -> float | None:
    """
    Return when the windows that are used up are over.

    OpenAI writes ``x-ratelimit-remaining-tokens: 0`` and ``x-ratelimit-reset-tokens: 6m0s``,
    Anthropic ``anthropic-ratelimit-tokens-remaining: 0`` and a time as of RFC 3339.
    """
    first = _firsts(headers)
    told = _date(headers)
    waits = []
    for kind in (b"requests", b"tokens", b"input-tokens", b"output-tokens"):
        if first.get(b"x-ratelimit-remaining-" + kind) == "0":
            waits.append(duration(first.get(b"x-ratelimit-reset-" + kind, "")))
        family = b"anthropic-ratelimit-" + kind
        if first.get(family + b"-remaining") == "0" and told is not None:
            waits.append(_until(first.get(family + b"-reset", ""), told))
    return max((seconds for seconds in waits if seconds is not None), default=None)


def _until(text: str, told: float) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, moment.timestamp() - told), MOST_WAIT)


def _date(headers: Headers) -> float | None:
    try:
        return parsedate_to_datetime(_firsts(headers)[b"date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def _firsts(headers: Headers) -> dict[bytes, str]:
    first: dict[bytes, str] = {}
    for name, value in headers:
        first.setdefault(name, value.decode("latin-1").strip())
    return first
