"""
How clients are let go when the gateway stops: told with their next answer, then waited for.

What takes too long is interrupted, and says so in the caller's dialect. It must never know
why the gateway stops, nor for how long anybody is waited for.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from aiclient2api.errors import UpstreamError
from aiclient2api.web.channel import GatewayRequest
from aiclient2api.web.front import Front
from aiclient2api.web.site import GatewaySite


@attrs.frozen(eq=False)
class Clients:
    """
    All who are connected.

    :ivar front: Counts what is being answered.
    :ivar site: Has the connections.
    """

    front: Front
    site: GatewaySite

    @property
    def busy(self) -> int:
        """Return how many requests arrive or are being answered."""
        arriving = sum(channel.arriving for channel in self.site.channels)
        return self.front.in_flight + arriving

    @property
    def connected(self) -> int:
        """Return how many connections there are."""
        return len(self.site.channels)

    def tell(self) -> None:
        """From now on tell everybody who is answered that the connection is not kept."""
        self.site.leaving = True
        for channel in self.site.channels:
            for request in channel.requests:
                # One whose head went out was told otherwise; it gets its next answer yet.
                if not request.startedWriting:
                    request.responseHeaders.setRawHeaders(b"connection", [b"close"])
                    channel.persistent = False

    def close_idle(self, seconds: float) -> None:
        """
        Have connections close once they were idle for so long.

        A client that has just read an answer may be sending already; so none is closed at
        once that was not told before.
        """
        self.site.timeOut = seconds
        for channel in self.site.channels:
            channel.idle_after(seconds)

    def interrupt(self, error: UpstreamError) -> None:
        """End all that arrives or is being answered with *error*."""
        self.front.interrupt(error)
        for channel in tuple(self.site.channels):
            channel.interrupt(error)

    def cut_off(self) -> None:
        """Close the connections of whatever is being answered still."""
        self.front.cut_off()

    def hang_up(self) -> Deferred[None]:
        """See `GatewaySite.hang_up`."""
        return self.site.hang_up()


def interruptible(request: GatewayRequest, answering: Deferred[Any]) -> None:
    """
    Let *request* be interrupted while it is *answering*.

    What has begun is broken off by who answers. Otherwise whatever is waited for is
    cancelled, as if the client had left, but it is told why.
    """
    told: list[UpstreamError] = []

    def interrupt(error: UpstreamError) -> None:
        if request.break_off is None or not request.break_off(error):
            told.append(error)
            answering.cancel()

    def over(result: Any) -> Any:
        request.interrupt = None
        if told and isinstance(result, Failure) and result.check(CancelledError):
            return Failure(told[0])
        return result

    request.interrupt = interrupt
    answering.addBoth(over)
