"""
A whole gateway on loopback for one test, a scripted upstream behind each dialect.

`LiveGateway` wires the same parts as the daemon does, from a configuration file in a
folder of its own, and takes everything down again so that the reactor is left clean.
`Wire` and `raw_exchange` are a client that hides nothing: it sends the bytes it is told
to. Nothing here knows what a test is about, nor any client library::

    async def test_something(self) -> None:
        gateway = await LiveGateway(self).start()
        reply = await gateway.request("POST", "/v1/chat/completions", gateway.bearer, body)
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from aiclient2api.accounts.pool import AccountPool
from aiclient2api.errors import UpstreamError
from aiclient2api.interfaces import IExchangeObserver
from aiclient2api.observe.observers import Observers
from aiclient2api.options import Options
from aiclient2api.service import Gateway
from aiclient2api.tap import World
from aiclient2api.testing import (
    Received,
    Script,
    ScriptedUpstream,
    chat_body,
    chat_chunks,
    gemini_array,
    gemini_body,
    gemini_chunks,
    json_reply,
    messages_body,
    messages_events,
    raw_reply,
    responses_body,
    responses_events,
    sse_reply,
)
from aiclient2api.values import ExchangeRecord, Headers, Outcome
from aiclient2api.web.channel import GatewayChannel

MARK = os.environ.get("AICLIENT2API_CANARY", "")
"""What makes these keys strings that stand nowhere else; see `tests.canaries`."""

KEY = f"sk-caller{MARK}"
"""What callers of a `LiveGateway` must send."""

ACCOUNT_KEY = f"sk-account{MARK}"
"""What a `LiveGateway` sends to its upstreams."""

PROVIDERS = {
    "openai-custom": ("openai-chat", "openai_api_key", "openai_base_url", "/v1"),
    "openaiResponses-custom": ("openai-responses", "openai_api_key", "openai_base_url", "/v1"),
    "claude-custom": ("anthropic-messages", "claude_api_key", "claude_base_url", ""),
    "gemini-custom": ("gemini", "gemini_api_key", "gemini_api_base_url", ""),
}
"""Each provider's dialect, its key's and its base URL's settings, and the base path."""

HeaderLines = Sequence[tuple[str, str]]


