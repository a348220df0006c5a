"""
What the four request classes share: a JSON object seen as fields with places.

It finds a field, says what is wrong with one, and makes the edit that changes one.
It must never know which fields a dialect has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from aiclient2api.conversation.losses import merged
from aiclient2api.errors import InvalidRequest
from aiclient2api.framing.json_text import Edit, JSONText, Member, quote, read, text_of, write
from aiclient2api.values import Headers

_KINDS = {
    ord('"'): "string",
    ord("["): "array",
    ord("{"): "object",
    ord("n"): "null",
    ord("t"): "boolean",
    ord("f"): "boolean",
}


@attrs.frozen
class Fields:
    """
    One object within a body.

    :ivar start: Where its opening brace stands.
    :ivar where: Its JSON path, ``""`` for the body itself.
    """

    text: JSONText
    start: int
    members: tuple[Member, ...] = attrs.field(repr=False)
    where: str = ""

    @classmethod
    def of(cls, text: JSONText, start: int | None = None, where: str = "") -> Fields:
        """Read the object at *start*, or the body itself."""
        at = text.start if start is None else start
        return cls(text, at, tuple(text.members(at)), where)

    def path(self, key: str) -> str:
        """Return the JSON path of *key*."""
        return f"{self.where}.{key}" if self.where else key

    def one(self, *keys: str) -> Member | None:
        """
        Return the member under any of *keys* (spellings of one name), or None.

        :raise InvalidRequest: if there is more than one: two readers of the same
            bytes might each take another.
        """
        found = [member for member in self.members if member.key in keys]
        if len(found) > 1:
            path = self.path(found[1].key)
            raise InvalidRequest(
                f"The field {path} is given more than once; send it once.",
                code="duplicate_field",
                param=path,
            )
        return found[0] if found else None

    def kind(self, member: Member | None) -> str:
        """Return the value's JSON type; ``absent`` without a member."""
        if member is None:
            return "absent"
        return kind_at(self.text, member.start)

    def raw(self, member: Member) -> bytes:
        """Return the value's bytes."""
        return self.text.raw[member.start : member.end]

    def name(self, key: str) -> str:
        """
        Return the string under *key*, which must be a name: printable, not empty.

        :raise InvalidRequest: if it is not.
        """
        member = self.one(key)
        name = text_of(self.raw(member)) if member and self.kind(member) == "string" else ""
        if not is_name(name):
            raise wrong(self.path(key), self.kind(member), "a non-empty string")
        return name

    def flag(self, key: str) -> bool:
        """
        Return the boolean under *key*; absent and null are False.

        :raise InvalidRequest: if it is of another type.
        """
        member = self.one(key)
        kind = self.kind(member)
        if kind not in ("boolean", "null", "absent"):
            raise wrong(self.path(key), kind, "true or false")
        return member is not None and self.raw(member) == b"true"

    def check(self, key: str, *kinds: str, spellings: Sequence[str] = ()) -> Member | None:
        """
        Return the member under *key* after a look at its type.

        :param kinds: JSON types that are right; ``absent`` if it may be left out.
        :raise InvalidRequest: if it is of another type.
        """
        member = self.one(key, *spellings)
        kind = self.kind(member)
        if kind not in kinds:
            wanted = " or ".join(
                f"an {k}" if k[0] in "ao" else f"a {k}"
                for k in kinds
                if k not in ("absent", "null")
            )
            raise wrong(self.path(member.key if member else key), kind, wanted)
        return member

    def put(self, key: str, value: bytes) -> Edit:
        """Return the edit that sets *key*, in place or behind the last member."""
        member = self.one(key)
        if member is not None:
            return member.start, member.end, value
        return self.behind([(key, value)])

    def behind(self, items: Sequence[tuple[str, bytes]]) -> Edit:
        """Return the edit that adds *items*, none of whose keys there is, to the others."""
        added = b",".join(quote(key) + b":" + value for key, value in items)
        if not self.members:
            return self.start + 1, self.start + 1, added
        end = self.members[-1].end
        return end, end, b"," + added

    def without(self, member: Member) -> Edit:
        """Return the edit that takes *member* out, with one comma."""
        index = self.members.index(member)
        if index:
            return self.members[index - 1].end, member.end, b""
        following = self.members[1].key_start if len(self.members) > 1 else member.end
        return member.key_start, following, b""


