"""
Gemini: one chunk of an answer, decoded as far as it matters.

What is well-formed is decoded in one go; what is not is searched for what can be used, for
upstreams that only speak like Google get it wrong in many ways. It must never know what any
of it means.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aiclient2api.dialects.watching import count, decode, total
from aiclient2api.dialects.wire_request import entry, listed
from aiclient2api.framing.json_text import write
from aiclient2api.values import Usage

_MOST = 1 << 63


class FunctionCall(msgspec.Struct):
    """A call; with ``willContinue``, more of its arguments are to come."""

    name: Any = None
    id: Any = None
    args: msgspec.Raw = msgspec.Raw()
    partialArgs: Any = None
    willContinue: Any = None


class Part(msgspec.Struct):
    """One part."""

    text: Any = None
    thought: Any = None
    thoughtSignature: Any = None
    functionCall: FunctionCall | None = None
    inlineData: msgspec.Raw = msgspec.Raw()


class Content(msgspec.Struct):
    """What was said."""

    parts: list[Part] | None = None


class Candidate(msgspec.Struct):
    """One alternative."""

    index: Any = None
    content: Content | None = None
    finishReason: Any = None
    citationMetadata: Any = None
    groundingMetadata: Any = None


class Counts(msgspec.Struct):
    """Counts of tokens."""

    promptTokenCount: Any = None
    toolUsePromptTokenCount: Any = None
    candidatesTokenCount: Any = None
    thoughtsTokenCount: Any = None
    cachedContentTokenCount: Any = None


class Chunk(msgspec.Struct):
    """One chunk, or a whole response, or a count of tokens."""

    candidates: list[Candidate] | None = None
    promptFeedback: Any = None
    usageMetadata: Counts | None = None
    modelVersion: Any = None
    responseId: Any = None
    createTime: Any = None
    totalTokens: Any = None
    cachedContentTokenCount: Any = None
    error: Any = None


_CHUNK = msgspec.json.Decoder(Chunk)
_CHUNKS = msgspec.json.Decoder(list[Chunk])
_PART = msgspec.json.Decoder(Part)
_ANY = msgspec.json.Decoder()


def chunk_of(data: bytes) -> Chunk | None:
    """Return the chunk that *data* is, an empty one if it is other JSON; None if it is none."""
    try:
        return _CHUNK.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    chunk = decode(_CHUNK, data)
    if chunk is not None:
        return chunk
    told = decode(_ANY, data)
    if told is None and data.strip() != b"null":
        return None
    return _repaired(told)


def error_in_array(body: bytes) -> Chunk | None:
    """Return the one element of an array, if it tells of an error."""
    chunks = decode(_CHUNKS, body) or []
    return chunks[0] if len(chunks) == 1 and chunks[0].error else None


def usage_in(counts: Counts) -> Usage:
    """Return the tokens that were told of."""
    thoughts, used = _count(counts.thoughtsTokenCount), _count(counts.toolUsePromptTokenCount)
    given, made = _count(counts.promptTokenCount), _count(counts.candidatesTokenCount)
    return Usage(
        given if used is None else total(given, used),
        made if thoughts is None else total(made, thoughts),
        _count(counts.cachedContentTokenCount),
        None,
        thoughts,
    )


def _count(told: Any) -> int | None:
    # Nearly always it is what it should be: `count` takes its time for the rest.
    if told is None or (type(told) is int and 0 <= told < _MOST):
        return told
    return count(told)


def _repaired(told: Any) -> Chunk:
    chunk = Chunk(candidates=[_candidate(each) for each in listed(entry(told, "candidates"))])
    for name in ("promptFeedback", "modelVersion", "responseId", "createTime", "error"):
        setattr(chunk, name, entry(told, name))
    counts = entry(told, "usageMetadata")
    if isinstance(counts, dict):
        chunk.usageMetadata = Counts(*(counts.get(name) for name in Counts.__struct_fields__))
    return chunk


def _candidate(told: Any) -> Candidate:
    content = entry(told, "content")
    parts = [_part(part) for part in listed(entry(content, "parts")) if isinstance(part, dict)]
    return Candidate(
        index=entry(told, "index"),
        content=Content(parts=parts),
        finishReason=entry(told, "finishReason"),
    )


def _part(told: dict[str, Any]) -> Part:
    part = decode(_PART, write(told))
    if part is not None:
        return part
    # A call that is no object, with whatever else may be of use.
    return Part(text=told.get("text"), thought=told.get("thought"))
