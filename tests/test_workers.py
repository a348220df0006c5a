"""
How tests are counted, and how they are run in several processes: tiny suites of their own.

Each suite has a copy of what runs ours, so that nothing here depends on the suite this is
part of.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

HERE = Path(__file__).resolve().parent

MIXED = """
    from twisted.python import log
    from twisted.trial.unittest import SynchronousTestCase

    class MixedTests(SynchronousTestCase):
        def test_passes(self):
            print("\\nsaid by a test")

        def test_fails(self):
            self.assertEqual("left", "right")

        def test_errs(self):
            raise KeyError("lost")

        def test_errs_and_fails(self):
            self.addCleanup(self.fail, "in the cleanup")
            self.addCleanup(self.fail, "in another cleanup")
            raise KeyError("in the test")

        def test_logs_two_errors(self):
            log.err(OSError("one"))
            log.err(OSError("two"))

        def test_is_skipped(self):
            pass
        test_is_skipped.skip = "there is no moon"

        def test_fails_as_expected(self):
            self.fail("as ever")
        test_fails_as_expected.todo = "not written yet"

        def test_passes_unexpectedly(self):
            pass
        test_passes_unexpectedly.todo = "not written yet"
"""

GOOD = """
    import os
    from pathlib import Path
    from twisted.internet import reactor
    from twisted.internet.task import deferLater
    from twisted.trial.unittest import TestCase

    class GoodTests(TestCase):
        def test_waits(self):
            return deferLater(reactor, 0)

        def test_writes(self):
            Path("written").write_text(str(os.getpid()))
"""

BROKEN = "import nothing_of_this_name"

DYING = """
    import os
    from twisted.trial.unittest import SynchronousTestCase

    class DyingTests(SynchronousTestCase):
        def test_a_passes(self):
            pass

        def test_b_dies(self):
            {deed}
"""

# It meets its like: neither gets on before both are there.
MEETING = """
    import os
    from pathlib import Path
    from twisted.trial.unittest import SynchronousTestCase

    class MeetingTests(SynchronousTestCase):
        def test_meets(self):
            os.close(os.open({fifo!r}, {flag}))
            Path("mine").touch(exist_ok=False)
            print(f"\\nmet in {{os.getcwd()}}")
"""

# Whoever reads the FIFO sees its end once neither test nor child is left.
STAYING = """
    import os, signal, subprocess
    from twisted.trial.unittest import SynchronousTestCase

    class StayingTests(SynchronousTestCase):
        def test_stays(self):
            out = os.open({fifo!r}, os.O_WRONLY)
            subprocess.Popen(["sleep", "1000"], pass_fds=[out])
            os.write(out, b"here\\n")
            signal.pause()
"""


class Suite:
    """
    A folder with tests, and the means to run them.

    :param sources: The test modules by name, without ``test_``.
    :ivar folder: What stands in for the checkout.
    """

    def __init__(self, folder: Path, **sources: str) -> None:
        self.folder = folder
        self._tests = folder / "tests"
        self._tests.mkdir(parents=True)
        for name in ("__main__.py", "workers.py"):
            shutil.copy(HERE / name, self._tests)
        (self._tests / "__init__.py").touch()
        for name, source in sources.items():
            (self._tests / f"test_{name}.py").write_text(dedent(source))

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a run."""
        return subprocess.Popen(
            [sys.executable, str(self._tests), *arguments],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, list[str]]:
        """Run to the end; return the exit status and the lines of the report."""
        return report(self.begin(*arguments))


