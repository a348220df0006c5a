"""
Gemini: an upstream's answer, read into events.

Google tells of parts, not of blocks: a block lasts until a part of another kind comes. Only
the first alternative is read. It must never know who asked.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
from zope.interface import implementer

from aiclient2api.conversation import seals
from aiclient2api.conversation.events import (
    CALL,
    MEDIA,
    REASONING,
    TEXT,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Event,
    Failed,
    Finished,
    MediaDelta,
    ReasoningDelta,
    Sealed,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.grammar import ended
from aiclient2api.dialects.gemini import media
from aiclient2api.dialects.gemini.chunks import (
    Candidate,
    Chunk,
    Counts,
    Part,
    chunk_of,
    error_in_array,
    usage_in,
)
from aiclient2api.dialects.gemini.citations import Citations
from aiclient2api.dialects.gemini.partial_args import PartialArguments
from aiclient2api.dialects.gemini.request import NAME
from aiclient2api.dialects.gemini.signatures import BYPASSES
from aiclient2api.dialects.gemini.watch import NO_REASON, upstream_failure
from aiclient2api.dialects.watching import count, present, value
from aiclient2api.dialects.wire_request import entry
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.json_text import BOM
from aiclient2api.interfaces import IEventDecoder
from aiclient2api.values import Usage

_REASONS = {
    "STOP": "end",
    "OTHER": "end",
    "IMAGE_OTHER": "end",
    "NO_IMAGE": "end",
    "MAX_TOKENS": "length",
    "SAFETY": "filtered",
    "RECITATION": "filtered",
    "LANGUAGE": "filtered",
    "BLOCKLIST": "filtered",
    "PROHIBITED_CONTENT": "filtered",
    "SPII": "filtered",
    "MODEL_ARMOR": "filtered",
    "IMAGE_SAFETY": "filtered",
    "IMAGE_PROHIBITED_CONTENT": "filtered",
    "IMAGE_RECITATION": "filtered",
}
# https://ai.google.dev/api/generate-content and Vertex number them alike up to 5; those from
# 6 to 8 are filters with both. The names of higher numbers depend on who was asked.
_NUMBERS = (
    NO_REASON,
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "OTHER",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
)
# The model tried to call a tool and failed: no answer, and no end of one either.
_BROKEN = frozenset(
    (
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "TOO_MANY_TOOL_CALLS",
        "UNEXPECTED_TOOL_CALL",
    )
)
_HEAD = 64
_MOST_OF_A_NAME = 64
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")
_ANY_BYTES = "application/octet-stream"
_UNREADABLE = "[Here were media that cannot be read.]"


@implementer(IEventDecoder)
class GeminiDecoder:
    """
    Reads one answer, a stream or a response or a count of tokens.

    :param action: ``generate`` or ``count_tokens``.
    """

    arrays = True

    def __init__(self, *, action: str) -> None:
        self._action = action
        self._id = ""
        self._started = False
        self._over = False
        self._counts: Counts | None = None
        self._reason: str | None = None
        self._blocks = 0
        self._open = ""
        self._sealed = False
        self._ids: set[str] = set()
        self._partial: PartialArguments | None = None
        self._citations = Citations()

    def record(self, *, event: bytes, data: bytes) -> Sequence[Event] | None:
        """Read one chunk."""
        if self._over:
            return ()
        chunk = chunk_of(data)
        if chunk is None:
            if event == b"error":
                return self._failed(None, stream=True)
            return () if data.strip() in (b"", b"[DONE]") else None
        if chunk.error:
            return self._failed(chunk.error, stream=True)
        return self._read(chunk)

    def whole(self, *, body: bytes) -> Sequence[Event] | None:
        """Read a response, a count of tokens, or an error, bare or in an array."""
        listed = body[:_HEAD].removeprefix(BOM).lstrip().startswith(b"[")
        answer = error_in_array(body) if listed else chunk_of(body)
        if answer is None:
            return None
        if answer.error and not answer.candidates:
            return self._failed(answer.error, stream=False)
        if self._action == "count_tokens":
            tokens = count(answer.totalTokens)
            if tokens is None:
                return None
            cached = count(answer.cachedContentTokenCount)
            return (Started(), UsageReported(Usage(input=tokens, cached=cached)), Finished("end"))
        if not answer.candidates and not answer.promptFeedback:
            return None
        events = self._read(answer)
        if not self._over and self._reason is None:
            # A reason is never invented: nobody knows whether this is all of it.
            return None
        return [*events, *self.end()]

    def end(self) -> Sequence[Event]:
        """Note that the body ended; nothing is closed if no reason was given."""
        if self._over or self._reason is None:
            return ()
        self._over = True
        events: list[Event] = []
        self._close(events)
        if self._reason == "end" and not self._blocks:
            # Google does that now and then; the same question may well be answered next time.
            events.append(Failed(_nothing()))
        else:
            events.append(Finished(ended(self._reason, called=bool(self._ids))))
        return events

    def _failed(self, error: Any, *, stream: bool) -> Sequence[Event]:
        self._over = True
        return (Failed(upstream_failure(error, stream=stream)),)

    def _read(self, chunk: Chunk) -> Sequence[Event]:
        events: list[Event] = []
        if not self._started:
            if not chunk.candidates and not chunk.promptFeedback and chunk.usageMetadata is None:
                return ()
            self._started = True
            self._id = _string(chunk.responseId)
            made = _seconds(chunk.createTime)
            events.append(Started(self._id, _string(chunk.modelVersion), made))
        counts = chunk.usageMetadata
        if counts is not None and counts != self._counts:
            self._counts = counts
            events.append(UsageReported(usage_in(counts)))
        for place, candidate in enumerate(chunk.candidates or ()):
            index = candidate.index
            if (index if isinstance(index, int) else place) == 0 and not self._over:
                self._candidate(candidate, events)
        if chunk.promptFeedback is not None and entry(chunk.promptFeedback, "blockReason"):
            # No candidate will come; the prompt itself is what was refused.
            self._reason = "filtered"
        return events

    def _candidate(self, candidate: Candidate, events: list[Event]) -> None:
        content = candidate.content
        if content is not None:
            for part in content.parts or ():
                self._part(part, events)
        told = candidate.groundingMetadata
        if told is not None and self._open == TEXT:
            events += self._citations.grounded(self._blocks - 1, told)
        told = candidate.citationMetadata
        if told is not None and self._open == TEXT:
            events += self._citations.cited(self._blocks - 1, told)
        if candidate.finishReason:
            name = _name_of(candidate.finishReason)
            if name != NO_REASON:
                self._stopped(name, events)

    def _stopped(self, name: str, events: list[Event]) -> None:
        if name in _BROKEN:
            self._over = True
            events.append(Failed(_broken()))
        elif self._reason in (None, "end"):
            # A cut stays a cut, whatever a later chunk says.
            self._reason = _REASONS.get(name)
            if self._reason is None:
                self._over = True
                events.append(Failed(_unknown(name)))

    def _part(self, part: Part, events: list[Event]) -> None:
        text = part.text
        if text is not None and isinstance(text, str):
            kind = REASONING if part.thought else TEXT
            if text:
                if self._open != kind or (self._sealed and (part.thought or part.thoughtSignature)):
                    self._begin(kind, events)
                if kind is TEXT:
                    self._citations.said(text)
                    events.append(TextDelta(self._blocks - 1, text))
                else:
                    events.append(ReasoningDelta(self._blocks - 1, text))
            if part.thoughtSignature:
                self._sign(part, kind if part.thought else "", events)
        elif part.functionCall is not None:
            self._call(part, events)
        elif present(part.inlineData):
            if not part.thought:
                self._media(value(part.inlineData), events)
        elif part.thoughtSignature:
            self._sign(part, REASONING if part.thought else "", events)

    def _begin(self, kind: str, events: list[Event]) -> None:
        self._close(events)
        events.append(BlockOpened(self._blocks, kind))
        self._blocks += 1
        self._open = kind
        self._sealed = False
        if kind is TEXT:
            self._citations.begin()

    def _close(self, events: list[Event]) -> None:
        """Close the block that is open, if one is."""
        if self._partial is not None:
            arguments = self._partial.json()
            self._partial = None
            if arguments:
                events.append(ArgumentsDelta(self._blocks - 1, arguments))
        if self._open:
            events.append(BlockClosed(self._blocks - 1))
        self._open = ""

    def _sign(self, part: Part, kind: str, events: list[Event]) -> None:
        """
        Seal the block that is open.

        :param kind: What it must be; ``""`` for any.
        """
        signature = _string(part.thoughtSignature)
        if not signature or signature in BYPASSES:
            return
        if kind and (self._open != kind or self._sealed):
            self._begin(kind, events)
        if not self._open or self._sealed:
            return
        seal = seals.taken(signature, NAME)
        if seal.issuer and seal.value:
            self._sealed = True
            events.append(Sealed(self._blocks - 1, seal))

    def _call(self, part: Part, events: list[Event]) -> None:
        call = part.functionCall
        assert call is not None
        name = _string(call.name)
        if self._partial is None or (name and call.partialArgs is None):
            if not name:
                return
            self._close(events)
            events.append(BlockOpened(self._blocks, CALL, self._call_id(_string(call.id)), name))
            self._blocks += 1
            self._open = CALL
            self._sealed = False
            if call.willContinue or call.partialArgs is not None:
                self._partial = PartialArguments()
            arguments = _arguments(call.args)
            if arguments and self._partial is None:
                events.append(ArgumentsDelta(self._blocks - 1, arguments))
        if self._partial is not None:
            self._partial.take(call.partialArgs)
        self._sign(part, "", events)
        if not call.willContinue:
            self._close(events)

    def _call_id(self, told: str) -> str:
        """Return the id of a call: what was told, unless nothing was or it is taken."""
        id = told
        if not id or id in self._ids:
            # The same answer read twice has the same ids.
            place = f"{self._id}\0{self._blocks}".encode("utf-8", "replace")
            made = hashlib.sha256(place).hexdigest() if self._id else secrets.token_hex(12)
            id = f"call_{made[:24]}"
        self._ids.add(id)
        return id

    def _media(self, blob: Any, events: list[Event]) -> None:
        told = _string(entry(blob, "data"))
        if not told:
            return
        self._close(events)
        index = self._blocks
        self._blocks += 1
        mime, data = _string(entry(blob, "mimeType")) or _ANY_BYTES, media.base64_of(told)
        if data and media.is_mime(mime):
            events += (BlockOpened(index, MEDIA), MediaDelta(index, mime, data), BlockClosed(index))
        else:
            # Not even its sender could show it to anybody.
            events += (BlockOpened(index, TEXT), TextDelta(index, _UNREADABLE), BlockClosed(index))


def _arguments(raw: msgspec.Raw) -> str:
    """Return the text of the arguments, ``""`` if they say nothing."""
    if not present(raw):
        return ""
    data = bytes(raw)
    if b"\n" in data:
        # Google indents what it streams as an array.
        with suppress(msgspec.DecodeError):
            data = msgspec.json.format(data, indent=-1)
    text = data.decode("utf-8", "replace")
    return "" if text == "{}" else text


def _name_of(reason: Any) -> str:
    """Return the name of an enum's value, which may be told by its number."""
    number = count(reason)
    if number is not None and 0 <= number < len(_NUMBERS):
        return _NUMBERS[number]
    return reason.upper() if isinstance(reason, str) else str(reason)


def _string(told: Any) -> str:
    return told if isinstance(told, str) else ""


def _seconds(told: Any) -> int:
    if not isinstance(told, str):
        return 0
    try:
        return max(0, int(datetime.fromisoformat(told).timestamp()))
    except (ValueError, OverflowError):
        return 0


def _broken() -> UpstreamError:
    return UpstreamError(
        "The model called a tool in a way that cannot be understood, and its answer was given"
        " up; try again, or with a simpler schema for the tool.",
        fault=Fault.SERVER,
        status=502,
        code="malformed_function_call",
    )


def _nothing() -> UpstreamError:
    return UpstreamError(
        "The model ended its answer without having said anything; try again.",
        fault=Fault.SERVER,
        status=502,
        code="empty_answer",
    )


def _unknown(name: str) -> UpstreamError:
    word = _UNFIT.sub("_", name[:_MOST_OF_A_NAME])
    return UpstreamError(
        f"The upstream ended its answer for a reason that is not known, {word}, so it may not be"
        " whole; try again.",
        fault=Fault.SERVER,
        status=502,
        code="unknown_finish_reason",
    )
