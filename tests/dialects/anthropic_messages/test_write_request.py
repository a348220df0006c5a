"""How an upstream of Messages is asked."""

from __future__ import annotations

import json
import random

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation import call_ids
from aiclient2api.conversation.request import (
    Audio,
    Call,
    Conversation,
    File,
    Image,
    Inline,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Remote,
    Result,
    Sampling,
    Text,
    Thinking,
    ToolChoice,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.dialects.anthropic_messages.write_request import write_request
from aiclient2api.dialects.convert import conversation_of
from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import IAnthropicMessagesRequest
from aiclient2api.values import Route
from tests.dialects.anthropic_messages.asking import (
    CLAUDE,
    EPHEMERAL,
    FOREIGN,
    NAME,
    SEAL,
    TOOL,
    USER,
    asked,
    request_of,
    text,
)
from tests.dialects.anthropic_messages.judge import judge_request
from tests.recordings import all_recordings


class RequestTests(SynchronousTestCase):
    """A request from end to end."""

    def test_a_plain_question(self) -> None:
        """Nothing more is sent than was said, but for the limit that must be there."""
        told = asked(system=(Text("S"),), streaming=True)
        self.assertEqual(
            told,
            {
                "model": CLAUDE,
                "max_tokens": 32000,
                "system": [text("S")],
                "messages": [{"role": "user", "content": [text("hi")]}],
                "stream": True,
                "losses": (),
            },
        )

    def test_it_is_a_request_of_the_dialect(self) -> None:
        """Which the rest of the gateway can handle as one that a client sent."""
        request = IAnthropicMessagesRequest(Conversation(CLAUDE, True, turns=(USER,)))
        self.assertEqual((request.model, request.streaming, request.framing), (CLAUDE, True, "sse"))
        parsed = ANTHROPIC_MESSAGES.parse(body=request.raw, route=Route("generate"))
        self.assertEqual(parsed.prompt_text(), "hi")

    def test_a_loop_of_tools(self) -> None:
        """Thoughts first, then text, then calls; results first in the turn after, in order."""
        turns = (
            USER,
            Turn(
                "assistant",
                (
                    Text("calling"),
                    Call("call_1", "f", '{"a": 1.10}'),
                    Reasoning("hm", SEAL),
                    Call("call.2", "g", ""),
                ),
            ),
            Turn("user", (Text("go on"), Result("call.2", parts=(Text("boom"),), is_error=True))),
            Turn("user", (Result("call_1", parts=(Text("r1"),)),)),
        )
        request = request_of(turns=turns, tools=(TOOL,), thinking=Thinking(budget=2048))
        told = json.loads(request.raw)
        second = call_ids.plain("call.2")
        self.assertEqual(
            told["messages"][1:],
            [
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "EqQB"},
                        text("calling"),
                        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1.1}},
                        {"type": "tool_use", "id": second, "name": "g", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "call_1", "content": "r1"},
                        {
                            "type": "tool_result",
                            "tool_use_id": second,
                            "content": "boom",
                            "is_error": True,
                        },
                        text("go on"),
                    ],
                },
            ],
        )
        self.assertIn(b'{"a": 1.10}', request.raw)
        self.assertEqual(told["thinking"], {"type": "enabled", "budget_tokens": 2048})
        self.assertEqual(request.losses, ())

    def test_recorded_requests_survive(self) -> None:
        """What a client of Messages asks is asked the same of another of its upstreams."""
        seen = 0
        for recording in all_recordings():
            if recording.dialect != NAME or recording.malformed:
                continue
            route = Route(recording.action)
            client = ANTHROPIC_MESSAGES.parse(body=recording.as_bytes(), route=route)
            conversation = conversation_of(client)
            request = write_request(conversation)
            counting = recording.action == "count_tokens"
            judge_request(request.raw, counting=counting)
            again = conversation_of(request)
            self.assertEqual(again.turns, conversation.turns, recording.name)
            self.assertEqual(again.system, conversation.system, recording.name)
            self.assertEqual(
                [(tool.name, tool.description) for tool in again.tools],
                [(tool.name, tool.description) for tool in conversation.tools],
            )
            seen += 1
        self.assertGreater(seen, 50)

    def test_count_tokens(self) -> None:
        """A question how many tokens takes no settings of an answer."""
        told = asked(
            action="count_tokens",
            system=(Text("S"),),
            tools=(TOOL,),
            sampling=Sampling(max_tokens=5, temperature=0.5, stop=("x",)),
            user="u",
        )
        self.assertEqual(set(told), {"model", "system", "messages", "tools", "losses"})
        self.assertEqual(told["losses"], ())

    def test_what_the_reader_dropped_is_told(self) -> None:
        """Along with what the writer could not write."""
        told = asked(dropped=("n", "seed"), sampling=Sampling(seed=1), cache_key="k")
        self.assertEqual(told["losses"], ("n", "seed", "prompt_cache_key"))


