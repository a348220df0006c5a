"""
What Kiro says in one stream of text, taken apart: thoughts in their tags, and where to stop.

Both hold back only what may still turn out to be a mark, and any split of a text gives the
same. It must never know events or bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

THOUGHT = "thought"
SAID = "said"

Piece = tuple[str, str]
"""`THOUGHT` or `SAID`, and a text that is not empty."""

_OPEN, _CLOSE = "<thinking>", "</thinking>"
# A tag that is quoted is talked about.
_QUOTES = frozenset("\"'`“”‘’「」")
# Bounded: what may still become an end is held back.
_CLOSED = re.compile(r"</thinking>[ \t]{0,16}\r?\n[ \t]{0,16}\r?\n")
_MAY_CLOSE = re.compile(r"</thinking>[ \t]{0,16}\r?(?:\n[ \t]{0,16}\r?)?")
_AT_END = re.compile(r"</thinking>\s*")


class Thoughts:
    """
    Takes thoughts out of a text.

    There is one thought at most, and it is closed by its tag with an empty line behind it,
    or at the end.
    """

    def __init__(self) -> None:
        self._held = ""
        self._last = ""
        self._said = False
        self._state = self._before

    def feed(self, text: str) -> list[Piece]:
        """Take more text; return what is certain by now."""
        self._held += text
        return self._cut(final=False)

    def flush(self) -> list[Piece]:
        """Return what was held back: the text is at its end, or something else comes."""
        pieces = self._cut(final=True)
        if self._state == self._within:
            self._state = self._after
        return pieces

    def _cut(self, *, final: bool) -> list[Piece]:
        pieces: list[Piece] = []
        while self._state(pieces, final):
            pass
        return pieces

    def _take(self, kind: str, end: int, pieces: list[Piece]) -> None:
        text, self._held = self._held[:end], self._held[end:]
        if text:
            self._last = text[-1]
            self._said = self._said or kind == SAID
            pieces.append((kind, text))

    def _before(self, pieces: list[Piece], final: bool) -> bool:
        at = _find(self._held, _OPEN, self._last)
        end = at + len(_OPEN)
        if at >= 0 and (final or end < len(self._held)):
            if self._held[:at].strip() or self._said:
                self._take(SAID, at, pieces)
                end -= at
            if self._held[end : end + 1] == "\n":
                end += 1
            self._held = self._held[end:]
            self._last = ">"
            self._state = self._within
            return True
        if at < 0:
            at = len(self._held) if final else _prefix(self._held, _OPEN)
        # Blanks before a thought are dropped: whether there is one is not known yet.
        if final or self._said or self._held[:at].strip():
            self._take(SAID, len(self._held) if final else at, pieces)
        return False

    def _within(self, pieces: list[Piece], final: bool) -> bool:
        at, searched = -1, 0
        while True:
            at = _find(self._held, _CLOSE, self._last, searched)
            if at < 0:
                break
            closed = _CLOSED.match(self._held, at)
            if closed is None and final:
                closed = _AT_END.fullmatch(self._held, at)
            if closed is not None:
                self._take(THOUGHT, at, pieces)
                self._held = self._held[closed.end() - at :]
                self._last = ""
                self._state = self._after
                return True
            if not final and _MAY_CLOSE.fullmatch(self._held, at) is not None:
                break
            searched = at + len(_CLOSE)
        if at < 0:
            at = len(self._held) if final else _prefix(self._held, _CLOSE)
        self._take(THOUGHT, at, pieces)
        return False

    def _after(self, pieces: list[Piece], final: bool) -> bool:
        self._take(SAID, len(self._held), pieces)
        return False


class Stops:
    """
    Ends a text where one of some sequences begins: the service knows no such thing.

    :ivar stopped: The sequence at which it ended, or None.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self.stopped: str | None = None
        self._sequences = [sequence for sequence in sequences if sequence]
        self._held = ""

    def feed(self, text: str) -> str:
        """Take more text; return what is certain by now."""
        if not self._sequences:
            return text
        if self.stopped is not None:
            return ""
        self._held += text
        # The one that is whole first wins, wherever the text was split.
        found = [
            (at + len(sequence), -len(sequence), sequence)
            for sequence in self._sequences
            if (at := self._held.find(sequence)) >= 0
        ]
        if found:
            end, length, self.stopped = min(found)
            said, self._held = self._held[: end + length], ""
            return said
        safe = min(_prefix(self._held, sequence) for sequence in self._sequences)
        said, self._held = self._held[:safe], self._held[safe:]
        return said

    def flush(self) -> str:
        """Return what was held back: no more text comes to it."""
        said, self._held = self._held, ""
        return said


def _find(text: str, tag: str, last: str, start: int = 0) -> int:
    """
    Return where *tag* stands unquoted, -1 if nowhere.

    :param last: The character before *text*.
    """
    while True:
        at = text.find(tag, start)
        if at < 0:
            return -1
        before = text[at - 1] if at else last
        after = text[at + len(tag) : at + len(tag) + 1]
        if before not in _QUOTES and after not in _QUOTES:
            return at
        start = at + len(tag)


def _prefix(text: str, mark: str) -> int:
    """Return where the longest end of *text* begins that is a beginning of *mark*."""
    for at in range(max(0, len(text) - len(mark) + 1), len(text)):
        if mark.startswith(text[at:]):
            return at
    return len(text)
