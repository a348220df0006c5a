"""
Every official SDK before an upstream of every dialect: four by four, whole and streamed.

One test for each cell of client, upstream and situation, made from the tables of the SDKs.
The upstream is scripted, the sockets are real; what the client makes of an answer must be
what the upstream said, whichever dialects the two speak.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

import attrs

from aiclient2api.conversation.turns import settled
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.interfaces import IConversation, IDialect
from aiclient2api.testing import (
    SEAL,
    STREAM_HEAD,
    Chunk,
    Close,
    Received,
    Script,
    Wait,
    json_reply,
    raw_reply,
    sse_reply,
)
from aiclient2api.values import Usage
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
    Answer,
    Sdk,
    Seen,
    Weather,
    expected,
)
from tests.live.sdk_case import SdkCase
from tests.live.test_sdk_anthropic import AnthropicSdk
from tests.live.test_sdk_google import GoogleSdk
from tests.live.test_sdk_openai_chat import ChatSdk
from tests.live.test_sdk_openai_responses import ResponsesSdk
from tests.strict_replies import judge_reply
from tests.strict_requests import judge

SDKS: Mapping[str, Sdk] = {
    "chat": ChatSdk(),
    "responses": ResponsesSdk(),
    "messages": AnthropicSdk(),
    "gemini": GoogleSdk(),
}
CUTS = 20
"""In how many places the stream of each pair is cut over sockets, 320 in all."""

FILTERED = Answer(("I had rather",), finish="filtered")
THINKING_TOOLS = attrs.evolve(ANSWERS["tools"], thinking=THINKING.thinking)
_BY_NAME: Mapping[str, IDialect] = {dialect.name: dialect for dialect in DIALECTS}


class ConversionCase(SdkCase):
    """What a cell is made of; *sdk* is the client's, *other* tells the upstream's dialect."""

    other: Sdk

    async def begin(self) -> tuple[LiveGateway, Any]:
        """Start a gateway before the upstream, and a client whose requests are kept."""
        config = {"request_max_retries": 0, "request_base_delay": 10}
        gateway = await LiveGateway(self, default=self.other.provider, config=config).start()
        self.sent: list[Any] = []
        return gateway, self.client(gateway, sent=self.sent.append)

    def script(self, gateway: LiveGateway, answer: Answer | Mapping[bool, Script]) -> None:
        """Let the upstream give *answer*, streamed or whole as it is asked."""

        def choose(request: Received) -> Script:
            streams = b'"stream":true' in request.body or "streamGenerate" in request.target
            if not isinstance(answer, Answer):
                return answer[streams]
            if streams:
                return sse_reply(self.other.frames(answer))
            return raw_reply(200, self.other.body(answer))

        gateway.answers[self.other.provider] = choose

    def check(self, answer: Answer, seen: Seen) -> None:
        """*seen* is *answer*, as far as both dialects have words for it."""
        wanted = expected(self.sdk, answer)
        untold = self.sdk.untold | self.other.untold
        for field in attrs.fields(Usage):
            told = getattr(seen.usage, field.name)
            if field.name in untold:
                # A dialect may have to write a number even if none is known.
                self.assertIn(told, (None, 0, getattr(answer.usage, field.name)), field.name)
            else:
                self.assertEqual(getattr(answer.usage, field.name), told, field.name)
        self.assertTrue(seen.id)
        if self.sdk is not self.other:
            self.assertEqual(self.sdk.id.rpartition("test")[0], seen.id[: len(self.sdk.id) - 4])
        seen = attrs.evolve(seen, usage=wanted.usage, id=wanted.id)
        self.assertEqual(wanted, seen)

    async def both(
        self, gateway: LiveGateway, client: Any, asked: Mapping[str, Any], answer: Answer
    ) -> None:
        """Ask whole, streamed and gathered; every one of them is *answer*, and well-formed."""
        sdk = self.sdk
        self.script(gateway, answer)
        self.check(answer, sdk.read(await self.call(sdk.whole, client, asked)))
        events, error = await self.call(self.drain, client, asked)
        self.assertIsNone(error)
        self.check(answer, sdk.fold(events))
        self.check(answer, sdk.read(await self.call(sdk.gathered, client, asked)))
        await self.judged(gateway)

    async def judged(self, gateway: LiveGateway) -> None:
        """Ask once more what was asked, and hold bodies both ways to the SDKs' own models."""
        if self.sdk is not self.other:
            # What is relayed verbatim is the SDK's own business.
            for request in gateway.upstreams[self.other.provider].requests:
                judge(PROVIDERS[self.other.provider][0], json.loads(request.body))
        for request in tuple(self.sent):
            target = request.url.raw_path.decode()
            headers = tuple(request.headers.items())
            reply = await gateway.request("POST", target, headers, request.content)
            self.assertEqual(200, reply.status, reply.body)
            judge_reply(PROVIDERS[self.sdk.provider][0], reply.body)

    def received(self, gateway: LiveGateway) -> Any:
        """Return what the last request to the upstream says, in no dialect."""
        dialect = _BY_NAME[PROVIDERS[self.other.provider][0]]
        request = gateway.upstreams[self.other.provider].requests[-1]
        endpoint = next(e for e in dialect.endpoints if e.action == "generate")
        path, _, _ = request.target.partition("?")
        rest = path.partition("/models/")[2]
        route = dialect.route(endpoint=endpoint, rest=rest, query=(), headers={})
        return IConversation(dialect.parse(body=request.body, route=route))

    def check_text(self, reply: Any) -> None:
        """*reply* is the plain answer."""
        self.assertEqual("".join(PLAIN.pieces), self.sdk.read(reply).text)


