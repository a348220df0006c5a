"""
The accounts of one provider, leased one exchange at a time.

What becomes of an account is said in `account`, who is next in `selection`; here the two
meet those who ask, and those who wait. It must never know HTTP, a dialect or what a
provider is, and it compares no state names.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from aiclient2api.accounts import telling
from aiclient2api.accounts.account import Event, Kind, Law, concerns_model, kind_of
from aiclient2api.accounts.affinity import Affinities
from aiclient2api.accounts.leases import Lease
from aiclient2api.accounts.lines import Member, serves
from aiclient2api.accounts.roster import Changed, Keeper, Roster
from aiclient2api.accounts.waiting import Waiter, WaitingRoom, Wish
from aiclient2api.errors import GatewayError, UpstreamError
from aiclient2api.interfaces import IAccountPool, ILease
from aiclient2api.values import Account, AccountReport, Affinity, Clock, Jitter, Usage

MESSAGE = 300
"""Characters of an upstream's words that are kept with an account."""

_SUCCEEDED = Event(Kind.SUCCEEDED)
_ABANDONED = Event(Kind.ABANDONED)


@attrs.frozen
class Rules:
    """
    How a pool goes about it.

    :ivar strategy: One of `selection.STRATEGIES`.
    :ivar spread: Seconds: rests that no hint gave the length of are longer by up to this.
    :ivar queue_seconds: How long a request may wait for an account that is busy.
    """

    strategy: str = "round_robin"
    law: Law = attrs.field(factory=Law)
    spread: float = 0.0
    queue_seconds: float = 60.0


