"""
The text of an accounts' file: one account put in, changed or taken out, the rest as it was.

Pure: a text in, a text out, made of the very bytes the user wrote wherever nothing was
asked for. It knows how accounts are spelled, but neither files nor what a key is for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from aiclient2api.config.key import folded, is_comment
from aiclient2api.config.keys import ACCOUNT_KEYS, KEYS
from aiclient2api.config.values import name_shown, show
from aiclient2api.errors import ConfigurationError, InvalidRequest
from aiclient2api.framing.json_text import BOM, JSONText, Member, check, in_string, quote, read

Identify = Callable[[str, Mapping[str, Any]], Mapping[int, str]]
"""
Told a provider and all that the file holds, returns the derived ids of that provider's
accounts that have no uuid, by their place in the list.
"""

_SHORTEST = 4
"""Fewer characters of an id are taken for no abbreviation of it."""

_SPACE = b" \t\r\n"
_GLOBAL = {key.name for key in KEYS}
_OWN = {folded(key.name): key.name for key in ACCOUNT_KEYS if key.name not in _GLOBAL}
"""Folded to snake_case, of the keys that only accounts have: Node writes these in camelCase."""


@attrs.frozen
class Found:
    """
    One account, as the file has it.

    :ivar index: Its place among its provider's accounts, from 0.
    :ivar id: Its uuid, else the id that is derived, else ``""``.
    """

    index: int
    id: str
    name: str | None


@attrs.frozen
class _Style:
    """What stands between the parts of an object or a list: white space, comma, colon."""

    opening: bytes
    between: bytes
    closing: bytes
    colon: bytes = b": "

    @property
    def airy(self) -> bool:
        return self.colon[-1:] != b":"

    def filled(self, brackets: bytes, items: Sequence[bytes]) -> bytes:
        if not items:
            return brackets
        inner = self.between.join(items)
        return b"".join((brackets[:1], self.opening, inner, self.closing, brackets[1:]))

    def member(self, key: str, value: bytes) -> bytes:
        return quote(key) + self.colon + value


def chosen(
    which: str,
    accounts: Sequence[tuple[str, str | None]],
    provider: str,
    *,
    numbered: bool = True,
) -> int:
    """
    Return the place of the account that is meant.

    :param which: An id, else a name, else the first characters of an id or, if they are
        *numbered*, a place from 0.
    :param accounts: The id and the name of each.
    :raise InvalidRequest: if there is none, or several.
    """
    found = [at for at, (id, _) in enumerate(accounts) if id and id == which]
    found = found or [at for at, (_, name) in enumerate(accounts) if name and name == which]
    if not found:
        start = which.casefold()
        found = [
            at
            for at, (id, _) in enumerate(accounts)
            if (len(which) >= _SHORTEST and id.casefold().startswith(start))
            or (numbered and which == str(at))
        ]
    if len(found) == 1:
        return found[0]
    if found:
        told = ", ".join(_called(at, *accounts[at]) for at in found[:5])
        raise InvalidRequest(
            f"{name_shown(which)} fits {len(found)} accounts of {provider} ({told}); write the"
            " whole uuid" + (", or its place in the list, from 0." if numbered else "."),
            code="ambiguous_account",
        )
    raise InvalidRequest(
        f"{provider} has no account {show(which)}; write its uuid or the first characters of it,"
        " or its customName" + (", or its place in the list, from 0." if numbered else "."),
        code="unknown_account",
    )


def _called(at: int, id: str, name: str | None) -> str:
    return f"[{at}] {name_shown(name or id)}"


@attrs.frozen
class PoolsText:
    """
    A text that is known to be one JSON object in UTF-8.

    :ivar label: The file's name, for sentences.
    """

    label: str
    bom: bytes
    text: JSONText

    @classmethod
    def of(cls, content: bytes, label: str) -> PoolsText:
        """
        Take *content* for what it is.

        :raise ConfigurationError: if it is no JSON object.
        """
        bom = BOM if content.startswith(BOM) else b""
        raw = content[len(bom) :]
        try:
            return cls(label, bom, check(raw))
        except InvalidRequest:
            why = f"{label}: {_why_not(raw)}; mend it first, nothing was changed"
            raise ConfigurationError([why]) from None

    @property
    def content(self) -> bytes:
        """The text as a file's content."""
        return self.bom + self.text.raw

    def values(self) -> dict[str, Any]:
        """Return all that it holds, decoded."""
        return _object(read(self.text.readable))

    # --- finding --------------------------------------------------------------

    def find(self, provider: str, which: str, identify: Identify | None) -> Found:
        """
        Return one account.

        :param which: As in `chosen`.
        :param identify: Asked only if an account has no uuid.
        :raise InvalidRequest: if there is none, or several.
        :raise ConfigurationError: if the provider's accounts are no list.
        """
        entries = [_object(self._read(at)) for at in self._accounts(provider)]
        ids = [_text(entry, "uuid") for entry in entries]
        if identify is not None and not all(ids):
            derived = identify(provider, self.values())
            ids = [id or derived.get(at, "") for at, id in enumerate(ids)]
        names = [_text(entry, "customname") or None for entry in entries]
        index = chosen(which, list(zip(ids, names, strict=True)), provider)
        return Found(index, ids[index], names[index])

    def ids(self, provider: str) -> list[str]:
        """Return the uuid of each account of *provider*, ``""`` where there is none."""
        return [_text(_object(self._read(at)), "uuid") for at in self._accounts(provider)]

    def _read(self, span: tuple[int, int]) -> Any:
        return read(self.text.readable[span[0] : span[1]])

    def _members(self, start: int, where: str) -> list[Member]:
        try:
            return self.text.members(start)
        except InvalidRequest:
            raise ConfigurationError([f"{where}: has too many keys to be edited here"]) from None

    def _elements(self, start: int, where: str) -> list[tuple[int, int]]:
        try:
            return self.text.elements(start)
        except InvalidRequest:
            told = f"{where}: has too many accounts to be edited here"
            raise ConfigurationError([told]) from None

    def _pool(self, provider: str) -> Member | None:
        """Return the member that holds the accounts of *provider*."""
        members = self._members(self.text.start, self.label)
        found = [member for member in members if member.key == provider]
        if len(found) > 1:
            raise ConfigurationError(
                [f"{self.label}: {name_shown(provider)} is written twice; keep one of them"]
            )
        if found and self.text.raw[found[0].start : found[0].end] != b"null":
            value = self._read((found[0].start, found[0].end))
            if not isinstance(value, list):
                raise ConfigurationError(
                    [
                        f"{self.label}: {provider}: is {show(value)}; write a list of accounts"
                        " in brackets first, nothing was changed"
                    ]
                )
        return found[0] if found else None

    def _accounts(self, provider: str) -> list[tuple[int, int]]:
        pool = self._pool(provider)
        if pool is None or self.text.raw[pool.start] != ord("["):
            return []
        return self._elements(pool.start, f"{self.label}: {provider}")

    # --- editing --------------------------------------------------------------

    def added(self, provider: str, entry: Mapping[str, Any]) -> PoolsText:
        """
        Return the text with an account more, the last of *provider*.

        It is set as its neighbours are, and spelled like them.

        :raise ConfigurationError: if the provider's accounts are no list.
        :raise InvalidRequest: if JSON cannot hold *entry*.
        """
        pool, accounts = self._pool(provider), self._accounts(provider)
        models = list(self._models(provider))
        style = next((self._style(*span) for span in models), self._usual(2))
        spelled = self._spellings(models)
        items = [
            style.member(_spelling(key, spelled), _value(value, style.airy))
            for key, value in entry.items()
        ]
        account = style.filled(b"{}", items)
        if pool is not None and accounts:
            between = self._style(pool.start, pool.end).between
            return self._spliced(accounts[-1][1], accounts[-1][1], between + account)
        listing = self._list_style().filled(b"[]", [account])
        if pool is not None:
            return self._spliced(pool.start, pool.end, listing)
        start, end = self._whole()
        top = self._style(start, end)
        return self._inserted(start, end, top.member(provider, listing))

    def changed(self, provider: str, index: int, changes: Mapping[str, Any]) -> PoolsText:
        """
        Return the text with some keys of one account set; None takes a key away.

        A key that stands there in whichever spelling keeps it, and what is so already
        keeps its bytes.

        :raise InvalidRequest: if the account is no object, or JSON cannot hold a value.
        :raise ConfigurationError: if a key that is to change is written twice.
        """
        edited = self
        for key, value in changes.items():
            edited = edited._set(provider, index, key, value)
        return edited

    def removed(self, provider: str, index: int) -> PoolsText:
        """Return the text without one account; a provider's empty list stays."""
        pool = self._pool(provider)
        assert pool is not None, "an account of no provider"
        return self._without(pool.start, pool.end, self._accounts(provider), index)

    def _set(self, provider: str, index: int, key: str, value: Any) -> PoolsText:
        start, end = self._accounts(provider)[index]
        where = f"{self.label}: {provider}[{index}]"
        if self.text.raw[start] != ord("{"):
            raise InvalidRequest(
                f"{where} is no account; write one in braces.", code="no_account", param=key
            )
        members = self._members(start, where)
        here = [member for member in members if _same(member.key, key)]
        if len(here) > 1:
            both = " and ".join(name_shown(member.key) for member in here)
            raise ConfigurationError([f"{where}: is written twice, as {both}; keep one of them"])
        if value is None:
            if not here:
                return self
            spans = [(member.key_start, member.end) for member in members]
            return self._without(start, end, spans, members.index(here[0]))
        style = self._style(start, end) if members else self._model_style(provider)
        new = _value(value, style.airy)
        if here:
            if _alike(self._read((here[0].start, here[0].end)), value):
                return self
            return self._spliced(here[0].start, here[0].end, new)
        spelled = self._spellings([(start, end), *self._models(provider)])
        return self._inserted(start, end, style.member(_spelling(key, spelled), new), style)

    def _inserted(
        self, start: int, end: int, item: bytes, style: _Style | None = None
    ) -> PoolsText:
        """Return the text with a member more in the object from *start* to *end*."""
        style = style or self._style(start, end)
        members = self._members(start, self.label)
        if members:
            return self._spliced(members[-1].end, members[-1].end, style.between + item)
        return self._spliced(start, end, style.filled(b"{}", [item]))

    def _without(
        self, start: int, end: int, spans: Sequence[tuple[int, int]], index: int
    ) -> PoolsText:
        """Return the text without one of the items of what stands from *start* to *end*."""
        if len(spans) == 1:
            return self._spliced(start + 1, end - 1, b"")
        if index == 0:
            return self._spliced(spans[0][0], spans[1][0], b"")
        return self._spliced(spans[index - 1][1], spans[index][1], b"")

    def _spliced(self, start: int, end: int, new: bytes) -> PoolsText:
        return attrs.evolve(self, text=self.text.spliced([(start, end, new)]))

    # --- how it is set --------------------------------------------------------

    def _whole(self) -> tuple[int, int]:
        return self.text.start, len(self.text.raw.rstrip(_SPACE))

    def _style(self, start: int, end: int) -> _Style:
        """Return how the object or list is set that stands from *start* to *end*."""
        raw = self.text.raw
        if raw[start] == ord("["):
            spans, colon = self._elements(start, self.label), b": "
        else:
            members = self._members(start, self.label)
            spans = [(member.key_start, member.end) for member in members]
            colon = self._colon(members[-1]) if members else b": "
        if not spans:
            return self._usual(0 if start == self.text.start else 2)
        opening = raw[start + 1 : spans[0][0]]
        if len(spans) > 1:
            between = raw[spans[-2][1] : spans[-1][0]]
        elif b"\n" in opening:
            between = b"," + opening
        else:
            between = b", " if colon[-1:] != b":" else b","
        return _Style(opening, between, raw[spans[-1][1] : end - 1], colon)

    def _colon(self, member: Member) -> bytes:
        key_end = in_string(self.text.raw, member.key_start + 1) + 1
        return self.text.raw[key_end : member.start]

    def _usual(self, depth: int) -> _Style:
        """Return how something so deep is set, judging by the outermost object."""
        raw, start = self.text.raw, self.text.start
        members = self._members(start, self.label)
        opening = raw[start + 1 : members[0].key_start] if members else b"\n  "
        colon = self._colon(members[-1]) if members else b": "
        if b"\n" not in opening:
            space = b"" if colon[-1:] == b":" else b" "
            return _Style(b"", b"," + space, b"", colon)
        newline = b"\r\n" if b"\r\n" in raw else b"\n"
        unit = opening.rpartition(b"\n")[2] or b"  "
        inner = newline + unit * (depth + 1)
        return _Style(inner, b"," + inner, inner[: -len(unit)], colon)

    def _model_style(self, provider: str) -> _Style:
        return next((self._style(*span) for span in self._models(provider)), self._usual(2))

    def _list_style(self) -> _Style:
        for member in reversed(self._members(self.text.start, self.label)):
            if self.text.raw[member.start] == ord("[") and self._elements(member.start, self.label):
                return self._style(member.start, member.end)
        return self._usual(1)

    def _models(self, provider: str) -> Iterator[tuple[int, int]]:
        """Yield accounts to take after: the last of *provider*, then the last of others."""
        members = self._members(self.text.start, self.label)
        members.sort(key=lambda member: member.key != provider)
        for member in members:
            if self.text.raw[member.start] != ord("["):
                continue
            spans = self._elements(member.start, self.label)
            for start, end in reversed(spans[-5:]):
                if self.text.raw[start] == ord("{") and self._members(start, self.label):
                    yield start, end

    def _spellings(self, spans: Sequence[tuple[int, int]]) -> list[str]:
        """Return the keys of some accounts as they are written."""
        found = [member.key for start, _ in spans for member in self._members(start, self.label)]
        return [key for key in dict.fromkeys(found) if not is_comment(key)]


