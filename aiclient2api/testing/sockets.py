"""
Upstreams over real loopback sockets, for tests, scripted down to the byte.

They speak HTTP/1.1 by hand so that they can break its rules: stop in the middle of
a record, reset, never answer, never accept. They know no dialect and no gateway.
Import them from `aiclient2api.testing`.
"""

from __future__ import annotations

import hashlib
import select
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from aiclient2api.testing.scripts import (
    Chunk,
    Close,
    EndChunks,
    Flood,
    Head,
    Hold,
    Reset,
    Script,
    Send,
    Step,
    Wait,
    json_reply,
)
from aiclient2api.values import Headers


@attrs.define(eq=False)
class Connection:
    """
    One connection made to a `ScriptedUpstream`.

    :ivar number: From 0, in the order of their arrival.
    :ivar opened: Reactor seconds; so is *closed*, None while it is open.
    :ivar reason: Why it closed, as Twisted says it.
    """

    number: int
    opened: float
    closed: float | None = None
    reason: Failure | None = None


@attrs.frozen(eq=False)
class Received:
    """
    One whole request as it arrived.

    :ivar target: The request target as sent: a path, or a URL when sent to a proxy.
    :ivar headers: In order, names in lower case.
    :ivar body: Transfer coding undone, nothing else.
    :ivar at: Reactor seconds when its last byte arrived.
    """

    method: str
    target: str
    headers: Headers = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    connection: Connection
    at: float

    @property
    def sha256(self) -> str:
        """Return the body's digest in hex."""
        return hashlib.sha256(self.body).hexdigest()

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of *name* (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)


_OUT_OF_SCRIPTS = json_reply(500, {"error": {"message": "The scripted upstream has no more."}})


class ScriptedUpstream:
    """
    A server on 127.0.0.1 that plays one script per request and notes what came.

    :param scripts: A list, one script per request in the order of arrival (after the
        last one every request is answered with a 500 that says so), or a callable
        that is given the request. A script that only ends leaves the connection open
        for the next request, unless the request said ``Connection: close``.

    :ivar requests: Every whole `Received` so far.
    :ivar connections: Every `Connection` so far.
    :ivar flooded: Payload bytes of `Flood` steps handed to the transport.
    """

    def __init__(self, scripts: Iterable[Script] | Callable[[Received], Script]) -> None:
        if callable(scripts):
            self._choose = scripts
        else:
            left = iter(scripts)
            self._choose = lambda request: next(left, _OUT_OF_SCRIPTS)
        self.requests: list[Received] = []
        self.connections: list[Connection] = []
        self.flooded = 0
        self.url = ""
        self._wires: list[_Wire] = []
        self._waiters: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self._reactor: Any = None
        self._port: Any = None

    def listen(self, reactor: Any, *, context_factory: Any = None) -> Deferred[int]:
        """
        Start to listen; fire with the port. `url` is set then, without a last slash.

        :param context_factory: A TLS context factory: the server then speaks https.
        """

        def start() -> int:
            factory = Factory.forProtocol(lambda: _Wire(self, reactor))
            factory.noisy = False
            where: dict[str, Any] = {"port": 0, "factory": factory, "interface": "127.0.0.1"}
            self._reactor = reactor
            if context_factory is None:
                self._port = reactor.listenTCP(**where)
            else:
                self._port = reactor.listenSSL(contextFactory=context_factory, **where)
            number: int = self._port.getHost().port
            scheme = "http" if context_factory is None else "https"
            self.url = f"{scheme}://127.0.0.1:{number}"
            return number

        return maybeDeferred(start)

    def stop(self) -> Deferred[None]:
        """Stop listening, break what is open; fire when every socket is closed."""
        stopped = [] if self._port is None else [maybeDeferred(self._port.stopListening)]
        for wire in list(self._wires):
            wire.reset()
        all_closed = self._when(lambda: not self._wires)
        return gatherResults([*stopped, all_closed]).addCallback(lambda _: None)

    @property
    def open(self) -> int:
        """Return how many connections are open."""
        return len(self._wires)

    @property
    def closed(self) -> int:
        """Return how many connections have closed."""
        return len(self.connections) - len(self._wires)

    def when_connected(self, count: int) -> Deferred[None]:
        """Fire once *count* connections in all have been made."""
        return self._when(lambda: len(self.connections) >= count)

    def when_requests(self, count: int) -> Deferred[None]:
        """Fire once *count* whole requests in all have arrived and been taken up."""
        return self._when(lambda: len(self.requests) >= count)

    def when_closed(self, count: int) -> Deferred[None]:
        """Fire once *count* connections in all have closed, whoever closed them."""
        return self._when(lambda: self.closed >= count)

    def release(self) -> None:
        """Let every script that stands at a `Hold` go on."""
        for wire in list(self._wires):
            wire.release()

    def _when(self, holds: Callable[[], bool]) -> Deferred[None]:
        waiter: tuple[Callable[[], bool], Deferred[None]]
        waiter = (holds, Deferred(lambda _: self._waiters.remove(waiter)))
        self._waiters.append(waiter)
        self._look()
        return waiter[1]

    def _look(self) -> None:
        due = [waiter for waiter in self._waiters if waiter[0]()]
        self._waiters = [waiter for waiter in self._waiters if waiter not in due]
        for _, deferred in due:
            deferred.callback(None)

    def _made(self, wire: _Wire) -> Connection:
        connection = Connection(number=len(self.connections), opened=self._reactor.seconds())
        self.connections.append(connection)
        self._wires.append(wire)
        self._look()
        return connection

    def _arrived(self, request: Received) -> Script:
        self.requests.append(request)
        return self._choose(request)

    def _lost(self, wire: _Wire, reason: Failure) -> None:
        wire.connection.closed = self._reactor.seconds()
        wire.connection.reason = reason
        self._wires.remove(wire)
        self._look()


