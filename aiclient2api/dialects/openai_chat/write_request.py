"""
Write a request: a conversation as an upstream of this dialect is asked.

Nothing is sent that OpenAI, or the vendor whose model it is, refuses; what had to be left
out is named. It must never know which dialect the conversation was read from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from aiclient2api.conversation.losses import merged
from aiclient2api.conversation.request import (
    Conversation,
    OutputFormat,
    Text,
    Turn,
)
from aiclient2api.conversation.thinking import AUTO, NONE, budget_of, effort_of, is_on
from aiclient2api.conversation.tool_names import PLAIN64, renamed
from aiclient2api.conversation.turns import hoisted, settled
from aiclient2api.dialects import openai_models as models
from aiclient2api.dialects.openai_chat.models import Model, model_of
from aiclient2api.dialects.openai_chat.request import ChatRequest
from aiclient2api.dialects.openai_chat.write_messages import MessagesOut
from aiclient2api.dialects.openai_chat.write_tools import tools_out
from aiclient2api.dialects.openai_schemas import holds_strictly
from aiclient2api.dialects.wire_request import composed
from aiclient2api.errors import InvalidRequest
from aiclient2api.framing.json_text import write

NAME_RULE = PLAIN64
"""What tools may be called."""

_MOST_STOPS = 4
_HOTTEST = 2
_LONGEST_ID = 64
# https://www.alibabacloud.com/help/en/model-studio/deep-thinking
_LARGEST_BUDGET = 38912
# What models nobody knows much about are told: the words that all who know any know.
_EVERYWHERE: Mapping[str, str] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
# What is lost is named unless it was the default.
_DEFAULTS: Mapping[str, float] = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}
_JSON: dict[str, Any] = {"response_format": {"type": "json_object"}}
_ANY_JSON = "Answer with one JSON object."
_THIS_JSON = "Answer with JSON and nothing else. It must be valid for this JSON Schema:\n"


def write_request(conversation: Conversation) -> ChatRequest:
    """
    Return the request for *conversation*.

    :raise InvalidRequest: if nothing is said in it.
    """
    model = model_of(conversation.model)
    asked = renamed(conversation, NAME_RULE)
    position: tuple[str, ...] = ()
    if model.one_system:
        asked, position = hoisted(asked)
    order = settled(asked.turns)
    form, words, unformed = _output(asked, model, order.turns)
    out = MessagesOut(model, asked.traits)
    out.instruct([*asked.system, *words])
    for turn in order.turns:
        out.add(turn)
    if not out.messages:
        raise InvalidRequest(
            "The conversation holds no message, which the Chat Completions API insists on;"
            " send one.",
            code="missing_field",
            param="messages",
        )
    losses = [*position, *order.losses, *out.losses, *unformed]
    if out.messages[-1]["role"] == "assistant":
        # https://platform.moonshot.ai/docs/guide/use-partial-mode-feature-of-kimi-api, which
        # does not go together with a form for the answer.
        if asked.traits.prefill and not form:
            out.messages[-1]["partial"] = True
        else:
            losses.append("prefill")
    document: dict[str, Any] = {"model": asked.model, "messages": out.messages}
    if asked.streaming:
        document["stream"] = True
        if asked.traits.stream_usage:
            document["stream_options"] = {"include_usage": True}
    tools = tools_out(asked, model)
    thinking, unthought = _thinking(asked, model)
    document |= tools.fields | thinking | form
    if asked.streaming and model.streams_calls and "tools" in tools.fields:
        document["tool_stream"] = True
    losses += [*tools.losses, *unthought]
    _sample(asked, model, document, losses)
    _identify(asked, model, document, losses)
    return ChatRequest(
        body=composed(document),
        model=asked.model,
        streaming=asked.streaming,
        action=asked.action,
        losses=merged(asked.dropped, losses),
    )


def _thinking(asked: Conversation, model: Model) -> tuple[dict[str, Any], list[str]]:
    """Return how much to think, said as whoever serves the model wants it said."""
    thinking = asked.thinking
    wanted = None if thinking is None else effort_of(thinking)
    if thinking is None or wanted is None:
        return {}, []
    way = asked.traits.thinking
    if way == "effort":
        return _effort(asked.model, wanted)
    on = is_on(thinking)
    if way == "switch":
        if not on and model.always_thinks:
            return {}, ["thinking"]
        told = {"type": "enabled" if on else "disabled"}
        return {"thinking": told}, ["thinking"] if on and wanted != AUTO else []
    if way == "enable":
        budget = budget_of(thinking) or 0
        # More than they take means as much as there may be, and so does to say nothing.
        limit = {"thinking_budget": budget} if 0 < budget <= _LARGEST_BUDGET else {}
        return {"enable_thinking": on, **limit}, []
    return {}, ["thinking"] if on else []


def _effort(name: str, wanted: str) -> tuple[dict[str, Any], list[str]]:
    known = models.model_of(name)
    if known.efforts == ():
        return {}, ["thinking"] if wanted != NONE else []
    if wanted == AUTO:
        # Where a model would not think unless told to, it is told to.
        needed = known.efforts is not None and NONE in known.efforts
        return {"reasoning_effort": "medium"} if needed else {}, []
    told = _EVERYWHERE.get(wanted)
    if known.efforts is not None and wanted in models.EFFORTS:
        told = known.nearest(wanted)
    return (
        {"reasoning_effort": told} if told is not None else {},
        ["thinking"] if told != wanted else [],
    )


def _sample(asked: Conversation, model: Model, document: dict[str, Any], losses: list[str]) -> None:
    sampling = asked.sampling
    if sampling.max_tokens is not None:
        new = asked.traits.completion_tokens or model.completion_tokens
        document["max_completion_tokens" if new else "max_tokens"] = sampling.max_tokens
    free = models.model_of(asked.model).samples(document.get("reasoning_effort"))
    for name, default in _DEFAULTS.items():
        value = getattr(sampling, name)
        if value is not None and free:
            document[name] = value
        elif value not in (None, default):
            losses.append(name)
    if document.get("temperature", 0) > _HOTTEST:
        document["temperature"] = _HOTTEST
        losses.append("temperature")
    # Models that take no temperature take no stop sequences either.
    stop = sampling.stop[:_MOST_STOPS] if free else ()
    if stop:
        document["stop"] = stop
    if len(stop) < len(sampling.stop):
        losses.append("stop")
    if sampling.seed is not None:
        document["seed"] = sampling.seed
    # A negative one is how some clients say "all of them".
    if sampling.top_k is not None and sampling.top_k >= 0:
        if model.top_k:
            document["top_k"] = sampling.top_k
        else:
            losses.append("top_k")
    if sampling.logprobs is not None:
        # They could be asked for, but nobody would tell the client.
        losses.append("logprobs")


def _output(
    asked: Conversation, model: Model, turns: Sequence[Turn]
) -> tuple[dict[str, Any], list[Text], list[str]]:
    """Return the form of the answer, what has to be said of it in words, and what is lost."""
    output = asked.output
    if output is None:
        return {}, [], []
    if output.schema is None:
        parts = [*asked.system, *(part for turn in turns for part in turn.parts)]
        said = any("json" in part.text.lower() for part in parts if isinstance(part, Text))
        # "'messages' must contain the word 'json' in some form"
        return _JSON, [] if said else [Text(_ANY_JSON)], []
    if not model.schemas:
        words = _THIS_JSON + write(output.schema).decode()
        return _JSON, [Text(words)], ["output_format"]
    schema, losses = _schema(output)
    return {"response_format": {"type": "json_schema", "json_schema": schema}}, [], losses


def _schema(output: OutputFormat) -> tuple[dict[str, Any], list[str]]:
    told: dict[str, Any] = {"name": NAME_RULE.bent(output.name or "answer")}
    if output.description:
        told["description"] = output.description
    told["schema"] = output.schema
    if output.strict and holds_strictly(output.schema):
        told["strict"] = True
    elif output.strict:
        return told, ["strict"]
    return told, []


def _identify(
    asked: Conversation, model: Model, document: dict[str, Any], losses: list[str]
) -> None:
    if asked.user:
        document["user"] = _fitted(asked.user)
    if asked.cache_key and model.cache_key:
        document["prompt_cache_key"] = _fitted(asked.cache_key)
    elif asked.cache_key:
        losses.append("prompt_cache_key")
    if asked.metadata:
        # "The 'metadata' parameter is only allowed when 'store' is enabled."
        losses.append("metadata")


def _fitted(id: str) -> str:
    """Return *id*, or what stands for it as well if it is longer than OpenAI takes."""
    if len(id) <= _LONGEST_ID:
        return id
    return hashlib.sha256(id.encode("utf-8", "replace")).hexdigest()
