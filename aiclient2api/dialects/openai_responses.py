"""
OpenAI Responses: what its requests, its stream and its errors look like.

https://platform.openai.com/docs/api-reference/responses. It must never know of
conversations stored elsewhere: an id it is given is a field like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec
from zope.interface import implementer

from aiclient2api.dialects import openai_shapes, system_prompt
from aiclient2api.dialects.faults import told_error
from aiclient2api.dialects.watching import Watcher, count, decode, present, says, value
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
from aiclient2api.framing.json_text import Edit, check, write
from aiclient2api.interfaces import IDialect, IOpenAIResponsesRequest, IWatcher, IWireRequest
from aiclient2api.values import HELD_LIMIT, Endpoint, Headers, ModelInfo, Route, SystemEdit, Usage

NAME = "openai-responses"
_SYSTEM_ROLES = ("system", "developer")
_PASSED = (b"openai-beta", b"idempotency-key")
_BARE_STARTS = ("response.created", "response.in_progress", "response.queued", "keepalive", "ping")
_ENDS = ("response.completed", "response.incomplete")


@implementer(IOpenAIResponsesRequest)
@attrs.frozen
class ResponsesRequest:
    """One Responses request, as bytes with places."""

    body: Fields = attrs.field(repr=False)
    model: str
    streaming: bool
    headers: Headers = attrs.field(default=(), repr=False)
    query: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    action: str = "generate"
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
    ) -> ResponsesRequest:
        """Return a copy with these changed; every other byte stays as it was."""
        edits: list[Edit] = []
        if system is not None:
            edits += self._instruction_edits(system)
            edits += self._input_edits(system)
        return amended(self, model=model, streaming=streaming, edits=edits)

    def to_bytes(self) -> bytes:
        """Return the body to send."""
        return self.raw

    def system_text(self) -> str:
        """Return the text of the instructions and of system and developer items."""
        body = decoded(self.body.text)
        items = [
            entry(item, "content")
            for item in listed(body.get("input"))
            if entry(item, "role") in _SYSTEM_ROLES
        ]
        return text_in([body.get("instructions"), *items])

    def prompt_text(self) -> str:
        """Return the text of the input's last item; what a tool gave back counts."""
        given = decoded(self.body.text).get("input")
        return text_in(given[-1] if isinstance(given, list) and given else given)

    def _instruction_edits(self, edit: SystemEdit) -> list[Edit]:
        member = self.body.check("instructions", "string", "null", "absent")
        told = member is not None and self.body.kind(member) == "string"
        if edit.text and (not told or edit.mode == "overwrite"):
            return [self.body.put("instructions", system_prompt.added(edit))]
        if member is None:
            return []
        place, where = (member.start, member.end), "instructions"
        if edit.text:
            return system_prompt.appended(self.body.text, place, edit, part=b"", where=where)
        return system_prompt.replaced(self.body.text, place, edit, where=where)

    def _input_edits(self, edit: SystemEdit) -> list[Edit]:
        text, member = self.body.text, self.body.one("input")
        if member is None or self.body.kind(member) != "array":
            return []
        items = text.elements(member.start)
        found = system_prompt.with_role(text, items, _SYSTEM_ROLES)
        if edit.text and edit.mode == "overwrite" and len(found) < len(items):
            return system_prompt.dropped(items, found)
        edits: list[Edit] = []
        for index in found:
            item = Fields.of(text, items[index][0], f"input[{index}]")
            content = item.one("content")
            if content is not None:
                place = (content.start, content.end)
                where = item.path("content")
                edits += system_prompt.replaced(text, place, edit, where=where)
        return edits


class _Event(msgspec.Struct):
    type: Any = None
    sequence_number: Any = None
    response: msgspec.Raw = msgspec.Raw()
    delta: Any = None
    error: msgspec.Raw = msgspec.Raw()
    code: Any = None
    message: Any = None


class _Response(msgspec.Struct):
    id: Any = None
    created_at: Any = None
    model: Any = None
    object: Any = None
    output: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_EVENT = msgspec.json.Decoder(_Event)
_RESPONSE = msgspec.json.Decoder(_Response)


