"""The store in a file: the contract of all stores, and what is in the file."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import zlib
from typing import Any

from aiclient2api.state import database, sqlite
from aiclient2api.state.sqlite import SQLiteStore
from tests.state_contract import StoreContract
from tests.state_files import FileStoreFixture


class SQLiteStoreTests(StoreContract, FileStoreFixture):
    """`SQLiteStore`."""

    async def test_only_its_owner_can_read_it(self) -> None:
        """The file, its log and its index have mode 0600, the folder 0700, whatever the umask."""
        self.addCleanup(os.umask, os.umask(0))
        await self.store.close()
        self.path = self.new_path()
        await self.restart()
        self.put("a")
        await self.done()
        modes = {
            each.name: stat.S_IMODE(each.stat().st_mode) for each in self.path.parent.iterdir()
        }
        names = ("state.sqlite3", "state.sqlite3-shm", "state.sqlite3-wal")
        self.assertEqual(modes, dict.fromkeys(names, 0o600))
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)

    async def test_a_file_that_others_could_read_is_closed_to_them(self) -> None:
        """Whoever copied it there."""
        self.put("a")
        await self.store.close()
        self.path.chmod(0o644)
        await self.restart()
        self.assertEqual(await self.get("a"), b"v")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    async def test_nothing_is_made_before_the_start(self) -> None:
        """The folder must belong to whom the daemon runs as."""
        await self.store.close()
        self.path = self.new_path()
        self.store = self.made()
        self.put("a")
        self.assertFalse(self.path.parent.parent.exists())
        await self.store.close()
        self.assertFalse(self.path.parent.parent.exists())

    async def test_a_closed_store_leaves_one_file(self) -> None:
        """Its log is folded into it."""
        self.put("a")
        await self.store.close()
        self.assertEqual([each.name for each in self.path.parent.iterdir()], ["state.sqlite3"])

    async def test_large_values_are_packed_in_the_thread(self) -> None:
        """The reactor has better things to do, and the disk too."""
        where = []

        def compress(*args: Any) -> bytes:
            where.append(threading.get_ident())
            return packed(*args)

        packed = zlib.compress
        self.patch(zlib, "compress", compress)
        self.limit(total=5_000_000, one=5_000_000)
        self.put("small", b"x" * database.COMPRESS_OVER)
        self.put("large", b"x" * 4_000_000)
        noise = os.urandom(2000)
        self.put("noise", noise)
        await self.store.close()
        self.assertEqual(len(where), 2)
        self.assertNotIn(threading.get_ident(), where)
        found = self.rows("key, packed, LENGTH(value), weight")
        self.assertEqual([row[:2] for row in found], [(b"small", 0), (b"large", 1), (b"noise", 0)])
        self.assertLess(found[1][2], 100_000)
        self.assertEqual([row[3] for row in found], [1024 + 6, 4_000_000 + 6, 2000 + 6])

    async def test_what_is_gone_cannot_be_read_from_the_file(self) -> None:
        """Deleted or expired, its words are overwritten within a minute, in the log as well."""
        self.put("deleted", b"a word that was forgotten")
        self.put("expired", b"a word that had its time", ttl=10)
        self.put("kept", b"a word that stays")
        await self.done()
        self.assertIn(b"a word that was forgotten", self.on_disk())
        await self.delete("deleted")
        self.clock.advance(60)
        await self.done()
        self.assertEqual(self.rows(), [b"kept"])
        seen = self.on_disk()
        self.assertIn(b"a word that stays", seen)
        self.assertNotIn(b"a word that was forgotten", seen)
        self.assertNotIn(b"a word that had its time", seen)

    async def test_the_place_of_what_is_gone_is_given_back(self) -> None:
        """The file does not stay as large as it ever was."""
        for number in range(40):
            self.put(str(number), os.urandom(50_000), ttl=10)
        await self.done()
        self.clock.advance(60)
        await self.done()
        self.assertLess(len(self.on_disk()), 100_000)

    def on_disk(self) -> bytes:
        """Return all bytes in the folder."""
        return b"".join(each.read_bytes() for each in self.path.parent.iterdir())

    async def test_what_is_put_in_one_turn_is_written_together(self) -> None:
        """The first at once, all others in a second transaction."""
        batches = []

        def write(cursor: Any, entries: Any, *rest: Any) -> None:
            batches.append(len(entries))
            written(cursor, entries, *rest)

        written = database.write
        self.patch(database, "write", write)
        for number in range(100):
            self.put(str(number))
        self.put("7", b"again")
        await self.store.close()
        self.assertEqual(batches, [1, 99])
        self.assertEqual(len(self.rows()), 100)

    async def test_a_transaction_has_its_measure(self) -> None:
        """Much is written bit by bit: another gateway may wait."""
        self.patch(sqlite, "BATCH_BYTES", 250)
        await self.test_what_was_put_is_found()
        batches = []
        written = database.write

        def write(cursor: Any, entries: Any, *rest: Any) -> None:
            batches.append([entry.name.key for entry in entries])
            written(cursor, entries, *rest)

        self.patch(database, "write", write)
        for key in "pqrst":
            self.put(key, b"x" * (1000 if key == "r" else 100))
        await self.store.close()
        self.assertEqual(batches, [["p"], ["q"], ["r"], ["s", "t"]])

    async def test_what_is_put_in_quick_succession_is_written_together(self) -> None:
        """The first at once, the others a moment later, found all the while, and not for good."""
        self.patch(sqlite, "REST_SECONDS", 0.05)
        self.put("a")
        await self.done()
        for key in "bcd":
            self.put(key)
            await self.done()
        self.assertEqual(self.rows(), [b"a"])
        self.assertEqual(list(await self.scan()), ["a", "b", "c", "d"])
        self.clock.advance(0.05)
        await self.done()
        self.assertEqual(self.rows(), [b"a", b"b", b"c", b"d"])
        self.clock.advance(0.05)
        self.put("e")
        await self.done()
        self.assertEqual(self.rows(), [b"a", b"b", b"c", b"d", b"e"])
        self.put("f")
        await self.store.close()
        self.assertEqual(self.rows(), [b"a", b"b", b"c", b"d", b"e", b"f"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_closing_writes_what_waits(self) -> None:
        """Though the thread never had a chance before."""
        for number in range(50):
            self.put(str(number), b"x" * 10_000)
        await self.store.close()
        self.assertEqual(len(self.rows()), 50)

    async def test_no_thread_before_the_reactor_runs(self) -> None:
        """A start that fails must not leave a process that cannot end."""

        class Still:
            """A reactor that does not run."""

            def callWhenRunning(self, call: Any) -> str:
                return "later"

        store = SQLiteStore(self.path, reactor=Still(), clock=self.clock, now=self.clock.seconds)
        before = threading.active_count()
        store.start()
        store.put(namespace="n", owner="o", key="a", value=b"1", ttl=None)
        store.close()
        self.assertEqual(threading.active_count(), before)

    async def test_it_leaves_no_timer(self) -> None:
        """A store that is closed waits for nothing."""
        await self.store.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_expired_values_go_by_the_clock(self) -> None:
        """The file has them no longer than a minute beyond their time."""
        self.put("a", ttl=30)
        self.put("b", ttl=90)
        await self.done()
        for seconds, left in ((29, [b"a", b"b"]), (31, [b"b"]), (60, [])):
            self.clock.advance(seconds)
            await self.done()
            self.assertEqual(self.rows(), left)

    async def test_a_mutilated_value_is_missing(self) -> None:
        """One that cannot be unpacked is none, and does no other any harm."""
        self.put("a", b"x" * 5000)
        self.put("b", b"x" * 5000)
        await self.done()
        connection = sqlite3.connect(self.path)
        connection.execute("UPDATE entry SET value = x'00' WHERE key = ?", (b"a",))
        connection.commit()
        connection.close()
        self.assertEqual(await self.found("a", "b"), ["b"])
        self.assertEqual(list(await self.scan()), ["b"])
        self.assertEqual(self.told(), [])

    async def test_thousands_of_values_in_one_round(self) -> None:
        """The thread is asked once for all of them, and unpacks them there."""
        for number in range(3000):
            self.put(str(number), b"%300d" % number)
        await self.done()
        pool: Any = self.store._pool
        asked = []

        def run(*args: Any) -> Any:
            asked.append(args[0])
            return interaction(*args)

        interaction = pool.runInteraction
        pool.runInteraction = run
        found = await self.scan()
        self.assertEqual(asked, [database.scan])
        self.assertEqual(found, {str(number): b"%300d" % number for number in range(3000)})

    async def test_all_values_while_some_are_written(self) -> None:
        """Whatever the thread has got to, each is there, and the youngest of its name."""
        self.patch(sqlite, "BATCH_BYTES", 250)
        for number in range(50):
            self.put(str(number), b"old")
        await self.done()
        scans = []
        for number in range(50):
            self.put(str(number), b"new")
            scans.append(self.scan())
        for scan in scans:
            found = await scan
            self.assertEqual(len(found), 50)
            self.assertEqual(found["0"], b"new")
        self.assertEqual(set((await self.scan()).values()), {b"new"})

    async def test_a_full_namespace_is_not_added_up_again(self) -> None:
        """To write one more value costs the same, however many there are."""
        self.limit(total=100 * 104, one=100)
        for number in range(100, 200):
            self.put(str(number), b"x" * 100)
        await self.done()
        sums = []

        def weight(cursor: Any, namespace: str) -> int:
            known = namespace in cursor.connection.weights
            sums.append(known)
            return weighed(cursor, namespace)

        weighed = database._weight
        self.patch(database, "_weight", weight)
        for number in range(200, 230):
            self.put(str(number), b"x" * 100)
            await self.done()
        self.assertEqual(sums, [True] * 30)
        self.assertEqual(self.rows(), [b"%d" % number for number in range(130, 230)])

    async def test_what_is_remembered_of_the_weight_is_true(self) -> None:
        """Whatever was put, replaced, deleted, expired, or written by another."""
        await self.store.close()
        self.store, other = (self.made(patience=10.0) for _ in range(2))
        self.store.start()
        other.start()
        self.limit(total=4 * 103, one=100)
        other.limit(namespace="n", total=4 * 103, one=100)
        names = ["10", "11", "12", "13", "14", "15"]
        for step in range(60):
            key = names[step * 5 % 6]
            if step % 7 == 3:
                await self.delete(key)
            elif step % 5 == 4:
                other.put(namespace="n", owner="o", key=key, value=b"y" * 100, ttl=None)
                await other.get(namespace="n", owner="o", key="none")
                await other.get(namespace="n", owner="o", key="none")
            else:
                self.put(key, b"x" * (100 - step % 3), ttl=30 if step % 4 == 1 else None)
            await self.done()
            if step % 11 == 10:
                self.clock.advance(60)
                await self.done()
            remembered = await self.store._pool.runInteraction(
                lambda cursor: database._weights(cursor, ["n"])
            )
            self.assertEqual(remembered, {"n": sum(self.rows("weight"))}, step)
            self.assertLessEqual(remembered["n"], 4 * 103)
