"""Responses: what a client asks, read."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.losses import known
from aiclient2api.conversation.request import (
    Call,
    OutputFormat,
    Reasoning,
    Result,
    Sampling,
    Text,
    Thinking,
)
from aiclient2api.dialects.openai_responses.request import NAME
from aiclient2api.errors import InvalidRequest
from aiclient2api.framing.json_text import write
from aiclient2api.interfaces import IConversation
from tests.dialects.openai_responses.judge import parsed, read
from tests.recordings import all_recordings

_FUNCTION = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}


class RefusalTests(SynchronousTestCase):
    """What cannot be answered is refused with a sentence, and the field at fault."""

    def refused(self, param: str, **body: Any) -> InvalidRequest:
        """Read *body*, which must be refused."""
        error = self.assertRaises(InvalidRequest, read, {"input": "x", **body})
        self.assertEqual(error.param, param)
        self.assertTrue(error.message.endswith("."))
        return error

    def test_what_openai_keeps(self) -> None:
        """Conversations, templates and background runs live with OpenAI alone."""
        for param, value in (
            ("conversation", "conv_1"),
            ("conversation", {"id": "conv_1"}),
            ("prompt", {"id": "pmpt_1"}),
            ("background", True),
        ):
            error = self.refused(param, **{param: value})
            self.assertEqual(error.code, "unsupported_parameter")
        self.assertEqual(read({"input": "x", "background": False, "prompt": None}).dropped, ())

    def test_an_earlier_response_that_nobody_knows(self) -> None:
        """It is refused in OpenAI's own words."""
        error = self.refused("previous_response_id", previous_response_id="resp_1")
        self.assertEqual(error.message, "Previous response with id 'resp_1' not found.")
        self.assertEqual((error.code, error.status), ("previous_response_not_found", 400))

    def test_items_by_reference(self) -> None:
        """An item that is only named is not there."""
        for item in ({"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}):
            error = self.refused("input[1]", input=[{"role": "user", "content": "x"}, item])
            self.assertIn("send the item itself", error.message)

    def test_nothing_is_said(self) -> None:
        """The field at fault is one that the client knows."""
        for nothing in (
            "",
            [],
            [{"role": "user", "content": ""}],
            [{"role": "developer", "content": []}],
            [{"type": "web_search_call", "id": "ws_1"}],
        ):
            self.assertEqual(self.refused("input", input=nothing).status, 400)
        told = read({"input": [], "instructions": "Say hello."})
        self.assertEqual((told.system, told.turns), ((Text("Say hello."),), ()))

    def test_what_is_read_too_late_is_checked_first(self) -> None:
        """Whether to keep the answer is asked once it is there."""
        for field, wrong in (("store", ("yes", 1)), ("previous_response_id", (5, ["x"], False))):
            for value in wrong:
                error = self.assertRaises(InvalidRequest, parsed, {"input": "x", field: value})
                self.assertEqual((error.param, error.status), (field, 400))
            twice = b'{"model":"m","input":"x","%b":null,"%b":null}' % ((field.encode(),) * 2)
            self.assertEqual(self.assertRaises(InvalidRequest, parsed, twice).param, field)

    def test_malformed_fields(self) -> None:
        """Each is named by its path."""
        tool = {"type": "function"}
        for param, body in (
            ("input", {"input": None}),
            ("instructions", {"instructions": ["x"]}),
            ("temperature", {"temperature": "hot"}),
            ("max_output_tokens", {"max_output_tokens": True}),
            ("parallel_tool_calls", {"parallel_tool_calls": "yes"}),
            ("reasoning", {"reasoning": "high"}),
            ("reasoning.effort", {"reasoning": {"effort": "banana"}}),
            ("text.format.type", {"text": {"format": {"type": "yaml"}}}),
            ("text.format.schema", {"text": {"format": {"type": "json_schema", "name": "x"}}}),
            ("tools[0].name", {"tools": [tool]}),
            ("tools[1]", {"tools": [_FUNCTION, "f"]}),
            ("tools[0].parameters", {"tools": [{**tool, "name": "f", "parameters": []}]}),
            ("tool_choice", {"tool_choice": "maybe"}),
            ("tool_choice.name", {"tools": [_FUNCTION], "tool_choice": {"type": "function"}}),
            ("metadata", {"metadata": []}),
        ):
            self.refused(param, **body)

    def test_malformed_items(self) -> None:
        """Each is named by its place."""
        image = {"type": "input_image"}
        for param, item in (
            ("role", {"type": "message", "role": "wizard"}),
            ("role", {"type": "message"}),
            ("type", {}),
            ("content", {"role": "user", "content": 5}),
            ("content[0]", {"role": "user", "content": ["x"]}),
            ("content[0].type", {"role": "user", "content": [{"text": "x"}]}),
            ("content[0].image_url", {"role": "user", "content": [image]}),
            (
                "content[0].image_url",
                {"role": "user", "content": [{**image, "image_url": "data:image/png;base64,!"}]},
            ),
            (
                "content[0].image_url",
                {"role": "user", "content": [{**image, "image_url": "file:///etc/passwd"}]},
            ),
            ("content[0].file_data", {"role": "user", "content": [{"type": "input_file"}]}),
            ("content[0].input_audio", {"role": "user", "content": [{"type": "input_audio"}]}),
            ("name", {"type": "function_call", "call_id": "c"}),
            ("call_id", {"type": "function_call", "name": "f"}),
            ("call_id", {"type": "function_call_output", "output": "x"}),
            ("encrypted_content", {"type": "reasoning", "encrypted_content": 5}),
        ):
            self.refused(f"input[0].{param}" if param else "input[0]", input=[item])


class SettingTests(SynchronousTestCase):
    """Everything beside input and tools."""

    def test_all_of_them(self) -> None:
        """Each setting arrives."""
        schema = {"type": "object", "properties": {"n": {"type": "number", "maximum": 1}}}
        form = {"type": "json_schema", "name": "w", "schema": schema, "strict": True}
        conversation = read(
            {
                "input": "x",
                "stream": True,
                "max_output_tokens": 7,
                "temperature": 0,
                "top_p": 0.5,
                "top_logprobs": 3,
                "parallel_tool_calls": False,
                "reasoning": {"effort": "low", "summary": "auto"},
                "text": {"format": form},
                "user": "u",
                "safety_identifier": "s",
                "metadata": {"k": "v"},
                "prompt_cache_key": "key",
                "store": False,
                "include": ["reasoning.encrypted_content"],
                "client_metadata": {},
                "stream_options": {"include_obfuscation": False},
                "truncation": "disabled",
            }
        )
        self.assertEqual((conversation.model, conversation.streaming), ("m", True))
        self.assertEqual(
            conversation.sampling, Sampling(max_tokens=7, temperature=0, top_p=0.5, logprobs=3)
        )
        self.assertEqual(conversation.parallel, False)
        self.assertEqual(conversation.thinking, Thinking(effort="low", shown=True))
        self.assertEqual(conversation.output, OutputFormat(schema, "w", strict=True))
        self.assertEqual((conversation.user, conversation.cache_key), ("s", "key"))
        self.assertEqual(conversation.metadata, {"k": "v"})
        self.assertEqual(conversation.dropped, ())

    def test_nothing_said_is_nothing(self) -> None:
        """Null and absent are the same, and no setting is made up."""
        empty = dict.fromkeys(
            ("temperature", "top_p", "max_output_tokens", "reasoning", "text", "tools", "user")
        )
        for body in ({}, empty, {"text": {"format": {"type": "text"}}, "reasoning": {}}):
            conversation = read({"input": "x", **body})
            self.assertEqual(conversation.sampling, Sampling())
            told = (conversation.thinking, conversation.output, conversation.tools)
            self.assertEqual(told, (None, None, ()))
            self.assertEqual((conversation.parallel, conversation.user), (None, ""))

    def test_thinking(self) -> None:
        """A summary says that thoughts are to be shown; without one nothing is said of it."""
        for reasoning, wanted in (
            ({"summary": "detailed"}, Thinking(shown=True)),
            ({"generate_summary": "auto"}, Thinking(shown=True)),
            ({"effort": "none"}, Thinking(effort="none")),
            ({"effort": "xhigh", "summary": None}, Thinking(effort="xhigh")),
        ):
            self.assertEqual(read({"input": "x", "reasoning": reasoning}).thinking, wanted)

    def test_logprobs(self) -> None:
        """They are asked for by including them, or by a number of alternatives."""
        include = {"include": ["message.output_text.logprobs"]}
        for body, wanted in (
            (include, 0),
            ({**include, "top_logprobs": 2}, 2),
            ({"top_logprobs": 0}, None),
        ):
            self.assertEqual(read({"input": "x", **body}).sampling.logprobs, wanted)

    def test_json_without_a_schema(self) -> None:
        """Any JSON will do."""
        text = {"format": {"type": "json_object"}}
        self.assertEqual(read({"input": "x", "text": text}).output, OutputFormat())

    def test_fields_without_a_word_are_named(self) -> None:
        """So are fields within others."""
        conversation = read(
            {
                "input": "x",
                "truncation": "auto",
                "max_tool_calls": 3,
                "service_tier": "flex",
                "moderation": None,
                "text": {"verbosity": "low"},
                "reasoning": {"mode": "pro"},
            }
        )
        self.assertEqual(
            sorted(conversation.dropped),
            [
                "field:max_tool_calls",
                "field:reasoning.mode",
                "field:service_tier",
                "field:text.verbosity",
                "field:truncation",
            ],
        )

    def test_numbers_keep_their_digits(self) -> None:
        """A schema's numbers are written as they stood."""
        schema = b'{"type":"object","properties":{"n":{"maximum":1.10,"minimum":-1e400}}}'
        tool = b'{"type":"function","name":"f","parameters":' + schema + b"}"
        conversation = read(b'{"model":"m","input":"x","tools":[' + tool + b"]}")
        self.assertEqual(write(conversation.tools[0].parameters), schema)


class RecordedTests(SynchronousTestCase):
    """What real clients send."""

    def test_every_recording_is_read(self) -> None:
        """Nothing is refused, and only known codes are named."""
        read_of = 0
        for recording in all_recordings():
            if recording.dialect != NAME or recording.malformed:
                continue
            conversation: Any = IConversation(parsed(recording.as_bytes()))
            self.assertEqual(conversation.model, recording.model)
            self.assertEqual(conversation.streaming, recording.streaming)
            self.assertTrue(conversation.turns, recording.name)
            self.assertTrue(all(map(known, conversation.dropped)), recording.name)
            read_of += 1
        self.assertGreater(read_of, 40)

    def test_codex(self) -> None:
        """Its second request has a sealed thought, a call and an answer, in this order."""
        (codex,) = (
            each
            for each in all_recordings()
            if each.client == "codex" and each.case == "shell_tool" and each.seq == 2
        )
        conversation = read(codex.as_bytes())
        thought, call, result = conversation.turns[-3:]
        assert isinstance(thought.parts[0], Reasoning) and thought.parts[0].seal is not None
        self.assertEqual((thought.parts[0].seal.issuer, thought.parts[0].seal.id), (NAME, ""))
        assert isinstance(call.parts[0], Call) and isinstance(result.parts[0], Result)
        self.assertEqual(call.parts[0].name, "exec_command")
        self.assertEqual(call.parts[0].id, result.parts[0].id)
        self.assertEqual(conversation.thinking, Thinking(shown=True))
        self.assertIn("multi_agent_v1__spawn_agent", [t.flat_name for t in conversation.tools])
        self.assertEqual(conversation.dropped, ("field:namespace.description",))


class HostileTests(SynchronousTestCase):
    """Whatever is sent, it is read or refused."""

    def test_no_body_breaks_the_reader(self) -> None:
        """A field of any type anywhere is read or refused, never more."""
        random = Random(5)
        values: list[Any] = [None, True, -1, 1.5, "", "x", [], ["x"], [{}], {}, {"type": "x"}]
        values += [{"type": "message", "content": [[]]}, [[{"text": {}}]], "data:,", 10**30]
        for _ in range(1500):
            body = json.loads(json.dumps(_EVERYTHING))
            for _ in range(random.randint(1, 3)):
                _spoil(body, random, values)
            body["model"] = "m"
            body["stream"] = False
            try:
                read(json.dumps(body).encode())
            except InvalidRequest as error:
                self.assertTrue(error.message)


def _text(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def _spoil(value: Any, random: Random, values: list[Any]) -> None:
    """Put something else in one place of *value*."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = random.choice(keys)
        inner = value[key]
        if not isinstance(inner, dict | list) or random.random() < 0.3:
            value[key] = json.loads(json.dumps(random.choice(values)))
            return
        value = inner


_EVERYTHING: dict[str, Any] = {
    "model": "m",
    "instructions": "i",
    "input": [
        {"type": "message", "role": "user", "content": [_text("x")]},
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": "https://x", "detail": "low"},
                {"type": "input_file", "filename": "a", "file_data": "aGk="},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
                {"type": "refusal", "refusal": "x"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "x"}],
            "content": [{"type": "reasoning_text", "text": "x"}],
            "encrypted_content": "x",
        },
        {"type": "function_call", "call_id": "c", "name": "f", "namespace": "n", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "d", "name": "p", "input": "x"},
        {"type": "local_shell_call", "id": "l", "call_id": "e", "action": {"command": ["ls"]}},
        {"type": "shell_call", "call_id": "g", "action": {"commands": ["ls"]}},
        {"type": "function_call_output", "call_id": "c", "output": [_text("x")]},
        {"type": "local_shell_call_output", "id": "l", "output": "x"},
        {"type": "shell_call_output", "call_id": "g", "output": [{"stdout": "x"}]},
    ],
    "tools": [
        {**_FUNCTION, "strict": False},
        {"type": "custom", "name": "p", "format": {"type": "text"}},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "g"}]},
        {"type": "web_search"},
    ],
    "tool_choice": {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "f"}],
    },
    "text": {"format": {"type": "json_schema", "name": "x", "schema": {}, "strict": True}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["message.output_text.logprobs"],
    "temperature": 1,
    "top_p": 1,
    "top_logprobs": 1,
    "max_output_tokens": 9,
    "metadata": {"k": "v"},
    "user": "u",
    "truncation": "auto",
    "store": True,
    "previous_response_id": None,
    "prompt": None,
    "conversation": None,
    "background": False,
}
