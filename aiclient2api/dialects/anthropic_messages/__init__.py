"""The Anthropic Messages dialect: a file for each direction it is read and written in."""

from aiclient2api.dialects.anthropic_messages.dialect import ANTHROPIC_MESSAGES

__all__ = ["ANTHROPIC_MESSAGES"]
