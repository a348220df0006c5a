"""
Gemini answers taken out of the envelope that Code Assist puts around them.

Each response is passed on as the bytes it was sent in, with everything that stands in it. It
must never know what a response means: an error record goes on to who does.
"""

from __future__ import annotations

import re

import msgspec
from zope.interface import implementer

from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.framing.json_array import JSONArrayFramer
from aiclient2api.framing.json_text import BOM, JSONText, loose, masked, write
from aiclient2api.framing.sse import SSEFramer
from aiclient2api.interfaces import IEnvelope
from aiclient2api.values import HELD_LIMIT

_BLANK = b" \t\r\n"
_LINE_END = re.compile(rb"\r\n|\r|\n")
# What has one of these is a Gemini response that came without an envelope.
_OPEN = ("candidates", "promptFeedback", "usageMetadata", "totalTokens")


class _Wrapper(msgspec.Struct):
    response: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    candidates: msgspec.Raw = msgspec.Raw()
    promptFeedback: msgspec.Raw = msgspec.Raw()
    usageMetadata: msgspec.Raw = msgspec.Raw()
    totalTokens: msgspec.Raw = msgspec.Raw()


_WRAPPER = msgspec.json.Decoder(_Wrapper)
_RAW = msgspec.json.Decoder(msgspec.Raw)


def unwrapped(record: bytes) -> bytes | None:
    """
    Return the Gemini response in *record*, or the error it tells of; byte for byte.

    :return: None if it says nothing to a client, such as how many credits are left.
    :raise ValueError: if it is no JSON object.
    """
    record = record.removeprefix(BOM).strip(_BLANK)
    if record in (b"", b"[DONE]", b"null"):
        return None
    try:
        wrapper = _WRAPPER.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _searched(record)
    found = {name: bytes(getattr(wrapper, name)) for name in _Wrapper.__struct_fields__}
    return _chosen(found, record)


def _chosen(members: dict[str, bytes], record: bytes) -> bytes | None:
    told = {name for name, value in members.items() if value not in (b"", b"null")}
    if "error" in told:
        return record
    if "response" in told:
        return members["response"]
    return record if not told.isdisjoint(_OPEN) else None


def _searched(record: bytes) -> bytes | None:
    """Do the same to what only a patient reader takes, such as half of a surrogate pair."""
    readable = masked(record)
    try:
        _RAW.decode(readable)
        text = JSONText(record, readable)
        if record[:1] == b"{":
            members = {each.key: record[each.start : each.end] for each in text.members(0)}
            return _chosen(members, record)
        # A stream's error may come in an array of one.
        if record[:1] == b"[" and len(places := text.elements(0)) == 1:
            start, end = places[0]
            return unwrapped(record[start:end])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidRequest):
        try:
            told = loose(record)
        except RecursionError:
            told = None
        if isinstance(told, dict):
            return _chosen({key: write(value) for key, value in told.items()}, write(told))
    raise ValueError("no JSON object")


@implementer(IEnvelope)
class Opening:
    """
    One answer, opened while it passes.

    How it comes is told by its first byte: as server-sent events, as it is asked for; as a
    JSON array; or as one document, which is held until it is whole.

    :param framing: How the client wants it: ``sse``, ``json_array`` or ``whole``.
    """

    marks_end = True

    def __init__(self, *, framing: str, limit: int = HELD_LIMIT) -> None:
        self.content_type = b"text/event-stream" if framing == "sse" else b"application/json"
        self._framing = framing
        self._limit = limit
        self._comes = ""
        self._held = bytearray()
        self._sse = SSEFramer(limit=limit)
        self._array = JSONArrayFramer(limit=limit)
        self._begun = False

    def open(self, data: bytes) -> bytes:
        """
        Take the upstream's next bytes; return those of the dialect.

        :raise UpstreamError: if a record is damaged, or too long.
        """
        if not self._comes:
            data = self._began(data)
        if self._comes in ("", "document"):
            self._hold(data)
            return b""
        if self._comes == "foreign":
            return data
        if self._comes == "sse":
            records = [each.data for each in self._sse.feed(data) if not each.comment]
        else:
            records = [each.data for each in self._array.feed(data)]
        return b"".join(map(self._record, records))

    def end(self) -> bytes:
        """Note the clean end of the body; return what is left, if that is whole."""
        last = b""
        if self._comes == "sse":
            record = self._sse.finish()
            last = b"" if record is None or record.comment else record.data
        elif self._comes == "document":
            last = bytes(self._held)
        try:
            shown = self._record(last) if last else b""
        except UpstreamError:
            shown = b""
        closed = self._comes != "array" or self._array.closed
        if self._framing == "json_array" and self._begun and closed:
            shown += b"]"
        return shown

    def _began(self, data: bytes) -> bytes:
        """Look at the first byte that says something; return all there is with it."""
        held = bytes(self._held) + data
        text = held.removeprefix(BOM).lstrip(_BLANK)
        if not text or BOM.startswith(text):
            return data
        self._held.clear()
        first = text[:1]
        if first == b"{" or (first == b"[" and self._framing == "whole"):
            self._comes = "document"
        elif first == b"[":
            self._comes = "array"
            return text
        elif first == b"<" or self._framing == "whole":
            # No answer at all: the dialect's own reader says so.
            self._comes = "foreign"
        else:
            self._comes = "sse"
        return held

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > self._limit:
            raise UpstreamError(
                f"The upstream's answer is over {self._limit} bytes and was given up."
                " Ask for a stream, or for a smaller answer.",
                fault=Fault.SERVER,
                status=502,
                code="record_too_long",
            )

    def _record(self, record: bytes) -> bytes:
        try:
            inner = unwrapped(record)
        except ValueError:
            raise UpstreamError(
                "The upstream sent a record that is no JSON in the middle of its answer; try"
                " again.",
                fault=Fault.SERVER,
                status=502,
                code="garbled_record",
            ) from None
        if inner is None:
            return b""
        if self._framing == "whole":
            return inner
        if self._framing == "sse":
            lines = [b"data: " + line for line in _LINE_END.split(inner)]
            return b"\r\n".join(lines) + b"\r\n\r\n"
        lead = b",\r\n" if self._begun else b"["
        self._begun = True
        return lead + inner
