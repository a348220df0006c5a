"""
One configuration key, and when two spellings of a name are the same.

It knows how keys are written, but not which there are: the tables are in `keys`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar

import attrs

from aiclient2api.config import values as read
from aiclient2api.config.values import YEAR, Given, Reader

T = TypeVar("T")


@attrs.frozen
class Key(Generic[T]):
    """
    One configuration key.

    :ivar name: Its name in snake_case.
    :ivar reader: Turns what the user wrote into a value, or raises `Wrong`.
    :ivar default: The value if the user wrote nothing.
    :ivar help: One line for people.
    :ivar also: Other names; the first is the Node version's where that is not simply
        the name in capitals.
    :ivar later: True if it is understood but has no effect yet.
    :ivar folds: What all its spellings have in common, see `folded`.
    """

    name: str
    reader: Reader[T]
    default: T
    help: str
    also: tuple[str, ...] = ()
    later: bool = False
    folds: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)

    @folds.default
    def _fold(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(folded, (self.name, *self.also))))

    @property
    def node(self) -> str:
        """Return the spelling of the Node version."""
        return self.also[0] if self.also else self.name.upper()


# Of thousands of accounts all have the same few keys.
@lru_cache(maxsize=2048)
def folded(spelling: str) -> str:
    """Return what snake_case, UPPER_CASE and camelCase of one name have in common."""
    return spelling.replace("_", "").lower()


def is_comment(spelling: str) -> bool:
    """Say whether a JSON key is a remark, such as ``_comment`` or ``$schema``."""
    return spelling.startswith(("_", "$", "//", "#"))


def nearest(spelling: str, known: Iterable[str]) -> str | None:
    """Return the known name a user most likely meant, in the user's style, or None."""
    return _nearest(spelling[:80], tuple(sorted(known)))


# The same slip may stand in thousands of accounts, and looking for what was meant is slow.
@lru_cache(maxsize=256)
def _nearest(spelling: str, known: tuple[str, ...]) -> str | None:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", spelling).lower()
    lowered = {name.lower(): name for name in known}
    for found in difflib.get_close_matches(snake, lowered, n=1):
        return found.upper() if spelling.isupper() else lowered[found]
    return None


def names_of(keys: Iterable[Key[Any]]) -> list[str]:
    """Return the snake_case names of *keys*."""
    return [key.name for key in keys]


def by_fold(keys: Sequence[Key[Any]]) -> dict[str, Key[Any]]:
    """Return *keys* by what their spellings have in common."""
    return {fold: key for key in keys for fold in key.folds}


def seconds(what: str = "a number of seconds", example: float = 10.0) -> Reader[float]:
    """Return a reader of seconds, fractions allowed."""
    return read.number(high=YEAR, what=what, example=example)


def count(high: int = 1_000_000, example: int = 3) -> Reader[int]:
    """Return a reader of whole numbers from 0."""
    return read.whole(low=0, high=high, what="a whole number", example=example)


def milliseconds(low: int = 0, example: int = 1000) -> Reader[int]:
    """Return a reader of whole milliseconds."""
    what = "a whole number of milliseconds"
    return read.whole(low=low, high=366 * 86_400_000, what=what, example=example)


def anything(given: Given) -> object:
    """Read whatever stands there."""
    return given.value


def later(name: str, reader: Reader[Any], help: str, *also: str) -> Key[Any]:
    """Return a key that is understood but has no effect yet."""
    return Key(name, reader, None, help, also, later=True)
