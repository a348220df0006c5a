"""
Keep the system prompt that a client sends in a file, for the operator to read.

Opt-in: what clients such as coding agents put there is long and worth knowing. It is
told of requests as they came, before the gateway's own edits, and knows nothing else.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from aiclient2api.errors import GatewayError
from aiclient2api.interfaces import IWireRequest


class FetchedPrompt:
    """
    Write each incoming system prompt to a file when it differs from what is there.

    The file always holds one whole prompt, verbatim (lone surrogates become ``?``),
    mode 0600; it is emptied by a request without one. Of prompts that come faster
    than they can be written, only the newest is.

    :param path: The file; a symbolic link there is replaced, not followed. None is off.
    :param in_thread: Calls a function with arguments in a thread and returns a
        Deferred, as ``partial(deferToThreadPool, reactor, pool)`` does.
    """

    _log = Logger()

    def __init__(self, *, path: Path | None, in_thread: Callable[..., Deferred[Any]]) -> None:
        self._path = path
        self._in_thread = in_thread
        self._newest: str | None = None
        self._taken: str | None = None
        self._started = self._writing = self._failing = False
        self._waiting: list[Deferred[None]] = []

    def start(self) -> None:
        """Begin to write."""
        self._started = True
        self._drain()

    def saw(self, request: IWireRequest) -> None:
        """Take note of *request*, as the client sent it. Never raises."""
        if self._path is None:
            return
        try:
            text = request.system_text()
        except GatewayError:
            return  # The caller will be told what is wrong with it.
        except Exception as error:
            kind = type(error).__qualname__
            self._log.error("A system prompt could not be read: {kind}. This is a bug.", kind=kind)
            return
        if text != self._newest:
            self._newest = text
            self._drain()

    def stop(self) -> Deferred[None]:
        """Fire when the newest prompt is written. Cancelling gives up the wait only."""
        if not self._writing:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def _drain(self) -> None:
        idle = self._started and not self._writing
        if not idle or self._newest is None or self._newest == self._taken:
            return
        self._taken = self._newest
        self._writing = True
        writing = maybeDeferred(self._in_thread, write_if_new, self._path, self._newest)
        writing.addCallbacks(self._went_well, self._went_wrong)
        writing.addBoth(self._wrote)

    def _went_well(self, _: object) -> None:
        self._failing = False

    def _went_wrong(self, failure: Failure) -> None:
        if self._newest == self._taken:
            # Forgotten, so that the same prompt is tried again when it comes again.
            self._newest = None
        self._taken = None
        if not self._failing:
            self._failing = True
            error = failure.value
            self._log.error(
                "The incoming system prompt cannot be kept: {error}. Correct "
                "fetch_system_prompt or free the disk.",
                error=str(error) if isinstance(error, OSError) else type(error).__qualname__,
            )

    def _wrote(self, _: object) -> None:
        self._writing = False
        self._drain()
        if not self._writing:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)


def write_if_new(path: Path, text: str) -> None:
    """
    Make *path* hold *text*, at once or not at all. For a thread: it waits for the disk.

    An absent file and an empty text count as the same.

    :raise OSError: if it cannot be written; nothing is left behind then.
    """
    content = text.encode("utf-8", "replace")
    try:
        if path.read_bytes() == content and not path.is_symlink():
            return
    except FileNotFoundError:
        if not content:
            return
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
