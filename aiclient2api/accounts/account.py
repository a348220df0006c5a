"""
An account's life: one table of states, and the one function that reads it.

The same law governs a whole account and a single model of one. Pure: it knows no clock
but the time it is told, and neither pools nor stores. What a state is called is nobody
else's business; whoever leases accounts asks `State.opens_at`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping

import attrs

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.values import Standing

LONGEST_REST = 3600.0
"""Seconds: no account rests for longer than this without being tried, whatever it was told."""

SHORTEST_REST = 1.0
"""Seconds: whatever an upstream says, an account is not tried more often than that."""

PROBE_SECONDS = 60.0
"""Seconds that a try is alone; if nothing is known of it by then, there may be another one."""

LONGEST_HINT = 366 * 86400.0
"""Seconds: what is told of an upstream's hint goes no further."""


class Phase(enum.Enum):
    """What state an account is in."""

    READY = "ready"
    REFRESHING = "refreshing"
    COOLING = "cooling"
    EXHAUSTED = "exhausted"
    REJECTED = "rejected"
    PROBING = "probing"
    DISABLED = "disabled"


class Kind(enum.Enum):
    """What can happen to an account. The first ones are how a lease ends."""

    SUCCEEDED = "succeeded"
    RATE_LIMITED = "rate_limit"
    OUT_OF_QUOTA = "quota"
    NO_CAPACITY = "capacity"
    BAD_CREDENTIAL = "credential"
    NOT_PERMITTED = "permission"
    NOT_SERVED = "model"
    UPSTREAM_FAULT = "upstream"
    CALLERS_FAULT = "caller"
    ABANDONED = "abandoned"
    TAKEN = "taken"
    ILL = "marked"
    REFRESH_BEGUN = "refresh_begun"
    REFRESHED = "refreshed"
    REFRESH_FAILED = "refresh"
    DISABLED = "disabled"
    ENABLED = "enabled"
    RESET = "reset"
    CLOCK_SET_BACK = "clock"

    @property
    def counts(self) -> bool:
        """Say whether a lease that ended so is a failure of the account or its upstream."""
        return self not in (Kind.SUCCEEDED, Kind.CALLERS_FAULT, Kind.ABANDONED)


_KINDS = {
    Fault.RATE_LIMIT: Kind.RATE_LIMITED,
    Fault.QUOTA: Kind.OUT_OF_QUOTA,
    Fault.CAPACITY: Kind.NO_CAPACITY,
    Fault.CREDENTIAL: Kind.BAD_CREDENTIAL,
    Fault.PERMISSION: Kind.NOT_PERMITTED,
    Fault.NOT_FOUND: Kind.NOT_SERVED,
    Fault.CALLER: Kind.CALLERS_FAULT,
    Fault.POLICY: Kind.CALLERS_FAULT,
    Fault.CONTEXT: Kind.CALLERS_FAULT,
    Fault.SERVER: Kind.UPSTREAM_FAULT,
    Fault.UNREACHABLE: Kind.UPSTREAM_FAULT,
    Fault.RESET: Kind.UPSTREAM_FAULT,
    Fault.TIMEOUT: Kind.UPSTREAM_FAULT,
    Fault.TRUNCATED: Kind.UPSTREAM_FAULT,
}
_LIMITS = frozenset({Kind.RATE_LIMITED, Kind.OUT_OF_QUOTA})


def kind_of(error: UpstreamError) -> Kind:
    """Return what an error means to the account that was asked."""
    kind = _KINDS[error.fault]
    if kind is Kind.NO_CAPACITY and not error.of_model:
        # Nobody said that it is the model: then the upstream is in trouble.
        return Kind.UPSTREAM_FAULT
    if kind is Kind.NOT_SERVED and error.of_model is False:
        # Something else is not there: what the request refers to, or the API itself.
        return Kind.UPSTREAM_FAULT if error.code == "no_answer" else Kind.CALLERS_FAULT
    return kind


def concerns_model(error: UpstreamError) -> bool:
    """Say whether only the model is concerned, and the rest of the account is not."""
    kind = kind_of(error)
    if kind in _LIMITS:
        return bool(error.of_model)
    return kind in (Kind.NO_CAPACITY, Kind.NOT_SERVED)


@attrs.frozen
class Event:
    """
    Something that happened to an account.

    :ivar hint: Seconds after which the upstream says that it is back, or None.
    :ivar message: What it said, free of secrets.
    :ivar spread: Seconds to add to a rest that no hint gave the length of.
    :ivar late: True if the state has changed since the lease began that this came of.
    """

    kind: Kind
    hint: float | None = None
    message: str = attrs.field(default="", repr=False)
    spread: float = 0.0
    late: bool = False


