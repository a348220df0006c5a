"""Responses: going on from an earlier one, and thoughts that are another's."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.conversation.request import Call, Result, Text
from aiclient2api.conversation.seals import Seal, carried
from aiclient2api.dialects.openai_responses import OPENAI_RESPONSES, state
from aiclient2api.dialects.openai_responses.read_request import read_request
from aiclient2api.dialects.openai_responses.request import NAME, UNSEALED
from aiclient2api.errors import Fault, InvalidRequest, UnknownRoute, UpstreamError
from aiclient2api.interfaces import IDialect, IReferring, IRemembering
from aiclient2api.values import Endpoint, Route
from tests.dialects.openai_responses.answers import EVENTS, OFFERED
from tests.dialects.openai_responses.judge import ID, encoder, parsed

_HI = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
_EARLIER = b'[{"role":"user", "content":"one"}, {"role":"assistant","content":"two"}]'


class RememberingTests(SynchronousTestCase):
    """Requests that go on from an earlier response."""

    def test_contract(self) -> None:
        """The dialect is what it is said to be."""
        self.assertTrue(verifyObject(IDialect, OPENAI_RESPONSES))
        self.assertTrue(verifyObject(IReferring, OPENAI_RESPONSES))
        self.assertTrue(verifyObject(IRemembering, OPENAI_RESPONSES))

    def test_previous(self) -> None:
        """The id is found; null is none; anything else is refused."""
        self.assertEqual(state.previous(parsed({"previous_response_id": "resp_é"})), "resp_é")
        self.assertIsNone(state.previous(parsed({"previous_response_id": None})))
        self.assertIsNone(state.previous(parsed({})))
        error = self.assertRaises(InvalidRequest, parsed, {_ID: 5})
        self.assertEqual(error.param, "previous_response_id")

    def test_references(self) -> None:
        """What else a request names that an upstream keeps, each with what is wrong about it."""
        found = state.references(
            parsed(
                {
                    "conversation": {"id": "conv_1"},
                    "input": [
                        {"type": "item_reference", "id": "msg_1"},
                        {"id": "msg_2"},
                        {"role": "user", "content": "x", "id": "msg_3"},
                        {"type": "reasoning", "id": "rs_1", "summary": []},
                        {"type": "item_reference", "id": 5},
                    ],
                    "tools": [
                        {"type": "code_interpreter", "container": "cntr_1"},
                        {"type": "code_interpreter", "container": {"type": "auto"}},
                        {"type": "file_search", "vector_store_ids": ["vs_1"]},
                    ],
                }
            )
        )
        named = {id: (type(error), error.param) for id, error in found}
        self.assertEqual(
            named,
            {
                "conv_1": (InvalidRequest, "conversation.id"),
                "msg_1": (InvalidRequest, "input"),
                "msg_2": (InvalidRequest, "input"),
                "cntr_1": (InvalidRequest, "tools"),
            },
        )
        self.assertEqual([id for id, _ in state.references(parsed({"conversation": "c"}))], ["c"])
        for body in ({}, {"input": "msg_1"}, {"conversation": None, "tools": None}):
            self.assertEqual(state.references(parsed(body)), [])

    def test_wants_store(self) -> None:
        """A response is kept unless the client says no."""
        for body, wanted in (({}, True), ({"store": None}, True), ({"store": False}, False)):
            self.assertIs(state.wants_store(parsed(body)), wanted)

    def test_own_items(self) -> None:
        """A text is a message; items stay byte for byte."""
        self.assertEqual(json.loads(state.input_items(parsed({"input": "Hi"}))), [_HI])
        raw = b'{"model":"m","input": [ {"role":"user","content":"x"} ]}'
        self.assertEqual(state.input_items(parsed(raw)), b'[ {"role":"user","content":"x"} ]')
        self.assertEqual(state.input_items(parsed({})), b"[]")

    def test_expanded(self) -> None:
        """Earlier items come first, the id goes, and no other byte changes."""
        two = _EARLIER[1:-1]
        for body, wanted in (
            (
                b'{"model":"m", "previous_response_id":"r", "input":[ {"role":"user"} ], "x":1.0}',
                b'{"model":"m", "input":[%b,{"role":"user"}], "x":1.0}' % two,
            ),
            (
                b'{"previous_response_id":"r","model":"m","input":[]}',
                b'{"model":"m","input":[%b]}' % two,
            ),
            (
                b'{"model":"m","input":"Hi","previous_response_id":"r"}',
                b'{"model":"m","input":[%b,%b]}'
                % (two, json.dumps([_HI], separators=(",", ":")).encode()[1:-1]),
            ),
            (
                b'{"model":"m","previous_response_id":"r"}',
                b'{"model":"m","input":[%b]}' % two,
            ),
            (
                b'{"model":"m","input":null,"previous_response_id":"r"}',
                b'{"model":"m","input":[%b]}' % two,
            ),
        ):
            request = state.expanded(parsed(body), _EARLIER)
            self.assertEqual(request.raw, wanted)
            self.assertEqual((request.previous, request.model), ("r", "m"))
            self.assertEqual(read_request(request).turns[0].parts, (Text("one"),))

    def test_nothing_to_expand(self) -> None:
        """A request that goes on from nothing is itself."""
        request = parsed({"input": "x"})
        self.assertIs(state.expanded(request, b"[]"), request)

    def test_a_talk_of_three(self) -> None:
        """What is kept of each response is enough to go on from it, without instructions."""
        first: dict[str, Any] = {"model": "m", "input": "Hi", "instructions": "Be brief."}
        request = parsed({**first, **OFFERED})
        answer = encoder(OFFERED).reply(EVENTS)
        kept = OPENAI_RESPONSES.kept(request=request, answer=answer)
        assert kept is not None
        self.assertEqual((kept.id, kept.response), (f"resp_{ID}", answer))
        result = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
        second = parsed({"input": [result], _ID: kept.id, **OFFERED})
        self.assertEqual(OPENAI_RESPONSES.previous(request=second), kept.id)
        second = OPENAI_RESPONSES.continued(request=second, items=kept.items)
        conversation = read_request(second)
        self.assertEqual(conversation.system, ())
        calls = [p for turn in conversation.turns for p in turn.parts if isinstance(p, Call)]
        self.assertEqual(
            [(call.id, call.name) for call in calls],
            [
                ("call_1", "f"),
                ("call_2", "f"),
                ("call_3", "patch"),
                ("call_4", "local_shell"),
                ("call_5", "agents__spawn"),
                ("call_6", "agents__say"),
            ],
        )
        self.assertEqual(conversation.turns[-1].parts, (Result("call_1", parts=(Text("42"),)),))
        again = state.kept(second, answer)
        assert again is not None
        items = json.loads(again.items)
        self.assertEqual(items[0], _HI)
        self.assertEqual(len(items), 2 * len(json.loads(answer)["output"]) + 2)
        writer = encoder()
        writer._request = second
        self.assertEqual(json.loads(writer.reply(EVENTS))[_ID], kept.id)

    def test_what_is_not_kept(self) -> None:
        """Nothing is, if the client does not want it, or if it is no response."""
        answer = encoder().reply(EVENTS)
        self.assertIsNone(state.kept(parsed({"input": "x", "store": False}), answer))
        for odd in (b"", b"{}", b"[]", b'{"id":"r","output":5}', b'{"id":"","output":[]}'):
            self.assertIsNone(state.kept(parsed({"input": "x"}), odd))

    def test_words(self) -> None:
        """They are OpenAI's."""
        self.assertEqual(
            json.loads(OPENAI_RESPONSES.deleted(id="resp_1")),
            {"id": "resp_1", "object": "response", "deleted": True},
        )
        missing: Any = OPENAI_RESPONSES.missing(id="resp_1")
        status, body = OPENAI_RESPONSES.render_error(error=missing)
        self.assertEqual(status, 400)
        self.assertEqual(
            json.loads(body)["error"],
            {
                "message": "Previous response with id 'resp_1' not found.",
                "type": "invalid_request_error",
                "param": "previous_response_id",
                "code": "previous_response_not_found",
            },
        )
        gone = state.not_found("resp_1")
        self.assertEqual((gone.status, gone.message), (404, "Response with id 'resp_1' not found."))

    def test_paths(self) -> None:
        """A response is got and deleted by its id."""
        found = {endpoint.action: endpoint for endpoint in OPENAI_RESPONSES.endpoints}
        self.assertEqual(
            {(e.method, e.action) for e in found.values()},
            {("POST", "generate"), ("GET", "stored"), ("DELETE", "forget")},
        )

        def route(endpoint: Endpoint, rest: str) -> Route:
            return OPENAI_RESPONSES.route(endpoint=endpoint, rest=rest, query=(), headers={})

        got = route(found["stored"], "resp_1")
        self.assertEqual((got.action, got.model), ("stored", "resp_1"))
        request = OPENAI_RESPONSES.parse(body=b"", route=got)
        self.assertEqual((request.action, request.model), ("stored", "resp_1"))
        self.assertEqual(request.framing, "whole")
        kept = route(found["forget"], "resp_1.a-B:2")
        self.assertEqual((kept.action, kept.model), ("forget", "resp_1.a-B:2"))
        odd = ("", "resp_1/input_items", ".", "..", "...", "a b", "é", "a\n", "a?b", "a" * 513)
        for rest in odd:
            self.assertRaises(UnknownRoute, route, found["forget"], rest)


