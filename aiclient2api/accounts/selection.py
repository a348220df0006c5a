"""
Which account is next: all accounts of a pool, by the models they serve, in logarithmic time.

Pure: it knows neither clocks but the time it is told, nor what a lease is. A `Group` holds
the lines of accounts that serve the same models, the `Field` all groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from aiclient2api.accounts.lines import STRATEGIES, Key, Lines, Member, least_loaded, serves
from aiclient2api.values import Account

OVERLAYS = 32
"""Models of one group that have lines of their own at a time; beyond, accounts are passed by."""

FEW = 8
"""Groups that are looked at one by one; where more serve a model it has lines of its own."""

MODELS = 64
"""Models of one account whose state is remembered; beyond, the oldest is forgotten."""


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

    def worse_off(self, model: str) -> Iterable[Member]:
        """Return those that have a state of their own for *model*."""
        return self._worse.get(model, ())

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
    def occupied(self) -> int:
        """Return how many would serve if they had not as much to do as they may."""
        return len(self._full)

    def has_full(self, member: Member) -> bool:
        """Say whether an account is one of those."""
        return member in self._full

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)


_Told = tuple[str, str]
"""A state's name, and why."""


class Field:
    """
    All accounts of a pool, by what they serve.

    :param strategy: One of `STRATEGIES`.
    :param before: The field whose accounts these were before an edit: it is gone on from.
    """

    def __init__(self, strategy: str, before: Field | None = None) -> None:
        self.strategy = strategy
        self._key = STRATEGIES[strategy]
        self._groups: dict[tuple[frozenset[str], frozenset[str]], Group] = {}
        self._of: dict[Member, Group] = {}
        self._serving: dict[str, tuple[Group, ...]] = {}
        self._wide: dict[str, Lines] = {}
        # By priority: where those who were picked in their turn, or by their load, stood.
        self._turns: dict[int, int] = {} if before is None else before._turns
        self._shares: dict[int, float] = {} if before is None else before._shares
        self._leases: int = 0 if before is None else before._leases

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
        priority = member.account.priority
        member.turn = max(member.turn, self._turns.get(priority, 0))
        member.share = max(member.share, self._shares.get(priority, 0.0))
        group.place(member, now)
        self._place_wide(member, now)

    def leave(self, member: Member) -> None:
        """Take a member out."""
        group = self._of.pop(member, None)
        if group is not None:
            group.remove(member)
            for lines in self._wide.values():
                lines.remove(member)

    def taken(self, member: Member, now: float, *, by: str = "") -> None:
        """
        Note a lease.

        :param by: ``turn`` or ``load``, if the member was picked by that: those who come
            back stand where it stood. Who is picked for a conversation says nothing.
        """
        priority = member.account.priority
        if by == "turn":
            self._turns[priority] = max(member.turn, self._turns.get(priority, 0))
        if by:
            self._shares[priority] = max(member.share, self._shares.get(priority, 0.0))
        self._leases += 1
        member.active += 1
        member.turn += 1
        member.share += 1.0 / member.account.weight
        member.last = self._leases
        group = self._of.get(member)
        # Otherwise it only goes further back, which its lines find out.
        if group is not None and member.busy:
            group.place(member, now)
            self._place_wide(member, now)

    def returned(self, member: Member, now: float) -> None:
        """Note the end of a lease."""
        full = member.busy
        member.active -= 1
        group = self._of.get(member)
        if group is None:
            return
        if full:
            group.place(member, now)
            self._place_wide(member, now)
        else:
            group.eased(member)
            for lines in self._wide.values():
                lines.eased(member)

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
        self._place_wide(member, now)

    def _place_wide(self, member: Member, now: float) -> None:
        for model, lines in self._wide.items():
            if serves(member.account, model):
                lines.place(member, now)

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

    def busy(self, model: str, without: Iterable[Member] = ()) -> tuple[int, int]:
        """
        Return how many accounts are busy that would serve, and how many requests may wait.

        :param without: Those that do not count.
        """
        groups = self.serving(model)
        count = sum(group.occupied for group in groups)
        room = sum(group.waiting_room for group in groups)
        for member in without:
            group = self._of.get(member)
            if group is not None and group in groups and group.has_full(member):
                count -= 1
                room -= member.account.queue
        return count, room

    def states(self, model: str, counts: Mapping[_Told, int]) -> Mapping[_Told, int]:
        """Return *counts* of how accounts fare, and of how those do that lack just *model*."""
        found = Counter(counts)
        for group in self.serving(model):
            for member in group.worse_off(model):
                told = member.models[model].standing(0.0)
                found[told.state, told.reason] += 1
        return found

    def usable(self, now: float) -> bool:
        """Say whether anything could be served now or within a second."""
        if any(group.occupied for group in self._groups.values()):
            return True
        if any(len(lines.by_strategy) for lines in self._awake("", now)):
            return True
        soonest = self.soonest("", lambda _: True, now)
        return soonest is not None and soonest <= now + 1.0

    def _awake(self, model: str, now: float) -> Iterator[Lines]:
        groups = self.serving(model)
        if len(groups) > FEW:
            lines = self._wide.get(model) or self._widened(model, groups, now)
            lines.wake(now)
            yield lines
            return
        for group in groups:
            lines = group.lines(model, now)
            lines.wake(now)
            yield lines

    def _widened(self, model: str, groups: Sequence[Group], now: float) -> Lines:
        """Make lines for a model that accounts of many groups serve."""
        if len(self._wide) >= OVERLAYS:
            del self._wide[next(iter(self._wide))]
        lines = self._wide[model] = Lines(self._key, model)
        for group in groups:
            for member in group:
                lines.place(member, now)
        return lines
