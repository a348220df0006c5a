"""
Anthropic Messages: the counts of tokens in an answer, gathered as they are told.

It must never know whether the answer is relayed or converted.
"""

from __future__ import annotations

from typing import Any

from aiclient2api.dialects.watching import count, total
from aiclient2api.dialects.wire_request import entry
from aiclient2api.values import Usage

_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)


class Tally:
    """
    The counts so far. They only grow, and a later event may leave out what it knew.

    :ivar usage: What they come to, None before the first was told.
    """

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._tokens: dict[str, int | None] = dict.fromkeys(_COUNTS)
        self._reasoning: int | None = None

    def take(self, told: Any) -> bool:
        """Take a ``usage`` object, or what stands in its place; say whether it was news."""
        if not isinstance(told, dict):
            return False
        for name in _COUNTS:
            self._tokens[name] = _greater(count(told.get(name)), self._tokens[name])
        details = told.get("output_tokens_details")
        self._reasoning = _greater(count(entry(details, "thinking_tokens")), self._reasoning)
        given, output, cached, written = self._tokens.values()
        before = self.usage
        self.usage = Usage(
            input=total(given, cached, written),
            output=output,
            cached=cached,
            cache_write=written,
            reasoning=self._reasoning,
        )
        return self.usage != before


def _greater(new: int | None, old: int | None) -> int | None:
    if new is None:
        return old
    return max(new, old or 0)