def report(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Await the end of a run; return the exit status and the lines of the report."""
    with process:
        out, err = process.communicate(timeout=60)
    assert not err, err
    return process.returncode, out.splitlines()


class RunTests(SynchronousTestCase):
    """``python tests``."""

    def suite(self, **sources: str) -> Suite:
        """Make a suite."""
        return Suite(Path(self.mktemp()).absolute(), **sources)

    def fifo(self) -> str:
        """Make a pipe with a name."""
        path = str(Path(self.mktemp()).absolute())
        os.mkfifo(path)
        return path

    def test_everything_is_counted_alike(self) -> None:
        """
        A test fails once, whatever it leaves; what cannot be imported fails; several
        processes say the same as one, reasons and tracebacks included. With ``-v`` the
        tests of one module stand together.
        """
        suite = self.suite(mixed=MIXED, good=GOOD, broken=BROKEN)
        reports = []
        for process in [suite.begin("-v", jobs) for jobs in ("-j1", "-j2")]:
            status, lines = report(process)
            self.assertEqual(status, 1)
            self.assertEqual(lines[-1], "trial: 3 passed, 6 failed, 2 skipped")
            self.assertIn("said by a test", lines)
            at = [number for number, line in enumerate(lines) if line.lstrip() == "GoodTests"]
            both = [line.split() for line in lines[at[0] + 1 : at[0] + 3]]
            self.assertEqual(both, [["test_waits", "...", "[OK]"], ["test_writes", "...", "[OK]"]])
            told = "\n".join(lines[lines.index("[SKIPPED]") : -1])
            for text in ("there is no moon", "in another cleanup", "OSError: two", "'lost'"):
                self.assertIn(text, told)
            self.assertIn("No module named 'nothing_of_this_name'", told)
            reports.append(told)
        # The order of modules differs, and how a module is loaded shows when that fails.
        one, several = (
            sorted(each for each in re.split("=+\n|-+\n", told) if "test_mixed" in each)
            for told in reports
        )
        self.assertEqual(one, several)
        self.assertEqual(len(one), 10)

    def test_they_run_at_the_same_time(self) -> None:
        """Two modules do, each in a temporary directory of its own; if all pass, that is 0."""
        fifo = self.fifo()
        one, other = (
            MEETING.format(fifo=fifo, flag=f"os.O_{each}") for each in ("RDONLY", "WRONLY")
        )
        status, lines = self.suite(one=one, other=other).run("-j2")
        self.assertEqual((status, lines[-1]), (0, "trial: 2 passed, 0 failed, 0 skipped"))
        self.assertEqual(len({line for line in lines if line.startswith("met in ")}), 2)

    def test_nothing_is_no_success(self) -> None:
        """A run without tests, or with none that was not skipped, has failed."""
        skipped = dedent(GOOD) + "GoodTests.skip = 'not today'\n"
        begun = [self.suite(**each).begin("-j2") for each in ({}, {"good": skipped})]
        told = [(status, lines[-1]) for status, lines in map(report, begun)]
        counts = [(1, f"trial: 0 passed, 0 failed, {number} skipped") for number in (0, 2)]
        self.assertEqual(told, counts)

    def test_a_worker_that_dies(self) -> None:
        """The test it was at has failed, and the other modules are run all the same."""
        deeds = {
            "killed": ("os.kill(os.getpid(), 9)", "ended with SIGKILL"),
            "left": ("os._exit(0)", "ended with exit status 0"),
        }
        dying = {name: DYING.format(deed=deed) for name, (deed, _) in deeds.items()}
        status, lines = self.suite(**dying, z_good=GOOD).run("-j2")
        self.assertEqual((status, lines[-1]), (1, "trial: 4 passed, 2 failed, 0 skipped"))
        for name, (_, how) in deeds.items():
            at = lines.index(f"tests.test_{name}.DyingTests.test_b_dies")
            self.assertIn(how, lines[at - 3])

    def test_a_worker_that_dies_after_its_tests(self) -> None:
        """It has failed, though no test has."""
        late = dedent(GOOD) + "import atexit; atexit.register(os._exit, 3)\n"
        status, lines = self.suite(good=late).run("-j2")
        self.assertEqual((status, lines[-1]), (1, "trial: 2 passed, 1 failed, 0 skipped"))

    def test_named_tests(self) -> None:
        """Only these are run, and in the process itself."""
        suite = self.suite(good=GOOD, mixed=MIXED)
        process = suite.begin("tests.test_good.GoodTests.test_writes")
        out, _ = process.communicate(timeout=60)
        self.assertEqual(out.splitlines()[-1], "trial: 1 passed, 0 failed, 0 skipped")
        written = (suite.folder / "_trial_temp" / "written").read_text()
        self.assertEqual(int(written), process.pid)

    def test_nobody_is_left(self) -> None:
        """Whatever signal ends a run, its workers end too, and what their tests started."""
        begun = []
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
            fifo = self.fifo()
            suite = self.suite(staying=STAYING.format(fifo=fifo))
            begun.append((number, status, fifo, suite.begin("-j2")))
            self.addCleanup(begun[-1][-1].kill)
        for number, status, fifo, process in begun:
            with process, open(fifo) as held:
                self.assertEqual(held.readline(), "here\n")
                process.send_signal(number)
                self.assertEqual(held.read(), "")
                out, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, status)
            self.assertNotIn("passed", out)
            if status > 0:
                self.assertIn("tests.test_staying.StayingTests.test_stays", err)
