"""
What Kiro is asked with: every rule of its own obeyed, whatever a client says.

The fake's rules are the judge: they were written without a look at who asks.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import (
    Call,
    Conversation,
    Reasoning,
    Result,
    Text,
    Turn,
)
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.dialects.anthropic_messages.write_request import write_request
from aiclient2api.dialects.convert import conversation_of, written
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.providers._kiro_models import KNOWN, NAMES, kiro_model
from aiclient2api.providers._kiro_request import LONGEST, kiro_body
from aiclient2api.providers._kiro_tools import LONGEST_DESCRIPTION, sent_names
from aiclient2api.testing import KIRO_MODELS
from aiclient2api.testing.fake_kiro_rules import violations
from aiclient2api.values import Route, Traits
from tests.any_conversations import conversations, histories
from tests.recorded_requests import RECORDED

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
ARN = "arn:aws:codewhisperer:us-east-1:1:profile/P"
TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}}


def request_of(messages: Sequence[Any], **fields: Any) -> Any:
    """Return a Messages request."""
    body = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": messages, **fields}
    route = Route(action="generate")
    return ANTHROPIC_MESSAGES.parse(body=json.dumps(body).encode(), route=route)


def says(role: str, *blocks: Any) -> dict[str, Any]:
    """Return a message; a text stands for its block."""
    told = [{"type": "text", "text": each} if isinstance(each, str) else each for each in blocks]
    return {"role": role, "content": told}


def use(id: str, name: str = "f", **given: Any) -> dict[str, Any]:
    """Return a call."""
    return {"type": "tool_use", "id": id, "name": name, "input": given}


def result(id: str, content: Any = "r", **fields: Any) -> dict[str, Any]:
    """Return the result of a call."""
    return {"type": "tool_result", "tool_use_id": id, "content": content, **fields}


def picture(kind: str = "image/png", data: str = PNG) -> dict[str, Any]:
    """Return an image."""
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


class KiroRequestCase(SynchronousTestCase):
    """Ways to look at what is sent."""

    def sent(self, messages: Sequence[Any], **fields: Any) -> dict[str, Any]:
        """Return what is sent, after a look at the rules."""
        told = json.loads(kiro_body(request_of(messages, **fields), account="a1", arn=ARN))
        self.assertEqual(violations(told), [])
        self.assertEqual(told["profileArn"], ARN)
        state: dict[str, Any] = told["conversationState"]
        return state

    def current(self, messages: Sequence[Any], **fields: Any) -> dict[str, Any]:
        """Return the last message as it is sent."""
        message = self.sent(messages, **fields)["currentMessage"]["userInputMessage"]
        return dict(message)

    def texts(self, messages: Sequence[Any], **fields: Any) -> list[str]:
        """Return what is said in turns."""
        state = self.sent(messages, **fields)
        items = [*state.get("history", []), state["currentMessage"]]
        return [message["content"] for item in items for message in item.values()]

    def refused(self, messages: Sequence[Any], **fields: Any) -> InvalidRequest:
        """Return why a request is not sent."""
        with self.assertRaises(InvalidRequest) as caught:
            kiro_body(request_of(messages, **fields), account="a1", arn=None)
        return caught.exception


class TurnsTests(KiroRequestCase):
    """Who says what, when."""

    def test_the_published_example(self) -> None:
        """Two calls at once, one of which failed, and a word of the user's behind them."""
        state = self.sent(
            [
                says("user", "hi"),
                says("assistant", "calling", use("toolu_1", a=1), use("toolu_2")),
                says(
                    "user",
                    result("toolu_1", [{"type": "text", "text": "r1"}]),
                    result("toolu_2", "boom", is_error=True),
                    "go on",
                ),
            ],
            system=[
                {"type": "text", "text": "S1"},
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=1"},
            ],
            stop_sequences=["END"],
            tools=[TOOL],
        )
        first, second = state["history"]
        self.assertEqual(first["userInputMessage"]["content"], "S1\n\nhi")
        said = second["assistantResponseMessage"]
        self.assertEqual(said["content"], "calling")
        self.assertEqual(
            said["toolUses"],
            [
                {"toolUseId": "toolu_1", "name": "f", "input": {"a": 1}},
                {"toolUseId": "toolu_2", "name": "f", "input": {}},
            ],
        )
        current = state["currentMessage"]["userInputMessage"]
        self.assertEqual(
            current,
            {
                "content": "go on",
                "modelId": "claude-sonnet-4.5",
                "origin": "AI_EDITOR",
                "userInputMessageContext": {
                    "tools": [
                        {
                            "toolSpecification": {
                                "name": "f",
                                "description": "d",
                                "inputSchema": {"json": {"type": "object", "properties": {}}},
                            }
                        }
                    ],
                    "toolResults": [
                        {
                            "toolUseId": "toolu_1",
                            "status": "success",
                            "content": [{"text": "r1"}],
                        },
                        {"toolUseId": "toolu_2", "status": "error", "content": [{"text": "boom"}]},
                    ],
                },
            },
        )
        self.assertEqual(state["chatTriggerType"], "MANUAL")

    def test_one_message(self) -> None:
        """Without a history there is none, not even an empty one."""
        state = self.sent([says("user", "hi")])
        self.assertNotIn("history", state)
        self.assertNotIn("userInputMessageContext", state["currentMessage"]["userInputMessage"])

    def test_merging(self) -> None:
        """Neighbours of one role are one turn."""
        messages = [
            says("user", "a"),
            says("user", "b"),
            says("assistant", "c"),
            says("assistant", "d"),
            says("user", "e"),
        ]
        self.assertEqual(self.texts(messages), ["a\nb", "c\nd", "e"])

    def test_the_model_spoke_last(self) -> None:
        """What it said is history, and it is told to go on; a lone brace is dropped."""
        messages = [says("user", "a"), says("assistant", "b")]
        self.assertEqual(self.texts(messages), ["a", "b", "Continue"])
        messages = [says("user", "a"), says("assistant", "{")]
        self.assertEqual(self.texts(messages), ["a"])

    def test_the_model_spoke_first(self) -> None:
        """Nothing is cut off: a word of the user's comes before it."""
        told = self.texts([says("assistant", "a"), says("user", "b")], system="S")
        self.assertEqual(told[0], "S\n\n(The beginning of this conversation is not shown.)")
        self.assertEqual(told[1:], ["a", "b"])

    def test_nobody_says_nothing(self) -> None:
        """Results, images and blanks alone get a word to go with them."""
        messages = [says("user", "a"), says("assistant", use("t1")), says("user", result("t1"))]
        told = self.texts(messages, tools=[TOOL])
        self.assertEqual(told, ["a", ".", "Tool results provided."])
        told = self.texts([says("user", picture())])
        self.assertEqual(told, ["Please analyze the attached image."])
        self.assertEqual(self.texts([says("user", " \n")]), ["Continue"])
        self.assertEqual(self.texts([says("user", picture())], system="S"), ["S"])

    def test_no_message(self) -> None:
        """Without any there is nothing to ask."""
        self.assertEqual(self.refused([]).code, "missing_field")
        self.assertEqual(self.refused([says("assistant", "{")]).code, "missing_field")

    def test_results_without_calls(self) -> None:
        """A result of nothing is told as text; a call without a result gets one."""
        told = self.current([says("user", result("t9", "late"))])
        self.assertIn("late", told["content"])
        told = self.current([says("user", "a"), says("assistant", use("t1")), says("user", "b")])
        results = told["userInputMessageContext"]["toolResults"]
        self.assertEqual([each["status"] for each in results], ["error"])
        self.assertEqual(told["content"], "b")

    def test_two_results_for_one_call(self) -> None:
        """The last one counts."""
        messages = [
            says("user", "a"),
            says("assistant", use("t1")),
            says("user", result("t1", "x"), result("t1", "y")),
        ]
        results = self.current(messages)["userInputMessageContext"]["toolResults"]
        self.assertEqual([each["content"] for each in results], [[{"text": "y"}]])

    def test_an_empty_result(self) -> None:
        """It says that it says nothing."""
        messages = [says("user", "a"), says("assistant", use("t1")), says("user", result("t1", []))]
        results = self.current(messages)["userInputMessageContext"]["toolResults"]
        self.assertEqual(results[0]["content"], [{"text": "(no output)"}])

    def test_ids(self) -> None:
        """Ids of other vendors are made fit, on both sides alike."""
        for id in ("call.1:a", "x" * 100):
            state = self.sent(
                [says("user", "a"), says("assistant", use(id)), says("user", result(id))]
            )
            call = state["history"][1]["assistantResponseMessage"]["toolUses"][0]
            self.assertRegex(call["toolUseId"], r"^[A-Za-z0-9_-]{1,64}$")

    def test_instructions_in_between(self) -> None:
        """They move to the front."""
        told = self.texts(
            [says("user", "a"), says("system", "S2"), says("assistant", "b"), says("user", "c")],
            system="S1",
        )
        self.assertEqual(told, ["S1\n\nS2\n\na", "b", "c"])

    def test_no_words_of_ours(self) -> None:
        """No identity, no persona: the prompt is the client's and nothing else."""
        self.assertEqual(self.texts([says("user", "who are you?")]), ["who are you?"])

    def test_the_same_conversation(self) -> None:
        """Its id stays while it goes on, and is another one for another account."""
        first = [says("user", "hi")]
        later = [*first, says("assistant", "ho"), says("user", "ha")]
        ids = {self.sent(messages)["conversationId"] for messages in (first, later)}
        self.assertEqual(len(ids), 1)
        other = json.loads(kiro_body(request_of(first), account="a2", arn=None))
        self.assertNotIn(other["conversationState"]["conversationId"], ids)
        self.assertNotIn("profileArn", other)


