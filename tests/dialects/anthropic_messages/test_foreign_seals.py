"""Requests that go to Anthropic as they are, but for what others have sealed."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation import seals
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.interfaces import IWireRequest
from aiclient2api.values import Route
from tests.dialects.anthropic_messages.judge import judge_request

NAME = "anthropic-messages"
FOREIGN = seals.carried(Seal("gemini", "AAAA"), NAME)
USER = {"role": "user", "content": "hi"}
TEXT = {"type": "text", "text": "t"}
CALL = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]}
OWN = {"type": "thinking", "thinking": "own", "signature": "EqQB"}
THEIRS = {"type": "thinking", "thinking": "theirs", "signature": FOREIGN}
BUDGET = {"type": "enabled", "budget_tokens": 2048}


def request_of(*messages: Any, separators: tuple[str, str] = (", ", ": "), **fields: Any) -> Any:
    """Return a request with *messages*."""
    body = {"model": "m", "max_tokens": 4096, **fields, "messages": messages}
    raw = json.dumps(body, separators=separators).encode()
    return ANTHROPIC_MESSAGES.parse(body=raw, route=Route("generate"))


def assistant(*blocks: Any) -> dict[str, Any]:
    """Return what the assistant said."""
    return {"role": "assistant", "content": list(blocks)}


def rid(request: IWireRequest) -> dict[str, Any]:
    """Return what is left of *request*, decoded."""
    left = request.without_foreign_seals()
    told: dict[str, Any] = json.loads(left.raw)
    return told


class ForeignSealTests(SynchronousTestCase):
    """What another vendor's model sealed is taken out, and nothing else."""

    def test_a_request_without_any(self) -> None:
        """Is the very same, byte for byte; so is one that only speaks of parcels."""
        for messages in (
            (USER, assistant(OWN, TEXT), USER),
            ({"role": "user", "content": [{"type": "text", "text": FOREIGN}]},),
            ({"role": "user", "content": FOREIGN},),
        ):
            request = request_of(*messages)
            self.assertIs(request.without_foreign_seals(), request)

    def test_thoughts(self) -> None:
        """They go, with the comma; every other byte stays."""
        request = request_of(USER, assistant(OWN, THEIRS, TEXT), USER, extra=1.10)
        wanted = request.raw.replace(b", " + json.dumps(THEIRS).encode(), b"")
        left = request.without_foreign_seals()
        self.assertEqual(left.raw, wanted)
        self.assertEqual((left.losses, left.model), (("reasoning",), "m"))
        first = request_of(assistant(THEIRS, TEXT), separators=(",", ":"))
        self.assertEqual(rid(first)["messages"], [assistant(TEXT)])

    def test_thoughts_without_a_seal(self) -> None:
        """A thought that nobody sealed is known again, too: Claude takes no empty signature."""
        unsealed = seals.carried(Seal("none", ""), "anthropic-messages")
        told = rid(
            request_of(
                {"role": "user", "content": "q"},
                assistant(
                    {"type": "thinking", "thinking": "t", "signature": unsealed},
                    {"type": "text", "text": "a"},
                ),
                {"role": "user", "content": "r"},
            )
        )
        self.assertEqual(told["messages"][1]["content"], [{"type": "text", "text": "a"}])

    def test_hidden_thoughts(self) -> None:
        """Go as well."""
        block = {"type": "redacted_thinking", "data": FOREIGN}
        self.assertEqual(
            rid(request_of(USER, assistant(block, TEXT)))["messages"][1], assistant(TEXT)
        )

    def test_a_message_of_thoughts_alone(self) -> None:
        """Says something in their place: one without content would be refused."""
        told = rid(request_of(USER, assistant(THEIRS, THEIRS), USER))
        (block,) = told["messages"][1]["content"]
        self.assertEqual(block["type"], "text")
        self.assertTrue(block["text"].strip())

    def test_parcels_of_its_own(self) -> None:
        """Are unpacked to what Anthropic gave."""
        hidden = seals.carried(Seal(NAME, "Em", hidden=True), NAME)
        named = seals.carried(Seal(NAME, "Eq", id="x"), NAME)
        redacted = {"type": "redacted_thinking", "data": "Em"}
        thinking = {"type": "thinking", "thinking": "a", "signature": "Eq"}
        for block, wanted in (
            ({"type": "redacted_thinking", "data": hidden}, redacted),
            ({"type": "thinking", "thinking": "", "signature": hidden}, redacted),
            ({"type": "thinking", "thinking": "a", "signature": named}, thinking),
            ({"type": "redacted_thinking", "data": named}, {**thinking, "thinking": ""}),
        ):
            request = request_of(USER, assistant(block, TEXT), thinking=BUDGET)
            left = request.without_foreign_seals()
            told = json.loads(left.raw)
            self.assertEqual(told["messages"][1], assistant(wanted, TEXT))
            self.assertEqual((told["thinking"], left.losses), (BUDGET, ()))

    def test_citations_of_others(self) -> None:
        """Anthropic would look for its own search behind them."""
        ours = {"type": "web_search_result_location", "encrypted_index": FOREIGN}
        own = {"type": "web_search_result_location", "encrypted_index": "E"}
        for citations, wanted in (([ours, own, ours], [own]), ([ours], None)):
            request = request_of(USER, assistant({**TEXT, "citations": citations}))
            self.assertEqual(rid(request)["messages"][1], assistant({**TEXT, "citations": wanted}))


