"""
JSON as text: check a body, find where its values lie, replace some of them.

A body is relayed byte for byte, so it is never decoded and encoded again: duplicate
keys, spacing, ``1e400`` and lone surrogates all stand in it as the client wrote
them. This module must never know what any key means.
"""

from __future__ import annotations

import codecs
import json
import re
from array import array
from collections.abc import Iterable
from itertools import accumulate
from math import isfinite
from typing import Any

import attrs
import msgspec

from aiclient2api.errors import InvalidRequest

BOM = b"\xef\xbb\xbf"
MAX_DEPTH = 256
MAX_ITEMS = 100_000

Edit = tuple[int, int, bytes]
"""``(start, end, replacement)``: a byte range and what is to stand there instead."""

_RAW = msgspec.json.Decoder(msgspec.Raw)
_SPACE = re.compile(rb"[ \t\r\n]*")
# In pieces: a group repeated without bound takes memory for each turn, and possessive
# groups, which would not, are matched wrongly by the re of Python 3.11.2 (Debian 12):
# https://github.com/python/cpython/issues/106052
_IN_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*){0,1000}', re.DOTALL)
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]+")
_TO_SKELETON = re.compile(rb'[^"{}\[\]]*')
_OFFSET = re.compile(r"\(byte (\d+)\)")
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_LONE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_SURROGATE = re.compile("([\ud800-\udfff])")
_SKELETON = b'"[]{}'
_NOT_SKELETON = bytes(byte for byte in range(256) if byte not in _SKELETON)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_SLICE = 1 << 16
_QUOTE, _COMMA = ord('"'), ord(",")
_CLOSING = {ord("{"): ord("}"), ord("["): ord("]")}


@attrs.frozen
class Member:
    """
    One member of an object, by its place in the text.

    :ivar key_start: Where the key's opening quote stands.
    :ivar start: Where the value starts.
    :ivar end: Where the value ends (exclusive).
    """

    key: str
    key_start: int
    start: int
    end: int


@attrs.frozen
class JSONText:
    """
    A JSON object known to be well-formed, as bytes.

    :ivar raw: The text as it was written.
    :ivar readable: The same, byte for byte as long, but with lone surrogates masked:
        msgspec reads no text that holds one.
    """

    raw: bytes = attrs.field(repr=False)
    readable: bytes = attrs.field(repr=False)

    @property
    def start(self) -> int:
        """Where the object's opening brace stands."""
        return _skip(self.raw, 0)

    def members(self, start: int) -> list[Member]:
        """
        Return the members of the object at *start*, duplicates included, in order.

        :raise InvalidRequest: if it has more than `MAX_ITEMS` of them.
        """
        found: list[Member] = []
        text, at = self.readable, _skip(self.readable, start + 1)
        while text[at] != _CLOSING[text[start]]:
            key_end = _string_end(text, at)
            value = _skip(text, _skip(text, key_end) + 1)
            end = _value_end(text, value)
            found.append(Member(text_of(self.raw[at:key_end]), at, value, end))
            at = _next_item(text, end, len(found))
        return found

    def elements(self, start: int) -> list[tuple[int, int]]:
        """
        Return the byte ranges of the elements of the array at *start*.

        :raise InvalidRequest: if it has more than `MAX_ITEMS` of them.
        """
        found: list[tuple[int, int]] = []
        text, at = self.readable, _skip(self.readable, start + 1)
        while text[at] != _CLOSING[text[start]]:
            end = _value_end(text, at)
            found.append((at, end))
            at = _next_item(text, end, len(found))
        return found

    def spliced(self, edits: Iterable[Edit]) -> JSONText:
        """Return the text with *edits* made; each must leave it well-formed."""
        edits = list(edits)
        if not edits:
            return self
        raw = splice(self.raw, edits)
        if self.readable is self.raw:
            return JSONText(raw, masked(raw))
        return JSONText(
            raw, splice(self.readable, [(start, end, masked(new)) for start, end, new in edits])
        )


