"""What Google is asked."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.losses import known
from aiclient2api.conversation.request import (
    Audio,
    Call,
    Conversation,
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
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.convert import conversation_of
from aiclient2api.dialects.gemini.request import NAME
from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import IGeminiRequest, IWireRequest
from tests.strict_requests import judge

BYPASS = "skip_thought_signature_validator"
HI = Turn("user", (Text("hi"),))
PNG = Inline("image/png", "AAAA")


def written(*turns: Turn, model: str = "m", **fields: Any) -> IWireRequest:
    """Return the request that says *turns*, judged."""
    conversation = Conversation(model, streaming=False, turns=turns or (HI,), **fields)
    request: IWireRequest = IGeminiRequest(conversation)
    judge(NAME, json.loads(request.raw), action=request.action)
    for code in request.losses:
        assert known(code), code
    return request


def body(*turns: Turn, **fields: Any) -> dict[str, Any]:
    """Return the body of that request."""
    told: dict[str, Any] = json.loads(written(*turns, **fields).raw)
    return told


def contents(*turns: Turn, **fields: Any) -> list[Any]:
    """Return the contents of that request."""
    told: list[Any] = body(*turns, **fields)["contents"]
    return told


def losses(*turns: Turn, **fields: Any) -> tuple[str, ...]:
    """Return what was lost of that request."""
    found: tuple[str, ...] = written(*turns, **fields).losses
    return found


def config(**fields: Any) -> dict[str, Any]:
    """Return the settings of a request with *fields*."""
    return body(**fields).get("generationConfig", {})


def user(*parts: Any) -> Turn:
    """Return a turn of the user's."""
    return Turn("user", parts)


def assistant(*parts: Any) -> Turn:
    """Return a turn of the assistant's."""
    return Turn("assistant", parts)


def model(*parts: Any) -> dict[str, Any]:
    """Return a content of the model's."""
    return {"role": "model", "parts": list(parts)}


def said(*parts: Any) -> dict[str, Any]:
    """Return a content of the user's."""
    return {"role": "user", "parts": list(parts)}


def answer(response: Any, name: str = "f") -> dict[str, Any]:
    """Return the answer of a function as a part."""
    return {"functionResponse": {"name": name, "response": response}}


def call(args: Any = None, name: str = "f", signature: str | None = BYPASS) -> dict[str, Any]:
    """Return a call as a part."""
    part = {"functionCall": {"name": name, "args": args or {}}}
    return part if signature is None else {**part, "thoughtSignature": signature}


def function(name: str = "f", **more: Any) -> Tool:
    """Return a function that is offered."""
    return Tool("function", name, **more)


class VectorTests(SynchronousTestCase):
    """The vectors of the protocols' description."""

    def test_the_vector(self) -> None:
        """Two calls at once, one of them failed, and what the user said next."""
        conversation = {
            "system": (Text("S1"),),
            "tools": (function(description="d", parameters={"type": "object"}),),
            "tool_choice": ToolChoice("required"),
            "sampling": Sampling(max_tokens=100, stop=("END",)),
        }
        turns = (
            HI,
            assistant(Text("calling"), Call("toolu_1", "f", '{"a":1}'), Call("toolu_2", "f")),
            user(
                Result("toolu_1", parts=(Text("r1"),)),
                Result("toolu_2", parts=(Text("boom"),), is_error=True),
                Text("go on"),
            ),
        )
        told = body(*turns, **conversation)
        thresholds = {each["threshold"] for each in told["safetySettings"]}
        self.assertEqual((len(told.pop("safetySettings")), thresholds), (5, {"OFF", "BLOCK_NONE"}))
        self.assertEqual(
            told,
            {
                "systemInstruction": {"role": "user", "parts": [{"text": "S1"}]},
                "contents": [
                    said({"text": "hi"}),
                    model({"text": "calling"}, call({"a": 1}), call(signature=None)),
                    said(answer({"result": "r1"}), answer({"error": "boom"}), {"text": "go on"}),
                ],
                "tools": [
                    {
                        "functionDeclarations": [
                            {
                                "name": "f",
                                "description": "d",
                                "parametersJsonSchema": {"type": "object"},
                            }
                        ]
                    }
                ],
                "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
                "generationConfig": {"maxOutputTokens": 100, "stopSequences": ["END"]},
            },
        )
        self.assertEqual(losses(*turns, **conversation), ())

    def test_where_it_goes(self) -> None:
        """A stream is asked for as events; losses of the reader are told, too."""
        conversation = Conversation("m", streaming=True, turns=(HI,), dropped=("n", "user"))
        request = IGeminiRequest(conversation)
        self.assertEqual(
            (request.model, request.streaming, request.framing, request.query, request.action),
            ("m", True, "sse", (("alt", "sse"),), "generate"),
        )
        self.assertEqual(request.losses, ("n", "user"))
        whole = written()
        self.assertEqual((whole.streaming, whole.framing, whole.query), (False, "whole", ()))
        self.assertEqual(whole.dialect, NAME)


