"""
The items of an answer, while they are told: what of each is new, and never anything twice.

An item comes in pieces, or whole, or first the one and then the other: in its deltas, in
its ``done`` events, once more in the list at the end, and upstreams leave out any of these.
It must never know which event told of what.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import attrs

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
    MediaDelta,
    ReasoningDelta,
    Sealed,
    TextDelta,
)
from aiclient2api.conversation.request import Tool
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.openai_responses.request import NAME, UNSEALED
from aiclient2api.dialects.watching import count
from aiclient2api.dialects.wire_request import entry, listed
from aiclient2api.framing.json_text import write

_KINDS = {"output_text": TEXT, "text": TEXT, "refusal": REFUSAL}
_MIMES = {
    "gif": "image/gif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "svg": "image/svg+xml",
    "webp": "image/webp",
}
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class Blocks:
    """
    Numbers the blocks of one answer.

    :ivar out: What is to be told, until it is taken.
    :ivar called: Whether there was a call.
    :ivar cut: Whether a message or a call was said to be less than whole.
    :ivar answer: The answer's id.
    """

    def __init__(self) -> None:
        self.out: list[Event] = []
        self.cut = False
        self.called = False
        self.answer = ""
        self._count = 0

    def open(self, kind: str, id: str, name: str = "") -> int:
        """Open a block; return its number."""
        index = self._count
        self._count += 1
        self.called = self.called or kind == CALL
        self.out.append(BlockOpened(index, kind, id, name))
        return index

    def invented(self) -> str:
        """Return an id for a call that was given none."""
        return f"call_{self.answer}_{self._count}"


Word = tuple[str, str]
"""Where a text stands in its item, where that may be in several places, and the text."""


class Item(Protocol):
    """
    One item of an answer.

    :ivar id: Its own id, ``""`` if it was not told.
    :ivar call: The id of the call, for items that are one.
    :ivar finished: True once it was told whole.
    """

    id: str
    call: str
    finished: bool

    def begin(self, item: dict[str, Any]) -> None:
        """Note what is known of it at its start."""

    def finish(self, item: dict[str, Any]) -> None:
        """Tell what *item*, being whole, holds beyond what was told; close its blocks."""

    def close(self) -> None:
        """Close its blocks: nothing more will come."""

    def told(self) -> Word | None:
        """Return what it has told, None if it cannot be known again by that."""


@attrs.define
class _Part:
    """One block while it is told."""

    index: int
    pieces: list[str] = attrs.field(factory=list)
    cited: int = 0
    closed: bool = False

    def rest(self, full: str) -> str:
        """Return what of *full* was not told; nothing if it is another text altogether."""
        told = "".join(self.pieces)
        self.pieces = [told]
        return full[len(told) :] if full.startswith(told) else ""


class MessageItem:
    """A message: texts and refusals."""

    def __init__(self, blocks: Blocks, id: str) -> None:
        self.id = id
        self.call = ""
        self.finished = False
        self._blocks = blocks
        self._parts: dict[tuple[str, int], _Part] = {}

    def delta(self, kind: str, at: int, text: str) -> None:
        """Tell more of the part *at*."""
        part = self._parts.get((kind, at))
        if part is None:
            if self.finished:
                return
            part = self._open(kind, at)
        if not part.closed:
            part.pieces.append(text)
            self._blocks.out.append(TextDelta(part.index, text))

    def full(self, kind: str, at: int, text: str) -> None:
        """Tell what of a part's whole *text* was not told."""
        part = self._parts.get((kind, at))
        rest = text if part is None else part.rest(text)
        if rest:
            self.delta(kind, at, rest)

    def cite(self, at: int, annotation: Any) -> None:
        """Tell of one source of the part *at*."""
        if entry(annotation, "type") == "url_citation" and not self.finished:
            part = self._parts.get((TEXT, at)) or self._open(TEXT, at)
            self._cite(part, [annotation], part.cited)

    def part_done(self, at: int, told: Any) -> None:
        """Tell what of a part was not told, and close its block."""
        kind = _KINDS.get(_text(told, "type"))
        if kind is not None and not self.finished:
            self._whole(kind, at, told)
            self._close(self._parts.get((kind, at)))

    def begin(self, item: dict[str, Any]) -> None:
        """Note nothing: a message begins without content."""

    def finish(self, item: dict[str, Any]) -> None:
        """Tell what the whole message holds beyond what was told."""
        # The n-th text of the list is the n-th that was told, however they were numbered.
        told: dict[str, deque[int]] = {TEXT: deque(), REFUSAL: deque()}
        for kind, at in sorted(self._parts):
            told[kind].append(at)
        free = max((at for _, at in self._parts), default=-1) + 1
        for part in listed(item.get("content")):
            known = _KINDS.get(_text(part, "type"))
            if known is None or not (_said(part) or _sources(part)):
                continue
            at, free = (told[known].popleft(), free) if told[known] else (free, free + 1)
            self._whole(known, at, part)
            self._close(self._parts.get((known, at)))
        self.close()

    def close(self) -> None:
        """Close what is open."""
        self.finished = True
        for part in self._parts.values():
            self._close(part)

    def told(self) -> Word | None:
        """Return its text."""
        return "", "".join(piece for part in self._parts.values() for piece in part.pieces)

    def _open(self, kind: str, at: int) -> _Part:
        part = self._parts[(kind, at)] = _Part(self._blocks.open(kind, self.id))
        return part

    def _whole(self, kind: str, at: int, told: dict[str, Any]) -> None:
        self.full(kind, at, _said(told))
        sources = _sources(told)
        if kind == TEXT and sources:
            part = self._parts.get((kind, at)) or self._open(kind, at)
            self._cite(part, sources[part.cited :], part.cited)

    def _cite(self, part: _Part, sources: Sequence[Any], known: int) -> None:
        if part.closed:
            return
        part.cited = known + len(sources)
        self._blocks.out += [
            Cited(
                part.index,
                url=_text(source, "url"),
                title=_text(source, "title"),
                start=count(entry(source, "start_index")),
                end=count(entry(source, "end_index")),
            )
            for source in sources
        ]

    def _close(self, part: _Part | None) -> None:
        if part is not None and not part.closed:
            part.closed = True
            self._blocks.out.append(BlockClosed(part.index))


