"""
Which proxy, if any, a request goes through: proxy URLs and the environment's say.

It must never know how a proxy is spoken to, and never resolve a name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

import attrs

DIRECT = "direct"
"""The proxy setting that means: none, whatever the environment says."""

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_EXAMPLE = "write it as http://user:password@host:port, https:// or socks5://"
_HOST = re.compile(r"[A-Za-z0-9._:-]+")

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@attrs.frozen
class Proxy:
    """
    One proxy server.

    :ivar scheme: ``http``, ``https`` or ``socks5``. Both spellings of SOCKS5 let the
        proxy resolve names: asking our own DNS would tell it where we go.
    :ivar credentials: User name and password, percent-decoding undone.
    """

    scheme: str
    host: str
    port: int
    credentials: tuple[bytes, bytes] | None = attrs.field(default=None, repr=False)

    @property
    def origin(self) -> str:
        """The proxy's URL for people: no credentials in it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @classmethod
    def from_url(cls, url: str) -> Proxy:
        """
        Read a proxy URL. ``host:port`` alone is taken for ``http://``, as curl does.

        :raise ValueError: a sentence on what is wrong with it; the URL's credentials
            are never part of it.
        """
        parts, port = _split(url if "://" in url else f"http://{url}")
        scheme = "socks5" if parts.scheme == "socks5h" else parts.scheme
        if scheme not in _PORTS:
            raise ValueError(f"A proxy cannot be of scheme {scheme!r}: {_EXAMPLE}.")
        if not parts.hostname or not _HOST.fullmatch(parts.hostname):
            raise ValueError(f"The proxy URL names no usable host: {_EXAMPLE}.")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"A proxy URL ends after the port: {_EXAMPLE}.")
        return cls(
            scheme=scheme,
            host=parts.hostname,
            port=_PORTS[scheme] if port is None else port,
            credentials=_credentials(parts, scheme),
        )


def check_proxy_url(url: str) -> str | None:
    """
    Say what is wrong with a configured proxy, in a sentence.

    :return: None if it is a usable proxy URL or ``direct``.
    """
    if url == DIRECT:
        return None
    try:
        Proxy.from_url(url)
    except ValueError as fault:
        return str(fault)
    return None


@attrs.frozen
class ProxySettings:
    """
    What the environment says about proxies, read the way curl reads it.

    :ivar proxies: Target scheme to the name and value of the variable that rules it.
    :ivar exceptions: What ``NO_PROXY`` lists.
    """

    proxies: Mapping[str, tuple[str, str]] = attrs.field(repr=False)
    exceptions: tuple[_Exempt, ...]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ProxySettings:
        """
        Read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY in either case.

        Lower case wins. A variable set to nothing means no proxy, even if ALL_PROXY
        names one. Upper-case HTTP_PROXY is ignored beside REQUEST_METHOD: a CGI
        server puts a client's ``Proxy`` header there (https://httpoxy.org).
        """
        proxies = {}
        for scheme in ("http", "https"):
            names = [f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
            if "REQUEST_METHOD" in environ:
                names = [name for name in names if name != "HTTP_PROXY"]
            for name in names:
                if name in environ:
                    proxies[scheme] = (name, environ[name].strip())
                    break
        listed = environ.get("no_proxy", environ.get("NO_PROXY", ""))
        entries = (_exempt(entry) for entry in re.split(r"[,\s]+", listed))
        return cls(proxies, tuple(entry for entry in entries if entry is not None))

    def faults(self) -> tuple[str, ...]:
        """Say which of the variables that rule cannot be used: a sentence each."""
        said = []
        for name, value in dict.fromkeys(self.proxies.values()):
            fault = check_proxy_url(value) if value else None
            if fault is not None:
                said.append(f"The environment variable {name} is of no use. {fault}")
        return tuple(said)

    def proxy_for(self, *, scheme: str, host: str, port: int) -> Proxy | None:
        """
        Return the proxy for a target, or None to go there directly.

        :raise ValueError: if the variable that rules cannot be used.
        """
        name, value = self.proxies.get(scheme, ("", ""))
        plain = host.lower().strip("[]").rstrip(".")
        if not value or any(entry.covers(plain, port) for entry in self.exceptions):
            return None
        try:
            return Proxy.from_url(value)
        except ValueError as fault:
            raise ValueError(f"The environment variable {name} is of no use. {fault}") from None


@attrs.frozen
class _Exempt:
    """One entry of NO_PROXY: a domain and what is below it, or a network."""

    target: str | _Network | Literal[True]
    port: int | None = None

    def covers(self, host: str, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.target is True:
            return True
        if isinstance(self.target, str):
            return host == self.target or host.endswith(f".{self.target}")
        try:
            return ipaddress.ip_address(host) in self.target
        except ValueError:
            return False


def _exempt(entry: str) -> _Exempt | None:
    entry = entry.lower()
    if entry == "*":
        return _Exempt(True)
    whole = _network(entry.strip("[]"))
    if whole is not None:
        return _Exempt(whole)
    port = None
    cut = re.fullmatch(r"(.*):(\d{1,5})", entry)
    if cut is not None:
        entry, port = cut[1], int(cut[2])
    entry = entry.strip("[]")
    target = _network(entry) or entry.removeprefix("*").strip(".")
    return _Exempt(target, port) if target else None


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = None, None
    if parts is None or port == 0:
        raise ValueError(f"The proxy URL's host or port cannot be read: {_EXAMPLE}.")
    return parts, port


def _credentials(parts: SplitResult, scheme: str) -> tuple[bytes, bytes] | None:
    if not parts.username and not parts.password:
        return None
    user = unquote_to_bytes(parts.username or "")
    password = unquote_to_bytes(parts.password or "")
    if scheme == "socks5" and not (0 < len(user) < 256 and 0 < len(password) < 256):
        raise ValueError(
            "A SOCKS5 proxy takes a user name and a password of 1 to 255 bytes each: "
            "give both in the proxy URL, or neither."
        )
    if b":" in user:
        raise ValueError("A proxy's user name cannot contain a colon: ask for another one.")
    return user, password
