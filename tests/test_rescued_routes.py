"""Requests on routes with ``on_cut``: whose answers go through the hub, and whose do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.internet.error import ConnectionLost

from aiclient2api.testing import (
    MemoryResponse,
    chat_body,
    chat_chunks,
    gemini_array,
    gemini_chunks,
    messages_events,
    responses_events,
)
from tests.strict_replies import judge_reply
from tests.web_fixture import GatewayTestCase

SSE = ((b"content-type", b"text/event-stream"), (b"openai-version", b"2020"))
JSON = ((b"content-type", b"application/json"),)
PIECES = ("Once ", "upon ", "a time.")


def stream(frames: Sequence[bytes]) -> MemoryResponse:
    """Return a stream."""
    return MemoryResponse(200, SSE, [b"".join(frames)])


class RouteTests(GatewayTestCase):
    """A client of Chat Completions before an upstream that speaks it as well."""

    def chat(self, **fields: Any) -> bytes:
        """Return a request for a stream."""
        asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        return json.dumps({**asked, **fields}).encode()

    def assert_verbatim(self, frames: Sequence[bytes], **fields: Any) -> None:
        """The answer passes as it comes."""
        self.upstream._answers = [stream(frames)]
        reply = self.ask("POST", "/v1/chat/completions", self.chat(**fields))
        self.assertEqual(reply.body, b"".join(frames))

    def test_without_a_word(self) -> None:
        """Bytes are relayed as they come, and a cut is told."""
        frames = chat_chunks(PIECES, model="theirs")
        self.build([MemoryResponse(200, SSE, frames[:3], end=ConnectionLost())])
        reply = self.ask("POST", "/v1/chat/completions", self.chat())
        self.assertTrue(reply.body.startswith(b"".join(frames[:3])))
        self.assertNotIn(b": aiclient2api", reply.body)
        self.assert_verbatim(frames)

    def test_through_the_hub(self) -> None:
        """The request leaves as it came; the answer is written anew, with the same head."""
        self.build([stream(chat_chunks(PIECES, model="theirs"))], on_cut="resume")
        body = self.chat(stream_options={"include_usage": True}, frobnicate=1)
        reply = self.ask("POST", "/v1/chat/completions", body)
        self.assertEqual(self.upstream.sent[0].request.body, body)
        judge_reply("openai-chat", reply.body)
        self.assertNotIn(b"theirs", reply.body)
        self.assertNotIn(b": aiclient2api", reply.body)
        self.assertNotIn("x-aiclient2api-lossy", reply.headers)
        self.assertEqual(reply.headers["content-type"], "text/event-stream; charset=utf-8")
        self.assertEqual(reply.headers["openai-version"], "2020")
        self.assertEqual(self.observer.outcomes[self.observed()].text, "".join(PIECES))

    def observed(self) -> str:
        """Return the id of the only exchange."""
        (id,) = self.observer.outcomes
        return id

    def test_what_only_a_verbatim_relay_carries(self) -> None:
        """Several alternatives and probabilities stay with it, and so do tools of the vendor."""
        self.build(on_cut="resume")
        frames = chat_chunks(PIECES, model="theirs")
        self.assert_verbatim(frames, n=2)
        self.assert_verbatim(frames, logprobs=True)
        self.assert_verbatim(frames, web_search_options={})

    def test_what_is_no_stream(self) -> None:
        """Whole answers and JSON arrays are relayed as ever."""
        whole = chat_body("hi", model="theirs")
        array = gemini_array(gemini_chunks(PIECES))
        self.build(
            [MemoryResponse(200, JSON, [whole]), MemoryResponse(200, JSON, [array])],
            on_cut="resume",
        )
        reply = self.ask("POST", "/v1/chat/completions", self.chat(stream=False))
        self.assertEqual(reply.body, whole)
        target = "/gemini-custom/v1beta/models/m:streamGenerateContent"
        question = b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}'
        self.assertEqual(self.ask("POST", target, question).body, array)

    def test_only_the_routes_that_are_named(self) -> None:
        """By provider and by model."""
        self.build(on_cut={"claude-custom": "resume", "gpt-*": "resume"})
        frames = chat_chunks(PIECES, model="theirs")
        self.assert_verbatim(frames)
        for fields in ({"model": "gpt-4o"}, {"model": "openai-custom:gpt-4o"}):
            self.upstream._answers = [stream(frames)]
            reply = self.ask("POST", "/v1/chat/completions", self.chat(**fields))
            self.assertNotIn(b"theirs", reply.body)

    def test_an_error_of_the_upstream(self) -> None:
        """As long as nothing was sent, the client gets its very words."""
        told = b'{"error": {"message": "no", "type": "x", "code": "invalid_api_key", "odd": 1}}'
        self.build([MemoryResponse(401, JSON, [told])], on_cut="resume")
        reply = self.ask("POST", "/v1/chat/completions", self.chat())
        self.assertEqual((reply.status, reply.body), (401, told))

    def test_a_request_that_cannot_be_read(self) -> None:
        """It is the upstream's business, as it is without the word."""
        self.build(on_cut="resume")
        self.assert_verbatim(
            chat_chunks(PIECES, model="theirs"), messages=[{"role": "user", "content": 7}]
        )

    def test_a_request_that_cannot_be_written_anew(self) -> None:
        """It is repeated as it is, though the model would go on with the text so far."""
        frames = messages_events(PIECES)
        for more, wanted in (({"frobnicate": 1}, 1), ({}, 2)):
            begun = MemoryResponse(200, SSE, list(frames[:5]), end=ConnectionLost())
            rest = stream(frames) if wanted == 1 else stream(messages_events([" a time."]))
            self.build([begun, rest], on_cut="resume", model_provider="claude-custom")
            talk = [{"role": "user", "content": "hi"}]
            asked = {"model": "claude-3-5-haiku-20241022", "max_tokens": 9, "messages": talk}
            body = json.dumps({**asked, "stream": True, **more}).encode()
            self.send("POST", "/v1/messages", body)
            self.clock.advance(1)
            self.assertIn(b"resumed after 10 characters", self.reply().body)
            told = json.loads(self.upstream.sent[1].request.body or b"")
            self.assertEqual(len(told["messages"]), wanted)

    def test_thoughts_keep_their_seal(self) -> None:
        """A client of Messages can send them back to Claude as it got them."""
        frames = messages_events(PIECES, thinking=["Hm."])
        self.build([stream(frames)], on_cut="resume", model_provider="claude-custom")
        asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        body = json.dumps({**asked, "stream": True}).encode()
        reply = self.ask("POST", "/v1/messages", body)
        judge_reply("anthropic-messages", reply.body)
        signature = next(each for each in frames if b"signature_delta" in each)
        self.assertIn(
            json.loads(signature.partition(b"data: ")[2])["delta"]["signature"].encode(),
            reply.body,
        )