class ThinkingTests(SynchronousTestCase):
    """A turn that is going on must begin with a thought while Claude thinks with a budget."""

    LOOP = (USER, assistant(THEIRS, CALL), RESULT)
    TOOLS = [{"name": "f", "input_schema": {"type": "object"}}]

    def test_thinking_ends(self) -> None:
        """If that thought was another's, this answer comes without one."""
        request = request_of(*self.LOOP, tools=self.TOOLS, thinking=BUDGET)
        left = request.without_foreign_seals()
        told = json.loads(left.raw)
        self.assertNotIn("thinking", told)
        self.assertEqual(left.losses, ("reasoning", "thinking"))
        self.assertEqual(told["messages"][1], assistant(CALL))
        judge = {**told, "messages": [{"role": "user", "content": [TEXT]}, *told["messages"][1:]]}
        judge_request(json.dumps(judge).encode())

    def test_wherever_the_field_stands(self) -> None:
        """First, last, or beside what has to go along with it."""
        managed = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
        fields: dict[str, Any] = {
            "thinking": BUDGET,
            "context_management": managed,
            "model": "m",
            "messages": list(self.LOOP),
        }
        for order in (fields, dict(reversed(fields.items()))):
            raw = json.dumps(order).encode()
            request = ANTHROPIC_MESSAGES.parse(body=raw, route=Route("generate"))
            self.assertEqual(set(rid(request)), {"model", "messages"})

    def test_what_else_manages_the_context(self) -> None:
        """Stays: only what clears thoughts is refused without them."""
        other = {"type": "clear_tool_uses_20250919"}
        clears = {"type": "clear_thinking_20251015"}
        request = request_of(
            *self.LOOP, thinking=BUDGET, context_management={"edits": [clears, other, clears]}
        )
        told = rid(request)
        self.assertEqual(told["context_management"], {"edits": [other]})
        self.assertNotIn("thinking", told)

    def test_thinking_goes_on(self) -> None:
        """Where the turn is over, begins with Claude's own thought, or thinks as it likes."""
        over = (*self.LOOP, assistant(TEXT), USER)
        later = (USER, assistant(OWN, CALL), RESULT, assistant(THEIRS, CALL), RESULT)
        both = (USER, assistant(OWN, THEIRS, CALL), RESULT)
        for messages in (over, later, both):
            told = rid(request_of(*messages, thinking=BUDGET))
            self.assertEqual(told["thinking"], BUDGET)
            self.assertNotIn("theirs", json.dumps(told))
        adaptive = {"type": "adaptive"}
        told = rid(request_of(*self.LOOP, thinking=adaptive))
        self.assertEqual(told["thinking"], adaptive)

    def test_the_turn_began_earlier(self) -> None:
        """What counts is its first message."""
        messages = (*self.LOOP, assistant(CALL), RESULT)
        self.assertNotIn("thinking", rid(request_of(*messages, thinking=BUDGET)))
