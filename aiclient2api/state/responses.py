"""
Answers of the gateway that later requests refer to, kept for the caller they were given to.

It knows the store and how an answer becomes bytes there; of what an answer means, nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from aiclient2api.interfaces import IStateStore
from aiclient2api.values import KeptAnswer

NAMESPACE = "responses"


class _Record(msgspec.Struct, frozen=True, array_like=True, tag="1"):
    """An answer as it is kept. The tag is the form's version."""

    response: bytes
    items: bytes


_encode: Callable[[_Record], bytes] = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(_Record).decode


class StoredResponses:
    """
    Keep answers in a store, for a time and within limits.

    :param ttl: Seconds that an answer is kept. 0 keeps none, and what was kept goes too.
    :param total: Bytes that all of them may have; the oldest go first.
    :param one: Bytes that one may have.
    """

    _log = Logger()

    def __init__(self, store: IStateStore, *, ttl: float, total: int, one: int) -> None:
        self._store = store
        self._ttl = ttl
        self._one = min(one, total)
        if ttl > 0:
            store.limit(namespace=NAMESPACE, total=total, one=one)
        else:
            store.limit(namespace=NAMESPACE, total=0, one=0)

    def keep(self, owner: str, answer: KeptAnswer) -> None:
        """Keep an answer; it can be found from now on. One too large is left out."""
        if self._ttl <= 0:
            return
        value = _encode(_Record(answer.response, answer.items))
        kept = self._store.put(
            namespace=NAMESPACE, owner=owner, key=answer.id, value=value, ttl=self._ttl
        )
        if not kept and len(value) > self._one:
            self._log.warn(
                "Answer {id} cannot be gone on from: with its conversation it has {size} bytes, "
                "and stored_responses allows for {limit}.",
                id=answer.id,
                size=len(value),
                limit=self._one,
            )

    def find(self, owner: str, id: str) -> Deferred[KeptAnswer | None]:
        """Return an answer of *owner*; None if there is none, any more, or it is unreadable."""
        if self._ttl <= 0:
            return succeed(None)
        found: Deferred[bytes | None] = self._store.get(namespace=NAMESPACE, owner=owner, key=id)
        return found.addCallback(_read, id)

    def forget(self, owner: str, id: str) -> Deferred[bool]:
        """Forget an answer; say whether there was one."""
        forgotten: Deferred[bool] = self._store.delete(namespace=NAMESPACE, owner=owner, key=id)
        return forgotten


def _read(value: bytes | None, id: str) -> KeptAnswer | None:
    if value is None:
        return None
    try:
        record = _decode(value)
    except msgspec.DecodeError:
        return None
    return KeptAnswer(id=id, response=record.response, items=record.items)
