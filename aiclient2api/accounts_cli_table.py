"""
Accounts as a table for a person's eyes: a line each, in the words of ``/provider_health``.

Pure. It must never be shown a key, and shows nothing that could steer a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiclient2api.config import Settings

_HEADS = (
    "PROVIDER",
    "ID",
    "NAME",
    "STATE",
    "REASON",
    "NEXT CHANGE",
    "IN FLIGHT",
    "REQUESTS/FAILURES",
)
_SHORTEST = 8
_WIDEST = 40
_NONE = "-"


def from_settings(settings: Settings) -> list[dict[str, Any]]:
    """Return what the files alone say of each account; how it fares they do not know."""
    return [
        {
            "uuid": account.id,
            "customName": account.name,
            "provider": account.provider,
            "isDisabled": account.disabled,
            "state": "disabled" if account.disabled else "unknown",
        }
        for provider in settings.providers.values()
        for account in provider.accounts
    ]


def short_ids(ids: Sequence[str]) -> list[str]:
    """Return the ids, cut to as many characters as tell them apart, eight or more."""
    most = max(map(len, ids), default=0)
    length = next(
        (n for n in range(_SHORTEST, most) if len({id[:n] for id in ids}) == len(set(ids))), most
    )
    return [id[:length] for id in ids]


def table(items: Sequence[Mapping[str, Any]], timestamp: object = None) -> str:
    """
    Return a line for each account, under a line of heads.

    :param items: As ``GET /provider_health`` lists them.
    :param timestamp: When that was.
    """
    if not items:
        return "There are no accounts; `aiclient2api accounts add PROVIDER` adds one."
    now = _moment(timestamp)
    ids = short_ids([_text(item.get("uuid")) for item in items])
    rows = [_HEADS, *(_row(item, id, now) for item, id in zip(items, ids, strict=True))]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(item: Mapping[str, Any], id: str, now: datetime | None) -> tuple[str, ...]:
    known = "requests" in item
    return (
        _text(item.get("provider")),
        id or _NONE,
        _text(item.get("customName")) or _NONE,
        _text(item.get("state")) or _NONE,
        _reason(item) or _NONE,
        _next_change(item, now) or _NONE,
        _text(item.get("active")) if known else _NONE,
        f"{_text(item.get('requests'))}/{_text(item.get('failures'))}" if known else _NONE,
    )


def _reason(item: Mapping[str, Any]) -> str:
    reason = _text(item.get("reason"))
    models = item.get("models")
    worse = len(models) if isinstance(models, dict) else 0
    if worse:
        of_models = f"{worse} model{'s' * (worse != 1)} worse off"
        return f"{reason}, {of_models}" if reason else of_models
    return reason


def _next_change(item: Mapping[str, Any], now: datetime | None) -> str:
    told = [(_moment(item.get(key)), item.get(key)) for key in ("nextTry", "until")]
    moments = [(moment, text) for moment, text in told if moment is not None]
    if not moments:
        return ""
    moment, text = min(moments, key=lambda each: each[0])
    if now is None:
        return _text(text)
    return _span((moment - now).total_seconds())


def _moment(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


def _span(seconds: float) -> str:
    if seconds < 1:
        return "now"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"in {seconds / size:.0f} {unit}"
    return f"in {seconds:.0f} s"


def _text(value: object) -> str:
    """Return a word or a few on one line, without what steers terminals."""
    text = " ".join(str(value).split()) if value is not None else ""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."
