"""A file is followed while it is edited, well or badly."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import ConfigurationError
from aiclient2api.following import FollowedFile, glance


class FollowingTestCase(SynchronousTestCase):
    """A file, and somebody who takes what it holds if it is JSON."""

    def setUp(self) -> None:
        """Have the file in a folder of its own, and a clock."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "provider_pools.json"
        self.path.write_text('{"p": [1]}')
        self.clock = Clock()
        self.taken: list[Any] = []
        self.tried = 0
        self.during: Callable[[], object] = lambda: None
        self.events: list[Any] = []

    def reload(self) -> object:
        """Read the file; refuse what is no JSON."""
        self.tried += 1
        result = self.during()
        try:
            found = json.loads(self.path.read_bytes())
        except ValueError:
            raise ConfigurationError(["line 1: no JSON", "and more"]) from None
        self.taken.append(found)
        return result

    def follow(self, **options: Any) -> FollowedFile:
        """Begin to follow the file."""
        followed = FollowedFile(
            **{
                "path": lambda: self.path,
                "reload": self.reload,
                "clock": self.clock,
                "in_thread": maybeDeferred,
                **options,
            }
        )
        with capturedLogs() as events:
            followed.start()
        self.events += events
        self.addCleanup(followed.stop)
        return followed

    def look(self, times: int = 1) -> None:
        """Let so many seconds pass."""
        with capturedLogs() as events:
            self.clock.pump([1.0] * times)
        self.events += events

    def told(self) -> list[str]:
        """Return what was logged since this was last asked."""
        told = [formatEvent(event) for event in self.events]
        self.events.clear()
        return told


class FollowedFileTests(FollowingTestCase):
    """`FollowedFile`, edited well."""

    def test_an_edit_is_taken_within_a_second(self) -> None:
        """Once, and it is said in one line."""
        self.follow()
        self.look(3)
        self.assertEqual((self.tried, self.told()), (0, []))
        self.path.write_text('{"p": [2]}')
        self.look(5)
        self.assertEqual(self.taken, [{"p": [2]}])
        self.assertEqual(
            self.told(),
            ["provider_pools.json was edited; what it says of accounts is in force now."],
        )

    def test_what_is_only_touched_or_copied_is_not_taken(self) -> None:
        """It is the content that counts."""
        self.follow()
        self.look()
        self.path.touch()
        self.look()
        copy = self.folder / "copy"
        copy.write_bytes(self.path.read_bytes())
        copy.replace(self.path)
        self.look(3)
        self.assertEqual((self.tried, self.told()), (0, []))

    def test_an_edit_that_shows_in_nothing_but_the_content(self) -> None:
        """Same size, same second, the time of the edit set back: it is seen."""
        self.follow()
        self.look(3)
        before = self.path.stat()
        self.path.write_text('{"p": [2]}')
        os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.look()
        self.assertEqual(self.taken, [{"p": [2]}])

    def test_an_edit_within_the_tick_of_the_last_look(self) -> None:
        """A file system whose clock is coarse gives both the same time: it is seen."""
        stays = self.path.stat()
        self.patch(os, "stat", lambda path: stays)
        self.patch(os, "fstat", lambda descriptor: stays)
        self.follow()
        self.path.write_text('{"p": [2]}')
        self.look()
        self.assertEqual(self.taken, [{"p": [2]}])

    def test_it_is_not_read_again_and_again(self) -> None:
        """A file that rests is looked at, but not read."""
        self.follow()
        self.look(2)
        self.patch(os, "open", lambda *_: self.fail("it was read"))
        self.look(5)

    def test_a_file_that_is_replaced(self) -> None:
        """As editors do it."""
        self.follow()
        new = self.folder / "new"
        new.write_text('{"p": [2]}')
        new.replace(self.path)
        self.look()
        self.assertEqual(self.taken, [{"p": [2]}])

    def test_a_link_that_is_switched(self) -> None:
        """As orchestrators do it: the folder behind the file is another."""
        for name in ("one", "two"):
            (self.folder / name).mkdir()
            (self.folder / name / "pools").write_text(json.dumps(name))
        (self.folder / "data").symlink_to("one")
        self.path.unlink()
        self.path.symlink_to("data/pools")
        self.follow()
        self.look(2)
        (self.folder / "next").symlink_to("two")
        (self.folder / "next").replace(self.folder / "data")
        self.look()
        self.assertEqual(self.taken, ["two"])

    def test_a_file_that_appears(self) -> None:
        """It is taken; that there was none is nothing to talk about."""
        self.path.unlink()
        self.follow()
        self.look(2)
        self.assertEqual(self.told(), [])
        self.path.write_text('{"p": [2]}')
        self.look()
        self.assertEqual(self.taken, [{"p": [2]}])

    def test_another_file_is_followed(self) -> None:
        """The configuration may name another at any time, or none."""
        paths: list[Path | None] = [self.path]
        other = self.folder / "other.json"
        other.write_text('{"p": [1]}')
        self.follow(path=lambda: paths[-1])
        paths.append(None)
        self.look()
        paths.append(other)
        self.look()
        self.assertEqual(self.tried, 0)
        self.path = other
        other.write_text('{"p": [3]}')
        self.look()
        self.assertEqual(self.taken, [{"p": [3]}])

    def test_an_edit_while_the_gateway_starts(self) -> None:
        """What changed after the configuration was read is taken at the first look."""
        changed = self.path.stat().st_mtime
        self.follow(loaded=changed + 60)
        self.look(2)
        self.assertEqual(self.tried, 0)
        self.follow(loaded=changed - 1)
        self.look(2)
        self.assertEqual(self.tried, 1)

    def test_three_thousand_accounts(self) -> None:
        """A large file is seen to change by a single byte."""
        accounts = [{"uuid": f"account-{n}", "OPENAI_API_KEY": f"key-{n}"} for n in range(3000)]
        self.path.write_text(json.dumps({"openai-custom": accounts}))
        self.follow()
        accounts[1500]["OPENAI_API_KEY"] = "key-1501"
        self.path.write_text(json.dumps({"openai-custom": accounts}))
        self.look()
        self.assertEqual(self.taken, [{"openai-custom": accounts}])


