"""
Why an answer ended, in the words of everybody who speaks this dialect.

A word that nobody knows may well mean that the answer broke off: it is no end. It must
never know what the answer holds.
"""

from __future__ import annotations

from typing import Any

_REASONS = {
    "end": (
        *("stop", "stop_sequence", "stop_word", "stop_token", "eos", "eos_token", "end_turn"),
        *("end", "complete", "completed", "finish", "finished", "done", "normal", "success"),
    ),
    "tool_use": ("tool_calls", "tool_call", "tool_use", "function_call", "function_calls"),
    # A cut answer must not pass for a whole one.
    "length": (
        *("length", "max_tokens", "max_length", "max_output_tokens", "max_new_tokens"),
        *("max_completion_tokens", "model_length", "token_limit", "repetition"),
    ),
    "context": (
        *("context_length", "context_length_exceeded", "context_window_exceeded"),
        # Zhipu's
        "model_context_window_exceeded",
    ),
    "filtered": (
        *("content_filter", "content_filtered", "safety", "refusal", "moderation"),
        *("recitation", "blocklist", "prohibited_content", "spii", "image_safety"),
        *("guardrail_intervened", "sensitive"),
    ),
    "paused": ("pause_turn",),
}
_KNOWN = {word: reason for reason, words in _REASONS.items() for word in words}


def tells(word: Any) -> bool:
    """Say whether *word* says that the answer ended: some send "null" until it has."""
    return bool(word) and word not in ("null", "none", "None")


def reason_of(word: Any) -> str | None:
    """Return what *word* means; None for what is no end at all, as far as anybody knows."""
    return _KNOWN.get(word.lower()) if isinstance(word, str) else None
