"""
Images by URL: from where they are fetched, and how every step on the way there ends.

What is told here of addresses holds for any caller, however hostile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface.verify import verifyObject

from aiclient2api.conversation.request import Inline
from aiclient2api.errors import InvalidRequest
from aiclient2api.upstream.addresses import is_public
from aiclient2api.upstream.connecting import Origin
from aiclient2api.upstream.fetching import AT_A_TIME, ImageFetcher
from aiclient2api.upstream.public_road import PublicRoad
from tests.fetching_fixture import PLAIN, PNG, PUBLIC, FetchCase, World, inline, reply
from tests.raw_peers import REACTOR, Authority, WireCase, silent
from tests.raw_peers import reply as raw_reply

AUTHORITY = Authority.create()
TLS = PLAIN.replace("http:", "https:")


class AddressTests(FetchCase):
    """From where it is fetched: nowhere but the public Internet."""

    def test_private_hosts(self) -> None:
        """Not one byte, not one connection, to anything that is not public."""
        inside = [
            *("127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0"),
            *("100.64.0.1", "[::1]", "[fd00:ec2::254]", "[::ffff:127.0.0.1]", "[fe80::1]"),
            *("[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::1]", "localhost", "meta.example", "b.example"),
        ]
        names = {
            "localhost": [["127.0.0.1", "::1"]],
            "meta.example": [["169.254.169.254"]],
            "b.example": [[PUBLIC, "10.0.0.1"]],
        }
        for host in inside:
            for scheme in ("http", "https"):
                world = World(names)
                fetching = world.fetcher.fetch(f"{scheme}://{host}/latest/meta-data/x.png?hush")
                error = self.assertRefused(fetching, "not on the public Internet", host)
                self.assertNotIn("10.0.0.1" if host == "b.example" else "nothing", error.message)
                self.assertEqual(world.dialled, [])
                self.assertQuiet(world)

    def test_urls_that_are_not_fetched(self) -> None:
        """Other schemes and ports, credentials, and odd spellings, before any look-up."""
        for url, word in (
            ("file:///etc/passwd", "http:// and https://"),
            ("gs://bucket/cat.png", "http:// and https://"),
            ("https://me:hush@a.example/", "a password"),
            ("http://a.example:22/", "another port"),
            ("http://2130706433/", "number"),
            ("http://[fe80::1%25eth0]/", "read"),
        ):
            world = World()
            self.assertRefused(world.fetcher.fetch(url), word)
            self.assertEqual((world.names.asked, world.dialled), ([], []))
            self.assertQuiet(world)

    def test_rebinding(self) -> None:
        """A name that changes its mind: one look-up, and the address that was judged."""
        world = World({"a.example": [[PUBLIC], ["127.0.0.1"]]})
        fetching = world.fetcher.fetch(PLAIN)
        world.answer()
        self.assertEqual(self.successResultOf(fetching), inline())
        self.assertEqual((world.names.asked, world.dialled), (["a.example"], [(PUBLIC, 80)]))
        self.assertRefused(world.fetcher.fetch(PLAIN), "not on the public Internet")
        self.assertEqual(len(world.dialled), 1)

    def test_redirects(self) -> None:
        """Three redirects are followed, relative or not, each on a connection of its own."""
        world = World({"b.example": [["1.1.1.1"]]})
        fetching = world.fetcher.fetch(PLAIN)
        for location in (b"/b", b"//b.example/c?d", b"http://a.example/e#f"):
            wire = world.answer(b"moved", b"Location: " + location, status=b"302 Found")
            self.assertTrue(wire.gone)
        world.answer()
        self.assertEqual(self.successResultOf(fetching), inline())
        asked = [wire.value().split(b" ")[1] for wire in world.wires]
        self.assertEqual(asked, [b"/cat.png?sig=hush", b"/b", b"/c?d", b"/e"])
        addresses = [address for address, _ in world.dialled]
        self.assertEqual(addresses, [PUBLIC, PUBLIC, "1.1.1.1", PUBLIC])
        self.assertQuiet(world)

    def test_too_many_redirects(self) -> None:
        """The fourth redirect is the last that is looked at; so is one to nowhere."""
        for status in (b"301 A", b"302 A", b"303 A", b"307 A", b"308 A"):
            world = World()
            fetching = world.fetcher.fetch(PLAIN)
            for _ in range(4):
                self.assertNoResult(fetching)
                world.answer(b"", b"Location: /", status=status)
            self.assertRefused(fetching, "redirects more than 3 times")
            self.assertQuiet(world)
        fetching = world.fetcher.fetch(PLAIN)
        world.answer(b"", status=b"302 Found")
        self.assertRefused(fetching, "redirects to nowhere")

    def test_redirects_inwards(self) -> None:
        """A server outside cannot send us inside, in any way that a caller could not."""
        names = {"in.example": [["10.0.0.1"]], "a.example": [[PUBLIC], ["127.0.0.1"]]}
        for location, word in (
            (b"http://127.0.0.1/", "public Internet"),
            (b"http://[::ffff:169.254.169.254]/latest", "public Internet"),
            (b"http://in.example/hush", "public Internet"),
            (b"/the-name-means-another-host-now", "public Internet"),
            (b"http://a.example:6379/", "redirects to a URL that is not fetched"),
            (b"http://me:hush@b.example/", "redirects to a URL that is not fetched"),
            (b"file:///etc/passwd", "redirects to a URL that is not fetched"),
            (b"http://0x7f.1/", "redirects to a URL that is not fetched"),
        ):
            world = World({name: list(lists) for name, lists in names.items()})
            fetching = world.fetcher.fetch(PLAIN)
            world.answer(PNG, b"Location: " + location, status=b"302 Found")
            self.assertRefused(fetching, word, "http://a.example/cat.png")
            self.assertEqual(world.dialled, [(PUBLIC, 80)])
            self.assertQuiet(world)

    def test_this_machines_own_public_address(self) -> None:
        """A public address that is our own leads inside, past the firewall; nothing is sent."""
        world = World()
        fetching = world.fetcher.fetch(PLAIN)
        wire = world.accept(here=PUBLIC)
        self.assertRefused(fetching, "not on the public Internet")
        self.assertEqual(wire.value(), b"")
        self.assertQuiet(world)

    def test_allowed_addresses_can_be_changed(self) -> None:
        """Who makes a fetcher may say otherwise, for addresses and for ports."""
        world = World(allowed=lambda address: str(address) == "10.0.0.1", ports=(8080,))
        fetching = world.fetcher.fetch("http://10.0.0.1:8080/")
        world.answer()
        self.assertEqual(self.successResultOf(fetching), inline())
        self.assertRefused(world.fetcher.fetch("http://a.example:8080/"), "public Internet")
        self.assertRefused(world.fetcher.fetch("http://10.0.0.1/"), "another port")

    def test_endpoint(self) -> None:
        """The way there is an endpoint like any other."""
        road = PublicRoad(
            reactor=None,
            resolver=World().names,
            origin=Origin("http", "a.example", 80),
            trust=AUTHORITY.trust(),
            allowed=is_public,
        )
        verifyObject(IStreamClientEndpoint, road)
        road.close()


Phase = Callable[[World], None]


def _connecting(world: World) -> None:
    world.accept()


def _reading(world: World) -> None:
    world.accept().send(reply()[:-1])


def _redirected(world: World) -> None:
    world.answer(b"", b"Location: http://mute.example/", status=b"302 Found")


PHASES: dict[str, tuple[str, Phase]] = {
    "looking up its host": ("http://mute.example/", lambda _: None),
    "reaching it": (PLAIN, lambda _: None),
    "in its TLS handshake": (TLS, _connecting),
    "waiting for its answer": (PLAIN, _connecting),
    "reading it": (PLAIN, _reading),
    "looking up its host ": (PLAIN, _redirected),
}


class PhaseTests(FetchCase):
    """Stalled in some step: the clock, and cancelling."""

    def stalled(self, phase: str) -> tuple[World, Deferred[Inline]]:
        """Return a fetch that has come to *phase* and no further."""
        world = World({"mute.example": []}, trust=AUTHORITY.trust())
        url, go = PHASES[phase]
        fetching = world.fetcher.fetch(url)
        go(world)
        self.assertNoResult(fetching)
        return world, fetching

    def assertClosed(self, world: World, phase: str) -> None:
        """Check that nothing is open and nothing waits, and that a new fetch works."""
        if phase == "reaching it":
            self.assertTrue(world.reactor.connectors[-1].stoppedConnecting)
        self.assertQuiet(world)
        fetching = world.fetcher.fetch(PLAIN)
        world.answer()
        self.assertEqual(self.successResultOf(fetching), inline())

    def test_clock(self) -> None:
        """Each step runs into the clock, which says where, and names its key."""
        for phase in PHASES:
            world, fetching = self.stalled(phase)
            world.reactor.advance(14.9)
            self.assertNoResult(fetching)
            world.reactor.advance(0.2)
            words = f"over 15 seconds, {phase.strip()} (fetch_images.seconds)"
            self.assertRefused(fetching, words)
            self.assertClosed(world, phase)

    def test_cancel(self) -> None:
        """Whoever asks for it may give up in each step: told at once, and all closed."""
        for phase in PHASES:
            world, fetching = self.stalled(phase)
            fetching.cancel()
            self.failureResultOf(fetching, CancelledError)
            self.assertClosed(world, phase)

    def test_cancel_all(self) -> None:
        """The same for all that one request names, and for what waits its turn."""
        for phase in PHASES:
            world = World({"mute.example": []}, trust=AUTHORITY.trust())
            url, go = PHASES[phase]
            urls = [f"{url}&{number}" for number in range(2 * AT_A_TIME)]
            fetching = world.fetcher.fetch_all(urls)
            go(world)
            fetching.cancel()
            self.failureResultOf(fetching, CancelledError)
            self.assertClosed(world, phase)
            self.assertLessEqual(len(world.names.asked), 2 * AT_A_TIME)

    def test_clock_is_for_all_steps_together(self) -> None:
        """A server that gives a little all the time does not hold us for ever."""
        world = World(seconds=5.0)
        fetching = world.fetcher.fetch(PLAIN)
        wire = world.accept()
        for byte in reply():
            wire.send(bytes([byte]))
            world.reactor.advance(0.2)
        self.assertRefused(fetching, "over 5 seconds")
        self.assertQuiet(world)

    def test_late_answers_are_ignored(self) -> None:
        """What comes after the end, comes too late."""
        world, fetching = self.stalled("reading it")
        world.reactor.advance(16)
        world.wires[0].send(reply()[-1:])
        world.wires[0].close()
        self.assertRefused(fetching, "over 15 seconds")


class LoopbackTests(WireCase):
    """Real sockets and real TLS."""

    def fetcher(self, **changes: Any) -> ImageFetcher:
        """Return a fetcher that is let through to loopback."""
        arguments: dict[str, Any] = {
            "reactor": REACTOR,
            "limit": 100_000,
            "seconds": 10.0,
            "resolver": World({"a.example": [["127.0.0.1"]]}).names,
            "trust": AUTHORITY.trust(),
            "allowed": lambda address: address.is_loopback,
            "ports": range(65536),
        }
        return ImageFetcher(**{**arguments, **changes})

    async def refusal(self, fetching: Deferred[Any]) -> str:
        """Return the message that a fetch must end with."""
        error: InvalidRequest = await self.assertFailure(fetching, InvalidRequest)
        self.assertEqual(error.code, "remote_media")
        return error.message

    async def test_tls(self) -> None:
        """The name is told to the server and verified, though an address is connected to."""
        names: list[bytes] = []
        body = PNG.ljust(90_000)

        def script(peer: Any) -> None:
            if peer.take_request() is not None:
                names.append(peer.transport.getHandle().get_servername())
                peer.send(raw_reply(body))

        server = self.server(script, AUTHORITY.issue("a.example"))
        found = await self.fetcher().fetch(f"https://a.example:{server.port}/cat.png")
        self.assertEqual((found, names), (inline(body), [b"a.example"]))
        await server.peers[0].gone

    async def test_tls_that_is_not_trusted(self) -> None:
        """A certificate for another name, or of nobody known; nothing was sent."""
        for certificate, word in (
            (AUTHORITY.issue("b.example", "127.0.0.1"), "is for another name"),
            (Authority.create().issue("a.example"), "is not trusted"),
        ):
            server = self.server(silent, certificate)
            fetching = self.fetcher().fetch(f"https://a.example:{server.port}/cat.png?hush")
            message = await self.refusal(fetching)
            self.assertIn(word, message)
            self.assertNotIn("hush", message)
            self.assertEqual(server.peers[0].unread, b"")
            await server.peers[0].gone

    async def test_loopback_is_refused_by_default(self) -> None:
        """Without an exception nobody gets to this machine, by name or by address."""
        server = self.server(silent)
        fetcher = self.fetcher(allowed=is_public)
        for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "a.example"):
            message = await self.refusal(fetcher.fetch(f"http://{host}:{server.port}/"))
            self.assertIn("not on the public Internet", message)
        self.assertEqual(server.peers, [])

    async def test_the_systems_own_resolver(self) -> None:
        """A name that the system knows is judged by what it knows."""
        server = self.server(silent)
        fetcher = self.fetcher(allowed=is_public, resolver=None)
        message = await self.refusal(fetcher.fetch(f"http://localhost:{server.port}/"))
        self.assertIn("not on the public Internet", message)
        self.assertEqual(server.peers, [])

    async def test_clock_and_cancel(self) -> None:
        """In a handshake, before the head and in the body: the socket is closed."""
        half = b"HTTP/1.1 200 OK\r\n\r\n" + PNG
        for scheme, script in (
            ("https", silent),
            ("http", silent),
            ("http", lambda peer: peer.send(half)),
        ):
            server = self.server(script)
            url = f"{scheme}://127.0.0.1:{server.port}/"
            message = await self.refusal(self.fetcher(seconds=0.1).fetch(url))
            self.assertIn("over 0.1 seconds", message)
            await server.peers[0].gone
            coming = server.next_peer()
            fetching = self.fetcher().fetch(url)
            peer = await coming
            fetching.cancel()
            self.failureResultOf(fetching, CancelledError)
            await peer.gone

    async def test_flood(self) -> None:
        """A body without end is cut off at the limit."""

        def script(peer: Any) -> None:
            peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000_000)

        server = self.server(script)
        message = await self.refusal(self.fetcher().fetch(f"http://127.0.0.1:{server.port}/"))
        self.assertIn("over 100000 bytes", message)
        await server.peers[0].gone
