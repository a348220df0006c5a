"""
Stores in files of their own, on a real reactor and its threads; the clock is ours.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from aiclient2api.state import sqlite
from aiclient2api.state.sqlite import SQLiteStore
from tests.state_contract import StoreFixture


class FileTestCase(TestCase):
    """
    A test of a store in a file.

    :ivar path: The file.
    """

    path: Path
    timeout = 60

    def new_path(self) -> Path:
        """Return where there is no file yet, nor its folder."""
        return Path(self.mktemp()).absolute() / "state" / "state.sqlite3"

    def rows(self, columns: str = "key") -> list[Any]:
        """Return what stands in the file, the oldest first."""
        connection = sqlite3.connect(self.path)
        found = connection.execute(f"SELECT {columns} FROM entry ORDER BY id").fetchall()
        connection.close()
        return [row[0] if len(row) == 1 else row for row in found]


class FileStoreFixture(StoreFixture, FileTestCase):
    """A store in a file. What it warns of without being asked fails the test."""

    outlives = True

    def setUp(self) -> None:
        """Start a store in a folder that is not there yet."""
        self.path = self.new_path()
        self.patch(sqlite, "REST_SECONDS", 0.0)
        self.started: list[SQLiteStore] = []
        logs = capturedLogs()
        self.events: Any = logs.__enter__()
        self.addCleanup(logs.__exit__, None, None, None)
        self.addCleanup(self.settle)
        super().setUp()

    def settle(self) -> Deferred[Any]:
        """Let no thread outlive its test, and nothing be told that nobody expected."""
        closed = gatherResults([store.close() for store in self.started])
        return closed.addCallback(lambda _: self.assertEqual(self.told(), []))

    def made(self, patience: float = 0.05) -> SQLiteStore:
        """Return a store that was not started."""
        store = SQLiteStore(
            self.path,
            reactor=reactor,
            clock=self.clock,
            now=self.clock.seconds,
            patience=patience,
        )
        self.started.append(store)
        return store

    async def done(self) -> None:
        """Wait until the thread has done what it was told."""
        for _ in range(3):
            await self.get("nothing of that name")
            # The store has rested: there is no time between two transactions.
            self.clock.advance(0)

    def told(self) -> list[str]:
        """Return what was logged at level warn and above since last asked."""
        told = [
            str(formatEvent(event))
            for event in self.events
            if event["log_namespace"].startswith("aiclient2api")
            and event["log_level"].name in ("warn", "error", "critical")
        ]
        self.events.clear()
        return told
