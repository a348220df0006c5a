"""
Values in memory, by name, within limits: the oldest make room for the new.

What both stores share. It knows no time but the one it is told, and no disk.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping

import attrs

TOTAL = 64 * 1024 * 1024
"""Bytes of a namespace for which no limits were set."""
ONE = 1024 * 1024
"""Bytes of one value there."""


@attrs.frozen
class Name:
    """See `IStateStore`."""

    namespace: str
    owner: str
    key: str

    @property
    def weight(self) -> int:
        """Return the bytes that it takes."""
        return sum(len(part.encode("utf-8", "surrogatepass")) for part in (self.owner, self.key))


@attrs.frozen(eq=False)
class Entry:
    """
    One value.

    :ivar value: None says that there is none, in spite of what stands elsewhere.
    :ivar expires: The time, in seconds, from which on there is none; or None.
    :ivar weight: Bytes, its name's included.
    """

    name: Name
    value: bytes | None = attrs.field(repr=False)
    expires: float | None
    weight: int

    @classmethod
    def of(cls, name: Name, value: bytes | None, expires: float | None = None) -> Entry:
        """Weigh a value."""
        return cls(name, value, expires, name.weight + len(value or b""))

    def at(self, now: float) -> bytes | None:
        """Return the value, if there is one at that time."""
        return None if self.expires is not None and self.expires <= now else self.value


@attrs.define
class _Board:
    """One namespace: its entries, the oldest first."""

    total: int = TOTAL
    one: int = ONE
    weight: int = 0
    entries: OrderedDict[Name, Entry] = attrs.field(factory=OrderedDict)

    def take(self, name: Name) -> Entry | None:
        entry = self.entries.pop(name, None)
        if entry is not None:
            self.weight -= entry.weight
        return entry

    def trim(self) -> None:
        while self.weight > self.total and self.entries:
            self.take(next(iter(self.entries)))


class Shelf:
    """Entries by name; see `IStateStore` for what limits mean."""

    def __init__(self) -> None:
        self._boards: defaultdict[str, _Board] = defaultdict(_Board)

    def __len__(self) -> int:
        return sum(len(board.entries) for board in self._boards.values())

    def __iter__(self) -> Iterator[Entry]:
        for board in self._boards.values():
            yield from board.entries.values()

    def limit(self, namespace: str, *, total: int, one: int) -> None:
        """Set the limits of a namespace."""
        board = self._boards[namespace]
        board.total, board.one = total, one
        board.trim()

    def totals(self) -> Mapping[str, int]:
        """Return how many bytes each known namespace may have."""
        return {namespace: board.total for namespace, board in self._boards.items()}

    def admits(self, entry: Entry) -> bool:
        """Say whether a value is small enough."""
        board = self._boards[entry.name.namespace]
        return len(entry.value or b"") <= board.one and entry.weight <= board.total

    def put(self, entry: Entry) -> None:
        """Keep an entry as the youngest."""
        board = self._boards[entry.name.namespace]
        board.take(entry.name)
        board.entries[entry.name] = entry
        board.weight += entry.weight
        board.trim()

    def get(self, name: Name) -> Entry | None:
        """Return an entry, None if there is none."""
        return self._boards[name.namespace].entries.get(name)

    def owned(self, namespace: str, owner: str) -> Iterator[Entry]:
        """Yield the entries of one owner."""
        for name, entry in self._boards[namespace].entries.items():
            if name.owner == owner:
                yield entry

    def take(self, name: Name) -> Entry | None:
        """Remove an entry and return it."""
        return self._boards[name.namespace].take(name)

    def purge(self, now: float) -> None:
        """Remove what has expired."""
        for entry in list(self):
            if entry.expires is not None and entry.expires <= now:
                self.take(entry.name)
