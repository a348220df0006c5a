"""
The accounts of one pool and what happens to them: configured, restored, changed, written.

Every change of a state goes through here, so that whatever hangs on it follows: the lines
that accounts stand in, the store, whoever is told. It leases nothing and waits for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from aiclient2api.accounts import records
from aiclient2api.accounts.account import Event, Kind, Law, State
from aiclient2api.accounts.lines import Member
from aiclient2api.accounts.selection import MODELS, Field
from aiclient2api.values import Account, AccountReport, Standing


class Keeper(Protocol):
    """Where accounts are written down."""

    def mark(self, provider: str, id: str, encode: Callable[[], bytes]) -> None:
        """Write soon; *encode* is called then."""

    def now(self, provider: str, id: str, value: bytes) -> None:
        """Write at once."""


Changed = Callable[[Account, Standing, Standing], None]
"""Told of an account whose state has changed: before, and now."""

_DISABLED = Event(Kind.DISABLED)
_ENABLED = Event(Kind.ENABLED)


class Roster:
    """
    Accounts by id, in the order of the configuration.

    :param name: The provider's configured name.
    :param time: Returns Unix seconds.
    :param keeper: Where accounts are written down, None if they are not.
    :param changed: Told of every change of an account's state.
    :param better: Called when somebody may have become free.
    """

    def __init__(
        self,
        name: str,
        *,
        time: Callable[[], float],
        keeper: Keeper | None,
        changed: Changed,
        better: Callable[[], None],
    ) -> None:
        self._name = name
        self._time = time
        self._keeper = keeper
        self._changed = changed
        self._better = better
        self._last = time()
        self._law = Law()
        self._members: dict[str, Member] = {}
        self._gone: dict[str, bytes] = {}
        self._leaving: dict[str, Member] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.field = Field("round_robin")
        self.passing: set[tuple[Member, str]] = set()
        self.resting = 0
        self.opening = False

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def member(self, id: str) -> Member | None:
        """Return the account of that id, or None."""
        return self._members.get(id)

    def holds(self, member: Member) -> bool:
        """Say whether an account is still one of ours."""
        return self._members.get(member.account.id) is member

    # --- who is in it -----------------------------------------------------------

    def adopt(self, accounts: Sequence[Account], *, strategy: str, law: Law) -> None:
        """
        Take over what is configured, in one step.

        Accounts that stay keep their state; one with another credential begins anew.
        """
        now = self.now()
        old, self._members = self._members, {}
        self._law, self.field = law, Field(strategy, self.field)
        for index, account in enumerate(accounts):
            member = old.pop(account.id, None)
            if member is None and (member := self._leaving.pop(account.id, None)) is not None:
                self._count(None, member.state)
            self._adopt(account, index, member, now)
        for id, member in old.items():
            self._gone[id] = self._written(member)
            self._count(member.state, None)
            if member.active:
                # It may be put back before what it has at work is over.
                self._leaving[id] = member
        if old:
            self.passing = {each for each in self.passing if self.holds(each[0])}

    def _adopt(self, account: Account, index: int, member: Member | None, now: float) -> None:
        known = member is not None
        kept = self._gone.pop(account.id, None)
        if member is None:
            member = Member(account, index, records.credential_digest(account))
            self._members[account.id] = member
            self._count(None, member.state)
            if kept is not None:
                self._recall(member, kept, now)
            elif account.ill:
                self.happen(member, Event(Kind.ILL), now, tell=False)
        else:
            before, member.account, member.index = member.account, account, index
            self._members[account.id] = member
            # Most edits leave most accounts as they are, and a digest takes its time.
            if before.settings != account.settings:
                member.credential = records.credential_digest(account)
                self.renew(member, now)
        self._switch(member, now, tell=known)
        self._enter(member, now)

    def restore(self, kept: Mapping[str, bytes]) -> None:
        """Go on from what was written down, by account id."""
        now = self.now()
        self.opening = False
        for id, value in kept.items():
            member = self._members.get(id)
            if member is None:
                # Who was taken out of the file for a moment must not lose anything.
                self._gone[id] = value
                continue
            self._recall(member, value, now)
            self._switch(member, now, tell=False)
            self._enter(member, now)
        for id, member in self._members.items():
            if id not in kept and not member.state.blank:
                self._keep(member)

    def _recall(self, member: Member, value: bytes, now: float) -> None:
        known = records.decoded(value, member.credential)
        if known is None:
            return
        member.tally, member.last_model = known.tally, known.last_model
        if not known.same:
            return
        self._count(member.state, known.state)
        member.state, member.models = known.state, dict(known.models)
        self._set_back(member, now)

    def _switch(self, member: Member, now: float, *, tell: bool) -> None:
        event = _DISABLED if member.account.disabled else _ENABLED
        self.happen(member, event, now, tell=tell)

    def _enter(self, member: Member, now: float) -> None:
        self.field.enter(member, now)
        for model in member.models:
            self.field.model_changed(member, model, now)

    # --- what happens -----------------------------------------------------------

    def happen(self, member: Member, event: Event, now: float, *, tell: bool = True) -> None:
        """
        Let something happen to an account.

        :param tell: False if nobody is to be told: the account was not known before.
        """
        before = member.state
        after = self._law.next(before, event, now)
        if after is before:
            return
        member.state = after
        if not self.holds(member):
            return
        if after.generation == before.generation and after.next_try == before.next_try:
            return
        self._count(before, after)
        self._note_passing(member, "", after)
        self._enter(member, now)
        self._keep(member)
        if tell:
            self._changed(member.account, before.standing(now), after.standing(now))
        self._better()

    def happen_to_model(self, member: Member, model: str, event: Event, now: float) -> None:
        """Let something happen to one model of an account."""
        before = member.models.get(model, State())
        after = self._law.next(before, event, now)
        if after is before:
            return
        if after.blank:
            member.models.pop(model, None)
        else:
            member.models[model] = after
        if not self.holds(member):
            return
        self._note_passing(member, model, after)
        self.field.model_changed(member, model, now)
        if len(member.models) > MODELS:
            self._forget(member, next(iter(member.models)), now)
        self._keep(member)
        self._better()

    def renew(self, member: Member, now: float) -> None:
        """Forget why an account rests."""
        for model in tuple(member.models):
            self._forget(member, model, now)
        self.happen(member, Event(Kind.RESET), now)

    def _forget(self, member: Member, model: str, now: float) -> None:
        member.models.pop(model, None)
        self._note_passing(member, model, State())
        self.field.model_changed(member, model, now)

    def mark(self, member: Member) -> None:
        """Write an account down soon: what it has done has changed."""
        id = member.account.id
        if self._leaving.get(id) is member:
            self._gone[id] = self._written(member)
            if not member.active:
                del self._leaving[id]
        elif not self.holds(member):
            return
        if self._keeper is not None:
            self._keeper.mark(self._name, id, lambda: self._written(member))

    def _keep(self, member: Member) -> None:
        # Before everything is read, nothing may be written over it.
        if self._keeper is not None and not self.opening:
            self._keeper.now(self._name, member.account.id, self._written(member))

    def _written(self, member: Member) -> bytes:
        return records.encoded(
            member.credential, member.state, member.models, member.tally, member.last_model
        )

    def _note_passing(self, member: Member, model: str, state: State) -> None:
        if state.passing:
            self.passing.add((member, model))
        else:
            self.passing.discard((member, model))

    def _count(self, before: State | None, after: State | None) -> None:
        for state, step in ((before, -1), (after, 1)):
            if state is not None:
                told = state.standing(0.0)
                self.counts[told.state, told.reason] += step
                self.resting += step * state.rests

    # --- time -------------------------------------------------------------------

    def now(self) -> float:
        """Return Unix seconds; nobody rests for longer because the clock was set back."""
        now = self._time()
        if now < self._last - 1.0:
            for member in self._members.values():
                self._set_back(member, now)
                # Whose rest was over may rest again.
                self._enter(member, now)
        self._last = now
        return now

    def _set_back(self, member: Member, now: float) -> None:
        event = Event(Kind.CLOCK_SET_BACK)
        if member.state.since > now:
            self.happen(member, event, now)
        for model, state in tuple(member.models.items()):
            if state.since > now:
                self.happen_to_model(member, model, event, now)

    def report(self) -> Sequence[AccountReport]:
        """Return how every account fares."""
        now = self.now()
        return [member.report(now) for member in self._members.values()]
