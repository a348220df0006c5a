"""
Tell whose key a request carries.

Keys are held as digests and compared in constant time; what was presented is never
kept, logged or echoed. This file must never know where a key stands in a request.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from zope.interface import implementer

from aiclient2api.errors import Unauthorized
from aiclient2api.interfaces import IKeyring
from aiclient2api.values import Caller

ANYONE = Caller("anyone")
"""Who calls an explicitly open server."""


@implementer(IKeyring)
class Keyring:
    """
    The keys that may call.

    :param keys: The configured keys; empty means the server is open to anyone.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = tuple(dict.fromkeys(_digest(key) for key in keys))
        self.open = not self._digests
        self.sole = len(self._digests) < 2

    def who(self, *, presented: Sequence[str]) -> Caller:
        """See `IKeyring`."""
        if not self._digests:
            return ANYONE
        found = None
        for candidate in presented:
            theirs = _digest(candidate)
            for ours in self._digests:
                # No early exit: the time taken must not tell which key came close.
                if hmac.compare_digest(theirs, ours):
                    found = ours
        if found is None:
            raise Unauthorized(
                "Unauthorized: the API key is invalid or missing. Send the gateway's own key as "
                "'Authorization: Bearer KEY', 'x-api-key: KEY', 'x-goog-api-key: KEY' or "
                "'?key=KEY'.",
                code="invalid_api_key",
            )
        # All of it: two callers whose digests begin alike are two.
        return Caller(found.hex())


def _digest(key: str) -> bytes:
    # No text may be a fault here: whoever presents one is told that it is no key.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
