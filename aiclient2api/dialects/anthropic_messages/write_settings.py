"""
Anthropic Messages: how to think and how to choose tokens, as one model will have it.

What a model refuses is not asked of it. It must never know what the conversation says.
"""

from __future__ import annotations

from typing import Any

import attrs

from aiclient2api.conversation.request import Sampling, Thinking
from aiclient2api.conversation.thinking import AUTO, BUDGETS, NONE, budget_of, effort_of
from aiclient2api.dialects.anthropic_messages.models import Model

_LEAST_BUDGET = 1024
_LEAST_TOP_P = 0.95
"""While it thinks, Claude takes no less."""
_NEAREST = {"minimal": "low", "xhigh": "high", "max": "high"}


@attrs.define
class ThinkingOut:
    """
    How much to think.

    :ivar config: What stands under ``thinking``, None for nothing.
    :ivar effort: What stands under ``output_config.effort``, None for nothing.
    :ivar on: Whether thoughts were asked for.
    :ivar losses: Codes of `aiclient2api.conversation.losses`.
    """

    config: dict[str, Any] | None = None
    effort: str | None = None
    on: bool = False
    losses: tuple[str, ...] = ()


def thinking_out(thinking: Thinking | None, model: Model, *, hindered: bool) -> ThinkingOut:
    """
    Return how to ask for *thinking*.

    :param hindered: Whether something else that was asked stands in its way.
    """
    effort = effort_of(thinking) if thinking is not None else None
    if thinking is None or effort is None:
        return ThinkingOut()
    if effort == NONE:
        if model.off is None:
            return ThinkingOut(effort=model.efforts[0], losses=("thinking",))
        return ThinkingOut(config={"type": model.off} if model.off else None)
    if model.thinks == "never" or hindered:
        return ThinkingOut(losses=("thinking",))
    if model.thinks == "adaptive":
        return _adaptive(thinking, effort, model)
    budget = budget_of(thinking)
    if budget is None or budget < 0:
        budget = BUDGETS["high"]
    config = {"type": "enabled", "budget_tokens": max(budget, _LEAST_BUDGET)}
    return ThinkingOut(config, on=True, losses=("thinking",) if budget < _LEAST_BUDGET else ())


def _adaptive(thinking: Thinking, effort: str, model: Model) -> ThinkingOut:
    config = {"type": "adaptive"}
    if thinking.shown is False:
        config["display"] = "omitted"
    elif model.shows:
        # Hidden unless asked for, and clients of other dialects never ask.
        config["display"] = "summarized"
    word = effort if effort in model.efforts else _NEAREST.get(effort)
    exact = effort == AUTO or (word == effort and thinking.effort is not None)
    return ThinkingOut(config, word, True, () if exact else ("thinking",))


def limited(asked: int | None, model: Model, thinking: ThinkingOut) -> tuple[int, tuple[str, ...]]:
    """
    Return the limit of tokens, which counts those spent on thoughts, too.

    A budget that fits into it no other way is lowered in *thinking*.

    :return: And what was changed of what the caller asked.
    """
    losses: list[str] = []
    # Some clients say -1 for "as many as there are".
    tokens = asked if asked is not None and asked >= 0 else model.usual
    if model.limit is not None and tokens > model.limit:
        tokens = model.limit
        losses.append("max_tokens")
    budget = thinking.config.get("budget_tokens") if thinking.config is not None else None
    if thinking.config is None or budget is None or budget < tokens:
        return tokens, tuple(losses)
    if asked is not None and asked >= 0:
        losses.append("max_tokens")
    room = max(tokens, 1)
    if model.limit is not None and budget + room > model.limit:
        room = min(room, model.limit // 2)
        lower = model.limit - room
        if lower < budget:
            budget = lower
            thinking.config["budget_tokens"] = budget
            losses.append("thinking")
    return budget + room, tuple(losses)


def sampling_out(
    sampling: Sampling, model: Model, *, thinks: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields that say how to choose tokens, and what was left out or changed."""
    fields: dict[str, Any] = {}
    losses: list[str] = []
    temperature, top_p, top_k = sampling.temperature, sampling.top_p, sampling.top_k
    free = model.sampling != "none" and not thinks
    if temperature is not None:
        fields["temperature"] = min(max(temperature, 0), 1)
        if fields["temperature"] != temperature:
            losses.append("temperature")
        if not free and fields.pop("temperature") != 1:
            losses.append("temperature")
    if top_p is not None:
        alone = "temperature" not in fields or model.sampling == "both"
        fits = free or (model.sampling != "none" and top_p >= _LEAST_TOP_P)
        if alone and fits:
            fields["top_p"] = top_p
        elif top_p != 1:
            losses.append("top_p")
    # A negative one is how some clients say "all of them".
    if top_k is not None and top_k >= 0:
        if free:
            fields["top_k"] = top_k
        else:
            losses.append("top_k")
    return fields, tuple(losses)
