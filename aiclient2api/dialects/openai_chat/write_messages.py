"""
Turns, written as messages.

Content is a plain string wherever it can be one: not everybody who speaks this dialect
understands parts. It must never know what else is asked.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any

from aiclient2api.conversation import arguments, call_ids
from aiclient2api.conversation.request import (
    Audio,
    Call,
    File,
    Image,
    Inline,
    Part,
    Reasoning,
    Refusal,
    Remote,
    Result,
    Text,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.turns import called, thoughts
from aiclient2api.dialects.openai_chat.models import Model
from aiclient2api.dialects.openai_chat.request import NAME
from aiclient2api.dialects.openai_media import STORE, data_url, file_name
from aiclient2api.values import Traits

Message = dict[str, Any]
Written = dict[str, Any]
"""One part of a message's content."""

CALL_ID = 40
"""Characters a call's id may have: ``string too long. Expected ... maximum length 40``."""

_SOUNDS = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
_TEXTS = ("application/json", "application/xml", "application/yaml", "application/x-yaml")
_SHOWN = "(The answer is in the next message.)"
_UNKEPT = " "
"""The thought of a message that came without: one blank is enough."""


class MessagesOut:
    """
    Writes messages.

    :param traits: What is peculiar to whoever serves the model.
    :ivar messages: What was written.
    :ivar losses: Codes of what could not be written.
    """

    def __init__(self, model: Model, traits: Traits) -> None:
        self.messages: list[Message] = []
        self.losses: list[str] = []
        self._model = model
        self._traits = traits

    def instruct(self, texts: Iterable[Text]) -> None:
        """Write instructions."""
        self._say("system", self._written(texts))

    def add(self, turn: Turn) -> None:
        """Write one turn, as `aiclient2api.conversation.turns.settled` puts it."""
        if turn.role == "assistant":
            self._assistant(turn)
        elif turn.role == "system":
            self.instruct(part for part in turn.parts if isinstance(part, Text))
        else:
            self._user(turn)

    def _user(self, turn: Turn) -> None:
        said: list[Written] = []
        for part in turn.parts:
            if isinstance(part, Result):
                said += self._result(part)
            elif isinstance(part, Reasoning):
                self.losses.append("reasoning")
            else:
                said += self._written((part,))
        self._say("user", said)

    def _say(self, role: str, said: Sequence[Written]) -> None:
        if said:
            self.messages.append({"role": role, "content": _content(said)})

    def _assistant(self, turn: Turn) -> None:
        calls = called(turn)
        said = self._written(map(self._spoken, turn.parts))
        thought = self._thought(turn)
        if not said and not calls:
            # A message that says nothing is refused, whatever was thought.
            if thought:
                self.losses.append("reasoning")
            return
        message: Message = {"role": "assistant", "content": _content(said, apart=False) or None}
        if not thought and calls and self._traits.reasoning_with_calls:
            thought = _UNKEPT
        if thought:
            message["reasoning_content"] = thought
        if calls:
            message["tool_calls"] = [self._call(call) for call in calls]
        self.messages.append(message)

    def _spoken(self, part: Part) -> Part:
        """Return *part* as an assistant may say it: in words."""
        if isinstance(part, Image):
            return self._instead(part, "image")
        if isinstance(part, File):
            return self._instead(part, "file")
        return self._instead(part, "audio") if isinstance(part, Audio) else part

    def _thought(self, turn: Turn) -> str:
        # A seal says that another vendor's model thought it.
        wanted = self._traits.replays_reasoning
        kept = [
            part.text
            for part in thoughts(turn)
            if wanted and part.seal is None and part.text.strip()
        ]
        if len(kept) < len(thoughts(turn)):
            self.losses.append("reasoning")
        return "\n\n".join(kept)

    def _call(self, call: Call) -> dict[str, Any]:
        if call.cache is not None:
            self.losses.append("cache_control")
        function = {"name": call.name, "arguments": arguments.settled(call.arguments)}
        told = {
            "id": call_ids.short(call.id, CALL_ID),
            "type": "function",
            "function": function,
        }
        if call.seal is None:
            return told
        if call.seal.issuer != NAME:
            self.losses.append("reasoning")
            return told
        return {**told, "extra_content": {"google": {"thought_signature": call.seal.value}}}

    def _result(self, result: Result) -> list[Written]:
        """Write a tool's answer; return what of it has to follow as the user's own words."""
        said = self._written(result.parts)
        shown: list[Written] = []
        if not self._traits.media_in_results:
            shown = [each for each in said if not _is_text(each)]
            said = [each for each in said if _is_text(each)]
        if shown:
            self.losses.append("tool_media")
            shown.insert(0, _text(f"[What the tool {result.name or result.id} showed:]"))
            said = said or [_text(_SHOWN)]
        if result.cache is not None:
            self.losses.append("cache_control")
        if result.is_error:
            self.losses.append("tool_error")
            said = _failing(said)
        id = call_ids.short(result.id, CALL_ID)
        content = _content(said, apart=False)
        self.messages.append({"role": "tool", "tool_call_id": id, "content": content})
        return shown

    def _written(self, parts: Iterable[Part]) -> list[Written]:
        return [written for part in parts if (written := self._part(part)) is not None]

    def _part(self, part: Part) -> Written | None:
        if isinstance(part, Text | Refusal):
            return self._marked(_text(part.text), part) if part.text else None
        if isinstance(part, Image):
            written = self._image(part)
        elif isinstance(part, File):
            written = self._file(part)
        elif isinstance(part, Audio):
            written = self._sound(part)
        else:
            return None
        return self._marked(written, part)

    def _marked(self, written: Written, part: Part) -> Written:
        marker = part.cache if isinstance(part, Text | Image | File) else None
        if marker is None:
            return written
        if not self._model.marks:
            self.losses.append("cache_control")
            return written
        return {**written, "cache_control": marker}

    def _image(self, part: Image) -> Written:
        media = part.media
        if isinstance(media, Inline):
            url = data_url(media)
        elif isinstance(media, Remote) and is_fetched(media.url):
            url = media.url
        else:
            return _text(self._instead(part, "image").text)
        detail = {"detail": part.detail} if part.detail else {}
        return {"type": "image_url", "image_url": {"url": url, **detail}}

    def _file(self, part: File) -> Written:
        media = part.media
        if isinstance(media, Inline):
            text = _text_in(media)
            if text is not None:
                # As a file it would be refused: https://platform.openai.com/docs/guides/pdf-files
                head = f"[The file {part.name}:]\n" if part.name else ""
                return _text(head + text)
            told = {"filename": file_name(part, media.mime), "file_data": data_url(media)}
            return {"type": "file", "file": told}
        if isinstance(media, Uploaded) and media.dialect == STORE:
            return {"type": "file", "file": {"file_id": media.id}}
        return _text(self._instead(part, "file").text)

    def _sound(self, part: Audio) -> Written:
        media = part.media
        form = _SOUNDS.get(media.mime.lower()) if isinstance(media, Inline) else None
        if form is None or not isinstance(media, Inline):
            return _text(self._instead(part, "audio").text)
        return {"type": "input_audio", "input_audio": {"data": media.data, "format": form}}

    def _instead(self, part: Image | File | Audio, loss: str) -> Text:
        """Return a sentence in the place of what cannot be sent."""
        media = part.media
        self.losses.append("file_id" if isinstance(media, Uploaded) else loss)
        what = {"image": "An image", "file": "A file", "audio": "A sound or video"}[loss]
        name = part.name if isinstance(part, File) else ""
        name = name or (media.url if isinstance(media, Remote) else "")
        name = name or (media.id if isinstance(media, Uploaded) else "")
        return Text(f"[{what}{f' ({name})' if name else ''} was given here.]")


