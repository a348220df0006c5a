"""
OpenAI Chat Completions: what an answer says of itself while it is relayed verbatim.

Begun, ended, failed, so many tokens. It must never change a byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from aiclient2api.conversation.pieces import LARGEST, Pieces
from aiclient2api.dialects import openai_shapes
from aiclient2api.dialects.faults import told_error
from aiclient2api.dialects.watching import Branches, count, decode, present, says, value
from aiclient2api.dialects.wire_request import (
    entry,
    text_in,
)
from aiclient2api.errors import GatewayError, UpstreamError
from aiclient2api.values import Usage

# https://docs.z.ai/api-reference/llm/chat-completion,
# https://openrouter.ai/docs/api/reference/errors-and-debugging and
# https://api-docs.deepseek.com/api/create-chat-completion
BREAKS = ("network_error", "error", "insufficient_system_resource")
"""Reasons to finish that are none: the answer broke off."""

_NOTHING = len("null")
"""Bytes of a delta in which nothing is said, at most."""

# Zhipu's numbers, in words that everybody knows: https://docs.z.ai/api-reference/api-code
_NUMBERS = {
    "1113": "insufficient_quota",
    "1301": "content_filter",
    "1302": "rate_limit_exceeded",
    "1303": "rate_limit_exceeded",
    "1308": "insufficient_quota",
}


class _Choice(msgspec.Struct):
    index: Any = 0
    finish_reason: Any = None
    delta: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    error: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    object: Any = None
    message: Any = None
    code: Any = None
    type: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)


class ChatReader:
    """What is known of one answer; a stream of chunks or one completion."""

    def __init__(self, *, want_text: bool) -> None:
        self.started = False
        self.closed_early = False
        self.failure: UpstreamError | None = None
        self.usage: Usage | None = None
        self.texts: list[str] = []
        self.pieces = Pieces()
        self.reply_id: str | None = None
        self.kept_ids: tuple[str, ...] = ()
        self._want_text = want_text
        self._branches = Branches()
        self._whole = False

    @property
    def complete(self) -> bool:
        """True once every choice seen has said why it ended."""
        return self._whole or self._branches.all_ended

    def record(self, *, event: bytes, data: bytes) -> bool:
        """Read one chunk; ``[DONE]`` is whole but proves nothing."""
        if data.strip() == b"[DONE]":
            self.closed_early = not self.complete
            return True
        chunk = decode(_CHUNK, data)
        if chunk is None:
            if event == b"error":
                self.failure = told_error(None, ())
            return event == b"error"
        if says(chunk.error) or event == b"error" or chunk.object == "error":
            self.failure = _failure(chunk, stream=True)
            return True
        for choice in chunk.choices or ():
            self._read_choice(choice)
        if present(chunk.usage):
            self._told(value(chunk.usage))
        return True

    def whole(self, *, body: bytes) -> bool:
        """Read a completion."""
        answer = decode(_CHUNK, body)
        if answer is None:
            return False
        self._whole = True
        if answer.choices is None and (says(answer.error) or answer.object == "error"):
            self.failure = _failure(answer, stream=False)
            return True
        broken = next((c for c in answer.choices or () if c.finish_reason in BREAKS), None)
        if broken is not None:
            self.failure = broke_off(broken.error, broken.finish_reason, stream=False)
            return True
        self.started = True
        self.usage = usage_of(value(answer.usage)) if present(answer.usage) else None
        for choice in answer.choices or () if self._want_text else ():
            self.texts.append(text_in(entry(value(choice.message), "content")))
        return True

    def error_frame(self, error: GatewayError) -> bytes:
        """Return the error chunk."""
        return b"data: " + openai_shapes.render_error(error)[1] + b"\n\n"

    def _read_choice(self, choice: _Choice) -> None:
        if choice.finish_reason in BREAKS:
            self.failure = broke_off(choice.error, choice.finish_reason, stream=True)
            return
        self._branches.saw(choice.index, ended=bool(choice.finish_reason))
        self.started = self.started or bool(choice.finish_reason)
        if self._want_text or not self.started:
            delta = value(choice.delta) if present(choice.delta) else value(choice.message)
            if not self.started and isinstance(delta, dict):
                self.started = any(said for key, said in delta.items() if key != "role")
            if self._want_text:
                self.texts.append(text_in(entry(delta, "content")))
        size = len(choice.delta)
        if _NOTHING < size < LARGEST and self.started and not choice.finish_reason:
            self.pieces.add(choice.delta, size)
        if present(choice.usage):
            # Moonshot: https://platform.moonshot.ai/docs/api/chat
            self._told(value(choice.usage))

    def _told(self, usage: Any) -> None:
        told = usage_of(usage)
        if told is not None:
            self.usage = told
            if told.output is not None:
                self.pieces.told()


def upstream_failure(
    error: Any, message: object, words: Iterable[object], *, stream: bool
) -> UpstreamError:
    """
    Return the error that an upstream told of.

    :param error: What stands under ``error``, decoded.
    :param message: What stands beside it, should it be no object.
    :param words: The same of its code and type.
    """
    if isinstance(error, dict):
        told = [error.get(key) for key in ("code", "type", "status")]
        told.insert(1, _NUMBERS.get(str(told[0])))
        return told_error(error.get("message"), told, stream=stream)
    return told_error(error if isinstance(error, str) else message, words, stream=stream)


def broke_off(error: Any, reason: str, *, stream: bool) -> UpstreamError:
    """Return the error of an answer that broke off for *reason*, one of `BREAKS`."""
    return upstream_failure(error or None, None, (reason,), stream=stream)


def usage_of(usage: Any) -> Usage | None:
    """Return what a usage object tells, wherever a vendor keeps it; None if it is none."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = (usage.get(f"{side}_tokens_details") for side in ("prompt", "completion"))
    return Usage(
        input=count(usage.get("prompt_tokens")),
        output=count(usage.get("completion_tokens")),
        cached=count(
            entry(prompt, "cached_tokens"),
            usage.get("cached_tokens"),
            usage.get("prompt_cache_hit_tokens"),
        ),
        cache_write=count(
            entry(prompt, "cache_write_tokens"), entry(prompt, "cache_creation_input_tokens")
        ),
        reasoning=count(entry(completion, "reasoning_tokens")),
    )


def _failure(answer: _Chunk, *, stream: bool) -> UpstreamError:
    error = value(answer.error) if says(answer.error) else None
    words = (answer.code, answer.type)
    return upstream_failure(error, answer.message, words, stream=stream)
