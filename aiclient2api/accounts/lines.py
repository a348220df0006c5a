"""
Accounts in line: in the order of a strategy, or of their load, or of their return.

Pure: it knows neither clocks but the time it is told, nor what a lease is. Numbers in a
`Member` say where it stands; a `Line` is a heap over them whose entries are put right, or
dropped, when they come to its top.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping

import attrs

from aiclient2api.accounts.account import State
from aiclient2api.values import Account, AccountReport, Tally, Usage


@attrs.define(eq=False)
class Member:
    """
    One account in a pool.

    :ivar index: Its place in the configuration.
    :ivar credential: A digest of its credential.
    :ivar models: The states of single models that are worse off than the account.
    :ivar active: Leases at work.
    :ivar turn: How often it had its turn (round robin).
    :ivar share: Requests it had, divided by its weight.
    :ivar last: When it was leased last, as a number that only grows.
    """

    account: Account
    index: int
    credential: bytes = b""
    state: State = attrs.field(factory=State)
    models: dict[str, State] = attrs.field(factory=dict)
    tally: Tally = attrs.field(factory=Tally)
    last_model: str = ""
    active: int = 0
    turn: int = 0
    share: float = 0.0
    last: int = 0

    @property
    def busy(self) -> bool:
        """Say whether as many leases are at work as may be."""
        return 0 < self.account.concurrency <= self.active

    def opens_at(self, model: str) -> float | None:
        """Return from when on it may be leased for *model*; None: nobody knows."""
        opens = self.state.opens_at
        single = self.models.get(model)
        if single is None or opens is None:
            return opens
        other = single.opens_at
        return None if other is None else max(opens, other)

    def generation_of(self, model: str) -> int:
        """Return how often the state for one model has changed."""
        single = self.models.get(model)
        return 0 if single is None else single.generation

    def book(self, usage: Usage | None, *, failed: bool, now: float) -> None:
        """Count what a lease came to."""
        tally = self.tally
        tally.requests += 1
        tally.failures += failed
        tally.last_used = now
        if usage is not None:
            tally.input += usage.input or 0
            tally.output += usage.output or 0
            tally.cached += usage.cached or 0
            tally.cache_write += usage.cache_write or 0
            tally.reasoning += usage.reasoning or 0

    def report(self, now: float) -> AccountReport:
        """Return all there is to tell of it."""
        return AccountReport(
            account=self.account,
            standing=self.state.standing(now),
            models={model: state.standing(now) for model, state in self.models.items()},
            active=self.active,
            tally=attrs.evolve(self.tally),
        )


def serves(account: Account, model: str) -> bool:
    """Say whether *model* is among those an account serves; ``""`` always is."""
    if not model:
        return True
    if account.supported:
        return model in account.supported
    return model not in account.unsupported


Key = Callable[[Member], tuple[float, ...]]
_Entry = tuple[tuple[float, ...], int, Member]

STRATEGIES: Mapping[str, Key] = {
    "round_robin": lambda m: (-m.account.priority, m.turn, m.index),
    "least_recently_used": lambda m: (-m.account.priority, m.last, m.index),
    "least_busy": lambda m: (-m.account.priority, m.active / m.account.weight, m.last, m.index),
    "fill_first": lambda m: (-m.account.priority, m.index),
    "weighted": lambda m: (-m.account.priority, m.share, m.index),
}
"""By name: what is smallest comes first."""


def least_loaded(member: Member) -> tuple[float, ...]:
    """Return what puts the account in front that has the least to do."""
    weight = member.account.weight
    return (-member.account.priority, member.active / weight, member.share, member.index)


_FALLING = frozenset({least_loaded, STRATEGIES["least_busy"]})
"""Keys that become smaller when a lease ends; the others only grow."""


class Line:
    """
    Members in order of a key, the smallest first.

    What the heap holds of a member is its key as it was, or less, and is put right when it
    comes to the top: a key that has grown costs nothing before. A member whose key has
    become smaller is pushed again; what was pushed before is then stale.
    """

    def __init__(self, key: Key) -> None:
        self._key = key
        self._heap: list[_Entry] = []
        self._entries: dict[Member, _Entry] = {}
        self._counter: Iterator[int] = itertools.count()

    def __len__(self) -> int:
        return len(self._entries)

    def copy(self, line: Line) -> None:
        """Take over who stands in another line; nobody's key may be smaller here."""
        self._heap = line._heap.copy()
        self._entries = line._entries.copy()
        self._counter = line._counter

    def push(self, member: Member) -> None:
        """Put a member where it belongs, whether it stands in line or not."""
        key = self._key(member)
        entry = self._entries.get(member)
        if entry is not None and entry[0] <= key:
            return
        entry = self._entries[member] = (key, next(self._counter), member)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 64 + 4 * len(self._entries):
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)

    def eased(self, member: Member) -> None:
        """Put a member where it belongs, if it stands in line."""
        if member in self._entries:
            self.push(member)

    def discard(self, member: Member) -> None:
        """Take a member out of the line, if it stands there."""
        self._entries.pop(member, None)

    def first(self, accepts: Callable[[Member], bool] = lambda _: True) -> Member | None:
        """Return the first member that is accepted, which stays in line."""
        heap, passed = self._heap, []
        found = None
        while heap:
            entry = heap[0]
            member = entry[2]
            if self._entries.get(member) is not entry:
                heapq.heappop(heap)
            elif entry[0] < (key := self._key(member)):
                entry = self._entries[member] = (key, next(self._counter), member)
                heapq.heapreplace(heap, entry)
            elif accepts(member):
                found = member
                break
            else:
                passed.append(heapq.heappop(heap))
        for entry in passed:
            heapq.heappush(heap, entry)
        return found


