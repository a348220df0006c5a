"""
What a live gateway holds and how long it takes: figures, and the clients to get them.

`Held` adds up every buffer between two sockets, `kernel_bytes` what the operating system
holds beside them, `RawClient` reads as slowly as it is told. `report` keeps the figures
for people: nothing here says which of them are good.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import io
import json
import socket
import struct
import termios
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from aiclient2api import tap
from aiclient2api.observe.observers import Observers
from aiclient2api.testing import MemoryObserver
from aiclient2api.upstream.relay import Relay
from aiclient2api.web.channel import GatewayChannel
from aiclient2api.web.front import Front
from aiclient2api.web.noting import Noting
from tests.live.gateway import LiveGateway, Reply

REPORT = Path("measured.json")
"""In trial's temporary directory: what `report` was told, by name."""

# The reactor is a module that poses as an object.
_REACTOR: Any = reactor

# From <linux/sockios.h>; Python has no name for it.
_SIOCOUTQ = termios.TIOCOUTQ
_SIOCINQ = termios.FIONREAD


def report(name: str, **figures: object) -> None:
    """Print *figures* in one line, and keep them in `REPORT`."""
    told = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    told[name] = figures
    REPORT.write_text(json.dumps(told, indent=1))
    print(f"\n{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))


def milliseconds(seconds: Iterable[float]) -> dict[str, float]:
    """Return count, median, 99th percentile and maximum of some durations."""
    told = sorted(each * 1000 for each in seconds)
    p99 = quantiles(told, n=100, method="inclusive")[98]
    figures = {"median_ms": median(told), "p99_ms": p99, "max_ms": told[-1]}
    return {"count": len(told), **{key: round(value, 2) for key, value in figures.items()}}


def now() -> float:
    """Return the reactor's time, which scripted upstreams use as well."""
    seconds: float = _REACTOR.seconds()
    return seconds


def pause(seconds: float) -> Deferred[None]:
    """Let the reactor run for so long."""
    return deferLater(_REACTOR, seconds)


async def until(holds: Callable[[], object], seconds: float = 5.0, what: str = "") -> None:
    """Wait until *holds* says yes; fail after so many seconds."""
    last = now() + seconds
    while not holds():
        if now() > last:
            raise AssertionError(f"Not within {seconds:g} s: {what or holds}")
        await pause(0.001)


def watched(test: TestCase) -> MemoryObserver:
    """Return an observer of every exchange of the gateways that *test* starts after this."""
    observer = MemoryObserver()
    test.patch(tap, "Observers", lambda *others: Observers(*others, observer))
    return observer


# --- the inside of a gateway --------------------------------------------------


def front(gateway: LiveGateway) -> Front:
    """Return the front of a running gateway."""
    service = gateway._service
    assert service is not None
    world: Any = service._world
    found: Front = world.front
    return found


def relays(gateway: LiveGateway) -> list[tuple[GatewayChannel, Relay]]:
    """Return every relay that is at work, and the client's connection it writes to."""
    found = []
    for channel in gateway._channels:
        producer: Any = channel._requestProducer
        if isinstance(producer, Relay):
            found.append((channel, producer))
    return found


def paused(relay: Relay) -> bool:
    """Say whether *relay* has stopped reading its upstream."""
    answer: Any = relay._response
    return bool(answer._body._paused)


@attrs.frozen
class Held:
    """
    Bytes that one exchange holds in this process.

    :ivar to_client: In the buffers of the client's connection.
    :ivar relay: Unfinished records, records held back, a body being unpacked.
    :ivar from_upstream: In the buffers of the upstream's connection and its parsers.
    """

    to_client: int
    relay: int
    from_upstream: int

    @property
    def total(self) -> int:
        """Return the sum."""
        return self.to_client + self.relay + self.from_upstream

    @classmethod
    def by(cls, channel: GatewayChannel, relay: Relay) -> Held:
        """Add up what is held between two sockets."""
        watcher: Any = relay._watcher
        if isinstance(watcher, Noting):
            watcher = watcher._watcher
        answer: Any = relay._response
        body = answer._body
        gunzip = body._gunzip
        kept = relay._held_size if relay._held else 0
        kept += len(watcher._sse._held) + len(watcher._sse.whole)
        kept += len(watcher._array._held) + len(watcher._array.whole) + len(watcher._body)
        kept += sum(map(len, body._held)) + (len(gunzip._input) if gunzip is not None else 0)
        line = body._line
        return cls(
            to_client=_unsent(channel.transport) + sum(map(len, channel._dataBuffer)),
            relay=kept,
            from_upstream=0 if line is None else _unsent(line.transport) + _parsed(line),
        )


def kernel_bytes(channel: GatewayChannel, relay: Relay) -> int:
    """Return what the kernel holds: unsent to the client, unread of the upstream."""
    answer: Any = relay._response
    line = answer._body._line
    unread = 0 if line is None else _ioctl(line.transport.socket, _SIOCINQ)
    client: Any = channel.transport
    return _ioctl(client.socket, _SIOCOUTQ) + unread


def _unsent(transport: Any) -> int:
    return len(transport.dataBuffer) - transport.offset + sum(map(len, transport._tempDataBuffer))


def _parsed(line: Any) -> int:
    """Return what Twisted's HTTP client holds of an answer that it has not delivered."""
    parser = line._upper._parser
    if parser is None:
        return 0
    decoder = getattr(parser, "bodyDecoder", None)
    return len(parser._buffer) + len(getattr(decoder, "_buffer", b""))


def _ioctl(connection: socket.socket, what: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), what, bytes(4)))[0])


# --- a client that reads as it is told ------------------------------------------


class RawClient:
    """
    A client on a bare socket whose receive buffer is small.

    :ivar raw: All that was read so far, framing and all.
    """

    def __init__(self, port: int, receive_buffer: int = 4096) -> None:
        self.raw = bytearray()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        # The kernel accepts for the gateway: this does not wait for the reactor.
        self._socket.connect(("127.0.0.1", port))
        self._socket.setblocking(False)

    def send(self, data: bytes) -> None:
        """Send a small request."""
        assert self._socket.send(data) == len(data)

    def read(self, size: int) -> None:
        """Take up to so many bytes, if there are any."""
        with contextlib.suppress(BlockingIOError):
            self.raw += self._socket.recv(size)

    def read_all(self, seconds: float = 20.0) -> Deferred[Reply]:
        """Read until the gateway closes, as fast as a thread can; return the reply."""
        self._socket.settimeout(seconds)

        def drain() -> Reply:
            while piece := self._socket.recv(1 << 20):
                self.raw += piece
            return parsed(bytes(self.raw))

        return deferToThread(drain)

    def close(self, *, reset: bool = False) -> None:
        """Leave, with FIN or with RST; safe to call twice."""
        if reset and self._socket.fileno() >= 0:
            linger = struct.pack("ii", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()


def parsed(raw: bytes) -> Reply:
    """Read one reply with the standard library's parser, which shares no code with ours."""
    source: Any = _Bytes(raw)
    answer = http.client.HTTPResponse(source)
    answer.begin()
    try:
        body, complete = answer.read(), True
    except http.client.IncompleteRead as cut:
        body, complete = cut.partial, False
    headers = tuple((k.lower().encode(), v.encode()) for k, v in answer.getheaders())
    return Reply(answer.status, headers, body, complete)


@attrs.frozen
class _Bytes:
    """What `http.client` needs of a socket."""

    raw: bytes

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.raw)
