"""The OpenAI Responses dialect: a file for each direction it is read and written in."""

from aiclient2api.dialects.openai_responses.dialect import OPENAI_RESPONSES

__all__ = ["OPENAI_RESPONSES"]
