"""
Anthropic Messages: an answer for a client, from events.

Clients of this dialect insist on its order: one block open at a time, numbers that count
from 0 with no hole, no delta outside a block, no block with nothing in it. It must never
know who answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import msgspec
from zope.interface import implementer

from aiclient2api.conversation import arguments, call_ids, seals
from aiclient2api.conversation.events import (
    CALL,
    MEDIA,
    REASONING,
    REFUSAL,
    TEXT,
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
from aiclient2api.conversation.sequencing import OneAtATime
from aiclient2api.dialects.anthropic_messages.errors import render_error
from aiclient2api.dialects.anthropic_messages.request import NAME
from aiclient2api.errors import GatewayError
from aiclient2api.framing.json_text import write
from aiclient2api.interfaces import IEventEncoder
from aiclient2api.values import Usage

_STOP_REASONS = {
    "end": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "context": "model_context_window_exceeded",
    "tool_use": "tool_use",
    "filtered": "refusal",
    "paused": "pause_turn",
}
_DELTAS = (TextDelta, ArgumentsDelta, ReasoningDelta)
_ID_PREFIX = re.compile(r"(?:chatcmpl|cmpl|resp|response|msg|gen)[-_]")
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9_-]")
# A citation that is sent back must bring what Anthropic's own search gave along with it.
# This says that there is no such thing, so that `without_foreign_seals` takes it out.
_UNSEALED = seals.carried(Seal(issuer="none", value=""), NAME)
"""
The signature of a thought that has none, and was not Claude's.

