"""
The SDKs' own models as strict judges of what is sent to them.

As shipped they accept any field and construct without checking; `strict` rebuilds one
to forbid what it does not know. It knows no dialect but by the names of `EXTENSIONS`.
"""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, create_model

EXTENSIONS: dict[str, dict[str, Any]] = {
    # Chat Completions has no field for thoughts; this one is DeepSeek's, and many others'.
    # Pictures are OpenRouter's; sources have a field in whole answers only.
    "ChatCompletionMessage": {"reasoning_content": str | None, "images": list[Any] | None},
    "ChoiceDelta": {
        "reasoning_content": str | None,
        "images": list[Any] | None,
        "annotations": list[Any] | None,
    },
    # What Google's own endpoint of this dialect keeps its signatures in.
    "ChatCompletionMessageFunctionToolCall": {"extra_content": dict[str, Any] | None},
    "ChatCompletionMessageCustomToolCall": {"extra_content": dict[str, Any] | None},
    # Calls of tools that take free text have a model in whole answers only.
    "ChoiceDeltaToolCall": {
        "extra_content": dict[str, Any] | None,
        "custom": dict[str, str] | None,
        "type": Literal["function", "custom"] | None,
    },
    # OpenAI's answers have these, its SDK's models have not.
    "Response": {"store": bool | None},
    "ResponseFunctionCallArgumentsDoneEvent": {"name": str},
    "ResponseCustomToolCall": {"status": str | None},
}
"""Fields that are sent though the model of that name has none, with their types. Keep short."""


@cache
def strict(model: type[BaseModel]) -> type[BaseModel]:
    """
    Return *model* rebuilt, and all models in it, to forbid unknown fields.

    Types are as strict as JSON allows. The model must not contain itself.
    """
    fields: dict[str, Any] = {
        name: (_rebuilt(field.annotation), field) for name, field in model.model_fields.items()
    }
    for name, annotation in EXTENSIONS.get(model.__name__, {}).items():
        fields[name] = (annotation, None)
    forbidding = ConfigDict(extra="forbid", strict=True, protected_namespaces=())
    judge: type[BaseModel] = create_model(model.__name__, __config__=forbidding, **fields)
    return judge


def _rebuilt(annotation: Any) -> Any:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is None:
        is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        return strict(annotation) if is_model else annotation
    if origin is Literal:
        return annotation
    if origin is Annotated:
        # What is annotated is how to tell a union's members apart; trying each does as well.
        return _rebuilt(inner[0])
    parts = tuple(_rebuilt(each) for each in inner)
    return reduce(or_, parts) if origin in (Union, UnionType) else origin[parts]
