"""
How the sandbox's answer goes on the wire: the bytes, their pace, and what is spoilt.

Pure: time, pausing and breaking connections are the business of `_sandbox_wire`, which
plays the script; what is said is decided in `_sandbox_answer`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs

from aiclient2api.providers._sandbox_answer import (
    REFUSALS,
    Answer,
    Refusal,
    Refused,
    answer,
    checked,
)
from aiclient2api.values import Headers

CREATED = 1_700_000_000
"""The moment every answer of the sandbox was made, in Unix seconds."""

PACE = 0.02
"""Seconds between two chunks, unless the model has a pace of its own."""

_PACES = {"sandbox-slow": 1.0, "sandbox-fast": 0.0}

Ending = Literal["done", "reset", "silence"]
"""How a body ends: cleanly, with the connection lost, or not at all."""

_FLAKY = Refusal(
    500, "server_error", None, "The sandbox fails on every odd attempt, as it was asked to."
)
_BROKEN = Refusal(500, "server_error", None, "The sandbox was asked to fail in mid-stream.")
_BROKEN_FIRST = Refusal(
    500, "server_error", None, "The sandbox was asked to fail with its first event."
)


@attrs.frozen
class Script:
    """
    One answer, ready to be played.

    :ivar pieces: The body in the chunks in which it is sent.
    :ivar pace: Seconds before each chunk (of a stream) or before the head (of a whole).
    :ivar mute: True if not even the headers are ever sent.
    """

    status: int
    headers: Headers
    pieces: tuple[bytes, ...]
    pace: float = 0.0
    ending: Ending = "done"
    mute: bool = False


def script(body: bytes, *, odd_attempt: bool) -> Script:
    """
    Write the answer to one request body.

    :param odd_attempt: Whether ``sandbox-flaky`` is to fail this time.
    """
    digest = hashlib.sha256(body).hexdigest()
    try:
        return _script(body, digest, odd_attempt)
    except Refused as refused:
        return _refused(refused.refusal, digest)


def _script(body: bytes, digest: str, odd_attempt: bool) -> Script:
    request = checked(body)
    model = request["model"]
    if model in REFUSALS:
        raise Refused(REFUSALS[model])
    if model == "sandbox-flaky" and odd_attempt:
        raise Refused(_FLAKY)
    said = answer(request, digest)
    if request.get("stream") is True:
        kind = b"text/event-stream; charset=utf-8"
        options = request.get("stream_options")
        counted = isinstance(options, dict) and options.get("include_usage") is True
        pieces, ending = _stream(said, counted)
    else:
        kind = b"application/json"
        pieces, ending = _spoilt(model, _dumped(_whole(said)))
    return Script(
        200,
        _headers(kind, digest),
        pieces,
        pace=_PACES.get(model, PACE),
        ending=ending,
        mute=model == "sandbox-hang",
    )


# --- framing the answer -----------------------------------------------------


def _stream(said: Answer, counted: bool) -> tuple[tuple[bytes, ...], Ending]:
    head = {
        "id": said.id,
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": said.model,
    }
    rest = {"usage": None} if counted else {}

    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _record({**head, "choices": [choice], **rest})

    begun = chunk({"role": "assistant", "content": ""})
    middle = tuple(map(chunk, _deltas(said)))
    half = (begun, *middle[: max(1, len(middle) // 2)])
    spoilt: dict[str, tuple[tuple[bytes, ...], Ending]] = {
        "sandbox-cut": (half, "done"),
        "sandbox-reset": (half, "reset"),
        "sandbox-stall": ((begun, *middle[:1]), "silence"),
        "sandbox-error": ((*half, _record(_error(_BROKEN))), "done"),
        "sandbox-first-error": ((_record(_error(_BROKEN_FIRST)),), "done"),
        "sandbox-empty": ((), "done"),
    }
    if said.model in spoilt:
        return spoilt[said.model]
    counts = (_record({**head, "choices": [], "usage": said.usage()}),) if counted else ()
    return (begun, *middle, chunk({}, said.finish), *counts, b"data: [DONE]\n\n"), "done"


def _deltas(said: Answer) -> Iterator[dict[str, Any]]:
    for thought in said.thoughts:
        yield {"reasoning_content": thought}
    for word in said.words:
        yield {"content": word}
    for index, call in enumerate(said.calls):
        function = {"name": call.name, "arguments": ""}
        yield {
            "tool_calls": [
                {"index": index, "id": call.id, "type": "function", "function": function}
            ]
        }
        for piece in re.findall(r".{1,16}", call.arguments, re.S):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _whole(said: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if said.calls else "".join(said.words),
        "refusal": None,
    }
    if said.thoughts:
        message["reasoning_content"] = "".join(said.thoughts)
    if said.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in said.calls
        ]
    return {
        "id": said.id,
        "object": "chat.completion",
        "created": CREATED,
        "model": said.model,
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": said.finish}
        ],
        "usage": said.usage(),
    }


def _spoilt(model: str, body: bytes) -> tuple[tuple[bytes, ...], Ending]:
    half = body[: len(body) // 2]
    if model == "sandbox-cut":
        return (half,), "done"
    if model == "sandbox-reset":
        return (half,), "reset"
    if model == "sandbox-stall":
        return (half,), "silence"
    if model in ("sandbox-error", "sandbox-first-error"):
        return (_dumped(_error(_BROKEN_FIRST)),), "done"
    if model == "sandbox-empty":
        return (), "done"
    return (body,), "done"


def _refused(refusal: Refusal, digest: str) -> Script:
    headers = _headers(b"application/json", digest) + refusal.headers
    return Script(refusal.status, headers, (_dumped(_error(refusal)),))


def _error(refusal: Refusal) -> dict[str, Any]:
    return {
        "error": {
            "message": refusal.message.encode("utf-8", "replace").decode("utf-8"),
            "type": refusal.type,
            "param": refusal.param,
            "code": refusal.code,
        }
    }


def _headers(kind: bytes, digest: str) -> Headers:
    return ((b"content-type", kind), (b"x-request-id", f"sandbox-{digest[:16]}".encode()))


def _record(document: object) -> bytes:
    return b"data: " + _dumped(document) + b"\n\n"


def _dumped(document: object) -> bytes:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
