"""The file itself, and several processes on it."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path

from twisted.internet import threads
from twisted.internet.defer import gatherResults

from aiclient2api.state import database
from aiclient2api.state.database import connect
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
from aiclient2api.state.sqlite import SQLiteStore

async def run(path, name, count):
    store = SQLiteStore(Path(path), reactor=reactor, clock=reactor, now=time.time)
    store.start()
    for number in range(int(count)):
        key = f"{name}{number}"
        store.put(namespace="n", owner="o", key=key, value=key.encode() * 3000, ttl=None)
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
        self.assertEqual(filled, {"_NAMED", "_WAL_BYTES", "what"})

    def test_it_is_as_fast_to_trim_a_full_file(self) -> None:
        """The oldest go by number, not by reading their values."""
        connection = connect(self.path, 1.0)
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT SUM(weight) FROM entry WHERE namespace = ?", (b"n",)
        ).fetchall()
        connection.close()
        self.assertIn("COVERING INDEX entry_age", plan[0][3])
