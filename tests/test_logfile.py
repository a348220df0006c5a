"""
The daemon's log file: private, and followed wherever logrotate moves it.
"""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from twisted.logger._legacy import publishToNewObserver
from twisted.python import syslog as twisted_syslog
from twisted.python.log import textFromEventDict
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api import logfile
from aiclient2api.scrubbing import IN_FORCE


class ReopenedFileTests(SynchronousTestCase):
    """`logfile.ReopenedFile`."""

    def setUp(self) -> None:
        """Open a file in a directory of its own."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "gateway.log"
        self.file = logfile.ReopenedFile(str(self.path))
        self.addCleanup(self.file.close)

    def test_only_its_owner_reads_it(self) -> None:
        """Whatever the umask, nobody else may read the log."""
        other = self.directory / "other.log"
        before = os.umask(0)
        try:
            logfile.ReopenedFile(str(other)).close()
        finally:
            os.umask(before)
        self.assertEqual(stat.S_IMODE(other.stat().st_mode), 0o600)

    def test_it_appends(self) -> None:
        """A restart keeps what the last run wrote."""
        self.file.write("one\n")
        again = logfile.ReopenedFile(str(self.path))
        again.write("two\n")
        again.close()
        self.assertEqual(self.path.read_text(), "one\ntwo\n")

    def test_it_follows_a_rotation(self) -> None:
        """After a rename and a reopening, lines go to a new file under the old name."""
        self.file.write("old\n")
        rotated = self.path.rename(self.directory / "gateway.log.1")
        self.file.reopen()
        self.assertTrue(self.path.exists())
        self.file.write("new\n")
        self.assertEqual((rotated.read_text(), self.path.read_text()), ("old\n", "new\n"))

    def test_it_survives_being_deleted(self) -> None:
        """Someone deletes the log: the next line makes it anew, without any signal."""
        self.path.unlink()
        self.file.write("here\n")
        self.assertEqual(self.path.read_text(), "here\n")

    def test_it_goes_on_without_its_directory(self) -> None:
        """With the directory gone as well, the gateway logs into the void but lives."""
        moved = self.directory.rename(self.directory.with_suffix(".away"))
        self.file.write("kept\n")
        self.assertEqual((moved / "gateway.log").read_text(), "kept\n")

    def test_it_follows_no_link(self) -> None:
        """A symbolic link planted in its place is not written through."""
        target = self.directory / "target"
        self.path.unlink()
        self.path.symlink_to(target)
        self.file.write("secret\n")
        self.assertFalse(target.exists())

    def test_half_a_character_is_no_error(self) -> None:
        """A lone surrogate in a message is written escaped."""
        self.file.write("\ud83d\n")
        self.assertEqual(self.path.read_text(), "\\ud83d\n")


class ObserverTests(SynchronousTestCase):
    """`logfile.observer`, as twistd calls it."""

    def setUp(self) -> None:
        """Point the environment at a file, and keep the signal's own handler."""
        self.path = Path(self.mktemp()).absolute()
        self.patch(os, "environ", {logfile.VARIABLE: str(self.path)})
        handler = signal.getsignal(signal.SIGUSR1)
        self.addCleanup(signal.signal, signal.SIGUSR1, handler)
        # A gateway in this process may have set another one.
        logfile.levels.setLogLevelForNamespace("", LogLevel.info)

    def test_it_is_an_observer(self) -> None:
        """twistd takes it without a warning."""
        verifyObject(ILogObserver, logfile.observer())

    def test_levels_decide(self) -> None:
        """Info is logged and debug is not, until the level says so."""
        log = Logger(observer=LogPublisher(logfile.observer()), namespace="test")
        log.debug("too much")
        log.info("just right")
        logfile.levels.setLogLevelForNamespace("test", LogLevel.debug)
        self.addCleanup(logfile.levels.setLogLevelForNamespace, "test", LogLevel.info)
        log.debug("wanted now")
        text = self.path.read_text()
        self.assertNotIn("too much", text)
        self.assertIn("[test#info] just right\n", text)
        self.assertIn("wanted now", text)

    def test_nothing_secret_is_written(self) -> None:
        """Whoever logs it, in a field, in a traceback or in what looks like a key: it goes."""
        IN_FORCE.learn(["canary-of-the-log"])
        self.addCleanup(IN_FORCE.forget)
        publisher = LogPublisher(logfile.observer())
        log = Logger(observer=publisher, namespace="twisted.web.http")
        log.info("{url}", url="https://host/x?key=shape-only")
        log.info("a canary-of-the-log here")
        try:
            raise ValueError("no canary" + "-of-the-log")
        except ValueError:
            log.failure("it failed")
        publishToNewObserver(
            publisher,
            {"message": ("old canary-of-the-log",), "isError": 0, "time": 0.0},
            textFromEventDict,
        )
        text = self.path.read_text()
        self.assertIn("?key=[secret]", text)
        self.assertIn("a [secret] here", text)
        self.assertIn("ValueError: no [secret]", text)
        self.assertIn("old [secret]", text)
        self.assertNotIn("canary-of", text)

    def test_what_cannot_be_looked_through_is_not_shown(self) -> None:
        """A bug of the scrubber's loses a line, and never lets one through."""
        self.patch(IN_FORCE, "text", lambda text: 1 // 0)
        log = Logger(observer=LogPublisher(logfile.observer()), namespace="test")
        log.info("canary-of-the-log")
        text = self.path.read_text()
        self.assertNotIn("canary", text)
        self.assertIn("ZeroDivisionError", text)

    def test_the_systems_log_is_told_the_same(self) -> None:
        """What syslog gets went through the scrubber, tracebacks as well."""
        sent: list[tuple[int, str]] = []
        self.patch(twisted_syslog.SyslogObserver, "openlog", lambda *_: None)
        self.patch(
            twisted_syslog.SyslogObserver,
            "syslog",
            lambda _, level, text: sent.append((level, text)),
        )
        IN_FORCE.learn(["canary-of-the-log"])
        self.addCleanup(IN_FORCE.forget)
        log = Logger(observer=LogPublisher(logfile.syslog()), namespace="test")
        log.debug("too much")
        log.info("{a} {b}", a="{canary-of-the-log}", b="100%")
        try:
            raise ValueError("canary" + "-of-the-log")
        except ValueError:
            log.failure("it failed")
        self.assertEqual(sent[0], (6, "[test#info] {[secret]} 100%"))
        self.assertEqual(sent[1], (1, "[test#critical] it failed"))
        self.assertIn("ValueError: [secret]", sent[-1][1])

    def test_the_signal_reopens(self) -> None:
        """SIGUSR1, which logrotate sends, opens the file anew and kills nobody."""
        logfile.observer()
        self.path.rename(self.path.with_suffix(".1"))
        os.kill(os.getpid(), signal.SIGUSR1)
        self.assertTrue(self.path.exists())

    def test_a_bad_path_says_what_to_do(self) -> None:
        """A log that cannot be written stops the start with the file's name and a remedy."""
        os.environ[logfile.VARIABLE] = "/dev/null/gateway.log"
        error = self.assertRaises(SystemExit, logfile.observer)
        self.assertIn("/dev/null/gateway.log", str(error))
        self.assertIn(logfile.VARIABLE, str(error))

    def test_without_a_file_it_is_standard_error(self) -> None:
        """In the foreground nothing is written to disk."""
        os.environ.clear()
        verifyObject(ILogObserver, logfile.observer())
        self.assertFalse(self.path.exists())
