"""
Gemini: a `Conversation` as a request for Google.

Here are the settings and the tools; the contents are written in `write_contents`. It must
never know who asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiclient2api.conversation import tool_names
from aiclient2api.conversation.losses import merged
from aiclient2api.conversation.request import Conversation, Sampling, Tool, ToolChoice
from aiclient2api.conversation.tools import as_function
from aiclient2api.conversation.turns import hoisted, settled
from aiclient2api.dialects.gemini.request import NESTED, SSE_QUERY, GeminiRequest
from aiclient2api.dialects.gemini.schemas import OUTPUT, Budget, for_gemini
from aiclient2api.dialects.gemini.thinking import model_of, thinking_config
from aiclient2api.dialects.gemini.write_contents import ContentsOut
from aiclient2api.dialects.nodes import code
from aiclient2api.dialects.wire_request import composed
from aiclient2api.errors import InvalidRequest

_MOST_STOPS = 5
_MOST_TEMPERATURE = 2
_SAFETY = [
    {"category": category, "threshold": threshold}
    for category, threshold in (
        ("HARM_CATEGORY_HARASSMENT", "OFF"),
        ("HARM_CATEGORY_HATE_SPEECH", "OFF"),
        ("HARM_CATEGORY_SEXUALLY_EXPLICIT", "OFF"),
        ("HARM_CATEGORY_DANGEROUS_CONTENT", "OFF"),
        ("HARM_CATEGORY_CIVIC_INTEGRITY", "BLOCK_NONE"),
    )
]
"""
What a converted request says of Google's filters.

