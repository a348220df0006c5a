"""The OpenAI Responses API of anyone who offers it, by API key."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.plugin import IPlugin
from zope.interface import implementer

from aiclient2api.dialects.openai_responses import OPENAI_RESPONSES
from aiclient2api.interfaces import IProvider, IProviderFactory
from aiclient2api.providers._openai_api import OpenAIAPI, OpenAISettings
from aiclient2api.values import Runtime


@implementer(IPlugin, IProviderFactory)
class ResponsesCustomFactory:
    """Makes providers of this kind."""

    name = "openaiResponses-custom"
    title = "OpenAI Responses API of any vendor (API key)"
    terms = "API keys are meant for use by programs."
    settings = OpenAISettings
    needs_credential = True

    def provider(self, *, name: str, runtime: Runtime) -> IProvider:
        """Make the provider called *name*."""
        return OpenAIAPI(
            name=name,
            upstream=runtime.upstream,
            clock=runtime.clock,
            dialect=OPENAI_RESPONSES,
            path="/responses",
        )

    def defaults(self, *, name: str) -> Mapping[str, str]:
        """Return nothing: no vendor preset offers this dialect."""
        return {}


openai_responses_custom = ResponsesCustomFactory()
