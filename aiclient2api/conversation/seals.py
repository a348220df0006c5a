"""
Seals: what an issuer gives along with a thought so that it can take the thought back.

A Claude signature, a Gemini thought signature, the encrypted content of OpenAI: opaque,
and good only with whoever issued it. A client of another dialect carries one for us in
its own place for such things; there it is written as a parcel that tells its issuer,
so that it finds the way back and no other. This file must never look into a seal.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

import attrs

_HEAD = b"aic2api/seal"
_DIGEST = 6
_BODY = len(_HEAD) + _DIGEST
PARCEL = base64.b64encode(_HEAD).decode()
"""What every parcel begins with, in either alphabet of base64."""


@attrs.frozen
class Seal:
    """
    One seal.

    :ivar issuer: The name of the dialect its issuer speaks.
    :ivar value: What the issuer gave, byte for byte.
    :ivar id: The issuer's id for the thought, where it has one (Responses).
    :ivar hidden: True if the thought itself was never shown (Claude's redacted thinking).
    """

    issuer: str
    value: str = attrs.field(repr=False)
    id: str = ""
    hidden: bool = False


def carried(seal: Seal, dialect: str) -> str:
    """
    Return *seal* as a client of *dialect* is to carry it.

    :return: The value itself for the dialect's own seals, else a parcel in standard
        base64: valid wherever base64 is asked for.
    """
    bare = not seal.id and not seal.hidden
    # The upstream may be a gateway like this one, and the value a parcel of its own.
    if seal.issuer == dialect and bare and not seal.value.startswith(PARCEL):
        return seal.value
    id = seal.id.replace("\0", "")
    fields = (seal.issuer, id, "hidden" if seal.hidden else "", seal.value)
    body = b"\0".join(field.encode() for field in fields)
    return base64.b64encode(_HEAD + _digest(body) + body).decode()


def taken(text: str, dialect: str) -> Seal:
    """
    Return the seal that a client of *dialect* carried as *text*.

    What is no parcel of ours was issued in the client's own dialect. A parcel that was cut
    or altered is nobody's.
    """
    if text.startswith(PARCEL):
        try:
            raw = base64.b64decode(text.translate(_STANDARD) + "==", validate=False)
            told, body = raw[len(_HEAD) : _BODY], raw[_BODY:]
            if told != _digest(body):
                return Seal(issuer="", value="")
            issuer, id, hidden, value = body.decode().split("\0", 3)
        except (ValueError, binascii.Error):
            return Seal(issuer="", value="")
        return Seal(issuer=issuer, value=value, id=id, hidden=hidden == "hidden")
    return Seal(issuer=dialect, value=text)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_DIGEST]


_STANDARD = str.maketrans("-_", "+/")