class LiveGateway:
    """
    The gateway as a daemon would run it, but in this process.

    :param test: The test it lives for; everything is taken down at its end.
    :param default: The ``model_provider``.
    :param config: Further keys of ``config.json``; they win.
    :param answer: What every upstream answers with, until `answers` says otherwise.
    :param accounts: What ``provider_pools.json`` holds instead of one account a provider.
    :param resting: True: accounts that fail rest, as they do in earnest. Otherwise each
        exchange begins with accounts that know of no fault, so that one does not judge
        another.
    :param following: Seconds between two looks at ``provider_pools.json``.

    :ivar upstreams: The `ScriptedUpstream` behind each provider of `PROVIDERS`.
    :ivar answers: Provider to a callable that is given the `Received` request and
        returns its script. May be changed at any time.
    :ivar url: Where it listens, without a last slash.
    :ivar key: What callers must send.
    :ivar folder: Its configuration and state.
    """

    def __init__(
        self,
        test: TestCase,
        *,
        default: str = "openai-custom",
        config: Mapping[str, object] | None = None,
        answer: Callable[[Received], Script] | None = None,
        accounts: Mapping[str, object] | None = None,
        resting: bool = False,
        following: float = 1.0,
    ) -> None:
        self._accounts = accounts
        self._resting = resting
        self._following = following
        self.key = KEY
        self.url = ""
        self.port = 0
        self.folder = Path(test.mktemp()).absolute()
        self.answers = dict.fromkeys(PROVIDERS, answer or good_answer)
        self.upstreams = {name: ScriptedUpstream(self._asked(name)) for name in PROVIDERS}
        self._default = default
        self._config = dict(config or {})
        self._channels: set[GatewayChannel] = set()
        self._none_left: list[Deferred[None]] = []
        self._wires: list[Wire] = []
        self._service: Gateway | None = None
        test.addCleanup(self.stop)

    @property
    def bearer(self) -> HeaderLines:
        """Return the header that lets a caller in."""
        return (("authorization", f"Bearer {self.key}"),)

    @property
    def connections(self) -> int:
        """Return how many clients are connected."""
        return len(self._channels)

    async def start(self) -> LiveGateway:
        """Start the upstreams, then the gateway; return it."""
        for upstream in self.upstreams.values():
            await upstream.listen(reactor)
        self.folder.mkdir()
        self._write("provider_pools.json", self._pools())
        options = Options(environ={"HOME": str(self.folder)}, cwd=self.folder)
        options["config"] = str(self._write("config.json", self._settings()))
        kind = World if self._resting else _Forgiving
        self.world = world = kind(
            reactor=reactor,
            settings=options.load(),
            load=options.load,
            environ=options.environ,
            factories=options.factories,
            cwd=self.folder,
        )
        world._followed._seconds = self._following
        # A factory where twisted.web keeps a class: it is only ever called.
        world.site.protocol = self._channel  # type: ignore[assignment]
        self._service = Gateway(world, self._announced)
        self._service.privilegedStartService()
        self._service.startService()
        return self

    async def stop(self) -> None:
        """Cut every client off, stop the gateway, then its upstreams."""
        for wire in self._wires:
            wire.abort()
        for channel in tuple(self._channels):
            channel.forceAbortClient()
        await self.when_no_client()
        if self._service is not None:
            await self._service.stopService()
        for upstream in self.upstreams.values():
            await upstream.stop()

    async def connect(self) -> Wire:
        """Open one connection to the gateway."""
        wire = await connected(self.port)
        self._wires.append(wire)
        return wire

    async def request(
        self, method: str, target: str, headers: HeaderLines = (), body: bytes = b""
    ) -> Reply:
        """Send one request on a connection of its own; return the reply."""
        wire = await self.connect()
        try:
            return await wire.request(method, target, headers, body)
        finally:
            wire.abort()

    def when_no_client(self) -> Deferred[None]:
        """Fire once every client's connection is closed on the gateway's side."""
        waiting: Deferred[None] = Deferred(self._none_left.remove)
        self._none_left.append(waiting)
        self._look()
        return waiting

    def reload(self, **config: object) -> bool:
        """Change keys of ``config.json`` and do what SIGHUP does."""
        assert self._service is not None
        self._config.update(config)
        self._write("config.json", self._settings())
        return self._service.reload()

    def _asked(self, name: str) -> Callable[[Received], Script]:
        return lambda request: self.answers[name](request)

    def _settings(self) -> dict[str, object]:
        return {
            "listen": ["tcp:0:interface=127.0.0.1"],
            "required_api_key": self.key,
            "model_provider": self._default,
            "provider_pools_file_path": "provider_pools.json",
            "state_dir": str(self.folder / "state"),
            **({"log_level": "debug"} if MARK else {}),
            **self._config,
        }

    def pools(self, accounts: Mapping[str, object]) -> None:
        """Change ``provider_pools.json``, which the gateway follows."""
        self._accounts = accounts
        fresh = self._write("provider_pools.json.new", self._pools())
        fresh.rename(self.folder / "provider_pools.json")

    def entry(self, provider: str, **fields: object) -> dict[str, object]:
        """Return an account of *provider* that leads to its scripted upstream."""
        _, key_name, url_name, base = PROVIDERS[provider]
        url = self.upstreams[provider].url + base
        return {key_name: ACCOUNT_KEY, url_name: url, **fields}

    def _pools(self) -> dict[str, object]:
        if self._accounts is not None:
            return {
                name: entries if not callable(entries) else entries(self)
                for name, entries in self._accounts.items()
            }
        return {
            name: [{key_name: ACCOUNT_KEY, url_name: self.upstreams[name].url + base}]
            for name, (_, key_name, url_name, base) in PROVIDERS.items()
        }

    def _write(self, name: str, content: object) -> Path:
        path = self.folder / name
        path.write_text(json.dumps(content))
        return path

    def _announced(self, addresses: Sequence[Any]) -> None:
        self.port = addresses[0].port
        self.url = f"http://127.0.0.1:{self.port}"

    def _channel(self) -> GatewayChannel:
        return _CountedChannel(self._channels, self._look)

    def _look(self) -> None:
        if not self._channels:
            waiting, self._none_left = self._none_left, []
            for each in waiting:
                each.callback(None)


