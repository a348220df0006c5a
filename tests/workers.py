"""
Run test modules in several processes, and tell one reporter what became of each test.

Trial's own ``--jobs`` keeps what tests print, lets a worker that died fail whatever is
left, and runs each test in a suite of its own. Here a worker is an ordinary trial that
asks for one module after the other, so that nothing is shared but the machine: each
worker has a temporary directory, a log, and a process group of its own.

A worker reads the names of modules from its standard input, one a line, an empty one if
there are no more. If its input ends otherwise, whoever started it is gone, and it goes
too, with every process of its tests. It answers with lines of JSON::

    ["start", id]                            a test has begun
    ["test", id, [[word, id, text…], …]]     it has ended
    ["module", "", [[word, id, text…], …]]   the module is done
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from twisted.python.failure import Failure
from twisted.python.modules import PythonModule, getModule
from twisted.trial.itrial import ITestCase
from twisted.trial.reporter import Reporter
from twisted.trial.runner import TestHolder, TestLoader, TrialRunner
from twisted.trial.unittest import Todo, decorate

Outcome = Sequence[str]
"""What is told of a test: the reporter's word for it, the test's id, and some texts."""

_SLOW = (b"subprocess", b"hypothesis", b"every_byte", b"tests.live", b"LiveGateway")
"""What the sources of slow modules name: processes, many cases, sockets."""


def modules(names: Iterable[str]) -> list[str]:
    """
    Return what to hand out: each test module of the packages named, and all other names.

    What is slow comes first, so that no worker begins with it when the others are done.
    """
    found: list[str] = []
    slow: set[str] = set()
    for name in names:
        try:
            package = getModule(name)
        except KeyError:
            package = None
        if package is None or not package.isPackage():
            found.append(name)
            continue
        for module in package.walkModules():
            if module.name.rpartition(".")[2].startswith(TestLoader.modulePrefix):
                found.append(module.name)
                if _is_slow(module):
                    slow.add(module.name)
    return sorted(dict.fromkeys(found), key=lambda name: name not in slow)


def _is_slow(module: PythonModule) -> bool:
    source = Path(module.filePath.path).read_bytes()
    return any(word in source for word in _SLOW)


# --- whoever hands out -----------------------------------------------------------


class Stopped(BaseException):
    """
    Somebody wants an end, by a signal.

    :ivar status: The exit status that says so.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = 128 + number


def run(names: Sequence[str], *, jobs: int, reporter: Any, command: Sequence[str]) -> None:
    """
    Run what is named, and close the report.

    Nobody is left behind, whatever ends this.

    :param names: Packages, modules, classes or methods.
    :param jobs: How many workers there may be.
    :param command: What starts a worker, once the number of a file descriptor is added.
    :raise Stopped: if a signal came.
    """
    left = modules(names)[::-1]
    # The reporter's clock would start with the first module's end.
    reporter._startTime = time.time()
    workers: list[_Worker] = []
    try:
        with selectors.DefaultSelector() as waiting, _stopping():
            while left or workers:
                while left and len(workers) < jobs:
                    worker = _Worker(command, reporter)
                    workers.append(worker)
                    waiting.register(worker.answers, selectors.EVENT_READ, worker)
                    worker.give(left.pop())
                for key, _ in waiting.select():
                    worker = key.data
                    if not worker.listen():
                        waiting.unregister(worker.answers)
                        worker.bury()
                        workers.remove(worker)
                    elif not worker.module and not worker.dismissed:
                        worker.give(left.pop() if left else "")
    except Stopped as stopped:
        running = [worker.test or worker.module for worker in workers]
        print(f"\ntrial: {stopped} during {', '.join(running)}", file=sys.stderr)
        raise
    finally:
        for worker in workers:
            worker.kill()
    reporter.done()


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """Turn the signals that end a process into `Stopped`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class _Worker:
    """
    One worker, seen from outside.

    :ivar answers: Where its answers come in.
    :ivar module: What it is at; empty if it has nothing to do.
    :ivar test: The test it is at, if any.
    :ivar dismissed: True once it was told that there is no more.
    """

    def __init__(self, command: Sequence[str], reporter: Any) -> None:
        self.module = self.test = ""
        self.dismissed = False
        self._reporter = reporter
        self._ended: list[tuple[str, list[Outcome]]] = []
        self._rest = b""
        ours, theirs = os.pipe()
        self.answers = io.FileIO(ours)
        try:
            # Apart from the terminal: what the keyboard sends goes to us alone, and who kills
            # the process group has all that its tests started.
            self._process = subprocess.Popen(
                [*command, str(theirs)],
                bufsize=0,
                stdin=subprocess.PIPE,
                pass_fds=[theirs],
                start_new_session=True,
            )
        finally:
            os.close(theirs)

    def give(self, module: str) -> None:
        """Let it run a module, or dismiss it if there is none."""
        self.module, self.dismissed = module, not module
        assert self._process.stdin is not None
        # If it is dead, its answers end; then it is seen to.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{module}\n".encode())

    def listen(self) -> bool:
        """Take in what it says now; return False if that was the last."""
        piece = self.answers.read(65536)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            what, name, *more = json.loads(line)
            if what == "start":
                self.test = name
                continue
            self.test = ""
            self._ended.append((name, *more))
            if what == "module":
                self.module = ""
                self._report()
        return bool(piece)

    def bury(self) -> None:
        """Report how it ended, if that was not in order."""
        status = self._process.wait()
        self.kill()
        if self.module or not self.dismissed or status:
            how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            text = f"The process that ran this ended with {how}.\n"
            if self.module:
                text += f"Whatever else {self.module} holds was not run.\n"
            where = self.test or self.module or "<worker>"
            self._ended.append((where, [("addError", where, text)]))
        self._report()

    def kill(self) -> None:
        """Let nothing of it be left; safe to call twice."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self.answers.close()

    def _report(self) -> None:
        """Pass on what is known: a module at a time, or workers would talk at once."""
        ended, self._ended = self._ended, []
        for name, outcomes in ended:
            test = TestHolder(name)
            if name:
                self._reporter.startTest(test)
            for word, id, *texts in outcomes:
                whose = test if id == name else TestHolder(id)
                given = (make(text) for make, text in zip(_MADE_OF[word], texts, strict=True))
                getattr(self._reporter, word)(whose, *given)
            if name:
                self._reporter.stopTest(test)


