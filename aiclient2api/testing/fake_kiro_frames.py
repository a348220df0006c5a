"""
Amazon's event stream written, and what Kiro says in it, for tests.

It is written from the format's own description and shares nothing with the decoder that it
is to try: two sources. It must never know who asked, nor what a request looks like.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

_STRING = 7
_JSON = "application/json"


def event_stream_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one message of an event stream: lengths, headers, payload, two checksums."""
    packed = b"".join(map(_header, headers, headers.values()))
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed + payload
    return body + struct.pack(">I", zlib.crc32(body))


def _header(name: str, value: str) -> bytes:
    label, text = name.encode(), value.encode()
    return struct.pack(">B", len(label)) + label + struct.pack(">BH", _STRING, len(text)) + text


def kiro_event(event: str, payload: object) -> bytes:
    """Return an event; with ``""`` for its type the payload alone has to tell what it is."""
    named = {":event-type": event} if event else {}
    headers = {**named, ":content-type": _JSON, ":message-type": "event"}
    return event_stream_message(headers, _payload(payload))


def kiro_exception(kind: str, message: str, reason: str | None = None) -> bytes:
    """Return an exception, such as ``ThrottlingException``, in the middle of an answer."""
    told = {"message": message} | ({"reason": reason} if reason else {})
    headers = {":exception-type": kind, ":content-type": _JSON, ":message-type": "exception"}
    return event_stream_message(headers, _payload(told))


def kiro_error(code: str, message: str) -> bytes:
    """Return an error that no model of the service describes: all of it is in the headers."""
    headers = {":error-code": code, ":error-message": message, ":message-type": "error"}
    return event_stream_message(headers, b"")


def kiro_text(piece: str) -> bytes:
    """Return a piece of the answer's text."""
    return kiro_event("assistantResponseEvent", {"content": piece})


def kiro_thought(piece: str, *, key: str = "text") -> bytes:
    """Return a piece of a thought, where the service tells thoughts apart itself."""
    return kiro_event("reasoningContentEvent", {key: piece})


def kiro_tool(
    id: str | None = None, *, name: str | None = None, input: Any = None, stop: bool | None = None
) -> bytes:
    """Return one event of a call; what is None is left out."""
    fields = {"input": input, "name": name, "stop": stop, "toolUseId": id}
    told = {key: value for key, value in fields.items() if value is not None}
    return kiro_event("toolUseEvent", told)


def kiro_call(id: str, name: str, pieces: Sequence[str]) -> list[bytes]:
    """Return a whole call, its arguments in *pieces*."""
    middle = [kiro_tool(id, name=name, input=piece, stop=False) for piece in pieces]
    return [kiro_tool(id, name=name), *middle, kiro_tool(id, name=name, stop=True)]


def kiro_metadata(
    usage: Mapping[str, int] | None = None,
    stop: str | None = None,
    *,
    event: str = "metadataEvent",
) -> bytes:
    """Return what is told of the whole answer; *event* is one of its two spellings."""
    told: dict[str, Any] = {"conversationId": "c-1"}
    if usage is not None:
        told["tokenUsage"] = dict(usage)
    if stop is not None:
        told["stopReason"] = stop
    return kiro_event(event, told)


def kiro_trifles() -> list[bytes]:
    """Return events that say nothing a client could use."""
    return [
        kiro_event("initial-response", {}),
        kiro_event("followupPromptEvent", {"followupPrompt": {"content": "And then?"}}),
        kiro_event("codeReferenceEvent", {"references": []}),
        kiro_event("supplementaryWebLinksEvent", {"supplementaryWebLinks": []}),
        kiro_event("meteringEvent", {"unit": "credit", "unitPlural": "credits", "usage": 0.06}),
        kiro_event("contextUsageEvent", {"contextUsagePercentage": 12.3}),
        kiro_event("intentsEvent", {"intents": {}}),
        kiro_event("anEventOfNextYear", {"content": "not an answer"}),
    ]


def _payload(told: object) -> bytes:
    return told if isinstance(told, bytes) else json.dumps(told, separators=(",", ":")).encode()
