"""
Anthropic Messages: an upstream's answer, read into events.

Upstreams that only speak like Anthropic leave out what they like: a start, a stop, an
index. What says something and belongs to no open block is garbled: a part of an answer
must not pass for the whole. It must never know who asked.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import msgspec
from zope.interface import implementer

from aiclient2api.conversation.events import (
    CALL,
    REASONING,
    TEXT,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Cited,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    Sealed,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.grammar import ended
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.anthropic_messages.request import NAME
from aiclient2api.dialects.anthropic_messages.tokens import Tally
from aiclient2api.dialects.anthropic_messages.watch import upstream_failure
from aiclient2api.dialects.watching import count, decode, present, says
from aiclient2api.dialects.wire_request import entry, listed
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.json_text import write
from aiclient2api.interfaces import IEventDecoder
from aiclient2api.values import Usage

_REASONS = {
    "end_turn": "end",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "model_context_window_exceeded": "context",
    "tool_use": "tool_use",
    "refusal": "filtered",
    "pause_turn": "paused",
    # No words of Anthropic's, but a cut answer must not pass for a whole one.
    "length": "length",
    "content_filter": "filtered",
}


class _Delta(msgspec.Struct):
    type: Any = None
    text: Any = None
    thinking: Any = None
    signature: Any = None
    partial_json: Any = None
    citation: Any = None
    stop_reason: Any = None
    stop_sequence: Any = None


class _Block(msgspec.Struct):
    type: Any = None
    text: Any = None
    thinking: Any = None
    signature: Any = None
    data: Any = None
    id: Any = None
    name: Any = None
    input: msgspec.Raw = msgspec.Raw()
    citations: Any = None


class _Record(msgspec.Struct):
    type: Any = None
    index: Any = None
    message: Any = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: Any = None
    error: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct):
    type: Any = None
    id: Any = None
    model: Any = None
    content: msgspec.Raw = msgspec.Raw()
    stop_reason: Any = None
    stop_sequence: Any = None
    usage: Any = None
    input_tokens: Any = None
    error: msgspec.Raw = msgspec.Raw()


_RECORD = msgspec.json.Decoder(_Record)
_ANSWER = msgspec.json.Decoder(_Answer)
_BLOCK = msgspec.json.Decoder(_Block)
_BLOCKS = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder()


@attrs.define
class _Open:
    """
    A block that is open.

    :ivar index: Its number among the events, which is not the upstream's.
    :ivar given: The input it began with: what a call is made with if no delta comes.
    :ivar signature: The last that was told; there is one seal, at the block's end.
    """

    index: int
    kind: str
    given: str = ""
    signature: str = ""
    hidden: bool = False


@implementer(IEventDecoder)
class MessagesDecoder:
    """
    Reads one answer, a stream or a message or a count of tokens.

    :param action: ``generate`` or ``count_tokens``.
    """

    arrays = False

    def __init__(self, *, action: str) -> None:
        self._action = action
        self._tally = Tally()
        # None for a block that other dialects have no word for.
        self._open: dict[int | None, _Open | None] = {}
        self._blocks = 0
        self._called = False
        self._started = False
        self._over = False
        self._reason: str | None = None
        self._stop_sequence: str | None = None
        self._kinds: Mapping[str, Callable[[_Record], Sequence[Event] | None]] = {
            "message_start": self._message_start,
            "content_block_start": self._block_start,
            "content_block_stop": self._block_stop,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
        }

    def record(self, *, event: bytes, data: bytes) -> Sequence[Event] | None:
        """Read one event."""
        if self._over:
            return ()
        told = decode(_RECORD, data)
        if told is None:
            return self._odd(event, data)
        kind = told.type if isinstance(told.type, str) else event.decode("utf-8", "replace")
        if kind == "content_block_delta":
            return self._block_delta(told)
        if kind == "error" or event == b"error" or (not kind and says(told.error)):
            return self._failed(told.error, told.message, stream=True)
        read = self._kinds.get(kind)
        return read(told) if read is not None else ()

    def whole(self, *, body: bytes) -> Sequence[Event] | None:
        """Read a message, or a count of tokens."""
        answer = decode(_ANSWER, body)
        if answer is None:
            return None
        if (says(answer.error) or answer.type == "error") and not present(answer.content):
            return self._failed(answer.error, None, stream=False)
        if self._action == "count_tokens":
            tokens = count(answer.input_tokens)
            if tokens is None:
                return None
            return (Started(), UsageReported(Usage(input=tokens)), Finished("end"))
        blocks = decode(_BLOCKS, bytes(answer.content)) if present(answer.content) else None
        if blocks is None:
            return None
        events: list[Event] = [self._start(answer.id, answer.model)]
        for raw in filter(present, blocks):
            block = decode(_BLOCK, bytes(raw))
            if block is None:
                return None
            events += self._opened(None, block)
            if self._over:
                return events
            events += self._closed(None)
        events += self._counted(answer.usage)
        failed = self._stopped(answer.stop_reason, answer.stop_sequence)
        if failed:
            return [*events, *failed]
        if self._reason is None:
            # A reason is never invented: nobody knows whether this is all of it.
            return None
        return [*events, *self.end()]

    def end(self) -> Sequence[Event]:
        """Note that the body ended; nothing is closed if no reason was given."""
        if self._over or self._reason is None:
            return ()
        self._over = True
        events: list[Event] = self._begun()
        for index in tuple(self._open):
            events += self._closed(index)
        reason = ended(self._reason, called=self._called)
        told = self._stop_sequence if reason == "stop_sequence" else None
        return [*events, Finished(reason, told)]

    def _odd(self, event: bytes, data: bytes) -> Sequence[Event] | None:
        """Read what is no event of this dialect: it may be no JSON, or say nothing."""
        if event == b"error":
            return self._failed(msgspec.Raw(), None, stream=True)
        text = data.strip()
        if text in (b"", b"null", b"[DONE]"):
            return ()
        told = decode(_ANY, text)
        kind = entry(told, "type") or event.decode("utf-8", "replace")
        if told is None or (isinstance(kind, str) and kind.startswith("content_block_")):
            return None
        return ()

    def _failed(self, raw: msgspec.Raw, message: object, *, stream: bool) -> Sequence[Event]:
        self._over = True
        return (Failed(upstream_failure(raw, message, stream=stream)),)

    def _start(self, id: Any, model: Any) -> Event:
        self._started = True
        return Started(_string(id), _string(model))

    def _begun(self) -> list[Event]:
        return [] if self._started else [self._start(None, None)]

    def _counted(self, told: Any) -> list[Event]:
        if self._tally.take(told) and self._tally.usage is not None:
            return [UsageReported(self._tally.usage)]
        return []

    def _message_start(self, told: _Record) -> Sequence[Event]:
        events: list[Event] = []
        if not self._started:
            events.append(self._start(entry(told.message, "id"), entry(told.message, "model")))
        return [*events, *self._counted(entry(told.message, "usage")), *self._counted(told.usage)]

    def _block_start(self, told: _Record) -> Sequence[Event] | None:
        try:
            number = _number(told.index)
        except ValueError:
            return None
        if told.content_block is None:
            return ()
        # One that was never stopped: its number is used again.
        return [*self._closed(number), *self._opened(number, told.content_block)]

    def _block_delta(self, told: _Record) -> Sequence[Event] | None:
        try:
            number = self._placed(told.index)
        except ValueError:
            return None
        delta = told.delta
        if delta is None:
            return ()
        block = self._open.get(number)
        if block is None:
            return () if number in self._open or not _is_told(delta) else None
        kind = delta.type
        if kind == "text_delta":
            text = delta.text
            if block.kind is TEXT and text and isinstance(text, str):
                return (TextDelta(block.index, text),)
        elif kind == "input_json_delta":
            text = delta.partial_json
            if block.kind is CALL and text and isinstance(text, str):
                block.given = ""
                return (ArgumentsDelta(block.index, text),)
        elif kind == "thinking_delta":
            text = delta.thinking
            if block.kind is REASONING and text and isinstance(text, str):
                return (ReasoningDelta(block.index, text),)
        elif kind == "signature_delta":
            if block.kind is REASONING and not block.hidden:
                block.signature = _string(delta.signature) or block.signature
        elif kind == "citations_delta" and block.kind is TEXT:
            return _cited(block.index, delta.citation)
        # What stands in a block of another kind is as lost as what stands in none.
        return None if _is_told(delta) else ()

    def _block_stop(self, told: _Record) -> Sequence[Event] | None:
        try:
            return self._closed(self._placed(told.index))
        except ValueError:
            return None

    def _placed(self, index: Any) -> int | None:
        """
        Return the number of the block that a record belongs to: without one, the one open.

        :raise ValueError: if it is no number.
        """
        number = _number(index)
        if number is None and number not in self._open:
            return next(reversed(self._open), None)
        return number

    def _message_delta(self, told: _Record) -> Sequence[Event]:
        events = self._counted(told.usage)
        events = [*self._begun(), *events] if events else []
        if told.delta is not None:
            events += self._stopped(told.delta.stop_reason, told.delta.stop_sequence)
        return events

    def _message_stop(self, told: _Record) -> Sequence[Event]:
        return self._message_delta(told)

    def _stopped(self, reason: Any, sequence: Any) -> Sequence[Event]:
        """Note why the answer ended; a word that is not known is no end."""
        if not reason:
            return ()
        known = _REASONS.get(reason) if isinstance(reason, str) else None
        if known is None:
            return self._broken(
                f"The upstream ended its answer for the reason {_shown(reason)}, which is no"
                " end of a whole answer; try again.",
                "unknown_stop_reason",
            )
        self._reason = known
        self._stop_sequence = _string(sequence) or None
        return ()

    def _broken(self, message: str, code: str) -> list[Event]:
        self._over = True
        return [Failed(UpstreamError(message, fault=Fault.SERVER, status=502, code=code))]

    def _opened(self, number: int | None, told: _Block) -> list[Event]:
        """Open a block, if it is one that other dialects have a word for."""
        block: _Open
        if told.type == "text":
            block = _Open(self._blocks, TEXT)
        elif told.type == "thinking":
            block = _Open(self._blocks, REASONING, signature=_string(told.signature))
        elif told.type == "redacted_thinking":
            block = _Open(self._blocks, REASONING, signature=_string(told.data), hidden=True)
        elif told.type == "tool_use":
            if not _string(told.name):
                return self._broken(
                    "The upstream called a tool and did not say which; try again.",
                    "nameless_call",
                )
            block = _Open(self._blocks, CALL, given=_given(told.input))
            self._called = True
        else:
            self._open[number] = None
            return []
        events = self._begun()
        self._open[number] = block
        self._blocks += 1
        if block.kind is not CALL:
            events.append(BlockOpened(block.index, block.kind))
        else:
            id = _string(told.id) or f"toolu_{secrets.token_hex(12)}"
            events.append(BlockOpened(block.index, CALL, id, told.name))
        if block.kind is TEXT:
            if _string(told.text):
                events.append(TextDelta(block.index, told.text))
            for citation in listed(told.citations):
                events += _cited(block.index, citation)
        elif block.kind is REASONING and not block.hidden and _string(told.thinking):
            events.append(ReasoningDelta(block.index, told.thinking))
        return events

    def _closed(self, number: int | None) -> list[Event]:
        block = self._open.pop(number, None)
        if block is None:
            return []
        events: list[Event] = []
        if block.given:
            events.append(ArgumentsDelta(block.index, block.given))
        if block.signature:
            seal = Seal(NAME, block.signature, hidden=block.hidden)
            events.append(Sealed(block.index, seal))
        events.append(BlockClosed(block.index))
        return events


def _number(index: Any) -> int | None:
    """
    Return the number of a block however it is told, None if it is not told.

    :raise ValueError: if it is no number.
    """
    if type(index) is int or index is None:
        return index
    if isinstance(index, float) and index.is_integer():
        return int(index)
    if isinstance(index, str) and len(index) < 20 and index.isascii() and index.isdigit():
        return int(index)
    raise ValueError("no number of a block")


def _is_told(delta: _Delta) -> bool:
    """Say whether a delta holds anything of the answer: a text, a thought or arguments."""
    return any(map(_string, (delta.text, delta.thinking, delta.partial_json)))


def _shown(word: Any) -> str:
    """Return what an upstream said, fit to stand in a sentence."""
    return write(word).decode("utf-8", "replace")[:64]


def _given(raw: msgspec.Raw) -> str:
    """Return the text of an input that says something, else ``""``."""
    text = bytes(raw).decode("utf-8", "replace").strip()
    if text.startswith('"'):
        # Some upstreams tell the JSON of the arguments as a string.
        return _string(decode(_ANY, text.encode())).strip()
    return text if text != "null" and text.strip("{} \t\r\n") else ""


def _cited(index: int, citation: Any) -> Sequence[Event]:
    if not isinstance(citation, dict):
        return ()
    # Places in a document are its own, not the text's.
    return (
        Cited(
            index,
            url=_string(citation.get("url")) or _string(citation.get("source")),
            title=_string(citation.get("title")) or _string(citation.get("document_title")),
            quoted=_string(citation.get("cited_text")),
        ),
    )


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
