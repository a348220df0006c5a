"""
Kiro over loopback: a client of each dialect, a real exchange, real conversions, real sockets.

What the fake refuses is what the service would; so what is answered here obeyed all its rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from aiclient2api.conversation.vault import SealVault
from aiclient2api.conversions import Conversions
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.exchange import Exchange, Patience, Way
from aiclient2api.providers.claude_kiro_oauth import ClaudeKiroOAuth
from aiclient2api.providers.claude_kiro_oauth import claude_kiro_oauth as FACTORY
from aiclient2api.testing import (
    KIRO_STREAM_HEAD,
    Chunk,
    Close,
    FakeKiro,
    FixedPool,
    Hold,
    MemoryObserver,
    MemoryReply,
    kiro_call,
    kiro_exception,
    kiro_metadata,
    kiro_refusal,
    kiro_reply,
    kiro_text,
    kiro_thought,
    one_account,
)
from aiclient2api.values import ExchangeRecord, Route, Runtime
from tests.raw_peers import REACTOR, WireCase, turns
from tests.strict_replies import judge_reply
from tests.test_claude_kiro_oauth import HI, NOW, PNG, book

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}

# One request in each dialect: an image, a tool, a call and its result, a wish for thoughts.
URL = f"data:image/png;base64,{PNG}"
CHAT = {
    "model": "claude-sonnet-4.5",
    "messages": [
        {"role": "system", "content": "S"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": URL}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "t1",
                    "type": "function",
                    "function": {"name": "get", "arguments": '{"city":"Rome"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
    ],
    "tools": [{"type": "function", "function": {"name": "get", "parameters": SCHEMA}}],
    "reasoning_effort": "low",
}
RESPONSES = {
    "model": "claude-sonnet-4.5",
    "instructions": "S",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": URL},
            ],
        },
        {
            "type": "function_call",
            "call_id": "t1",
            "name": "get",
            "arguments": '{"city":"Rome"}',
        },
        {"type": "function_call_output", "call_id": "t1", "output": "sunny"},
    ],
    "tools": [{"type": "function", "name": "get", "parameters": SCHEMA}],
    "reasoning": {"effort": "low"},
}
MESSAGES = {
    "model": "claude-sonnet-4.5",
    "max_tokens": 4096,
    "system": "S",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                },
            ],
        },
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "get", "input": {"city": "Rome"}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}],
        },
    ],
    "tools": [{"name": "get", "input_schema": SCHEMA}],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
}
GEMINI = {
    "systemInstruction": {"parts": [{"text": "S"}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "look"},
                {"inlineData": {"mimeType": "image/png", "data": PNG}},
            ],
        },
        {"role": "model", "parts": [{"functionCall": {"name": "get", "args": {"city": "Rome"}}}]},
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "get", "response": {"output": "sunny"}}}],
        },
    ],
    "tools": [{"functionDeclarations": [{"name": "get", "parameters": SCHEMA}]}],
    "generationConfig": {"thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": True}},
}
ASKED: Mapping[str, Mapping[str, Any]] = {
    "openai-chat": CHAT,
    "openai-responses": RESPONSES,
    "anthropic-messages": MESSAGES,
    "gemini": GEMINI,
}
ANSWER = [
    kiro_text("<thinking>\nhm hm</thinking>\n\nBoth ar"),
    kiro_text("e \u2600\U0001f600"),
    *kiro_call("tooluse_1", "get", ['{"city":', '"Oslo"}']),
    *kiro_call("tooluse_2", "get", ['{"city":"Lima"}']),
    kiro_metadata({"inputTokens": 21, "outputTokens": 8}, "TOOL_USE"),
]


class LoopbackTests(WireCase):
    """All of it against the services, over loopback, through a real exchange."""

    async def setUp(self) -> None:  # type: ignore[override]
        """Start the services."""
        super().setUp()
        self.clock = Clock()
        self.clock.advance(NOW)
        self.kiro = FakeKiro(now=self.clock.seconds)
        await self.kiro.listen(REACTOR)
        self.addCleanup(self.kiro.stop)
        runtime = Runtime(clock=self.clock, upstream=self.upstream(), tokens=book(self.clock))
        self.provider = FACTORY.provider(name=FACTORY.name, runtime=runtime)
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def log_in(self, document: Any, registration: Any = None) -> None:
        """Leave a credential, as a login does."""
        self.file = self.folder / "kiro-auth-token.json"
        self.file.write_text(json.dumps(document))
        if registration is not None:
            hashed = self.folder / f"{document['clientIdHash']}.json"
            hashed.write_text(json.dumps(registration))
        addresses: dict[str, Any] = self.kiro.settings
        settings = FACTORY.settings(kiro_oauth_creds_dir_path=self.folder, **addresses)
        self.pool = FixedPool([one_account(FACTORY.name, settings)])

    def stored(self) -> Any:
        """Return the credential file."""
        return json.loads(self.file.read_text())

    async def ask(
        self,
        body: Mapping[str, Any] = HI,
        dialect: str = "anthropic-messages",
        reply: MemoryReply | None = None,
        **more: Any,
    ) -> MemoryReply:
        """Ask for an answer as a client of *dialect* does."""
        source = next(each for each in DIALECTS if each.name == dialect)
        streaming = bool(more.get("stream"))
        if dialect == "gemini":
            route = Route(
                action="generate",
                model="claude-sonnet-4.5",
                streaming=streaming,
                framing="sse" if streaming else "whole",
            )
            sent = json.dumps(body).encode()
        else:
            route = Route(action="generate")
            sent = json.dumps({**body, **more}).encode()
        request = source.parse(body=sent, route=route)
        reply = MemoryReply() if reply is None else reply
        vault = SealVault(self.clock.seconds)
        conversions = Conversions(vault=vault, make_id=lambda: "0123456789abcdef" * 2)

        async def convert(way: Way) -> Any:
            return await conversions.converted(
                request, source=source, provider=way.provider, model=request.model, caller="c"
            )

        exchange = Exchange(
            record=ExchangeRecord(
                id="x1", caller="c", request=request, provider=FACTORY.name, model="m", began=NOW
            ),
            ways=[Way(self.provider, self.pool, request.model, "default")],
            convert=convert,
            reply=reply,
            patience=Patience(
                wait=0.0, response_headers=0.0, first_event=0.0, idle=0.0, max_retries=0
            ),
            clock=self.clock,
            jitter=lambda: 0.0,
            observers=MemoryObserver(),
        )
        await exchange.run()
        return reply

    async def failing(self, body: Mapping[str, Any] = HI, **more: Any) -> UpstreamError:
        """Ask, and return the error."""
        asking: Deferred[Any] = Deferred.fromCoroutine(self.ask(body, **more))
        error: UpstreamError = await self.assertFailure(asking, UpstreamError)
        return error

    async def test_every_dialect(self) -> None:
        """Image, history, tools at once, thoughts; whole and as a stream: all arrives."""
        self.log_in(self.kiro.social())
        for dialect, body in ASKED.items():
            for streaming in (False, True):
                self.kiro.answers = [ANSWER]
                reply = await self.ask(body, dialect, stream=streaming)
                self.assertEqual((reply.status, reply.ended), (200, "finished"), dialect)
                judge_reply(dialect, reply.body)
                text = reply.body.decode()
                for piece in ("Oslo", "Lima", "get", "hm hm", "\u2600\U0001f600"):
                    self.assertIn(piece, text, (dialect, streaming))
                self.assertNotIn("<thinking", text)
                state = self.kiro.asked[-1]["conversationState"]
                first, second = state["history"]
                told = first["userInputMessage"]
                self.assertEqual([each["format"] for each in told["images"]], ["png"])
                self.assertTrue(told["content"].startswith("<thinking_mode>enabled"), dialect)
                self.assertTrue(told["content"].endswith("S\n\nlook"), dialect)
                calls = second["assistantResponseMessage"]["toolUses"]
                self.assertEqual([each["input"] for each in calls], [{"city": "Rome"}])
                context = state["currentMessage"]["userInputMessage"]["userInputMessageContext"]
                self.assertIn("sunny", context["toolResults"][0]["content"][0]["text"])
        self.assertEqual(self.kiro.broken, [])
        self.assertEqual(set(self.pool.ends()), {"succeeded"})

    async def test_usage_reaches_the_client(self) -> None:
        """Tokens are told in the client's own words."""
        self.log_in(self.kiro.social())
        self.kiro.answers = [ANSWER]
        reply = await self.ask(CHAT, "openai-chat")
        told = json.loads(reply.body)
        self.assertEqual(told["usage"]["prompt_tokens"], 21)
        self.assertEqual(told["usage"]["completion_tokens"], 8)
        self.assertEqual(told["choices"][0]["finish_reason"], "tool_calls")
        ids = [call["id"] for call in told["choices"][0]["message"]["tool_calls"]]
        self.assertEqual(ids, ["tooluse_1", "tooluse_2"])

    async def test_thoughts_come_and_go(self) -> None:
        """What a client was told goes back in its tags, where its dialect can bring it."""
        self.log_in(self.kiro.social())
        self.kiro.answers = [[kiro_thought("hm hm"), kiro_text("Yes")]]
        hi = {"role": "user", "content": "hi"}
        asked = {"model": "claude-sonnet-4.5", "messages": [hi], "reasoning_effort": "low"}
        told = json.loads((await self.ask(asked, "openai-chat")).body)
        said = told["choices"][0]["message"]
        self.assertEqual(said["reasoning_content"], "hm hm")
        asked["messages"] = [hi, said, {"role": "user", "content": "sure?"}]
        await self.ask(asked, "openai-chat")
        history = self.kiro.asked[-1]["conversationState"]["history"]
        content = history[1]["assistantResponseMessage"]["content"]
        self.assertEqual(content, "<thinking>hm hm</thinking>\n\nYes")

    async def test_thoughts_of_nobody(self) -> None:
        """A Messages client brings a mark that keeps Anthropic from them, and Kiro gets words."""
        self.log_in(self.kiro.social())
        self.kiro.answers = [[kiro_thought("hm hm"), kiro_text("Yes")]]
        asked = {**HI, "thinking": {"type": "enabled", "budget_tokens": 1024}}
        told = json.loads((await self.ask(asked)).body)
        messages = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": told["content"]},
            {"role": "user", "content": "sure?"},
        ]
        await self.ask({**asked, "messages": messages})
        history = self.kiro.asked[-1]["conversationState"]["history"]
        content = history[1]["assistantResponseMessage"]["content"]
        self.assertEqual(content, "<thinking>hm hm</thinking>\n\nYes")
        (mark,) = [each["signature"] for each in told["content"] if "signature" in each]
        self.assertNotIn(mark, json.dumps(self.kiro.asked[-1]))

    async def test_long_names(self) -> None:
        """A client sees its own names, however long, whether converted or not."""
        self.log_in(self.kiro.social())
        name = "mcp__" + "x" * 80
        short = name[:51] + "_6473cc202696"
        tools = [{"name": name, "input_schema": SCHEMA}]
        chat = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}}]
        for body, dialect in (
            ({**HI, "tools": tools}, "anthropic-messages"),
            ({"model": "auto", "messages": HI["messages"], "tools": chat}, "openai-chat"),
        ):
            self.kiro.answers = [kiro_call("t1", short, [])]
            reply = await self.ask(body, dialect)
            self.assertIn(name.encode(), reply.body)
            self.assertNotIn(short.encode(), reply.body)

    async def test_expired(self) -> None:
        """An expired token is renewed before it is used, again and again, and none is burned."""
        for registration in (None, True):
            if registration:
                self.log_in(*self.kiro.builder_id())
            else:
                self.log_in(self.kiro.social())
            for _ in range(3):
                before = self.stored()
                self.clock.advance(3600)
                self.assertIn(b"Hello from ", (await self.ask()).body)
                self.assertNotEqual(self.stored()["refreshToken"], before["refreshToken"])
        self.assertEqual((self.kiro.renewed, self.kiro.burned), (6, []))

    async def test_refused(self) -> None:
        """A token that is refused is renewed once, whatever the status, and nobody notices."""
        for status in (403, 401):
            self.kiro.expired_status = status
            self.log_in(self.kiro.social())
            self.kiro.expire(self.stored()["accessToken"])
            self.clock.advance(60)
            self.assertIn(b"Hello from ", (await self.ask()).body)
        self.assertEqual(self.kiro.renewed, 2)

    async def test_dead(self) -> None:
        """A login that is over is told of, with what to do; nothing is deleted."""
        document, registration = self.kiro.builder_id()
        self.log_in(document, registration)
        self.kiro.revoke(document["refreshToken"])
        self.clock.advance(3600)
        error = await self.failing()
        self.assertIs(error.fault, Fault.CREDENTIAL)
        self.assertIn("aiclient2api login claude-kiro-oauth", error.message)
        self.assertEqual(self.stored(), document)
        self.assertEqual(self.pool.ends(), ["failed"])

    async def test_two_regions(self) -> None:
        """A login of one region, a service in another, a profile to be found out."""
        self.kiro.oidc_region, self.kiro.region = "ap-southeast-1", "eu-central-1"
        document, registration = self.kiro.enterprise()
        self.log_in(document, registration)
        self.clock.advance(3600)
        self.assertIn(b"Hello from ", (await self.ask()).body)
        arn = self.kiro.arn_of(self.stored()["accessToken"])
        self.assertEqual(self.stored()["profileArn"], arn)
        self.assertEqual(self.kiro.asked[0]["profileArn"], arn)
        places = {request.target.rpartition("/")[0] for request in self.kiro.server.requests}
        self.assertIn("/oidc/ap-southeast-1", places)

    async def test_a_social_login_without_a_profile(self) -> None:
        """It is found as well."""
        self.log_in(self.kiro.social(arn=False))
        self.assertIn(b"Hello from ", (await self.ask()).body)

    async def test_usage(self) -> None:
        """The plan, what is used of it, and what comes on top."""
        self.log_in(self.kiro.social())
        usage = await cast(ClaudeKiroOAuth, self.provider).usage(self.pool.snapshot()[0])
        self.assertEqual((usage.plan, usage.resets), ("KIRO FREE", 1735689600.0))
        self.assertEqual(
            [(each.kind, each.name, each.used, each.limit) for each in usage.allowances],
            [
                ("plan", "Credit", 10.4, 50.0),
                ("trial", "Credit", 0.0, 500.0),
                ("bonus", "Welcome", 1.0, 25.0),
            ],
        )
        self.assertNotIn("somebody", repr(usage))

    async def test_too_long(self) -> None:
        """Here or there: the client is told in its own words, and nothing is cut."""
        self.log_in(self.kiro.social())
        long = {**HI, "messages": [{"role": "user", "content": "x" * 930_000}]}
        error = await self.failing(long)
        self.assertIs(error.fault, Fault.CONTEXT)
        self.assertEqual(self.kiro.server.requests, [])
        self.kiro.longest = 100
        error = await self.failing()
        self.assertIs(error.fault, Fault.CONTEXT)
        self.assertIn(b"prompt is too long", ANTHROPIC_MESSAGES.render_error(error)[1])

    async def test_refusals(self) -> None:
        """A busy model, a spent month, an account that is suspended."""
        self.log_in(self.kiro.social())
        for answer, fault in (
            (kiro_refusal(429, "busy", "INSUFFICIENT_MODEL_CAPACITY"), Fault.CAPACITY),
            (kiro_refusal(402, "reached the limit", "MONTHLY_REQUEST_COUNT"), Fault.QUOTA),
            (kiro_refusal(403, "Your account has been suspended."), Fault.PERMISSION),
            (kiro_reply([kiro_exception("ThrottlingException", "slow")]), Fault.RATE_LIMIT),
            (kiro_reply([kiro_metadata({"inputTokens": 1})]), Fault.TRUNCATED),
        ):
            self.kiro.answers = [answer]
            self.assertIs((await self.failing()).fault, fault)

    async def test_unknown_model(self) -> None:
        """A model that there is none of is no fault of the account."""
        self.log_in(self.kiro.social())
        error = await self.failing({**HI, "model": "gpt-5"})
        self.assertEqual((error.fault, error.of_model), (Fault.NOT_FOUND, True))

    async def test_what_cannot_be_asked(self) -> None:
        """A forced call is refused before anything is sent."""
        self.log_in(self.kiro.social())
        tools = [{"name": "f", "input_schema": SCHEMA}]
        asked = {**HI, "tools": tools, "tool_choice": {"type": "any"}}
        asking = Deferred.fromCoroutine(self.ask(asked))
        await self.assertFailure(asking, InvalidRequest)
        self.assertEqual(self.pool.ends(), ["abandoned"])
        self.assertEqual(self.kiro.server.requests, [])

    async def test_broken_in_the_middle(self) -> None:
        """What broke off looks like nothing else, in every dialect."""
        self.log_in(self.kiro.social())
        for dialect, body in ASKED.items():
            half = (KIRO_STREAM_HEAD, Chunk(b"".join(ANSWER[:4])[:-9]), Close())
            self.kiro.answers = [half]
            reply = await self.ask(body, dialect, stream=True)
            self.assertIn(b"Both ar", reply.body)
            for end in (b"message_stop", b"[DONE]", b"response.completed", b'"STOP"'):
                self.assertNotIn(end, reply.body)

    async def test_throttled_in_the_middle(self) -> None:
        """The client is told why, in its own form."""
        self.log_in(self.kiro.social())
        for dialect, body in ASKED.items():
            throttled = kiro_exception("ThrottlingException", "slow down")
            text = kiro_text("<thinking>a</thinking>\n\nwell, well")
            self.kiro.answers = [(KIRO_STREAM_HEAD, Chunk(text), Hold(), Chunk(throttled))]
            reply = MemoryReply()
            asking = Deferred.fromCoroutine(self.ask(body, dialect, reply=reply, stream=True))
            while b"well, well" not in reply.body:
                await turns()
            self.kiro.server.release()
            await asking
            self.assertIn(b"slow down", reply.body)
            for end in (b"message_stop", b"[DONE]", b"response.completed", b'"STOP"'):
                self.assertNotIn(end, reply.body)

    async def test_stop_sequences(self) -> None:
        """They are heeded, though the service does not know them."""
        self.log_in(self.kiro.social())
        self.kiro.answers = [[kiro_text("one "), kiro_text("END two")]] * 2
        asked = {"model": "auto", "messages": HI["messages"], "stop": ["END"]}
        told = json.loads((await self.ask(asked, "openai-chat")).body)
        self.assertEqual(told["choices"][0]["message"]["content"], "one ")
        self.assertEqual(told["choices"][0]["finish_reason"], "stop")
        reply = await self.ask({**HI, "stop_sequences": ["END"]})
        self.assertEqual(json.loads(reply.body)["stop_sequence"], "END")
