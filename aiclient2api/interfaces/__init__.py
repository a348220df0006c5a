"""
Every seam of the house, a contract each.

Nothing here imports another module of ours but `errors` and `values`. Methods are called with
keywords, always: zope's ``verifyObject`` counts arguments but not their order.
"""

from __future__ import annotations

from aiclient2api.interfaces.dialects import (
    IAnthropicMessagesRequest,
    IConversation,
    IDialect,
    IEventDecoder,
    IEventEncoder,
    IGeminiRequest,
    IOpenAIChatRequest,
    IOpenAIResponsesRequest,
    IReferring,
    IRemembering,
    IWatcher,
    IWireRequest,
)
from aiclient2api.interfaces.front import (
    IClientReply,
    IExchangeObserver,
    IKeyring,
)
from aiclient2api.interfaces.logins import ILoginFlow, ILogins, LoginOption
from aiclient2api.interfaces.state import IStateStore
from aiclient2api.interfaces.upstream import (
    IAccountPool,
    IEnvelope,
    IEnveloping,
    ILease,
    IProvider,
    IProviderFactory,
    IRenewing,
    IUpstream,
    IUpstreamResponse,
)

__all__ = [
    "IAccountPool",
    "IAnthropicMessagesRequest",
    "IClientReply",
    "IConversation",
    "IDialect",
    "IEnvelope",
    "IEnveloping",
    "IEventDecoder",
    "IEventEncoder",
    "IExchangeObserver",
    "IGeminiRequest",
    "IKeyring",
    "ILease",
    "ILoginFlow",
    "ILogins",
    "IOpenAIChatRequest",
    "IOpenAIResponsesRequest",
    "IProvider",
    "IProviderFactory",
    "IReferring",
    "IRemembering",
    "IRenewing",
    "IStateStore",
    "IUpstream",
    "IUpstreamResponse",
    "IWatcher",
    "IWireRequest",
    "LoginOption",
]
