"""
What an error of Code Assist means, beyond what all of Google's errors have in common.

Google's own client tells more apart than a status: which limits pass, whose they are, and
when a person has to do something. It must never look at a clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import attrs

from aiclient2api.dialects.wire_request import entry, listed
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.json_text import read
from aiclient2api.framing.json_values import string
from aiclient2api.upstream.faults import upstream_error
from aiclient2api.upstream.hints import MOST_WAIT, duration, prose_wait
from aiclient2api.values import Headers

BASE_KEY = "gemini_base_url"

_LONGEST = 300.0
_DOMAIN = re.compile(r"(?:(?:staging|autopush)-)?cloudcode-pa\.googleapis\.com")
_LINK = re.compile(r"https://[!-~]{1,2000}")
_CAPACITY = frozenset(("MODEL_CAPACITY_EXHAUSTED", "MODEL_CAPACITY_EXCEEDED"))
_PROJECT = re.compile(
    r"resource project|has not been used in project|caller does not have permission", re.I
)


@attrs.frozen
class _Detail:
    """One ``ErrorInfo`` among the details of an error."""

    reason: str
    domain: str
    metadata: Mapping[str, Any]

    @property
    def ours(self) -> bool:
        """True if Code Assist itself says so."""
        return _DOMAIN.fullmatch(self.domain) is not None


def code_assist_error(
    *, provider: str, status: int, headers: Headers, body: bytes
) -> UpstreamError:
    """
    Say what an error answer means; as `upstream_error`, which says most of it.

    :param provider: The provider's configured name.
    """
    error = upstream_error(
        provider=provider, status=status, headers=headers, body=body, base_key=BASE_KEY
    )
    if error.reply is None:
        return error
    told = read(body)
    if isinstance(told, list) and len(told) == 1:
        told = told[0]
    told = entry(told, "error")
    details = listed(entry(told, "details"))
    infos = [
        _Detail(string(entry(each, "reason")), string(entry(each, "domain")), metadata)
        for each in details
        for metadata in [entry(each, "metadata") or {}]
        if isinstance(metadata, dict) and entry(each, "reason")
    ]
    if status == 404:
        # The model is all that a request names there.
        return changed(error, of_model=True)
    if status == 403:
        return _forbidden(error, provider, details, infos)
    if status in (429, 499, 503):
        return _limited(error, string(entry(told, "message")), details, infos, headers)
    return error


def validation_needed(provider: str, link: str) -> str:
    """Return the sentence for an account that Google wants to be verified."""
    return (
        f"{provider}: Google wants this account to be verified before it serves it. Open {link} "
        "in a browser, as the account's owner; after that it is used again."
    )


def printable_link(*candidates: Any) -> str:
    """Return the first of *candidates* that is a link one may show, or ``""``."""
    for each in candidates:
        if isinstance(each, str) and _LINK.fullmatch(each):
            return each
    return ""


def changed(
    error: UpstreamError,
    *,
    message: str | None = None,
    fault: Fault | None = None,
    wait: float | None = None,
    code: str | None = None,
    of_model: bool | None = None,
) -> UpstreamError:
    """Return another error like *error*, but for what is told."""
    return UpstreamError(
        message or error.message,
        fault=fault or error.fault,
        status=error.status,
        reply=error.reply,
        code=code or error.code,
        param=error.param,
        retry_after=error.retry_after if wait is None else wait,
        of_model=error.of_model if of_model is None else of_model,
    )


def _forbidden(
    error: UpstreamError, provider: str, details: list[Any], infos: Iterable[_Detail]
) -> UpstreamError:
    for info in infos:
        if info.reason == "VALIDATION_REQUIRED" and info.ours:
            links = [link for each in details for link in listed(entry(each, "links"))]
            helps = [entry(link, "url") for link in links]
            link = printable_link(*helps[:1], info.metadata.get("validation_link"))
            return changed(
                error,
                message=validation_needed(provider, link or "https://accounts.google.com"),
                fault=Fault.PERMISSION,
                code="validation_required",
            )
    if error.fault is Fault.PERMISSION and _PROJECT.search(error.message):
        remedy = "Name a project that this account may use in project_id."
        return changed(error, message=f"{error.message.rstrip('. ')}. {remedy}")
    return error


def _limited(
    error: UpstreamError,
    message: str,
    details: list[Any],
    infos: list[_Detail],
    headers: Headers,
) -> UpstreamError:
    reasons = {info.reason for info in infos}
    ours = {info.reason for info in infos if info.ours}
    fault, wait, of_model = error.fault, error.retry_after, error.of_model
    if wait is None:
        wait = _until_reset(infos, headers)
    if "limit: 0" in message:
        fault = Fault.QUOTA
    elif not details:
        told = prose_wait(message)
        if told is not None and told > _LONGEST and fault is not Fault.CAPACITY:
            fault = Fault.QUOTA
    elif fault is Fault.RATE_LIMIT and "RATE_LIMIT_EXCEEDED" in ours and not _delayed(details):
        fault = Fault.QUOTA
    if reasons & _CAPACITY and fault is not Fault.QUOTA:
        fault = Fault.CAPACITY
    limits = (Fault.RATE_LIMIT, Fault.QUOTA)
    named = any(info.metadata.get("model") for info in infos)
    if (fault in limits and named) or (fault is Fault.CAPACITY and error.status == 429):
        of_model = True
    return changed(error, fault=fault, wait=wait, of_model=of_model)


def _delayed(details: list[Any]) -> bool:
    """Say whether it is told when the limit is over."""
    told = [entry(each, "retryDelay") for each in details]
    told += [entry(entry(each, "metadata"), "quotaResetDelay") for each in details]
    return any(isinstance(each, str) and duration(each) is not None for each in told)


def _until_reset(infos: Iterable[_Detail], headers: Headers) -> float | None:
    """Return the seconds until ``quotaResetTimeStamp``, by Google's own clock."""
    date = next((value for name, value in headers if name == b"date"), b"")
    for info in infos:
        try:
            moment = datetime.fromisoformat(string(info.metadata.get("quotaResetTimeStamp")))
            now = parsedate_to_datetime(date.decode("latin-1"))
        except (ValueError, TypeError, OverflowError):
            continue
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return min(max(0.0, moment.timestamp() - now.timestamp()), MOST_WAIT)
    return None