@attrs.frozen
class State:
    """
    Where an account stands. Times are Unix seconds.

    :ivar reason: The `Kind` it rests for; None if it does not.
    :ivar since: When it came into this state.
    :ivar until: When the upstream said that it would be back, or None.
    :ivar next_try: When one request may try it, or None: not before something happens.
    :ivar strikes: Faults in a row: they lengthen the rest.
    :ivar back: While it is tried: the state it goes back to if nothing is learnt.
    :ivar generation: Counts changes, so that a lease knows whether it is late.
    """

    phase: Phase = Phase.READY
    reason: Kind | None = None
    message: str = attrs.field(default="", repr=False)
    since: float = 0.0
    until: float | None = None
    next_try: float | None = None
    strikes: int = 0
    back: Phase | None = None
    generation: int = 0

    @property
    def opens_at(self) -> float | None:
        """Return from when on it may be leased; None: not before something happens."""
        return -math.inf if self.phase is Phase.READY else self.next_try_allowed

    @property
    def next_try_allowed(self) -> float | None:
        """Return when a request may try it, if that is for time alone to bring."""
        return self.next_try if _TRIED[self.phase] else None

    @property
    def rests(self) -> bool:
        """Say whether a lease of it is a try, of which there is one at a time."""
        return _TRIED[self.phase]

    @property
    def passing(self) -> bool:
        """Say whether something is under way that will change it soon."""
        return _PASSING[self.phase]

    @property
    def barred(self) -> bool:
        """Say whether only the operator can change it."""
        return self.phase is Phase.DISABLED

    @property
    def limited(self) -> bool:
        """Say whether it is a limit of the upstream's that it rests for."""
        return self.reason in _LIMITS

    @property
    def unserved(self) -> bool:
        """Say whether it rests because there is no such model."""
        return self.reason is Kind.NOT_SERVED

    @property
    def blank(self) -> bool:
        """Say whether there is nothing to remember of it."""
        return self.phase is Phase.READY and self.strikes == 0

    def standing(self, now: float) -> Standing:
        """Return what to tell of it."""
        opens = self.opens_at
        return Standing(
            state=self.phase.value,
            usable=opens is not None and opens <= now + 1.0,
            reason=self.reason.value if self.reason else "",
            message=self.message,
            since=self.since,
            until=self.until,
            next_try=self.next_try_allowed,
        )


_TRIED = {
    Phase.READY: False,
    Phase.REFRESHING: False,
    Phase.COOLING: True,
    Phase.EXHAUSTED: True,
    Phase.REJECTED: True,
    Phase.PROBING: True,
    Phase.DISABLED: False,
}
"""Whether an account in this state may be tried by one request once its time has come."""

_PASSING = {phase: phase in (Phase.REFRESHING, Phase.PROBING) for phase in Phase}


@attrs.frozen
class Pace:
    """
    How long a rest is, in seconds.

    :ivar first: Without a hint, the first time; doubles with each further one.
    :ivar longest: Without a hint, at most.
    :ivar hinted: With a hint, at most: then it is tried, whatever was said.
    """

    first: float
    longest: float
    hinted: float

    def seconds(self, strikes: int, hint: float | None, spread: float) -> float:
        """Return the length of a rest after so many faults in a row."""
        if hint is not None and math.isfinite(hint) and hint > 0:
            return min(max(hint, SHORTEST_REST), self.hinted, LONGEST_REST)
        rest = self.first * 2.0 ** min(max(strikes - 1, 0), 30)
        return min(min(rest, self.longest) + spread, LONGEST_REST)


PACES: Mapping[Kind, Pace] = {
    Kind.RATE_LIMITED: Pace(first=5.0, longest=300.0, hinted=1800.0),
    Kind.OUT_OF_QUOTA: Pace(first=300.0, longest=3600.0, hinted=3600.0),
    # Short, these two: what is back must be back in use within half a minute.
    Kind.NO_CAPACITY: Pace(first=5.0, longest=20.0, hinted=60.0),
    Kind.UPSTREAM_FAULT: Pace(first=5.0, longest=20.0, hinted=60.0),
    Kind.BAD_CREDENTIAL: Pace(first=300.0, longest=3600.0, hinted=3600.0),
    Kind.NOT_PERMITTED: Pace(first=300.0, longest=3600.0, hinted=3600.0),
    Kind.NOT_SERVED: Pace(first=600.0, longest=3600.0, hinted=3600.0),
    Kind.REFRESH_FAILED: Pace(first=30.0, longest=3600.0, hinted=3600.0),
    Kind.ILL: Pace(first=0.0, longest=0.0, hinted=0.0),
}

