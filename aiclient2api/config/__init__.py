"""
What the gateway is told before it starts: files, flags and environment, checked at once.

This is the face of the package; nothing outside it needs to know its rooms.
"""

from __future__ import annotations

from aiclient2api.config.flags import FLAGS, Flag
from aiclient2api.config.pools import ProviderConfig
from aiclient2api.config.settings import (
    FetchImages,
    Limits,
    Settings,
    StoredResponses,
    Timeouts,
    load,
    report,
)

__all__ = [
    "FLAGS",
    "FetchImages",
    "Flag",
    "Limits",
    "ProviderConfig",
    "Settings",
    "StoredResponses",
    "Timeouts",
    "load",
    "report",
]
