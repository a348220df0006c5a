"""
The prompt log: what its file looks like, what never stands in it, and how it fails.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, execute
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.interfaces import IExchangeObserver
from aiclient2api.observe.prompt_log import QUEUE_BYTES, QUEUE_RECORDS, TEXT_LIMIT, PromptLog
from aiclient2api.observe.redaction import redacted
from aiclient2api.testing import HeldThreads
from aiclient2api.values import ExchangeRecord, Outcome

NOON = datetime(2026, 3, 4, 12, 0, 5)
RULE = "-" * 38


@attrs.frozen
class Request:
    """A request of which only the last message matters."""

    prompt: str

    def prompt_text(self) -> str:
        return self.prompt


class PromptLogTestCase(SynchronousTestCase):
    """What the suites below share."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "prompts-20260304-120005.log"
        self.clock = Clock()

    def log(
        self,
        mode: str = "file",
        *,
        in_thread: Any = execute,
        secrets: tuple[str, ...] = (),
        out: Any = None,
    ) -> PromptLog:
        """Return a started prompt log."""
        log = PromptLog(
            mode=mode,
            base_name=self.folder / "prompts",
            clock=self.clock,
            now=lambda: NOON,
            in_thread=in_thread,
            clean=partial(redacted, secrets=secrets),
            out=out,
        )
        log.start()
        return log

    def ask(self, log: PromptLog, prompt: str) -> None:
        """Tell *log* of a request."""
        log.began(ExchangeRecord("x1", "me", Request(prompt), "p", "m", 0.0))

    def answer(self, log: PromptLog, text: str, how: str = "complete") -> None:
        """Tell *log* of an answer."""
        record = ExchangeRecord("x1", "me", Request(""), "p", "m", 0.0)
        log.ended(record, Outcome(how=how, seconds=1.0, text=text))

    def written(self) -> str:
        """Return what stands in the file."""
        return self.path.read_text("utf-8")


class FormatTests(PromptLogTestCase):
    """What is written."""

    def test_it_is_an_observer(self) -> None:
        """It has all that the contract asks for."""
        verifyObject(IExchangeObserver, self.log("none"))

    def test_a_question_and_its_answer(self) -> None:
        """The file has one record each, in the documented form."""
        log = self.log()
        self.ask(log, "How do you do?\nTell me.")
        self.answer(log, "Gut, danke schön.")
        self.assertEqual(
            self.written(),
            f"2026-03-04 12:00:05 [INPUT]:\nHow do you do?\nTell me.\n{RULE}\n"
            f"2026-03-04 12:00:05 [OUTPUT]:\nGut, danke schön.\n{RULE}\n",
        )
        self.assertEqual(log.path, self.path)

    def test_an_answer_cut_short_says_so(self) -> None:
        """An answer that is not whole is never taken for one."""
        log = self.log()
        for how in ("failed", "truncated", "cancelled"):
            self.answer(log, "Gu", how)
        titles = [line for line in self.written().splitlines() if "[OUTPUT]" in line]
        self.assertEqual(
            titles,
            [
                f"2026-03-04 12:00:05 [OUTPUT] ({how}):"
                for how in ("failed", "truncated", "cancelled")
            ],
        )

    def test_empty_texts_are_left_out(self) -> None:
        """Nothing said is nothing written, not even a file."""
        log = self.log()
        self.ask(log, "")
        self.answer(log, "", "cancelled")
        self.assertFalse(self.path.exists())

    def test_text_that_utf8_cannot_hold(self) -> None:
        """A lone surrogate becomes a question mark and the rest is kept."""
        self.ask(self.log(), "a\ud83db😀")
        self.assertIn("\na?b😀\n", self.written())

    def test_long_texts_are_cut(self) -> None:
        """A text keeps its first 256 KiB, however long it is, and says what is missing."""
        self.ask(self.log(), "x" * (40 * 2**20))
        left_out = 40 * 2**20 - TEXT_LIMIT
        self.assertTrue(self.written().endswith(f"x\n[{left_out} characters left out]\n{RULE}\n"))
        self.assertEqual(self.written().count("x"), TEXT_LIMIT)

    def test_no_secret_is_written(self) -> None:
        """Configured keys and things that look like keys stand in no record."""
        log = self.log(secrets=("open-sesame",))
        self.ask(log, "My key is open-sesame.")
        self.answer(log, "Use Authorization: Bearer abcdefgh12 instead.")
        self.assertIn("My key is [secret].", self.written())
        self.assertIn("Use Authorization: [secret] instead.", self.written())

    def test_off_is_off(self) -> None:
        """Without a log no text is asked for, read or written."""
        log = self.log("none")
        log.began(ExchangeRecord("x1", "me", None, "p", "m", 0.0))
        self.answer(log, "text")
        self.assertEqual((log.wants_text, os.listdir(self.folder)), (False, []))
        self.assertTrue(self.log("file").wants_text)
        self.assertTrue(self.log("console").wants_text)


