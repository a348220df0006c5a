"""
OpenAI Responses: what an answer says of itself while it is relayed verbatim.

Begun, ended, failed, so many tokens. It must never change a byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from aiclient2api.conversation.pieces import Pieces
from aiclient2api.dialects import openai_shapes
from aiclient2api.dialects.faults import told_error
from aiclient2api.dialects.watching import count, decode, present, says, value
from aiclient2api.dialects.wire_request import (
    entry,
    listed,
    text_in,
)
from aiclient2api.errors import GatewayError, UpstreamError
from aiclient2api.framing.json_text import write
from aiclient2api.values import Usage

_MOST_IDS = 1000
_BARE_STARTS = ("response.created", "response.in_progress", "response.queued", "keepalive", "ping")
_ENDS = ("response.completed", "response.incomplete")


class _Event(msgspec.Struct):
    type: Any = None
    sequence_number: Any = None
    response: msgspec.Raw = msgspec.Raw()
    delta: Any = None
    error: msgspec.Raw = msgspec.Raw()
    code: Any = None
    message: Any = None


class Response(msgspec.Struct):
    """What is looked at in a response."""

    id: Any = None
    created_at: Any = None
    model: Any = None
    object: Any = None
    status: Any = None
    incomplete_details: Any = None
    output: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class _Item(msgspec.Struct):
    id: Any = None
    container_id: Any = None


_EVENT = msgspec.json.Decoder(_Event)
_ITEMS = msgspec.json.Decoder(list[_Item])
RESPONSE = msgspec.json.Decoder(Response)


class ResponsesReader:
    """
    What is known of one answer; a stream of events or one response.

    :param kept: True if the upstream was asked to keep the response.
    """

    def __init__(self, *, model: str, want_text: bool, kept: bool) -> None:
        self.started = False
        self.complete = False
        self.closed_early = False
        self.failure: UpstreamError | None = None
        self.usage: Usage | None = None
        self.texts: list[str] = []
        self.pieces = Pieces()
        self.reply_id: str | None = None
        self.kept_ids: tuple[str, ...] = ()
        self._kept = kept
        self._model = model
        self._want_text = want_text
        self._sequence = -1
        self._response: Response | None = None

    def record(self, *, event: bytes, data: bytes) -> bool:
        """Read one event."""
        if data.strip() == b"[DONE]":
            return True
        told = decode(_EVENT, data)
        if told is None:
            if event == b"error":
                self.failure = told_error(None, ())
            return event == b"error"
        if isinstance(told.sequence_number, int):
            self._sequence = told.sequence_number
        kind = told.type if isinstance(told.type, str) else event.decode("utf-8", "replace")
        failed = kind == "response.failed" or kind == "error" or event == b"error"
        if failed or (not kind and says(told.error)):
            self.failure = failure_of(told.error, told.response, told.message, told.code)
            self.usage = usage_of(decode(RESPONSE, bytes(told.response)))
        elif kind in _BARE_STARTS:
            self._response = decode(RESPONSE, bytes(told.response)) or self._response
            self._identify(self._response)
        elif kind:
            self.started = True
            if kind in _ENDS:
                self.complete = True
                response = decode(RESPONSE, bytes(told.response))
                self.usage = usage_of(response)
                self._identify(response)
                self._name_items(response)
            elif isinstance(told.delta, str):
                self.pieces.add(told.delta, len(told.delta))
                if kind == "response.output_text.delta" and self._want_text:
                    self.texts.append(told.delta)
        return True

    def whole(self, *, body: bytes) -> bool:
        """
        Read a response.

        One whose ``status`` is ``failed`` is a well-formed answer, and is passed on
        as such; only a bare error object is a failure.
        """
        answer = decode(RESPONSE, body)
        if answer is None:
            return False
        self.complete = True
        bare = not present(answer.output) and answer.object != "response"
        if bare and says(answer.error):
            self.failure = told_by(value(answer.error), stream=False)
            return True
        self.started = True
        self.usage = usage_of(answer)
        if not bare:
            self._identify(answer)
            self._name_items(answer)
        if self._want_text:
            items = listed(value(answer.output))
            self.texts.append(text_in([entry(item, "content") for item in items]))
        return True

    def _identify(self, response: Response | None) -> None:
        if response is not None and self._kept and self.reply_id is None:
            told = response.id
            self.reply_id = told if isinstance(told, str) and told else None

    def _name_items(self, response: Response | None) -> None:
        """Note the ids of what the response is made of: a request may name them, too."""
        if response is None or not self._kept:
            return
        items = decode(_ITEMS, bytes(response.output)) or ()
        ids = (each for item in items for each in (item.id, item.container_id))
        self.kept_ids = tuple(id for id in ids if isinstance(id, str) and id)[:_MOST_IDS]

    def error_frame(self, error: GatewayError) -> bytes:
        """
        Return the ``error`` event, and ``response.failed`` if a response had begun.

        Agents look at the second only, simple readers at the first only.
        """
        shape = openai_shapes.error_object(error)
        code = shape["code"] or shape["type"]
        number = self._sequence + 1
        told = {"code": code, "message": shape["message"], "param": shape["param"]}
        frame = _frame("error", {**told, "sequence_number": number})
        if self._response is None:
            return frame
        response = {
            "id": self._response.id,
            "object": "response",
            "created_at": self._response.created_at,
            "status": "failed",
            "error": {"code": code, "message": shape["message"]},
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": self._response.model or self._model,
            "output": [],
            "parallel_tool_calls": True,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "usage": None,
        }
        failed = {"response": response, "sequence_number": number + 1}
        return frame + _frame("response.failed", failed)


def _frame(kind: str, fields: Mapping[str, Any]) -> bytes:
    data = write({"type": kind, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def failure_of(error: msgspec.Raw, response: msgspec.Raw, message: Any, code: Any) -> UpstreamError:
    """
    Return the error of an event that tells of one.

    :param error: What stands under ``error``, where some put it.
    :param response: The response that failed, if it is told.
    :param message: What stands in the event itself, with *code*.
    """
    failed = decode(RESPONSE, bytes(response))
    for raw in (error, failed.error if failed is not None else None):
        if raw is not None and says(raw):
            return told_by(value(raw), stream=True)
    return told_error(message, (code,))


def told_by(error: Any, *, stream: bool) -> UpstreamError:
    """Return the error that an error object, or a bare message, tells of."""
    if isinstance(error, str):
        return told_error(error, (), stream=stream)
    words = [entry(error, "code"), entry(error, "type")]
    return told_error(entry(error, "message"), words, stream=stream)


def usage_of(response: Response | None) -> Usage | None:
    """Return the tokens that *response* tells of."""
    usage = value(response.usage) if response is not None else None
    if not isinstance(usage, dict):
        return None
    read, written = (usage.get(f"{side}_tokens_details") for side in ("input", "output"))
    return Usage(
        input=count(usage.get("input_tokens")),
        output=count(usage.get("output_tokens")),
        cached=count(entry(read, "cached_tokens")),
        cache_write=count(entry(read, "cache_write_tokens")),
        reasoning=count(entry(written, "reasoning_tokens")),
    )
