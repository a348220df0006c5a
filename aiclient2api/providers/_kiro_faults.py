"""
What Kiro's refusals mean, whether they come as a status or in the middle of an answer.

They are in a form of Amazon's own, which no dialect has: they are told anew to whoever asked.
It must never know whose account it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import attrs

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.upstream.faults import MESSAGE_LIMIT, upstream_error
from aiclient2api.values import Headers

BASE_KEY = "kiro_base_url"

_STATUSES = {
    "ThrottlingException": 429,
    "AccessDeniedException": 403,
    "UnauthorizedException": 401,
    "ExpiredTokenException": 401,
    "ValidationException": 400,
    "ServiceQuotaExceededException": 402,
    "ResourceNotFoundException": 404,
    "ConflictException": 409,
    "ServiceUnavailableException": 503,
    "ModelNotReadyException": 503,
}
"""What an exception would have been as a status, had it come before the answer."""

_TOO_LONG = re.compile(r"input is too long|CONTENT_LENGTH_EXCEEDS_THRESHOLD", re.I)
_NO_MODEL = re.compile(r"invalid model\b|INVALID_MODEL_ID", re.I)
_MONTHLY = re.compile(r"MONTHLY_REQUEST_COUNT|reached the limit", re.I)
_DAILY = re.compile(r"DAILY_REQUEST_COUNT", re.I)
_CAPACITY = re.compile(r"INSUFFICIENT_MODEL_CAPACITY", re.I)
_ACCOUNT = re.compile(
    r"suspend|disabled|violation|appeal|quota|not authorized to access|not allowed", re.I
)
_PROFILE = re.compile(r"profileArn|not authorized to make this call", re.I)
_TOKEN = re.compile(r"token|expired|invalid", re.I)


@attrs.frozen
class _Judged:
    fault: Fault
    status: int
    code: str | None = None
    remedy: str = ""
    retry_after: float | None = None
    of_model: bool | None = None


def kiro_error(*, provider: str, status: int, headers: Headers, body: bytes) -> UpstreamError:
    """
    Say what an answer with an error status means.

    :return: An error without the service's own answer.
    """
    plain = upstream_error(
        provider=provider, status=status, headers=headers, body=body, base_key=BASE_KEY
    )
    if plain.reply is None:
        return plain
    message, reason = _read(body)
    kind = dict(headers).get(b"x-amzn-errortype", b"").decode("latin-1")
    judged = _judged(status, f"{kind} {reason} {message}", _date(headers))
    return _told(plain, judged)


def kiro_exception(
    *, provider: str, kind: str, payload: bytes, now: float, message: str = ""
) -> UpstreamError:
    """
    Say what an exception in the middle of an answer means.

    :param kind: What the service calls it.
    :param message: Where it is told outside the payload.
    :param now: Unix seconds.
    """
    told, reason = _read(payload)
    told = told or message
    name = kind.rpartition("#")[2]
    status = _STATUSES.get(name, 502)
    words = " ".join(filter(None, (name, told, reason)))[:MESSAGE_LIMIT]
    plain = UpstreamError(
        f"{provider} broke off its answer: {words or 'no reason given'}",
        fault=Fault.SERVER,
        status=status,
    )
    return _told(plain, _judged(status, words, now))


def _told(plain: UpstreamError, judged: _Judged | None) -> UpstreamError:
    if judged is None:
        judged = _Judged(plain.fault, plain.status, plain.code, of_model=plain.of_model)
    wait = plain.retry_after if plain.retry_after is not None else judged.retry_after
    message = " ".join(filter(None, (plain.message, judged.remedy)))
    return UpstreamError(
        message,
        fault=judged.fault,
        status=judged.status,
        code=judged.code,
        retry_after=wait,
        of_model=judged.of_model,
    )


def _judged(status: int, words: str, now: float | None) -> _Judged | None:
    """Return what *words* say beyond what the status says, None for nothing."""
    if 400 <= status < 500 and _TOO_LONG.search(words):
        return _Judged(Fault.CONTEXT, 400, "context_length_exceeded")
    if status == 400 and _NO_MODEL.search(words):
        return _Judged(Fault.NOT_FOUND, 404, "model_not_found", of_model=True)
    if status in (402, 403, 429):
        if _MONTHLY.search(words):
            return _Judged(Fault.QUOTA, status, "quota_exceeded", retry_after=_next_month(now))
        if _DAILY.search(words):
            return _Judged(Fault.QUOTA, status, "quota_exceeded", retry_after=_next_day(now))
    if status == 402:
        return _Judged(Fault.QUOTA, 402, "quota_exceeded")
    if status == 429:
        if _CAPACITY.search(words):
            return _Judged(Fault.CAPACITY, 429, "model_capacity", of_model=True)
        return _Judged(Fault.RATE_LIMIT, 429, "rate_limit_exceeded")
    if status in (400, 403) and _PROFILE.search(words):
        return _Judged(
            Fault.PERMISSION,
            403,
            "wrong_profile",
            "Its credential names no profileArn, or that of another account or region: log in "
            "again.",
        )
    if status == 401:
        return _Judged(Fault.CREDENTIAL, 401, "invalid_token")
    if status == 403:
        if _ACCOUNT.search(words):
            return _Judged(
                Fault.PERMISSION,
                403,
                "account_refused",
                "Log in at kiro.dev with this account to see what is wrong with it.",
            )
        if _TOKEN.search(words):
            return _Judged(Fault.CREDENTIAL, 403, "invalid_token")
        return _Judged(Fault.PERMISSION, 403)
    if status == 400 and "mproperly formed" in words:
        return _Judged(
            Fault.CALLER,
            400,
            "improperly_formed",
            "It does not say what it does not like; a conversation too long for the model may "
            "be it.",
        )
    if status == 503:
        return _Judged(Fault.CAPACITY, 503)
    return None


def _read(body: bytes) -> tuple[str, str]:
    """Return the message, and the words by which the service names its reason."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(document, Mapping):
        return "", ""
    error = document.get("error", document)
    places = [each for each in (error, document) if isinstance(each, Mapping)]
    found = (place.get(key) for key in ("message", "Message", "errorMessage") for place in places)
    message = next((text for text in found if isinstance(text, str)), "")
    named = (document.get(key) for key in ("reason", "__type", "code"))
    return message, " ".join(word for word in named if isinstance(word, str))


def _date(headers: Headers) -> float | None:
    try:
        return parsedate_to_datetime(dict(headers)[b"date"].decode("latin-1")).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _next_month(now: float | None) -> float | None:
    """Return the seconds until the first of the next month, 00:00 UTC."""
    if now is None:
        return None
    today = datetime.fromtimestamp(now, UTC)
    first = today.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return ((first + timedelta(days=32)).replace(day=1) - today).total_seconds()


def _next_day(now: float | None) -> float | None:
    return None if now is None else 86400 - now % 86400
