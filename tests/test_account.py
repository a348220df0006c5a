"""An account's life, cell by cell, and how long each rest is."""

from __future__ import annotations

import itertools
import math

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.accounts.account import (
    LATE,
    LONGEST_REST,
    PACES,
    PROBE_SECONDS,
    TABLE,
    Event,
    Kind,
    Law,
    Pace,
    Phase,
    State,
    at_start,
    concerns_model,
    kind_of,
)
from aiclient2api.errors import Fault, UpstreamError

NOW = 1_790_000_000.0

# In the columns' order; a dot: nothing changes; small letters: the state stays, but a
# number of it changes.
COLUMNS = tuple(Kind)
LETTERS = {
    "R": Phase.READY,
    "F": Phase.REFRESHING,
    "C": Phase.COOLING,
    "E": Phase.EXHAUSTED,
    "J": Phase.REJECTED,
    "P": Phase.PROBING,
    "D": Phase.DISABLED,
}
#                     succeeded
#                     | rate limited
#                     | | out of quota
#                     | | | no capacity
#                     | | | | bad credential
#                     | | | | | not permitted
#                     | | | | | | not served
#                     | | | | | | | upstream fault (the first of three)
#                     | | | | | | | | caller's fault
#                     | | | | | | | | | abandoned
#                     | | | | | | | | | | taken
#                     | | | | | | | | | | | ill
#                     | | | | | | | | | | | | refresh begun
#                     | | | | | | | | | | | | | refreshed
#                     | | | | | | | | | | | | | | refresh failed
#                     | | | | | | | | | | | | | | | disabled
#                     | | | | | | | | | | | | | | | | enabled
#                     | | | | | | | | | | | | | | | | | reset
#                     | | | | | | | | | | | | | | | | | | clock set back
CELLS = {
    Phase.READY: "     r C E C J J J r r . . C F . J D . R r",
    Phase.REFRESHING: ". . . . . . . . . . . . . R J D . R f",
    Phase.COOLING: "   . . . . . . . . . . P . . . J D . R c",
    Phase.EXHAUSTED: " . . . . . . . . . . P . . . J D . R e",
    Phase.REJECTED: "  . . . . . . . . . . P . . R J D . R j",
    Phase.PROBING: "   R C E C J J J C R C P . . . J D . R p",
    Phase.DISABLED: "  . . . . . . . . . . . . . . . . R . d",
}
LATE_CELLS = {
    Phase.READY: "     . . . . . . . . . .",
    Phase.REFRESHING: ". . . . . . . . . .",
    Phase.COOLING: "   . c E c J J . . . .",
    Phase.EXHAUSTED: " . . e . J . . . . .",
    Phase.REJECTED: "  . . . . . . . . . .",
    Phase.PROBING: "   . . . . . . . . . .",
    Phase.DISABLED: "  . . . . . . . . . .",
}


def state_in(phase: Phase) -> State:
    """Return a state as one might find it, an hour from its time to be tried."""
    resting = phase not in (Phase.READY, Phase.REFRESHING, Phase.DISABLED)
    return State(
        phase=phase,
        reason=Kind.RATE_LIMITED if resting else None,
        message="Slow down.",
        since=NOW - 10,
        until=NOW + 3600 if resting else None,
        next_try=NOW + 3600 if resting else None,
        strikes=1,
        back=Phase.COOLING if phase is Phase.PROBING else None,
        generation=7,
    )


