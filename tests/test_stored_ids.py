"""
Ids of what an upstream keeps: who may use them, and where they lead.

An upstream knows accounts and no callers of ours: whoever names an id is let in there. So
it is the gateway that has to know whose an id is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from aiclient2api.dialects.openai_responses import OPENAI_RESPONSES
from aiclient2api.interfaces import IWatcher
from aiclient2api.state.memory import MemoryStore
from aiclient2api.testing import (
    MemoryResponse,
    messages_body,
    messages_events,
    responses_body,
    responses_events,
)
from aiclient2api.values import Route
from aiclient2api.web.noting import Noting
from tests.web_fixture import GatewayTestCase, Reply

JSON = ((b"content-type", b"application/json"),)
SSE = ((b"content-type", b"text/event-stream"),)
OWNER, OTHER, WRONG = "key-of-the-owner", "key-of-another", "key-of-nobody"
ID, ITEM, CONTAINER = "resp_given", "msg_given", "cntr_given"
UNKNOWN = "resp_never_given"

WAYS = ("GET", "DELETE", "previous_response_id", "item_reference", "container", "conversation")
"""Every way in which a request can name what an upstream keeps."""

REFUSED = {
    "GET": (404, "Response with id 'ID' not found."),
    "DELETE": (404, "Response with id 'ID' not found."),
    "previous_response_id": (400, "Previous response with id 'ID' not found."),
    "item_reference": (400, "Item with id 'ID' not found."),
    "container": (400, "Container with id 'ID' not found."),
    "conversation": (400, "Conversation with id 'ID' not found."),
}
"""What is said of an id that the caller may not use, in OpenAI's own words."""

ANSWER = json.dumps(
    {
        **json.loads(responses_body("Hello!")),
        "id": ID,
        "output": [
            {"type": "message", "id": ITEM, "role": "assistant", "content": []},
            {"type": "code_interpreter_call", "id": "ci_1", "container_id": CONTAINER},
            {"type": "odd", "id": 5},
        ],
    }
).encode()


class StoredIdsCase(GatewayTestCase):
    """A gateway before an upstream that keeps answers, and one answer that it gave."""

    def asked(
        self, keys: Sequence[str] | str, first: Sequence[MemoryResponse] = (), **config: Any
    ) -> None:
        """Build a gateway, or restart it: what it remembers outlives it."""
        answers = [*first, *(MemoryResponse(200, JSON, [ANSWER]) for _ in range(20))]
        config = {"model_provider": "openaiResponses-custom", **config}
        self.build(answers, required_api_key=keys, **config)

    def respond(self, key: str | None, **fields: Any) -> Reply:
        """Ask for a response."""
        body = json.dumps({"model": "m", "input": "Hi.", **fields}).encode()
        return self.ask("POST", "/v1/responses", body, key=key)

    def give(self, key: str = OWNER) -> None:
        """Let the upstream give its ids to a caller."""
        self.assertEqual(self.respond(key).status, 200)

    def named(self, way: str, id: str, key: str | None) -> Reply:
        """Name an id in a request."""
        if way in ("GET", "DELETE"):
            return self.ask(way, f"/v1/responses/{id}", key=key)
        fields: dict[str, dict[str, Any]] = {
            "previous_response_id": {"previous_response_id": id},
            "item_reference": {"input": [{"type": "item_reference", "id": id}]},
            "container": {"tools": [{"type": "code_interpreter", "container": id}]},
            "conversation": {"conversation": id},
        }
        return self.respond(key, **fields[way])

    def assert_let_through(self, way: str, id: str, key: str | None) -> None:
        """The upstream is asked, and by just this id."""
        before = len(self.upstream.sent)
        self.assertEqual(self.named(way, id, key).status, 200, (way, id))
        self.assertEqual(len(self.upstream.sent), before + 1, (way, id))
        request = self.upstream.sent[-1].request
        self.assertIn(
            id, request.url if way in ("GET", "DELETE") else (request.body or b"").decode()
        )

    def assert_refused(self, way: str, id: str, key: str | None, status: int = 0) -> None:
        """The upstream never hears of it, and the caller cannot tell it from a wrong id."""
        before = len(self.upstream.sent)
        reply = self.named(way, id, key)
        wanted, words = REFUSED[way]
        self.assertEqual(reply.status, status or wanted, (way, id))
        if not status:
            self.assertEqual(reply.json()["error"]["message"], words.replace("ID", id))
        self.assertEqual(len(self.upstream.sent), before, (way, id))


def given(way: str) -> str:
    """Return the id that the upstream gave for what *way* names."""
    return {"item_reference": ITEM, "container": CONTAINER}.get(way, ID)


