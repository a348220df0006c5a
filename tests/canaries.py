"""
Canaries: secrets made up to be looked for, and the search for them in all that is left behind.

``python -m tests.canaries FILE-OR-FOLDER ...`` searches what a run of the tests left. It looks
for the keys of `tests.live.gateway`, for what stands under the names of secrets in JSON files,
which users, logins and tests have written, and for whatever ``--also`` names. Those files are
not searched themselves, nor is one that is nothing but a key. It looks plain, in base64 at all
alignments and in both alphabets, as URLs, JSON and hexadecimal write it, in SQLite's files
inside of what is packed as well. Nothing here is the gateway's own: a search by the means of
the scrubber would miss what the scrubber does.
"""

from __future__ import annotations

import argparse
import binascii
import gzip
import json
import os
import re
import secrets
import sqlite3
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import attrs

WINDOW = 8
"""Bytes by which one is looked for; what is looked for has twice as many at least, or is rare."""

LEAST = 8
"""A secret that is shorter stands in ordinary words."""

_TELLING = re.compile(r"token$|secret$|passw|api_?key$|credential$", re.IGNORECASE)
_NAMES = re.compile(r"type|url|uri|expir", re.IGNORECASE)


class Aviary:
    """Makes canaries, all different, and remembers of what kind each is."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.kinds)

    def new(self, kind: str) -> str:
        """
        Return a new canary, of no shape that any vendor's keys have.

        Each holds what JSON, URLs and base64 write in other ways.
        """
        made = f"cnry{len(self.kinds):04}.{secrets.token_hex(6)}/{secrets.token_hex(4)}+z="
        self.kinds[made] = kind
        return made

    def plain(self, kind: str) -> str:
        """Return one of letters and digits only, for where nothing else may stand."""
        made = f"cnry{len(self.kinds):04}x{secrets.token_hex(10)}"
        self.kinds[made] = kind
        return made

    def add(self, kind: str, *found: str) -> None:
        """Take what somebody else has made up for canaries."""
        for each in found:
            self.kinds.setdefault(each, kind)


@attrs.frozen
class Hit:
    """Where one was found, in which form."""

    place: str
    canary: str
    form: str
    around: str


class Search:
    """
    Looks for many strings at once.

    :param wanted: What to look for.
    """

    def __init__(self, wanted: Iterable[str]) -> None:
        self._windows: dict[bytes, list[tuple[int, bytes]]] = {}
        self._short: list[bytes] = []
        self._names: dict[bytes, tuple[str, str]] = {}
        for canary in wanted:
            for name, form in forms(canary):
                if form in self._names or len(form) < LEAST:
                    continue
                self._names[form] = (canary, name)
                if len(form) < 2 * WINDOW - 1:
                    self._short.append(form)
                    continue
                for offset in range(WINDOW):
                    window = form[offset : offset + WINDOW]
                    self._windows.setdefault(window, []).append((offset, form))

    def hits(self, data: bytes, place: str) -> Iterator[Hit]:
        """Yield what is found in *data*."""
        windows = self._windows
        seen: set[tuple[int, bytes]] = set()
        for at in range(0, len(data) - WINDOW + 1, WINDOW):
            for offset, form in windows.get(data[at : at + WINDOW], ()):
                start = at - offset
                if start >= 0 and data.startswith(form, start) and (start, form) not in seen:
                    seen.add((start, form))
                    yield self._hit(place, data, start, form)
        for form in self._short:
            start = data.find(form)
            if start >= 0:
                yield self._hit(place, data, start, form)

    def _hit(self, place: str, data: bytes, start: int, form: bytes) -> Hit:
        canary, name = self._names[form]
        around = data[max(0, start - 200) : start + len(form) + 80].decode("utf-8", "replace")
        return Hit(place, canary, name, around)

    def in_file(self, path: Path) -> Iterator[Hit]:
        """Yield what is found in a file, and in what is packed in it."""
        try:
            data = path.read_bytes()
        except OSError:
            return
        yield from self.hits(data, str(path))
        if data.startswith(b"SQLite format 3\0"):
            for number, value in enumerate(values_in(path)):
                yield from self.hits(value, f"{path} (value {number})")
        elif data.startswith(b"\x1f\x8b"):
            with suppress(OSError, EOFError, zlib.error):
                yield from self.hits(gzip.decompress(data), f"{path} (unpacked)")


def forms(canary: str) -> Iterator[tuple[str, bytes]]:
    """Yield every form in which a canary may be found, with its name."""
    raw = canary.encode()
    yield "plain", raw
    for name, text in (
        ("as a URL has it", quote(canary, safe="")),
        ("as a path has it", quote(canary)),
        ("as a form has it", quote_plus(canary)),
    ):
        yield name, text.encode()
        yield name, re.sub("%..", lambda found: found[0].lower(), text).encode()
    escaped = json.dumps(canary)[1:-1]
    yield "as JSON has it", escaped.encode()
    yield "as JSON has it", escaped.replace("/", "\\/").encode()
    yield "as JSON has it", re.sub("[+=&<>/]", lambda f: f"\\u{ord(f[0]):04x}", canary).encode()
    yield "in hexadecimal", raw.hex().encode()
    yield "in hexadecimal", raw.hex().upper().encode()
    for lead in range(3):
        packed = binascii.b2a_base64(b"\0" * lead + raw, newline=False).rstrip(b"=")
        # The first letters hold bits of what stood before, the last one of what came after.
        inner = packed[(0, 2, 3)[lead] : len(packed) - 1]
        yield "in base64", inner
        yield "in base64", inner.replace(b"+", b"-").replace(b"/", b"_")


def values_in(path: Path) -> Iterator[bytes]:
    """Yield every value of an SQLite file, unpacked if it was packed."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as found:
            names = [row[0] for row in found.execute("SELECT name FROM sqlite_master")]
            for name in names:
                with suppress(sqlite3.Error):
                    for row in found.execute(f'SELECT * FROM "{name}"'):
                        yield from map(_unpacked, row)
    except sqlite3.Error:
        return


