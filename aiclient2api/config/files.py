"""
Configuration files as read: JSON, key by key, with every fault remembered.

It knows files and spellings, but neither what a key means nor which provider it is for.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from aiclient2api.config.flags import FLAGS
from aiclient2api.config.keys import Key, folded, is_comment, names_of, nearest
from aiclient2api.config.values import Given, Place, Wrong, name_shown, path, show, url

T = TypeVar("T")

_DEEPEST = 64
"""No configuration is nested deeper; beyond it, walking a value could fail."""


@attrs.define
class Findings:
    """Everything wrong and everything odd, each once and in order."""

    faults: dict[str, None] = attrs.field(factory=dict)
    warnings: dict[str, None] = attrs.field(factory=dict)
    idle: dict[str, None] = attrs.field(factory=dict)

    def fault(self, sentence: str) -> None:
        """Note something that makes the configuration unusable."""
        self.faults[sentence] = None

    def warn(self, sentence: str) -> None:
        """Note something the operator should look at."""
        self.warnings[sentence] = None


class _Repeated(dict[str, Any]):
    """A JSON object in which a key stood twice."""

    keys_repeated: tuple[str, ...] = ()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    counts = Counter(key for key, _ in pairs)
    repeated = _Repeated(found)
    repeated.keys_repeated = tuple(key for key, count in counts.items() if count > 1)
    return repeated


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number; write a plain one")


def read_object(path: Path, findings: Findings) -> dict[str, Any] | None:
    """
    Read a JSON object from a file that exists.

    :return: The object, or None if it could not be had; the faults are noted.
    """
    name = path.name
    try:
        text = path.read_bytes().decode("utf-8-sig")
        found = json.loads(text, object_pairs_hook=_pairs, parse_constant=_no_constant)
    except OSError as error:
        findings.fault(f"{name}: cannot be read ({error.strerror}); mend {path} or name another")
    except UnicodeDecodeError as error:
        findings.fault(f"{name}: byte {error.start} is not UTF-8; save the file as UTF-8")
    except json.JSONDecodeError as error:
        findings.fault(
            f"{name}: line {error.lineno}, column {error.colno}: is not JSON there"
            f" ({error.msg}); mend {path}"
        )
    except RecursionError:
        findings.fault(f"{name}: is nested too deep; write {_DEEPEST} levels at most")
    except ValueError as error:
        findings.fault(f"{name}: has a number that cannot be used ({str(error)[:60]})")
    else:
        if not isinstance(found, dict):
            findings.fault(f"{name}: is no JSON object; write the keys in braces, {{...}}")
        elif _walkable(found, f"{name}: ", findings):
            return found
    return None


def _walkable(top: dict[str, Any], label: str, findings: Findings) -> bool:
    """Note repeated keys and excessive depth, without recursion; False if too deep."""
    todo: list[tuple[str, Any, int]] = [("", top, 0)]
    while todo:
        where, value, depth = todo.pop()
        if depth > _DEEPEST:
            findings.fault(f"{label}is nested too deep; write {_DEEPEST} levels at most")
            return False
        if isinstance(value, _Repeated):
            for key in value.keys_repeated:
                findings.fault(
                    f"{label}{where}{name_shown(key)} is written twice; keep one of them"
                )
        if isinstance(value, dict):
            todo += [(f"{where}{key[:60]}.", inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            todo += [(f"{where[:-1]}[{n}].", inner, depth + 1) for n, inner in enumerate(value)]
    return True


@attrs.frozen
class Document:
    """
    One object of keys: a file, a part of one, or the command line.

    :ivar prefix: What stands before a key's name in a sentence about it.
    :ivar labels: What to call a key instead, such as ``--port``.
    """

    prefix: str
    place: Place
    values: Mapping[str, Any] = attrs.field(repr=False)
    labels: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    _found: dict[str, list[str]] = attrs.field(init=False, repr=False)

    @_found.default
    def _index(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for spelling, value in self.values.items():
            if value is not None and not is_comment(spelling):
                found.setdefault(folded(spelling), []).append(spelling)
        return found

    def given(self, key: Key[Any], findings: Findings) -> Given | None:
        """Return what stands under *key*, in whichever spelling.

        null counts as nothing, and so does an empty path or URL.
        """
        spelt = [
            spelling
            for name in dict.fromkeys(map(folded, (key.name, *key.also)))
            for spelling in self._found.get(name, ())
        ]
        if not spelt:
            return None
        value = self.values[spelt[0]]
        if value == "" and key.reader in (path, url):
            return None
        where = self.labels.get(spelt[0], f"{self.prefix}{spelt[0]}")
        if any(self.values[other] != value for other in spelt[1:]):
            both = " and ".join(map(json.dumps, spelt))
            findings.fault(f"{where}: is written twice, as {both}; keep one of them")
        return Given(where, value, self.place)

    def strangers(self, known: Sequence[Key[Any]], findings: Findings) -> None:
        """Warn of every key that is not *known*, with the one that was likely meant."""
        taken = {folded(name) for key in known for name in (key.name, *key.also)}
        for spelling in self.values:
            if is_comment(spelling) or folded(spelling) in taken:
                continue
            meant = nearest(spelling, names_of(known))
            hint = f'; did you mean "{meant}"?' if meant else ""
            findings.warn(f"{self.prefix}{name_shown(spelling)} is no key that is known{hint}")


def command_line(flags: Mapping[str, object], place: Place) -> Document:
    """Return the flags as a document; a flag not given (None, or an empty list) is absent."""
    names = {flag.key: flag.name for flag in FLAGS}
    given = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in flags.items()
        if key in names and value is not None and value not in ((), [])
    }
    return Document("", place, given, names)


@attrs.frozen
class Reading:
    """Several documents read as one: what stands in an earlier one wins."""

    documents: tuple[Document, ...]
    findings: Findings

    def given(self, key: Key[Any]) -> Given | None:
        """Return what the user wrote for *key*, or None."""
        for document in self.documents:
            found = document.given(key, self.findings)
            if found is not None:
                return found
        return None

    def take(self, key: Key[T]) -> T:
        """Return the value of *key*; a wrong one is noted, and the default returned."""
        found = self.given(key)
        return key.default if found is None else self.read(found, key, key.default)

    def read(self, given: Given, key: Key[T], default: T) -> T:
        """Read one thing *given* as *key* is read; a wrong one is noted."""
        try:
            return key.reader(given)
        except Wrong as wrong:
            self.findings.fault(f"{given.where}: {wrong}")
            return default

    def part(self, given: Given, known: Sequence[Key[Any]]) -> Reading:
        """Return a reading of the object that *given* holds; anything else is a fault."""
        values = given.value
        if not isinstance(values, dict):
            self.findings.fault(f"{given.where}: is {show(values)}; write an object in braces")
            values = {}
        document = Document(f"{given.where}.", given.place, values)
        document.strangers(known, self.findings)
        return Reading((document,), self.findings)

    def check_later(self, keys: Iterable[Key[Any]]) -> None:
        """Validate keys that have no effect yet, and remember those that are set."""
        for key in keys:
            found = self.given(key)
            if found is not None:
                self.read(found, key, None)
                self.findings.idle[found.where.rpartition(": ")[2]] = None
