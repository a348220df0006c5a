"""
The Gemini API by API key, as Google offers it to developers.

The sanctioned way to Gemini: a key of one's own, no borrowed login. It must never alter
a body, and knows nothing of Code Assist, which wraps the same dialect in an envelope.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer

from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.errors import InvalidRequest, UpstreamError
from aiclient2api.interfaces import IDialect, IProvider, IProviderFactory, IUpstream, IWireRequest
from aiclient2api.observe.redaction import without_bytes
from aiclient2api.upstream.answers import (
    dressed,
    fetch,
    join,
    not_a_list,
    path_segment,
    versioned,
)
from aiclient2api.upstream.faults import upstream_error
from aiclient2api.values import (
    Account,
    Clock,
    Headers,
    ModelInfo,
    Runtime,
    Traits,
    UpstreamRequest,
    setting,
)

_BASE = "https://generativelanguage.googleapis.com/v1beta"
_MOST_PAGES = 10


@attrs.frozen(repr=False)
class GeminiSettings:
    """Where it is and with which key; without a repr, so that no key is printed."""

    gemini_api_key: str | None = setting(
        kind="secret", help="API key of Google AI Studio, sent as x-goog-api-key."
    )
    gemini_api_base_url: str = setting(
        kind="url",
        default=_BASE,
        help="Base URL, with or without its version: /v1beta is added where none is written.",
    )


@implementer(IProvider)
@attrs.frozen
class GeminiCustom:
    """A Gemini upstream under one configured name."""

    name: str
    upstream: IUpstream
    clock: Clock
    known_models: tuple[str, ...] = ()
    dialect: IDialect = GEMINI
    counts_tokens: bool = True

    def traits(self, *, model: str) -> Traits:
        """Return nothing peculiar: there is one vendor."""
        return Traits()

    def prepare(self, *, request: IWireRequest, account: Account) -> UpstreamRequest:
        """Dress *request* for ``/models/{model}:{verb}``."""
        model = self._path(request.model)
        query = request.query
        streaming = request.streaming and request.framing == "sse"
        if streaming:
            query = (("alt", "sse"), *(pair for pair in query if pair[0] != "alt"))
        own = (
            (b"content-type", b"application/json"),
            (b"accept", b"text/event-stream" if streaming else b"application/json"),
            *_auth(account),
        )
        return UpstreamRequest(
            method="POST",
            url=_url(account, f"/models/{model}:{self._verb(request)}", query),
            headers=dressed(own, request.headers),
            body=request.to_bytes(),
            account=account.id,
            proxy=account.proxy,
        )

    def _path(self, model: str) -> str:
        if {".", ".."} & set(model.replace("\\", "/").split("/")):
            raise InvalidRequest(
                f"{self.name} has no model of that name: a model id has no '..' in it.",
                code="model_not_found",
                param="model",
            )
        return path_segment(model.removeprefix("models/"))

    def _verb(self, request: IWireRequest) -> str:
        if request.action == "count_tokens":
            return "countTokens"
        if request.action == "generate":
            return "streamGenerateContent" if request.streaming else "generateContent"
        raise InvalidRequest(
            f"{self.name} cannot do {request.action}: the Gemini API has no such call."
        )

    def classify(self, *, status: int, headers: Headers, body: bytes) -> UpstreamError:
        """Say what an error answer means."""
        return upstream_error(
            provider=self.name,
            status=status,
            headers=headers,
            body=body,
            base_key="gemini_api_base_url",
        )

    def models(self, *, account: Account) -> Deferred[Sequence[ModelInfo]]:
        """Ask ``/models`` page by page, or return what *account* is said to support."""
        if account.supported:
            return succeed([ModelInfo(id=model) for model in account.supported])
        return Deferred.fromCoroutine(self._ask(account))

    async def _ask(self, account: Account) -> Sequence[ModelInfo]:
        found: list[ModelInfo] = []
        token = ""
        # Bounded: a token that never ends would keep us asking.
        for _ in range(_MOST_PAGES):
            query = (("pageSize", "1000"), *((("pageToken", token),) if token else ()))
            request = UpstreamRequest(
                method="GET",
                url=_url(account, "/models", query),
                headers=((b"accept", b"application/json"), *_auth(account)),
                account=account.id,
                proxy=account.proxy,
            )
            body = await fetch(
                provider=self,
                request=request,
                clean=partial(without_bytes, secrets=account.secrets),
                clock=self.clock,
            )
            try:
                found.extend(self.dialect.read_models(body))
                token = json.loads(body).get("nextPageToken") or ""
            except (ValueError, AttributeError):
                raise not_a_list(self.name, "gemini_api_base_url") from None
            if not token or not isinstance(token, str):
                break
        return found


def _url(account: Account, path: str, query: Sequence[tuple[str, str]]) -> str:
    base = account.settings.gemini_api_base_url or _BASE
    return join(base, path if versioned(base) else "/v1beta" + path, query)


def _auth(account: Account) -> Headers:
    key = account.settings.gemini_api_key
    return ((b"x-goog-api-key", key.encode()),) if key else ()


@implementer(IPlugin, IProviderFactory)
class GeminiCustomFactory:
    """Makes `GeminiCustom` providers."""

    name = "gemini-custom"
    title = "Gemini API (API key)"
    terms = "API keys of Google AI Studio or Google Cloud are meant for use by programs."
    settings = GeminiSettings
    needs_credential = True

    def provider(self, *, name: str, runtime: Runtime) -> IProvider:
        """Make the provider called *name*."""
        return GeminiCustom(name=name, upstream=runtime.upstream, clock=runtime.clock)

    def defaults(self, *, name: str) -> Mapping[str, str]:
        """Return nothing: there is one vendor."""
        return {}


gemini_custom = GeminiCustomFactory()
