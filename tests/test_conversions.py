"""Conversions end to end in memory: what a client of one dialect sees of a provider of another."""

from __future__ import annotations

import json
from typing import Any

from aiclient2api.testing import (
    SEAL,
    Call,
    MemoryResponse,
    chat_body,
    chat_chunks,
    gemini_body,
    gemini_chunks,
    messages_body,
    messages_events,
    responses_body,
)
from aiclient2api.values import Usage
from tests.strict_replies import judge_reply, records
from tests.web_fixture import GatewayTestCase

JSON = ((b"content-type", b"application/json"), (b"x-request-id", b"req-1"))
SSE = ((b"content-type", b"text/event-stream"), (b"openai-version", b"2020"))
USAGE = Usage(input=20, output=9, cached=5, reasoning=4)

MESSAGES = {
    "model": "m",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
}


def body(**fields: Any) -> bytes:
    """Return a Messages request with *fields*."""
    return json.dumps({**MESSAGES, **fields}).encode()


class ConvertedTests(GatewayTestCase):
    """A client of Messages, mostly, before upstreams that speak something else."""

    def sent(self, at: int = -1) -> Any:
        """Return what the upstream was asked, decoded."""
        return json.loads(self.upstream.sent[at].request.body or b"")

    def test_a_whole_answer(self) -> None:
        """The client's own shape, its own name for the model, and who really answered."""
        self.build([MemoryResponse(200, JSON, [chat_body("hello", usage=USAGE)])])
        reply = self.ask("POST", "/v1/messages", body(model="openai-custom:m"))
        judge_reply("anthropic-messages", reply.body)
        told = reply.json()
        self.assertEqual(told["content"], [{"type": "text", "text": "hello"}])
        self.assertEqual((told["model"], told["stop_reason"]), ("openai-custom:m", "end_turn"))
        self.assertEqual(told["usage"]["input_tokens"], 15)
        self.assertEqual(reply.headers["content-type"], "application/json; charset=utf-8")
        self.assertEqual(reply.headers["x-aiclient2api-model"], "m")
        self.assertEqual(reply.headers["x-request-id"], "req-1")
        self.assertNotIn("x-aiclient2api-lossy", reply.headers)
        self.assertEqual(self.sent()["model"], "m")

    def test_a_stream(self) -> None:
        """Server-sent events of the client's dialect; nothing of the upstream's headers."""
        chunks = chat_chunks(["hel", "lo"], usage=USAGE)
        self.build([MemoryResponse(200, SSE, [b"".join(chunks)])])
        reply = self.ask("POST", "/v1/messages", body(stream=True))
        judge_reply("anthropic-messages", reply.body)
        kinds = [name for name, _ in records(reply.body)]
        self.assertEqual((kinds[0], kinds[-1]), ("message_start", "message_stop"))
        self.assertEqual(reply.headers["content-type"], "text/event-stream; charset=utf-8")
        self.assertNotIn("openai-version", reply.headers)
        self.assertEqual(self.sent()["stream_options"], {"include_usage": True})

    def test_a_json_array(self) -> None:
        """Gemini's other way to stream, from an upstream that knows only events."""
        chunks = chat_chunks(["hel", "lo"])
        self.build([MemoryResponse(200, SSE, [b"".join(chunks)])])
        target = "/v1beta/models/m:streamGenerateContent"
        question = b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}'
        reply = self.ask("POST", target, question)
        judge_reply("gemini", reply.body)
        parts = [p for each in reply.json() for p in each["candidates"][0]["content"]["parts"]]
        self.assertEqual("".join(part.get("text", "") for part in parts), "hello")
        self.assertTrue(reply.headers["content-type"].startswith("application/json"))

    def test_what_is_left_out_is_named(self) -> None:
        """A client can see what its provider never heard of."""
        self.build([MemoryResponse(200, JSON, [chat_body("hello")])])
        reply = self.ask("POST", "/v1/messages", body(top_k=7, container="c"))
        lost = reply.headers["x-aiclient2api-lossy"].split(", ")
        self.assertEqual(sorted(lost), ["field:container", "top_k"])

    def test_an_upstreams_error_comes_in_the_clients_dialect(self) -> None:
        """With its status, its words and its Retry-After."""
        told = b'{"error":{"message":"slow down","type":"rate_limit_error","code":null}}'
        headers = (*JSON, (b"retry-after", b"120"))
        self.build([MemoryResponse(429, headers, [told])])
        reply = self.ask("POST", "/v1/messages", body())
        self.assertEqual(reply.status, 429)
        self.assertEqual(reply.headers["retry-after"], "120")
        self.assertEqual(reply.json()["type"], "error")
        self.assertEqual(reply.json()["error"]["type"], "rate_limit_error")
        self.assertIn("slow down", reply.json()["error"]["message"])

    def test_a_context_overflow_is_one_in_every_dialect(self) -> None:
        """Claude Code compacts on hearing so, others look at the code."""
        told = (
            b'{"type":"error","error":{"type":"invalid_request_error",'
            b'"message":"prompt is too long: 9 tokens > 8 maximum"}}'
        )
        chat = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
        self.build([MemoryResponse(400, JSON, [told])], model_provider="claude-custom")
        reply = self.ask("POST", "/v1/chat/completions", chat)
        self.assertEqual(reply.status, 400)
        self.assertEqual(reply.json()["error"]["code"], "context_length_exceeded")
        told = b'{"error":{"message":"too many","code":"context_length_exceeded"}}'
        self.build([MemoryResponse(400, JSON, [told])])
        reply = self.ask("POST", "/v1/messages", body())
        self.assertIn("prompt is too long", reply.json()["error"]["message"])

    def test_a_request_no_dialect_understands_is_refused(self) -> None:
        """Naming the field, before anything is sent."""
        self.build([])
        reply = self.ask("POST", "/v1/messages", body(messages=[{"role": "user", "content": 7}]))
        self.assertEqual(reply.status, 400)
        self.assertIn("messages[0]", reply.json()["error"]["message"])
        self.assertEqual(self.upstream.sent, [])

    def test_an_error_in_mid_stream(self) -> None:
        """It is told, and no end follows."""
        begun = chat_chunks(["hel", "lo"])[:2]
        broken = b'data: {"error":{"message":"It broke.","type":"server_error"}}\n\n'
        self.build([MemoryResponse(200, SSE, [b"".join(begun), broken])])
        reply = self.ask("POST", "/v1/messages", body(stream=True))
        kinds = [name for name, _ in records(reply.body)]
        self.assertEqual(kinds[-1], "error")
        self.assertNotIn("message_delta", kinds)
        self.assertNotIn("message_stop", kinds)

    def test_the_accounts_key_is_cut_out_of_an_error_in_mid_stream(self) -> None:
        """An upstream may quote it."""
        begun = chat_chunks(["hel", "lo"])[:2]
        broken = b'data: {"error":{"message":"Bad key sk-test-openai.","type":"x"}}\n\n'
        self.build([MemoryResponse(200, SSE, [b"".join(begun), broken])])
        reply = self.ask("POST", "/v1/messages", body(stream=True))
        self.assertIn(b"Bad key", reply.body)
        self.assertNotIn(b"sk-test-openai", reply.body)


