"""
Answering one client request: everybody who may be asked, and how often each of them.

This is the face of the package; nothing outside it needs to know its rooms.
"""

from __future__ import annotations

from aiclient2api.exchange.failover import Convert, Exchange, Way
from aiclient2api.exchange.patience import Patience, retry_delay
from aiclient2api.exchange.shown import without_secrets

__all__ = ["Convert", "Exchange", "Patience", "Way", "retry_delay", "without_secrets"]
