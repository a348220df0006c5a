"""
The turn that is still going on: calls, their results, more calls, and so forth.

While Claude thinks with a budget of tokens, the first message of such a turn must begin
with a thought (https://docs.claude.com/en/docs/build-with-claude/extended-thinking);
adaptive thinking asks for no such thing. This file must never know where messages come
from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiclient2api.dialects.wire_request import entry, listed

THOUGHTS = {"thinking": "signature", "redacted_thinking": "data"}
"""The types of blocks that are thoughts, and where their seals stand."""


def is_thought(block: Any) -> bool:
    """Say whether a block is a thought."""
    kind = entry(block, "type")
    return isinstance(kind, str) and kind in THOUGHTS


def loop_start(length: int, message: Callable[[int], Any]) -> int | None:
    """
    Return which message began the calls whose results stand last, None if none did.

    :param length: How many messages there are.
    :param message: Returns one of them, decoded; asked for no more than are needed.
    """
    start: int | None = None
    role, kind = "user", "tool_result"
    for index in range(length - 1, -1, -1):
        found = message(index)
        if entry(found, "role") == "system":
            continue
        kinds = [entry(block, "type") for block in listed(entry(found, "content"))]
        if entry(found, "role") != role or kind not in kinds:
            break
        if role == "assistant":
            start = index
            role, kind = "user", "tool_result"
        else:
            role, kind = "assistant", "tool_use"
    return start
