"""
Choices read from a tape: what the generative tests make their cases of.

hypothesis draws one string of bytes, and everything in a case is chosen by the next of
them. That is an order of magnitude faster than a strategy for each choice, shrinks to the
first of the choices, and a fuzzer can read the same cases from plain random bytes. The
choices themselves are ugly on purpose. It must never know what is made of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

T = TypeVar("T")

LONG = os.environ.get("AICLIENT2API_LONG") == "1"
"""Set it to ``1`` for a run of hours."""
MANY = 200_000
"""Cases of each property in such a run."""

settings.register_profile(
    "proofs",
    deadline=None,
    derandomize=not LONG,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def cases(number: int) -> settings:
    """Return the settings of a property: *number* cases, the same each time, unless `LONG`."""
    profile = settings.get_profile("proofs")
    return settings(profile, max_examples=MANY if LONG else number)


class Tape:
    """Choices, until *raw* is used up; after that it is always the first one."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def number(self, limit: int) -> int:
        """Return a number from 0 up to *limit*, but not *limit*."""
        number, reach = 0, 1
        while reach < limit:
            number = number * 256 + self._byte()
            reach *= 256
        return number % limit

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of *choices*."""
        return choices[self.number(len(choices))]

    def one_in(self, times: int) -> bool:
        """Say yes about once in *times* times."""
        return self.number(times) == times - 1

    def several(self, make: Callable[[], T], most: int) -> list[T]:
        """Return up to *most* of what *make* makes."""
        return [make() for _ in range(self.number(most + 1))]

    def maybe(self, make: Callable[[], T]) -> T | None:
        """Return what *make* makes, or None."""
        return make() if self.number(2) else None

    def _byte(self) -> int:
        self._at += 1
        return self._raw[self._at - 1] if self._at <= len(self._raw) else 0


def drawn(make: Callable[[Tape], T], *, size: int = 256) -> st.SearchStrategy[T]:
    """Return the strategy for what *make* makes of a tape of *size* bytes."""
    return st.binary(min_size=size, max_size=size).map(lambda raw: make(Tape(raw)))


# --- what is chosen -----------------------------------------------------------

TEXTS = (
    "a",
    "hello, world",
    "b ",
    "\n",
    " ",
    "\u2028",
    "\u2029",
    "\0",
    "\x85",
    "\x7f",
    "\r\n\r\n",
    "\n\ndata: [DONE]\n\n",
    "event: error\n",
    '"',
    "\\",
    "\\u0000",
    "\\ud83d",
    "\N{GRINNING FACE}",
    "e\N{COMBINING ACUTE ACCENT}",
    "\ufeff",
    "\ufffd",
    "\U0010ffff",
    "<think>",
    "null",
    "{}",
    "x" * 300,
)
"""What is common, and what has broken a reader of streams somewhere."""
NAMES = ("f", "get_weather", "g", "mcp__a-b__c", "_x9", "n" * 60)
"""Names of tools that every dialect takes as they are."""
IDS = (
    "call_1",
    "toolu_01AbC",
    "functions.f:0",
    "a b",
    "callx_",
    "callx_YQ",
    "x" * 70,
    "\xe9\N{SNOWMAN}",
)
"""Ids of calls: plain ones, and such as only some upstreams give."""
BASE64 = ("c2VhbA==", "AA==", "+/+/", "Q" * 64, "////////", "skip")
ARGUMENTS = (
    "{}",
    '{"a":1}',
    '{"a": "x", "b": [1, 2, {"c": null}]}',
    '{"n":1e400}',
    '{"n":1.10,"m":-0}',
    '{"n":123456789012345678901234567890}',
    '{ "b" : 1 ,\n"a" : [ ] }',
    '{"\\u00e9":"\\ud83d\\ude00"}',
    '{"":""}',
    '{"input":"*** Begin\\n\\u2028"}',
    '{"type":"text","text":"{}"}',
    '{"a":"<>&\'","b":"\\u0000"}',
)
"""JSON texts of objects: spaced or not, escaped or not, of odd numbers."""


def text(tape: Tape) -> str:
    """Return text of any characters that UTF-8 can hold; never empty."""
    if not tape.one_in(6):
        return tape.pick(TEXTS)
    return "".join(tape.several(lambda: _character(tape), 5)) or "?"


def _character(tape: Tape) -> str:
    code = tape.number(0x110000)
    return chr(code if not 0xD800 <= code < 0xE000 else code - 0xD800)


def value(tape: Tape, depth: int = 2) -> Any:
    """Return what JSON can hold, as Python has it."""
    kind = tape.number(8 if depth else 6)
    if kind < 3:
        return tape.pick((None, True, False, 0, 1, -1, 2**53, 0.5, 1e300, "", "type", []))
    if kind < 6:
        return text(tape)
    if kind == 6:
        return tape.several(lambda: value(tape, depth - 1), 3)
    return {text(tape): value(tape, depth - 1) for _ in range(tape.number(4))}


def arguments(tape: Tape) -> str:
    """Return the JSON text of an object."""
    if not tape.one_in(5):
        return tape.pick(ARGUMENTS)
    members = {text(tape): value(tape) for _ in range(tape.number(4))}
    return json.dumps(members, ensure_ascii=tape.one_in(2))
