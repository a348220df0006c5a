"""
The inventories notice what is missing: a judge that misses a loss would prove nothing.
"""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import (
    Call,
    Conversation,
    File,
    Image,
    Inline,
    OutputFormat,
    Reasoning,
    Result,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    Turn,
)
from aiclient2api.conversation.seals import Seal
from tests.any_conversations import conversations
from tests.inventory import undeclared
from tests.recorded_requests import RECORDED
from tests.request_laws import obey
from tests.tape import cases
from tests.wire_inventory import unsaid

_PICTURE = Image(Inline("image/png", "AA=="), "low")
_FULL = Conversation(
    model="m",
    streaming=True,
    system=(Text("Be brief.", cache={"type": "ephemeral"}),),
    turns=(
        Turn("user", (Text("look"), _PICTURE, File(Inline("application/pdf", "BB=="), "a.pdf"))),
        Turn("assistant", (Reasoning("hm", Seal("gemini", "CC==")), Text("so"), Call("1", "f"))),
        Turn("user", (Result("1", "f", (Text("found"), _PICTURE), is_error=True),)),
    ),
    tools=(Tool("function", "f", "does it", {"type": "object", "required": ["a"]}, strict=True),),
    tool_choice=ToolChoice("named", ("f",)),
    parallel=False,
    sampling=Sampling(max_tokens=5, temperature=0, stop=("END",), seed=0),
    output=OutputFormat({"type": "object", "title": "T"}, strict=True),
    thinking=Thinking(effort="high"),
    user="u",
    metadata={"k": "v"},
    cache_key="c",
)


def _parts(at: int, *parts: Any) -> Conversation:
    """Return `_FULL` with other parts in the turn *at*."""
    turns = list(_FULL.turns)
    turns[at] = Turn(turns[at].role, parts)
    return attrs.evolve(_FULL, turns=tuple(turns))


class InventoryTests(SynchronousTestCase):
    """Of a conversation, whatever is taken away is missed."""

    def _missed(self, after: Conversation, code: str) -> None:
        """Assert that *after* misses something that *code* alone excuses."""
        self.assertNotEqual([], undeclared(_FULL, after, ()))
        self.assertEqual([], undeclared(_FULL, after, (code,)))

    @cases(100)
    @given(conversations())
    def test_nothing_is_missing_from_the_conversation_itself(self, found: Conversation) -> None:
        """The judge makes nothing up."""
        self.assertEqual([], undeclared(found, found, ()))

    def test_words_are_missed(self) -> None:
        """The user's, the model's and the operator's; and nothing excuses them."""
        _, image, file = _FULL.turns[0].parts
        thought, _, call = _FULL.turns[1].parts
        for after in (
            _parts(0, image, file),
            _parts(1, thought, call),
            attrs.evolve(_FULL, system=()),
        ):
            every = ("cache_control", "image", "file", "reasoning", "tool_result", "schema")
            self.assertNotEqual([], undeclared(_FULL, after, every))

    def test_media_are_missed(self) -> None:
        """Each by its bytes, with its name and how closely to look at it."""
        text, image, file = _FULL.turns[0].parts
        assert isinstance(file, File)
        self._missed(_parts(0, text, file), "image")
        self._missed(_parts(0, text, image), "file")
        self._missed(_parts(0, text, image, attrs.evolve(file, name="")), "file")

    def test_thoughts_are_missed(self) -> None:
        """And their seals."""
        thought, text, call = _FULL.turns[1].parts
        assert isinstance(thought, Reasoning)
        self._missed(_parts(1, text, call), "reasoning")
        self._missed(_parts(1, attrs.evolve(thought, seal=None), text, call), "reasoning")

    def test_calls_are_missed(self) -> None:
        """With their arguments, to the digit; and nothing excuses them."""
        thought, text, call = _FULL.turns[1].parts
        assert isinstance(call, Call)
        for parts in ((thought, text), (thought, text, attrs.evolve(call, arguments='{"a":1}'))):
            self.assertNotEqual([], undeclared(_FULL, _parts(1, *parts), ("reasoning",)))

    def test_answers_of_tools_are_missed(self) -> None:
        """What they said and showed, and that they failed."""
        (result,) = _FULL.turns[2].parts
        assert isinstance(result, Result)
        self._missed(_parts(2, attrs.evolve(result, is_error=False)), "tool_error")
        self._missed(_parts(2, attrs.evolve(result, parts=result.parts[1:])), "tool_result")
        moved = (attrs.evolve(result, parts=result.parts[:1]), _PICTURE)
        self._missed(_parts(2, *moved), "tool_media")

    def test_tools_are_missed(self) -> None:
        """With their schemas, and how they may be called."""
        (tool,) = _FULL.tools
        named = attrs.evolve(_FULL, tool_choice=ToolChoice("required"))
        self._missed(attrs.evolve(_FULL, tools=()), "tool:function")
        self._missed(attrs.evolve(_FULL, tools=(attrs.evolve(tool, strict=None),)), "strict")
        less = attrs.evolve(tool, parameters={"type": "object"})
        self._missed(attrs.evolve(_FULL, tools=(less,)), "schema")
        self._missed(named, "tool_choice")
        self._missed(attrs.evolve(_FULL, parallel=None), "parallel_tool_calls")

    def test_settings_are_missed(self) -> None:
        """An explicit 0 as well as any other."""
        for name, sampling in (
            ("max_tokens", attrs.evolve(_FULL.sampling, max_tokens=None)),
            ("temperature", attrs.evolve(_FULL.sampling, temperature=None)),
            ("seed", attrs.evolve(_FULL.sampling, seed=None)),
            ("stop", attrs.evolve(_FULL.sampling, stop=())),
        ):
            self._missed(attrs.evolve(_FULL, sampling=sampling), name)
        self._missed(attrs.evolve(_FULL, user=""), "user")
        self._missed(attrs.evolve(_FULL, metadata=None), "metadata")
        self._missed(attrs.evolve(_FULL, cache_key=""), "prompt_cache_key")
        self._missed(attrs.evolve(_FULL, output=None), "output_format")
        self._missed(attrs.evolve(_FULL, thinking=Thinking(effort="low")), "thinking")
        self._missed(attrs.evolve(_FULL, system=(Text("Be brief."),)), "cache_control")


