"""
Which web pages may call a gateway that asks nobody for a key.

A browser sends what any page tells it to, also to this machine: a form needs no preflight,
and a name that a page's owner points at 127.0.0.1 makes the gateway a part of that page.
Where a key is asked for, no page has it. Where none is, the page is known by its origin,
and such a name by the Host header. This file must never let anybody in: it only refuses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from aiclient2api.errors import Forbidden

ANY = "*"

_LOCAL = re.compile(
    # What no name server has a say in: addresses, and localhost (RFC 6761, section 6.3).
    r"(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]+\]|(?:[a-z0-9_-]+\.)*localhost)\.?(?::\d*)?",
    re.IGNORECASE,
)


def refusal(
    *, origins: Sequence[str], hosts: Sequence[str], listed: Sequence[str]
) -> Forbidden | None:
    """
    Return why a request is not answered, None if it is.

    :param origins: Its ``Origin`` headers; programs send none.
    :param hosts: Its ``Host`` headers.
    :param listed: ``cors_origins``.
    """
    if ANY in listed:
        return None
    for origin in origins:
        if origin not in listed:
            return Forbidden(
                f"A page of {origin[:200]!r} may not call a gateway that asks for no key; list "
                "it in cors_origins, or set required_api_key.",
                code="origin_not_allowed",
            )
    ours = {urlsplit(origin).netloc.lower() for origin in listed}
    for host in hosts:
        if not _LOCAL.fullmatch(host) and host.lower() not in ours:
            return Forbidden(
                f"A gateway that asks for no key is not called by the name {host[:200]!r}, which "
                "a web page could have been given; use 127.0.0.1 or localhost, or set "
                "required_api_key.",
                code="host_not_allowed",
            )
    return None
