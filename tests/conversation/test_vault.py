"""
Where seals wait: for the right caller, the right call and the right issuer, and not forever.
"""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.arguments import digest
from aiclient2api.conversation.events import (
    CALL,
    REASONING,
    TEXT,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Event,
    ReasoningDelta,
    Sealed,
    Started,
    TextDelta,
)
from aiclient2api.conversation.request import Call, Conversation, Part, Reasoning, Text, Turn
from aiclient2api.conversation.seals import Seal
from aiclient2api.conversation.vault import Recollection, SealVault, Thought
from tests.event_streams import answers
from tests.tape import cases

_CLAUDE = Seal("anthropic-messages", "sig")
_GOOGLE = Seal("gemini", "c2Vh")


def _recollection(*events: Event) -> Recollection:
    found = Recollection()
    for event in events:
        found.take(event)
    return found


def _thought(index: int, text: str, seal: Seal | None) -> list[Event]:
    sealed: list[Event] = [Sealed(index, seal)] if seal else []
    return [
        BlockOpened(index, REASONING),
        ReasoningDelta(index, text),
        *sealed,
        BlockClosed(index),
    ]


def _call(
    index: int, id: str, seal: Seal | None = None, name: str = "f", told: str = ""
) -> list[Event]:
    sealed: list[Event] = [Sealed(index, seal)] if seal else []
    pieces = [ArgumentsDelta(index, piece) for piece in told]
    return [BlockOpened(index, CALL, id, name), *pieces, *sealed, BlockClosed(index)]


def _led(*parts: Reasoning, seal: Seal | None = None) -> Thought:
    return Thought(parts, seal, "f", digest("{}"))


def _asked(*parts: Part, role: str = "assistant") -> Conversation:
    return Conversation(model="m", streaming=False, turns=(Turn(role, parts),))


class RecollectionTests(SynchronousTestCase):
    """What is kept of an answer."""

    def test_a_sealed_thought_belongs_to_the_call_after_it(self) -> None:
        """Each call has the thoughts since the call before it."""
        found = _recollection(
            *_thought(0, "one", _CLAUDE),
            *_call(1, "a"),
            *_thought(2, "two", _CLAUDE),
            *_call(3, "b"),
        )
        self.assertEqual(
            {
                "a": _led(Reasoning("one", _CLAUDE)),
                "b": _led(Reasoning("two", _CLAUDE)),
            },
            found.thoughts(),
        )

    def test_a_calls_own_seal_is_kept_with_it(self) -> None:
        """Gemini seals calls; its thoughts have no seal of their own."""
        found = _recollection(*_thought(0, "shown", None), *_call(1, "a", _GOOGLE), *_call(2, "b"))
        self.assertEqual({"a": _led(seal=_GOOGLE)}, found.thoughts())

    def test_what_leads_to_no_call_is_not_kept(self) -> None:
        """Texts are not asked back for."""
        found = _recollection(
            Started(),
            *_thought(0, "x", _CLAUDE),
            BlockOpened(1, TEXT),
            TextDelta(1, "hi"),
            Sealed(1, _GOOGLE),
        )
        self.assertEqual({}, found.thoughts())

    def test_the_order_of_blocks_counts_not_of_events(self) -> None:
        """Blocks that are told at the same time stand as they were opened."""
        found = _recollection(
            BlockOpened(0, REASONING),
            BlockOpened(1, CALL, "a", "f"),
            ArgumentsDelta(1, "{}"),
            BlockClosed(1),
            ReasoningDelta(0, "late"),
            Sealed(0, _CLAUDE),
            BlockClosed(0),
        )
        self.assertEqual({"a": _led(Reasoning("late", _CLAUDE))}, found.thoughts())

    def test_a_thought_that_was_never_shown_is_kept(self) -> None:
        """Its seal is all there is of it."""
        hidden = attrs.evolve(_CLAUDE, hidden=True)
        found = _recollection(BlockOpened(0, REASONING), Sealed(0, hidden), *_call(1, "a"))
        self.assertEqual({"a": _led(Reasoning("", hidden))}, found.thoughts())