class OwnerTests(StoredIdsCase):
    """The matrix: who asks, how, and after what."""

    ways = tuple(way for way in WAYS if way != "conversation")

    def test_the_owner(self) -> None:
        """Whoever was given an id may use it, in every way, also after a restart."""
        self.asked([OWNER, OTHER])
        self.give()
        for restarted in (False, True):
            if restarted:
                self.asked([OWNER, OTHER])
            for way in self.ways:
                self.assert_let_through(way, given(way), OWNER)

    def test_another_key(self) -> None:
        """CVE-2026-30886: an id that leaked opens nothing, before and after a restart."""
        self.asked([OWNER, OTHER])
        self.give()
        for restarted in (False, True):
            if restarted:
                self.asked([OWNER, OTHER])
            for way in WAYS:
                self.assert_refused(way, given(way), OTHER)

    def test_no_key(self) -> None:
        """Without one, or with a wrong one, nothing is said about any id."""
        self.asked([OWNER, OTHER])
        self.give()
        for way in WAYS:
            for id in (given(way), UNKNOWN):
                self.assert_refused(way, id, None, status=401)
                self.assert_refused(way, id, WRONG, status=401)

    def test_an_id_that_nobody_knows(self) -> None:
        """With several keys nobody can say whose it is: then it is nobody's."""
        self.asked([OWNER, OTHER])
        self.give()
        for way in WAYS:
            for key in (OWNER, OTHER):
                self.assert_refused(way, UNKNOWN, key)

    def test_a_single_key(self) -> None:
        """It is the only caller's, then: of an earlier version, or of another program."""
        for keys, key in (((OWNER,), OWNER), ((OWNER, OWNER), OWNER), ("", None)):
            self.asked(list(keys) or "")
            for way in WAYS:
                self.assert_let_through(way, UNKNOWN, key)

    def test_a_second_key_later(self) -> None:
        """What the first one was given stays the first one's."""
        self.asked([OWNER])
        self.give()
        self.asked([OTHER, OWNER])
        for way in self.ways:
            self.assert_let_through(way, given(way), OWNER)
            self.assert_refused(way, given(way), OTHER)

    def test_a_key_that_was_taken_back(self) -> None:
        """Its ids are nobody's, while there are several others."""
        self.asked([OWNER, OTHER])
        self.give()
        self.asked([OTHER, "key-of-a-third"])
        for way in WAYS:
            self.assert_refused(way, given(way), OTHER)

    def test_after_its_time(self) -> None:
        """Once it is forgotten it is unknown."""
        self.asked([OWNER, OTHER])
        self.give()
        self.successResultOf(self.store.close())
        for way in WAYS:
            self.assert_refused(way, given(way), OWNER)

    def test_what_nobody_is_to_keep(self) -> None:
        """``store: false``: there is nothing to go on from, so nothing is remembered."""
        self.asked([OWNER, OTHER])
        self.assertEqual(self.respond(OWNER, store=False).status, 200)
        for way in WAYS:
            self.assert_refused(way, given(way), OWNER)

    def test_other_ways_to_write_it(self) -> None:
        """A reference without a type, a conversation as an object, a name that is there twice."""
        self.asked([OWNER, OTHER])
        self.give()
        for fields in (
            {"input": [{"role": "user", "content": "x"}, {"id": ITEM}]},
            {"input": [{"id": ITEM, "type": None}]},
            {"conversation": {"id": "conv_1"}},
        ):
            reply = self.respond(OTHER, **fields)
            self.assertEqual(reply.status, 400, fields)
            self.assertIn("not found", reply.json()["error"]["message"])
        for twice in (
            b'"conversation":"conv_1","conversation":null',
            b'"tools":[{"container":"cntr_given"}],"tools":[]',
        ):
            body = b'{"model":"m","input":"Hi.",' + twice + b"}"
            self.assertEqual(self.ask("POST", "/v1/responses", body, key=OTHER).status, 400)
        self.assertEqual(len(self.upstream.sent), 1)

    def test_what_is_no_reference(self) -> None:
        """Items that say something themselves pass, whatever ids they bear."""
        self.asked([OWNER, OTHER])
        items = [
            {"role": "user", "content": "Hi."},
            {"type": "message", "id": "msg_x", "role": "assistant", "content": []},
            {"type": "function_call", "id": "fc_x", "call_id": "c", "name": "f", "arguments": ""},
        ]
        tools = [{"type": "code_interpreter", "container": {"type": "auto"}}]
        self.assertEqual(self.respond(OTHER, input=items, tools=tools).status, 200)