# --- situations: each takes a case, and is one cell for every pair ----------------


async def plain(case: ConversionCase) -> None:
    """Text arrives whole and in pieces, with its end and its token counts."""
    gateway, client = await case.begin()
    await case.both(gateway, client, case.sdk.asked["plain"], PLAIN)
    said = [part.text for turn in case.received(gateway).turns for part in turn.parts]
    case.assertEqual(["Wie geht es dir? 你好 😀"], said)


async def parallel_tools(case: ConversionCase) -> None:
    """Two calls at once arrive as such; their results go back, each to its own call."""
    gateway, client = await case.begin()
    sdk, answer = case.sdk, ANSWERS["text and tools"]
    asked = sdk.asked["text and tools"]
    await case.both(gateway, client, asked, answer)
    for way in (sdk.whole, sdk.gathered):
        case.script(gateway, answer)
        again = sdk.follow_up(asked, await case.call(way, client, asked), RESULTS)
        case.script(gateway, PLAIN)
        case.check(PLAIN, sdk.read(await case.call(way, client, again)))
        said: Any = settled(case.received(gateway).turns).turns
        _, told, answered = said
        case.assertEqual("assistant", told.role)
        text, *calls = told.parts
        case.assertEqual("".join(answer.pieces), text.text)
        case.assertEqual(
            [(call.name, json.loads(call.arguments)) for call in answer.tools],
            [(call.name, json.loads(call.arguments)) for call in calls],
        )
        case.assertEqual(
            [(call.id, RESULTS[known.id]) for call, known in zip(calls, answer.tools, strict=True)],
            [(result.id, result.parts[0].text) for result in answered.parts],
        )
    await case.judged(gateway)


async def image(case: ConversionCase) -> None:
    """A picture in the question reaches the upstream with all its bytes."""
    gateway, client = await case.begin()
    await case.both(gateway, client, case.sdk.asked["image"], ANSWERS["image"])
    (turn,) = case.received(gateway).turns
    media = [part.media for part in turn.parts if hasattr(part, "media")]
    case.assertEqual([("image/png", IMAGE)], [(each.mime, each.data) for each in media])


