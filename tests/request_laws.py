"""
What each vendor refuses in a request beside what its SDK's types forbid.

The sources are the vendors' own error messages and their documentation, as the writers of
requests quote them. It must never know who wrote the request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

_PLAIN = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_GOOGLES = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")


def obey(dialect: str, body: Mapping[str, Any]) -> None:
    """
    Check that *body* is a request that the vendors of *dialect* take.

    :raise AssertionError: if it is not.
    """
    _LAWS[dialect](body)


def _names(names: Sequence[str], pattern: re.Pattern[str]) -> None:
    assert len(names) == len(set(names)), f"tools of one name: {names}"
    for name in names:
        assert pattern.fullmatch(name), f"a tool's name: {name!r}"


# --- Anthropic Messages -------------------------------------------------------


def _messages(body: Mapping[str, Any]) -> None:
    messages = body["messages"]
    assert messages and messages[0]["role"] == "user", "messages begin with the user"
    for one, other in pairwise(messages):
        assert one["role"] != other["role"], "roles alternate"
    for at, message in enumerate(messages):
        _content(message)
        calls = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        after = messages[at + 1]["content"] if at + 1 < len(messages) else []
        results = [b["tool_use_id"] for b in after if b["type"] == "tool_result"]
        assert sorted(calls) == sorted(results), "every call is answered, at once"
    first = [b for b in messages[0]["content"] if b["type"] == "tool_result"]
    assert not first, "an answer needs a call"
    last = messages[-1]
    if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
        assert last["content"][-1]["text"] == last["content"][-1]["text"].rstrip()
    _names([tool["name"] for tool in body.get("tools", ())], _PLAIN)
    assert json.dumps(body).count('"cache_control"') <= 4, "at most four markers"
    _thinking(body)


def _content(message: Mapping[str, Any]) -> None:
    content = message["content"]
    assert content, "no message is empty"
    kinds = [block["type"] for block in content]
    answers = kinds.count("tool_result")
    assert "tool_result" not in kinds[answers:], "answers come first"
    calls = kinds.count("tool_use")
    assert "tool_use" not in kinds[: len(kinds) - calls], "calls come last"
    for block in content:
        assert block["type"] != "text" or block["text"].strip(), "no text is empty"
        if block["type"] == "tool_use":
            assert re.fullmatch("[a-zA-Z0-9_-]+", block["id"]), block["id"]
            assert isinstance(block["input"], dict)
    if message["role"] == "assistant":
        assert kinds[-1] not in ("thinking", "redacted_thinking"), "no thought comes last"
        assert "image" not in kinds and "document" not in kinds, "the model shows nothing"


def _thinking(body: Mapping[str, Any]) -> None:
    thinking = body.get("thinking", {"type": "disabled"})
    if thinking["type"] == "enabled":
        assert 1024 <= thinking["budget_tokens"] < body["max_tokens"]
    if thinking["type"] in ("enabled", "adaptive"):
        assert body.get("temperature", 1) == 1 and "top_k" not in body
        assert body.get("top_p", 1) >= 0.95
        assert body.get("tool_choice", {"type": "auto"})["type"] in ("auto", "none")
    assert 0 <= body.get("temperature", 0) <= 1
    assert all(sequence.strip() for sequence in body.get("stop_sequences", ()))
    if "tool_choice" in body:
        assert body.get("tools"), "a choice needs tools"


# --- OpenAI Chat Completions --------------------------------------------------


def _chat(body: Mapping[str, Any]) -> None:
    messages = body["messages"]
    assert messages
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert waiting and message["tool_call_id"] == waiting.pop(0), "answers in order"
        else:
            assert not waiting, "every call is answered, at once"
        waiting += [call["id"] for call in message.get("tool_calls", ())]
        assert message["role"] == "tool" or message["content"] or message.get("tool_calls")
        assert message.get("tool_calls", True), "an empty list of calls is refused"
        for call in message.get("tool_calls", ()):
            assert len(call["id"]) <= 40
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
    assert not waiting, "every call is answered"
    _names([tool["function"]["name"] for tool in body.get("tools", ())], _PLAIN)
    assert body.get("tools", True), "an empty list of tools is refused"
    assert len(body.get("stop", ())) <= 4
    if "tool_choice" in body or "parallel_tool_calls" in body:
        assert body.get("tools"), "a choice needs tools"
    if body.get("response_format") == {"type": "json_object"}:
        assert "json" in json.dumps(messages).lower()


# --- OpenAI Responses ---------------------------------------------------------


def _responses(body: Mapping[str, Any]) -> None:
    waiting: list[str] = []
    before = ""
    for item in body["input"]:
        kind = item["type"]
        if kind.endswith("_call"):
            assert len(item["call_id"]) <= 64
            assert item["call_id"] not in waiting
            waiting.append(item["call_id"])
        elif kind.endswith("_call_output"):
            assert item["call_id"] in waiting, "an answer needs a call"
            waiting.remove(item["call_id"])
        if before == "reasoning":
            assert kind == "reasoning" or kind.endswith("_call") or item.get("role") == "assistant"
        if kind == "message":
            assert item["content"], "no message is empty"
            if item["role"] == "assistant":
                assert isinstance(item["content"], str)
        before = kind
    assert before != "reasoning" and not waiting
    _names([tool["name"] for tool in body.get("tools", ()) if "name" in tool], _PLAIN)
    assert body.get("max_output_tokens", 16) >= 16
    assert body["input"], "an empty input is refused"
    if "tool_choice" in body:
        assert body.get("tools"), "a choice needs tools"
    if body.get("text", {}).get("format") == {"type": "json_object"}:
        assert "json" in json.dumps(body["input"]).lower()


# --- Gemini -------------------------------------------------------------------


def _gemini(body: Mapping[str, Any]) -> None:
    contents = body["contents"]
    assert contents and contents[0]["role"] == "user", "contents begin with the user"
    for one, other in pairwise(contents):
        assert one["role"] != other["role"], "roles alternate"
    for at, content in enumerate(contents):
        assert content["parts"], "no content is empty"
        calls = [p["functionCall"]["name"] for p in content["parts"] if "functionCall" in p]
        signed = [p for p in content["parts"] if "functionCall" in p][:1]
        assert all("thoughtSignature" in part for part in signed), "the first call is signed"
        after = contents[at + 1]["parts"] if at + 1 < len(contents) else []
        answers = [p["functionResponse"]["name"] for p in after if "functionResponse" in p]
        assert calls == answers, "every call is answered, at once and in order"
        assert all("functionResponse" in part for part in after[: len(answers)])
        for part in content["parts"]:
            assert len(part.keys() - {"thought", "thoughtSignature"}) == 1, part
            if "functionResponse" in part:
                assert isinstance(part["functionResponse"]["response"], dict)
    first = [p for p in contents[0]["parts"] if "functionResponse" in p]
    assert not first, "an answer needs a call"
    declared = [
        function["name"]
        for tool in body.get("tools", ())
        for function in tool.get("functionDeclarations", ())
    ]
    _names(declared, _GOOGLES)
    config = body.get("generationConfig", {})
    assert len(config.get("stopSequences", ())) <= 5
    thinking = config.get("thinkingConfig", {})
    assert not {"thinkingBudget", "thinkingLevel"} <= thinking.keys(), "the one or the other"


_LAWS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "anthropic-messages": _messages,
    "gemini": _gemini,
    "openai-chat": _chat,
    "openai-responses": _responses,
}
