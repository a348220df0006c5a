"""
The response object: what it repeats of the request, and what it says of the answer.

Required fields are those of the official SDK's ``Response``. It must never know how the
answer came about.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import msgspec

from aiclient2api.dialects.openai_responses.request import ResponsesRequest
from aiclient2api.errors import Fault, GatewayError, UpstreamError
from aiclient2api.framing.json_text import write
from aiclient2api.values import Usage

_DEFAULTS: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
# The words that agents act on; the SDK's own list lacks some that the API does send.
_CODES = {
    Fault.CONTEXT: "context_length_exceeded",
    Fault.RATE_LIMIT: "rate_limit_exceeded",
    Fault.QUOTA: "insufficient_quota",
    Fault.CALLER: "invalid_prompt",
    Fault.POLICY: "invalid_prompt",
}


@attrs.frozen
class ResponseShape:
    """
    The response object of one answer.

    :ivar echoed: The fields of the request that it repeats, as they were sent.
    """

    id: str
    created: int
    model: str
    echoed: dict[str, Any] = attrs.field(repr=False)

    @classmethod
    def of(cls, request: ResponsesRequest, *, id: str, created: int, model: str) -> ResponseShape:
        """Return the shape of an answer to *request*."""
        text, echoed = request.body.text.readable, dict(_DEFAULTS)
        for member in request.body.members:
            raw = text[member.start : member.end]
            if member.key in _DEFAULTS and raw != b"null":
                echoed[member.key] = msgspec.Raw(raw)
        echoed["previous_response_id"] = request.previous or None
        return cls(id, created, model, echoed)

    def written(
        self,
        status: str,
        items: Iterable[bytes],
        *,
        usage: Usage | None = None,
        cut: str | None = None,
        error: GatewayError | None = None,
    ) -> bytes:
        """
        Return the object as JSON.

        :param status: ``in_progress``, ``completed``, ``incomplete`` or ``failed``.
        :param items: The items of the output, as JSON.
        :param cut: Why it is incomplete.
        """
        told = None
        if error is not None:
            message = error.message.encode("utf-8", "replace").decode()
            told = {"code": code_of(error), "message": message}
        return write(
            {
                "id": self.id,
                "object": "response",
                "created_at": self.created,
                "status": status,
                "background": False,
                "error": told,
                "incomplete_details": None if cut is None else {"reason": cut},
                "model": self.model,
                "output": msgspec.Raw(b"[" + b",".join(items) + b"]"),
                **self.echoed,
                "usage": None if usage is None else _usage(usage),
            }
        )


def code_of(error: GatewayError) -> str:
    """Return the word for *error* that clients of this dialect act on."""
    if isinstance(error, UpstreamError):
        return _CODES.get(error.fault, "server_error")
    return error.code or ("server_error" if error.status >= 500 else "invalid_prompt")


def _usage(usage: Usage) -> dict[str, Any]:
    given, made = usage.input or 0, usage.output or 0
    return {
        "input_tokens": given,
        "input_tokens_details": {
            "cached_tokens": usage.cached or 0,
            "cache_write_tokens": usage.cache_write or 0,
        },
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": given + made,
    }