class _ResponsesReader:
    """What is known of one answer; a stream of events or one response."""

    def __init__(self, *, model: str, want_text: bool) -> None:
        self.started = False
        self.complete = False
        self.closed_early = False
        self.failure: UpstreamError | None = None
        self.usage: Usage | None = None
        self.texts: list[str] = []
        self._model = model
        self._want_text = want_text
        self._sequence = -1
        self._response: _Response | None = None

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
            self.failure = _failure(told)
            self.usage = _usage(decode(_RESPONSE, bytes(told.response)))
        elif kind in _BARE_STARTS:
            self._response = decode(_RESPONSE, bytes(told.response)) or self._response
        elif kind:
            self.started = True
            if kind in _ENDS:
                self.complete = True
                self.usage = _usage(decode(_RESPONSE, bytes(told.response)))
            elif kind == "response.output_text.delta" and self._want_text:
                self.texts.append(text_in(told.delta))
        return True

    def whole(self, *, body: bytes) -> bool:
        """
        Read a response.

        One whose ``status`` is ``failed`` is a well-formed answer, and is passed on
        as such; only a bare error object is a failure.
        """
        answer = decode(_RESPONSE, body)
        if answer is None:
            return False
        self.complete = True
        bare = not present(answer.output) and answer.object != "response"
        if bare and says(answer.error):
            self.failure = _told(value(answer.error), stream=False)
            return True
        self.started = True
        self.usage = _usage(answer)
        if self._want_text:
            items = listed(value(answer.output))
            self.texts.append(text_in([entry(item, "content") for item in items]))
        return True

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


def _failure(told: _Event) -> UpstreamError:
    response = decode(_RESPONSE, bytes(told.response))
    for raw in (told.error, response.error if response is not None else None):
        if raw is not None and says(raw):
            return _told(value(raw), stream=True)
    return told_error(told.message, (told.code,))


def _told(error: Any, *, stream: bool) -> UpstreamError:
    if isinstance(error, str):
        return told_error(error, (), stream=stream)
    words = [entry(error, "code"), entry(error, "type")]
    return told_error(entry(error, "message"), words, stream=stream)


def _usage(response: _Response | None) -> Usage | None:
    usage = value(response.usage) if response is not None else None
    if not isinstance(usage, dict):
        return None
    read, written = (usage.get(f"{side}_tokens_details") for side in ("input", "output"))
    return Usage(
        input=count(usage.get("input_tokens")),
        output=count(usage.get("output_tokens")),
        cached=count(entry(read, "cached_tokens")),
        reasoning=count(entry(written, "reasoning_tokens")),
    )


@implementer(IDialect)
class OpenAIResponses:
    """The dialect itself. Models are listed by Chat Completions, on the same path."""

    name = NAME
    title = "OpenAI Responses"
    request_interface = IOpenAIResponsesRequest
    endpoints = (Endpoint("POST", "/v1/responses", "generate"),)

    def claims(self, *, headers: Mapping[bytes, bytes]) -> bool:
        """Claim nothing: it shares no path."""
        return False

    def route(
        self,
        *,
        endpoint: Endpoint,
        rest: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[bytes, bytes],
    ) -> Route:
        """Read the URL and the headers."""
        return Route(action=endpoint.action, headers=chosen(_PASSED, headers))

    def parse(self, *, body: bytes, route: Route) -> ResponsesRequest:
        """Check a body as far as policy and relay need, and no further."""
        fields = Fields.of(check(body))
        given = fields.check("input", "string", "array", "null", "absent")
        if given is not None and fields.kind(given) == "array":
            for _ in objects(fields, given):
                pass
        fields.one("instructions")
        return ResponsesRequest(
            body=fields,
            model=fields.name("model"),
            streaming=fields.flag("stream"),
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
        reader = _ResponsesReader(model=request.model, want_text=want_text)
        return Watcher(reader=reader, request=request, content_type=content_type, limit=limit)

    def render_error(self, error: GatewayError) -> tuple[int, bytes]:
        """Return status and JSON body of *error*."""
        return openai_shapes.render_error(error)

    def render_models(self, models: Sequence[ModelInfo]) -> bytes:
        """Return the JSON of a model list."""
        return openai_shapes.render_models(models)

    def render_model(self, model: ModelInfo) -> bytes:
        """Return the JSON of one model."""
        return openai_shapes.render_model(model)

    def example(self, *, model: str) -> tuple[str, bytes]:
        """Return path and body of a small request to try the gateway with."""
        return "/v1/responses", write({"model": model, "input": "Hello!"})

    def read_models(self, body: bytes) -> Sequence[ModelInfo]:
        """Read an upstream's model list."""
        return openai_shapes.read_models(body, dialect=NAME)


OPENAI_RESPONSES = OpenAIResponses()
