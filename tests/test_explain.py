"""Why a request went where it went, in words, from the file of a gateway that may be running."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.explain import explain
from aiclient2api.observe.traces import Traces
from aiclient2api.observe.usage import UsageBook
from aiclient2api.state import database
from aiclient2api.state.memory import MemoryStore
from aiclient2api.state.shelf import Entry, Name
from aiclient2api.values import ExchangeRecord, Outcome, Spent, Step, Usage

ROOT = Path(__file__).resolve().parent.parent
ID = "4f2c91d07a6b4c1f9d3e5a7b8c9d0e1f"
FAILED = Outcome(
    "failed",
    1.5,
    usage=Usage(input=1),
    error=UpstreamError("Slow down.", fault=Fault.RATE_LIMIT, status=429),
)


@attrs.frozen
class Asked:
    """As much of a request as is looked at."""

    dialect: str = "openai-chat"
    model: str = "gpt-5"
    action: str = "generate"


class ExplainTests(SynchronousTestCase):
    """``aiclient2api explain``, as a person types it."""

    def setUp(self) -> None:
        """Work in an empty directory, with a state directory of three exchanges in it."""
        self.folder = Path(self.mktemp()).absolute()
        self.state = self.folder / "state"
        self.patch(os, "environ", {"HOME": str(self.folder)})
        self.out, self.err = io.StringIO(), io.StringIO()
        self.keep(ID, "4f2c91ff", "77")

    def keep(self, *ids: str) -> None:
        """Put an exchange into the file for each of *ids*, as the gateway does."""
        for id in ids:
            self.write(id, self.written(id))

    def written(self, id: str, outcome: Outcome = FAILED, *, row: bool = False) -> bytes:
        """Return what the gateway puts into its store: a trace, or a row."""
        store = MemoryStore(clock=None, now=time.time)
        keeper = (UsageBook if row else Traces)(store, now=time.time)
        keeper.ended(
            exchange=ExchangeRecord(
                id=id,
                caller="key-1",
                request=Asked(),
                provider="openai-custom",
                model=f"gpt-{id[-1]}",
                began=0.0,
                account="a1",
                attempts=1,
                steps=[Step(at=0.0, what="chosen", provider="openai-custom", account="a1")],
            ),
            outcome=outcome,
        )
        namespace, owner = ("usage", "key-1") if row else ("traces", "")
        value = self.successResultOf(store.get(namespace=namespace, owner=owner, key=id))
        assert value is not None
        return value

    def write(self, id: str, value: bytes, namespace: str = "traces", owner: str = "") -> None:
        """Write a value to the file."""
        connection = database.connect(self.state / "state.sqlite3", 1.0)
        entry = Entry.of(Name(namespace, owner, id), value, time.time() + 1000)
        database.write(connection.cursor(), [entry], {namespace: 10_000_000}, time.time())
        connection.close()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Be in the directory and keep what is printed."""
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(self.out),
            contextlib.redirect_stderr(self.err),
        ):
            yield

    def run_command(self, *arguments: str) -> int:
        """Run the command; return its exit status."""
        for stream in (self.out, self.err):
            stream.seek(0)
            stream.truncate()
        with self.inside():
            return explain(arguments)

    def here(self, *arguments: str) -> int:
        """Run the command on the state directory."""
        return self.run_command(*arguments, "--state-dir", str(self.state))

    def untold(self, *arguments: str) -> str:
        """Run the command, which must not find anything; return what it says."""
        self.assertEqual(self.here(*arguments), 1)
        self.assertEqual(self.out.getvalue(), "")
        return self.err.getvalue()

    def on_disk(self) -> dict[str, bytes]:
        """Return every file in the state directory."""
        return {each.name: each.read_bytes() for each in self.state.iterdir()}

    def test_a_request(self) -> None:
        """By its id, and nothing on the disk is another afterwards."""
        before = self.on_disk()
        self.assertEqual(self.here(ID), 0)
        out = self.out.getvalue()
        self.assertIn(f"Request {ID}\n", out)
        self.assertIn("error       UpstreamError rate_limit 429: Slow down.\n", out)
        self.assertIn("  +0.000 s  chosen  openai-custom  account a1\n", out)
        self.assertEqual(self.err.getvalue(), "")
        self.assertEqual(self.on_disk(), before)

    def test_a_short_id(self) -> None:
        """The first six characters or more will do, if they mean one."""
        self.assertEqual(self.here("4f2c91d"), 0)
        self.assertIn(f"Request {ID}\n", self.out.getvalue())
        self.assertEqual(self.here(f" {ID[:20]}\n"), 0)
        self.assertEqual(self.here("77"), 0, "an id is an id, however short")

    def test_an_id_that_may_mean_several(self) -> None:
        """They are named; none is chosen."""
        told = self.untold("4f2c91")
        self.assertIn(f"4f2c91 may mean {ID}, 4f2c91ff; give more", told)
        self.keep(*(f"aaaaaaa{number}" for number in range(9)))
        told = self.untold("aaaaaaa")
        self.assertIn("aaaaaaa4, ...; give more", told)
        self.assertNotIn("aaaaaaa5", told)

    def test_tokens_that_were_estimated(self) -> None:
        """Where the upstream told of none, what was booked is shown; else it is not."""
        spent = Spent(Usage(input=40, output=7), estimated=True)
        left = Outcome("cancelled", 1.5, spent=spent)
        self.write("left-1", self.written("left-1", left))
        self.assertEqual(self.here("left-1"), 0)
        self.assertNotIn("usage", self.out.getvalue())
        for id in ("left-1", ID):
            self.write(id, self.written(id, left, row=True), "usage", "key-1")
        self.assertEqual(self.here("left-1"), 0)
        self.assertIn("  usage       input 40, output 7 (estimated)\n", self.out.getvalue())
        self.assertEqual(self.here("left-1", "--json"), 0)
        told = json.loads(self.out.getvalue())
        self.assertIsNone(told["usage"])
        self.assertEqual(told["booked"]["output"], 7)
        self.assertIs(told["booked"]["estimated"], True)
        self.assertEqual(self.here(ID), 0)
        self.assertIn("  usage       input 1\n", self.out.getvalue())

    def test_an_id_that_is_too_short(self) -> None:
        """The sentence says how long it has to be."""
        self.assertIn("4f2c9 is too short; give at least 6", self.untold("4f2c9"))

    def test_an_id_that_nobody_knows(self) -> None:
        """The sentence names the file, and what may be the reason."""
        told = self.untold("5f2c91")
        self.assertIn(f"nothing is known in {self.state / 'state.sqlite3'} of a request 5f2", told)

    def test_one_that_has_expired(self) -> None:
        """It is unknown, though it may stand in the file for a minute yet."""
        later = time.time() + 2000
        self.patch(time, "time", lambda: later)
        self.assertIn("nothing is known", self.untold(ID))
        self.assertIn("no request is known", self.untold("--last", "9"))

    def test_one_that_cannot_be_read(self) -> None:
        """It is said to be there; among the last it is left out."""
        self.write("88888888", b"\x91\xa12")
        self.assertIn("another version", self.untold("88888888"))
        self.assertEqual(self.here("--last", "9"), 0)
        self.assertEqual(len(self.out.getvalue().splitlines()), 3)

    def test_the_last(self) -> None:
        """A line each, the youngest last, no more than asked for."""
        self.assertEqual(self.here("--last", "2"), 0)
        first, second = self.out.getvalue().splitlines()
        self.assertIn("  4f2c91ff  gpt-f  openai-custom  a1  failed  1.500 s", first)
        self.assertIn("  77        gpt-7  openai-custom  a1  failed  1.500 s", second)
        self.assertEqual(self.here("--last=999"), 0)
        self.assertEqual(len(self.out.getvalue().splitlines()), 3)

    def test_for_programs(self) -> None:
        """One object a line."""
        self.assertEqual(self.here(ID, "--json"), 0)
        self.assertEqual(json.loads(self.out.getvalue())["error"]["fault"], "rate_limit")
        self.assertEqual(self.here("--json", "--last", "9"), 0)
        ids = [json.loads(line)["id"] for line in self.out.getvalue().splitlines()]
        self.assertEqual(ids, [ID, "4f2c91ff", "77"])

    def test_the_state_directory_is_found_as_run_finds_it(self) -> None:
        """By the configuration, wherever the option stands; else where it is by default."""
        (self.folder / "my.json").write_text(json.dumps({"state_dir": "state"}))
        self.assertEqual(self.run_command("--config", "my.json", ID), 0)
        self.assertEqual(self.run_command(ID, "--config", "my.json"), 0)
        self.patch(os, "getuid", lambda: 1000)
        self.assertEqual(self.run_command(ID), 1)
        default = self.folder / ".local/state/aiclient2api/state.sqlite3"
        self.assertIn(f"there is no {default}, so nothing is known", self.err.getvalue())
        self.assertFalse((self.folder / ".local").exists())

    def test_a_faulty_configuration(self) -> None:
        """Its faults are told, unless the state directory is named: then they don't matter."""
        (self.folder / "my.json").write_text("{")
        self.assertEqual(self.run_command(ID, "--config", "my.json"), 1)
        self.assertIn("my.json", self.err.getvalue())
        self.assertEqual(self.here(ID, "--config", "my.json"), 0)
        self.assertEqual(self.run_command(ID, "--config", "my.json", "--state-dir", "state"), 0)

    def test_a_damaged_file(self) -> None:
        """It is left as it is."""
        (self.state / "state.sqlite3").write_bytes(b"This is no database. " * 1000)
        before = self.on_disk()
        self.assertIn("cannot be read (file is not a database)", self.untold(ID))
        self.assertEqual(self.on_disk(), before)

    def test_a_gateway_that_starts_at_this_moment(self) -> None:
        """What was changed while it was read is read again, once."""
        answers: list[Exception] = [self.damage()]
        opened = database.connect_to_read

        def connect(path: Path, patience: float) -> sqlite3.Connection:
            if answers:
                raise answers.pop()
            return opened(path, patience)

        self.patch(database, "connect_to_read", connect)
        self.assertEqual(self.here(ID), 0)
        answers[:] = [self.damage(), self.damage()]
        self.assertIn("malformed", self.untold(ID))

    def damage(self) -> sqlite3.DatabaseError:
        """Return what SQLite says of a file that was changed."""
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        return error

    def test_a_file_that_may_not_be_read(self) -> None:
        """The sentence says as whom it may."""
        self.patch(os, "access", lambda *_: False)
        self.assertIn("may not be read; run this as the user", self.untold(ID))

    def test_help(self) -> None:
        """It tells of the id, and of the options."""
        for option in ("-h", "--help"):
            self.assertEqual(self.run_command(option), 0)
            for words in ("explain REQUEST-ID", "--last", "--json", "--state-dir", "--config"):
                self.assertIn(words, self.out.getvalue())
        self.assertEqual(self.run_command("--version"), 0)

    def test_bad_usage(self) -> None:
        """Nothing is looked for, and one line says what is wrong."""
        for arguments in (
            (),
            (" ",),
            (ID, "77"),
            (ID, "--last", "3"),
            ("--last", "0"),
            ("--last", "-1"),
            ("--last", "many"),
            ("--lost", "3"),
            ("--last",),
        ):
            self.assertEqual(self.run_command(*arguments), 2, arguments)
            (line,) = self.err.getvalue().splitlines()
            self.assertIn("see aiclient2api explain --help", line)

    def test_a_terminal_that_lacks_a_letter(self) -> None:
        """It is told all the rest."""
        self.keep("8888888é")
        raw = io.BytesIO()
        self.out = io.TextIOWrapper(raw, encoding="ascii")  # type: ignore[assignment]
        with self.inside():
            self.assertEqual(explain(["8888888", "--state-dir", str(self.state)]), 0)
        self.out.flush()
        self.assertIn(b"Request 8888888\\xe9\n", raw.getvalue())


