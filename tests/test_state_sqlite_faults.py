"""The store in a file that is damaged, in use or not to be had."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from aiclient2api.state import database
from tests.state_files import FileStoreFixture


class FaultTests(FileStoreFixture):
    """`SQLiteStore`, and what may become of a file on a disk."""

    # --- a file that is no good

    async def test_a_damaged_file_is_set_aside(self) -> None:
        """It is renamed whole, the operator is told, and a new one begun."""
        await self.store.close()
        damaged = b"This is no database. " * 1000
        self.path.write_bytes(damaged)
        await self.restart()
        self.put("a")
        self.assertEqual(await self.get("a"), b"v")
        await self.restart()
        self.assertEqual(await self.get("a"), b"v")
        name = "state.sqlite3.damaged-20231114-221320"
        self.assertEqual((self.path.parent / name).read_bytes(), damaged)
        (told,) = self.told()
        self.assertIn(f"{self.path} is damaged (file is not a database)", told)
        self.assertIn(name, told)

    async def test_no_damaged_file_is_lost(self) -> None:
        """Not even of two within one second."""
        await self.store.close()
        for number in range(2):
            self.path.write_bytes(b"%d" % number * 10_000)
            await self.restart()
            await self.done()
            await self.store.close()
        names = sorted(each.name for each in self.path.parent.iterdir())
        name = "state.sqlite3.damaged-20231114-221320"
        self.assertEqual(names, ["state.sqlite3", name, name + "~"])
        self.assertEqual((self.path.parent / name).read_bytes()[:1], b"0")
        self.assertEqual(len(self.told()), 2)

    async def test_damage_while_it_runs(self) -> None:
        """What can no longer be read is missing; all that comes after is kept."""
        for number in range(100):
            self.put(str(number), os.urandom(50_000))
        await self.done()
        self.clock.advance(60)
        await self.done()
        with self.path.open("r+b") as file:
            file.seek(8192)
            file.write(b"\xa5" * (self.path.stat().st_size - 8192))
        keys = list(map(str, range(100)))
        self.assertLess(len(await self.found(*keys)), 100)
        self.put("new", b"1")
        self.put("another", b"2")
        self.assertEqual(await self.found("new", "another"), ["new", "another"])
        await self.restart()
        self.assertEqual(await self.found("new", "another"), ["new", "another"])
        (told,) = self.told()
        self.assertIn("is damaged", told)

    async def test_a_file_of_a_newer_version_is_left_alone(self) -> None:
        """Whoever goes back a version works in memory and loses nothing."""
        self.put("a", b"1")
        await self.store.close()
        connection = sqlite3.connect(self.path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        before = self.path.read_bytes()
        await self.restart()
        self.put("b")
        await self.done()
        self.assertEqual(await self.found("a", "b"), ["b"])
        await self.store.close()
        self.assertEqual(self.path.read_bytes(), before)
        first, last = self.told()
        self.assertIn("a newer version of aiclient2api made it", first)
        self.assertIn("1 changes of state are lost", last)

    async def test_what_is_no_file_of_ours_is_not_touched(self) -> None:
        """A symbolic link is not followed, and a pipe holds up nobody."""
        await self.store.close()
        target = self.path.parent / "elsewhere"
        target.write_bytes(b"")
        for make in (lambda: self.path.symlink_to(target), lambda: os.mkfifo(self.path)):
            self.path.unlink()
            make()
            await self.restart()
            self.put("a")
            await self.done()
            self.assertEqual(await self.found("a"), ["a"])
            await self.store.close()
            self.assertIn("state.sqlite3 is no regular file of our own", self.told()[0])
        self.assertEqual(target.read_bytes(), b"")

    async def test_someone_elses_file_is_not_touched(self) -> None:
        """A root who tries the daemon by hand leaves nothing that it cannot write."""
        await self.store.close()
        owner = os.geteuid()
        self.patch(os, "geteuid", lambda: owner + 1)
        await self.restart()
        await self.done()
        self.assertIn("is no regular file of our own", self.told()[0])

    # --- a disk that fails

    async def test_where_nothing_can_be_written(self) -> None:
        """Memory serves, the operator is told once, and it is written as soon as it can be."""
        await self.store.close()
        self.path = self.new_path()
        self.path.parent.parent.mkdir()
        self.path.parent.write_bytes(b"no folder")
        await self.restart()
        await self.done()
        self.limit(total=1000, one=100)
        for key in "abc":
            self.put(key, key.encode(), ttl=90)
        self.assertFalse(self.put("large", b"x" * 101))
        self.put("d", b"x" * 100)
        self.assertTrue(await self.delete("c"))
        self.assertEqual(await self.found("a", "b", "c", "d", "e"), ["a", "b", "d"])
        self.assertEqual(list(await self.scan()), ["a", "b", "d"])
        self.clock.advance(60)
        await self.done()
        self.assertEqual(await self.found("a", "b", "c", "d"), ["a", "b", "d"])
        (told,) = self.told()
        self.assertIn(f"State cannot be kept in {self.path}: ", told)
        self.assertIn("--state-dir", told)
        self.clock.advance(60)
        await self.done()
        self.assertEqual(await self.found("a", "b", "c", "d"), ["d"])
        self.path.parent.unlink()
        self.clock.advance(60)
        await self.done()
        self.assertEqual(self.rows(), [b"d"])
        self.assertEqual(self.told(), [])
        await self.restart()
        self.assertEqual(await self.found("a", "d"), ["d"])

    async def test_it_is_told_again_when_it_fails_again(self) -> None:
        """Once for each time that it begins to fail."""
        await self.done()
        for number in range(2):
            other = self.locked()
            self.put(str(number))
            self.put(f"{number}b")
            await self.done()
            self.clock.advance(60)
            await self.done()
            other.rollback()
            other.close()
            self.clock.advance(60)
            await self.done()
            (told,) = self.told()
            self.assertIn("database is locked", told)
        self.assertEqual(self.rows(), [b"0", b"0b", b"1", b"1b"])

    def locked(self) -> sqlite3.Connection:
        """Hold on to the file as another program may."""
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        return other

    async def test_a_file_in_use_can_still_be_read(self) -> None:
        """Somebody who writes keeps nobody from reading."""
        self.put("a", b"1")
        await self.done()
        other = self.locked()
        self.assertEqual(await self.get("a"), b"1")
        self.put("a", b"2")
        await self.done()
        self.assertEqual(await self.get("a"), b"2")
        other.close()
        self.assertEqual(len(self.told()), 1)

    async def test_what_could_not_be_written_at_the_end(self) -> None:
        """The gateway stops all the same, and says what is lost."""
        await self.done()
        other = self.locked()
        self.put("a")
        self.put("b")
        await self.store.close()
        other.close()
        first, last = self.told()
        self.assertIn("database is locked", first)
        self.assertIn(f"2 changes of state are lost: {self.path} could not be written.", last)
        self.assertEqual(self.rows(), [])

    async def test_the_end_is_one_more_chance(self) -> None:
        """What waited for the disk is written when it can be by then."""
        await self.done()
        other = self.locked()
        self.put("a")
        await self.done()
        other.close()
        await self.store.close()
        self.assertEqual(self.rows(), [b"a"])
        self.assertEqual(len(self.told()), 1)

    async def test_a_bug_is_told_without_its_words(self) -> None:
        """And it is not tried again and again, but a minute later."""
        calls = []

        def write(*args: Any) -> None:
            calls.append(1)
            raise KeyError("a secret prompt")

        self.patch(database, "write", write)
        self.put("a")
        self.put("b")
        await self.done()
        self.assertEqual(await self.found("a", "b"), ["a", "b"])
        self.assertEqual(self.told(), ["The state store failed: KeyError. This is a bug."])
        self.assertEqual(len(calls), 1)
        self.patch(database, "write", lambda *args: None)
        self.clock.advance(60)
        await self.done()
        self.assertEqual(self.told(), [])

    async def test_a_bug_in_reading_is_a_missing_value(self) -> None:
        """Nobody who asks is bothered with it."""

        def read(*args: Any) -> None:
            raise KeyError("a secret prompt")

        self.patch(database, "read", read)
        self.assertIsNone(await self.get("a"))
        (told,) = self.told()
        self.assertIn(": KeyError. Until", told)

    async def test_all_values_of_a_file_that_cannot_be_read(self) -> None:
        """There are none, whoever asks is not bothered with it, and the operator is."""
        self.put("a")
        await self.store.close()
        self.path.unlink()
        self.path.mkdir()
        await self.restart()
        self.assertEqual(await self.scan(), {})
        (told,) = self.told()
        self.assertIn("is no regular file of our own", told)

    async def test_all_values_of_a_damaged_file(self) -> None:
        """There are none; what is put afterwards is kept in a new file."""
        await self.store.close()
        self.path.write_bytes(b"This is no database. " * 1000)
        await self.restart()
        self.assertEqual(await self.scan(), {})
        self.put("a")
        await self.restart()
        self.assertEqual(await self.scan(), {"a": b"v"})
        self.assertIn("is damaged", self.told()[0])

    async def test_a_bug_in_reading_all(self) -> None:
        """Nobody who asks is bothered with it, and what is in memory is there."""

        def scan(*args: Any) -> None:
            raise KeyError("a secret prompt")

        self.patch(database, "scan", scan)
        self.store._paused = True
        self.put("a")
        self.assertEqual(await self.scan(), {"a": b"v"})
        (told,) = self.told()
        self.assertIn(": KeyError. Until", told)

    async def test_a_transaction_that_fails_is_not_counted(self) -> None:
        """What was not written does not push out what was."""
        self.limit(total=3 * 102, one=100)
        self.put("a", b"x" * 100)
        self.put("b", b"x" * 100)
        await self.done()

        def trim(*args: Any) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        trimmed = database._trim
        self.patch(database, "_trim", trim)
        self.put("c", b"x" * 100)
        await self.done()
        self.assertIn("disk I/O error", self.told()[0])
        self.patch(database, "_trim", trimmed)
        self.clock.advance(60)
        await self.done()
        self.assertEqual(self.rows(), [b"a", b"b", b"c"])

    async def test_a_purge_that_fails_is_not_the_last(self) -> None:
        """The next minute tries again."""
        self.put("a", ttl=10)
        await self.done()

        def broken(*args: Any) -> None:
            raise RuntimeError("a secret prompt")

        purged = database.purge
        self.patch(database, "purge", broken)
        self.clock.advance(60)
        await self.done()
        (told,) = self.told()
        self.assertTrue(told.endswith("_purge failed: RuntimeError. This is a bug."), told)
        self.assertEqual(self.rows(), [b"a"])
        self.patch(database, "purge", purged)
        self.clock.advance(60)
        await self.done()
        self.assertEqual(self.rows(), [])

    # --- two gateways

    async def test_two_stores_on_one_file(self) -> None:
        """Each finds what the other has written."""
        await self.store.close()
        first, second = (self.made(patience=10.0) for _ in range(2))
        first.start()
        second.start()
        for number in range(50):
            self.store = (first, second)[number % 2]
            self.put(str(number))
        for self.store in (first, second):
            await self.done()
        for self.store in (first, second):
            self.assertEqual(len(await self.found(*map(str, range(50)))), 50)
        self.store = first
        await self.delete("0")
        await self.done()
        self.store = second
        self.assertEqual(await self.found("0", "1"), ["1"])
        self.assertEqual(self.told(), [])
