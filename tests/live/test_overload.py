"""
More than a gateway may take, over real sockets: who is told what, and who is served yet.

Small numbers here; `bench/run siege` has the large ones.
"""

from __future__ import annotations

import json
import socket
from functools import partial
from typing import Any

import anthropic
import openai
from google import genai
from google.genai import errors as google_errors
from google.genai import types as google_types
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from aiclient2api.testing import (
    STREAM_HEAD,
    Chunk,
    EndChunks,
    Hold,
    Received,
    Script,
    chat_chunks,
    raw_reply,
)
from aiclient2api.watermark import SECONDS
from aiclient2api.web.load import Load
from tests.live.gateway import KEY, LiveGateway, Reply, good_answer, raw_exchange
from tests.live.measure import RawClient, front, parsed, pause, until

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m-1","messages":[]}'
STREAM = b'{"model":"m-1","messages":[],"stream":true}'
OTHER = "sk-other"
FRAMES = chat_chunks(["one ", "two"])


def load(gateway: LiveGateway) -> Load:
    """Return what the gateway counts."""
    return front(gateway)._setup().load


class OverloadCase(TestCase):
    """A gateway whose streams stand still until the test says so."""

    timeout = 40

    async def started(self, **limits: int) -> LiveGateway:
        """Start it, with two keys."""

        def answer(request: Received) -> Script:
            if b'"stream":true' not in request.body:
                return good_answer(request)
            chunks = [Chunk(frame) for frame in FRAMES]
            return (STREAM_HEAD, *chunks[:2], Hold(), *chunks[2:], EndChunks())

        config = {
            "limits": limits,
            "required_api_key": [KEY, OTHER],
            "request_max_retries": 0,
        }
        self.gateway = await LiveGateway(self, config=config, answer=answer).start()
        return self.gateway

    async def busy(self, count: int) -> list[Deferred[Reply]]:
        """Have so many streams under way."""
        gateway = self.gateway
        wires = [await gateway.connect() for _ in range(count)]
        streams = [wire.request("POST", CHAT, gateway.bearer, STREAM) for wire in wires]
        for wire in wires:
            await until(partial(wire.received.count, b"one "), 10, "it has begun")
        self.assertEqual(load(gateway).in_flight, count)
        return streams

    async def finish(self, streams: list[Deferred[Reply]]) -> None:
        """Let the streams end; each is whole, and nothing is counted any more."""
        self.gateway.upstreams["openai-custom"].release()
        for reply in await gatherResults(streams):
            self.assertEqual((reply.status, reply.body), (200, b"".join(FRAMES)))
        await until(lambda: not load(self.gateway).in_flight, 10, "nothing is under way")
        self.assertEqual(load(self.gateway).size, 0)

    async def ask(self, key: str = KEY, path: str = CHAT) -> Reply:
        """Send one request on a connection of its own."""
        headers = (("authorization", f"Bearer {key}"),)
        return await self.gateway.request("POST", path, headers, BODY)


class LimitTests(OverloadCase):
    """Requests, keys and bytes."""

    async def test_per_key(self) -> None:
        """One key is told to wait; the other, and what is under way, go on."""
        await self.started(per_key=3)
        streams = await self.busy(3)
        reply = await self.ask()
        self.assertEqual((reply.status, reply.header(b"retry-after")), (429, b"2"))
        self.assertEqual((await self.ask(OTHER)).status, 200)
        await self.finish(streams)
        self.assertEqual((await self.ask()).status, 200)

    async def test_a_flood(self) -> None:
        """Of fifty at once five are served, the others told, and monitors see nothing of it."""
        gateway = await self.started(in_flight=5)
        streams = await self.busy(5)
        flood = await gatherResults(
            [Deferred.fromCoroutine(self.ask(key)) for key in (KEY, OTHER) * 25]
        )
        self.assertEqual({reply.status for reply in flood}, {503})
        self.assertEqual({reply.header(b"retry-after") for reply in flood}, {b"2"})
        for path in ("/health", "/ready"):
            self.assertEqual((await gateway.request("GET", path)).status, 200)
        await self.finish(streams)
        self.assertEqual((await self.ask()).status, 200)

    async def test_a_client_that_does_not_listen_reads_why(self) -> None:
        """One that sends 20 MB first gets to read the refusal, too."""
        gateway = await self.started(in_flight=1)
        streams = await self.busy(1)
        size = 20_000_000

        def blocking() -> bytes:
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as wire:
                head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
                wire.sendall(head.encode() + b"content-length: %d\r\n\r\n" % size + b" " * size)
                received = b""
                while data := wire.recv(65536):
                    received += data
                return received

        reply = parsed(await deferToThread(blocking))
        self.assertEqual(reply.status, 503)
        self.assertIn("limits.in_flight", reply.json()["error"]["message"])
        await self.finish(streams)

    async def test_a_reload(self) -> None:
        """New limits hold at once, for what comes."""
        gateway = await self.started(in_flight=1)
        streams = await self.busy(1)
        self.assertEqual((await self.ask()).status, 503)
        self.assertTrue(gateway.reload(limits={"in_flight": 10}))
        self.assertEqual((await self.ask()).status, 200)
        self.assertTrue(gateway.reload(limits={"per_key": 1}))
        self.assertEqual((await self.ask()).status, 429)
        await self.finish(streams)

    async def test_memory(self) -> None:
        """While it is short nothing is begun; a stream goes on; idle connections are closed."""
        gateway = await self.started()
        streams = await self.busy(1)
        idle = await gateway.connect()
        self.assertEqual((await idle.request("GET", "/health")).status, 200)
        self.assertTrue(gateway.reload(limits={"memory_bytes": 1}))
        await until(lambda: load(gateway).shedding, 10 + SECONDS, "memory is short")
        reply = await self.ask()
        self.assertEqual((reply.status, reply.header(b"retry-after")), (503, b"5"))
        self.assertEqual((await gateway.request("GET", "/ready")).status, 503)
        await until(lambda: idle.lost, 10, "the idle one is closed")
        await self.finish(streams)
        self.assertEqual((await self.ask()).status, 200)
        self.assertTrue(gateway.reload(limits={"memory_bytes": 0}))
        await until(lambda: not load(gateway).shedding, 10 + SECONDS, "memory is there again")
        self.assertEqual((await gateway.request("GET", "/ready")).status, 200)