class CountedTests(GatewayTestCase):
    """Counting tokens: asked where somebody knows, estimated where nobody does."""

    def test_an_estimate_costs_no_call(self) -> None:
        """Chat Completions cannot be asked; the answer says that it is an estimate."""
        self.build([])
        reply = self.ask("POST", "/v1/messages/count_tokens", body())
        self.assertEqual(reply.status, 200)
        self.assertGreater(reply.json()["input_tokens"], 0)
        self.assertEqual(reply.headers["x-aiclient2api-estimated"], "true")
        target = "/v1beta/models/m:countTokens"
        reply = self.ask("POST", target, b'{"contents":[{"parts":[{"text":"hi there"}]}]}')
        self.assertGreater(reply.json()["totalTokens"], 0)
        self.assertEqual(self.upstream.sent, [])

    def test_a_provider_that_counts_is_asked_in_its_own_dialect(self) -> None:
        """Claude's client gets Gemini's count, and the reverse."""
        self.build(
            [MemoryResponse(200, JSON, [b'{"totalTokens": 7}'])], model_provider="gemini-custom"
        )
        reply = self.ask("POST", "/v1/messages/count_tokens", body())
        self.assertEqual(reply.json(), {"input_tokens": 7})
        self.assertTrue(self.upstream.sent[0].request.url.endswith("/models/m:countTokens"))
        self.build(
            [MemoryResponse(200, JSON, [b'{"input_tokens": 7}'])], model_provider="claude-custom"
        )
        reply = self.ask(
            "POST", "/v1beta/models/m:countTokens", b'{"contents":[{"parts":[{"text":"hi"}]}]}'
        )
        self.assertEqual(reply.json()["totalTokens"], 7)
        self.assertTrue(self.upstream.sent[0].request.url.endswith("/v1/messages/count_tokens"))


