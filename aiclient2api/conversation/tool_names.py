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


def fitted(names: Iterable[str], rule: Rule) -> dict[str, str]:
    """
    Return each of *names* to a name that obeys *rule*, no two the same.

    A name that obeys is itself, whoever comes before it.
    """
    wanted = list(dict.fromkeys(names))
    taken = {name for name in wanted if rule.fits(name)}
    found: dict[str, str] = {}
    for name in wanted:
        made = rule.bent(name)
        if made != name:
            made = _free(made, taken, rule)
            taken.add(made)
        found[name] = made
    return found


def renamed(conversation: Conversation, rule: Rule) -> Conversation:
    """
    Return *conversation* with every tool's name obeying *rule*: where it is offered, chosen,
    called and answered. Namespaces become part of the names, and of two tools of one name the
    first is left.
    """
    names = _names(conversation, rule)

    def fit(name: str) -> str:
        return names.get(name) or rule.bent(name)

    def part_of(part: Part) -> Part:
        if isinstance(part, Call) or (isinstance(part, Result) and part.name):
            return attrs.evolve(part, name=fit(part.name))
        return part

    tools: dict[str, Tool] = {}
    for tool in conversation.tools:
        name = fit(tool.flat_name)
        tools.setdefault(name, attrs.evolve(tool, name=name, namespace=""))
    choice = conversation.tool_choice
    if choice is not None and choice.allowed:
        choice = ToolChoice(choice.mode, tuple(map(fit, choice.allowed)))
    turns = tuple(Turn(turn.role, tuple(map(part_of, turn.parts))) for turn in conversation.turns)
    return attrs.evolve(conversation, tools=tuple(tools.values()), tool_choice=choice, turns=turns)


def originals(conversation: Conversation, rule: Rule) -> Mapping[str, str]:
    """Return the names that `renamed` changed, by what they were changed to."""
    names = _names(conversation, rule)
    return {made: name for name, made in names.items() if made != name}


def _names(conversation: Conversation, rule: Rule) -> dict[str, str]:
    offered = [tool.flat_name for tool in conversation.tools]
    called = [
        part.name for turn in conversation.turns for part in turn.parts if isinstance(part, Call)
    ]
    return fitted([*offered, *called], rule)


def _free(name: str, taken: set[str], rule: Rule) -> str:
    made, number = name, 1
    while made in taken:
        number += 1
        tail = f"_{number}"
        made = name[: rule.limit - len(tail)] + tail
    return made
