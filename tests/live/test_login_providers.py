"""
Every login before every official SDK: three services by four clients, cell by cell.

One test for each cell of provider, client and situation, and what each cell is to show stands
in one table. The services are fakes over loopback that refuse what the real ones refuse. The
token has expired when the first request of a cell comes, so each begins with a renewal.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from aiclient2api.testing import Call
from aiclient2api.testing.code_assist_answers import SIGNATURE
from aiclient2api.values import Usage
from tests.live.gateway import PROVIDERS, LiveGateway
from tests.live.login_upstreams import (
    CodeAssistUpstream,
    KiroUpstream,
    LoginUpstream,
    QwenUpstream,
    Told,
)
from tests.live.sdk import ANSWERS, IMAGE, PLAIN, RESULTS, THINKING, Answer, Sdk, Seen, seen_call
from tests.live.sdk_case import SdkCase
from tests.live.test_sdk_anthropic import AnthropicSdk
from tests.live.test_sdk_google import GoogleSdk
from tests.live.test_sdk_openai_chat import ChatSdk
from tests.live.test_sdk_openai_responses import ResponsesSdk
from tests.strict_replies import judge_reply
from tests.strict_requests import judge

UPSTREAMS: Mapping[str, type[LoginUpstream]] = {
    each.provider: each for each in (CodeAssistUpstream, QwenUpstream, KiroUpstream)
}
SDKS: Mapping[str, Sdk] = {
    "chat": ChatSdk(),
    "responses": ResponsesSdk(),
    "messages": AnthropicSdk(),
    "gemini": GoogleSdk(),
}
QUESTION = "Wie geht es dir? 你好 😀"
THINKING_TOOLS = attrs.evolve(ANSWERS["tools"], thinking=THINKING.thinking)

# --- the table ------------------------------------------------------------------

# What each cell has to show, besides that all content arrives:
#   told    what the service says arrives, and what the client says reaches the service
#   sealed  so do thoughts, and what they were signed with comes back with the tools' results
#   words   so do thoughts, and they come back in words with the tools' results
#   lacks   nothing: the service or the client has no such thing, for the reason in LACKS
CELLS = """
provider           client     whole  stream  parallel_tools  image  thinking  thinking_tool_loop
gemini-cli-oauth   chat       told   told    told            told   told      sealed
gemini-cli-oauth   responses  told   told    told            told   told      sealed
gemini-cli-oauth   messages   told   told    told            told   told      sealed
gemini-cli-oauth   gemini     told   told    told            told   told      sealed
openai-qwen-oauth  chat       told   told    told            told   told      words
openai-qwen-oauth  responses  told   told    told            told   told      words
openai-qwen-oauth  messages   told   told    told            told   told      words
openai-qwen-oauth  gemini     told   told    told            told   told      words
claude-kiro-oauth  chat       told   told    told            told   told      words
claude-kiro-oauth  responses  told   told    told            told   told      words
claude-kiro-oauth  messages   told   told    told            told   told      words
claude-kiro-oauth  gemini     told   told    told            told   told      words
"""
LACKS: Mapping[tuple[str, str, str], str] = {}
"""Why a cell lacks, by provider, client and situation."""


@attrs.frozen
class Row:
    """
    What a client of one dialect sees of one service, in every cell alike.

    :ivar id: What all of the answer's id matches.
    :ivar stop: Why an answer in words ended, and an answer of calls, in the client's words.
    :ivar names_calls: Whether the service is reminded of the ids of its calls; otherwise it
        tells them apart by their order.
    """

    id: str
    stop: tuple[str, str]
    usage: Usage
    names_calls: bool = True


_CHAT_STOP = ("stop", "tool_calls")
_RESPONSES_STOP = ("completed", "completed")
_MESSAGES_STOP = ("end_turn", "tool_use")
_GEMINI_STOP = ("STOP", "STOP")
_RESPONSE_ID = r"resp_[0-9a-f]{48}"
ROWS: Mapping[tuple[str, str], Row] = {
    ("gemini-cli-oauth", "chat"): Row(
        "chatcmpl-fAke-0001",
        _CHAT_STOP,
        Usage(input=20, output=9, cached=5, reasoning=4),
        names_calls=False,
    ),
    ("gemini-cli-oauth", "responses"): Row(
        _RESPONSE_ID,
        _RESPONSES_STOP,
        Usage(input=20, output=9, cached=5, reasoning=4),
        names_calls=False,
    ),
    ("gemini-cli-oauth", "messages"): Row(
        "msg_fAke-0001",
        _MESSAGES_STOP,
        Usage(input=20, output=9, cached=5, cache_write=0),
        names_calls=False,
    ),
    ("gemini-cli-oauth", "gemini"): Row(
        "fAke-0001", _GEMINI_STOP, Usage(input=20, output=9, cached=5, reasoning=4)
    ),
    ("openai-qwen-oauth", "chat"): Row(
        "chatcmpl-test", _CHAT_STOP, Usage(input=11, output=7, cached=3, reasoning=2)
    ),
    ("openai-qwen-oauth", "responses"): Row(
        _RESPONSE_ID, _RESPONSES_STOP, Usage(input=11, output=7, cached=3, reasoning=2)
    ),
    ("openai-qwen-oauth", "messages"): Row(
        "msg_test", _MESSAGES_STOP, Usage(input=11, output=7, cached=3, cache_write=0)
    ),
    ("openai-qwen-oauth", "gemini"): Row(
        "chatcmpl-test", _GEMINI_STOP, Usage(input=11, output=7, cached=3, reasoning=2)
    ),
    ("claude-kiro-oauth", "chat"): Row(
        r"chatcmpl-[0-9a-f]{24}", _CHAT_STOP, Usage(input=20, output=9, cached=5, reasoning=0)
    ),
    ("claude-kiro-oauth", "responses"): Row(
        _RESPONSE_ID, _RESPONSES_STOP, Usage(input=20, output=9, cached=5, reasoning=0)
    ),
    ("claude-kiro-oauth", "messages"): Row(
        r"msg_[0-9a-f]{24}", _MESSAGES_STOP, Usage(input=20, output=9, cached=5, cache_write=2)
    ),
    ("claude-kiro-oauth", "gemini"): Row(
        r"msg_[0-9a-f]{24}", _GEMINI_STOP, Usage(input=20, output=9, cached=5)
    ),
}


def _cells() -> Mapping[tuple[str, str, str], str]:
    head, *lines = CELLS.strip().splitlines()
    _, _, *situations = head.split()
    found: dict[tuple[str, str, str], str] = {}
    for line in lines:
        provider, client, *shown = line.split()
        found |= {
            (provider, client, situation): each
            for situation, each in zip(situations, shown, strict=True)
        }
    return found


TABLE = _cells()

# --- what a cell is made of --------------------------------------------------------


class LoginCase(SdkCase):
    """
    One service before one client.

    :cvar name: The client's, in the table.
    """

    name: str
    provider: str

    async def begin(self, situation: str) -> str:
        """Start the service and a gateway whose one account has an expired token."""
        cell = self.provider, self.name, situation
        shown = TABLE[cell]
        if shown == "lacks":
            raise SkipTest(LACKS[cell])
        self.row = ROWS[cell[:2]]
        self.upstream = upstream = UPSTREAMS[self.provider]()
        await upstream.listen(reactor)
        self.addCleanup(upstream.stop)
        self.gateway = await LiveGateway(
            self,
            default=self.provider,
            # Nothing may hide a refusal, and only requests renew.
            config={"request_max_retries": 0, "cron_refresh_token": False},
            accounts={self.provider: lambda gateway: [upstream.account(gateway.folder)]},
        ).start()
        self.sent: list[Any] = []
        self.library = self.client(self.gateway, sent=self.sent.append)
        self.assertEqual(0, upstream.renewals)
        return shown

    def end(self) -> None:
        """The token was renewed once, and no request was one that the service refuses."""
        self.assertEqual(1, self.upstream.renewals)
        self.assertEqual([], self.upstream.refused)
        for dialect, body in self.upstream.bodies():
            # What is relayed verbatim is the library's own business.
            if dialect != PROVIDERS[self.sdk.provider][0]:
                judge(dialect, body)

    def question(self, *names: str) -> Mapping[str, Any]:
        """Return what to ask: *names* are of `Sdk.asked`, put together."""
        asked: dict[str, Any] = {}
        for name in names:
            told = self.sdk.asked[name]
            config = {**asked.get("config", {}), **told.get("config", {})}
            if "thinking_config" in config:
                # Google's library asks for thoughts to be shown, and not to think.
                config["thinking_config"] = {"include_thoughts": True, "thinking_level": "HIGH"}
            asked |= {**told, **({"config": config} if config else {})}
        if "thinking" in asked:
            # Anthropic's library wants more tokens than are thought.
            asked["max_tokens"] = 4000
        return {**asked, "model": self.upstream.model}

    async def whole(self, asked: Mapping[str, Any], answer: Answer) -> Any:
        """Ask for a whole answer; see that it is *answer*."""
        return await self._reply(self.sdk.whole, asked, answer)

    async def gathered(self, asked: Mapping[str, Any], answer: Answer) -> Any:
        """Ask for a stream, and let the library gather it; see that it is *answer*."""
        return await self._reply(self.sdk.gathered, asked, answer)

    async def _reply(
        self, ask: Callable[..., Any], asked: Mapping[str, Any], answer: Answer
    ) -> Any:
        self.upstream.play(answer)
        reply = await self.call(ask, self.library, asked)
        self.check(answer, self.sdk.read(reply))
        return reply

    async def both(self, asked: Mapping[str, Any], answer: Answer) -> None:
        """Ask whole and event by event; see that either is *answer*, and well-formed."""
        await self.whole(asked, answer)
        await self.judged(answer)
        await self.stream(asked, answer)

    async def stream(self, asked: Mapping[str, Any], answer: Answer) -> None:
        """Ask for a stream, event by event; see that it is *answer*, and well-formed."""
        self.upstream.play(answer)
        events, error = await self.call(self.drain, self.library, asked)
        self.assertIsNone(error)
        self.check(answer, self.sdk.fold(events))
        await self.judged(answer)

    def check(self, answer: Answer, seen: Seen) -> None:
        """*seen* is *answer*, down to ids, stop reason and usage."""
        self.assertRegex(seen.id, re.compile(self.row.id + r"\Z"))
        wanted = Seen(
            id=seen.id,
            model=self.upstream.model,
            text="".join(answer.pieces),
            finish=self.row.stop[answer.finish == "tools"],
            usage=self.row.usage,
            thinking="".join(answer.thinking),
            calls=_calls(answer),
        )
        self.assertEqual(wanted, seen)

    async def judged(self, answer: Answer) -> None:
        """Send the last request again, and hold the reply to the library's own models."""
        self.upstream.play(answer)
        request = self.sent[-1]
        target, headers = request.url.raw_path.decode(), tuple(request.headers.items())
        reply = await self.gateway.request("POST", target, headers, request.content)
        self.assertEqual(200, reply.status, reply.body)
        judge_reply(PROVIDERS[self.sdk.provider][0], reply.body)

    def told(self, answer: Answer | None = None) -> Told:
        """Return what the service was told last; *answer* and its results are in it."""
        told = self.upstream.told()
        self.assertEqual(1, told.said.count(QUESTION), told.said)
        calls = () if answer is None else _calls(answer)
        results = tuple((call.id, RESULTS[call.id]) for call in calls)
        if not self.row.names_calls:
            calls = tuple(attrs.evolve(call, id="") for call in calls)
            results = tuple(("", result) for _, result in results)
        self.assertEqual(calls, told.calls)
        self.assertEqual(results, told.results)
        return told