# --- the rules that the table is written in ---------------------------------------

Rule = Callable[["Law", State, Event, float], State]


def _stay(law: Law, state: State, event: Event, now: float) -> State:
    return state


def _fresh(law: Law, state: State, event: Event, now: float) -> State:
    if state.blank and not state.message:
        return state
    return State(since=now, generation=state.generation + 1)


def _forgive(law: Law, state: State, event: Event, now: float) -> State:
    """Stay ready, with a clean slate: no change that a lease would have to know of."""
    return attrs.evolve(state, strikes=0, message="") if state.strikes else state


def _to(phase: Phase) -> Rule:
    def change(law: Law, state: State, event: Event, now: float) -> State:
        return State(phase=phase, since=now, generation=state.generation + 1)

    return change


def _rest(phase: Phase) -> Rule:
    def rest(law: Law, state: State, event: Event, now: float) -> State:
        strikes = state.strikes + 1
        return _resting(law, state, event, now, phase=phase, strikes=strikes)

    return rest


def _strike(law: Law, state: State, event: Event, now: float) -> State:
    """Bear it, until there were too many in a row."""
    strikes = state.strikes + 1
    if not law.faults or strikes < law.faults:
        return attrs.evolve(state, strikes=strikes, message=event.message)
    worse = strikes - law.faults + 1
    return _resting(law, state, event, now, phase=Phase.COOLING, strikes=worse)


def _resting(
    law: Law, state: State, event: Event, now: float, *, phase: Phase, strikes: int
) -> State:
    seconds = law.paces[event.kind].seconds(strikes, event.hint, event.spread)
    hint = event.hint
    return State(
        phase=phase,
        reason=event.kind,
        message=event.message,
        since=now,
        until=now + min(hint, LONGEST_HINT) if hint is not None and hint > 0 else None,
        next_try=now + seconds,
        strikes=strikes,
        generation=state.generation + 1,
    )


def _longer(law: Law, state: State, event: Event, now: float) -> State:
    """Rest on; a hint that goes further than what is known makes it longer."""
    if event.hint is None or event.hint <= 0:
        return state
    seconds = law.paces[event.kind].seconds(state.strikes, event.hint, 0.0)
    until = now + min(event.hint, LONGEST_HINT)
    return attrs.evolve(
        state,
        # A clock that is set back behind this moment is seen to have been.
        since=now,
        until=until if state.until is None else max(state.until, until),
        next_try=max(state.next_try or 0.0, now + seconds),
    )


def _try(law: Law, state: State, event: Event, now: float) -> State:
    return attrs.evolve(
        state,
        phase=Phase.PROBING,
        since=now,
        back=state.back or state.phase,
        next_try=now + PROBE_SECONDS,
        generation=state.generation + 1,
    )


def _back(law: Law, state: State, event: Event, now: float) -> State:
    """Nothing was learnt: rest on as before, to be tried at once."""
    return attrs.evolve(
        state,
        phase=state.back or Phase.COOLING,
        since=now,
        back=None,
        next_try=now,
        generation=state.generation + 1,
    )


def _rebase(law: Law, state: State, event: Event, now: float) -> State:
    """Rest as long as was meant, seen from a clock that was set back."""

    def moved(moment: float | None, most: float) -> float | None:
        return None if moment is None else now + min(max(moment - state.since, 0.0), most)

    return attrs.evolve(
        state,
        since=now,
        until=moved(state.until, LONGEST_HINT),
        next_try=moved(state.next_try, LONGEST_REST),
    )


# --- the table ----------------------------------------------------------------------

_COOL = _rest(Phase.COOLING)
_EXHAUST = _rest(Phase.EXHAUSTED)
_REJECT = _rest(Phase.REJECTED)

