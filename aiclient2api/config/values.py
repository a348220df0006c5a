"""
How one configured value is read: a number, a yes or no, a path, a URL, a key.

Each reader takes a `Given` and returns a value of the right type or raises `Wrong`,
whose message goes on after the key's name. Nothing here knows which keys exist, and
nothing here ever repeats a value that may be a secret.
"""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs

T = TypeVar("T")

YEAR = 366 * 86400.0
"""No clock of ours runs longer; a larger number is a slip of the unit."""


_KEY_LIKE = ("sk-", "AIza")
"""How vendors' keys begin."""


class Wrong(Exception):
    """
    A value is not what its key needs.

    The message continues ``config.json: port: `` and says what is wrong and what to
    write instead.
    """


@attrs.frozen
class Place:
    """
    Where the relative paths of one source begin.

    :ivar folder: The folder of the file that names them.
    :ivar cwd: The folder the program was started in.
    :ivar home: What ``~`` stands for, or None if nobody knows.
    """

    folder: Path
    cwd: Path
    home: Path | None

    def resolve(self, text: str) -> Path:
        """
        Make a path absolute: from `folder` if it exists there, else from `cwd`.

        :raise Wrong: if no file can have that name.
        """
        if not text.strip():
            raise Wrong("is empty; write the path of a file")
        try:
            os.fsencode(text)
        except UnicodeEncodeError:
            raise Wrong("is not a path this system can hold; write another") from None
        if "\0" in text:
            raise Wrong("has a zero byte in it; write a path without one")
        if text == "~" or text.startswith("~/"):
            if self.home is None:
                raise Wrong('begins with "~", but there is no home folder; write the whole path')
            return self.home / text[2:]
        path = Path(os.path.expanduser(text))
        here = self.folder / path
        return here if os.path.exists(here) else self.cwd / path


@attrs.frozen
class Given:
    """
    One value as the user wrote it.

    :ivar where: File and key path, such as ``config.json: timeouts.connect``.
    """

    where: str
    value: Any = attrs.field(repr=False)
    place: Place

    def items(self) -> list[Given]:
        """Return the items of a list, each under a name of its own; else this one alone."""
        if not isinstance(self.value, list):
            return [self]
        return [
            attrs.evolve(self, where=f"{self.where}[{at}]", value=item)
            for at, item in enumerate(self.value)
        ]


Reader = Callable[[Given], T]


def show(value: object) -> str:
    """
    Say what a wrong value is, safely: nothing that could be a key is repeated.

    A user may have put a key where a number belongs, so only short words are shown.
    """
    if isinstance(value, str):
        if len(value) <= 20 and not value.startswith(_KEY_LIKE):
            return json.dumps(value)
        return f"a text of {len(value)} characters"
    if value is None or isinstance(value, (bool, int, float)):
        text = json.dumps(value)
        return text if len(text) <= 20 else "a long number"
    return "a list" if isinstance(value, (list, tuple)) else "an object"


def name_shown(name: str) -> str:
    """Quote a key's or a provider's name, cut if it is absurdly long or looks like a key."""
    if name.startswith(_KEY_LIKE):
        return json.dumps(name[:3] + "...")
    return json.dumps(name if len(name) <= 60 else name[:60] + "...")


def text(given: Given) -> str:
    """Read a text; a plain number is taken as its digits."""
    value = given.value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise Wrong(f"is {show(value)}; write a text in quotes")
    return value


def yes_no(given: Given) -> bool:
    """Read true or false, also in quotes."""
    value = given.value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if not isinstance(value, bool):
        raise Wrong(f"is {show(value)}; write true or false")
    return value


def whole(*, low: int, high: int, what: str, example: int) -> Reader[int]:
    """Return a reader of whole numbers from *low* to *high*, also in quotes."""

    def read(given: Given) -> int:
        value = given.value
        if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(f"is {show(value)}; write {what}, such as {example}")
        if not low <= value <= high:
            raise Wrong(f"is {show(value)}; write {what} from {low} to {high}")
        return value

    return read


def number(*, high: float, what: str, example: float, low: float = 0.0) -> Reader[float]:
    """Return a reader of numbers from *low* to *high*, also in quotes."""

    def read(given: Given) -> float:
        value = given.value
        if isinstance(value, str) and re.fullmatch(
            r"[+-]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})(e[+-]?[0-9]{1,3})?",
            value.strip().lower(),
        ):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Wrong(f"is {show(value)}; write {what}, such as {example:g}")
        if not (low <= value <= high) or math.isnan(value):
            raise Wrong(f"is {show(value)}; write {what} from {low:g} to {high:g}")
        return float(value)

    return read


def choice(*names: str) -> Reader[str]:
    """Return a reader of one word out of *names*, in any case of letters."""

    def read(given: Given) -> str:
        value = given.value
        if isinstance(value, str):
            for name in names:
                if name.lower() == value.strip().lower():
                    return name
        raise Wrong(f"is {show(value)}; write one of {', '.join(names)}")

    return read


def names(given: Given) -> tuple[str, ...]:
    """Read a list of texts, or one text with commas."""
    value = given.value
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Wrong(f'is {show(given.value)}; write a list of texts, such as ["a", "b"]')
    return tuple(dict.fromkeys(item.strip() for item in value if item.strip()))


