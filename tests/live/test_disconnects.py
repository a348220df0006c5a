"""
A client that leaves is noticed in every phase, and its upstream is let go at once.

Fifty clients in each phase: some hang up politely, some break the connection, some only
shut down their sending side; half of them had a request answered on that connection
before. Afterwards nothing of them is left: no socket, no request in flight, no timer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from aiclient2api.testing import (
    STREAM_HEAD,
    Blackhole,
    Chunk,
    Close,
    Connection,
    Flood,
    Head,
    Hold,
    MemoryObserver,
    Received,
    Script,
    Send,
    chat_body,
    chat_chunks,
)
from tests.live.gateway import ACCOUNT_KEY, LiveGateway, Wire, good_answer
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

CLIENTS = 50
REACTOR: Any = reactor
FRAMES = chat_chunks(["Once ", "upon ", "a time"])
WHOLE = chat_body("Once upon a time")
MID_STREAM: Script = (STREAM_HEAD, *(Chunk(frame) for frame in FRAMES[:3]), Hold())
LONG = b"%d" % (2 * len(WHOLE))
ROOM = 2.0
"""Seconds from a client's close to the upstream's: only a gross delay fails a test."""


def _fin(wire: Wire) -> None:
    wire.transport.loseConnection()  # type: ignore[union-attr]


def _rst(wire: Wire) -> None:
    wire.abort()


def _half(wire: Wire) -> None:
    wire.transport.loseWriteConnection()  # type: ignore[union-attr]


LEAVING: Sequence[Callable[[Wire], None]] = (_fin, _rst, _half)


@attrs.define
class Crowd:
    """
    Clients whose requests are all in the same phase.

    :ivar wires: By the number that each has put into its request.
    """

    gateway: LiveGateway
    wires: dict[int, Wire] = attrs.field(factory=dict)

    async def come(self, *, streaming: bool) -> None:
        """Connect, and send the requests; every other one on a connection used before."""
        for number in range(CLIENTS):
            wire = self.wires[number] = await self.gateway.connect()
            if number % 2:
                reply = await wire.request("POST", *self._request("before", streaming))
                assert reply.status == 200
        for number, wire in self.wires.items():
            # Nobody reads the answer; it only has to be asked for.
            wire.request("POST", *self._request(number, streaming)).addErrback(lambda _: None)

    async def one(self, number: int) -> Wire:
        """Connect, and send one request for a stream."""
        wire = await self.gateway.connect()
        wire.request("POST", *self._request(number, True)).addErrback(lambda _: None)
        return wire

    def _request(self, number: object, streaming: bool) -> tuple[str, Any, bytes]:
        body = {"model": "m-1", "messages": [], "stream": streaming, "number": number}
        return "/v1/chat/completions", self.gateway.bearer, json.dumps(body).encode()


def _number(request: Received) -> object:
    return json.loads(request.body)["number"]


class DisconnectTests(TestCase):
    """Each phase, against an upstream that stops in it."""

    timeout = 30

    async def _start(self, script: Script, **config: object) -> LiveGateway:
        """Start a gateway whose upstream stops where *script* does."""
        self.observer = watched(self)

        def answer(request: Received) -> Script:
            return good_answer(request) if _number(request) == "before" else script

        gateway = LiveGateway(self, answer=answer, config=config)
        return await gateway.start()

    async def _leave(self, crowd: Crowd) -> list[float]:
        """Let all leave, one by one; return how long each upstream took to see it."""
        upstream = crowd.gateway.upstreams["openai-custom"]
        asked = {_number(each): each.connection for each in upstream.requests}
        took = []
        for number, wire in crowd.wires.items():
            connection = asked[number]
            self.assertIsNone(connection.closed, "The upstream was closed too early.")
            left = now()
            LEAVING[number % len(LEAVING)](wire)
            took.append(await self._closed(connection) - left)
        return took

    async def _closed(self, connection: Connection) -> float:
        await until(lambda: connection.closed is not None, ROOM, "the upstream's close")
        assert connection.closed is not None
        return connection.closed

    async def _all_gone(self, gateway: LiveGateway, observer: MemoryObserver) -> None:
        """Nothing is left of anybody."""
        await until(lambda: not gateway.connections, what="the gateway lets go of the clients")
        await until(lambda: not front(gateway).in_flight, what="nothing in flight")
        upstream = gateway.upstreams["openai-custom"]
        used = {each.connection.number for each in upstream.requests if _number(each) != "before"}
        left = [each.number for each in upstream.connections if each.closed is None]
        self.assertEqual(set(), used.intersection(left))
        ways = [outcome.how for outcome in observer.outcomes.values()]
        self.assertEqual(CLIENTS, ways.count("cancelled"), ways)
        self.assertLessEqual(set(ways), {"cancelled", "complete"})

    async def _phase(self, name: str, script: Script, *, streaming: bool = True) -> None:
        gateway = await self._start(script)
        upstream = gateway.upstreams["openai-custom"]
        crowd = Crowd(gateway)
        await crowd.come(streaming=streaming)
        await upstream.when_requests(CLIENTS + CLIENTS // 2)
        self.assertEqual(CLIENTS, front(gateway).in_flight)
        took = await self._leave(crowd)
        await self._all_gone(gateway, self.observer)
        report(f"disconnects, {name}", **milliseconds(took))

    async def test_waiting_for_headers(self) -> None:
        """The upstream has the request and is still thinking."""
        await self._phase("waiting for headers", (Hold(),))

    async def test_before_the_first_event(self) -> None:
        """The upstream has sent its headers and a bare start, held back here."""
        await self._phase("before the first event", (STREAM_HEAD, Chunk(FRAMES[0]), Hold()))

    async def test_mid_stream(self) -> None:
        """The client has begun to get its stream."""
        await self._phase("mid-stream", MID_STREAM)

    async def test_whole_answer_half_received(self) -> None:
        """Half of an answer that is no stream has come in."""
        head = Head(200, ((b"content-type", b"application/json"), (b"content-length", LONG)))
        await self._phase("not streaming", (head, Send(WHOLE), Hold()), streaming=False)

    async def test_error_answer_half_received(self) -> None:
        """Half of an error answer has come in."""
        head = Head(400, ((b"content-type", b"application/json"), (b"content-length", LONG)))
        await self._phase("half an error", (head, Send(WHOLE), Hold()))

    async def test_all_at_once(self) -> None:
        """Fifty clients that leave in one moment, mid-stream."""
        gateway = await self._start(MID_STREAM)
        upstream = gateway.upstreams["openai-custom"]
        crowd = Crowd(gateway)
        await crowd.come(streaming=True)
        await upstream.when_requests(CLIENTS + CLIENTS // 2)
        left = now()
        for number, wire in crowd.wires.items():
            LEAVING[number % len(LEAVING)](wire)
        streams = [each.connection for each in upstream.requests if _number(each) != "before"]
        took = [await self._closed(connection) - left for connection in streams]
        self.assertLess(max(took), ROOM)
        await self._all_gone(gateway, self.observer)
        report("disconnects, all at once", **milliseconds(took))

    async def test_with_more_requests_sent_behind(self) -> None:
        """Whatever a client has sent behind its request, its leaving is noticed."""
        gateway = await self._start(MID_STREAM)
        upstream = gateway.upstreams["openai-custom"]
        for extra in (1_000, 30_000, 300_000):
            for leave in LEAVING:
                crowd = Crowd(gateway)
                wire = await crowd.one(0)
                await until(partial(wire.received.count, b"data: "), what="a stream")
                wire.send(b"POST / HTTP/1.1\r\ncontent-length: 999999\r\n\r\n" + b"x" * extra)
                await pause(0.05)
                if not wire.lost:
                    leave(wire)
                await upstream.when_closed(len(upstream.connections)).addTimeout(ROOM, REACTOR)
                await until(lambda: not front(gateway).in_flight, what="nothing in flight")

    async def test_while_a_retry_waits(self) -> None:
        """The first attempt failed and the next one is far away: it is never made."""
        told = b'{"error":{"message":"Full.","code":"overloaded_error"}}'
        length = b"%d" % len(told)
        lines = ((b"content-length", length), (b"connection", b"close"))
        script = (Head(503, lines), Send(told), Close())
        gateway = await self._start(script, request_base_delay=60_000, retry_budget=False)
        upstream = gateway.upstreams["openai-custom"]
        crowd = Crowd(gateway)
        await crowd.come(streaming=True)
        await until(lambda: len(self.observer.errors) == CLIENTS + CLIENTS // 2, 5, "all failed")
        self.assertEqual(CLIENTS, front(gateway).in_flight)
        took = []
        for number, wire in crowd.wires.items():
            left, before = now(), front(gateway).in_flight
            LEAVING[number % len(LEAVING)](wire)
            await until(partial(self._fewer_than, before, gateway), ROOM, "its end")
            took.append(now() - left)
        await self._all_gone(gateway, self.observer)
        asked = sum(_number(each) != "before" for each in upstream.requests)
        self.assertEqual(CLIENTS, asked, "An attempt was made for somebody who had left.")
        report("disconnects, while a retry waits", **milliseconds(took))

    async def test_connecting(self) -> None:
        """The upstream cannot be reached: the attempt to connect is given up."""
        hole = Blackhole()
        self.addCleanup(hole.close)
        pools = Path(self.mktemp()).absolute()
        account = {"openai_api_key": ACCOUNT_KEY, "openai_base_url": hole.url + "/v1"}
        pools.write_text(json.dumps({"openai-custom": [account]}))
        observer = watched(self)
        gateway = LiveGateway(self, config={"provider_pools_file_path": str(pools)})
        await gateway.start()
        body = json.dumps({"model": "m-1", "messages": [], "stream": True}).encode()
        wires = [await gateway.connect() for _ in range(CLIENTS)]
        for wire in wires:
            asked = wire.request("POST", "/v1/chat/completions", gateway.bearer, body)
            asked.addErrback(lambda _: None)
        await until(lambda: hole.connecting() == CLIENTS, 5, "all are connecting")
        took = []
        for number, wire in enumerate(wires):
            left, before = now(), front(gateway).in_flight
            LEAVING[number % len(LEAVING)](wire)
            await until(partial(self._fewer_than, before, gateway), ROOM, "its end")
            took.append(now() - left)
        # Not for each: the kernel takes its time to list the sockets of a busy machine.
        await until(lambda: not hole.connecting(), 5, "no socket is left")
        await self._all_gone(gateway, observer)
        report("disconnects, connecting", **milliseconds(took))

    async def test_upstream_paused_by_a_slow_client(self) -> None:
        """The client did not read, so the upstream was stopped: it is let go all the same."""
        waves, total = 5, 40_000_000
        frame = FRAMES[1].replace(b"Once ", b"Once upon a time " * 100)
        gateway = await self._start((STREAM_HEAD, Chunk(FRAMES[0]), Flood(total, frame)))
        upstream = gateway.upstreams["openai-custom"]
        body = json.dumps({"model": "m-1", "messages": [], "stream": True, "number": 0})
        request = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
            f"authorization: Bearer {gateway.key}\r\n\r\n{body}"
        )
        took: list[float] = []
        for _ in range(waves):
            clients = [RawClient(gateway.port) for _ in range(CLIENTS // waves)]
            for client in clients:
                self.addCleanup(client.close)
                client.send(request.encode())
            await until(lambda: self._stopped(gateway) == CLIENTS // waves, 10, "all paused")
            streams = [each for each in upstream.connections if each.closed is None]
            for number, client in enumerate(clients):
                left, closed = now(), upstream.closed
                client.close(reset=bool(number % 2))
                await upstream.when_closed(closed + 1)
                took.append(max(each.closed or 0.0 for each in streams) - left)
            await gatherResults([Deferred.fromCoroutine(self._ended(each)) for each in streams])
        await self._all_gone(gateway, self.observer)
        self.assertLess(upstream.flooded, CLIENTS * total)
        report("disconnects, upstream paused", **milliseconds(took))

    def _fewer_than(self, count: int, gateway: LiveGateway) -> bool:
        return front(gateway).in_flight < count

    async def _ended(self, connection: Connection) -> None:
        await self._closed(connection)

    def _stopped(self, gateway: LiveGateway) -> int:
        return sum(paused(relay) for _, relay in relays(gateway))
