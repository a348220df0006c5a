"""
Which account a conversation belongs to, remembered for a time and within bounds.

Prompt caches are kept per account: a conversation that hops between two pays for its
prefix anew each time. Pure; of the names it is given it keeps digests only.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence


class Affinities:
    """
    Names of conversations, and whose they are.

    :param ttl: Seconds that a name is remembered after it was last used; 0 remembers none.
    :param size: Names at a time; beyond, those not used for longest are forgotten.
    """

    def __init__(self, *, ttl: float, size: int) -> None:
        self._ttl = ttl
        self._size = size
        self._known: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def limit(self, *, ttl: float, size: int) -> None:
        """Change the bounds; what is beyond them is forgotten."""
        self._ttl, self._size = ttl, size
        self._trim()

    def find(self, names: Sequence[str], now: float) -> tuple[str, str] | None:
        """Return the id of the account that a name belongs to: the first known one, and which."""
        if self._ttl <= 0:
            return None
        for name in names:
            key = _digest(name)
            known = self._known.get(key)
            if known is None:
                continue
            account, expires = known
            # A clock that was set back must not make it last for longer.
            if now < expires <= now + self._ttl:
                self._known[key] = account, now + self._ttl
                self._known.move_to_end(key)
                return account, name
            del self._known[key]
        return None

    def bind(self, names: Sequence[str], account: str, now: float) -> None:
        """Remember that *names* belong to *account*."""
        if self._ttl <= 0:
            return
        for name in names:
            key = _digest(name)
            self._known[key] = account, now + self._ttl
            self._known.move_to_end(key)
        self._trim()

    def _trim(self) -> None:
        size = self._size if self._ttl > 0 else 0
        while len(self._known) > size:
            self._known.popitem(last=False)


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
