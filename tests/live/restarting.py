"""
A gateway that is reloaded, replaced and restarted as a process, and clients who must not notice.

The listening socket belongs to the test, as it belongs to systemd: it is passed on to each
process that is started anew. Nothing here says how often anything is to happen.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

import aiclient2api
from aiclient2api.testing import (
    STREAM_HEAD,
    Chunk,
    EndChunks,
    Hold,
    Received,
    Script,
    Wait,
    chat_chunks,
    raw_reply,
)
from aiclient2api.testing import chat_body as whole
from tests.live.gateway import KEY, Wire, connected
from tests.live.measure import now, pause, until

PACKAGE = Path(aiclient2api.__file__).parent.parent
"""Where the package under test is, for a process that starts elsewhere."""

PATIENCE = 90.0
"""Seconds; a start takes one or two, on a machine that has nothing else to do."""

CHAT = "/v1/chat/completions"
HEADERS = (("authorization", f"Bearer {KEY}"), ("content-type", "application/json"))

# What systemd does before it starts a program: the socket is descriptor 3, and the number of
# the process stands beside it.
_AS_SYSTEMD = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="gateway", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "aiclient2api", *sys.argv[2:]])
"""


def slow_answer(pieces: int, seconds: float) -> Callable[[Received], Script]:
    """Return what answers a stream in so many pieces and seconds, and anything else at once."""
    frames = chat_chunks([f"piece {number} " for number in range(pieces)])

    def answer(request: Received) -> Script:
        if not json.loads(request.body).get("stream"):
            return raw_reply(200, whole("whole"))
        steps: list[Any] = [STREAM_HEAD]
        for frame in frames:
            steps += [Chunk(frame), Wait(seconds / len(frames))]
        return (*steps, EndChunks())

    return answer


def held_answer(pieces: int) -> Callable[[Received], Script]:
    """Return the same, but in the middle of a stream it waits until the test lets it go on."""
    frames = [Chunk(frame) for frame in chat_chunks([f"piece {n} " for n in range(pieces)])]

    def answer(request: Received) -> Script:
        if not json.loads(request.body).get("stream"):
            return raw_reply(200, whole("whole"))
        return (STREAM_HEAD, *frames[:3], Hold(), *frames[3:], EndChunks())

    return answer


def stream_body(pieces: int) -> bytes:
    """Return what a client reads of `slow_answer`'s stream, every byte of it."""
    return b"".join(chat_chunks([f"piece {number} " for number in range(pieces)]))


@attrs.define(eq=False)
class Run:
    """One process: what it said, and what became of it."""

    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        """Return all it said so far."""
        return self.log_file.read_text(errors="replace")

    @property
    def over(self) -> bool:
        """Say whether it has ended."""
        return self.process.poll() is not None


class Succession:
    """
    Processes that follow one another on the same port and the same state.

    :param config: What ``config.json`` holds.
    :ivar runs: All of them, the present one last.
    """

    def __init__(self, test: TestCase, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.runs: list[Run] = []
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self.socket.getsockname()[1]
        self.config = {
            "listen": ["systemd:domain=INET:index=0"],
            "required_api_key": KEY,
            "state_dir": "state",
            **config,
        }
        self._environ = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "PYTHONPATH": str(PACKAGE),
        }
        self.write()
        test.addCleanup(self.end)

    @property
    def present(self) -> Run:
        """Return the process that serves."""
        return self.runs[-1]

    def write(self, **changed: Any) -> None:
        """Write ``config.json``, with some keys changed."""
        self.config.update(changed)
        (self.folder / "config.json").write_text(json.dumps(self.config))

    async def start(self) -> Run:
        """Start one as systemd would; return when it serves."""
        number = str(self.socket.fileno())
        run = self.spawn(["-c", _AS_SYSTEMD, number], pass_fds=(self.socket.fileno(),))
        await self._serving(run)
        return run

    async def reload(self) -> None:
        """Have the present one read its configuration again; return when it has."""
        run = self.present
        before = run.log.count("was reloaded")
        run.process.send_signal(signal.SIGHUP)
        await until(
            lambda: run.log.count("was reloaded") > before, seconds=PATIENCE, what="the reload"
        )

    async def hand_over(self, *arguments: str) -> Run:
        """Start one that takes over; return when the other one lets nobody in any more."""
        before = self.present
        run = self.spawn(["-m", "aiclient2api", "--take-over", *arguments])
        await self._serving(run)
        await until(lambda: "has taken over" in before.log, seconds=PATIENCE, what="the hand-over")
        return run

    async def restart(self) -> Run:
        """Stop the present one, wait for its end, start another: the port is never closed."""
        await self.stop()
        return await self.start()

    async def stop(self, number: int = signal.SIGTERM) -> Run:
        """Stop the present one; return when it has ended."""
        run = self.present
        run.process.send_signal(number)
        await until(lambda: run.over, seconds=PATIENCE, what="its end")
        return run

    async def end(self) -> None:
        """Kill all that are left."""
        for run in self.runs:
            if not run.over:
                run.process.kill()
        await until(lambda: all(run.over for run in self.runs), seconds=PATIENCE, what="the end")
        self.socket.close()

    def spawn(self, command: Sequence[str], **how: Any) -> Run:
        """Start a process in the same place, whatever becomes of it."""
        file = self.folder / f"log-{len(self.runs)}"
        with file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command, "--config", "config.json"],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **how,
            )
        run = Run(process, file)
        self.runs.append(run)
        return run

    async def _serving(self, run: Run) -> None:
        ready = f"Process {run.process.pid} can be taken over from."
        last = now() + PATIENCE
        while ready not in run.log and not run.over and now() < last:
            await pause(0.02)
        assert not run.over and ready in run.log, run.log


