"""A lock file, shared with clients that know no more of it than that it is there."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import aiclient2api
from aiclient2api.oauth.locks import FileLock, LockTaken
from aiclient2api.testing import HeldThreads

HOLDER = """
import sys, time
from pathlib import Path
from aiclient2api.oauth import locks
descriptor = locks._create(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


class LockTestCase(SynchronousTestCase):
    """A place for a lock file, and the time."""

    def setUp(self) -> None:
        """Have a folder."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "oauth_creds.lock"
        self.clock = Clock()
        self.now = 0.0

    def lock(self, **options: Any) -> FileLock:
        """Return another holder to be."""
        settings = {
            "clock": self.clock,
            "now": lambda: self.now,
            "in_thread": maybeDeferred,
            **options,
        }
        return FileLock(self.path, **settings)

    def take(self, lock: FileLock) -> Deferred[None]:
        """Begin to take it."""
        return Deferred.fromCoroutine(lock.acquire())

    def held(self, **options: Any) -> FileLock:
        """Return somebody who has the lock."""
        lock = self.lock(**options)
        self.successResultOf(self.take(lock))
        self.addCleanup(self.release, lock)
        return lock

    def release(self, lock: FileLock) -> None:
        """Let it go."""
        self.successResultOf(Deferred.fromCoroutine(lock.release()))

    def qwen(self) -> None:
        """Have the real client take it: a file with an id of its own, and nothing else."""
        descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(descriptor, b"6f1c2c3e-92a7-4a0e-b6a4-1f0b5f8e8c11")
        os.close(descriptor)

    def age(self, seconds: float) -> None:
        """Let the lock file give no sign of life for so long."""
        self.now = self.path.stat().st_mtime
        os.utime(self.path, (0, self.now - seconds))

    def names(self) -> list[str]:
        """Return what the folder holds."""
        return sorted(each.name for each in self.folder.iterdir())


class FileLockTests(LockTestCase):
    """`FileLock`, as long as everybody is well."""

    def test_it_is_a_file_while_it_is_held(self) -> None:
        """Only its owner may read it; at the end nothing is left."""
        lock = self.held()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.path.read_text().split()[:2], ["aiclient2api", str(os.getpid())])
        self.release(lock)
        self.release(lock)
        self.assertEqual(self.names(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_second_waits_for_the_first(self) -> None:
        """After 100 ms, then 200, 400, 800, 1600 and each 2 s it is tried again."""
        first = self.held()
        second = self.lock()
        waiting = self.take(second)
        for pause in (0.1, 0.2, 0.4, 0.8, 1.6, 2.0):
            self.clock.advance(pause - 0.001)
            self.release(first) if pause == 2.0 else None
            self.assertNoResult(waiting)
            self.clock.advance(0.001)
            if pause < 2.0:
                self.assertNoResult(waiting)
        self.successResultOf(waiting)
        self.release(second)

    def test_the_real_client_is_waited_for(self) -> None:
        """Its file is left alone, and it is our turn once it is gone."""
        self.qwen()
        lock = self.lock()
        waiting = self.take(lock)
        self.clock.advance(0.1)
        self.assertNoResult(waiting)
        self.assertIn("6f1c2c3e", self.path.read_text())
        self.path.unlink()
        self.clock.advance(0.2)
        self.successResultOf(waiting)
        self.release(lock)

    def test_nobody_waits_for_ever(self) -> None:
        """After twenty attempts, about half a minute, it is given up."""
        self.held()
        waiting = self.take(self.lock())
        self.clock.pump([0.1] * 300)
        self.assertNoResult(waiting)
        self.clock.pump([0.1] * 50)
        self.failureResultOf(waiting, LockTaken)

    def test_a_place_where_no_file_can_be(self) -> None:
        """It is an error at once."""
        self.folder.rmdir()
        self.failureResultOf(self.take(self.lock()), FileNotFoundError)

    def test_cancelling_the_wait(self) -> None:
        """Nothing is left of it, and the holder keeps the lock."""
        first = self.held()
        waiting = self.take(self.lock())
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.clock.pump([1.0] * 9)
        self.release(first)
        self.assertEqual(self.names(), [])

    def test_cancelling_while_a_thread_takes_it(self) -> None:
        """A thread cannot be stopped: what it took is released again."""
        threads = HeldThreads()
        waiting = self.take(self.lock(in_thread=threads))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        threads.run()
        self.assertEqual(self.names(), ["oauth_creds.lock"])
        threads.run()
        self.assertEqual((self.names(), threads.calls), ([], []))

    def test_as_a_block(self) -> None:
        """It is released however the block ends."""

        async def work() -> None:
            async with self.lock():
                self.assertEqual(self.names(), ["oauth_creds.lock"])
                raise ZeroDivisionError

        self.failureResultOf(Deferred.fromCoroutine(work()), ZeroDivisionError)
        self.assertEqual(self.names(), [])

    def test_a_holder_gives_signs_of_life(self) -> None:
        """However long a renewal takes, the real client does not take us for dead."""
        self.held()
        os.utime(self.path, (0, 0))
        self.clock.advance(4.0)
        self.assertGreater(self.path.stat().st_mtime, 1e9)


class StaleTests(LockTestCase):
    """Locks that nobody will remove."""

    def test_ten_seconds_without_a_sign_of_life(self) -> None:
        """A client that was killed holds up nobody for longer; not a moment earlier."""
        self.qwen()
        self.age(9.9)
        waiting = self.take(self.lock())
        self.assertNoResult(waiting)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.age(10.1)
        self.held()
        self.assertEqual(self.names(), ["oauth_creds.lock"])
        self.assertIn("aiclient2api", self.path.read_text())

    def test_a_date_that_cannot_be_believed(self) -> None:
        """With clocks that disagree a lock is broken once it was silent before our eyes."""
        self.qwen()
        self.age(-1000.0)
        lock = self.lock()
        waiting = self.take(lock)
        self.clock.pump([0.1] * 99)
        self.assertNoResult(waiting)
        self.clock.pump([0.1] * 25)
        self.successResultOf(waiting)
        self.release(lock)

    def test_one_that_shows_signs_of_life_is_not_broken(self) -> None:
        """Even if its date is odd."""
        self.qwen()
        self.age(-1000.0)
        waiting = self.take(self.lock())
        for second in range(25):
            os.utime(self.path, (0, self.now + 1001.0 + second))
            self.clock.pump([0.1] * 10)
        self.assertNoResult(waiting)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)

    def test_one_of_ours_whose_holder_was_killed(self) -> None:
        """It is broken at once, for the kernel knows; while it lives, it is not."""
        environ = {**os.environ, "PYTHONPATH": str(Path(aiclient2api.__file__).parent.parent)}
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(self.path)], stdout=subprocess.PIPE, env=environ
        ) as holder:
            assert holder.stdout is not None
            self.assertEqual(holder.stdout.readline(), b"held\n")
            waiting = self.take(self.lock())
            self.assertNoResult(waiting)
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
            holder.send_signal(signal.SIGKILL)
            holder.wait(10)
        self.held()
        self.assertEqual(self.names(), ["oauth_creds.lock"])

    def test_a_holder_who_is_held_up(self) -> None:
        """Its lock is broken after ten seconds, and then it does not remove another's."""
        first = self.held()
        self.age(10.1)
        second = self.held()
        self.release(first)
        self.assertIn(str(os.getpid()), self.path.read_text())
        self.release(second)
        self.assertEqual(self.names(), [])

    def test_a_file_system_without_flock(self) -> None:
        """Then only the date tells, and nobody who lives is taken for dead."""

        def none(*args: object) -> None:
            raise OSError(38, "Function not implemented")

        self.patch(fcntl, "flock", none)
        self.held()
        waiting = self.take(self.lock())
        self.assertNoResult(waiting)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.age(10.1)
        self.held()

    def test_two_who_break_it_do_not_both_win(self) -> None:
        """The second finds the first one's new lock in place of the stale one, and leaves it."""
        self.qwen()
        self.age(10.1)
        rename = os.rename
        winners: list[FileLock] = []

        def renamed(source: Path, target: Path) -> None:
            # Between the other's look and its rename: we break it, and have the lock.
            self.patch(os, "rename", rename)
            self.path.unlink()
            winners.append(self.held())
            rename(source, target)

        self.patch(os, "rename", renamed)
        lock = self.lock()
        waiting = self.take(lock)
        self.assertNoResult(waiting)
        self.assertEqual(self.names(), ["oauth_creds.lock"])
        self.release(winners[0])
        self.clock.advance(0.1)
        self.successResultOf(waiting)
        self.release(lock)

    def test_many_who_break_it_at_once(self) -> None:
        """Whatever the order of their threads, one has the lock at a time."""
        self.qwen()
        self.age(10.1)
        threads = HeldThreads()
        waiting = [self.lock(in_thread=threads) for _ in range(5)]
        taking = [self.take(lock) for lock in waiting]
        for number in range(5):
            while threads.calls:
                threads.run()
            [winner] = [each for each in range(5) if taking[each].called and waiting[each]._held]
            releasing = Deferred.fromCoroutine(waiting[winner].release())
            threads.run()
            self.successResultOf(releasing)
            self.successResultOf(taking[winner])
            self.assertEqual(self.names(), [])
            if number < 4:
                self.clock.pump([0.1] * 25)
        self.assertEqual([lock._held for lock in waiting], [None] * 5)