_ENDS = (
    Kind.SUCCEEDED,
    Kind.RATE_LIMITED,
    Kind.OUT_OF_QUOTA,
    Kind.NO_CAPACITY,
    Kind.BAD_CREDENTIAL,
    Kind.NOT_PERMITTED,
    Kind.NOT_SERVED,
    Kind.UPSTREAM_FAULT,
    Kind.CALLERS_FAULT,
    Kind.ABANDONED,
)
_FAILING: Mapping[Kind, Rule] = {
    Kind.RATE_LIMITED: _COOL,
    Kind.OUT_OF_QUOTA: _EXHAUST,
    Kind.NO_CAPACITY: _COOL,
    Kind.BAD_CREDENTIAL: _REJECT,
    Kind.NOT_PERMITTED: _REJECT,
    Kind.NOT_SERVED: _REJECT,
}
_IGNORED: Mapping[Kind, Rule] = dict.fromkeys(_ENDS, _stay)
_ALWAYS: Mapping[Kind, Rule] = {
    Kind.DISABLED: _to(Phase.DISABLED),
    Kind.ENABLED: _stay,
    Kind.RESET: _to(Phase.READY),
    Kind.CLOCK_SET_BACK: _rebase,
    Kind.ILL: _stay,
    Kind.TAKEN: _stay,
    Kind.REFRESH_BEGUN: _stay,
    Kind.REFRESHED: _stay,
    Kind.REFRESH_FAILED: _REJECT,
}
_RESTING: Mapping[Kind, Rule] = {**_IGNORED, **_ALWAYS, Kind.TAKEN: _try}

TABLE: Mapping[Phase, Mapping[Kind, Rule]] = {
    Phase.READY: {
        **_ALWAYS,
        **_FAILING,
        Kind.SUCCEEDED: _forgive,
        Kind.CALLERS_FAULT: _forgive,
        Kind.UPSTREAM_FAULT: _strike,
        Kind.ABANDONED: _stay,
        Kind.ILL: _COOL,
        Kind.REFRESH_BEGUN: _to(Phase.REFRESHING),
    },
    Phase.REFRESHING: {**_ALWAYS, **_IGNORED, Kind.REFRESHED: _fresh},
    Phase.COOLING: _RESTING,
    Phase.EXHAUSTED: _RESTING,
    Phase.REJECTED: {**_RESTING, Kind.REFRESHED: _fresh},
    Phase.PROBING: {
        **_ALWAYS,
        **_FAILING,
        # One that has said nothing for long is given up for another.
        Kind.TAKEN: _try,
        Kind.SUCCEEDED: _fresh,
        # An upstream that finds fault with the request answers again.
        Kind.CALLERS_FAULT: _fresh,
        Kind.UPSTREAM_FAULT: _COOL,
        Kind.ABANDONED: _back,
    },
    Phase.DISABLED: {
        **_ALWAYS,
        **_IGNORED,
        Kind.DISABLED: _stay,
        Kind.ENABLED: _to(Phase.READY),
        Kind.RESET: _stay,
        Kind.REFRESH_FAILED: _stay,
    },
}
"""What each event does in each state, where the lease that it comes of is of that state."""

LATE: Mapping[Phase, Mapping[Kind, Rule]] = {
    Phase.READY: _IGNORED,
    Phase.REFRESHING: _IGNORED,
    Phase.COOLING: {
        **_IGNORED,
        Kind.RATE_LIMITED: _longer,
        Kind.NO_CAPACITY: _longer,
        # Worse than what it rests for so far.
        Kind.OUT_OF_QUOTA: _EXHAUST,
        Kind.BAD_CREDENTIAL: _REJECT,
        Kind.NOT_PERMITTED: _REJECT,
    },
    Phase.EXHAUSTED: {**_IGNORED, Kind.OUT_OF_QUOTA: _longer, Kind.BAD_CREDENTIAL: _REJECT},
    Phase.REJECTED: _IGNORED,
    Phase.PROBING: _IGNORED,
    Phase.DISABLED: _IGNORED,
}
"""The same for leases that began before the state did: ten that fail at once are one fault."""


@attrs.frozen
class Law:
    """
    What becomes of an account when something happens to it.

    :ivar faults: Upstream faults in a row before it rests (``max_error_count``); 0: never.
    """

    faults: int = 3
    paces: Mapping[Kind, Pace] = PACES

    def next(self, state: State, event: Event, now: float) -> State:
        """
        Return the state that follows. Pure.

        :param now: Unix seconds.
        """
        table = LATE if event.late else TABLE
        return table[state.phase][event.kind](self, state, event, now)


def at_start(state: State) -> State:
    """Return a state that was kept, as it is after the process has begun anew."""
    if state.phase is Phase.PROBING:
        return attrs.evolve(state, phase=state.back or Phase.COOLING, back=None)
    if state.phase is Phase.REFRESHING:
        return State(since=state.since, generation=state.generation)
    return state
