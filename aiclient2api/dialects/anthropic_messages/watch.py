"""
Anthropic Messages: what an answer says of itself while it is relayed verbatim.

Begun, ended, failed, so many tokens. It must never change a byte.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aiclient2api.conversation.pieces import Pieces
from aiclient2api.dialects.anthropic_messages.errors import render_error
from aiclient2api.dialects.anthropic_messages.tokens import Tally
from aiclient2api.dialects.faults import told_error
from aiclient2api.dialects.watching import decode, present, says, value
from aiclient2api.dialects.wire_request import (
    entry,
    listed,
    text_in,
)
from aiclient2api.errors import GatewayError, UpstreamError
from aiclient2api.values import Usage

_BARE_STARTS = ("message_start", "ping")


class _Delta(msgspec.Struct):
    type: Any = None
    text: Any = None
    thinking: Any = None
    partial_json: Any = None
    container: Any = None
    stop_reason: Any = None


class _Event(msgspec.Struct):
    type: Any = None
    message: Any = None
    delta: _Delta | None = None
    usage: Any = None
    error: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct):
    type: Any = None
    content: msgspec.Raw = msgspec.Raw()
    container: Any = None
    usage: Any = None
    error: msgspec.Raw = msgspec.Raw()


_EVENT = msgspec.json.Decoder(_Event)
_ANSWER = msgspec.json.Decoder(_Answer)


class MessagesReader:
    """What is known of one answer; a stream of events or one message."""

    def __init__(self, *, action: str, want_text: bool) -> None:
        self.started = False
        self.complete = False
        self.closed_early = False
        self.failure: UpstreamError | None = None
        self.texts: list[str] = []
        self.pieces = Pieces()
        self.reply_id: str | None = None
        self.kept_ids: tuple[str, ...] = ()
        self._action = action
        self._want_text = want_text
        self._tally = Tally()

    @property
    def usage(self) -> Usage | None:
        """The tokens told so far."""
        return self._tally.usage

    def record(self, *, event: bytes, data: bytes) -> bool:
        """Read one event."""
        told = decode(_EVENT, data)
        if told is None:
            if event == b"error":
                self.failure = told_error(None, ())
            return event == b"error"
        kind = told.type if isinstance(told.type, str) else event.decode("utf-8", "replace")
        if kind == "error" or event == b"error" or (not kind and says(told.error)):
            self.failure = upstream_failure(told.error, told.message, stream=True)
            return True
        self._tally.take(entry(told.message, "usage"))
        self._keep(entry(told.message, "container"))
        self._tally.take(told.usage)
        if kind == "message_stop":
            self.closed_early = not self.complete
        if kind and kind not in _BARE_STARTS:
            self.started = True
        delta = told.delta
        if delta is not None:
            if kind == "message_delta":
                self._keep(delta.container)
                self.complete = self.complete or bool(delta.stop_reason)
                if isinstance(told.usage, dict):
                    self.pieces.told()
                return True
            said = delta.text or delta.thinking or delta.partial_json
            if isinstance(said, str):
                self.pieces.add(said, len(said))
            if self._want_text and delta.type == "text_delta":
                self.texts.append(text_in(delta.text))
        return True

    def whole(self, *, body: bytes) -> bool:
        """Read a message, or a count of tokens."""
        answer = decode(_ANSWER, body)
        if answer is None:
            return False
        self.complete = True
        told = says(answer.error) or answer.type == "error"
        if told and not present(answer.content):
            self.failure = upstream_failure(answer.error, None, stream=False)
            return True
        self.started = True
        self._keep(answer.container)
        if self._action == "generate":
            self._tally.take(answer.usage)
        if self._want_text:
            blocks = listed(value(answer.content))
            self.texts.append(text_in([entry(block, "text") for block in blocks]))
        return True

    def _keep(self, container: Any) -> None:
        id = entry(container, "id")
        if isinstance(id, str) and id:
            self.kept_ids = (id,)

    def error_frame(self, error: GatewayError) -> bytes:
        """Return the ``error`` event."""
        return b"event: error\ndata: " + render_error(error)[1] + b"\n\n"


def upstream_failure(raw: msgspec.Raw, message: object, *, stream: bool) -> UpstreamError:
    """
    Return the error that an upstream told of.

    :param raw: What stands under ``error``, undecoded; empty if nothing does.
    :param message: What stands under ``message``, should that be missing.
    """
    error = value(raw) if present(raw) else None
    if isinstance(error, dict):
        words = [error.get("type"), error.get("code")]
        return told_error(error.get("message"), words, stream=stream)
    return told_error(error if isinstance(error, str) else message, (), stream=stream)
