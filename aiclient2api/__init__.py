"""
One local endpoint for LLM APIs, in four dialects.

This package is a gateway: clients speak OpenAI Chat Completions, OpenAI Responses,
Anthropic Messages or Gemini to it, and providers answer. Start reading at `interfaces`.
"""

__version__ = "0.1.0"
