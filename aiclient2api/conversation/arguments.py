"""
The arguments of a call: JSON text, repaired where a model or a client got it wrong.

It must never decode what is whole: key order and the digits of numbers stay.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import warnings

import msgspec

_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()
# An escaped backslash, lest what follows it be taken for an escape; a pair; half a pair.
_ESCAPE = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
# Python reads its own literals slowly, and asks for much memory meanwhile.
_LONGEST_LITERAL = 8192


def settled(text: str) -> str:
    """
    Return *text* as the JSON text of an object.

    Nothing is ``{}``. A value that is no object stands under ``value``; a Python literal
    (single quotes) is taken for what it means; anything else stands under
    ``raw_arguments``, so that nothing is lost and nothing is executed by mistake. Half an
    emoji is no reason to take an object for none: a lone surrogate is replaced.
    """
    stripped = text.strip().encode("utf-8", "replace").decode()
    if not stripped:
        return "{}"
    readable = _ESCAPE.sub(_whole, stripped)
    if is_object(readable):
        return readable
    try:
        _ANY.decode(readable)
    except (msgspec.DecodeError, RecursionError):
        return _repaired(readable) or _told(stripped)
    return '{"value":' + readable + "}"


def is_object(text: str) -> bool:
    """Say whether *text* is the JSON text of one object."""
    try:
        _RAW.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False
    return True


def digest(text: str) -> bytes:
    """
    Return what is the same for arguments that mean the same, and for no others.

    Clients decode arguments and write them again: order, spacing, escapes and the form of
    numbers are theirs. No number is compared more closely than JavaScript could hold it.
    """
    made = settled(text)
    try:
        value = json.loads(made, strict=False, parse_int=float, parse_float=float)
        made = json.dumps(value, sort_keys=True)
    except (ValueError, RecursionError):
        pass
    return hashlib.sha256(made.encode("utf-8", "surrogatepass")).digest()[:16]


def _whole(escape: re.Match[str]) -> str:
    return escape[0] if escape["half"] is None else "\\ufffd"


def _repaired(text: str) -> str | None:
    """Return what a Python literal means as JSON, None if *text* is no such thing."""
    if text[0] != "{" or len(text) > _LONGEST_LITERAL:
        return None
    try:
        with warnings.catch_warnings():
            # Of what a model wrote, nothing is to be told in a log.
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, SyntaxError, OverflowError, MemoryError, RecursionError):
        # A TypeError is a set or a key of what cannot be hashed: "{{...}}" of a template.
        pass
    return None


def _told(text: str) -> str:
    return msgspec.json.encode({"raw_arguments": text}).decode()