async def thinking_tool_loop(case: ConversionCase) -> None:
    """Thoughts are seen; sealed ones come back to whoever sealed them, and to nobody else."""
    gateway, client = await case.begin()
    sdk, asked = case.sdk, {**case.sdk.asked["thinking"], **case.sdk.asked["tools"]}
    if "config" in asked:
        asked["config"] = {
            **case.sdk.asked["thinking"]["config"],
            **case.sdk.asked["tools"]["config"],
        }
    if "thinking" in case.sdk.asked["thinking"]:
        asked["max_tokens"] = 4000
    await case.both(gateway, client, asked, THINKING_TOOLS)
    for way in (sdk.whole, sdk.gathered):
        case.script(gateway, THINKING_TOOLS)
        again = sdk.follow_up(asked, await case.call(way, client, asked), RESULTS)
        case.script(gateway, PLAIN)
        case.check(PLAIN, sdk.read(await case.call(way, client, again)))
        body = gateway.upstreams[case.other.provider].requests[-1].body.decode()
        if case.other is not SDKS["chat"]:
            case.assertEqual(1, body.count(f'"{SEAL}"'), body)
        # To another upstream the same history goes without it.
        for name, sdk_there in SDKS.items():
            if sdk_there is case.other:
                continue
            gateway.answers[sdk_there.provider] = _good(sdk_there)
            prefixed = {**again, "model": f"{sdk_there.provider}:{MODEL}"}
            case.check_text(await case.call(sdk.whole, client, prefixed))
            told = json.loads(gateway.upstreams[sdk_there.provider].requests[-1].body)
            foreign = json.dumps(told, ensure_ascii=False)
            case.assertNotIn(SEAL, foreign, name)
            case.assertNotIn("YWljMmFwaS9zZWFs", foreign, name)
            case.assertIn("21 °C", foreign)


def _good(sdk: Sdk) -> Callable[[Received], Script]:
    return lambda _: raw_reply(200, sdk.body(PLAIN))


async def structured_output(case: ConversionCase) -> None:
    """The schema reaches the upstream, and what comes back is of its type."""
    gateway, client = await case.begin()
    case.script(gateway, STRUCTURED)
    found = await case.call(lambda: list(case.sdk.parsed(client)))
    case.assertEqual([Weather(city="Zürich", degrees=21)] * len(case.sent), found)
    output = case.received(gateway).output
    case.assertEqual({"city", "degrees"}, set(output.schema["properties"]))
    await case.judged(gateway)


async def refusal(case: ConversionCase) -> None:
    """An answer that a filter ended says so, in the client's own word."""
    gateway, client = await case.begin()
    case.script(gateway, FILTERED)
    sdk, asked = case.sdk, case.sdk.asked["plain"]
    case.check(FILTERED, sdk.read(await case.call(sdk.whole, client, asked)))
    events, error = await case.call(case.drain, client, asked)
    case.assertIsNone(error)
    case.check(FILTERED, sdk.fold(events))
    await case.judged(gateway)


async def max_tokens(case: ConversionCase) -> None:
    """The limit reaches the upstream; an answer that hit it says so."""
    gateway, client = await case.begin()
    await case.both(gateway, client, case.sdk.asked["short"], ANSWERS["short"])
    asked = case.sdk.asked["short"]
    limit = next(
        asked[key]
        for key in ("max_tokens", "max_completion_tokens", "max_output_tokens", "config")
        if key in asked
    )
    limit = limit["max_output_tokens"] if isinstance(limit, dict) else limit
    if case.other is SDKS["responses"]:
        # OpenAI takes no less; it is said in the header.
        limit = max(limit, 16)
    case.assertEqual(limit, case.received(gateway).sampling.max_tokens)


async def error_before(case: ConversionCase) -> None:
    """Before the first byte an error is a status, and the client's own exception."""
    gateway, client = await case.begin()
    sdk, other = case.sdk, case.other
    for status in REFUSED:
        told = json_reply(status, other.error(status, f"Upstream says {status}."))
        first = sse_reply(
            [
                *other.frames(PLAIN)[: other.handshake],
                other.error_frame(status, f"Upstream says {status}."),
            ]
        )
        for streamed in (told, first):
            case.script(gateway, {False: told, True: streamed})
            for ask in (sdk.whole, sdk.stream):
                error = await case.call(case.refusal, ask, client)
                case.assertIsInstance(error, sdk.refusals[status], status)
                case.assertEqual(status, sdk.status(error))
                case.assertIn(f"Upstream says {status}.", str(error))


