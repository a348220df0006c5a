"""
What the gateway is told before it starts: files, flags and environment, checked at once.

This is the face of the package; nothing outside it needs to know its rooms.
"""

from __future__ import annotations

from aiclient2api.config.flags import FLAGS, Flag
from aiclient2api.config.loading import load
from aiclient2api.config.pool_rules import AffinityLimits, Probe, Rest, RetryBudget
from aiclient2api.config.pools import ProviderConfig
from aiclient2api.config.settings import FetchImages, Limits, Settings, StoredResponses, Timeouts
from aiclient2api.config.summary import report

__all__ = [
    "FLAGS",
    "AffinityLimits",
    "FetchImages",
    "Flag",
    "Limits",
    "Probe",
    "ProviderConfig",
    "Rest",
    "RetryBudget",
    "Settings",
    "StoredResponses",
    "Timeouts",
    "load",
    "report",
]
