"""
Anthropic Messages: a `Conversation` as an upstream is to be asked.

It puts together what the other files write, and says what was lost. It must never know
who asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiclient2api.conversation.losses import merged
from aiclient2api.conversation.request import Call, Conversation, OutputFormat, Sampling
from aiclient2api.conversation.tool_names import PLAIN64, renamed
from aiclient2api.conversation.turns import hoisted, settled
from aiclient2api.dialects.anthropic_messages.models import Model, model_of
from aiclient2api.dialects.anthropic_messages.request import MessagesRequest
from aiclient2api.dialects.anthropic_messages.schemas import answer_schema
from aiclient2api.dialects.anthropic_messages.tool_loop import is_thought, loop_start
from aiclient2api.dialects.anthropic_messages.write_messages import (
    Block,
    Message,
    MessagesOut,
    is_plain,
)
from aiclient2api.dialects.anthropic_messages.write_settings import (
    limited,
    sampling_out,
    thinking_out,
)
from aiclient2api.dialects.anthropic_messages.write_tools import tools_out
from aiclient2api.dialects.wire_request import composed
from aiclient2api.errors import InvalidRequest
from aiclient2api.framing.json_text import write

_FILES_BETA = (b"anthropic-beta", b"files-api-2025-04-14")
_MOST_MARKERS = 4
# https://docs.claude.com/en/api/messages: metadata.user_id
_LONGEST_USER = 256
_GO_ON = "Please go on."
_ANY_JSON = "Answer with one JSON object and nothing else: no prose, no code fence."
_THIS_JSON = (
    "Answer with JSON and nothing else: no prose, no code fence. It must be valid for this"
    " JSON Schema:\n"
)


def write_request(conversation: Conversation) -> MessagesRequest:
    """
    Return *conversation* as a request.

    :raise InvalidRequest: if the user says nothing in it.
    """
    model = model_of(conversation.model)
    named = renamed(conversation, PLAIN64)
    moved, position = hoisted(named)
    order = settled(moved.turns)
    out = MessagesOut(conversation.traits)
    messages = out.messages(order.turns)
    if not messages:
        raise InvalidRequest(
            "The conversation holds no message of the user, which the Messages API insists on;"
            " send one.",
            code="missing_field",
            param="messages",
        )
    prefill = messages[-1]["role"] == "assistant"
    losses = [*position, *order.losses]
    if prefill and not model.prefill:
        prefill = False
        losses.append("prefill")
        messages.append({"role": "user", "content": [{"type": "text", "text": _GO_ON}]})
    tools = tools_out(moved, model, _called(moved))
    # Vendors who want thoughts back are content with any.
    strict = model.thinks == "budget" and not conversation.traits.replays_reasoning
    thinking = thinking_out(
        conversation.thinking,
        model,
        hindered=tools.forced or prefill or (strict and _is_bare(messages)),
    )
    form, said, unsaid = _output(conversation.output, model)
    system = [*out.texts(moved.system), *said]
    losses += (*out.losses, *tools.losses, *thinking.losses, *unsaid)
    losses += _capped([tools.tools, system, *(message["content"] for message in messages)])
    document: dict[str, Any] = {"model": conversation.model}
    counting = conversation.action == "count_tokens"
    tokens, changed = limited(conversation.sampling.max_tokens, model, thinking)
    if not counting:
        losses += changed
        document["max_tokens"] = tokens
    if system:
        document["system"] = system
    document["messages"] = messages
    if tools.tools:
        document["tools"] = tools.tools
    if tools.choice is not None:
        document["tool_choice"] = tools.choice
    if thinking.config is not None:
        document["thinking"] = thinking.config
    config = {"effort": thinking.effort, "format": form}
    if thinking.effort or form:
        document["output_config"] = {key: value for key, value in config.items() if value}
    if not counting:
        fields, missing = _fields(conversation, model, thinks=thinking.on)
        document |= fields
        losses += missing
    return MessagesRequest(
        body=composed(document),
        model=conversation.model,
        streaming=conversation.streaming,
        action=conversation.action,
        headers=(_FILES_BETA,) if out.uploads else (),
        losses=merged(named.dropped, losses),
    )


def _fields(
    conversation: Conversation, model: Model, *, thinks: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return what only a request for an answer has, and what could not be said."""
    sampling = conversation.sampling
    fields, unsaid = sampling_out(sampling, model, thinks=thinks)
    losses = [*unsaid, *_unknown(sampling)]
    stop = [sequence for sequence in sampling.stop if is_plain(sequence)]
    if stop:
        fields["stop_sequences"] = stop
    if len(stop) < len(sampling.stop):
        losses.append("stop")
    if 0 < len(conversation.user) <= _LONGEST_USER:
        fields["metadata"] = {"user_id": conversation.user}
    elif conversation.user:
        losses.append("user")
    if conversation.metadata:
        losses.append("metadata")
    if conversation.cache_key:
        losses.append("prompt_cache_key")
    if conversation.streaming:
        fields["stream"] = True
    return fields, losses


def _unknown(sampling: Sampling) -> Iterable[str]:
    """Return the names of the settings that Anthropic has not; a penalty of 0 is none."""
    if sampling.seed is not None:
        yield "seed"
    if sampling.presence_penalty:
        yield "presence_penalty"
    if sampling.frequency_penalty:
        yield "frequency_penalty"
    if sampling.logprobs is not None:
        yield "logprobs"


def _output(
    output: OutputFormat | None, model: Model
) -> tuple[Block | None, list[Block], tuple[str, ...]]:
    """Return the form of the answer: as Anthropic is told of it, or in words."""
    if output is None:
        return None, [], ()
    if output.schema is None:
        return None, [{"type": "text", "text": _ANY_JSON}], ("json_object",)
    if not model.formats:
        words = _THIS_JSON + write(output.schema).decode()
        return None, [{"type": "text", "text": words}], ("output_format",)
    schema, lost = answer_schema(output.schema)
    return {"type": "json_schema", "schema": schema}, [], lost


def _called(conversation: Conversation) -> list[str]:
    parts = [part for turn in conversation.turns for part in turn.parts]
    return [part.name for part in parts if isinstance(part, Call)]


def _is_bare(messages: list[Message]) -> bool:
    """Say whether a turn is going on that does not begin with a thought; see `tool_loop`."""
    start = loop_start(len(messages), messages.__getitem__)
    return start is not None and not is_thought(messages[start]["content"][0])


def _capped(groups: Iterable[Iterable[Block]]) -> tuple[str, ...]:
    """Take cache markers away until there are no more than are allowed, the first ones first."""
    marked = [
        each
        for blocks in groups
        for block in blocks
        for each in (*_within(block), block)
        if "cache_control" in each
    ]
    surplus = marked[: max(0, len(marked) - _MOST_MARKERS)]
    for block in surplus:
        del block["cache_control"]
    return ("cache_control",) if surplus else ()


def _within(block: Block) -> list[Block]:
    content = block.get("content")
    return content if isinstance(content, list) else []
