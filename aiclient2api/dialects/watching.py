"""
The watcher all dialects share: it cuts bytes at record boundaries.

A dialect's `Reader` says what a record means; this decides how the bytes are framed
(by the first of them, for upstreams mislabel what they send), which of them may be
shown, and when nothing more may be. It must never know a dialect, and never changes
a byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Protocol, TypeVar

import msgspec
from zope.interface import implementer

from aiclient2api.conversation.pieces import Pieces, pieces_of
from aiclient2api.errors import Fault, GatewayError, UpstreamError
from aiclient2api.framing.json_array import JSONArrayFramer
from aiclient2api.framing.json_text import BOM, loose, masked, write
from aiclient2api.framing.sse import Record, SSEFramer
from aiclient2api.interfaces import IWatcher, IWireRequest
from aiclient2api.values import Usage

T = TypeVar("T")

_BLANK = b" \t\r\n"


class Reader(Protocol):
    """What a dialect knows of one answer."""

    @property
    def started(self) -> bool:
        """True once the first real event was read; for a whole answer, all of it."""

    @property
    def complete(self) -> bool:
        """True once the semantic end was read."""

    @property
    def closed_early(self) -> bool:
        """True once it said that nothing follows, with the semantic end still unread."""

    failure: UpstreamError | None
    """The error that was told of."""

    @property
    def usage(self) -> Usage | None:
        """The tokens told so far."""

    @property
    def texts(self) -> list[str]:
        """The pieces of the answer's text so far, if it was asked for."""

    @property
    def pieces(self) -> Pieces:
        """How much of a streamed answer was read."""

    @property
    def reply_id(self) -> str | None:
        """The answer's id, once it was read, if the upstream keeps the answer under it."""

    @property
    def kept_ids(self) -> Sequence[str]:
        """Ids of what else the upstream keeps of it, once they were read."""

    def record(self, *, event: bytes, data: bytes) -> bool:
        """Read one record of a stream; say whether it is a whole one."""

    def whole(self, *, body: bytes) -> bool:
        """Read an answer that is no stream; say whether it is a whole one."""

    def error_frame(self, error: GatewayError) -> bytes:
        """Return the server-sent event that tells of *error*."""