def mapping(given: Given) -> Mapping[str, Any]:
    """Read a JSON object."""
    if not isinstance(given.value, dict):
        raise Wrong(f"is {show(given.value)}; write an object in braces")
    return given.value


def object_or(other: Reader[T], what: str) -> Reader[Mapping[str, Any] | T]:
    """Return a reader of a JSON object, or of what *other* reads; *what* describes that."""

    def read(given: Given) -> Mapping[str, Any] | T:
        if isinstance(given.value, dict):
            return given.value
        try:
            return other(given)
        except Wrong:
            raise Wrong(f"is {show(given.value)}; write an object in braces, or {what}") from None

    return read


def listing(given: Given) -> list[Any]:
    """Read a JSON list."""
    if not isinstance(given.value, list):
        raise Wrong(f"is {show(given.value)}; write a list in brackets")
    return given.value


def path(given: Given) -> Path:
    """Read a path and make it absolute (see `Place.resolve`)."""
    if not isinstance(given.value, str):
        raise Wrong(f"is {show(given.value)}; write a path in quotes")
    return given.place.resolve(given.value)


def path_or_no(given: Given) -> Path | None:
    """Read a path, or true for ``fetch_system_prompt.txt``, or false for none."""
    value = given.value
    if isinstance(value, str) and value.strip().lower() not in ("true", "false"):
        return given.place.resolve(value)
    return given.place.resolve("fetch_system_prompt.txt") if yes_no(given) else None


def secret(given: Given) -> str:
    """
    Read a key: printable ASCII without spaces, so that it can stand in a header.

    ``""`` is a value of its own: no key, on purpose.
    """
    value = given.value
    if not isinstance(value, str):
        raise Wrong("is not a text; write the key in quotes")
    if not re.fullmatch("[!-~]*", value):
        raise Wrong("has a space or a character outside ASCII in it; write the key alone")
    return value


def url(given: Given) -> str:
    """Read an absolute http or https URL that holds nothing secret."""
    example = "https://api.example.com/v1"
    value = given.value
    if not isinstance(value, str):
        raise Wrong(f"is {show(value)}; write a URL such as {example}")
    value = value.strip()
    host = _host(value, ("http", "https"))
    if host is None:
        raise Wrong(f"is not an absolute http or https URL; write one such as {example}")
    parts = urlsplit(value)
    if "@" in parts.netloc:
        raise Wrong(f"has a user name or a key before the host; write only {example}")
    if "?" in value or "#" in value:
        raise Wrong(f'has a "?" or "#" part; write the URL without it, such as {example}')
    return value


def webhook(given: Given) -> str:
    """Read the URL that something is sent to; its path and query may be secret."""
    value = given.value
    if not isinstance(value, str):
        raise Wrong("is not a text; write a URL such as https://hooks.example.com/path")
    value = value.strip()
    if _host(value, ("http", "https")) is None:
        raise Wrong("is not an absolute http or https URL; write it whole, with its host")
    if "@" in urlsplit(value).netloc or "#" in value:
        raise Wrong('has a user name before its host, or a "#"; write the URL without it')
    return value


def proxy(given: Given) -> str:
    """Read the URL of an HTTP or SOCKS5 proxy; it may hold a user name and password."""
    value = given.value
    if not isinstance(value, str):
        raise Wrong("is not a text; write a URL such as http://127.0.0.1:8118")
    value = value.strip()
    if not value:
        return ""
    if _host(value, ("http", "https", "socks5", "socks5h")) is None:
        raise Wrong("is not a proxy's URL; write one such as http://127.0.0.1:8118 or socks5://...")
    parts = urlsplit(value)
    if parts.path not in ("", "/") or "?" in value or "#" in value:
        raise Wrong("has something after the host and port; write http://host:port alone")
    return value


def _host(value: str, schemes: tuple[str, ...]) -> str | None:
    if re.search(r"[^!-~]|[\"<>\\^`{|}]", value):
        return None
    try:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not parts.hostname or parts.port == 0:
            return None
        if ":" in parts.hostname:
            ipaddress.ip_address(parts.hostname)
    except ValueError:
        return None
    return parts.hostname


def origin(given: Given) -> str:
    """Read a web origin: scheme, host, port, and nothing after them; or ``*``."""
    value = given.value
    if isinstance(value, str):
        value = value.strip().rstrip("/")
        if value == "*" or re.fullmatch(r"[a-z][a-z0-9+.-]*://[A-Za-z0-9_.:\[\]-]+", value):
            return value
    raise Wrong(f"is {show(value)}; write an origin such as https://app.example.com")


_LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warn",
    "warning": "warn",
    "error": "error",
    "critical": "critical",
    "off": "critical",
}


def level(given: Given) -> str:
    """Read a log level's name: ``debug``, ``info``, ``warn``, ``error``, ``critical``."""
    found = given.value
    if isinstance(found, str) and found.strip().lower() in _LEVELS:
        return _LEVELS[found.strip().lower()]
    raise Wrong(f"is {show(found)}; write one of debug, info, warn, error, critical")


def is_loopback(host: str) -> bool:
    """Say whether *host* can be reached from this machine only."""
    host = host.strip("[]").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
