"""
What a request's first line names, and who sent it: in the form that the rest works with.

Pure. It must never know a route.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress


def origin_form(target: bytes) -> bytes:
    """Return *target* as a path; ``http://host/path`` is what proxies are sent."""
    if target == b"*":
        # The whole server: twisted.web has an answer of its own, which nobody counts.
        return b"/"
    found = _ABSOLUTE.match(target)
    return target[found.end() :] or b"/" if found else target


def without_key(target: bytes) -> tuple[bytes, list[str]]:
    """Return *target* without its ``key`` arguments, and those arguments' values."""
    path, mark, query = target.partition(b"?")
    if not mark:
        return target, []
    kept, keys = [], []
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if unquote_to_bytes(name.replace(b"+", b" ")) == b"key":
            keys.append(unquote_to_bytes(value.replace(b"+", b" ")).decode("utf-8", "replace"))
        else:
            kept.append(pair)
    return (path + b"?" + b"&".join(kept) if kept else path), keys


def peer_name(address: IAddress) -> str:
    """Return the client's address for the log."""
    if isinstance(address, IPv4Address | IPv6Address):
        return str(address.host)
    return "local"


_ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
