"""Gemini: what is read and written in every direction."""