def _calls(answer: Answer) -> tuple[Call, ...]:
    return tuple(seen_call(call.id, call.name, call.arguments) for call in answer.tools)


# --- situations: each is one cell for every service and client ------------------------


async def whole(case: LoginCase) -> None:
    """Text arrives in one piece, with its end and its token counts."""
    await case.begin("whole")
    await case.whole(case.question("plain"), PLAIN)
    await case.judged(PLAIN)
    case.assertEqual((), case.told().images)


async def stream(case: LoginCase) -> None:
    """Text arrives in pieces, with its end and its token counts."""
    await case.begin("stream")
    await case.stream(case.question("plain"), PLAIN)
    await case.gathered(case.question("plain"), PLAIN)
    case.assertEqual((), case.told().images)


async def parallel_tools(case: LoginCase) -> None:
    """Two calls at once arrive as such; their results go back, each to its own call."""
    await case.begin("parallel_tools")
    answer, asked = ANSWERS["text and tools"], case.question("text and tools")
    await case.both(asked, answer)
    for way in (case.whole, case.gathered):
        again = case.sdk.follow_up(asked, await way(asked, answer), RESULTS)
        await way(again, PLAIN)
        case.told(answer)


async def image(case: LoginCase) -> None:
    """A picture in the question reaches the service with all its bytes."""
    await case.begin("image")
    for way in (case.whole, case.stream):
        await way(case.question("image"), ANSWERS["image"])
        told = case.upstream.told()
        case.assertEqual((("image/png", IMAGE),), told.images)
        case.assertIn("What is this?", told.said)


