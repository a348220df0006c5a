"""
OpenAI Responses: the paths it is spoken on, and how each question on them is answered.

It must never know which model or which vendor answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from twisted.python.components import registerAdapter
from zope.interface import implementer

from aiclient2api.conversation.request import Conversation, Media
from aiclient2api.dialects import openai_shapes
from aiclient2api.dialects.affinity import session_of
from aiclient2api.dialects.openai_responses import state
from aiclient2api.dialects.openai_responses.read_reply import ResponsesDecoder
from aiclient2api.dialects.openai_responses.read_request import read_request
from aiclient2api.dialects.openai_responses.request import NAME, ResponsesRequest
from aiclient2api.dialects.openai_responses.watch import ResponsesReader
from aiclient2api.dialects.openai_responses.write_reply import ResponsesEncoder
from aiclient2api.dialects.openai_responses.write_request import NAME_RULE, write_request
from aiclient2api.dialects.watching import Watcher
from aiclient2api.dialects.wire_request import (
    Fields,
    chosen,
    objects,
)
from aiclient2api.errors import GatewayError, UnknownRoute
from aiclient2api.framing.json_text import check, write
from aiclient2api.interfaces import (
    IConversation,
    IDialect,
    IOpenAIResponsesRequest,
    IReferring,
    IRemembering,
    IWatcher,
    IWireRequest,
)
from aiclient2api.values import HELD_LIMIT, Endpoint, KeptAnswer, ModelInfo, Route

_PASSED = (b"openai-beta", b"idempotency-key")


@implementer(IDialect, IReferring, IRemembering)
class OpenAIResponses:
    """The dialect itself. Models are listed by Chat Completions, on the same path."""

    name = NAME
    title = "OpenAI Responses"
    request_interface = IOpenAIResponsesRequest
    endpoints = (
        Endpoint("POST", "/v1/responses", "generate"),
        Endpoint("GET", "/v1/responses/<path:rest>", "stored"),
        Endpoint("DELETE", "/v1/responses/<path:rest>", "forget"),
    )
    counts_tokens = False
    comments = True
    name_rule = NAME_RULE

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
        if endpoint.action == "generate":
            return Route(
                action=endpoint.action,
                headers=chosen(_PASSED, headers),
                session=session_of(headers),
            )
        if not state.is_id(rest):
            # Any other text might lead an upstream's URL elsewhere.
            raise UnknownRoute(
                f"There is nothing at /v1/responses/{rest[:100]}; ask for /v1/responses/ID.",
                code="not_found",
            )
        return Route(action=endpoint.action, model=rest, headers=chosen(_PASSED, headers))

    def parse(self, *, body: bytes, route: Route) -> ResponsesRequest:
        """Check a body as far as policy and relay need, and no further."""
        if route.action != "generate":
            return ResponsesRequest(
                body=Fields.of(check(b"{}")),
                model=route.model or "",
                streaming=False,
                headers=route.headers,
                query=route.query,
                session=route.session,
                action=route.action,
            )
        fields = Fields.of(check(body))
        given = fields.check("input", "string", "array", "null", "absent")
        if given is not None and fields.kind(given) == "array":
            for _ in objects(fields, given):
                pass
        fields.one("instructions")
        request = ResponsesRequest(
            body=fields,
            model=fields.name("model"),
            streaming=fields.flag("stream"),
            headers=route.headers,
            query=route.query,
            session=route.session,
        )
        # Both are read once the answer is there, or where it is kept: too late to refuse them.
        state.previous(request)
        state.wants_store(request)
        return request

    def needs_bytes(self, media: Media) -> bool:
        """Say no: OpenAI fetches what it is given the address of."""
        return False

    def watcher(
        self,
        *,
        request: IWireRequest,
        content_type: bytes,
        want_text: bool,
        limit: int = HELD_LIMIT,
    ) -> IWatcher:
        """Return a reader for the answer to *request*."""
        reader = ResponsesReader(
            model=request.model,
            want_text=want_text,
            kept=state.wants_store(cast(ResponsesRequest, request)),
        )
        return Watcher(reader=reader, request=request, content_type=content_type, limit=limit)

    def decoder(self, *, request: IWireRequest) -> ResponsesDecoder:
        """Return a reader for the answer to *request*."""
        return ResponsesDecoder()

    def encoder(
        self,
        *,
        request: IWireRequest,
        conversation: IConversation,
        model: str,
        make_id: Callable[[], str],
        now: Callable[[], float],
    ) -> ResponsesEncoder:
        """Return a writer of a converted answer to *request*."""
        return ResponsesEncoder(
            request=cast(ResponsesRequest, request),
            conversation=cast(Conversation, conversation),
            model=model,
            make_id=make_id,
            now=now,
        )

    def previous(self, request: IWireRequest) -> str | None:
        """Return the id of the response that *request* goes on from, if it does."""
        return state.previous(cast(ResponsesRequest, request))

    def continued(self, request: IWireRequest, items: bytes) -> ResponsesRequest:
        """Return *request* with all of the conversation so far in it, and no such id."""
        return state.expanded(cast(ResponsesRequest, request), items)

    def kept(self, request: IWireRequest, answer: bytes) -> KeptAnswer | None:
        """Return what to keep of a whole response, None if it is not to be kept."""
        return state.kept(cast(ResponsesRequest, request), answer)

    def references(self, request: IWireRequest) -> Sequence[tuple[str, GatewayError]]:
        """Return the ids of what else *request* names that an upstream keeps."""
        return state.references(cast(ResponsesRequest, request))

    def missing(self, id: str) -> GatewayError:
        """Return the error for a request that goes on from what nobody keeps."""
        return state.missing(id)

    def unknown(self, id: str) -> GatewayError:
        """Return the error for a question after what nobody keeps."""
        return state.not_found(id)

    def deleted(self, id: str) -> bytes:
        """Return the JSON that says that a response is kept no longer."""
        return state.deleted(id)

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

registerAdapter(read_request, IOpenAIResponsesRequest, IConversation)
registerAdapter(write_request, IConversation, IOpenAIResponsesRequest)
