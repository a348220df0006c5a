"""
Anthropic Messages: read the messages of a request, a block at a time.

A block that no other dialect has a word for is left out and named. It must never know
what goes on around the messages.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aiclient2api.conversation import call_ids, seals
from aiclient2api.conversation.request import (
    Audio,
    Call,
    File,
    Image,
    Inline,
    Media,
    Part,
    Reasoning,
    Remote,
    Result,
    Text,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.anthropic_messages.request import NAME
from aiclient2api.dialects.nodes import Node, code
from aiclient2api.errors import InvalidRequest
from aiclient2api.framing.json_text import write

ATTRIBUTION = "x-anthropic-billing-header:"
"""Begins a line of Claude Code's that differs in every request: no cache would survive it."""

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "citations", "cache_control"),
    "image": ("source", "cache_control"),
    "document": ("source", "title", "context", "citations", "cache_control"),
    "search_result": ("source", "title", "content", "citations", "cache_control"),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
    "tool_use": ("id", "name", "input", "caller", "cache_control"),
    "tool_result": ("tool_use_id", "content", "is_error", "cache_control"),
}
"""What is read of a block, beside its type."""

_ROLES = ("user", "assistant", "system")
_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,(.*)", re.DOTALL)


class MessagesIn:
    """
    Reads messages, and keeps account of what was left out.

    :ivar dropped: Codes of `aiclient2api.conversation.losses`.
    """

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self._readers: Mapping[str, Callable[[Node], Iterator[Part]]] = {
            "text": self._text,
            "image": self._image,
            "document": self._document,
            "search_result": self._search_result,
            "thinking": self._thinking,
            "redacted_thinking": self._redacted_thinking,
            "tool_use": self._tool_use,
            "tool_result": self._tool_result,
        }

    def system(self, request: Node) -> tuple[Text, ...]:
        """
        Return the system prompt, without Claude Code's line of attribution.

        :param request: What holds it under ``system``.
        """
        return tuple(self._attributed(self._texts(request, "system")))

    def turn(self, message: Node) -> Turn:
        """Return what one message says."""
        role = message.name("role")
        if role not in _ROLES:
            raise InvalidRequest(
                f"The field {message.path('role')} is no role that is known; send user or"
                " assistant.",
                code="invalid_value",
                param=message.path("role"),
            )
        self.unread(message, "messages", ("role", "content"))
        if message.get("content") is None:
            raise message.wrong("content", "a string or an array of blocks")
        if role == "system":
            return Turn(role, tuple(self._attributed(self._texts(message, "content"))))
        return Turn(role, tuple(self._parts(message, "content")))

    def _parts(self, node: Node, key: str) -> Iterator[Part]:
        content = node.get(key)
        if isinstance(content, str):
            if content:
                yield Text(content)
            return
        if content is not None and not isinstance(content, list | dict):
            raise node.wrong(key, "a string or an array of blocks")
        for block in node.objects(key):
            kind = block.name("type")
            reader = self._readers.get(kind)
            if reader is None:
                self._drop("part", kind)
            else:
                self.unread(block, kind, ("type", *_FIELDS[kind]))
                yield from reader(block)

    def unread(self, node: Node, name: str, known: tuple[str, ...]) -> None:
        """Name the fields of *node* that are not *known*; *name* says what it is."""
        for key, value in node.members.items():
            if value is not None and key not in known:
                lost = key if key == "cache_control" else code("field", f"{name}.{key}")
                self.dropped.append(lost)

    def _texts(self, node: Node, key: str) -> Iterator[Text]:
        for part in self._parts(node, key):
            if isinstance(part, Text):
                yield part
            else:
                self._drop("part", type(part).__name__.lower())

    def _attributed(self, texts: Iterator[Text]) -> Iterator[Text]:
        for text in texts:
            if not text.text.startswith(ATTRIBUTION):
                yield text
                continue
            self.dropped.append("attribution")
            rest = text.text.partition("\n")[2]
            if rest:
                yield Text(rest, text.cache)

    def _drop(self, family: str, name: str) -> None:
        self.dropped.append(code(family, name))

    def _text(self, block: Node) -> Iterator[Part]:
        text = block.text("text")
        if block.get("citations"):
            self.dropped.append("citations")
        if text:
            yield Text(text, cache_of(block))

    def _image(self, block: Node) -> Iterator[Part]:
        media = self._media(block)
        if media is not None:
            yield Image(media, cache=cache_of(block))

    def _document(self, block: Node) -> Iterator[Part]:
        self._cited(block)
        context = block.text("context")
        if context:
            yield Text(context)
        source, name, cache = block.object("source"), block.text("title"), cache_of(block)
        if source is not None and source.get("type") == "content":
            parts = list(self._parts(source, "content"))
            text = "\n".join(part.text for part in parts if isinstance(part, Text))
            if text:
                yield File(_plain(text), name, cache)
            yield from (part for part in parts if isinstance(part, Image))
            return
        media = self._media(block)
        if media is not None:
            yield File(media, name, cache)

    def _cited(self, block: Node) -> None:
        citations = block.get("citations")
        if isinstance(citations, dict) and citations.get("enabled") is True:
            self.dropped.append("citations")

    def _media(self, block: Node) -> Media | None:
        source = block.object("source")
        if source is None:
            raise block.wrong("source", "an object")
        kind = source.name("type")
        if kind == "base64":
            return Inline(source.name("media_type"), source.text("data"))
        if kind == "text":
            return _plain(source.text("data"))
        if kind == "url":
            url = source.name("url")
            inline = _DATA_URL.fullmatch(url)
            return Inline(inline[1], inline[2]) if inline is not None else Remote(url)
        if kind == "file":
            return Uploaded(NAME, source.name("file_id"))
        self._drop("part", f"{block.text('type')}.{kind}")
        return None

    def _search_result(self, block: Node) -> Iterator[Part]:
        self._cited(block)
        found = self._parts(block, "content")
        texts = [part.text for part in found if isinstance(part, Text)]
        told = "\n".join(filter(None, (block.text("title"), block.text("source"), *texts)))
        if told:
            yield Text(told, cache_of(block))

    def _thinking(self, block: Node) -> Iterator[Part]:
        text, signature = block.text("thinking"), block.text("signature")
        seal = _seal(seals.taken(signature, NAME)) if signature else None
        if text or seal is not None:
            yield Reasoning(text, seal)

    def _redacted_thinking(self, block: Node) -> Iterator[Part]:
        data = block.text("data")
        if data.startswith(seals.PARCEL):
            seal = _seal(seals.taken(data, NAME))
        else:
            seal = Seal(NAME, data, hidden=True) if data else None
        if seal is not None:
            yield Reasoning("", seal)

    def _tool_use(self, block: Node) -> Iterator[Part]:
        caller = block.object("caller")
        if caller is not None and caller.get("type") != "direct":
            self._drop("field", "tool_use.caller")
        given = block.get("input")
        if given is None:
            arguments = "{}"
        elif isinstance(given, str):
            # Some clients keep the deltas of a stream as they came.
            arguments = given
        else:
            arguments = write(given).decode()
        id = call_ids.original(block.name("id"))
        yield Call(id, block.name("name"), arguments, cache=cache_of(block))

    def _tool_result(self, block: Node) -> Iterator[Part]:
        found: list[Text | Image | File | Audio] = []
        for part in self._parts(block, "content"):
            if isinstance(part, Text | Image | File | Audio):
                found.append(part)
            else:
                self._drop("part", type(part).__name__.lower())
        yield Result(
            call_ids.original(block.name("tool_use_id")),
            parts=tuple(found),
            is_error=block.flag("is_error") or False,
            cache=cache_of(block),
        )


def cache_of(block: Node) -> Mapping[str, Any] | None:
    """Return the cache marker of a block or a tool."""
    marker = block.get("cache_control")
    return marker if isinstance(marker, dict) else None


def _plain(text: str) -> Inline:
    return Inline("text/plain", base64.b64encode(text.encode("utf-8", "replace")).decode())


def _seal(seal: Seal) -> Seal | None:
    # A parcel that was cut or altered has no issuer: nobody could do anything with it.
    return seal if seal.issuer and seal.value else None
