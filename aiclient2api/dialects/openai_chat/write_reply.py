"""
Write an answer of this dialect, from our own events: a stream of chunks, or one completion.

Blocks have no place here: texts follow each other, calls are numbered by themselves. It
must never know which dialect the answer came in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import msgspec
from zope.interface import implementer

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
from aiclient2api.conversation.request import Conversation
from aiclient2api.conversation.tools import text_of
from aiclient2api.dialects import openai_shapes
from aiclient2api.dialects.openai_chat.reply_shapes import (
    Sources,
    Thoughts,
    extra,
    image,
    told_of,
    written_usage,
)
from aiclient2api.dialects.openai_chat.request import ChatRequest
from aiclient2api.dialects.wire_request import entry
from aiclient2api.errors import GatewayError
from aiclient2api.framing.json_text import read, write
from aiclient2api.interfaces import IEventEncoder
from aiclient2api.values import Usage

_FINISH_REASONS = {
    "end": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "context": "length",
    "tool_use": "tool_calls",
    "filtered": "content_filter",
    "paused": "stop",
}
_CUTS = ("length", "context", "filtered")
"""Reasons of answers whose last call may be half of one."""
_ID_PREFIX = re.compile(r"(?:chatcmpl|cmpl|resp|response|msg|gen)[-_]")
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9_-]")

_quoted = msgspec.json.Encoder().encode


@attrs.define
class _Call:
    """
    A call while it is written.

    :ivar number: Calls are counted from 0; -1 for one that the client has no room for.
    :ivar custom: It is of a tool that takes free text, which is told at its end.
    :ivar head: What stands before a piece of its arguments.
    :ivar tail: What stands behind it.
    """

    number: int
    custom: bool
    head: bytes = b""
    tail: bytes = b""
    pieces: list[str] = attrs.field(factory=list)


@implementer(IEventEncoder)
class ChatEncoder:
    """
    Writes one answer.

    :param request: As the client sent it: it says what else the client wants to be told.
    :param conversation: What was read of it: its tools say what form a call has.
    :param model: The model's name as the client asked for it.
    """

    final = None

    def __init__(
        self,
        *,
        request: ChatRequest,
        conversation: Conversation,
        model: str,
        make_id: Callable[[], str],
        now: Callable[[], float],
    ) -> None:
        self._counting = _counts_stream(request)
        # Functions that were offered in the old way are called in the old way.
        self._legacy = _has(request, "functions") and not _has(request, "tools")
        self._custom = {tool.flat_name for tool in conversation.tools if tool.kind == "custom"}
        self._model = model
        self._make_id = make_id
        self._now = now
        # How chunks begin and end; known once the answer has begun.
        self._start = self._end = b""
        self._head = self._tail = self._text_head = self._thought_head = b""
        self._texts: dict[int, bool] = {}
        self._text_index = -1
        self._thoughts = Thoughts()
        self._calls: dict[int, _Call] = {}
        self._bare: list[_Call] = []
        self._called = 0
        self._images = 0
        self._sources = Sources()
        self._usage: Usage | None = None

    def encode(self, event: Event) -> bytes:
        """Return what the client is to see of *event*, often nothing."""
        if type(event) is TextDelta and event.index == self._text_index:
            text = event.text
            self._sources.length += len(text)
            try:
                return self._text_head + _quoted(text) + self._tail
            except UnicodeEncodeError:
                return self._text_head + write(text) + self._tail
        return _STEPS[type(event)](self, event)

    def error(self, error: GatewayError) -> bytes | None:
        """Return the error chunk; nothing follows it."""
        return b"data: " + openai_shapes.render_error(error)[1] + b"\n\n"

    def reply(self, events: Sequence[Event]) -> bytes:
        """Return a completion."""
        reply = fold(events)
        if reply.reason in _CUTS:
            _strip(reply.blocks, events)
        message, called = self._message(reply.blocks)
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": self._finish_reason(reply.reason or "end", called=called),
        }
        answer = {**self._answer(reply.id, reply.created, "chat.completion"), "choices": [choice]}
        if reply.usage is not None:
            answer["usage"] = written_usage(reply.usage)
        return write(answer)

    def _answer(self, id: str, created: int, kind: str) -> dict[str, Any]:
        rest = _NOT_IN_ID.sub("", _ID_PREFIX.sub("", id, count=1))[:64]
        return {
            "id": f"chatcmpl-{rest or self._make_id()}",
            "object": kind,
            "created": created or int(self._now()),
            "model": self._model,
        }

    def _finish_reason(self, reason: str, *, called: bool) -> str:
        told = _FINISH_REASONS[reason]
        return "function_call" if told == "tool_calls" and called and self._legacy else told

    # --- a stream: what each event does ---

    def _chunk(self, delta: Mapping[str, Any]) -> bytes:
        return self._head + write(delta)[:-1] + self._tail

    def _started(self, event: Started) -> bytes:
        answer = self._answer(event.id, event.created, "chat.completion.chunk")
        start = b"data: " + write(answer)[:-1]
        end = b',"usage":null}\n\n' if self._counting else b"}\n\n"
        self._head = start + b',"choices":[{"index":0,"delta":'
        self._tail = b'},"logprobs":null,"finish_reason":null}]' + end
        self._text_head = self._head + b'{"content":'
        self._thought_head = self._head + b'{"reasoning_content":'
        self._start, self._end = start, end
        return self._chunk({"role": "assistant", "content": ""})

    def _opened(self, event: BlockOpened) -> bytes:
        if event.kind == TEXT:
            self._text_index = event.index
            self._sources.opened(event.index)
        elif event.kind == CALL:
            return self._call(event)
        self._texts[event.index] = event.kind == TEXT
        return b""

    def _text(self, event: TextDelta) -> bytes:
        if self._texts.get(event.index):
            self._sources.length += len(event.text)
            return self._chunk({"content": event.text})
        return self._chunk({"refusal": event.text})

    def _reasoning(self, event: ReasoningDelta) -> bytes:
        return self._thought_head + write(self._thoughts.told(event)) + self._tail

    def _call(self, event: BlockOpened) -> bytes:
        number, self._called = self._called, self._called + 1
        call = self._calls[event.index] = _Call(number, event.name in self._custom)
        if self._legacy:
            # There is room for one.
            call.number = -1 if number else 0
            call.head = self._head + b'{"function_call":{"arguments":'
            call.tail = b"}" + self._tail
            told: dict[str, Any] = {"name": event.name, "arguments": ""}
            return b"" if number else self._chunk({"function_call": told})
        call.head = self._head + b'{"tool_calls":[{"index":%d,"function":{"arguments":' % number
        call.tail = b"}}]" + self._tail
        if call.custom:
            call.head = self._head + b'{"tool_calls":[{"index":%d,"custom":{"input":' % number
            told = {"type": "custom", "custom": {"name": event.name, "input": ""}}
        else:
            told = {"type": "function", "function": {"name": event.name, "arguments": ""}}
        return self._chunk({"tool_calls": [{"index": number, "id": event.id, **told}]})

    def _arguments(self, event: ArgumentsDelta) -> bytes:
        call = self._calls[event.index]
        if call.custom or call.number < 0:
            call.pieces.append(event.json)
            return b""
        if not call.pieces:
            call.pieces.append("")
        return call.head + write(event.json) + call.tail

    def _sealed(self, event: Sealed) -> bytes:
        call = self._calls.get(event.index)
        # Only calls have a place for one.
        if call is None or self._legacy:
            return b""
        # Clients look for the function in every piece of a call.
        told = {"custom": {"input": ""}} if call.custom else {"function": {"arguments": ""}}
        piece = {"index": call.number, **told, **extra(event.seal)}
        return self._chunk({"tool_calls": [piece]})

    def _media(self, event: MediaDelta) -> bytes:
        if not event.mime.startswith("image/"):
            return self._chunk({"content": told_of(event)})
        self._images += 1
        return self._chunk({"images": [image(event, self._images - 1)]})

    def _cited(self, event: Cited) -> bytes:
        self._sources.cited(event)
        return b""

    def _closed(self, event: BlockClosed) -> bytes:
        if event.index == self._text_index:
            self._text_index = -1
        self._sources.closed(event.index)
        call = self._calls.get(event.index)
        if call is None or call.number < 0:
            return b""
        if not call.pieces:
            # Without arguments, or cut before them: only the end tells.
            self._bare.append(call)
        elif call.custom and not self._legacy:
            return call.head + write(text_of("".join(call.pieces))) + call.tail
        return b""

    def _counted(self, event: UsageReported) -> bytes:
        self._usage = event.usage
        return b""

    def _finished(self, event: Finished) -> bytes:
        pieces: list[bytes] = []
        if event.reason not in _CUTS:
            pieces += [call.head + b'"{}"' + call.tail for call in self._bare]
        annotations = self._sources.annotations()
        if annotations:
            # In one piece: OpenAI's own library cannot put several together.
            pieces.append(self._chunk({"annotations": annotations}))
        reason = self._finish_reason(event.reason, called=self._called > 0)
        pieces.append(
            self._head + b'{},"logprobs":null,"finish_reason":' + write(reason) + b"}]" + self._end
        )
        if self._counting and self._usage is not None:
            usage = write(written_usage(self._usage))
            pieces.append(self._start + b',"choices":[],"usage":' + usage + b"}\n\n")
        pieces.append(b"data: [DONE]\n\n")
        return b"".join(pieces)

    def _failed(self, event: Failed) -> bytes:
        return self.error(event.error) or b""

    # --- a whole answer ---

    def _message(self, blocks: Sequence[Block]) -> tuple[dict[str, Any], bool]:
        texts: list[str] = []
        sources, thoughts = Sources(), Thoughts()
        calls: list[dict[str, Any]] = []
        images: list[dict[str, Any]] = []
        refusals: list[str] = []
        reasoning: list[str] = []
        for index, block in enumerate(blocks):
            if block.kind == TEXT:
                sources.opened(index)
                texts.append(block.text)
                sources.length += len(block.text)
                for cited in block.citations:
                    sources.cited(attrs.evolve(cited, index=index))
                sources.closed(index)
            elif block.kind == REFUSAL:
                refusals.append(block.text)
            elif block.kind == REASONING:
                reasoning += [
                    thoughts.told(ReasoningDelta(index, text, section))
                    for section, text in enumerate(block.sections)
                ]
            elif block.kind == CALL:
                calls.append(self._whole_call(block))
            elif block.kind == MEDIA and block.media is not None:
                if block.media.mime.startswith("image/"):
                    images.append(image(block.media, len(images)))
                else:
                    texts.append(told_of(block.media))
                    sources.length += len(texts[-1])
        text, refusal = "".join(texts), "".join(refusals) or None
        message: dict[str, Any] = {
            "role": "assistant",
            # Some clients print an empty text that stands beside calls.
            "content": text if text or not (calls or refusal) else None,
            "refusal": refusal,
        }
        if reasoning:
            message["reasoning_content"] = "".join(reasoning)
        if calls and self._legacy:
            message["function_call"] = calls[0]["function"]
        elif calls:
            message["tool_calls"] = calls
        if annotations := sources.annotations():
            message["annotations"] = annotations
        if images:
            message["images"] = images
        return message, bool(calls)

    def _whole_call(self, block: Block) -> dict[str, Any]:
        if block.name in self._custom and not self._legacy:
            told: dict[str, Any] = {"name": block.name, "input": text_of(block.text)}
            call = {"id": block.id, "type": "custom", "custom": told}
        else:
            told = {"name": block.name, "arguments": block.text}
            call = {"id": block.id, "type": "function", "function": told}
        return call | (extra(block.seal) if block.seal is not None else {})


_STEPS: dict[type, Callable[[ChatEncoder, Any], bytes]] = {
    Started: ChatEncoder._started,
    BlockOpened: ChatEncoder._opened,
    TextDelta: ChatEncoder._text,
    ReasoningDelta: ChatEncoder._reasoning,
    Sealed: ChatEncoder._sealed,
    ArgumentsDelta: ChatEncoder._arguments,
    MediaDelta: ChatEncoder._media,
    Cited: ChatEncoder._cited,
    BlockClosed: ChatEncoder._closed,
    UsageReported: ChatEncoder._counted,
    Finished: ChatEncoder._finished,
    Failed: ChatEncoder._failed,
}


def _strip(blocks: Sequence[Block], events: Sequence[Event]) -> None:
    """Take the empty arguments from calls that were cut before theirs: nobody is to run one."""
    told = {event.index for event in events if isinstance(event, ArgumentsDelta)}
    for index, block in enumerate(blocks):
        if block.kind == CALL and index not in told:
            block.text = ""


def _has(request: ChatRequest, key: str) -> bool:
    body = request.body
    return any(m.key == key and body.kind(m) != "null" for m in body.members)


def _counts_stream(request: ChatRequest) -> bool:
    """Say whether a stream is to tell the count of its tokens."""
    told = [request.body.raw(m) for m in request.body.members if m.key == "stream_options"]
    return bool(told) and entry(read(told[-1]), "include_usage") is True
