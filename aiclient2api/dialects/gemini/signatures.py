"""
Gemini: take out of a body what models of other dialects sealed.

A client of this dialect carries their seals as thought signatures, which Google would refuse.
Byte ranges are taken out or replaced, nothing else is touched. It must never know why a body
goes where it goes.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from aiclient2api.conversation import seals
from aiclient2api.dialects.system_prompt import dropped
from aiclient2api.dialects.wire_request import Fields, kind_at
from aiclient2api.framing.json_text import Edit, Member, quote, text_of

BYPASS = "skip_thought_signature_validator"
"""
What stands for the signature of a call that has none.

Gemini 3 refuses a call in the history without one; this, too, it takes:
https://ai.google.dev/gemini-api/docs/thought-signatures
"""
BYPASSES = (BYPASS, "context_engineering_is_the_way_to_go")
"""All such words. None is a seal."""

_SIGNATURE = ("thoughtSignature", "thought_signature")
_CALL = ("functionCall", "function_call")


@attrs.define
class _Part:
    """
    One part of a content.

    :ivar own: The signature of this dialect's own that a parcel held, if it did.
    :ivar foreign: Whether somebody else's was carried here.
    """

    fields: Fields
    signature: Member | None
    thought: bool
    call: bool
    own: str | None = None
    foreign: bool = False
    gone: bool = False


@attrs.define
class _Content:
    """One content, its parts and where they stand."""

    start: int
    end: int
    role: str
    places: list[tuple[int, int]]
    parts: list[_Part]


def without_foreign(holder: Fields, dialect: str) -> tuple[list[Edit], bool]:
    """
    Return the edits that leave no foreign seal in the contents under *holder*.

    A thought goes with its seal, and with the pieces it was streamed in. On the first call
    of a turn there stands `BYPASS` instead, for a call must have a signature there.

    :return: And whether any thoughts go.
    """
    member = holder.one("contents")
    if member is None:
        return [], False
    contents = list(_contents(holder, member, dialect))
    _mark(contents)
    edits: list[Edit] = []
    empty: list[int] = []
    for index, content in enumerate(contents):
        gone = [number for number, part in enumerate(content.parts) if part.gone]
        if gone and len(gone) == len(content.places):
            empty.append(index)
            continue
        edits += dropped(content.places, gone)
    calls = set(_first_calls(contents))
    for index, content in enumerate(contents):
        if index not in empty:
            for number, part in enumerate(content.parts):
                if not part.gone:
                    edits += _signed(part, first=(index, number) in calls)
    lost = any(part.gone for content in contents for part in content.parts)
    places = [(content.start, content.end) for content in contents]
    if empty and holder.kind(member) != "array":
        return [(*places[0], b"[]")], lost
    return edits + dropped(places, empty), lost


def _contents(holder: Fields, member: Member, dialect: str) -> Iterator[_Content]:
    for start, end in _items(holder, member):
        if kind_at(holder.text, start) != "object":
            yield _Content(start, end, "", [], [])
            continue
        content = Fields.of(holder.text, start)
        parts, role = content.one("parts"), content.one("role")
        name = text_of(content.raw(role)) if role and content.kind(role) == "string" else "user"
        places = _items(content, parts) if parts is not None else []
        # Places and parts go together, so that a part that is none is one to be left alone.
        found = [_part(content, place[0], dialect) for place in places]
        yield _Content(start, end, name, places, found)


def _items(fields: Fields, member: Member) -> list[tuple[int, int]]:
    if fields.kind(member) == "array":
        return fields.text.elements(member.start)
    return [(member.start, member.end)]


def _part(content: Fields, start: int, dialect: str) -> _Part:
    if kind_at(content.text, start) != "object":
        return _Part(content, None, thought=False, call=False)
    fields = Fields.of(content.text, start)
    thought = fields.one("thought")
    part = _Part(
        fields,
        fields.one(*_SIGNATURE),
        thought=thought is not None and fields.raw(thought) == b"true",
        call=fields.one(*_CALL) is not None,
    )
    if part.signature is not None and fields.kind(part.signature) == "string":
        text = text_of(fields.raw(part.signature))
        if text.startswith(seals.PARCEL):
            seal = seals.taken(text, dialect)
            part.foreign = seal.issuer != dialect or not seal.value
            part.own = None if part.foreign else seal.value
    return part


def _mark(contents: list[_Content]) -> None:
    """Mark the parts that go: foreign thoughts, and texts that only carried a seal."""
    pieces: list[_Part] = []
    for content in contents:
        for part in content.parts:
            if not part.thought or content.role != "model":
                pieces.clear()
            if part.thought:
                pieces.append(part)
            if part.foreign and part.thought:
                for piece in pieces:
                    piece.gone = True
            elif part.foreign and not part.call:
                part.gone = _is_empty(part.fields)
            if part.signature is not None:
                pieces.clear()


def _is_empty(fields: Fields) -> bool:
    return all(
        member.key in (*_SIGNATURE, "thought")
        or (member.key == "text" and fields.raw(member) in (b'""', b"null"))
        for member in fields.members
    )


def _first_calls(contents: list[_Content]) -> Iterator[tuple[int, int]]:
    """Yield the places of the first call in each turn of the model's."""
    called = False
    for index, content in enumerate(contents):
        if content.role != "model":
            called = False
            continue
        for number, part in enumerate(content.parts):
            if part.call and not called:
                called = True
                yield index, number


def _signed(part: _Part, *, first: bool) -> list[Edit]:
    """Return the edits of a part's signature."""
    member = part.signature
    if member is None:
        return []
    if part.own is not None:
        return [(member.start, member.end, quote(part.own))]
    if not part.foreign:
        return []
    if part.call and first:
        return [(member.start, member.end, quote(BYPASS))]
    places = [(each.key_start, each.end) for each in part.fields.members]
    return dropped(places, [part.fields.members.index(member)])
