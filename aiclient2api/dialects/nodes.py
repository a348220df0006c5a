"""
The fields of a decoded request, each with its path, for sentences that say where.

It checks forms, and must never know what a field means. Null counts as absent everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import attrs
import msgspec

from aiclient2api.dialects.watching import count
from aiclient2api.dialects.wire_request import wrong
from aiclient2api.errors import InvalidRequest
from aiclient2api.framing.json_text import number

_UPPER = re.compile("[A-Z]")
_LOWER = re.compile("_([a-z])")
# Codes of losses stand in a header.
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")


@attrs.frozen
class Node:
    """
    One object of a request.

    A key that is asked for in camelCase is found in snake_case, too: Google takes both.

    :ivar members: As `aiclient2api.framing.json_text.exact` decoded it.
    :ivar where: Its path, ``""`` for the request itself.
    """

    members: Mapping[str, Any] = attrs.field(repr=False)
    where: str = ""

    def get(self, key: str) -> Any:
        """Return what stands under *key*, of any form; None if nothing does."""
        value = self.members.get(key)
        if value is None and not key.islower():
            value = self.members.get(snake(key))
        return value

    def has(self, key: str) -> bool:
        """Say whether something stands under *key*."""
        return self.get(key) is not None

    def path(self, key: str) -> str:
        """Return the path of *key*, as the client spelt it."""
        if key not in self.members and snake(key) in self.members:
            key = snake(key)
        return f"{self.where}.{key}" if self.where else key

    def keys(self) -> Iterator[str]:
        """Yield the keys, as they are spelt, of what is not null."""
        return (key for key, value in self.members.items() if value is not None)

    def told(self) -> Iterator[str]:
        """Yield the keys, in camelCase, of what is not null."""
        return map(camel, self.keys())

    def wrong(self, key: str, wanted: str) -> InvalidRequest:
        """Return the error that says that *wanted* should stand under *key*."""
        return wrong(self.path(key), kind_of(self.get(key)), wanted)

    def text(self, key: str) -> str:
        """Return a string, ``""`` if there is none."""
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value or ""

    def name(self, key: str) -> str:
        """Return a string that must be there, and not empty."""
        value = self.text(key)
        if not value:
            raise self.wrong(key, "a non-empty string")
        return value

    def choice(self, key: str, *choices: str) -> str:
        """Return one of *choices*, ``""`` if nothing stands there."""
        value = self.text(key)
        if self.has(key) and value not in choices:
            raise InvalidRequest(
                f"The field {self.path(key)} has a value that is not known; send "
                f"{', '.join(choices[:-1])} or {choices[-1]}.",
                code="invalid_value",
                param=self.path(key),
            )
        return value

    def enum(self, key: str, names: Sequence[str]) -> str:
        """Return the name of an enum's value in upper case; *names* tells those of numbers."""
        value = self.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
            return names[value]
        return self.text(key).upper()

    def real(self, key: str) -> float | None:
        """Return a number."""
        value = self.get(key)
        found = number(value)
        if value is not None and found is None:
            raise self.wrong(key, "a number")
        return found

    def whole(self, key: str) -> int | None:
        """Return an integer of at most 63 bits."""
        value = self.get(key)
        found = count(number(value))
        if value is not None and found is None:
            raise self.wrong(key, "an integer")
        return found

    def flag(self, key: str) -> bool | None:
        """Return true or false."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return an array of strings; a string alone is one."""
        value = self.get(key)
        if value is None:
            return ()
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise self.wrong(key, "an array of strings")
        return tuple(found)

    def object(self, key: str) -> Node | None:
        """Return an object."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Node(value, self.path(key))

    def objects(self, key: str) -> Iterator[Node]:
        """Yield the elements of an array of objects; an object alone is one."""
        value = self.get(key)
        if value is None:
            return
        if isinstance(value, dict):
            yield Node(value, self.path(key))
            return
        if not isinstance(value, list):
            raise self.wrong(key, "an array")
        for index, each in enumerate(value):
            where = f"{self.path(key)}[{index}]"
            if not isinstance(each, dict):
                raise wrong(where, kind_of(each), "an object")
            yield Node(each, where)


@lru_cache(maxsize=512)
def snake(key: str) -> str:
    """Return the other spelling of a key in camelCase."""
    return _UPPER.sub(lambda found: "_" + found[0].lower(), key)


def camel(key: str) -> str:
    """Return a key of either spelling in camelCase."""
    return _LOWER.sub(lambda found: found[1].upper(), key) if "_" in key else key


def kind_of(value: Any) -> str:
    """Return the JSON type of a decoded value, ``absent`` for null."""
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float | msgspec.Raw):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def code(family: str, name: str) -> str:
    """Return the loss of what a client calls *name*, fit to stand in a header."""
    return f"{family}:{_UNFIT.sub('_', name[:64]) or '_'}"