class PartsTests(KiroRequestCase):
    """What a turn holds."""

    def test_images(self) -> None:
        """Their bytes go along, whatever a client calls a JPEG."""
        told = self.current([says("user", "look", picture(), picture("image/jpg"))])
        self.assertEqual([each["format"] for each in told["images"]], ["png", "jpeg"])
        self.assertEqual(told["images"][0]["source"], {"bytes": PNG})

    def test_images_in_results(self) -> None:
        """They move to the message, for a result holds text only."""
        messages = [
            says("user", "a"),
            says("assistant", use("t1")),
            says("user", result("t1", [picture()])),
        ]
        told = self.current(messages)
        self.assertEqual(len(told["images"]), 1)
        self.assertIn(
            "image", told["userInputMessageContext"]["toolResults"][0]["content"][0]["text"]
        )

    def test_images_that_cannot_be_sent(self) -> None:
        """An address is refused, and so is no base64; another format is told of."""
        far = {"type": "image", "source": {"type": "url", "url": "https://a.test/x.png"}}
        self.assertEqual(self.refused([says("user", far)]).code, "unsupported_image")
        self.assertEqual(self.refused([says("user", picture(data="!"))]).code, "invalid_base64")
        self.assertEqual(self.refused([says("user", picture(data=""))]).code, "invalid_image")
        told = self.texts([says("user", "a", picture("image/tiff"))])
        self.assertEqual(told, ["a\n[An image is left out: it cannot be sent here.]"])

    def test_documents(self) -> None:
        """A text is sent as one, a PDF is told of."""
        text = {"type": "text", "media_type": "text/plain", "data": "inside"}
        pdf = {"type": "base64", "media_type": "application/pdf", "data": PNG}
        told = self.texts(
            [
                says(
                    "user",
                    {"type": "document", "title": "notes", "source": text},
                    {"type": "document", "title": "b.pdf", "source": pdf},
                )
            ]
        )
        self.assertEqual(
            told, ["notes:\ninside\n[A file (b.pdf) is left out: it cannot be sent here.]"]
        )

    def test_nothing_is_null(self) -> None:
        """Nulls and empty keys of arguments and schemas go; every number stays as it was."""
        messages = [
            says("user", "a"),
            says("assistant", use("t1", a=None, b=[1, None, {"": 2, "c": 1.10}])),
            says("user", result("t1")),
        ]
        schema = {
            "type": "object",
            "properties": {"a": {"default": None, "enum": ["x", None]}, "": {}},
            "required": [],
            "$schema": "x",
        }
        state = self.sent(messages, tools=[{**TOOL, "input_schema": schema}])
        call = state["history"][1]["assistantResponseMessage"]["toolUses"][0]
        self.assertEqual(call["input"], {"b": [1, {"c": 1.10}]})
        told = state["currentMessage"]["userInputMessage"]["userInputMessageContext"]["tools"]
        self.assertEqual(
            told[0]["toolSpecification"]["inputSchema"]["json"],
            {"type": "object", "properties": {"a": {"enum": ["x"]}}, "$schema": "x"},
        )

    def test_arguments_that_are_none(self) -> None:
        """What is no object is made one."""
        broken = {**use("t1"), "input": '{"a":'}
        messages = [says("user", "a"), says("assistant", broken), says("user", result("t1"))]
        call = self.sent(messages)["history"][1]["assistantResponseMessage"]["toolUses"][0]
        self.assertEqual(call["input"], {"raw_arguments": '{"a":'})

    def test_unknown_blocks(self) -> None:
        """Whatever a client's next version sends is passed over."""
        told = self.texts([says("user", "a", {"type": "mystery", "x": 1})], mystery=True)
        self.assertEqual(told, ["a"])