async def thinking(case: LoginCase) -> None:
    """A wish for thoughts reaches the service; they come apart from the text."""
    await case.begin("thinking")
    await case.both(case.question("thinking"), THINKING)
    case.assertTrue(case.told().thinks)


async def thinking_tool_loop(case: LoginCase) -> None:
    """Thoughts before calls are seen, and the service gets back what it needs of them."""
    shown = await case.begin("thinking_tool_loop")
    asked = case.question("thinking", "tools")
    await case.stream(asked, THINKING_TOOLS)
    for way in (case.whole, case.gathered):
        again = case.sdk.follow_up(asked, await way(asked, THINKING_TOOLS), RESULTS)
        await way(again, PLAIN)
        told = case.told(THINKING_TOOLS)
        case.assertTrue(told.thinks)
        if shown == "sealed":
            case.assertEqual((SIGNATURE,), told.seals)
        else:
            case.assertEqual("".join(THINKING_TOOLS.thinking), told.thoughts)


SITUATIONS: Mapping[str, Callable[[LoginCase], Awaitable[None]]] = {
    each.__name__: each
    for each in (whole, stream, parallel_tools, image, thinking, thinking_tool_loop)
}


class TableTests(SynchronousTestCase):
    """The table."""

    def test_it_has_no_hole(self) -> None:
        """Each service, client and situation has its cell, and every gap its reason."""
        wanted = {
            (provider, client, situation)
            for provider in UPSTREAMS
            for client in SDKS
            for situation in SITUATIONS
        }
        self.assertEqual(wanted, set(TABLE))
        self.assertEqual({cell[:2] for cell in wanted}, set(ROWS))
        self.assertLessEqual(set(TABLE.values()), {"told", "sealed", "words", "lacks"})
        self.assertEqual({cell for cell in TABLE if TABLE[cell] == "lacks"}, set(LACKS))
        self.assertTrue(all(LACKS.values()))


def _cell(situation: Callable[[LoginCase], Awaitable[None]]) -> Callable[..., Any]:
    async def test(self: LoginCase) -> None:
        await situation(self)
        self.end()

    test.__doc__ = situation.__doc__
    return test


def _pair(name: str, provider: str, client: str) -> type[LoginCase]:
    doc = f"The login of {provider} before a client of {SDKS[client].provider}'s dialect."
    fields = {"__doc__": doc, "sdk": SDKS[client], "name": client, "provider": provider}
    made = type(name, (LoginCase,), fields)
    for situation, cell in SITUATIONS.items():
        setattr(made, f"test_{situation}", _cell(cell))
    made.__module__ = __name__
    return made


for _provider, _kind in UPSTREAMS.items():
    for _client in SDKS:
        _name = f"{_kind.__name__.removesuffix('Upstream')}To{_client.title()}Tests"
        globals()[_name] = _pair(_name, _provider, _client)