@attrs.frozen
class BodyRequest:
    """
    A request whose body says everything, the model and the wish for a stream included.

    :ivar losses: Codes of what a conversion could not carry.
    :ivar session: As in `Route`.
    """

    body: Fields = attrs.field(repr=False)
    model: str
    streaming: bool
    headers: Headers = attrs.field(default=(), repr=False)
    query: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    action: str = "generate"
    losses: tuple[str, ...] = ()
    session: str | None = attrs.field(default=None, repr=False)

    @property
    def framing(self) -> str:
        """How the answer is framed: ``sse`` for a stream, else ``whole``."""
        return "sse" if self.streaming else "whole"

    @property
    def raw(self) -> bytes:
        """The body as it stands."""
        return self.body.text.raw

    def to_bytes(self) -> bytes:
        """Return the body to send."""
        return self.raw


Request = TypeVar("Request", bound=BodyRequest)


def amended(
    request: Request, *, model: str | None, streaming: bool | None, edits: Sequence[Edit]
) -> Request:
    """
    Return a copy of *request* with model and stream flag changed where not None.

    :param edits: What else is to change in the body.
    """
    body, edits = request.body, list(edits)
    if model is not None and model != request.model:
        edits.append(body.put("model", quote(model)))
    if streaming is not None and streaming != request.streaming:
        edits.append(body.put("stream", b"true" if streaming else b"false"))
    return attrs.evolve(
        request,
        body=Fields.of(body.text.spliced(edits)) if edits else body,
        model=request.model if model is None else model,
        streaming=request.streaming if streaming is None else streaming,
    )


def freed(request: Request, *, edits: Sequence[Edit], losses: Sequence[str]) -> Request:
    """Return *request* without foreign seals: *edits* take them out, *losses* say what went."""
    if not edits:
        return request
    changed = amended(request, model=None, streaming=None, edits=edits)
    return attrs.evolve(changed, losses=merged(changed.losses, losses))


def composed(document: Mapping[str, Any]) -> Fields:
    """Return a body made of *document*, which holds nothing but what JSON can say."""
    body = write(document)
    return Fields.of(JSONText(body, body))


def wrong(path: str, kind: str, wanted: str) -> InvalidRequest:
    """Return the error for a field that is not of the type we read."""
    said = "is missing" if kind == "absent" else f"is of the wrong form ({kind})"
    return InvalidRequest(
        f"The field {path} {said}; send {wanted}.",
        code="missing_field" if kind == "absent" else "invalid_type",
        param=path,
    )


def is_name(text: str) -> bool:
    """Say whether *text* can name a model: in a header, too, so nothing unprintable."""
    return bool(text.strip()) and text.isprintable()


def kind_at(text: JSONText, at: int) -> str:
    """Return the JSON type of the value at *at*."""
    return _KINDS.get(text.raw[at], "number")


def objects(fields: Fields, member: Member) -> Iterator[tuple[int, int]]:
    """
    Yield the byte ranges of the array under *member*, whose elements are objects.

    :raise InvalidRequest: if one is not.
    """
    for index, (start, end) in enumerate(fields.text.elements(member.start)):
        kind = kind_at(fields.text, start)
        if kind != "object":
            raise wrong(f"{fields.path(member.key)}[{index}]", kind, "an object")
        yield start, end


def chosen(names: Sequence[bytes], headers: Mapping[bytes, bytes]) -> Headers:
    """Return those of the client's headers that the dialect passes on."""
    return tuple((name, headers[name]) for name in names if name in headers)


def decoded(text: JSONText) -> dict[str, Any]:
    """Return the whole body decoded, for a look at its texts; ``{}`` if that fails."""
    body = read(text.raw)
    return body if isinstance(body, dict) else {}


def entry(body: Any, key: str) -> Any:
    """Return ``body[key]``, None if *body* is no object or has no such key."""
    return body.get(key) if isinstance(body, dict) else None


def listed(value: Any) -> list[Any]:
    """Return *value* if it is a list, a list of it if it is an object, else ``[]``."""
    if isinstance(value, dict):
        return [value]
    return value if isinstance(value, list) else []


def text_in(content: Any) -> str:
    """
    Return the text of a message's content: a string, or parts of any nesting.

    Looks into ``text``, ``content`` and ``output`` of a part, so that what a tool
    answered counts.
    """
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content.get(key) for key in ("text", "content", "output")]
    if not isinstance(content, list):
        return ""
    return "\n".join(text for text in map(text_in, content) if text)
