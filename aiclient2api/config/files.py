"""
Configuration files as read: JSON, key by key, with every fault remembered.

It knows files and spellings, but neither what a key means nor which provider it is for.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from aiclient2api.config.flags import FLAGS
from aiclient2api.config.key import Key, by_fold, folded, is_comment, names_of, nearest
from aiclient2api.config.values import Given, Place, Wrong, name_shown, path, show, url, webhook

T = TypeVar("T")

_DEEPEST = 64
"""No configuration is nested deeper; beyond it, walking a value could fail."""


_ALIKE = 20
"""So many sentences of one sort are told; a file may have thousands of accounts."""


@attrs.define
class Sentences:
    """Sentences, each once and in order; of many of one sort only the first are told."""

    _seen: set[str] = attrs.field(factory=set)
    _told: list[tuple[str, str]] = attrs.field(factory=list)
    _counts: Counter[str] = attrs.field(factory=Counter)

    def add(self, sentence: str, sort: str | None = None) -> None:
        """
        Add one.

        :param sort: What it has in common with others like it; if None, all but the
            place in a list.
        """
        if sentence in self._seen:
            return
        self._seen.add(sentence)
        sort = re.sub(r"\[[0-9]+\]", "[]", sentence) if sort is None else sort
        self._counts[sort] += 1
        if self._counts[sort] <= _ALIKE:
            self._told.append((sentence, sort))

    def __len__(self) -> int:
        return len(self._seen)

    def __iter__(self) -> Iterator[str]:
        left = Counter(self._counts)
        for sentence, sort in self._told:
            left[sort] -= 1
            more = self._counts[sort] - _ALIKE
            if more > 0 and left[sort] == more:
                sentence = f"{sentence} (and {more} more like it)"
            yield sentence


@attrs.define
class Findings:
    """Everything wrong and everything odd, each once and in order."""

    faults: Sentences = attrs.field(factory=Sentences)
    warnings: Sentences = attrs.field(factory=Sentences)
    idle: dict[str, None] = attrs.field(factory=dict)

    def fault(self, sentence: str, sort: str | None = None) -> None:
        """Note something that makes the configuration unusable."""
        self.faults.add(sentence, sort)

    def warn(self, sentence: str, sort: str | None = None) -> None:
        """Note something the operator should look at."""
        self.warnings.add(sentence, sort)


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


def read_bytes(path: Path, findings: Findings, *, gone: str | None = None) -> bytes | None:
    """
    Read a file.

    :param gone: What to warn of if there is no such file, ``""`` for nothing; None if
        that is a fault like any other.
    :return: None if it could not be had.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        if gone is None or not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            findings.fault(
                f"{path.name}: cannot be read ({error.strerror}); mend {path} or name another"
            )
        elif gone:
            findings.warn(gone)
    return None


def parse_object(path: Path, text: bytes, findings: Findings) -> dict[str, Any] | None:
    """
    Return the JSON object that *text* is.

    :param path: Where the text is from.
    :return: None if it is none; the faults are noted.
    """
    found = _parse(path, text, findings)
    if isinstance(found, dict):
        return found
    if found is not None:
        findings.fault(f"{path.name}: is no JSON object; write the keys in braces, {{...}}")
    return None


def parse_list(path: Path, text: bytes, findings: Findings) -> list[Any] | None:
    """Return the JSON list that *text* is; otherwise as `parse_object`."""
    found = _parse(path, text, findings)
    if isinstance(found, list):
        return found
    if found is not None:
        findings.fault(f"{path.name}: is no JSON list; write what it lists in brackets, [...]")
    return None


def _parse(path: Path, text: bytes, findings: Findings) -> Any:
    """Return what *text* holds, or None and a fault."""
    name = path.name
    try:
        found = json.loads(
            text.decode("utf-8-sig"), object_pairs_hook=_pairs, parse_constant=_no_constant
        )
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
        # What is neither is refused by whoever asked, and null like any other.
        if not isinstance(found, (dict, list)):
            return False
        return found if _walkable(found, f"{name}: ", findings) else None
    return None


def _walkable(top: dict[str, Any] | list[Any], label: str, findings: Findings) -> bool:
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
            for key, item in value.items():
                if isinstance(item, (dict, list)):
                    todo.append((f"{where}{key[:60]}.", item, depth + 1))
        else:
            for at, item in enumerate(value):
                if isinstance(item, (dict, list)):
                    todo.append((f"{where[:-1]}[{at}].", item, depth + 1))
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
        spelt: list[str] = []
        for fold in key.folds:
            if fold in self._found:
                spelt += self._found[fold]
        if not spelt:
            return None
        value = self.values[spelt[0]]
        if value == "" and key.reader in (path, url, webhook):
            return None
        where = self.labels.get(spelt[0], f"{self.prefix}{spelt[0]}")
        if len(spelt) > 1 and any(self.values[other] != value for other in spelt):
            both = " and ".join(map(json.dumps, spelt))
            findings.fault(f"{where}: is written twice, as {both}; keep one of them")
        return Given(where, value, self.place)

    def strangers(self, known: Sequence[Key[Any]], findings: Findings) -> None:
        """Warn of every key that is not *known*, with the one that was likely meant."""
        self.present(by_fold(known), findings)

    def present(self, known: Mapping[str, Key[Any]], findings: Findings) -> list[Key[Any]]:
        """
        Return the keys that are here; warn as `strangers` does.

        :param known: As `by_fold` makes it.
        """
        found = []
        for spelling, value in self.values.items():
            if is_comment(spelling):
                continue
            key = known.get(folded(spelling))
            if key is not None:
                if value is not None:
                    found.append(key)
                continue
            meant = nearest(spelling, names_of(known.values()))
            hint = f'; did you mean "{meant}"?' if meant else ""
            findings.warn(f"{self.prefix}{name_shown(spelling)} is no key that is known{hint}")
        return found


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
