"""Chat Completions: what an upstream is asked, written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.losses import known
from aiclient2api.conversation.request import (
    Call,
    Conversation,
    OutputFormat,
    Part,
    Result,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    Turn,
)
from aiclient2api.conversation.turns import text_of
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.dialects.openai_chat.read_request import read_request
from aiclient2api.dialects.openai_chat.request import NAME
from aiclient2api.dialects.openai_chat.write_request import write_request
from aiclient2api.interfaces import IConversation, IOpenAIChatRequest
from aiclient2api.values import Route, Traits
from aiclient2api.vendors import traits_of
from tests.dialects.openai_chat.judge import HI, asked, parsed, written
from tests.recordings import all_recordings

_MARK = {"type": "ephemeral"}
_SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
_STRICT = {**_SCHEMA, "required": ["a"], "additionalProperties": False}


def _user(*parts: Part) -> Turn:
    return Turn("user", parts)


def _model(*parts: Part) -> Turn:
    return Turn("assistant", parts)


def _fields(model: str = "m", *, judged: bool = True, **fields: Any) -> tuple[Any, tuple[str, ...]]:
    """Return what is written beside model and messages, and what was lost."""
    body, losses = written(asked(model=model, **fields), judged=judged)
    return {key: body[key] for key in body if key not in ("model", "messages")}, losses


def _said(turns: Sequence[Turn]) -> list[tuple[str, Part]]:
    """Return every part with who said it; neighbouring texts in one, as they are written."""
    said: list[tuple[str, Part]] = []
    for turn in turns:
        for part in turn.parts:
            if isinstance(part, Result):
                part = attrs.evolve(part, name="", parts=(Text(text_of(part.parts)),))
            role, last = said[-1] if said else ("", None)
            if role == turn.role and isinstance(last, Text) and isinstance(part, Text):
                said[-1] = (role, Text(f"{last.text}\n{part.text}"))
            else:
                said.append((turn.role, part))
    return said


class ToolTests(SynchronousTestCase):
    """What may be called."""

    def test_functions(self) -> None:
        """Objects have properties; strict is what keeps to the rules of it."""
        tools = (
            Tool("function", "a"),
            Tool("function", "b", parameters=_STRICT, strict=True),
            Tool("function", "c", parameters=_SCHEMA, strict=True, cache=_MARK),
            Tool("function", "d", parameters={"anyOf": [_SCHEMA]}, strict=False),
            Tool("function", "a", "again"),
        )
        fields, losses = _fields(tools=tools)
        told = [tool["function"] for tool in fields["tools"]]
        self.assertEqual(
            told,
            [
                {"name": "a", "parameters": {"type": "object", "properties": {}}},
                {"name": "b", "parameters": _STRICT, "strict": True},
                {"name": "c", "parameters": _SCHEMA},
                {"name": "d", "parameters": _SCHEMA},
            ],
        )
        self.assertEqual(losses, ("tool:duplicate", "cache_control", "strict", "schema"))

    def test_what_is_no_function(self) -> None:
        """Free text and shells become functions; a search is for models that search."""
        grammar = {"format": {"type": "grammar", "syntax": "lark", "definition": "x: y"}}
        tools = (
            Tool("custom", "g", "d", raw=grammar),
            Tool("local_shell", "local_shell"),
            Tool("web_search", "web_search"),
        )
        fields, losses = _fields(tools=tools)
        custom, shell = (tool["function"] for tool in fields["tools"])
        self.assertEqual(custom["parameters"]["required"], ["input"])
        self.assertIn("x: y", custom["description"])
        self.assertEqual(shell["parameters"]["required"], ["command"])
        self.assertEqual(losses, ("tool:web_search", "tool_grammar"))

    def test_what_is_lost_of_a_search(self) -> None:
        """Every wish that has no place is named; what is empty is no wish."""
        raw = {
            "type": "web_search_20250305",
            "name": "web_search",
            "allowed_domains": ["a.example"],
            "blocked_domains": [],
            "max_uses": 3,
            "search_context_size": "vast",
            "user_location": {"city": "X"},
        }
        tool = Tool("web_search", "web_search", raw=raw, cache=_MARK)
        fields, losses = _fields("gpt-4o-search-preview", tools=(tool,))
        approximate = {"type": "approximate", "approximate": {"city": "X"}}
        self.assertEqual(fields["web_search_options"], {"user_location": approximate})
        wanted = ("allowed_domains", "max_uses", "search_context_size")
        named = tuple(f"field:web_search.{key}" for key in wanted)
        self.assertEqual(losses, (*named, "cache_control"))

    def test_search(self) -> None:
        """The options stand beside the tools, the place one level deeper."""
        raw = {
            "search_context_size": "high",
            "user_location": {"type": "approximate", "city": "Ulm", "odd": 1},
        }
        fields, losses = _fields(
            "gpt-4o-search-preview", tools=(Tool("web_search", "web_search", raw=raw),)
        )
        self.assertEqual(
            fields,
            {
                "web_search_options": {
                    "search_context_size": "high",
                    "user_location": {"type": "approximate", "approximate": {"city": "Ulm"}},
                }
            },
        )
        self.assertEqual(losses, ())

    def test_names(self) -> None:
        """They are made fit everywhere at once, and can be told back."""
        long = "mcp__" + "x" * 80
        conversation = asked(
            HI,
            _model(Call("c1", "a.b:c")),
            _user(Result("c1")),
            tools=(Tool("function", "a.b:c"), Tool("function", long)),
            tool_choice=ToolChoice("named", ("a.b:c",)),
        )
        body, _ = written(conversation)
        names = [tool["function"]["name"] for tool in body["tools"]]
        self.assertEqual((names[0], len(names[1])), ("a_b_c", 64))
        self.assertEqual(body["tool_choice"]["function"]["name"], "a_b_c")
        self.assertEqual(body["messages"][1]["tool_calls"][0]["function"]["name"], "a_b_c")

    def test_choice(self) -> None:
        """Of some that are allowed, only those are offered."""
        tools = (Tool("function", "f"), Tool("function", "g"))
        named = {"type": "function", "function": {"name": "g"}}
        for choice, told, offered, losses in (
            (ToolChoice("auto"), "auto", 2, ()),
            (ToolChoice("none"), "none", 2, ()),
            (ToolChoice("required"), "required", 2, ()),
            (ToolChoice("named", ("g",)), named, 2, ()),
            (ToolChoice("named", ("x",)), "auto", 2, ("tool_choice",)),
            (ToolChoice("required", ("g",)), "required", 1, ()),
            (ToolChoice("auto", ("g", "f")), "auto", 2, ()),
            (ToolChoice("auto", ("x",)), "auto", 2, ("tool_choice",)),
        ):
            fields, lost = _fields(tools=tools, tool_choice=choice, parallel=False)
            self.assertEqual(fields["tool_choice"], told)
            self.assertEqual(len(fields["tools"]), offered)
            self.assertIs(fields["parallel_tool_calls"], False)
            self.assertEqual(lost, losses)

    def test_choice_without_tools(self) -> None:
        """OpenAI refuses one; a wish that can't be had is named."""
        for mode, losses in (("auto", ()), ("none", ()), ("required", ("tool_choice",))):
            self.assertEqual(_fields(tool_choice=ToolChoice(mode), parallel=True), ({}, losses))

    def test_zhipu_chooses_by_itself(self) -> None:
        """No choice but auto is understood there; none at all is none offered."""
        traits = traits_of("glm-4.6")
        tools = (Tool("function", "f"),)
        for choice, told, losses in (
            (ToolChoice("auto"), "auto", ()),
            (ToolChoice("required"), "auto", ("tool_choice",)),
            (ToolChoice("named", ("f",)), "auto", ("tool_choice",)),
        ):
            fields, lost = _fields(tools=tools, tool_choice=choice, traits=traits)
            self.assertEqual((fields["tool_choice"], lost), (told, losses))
        none = _fields(tools=tools, tool_choice=ToolChoice("none"), traits=traits)
        self.assertEqual(none, ({}, ()))

    def test_parallel(self) -> None:
        """The o-series knows no such field."""
        tools = (Tool("function", "f"),)
        fields, losses = _fields("o3", tools=tools, parallel=False)
        self.assertNotIn("parallel_tool_calls", fields)
        self.assertEqual(losses, ("parallel_tool_calls",))
        self.assertEqual(_fields("o3", tools=tools, parallel=True)[1], ())


