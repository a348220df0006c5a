"""
Names of tools, made fit for upstreams that are particular about them, and back.

The way back needs no memory: both ways follow from the tools that a request offers. It
must never know which dialect asks, only its rule.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

import attrs

from aiclient2api.conversation.losses import merged
from aiclient2api.conversation.request import (
    Call,
    Conversation,
    Part,
    Result,
    Tool,
    ToolChoice,
    Turn,
)


@attrs.frozen
class Rule:
    """
    What a name of a tool may look like.

    :ivar allowed: A character class without its brackets.
    :ivar first: The same for the first character.
    :ivar limit: Characters.
    """

    allowed: str
    first: str
    limit: int = 64

    def fits(self, name: str) -> bool:
        """Say whether *name* obeys."""
        pattern = f"[{self.first}][{self.allowed}]{{0,{self.limit - 1}}}"
        return re.fullmatch(pattern, name) is not None

    def bent(self, name: str) -> str:
        """Return something like *name* that obeys; others may be bent to the same."""
        if self.fits(name):
            return name
        text = re.sub(f"[^{self.allowed}]", "_", name) or "tool"
        if re.match(f"[{self.first}]", text) is None:
            text = "_" + text
        if len(text) <= self.limit:
            return text
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        return f"{text[: self.limit - 13]}_{digest}"


PLAIN64 = Rule("a-zA-Z0-9_-", "a-zA-Z0-9_-")
"""OpenAI's and Anthropic's rule."""
GEMINI = Rule("a-zA-Z0-9_.:-", "a-zA-Z_")
"""Google's: https://ai.google.dev/api/caching#FunctionDeclaration."""

DUPLICATE = "tool:duplicate"
"""The code of a loss: a tool whose very name another has that came before it."""


def fitted(names: Iterable[str], rule: Rule) -> dict[str, str]:
    """
    Return each of *names* to a name that obeys *rule*, no two the same.

    A name that obeys is itself, whoever comes before it.
    """
    wanted = list(dict.fromkeys(names))
    free = _Free((name for name in wanted if rule.fits(name)), rule.limit)
    found: dict[str, str] = {}
    for name in wanted:
        made = rule.bent(name)
        found[name] = made if made == name else free.take(made)
    return found


def known(tools: Iterable[Tool]) -> dict[str, Tool]:
    """
    Return each of *tools* by the name that it is known by wherever there are no namespaces.

    This table is the one for both ways: what an upstream is offered, and what its calls mean.
    A namespace and a tool in it may come to the name of another tool, which then is told from
    it by a number. Of tools with the very same name in the same namespace there is the first.
    """
    several: dict[tuple[str, str], Tool] = {}
    for tool in tools:
        several.setdefault((tool.namespace, tool.name), tool)
    free = _Free(tool.flat_name for tool in several.values())
    found: dict[str, Tool] = {}
    for tool in several.values():
        name = tool.flat_name
        found[name if name not in found else free.take(name)] = tool
    return found


def renamed(conversation: Conversation, rule: Rule) -> Conversation:
    """
    Return *conversation* with every tool's name obeying *rule*: where it is offered, chosen,
    called and answered. Namespaces become part of the names, see `known`; that of two tools of
    one name the first is left is told in ``dropped``.
    """
    names = _names(conversation, rule)

    def fit(name: str) -> str:
        return names.get(name) or rule.bent(name)

    def part_of(part: Part) -> Part:
        if isinstance(part, Call) or (isinstance(part, Result) and part.name):
            return attrs.evolve(part, name=fit(part.name))
        return part

    offered = known(conversation.tools)
    tools = tuple(
        attrs.evolve(tool, name=fit(name), namespace="") for name, tool in offered.items()
    )
    dropped = conversation.dropped
    # Told twice in the same words, a tool is merely told.
    if any(tool not in offered.values() for tool in conversation.tools):
        dropped = merged(dropped, [DUPLICATE])
    choice = conversation.tool_choice
    if choice is not None and choice.allowed:
        choice = ToolChoice(choice.mode, tuple(map(fit, choice.allowed)))
    turns = tuple(Turn(turn.role, tuple(map(part_of, turn.parts))) for turn in conversation.turns)
    return attrs.evolve(conversation, tools=tools, tool_choice=choice, turns=turns, dropped=dropped)


def originals(conversation: Conversation, rule: Rule) -> Mapping[str, str]:
    """Return the names that `renamed` changed, by what they were changed to."""
    names = _names(conversation, rule)
    return {made: name for name, made in names.items() if made != name}


def _names(conversation: Conversation, rule: Rule) -> dict[str, str]:
    called = [
        part.name for turn in conversation.turns for part in turn.parts if isinstance(part, Call)
    ]
    return fitted([*known(conversation.tools), *called], rule)


class _Free:
    """
    Numbers names that are taken.

    :param taken: Names that have to stay as they are.
    :param limit: Characters that a name may have, None for any number.
    """

    def __init__(self, taken: Iterable[str], limit: int | None = None) -> None:
        self._taken = set(taken)
        self._limit = limit
        # Nobody may have to try all numbers again with every tool of thousands.
        self._numbers: dict[str, int] = {}

    def take(self, name: str) -> str:
        """Return *name*, or something like it that was free so far."""
        made, limit = name, self._limit
        stem = name if limit is None else name[: limit - 6]
        while made in self._taken:
            number = self._numbers[stem] = self._numbers.get(stem, 1) + 1
            tail = f"_{number}"
            made = (name if limit is None else name[: limit - len(tail)]) + tail
        self._taken.add(made)
        return made
