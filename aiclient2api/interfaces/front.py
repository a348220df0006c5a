"""
The seams inwards: keys, the answer to a client, and those who watch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

from aiclient2api.values import (
    Caller,
    ExchangeRecord,
    Headers,
    Outcome,
)

if TYPE_CHECKING:
    from twisted.internet.interfaces import IPushProducer

    from aiclient2api.errors import UpstreamError


class IKeyring(Interface):
    """The keys that may call."""

    open = Attribute("True if nobody is asked for a key (bool).")
    sole = Attribute("True if all who may call are one caller (bool).")

    def who(*, presented: Sequence[str]) -> Caller:
        """
        Return whose key is among those presented. Compares digests in constant time.

        :raise Unauthorized: if none is ours.
        """


class IClientReply(Interface):
    """The answer under way to one client. Nothing is sent before `begin`."""

    begun = Attribute("True once `begin` was called (bool).")

    def begin(status: int, headers: Headers) -> None:
        """Send the head. Once."""

    def write(data: bytes) -> None:
        """Send body bytes."""

    def finish() -> None:
        """End the body cleanly."""

    def abort() -> None:
        """Close the connection without the body's clean end."""

    def register_producer(producer: IPushProducer) -> None:
        """Let a slow client pause *producer*."""

    def unregister_producer() -> None:
        """Undo `register_producer`; safe when nothing is registered."""


class IExchangeObserver(Interface):
    """
    Someone told of every exchange. Must not block, must not raise.
    """

    wants_text = Attribute("True if `Outcome.text` is to be filled (bool).")

    def began(exchange: ExchangeRecord) -> None:
        """A request passed policy and is about to be sent."""

    def attempt(exchange: ExchangeRecord, error: UpstreamError | None) -> None:
        """One attempt ended: well if *error* is None."""

    def first_byte(exchange: ExchangeRecord) -> None:
        """The first byte goes to the client."""

    def ended(exchange: ExchangeRecord, outcome: Outcome) -> None:
        """The exchange is over. Called exactly once."""
