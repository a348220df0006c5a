"""
Where seals wait that a client's dialect has no place for.

Kept by the caller and the id of the call that the thought led to, for some hours, so
many and no more. After a restart they are gone: the conversation goes on, the model
only does not see its old thoughts. It must never know a dialect.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

import attrs

from aiclient2api.conversation.arguments import digest
from aiclient2api.conversation.events import (
    CALL,
    REASONING,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Event,
    ReasoningDelta,
    Sealed,
)
from aiclient2api.conversation.request import Call, Conversation, Part, Reasoning, Turn
from aiclient2api.conversation.seals import Seal
from aiclient2api.conversation.turns import joined

TTL = 3 * 3600.0
"""Seconds that seals are kept."""
MOST = 20_000
"""How many calls' seals are kept."""
MOST_BYTES = 64 * 1024 * 1024
"""How many characters of thoughts and seals are kept."""


@attrs.frozen
class Thought:
    """
    What led to one call.

    :ivar parts: The sealed thoughts between the call before it and this one.
    :ivar seal: The call's own seal.
    :ivar name: What was called.
    :ivar digest: Of the call's arguments; None if they were not told.
    """

    parts: tuple[Reasoning, ...] = attrs.field(default=(), repr=False)
    seal: Seal | None = attrs.field(default=None, repr=False)
    name: str = ""
    digest: bytes | None = attrs.field(default=None, repr=False)

    @property
    def size(self) -> int:
        """Characters it holds."""
        own = len(self.seal.value) if self.seal else 0
        return own + sum(len(p.text) + len(p.seal.value if p.seal else "") for p in self.parts)

    def led_to(self, call: Call) -> bool:
        """Say whether *call* is the very call, not only one of its id."""
        return self.name == call.name and self.digest in (None, digest(call.arguments))


class Recollection:
    """The seals of one answer, gathered while it passes; see `SealVault.keep`."""

    def __init__(self) -> None:
        self._texts: dict[int, list[str]] = {}
        self._calls: dict[int, tuple[str, str]] = {}
        self._arguments: dict[int, list[str]] = {}
        self._seals: dict[int, Seal] = {}

    def take(self, event: Event) -> None:
        """Note what *event* says of thoughts, calls and seals."""
        if isinstance(event, BlockOpened):
            if event.kind == REASONING:
                self._texts[event.index] = []
            elif event.kind == CALL:
                self._calls[event.index] = (event.id, event.name)
        elif isinstance(event, ReasoningDelta):
            self._texts[event.index].append(event.text)
        elif isinstance(event, ArgumentsDelta):
            self._arguments.setdefault(event.index, []).append(event.json)
        elif isinstance(event, BlockClosed):
            if event.index in self._calls:
                self._arguments.setdefault(event.index, [])
        elif isinstance(event, Sealed):
            self._seals[event.index] = event.seal

    @property
    def calls(self) -> Iterable[str]:
        """The ids of all calls, whether there is anything to keep of them or not."""
        return [id for id, _ in self._calls.values()]

    def thoughts(self) -> dict[str, Thought]:
        """Return what is worth keeping, by the call's id."""
        found: dict[str, Thought] = {}
        before: list[Reasoning] = []
        for index in sorted({*self._texts, *self._calls}):
            seal = self._seals.get(index)
            if index in self._calls:
                if before or seal is not None:
                    id, name = self._calls[index]
                    pieces = self._arguments.get(index)
                    told = None if pieces is None else digest("".join(pieces))
                    found[id] = Thought(tuple(before), seal, name, told)
                before = []
            elif seal is not None:
                before.append(Reasoning("".join(self._texts[index]), seal))
        return found


class SealVault:
    """
    Seals by caller and call.

    :param seconds: Tells the time.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        *,
        ttl: float = TTL,
        most: int = MOST,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._seconds = seconds
        self._ttl = ttl
        self._most = most
        self._most_bytes = most_bytes
        self._size = 0
        self._kept: OrderedDict[tuple[str, str], tuple[float, Thought]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, caller: str, recollection: Recollection) -> None:
        """Keep what an answer held, the oldest going first when there is too much."""
        until = self._seconds() + self._ttl
        for call in recollection.calls:
            # Ids may begin anew: what was kept of this one was another conversation's.
            self._forget((caller, call))
        for call, thought in recollection.thoughts().items():
            self._kept[(caller, call)] = (until, thought)
            self._size += thought.size
        while self._kept and (len(self._kept) > self._most or self._size > self._most_bytes):
            self._forget(next(iter(self._kept)))

    def restored(self, caller: str, conversation: Conversation, issuer: str) -> Conversation:
        """
        Return *conversation* with the seals that *issuer* gave put back where they were.

        Seals that the client carried itself win.
        """
        # Some dialects tell a thought and the call it led to one after the other.
        turns = tuple(self._restored(caller, turn, issuer) for turn in joined(conversation.turns))
        return attrs.evolve(conversation, turns=turns)

    def _restored(self, caller: str, turn: Turn, issuer: str) -> Turn:
        if turn.role != "assistant" or not any(isinstance(part, Call) for part in turn.parts):
            return turn
        carried = any(
            isinstance(part, Reasoning) and part.seal is not None and part.seal.issuer == issuer
            for part in turn.parts
        )
        parts: list[Part] = []
        put_back = False
        for part in turn.parts:
            thought = self._find(caller, part) if isinstance(part, Call) else None
            if thought is None or not isinstance(part, Call):
                parts.append(part)
                continue
            if not carried:
                own = [p for p in thought.parts if p.seal is not None and p.seal.issuer == issuer]
                put_back = put_back or bool(own)
                parts += own
            if part.seal is None and thought.seal is not None and thought.seal.issuer == issuer:
                part = attrs.evolve(part, seal=thought.seal)
            parts.append(part)
        if put_back:
            # The client's own copy of the thought has no seal; the sealed one replaces it.
            parts = [p for p in parts if not (isinstance(p, Reasoning) and p.seal is None)]
        return Turn(turn.role, tuple(parts))

    def _find(self, caller: str, call: Call) -> Thought | None:
        kept = self._kept.get((caller, call.id))
        if kept is None:
            return None
        if kept[0] <= self._seconds():
            self._forget((caller, call.id))
            return None
        return kept[1] if kept[1].led_to(call) else None

    def _forget(self, key: tuple[str, str]) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= kept[1].size
