"""What a client of Messages asks, as the hub understands it."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import (
    Call,
    OutputFormat,
    Result,
    Sampling,
    Text,
    Thinking,
    ToolChoice,
    Turn,
)
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.errors import InvalidRequest
from aiclient2api.framing.json_text import write
from tests.dialects.anthropic_messages.asking import EPHEMERAL, NAME, read, said
from tests.recordings import all_recordings


class WholeRequestTests(SynchronousTestCase):
    """A request from end to end."""

    def test_a_thread_is_refused_as_anthropic_refuses_it(self) -> None:
        """Its tool runner then sends the whole conversation; what it left out is not lost."""
        for thread in ({"type": "create"}, {"type": "continue", "previous_message_id": "m"}):
            error = self.assertRaises(InvalidRequest, said, thread=thread)
            status, body = ANTHROPIC_MESSAGES.render_error(error=error)
            self.assertEqual(status, 400)
            told = json.loads(body)["error"]
            self.assertEqual(told["type"], "invalid_request_error")
            self.assertEqual(
                told["details"],
                {"error_code": "thread_unsupported_request", "unsupported": ["thread"]},
            )
        self.assertEqual(said(thread=None).dropped, said().dropped)

    def test_tools_text_and_results(self) -> None:
        """Parallel calls, their results, and the text beside them are all there, in order."""
        conversation = said(
            max_tokens=100,
            system=[
                {"type": "text", "text": "S1"},
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=1"},
            ],
            stop_sequences=["END"],
            tool_choice={"type": "any"},
            tools=[{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
            messages=[
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
        )
        self.assertEqual(
            conversation.turns,
            (
                Turn("user", (Text("hi"),)),
                Turn(
                    "assistant",
                    (
                        Text("calling"),
                        Call("toolu_1", "f", '{"a":1}'),
                        Call("toolu_2", "f", "{}"),
                    ),
                ),
                Turn(
                    "user",
                    (
                        Result("toolu_1", parts=(Text("r1"),)),
                        Result("toolu_2", parts=(Text("boom"),), is_error=True),
                        Text("go on"),
                    ),
                ),
            ),
        )
        self.assertEqual(conversation.system, (Text("S1"),))
        self.assertEqual(conversation.sampling, Sampling(max_tokens=100, stop=("END",)))
        self.assertEqual(conversation.tool_choice, ToolChoice("required"))
        (tool,) = conversation.tools
        self.assertEqual((tool.kind, tool.name, tool.description), ("function", "f", "d"))
        self.assertEqual(tool.parameters, {"type": "object"})
        self.assertEqual(conversation.dropped, ("attribution",))

    def test_recorded_requests(self) -> None:
        """Whatever Claude Code, the SDK, LangChain and LiteLLM send is understood."""
        seen = 0
        for recording in all_recordings():
            if recording.dialect != NAME or recording.malformed:
                continue
            conversation = read(recording.as_bytes(), recording.action)
            wanted = ("field:context_management",) if "claude-code" in recording.name else ()
            self.assertEqual(conversation.dropped, wanted, recording.name)
            body = recording.body or {}
            self.assertEqual(len(conversation.turns), len(body["messages"]), recording.name)
            self.assertEqual(len(conversation.tools), len(body.get("tools", [])), recording.name)
            seen += 1
        self.assertGreater(seen, 50)

    def test_count_tokens(self) -> None:
        """A question how many tokens needs no limit of tokens."""
        conversation = read(b'{"model":"m","messages":[]}', "count_tokens")
        self.assertEqual((conversation.action, conversation.turns), ("count_tokens", ()))
        self.assertEqual(conversation.sampling, Sampling())


class SettingsTests(SynchronousTestCase):
    """What stands beside the messages."""

    def test_sampling(self) -> None:
        """An explicit nought is one."""
        conversation = said(temperature=0, top_p=0.0, top_k=0, max_tokens=0)
        self.assertEqual(
            conversation.sampling, Sampling(max_tokens=0, temperature=0, top_p=0.0, top_k=0)
        )

    def test_null_is_absent(self) -> None:
        """For every field that may be left out."""
        conversation = said(
            **dict.fromkeys(
                ("system", "tools", "tool_choice", "thinking", "output_config", "metadata")
            ),
            **dict.fromkeys(("temperature", "stop_sequences", "container", "output_format")),
        )
        self.assertEqual(conversation, said())
        self.assertEqual(conversation.dropped, ())

    def test_tools(self) -> None:
        """The client's own, and a search; what only Anthropic's models know is named."""
        conversation = said(
            tools=[
                {"type": "custom", "name": "f", "input_schema": {"a": 1.10}, "strict": True},
                {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
                {"type": "bash_20250124", "name": "bash"},
                {"type": "code_execution_20250825", "name": "code_execution"},
            ]
        )
        function, search = conversation.tools
        self.assertEqual((function.kind, function.strict), ("function", True))
        self.assertEqual((search.kind, search.name), ("web_search", "web_search"))
        self.assertEqual(search.raw, {**(search.raw or {}), "max_uses": 3})
        self.assertEqual(
            conversation.dropped, ("tool:bash_20250124", "tool:code_execution_20250825")
        )

    def test_unknown_fields_of_tools_are_named(self) -> None:
        """But for those that say that a tool is like every other."""
        tool = {"name": "f", "input_schema": {}}
        plain = {"defer_loading": False, "input_examples": [], "allowed_callers": ["direct"]}
        self.assertEqual(said(tools=[{**tool, **plain, "foo": None}]).dropped, ())
        search = {"type": "web_search_20250305", "name": "web_search", "foo": 1}
        examples = {"defer_loading": True, "input_examples": [{}], "allowed_callers": ["x"]}
        self.assertEqual(
            said(tools=[{**tool, **examples}, search]).dropped,
            (
                "field:tools.defer_loading",
                "field:tools.input_examples",
                "field:tools.allowed_callers",
                "field:tools.foo",
            ),
        )

    def test_schemas_keep_their_numbers(self) -> None:
        """A tool's schema is written as it was."""
        schema = b'{"type":"object","properties":{"a":{"maximum":1.10}}}'
        body = (
            b'{"model":"m","max_tokens":1,"messages":[],"tools":[{"name":"f","input_schema":'
            + schema
            + b"}]}"
        )
        self.assertEqual(write(read(body).tools[0].parameters), schema)

    def test_tool_choice(self) -> None:
        """All four, and whether several may be called at once."""
        cases: list[tuple[dict[str, Any], ToolChoice, bool | None]] = [
            ({"type": "auto"}, ToolChoice("auto"), None),
            ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required"), False),
            ({"type": "auto", "disable_parallel_tool_use": False}, ToolChoice("auto"), True),
            ({"type": "tool", "name": "f"}, ToolChoice("named", ("f",)), None),
            ({"type": "none"}, ToolChoice("none"), None),
        ]
        for choice, wanted, parallel in cases:
            conversation = said(tool_choice=choice)
            self.assertEqual((conversation.tool_choice, conversation.parallel), (wanted, parallel))

    def test_thinking(self) -> None:
        """By budget, by effort, as it comes, or not at all."""
        cases: list[tuple[dict[str, Any], Thinking | None]] = [
            (
                {"thinking": {"type": "enabled", "budget_tokens": 2048}},
                Thinking(budget=2048, shown=True),
            ),
            ({"thinking": {"type": "enabled"}}, Thinking(effort="auto", shown=True)),
            (
                {
                    "thinking": {"type": "adaptive", "display": "omitted"},
                    "output_config": {"effort": "low"},
                },
                Thinking(effort="low", shown=False),
            ),
            ({"thinking": {"type": "adaptive"}}, Thinking(effort="auto", shown=True)),
            ({"thinking": {"type": "disabled"}}, Thinking(effort="none")),
            ({"output_config": {"effort": "max"}}, Thinking(effort="max")),
            ({"thinking": {"type": "sideways"}}, None),
        ]
        for fields, wanted in cases:
            self.assertEqual(said(**fields).thinking, wanted, fields)
        self.assertEqual(said(thinking={"type": "sideways"}).dropped, ("field:thinking",))

    def test_output(self) -> None:
        """Under its present name and under that of its beta."""
        form = {"type": "json_schema", "schema": {"type": "object"}}
        wanted = OutputFormat(schema={"type": "object"})
        self.assertEqual(said(output_config={"format": form}).output, wanted)
        self.assertEqual(said(output_format=form).output, wanted)

    def test_metadata(self) -> None:
        """The end user, and whatever else a client has put there."""
        conversation = said(metadata={"user_id": "u", "trace": "x"})
        self.assertEqual((conversation.user, conversation.metadata), ("u", {"trace": "x"}))
        self.assertEqual(said(metadata={"user_id": "u"}).metadata, None)

    def test_unknown_fields_are_named(self) -> None:
        """A client can see that nobody heard of them."""
        conversation = said(
            container="c",
            service_tier="auto",
            cache_control=EPHEMERAL,
            diagnostics={"previous_message_id": "msg_1"},
            output_config={"task_budget": {"total": 1}},
        )
        self.assertEqual(
            conversation.dropped,
            (
                "field:container",
                "field:service_tier",
                "cache_control",
                "field:output_config.task_budget",
            ),
        )


