"""
What is known of well-known vendors, as plain data: addresses, model ids, peculiarities.

A grouped provider named after one of them (``openai-custom-kimi``) starts from its
entry; explicit settings win. These are tables and must never grow behaviour: how to
speak to a vendor is the business of the provider and its dialect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import attrs

from aiclient2api.values import Traits


@attrs.frozen
class Vendor:
    """
    One vendor, or one of its plans or regions.

    :ivar title: For people.
    :ivar chat: Base URL of the OpenAI Chat Completions dialect.
    :ivar messages: Base URL of the Anthropic Messages dialect.
    :ivar models: Model ids known without asking; empty where there are too many.
    :ivar partial: How the names of models begin that go on with a message of their own which
        is marked as partial, in the Chat Completions dialect.
    """

    title: str
    chat: str
    messages: str
    models: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()


_KIMI_MODELS = (
    "kimi-k2-0711-preview",
    "kimi-k2-0905-preview",
    "kimi-k2-turbo-preview",
    "kimi-k2-thinking",
    "kimi-k2.5",
    "kimi-k2.6",
    "kimi-k2.7-code",
    "moonshot-v1-8k",
    "moonshot-v1-32k",
    "moonshot-v1-128k",
)

# https://platform.moonshot.ai/docs/guide/use-partial-mode-feature-of-kimi-api: not those that
# think.
_KIMI_PARTIAL = ("moonshot-v1-", "kimi-k2-0711", "kimi-k2-0905", "kimi-k2-turbo")

_GLM_MODELS = (
    "glm-4.5",
    "glm-4.5-air",
    "glm-4.5-x",
    "glm-4.5-airx",
    "glm-4.5-flash",
    "glm-4.5v",
    "glm-4.6",
    "glm-4.7",
    "glm-5",
)

VENDORS: Mapping[str, Vendor] = MappingProxyType(
    {
        "kimi": Vendor(
            "Moonshot AI (Kimi), global",
            "https://api.moonshot.ai/v1",
            "https://api.moonshot.ai/anthropic",
            _KIMI_MODELS,
            _KIMI_PARTIAL,
        ),
        "kimi-cn": Vendor(
            "Moonshot AI (Kimi), China",
            "https://api.moonshot.cn/v1",
            "https://api.moonshot.cn/anthropic",
            _KIMI_MODELS,
            _KIMI_PARTIAL,
        ),
        "kimi-coding": Vendor(
            "Kimi coding plan",
            "https://api.kimi.com/coding/v1",
            "https://api.kimi.com/coding",
            ("kimi-for-coding",),
        ),
        "glm": Vendor(
            "Z.ai (GLM), global",
            "https://api.z.ai/api/paas/v4",
            "https://api.z.ai/api/anthropic",
            _GLM_MODELS,
        ),
        "glm-cn": Vendor(
            "Zhipu (GLM), China",
            "https://open.bigmodel.cn/api/paas/v4",
            "https://open.bigmodel.cn/api/anthropic",
            _GLM_MODELS,
        ),
        "glm-coding": Vendor(
            "Z.ai (GLM) coding plan, global",
            "https://api.z.ai/api/coding/paas/v4",
            "https://api.z.ai/api/anthropic",
            _GLM_MODELS,
        ),
        "glm-coding-cn": Vendor(
            "Zhipu (GLM) coding plan, China",
            "https://open.bigmodel.cn/api/coding/paas/v4",
            "https://open.bigmodel.cn/api/anthropic",
            _GLM_MODELS,
        ),
        "deepseek": Vendor(
            "DeepSeek",
            "https://api.deepseek.com/v1",
            "https://api.deepseek.com/anthropic",
            ("deepseek-chat", "deepseek-reasoner"),
        ),
        "minimax": Vendor(
            "MiniMax, global",
            "https://api.minimax.io/v1",
            "https://api.minimax.io/anthropic",
        ),
        "openrouter": Vendor(
            "OpenRouter",
            "https://openrouter.ai/api/v1",
            "https://openrouter.ai/api",
        ),
        "dashscope": Vendor(
            "Alibaba Cloud Model Studio (DashScope), China",
            "https://dashscope.aliyuncs.com/compatible-mode/v1",
            "https://dashscope.aliyuncs.com/apps/anthropic",
        ),
        "dashscope-intl": Vendor(
            "Alibaba Cloud Model Studio (DashScope), international",
            "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
            "https://dashscope-intl.aliyuncs.com/apps/anthropic",
        ),
    }
)
"""Suffix of a grouped name to vendor."""


# By the model, not by the address: routers and local servers offer the same models.
_PECULIARITIES: tuple[tuple[str, Traits], ...] = (
    # https://platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model
    (
        r"kimi",
        Traits(
            thinking="switch",
            reasoning_with_calls=True,
            replays_reasoning=True,
            family="kimi",
        ),
    ),
    # https://docs.z.ai/guides/capabilities/thinking and .../tool-calls
    (
        r"glm",
        Traits(thinking="switch", auto_tools_only=True, replays_reasoning=True, family="glm"),
    ),
    # https://api-docs.deepseek.com/guides/thinking_mode
    (r"deepseek", Traits(thinking="switch", replays_reasoning=True, family="deepseek")),
    # https://www.alibabacloud.com/help/en/model-studio/deep-thinking
    (r"qwen|qwq|(coder|vision)-model$", Traits(thinking="enable", family="qwen")),
    (r"minimax", Traits(family="minimax")),
    (r"moonshot-v1", Traits(thinking="none", family="kimi")),
    # These answer 400 to a wish to think.
    (r"gpt-3|gpt-4|chatgpt-4", Traits(thinking="none")),
)


def traits_of(model: str) -> Traits:
    """Return what is peculiar to whoever serves *model*, by the model's own name."""
    name = model.lower().rpartition("/")[2]
    return next((told for start, told in _PECULIARITIES if re.match(start, name)), Traits())


