"""
A slow client slows its upstream down: no queue of ours grows in between.

The upstream offers far more than anybody could hold, the client reads next to nothing,
and both sides are looked at while it goes on. The kernel's own buffers are not ours;
they are reported apart.
"""

from __future__ import annotations

import hashlib
import json
import os
import tracemalloc
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.trial.unittest import TestCase

from aiclient2api.testing import (
    STREAM_HEAD,
    Chunk,
    EndChunks,
    Flood,
    Head,
    Received,
    Script,
    chat_chunks,
    gemini_array,
    gemini_chunks,
    messages_events,
    responses_events,
)
from tests.live.gateway import LiveGateway
from tests.live.measure import Held, RawClient, kernel_bytes, pause, paused, relays, report, until

OFFERED = 50_000_000
LIMIT = 512 * 1024
"""Bytes that our buffers and Twisted's may hold for one client that does not read."""

_WORDS = "quite a lot of words " * 40
_ARRAY_HEAD = Head(
    200, ((b"content-type", b"application/json"), (b"transfer-encoding", b"chunked"))
)

LONG = os.environ.get("AICLIENT2API_LONG") == "1"


@attrs.frozen
class Stream:
    """
    A stream that can be made as long as one likes.

    :ivar request: Path and body that ask for it.
    :ivar piece: One record of it that may come any number of times between *first*
        and *last*.
    """

    provider: str
    path: str
    body: bytes
    head: Head
    first: bytes
    piece: bytes
    last: bytes

    def script(self, total: int) -> Script:
        """Return the script that offers so many bytes of records, and ends well."""
        # A chunk without bytes would be the last one.
        first = (Chunk(self.first),) if self.first else ()
        flood = Flood(total, self.piece)
        return (self.head, *first, flood, Chunk(self.last), EndChunks())

    def bytes_of(self, total: int) -> bytes:
        """Return what the client is to get of `script`."""
        return self.first + self.piece * -(-total // len(self.piece)) + self.last

    def request(self, gateway: LiveGateway) -> bytes:
        """Return the request, to be sent as it is."""
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
            f"authorization: Bearer {gateway.key}\r\ncontent-length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


def _cut(frames: Sequence[bytes]) -> tuple[bytes, bytes, bytes]:
    """Return what stands before, in and after the record that holds the words."""
    at = next(at for at, frame in enumerate(frames) if _WORDS.encode() in frame)
    return b"".join(frames[:at]), frames[at], b"".join(frames[at + 1 :])


def _sse(provider: str, path: str, frames: Sequence[bytes], **body: object) -> Stream:
    asked = json.dumps({"model": "m-1", "stream": True, **body}).encode()
    return Stream(provider, path, asked, STREAM_HEAD, *_cut(frames))


_CONTENTS = {"contents": [{"parts": [{"text": "hi"}]}]}
_CHUNKS = gemini_chunks([_WORDS, "."])
_ELEMENTS = [gemini_array([chunk])[1:-1] for chunk in _CHUNKS]
STREAMS = {
    "chat": _sse("openai-custom", "/v1/chat/completions", chat_chunks([_WORDS]), messages=[]),
    "responses": _sse(
        "openaiResponses-custom", "/v1/responses", responses_events([_WORDS]), input="hi"
    ),
    "messages": _sse(
        "claude-custom", "/v1/messages", messages_events([_WORDS]), messages=[], max_tokens=9
    ),
    "gemini": Stream(
        "gemini-custom",
        "/v1beta/models/m-1:streamGenerateContent?alt=sse",
        json.dumps(_CONTENTS).encode(),
        STREAM_HEAD,
        *_cut(_CHUNKS),
    ),
    "gemini array": Stream(
        "gemini-custom",
        "/v1beta/models/m-1:streamGenerateContent",
        json.dumps(_CONTENTS).encode(),
        _ARRAY_HEAD,
        b"[",
        _ELEMENTS[0] + b",\r\n",
        _ELEMENTS[1] + b"]",
    ),
}


class SlowClientTests(TestCase):
    """Clients that read 1 KiB a second, or nothing."""

    timeout = 60

    async def stalled(self, name: str, total: int) -> tuple[LiveGateway, RawClient]:
        """Start a stream of *total* bytes to a client that does not read; wait for the stall."""
        stream = STREAMS[name]

        def answer(request: Received) -> Script:
            return stream.script(total)

        gateway = await LiveGateway(self, default=stream.provider, answer=answer).start()
        self.allocated, _ = tracemalloc.get_traced_memory()
        client = RawClient(gateway.port)
        self.addCleanup(client.close)
        client.send(stream.request(gateway))
        await until(lambda: any(paused(relay) for _, relay in relays(gateway)), 10, "a pause")
        return gateway, client

    async def watch(self, name: str, seconds: int, *, traced: bool = False) -> None:
        """Read slowly for so long; nothing may grow meanwhile."""
        if traced:
            tracemalloc.start()
            self.addCleanup(tracemalloc.stop)
        gateway, client = await self.stalled(name, OFFERED)
        upstream = gateway.upstreams[STREAMS[name].provider]
        # What was under way when it stalled fills the kernel's buffers first.
        looks = [-1, -2]
        while len(set(looks[-3:])) > 1 and len(looks) < 20:
            looks.append(upstream.flooded)
            await pause(1)
        held: list[int] = []
        sent: list[int] = []
        kernel: list[int] = []
        for _ in range(seconds):
            for _ in range(4):
                client.read(256)
                await pause(0.25)
            ((channel, relay),) = relays(gateway)
            held.append(Held.by(channel, relay).total)
            kernel.append(kernel_bytes(channel, relay))
            sent.append(upstream.flooded)
        allocated = tracemalloc.get_traced_memory()[0] - self.allocated
        report(
            f"slow client, {name}, {seconds} s",
            held_bytes_max=max(held),
            **({"allocated_bytes": allocated} if traced else {}),
            offered_bytes=OFFERED,
            sent_bytes_first_second=sent[0],
            sent_bytes_last_second=sent[-1],
            read_bytes=len(client.raw),
            kernel_bytes_max=max(kernel),
        )
        self.assertLess(max(held), LIMIT, held)
        # The scripted upstream's own buffers and every first use are counted in.
        self.assertLess(allocated, 2 * LIMIT, "Memory is taken that is in no buffer we know.")
        self.assertLess(sent[-1] - sent[0], LIMIT, sent)
        # The kernel makes room seldom and much at a time: most seconds nothing moves.
        self.assertLessEqual(len(set(sent)), 1 + seconds // 10, sent)
        self.assertLess(sent[-1], OFFERED / 2, sent)
        self.assertGreaterEqual(len(client.raw), 900 * seconds)
        # It really was the slow client that held everything up.
        self.assertTrue(paused(relays(gateway)[0][1]))

    async def test_many_seconds(self) -> None:
        """At 1 KiB/s of 50 MB less than 512 KiB is held, and the upstream stands still."""
        await self.watch("chat", 20 if LONG else 12, traced=True)

    async def test_every_dialect_and_framing(self) -> None:
        """The same, for a shorter while, whatever is relayed."""
        names = [name for name in STREAMS if name != "chat"]
        runs = [Deferred.fromCoroutine(self.watch(name, 3)) for name in names]
        results: Sequence[tuple[bool, Any]] = await DeferredList(runs, consumeErrors=True)
        for success, result in results:
            if not success:
                result.raiseException()

    async def test_a_client_that_wakes_up_gets_every_byte(self) -> None:
        """After a stall, every dialect and framing: the bytes are those that were sent."""
        total = 12_000_000
        for name, stream in STREAMS.items():
            gateway, client = await self.stalled(name, total)
            upstream = gateway.upstreams[stream.provider]
            self.assertLess(upstream.flooded, total, f"{name}: it was never held up")
            reply = await client.read_all()
            sent = stream.bytes_of(total)
            self.assertTrue(reply.complete, name)
            self.assertEqual(hashlib.sha256(sent).hexdigest(), reply.sha256, name)
            self.assertEqual(0, len(relays(gateway)), name)
            await gateway.stop()
