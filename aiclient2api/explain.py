"""
``aiclient2api explain``: tell why a request went where it went, from the state file.

It reads what `observe.traces` has kept, also while a gateway runs on the same file. It
must never change that file, nor make one that is not there.
"""

from __future__ import annotations

import getopt
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from twisted.python import usage

from aiclient2api import __version__
from aiclient2api.errors import ConfigurationError
from aiclient2api.observe import usage as rows
from aiclient2api.observe.story import as_json, shown, story, table
from aiclient2api.observe.traces import NAMESPACE, OWNER, Trace, read
from aiclient2api.options import Options, print_faults
from aiclient2api.state import database
from aiclient2api.state.shelf import Name
from aiclient2api.state.sqlite import FILE

T = TypeVar("T")

SHORTEST = 6
"""Characters that a shortened id must have."""
MATCHES = 5
"""So many ids are named where a shortened one may mean several."""
PATIENCE = 5.0
"""Seconds to wait for a gateway to let go of the file."""


class _Untold(Exception):
    """There is nothing to tell; the message says why, and what to do."""


class _Options(Options):
    """What ``run`` takes, so that the same state directory is found, and a little more."""

    synopsis = (
        "Usage: aiclient2api explain REQUEST-ID [options]\n"
        "       aiclient2api explain --last N [options]"
    )
    longdesc = (
        "Tell which accounts were considered for a request, why each was skipped or chosen, and "
        "what each attempt returned. REQUEST-ID is what the answer's header "
        f"x-aiclient2api-request-id says, or its first {SHORTEST} characters or more. The state "
        "directory is found as run finds it: give the same --config, or --state-dir. Of the "
        "other options none has an effect."
    )
    optFlags = [["json", None, "as JSON, one exchange a line"]]
    optParameters = [["last", None, None, "list the last so many exchanges, one a line"]]

    def parse(self, arguments: Sequence[str]) -> None:
        """
        Parse the command line; other than in ``run``, an option may follow the id.

        :raise UsageError: if it makes no sense.
        """
        try:
            given, rest = getopt.gnu_getopt(list(arguments), self.shortOpt, self.longOpt)
        except getopt.GetoptError as error:
            raise usage.UsageError(str(error)) from None
        takes = {name.removesuffix("=") for name in self.longOpt if name.endswith("=")}
        words = [f"{name}={value}" if name[2:] in takes else name for name, value in given]
        self.parseOptions([*words, "--", *rest])  # type: ignore[no-untyped-call]

    def parseArgs(self, id: str = "") -> None:
        """Take the id, if there is one."""
        self.id = id.strip()
        if (self["last"] is None) == (not self.id):
            raise usage.UsageError("give a request id, or --last and a number")
        if self["last"] is not None and not (self["last"].isdecimal() and int(self["last"])):
            raise usage.UsageError("--last takes a number of exchanges, such as 20")

    def postOptions(self) -> None:
        """Leave the configuration alone until it is needed."""


def explain(arguments: Sequence[str]) -> int:
    """
    Run the command.

    :param arguments: Those after ``explain``.
    :return: The exit status: 0 well, 1 nothing to tell, 2 bad usage.
    """
    options = _Options()
    if "-h" in arguments or "--help" in arguments:
        print(options)
        return 0
    if "--version" in arguments:
        print(f"aiclient2api {__version__}")
        return 0
    try:
        options.parse(arguments)
    except usage.UsageError as error:
        print(f"aiclient2api explain: {error}; see aiclient2api explain --help", file=sys.stderr)
        return 2
    try:
        path = _state_dir(options) / FILE
        row = None
        if options.id:
            found = [_one(path, options.id)]
            row = _booked(path, *found[0])
        else:
            found = _latest(path, int(options["last"]))
    except ConfigurationError as error:
        print_faults(error)
        return 1
    except _Untold as untold:
        print(f"aiclient2api: {untold}", file=sys.stderr)
        return 1
    if options["json"]:
        _print(as_json(id, trace, row) for id, trace in found)
    elif options.id:
        _print(story(*found[0], booked=row))
    else:
        _print(table(found))
    return 0


