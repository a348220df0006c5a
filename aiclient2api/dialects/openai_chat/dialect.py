"""
OpenAI Chat Completions: the paths it is spoken on, and how each question on them is answered.

It must never know which model or which vendor answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast
from urllib.parse import urlsplit

from twisted.python.components import registerAdapter
from zope.interface import implementer

from aiclient2api.conversation.request import Conversation, Media, Remote
from aiclient2api.dialects import openai_shapes
from aiclient2api.dialects.affinity import session_of
from aiclient2api.dialects.openai_chat.read_reply import ChatDecoder
from aiclient2api.dialects.openai_chat.read_request import read_request
from aiclient2api.dialects.openai_chat.request import NAME, ChatRequest
from aiclient2api.dialects.openai_chat.watch import ChatReader
from aiclient2api.dialects.openai_chat.write_messages import is_fetched
from aiclient2api.dialects.openai_chat.write_reply import ChatEncoder
from aiclient2api.dialects.openai_chat.write_request import NAME_RULE, write_request
from aiclient2api.dialects.watching import Watcher
from aiclient2api.dialects.wire_request import (
    Fields,
    chosen,
    objects,
)
from aiclient2api.errors import GatewayError
from aiclient2api.framing.json_text import check, write
from aiclient2api.interfaces import (
    IConversation,
    IDialect,
    IEventDecoder,
    IEventEncoder,
    IOpenAIChatRequest,
    IWatcher,
    IWireRequest,
)
from aiclient2api.values import HELD_LIMIT, Endpoint, ModelInfo, Route

_PASSED = (b"openai-beta", b"idempotency-key")
# What an address without a type most likely is not a picture by.
_DOCUMENTS = (".pdf", ".txt", ".md", ".csv", ".json", ".html", ".xml", ".docx", ".xlsx", ".pptx")


@implementer(IDialect)
class OpenAIChat:
    """The dialect itself."""

    name = NAME
    title = "OpenAI Chat Completions"
    request_interface = IOpenAIChatRequest
    counts_tokens = False
    comments = True
    name_rule = NAME_RULE
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
        return Route(
            action=endpoint.action,
            model=rest or None,
            headers=chosen(_PASSED, headers),
            session=session_of(headers),
        )

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
            session=route.session,
        )

    def needs_bytes(self, media: Media) -> bool:
        """Say whether an upstream must be given the bytes of media named by address."""
        # Pictures are fetched by whoever is asked; files can only be sent.
        return isinstance(media, Remote) and is_fetched(media.url) and not _is_picture(media)

    def watcher(
        self,
        *,
        request: IWireRequest,
        content_type: bytes,
        want_text: bool,
        limit: int = HELD_LIMIT,
    ) -> IWatcher:
        """Return a reader for the answer to *request*."""
        reader = ChatReader(want_text=want_text)
        return Watcher(reader=reader, request=request, content_type=content_type, limit=limit)

    def decoder(self, *, request: IWireRequest) -> IEventDecoder:
        """Return a reader, to be converted, for an upstream's answer to *request*."""
        return ChatDecoder()

    def encoder(
        self,
        *,
        request: IWireRequest,
        conversation: IConversation,
        model: str,
        make_id: Callable[[], str],
        now: Callable[[], float],
    ) -> IEventEncoder:
        """Return a writer of a converted answer to *request*."""
        return ChatEncoder(
            request=cast(ChatRequest, request),
            conversation=cast(Conversation, conversation),
            model=model,
            make_id=make_id,
            now=now,
        )

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


def _is_picture(media: Remote) -> bool:
    if media.mime:
        return media.mime.lower().startswith("image/")
    try:
        path = urlsplit(media.url).path.lower()
    except ValueError:
        return True
    return not path.endswith(_DOCUMENTS)


OPENAI_CHAT = OpenAIChat()

registerAdapter(read_request, IOpenAIChatRequest, IConversation)
registerAdapter(write_request, IConversation, IOpenAIChatRequest)
