"""
Gemini: what a client asked, as a `Conversation`.

Here are the settings; contents and tools are read in files of their own. It must never know
who is going to answer.
"""

from __future__ import annotations

from aiclient2api.conversation.losses import merged
from aiclient2api.conversation.request import Conversation, OutputFormat, Sampling, Thinking
from aiclient2api.dialects.gemini.read_contents import ContentsIn
from aiclient2api.dialects.gemini.read_schemas import json_schema
from aiclient2api.dialects.gemini.read_tools import read_choice, read_tools
from aiclient2api.dialects.gemini.request import NESTED, GeminiRequest
from aiclient2api.dialects.nodes import Node, camel, code
from aiclient2api.framing.json_text import exact

_READ = (
    "cachedContent",
    "contents",
    "generationConfig",
    "labels",
    "systemInstruction",
    "toolConfig",
    "tools",
)
# The model stands in the URL; what it says here was changed along with it.
_CONSUMED = ("model", *NESTED)
_OLD_SCHEMA = "_responseJsonSchema"
_SETTINGS = (
    "candidateCount",
    "frequencyPenalty",
    "logprobs",
    "maxOutputTokens",
    "presencePenalty",
    camel(_OLD_SCHEMA),
    "responseJsonSchema",
    "responseLogprobs",
    "responseMimeType",
    "responseModalities",
    "responseSchema",
    "seed",
    "stopSequences",
    "temperature",
    "thinkingConfig",
    "topK",
    "topP",
)
_THINKING = ("includeThoughts", "thinkingBudget", "thinkingLevel")
_LEVELS = {
    "MINIMAL": "minimal",
    "LOW": "low",
    "MEDIUM": "medium",
    "HIGH": "high",
    "XHIGH": "xhigh",
}
_UNSPECIFIED = "THINKING_LEVEL_UNSPECIFIED"
_JSON = "application/json"
_PLAIN = ("", "text/plain")


def read_request(request: GeminiRequest) -> Conversation:
    """
    Return what *request* says.

    :raise InvalidRequest: if something that is needed is malformed.
    """
    body = Node(exact(request.body.text.readable))
    if request.action == "count_tokens":
        body = body.object(NESTED[0]) or body
    contents, settings = ContentsIn(), _Settings(body)
    system = contents.system(body)
    turns = contents.turns(body)
    tools, dropped_tools = read_tools(body)
    choice, dropped_choice = read_choice(body)
    labels = body.object("labels")
    return Conversation(
        model=request.model,
        streaming=request.streaming,
        turns=turns,
        system=system,
        tools=tools,
        tool_choice=choice,
        sampling=settings.sampling(),
        output=settings.output(),
        thinking=settings.thinking(),
        metadata=labels.members if labels is not None and labels.members else None,
        action=request.action,
        dropped=merged(
            settings.unread(), settings.dropped, contents.dropped, dropped_tools, dropped_choice
        ),
    )


class _Settings:
    """
    Reads the settings of a request.

    :ivar dropped: Codes of what no other dialect has a word for.
    """

    def __init__(self, body: Node) -> None:
        self.dropped: list[str] = []
        self._body = body
        self._config = body.object("generationConfig") or Node({}, "generationConfig")

    def sampling(self) -> Sampling:
        """Return how tokens are to be chosen."""
        config = self._config
        if (config.whole("candidateCount") or 1) > 1:
            self.dropped.append("n")
        told = config.whole("logprobs") if config.flag("responseLogprobs") else None
        return Sampling(
            max_tokens=config.whole("maxOutputTokens"),
            temperature=config.real("temperature"),
            top_p=config.real("topP"),
            top_k=config.whole("topK"),
            stop=config.texts("stopSequences"),
            seed=config.whole("seed"),
            presence_penalty=config.real("presencePenalty"),
            frequency_penalty=config.real("frequencyPenalty"),
            logprobs=(told or 0) if config.flag("responseLogprobs") else None,
        )

    def output(self) -> OutputFormat | None:
        """Return the form the answer must have."""
        config = self._config
        modalities = [name.upper() for name in config.texts("responseModalities")]
        if set(modalities) - {"TEXT"}:
            self.dropped.append("field:responseModalities")
        mime = config.text("responseMimeType").lower()
        if mime not in (_JSON, *_PLAIN):
            self.dropped.append("field:responseMimeType")
            return None
        schema = config.object("responseJsonSchema") or config.object(_OLD_SCHEMA)
        if schema is not None:
            return OutputFormat(schema=schema.members)
        schema = config.object("responseSchema")
        if schema is not None:
            return OutputFormat(schema=json_schema(schema.members))
        return OutputFormat() if mime == _JSON else None

    def thinking(self) -> Thinking | None:
        """Return how much to think: a budget, a level, or neither."""
        config = self._config.object("thinkingConfig")
        if config is None:
            return None
        level = config.get("thinkingLevel") or _UNSPECIFIED
        # A number means nothing: they changed from one version of the API to the next.
        effort = _LEVELS.get(level.upper()) if isinstance(level, str) else None
        if effort is None and level != _UNSPECIFIED:
            self.dropped.append("field:thinkingLevel")
        budget, shown = config.whole("thinkingBudget"), config.flag("includeThoughts")
        self.dropped += [
            code("field", f"thinkingConfig.{key}") for key in config.told() if key not in _THINKING
        ]
        if effort is None and budget is None and shown is None:
            return None
        return Thinking(effort=effort, budget=budget, shown=shown)

    def unread(self) -> list[str]:
        """Return codes of the fields that nothing here reads."""
        codes = [code("field", key) for key in self._body.told() if key not in (*_READ, *_CONSUMED)]
        if self._body.get("cachedContent") is not None:
            codes.append("cached_content")
        codes += [code("field", key) for key in self._config.told() if key not in _SETTINGS]
        return codes
