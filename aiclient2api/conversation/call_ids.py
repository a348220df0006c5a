"""
Ids of tool calls, made fit for dialects that are particular about them.

Pure and, towards clients, reversible: the id a client sends back leads to the very id
the upstream gave, with no table to lose. It must never know which dialect asks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_MARK = "callx_"


def plain(id: str) -> str:
    """
    Return *id* in letters, digits, ``_`` and ``-`` only; `original` undoes it.

    But for an id with a lone surrogate, which no upstream could be sent.

    Messages wants ids like that: https://docs.anthropic.com/en/api/messages.
    """
    if _PLAIN.fullmatch(id) and not id.startswith(_MARK):
        return id
    packed = base64.urlsafe_b64encode(id.encode("utf-8", "surrogatepass")).decode()
    return _MARK + packed.rstrip("=")


def original(id: str) -> str:
    """Return the id of which `plain` made *id*; any other id is its own original."""
    if not id.startswith(_MARK):
        return id
    packed = id.removeprefix(_MARK)
    try:
        # Half an emoji can be sent to no upstream: such an id stays packed.
        found = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode()
    except (ValueError, binascii.Error):
        return id
    return found if plain(found) == id else id


def short(id: str, limit: int) -> str:
    """
    Return *id* cut to *limit* characters for an upstream, the same for equal ids.

    There is no way back and none is needed: upstreams don't return the ids of a history.
    """
    if len(id) <= limit:
        return id
    return "call_" + hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[: limit - 5]
