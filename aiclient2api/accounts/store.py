"""
Where accounts are remembered between two runs: what changes often is written now and then.

It must never know what the bytes mean that it is given, nor when an account changes; only
whose they are, and how long they may wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from aiclient2api.interfaces import IStateStore
from aiclient2api.values import Clock

NAMESPACE = "accounts"
TOTAL = 256 * 1024 * 1024
ONE = 256 * 1024
FLUSH_SECONDS = 0.5
"""How long a change may wait to be put into the store."""

_Name = tuple[str, str]


class AccountStore:
    """
    Keep one value for each account of each provider, for good.

    :param clock: An ``IReactorTime``: when to put what was marked.
    """

    _log = Logger()

    def __init__(self, store: IStateStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._marked: dict[_Name, Callable[[], bytes]] = {}
        self._too_large: set[_Name] = set()
        self._waiting: IDelayedCall | None = None
        self._closed = self._held = False
        store.limit(namespace=NAMESPACE, total=TOTAL, one=ONE)

    def load(self, provider: str) -> Deferred[dict[str, bytes]]:
        """
        Return what is known of a provider's accounts, by id; ``{}`` if it cannot be read.

        What was marked is among it. Cancelling gives up the wait.
        """
        self.flush()
        found: Deferred[Mapping[str, bytes]] = self._store.scan(namespace=NAMESPACE, owner=provider)
        return found.addCallback(dict)

    def mark(self, provider: str, id: str, encode: Callable[[], bytes]) -> None:
        """
        Note that an account has changed; it costs next to nothing.

        :param encode: Returns its value. Called once within `FLUSH_SECONDS`, unless another
            change comes before.
        """
        if self._closed:
            return
        self._marked[provider, id] = encode
        if self._waiting is None and not self._held:
            self._waiting = self._clock.callLater(FLUSH_SECONDS, self.flush)

    def now(self, provider: str, id: str, value: bytes) -> None:
        """Keep a value at once, instead of what was marked before: it may not be lost."""
        if self._closed:
            return
        if self._held:
            self._marked[provider, id] = lambda: value
            return
        self._marked.pop((provider, id), None)
        self._put((provider, id), value)

    def forget(self, provider: str, id: str) -> Deferred[bool]:
        """Forget an account; say whether anything was known of it."""
        self._marked.pop((provider, id), None)
        self._too_large.discard((provider, id))
        forgotten: Deferred[bool] = self._store.delete(namespace=NAMESPACE, owner=provider, key=id)
        return forgotten

    def flush(self) -> None:
        """Put all that was marked into the store, unless it is held back."""
        if self._held and not self._closed:
            return
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
        self._waiting = None
        marked, self._marked = self._marked, {}
        for name, encode in marked.items():
            try:
                value = encode()
            except Exception as error:
                # Its words may quote anything.
                self._log.error(
                    "What account {id} of {provider} has come to could not be kept: {kind}. "
                    "This is a bug.",
                    id=name[1],
                    provider=name[0],
                    kind=type(error).__qualname__,
                )
            else:
                self._put(name, value)

    def hold(self) -> Deferred[None]:
        """
        Put all that was marked, and then nothing until `release`: another process is to.

        :return: Fires once it is written, or cannot be.
        """
        self.flush()
        self._held = True
        written: Deferred[None] = self._store.flushed()
        return written

    def release(self) -> None:
        """Take up again what was held back."""
        self._held = False
        self.flush()

    def close(self) -> None:
        """
        Put all that was marked, and take no more. The store itself is left open.

        What was held back is dropped: it would stand in the place of what is newer.
        """
        self._closed = True
        if self._held:
            self._marked.clear()
        self.flush()

    def _put(self, name: _Name, value: bytes) -> None:
        provider, id = name
        kept = self._store.put(namespace=NAMESPACE, owner=provider, key=id, value=value, ttl=None)
        if kept:
            self._too_large.discard(name)
        elif len(value) > ONE and name not in self._too_large:
            self._too_large.add(name)
            self._log.warn(
                "What account {id} of {provider} has come to will be forgotten at a restart: it "
                "has {size} bytes, and {limit} are kept. This is a bug.",
                id=id,
                provider=provider,
                size=len(value),
                limit=ONE,
            )
