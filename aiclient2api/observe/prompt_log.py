"""
The prompt log: what was asked and what was answered, for the operator's own eyes.

Off unless asked for. It holds people's words, so it is private (0600), bounded and
free of credentials; and it may fail (a full disk, a slow terminal) without any
exchange noticing. It knows neither dialects nor accounts.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import attrs
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from aiclient2api.errors import UpstreamError
from aiclient2api.interfaces import IExchangeObserver
from aiclient2api.observe.redaction import beginning, excerpt
from aiclient2api.values import Clock, ExchangeRecord, Outcome

TEXT_LIMIT = 256 * 1024
"""Bytes of UTF-8 kept of one text."""
QUEUE_RECORDS = 1000
QUEUE_BYTES = 16 * 2**20
"""Memory that texts not yet written may take."""

_RULE = "-" * 38
_SECONDS_BETWEEN_COMPLAINTS = 60.0


@attrs.frozen
class _Record:
    """
    :ivar length: Characters of the whole text, of which *text* is the beginning.
    :ivar weight: Bytes of memory that *text* takes.
    :ivar stands_for: How many records are lost with this one.
    """

    at: datetime
    title: str
    text: str
    length: int
    weight: int
    stands_for: int = 1


@attrs.frozen
class _Written:
    """What became of a batch: how many records were lost, and to which error."""

    lost: int = 0
    error: Exception | None = None


@implementer(IExchangeObserver)
class PromptLog:
    """
    Write the last message of each request and the text of each answer.

    A record is three parts: a line ``<local date and time> [INPUT]:``, the text, and
    a line of 38 hyphens. Answers are titled ``[OUTPUT]``; one that did not end well
    says how it ended: ``[OUTPUT] (failed):``, ``[OUTPUT] (truncated):`` or
    ``[OUTPUT] (cancelled):``. Empty texts are left out. When records had to be
    dropped, one titled ``[DROPPED]`` says how many. Lone surrogates become ``?``.

    Texts are cut, stripped of secrets and written in a thread, one batch at a time.
    While that goes on, at most `QUEUE_RECORDS` and `QUEUE_BYTES` wait.

    :param mode: ``none``, ``console`` or ``file``.
    :param base_name: In file mode the log is ``<base_name>-YYYYMMDD-HHMMSS.log``, by
        the local time of `start`. A symbolic link there is refused.
    :param clock: An ``IReactorTime``: paces complaints.
    :param now: Returns the local time, as ``datetime.now`` does.
    :param in_thread: Calls a function with arguments in a thread and returns a
        Deferred, as ``partial(deferToThreadPool, reactor, pool)`` does.
    :param clean: Takes secrets out of a text; called in a thread.
    :param out: Where console mode writes; None is the process's own standard output,
        even while twistd redirects ``sys.stdout`` to its log.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        mode: str,
        base_name: Path,
        clock: Clock,
        now: Callable[[], datetime],
        in_thread: Callable[..., Deferred[Any]],
        clean: Callable[[str], str],
        out: IO[bytes] | None = None,
    ) -> None:
        self.wants_text = mode != "none"
        self.path: Path | None = None
        self._to_file = mode == "file"
        self._base_name = base_name
        self._clock = clock
        self._now = now
        self._in_thread = in_thread
        self._clean = clean
        self._out = out
        self._queue: deque[_Record] = deque()
        self._records = self._bytes = 0
        self._dropped = 0
        self._complained: float | None = None
        self._failing = False
        self._started = self._stopped = self._writing = False
        self._waiting: list[Deferred[None]] = []

    def start(self) -> None:
        """Name the file by this moment, and begin to write."""
        name = f"{self._base_name.name}-{self._now():%Y%m%d-%H%M%S}.log"
        self.path = self._base_name.with_name(name)
        self._started = True
        self._drain()

    def stop(self) -> Deferred[None]:
        """
        Take no more records; fire when those taken are written.

        Cancelling gives up the wait, not the writing.
        """
        self._stopped = True
        if not self._writing:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def began(self, exchange: ExchangeRecord) -> None:
        if self.wants_text and not self._stopped:
            self._take("[INPUT]", exchange.request.prompt_text())

    def attempt(self, exchange: ExchangeRecord, error: UpstreamError | None) -> None:
        """Attempts are not logged."""

    def first_byte(self, exchange: ExchangeRecord) -> None:
        """First bytes are not logged."""

    def ended(self, exchange: ExchangeRecord, outcome: Outcome) -> None:
        if self.wants_text and not self._stopped:
            how = "" if outcome.how == "complete" else f" ({outcome.how})"
            self._take(f"[OUTPUT]{how}", outcome.text)

    # --- in the reactor's thread

    def _take(self, title: str, text: str) -> None:
        if not text:
            return
        record = self._record(title, text)
        room = self._records < QUEUE_RECORDS and self._bytes + record.weight <= QUEUE_BYTES
        if not room:
            self._dropped += 1
            self._complain()
            return
        self._queue.append(record)
        self._records += 1
        self._bytes += record.weight
        self._drain()

    def _record(self, title: str, text: str, stands_for: int = 1) -> _Record:
        seen = beginning(text, TEXT_LIMIT)
        weight = sys.getsizeof(seen)
        return _Record(self._now(), title, seen, len(text), weight, stands_for)

    def _complain(self) -> None:
        now = self._clock.seconds()
        if self._complained is None or now - self._complained >= _SECONDS_BETWEEN_COMPLAINTS:
            self._complained = now
            self._log.warn(
                "The prompt log cannot keep up and has dropped {count} records since it last "
                "could; make its disk or terminal faster, or turn it off.",
                count=self._dropped,
            )

    def _drain(self) -> None:
        """Hand all that waits to the thread, unless it is busy."""
        # While nothing can be written, the news of losses alone is not worth a try.
        due = bool(self._queue) or (self._dropped > 0 and not self._failing)
        if self._writing or not self._started or not due:
            return
        batch = list(self._queue)
        self._queue.clear()
        records = batch
        if self._dropped:
            told = f"{self._dropped} records were lost: they could not be written, or not in time."
            records = [*batch, self._record("[DROPPED]", told, self._dropped)]
            self._dropped = 0
        self._writing = True
        writing = maybeDeferred(self._in_thread, self._write, records)
        writing.addCallbacks(self._note, self._note_failure)
        writing.addBoth(self._wrote, batch)

    def _note(self, written: _Written) -> None:
        self._dropped += written.lost
        if written.error is not None and not self._failing:
            self._log.error(
                "The prompt log cannot be written: {error}. Answers go on without it; "
                "free the disk or correct prompt_log_base_name.",
                error=str(written.error),
            )
        self._failing = written.error is not None

    def _note_failure(self, failure: Failure) -> None:
        # Its words may quote a prompt.
        kind = type(failure.value).__qualname__
        self._log.error("The prompt log failed: {kind}. This is a bug.", kind=kind)

    def _wrote(self, _: object, batch: list[_Record]) -> None:
        self._writing = False
        self._records -= len(batch)
        self._bytes -= sum(record.weight for record in batch)
        self._drain()
        if not self._writing:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    # --- in another thread: nothing of self that changes

    def _write(self, records: Sequence[_Record]) -> _Written:
        done = 0
        try:
            with self._opened() as file:
                for record in records:
                    file.write(self._formatted(record))
                    file.flush()
                    done += 1
        except (OSError, ValueError) as error:
            lost = sum(record.stands_for for record in records[done:])
            return _Written(lost=lost, error=error)
        return _Written()

    def _opened(self) -> AbstractContextManager[IO[bytes]]:
        if self._to_file:
            assert self.path is not None
            return private_file(self.path)
        if self._out is not None:
            return nullcontext(self._out)
        if sys.__stdout__ is None:
            raise OSError(errno.EBADF, "there is no standard output")
        return nullcontext(cast(IO[bytes], sys.__stdout__.buffer))

    def _formatted(self, record: _Record) -> bytes:
        text = excerpt(record.text, self._clean, TEXT_LIMIT, length=record.length)
        if not self._to_file:
            text = harmless(text)
        whole = f"{record.at:%Y-%m-%d %H:%M:%S} {record.title}:\n{text}\n{_RULE}\n"
        return whole.encode("utf-8", "replace")


def private_file(path: Path) -> BinaryIO:
    """
    Open *path* to append, made with mode 0600 whatever the umask.

    :raise OSError: if it cannot be opened, is a symbolic link, is no regular file or
        belongs to someone else.
    """
    # Without O_NONBLOCK a FIFO put in its place would hold the thread for ever.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "is no regular file of our own", str(path))
        os.fchmod(descriptor, 0o600)
        return open(descriptor, "ab")
    except BaseException:
        os.close(descriptor)
        raise


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """
    Return *text* with what could steer a terminal written as an escape.

    Line feeds and tabs stay; so a prompt cannot clear the screen, set the title or
    turn the direction of writing.
    """

    def escaped(match: re.Match[str]) -> str:
        code = ord(match[0])
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _CONTROLS.sub(escaped, text.replace("\r\n", "\n"))
