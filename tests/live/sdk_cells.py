"""
What every official SDK must live through behind the gateway, said once for all of them.

`SdkCells` has a test for each cell of the matrix of dialects and situations. A cell that
a library cannot have stands in its `Sdk.lacks`, with the reason, and is skipped. Nothing
here may know one library or one dialect from another.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import attrs
from twisted.internet import reactor

from aiclient2api.testing import (
    STREAM_HEAD,
    Chunk,
    Close,
    Head,
    Hold,
    Received,
    Reset,
    Script,
    Send,
    Step,
    Wait,
    json_reply,
    raw_reply,
    sse_reply,
)
from tests.live.gateway import PROVIDERS, LiveGateway
from tests.live.sdk import (
    ANSWERS,
    IMAGE,
    MODEL,
    PLAIN,
    REFUSED,
    RESULTS,
    STRUCTURED,
    THINKING,
    Seen,
    Weather,
    expected,
)
from tests.live.sdk_case import LEAVING, SdkCase, torn, until

CUTS = 75
"""In how many places each dialect's stream is cut over sockets; sans-IO it is everywhere."""


class SdkCells(SdkCase):
    """The cells of the matrix, for one library; subclassed where its `Sdk` is."""

    def test_the_table_has_no_hole(self) -> None:
        """Every answer has its question, every status its exception, every gap its reason."""
        self.assertEqual(set(ANSWERS), set(self.sdk.asked))
        self.assertEqual({*REFUSED, 502}, set(self.sdk.refusals))
        self.assertEqual({"stop", "tools", "short", "filtered"}, set(self.sdk.finish))
        for cell, reason in self.sdk.lacks.items():
            self.assertTrue(hasattr(self, cell), cell)
            self.assertTrue(reason, cell)

    # --- good answers ---------------------------------------------------------

    async def _answered(self, name: str) -> Sequence[Received]:
        sdk, answer = self.sdk, ANSWERS[name]
        gateway, upstream = await self.start()
        sent: list[bytes] = []
        client = self.client(gateway, sent=lambda request: sent.append(request.content))
        url, asked = gateway.url + sdk.bases[0], sdk.asked[name]

        async def whole_async() -> Seen:
            return sdk.read(await sdk.whole(sdk.async_client(url, gateway.key), asked))

        async def stream_async() -> Seen:
            events = await sdk.stream(sdk.async_client(url, gateway.key), asked)
            return sdk.fold([event async for event in events])

        wanted = expected(sdk, answer)
        self.answering(gateway, self.good(answer, streaming=False))
        self.assertEqual(wanted, sdk.read(await self.call(sdk.whole, client, asked)), "whole")
        self.assertEqual(wanted, await self.call_async(whole_async), "whole, async")
        self.answering(gateway, self.good(answer, streaming=True))
        events, error = await self.call(self.drain, client, asked)
        self.assertIsNone(error)
        self.assertEqual(wanted, sdk.fold(events), "stream")
        self.assertEqual(wanted, sdk.read(await self.call(sdk.gathered, client, asked)), "gathered")
        self.assertEqual(wanted, await self.call_async(stream_async), "stream, async")
        received = [request.body for request in upstream.requests]
        self.assertEqual(5, len(received))
        self.assertEqual(sent, [received[at] for at in (0, 2, 3)])
        return upstream.requests

    async def test_plain_text(self) -> None:
        """Text comes whole and in pieces, with its ids, its end and its token counts."""
        await self._answered("plain")

    async def test_thinking(self) -> None:
        """Thoughts come apart from the text."""
        await self._answered("thinking")

    async def test_parallel_tools(self) -> None:
        """Two calls of tools keep their ids, names and arguments."""
        await self._answered("tools")

    async def test_text_and_tools(self) -> None:
        """A model may talk before it calls."""
        await self._answered("text and tools")

    async def test_image(self) -> None:
        """An image in the question reaches the upstream as it was."""
        for request in await self._answered("image"):
            # Google's base64 is the one for URLs.
            self.assertIn(IMAGE, request.body.decode().translate(str.maketrans("-_", "+/")))

    async def test_cut_short_by_the_limit(self) -> None:
        """An answer that hit its limit of tokens says so."""
        await self._answered("short")

    async def test_characters_torn_apart(self) -> None:
        """Text is whole though the upstream's reads break it inside of characters."""
        gateway, _ = await self.start()
        self.answering(gateway, torn(self.sdk.frames(PLAIN)))
        events, error = await self.call(self.drain, self.client(gateway), self.sdk.asked["plain"])
        self.assertIsNone(error)
        self.assertEqual(expected(self.sdk, PLAIN), self.sdk.fold(events))

    async def test_tool_round_trip(self) -> None:
        """What the library makes of calls goes back with their results, thoughts and all."""
        sdk, answer = self.sdk, attrs.evolve(ANSWERS["tools"], thinking=THINKING.thinking)
        gateway, upstream = await self.start()
        sent: list[bytes] = []
        client = self.client(gateway, sent=lambda request: sent.append(request.content))
        asked = sdk.asked["tools"]
        for way, streaming in ((sdk.whole, False), (sdk.gathered, True)):
            self.answering(gateway, self.good(answer, streaming=streaming))
            reply = await self.call(way, client, asked)
            again = sdk.follow_up(asked, reply, RESULTS)
            self.answering(gateway, self.good(PLAIN, streaming=streaming))
            final = sdk.read(await self.call(way, client, again))
            self.assertEqual(expected(sdk, PLAIN), final)
            told = json.dumps(json.loads(upstream.requests[-1].body), ensure_ascii=False)
            for call in answer.tools:
                self.assertIn(call.id, told)
                self.assertIn(RESULTS[call.id], told)
                self.assertIn(json.loads(call.arguments)["city"], told)
        self.assertEqual(sent, [request.body for request in upstream.requests])

    async def test_structured_output(self) -> None:
        """The schema goes out, and what comes back is of its type."""
        gateway, upstream = await self.start()
        client, streamed = self.client(gateway), self.good(STRUCTURED, streaming=True)
        whole = self.good(STRUCTURED, streaming=False)
        chosen = {True: streamed, False: whole}

        def choose(request: Received) -> Script:
            streams = b'"stream":true' in request.body or "stream" in request.target
            return chosen[streams]

        gateway.answers[self.sdk.provider] = choose
        found = await self.call(lambda: list(self.sdk.parsed(client)))
        self.assertEqual([Weather(city="Zürich", degrees=21)] * len(upstream.requests), found)
        self.assertTrue(found)
        for request in upstream.requests:
            self.assertIn(b'"degrees"', request.body)

    # --- lists and counts -----------------------------------------------------

    async def test_models(self) -> None:
        """Models are listed and looked up, slashes and colons in their names or not."""
        gateway, _ = await self.start()
        ids = ["m-1", "vendor/m-2:free"]
        self.answering(gateway, json_reply(200, self.sdk.model_list(ids)))
        client = self.client(gateway)
        self.assertEqual(ids, await self.call(self.sdk.models, client))
        for id in ids:
            self.assertEqual(id, await self.call(self.sdk.model, client, id))
        error = await self.call(
            self.refusal, lambda client, _: self.sdk.model(client, "m-3"), client
        )
        self.assertIsInstance(error, self.sdk.refusals[404])
        self.assertIn("m-3", str(error))

    async def test_count_tokens(self) -> None:
        """Tokens are counted by the upstream."""
        gateway, upstream = await self.start()
        self.assertEqual(12, await self.call(self.sdk.count, self.client(gateway)))
        self.assertEqual(1, len(upstream.requests))

    # --- ways in --------------------------------------------------------------

    async def test_every_base_url(self) -> None:
        """A path prefix chooses the provider, whatever the library puts behind it."""
        sdk, (usual, *others) = self.sdk, self.sdk.bases
        default = next(name for name in PROVIDERS if name != sdk.provider)
        self.assertTrue(others)
        gateway, upstream = await self.start(default=default)
        self.answering(gateway, self.good(PLAIN, streaming=False))
        for base in others:
            client = self.client(gateway, base=base)
            reply = await self.call(sdk.whole, client, sdk.asked["plain"])
            self.assertEqual(expected(sdk, PLAIN), sdk.read(reply), base)
        self.assertEqual(len(others), len(upstream.requests))
        self.assertEqual(1, len({request.target for request in upstream.requests}))
        self.assertEqual([], gateway.upstreams[default].requests)
        await self.call(sdk.whole, self.client(gateway, base=usual), sdk.asked["plain"])
        self.assertEqual(len(others), len(upstream.requests))
        self.assertEqual(1, len(gateway.upstreams[default].requests))

    async def test_a_model_prefix(self) -> None:
        """``provider:model`` chooses the provider, which never hears of the prefix."""
        sdk = self.sdk
        default = next(name for name in PROVIDERS if name != sdk.provider)
        gateway, upstream = await self.start(default=default)
        self.answering(gateway, self.good(PLAIN, streaming=False))
        asked = {**sdk.asked["plain"], "model": f"{sdk.provider}:{MODEL}"}
        reply = await self.call(sdk.whole, self.client(gateway), asked)
        self.assertEqual(expected(sdk, PLAIN), sdk.read(reply))
        (request,) = upstream.requests
        self.assertIn(MODEL, request.target + request.body.decode())
        self.assertNotIn(sdk.provider, request.target + request.body.decode())

    # --- refusals -------------------------------------------------------------

    async def test_wrong_key(self) -> None:
        """A caller without our key gets the library's own exception, with our words."""
        gateway, upstream = await self.start()
        client = self.client(gateway, key="sk-wrong")
        for ask in (self.sdk.whole, self.sdk.stream, lambda client, _: self.sdk.models(client)):
            error = await self.call(self.refusal, ask, client)
            self.assertIsInstance(error, self.sdk.refusals[401])
            self.assertEqual(401, self.sdk.status(error))
            self.assertIn("the API key is invalid or missing", str(error))
        self.assertEqual([], upstream.requests)

    async def test_refused_before_the_first_byte(self) -> None:
        """The upstream's own status and words arrive as the library's own exception."""
        gateway, upstream = await self.start()
        client = self.client(gateway)
        for status in REFUSED:
            told = self.sdk.error(status, f"Upstream says {status}.")
            extra = ((b"retry-after", b"7"),) if status == 429 else ()
            self.answering(gateway, json_reply(status, told, extra))
            for ask in (self.sdk.whole, self.sdk.stream):
                error: Any = await self.call(self.refusal, ask, client)
                self.assertIsInstance(error, self.sdk.refusals[status])
                self.assertEqual(status, self.sdk.status(error))
                self.assertIn(f"Upstream says {status}.", str(error))
                wait = error.response.headers.get("retry-after")
                self.assertEqual("7" if status == 429 else None, wait)
        self.assertEqual(2 * len(REFUSED), len(upstream.requests))

    async def test_error_as_the_first_event(self) -> None:
        """A stream that begins with an error has the error's status, not 200."""
        gateway, _ = await self.start()
        client, start = self.client(gateway), self.sdk.frames(PLAIN)[: self.sdk.handshake]
        for status in REFUSED:
            frame = self.sdk.error_frame(status, f"Upstream says {status}.")
            self.answering(gateway, sse_reply([*start, frame]))
            error = await self.call(self.refusal, self.sdk.stream, client)
            self.assertIsInstance(error, self.sdk.refusals[status], status)
            self.assertEqual(status, self.sdk.status(error))
            self.assertIn(f"Upstream says {status}.", str(error))

    async def test_broken_off_before_the_first_event(self) -> None:
        """An upstream that breaks off before it said anything is a 502."""
        sdk = self.sdk
        gateway, _ = await self.start()
        client, start = self.client(gateway), sdk.frames(PLAIN)[: sdk.handshake]
        half = sdk.body(PLAIN)[:-20]
        head = Head(200, ((b"content-type", b"application/json"), (b"content-length", b"5000")))
        opened: list[Step] = [STREAM_HEAD, *map(Chunk, start)]
        broken: Sequence[tuple[Callable[..., Any], Script]] = (
            (sdk.whole, (head, Send(half), Wait(0.02), Reset())),
            (sdk.whole, (head, Send(half), Close())),
            (sdk.whole, raw_reply(200, half)),
            (sdk.stream, (*opened, Wait(0.02), Reset())),
            (sdk.stream, (*opened, Close())),
            (sdk.stream, sse_reply(start)),
        )
        for ask, script in broken:
            self.answering(gateway, script)
            error = await self.call(self.refusal, ask, client)
            self.assertIsInstance(error, sdk.refusals[502], script)
            self.assertEqual(502, sdk.status(error))

    # --- failures in mid-stream -----------------------------------------------

    def _halfway(self) -> tuple[list[bytes], bytes]:
        """Return the frames up to the second piece of text, and the frame after them."""
        frames = self.sdk.frames(PLAIN)
        mark = PLAIN.pieces[1].encode()
        at = next(at for at, frame in enumerate(frames) if mark in frame) + 1
        return frames[:at], frames[at]

    async def _not_completed(self, gateway: LiveGateway, script: Script, message: str) -> None:
        self.answering(gateway, script)
        client = self.client(gateway)
        events, error = await self.call(self.drain, client, self.sdk.asked["plain"])
        self.assertEqual("".join(PLAIN.pieces[:2]), self.sdk.text(events))
        self.assertFalse(self.sdk.ended(events), events)
        if self.sdk.midway is None:
            self.assertIsNone(error)
            self.assertIn(message, self.sdk.troubles(events))
        else:
            self.assertIsInstance(error, self.sdk.midway)
            self.assertIn(message, str(error))
        await self.call(self.refusal, self.sdk.gathered, client)

    async def test_error_in_mid_stream(self) -> None:
        """An upstream's error after some text is told; the answer never looks whole."""
        gateway, _ = await self.start()
        begun, _ = self._halfway()
        frame = self.sdk.error_frame(429, "Upstream says 429.")
        await self._not_completed(gateway, sse_reply([*begun, frame]), "Upstream says 429.")
        # Whatever an upstream may say after its error is not believed.
        rest = self.sdk.frames(PLAIN)[len(begun) :]
        await self._not_completed(gateway, sse_reply([*begun, frame, *rest]), "Upstream says 429.")

    async def test_cut_in_mid_stream(self) -> None:
        """An upstream that breaks off after some text never looks like one that is done."""
        gateway, _ = await self.start()
        begun, following = self._halfway()
        opened: list[Step] = [STREAM_HEAD, *map(Chunk, begun)]
        cuts: Mapping[str, Script] = {
            "reset": (*opened, Wait(0.05), Reset()),
            "reset inside of a record": (*opened, Chunk(following[:-9]), Wait(0.05), Reset()),
            "closed": (*opened, Close()),
            "closed inside of a record": (*opened, Chunk(following[:-9]), Close()),
            "clean end without an end": sse_reply(begun),
            "clean end inside of a record": sse_reply([*begun, following[:-9]]),
        }
        for script in cuts.values():
            await self._not_completed(gateway, script, "complete")

    async def test_cut_anywhere(self) -> None:
        """Wherever a stream breaks off before its end, what was read is true and not whole."""
        sdk = self.sdk
        gateway, _ = await self.start()
        client, frames = self.client(gateway), sdk.frames(THINKING)
        data = b"".join(frames)
        # The last that is tried lacks no more than the end record's blank line.
        last = len(b"".join(frames[: 1 - sdk.tail or None]).rstrip())
        for at in sorted(Random(sdk.provider).sample(range(1, last), CUTS)):
            self.answering(gateway, (STREAM_HEAD, Chunk(data[:at]), Close()))
            events, error = await self.call(self.drain, client, sdk.asked["plain"])
            self.assertFalse(sdk.ended(events), at)
            self.assertTrue("".join(THINKING.pieces).startswith(sdk.text(events)), at)
            if events and sdk.midway is None:
                self.assertIn("complete", sdk.troubles(events), at)
            else:
                kinds = (sdk.refusals[502], *([sdk.midway] if sdk.midway else []))
                self.assertIsInstance(error, kinds, at)

    # --- trying again ---------------------------------------------------------

    async def test_the_library_tries_again(self) -> None:
        """A 429 or a 503 reaches the library as such, so that its own retries work."""
        sdk = self.sdk
        gateway, upstream = await self.start()
        for status in (429, 503):
            for ask, streaming in ((sdk.whole, False), (sdk.stream, True)):
                refusal = json_reply(
                    status, sdk.error(status, "Not now."), ((b"retry-after", b"0.05"),)
                )
                self.answering(gateway, refusal, self.good(PLAIN, streaming=streaming))
                before = len(upstream.requests)
                client = self.client(gateway, retries=1)
                got = await self.call(ask, client, sdk.asked["plain"])
                seen = sdk.fold(await self.call(list, got)) if streaming else sdk.read(got)
                self.assertEqual(expected(sdk, PLAIN), seen)
                bodies = [request.body for request in upstream.requests[before:]]
                self.assertEqual(2, len(bodies), (status, streaming))
                self.assertEqual(bodies[0], bodies[1])

    async def test_the_gateway_tries_again(self) -> None:
        """A library that does not try again has the gateway do it, and sees nothing."""
        sdk = self.sdk
        gateway, upstream = await self.start(request_max_retries=2)
        busy = json_reply(503, sdk.error(503, "Not now."))
        first = sse_reply([sdk.error_frame(500, "Not so.")])
        self.answering(gateway, first, busy, self.good(PLAIN, streaming=True))
        client = self.client(gateway)
        events, error = await self.call(self.drain, client, sdk.asked["plain"])
        self.assertIsNone(error)
        self.assertEqual(expected(sdk, PLAIN), sdk.fold(events))
        self.assertEqual(3, len(upstream.requests))

    # --- leaving --------------------------------------------------------------

    async def test_leaving_in_mid_stream(self) -> None:
        """Closing a stream, or cancelling who reads it, closes the upstream's connection."""
        sdk = self.sdk
        gateway, upstream = await self.start()
        begun, _ = self._halfway()
        self.answering(gateway, (STREAM_HEAD, *map(Chunk, begun), Hold()))
        client, asked = self.client(gateway), sdk.asked["plain"]

        def leave() -> None:
            stream = sdk.stream(client, asked)
            self.assertEqual(PLAIN.pieces[0], self.until_text(iter(stream)))
            self.assertEqual(1, upstream.open)
            stream.close()

        await self.call(leave)
        await upstream.when_closed(1).addTimeout(LEAVING, reactor)

        async def leave_async() -> None:
            pieces: list[str] = []

            async def read() -> None:
                async_client = sdk.async_client(gateway.url + sdk.bases[0], gateway.key)
                async for event in await sdk.stream(async_client, asked):
                    pieces.append(sdk.text([event]))

            reading = asyncio.ensure_future(read())
            await until(lambda: PLAIN.pieces[0] in pieces)
            self.assertEqual(1, upstream.open)
            reading.cancel()
            await until(lambda: upstream.closed == 2)

        await self.call_async(leave_async)

    async def test_leaving_before_the_answer(self) -> None:
        """A library that loses patience, or whose task is cancelled, frees the upstream."""
        sdk = self.sdk
        gateway, upstream = await self.start()
        self.answering(gateway, (Hold(),))
        impatient = self.client(gateway, timeout=0.2)
        for ask in (sdk.whole, sdk.stream):
            before = upstream.closed
            error = await self.call(self.refusal, ask, impatient)
            self.assertIsInstance(error, sdk.unreachable)
            await upstream.when_closed(before + 1).addTimeout(LEAVING, reactor)

            async def cancelled(ask: Callable[..., Any] = ask, before: int = before) -> None:
                async def read() -> None:
                    async_client = sdk.async_client(gateway.url + sdk.bases[0], gateway.key)
                    reply = await ask(async_client, sdk.asked["plain"])
                    async for _ in reply:
                        pass

                reading = asyncio.ensure_future(read())
                await until(lambda: len(upstream.requests) == before + 2)
                reading.cancel()
                await until(lambda: upstream.closed == before + 2)

            await self.call_async(cancelled)
