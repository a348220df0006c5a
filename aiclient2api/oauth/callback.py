"""
The door that a browser is sent back to: one address on 127.0.0.1, for one login.

It reads a request's head and nothing else, answers a page, and closes. It knows no vendor;
whether an answer belongs to the login is judged by who waits for it, and nothing is logged.
"""

from __future__ import annotations

import errno
import html
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from aiclient2api.errors import InvalidRequest

HOST = "127.0.0.1"
"""Where it listens; never anywhere that another machine could reach."""

HEAD_LIMIT = 16 * 1024
"""Bytes of a request that are read."""

SECONDS = 20.0
"""How long a browser may take to send its request."""

MOST = 16
"""Connections at once: browsers open some that they never use."""

_CLOSED = "This address belongs to a login of aiclient2api and answers nothing else."


class Page(Exception):
    """What a visitor is told instead of being let in."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Door:
    """
    Listens for the browser.

    :param path: The only one that is answered.
    :param visited: Told the query of each request there. It raises `Page` to turn it away;
        else the visitor waits for `tell`.
    """

    def __init__(self, *, reactor: Any, path: str, visited: Callable[[str], None]) -> None:
        self.port = 0
        self._reactor = reactor
        self._path = path
        self._visited = visited
        self._listening: Any = None
        self._open: set[_Visit] = set()
        self._waiting: list[_Visit] = []

    def open(self, port: int = 0) -> None:
        """
        Begin to listen; `port` is known then.

        :param port: 0 for one that is free.
        :raise InvalidRequest: if it cannot be had.
        """
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda addr: _Visit(self)  # type: ignore[method-assign]
        try:
            self._listening = self._reactor.listenTCP(port, factory, interface=HOST)
        except CannotListenError as error:
            reason = error.socketError
            taken = isinstance(reason, OSError) and reason.errno == errno.EADDRINUSE
            why = "is in use, perhaps by another login" if taken else f"cannot be had ({reason})"
            raise InvalidRequest(
                f"Port {port} of {HOST} {why}; end that program, or choose another with --port."
            ) from None
        self.port = self._listening.getHost().port

    def tell(self, title: str, text: str, *, status: int = 200) -> None:
        """Answer the visitors that were let in."""
        waiting, self._waiting = self._waiting, []
        for visit in waiting:
            visit.answer(status, title, text)

    def close(self) -> None:
        """Stop listening and hang up; who is being answered gets the rest. Safe twice."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.stopListening()
        for visit in list(self._open):
            visit.leave()

    def came(self, visit: _Visit) -> bool:
        """Note a connection; False if there are too many."""
        self._open.add(visit)
        return len(self._open) <= MOST and self._listening is not None

    def went(self, visit: _Visit) -> None:
        """Forget a connection."""
        self._open.discard(visit)
        if visit in self._waiting:
            self._waiting.remove(visit)

    def ask(self, visit: _Visit, head: bytes) -> None:
        """
        Judge a request.

        :raise Page: if it is not let in.
        """
        query = self._query(head.decode("latin-1").split("\r\n"))
        # Before it is told: the answer may be there at once.
        self._waiting.append(visit)
        try:
            self._visited(query)
        except Page:
            self._waiting.remove(visit)
            raise

    def later(self, call: Callable[[], None]) -> Any:
        """Call this when a browser had time enough."""
        return self._reactor.callLater(SECONDS, call)

    def _query(self, lines: list[str]) -> str:
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise Page(400, "That is no HTTP request.")
        hosts = [
            line.partition(":")[2].strip().lower()
            for line in lines[1:]
            if line.partition(":")[0].lower() == "host"
        ]
        # A name that somebody else's DNS leads here would make their page one of ours.
        if hosts not in ([f"{HOST}:{self.port}"], [f"localhost:{self.port}"]):
            raise Page(403, _CLOSED)
        path, _, query = words[1].partition("?")
        if path != self._path:
            raise Page(404, _CLOSED)
        if words[0] != "GET":
            raise Page(405, _CLOSED)
        return query.partition("#")[0]


class _Visit(Protocol):
    """One connection; one request of it is read."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._head = b""
        self._asked = False
        self._answered = False
        self._timer: Any = None

    def connectionMade(self) -> None:
        """Begin the clock."""
        if not self._door.came(self):
            self.leave()
            return
        self._timer = self._door.later(self.leave)

    def dataReceived(self, data: bytes) -> None:
        """Read the head."""
        if self._asked:
            return
        self._head += data
        head, end, _ = self._head.partition(b"\r\n\r\n")
        if not end and len(self._head) <= HEAD_LIMIT:
            return
        self._asked = True
        self._stop_clock()
        self._head = b""
        try:
            if len(head) > HEAD_LIMIT:
                raise Page(431, "That request is too long.")
            self._door.ask(self, head)
        except Page as page:
            self.answer(page.status, "Not that", page.text)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Be forgotten."""
        self._stop_clock()
        self._door.went(self)

    def answer(self, status: int, title: str, text: str) -> None:
        """Send a page and close."""
        self._answered = True
        body = page(title, text).encode("utf-8")
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            "Content-Type: text/html; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"
            # The address holds the code; nobody else is to hear of it.
            "Referrer-Policy: no-referrer\r\n"
            "Cache-Control: no-store\r\n"
            "Connection: close\r\n\r\n"
        )
        transport: Any = self.transport
        transport.write(head.encode("latin-1") + body)
        transport.loseConnection()

    def leave(self) -> None:
        """Hang up on who has not been answered."""
        self._stop_clock()
        if not self._answered:
            transport: Any = self.transport
            transport.abortConnection()

    def _stop_clock(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


def page(title: str, text: str) -> str:
    """Return a page that says so; whatever stands in *text* is shown and never obeyed."""
    return (
        "<!DOCTYPE html><html><head><meta charset='utf-8'>"
        f"<title>{html.escape(title)}</title></head>"
        f"<body><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p></body></html>\n"
    )
