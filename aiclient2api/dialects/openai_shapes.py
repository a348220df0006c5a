"""
The JSON that OpenAI's two dialects have in common: the error object and the model list.

It must never know which of the two it is used for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiclient2api.dialects.watching import count
from aiclient2api.dialects.wire_request import entry
from aiclient2api.errors import Fault, GatewayError, UpstreamError
from aiclient2api.framing.json_text import read, write
from aiclient2api.values import ModelInfo

_DIALECTS = ("openai-chat", "openai-responses")
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key"}
_TOO_LONG = "context_length_exceeded"
"""What clients look for before they make a conversation shorter by themselves."""


def error_object(error: GatewayError) -> dict[str, Any]:
    """Return what stands under ``error``."""
    status = _status_of(error)
    default = "server_error" if status >= 500 else "invalid_request_error"
    return {
        "message": error.message,
        "type": _TYPES.get(status, default),
        "param": error.param,
        "code": _TOO_LONG if _is_too_long(error) else error.code or _CODES.get(status),
    }


def _status_of(error: GatewayError) -> int:
    """Return the status of an error answer; whoever else said it, too long is a 400 here."""
    return 400 if _is_too_long(error) else error.status


def render_error(error: GatewayError) -> tuple[int, bytes]:
    """Return status and body of an error answer."""
    return _status_of(error), write({"error": error_object(error)})


def render_models(models: Sequence[ModelInfo]) -> bytes:
    """Return a model list."""
    return write({"object": "list", "data": [_item(model) for model in models]})


def render_model(model: ModelInfo) -> bytes:
    """Return one model."""
    return write(_item(model))


def read_models(body: bytes, *, dialect: str) -> list[ModelInfo]:
    """
    Read a model list; some vendors send the bare array.

    :raise ValueError: if it is neither.
    """
    answer = read(body)
    items = answer if isinstance(answer, list) else entry(answer, "data")
    if not isinstance(items, list):
        raise ValueError("This is no OpenAI model list: it has no array under 'data'.")
    return [_model(item, dialect) for item in items if _named(item)]


def _is_too_long(error: GatewayError) -> bool:
    return isinstance(error, UpstreamError) and error.fault is Fault.CONTEXT


def _named(item: Any) -> bool:
    name = entry(item, "id")
    return isinstance(name, str) and name != ""


def _model(item: dict[str, Any], dialect: str) -> ModelInfo:
    owner, created = item.get("owned_by"), item.get("created")
    return ModelInfo(
        id=item["id"],
        owned_by=owner if isinstance(owner, str) else "",
        created=count(created) or 0,
        raw_dialect=dialect,
        raw=item,
    )


def _item(model: ModelInfo) -> dict[str, Any]:
    if model.raw is not None and model.raw_dialect in _DIALECTS:
        return {**model.raw, "id": model.id}
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
    }
