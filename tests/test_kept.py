"""Kept answers: a client of Responses goes on from one, whoever answers."""

from __future__ import annotations

import json
from typing import Any

from aiclient2api.testing import (
    Call,
    MemoryResponse,
    chat_body,
    chat_chunks,
    messages_body,
    responses_body,
)
from tests.strict_replies import judge_reply, records
from tests.web_fixture import GatewayTestCase

JSON = ((b"content-type", b"application/json"),)
SSE = ((b"content-type", b"text/event-stream"),)
OTHER = "other-key"


class KeptTests(GatewayTestCase):
    """One conversation in several requests, before an upstream that keeps nothing."""

    def asked(self, *answers: MemoryResponse, **config: Any) -> None:
        """Build a gateway whose upstream, of Chat Completions, gives *answers*."""
        self.build(list(answers), required_api_key=["test-key", OTHER], **config)

    def respond(self, key: str = "test-key", **fields: Any) -> Any:
        """Ask for a response and return the answer, decoded."""
        body = json.dumps({"model": "m", **fields}).encode()
        self.last = self.ask("POST", "/v1/responses", body, key=key)
        return json.loads(self.last.body)

    def sent(self) -> Any:
        """Return what the upstream was asked last."""
        return json.loads(self.upstream.sent[-1].request.body or b"")

    def test_a_request_goes_on_from_an_answer(self) -> None:
        """The upstream sees the whole conversation, the new instructions and not the old."""
        self.asked(
            MemoryResponse(200, JSON, [chat_body("Hello!")]),
            MemoryResponse(200, JSON, [chat_body("Fine.")]),
        )
        first = self.respond(input="Hi.", instructions="Be kind.")
        second = self.respond(input="How?", previous_response_id=first["id"])
        self.assertEqual(second["previous_response_id"], first["id"])
        told = [(message["role"], message["content"]) for message in self.sent()["messages"]]
        self.assertEqual(told, [("user", "Hi."), ("assistant", "Hello!"), ("user", "How?")])

    def test_a_third_request_has_all_of_it(self) -> None:
        """However long the chain is; calls and their results are in it."""
        call = Call("c1", "f", '{"a":1}')
        tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
        self.asked(
            MemoryResponse(200, JSON, [chat_body("", "tool_calls", tools=[call])]),
            MemoryResponse(200, JSON, [chat_body("Seven.")]),
            MemoryResponse(200, JSON, [chat_body("Bye.")]),
        )
        first = self.respond(input="Hi.", tools=tools)
        result = [{"type": "function_call_output", "call_id": "c1", "output": "7"}]
        second = self.respond(input=result, tools=tools, previous_response_id=first["id"])
        self.respond(input="Thanks.", tools=tools, previous_response_id=second["id"])
        roles = [message["role"] for message in self.sent()["messages"]]
        self.assertEqual(roles, ["user", "assistant", "tool", "assistant", "user"])
        self.assertEqual(self.sent()["messages"][1]["tool_calls"][0]["id"], "c1")

    def test_a_streamed_answer_is_kept_before_its_end_is_seen(self) -> None:
        """A client may go on at once."""
        self.asked(MemoryResponse(200, SSE, [b"".join(chat_chunks(["Hel", "lo"]))]))
        body = json.dumps({"model": "m", "input": "Hi.", "stream": True}).encode()
        reply = self.ask("POST", "/v1/responses", body)
        (done,) = [told for name, told in records(reply.body) if name == "response.completed"]
        got = self.ask("GET", f"/v1/responses/{done['response']['id']}")
        self.assertEqual(got.json(), done["response"])
        judge_reply("openai-responses", got.body)

    def test_it_can_be_got_and_deleted(self) -> None:
        """And is gone afterwards, for those who would go on from it, too."""
        self.asked(MemoryResponse(200, JSON, [chat_body("Hello!")]))
        first = self.respond(input="Hi.")
        path = f"/v1/responses/{first['id']}"
        self.assertEqual(self.ask("GET", path).json(), first)
        gone = self.ask("DELETE", path)
        self.assertEqual(gone.json(), {"id": first["id"], "object": "response", "deleted": True})
        for method in ("GET", "DELETE"):
            reply = self.ask(method, path)
            self.assertEqual(reply.status, 404)
            self.assertIn(first["id"], reply.json()["error"]["message"])
        told = self.respond(input="How?", previous_response_id=first["id"])
        self.assertEqual(self.last.status, 400)
        self.assertEqual(told["error"]["code"], "previous_response_not_found")

    def test_nobody_elses_key_finds_it(self) -> None:
        """Neither to read, nor to delete, nor to go on from."""
        self.asked(MemoryResponse(200, JSON, [chat_body("Hello!")]))
        first = self.respond(input="Hi.")
        path = f"/v1/responses/{first['id']}"
        for method in ("GET", "DELETE"):
            self.assertEqual(self.ask(method, path, key=OTHER).status, 404)
        self.respond(key=OTHER, input="How?", previous_response_id=first["id"])
        self.assertEqual(self.last.status, 400)
        self.assertEqual(self.ask("GET", path).status, 200)

    def test_a_client_may_want_nothing_kept(self) -> None:
        """``store: false``, as Codex sends it."""
        self.asked(MemoryResponse(200, JSON, [chat_body("Hello!")]))
        first = self.respond(input="Hi.", store=False)
        self.assertEqual(self.answers.kept, {})
        self.assertEqual(self.ask("GET", f"/v1/responses/{first['id']}").status, 404)

    def test_a_wish_that_is_malformed_is_refused_before_anything_is_sent(self) -> None:
        """Afterwards it would cost an answer that is paid for."""
        for told in ('"store":"yes"', '"store":1', '"store":true,"store":false'):
            for stream in ("true", "false"):
                self.asked(MemoryResponse(200, JSON, [chat_body("Hello!")]))
                body = f'{{"model":"m","input":"Hi.","stream":{stream},{told}}}'
                reply = self.ask("POST", "/v1/responses", body.encode())
                self.assertEqual((reply.status, reply.json()["error"]["param"]), (400, "store"))
                self.assertEqual(self.upstream.sent, [])

    def test_a_path_that_is_no_id_leads_nowhere(self) -> None:
        """Least of all to another place at an upstream that keeps answers itself."""
        self.asked(model_provider="openaiResponses-custom")
        for id in ("..", ".", "%2e%2e", "...", "a%2Fb", "a%3Fb", "a%20b", "%E2%82%AC", "a" * 600):
            for method in ("GET", "DELETE"):
                reply = self.ask(method, f"/v1/responses/{id}")
                self.assertEqual(reply.status, 404, id)
                self.assertIn("message", reply.json()["error"])
        self.assertEqual(self.upstream.sent, [])

    def test_what_nobody_keeps_where_only_a_model_decides(self) -> None:
        """There is no model to name: it is not found, as anywhere else."""
        for config in ({}, {"model_provider": "auto"}):
            self.asked(**config)
            for method in ("GET", "DELETE"):
                reply = self.ask(method, "/v1/responses/resp_x")
                error = reply.json()["error"]
                self.assertEqual((reply.status, error["param"]), (404, None))
                self.assertEqual(error["message"], "Response with id 'resp_x' not found.")

    def test_a_cut_answer_is_not_kept(self) -> None:
        """There is nothing to go on from."""
        self.asked(MemoryResponse(200, SSE, [b"".join(chat_chunks(["Hel", "lo"])[:2])]))
        body = json.dumps({"model": "m", "input": "Hi.", "stream": True}).encode()
        self.ask("POST", "/v1/responses", body)
        self.assertEqual(self.answers.kept, {})

    def test_an_upstream_that_keeps_answers_itself_is_asked(self) -> None:
        """Verbatim, by its own ids; the gateway keeps nothing then."""
        answer = responses_body("Hello!")
        self.asked(
            MemoryResponse(200, JSON, [answer]),
            MemoryResponse(200, JSON, [answer]),
            MemoryResponse(200, JSON, [answer]),
            MemoryResponse(200, JSON, [b'{"id":"resp_1","object":"response","deleted":true}']),
            model_provider="openaiResponses-custom",
        )
        id = self.respond(input="Hi.")["id"]
        self.assertEqual(self.answers.kept, {})
        self.respond(input="How?", previous_response_id=id)
        self.assertEqual(self.sent()["previous_response_id"], id)
        self.assertEqual(self.ask("GET", f"/v1/responses/{id}").body, answer)
        request = self.upstream.sent[-1].request
        self.assertEqual((request.method, request.body), ("GET", None))
        self.assertEqual(request.url, f"http://127.0.0.1:1/v1/responses/{id}")
        self.assertTrue(self.ask("DELETE", f"/v1/responses/{id}").json()["deleted"])
        self.assertEqual(self.upstream.sent[-1].request.method, "DELETE")

    def test_a_conversation_moves_to_an_upstream_that_never_saw_it(self) -> None:
        """What was kept here is spelt out to a Responses upstream, which has its own ids."""
        self.asked(
            MemoryResponse(200, JSON, [messages_body("Hello!")]),
            MemoryResponse(200, JSON, [responses_body("Fine.")]),
            model_provider="claude-custom",
        )
        first = self.respond(input="Hi.")
        self.respond(
            model="openaiResponses-custom:m", input="How?", previous_response_id=first["id"]
        )
        told = self.sent()
        self.assertNotIn("previous_response_id", told)
        self.assertEqual([item["role"] for item in told["input"]], ["user", "assistant", "user"])