class WireInventoryTests(SynchronousTestCase):
    """Of a request as it stands on the wire, whatever is taken away is missed."""

    def test_nothing_is_missing_from_the_request_itself(self) -> None:
        """The judge makes nothing up."""
        for recorded in RECORDED:
            body = json.loads(recorded.body)
            self.assertEqual([], unsaid(body, body, ()), recorded.name)

    def test_what_is_cut_off_is_missed(self) -> None:
        """What was said, or the tools."""
        for recorded in RECORDED:
            body = json.loads(recorded.body)
            for key in ("messages", "input", "contents", "tools"):
                # A very short one has nothing in it that is not somewhere else, too.
                if len(str(body.get(key, ""))) > 100:
                    less = {name: value for name, value in body.items() if name != key}
                    self.assertNotEqual([], unsaid(body, less, ()), (recorded.name, key))

    def test_a_loss_excuses_only_its_own_kind(self) -> None:
        """A dropped image does not excuse a dropped text."""
        content = [
            {"type": "text", "text": "hello"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]
        body = {"messages": [{"role": "user", "content": content}]}
        self.assertEqual(2, len(unsaid(body, {}, ())))
        self.assertEqual(["text 'hello'"], unsaid(body, {}, ("image",)))


class LawTests(SynchronousTestCase):
    """The vendors' rules refuse what the vendors refuse."""

    def test_an_unanswered_call_is_refused(self) -> None:
        """Everywhere."""
        function = {"name": "f", "arguments": "{}"}
        call = {"id": "1", "type": "function", "function": function}
        used = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
        hi = {"role": "user", "content": "hi"}
        said = [{"type": "text", "text": "hi"}]
        part = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "AA=="}
        item = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
        unanswered: dict[str, dict[str, Any]] = {
            "openai-chat": {
                "messages": [hi, {"role": "assistant", "content": None, "tool_calls": [call]}]
            },
            "openai-responses": {"input": [item]},
            "anthropic-messages": {
                "messages": [
                    {"role": "user", "content": said},
                    {"role": "assistant", "content": [used]},
                ]
            },
            "gemini": {
                "contents": [
                    {"role": "user", "parts": [{"text": "hi"}]},
                    {"role": "model", "parts": [part]},
                ]
            },
        }
        for dialect, body in unanswered.items():
            with self.assertRaises(AssertionError, msg=dialect):
                obey(dialect, body)

    def test_recorded_requests_of_official_clients_obey(self) -> None:
        """The rules are no stricter than the clients; where contents are lists, as we write."""
        seen = 0
        for recorded in RECORDED:
            body = json.loads(recorded.body)
            if recorded.dialect != "openai-chat" or "litellm" in recorded.name:
                continue
            obey(recorded.dialect, body)
            seen += 1
        self.assertGreater(seen, 40)