class TableTests(SynchronousTestCase):
    """Every state, and everything that can happen in it."""

    def test_no_cell_is_missing(self) -> None:
        """A state or an event without its rule is a failure, in both tables."""
        self.assertEqual(set(TABLE), set(Phase))
        self.assertEqual(set(LATE), set(Phase))
        for phase in Phase:
            self.assertEqual(set(TABLE[phase]), set(Kind), phase)
            self.assertEqual(len(CELLS[phase].split()), len(COLUMNS), phase)
            self.assertEqual(set(LATE[phase]), set(COLUMNS[:10]), phase)
            self.assertEqual(len(LATE_CELLS[phase].split()), 10, phase)

    def test_each_cell(self) -> None:
        """The state that follows is the one of the table above."""
        for late, cells in ((False, CELLS), (True, LATE_CELLS)):
            for phase, letters in cells.items():
                for kind, letter in zip(COLUMNS, letters.split(), strict=False):
                    self.judge(phase, kind, letter, late)

    def judge(self, phase: Phase, kind: Kind, letter: str, late: bool) -> None:
        """See what one event does to one state."""
        before = state_in(phase)
        now = NOW - 100 if kind is Kind.CLOCK_SET_BACK else NOW
        after = Law().next(before, Event(kind, hint=7200.0, late=late), now)
        where = (phase, kind, late)
        if letter == ".":
            self.assertIs(after, before, where)
            return
        self.assertIsNot(after, before, where)
        self.assertIs(after.phase, LETTERS[letter.upper()], where)
        if letter.islower():
            self.assertEqual(after.generation, before.generation, where)
        else:
            self.assertEqual(after.generation, before.generation + 1, where)
            self.assertEqual(after.since, now, where)

    def test_a_failure_is_remembered_with_its_reason(self) -> None:
        """Reason, words, hint and the next try are all there to be told."""
        event = Event(Kind.OUT_OF_QUOTA, hint=86_400.0, message="Daily limit.")
        after = Law().next(State(), event, NOW)
        self.assertEqual(
            attrs.asdict(after.standing(NOW)),
            {
                "state": "exhausted",
                "usable": False,
                "reason": "quota",
                "message": "Daily limit.",
                "since": NOW,
                "until": NOW + 86_400,
                "next_try": NOW + 3600,
            },
        )
        self.assertTrue(after.limited)

    def test_a_caller_is_never_the_accounts_fault(self) -> None:
        """A faulty request, a filter and a context that is too long leave it as it is."""
        for fault in (Fault.CALLER, Fault.POLICY, Fault.CONTEXT):
            kind = kind_of(UpstreamError("no", fault=fault, status=400))
            self.assertIs(kind, Kind.CALLERS_FAULT)
            self.assertFalse(kind.counts)
            self.assertIs(Law().next(State(), Event(kind), NOW).phase, Phase.READY)


