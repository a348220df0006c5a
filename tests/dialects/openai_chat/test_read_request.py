"""Chat Completions: what a client asks, read."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.losses import known
from aiclient2api.conversation.request import (
    Audio,
    Call,
    File,
    Image,
    Inline,
    OutputFormat,
    Reasoning,
    Refusal,
    Remote,
    Result,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.seals import Seal, carried
from aiclient2api.dialects.openai_chat.read_request import read_request
from aiclient2api.dialects.openai_chat.request import NAME
from aiclient2api.dialects.wire_request import composed
from aiclient2api.interfaces import IConversation
from tests.dialects.openai_chat.judge import HI, parsed, read, said

_USER = {"role": "user", "content": "Hi"}
_MARK = {"type": "ephemeral"}
_DATA = "data:image/png;base64,aGk="
_PNG = Inline("image/png", "aGk=")


def _call(id: str, name: str = "f", arguments: Any = "{}") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


class MessageTests(SynchronousTestCase):
    """Who said what."""

    def test_adaptation(self) -> None:
        """A request is read by adapting it."""
        self.assertEqual(IConversation(parsed({})), read())
        self.assertEqual(read().turns, (HI,))

    def test_instructions(self) -> None:
        """Those before everything else are the system's; later ones stay where they are."""
        parts = [{"type": "text", "text": "S2", "cache_control": _MARK}, {"type": "text"}]
        conversation = read(
            messages=[
                {"role": "system", "content": "S1"},
                {"role": "developer", "content": parts},
                _USER,
                {"role": "developer", "content": "S3"},
            ]
        )
        self.assertEqual(conversation.system, (Text("S1"), Text("S2", _MARK)))
        self.assertEqual(conversation.turns, (HI, Turn("system", (Text("S3"),))))
        self.assertEqual(conversation.dropped, ())

    def test_texts(self) -> None:
        """A string and parts; whoever marks a prompt for a cache is understood."""
        parts = [
            {"type": "text", "text": "a"},
            {"type": "text", "text": "b", "prompt_cache_breakpoint": {"mode": "explicit"}},
        ]
        marked = {**_USER, "cache_control": _MARK}
        self.assertEqual(
            said({"role": "user", "content": parts}, marked, {"role": "user", "content": ""}),
            (
                Turn("user", (Text("a"), Text("b", _MARK))),
                Turn("user", (Text("Hi", _MARK),)),
            ),
        )

    def test_media(self) -> None:
        """Pictures, files, sounds and films, by their bytes, address or id."""
        parts: list[Any] = [
            {"type": "image_url", "image_url": {"url": _DATA, "detail": "low"}},
            {
                "type": "image_url",
                "image_url": {"url": "https://a/b.png"},
                "cache_control": _MARK,
            },
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "aGk"}},
            {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk="}},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
            {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,aGk="}},
        ]
        (turn,) = said({"role": "user", "content": parts})
        images = (Image(_PNG, "low"), Image(Remote("https://a/b.png"), cache=_MARK))
        self.assertEqual(turn.parts[:2], images)
        self.assertEqual(turn.parts[2], File(Inline("application/pdf", "aGk="), "a.pdf"))
        self.assertEqual(turn.parts[3], File(Inline("text/plain", "aGk=")))
        by_id = turn.parts[4]
        assert isinstance(by_id, File) and isinstance(by_id.media, Uploaded)
        self.assertEqual(by_id.media.id, "file-1")
        self.assertEqual(
            turn.parts[5:],
            (
                Audio(Inline("audio/mpeg", "aGk=")),
                Audio(Inline("video/mp4", "aGk=")),
            ),
        )

    def test_assistant(self) -> None:
        """Thoughts first, then what was said and refused, then the calls."""
        message = {
            "role": "assistant",
            "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "no"}],
            "reasoning_content": "hm",
            "refusal": "never",
            "tool_calls": [_call("c1", arguments='{"a":1.10}')],
            "images": [{"type": "image_url", "image_url": {"url": _DATA}}],
            "annotations": [],
            "audio": None,
        }
        self.assertEqual(
            said(_USER, message)[1].parts,
            (
                Reasoning("hm"),
                Text("a"),
                Refusal("no"),
                Refusal("never"),
                Image(_PNG),
                Call("c1", "f", '{"a":1.10}'),
            ),
        )

    def test_thoughts_of_all_vendors(self) -> None:
        """Each keeps them under another name; a blank is none."""
        for thought in (
            {"reasoning_content": "hm"},
            {"reasoning": "hm", "reasoning_content": ""},
            {"reasoning_details": [{"type": "reasoning.text", "text": "h"}, {"summary": "m"}]},
        ):
            message = {"role": "assistant", "content": "a", **thought}
            self.assertEqual(said(message)[0].parts, (Reasoning("hm"), Text("a")))
        blank = {"role": "assistant", "content": "a", "reasoning_content": " "}
        self.assertEqual(said(blank)[0].parts, (Text("a"),))

    def test_calls_and_results(self) -> None:
        """Results are the user's; pictures among them stay."""
        result = {
            "role": "tool",
            "tool_call_id": "c1",
            "name": "f",
            "cache_control": _MARK,
            "content": [
                {"type": "text", "text": "r"},
                {"type": "image_url", "image_url": {"url": _DATA}},
            ],
        }
        plain = {"role": "tool", "tool_call_id": "c2", "content": "r2"}
        self.assertEqual(
            said(result, plain),
            (
                Turn("user", (Result("c1", "f", (Text("r"), Image(_PNG)), cache=_MARK),)),
                Turn("user", (Result("c2", parts=(Text("r2"),)),)),
            ),
        )

    def test_arguments(self) -> None:
        """Digits and order stay; nothing is an empty object, and an object is one, too."""
        wanted = {
            '{"b":1.10,"a":9007199254740993}': '{"b":1.10,"a":9007199254740993}',
            "": "{}",
            None: "{}",
            "{'a': 1}": '{"a":1}',
            "rm": '{"raw_arguments":"rm"}',
        }
        for given, told in wanted.items():
            message = {"role": "assistant", "tool_calls": [_call("c1", arguments=given)]}
            self.assertEqual(said(message)[0].parts, (Call("c1", "f", told),))
        body = (
            b'{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"c1","function":'
            b'{"name":"f","arguments":{"b":1.10,"a":12345678901234567890}}}]}]}'
        )
        ((part,),) = (turn.parts for turn in read_request(parsed(body)).turns)
        assert isinstance(part, Call)
        self.assertEqual(part.arguments, '{"b":1.10,"a":12345678901234567890}')

    def test_calls_with_free_text(self) -> None:
        """A custom tool's input becomes an argument."""
        call = {"id": "c1", "type": "custom", "custom": {"name": "g", "input": 'a"b'}}
        message = {"role": "assistant", "tool_calls": [call]}
        self.assertEqual(said(message)[0].parts, (Call("c1", "g", '{"input":"a\\"b"}'),))

    def test_seals(self) -> None:
        """A signature beside a call is this dialect's, unless it is a parcel of another's."""
        foreign = Seal("gemini", "abc")
        for told, seal in (
            ("AAAA", Seal(NAME, "AAAA")),
            (carried(foreign, NAME), foreign),
            (carried(foreign, NAME)[:-9], None),
            ("", None),
        ):
            extra = {"extra_content": {"google": {"thought_signature": told}}}
            message = {"role": "assistant", "tool_calls": [{**_call("c1"), **extra}]}
            self.assertEqual(said(message)[0].parts, (Call("c1", "f", seal=seal),))

    def test_functions_of_old(self) -> None:
        """Calls without ids are told apart, and answered by name."""
        called = {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}
        answer = {"role": "function", "name": "f", "content": "r"}
        first, second = "call_function_1", "call_function_2"
        self.assertEqual(
            said(called, answer, called, answer, answer),
            (
                Turn("assistant", (Call(first, "f"),)),
                Turn("user", (Result(first, "f", (Text("r"),)),)),
                Turn("assistant", (Call(second, "f"),)),
                Turn("user", (Result(second, "f", (Text("r"),)),)),
                Turn("user", (Result("", "f", (Text("r"),)),)),
            ),
        )

    def test_what_is_left_out_is_named(self) -> None:
        """Parts, fields and calls that only a vendor knows."""
        conversation = read(
            messages=[
                {"role": "system", "content": [{"type": "refusal", "refusal": "x"}]},
                {"role": "user", "name": "Bob", "content": [{"type": "hologram"}], "mood": "!"},
                {
                    "role": "assistant",
                    "content": "a",
                    "audio": {"id": "a1"},
                    "annotations": [{"type": "url_citation"}],
                    "tool_calls": [{"id": "x", "type": "odd thing"}],
                    "provider_specific_fields": {},
                },
            ]
        )
        self.assertEqual(
            conversation.dropped,
            (
                "part:refusal",
                "field:messages.mood",
                "name",
                "part:hologram",
                "citations",
                "part:audio",
                "part:odd_thing",
            ),
        )
        self.assertTrue(all(map(known, conversation.dropped)))
        self.assertEqual(conversation.turns, (Turn("assistant", (Text("a"),)),))


class SettingTests(SynchronousTestCase):
    """How it is to be answered."""

    def test_nothing_is_said(self) -> None:
        """Null is absent, and absent is not 0."""
        fields = ("temperature", "stop", "tools", "tool_choice", "n", "seed", "reasoning_effort")
        for conversation in (read(), read(**dict.fromkeys(fields))):
            self.assertEqual(conversation.sampling, Sampling())
            self.assertIsNone(conversation.tool_choice)
            self.assertIsNone(conversation.thinking)
            self.assertIsNone(conversation.parallel)
            self.assertEqual(conversation.dropped, ())

    def test_sampling(self) -> None:
        """An explicit 0 stays 0."""
        self.assertEqual(
            read(
                max_tokens=5,
                temperature=0,
                top_p=0.5,
                top_k=3,
                stop="END",
                seed=0,
                presence_penalty=0,
                frequency_penalty=-1.5,
                logprobs=True,
                top_logprobs=2,
            ).sampling,
            Sampling(5, 0, 0.5, 3, ("END",), 0, 0, -1.5, 2),
        )
        told = read(max_tokens=5, max_completion_tokens=7, stop=["a", "b"], top_logprobs=2).sampling
        self.assertEqual((told.max_tokens, told.stop, told.logprobs), (7, ("a", "b"), None))
        self.assertEqual(read(logprobs=True).sampling.logprobs, 0)

    def test_numbers_survive(self) -> None:
        """Digits of a schema's numbers are not rounded."""
        body = (
            b'{"model":"m","messages":[],"tools":[{"type":"function","function":'
            b'{"name":"f","parameters":{"type":"object","x":1.10}}}]}'
        )
        (tool,) = read_request(parsed(body)).tools
        self.assertIn(b'"x":1.10', composed({"p": tool.parameters}).text.raw)

    def test_thinking(self) -> None:
        """However a vendor has it said."""
        google = {"thinking_budget": 99, "include_thoughts": True}
        for fields, wanted in (
            ({"reasoning_effort": "low"}, Thinking("low")),
            ({"reasoning_effort": "default"}, None),
            ({"reasoning_effort": "none", "thinking_budget": 5}, Thinking("none")),
            ({"thinking": {"type": "enabled"}}, Thinking("auto")),
            ({"thinking": {"type": "enabled", "budget_tokens": 9}}, Thinking(None, 9)),
            ({"thinking": {"type": "disabled"}}, Thinking("none")),
            ({"enable_thinking": True}, Thinking("auto")),
            ({"enable_thinking": True, "thinking_budget": 7}, Thinking(None, 7)),
            ({"enable_thinking": False}, Thinking("none")),
            ({"reasoning": {"effort": "high", "exclude": True}}, Thinking("high", shown=False)),
            ({"reasoning": {"max_tokens": 8}}, Thinking(None, 8)),
            ({"reasoning": {"enabled": True}}, Thinking("auto")),
            ({"reasoning": {"enabled": False}}, Thinking("none")),
            ({"extra_body": {"google": {"thinking_config": google}}}, Thinking(None, 99, True)),
            (
                {"extra_body": {"google": {"thinking_config": {"thinking_level": "HIGH"}}}},
                Thinking("high"),
            ),
        ):
            conversation = read(**fields)
            self.assertEqual(conversation.thinking, wanted, fields)
            self.assertEqual(conversation.dropped, (), fields)

    def test_form_of_the_answer(self) -> None:
        """Text is the default, JSON may have a schema."""
        schema = {"type": "object"}
        named = {"name": "a", "description": "d", "schema": schema, "strict": True}
        for form, wanted in (
            ({"type": "text"}, None),
            ({"type": "json_object"}, OutputFormat()),
            (
                {"type": "json_schema", "json_schema": named},
                OutputFormat(schema, "a", "d", True),
            ),
            ({"type": "json_schema", "json_schema": {"name": "a"}}, OutputFormat(None, "a")),
        ):
            self.assertEqual(read(response_format=form).output, wanted)
        conversation = read(response_format={"type": "regex"})
        self.assertEqual((conversation.output, conversation.dropped), (None, ("output_format",)))

    def test_who_asks(self) -> None:
        """The newer of two names for the end user counts."""
        conversation = read(user="u", metadata={"a": "b"}, prompt_cache_key="k")
        told = (conversation.user, conversation.metadata, conversation.cache_key)
        self.assertEqual(told, ("u", {"a": "b"}, "k"))
        self.assertEqual(read(user="u", safety_identifier="s").user, "s")

    def test_what_is_left_out_is_named(self) -> None:
        """But not what changes no answer."""
        conversation = read(
            n=2,
            logit_bias={},
            service_tier="auto",
            modalities=["text", "audio"],
            extra_body={"google": {"cached_content": "x"}, "other": 1},
            store=True,
            stream_options={"include_usage": True},
        )
        self.assertEqual(
            conversation.dropped,
            (
                "field:logit_bias",
                "field:service_tier",
                "n",
                "field:modalities",
                "field:extra_body.google",
                "field:extra_body.other",
            ),
        )
        self.assertTrue(all(map(known, conversation.dropped)))
        self.assertEqual(read(n=1, modalities=["text"], store=True).dropped, ())


class ToolTests(SynchronousTestCase):
    """What may be called."""

    def test_tools(self) -> None:
        """Functions, tools with free text, and the search."""
        schema = {"type": "object"}
        function = {"name": "f", "description": "d", "parameters": schema, "strict": True}
        custom = {"name": "g", "format": {"type": "text"}}
        place = {"type": "approximate", "approximate": {"city": "Ulm"}}
        conversation = read(
            tools=[
                {"type": "function", "function": function, "cache_control": _MARK},
                {"type": "custom", "custom": custom},
                {"type": "builtin_function", "function": {"name": "$web_search"}},
            ],
            web_search_options={"user_location": place, "search_context_size": "low"},
        )
        search = {
            "user_location": {"type": "approximate", "city": "Ulm"},
            "search_context_size": "low",
        }
        self.assertEqual(
            conversation.tools,
            (
                Tool("function", "f", "d", schema, True, cache=_MARK, raw=function),
                Tool("custom", "g", raw=custom),
                Tool("web_search", "web_search", raw=search),
            ),
        )
        self.assertEqual(conversation.dropped, ("tool:builtin_function",))

    def test_functions_of_old(self) -> None:
        """There is room for one call in an answer."""
        function = {"name": "f", "parameters": {}}
        conversation = read(functions=[function], function_call={"name": "f"})
        self.assertEqual(conversation.tools, (Tool("function", "f", parameters={}, raw=function),))
        self.assertEqual(conversation.tool_choice, ToolChoice("named", ("f",)))
        self.assertIs(conversation.parallel, False)
        self.assertEqual(read(function_call="none").tool_choice, ToolChoice("none"))

    def test_choice(self) -> None:
        """Words, one tool, or some of them."""
        tools = [_tool("f"), {"type": "custom", "custom": {"name": "g"}}]
        one, other = _tool("f"), {"type": "custom", "custom": {"name": "g"}}
        some = {"mode": "required", "tools": [one, other]}
        for choice, wanted in (
            ("auto", ToolChoice("auto")),
            ("none", ToolChoice("none")),
            ("required", ToolChoice("required")),
            ("any", ToolChoice("required")),
            (one, ToolChoice("named", ("f",))),
            (other, ToolChoice("named", ("g",))),
            (
                {"type": "allowed_tools", "allowed_tools": some},
                ToolChoice("required", ("f", "g")),
            ),
        ):
            conversation = read(tools=tools, tool_choice=choice, parallel_tool_calls=False)
            self.assertEqual(conversation.tool_choice, wanted)
            self.assertIs(conversation.parallel, False)
            self.assertEqual(conversation.dropped, ())

    def test_choice_of_a_tool_that_is_not_offered(self) -> None:
        """It cannot be had, and that is said."""
        conversation = read(tools=[_tool("f")], tool_choice=_tool("x"))
        self.assertIsNone(conversation.tool_choice)
        self.assertEqual(conversation.dropped, ("tool_choice",))
        some = {"mode": "auto", "tools": [_tool("f"), _tool("x")]}
        choice = {"type": "allowed_tools", "allowed_tools": some}
        conversation = read(tools=[_tool("f")], tool_choice=choice)
        self.assertEqual(conversation.tool_choice, ToolChoice("auto", ("f",)))
        self.assertEqual(conversation.dropped, ("tool_choice",))
