"""
The messages of a request, read into turns.

A tool's answer is a message of its own here, and so are instructions wherever they stand.
It must never know what the model is asked to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs

from aiclient2api.conversation.arguments import settled
from aiclient2api.conversation.request import (
    Audio,
    Call,
    File,
    Image,
    Part,
    Reasoning,
    Refusal,
    Result,
    Text,
    Turn,
)
from aiclient2api.conversation.seals import Seal, taken
from aiclient2api.conversation.tools import arguments_of
from aiclient2api.dialects.nodes import Node, code, kind_of
from aiclient2api.dialects.openai_chat.request import NAME
from aiclient2api.dialects.openai_media import read_audio, read_file, read_image
from aiclient2api.dialects.wire_request import entry, listed, wrong
from aiclient2api.framing.json_text import write

_TEXTS = ("text", "input_text", "output_text")
# What every message may have; the last two are notes that libraries make of an answer.
_KNOWN = frozenset(
    {"role", "content", "name", "cache_control", "parsed", "provider_specific_fields"}
)
_KNOWN_OF = {
    "assistant": frozenset(
        {
            "reasoning_content",
            "reasoning",
            "reasoning_details",
            "refusal",
            "images",
            "annotations",
            "audio",
            "tool_calls",
            "function_call",
        }
    ),
    "tool": frozenset({"tool_call_id"}),
}
# https://platform.openai.com/docs/guides/prompt-caching: it says what Anthropic's marker says.
_BREAKPOINT: Mapping[str, Any] = {"type": "ephemeral"}


@attrs.define
class Messages:
    """
    What the messages of one request say.

    :ivar system: Instructions that stand before everything else.
    :ivar dropped: What was found no word for.
    """

    system: list[Text] = attrs.field(factory=list)
    turns: list[Turn] = attrs.field(factory=list)
    dropped: list[str] = attrs.field(factory=list)
    _unanswered: dict[str, str] = attrs.field(factory=dict)
    _functions: int = 0

    def take(self, message: Node) -> None:
        """
        Read one message.

        :raise InvalidRequest: if it is malformed.
        """
        role = message.choice("role", *_READERS)
        if not role:
            raise message.wrong("role", "system, developer, user, assistant or tool")
        known = _KNOWN | _KNOWN_OF.get(role, frozenset())
        self.dropped += [
            code("field", f"messages.{key}")
            for key, value in message.members.items()
            if value is not None and key not in known
        ]
        if message.has("name") and role not in ("tool", "function"):
            self.dropped.append("name")
        _READERS[role](self, message)

    def _instructions(self, message: Node) -> None:
        texts: list[Text] = []
        for part in self._parts(message):
            if isinstance(part, Text):
                texts.append(part)
            else:
                self.dropped.append(code("part", type(part).__name__.lower()))
        if self.turns:
            self._say("system", texts)
        else:
            self.system += texts

    def _user(self, message: Node) -> None:
        self._say("user", self._parts(message))

    def _assistant(self, message: Node) -> None:
        thought = _thought(message)
        # Some upstreams insist on a thought that is not empty, so clients send a blank.
        parts: list[Part] = [Reasoning(thought)] if thought.strip() else []
        parts += self._parts(message)
        refusal = message.text("refusal")
        if refusal:
            parts.append(Refusal(refusal))
        parts += [read_image(image) for image in message.objects("images")]
        if message.members.get("annotations"):
            self.dropped.append("citations")
        if message.has("audio"):
            self.dropped.append(code("part", "audio"))
        for call in message.objects("tool_calls"):
            parts += self._call(call)
        parts += self._function_call(message)
        self._say("assistant", parts)

    def _tool(self, message: Node) -> None:
        id = message.name("tool_call_id")
        self._answer(message, Result(id, message.text("name")))

    def _function(self, message: Node) -> None:
        name = message.name("name")
        self._answer(message, Result(self._unanswered.pop(name, ""), name))

    def _answer(self, message: Node, result: Result) -> None:
        parts = tuple(
            part for part in self._parts(message) if isinstance(part, Text | Image | File | Audio)
        )
        cache = None if isinstance(message.members.get("content"), str) else _cache(message)
        self._say("user", [attrs.evolve(result, parts=parts, cache=cache)])

    def _call(self, node: Node) -> Iterator[Part]:
        kind = node.text("type") or "function"
        if kind not in ("function", "custom"):
            self.dropped.append(code("part", kind))
            return
        told = node.object(kind)
        if told is None:
            raise node.wrong(kind, "an object with the name of the tool")
        given = arguments_of(told.text("input")) if kind == "custom" else _arguments(told)
        yield Call(node.name("id"), told.name("name"), given, _seal(node.members))

    def _function_call(self, message: Node) -> Iterator[Part]:
        told = message.object("function_call")
        if told is None:
            return
        # These calls have no ids. One that counts is the same each time a history is sent.
        self._functions += 1
        id, name = f"call_function_{self._functions}", told.name("name")
        self._unanswered[name] = id
        yield Call(id, name, _arguments(told))

    def _parts(self, message: Node) -> Iterator[Part]:
        content = message.members.get("content")
        if isinstance(content, str):
            if content:
                yield Text(content, _cache(message))
            return
        if content is not None and not isinstance(content, list):
            path = message.path("content")
            raise wrong(path, kind_of(content), "a string or an array of parts")
        for part in message.objects("content"):
            kind = part.name("type")
            reader = _PARTS.get(kind)
            if kind in _TEXTS:
                text = part.text("text")
                if text:
                    yield Text(text, _cache(part))
            elif reader is not None:
                yield reader(part)
            else:
                self.dropped.append(code("part", kind))

    def _say(self, role: str, parts: Iterable[Part]) -> None:
        told = tuple(parts)
        if told:
            self.turns.append(Turn(role, told))


_READERS: dict[str, Callable[[Messages, Node], None]] = {
    "system": Messages._instructions,
    "developer": Messages._instructions,
    "user": Messages._user,
    "assistant": Messages._assistant,
    "tool": Messages._tool,
    "function": Messages._function,
}


def thoughts_in(details: Any) -> str:
    """Return the text of OpenRouter's ``reasoning_details``: a list, of texts or summaries."""
    told = (entry(each, "text") or entry(each, "summary") for each in listed(details))
    return "".join(text for text in told if isinstance(text, str))


