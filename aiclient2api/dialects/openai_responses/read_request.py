"""
Read a request: what a client of this dialect asks, as a conversation.

It must never know which dialect the conversation is written in next.
"""

from __future__ import annotations

from typing import Any

from aiclient2api.conversation.losses import merged
from aiclient2api.conversation.request import (
    Conversation,
    OutputFormat,
    Part,
    Refusal,
    Sampling,
    Text,
    Thinking,
    Turn,
)
from aiclient2api.dialects.nodes import Node, code
from aiclient2api.dialects.openai_models import EFFORTS
from aiclient2api.dialects.openai_responses.read_items import Items
from aiclient2api.dialects.openai_responses.read_tools import read_choice, read_tools
from aiclient2api.dialects.openai_responses.request import ResponsesRequest
from aiclient2api.dialects.openai_responses.state import missing
from aiclient2api.errors import InvalidRequest
from aiclient2api.framing.json_text import exact

_SUMMARIES = ("auto", "concise", "detailed")
_LOGPROBS = "message.output_text.logprobs"

_READ = frozenset(
    {
        "model",
        "stream",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "max_output_tokens",
        "temperature",
        "top_p",
        "top_logprobs",
        "reasoning",
        "text",
        "user",
        "safety_identifier",
        "metadata",
        "prompt_cache_key",
        "previous_response_id",
        "conversation",
        "background",
        "prompt",
        "truncation",
    }
)
# None of these changes what is answered: what is to be kept or to be told beside the answer,
# how its stream is padded, what a client notes for itself.
_CONSUMED = frozenset({"store", "include", "stream_options", "client_metadata"})


def read_request(request: ResponsesRequest) -> Conversation:
    """
    Return what *request* says.

    :raise InvalidRequest: if a field is malformed, or refers to what is kept at OpenAI.
    """
    body = Node(exact(request.body.text.readable))
    _refuse_stored(body)
    items = Items()
    instructions = body.text("instructions")
    if instructions:
        items.system.append(Text(instructions))
    _read_input(body, items)
    tools, dropped_tools = read_tools(body)
    choice, dropped_choice = read_choice(body, tools)
    metadata = body.object("metadata")
    return Conversation(
        model=request.model,
        streaming=request.streaming,
        turns=tuple(items.turns),
        system=tuple(items.system),
        tools=tools,
        tool_choice=choice,
        parallel=body.flag("parallel_tool_calls"),
        sampling=_sampling(body),
        output=_output(body),
        thinking=_thinking(body),
        user=body.text("safety_identifier") or body.text("user"),
        metadata=None if metadata is None else metadata.members or None,
        cache_key=body.text("prompt_cache_key"),
        action=request.action,
        dropped=merged(_unread(body), items.dropped, dropped_tools, dropped_choice),
    )


def _refuse_stored(body: Node) -> None:
    previous = body.text("previous_response_id")
    if previous:
        raise missing(previous)
    if body.has("conversation"):
        raise _elsewhere("conversation", "Conversations are", "send all their items as input")
    if body.has("prompt"):
        raise _elsewhere("prompt", "Prompt templates are", "send their text as instructions")
    if body.flag("background"):
        raise _elsewhere("background", "Answers in the background are", "ask for a stream")


def _elsewhere(param: str, subject: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(
        f"{subject} kept by OpenAI alone, and this model is asked in another way; {remedy}"
        f" and leave {param} out.",
        code="unsupported_parameter",
        param=param,
    )


def _read_input(body: Node, items: Items) -> None:
    given = body.members.get("input")
    if isinstance(given, str):
        items.turns.append(Turn("user", (Text(given),)))
    elif given is None:
        raise body.wrong("input", "a text or a list of items")
    else:
        for item in body.objects("input"):
            items.take(item)
    if not items.system and not any(_says(part) for turn in items.turns for part in turn.parts):
        raise InvalidRequest(
            "The field input holds nothing that the model can answer; send a text or a list of"
            " items, one of which is a message.",
            code="missing_field",
            param="input",
        )


def _says(part: Part) -> bool:
    return not isinstance(part, Text | Refusal) or part.text != ""


def _sampling(body: Node) -> Sampling:
    most = body.whole("top_logprobs")
    asked = _LOGPROBS in _strings(body, "include")
    return Sampling(
        max_tokens=body.whole("max_output_tokens"),
        temperature=body.real("temperature"),
        top_p=body.real("top_p"),
        logprobs=most or 0 if asked or most else None,
    )


def _thinking(body: Node) -> Thinking | None:
    reasoning = body.object("reasoning")
    if reasoning is None:
        return None
    effort = reasoning.choice("effort", *EFFORTS) or None
    summary = reasoning.choice("summary", *_SUMMARIES)
    summary = summary or reasoning.choice("generate_summary", *_SUMMARIES)
    if effort is None and not summary:
        return None
    return Thinking(effort=effort, shown=True if summary else None)


def _output(body: Node) -> OutputFormat | None:
    text = body.object("text")
    form = None if text is None else text.object("format")
    if form is None:
        return None
    kind = form.choice("type", "text", "json_object", "json_schema")
    if kind == "json_object":
        return OutputFormat()
    if kind != "json_schema":
        return None
    schema = form.object("schema")
    if schema is None:
        raise form.wrong("schema", "a JSON Schema")
    return OutputFormat(
        schema=schema.members,
        name=form.text("name"),
        description=form.text("description"),
        strict=form.flag("strict"),
    )


def _unread(body: Node) -> list[str]:
    """Return codes of what *body* holds and nothing here reads."""
    codes = [code("field", key) for key, value in body.members.items() if not _known(key, value)]
    if body.text("truncation") == "auto":
        codes.append("field:truncation")
    for key, known in (("reasoning", _REASONING), ("text", ("format",))):
        inner = body.object(key)
        if inner is not None:
            codes += [
                code("field", f"{key}.{name}")
                for name, value in inner.members.items()
                if value is not None and name not in known
            ]
    return codes


_REASONING = ("effort", "summary", "generate_summary")


def _known(key: str, value: Any) -> bool:
    return value is None or key in _READ or key in _CONSUMED


def _strings(body: Node, key: str) -> list[str]:
    value = body.members.get(key)
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
