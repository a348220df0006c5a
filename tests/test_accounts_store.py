"""What accounts have come to, kept in the background; and what a killed gateway remembers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.accounts.store import NAMESPACE, ONE, AccountStore
from aiclient2api.state import database
from aiclient2api.state.memory import MemoryStore

ROOT = Path(__file__).resolve().parent.parent

CHILD = """
import sys
import time
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.task import LoopingCall
from aiclient2api.accounts.store import AccountStore
from aiclient2api.state.sqlite import SQLiteStore

store = SQLiteStore(Path(sys.argv[1]), reactor=reactor, clock=reactor, now=time.time)
store.start()
accounts = AccountStore(store, reactor)
began = time.monotonic()
count = 0

def mark():
    global count
    count += 1
    for account in range(100):
        value = b"%d %d" % (count, account)
        accounts.mark("p", str(account), lambda value=value: value)
    accounts.now("p", "urgent", b"%d" % count)
    sys.stdout.write(f"{time.monotonic() - began} {count}\\n")
    sys.stdout.flush()

loop = LoopingCall(mark)
loop.start(0.02)
reactor.run()
"""


def returns(value: bytes) -> Callable[[], bytes]:
    """Return an encoder."""
    return lambda: value


class AccountStoreTests(SynchronousTestCase):
    """`AccountStore`."""

    def setUp(self) -> None:
        """Have a store on a clock of our own."""
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock, now=self.clock.seconds)
        self.accounts = AccountStore(self.store, self.clock)
        self.puts: list[tuple[str, str, bytes]] = []
        put = self.store.put

        def noted(*, namespace: str, owner: str, key: str, value: bytes, ttl: float | None) -> bool:
            self.assertEqual((namespace, ttl), (NAMESPACE, None))
            self.puts.append((owner, key, value))
            return put(namespace=namespace, owner=owner, key=key, value=value, ttl=ttl)

        self.patch(self.store, "put", noted)

    def test_what_is_held_back_waits(self) -> None:
        """All that was known is written first; then nothing, until nobody has taken over."""
        self.accounts.mark("p", "a", returns(b"1"))
        self.successResultOf(self.accounts.hold())
        self.assertEqual(self.puts, [("p", "a", b"1")])
        self.accounts.mark("p", "a", returns(b"2"))
        self.accounts.now("p", "b", b"3")
        self.accounts.flush()
        self.clock.advance(60)
        self.assertEqual(len(self.puts), 1)
        self.accounts.release()
        self.assertEqual(self.puts[1:], [("p", "a", b"2"), ("p", "b", b"3")])
        self.accounts.mark("p", "a", returns(b"4"))
        self.clock.advance(60)
        self.assertEqual(self.puts[-1], ("p", "a", b"4"))

    def test_what_is_held_back_never_takes_the_place_of_what_is_newer(self) -> None:
        """A process that was taken over from drops it at its end."""
        self.successResultOf(self.accounts.hold())
        self.accounts.mark("p", "a", returns(b"old"))
        self.accounts.now("p", "b", b"old")
        self.accounts.close()
        self.clock.advance(60)
        self.assertEqual(self.puts, [])

    def loaded(self, provider: str = "p") -> dict[str, bytes]:
        """Return what is known."""
        found: dict[str, bytes] = self.successResultOf(self.accounts.load(provider))
        return found

    def test_what_was_marked_is_put_within_half_a_second(self) -> None:
        """And not before: until then it may change again."""
        self.accounts.mark("p", "a", returns(b"1"))
        self.clock.advance(0.49)
        self.assertEqual(self.puts, [])
        self.clock.advance(0.01)
        self.assertEqual(self.puts, [("p", "a", b"1")])
        self.clock.advance(10)
        self.assertEqual(len(self.puts), 1)

    def test_an_account_is_put_once(self) -> None:
        """However often it was marked, and the last word counts."""
        asked = []

        def first() -> bytes:
            asked.append(1)
            return b"first"

        for _ in range(1000):
            self.accounts.mark("p", "a", first)
        self.accounts.mark("p", "b", returns(b"b"))
        self.accounts.mark("q", "a", returns(b"other"))
        self.accounts.mark("p", "a", returns(b"last"))
        self.clock.advance(0.5)
        self.assertEqual(asked, [])
        self.assertEqual(
            sorted(self.puts), [("p", "a", b"last"), ("p", "b", b"b"), ("q", "a", b"other")]
        )

    def test_one_that_is_marked_all_the_time_does_not_wait_for_ever(self) -> None:
        """The time runs from the first mark."""
        for _ in range(16):
            self.accounts.mark("p", "a", returns(b"1"))
            self.clock.advance(0.125)
        self.assertEqual(len(self.puts), 4)

    def test_nothing_to_do_takes_no_timer(self) -> None:
        """A gateway at rest is woken by nobody."""
        self.accounts.mark("p", "a", returns(b"1"))
        self.clock.advance(0.5)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_may_not_wait(self) -> None:
        """It is put at once, and what was marked before does not undo it."""
        self.accounts.mark("p", "a", returns(b"old"))
        self.accounts.now("p", "a", b"new")
        self.assertEqual(self.puts, [("p", "a", b"new")])
        self.clock.advance(1)
        self.assertEqual(self.loaded(), {"a": b"new"})
        self.accounts.now("p", "a", b"newer")
        self.accounts.mark("p", "a", returns(b"newest"))
        self.clock.advance(1)
        self.assertEqual(self.loaded(), {"a": b"newest"})

    def test_all_of_a_provider(self) -> None:
        """By id, what was only marked as well, and no other provider's."""
        self.assertEqual(self.loaded(), {})
        self.accounts.now("p", "a", b"1")
        self.accounts.mark("p", "b", returns(b"2"))
        self.accounts.mark("q", "c", returns(b"3"))
        self.assertEqual(self.loaded(), {"a": b"1", "b": b"2"})
        self.assertEqual(self.loaded("q"), {"c": b"3"})

    def test_it_can_be_forgotten(self) -> None:
        """With what was marked and not put yet."""
        self.accounts.now("p", "a", b"1")
        self.accounts.mark("p", "a", returns(b"2"))
        self.assertTrue(self.successResultOf(self.accounts.forget("p", "a")))
        self.clock.advance(1)
        self.assertEqual(self.loaded(), {})
        self.assertFalse(self.successResultOf(self.accounts.forget("p", "a")))

    def test_one_that_fails_stops_no_other(self) -> None:
        """It is told of without its words, and the next change is kept."""

        def failing() -> bytes:
            raise KeyError("a secret")

        for id in "abc":
            self.accounts.mark("p", id, failing if id == "b" else returns(b"1"))
        with capturedLogs() as events:
            self.clock.advance(0.5)
        self.assertEqual(self.loaded(), {"a": b"1", "c": b"1"})
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["What account b of p has come to could not be kept: KeyError. This is a bug."],
        )
        self.accounts.mark("p", "b", returns(b"2"))
        self.clock.advance(0.5)
        self.assertEqual(self.loaded()["b"], b"2")

    def test_one_that_is_marked_while_it_is_put(self) -> None:
        """It is put the next time."""

        def again() -> bytes:
            self.accounts.mark("p", "a", returns(b"2"))
            return b"1"

        self.accounts.mark("p", "a", again)
        self.clock.advance(0.5)
        self.assertEqual(self.puts, [("p", "a", b"1")])
        self.clock.advance(0.5)
        self.assertEqual(self.puts[1:], [("p", "a", b"2")])

    def test_one_too_large(self) -> None:
        """The operator is told once, not twice a second."""
        with capturedLogs() as events:
            for _ in range(3):
                self.accounts.mark("p", "a", returns(b"x" * (ONE + 1)))
                self.clock.advance(0.5)
            self.accounts.now("p", "a", b"x" * ONE)
        self.assertEqual(len(events), 1)
        self.assertIn("account a of p", str(formatEvent(events[0])))
        self.assertEqual(len(self.loaded()["a"]), ONE)

    def test_closing_puts_what_was_marked(self) -> None:
        """And takes no more; it leaves no timer and may be done again."""

        def late() -> bytes:
            self.accounts.mark("p", "c", returns(b"late"))
            return b"2"

        self.accounts.mark("p", "a", returns(b"1"))
        self.accounts.mark("p", "b", late)
        self.accounts.close()
        self.accounts.close()
        self.accounts.mark("p", "d", returns(b"late"))
        self.accounts.now("p", "e", b"late")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.puts, [("p", "a", b"1"), ("p", "b", b"2")])

    def test_a_store_that_was_closed(self) -> None:
        """It is nobody's fault, and nobody is told."""
        self.store.close()
        with capturedLogs() as events:
            self.accounts.now("p", "a", b"1")
            self.accounts.mark("p", "b", returns(b"1"))
            self.accounts.close()
            self.assertEqual(self.loaded(), {})
        self.assertEqual(events, [])


class KilledTests(SynchronousTestCase):
    """A gateway that is killed with ``kill -9``, for real."""

    def test_killed(self) -> None:
        """Whatever was marked 0.7 seconds before, and put 0.3 seconds before, is there."""
        path = Path(self.mktemp()).absolute() / "state.sqlite3"
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        told: list[tuple[float, int]] = []
        until = float("inf")
        while time.monotonic() < until:
            at, count = process.stdout.readline().split()
            told.append((float(at), int(count)))
            until = min(until, time.monotonic() + 1.2)
        process.kill()
        rest, _ = process.communicate()
        told += [(float(line.split()[0]), int(line.split()[1])) for line in rest.splitlines()]
        end = told[-1][0]
        connection = database.connect(path, 1.0)
        found = database.scan(connection.cursor(), "accounts", "p", 0.0)
        connection.close()
        marked = max(count for at, count in told if at <= end - 0.7)
        put = max(count for at, count in told if at <= end - 0.3)
        self.assertGreater(marked, 1)
        self.assertGreaterEqual(int(found.pop("urgent")), put)
        self.assertEqual(len(found), 100)
        for account, value in found.items():
            count, of = value.split()
            self.assertEqual(of, account.encode())
            self.assertGreaterEqual(int(count), marked)
