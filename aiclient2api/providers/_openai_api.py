"""
What OpenAI's two APIs have in common: settings, headers, errors, the model list.

One key opens both, so they share their settings' names, too. It must never alter a
body, and never know how many accounts there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from aiclient2api.errors import InvalidRequest, UpstreamError
from aiclient2api.interfaces import (
    IDialect,
    IProvider,
    IRemembering,
    IUpstream,
    IWireRequest,
)
from aiclient2api.observe.redaction import without_bytes
from aiclient2api.upstream.answers import dressed, fetch, join, not_a_list, path_segment
from aiclient2api.upstream.faults import upstream_error
from aiclient2api.values import (
    Account,
    Clock,
    Headers,
    ModelInfo,
    Traits,
    UpstreamRequest,
    setting,
)
from aiclient2api.vendors import traits_of, vendor_of

_BASE = "https://api.openai.com/v1"
_KEPT = {"stored": "GET", "forget": "DELETE"}


@attrs.frozen(repr=False)
class OpenAISettings:
    """Where it is and with which key; without a repr, so that no key is printed."""

    openai_api_key: str | None = setting(
        kind="secret", help="API key, sent as a Bearer token; may be empty for a local server."
    )
    openai_base_url: str = setting(
        kind="url",
        default=_BASE,
        help="Base URL with its version, such as https://api.openai.com/v1.",
    )


@implementer(IProvider)
@attrs.frozen
class OpenAIAPI:
    """
    An upstream under one configured name.

    :ivar dialect: The one of OpenAI's two dialects that it is asked in.
    :ivar path: Where that is, behind the base URL.
    """

    name: str
    upstream: IUpstream
    clock: Clock
    dialect: IDialect
    path: str
    known_models: tuple[str, ...] = ()
    counts_tokens: bool = False

    def traits(self, *, model: str) -> Traits:
        """Say what is peculiar to *model*."""
        traits, vendor = traits_of(model), vendor_of(self.name, "openai-custom")
        if vendor is not None and model.lower().startswith(vendor.partial):
            # Only where the vendor itself is asked: others would not know the mark.
            traits = attrs.evolve(traits, prefill=True)
        return traits

    def prepare(self, *, request: IWireRequest, account: Account) -> UpstreamRequest:
        """Dress *request* for the wire."""
        if request.action in _KEPT and IRemembering.providedBy(self.dialect):
            return self._request(
                account,
                _KEPT[request.action],
                join(_base(account), f"{self.path}/{path_segment(request.model)}", request.query),
                dressed(((b"accept", b"application/json"), *_auth(account)), request.headers),
            )
        if request.action != "generate":
            raise InvalidRequest(
                f"{self.name} cannot do {request.action}: the {self.dialect.title} API has no "
                "such call. Ask for an answer instead."
            )
        streaming = request.streaming and request.framing == "sse"
        own = (
            (b"content-type", b"application/json"),
            (b"accept", b"text/event-stream" if streaming else b"application/json"),
        )
        return self._request(
            account,
            "POST",
            join(_base(account), self.path, request.query),
            dressed(own + _auth(account), request.headers),
            request.to_bytes(),
        )

    def classify(self, *, status: int, headers: Headers, body: bytes) -> UpstreamError:
        """Say what an error answer means."""
        return upstream_error(
            provider=self.name,
            status=status,
            headers=headers,
            body=body,
            base_key="openai_base_url",
        )

    def models(self, *, account: Account) -> Deferred[Sequence[ModelInfo]]:
        """Ask ``{base}/models``, or return what *account* is said to support."""
        if account.supported:
            return succeed([ModelInfo(id=model) for model in account.supported])
        return Deferred.fromCoroutine(self._ask(account))

    async def _ask(self, account: Account) -> Sequence[ModelInfo]:
        headers = ((b"accept", b"application/json"), *_auth(account))
        request = self._request(account, "GET", join(_base(account), "/models"), headers)
        body = await fetch(
            provider=self,
            request=request,
            clean=partial(without_bytes, secrets=account.secrets),
            clock=self.clock,
        )
        try:
            return self.dialect.read_models(body)
        except ValueError:
            raise not_a_list(self.name, "openai_base_url") from None

    def _request(
        self, account: Account, method: str, url: str, headers: Headers, body: bytes | None = None
    ) -> UpstreamRequest:
        return UpstreamRequest(
            method=method,
            url=url,
            headers=headers,
            body=body,
            account=account.id,
            proxy=account.proxy,
        )


def _base(account: Account) -> str:
    return account.settings.openai_base_url or _BASE


def _auth(account: Account) -> Headers:
    key = account.settings.openai_api_key
    return ((b"authorization", f"Bearer {key}".encode()),) if key else ()
