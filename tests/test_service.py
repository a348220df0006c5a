"""The service: it stops in order, and a reload changes all or nothing."""

from __future__ import annotations

import signal
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from aiclient2api.config.settings import Stop
from aiclient2api.draining import LAST_GRACE, LOOK
from aiclient2api.errors import ConfigurationError, UpstreamError
from aiclient2api.service import Gateway

STOP = Stop()
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


@attrs.frozen
class Told:
    """As much of the settings as the service looks at."""

    name: str = "old"
    listen: tuple[str, ...] = ("tcp:3000:interface=127.0.0.1",)
    state_dir: str = "/nowhere"
    source: str = "config.json"
    prompt_log_mode: str = "none"
    prompt_log_base_name: str = "prompt_log"
    fetch_system_prompt: str | None = None
    stop: Stop = STOP
    warnings: tuple[str, ...] = ()


class Clients:
    """Clients, as many as the test says."""

    def __init__(self, listening: Any) -> None:
        self.listening = listening
        self.busy = self.connected = 0
        self.stubborn = False
        self.steps: list[object] = []
        self.closing: Deferred[None] = succeed(None)

    def tell(self) -> None:
        """Note it."""
        self.note("told")

    def close_idle(self, seconds: float) -> None:
        """Do it at once."""
        self.note("close idle")
        self.connected = self.busy

    def interrupt(self, error: UpstreamError) -> None:
        """Note with what; whoever is not stubborn is gone."""
        self.note(error.code)
        if not self.stubborn:
            self.busy = self.connected = 0

    def cut_off(self) -> None:
        """Note it."""
        self.note("cut off")

    def hang_up(self) -> Deferred[None]:
        """Wait for the test."""
        self.note("hang up")
        return self.closing

    def note(self, what: object) -> None:
        """Note what is done, and whether anybody is still let in."""
        self.steps.append((what, "listening") if self.listening() else what)


class Reactor(MemoryReactor):
    """A reactor in memory that runs what signals ask for at once, as it does a stop."""

    stops = 0
    listening = False

    def listenTCP(self, *args: Any, **named: Any) -> Any:
        """Listen until told otherwise."""
        port = super().listenTCP(*args, **named)
        self.listening = True

        def stop() -> None:
            self.listening = False

        port.stopListening = stop
        return port

    def stop(self) -> None:
        """Count it."""
        self.stops += 1

    def callFromThread(self, function: Any, *args: Any) -> None:
        """Call it."""
        function(*args)