class BadEditTests(FollowingTestCase):
    """`FollowedFile`, edited badly: the old accounts stay."""

    def test_a_bad_edit_is_told_of_once(self) -> None:
        """With its reasons; it is not tried again until it changes."""
        self.follow()
        for content in ("", '{"p": [', "nonsense", "\x00\xff"):
            with self.subTest(content):
                self.path.write_text(content)
                self.look(5)
                self.assertEqual(
                    self.told(),
                    [
                        "provider_pools.json was edited, but the old accounts stay in force. "
                        "line 1: no JSON | and more"
                    ],
                )
        self.assertEqual((self.tried, self.taken), (4, []))

    def test_it_is_mended(self) -> None:
        """The new content is taken; the old one again is what is in force already."""
        self.follow()
        self.path.write_text('{"p": [')
        self.look()
        self.path.write_text('{"p": [2]}')
        self.look(3)
        self.path.write_text('{"p": [')
        self.look()
        self.path.write_text('{"p": [2]}')
        self.look(3)
        self.assertEqual(self.taken, [{"p": [2]}])
        self.assertEqual(self.tried, 3)
        self.assertEqual(len(self.told()), 3)

    def test_it_is_written_while_it_is_read(self) -> None:
        """Half of it is refused in silence, and the whole is taken, whichever came first."""
        self.follow()

        def completed() -> None:
            self.during = lambda: None
            self.path.write_text("half")
            self.write_later = '{"p": [2]}'

        self.during = completed
        self.path.write_text('{"p": [2]}')
        self.look()
        self.assertEqual((self.tried, self.taken, self.told()), (1, [], []))
        self.path.write_text(self.write_later)
        self.look(3)
        self.assertEqual(self.taken, [{"p": [2]}])
        self.assertEqual(len(self.told()), 1)

    def test_it_changes_behind_a_good_reload(self) -> None:
        """Whatever was taken then, the content that is there in the end is in force."""
        self.follow()
        self.path.write_text('{"p": [2]}')
        self.during = lambda: self.path.write_text('{"p": [3]}') and None
        self.look()
        self.during = lambda: None
        self.path.write_text('{"p": [2]}')
        self.look(3)
        self.assertEqual(self.taken, [{"p": [3]}, {"p": [2]}])

    def test_a_file_that_vanishes(self) -> None:
        """It is told of once; it may come back as it was, or as another."""
        self.follow()
        self.path.unlink()
        self.look(3)
        (told,) = self.told()
        self.assertIn("is gone", told)
        self.assertIn("stay in force", told)
        self.path.write_text('{"p": [1]}')
        self.look(2)
        self.assertEqual((self.tried, self.told()), (0, []))
        self.path.unlink()
        self.look()
        self.assertEqual(len(self.told()), 1)
        self.path.write_text('{"p": [2]}')
        self.look(2)
        self.assertEqual(self.taken, [{"p": [2]}])

    def test_a_file_that_cannot_be_read(self) -> None:
        """Nor is that more than a line in the log."""
        self.follow()
        self.path.unlink()
        for make, word in (
            (lambda: self.path.mkdir(), "no regular file"),
            (lambda: os.mkfifo(self.path), "no regular file"),
            (lambda: self.path.symlink_to(self.path), "symbolic links"),
        ):
            with self.subTest(word):
                make()
                self.look(3)
                (told,) = [line for line in self.told() if "is gone" not in line]
                self.assertIn(word, told)
                self.path.rmdir() if self.path.is_dir() else self.path.unlink()
                self.look()
        self.path.write_text('{"p": [1]}')
        self.look(2)
        self.assertEqual(self.tried, 0)

    def test_a_file_that_may_not_be_read(self) -> None:
        """It is taken as soon as it may."""
        self.path.chmod(0)
        if os.geteuid() == 0:
            os.seteuid(65534)
            self.addCleanup(os.seteuid, 0)
        self.follow()
        self.look(3)
        (told,) = self.told()
        self.assertIn("Permission denied", told)
        if os.getuid() == 0:
            os.seteuid(0)
        self.path.chmod(0o600)
        self.look(3)
        self.assertEqual(self.taken, [{"p": [1]}])

    def test_a_reload_with_a_bug(self) -> None:
        """It is told of without its words, and does not end the following."""

        def broken() -> None:
            raise ZeroDivisionError("sk-secret")

        self.follow()
        self.during = broken
        self.path.write_text('{"p": [2]}')
        self.look(3)
        (told,) = self.told()
        self.assertIn("ZeroDivisionError", told)
        self.assertNotIn("secret", told)
        self.during = lambda: None
        self.path.write_text('{"p": [3]}')
        self.look()
        self.assertEqual(self.taken, [{"p": [3]}])