Clients of other dialects cannot set them, and their own vendors have no such filters: code
that only looks dangerous would be cut in mid-sentence. Filters that cannot be set remain, and
Gemini's own clients say what they want.
"""


def write_request(conversation: Conversation) -> GeminiRequest:
    """
    Return the request that says *conversation*.

    :raise InvalidRequest: if nothing is said in it, or Google cannot read its media.
    """
    counting = conversation.action == "count_tokens"
    named = tool_names.renamed(conversation, tool_names.GEMINI)
    front, moved = hoisted(named)
    turns = settled(front.turns)
    out, settings = ContentsOut(counting=counting), _Settings(front)
    document: dict[str, Any] = {}
    system = out.system(front.system)
    if system is not None:
        document["systemInstruction"] = system
    document["contents"] = out.contents(turns.turns)
    if not document["contents"]:
        raise InvalidRequest(
            "The conversation says nothing that this model could answer; send at least one"
            " message of the user's that is not empty.",
            code="empty_conversation",
        )
    document.update(settings.tools())
    if counting:
        document = {NESTED[0]: {"model": f"models/{conversation.model}", **document}}
    else:
        document["safetySettings"] = _SAFETY
        config = settings.generation()
        if config:
            document["generationConfig"] = config
    losses = merged(named.dropped, moved, turns.losses, out.lost, settings.lost)
    return GeminiRequest(
        body=composed(document),
        model=conversation.model,
        streaming=conversation.streaming,
        framing="sse" if conversation.streaming else "whole",
        action=conversation.action,
        query=SSE_QUERY if conversation.streaming else (),
        losses=losses,
    )


# How other vendors' searches are narrowed; Google's takes no such options.
_SEARCH_OPTIONS = (
    "max_uses",
    "search_context_size",
    "allowed_domains",
    "blocked_domains",
    "user_location",
)


class _Settings:
    """
    Writes the tools and the settings of a request.

    :ivar lost: Codes of `aiclient2api.conversation.losses`.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.lost: list[str] = []
        self._conversation = conversation
        self._model = model_of(conversation.model)
        self._budget = Budget()

    def tools(self) -> dict[str, Any]:
        """Return ``tools`` and ``toolConfig``, as far as there is anything to say."""
        conversation = self._conversation
        choice = conversation.tool_choice
        # Google limits calls to some of the tools only where one of them must be called.
        only = choice.allowed if choice is not None and choice.mode == "auto" else ()
        declared: dict[str, Any] = {}
        searches = False
        for tool in conversation.tools:
            if tool.cache is not None:
                self.lost.append("cache_control")
            if tool.kind == "web_search":
                searches = True
            elif not only or tool.name in only:
                declared[tool.name] = self._declared(tool)
        document: dict[str, Any] = {}
        if declared:
            document["tools"] = [{"functionDeclarations": list(declared.values())}]
            if searches:
                # Most models take either the one or the other.
                self.lost.append("tool:web_search")
        elif searches:
            document["tools"] = [{"googleSearch": {}}]
            self.lost += _narrowed(conversation.tools)
        calling = self._choice(choice, declared)
        if calling:
            document["toolConfig"] = {"functionCallingConfig": calling}
        if conversation.parallel is False and declared:
            self.lost.append("parallel_tool_calls")
        return document

    def _declared(self, tool: Tool) -> dict[str, Any]:
        function, lost = as_function(tool)
        self.lost += lost
        declared: dict[str, Any] = {"name": tool.name}
        if function.description:
            declared["description"] = function.description
        if function.parameters is not None:
            schema, changed = for_gemini(function.parameters, budget=self._budget)
            declared["parametersJsonSchema"] = schema
            if changed:
                self.lost.append("schema")
        if function.strict:
            self.lost.append("strict")
        return declared

    def _choice(self, choice: ToolChoice | None, declared: Mapping[str, Any]) -> dict[str, Any]:
        if choice is None:
            return {}
        if not declared:
            if choice.mode in ("required", "named"):
                self.lost.append("tool_choice")
            return {}
        if choice.mode in ("auto", "none"):
            return {"mode": choice.mode.upper()}
        allowed = choice.allowed[:1] if choice.mode == "named" else choice.allowed
        known = [name for name in allowed if name in declared]
        if len(known) < len(allowed):
            self.lost.append("tool_choice")
        if allowed and not known:
            return {}
        return {"mode": "ANY", "allowedFunctionNames": known} if known else {"mode": "ANY"}

    def generation(self) -> dict[str, Any]:
        """Return ``generationConfig``."""
        conversation = self._conversation
        sampling = conversation.sampling
        config: dict[str, Any] = {**self._sampling(sampling), **self._output()}
        thinking, lost = thinking_config(conversation.thinking, self._model, sampling.max_tokens)
        self.lost += lost
        if thinking is not None:
            config["thinkingConfig"] = thinking
        for name, value in (
            ("user", conversation.user),
            ("metadata", conversation.metadata),
            ("prompt_cache_key", conversation.cache_key),
        ):
            if value:
                self.lost.append(name)
        return config

    def _sampling(self, sampling: Sampling) -> dict[str, Any]:
        temperature, seed = sampling.temperature, sampling.seed
        if temperature is not None and temperature > _MOST_TEMPERATURE:
            self.lost.append("temperature")
            temperature = _MOST_TEMPERATURE
        if seed is not None and not -(1 << 31) <= seed < 1 << 31:
            # An int32 on Google's wire.
            self.lost.append("seed")
            seed = None
        if sampling.logprobs is not None:
            self.lost.append("logprobs")
        told: Sequence[tuple[str, Any]] = (
            ("maxOutputTokens", sampling.max_tokens),
            ("temperature", temperature),
            ("topP", sampling.top_p),
            ("topK", sampling.top_k),
            ("stopSequences", self._stops(sampling.stop)),
            ("seed", seed),
            ("presencePenalty", sampling.presence_penalty),
            ("frequencyPenalty", sampling.frequency_penalty),
        )
        return {name: value for name, value in told if value is not None}

    def _stops(self, stops: Sequence[str]) -> list[str] | None:
        given = [stop for stop in stops if stop]
        if len(given) > _MOST_STOPS:
            self.lost.append("stop")
        return given[:_MOST_STOPS] or None

    def _output(self) -> dict[str, Any]:
        output = self._conversation.output
        if output is None:
            return {}
        if self._conversation.tools and not self._model.json_with_tools:
            self.lost.append("output_format")
            return {}
        config: dict[str, Any] = {"responseMimeType": "application/json"}
        if output.schema is not None:
            schema, changed = for_gemini(output.schema, accepted=OUTPUT, budget=self._budget)
            config["responseJsonSchema"] = schema
            if changed:
                self.lost.append("schema")
        return config


def _narrowed(tools: Sequence[Tool]) -> Iterator[str]:
    """Yield the codes of what searches among *tools* were told beyond that they may run."""
    for tool in tools:
        if tool.kind == "web_search":
            raw = tool.raw or {}
            filters = raw.get("filters")
            places = (raw, filters if isinstance(filters, Mapping) else {})
            for key in _SEARCH_OPTIONS:
                if any(place.get(key) for place in places):
                    yield code("field", f"{tool.kind}.{key}")
