"""
The arguments of a call: JSON text, repaired where a model or a client got it wrong.

It must never decode what is whole: key order and the digits of numbers stay.
"""

from __future__ import annotations

import ast
import warnings

import msgspec

_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()


def settled(text: str) -> str:
    """
    Return *text* as the JSON text of an object.

    Nothing is ``{}``. A value that is no object stands under ``value``; a Python literal
    (single quotes) is taken for what it means; anything else stands under
    ``raw_arguments``, so that nothing is lost and nothing is executed by mistake.
    """
    stripped = text.strip()
    if not stripped:
        return "{}"
    if is_object(stripped):
        return stripped
    try:
        _ANY.decode(stripped)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return _repaired(stripped)
    return '{"value":' + stripped + "}"


def is_object(text: str) -> bool:
    """Say whether *text* is the JSON text of one object."""
    try:
        _RAW.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False
    return True


def _repaired(text: str) -> str:
    if len(text) < 100_000:
        try:
            with warnings.catch_warnings():
                # Of what a model wrote, nothing is to be told in a log.
                warnings.simplefilter("ignore")
                value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = None
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            try:
                return msgspec.json.encode(value).decode()
            except (TypeError, ValueError, OverflowError, RecursionError):
                pass
    told = text.encode("utf-8", "replace").decode()
    return msgspec.json.encode({"raw_arguments": told}).decode()
