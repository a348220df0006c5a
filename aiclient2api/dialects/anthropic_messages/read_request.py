"""
Anthropic Messages: what a client asked, as a `Conversation`.

Here are the settings and the tools; the messages are read in `read_messages`. It must
never know who is going to answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from aiclient2api.conversation.losses import merged
from aiclient2api.conversation.request import (
    Conversation,
    OutputFormat,
    Sampling,
    Thinking,
    Tool,
    ToolChoice,
)
from aiclient2api.dialects.anthropic_messages.errors import NO_THREADS
from aiclient2api.dialects.anthropic_messages.read_messages import MessagesIn, cache_of
from aiclient2api.dialects.anthropic_messages.request import MessagesRequest
from aiclient2api.dialects.nodes import Node, code
from aiclient2api.errors import InvalidRequest
from aiclient2api.framing.json_text import exact

_READ = (
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "stop_sequences",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
)
# `stream` was read before; what is diagnosed of the cache changes no answer.
_CONSUMED = ("diagnostics", "stream")
_TOOL_FIELDS = (
    "cache_control",
    "description",
    # How its calls are streamed.
    "eager_input_streaming",
    "input_schema",
    "name",
    "strict",
    "type",
)
_SEARCH_FIELDS = (
    "allowed_domains",
    "blocked_domains",
    "cache_control",
    "max_uses",
    "name",
    "type",
    "user_location",
)
_AS_EVER = {"allowed_callers": ["direct"], "defer_loading": False, "input_examples": []}
"""What it says of a tool that it is like every other."""
_CHOICES = {"auto": "auto", "any": "required", "tool": "named", "none": "none"}


def read_request(request: MessagesRequest) -> Conversation:
    """
    Return what *request* says.

    :raise InvalidRequest: if something that is needed is malformed.
    """
    body = Node(exact(request.body.text.readable))
    if body.has("thread"):
        raise InvalidRequest(
            "Threads are kept by Anthropic alone, and this model is asked in another way;"
            " send the whole conversation as messages and leave thread out.",
            code=NO_THREADS,
            param="thread",
        )
    reader, settings = MessagesIn(), _Settings()
    system = reader.system(body)
    turns = tuple(reader.turn(message) for message in body.objects("messages"))
    choice, parallel = _tool_choice(body)
    user, metadata = _metadata(body)
    tools = tuple(settings.tools(body.objects("tools")))
    thinking = settings.thinking(body)
    output = settings.output(body)
    settings.unread(body)
    return Conversation(
        model=request.model,
        streaming=request.streaming,
        turns=turns,
        system=system,
        tools=tools,
        tool_choice=choice,
        parallel=parallel,
        sampling=Sampling(
            max_tokens=body.whole("max_tokens"),
            temperature=body.real("temperature"),
            top_p=body.real("top_p"),
            top_k=body.whole("top_k"),
            stop=body.texts("stop_sequences"),
        ),
        output=output,
        thinking=thinking,
        user=user,
        metadata=metadata,
        action=request.action,
        dropped=merged(reader.dropped, settings.dropped),
    )


class _Settings:
    """
    Reads the settings of a request.

    :ivar dropped: Codes of what no other dialect has a word for.
    """

    def __init__(self) -> None:
        self.dropped: list[str] = []

    def tools(self, nodes: Iterable[Node]) -> Iterable[Tool]:
        """Yield the tools; those that only Anthropic knows how to use are left out."""
        for tool in nodes:
            kind = tool.text("type") or "custom"
            if kind == "custom":
                self._unread_tool(tool, _TOOL_FIELDS)
                schema = tool.object("input_schema")
                yield Tool(
                    "function",
                    tool.name("name"),
                    tool.text("description"),
                    parameters=schema.members if schema is not None else None,
                    strict=tool.flag("strict"),
                    cache=cache_of(tool),
                    raw=tool.members,
                )
            elif kind.startswith("web_search_"):
                self._unread_tool(tool, _SEARCH_FIELDS)
                yield Tool(
                    "web_search",
                    tool.text("name") or "web_search",
                    cache=cache_of(tool),
                    raw=tool.members,
                )
            else:
                self.dropped.append(code("tool", kind))

    def _unread_tool(self, tool: Node, known: Collection[str]) -> None:
        for key, value in tool.members.items():
            if key not in known and value not in (None, _AS_EVER.get(key)):
                self.dropped.append(code("field", f"tools.{key}"))

    def thinking(self, body: Node) -> Thinking | None:
        """Return how much to think: a budget, an effort, or both."""
        config = body.object("output_config")
        effort = (config.text("effort") or None) if config is not None else None
        thinking = body.object("thinking")
        if thinking is None:
            return Thinking(effort=effort) if effort is not None else None
        kind = thinking.name("type")
        if kind in ("disabled", "between_tools"):
            return Thinking(effort="none")
        if kind not in ("enabled", "adaptive"):
            self.dropped.append("field:thinking")
            return Thinking(effort=effort) if effort is not None else None
        budget = thinking.whole("budget_tokens") if kind == "enabled" else None
        if budget is None and effort is None:
            effort = "auto"
        return Thinking(effort=effort, budget=budget, shown=thinking.get("display") != "omitted")

    def output(self, body: Node) -> OutputFormat | None:
        """Return the form the answer must have; the field was called otherwise in its beta."""
        config = body.object("output_config")
        form = config.object("format") if config is not None else None
        form = form or body.object("output_format")
        if form is None:
            return None
        if form.name("type") != "json_schema":
            self.dropped.append("output_format")
            return None
        schema = form.object("schema")
        if schema is None:
            raise form.wrong("schema", "a JSON Schema")
        return OutputFormat(schema=schema.members)

    def unread(self, body: Node) -> None:
        """Name the fields that were not read."""
        for key, value in body.members.items():
            if value is None or key in _READ or key in _CONSUMED:
                continue
            self.dropped.append(key if key == "cache_control" else code("field", key))
        config = body.object("output_config")
        for key, value in config.members.items() if config is not None else ():
            if value is not None and key not in ("effort", "format"):
                self.dropped.append(code("field", f"output_config.{key}"))


def _tool_choice(body: Node) -> tuple[ToolChoice | None, bool | None]:
    choice = body.object("tool_choice")
    if choice is None:
        return None, None
    kind = choice.name("type")
    mode = _CHOICES.get(kind)
    if mode is None:
        raise InvalidRequest(
            "The field tool_choice.type has a value that is not known; send auto, any, tool"
            " or none.",
            code="invalid_value",
            param="tool_choice.type",
        )
    alone = choice.flag("disable_parallel_tool_use")
    allowed = (choice.name("name"),) if mode == "named" else ()
    return ToolChoice(mode, allowed), None if alone is None else not alone


def _metadata(body: Node) -> tuple[str, dict[str, object] | None]:
    metadata = body.object("metadata")
    if metadata is None:
        return "", None
    others = {key: value for key, value in metadata.members.items() if key != "user_id"}
    return metadata.text("user_id"), others or None