def _why_not(raw: bytes) -> str:
    try:
        found = json.loads(raw.decode())
    except UnicodeDecodeError as error:
        return f"byte {error.start} is not UTF-8"
    except json.JSONDecodeError as error:
        return f"line {error.lineno}, column {error.colno}: is not JSON there ({error.msg})"
    except (ValueError, RecursionError):
        return "is not JSON that can be read"
    if not isinstance(found, dict):
        return "is no JSON object"
    return "holds what is no plain JSON, such as NaN"


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(entry: Mapping[str, Any], fold: str) -> str:
    for key, value in entry.items():
        if not is_comment(key) and folded(key) == fold and isinstance(value, str | int | float):
            return str(value).strip()
    return ""


def _same(here: str, key: str) -> bool:
    if is_comment(here) or is_comment(key):
        return here == key
    return folded(here) == folded(key)


def _spelling(key: str, seen: Sequence[str]) -> str:
    """Return how *key* is written where the keys *seen* are."""
    for spelling in seen:
        if _same(spelling, key):
            return spelling
    own = _OWN.get(folded(key)) if not is_comment(key) else None
    snake = any("_" in spelling and spelling.islower() for spelling in seen)
    if own is not None:
        if snake:
            return own
        first, *rest = own.split("_")
        return first + "".join(map(str.capitalize, rest))
    return key.lower() if snake and key.isupper() else key


def _alike(old: Any, new: Any) -> bool:
    # 1, 1.0 and true are the same to Python.
    return json.dumps(old) == json.dumps(new)


def _value(value: Any, airy: bool) -> bytes:
    separators = (", ", ": ") if airy else (",", ":")
    try:
        text = json.dumps(value, ensure_ascii=False, separators=separators, allow_nan=False)
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=separators, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest(
            f"JSON cannot hold {show(value)}; write a text, a number, true, false or a list.",
            code="invalid_value",
        ) from None
