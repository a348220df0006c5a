"""
A process that keeps one credential, for the races of `tests.test_oauth_races`.

It reads lines of JSON, ``{"refused": token}``, and answers each with a line: the token that
its keeper returned, or the error. In between it tells when a new refresh token was received
and when it was on the disk, with the time between the two. It must never know that it will
be killed.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.threads import deferToThreadPool
from twisted.protocols.basic import LineOnlyReceiver

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.oauth.tokens import Source, TokenBook


def tell(**told: object) -> None:
    """Write a line at once: whoever is killed next has still said it."""
    os.write(1, json.dumps(told).encode() + b"\n")


class WindowWatch:
    """Measures from the receipt of a refresh token to the end of the next fsync."""

    def __init__(self) -> None:
        self._open: tuple[str, float] | None = None
        self._fsync = os.fsync
        os.fsync = self._synced  # type: ignore[assignment]

    def received(self, token: str) -> None:
        """A token is here, and nowhere else."""
        self._open = (token, time.perf_counter())
        tell(received=token)

    def _synced(self, descriptor: Any) -> None:
        self._fsync(descriptor)
        if self._open is not None:
            (token, since), self._open = self._open, None
            tell(synced=token, window=time.perf_counter() - since)


class OverHttp:
    """A `Renewal` that asks the test's token endpoint."""

    margin = 30.0
    login_hint = "Log in again."

    def __init__(self, name: str, port: int, in_thread: Any, watch: WindowWatch) -> None:
        self._name = name
        self._port = port
        self._in_thread = in_thread
        self._watch = watch

    def expires(self, document: Mapping[str, Any]) -> float | None:
        """Return what the document says."""
        at = document.get("expiry_date")
        return None if at is None else at / 1000

    def renew(self, document: Mapping[str, Any]) -> Deferred[Mapping[str, Any]]:
        """Ask; in a thread, as that is all this process has to do."""
        return self._in_thread(self._ask, document["refresh_token"])

    def _ask(self, refresh: str) -> Mapping[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            body = json.dumps({"refresh_token": refresh, "worker": self._name})
            connection.request("POST", "/token", body)
            answer = connection.getresponse()
            told = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise UpstreamError("It is refused.", fault=Fault.CREDENTIAL, status=401)
        self._watch.received(told["refresh_token"])
        return {
            "access_token": told["access_token"],
            "refresh_token": told["refresh_token"],
            "expiry_date": round((time.time() + told["expires_in"]) * 1000),
        }


class Commands(LineOnlyReceiver):
    """What the test says."""

    delimiter = b"\n"

    def __init__(self, book: TokenBook, source: Source, renewal: OverHttp) -> None:
        self._book = book
        self._source = source
        self._renewal = renewal

    def connectionMade(self) -> None:
        tell(ready=os.getpid())

    def lineReceived(self, line: bytes) -> None:
        keeper = self._book.keeper(source=self._source, renewal=self._renewal)
        asked = keeper.current(refused=json.loads(line)["refused"])
        asked.addCallbacks(
            lambda document: tell(token=document["access_token"]),
            lambda failure: tell(error=str(failure.value), kind=failure.type.__name__),
        )

    def connectionLost(self, reason: Any = None) -> None:
        # Whoever started us is gone.
        os._exit(0)


def main(name: str, path: str, port: str) -> None:
    """Run until the input ends, or somebody kills us."""
    from twisted.internet import reactor

    running: Any = reactor
    in_thread = partial(deferToThreadPool, running, running.getThreadPool())
    book = TokenBook(
        clock=running,
        now=time.time,
        jitter=random.random,
        in_thread=in_thread,
        lock_pause=0.01,
    )
    renewal = OverHttp(name, int(port), in_thread, WindowWatch())
    StandardIO(Commands(book, Source(path=Path(path)), renewal))
    running.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
