"""
Proof Key for Code Exchange: who asked for a code is who redeems it (RFC 7636, S256 only).

It knows no vendor, and neither what a code is for.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable

import attrs

METHOD = "S256"
"""The only way of proving it: ``plain`` proves nothing to who sees the first request."""

_BYTES = 32


@attrs.frozen
class Proof:
    """
    A verifier and its challenge.

    :ivar verifier: Kept until the code is redeemed, and told to nobody before.
    """

    verifier: str = attrs.field(repr=False)

    @property
    def challenge(self) -> str:
        """What is told at first: the verifier's digest."""
        return challenge_of(self.verifier)


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of *verifier* (RFC 7636, section 4.2)."""
    return _text(hashlib.sha256(verifier.encode("ascii")).digest())


def new_proof(random: Callable[[int], bytes] = secrets.token_bytes) -> Proof:
    """
    Return a proof that nobody has seen; its verifier has 43 characters.

    :param random: Returns so many unguessable bytes.
    """
    return Proof(_text(random(_BYTES)))


def new_state(random: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Return an unguessable text by which an answer is known to belong to our question."""
    return _text(random(_BYTES))


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")