class ConsoleTests(PromptLogTestCase):
    """Console mode."""

    def test_records_go_to_the_console(self) -> None:
        """The same form as in a file; no file is made."""
        out = io.BytesIO()
        self.ask(self.log("console", out=out), "Grüße")
        self.assertEqual(out.getvalue().decode(), f"2026-03-04 12:00:05 [INPUT]:\nGrüße\n{RULE}\n")
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_prompt_cannot_steer_the_terminal(self) -> None:
        """Escape sequences, returns and direction marks are shown, not obeyed."""
        out = io.BytesIO()
        self.ask(self.log("console", out=out), "\x1b[2J\r\n\tok\rno\x9b1m\x7f\u202e")
        text = out.getvalue().decode().split(":\n")[1]
        self.assertEqual(text, f"\\x1b[2J\n\tok\\x0dno\\x9b1m\\x7f\\u202e\n{RULE}\n")

    def test_a_console_that_went_away(self) -> None:
        """A closed console is told once and disturbs nobody."""
        out = io.BytesIO()
        log = self.log("console", out=out)
        out.close()
        with capturedLogs() as events:
            self.ask(log, "one")
            self.ask(log, "two")
        self.assertEqual(len(events), 1)

    def test_no_console_at_all(self) -> None:
        """A process without a standard output logs that once."""
        self.patch(__import__("sys"), "__stdout__", None)
        log = self.log("console")
        with capturedLogs() as events:
            self.ask(log, "one")
        self.assertIn("standard output", events[0]["error"])


class PrivacyTests(PromptLogTestCase):
    """Whose file it is."""

    def test_the_file_is_private_whatever_the_umask(self) -> None:
        """The file is made with mode 0600 under a lax umask and under an odd one."""
        for umask in (0, 0o277):
            self.addCleanup(os.umask, os.umask(umask))
            self.ask(self.log(), "hello")
            self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
            self.path.unlink()

    def test_it_appends_and_closes_what_was_open_to_others(self) -> None:
        """A file of ours that is there is continued, and made private."""
        self.path.write_text("before\n")
        self.path.chmod(0o644)
        self.ask(self.log(), "hello")
        self.assertTrue(self.written().startswith("before\n2026-"))
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def refused(self) -> str:
        """Try to write; return the error that is logged."""
        with capturedLogs() as events:
            self.ask(self.log(), "hello")
        self.assertEqual(len(events), 1)
        return str(events[0]["error"])

    def test_a_link_is_not_followed(self) -> None:
        """A symbolic link in its place does not lead us to write elsewhere."""
        other = self.folder / "precious"
        other.write_text("precious")
        self.path.symlink_to(other)
        self.assertIn(os.strerror(errno.ELOOP), self.refused())
        self.assertEqual(other.read_text(), "precious")

    def test_what_is_no_regular_file_is_refused(self) -> None:
        """A FIFO, with or without a reader, neither blocks us nor gets the prompts."""
        os.mkfifo(self.path)
        self.assertIn(os.strerror(errno.ENXIO), self.refused())
        reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        self.assertIn("no regular file", self.refused())
        self.assertEqual(os.read(reader, 1), b"")

    def test_the_file_of_another_user_is_refused(self) -> None:
        """A file that somebody else laid there could be read by them."""
        self.path.write_text("")
        owner = self.path.stat().st_uid
        self.patch(os, "geteuid", lambda: owner + 1)
        self.assertIn("of our own", self.refused())
        self.assertEqual(self.written(), "")