@implementer(IExchangeObserver)
class _Forgetful:
    """Makes every account forget what happened, as soon as an exchange is over."""

    wants_text = False

    def __init__(self, pools: Mapping[str, AccountPool]) -> None:
        self._pools = pools

    def began(self, exchange: ExchangeRecord) -> None:
        pass

    def attempt(self, exchange: ExchangeRecord, error: UpstreamError | None) -> None:
        pass

    def first_byte(self, exchange: ExchangeRecord) -> None:
        pass

    def ended(self, exchange: ExchangeRecord, outcome: Outcome) -> None:
        for pool in self._pools.values():
            pool.reset([account.id for account in pool.snapshot()])


class _Forgiving(World):
    """A world in which no account rests."""

    def observers(self) -> IExchangeObserver:
        return Observers(super().observers(), _Forgetful(self.pools()))


class _CountedChannel(GatewayChannel):
    """A client's connection as the gateway has it, known to its `LiveGateway`."""

    def __init__(self, channels: set[GatewayChannel], look: Callable[[], None]) -> None:
        super().__init__()
        self._channels = channels
        self._look = look

    def connectionMade(self) -> None:
        self._channels.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._channels.discard(self)
        self._look()


# --- a client that hides nothing ----------------------------------------------


@attrs.frozen
class Reply:
    """
    One answer as it arrived.

    :ivar headers: In order, names in lower case.
    :ivar body: Transfer coding undone, nothing else.
    :ivar complete: True if the body ended as its framing demands.
    """

    status: int
    headers: Headers = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    complete: bool = True

    @property
    def sha256(self) -> str:
        """Return the body's digest in hex."""
        return hashlib.sha256(self.body).hexdigest()

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of *name* (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        """Return the body decoded."""
        return json.loads(self.body)


class Wire(Protocol):
    """
    One connection of a client; keeps alive as long as the server does.

    :ivar received: Every byte that came, framing and all.
    :ivar lost: True once the connection is closed.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost = False
        self._unread = bytearray()
        self._reader: Generator[int | bytes | None, bytes, Reply] | None = None
        self._wants: int | bytes | None = None
        self._waiting: Deferred[Reply] | None = None
        self._ends: list[Deferred[bytes]] = []

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.transport.write(data)  # type: ignore[union-attr]

    def abort(self) -> None:
        """Break the connection; safe to call twice."""
        if not self.lost:
            self.transport.abortConnection()  # type: ignore[union-attr]

    def request(
        self, method: str, target: str, headers: HeaderLines = (), body: bytes = b""
    ) -> Deferred[Reply]:
        """
        Send one request and fire with its reply. Cancelling breaks the connection.

        ``Host`` and ``Content-Length`` are always ours.
        """
        given = [pair for pair in headers if pair[0].lower() not in ("host", "content-length")]
        peer: Any = self.transport.getPeer()  # type: ignore[union-attr]
        lines = [("host", f"{peer.host}:{peer.port}"), *given]
        if body or method == "POST":
            lines.append(("content-length", str(len(body))))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        self.send(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return self.reply(bodiless=method == "HEAD")

    def reply(self, *, bodiless: bool = False) -> Deferred[Reply]:
        """Read one reply to whatever was sent. Cancelling breaks the connection."""
        assert self._waiting is None, "one reply at a time"
        self._waiting = Deferred(lambda _: self.abort())
        waiting = self._waiting
        self._reader = _read_reply(bodiless)
        self._wants = next(self._reader)
        self._read()
        return waiting

    def until_closed(self) -> Deferred[bytes]:
        """Fire with every byte received once the connection is closed."""
        ended: Deferred[bytes] = Deferred(lambda _: self.abort())
        self._ends.append(ended)
        return ended

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._unread += data
        self._read()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        if self._waiting is not None and self._reader is not None:
            if self._wants is None:
                self._step(bytes(self._unread))
            else:
                self._throw(reason)
        ends, self._ends = self._ends, []
        for each in ends:
            if not each.called:
                each.callback(bytes(self.received))

    def _read(self) -> None:
        while self._reader is not None and self._wants is not None:
            if isinstance(self._wants, int):
                size, skip = self._wants, 0
                if len(self._unread) < size:
                    return
            else:
                size, skip = self._unread.find(self._wants), len(self._wants)
                if size < 0:
                    return
            piece = bytes(self._unread[:size])
            del self._unread[: size + skip]
            self._step(piece)

    def _step(self, piece: bytes) -> None:
        assert self._reader is not None
        try:
            self._wants = self._reader.send(piece)
        except StopIteration as end:
            self._done(end.value)

    def _throw(self, reason: Failure) -> None:
        assert self._reader is not None
        try:
            self._reader.throw(_Cut(bytes(self._unread)))
        except StopIteration as end:
            self._done(end.value)
        except _Cut:
            self._done(reason)

    def _done(self, outcome: Reply | Failure) -> None:
        waiting, self._waiting, self._reader = self._waiting, None, None
        if waiting is not None and not waiting.called:
            waiting.callback(outcome)


class _Cut(Exception):
    """The connection ended in the middle of a reply; holds what was not read yet."""


def _read_reply(bodiless: bool) -> Generator[int | bytes | None, bytes, Reply]:
    """Ask for bytes: so many, up to a mark, or (None) all until the end."""
    status = 100
    while status < 200:
        line, *lines = (yield b"\r\n\r\n").split(b"\r\n")
        status = int(line.split(b" ")[1])
    pairs = (each.split(b":", 1) for each in lines)
    headers = tuple((name.lower(), value.strip()) for name, value in pairs)
    named = dict(headers)
    if bodiless or status in (204, 304):
        return Reply(status, headers, b"")
    pieces: list[bytes] = []
    try:
        if named.get(b"transfer-encoding") == b"chunked":
            while size := int((yield b"\r\n").split(b";")[0], 16):
                pieces.append((yield size))
                yield b"\r\n"
            while (yield b"\r\n"):
                pass
        elif b"content-length" in named:
            pieces.append((yield int(named[b"content-length"])))
        else:
            pieces.append((yield None))
    except _Cut as cut:
        return Reply(status, headers, b"".join(pieces) + cut.args[0], complete=False)
    return Reply(status, headers, b"".join(pieces))


def connected(port: int) -> Deferred[Wire]:
    """Open a connection to whoever listens on *port* of 127.0.0.1."""
    connecting: Deferred[Wire]
    connecting = connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Wire())
    return connecting


async def raw_exchange(port: int, data: bytes) -> bytes:
    """Send *data* on a new connection; return all that came until the server closed it."""
    wire = await connected(port)
    wire.send(data)
    return await wire.until_closed()


# --- upstreams that answer well ------------------------------------------------


def good_answer(request: Received) -> Script:
    """Return what a well-behaved upstream answers to *request*, in its own dialect."""
    path, _, query = request.target.partition("?")
    pieces = ["Grüße, ", "世界\u2028", "😀 and so on."]
    text = "".join(pieces)
    if request.method == "GET":
        return raw_reply(200, json.dumps(_model_list(request)).encode())
    if path.endswith("/count_tokens"):
        return json_reply(200, {"input_tokens": 12})
    if path.endswith(":countTokens"):
        return json_reply(200, {"totalTokens": 12})
    if path.endswith(":streamGenerateContent"):
        chunks = gemini_chunks(pieces)
        return sse_reply(chunks) if "alt=sse" in query else raw_reply(200, gemini_array(chunks))
    if path.endswith(":generateContent"):
        return raw_reply(200, gemini_body(text))
    streams, whole = {
        "/chat/completions": (chat_chunks, chat_body),
        "/responses": (responses_events, responses_body),
        "/messages": (messages_events, messages_body),
    }[path.removeprefix("/v1")]
    if json.loads(request.body).get("stream"):
        return sse_reply(streams(pieces))
    return raw_reply(200, whole(text))


def _model_list(request: Received) -> dict[str, object]:
    if request.header(b"x-goog-api-key"):
        return {"models": [{"name": "models/m-1", "displayName": "M 1", "inputTokenLimit": 1000}]}
    if request.header(b"anthropic-version"):
        created = "2026-01-01T00:00:00Z"
        item = {"type": "model", "id": "m-1", "display_name": "M 1", "created_at": created}
        return {"data": [item], "has_more": False, "first_id": "m-1", "last_id": "m-1"}
    return {"object": "list", "data": [{"id": "m-1", "object": "model", "created": 1, "x": 2}]}
