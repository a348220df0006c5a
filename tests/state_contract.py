"""
What holds of every store, as a suite that is run against each.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from aiclient2api.interfaces import IStateStore

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase as Case
else:
    Case = object

KIB = 1024


class StoreFixture(Case):
    """
    A store to be tested, and short ways to use it.

    :cvar outlives: True if values are found again after a restart.
    """

    outlives = False

    def setUp(self) -> None:
        """Start a store on a clock of our own."""
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.store = self.made()
        self.store.start()

    def made(self) -> Any:
        """Return a store that was not started."""
        raise NotImplementedError

    async def restart(self) -> None:
        """Start again on what is left, if this is a store that outlives us."""
        if self.outlives:
            await self.store.close()
            self.store = self.made()
            self.store.start()

    def put(self, key: str, value: bytes = b"v", **how: Any) -> bool:
        """Put a value; whose it is and how long it lasts can be said."""
        named = {"namespace": "n", "owner": "o", "ttl": None, **how}
        return bool(self.store.put(key=key, value=value, **named))

    async def get(self, key: str, **whose: Any) -> bytes | None:
        """Get a value."""
        value: bytes | None = await self.store.get(
            **{"namespace": "n", "owner": "o", "key": key, **whose}
        )
        return value

    async def delete(self, key: str, **whose: Any) -> bool:
        """Delete a value."""
        return bool(
            await self.store.delete(**{"namespace": "n", "owner": "o", "key": key, **whose})
        )

    async def scan(self, **whose: Any) -> dict[str, bytes]:
        """Return all values of an owner."""
        return dict(await self.store.scan(**{"namespace": "n", "owner": "o", **whose}))

    async def found(self, *keys: str, **whose: Any) -> list[str]:
        """Return those of *keys* that are there."""
        return [key for key in keys if await self.get(key, **whose) is not None]

    def limit(self, **limits: int) -> None:
        """Set the limits of the namespace."""
        self.store.limit(namespace="n", **limits)


class StoreContract(StoreFixture):
    """The contract of `IStateStore`."""

    async def test_it_provides_the_interface(self) -> None:
        """Whoever knows the contract can use it."""
        verifyObject(IStateStore, self.store)

    async def test_what_was_put_is_found(self) -> None:
        """At once and after a restart; what was not put is not."""
        self.assertTrue(self.put("a", b"1"))
        self.assertEqual(await self.get("a"), b"1")
        await self.restart()
        self.assertEqual(await self.get("a"), b"1")
        self.assertIsNone(await self.get("b"))

    async def test_it_is_found_in_the_same_turn(self) -> None:
        """Before any thread had a chance to run."""
        self.put("a", b"1")
        self.assertEqual(
            self.successResultOf(self.store.get(namespace="n", owner="o", key="a")), b"1"
        )

    async def test_a_value_takes_the_place_of_the_one_before(self) -> None:
        """In memory, and of one that was written long ago."""
        self.put("a", b"1")
        self.put("a", b"2")
        self.assertEqual(await self.get("a"), b"2")
        await self.restart()
        self.put("a", b"3")
        self.assertEqual(await self.get("a"), b"3")
        await self.restart()
        self.assertEqual(await self.get("a"), b"3")

    async def test_any_bytes_come_back_as_they_were(self) -> None:
        """Empty, large, compressible or not."""
        values = [b"", b"\0\xff", b"x" * KIB, b"x" * (KIB + 1), b"ab" * 300_000, os.urandom(5000)]
        for number, value in enumerate(values):
            self.put(str(number), value)
        await self.restart()
        for number, value in enumerate(values):
            self.assertEqual(await self.get(str(number)), value)

    async def test_any_text_is_a_name(self) -> None:
        """Also one that is no UTF-8, has a zero in it, is empty or very long."""
        names = ["", "\0", "a\0b", "a", "é", "\ud800", "'; DROP TABLE entry; --", "k" * 10_000]
        for name in names:
            self.put(name, name.encode("utf-8", "surrogatepass"), owner=name, namespace=name)
        await self.restart()
        for name in names:
            value = await self.get(name, owner=name, namespace=name)
            self.assertEqual(value, name.encode("utf-8", "surrogatepass"))

    async def test_an_owner_sees_nobody_elses(self) -> None:
        """Neither to get, to delete nor to replace, whatever the key."""
        self.put("a", b"mine")
        for _ in range(2):
            self.assertIsNone(await self.get("a", owner="other"))
            self.assertIsNone(await self.get("a", namespace="other"))
            self.assertFalse(await self.delete("a", owner="other"))
            self.assertEqual(await self.get("a"), b"mine")
            await self.restart()
        self.put("a", b"theirs", owner="other")
        await self.restart()
        self.assertEqual(await self.get("a"), b"mine")
        self.assertEqual(await self.get("a", owner="other"), b"theirs")

    async def test_parts_of_a_name_do_not_run_together(self) -> None:
        """``ab`` of ``c`` is not ``a`` of ``bc``."""
        self.put("ab", b"1", owner="c")
        await self.restart()
        self.assertIsNone(await self.get("a", owner="bc"))
        self.assertIsNone(await self.get("b", owner="ca"))

    async def test_all_values_of_an_owner(self) -> None:
        """By key, at once and after a restart; nobody else's are among them."""
        self.assertEqual(await self.scan(), {})
        mine = {"a": b"1", "b": b"x" * 5000, "": b"", "\ud800": b"4"}
        for key, value in mine.items():
            self.put(key, value)
        self.put("c", owner="other")
        self.put("c", namespace="other")
        self.put("c", owner="")
        self.assertEqual(await self.scan(), mine)
        await self.restart()
        self.assertEqual(await self.scan(), mine)
        self.assertEqual(await self.scan(owner="other"), {"c": b"v"})
        self.assertEqual(await self.scan(owner="nobody"), {})

    async def test_all_values_are_those_of_now(self) -> None:
        """What was put or deleted since counts, whether it was written or not."""
        for key in "abc":
            self.put(key, b"old")
        await self.restart()
        self.put("a", b"new")
        self.put("d", b"new")
        deleted = self.store.delete(namespace="n", owner="o", key="b")
        now = {"a": b"new", "c": b"old", "d": b"new"}
        self.assertEqual(await self.scan(), now)
        self.assertTrue(await deleted)
        await self.restart()
        self.assertEqual(await self.scan(), now)

    async def test_all_values_without_those_that_expired(self) -> None:
        """To the second; one that took an older's place has a time of its own."""
        self.put("a", b"old")
        self.put("b", ttl=20)
        await self.restart()
        self.put("a", b"new", ttl=10)
        self.put("c", ttl=10)
        self.assertEqual(await self.scan(), {"a": b"new", "b": b"v", "c": b"v"})
        self.clock.advance(10)
        self.assertEqual(await self.scan(), {"b": b"v"})
        self.clock.advance(10)
        self.assertEqual(await self.scan(), {})

    async def test_a_value_that_is_too_large_is_not_among_all(self) -> None:
        """Nor is the one whose place it was to take."""
        self.put("a")
        await self.restart()
        self.limit(total=1000, one=100)
        self.assertFalse(self.put("a", b"x" * 101))
        self.assertEqual(await self.scan(), {})

    async def test_all_values_can_be_changed(self) -> None:
        """What is returned is the asker's: nothing that is kept changes with it."""
        self.put("a")
        first: Any = await self.store.scan(namespace="n", owner="o")
        first.clear()
        self.assertEqual(await self.scan(), {"a": b"v"})

    async def test_what_was_deleted_is_gone(self) -> None:
        """At once, for good, and only the first to delete it is told that it was there."""
        self.put("a")
        self.put("b")
        self.assertTrue(await self.delete("a"))
        self.assertEqual(await self.found("a", "b"), ["b"])
        self.assertFalse(await self.delete("a"))
        await self.restart()
        self.assertEqual(await self.found("a", "b"), ["b"])
        first, second = self.delete("b"), self.delete("b")
        self.assertEqual([await first, await second], [True, False])
        await self.restart()
        self.assertEqual(await self.found("a", "b"), [])

    async def test_a_deleted_value_is_not_found_in_the_same_turn(self) -> None:
        """Before any thread had a chance to run."""
        self.put("a")
        await self.restart()
        deleted = self.store.delete(namespace="n", owner="o", key="a")
        got = self.store.get(namespace="n", owner="o", key="a")
        self.assertIsNone(self.successResultOf(got))
        self.assertTrue(await deleted)

    async def test_it_can_be_put_again(self) -> None:
        """A name that was deleted is as good as new."""
        self.put("a", b"1")
        await self.restart()
        await self.delete("a")
        self.put("a", b"2")
        await self.restart()
        self.assertEqual(await self.get("a"), b"2")

    async def test_values_expire(self) -> None:
        """To the second, whether written or not; without a time they stay."""
        self.put("short", ttl=10)
        self.put("long", ttl=20)
        self.put("ever", ttl=None)
        self.clock.advance(9.5)
        await self.restart()
        self.assertEqual(await self.found("short", "long", "ever"), ["short", "long", "ever"])
        self.clock.advance(0.5)
        self.assertEqual(await self.found("short", "long", "ever"), ["long", "ever"])
        self.assertFalse(await self.delete("short"))
        self.put("late", ttl=5)
        self.clock.advance(10)
        self.assertEqual(await self.found("short", "long", "late", "ever"), ["ever"])
        self.clock.advance(10 * 365 * 86400)
        await self.restart()
        self.assertEqual(await self.found("short", "long", "late", "ever"), ["ever"])

    async def test_putting_again_begins_the_time_anew(self) -> None:
        """The last word counts, also if it is shorter."""
        self.put("a", ttl=10)
        self.put("b", ttl=10)
        await self.restart()
        self.clock.advance(5)
        self.put("a", ttl=10)
        self.put("b", ttl=1)
        await self.restart()
        self.clock.advance(7)
        self.assertEqual(await self.found("a", "b"), ["a"])

    async def test_a_value_may_have_its_bytes_and_no_more(self) -> None:
        """One too large is refused, and what was there is not passed off as it."""
        self.limit(total=10_000, one=100)
        self.assertTrue(self.put("a", b"x" * 100))
        await self.restart()
        self.limit(total=10_000, one=100)
        self.assertEqual(len(await self.get("a") or b""), 100)
        self.assertFalse(self.put("a", b"x" * 101))
        self.assertIsNone(await self.get("a"))
        await self.restart()
        self.assertIsNone(await self.get("a"))
        self.assertTrue(self.put("a", b"x" * 101, namespace="other"))

    async def test_one_value_may_not_have_more_than_all(self) -> None:
        """Whatever the limit of one says."""
        self.limit(total=100, one=1000)
        self.assertFalse(self.put("a", b"x" * 101))
        self.assertTrue(self.put("a", b"x" * 98))
        self.assertEqual(await self.found("a"), ["a"])

    async def test_the_oldest_go_first(self) -> None:
        """What was put again is young; other namespaces are left alone."""
        self.limit(total=3 * 102, one=100)
        for key in "abc":
            self.put(key, b"x" * 100)
        self.put("a", b"x" * 100, namespace="other")
        await self.restart()
        self.limit(total=3 * 102, one=100)
        self.put("a", b"y" * 100)
        await self.restart()
        self.limit(total=3 * 102, one=100)
        self.put("d", b"x" * 100)
        await self.restart()
        self.assertEqual(await self.found("a", "b", "c", "d"), ["a", "c", "d"])
        self.assertEqual(await self.found("a", namespace="other"), ["a"])

    async def test_many_at_once_keep_within_the_limit(self) -> None:
        """Of all that is put in one turn the youngest are left."""
        self.limit(total=10 * 103, one=100)
        for number in range(10, 60):
            self.put(str(number), b"x" * 100)
        await self.restart()
        found = await self.found(*map(str, range(10, 60)))
        self.assertEqual(found, [str(number) for number in range(50, 60)])

    async def test_names_count_as_well(self) -> None:
        """Empty values without end do not fit."""
        self.limit(total=50, one=100)
        for number in range(10, 60):
            self.put(str(number), b"")
        await self.restart()
        self.assertEqual(len(await self.found(*map(str, range(10, 60)))), 50 // len("o10"))

    async def test_limits_can_be_lowered(self) -> None:
        """What is too much then goes within a minute; 0 keeps nothing."""
        for key in "abc":
            self.put(key, b"x" * 100)
        await self.restart()
        self.assertEqual(await self.found("a", "b", "c"), ["a", "b", "c"])
        self.limit(total=2 * 102, one=100)
        self.clock.advance(60)
        self.assertEqual(await self.found("a", "b", "c"), ["b", "c"])
        self.limit(total=0, one=0)
        self.clock.advance(60)
        self.assertEqual(await self.found("a", "b", "c"), [])
        self.assertFalse(self.put("a", b""))

    async def test_one_can_put_before_the_start(self) -> None:
        """It is found, and kept once the store has started."""
        await self.store.close()
        self.store = self.made()
        self.put("a")
        self.assertEqual(await self.found("a", "b"), ["a"])
        self.assertEqual(await self.scan(), {"a": b"v"})
        self.assertFalse(await self.delete("b"))
        self.store.start()
        self.store.start()
        await self.restart()
        self.assertEqual(await self.found("a"), ["a"])

    async def test_all_is_written(self) -> None:
        """Whoever waits for it has another process find what was put, the last of it too."""
        for key in ("a", "b"):
            self.put(key)
            await self.store.flushed()
        self.put("c")
        first, second = self.store.flushed(), self.store.flushed()
        self.put("d")
        await first
        await second
        await self.store.flushed()
        await self.store.flushed()
        if self.outlives:
            other = self.made()
            other.start()
            self.addCleanup(other.close)
            told = await other.scan(namespace="n", owner="o")
            self.assertEqual(sorted(told), ["a", "b", "c", "d"])
        await self.store.close()
        await self.store.flushed()

    async def test_after_the_end(self) -> None:
        """Nothing is kept, nothing is found, nothing is raised."""
        self.put("a")
        first, second = self.store.close(), self.store.close()
        self.assertFalse(self.put("a", b"late"))
        self.assertIsNone(await self.get("a"))
        self.assertEqual(await self.scan(), {})
        await first
        await second
        await self.store.close()
        self.store.start()
        self.assertFalse(self.put("b"))
        self.assertEqual(await self.found("a", "b"), [])
        self.assertFalse(await self.delete("a"))

    async def test_who_no_longer_waits(self) -> None:
        """Cancelling gives up the wait; what was asked for is done all the same."""
        self.put("a")
        self.put("b")
        await self.restart()
        for wait in (
            self.store.get(namespace="n", owner="o", key="a"),
            self.store.scan(namespace="n", owner="o"),
            self.store.delete(namespace="n", owner="o", key="b"),
            self.store.close(),
        ):
            wait.addErrback(lambda failure: failure.trap(CancelledError))
            wait.cancel()
        await self.restart()
        if self.outlives:
            self.assertEqual(await self.found("a", "b"), ["a"])
