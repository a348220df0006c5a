"""What is under way, and when one more is too much: the counts, without any socket."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import GatewayError, Overloaded, TooManyRequests
from aiclient2api.web.load import Bounds, Connections, Load, Place
from tests.tape import cases


class LoadCase(SynchronousTestCase):
    """What these tests share."""

    def taken(self, load: Load, key: str = "a", size: int = 0) -> Place:
        """Take a place; it must be given."""
        place = load.take(key, size)
        assert isinstance(place, Place), place
        return place

    def refused(self, load: Load, key: str = "a", size: int = 0) -> GatewayError:
        """Take a place; it must be refused, with a time to come back."""
        error = load.take(key, size)
        assert isinstance(error, GatewayError)
        self.assertGreater(error.retry_after or 0, 0)
        return error


class CountTests(LoadCase):
    """How many there may be."""

    def test_no_limit(self) -> None:
        """0 is off."""
        load = Load(Bounds())
        for _ in range(1000):
            self.taken(load, size=1 << 40)
        self.assertEqual(load.in_flight, 1000)

    def test_one_key_too_many(self) -> None:
        """It is told that it is its own requests; another key is served."""
        load = Load(Bounds(per_key=2))
        first, _ = self.taken(load), self.taken(load)
        error = self.refused(load)
        self.assertIsInstance(error, TooManyRequests)
        self.assertEqual(error.status, 429)
        self.assertIn("limits.per_key", error.message)
        self.taken(load, "b")
        first.leave()
        self.taken(load)
        self.assertEqual(load.refused, 1)

    def test_too_many_in_all(self) -> None:
        """Whoever comes then is told that it is the gateway that has too much."""
        load = Load(Bounds(in_flight=2, per_key=2))
        first, _ = self.taken(load, "a"), self.taken(load, "b")
        error = self.refused(load, "c")
        self.assertIsInstance(error, Overloaded)
        self.assertEqual(error.status, 503)
        self.assertIn("limits.in_flight", error.message)
        first.leave()
        self.taken(load, "c")

    def test_a_place_is_given_back_once(self) -> None:
        """However often that is said, by however many that could know."""
        load = Load(Bounds(in_flight=2))
        first, second = self.taken(load, size=5), self.taken(load, size=7)
        for _ in range(3):
            first.leave()
        self.assertEqual((load.in_flight, load.size, load.of("a")), (1, 7, (1, 7)))
        self.assertIsNone(first.hold(10**9))
        second.leave()
        self.assertEqual((load.in_flight, load.size, load.of("a")), (0, 0, (0, 0)))

    def test_new_bounds_hold_at_once(self) -> None:
        """What is under way stays; nothing is begun until there is room."""
        load = Load(Bounds())
        places = [self.taken(load) for _ in range(5)]
        load.bounds = Bounds(in_flight=2)
        self.refused(load)
        for place in places[:4]:
            place.leave()
        self.taken(load)
        self.refused(load)


class BytesTests(LoadCase):
    """How much there may be."""

    def test_what_is_announced_counts_at_once(self) -> None:
        """A hundred that announce a lot and send nothing yet are not all let in."""
        load = Load(Bounds(total_bytes=100))
        self.taken(load, "a", 60)
        error = self.refused(load, "b", 41)
        self.assertEqual((error.status, error.code), (503, "too_many_bytes"))
        self.assertIn("limits.total_bytes", error.message)
        self.taken(load, "b", 40)

    def test_of_one_key(self) -> None:
        """A key that sends too much is no reason to refuse another."""
        load = Load(Bounds(key_bytes=100, total_bytes=1000))
        self.taken(load, "a", 60)
        error = self.refused(load, "a", 41)
        self.assertEqual((error.status, error.code), (429, "too_many_bytes"))
        self.assertIn("limits.key_bytes", error.message)
        self.taken(load, "b", 60)

    def test_what_was_not_announced_counts_as_it_comes(self) -> None:
        """It is refused in the middle, and what it had is given back."""
        load = Load(Bounds(total_bytes=100))
        self.taken(load, "a", 60)
        place = self.taken(load, "b")
        self.assertIsNone(place.hold(30))
        self.assertIsNone(place.hold(40))
        self.assertEqual(load.size, 100)
        error = place.hold(41)
        self.assertIsInstance(error, Overloaded)
        self.assertEqual(load.size, 100)
        place.leave()
        self.assertEqual(load.size, 60)

    def test_what_was_announced_is_not_counted_twice(self) -> None:
        """A body that comes as it was announced takes what was reserved for it."""
        load = Load(Bounds(total_bytes=100))
        place = self.taken(load, "a", 60)
        for size in range(0, 61, 10):
            self.assertIsNone(place.hold(size))
        self.assertEqual(load.size, 60)

    def test_one_alone_is_always_taken(self) -> None:
        """limits.body_bytes says how large one may be, and nothing else does."""
        load = Load(Bounds(total_bytes=10, key_bytes=5))
        self.taken(load, "a", 1000)
        self.assertEqual(self.refused(load, "b", 1).status, 503)
        self.assertEqual(self.refused(load, "a", 1).status, 429)


class SheddingTests(LoadCase):
    """While memory is short."""

    def test_nothing_new(self) -> None:
        """Beside what is under way; but one alone, or nobody would ever be served again."""
        load = Load(Bounds())
        first = self.taken(load)
        load.shedding = True
        error = self.refused(load, "b")
        self.assertEqual((error.status, error.code), (503, "short_of_memory"))
        first.leave()
        self.taken(load, "b")
        self.refused(load, "a")
        load.shedding = False
        self.taken(load, "a")


@attrs.frozen
class Step:
    """One thing that happens: to the *which*-th exchange, or to a new one."""

    what: str
    which: int
    key: str
    size: int


_STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["take", "take", "hold", "leave"]),
        st.integers(0, 40),
        st.sampled_from("abc"),
        st.integers(0, 60),
    ),
    max_size=60,
)
_BOUNDS = st.builds(
    Bounds, st.integers(0, 6), st.integers(0, 4), st.integers(0, 150), st.integers(0, 90)
)


class PropertyTests(SynchronousTestCase):
    """Whatever happens, in whatever order."""

    @cases(400)
    @given(_STEPS, st.lists(_BOUNDS, min_size=1, max_size=3))
    def test_the_counts_are_the_truth(self, steps: list[Step], bounds: list[Bounds]) -> None:
        """They are what a plain list of all that is under way adds up to; at the end, 0."""
        load = Load(bounds[0])
        every: list[tuple[Place, str]] = []
        truth: dict[Place, tuple[str, int]] = {}
        for number, step in enumerate(steps):
            load.bounds = bounds[number * len(bounds) // len(steps)]
            if step.what == "take":
                place = load.take(step.key, step.size)
                if isinstance(place, Place):
                    every.append((place, step.key))
                    truth[place] = (step.key, step.size)
                    self._within(load, [size for _, size in truth.values()], step)
            elif every:
                place, key = every[step.which % len(every)]
                if step.what == "leave":
                    place.leave()
                    truth.pop(place, None)
                elif place in truth and place.hold(step.size) is None:
                    truth[place] = (key, max(truth[place][1], step.size))
            self._agree(load, truth)
        for place, _ in every:
            place.leave()
        self._agree(load, {})
        self.assertEqual(load._shares, {})

    def _within(self, load: Load, sizes: list[int], step: Step) -> None:
        bounds, (places, size) = load.bounds, load.of(step.key)
        self.assertLessEqual(len(sizes), bounds.in_flight or len(sizes))
        self.assertLessEqual(places, bounds.per_key or places)
        if size > step.size:
            self.assertLessEqual(size, bounds.key_bytes or size)
        if sum(sizes) > step.size:
            self.assertLessEqual(sum(sizes), bounds.total_bytes or sum(sizes))

    def _agree(self, load: Load, truth: dict[Place, tuple[str, int]]) -> None:
        self.assertEqual(load.in_flight, len(truth))
        self.assertEqual(load.size, sum(size for _, size in truth.values()))
        for key in "abc":
            mine = [size for owner, size in truth.values() if owner == key]
            self.assertEqual(load.of(key), (len(mine), sum(mine)))


class ConnectionsTests(SynchronousTestCase):
    """Who is closed first where there is no room."""

    def test_the_oldest_without_a_head_goes_first(self) -> None:
        """Before one that was answered, however long that one is idle."""
        those: Connections[str] = Connections()
        for name in ("answered", "old", "new"):
            those.came(name)
        those.at_work("answered")
        those.rests("answered")
        self.assertEqual([those.next_to_go() for _ in range(4)], ["old", "new", "answered", None])
        self.assertEqual(len(those), 3)

    def test_one_at_work_never_goes(self) -> None:
        """It is sending a body, or being answered."""
        those: Connections[str] = Connections()
        those.came("a")
        those.at_work("a")
        self.assertIsNone(those.next_to_go())
        self.assertEqual(those.take_idle(), [])
        those.rests("a")
        self.assertEqual(those.take_idle(), ["a"])

    def test_the_longest_idle_goes_first(self) -> None:
        """Each answer makes a connection the last again."""
        those: Connections[str] = Connections()
        for name in "ab":
            those.came(name)
            those.at_work(name)
            those.rests(name)
        those.speaks("a")
        those.at_work("a")
        those.rests("a")
        self.assertEqual(those.next_to_go(), "b")

    def test_one_that_begins_another_head(self) -> None:
        """It is like one that has just come: others have waited longer."""
        those: Connections[str] = Connections()
        for name in ("answered", "silent"):
            those.came(name)
        those.at_work("answered")
        those.rests("answered")
        those.speaks("answered")
        self.assertEqual([those.next_to_go() for _ in range(2)], ["silent", "answered"])

    def test_what_is_gone_is_forgotten(self) -> None:
        """Wherever it was, and whatever is said of it afterwards."""
        those: Connections[str] = Connections()
        for name in "abc":
            those.came(name)
        those.at_work("b")
        those.at_work("c")
        those.rests("c")
        for name in "abc":
            those.left(name)
            those.rests(name)
        self.assertEqual((len(those), those.next_to_go()), (0, None))
