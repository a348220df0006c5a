"""
Edits of a system prompt, wherever a dialect keeps it.

A prompt is a JSON value: a string, or an array of parts with a ``text`` each. These
functions return edits of byte ranges, so whatever they do not name stays as it was.
They must never know under which key a prompt is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aiclient2api.dialects.wire_request import Fields, kind_at, wrong
from aiclient2api.framing.json_text import Edit, JSONText, quote, text_of
from aiclient2api.values import SystemEdit

Range = tuple[int, int]


def revised(edit: SystemEdit, text: str) -> str:
    """Return *text* after the edit's literal replacements, in their order."""
    for old, new in edit.replacements:
        if old:
            text = text.replace(old, new)
    return text


def added(edit: SystemEdit) -> bytes:
    """Return the operator's text as a JSON string, replacements made."""
    return quote(revised(edit, edit.text or ""))


def replaced(text: JSONText, value: Range, edit: SystemEdit, *, where: str) -> list[Edit]:
    """Return the edits that make the replacements in every text of a prompt."""
    return [
        change
        for token in _tokens(text, value, where)
        for change in _retold(text, token, edit, suffix="")
    ]


def appended(
    text: JSONText, value: Range, edit: SystemEdit, *, part: bytes, where: str
) -> list[Edit]:
    """
    Return the edits that add the operator's text to a prompt and make the replacements.

    :param part: A new text part, its text in it, for a prompt that is a list.
    """
    start, end = value
    kind = kind_at(text, start)
    if kind == "null":
        return [(start, end, added(edit))]
    if kind == "string":
        return _retold(text, value, edit, suffix=f"\n{edit.text}")
    edits = replaced(text, value, edit, where=where)
    if kind == "object":
        return [(start, start, b"["), *edits, (end, end, b"," + part + b"]")]
    elements = text.elements(start)
    if not elements:
        return [(start + 1, start + 1, part)]
    last = elements[-1][1]
    return [*edits, (last, last, b"," + part)]


def overwritten(text: JSONText, value: Range, *, string: bytes, where: str) -> Edit:
    """
    Return the edit that makes a prompt of one text only.

    A string stays a string; a list becomes a list of one text part that keeps the
    last cache mark the list had, so that the prompt is cached as before.
    """
    start, end = value
    _tokens(text, value, where)
    if kind_at(text, start) in ("string", "null"):
        return start, end, string
    mark = b""
    for at, _ in text.elements(start):
        marked = Fields.of(text, at, where).one("cache_control")
        if marked is not None:
            mark = b',"cache_control":' + text.raw[marked.start : marked.end]
    return start, end, b'[{"type":"text","text":' + string + mark + b"}]"


def with_role(text: JSONText, items: Iterable[Range], roles: Sequence[str]) -> list[int]:
    """Return the indexes of those objects among *items* whose ``role`` is one of *roles*."""
    quoted = [quote(role) for role in roles]
    found = []
    for index, (start, end) in enumerate(items):
        # Most messages are somebody else's: a look at the bytes saves reading them.
        if kind_at(text, start) != "object" or (
            text.raw.find(b"\\u", start, end) < 0
            and not any(text.raw.find(role, start, end) >= 0 for role in quoted)
        ):
            continue
        fields = Fields.of(text, start)
        role = fields.one("role")
        if fields.kind(role) == "string" and role and text_of(fields.raw(role)) in roles:
            found.append(index)
    return found


def dropped(items: Sequence[Range], indexes: Iterable[int]) -> list[Edit]:
    """Return the edits that take these elements out of an array, each with one comma."""
    gone = set(indexes)
    kept = [index for index in range(len(items)) if index not in gone]
    if not kept:
        return [(items[0][0], items[-1][1], b"")] if items else []
    first = kept[0]
    edits = [(items[0][0], items[first][0], b"")] if first else []
    edits += [(items[i - 1][1], items[i][1], b"") for i in sorted(gone) if i > first]
    return edits


def _tokens(text: JSONText, value: Range, where: str) -> list[Range]:
    """Return where the strings of a prompt stand."""
    start = value[0]
    kind = kind_at(text, start)
    if kind == "string":
        return [value]
    if kind == "null":
        return []
    if kind == "object":
        parts = [value]
    elif kind == "array":
        parts = text.elements(start)
    else:
        raise wrong(where, kind, "a string or a list of text parts")
    tokens = []
    for index, (at, _) in enumerate(parts):
        path = f"{where}[{index}]"
        if kind_at(text, at) != "object":
            raise wrong(path, kind_at(text, at), "an object with a text")
        part = Fields.of(text, at, path)
        member = part.check("text", "string", "null", "absent")
        if member is not None and part.kind(member) == "string":
            tokens.append((member.start, member.end))
    return tokens


def _retold(text: JSONText, token: Range, edit: SystemEdit, *, suffix: str) -> list[Edit]:
    start, end = token
    plain = text_of(text.raw[start:end]) + suffix
    told = revised(edit, plain)
    if told != plain:
        return [(start, end, quote(told))]
    if suffix:
        return [(end - 1, end - 1, quote(suffix)[1:-1])]
    return []