class SettingTests(SynchronousTestCase):
    """How it is to be answered."""

    def test_plain(self) -> None:
        """Nothing is said that was not asked for."""
        self.assertEqual(_fields(), ({}, ()))

    def test_streams(self) -> None:
        """They tell their usage, where the upstream knows how to be asked."""
        conversation = read_request(parsed({"stream": True}))
        self.assertTrue(write_request(conversation).streaming)
        options = {"stream_options": {"include_usage": True}}
        for usage, more in ((True, options), (False, {})):
            traits = Traits(stream_usage=usage)
            body, _ = written(attrs.evolve(conversation, traits=traits))
            del body["model"], body["messages"]
            self.assertEqual(body, {"stream": True, **more})

    def test_sampling(self) -> None:
        """An explicit 0 stays 0, what there is no word for is named."""
        fields, losses = _fields(
            sampling=Sampling(9, 0, 0.5, 3, ("a", "b", "c", "d", "e"), 0, 0, -1.5, 2)
        )
        self.assertEqual(
            fields,
            {
                "max_tokens": 9,
                "temperature": 0,
                "top_p": 0.5,
                "stop": ["a", "b", "c", "d"],
                "seed": 0,
                "presence_penalty": 0,
                "frequency_penalty": -1.5,
            },
        )
        self.assertEqual(losses, ("stop", "top_k", "logprobs"))

    def test_limits_of_sampling(self) -> None:
        """Nothing over what OpenAI takes; Qwen knows top_k, and -1 is no wish."""
        self.assertEqual(
            _fields(sampling=Sampling(temperature=3, top_k=-1)),
            ({"temperature": 2}, ("temperature",)),
        )
        self.assertEqual(_fields("qwen3-max", sampling=Sampling(top_k=3)), ({"top_k": 3}, ()))

    def test_reasoning_models_of_openai(self) -> None:
        """They want another limit, and are not to be tuned."""
        for model in ("o3", "gpt-5-mini", "openai/gpt-5"):
            fields, losses = _fields(
                model, sampling=Sampling(9, 0.5, 1, stop=("a",), presence_penalty=0.0)
            )
            self.assertEqual(fields, {"max_completion_tokens": 9})
            self.assertEqual(losses, ("temperature", "stop"))
        limit = {"max_completion_tokens": 9}
        traits = Traits(completion_tokens=True)
        self.assertEqual(_fields(sampling=Sampling(9), traits=traits), (limit, ()))

    def test_thinking_by_effort(self) -> None:
        """The word for it; a budget comes to one; a model is told what it takes."""
        for model, thinking, told, losses in (
            ("m", Thinking("low"), "low", ()),
            ("m", Thinking(None, 9000), "high", ()),
            ("m", Thinking("max"), "high", ("thinking",)),
            ("m", Thinking("minimal"), "low", ("thinking",)),
            ("m", Thinking("ultra"), None, ("thinking",)),
            ("m", Thinking("auto"), None, ()),
            ("m", Thinking("none"), None, ("thinking",)),
            ("m", Thinking(shown=True), None, ()),
            ("gpt-5", Thinking("minimal"), "minimal", ()),
            ("gpt-5", Thinking("none"), "minimal", ("thinking",)),
            ("gpt-5", Thinking("xhigh"), "high", ("thinking",)),
            ("gpt-5.2", Thinking("none"), "none", ()),
            ("gpt-5.2", Thinking("auto"), "medium", ()),
            ("gpt-4.1", Thinking("high"), None, ("thinking",)),
            ("gpt-4.1", Thinking("none"), None, ()),
        ):
            fields, lost = _fields(model, thinking=thinking)
            self.assertEqual((fields.get("reasoning_effort"), lost), (told, losses), thinking)

    def test_thinking_by_switch(self) -> None:
        """Moonshot, Zhipu and DeepSeek know on and off."""
        for model, thinking, told, losses in (
            ("glm-4.6", Thinking("auto"), "enabled", ()),
            ("glm-4.6", Thinking(None, 9000), "enabled", ("thinking",)),
            ("deepseek-chat", Thinking("none"), "disabled", ()),
            ("kimi-k2.5", Thinking(None, 0), "disabled", ()),
        ):
            fields, lost = _fields(model, thinking=thinking, traits=traits_of(model))
            self.assertEqual((fields, lost), ({"thinking": {"type": told}}, losses), thinking)
        model = "kimi-k2-thinking"
        self.assertEqual(
            _fields(model, thinking=Thinking("none"), traits=traits_of(model)),
            ({}, ("thinking",)),
        )

    def test_thinking_by_budget(self) -> None:
        """Alibaba wants a flag and takes a budget, up to a limit."""
        traits = traits_of("qwen3-max")
        for thinking, told in (
            (Thinking("none"), {"enable_thinking": False}),
            (Thinking("auto"), {"enable_thinking": True}),
            (Thinking("low"), {"enable_thinking": True, "thinking_budget": 1024}),
            (Thinking(None, 9000), {"enable_thinking": True, "thinking_budget": 9000}),
            (Thinking("max"), {"enable_thinking": True}),
        ):
            self.assertEqual(_fields("qwen3-max", thinking=thinking, traits=traits), (told, ()))

    def test_models_that_do_not_think(self) -> None:
        """Those are left alone."""
        traits = Traits(thinking="none")
        self.assertEqual(_fields(thinking=Thinking("high"), traits=traits), ({}, ("thinking",)))
        self.assertEqual(_fields(thinking=Thinking("none"), traits=traits), ({}, ()))

    def test_schema(self) -> None:
        """The answer is held to it, strictly if it can be."""
        for schema, strict, more, losses in (
            (_STRICT, True, {"strict": True}, ()),
            (_SCHEMA, True, {}, ("strict",)),
            (_SCHEMA, None, {}, ()),
        ):
            output = OutputFormat(schema, "an answer", "d", strict)
            fields, lost = _fields(output=output)
            told = {"name": "an_answer", "description": "d", "schema": schema, **more}
            self.assertEqual(
                fields, {"response_format": {"type": "json_schema", "json_schema": told}}
            )
            self.assertEqual(lost, losses)

    def test_schema_in_words(self) -> None:
        """Where JSON can be had, but no certain one."""
        body, losses = written(asked(model="deepseek-chat", output=OutputFormat(_SCHEMA)))
        self.assertEqual(body["response_format"], {"type": "json_object"})
        self.assertIn('"properties"', body["messages"][0]["content"])
        self.assertEqual(losses, ("output_format",))

    def test_any_json(self) -> None:
        """OpenAI refuses it unless a message says "JSON"."""
        body, losses = written(asked(output=OutputFormat()))
        self.assertEqual(body["response_format"], {"type": "json_object"})
        self.assertIn("JSON", body["messages"][0]["content"])
        self.assertEqual(losses, ())
        body, _ = written(asked(_user(Text("Json, please")), output=OutputFormat()))
        self.assertEqual(len(body["messages"]), 1)

    def test_who_asks(self) -> None:
        """Ids that are too long are replaced by what stands for them."""
        asked_by: dict[str, Any] = {"user": "u", "cache_key": "k", "metadata": {"a": "b"}}
        fields, losses = _fields("gpt-4.1", **asked_by)
        self.assertEqual(fields, {"user": "u", "prompt_cache_key": "k"})
        self.assertEqual(losses, ("metadata",))
        self.assertEqual(_fields(**asked_by), ({"user": "u"}, ("prompt_cache_key", "metadata")))
        fields, _ = _fields(user="u" * 65)
        self.assertRegex(fields["user"], "^[0-9a-f]{64}$")


