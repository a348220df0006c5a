"""A whole gateway in memory: real configuration, routes and dialects, scripted upstreams."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from aiclient2api.accounts.budget import RetryBudget
from aiclient2api.accounts.pools import Pools
from aiclient2api.assembly import build_setup
from aiclient2api.config import load
from aiclient2api.conversation.vault import SealVault
from aiclient2api.conversions import Conversions
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.interfaces import IWireRequest
from aiclient2api.options import provider_factories
from aiclient2api.state.given import GivenIds
from aiclient2api.state.memory import MemoryStore
from aiclient2api.testing import MemoryObserver, MemoryResponse, MemoryUpstream
from aiclient2api.values import KeptAnswer, Runtime
from aiclient2api.web.admission import Admission
from aiclient2api.web.api import Api
from aiclient2api.web.front import Front
from aiclient2api.web.model_lists import ModelLists
from aiclient2api.web.site import GatewaySite

KEY = "test-key"

CONFIG: dict[str, Any] = {
    "required_api_key": KEY,
    "model_provider": "openai-custom",
    "openai_api_key": "sk-test-openai",
    "openai_base_url": "http://127.0.0.1:1/v1",
    "claude_api_key": "sk-test-claude",
    "claude_base_url": "http://127.0.0.1:2",
    "gemini_api_key": "test-gemini",
    "gemini_api_base_url": "http://127.0.0.1:3",
}


@implementer(ITCPTransport)
class Wire(StringTransport):
    """A client's connection in memory that can be half closed and aborted."""

    half_closed = False
    aborted = False

    def loseWriteConnection(self) -> None:
        """Note that the sending side was closed."""
        self.half_closed = True

    def abortConnection(self) -> None:
        """Note that the connection was aborted."""
        self.aborted = True
        super().abortConnection()

    def setTcpNoDelay(self, enabled: object) -> None:
        """Do nothing."""

    def getTcpNoDelay(self) -> bool:
        """Do nothing."""
        return True

    def setTcpKeepAlive(self, enabled: object) -> None:
        """Do nothing."""

    def getTcpKeepAlive(self) -> bool:
        """Do nothing."""
        return True


@attrs.frozen
class Reply:
    """
    One answer as a client reads it.

    :ivar headers: Lower-case names to the last value of each.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body decoded."""
        return json.loads(self.body)


class MemoryAnswers:
    """
    Where answers are kept in these tests.

    :ivar kept: By owner and id.
    """

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], KeptAnswer] = {}

    def keep(self, owner: str, answer: KeptAnswer) -> None:
        """See `aiclient2api.web.kept.Answers`."""
        self.kept[owner, answer.id] = answer

    def find(self, owner: str, id: str) -> Deferred[KeptAnswer | None]:
        """See `aiclient2api.web.kept.Answers`."""
        return succeed(self.kept.get((owner, id)))

    def forget(self, owner: str, id: str) -> Deferred[bool]:
        """See `aiclient2api.web.kept.Answers`."""
        return succeed(self.kept.pop((owner, id), None) is not None)


class GatewayTestCase(SynchronousTestCase):
    """
    A test of the gateway from the client's socket to the upstream's request.

    :ivar peer: Where clients call from.
    """

    peer: IAddress = IPv4Address("TCP", "127.0.0.1", 9)

    def build(
        self, answers: Sequence[MemoryResponse | Exception | None] = (), **config: Any
    ) -> None:
        """
        Build a gateway whose upstreams give *answers*.

        :param config: Keys of config.json that differ from `CONFIG`; None removes one.
        """
        merged = {k: v for k, v in {**CONFIG, **config}.items() if v is not None}
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(merged))
        factories = provider_factories()
        settings = load(
            flags={"config": "config.json"}, environ={}, cwd=folder, factories=factories
        )
        self.clock = Clock()
        self.upstream = MemoryUpstream(answers, clock=self.clock)
        self.observer = MemoryObserver(wants_text=True)
        self.saw: list[IWireRequest] = []
        self.answers = MemoryAnswers()
        if not hasattr(self, "store"):
            # One that outlives the gateway: to build another is to restart it.
            self.store = MemoryStore(clock=self.clock, now=lambda: 1_700_000_000.0)
        numbers = count(1)
        setup = self.setup = build_setup(
            settings,
            keys=settings.keys or (),
            factories=factories,
            dialects=DIALECTS,
            runtime=Runtime(clock=self.clock, upstream=self.upstream),
            lists=ModelLists(self.clock),
            conversions=Conversions(
                vault=SealVault(self.clock.seconds),
                make_id=lambda: f"{next(numbers):048x}",
                now=lambda: 1_700_000_000.0,
            ),
            answers=self.answers,
            given=GivenIds(self.store),
            pools=Pools(clock=self.clock, now=self.clock.seconds, jitter=lambda: 0.0),
            budget=RetryBudget(),
            observers=self.observer,
            saw=self.saw.append,
            clock=self.clock,
            jitter=lambda: 0.0,
        )
        self.front = Front(Api(lambda: setup, DIALECTS).resource(), lambda: setup)
        self.site = GatewaySite(
            self.front,
            Admission(
                body_limit=lambda: setup.body_limit,
                upload_seconds=lambda: setup.upload_seconds,
                admit=self.front.admit,
                render=self.front.render_refusal,
                head_seconds=lambda: setup.head_seconds,
                connections=lambda: settings.limits.connections,
            ),
            self.clock,
        )
        self.site.startFactory()
        self.addCleanup(self.site.stopFactory)

    def connect(self) -> Wire:
        """Open a connection to the gateway."""
        self.wire = Wire(peerAddress=self.peer)
        self.channel = self.site.buildProtocol(self.peer)
        self.channel.callLater = self.clock.callLater
        self.channel.makeConnection(self.wire)
        return self.wire

    def send(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        *,
        key: str | None = KEY,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send one request on a new connection."""
        self.connect()
        lines = [f"{method} {target} HTTP/1.1"]
        if "Host" not in (headers or {}):
            lines.append("Host: localhost:3000")
        if key is not None:
            lines.append(f"Authorization: Bearer {key}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.channel.dataReceived("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    def reply(self) -> Reply:
        """Return what came back on the last connection."""
        head, _, body = self.wire.value().partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        if headers.get("transfer-encoding") == "chunked":
            body = unchunked(body)
        return Reply(int(status.split()[1]), headers, body)

    def ask(self, *args: Any, **kwargs: Any) -> Reply:
        """Send one request and return its answer."""
        self.send(*args, **kwargs)
        return self.reply()


def unchunked(data: bytes) -> bytes:
    """Undo chunked framing as far as it goes."""
    body = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            break
        body, data = body + rest[:length], rest[length + 2 :]
    return body
