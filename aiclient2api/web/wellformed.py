"""
What the bytes of a request must look like, beyond what ``twisted.web`` insists on.

Where RFC 9112 says MUST and twisted.web is lenient, a proxy in front may read two requests
where we read one, or another path than we do; so whatever is malformed is refused, and
nothing is mended. Bytes in, verdicts out: no I/O, and nothing of what a request is about.
"""

from __future__ import annotations

import re

from twisted.web.http_headers import Headers

LENGTH_DIGITS = 18
"""Digits of a Content-Length at most; more would be no length of anything."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# RFC 9110 section 5.5: a value holds no control character but the tab.
_FIELD = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(rb"content-length:[ \t]*(\d*)[ \t]*", re.IGNORECASE)
# twisted.web drops the first character of a path unseen and lets some bytes beyond ASCII
# through; a fragment never belongs into a request, and some proxies cut it off.
_TARGET = re.compile(
    rb"/[!\"$-~]*|https?://[!\"$-.0->@-~]+(?:[/?][!\"$-~]*)?",
    re.IGNORECASE,
)
_HOST = re.compile(rb"[0-9A-Za-z._~!$&'()*+,;=%:\[\]\-]*")


def target_is_good(method: bytes, target: bytes) -> bool:
    """
    Say whether a request may name *target*: a path, or a URL as proxies are sent.

    RFC 9112 section 3.2. There is no authority to connect to, and a star is for OPTIONS.
    """
    if target == b"*":
        return method == b"OPTIONS"
    return method != b"CONNECT" and _TARGET.fullmatch(target) is not None


def field_is_good(line: bytes) -> bool:
    """
    Say whether *line* is one header or trailer field: ``name: value``.

    A folded line is none, nor is one with white space before its colon, with a bare line
    end or any other control character in it, or a Content-Length that is no number.
    """
    if _FIELD.fullmatch(line) is None:
        return False
    if line[:15].lower() != b"content-length:":
        return True
    found = _LENGTH.fullmatch(line)
    # int() raises at a number of thousands of digits, and twisted.web does not expect it.
    return found is not None and 0 < len(found[1]) <= LENGTH_DIGITS


def head_is_good(version: bytes, headers: Headers) -> bool:
    """
    Say whether the fields of a head agree: one Host, and no doubt where the body ends.

    RFC 9112 sections 3.2 and 6.1. ``identity`` is no transfer coding any more; a proxy may
    take it for one that it does not know, and the length beside it for void.
    """
    hosts = headers.getRawHeaders(b"host", ())
    if len(hosts) > 1 or not all(map(_HOST.fullmatch, hosts)):
        return False
    if not hosts and version != b"HTTP/1.0":
        return False
    codings = headers.getRawHeaders(b"transfer-encoding", ())
    if not codings:
        return True
    if version == b"HTTP/1.0" or len(codings) > 1 or codings[0].lower() != b"chunked":
        return False
    return not headers.hasHeader(b"content-length")
