"""
OpenAI Chat Completions: what its requests, its stream and its errors look like.

https://platform.openai.com/docs/api-reference/chat. It must never know which vendor
answers: fields of Moonshot, Zhipu and others are read wherever they stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec
from zope.interface import implementer

from aiclient2api.dialects import openai_shapes, system_prompt
from aiclient2api.dialects.faults import told_error
from aiclient2api.dialects.watching import Branches, Watcher, count, decode, present, says, value
from aiclient2api.dialects.wire_request import (
    Fields,
    amended,
    chosen,
    decoded,
    entry,
    listed,
    objects,
    text_in,
    wrong,
)
from aiclient2api.errors import GatewayError, UpstreamError
from aiclient2api.framing.json_text import Edit, check, write
from aiclient2api.interfaces import IDialect, IOpenAIChatRequest, IWatcher, IWireRequest
from aiclient2api.values import HELD_LIMIT, Endpoint, Headers, ModelInfo, Route, SystemEdit, Usage

NAME = "openai-chat"
_SYSTEM_ROLES = ("system", "developer")
_PASSED = (b"openai-beta", b"idempotency-key")
# A finish_reason that is none: https://docs.z.ai/api-reference/llm/chat-completion and
# https://openrouter.ai/docs/api/reference/errors-and-debugging
_BREAKS = ("network_error", "error")


@implementer(IOpenAIChatRequest)
@attrs.frozen
class ChatRequest:
    """One Chat Completions request, as bytes with places."""

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
    ) -> ChatRequest:
        """Return a copy with these changed; every other byte stays as it was."""
        edits: list[Edit] = []
        if system is not None:
            edits += self._system_edits(system)
        return amended(self, model=model, streaming=streaming, edits=edits)

    def to_bytes(self) -> bytes:
        """Return the body to send."""
        return self.raw

    def system_text(self) -> str:
        """Return the text of the system and developer messages."""
        return text_in(
            [
                entry(message, "content")
                for message in listed(decoded(self.body.text).get("messages"))
                if entry(message, "role") in _SYSTEM_ROLES
            ]
        )

    def prompt_text(self) -> str:
        """Return the text of the last message."""
        messages = listed(decoded(self.body.text).get("messages"))
        return text_in(entry(messages[-1], "content")) if messages else ""

    def _system_edits(self, edit: SystemEdit) -> list[Edit]:
        text = self.body.text
        member = self.body.check("messages", "array")
        assert member is not None
        items = text.elements(member.start)
        found = system_prompt.with_role(text, items, _SYSTEM_ROLES)
        if edit.text and not found:
            message = b'{"role":"system","content":' + system_prompt.added(edit) + b"}"
            at = items[0][0] if items else member.start + 1
            return [(at, at, message + (b"," if items else b""))]
        edits: list[Edit] = []
        overwriting = bool(edit.text) and edit.mode == "overwrite"
        for position, index in enumerate(found):
            if overwriting and position:
                continue
            message_fields = Fields.of(text, items[index][0], f"messages[{index}]")
            changing = bool(edit.text) and not position
            edits += _content_edits(message_fields, edit if changing else _only_replacing(edit))
        return edits + (system_prompt.dropped(items, found[1:]) if overwriting else [])


def _only_replacing(edit: SystemEdit) -> SystemEdit:
    return attrs.evolve(edit, text=None)


def _content_edits(message: Fields, edit: SystemEdit) -> list[Edit]:
    """Return the edits of one system message's content."""
    member, where = message.one("content"), message.path("content")
    if member is None:
        return [message.put("content", system_prompt.added(edit))] if edit.text else []
    place = (member.start, member.end)
    if message.kind(member) == "object":
        raise wrong(where, "object", "a string or a list of text parts")
    if not edit.text:
        return system_prompt.replaced(message.text, place, edit, where=where)
    string = system_prompt.added(edit)
    if edit.mode == "overwrite":
        return [system_prompt.overwritten(message.text, place, string=string, where=where)]
    part = b'{"type":"text","text":' + string + b"}"
    return system_prompt.appended(message.text, place, edit, part=part, where=where)


class _Choice(msgspec.Struct):
    index: Any = 0
    finish_reason: Any = None
    delta: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    error: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    object: Any = None
    message: Any = None
    code: Any = None
    type: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)


