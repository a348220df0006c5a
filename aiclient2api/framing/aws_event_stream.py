"""
Amazon's event stream, cut into messages as its bytes arrive.

It knows the binary layout (https://smithy.io/2.0/aws/amazon-eventstream.html): a prelude with two
lengths, typed headers, a payload, and a checksum over each. It must never know what a
message means, nor that its payload may be JSON.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping

import attrs

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.values import HELD_LIMIT

LONGEST = 16 * 1024 * 1024
"""Bytes of the longest message there may be, whatever the framer's own limit."""

HeaderValue = bool | int | bytes | str | uuid.UUID
"""What a header holds. A timestamp is an int: milliseconds since 1970."""

_PRELUDE = struct.Struct(">III")
_CHECKSUM = struct.Struct(">I")
_FRAME = _PRELUDE.size + _CHECKSUM.size
_LENGTH = struct.Struct(">H")

# By type: how a value of fixed size is laid out, and what becomes of it.
_FIXED: Mapping[int, tuple[struct.Struct, Callable[..., HeaderValue]]] = {
    0: (struct.Struct(""), lambda: True),
    1: (struct.Struct(""), lambda: False),
    2: (struct.Struct(">b"), int),
    3: (struct.Struct(">h"), int),
    4: (struct.Struct(">i"), int),
    5: (struct.Struct(">q"), int),
    8: (struct.Struct(">q"), int),
    9: (struct.Struct("16s"), lambda value: uuid.UUID(bytes=value)),
}
# By type: what becomes of a value that tells its own length.
_SIZED: Mapping[int, Callable[[bytes], HeaderValue]] = {
    6: bytes,
    7: lambda value: value.decode("utf-8"),
}


@attrs.define
class Message:
    """
    One message.

    :ivar headers: By name, such as ``:event-type``.
    :ivar payload: Its bytes.
    :ivar end: Where it ends in the framer's `whole`.
    """

    headers: Mapping[str, HeaderValue]
    payload: bytes
    end: int


class AWSEventStreamFramer:
    """
    Cut an event stream. Any split of the bytes gives the same messages.

    :param limit: Bytes of the longest message that is held; never more than `LONGEST`.
    :ivar whole: After `feed`: the raw bytes of the messages it returned. All of these, one
        after the other, are a prefix of the bytes fed; what is left is in `rest`.
    """

    def __init__(self, *, limit: int = HELD_LIMIT) -> None:
        self.whole = b""
        self._limit = min(limit, LONGEST)
        self._held = bytearray()
        self._failure: UpstreamError | None = None

    @property
    def rest(self) -> bytes:
        """The bytes of the message that is not complete yet."""
        return bytes(self._held)

    def feed(self, data: bytes) -> list[Message]:
        """
        Take the next bytes and return the messages they complete.

        Where a message is damaged nobody can tell where the next one begins: after an
        error there are no more messages.

        :raise UpstreamError: ``bad_frame`` if a message is damaged, ``record_too_long`` if
            one is longer than the limit; from then on, each time.
        """
        self.whole = b""
        if self._failure is not None:
            raise self._failure
        self._held += data
        try:
            messages = list(self._cut())
        except UpstreamError as error:
            self._failure = error
            self._held.clear()
            raise
        end = messages[-1].end if messages else 0
        self.whole = bytes(self._held[:end])
        del self._held[:end]
        return messages

    def _cut(self) -> Iterator[Message]:
        held, start = self._held, 0
        while len(held) - start >= _PRELUDE.size:
            total, headers_length, checksum = _PRELUDE.unpack_from(held, start)
            if zlib.crc32(held[start : start + 8]) != checksum:
                raise _bad("the checksum of its lengths is wrong")
            if total > self._limit:
                raise _too_long(self._limit)
            if total < _FRAME + headers_length:
                raise _bad("its lengths contradict each other")
            if len(held) - start < total:
                return
            yield _read(bytes(held[start : start + total]), headers_length, start + total)
            start += total


def _read(frame: bytes, headers_length: int, end: int) -> Message:
    body = len(frame) - _CHECKSUM.size
    (checksum,) = _CHECKSUM.unpack_from(frame, body)
    if zlib.crc32(memoryview(frame)[:body]) != checksum:
        raise _bad("its checksum is wrong")
    middle = _PRELUDE.size + headers_length
    return Message(_headers(frame[_PRELUDE.size : middle]), frame[middle:body], end)


def _headers(text: bytes) -> dict[str, HeaderValue]:
    found: dict[str, HeaderValue] = {}
    at = 0
    try:
        while at < len(text):
            name, at = _slice(text, at + 1, text[at])
            value, at = _value(text, at + 1, text[at])
            told = name.decode("utf-8")
            if told in found:
                raise _bad("a header stands in it twice")
            found[told] = value
    except (IndexError, struct.error):
        raise _bad("a header goes on past the headers' end") from None
    except UnicodeDecodeError:
        raise _bad("a header is not UTF-8") from None
    return found


def _value(text: bytes, at: int, kind: int) -> tuple[HeaderValue, int]:
    if kind in _FIXED:
        layout, make = _FIXED[kind]
        return make(*layout.unpack_from(text, at)), at + layout.size
    if kind not in _SIZED:
        raise _bad("a header is of a type that does not exist")
    (length,) = _LENGTH.unpack_from(text, at)
    value, at = _slice(text, at + _LENGTH.size, length)
    return _SIZED[kind](value), at


def _slice(text: bytes, start: int, length: int) -> tuple[bytes, int]:
    end = start + length
    if end > len(text):
        raise IndexError
    return text[start:end], end


def _bad(why: str) -> UpstreamError:
    return UpstreamError(
        f"The upstream sent a damaged message ({why}); the stream was given up. Try again.",
        fault=Fault.SERVER,
        status=502,
        code="bad_frame",
    )


def _too_long(limit: int) -> UpstreamError:
    return UpstreamError(
        f"The upstream sent one message of more than {limit} bytes; the stream was given up."
        " Ask for a smaller answer.",
        fault=Fault.SERVER,
        status=502,
        code="record_too_long",
    )
