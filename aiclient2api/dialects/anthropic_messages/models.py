"""
What each generation of Claude takes, as plain data: it moves with every release.

Anthropic refuses what a model does not take, so a writer has to know. Models of others
that are served in this dialect take what the first of Claude's took. It must never know
what a request asks for.

Sources: https://platform.claude.com/docs/en/build-with-claude/thinking-troubleshooting,
.../build-with-claude/effort, .../models/sonnet-5-5/migration-guide, .../api/errors and
the pages of the models.
"""

from __future__ import annotations

import re
from typing import Any

import attrs

_NAME = re.compile(
    r"claude-(?:(?P<family>[a-z]+)-)?(?:(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?)?"
    r"(?![\d.])(?:-(?P<late>[a-z]+))?"
)
_EFFORTS_4_6 = ("low", "medium", "high", "max")
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


@attrs.frozen
class Model:
    """
    What one model takes.

    :ivar claude: False for a model that merely speaks like one.
    :ivar limit: Most tokens of one answer, None if not known.
    :ivar usual: How many to ask for where the caller did not say.
    :ivar thinks: ``never``, with a ``budget`` of tokens, or in an ``adaptive`` way.
    :ivar efforts: Words for how much to think, if it is adaptive.
    :ivar shows: Whether it can be told to show its thoughts (by default they are hidden).
    :ivar off: How it is told not to think: the word under ``thinking.type``; ``""`` where
        nothing need be said, and None where it cannot be: the least effort must do.
    :ivar sampling: ``both`` temperature and top_p at once, ``one`` of them, or ``none``.
    :ivar forced: Whether it can be made to call a tool.
    :ivar prefill: Whether it goes on with an assistant's turn.
    :ivar formats: Whether its answer can be held to a JSON Schema.
    """

    claude: bool = True
    limit: int | None = None
    usual: int = 32_000
    thinks: str = "budget"
    efforts: tuple[str, ...] = ()
    shows: bool = False
    off: str | None = "disabled"
    sampling: str = "both"
    forced: bool = True
    prefill: bool = True
    formats: bool = True


# 8192 is as much as every known vendor's models take: DeepSeek refuses more.
_OTHERS = Model(claude=False, usual=8192)

_3 = Model(limit=4096, usual=4096, thinks="never", off="", formats=False)
_3_5 = attrs.evolve(_3, limit=8192, usual=8192)
_3_7 = Model(limit=64_000, formats=False)
_4 = _3_7
_4_1 = attrs.evolve(_4, sampling="one", formats=True)
_4_6 = attrs.evolve(_4_1, limit=128_000, thinks="adaptive", efforts=_EFFORTS_4_6, prefill=False)
_4_7 = attrs.evolve(_4_6, efforts=_EFFORTS, shows=True, off="", sampling="none")
_5 = attrs.evolve(_4_7, off="disabled")

_GENERATIONS = (
    ((5, 0), _5),
    ((4, 7), _4_7),
    ((4, 6), _4_6),
    ((4, 1), _4_1),
    ((4, 0), _4),
    ((3, 7), _3_7),
    ((3, 5), _3_5),
    ((0, 0), _3),
)
"""The first version of each, and what it takes; the newest first."""

_ALWAYS: dict[str, Any] = {"off": None}
_UNFORCED: dict[str, Any] = {"forced": False}
_FAMILIES: dict[str, tuple[tuple[tuple[int, int], dict[str, Any]], ...]] = {
    "opus": (((4, 0), {"limit": 32_000}), ((4, 5), {}), ((5, 5), _ALWAYS | _UNFORCED)),
    "sonnet": (((5, 5), _UNFORCED | {"off": "between_tools"}),),
    "fable": (((0, 0), _ALWAYS), ((5, 1), _ALWAYS | _UNFORCED)),
    "mythos": (((0, 0), _ALWAYS), ((5, 1), _ALWAYS | _UNFORCED)),
}
"""Where a family differs from its generation, from which version on; the newest last."""

_UNNUMBERED = {"mythos": (4, 7)}
"""The version of a family's models that have none in their names."""


def goes_on(name: str) -> bool:
    """Say whether the model of that name is known to go on with an assistant's turn."""
    model = model_of(name)
    # Of a model that is not known nobody knows a limit either.
    return model.claude and model.prefill and model.limit is not None


def model_of(name: str) -> Model:
    """Return what the model of that name takes, whoever serves it."""
    found = _NAME.search(name.lower())
    if found is None:
        return _OTHERS
    family = next((f for f in (found["family"], found["late"]) if f in _FAMILIES), "")
    if found["major"] is None:
        version = _UNNUMBERED.get(family)
        if version is None:
            return attrs.evolve(_OTHERS, claude=True)
    else:
        version = int(found["major"]), int(found["minor"] or 0)
    model = next(model for first, model in _GENERATIONS if version >= first)
    changes = [change for first, change in _FAMILIES.get(family, ()) if version >= first]
    return attrs.evolve(model, **changes[-1]) if changes else model
