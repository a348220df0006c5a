"""
Gemini: the error object.

It must never know who made the error.
"""

from __future__ import annotations

import math
import re

from aiclient2api.errors import Fault, GatewayError, UpstreamError
from aiclient2api.framing.json_text import write

_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}


# What Google itself says: clients look for these words to make a conversation shorter.
_TOO_LONG = "The input token count exceeds the maximum number of tokens allowed."
_TOLD = re.compile("input token count.{0,40}exceeds", re.IGNORECASE)


def render_error(error: GatewayError) -> tuple[int, bytes]:
    """Return status and JSON body of *error*."""
    # Whoever else said it, too long is a 400 here.
    status = 400 if _is_too_long(error) else error.status
    default = "INTERNAL" if status >= 500 else "INVALID_ARGUMENT"
    told = {
        "code": status,
        "message": _message(error),
        "status": _STATUSES.get(status, default),
        "details": _details(error),
    }
    return status, write({"error": told})


def _details(error: GatewayError) -> list[dict[str, str]]:
    """Return when to try again: Google's clients look for it here, not in the head."""
    if error.retry_after is None:
        return []
    delay = f"{math.ceil(error.retry_after)}s"
    return [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]


def _is_too_long(error: GatewayError) -> bool:
    return isinstance(error, UpstreamError) and error.fault is Fault.CONTEXT


def _message(error: GatewayError) -> str:
    if _is_too_long(error) and _TOLD.search(error.message) is None:
        return f"{_TOO_LONG} {error.message}"
    return error.message
