"""The Gemini dialect: a file for each direction it is read and written in."""

from aiclient2api.dialects.gemini.dialect import GEMINI

__all__ = ["GEMINI"]