class ToolsTests(KiroRequestCase):
    """What is offered."""

    def tools(self, *tools: Mapping[str, Any], **fields: Any) -> list[dict[str, Any]]:
        """Return what is offered."""
        told = self.current([says("user", "hi")], tools=tools, **fields)
        offered = told.get("userInputMessageContext", {}).get("tools", [])
        return [each["toolSpecification"] for each in offered]

    def test_long_names(self) -> None:
        """A long name is cut the way others cut it, and finds its way back."""
        name = "mcp__" + "x" * 80
        sent = self.tools({**TOOL, "name": name})[0]["name"]
        self.assertEqual(sent, name[:51] + "_6473cc202696")
        self.assertEqual(hashlib.sha256(name.encode()).hexdigest()[:12], "6473cc202696")
        conversation = conversation_of(request_of([], tools=[{**TOOL, "name": name}]))
        self.assertEqual(sent_names(conversation), {name: sent})

    def test_names_that_are_taken(self) -> None:
        """A client's own tool may be called like the vendor's."""
        names = ("web_search", "web_search_tool", "WebSearch", "a.b")
        sent = [each["name"] for each in self.tools(*({**TOOL, "name": each} for each in names))]
        self.assertEqual(sent, ["web_search_tool_", "web_search_tool", "WebSearch_tool", "a_b"])

    def test_the_vendors_own(self) -> None:
        """Anthropic's own tools are left out."""
        native = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
        bash = {"type": "bash_20250124", "name": "bash"}
        self.assertEqual([each["name"] for each in self.tools(native, bash, TOOL)], ["f"])

    def test_descriptions(self) -> None:
        """None is empty; what is too long goes on in the instructions, and nothing is lost."""
        self.assertEqual(self.tools({**TOOL, "description": ""})[0]["description"], "Call f.")
        long = "".join(f"{number} " for number in range(4000))
        tool = {**TOOL, "description": long}
        told = self.tools(tool)[0]["description"]
        self.assertLessEqual(len(told), LONGEST_DESCRIPTION)
        said = self.texts([says("user", "hi")], tools=[tool], system="S")[0]
        head, _, rest = said.partition("goes on:")
        self.assertTrue(head.startswith("S\n\n"))
        self.assertEqual(told.partition("\n(This")[0] + rest.removesuffix("\n\nhi"), long)

    def test_tools_that_are_gone(self) -> None:
        """A tool that was called and is not offered any more is told of as such."""
        messages = [
            says("user", "a"),
            says("assistant", use("t1", "gone")),
            says("user", result("t1")),
        ]
        told = self.current(messages, tools=[TOOL])["userInputMessageContext"]["tools"]
        names = [each["toolSpecification"]["name"] for each in told]
        self.assertEqual(names, ["f", "gone"])
        self.assertIn("cannot be called", told[1]["toolSpecification"]["description"])

    def test_choice(self) -> None:
        """It may choose, or have none; it cannot be made to call one."""
        self.assertEqual(len(self.tools(TOOL, tool_choice={"type": "auto"})), 1)
        self.assertEqual(self.tools(TOOL, tool_choice={"type": "none"}), [])
        for choice in ({"type": "any"}, {"type": "tool", "name": "f"}):
            error = self.refused([says("user", "hi")], tools=[TOOL], tool_choice=choice)
            self.assertEqual((error.code, error.param), ("unsupported_tool_choice", "tool_choice"))

    def test_duplicates(self) -> None:
        """Of tools of one name there is the first."""
        told = self.tools(TOOL, {**TOOL, "description": "e"})
        self.assertEqual([each["description"] for each in told], ["d"])


