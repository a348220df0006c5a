"""
Turns in the order that every upstream insists on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import attrs
from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import (
    Call,
    Conversation,
    Image,
    Inline,
    Part,
    Reasoning,
    Result,
    Text,
    Turn,
)
from aiclient2api.conversation.turns import (
    UNANSWERED,
    called,
    hoisted,
    settled,
    text_of,
    thoughts,
)
from tests.any_conversations import histories
from tests.tape import cases

_IMAGE = Image(Inline("image/png", "AA=="))


def _user(*parts: Part) -> Turn:
    return Turn("user", parts)


def _model(*parts: Part) -> Turn:
    return Turn("assistant", parts)


def _system(*parts: Part) -> Turn:
    return Turn("system", parts)


def _call(id: str, name: str = "f") -> Call:
    return Call(id, name)


def _result(id: str, text: str = "r", name: str = "f") -> Result:
    return Result(id, name, (Text(text),))


class SettledTests(SynchronousTestCase):
    """What clients send, and what upstreams get."""

    def _settles(self, turns: Sequence[Turn], *expected: Turn, losses: Sequence[str] = ()) -> None:
        found = settled(turns)
        self.assertEqual(expected, found.turns)
        self.assertEqual(tuple(losses), found.losses)

    def test_turns_that_are_in_order_stay_as_they_are(self) -> None:
        """A well-written history is not touched."""
        turns = (
            _user(Text("hi")),
            _model(Reasoning("hm"), Text("calling"), _call("1"), _call("2")),
            _user(_result("1"), _result("2"), Text("go on")),
            _model(Text("done")),
        )
        self._settles(turns, *turns)

    def test_neighbours_of_one_role_are_one_turn(self) -> None:
        """Chat clients send a message for every piece."""
        self._settles(
            [_user(Text("a")), _user(Text("b")), _model(Text("c")), _model(_call("1")), _user()],
            _user(Text("a"), Text("b")),
            _model(Text("c"), _call("1")),
            _user(Result("1", "f", (Text(UNANSWERED),), is_error=True)),
            losses=["tool_result"],
        )

    def test_results_come_first_and_in_the_order_of_the_calls(self) -> None:
        """Wherever the client put them."""
        self._settles(
            [
                _model(_call("1"), _call("2")),
                _user(Text("first"), _result("2", "two"), Text("then"), _result("1", "one")),
            ],
            _model(_call("1"), _call("2")),
            _user(_result("1", "one"), _result("2", "two"), Text("first"), Text("then")),
        )

    def test_a_result_finds_its_call_from_afar(self) -> None:
        """A turn in between, or an instruction, does not part the two."""
        self._settles(
            [
                _model(_call("1")),
                _system(Text("s")),
                _user(Text("wait")),
                _model(Text("ok")),
                _user(_result("1")),
            ],
            _model(_call("1")),
            _user(_result("1")),
            _system(Text("s")),
            _user(Text("wait")),
            _model(Text("ok")),
        )

    def test_a_result_that_came_too_early_goes_behind_its_call(self) -> None:
        """Order in the history is the calls' order."""
        self._settles(
            [_user(_result("1")), _model(_call("1"))], _model(_call("1")), _user(_result("1"))
        )

    def test_a_result_is_told_its_tools_name(self) -> None:
        """Gemini wants it, and nobody else tells it."""
        self._settles(
            [_model(_call("1", "weather"), _call("2")), _user(_result("1", name=""), _result("2"))],
            _model(_call("1", "weather"), _call("2")),
            _user(_result("1", name="weather"), _result("2")),
        )
        # A client may get it wrong; the call says whose answer it is.
        self._settles(
            [_model(_call("1", "weather")), _user(_result("1", name="time"))],
            _model(_call("1", "weather")),
            _user(_result("1", name="weather")),
        )

    def test_a_call_without_a_result_is_answered(self) -> None:
        """An upstream refuses the whole conversation otherwise."""
        self._settles(
            [_model(_call("1"), _call("2")), _user(_result("2"))],
            _model(_call("1"), _call("2")),
            _user(Result("1", "f", (Text(UNANSWERED),), is_error=True), _result("2")),
            losses=["tool_result"],
        )

    def test_a_result_without_a_call_is_told_as_text(self) -> None:
        """What a tool said is not lost because the call was cut away; its pictures neither."""
        self._settles(
            [_user(Result("9", "grep", (Text("a"), _IMAGE, Text("b"))), Result("8"), Text("t"))],
            _user(
                Text("The tool grep answered:\na\nb"),
                _IMAGE,
                Text("The tool 8 answered:\n"),
                Text("t"),
            ),
            losses=["tool_result"],
        )

    def test_the_last_of_several_results_counts(self) -> None:
        """As it does for the vendors; that one is left out is told."""
        self._settles(
            [_model(_call("1")), _user(_result("1", "old")), _user(_result("1", "new"))],
            _model(_call("1")),
            _user(_result("1", "new")),
            losses=["tool_result"],
        )

    def test_an_id_that_is_repeated_is_made_anew(self) -> None:
        """Some models count from nought in every answer; an upstream wants ids unique."""
        self._settles(
            [
                _model(Call("c", "f", '{"a":1}')),
                _user(_result("c", "R1")),
                _model(Call("c", "f", '{"a":2}')),
                _user(_result("c", "R2"), Text("go on")),
            ],
            _model(Call("c", "f", '{"a":1}')),
            _user(_result("c", "R1")),
            _model(Call("c_2", "f", '{"a":2}')),
            _user(_result("c_2", "R2"), Text("go on")),
        )

    def test_an_id_made_anew_is_nobody_elses(self) -> None:
        """Whoever else has it, before or after."""
        self._settles(
            [
                _model(_call("c"), _call("c", "g")),
                _user(_result("c", "one"), _result("c", "two", "g"), _result("c_2", "lost")),
                _model(_call("c_3")),
                _user(_result("c_3")),
            ],
            _model(_call("c"), _call("c_2_", "g")),
            _user(
                _result("c", "one"),
                _result("c_2_", "two", "g"),
                Text("The tool f answered:\nlost"),
            ),
            _model(_call("c_3")),
            _user(_result("c_3")),
            losses=["tool_result"],
        )

    def test_a_result_is_that_of_the_nearest_call_without_one(self) -> None:
        """A call that was never answered takes no later call's result."""
        self._settles(
            [_model(_call("c")), _user(Text("t")), _model(_call("c", "g")), _user(_result("c"))],
            _model(_call("c")),
            _user(Result("c", "f", (Text(UNANSWERED),), is_error=True), Text("t")),
            _model(_call("c_2", "g")),
            _user(_result("c_2", name="g")),
            losses=["tool_result"],
        )
        # One too many replaces the last; those that came too early go round in order.
        self._settles(
            [
                _user(_result("c", "1"), _result("c", "2"), _result("c", "3")),
                _model(_call("c"), _result("c", "own"), _call("c"), _call("c")),
            ],
            _model(_call("c"), _call("c_2"), _call("c_3")),
            _user(_result("c", "own"), _result("c_2", "1"), _result("c_3", "3")),
            losses=["tool_result"],
        )

    def test_a_long_history_takes_no_longer_for_each_turn(self) -> None:
        """Joining copies nothing again: a client may send a message for every word."""
        words = [_user(Text("x"))] * 200_000
        self.assertEqual(200_000, len(settled(words).turns[0].parts))

    def test_what_the_wrong_side_says_is_told(self) -> None:
        """A user makes no calls, and a model answers none: neither goes unseen."""
        self._settles(
            [_user(_call("1"), Text("t"), _result("1", "x", "f"))],
            _user(Text("t"), Text("The tool f answered:\nx")),
            losses=["tool_result"],
        )
        self._settles(
            [_model(_call("1"), _result("1"))],
            _model(_call("1")),
            _user(_result("1")),
        )
        self._settles(
            [_model(_result("1"), Text("t"))],
            _model(Text("The tool f answered:\nr"), Text("t")),
            losses=["tool_result"],
        )

    def test_a_turn_without_parts_is_none(self) -> None:
        """Nothing empty is sent."""
        self._settles([_user(), _model(), _user(Text("a"))], _user(Text("a")))

    @cases(250)
    @given(histories())
    def test_any_turns_are_settled(self, turns: tuple[Turn, ...]) -> None:
        """Whatever a client sends, the upstream's rules hold."""
        out = settled(turns).turns
        for turn, after in pairwise(out):
            self.assertNotEqual(turn.role, after.role)
        seen: set[str] = set()
        for at, turn in enumerate(out):
            self.assertTrue(turn.parts)
            calls = called(turn)
            answered = [part for part in turn.parts if isinstance(part, Result)]
            wanted: list[str] = []
            if at and turn.role == "user":
                wanted = [call.id for call in called(out[at - 1])]
            self.assertEqual(wanted, [result.id for result in answered])
            self.assertEqual(answered, list(turn.parts[: len(answered)]))
            self.assertTrue(all(result.name for result in answered))
            if calls:
                self.assertEqual("assistant", turn.role)
                self.assertEqual("user", out[at + 1].role)
            for call in calls:
                self.assertNotIn(call.id, seen)
                seen.add(call.id)

    @cases(120)
    @given(histories())
    def test_what_is_settled_stays_settled(self, turns: tuple[Turn, ...]) -> None:
        """Doing it twice does no more than doing it once."""
        once = settled(turns)
        twice = settled(once.turns)
        self.assertEqual(once.turns, twice.turns)
        self.assertEqual((), twice.losses)

    @cases(120)
    @given(histories())
    def test_nothing_is_lost_unless_it_is_told(self, turns: tuple[Turn, ...]) -> None:
        """Texts, pictures, calls and what tools said: all of it is still there."""
        found = settled(turns)
        before, after = _inventory(turns), _inventory(found.turns)
        if not found.losses:
            self.assertEqual(before, after)
        # What is told as text instead is within a longer text.
        self.assertLessEqual({e for e in before if e[0] == "text"}, after)


