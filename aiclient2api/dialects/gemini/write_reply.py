"""
Gemini: an answer for a client, from events.

Texts and thoughts are written as they come, calls and media once they are whole, each in a
chunk of its own. It must never know who answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import msgspec
from zope.interface import implementer

from aiclient2api.conversation import seals
from aiclient2api.conversation.arguments import is_object, settled
from aiclient2api.conversation.events import (
    CALL,
    MEDIA,
    REASONING,
    REFUSAL,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Cited,
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
from aiclient2api.conversation.grammar import Block, fold
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.gemini.errors import render_error
from aiclient2api.dialects.gemini.request import NAME
from aiclient2api.errors import GatewayError
from aiclient2api.interfaces import IEventEncoder
from aiclient2api.values import Usage

_REASONS = {"length": "MAX_TOKENS", "context": "MAX_TOKENS", "filtered": "SAFETY"}
_SECTION = "\n\n"
_LINE_ENDS = b"\xe2\x80"
"""What U+2028 and U+2029 begin with, as do dashes and quotation marks."""
_SURROGATE = re.compile("[\ud800-\udfff]")

_quoted = msgspec.json.Encoder().encode


@attrs.define
class _Writing:
    """
    A block that is open.

    :ivar pieces: Of a call: its arguments. Of a text: what was said, for citations.
    :ivar section: Of a thought: the section it is in.
    """

    kind: str
    id: str = ""
    name: str = ""
    section: int = 0
    pieces: list[str] = attrs.field(factory=list)
    seal: Seal | None = None
    citations: list[Cited] = attrs.field(factory=list)


@implementer(IEventEncoder)
class GeminiEncoder:
    """
    Writes one answer.

    A client of this dialect runs each call it is given, however the answer ends. So a call
    whose arguments are not whole waits for the end: it is left out if the answer was cut,
    and else told as well as can be.

    :param action: ``generate`` or ``count_tokens``.
    :param framing: ``whole``, ``sse`` or ``json_array``.
    :param model: The model's name as the client asked for it.
    :param make_id: Returns 24 or more hexadecimal digits, new each time.
    """

    final = None

    def __init__(
        self, *, action: str, framing: str, model: str, make_id: Callable[[], str]
    ) -> None:
        self._action = action
        self._framing = framing
        self._array = framing == "json_array"
        self._model = model
        self._make_id = make_id
        self._open: dict[int, _Writing] = {}
        self._latest = -1
        self._waiting: list[tuple[int, _Writing]] = []
        self._sources: list[dict[str, Any]] = []
        self._usage: Usage | None = None
        self._refused = False
        self._begun = False
        self._named: dict[str, Any] = {}
        self._head = self._tail = self._text_head = self._text_tail = b""
        self._thought_tail = b""
        self._writers: Mapping[type, Callable[[Any], bytes]] = {
            Started: self._started,
            BlockOpened: self._opened,
            TextDelta: self._text,
            ReasoningDelta: self._reasoning,
            Sealed: self._sealed,
            ArgumentsDelta: self._arguments,
            MediaDelta: self._media,
            Cited: self._cited,
            BlockClosed: self._closed,
            UsageReported: self._counted,
            Finished: self._finished,
            Failed: self._failed,
        }

    def encode(self, event: Event) -> bytes:
        """Return what the client is to see of *event*, often nothing."""
        if type(event) is TextDelta and self._begun:
            self._open[event.index].pieces.append(event.text)
            try:
                told = self._text_head + _quoted(event.text) + self._text_tail
            except UnicodeEncodeError:
                told = self._text_head + _written(event.text) + self._text_tail
        else:
            told = self._writers[type(event)](event)
        return _in_one_line(told) if _LINE_ENDS in told else told

    def error(self, error: GatewayError) -> bytes | None:
        """Return the error chunk; nothing follows it."""
        if self._framing != "sse":
            return None
        return b"data: " + _in_one_line(render_error(error)[1]) + b"\r\n\r\n"

    def reply(self, events: Sequence[Event]) -> bytes:
        """Return a whole response, or a count of tokens."""
        reply = fold(events)
        if self._action == "count_tokens":
            return _written({"totalTokens": (reply.usage and reply.usage.input) or 0})
        self._started(Started(reply.id))
        self._usage = reply.usage
        self._latest = len(reply.blocks) - 1
        finished = Finished(reply.reason or "end", reply.stop_sequence)
        parts: list[dict[str, Any]] = []
        for index, block in enumerate(reply.blocks):
            parts += self._whole(index, block, finished)
        content = {"parts": parts, "role": "model"} if parts else {"role": "model"}
        return _written(self._last(content, finished))

    def _whole(self, index: int, block: Block, finished: Finished) -> Iterator[dict[str, Any]]:
        """Yield a block as a part, if there is anything in it."""
        if block.kind == MEDIA:
            if block.media is not None:
                yield _media(block.media)
            return
        writing = _Writing(block.kind, block.id, block.name, pieces=[block.text], seal=block.seal)
        if block.kind == CALL:
            if self._runs(index, writing, finished.reason):
                yield _call(writing)
            return
        self._refused = self._refused or block.kind == REFUSAL
        text = _SECTION.join(block.sections) if block.kind == REASONING else block.text
        if text or block.seal is not None:
            yield _said(text, block.kind, block.seal)
        writing.citations = block.citations
        self._sources += _sources(writing)

    def _started(self, event: Started) -> bytes:
        self._named = {
            "modelVersion": self._model,
            "responseId": event.id or self._make_id()[:24],
        }
        end = b"" if self._array else b"\r\n\r\n"
        named = _written(self._named)[1:]
        self._tail = b'],"role":"model"},"index":0}],' + named + end
        self._text_tail = b"}" + self._tail
        self._thought_tail = b',"thought":true' + self._text_tail
        self._lead(b"[" if self._array else b"data: ")
        return b""

    def _lead(self, lead: bytes) -> None:
        self._head = lead + b'{"candidates":[{"content":{"parts":['
        self._text_head = self._head + b'{"text":'

    def _begin(self) -> None:
        """Note that a chunk was written: the next of an array has a comma before it."""
        if not self._begun:
            self._begun = True
            if self._array:
                self._lead(b",\r\n")

    def _chunk(self, part: Mapping[str, Any]) -> bytes:
        chunk = self._head + _written(part) + self._tail
        self._begin()
        return chunk

    def _opened(self, event: BlockOpened) -> bytes:
        self._open[event.index] = _Writing(event.kind, event.id, event.name)
        self._latest = event.index
        self._refused = self._refused or event.kind == REFUSAL
        # What comes after a call proves that it was not cut short.
        return self._released("")

    def _text(self, event: TextDelta) -> bytes:
        self._open[event.index].pieces.append(event.text)
        return self._chunk({"text": event.text})

    def _reasoning(self, event: ReasoningDelta) -> bytes:
        block = self._open[event.index]
        text = event.text
        if event.section != block.section:
            block.section = event.section
            text = _SECTION + text
        chunk = self._text_head + _written(text) + self._thought_tail
        self._begin()
        return chunk

    def _sealed(self, event: Sealed) -> bytes:
        self._open[event.index].seal = event.seal
        return b""

    def _arguments(self, event: ArgumentsDelta) -> bytes:
        self._open[event.index].pieces.append(event.json)
        return b""

    def _media(self, event: MediaDelta) -> bytes:
        return self._chunk(_media(event))

    def _cited(self, event: Cited) -> bytes:
        self._open[event.index].citations.append(event)
        return b""

    def _closed(self, event: BlockClosed) -> bytes:
        block = self._open.pop(event.index)
        if block.kind == CALL:
            self._waiting.append((event.index, block))
            return self._released("")
        self._sources += _sources(block)
        # A client that gathers a thought from its pieces finds the seal with the last.
        return b"" if block.seal is None else self._chunk(_said("", block.kind, block.seal))

    def _counted(self, event: UsageReported) -> bytes:
        self._usage = event.usage
        return b""

    def _finished(self, event: Finished) -> bytes:
        calls = self._released(event.reason)
        content = {"parts": [{"text": ""}], "role": "model"}
        last = _written(self._last(content, event))
        if not self._array:
            return b"%sdata: %s\r\n\r\n" % (calls, last)
        return calls + (b",\r\n" if self._begun else b"[") + last + b"]"

    def _failed(self, event: Failed) -> bytes:
        return self.error(event.error) or b""

    def _released(self, reason: str) -> bytes:
        """
        Return the calls that need not wait any longer, in order.

        :param reason: Why the answer ended, ``""`` if it goes on.
        """
        parts: list[dict[str, Any]] = []
        while self._waiting:
            index, call = self._waiting[0]
            if not reason and not self._runs(index, call, "length"):
                break
            del self._waiting[0]
            if self._runs(index, call, reason):
                parts.append(_call(call))
        return b"".join(map(self._chunk, parts))

    def _runs(self, index: int, call: _Writing, reason: str) -> bool:
        """Say whether a client may run *call* in an answer that ended for *reason*."""
        if reason not in _REASONS:
            return True
        text = "".join(call.pieces).strip()
        if text in ("", "{}"):
            return index < self._latest
        return is_object(text)

    def _last(self, content: Mapping[str, Any], finished: Finished) -> dict[str, Any]:
        """Return the response that ends the answer."""
        reason = _REASONS.get(finished.reason, "STOP")
        if self._refused and reason == "STOP":
            reason = "SAFETY"
        candidate: dict[str, Any] = {"content": content, "finishReason": reason, "index": 0}
        if self._sources:
            # Google's own name for the list; its libraries show it as `citations`.
            candidate["citationMetadata"] = {"citationSources": self._sources}
        usage = _counts(self._usage or Usage())
        return {"candidates": [candidate], "usageMetadata": usage, **self._named}


def _in_one_line(told: bytes) -> bytes:
    """Return JSON text that JavaScript, too, holds for a single line.

    Google's SDK for it finds the records of a stream with a pattern whose dot stops there.
    """
    return told.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")


def _written(value: Any) -> bytes:
    """Encode *value*, in which lone surrogates and raw JSON may stand."""
    try:
        return _quoted(value)
    except UnicodeEncodeError:
        return _quoted(_sendable(value))


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {key: _sendable(each) for key, each in value.items()}
    return [_sendable(each) for each in value] if isinstance(value, list) else value


def _said(text: str, kind: str, seal: Seal | None) -> dict[str, Any]:
    part: dict[str, Any] = {"text": text}
    if kind == REASONING:
        part["thought"] = True
    if seal is not None:
        part["thoughtSignature"] = seals.carried(seal, NAME)
    return part


def _call(call: _Writing) -> dict[str, Any]:
    given = settled("".join(call.pieces)).encode()
    if b"\n" in given or b"\r" in given:
        # The end of a line within it would end the record that it stands in.
        given = msgspec.json.format(given, indent=-1)
    told = {"id": call.id, "name": call.name, "args": msgspec.Raw(given)}
    part: dict[str, Any] = {"functionCall": told}
    if call.seal is not None:
        part["thoughtSignature"] = seals.carried(call.seal, NAME)
    return part


def _media(media: MediaDelta) -> dict[str, Any]:
    return {"inlineData": {"mimeType": media.mime, "data": media.data}}


def _sources(block: _Writing) -> Iterator[dict[str, Any]]:
    """Yield what is said of a text's sources; places are counted in bytes."""
    text = "".join(block.pieces) if block.citations else ""
    for cited in block.citations:
        if not cited.url:
            continue
        source: dict[str, Any] = {"uri": cited.url}
        if cited.title:
            source["title"] = cited.title
        if cited.start is not None and cited.end is not None:
            source["startIndex"] = _bytes(text[: cited.start])
            source["endIndex"] = _bytes(text[: cited.end])
        yield source


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _counts(usage: Usage) -> dict[str, int]:
    """Return the counts as this dialect tells them: what was thought is counted apart."""
    given, made, thought = usage.input or 0, usage.output or 0, usage.reasoning or 0
    counts = {
        "promptTokenCount": given,
        "candidatesTokenCount": max(0, made - thought),
        "totalTokenCount": given + made,
    }
    if usage.reasoning is not None:
        counts["thoughtsTokenCount"] = thought
    if usage.cached is not None:
        counts["cachedContentTokenCount"] = usage.cached
    return counts