class _ChatReader:
    """What is known of one answer; a stream of chunks or one completion."""

    def __init__(self, *, want_text: bool) -> None:
        self.started = False
        self.closed_early = False
        self.failure: UpstreamError | None = None
        self.usage: Usage | None = None
        self.texts: list[str] = []
        self._want_text = want_text
        self._branches = Branches()
        self._whole = False

    @property
    def complete(self) -> bool:
        """True once every choice seen has said why it ended."""
        return self._whole or self._branches.all_ended

    def record(self, *, event: bytes, data: bytes) -> bool:
        """Read one chunk; ``[DONE]`` is whole but proves nothing."""
        if data.strip() == b"[DONE]":
            self.closed_early = not self.complete
            return True
        chunk = decode(_CHUNK, data)
        if chunk is None:
            if event == b"error":
                self.failure = told_error(None, ())
            return event == b"error"
        if says(chunk.error) or event == b"error" or chunk.object == "error":
            self.failure = _failure(chunk, stream=True)
            return True
        for choice in chunk.choices or ():
            self._read_choice(choice)
        if present(chunk.usage):
            self.usage = _usage(value(chunk.usage)) or self.usage
        return True

    def whole(self, *, body: bytes) -> bool:
        """Read a completion."""
        answer = decode(_CHUNK, body)
        if answer is None:
            return False
        self._whole = True
        if answer.choices is None and (says(answer.error) or answer.object == "error"):
            self.failure = _failure(answer, stream=False)
            return True
        broken = next((c for c in answer.choices or () if c.finish_reason in _BREAKS), None)
        if broken is not None:
            self.failure = _broke_off(broken, stream=False)
            return True
        self.started = True
        self.usage = _usage(value(answer.usage)) if present(answer.usage) else None
        for choice in answer.choices or () if self._want_text else ():
            self.texts.append(text_in(entry(value(choice.message), "content")))
        return True

    def error_frame(self, error: GatewayError) -> bytes:
        """Return the error chunk."""
        return b"data: " + openai_shapes.render_error(error)[1] + b"\n\n"

    def _read_choice(self, choice: _Choice) -> None:
        if choice.finish_reason in _BREAKS:
            self.failure = _broke_off(choice, stream=True)
            return
        self._branches.saw(choice.index, ended=bool(choice.finish_reason))
        self.started = self.started or bool(choice.finish_reason)
        if self._want_text or not self.started:
            delta = value(choice.delta) if present(choice.delta) else value(choice.message)
            if not self.started and isinstance(delta, dict):
                self.started = any(said for key, said in delta.items() if key != "role")
            if self._want_text:
                self.texts.append(text_in(entry(delta, "content")))
        if present(choice.usage):
            # Moonshot: https://platform.moonshot.ai/docs/api/chat
            self.usage = _usage(value(choice.usage)) or self.usage


def _failure(answer: _Chunk, *, stream: bool) -> UpstreamError:
    error = value(answer.error) if says(answer.error) else None
    if isinstance(error, dict):
        return _told(error, stream=stream)
    message = error if isinstance(error, str) else answer.message
    return told_error(message, (answer.code, answer.type), stream=stream)


def _broke_off(choice: _Choice, *, stream: bool) -> UpstreamError:
    if choice.error and isinstance(choice.error, dict):
        return _told(choice.error, stream=stream)
    return told_error(choice.error, (choice.finish_reason,), stream=stream)


def _told(error: dict[str, Any], *, stream: bool) -> UpstreamError:
    words = [error.get(key) for key in ("code", "type", "status")]
    return told_error(error.get("message"), words, stream=stream)


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = (usage.get(f"{side}_tokens_details") for side in ("prompt", "completion"))
    return Usage(
        input=count(usage.get("prompt_tokens")),
        output=count(usage.get("completion_tokens")),
        cached=count(
            entry(prompt, "cached_tokens"),
            usage.get("cached_tokens"),
            usage.get("prompt_cache_hit_tokens"),
        ),
        reasoning=count(entry(completion, "reasoning_tokens")),
    )


@implementer(IDialect)
class OpenAIChat:
    """The dialect itself."""

    name = NAME
    title = "OpenAI Chat Completions"
    request_interface = IOpenAIChatRequest
    endpoints = (
        Endpoint("POST", "/v1/chat/completions", "generate"),
        Endpoint("GET", "/v1/models", "models"),
        Endpoint("GET", "/v1/models/<path:rest>", "model"),
    )

    def claims(self, *, headers: Mapping[bytes, bytes]) -> bool:
        """Take whatever no other dialect claims."""
        return True

    def route(
        self,
        *,
        endpoint: Endpoint,
        rest: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[bytes, bytes],
    ) -> Route:
        """Read the URL and the headers."""
        return Route(action=endpoint.action, model=rest or None, headers=chosen(_PASSED, headers))

    def parse(self, *, body: bytes, route: Route) -> ChatRequest:
        """Check a body as far as policy and relay need, and no further."""
        fields = Fields.of(check(body))
        messages = fields.check("messages", "array")
        assert messages is not None
        for _ in objects(fields, messages):
            pass
        return ChatRequest(
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
        reader = _ChatReader(want_text=want_text)
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
        messages = [{"role": "user", "content": "Hello!"}]
        return "/v1/chat/completions", write({"model": model, "messages": messages})

    def read_models(self, body: bytes) -> Sequence[ModelInfo]:
        """Read an upstream's model list."""
        return openai_shapes.read_models(body, dialect=NAME)


OPENAI_CHAT = OpenAIChat()
