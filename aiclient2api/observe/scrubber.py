"""
The one scrubber: it knows which secrets are in force, and cuts them out of what is told.

Everything that leaves the process but is no answer goes through it: log lines, errors,
traces, what upstreams said, the webhook, the prompt log, what commands print. A good answer
never does. It must never know where a text goes, nor whose a secret is.
"""

from __future__ import annotations

import re
import threading
from base64 import b64encode, urlsafe_b64encode
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus

from aiclient2api.errors import GatewayError, RawReply, UpstreamError
from aiclient2api.observe.redaction import MARK, SHORTEST, TELLING, spelled, unshaped

WINDOW = 6
"""Characters by which the forms of secrets are looked for."""

STRIDE = 6
"""
So many characters lie between two looks at a text: whatever has `WINDOW` + `STRIDE` - 1
characters or more is seen by one of them. Forms that are shorter are looked for one by one.
"""

HEAD = 8
STEP = 3
"""The same of what is encoded."""

ENCODED = 9
"""Bytes from which on a secret is looked for in its encoded forms as well."""

MOST_PASSED = 4096
"""Secrets that are no longer in force, or renewed while running, and looked for still."""

_TELLING_NAMES = ("token", "secret", "password", "api_key", "apikey", "code")
_NO_SECRETS = ("type", "expir", "endpoint", "url", "uri", "challenge", "method")
_DEEPEST = 6

_PLAIN = re.compile("[A-Za-z0-9._~-]*")
# What is encoded stands in these; a shorter one holds none.
_WORD = re.compile(f"[A-Za-z0-9+/_-]{{{HEAD + STEP - 1},}}")

_E = TypeVar("_E", bound=GatewayError)


