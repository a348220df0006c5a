"""
Gemini: arguments of a call that were streamed, a value or a piece of one at a time.

Google streams them only to those who ask, but what does come must not be lost. It must
never know which call they belong to.
"""

from __future__ import annotations

import re
from typing import Any

from aiclient2api.framing.json_text import write

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d{1,6})\]|\[(?:'([^']*)'|"([^"]*)")\]""")
_VALUES = ("stringValue", "numberValue", "boolValue")
_MOST_STEPS = 64


class PartialArguments:
    """The arguments of one call, as far as they came."""

    def __init__(self) -> None:
        self._root: dict[str, Any] = {}
        self._texts: dict[tuple[str | int, ...], list[str]] = {}

    def take(self, pieces: Any) -> None:
        """Take what stands under ``partialArgs``; what cannot be placed is passed over."""
        for piece in pieces if isinstance(pieces, list) else ():
            path = _path(piece.get("jsonPath")) if isinstance(piece, dict) else ()
            if not path:
                continue
            text = piece.get("stringValue")
            if isinstance(text, str):
                if path not in self._texts:
                    # Its place among the others is that of its first piece.
                    self._put(path, "")
                self._texts.setdefault(path, []).append(text)
            elif piece.get("nullValue") is not None:
                self._put(path, None)
            else:
                found = next((piece[key] for key in _VALUES if piece.get(key) is not None), None)
                if isinstance(found, bool | int | float):
                    self._put(path, found)

    def json(self) -> str:
        """Return the JSON text of the arguments, ``""`` if there are none."""
        for path, pieces in self._texts.items():
            self._put(path, "".join(pieces))
        return write(self._root).decode() if self._root else ""

    def _put(self, path: tuple[str | int, ...], value: Any) -> None:
        at: Any = self._root
        for step, after in zip(path, (*path[1:], None), strict=True):
            if isinstance(step, int):
                # One after the other: nobody is to ask for a million places at once.
                if not isinstance(at, list) or step > len(at):
                    return
                if step == len(at):
                    at.append(None)
            elif not isinstance(at, dict):
                return
            if after is None:
                at[step] = value
                return
            inner = at.get(step) if isinstance(at, dict) else at[step]
            if not isinstance(inner, dict | list):
                inner = [] if isinstance(after, int) else {}
                at[step] = inner
            at = inner


def _path(told: Any) -> tuple[str | int, ...]:
    """Return the steps of a JSON path such as ``$.a.b[0]``, none if it is no such thing."""
    if not isinstance(told, str) or not told.startswith("$"):
        return ()
    steps: list[str | int] = []
    at = 1
    while at < len(told):
        found = _STEP.match(told, at)
        if found is None or len(steps) == _MOST_STEPS:
            return ()
        name, place, *quoted = found.groups()
        if place is not None:
            steps.append(int(place))
        else:
            steps.append(name if name is not None else next(q for q in quoted if q is not None))
        at = found.end()
    return tuple(steps)
