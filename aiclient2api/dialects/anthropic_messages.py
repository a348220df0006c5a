"""
Anthropic Messages: what its requests, its stream and its errors look like.

https://docs.anthropic.com/en/api/messages. It must never know which model or which
vendor answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
from zope.interface import implementer

from aiclient2api.dialects import system_prompt
from aiclient2api.dialects.faults import told_error
from aiclient2api.dialects.watching import Watcher, count, decode, present, says, total, value
from aiclient2api.dialects.wire_request import (
    Fields,
    amended,
    chosen,
    decoded,
    entry,
    listed,
    objects,
    text_in,
)
from aiclient2api.errors import GatewayError, UpstreamError
from aiclient2api.framing.json_text import Edit, check, read, write
from aiclient2api.interfaces import IAnthropicMessagesRequest, IDialect, IWatcher, IWireRequest
from aiclient2api.values import HELD_LIMIT, Endpoint, Headers, ModelInfo, Route, SystemEdit, Usage

NAME = "anthropic-messages"
_PASSED = (b"anthropic-version", b"anthropic-beta")
_BARE_STARTS = ("message_start", "ping")
_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@implementer(IAnthropicMessagesRequest)
@attrs.frozen
class MessagesRequest:
    """One Messages request, or a question how many tokens it would be."""

    body: Fields = attrs.field(repr=False)
    model: str
    streaming: bool
    action: str = "generate"
    headers: Headers = attrs.field(default=(), repr=False)
    query: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    dialect: str = attrs.field(default=NAME, init=False)

    @property
    def framing(self) -> str:
        """How the answer is framed: ``sse`` for a stream, else ``whole``."""
        return "sse" if self.streaming else "whole"

    @property
    def raw(self) -> bytes:
        """The body as it stands."""
        return self.body.text.raw

    def amended(
        self,
        *,
        model: str | None = None,
        system: SystemEdit | None = None,
        streaming: bool | None = None,
    ) -> MessagesRequest:
        """Return a copy with these changed; every other byte stays as it was."""
        edits: list[Edit] = []
        if system is not None:
            edits += self._system_edits(system)
            edits += self._message_edits(system)
        return amended(self, model=model, streaming=streaming, edits=edits)

    def to_bytes(self) -> bytes:
        """Return the body to send."""
        return self.raw

    def system_text(self) -> str:
        """Return the text of the system prompt, and of system messages."""
        body = decoded(self.body.text)
        messages = [
            entry(message, "content")
            for message in listed(body.get("messages"))
            if entry(message, "role") == "system"
        ]
        return text_in([body.get("system"), *messages])

    def prompt_text(self) -> str:
        """Return the text of the last message; what a tool gave back counts."""
        messages = listed(decoded(self.body.text).get("messages"))
        return text_in(entry(messages[-1], "content")) if messages else ""

    def _system_edits(self, edit: SystemEdit) -> list[Edit]:
        member = self.body.check("system", "string", "array", "null", "absent")
        if member is None:
            return [self.body.put("system", system_prompt.added(edit))] if edit.text else []
        text, place = self.body.text, (member.start, member.end)
        if not edit.text:
            return system_prompt.replaced(text, place, edit, where="system")
        string = system_prompt.added(edit)
        if edit.mode == "overwrite":
            return [system_prompt.overwritten(text, place, string=string, where="system")]
        part = b'{"type":"text","text":' + string + b"}"
        return system_prompt.appended(text, place, edit, part=part, where="system")

    def _message_edits(self, edit: SystemEdit) -> list[Edit]:
        """Return the edits of messages whose role is ``system``: some clients send such."""
        text, member = self.body.text, self.body.check("messages", "array")
        assert member is not None
        items = text.elements(member.start)
        found = system_prompt.with_role(text, items, ("system",))
        if edit.text and edit.mode == "overwrite" and len(found) < len(items):
            return system_prompt.dropped(items, found)
        edits: list[Edit] = []
        for index in found:
            message = Fields.of(text, items[index][0], f"messages[{index}]")
            content = message.one("content")
            if content is not None:
                place, where = (content.start, content.end), message.path("content")
                edits += system_prompt.replaced(text, place, edit, where=where)
        return edits


class _Delta(msgspec.Struct):
    type: Any = None
    text: Any = None
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
    usage: Any = None
    error: msgspec.Raw = msgspec.Raw()


_EVENT = msgspec.json.Decoder(_Event)
_ANSWER = msgspec.json.Decoder(_Answer)


class _MessagesReader:
    """What is known of one answer; a stream of events or one message."""

    def __init__(self, *, action: str, want_text: bool) -> None:
        self.started = False
        self.complete = False
        self.closed_early = False
        self.failure: UpstreamError | None = None
        self.usage: Usage | None = None
        self.texts: list[str] = []
        self._action = action
        self._want_text = want_text
        self._tokens: dict[str, int | None] = dict.fromkeys(_COUNTS)

    def record(self, *, event: bytes, data: bytes) -> bool:
        """Read one event."""
        told = decode(_EVENT, data)
        if told is None:
            if event == b"error":
                self.failure = told_error(None, ())
            return event == b"error"
        kind = told.type if isinstance(told.type, str) else event.decode("utf-8", "replace")
        if kind == "error" or event == b"error" or (not kind and says(told.error)):
            self.failure = _failure(told.error, told.message, stream=True)
            return True
        self._count(entry(told.message, "usage"))
        self._count(told.usage)
        if kind == "message_stop":
            self.closed_early = not self.complete
        if kind and kind not in _BARE_STARTS:
            self.started = True
        if told.delta is not None:
            if kind == "message_delta" and told.delta.stop_reason:
                self.complete = True
            elif self._want_text and told.delta.type == "text_delta":
                self.texts.append(text_in(told.delta.text))
        return True

    def whole(self, *, body: bytes) -> bool:
        """Read a message, or a count of tokens."""
        answer = decode(_ANSWER, body)
        if answer is None:
            return False
        self.complete = True
        told = says(answer.error) or answer.type == "error"
        if told and not present(answer.content):
            self.failure = _failure(answer.error, None, stream=False)
            return True
        self.started = True
        if self._action == "generate":
            self._count(answer.usage)
        if self._want_text:
            blocks = listed(value(answer.content))
            self.texts.append(text_in([entry(block, "text") for block in blocks]))
        return True

    def error_frame(self, error: GatewayError) -> bytes:
        """Return the ``error`` event."""
        return b"event: error\ndata: " + render_error(error)[1] + b"\n\n"

    def _count(self, told: Any) -> None:
        """Merge: counts only grow, and a later event may leave out what it knew."""
        if not isinstance(told, dict):
            return
        for name in _COUNTS:
            new, old = count(told.get(name)), self._tokens[name]
            if new is not None:
                self._tokens[name] = max(new, old or 0)
        given, output, cached, written = self._tokens.values()
        self.usage = Usage(
            input=total(given, cached, written),
            output=output,
            cached=cached,
            cache_write=written,
        )


def _failure(raw: msgspec.Raw, message: object, *, stream: bool) -> UpstreamError:
    error = value(raw) if present(raw) else None
    if isinstance(error, dict):
        words = [error.get("type"), error.get("code")]
        return told_error(error.get("message"), words, stream=stream)
    return told_error(error if isinstance(error, str) else message, (), stream=stream)


def render_error(error: GatewayError) -> tuple[int, bytes]:
    """Return status and JSON body of *error*."""
    default = "api_error" if error.status >= 500 else "invalid_request_error"
    told = {"type": _TYPES.get(error.status, default), "message": error.message}
    return error.status, write({"type": "error", "error": told})


@implementer(IDialect)
class AnthropicMessages:
    """The dialect itself."""

    name = NAME
    title = "Anthropic Messages"
    request_interface = IAnthropicMessagesRequest
    endpoints = (
        Endpoint("POST", "/v1/messages", "generate"),
        Endpoint("POST", "/v1/messages/count_tokens", "count_tokens"),
        Endpoint("GET", "/v1/models", "models"),
        Endpoint("GET", "/v1/models/<path:rest>", "model"),
    )

    def claims(self, *, headers: Mapping[bytes, bytes]) -> bool:
        """Claim what names a version of this API."""
        return b"anthropic-version" in headers

    def route(
        self,
        *,
        endpoint: Endpoint,
        rest: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[bytes, bytes],
    ) -> Route:
        """Read the URL and the headers."""
        return Route(
            action=endpoint.action,
            model=rest or None,
            headers=chosen(_PASSED, headers),
            query=tuple(pair for pair in query if pair[0] == "beta"),
        )

    def parse(self, *, body: bytes, route: Route) -> MessagesRequest:
        """Check a body as far as policy and relay need, and no further."""
        fields = Fields.of(check(body))
        messages = fields.check("messages", "array")
        assert messages is not None
        for _ in objects(fields, messages):
            pass
        fields.one("system")
        streaming = fields.flag("stream")
        return MessagesRequest(
            body=fields,
            model=fields.name("model"),
            streaming=streaming and route.action == "generate",
            action=route.action,
            headers=route.headers,
            query=route.query,
        )

    def watcher(
        self,
        *,
        request: IWireRequest,
        content_type: bytes,
        want_text: bool,
        limit: int = HELD_LIMIT,
    ) -> IWatcher:
        """Return a reader for the answer to *request*."""
        reader = _MessagesReader(action=request.action, want_text=want_text)
        return Watcher(reader=reader, request=request, content_type=content_type, limit=limit)

    def render_error(self, error: GatewayError) -> tuple[int, bytes]:
        """Return status and JSON body of *error*."""
        return render_error(error)

    def render_models(self, models: Sequence[ModelInfo]) -> bytes:
        """Return the JSON of a model list, as one page."""
        items = [_item(model) for model in models]
        return write(
            {
                "data": items,
                "has_more": False,
                "first_id": items[0]["id"] if items else None,
                "last_id": items[-1]["id"] if items else None,
            }
        )

    def render_model(self, model: ModelInfo) -> bytes:
        """Return the JSON of one model."""
        return write(_item(model))

    def example(self, *, model: str) -> tuple[str, bytes]:
        """Return path and body of a small request to try the gateway with."""
        messages = [{"role": "user", "content": "Hello!"}]
        body = {"model": model, "max_tokens": 256, "messages": messages}
        return "/v1/messages", write(body)

    def read_models(self, body: bytes) -> Sequence[ModelInfo]:
        """Read an upstream's model list."""
        items = entry(read(body), "data")
        if not isinstance(items, list):
            raise ValueError("This is no Anthropic model list: it has no array under 'data'.")
        return [_model(item) for item in items if isinstance(entry(item, "id"), str)]


def _item(model: ModelInfo) -> dict[str, Any]:
    if model.raw is not None and model.raw_dialect == NAME:
        return {**model.raw, "id": model.id}
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.display_name or model.id,
        "created_at": _moment(model.created),
        "lifecycle": "active",
        "max_input_tokens": model.input_limit,
        "max_tokens": model.output_limit,
    }


def _model(item: dict[str, Any]) -> ModelInfo:
    shown = item.get("display_name")
    return ModelInfo(
        id=item["id"],
        created=_seconds(item.get("created_at")),
        display_name=shown if isinstance(shown, str) else None,
        input_limit=count(item.get("max_input_tokens")),
        output_limit=count(item.get("max_tokens")),
        raw_dialect=NAME,
        raw=item,
    )


def _moment(seconds: int) -> str:
    # Some upstreams count in milliseconds; a year with five digits is no date.
    moment = datetime.fromtimestamp(seconds if 0 <= seconds < 1 << 36 else 0, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(moment: Any) -> int:
    try:
        return int(datetime.fromisoformat(moment).timestamp())
    except (TypeError, ValueError, OverflowError):
        return 0


ANTHROPIC_MESSAGES = AnthropicMessages()
