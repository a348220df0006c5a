"""
Read an upstream's answer into events: a stream of chunks, or one completion.

Everybody who speaks this dialect has added to it, and some leave out what it has. What is
of no known form says nothing. It must never know who asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from zope.interface import implementer

from aiclient2api.conversation.events import (
    CALL,
    MEDIA,
    REASONING,
    REFUSAL,
    TEXT,
    BlockClosed,
    BlockOpened,
    Cited,
    Event,
    Failed,
    Finished,
    MediaDelta,
    ReasoningDelta,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.grammar import ended
from aiclient2api.dialects.faults import told_error
from aiclient2api.dialects.openai_chat.finish_reasons import reason_of, tells
from aiclient2api.dialects.openai_chat.read_messages import thoughts_in
from aiclient2api.dialects.openai_chat.reply_calls import Calls, Piece
from aiclient2api.dialects.openai_chat.watch import (
    BREAKS,
    broke_off,
    upstream_failure,
    usage_of,
)
from aiclient2api.dialects.watching import count, decode
from aiclient2api.dialects.wire_request import entry, listed
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.json_text import write
from aiclient2api.interfaces import IEventDecoder
from aiclient2api.values import Usage

_DATA_URL = re.compile(r"data:([^;,]+)(?:;[^;,]*)*;base64,([A-Za-z0-9+/]+={0,2})", re.ASCII)
_NOTHING_TOLD = Usage()
_LONGEST_WORD = 60
_WHOLE = ("end", "tool_use", "paused")
"""Reasons of answers that nobody cut."""


# None of these can hold itself, so the collector of garbage need not look at them.
class _Delta(msgspec.Struct, gc=False):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: Any = None
    tool_calls: list[Piece] | None = None
    function_call: Any = None
    annotations: Any = None
    images: Any = None


_SILENCE = _Delta()


class _Choice(msgspec.Struct, gc=False):
    index: Any = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: Any = None
    usage: Any = None
    error: Any = None


class _Chunk(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    created: Any = None
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    object: Any = None
    message: Any = None
    code: Any = None
    type: Any = None


# A chunk that holds more of the text and nothing else, as nearly all do: any other is refused.
_Nothing = Annotated[list[Any], msgspec.Meta(max_length=0)] | None
_Silent = Literal["", None]


class _TextDelta(msgspec.Struct, gc=False):
    content: Annotated[str, msgspec.Meta(min_length=1)]
    reasoning_content: _Silent = None
    reasoning: _Silent = None
    reasoning_details: _Nothing = None
    refusal: _Silent = None
    tool_calls: _Nothing = None
    function_call: None = None
    annotations: _Nothing = None
    images: _Nothing = None


class _TextChoice(msgspec.Struct, gc=False):
    delta: _TextDelta
    index: Literal[0] = 0
    finish_reason: None = None
    usage: None = None


class _TextChunk(msgspec.Struct, gc=False):
    choices: tuple[_TextChoice]
    usage: None = None
    error: None = None


_only_text = msgspec.json.Decoder(_TextChunk).decode
_CHUNK = msgspec.json.Decoder(_Chunk)
_ANY = msgspec.json.Decoder()


@implementer(IEventDecoder)
class ChatDecoder:
    """Reads one answer; of several alternatives only the first."""

    arrays = False

    def __init__(self) -> None:
        self._calls = Calls(self._take_index)
        self._blocks = 0
        # The block of text, refusal or thought that is open; calls stay open to the end.
        self._kind = ""
        self._index = -1
        self._citations: list[Any] = []
        # What deltas told of.
        self._told: set[str] = set()
        self._usage: Usage | None = None
        self._reason: str | None = None
        self._id = ""
        self._started = False
        self._over = False
        # Whether a text is open, and what comes has been nothing else so far.
        self._in_text = False

    def record(self, *, event: bytes, data: bytes) -> Sequence[Event] | None:
        """Read one chunk."""
        if self._over:
            return ()
        if self._in_text and not event:
            try:
                return (TextDelta(self._index, _only_text(data).choices[0].delta.content),)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self._in_text = False
        chunk = decode(_CHUNK, data)
        if chunk is None:
            chunk = _odd(data)
            if chunk is None and event != b"error":
                return None
            chunk = chunk or _Chunk()
        if chunk.error or event == b"error" or chunk.object == "error":
            return self._failed(chunk, stream=True)
        out: list[Event] = []
        self._read(chunk, out, whole=False)
        return out

    def whole(self, *, body: bytes) -> Sequence[Event] | None:
        """Read a completion."""
        answer = decode(_CHUNK, body)
        if answer is None:
            answer = _odd(body)
        if answer is None:
            return None
        if not answer.choices and (answer.error or answer.object == "error"):
            return self._failed(answer, stream=False)
        if not answer.choices:
            return None
        out: list[Event] = []
        self._read(answer, out, whole=True)
        if not self._over:
            if self._reason is None:
                # A reason is never invented: nobody knows whether this is all of it.
                return None
            self._start(answer, out)
            out += self.end()
        return out

    def end(self) -> Sequence[Event]:
        """Note that the body ended; nothing is closed if no reason was given."""
        if self._over or self._reason is None:
            return ()
        self._over = True
        out: list[Event] = []
        self._close(out)
        self._calls.close(self._id, out)
        if self._reason in _WHOLE and self._calls.lacks_name(wanted=self._reason == "tool_use"):
            out.append(Failed(_nameless()))
            return out
        out.append(Finished(ended(self._reason, called=self._calls.called)))
        return out

    def _failed(self, answer: _Chunk, *, stream: bool) -> Sequence[Event]:
        self._over = True
        words = (answer.code, answer.type)
        return (Failed(upstream_failure(answer.error, answer.message, words, stream=stream)),)

    def _read(self, chunk: _Chunk, out: list[Event], *, whole: bool) -> None:
        for choice in chunk.choices or ():
            # What is no number is the first.
            if isinstance(choice.index, int) and choice.index:
                continue
            finish = choice.finish_reason if tells(choice.finish_reason) else None
            reason = None if finish is None else reason_of(finish)
            if finish is not None and reason is None:
                self._over = True
                out.append(Failed(_broken(choice, stream=not whole)))
                return
            if not self._started:
                self._start(chunk, out)
            if choice.message is None or (choice.delta is not None and choice.delta != _SILENCE):
                if choice.delta is not None:
                    self._say(choice.delta, out, whole=whole)
            elif whole:
                self._say(choice.message, out, whole=True)
            else:
                self._repeat(choice.message, out)
            if reason is not None:
                self._finish(reason)
            if choice.usage is not None:
                # Moonshot: https://platform.moonshot.ai/docs/api/chat
                self._count(choice.usage, out)
        if chunk.usage is not None:
            self._start(chunk, out)
            self._count(chunk.usage, out)

    def _start(self, chunk: _Chunk, out: list[Event]) -> None:
        if self._started:
            return
        self._started = True
        self._id = _string(chunk.id)
        out.append(Started(self._id, _string(chunk.model), max(count(chunk.created) or 0, 0)))

    def _repeat(self, message: _Delta, out: list[Event]) -> None:
        """Tell of a message within a stream: some tell all of the answer again at its end."""
        told = self._told
        untold = _Delta(
            content=None if TEXT in told else message.content,
            refusal=None if REFUSAL in told else message.refusal,
            tool_calls=None if CALL in told else message.tool_calls,
            function_call=None if CALL in told else message.function_call,
            annotations=None if "annotations" in told else message.annotations,
            images=None if MEDIA in told else message.images,
        )
        if REASONING not in told:
            untold.reasoning_content = message.reasoning_content
            untold.reasoning = message.reasoning
            untold.reasoning_details = message.reasoning_details
        # There are some, too, that say "message" in each chunk and mean a delta.
        self._told = {*told}
        self._say(untold, out, whole=False)
        self._told = told

    def _say(self, delta: _Delta, out: list[Event], *, whole: bool) -> None:
        thought = delta.reasoning_content or delta.reasoning
        if thought is None and delta.reasoning_details is not None:
            thought = thoughts_in(delta.reasoning_details)
        if thought and isinstance(thought, str):
            out.append(ReasoningDelta(self._within(REASONING, out), thought))
        content = delta.content
        if content:
            if isinstance(content, str):
                out.append(TextDelta(self._within(TEXT, out), content))
            else:
                self._say_parts(content, out)
        if delta.annotations:
            self._told.add("annotations")
            self._citations += listed(delta.annotations)
        if self._citations and self._kind is TEXT:
            self._cite(out)
        if delta.refusal and isinstance(delta.refusal, str):
            out.append(TextDelta(self._within(REFUSAL, out), delta.refusal))
        if delta.images:
            self._show(delta.images, out)
        if delta.tool_calls or delta.function_call:
            self._told.add(CALL)
        if delta.tool_calls:
            self._close(out)
            for piece in delta.tool_calls:
                self._calls.take(piece, out, whole=whole)
        elif delta.function_call:
            self._close(out)
            self._calls.legacy(delta.function_call, self._id, out)

    def _say_parts(self, content: Any, out: list[Event]) -> None:
        """Tell content that comes in parts: Mistral's, thoughts among them."""
        for part in listed(content):
            kind, text = entry(part, "type"), entry(part, "text")
            if kind == "thinking":
                told = (entry(each, "text") for each in listed(entry(part, "thinking")))
                thought = "".join(each for each in told if isinstance(each, str))
                if thought:
                    out.append(ReasoningDelta(self._within(REASONING, out), thought))
            elif text and isinstance(text, str):
                out.append(TextDelta(self._within(TEXT, out), text))
            elif kind == "image_url":
                self._show([part], out)

    def _show(self, images: Any, out: list[Event]) -> None:
        """Tell of pictures as routers send them: https://openrouter.ai/docs (image generation)."""
        for image in listed(images):
            url = entry(entry(image, "image_url"), "url")
            found = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
            if found is not None:
                index = self._within(MEDIA, out)
                out.append(MediaDelta(index, found[1], found[2]))
                self._close(out)

    def _cite(self, out: list[Event]) -> None:
        for annotation in self._citations:
            source = entry(annotation, "url_citation")
            if entry(annotation, "type") == "url_citation" and isinstance(source, dict):
                out.append(
                    Cited(
                        self._index,
                        url=_string(source.get("url")),
                        title=_string(source.get("title")),
                        quoted=_string(source.get("content")),
                        start=count(source.get("start_index")),
                        end=count(source.get("end_index")),
                    )
                )
        self._citations = []

    def _count(self, told: Any, out: list[Event]) -> None:
        usage = usage_of(told)
        if usage not in (None, _NOTHING_TOLD, self._usage):
            self._usage = usage
            out.append(UsageReported(usage))

    def _finish(self, reason: str) -> None:
        # Some change their mind in a later chunk; what said more than "end" counts.
        if self._reason in (None, "end"):
            self._reason = reason

    def _take_index(self) -> int:
        index = self._blocks
        self._blocks += 1
        return index

    def _within(self, kind: str, out: list[Event]) -> int:
        """Return the open block of *kind*, opened if need be."""
        if self._kind is not kind:
            self._close(out)
            self._told.add(kind)
            self._kind, self._index = kind, self._take_index()
            self._in_text = kind is TEXT
            out.append(BlockOpened(self._index, kind))
        return self._index

    def _close(self, out: list[Event]) -> None:
        if self._kind:
            out.append(BlockClosed(self._index))
            self._kind, self._in_text = "", False


