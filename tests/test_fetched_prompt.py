"""
The file that keeps the system prompt a client sends.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, execute
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import InvalidRequest
from aiclient2api.observe.fetched_prompt import FetchedPrompt
from aiclient2api.testing import HeldThreads


@attrs.frozen
class Request:
    """A request of which only the system prompt matters, or the error reading it."""

    system: str | Exception

    def system_text(self) -> str:
        if isinstance(self.system, Exception):
            raise self.system
        return self.system


class FetchedPromptTests(SynchronousTestCase):
    """`FetchedPrompt`."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "fetch_system_prompt.txt"

    def keeper(self, in_thread: Any = execute, path: Path | None = None) -> FetchedPrompt:
        """Return a started one that writes to `path`."""
        keeper = FetchedPrompt(path=path or self.path, in_thread=in_thread)
        keeper.start()
        return keeper

    def see(self, keeper: FetchedPrompt, *prompts: str | Exception) -> None:
        """Let *keeper* see one request for each of *prompts*."""
        for prompt in prompts:
            keeper.saw(Request(prompt))  # type: ignore[arg-type]

    def test_the_newest_prompt_is_kept(self) -> None:
        """The file holds the last prompt, privately, and nothing lies beside it."""
        self.see(self.keeper(), "You are one.", "You are zwölf. \ud83d")
        self.assertEqual(self.path.read_text("utf-8"), "You are zwölf. ?")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(os.listdir(self.folder), [self.path.name])

    def test_a_request_without_one_empties_it(self) -> None:
        """No system prompt empties the file, but does not make one."""
        keeper = self.keeper()
        self.see(keeper, "")
        self.assertFalse(self.path.exists())
        self.see(keeper, "You are one.", "")
        self.assertEqual(self.path.read_bytes(), b"")

    def test_the_same_prompt_is_not_written_again(self) -> None:
        """A file that holds the prompt already stays the very same file."""
        self.see(self.keeper(), "You are one.")
        first = self.path.stat().st_ino
        threads = HeldThreads()
        after_restart = self.keeper(threads)
        self.see(after_restart, "You are one.")
        threads.run()
        self.see(after_restart, "You are one.")
        self.assertEqual((self.path.stat().st_ino, threads.calls), (first, []))

    def test_only_the_newest_of_many_is_written(self) -> None:
        """While one write goes on, what comes is not queued but replaced."""
        threads = HeldThreads()
        keeper = self.keeper(threads)
        self.see(keeper, "1", "2", "3")
        stopped = keeper.stop()
        threads.run()
        self.assertEqual((self.path.read_text(), len(threads.calls)), ("1", 1))
        self.assertNoResult(stopped)
        threads.run()
        self.successResultOf(stopped)
        self.assertEqual((self.path.read_text(), threads.calls), ("3", []))

    def test_a_wait_for_the_end_can_be_given_up(self) -> None:
        """Cancelling the wait leaves the writing alone; with nothing to do none is needed."""
        threads = HeldThreads()
        keeper = self.keeper(threads)
        self.successResultOf(keeper.stop())
        self.see(keeper, "1")
        stopped = keeper.stop()
        stopped.cancel()
        self.failureResultOf(stopped, CancelledError)
        threads.run()
        self.assertEqual(self.path.read_text(), "1")

    def test_a_link_is_replaced_not_followed(self) -> None:
        """A symbolic link at that place never lets us write somewhere else."""
        other = self.folder / "precious"
        other.write_text("precious")
        self.path.symlink_to(other)
        keeper = self.keeper()
        self.see(keeper, "precious")
        self.assertFalse(self.path.is_symlink())
        self.see(keeper, "You are one.")
        self.assertEqual((other.read_text(), self.path.read_text()), ("precious", "You are one."))

    def test_a_failing_disk_is_told_once(self) -> None:
        """An error is logged once, leaves nothing behind, and the next try can succeed."""
        self.path.mkdir()
        keeper = self.keeper()
        with capturedLogs() as events:
            self.see(keeper, "1", "2", "2")
        self.assertEqual(len(events), 1)
        self.assertIn(str(self.path), events[0]["error"])
        self.assertEqual(os.listdir(self.folder), [self.path.name])
        self.path.rmdir()
        self.see(keeper, "2")
        self.assertEqual(self.path.read_text(), "2")

    def test_a_replacement_that_fails_leaves_nothing(self) -> None:
        """When only the last step fails, the temporary file goes as well."""
        (self.path / "inner").mkdir(parents=True)
        self.patch(Path, "read_bytes", lambda _: b"other")
        with capturedLogs() as events:
            self.see(self.keeper(), "1")
        self.assertEqual(len(events), 1)
        self.assertEqual(os.listdir(self.folder), [self.path.name])

    def test_an_unreadable_request_is_no_fault_of_ours(self) -> None:
        """A bad request passes; an unforeseen error is logged without its words."""
        with capturedLogs() as events:
            self.see(self.keeper(), InvalidRequest("No."), ValueError("a prompt of mine"))
        self.assertEqual([each["kind"] for each in events], ["ValueError"])
        self.assertNotIn("a prompt of mine", str(events))
        self.assertFalse(self.path.exists())

    def test_nothing_is_kept_before_start_or_when_off(self) -> None:
        """Off, it does not even look; before its start it does not write."""
        off = FetchedPrompt(path=None, in_thread=execute)
        off.start()
        with capturedLogs() as events:
            self.see(off, ValueError())
        self.assertEqual(events, [])
        early = FetchedPrompt(path=self.path, in_thread=execute)
        self.see(early, "1")
        self.assertFalse(self.path.exists())
        early.start()
        self.assertEqual(self.path.read_text(), "1")