def is_fetched(url: str) -> bool:
    """Say whether an upstream can fetch from *url* by itself."""
    return url[:8].lower().startswith(("https://", "http://"))


def _text(text: str) -> Written:
    return {"type": "text", "text": text}


def _is_text(written: Written) -> bool:
    return bool(written["type"] == "text")


def _content(said: Sequence[Written], *, apart: bool = True) -> str | list[Written]:
    """
    Return parts as one string if they are texts without markers.

    :param apart: A line ends between two of them. What a model or a tool said is cut into
        parts anywhere, within a sentence even, and nothing may be put in between.
    """
    if not all(each.keys() == {"type", "text"} for each in said):
        return [*said]
    texts = [each["text"] for each in said]
    if apart:
        ends = [text if text[-1:].isspace() else f"{text}\n" for text in texts[:-1]]
        texts = [*ends, *texts[-1:]]
    return "".join(texts)


def _failing(said: Sequence[Written]) -> list[Written]:
    """Return a tool's answer with words that say that it failed."""
    if not said:
        return [_text("Error: The tool failed.")]
    first, *rest = said
    if not _is_text(first):
        return [_text("Error:"), *said]
    return [{**first, "text": f"Error: {first['text']}"}, *rest]


def _text_in(media: Inline) -> str | None:
    """Return the text of a file that holds nothing else, None for any other."""
    mime = media.mime.lower().partition(";")[0].strip()
    if not mime.startswith("text/") and mime not in _TEXTS:
        return None
    try:
        return base64.b64decode(media.data).decode()
    except (ValueError, binascii.Error):
        return None