class SealedTests(GatewayTestCase):
    """Thoughts find the way back to whoever had them."""

    TOOLS = ({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},)

    def chat(self, *messages: Any, model: str = "m") -> bytes:
        """Return a Chat request with a tool; the first message is a question."""
        asked = [{"role": "user", "content": "hi"}, *messages]
        told = {"model": model, "messages": asked, "tools": self.TOOLS, "reasoning_effort": "low"}
        return json.dumps(told).encode()

    def loop(
        self,
        answer: bytes,
        final: bytes,
        provider: str,
        key: str = "test-key",
        models: tuple[str, str] = ("m", "m"),
    ) -> Any:
        """Ask, send the call's result back, and return what the upstream then got."""
        answers = [MemoryResponse(200, JSON, [each]) for each in (answer, final)]
        self.build(answers, model_provider=provider, required_api_key=["test-key", "other-key"])
        reply = self.ask("POST", "/v1/chat/completions", self.chat(model=models[0]))
        message = reply.json()["choices"][0]["message"]
        message.pop("reasoning_content")
        result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "ok"}
        asked = self.chat(message, result, model=models[1])
        reply = self.ask("POST", "/v1/chat/completions", asked, key=key)
        self.assertEqual(reply.status, 200, reply.body)
        return json.loads(self.upstream.sent[1].request.body or b"")

    def test_claudes_signature_waits_for_a_client_that_has_no_place_for_it(self) -> None:
        """Chat Completions carries none; the thought goes back whole, with its signature."""
        call = Call("toolu_1", "f", "{}")
        answer = messages_body("", "tool_use", thinking="Hm.", tools=[call])
        told = self.loop(answer, messages_body("done"), "claude-custom")
        thought = {"type": "thinking", "thinking": "Hm.", "signature": SEAL}
        self.assertEqual(told["messages"][1]["content"][0], thought)
        self.assertEqual(told["thinking"]["type"], "enabled")

    def test_a_seal_is_given_back_to_its_own_caller_only(self) -> None:
        """Another key with the same call's id gets nothing, and thinking is switched off."""
        call = Call("toolu_1", "f", "{}")
        answer = messages_body("", "tool_use", thinking="Hm.", tools=[call])
        told = self.loop(answer, messages_body("done"), "claude-custom", key="other-key")
        kinds = [block["type"] for block in told["messages"][1]["content"]]
        self.assertEqual(kinds, ["tool_use"])
        self.assertNotEqual(told.get("thinking", {}).get("type"), "enabled")

    def test_a_seal_is_given_back_to_its_own_family_only(self) -> None:
        """Others than Anthropic speak its dialect; what Kimi sealed Claude must not see."""
        for first, second, returned in (
            ("kimi-k2-thinking", "kimi-k2-thinking", True),
            ("kimi-k2-thinking", "claude-sonnet-4-5", False),
            ("claude-sonnet-4-5", "kimi-k2-thinking", False),
        ):
            call = Call("toolu_1", "f", "{}")
            answer = messages_body("", "tool_use", thinking="Hm.", tools=[call])
            final = messages_body("done")
            told = self.loop(answer, final, "claude-custom", models=(first, second))
            self.assertEqual(SEAL in json.dumps(told), returned, (first, second))

    def test_geminis_signature_goes_back_on_its_call(self) -> None:
        """A client may drop what it does not know; the call's id brings it back."""
        call = Call("c1", "f", "{}")
        answer = gemini_body("", thinking="Hm.", tools=[call])
        told = self.loop(answer, gemini_body("done"), "gemini-custom")
        parts = told["contents"][1]["parts"]
        self.assertEqual([part.get("thoughtSignature") for part in parts], [SEAL])

    def test_encrypted_content_goes_back_with_its_id(self) -> None:
        """OpenAI's own Responses wants both."""
        call = Call("c1", "f", "{}")
        answer = responses_body("", thinking="Hm.", tools=[call])
        told = self.loop(answer, responses_body("done"), "openaiResponses-custom")
        (item,) = [each for each in told["input"] if each.get("type") == "reasoning"]
        self.assertEqual((item["id"], item["encrypted_content"]), ("rs_test", SEAL))

    def test_a_parcel_of_another_model_is_taken_out_of_a_verbatim_request(self) -> None:
        """A client that spoke to Gemini sends its thoughts on to Claude, who must not see them."""
        stream = b"".join(gemini_chunks([], "STOP", thinking=["Hm."], tools=[Call("c1", "f")]))
        self.build(
            [
                MemoryResponse(200, SSE, [stream]),
                MemoryResponse(200, JSON, [messages_body("done")]),
            ]
        )
        reply = self.ask("POST", "/gemini-custom/v1/messages", body(stream=True))
        self.assertEqual(reply.status, 200)
        history = [
            *MESSAGES["messages"],  # type: ignore[misc]
            {
                "role": "assistant",
                "content": [
                    {
                        "type": "thinking",
                        "thinking": "Hm.",
                        "signature": "YWljMmFwaS9zZWFsZ2VtaW5pAAAAYWJj",
                    },
                    {"type": "text", "text": "So be it."},
                ],
            },
            {"role": "user", "content": "go on"},
        ]
        self.ask("POST", "/claude-custom/v1/messages", body(messages=history))
        told = self.sent_to_claude()
        self.assertEqual(told[1]["content"], [{"type": "text", "text": "So be it."}])

    def sent_to_claude(self) -> Any:
        """Return the messages of the last request."""
        return json.loads(self.upstream.sent[-1].request.body or b"")["messages"]

    def test_messages_events_are_used(self) -> None:
        """Streams of Claude end as Chat Completions streams do."""
        stream = b"".join(messages_events(["hel", "lo"], usage=USAGE))
        self.build([MemoryResponse(200, SSE, [stream])], model_provider="claude-custom")
        asked = json.loads(self.chat())
        reply = self.ask(
            "POST", "/v1/chat/completions", json.dumps({**asked, "stream": True}).encode()
        )
        judge_reply("openai-chat", reply.body)
        self.assertTrue(reply.body.endswith(b"data: [DONE]\n\n"))
