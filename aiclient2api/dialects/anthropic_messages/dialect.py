"""
Anthropic Messages: the paths it is spoken on, and how each question on them is answered.

It must never know which model or which vendor answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from twisted.python.components import registerAdapter
from zope.interface import implementer

from aiclient2api.conversation.request import Conversation, Media, Remote
from aiclient2api.conversation.tool_names import PLAIN64
from aiclient2api.dialects.affinity import session_of
from aiclient2api.dialects.anthropic_messages.errors import render_error
from aiclient2api.dialects.anthropic_messages.read_reply import MessagesDecoder
from aiclient2api.dialects.anthropic_messages.read_request import read_request
from aiclient2api.dialects.anthropic_messages.request import NAME, MessagesRequest
from aiclient2api.dialects.anthropic_messages.watch import MessagesReader
from aiclient2api.dialects.anthropic_messages.write_messages import fetches_type, is_fetched
from aiclient2api.dialects.anthropic_messages.write_reply import MessagesEncoder
from aiclient2api.dialects.anthropic_messages.write_request import write_request
from aiclient2api.dialects.watching import Watcher, count
from aiclient2api.dialects.wire_request import (
    Fields,
    chosen,
    entry,
    objects,
)
from aiclient2api.errors import GatewayError, InvalidRequest
from aiclient2api.framing.json_text import check, read, write
from aiclient2api.interfaces import (
    IAnthropicMessagesRequest,
    IConversation,
    IDialect,
    IEventDecoder,
    IEventEncoder,
    IReferring,
    IWatcher,
    IWireRequest,
)
from aiclient2api.values import HELD_LIMIT, Endpoint, ModelInfo, Route

_PASSED = (b"anthropic-version", b"anthropic-beta")


@implementer(IDialect, IReferring)
class AnthropicMessages:
    """The dialect itself."""

    name = NAME
    title = "Anthropic Messages"
    request_interface = IAnthropicMessagesRequest
    counts_tokens = True
    comments = True
    name_rule = PLAIN64
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
            session=session_of(headers),
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
            session=route.session,
        )

    def needs_bytes(self, media: Media) -> bool:
        """Say whether an upstream must be given the bytes of media named by address."""
        return (
            isinstance(media, Remote)
            and media.url[:4].lower() == "http"
            and not (is_fetched(media) and fetches_type(media.mime))
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
        reader = MessagesReader(action=request.action, want_text=want_text)
        return Watcher(reader=reader, request=request, content_type=content_type, limit=limit)

    def decoder(self, *, request: IWireRequest) -> IEventDecoder:
        """Return a reader, to be converted, for an upstream's answer to *request*."""
        return MessagesDecoder(action=request.action)

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
        return MessagesEncoder(
            action=request.action,
            model=model,
            make_id=make_id,
            stop=cast(Conversation, conversation).sampling.stop,
        )

    def references(self, request: IWireRequest) -> Sequence[tuple[str, GatewayError]]:
        """Return the ids of containers that *request* names: what code wrote lies in them."""
        fields = cast(MessagesRequest, request).body
        found = []
        for member in fields.members:
            if member.key == "container":
                told = read(fields.text.readable[member.start : member.end])
                found += [told, entry(told, "id")]
        return [
            (id, InvalidRequest(f"Container {id[:100]!r} was not found.", param="container"))
            for id in found
            if isinstance(id, str)
        ]

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

registerAdapter(read_request, IAnthropicMessagesRequest, IConversation)
registerAdapter(write_request, IConversation, IAnthropicMessagesRequest)