class MalformedTests(SynchronousTestCase):
    """What cannot be understood is refused, and the sentence says where it stands."""

    def refused(self, wanted: str, **fields: Any) -> None:
        """Check that a request with *fields* is refused for the field *wanted*."""
        error = self.assertRaises(InvalidRequest, said, **fields)
        self.assertEqual(error.param, wanted)
        self.assertIn(wanted, error.message)

    def test_messages(self) -> None:
        """Roles, contents and blocks."""
        for message, wanted in (
            ({"content": "x"}, "messages[0].role"),
            ({"role": "tool", "content": "x"}, "messages[0].role"),
            ({"role": "user"}, "messages[0].content"),
            ({"role": "user", "content": 7}, "messages[0].content"),
            ({"role": "user", "content": [7]}, "messages[0].content[0]"),
            ({"role": "user", "content": [{}]}, "messages[0].content[0].type"),
            (
                {"role": "user", "content": [{"type": "text", "text": []}]},
                "messages[0].content[0].text",
            ),
            (
                {"role": "user", "content": [{"type": "image"}]},
                "messages[0].content[0].source",
            ),
            (
                {"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]},
                "messages[0].content[0].source.url",
            ),
            (
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]},
                "messages[0].content[0].name",
            ),
            (
                {"role": "user", "content": [{"type": "tool_result"}]},
                "messages[0].content[0].tool_use_id",
            ),
        ):
            self.refused(wanted, messages=[message])

    def test_settings(self) -> None:
        """Numbers, lists and objects."""
        self.refused("temperature", temperature="hot")
        self.refused("max_tokens", max_tokens=True)
        self.refused("stop_sequences", stop_sequences={"a": 1})
        self.refused("system", system=7)
        self.refused("tools", tools="f")
        self.refused("tools[0].name", tools=[{"input_schema": {}}])
        self.refused("tools[0].input_schema", tools=[{"name": "f", "input_schema": []}])
        self.refused("tool_choice.type", tool_choice={"type": "maybe"})
        self.refused("tool_choice.name", tool_choice={"type": "tool"})
        self.refused("thinking.type", thinking={})
        self.refused("thinking.budget_tokens", thinking={"type": "enabled", "budget_tokens": "x"})
        self.refused(
            "output_config.format.schema", output_config={"format": {"type": "json_schema"}}
        )
        self.refused("metadata", metadata=[])
