"""
What an upstream's error answer means: one `UpstreamError` for all providers' bodies.

Vendors mix one another's error shapes freely (Gemini's list-wrapped errors reach OpenAI
clients through Google's compatible endpoint, Zhipu puts numbers where OpenAI puts
words), so that one tolerant reader serves better than a strict one per vendor. Pure: it
must never know a provider's or a dialect's name, never retry, never look at a clock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from aiclient2api.errors import Fault, RawReply, UpstreamError
from aiclient2api.upstream import hints
from aiclient2api.upstream.answers import passed_headers
from aiclient2api.values import Headers

MESSAGE_LIMIT = 2000
"""How many characters of an upstream's own message are repeated."""

_BY_STATUS = {
    401: Fault.CREDENTIAL,
    402: Fault.QUOTA,
    403: Fault.PERMISSION,
    404: Fault.NOT_FOUND,
    408: Fault.TIMEOUT,
    429: Fault.RATE_LIMIT,
    # Google's "cancelled": its own client tries again.
    499: Fault.SERVER,
    503: Fault.CAPACITY,
    529: Fault.CAPACITY,
}

# What `code`, `type`, `status` or a Google ErrorInfo `reason` may say, in lower case.
# A word is more precise than a status: Zhipu sends a spent balance as 429, Google a
# wrong key as 400.
_BY_WORD = {
    "insufficient_quota": Fault.QUOTA,
    "billing_error": Fault.QUOTA,
    "billing_hard_limit_reached": Fault.QUOTA,
    "billing_not_active": Fault.QUOTA,
    "exceeded_current_quota_error": Fault.QUOTA,
    "insufficient_g1_credits_balance": Fault.QUOTA,
    "quota_exhausted": Fault.QUOTA,
    "usage_limit_reached": Fault.QUOTA,
    "usage_limit_exceeded": Fault.QUOTA,
    "1113": Fault.QUOTA,
    "1308": Fault.QUOTA,
    "1302": Fault.RATE_LIMIT,
    "1303": Fault.RATE_LIMIT,
    "rate_limit_error": Fault.RATE_LIMIT,
    "rate_limit_exceeded": Fault.RATE_LIMIT,
    "rate_limit_reached_error": Fault.RATE_LIMIT,
    "1301": Fault.POLICY,
    "content_filter": Fault.POLICY,
    "content_policy_violation": Fault.POLICY,
    "responsibleaipolicyviolation": Fault.POLICY,
    "data_inspection_failed": Fault.POLICY,
    "context_length_exceeded": Fault.CONTEXT,
    "exceed_context_size_error": Fault.CONTEXT,
    "model_not_found": Fault.NOT_FOUND,
    "not_found_error": Fault.NOT_FOUND,
    "overloaded_error": Fault.CAPACITY,
    "engine_overloaded_error": Fault.CAPACITY,
    "model_capacity_exhausted": Fault.CAPACITY,
    "model_capacity_exceeded": Fault.CAPACITY,
    "unavailable": Fault.CAPACITY,
    "timeout_error": Fault.TIMEOUT,
    "deadline_exceeded": Fault.TIMEOUT,
    "authentication_error": Fault.CREDENTIAL,
    "invalid_api_key": Fault.CREDENTIAL,
    "api_key_invalid": Fault.CREDENTIAL,
    "unauthenticated": Fault.CREDENTIAL,
    "permission_error": Fault.PERMISSION,
    "permission_denied": Fault.PERMISSION,
}