class ResponsesTests(GatewayTestCase):
    """A client of Responses before an upstream that speaks it as well."""

    def respond(self, **fields: Any) -> bytes:
        """Ask for a stream; return it."""
        body = json.dumps({"model": "m", "stream": True, **fields}).encode()
        return self.ask("POST", "/openaiResponses-custom/v1/responses", body).body

    def test_going_on_from_an_answer(self) -> None:
        """One that was given here is known here; one that only the upstream knows stays there."""
        frames = responses_events(PIECES, model="theirs")
        self.build([stream(frames) for _ in range(3)], on_cut="resume")
        first = self.respond(input="Hi.")
        id = json.loads(first.rpartition(b"data: ")[2])["response"]["id"]
        self.assertNotIn(b"resp_test", first)
        again = self.respond(input="How?", previous_response_id=id)
        self.assertNotIn(b"resp_test", again)
        told = json.loads(self.upstream.sent[1].request.body or b"")
        self.assertNotIn("previous_response_id", told)
        self.assertIn("Once upon a time.", json.dumps(told))
        other = self.respond(input="How?", previous_response_id="resp_theirs")
        self.assertEqual(other, b"".join(frames))
        told = json.loads(self.upstream.sent[2].request.body or b"")
        self.assertEqual(told["previous_response_id"], "resp_theirs")
