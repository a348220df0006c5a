"""
The running gateway: what starts, in which order it stops, and how it reloads.

``MultiService`` stops all its children at once; here the order is written out:
be ready no more, stop listening, let what is in flight finish, interrupt the rest, close
the connections behind their answers, then let go of the upstreams and flush the logs.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Protocol

from twisted.application.service import MultiService
from twisted.application.strports import service as listener
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from aiclient2api.config import Settings
from aiclient2api.draining import Clients, Drain, Haste
from aiclient2api.errors import ConfigurationError
from aiclient2api.values import Clock
from aiclient2api.web.setup import Setup
from aiclient2api.web.site import GatewaySite

IDLE = 0.5
"""Seconds a kept connection must have been idle before it is closed at a stop."""

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
    site: GatewaySite

    @property
    def clients(self) -> Clients:
        """Return whoever is connected."""

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

    def settle(self) -> None:
        """Begin nothing any more of one's own accord: no probe, no renewal, no reload."""

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
        self._old_signals: dict[int, Any] = {}
        self._drain: Drain | None = None
        self._by_hand = False
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
        self._catch(signal.SIGHUP, self._hung_up)
        # The reactor sets its own first, which would end the process by the same signal
        # in the end, and log a fault for a second one.
        self._world.reactor.callWhenRunning(self._catch_stops)
        self._announce([port.getHost() for port in self._ports()])

    def stopService(self) -> Deferred[None]:
        """Stop in order; fire when everything has let go."""
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> bool:
        """
        Read and check the configuration again; a bad one changes nothing.

        :return: True if the new configuration is in force.
        """
        started = self._started
        if self._drain is not None:
            self._log.warn("The configuration was not reloaded: the gateway is stopping.")
            return False
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

    # --- stopping ---------------------------------------------------------------

    def _catch(self, number: int, act: Callable[[int, FrameType | None], None]) -> None:
        old = signal.signal(number, act)
        self._old_signals.setdefault(number, old)

    def _release(self, number: int) -> None:
        old = self._old_signals.pop(number, None)
        if old is not None:
            signal.signal(number, old)

    def _catch_stops(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            # Whoever starts it in the background of a shell may not mean Ctrl-C for it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._catch(number, self._told_to_stop)

    def _told_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._world.reactor.callFromThread(self.told_to_stop, number)

    def told_to_stop(self, number: int) -> None:
        """Do what a signal asks for: stop, or, where that goes on already, be quick."""
        name = signal.Signals(number).name
        if self._drain is None:
            self._log.info("Got {name}, stopping.", name=name)
            # Nobody asks whether someone at the keyboard is ready.
            self._by_hand = number == signal.SIGINT
            self._world.reactor.stop()
        else:
            self._log.info("Got {name} again, so nobody is waited for any more.", name=name)
            self._drain.hurry()

    async def _stop(self) -> None:
        world, stop = self._world, self._world.settings().stop
        world.settle()
        haste = Haste(
            delay=0.0 if self._by_hand else stop.delay,
            grace=stop.grace,
            idle=0.0 if self._by_hand else IDLE,
        )
        self._drain = Drain(
            world.clients, world.clock, haste, lambda: MultiService.stopService(self)
        )
        await self._drain.run()
        await world.close()
        for number in tuple(self._old_signals):
            self._release(number)
