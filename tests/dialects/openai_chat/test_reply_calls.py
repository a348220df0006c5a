"""Chat Completions: the calls of an answer, put together from their pieces."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.events import (
    Finished,
    Sealed,
    Started,
)
from aiclient2api.conversation.grammar import fold
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.openai_chat.request import NAME
from tests.dialects.openai_chat.judge import chunk, decoded, piece

_STARTED = Started("c1", "m-1", 7)


def _calls(*deltas: dict[str, Any], finish: str = "tool_calls") -> list[tuple[str, str, str]]:
    """Return the id, the name and the arguments of each call that some deltas make."""
    events = decoded([*(chunk(None, **each) for each in deltas), chunk(finish)])
    return [(block.id, block.name, block.text) for block in fold(events).blocks]


class CallTests(SynchronousTestCase):
    """Calls, however a vendor cuts them."""

    def test_a_name_that_comes_late(self) -> None:
        """Nothing is told before id and name are known, and nothing is lost."""
        for deltas in (
            (piece(id="c1"), piece(arguments='{"a"'), piece(name="f"), piece(arguments=":1}")),
            (piece(name="f"), piece(arguments='{"a"'), piece(id="c1", arguments=":1}")),
            (piece(id="", name="f"), piece(id="c1", name=""), piece(arguments='{"a":1}')),
            (
                piece(id="c1", name="f", arguments='{"a"'),
                piece(id="c1", name="f", arguments=":1}"),
            ),
        ):
            self.assertEqual(_calls(*deltas), [("c1", "f", '{"a":1}')], deltas)

    def test_parallel_calls(self) -> None:
        """Their pieces may come in any order."""
        deltas = (
            piece(0, id="c0", name="f"),
            piece(1, id="c1", name="g"),
            piece(0, arguments='{"a":'),
            piece(1, arguments="{}"),
            piece(0, arguments="1}"),
        )
        self.assertEqual(_calls(*deltas), [("c0", "f", '{"a":1}'), ("c1", "g", "{}")])

    def test_calls_without_numbers(self) -> None:
        """Ids tell them apart, or else that the one before is whole."""
        for deltas in (
            (piece(None, id="c0", name="f", arguments="{}"), piece(None, id="c1", name="g")),
            (
                piece(None, id="c0", name="f"),
                piece(None, id="c1", name="g"),
                piece(None, id="c0", arguments="{}"),
            ),
            (piece(0, id="c0", name="f", arguments="{}"), piece(0, id="c1", name="g")),
        ):
            told = _calls(*deltas)
            self.assertEqual(told, [("c0", "f", "{}"), ("c1", "g", "{}")], deltas)
        bare = _calls(
            piece(None, name="f", arguments='{"a"'),
            piece(None, arguments=":1}"),
            piece(None, name="f", arguments="{}"),
        )
        self.assertEqual([call[1:] for call in bare], [("f", '{"a":1}'), ("f", "{}")])

    def test_calls_without_ids(self) -> None:
        """Each is given one, the same whenever the answer is read."""
        deltas = (piece(0, name="f", arguments="{}"), piece(1, name="g"))
        first, second = _calls(*deltas)
        self.assertEqual([first, second], _calls(*deltas))
        self.assertNotEqual(first[0], second[0])
        for call in (first, second):
            self.assertRegex(call[0], "^call_[0-9a-f]{24}$")

    def test_calls_without_a_name(self) -> None:
        """Nobody could run one, so there is none."""
        events = decoded([chunk(**piece(id="c1", arguments="{}")), chunk("tool_calls")])
        self.assertEqual(events, [_STARTED, Finished("end")])

    def test_functions_of_old(self) -> None:
        """They are calls."""
        for finish in ("function_call", "stop"):
            told = _calls(
                {"function_call": {"name": "f", "arguments": '{"a":'}},
                {"function_call": {"arguments": "1}"}},
                finish=finish,
            )
            self.assertEqual([call[1:] for call in told], [("f", '{"a":1}')])
            self.assertTrue(told[0][0])

    def test_tools_with_free_text(self) -> None:
        """The text becomes an argument, once it is whole."""
        first = {"index": 0, "id": "c1", "custom": {"name": "g", "input": 'a"'}}
        second = {"index": 0, "custom": {"input": "b"}}
        told = _calls({"tool_calls": [first]}, {"tool_calls": [second]})
        self.assertEqual(told, [("c1", "g", '{"input":"a\\"b"}')])

    def test_seals(self) -> None:
        """Google's signature belongs to the call, and there is one."""
        extra: dict[str, Any] = {"extra_content": {"google": {"thought_signature": "AAAA"}}}
        events = decoded(
            [
                chunk(**piece(id="c1", **extra)),
                chunk(**piece(name="f", **extra)),
                chunk("tool_calls"),
            ]
        )
        self.assertIn(Sealed(0, Seal(NAME, "AAAA")), events)
        self.assertEqual(fold(events).blocks[0].seal, Seal(NAME, "AAAA"))
