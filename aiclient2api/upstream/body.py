"""
One answer of an upstream: its head, and its body at the receiver's pace.

It must never know what the body means.
"""

from __future__ import annotations

import zlib
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse
from zope.interface import implementer

from aiclient2api.interfaces import IUpstreamResponse
from aiclient2api.upstream.line import Line
from aiclient2api.values import Headers

_PIECE = 64 * 1024
"""How much gzip is unpacked at a time: 1 kB of it may hold 1 MB."""


@implementer(IUpstreamResponse)
class Answer:
    """
    An answer whose head is here.

    :param response: Twisted's own, nothing delivered yet.
    :param gzipped: The body is to be unpacked.
    """

    def __init__(
        self, *, response: IResponse, gzipped: bool, line: Line, clock: IReactorTime
    ) -> None:
        self.status: int = response.code
        self.headers: Headers = tuple(
            (name.lower(), value)
            for name, values in response.headers.getAllRawHeaders()
            for value in values
            if not _is_undone(name.lower(), value, gzipped)
        )
        self._body = _Body(line, gzipped, clock)
        # Listening from the start, we know at any moment whether the connection is
        # still ours: once the body is over it may be carrying somebody else's.
        response.deliverBody(self._body)
        self._body.hold()

    def deliver(self, receiver: IProtocol) -> None:
        """Start the body."""
        self._body.deliver(receiver)

    def abort(self) -> None:
        """Close the connection now."""
        self._body.abort()


@implementer(IPushProducer)
class _Body(Protocol):
    """
    Stands between Twisted's response and the receiver.

    Twisted's own gzip decoder unpacks without limit, takes a cut stream for a whole
    one and may forget to tell its receiver of the end.
    """

    def __init__(self, line: Line, gzipped: bool, clock: IReactorTime) -> None:
        self._line: Line | None = line
        self._clock = clock
        self._gunzip = _Gunzip() if gzipped else None
        self._held: list[bytes] = []
        self._receiver: IProtocol | None = None
        self._paused = True
        self._passing_on = False
        self._dropped = False
        self._end: Failure | None = None
        self._told = False

    # Twisted calls these.

    def dataReceived(self, data: bytes) -> None:
        """Take bytes off the wire."""
        if self._dropped:
            return
        if self._gunzip is not None:
            self._gunzip.push(data)
            self._pass_on()
        elif self._receiver is not None:
            self._receiver.dataReceived(data)
        else:
            self._held.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body is over, and the connection no longer ours."""
        line, self._line = self._line, None
        assert line is not None
        if reason.check(PotentialDataLoss) and not _closed_cleanly(line):
            # Twisted says the same of a close and of a reset.
            reason = Failure(ResponseFailed([line.lost or reason]))
        if not reason.check(ResponseDone) or line.uploading:
            # An answer that came before our request was out leaves a connection on
            # which the next request would wait behind the rest of this one.
            line.abort()
        if self._end is None:
            self._end = reason
        self._pass_on()

    # The receiver calls these.

    def pauseProducing(self) -> None:
        """Stop reading."""
        self._paused = True
        if self._line is not None:
            self._wire().pauseProducing()

    def resumeProducing(self) -> None:
        """Read on, once what is left over has been delivered."""
        self._paused = False
        self._pass_on()
        if not self._paused and self._line is not None:
            self._wire().resumeProducing()

    def stopProducing(self) -> None:
        """Close the connection now."""
        self.abort()

    # The answer calls these.

    def hold(self) -> None:
        """Read nothing before there is a receiver."""
        if self._line is not None:
            self._wire().pauseProducing()

    def deliver(self, receiver: IProtocol) -> None:
        """Let the receiver have the body."""
        if self._receiver is not None:
            raise RuntimeError("The body of this answer has a receiver already.")
        self._receiver = receiver
        self._paused = False
        # A push producer, as the interface says, and no more of a transport than that.
        receiver.makeConnection(self)  # type: ignore[arg-type]
        held, self._held = self._held, []
        for data in held:
            if not self._dropped:
                receiver.dataReceived(data)
        if not self._paused:
            self.resumeProducing()
        else:
            self._pass_on()

    def abort(self) -> None:
        """Close the connection if it is ours; deliver nothing more in any case."""
        if self._dropped:
            return
        self._dropped = True
        self._held = []
        if self._line is not None:
            # The receiver hears of it through Twisted, and not inside this call.
            self._line.abort()
        elif self._receiver is not None and not self._told:
            self._clock.callLater(0, self._pass_on)

    # Ours.

    def _pass_on(self) -> None:
        receiver = self._receiver
        if receiver is None or self._passing_on:
            return
        if self._gunzip is not None:
            self._passing_on = True
            try:
                more = self._unpack(receiver, self._gunzip)
            finally:
                self._passing_on = False
            if more:
                return
        if self._end is not None and not self._told:
            self._told = True
            receiver.connectionLost(self._end)

    def _unpack(self, receiver: IProtocol, gunzip: _Gunzip) -> bool:
        """Deliver until nothing is left or the receiver pauses: True if some is left."""
        try:
            while not self._dropped:
                if self._paused:
                    return True
                piece = gunzip.pull()
                if not piece:
                    break
                receiver.dataReceived(piece)
            cut = self._end is not None and not gunzip.whole
        except zlib.error:
            cut = True
            self._end = Failure(ResponseFailed([Failure()]))
            self.abort()
        if cut and self._end is not None and self._end.check(ResponseDone, PotentialDataLoss):
            self._end = Failure(ResponseFailed([self._end]))
        return False

    def _wire(self) -> Any:
        return self.transport


class _Gunzip:
    """Unpacks a gzip stream, of one member or several, a bounded piece at a time."""

    def __init__(self) -> None:
        self._member: Any = None
        self._input = b""

    @property
    def whole(self) -> bool:
        """True at the end of a member, and before the first."""
        return self._member is None or bool(self._member.eof)

    def push(self, data: bytes) -> None:
        """Take packed bytes."""
        self._input += data

    def pull(self) -> bytes:
        """
        Return up to a piece of what is unpacked; nothing if there is no more yet.

        :raise zlib.error: if this is not gzip.
        """
        while True:
            if self.whole:
                # Padding with zeros is allowed between members and at the end.
                self._input = self._input.lstrip(b"\0") if self._member else self._input
                if not self._input:
                    return b""
                self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
            out: bytes = self._member.decompress(self._input, _PIECE)
            self._input = self._member.unconsumed_tail or self._member.unused_data
            if out or not self._input:
                return out


def _is_undone(name: bytes, value: bytes, gzipped: bool) -> bool:
    # Twisted's decoder leaves an empty line behind even where nothing was packed.
    return (name == b"content-encoding" and not value) or (name == b"content-length" and gzipped)


def _closed_cleanly(line: Line) -> bool:
    return line.lost is not None and line.lost.check(ConnectionDone) is not None