class RestTests(SynchronousTestCase):
    """How long an account rests."""

    def rests(self, *events: Event, law: Law = Law()) -> list[float]:  # noqa: B008
        """Return the seconds of each rest, where each is tried as soon as it may be."""
        state, now, found = State(), NOW, []
        for event in events:
            state = law.next(state, event, now)
            assert state.next_try is not None
            found.append(state.next_try - now)
            now = state.next_try
            state = law.next(state, Event(Kind.TAKEN), now)
        return found

    def test_without_a_hint_it_doubles_up_to_a_bound(self) -> None:
        """5 s, 10 s, ... and never more than five minutes."""
        limited = Event(Kind.RATE_LIMITED)
        self.assertEqual(self.rests(*[limited] * 8), [5, 10, 20, 40, 80, 160, 300, 300])

    def test_a_hint_is_heeded(self) -> None:
        """What the upstream says is when it is tried again."""
        self.assertEqual(self.rests(Event(Kind.RATE_LIMITED, hint=17.0)), [17.0])

    def test_a_hint_is_bounded(self) -> None:
        """18 days are told, and tried after half an hour; a quota after an hour."""
        long = 18 * 86_400.0
        self.assertEqual(self.rests(Event(Kind.RATE_LIMITED, hint=long)), [1800.0])
        self.assertEqual(self.rests(*[Event(Kind.OUT_OF_QUOTA, hint=long)] * 3), [3600.0] * 3)

    def test_a_hint_that_is_no_number_is_none(self) -> None:
        """Infinity, zero and less than nothing count as no hint."""
        for hint in (math.inf, math.nan, 0.0, -5.0):
            self.assertEqual(self.rests(Event(Kind.RATE_LIMITED, hint=hint)), [5.0], hint)

    def test_an_upstream_may_fail_a_few_times(self) -> None:
        """The third fault in a row rests it; a success in between starts anew."""
        law, fault = Law(faults=3), Event(Kind.UPSTREAM_FAULT)
        state = law.next(law.next(State(), fault, NOW), fault, NOW)
        self.assertIs(state.phase, Phase.READY)
        forgiven = law.next(state, Event(Kind.SUCCEEDED), NOW)
        self.assertIs(law.next(law.next(forgiven, fault, NOW), fault, NOW).phase, Phase.READY)
        self.assertIs(law.next(state, fault, NOW).phase, Phase.COOLING)

    def test_zero_faults_mean_never(self) -> None:
        """``max_error_count: 0`` keeps it ready whatever its upstream does."""
        law, state = Law(faults=0), State()
        for _ in range(100):
            state = law.next(state, Event(Kind.UPSTREAM_FAULT), NOW)
        self.assertIs(state.phase, Phase.READY)

    def test_an_upstream_that_is_down_is_back_within_half_a_minute(self) -> None:
        """However long it was down, the rests stay short."""
        law, fault = Law(faults=1), Event(Kind.UPSTREAM_FAULT)
        self.assertEqual(self.rests(*[fault] * 6, law=law), [5, 10, 20, 20, 20, 20])

    def test_a_spread_lengthens_what_no_hint_did(self) -> None:
        """So that accounts which fail together do not return together."""
        self.assertEqual(self.rests(Event(Kind.RATE_LIMITED, spread=3.0)), [8.0])
        self.assertEqual(self.rests(Event(Kind.RATE_LIMITED, hint=9.0, spread=3.0)), [9.0])

    def test_a_try_that_taught_nothing_is_tried_again_at_once(self) -> None:
        """The client left: the account is due as before."""
        law = Law()
        resting = law.next(State(), Event(Kind.OUT_OF_QUOTA), NOW)
        trying = law.next(resting, Event(Kind.TAKEN), NOW + 300)
        back = law.next(trying, Event(Kind.ABANDONED), NOW + 301)
        self.assertIs(back.phase, Phase.EXHAUSTED)
        self.assertEqual(back.opens_at, NOW + 301)
        self.assertEqual(back.strikes, resting.strikes)

    def test_a_try_is_alone(self) -> None:
        """While it is under way nobody else may have the account, for a minute at most."""
        resting = Law().next(State(), Event(Kind.RATE_LIMITED), NOW)
        trying = Law().next(resting, Event(Kind.TAKEN), NOW + 5)
        self.assertEqual(trying.opens_at, NOW + 5 + PROBE_SECONDS)
        self.assertTrue(trying.passing)
        again = Law().next(trying, Event(Kind.TAKEN), NOW + 65)
        self.assertEqual((again.back, again.opens_at), (Phase.COOLING, NOW + 125))

    def test_a_rest_is_a_second_at_least(self) -> None:
        """``retry-after-ms: 10`` is no reason to ask a hundred times a second."""
        self.assertEqual(self.rests(Event(Kind.RATE_LIMITED, hint=0.01)), [1.0])

    def test_a_try_the_process_died_of_rests_on(self) -> None:
        """After a restart it is not tried again at once."""
        resting = Law().next(State(), Event(Kind.OUT_OF_QUOTA), NOW)
        trying = Law().next(resting, Event(Kind.TAKEN), NOW + 300)
        known = at_start(trying)
        self.assertIs(known.phase, Phase.EXHAUSTED)
        self.assertEqual(known.opens_at, NOW + 300 + PROBE_SECONDS)
        self.assertIs(at_start(State(phase=Phase.REFRESHING)).phase, Phase.READY)

    def test_a_clock_set_back_strands_nobody(self) -> None:
        """The rest is as long as it was meant to be, counted from the new time."""
        resting = Law().next(State(), Event(Kind.RATE_LIMITED, hint=60.0), NOW)
        year = 365 * 86_400.0
        moved = Law().next(resting, Event(Kind.CLOCK_SET_BACK), NOW - year)
        self.assertEqual(moved.opens_at, NOW - year + 60)
        self.assertEqual(moved.until, NOW - year + 60)

    def test_many_that_fail_at_once_are_one_fault(self) -> None:
        """Those that began before it rested neither lengthen the rest nor shorten it."""
        law = Law()
        state = law.next(State(), Event(Kind.RATE_LIMITED), NOW)
        for _ in range(9):
            state = law.next(state, Event(Kind.RATE_LIMITED, late=True), NOW + 1)
        self.assertEqual((state.strikes, state.opens_at), (1, NOW + 5))
        longer = law.next(state, Event(Kind.RATE_LIMITED, hint=60.0, late=True), NOW + 1)
        self.assertEqual(longer.opens_at, NOW + 61)
        shorter = law.next(longer, Event(Kind.RATE_LIMITED, hint=2.0, late=True), NOW + 1)
        self.assertEqual(shorter.opens_at, NOW + 61)


