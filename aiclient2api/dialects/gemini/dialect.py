"""
Gemini: the paths it is spoken on, and how each question on them is answered.

It must never know which model or which vendor answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.python.components import registerAdapter
from zope.interface import implementer

from aiclient2api.conversation import tool_names
from aiclient2api.dialects.affinity import session_of
from aiclient2api.dialects.gemini import media as gemini_media
from aiclient2api.dialects.gemini.errors import render_error
from aiclient2api.dialects.gemini.read_reply import GeminiDecoder
from aiclient2api.dialects.gemini.read_request import read_request
from aiclient2api.dialects.gemini.request import NAME, NESTED, SSE_QUERY, SYSTEM, GeminiRequest
from aiclient2api.dialects.gemini.watch import GeminiReader
from aiclient2api.dialects.gemini.write_reply import GeminiEncoder
from aiclient2api.dialects.gemini.write_request import write_request
from aiclient2api.dialects.watching import Watcher, count
from aiclient2api.dialects.wire_request import (
    Fields,
    entry,
    is_name,
    objects,
)
from aiclient2api.errors import GatewayError, UnknownRoute
from aiclient2api.framing.json_text import check, read, write
from aiclient2api.interfaces import (
    IConversation,
    IDialect,
    IEventDecoder,
    IEventEncoder,
    IGeminiRequest,
    IWatcher,
    IWireRequest,
)
from aiclient2api.values import HELD_LIMIT, Endpoint, Media, ModelInfo, Route

_ACTIONS = {
    "generateContent": "generate",
    "streamGenerateContent": "generate",
    "countTokens": "count_tokens",
}


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

    counts_tokens = True
    # Google's own library takes a line that is no data for JSON.
    comments = False
    name_rule = tool_names.GEMINI

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
        sse = streaming and SSE_QUERY[0] in query
        return Route(
            action=_ACTIONS[verb],
            model=model,
            streaming=streaming,
            framing=("sse" if sse else "json_array") if streaming else None,
            query=SSE_QUERY if sse else (),
            session=session_of(headers),
        )

    def parse(self, *, body: bytes, route: Route) -> GeminiRequest:
        """Check a body as far as policy and relay need, and no further."""
        fields = Fields.of(check(body))
        fields.one(*SYSTEM)
        if route.action == "generate":
            contents = fields.check("contents", "array", "object")
        else:
            contents = fields.check("contents", "array", "object", "absent")
            fields.check(NESTED[0], "object", "absent", spellings=NESTED[1:])
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
            session=route.session,
        )

    def needs_bytes(self, media: Media) -> bool:
        """Say whether Google cannot read *media* at its address."""
        return gemini_media.needs_bytes(media)

    def watcher(
        self,
        *,
        request: IWireRequest,
        content_type: bytes,
        want_text: bool,
        limit: int = HELD_LIMIT,
    ) -> IWatcher:
        """Return a reader for the answer to *request*."""
        reader = GeminiReader(want_text=want_text)
        return Watcher(
            reader=reader,
            request=request,
            content_type=content_type,
            limit=limit,
            arrays=True,
        )

    def decoder(self, *, request: IWireRequest) -> IEventDecoder:
        """Return a reader of an upstream's answer to *request*."""
        return GeminiDecoder(action=request.action)

    def encoder(
        self,
        *,
        request: IWireRequest,
        conversation: IConversation,
        model: str,
        make_id: Callable[[], str],
        now: Callable[[], float],
    ) -> IEventEncoder:
        """Return a writer of an answer to *request*."""
        return GeminiEncoder(
            action=request.action, framing=request.framing, model=model, make_id=make_id
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

registerAdapter(read_request, IGeminiRequest, IConversation)
registerAdapter(write_request, IConversation, IGeminiRequest)
