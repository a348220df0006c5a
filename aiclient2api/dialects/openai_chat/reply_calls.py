"""
The calls of an answer, put together from their pieces.

Vendors send id, name and arguments in one chunk or in many, repeat them or leave them
empty, and number the calls or don't. A call is told once its id and its name are known.
It must never know what else the answer holds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import msgspec

from aiclient2api.conversation.arguments import is_object
from aiclient2api.conversation.events import (
    CALL,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Event,
    Sealed,
)
from aiclient2api.conversation.seals import Seal
from aiclient2api.conversation.tools import arguments_of
from aiclient2api.dialects.openai_chat.request import NAME
from aiclient2api.dialects.wire_request import entry
from aiclient2api.framing.json_text import write

_MARKS = re.compile(r'[{}"\\]')


class Function(msgspec.Struct):
    """What is called, and with what; *input* is the free text of a custom tool."""

    name: Any = None
    arguments: Any = None
    input: Any = None


class Piece(msgspec.Struct):
    """A piece of one call, or all of it."""

    index: Any = None
    id: Any = None
    function: Function | None = None
    custom: Function | None = None
    extra_content: Any = None


@attrs.define
class _Call:
    """
    One call.

    :ivar block: Its number among the events, -1 until it is told.
    :ivar pieces: Its arguments; those of a custom tool are told at its end.
    :ivar told: How many of them were told.
    """

    id: str = ""
    name: str = ""
    block: int = -1
    pieces: list[str] = attrs.field(factory=list)
    told: int = 0
    custom: bool = False
    signature: str = ""
    sealed: bool = False
    _end: _End = attrs.field(factory=lambda: _End())

    @property
    def whole(self) -> bool:
        """Whether its arguments are one object, and nothing of it is missing."""
        return self._end.reached(self.pieces)


class _End:
    """
    Where the object ends that the pieces of a call's arguments make.

    Each piece is looked at once, however often it is asked.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._depth = 0
        self._quoted = self._escaped = False
        # Once the braces are even: whether that was an object, and nothing is behind it.
        self._reached: bool | None = None

    def reached(self, pieces: Sequence[str]) -> bool:
        """Say whether *pieces*, to which some may have been added, are one object."""
        while self._seen < len(pieces):
            piece = pieces[self._seen]
            self._seen += 1
            if self._reached is not None:
                self._reached = self._reached and not piece.strip()
            elif self._closes(piece):
                self._reached = is_object("".join(pieces[: self._seen]))
        return self._reached is True

    def _closes(self, piece: str) -> bool:
        passed = 0 if self._escaped else -1
        self._escaped = False
        for mark in _MARKS.finditer(piece):
            at, sign = mark.start(), mark[0]
            if at == passed:
                continue
            if sign == "\\":
                self._escaped = at + 1 == len(piece)
                passed = at + 1
            elif sign == '"':
                self._quoted = not self._quoted
            elif not self._quoted:
                self._depth += 1 if sign == "{" else -1
                if self._depth <= 0:
                    return True
        return False


class Calls:
    """
    Puts together the calls of one answer.

    :param take_index: Returns the number of the next block.
    """

    def __init__(self, take_index: Callable[[], int]) -> None:
        self._take_index = take_index
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}

    @property
    def called(self) -> bool:
        """Whether any call was told."""
        return any(call.block >= 0 for call in self._calls)

    def lacks_name(self, *, wanted: bool) -> bool:
        """
        Say whether a call is left that has no name: nobody could run it.

        :param wanted: The upstream says that it called something.
        """
        nameless = [call for call in self._calls if not call.name]
        if wanted and nameless and not self.called:
            return True
        return any(call.id or call.pieces for call in nameless)

    def take(self, piece: Piece, out: list[Event], *, whole: bool = False) -> None:
        """
        Take a piece of a call; add to *out* what may be told.

        :param whole: It is all of a call.
        """
        function = piece.custom or piece.function
        id, name = _string(piece.id), _string(function.name) if function is not None else ""
        call = _Call() if whole else self._find(piece.index, id, name)
        if whole:
            self._calls.append(call)
        if id and not call.id:
            call.id = id
            self._by_id[id] = call
        call.name = call.name or name
        if function is not None:
            call.custom = call.custom or piece.custom is not None
            given = function.input if piece.custom is not None else function.arguments
            if isinstance(given, dict | list):
                given = write(given).decode()
            if given and isinstance(given, str):
                call.pieces.append(given)
        if piece.extra_content is not None:
            google = entry(piece.extra_content, "google")
            call.signature = call.signature or _string(entry(google, "thought_signature"))
        if call.id and call.name:
            self._tell(call, out)

    def legacy(self, told: Any, answer: str, out: list[Event]) -> None:
        """Take a piece of a ``function_call``, of which there is but one, without an id."""
        if isinstance(told, dict):
            function = Function(told.get("name"), told.get("arguments"))
            self.take(Piece(index=0, id=_made(answer, 0), function=function), out)

    def close(self, answer: str, out: list[Event]) -> None:
        """
        Tell what was held back, and close every call.

        :param answer: The answer's id, from which ids are made where none was given.
        """
        for position, call in enumerate(self._calls):
            if call.name and not call.id:
                call.id = _made(answer, position)
            if not call.name:
                # Nobody could run it, see `lacks_name`.
                continue
            self._tell(call, out)
            if call.custom:
                out.append(ArgumentsDelta(call.block, arguments_of("".join(call.pieces))))
            out.append(BlockClosed(call.block))

    def _find(self, index: Any, id: str, name: str) -> _Call:
        if isinstance(index, int):
            call = self._by_index.get(index)
            # Some give all calls the same number.
            if call is None or _is_other(call, id, name):
                call = self._by_index[index] = self._new()
            return call
        if id:
            return self._by_id.get(id) or self._unnamed() or self._new()
        last = self._calls[-1] if self._calls else None
        if last is None or (name and last.name and last.whole):
            return self._new()
        return last

    def _unnamed(self) -> _Call | None:
        """Return the last call if it still lacks an id."""
        last = self._calls[-1] if self._calls else None
        return last if last is not None and not last.id and not last.pieces else None

    def _new(self) -> _Call:
        call = _Call()
        self._calls.append(call)
        return call

    def _tell(self, call: _Call, out: list[Event]) -> None:
        if call.block < 0:
            call.block = self._take_index()
            out.append(BlockOpened(call.block, CALL, call.id, call.name))
        if call.signature and not call.sealed:
            call.sealed = True
            out.append(Sealed(call.block, Seal(NAME, call.signature)))
        if not call.custom:
            out += [ArgumentsDelta(call.block, text) for text in call.pieces[call.told :]]
            call.told = len(call.pieces)


def _is_other(call: _Call, id: str, name: str) -> bool:
    """Say whether a piece with that id and name is of another call than *call*."""
    if not name:
        return False
    if id and call.id:
        return id != call.id
    return bool(call.name) and name != call.name and call.whole


def _made(answer: str, position: int) -> str:
    digest = hashlib.sha256(f"{answer}\0{position}".encode("utf-8", "replace")).hexdigest()
    return f"call_{digest[:24]}"


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