@attrs.define(eq=False)
class Crowd:
    """
    Clients who ask again and again, and what became of all they asked.

    :ivar told: How often each thing happened; whatever is not ``good`` is a fault, but for
        ``closed``: a kept connection that was closed while nothing was asked on it.
    """

    port: int
    pieces: int
    told: Counter[str] = attrs.field(factory=Counter)
    going_on: bool = True
    _loops: list[Deferred[None]] = attrs.field(factory=list)

    @property
    def good(self) -> int:
        """Return how many were answered in full."""
        return sum(count for what, count in self.told.items() if what.startswith("good"))

    @property
    def faults(self) -> dict[str, int]:
        """Return all that went wrong."""
        fine = ("good", "closed")
        return {what: count for what, count in self.told.items() if not what.startswith(fine)}

    def begin(self, *, streams: int, fresh: int, kept: int) -> None:
        """Let so many of each kind begin."""
        kinds = ((streams, self._stream), (fresh, self._fresh), (kept, self._kept))
        for count, kind in kinds:
            self._loops += [Deferred.fromCoroutine(self._on(kind)) for _ in range(count)]

    async def finish(self) -> None:
        """Ask nothing new; return when all is answered."""
        self.going_on = False
        await gatherResults(self._loops, consumeErrors=True)

    async def _on(self, kind: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while self.going_on:
            await kind()

    async def _stream(self) -> None:
        wire = await self._connected()
        if wire is not None:
            await self._ask(wire, "stream", streaming=True)
            wire.abort()

    async def _fresh(self) -> None:
        wire = await self._connected()
        if wire is not None:
            await self._ask(wire, "fresh")
            wire.abort()
        await pause(0.05)

    async def _kept(self) -> None:
        wire = await self._connected()
        while wire is not None and self.going_on:
            if not await self._ask(wire, "kept"):
                break
            await pause(0.05)
            if wire.lost:
                self.told["closed"] += 1
                break
        if wire is not None:
            wire.abort()

    async def _connected(self) -> Wire | None:
        try:
            return await connected(self.port)
        except Exception as error:
            self.told[f"not connected: {type(error).__name__}"] += 1
            await pause(0.1)
            return None

    async def _ask(self, wire: Wire, kind: str, streaming: bool = False) -> bool:
        """Ask once; say whether the connection may be used again."""
        body = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]}
        sent = json.dumps({**body, "stream": streaming}).encode()
        try:
            reply = await wire.request("POST", CHAT, HEADERS, sent)
        except Exception as error:
            self.told[f"{kind} failed: {type(error).__name__}"] += 1
            return False
        expected = stream_body(self.pieces) if streaming else whole("whole")
        if reply.status != 200:
            self.told[f"{kind} refused: {reply.status} {reply.body[:200]!r}"] += 1
        elif not reply.complete or reply.body != expected:
            self.told[f"{kind} cut: {reply.body[-200:]!r}"] += 1
        else:
            self.told[f"good {kind}"] += 1
        return (reply.header(b"connection") or b"").lower() != b"close"