async def error_after(case: ConversionCase) -> None:
    """After the first byte it is told in the client's dialect, and nothing looks like an end."""
    gateway, client = await case.begin()
    sdk, other, asked = case.sdk, case.other, case.sdk.asked["plain"]
    frames = other.frames(PLAIN)
    mark = PLAIN.pieces[1].encode()
    begun = frames[: next(at for at, frame in enumerate(frames) if mark in frame) + 1]
    rest = frames[len(begun) :]
    failed = other.error_frame(429, "Upstream says 429.")
    half = other.body(PLAIN)[:-20]
    endings: Mapping[str, Script] = {
        "Upstream says 429.": sse_reply([*begun, failed, *rest]),
        "complete": sse_reply(begun),
        "broke": (STREAM_HEAD, *map(Chunk, begun), Wait(0.02), Close()),
    }
    for words, script in endings.items():
        case.script(gateway, {True: script, False: raw_reply(200, half)})
        events, error = await case.call(case.drain, client, asked)
        case.assertEqual("".join(PLAIN.pieces[:2]), sdk.text(events))
        case.assertFalse(sdk.ended(events), words)
        if sdk.midway is None:
            case.assertIsNone(error)
            case.assertIn(words, sdk.troubles(events))
        else:
            case.assertIsInstance(error, sdk.midway)
            case.assertIn(words, str(error))
        await case.call(case.refusal, sdk.gathered, client)
        broken = await case.call(case.refusal, sdk.whole, client)
        case.assertEqual(502, sdk.status(broken))


async def cut_anywhere(case: ConversionCase) -> None:
    """Wherever the upstream breaks off, what was read is true, and is not taken for whole."""
    gateway, client = await case.begin()
    sdk, other = case.sdk, case.other
    frames = other.frames(THINKING)
    data = b"".join(frames)
    last = len(b"".join(frames[: 1 - other.tail or None]).rstrip())
    for at in sorted(Random(sdk.provider + other.provider).sample(range(1, last), CUTS)):
        case.script(gateway, {True: (STREAM_HEAD, Chunk(data[:at]), Close())})
        events, error = await case.call(case.drain, client, sdk.asked["plain"])
        case.assertFalse(sdk.ended(events), at)
        case.assertTrue("".join(THINKING.pieces).startswith(sdk.text(events)), at)
        if error is None:
            case.assertIsNone(sdk.midway, at)
            case.assertTrue(sdk.troubles(events), at)


SITUATIONS: tuple[Callable[[ConversionCase], Awaitable[None]], ...] = (
    plain,
    parallel_tools,
    image,
    thinking_tool_loop,
    structured_output,
    refusal,
    max_tokens,
    error_before,
    error_after,
    cut_anywhere,
)


def _cell(situation: Callable[[ConversionCase], Awaitable[None]]) -> Callable[..., Any]:
    async def test(self: ConversionCase) -> None:
        await situation(self)

    test.__doc__ = situation.__doc__
    return test


def _pair(name: str, client: Sdk, upstream: Sdk) -> type[ConversionCase]:
    cells = {f"test_{situation.__name__}": _cell(situation) for situation in SITUATIONS}
    doc = f"A client of {client.provider}'s dialect before an upstream of {upstream.provider}'s."
    made = type(name, (ConversionCase,), {"__doc__": doc, "sdk": client, "other": upstream})
    for cell, test in cells.items():
        setattr(made, cell, test)
    made.__module__ = __name__
    return made


for _client, _sdk in SDKS.items():
    for _upstream, _other in SDKS.items():
        _name = f"{_client.title()}To{_upstream.title()}Tests"
        globals()[_name] = _pair(_name, _sdk, _other)
