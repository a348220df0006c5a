"""The file itself, and several processes on it."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
import zlib
from pathlib import Path

from twisted.internet import threads
from twisted.internet.defer import gatherResults

from aiclient2api.state import database
from aiclient2api.state.database import connect, connect_to_read
from aiclient2api.state.shelf import Entry, Name
from tests.state_files import FileTestCase

ROOT = Path(__file__).resolve().parent.parent

CHILD = """
import sys
import time
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import (
    FilteringLogObserver, LogLevel, LogLevelFilterPredicate, globalLogBeginner,
    textFileLogObserver,
)
from aiclient2api.state import sqlite
from aiclient2api.state.sqlite import SQLiteStore

sqlite.REST_SECONDS = 0

async def run(path, name, count):
    store = SQLiteStore(Path(path), reactor=reactor, clock=reactor, now=time.time)
    store.start()
    for number in range(int(count)):
        key = f"{name}{number}"
        store.put(namespace="n", owner="o", key=key, value=key.encode() * 3000, ttl=None)
        while len(store._unwritten):
            # Answered once all that was asked before is done.
            await store.get(namespace="n", owner="o", key="none")
        print(key, flush=True)
    await store.close()
    reactor.stop()

warnings = [LogLevelFilterPredicate(LogLevel.warn)]
observer = FilteringLogObserver(textFileLogObserver(sys.stderr), warnings)
globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run(*sys.argv[1:])))
reactor.run()
"""


class ProcessTests(FileTestCase):
    """Processes of their own on one file."""

    def setUp(self) -> None:
        """Have a place for the file."""
        self.path = self.new_path()

    def child(self, name: str, count: int) -> subprocess.Popen[bytes]:
        """Start a process that writes *count* values, and says so of each."""
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(self.path), name, str(count)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def values(self) -> dict[bytes, bytes]:
        """Return all that is in the file, which must be sound."""
        connection = connect(self.path, 1.0)
        sound = connection.execute("PRAGMA integrity_check").fetchone()
        self.assertEqual(sound, ("ok",))
        rows = connection.execute("SELECT key, value FROM entry").fetchall()
        connection.close()
        return {key: zlib.decompress(value) for key, value in rows}

    def test_killed_while_it_writes(self) -> None:
        """The file is sound, and nothing that was written is missing or half there."""
        process = self.child("k", 100_000)
        assert process.stdout is not None and process.stderr is not None
        told = [process.stdout.readline().strip() for _ in range(30)]
        process.kill()
        told += process.stdout.read().split()
        process.stdout.close()
        process.stderr.close()
        found = self.values()
        self.assertGreaterEqual(len(found), 30)
        self.assertEqual([key for key in told if key not in found], [])
        self.assertEqual([key for key, value in found.items() if value != key * 3000], [])

    def test_two_that_start_at_once(self) -> None:
        """Both make the file that was not there, and both write all of theirs into it."""
        processes = [self.child(name, 30) for name in ("a", "b")]
        for process in processes:
            out, err = process.communicate(timeout=50)
            self.assertEqual((process.returncode, len(out.split()), err), (0, 30, b""))
        self.assertEqual(len(self.values()), 60)

    def on_disk(self) -> dict[str, bytes]:
        """Return every file in the folder."""
        return {each.name: each.read_bytes() for each in sorted(self.path.parent.iterdir())}

    def keys_read(self) -> list[str]:
        """Return what a reader finds that changes nothing."""
        connection = connect_to_read(self.path, 1.0)
        found = database.scan(connection.cursor(), "n", "o", 0.0)
        connection.close()
        self.assertEqual([key for key in found if found[key] != key.encode() * 3000], [])
        return list(found)

    def test_read_while_another_writes(self) -> None:
        """What was written by then is seen, again and again, and keeps nobody from writing."""
        process = self.child("k", 200)
        assert process.stdout is not None
        told: list[str] = []
        while line := process.stdout.readline().decode().strip():
            told.append(line)
            if len(told) % 20 == 0:
                found = self.keys_read()
                self.assertEqual([key for key in told if key not in found], [])
        _, err = process.communicate(timeout=50)
        self.assertEqual((process.returncode, len(told), err), (0, 200, b""))
        self.assertEqual(len(self.keys_read()), 200)

    def test_read_after_another_was_killed(self) -> None:
        """What it left unfinished is read as it lies there, and not a byte is changed."""
        process = self.child("k", 100_000)
        assert process.stdout is not None and process.stderr is not None
        told = [process.stdout.readline().decode().strip() for _ in range(30)]
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        before = self.on_disk()
        self.assertEqual(len(before), 3)
        found = self.keys_read()
        self.assertEqual([key for key in told if key not in found], [])
        self.assertEqual(self.on_disk(), before)


class ReadTests(FileTestCase):
    """A connection that reads only, where nobody else has the file."""

    def setUp(self) -> None:
        """Have a file with three values, of which one has expired by the time 5."""
        self.path = self.new_path()
        connection = connect(self.path, 1.0)
        entries = [
            Entry.of(Name("n", "o", key), value, expires)
            for key, value, expires in (
                ("abc1", b"1", None),
                ("abc2", b"2" * 5000, 5.0),
                ("abd", b"3", None),
                ("ab", b"4", 9.0),
            )
        ]
        strangers = [
            Entry.of(Name("n", "other", "abc3"), b"5"),
            Entry.of(Name("m", "o", "x"), b"6"),
        ]
        database.write(connection.cursor(), [*entries, *strangers], {"n": 9999, "m": 9999}, 0.0)
        connection.close()

    def reader(self) -> sqlite3.Cursor:
        """Open the file."""
        connection = connect_to_read(self.path, 1.0)
        self.addCleanup(connection.close)
        return connection.cursor()

    def test_nothing_is_made_or_changed(self) -> None:
        """Neither by reading nor by trying to write."""
        before = {each: each.stat() for each in self.path.parent.iterdir()}
        self.assertEqual(list(before), [self.path])
        cursor = self.reader()
        self.assertEqual(database.read(cursor, Name("n", "o", "abc1"), 0.0), b"1")
        with self.assertRaises(sqlite3.OperationalError):
            cursor.execute("DELETE FROM entry")
        cursor.connection.close()
        after = {each: each.stat() for each in self.path.parent.iterdir()}
        self.assertEqual(list(after), [self.path])
        self.assertEqual(after[self.path].st_mtime_ns, before[self.path].st_mtime_ns)

    def test_keys_by_their_beginning(self) -> None:
        """Of one owner, not those that expired, and no more than asked for."""
        cursor = self.reader()
        self.assertEqual(database.keys(cursor, "n", "o", "abc", 9, 0.0), ["abc1", "abc2"])
        self.assertEqual(database.keys(cursor, "n", "o", "abc", 1, 0.0), ["abc1"])
        self.assertEqual(database.keys(cursor, "n", "o", "abc", 9, 5.0), ["abc1"])
        self.assertEqual(database.keys(cursor, "n", "o", "", 9, 9.0), ["abc1", "abd"])
        self.assertEqual(database.keys(cursor, "n", "o", "abcd", 9, 0.0), [])
        self.assertEqual(database.keys(cursor, "n", "o", "%", 9, 0.0), [])

    def test_the_latest(self) -> None:
        """So many as asked for, the youngest last."""
        cursor = self.reader()
        found = database.latest(cursor, "n", "o", 3, 0.0)
        self.assertEqual(found, [("abc2", b"2" * 5000), ("abd", b"3"), ("ab", b"4")])
        self.assertEqual(database.latest(cursor, "n", "o", 9, 9.0), [("abc1", b"1"), ("abd", b"3")])
        self.assertEqual(database.latest(cursor, "none", "o", 9, 9.0), [])

    def test_the_latest_are_found_without_looking_at_all(self) -> None:
        """By their number, downwards."""
        plan = (
            self.reader()
            .execute(
                "EXPLAIN QUERY PLAN SELECT key FROM entry WHERE namespace = ? AND owner = ?"
                " AND (expires IS NULL OR expires > ?) ORDER BY id DESC LIMIT ?",
                (b"n", b"o", 0.0, 3),
            )
            .fetchall()
        )
        self.assertEqual(len(plan), 1)
        self.assertIn("entry_age", plan[0][3])

    def test_no_file(self) -> None:
        """It is missing still afterwards, and so is its folder."""
        self.path = self.new_path()
        with self.assertRaises(FileNotFoundError):
            connect_to_read(self.path, 1.0)
        self.assertFalse(self.path.parent.exists())

    def test_a_gateway_that_stops_at_this_moment(self) -> None:
        """Its log may be there still and the log's index no more: that is waited for."""
        log = self.path.with_name("state.sqlite3-wal")
        log.write_bytes(b"x" * 100)
        naps = []

        def nap(seconds: float) -> None:
            naps.append(seconds)
            log.unlink()

        self.patch(time, "sleep", nap)
        self.assertEqual(database.read(self.reader(), Name("n", "o", "abc1"), 0.0), b"1")
        self.assertEqual(len(naps), 1)

    def test_an_empty_log(self) -> None:
        """It is as good as none."""
        self.path.with_name("state.sqlite3-wal").write_bytes(b"")
        self.assertEqual(database.read(self.reader(), Name("n", "o", "abc1"), 0.0), b"1")
        self.assertEqual(len(list(self.path.parent.iterdir())), 2)

    def test_a_log_without_its_index(self) -> None:
        """It is not waited for for ever: such a copy cannot be read without changing it."""
        log = self.path.with_name("state.sqlite3-wal")
        log.write_bytes(b"x" * 100)
        with self.assertRaises(sqlite3.OperationalError):
            connect_to_read(self.path, 0.05)
        self.assertEqual(len(list(self.path.parent.iterdir())), 2)

    def test_a_file_of_another_version(self) -> None:
        """Or one that somebody has only begun to make: it is not guessed at."""
        for version, words in ((99, "another version"), (0, "empty")):
            connection = sqlite3.connect(self.path)
            connection.execute(f"PRAGMA user_version = {version}")
            connection.close()
            with self.assertRaisesRegex(database.NotOurs, words):
                connect_to_read(self.path, 1.0)

    def test_what_is_no_file_of_ours(self) -> None:
        """A pipe holds up nobody, and a file of something else is said to be damaged."""
        self.path.write_bytes(b"This is no database. " * 1000)
        with self.assertRaises(sqlite3.DatabaseError) as caught:
            connect_to_read(self.path, 1.0)
        self.assertTrue(database.is_damage(caught.exception))
        self.path.unlink()
        os.mkfifo(self.path)
        with self.assertRaises(database.NotOurs):
            connect_to_read(self.path, 1.0)

    def test_a_file_that_may_not_be_read(self) -> None:
        """The reason is the system's own."""
        self.patch(os, "access", lambda *_: False)
        with self.assertRaises(PermissionError):
            connect_to_read(self.path, 1.0)


