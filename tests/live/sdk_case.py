"""
Where blocking and asynchronous libraries meet a gateway that runs in the reactor.

A library runs in a thread, so that the gateway and the upstream, which share this
process, can answer it. Nothing here knows one library from another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from aiclient2api.testing import (
    Chunk,
    Received,
    Script,
    ScriptedUpstream,
    Step,
    Wait,
    raw_reply,
    sse_reply,
)
from tests.live.gateway import LiveGateway
from tests.live.sdk import Answer, Sdk

_T = TypeVar("_T")

LEAVING = 2
"""Seconds within which an upstream's connection is closed once the client has left."""


def torn(frames: Sequence[bytes]) -> Script:
    """Return a script that sends *frames* with a pause inside of every non-ASCII character."""
    data, start = b"".join(frames), 0
    steps: list[Step] = []
    for at, byte in enumerate(data):
        if 0x80 <= byte < 0xC0:
            steps += [Chunk(data[start:at]), Wait(0.002)]
            start = at
    return (*sse_reply([])[:1], *steps, Chunk(data[start:]), *sse_reply([])[1:])


class LiveCase(TestCase):
    """A gateway on loopback, and threads for the libraries that block."""

    timeout = 30

    def call(self, ask: Callable[..., _T], *arguments: Any) -> Awaitable[_T]:
        """Run what blocks in a thread."""
        return deferToThread(ask, *arguments)

    def call_async(self, ask: Callable[[], Any]) -> Awaitable[Any]:
        """Run a coroutine function on an asyncio loop of its own, in a thread."""
        return deferToThread(lambda: asyncio.run(ask()))


class SdkCase(LiveCase):
    """A gateway whose default provider speaks the library's own dialect."""

    sdk: Sdk

    async def start(
        self, *, default: str | None = None, **config: object
    ) -> tuple[LiveGateway, ScriptedUpstream]:
        """Start a gateway that never tries again by itself, unless *config* says so."""
        if (reason := self.sdk.lacks.get(self._testMethodName)) is not None:
            raise SkipTest(reason)
        provider = self.sdk.provider
        config = {"request_max_retries": 0, "request_base_delay": 10, **config}
        gateway = await LiveGateway(self, default=default or provider, config=config).start()
        return gateway, gateway.upstreams[provider]

    def client(self, gateway: LiveGateway, *, base: str | None = None, **options: Any) -> Any:
        """Return a client of *gateway*, closed when the test ends."""
        url = gateway.url + (self.sdk.bases[0] if base is None else base)
        client = self.sdk.client(url, options.pop("key", gateway.key), **options)
        self.addCleanup(self.sdk.close, client)
        return client

    def answering(self, gateway: LiveGateway, *scripts: Script) -> None:
        """Let the upstream play *scripts*, the last of them for ever."""
        left = list(scripts)

        def choose(_: Received) -> Script:
            return left.pop(0) if len(left) > 1 else left[0]

        gateway.answers[self.sdk.provider] = choose

    def good(self, answer: Answer, *, streaming: bool) -> Script:
        """Return the script of a good answer."""
        sdk = self.sdk
        return sse_reply(sdk.frames(answer)) if streaming else raw_reply(200, sdk.body(answer))

    def drain(self, client: Any, asked: Mapping[str, Any]) -> tuple[list[Any], Exception | None]:
        """Read a stream to its end; return its events and what was raised instead of more."""
        events: list[Any] = []
        try:
            for event in self.sdk.stream(client, asked):
                events.append(event)
        except Exception as error:
            return events, error
        return events, None

    def refusal(self, ask: Callable[[Any, Mapping[str, Any]], Any], client: Any) -> Exception:
        """Ask, in any way, and return the exception."""
        try:
            list(ask(client, self.sdk.asked["plain"]))
        except Exception as error:
            return error
        raise self.failureException("nothing was raised")

    def until_text(self, stream: Iterator[Any]) -> str:
        """Read a stream up to its first text; return that."""
        for event in stream:
            if text := self.sdk.text([event]):
                return text
        raise self.failureException("the stream had no text")


async def until(holds: Callable[[], bool]) -> None:
    """Return once *holds* does; for asyncio, which cannot wait for a Deferred."""

    async def look() -> None:
        while not holds():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(look(), LEAVING)
