"""
Run the tests, and say in one closing line how many passed, failed and were skipped.

``python tests`` (what ``bin/test`` does) tests the *installed* package: the checkout
comes last on the path and lends only the tests. ``python -m tests`` tests the checkout.
This file knows nothing of any single test.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

if not __package__:
    sys.path[0:1] = []
    sys.path.append(str(ROOT))

from twisted.trial.reporter import TextReporter, TreeReporter  # noqa: E402
from twisted.trial.runner import TestLoader, TrialRunner  # noqa: E402

from tests import workers  # noqa: E402

TEMPORARY = ROOT / "_trial_temp"
WORKER = "--worker"


class _Counting:
    """
    Close the report with ``trial: N passed, N failed, N skipped``.

    A test fails once, however many errors it leaves. An error outside a test and an
    unexpected success are failures; an expected failure proves nothing and is a skip.
    """

    failures: list[Any]
    errors: list[Any]
    unexpectedSuccesses: list[Any]
    expectedFailures: list[Any]
    skips: list[Any]
    successes: int

    def failed(self) -> int:
        """Return how many tests failed."""
        bad = [*self.failures, *self.errors, *self.unexpectedSuccesses]
        return len({each[0].id() for each in bad})

    def wasSuccessful(self) -> bool:
        """Say whether something passed and nothing failed."""
        return self.successes > 0 and self.failed() == 0

    def done(self) -> None:
        """Write the report, then the closing line."""
        super().done()  # type: ignore[misc]
        skipped = len(self.skips) + len(self.expectedFailures)
        sys.stdout.write(
            f"trial: {self.successes} passed, {self.failed()} failed, {skipped} skipped\n"
        )
        sys.stdout.flush()


class BriefReporter(_Counting, TextReporter):
    """One letter per test."""


class LongReporter(_Counting, TreeReporter):
    """One line per test."""


def main(arguments: list[str]) -> int:
    """
    Run the tests named, all of them if none is.

    :param arguments: Dotted names, such as ``tests.test_layers``; ``-v`` for a line per
        test; ``-jN`` for so many processes, by default one for tests that are named and
        at most two for all.
    :return: The exit status: 0 only if at least one test passed and none failed.
    """
    if arguments[:1] == [WORKER]:
        return workers.serve(int(arguments[1]), TEMPORARY)
    parser = argparse.ArgumentParser("tests", description="Run the tests.")
    parser.add_argument("-v", action="store_true", dest="verbose", help="a line per test")
    parser.add_argument("-j", type=int, dest="jobs", metavar="N", help="how many processes")
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as tests.test_layers")
    told = parser.parse_intermixed_args(arguments)
    if told.jobs is not None and told.jobs < 1:
        parser.error("-jN: there must be at least one process")
    jobs = told.jobs or (1 if told.names else min(2, os.cpu_count() or 1))
    names = told.names or ["tests"]
    kind = LongReporter if told.verbose else BriefReporter
    if jobs == 1:
        runner = TrialRunner(kind, workingDirectory=str(TEMPORARY))
        result = runner.run(TestLoader().loadByNames(names, recurse=True))
        return 0 if result.wasSuccessful() else 1
    reporter = kind(sys.stdout)
    # A worker is started as we were, with the same options of Python.
    ours = sys.orig_argv[1 : len(sys.orig_argv) - len(arguments)]
    try:
        workers.run(names, jobs=jobs, reporter=reporter, command=[sys.executable, *ours, WORKER])
    except workers.Stopped as stopped:
        return stopped.status
    return 0 if reporter.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