class DatabaseTests(FileTestCase):
    """The file, without a store."""

    def setUp(self) -> None:
        """Have a place for the file."""
        self.path = self.new_path()

    def test_a_sound_file_is_not_set_aside(self) -> None:
        """Of two that find it damaged, the second finds the new one of the first."""
        connect(self.path, 1.0).close()
        self.assertIsNone(database.set_aside(self.path, ".damaged", 1.0))
        self.path.write_bytes(b"damaged" * 1000)
        self.assertEqual(database.set_aside(self.path, ".damaged", 1.0), "state.sqlite3.damaged")
        self.assertFalse(self.path.exists())

    def test_two_that_make_it_at_once(self) -> None:
        """Neither fails because the other was faster."""
        opened = [threads.deferToThread(connect, self.path, 10.0) for _ in range(8)]

        def close(connections: list[sqlite3.Connection]) -> None:
            for connection in connections:
                connection.close()

        return gatherResults(opened).addCallback(close)  # type: ignore[return-value]

    def test_no_statement_is_made_of_what_was_given(self) -> None:
        """Every value is a parameter."""
        source = Path(database.__file__).read_text(encoding="utf-8")
        filled = set(re.findall(r"\{(\w+)\}", "".join(re.findall(r'f"[A-Z][^"]*"', source))))
        self.assertEqual(filled, {"_ALIVE", "_NAMED", "_OWNED", "_WAL_BYTES", "what"})

    def test_it_is_as_fast_to_trim_a_full_file(self) -> None:
        """The oldest go by number, not by reading their values."""
        connection = connect(self.path, 1.0)
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT SUM(weight) FROM entry WHERE namespace = ?", (b"n",)
        ).fetchall()
        connection.close()
        self.assertIn("COVERING INDEX entry_age", plan[0][3])
