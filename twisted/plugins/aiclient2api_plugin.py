"""
Tell ``twistd`` that there is an ``aiclient2api``, and no more.

Every ``twistd --help`` imports this file: it must never import the gateway itself.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

gateway = ServiceMaker(
    name="aiclient2api",
    module="aiclient2api.tap",
    description="A gateway for LLM APIs: one local endpoint, four dialects.",
    tapname="aiclient2api",
)
