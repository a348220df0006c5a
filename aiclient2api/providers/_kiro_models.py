"""
What Kiro calls the models that clients know under Anthropic's names.

A name that fits no rule is sent as it stands: the service knows better than a table which
models there are this month. It must never guess at a model that was not asked for.
"""

from __future__ import annotations

import re

NAMES = (
    "claude-opus-4.8",
    "claude-opus-4.7",
    "claude-opus-4.6",
    "claude-opus-4.5",
    "claude-sonnet-4.6",
    "claude-sonnet-4.5",
    "claude-sonnet-4",
    "claude-haiku-4.5",
    "auto",
)
"""The service's own names."""

_DATED = (
    "claude-sonnet-4-5-20250929",
    "claude-sonnet-4-20250514",
)

KNOWN = (*NAMES, *(name.replace(".", "-") for name in NAMES if "." in name), *_DATED)
"""The names by which a request finds its way here: dotted, dashed and dated."""

_DATE = re.compile(r"-20\d{6}$")
_DASHED = re.compile(r"(claude-(?:opus|sonnet|haiku)-\d+)-(\d{1,2})(?!\d)(.*)")


def kiro_model(name: str) -> str:
    """Return the service's name for a model: no ``-thinking``, no date, a dot in its version."""
    name = name.removesuffix("-thinking")
    name = _DATE.sub("", name).removesuffix("-thinking")
    dashed = _DASHED.fullmatch(name)
    return f"{dashed[1]}.{dashed[2]}{dashed[3]}" if dashed is not None else name
