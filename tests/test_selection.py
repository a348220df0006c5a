"""Who is next, compared with a look at everybody; and that it costs what it should."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.accounts.account import Event, Kind, Law
from aiclient2api.accounts.lines import STRATEGIES, Line, Member, least_loaded, serves
from aiclient2api.accounts.selection import FEW, OVERLAYS, Field
from aiclient2api.values import Account

NOW = 1.79e9


def member(index: int, **fields: object) -> Member:
    """Return an account in a pool."""
    settings = {"provider": "p", "id": f"a{index}", "settings": None, **fields}
    return Member(Account(**settings), index)  # type: ignore[arg-type]


class LineTests(SynchronousTestCase):
    """A line of members."""

    def test_the_smallest_key_comes_first(self) -> None:
        """Whatever was pushed before it, and however often."""
        line, members = Line(STRATEGIES["fill_first"]), [member(n) for n in range(5)]
        for each in (*reversed(members), *members):
            line.push(each)
        self.assertIs(line.first(), members[0])
        self.assertEqual(len(line), 5)

    def test_who_was_taken_out_is_not_there(self) -> None:
        """Nor is an entry that was pushed before the key changed."""
        line, (one, two) = Line(STRATEGIES["round_robin"]), (member(0), member(1))
        line.push(one)
        line.push(two)
        one.turn = 5
        line.push(one)
        self.assertIs(line.first(), two)
        line.discard(two)
        self.assertIs(line.first(), one)
        line.discard(one)
        self.assertIsNone(line.first())

    def test_who_is_passed_by_stays_in_line(self) -> None:
        """For the next one who asks."""
        line, members = Line(STRATEGIES["fill_first"]), [member(n) for n in range(3)]
        for each in members:
            line.push(each)
        self.assertIs(line.first(lambda each: each.index == 2), members[2])
        self.assertIs(line.first(), members[0])

    def test_it_does_not_grow_with_its_use(self) -> None:
        """Stale entries are dropped, so that a year of requests takes no memory."""
        line, members = Line(STRATEGIES["round_robin"]), [member(n) for n in range(4)]
        for turn in range(10_000):
            each = members[turn % 4]
            each.turn = turn
            line.push(each)
        self.assertLess(len(line._heap), 200)


class FieldTests(SynchronousTestCase):
    """All accounts of a pool, against a plain search."""

    def test_against_a_plain_search(self) -> None:
        """Whatever happened, the first of all that are allowed is found."""
        for seed in range(60):
            chance = random.Random(seed)
            strategy = chance.choice(tuple(STRATEGIES))
            self.live(chance, strategy)

    def test_against_a_plain_search_with_many_lists(self) -> None:
        """The same where each account has a list of models of its own."""
        for seed in range(20):
            chance = random.Random(1000 + seed)
            self.live(chance, chance.choice(tuple(STRATEGIES)), lists=3 * FEW)

    def live(self, chance: random.Random, strategy: str, lists: int = 0) -> None:
        """Lease, return, rest and come back at random, and compare each time."""
        field, now, law = Field(strategy), NOW, Law()
        models = ("", "m1", "m2")
        kinds = [(), (), ("m1",), *(("m1", "m2", f"own{n}") for n in range(lists))]
        members = [
            member(
                n,
                supported=chance.choice(kinds),
                unsupported=chance.choice(((), ("m2",))),
                priority=chance.choice((0, 1)),
                weight=chance.choice((1, 2)),
                concurrency=chance.choice((0, 1)),
                queue=chance.choice((0, 2)),
            )
            for n in range(max(8, lists))
        ]
        for each in members:
            field.enter(each, now)
        for _ in range(80):
            each = chance.choice(members)
            what = chance.random()
            if what < 0.4:
                if not each.busy:
                    field.taken(each, now)
            elif what < 0.6:
                if each.active:
                    field.returned(each, now)
            elif what < 0.75:
                each.state = law.next(each.state, Event(Kind.RATE_LIMITED), now)
                field.enter(each, now)
            elif what < 0.9:
                model = chance.choice(models[1:])
                if model in each.models and chance.random() < 0.5:
                    del each.models[model]
                else:
                    before = each.models.get(model, each.state)
                    each.models[model] = law.next(before, Event(Kind.NOT_SERVED), now)
                field.model_changed(each, model, now)
            else:
                now += chance.choice((1.0, 6.0, 700.0))
                each.state = law.next(each.state, Event(Kind.RESET), now)
                field.enter(each, now)
            self.compare(field, members, models, now, strategy)

    def compare(
        self,
        field: Field,
        members: list[Member],
        models: tuple[str, ...],
        now: float,
        strategy: str,
    ) -> None:
        """See that the field finds whom a plain search finds."""
        for model in models:
            allowed = [
                each
                for each in members
                if serves(each.account, model)
                and not each.busy
                and (opens := each.opens_at(model)) is not None
                and opens <= now
            ]
            for by_load in (False, True):
                key = least_loaded if by_load else STRATEGIES[strategy]
                expected = min(allowed, key=key, default=None)
                found = field.pick(model, lambda _: True, now, by_load=by_load)
                self.assertEqual(found and key(found), expected and key(expected))
            for without in ((), members[:3]):
                busy = [
                    each
                    for each in members
                    if serves(each.account, model)
                    and each.busy
                    and each.state.opens_at is not None
                    and each not in without
                ]
                room = sum(each.account.queue for each in busy)
                self.assertEqual(field.busy(model, without), (len(busy), room))
            moments = [
                each.opens_at(model)
                for each in members
                if serves(each.account, model) and not each.busy and each not in allowed
            ]
            soonest = min((m for m in moments if m is not None), default=None)
            self.assertEqual(field.soonest(model, lambda _: True, now), soonest)

    def test_many_models_of_their_own_state(self) -> None:
        """Beyond the models that have lines of their own, accounts are passed by."""
        field, one, two = Field("fill_first"), member(0), member(1)
        for each in (one, two):
            field.enter(each, NOW)
        for number in range(OVERLAYS + 5):
            model = f"m{number}"
            one.models[model] = Law().next(one.state, Event(Kind.NOT_SERVED), NOW)
            field.model_changed(one, model, NOW)
        for number in range(OVERLAYS + 5):
            model = f"m{number}"

            def accepts(each: Member, model: str = model) -> bool:
                opens = each.opens_at(model)
                return opens is not None and opens <= NOW

            self.assertIs(field.pick(model, accepts, NOW, by_load=False), two)
        self.assertIs(field.pick("other", lambda _: True, NOW, by_load=False), one)

    def test_the_cost_does_not_grow_with_the_pool(self) -> None:
        """Counted in comparisons of keys: a pool of 4,096 asks few more than one of 16."""

        def cost(size: int) -> float:
            field = Field("round_robin")
            for n in range(size):
                field.enter(member(n), NOW)
            calls = 0

            def accepts(_: Member) -> bool:
                nonlocal calls
                calls += 1
                return True

            for _ in range(200):
                found = field.pick("m", accepts, NOW, by_load=False)
                assert found is not None
                field.taken(found, NOW)
                field.returned(found, NOW)
            return calls / 200

        self.assertEqual((cost(16), cost(4096)), (1.0, 1.0))
