"""
The listening side of HTTP: who is connected, and whether there is room for one more.

What a connection may send is `channel`'s business.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
)
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import IResource
from twisted.web.server import Site

from aiclient2api.web.admission import Admission as Admission
from aiclient2api.web.channel import IDLE_CONNECTION, GatewayChannel, GatewayRequest
from aiclient2api.web.load import Connections
from aiclient2api.web.no_room import NoRoom
from aiclient2api.web.target import peer_name as peer_name


class GatewaySite(Site):
    """
    The site of all listeners.

    :param root: The resource that answers everything.
    :param admission: The rules of the door.
    :ivar leaving: True once the gateway stops: then no connection is kept.
    """

    protocol = GatewayChannel  # type: ignore[assignment]  # declared too narrowly there

    def __init__(self, root: IResource, admission: Admission, reactor: object) -> None:
        super().__init__(
            root,
            requestFactory=GatewayRequest,
            reactor=reactor,
            timeout=IDLE_CONNECTION,
            parsePOSTFormSubmission=False,
        )
        self.admission = admission
        self.displayTracebacks = False
        self.channels: set[GatewayChannel] = set()
        self.leaving = False
        self.connections: Connections[GatewayChannel] = Connections()
        self._turned_away: OrderedDict[NoRoom, None] = OrderedDict()
        self._empty: Deferred[None] | None = None

    def acceptableProtocols(self) -> list[bytes]:
        """Speak HTTP/1.1 only, whatever else is installed: h2 is a second front end."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Take a connection; where there is no room close another, or else this one."""
        most = self.admission.connections()
        if most and len(self.connections) >= most:
            going = self.connections.next_to_go()
            if going is None:
                return NoRoom(self._turned_away)
            going.give_way()
        return super().buildProtocol(addr)

    def close_idle(self) -> int:
        """Close the connections on which nothing is asked any more; return how many."""
        idle = [channel for channel in self.connections.take_idle() if not channel._refused]
        for channel in idle:
            channel.give_way()
        return len(idle)

    def hang_up(self) -> Deferred[None]:
        """
        Close every connection once all that was written to it is sent.

        A finished answer may still stand in a transport's buffer.

        :return: Fires when none is open; cancelled, it closes the rest at once.
        """
        empty: Deferred[None] = Deferred(self._abort_all)
        self._empty = empty
        for channel in tuple(self.channels):
            channel.loseConnection()
        for turned_away in tuple(self._turned_away):
            turned_away.abort()
        self._look()
        return empty

    def forget(self, channel: GatewayChannel) -> None:
        """Take note that *channel* is closed."""
        self.channels.discard(channel)
        self.connections.left(channel)
        self._look()

    def _abort_all(self, given_up: Deferred[None]) -> None:
        self._empty = None
        for channel in tuple(self.channels):
            channel.abort()

    def _look(self) -> None:
        if self._empty is not None and not self.channels:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def log(self, request: HTTPRequest) -> None:
        """Do nothing: the front logs each request once, also those that broke off."""
