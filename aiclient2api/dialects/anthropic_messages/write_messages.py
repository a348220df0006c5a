"""
Anthropic Messages: write turns as messages, a block at a time.

Anthropic refuses a request for a single block it does not like, so what it would not take
is told in a sentence instead. It must never know what goes on around the messages.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import attrs
import msgspec

from aiclient2api.conversation import arguments, call_ids
from aiclient2api.conversation.request import (
    Audio,
    Call,
    File,
    Image,
    Inline,
    Media,
    Part,
    Reasoning,
    Refusal,
    Remote,
    Result,
    Text,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.turns import called
from aiclient2api.dialects.anthropic_messages.request import NAME
from aiclient2api.dialects.anthropic_messages.tool_loop import THOUGHTS, is_thought
from aiclient2api.dialects.nodes import code
from aiclient2api.values import Traits

Block = dict[str, Any]
Message = dict[str, Any]

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_PDF = "application/pdf"
_TEXTS = (
    "application/json",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/javascript",
    "application/toml",
)
_BEGINNING = "(The beginning of this conversation is not shown.)"
_FAILED = "The tool failed."
_UNKEPT = "(This thought was not kept.)"


def is_plain(text: str) -> bool:
    """Say whether a text block may hold *text*: blanks alone are refused."""
    return bool(text.strip())


class MessagesOut:
    """
    Writes turns, and keeps account of what could not be written.

    :param traits: What is peculiar to whoever serves the model.
    :ivar losses: Codes of `aiclient2api.conversation.losses`.
    :ivar uploads: Whether a file was named that lies with Anthropic.
    """

    def __init__(self, traits: Traits) -> None:
        self.losses: list[str] = []
        self.uploads = False
        self._traits = traits

    def messages(self, turns: Iterable[Turn]) -> list[Message]:
        """
        Return *turns* as messages; ``[]`` if the user says nothing in them.

        :param turns: As `aiclient2api.conversation.turns.settled` puts them.
        """
        out: list[Message] = []
        for turn in turns:
            blocks = self._assistant(turn) if turn.role == "assistant" else self._user(turn)
            if blocks and out and out[-1]["role"] == turn.role:
                # There was a turn between them in which nothing could be sent.
                blocks = [*out.pop()["content"], *blocks]
            if blocks:
                out.append({"role": turn.role, "content": _ordered(blocks)})
        if not any(message["role"] == "user" for message in out):
            return []
        if out[0]["role"] == "assistant":
            out.insert(0, {"role": "user", "content": [_text(_BEGINNING)]})
        _trim(out[-1])
        return out

    def texts(self, texts: Iterable[Text]) -> list[Block]:
        """Return text blocks, such as a system prompt's."""
        return [block for text in self._spoken(texts) for block in self._part(text)]

    def _spoken(self, parts: Iterable[Part]) -> list[Part]:
        """Return *parts* with blank texts joined to their neighbours; those without go."""
        out: list[Part] = []
        for text_run, run in groupby(parts, lambda part: isinstance(part, Text)):
            if text_run:
                texts = [part for part in run if isinstance(part, Text) and part.text]
                joined = _joined(texts)
                if texts and not joined:
                    self.losses.append(code("part", "text"))
                out += joined
            else:
                out += run
        return out

    def _user(self, turn: Turn) -> list[Block]:
        blocks: list[Block] = []
        for part in self._spoken(turn.parts):
            if isinstance(part, Result):
                blocks.append(self._result(part))
            elif isinstance(part, Reasoning):
                self.losses.append("reasoning")
            else:
                blocks += self._part(part)
        return blocks

    def _assistant(self, turn: Turn) -> list[Block]:
        """Return what the assistant said."""
        blocks: list[Block] = []
        for part in self._spoken(turn.parts):
            if isinstance(part, Reasoning):
                blocks += self._thought(part)
            elif isinstance(part, Text | Refusal):
                blocks += self._part(part)
            else:
                # Only the user may send anything but text.
                blocks += self._left_out(part)
        calls = called(turn)
        if calls and self._traits.reasoning_with_calls and not any(map(is_thought, blocks)):
            blocks.insert(0, _thinking(_UNKEPT, ""))
        while not calls and blocks and is_thought(blocks[-1]):
            # An answer that was cut: a message that ends in a thought is refused.
            blocks.pop()
            self.losses.append("reasoning")
        return [*blocks, *map(self._call, calls)]

    def _thought(self, part: Reasoning) -> list[Block]:
        seal = part.seal
        if seal is not None and seal.issuer == NAME:
            if seal.hidden:
                return [{"type": "redacted_thinking", "data": seal.value}]
            return [_thinking(part.text, seal.value)]
        if part.text and self._traits.replays_reasoning:
            # Whoever wants thoughts back unsealed looks at no signature.
            return [_thinking(part.text, "")]
        self.losses.append("reasoning")
        return []

    def _call(self, call: Call) -> Block:
        given = msgspec.Raw(arguments.settled(call.arguments).encode())
        block: Block = {
            "type": "tool_use",
            "id": call_ids.plain(call.id),
            "name": call.name,
            "input": given,
        }
        return _marked(block, call.cache)

    def _result(self, result: Result) -> Block:
        block: Block = {"type": "tool_result", "tool_use_id": call_ids.plain(result.id)}
        parts = result.parts
        if len(parts) == 1 and isinstance(parts[0], Text) and parts[0].cache is None:
            content: str | list[Block] = parts[0].text
        else:
            content = [told for part in self._spoken(parts) for told in self._part(part)]
        if result.is_error:
            # Refused if it is empty.
            content = content if content and content != "" else _FAILED
            block["is_error"] = True
        if content:
            block["content"] = content
        return _marked(block, result.cache)

    def _part(self, part: Part) -> list[Block]:
        if isinstance(part, Text):
            return [_text(part.text, part.cache)] if is_plain(part.text) else []
        if isinstance(part, Refusal):
            return [_text(part.text)] if is_plain(part.text) else []
        if isinstance(part, Image):
            if part.detail not in (None, "auto"):
                self.losses.append("detail")
            source = self._picture(part.media)
            if source is not None:
                return [_marked({"type": "image", "source": source}, part.cache)]
        elif isinstance(part, File):
            block = self._document(part)
            if block is not None:
                return [_marked(block, part.cache)]
        return self._left_out(part)

    def _left_out(self, part: Part) -> list[Block]:
        """Return a sentence in the place of what cannot be sent."""
        if isinstance(part, Image):
            what, loss = "An image", "image"
        elif isinstance(part, File):
            what, loss = f"The file {part.name}" if part.name else "A file", "file"
        elif isinstance(part, Audio):
            what, loss = "A sound", "audio"
        else:
            return []
        media = part.media
        self.losses.append("file_id" if isinstance(media, Uploaded) else loss)
        return [_text(f"[{what}{_described(media)} is left out: it cannot be sent here.]")]

    def _picture(self, media: Media) -> Block | None:
        if isinstance(media, Inline):
            mime = media.mime.lower().replace("image/jpg", "image/jpeg")
            if mime in _IMAGES:
                return {"type": "base64", "media_type": mime, "data": media.data}
            return None
        return self._elsewhere(media)

    def _document(self, part: File) -> Block | None:
        media, source = part.media, None
        if isinstance(media, Inline):
            mime = media.mime.partition(";")[0].strip().lower()
            if mime in _IMAGES:
                return {"type": "image", "source": self._picture(attrs.evolve(media, mime=mime))}
            if mime == _PDF or (not mime and part.name.lower().endswith(".pdf")):
                source = {"type": "base64", "media_type": _PDF, "data": media.data}
            elif mime.startswith("text/") or mime in _TEXTS:
                source = _plain_source(media.data)
        elif not isinstance(media, Remote) or media.mime in ("", _PDF):
            source = self._elsewhere(media)
        if source is None:
            return None
        block: Block = {"type": "document", "source": source}
        return block | ({"title": part.name} if part.name else {})

    def _elsewhere(self, media: Remote | Uploaded) -> Block | None:
        if isinstance(media, Remote):
            # Anthropic fetches nothing that is not encrypted.
            return {"type": "url", "url": media.url} if is_fetched(media) else None
        if media.dialect != NAME:
            return None
        self.uploads = True
        return {"type": "file", "file_id": media.id}


