"""
Gemini: where the text of an answer came from.

Google counts bytes of UTF-8 and tells of its sources again and again; here they are counted
in characters, and told once. It must never know which block they belong to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiclient2api.conversation.events import Cited
from aiclient2api.dialects.watching import count
from aiclient2api.dialects.wire_request import entry, listed

_MOST = 500
"""How many sources of one text are told of."""


class Citations:
    """The sources of one text, and the text itself so far."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._told: set[tuple[str, int | None, int | None]] = set()

    def begin(self) -> None:
        """Begin a new text."""
        self._pieces.clear()
        self._told.clear()

    def said(self, text: str) -> None:
        """Note a piece of the text."""
        self._pieces.append(text)

    def grounded(self, index: int, told: Any) -> Iterator[Cited]:
        """Yield what is news in ``groundingMetadata``: pages that were found on the Web."""
        pages = [entry(chunk, "web") for chunk in listed(entry(told, "groundingChunks"))]
        used: set[int] = set()
        for support in listed(entry(told, "groundingSupports")):
            segment = entry(support, "segment")
            for number in listed(entry(support, "groundingChunkIndices")):
                if isinstance(number, int) and 0 <= number < len(pages):
                    used.add(number)
                    yield from self._one(index, pages[number], segment)
        for number, page in enumerate(pages):
            if number not in used:
                yield from self._one(index, page, None)

    def cited(self, index: int, told: Any) -> Iterator[Cited]:
        """Yield what is news in ``citationMetadata``: texts that were quoted at length."""
        for source in listed(entry(told, "citationSources")) or listed(entry(told, "citations")):
            yield from self._one(index, source, source)

    def _one(self, index: int, page: Any, segment: Any) -> Iterator[Cited]:
        url, title = entry(page, "uri"), entry(page, "title")
        if not isinstance(url, str) or not url:
            return
        # A zero is left out on Google's wire.
        start, end = count(entry(segment, "startIndex")) or 0, count(entry(segment, "endIndex"))
        if end is None or not 0 <= start < end:
            place: tuple[int | None, int | None] = (None, None)
        else:
            place = (start, end)
        if (url, *place) in self._told or len(self._told) == _MOST:
            return
        self._told.add((url, *place))
        yield Cited(
            index,
            url=url,
            title=title if isinstance(title, str) else "",
            start=self._characters(place[0]),
            end=self._characters(place[1]),
        )

    def _characters(self, size: int | None) -> int | None:
        """Return how many characters the first *size* bytes of the text are."""
        if size is None:
            return None
        text = self._pieces[0] if len(self._pieces) == 1 else "".join(self._pieces)
        self._pieces = [text]
        return len(text.encode("utf-8", "surrogatepass")[:size].decode("utf-8", "ignore"))
