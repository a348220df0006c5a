"""
Two processes renew the same credential file at once, again and again, and some are killed.

The token endpoint forgives nothing: who uses a refresh token twice loses the account, as with
the real ones. Only one thing may cost it: a process that is killed after the endpoint has
answered and before the answer was on the disk. ``AICLIENT2API_LONG=1`` runs 10,000 races with
at least 300 killed; ``AICLIENT2API_SEED`` repeats a run's choices.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

import aiclient2api

reactor: Any = _reactor

LONG = os.environ.get("AICLIENT2API_LONG") == "1"
RACES = 10_000 if LONG else 200
KILLS = 0.04
"""The share of races in which somebody is killed."""
WORKER = Path(__file__).with_name("token_worker.py")
PACKAGES = Path(aiclient2api.__file__).parent.parent


class BurningEndpoint(Resource):
    """
    A token endpoint whose refresh tokens are good for one use.

    :ivar refresh: The one that is alive; None once one was used twice.
    :ivar access: The access token that was given along with it.
    :ivar asked: Who used which, in order.
    """

    isLeaf = True

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self.asked: list[tuple[str, str]] = []
        self.successors: dict[str, str] = {}
        self.refresh: str | None = None
        self.access = ""
        self.reused: list[str] = []

    def new_family(self) -> dict[str, Any]:
        """Let somebody log in: return what the credential file is to hold."""
        self.refresh, self.access = "r-" + secrets.token_hex(8), "a-" + secrets.token_hex(8)
        return {
            "access_token": self.access,
            "refresh_token": self.refresh,
            "token_type": "Bearer",
            "resource_url": "portal.example",
            "expiry_date": round((time.time() + 3600) * 1000),
            "kept": {"by": ["nobody", 1, None]},
        }

    def render_POST(self, request: Any) -> Any:
        """Answer some milliseconds later."""
        told = json.loads(request.content.read())
        used = told["refresh_token"]
        self.asked.append((told["worker"], used))
        if used != self.refresh:
            self.reused.append(used)
            self.refresh = None
            status, body = 400, {"error": "invalid_grant"}
        else:
            self.refresh, self.access = "r-" + secrets.token_hex(8), "a-" + secrets.token_hex(8)
            self.successors[used] = self.refresh
            status = 200
            body = {
                "access_token": self.access,
                "refresh_token": self.refresh,
                "expires_in": 3600,  # type: ignore[dict-item]
            }
        request.notifyFinish().addErrback(lambda _: None)
        reactor.callLater(self._chance.random() * 0.006, self._answer, request, status, body)
        return NOT_DONE_YET

    def _answer(self, request: Any, status: int, body: object) -> None:
        if request.channel is not None:
            request.setResponseCode(status)
            request.write(json.dumps(body).encode())
            request.finish()


class Worker(ProcessProtocol):
    """
    One process.

    :ivar received: The refresh tokens it has received.
    :ivar synced: Those that it has written, with the seconds that took.
    """

    transport: Any

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.received: set[str] = set()
        self.synced: dict[str, float] = {}
        self.errors = b""
        self._answer: Deferred[dict[str, Any]] | None = None
        self._rest = b""

    def ask(self, refused: str) -> Deferred[dict[str, Any]]:
        """Let it get a token other than *refused*. Fires with ``{}`` if it ends before."""
        self._answer = Deferred()
        self.transport.write(json.dumps({"refused": refused}).encode() + b"\n")
        return self._answer

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for told in map(json.loads, lines):
            if "ready" in told:
                self.ready.callback(None)
            elif "received" in told:
                self.received.add(told["received"])
            elif "synced" in told:
                self.synced[told["synced"]] = told["window"]
            else:
                self._tell(told)

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def _tell(self, told: dict[str, Any]) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.callback(told)

    def processEnded(self, reason: Any) -> None:
        self._tell({})
        self.ended.callback(None)

    def kill(self) -> None:
        """Kill it, as the kernel does when memory is short."""
        if self.transport.pid is not None:
            self.transport.signalProcess("KILL")


@attrs.define
class Tally:
    """What came of the races."""

    races: int = 0
    killed: int = 0
    lost_on_the_wire: int = 0
    lost_in_the_window: int = 0
    looks: int = 0
    windows: list[float] = attrs.field(factory=list)
    rescued: int = 0

    def told(self, seed: int, seconds: float) -> str:
        """Return it as a sentence for whoever runs the tests."""
        windows = sorted(self.windows)
        return (
            f"oauth races: seed {seed}: {self.races} races in {seconds:.0f} s, "
            f"{self.killed} processes killed; {len(windows)} renewals, none reused, no torn file "
            f"in {self.looks} looks; accounts lost: {self.lost_on_the_wire} with the answer still "
            f"on its way, {self.lost_in_the_window} between receipt and fsync, a window of "
            f"{statistics.median(windows) * 1e3:.2f} ms (99 %: "
            f"{windows[int(len(windows) * 0.99)] * 1e3:.2f} ms, longest: "
            f"{windows[-1] * 1e3:.2f} ms)"
        )


class RaceTests(TestCase):
    """Two processes, one file."""

    timeout = 3600 if LONG else 110

    def setUp(self) -> None:
        """Have a file, and an endpoint that forgives nothing."""
        self.seed = int(
            os.environ.get("AICLIENT2API_SEED") or random.SystemRandom().getrandbits(32)
        )
        self.chance = random.Random(self.seed)
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.path = folder / "oauth_creds.json"
        self.endpoint = BurningEndpoint(self.chance)
        self.log_in()
        self.port = reactor.listenTCP(0, Site(self.endpoint), interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.count = 0
        self.tally = Tally()
        self.torn: list[str] = []
        self.looking = LoopingCall(self.glance)
        self.looking.start(0.002)
        self.addCleanup(self.looking.stop)

    def log_in(self) -> None:
        """Put a new login in the place of the old one."""
        scratch = self.path.with_name("login")
        scratch.write_text(json.dumps(self.endpoint.new_family(), indent=2))
        scratch.replace(self.path)

    def look(self) -> dict[str, Any]:
        """Read the file, as any other program might at any time."""
        self.tally.looks += 1
        document: dict[str, Any] = json.loads(self.path.read_bytes())
        self.assertEqual(document["kept"], {"by": ["nobody", 1, None]})
        return document

    def glance(self) -> None:
        """Look, and go on whatever is seen."""
        try:
            self.look()
        except (OSError, ValueError, LookupError) as error:
            self.torn.append(repr(error))

    def start(self) -> Worker:
        """Start a process; it is ready a little later."""
        self.count += 1
        worker = Worker(f"worker-{self.count}")
        arguments = [sys.executable, "-P", str(WORKER), worker.name, str(self.path)]
        reactor.spawnProcess(
            worker,
            sys.executable,
            [*arguments, str(self.port.getHost().port)],
            env={**os.environ, "PYTHONPATH": str(PACKAGES)},
        )
        self.addCleanup(self.stop, worker)
        return worker

    def stop(self, worker: Worker) -> Deferred[None]:
        """End a process, and wait for its end."""
        worker.kill()
        return worker.ended

    async def test_an_account_is_lost_in_the_window_only(self) -> None:
        """
        No refresh token is used twice and no file is torn, whoever is killed when.

        Both processes always end with the one token that the endpoint gave last. An account
        that is lost was in the hands of a process that was killed between the endpoint's answer
        and the end of its fsync.
        """
        began = time.monotonic()
        racing, spare = [self.start(), self.start()], self.start()
        for worker in (*racing, spare):
            await worker.ready
        took = [0.02]
        for number in range(RACES):
            victim = None
            # After the last race nobody is left to break a lock.
            if self.chance.random() < KILLS and number < RACES - 1:
                victim = self.chance.choice(racing)
            started = time.monotonic()
            try:
                await self.race(
                    racing, victim, self.chance.random() * 1.3 * statistics.median(took)
                )
            except Exception as error:
                errors = b"".join(worker.errors for worker in racing).decode(errors="replace")
                raise AssertionError(
                    f"seed {self.seed}, race {number}: {error}\n{errors}"
                ) from error
            if victim is None:
                took = [*took[-30:], time.monotonic() - started]
                continue
            await spare.ready
            racing[racing.index(victim)], spare = spare, self.start()
        for worker in (*racing, spare):
            await worker.ready
            await self.stop(worker)
        self.tally.races = RACES
        self.assertEqual(self.torn, [], f"seed {self.seed}")
        self.assertFalse(self.path.with_name("oauth_creds.json.lock").exists())
        self.assertGreaterEqual(self.tally.killed, RACES * 0.03 if LONG else 1)
        print("\n" + self.tally.told(self.seed, time.monotonic() - began), flush=True)

    async def race(self, racing: list[Worker], victim: Worker | None, after: float) -> None:
        """Let both renew at once, kill one of them meanwhile, and judge what came of it."""
        endpoint = self.endpoint
        before, asked = endpoint.access, len(endpoint.asked)
        endpoint.reused.clear()
        answers = [worker.ask(before) for worker in racing]
        if victim is not None:
            reactor.callLater(after, victim.kill)
            await victim.ended
            self.tally.killed += 1
            self.look()
        told = {worker: await answer for worker, answer in zip(racing, answers, strict=True)}
        for worker in racing:
            self.tally.windows.extend(worker.synced.values())
        document = self.look()
        if endpoint.reused:
            self.judge_loss(racing, victim, endpoint.asked[asked:])
            self.log_in()
        else:
            tokens = {answer.get("token") for answer in told.values() if answer}
            self.assertEqual(tokens, {endpoint.access}, told)
            self.assertNotEqual(endpoint.access, before)
            self.assertEqual(document["refresh_token"], endpoint.refresh)
            self.assertEqual(len(endpoint.asked) - asked, 1)
        for worker in racing:
            worker.synced.clear()
            worker.received.clear()

    def judge_loss(
        self, racing: list[Worker], victim: Worker | None, asked: list[tuple[str, str]]
    ) -> None:
        """An account is lost: see that it was in the hands of whoever was killed."""
        self.assertIsNotNone(victim, f"reused with nobody killed: {asked}")
        assert victim is not None
        [used] = set(self.endpoint.reused)
        self.assertIn((victim.name, used), asked)
        successor = self.endpoint.successors[used]
        self.assertNotIn(successor, victim.synced, "it was on the disk, and is lost")
        if successor in victim.received:
            self.tally.lost_in_the_window += 1
        else:
            self.tally.lost_on_the_wire += 1