class ReasoningItem:
    """A thought, told as a summary in sections or in its own words."""

    def __init__(self, blocks: Blocks, id: str) -> None:
        self.id = id
        self.call = ""
        self.finished = False
        self._blocks = blocks
        self._index = -1
        self._source = ""
        self._sections: dict[int, _Part] = {}

    def delta(self, source: str, at: int, text: str) -> None:
        """
        Tell more of a section.

        :param source: ``summary`` or ``content``. Some tell both; the first one counts.
        """
        if self.finished or self._source not in ("", source):
            return
        if self._index < 0:
            self._source = source
            self._index = self._blocks.open(REASONING, self.id)
        section = self._sections.get(at)
        if section is None:
            section = self._sections[at] = _Part(len(self._sections))
        elif section.index < len(self._sections) - 1:
            # A section that was left; there is no way back to it.
            section = next(reversed(self._sections.values()))
        section.pieces.append(text)
        self._blocks.out.append(ReasoningDelta(self._index, text, section.index))

    def full(self, source: str, at: int, text: str) -> None:
        """Tell what of a section's whole *text* was not told."""
        section = self._sections.get(at) if source == self._source else None
        if section is not None:
            text = section.rest(text) if section.index == len(self._sections) - 1 else ""
        if text:
            self.delta(source, at, text)

    def begin(self, item: dict[str, Any]) -> None:
        """Note nothing: the seal may still be a part of itself, and the text comes later."""

    def finish(self, item: dict[str, Any]) -> None:
        """Tell what the whole thought holds beyond what was told, and its seal."""
        source, texts = _thoughts(item, self._source)
        numbers = [*self._sections]
        free = max(numbers, default=-1) + 1
        for place, text in enumerate(texts):
            at = numbers[place] if place < len(numbers) else free + place
            self.full(source, at, text)
        self.id = self.id or _text(item, "id")
        self.finished = True
        sealed = _text(item, "encrypted_content")
        if sealed and sealed != UNSEALED:
            if self._index < 0:
                self._index = self._blocks.open(REASONING, self.id)
            seal = Seal(issuer=NAME, value=sealed, id=self.id)
            self._blocks.out.append(Sealed(self._index, seal))
        self._close()

    def close(self) -> None:
        """Close it, unless it is closed."""
        if not self.finished:
            self.finished = True
            self._close()

    def told(self) -> Word | None:
        """Return its text, and where that stood."""
        pieces = [piece for part in self._sections.values() for piece in part.pieces]
        return self._source, "".join(pieces)

    def _close(self) -> None:
        if self._index >= 0:
            self._blocks.out.append(BlockClosed(self._index))


