"""
Clients that mean no good, all at once: slow heads, slow readers, and a flood.

    python3 bench/crowd.py --port 3000 --heads 2000 --readers 500 --flood 300 --seconds 20

One thread, epoll, on 127.0.0.1 only. It says ``ready`` in a line once all are connected, and
after so many seconds one line of JSON with what became of them. It must never know what
they are measured for.
"""

from __future__ import annotations

import argparse
import collections
import heapq
import json
import resource
import select
import socket
import sys
import time
from collections.abc import Callable

_AGAIN = 1.0
"""Seconds after which one that was closed comes again."""
_SMALL = 2048
"""Bytes that the kernel is asked to take for a slow reader, and doubles."""
_PATIENCE = 60
"""Seconds that all may take to connect."""
_STARTS = 250
"""How many connect in a second: a backlog is not endless."""


class Crowd:
    """
    All of them.

    :ivar counts: What became of them, by a word.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._poll = select.epoll()
        self._all: dict[int, Client] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self.counts: collections.Counter[str] = collections.Counter()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something later."""
        self._number += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._number, call))

    def connect(self, client: Client, *, small: bool = False) -> socket.socket:
        """Begin to connect for *client*."""
        wire = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if small:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
        wire.connect_ex(("127.0.0.1", self._port))
        self._all[wire.fileno()] = client
        self._poll.register(wire, select.EPOLLOUT)
        return wire

    def listen(self, wire: socket.socket, *, readable: bool) -> None:
        """Have the client told of bytes, or else only of the end."""
        events = select.EPOLLIN if readable else 0
        self._poll.modify(wire, events | select.EPOLLRDHUP)

    def close(self, wire: socket.socket) -> None:
        """Close a connection."""
        self._all.pop(wire.fileno(), None)
        wire.close()

    def run(self, seconds: float) -> None:
        """Let them do what they do for so long."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
            wait = self._timers[0][0] - time.monotonic() if self._timers else 0.1
            for number, events in self._poll.poll(max(0.0, min(wait, 0.1))):
                client = self._all.get(number)
                if client is not None:
                    client.happened(events)


class Client:
    """
    One of them; it comes again when it was closed.

    :param first: What it sends at once.
    """

    kind = ""
    small = False

    def __init__(self, crowd: Crowd, first: bytes) -> None:
        self.crowd = crowd
        self.first = first
        self.wire: socket.socket | None = None
        self.born = 0

    def come(self) -> None:
        """Connect."""
        self.wire = self.crowd.connect(self, small=self.small)
        self.born += 1

    def happened(self, events: int) -> None:
        """Something became possible."""
        wire = self.wire
        assert wire is not None
        try:
            if events & select.EPOLLOUT:
                self.crowd.listen(wire, readable=self.kind == "flood")
                wire.send(self.first)
                self.crowd.counts[f"{self.kind} connected"] += 1
                self.connected()
            elif events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP | select.EPOLLIN):
                self.ended(events)
        except OSError:
            self.gone()

    def connected(self) -> None:
        """Its first bytes are on their way."""

    def ended(self, events: int) -> None:
        """The other side closed, or sent something."""
        self.gone()

    def gone(self, word: str = "closed") -> None:
        """Note that it was closed; come again."""
        assert self.wire is not None
        self.crowd.close(self.wire)
        self.wire = None
        self.crowd.counts[f"{self.kind} {word}"] += 1
        self.crowd.after(_AGAIN, self.come)

    def each_second(self, call: Callable[[], None]) -> None:
        """Call something each second, as long as this connection is open."""
        born = self.born

        def again() -> None:
            if self.wire is None or self.born != born:
                return
            try:
                call()
            except BlockingIOError:
                pass
            except OSError:
                self.gone()
                return
            self.crowd.after(1.0, again)

        self.crowd.after(1.0, again)


class SlowHead(Client):
    """Sends a byte of a header each second."""

    kind = "heads"

    def connected(self) -> None:
        self.each_second(self._drip)

    def _drip(self) -> None:
        assert self.wire is not None
        self.wire.send(b"x")


class SlowReader(Client):
    """Asks for an endless stream, and reads a byte of it each second."""

    kind = "readers"
    small = True
    read: bytearray

    def connected(self) -> None:
        self.read = bytearray()
        self.each_second(self._sip)

    def ended(self, events: int) -> None:
        # What was sent before the end is not read any faster.
        self.gone()

    def _sip(self) -> None:
        assert self.wire is not None
        piece = self.wire.recv(1)
        if not piece:
            self.gone()
            return
        self.read += piece
        if len(self.read) == 12:
            self.crowd.counts[f"readers {self.read[9:].decode()}"] += 1


class Flooder(Client):
    """Asks once and reads the answer, as many have before it; its place is taken by another."""

    kind = "flood"

    def come(self) -> None:
        super().come()
        self.read = bytearray()

    def ended(self, events: int) -> None:
        assert self.wire is not None
        piece = self.wire.recv(65536)
        self.read += piece
        if not piece:
            status = self.read[9:12].decode() or "nothing"
            self.crowd.close(self.wire)
            self.crowd.counts[f"flood {status}"] += 1

    def gone(self, word: str = "reset") -> None:
        assert self.wire is not None
        self.crowd.close(self.wire)
        self.crowd.counts[f"flood {word}"] += 1


def request(key: str, model: str, *, stream: bool) -> bytes:
    """Return a request of OpenAI Chat Completions, whole."""
    asked = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    body = json.dumps(asked).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def main() -> None:
    """Come, stay, and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("port", "heads", "readers"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--flood", type=float, default=0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20, help="once all are connected")
    parser.add_argument("--reader-key", default="")
    parser.add_argument("--flood-key", default="")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd(arguments.port)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slow: "
    endless = request(arguments.reader_key, "fake-c1000000-d0-s16384-l0", stream=True)
    slow: list[Client] = [SlowReader(crowd, endless) for _ in range(arguments.readers)]
    slow += [SlowHead(crowd, head) for _ in range(arguments.heads)]
    for number, client in enumerate(slow):
        crowd.after(number / _STARTS, client.come)
    for _ in range(_PATIENCE):
        crowd.run(1)
        came = sum(crowd.counts[f"{kind} connected"] for kind in ("heads", "readers"))
        if came >= len(slow):
            break
    print("ready", flush=True)
    long = request(arguments.flood_key, "fake-c1-d0-s16-l100000", stream=False)

    def flood() -> None:
        Flooder(crowd, long).come()
        crowd.after(1 / arguments.flood, flood)

    if arguments.flood:
        flood()
    crowd.run(arguments.seconds)
    json.dump(crowd.counts, sys.stdout, sort_keys=True)
    print(flush=True)


if __name__ == "__main__":
    main()