def _thought(message: Node) -> str:
    """Return the thoughts of a message, wherever a vendor has it keep them."""
    for key in ("reasoning_content", "reasoning"):
        text = message.members.get(key)
        if isinstance(text, str) and text:
            return text
    return thoughts_in(message.members.get("reasoning_details"))


def _arguments(told: Node) -> str:
    given = told.members.get("arguments")
    if given is None or isinstance(given, str):
        return settled(given or "")
    # Some clients send the object itself.
    return settled(write(given).decode())


def _seal(call: Mapping[str, Any]) -> Seal | None:
    # https://ai.google.dev/gemini-api/docs/thought-signatures
    told = entry(entry(call.get("extra_content"), "google"), "thought_signature")
    if not isinstance(told, str) or not told:
        return None
    seal = taken(told, NAME)
    return seal if seal.issuer else None


def _image(part: Node) -> Part:
    url = part.members.get("image_url")
    detail = Node(url, part.path("image_url")).text("detail") if isinstance(url, dict) else ""
    return attrs.evolve(read_image(part), detail=detail or None, cache=_cache(part))


def _file(part: Node) -> Part:
    told = part.object("file")
    if told is None:
        raise part.wrong("file", "an object with file_data or file_id")
    return attrs.evolve(read_file(told), cache=_cache(part))


def _video(part: Node) -> Part:
    # Of Moonshot, Alibaba and Zhipu; it is written as a picture is.
    where = Node({"image_url": part.members.get("video_url")}, part.where)
    return Audio(read_image(where).media)


_PARTS: dict[str, Callable[[Node], Part]] = {
    "image_url": _image,
    "file": _file,
    "input_audio": read_audio,
    "video_url": _video,
    "refusal": lambda part: Refusal(part.text("refusal")),
}


def _cache(node: Node) -> Mapping[str, Any] | None:
    marker = node.members.get("cache_control")
    if isinstance(marker, dict):
        return marker
    return _BREAKPOINT if node.has("prompt_cache_breakpoint") else None
