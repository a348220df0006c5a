"""Listeners: opened from endpoint strings, and passed on with all that waits in their queues."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    SSL4ClientEndpoint,
    UNIXClientEndpoint,
    connectProtocol,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from aiclient2api.errors import ConfigurationError
from aiclient2api.listeners import Listener, matched
from tests.live.gateway import connected
from tests.raw_peers import Authority


class Named(Protocol):
    """Says who it belongs to, and closes."""

    def connectionMade(self) -> None:
        """Say it."""
        factory: Any = self.factory
        assert self.transport is not None
        self.transport.write(factory.name)
        self.transport.loseConnection()


class All(Protocol):
    """Reads all there is."""

    def __init__(self) -> None:
        self.read = b""
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.read += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell it."""
        self.done.callback(self.read)


def named(name: bytes) -> Any:
    """Return a factory of `Named`."""
    factory: Any = Factory.forProtocol(Named)
    factory.noisy = False
    factory.name = name
    return factory


class PassingOnTests(TestCase):
    """Two listeners of one socket, as of two processes."""

    def listener(self, description: str, name: bytes, **how: Any) -> Listener:
        """Make one that stops with the test."""
        made = Listener(description, named(name), reactor, **how)
        self.addCleanup(lambda: made.stopService() if made.port is not None else None)
        return made

    def pass_on(self, old: Listener, new: Listener) -> None:
        """Do what hand-over does, with a copy as of another process."""
        old.share()
        new.inherit(os.dup(old.descriptor))
        new.privilegedStartService()

    async def asked(self, port: int) -> bytes:
        """Return who answers on a port."""
        return await (await connected(port)).until_closed()

    async def test_tcp(self) -> None:
        """Whoever comes after the old one has left is answered by the new one."""
        old = self.listener("tcp:0:interface=127.0.0.1", b"old")
        old.privilegedStartService()
        port = old.port.getHost().port
        self.assertEqual(await self.asked(port), b"old")
        new = self.listener("tcp:0:interface=127.0.0.1", b"new")
        self.pass_on(old, new)
        self.assertEqual(new.port.getHost().port, port)
        old.leave()
        await old.stopService()
        for _ in range(3):
            self.assertEqual(await self.asked(port), b"new")

    async def test_tls(self) -> None:
        """A listener with a certificate passes on as well, and each uses its own."""
        authority = Authority.create()
        told = []
        for _ in range(2):
            pem = Path(self.mktemp()).absolute()
            pem.write_bytes(authority.issue("127.0.0.1").dumpPEM())
            told.append(f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}")
        trust = trustRootFromCertificates(
            [Certificate.loadPEM(authority.certificate.public_bytes(serialization.Encoding.PEM))]
        )
        old, new = self.listener(told[0], b"old"), self.listener(told[1], b"new")
        old.privilegedStartService()
        port = old.port.getHost().port

        async def asked() -> bytes:
            options = optionsForClientTLS("127.0.0.1", trustRoot=trust)
            place = SSL4ClientEndpoint(reactor, "127.0.0.1", port, options)
            return await (await connectProtocol(place, All())).done

        self.assertEqual(await asked(), b"old")
        self.pass_on(old, new)
        old.leave()
        await old.stopService()
        for _ in range(3):
            self.assertEqual(await asked(), b"new")

    async def test_a_burst_has_room(self) -> None:
        """Far more connections than a moment brings may wait, unless the endpoint says else."""
        told = self.listener("tcp:0:interface=127.0.0.1:backlog=3", b"told")
        for listener, fits in ((self.listener("tcp:0:interface=127.0.0.1", b"x"), 200), (told, 3)):
            listener.privilegedStartService()
            port = listener.port.getHost().port
            waiting: list[socket.socket] = []
            # trial takes a module's own name "suppress" for warnings to suppress.
            with contextlib.suppress(TimeoutError):
                # Nobody takes one meanwhile: the reactor is waiting for us.
                while len(waiting) < 200:
                    waiting.append(socket.create_connection(("127.0.0.1", port), timeout=0.2))
            for wire in waiting:
                wire.close()
            self.assertIn(len(waiting), (fits, fits + 1))

    async def test_what_waits_in_the_queue(self) -> None:
        """A connection that nobody has accepted yet is not lost."""
        with socket.create_server(("127.0.0.1", 0)) as queue:
            port = queue.getsockname()[1]
            waiting = await connected(port)
            new = self.listener("tcp:0:interface=127.0.0.1", b"new")
            new.inherit(os.dup(queue.fileno()))
        new.privilegedStartService()
        self.assertEqual(await waiting.until_closed(), b"new")

    async def test_a_socket_in_the_file_system(self) -> None:
        """Its file and its rights stay; the lock is the new one's, and goes with it."""
        path = Path("/tmp") / f"aiclient2api-{os.getpid()}.socket"
        self.addCleanup(path.unlink, missing_ok=True)
        description = f"unix:{path}:mode=600"
        old, new = self.listener(description, b"old"), self.listener(description, b"new")
        old.privilegedStartService()
        self.pass_on(old, new)
        old.leave()
        await old.stopService()
        new.settle()
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(os.readlink(f"{path}.lock"), str(os.getpid()))
        asking = await connectProtocol(UNIXClientEndpoint(reactor, str(path)), All())
        self.assertEqual(await asking.done, b"new")
        await new.stopService()
        self.assertFalse(os.path.lexists(path))
        self.assertFalse(os.path.lexists(f"{path}.lock"))

    async def test_the_new_one_is_gone_before_the_old_one_left(self) -> None:
        """Its end does not end the old one's listening."""
        old = self.listener("tcp:0:interface=127.0.0.1", b"old")
        old.privilegedStartService()
        new = self.listener("tcp:0:interface=127.0.0.1", b"new")
        self.pass_on(old, new)
        await new.stopService()
        self.assertEqual(await self.asked(old.port.getHost().port), b"old")

    async def test_one_of_systemd_can_be_passed_on(self) -> None:
        """Though in this process systemd has passed none on."""
        description = "systemd:domain=INET:index=0"
        with self.assertRaises(ConfigurationError) as caught:
            Listener(description, named(b""), reactor)
        self.assertIn(".socket", caught.exception.faults[0])
        new = self.listener(description, b"new", expecting=True)
        with self.assertRaises(ConfigurationError):
            new.privilegedStartService()
        with socket.create_server(("127.0.0.1", 0)) as given:
            new.inherit(os.dup(given.fileno()))
            port = given.getsockname()[1]
        new.privilegedStartService()
        self.assertEqual(await self.asked(port), b"new")


class MatchedTests(SynchronousTestCase):
    """Which of the open sockets is for which listener."""

    def test_by_description_and_in_order(self) -> None:
        """Two of the same description keep their order; what nobody wants is closed."""
        descriptors = [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
        given = list(zip(("a", "b", "b", "c"), descriptors, strict=True))
        found = matched(["b", "new", "a", "b"], given)
        self.assertEqual(found, {0: descriptors[1], 2: descriptors[0], 3: descriptors[2]})
        self.assertRaises(OSError, os.fstat, descriptors[3])
        for descriptor in found.values():
            os.close(descriptor)