@implementer(IAccountPool)
class AccountPool:
    """
    A pool.

    :param name: The provider's configured name.
    :param clock: An ``IReactorTime`` for waiting.
    :param now: Returns Unix seconds; everything that is kept is told in them.
    :param keeper: Where accounts are written down, None if they are not.
    :param changed: Told of every change of an account's state.
    :param clean: Takes secrets out of what an upstream said, before it is kept.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        now: Callable[[], float],
        jitter: Jitter,
        affinities: Affinities,
        keeper: Keeper | None = None,
        changed: Changed = lambda account, before, after: None,
        clean: Callable[[str], str] = str,
    ) -> None:
        self.name = name
        self._clean = clean
        self._jitter = jitter
        self._affinities = affinities
        self._waiting = WaitingRoom(clock, self._served, self._hopeless, self._returns)
        self._roster = Roster(
            name,
            time=now,
            keeper=keeper,
            changed=changed,
            better=self._waiting.look_later,
        )
        self._rules = Rules()
        self._opening: list[Deferred[None]] = []
        self._enabled: tuple[Account, ...] = ()
        self._models: tuple[str, ...] = ()

    # --- who is in it -----------------------------------------------------------

    def adopt(self, accounts: Sequence[Account], rules: Rules) -> None:
        """
        Take over what is configured: in one step, and for good.

        What accounts that are gone have at work goes on to its end.
        """
        self._rules = rules
        self._roster.adopt(accounts, strategy=rules.strategy, law=rules.law)
        self._enabled = tuple(account for account in accounts if not account.disabled)
        # Thousands of accounts have the same few lists.
        lists = dict.fromkeys(account.supported for account in self._enabled)
        self._models = tuple(dict.fromkeys(itertools.chain(*lists)))
        self._waiting.look_later()

    def open_later(self) -> None:
        """Lease nothing before `restore`: how the accounts fare is still being read."""
        self._roster.opening = True

    @property
    def opening(self) -> bool:
        """Say whether how the accounts fare is not known yet."""
        return self._roster.opening

    def restore(self, kept: Mapping[str, bytes]) -> None:
        """Go on from what was written down, by account id; then lease."""
        self._roster.restore(kept)
        opening, self._opening = self._opening, []
        for waiting in opening:
            waiting.callback(None)

    def close(self) -> None:
        """Let nobody wait any more."""
        self._waiting.close()

    # --- leasing ----------------------------------------------------------------

    def acquire(
        self,
        *,
        model: str,
        exclude: Collection[str] = (),
        affinity: Affinity | None = None,
        wait: float = 0.0,
        limit: float | None = None,
        note: Callable[[str, str, str], None] | None = None,
    ) -> Deferred[ILease]:
        """See `IAccountPool`."""
        wish = Wish(model, frozenset(exclude), affinity, wait, note)
        if not self._roster.opening:
            return self._acquire(wish, limit)
        opening: Deferred[None] = Deferred(self._opening.remove)
        self._opening.append(opening)
        return opening.addCallback(lambda _: self._acquire(wish, limit))

    def _acquire(self, wish: Wish, limit: float | None) -> Deferred[ILease]:
        # Who has waited longer is served first.
        self._waiting.look_first()
        roster, now = self._roster, self._roster.now()
        if wish.affinity is not None:
            wish = self._firm(wish, wish.affinity.keepers)
        telling.passed_by(roster, roster.counts, wish, now)
        lease = self._lease(wish, now)
        if lease is not None:
            return succeed(lease)
        if roster.field.lacks(wish.model):
            served = self._models if self._enabled else None
            return fail(telling.none_serves(self.name, wish.model, served))
        _, room = self._busy(wish)
        queued = room > self._waiting.queued
        seconds = [self._rules.queue_seconds] if queued else []
        soonest = self._soonest(wish)
        if wish.wait > 0 and soonest is not None and soonest <= wish.wait:
            seconds.append(wish.wait)
        longest = max(seconds, default=0.0)
        if limit is not None:
            longest = min(longest, limit)
        if longest <= 0 or self._waiting.full:
            return fail(self._none(wish))
        if wish.note is not None:
            wish.note("waiting", "", f"for an account, up to {longest:g} s")
        return self._waiting.enter(wish, longest, queued=queued, error=self._none)

    def _firm(self, wish: Wish, keepers: Sequence[str]) -> Wish:
        """Return *wish* for just the account that keeps what the request goes on from."""
        # One that is gone cannot be waited for; another may say what is wrong.
        here = [id for id in keepers if self._roster.member(id) is not None]
        return attrs.evolve(wish, firm=here[0]) if here else wish

    def _lease(self, wish: Wish, now: float) -> Lease | None:
        member, why, bind = self._choose(wish, now)
        if member is None:
            return None
        if wish.affinity is not None and bind:
            self._affinities.bind(wish.affinity.bind, member.account.id, now)
        if wish.note is not None:
            tried = "; a try, for its rest is over" if member.state.rests else ""
            wish.note("chosen", member.account.id, why + tried)
        by = {"least loaded": "load", self._rules.strategy: "turn"}.get(why, "")
        return self._take(member, wish.model, now, by=by)

    def _choose(self, wish: Wish, now: float) -> tuple[Member | None, str, bool]:
        """Return who is next, why, and whether its conversation is to stay with it."""
        accepts = _accepting(wish, now)
        by_load = bind = False
        if wish.affinity is not None:
            by_load = self._rules.strategy != "fill_first" and bool(wish.affinity.bind)
            bind = True
            found = self._affinities.find(wish.affinity.find, now)
            member = None if found is None else self._roster.member(found[0])
            if member is not None and accepts(member) and serves(member.account, wish.model):
                if not member.busy:
                    return member, "its conversation's account", True
                # It has as much to do as it may: only this turn goes elsewhere.
                bind = False
        member = self._roster.field.pick(wish.model, accepts, now, by_load=by_load)
        return member, "least loaded" if by_load else self._rules.strategy, bind

    def _take(self, member: Member, model: str, now: float, *, by: str = "") -> Lease:
        roster = self._roster
        if member.state.rests:
            roster.happen(member, Event(Kind.TAKEN), now)
        single = member.models.get(model)
        if single is not None and single.rests:
            roster.happen_to_model(member, model, Event(Kind.TAKEN), now)
        roster.field.taken(member, now, by=by)
        return Lease(
            account=member.account,
            model=model,
            generation=member.state.generation,
            model_generation=member.generation_of(model),
            pool=self,
            member=member,
        )

    # --- waiting ----------------------------------------------------------------

    def _served(self, wish: Wish) -> ILease | None:
        return self._lease(wish, self._roster.now())

    def _soonest(self, wish: Wish) -> float | None:
        """Return in how many seconds somebody returns; 0 where that is being found out."""
        accepts = _sparing(wish)
        for member, model in self._roster.passing:
            serving = model in ("", wish.model) and serves(member.account, wish.model)
            if serving and accepts(member):
                return 0.0
        return self._returns(wish)

    def _returns(self, wish: Wish) -> float | None:
        """Return in how many seconds the first of those that rest is back."""
        now = self._roster.now()
        soonest = self._roster.field.soonest(wish.model, _sparing(wish), now)
        return None if soonest is None else max(0.0, soonest - now)

    def _hopeless(self, waiter: Waiter) -> bool:
        """Say whether nobody returns before a request gives up waiting."""
        if waiter.queued and self._busy(waiter.wish)[0]:
            return False
        soonest = self._soonest(waiter.wish)
        return soonest is None or soonest > waiter.left

    def _busy(self, wish: Wish) -> tuple[int, int]:
        """Return how many are busy that would serve, and how many requests may wait."""
        excluded = (self._roster.member(id) for id in wish.exclude)
        without = [member for member in excluded if member is not None]
        return self._roster.field.busy(wish.model, without)

    def _none(self, wish: Wish) -> GatewayError:
        return telling.none_free(
            self.name,
            self._roster.field.states(wish.model, self._roster.counts),
            busy=self._busy(wish)[0] > 0,
            soonest=self._soonest(wish),
        )

    # --- what comes of a lease --------------------------------------------------

    def proved(self, lease: Lease) -> None:
        """Note that an account answers: what kept it is over."""
        if lease.member.state.passing or lease.model in lease.member.models:
            self._settle(lease, _SUCCEEDED, None, self._roster.now())

    def ended(self, lease: Lease, usage: Usage | None, error: UpstreamError | None) -> None:
        """Note how a lease ended: well if there is no *error*."""
        member, now = lease.member, self._roster.now()
        event = _SUCCEEDED
        if error is None:
            member.last_model = lease.model or member.last_model
        else:
            event = Event(
                kind_of(error),
                hint=error.retry_after,
                message=self._clean(error.message)[:MESSAGE],
                spread=self._rules.spread * self._jitter(),
            )
        member.book(usage, failed=event.kind.counts, now=now)
        self._settle(lease, event, error, now)
        self._returned(member, now)

    def abandoned(self, lease: Lease, usage: Usage | None) -> None:
        """Note that nothing was learnt of an account; what it has done counts all the same."""
        now = self._roster.now()
        if lease.begun:
            lease.member.book(usage, failed=False, now=now)
        self._settle(lease, _ABANDONED, None, now)
        self._returned(lease.member, now)

    def _settle(self, lease: Lease, event: Event, error: UpstreamError | None, now: float) -> None:
        member, model, roster = lease.member, lease.model, self._roster
        of_model = error is not None and bool(model) and concerns_model(error)
        if of_model or model in member.models:
            told = event if of_model or error is None else _ABANDONED
            late = member.generation_of(model) != lease.model_generation
            roster.happen_to_model(member, model, _late(told) if late else told, now)
            if not late:
                lease.model_generation = member.generation_of(model)
        told = event
        if of_model:
            # Who says that there is no such model is in order itself; of a limit or of want
            # of capacity nobody knows.
            told = _SUCCEEDED if event.kind is Kind.NOT_SERVED else _ABANDONED
        late = member.state.generation != lease.generation
        roster.happen(member, _late(told) if late else told, now)
        if not late:
            lease.generation = member.state.generation

    def _returned(self, member: Member, now: float) -> None:
        self._roster.field.returned(member, now)
        self._roster.mark(member)
        self._waiting.look_later()

    # --- telling ----------------------------------------------------------------

    def ready(self, *, model: str, exclude: Collection[str] = ()) -> bool:
        """See `IAccountPool`."""
        now = self._roster.now()
        accepts = _accepting(Wish(model, frozenset(exclude)), now)
        return self._roster.field.pick(model, accepts, now, by_load=False) is not None

    def soonest(self, *, model: str, exclude: Collection[str] = ()) -> float | None:
        """See `IAccountPool`."""
        if self.ready(model=model, exclude=exclude):
            return 0.0
        return self._soonest(Wish(model, frozenset(exclude)))

    def usable(self) -> bool:
        """See `IAccountPool`."""
        return not self._roster.opening and self._roster.field.usable(self._roster.now())

    def snapshot(self) -> Sequence[Account]:
        """See `IAccountPool`."""
        return self._enabled

    def report(self) -> Sequence[AccountReport]:
        """See `IAccountPool`."""
        return self._roster.report()

    def reset(self, ids: Collection[str]) -> Sequence[str]:
        """See `IAccountPool`."""
        now = self._roster.now()
        found = [(id, self._roster.member(id)) for id in ids]
        for _, member in found:
            if member is not None:
                self._roster.renew(member, now)
        return [id for id, member in found if member is not None]

    def due(self) -> Sequence[str]:
        """See `IAccountPool`."""
        now = self._roster.now()
        if not self._roster.resting:
            return []
        return [
            member.account.id
            for member in self._roster
            if member.state.rests and (member.state.opens_at or 0.0) <= now
        ]

    def probe(self, id: str, model: str) -> ILease | None:
        """See `IAccountPool`."""
        now = self._roster.now()
        member = self._roster.member(id)
        if member is None or member.busy or self._roster.opening:
            return None
        opens = member.opens_at(model)
        return None if opens is None or opens > now else self._take(member, model, now)

    def last_model(self, id: str) -> str | None:
        """See `IAccountPool`."""
        member = self._roster.member(id)
        return member.last_model or None if member is not None else None


def _late(event: Event) -> Event:
    return attrs.evolve(event, late=True)


def _sparing(wish: Wish) -> Callable[[Member], bool]:
    def accepts(member: Member) -> bool:
        id = member.account.id
        return id not in wish.exclude and wish.firm in (None, id)

    return accepts


def _accepting(wish: Wish, now: float) -> Callable[[Member], bool]:
    def accepts(member: Member) -> bool:
        opens = member.opens_at(wish.model)
        if opens is None or opens > now:
            return False
        id = member.account.id
        return id not in wish.exclude and wish.firm in (None, id)

    return accepts