class QueueTests(PromptLogTestCase):
    """How records wait, are lost and are flushed."""

    def test_nothing_is_written_in_the_callers_thread(self) -> None:
        """Records wait for the thread, which takes all that came meanwhile at once."""
        threads = HeldThreads()
        log = self.log(in_thread=threads)
        for prompt in ("one", "two", "three"):
            self.ask(log, prompt)
        self.assertFalse(self.path.exists())
        threads.run()
        self.assertEqual((self.written().count("[INPUT]"), len(threads.calls)), (1, 1))
        threads.run()
        self.assertEqual((self.written().count("[INPUT]"), len(threads.calls)), (3, 0))

    def test_stop_writes_what_was_taken(self) -> None:
        """Stopping waits for every record, and takes none after it."""
        threads = HeldThreads()
        log = self.log(in_thread=threads)
        self.ask(log, "one")
        self.ask(log, "two")
        stopped = log.stop()
        self.ask(log, "late")
        threads.run()
        self.assertNoResult(stopped)
        threads.run()
        self.successResultOf(stopped)
        self.assertIn("two", self.written())
        self.assertNotIn("late", self.written())
        self.successResultOf(log.stop())

    def test_a_wait_for_the_end_can_be_given_up(self) -> None:
        """Cancelling stop() gives up the wait; the records are written."""
        threads = HeldThreads()
        log = self.log(in_thread=threads)
        self.ask(log, "one")
        stopped = log.stop()
        stopped.cancel()
        self.failureResultOf(stopped, CancelledError)
        threads.run()
        self.assertIn("one", self.written())

    def test_too_many_records(self) -> None:
        """Over the limit records are dropped, counted in the log, and told once a minute."""
        threads = HeldThreads()
        log = self.log(in_thread=threads)
        with capturedLogs() as events:
            for number in range(QUEUE_RECORDS + 5):
                self.ask(log, f"number {number}.")
            self.assertEqual(len(events), 1)
            self.clock.advance(61)
            self.ask(log, "one more")
        self.assertEqual([each["count"] for each in events], [1, 6])
        threads.run()
        threads.run()
        self.assertEqual(self.written().count("[INPUT]"), QUEUE_RECORDS)
        self.assertNotIn(f"number {QUEUE_RECORDS}.", self.written())
        self.assertIn(" [DROPPED]:\n6 records were lost", self.written())
        self.ask(log, "again")
        threads.run()
        self.assertIn("again", self.written())
        self.assertEqual(self.written().count("[DROPPED]"), 1)

    def test_too_many_bytes(self) -> None:
        """Few but long texts are bounded as well, counting those being written."""
        threads = HeldThreads()
        log = self.log(in_thread=threads)
        with capturedLogs() as events:
            for _ in range(QUEUE_BYTES // TEXT_LIMIT + 1):
                self.ask(log, "x" * (2 * TEXT_LIMIT))
        self.assertEqual(len(events), 1)
        threads.run()
        threads.run()
        self.assertLess(self.path.stat().st_size, QUEUE_BYTES)
        self.assertEqual(threads.calls, [])
        self.ask(log, "There is room again." + "x" * TEXT_LIMIT)
        threads.run()
        self.assertIn("There is room again.", self.written())

    def test_records_before_the_start_wait(self) -> None:
        """What comes before the start is written after it."""
        log = PromptLog(
            mode="file",
            base_name=self.folder / "prompts",
            clock=self.clock,
            now=lambda: NOON,
            in_thread=execute,
            clean=str,
        )
        self.ask(log, "early")
        self.assertEqual(os.listdir(self.folder), [])
        log.start()
        self.assertIn("early", self.written())

    def test_a_full_disk(self) -> None:
        """An error is logged once; when there is room again, the log says what it lost."""
        self.path.mkdir()
        log = self.log()
        with capturedLogs() as events:
            for prompt in ("one", "two", "three"):
                self.ask(log, prompt)
        self.assertEqual(len(events), 1)
        self.assertIn(os.strerror(errno.EISDIR), events[0]["error"])
        self.path.rmdir()
        self.ask(log, "four")
        self.assertIn(" [INPUT]:\nfour\n", self.written())
        self.assertIn(" [DROPPED]:\n3 records were lost", self.written())

    def test_a_device_that_takes_nothing(self) -> None:
        """A write that fails after the file was opened reaches nobody either."""
        with open("/dev/full", "wb", buffering=0) as out, capturedLogs() as events:
            log = self.log("console", out=out)
            self.ask(log, "one")
            self.successResultOf(log.stop())
        self.assertEqual(len(events), 1)
        self.assertIn(os.strerror(errno.ENOSPC), events[0]["error"])

    def test_a_broken_thread_pool(self) -> None:
        """Even a failure nobody foresaw is logged, without its words, and work goes on."""

        def broken(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
            raise RuntimeError("a prompt of mine")

        log = self.log(in_thread=broken)
        with capturedLogs() as events:
            self.ask(log, "one")
        self.assertEqual([each["kind"] for each in events], ["RuntimeError"])
        self.assertNotIn("a prompt of mine", str(events))
        self.successResultOf(log.stop())
