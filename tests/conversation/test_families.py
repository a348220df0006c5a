"""Seals among vendors that speak one dialect: each goes back to the family that made it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.events import Sealed
from aiclient2api.conversation.families import leaving, returning
from aiclient2api.conversation.request import Call, Conversation, Reasoning, Text, Turn
from aiclient2api.conversation.seals import Seal

NAME = "anthropic-messages"


def _sealed(family: str) -> Seal:
    event = Sealed(0, Seal(NAME, "sig"))
    leaving(event, family)
    return event.seal


def _returned(seal: Seal, family: str) -> list[str]:
    parts = (Text("t"), Reasoning("r", seal), Call("c", "f", "{}", seal=seal), Reasoning("s"))
    asked = Conversation("m", False, (Turn("assistant", parts),))
    told = returning(asked, NAME, family).turns[0].parts
    return [
        part.seal.issuer
        for part in told
        if isinstance(part, Reasoning | Call) and part.seal is not None
    ]


class FamilyTests(SynchronousTestCase):
    """Who is called the issuer where."""

    def test_the_dialects_own(self) -> None:
        """Whoever made the dialect needs no other name."""
        self.assertEqual(_sealed("").issuer, NAME)
        self.assertEqual(_returned(_sealed(""), ""), [NAME, NAME])

    def test_there_and_back(self) -> None:
        """A family's own seal is to its writer like any of the dialect."""
        self.assertEqual(_returned(_sealed("kimi"), "kimi"), [NAME, NAME])

    def test_others(self) -> None:
        """No other family's writer takes it for one."""
        for made, asked in (("kimi", ""), ("kimi", "glm"), ("", "kimi")):
            self.assertNotIn(NAME, _returned(_sealed(made), asked), (made, asked))

    def test_other_dialects(self) -> None:
        """Their seals stay what they were."""
        self.assertEqual(_returned(Seal("gemini", "x"), "kimi"), ["gemini", "gemini"])
