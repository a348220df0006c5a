"""
Anthropic Messages: the error object.

It must never know who made the error.
"""

from __future__ import annotations

import re
from typing import Any

from aiclient2api.errors import Fault, GatewayError, UpstreamError
from aiclient2api.framing.json_text import write

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}

NO_THREADS = "thread_unsupported_request"
"""What makes Anthropic's tool runner send the whole conversation, as it does elsewhere."""
_NUMBER = re.compile(r"\d{3,}")
_TOO_LONG = "prompt is too long"
"""What Claude Code looks for before it makes the conversation shorter by itself."""


def render_error(error: GatewayError) -> tuple[int, bytes]:
    """Return status and JSON body of *error*."""
    status, message = error.status, error.message
    if isinstance(error, UpstreamError) and error.fault is Fault.CONTEXT:
        status, message = 400, _too_long(message)
    default = "api_error" if status >= 500 else "invalid_request_error"
    told: dict[str, Any] = {"type": _TYPES.get(status, default), "message": message}
    if error.code == NO_THREADS:
        told["details"] = {"error_code": NO_THREADS, "unsupported": [error.param]}
    return status, write({"type": "error", "error": told})


def _too_long(message: str) -> str:
    """Return what another vendor says of a prompt in the words that Anthropic has for it."""
    if _TOO_LONG in message:
        return message
    numbers = sorted({int(each) for each in _NUMBER.findall(message)}, reverse=True)
    if len(numbers) < 2:
        return f"{_TOO_LONG}: {message}"
    # The greatest is what was sent, the next what could have been.
    return f"{_TOO_LONG}: {numbers[0]} tokens > {numbers[1]} maximum ({message})"