class ForeignSealTests(SynchronousTestCase):
    """What models of other dialects sealed is not for OpenAI."""

    def test_no_parcel_no_change(self) -> None:
        """The very request is sent."""
        item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
        request = parsed({"input": [item]})
        self.assertIs(request.without_foreign_seals(), request)
        spoken = parsed({"input": f"What is {UNSEALED}?"})
        self.assertEqual(spoken.without_foreign_seals().raw, spoken.raw)
        self.assertEqual(spoken.without_foreign_seals().losses, ())

    def test_foreign_thoughts_go(self) -> None:
        """Item and all; every other byte stays."""
        foreign = carried(Seal("anthropic-messages", "sig"), NAME).encode()
        thought = b'{"type":"reasoning","id":"rs_9","summary":[],"encrypted_content":"%b"}'
        body = (
            b'{"model":"m", "input":[%b, {"role":"user","content":"a"} ,%b,'
            b'{"role":"user","content":"b"}],"x":1.10}'
        )
        request = parsed(body % (thought % foreign, thought % UNSEALED.encode()))
        changed = request.without_foreign_seals()
        self.assertEqual(
            changed.raw,
            b'{"model":"m", "input":[{"role":"user","content":"a"},'
            b'{"role":"user","content":"b"}],"x":1.10}',
        )
        self.assertEqual(changed.losses, ("reasoning",))
        self.assertEqual(parsed(changed.raw).raw, changed.raw)

    def test_openais_own_are_unpacked(self) -> None:
        """Seal and id are what they were."""
        own = carried(Seal(NAME, "gAAAA", id="rs_1"), NAME)
        for head in ({"id": "rs_9"}, {}):
            item = {"type": "reasoning", **head, "summary": [], "encrypted_content": own}
            changed = parsed({"input": [item, {"role": "user"}]}).without_foreign_seals()
            wanted = {**item, "id": "rs_1", "encrypted_content": "gAAAA"}
            self.assertEqual(json.loads(changed.raw)["input"], [wanted, {"role": "user"}])
            self.assertEqual(changed.losses, ())


class ErrorTests(SynchronousTestCase):
    """Error answers."""

    def test_a_prompt_that_is_too_long(self) -> None:
        """Agents know it by its code, whatever the upstream called it."""
        error = UpstreamError(
            "prompt is too long", fault=Fault.CONTEXT, status=400, code="invalid_request_error"
        )
        for status in (400, 413, 422, 500):
            error.status = status
            status, body = OPENAI_RESPONSES.render_error(error=error)
            told = json.loads(body)["error"]
            self.assertEqual((status, told["code"]), (400, "context_length_exceeded"))
            self.assertEqual((told["type"], told["param"]), ("invalid_request_error", None))


_ID = "previous_response_id"