_WINDOWS: Mapping[str, int] = MappingProxyType(
    {
        # https://platform.openai.com/docs/models
        "gpt-3.5-turbo": 16_385,
        "gpt-4-turbo": 128_000,
        "gpt-4o": 128_000,
        "chatgpt-4o": 128_000,
        "gpt-4.1": 1_047_576,
        "gpt-5": 400_000,
        "gpt-5-chat": 128_000,
        "gpt-oss": 131_072,
        "o1": 200_000,
        "o1-mini": 128_000,
        "o1-preview": 128_000,
        "o3": 200_000,
        "o4-mini": 200_000,
        # https://platform.claude.com/docs/en/build-with-claude/context-windows: some have
        # more than this, but not for every account.
        "claude-": 200_000,
        # https://ai.google.dev/gemini-api/docs/models
        "gemini-1.5-": 1_048_576,
        "gemini-1.5-pro": 2_097_152,
        "gemini-2.": 1_048_576,
        "gemini-3": 1_048_576,
        # https://platform.moonshot.ai/docs/pricing/chat
        "kimi-k2": 262_144,
        "kimi-k2-0711": 131_072,
        "kimi-for-coding": 262_144,
        "moonshot-v1-8k": 8_192,
        "moonshot-v1-32k": 32_768,
        "moonshot-v1-128k": 131_072,
        # https://docs.z.ai/guides/overview/overview
        "glm-4.5": 131_072,
        "glm-4.5v": 65_536,
        "glm-4.6": 200_000,
        "glm-4.7": 200_000,
        "glm-5": 200_000,
        # https://www.alibabacloud.com/help/en/model-studio/models
        "qwen3-coder": 262_144,
        "qwen3-coder-plus": 1_000_000,
        "qwen3-coder-flash": 1_000_000,
        "qwen3-max": 262_144,
        # https://api-docs.deepseek.com/quick_start/pricing
        "deepseek-chat": 131_072,
        "deepseek-reasoner": 131_072,
        "deepseek-v3": 131_072,
        "deepseek-r1": 131_072,
        # https://platform.minimax.io/docs/guides/models-intro
        "minimax-m2": 204_800,
    }
)
"""How a model's name begins, and the tokens its context may have; the longest start counts."""


def context_window(model: str) -> int | None:
    """Return how many tokens the context of *model* may have; None if that is not known."""
    name = model.lower().rpartition("/")[2]
    start = max((each for each in _WINDOWS if name.startswith(each)), key=len, default=None)
    return None if start is None else _WINDOWS[start]


def vendor_of(name: str, factory: str) -> Vendor | None:
    """
    Return the vendor that a grouped name implies.

    :param name: A provider's configured name, such as ``openai-custom-kimi``.
    :param factory: The base name it is grouped under, such as ``openai-custom``.
    """
    stem, dash, suffix = name.partition(f"{factory}-")
    return VENDORS.get(suffix) if dash and not stem else None
