"""
Read a request: what a client of this dialect asks, as a conversation.

Vendors who speak this dialect have each their own way to say how much to think; all of
them are understood. It must never know which dialect the conversation is written in next.
"""

from __future__ import annotations

from aiclient2api.conversation.losses import merged
from aiclient2api.conversation.request import Conversation, OutputFormat, Sampling, Thinking
from aiclient2api.conversation.thinking import AUTO, BUDGETS, NONE
from aiclient2api.dialects.nodes import Node, code, kind_of
from aiclient2api.dialects.openai_chat.read_messages import Messages
from aiclient2api.dialects.openai_chat.read_tools import read_choice, read_tools
from aiclient2api.dialects.openai_chat.request import ChatRequest
from aiclient2api.dialects.wire_request import wrong
from aiclient2api.framing.json_text import exact

_READ = frozenset(
    {
        "model",
        "stream",
        "messages",
        "tools",
        "functions",
        "tool_choice",
        "function_call",
        "parallel_tool_calls",
        "web_search_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
        "top_logprobs",
        "n",
        "response_format",
        "reasoning_effort",
        "reasoning",
        "thinking",
        "enable_thinking",
        "thinking_budget",
        "extra_body",
        "user",
        "safety_identifier",
        "metadata",
        "prompt_cache_key",
        "modalities",
    }
)
# None changes what is answered: how it comes in pieces, what is told beside it, if it is kept.
_CONSUMED = frozenset({"stream_options", "store", "tool_stream"})


def read_request(request: ChatRequest) -> Conversation:
    """
    Return what *request* says.

    :raise InvalidRequest: if a field that is needed is malformed.
    """
    body = Node(exact(request.body.text.readable))
    messages = Messages()
    for message in body.objects("messages"):
        messages.take(message)
    tools, dropped_tools = read_tools(body)
    choice, dropped_choice = read_choice(body, tools)
    output, dropped_output = _output(body)
    metadata = body.object("metadata")
    parallel = body.flag("parallel_tool_calls")
    if parallel is None and body.has("functions"):
        # Whoever offers functions in the old way has room for one call in an answer.
        parallel = False
    return Conversation(
        model=request.model,
        streaming=request.streaming,
        turns=tuple(messages.turns),
        system=tuple(messages.system),
        tools=tools,
        tool_choice=choice,
        parallel=parallel,
        sampling=_sampling(body),
        output=output,
        thinking=_thinking(body),
        user=body.text("safety_identifier") or body.text("user"),
        metadata=None if metadata is None else metadata.members or None,
        cache_key=body.text("prompt_cache_key"),
        action=request.action,
        dropped=merged(
            _unread(body),
            messages.dropped,
            dropped_tools,
            dropped_choice,
            dropped_output,
        ),
    )


def _sampling(body: Node) -> Sampling:
    most = body.whole("max_completion_tokens")
    logprobs = body.whole("top_logprobs") or 0
    return Sampling(
        max_tokens=body.whole("max_tokens") if most is None else most,
        temperature=body.real("temperature"),
        top_p=body.real("top_p"),
        top_k=body.whole("top_k"),
        stop=_stop(body),
        seed=body.whole("seed"),
        presence_penalty=body.real("presence_penalty"),
        frequency_penalty=body.real("frequency_penalty"),
        logprobs=logprobs if body.flag("logprobs") else None,
    )


def _stop(body: Node) -> tuple[str, ...]:
    value = body.members.get("stop")
    given = value if isinstance(value, list) else [] if value is None else [value]
    for each in given:
        if not isinstance(each, str):
            raise wrong("stop", kind_of(each), "a string or an array of strings")
    return tuple(text for text in given if text)


def _output(body: Node) -> tuple[OutputFormat | None, tuple[str, ...]]:
    form = body.object("response_format")
    if form is None:
        return None, ()
    kind = form.name("type")
    if kind == "text":
        return None, ()
    if kind == "json_object":
        return OutputFormat(), ()
    if kind != "json_schema":
        return None, ("output_format",)
    told = form.object("json_schema")
    if told is None:
        raise form.wrong("json_schema", "an object with name and schema")
    schema = told.object("schema")
    return OutputFormat(
        schema=None if schema is None else schema.members,
        name=told.text("name"),
        description=told.text("description"),
        strict=told.flag("strict"),
    ), ()


def _thinking(body: Node) -> Thinking | None:
    """Return how much to think; of several ways to say it, OpenAI's own counts first."""
    effort: str | None = body.choice("reasoning_effort", "default", *BUDGETS) or None
    effort = None if effort == "default" else effort
    budget: int | None = None
    shown: bool | None = None
    # OpenRouter's
    reasoning = body.object("reasoning")
    if reasoning is not None:
        effort = effort or reasoning.choice("effort", *BUDGETS) or None
        budget = reasoning.whole("max_tokens")
        hidden, enabled = reasoning.flag("exclude"), reasoning.flag("enabled")
        shown = None if hidden is None else not hidden
        if enabled is not None and budget is None:
            effort = effort or (AUTO if enabled else NONE)
    # Moonshot's, Zhipu's, DeepSeek's
    switch = body.object("thinking")
    if switch is not None:
        kind = switch.choice("type", "enabled", "disabled", "adaptive", "auto")
        budget = switch.whole("budget_tokens") if budget is None else budget
        if kind == "disabled":
            effort = effort or NONE
        elif budget is None:
            effort = effort or AUTO
    # Alibaba's
    enabled = body.flag("enable_thinking")
    budget = body.whole("thinking_budget") if budget is None else budget
    if enabled is False:
        effort = effort or NONE
    elif enabled and budget is None:
        effort = effort or AUTO
    # Google's: https://ai.google.dev/gemini-api/docs/openai
    config = _google(body)
    if config is not None:
        level = config.text("thinking_level")
        effort = effort or (level.lower() if level and level.lower() in BUDGETS else None)
        budget = config.whole("thinking_budget") if budget is None else budget
        shown = config.flag("include_thoughts") if shown is None else shown
    if effort == NONE:
        budget = None
    if effort is None and budget is None and shown is None:
        return None
    return Thinking(effort, budget, shown)


def _google(body: Node) -> Node | None:
    extra = body.object("extra_body")
    google = extra.object("google") if extra is not None else None
    return google.object("thinking_config") if google is not None else None


def _unread(body: Node) -> list[str]:
    """Name what was not read of *body*."""
    dropped = [
        code("field", key)
        for key, value in body.members.items()
        if value is not None and key not in _READ and key not in _CONSUMED
    ]
    if (body.whole("n") or 1) > 1:
        dropped.append("n")
    modalities = body.members.get("modalities")
    if modalities is not None and modalities != ["text"]:
        dropped.append("field:modalities")
    for key, value in (body.members.get("extra_body") or {}).items():
        others = set(value) - {"thinking_config"} if isinstance(value, dict) else {key}
        if key != "google" or others:
            dropped.append(code("field", f"extra_body.{key}"))
    return dropped
