"""
A gateway is reloaded, replaced and restarted under load, and none of its clients notices.

Real processes on real sockets. ``AICLIENT2API_LONG=1`` does it fifty times under a hundred
streams, each of which outlives several processes.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import skipIf

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from aiclient2api.testing import Received, Script, ScriptedUpstream, json_reply
from tests.live.gateway import Reply, connected
from tests.live.measure import now, pause, report, until
from tests.live.restarting import (
    CHAT,
    HEADERS,
    PATIENCE,
    Crowd,
    Run,
    Succession,
    held_answer,
    slow_answer,
    stream_body,
)

LONG = os.environ.get("AICLIENT2API_LONG") == "1"

LIMITED: Script = json_reply(
    429,
    {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}},
    headers=((b"retry-after", b"3600"),),
)
STREAM = b'{"model":"m-1","messages":[{"role":"user","content":"hi"}],"stream":true}'


async def over(run: Run) -> None:
    """Wait for the end of a process."""
    await until(lambda: run.over, seconds=PATIENCE, what="its end")


unless_long = skipIf(not LONG, "takes three processes; set AICLIENT2API_LONG=1, or tox -e faults")


class RestartCase(TestCase):
    """What all of these tests begin with."""

    timeout = 1800 if LONG else 240
    pieces = 8

    async def begin(
        self, answer: Callable[[Received], Script] | None = None, **config: object
    ) -> Succession:
        """Start an upstream, whose streams stand still until released, and the first process."""
        self.answer = answer or held_answer(self.pieces)
        self.upstream = ScriptedUpstream(lambda request: self.answer(request))
        await self.upstream.listen(reactor)
        self.addCleanup(self.upstream.stop)
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        settings: dict[str, Any] = {
            "openai_api_key": "sk-test-account",
            "openai_base_url": f"{self.upstream.url}/v1",
            "model_provider": "openai-custom",
            **config,
        }
        succession = Succession(self, folder, settings)
        await succession.start()
        return succession

    async def stream(self, succession: Succession) -> Deferred[Reply]:
        """Have a stream under way; return what its client will have read."""
        wire = await connected(succession.port)
        self.addCleanup(wire.abort)
        before = len(wire.received)
        asking: Deferred[Reply] = wire.request("POST", CHAT, HEADERS, STREAM)
        await until(lambda: b"piece 0" in wire.received[before:], seconds=PATIENCE, what="it")
        return asking

    def traces(self, succession: Succession) -> list[str]:
        """Return the ids of all exchanges that were written down."""
        path = succession.folder / "state" / "state.sqlite3"
        with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True) as connection:
            rows = connection.execute("SELECT key FROM entry WHERE namespace = ?", (b"traces",))
            return [key.decode() for (key,) in rows]

    def assert_clean(self, run: Run) -> None:
        """Check that a process ended well, and never said that anything was a bug."""
        self.assertEqual(run.process.returncode, 0, run.log)
        for word in ("Traceback", "Unhandled", "is a bug"):
            self.assertNotIn(word, run.log)


class UnderLoadTests(RestartCase):
    """Many clients, and no calm."""

    async def test_nobody_notices(self) -> None:
        """Nothing is refused, cut or failed, whatever is done to the process."""
        reloads, hand_overs, restarts = (20, 20, 10) if LONG else (3, 2, 1)
        streams, fresh, kept = (100, 5, 5) if LONG else (20, 2, 2)
        deeds = ["reload"] * reloads + ["hand over"] * hand_overs + ["restart"] * restarts
        random.Random(6).shuffle(deeds)
        succession = await self.begin(
            slow_answer(self.pieces, 12.0 if LONG else 3.0),
            grace=60,
            drain_delay=1,
            hand_over_grace=120,
        )
        crowd = Crowd(succession.port, self.pieces)
        crowd.begin(streams=streams, fresh=fresh, kept=kept)
        began = now()
        for deed in deeds:
            await pause(0.2)
            if deed == "reload":
                succession.write(request_max_retries=random.Random(now()).randrange(5))
                await succession.reload()
            elif deed == "hand over":
                await succession.hand_over()
            else:
                await succession.restart()
        await crowd.finish()
        seconds = now() - began
        await succession.stop()
        await until(lambda: all(r.over for r in succession.runs), seconds=PATIENCE, what="all")
        report(
            "restarts",
            deeds=len(deeds),
            processes=len(succession.runs),
            seconds=round(seconds, 1),
            **{what.replace(" ", "_"): count for what, count in crowd.told.items()},
        )
        self.assertEqual(crowd.faults, {})
        for what in ("good stream", "good fresh", "good kept"):
            self.assertGreater(crowd.told[what], 0)
        self.assertEqual(len(succession.runs), 1 + hand_overs + restarts)
        for run in succession.runs:
            self.assert_clean(run)
        # Those that ended in a process that had been taken over from as well.
        self.assertEqual(len(self.traces(succession)), crowd.good)


class HandOverTests(RestartCase):
    """One process takes over from another."""

    async def test_a_stream_ends_where_it_began(self) -> None:
        """The old process finishes it, lets in nobody else, and exits; its port lives on."""
        succession = await self.begin()
        first = succession.present
        streaming = await self.stream(succession)
        second = await succession.hand_over()
        self.assertFalse(first.over)
        wire = await connected(succession.port)
        self.assertEqual((await wire.request("GET", "/ready", HEADERS)).status, 200)
        wire.abort()
        self.upstream.release()
        reply = await streaming
        self.assertEqual((reply.body, reply.complete), (stream_body(self.pieces), True))
        await over(first)
        self.assert_clean(first)
        await succession.stop()
        self.assert_clean(second)
        self.assertEqual(len(self.traces(succession)), 1)

    async def test_one_that_fails_changes_nothing(self) -> None:
        """A fault, or a port that is taken: the old one goes on, and can be replaced yet."""
        succession = await self.begin()
        first = succession.present
        streaming = await self.stream(succession)
        good = list(succession.config["listen"])
        taken = f"tcp:{self.upstream.url.rpartition(':')[2]}:interface=127.0.0.1"
        for listen in ([*good, "tcp:nonsense"], [*good, taken]):
            succession.write(listen=listen)
            run = succession.spawn(["-m", "aiclient2api", "--take-over"])
            await over(run)
            self.assertNotEqual(run.process.returncode, 0)
            self.assertNotIn("Traceback", run.log)
            succession.runs.remove(run)
        self.assertIn("in use", run.log)
        await until(lambda: "did not take over" in first.log, what="the word of it")
        self.assertFalse(first.over)
        self.upstream.release()
        self.assertTrue((await streaming).complete)
        succession.write(listen=good)
        await succession.hand_over()
        await over(first)
        self.assert_clean(first)

    @unless_long
    async def test_killed_in_the_middle(self) -> None:
        """A process that dies after it was given everything has taken nothing."""
        succession = await self.begin()
        first = succession.present
        run = succession.spawn(["-c", _DIES, str(succession.folder / "state")])
        await over(run)
        succession.runs.remove(run)
        self.assertEqual(run.process.returncode, 7, run.log)
        await until(lambda: "did not take over" in first.log, what="the word of it")
        wire = await connected(succession.port)
        for _ in range(3):
            self.assertEqual((await wire.request("GET", "/ready")).status, 200)
        wire.abort()
        await succession.hand_over()
        self.assertEqual((await succession.stop()).process.returncode, 0)

    async def test_what_accounts_have_come_to_goes_along(self) -> None:
        """The new process knows who rests; what the old one learns later changes nothing."""
        limited = True

        def answer(request: Received) -> Script:
            return LIMITED if limited else slow_answer(self.pieces, 0.1)(request)

        succession = await self.begin(request_max_retries=0, wait_for_account=0)
        streaming = await self.stream(succession)
        self.answer = answer
        before = len(self.upstream.requests)
        self.assertEqual((await self.ask(succession)).status, 429)
        self.assertEqual(len(self.upstream.requests), before + 1)
        first = succession.present
        await succession.hand_over()
        limited = False
        self.assertEqual((await self.ask(succession)).status, 429)
        self.assertEqual(len(self.upstream.requests), before + 1)
        # It ends well in the old process, for which the account is fine by now.
        self.upstream.release()
        self.assertTrue((await streaming).complete)
        await over(first)
        await succession.restart()
        self.assertEqual((await self.ask(succession)).status, 429)
        self.assertEqual(len(self.upstream.requests), before + 1)

    async def ask(self, succession: Succession) -> Reply:
        """Ask for a stream on a connection of its own."""
        wire = await connected(succession.port)
        try:
            return await wire.request("POST", CHAT, HEADERS, STREAM)
        finally:
            wire.abort()


class StopTests(RestartCase):
    """SIGTERM to a process with clients."""

    async def test_what_is_too_slow_is_told(self) -> None:
        """An error event ends the stream after ``grace``, and the exit code is 0."""
        succession = await self.begin(grace=8, drain_delay=4)
        streaming = await self.stream(succession)
        kept = await connected(succession.port)
        self.assertEqual((await kept.request("GET", "/ready", HEADERS)).status, 200)
        succession.present.process.send_signal(signal.SIGTERM)
        await until(lambda: "Stopping" in succession.present.log, what="the stop")
        reply = await kept.request("GET", "/ready", HEADERS)
        self.assertEqual((reply.status, reply.json()["reason"]), (503, "draining"))
        self.assertEqual(reply.header(b"connection"), b"close")
        reply = await streaming
        self.assertIn(b'"code":"gateway_stopping"', reply.body)
        self.assertNotIn(b"[DONE]", reply.body)
        run = succession.present
        await over(run)
        self.assert_clean(run)
        self.assertIn("Interrupting 1 requests", run.log)
        self.assertEqual(len(self.traces(succession)), 1)

    async def test_twice(self) -> None:
        """A second signal is a person who has no patience."""
        succession = await self.begin(grace=300)
        streaming = await self.stream(succession)
        run = succession.present
        run.process.send_signal(signal.SIGTERM)
        await until(lambda: "Stopping" in run.log, what="the stop")
        run.process.send_signal(signal.SIGTERM)
        self.assertIn(b"gateway_stopping", (await streaming).body)
        await over(run)
        self.assert_clean(run)

    @unless_long
    async def test_the_successor_takes_the_others_along(self) -> None:
        """When it stops, those that still finish their streams have ``grace`` and no more."""
        succession = await self.begin(grace=1.0, drain_delay=0)
        first = succession.present
        streaming = await self.stream(succession)
        await succession.hand_over()
        await succession.hand_over()
        # Neither did the second one, whose end has come already, take it along.
        await pause(2.5)
        self.assertEqual([run.over for run in succession.runs], [False, True, False])
        await succession.stop()
        self.assertIn(b"gateway_stopping", (await streaming).body)
        await over(first)
        for run in succession.runs:
            self.assert_clean(run)


_DIES = """
import os, sys
from pathlib import Path
from aiclient2api.handing import TakingOver
taking = TakingOver(Path(sys.argv[1]))
taken = taking.take()
assert [name for name, _ in taken] == ["systemd:domain=INET:index=0"], taken
taking.ready([name for name, _ in taken])
os._exit(7)
"""
"""Takes over up to the last step."""
