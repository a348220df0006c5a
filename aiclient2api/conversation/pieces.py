"""
How much of an answer was seen, for when nobody tells how many tokens it was.

Most upstreams tell that at the end, and a client who left never gets there. So the pieces
of an answer are counted while they pass, which is cheap, and what they come to in tokens is
worked out only if it is asked for. It must never know a dialect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import attrs
import msgspec

from aiclient2api.conversation.counting import tokens_in

SAMPLE = 32
"""Pieces that are kept, to see what kind of text it is."""
_FIRST = 8
_EACH = 31
"""The first eight pieces are kept, then one of thirty-two."""
LARGEST = 64 * 1024
"""JSON that is larger holds a picture, or some such thing: it is not to be added."""
_FEWEST, _MOST = 0.7, 1.45
"""Pieces for which the text's shape promises so many tokens each are tokens."""

_NO_TEXT = frozenset({"role", "id", "type", "object", "status", "mimeType", "thoughtSignature"})
_IN_A_BODY = re.compile(
    rb'"(?:text|content|refusal|reasoning|reasoning_content|thinking|arguments)"\s*:\s*'
    rb'"([^"\\]*(?:\\.[^"\\]*)*)'
    rb'|"(?:input|args)"\s*:\s*\{([^{}"]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^{}"]*)*)',
    re.DOTALL,
)
"""What a model wrote in an answer that is no stream: texts, and arguments of calls."""
_BODY = 4 * 1024 * 1024
"""Bytes of such an answer that are looked at."""


@attrs.define(eq=False)
class Pieces:
    """
    The pieces of one answer: texts, thoughts and arguments, as they come.

    :ivar count: How many there were.
    :ivar size: What they measure, all in all, in whatever their reader measures them in.
    :ivar told_at: How many there were when the upstream last told how many tokens it had
        generated.
    :ivar sample: Some of them: texts, or JSON with texts in it.
    """

    count: int = 0
    size: int = 0
    told_at: int = 0
    sample: list[Any] = attrs.field(factory=list, repr=False)

    def add(self, piece: Any, size: int) -> None:
        """
        Count one. It is on the hot path.

        :param piece: Text, or a `msgspec.Raw` with text in it.
        :param size: Its length.
        """
        self.size += size
        self.count = count = self.count + 1
        if (not count & _EACH or count <= _FIRST) and len(self.sample) < SAMPLE:
            self.sample.append(piece)

    def told(self) -> None:
        """Note that the upstream told how many tokens all of them are."""
        self.told_at = self.count

    def tokens(self) -> int:
        """
        Return about how many tokens all of them are.

        A model makes one token after the other, and many upstreams send each as a piece
        of its own. Where the text looks as if that were so, they are counted, and the
        estimate is exact; else it is as good as `counting` is.
        """
        if not self.count:
            return 0
        measured = sum(map(len, self.sample))
        text = "".join(each for piece in self.sample for each in _texts(piece))
        by_shape = tokens_in(text) * self.size / measured if measured else 0.0
        if _FEWEST * self.count - 1 <= by_shape <= _MOST * self.count + 1:
            return self.count
        return max(1, round(by_shape))


def pieces_of(body: bytes | bytearray) -> Pieces:
    """Return what an answer that is no stream holds, however much of it there is."""
    pieces = Pieces()
    found = _IN_A_BODY.findall(bytes(body[:_BODY]))
    text = "".join(_unescaped(text or arguments) for text, arguments in found)
    if text:
        pieces.count, pieces.size = 1, len(text)
        pieces.sample.append(text)
    return pieces


def _texts(piece: Any) -> Iterator[str]:
    """Yield the texts in a piece, whatever stands around them."""
    if isinstance(piece, msgspec.Raw):
        try:
            piece = msgspec.json.decode(piece)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
    waiting = [piece]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, list):
            waiting += reversed(found)
        elif isinstance(found, dict):
            waiting += [each for key, each in found.items() if key not in _NO_TEXT][::-1]


def _unescaped(text: bytes) -> str:
    try:
        return msgspec.json.decode(b'"' + text + b'"', type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # It ends in the middle of a character, or is JSON with quotes of its own.
        return text.decode("utf-8", "replace")