class ToolTests(SynchronousTestCase):
    """What may be called."""

    def declared(self, *tools: Tool, **fields: Any) -> list[Any]:
        """Return the declarations of *tools*."""
        found: list[Any] = body(tools=tools, **fields)["tools"][0]["functionDeclarations"]
        return found

    def test_functions(self) -> None:
        """Have a name that Google takes, and a schema that it knows."""
        schema = {"type": "object", "additionalProperties": False}
        made = {"type": "object", "description": "No extra properties allowed"}
        tools = (
            function("f", parameters=schema),
            function("f", description="again"),
            function("1 bad name!"),
            function("g", namespace="mcp__x"),
        )
        self.assertEqual(
            self.declared(*tools),
            [
                {"name": "f", "parametersJsonSchema": made},
                {"name": "_1_bad_name_"},
                {"name": "mcp__x__g"},
            ],
        )
        self.assertEqual(losses(tools=tools), ("tool:duplicate", "schema"))
        turns = (HI, assistant(Call("c", "1 bad name!")), user(Result("c", "1 bad name!")))
        _, called, answered = contents(*turns, tools=tools)
        self.assertEqual(called["parts"], [call(name="_1_bad_name_")])
        self.assertEqual(answered["parts"], [answer({"result": ""}, "_1_bad_name_")])

    def test_tools_that_are_no_functions(self) -> None:
        """Are dressed as some."""
        grammar = {"format": {"type": "grammar", "definition": "start: A"}}
        tools = (Tool("custom", "patch", raw=grammar), Tool("local_shell", "local_shell"))
        patch, shell = self.declared(*tools)
        self.assertIn("start: A", patch["description"])
        self.assertEqual(list(patch["parametersJsonSchema"]["properties"]), ["input"])
        self.assertIn("command", shell["parametersJsonSchema"]["properties"])
        self.assertEqual(losses(tools=tools[:1]), ("tool_grammar",))

    def test_searching(self) -> None:
        """Google searches, but not beside functions."""
        search = Tool("web_search", "web_search")
        self.assertEqual(body(tools=(search,))["tools"], [{"googleSearch": {}}])
        self.assertEqual(self.declared(search, function()), [{"name": "f"}])
        self.assertEqual(losses(tools=(search, function())), ("tool:web_search",))

    def test_searching_that_is_narrowed(self) -> None:
        """Google's cannot be."""
        place = {"type": "approximate", "city": "Paris"}
        for raw, lost in (
            ({"type": "web_search_20250305", "name": "web_search"}, []),
            ({"max_uses": 1, "blocked_domains": ["a"]}, ["max_uses", "blocked_domains"]),
            ({"search_context_size": "low", "user_location": place}, None),
            ({"filters": {"allowed_domains": ["a"]}, "user_location": None}, ["allowed_domains"]),
            ({"allowed_domains": [], "filters": None}, []),
        ):
            expected = tuple(f"field:web_search.{key}" for key in (raw if lost is None else lost))
            search = Tool("web_search", "web_search", raw=raw)
            self.assertEqual(losses(tools=(search, search)), expected)
            self.assertEqual(losses(tools=(search, function())), ("tool:web_search",))

    def test_strictness(self) -> None:
        """Cannot be said."""
        self.assertEqual(losses(tools=(function(strict=True),)), ("strict",))
        self.assertEqual(losses(tools=(function(strict=False),)), ())

    def test_choices(self) -> None:
        """Some functions can only be singled out where one must be called."""
        tools = (function("f"), function("g"))
        for choice, calling, lost in (
            (ToolChoice("auto"), {"mode": "AUTO"}, ()),
            (ToolChoice("none"), {"mode": "NONE"}, ()),
            (ToolChoice("required"), {"mode": "ANY"}, ()),
            (
                ToolChoice("required", ("g", "x")),
                {"mode": "ANY", "allowedFunctionNames": ["g"]},
                ("tool_choice",),
            ),
            (
                ToolChoice("named", ("f",)),
                {"mode": "ANY", "allowedFunctionNames": ["f"]},
                (),
            ),
            (ToolChoice("named", ("x",)), None, ("tool_choice",)),
        ):
            told = body(tools=tools, tool_choice=choice)
            found = told.get("toolConfig", {}).get("functionCallingConfig")
            self.assertEqual(found, calling)
            self.assertEqual(losses(tools=tools, tool_choice=choice), lost)
            self.assertEqual(len(self.declared(*tools, tool_choice=choice)), 2)
        only = ToolChoice("auto", ("g",))
        self.assertEqual(self.declared(*tools, tool_choice=only), [{"name": "g"}])

    def test_choices_among_nothing(self) -> None:
        """Are not sent: Google refuses them."""
        for mode, lost in (("auto", ()), ("none", ()), ("required", ("tool_choice",))):
            choice = ToolChoice(mode)
            self.assertNotIn("toolConfig", body(tool_choice=choice))
            self.assertEqual(losses(tool_choice=choice), lost)

    def test_parallel_calls(self) -> None:
        """Cannot be forbidden."""
        self.assertEqual(losses(tools=(function(),), parallel=False), ("parallel_tool_calls",))
        self.assertEqual(losses(tools=(function(),), parallel=True), ())
        self.assertEqual(losses(parallel=False), ())


