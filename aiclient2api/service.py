"""
The running gateway: what starts, in which order it stops, and how it reloads.

``MultiService`` stops all its children at once; here the order is written out:
stop listening, let what is in flight finish, cut off the rest, close the connections
behind their answers, then let go of the upstreams and flush the logs.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Protocol

from twisted.application.service import MultiService
from twisted.application.strports import service as listener
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from aiclient2api.config import Settings
from aiclient2api.errors import ConfigurationError
from aiclient2api.values import Clock
from aiclient2api.web.front import Front
from aiclient2api.web.setup import Setup
from aiclient2api.web.site import GatewaySite

GRACE = 10.0
"""Seconds that requests in flight get to finish when the gateway stops."""

LAST_GRACE = 1.0
"""Seconds that requests which were cut off, and then all connections, get to end."""

FIXED = (
    "listen",
    "state_dir",
    "prompt_log_mode",
    "prompt_log_base_name",
    "fetch_system_prompt",
)
"""Settings that are read at the start only."""


class World(Protocol):
    """What the service runs; `tap` builds it."""

    reactor: Any
    clock: Clock
    front: Front
    site: GatewaySite

    def settings(self) -> Settings:
        """Return the settings in force."""

    def load(self, *, listen: Sequence[str] | None = None) -> Settings:
        """
        Read and check the configuration anew. Raises `ConfigurationError`.

        :param listen: Judge it as if this were what is listened on.
        """

    def use(self, settings: Settings) -> Setup:
        """
        Build a setup of *settings* and put it in force.

        Raises `ConfigurationError`; then nothing has changed.
        """

    def open(self) -> None:
        """Make the state directory and key; start the observers."""

    def close(self) -> Deferred[Any]:
        """Let go of upstream connections; flush the observers."""


class Gateway(MultiService):
    """
    The service that ``twistd`` runs.

    :param world: All parts, not yet started.
    :param announce: Called once everything listens, with the addresses.
    """

    _log = Logger()

    def __init__(self, world: World, announce: Callable[[Sequence[object]], None]) -> None:
        super().__init__()
        self._world = world
        self._announce = announce
        self._old_hangup: Any = None
        self._started = world.settings()
        for description in self._started.listen:
            child = listener(description, world.site, reactor=world.reactor)
            # A port that is taken must end the start, not a line in a log.
            child._raiseSynchronously = True
            child.setName(f"listen {description}")
            child.setServiceParent(self)

    def startService(self) -> None:
        """
        Make the state files, watch for SIGHUP, and say what listens.

        Ports are bound by now (``privilegedStartService``), but nothing is accepted
        before the reactor runs. Files are made here and not there, because only now
        does the process run as the user that is to own them.
        """
        self._world.open()
        super().startService()
        self._old_hangup = signal.signal(signal.SIGHUP, self._hung_up)
        self._announce([port.getHost() for port in self._ports()])

    def stopService(self) -> Deferred[None]:
        """Stop in order; fire when everything has let go."""
        if self._old_hangup is not None:
            signal.signal(signal.SIGHUP, self._old_hangup)
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> bool:
        """
        Read and check the configuration again; a bad one changes nothing.

        :return: True if the new configuration is in force.
        """
        started = self._started
        try:
            new = self._world.load()
            if started.source is not None and new.source != started.source:
                raise ConfigurationError([f"{started.source} is gone; put it back, or restart"])
            # The sockets stay as they are, so it is these that the new keys must suit.
            self._world.use(self._world.load(listen=started.listen))
        except ConfigurationError as error:
            self._log.error(
                "The configuration was not reloaded, the old one stays in force. {faults}",
                faults=" | ".join(error.faults),
            )
            return False
        for warning in new.warnings:
            self._log.warn("{told}", told=warning)
        changed = [name for name in FIXED if getattr(new, name) != getattr(started, name)]
        if changed:
            self._log.warn("A change of {keys} needs a restart.", keys=", ".join(changed))
        self._log.info("The configuration was reloaded from {source}.", source=new.source)
        return True

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        self._world.reactor.callFromThread(self.reload)

    def _ports(self) -> list[Any]:
        ports = []
        for child in self.services:
            waiting = getattr(child, "_waitingForPort", None)
            if waiting is not None and hasattr(waiting, "result"):
                ports.append(waiting.result)
        return ports

    async def _stop(self) -> None:
        await MultiService.stopService(self)
        front = self._world.front
        if front.in_flight:
            self._log.info(
                "Waiting up to {grace:g} s for {count} requests in flight.",
                grace=GRACE,
                count=front.in_flight,
            )
            if not await self._within(GRACE, front.drained()):
                self._log.warn("Cutting off {count} requests.", count=front.in_flight)
                front.cut_off()
                # They are still to be told of, in the log and to whoever observes.
                await self._within(LAST_GRACE, front.drained())
        await self._within(LAST_GRACE, self._world.site.hang_up())
        await self._world.close()

    async def _within(self, seconds: float, done: Deferred[None]) -> bool:
        call = self._world.clock.callLater(seconds, done.cancel)
        try:
            await done
        except CancelledError:
            return False
        finally:
            if call.active():
                call.cancel()
        return True