def _broken(choice: _Choice, *, stream: bool) -> UpstreamError:
    """Return the error of an answer that ended with a word that says no end."""
    word = choice.finish_reason
    if choice.error or word in BREAKS:
        return broke_off(choice.error, word, stream=stream)
    message = (
        f"The upstream ended its answer with the finish_reason {str(word)[:_LONGEST_WORD]!r},"
        " which does not say that the answer is whole; try again."
    )
    return told_error(message, (word,), stream=stream)


def _nameless() -> UpstreamError:
    return UpstreamError(
        "The upstream called a tool without naming it; try again.",
        fault=Fault.SERVER,
        status=502,
        code="nameless_call",
    )


def _odd(data: bytes) -> _Chunk | None:
    """
    Return what can be read of a record that is not of the form it should be.

    :return: One that says nothing for JSON of no form at all, None for what is no JSON.
    """
    text = data.strip()
    if text in (b"", b"[DONE]"):
        return _Chunk()
    told = decode(_ANY, text)
    if told is None and text != b"null":
        return None
    if not isinstance(told, dict):
        return _Chunk()
    choices = [_choice(each) for each in listed(told.get("choices")) if isinstance(each, dict)]
    fitted = {**told, "choices": choices if "choices" in told else None}
    return decode(_CHUNK, write(fitted)) or _Chunk()


def _choice(told: dict[str, Any]) -> dict[str, Any]:
    fitted = dict(told)
    for key in ("delta", "message"):
        delta = told.get(key)
        fitted[key] = None
        if isinstance(delta, dict):
            calls = [each for each in listed(delta.get("tool_calls")) if isinstance(each, dict)]
            fitted[key] = {**delta, "tool_calls": [_call(call) for call in calls]}
    return fitted


def _call(told: dict[str, Any]) -> dict[str, Any]:
    functions = {key: told.get(key) for key in ("function", "custom")}
    return told | {key: each if isinstance(each, dict) else None for key, each in functions.items()}


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