def is_fetched(media: Remote) -> bool:
    """Say whether Anthropic fetches *media* itself."""
    return media.url[:8].lower() == "https://"


def fetches_type(mime: str) -> bool:
    """Say whether Anthropic fetches things of that type; ``""`` if it is not known."""
    return mime in ("", _PDF) or mime.startswith("image/")


def marker(cache: Mapping[str, Any] | None) -> Block | None:
    """Return a cache marker as Anthropic takes one, None if it is no such thing."""
    if cache is None or cache.get("type") != "ephemeral":
        return None
    ttl = cache.get("ttl")
    return {"type": "ephemeral", **({"ttl": ttl} if ttl in ("5m", "1h") else {})}


def _joined(texts: Iterable[Text]) -> list[Text]:
    """Return *texts*, blank ones at the end of those before them; ``[]`` if all are."""
    found: list[tuple[list[str], Mapping[str, Any] | None]] = []
    begun = False
    for text in texts:
        if found and not (begun and is_plain(text.text)):
            pieces, cache = found[-1]
            pieces.append(text.text)
            found[-1] = pieces, text.cache or cache
        else:
            found.append(([text.text], text.cache))
        begun = begun or is_plain(text.text)
    return [Text("".join(pieces), cache) for pieces, cache in found] if begun else []


def _marked(block: Block, cache: Mapping[str, Any] | None) -> Block:
    found = marker(cache)
    return block if found is None else {**block, "cache_control": found}


def _text(text: str, cache: Mapping[str, Any] | None = None) -> Block:
    return _marked({"type": "text", "text": text}, cache)


def _thinking(text: str, signature: str) -> Block:
    return {"type": "thinking", "thinking": text, "signature": signature}


def _ordered(blocks: list[Block]) -> list[Block]:
    """Return *blocks* with results and calls where they must be, and a thought in front."""
    ranks = {"tool_result": 0, "tool_use": 2}
    if any(map(is_thought, blocks)) and not is_thought(blocks[0]):
        ranks |= dict.fromkeys(THOUGHTS, 0)
    return sorted(blocks, key=lambda block: ranks.get(block["type"], 1))


def _plain_source(data: str) -> Block | None:
    try:
        text = base64.b64decode(data).decode("utf-8", "replace")
    except (ValueError, binascii.Error):
        return None
    return {"type": "text", "media_type": "text/plain", "data": text} if is_plain(text) else None


def _trim(message: Message) -> None:
    """Cut blanks from the end of an assistant's last words: they are refused."""
    last = message["content"][-1]
    if message["role"] == "assistant" and last["type"] == "text":
        last["text"] = last["text"].rstrip()


def _described(media: Media) -> str:
    if isinstance(media, Inline):
        return f" of the type {media.mime}" if media.mime else ""
    return f" at {media.url}" if isinstance(media, Remote) else f" with the id {media.id}"