class SettingsTests(KiroRequestCase):
    """What else is asked."""

    def test_models(self) -> None:
        """Dated, dashed and thinking names are the service's own."""
        for name, expected in (
            ("claude-sonnet-4-5-20250929", "claude-sonnet-4.5"),
            ("claude-opus-4-6-thinking", "claude-opus-4.6"),
            ("claude-sonnet-4-20250514", "claude-sonnet-4"),
            ("claude-haiku-4-5", "claude-haiku-4.5"),
            ("claude-opus-4-10", "claude-opus-4.10"),
            ("claude-sonnet-4.5", "claude-sonnet-4.5"),
            ("claude-sonnet-4", "claude-sonnet-4"),
            ("auto", "auto"),
            ("CLAUDE_SONNET_4_5_20250929_V1_0", "CLAUDE_SONNET_4_5_20250929_V1_0"),
            ("gpt-5", "gpt-5"),
        ):
            self.assertEqual(kiro_model(name), expected)
        self.assertEqual({kiro_model(name) for name in KNOWN}, set(NAMES))
        self.assertEqual(set(NAMES), set(KIRO_MODELS))

    def test_thinking(self) -> None:
        """It is asked for in words, in front of the instructions; a budget is kept in bounds."""
        for thinking, more, words in (
            ({"type": "enabled", "budget_tokens": 4000}, {}, _enabled(4000)),
            ({"type": "enabled", "budget_tokens": 9}, {}, _enabled(1024)),
            ({"type": "enabled", "budget_tokens": 99999}, {}, _enabled(24576)),
            ({"type": "adaptive"}, {}, _adaptive("high")),
            ({"type": "adaptive"}, {"output_config": {"effort": "low"}}, _adaptive("low")),
            ({"type": "adaptive"}, {"output_config": {"effort": "max"}}, _adaptive("high")),
        ):
            told = self.texts([says("user", "hi")], system="S", thinking=thinking, **more)
            self.assertEqual(told, [f"{words}\nS\n\nhi"])
        for fields in (
            {"thinking": {"type": "disabled"}},
            {"output_config": {"effort": "high"}},
            {},
        ):
            self.assertEqual(self.texts([says("user", "hi")], **fields), ["hi"])

    def test_thoughts_go_back(self) -> None:
        """To a model that thinks; another one would copy the tags."""
        thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
        messages = [says("user", "a"), says("assistant", thought, "b"), says("user", "c")]
        told = self.texts(messages, thinking={"type": "adaptive"})
        self.assertEqual(told[1], "<thinking>hm</thinking>\n\nb")
        self.assertEqual(self.texts(messages)[1], "b")

    def test_a_form(self) -> None:
        """A schema is asked for in words."""
        form = {"type": "json_schema", "schema": {"type": "object", "title": "T"}}
        told = self.texts([says("user", "hi")], output_config={"format": form})[0]
        self.assertIn('{"type":"object","title":"T"}', told)
        self.assertTrue(told.endswith("\n\nhi"))

    def test_too_long(self) -> None:
        """It is told as what it is, in the words that clients know, and nothing is cut."""
        with self.assertRaises(UpstreamError) as caught:
            kiro_body(request_of([says("user", "x" * LONGEST)]), account="a1", arn=None)
        error = caught.exception
        self.assertEqual((error.fault, error.status), (Fault.CONTEXT, 400))
        _, told = ANTHROPIC_MESSAGES.render_error(error)
        self.assertIn(b"prompt is too long", told)
        self.assertNotIn(b" tokens > ", told)

    def test_half_an_emoji(self) -> None:
        """It is replaced: nobody could send it."""
        body = b'{"model":"auto","messages":[{"role":"user","content":"a\\ud83d"}]}'
        request = ANTHROPIC_MESSAGES.parse(body=body, route=Route(action="generate"))
        told = json.loads(kiro_body(request, account="a1", arn=None))
        self.assertEqual(violations(told), [])


