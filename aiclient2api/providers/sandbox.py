"""
A provider that answers without any account, for trying a client against the gateway.

It speaks Chat Completions through an upstream in memory, so that the same exchange and
relay serve it as any other: nothing outside this folder knows that it is not real. Its
failing models (``sandbox-429``, ``sandbox-cut``, ...) show a client what trouble is like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer

from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.errors import InvalidRequest, UpstreamError
from aiclient2api.interfaces import IDialect, IProvider, IProviderFactory, IUpstream, IWireRequest
from aiclient2api.providers._sandbox_answer import MODELS
from aiclient2api.providers._sandbox_script import CREATED
from aiclient2api.providers._sandbox_wire import SandboxUpstream
from aiclient2api.upstream.answers import dressed
from aiclient2api.upstream.faults import upstream_error
from aiclient2api.values import Account, Headers, ModelInfo, Runtime, Traits, UpstreamRequest

_URL = "http://sandbox.invalid/v1/chat/completions"


@attrs.frozen
class SandboxSettings:
    """Nothing to set."""


@implementer(IProvider)
@attrs.frozen
class Sandbox:
    """The sandbox under one configured name."""

    name: str
    upstream: IUpstream
    known_models: tuple[str, ...] = MODELS
    dialect: IDialect = OPENAI_CHAT
    counts_tokens: bool = False

    def traits(self, *, model: str) -> Traits:
        """Return nothing peculiar."""
        return Traits()

    def prepare(self, *, request: IWireRequest, account: Account) -> UpstreamRequest:
        """Dress *request* as for a real upstream."""
        if request.action != "generate":
            raise InvalidRequest(
                f"{self.name} cannot do {request.action}: the OpenAI Chat Completions API "
                "has no such call. Ask for a completion instead."
            )
        accept = b"text/event-stream" if request.streaming else b"application/json"
        own = ((b"content-type", b"application/json"), (b"accept", accept))
        return UpstreamRequest(
            method="POST",
            url=_URL,
            headers=dressed(own, request.headers),
            body=request.to_bytes(),
            account=account.id,
        )

    def classify(self, *, status: int, headers: Headers, body: bytes) -> UpstreamError:
        """Say what an error answer means."""
        return upstream_error(
            provider=self.name, status=status, headers=headers, body=body, base_key="the sandbox"
        )

    def models(self, *, account: Account) -> Deferred[Sequence[ModelInfo]]:
        """Return all models, or those *account* is said to support."""
        return succeed(
            [
                ModelInfo(id=model, owned_by="sandbox", created=CREATED)
                for model in account.supported or self.known_models
            ]
        )


@implementer(IPlugin, IProviderFactory)
class SandboxFactory:
    """Makes `Sandbox` providers, each with an upstream of its own."""

    name = "sandbox"
    title = "Built-in sandbox: made-up answers, no account needed"
    terms = "None: nothing leaves this machine."
    settings = SandboxSettings
    needs_credential = False

    def provider(self, *, name: str, runtime: Runtime) -> IProvider:
        """Make the provider called *name*."""
        return Sandbox(name=name, upstream=SandboxUpstream(runtime.clock))

    def defaults(self, *, name: str) -> Mapping[str, str]:
        """Return nothing: there is nothing to set."""
        return {}


sandbox = SandboxFactory()
