"""
What an upstream's own word for an error means.

All dialects name errors by a word, a number or both, and the words hardly clash, so
one table serves all. It must never know where in a record the words stood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from aiclient2api.errors import Fault, UpstreamError

_WORDS: dict[str, tuple[Fault, int]] = {
    # OpenAI and those who speak like it
    "rate_limit_exceeded": (Fault.RATE_LIMIT, 429),
    "rate_limit_reached_error": (Fault.RATE_LIMIT, 429),
    "too_many_requests": (Fault.RATE_LIMIT, 429),
    "tokens": (Fault.RATE_LIMIT, 429),
    "requests": (Fault.RATE_LIMIT, 429),
    "insufficient_quota": (Fault.QUOTA, 429),
    "exceeded_current_quota_error": (Fault.QUOTA, 429),
    "engine_overloaded_error": (Fault.CAPACITY, 503),
    "service_unavailable_error": (Fault.CAPACITY, 503),
    "service_unavailable": (Fault.CAPACITY, 503),
    "slow_down": (Fault.CAPACITY, 503),
    "invalid_api_key": (Fault.CREDENTIAL, 401),
    "invalid_authentication_error": (Fault.CREDENTIAL, 401),
    "model_not_found": (Fault.NOT_FOUND, 404),
    "resource_not_found_error": (Fault.NOT_FOUND, 404),
    "context_length_exceeded": (Fault.CONTEXT, 400),
    "content_filter": (Fault.POLICY, 400),
    "content_policy": (Fault.POLICY, 400),
    "content_policy_violation": (Fault.POLICY, 400),
    "moderation_blocked": (Fault.POLICY, 400),
    "cyber_policy": (Fault.POLICY, 400),
    "bio_policy": (Fault.POLICY, 400),
    "invalid_prompt": (Fault.POLICY, 400),
    "invalid_request_error": (Fault.CALLER, 400),
    "server_error": (Fault.SERVER, 500),
    "internal_error": (Fault.SERVER, 500),
    "internal_server_error": (Fault.SERVER, 500),
    "vector_store_timeout": (Fault.TIMEOUT, 504),
    # Anthropic
    "rate_limit_error": (Fault.RATE_LIMIT, 429),
    "overloaded_error": (Fault.CAPACITY, 529),
    "authentication_error": (Fault.CREDENTIAL, 401),
    "permission_error": (Fault.PERMISSION, 403),
    "billing_error": (Fault.QUOTA, 402),
    "not_found_error": (Fault.NOT_FOUND, 404),
    "request_too_large": (Fault.CALLER, 413),
    "timeout_error": (Fault.TIMEOUT, 504),
    "api_error": (Fault.SERVER, 500),
    # Google, https://cloud.google.com/apis/design/errors
    "resource_exhausted": (Fault.RATE_LIMIT, 429),
    "unavailable": (Fault.CAPACITY, 503),
    "unauthenticated": (Fault.CREDENTIAL, 401),
    "permission_denied": (Fault.PERMISSION, 403),
    "not_found": (Fault.NOT_FOUND, 404),
    "invalid_argument": (Fault.CALLER, 400),
    "failed_precondition": (Fault.CALLER, 400),
    "out_of_range": (Fault.CALLER, 400),
    "deadline_exceeded": (Fault.TIMEOUT, 504),
    "internal": (Fault.SERVER, 500),
}
_STATUSES = {
    401: Fault.CREDENTIAL,
    402: Fault.QUOTA,
    403: Fault.PERMISSION,
    404: Fault.NOT_FOUND,
    408: Fault.TIMEOUT,
    429: Fault.RATE_LIMIT,
    503: Fault.CAPACITY,
    504: Fault.TIMEOUT,
    529: Fault.CAPACITY,
}
_TOO_LONG = re.compile(
    r"context[ _](length|window)|prompt is too long|input token count.{0,40}exceeds", re.IGNORECASE
)

_MODEL = re.compile(r"\bmodels?\b", re.IGNORECASE)


def told_error(message: object, words: Iterable[object], *, stream: bool = True) -> UpstreamError:
    """
    Return the error that an upstream told of within a 200 answer.

    :param message: Its message, if it is a string.
    :param words: Its code, type and status, the most telling first; a number (or
        its digits) is an HTTP status. What is None or unknown is passed over.
    """
    where = "in the middle of its answer" if stream else "in its answer"
    text = (
        message
        if isinstance(message, str) and message
        else (f"The upstream reported an error {where} and gave no reason; try again.")
    )
    known = [word for word in words if isinstance(word, str | int) and word not in ("", True)]
    code = next((word for word in known if isinstance(word, str)), None)
    fault, status = next(
        (found for found in map(_meaning, known) if found is not None), (Fault.SERVER, 502)
    )
    if fault is Fault.CALLER and _TOO_LONG.search(text):
        fault = Fault.CONTEXT
    # Where nobody names the model, it is something else that is not there.
    of_model = _MODEL.search(text) is not None if fault is Fault.NOT_FOUND else None
    return UpstreamError(text, fault=fault, status=status, code=code, of_model=of_model)


def _meaning(word: str | int) -> tuple[Fault, int] | None:
    if isinstance(word, str) and not (word.isascii() and word.isdigit() and len(word) == 3):
        return _WORDS.get(word.lower())
    status = int(word)
    if not 400 <= status <= 599:
        return None
    return _STATUSES.get(status, Fault.SERVER if status >= 500 else Fault.CALLER), status