def _unpacked(value: object) -> bytes:
    data = value if isinstance(value, bytes) else str(value).encode()
    with suppress(zlib.error):
        return zlib.decompress(data)
    return data


# --- what a run of the tests left -----------------------------------------------


def harvest(path: Path) -> set[str] | None:
    """Return what a JSON object holds under the names of secrets; None if it is none."""
    try:
        data = path.read_bytes()
        return set(_told(json.loads(data))) if data[:1] == b"{" else None
    except (OSError, ValueError, RecursionError):
        return None


def _told(found: Any, name: str = "") -> Iterator[str]:
    if isinstance(found, Mapping):
        for key, value in found.items():
            yield from _told(value, str(key))
    elif isinstance(found, list):
        for value in found:
            yield from _told(value, name)
    elif isinstance(found, str) and _TELLING.search(name) and not _NAMES.search(name):
        # What tests write for want of anything better is shorter, and stands everywhere.
        yield from [found] * bool(len(found) >= 16 and re.search("[0-9]", found))


def files_in(places: Sequence[str]) -> Iterator[Path]:
    """Yield all files that are named, or below folders that are."""
    for place in map(Path, places):
        if not place.is_dir():
            yield place
        for folder, _, names in os.walk(place):
            yield from (Path(folder, name) for name in names)


def main(argv: Sequence[str] | None = None) -> int:
    """Search; return 1 if something was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("places", nargs="+", metavar="FILE-OR-FOLDER")
    parser.add_argument("--also", action="append", default=[], help="one more string to look for")
    parser.add_argument("--skip", default="", help="a pattern of paths that may hold them")
    options = parser.parse_args(argv)
    from tests.live.gateway import ACCOUNT_KEY, KEY

    wanted = {KEY, ACCOUNT_KEY, *options.also}
    searched = []
    for path in files_in(options.places):
        if not path.is_file() or path.is_symlink():
            continue
        told = harvest(path)
        if told is not None:
            wanted |= told
        elif path.suffix != ".py" and not (options.skip and re.search(options.skip, str(path))):
            searched.append(path)
    search = Search(wanted)
    found = [
        hit
        for path in searched
        for hit in search.in_file(path)
        if path.stat().st_size > len(hit.canary) + 1
    ]
    size = sum(path.stat().st_size for path in searched if path.exists())
    for hit in found[:100]:
        print(f"{hit.place}: {hit.canary!r} {hit.form}: ...{hit.around!r}...")
    print(
        f"{len(wanted)} secrets looked for in {len(searched)} files, {size / 1e6:.0f} MB: "
        f"{len(found)} found"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
