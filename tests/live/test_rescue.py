"""
Streams that break off and are gone on with, seen by every official SDK, four dialects by four.

The upstream is scripted and the sockets are real. What a client makes of an answer that was
cut and resumed must be what it makes of the answer uncut; where nobody can go on honestly it
must see an error, and never an end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from aiclient2api.testing import (
    STREAM_HEAD,
    Chunk,
    Received,
    Reset,
    Script,
    Wait,
    json_reply,
    sse_reply,
)
from tests.live.gateway import LiveGateway
from tests.live.sdk import ANSWERS, MODEL, Answer, Sdk
from tests.live.sdk_case import SdkCase
from tests.live.test_conversions import SDKS

BARE = Answer((*(f"Satz {n}: 世界\u2028 and so on, " for n in range(6)), "Ende. 😀"))
LONG = attrs.evolve(BARE, thinking=("First ", "this."))
OLDER = "claude-3-5-haiku-20241022"
"""A model that goes on with an answer it is given the beginning of."""
RESUMED = b"\n: aiclient2api: resumed after "
ENDS = (b"[DONE]", b"response.completed", b"message_start", b"message_stop", b'"finishReason"')


def cut(sdk: Sdk, answer: Answer, deltas: int) -> Script:
    """Return the script of *answer* that is reset behind so many of its pieces."""
    frames = sdk.frames(answer)
    last = next(at for at, frame in enumerate(frames) if _tells(frame, answer.pieces[deltas - 1]))
    return broken(frames[: last + 1])


def broken(frames: Sequence[bytes]) -> Script:
    """Return the script of a stream that is reset behind *frames*."""
    # What was sent before a reset is discarded unless it has been read.
    return (STREAM_HEAD, *map(Chunk, frames), Wait(0.05), Reset())


def _tells(frame: bytes, piece: str) -> bool:
    return piece.rstrip().encode() in frame


class RescueCase(SdkCase):
    """*sdk* is the client's, *other* tells the upstream's dialect; two accounts, a and b."""

    other: Sdk
    timeout = 60

    async def begin(self, on_cut: object = "resume", accounts: str = "ab") -> None:
        """Start a gateway whose streams are gone on with."""
        provider = self.other.provider
        config = {"request_max_retries": 1, "request_base_delay": 10, "on_cut": on_cut}

        def listed(gateway: LiveGateway) -> object:
            return [gateway.entry(provider, uuid=f"account-{id}") for id in accounts]

        self.gateway = await LiveGateway(
            self, default=provider, config=config, accounts={provider: listed}
        ).start()
        self.sent: list[Any] = []
        self.ask = self.client(self.gateway, sent=self.sent.append)

    @property
    def upstream(self) -> Any:
        """What the upstream was asked."""
        return self.gateway.upstreams[self.other.provider]

    def play(self, *scripts: Script | Callable[[Received], Script]) -> None:
        """Let the upstream play *scripts*, one a request; more is an error."""
        left = list(scripts)
        self.first = len(self.upstream.requests)

        def choose(request: Received) -> Script:
            script = left.pop(0) if left else json_reply(599, {})
            return script(request) if callable(script) else script

        self.gateway.answers[self.other.provider] = choose

    @property
    def asked(self) -> Sequence[Received]:
        """The requests since the scripts were given."""
        return tuple(self.upstream.requests[self.first :])

    async def streamed(
        self, name: str = "plain", model: str = MODEL
    ) -> tuple[list[Any], Exception | None]:
        """Ask with the SDK for a stream."""
        asked = {**self.sdk.asked[name], "model": model}
        return await self.call(self.drain, self.ask, asked)

    async def raw(self) -> bytes:
        """Ask once more what the SDK asked last; return the stream as it comes."""
        request = self.sent[-1]
        target = request.url.raw_path.decode()
        reply = await self.gateway.request(
            "POST", target, tuple(request.headers.items()), request.content
        )
        self.assertEqual((200, True), (reply.status, reply.complete))
        return reply.body

    def assert_whole(self, events: list[Any], error: Exception | None, answer: Answer) -> None:
        """The SDK has seen *answer*, all of it and once, and one end."""
        sdk = self.sdk
        self.assertIsNone(error)
        self.assertTrue(sdk.ended(events))
        seen = sdk.fold(events)
        self.assertEqual("".join(answer.pieces), seen.text)
        self.assertEqual(sdk.finish[answer.finish], seen.finish)
        self.assertEqual("".join(answer.thinking), seen.thinking)
        self.assertEqual([call.name for call in answer.tools], [call.name for call in seen.calls])

    def assert_cut(self, events: list[Any], error: Exception | None) -> None:
        """The SDK has seen an error, of the cut, and no end."""
        sdk = self.sdk
        if sdk.midway is None:
            self.assertIsNone(error)
            told = sdk.troubles(events)
        else:
            self.assertIsInstance(error, sdk.midway)
            told = str(error)
        self.assertIn("broke before its answer was complete", told)
        self.assertFalse(sdk.ended(events))


async def repeated(case: RescueCase) -> None:
    """Another account repeats the answer; the client sees it once and whole, and a comment."""
    other = case.other
    again = Answer(("".join(LONG.pieces[:3]), "".join(LONG.pieces[3:])), LONG.thinking)
    for deltas, second in ((2, again), (len(LONG.pieces) - 1, LONG)):
        case.play(cut(other, LONG, deltas), sse_reply(other.frames(second)))
        case.assert_whole(*await case.streamed("thinking"), LONG)
        bodies = [request.body for request in case.asked]
        case.assertEqual(2, len(bodies))
        case.assertEqual(bodies[0], bodies[1])
    case.play(cut(other, LONG, 2), sse_reply(other.frames(LONG)))
    stream = await case.raw()
    case.assertEqual(case.sdk is not SDKS["gemini"], RESUMED in stream)
    case.play(sse_reply(other.frames(LONG)))
    uncut = await case.raw()
    for mark in ENDS:
        case.assertEqual(uncut.count(mark), stream.count(mark))


async def differing(case: RescueCase) -> None:
    """The other account says something else, much or little: an error, and no end."""
    other = case.other
    early = Answer(("".join(LONG.pieces[:4]).replace("Satz 2", "Satz 3"), "and more"))
    for second in (early, Answer(LONG.pieces[:2])):
        case.play(cut(other, BARE, 4), sse_reply(other.frames(second)))
        case.assert_cut(*await case.streamed())
        case.assertEqual(2, len(case.asked))
    case.play(cut(other, BARE, 4), json_reply(400, other.error(400, "Not this one.")))
    case.assert_cut(*await case.streamed())


async def calling(case: RescueCase) -> None:
    """A tool call had begun: nobody else is asked, and the client is told."""
    other = case.other
    answer = ANSWERS["text and tools"]
    frames = other.frames(answer)
    frames = frames[: len(frames) - other.tail]
    case.play(broken(frames), sse_reply(other.frames(answer)))
    case.assert_cut(*await case.streamed("text and tools"))
    case.assertEqual(1, len(case.asked))


async def continued(case: RescueCase) -> None:
    """A model that takes a prefill goes on with the text; one that refuses repeats it."""
    other = case.other
    rest = Answer((" ", *BARE.pieces[2:]))
    case.play(cut(other, BARE, 2), sse_reply(other.frames(rest)))
    case.assert_whole(*await case.streamed(model=OLDER), BARE)
    last = json.loads(case.asked[1].body)["messages"][-1]
    case.assertEqual("assistant", last["role"])
    case.assertEqual("".join(BARE.pieces[:2]).rstrip(), last["content"][0]["text"])
    no = json_reply(400, other.error(400, "This model does not support prefill."))
    case.play(cut(other, BARE, 2), no, sse_reply(other.frames(BARE)))
    case.assert_whole(*await case.streamed(model=OLDER), BARE)
    case.assertEqual(3, len(case.asked))
    case.play(cut(other, BARE, 2), no, sse_reply(other.frames(rest)))
    case.assert_cut(*await case.streamed(model=OLDER))


def _cell(theirs: str) -> Callable[[RescueCase], Any]:
    async def test(self: RescueCase) -> None:
        """One gateway for all of it: to start one costs more than to ask it."""
        await self.begin()
        for situation in (repeated, differing, calling):
            await situation(self)
        if theirs == "messages":
            await continued(self)

    return test


def _make() -> None:
    for mine, sdk in SDKS.items():
        for theirs, other in SDKS.items():
            name = f"{mine.title()}Of{theirs.title()}Tests"
            cells: dict[str, Any] = {
                "sdk": sdk,
                "other": other,
                "__module__": __name__,
                "__doc__": f"A client of {mine} before an upstream of {theirs}.",
                "test_cut_and_resumed": _cell(theirs),
            }
            globals()[name] = type(name, (RescueCase,), cells)


_make()
