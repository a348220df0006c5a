"""
Gemini: what its requests, its two kinds of stream and its errors look like.

https://ai.google.dev/api/generate-content. The model and the way of streaming stand
in the URL. It must never know Code Assist, which wraps these bodies in others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec
from zope.interface import implementer

from aiclient2api.dialects import system_prompt
from aiclient2api.dialects.faults import told_error
from aiclient2api.dialects.watching import Branches, Watcher, count, decode, says, total, value
from aiclient2api.dialects.wire_request import (
    Fields,
    decoded,
    entry,
    is_name,
    listed,
    objects,
    text_in,
    wrong,
)
from aiclient2api.errors import GatewayError, UnknownRoute, UpstreamError
from aiclient2api.framing.json_text import Edit, check, quote, read, text_of, write
from aiclient2api.interfaces import IDialect, IGeminiRequest, IWatcher, IWireRequest
from aiclient2api.values import HELD_LIMIT, Endpoint, Headers, ModelInfo, Route, SystemEdit, Usage

NAME = "gemini"
_ACTIONS = {
    "generateContent": "generate",
    "streamGenerateContent": "generate",
    "countTokens": "count_tokens",
}
_SYSTEM = ("systemInstruction", "system_instruction")
_NESTED = ("generateContentRequest", "generate_content_request")
_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_SSE_QUERY = (("alt", "sse"),)
_NO_REASON = "FINISH_REASON_UNSPECIFIED"


@implementer(IGeminiRequest)
@attrs.frozen
class GeminiRequest:
    """One generateContent, streamGenerateContent or countTokens request."""

    body: Fields = attrs.field(repr=False)
    model: str
    streaming: bool
    framing: str
    action: str = "generate"
    headers: Headers = attrs.field(default=(), repr=False)
    query: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    dialect: str = attrs.field(default=NAME, init=False)

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
    ) -> GeminiRequest:
        """
        Return a copy with these changed; every other byte stays as it was.

        Model and stream stand in the URL; where the body names the model as well, as a
        count of tokens does, it is changed there, too.
        """
        request = self
        if streaming is not None and streaming != self.streaming:
            request = attrs.evolve(
                request,
                streaming=streaming,
                framing="sse" if streaming else "whole",
                query=_SSE_QUERY if streaming else (),
            )
        edits = self._system_edits(system) if system is not None else []
        if model is not None and model != self.model:
            edits += self._model_edits(model)
        return attrs.evolve(
            request,
            model=self.model if model is None else model,
            body=Fields.of(self.body.text.spliced(edits)) if edits else self.body,
        )

    def to_bytes(self) -> bytes:
        """Return the body to send."""
        return self.raw

    def system_text(self) -> str:
        """Return the text of the system instruction."""
        body = _content_of(decoded(self.body.text))
        found = [entry(body.get(key), "parts") for key in _SYSTEM]
        return text_in([_parts_text(parts) for parts in found])

    def prompt_text(self) -> str:
        """Return the text of the last content; what a function gave back counts."""
        contents = listed(_content_of(decoded(self.body.text)).get("contents"))
        return _parts_text(entry(contents[-1], "parts")) if contents else ""

    def _model_edits(self, model: str) -> list[Edit]:
        """Return the edits of every field that names the model as the URL does."""
        before = {prefix + self.model: prefix for prefix in ("", "models/")}
        edits: list[Edit] = []
        for fields in filter(None, (self.body, _holder(self.body))):
            for member in fields.members:
                if member.key == "model" and fields.kind(member) == "string":
                    prefix = before.get(text_of(fields.raw(member)))
                    if prefix is not None:
                        edits.append((member.start, member.end, quote(prefix + model)))
        return edits

    def _system_edits(self, edit: SystemEdit) -> list[Edit]:
        body = _holder(self.body) if self.action == "count_tokens" else self.body
        if body is None:
            # A bare countTokens has no place for a system instruction.
            return []
        member = body.check(_SYSTEM[0], "object", "null", "absent", spellings=_SYSTEM[1:])
        part = b'{"text":' + system_prompt.added(edit) + b"}"
        whole = b'{"parts":[' + part + b"]}"
        if member is None or body.kind(member) == "null":
            return [body.put(member.key if member else _SYSTEM[0], whole)] if edit.text else []
        content = Fields.of(body.text, member.start, body.path(member.key))
        parts, where = content.one("parts"), content.path("parts")
        kind = content.kind(parts)
        if kind not in ("array", "object", "null", "absent"):
            raise wrong(where, kind, "a list of text parts")
        if parts is None or kind == "null":
            return [content.put("parts", b"[" + part + b"]")] if edit.text else []
        place = (parts.start, parts.end)
        changes = system_prompt.replaced(body.text, place, edit, where=where)
        if not edit.text:
            return changes
        if edit.mode == "overwrite":
            return [content.put("parts", b"[" + part + b"]")]
        return system_prompt.appended(body.text, place, edit, part=part, where=where)


def _holder(body: Fields) -> Fields | None:
    """Return the request a countTokens body holds, None if it holds bare contents."""
    member = body.one(*_NESTED)
    if member is None or body.kind(member) != "object":
        return None
    return Fields.of(body.text, member.start, member.key)


def _content_of(body: dict[str, Any]) -> dict[str, Any]:
    held = next((body[key] for key in _NESTED if isinstance(body.get(key), dict)), body)
    return held


def _parts_text(parts: Any) -> str:
    return "\n".join(text for text in map(_part_text, listed(parts)) if text)


def _part_text(part: Any) -> str:
    answer = entry(part, "functionResponse") or entry(part, "function_response")
    if answer is None:
        return text_in(entry(part, "text"))
    given = entry(answer, "response")
    for key in ("output", "result", "content", "error"):
        if isinstance(entry(given, key), str):
            return text_in(given[key])
    return write(given).decode() if given else ""


class _Candidate(msgspec.Struct):
    index: Any = 0
    content: msgspec.Raw = msgspec.Raw()
    finishReason: Any = None


class _Chunk(msgspec.Struct):
    candidates: list[_Candidate] | None = None
    promptFeedback: Any = None
    usageMetadata: Any = None
    error: msgspec.Raw = msgspec.Raw()


_CHUNK = msgspec.json.Decoder(_Chunk)
_CHUNKS = msgspec.json.Decoder(list[_Chunk])


class _GeminiReader:
    """What is known of one answer; a stream of chunks or one response."""

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
        """True once every candidate seen has finished, or the prompt was blocked."""
        return self._whole or self._branches.all_ended

    def record(self, *, event: bytes, data: bytes) -> bool:
        """Read one chunk."""
        chunk = decode(_CHUNK, data)
        if chunk is None:
            if event == b"error":
                self.failure = told_error(None, ())
            return event == b"error"
        if says(chunk.error):
            self.failure = _failure(chunk.error, stream=True)
        else:
            self._read(chunk)
        return True

    def whole(self, *, body: bytes) -> bool:
        """Read a response, a count of tokens, or an error, bare or in an array."""
        answer = decode(_CHUNK, body)
        if answer is None:
            listed_answers = decode(_CHUNKS, body) or []
            if len(listed_answers) != 1 or not says(listed_answers[0].error):
                return False
            answer = listed_answers[0]
        self._whole = True
        if says(answer.error) and not answer.candidates:
            self.failure = _failure(answer.error, stream=False)
            return True
        self._read(answer)
        self.started = True
        return True

    def error_frame(self, error: GatewayError) -> bytes:
        """Return the error chunk."""
        return b"data: " + render_error(error)[1] + b"\n\n"

    def _read(self, chunk: _Chunk) -> None:
        if chunk.candidates or chunk.promptFeedback:
            self.started = True
        for candidate in chunk.candidates or ():
            reason = candidate.finishReason
            self._branches.saw(candidate.index, ended=bool(reason) and reason != _NO_REASON)
            if self._want_text:
                for part in listed(entry(value(candidate.content), "parts")):
                    if not entry(part, "thought"):
                        self.texts.append(text_in(entry(part, "text")))
        if entry(chunk.promptFeedback, "blockReason"):
            # No candidate will come; the prompt itself is what has ended.
            self._branches.saw(-1, ended=True)
        self.usage = _usage(chunk.usageMetadata) or self.usage


def _failure(raw: msgspec.Raw, *, stream: bool) -> UpstreamError:
    error = value(raw)
    if isinstance(error, str):
        return told_error(error, (), stream=stream)
    words = [entry(error, "status"), entry(error, "code")]
    return told_error(entry(error, "message"), words, stream=stream)


def _usage(told: Any) -> Usage | None:
    if not isinstance(told, dict):
        return None
    thoughts = count(told.get("thoughtsTokenCount"))
    return Usage(
        input=total(
            count(told.get("promptTokenCount")), count(told.get("toolUsePromptTokenCount"))
        ),
        output=total(count(told.get("candidatesTokenCount")), thoughts),
        cached=count(told.get("cachedContentTokenCount")),
        reasoning=thoughts,
    )


def render_error(error: GatewayError) -> tuple[int, bytes]:
    """Return status and JSON body of *error*."""
    default = "INTERNAL" if error.status >= 500 else "INVALID_ARGUMENT"
    told = {
        "code": error.status,
        "message": error.message,
        "status": _STATUSES.get(error.status, default),
        "details": [],
    }
    return error.status, write({"error": told})


@implementer(IDialect)
class Gemini:
    """The dialect itself."""

    name = NAME
    title = "Gemini"
    request_interface = IGeminiRequest
    endpoints = tuple(
        endpoint
        for root in ("/v1beta", "/v1")
        for endpoint in (
            Endpoint("POST", f"{root}/models/<path:rest>", "generate"),
            Endpoint("GET", f"{root}/models", "models"),
            Endpoint("GET", f"{root}/models/<path:rest>", "model"),
        )
    )

    def claims(self, *, headers: Mapping[bytes, bytes]) -> bool:
        """Claim what Google's own clients send."""
        return b"x-goog-api-key" in headers or b"x-goog-api-client" in headers

    def route(
        self,
        *,
        endpoint: Endpoint,
        rest: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[bytes, bytes],
    ) -> Route:
        """Read the URL and the headers."""
        if endpoint.method != "POST":
            return Route(action=endpoint.action, model=rest.removeprefix("models/") or None)
        model, _, verb = rest.rpartition(":")
        model = model.removeprefix("models/")
        if verb not in _ACTIONS or not is_name(model):
            raise UnknownRoute(
                "Nothing is served at this path; POST to .../models/MODEL:VERB, where VERB is "
                + ", ".join(sorted(_ACTIONS)[:-1])
                + f" or {sorted(_ACTIONS)[-1]}.",
                code="unknown_route",
            )
        streaming = verb == "streamGenerateContent"
        sse = streaming and _SSE_QUERY[0] in query
        return Route(
            action=_ACTIONS[verb],
            model=model,
            streaming=streaming,
            framing=("sse" if sse else "json_array") if streaming else None,
            query=_SSE_QUERY if sse else (),
        )

    def parse(self, *, body: bytes, route: Route) -> GeminiRequest:
        """Check a body as far as policy and relay need, and no further."""
        fields = Fields.of(check(body))
        fields.one(*_SYSTEM)
        if route.action == "generate":
            contents = fields.check("contents", "array", "object")
        else:
            contents = fields.check("contents", "array", "object", "absent")
            fields.check(_NESTED[0], "object", "absent", spellings=_NESTED[1:])
        if contents is not None and fields.kind(contents) == "array":
            for _ in objects(fields, contents):
                pass
        return GeminiRequest(
            body=fields,
            model=route.model or "",
            streaming=bool(route.streaming),
            framing=route.framing or "whole",
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
        reader = _GeminiReader(want_text=want_text)
        return Watcher(
            reader=reader,
            request=request,
            content_type=content_type,
            limit=limit,
            arrays=True,
        )

    def render_error(self, error: GatewayError) -> tuple[int, bytes]:
        """Return status and JSON body of *error*."""
        return render_error(error)

    def render_models(self, models: Sequence[ModelInfo]) -> bytes:
        """Return the JSON of a model list."""
        return write({"models": [_item(model) for model in models]})

    def render_model(self, model: ModelInfo) -> bytes:
        """Return the JSON of one model."""
        return write(_item(model))

    def example(self, *, model: str) -> tuple[str, bytes]:
        """Return path and body of a small request to try the gateway with."""
        contents = [{"role": "user", "parts": [{"text": "Hello!"}]}]
        return f"/v1beta/models/{model}:generateContent", write({"contents": contents})

    def read_models(self, body: bytes) -> Sequence[ModelInfo]:
        """Read an upstream's model list."""
        answer = read(body)
        items = entry(answer, "models")
        if not isinstance(items, list) and answer != {}:
            raise ValueError("This is no Gemini model list: it has no array under 'models'.")
        return [_model(item) for item in items or () if isinstance(entry(item, "name"), str)]


def _item(model: ModelInfo) -> dict[str, Any]:
    name = f"models/{model.id}"
    if model.raw is not None and model.raw_dialect == NAME:
        return {**model.raw, "name": name}
    item: dict[str, Any] = {
        "name": name,
        "version": "001",
        "displayName": model.display_name or model.id,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }
    if model.input_limit is not None:
        item["inputTokenLimit"] = model.input_limit
    if model.output_limit is not None:
        item["outputTokenLimit"] = model.output_limit
    return item


def _model(item: dict[str, Any]) -> ModelInfo:
    shown = item.get("displayName")
    return ModelInfo(
        id=item["name"].removeprefix("models/"),
        owned_by="google",
        display_name=shown if isinstance(shown, str) else None,
        input_limit=count(item.get("inputTokenLimit")),
        output_limit=count(item.get("outputTokenLimit")),
        raw_dialect=NAME,
        raw=item,
    )


GEMINI = Gemini()