class SettingTests(SynchronousTestCase):
    """How to answer."""

    def test_sampling(self) -> None:
        """Each of the settings; zero is zero, and nothing is said of what was not."""
        sampling = Sampling(7, 0, 0.5, 40, ("a",), 0, 0.1, -0.1)
        self.assertEqual(
            config(sampling=sampling),
            {
                "maxOutputTokens": 7,
                "temperature": 0,
                "topP": 0.5,
                "topK": 40,
                "stopSequences": ["a"],
                "seed": 0,
                "presencePenalty": 0.1,
                "frequencyPenalty": -0.1,
            },
        )
        self.assertNotIn("generationConfig", body())

    def test_limits(self) -> None:
        """What Google would refuse is made to fit, or left out."""
        self.assertEqual(config(sampling=Sampling(temperature=3.5)), {"temperature": 2})
        self.assertEqual(losses(sampling=Sampling(temperature=3.5)), ("temperature",))
        many = Sampling(stop=("a", "", "b", "c", "d", "e", "f"))
        self.assertEqual(config(sampling=many), {"stopSequences": ["a", "b", "c", "d", "e"]})
        self.assertEqual(losses(sampling=many), ("stop",))
        self.assertEqual(losses(sampling=Sampling(seed=1 << 31)), ("seed",))
        self.assertEqual(config(sampling=Sampling(seed=1 << 31)), {})
        self.assertEqual(losses(sampling=Sampling(logprobs=0)), ("logprobs",))

    def test_output(self) -> None:
        """JSON of any form, or of one; older models give none beside tools."""
        mime = {"responseMimeType": "application/json"}
        schema = {"type": "object", "properties": {"a": {"const": 1}}}
        made = {"type": "object", "properties": {"a": {"type": "integer", "enum": [1]}}}
        self.assertEqual(config(output=OutputFormat()), mime)
        told = {**mime, "responseJsonSchema": made}
        self.assertEqual(config(output=OutputFormat(schema)), told)
        self.assertEqual(losses(output=OutputFormat(schema)), ("schema",))
        for name, both in (("gemini-2.5-pro", {}), ("gemini-3-pro-preview", mime), ("x", mime)):
            tools = (function(),)
            fields: dict[str, Any] = {"model": name, "tools": tools, "output": OutputFormat()}
            self.assertEqual(config(**fields), both)
            self.assertEqual(losses(**fields), () if both else ("output_format",))

    def test_thinking(self) -> None:
        """Is told as the model wants it."""
        told = config(model="gemini-2.5-pro", thinking=Thinking(effort="low"))
        self.assertEqual(
            told, {"thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": True}}
        )
        fields: dict[str, Any] = {"model": "gemini-2.0-flash", "thinking": Thinking(effort="low")}
        self.assertEqual((config(**fields), losses(**fields)), ({}, ("thinking",)))

    def test_what_has_no_place(self) -> None:
        """Is named."""
        self.assertEqual(
            losses(user="u", metadata={"a": "b"}, cache_key="k"),
            ("user", "metadata", "prompt_cache_key"),
        )