def _enabled(tokens: int) -> str:
    return (
        f"<thinking_mode>enabled</thinking_mode><max_thinking_length>{tokens}</max_thinking_length>"
    )


def _adaptive(effort: str) -> str:
    return f"<thinking_mode>adaptive</thinking_mode><thinking_effort>{effort}</thinking_effort>"


class AnyRequestTests(SynchronousTestCase):
    """Whatever is asked, in whichever dialect."""

    def judge(self, body: Any) -> None:
        """Send what can be sent, and look at the rules."""
        try:
            told = json.loads(kiro_body(body, account="a1", arn=ARN))
        except InvalidRequest as error:
            self.assertIn(
                error.code,
                (
                    "missing_field",
                    "unsupported_tool_choice",
                    "unsupported_image",
                    "invalid_image",
                    "invalid_base64",
                ),
            )
            return
        self.assertEqual(violations(told), [])

    def test_what_real_clients_send(self) -> None:
        """Every recorded request of ten clients obeys, once converted."""
        count = 0
        for each in RECORDED:
            if each.action != "generate":
                continue
            dialect = next(one for one in DIALECTS if one.name == each.dialect)
            request = dialect.parse(body=each.body, route=each.route)
            conversation = conversation_of(request)
            self.judge(written(request, conversation, ANTHROPIC_MESSAGES))
            count += 1
        self.assertGreater(count, 150)

    @settings(deadline=None)
    @given(conversations(), histories())
    def test_any_conversation(self, conversation: Conversation, turns: tuple[Turn, ...]) -> None:
        """Every conversation obeys, in order or not."""
        traits = Traits(family="kiro", replays_reasoning=True)
        for each in (conversation, attrs.evolve(conversation, turns=turns)):
            try:
                request = write_request(attrs.evolve(each, traits=traits))
            except InvalidRequest:
                continue
            self.judge(request)

    @settings(deadline=None)
    @given(histories())
    def test_any_history(self, turns: tuple[Turn, ...]) -> None:
        """So does what no writer of ours has put in order before."""
        self.judge(request_of([message for turn in turns for message in _written(turn)]))


def _written(turn: Turn) -> Sequence[Any]:
    """Return a turn as a careless client of this dialect writes it."""
    blocks: list[Any] = []
    for part in turn.parts:
        if isinstance(part, Text):
            blocks.append({"type": "text", "text": part.text})
        elif isinstance(part, Call):
            blocks.append({**use(part.id or "t0", part.name or "f"), "input": part.arguments})
        elif isinstance(part, Result):
            texts = [each.text for each in part.parts if isinstance(each, Text)]
            blocks.append(result(part.id or "t0", "".join(texts), is_error=part.is_error))
        elif isinstance(part, Reasoning):
            blocks.append({"type": "thinking", "thinking": part.text, "signature": ""})
    return [{"role": turn.role, "content": blocks}]