class World:
    """A world that notes what is done to it."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.clock = Clock()
        self.site = Site(Resource())
        self.clients = Clients(lambda: self.reactor.listening)
        self.told: Told | ConfigurationError = Told()
        self.used = Told()
        self.steps: list[str] = []

    def settings(self) -> Told:
        """Return what is in force."""
        return self.used

    def load(self, *, listen: tuple[str, ...] | None = None) -> Told:
        """Read what the test wrote."""
        if isinstance(self.told, ConfigurationError):
            raise self.told
        return self.told if listen is None else attrs.evolve(self.told, listen=listen)

    def use(self, settings: Told) -> None:
        """Put it in force."""
        self.used = settings

    def open(self) -> None:
        """Note it."""
        self.steps.append("open")

    def settle(self) -> None:
        """Note it."""
        self.steps.append("settle")

    def hold(self) -> Deferred[None]:
        """Note it."""
        self.steps.append("hold")
        return succeed(None)

    def resume(self) -> None:
        """Note it."""
        self.steps.append("resume")

    def close(self) -> Deferred[None]:
        """Note it, with whether anything was still listening."""
        self.steps.append("close")
        return succeed(None)


class GatewayTests(SynchronousTestCase):
    """Start, reload, stop."""

    def setUp(self) -> None:
        """Make a service that was not started."""
        self.world = World()
        self.announced: list[object] = []
        self.gateway = Gateway(self.world, self.announced.extend)  # type: ignore[arg-type]

    def start(self) -> None:
        """Start it as twistd does."""
        for number in SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.gateway.privilegedStartService()
        self.gateway.startService()
        for hook, args, named in self.world.reactor.whenRunningHooks:
            hook(*args, **named)

    def advance(self, seconds: float) -> None:
        """Let time pass, look by look."""
        self.world.clock.pump([LOOK] * round(seconds / LOOK))

    def test_it_listens_before_it_makes_its_files(self) -> None:
        """And says where it listens."""
        self.gateway.privilegedStartService()
        self.assertEqual(len(self.world.reactor.tcpServers), 1)
        self.assertEqual(self.world.steps, [])
        self.start()
        self.assertEqual(self.world.steps, ["open"])
        self.assertEqual(len(self.announced), 1)

    def test_an_idle_gateway_stops_at_once(self) -> None:
        """Nothing is waited for; upstreams are let go last."""
        self.start()
        self.successResultOf(self.gateway.stopService())
        self.assertEqual(self.world.steps, ["open", "settle", "close"])
        self.assertEqual(self.world.clients.steps, [("told", "listening"), "close idle", "hang up"])
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_what_is_in_flight_may_finish(self) -> None:
        """The listener stays open for a moment, the stop waits, and then for no longer."""
        self.start()
        clients = self.world.clients
        clients.busy = clients.connected = 1
        stopping = self.gateway.stopService()
        self.advance(STOP.delay - 2 * LOOK)
        self.assertTrue(self.world.reactor.listening)
        self.advance(4 * LOOK)
        self.assertFalse(self.world.reactor.listening)
        self.assertNoResult(stopping)
        self.assertEqual(self.world.steps, ["open", "settle"])
        clients.busy = clients.connected = 0
        self.advance(LOOK)
        self.successResultOf(stopping)
        self.assertEqual(clients.steps, [("told", "listening"), "close idle", "hang up"])
        self.assertEqual(self.world.steps, ["open", "settle", "close"])
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_who_is_only_connected_is_told_and_then_let_go(self) -> None:
        """A kept connection holds nothing up for long, but is not closed unawares."""
        self.start()
        self.world.clients.connected = 1
        stopping = self.gateway.stopService()
        self.advance(STOP.delay + LOOK)
        self.successResultOf(stopping)

    def test_ctrl_c_listens_no_longer(self) -> None:
        """Whoever sits in front of it need not wait for a load balancer."""
        self.start()
        self.world.clients.connected = 1
        signal.raise_signal(signal.SIGINT)
        self.assertEqual(self.world.reactor.stops, 1)
        self.successResultOf(self.gateway.stopService())
        self.assertEqual(self.world.clients.steps, [("told", "listening"), "hang up"])

    def test_connections_close_before_the_upstreams_are_let_go(self) -> None:
        """What is written to them is sent first."""
        self.start()
        closing: Deferred[None] = Deferred()
        self.world.clients.closing = closing
        stopping = self.gateway.stopService()
        self.assertNoResult(stopping)
        self.assertEqual(self.world.steps, ["open", "settle"])
        closing.callback(None)
        self.successResultOf(stopping)
        self.assertEqual(self.world.steps, ["open", "settle", "close"])
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_a_client_that_does_not_read_cannot_hold_up_the_stop(self) -> None:
        """Its connection is given up."""
        self.start()
        self.world.clients.closing = Deferred()
        stopping = self.gateway.stopService()
        self.advance(LAST_GRACE + LOOK)
        self.successResultOf(stopping)
        self.assertEqual(self.world.steps, ["open", "settle", "close"])

    def test_what_takes_too_long_is_interrupted(self) -> None:
        """After ``grace`` seconds, all in all; it is told why, and so is the log."""
        self.start()
        clients = self.world.clients
        clients.busy = 2
        told = self.logged()
        stopping = self.gateway.stopService()
        self.advance(STOP.grace - 2 * LOOK)
        self.assertNotIn("gateway_stopping", clients.steps)
        self.advance(3 * LOOK)
        self.successResultOf(stopping)
        self.assertEqual(clients.steps[2:], ["gateway_stopping", "hang up"])
        self.assertTrue([line for line in told if "Waiting up to 7 s for 2 requests" in line], told)
        self.assertTrue([line for line in told if line.startswith("Interrupting 2 requests")], told)

    def test_what_does_not_end_is_cut_off(self) -> None:
        """A stop always ends."""
        self.start()
        clients = self.world.clients
        clients.busy, clients.stubborn = 1, True
        stopping = self.gateway.stopService()
        self.advance(STOP.grace + LAST_GRACE - 2 * LOOK)
        self.assertNotIn("cut off", clients.steps)
        self.advance(4 * LOOK)
        self.successResultOf(stopping)
        self.assertEqual(clients.steps[-2:], ["cut off", "hang up"])

    def test_a_second_signal_cuts_the_wait_short(self) -> None:
        """Both of it: that for load balancers, and that for requests."""
        self.start()
        clients = self.world.clients
        clients.busy = 1
        signal.raise_signal(signal.SIGTERM)
        self.assertEqual(self.world.reactor.stops, 1)
        stopping = self.gateway.stopService()
        self.advance(2 * LOOK)
        self.assertNoResult(stopping)
        signal.raise_signal(signal.SIGTERM)
        self.advance(2 * LOOK)
        self.successResultOf(stopping)
        self.assertIn("gateway_stopping", clients.steps)
        self.assertEqual(self.world.reactor.stops, 1)

    def test_grace_is_what_the_configuration_says_now(self) -> None:
        """And not what it said at the start."""
        self.start()
        self.world.told = Told(stop=Stop(grace=1.0, delay=0.0))
        self.assertTrue(self.gateway.reload())
        self.world.clients.busy = 1
        stopping = self.gateway.stopService()
        self.assertFalse(self.world.reactor.listening)
        self.advance(1.0 + LOOK)
        self.successResultOf(stopping)

    def test_nothing_is_reloaded_while_it_stops(self) -> None:
        """SIGHUP neither kills it then, nor brings anything new to life."""
        self.start()
        self.world.clients.busy = 1
        stopping = self.gateway.stopService()
        self.world.told = Told(name="new")
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(self.world.used.name, "old")
        self.advance(STOP.grace + LAST_GRACE)
        self.successResultOf(stopping)

    def logged(self) -> list[str]:
        """Return what is logged from now on, in a list that grows."""
        told: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            told.append(formatEvent(event) or "")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return told

    def test_a_reload_puts_the_new_configuration_in_force(self) -> None:
        """At SIGHUP."""
        self.start()
        self.world.told = Told(name="new")
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(self.world.used.name, "new")

    def test_what_a_reload_cannot_change_is_told(self) -> None:
        """By the keys' names; the rest is in force all the same."""
        self.start()
        self.world.told = Told(name="new", listen=("tcp:4000",))
        told = self.logged()
        self.assertTrue(self.gateway.reload())
        self.assertIn("A change of listen needs a restart.", told)

    def test_a_configuration_that_is_gone_changes_nothing(self) -> None:
        """The defaults are not what somebody meant who moved a file."""
        self.start()
        self.world.told = Told(name="new", source="")
        self.assertFalse(self.gateway.reload())
        self.assertEqual(self.world.used.name, "old")

    def test_the_new_configuration_must_suit_the_sockets_there_are(self) -> None:
        """What is put in force names the listeners that are bound, not those wished for."""
        self.start()
        self.world.told = Told(name="new", listen=("tcp:4000",))
        self.assertTrue(self.gateway.reload())
        self.assertEqual(self.world.used.listen, Told().listen)

    def test_a_bad_configuration_changes_nothing(self) -> None:
        """The old one stays in force, and the process stays alive."""
        self.start()
        self.world.told = ConfigurationError(["port: is wrong"])
        self.assertFalse(self.gateway.reload())
        self.assertEqual(self.world.used.name, "old")

    def test_a_bug_in_a_reload_changes_nothing(self) -> None:
        """It is logged without its words, which may hold a key; SIGHUP works again later."""
        self.start()
        self.world.told = Told(name="new")
        told = self.logged()

        def fail(settings: Told) -> None:
            raise KeyError("sk-secret")

        use = self.world.use
        self.patch(self.world, "use", fail)
        self.assertFalse(self.gateway.reload())
        self.assertEqual(self.world.used.name, "old")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertNotIn("sk-secret", "".join(told))
        self.patch(self.world, "use", use)
        self.assertTrue(self.gateway.reload())

    def test_after_the_stop_the_signals_are_no_longer_ours(self) -> None:
        """The handlers that were there before are back."""
        before = [signal.getsignal(number) for number in SIGNALS]
        self.start()
        for number, old in zip(SIGNALS, before, strict=True):
            self.assertNotEqual(signal.getsignal(number), old)
        self.successResultOf(self.gateway.stopService())
        self.assertEqual([signal.getsignal(number) for number in SIGNALS], before)
