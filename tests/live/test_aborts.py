"""
Clients leave in every phase, in every pair of dialects: the upstream is let go, and what it
sent is booked.

Two hundred of them every day, two thousand with AICLIENT2API_LONG=1. An upstream counts
the tokens that it sent before it saw the close; what is booked may differ from their sum by
one percent. ``docs/cancellation.md`` has the phases.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.trial.unittest import TestCase

from aiclient2api import tap
from aiclient2api.observe.usage import Row
from aiclient2api.testing import (
    STREAM_HEAD,
    Blackhole,
    Chunk,
    Close,
    Connection,
    Flood,
    Head,
    Hold,
    Received,
    Reset,
    Script,
    ScriptedUpstream,
    Send,
    Step,
    Wait,
    chat_body,
    gemini_body,
    messages_body,
    responses_body,
)
from aiclient2api.upstream.fetching import ImageFetcher
from aiclient2api.web.keys import Keyring
from tests.live.aborts import LEAVING, PROMPT, WORDS, Abort, Crowd, Play, frames, tokens
from tests.live.gateway import ACCOUNT_KEY, PROVIDERS, LiveGateway
from tests.live.measure import (
    RawClient,
    front,
    milliseconds,
    now,
    pause,
    paused,
    relays,
    report,
    until,
    watched,
)

LONG = bool(os.environ.get("AICLIENT2API_LONG"))
SEED = 20261128
AT_ONCE = 16
"""Clients at a time."""

SPREAD = 1.0 if LONG else 0.1
"""Seconds over which they leave: not in step, nor at the same place in a record."""

ROOM = 20.0
"""Seconds from a client's close to the upstream's, on a machine with other things to do."""

OPEN_AFTER = 0.2
"""Seconds after which no upstream may be open, on a machine that has time."""

COUNTS = {
    # phase: (every day, in all)
    "body": (16, 96),
    "account": (12, 96),
    "connecting": (12, 96),
    "headers": (16, 192),
    "error": (16, 160),
    "between": (16, 128),
    "first": (16, 192),
    "mid": (32, 484),
    "caught up": (16, 96),
    "whole": (16, 192),
    "paused": (8, 96),
    "renewal": (16, 96),
    "image": (12, 76),
    "models": (12, 96),
}
NO_TOKENS = (0, 0, 0, 0, 0)
_WHOLE: dict[str, Callable[..., bytes]] = {
    "openai-chat": chat_body,
    "openai-responses": responses_body,
    "anthropic-messages": messages_body,
    "gemini": gemini_body,
}
_TOTAL: dict[str, Any] = {"aborts": 0, "closed": [], "ran": [], "late": 0, "sent": 0, "booked": 0}
"""What came of all phases that ran in this process."""

Ready = Callable[[Abort], object]


def stood_still() -> float:
    """Return for how many seconds this thread has waited for a processor that others had."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def _held(abort: Abort) -> Iterator[Step]:
    yield Hold()


def _asked(abort: Abort) -> bool:
    return abort.asked > 0


def _tokens(row: Row) -> tuple[int | None, ...]:
    told = row.tokens
    return (told.input, told.output, told.cached, told.cache_write, told.reasoning)