class Scrubber:
    """
    The secrets in force, in all the forms in which a text may hold them.

    Plain, as JSON and URLs write them, in hexadecimal, and in base64 wherever in what was
    encoded they stood. Texts are read once, whatever there is to be found. May be used in
    other threads while secrets are added.
    """

    def __init__(self) -> None:
        self._in_force: frozenset[str] = frozenset()
        # In the order they came: a dict forgets the oldest.
        self._passed: dict[str, object] = {}
        self._index = _Index()
        # Settings are read, and so learnt, in threads.
        self._changing = threading.RLock()

    def hold(self, secrets: Iterable[str]) -> None:
        """Take *secrets* for those in force. Those that were until now are not forgotten."""
        fresh = frozenset(each for each in secrets if len(each) >= SHORTEST)
        with self._changing:
            gone = self._in_force - fresh
            for secret in fresh - self._in_force - self._passed.keys():
                self._index.add(secret)
            self._in_force = fresh
            self.learn(gone)

    def learn(self, secrets: Iterable[str]) -> None:
        """Look for these as well: the oldest are forgotten once they are too many."""
        with self._changing:
            for secret in secrets:
                self._learn(secret)
            if len(self._passed) > MOST_PASSED:
                # A quarter at a time: what is known is made anew for it.
                for secret in list(self._passed)[: len(self._passed) - MOST_PASSED * 3 // 4]:
                    del self._passed[secret]
                index = _Index()
                for secret in (*self._in_force, *self._passed):
                    index.add(secret)
                self._index = index

    def _learn(self, secret: str) -> None:
        if len(secret) < SHORTEST or secret in self._in_force:
            return
        if self._passed.pop(secret, self) is self:
            self._index.add(secret)
        # The last place is the newest's.
        self._passed[secret] = None

    def forget(self) -> None:
        """Look for nothing any more."""
        self._in_force, self._passed, self._index = frozenset(), {}, _Index()

    def learn_document(self, document: Mapping[str, Any]) -> None:
        """Look for what a credential's *document* holds under the names of secrets."""
        self.learn(secrets_in(document))

    def text(self, text: str) -> str:
        """Return *text* without what is secret, and without what has the shape of it."""
        return unshaped(self.known(text))

    def known(self, text: str) -> str:
        """Return *text* without what is known to be secret, and nothing else changed."""
        return self._index.without(text)

    def data(self, body: bytes) -> bytes:
        """Do as `known` to bytes, whatever they are."""
        # Latin-1 stands for any bytes whatever, one character each.
        text = body.decode("latin-1")
        clean = self.known(text)
        return body if clean is text else clean.encode("latin-1")

    def error(self, error: _E) -> _E:
        """Return *error* without secrets in what may be told of it; itself if there are none."""
        message, code, param = self.text(error.message), error.code, error.param
        code = None if code is None else self.known(code)
        param = None if param is None else self.known(param)
        reply = self._reply(error.reply) if isinstance(error, UpstreamError) else None
        if (message, code, param) == (error.message, error.code, error.param) and (
            not isinstance(error, UpstreamError) or reply is error.reply
        ):
            return error
        # Not made anew: each class has arguments of its own.
        clean = type(error).__new__(type(error), message)
        clean.__dict__.update(error.__dict__)
        clean.message, clean.code, clean.param = message, code, param
        if isinstance(clean, UpstreamError):
            clean.reply = reply
        return clean

    def _reply(self, reply: RawReply | None) -> RawReply | None:
        if reply is None:
            return None
        headers = tuple((name, self.data(value)) for name, value in reply.headers)
        body = self.data(reply.body)
        if body is reply.body and headers == reply.headers:
            return reply
        return RawReply(reply.status, headers, body)


class _Index:
    """
    The forms of secrets, such that a text is read once for all of them.

    What stands in a text as it is, or with a few characters escaped, is found by its windows,
    at every so many characters. What was encoded is found likewise, in long words only and at
    fewer windows: there is much of it, and each window takes memory.

    Another thread may read it while something is added.
    """

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._short: tuple[str, ...] = ()
        # A window's characters: how far into a form they stand, and how long that is; the
        # first and longest to begin with.
        self._windows: dict[str, tuple[tuple[int, int], ...]] = {}
        self._heads: dict[str, tuple[tuple[int, int], ...]] = {}
        # The forms by their beginnings, sorted: for a text that ends within one.
        self._begun: dict[str, list[str]] = {}
        # One tuple stands for all alike.
        self._alike: dict[Any, Any] = {}

    def add(self, secret: str) -> None:
        """Look for *secret* in all its forms."""
        for form in _written(secret):
            if len(form) < SHORTEST or form in self._forms:
                continue
            self._add(form)
            if len(form) < WINDOW + STRIDE - 1:
                self._short = tuple(sorted((*self._short, form), key=len, reverse=True))
                continue
            self._mark(form, self._windows, WINDOW, STRIDE)
        for form in _encoded(secret):
            if form not in self._forms:
                self._add(form)
                self._mark(form, self._heads, HEAD, STEP)

    def _add(self, form: str) -> None:
        self._forms.add(form)
        if len(form) >= TELLING:
            insort(self._begun.setdefault(form[:TELLING], []), form)

    def _mark(
        self, form: str, windows: dict[str, tuple[tuple[int, int], ...]], width: int, stride: int
    ) -> None:
        for offset in range(stride):
            window = form[offset : offset + width]
            places = {*windows.get(window, ()), (offset, len(form))}
            ordered = tuple(sorted(places, reverse=True))
            windows[window] = self._alike.setdefault(ordered, ordered)

    def without(self, text: str) -> str:
        """Return *text* with the forms in it replaced, and the first part of one at its end."""
        text = _replaced(text, self._found(text))
        if self._heads:
            text = _replaced(text, self._found_encoded(text))
        for form in self._short:
            if form in text:
                text = text.replace(form, MARK)
        for at in range(max(0, len(text) - WINDOW - STRIDE), len(text) - TELLING + 1):
            if self._is_begun(text, at):
                return text[:at] + MARK
        return text

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where the longer forms begin and end that stand in *text*."""
        windows = self._windows
        last = 0
        for at in range(0, len(text) - WINDOW + 1, STRIDE):
            places = windows.get(text[at : at + WINDOW])
            if places and (span := self._span(text, at, places, last)):
                last = span[1]
                yield span

    def _found_encoded(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the same of what is encoded."""
        heads = self._heads
        last = 0
        for word in _WORD.finditer(text):
            for at in range(word.start(), word.end() - HEAD + 1, STEP):
                places = heads.get(text[at : at + HEAD])
                if places and (span := self._span(text, at, places, last)):
                    last = span[1]
                    yield span

    def _span(
        self, text: str, at: int, places: Sequence[tuple[int, int]], last: int
    ) -> tuple[int, int] | None:
        """Return where the form begins and ends that has one of its windows there."""
        for offset, length in places:
            start = at - offset
            end = self._end(text, start, length) if start >= last else 0
            if end:
                return start, end
        return None

    def _end(self, text: str, start: int, length: int) -> int:
        """Return where a form ends that begins there and is so long; 0 if there is none."""
        end = start + length
        if text[start:end] in self._forms:
            return end
        return len(text) if end > len(text) and self._is_begun(text, start) else 0

    def _is_begun(self, text: str, at: int) -> bool:
        """Say whether a form begins at *at* of which the text ends too early."""
        begun = self._begun.get(text[at : at + TELLING])
        if begun is None:
            return False
        rest = text[at:]
        place = bisect_left(begun, rest)
        return place < len(begun) and begun[place].startswith(rest)


def _replaced(text: str, found: Iterable[tuple[int, int]]) -> str:
    """Return *text* with a mark in the place of each of some spans, which are in order."""
    last, kept = 0, []
    for start, end in found:
        kept.append(text[last:start])
        last = end
    return MARK.join((*kept, text[last:])) if kept else text


def secrets_in(document: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Yield the strings of a credential's document that stand under the names of secrets."""
    for key, value in document.items():
        name = str(key).lower().replace("-", "_")
        if isinstance(value, Mapping) and depth < _DEEPEST:
            yield from secrets_in(value, depth + 1)
        elif isinstance(value, str) and _is_telling(name):
            yield value


def _is_telling(name: str) -> bool:
    told = any(word in name for word in _TELLING_NAMES)
    return told and not any(word in name for word in _NO_SECRETS)


def _written(secret: str) -> Iterator[str]:
    """Yield *secret* as a text may hold it, or bytes as Latin-1: perhaps escaped, not encoded."""
    yield secret
    if _PLAIN.fullmatch(secret):
        # Nobody escapes these.
        return
    yield from spelled(secret)
    raw = secret.encode("utf-8", "surrogatepass")
    if not secret.isascii():
        yield raw.decode("latin-1")
    yield from _quoted(raw)


def _encoded(secret: str) -> Iterator[str]:
    """Yield *secret* in hexadecimal and in base64, as far as that depends on nothing else."""
    raw = secret.encode("utf-8", "surrogatepass")
    if len(raw) < ENCODED:
        return
    yield raw.hex()
    yield raw.hex().upper()
    for offset in range(3):
        padded = bytes(offset) + raw
        start, whole = (offset * 8 + 5) // 6, len(padded) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(padded).decode("ascii")[start:whole]


def _quoted(raw: bytes) -> Iterator[str]:
    for form in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield form
        if "%" in form:
            parts = form.split("%")
            yield parts[0] + "".join(f"%{part[:2].lower()}{part[2:]}" for part in parts[1:])
