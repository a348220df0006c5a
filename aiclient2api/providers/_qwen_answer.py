"""
A streamed answer without the calls that nobody offered a tool for.

Everything else passes as it came, byte for byte. It must never know who asked, nor with
which tool the model was kept quiet.
"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from aiclient2api.dialects.wire_request import listed
from aiclient2api.framing.json_text import BOM, read, write
from aiclient2api.framing.sse import Record, SSEFramer
from aiclient2api.interfaces import IEnvelope
from aiclient2api.values import HELD_LIMIT

_CALLS = ("tool_calls", "function_call")
_MARKS = (b"tool_call", b"function_call")
_BLANK = b" \t\r\n"


@implementer(IEnvelope)
class Uncalled:
    """
    Drops calls from one answer, and says of what ended in one that it just ended.

    Should the upstream answer with one JSON document instead of a stream, it does the same
    with that.
    """

    content_type = b"text/event-stream"
    marks_end = True

    def __init__(self, *, limit: int = HELD_LIMIT) -> None:
        self._framer = SSEFramer(limit=limit)
        self._limit = limit
        self._head = b""
        # None until the first byte tells a stream from a document.
        self._whole: bytearray | None = None
        self._known = False

    def open(self, data: bytes) -> bytes:
        """Take the upstream's next bytes; return those that may be shown."""
        if not self._known:
            self._head += data
            told = self._head.removeprefix(BOM).lstrip(_BLANK)
            if not told or BOM.startswith(self._head):
                return b""
            self._known = True
            self._whole = bytearray() if told.startswith(b"{") else None
            data, self._head = self._head, b""
        if self._whole is not None:
            self._whole += data
            if len(self._whole) <= self._limit:
                return b""
            # What is too long to be read is the relay's to refuse.
            passed, self._whole = bytes(self._whole), None
            return passed
        shown: list[bytes] = []
        start = 0
        for record in self._framer.feed(data):
            shown.append(_shown(record, self._framer.whole[start : record.end]))
            start = record.end
        return b"".join([*shown, self._framer.whole[start:]])

    def end(self) -> bytes:
        """Note the clean end; return what is left."""
        if self._whole is not None:
            return _without_calls(bytes(self._whole), whole=True)
        if not self._known:
            return self._head
        last = self._framer.finish()
        return b"" if last is None else _shown(last, self._framer.rest)


def _shown(record: Record, raw: bytes) -> bytes:
    """Return *raw*, the bytes of *record*, without calls."""
    if not any(mark in record.data for mark in _MARKS):
        return raw
    told = _without_calls(record.data, whole=False)
    if told == record.data:
        return raw
    name = b"event: " + record.event + b"\n" if record.event else b""
    return name + b"data: " + told + b"\n\n" if told else b""


def _without_calls(data: bytes, *, whole: bool) -> bytes:
    """
    Return a chunk, or a whole answer, without calls; ``b""`` for a chunk of nothing else.

    :return: *data* itself if there are none, or it is nothing that can be read.
    """
    answer = read(data)
    choices = listed(answer.get("choices")) if isinstance(answer, dict) else []
    changed = False
    says = bool(isinstance(answer, dict) and answer.get("usage"))
    for choice in choices:
        if not isinstance(choice, dict):
            continue
        for key in ("delta", "message"):
            said = choice.get(key)
            if isinstance(said, dict):
                for call in _CALLS:
                    changed = said.pop(call, None) is not None or changed
                says = says or _speaks(said)
                if key == "message" and whole and said.get("content") is None:
                    said["content"] = ""
        if choice.get("finish_reason") in _CALLS:
            choice["finish_reason"], changed = "stop", True
        says = says or bool(choice.get("finish_reason"))
    if not changed:
        return data
    return write(answer) if says or whole else b""


def _speaks(said: dict[str, Any]) -> bool:
    """Say whether a delta holds anything; its role is enough, for it begins an answer."""
    return any(value not in (None, "", []) for value in said.values())