def _inventory(turns: Sequence[Turn]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for turn in turns:
        for part in turn.parts:
            if isinstance(part, Result):
                found.add(("result", text_of(part.parts)))
            elif isinstance(part, Call):
                # Ids may change, see above.
                found.add(("call", f"{part.name} {part.arguments}"))
            elif isinstance(part, Text):
                found.add(("text", part.text))
            else:
                found.add(("part", repr(part)))
    return found


class HoistedTests(SynchronousTestCase):
    """For targets that take instructions only at the front."""

    def _conversation(self, *turns: Turn) -> Conversation:
        return Conversation("m", False, turns=turns, system=(Text("S"),))

    def test_instructions_move_to_the_front(self) -> None:
        """In their order, behind those that stand there already; neighbours meet."""
        asked = self._conversation(_user(Text("a")), _system(Text("T")), _user(Text("b")))
        found, losses = hoisted(asked)
        self.assertEqual((Text("S"), Text("T")), found.system)
        self.assertEqual((_user(Text("a"), Text("b")),), found.turns)
        self.assertEqual(("system_position",), losses)

    def test_instructions_at_the_front_move_without_loss(self) -> None:
        """They are where they belong."""
        found, losses = hoisted(self._conversation(_system(Text("T")), _user(Text("a"))))
        self.assertEqual((Text("S"), Text("T")), found.system)
        self.assertEqual((), losses)

    def test_without_any_nothing_moves(self) -> None:
        """The common case."""
        asked = self._conversation(_user(Text("a")), _model(Text("b")))
        self.assertEqual((asked, ()), hoisted(asked))

    @cases(120)
    @given(histories())
    def test_no_instruction_is_left_behind(self, turns: tuple[Turn, ...]) -> None:
        """And settled turns are settled still."""
        asked = attrs.evolve(self._conversation(), turns=settled(turns).turns)
        found, _ = hoisted(asked)
        texts = [p for t in asked.turns if t.role == "system" for p in t.parts]
        self.assertEqual([Text("S"), *(p for p in texts if isinstance(p, Text))], [*found.system])
        self.assertEqual(found.turns, settled(found.turns).turns)
        for turn, after in pairwise(found.turns):
            self.assertNotEqual(turn.role, after.role)


class LookingTests(SynchronousTestCase):
    """What is in a turn."""

    def test_texts_stand_a_line_apart(self) -> None:
        """Pictures between them are passed over."""
        self.assertEqual("a\nb", text_of([Text("a"), _IMAGE, Text("b")]))
        self.assertEqual("", text_of([]))

    def test_calls_and_thoughts_are_found(self) -> None:
        """In their order."""
        turn = _model(Reasoning("x"), _call("1"), Text("t"), _call("2"), Reasoning("y"))
        self.assertEqual([_call("1"), _call("2")], called(turn))
        self.assertEqual([Reasoning("x"), Reasoning("y")], thoughts(turn))
