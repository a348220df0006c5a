"""
The Anthropic Messages API of anyone who offers it, by API key.

Anthropic itself, and the compatible endpoints of Kimi, GLM, DeepSeek and others. It must
never alter a body, and never pose as another client: what it sends beyond the key is the
API's version and what the caller sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer

from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.dialects.anthropic_messages.models import goes_on
from aiclient2api.errors import InvalidRequest, UpstreamError
from aiclient2api.interfaces import IDialect, IProvider, IProviderFactory, IUpstream, IWireRequest
from aiclient2api.observe.redaction import without_bytes
from aiclient2api.upstream.answers import (
    dressed,
    fetch,
    join,
    not_a_list,
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
from aiclient2api.vendors import traits_of, vendor_of

_BASE = "https://api.anthropic.com"
_PATHS = {"generate": "/messages", "count_tokens": "/messages/count_tokens"}
_VERSION = ((b"anthropic-version", b"2023-06-01"),)


@attrs.frozen(repr=False)
class ClaudeSettings:
    """Where it is and with which key; without a repr, so that no key is printed."""

    claude_api_key: str | None = setting(kind="secret", help="API key.")
    claude_base_url: str = setting(
        kind="url",
        default=_BASE,
        help="Base URL, with or without its version: /v1 is added where none is written.",
    )
    claude_auth_header: str = setting(
        kind="choice",
        default="x-api-key",
        choices=("x-api-key", "bearer", "both"),
        help="How the key is sent; some vendors want a Bearer token.",
    )


@implementer(IProvider)
@attrs.frozen
class ClaudeCustom:
    """An Anthropic Messages upstream under one configured name."""

    name: str
    upstream: IUpstream
    clock: Clock
    known_models: tuple[str, ...] = ()
    dialect: IDialect = ANTHROPIC_MESSAGES
    counts_tokens: bool = True

    def traits(self, *, model: str) -> Traits:
        """Say what is peculiar to *model*."""
        return attrs.evolve(traits_of(model), prefill=goes_on(model))

    def prepare(self, *, request: IWireRequest, account: Account) -> UpstreamRequest:
        """Dress *request* for ``/v1/messages`` or ``/v1/messages/count_tokens``."""
        if request.action not in _PATHS:
            raise InvalidRequest(
                f"{self.name} cannot do {request.action}: the Anthropic Messages API has no "
                "such call."
            )
        streaming = request.streaming and request.framing == "sse"
        own = (
            (b"content-type", b"application/json"),
            (b"accept", b"text/event-stream" if streaming else b"application/json"),
            *_auth(account),
        )
        if not any(name == b"anthropic-version" for name, _ in request.headers):
            own += _VERSION
        return UpstreamRequest(
            method="POST",
            url=_url(account, _PATHS[request.action], request.query),
            headers=dressed(own, request.headers),
            body=request.to_bytes(),
            account=account.id,
            proxy=account.proxy,
        )

    def classify(self, *, status: int, headers: Headers, body: bytes) -> UpstreamError:
        """Say what an error answer means."""
        return upstream_error(
            provider=self.name,
            status=status,
            headers=headers,
            body=body,
            base_key="claude_base_url",
        )

    def models(self, *, account: Account) -> Deferred[Sequence[ModelInfo]]:
        """Ask ``/v1/models``, or return what *account* is said to support."""
        if account.supported:
            return succeed([ModelInfo(id=model) for model in account.supported])
        return Deferred.fromCoroutine(self._ask(account))

    async def _ask(self, account: Account) -> Sequence[ModelInfo]:
        request = UpstreamRequest(
            method="GET",
            url=_url(account, "/models", (("limit", "1000"),)),
            headers=((b"accept", b"application/json"), *_auth(account), *_VERSION),
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
            return self.dialect.read_models(body)
        except ValueError:
            raise not_a_list(self.name, "claude_base_url") from None


def _url(account: Account, path: str, query: Sequence[tuple[str, str]]) -> str:
    base = account.settings.claude_base_url or _BASE
    return join(base, path if versioned(base) else "/v1" + path, query)


def _auth(account: Account) -> Headers:
    key, how = account.settings.claude_api_key, account.settings.claude_auth_header
    if not key:
        return ()
    bearer = (b"authorization", f"Bearer {key}".encode())
    plain = (b"x-api-key", key.encode())
    return {"bearer": (bearer,), "both": (plain, bearer)}.get(how, (plain,))


@implementer(IPlugin, IProviderFactory)
class ClaudeCustomFactory:
    """Makes `ClaudeCustom` providers, with vendor presets for grouped names."""

    name = "claude-custom"
    title = "Anthropic Messages API of any vendor (API key)"
    terms = (
        "API keys are meant for use by programs. Coding plans (Kimi, GLM) may be limited "
        "to the tools their vendor lists: check before use. Tokens of a Claude "
        "subscription are no API keys and have no place here."
    )
    settings = ClaudeSettings
    needs_credential = True

    def provider(self, *, name: str, runtime: Runtime) -> IProvider:
        """Make the provider called *name*."""
        vendor = vendor_of(name, self.name)
        return ClaudeCustom(
            name=name,
            upstream=runtime.upstream,
            clock=runtime.clock,
            known_models=vendor.models if vendor else (),
        )

    def defaults(self, *, name: str) -> Mapping[str, str]:
        """Return the base URL of the vendor that *name* implies, if any."""
        vendor = vendor_of(name, self.name)
        return {"claude_base_url": vendor.messages} if vendor else {}


claude_custom = ClaudeCustomFactory()