WRITER = """
import sys
import time
from pathlib import Path
from twisted.internet import reactor
from aiclient2api.observe.traces import Traces
from aiclient2api.state.sqlite import SQLiteStore
from aiclient2api.values import ExchangeRecord, Outcome
from tests.test_explain import Asked

store = SQLiteStore(Path(sys.argv[1]), reactor=reactor, clock=reactor, now=time.time)
store.start()
traces = Traces(store, now=time.time)
record = ExchangeRecord(
    id=sys.argv[2], caller="c", request=Asked(), provider="p", model="m", began=0.0
)
traces.ended(exchange=record, outcome=Outcome("complete", 1.0))

def told():
    if len(store._unwritten):
        reactor.callLater(0.01, told)
    else:
        print("written", flush=True)

reactor.callWhenRunning(told)
reactor.run()
"""


class RunningTests(SynchronousTestCase):
    """A gateway that has the file open meanwhile."""

    def test_while_a_gateway_runs_and_after_it_was_killed(self) -> None:
        """What has just ended is told, and no file is made, changed or removed by it."""
        state = Path(self.mktemp()).absolute()
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "TZ": "UTC"}
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(state / "state.sqlite3"), ID],
            stdout=subprocess.PIPE,
            env=environ,
        )
        self.addCleanup(writer.wait)
        self.addCleanup(writer.kill)
        assert writer.stdout is not None
        self.addCleanup(writer.stdout.close)
        self.assertEqual(writer.stdout.readline(), b"written\n")
        names = ["state.sqlite3", "state.sqlite3-shm", "state.sqlite3-wal"]
        code = (
            "import sys; from aiclient2api.explain import explain; sys.exit(explain(sys.argv[1:]))"
        )
        for alive in (True, False):
            if not alive:
                writer.kill()
                writer.wait()
            before = {each.name: each.read_bytes() for each in sorted(state.iterdir())}
            self.assertEqual(list(before), names)
            done = subprocess.run(
                [sys.executable, "-c", code, ID[:8], "--state-dir", str(state)],
                capture_output=True,
                env=environ,
                timeout=60,
            )
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            self.assertIn(f"Request {ID}\n".encode(), done.stdout)
            self.assertRegex(
                done.stdout, rb"began +2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+00:00\n"
            )
            after = {each.name: each.read_bytes() for each in sorted(state.iterdir())}
            self.assertEqual(after, before)
