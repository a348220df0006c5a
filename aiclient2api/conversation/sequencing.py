"""
One block at a time, for dialects in which blocks may not overlap.

Events of a block that has to wait are kept until the one before it is closed. What
is kept is bounded by what the answer itself may have. It must never know a dialect.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiclient2api.conversation.events import (
    BlockClosed,
    BlockOpened,
    Event,
    Failed,
    Finished,
    Started,
    UsageReported,
)

_OF_NO_BLOCK = (Started, UsageReported, Finished, Failed)


class OneAtATime:
    """Put the events of an answer into an order in which no two blocks are open."""

    def __init__(self) -> None:
        self._current: int | None = None
        self._waiting: dict[int, list[Event]] = {}

    def take(self, event: Event) -> Sequence[Event]:
        """Return what may be told now, *event* among it or not."""
        if isinstance(event, _OF_NO_BLOCK):
            return (event,)
        index = event.index
        if self._current is None and isinstance(event, BlockOpened):
            self._current = index
        elif index != self._current:
            self._waiting.setdefault(index, []).append(event)
            return ()
        if not isinstance(event, BlockClosed):
            return (event,)
        return self._next([event])

    def _next(self, told: list[Event]) -> Sequence[Event]:
        self._current = None
        while self._waiting and self._current is None:
            # They were opened in this order, and a dict keeps it.
            index = next(iter(self._waiting))
            events = self._waiting.pop(index)
            told += events
            if not isinstance(events[-1], BlockClosed):
                self._current = index
        return told