class PatienceTests(FollowingTestCase):
    """`FollowedFile`, when things take their time."""

    def test_a_slow_reload(self) -> None:
        """No other begins until it is done; what changed meanwhile is taken then."""
        waiting: Deferred[None] = Deferred()
        self.during = lambda: waiting
        self.follow()
        self.path.write_text('{"p": [2]}')
        self.look()
        self.path.write_text('{"p": [3]}')
        self.look(5)
        self.assertEqual(self.tried, 1)
        self.during = lambda: None
        waiting.callback(None)
        self.look()
        self.assertEqual(self.taken, [{"p": [2]}, {"p": [3]}])

    def test_a_reload_that_is_refused_late(self) -> None:
        """As if it had been refused at once."""
        waiting: Deferred[None] = Deferred()
        self.during = lambda: waiting
        self.follow()
        self.path.write_text('{"p": [2]}')
        self.look()
        with capturedLogs() as events:
            waiting.errback(ConfigurationError(["no good"]))
        self.assertIn("no good", formatEvent(events[0]))
        self.look(3)
        self.assertEqual(self.tried, 1)

    def test_a_slow_disk(self) -> None:
        """One look at a time."""
        looks: list[Deferred[Any]] = []

        def in_thread(*_: Any) -> Deferred[Any]:
            looks.append(Deferred())
            return looks[-1]

        self.follow(in_thread=in_thread)
        self.look(5)
        self.assertEqual(len(looks), 1)
        looks[0].callback(glance(self.path, None))
        self.look()
        self.assertEqual(len(looks), 2)

    def test_stopped(self) -> None:
        """A look and a reload under way are cancelled; nothing happens any more."""
        cancelled: list[object] = []
        looking: Deferred[Any] = Deferred(cancelled.append)
        self.follow(in_thread=lambda *_: looking).stop()
        self.assertEqual(len(cancelled), 1)

        reloading: Deferred[None] = Deferred(cancelled.append)
        self.during = lambda: reloading
        followed = self.follow()
        self.path.write_text('{"p": [2]}')
        self.look()
        with capturedLogs() as events:
            followed.stop()
            followed.stop()
        self.assertEqual((len(cancelled), events), (2, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.look(3)
        self.assertEqual(self.tried, 1)

    def test_cancelled_by_somebody_else(self) -> None:
        """That is no stop: it is told of as the bug it is, and the following goes on."""
        looks: list[Deferred[Any]] = [Deferred(), maybeDeferred(glance, self.path, None)]
        self.follow(in_thread=lambda *_: looks[0])
        with capturedLogs() as events:
            looks.pop(0).errback(CancelledError())
        self.assertEqual(len(events), 1)
        self.look()