def check(body: bytes) -> JSONText:
    """
    Check that *body* is one JSON object, in UTF-8, at most `MAX_DEPTH` deep.

    :raise InvalidRequest: saying what is wrong and at which byte.
    """
    if not body.strip(b" \t\r\n"):
        raise InvalidRequest("The request has no body; send a JSON object.", code="empty_body")
    _check_utf8(body)
    if deeper_than(body, MAX_DEPTH):
        raise InvalidRequest(
            f"The JSON body is nested more than {MAX_DEPTH} levels deep; send a flatter one.",
            code="nested_too_deep",
        )
    text = JSONText(body, masked(body))
    try:
        _RAW.decode(text.readable)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(
            f"The body is not valid JSON ({_place(error, body)}); send one JSON object.",
            code="invalid_json",
        ) from None
    if body[text.start] != ord("{"):
        raise InvalidRequest(
            'The body is JSON but no object; send an object, such as {"model": "..."}.',
            code="invalid_json",
        )
    return text


def deeper_than(body: bytes, limit: int) -> bool:
    """
    Say whether brackets outside strings stand more than *limit* deep anywhere.

    Decoders recurse, this does not: all but quotes and brackets is taken away, then
    an odd number of quotes before a bracket says that it stands in a string.
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    text = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    text = text.translate(None, _NOT_SKELETON).replace(b'""', b"")
    depth, in_string = 0, 0
    for start in range(0, len(text), _SLICE):
        pieces = text[start : start + _SLICE].split(b'"')
        steps = array("b", b"".join(pieces[in_string::2]).translate(_STEPS))
        if max(accumulate(steps, initial=depth)) > limit:
            return True
        depth += sum(steps)
        in_string ^= (len(pieces) - 1) & 1
    return False


def masked(text: bytes) -> bytes:
    """Return *text* with every escaped lone surrogate made ``\\ufffd``, as long as before."""
    # A NUL is never valid JSON, so two of them can stand for an escaped backslash,
    # lest the "\\ud83d" that is no escape at all be taken for one.
    if b"\0" in text or (b"\\ud" not in text and b"\\uD" not in text):
        return text
    text = _LONE.sub(rb"\\ufffd", text.replace(b"\\\\", b"\0\0"))
    return text.replace(b"\0\0", b"\\\\")


def splice(text: bytes, edits: Iterable[Edit]) -> bytes:
    """Return *text* with each range replaced; ranges must not overlap."""
    pieces: list[bytes] = []
    at = 0
    # Sorting is stable: insertions at one place keep the order they were given in.
    for start, end, new in sorted(edits, key=lambda edit: edit[:2]):
        pieces += (text[at:start], new)
        at = end
    return b"".join((*pieces, text[at:]))


def quote(text: str) -> bytes:
    """Return *text* as a JSON string in UTF-8; a lone surrogate becomes its escape."""
    pieces = _SURROGATE.split(text)
    pieces[::2] = [msgspec.json.encode(piece)[1:-1].decode() for piece in pieces[::2]]
    pieces[1::2] = [f"\\u{ord(piece):04x}" for piece in pieces[1::2]]
    return f'"{"".join(pieces)}"'.encode()


def text_of(token: bytes) -> str:
    """Return the text of a JSON string token, lone surrogates and all."""
    if b"\\" not in token:
        return token[1:-1].decode()
    text: str = json.loads(token, strict=False)
    return text


def read(text: bytes) -> Any:
    """
    Decode one JSON value, whatever it holds; None if no decoder takes it.

    For reading only (logs, lists): what comes back is not what was written.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return loose(text)
    except (ValueError, RecursionError):
        return None


def loose(text: bytes) -> Any:
    """
    Decode what some JSON libraries write and others refuse.

    That is a byte order mark, bytes that are no UTF-8, control characters inside
    strings, and numbers that are none or too large: they become None.

    :raise ValueError: if it is no JSON even so.
    """
    return json.loads(
        text.removeprefix(BOM).decode("utf-8", "replace"),
        strict=False,
        parse_constant=_nothing,
        parse_float=_finite,
        parse_int=_integer,
    )


def exact(text: bytes) -> Any:
    """
    Decode a well-formed JSON value so that `write` gives every number back as it stood.

    A number that Python would write in another way (``1e400``, more digits than a double
    holds, ``1.10``) is left undecoded, as `msgspec.Raw`; `number` reads one.

    :param text: Without lone surrogates: the `readable` form of a `JSONText`.
    """
    return json.loads(text, strict=False, parse_float=_exact_float, parse_int=_exact_int)


