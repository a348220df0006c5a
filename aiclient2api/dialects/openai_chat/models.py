"""
What the models that are served in this dialect take of it, as plain data.

Everybody speaks it, and everybody leaves something else out. Known by the model's name,
whoever serves it: routers and local servers offer the same models. It must never know
what is asked of a model.
"""

from __future__ import annotations

import re

import attrs

# Limits are called max_completion_tokens: https://platform.openai.com/docs/guides/reasoning
_NEW_LIMIT = re.compile(r"o\d|gpt-[5-9]")
# https://platform.openai.com/docs/guides/tools-web-search (Chat Completions)
_SEARCHES = re.compile(r".*search")
# Qwen Code's login knows coder-model and vision-model, which are two of Qwen's.
# https://openrouter.ai/docs/features/prompt-caching and, for Qwen,
# https://www.alibabacloud.com/help/en/model-studio/context-cache
_MARKED = re.compile(r"claude|qwen|(coder|vision)-model$")
# Others refuse fields they do not know: https://platform.openai.com/docs/guides/prompt-caching
_OPENAIS = re.compile(r"gpt-|o\d|chatgpt|codex")
# https://www.alibabacloud.com/help/en/model-studio/qwen-api-reference
_TOP_K = re.compile(r"qwen|qwq|(coder|vision)-model$")
# https://api-docs.deepseek.com/guides/json_mode and
# https://docs.z.ai/guides/capabilities/struct-output
_NO_SCHEMA = re.compile(r"deepseek|glm")
# Their chat template refuses instructions that do not stand first:
# https://huggingface.co/Qwen/Qwen3.5-397B-A17B
_ONE_SYSTEM = re.compile(r"qwen|qwq|(coder|vision)-model$")
# "invalid thinking: only type=enabled is allowed for this model"
_ALWAYS_THINKS = re.compile(r"kimi-(k2-thinking|for-coding|.*code)")
# "parallel_tool_calls is not supported with this model"
_NO_PARALLEL = re.compile(r"o\d")
# Without it Zhipu's calls come in one piece: https://docs.z.ai/guides/tools/stream-tool. Where
# the model's maker stands in front of its name somebody else serves it, and may refuse the
# field: https://github.com/Gitlawb/openclaude/issues/1950
_STREAMS_CALLS = re.compile(r"glm-")


@attrs.frozen
class Model:
    """
    What one model takes.

    :ivar completion_tokens: The limit is called ``max_completion_tokens``.
    :ivar searches: It searches the web if it is given ``web_search_options``.
    :ivar marks: Parts may carry cache markers.
    :ivar cache_key: It may be told which prompts begin alike.
    :ivar top_k: It takes ``top_k``, which is not of this dialect.
    :ivar schemas: It can be held to a JSON Schema.
    :ivar one_system: Instructions stand before everything else, or are refused.
    :ivar always_thinks: Thinking cannot be switched off, and it says so with an error.
    :ivar parallel: It can be told whether to call several tools at once.
    :ivar streams_calls: It streams the arguments of calls if it is told to.
    """

    completion_tokens: bool = False
    searches: bool = False
    marks: bool = False
    cache_key: bool = False
    top_k: bool = False
    schemas: bool = True
    one_system: bool = False
    always_thinks: bool = False
    parallel: bool = True
    streams_calls: bool = False


def model_of(name: str) -> Model:
    """Return what the model of that name takes."""
    plain = name.lower().rpartition("/")[2]
    return Model(
        completion_tokens=_NEW_LIMIT.match(plain) is not None,
        searches=_SEARCHES.match(plain) is not None,
        marks=_MARKED.match(plain) is not None,
        cache_key=_OPENAIS.match(plain) is not None,
        top_k=_TOP_K.match(plain) is not None,
        schemas=_NO_SCHEMA.match(plain) is None,
        one_system=_ONE_SYSTEM.match(plain) is not None,
        always_thinks=_ALWAYS_THINKS.match(plain) is not None,
        parallel=_NO_PARALLEL.match(plain) is None,
        streams_calls=_STREAMS_CALLS.match(name.lower()) is not None,
    )
