"""
Gemini: read the contents of a request, a part at a time.

A part that no other dialect has a word for is left out and named. It must never know what
goes on around the contents.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from aiclient2api.conversation import seals
from aiclient2api.conversation.request import (
    Audio,
    Call,
    File,
    Image,
    Part,
    Reasoning,
    Result,
    Text,
    Turn,
)
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.gemini.media import read_file, read_inline
from aiclient2api.dialects.gemini.request import NAME
from aiclient2api.dialects.gemini.signatures import BYPASSES
from aiclient2api.dialects.nodes import Node, code
from aiclient2api.errors import InvalidRequest
from aiclient2api.framing.json_text import write

_ROLES = {"user": "user", "model": "assistant", "function": "user", "tool": "user"}
_MODIFIERS = ("thought", "thoughtSignature")
_ANSWERS = ("result", "output", "content")
_BLOB = ("mimeType", "data", "displayName")
_FILE = ("mimeType", "fileUri", "displayName")
_CALL = ("name", "args", "id")
_RESPONSE = ("name", "response", "id", "parts")


@attrs.define
class _Said:
    """
    A part that may have come in pieces, which are joined when all are there.

    :ivar part: The part, with the text of its first piece.
    :ivar pieces: The texts of the others.
    """

    part: Part
    pieces: list[str] = attrs.field(factory=list)

    def grow(self, part: Text | Reasoning) -> None:
        """Add a piece; the seal comes with the last one."""
        if isinstance(self.part, Reasoning) and isinstance(part, Reasoning):
            self.part = attrs.evolve(self.part, seal=part.seal)
        self.pieces.append(part.text)

    def whole(self) -> Part:
        """Return the part with all its text."""
        part = self.part
        if self.pieces and isinstance(part, Text | Reasoning):
            return attrs.evolve(part, text="".join((part.text, *self.pieces)))
        return part


@attrs.define
class _Calls:
    """
    The calls so far, to find those that are answered.

    Ids are optional in this dialect: an answer without one goes to the first call of its
    name in the last turn with calls that is still unanswered.
    """

    ids: set[str] = attrs.field(factory=set)
    by_id: dict[str, str] = attrs.field(factory=dict)
    answered: set[str] = attrs.field(factory=set)
    latest: dict[str, deque[str]] = attrs.field(factory=lambda: defaultdict(deque))
    older: dict[str, list[str]] = attrs.field(factory=lambda: defaultdict(list))

    def begin(self) -> None:
        """Note that the model speaks again."""
        for name, ids in self.latest.items():
            self.older[name].extend(reversed(ids))
        self.latest.clear()

    def add(self, given: str, made: str, name: str) -> str:
        """
        Note a call and return its id, which no other has.

        :param given: Its own id, ``""`` if it has none.
        :param made: An id for it if it needs one.
        """
        id = given if given and given not in self.ids else made
        while id in self.ids:
            id += "_"
        self.ids.add(id)
        if given:
            self.by_id[given] = id
        self.latest[name].append(id)
        return id

    def find(self, given: str, name: str) -> str | None:
        """Return the id of the call that is answered, None if there is no such call."""
        found = self.by_id.get(given)
        if found is None:
            found = self._unanswered(name)
        if found is not None:
            self.answered.add(found)
        return found

    def _unanswered(self, name: str) -> str | None:
        latest, older = self.latest[name], self.older[name]
        while latest:
            found = latest.popleft()
            if found not in self.answered:
                return found
        while older:
            found = older.pop()
            if found not in self.answered:
                return found
        return None


class ContentsIn:
    """
    Reads contents, and keeps account of what was left out.

    :ivar dropped: Codes of `aiclient2api.conversation.losses`.
    """

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self._said: list[tuple[str, list[_Said]]] = []
        self._calls = _Calls()
        self._readers: Mapping[str, Callable[[Node, Node, str], Iterator[Part]]] = {
            "functionCall": self._function_call,
            "functionResponse": self._function_response,
            "inlineData": self._inline_data,
            "fileData": self._file_data,
        }

    def system(self, request: Node) -> tuple[Text, ...]:
        """Return the system instruction of *request*: a content, or a bare text."""
        value = request.get("systemInstruction")
        if isinstance(value, str):
            return (Text(value),) if value else ()
        instruction = request.object("systemInstruction")
        texts: list[Text] = []
        for part in instruction.objects("parts") if instruction is not None else ():
            for said in self._part(part, ""):
                if isinstance(said, Text):
                    texts.append(said)
                else:
                    self.dropped.append(code("part", type(said).__name__.lower()))
        return tuple(texts)

    def turns(self, request: Node) -> tuple[Turn, ...]:
        """Return what was said in the contents of *request*."""
        before = ""
        for number, content in enumerate(request.objects("contents")):
            name = content.text("role") or "user"
            role = _ROLES.get(name)
            if role is None:
                raise InvalidRequest(
                    f"The field {content.path('role')} is no role that is known; send user or"
                    " model.",
                    code="invalid_value",
                    param=content.path("role"),
                )
            if role == "assistant" and before != role:
                self._calls.begin()
            before = role
            for index, part in enumerate(content.objects("parts")):
                for said in self._part(part, f"call_{number}_{index}"):
                    self._say(role, said)
        return tuple(
            Turn(role, tuple(said.whole() for said in parts)) for role, parts in self._said
        )

    def _say(self, role: str, part: Part) -> None:
        # Whoever is said to speak: calls are the model's, answers are not.
        if isinstance(part, Call | Reasoning):
            role = "assistant"
        elif isinstance(part, Result):
            role = "user"
        if not self._said or self._said[-1][0] != role:
            self._said.append((role, []))
        parts = self._said[-1][1]
        last = parts[-1].part if parts else None
        if (
            isinstance(part, Reasoning)
            and isinstance(last, Reasoning)
            and last.seal is None
            and not (part.seal is not None and part.seal.hidden)
        ):
            # A thought that was streamed comes back in pieces, the seal with the last.
            parts[-1].grow(part)
        elif role == "assistant" and isinstance(part, Text) and isinstance(last, Text):
            # So does a text: what was streamed in pieces is one text, nothing between them.
            parts[-1].grow(part)
        else:
            parts.append(_Said(part))

    def _part(self, part: Node, id: str) -> Iterator[Part]:
        kind = next((key for key in part.told() if key in self._readers), "")
        signature = part.text("thoughtSignature")
        seal = _seal(signature)
        others = [key for key in part.told() if key not in _MODIFIERS and key != kind]
        if kind:
            inner = part.object(kind)
            assert inner is not None
            yield from self._readers[kind](part, inner, id)
        elif part.get("text") is not None:
            others.remove("text")
            text = part.text("text")
            if part.flag("thought"):
                if text or seal is not None:
                    yield Reasoning(text, seal)
            elif text:
                yield Text(text)
        elif part.flag("thought") and seal is not None:
            yield Reasoning("", seal)
        if seal is not None and kind != "functionCall" and not part.flag("thought"):
            self.dropped.append("part:thoughtSignature")
        family = "field" if kind or part.get("text") is not None else "part"
        self.dropped += [code(family, key) for key in others]

    def _function_call(self, part: Node, call: Node, made: str) -> Iterator[Part]:
        self._unread(call, _CALL)
        name, args = call.name("name"), call.get("args")
        if args is not None and not isinstance(args, dict):
            raise call.wrong("args", "an object")
        arguments = write(args).decode() if args else "{}"
        id = self._calls.add(call.text("id"), made, name)
        yield Call(id, name, arguments, _seal(part.text("thoughtSignature")))

    def _function_response(self, part: Node, answer: Node, made: str) -> Iterator[Part]:
        self._unread(answer, _RESPONSE)
        given, name = answer.text("id"), answer.text("name")
        id = self._calls.find(given, name) or given or made
        text, is_error = _answered(answer)
        parts: list[Text | Image | File | Audio] = [Text(text)] if text else []
        for inner in answer.objects("parts"):
            for said in self._part(inner, ""):
                if isinstance(said, Text | Image | File | Audio):
                    parts.append(said)
                else:
                    self.dropped.append(code("part", type(said).__name__.lower()))
        yield Result(id, name, tuple(parts), is_error)

    def _inline_data(self, part: Node, blob: Node, made: str) -> Iterator[Part]:
        self._unread(blob, _BLOB)
        yield read_inline(blob)

    def _file_data(self, part: Node, file: Node, made: str) -> Iterator[Part]:
        self._unread(file, _FILE)
        yield read_file(file)

    def _unread(self, node: Node, read: tuple[str, ...]) -> None:
        self.dropped += [code("field", key) for key in node.told() if key not in read]


def _answered(answer: Node) -> tuple[str, bool]:
    """Return the text of a function's answer, and whether it is an error."""
    response: Any = answer.get("response")
    if response is None:
        return "", False
    if isinstance(response, str):
        return response, False
    if isinstance(response, dict):
        error = response.get("error")
        if error:
            return error if isinstance(error, str) else write(error).decode(), True
        if len(response) == 1:
            ((key, value),) = response.items()
            if key in _ANSWERS and isinstance(value, str):
                return value, False
    return write(response).decode(), False


def _seal(signature: str) -> Seal | None:
    if not signature or signature in BYPASSES:
        return None
    seal = seals.taken(signature, NAME)
    # A parcel that was cut or altered has no issuer: nobody could do anything with it.
    return seal if seal.issuer and seal.value else None