class SealVaultTests(SynchronousTestCase):
    """What is given back, to whom, and for how long."""

    def setUp(self) -> None:
        self.clock = Clock()

    def _vault(self, **bounds: Any) -> SealVault:
        return SealVault(self.clock.seconds, **bounds)

    def test_a_thought_goes_back_before_its_call(self) -> None:
        """In place of the client's own copy, which has no seal."""
        vault = self._vault()
        vault.keep("me", _recollection(*_thought(0, "deep", _CLAUDE), *_call(1, "a")))
        asked = _asked(Reasoning("deep"), Text("t"), Call("a", "f"), Call("b", "f"))
        restored = vault.restored("me", asked, "anthropic-messages")
        self.assertEqual(
            (Text("t"), Reasoning("deep", _CLAUDE), Call("a", "f"), Call("b", "f")),
            restored.turns[0].parts,
        )

    def test_a_calls_seal_goes_back_to_it(self) -> None:
        """Gemini wants it on the very call."""
        vault = self._vault()
        vault.keep("me", _recollection(*_call(0, "a", _GOOGLE)))
        restored = vault.restored("me", _asked(Call("a", "f")), "gemini")
        self.assertEqual((Call("a", "f", seal=_GOOGLE),), restored.turns[0].parts)

    def test_only_its_issuer_gets_it(self) -> None:
        """A conversation that moves to another vendor takes no seals along."""
        vault = self._vault()
        vault.keep("me", _recollection(*_thought(0, "deep", _CLAUDE), *_call(1, "a", _GOOGLE)))
        asked = _asked(Reasoning("deep"), Call("a", "f"))
        self.assertEqual(asked, vault.restored("me", asked, "openai-responses"))

    def test_only_its_caller_gets_it(self) -> None:
        """Ids may be the same; keys are not."""
        vault = self._vault()
        vault.keep("me", _recollection(*_call(0, "a", _GOOGLE)))
        asked = _asked(Call("a", "f"))
        self.assertEqual(asked, vault.restored("you", asked, "gemini"))

    def test_what_the_client_carried_wins(self) -> None:
        """It knows better what it shows; nothing is told twice."""
        vault = self._vault()
        vault.keep("me", _recollection(*_thought(0, "deep", _CLAUDE), *_call(1, "a", _GOOGLE)))
        own = attrs.evolve(_CLAUDE, value="own")
        asked = _asked(Reasoning("edited", own), Call("a", "f"))
        self.assertEqual(asked, vault.restored("me", asked, "anthropic-messages"))
        sealed = _asked(Call("a", "f", seal=attrs.evolve(_GOOGLE, value="b3du")))
        self.assertEqual(sealed, vault.restored("me", sealed, "gemini"))

    def test_turns_of_the_user_stay_as_they_are(self) -> None:
        """Only what the model said is completed."""
        vault = self._vault()
        vault.keep("me", _recollection(*_call(0, "a", _GOOGLE)))
        asked = _asked(Call("a", "f"), role="user")
        self.assertEqual(asked, vault.restored("me", asked, "gemini"))

    def test_it_is_forgotten_in_time(self) -> None:
        """To the second."""
        vault = self._vault(ttl=10.0)
        vault.keep("me", _recollection(*_call(0, "a", _GOOGLE)))
        asked = _asked(Call("a", "f"))
        self.clock.advance(9.9)
        self.assertNotEqual(asked, vault.restored("me", asked, "gemini"))
        self.clock.advance(0.1)
        self.assertEqual(asked, vault.restored("me", asked, "gemini"))
        self.assertEqual(0, len(vault))

    def test_the_oldest_goes_first(self) -> None:
        """The number of calls is bounded."""
        vault = self._vault(most=2)
        for id in ("a", "b", "a", "c"):
            vault.keep("me", _recollection(*_call(0, id, _GOOGLE)))
        self.assertEqual(2, len(vault))
        lost, kept = _asked(Call("b", "f")), _asked(Call("a", "f"))
        self.assertEqual(lost, vault.restored("me", lost, "gemini"))
        self.assertNotEqual(kept, vault.restored("me", kept, "gemini"))

    def test_what_is_too_big_for_it_is_not_kept(self) -> None:
        """One huge thought does not stay, and does no harm."""
        vault = self._vault(most_bytes=100)
        vault.keep("me", _recollection(*_thought(0, "x" * 101, _CLAUDE), *_call(1, "a")))
        self.assertEqual(0, len(vault))
        vault.keep("me", _recollection(*_call(0, "b", _GOOGLE)))
        self.assertEqual(1, len(vault))

    def test_an_answer_kept_twice_counts_once(self) -> None:
        """A call's thought is replaced, not added to."""
        vault = self._vault(most_bytes=len("c2Vh"))
        for _ in range(3):
            vault.keep("me", _recollection(*_call(0, "a", _GOOGLE)))
        self.assertEqual(1, len(vault))

    def test_a_call_of_another_conversation_gets_nothing(self) -> None:
        """Some models count their calls anew each time: an id alone says little."""
        vault = self._vault()
        told = '{"path": "a", "n": 1.0}'
        vault.keep("me", _recollection(*_thought(0, "A", _CLAUDE), *_call(1, "f:0", told=told)))
        for other in (Call("f:0", "f"), Call("f:0", "f", '{"path":"b"}'), Call("f:0", "g", told)):
            asked = _asked(other)
            self.assertEqual(asked, vault.restored("me", asked, "anthropic-messages"))
        # The client decoded the arguments and wrote them in its own way.
        own = Call("f:0", "f", '{"n":1,"path":"\\u0061"}')
        restored = vault.restored("me", _asked(own), "anthropic-messages")
        self.assertEqual((Reasoning("A", _CLAUDE), own), restored.turns[0].parts)

    def test_a_call_whose_arguments_were_not_told_is_known_by_its_name(self) -> None:
        """That is better than to forget what the model thought."""
        vault = self._vault()
        vault.keep("me", _recollection(BlockOpened(0, CALL, "f:0", "f"), Sealed(0, _GOOGLE)))
        restored = vault.restored("me", _asked(Call("f:0", "f", '{"a":1}')), "gemini")
        self.assertEqual((Call("f:0", "f", '{"a":1}', _GOOGLE),), restored.turns[0].parts)
        asked = _asked(Call("f:0", "g"))
        self.assertEqual(asked, vault.restored("me", asked, "gemini"))

    def test_a_new_call_of_the_id_replaces_the_old_one(self) -> None:
        """Also one that no thought led to."""
        vault = self._vault()
        vault.keep("me", _recollection(*_call(0, "f:0", _GOOGLE)))
        vault.keep("me", _recollection(*_call(0, "f:0")))
        asked = _asked(Call("f:0", "f"))
        self.assertEqual(asked, vault.restored("me", asked, "gemini"))
        self.assertEqual(0, len(vault))

    @cases(75)
    @given(
        st.lists(st.tuples(st.sampled_from(["me", "you"]), answers()), max_size=6),
        st.integers(0, 4),
        st.integers(0, 60),
    )
    def test_it_never_holds_more_than_it_may(
        self, kept: list[tuple[str, list[Event]]], most: int, most_bytes: int
    ) -> None:
        """Whatever answers pass, in number and in size; and any conversation can be asked."""
        vault = SealVault(Clock().seconds, most=most, most_bytes=most_bytes)
        for caller, events in kept:
            recollection = _recollection(*events)
            vault.keep(caller, recollection)
            self.assertLessEqual(len(vault), most)
            calls = recollection.thoughts()
            parts = [p for id in calls for p in _put_back(vault, caller, id, calls[id].name)]
            size = sum(len(p.text) + len(p.seal.value) for p in parts if p.seal is not None)
            self.assertLessEqual(size, most_bytes)


def _put_back(vault: SealVault, caller: str, id: str, name: str) -> list[Reasoning]:
    found: list[Reasoning] = []
    for issuer in ("openai-chat", "openai-responses", "anthropic-messages", "gemini"):
        restored = vault.restored(caller, _asked(Call(id, name)), issuer)
        found += [part for part in restored.turns[0].parts if isinstance(part, Reasoning)]
    return found