def _state_dir(options: Options) -> Path:
    try:
        return options.load().state_dir
    except ConfigurationError:
        # Whoever edits the configuration may want to know what it came to before.
        if not options["state-dir"]:
            raise
        return Path(os.path.abspath(options.cwd / os.path.expanduser(options["state-dir"])))


def _print(lines: Iterator[str]) -> None:
    # A terminal may lack a letter; that is no reason to tell nothing.
    encoding = sys.stdout.encoding or "utf-8"
    print("\n".join(lines).encode(encoding, "backslashreplace").decode(encoding))


# --- what is in the file ----------------------------------------------------------


def _asked(path: Path, question: Callable[[sqlite3.Cursor], T]) -> T:
    """Ask the file."""
    try:
        try:
            return _answer(path, question)
        except sqlite3.Error:
            # A gateway that starts or stops at this very moment changes what is being read.
            return _answer(path, question)
    except FileNotFoundError:
        raise _Untold(
            f"there is no {path}, so nothing is known of any request; name the directory that "
            "the gateway keeps its state in with --state-dir, or its configuration with --config"
        ) from None
    except PermissionError:
        raise _Untold(
            f"{path} may not be read; run this as the user that the gateway runs as"
        ) from None
    except (OSError, database.NotOurs, sqlite3.Error) as error:
        raise _Untold(
            f"{path} cannot be read ({error}); the gateway's log may tell more"
        ) from error


def _answer(path: Path, question: Callable[[sqlite3.Cursor], T]) -> T:
    connection = database.connect_to_read(path, PATIENCE)
    try:
        return question(connection.cursor())
    finally:
        connection.close()


def _one(path: Path, beginning: str) -> tuple[str, Trace]:
    """Return the exchange whose id is that, or begins so."""
    now = time.time()

    def look(cursor: sqlite3.Cursor) -> tuple[list[str], bytes | None]:
        value = database.read(cursor, Name(NAMESPACE, OWNER, beginning), now)
        if value is not None:
            return [beginning], value
        if len(beginning) < SHORTEST:
            return [], None
        ids = database.keys(cursor, NAMESPACE, OWNER, beginning, MATCHES + 1, now)
        if len(ids) != 1:
            return ids, None
        return ids, database.read(cursor, Name(NAMESPACE, OWNER, ids[0]), now)

    ids, value = _asked(path, look)
    asked = shown(beginning)
    if not ids and len(beginning) < SHORTEST:
        raise _Untold(f"{asked} is too short; give at least {SHORTEST} characters of the id")
    if not ids:
        raise _Untold(
            f"nothing is known in {path} of a request {asked}; it may be too long ago, never have "
            "reached an account, or be under way still"
        )
    if len(ids) > 1:
        named = ", ".join(map(shown, ids[:MATCHES])) + (", ..." if len(ids) > MATCHES else "")
        raise _Untold(f"{asked} may mean {named}; give more characters of the id")
    trace = None if value is None else read(value)
    if trace is None:
        raise _Untold(
            f"what {path} has of {shown(ids[0])} cannot be read; another version of aiclient2api "
            "wrote it, or the file is damaged"
        )
    return ids[0], trace


def _booked(path: Path, id: str, trace: Trace) -> rows.Row | None:
    """Return what was booked for an exchange, if its trace tells of no tokens."""
    if trace.usage is not None:
        return None
    name = Name(rows.NAMESPACE, trace.caller, id)
    value = _asked(path, lambda cursor: database.read(cursor, name, time.time()))
    return None if value is None else rows.read(value)


def _latest(path: Path, most: int) -> list[tuple[str, Trace]]:
    """Return the last exchanges, the youngest last."""
    values = _asked(
        path, lambda cursor: database.latest(cursor, NAMESPACE, OWNER, most, time.time())
    )
    found = [(id, trace) for id, value in values if (trace := read(value)) is not None]
    if not found:
        raise _Untold(f"no request is known in {path}; none may have been answered yet")
    return found