class AbortsTests(TestCase):
    """Each phase of `COUNTS`."""

    timeout = 600 if LONG else 120

    def setUp(self) -> None:
        """Choose in the same way each time."""
        self.rng = random.Random(SEED)
        self.observer = watched(self)
        self.gateway: LiveGateway
        self.stood_still: dict[Connection, float] = {}
        lost = ScriptedUpstream._lost

        def noted(upstream: ScriptedUpstream, wire: Any, reason: Any) -> None:
            self.stood_still[wire.connection] = stood_still()
            lost(upstream, wire, reason)

        self.patch(ScriptedUpstream, "_lost", noted)

    async def begin(self, play: Play, **options: Any) -> Crowd:
        """Start a gateway whose upstreams do that."""
        crowd: list[Crowd] = []
        self.gateway = gateway = LiveGateway(
            self, answer=lambda request: crowd[0].answer(request), **options
        )
        crowd.append(Crowd(gateway, play))
        await gateway.start()
        return crowd[0]

    def count(self, phase: str) -> int:
        """Return how many leave in a phase."""
        return COUNTS[phase][LONG]

    async def everybody(
        self, phase: str, crowd: Crowd, ready: Ready = _asked, **asked: Any
    ) -> list[Abort]:
        """Let all come, and leave as soon as they are *ready*."""
        aborts = crowd.add(self.count(phase), self.rng, **asked)
        if LONG and phase == "mid":
            # As long as answers are: of a few tokens one that is on its way is some percent.
            for abort in aborts:
                abort.goal *= 6
        turns = DeferredSemaphore(AT_ONCE)
        await gatherResults(
            [
                turns.run(lambda each: Deferred.fromCoroutine(self.one(each, ready)), abort)
                for abort in aborts
            ],
            consumeErrors=True,
        )
        await until(lambda: not front(self.gateway).in_flight, ROOM, "nothing in flight")
        return aborts

    async def one(self, abort: Abort, ready: Ready) -> None:
        """Come, and leave."""
        wire = abort.wire = await self.gateway.connect()
        wire.send(abort.request(self.gateway.key))
        while not ready(abort):
            self.assertFalse(wire.lost, f"{abort}: {bytes(wire.received[:500])!r}")
            await pause(0.05)
        await pause(self.rng.random() * SPREAD)
        await self.leave(abort, LEAVING[abort.number % len(LEAVING)])

    async def leave(self, abort: Abort, how: Callable[[Any], None]) -> None:
        """Leave, and wait until the upstream has seen it."""
        connection = abort.connection
        assert connection is not None
        self.assertIsNone(connection.closed, "The upstream was closed too early.")
        abort.left, abort.stood_still = now(), stood_still()
        how(abort.wire)
        # Seldom: forty that look all the time would be what the gateway has to wait for.
        while connection.closed is None:
            self.assertLess(now(), abort.left + ROOM, "The upstream was not closed.")
            await pause(0.05)

    async def rows(self) -> dict[int, Row]:
        """Return what is booked, by the client's number; each has one row."""
        caller = Keyring([self.gateway.key]).who(presented=[self.gateway.key])
        found = await self.gateway.world._usage.rows(caller.id)
        numbered = [(int(row.asked.partition("m-")[2].strip("x")), row) for row in found.values()]
        once = Counter(number for number, _ in numbered)
        self.assertEqual(set(), {number for number, count in once.items() if count > 1})
        return dict(numbered)

    async def settle(
        self, phase: str, crowd: Crowd, *, tokens: tuple[int | None, ...] | None = NO_TOKENS
    ) -> dict[int, Row]:
        """
        Check what is promised of each of them, and report.

        :param tokens: What each row has; None: as many as were sent.
        """
        aborts = list(crowd.aborts.values())
        rows = await self.rows()
        self.assertEqual(sorted(crowd.aborts), sorted(rows))
        self.assertEqual({"cancelled"}, {row.how for row in rows.values()})
        self.assertEqual({abort.asked for abort in aborts}, {aborts[0].asked})
        if tokens is not None:
            self.assertEqual({tokens}, {_tokens(row) for row in rows.values()})
        closed, waits = [], []
        for abort in aborts:
            connection = abort.connection
            if connection is not None and connection.closed is not None:
                closed.append(connection.closed - abort.left)
                waits.append(self.stood_still[connection] - abort.stood_still)
        sent = sum(abort.sent for abort in aborts)
        booked = sum(row.tokens.output or 0 for row in rows.values())
        self.report(phase, len(aborts), closed, waits, sent, booked)
        return rows

    def report(
        self,
        phase: str,
        count: int,
        closed: list[float],
        waits: list[float] | None = None,
        sent: int = 0,
        booked: int = 0,
    ) -> None:
        """
        Tell what came of a phase, and of all so far.

        :param closed: Seconds from a client's close to the upstream's.
        :param waits: How many of them this process was ready to run, and others ran.
        """
        ran = [took - wait for took, wait in zip(closed, waits or [0.0] * len(closed), strict=True)]
        late = sum(seconds > OPEN_AFTER for seconds in ran)
        figures: dict[str, object] = {"aborts": count, "open_after_200_ms": late}
        if len(closed) > 1:
            figures.update(milliseconds(closed))
            figures.update({f"{name} running": n for name, n in milliseconds(ran).items()})
        if sent:
            figures.update(sent=sent, booked=booked, off=f"{100 * (booked / sent - 1):+.2f} %")
        report(f"aborts, {phase}", **figures)
        total = _TOTAL
        total["aborts"] += count
        total["closed"] += closed
        total["ran"] += ran
        total["late"] += late
        total["sent"] += sent
        total["booked"] += booked
        off = abs(total["booked"] - total["sent"]) / max(1, total["sent"])
        report(
            "aborts, all so far",
            aborts=total["aborts"],
            open_after_200_ms=total["late"],
            sent=total["sent"],
            booked=total["booked"],
            off_percent=round(100 * off, 3),
            **milliseconds([*total["closed"], 0.0, 0.0]),
            **{f"{k} running": n for k, n in milliseconds([*total["ran"], 0.0, 0.0]).items()},
        )
        if LONG:
            self.assertEqual(0, late)

    # --- the phases

    async def test_body_arriving(self) -> None:
        """The request is not here yet: nobody is asked, and nothing is booked."""
        crowd = await self.begin(_held)
        aborts = crowd.add(self.count("body"), self.rng)
        gone: list[float] = []
        for abort in aborts:
            wire = abort.wire = await self.gateway.connect()
            request = abort.request(self.gateway.key)
            wire.send(request[: self.rng.randint(20, len(request) - 1)])
            await pause(0.002)
            left, others = now(), self.gateway.connections
            LEAVING[abort.number % len(LEAVING)](wire)
            if LEAVING[abort.number % len(LEAVING)] is not LEAVING[2]:
                await until(partial(self._fewer, others), ROOM, "the gateway lets go of the client")
                gone.append(now() - left)
            else:
                wire.abort()
        await until(lambda: not self.gateway.connections, ROOM, "nobody is left")
        self.assertEqual({}, await self.rows())
        self.assertEqual({0}, {abort.asked for abort in aborts})
        self.report("body arriving", len(aborts), [])

    def _fewer(self, than: int) -> bool:
        return self.gateway.connections < than

    async def test_waiting_for_an_account(self) -> None:
        """All accounts are busy: the place in the queue is given up, and nobody is asked."""
        busy: dict[str, Callable[[LiveGateway], list[dict[str, object]]]] = {
            name: partial(_busy, name) for name in PROVIDERS
        }
        crowd = await self.begin(_held, accounts=busy)
        holders = [
            Abort(9000 + at, "openai-chat", name, False, 0) for at, name in enumerate(PROVIDERS)
        ]
        crowd.aborts = {each.number: each for each in holders}
        for each in holders:
            each.wire = await self.gateway.connect()
            each.wire.send(each.request(self.gateway.key))
        await until(lambda: all(each.asked for each in holders), ROOM, "all are busy")
        crowd.aborts = {}
        aborts = crowd.add(self.count("account"), self.rng)
        for abort in aborts:
            wire = abort.wire = await self.gateway.connect()
            wire.send(abort.request(self.gateway.key))
        await until(lambda: front(self.gateway).in_flight == len(aborts) + 4, ROOM, "all wait")
        await pause(0.05)
        for abort in aborts:
            LEAVING[abort.number % len(LEAVING)](abort.wire)  # type: ignore[arg-type]
        await until(lambda: front(self.gateway).in_flight == 4, ROOM, "all have left")
        rows = await self.settle("waiting for an account", crowd)
        self.assertEqual({False}, {row.estimated for row in rows.values()})
        self.assertEqual({0}, {abort.asked for abort in aborts})
        self.assertEqual({0}, {row.attempts for row in rows.values()})

    async def test_connecting(self) -> None:
        """The upstream cannot be reached: the attempt to connect is given up."""
        hole = Blackhole()
        self.addCleanup(hole.close)
        pools = Path(self.mktemp()).absolute()
        accounts = {
            name: [{key: ACCOUNT_KEY, url: hole.url + base}]
            for name, (_, key, url, base) in PROVIDERS.items()
        }
        pools.write_text(json.dumps(accounts))
        # Longer than all of them take to come: none is to give up by itself.
        config = {"provider_pools_file_path": str(pools), "timeouts": {"connect": 300}}
        crowd = await self.begin(_held, config=config)
        aborts = crowd.add(self.count("connecting"), self.rng)
        for abort in aborts:
            abort.wire = await self.gateway.connect()
            abort.wire.send(abort.request(self.gateway.key))
        await until(lambda: hole.connecting() == len(aborts), ROOM, "all are connecting")
        took, waits = [], []
        for abort in aborts:
            left, stood, others = now(), stood_still(), front(self.gateway).in_flight - 1
            LEAVING[abort.number % len(LEAVING)](abort.wire)  # type: ignore[arg-type]
            await until(partial(self._in_flight, others), ROOM, "one request less")
            took.append(now() - left)
            waits.append(stood_still() - stood)
        await until(lambda: not hole.connecting(), ROOM, "no socket is left")
        await self.settle("connecting (rows)", crowd)
        self.report("connecting", 0, took, waits)

    def _in_flight(self, most: int) -> bool:
        return front(self.gateway).in_flight <= most

    async def test_waiting_for_headers(self) -> None:
        """The upstream is still thinking: zero is booked, as an estimate."""
        crowd = await self.begin(_held)
        await self.everybody("headers", crowd)
        rows = await self.settle("waiting for headers", crowd)
        self.assertEqual({True}, {row.estimated for row in rows.values()})

    async def test_error_body(self) -> None:
        """Half of an error has come in."""

        def play(abort: Abort) -> Iterator[Step]:
            kind = (b"content-type", b"application/json")
            yield Head(400, (kind, (b"content-length", b"999")))
            yield Send(b'{"error":{"message":"No')
            yield Hold()

        crowd = await self.begin(play)
        await self.everybody("error", crowd)
        await self.settle("error body", crowd)

    async def test_between_attempts(self) -> None:
        """The next attempt is far away: it is never made."""

        def play(abort: Abort) -> Iterator[Step]:
            told = b'{"error":{"message":"Full."}}'
            length = (b"content-length", b"%d" % len(told))
            yield Head(503, (length, (b"connection", b"close")))
            yield Send(told)
            yield Close()

        config = {"request_base_delay": 60_000, "retry_budget": False}
        crowd = await self.begin(play, config=config)
        aborts = crowd.add(self.count("between"), self.rng)
        for abort in aborts:
            abort.wire = await self.gateway.connect()
            abort.wire.send(abort.request(self.gateway.key))
        await until(lambda: len(self.observer.errors) == len(aborts), ROOM, "all have failed once")
        for abort in aborts:
            LEAVING[abort.number % len(LEAVING)](abort.wire)  # type: ignore[arg-type]
            abort.connection = None
        await until(lambda: not front(self.gateway).in_flight, ROOM, "nothing in flight")
        rows = await self.settle("between attempts", crowd)
        self.assertEqual({False}, {row.estimated for row in rows.values()})
        self.assertEqual({1}, {abort.asked for abort in aborts})

    async def test_before_the_first_event(self) -> None:
        """The head has come, and a bare start; no token yet."""

        def play(abort: Abort) -> Iterator[Step]:
            yield STREAM_HEAD
            yield Chunk(b": begun\n\n")
            for frame, token in frames(abort):
                if token:
                    break
                yield Chunk(frame)
            # Anthropic tells of the first token before anything of it is to be seen.
            abort.sent = int(abort.target == "anthropic-messages")
            yield Hold()

        crowd = await self.begin(play)
        await self.everybody("first", crowd)
        rows = await self.settle("before the first event", crowd, tokens=None)
        for number, row in rows.items():
            if crowd.aborts[number].target == "anthropic-messages":
                self.assertEqual((PROMPT, 1), (row.tokens.input, row.tokens.output))
            else:
                self.assertIn(row.tokens.input, range(PROMPT // 3, PROMPT + 1))
                self.assertEqual(0, row.tokens.output)

    async def test_mid_stream(self) -> None:
        """Tokens flow: they are booked, one for one."""
        crowd = await self.begin(tokens)
        await self.everybody("mid", crowd, lambda abort: abort.sent >= abort.goal)
        rows = await self.settle("mid-stream", crowd, tokens=None)
        for number, row in rows.items():
            abort = crowd.aborts[number]
            exact = abort.tells and abort.target == "gemini"
            self.assertIn(row.tokens.output, range(abort.received, abort.sent + 1), abort)
            self.assertEqual(not exact, row.estimated, abort)
            if abort.target == "anthropic-messages" or exact:
                self.assertEqual(PROMPT, row.tokens.input)
            else:
                self.assertIn(row.tokens.input, range(PROMPT // 3, PROMPT + 1))
        sent = sum(abort.sent for abort in crowd.aborts.values())
        booked = sum(row.tokens.output or 0 for row in rows.values())
        # A machine that is busy lets upstreams send more before they see the close.
        self.assertLess(abs(booked - sent) / sent, 0.01 if LONG else 0.25)

    async def test_another_run_catches_up(self) -> None:
        """A stream broke off and is asked for again: what was seen of both runs is booked."""

        def play(abort: Abort) -> Iterator[Step]:
            if abort.asked == 1:
                yield from tokens(abort, most=abort.goal)
                yield Wait(0.1)
                yield Reset()
            # Of the other run nothing has come yet.
            yield Hold()

        config = {"on_cut": "resume", "request_max_retries": 1, "request_base_delay": 10}
        crowd = await self.begin(play, config={**config, "retry_budget": False})
        await self.everybody("caught up", crowd, lambda abort: abort.asked == 2)
        rows = await self.settle("another run catches up", crowd, tokens=None)
        for number, row in rows.items():
            abort = crowd.aborts[number]
            self.assertEqual((abort.sent, 2), (row.tokens.output, row.attempts), abort)

    async def test_whole_answer(self) -> None:
        """A piece of an answer that is no stream has come in: its text is measured."""

        def play(abort: Abort) -> Iterator[Step]:
            words = [WORDS[at % len(WORDS)] for at in range(300)]
            body = _WHOLE[abort.target]("".join(words))
            shown = body.index("".join(words[: 2 * abort.goal]).encode())
            shown += len("".join(words[: 2 * abort.goal]))
            kind = (b"content-type", b"application/json")
            yield Head(200, (kind, (b"content-length", b"%d" % len(body))))
            abort.sent = 2 * abort.goal
            yield Send(body[:shown])
            yield Hold()

        crowd = await self.begin(play)
        await self.everybody("whole", crowd, self._fed, streaming=False)
        rows = await self.settle("whole answer", crowd, tokens=None)
        for number, row in rows.items():
            abort = crowd.aborts[number]
            # No piece tells where a token ends: the text's shape has to do.
            self.assertApproximates(row.tokens.output or 0, abort.sent, 0.25 * abort.sent + 2)
            self.assertTrue(row.estimated)

    def _fed(self, abort: Abort) -> bool:
        return abort.sent > 0

    async def test_paused_by_a_slow_client(self) -> None:
        """The client did not read, so the upstream was stopped: it is let go all the same."""

        def play(abort: Abort) -> Iterator[Step]:
            yield from tokens(abort, most=abort.goal, gap=0.0)
            # What no client has to read fills the buffers, and is no token.
            yield Flood(40_000_000, b": " + b"x" * 16_000 + b"\n\n")

        crowd = await self.begin(play)
        aborts = crowd.add(self.count("paused"), self.rng)
        for start in range(0, len(aborts), 8):
            wave = aborts[start : start + 8]
            for abort in wave:
                # Between dialects a comment is not passed on.
                abort.provider = next(n for n in PROVIDERS if PROVIDERS[n][0] == abort.dialect)
            clients = [RawClient(self.gateway.port) for _ in wave]
            for abort, client in zip(wave, clients, strict=True):
                self.addCleanup(client.close)
                client.send(abort.request(self.gateway.key))
            await until(partial(self._stopped, len(wave)), ROOM, "all are paused")
            for abort, client in zip(wave, clients, strict=True):
                await self.leave(abort, lambda _, client=client: client.close(reset=bool(_)))  # type: ignore[misc]
        await until(lambda: not front(self.gateway).in_flight, ROOM, "nothing in flight")
        rows = await self.settle("paused by a slow client", crowd, tokens=None)
        for number, row in rows.items():
            self.assertEqual(crowd.aborts[number].sent, row.tokens.output)

    def _stopped(self, count: int) -> bool:
        return sum(paused(relay) for _, relay in relays(self.gateway)) == count

    async def test_during_a_renewal(self) -> None:
        """A token is renewed: who waits for it leaves, the renewal goes on for the others."""
        vendor = ScriptedUpstream(lambda request: (Hold(),))
        self.addCleanup(vendor.stop)
        await vendor.listen(_reactor())
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        login = {"access_token": "old", "refresh_token": "r", "expiry_date": 1000}
        (folder / "creds.json").write_text(json.dumps(login))
        account = {
            "gemini_oauth_creds_file_path": str(folder / "creds.json"),
            "gemini_base_url": vendor.url,
            "gemini_oauth_token_url": vendor.url + "/token",
            "gemini_oauth_client_id": "id",
            "gemini_oauth_client_secret": "secret",
            "project_id": "p",
        }
        crowd = await self.begin(_held, accounts={"gemini-cli-oauth": [account]})
        aborts = crowd.add(self.count("renewal"), self.rng, provider="gemini-cli-oauth")
        for abort in aborts:
            abort.wire = await self.gateway.connect()
            abort.wire.send(abort.request(self.gateway.key))
        await until(lambda: front(self.gateway).in_flight == len(aborts), ROOM, "all wait")
        await until(lambda: vendor.requests, ROOM, "it is renewed")
        for abort in aborts:
            LEAVING[abort.number % len(LEAVING)](abort.wire)  # type: ignore[arg-type]
        await until(lambda: not front(self.gateway).in_flight, ROOM, "nothing in flight")
        rows = await self.settle("during a renewal", crowd)
        self.assertEqual({False}, {row.estimated for row in rows.values()})
        # One for all, and it is not given up: what it brings has to be kept.
        self.assertEqual(1, len(vendor.requests))
        self.assertEqual(1, vendor.open)

    async def test_fetching_an_image(self) -> None:
        """A picture is fetched for the upstream: its connection is closed, nobody is asked."""
        anywhere = partial(ImageFetcher, allowed=lambda address: True, ports=range(65536))
        self.patch(tap, "ImageFetcher", anywhere)
        pictures = ScriptedUpstream(lambda request: self._picture(request))
        self.addCleanup(pictures.stop)
        await pictures.listen(_reactor())
        crowd = await self.begin(_held, config={"fetch_images": True})
        crowd.add(self.count("image"), self.rng, provider="gemini-custom")
        aborts = list(crowd.aborts.values())
        took: list[float] = []
        for abort in aborts:
            abort.dialect = ("openai-chat", "openai-responses", "anthropic-messages")[
                abort.number % 3
            ]
            before = len(pictures.requests)
            abort.wire = await self.gateway.connect()
            image = f"{pictures.url}/{abort.number}.png"
            abort.wire.send(abort.request(self.gateway.key, image))
            await pictures.when_requests(before + 1)
            connection = pictures.requests[before].connection
            abort.connection = connection
            await self.leave(abort, LEAVING[abort.number // 3 % len(LEAVING)])
            assert connection.closed is not None
            took.append(connection.closed - abort.left)
            abort.connection = None
        await until(lambda: not front(self.gateway).in_flight, ROOM, "nothing in flight")
        rows = await self.settle("fetching an image (rows)", crowd)
        self.assertEqual({False}, {row.estimated for row in rows.values()})
        self.assertEqual({0}, {abort.asked for abort in aborts})
        self.report("fetching an image", 0, took)

    def _picture(self, request: Received) -> Script:
        if len(request.target) % 2:
            return (Hold(),)
        lines = ((b"content-type", b"image/png"), (b"content-length", b"9999"))
        return (Head(200, lines), Send(b"\x89PNG\r\n\x1a\n"), Hold())

    async def test_list_of_models(self) -> None:
        """A list of models is asked for: no row, and the connection is closed."""
        crowd = await self.begin(_held)
        took: list[float] = []
        number = 0
        while len(took) < self.count("models"):
            path = ("/v1/models", "/v1beta/models")[number % 2]
            before = len(crowd.strangers)
            wire = await self.gateway.connect()
            lines = f"host: x\r\nauthorization: Bearer {self.gateway.key}\r\n"
            wire.send(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
            await until(partial(self._asked_by_now, crowd, before), ROOM, "the list is asked for")
            await pause(0.01)
            asked = [each.connection for each in crowd.strangers[before:]]
            left = now()
            LEAVING[number % len(LEAVING)](wire)
            for connection in asked:
                await until(partial(_closed, connection), ROOM, "the upstream's close")
                took.append((connection.closed or 0.0) - left)
            number += 1
        await until(lambda: not front(self.gateway).in_flight, ROOM, "nothing in flight")
        self.assertEqual({}, await self.rows())
        self.report("list of models", len(took), took)

    def _asked_by_now(self, crowd: Crowd, before: int) -> bool:
        return len(crowd.strangers) > before


def _closed(connection: Any) -> bool:
    return connection.closed is not None


def _busy(name: str, gateway: LiveGateway) -> list[dict[str, object]]:
    return [gateway.entry(name, concurrencyLimit=1, queueLimit=999)]


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor
