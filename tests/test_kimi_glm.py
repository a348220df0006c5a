"""
Kimi K2 and GLM-4.5 in both dialects: what they refuse is not sent, what they say is understood.

From a client's request to the vendor's, and from the vendor's answer to the client's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aiclient2api.conversation import call_ids
from aiclient2api.providers.claude_custom import claude_custom
from aiclient2api.providers.openai_custom import openai_custom
from aiclient2api.testing import (
    Call,
    MemoryResponse,
    chat_body,
    chat_chunks,
    messages_body,
)
from aiclient2api.vendors import VENDORS
from tests.strict_replies import judge_reply, records
from tests.web_fixture import GatewayTestCase

JSON = ((b"content-type", b"application/json"),)
SSE = ((b"content-type", b"text/event-stream"),)
KIMI, GLM = "kimi-k2-thinking", "glm-4.6"
KIMI_ID = "functions.get_weather:0"
TOOL = {"name": "get_weather", "description": "d", "input_schema": {"type": "object"}}


def chat_tool(name: str = "get_weather") -> dict[str, Any]:
    """Return a tool as a Chat client offers it."""
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


class VendorCase(GatewayTestCase):
    """A gateway before Moonshot or Zhipu."""

    def ask_for(
        self,
        model: str,
        fields: dict[str, Any],
        *,
        answer: MemoryResponse | None = None,
        dialect: str = "openai",
    ) -> Any:
        """
        Ask with a request of Messages, or of Responses where the vendor speaks Messages.

        :param dialect: What the vendor is asked in: ``openai`` or ``claude``.
        """
        vendor = "kimi" if model.startswith("kimi") else "glm"
        keys = {"openai": "openai_api_key", "claude": "claude_api_key"}
        fallback = chat_body("ok") if dialect == "openai" else messages_body("ok")
        self.build(
            [answer or MemoryResponse(200, JSON, [fallback])],
            model_provider=f"{dialect}-custom-{vendor}",
            **{keys[dialect]: "test-vendor"},
        )
        path = "/v1/messages" if dialect == "openai" else "/v1/chat/completions"
        least: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        if dialect == "openai":
            least["max_tokens"] = 100
        self.answered = self.ask("POST", path, json.dumps({**least, **fields}).encode())
        return json.loads(self.upstream.sent[-1].request.body or b"{}")

    def lost(self) -> Sequence[str]:
        """Return what the gateway says it could not carry."""
        told = str(self.answered.headers.get("x-aiclient2api-lossy", ""))
        return [each.strip() for each in told.split(",") if each.strip()]

    def events(self) -> list[Any]:
        """Return the records of a streamed Messages answer, decoded."""
        return [data for _, data in records(self.answered.body)]


class PresetTests(VendorCase):
    """A name is enough."""

    def test_both_dialects(self) -> None:
        """Each preset of either vendor has an address and models in both."""
        for suffix in ("kimi", "kimi-cn", "kimi-coding", "glm", "glm-cn", "glm-coding"):
            for factory, key in ((openai_custom, "openai"), (claude_custom, "claude")):
                implied = factory.defaults(name=f"{factory.name}-{suffix}")
                self.assertTrue(implied[f"{key}_base_url"].startswith("https://"))
            self.assertTrue(VENDORS[suffix].models)

    def test_addresses(self) -> None:
        """Nothing is added to Zhipu's /v4 but the path, and /v1/messages to Moonshot's."""
        for model, dialect, url in (
            (KIMI, "openai", "https://api.moonshot.ai/v1/chat/completions"),
            (KIMI, "claude", "https://api.moonshot.ai/anthropic/v1/messages"),
            (GLM, "openai", "https://api.z.ai/api/paas/v4/chat/completions"),
            (GLM, "claude", "https://api.z.ai/api/anthropic/v1/messages"),
        ):
            self.ask_for(model, {}, dialect=dialect)
            self.assertEqual(self.answered.status, 200, self.answered.body)
            self.assertEqual(self.upstream.sent[-1].request.url, url)


class ThinkingTests(VendorCase):
    """How they are told to think."""

    def test_one_way_only(self) -> None:
        """``thinking`` is a switch, and never goes together with ``reasoning_effort``."""
        for model in ("kimi-k2.5", GLM, "glm-4.5"):
            for asked, kind in (
                ({"type": "enabled", "budget_tokens": 2000}, "enabled"),
                ({"type": "disabled"}, "disabled"),
            ):
                fields = {"thinking": asked, "max_tokens": 4000}
                told = self.ask_for(model, fields)
                self.assertEqual(told["thinking"], {"type": kind})
                self.assertNotIn("reasoning_effort", told)

    def test_models_that_always_think(self) -> None:
        """They are not told to stop, which they would refuse; and the client is told."""
        for model in (KIMI, "kimi-k2.7-code"):
            told = self.ask_for(model, {"thinking": {"type": "disabled"}})
            self.assertNotIn("thinking", told)
            self.assertIn("thinking", self.lost())

    def test_the_effort_of_a_chat_client(self) -> None:
        """In Messages it becomes the switch of that dialect."""
        told = self.ask_for("kimi-k2.5", {"reasoning_effort": "high"}, dialect="claude")
        self.assertEqual(told["thinking"]["type"], "enabled")
        self.assertNotIn("reasoning_effort", told)

    def test_thoughts_are_streamed(self) -> None:
        """``reasoning_content`` becomes thinking as it comes."""
        stream = chat_chunks(["b"], thinking=["a1", "a2"])
        self.ask_for(KIMI, {"stream": True}, answer=MemoryResponse(200, SSE, stream))
        deltas = [each["delta"] for each in self.events() if each["type"] == "content_block_delta"]
        thoughts = [each["thinking"] for each in deltas if each["type"] == "thinking_delta"]
        self.assertEqual(thoughts, ["a1", "a2"])


class ReplayedCallTests(VendorCase):
    """A history with calls in it."""

    def turns(self, *, thought: str | None, id: str = KIMI_ID) -> dict[str, Any]:
        """Return a Messages history of one call."""
        call = {"type": "tool_use", "id": call_ids.plain(id), "name": "get_weather", "input": {}}
        said = [call]
        if thought is not None:
            said = [{"type": "thinking", "thinking": thought, "signature": ""}, call]
        result = {"type": "tool_result", "tool_use_id": call_ids.plain(id), "content": "sun"}
        return {
            "tools": [TOOL],
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": said},
                {"role": "user", "content": [result]},
            ],
        }

    def chat_turns(self, *, thought: str | None) -> dict[str, Any]:
        """Return a Chat history of one call."""
        function = {"name": "get_weather", "arguments": "{}"}
        call = {"id": KIMI_ID, "type": "function", "function": function}
        said = {"role": "assistant", "content": None, "tool_calls": [call]}
        return {
            "tools": [chat_tool()],
            "reasoning_effort": "low",
            "messages": [
                {"role": "user", "content": "hi"},
                said if thought is None else {**said, "reasoning_content": thought},
                {"role": "tool", "tool_call_id": KIMI_ID, "content": "sun"},
            ],
        }

    def test_kimi_gets_a_thought_in_chat(self) -> None:
        """The client's own, or a blank: never an empty one, never none."""
        for thought in (None, "", "Hm."):
            told = self.ask_for(KIMI, self.turns(thought=thought))
            message = told["messages"][1]
            self.assertEqual(message["reasoning_content"], thought or " ")
            self.assertEqual(message["tool_calls"][0]["id"], KIMI_ID)
            self.assertEqual(told["messages"][2]["tool_call_id"], KIMI_ID)

    def test_kimi_gets_a_thought_in_messages(self) -> None:
        """There a thought that is empty is refused as well."""
        for thought in (None, "", "Hm."):
            told = self.ask_for(KIMI, self.chat_turns(thought=thought), dialect="claude")
            first, second = told["messages"][1]["content"]
            self.assertEqual(first["type"], "thinking")
            self.assertTrue(first["thinking"].strip())
            if thought:
                self.assertEqual(first["thinking"], thought)
            self.assertEqual(second["type"], "tool_use")
            self.assertRegex(second["id"], r"\A[a-zA-Z0-9_-]+\Z")
            result = told["messages"][2]["content"][0]
            self.assertEqual(result["tool_use_id"], second["id"])

    def test_glm_gets_thoughts_but_needs_none(self) -> None:
        """What it thought goes back; where it did not, nothing is made up."""
        told = self.ask_for(GLM, self.turns(thought="Hm."))
        self.assertEqual(told["messages"][1]["reasoning_content"], "Hm.")
        told = self.ask_for(GLM, self.turns(thought=None))
        self.assertNotIn("reasoning_content", told["messages"][1])

    def test_ids_of_kimi(self) -> None:
        """Dots and colons never reach an Anthropic client, and come back all the same."""
        call = Call(KIMI_ID, "get_weather", '{"a":1}')
        whole = MemoryResponse(200, JSON, [chat_body("", "tool_calls", tools=[call])])
        self.ask_for(KIMI, {"tools": [TOOL]}, answer=whole)
        judge_reply("anthropic-messages", self.answered.body)
        (block,) = self.answered.json()["content"]
        self.assertRegex(block["id"], r"\A[a-zA-Z0-9_-]+\Z")
        stream = chat_chunks([], "tool_calls", tools=[call])
        streamed = MemoryResponse(200, SSE, stream)
        self.ask_for(KIMI, {"tools": [TOOL], "stream": True}, answer=streamed)
        (opened,) = [each for each in self.events() if each["type"] == "content_block_start"]
        self.assertEqual(opened["content_block"]["id"], block["id"])
        self.assertEqual(call_ids.original(block["id"]), KIMI_ID)


class UsageTests(VendorCase):
    """Tokens, wherever Moonshot tells of them."""

    def test_in_the_choice(self) -> None:
        """A stream's last chunk counts within its choice, cached tokens beside the others."""
        usage = {"prompt_tokens": 20, "completion_tokens": 4, "cached_tokens": 5}
        last = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage}
        chunk = {"id": "c", "object": "chat.completion.chunk", "model": KIMI, "choices": [last]}
        pieces = [*chat_chunks(["a"])[:2], b"data: " + json.dumps(chunk).encode() + b"\n\n"]
        streamed = MemoryResponse(200, SSE, [*pieces, b"data: [DONE]\n\n"])
        self.ask_for(KIMI, {"stream": True}, answer=streamed)
        (told,) = [each["usage"] for each in self.events() if each["type"] == "message_delta"]
        self.assertEqual((told["input_tokens"], told["output_tokens"]), (15, 4))
        self.assertEqual(told["cache_read_input_tokens"], 5)
        (outcome,) = self.observer.outcomes.values()
        assert outcome.usage is not None
        self.assertEqual((outcome.usage.input, outcome.usage.cached), (20, 5))


class ZhipuTests(VendorCase):
    """What is peculiar to GLM."""

    def test_calls_are_streamed(self) -> None:
        """Only if it is told to: in a stream with tools, and nowhere else."""
        stream = MemoryResponse(200, SSE, chat_chunks(["a"]))
        told = self.ask_for("glm-4.5", {"tools": [TOOL], "stream": True}, answer=stream)
        self.assertIs(told["tool_stream"], True)
        self.assertNotIn("tool_stream", self.ask_for("glm-4.5", {"tools": [TOOL]}))
        stream = MemoryResponse(200, SSE, chat_chunks(["a"]))
        self.assertNotIn("tool_stream", self.ask_for(GLM, {"stream": True}, answer=stream))

    def test_nobody_else_is_told_so(self) -> None:
        """Kimi streams calls anyhow, and others that serve GLM may refuse the field."""
        for model in (KIMI, "kimi-k2-0905-preview"):
            stream = MemoryResponse(200, SSE, chat_chunks(["a"]))
            told = self.ask_for(model, {"tools": [TOOL], "stream": True}, answer=stream)
            self.assertNotIn("tool_stream", told)
        self.build(
            [MemoryResponse(200, SSE, chat_chunks(["a"]))],
            model_provider="openai-custom-openrouter",
            openai_api_key="test-vendor",
        )
        fields = {"model": "z-ai/glm-4.6", "max_tokens": 9, "stream": True, "tools": [TOOL]}
        fields["messages"] = [{"role": "user", "content": "hi"}]
        self.ask("POST", "/v1/messages", json.dumps(fields).encode())
        self.assertNotIn(b"tool_stream", self.upstream.sent[-1].request.body or b"")

    def test_no_choice_of_tools(self) -> None:
        """It takes ``auto`` only: a wish that cannot be met is named."""
        for choice, lost in (
            ({"type": "auto"}, False),
            ({"type": "any"}, True),
            ({"type": "tool", "name": "get_weather"}, True),
        ):
            told = self.ask_for(GLM, {"tools": [TOOL], "tool_choice": choice})
            self.assertEqual(told["tool_choice"], "auto")
            self.assertEqual("tool_choice" in self.lost(), lost)
        told = self.ask_for(GLM, {"tools": [TOOL], "tool_choice": {"type": "none"}})
        self.assertNotIn("tools", told)

    def test_texts_are_plain(self) -> None:
        """Parts are joined into strings: on DashScope lists of them are lost without tools."""
        parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        marked = [{**parts[0], "cache_control": {"type": "ephemeral"}}]
        fields = {"system": marked, "messages": [{"role": "user", "content": parts}]}
        told = self.ask_for(GLM, fields)
        self.assertEqual([each["content"] for each in told["messages"]], ["a", "a\nb"])

    def test_reasons_to_end(self) -> None:
        """``sensitive`` is a refusal; ``network_error`` is none, but an answer that broke off."""
        answer = MemoryResponse(200, JSON, [chat_body("a", "sensitive")])
        self.ask_for(GLM, {}, answer=answer)
        self.assertEqual(self.answered.json()["stop_reason"], "refusal")
        broken = MemoryResponse(200, SSE, chat_chunks(["a"], "network_error"))
        self.ask_for(GLM, {"stream": True}, answer=broken)
        self.assertEqual(self.events()[-1]["type"], "error")
        self.assertNotIn(b"message_stop", self.answered.body)

    def test_numbers_of_errors(self) -> None:
        """Digits in quotes mean what they mean, as an answer's status or within a stream."""
        for code, status, kind in (
            ("1302", 429, "rate_limit_error"),
            ("1303", 429, "rate_limit_error"),
            ("1308", 429, "rate_limit_error"),
            ("1113", 429, "rate_limit_error"),
        ):
            body = json.dumps({"error": {"code": code, "message": "because"}}).encode()
            self.ask_for(GLM, {}, answer=MemoryResponse(status, JSON, [body]))
            self.assertEqual(self.answered.status, status)
            self.assertEqual(self.answered.json()["error"]["type"], kind)
            pieces = [*chat_chunks(["a"])[:2], b"data: " + body + b"\n\n"]
            streamed = MemoryResponse(200, SSE, pieces)
            self.ask_for(GLM, {"stream": True}, answer=streamed)
            self.assertEqual(self.events()[-1]["error"]["type"], kind, code)

    def test_a_filter_is_final(self) -> None:
        """1301 is a policy, with a status of its own or within a 200: nobody else is asked."""
        body = json.dumps({"error": {"code": "1301", "message": "sensitive"}}).encode()
        for status in (400, 200):
            self.ask_for(GLM, {}, answer=MemoryResponse(status, JSON, [body]))
            self.assertEqual(self.answered.status, 400)
            self.assertEqual(len(self.upstream.sent), 1)
