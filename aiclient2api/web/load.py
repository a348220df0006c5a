"""
How much is under way, and when one more would be too much.

Pure counting: it never knows a socket, a route or a dialect. Everything runs in one
thread and each question is answered and counted in one step, so a burst cannot slip
through between the look and the count. What was counted is given back exactly once,
however often that is said.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

import attrs

from aiclient2api.errors import GatewayError, Overloaded, TooManyRequests

SOON = 2.0
"""Seconds after which a caller may ask again where others only have to finish."""

LATER = 5.0
"""Seconds after which a caller may ask again where memory has to become free."""

C = TypeVar("C", bound=Hashable)


@attrs.frozen
class Bounds:
    """
    The limits in force; 0 is off.

    :ivar in_flight: Exchanges under way at once.
    :ivar per_key: The same, for one key.
    :ivar total_bytes: Bytes of all request bodies in memory.
    :ivar key_bytes: The same, for one key.
    """

    in_flight: int = 0
    per_key: int = 0
    total_bytes: int = 0
    key_bytes: int = 0


@attrs.define
class _Share:
    """What one key has under way."""

    places: int = 0
    size: int = 0


class Load:
    """
    The exchanges under way, and the bytes that their requests take.

    :ivar bounds: May be changed at any time; what is under way stays.
    :ivar shedding: True while memory is short: then nothing new begins beside what is
        under way. One exchange alone always may, or a process whose memory does not
        come back would refuse everybody for ever.
    :ivar refused: How many were refused since the start.
    """

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.bounds = bounds or Bounds()
        self.shedding = False
        self.refused = 0
        self._places = 0
        self._size = 0
        self._shares: dict[str, _Share] = {}

    @property
    def in_flight(self) -> int:
        """Return how many exchanges are under way."""
        return self._places

    @property
    def size(self) -> int:
        """Return how many bytes their requests take, or are going to."""
        return self._size

    def of(self, key: str) -> tuple[int, int]:
        """Return the exchanges and the bytes of one key."""
        share = self._shares.get(key, _Share())
        return share.places, share.size

    def take(self, key: str, size: int) -> Place | GatewayError:
        """
        Let one more exchange begin, or say why not.

        :param key: Whose it is.
        :param size: Bytes that its request says it has; 0 if it does not say.
        """
        bounds, share = self.bounds, self._shares.get(key, _Share())
        error: GatewayError | None = None
        if self.shedding and self._places:
            error = _short_of_memory()
        elif bounds.per_key and share.places >= bounds.per_key:
            error = TooManyRequests(
                f"This key has {share.places} requests under way, as many as it may; let one of"
                " them finish, or raise limits.per_key.",
                code="too_many_requests",
                retry_after=SOON,
            )
        elif bounds.in_flight and self._places >= bounds.in_flight:
            error = Overloaded(
                f"The gateway has {self._places} requests under way, as many as it may; try again"
                " in a moment, or raise limits.in_flight.",
                code="too_many_requests",
                retry_after=SOON,
            )
        else:
            error = self._no_room(share, size)
        if error is not None:
            self.refused += 1
            return error
        self._places += 1
        self._size += size
        share = self._shares.setdefault(key, share)
        share.places += 1
        share.size += size
        return Place(self, key, size)

    def _grow(self, key: str, size: int) -> GatewayError | None:
        share = self._shares[key]
        error = self._no_room(share, size)
        if error is not None:
            self.refused += 1
            return error
        self._size += size
        share.size += size
        return None

    def _no_room(self, share: _Share, size: int) -> GatewayError | None:
        # One body alone is always taken: limits.body_bytes is what says how large it may be.
        bounds = self.bounds
        if bounds.key_bytes and share.size and share.size + size > bounds.key_bytes:
            return TooManyRequests(
                f"The requests of this key that are under way have {share.size} bytes, and this"
                f" one would make them more than {bounds.key_bytes}; let one of them finish, or"
                " raise limits.key_bytes.",
                code="too_many_bytes",
                retry_after=SOON,
            )
        if bounds.total_bytes and self._size and self._size + size > bounds.total_bytes:
            return Overloaded(
                f"The requests under way have {self._size} bytes, and this one would make them"
                f" more than {bounds.total_bytes}; try again in a moment, or raise"
                " limits.total_bytes.",
                code="too_many_bytes",
                retry_after=SOON,
            )
        return None

    def _give_back(self, key: str, size: int) -> None:
        self._places -= 1
        self._size -= size
        share = self._shares[key]
        share.places -= 1
        share.size -= size
        if not share.places:
            # Keys come and go with reloads.
            del self._shares[key]


class Place:
    """What one exchange was counted with, until it is over."""

    def __init__(self, load: Load, key: str, size: int) -> None:
        self._load: Load | None = load
        self._key = key
        self._size = size

    def hold(self, size: int) -> GatewayError | None:
        """Count a request that has come to *size* bytes; return why it may not, or None."""
        if self._load is None or size <= self._size:
            return None
        error = self._load._grow(self._key, size - self._size)
        if error is None:
            self._size = size
        return error

    def leave(self) -> None:
        """Give back what was counted; safe to call again."""
        load, self._load = self._load, None
        if load is not None:
            load._give_back(self._key, self._size)


class Connections(Generic[C]):
    """
    Who is connected, and who goes first where there is no room for one more.

    First those that have sent no whole head yet, the oldest first: a head takes no time,
    so whoever has waited longest with one is the least likely to mean it. Then those
    that were answered and stand idle, the longest idle first. Never one that is sending
    a body or is being answered.
    """

    def __init__(self) -> None:
        self._all: set[C] = set()
        self._silent: OrderedDict[C, None] = OrderedDict()
        self._idle: OrderedDict[C, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def came(self, one: C) -> None:
        """Take note of a new connection."""
        self._all.add(one)
        self._silent[one] = None

    def speaks(self, one: C) -> None:
        """Take note that one which was idle begins another head."""
        if one in self._idle:
            del self._idle[one]
            self._silent[one] = None

    def at_work(self, one: C) -> None:
        """Take note that a head is whole: from here on it is not closed for others."""
        self._silent.pop(one, None)
        self._idle.pop(one, None)

    def rests(self, one: C) -> None:
        """Take note that it was answered, or refused: it may go."""
        if one in self._all and one not in self._silent:
            self._idle[one] = None
            self._idle.move_to_end(one)

    def left(self, one: C) -> None:
        """Forget a connection that is closed."""
        self._all.discard(one)
        self.at_work(one)

    def next_to_go(self) -> C | None:
        """Return whom to close, None if all are at work. It is not named again."""
        for those in (self._silent, self._idle):
            if those:
                return those.popitem(last=False)[0]
        return None

    def take_idle(self) -> list[C]:
        """Return all that stand idle. They are not named again."""
        idle = list(self._idle)
        self._idle.clear()
        return idle


def _short_of_memory() -> Overloaded:
    return Overloaded(
        "The gateway is short of memory (limits.memory_bytes) and begins nothing new until some"
        " of what is under way has ended; try again in a moment.",
        code="short_of_memory",
        retry_after=LATER,
    )
