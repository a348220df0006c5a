"""
The input of a request to an upstream: turns, written as items.

It must never know what else is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

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
from aiclient2api.conversation.tools import text_of
from aiclient2api.dialects.openai_media import STORE, data_url, file_name
from aiclient2api.dialects.openai_responses.media_words import instead_of
from aiclient2api.dialects.openai_responses.request import NAME

CALL_ID = 64
"""Characters a call's id may have: ``Invalid 'input[2].call_id': string too long``."""

_PICTURES = ("image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp")
"""https://platform.openai.com/docs/guides/images-vision#image-input-requirements"""


class Input:
    """
    Writes items.

    :param custom: Names of tools that take free text.
    :param thinks: Whether the model takes thoughts back: those that don't think refuse them.
    :ivar items: What was written.
    :ivar losses: Codes of what could not be written.
    :ivar sealed: Whether it holds a thought that the upstream can take back.
    """

    def __init__(self, custom: Iterable[str], *, thinks: bool) -> None:
        self.items: list[dict[str, Any]] = []
        self.losses: list[str] = []
        self.sealed = False
        self._custom = frozenset(custom)
        self._thinks = thinks
        self._outputs: dict[str, str] = {}

    def add(self, turn: Turn) -> None:
        """Write one turn."""
        if turn.role == "assistant":
            self._add_said(turn.parts)
        else:
            self._add_given(turn.parts, turn.role)

    def _add_said(self, parts: Iterable[Part]) -> None:
        thoughts: list[dict[str, Any]] = []
        for part in parts:
            self._note(part)
            if isinstance(part, Reasoning):
                thoughts += self._thought(part)
                continue
            item = self._call(part) if isinstance(part, Call) else self._said(part)
            if item is not None:
                # A thought is refused unless what it led to follows it.
                self.items += [*thoughts, item]
                self.sealed = self.sealed or bool(thoughts)
                thoughts = []
        if thoughts:
            self.losses.append("reasoning")

    def _add_given(self, parts: Iterable[Part], role: str) -> None:
        content: list[dict[str, Any]] = []
        for part in parts:
            self._note(part)
            if isinstance(part, Result):
                self._tell(role, content)
                content = []
                self.items.append(self._result(part))
            elif isinstance(part, Reasoning):
                self.losses.append("reasoning")
            elif not isinstance(part, Call):
                said = self._content(part, role)
                content += [] if said is None else [said]
        self._tell(role, content)

    def _tell(self, role: str, content: Sequence[dict[str, Any]]) -> None:
        if content:
            role = "developer" if role == "system" else role
            self.items.append({"type": "message", "role": role, "content": [*content]})

    def _said(self, part: Part) -> dict[str, Any] | None:
        # As plain text: every other form of it has an id, which we have not.
        if isinstance(part, Text | Refusal):
            text = part.text
        else:
            content = None if isinstance(part, Result) else self._content(part, "assistant")
            text = "" if content is None else content["text"]
        return {"type": "message", "role": "assistant", "content": text} if text else None

    def _thought(self, part: Reasoning) -> list[dict[str, Any]]:
        seal = part.seal
        if seal is None or seal.issuer != NAME or not self._thinks:
            self.losses.append("reasoning")
            return []
        item: dict[str, Any] = {"type": "reasoning"}
        if seal.id:
            item["id"] = seal.id
        summary = [{"type": "summary_text", "text": part.text}] if part.text else []
        return [{**item, "summary": summary, "encrypted_content": seal.value}]

    def _call(self, part: Call) -> dict[str, Any]:
        head = {"call_id": call_ids.short(part.id, CALL_ID), "name": part.name}
        if part.name in self._custom:
            self._outputs[part.id] = "custom_tool_call_output"
            return {"type": "custom_tool_call", **head, "input": text_of(part.arguments)}
        return {
            "type": "function_call",
            **head,
            "arguments": arguments.settled(part.arguments),
        }

    def _result(self, part: Result) -> dict[str, Any]:
        if part.is_error:
            self.losses.append("tool_error")
        for each in part.parts:
            self._note(each)
        texts = [each.text for each in part.parts if isinstance(each, Text)]
        output: Any = "\n".join(texts)
        if len(texts) < len(part.parts):
            written = [self._content(each, "user") for each in part.parts]
            output = [each for each in written if each is not None] or ""
            if part.is_error:
                output = [_text("Error:"), *(output or [])]
        elif part.is_error:
            output = f"Error: {output}"
        kind = self._outputs.get(part.id, "function_call_output")
        return {"type": kind, "call_id": call_ids.short(part.id, CALL_ID), "output": output}

    def _content(self, part: Part, role: str) -> dict[str, Any] | None:
        if isinstance(part, Text | Refusal):
            return _text(part.text) if part.text else None
        if isinstance(part, Image) and role == "user":
            return self._image(part)
        if isinstance(part, File) and role == "user":
            return self._file(part)
        return self._instead(part) if isinstance(part, Image | File | Audio) else None

    def _image(self, part: Image) -> dict[str, Any]:
        image = {"type": "input_image", "detail": part.detail or "auto"}
        media = part.media
        if isinstance(media, Inline) and media.mime in _PICTURES:
            return {**image, "image_url": data_url(media)}
        if _address(media):
            return {**image, "image_url": _address(media)}
        if isinstance(media, Uploaded) and media.dialect == STORE:
            return {**image, "file_id": media.id}
        return self._instead(part)

    def _file(self, part: File) -> dict[str, Any]:
        media = part.media
        if isinstance(media, Inline):
            name = file_name(part, media.mime)
            return {"type": "input_file", "filename": name, "file_data": data_url(media)}
        if _address(media):
            return {"type": "input_file", "file_url": _address(media)}
        if isinstance(media, Uploaded) and media.dialect == STORE:
            return {"type": "input_file", "file_id": media.id}
        return self._instead(part)

    def _instead(self, part: Image | File | Audio) -> dict[str, Any]:
        loss, sentence = instead_of(part)
        self.losses.append(loss)
        return _text(f"[{sentence}]")

    def _note(self, part: Part) -> None:
        if not isinstance(part, Refusal | Reasoning | Audio) and part.cache is not None:
            self.losses.append("cache_control")


def _text(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def _address(media: Media) -> str:
    """Return an address that OpenAI can fetch from, ``""`` if *media* has none."""
    url = media.url if isinstance(media, Remote) else ""
    return url if url.startswith(("https:", "http:")) else ""
