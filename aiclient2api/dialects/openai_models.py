"""
What each of OpenAI's models takes, as plain data: it moves with every release.

OpenAI refuses what a model does not take, so a writer has to know. Models of others that
are served in OpenAI's dialects are told what was asked. It must never know what that is.

Sources: https://platform.openai.com/docs/guides/reasoning, .../guides/latest-model and
https://community.openai.com/t/1371738, a table measured with the API.
"""

from __future__ import annotations

import re

import attrs

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""All words for how much to think, the least first."""

_THREE = ("low", "medium", "high")
_GENERATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"gpt-[34]|chatgpt|gpt-5-(chat|search)", ()),
    (r"gpt-5\.\d+-chat", ("medium",)),
    (r"gpt-5-pro", ("high",)),
    (r"gpt-5\.\d+-pro", ("medium", "high", "xhigh")),
    (r"gpt-5\.1-codex-max|gpt-5\.[2-9]\d*-codex", (*_THREE, "xhigh")),
    (r"gpt-5(\.1)?-codex|codex|o\d|gpt-oss", _THREE),
    (r"gpt-5\.1(?!\d)", ("none", *_THREE)),
    (r"gpt-5\.\d|gpt-[6-9]", ("none", *_THREE, "xhigh")),
    (r"gpt-5", ("minimal", *_THREE)),
)
"""How a model's name begins, and the efforts it takes; the first that fits counts."""


@attrs.frozen
class Model:
    """
    What one model takes.

    :ivar efforts: How much it can be told to think: not at all if empty; None if not known.
    """

    efforts: tuple[str, ...] | None = None

    def nearest(self, effort: str) -> str | None:
        """Return the least effort it takes that is no less than *effort*, else its greatest."""
        if self.efforts is None:
            return effort
        least = EFFORTS.index(effort)
        enough = (known for known in self.efforts if EFFORTS.index(known) >= least)
        return next(enough, self.efforts[-1] if self.efforts else None)

    def samples(self, effort: str | None) -> bool:
        """Say whether it takes a temperature while it thinks as much as *effort*."""
        if not self.efforts:
            return True
        return "none" in self.efforts and effort in (None, "none")


def model_of(name: str) -> Model:
    """Return what the model of that name takes, whoever serves it."""
    plain = name.lower().rpartition("/")[2]
    for start, efforts in _GENERATIONS:
        if re.match(start, plain):
            return Model(efforts)
    return Model()