# Faults that some upstreams tell in prose only.
_BY_PROSE = (
    (
        re.compile(
            r"prompt is too long|maximum context length|context window|exceed context limit"
            r"|input token count.{0,40}exceeds|available context size",
            re.I | re.S,
        ),
        Fault.CONTEXT,
    ),
    (re.compile(r"credit balance is too low|insufficient balance", re.I), Fault.QUOTA),
    (re.compile(r"blocked by content filter", re.I), Fault.POLICY),
    # What a request refers to, and this account does not have: Google says it with a 403.
    (re.compile(r"access (?:the )?(?:File|CachedContent|Cached Content)\b", re.I), Fault.CALLER),
)
_CAPACITY_PROSE = re.compile(r"exhausted (?:your )?capacity|MODEL_CAPACITY_EXHAUSTED", re.I)
_DAILY = re.compile(r"PerDay|Daily", re.I)
_GOOGLE_PATIENCE = 300.0
# Without JSON these mean that nobody there speaks the API.
_WRONG_PLACE = frozenset({404, 405, 410})
_LIMITS = frozenset({Fault.RATE_LIMIT, Fault.QUOTA})
_MODEL = re.compile(r"\bmodels?\b", re.I)
_MODEL_CAPACITY = frozenset({"model_capacity_exhausted", "model_capacity_exceeded"})
_MODEL_CAPACITY_PROSE = re.compile(
    r"exhausted (?:your )?capacity|MODEL_CAPACITY_EXHAUSTED"
    r"|\bmodel\b.{0,60}\b(?:overloaded|high demand|at capacity)",
    re.I,
)
# OpenAI and Anthropic name the model where a limit is one of the model's.
_MODEL_PROSE = re.compile(r"^Rate limit reached for \S{1,200} in organization|\(model: \S{1,200}\)")


@attrs.frozen
class _Told:
    """What an error body says, whatever its shape."""

    message: str = ""
    code: str | None = None
    param: str | None = None
    words: tuple[str, ...] = ()
    details: tuple[Mapping[str, Any], ...] = ()
    numbers: Mapping[str, float] = attrs.field(factory=dict)
    is_json: bool = False


def upstream_error(
    *, provider: str, status: int, headers: Headers, body: bytes, base_key: str
) -> UpstreamError:
    """
    Say what an error answer means, by its body first and its status second.

    :param provider: The provider's configured name; the message begins with it.
    :param status: As received; anything outside 400-599 is told to the caller as 502.
    :param base_key: The configuration key of the base URL, named where it seems wrong.
    :return: The error; its `reply` is the answer itself if that was JSON, so that a
        caller of the same dialect gets it verbatim.
    """
    if 300 <= status < 400:
        return _redirected(provider, status, headers, base_key)
    told = _read(body)
    fault = _fault(status, told)
    wait = hints.header_wait(headers)
    if wait is None:
        wait = hints.number_wait(told.numbers, headers)
    if fault is Fault.RATE_LIMIT or status in (429, 499, 503):
        fault, wait = _patience(fault, wait, told)
        if wait is None:
            wait = hints.window_wait(headers)
    if told.is_json:
        message = f"{provider} answered {status}: {told.message or 'no reason given'}"
        reply = RawReply(status, passed_headers(headers), body)
    else:
        message = _not_json(provider, status, body, base_key)
        reply = None
        if status in _WRONG_PLACE:
            told = attrs.evolve(told, code="no_answer")
    return UpstreamError(
        message,
        fault=fault,
        status=status if 400 <= status <= 599 else 502,
        reply=reply if 400 <= status <= 599 else None,
        code=told.code,
        param=told.param,
        retry_after=wait,
        of_model=_of_model(fault, told),
    )


def _of_model(fault: Fault, told: _Told) -> bool | None:
    """Say whether it is the model that is at fault, None where that is no question."""
    if fault is Fault.NOT_FOUND:
        known = "model_not_found" in told.words or told.param == "model"
        return known or _MODEL.search(told.message) is not None
    if fault is Fault.CAPACITY:
        known = not _MODEL_CAPACITY.isdisjoint(told.words)
        return known or _MODEL_CAPACITY_PROSE.search(told.message) is not None
    return True if fault in _LIMITS and _is_models_limit(told) else None


def _is_models_limit(told: _Told) -> bool:
    if _MODEL_PROSE.search(told.message):
        return True
    for item in told.details:
        for violation in _listed(item.get("violations")):
            if not isinstance(violation, dict):
                continue
            dimensions = violation.get("quotaDimensions")
            if isinstance(dimensions, dict) and dimensions.get("model"):
                return True
            if "PerModel" in str(violation.get("quotaId")):
                return True
    return False


def _redirected(provider: str, status: int, headers: Headers, base_key: str) -> UpstreamError:
    place = next((_place(value) for name, value in headers if name == b"location"), "")
    return UpstreamError(
        f"{provider} answered {status}, a redirect{place}, and redirects are never "
        f"followed: write the address it really has into {base_key}.",
        fault=Fault.SERVER,
        status=502,
        code="redirected",
    )