class ConnectionTests(OverloadCase):
    """Connections: slow heads, idle ones, and more than there may be."""

    def slow(self, count: int) -> list[RawClient]:
        """Open connections that send the beginning of a head, and no more."""
        clients = [RawClient(self.gateway.port) for _ in range(count)]
        for client in clients:
            self.addCleanup(client.close)
            client.send(b"POST / HTTP/1.1\r\nx-slow: ")
        return clients

    async def test_slow_heads_keep_nobody_out(self) -> None:
        """Three times as many as there may be; whoever means it is served meanwhile."""
        gateway = await self.started(connections=20, in_flight=10)
        streams = await self.busy(5)
        for _ in range(6):
            self.slow(10)
            await pause(0)
            self.assertEqual((await self.ask()).status, 200)
            self.assertEqual((await gateway.request("GET", "/health")).status, 200)
            self.assertLessEqual(gateway.connections, 30)
        await until(lambda: gateway.connections <= 20, 10, "no more than there may be")
        await self.finish(streams)

    async def test_all_are_at_work(self) -> None:
        """Then one more is told so in a few bytes, and gets in as soon as one is done."""
        gateway = await self.started(connections=3, in_flight=0)
        streams = await self.busy(3)
        answer = await raw_exchange(gateway.port, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        reply = parsed(answer)
        self.assertEqual((reply.status, reply.header(b"retry-after")), (503, b"2"))
        await self.finish(streams)
        self.assertEqual((await gateway.request("GET", "/health")).status, 200)

    async def test_a_slow_reader_keeps_its_place(self) -> None:
        """Until it has read, or left: what it has not read is held for it."""
        gateway = await self.started(in_flight=2)
        size = 8_000_000
        long = json.dumps({"id": "x", "choices": [], "pad": "x" * size}).encode()
        gateway.answers["openai-custom"] = lambda request: raw_reply(200, long)
        client = RawClient(gateway.port)
        self.addCleanup(client.close)
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
        client.send(head.encode() + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)
        await until(lambda: load(gateway).in_flight, 10, "it is under way")
        await until(lambda: not front(gateway).in_flight, 10, "all is written")
        self.assertEqual(load(gateway).in_flight, 1)
        client.close()
        await until(lambda: not load(gateway).in_flight, 10, "its place is free")


class LibraryTests(OverloadCase):
    """What the official libraries make of it."""

    async def refused(self, **limits: int) -> dict[str, Any]:
        """Return the exceptions that each library raises for one request too many."""
        gateway = await self.started(**limits)
        streams = await self.busy(1)
        turn: Any = {"role": "user", "content": "hi"}

        def ask() -> dict[str, Any]:
            with openai.OpenAI(api_key=KEY, base_url=gateway.url + "/v1", max_retries=0) as chat:
                found = {
                    "chat": caught(chat.chat.completions.create, model="m-1", messages=[turn]),
                    "responses": caught(chat.responses.create, model="m-1", input="hi"),
                }
            with anthropic.Anthropic(api_key=KEY, base_url=gateway.url, max_retries=0) as messages:
                found["messages"] = caught(
                    messages.messages.create, model="m-1", max_tokens=9, messages=[turn]
                )
            options = google_types.HttpOptions(base_url=gateway.url)
            client = genai.Client(api_key=KEY, http_options=options)
            found["gemini"] = caught(client.models.generate_content, model="m-1", contents="hi")
            client.close()
            return found

        found = await deferToThread(ask)
        await self.finish(streams)
        return found

    async def test_one_key_too_many(self) -> None:
        """A rate limit, with the time to come back, which they heed by themselves."""
        found = await self.refused(per_key=1)
        self.assertIsInstance(found["chat"], openai.RateLimitError)
        self.assertIsInstance(found["responses"], openai.RateLimitError)
        self.assertIsInstance(found["messages"], anthropic.RateLimitError)
        self.assertIsInstance(found["gemini"], google_errors.ClientError)
        self.assertEqual(found["gemini"].code, 429)
        self.check(found, "limits.per_key")

    async def test_too_many_in_all(self) -> None:
        """A fault of the server, which they try again as well."""
        found = await self.refused(in_flight=1)
        self.assertIsInstance(found["chat"], openai.InternalServerError)
        self.assertIsInstance(found["responses"], openai.InternalServerError)
        self.assertIsInstance(found["messages"], anthropic.InternalServerError)
        self.assertIsInstance(found["gemini"], google_errors.ServerError)
        self.assertEqual(found["gemini"].code, 503)
        self.check(found, "limits.in_flight")

    def check(self, found: dict[str, Any], limit: str) -> None:
        """Each tells which limit it is, and when to come back."""
        for name, error in found.items():
            self.assertIn(limit, str(error), name)
            self.assertEqual(error.response.headers["retry-after"], "2", name)


def caught(call: Any, **arguments: object) -> Exception:
    """Return what *call* raises."""
    try:
        call(**arguments)
    except Exception as error:
        return error
    raise AssertionError("It was answered.")
