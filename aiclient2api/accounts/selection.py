"""
Which account is next: accounts in the order of a strategy, found in logarithmic time.

Pure: it knows neither clocks but the time it is told, nor what a lease is. Numbers in a
`Member` say where it stands; a `Line` is a heap over them whose stale entries are dropped
when they come to its top; a `Group` holds the lines of accounts that serve the same models.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping

import attrs

from aiclient2api.accounts.account import State
from aiclient2api.values import Account, AccountReport, Tally, Usage

OVERLAYS = 32
"""Models of one group that have lines of their own at a time; beyond, accounts are passed by."""

MODELS = 64
"""Models of one account whose state is remembered; beyond, the oldest is forgotten."""


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


class Group:
    """
    Accounts that serve the same models.

    :ivar waiting_room: Requests that may wait for those of its accounts that are busy.
    """

    def __init__(self, account: Account, strategy: Key) -> None:
        self._pattern = account
        self._usual = Lines(strategy, "")
        self._single: dict[str, Lines] = {}
        self._worse: dict[str, set[Member]] = {}
        self._lacking: dict[str, set[Member]] = {}
        self._members: dict[Member, None] = {}
        self._full: set[Member] = set()
        self.waiting_room = 0

    def serves(self, model: str) -> bool:
        """Say whether *model* is among those its accounts serve."""
        return serves(self._pattern, model)

    def lacks(self, model: str) -> bool:
        """Say whether each of its accounts has said that there is no such model."""
        return len(self._lacking.get(model, ())) == len(self._members)

    def lines(self, model: str, now: float) -> Lines:
        """Return the lines to look for an account in."""
        lines = self._single.get(model, self._usual)
        # Made when they are asked for: most models that failed once never are again.
        if lines is self._usual and model in self._worse and len(self._single) < OVERLAYS:
            lines = self._single[model] = self._usual.copied(model)
            for member in self._worse[model]:
                lines.place(member, now)
        return lines

    def place(self, member: Member, now: float) -> None:
        """Put a member where it belongs in all lines, as things are now."""
        self._members[member] = None
        self._usual.place(member, now)
        for lines in self._single.values():
            lines.place(member, now)
        self._count(member, full=member.busy and member.state.opens_at is not None)

    def eased(self, member: Member) -> None:
        """Note that a member has less to do than before, and may have had more."""
        self._usual.eased(member)
        for lines in self._single.values():
            lines.eased(member)

    def remove(self, member: Member) -> None:
        """Take a member out."""
        self._members.pop(member, None)
        for lines in (self._usual, *self._single.values()):
            lines.remove(member)
        for model in tuple(self._worse):
            self.settled(member, model)
        self._count(member, full=False)

    def worse(self, member: Member, model: str) -> None:
        """Note that a member has a state of its own for *model*."""
        self._worse.setdefault(model, set()).add(member)
        lacking = self._lacking.setdefault(model, set())
        if member.models[model].unserved:
            lacking.add(member)
        else:
            lacking.discard(member)

    def settled(self, member: Member, model: str) -> None:
        """Note that a member has none any more."""
        members = self._worse.get(model)
        if members is None:
            return
        members.discard(member)
        self._lacking[model].discard(member)
        if not members:
            del self._worse[model], self._lacking[model]
            self._single.pop(model, None)

    def _count(self, member: Member, *, full: bool) -> None:
        if full and member not in self._full:
            self._full.add(member)
            self.waiting_room += member.account.queue
        elif not full and member in self._full:
            self._full.discard(member)
            self.waiting_room -= member.account.queue

    @property
    def occupied(self) -> bool:
        """Say whether an account of it would serve, if it had not as much to do as it may."""
        return bool(self._full)


class Field:
    """
    All accounts of a pool, by what they serve.

    :param strategy: One of `STRATEGIES`.
    """

    def __init__(self, strategy: str) -> None:
        self.strategy = strategy
        self._key = STRATEGIES[strategy]
        self._groups: dict[tuple[frozenset[str], frozenset[str]], Group] = {}
        self._of: dict[Member, Group] = {}
        self._serving: dict[str, tuple[Group, ...]] = {}
        self._reached: dict[int, tuple[int, float]] = {}
        self._leases = 0

    def enter(self, member: Member, now: float) -> None:
        """Let a member in, or put one where it belongs after its state has changed."""
        if member.state.barred:
            self.leave(member)
            return
        group = self._of.get(member)
        if group is None:
            account = member.account
            kind = frozenset(account.supported), frozenset(account.unsupported)
            group = self._groups.get(kind)
            if group is None:
                group = self._groups[kind] = Group(account, self._key)
                self._serving.clear()
            self._of[member] = group
        # Who was away makes up for nothing.
        turn, share = self._reached.get(member.account.priority, (0, 0.0))
        member.turn = max(member.turn, turn)
        member.share = max(member.share, share)
        group.place(member, now)

    def leave(self, member: Member) -> None:
        """Take a member out."""
        group = self._of.pop(member, None)
        if group is not None:
            group.remove(member)

    def taken(self, member: Member, now: float) -> None:
        """Note a lease."""
        self._reached[member.account.priority] = member.turn, member.share
        self._leases += 1
        member.active += 1
        member.turn += 1
        member.share += 1.0 / member.account.weight
        member.last = self._leases
        group = self._of.get(member)
        # Otherwise it only goes further back, which its lines find out.
        if group is not None and member.busy:
            group.place(member, now)

    def returned(self, member: Member, now: float) -> None:
        """Note the end of a lease."""
        full = member.busy
        member.active -= 1
        group = self._of.get(member)
        if group is None:
            return
        if full:
            group.place(member, now)
        else:
            group.eased(member)

    def model_changed(self, member: Member, model: str, now: float) -> None:
        """Note that the member's state for one model has begun, changed or gone."""
        group = self._of.get(member)
        if group is None:
            return
        if model in member.models:
            group.worse(member, model)
        else:
            group.settled(member, model)
        group.place(member, now)

    def serving(self, model: str) -> tuple[Group, ...]:
        """Return the groups whose accounts serve *model*."""
        found = self._serving.get(model)
        if found is None:
            if len(self._serving) > 1024:
                self._serving.clear()
            found = tuple(group for group in self._groups.values() if group.serves(model))
            self._serving[model] = found
        return found

    def lacks(self, model: str) -> bool:
        """Say whether nobody serves *model*, or all who might have said that they do not."""
        return all(group.lacks(model) for group in self.serving(model))

    def pick(
        self, model: str, accepts: Callable[[Member], bool], now: float, *, by_load: bool
    ) -> Member | None:
        """Return who is next for *model*, or None."""
        best: Member | None = None
        key = least_loaded if by_load else self._key
        for lines in self._awake(model, now):
            line = lines.by_load if by_load else lines.by_strategy
            member = line.first(accepts)
            if member is not None and (best is None or key(member) < key(best)):
                best = member
        return best

    def soonest(self, model: str, accepts: Callable[[Member], bool], now: float) -> float | None:
        """Return when the first of those that rest returns, in Unix seconds."""
        moments = [lines.soonest(accepts) for lines in self._awake(model, now)]
        return min((moment for moment in moments if moment is not None), default=None)

    def waiting_room(self, model: str) -> int:
        """Return how many requests may wait for accounts that are busy."""
        return sum(group.waiting_room for group in self.serving(model))

    def usable(self, now: float) -> bool:
        """Say whether anything could be served now or within a second."""
        if any(group.occupied for group in self._groups.values()):
            return True
        if any(len(lines.by_strategy) for lines in self._awake("", now)):
            return True
        soonest = self.soonest("", lambda _: True, now)
        return soonest is not None and soonest <= now + 1.0

    def _awake(self, model: str, now: float) -> Iterator[Lines]:
        for group in self.serving(model):
            lines = group.lines(model, now)
            lines.wake(now)
            yield lines
