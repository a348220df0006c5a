"""
Gemini: what an answer says of itself while it is relayed verbatim.

Begun, ended, failed, so many tokens. It must never change a byte.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aiclient2api.conversation.pieces import LARGEST, Pieces
from aiclient2api.dialects.faults import told_error
from aiclient2api.dialects.gemini.errors import render_error
from aiclient2api.dialects.watching import Branches, count, decode, says, total, value
from aiclient2api.dialects.wire_request import (
    entry,
    listed,
    text_in,
)
from aiclient2api.errors import GatewayError, UpstreamError
from aiclient2api.values import Usage

NO_REASON = "FINISH_REASON_UNSPECIFIED"
_NOTHING = len("null")
"""Bytes of a content in which nothing is said, at most."""


class _Candidate(msgspec.Struct):
    index: Any = 0
    content: msgspec.Raw = msgspec.Raw()
    finishReason: Any = None


class _Chunk(msgspec.Struct):
    candidates: list[_Candidate] | None = None
    promptFeedback: Any = None
    usageMetadata: Any = None
    error: msgspec.Raw = msgspec.Raw()


_CHUNK = msgspec.json.Decoder(_Chunk)
_CHUNKS = msgspec.json.Decoder(list[_Chunk])


class GeminiReader:
    """What is known of one answer; a stream of chunks or one response."""

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
        """True once every candidate seen has finished, or the prompt was blocked."""
        return self._whole or self._branches.all_ended

    def record(self, *, event: bytes, data: bytes) -> bool:
        """Read one chunk."""
        chunk = decode(_CHUNK, data)
        if chunk is None:
            if event == b"error":
                self.failure = told_error(None, ())
            return event == b"error"
        if says(chunk.error):
            self.failure = upstream_failure(value(chunk.error), stream=True)
        else:
            self._read(chunk)
        return True

    def whole(self, *, body: bytes) -> bool:
        """Read a response, a count of tokens, or an error, bare or in an array."""
        answer = decode(_CHUNK, body)
        if answer is None:
            listed_answers = decode(_CHUNKS, body) or []
            if len(listed_answers) != 1 or not says(listed_answers[0].error):
                return False
            answer = listed_answers[0]
        self._whole = True
        if says(answer.error) and not answer.candidates:
            self.failure = upstream_failure(value(answer.error), stream=False)
            return True
        self._read(answer)
        self.started = True
        return True

    def error_frame(self, error: GatewayError) -> bytes:
        """Return the error chunk."""
        return b"data: " + render_error(error)[1] + b"\n\n"

    def _read(self, chunk: _Chunk) -> None:
        if chunk.candidates or chunk.promptFeedback:
            self.started = True
        for candidate in chunk.candidates or ():
            reason = candidate.finishReason
            self._branches.saw(candidate.index, ended=bool(reason) and reason != NO_REASON)
            size = len(candidate.content)
            if _NOTHING < size < LARGEST:
                self.pieces.add(candidate.content, size)
            if self._want_text:
                for part in listed(entry(value(candidate.content), "parts")):
                    if not entry(part, "thought"):
                        self.texts.append(text_in(entry(part, "text")))
        if entry(chunk.promptFeedback, "blockReason"):
            # No candidate will come; the prompt itself is what has ended.
            self._branches.saw(-1, ended=True)
        told = _usage(chunk.usageMetadata)
        if told is not None:
            self.usage = told
            if told.output is not None:
                self.pieces.told()


def upstream_failure(error: Any, *, stream: bool) -> UpstreamError:
    """Return the error that stands under ``error``."""
    if isinstance(error, str):
        return told_error(error, (), stream=stream)
    words = [entry(error, "status"), entry(error, "code")]
    return told_error(entry(error, "message"), words, stream=stream)


def _usage(told: Any) -> Usage | None:
    if not isinstance(told, dict):
        return None
    thoughts = count(told.get("thoughtsTokenCount"))
    return Usage(
        input=total(
            count(told.get("promptTokenCount")), count(told.get("toolUsePromptTokenCount"))
        ),
        output=total(count(told.get("candidatesTokenCount")), thoughts),
        cached=count(told.get("cachedContentTokenCount")),
        reasoning=thoughts,
    )
