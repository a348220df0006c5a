"""
Endpoint strings: the form Twisted takes, and who can reach them.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.endpoints import serverFromString
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.config.listen import endpoint, from_host, is_private
from aiclient2api.config.values import Given, Place, Wrong

PRIVATE = (
    "tcp:3000:interface=127.0.0.1",
    r"tcp:0:interface=\:\:1",
    "tcp:port=3000:interface=localhost",
    "tcp:3000:127.0.0.1",
    "unix:/run/gateway/socket:mode=660",
    "unix:address=/run/socket",
)
OPEN = (
    "tcp:3000",
    "tcp:3000:interface=0.0.0.0",
    r"tcp:3000:interface=\:\:",
    "tcp:3000:interface=192.168.1.2",
    "ssl:3443:privateKey=/dev/null:certKey=/dev/null",
    "systemd:domain=INET:index=0",
)


def read(text: object) -> str:
    """Read one endpoint string."""
    return endpoint(Given("f.json: listen", text, Place(Path("/"), Path("/"), None)))


class EndpointTests(SynchronousTestCase):
    """The form."""

    def test_taken(self) -> None:
        """Every common form is taken as it is."""
        for text in (*PRIVATE, *OPEN):
            self.assertEqual(read(f" {text} "), text)

    def test_refused(self) -> None:
        """A slip is told with an example, before anything listens."""
        for text in (
            "",
            "3000",
            "127.0.0.1:3000",
            "http:3000",
            "tcp",
            "tcp:",
            "tcp:http",
            "tcp:65536",
            "tcp:-1",
            "tcp:3000:interface=::1",
            r"tcp:3000:interface=\:x",
            "unix",
            "unix:relative/socket",
            "ssl:3443:privateKey=key.pem",
            "ssl:3443:privateKey=/dev/null:certKey=/nowhere/cert.pem",
            "tcp:3000:interface=127.0.0.1\nx",
            3000,
            None,
        ):
            self.assertRaises(Wrong, read, text)

    def test_who_can_reach_it(self) -> None:
        """Loopback and Unix sockets are private; everything else is not."""
        self.assertEqual([is_private(text) for text in PRIVATE], [True] * len(PRIVATE))
        self.assertEqual([is_private(text) for text in OPEN], [False] * len(OPEN))


class HostTests(SynchronousTestCase):
    """host and port."""

    def test_escaped(self) -> None:
        """A host becomes an endpoint string, colons escaped."""
        for host, text in (
            ("", "tcp:1:interface=127.0.0.1"),
            ("localhost", "tcp:1:interface=127.0.0.1"),
            ("0.0.0.0", "tcp:1:interface=0.0.0.0"),
            ("*", "tcp:1:interface=0.0.0.0"),
            ("::1", r"tcp:1:interface=\:\:1"),
            ("[::]", r"tcp:1:interface=\:\:"),
            ("gateway.example.com", "tcp:1:interface=gateway.example.com"),
        ):
            self.assertEqual(from_host(host, 1), text)

    def test_refused(self) -> None:
        """What is neither a name nor an address is refused."""
        for host in ("a b", "http://h", "h:1", ":::", "-x", "ü"):
            self.assertRaises(Wrong, from_host, host, 1)

    def test_twisted_takes_it(self) -> None:
        """Twisted listens where the string says."""
        for host, interface in (("::1", "::1"), ("10.0.0.1", "10.0.0.1")):
            reactor = MemoryReactor()
            server = serverFromString(reactor, from_host(host, 81))
            self.successResultOf(server.listen(None))
            port, _, _, bound = reactor.tcpServers[0]
            self.assertEqual((port, bound), (81, interface))
