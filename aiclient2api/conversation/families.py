"""
Which models may see which seals.

A dialect is spoken by more vendors than the one that made it, and a model takes back only
what its own family sealed. A reader knows just the dialect; here the family comes to it, and
goes again before a request is written.
"""

from __future__ import annotations

import attrs

from aiclient2api.conversation.events import Sealed
from aiclient2api.conversation.request import Call, Conversation, Part, Reasoning, Turn
from aiclient2api.conversation.seals import Seal


def issuer(dialect: str, family: str) -> str:
    """
    Return what a seal's issuer is called outside the exchange with it.

    :param family: The model's family; empty for that of whoever made *dialect*.
    """
    return f"{dialect}/{family}" if family else dialect


def leaving(event: Sealed, family: str) -> None:
    """Note in a seal that an upstream gave which family of models it is good with."""
    event.seal = attrs.evolve(event.seal, issuer=issuer(event.seal.issuer, family))


def returning(conversation: Conversation, dialect: str, family: str) -> Conversation:
    """
    Return *conversation* with seals of *family* as *dialect* itself names its issuer.

    Those of the dialect's other families are nobody's whom its writer knows.
    """
    if not family:
        return conversation
    home = issuer(dialect, family)

    def named(seal: Seal) -> Seal:
        if seal.issuer == home:
            return attrs.evolve(seal, issuer=dialect)
        return attrs.evolve(seal, issuer=f"{dialect}/") if seal.issuer == dialect else seal

    def part_of(part: Part) -> Part:
        if isinstance(part, Reasoning | Call) and part.seal is not None:
            return attrs.evolve(part, seal=named(part.seal))
        return part

    turns = tuple(Turn(turn.role, tuple(map(part_of, turn.parts))) for turn in conversation.turns)
    return attrs.evolve(conversation, turns=turns)
