"""
The pieces that a stream of this dialect and a whole answer have in common.

It must never know which of the two is written.
"""

from __future__ import annotations

from typing import Any

from aiclient2api.conversation import seals
from aiclient2api.conversation.events import Cited, MediaDelta, ReasoningDelta
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.openai_chat.request import NAME
from aiclient2api.values import Usage


class Thoughts:
    """Thoughts in one text: a line stands between two blocks, or two sections of one."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None

    def told(self, event: ReasoningDelta) -> str:
        """Return the text of *event* with what belongs before it."""
        here = (event.index, event.section)
        between = "" if self._last in (None, here) else "\n\n"
        self._last = here
        return between + event.text


class Sources:
    """
    The sources of the answer's text: all texts are one here, so places have to be counted on.

    :ivar length: Characters so far.
    """

    def __init__(self) -> None:
        self.length = 0
        self._places: dict[int, list[int]] = {}
        self._cited: list[Cited] = []

    def opened(self, index: int) -> None:
        """Note that a text begins."""
        self._places[index] = [self.length, self.length]

    def closed(self, index: int) -> None:
        """Note that a block, of text or not, is whole."""
        if index in self._places:
            self._places[index][1] = self.length

    def cited(self, event: Cited) -> None:
        """Take a source."""
        if event.url:
            self._cited.append(event)

    def annotations(self) -> list[dict[str, Any]]:
        """Return the sources; one without a place belongs to all of its text."""
        told: list[dict[str, Any]] = []
        for event in self._cited:
            start, end = self._places[event.index]
            told.append(
                {
                    "type": "url_citation",
                    "url_citation": {
                        "start_index": start if event.start is None else start + event.start,
                        "end_index": end if event.end is None else start + event.end,
                        "title": event.title,
                        "url": event.url,
                    },
                }
            )
        return told


def extra(seal: Seal) -> dict[str, Any]:
    """Return the field of a call that carries *seal*."""
    # https://ai.google.dev/gemini-api/docs/thought-signatures
    return {"extra_content": {"google": {"thought_signature": seals.carried(seal, NAME)}}}


def image(media: MediaDelta, number: int) -> dict[str, Any]:
    """Return a picture, the one of that *number* in the answer."""
    # https://openrouter.ai/docs/guides/overview/multimodal/image-generation; OpenAI's library
    # wants the entries of every list in a stream to be numbered.
    url = f"data:{media.mime};base64,{media.data}"
    return {"type": "image_url", "index": number, "image_url": {"url": url}}


def told_of(media: MediaDelta) -> str:
    """Return a sentence in the place of what has none."""
    size = len(media.data) * 3 // 4 - media.data[-2:].count("=")
    return (
        f"[Here the model made something of the type {media.mime}, {size} bytes, which this API"
        " cannot carry.]"
    )


def written_usage(usage: Usage) -> dict[str, Any]:
    """Return token counts; the format insists on numbers, so what was not told is 0."""
    given, made = usage.input or 0, usage.output or 0
    written = {} if usage.cache_write is None else {"cache_write_tokens": usage.cache_write}
    return {
        "prompt_tokens": given,
        "completion_tokens": made,
        "total_tokens": given + made,
        "prompt_tokens_details": {"cached_tokens": usage.cached or 0, **written},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
    }
