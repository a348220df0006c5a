"""
What the sandbox says: from one Chat Completions request to words, thoughts and calls.

Pure and deterministic: the same body gives the same answer, ids included. How an answer
is put into bytes, and how it is spoilt on purpose, is the business of `_sandbox_script`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from aiclient2api.values import Headers

_QUOTED = 200
_LONG_WORDS = 2000
_LONG_PIECE = 8


@attrs.frozen
class Refusal:
    """An error answer: its status, its error object and extra headers."""

    status: int
    type: str
    code: str | None
    message: str
    headers: Headers = ()
    param: str | None = None


REFUSALS = {
    "sandbox-400": Refusal(400, "invalid_request_error", None, "The sandbox was asked for a 400."),
    "sandbox-401": Refusal(
        401, "invalid_request_error", "invalid_api_key", "The sandbox was asked for a 401."
    ),
    "sandbox-403": Refusal(
        403, "permission_error", "permission_denied", "The sandbox was asked for a 403."
    ),
    "sandbox-404": Refusal(
        404, "invalid_request_error", "model_not_found", "The sandbox was asked for a 404."
    ),
    "sandbox-429": Refusal(
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
        "The sandbox was asked for a 429; try again in 1 s.",
        ((b"retry-after", b"1"),),
    ),
    "sandbox-429-long": Refusal(
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
        "The sandbox was asked for a 429; try again in an hour.",
        ((b"retry-after", b"3600"),),
    ),
    "sandbox-500": Refusal(500, "server_error", None, "The sandbox was asked for a 500."),
    "sandbox-503": Refusal(503, "server_error", "overloaded", "The sandbox was asked for a 503."),
    "sandbox-529": Refusal(529, "overloaded_error", None, "The sandbox was asked for a 529."),
}

MODELS = (
    "sandbox",
    "sandbox-fast",
    "sandbox-slow",
    "sandbox-think",
    "sandbox-tool",
    "sandbox-long",
    *REFUSALS,
    "sandbox-cut",
    "sandbox-reset",
    "sandbox-hang",
    "sandbox-stall",
    "sandbox-error",
    "sandbox-first-error",
    "sandbox-empty",
    "sandbox-flaky",
)
"""All models, those that fail last."""


@attrs.frozen
class Call:
    """One call of a tool; *arguments* is JSON."""

    id: str
    name: str
    arguments: str


@attrs.frozen
class Answer:
    """What is said, before it is framed as a stream or a whole."""

    id: str
    model: str
    thoughts: tuple[str, ...]
    words: tuple[str, ...]
    calls: tuple[Call, ...]
    finish: str
    prompt_words: int

    def usage(self) -> dict[str, Any]:
        """Count words as if they were tokens."""
        thought = sum(len(piece.split()) for piece in self.thoughts)
        said = sum(len(piece.split()) for piece in self.words)
        called = sum(len(call.arguments.split()) for call in self.calls)
        completion = thought + said + called
        return {
            "prompt_tokens": self.prompt_words,
            "completion_tokens": completion,
            "total_tokens": self.prompt_words + completion,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": thought},
        }


class Refused(Exception):
    """The request is not one a real service would take."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


# --- reading the request ----------------------------------------------------


