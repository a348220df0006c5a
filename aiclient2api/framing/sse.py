"""
Server-sent events, cut into records as their bytes arrive.

It knows lines and fields (https://html.spec.whatwg.org/multipage/server-sent-events.html)
and where in the raw bytes each record ends. It must never know what a record means.
"""

from __future__ import annotations

import re

import attrs

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.values import HELD_LIMIT

# A CRLF is one line end: "\r\n" alone must not pass for an end of line and a blank
# line. splitlines() is no use: U+2028 stands in JSON. Atomic groups would say it
# better, but the re of Python 3.11.2 (Debian 12) has faults there:
# https://github.com/python/cpython/issues/101955
_BOUNDARY = re.compile(rb"(?:\r\n|\r(?!\n)|\n)(?:\r\n|\r|\n)")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_BLANK = re.compile(rb"[\r\n]*")
_BLANK_AT_START = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*")
# What nearly every record looks like; anything else takes the exact way.
_PLAIN = re.compile(rb"(?:event: ?([^\r\n]*)\r?\n)?data: ?([^\r\n]*)\r?\n\r?\n")


@attrs.define
class Record:
    """
    One record.

    :ivar event: The event's name, ``b""`` if it has none.
    :ivar data: The data lines, joined.
    :ivar comment: True if it says nothing: neither data nor an event's name.
    :ivar end: Where it ends, blank line included, in the framer's `whole`.
    """

    event: bytes
    data: bytes
    comment: bool
    end: int


class SSEFramer:
    """
    Cut a stream of server-sent events. Any split of the bytes gives the same records.

    :ivar whole: After `feed`: the raw bytes of the records it returned, with blank
        lines between them. All of these, one after the other, are a prefix of the
        bytes fed; what is left is in `rest`.
    """

    def __init__(self, *, limit: int = HELD_LIMIT) -> None:
        self.whole = b""
        self._limit = limit
        self._held = bytearray()
        self._searched = 0
        self._at_start = True

    @property
    def rest(self) -> bytes:
        """The bytes of the record that is not complete yet."""
        return bytes(self._held)

    def feed(self, data: bytes) -> list[Record]:
        """
        Take the next bytes and return the records they complete.

        :raise UpstreamError: if one record is longer than the limit.
        """
        if self._held:
            # A long record in small pieces is searched once, not once a piece;
            # three bytes back, because a boundary may have been cut in two.
            self._held += data
            if _BOUNDARY.search(self._held, max(0, self._searched - 3)) is None:
                self._keep_holding()
                return []
            data = bytes(self._held)
            self._held.clear()
        records, end = self._cut(data)
        self.whole = data if end == len(data) else data[:end]
        self._at_start = self._at_start and end == 0
        if end < len(data):
            self._held += data[end:]
            self._keep_holding()
            self.whole = data[:end]
        return records

    def finish(self) -> Record | None:
        """
        Return what `rest` would be if a blank line followed, or None if it is empty.

        Whether it is whole is for the dialect to say: the stream may have been cut.
        """
        rest = self.rest
        return _read(rest.removeprefix(b"\xef\xbb\xbf"), len(rest)) if rest else None

    def _keep_holding(self) -> None:
        self.whole = b""
        self._searched = len(self._held)
        if self._searched > self._limit:
            raise _too_long(self._limit)

    def _cut(self, data: bytes) -> tuple[list[Record], int]:
        records: list[Record] = []
        blank = _BLANK_AT_START if self._at_start else _BLANK
        start = _end_of(blank, data, 0)
        while start < len(data):
            plain = _PLAIN.match(data, start)
            if plain is not None:
                end = plain.end()
                records.append(Record(plain[1] or b"", plain[2], False, end))
            else:
                boundary = _BOUNDARY.search(data, start)
                if boundary is None:
                    break
                end = boundary.end()
                records.append(_read(data[start : boundary.start()], end))
            if end - start > self._limit:
                raise _too_long(self._limit)
            start = _end_of(_BLANK, data, end)
            records[-1].end = start
        return records, start


def _end_of(pattern: re.Pattern[bytes], data: bytes, start: int) -> int:
    found = pattern.match(data, start)
    return found.end() if found is not None else start


def _read(text: bytes, end: int) -> Record:
    event, lines = b"", []
    for line in _LINE_END.split(text):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            lines.append(value)
        elif name == b"event":
            event = value
    return Record(event, b"\n".join(lines), not lines and not event, end)


def _too_long(limit: int) -> UpstreamError:
    return UpstreamError(
        f"The upstream sent one record of more than {limit} bytes; the stream was given up."
        " Ask for a smaller answer.",
        fault=Fault.SERVER,
        status=502,
        code="record_too_long",
    )