class WholeTests(SynchronousTestCase):
    """Requests from end to end."""

    def test_a_request_of_claude_code(self) -> None:
        """Parallel calls, text beside them, a failed one; no line that differs each time."""
        body = {
            "model": "m",
            "max_tokens": 100,
            "system": [
                {"type": "text", "text": "S1"},
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=1"},
            ],
            "stop_sequences": ["END"],
            "tool_choice": {"type": "any"},
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
            "messages": [
                {"role": "user", "content": "hi"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "calling"},
                        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
                        {"type": "tool_use", "id": "toolu_2", "name": "f", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "toolu_1",
                            "content": [{"type": "text", "text": "r1"}],
                        },
                        {
                            "type": "tool_result",
                            "tool_use_id": "toolu_2",
                            "content": "boom",
                            "is_error": True,
                        },
                        {"type": "text", "text": "go on"},
                    ],
                },
            ],
        }
        request = ANTHROPIC_MESSAGES.parse(body=json.dumps(body).encode(), route=Route("generate"))
        conversation = IConversation(request)
        assert isinstance(conversation, Conversation)
        told, losses = written(conversation)
        function = {"name": "f", "description": "d"}
        parameters = {"type": "object", "properties": {}}
        calls = [("toolu_1", '{"a":1}'), ("toolu_2", "{}")]
        self.assertEqual(
            told,
            {
                "model": "m",
                "max_tokens": 100,
                "stop": ["END"],
                "tool_choice": "required",
                "tools": [{"type": "function", "function": {**function, "parameters": parameters}}],
                "messages": [
                    {"role": "system", "content": "S1"},
                    {"role": "user", "content": "hi"},
                    {
                        "role": "assistant",
                        "content": "calling",
                        "tool_calls": [
                            {
                                "id": id,
                                "type": "function",
                                "function": {"name": "f", "arguments": given},
                            }
                            for id, given in calls
                        ],
                    },
                    {"role": "tool", "tool_call_id": "toolu_1", "content": "r1"},
                    {"role": "tool", "tool_call_id": "toolu_2", "content": "Error: boom"},
                    {"role": "user", "content": "go on"},
                ],
            },
        )
        self.assertEqual(losses, ("attribution", "tool_error"))

    def test_adaptation(self) -> None:
        """A conversation is written by adapting it; what its reader lost is kept."""
        request = IOpenAIChatRequest(asked(dropped=("n",), sampling=Sampling(top_k=1)))
        self.assertEqual(
            (request.model, request.streaming, request.action), ("m", False, "generate")
        )
        self.assertEqual(request.losses, ("n", "top_k"))
        self.assertTrue(all(map(known, request.losses)))

    def test_recordings_there_and_back(self) -> None:
        """What clients of this dialect say survives being read and written."""
        seen = 0
        for recording in all_recordings():
            if recording.dialect != NAME or recording.malformed:
                continue
            before = read_request(parsed(recording.as_bytes()))
            body, losses = written(before)
            self.assertEqual(set(losses) - {"strict"}, set(), recording.name)
            after = read_request(write_request(before))
            self.assertEqual(_said(after.turns), _said(before.turns), recording.name)
            self.assertEqual(after.system, before.system)
            self.assertEqual(after.tool_choice, before.tool_choice)
            self.assertEqual(after.sampling, before.sampling)
            names = [tool.name for tool in before.tools]
            self.assertEqual([tool.name for tool in after.tools], names)
            self.assertEqual(bool(body.get("stream")), recording.streaming)
            seen += 1
        self.assertGreater(seen, 50)