class CountTests(SynchronousTestCase):
    """Questions how many tokens something is."""

    def test_a_count(self) -> None:
        """Holds the whole request but for settings and thoughts."""
        turns = (HI, assistant(Reasoning("a", Seal(NAME, "AAAA")), Text("b")))
        request = written(
            *turns,
            action="count_tokens",
            system=(Text("s"),),
            tools=(function(),),
            sampling=Sampling(temperature=1, logprobs=1),
        )
        self.assertEqual((request.action, request.losses), ("count_tokens", ()))
        self.assertEqual(
            json.loads(request.raw),
            {
                "generateContentRequest": {
                    "model": "models/m",
                    "systemInstruction": {"role": "user", "parts": [{"text": "s"}]},
                    "contents": [said({"text": "hi"}), model({"text": "b"})],
                    "tools": [{"functionDeclarations": [{"name": "f"}]}],
                }
            },
        )
        again = json.loads(request.amended(model="n").raw)
        self.assertEqual(again["generateContentRequest"]["model"], "models/n")


_TEXTS = st.builds(Text, st.sampled_from(("", "a", '{"a":1}')))
_SEALS = st.none() | st.builds(Seal, st.sampled_from((NAME, "x")), st.just("AAAA"))
_IDS = st.sampled_from(("c", "d", "e"))
_MEDIA = st.sampled_from((PNG, Uploaded(NAME, "gs://a"), Uploaded("x", "y"), Remote("gs://b/c")))
_PICTURES = st.builds(Image, _MEDIA) | st.builds(File, _MEDIA, st.sampled_from(("", "n")))
_PARTS: Any = st.one_of(
    _TEXTS,
    _PICTURES,
    st.builds(Audio, st.just(Inline("audio/wav", "AAAA"))),
    st.builds(Refusal, st.just("no")),
    st.builds(Reasoning, st.sampled_from(("", "t")), _SEALS),
    st.builds(Call, _IDS, st.sampled_from(("f", "1")), st.sampled_from(("", "{}", "[")), _SEALS),
    st.builds(
        Result,
        _IDS,
        st.sampled_from(("", "f")),
        st.lists(_TEXTS | _PICTURES, max_size=2).map(tuple),
        st.booleans(),
    ),
)
_TURNS = st.builds(
    Turn,
    st.sampled_from(("user", "assistant", "system")),
    st.lists(_PARTS, max_size=4).map(tuple),
)


class AnyTests(SynchronousTestCase):
    """Whatever was said before, Google is asked what it takes."""

    @settings(max_examples=200, deadline=None)
    @given(st.lists(_TURNS, max_size=5))
    def test_any_turns(self, turns: list[Turn]) -> None:
        """Users begin and alternate with the model, and every call is answered in its place."""
        try:
            told = contents(HI, *turns)
        except InvalidRequest as error:
            self.fail(error.message)
        roles = [content["role"] for content in told]
        self.assertEqual(roles, (["user", "model"] * len(roles))[: len(roles)])
        for before, content in zip([None, *told], told, strict=False):
            kinds = [next(iter(part)) for part in content["parts"]]
            answers = kinds.count("functionResponse")
            self.assertEqual(kinds[:answers], ["functionResponse"] * answers)
            calls = before["parts"] if before and before["role"] == "model" else []
            self.assertEqual(answers, sum("functionCall" in part for part in calls))
            signed = [
                "thoughtSignature" in part for part in content["parts"] if "functionCall" in part
            ]
            self.assertTrue(not signed or signed[0])

    @settings(max_examples=100, deadline=None)
    @given(st.lists(_TURNS, max_size=4))
    def test_read_again(self, turns: list[Turn]) -> None:
        """What is written can be read, and written again is the same."""
        first = written(HI, *turns)
        again = IGeminiRequest(conversation_of(first))
        told, repeated = json.loads(first.raw), json.loads(again.raw)
        self.assertEqual(_texts(told), _texts(repeated))


def _texts(told: Any) -> list[Any]:
    """Return roles and calls of a body, and its texts, joined where they stand together."""
    found: list[Any] = []
    for content in told["contents"]:
        for part in content["parts"]:
            kind = next(key for key in part if key not in ("thought", "thoughtSignature"))
            last = found[-1] if found else None
            if kind == "text" and last and last[:2] == [content["role"], "text"]:
                last[2] += part["text"]
            elif kind != "functionCall" or part[kind]["name"] != "1":
                found.append([content["role"], kind, part[kind]])
    return found