class _Wire(Protocol):
    """One connection: reads requests, plays their scripts in order."""

    connection: Connection

    def __init__(self, upstream: ScriptedUpstream, reactor: Any) -> None:
        self._upstream = upstream
        self._reactor = reactor
        self._buffer = bytearray()
        self._reader = self._read()
        self._wants = next(self._reader)
        self._queue: deque[tuple[Script, bool]] = deque()
        self._steps: Iterator[Step] | None = None
        self._close_after = False
        self._timer: Any = None
        self._held = False
        self._over = False

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]
        self.connection = self._upstream._made(self)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while (piece := self._take()) is not None:
            self._wants = self._reader.send(piece)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._reader.close()
        self._upstream._lost(self, reason)

    def release(self) -> None:
        if self._held:
            self._held = False
            self._play()

    def reset(self) -> None:
        self._over = True
        self.transport.abortConnection()  # type: ignore[union-attr]

    def _take(self) -> bytes | None:
        """Cut what the reader wants from the buffer: so many bytes, or up to a mark."""
        if isinstance(self._wants, int):
            size, skip = self._wants, 0
            if len(self._buffer) < size:
                return None
        else:
            size, skip = self._buffer.find(self._wants), len(self._wants)
            if size < 0:
                return None
        piece = bytes(self._buffer[:size])
        del self._buffer[: size + skip]
        return piece

    def _read(self) -> Generator[int | bytes, bytes, None]:
        while True:
            line, *lines = (yield b"\r\n\r\n").split(b"\r\n")
            method, target, _ = line.decode("latin-1").split(" ")
            pairs = (each.split(b":", 1) for each in lines)
            headers = tuple((name.lower(), value.strip()) for name, value in pairs)
            named = dict(headers)
            if named.get(b"transfer-encoding", b"").lower() == b"chunked":
                pieces = []
                while size := int((yield b"\r\n").split(b";")[0], 16):
                    pieces.append((yield size))
                    yield b"\r\n"
                while (yield b"\r\n"):
                    pass
                body = b"".join(pieces)
            else:
                body = yield int(named.get(b"content-length", b"0"))
            request = Received(
                method, target, headers, body, self.connection, self._reactor.seconds()
            )
            last = named.get(b"connection", b"").lower() == b"close"
            self._queue.append((self._upstream._arrived(request), last))
            if self._steps is None:
                self._play()
            # Only now, so that who waits for the request finds its script begun.
            self._upstream._look()

    def _play(self) -> None:
        """Take steps until one of them has to wait, or there are none."""
        while not self._over:
            if self._steps is None:
                if not self._queue:
                    return
                script, self._close_after = self._queue.popleft()
                self._steps = iter(script)
            step = next(self._steps, None)
            if step is None:
                self._steps = None
                if self._close_after:
                    self._close()
            elif not self._go_on_after(step):
                return

    def _go_on_after(self, step: Step) -> bool:
        transport: Any = self.transport
        match step:
            case Head(status, headers):
                phrase = HTTPStatus(status).phrase if status in _STATUSES else "Unnamed"
                lines = [f"HTTP/1.1 {status} {phrase}".encode()]
                lines += [name + b": " + value for name, value in headers]
                transport.write(b"\r\n".join(lines) + b"\r\n\r\n")
            case Send(data):
                transport.write(data)
            case Chunk(data):
                transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            case EndChunks():
                transport.write(b"0\r\n\r\n")
            case Close():
                self._close()
            case Reset():
                self.reset()
            case Wait(seconds):
                self._timer = self._reactor.callLater(seconds, self._play)
                return False
            case Hold():
                self._held = True
                return False
            case Flood():
                _Offer(step, self._upstream, transport, self._play).start()
                return False
        return True

    def _close(self) -> None:
        self._over = True
        self.transport.loseConnection()  # type: ignore[union-attr]


_STATUSES = frozenset(HTTPStatus)


@implementer(IPushProducer)
class _Offer:
    """Writes a `Flood`, only while the transport wants more."""

    def __init__(
        self, flood: Flood, upstream: ScriptedUpstream, transport: Any, done: Callable[[], None]
    ) -> None:
        self._piece = flood.piece
        if flood.chunked:
            self._piece = b"%x\r\n%b\r\n" % (len(flood.piece), flood.piece)
        self._weight = len(flood.piece)
        self._left = flood.total
        self._upstream = upstream
        self._transport = transport
        self._done = done
        self._paused = True

    def start(self) -> None:
        self._transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        while self._left > 0 and not self._paused:
            self._left -= self._weight
            self._upstream.flooded += self._weight
            self._transport.write(self._piece)
        if self._left <= 0 and not self._paused:
            self._paused = True
            self._transport.unregisterProducer()
            self._done()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._left = 0
        self._paused = True


class Blackhole:
    """
    A loopback port where connecting hangs: its backlog is full and stays full.

    Linux only: a full backlog drops the SYN there, so the connection neither fails
    nor is made. Call `close` at the end of the test.
    """

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._fillers: list[socket.socket] = []
        while self._fits():
            pass
        self._own = self._count()

    def _fits(self) -> bool:
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(self._listener.getsockname())
        self._fillers.append(filler)
        return bool(select.select([], [filler], [], 0.05)[1])

    def connecting(self) -> int:
        """Return how many sockets of this machine now hang in connecting to us."""
        return self._count() - self._own

    def _count(self) -> int:
        syn_sent, remote = "02", f":{self.port:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return sum(row[3] == syn_sent and row[2].endswith(remote) for row in rows)

    def close(self) -> None:
        """Close every socket of ours."""
        for each in (*self._fillers, self._listener):
            each.close()