class ScopeTests(SynchronousTestCase):
    """Whether an error is the account's or a model's."""

    def test_by_the_fault(self) -> None:
        """An unknown model is the model's, anything else the account's."""
        for fault in Fault:
            error = UpstreamError("no", fault=fault, status=500)
            self.assertEqual(concerns_model(error), fault is Fault.NOT_FOUND, fault)

    def test_want_of_capacity_is_the_upstreams(self) -> None:
        """Unless it says that it is one model that is crowded."""
        for said, kind in (
            (None, Kind.UPSTREAM_FAULT),
            (False, Kind.UPSTREAM_FAULT),
            (True, Kind.NO_CAPACITY),
        ):
            error = UpstreamError("no", fault=Fault.CAPACITY, status=503, of_model=said)
            self.assertEqual((kind_of(error), concerns_model(error)), (kind, bool(said)))

    def test_something_else_that_is_not_there(self) -> None:
        """What a request refers to is the caller's affair; a page that is no API is not."""
        error = UpstreamError("no", fault=Fault.NOT_FOUND, status=404, of_model=False)
        self.assertIs(kind_of(error), Kind.CALLERS_FAULT)
        error = UpstreamError(
            "no", fault=Fault.NOT_FOUND, status=404, of_model=False, code="no_answer"
        )
        self.assertIs(kind_of(error), Kind.UPSTREAM_FAULT)

    def test_by_what_the_upstream_says(self) -> None:
        """A limit of one model is told by its provider; a caller's fault is nobody's."""
        for said in (True, False):
            error = UpstreamError("no", fault=Fault.QUOTA, status=429, of_model=said)
            self.assertEqual(concerns_model(error), said)
        error = UpstreamError("no", fault=Fault.CALLER, status=400, of_model=True)
        self.assertFalse(concerns_model(error))


_HINTS = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))


class LawTests(SynchronousTestCase):
    """What holds whatever happens, in whatever order."""

    @given(
        st.lists(st.tuples(st.sampled_from(Kind), _HINTS, st.booleans(), st.floats(-1e6, 1e6))),
        st.integers(0, 5),
    )
    def test_nobody_rests_for_longer_than_the_bound(
        self, events: list[tuple[Kind, float | None, bool, float]], faults: int
    ) -> None:
        """Every state that time alone ends is over within `LONGEST_REST`."""
        law, state, now = Law(faults=faults), State(since=NOW), NOW
        for kind, hint, late, step in events:
            now += step
            if state.since > now:
                state = law.next(state, Event(Kind.CLOCK_SET_BACK), now)
            late = late and kind in COLUMNS[:10]
            state = law.next(state, Event(kind, hint=hint, late=late), now)
            opens = state.next_try_allowed
            if opens is not None:
                self.assertLessEqual(opens - now, LONGEST_REST)
            if state.rests:
                self.assertIsNotNone(opens)

    def test_a_clock_set_back_behind_a_longer_hint(self) -> None:
        """What a late answer made longer is no longer for a clock that goes back since."""
        law = Law(faults=1)
        state = law.next(state_in(Phase.READY), Event(Kind.OUT_OF_QUOTA, hint=60.0), NOW)
        state = law.next(state, Event(Kind.OUT_OF_QUOTA, hint=1e9, late=True), NOW + 10)
        self.assertGreater(state.since, NOW + 5)
        state = law.next(state, Event(Kind.CLOCK_SET_BACK), NOW + 5)
        self.assertLessEqual((state.next_try_allowed or 0.0) - NOW - 5, LONGEST_REST)

    def test_every_rest_has_a_pace(self) -> None:
        """No event that begins a rest lacks its length, and none is too long."""
        for phase, kind in itertools.product(Phase, Kind):
            after = Law(faults=1).next(state_in(phase), Event(kind), NOW)
            if after.rests and after.reason is kind:
                self.assertIn(kind, PACES)
        for pace in PACES.values():
            self.assertLessEqual(max(attrs.astuple(pace)), LONGEST_REST)
        self.assertEqual(Pace(1.0, 2.0, 3.0).seconds(10**6, None, 0.0), 2.0)