class Branches:
    """Which of the alternatives an answer holds have said why they ended."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._ended: set[int] = set()

    def saw(self, index: Any, *, ended: bool) -> None:
        """Note one more piece of the alternative *index*; what is no number is the first."""
        number = index if isinstance(index, int) else 0
        if ended:
            self._ended.add(number)
            self._open.discard(number)
        elif number not in self._ended:
            self._open.add(number)

    @property
    def all_ended(self) -> bool:
        """True once there was one, and none is left open."""
        return bool(self._ended) and not self._open


@implementer(IWatcher)
class Watcher:
    """
    A passive reader of one answer, of any dialect and framing.

    :param arrays: True if a stream of this dialect may come as a JSON array.
    :ivar framing: What was asked for, until the first byte tells what it is.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        request: IWireRequest,
        content_type: bytes,
        limit: int,
        arrays: bool = False,
    ) -> None:
        self.events = 0
        self.framing = _framing(request.framing, content_type)
        self._streaming = request.framing != "whole"
        self._arrays = arrays
        self._reader = reader
        self._limit = limit
        self._sse = SSEFramer(limit=limit)
        self._array = JSONArrayFramer(limit=limit)
        self._body = bytearray()
        self._opened = False
        self._ended = False

    @property
    def started(self) -> bool:
        """True once the first real event was seen; for a whole answer, at its end."""
        return self._reader.started

    @property
    def complete(self) -> bool:
        """True once the semantic end was seen, and an array was closed."""
        return (
            self._reader.complete
            and self._reader.failure is None
            and (self.framing != "json_array" or self._array.closed)
        )

    @property
    def failure(self) -> UpstreamError | None:
        """The error an error record told of."""
        return self._reader.failure

    @property
    def usage(self) -> Usage | None:
        """The tokens told so far."""
        return self._reader.usage

    @property
    def text(self) -> str:
        """The answer's text so far, if it was asked for."""
        return "".join(self._reader.texts)

    @property
    def pieces(self) -> Pieces:
        """How much of the answer was seen."""
        pieces = self._reader.pieces
        return pieces if pieces.count or not self._body else pieces_of(self._body)

    @property
    def reply_id(self) -> str | None:
        """The answer's id, where a later request may go on from it by name."""
        return self._reader.reply_id

    @property
    def kept_ids(self) -> Sequence[str]:
        """Ids of what else a later request may name."""
        return self._reader.kept_ids

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return those that complete whole records."""
        if self._reader.failure is not None or self._ended:
            return b""
        if not self._opened:
            data = self._open(data)
            if not data:
                return b""
        if self.framing == "sse":
            shown = 0
            for record in self._sse.feed(data):
                if not record.comment:
                    self.events += 1
                    whole = self._reader.record(event=record.event, data=record.data)
                    if self._reader.failure is not None:
                        return self._sse.whole[: record.end]
                    if not (whole or self._reader.started) and _is_garbled(record.data):
                        # Nothing of the answer was shown yet, so that another may be had.
                        error = self._reader.failure = garbled()
                        return self._sse.whole[:shown] + self._reader.error_frame(error)
                    if self._reader.closed_early:
                        # Clients stop reading here, and would take the answer for whole.
                        self._ended = True
                        return self._sse.whole[:shown]
                shown = record.end
            return self._sse.whole
        if self.framing == "json_array":
            for element in self._array.feed(data):
                self.events += 1
                self._reader.record(event=b"", data=element.data)
                if self._reader.failure is not None:
                    return self._array.whole[: element.end]
            return self._array.whole
        self._hold(data)
        return b""

    def end(self) -> bytes:
        """Note the clean end of the body; return the last bytes if they are whole."""
        if self._reader.failure is not None or self._ended:
            return b""
        self._ended = True
        if self.framing == "sse":
            return self._last(self._sse.finish())
        body = bytes(self._body)
        if self.framing == "json_array" or not self._opened or not self._reader.whole(body=body):
            return b""
        self.events += 1
        return body

    def error_frame(self, error: GatewayError) -> bytes | None:
        """Return the record that tells of *error*, None where the framing has none."""
        return self._reader.error_frame(error) if self.framing == "sse" else None

    def _open(self, data: bytes) -> bytes:
        """Hold blanks; from the first byte that is none, return all that was held."""
        self._hold(data)
        if not data.strip(_BLANK):
            return b""
        held = bytes(self._body)
        text = held.removeprefix(BOM).lstrip(_BLANK)
        if not text or BOM.startswith(text):
            return b""
        self._opened = True
        self._body.clear()
        self.framing = self._told(text[:1])
        if text[:1] == b"<" or (self.framing == "whole" and text[:1] not in b"{["):
            self._reader.failure = _no_answer()
            return b""
        return held

    def _told(self, first: bytes) -> str:
        """Return the framing of what begins with *first*."""
        if first == b"[" and self._streaming and self._arrays:
            return "json_array"
        if first in b"{[":
            return "whole"
        return "sse" if self._streaming else self.framing

    def _hold(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._limit:
            raise UpstreamError(
                f"The upstream's answer is over {self._limit} bytes and was given up."
                " Ask for a stream, or for a smaller answer.",
                fault=Fault.SERVER,
                status=502,
                code="record_too_long",
            )

    def _last(self, record: Record | None) -> bytes:
        if record is None:
            return b""
        if not record.comment:
            whole = self._reader.record(event=record.event, data=record.data)
            if not whole or self._reader.closed_early:
                return b""
            self.events += 1
        elif not self._sse.rest.startswith(b":"):
            return b""
        return self._sse.rest


def decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T | None:
    """
    Decode what a dialect needs of a record, None if it is no such thing.

    Upstreams send lone surrogates, bytes that are no UTF-8, NaN and control characters:
    none of them is a reason to overlook a record.
    """
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        text = data.removeprefix(BOM).decode("utf-8", "replace")
        return decoder.decode(masked(text.encode()))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return decoder.decode(write(loose(data)))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def present(raw: msgspec.Raw | None) -> bool:
    """Say whether a field that was left undecoded is there and is not null."""
    return raw is not None and bytes(raw) not in (b"", b"null")


def says(raw: msgspec.Raw) -> bool:
    """Say whether a field that was left undecoded says anything: ``{}`` and ``""`` do not."""
    return present(raw) and bool(value(raw))


def value(raw: msgspec.Raw) -> Any:
    """Decode a field that was left undecoded; None if it is absent."""
    data = bytes(raw)
    return decode(_ANY, data) if data else None


def count(*numbers: Any) -> int | None:
    """Return the first of *numbers* that is a token count, or None. No count has 64 bits."""
    for number in numbers:
        if isinstance(number, float) and isfinite(number):
            number = int(number)
        if isinstance(number, int) and not isinstance(number, bool) and abs(number) < 1 << 63:
            return number
    return None


def total(*numbers: int | None) -> int | None:
    """Return the sum of the counts that were told, None if none was."""
    told = [number for number in numbers if number is not None]
    return count(sum(told)) if told else None


def _framing(asked: str, content_type: bytes) -> str:
    media = content_type.partition(b";")[0].strip().lower()
    return "sse" if asked == "whole" and media == b"text/event-stream" else asked


def _is_garbled(data: bytes) -> bool:
    """Say whether a record is no JSON at all, not even loosely."""
    text = data.strip()
    return text not in (b"", b"null") and decode(_ANY, text) is None


def garbled() -> UpstreamError:
    """Return the error for a record that nobody can read."""
    return UpstreamError(
        "The upstream sent a record that is no JSON in the middle of its answer; try again.",
        fault=Fault.SERVER,
        status=502,
        code="garbled_record",
    )


def _no_answer() -> UpstreamError:
    return UpstreamError(
        "The upstream answered with a page of HTML (or other text) instead of an API"
        " answer: see whether its base URL is right.",
        fault=Fault.SERVER,
        status=502,
        code="no_answer",
    )


_ANY = msgspec.json.Decoder()