def number(value: Any) -> int | float | None:
    """Return the number that `exact` decoded, None if *value* is none (or too large)."""
    if isinstance(value, msgspec.Raw):
        value = _finite(bytes(value).decode())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value


def write(value: Any) -> bytes:
    """Encode *value* as JSON in UTF-8; a lone surrogate becomes U+FFFD."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):
        return msgspec.json.encode(_encodable(value))


def in_string(text: bytes | bytearray, at: int) -> int:
    """
    Return how far the string goes in which *at* stands.

    :return: Where its closing quote stands, or a backslash that is the last byte, or
        the end of *text*.
    """
    while True:
        end = _matched(_IN_STRING, text, at)
        if end == at or end == len(text) or text[end] == _QUOTE:
            return end
        at = end


def _encodable(value: Any) -> Any:
    """Return *value* with what msgspec refuses made what it takes; see `write`."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(each) for each in value]
    if isinstance(value, int) and value.bit_length() > 63:
        return msgspec.Raw(json.dumps(value).encode())
    return value


def _exact_float(digits: str) -> float | msgspec.Raw:
    value = float(digits)
    return value if repr(value) == digits else msgspec.Raw(digits.encode())


def _exact_int(digits: str) -> int | msgspec.Raw:
    # msgspec writes no integer of more than 64 bits.
    return int(digits) if len(digits) < 19 and digits != "-0" else msgspec.Raw(digits.encode())


def _nothing(_: str) -> None:
    """Return what NaN and the infinities are read as."""


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if isfinite(number) else None


def _integer(digits: str) -> int | None:
    try:
        return int(digits)
    except ValueError:  # more digits than Python cares to convert
        return None


def _string_end(text: bytes, start: int) -> int:
    return in_string(text, start + 1) + 1


def _check_utf8(body: bytes) -> None:
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(body), _SLICE):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(body[start : start + _SLICE], final=start + _SLICE >= len(body))
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"The body is not valid UTF-8 at byte {start - pending + error.start};"
                " send JSON encoded as UTF-8.",
                code="invalid_utf8",
            ) from None


def _place(error: Exception, body: bytes) -> str:
    offset = _OFFSET.search(str(error))
    if offset is None:
        return f"it ends too early, at byte {len(body)}"
    what = str(error).removeprefix("JSON is malformed: ").partition(" (byte")[0]
    return f"{what} at byte {offset[1]}"


def _skip(text: bytes, at: int) -> int:
    return _matched(_SPACE, text, at)


def _matched(pattern: re.Pattern[bytes], text: bytes | bytearray, at: int) -> int:
    found = pattern.match(text, at)
    if found is None:  # pragma: no cover - only text that never passed `check`
        raise ValueError(f"no JSON at byte {at}")
    return found.end()


def _next_item(text: bytes, at: int, count: int) -> int:
    if count > MAX_ITEMS:
        raise InvalidRequest(
            f"The body holds a list or object of more than {MAX_ITEMS} items; send fewer.",
            code="too_many_items",
        )
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == _COMMA else at


def _value_end(text: bytes, start: int) -> int:
    first = text[start]
    if first == _QUOTE:
        return _string_end(text, start)
    if first not in _CLOSING:
        return _matched(_SCALAR, text, start)
    # msgspec skips a value at the speed of C, and tells where it stopped only by
    # complaining of what follows: its "byte N" counts that byte in, from one.
    try:
        _RAW.decode(memoryview(text)[start:])
    except msgspec.DecodeError as error:
        told = _TRAILING.search(str(error))
        if told is not None:
            return start + len(text[start : start + int(told[1]) - 1].rstrip(b" \t\r\n"))
    return _scanned_end(text, start)


def _scanned_end(text: bytes, start: int) -> int:
    depth, at = 0, start
    while True:
        at = _matched(_TO_SKELETON, text, at)
        if text[at] == _QUOTE:
            at = _string_end(text, at)
            continue
        depth += 1 if text[at] in _CLOSING else -1
        at += 1
        if depth == 0:
            return at
