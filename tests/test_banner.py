"""The banner: URLs that can be pasted, whatever is listened on."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.banner import Door, banner
from tests.web_fixture import GatewayTestCase

DOOR = Door("http://h:1", "http://h:1")


class DoorTests(SynchronousTestCase):
    """How a client on this machine reaches a listener."""

    def test_every_kind_of_address(self) -> None:
        """Any-address listeners are reached over loopback; IPv6 is bracketed."""
        for address, secure, bound, url in (
            (IPv4Address("TCP", "127.0.0.1", 3000), False, None, "http://127.0.0.1:3000"),
            (IPv4Address("TCP", "0.0.0.0", 80), False, "http://0.0.0.0:80", "http://127.0.0.1:80"),
            (IPv4Address("TCP", "127.0.0.1", 443), True, None, "https://127.0.0.1:443"),
            (IPv6Address("TCP", "::1", 3000), False, None, "http://[::1]:3000"),
            (IPv6Address("TCP", "::", 3000), False, "http://[::]:3000", "http://127.0.0.1:3000"),
        ):
            door = Door.of(address, secure=secure)
            self.assertEqual((door.bound, door.url), (bound or url, url))

    def test_a_unix_socket_needs_an_option(self) -> None:
        """One that curl knows, quoted for the shell."""
        door = Door.of(UNIXAddress("/run/x y.sock"))
        self.assertEqual(
            door, Door("unix:/run/x y.sock", "http://localhost", "--unix-socket '/run/x y.sock' ")
        )


class BannerTests(GatewayTestCase):
    """One example for each dialect that can be answered."""

    def test_the_default_provider_needs_no_prefix(self) -> None:
        """The others' models carry one."""
        self.build([], model_provider="claude-custom")
        shown = banner(DOOR, self.setup, key_file=None, made_key=None, is_open=True)
        self.assertIn("Anthropic Messages:\n  curl http://h:1/v1/messages -H 'Content-Type", shown)
        self.assertIn('"model":"MODEL"', shown)
        self.assertIn('"model":"sandbox:sandbox"', shown)
        self.assertIn("gemini-custom:MODEL", shown)
        self.assertNotIn("Authorization", shown)

    def test_a_path_with_a_space_can_be_pasted(self) -> None:
        """It is quoted for the shell."""
        self.build([])
        path = Path("/a b/api_key")
        shown = banner(DOOR, self.setup, key_file=path, made_key=None, is_open=False)
        self.assertIn("$(cat '/a b/api_key')", shown)
