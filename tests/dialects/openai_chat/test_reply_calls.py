"""Chat Completions: the calls of an answer, put together from their pieces."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.arguments import is_object
from aiclient2api.conversation.events import (
    Failed,
    Finished,
    Sealed,
    Started,
)
from aiclient2api.conversation.grammar import fold
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.openai_chat import reply_calls
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
        """Nobody could run one: the answer is worth nothing, unless it was cut before the name."""
        named = chunk(**piece(1, id="c2", name="f"))
        for told in (
            [chunk(**piece(id="c1", arguments="{}")), chunk("tool_calls")],
            [chunk(**piece(arguments="{}")), named, chunk("stop")],
            [chunk(**piece()), chunk("tool_calls")],
        ):
            failed = decoded(told)[-1]
            assert isinstance(failed, Failed)
            self.assertEqual((failed.error.status, failed.error.code), (502, "nameless_call"))
        cut = decoded([chunk(**piece(id="c1")), chunk("length")])
        self.assertEqual(cut, [_STARTED, Finished("length")])
        # A piece that says nothing is no call.
        self.assertEqual(decoded([chunk(**piece()), chunk("stop")])[-1], Finished("end"))
        self.assertEqual(
            decoded([chunk(**piece()), named, chunk("stop")])[-1], Finished("tool_use")
        )

    def test_another_name_under_the_same_number(self) -> None:
        """It is another call once the arguments of the one before are whole."""
        told = _calls(
            piece(0, name="f", arguments='{"a"'),
            piece(0, name="f", arguments=":1}"),
            piece(0, name="g", arguments='{"b"'),
            piece(0, arguments=":1}"),
        )
        self.assertEqual([call[1:] for call in told], [("f", '{"a":1}'), ("g", '{"b":1}')])

    def test_where_arguments_end(self) -> None:
        """Braces in a text are no braces, however the pieces are cut."""
        for given in ('{"a":"}"}', '{"a":"\\"}{"}', '{"a":{"b":"\\\\"}}', "{}", ' {"a":[{}]} '):
            for at in range(len(given)):
                told = _calls(
                    piece(None, name="f", arguments=given[:at]),
                    piece(None, name="f", arguments=given[at:]),
                    piece(None, name="f", arguments="{}"),
                )
                # A blank at the end may come alone.
                wanted = [("f", given.rstrip()), ("f", "{}")]
                if given[at:].strip():
                    self.assertEqual([(n, a.rstrip()) for _, n, a in told], wanted, (given, at))

    def test_many_pieces_that_repeat_the_name(self) -> None:
        """Each is looked at once."""
        count = 0

        def looked(text: str) -> bool:
            nonlocal count
            count += len(text)
            return is_object(text)

        self.patch(reply_calls, "is_object", looked)
        pieces = [piece(None, name="f", arguments="abcd}") for _ in range(500)]
        first = piece(None, id="c1", name="f", arguments='{"a":"')
        last = piece(None, name="f", arguments='"}')
        given = '{"a":"' + "abcd}" * 500 + '"}'
        self.assertEqual(_calls(first, *pieces, last, piece(None, name="g"))[0][2], given)
        self.assertEqual(count, len(given))

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
