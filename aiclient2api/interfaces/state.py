"""
The seam downwards: where things are kept between requests, and between two runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zope.interface import Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class IStateStore(Interface):
    """
    Bytes kept by name. It does not know what they mean.

    A name has three parts: the *namespace* says what kind of thing it is and sets the
    limits, the *owner* whose it is, the *key* which one. Whoever asks with another owner
    finds nothing, whatever the key: an id that leaked opens nothing.

    Nothing is kept for certain. Values expire, the oldest make room for new ones, and a
    disk may fail; so a value that is missing is never an error, and no method raises or
    fails over what became of the disk. Cancelling a Deferred gives up the wait and nothing
    else.
    """

    def start() -> None:
        """Begin to read and to write. Before, only what was put since is found."""

    def limit(*, namespace: str, total: int, one: int) -> None:
        """
        Set the limits of a namespace. May be called at any time, also before `start`.

        :param total: Bytes that its values, with their owners and keys, may have. Beyond
            it those that were put longest ago go first, soon if not at once.
        :param one: Bytes that one value may have.
        """

    def put(*, namespace: str, owner: str, key: str, value: bytes, ttl: float | None) -> bool:
        """
        Keep a value in the place of the one before; the next `get` finds it.

        :param ttl: Seconds until it expires, None for never.
        :return: False if it is too large or the store is closed. Then nothing is kept
            under this name, the value before neither.
        """

    def get(*, namespace: str, owner: str, key: str) -> Deferred[bytes | None]:
        """Return a value; None if there is none, any more, or if it cannot be read."""

    def scan(*, namespace: str, owner: str) -> Deferred[Mapping[str, bytes]]:
        """Return all values of one owner, by key; ``{}`` if they cannot be read."""

    def delete(*, namespace: str, owner: str, key: str) -> Deferred[bool]:
        """
        Forget a value: the next `get` finds nothing.

        :return: Whether there was one.
        """

    def flushed() -> Deferred[None]:
        """Fire once all that was put so far is where another process finds it, or cannot be."""

    def close() -> Deferred[None]:
        """
        Write what is not written; fire when it is, or when it cannot be.

        Afterwards nothing is kept and nothing is found. May be called again.
        """
