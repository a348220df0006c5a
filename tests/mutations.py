"""
Ways to break what is well-formed: streams and requests as no healthy peer sends them.

A mutation is chosen by a `tests.tape.Tape`, so that hypothesis and the fuzzer make the same
ones. It must never know a dialect.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from tests.tape import Tape, text, value

_WRONG: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    2**70,
    "",
    "x",
    "\ud83d",
    [],
    [None],
    [[]],
    {},
    {"type": "x"},
    {"type": None},
    "data:image/png;base64,AA==",
    float("nan"),
)
"""What may stand where something else belongs."""
_JUNK = (b"", b"null", b"[]", b"{}", b"0", b'"x"', b"[DONE]", b"{", b'{"type":', b"\xff", b"nope")


def records_of(data: bytes) -> list[bytes]:
    """Return the server-sent events of *data*, blank lines and all."""
    pieces = data.replace(b"\r\n", b"\n").split(b"\n\n")
    return [piece + b"\n\n" for piece in pieces if piece]


def broken_stream(tape: Tape, data: bytes) -> bytes:
    """Return the server-sent events *data* with up to four things wrong."""
    records = records_of(data)
    for _ in range(1 + tape.number(4)):
        if records:
            _break(tape, records)
    return b"".join(records)


def _break(tape: Tape, records: list[bytes]) -> None:
    at = tape.number(len(records))
    kind = tape.number(8)
    if kind == 0:
        del records[at]
    elif kind == 1:
        records.insert(tape.number(len(records) + 1), records[at])
    elif kind == 2:
        other = tape.number(len(records))
        records[at], records[other] = records[other], records[at]
    elif kind == 3:
        records[at] = records[at][: tape.number(len(records[at]) + 1)]
    elif kind == 4:
        name = tape.pick([b"", b"event: error\n", b"event: x\n"])
        records.insert(at, name + b"data: " + tape.pick(_JUNK) + b"\n\n")
    else:
        records[at] = _with_other_json(tape, records[at])


def _with_other_json(tape: Tape, record: bytes) -> bytes:
    head, found, data = record.partition(b"data: ")
    try:
        told = json.loads(data)
    except ValueError:
        return record
    return head + found + encoded(broken_json(tape, told)) + b"\n\n"


def encoded(told: Any) -> bytes:
    """Return *told* as JSON; NaN and lone surrogates as some libraries write them."""
    return json.dumps(told).encode()


def broken_json(tape: Tape, told: Any) -> Any:
    """Return *told* with up to three values of it wrong."""
    # A copy, and nothing that JSON cannot hold.
    told = json.loads(json.dumps(told))
    for _ in range(1 + tape.number(3)):
        places = list(_places(told))
        if not places:
            return tape.pick(_WRONG)
        holder, key = tape.pick(places)
        _CHANGES[tape.number(len(_CHANGES))](tape, holder, key)
    return told


def _places(told: Any) -> list[tuple[Any, Any]]:
    """Return every place in *told*: what holds it, and its key or index."""
    found: list[tuple[Any, Any]] = []
    todo = [told]
    while todo:
        holder = todo.pop()
        keys: list[Any] = []
        if isinstance(holder, dict | list):
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                todo.append(holder[key])
    return found


def _remove(tape: Tape, holder: Any, key: Any) -> None:
    if isinstance(holder, dict) or key < len(holder):
        del holder[key]


def _replace(tape: Tape, holder: Any, key: Any) -> None:
    # A copy: a later change may change it, too.
    holder[key] = deepcopy(tape.pick(_WRONG))


def _wrap(tape: Tape, holder: Any, key: Any) -> None:
    holder[key] = tape.pick([[holder[key]], {"type": holder[key]}, {"text": holder[key]}])


def _rename(tape: Tape, holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        holder[text(tape)] = holder.pop(key)


def _double(tape: Tape, holder: Any, key: Any) -> None:
    if isinstance(holder, list):
        holder.insert(key, json.loads(json.dumps(holder[key])))


def _make_up(tape: Tape, holder: Any, key: Any) -> None:
    holder[key] = value(tape)


_CHANGES: tuple[Callable[[Tape, Any, Any], None], ...] = (
    _replace,
    _replace,
    _replace,
    _remove,
    _wrap,
    _rename,
    _double,
    _make_up,
)