class StreamTests(StoredIdsCase):
    """Ids in a stream."""

    def test_it_is_known_before_the_client_has_read_it(self) -> None:
        """A client may go on while the upstream's connection is still open."""
        whole = b"".join(responses_events(["Hel", "lo"]))
        self.asked([OWNER, OTHER], first=[MemoryResponse(200, SSE, [whole], end=None)])
        self.send(
            "POST",
            "/v1/responses",
            b'{"model":"m","input":"Hi.","stream":true}',
            key=OWNER,
        )
        self.assertIn(b"response.completed", self.wire.value())
        for way, id in (("previous_response_id", "resp_test"), ("item_reference", "msg_test")):
            self.assert_let_through(way, id, OWNER)
            self.assert_refused(way, id, OTHER)

    def test_a_watcher_like_any_other(self) -> None:
        """It changes no byte, and tells what the one below tells; each id once."""
        told: list[list[str]] = []
        request = OPENAI_RESPONSES.parse(
            body=b'{"model":"m","input":"x","stream":true}', route=Route("generate")
        )
        plain, noting = (
            OPENAI_RESPONSES.watcher(
                request=request, content_type=b"text/event-stream", want_text=True
            )
            for _ in range(2)
        )
        noting = Noting(noting, lambda ids: told.append(list(ids)))
        self.assertTrue(verifyObject(IWatcher, noting))
        for piece in responses_events(["Hel", "lo"]):
            self.assertEqual(noting.feed(piece), plain.feed(piece))
        self.assertEqual(noting.end(), plain.end())
        for name in IWatcher.names():
            if name not in ("feed", "end", "error_frame"):
                self.assertEqual(repr(getattr(noting, name)), repr(getattr(plain, name)), name)
        self.assertEqual(told, [["resp_test"], ["msg_test"]])


class ContainerTests(GatewayTestCase):
    """Containers of Anthropic's code execution, in which files of a caller lie."""

    def message(self, key: str, **fields: Any) -> Reply:
        """Ask for a message."""
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
        return self.ask("POST", "/v1/messages", json.dumps({**body, **fields}).encode(), key=key)

    def test_only_its_owner_may_go_on_in_one(self) -> None:
        """Whoever was given it, in a whole answer or a stream, by its id or as an object."""
        told = {"id": "container_1", "expires_at": "2030-01-01T00:00:00Z"}
        whole = json.dumps({**json.loads(messages_body("Hi!")), "container": told}).encode()
        start, *rest = messages_events(["Hi!"])
        ends = [
            piece.replace(b'"stop_reason"', b'"container":{"id":"container_1"},"stop_reason"')
            if b"message_delta" in piece
            else piece
            for piece in rest
        ]
        stream = b"".join([start, *ends])
        self.assertIn(b"container_1", stream)
        for answer, head, streamed in ((whole, JSON, False), (stream, SSE, True)):
            answers = [MemoryResponse(200, head, [answer])]
            answers += [MemoryResponse(200, JSON, [whole]) for _ in range(2)]
            self.store = MemoryStore(clock=Clock(), now=lambda: 0.0)
            self.build(answers, required_api_key=[OWNER, OTHER], model_provider="claude-custom")
            self.assertEqual(self.message(OWNER, stream=streamed).status, 200)
            for container in ("container_1", {"id": "container_1"}):
                refused = self.message(OTHER, container=container)
                self.assertEqual(refused.status, 400)
                self.assertEqual(refused.json()["error"]["type"], "invalid_request_error")
                self.assertIn("container_1", refused.json()["error"]["message"])
                self.assertEqual(self.message(OWNER, container=container).status, 200)
            self.assertEqual(self.message(OWNER, container="container_2").status, 400)
            self.assertEqual(len(self.upstream.sent), 3)

    def test_what_names_none(self) -> None:
        """A new one with skills, or no wish at all."""
        answers = [MemoryResponse(200, JSON, [messages_body("Hi!")]) for _ in range(2)]
        self.build(answers, required_api_key=[OWNER, OTHER], model_provider="claude-custom")
        wishes: tuple[Any, ...] = (None, {"skills": []})
        for container in wishes:
            self.assertEqual(self.message(OTHER, container=container).status, 200)


class AccountTests(StoredIdsCase):
    """Where an id leads, among several accounts."""

    def pooled(self, keys: Sequence[str], **config: Any) -> None:
        """Build a gateway with three accounts."""
        accounts = [
            {
                "uuid": name,
                "OPENAI_API_KEY": f"sk-{name}",
                "OPENAI_BASE_URL": f"http://127.0.0.1/{name}",
            }
            for name in "abc"
        ]
        path = Path(self.mktemp())
        path.write_text(json.dumps({"openaiResponses-custom": accounts}))
        self.asked(keys, PROVIDER_POOLS_FILE_PATH=str(path.absolute()), **config)

    def test_it_goes_to_the_account_that_keeps_it(self) -> None:
        """After a restart as well, and where conversations do not stay with their account."""
        for config in ({}, {"affinity": False}):
            self.pooled([OWNER, OTHER], **config)
            self.ask("GET", "/v1/models", key=OTHER)
            self.respond(OTHER)
            self.give()
            home = self.upstream.sent[-1].request.url.partition("/v1")[0].removesuffix("/responses")
            for _ in range(2):
                for way in ("GET", "previous_response_id", "DELETE"):
                    for _ in range(3):
                        self.assert_let_through(way, ID, OWNER)
                        self.assertIn(home, self.upstream.sent[-1].request.url)
                self.pooled([OWNER, OTHER], **config)