It is known again by it should the client turn to Claude, which takes no empty signature.
"""
_NO_INDEX = seals.carried(Seal(issuer="", value=""), NAME)

_encode = msgspec.json.Encoder().encode


@attrs.define
class _Writing:
    """
    The block that is being written.

    :ivar index: Its number among the events.
    :ivar number: Its number in the answer; -1 until it has begun there.
    :ivar delta: What stands before the text of a delta; empty until it has begun.
    :ivar section: Of a thought: the section it is in.
    """

    index: int
    kind: str
    number: int = -1
    delta: bytes = b""
    section: int = 0
    filled: bool = False
    seal: Seal | None = None
    citations: list[Cited] = attrs.field(factory=list)


@implementer(IEventEncoder)
class MessagesEncoder:
    """
    Writes one answer.

    :param action: ``generate`` or ``count_tokens``.
    :param model: The model's name as the client asked for it.
    :param make_id: Returns 24 or more hexadecimal digits, new each time.
    :param stop: The stop sequences the client gave.
    """

    final = None

    def __init__(
        self, *, action: str, model: str, make_id: Callable[[], str], stop: Sequence[str] = ()
    ) -> None:
        self._action = action
        self._model = model
        self._make_id = make_id
        self._stop = stop
        self._order = OneAtATime()
        self._block: _Writing | None = None
        self._id = ""
        self._usage: Usage | None = None
        self._begun = False
        self._refused = False
        self._numbers = 0
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
        block = self._block
        if (
            block is not None
            and block.delta
            and isinstance(event, _DELTAS)
            and event.index == block.index
        ):
            # More of the block that is open: nearly every event is.
            if isinstance(event, TextDelta):
                return block.delta + _quoted(event.text) + b"}}\n\n"
            return self._writers[type(event)](event)
        writers = self._writers
        return b"".join([writers[type(each)](each) for each in self._order.take(event)])

    def error(self, error: GatewayError) -> bytes | None:
        """Return the ``error`` event; nothing follows it."""
        return b"event: error\ndata: " + render_error(error)[1] + b"\n\n"

    def reply(self, events: Sequence[Event]) -> bytes:
        """Return a message, or a count of tokens."""
        reply = fold(events)
        if self._action == "count_tokens":
            return write({"input_tokens": (reply.usage and reply.usage.input) or 0})
        content = [block for each in reply.blocks for block in _whole(each)]
        refused = any(block.kind == REFUSAL for block in reply.blocks)
        finished = Finished(reply.reason or "end", reply.stop_sequence)
        return write(
            {
                **self._message(reply.id),
                "content": content,
                **self._stopped(finished, refused),
                "usage": _counts(reply.usage or Usage()),
            }
        )

    def _message(self, id: str) -> dict[str, Any]:
        rest = _NOT_IN_ID.sub("", _ID_PREFIX.sub("", id, count=1))[:64]
        return {
            "id": f"msg_{rest or self._make_id()[:24]}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
        }

    def _stopped(self, event: Finished, refused: bool) -> dict[str, Any]:
        reason = _STOP_REASONS[event.reason]
        if refused and event.reason in ("end", "stop_sequence"):
            reason = "refusal"
        sequence = None
        if reason == "stop_sequence":
            # With one alone there is no doubt which it was.
            sequence = event.stop_sequence or (self._stop[0] if len(self._stop) == 1 else None)
        return {"stop_reason": reason, "stop_sequence": sequence}

    def _started(self, event: Started) -> bytes:
        self._id = event.id
        return b""

    def _counted(self, event: UsageReported) -> bytes:
        self._usage = event.usage
        return b""

    def _message_start(self) -> bytes:
        """Return the head of the answer, once: with the first block, to tell what is known."""
        if self._begun:
            return b""
        self._begun = True
        usage = _counts(self._usage or Usage())
        usage["output_tokens"] = usage["output_tokens"] or 1
        message = {
            **self._message(self._id),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        return _event("message_start", message=message)

    def _opened(self, event: BlockOpened) -> bytes:
        self._block = _Writing(event.index, event.kind)
        if event.kind == REFUSAL:
            self._refused = True
        if event.kind == CALL:
            return self._begin(_call(event.id, event.name, msgspec.Raw(b"{}")), b"partial_json")
        # The others begin with the first thing in them: there may be none.
        return self._message_start()

    def _begin(self, content: Mapping[str, Any], key: bytes = b"") -> bytes:
        """
        Return the start of the block.

        :param key: Under which its deltas tell their text.
        """
        block = self._current()
        if block.number >= 0:
            return b""
        block.number = self._numbers
        self._numbers += 1
        if key:
            block.delta = (
                b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
                b'"delta":{"type":"%s_delta","%s":'
                % (block.number, b"input_json" if key == b"partial_json" else key, key)
            )
        start = _event("content_block_start", index=block.number, content_block=content)
        return self._message_start() + start

    def _current(self) -> _Writing:
        assert self._block is not None  # the law of events
        return self._block

    def _text(self, event: TextDelta) -> bytes:
        block = self._current()
        told = self._begin(_text_block(""), b"text") + block.delta + _quoted(event.text) + b"}}\n\n"
        citations, block.citations = block.citations, []
        return b"".join([told, *map(self._cited, citations)])

    def _reasoning(self, event: ReasoningDelta) -> bytes:
        block = self._current()
        text = event.text
        if event.section != block.section:
            block.section = event.section
            text = f"\n\n{text}"
        begin = self._begin(_thinking("", ""), b"thinking")
        return begin + block.delta + _quoted(text) + b"}}\n\n"

    def _sealed(self, event: Sealed) -> bytes:
        self._current().seal = event.seal
        return b""

    def _arguments(self, event: ArgumentsDelta) -> bytes:
        block = self._current()
        block.filled = True
        return block.delta + _quoted(event.json) + b"}}\n\n"

    def _media(self, event: MediaDelta) -> bytes:
        return self._text(TextDelta(event.index, _told_of(event)))

    def _cited(self, event: Cited) -> bytes:
        block = self._current()
        if block.number < 0:
            block.citations.append(event)
            return b""
        if not event.url:
            return b""
        delta = {"type": "citations_delta", "citation": _citation(event)}
        return _event("content_block_delta", index=block.number, delta=delta)

    def _closed(self, event: BlockClosed) -> bytes:
        block = self._current()
        pieces: list[bytes] = []
        if block.kind == REASONING and (block.seal is not None or block.number >= 0):
            pieces.append(self._sign(block, block.seal))
        elif block.kind == CALL and not block.filled:
            # As Anthropic does for a call without arguments.
            pieces.append(block.delta + b'""}}\n\n')
        if block.number >= 0:
            pieces.append(_event("content_block_stop", index=block.number))
        self._block = None
        return b"".join(pieces)

    def _sign(self, block: _Writing, seal: Seal | None) -> bytes:
        if seal is not None and seal.hidden and block.number < 0:
            return self._begin(_redacted(seal))
        delta = {"type": "signature_delta", "signature": _signature(seal)}
        return self._begin(_thinking("", ""), b"thinking") + _event(
            "content_block_delta", index=block.number, delta=delta
        )

    def _finished(self, event: Finished) -> bytes:
        usage = _counts(self._usage or Usage(), known=True)
        delta = self._stopped(event, self._refused)
        return b"".join(
            (
                self._message_start(),
                _event("message_delta", delta=delta, usage=usage),
                _event("message_stop"),
            )
        )

    def _failed(self, event: Failed) -> bytes:
        return self.error(event.error) or b""


def _quoted(text: str) -> bytes:
    try:
        return _encode(text)
    except UnicodeEncodeError:
        return write(text)


def _event(type: str, **fields: Any) -> bytes:
    data = write({"type": type, **fields})
    return b"event: %s\ndata: %s\n\n" % (type.encode(), data)


def _whole(block: Block) -> Iterable[Mapping[str, Any]]:
    """Yield a block as it stands in a message, none if there is nothing in it."""
    if block.kind in (TEXT, REFUSAL) and block.text:
        citations = [_citation(each) for each in block.citations if each.url]
        yield _text_block(block.text) | ({"citations": citations} if citations else {})
    elif block.kind == MEDIA and block.media is not None:
        yield _text_block(_told_of(block.media))
    elif block.kind == CALL:
        given = msgspec.Raw(arguments.settled(block.text).encode())
        yield _call(block.id, block.name, given)
    elif block.kind == REASONING:
        text, seal = "\n\n".join(block.sections), block.seal
        if seal is not None and seal.hidden and not text:
            yield _redacted(seal)
        elif text or seal is not None:
            yield _thinking(text, _signature(seal))


def _text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _thinking(text: str, signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": signature}


def _signature(seal: Seal | None) -> str:
    return _UNSEALED if seal is None else seals.carried(seal, NAME)


def _redacted(seal: Seal) -> dict[str, Any]:
    own = seal.issuer == NAME and not seal.id
    return {"type": "redacted_thinking", "data": seal.value if own else seals.carried(seal, NAME)}


def _call(id: str, name: str, given: msgspec.Raw) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_ids.plain(id), "name": name, "input": given}


def _citation(event: Cited) -> dict[str, Any]:
    return {
        "type": "web_search_result_location",
        "url": event.url,
        "title": event.title or None,
        "cited_text": event.quoted,
        "encrypted_index": _NO_INDEX,
    }


def _told_of(media: MediaDelta) -> str:
    size = len(media.data) * 3 // 4 - media.data[-2:].count("=")
    return (
        f"[Here the model made something of the type {media.mime}, {size} bytes, which this API"
        " cannot carry.]"
    )


def _counts(usage: Usage, *, known: bool = False) -> dict[str, Any]:
    """
    Return the counts as this dialect tells them: what was cached is counted apart.

    :param known: Leave out what was not told.
    """
    given = usage.input
    if given is not None:
        given = max(0, given - (usage.cached or 0) - (usage.cache_write or 0))
    counts = {
        "input_tokens": given,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached,
    }
    if known:
        counts = {name: number for name, number in counts.items() if number is not None}
    else:
        counts = {name: number or 0 for name, number in counts.items()}
    return {**counts, "output_tokens": usage.output or 0}
