"""
Write the daemon's log to one file that is ours alone and that logrotate may move.

For ``twistd --logger aiclient2api.logfile.observer``. twistd's own log file would be
readable by everyone and rotate itself at 1 MB. This file knows nothing of the gateway.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import TextIO, cast

import attrs
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    textFileLogObserver,
)

VARIABLE = "AICLIENT2API_LOGFILE"
"""The environment variable that names the file."""

MODE = 0o600

levels = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
"""How much is logged; ``levels.setLogLevelForNamespace("", LogLevel.debug)`` changes it."""


def _open(path: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, MODE)


@attrs.define(eq=False)
class ReopenedFile:
    """
    A text file, written unbuffered and opened again whenever its path leads elsewhere.

    A reopened file keeps its descriptor, so that a signal may come in the middle of a
    write. Where the path cannot be opened again, writing goes on where it was.

    :param path: Absolute: twistd changes directory.
    :raise OSError: if the file cannot be opened the first time.
    """

    path: str
    _fd: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._fd = _open(self.path)

    def write(self, text: str) -> None:
        """Append *text*, which is a whole line."""
        if self._moved():
            self.reopen()
        os.write(self._fd, text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def reopen(self) -> None:
        """Open the path again, making the file if it isn't there."""
        try:
            fresh = _open(self.path)
        except OSError:
            return
        os.dup2(fresh, self._fd, inheritable=False)
        os.close(fresh)

    def close(self) -> None:
        """Close the file; it is of no use any more."""
        os.close(self._fd)

    def _moved(self) -> bool:
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return True
        return not os.path.samestat(there, os.fstat(self._fd))


def observer() -> ILogObserver:
    """
    Return a log observer for ``twistd --logger``.

    It appends to the file that `VARIABLE` names and opens it again on SIGUSR1; ``-`` is
    standard output, and without that variable it writes to standard error.

    :raise SystemExit: if the file cannot be opened; the message names it.
    """
    path = os.environ.get(VARIABLE, "")
    out: TextIO = sys.stdout if path == "-" else sys.stderr
    if path and path != "-":
        try:
            opened = ReopenedFile(os.path.abspath(path))
        except OSError as error:
            raise SystemExit(
                f"Cannot write the log {path}: {error.strerror}. Set {VARIABLE} to a file in a "
                "directory that this user may write to."
            ) from error

        def reopen(_signal: int, _frame: FrameType | None) -> None:
            opened.reopen()

        signal.signal(signal.SIGUSR1, reopen)
        out = cast(TextIO, opened)
    return FilteringLogObserver(textFileLogObserver(out), [levels])
