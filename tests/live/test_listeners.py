"""Listeners: every kind of endpoint that ``listen`` takes, opened and asked at once."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.installed import free_port
from tests.live.gateway import KEY, LiveGateway
from tests.raw_peers import Authority

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
ASK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nConnection: close\r\n"
    b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
)


def has_ipv6() -> bool:
    """Say whether this machine has an IPv6 loopback; some containers have none."""
    try:
        free_port("::1")
    except OSError:
        return False
    return True


def ask(connection: socket.socket, request: bytes) -> bytes:
    """Send a request and read to the end of the connection."""
    with connection:
        connection.settimeout(10)
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


class ListenerTests(TestCase):
    """One gateway behind four doors."""

    timeout = 30

    async def start(self, **config: object) -> LiveGateway:
        """Start a gateway that listens on TCP, IPv6, TLS and a Unix socket."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        # A Unix socket's path is short, or it cannot be bound.
        short = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, short)
        self.path = f"{short}/s"
        authority = Authority.create()
        pem = self.folder / "server.pem"
        pem.write_bytes(authority.issue("127.0.0.1").dumpPEM())
        self.trust = ssl.create_default_context(
            cadata=authority.certificate.public_bytes(serialization.Encoding.PEM).decode()
        )
        self.six = free_port("::1") if has_ipv6() else None
        self.secure = free_port()
        listen = [
            "tcp:0:interface=127.0.0.1",
            f"ssl:{self.secure}:interface=127.0.0.1:privateKey={pem}:certKey={pem}",
            f"unix:{self.path}:mode=600",
        ]
        if self.six is not None:
            listen.append(f"tcp:{self.six}:interface=\\:\\:1")
        return await LiveGateway(self, config={"listen": listen, **config}).start()

    def doors(self, gateway: LiveGateway) -> dict[str, socket.socket]:
        """Open a connection through each door."""
        unix = socket.socket(socket.AF_UNIX)
        unix.connect(self.path)
        plain = socket.create_connection(("127.0.0.1", self.secure), 10)
        doors = {
            "tcp": socket.create_connection(("127.0.0.1", gateway.port), 10),
            "tls": self.trust.wrap_socket(plain, server_hostname="127.0.0.1"),
            "unix": unix,
        }
        if self.six is not None:
            doors["ipv6"] = socket.create_connection(("::1", self.six), 10)
        return doors

    def asked(self, gateway: LiveGateway, request: bytes) -> Deferred[dict[str, bytes]]:
        """Ask through every door, in a thread."""
        return deferToThread(
            lambda: {name: ask(door, request) for name, door in self.doors(gateway).items()}
        )

    async def test_the_same_answer_behind_every_door(self) -> None:
        """A key is asked for at each of them, too."""
        gateway = await self.start()
        answers = await self.asked(gateway, ASK % (KEY.encode(), len(BODY), BODY))
        self.assertLessEqual({"tcp", "tls", "unix"}, set(answers))
        for name, answer in answers.items():
            head, _, body = answer.partition(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 200 "), (name, head))
            self.assertIn("choices", json.loads(body), name)
        for name, answer in (await self.asked(gateway, ASK % (b"wrong", len(BODY), BODY))).items():
            self.assertTrue(answer.startswith(b"HTTP/1.1 401 "), (name, answer))

    async def test_a_refusal_can_be_read_behind_every_door(self) -> None:
        """TLS has no half-close; its refusal arrives all the same."""
        gateway = await self.start(limits={"body_bytes": 10})
        for name, answer in (await self.asked(gateway, ASK % (KEY.encode(), 99, b""))).items():
            self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), (name, answer))

    async def test_only_its_owner_may_open_the_socket(self) -> None:
        """The endpoint string's mode is kept."""
        await self.start()
        self.assertEqual(Path(self.path).stat().st_mode & 0o777, 0o600)
