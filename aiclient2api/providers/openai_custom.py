"""
The OpenAI Chat Completions API of anyone who offers it, by API key.

OpenAI itself, Kimi, GLM, DeepSeek, OpenRouter, a llama.cpp on this machine: they differ
by base URL only, and an empty key is fine where the upstream asks for none.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.plugin import IPlugin
from zope.interface import implementer

from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.interfaces import IProvider, IProviderFactory
from aiclient2api.providers._openai_api import OpenAIAPI, OpenAISettings
from aiclient2api.values import Runtime
from aiclient2api.vendors import vendor_of


@implementer(IPlugin, IProviderFactory)
class OpenAICustomFactory:
    """Makes providers of this kind, with vendor presets for grouped names."""

    name = "openai-custom"
    title = "OpenAI Chat Completions API of any vendor (API key)"
    terms = (
        "API keys are meant for use by programs. Coding plans (Kimi, GLM) may be limited "
        "to the tools their vendor lists: check before use."
    )
    settings = OpenAISettings
    needs_credential = True

    def provider(self, *, name: str, runtime: Runtime) -> IProvider:
        """Make the provider called *name*."""
        vendor = vendor_of(name, self.name)
        return OpenAIAPI(
            name=name,
            upstream=runtime.upstream,
            clock=runtime.clock,
            dialect=OPENAI_CHAT,
            path="/chat/completions",
            known_models=vendor.models if vendor else (),
        )

    def defaults(self, *, name: str) -> Mapping[str, str]:
        """Return the base URL of the vendor that *name* implies, if any."""
        vendor = vendor_of(name, self.name)
        return {"openai_base_url": vendor.chat} if vendor else {}


openai_custom = OpenAICustomFactory()
