"""
A URL that a caller named, read strictly: nobody after us may read it differently.

What two parsers disagree about is refused, for then one of them may check a host and the
other connect to another. It must never look a host up.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Container
from urllib.parse import urljoin, urlsplit

import attrs
import hyperlink

from aiclient2api.upstream.connecting import Origin

LONGEST = 8192
"""How many characters a URL may have."""

_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5})?)?")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ADDRESS = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}\.[A-Za-z0-9]{2,5}")


class NotFetched(Exception):
    """It was not fetched; the message is a sentence about what the URL names."""


@attrs.frozen
class Target:
    """
    What a URL asks for.

    :ivar path: With its query, ready for the wire; begins with a slash.
    """

    origin: Origin
    path: str = attrs.field(repr=False)

    @property
    def url(self) -> str:
        """The URL as it is sent: ASCII, with its port, without a fragment."""
        return f"{self.origin}{self.path}"

    @classmethod
    def from_url(cls, url: str, ports: Container[int]) -> Target:
        """
        Read a URL.

        :param ports: Those that may be connected to.
        :raise NotFetched: if it is none that is fetched.
        """
        if len(url) > LONGEST:
            raise NotFetched(f"Its URL has over {LONGEST} characters.")
        try:
            parts = urlsplit(_ascii(url))
        except ValueError:
            raise NotFetched("Its URL cannot be read.") from None
        if parts.scheme not in _PORTS:
            raise NotFetched("Only http:// and https:// URLs are fetched.")
        if "@" in parts.netloc:
            raise NotFetched("Its URL holds a user name or a password: leave them out.")
        found = _AUTHORITY.fullmatch(parts.netloc)
        if found is None:
            raise NotFetched("Its URL names no host that can be read.")
        port = int(found[2]) if found[2] else _PORTS[parts.scheme]
        if port not in ports:
            raise NotFetched("Its URL names another port than those of the web (80 and 443).")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(Origin(parts.scheme, _host(found[1]), port), path)

    def redirected(self, location: str, ports: Container[int]) -> Target:
        """
        Return where a redirect leads; it is held to the same rules.

        :param location: As the server wrote it, relative to this URL or not.
        :raise NotFetched: if nothing is fetched from there.
        """
        if not location:
            raise NotFetched("Its server redirects to nowhere.")
        try:
            return self.from_url(urljoin(self.url, location), ports)
        except (NotFetched, ValueError):
            raise NotFetched("Its server redirects to a URL that is not fetched.") from None


def shown(url: str) -> str:
    """
    Return as much of a URL as a message may hold: its origin, and what looks like a file.

    Passwords, queries and what else may stand in a path give access to something.
    """
    try:
        target = Target.from_url(url, range(65536))
    except NotFetched:
        return "a URL in this request"
    origin = str(target.origin).removesuffix(f":{_PORTS[target.origin.scheme]}")
    name = target.path.partition("?")[0].rpartition("/")[2]
    if not _FILE_NAME.fullmatch(name):
        return origin
    return f"{origin}/{name}" if target.path.startswith(f"/{name}") else f"{origin}/.../{name}"


def _ascii(url: str) -> str:
    url = url.strip(" ")
    if _CONTROL.search(url):
        raise ValueError
    if not url.isascii():
        url = hyperlink.URL.from_text(url).to_uri().to_text()
    return url.replace(" ", "%20")


def _host(text: str) -> str:
    """
    Return a host's name or address, without brackets.

    What ends in a number is an address or nothing: resolvers do not agree on what
    ``0x7f.1``, ``017700000001`` or ``127.1`` are.
    """
    if text.startswith("["):
        return _address(text[1:-1])
    host = text.lower().removesuffix(".")
    if _NUMBER.fullmatch(host.rpartition(".")[2]) and not _ADDRESS.fullmatch(host):
        raise NotFetched("Its host is a number that is not written as an address is.")
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise NotFetched("Its URL names no host that can be read.")
    return host


def _address(text: str) -> str:
    # Before Python 3.11.4 anything could stand in brackets.
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise NotFetched("Its URL names no host that can be read.") from None
    return text.lower()
