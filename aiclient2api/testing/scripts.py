"""
The steps a scripted upstream can play, and ready-made scripts of them, for tests.

A script says what one request is answered with, down to the byte; it never knows
sockets. Import these from `aiclient2api.testing`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import attrs

from aiclient2api.values import Headers


@attrs.frozen
class Head:
    """Send a status line and header lines, as they are; nothing is added."""

    status: int
    headers: Headers = ()


@attrs.frozen
class Send:
    """Send bytes as they are."""

    data: bytes = attrs.field(repr=False)


@attrs.frozen
class Chunk:
    """Send bytes as one chunk of a chunked body."""

    data: bytes = attrs.field(repr=False)


@attrs.frozen
class EndChunks:
    """Send the last chunk: the clean end of a chunked body."""


@attrs.frozen
class Wait:
    """Do nothing for so many seconds of the reactor's time."""

    seconds: float


@attrs.frozen
class Hold:
    """Do nothing until `ScriptedUpstream.release`, or for ever."""


@attrs.frozen
class Close:
    """Close the connection in order (FIN); the rest of the script is not played."""


@attrs.frozen
class Reset:
    """Break the connection (RST); the rest of the script is not played."""


@attrs.frozen
class Flood:
    """
    Offer *total* bytes, *piece* by piece, no faster than the peer takes them.

    :ivar total: Bytes of payload, rounded up to whole pieces: no record is cut.
    :ivar piece: What is sent again and again.
    :ivar chunked: Send each piece as a chunk of a chunked body.
    """

    total: int
    piece: bytes = attrs.field(repr=False)
    chunked: bool = True


Step = Head | Send | Chunk | EndChunks | Wait | Hold | Close | Reset | Flood
Script = Sequence[Step]


def raw_reply(
    status: int, body: bytes, *, content_type: bytes = b"application/json", headers: Headers = ()
) -> Script:
    """Return a script that sends *body* whole, with its length, and keeps alive."""
    length = str(len(body)).encode()
    ours = ((b"content-type", content_type), (b"content-length", length))
    return (Head(status, (*ours, *headers)), Send(body))


def json_reply(status: int, obj: object, headers: Headers = ()) -> Script:
    """Return a script that sends *obj* as a JSON body and keeps alive."""
    return raw_reply(status, json.dumps(obj).encode(), headers=headers)


STREAM_HEAD = Head(
    200, ((b"content-type", b"text/event-stream"), (b"transfer-encoding", b"chunked"))
)
"""The head of a chunked event stream, for scripts that end badly."""


def sse_reply(frames: Sequence[bytes], gap: float = 0.0) -> Script:
    """
    Return a script that streams *frames*, a chunk each, ends well and keeps alive.

    :param gap: Seconds after each frame; at 0 several may arrive in one read.
    """
    steps: list[Step] = [STREAM_HEAD]
    for frame in frames:
        steps.append(Chunk(frame))
        if gap:
            steps.append(Wait(gap))
    return (*steps, EndChunks())