class _Told(Failure):
    """A failure of another process, of which only the text is known."""

    def __init__(self, text: str) -> None:
        super().__init__(AssertionError(text))
        self._text = text

    def getTraceback(self, *args: Any, **kwargs: Any) -> str:
        return self._text


_MADE_OF: dict[str, tuple[Callable[[str], object], ...]] = {
    "addSuccess": (),
    "addSkip": (str,),
    "addExpectedFailure": (_Told, Todo),
    "addFailure": (_Told,),
    "addError": (_Told,),
    "addUnexpectedSuccess": (Todo,),
}
"""By the reporter's word: what its arguments after the test are made of."""


# --- a worker ----------------------------------------------------------------------


def serve(answers: int, folder: Path) -> int:
    """
    Be a worker.

    :param answers: The file descriptor to answer on.
    :param folder: Trial's temporary directory; if it is taken, one with a number is used.
    :return: The exit status.
    """
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    # Nobody whom a test starts inherits what is ours.
    os.set_inheritable(answers, False)
    source = io.FileIO(os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_take, args=(source, tasks), daemon=True).start()
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)
    with open(answers, "w", encoding="utf-8") as out:

        def make(*args: Any) -> _Teller:
            return _Teller(out, *args)

        TrialRunner(make, workingDirectory=str(folder)).run(_Tasks(tasks))
    return 0


def _take(source: io.FileIO, tasks: queue.SimpleQueue[str]) -> None:
    """Take in tasks, also while a test runs: if whoever gives them is gone, so are we."""
    for line in source:
        tasks.put(line.decode().strip())
    os.killpg(0, signal.SIGKILL)


class _Tasks(unittest.TestSuite):
    """Whatever tests we are told to run."""

    def __init__(self, tasks: queue.SimpleQueue[str]) -> None:
        super().__init__()
        self._names = tasks

    def run(self, result: Any, debug: bool = False) -> Any:
        """Run one module after the other until there are no more."""
        while name := self._names.get():
            suite = TestLoader().loadByNames([name], recurse=True)
            decorate(suite, ITestCase).run(result)
            result.tell("module")
        return result


class _Teller(Reporter):
    """Trial's reporter in a worker: it tells each outcome, and prints only warnings."""

    def __init__(self, out: TextIO, *args: Any) -> None:
        super().__init__(*args)
        self._out = out
        self._passed: list[Any] = []

    def tell(self, what: str, name: str = "") -> None:
        """Tell what came of a test, or of a module outside its tests."""
        self._write_line(
            what, name, [(word, test.id(), *texts) for word, test, *texts in self._new()]
        )

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._write_line("start", test.id())

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        self.tell("test", test.id())

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self._passed.append(test)

    def done(self) -> None:
        """Tell what happened after the last module; whoever gave it prints the report."""
        self.tell("module")

    def _write_line(self, *told: object) -> None:
        self._out.write(json.dumps(told) + "\n")
        self._out.flush()

    def _new(self) -> Iterator[tuple[Any, ...]]:
        """Yield what was not told yet, whichever way it came to be known."""
        text = self._formatFailureTraceback
        unexpected: list[Any] = self.unexpectedSuccesses
        yield from (("addSuccess", test) for test in self._passed)
        yield from (("addSkip", test, str(why)) for test, why in self.skips)
        for test, error, todo in self.expectedFailures:
            yield "addExpectedFailure", test, text(error), todo.reason
        yield from (("addFailure", test, text(error)) for test, error in self.failures)
        yield from (("addError", test, text(error)) for test, error in self.errors)
        yield from (("addUnexpectedSuccess", test, todo.reason) for test, todo in unexpected)
        for told in (
            self._passed,
            self.skips,
            self.expectedFailures,
            self.failures,
            self.errors,
            unexpected,
        ):
            told.clear()
