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

from aiclient2api.errors import ConfigurationError
from aiclient2api.service import GRACE, LAST_GRACE, Gateway


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
    warnings: tuple[str, ...] = ()


class Front:
    """Requests in flight, as many as the test says."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.cut = False
        self.waiting: Deferred[None] | None = None

    def drained(self) -> Deferred[None]:
        """Wait for the test."""
        self.waiting = Deferred()
        return self.waiting

    def cut_off(self) -> None:
        """Note it."""
        self.cut = True


class Reactor(MemoryReactor):
    """A reactor in memory that runs what signals ask for at once."""

    def callFromThread(self, function: Any) -> None:
        """Call it."""
        function()


class Doors(Site):
    """A site whose connections close when the test says so."""

    def __init__(self) -> None:
        super().__init__(Resource())
        self.closing: Deferred[None] = succeed(None)

    def hang_up(self) -> Deferred[None]:
        """Wait for the test."""
        return self.closing


class World:
    """A world that notes what is done to it."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.clock = Clock()
        self.front = Front()
        self.site = Doors()
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
        before = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        self.gateway.privilegedStartService()
        self.gateway.startService()

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
        self.assertEqual(self.world.steps, ["open", "close"])

    def test_what_is_in_flight_may_finish(self) -> None:
        """The stop waits for it, and for no longer."""
        self.start()
        self.world.front.in_flight = 1
        stopping = self.gateway.stopService()
        self.assertNoResult(stopping)
        self.assertEqual(self.world.steps, ["open"])
        assert self.world.front.waiting is not None
        self.world.front.waiting.callback(None)
        self.successResultOf(stopping)
        self.assertFalse(self.world.front.cut)
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_connections_close_before_the_upstreams_are_let_go(self) -> None:
        """What is written to them is sent first."""
        self.start()
        closing: Deferred[None] = Deferred()
        self.world.site.closing = closing
        stopping = self.gateway.stopService()
        self.assertNoResult(stopping)
        self.assertEqual(self.world.steps, ["open"])
        closing.callback(None)
        self.successResultOf(stopping)
        self.assertEqual(self.world.steps, ["open", "close"])
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_a_client_that_does_not_read_cannot_hold_up_the_stop(self) -> None:
        """Its connection is given up."""
        self.start()
        self.world.site.closing = Deferred()
        stopping = self.gateway.stopService()
        self.world.clock.advance(LAST_GRACE)
        self.successResultOf(stopping)
        self.assertEqual(self.world.steps, ["open", "close"])

    def test_what_takes_too_long_is_cut_off(self) -> None:
        """A stop always ends."""
        self.start()
        self.world.front.in_flight = 1
        stopping = self.gateway.stopService()
        self.world.clock.advance(GRACE)
        self.assertTrue(self.world.front.cut)
        self.world.clock.advance(LAST_GRACE)
        self.successResultOf(stopping)
        self.assertTrue(self.world.front.cut)
        self.assertEqual(self.world.steps, ["open", "close"])

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
        told: list[str | None] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            told.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
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

    def test_after_the_stop_the_signal_is_no_longer_ours(self) -> None:
        """The handler that was there before is back."""
        before = signal.getsignal(signal.SIGHUP)
        self.start()
        self.assertNotEqual(signal.getsignal(signal.SIGHUP), before)
        self.successResultOf(self.gateway.stopService())
        self.assertEqual(signal.getsignal(signal.SIGHUP), before)
