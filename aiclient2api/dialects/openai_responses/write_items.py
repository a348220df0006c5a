"""
The items of an answer as a client sees them grow: their events, and each whole in the end.

Every ``done`` repeats the complete text: clients put it in the place of what they gathered.
An item is written from its opening to its end before the next one; it must never know why
the answer ended, but for whether it was cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from aiclient2api.conversation.events import (
    TEXT,
    ArgumentsDelta,
    Cited,
    MediaDelta,
    ReasoningDelta,
    TextDelta,
)
from aiclient2api.conversation.request import Tool
from aiclient2api.conversation.seals import Seal, carried
from aiclient2api.conversation.tools import text_of
from aiclient2api.dialects.openai_responses.request import NAME, UNSEALED
from aiclient2api.framing.json_text import read, write

_WHOLE = ("custom", "local_shell")
_IMAGES = {
    "image/gif": "gif",
    "image/jpeg": "jpeg",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/webp": "webp",
}


class Frames:
    """The events of one answer, numbered from 0."""

    def __init__(self) -> None:
        self._number = 0

    def event(self, kind: str, **fields: Any) -> bytes:
        """Return one event."""
        number = self._number
        self._number = number + 1
        data = write({"type": kind, **fields, "sequence_number": number})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def lifecycle(self, status: str, response: bytes) -> bytes:
        """Return the event that tells what has become of the response."""
        number = self._number
        self._number = number + 1
        kind = f"response.{status}".encode()
        return b'event: %b\ndata: {"type":"%b","response":%b,"sequence_number":%d}\n\n' % (
            kind,
            kind,
            response,
            number,
        )

    def head(self, kind: str, **fields: Any) -> bytes:
        """Return the beginning of events that differ only in their text; see `piece`."""
        data = write({"type": kind, **fields})
        return b'event: %b\ndata: %b,"delta":' % (kind.encode(), data[:-1])

    def piece(self, head: bytes, text: str) -> bytes:
        """Return the event that begins with *head* and brings *text*."""
        number = self._number
        self._number = number + 1
        return b'%b%b,"sequence_number":%d}\n\n' % (head, write(text), number)


class OpenItem(Protocol):
    """An item that is being written."""

    def opened(self) -> bytes:
        """Return the event that tells that it begins."""

    def done(self, *, cut: bool) -> tuple[bytes, bytes]:
        """
        Return the events at its end, and the item.

        :param cut: True if the answer was cut within it.
        """


class MessageWriter:
    """A message, a part for each block of text and each refusal."""

    def __init__(self, frames: Frames, place: int, id: str) -> None:
        self._frames = frames
        self._place = place
        self._id = id
        self._parts: list[Any] = []
        self._pieces: list[str] = []
        self._sources: list[Any] = []
        self._kind = ""
        self._where: dict[str, Any] = {}
        self.head = b""

    def opened(self) -> bytes:
        """Return the event that tells that it begins."""
        return self._frames.event(
            "response.output_item.added",
            output_index=self._place,
            item=self._item("in_progress"),
        )

    def part(self, kind: str) -> bytes:
        """Open a part: a text or a refusal."""
        self._kind = kind
        self._pieces = []
        self._sources = []
        at = len(self._parts)
        self._where = {"item_id": self._id, "output_index": self._place, "content_index": at}
        if kind == TEXT:
            self.head = self._frames.head("response.output_text.delta", **self._where, logprobs=[])
        else:
            self.head = self._frames.head("response.refusal.delta", **self._where)
        return self._event("response.content_part.added", part=self._part(""))

    def text(self, event: TextDelta) -> bytes:
        """Write more of the part."""
        self._pieces.append(event.text)
        return self._frames.piece(self.head, event.text)

    def cited(self, event: Cited) -> bytes:
        """Write a source of the part; nothing if it has no address."""
        if not event.url:
            return b""
        source = {
            "type": "url_citation",
            "url": event.url,
            "title": event.title,
            "start_index": event.start or 0,
            "end_index": sum(map(len, self._pieces)) if event.end is None else event.end,
        }
        self._sources.append(source)
        return self._event(
            "response.output_text.annotation.added",
            annotation_index=len(self._sources) - 1,
            annotation=source,
        )

    def part_done(self) -> bytes:
        """Close the part."""
        text = "".join(self._pieces)
        part = self._part(text)
        self._parts.append(part)
        if self._kind == TEXT:
            told = self._event("response.output_text.done", text=text, logprobs=[])
        else:
            told = self._event("response.refusal.done", refusal=text)
        return told + self._event("response.content_part.done", part=part)

    def done(self, *, cut: bool) -> tuple[bytes, bytes]:
        """Return the event at its end, and the message."""
        return _done(self._frames, self._place, self._item("incomplete" if cut else "completed"))

    def _part(self, text: str) -> dict[str, Any]:
        if self._kind != TEXT:
            return {"type": "refusal", "refusal": text}
        return {
            "type": "output_text",
            "text": text,
            "annotations": self._sources,
            "logprobs": [],
        }

    def _item(self, status: str) -> dict[str, Any]:
        head = {"type": "message", "id": self._id, "status": status, "role": "assistant"}
        return {**head, "content": self._parts}

    def _event(self, kind: str, **fields: Any) -> bytes:
        return self._frames.event(kind, **self._where, **fields)


class ReasoningWriter:
    """A thought: a summary, a part for each section, and its seal."""

    def __init__(self, frames: Frames, place: int, id: str) -> None:
        self._frames = frames
        self._place = place
        self._id = id
        self._summary: list[Any] = []
        self._pieces: list[str] = []
        self._section = -1
        self._head = b""
        self._sealed: str | None = None

    def opened(self) -> bytes:
        """Return the event that tells that it begins."""
        return self._frames.event(
            "response.output_item.added", output_index=self._place, item=self._item()
        )

    def thought(self, event: ReasoningDelta) -> bytes:
        """Write more of it, and the bounds between two sections."""
        bound = b""
        if event.section != self._section:
            bound = self._section_done()
            self._section = event.section
            self._head = self._frames.head("response.reasoning_summary_text.delta", **self._where())
            bound += self._part_event("added", "")
        self._pieces.append(event.text)
        return bound + self._frames.piece(self._head, event.text)

    def sealed(self, seal: Seal) -> bytes:
        """Note the seal, which is told at the end."""
        own = seal.issuer == NAME and seal.id == self._id and not seal.hidden
        self._sealed = seal.value if own else carried(seal, NAME)
        return b""

    def done(self, *, cut: bool) -> tuple[bytes, bytes]:
        """Return the events at its end, and the thought."""
        told = self._section_done()
        item = self._item(UNSEALED if self._sealed is None else self._sealed)
        end, item_json = _done(self._frames, self._place, item)
        return told + end, item_json

    def _section_done(self) -> bytes:
        if self._section < 0:
            return b""
        text = "".join(self._pieces)
        self._pieces = []
        told = self._frames.event(
            "response.reasoning_summary_text.done", **self._where(), text=text
        )
        told += self._part_event("done", text)
        self._summary.append({"type": "summary_text", "text": text})
        return told

    def _part_event(self, what: str, text: str) -> bytes:
        part = {"type": "summary_text", "text": text}
        kind = f"response.reasoning_summary_part.{what}"
        return self._frames.event(kind, **self._where(), part=part)

    def _where(self) -> dict[str, Any]:
        at = len(self._summary)
        return {"item_id": self._id, "output_index": self._place, "summary_index": at}

    def _item(self, sealed: str | None = None) -> dict[str, Any]:
        item = {"type": "reasoning", "id": self._id, "summary": self._summary}
        return item if sealed is None else {**item, "encrypted_content": sealed}


class CallWriter:
    """
    A call of a tool as the client offered it.

    :param kind: `Tool.kind`: a function's arguments pass as they come; the free text of a
        ``custom`` tool and the command of a ``local_shell`` have to be whole first.
    """

    def __init__(self, frames: Frames, place: int, id: str, call: str, tool: Tool) -> None:
        self._frames = frames
        self._place = place
        self._id = id
        self._call = call
        self._tool = tool
        self._pieces: list[str] = []
        self._where = {"item_id": id, "output_index": place}
        self._head = b""
        if tool.kind not in _WHOLE:
            self._head = frames.head("response.function_call_arguments.delta", **self._where)

    def opened(self) -> bytes:
        """Return the event that tells that it begins."""
        return self._frames.event(
            "response.output_item.added",
            output_index=self._place,
            item=self._item("", "in_progress"),
        )

    def arguments(self, event: ArgumentsDelta) -> bytes:
        """Write more of its arguments."""
        self._pieces.append(event.json)
        return self._frames.piece(self._head, event.json) if self._head else b""

    def done(self, *, cut: bool) -> tuple[bytes, bytes]:
        """Return the events at its end, and the call."""
        frames, arguments = self._frames, "".join(self._pieces)
        told = b""
        if self._tool.kind == "custom":
            text = text_of(arguments)
            kind = "response.custom_tool_call_input"
            if text:
                told = frames.piece(frames.head(f"{kind}.delta", **self._where), text)
            told += frames.event(f"{kind}.done", **self._where, input=text)
        elif self._tool.kind != "local_shell":
            if not arguments:
                # No arguments at all are none; clients that only add up deltas want JSON, too.
                arguments = "{}"
                told = frames.piece(self._head, arguments)
            told += frames.event(
                "response.function_call_arguments.done",
                **self._where,
                name=self._tool.name,
                arguments=arguments,
            )
        item = self._item(arguments, "incomplete" if cut else "completed")
        end, item_json = _done(frames, self._place, item)
        return told + end, item_json

    def _item(self, arguments: str, status: str) -> dict[str, Any]:
        tool = self._tool
        item = {"id": self._id, "call_id": self._call}
        if tool.kind == "local_shell":
            action = action_of(arguments)
            return {"type": "local_shell_call", **item, "action": action, "status": status}
        space = {"namespace": tool.namespace} if tool.namespace else {}
        if tool.kind == "custom":
            # The SDK's model has no status for it; a call that was cut needs one all the same.
            known = {"status": status} if status == "incomplete" else {}
            told = {**item, "name": tool.name, "input": text_of(arguments)}
            return {"type": "custom_tool_call", **told, **space, **known}
        told = {**item, "name": tool.name, "arguments": arguments}
        return {"type": "function_call", **told, **space, "status": status}


class ImageWriter:
    """A picture, as the tool that makes them would give it."""

    def __init__(self, frames: Frames, place: int, id: str, media: MediaDelta) -> None:
        self._frames = frames
        self._place = place
        self._item = {"type": "image_generation_call", "id": id}
        self._media = media

    def opened(self) -> bytes:
        """Return the event that tells that it begins."""
        return self._frames.event(
            "response.output_item.added",
            output_index=self._place,
            item={**self._item, "status": "in_progress", "result": None},
        )

    def done(self, *, cut: bool) -> tuple[bytes, bytes]:
        """Return the events at its end, and the picture."""
        where = {"item_id": self._item["id"], "output_index": self._place}
        told = self._frames.event("response.image_generation_call.completed", **where)
        form = _IMAGES.get(self._media.mime)
        known = {} if form is None else {"output_format": form}
        item = {**self._item, "status": "completed", "result": self._media.data, **known}
        end, item_json = _done(self._frames, self._place, item)
        return told + end, item_json


def action_of(arguments: str) -> dict[str, Any]:
    """Return the command that stands in a call's arguments, in the form of a local shell's."""
    given = read(arguments.encode("utf-8", "replace")) if arguments else {}
    fields: Mapping[str, Any] = given if isinstance(given, dict) else {}
    command, env = fields.get("command"), fields.get("env")
    if isinstance(command, str):
        command = ["bash", "-lc", command]
    words = command if isinstance(command, list) else []
    action: dict[str, Any] = {
        "type": "exec",
        "command": [word for word in words if isinstance(word, str)],
        "env": {
            key: text
            for key, text in (env if isinstance(env, dict) else {}).items()
            if isinstance(text, str)
        },
    }
    for key, form in (("timeout_ms", int), ("working_directory", str), ("user", str)):
        if isinstance(fields.get(key), form):
            action[key] = fields[key]
    return action


def _done(frames: Frames, place: int, item: dict[str, Any]) -> tuple[bytes, bytes]:
    told = write(item)
    event = frames.event("response.output_item.done", output_index=place, item=msgspec.Raw(told))
    return event, told
