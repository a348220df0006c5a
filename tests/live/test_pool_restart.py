"""
A gateway that is killed with ``kill -9`` and started again: it remembers its accounts.

The gateway is a process of its own, on real sockets and a real state file; the upstream
counts who was called. What is promised: nobody who rests is called again because the
gateway forgot, and of what was counted no more than the last second is lost.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

import aiclient2api
from aiclient2api.observe.usage import NAMESPACE, read
from aiclient2api.state import database
from aiclient2api.testing import (
    STREAM_HEAD,
    Chunk,
    Hold,
    Received,
    Script,
    ScriptedUpstream,
    chat_body,
    chat_chunks,
    json_reply,
    raw_reply,
    sse_reply,
)
from aiclient2api.values import Usage
from tests.live.gateway import KEY, Reply, Wire, connected
from tests.live.measure import now, pause, until

PACKAGE = Path(aiclient2api.__file__).parent.parent
"""Where the package under test is, for a process that starts elsewhere."""

PATIENCE = 60.0
"""Seconds; a start takes one, on a machine that has nothing else to do."""

USAGE = Usage(input=11, output=7, cached=3)
PIECES = ["one ", "two ", "three"]
HOUR = 3600
CHAT = "/v1/chat/completions"
GOOD = ("good-a", "good-b")
LIMITED: Script = json_reply(
    429,
    {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}},
    headers=((b"retry-after", b"%d" % HOUR),),
)
REFUSED: Script = json_reply(401, {"error": {"message": "No such key.", "code": "invalid_api_key"}})
SPENT: Script = json_reply(
    429,
    {"error": {"message": "You have used it up.", "code": "insufficient_quota"}},
    headers=((b"retry-after", b"%d" % (5 * HOUR)),),
)
FAILING = {"limited": LIMITED, "refused": REFUSED, "spent": SPENT}
REASONS = {"limited": "rate_limit", "refused": "credential", "spent": "quota"}
STATES = {"limited": "cooling", "refused": "rejected", "spent": "exhausted"}


def good(request: Received) -> Script:
    """Answer well, and tell what it cost."""
    if json.loads(request.body).get("stream"):
        return sse_reply(chat_chunks(PIECES, usage=USAGE))
    return raw_reply(200, chat_body("".join(PIECES), usage=USAGE))


class GatewayProcess:
    """
    The package under test as a process, started again and again on the same files.

    :ivar port: Where it listens.
    """

    def __init__(self, test: TestCase, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        # Nothing else: a proxy, or settings of a gateway, may stand there.
        self._environ = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "PYTHONPATH": str(PACKAGE),
        }
        test.addCleanup(self.kill)

    @property
    def log(self) -> str:
        """Return what it said since it was started last."""
        return (self.folder / f"log-{self._starts}").read_text(errors="replace")

    async def start(self) -> None:
        """Start it; return when it listens."""
        self._starts += 1
        with (self.folder / f"log-{self._starts}").open("wb") as log:
            self._process = process = subprocess.Popen(
                self._command(), cwd=self.folder, env=self._environ, stdout=log, stderr=log
            )
        last = now() + PATIENCE
        while "listens on http" not in self.log and process.poll() is None and now() < last:
            # Not so often that it is what keeps the gateway from starting.
            await pause(0.02)
        found = re.search(r"listens on http://127\.0\.0\.1:([0-9]+)", self.log)
        assert found, self.log
        self.port = int(found[1])

    async def kill(self) -> None:
        """Kill it with SIGKILL, if it runs; return when it is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            await until(lambda: process.poll() is not None, seconds=PATIENCE, what="its end")

    async def request(
        self, method: str, target: str, body: object = None, *, key: str = KEY
    ) -> Reply:
        """Send one request on a connection of its own; return the reply."""
        wire = await connected(self.port)
        try:
            headers = (("authorization", f"Bearer {key}"), ("content-type", "application/json"))
            sent = b"" if body is None else json.dumps(body).encode()
            return await wire.request(method, target, headers, sent)
        finally:
            wire.abort()

    async def health(self) -> dict[str, dict[str, Any]]:
        """Return what ``/provider_health`` tells, by account."""
        reply = await self.request("GET", "/provider_health")
        assert reply.status == 200, reply
        items = reply.json()["items"]
        return {item["customName"]: item for item in items if item["provider"] == "openai-custom"}

    def explain(self, *arguments: str) -> Deferred[subprocess.CompletedProcess[str]]:
        """Run ``aiclient2api explain`` on the same configuration."""
        return deferToThread(
            subprocess.run,
            self._command("explain", *arguments),
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "aiclient2api", *arguments, "--config", "config.json"]


