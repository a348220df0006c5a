"""
Gemini: write the turns of a conversation as contents.

What Google refuses is left out, moved or told in words, and named. It must never know what
goes on around the contents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from aiclient2api.conversation.arguments import is_object, settled
from aiclient2api.conversation.request import (
    Audio,
    Call,
    File,
    Image,
    Inline,
    Part,
    Reasoning,
    Refusal,
    Result,
    Text,
    Turn,
    Uploaded,
)
from aiclient2api.dialects.gemini import media
from aiclient2api.dialects.gemini.request import NAME
from aiclient2api.dialects.gemini.signatures import BYPASS

_ROLES = {"user": "user", "assistant": "model"}
_OPENING = "Go on."
"""Said for the user where the model is to have spoken first: contents begin with the user."""
_SEE_BELOW = "The answer follows."
_FAILED = "The tool failed."


class ContentsOut:
    """
    Writes contents, and keeps account of what was left out.

    :param counting: They are only counted: thoughts break that, and are left out.
    :ivar lost: Codes of `aiclient2api.conversation.losses`.
    """

    def __init__(self, *, counting: bool = False) -> None:
        self.lost: list[str] = []
        self._counting = counting

    def system(self, texts: Sequence[Text]) -> dict[str, Any] | None:
        """Return the system instruction, None if there is none."""
        parts = [part for text in texts for part in self._text(text)]
        return {"role": "user", "parts": parts} if parts else None

    def contents(self, turns: Iterable[Turn]) -> list[dict[str, Any]]:
        """Return what *turns* say; they are settled, and hold no instructions."""
        contents: list[dict[str, Any]] = []
        for turn in turns:
            parts = self._model(turn) if turn.role == "assistant" else self._user(turn)
            if not parts:
                continue
            role = _ROLES[turn.role]
            if contents and contents[-1]["role"] == role:
                contents[-1]["parts"] += parts
            else:
                contents.append({"role": role, "parts": parts})
        if contents and contents[0]["role"] == "model":
            contents.insert(0, {"role": "user", "parts": [{"text": _OPENING}]})
        return contents

    def _model(self, turn: Turn) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        called = False
        for part in turn.parts:
            if isinstance(part, Call):
                parts.append(self._call(part, first=not called))
                called = True
            elif isinstance(part, Reasoning):
                parts += self._thought(part)
            else:
                parts += self._said(part)
        return parts

    def _user(self, turn: Turn) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        parts: list[dict[str, Any]] = []
        for part in turn.parts:
            if isinstance(part, Result):
                answer, shown = self._result(part)
                answers.append(answer)
                parts += shown
            else:
                parts += self._said(part)
        return answers + parts

    def _said(self, part: Part) -> Iterator[dict[str, Any]]:
        if isinstance(part, Text):
            yield from self._text(part)
        elif isinstance(part, Refusal):
            if part.text:
                yield {"text": part.text}
        elif isinstance(part, Image | File | Audio):
            yield from self._media(part)

    def _text(self, text: Text) -> Iterator[dict[str, Any]]:
        self._uncached(text)
        if text.text:
            yield {"text": text.text}

    def _media(self, part: Image | File | Audio) -> Iterator[dict[str, Any]]:
        if isinstance(part, Image):
            self._uncached(part)
            if part.detail not in (None, "auto"):
                self.lost.append("detail")
            written = media.written(part.media, "image/png")
        elif isinstance(part, Audio):
            written = media.written(part.media, "audio/wav")
        else:
            self._uncached(part)
            if isinstance(part.media, Inline):
                yield from self._document(part, part.media)
                return
            written = media.written(part.media, "application/pdf")
            if written is not None and part.name:
                yield {"text": f"{part.name}:"}
        if written is not None:
            yield written
        elif isinstance(part.media, Uploaded):
            self.lost.append("file_id")
            name = getattr(part, "name", "") or part.media.id
            yield {"text": f"[Here was the file {name}, which lies with another vendor.]"}

    def _document(self, file: File, inline: Inline) -> Iterator[dict[str, Any]]:
        mime = media.document_type(inline.mime or "application/pdf")
        if mime is None:
            self.lost.append("file")
            name = f"the file {file.name}" if file.name else "a file"
            yield {"text": f"[Here was {name}, {inline.mime}, which this model cannot read.]"}
            return
        if file.name:
            # There is no place for it beside the bytes.
            yield {"text": f"{file.name}:"}
        yield {"inlineData": {"mimeType": mime, "data": inline.data}}

    def _thought(self, thought: Reasoning) -> Iterator[dict[str, Any]]:
        seal = thought.seal
        if seal is None or seal.issuer != NAME:
            self.lost.append("reasoning")
        elif not self._counting:
            yield {"text": thought.text, "thought": True, "thoughtSignature": seal.value}

    def _call(self, call: Call, *, first: bool) -> dict[str, Any]:
        self._uncached(call)
        part: dict[str, Any] = {
            "functionCall": {"name": call.name, "args": _raw(settled(call.arguments))}
        }
        if call.seal is not None and call.seal.issuer == NAME:
            part["thoughtSignature"] = call.seal.value
        elif first:
            part["thoughtSignature"] = BYPASS
        return part

    def _result(self, result: Result) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the answer of a function, and the media that it brought."""
        self._uncached(result)
        # One text, nothing between its pieces: it is what the tool said.
        text = "".join(part.text for part in result.parts if isinstance(part, Text))
        shown = [
            part
            for each in result.parts
            if not isinstance(each, Text)
            for part in self._media(each)
        ]
        for each in result.parts:
            if isinstance(each, Text):
                self._uncached(each)
        if shown:
            # Older models refuse media inside of an answer.
            self.lost.append("tool_media")
            text = text or _SEE_BELOW
        if result.is_error:
            text = text or _FAILED
        response: Any
        if result.is_error and not text.strip("{} \t\r\n"):
            # An empty object would say that nothing is wrong.
            response = {"error": text}
        elif is_object(text):
            response = {"error": _raw(text)} if result.is_error else _raw(text)
        else:
            response = {"error" if result.is_error else "result": text}
        return {"functionResponse": {"name": result.name, "response": response}}, shown

    def _uncached(self, part: Text | Image | File | Call | Result) -> None:
        if part.cache is not None:
            self.lost.append("cache_control")


def _raw(text: str) -> msgspec.Raw:
    """Return the text of an object as it is to stand in the body, every digit as it was."""
    return msgspec.Raw(text.encode())
