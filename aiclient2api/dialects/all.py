"""
The four dialects, in the order in which they may claim a path they share.

It must never know what any of them does.
"""

from __future__ import annotations

from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.openai_responses import OPENAI_RESPONSES

DIALECTS = (GEMINI, ANTHROPIC_MESSAGES, OPENAI_RESPONSES, OPENAI_CHAT)
"""Whoever claims a shared path first has it; the last claims everything."""