class RestartTests(TestCase):
    """A process, killed and started again."""

    timeout = 240

    async def begin(self, *names: str, **config: object) -> GatewayProcess:
        """Start a gateway with accounts of these names, in this order, and an upstream."""
        self.script: dict[str, Any] = {name: lambda _, name=name: FAILING[name] for name in FAILING}
        self.upstream = ScriptedUpstream(self.answer)
        await self.upstream.listen(reactor)
        self.addCleanup(self.upstream.stop)
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        accounts = [
            {
                "uuid": f"id-of-{name}",
                "customName": name,
                "openai_api_key": f"sk-test-{name}",
                "openai_base_url": f"{self.upstream.url}/v1",
            }
            for name in names
        ]
        (folder / "provider_pools.json").write_text(json.dumps({"openai-custom": accounts}))
        settings = {
            "listen": ["tcp:0:interface=127.0.0.1"],
            "required_api_key": KEY,
            "model_provider": "openai-custom",
            "provider_pools_file_path": "provider_pools.json",
            "state_dir": "state",
            "request_max_retries": 0,
            **config,
        }
        (folder / "config.json").write_text(json.dumps(settings))
        self.gateway = GatewayProcess(self, folder)
        self.asked = 0
        await self.gateway.start()
        return self.gateway

    def answer(self, request: Received) -> Script:
        """Answer as the account's owner is to be answered."""
        script: Script = self.script.get(self.account(request), good)(request)
        return script

    def account(self, request: Received) -> str:
        """Return whose key a request came with."""
        key = (request.header(b"authorization") or b"").decode()
        return key.removeprefix("Bearer sk-test-")

    def calls(self, since: int = 0) -> Counter[str]:
        """Return how often each account was called."""
        return Counter(self.account(request) for request in self.upstream.requests[since:])

    async def ask(self) -> Reply:
        """Ask something new, every other time for a stream."""
        self.asked += 1
        body = {
            "model": "m-1",
            "messages": [{"role": "user", "content": f"Question {self.asked}"}],
            "stream": self.asked % 2 == 0,
        }
        reply = await self.gateway.request("POST", CHAT, body)
        self.assertEqual((200, True), (reply.status, reply.complete), reply.body)
        return reply

    async def ask_at_once(self, count: int) -> None:
        """Ask so many things at the same time."""
        asking = [Deferred.fromCoroutine(self.ask()) for _ in range(count)]
        await gatherResults(asking, consumeErrors=True)

    def resting(self, health: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return all that is told of the accounts that failed, but for what they have done."""
        told = ("state", "reason", "message", "since", "until", "nextTry", "models", "isHealthy")
        return {name: {key: health[name][key] for key in told} for name in FAILING}

    def assert_counted(
        self,
        health: dict[str, dict[str, Any]],
        *,
        at_least: Counter[str],
        at_most: Counter[str],
    ) -> None:
        """Check what accounts are said to have done against what they did."""
        for name, item in health.items():
            requests, failing = item["requests"], name in FAILING
            self.assertLessEqual(at_least[name], requests, name)
            self.assertLessEqual(requests, at_most[name], name)
            self.assertEqual(requests if failing else 0, item["failures"], name)
            answered = 0 if failing else requests
            for kind, count in (("input", 11), ("output", 7), ("cached", 3)):
                self.assertEqual(count * answered, item["tokens"][kind], name)

    async def test_killed_at_once_after_an_answer(self) -> None:
        """Who rests is not called again, and nothing that is a second old is lost."""
        gateway = await self.begin("limited", "good-a", "refused", "spent", "good-b")
        failed_over: list[tuple[str, list[str]]] = []
        while len(self.calls()) < 5 or self.asked < 12:
            self.assertLess(self.asked, 50, self.calls())
            before = len(self.upstream.requests)
            reply = await self.ask()
            called = [self.account(each) for each in self.upstream.requests[before:]]
            if len(called) > 1:
                id = reply.header(b"x-aiclient2api-request-id") or b""
                failed_over.append((id.decode(), called))
        old = self.calls()
        self.assertEqual([1, 1, 1], [old[name] for name in FAILING])
        told = await gateway.health()
        for name in FAILING:
            self.assertEqual(STATES[name], told[name]["state"])
            self.assertEqual(REASONS[name], told[name]["reason"])
        self.assertIsNotNone(told["limited"]["until"])
        self.assertIsNotNone(told["spent"]["until"])
        # Only what is younger than a second may be lost.
        await pause(1.0)
        await self.ask_at_once(8)
        booked = self.asked - 8
        await gateway.kill()
        self.assert_booked(at_least=booked)

        # Told while the gateway takes up the file that the dead one has left.
        explaining = Deferred.fromCoroutine(self.assert_explained(*failed_over[0]))
        await gateway.start()
        await explaining
        await self.ask()
        health = await gateway.health()
        self.assertEqual(self.resting(told), self.resting(health))
        self.assert_counted(health, at_least=old, at_most=self.calls())
        await self.ask_at_once(8)
        for _ in range(8):
            await self.ask()
        self.assertEqual([1, 1, 1], [self.calls()[name] for name in FAILING])
        again = await gateway.health()
        self.assertEqual(self.resting(told), self.resting(again))
        for name in GOOD:
            self.assertGreater(again[name]["requests"], health[name]["requests"])
        self.assertNotIn("sk-test-", gateway.log)

    def assert_booked(self, *, at_least: int) -> None:
        """Check that there is a row for each exchange, or for nearly each."""
        connection = database.connect_to_read(self.gateway.folder / "state" / "state.sqlite3", 10.0)
        try:
            owners = connection.execute(
                "SELECT DISTINCT owner FROM entry WHERE namespace = ?", (NAMESPACE.encode(),)
            ).fetchall()
            ((owner,),) = owners
            found = database.scan(connection.cursor(), NAMESPACE, owner.decode(), time.time())
        finally:
            connection.close()
        self.assertIn(len(found), range(at_least, self.asked + 1))
        for value in found.values():
            row = read(value)
            assert row is not None
            self.assertIn(row.account.removeprefix("id-of-"), GOOD)
            self.assertEqual((row.tokens.input, row.tokens.output, row.tokens.cached), (11, 7, 3))
            self.assertFalse(row.estimated)

    async def assert_explained(self, id: str, called: list[str]) -> None:
        """Check that ``explain`` tells whom a request was given, in order, and why."""
        done = await self.gateway.explain(id)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertTrue(done.stdout.startswith(f"Request {id}\n"), done.stdout)
        for what in ("chosen", "attempt"):
            told = re.findall(rf"^.* s  {what} .*account id-of-(\S+)", done.stdout, re.M)
            self.assertEqual(called, told, done.stdout)
        *failed, _ = called
        attempts = re.findall(r"^.* s  attempt .*$", done.stdout, re.M)
        for name, line in zip(failed, attempts, strict=False):
            self.assertIn(REASONS[name], line)
            self.assertIn({"refused": "401"}.get(name, "429"), line)
        self.assertIn("complete", attempts[-1])
        self.assertNotIn("sk-test-", done.stdout)

    async def test_killed_at_once_after_a_failure(self) -> None:
        """
        The account that failed is called once more at most, however often that happens.

        At first it is before anybody is answered: what is known then may not be written yet.
        """
        gateway = await self.begin("limited", "good-a", "good-b", selection="fill_first")
        self.script["good-a"] = lambda request: (Hold(),)
        asking = Deferred.fromCoroutine(self.ask())
        asking.addErrback(lambda failure: None)
        await self.upstream.when_requests(2)
        self.assertEqual({"limited": 1, "good-a": 1}, self.calls())
        await gateway.kill()
        await asking

        self.script["good-a"] = good
        for _ in range(2):
            await gateway.start()
            for _ in range(8):
                await self.ask()
            self.assertLessEqual(self.calls()["limited"], 2)
            health = await gateway.health()
            self.assertEqual("cooling", health["limited"]["state"])
            self.assertEqual("rate_limit", health["limited"]["reason"])
            await gateway.kill()

    async def test_killed_in_the_middle_of_streams(self) -> None:
        """
        What ended is counted, what was under way is not; a try is not tried again at once.

        The account whose rest was over was being tried when the end came. Nobody knows what
        became of that, so it rests on.
        """
        gateway = await self.begin("limited", "good-a", "good-b")
        hint = ((b"retry-after", b"1"),)
        self.script["limited"] = lambda _: json_reply(429, {"error": {"message": "!"}}, hint)
        while not self.calls()["limited"]:
            self.assertLess(self.asked, 50)
            await self.ask()
        failed = now()
        while self.asked < 10:
            await self.ask()
        ended = self.calls()
        # It may be tried again now, and what was counted so far is safe.
        await pause(max(0.0, failed + 1.2 - now()))

        frames = [Chunk(frame) for frame in chat_chunks(PIECES, usage=USAGE)]
        self.script["limited"] = lambda _: (Hold(),)
        for name in GOOD:
            self.script[name] = lambda _: (STREAM_HEAD, *frames[:3], Hold())
        begun = len(self.upstream.requests)
        wires: list[Wire] = []
        while len(wires) < 6 or not self.calls(begun)["limited"]:
            self.assertLess(len(wires), 50, "it is never tried again")
            wires.append(await self.begin_stream())
            await self.upstream.when_requests(begun + len(wires))
        self.assertEqual(1, self.calls(begun)["limited"])
        await until(
            lambda: sum(b"one " in wire.received for wire in wires) == len(wires) - 1,
            seconds=PATIENCE,
            what="all streams but the one that is a try",
        )
        await gateway.kill()
        await until(lambda: all(wire.lost for wire in wires), seconds=PATIENCE)
        self.assertFalse(any(b"[DONE]" in wire.received for wire in wires))

        for name in ("limited", *GOOD):
            self.script[name] = good
        restarted = len(self.upstream.requests)
        await gateway.start()
        await self.ask()
        health = await gateway.health()
        ended += self.calls(restarted)
        self.assert_counted(health, at_least=ended, at_most=ended)
        self.assertEqual("cooling", health["limited"]["state"])
        self.assertEqual("rate_limit", health["limited"]["reason"])
        await self.ask_at_once(6)
        for _ in range(4):
            await self.ask()
        self.assertEqual(0, self.calls(restarted)["limited"])

    async def begin_stream(self) -> Wire:
        """Ask for a stream and return the connection that it comes on."""
        self.asked += 1
        content = f"Question {self.asked}"
        body = {"model": "m-1", "messages": [{"role": "user", "content": content}], "stream": True}
        sent = json.dumps(body).encode()
        wire = await connected(self.gateway.port)
        self.addCleanup(wire.abort)
        head = f"POST {CHAT} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n"
        wire.send(f"{head}content-length: {len(sent)}\r\n\r\n".encode() + sent)
        return wire
