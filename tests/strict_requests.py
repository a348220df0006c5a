"""
Judges of requests: the official SDKs' own request types, with unknown fields forbidden.

Each takes a body as an upstream gets it, decoded, and raises what pydantic raises where it
is not what the SDK of that dialect would send. It knows nothing of ours.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import (
    IO,
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from google.genai import types as google
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)
from pydantic import BaseModel, ConfigDict, PlainValidator, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict, is_typeddict

EXTENSIONS: Mapping[str, Mapping[str, Any]] = {
    # Thoughts that go back to DeepSeek, Moonshot and others.
    "ChatCompletionAssistantMessageParam": {"reasoning_content": str},
    # Where vendors want to be told to think: Zhipu and Moonshot; Qwen. Many know top_k. Zhipu
    # streams the arguments of calls only if told to.
    "CompletionCreateParamsBase": {
        "thinking": dict[str, Any],
        "enable_thinking": bool,
        "thinking_budget": int,
        "top_k": int,
        "tool_stream": bool,
    },
    # Google's own way to carry a signature in Chat Completions.
    "ChatCompletionMessageFunctionToolCallParam": {"extra_content": dict[str, Any]},
    # Gone from the newest SDK; the models that still take them are served all the same.
    "MessageCreateParamsBase": {"temperature": float, "top_p": float, "top_k": int},
    # With "store": false there is no id to know a thought by; Codex sends none.
    "ResponseReasoningItemParam": {"id": str},
}
"""Fields that may be sent, or left out, whatever the type of that name says. Keep short."""

_FORBIDDING = ConfigDict(extra="forbid", strict=True)
# A type checker follows typed dictionaries that are written out, and no others.
_make: Any = TypedDict
_TAGS = ("type", "role")
"""The fields by which the members of a union are told apart."""


def judge(dialect: str, body: Mapping[str, Any], *, action: str = "generate") -> None:
    """
    Judge a request in *dialect*, as decoded JSON.

    :param dialect: ``openai-chat``, ``openai-responses``, ``anthropic-messages``, ``gemini``.
    :param action: ``generate`` or ``count_tokens``.
    :raise ValueError: pydantic's own, mostly: the dialect's SDK would not send such a thing.
    """
    # What holds more than JSON can hold is no request.
    decoded = json.loads(json.dumps(body))
    if dialect == "gemini":
        _judge_gemini(_CountBody if action == "count_tokens" else _Body, decoded)
    elif (dialect, action) == ("anthropic-messages", "count_tokens"):
        _adapter(MessageCountTokensParams).validate_python(decoded)
    else:
        streamed, whole = _TYPES[dialect]
        _adapter(streamed if decoded.get("stream") else whole).validate_python(decoded)


_TYPES: Mapping[str, tuple[Any, Any]] = {
    "openai-chat": (CompletionCreateParamsStreaming, CompletionCreateParamsNonStreaming),
    "openai-responses": (ResponseCreateParamsStreaming, ResponseCreateParamsNonStreaming),
    "anthropic-messages": (MessageCreateParamsStreaming, MessageCreateParamsNonStreaming),
}


# --- the typed dictionaries of OpenAI and Anthropic ---------------------------


@cache
def _adapter(typed: Any) -> TypeAdapter[Any]:
    """
    Return what judges *typed*, one of the SDKs' typed dictionaries.

    One within another is judged by an adapter of its own, made once it is met: they hold
    each other.
    """
    fields: dict[str, Any] = {}
    for name, hint in get_type_hints(typed, include_extras=True).items():
        origin = get_origin(hint)
        if origin in (Required, NotRequired):
            must, hint = origin is Required, get_args(hint)[0]
        else:
            must = name in typed.__required_keys__
        fields[name] = Required[_rebuilt(hint)] if must else NotRequired[_rebuilt(hint)]
    for ancestor in _ancestry(typed):
        for name, extra in EXTENSIONS.get(ancestor.__name__, {}).items():
            fields[name] = NotRequired[extra]
    copy = _make(typed.__name__, fields)
    copy.__pydantic_config__ = _FORBIDDING
    return TypeAdapter(copy)


def _ancestry(typed: Any) -> Iterator[Any]:
    yield typed
    for base in getattr(typed, "__orig_bases__", ()):
        if is_typeddict(base):
            yield from _ancestry(base)


def _rebuilt(annotation: Any) -> Any:
    """Return *annotation* with every typed dictionary strict, and every iterable a list."""
    if is_typeddict(annotation):
        return Annotated[
            Any, PlainValidator(lambda value: _adapter(annotation).validate_python(value))
        ]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _rebuilt(inner[0])
    if origin is Union:
        return Annotated[Any, PlainValidator(_union(annotation))]
    if origin is None or origin is Literal:
        return annotation
    if origin.__name__ in ("list", "Iterable", "Sequence", "SequenceNotStr"):
        return list[_rebuilt(inner[0])]  # type: ignore[misc]  # a type made here
    return origin[tuple(_rebuilt(each) for each in inner)]


def _union(annotation: Any) -> Callable[[Any], Any]:
    """Return a judge of a union that complains only of the members that were meant."""
    members = list(_members(annotation))
    typed = [member for member in members if is_typeddict(member)]
    plain = [_rebuilt(member) for member in members if not is_typeddict(member)]

    def judge_union(value: Any) -> Any:
        fitting = [each for each in typed if isinstance(value, dict) and _fits(each, value)]
        others = [each for each in plain if (get_origin(each) is list) == isinstance(value, list)]
        failures: list[str] = []
        for judge_one in (*map(_adapter, fitting), *map(_plain, others)):
            try:
                return judge_one.validate_python(value)
            except ValidationError as error:
                failures.append(str(error))
        tags = {tag: value.get(tag) for tag in _TAGS} if isinstance(value, dict) else value
        raise ValueError("\n".join(failures) or f"nothing here is told by {tags}")

    return judge_union


@cache
def _plain(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=ConfigDict(strict=True))


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union that JSON can hold, those of unions within it, too."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _members(inner[0])
    elif origin is Union:
        for each in inner:
            yield from _members(each)
    # An SDK also takes files, and the objects of its answers.
    elif origin is not IO and not (isinstance(annotation, type) and _is_object(annotation)):
        yield annotation


def _is_object(annotation: type) -> bool:
    return annotation.__module__ == "os" or issubclass(annotation, BaseModel)


@cache
def _hints(typed: Any) -> Mapping[str, Any]:
    return get_type_hints(typed)


def _fits(typed: Any, value: Mapping[str, Any]) -> bool:
    hints = _hints(typed)
    for tag in _TAGS:
        if tag not in value:
            continue
        if tag not in hints:
            return False
        if get_origin(hints[tag]) is Literal and value[tag] not in get_args(hints[tag]):
            return False
    return True


# --- Google's models ----------------------------------------------------------


class _Camel(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class _Settings(google.GenerationConfig):
    """In REST, images are set up among the other settings."""

    image_config: google.ImageConfig | None = None


class _Body(_Camel):
    """
    The body of ``generateContent``, for which the SDK has no type of its own.

    See https://ai.google.dev/api/generate-content#request-body.
    """

    contents: list[google.Content]
    system_instruction: google.Content | None = None
    tools: list[google.Tool] | None = None
    tool_config: google.ToolConfig | None = None
    safety_settings: list[google.SafetySetting] | None = None
    generation_config: _Settings | None = None
    cached_content: str | None = None
    labels: dict[str, str] | None = None


class _Counted(_Body):
    model: str


class _CountBody(_Camel):
    """The body of ``countTokens``, https://ai.google.dev/api/tokens#request-body."""

    contents: list[google.Content] | None = None
    generate_content_request: _Counted | None = None


def _judge_gemini(model: type[BaseModel], body: Mapping[str, Any]) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.model_validate_json(json.dumps(body), by_alias=True, by_name=False)
    if told:
        # Of an unknown member of an enumeration the SDK only warns.
        raise ValueError(str(told[0].message))
