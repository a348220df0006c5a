"""
Edits that put an operator's sampling values where the caller's stand, or would stand.

It must never know how a dialect spells a value; it is told, and keeps to the spelling that
the caller chose.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiclient2api.dialects.wire_request import Fields
from aiclient2api.framing.json_text import Edit, write

Values = Sequence[tuple[Sequence[str], float | int | None]]
"""Each value with the spellings of its key, first the one to write where there is none."""


def edits(fields: Fields, values: Values) -> list[Edit]:
    """
    Return the edits that set *values*; None leaves what is there.

    :raise InvalidRequest: if one of them is given more than once.
    """
    changes: list[Edit] = []
    missing: list[tuple[str, bytes]] = []
    for spellings, value in values:
        if value is None:
            continue
        member = fields.one(*spellings)
        if member is None:
            missing.append((spellings[0], write(value)))
        else:
            changes.append((member.start, member.end, write(value)))
    return [*changes, fields.behind(missing)] if missing else changes


def written(values: Values) -> bytes:
    """Return an object that holds *values*, in their first spelling."""
    return write({spellings[0]: value for spellings, value in values if value is not None})
