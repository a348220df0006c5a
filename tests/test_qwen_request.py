"""
One system message for Qwen's service, whatever a client wrote: nothing is lost, nothing else
changes.
"""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.providers._qwen_request import PLACEHOLDER, fitted, offers_nothing
from aiclient2api.values import Route
from tests.tape import TEXTS, Tape, cases, drawn

MARK = {"type": "ephemeral"}
SYSTEM = ("system", "developer")


@attrs.frozen
class Case:
    """A body, and what is known of it without reading it."""

    body: bytes
    document: dict[str, Any]


def _part(tape: Tape) -> dict[str, Any]:
    part = {"type": "text", "text": tape.pick(TEXTS)}
    return {**part, "cache_control": MARK} if tape.one_in(6) else part


def _message(tape: Tape) -> dict[str, Any]:
    role = tape.pick(("user", "system", "assistant", "developer"))
    kind = tape.number(4)
    content: Any = tape.pick(TEXTS)
    if kind == 1:
        content = tape.several(lambda: _part(tape), 3)
    elif kind == 2:
        content = None
    message = {"role": role, "content": content}
    return {**message, "name": "n"} if tape.one_in(4) else message


def _case(tape: Tape) -> Case:
    document: dict[str, Any] = {"model": "m", "stream": tape.one_in(2)}
    if tape.one_in(3):
        document["tools"] = tape.pick(([], None, [{"type": "function", "function": {"name": "f"}}]))
    document["messages"] = tape.several(lambda: _message(tape), 6)
    document["metadata"] = {"messages": [1.5, "\u2028"]}
    separators = tape.pick(((",", ":"), (", ", ": "), (" ,\n", "\t: ")))
    text = json.dumps(document, ensure_ascii=tape.one_in(2), separators=separators)
    return Case(text.encode(), document)


def _texts(message: dict[str, Any]) -> list[str]:
    content = message["content"]
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or ()]


class FittedTests(SynchronousTestCase):
    """The property, and that it stays so."""

    @given(drawn(_case))
    @cases(400)
    def test_one_system_message(self, case: Case) -> None:
        """It holds all texts in order, stands in front, and everything else is as it was."""
        request = OPENAI_CHAT.parse(body=case.body, route=Route(action="generate"))
        told = json.loads(fitted(request))
        first, *rest = told.pop("messages")
        before = dict(case.document)
        messages = before.pop("messages")
        self.assertEqual(first["role"], "system")
        spoken = [text for each in messages if each["role"] in SYSTEM for text in _texts(each)]
        self.assertEqual([text for text in _texts(first) if text], [t for t in spoken if t])
        self.assertIsInstance(first["content"], list)
        self.assertTrue(first["content"])
        self.assertEqual(rest, [each for each in messages if each["role"] not in SYSTEM])
        marked = str(case.document).count("cache_control")
        self.assertEqual(str([first, *rest]).count("cache_control"), marked or 1)
        offered = told.pop("tools", None)
        if before.pop("tools", None):
            self.assertEqual(offered, case.document["tools"])
            self.assertFalse(offers_nothing(request))
        elif case.document["stream"]:
            self.assertEqual([each["function"]["name"] for each in offered], [PLACEHOLDER])
            self.assertTrue(offers_nothing(request))
        else:
            self.assertIsNone(offered)
            self.assertFalse(offers_nothing(request))
        self.assertEqual(told, before)

    @given(drawn(_case))
    @cases(200)
    def test_once_is_enough(self, case: Case) -> None:
        """What was fitted is fitting: not a byte changes any more."""
        request = OPENAI_CHAT.parse(body=case.body, route=Route(action="generate"))
        once = fitted(request)
        again = OPENAI_CHAT.parse(body=once, route=Route(action="generate"))
        self.assertEqual(fitted(again), once)
