"""The pid file while one process takes over from another: it names the one that serves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.pidfile import PidFile


class PidFileTests(SynchronousTestCase):
    """`PidFile`, with options as twistd has them."""

    def setUp(self) -> None:
        """Have a folder."""
        self.path = Path(self.mktemp())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.twistd: dict[str, Any] = {"pidfile": str(self.path)}

    def test_the_new_one_writes_beside_the_old_one_and_then_in_its_place(self) -> None:
        """The old one's is there until the new one has taken over."""
        self.path.write_text("1")
        new = PidFile(self.twistd)
        new.stand_by()
        # What twistd does, which knows but its own options.
        Path(self.twistd["pidfile"]).write_text("2")
        self.assertEqual(self.path.read_text(), "1")
        new.take()
        self.assertEqual(self.path.read_text(), "2")
        self.assertEqual(self.twistd["pidfile"], str(self.path))
        self.assertEqual([path.name for path in self.path.parent.iterdir()], [self.path.name])
        new.take()

    def test_the_old_one_deletes_nothing_of_the_new_ones(self) -> None:
        """Once it has left the file, twistd has no name to delete."""
        PidFile(self.twistd).leave()
        self.assertEqual(self.twistd["pidfile"], "")

    def test_the_old_one_takes_it_back(self) -> None:
        """If the new one died after it had taken the file."""
        self.path.write_text("2")
        PidFile(self.twistd).restore()
        self.assertEqual(self.path.read_text(), str(os.getpid()))

    def test_without_a_pid_file(self) -> None:
        """In the foreground there is none, and nothing is written."""
        for twistd in ({"pidfile": ""}, {}):
            pid_file = PidFile(twistd)
            pid_file.stand_by()
            pid_file.take()
            pid_file.restore()
            pid_file.leave()
            self.assertFalse(twistd.get("pidfile"))
