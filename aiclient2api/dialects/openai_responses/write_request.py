"""
Write a request: a conversation as an upstream of this dialect is asked.

Nothing is sent that OpenAI refuses; what had to be left out is named. It must never know
which dialect the conversation was read from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from aiclient2api.conversation.losses import merged
from aiclient2api.conversation.request import Conversation, OutputFormat, Text, Turn
from aiclient2api.conversation.thinking import AUTO, NONE, effort_of
from aiclient2api.conversation.tool_names import PLAIN64, renamed
from aiclient2api.conversation.turns import settled
from aiclient2api.dialects.openai_models import EFFORTS, Model, model_of
from aiclient2api.dialects.openai_responses.request import ResponsesRequest
from aiclient2api.dialects.openai_responses.write_input import Input
from aiclient2api.dialects.openai_responses.write_tools import written_choice, written_tools
from aiclient2api.dialects.openai_schemas import holds_strictly
from aiclient2api.dialects.wire_request import composed
from aiclient2api.errors import InvalidRequest

NAME_RULE = PLAIN64
"""What tools may be called."""

_ENCRYPTED = "reasoning.encrypted_content"
_LEAST_TOKENS = 16
_LONGEST_ID = 64
_UNSAID = ("top_k", "seed", "presence_penalty", "frequency_penalty", "logprobs")


def write_request(conversation: Conversation) -> ResponsesRequest:
    """
    Return the request for *conversation*.

    :raise InvalidRequest: if nothing is said in it.
    """
    asked = renamed(conversation, NAME_RULE)
    order = settled(asked.turns)
    custom = [tool.name for tool in asked.tools if tool.kind == "custom"]
    given = Input(custom, thinks=_model(asked).efforts != ())
    for turn in order.turns:
        given.add(turn)
    losses = [*order.losses, *given.losses]
    if order.turns and _is_prefill(order.turns[-1]):
        losses.append("prefill")
    body: dict[str, Any] = {"model": asked.model, "input": given.items, "store": False}
    if asked.streaming:
        body["stream"] = True
    _instruct(asked, body, losses)
    if not body["input"]:
        raise InvalidRequest(
            "The conversation says nothing, and the Responses API answers no empty input; send a"
            " message.",
            code="missing_field",
            param="input",
        )
    _offer(asked, body, losses)
    _think(asked, body, losses, sealed=given.sealed)
    _sample(asked, body, losses)
    _shape(asked, order.turns, body, losses)
    _identify(asked, body, losses)
    return ResponsesRequest(
        body=composed(body),
        model=asked.model,
        streaming=asked.streaming,
        action=asked.action,
        losses=merged(asked.dropped, losses),
    )


def _instruct(asked: Conversation, body: dict[str, Any], losses: list[str]) -> None:
    text = "\n\n".join(part.text for part in asked.system if part.text)
    if text and body["input"]:
        body["instructions"] = text
    elif text:
        # An input without items is refused.
        body["input"] = [_told(text)]
    if any(part.cache is not None for part in asked.system):
        losses.append("cache_control")


def _offer(asked: Conversation, body: dict[str, Any], losses: list[str]) -> None:
    choice, lost = written_choice(asked)
    losses += lost
    if not asked.tools:
        return
    body["tools"], lost = written_tools(asked.tools)
    losses += lost
    if choice is not None:
        body["tool_choice"] = choice
    if asked.parallel is not None:
        body["parallel_tool_calls"] = asked.parallel


def _think(asked: Conversation, body: dict[str, Any], losses: list[str], *, sealed: bool) -> None:
    model, thinking = _model(asked), asked.thinking
    wanted = None if thinking is None else effort_of(thinking)
    shown = thinking is not None and thinking.shown is True
    effort = _effort(model, wanted)
    if model.efforts == ():
        if wanted not in (None, NONE):
            losses.append("thinking")
        return
    if wanted not in (None, AUTO, effort):
        losses.append("thinking")
    reasoning: dict[str, Any] = {}
    if effort is not None:
        reasoning["effort"] = effort
    if shown and effort != NONE:
        reasoning["summary"] = "auto"
    if reasoning:
        body["reasoning"] = reasoning
    thinks = bool(model.efforts) or wanted is not None or shown
    if sealed or (thinks and effort != NONE):
        # Nothing is stored upstream, so thoughts have to come along with the answer.
        body["include"] = [_ENCRYPTED]


def _effort(model: Model, wanted: str | None) -> str | None:
    if wanted is None:
        return None
    if wanted == AUTO:
        # Where a model would not think unless told to, it is told to.
        return "medium" if model.efforts and NONE in model.efforts else None
    return model.nearest(wanted) if wanted in EFFORTS else None


def _sample(asked: Conversation, body: dict[str, Any], losses: list[str]) -> None:
    sampling = asked.sampling
    if sampling.max_tokens is not None:
        body["max_output_tokens"] = max(sampling.max_tokens, _LEAST_TOKENS)
        if sampling.max_tokens < _LEAST_TOKENS:
            losses.append("max_tokens")
    effort = body.get("reasoning", {}).get("effort")
    takes = _model(asked).samples(effort)
    for name in ("temperature", "top_p"):
        value = getattr(sampling, name)
        if value is not None and takes:
            body[name] = value
        elif value is not None:
            losses.append(name)
    losses += [name for name in _UNSAID if getattr(sampling, name) is not None]
    if sampling.stop:
        losses.append("stop")


def _shape(
    asked: Conversation, turns: tuple[Turn, ...], body: dict[str, Any], losses: list[str]
) -> None:
    output = asked.output
    if output is None:
        return
    if output.schema is not None:
        body["text"] = {"format": _schema(output, losses)}
        return
    body["text"] = {"format": {"type": "json_object"}}
    said = (part.text for turn in turns for part in turn.parts if isinstance(part, Text))
    if not any("json" in text.lower() for text in said):
        # "Response input messages must contain the word 'json' in some form".
        body["input"] = [_told("Answer with one JSON object."), *body["input"]]


def _schema(output: OutputFormat, losses: list[str]) -> dict[str, Any]:
    strict = bool(output.strict) and holds_strictly(output.schema)
    if output.strict and not strict:
        losses.append("strict")
    form: dict[str, Any] = {
        "type": "json_schema",
        "name": NAME_RULE.bent(output.name or "answer"),
        "schema": output.schema,
        "strict": strict,
    }
    if output.description:
        form["description"] = output.description
    return form


def _identify(asked: Conversation, body: dict[str, Any], losses: list[str]) -> None:
    if asked.user:
        body["user"] = _fitted(asked.user)
    if asked.cache_key:
        body["prompt_cache_key"] = _fitted(asked.cache_key)
    if asked.metadata:
        if _fits(asked.metadata):
            body["metadata"] = asked.metadata
        else:
            losses.append("metadata")


def _fitted(id: str) -> str:
    """Return *id*, or what stands for it as well if it is longer than OpenAI takes."""
    if len(id) <= _LONGEST_ID:
        return id
    return hashlib.sha256(id.encode("utf-8", "replace")).hexdigest()


def _fits(metadata: Mapping[str, Any]) -> bool:
    # https://platform.openai.com/docs/api-reference/responses/create#responses-create-metadata
    return len(metadata) <= 16 and all(
        len(key) <= 64 and isinstance(value, str) and len(value) <= 512
        for key, value in metadata.items()
    )


def _told(text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "developer", "content": content}


def _is_prefill(turn: Turn) -> bool:
    return turn.role == "assistant" and isinstance(turn.parts[-1], Text)


def _model(asked: Conversation) -> Model:
    return Model(()) if asked.traits.thinking == NONE else model_of(asked.model)