class OutputTests(SynchronousTestCase):
    """What form an answer must have."""

    def test_schemas(self) -> None:
        """Models from 4.1 on can be held to one."""
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        told = asked(output=OutputFormat(schema=schema))
        self.assertEqual(
            told["output_config"],
            {
                "format": {
                    "type": "json_schema",
                    "schema": {**schema, "additionalProperties": False},
                }
            },
        )
        self.assertEqual(told["losses"], ())

    def test_schemas_in_words(self) -> None:
        """Others are asked."""
        told = asked("claude-3-7-sonnet", output=OutputFormat(schema={"type": "array"}))
        self.assertNotIn("output_config", told)
        self.assertIn('{"type":"array"}', told["system"][0]["text"])
        self.assertEqual(told["losses"], ("output_format",))

    def test_any_json(self) -> None:
        """Can only be asked for in words, behind those of the caller."""
        told = asked(output=OutputFormat(), system=(Text("S"),))
        self.assertEqual(told["system"][0], text("S"))
        self.assertIn("JSON", told["system"][1]["text"])
        self.assertEqual(told["losses"], ("json_object",))


class AnythingTests(SynchronousTestCase):
    """Histories of any shape."""

    def test_whatever_clients_send(self) -> None:
        """A request that Anthropic would take comes of every history that has a user in it."""
        chance = random.Random(11)
        seals = (None, SEAL, FOREIGN, Seal(NAME, "Em", hidden=True))
        media = (
            Inline("image/png", "AAAA"),
            Inline("application/pdf", "AAAA"),
            Remote("https://e.x/a"),
            Remote("gs://b/a"),
            Uploaded("gemini", "f"),
        )
        caches = (None, None, EPHEMERAL)
        models = (CLAUDE, "claude-3-haiku", "claude-opus-4-7", "claude-opus-5-5", "kimi-k2")

        def part() -> Part:
            made: tuple[Part, ...] = (
                Text(chance.choice(("", " ", "t", "u ")), chance.choice(caches)),
                Image(chance.choice(media), chance.choice((None, "low")), chance.choice(caches)),
                File(chance.choice(media), "n", chance.choice(caches)),
                Audio(chance.choice(media)),
                Refusal(chance.choice(("", "no"))),
                Reasoning(chance.choice(("", "r")), chance.choice(seals)),
                Call(chance.choice("abc."), chance.choice(("f", "g/h")), chance.choice(("", "{}"))),
                Result(
                    chance.choice("abc."),
                    parts=tuple(Text(each) for each in chance.choice(((), ("x",), ("", "y")))),
                    is_error=chance.random() < 0.3,
                    cache=chance.choice(caches),
                ),
            )
            return chance.choice(made)

        written = 0
        for _ in range(1500):
            turns = tuple(
                Turn(
                    chance.choice(("user", "assistant", "user", "assistant", "system")),
                    tuple(part() for _ in range(chance.randrange(5))),
                )
                for _ in range(chance.randrange(7))
            )
            conversation = Conversation(
                chance.choice(models),
                False,
                turns=turns,
                tools=(TOOL,) if chance.random() < 0.5 else (),
                tool_choice=chance.choice((None, ToolChoice("required"), ToolChoice("none"))),
                thinking=chance.choice((None, Thinking(budget=9999), Thinking(effort="max"))),
                sampling=Sampling(max_tokens=chance.choice((None, 1, 5000, 999_999))),
            )
            try:
                request = write_request(conversation)
            except InvalidRequest:
                continue
            judge_request(request.raw)
            written += 1
        self.assertGreater(written, 800)
