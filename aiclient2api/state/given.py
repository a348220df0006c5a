"""
Ids that upstreams gave out for what they keep: to whose key, and from which account.

An id alone opens nothing: whoever names one must be who it was given to. What an id stands
for is never here, nor the id itself; a digest of it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from twisted.internet.defer import Deferred

from aiclient2api.interfaces import IStateStore

NAMESPACE = "given"

TTL = 30 * 86400.0
"""Seconds: as long as OpenAI keeps a response."""
TOTAL = 16 * 1024 * 1024
"""Bytes that all records may have: some 80,000."""
ONE = 1024
"""Bytes of one: the id of an account."""


class GivenIds:
    """
    Remember ids in a store, by the digest of the caller's key.

    :param store: Where, so that it is known after a restart.
    """

    def __init__(self, store: IStateStore, *, ttl: float = TTL) -> None:
        self._store = store
        self._ttl = ttl
        store.limit(namespace=NAMESPACE, total=TOTAL, one=ONE)

    def give(self, owner: str, provider: str, ids: Iterable[str], account: str) -> None:
        """Remember that *account* of *provider* gave *ids* to *owner*."""
        for id in ids:
            self._store.put(
                namespace=NAMESPACE,
                owner=owner,
                key=_digest(provider, id),
                value=account.encode("utf-8", "surrogatepass"),
                ttl=self._ttl,
            )

    def keeper(self, owner: str, provider: str, id: str) -> Deferred[str | None]:
        """
        Return the id of the account that gave *id* to *owner*; None if none did.

        Another provider's id is another, even if it is spelt alike: an upstream must not
        open what a different one keeps.
        """
        found: Deferred[bytes | None] = self._store.get(
            namespace=NAMESPACE, owner=owner, key=_digest(provider, id)
        )
        return found.addCallback(
            lambda value: None if value is None else value.decode("utf-8", "replace")
        )


def _digest(provider: str, id: str) -> str:
    # However long an upstream, or a client, makes an id.
    told = f"{len(provider)} {provider} {id}"
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
