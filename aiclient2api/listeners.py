"""
Open listeners from endpoint strings, and pass open ones on to another process.

Where a socket was inherited it is adopted instead of bound, whatever kind of endpoint it is
of: connections that wait in its queue are nobody's loss. It must never know what listens,
nor how a socket came here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.internet import unix
from twisted.internet.defer import Deferred, execute
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.lockfile import FilesystemLock
from zope.interface import implementer

from aiclient2api.errors import ConfigurationError

BACKLOG = 1024
"""
Connections that may wait to be taken, where the endpoint does not say (``backlog=``).

What finds no room there is not refused but unheard, and tried again by the client's kernel
after one second, then after two, four, eight: with the 50 that Twisted asks for, a burst of
a moment makes everybody wait for long. The kernel has a limit of its own (somaxconn).
"""

_SYSTEMD = "systemd:"
_NAMELESS = b"\0handed-over"
"""What Twisted takes for the name of a socket that is no file, and so for none to delete."""


class Listener(StreamServerEndpointService):
    """
    One listener.

    :param description: A Twisted endpoint string.
    :param expecting: True if its socket may come from another process, see `inherit`.
    :raise ConfigurationError: if there is no such endpoint.
    """

    def __init__(
        self, description: str, factory: IProtocolFactory, reactor: Any, *, expecting: bool = False
    ) -> None:
        self.description = description
        self._opening = _Opening(reactor, None if ":backlog=" in description else BACKLOG)
        # It is untyped.
        super().__init__(  # type: ignore[no-untyped-call]
            _endpoint(description, self._opening, expecting), factory
        )
        # A port that is taken must end the start, not a line in a log.
        self._raiseSynchronously = True

    def inherit(self, descriptor: int) -> None:
        """Listen on an open socket when it is time to; it is ours from now on."""
        self._opening.descriptor = descriptor

    @property
    def port(self) -> Any:
        """Return what listens; None before and after."""
        waiting = self._waitingForPort
        return getattr(waiting, "result", None) if waiting is not None else None

    @property
    def descriptor(self) -> int:
        """Return the open socket's descriptor, which stays ours."""
        number: int = self.port.fileno()
        return number

    def share(self) -> None:
        """From now on another process may hold the socket: closing it must not end it."""
        self.port._shouldShutdown = False

    def leave(self) -> None:
        """Leave the name of the socket to the process that has taken it over."""
        self.share()
        if isinstance(self.port, unix.Port):
            self.port._bindPath = _NAMELESS
            self.port.lockFile = None

    def settle(self) -> None:
        """Take what belongs to the socket, now that the other process has left it."""
        if self._opening.locks and isinstance(self.port, unix.Port):
            lock = os.fsdecode(self.port._bindPath) + ".lock"
            with suppress(OSError):
                os.unlink(lock)
            self.port.lockFile = FilesystemLock(lock)
            self.port.lockFile.lock()


class _Opening:
    """The reactor as endpoints see it, who ask it to listen; with a *backlog* of ours."""

    def __init__(self, reactor: Any, backlog: int | None) -> None:
        self.reactor = reactor
        self.backlog = backlog
        self.descriptor: int | None = None
        self.locks = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen, or adopt."""
        if self.descriptor is None:
            backlog = self.backlog or backlog
            return self.reactor.listenTCP(port, factory, backlog=backlog, interface=interface)
        return self.adopt(factory)

    def listenSSL(
        self,
        port: int,
        factory: Any,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> Any:
        """Listen, or adopt: the certificate is read anew in any case."""
        if self.descriptor is None:
            backlog = self.backlog or backlog
            return self.reactor.listenSSL(
                port, factory, contextFactory, backlog=backlog, interface=interface
            )
        return self.adopt(TLSMemoryBIOFactory(contextFactory, False, factory))

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> Any:
        """Listen, or adopt; the lock is another's until `Listener.settle`."""
        if self.descriptor is None:
            backlog = self.backlog or backlog
            return self.reactor.listenUNIX(
                address, factory, backlog=backlog, mode=mode, wantPID=wantPID
            )
        # adoptStreamPort would open it to everybody.
        port = unix.Port(os.fsencode(address), factory, backlog, mode, self.reactor)
        port._preexistingSocket = _socket(self._taken())
        port.startListening()
        self.locks = bool(wantPID)
        return port

    def adopt(self, factory: Any) -> Any:
        """Listen on the socket that was inherited."""
        with _socket(self._taken()) as found:
            return self.reactor.adoptStreamPort(found.fileno(), found.family, factory)

    def _taken(self) -> int:
        descriptor, self.descriptor = self.descriptor, None
        assert descriptor is not None
        return descriptor


@implementer(IStreamServerEndpoint)
class _Inherited:
    """An endpoint that can be nothing but inherited."""

    def __init__(self, opening: _Opening, description: str) -> None:
        self._opening = opening
        self._description = description

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Adopt it."""
        if self._opening.descriptor is None:
            raise _not_passed_on(self._description)
        listening: Deferred[IListeningPort] = execute(self._opening.adopt, protocolFactory)
        return listening


def _endpoint(description: str, opening: _Opening, expecting: bool) -> Any:
    try:
        return serverFromString(opening, description)
    except (IndexError, KeyError):
        if not description.startswith(_SYSTEMD):
            raise
    if expecting:
        return _Inherited(opening, description)
    raise _not_passed_on(description)


def _not_passed_on(description: str) -> ConfigurationError:
    return ConfigurationError(
        [
            f"listen: {description} is a socket that systemd opens, and it passed none on; start "
            "the gateway by its .socket unit, or write where to listen, as in "
            '"tcp:3000:interface=127.0.0.1"'
        ]
    )


def _socket(descriptor: int) -> socket.socket:
    found = socket.socket(fileno=descriptor)
    found.setblocking(False)
    return found


def matched(wanted: Sequence[str], given: Sequence[tuple[str, int]]) -> Mapping[int, int]:
    """
    Return which of the places in *wanted* gets which descriptor.

    Those that nobody wants are closed.

    :param given: Description and descriptor of each open socket.
    """
    left = list(given)
    found: dict[int, int] = {}
    for place, description in enumerate(wanted):
        for pair in left:
            if pair[0] == description:
                left.remove(pair)
                found[place] = pair[1]
                break
    for _, descriptor in left:
        os.close(descriptor)
    return found
