"""
Write the daemon's log to one file that is ours alone and that logrotate may move.

For ``twistd --logger aiclient2api.logfile.observer``. twistd's own log file would be
readable by everyone and rotate itself at 1 MB. Every event goes through the scrubber, of
whomever it is and with its traceback. This file knows nothing of the gateway.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any, TextIO, cast

import attrs
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    formatEventAsClassicLogText,
)
from zope.interface import implementer

from aiclient2api.scrubbing import IN_FORCE, cleaned

VARIABLE = "AICLIENT2API_LOGFILE"
"""The environment variable that names the file."""

PREFIX_VARIABLE = "AICLIENT2API_SYSLOG_PREFIX"
"""The environment variable with what ``twistd --prefix`` says."""

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
    return FilteringLogObserver(FileLogObserver(out, line), [levels])


def line(event: LogEvent) -> str | None:
    """Return what the log says of *event*, without secrets; None if that is nothing."""
    text = formatEventAsClassicLogText(event)
    return None if text is None else cleaned(IN_FORCE.text, text)


@implementer(ILogObserver)
class _Syslog:
    """Sends the system's log what `observer` writes into a file."""

    def __init__(self, prefix: str) -> None:
        from twisted.python.syslog import SyslogObserver

        emit: Any = SyslogObserver(prefix).emit
        self._wrapped = LegacyLogObserverWrapper(emit)

    def __call__(self, event: LogEvent) -> None:
        # The text as a whole: what it is made of must not be seen.
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        level = event.get("log_level", LogLevel.info)
        self._wrapped(
            {
                "log_level": level,
                "log_system": f"{event.get('log_namespace', '-')}#{level.name}",
                "log_time": event.get("log_time", 0.0),
                "log_format": "{told}",
                "told": cleaned(IN_FORCE.text, text),
                "isError": int(level is LogLevel.critical),
            }
        )


def syslog() -> ILogObserver:
    """Return a log observer for ``twistd --syslog``; `PREFIX_VARIABLE` says who it is of."""
    return FilteringLogObserver(_Syslog(os.environ.get(PREFIX_VARIABLE, "")), [levels])
