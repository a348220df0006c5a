"""
How a gateway stops without anybody being hurt: told, waited for, and at last interrupted.

It must never know why the gateway stops, nor what comes after. What happens is looked at,
and not announced: these are the last seconds of a process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from aiclient2api.errors import UpstreamError, stopping
from aiclient2api.values import Clock

LAST_GRACE = 1.0
"""Seconds that requests which were interrupted, and then all connections, get to end."""

LOOK = 0.05
"""Seconds between two looks at what is still going on."""


@attrs.frozen
class Haste:
    """
    How long a stop may take; seconds.

    :ivar delay: To go on listening, so that load balancers see that they should not come.
    :ivar grace: For what is under way, counted from the beginning.
    :ivar idle: How long a kept connection must have been idle before it is closed; 0: it
        is not waited for.
    """

    delay: float = 0.0
    grace: float = 10.0
    idle: float = 0.0


class Clients(Protocol):
    """Who is connected; `aiclient2api.web.leaving` knows them."""

    @property
    def busy(self) -> int:
        """Return how many requests arrive or are being answered."""

    @property
    def connected(self) -> int:
        """Return how many connections there are."""

    def tell(self) -> None:
        """Be ready no more, and keep no connection that is answered from now on."""

    def close_idle(self, seconds: float) -> None:
        """Have connections close once they were idle for so long."""

    def interrupt(self, error: UpstreamError) -> None:
        """End all that goes on with *error*."""

    def cut_off(self) -> None:
        """Close the connections of whatever goes on still."""

    def hang_up(self) -> Deferred[None]:
        """Close all connections behind what was written; cancelled, at once."""


class Drain:
    """
    One stop.

    :param stop_listening: Lets nobody else in.
    """

    _log = Logger()

    def __init__(
        self,
        clients: Clients,
        clock: Clock,
        haste: Haste,
        stop_listening: Callable[[], Deferred[Any]],
    ) -> None:
        self._clients = clients
        self._clock = clock
        self._stop_listening = stop_listening
        self._haste = haste
        self._began = clock.seconds()
        self._hurried = False

    def hurry(self, grace: float | None = None) -> None:
        """
        Wait no longer.

        :param grace: Or wait for so many seconds from now on, if that is sooner.
        """
        if grace is None:
            self._hurried = True
            return
        passed = self._clock.seconds() - self._began
        self._haste = attrs.evolve(self._haste, grace=min(self._haste.grace, passed + grace))

    async def run(self) -> None:
        """Do it; return when no client is left."""
        clients = self._clients
        clients.tell()
        if self._haste.delay and (clients.busy or clients.connected):
            self._log.info(
                "Stopping: GET /ready says so, and for {delay:g} s new requests are still "
                "taken. {count} requests are in flight.",
                delay=self._haste.delay,
                count=clients.busy,
            )
            await self._while(lambda: True, lambda: self._haste.delay)
        await self._stop_listening()
        if self._haste.idle:
            clients.close_idle(self._haste.idle)
        if clients.busy:
            self._log.info(
                "Nobody else is let in. Waiting up to {left:.0f} s for {count} requests in "
                "flight, or until a second signal.",
                left=max(0.0, self._left(self._haste.grace)),
                count=clients.busy,
            )
        await self._while(self._somebody, lambda: self._haste.grace)
        if clients.busy:
            await self._interrupt()
        await self._within(LAST_GRACE, clients.hang_up())
        self._log.info(
            "All clients are gone after {seconds:.1f} s.",
            seconds=self._clock.seconds() - self._began,
        )

    def _somebody(self) -> bool:
        waiting = self._haste.idle and self._clients.connected
        return bool(self._clients.busy or waiting)

    async def _interrupt(self) -> None:
        clients = self._clients
        self._log.warn(
            "Interrupting {count} requests after {seconds:.1f} s; their clients are told.",
            count=clients.busy,
            seconds=self._clock.seconds() - self._began,
        )
        clients.interrupt(stopping())
        # They are still to be told of, in the log and to whoever observes.
        last = self._clock.seconds() - self._began + LAST_GRACE
        self._hurried = False
        await self._while(lambda: bool(clients.busy), lambda: last)
        if clients.busy:
            self._log.warn("Cutting off {count} requests.", count=clients.busy)
            clients.cut_off()

    def _left(self, seconds: float) -> float:
        return seconds - float(self._clock.seconds() - self._began)

    async def _while(self, holds: Callable[[], bool], seconds: Callable[[], float]) -> None:
        """Wait while *holds*, for so many seconds since the beginning at most."""
        while holds() and not self._hurried and (left := self._left(seconds())) > 0:
            await deferLater(self._clock, min(LOOK, left))

    async def _within(self, seconds: float, done: Deferred[None]) -> None:
        call = self._clock.callLater(seconds, done.cancel)
        try:
            await done
        except CancelledError:
            pass
        finally:
            if call.active():
                call.cancel()
