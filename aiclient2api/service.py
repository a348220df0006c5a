"""
The running gateway: what starts, in which order it stops, and how it reloads.

``MultiService`` stops all its children at once; here the order is written out:
be ready no more, stop listening, let what is in flight finish, interrupt the rest, close
the connections behind their answers, then let go of the upstreams and flush the logs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Protocol

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from aiclient2api.config import Settings
from aiclient2api.draining import Clients, Drain, Haste
from aiclient2api.errors import ConfigurationError
from aiclient2api.handing import HandingOver, TakingOver
from aiclient2api.listeners import Listener, matched
from aiclient2api.pidfile import PidFile
from aiclient2api.values import Clock
from aiclient2api.web.setup import Setup
from aiclient2api.web.site import GatewaySite

IDLE = 0.5
"""Seconds a kept connection must have been idle before it is closed at a stop."""

IDLE_AFTER_HAND_OVER = 5.0
"""The same where nobody is in a hurry: most clients send their next request sooner."""

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

    def hold(self) -> Deferred[Any]:
        """Write what is known of accounts, and no more of it: another process will."""

    def resume(self) -> None:
        """Take `hold` back."""

    def close(self) -> Deferred[Any]:
        """Let go of upstream connections; flush the observers."""


class Gateway(MultiService):
    """
    The service that ``twistd`` runs.

    :param world: All parts, not yet started.
    :param announce: Called once everything listens, with the addresses.
    :param handing: Hands over to the next process; None: none can take over.
    :param taking: Takes over from the process before.
    :param tell: Tells the init system how it goes, see `notify`.
    """

    _log = Logger()

    def __init__(
        self,
        world: World,
        announce: Callable[[Sequence[object]], None],
        *,
        handing: HandingOver | None = None,
        taking: TakingOver | None = None,
        pid_file: PidFile | None = None,
        tell: Callable[..., None] = lambda *lines: None,
    ) -> None:
        super().__init__()
        self._handing = handing
        self._taking = taking
        self._pid_file = PidFile({}) if pid_file is None else pid_file
        self._tell = tell
        self._handed: Sequence[str] | None = None
        self._inherited: list[Listener] = []
        self._world = world
        self._announce = announce
        self._old_signals: dict[int, Any] = {}
        self._drain: Drain | None = None
        self._by_hand = False
        self._started = world.settings()
        self._listeners: list[Listener] = []
        for description in self._started.listen:
            child = Listener(description, world.site, world.reactor, expecting=taking is not None)
            child.setName(f"listen {description} {len(self._listeners)}")
            child.setServiceParent(self)
            self._listeners.append(child)

    def privilegedStartService(self) -> None:
        """Take over what there is to take over, and bind the rest."""
        if self._taking is not None:
            wanted = [child.description for child in self._listeners]
            for place, descriptor in matched(wanted, self._taking.take()).items():
                self._listeners[place].inherit(descriptor)
                self._inherited.append(self._listeners[place])
        super().privilegedStartService()

    def startService(self) -> None:
        """
        Make the state files, watch for SIGHUP, and say what listens.

        Ports are bound by now (``privilegedStartService``), but nothing is accepted
        before the reactor runs. Files are made here and not there, because only now
        does the process run as the user that is to own them.
        """
        self._world.open()
        if self._taking is not None:
            # All that could go wrong has not. What is known of the accounts is read when
            # the reactor runs, which is after the other process has written it.
            self._taking.ready([child.description for child in self._inherited])
        super().startService()
        self._catch(signal.SIGHUP, self._hung_up)
        # The reactor sets its own first, which would end the process by the same signal
        # in the end, and log a fault for a second one.
        self._world.reactor.callWhenRunning(self._running)
        self._announce([child.port.getHost() for child in self._listeners])

    def _running(self) -> None:
        """Go on where only a running process can."""
        self._catch_stops()
        if self._taking is not None:
            try:
                self._pid_file.take()
            except OSError as error:
                self._log.error("The pid file keeps its other name: {error}", error=error)
            self._taking.accepting()
            for child in self._inherited:
                child.settle()
        if self._handing is not None:
            self._handing.start(self)
        self._tell("READY=1", f"MAINPID={os.getpid()}")

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
        except Exception as caught:
            # Its own words may hold a key: only its kind and place are told.
            told = RuntimeError(type(caught).__name__)
            self._log.failure(
                "The configuration was not reloaded, the old one stays in force; this is a bug",
                Failure(told, RuntimeError, caught.__traceback__),
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

    # --- handing over, see `handing.Giver` --------------------------------------

    def shared(self) -> Sequence[tuple[str, int]]:
        """Return what listens. It is another process's too from now on."""
        for child in self._listeners:
            child.share()
        return [(child.description, child.descriptor) for child in self._listeners]

    def elders(self) -> Sequence[int]:
        """Return the connections to the processes before this one."""
        return () if self._taking is None else self._taking.elders()

    def hold(self) -> Deferred[Any]:
        """Write what is known of the accounts for the process that takes over."""
        return self._world.hold()

    def resume(self) -> None:
        """Go on as if nobody had wanted to take over."""
        self._world.resume()
        self._pid_file.restore()

    def let_go(self, taken: Sequence[str]) -> None:
        """Let in nobody any more, finish what is under way, and exit."""
        self._handed = taken
        self._pid_file.leave()
        if self._drain is None:
            self._world.reactor.stop()

    def hurry(self) -> None:
        """The process that has taken over stops, so this one has no more time than that."""
        if self._drain is not None:
            self._drain.hurry(self._world.settings().stop.grace)

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
        world = self._world
        world.settle()
        if self._handed is None:
            self._tell("STOPPING=1")
            if self._taking is not None:
                self._taking.stopping()
        self._drain = Drain(world.clients, world.clock, self._haste(), self._stop_listening)
        if self._handing is not None:
            self._handing.stop()
        await self._drain.run()
        await world.close()
        if self._taking is not None:
            self._taking.close()
        for number in tuple(self._old_signals):
            self._release(number)

    def _haste(self) -> Haste:
        stop = self._world.settings().stop
        if self._handed is not None:
            return Haste(grace=stop.hand_over, idle=IDLE_AFTER_HAND_OVER)
        if self._by_hand:
            return Haste(grace=stop.grace)
        return Haste(delay=stop.delay, grace=stop.grace, idle=IDLE)

    def _stop_listening(self) -> Deferred[Any]:
        left = list(self._handed or ())
        for child in self._listeners:
            if child.description in left:
                left.remove(child.description)
                child.leave()
        stopped: Deferred[Any] = MultiService.stopService(self)
        return stopped
