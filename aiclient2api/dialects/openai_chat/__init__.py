"""The OpenAI Chat Completions dialect: a file for each direction it is read and written in."""

from aiclient2api.dialects.openai_chat.dialect import OPENAI_CHAT

__all__ = ["OPENAI_CHAT"]
