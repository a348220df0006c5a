"""
A JSON array that arrives in pieces, cut into its elements: how Gemini streams
when it is not asked for server-sent events.

It knows brackets and strings, enough to see where an element ends. It must never
know what an element means, nor judge whether it is well-formed JSON.
"""

from __future__ import annotations

import re

import attrs

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.json_text import in_string
from aiclient2api.values import HELD_LIMIT

_OUTSIDE_STRINGS = re.compile(rb'[^"{}\[\]]*')
_QUOTE = ord('"')
_OPENING = frozenset(b"[{")


@attrs.define
class Element:
    """
    One element of the array.

    :ivar data: Its bytes.
    :ivar end: Where it ends in the framer's `whole`.
    """

    data: bytes
    end: int


class JSONArrayFramer:
    """
    Cut a JSON array of objects. Any split of the bytes gives the same elements.

    :ivar whole: After `feed`: the raw bytes up to the end of its last element (up to
        the end of everything once the array is closed). What is left is held.
    :ivar closed: True once the array's own closing bracket was seen.
    """

    def __init__(self, *, limit: int = HELD_LIMIT) -> None:
        self.whole = b""
        self.closed = False
        self._limit = limit
        self._held = bytearray()
        self._seen = 0
        self._depth = 0
        self._in_string = False
        self._start = 0

    def feed(self, data: bytes) -> list[Element]:
        """
        Take the next bytes and return the elements they complete.

        :raise UpstreamError: if one element is longer than the limit.
        """
        if self.closed:
            self.whole = data
            return []
        self._held += data
        elements, end = self._cut()
        self.whole = bytes(self._held[:end])
        del self._held[:end]
        self._seen -= end
        self._start -= end
        if len(self._held) > self._limit:
            raise self._too_long()
        return elements

    def _cut(self) -> tuple[list[Element], int]:
        held, at, end = self._held, self._seen, 0
        elements: list[Element] = []
        while not self.closed:
            if self._in_string:
                at = in_string(held, at)
            else:
                found = _OUTSIDE_STRINGS.match(held, at)
                at = found.end() if found is not None else at
            if at == len(held) or held[at] == ord("\\"):
                break
            byte = held[at]
            at += 1
            if byte == _QUOTE:
                self._in_string = not self._in_string
            elif byte in _OPENING:
                self._depth += 1
                if self._depth == 2:
                    self._start = at - 1
            else:
                self._depth -= 1
                if self._depth == 1:
                    if at - self._start > self._limit:
                        raise self._too_long()
                    elements.append(Element(bytes(held[self._start : at]), at))
                    end = at
                elif self._depth <= 0:
                    self.closed = True
                    at = end = len(held)
        self._seen = at
        return elements, end

    def _too_long(self) -> UpstreamError:
        return UpstreamError(
            f"The upstream sent one array element of more than {self._limit} bytes;"
            " the stream was given up. Ask for a smaller answer.",
            fault=Fault.SERVER,
            status=502,
            code="record_too_long",
        )