class CallItem:
    """
    A call, of a function, of a tool that takes free text, or of OpenAI's own shells.

    :ivar kind: The item's type.
    """

    def __init__(self, blocks: Blocks, id: str, kind: str) -> None:
        self.id = id
        self.call = ""
        self.finished = False
        self.kind = kind
        self._blocks = blocks
        self._name = ""
        self._part: _Part | None = None
        self._pending: list[str] = []

    def delta(self, text: str) -> None:
        """Tell more of the arguments, or of the free text."""
        if self.finished:
            return
        if self._part is None:
            self._pending.append(text)
            return
        part, out = self._part, self._blocks.out
        if self.kind == "custom_tool_call":
            escaped = write(text)[1:-1].decode()
            out.append(ArgumentsDelta(part.index, escaped if part.pieces else _INPUT + escaped))
        else:
            out.append(ArgumentsDelta(part.index, text))
        part.pieces.append(text)

    def full(self, text: str) -> None:
        """Tell what of the whole *text* was not told."""
        if self._part is None:
            self._pending = [text]
            return
        rest = self._part.rest(text) if self._part.pieces else text
        if rest:
            self.delta(rest)

    def begin(self, item: dict[str, Any]) -> None:
        """Open its block once its name and its id are known."""
        self.call = self.call or _text(item, "call_id")
        self._name = self._name or _name(item, self.kind)
        if self._part is None and self.call and self._name and self.kind in _STREAMED:
            self._open()

    def finish(self, item: dict[str, Any]) -> None:
        """Tell what the whole call holds beyond what was told; one without a name is none."""
        self.call = self.call or _text(item, "call_id")
        self._name = self._name or _name(item, self.kind)
        text = _arguments(item, self.kind)
        if self._part is None and self._name:
            self.call = self.call or self.id or _text(item, "id") or self._blocks.invented()
            self._open()
        if self._part is not None and text:
            self.full(text)
        self.close()

    def close(self) -> None:
        """Close it; what was begun must be JSON."""
        if self.finished:
            return
        self.finished = True
        part = self._part
        if part is None:
            return
        if self.kind == "custom_tool_call":
            end = '"}' if any(part.pieces) else f'{_INPUT}"}}'
            self._blocks.out.append(ArgumentsDelta(part.index, end))
        self._blocks.out.append(BlockClosed(part.index))

    def told(self) -> Word | None:
        """Return nothing: two calls may well be the same but for their ids."""
        return None

    def _open(self) -> None:
        pending, self._pending = self._pending, []
        self._part = _Part(self._blocks.open(CALL, self.call, self._name))
        for text in pending:
            self.delta(text)


class MediaItem:
    """A picture."""

    def __init__(self, blocks: Blocks, id: str) -> None:
        self.id = id
        self.call = ""
        self.finished = False
        self._blocks = blocks

    def begin(self, item: dict[str, Any]) -> None:
        """Note nothing: a picture comes whole."""

    def finish(self, item: dict[str, Any]) -> None:
        """Tell of the picture, if there is one."""
        self.finished = True
        data = _text(item, "result").rpartition(",")[2]
        if _BASE64.fullmatch(data) is not None:
            form = _text(item, "output_format").lower()
            index = self._blocks.open(MEDIA, self.id)
            mime = _MIMES.get(form, "image/png")
            self._blocks.out += [MediaDelta(index, mime, data), BlockClosed(index)]

    def close(self) -> None:
        """Do nothing: it is never open."""

    def told(self) -> Word | None:
        """Return nothing: a picture that was not told whole was not told."""
        return None


def words(item: dict[str, Any]) -> Sequence[Word]:
    """Return what an item that has told *item* may have told; see `Item.told`."""
    if item.get("type") == "message":
        return [("", "".join(_said(part) for part in listed(item.get("content"))))]
    if item.get("type") == "reasoning":
        return [(source, "".join(_thoughts(item, source)[1])) for source in _SOURCES]
    return ()


_SOURCES = ("", "summary", "content")
_INPUT = '{"input":"'
_STREAMED = ("function_call", "custom_tool_call")


def _name(item: dict[str, Any], kind: str) -> str:
    if kind in _STREAMED:
        name = _text(item, "name")
        return Tool("function", name, namespace=_text(item, "namespace")).flat_name if name else ""
    return kind.removesuffix("_call")


def _arguments(item: dict[str, Any], kind: str) -> str:
    if kind == "function_call":
        given = item.get("arguments")
        return given if isinstance(given, str) else write(given).decode() if given else ""
    if kind == "custom_tool_call":
        return _text(item, "input")
    action = item.get("action")
    if not isinstance(action, dict):
        return ""
    return write({key: value for key, value in action.items() if key != "type"}).decode()


def _thoughts(item: dict[str, Any], source: str) -> tuple[str, Sequence[str]]:
    """Return where the thought stands, and its sections; *source* if it was told already."""
    for each in (source,) if source else ("summary", "content"):
        texts = [_text(part, "text") for part in listed(item.get(each))]
        if any(texts):
            return each, texts
    return source or "summary", ()


def _said(part: Any) -> str:
    return _text(part, "refusal" if entry(part, "type") == "refusal" else "text")


def _sources(part: Any) -> list[Any]:
    sources = listed(entry(part, "annotations"))
    return [source for source in sources if entry(source, "type") == "url_citation"]


def _text(value: Any, key: str) -> str:
    found = entry(value, key)
    return found if isinstance(found, str) else ""