class Lines:
    """
    The members of a group that may be leased, and those that rest.

    :param model: What they are to serve; ``""`` where no single model counts.
    """

    def __init__(self, strategy: Key, model: str) -> None:
        self._strategy = strategy
        self._model = model
        self.by_strategy = Line(strategy)
        self.by_load = Line(least_loaded)
        self.resting = Line(lambda member: (member.opens_at(model) or 0.0,))
        self._falling = [self.by_load] + [self.by_strategy] * (strategy in _FALLING)

    def copied(self, model: str) -> Lines:
        """Return the same lines for a model; whoever stands elsewhere there is to be placed."""
        copy = Lines(self._strategy, model)
        copy.by_strategy.copy(self.by_strategy)
        copy.by_load.copy(self.by_load)
        copy.resting.copy(self.resting)
        return copy

    def place(self, member: Member, now: float) -> None:
        """Put a member into the line it belongs in, as things are now."""
        opens = member.opens_at(self._model)
        free = opens is not None and not member.busy
        if free and opens is not None and opens <= now:
            self.by_strategy.push(member)
            self.by_load.push(member)
            self.resting.discard(member)
            return
        self.by_strategy.discard(member)
        self.by_load.discard(member)
        if free:
            self.resting.push(member)
        else:
            self.resting.discard(member)

    def eased(self, member: Member) -> None:
        """Note that a member has less to do than before."""
        for line in self._falling:
            line.eased(member)

    def remove(self, member: Member) -> None:
        """Take a member out."""
        for line in (self.by_strategy, self.by_load, self.resting):
            line.discard(member)

    def wake(self, now: float) -> None:
        """Let those whose rest is over into line."""
        while (member := self.resting.first()) is not None:
            opens = member.opens_at(self._model)
            if opens is not None and opens > now:
                return
            self.place(member, now)

    def soonest(self, accepts: Callable[[Member], bool]) -> float | None:
        """Return when the first of those that rest returns, in Unix seconds."""
        member = self.resting.first(accepts)
        return None if member is None else member.opens_at(self._model)