def checked(body: bytes) -> dict[str, Any]:
    """
    Read a request as strictly as a real service would.

    :raise Refused: if it is not one, or names a model that the sandbox has not.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise _bad("The body is not JSON: send one JSON object.") from None
    if not isinstance(request, dict):
        raise _bad("The body is not a JSON object: send one with model and messages.")
    model, messages = request.get("model"), request.get("messages")
    if not isinstance(model, str):
        raise _bad("model is missing or not a string: name one of the sandbox's.", "model")
    if not isinstance(messages, list) or not messages:
        raise _bad("messages is missing, empty or not a list: send at least one.", "messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            where = f"messages[{index}]"
            raise _bad(f"{where} is not an object with a role: give it one.", where)
    for key in ("max_tokens", "max_completion_tokens"):
        limit = request.get(key)
        if limit is not None and (type(limit) is not int or limit < 1):
            raise _bad(f"{key} is not a whole number above 0: write one or leave it out.", key)
    if not isinstance(request.get("tools", []), list | None):
        raise _bad("tools is not a list: send a list of functions.", "tools")
    if model not in MODELS:
        raise Refused(
            Refusal(
                404,
                "invalid_request_error",
                "model_not_found",
                f"The sandbox has no model {model[:100]!r}. It has: {', '.join(MODELS)}.",
                param="model",
            )
        )
    return request


def _bad(message: str, param: str | None = None) -> Refused:
    return Refused(Refusal(400, "invalid_request_error", None, message, param=param))


def _text(content: object) -> str:
    if isinstance(content, list):
        content = " ".join(
            part["text"]
            for part in content
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    # Lone surrogates may stand in JSON but in no UTF-8.
    return content.encode("utf-8", "replace").decode("utf-8") if isinstance(content, str) else ""


def _quoted(text: str) -> str:
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "…"


def _thinks(request: Mapping[str, Any]) -> bool:
    thinking = request.get("thinking")
    if isinstance(thinking, dict):
        thinking = thinking.get("type") != "disabled"
    effort = request.get("reasoning_effort") not in (None, "none")
    return request["model"] == "sandbox-think" or effort or bool(thinking)


# --- deciding what to say ---------------------------------------------------


def answer(request: Mapping[str, Any], digest: str) -> Answer:
    """
    Decide what to say to a checked request.

    :param digest: Hexadecimal digits that the ids are made of.
    :raise Refused: if the tool choice cannot be met.
    """
    messages = request["messages"]
    asked = next((_text(m.get("content")) for m in reversed(messages) if m["role"] == "user"), "")
    calls: tuple[Call, ...] = ()
    if messages[-1]["role"] == "tool":
        said = f"The tool answered: {_quoted(_text(messages[-1].get('content')))}"
    else:
        calls = tuple(
            Call(f"call_{digest[:20]}{index}", name, _json(_example(schema)))
            for index, (name, schema) in enumerate(_called(request, asked))
        )
        said = f"This is the sandbox; no model was asked. You said: {_quoted(asked)}"
        if request["model"] == "sandbox-long":
            said += "".join(f" word{number}" for number in range(1, _LONG_WORDS + 1))
    thoughts: tuple[str, ...] = ()
    if _thinks(request):
        thoughts = tuple(_pieces("I need not think hard: I only say again what was said."))
    words = () if calls else tuple(_pieces(said))
    finish = "tool_calls" if calls else "stop"
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    if limit is not None and len(thoughts) + len(words) + len(calls) > limit:
        thoughts, words, calls = thoughts[:limit], words[: max(0, limit - len(thoughts))], ()
        finish = "length"
    if request["model"] == "sandbox-long":
        words = tuple(
            "".join(words[at : at + _LONG_PIECE]) for at in range(0, len(words), _LONG_PIECE)
        )
    prompt = sum(len(_text(message.get("content")).split()) for message in messages)
    return Answer(
        f"chatcmpl-{digest[:24]}", request["model"], thoughts, words, calls, finish, prompt
    )


def _pieces(text: str) -> Iterator[str]:
    """Cut *text* at its words, and long runs without spaces (Chinese, say) as well."""
    return (found.group() for found in re.finditer(r"\s*\S{1,12}|\s+$", text))


def _called(request: Mapping[str, Any], asked: str) -> Sequence[tuple[str, object]]:
    offered: dict[str, object] = {}
    for tool in request.get("tools") or ():
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            offered.setdefault(function["name"], function.get("parameters"))
    choice = request.get("tool_choice")
    if isinstance(choice, dict) and "function" in choice:
        function = choice["function"]
        forced = function.get("name") if isinstance(function, dict) else None
        if forced not in offered:
            raise _bad("tool_choice names a tool that is not among tools.", "tool_choice")
        return [(forced, offered[forced])]
    if not offered:
        if choice == "required":
            raise _bad("tool_choice is required but no tools are offered.", "tool_choice")
        return []
    if choice == "none":
        return []
    named = [(name, schema) for name, schema in offered.items() if _names(asked, name)]
    if named:
        return named[:1] if request.get("parallel_tool_calls") is False else named
    wanted = choice == "required" or request["model"] == "sandbox-tool"
    if wanted or any(_names(asked, word) for word in ("tool", "tools", "工具")):
        return [next(iter(offered.items()))]
    return []


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode("utf-8")


def _names(text: str, word: str) -> bool:
    # ASCII: in Chinese a tool's name has no spaces around it.
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.I | re.A) is not None


def _example(schema: object, depth: int = 0) -> Any:
    """Make up the simplest value that a JSON Schema takes, required properties only."""
    if not isinstance(schema, dict) or depth > 8:
        return {}
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return _example(schema[key][0], depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    properties = schema.get("properties")
    if kind == "object" or isinstance(properties, dict) or (kind is None and depth == 0):
        known = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        names = required if isinstance(required, list) else []
        return {
            name: _example(known.get(name, {"type": "string"}), depth + 1)
            for name in names
            if isinstance(name, str)
        }
    simple: dict[object, Any] = {"number": 1, "integer": 1, "boolean": True, "null": None}
    if kind == "array":
        return []
    return simple.get(kind if isinstance(kind, str) else None, "example")
