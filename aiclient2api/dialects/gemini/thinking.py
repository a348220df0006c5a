"""
Gemini: how much to think, as each of its models wants to be told.

A generation is told a budget, the next a level, some cannot think or cannot stop, and what a
model does not take it refuses. It must never know what a client's dialect calls any of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs

from aiclient2api.conversation.request import Thinking
from aiclient2api.conversation.thinking import AUTO, BUDGETS, NONE, budget_of, effort_of


@attrs.frozen
class Model:
    """
    What one family of models takes.

    :ivar thinks: Whether it may be told anything of thinking at all.
    :ivar levels: The levels it takes, least first; empty if it takes a budget.
    :ivar least: The smallest budget that makes it think.
    :ivar most: The largest; None if not known.
    :ivar stops: Whether it can be made not to think.
    :ivar json_with_tools: Whether it answers in JSON while it is offered tools.
    """

    thinks: bool = True
    levels: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None
    stops: bool = True
    json_with_tools: bool = True


_OLD = Model(thinks=False, json_with_tools=False)
# https://ai.google.dev/gemini-api/docs/thinking
_MODELS: Sequence[tuple[re.Pattern[str], Model]] = tuple(
    (re.compile(pattern), model)
    for pattern, model in (
        (r"gemini-(1|2\.0)\b.*|gemma-.*|learnlm-.*", _OLD),
        (r"gemini-.*-(image|tts|native-audio|live)\b.*", _OLD),
        (r"gemini-2\.5-flash-lite.*", Model(least=512, most=24576, json_with_tools=False)),
        (r"gemini-2\.5-flash.*", Model(least=1, most=24576, json_with_tools=False)),
        (r"gemini-2\.5-pro.*", Model(least=128, most=32768, stops=False, json_with_tools=False)),
        (
            r"gemini-[3-9](\.\d+)?-flash.*",
            Model(levels=("minimal", "low", "medium", "high"), stops=False),
        ),
        (r"gemini-[3-9](\.\d+)?-pro.*", Model(levels=("low", "high"), stops=False)),
    )
)
_UNKNOWN = Model()


def model_of(name: str) -> Model:
    """Return what the model of that name takes; one that is not known takes anything."""
    plain = name.removeprefix("models/").lower()
    return next((model for pattern, model in _MODELS if pattern.fullmatch(plain)), _UNKNOWN)


def thinking_config(
    thinking: Thinking | None, model: Model, max_tokens: int | None
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """
    Return the ``thinkingConfig`` that says *thinking*, if anything is to be said.

    :param max_tokens: What thoughts and answer may have together, if that was told.
    :return: And ``thinking`` if the model cannot be told so, or not so exactly.
    """
    if thinking is None:
        return None, ()
    effort = effort_of(thinking)
    if not model.thinks:
        lost = effort not in (None, NONE, AUTO) or thinking.shown is True
        return None, ("thinking",) if lost else ()
    config: dict[str, Any] = {}
    exact = True
    if effort is not None:
        if model.levels:
            level, exact = _level(effort, thinking, model)
            config = {"thinkingLevel": level} if level else {}
        else:
            budget, exact = _budget(thinking, model, max_tokens)
            config = {"thinkingBudget": budget}
    # Google refuses to show thoughts that are not thought.
    if thinking.shown is not False and effort != NONE and (effort is not None or thinking.shown):
        config["includeThoughts"] = True
    return config or None, () if exact else ("thinking",)


def _level(effort: str, thinking: Thinking, model: Model) -> tuple[str | None, bool]:
    if effort == AUTO:
        return None, True
    wanted = BUDGETS.get(effort, 0)
    fitting = (level for level in model.levels if BUDGETS[level] >= wanted)
    level = next(fitting, model.levels[-1])
    return level, level == effort and thinking.effort is not None


def _budget(thinking: Thinking, model: Model, max_tokens: int | None) -> tuple[int, bool]:
    wanted = budget_of(thinking)
    if wanted is None or wanted < 0:
        return -1, True
    if wanted == 0 and not model.stops:
        return model.least, False
    budget = wanted
    if wanted > 0:
        if model.most is not None:
            budget = min(budget, model.most)
        if max_tokens is not None:
            # Else the thoughts could take all there is, and no answer would come.
            budget = min(budget, max_tokens * 3 // 4)
        budget = max(budget, model.least)
    return budget, budget == wanted