def _place(location: bytes) -> str:
    """Return where a redirect leads, without anything that might be a secret."""
    try:
        target = urlsplit(location.decode("ascii"))
    except ValueError:
        return ""
    # Neither a name and password, nor a query, nor a fragment.
    host = target.netloc.rpartition("@")[2]
    scheme = f"{target.scheme}:" if target.scheme else ""
    return f" to {scheme}//{host}{target.path[:200]}" if host else ""


def _not_json(provider: str, status: int, body: bytes, base_key: str) -> str:
    text = body[:200].decode("utf-8", "replace").strip()
    if not text:
        said = "with an empty body"
    elif text.startswith("<"):
        said = "with a page of HTML or XML instead of JSON"
    else:
        said = f"without JSON ({' '.join(text.split())})"
    if status in _WRONG_PLACE:
        remedy = f"{base_key} is likely to be wrong."
    else:
        remedy = f"If this goes on, see whether {base_key} is right."
    return f"{provider} answered {status} {said}. {remedy}"


def _read(body: bytes) -> _Told:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return _Told()
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    if not isinstance(document, dict):
        return _Told()
    error = document.get("error", document)
    if not isinstance(error, dict):
        error = {"message": error}
    message = next(
        (error[key] for key in ("message", "msg", "detail") if isinstance(error.get(key), str)), ""
    )
    items = tuple(item for item in _listed(error.get("details")) if isinstance(item, dict))
    words = [error.get(key) for key in ("code", "type", "status")]
    words += [item.get("reason") for item in items]
    code = error.get("code")
    param = error.get("param")
    return _Told(
        message=_sendable(message[:MESSAGE_LIMIT]),
        code=_sendable(code) if isinstance(code, str) else None,
        param=_sendable(param) if isinstance(param, str) else None,
        words=tuple(str(word).lower() for word in words if isinstance(word, str | int)),
        details=items,
        numbers={
            key: float(value)
            for key, value in error.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        },
        is_json=True,
    )


def _fault(status: int, told: _Told) -> Fault:
    by_word = next((_BY_WORD[word] for word in told.words if word in _BY_WORD), None)
    if by_word is not None and by_word is not Fault.PERMISSION:
        return by_word
    if 400 <= status < 500:
        for pattern, fault in _BY_PROSE:
            if pattern.search(told.message):
                return fault
    if by_word is not None:
        return by_word
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Fault.CALLER if 400 <= status < 500 else Fault.SERVER


def _patience(fault: Fault, wait: float | None, told: _Told) -> tuple[Fault, float | None]:
    """Apply Google's rules on which limits pass by waiting, and how long that takes."""
    quotas = [
        str(violation.get("quotaId"))
        for item in told.details
        for violation in _listed(item.get("violations"))
        if isinstance(violation, dict)
    ]
    quotas += [str(_metadata(item).get("quota_limit")) for item in told.details]
    delays = [item.get("retryDelay") for item in told.details]
    delays += [_metadata(item).get("quotaResetDelay") for item in told.details]
    waits = (hints.duration(delay) for delay in delays if isinstance(delay, str))
    hinted = next((seconds for seconds in waits if seconds is not None), None)
    if hinted is None:
        hinted = hints.prose_wait(told.message)
    if hinted is None and any("PerMinute" in quota for quota in quotas):
        hinted = 60.0
    if wait is None:
        wait = hinted
    if fault not in (Fault.RATE_LIMIT, Fault.CAPACITY):
        return fault, wait
    if _CAPACITY_PROSE.search(told.message):
        return Fault.CAPACITY, wait
    if "limit: 0" in told.message or any(map(_DAILY.search, quotas)):
        return Fault.QUOTA, wait
    google = told.details or "resource_exhausted" in told.words
    if google and hinted is not None and hinted > _GOOGLE_PATIENCE:
        return Fault.QUOTA, wait
    return fault, wait


def _sendable(text: str) -> str:
    # A lone surrogate may stand in JSON but in no UTF-8 we send.
    return text.encode("utf-8", "replace").decode("utf-8")


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _metadata(item: Mapping[str, Any]) -> Mapping[str, Any]:
    found = item.get("metadata")
    return found if isinstance(found, dict) else {}
