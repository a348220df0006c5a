"""
What Qwen's error answers mean: a spent day, a token that is no good, a tier that is over.

Pure. It must never know an account, nor decide what is done about an error.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

from aiclient2api.errors import Fault, RawReply, UpstreamError
from aiclient2api.upstream.faults import upstream_error
from aiclient2api.values import Headers

OVER = (
    "Qwen ended the free tier of this login on 15 April 2026: if a fresh login is refused as "
    "well, the account is served no longer, and an API key of Model Studio "
    "(openai-custom-dashscope) is the way on."
)
"""What an operator has to know of a refusal that no login helps against."""

_QUOTA = re.compile(r"insufficient_quota|quota_exceeded|free allocated quota exceeded", re.I)
# What Qwen Code itself takes for a token to renew.
_REFUSED = re.compile(
    r"unauthorized|forbidden|invalid api key|invalid access token|token expired"
    r"|authentication|access denied",
    re.I,
)
_DOUBTFUL = (Fault.CALLER, Fault.PERMISSION, Fault.CREDENTIAL)
_DAY = 86400
# China's clocks are eight hours ahead all the year.
_BEIJING = 8 * 3600


def qwen_error(*, provider: str, status: int, headers: Headers, body: bytes) -> UpstreamError:
    """
    Say what an error answer means.

    A day's quota that is used up comes with a 403 mostly, and is told as the 429 it is. It
    is over at midnight in Beijing, counted from the answer's own ``Date``.
    """
    found = upstream_error(
        provider=provider, status=status, headers=headers, body=body, base_key="qwen_base_url"
    )
    words = f"{found.code or ''} {found.message}"
    spent = found.fault is Fault.QUOTA or _QUOTA.search(words) is not None
    if status in (403, 429) and (spent or _QUOTA.search(body.decode("utf-8", "replace"))):
        reply = found.reply
        return UpstreamError(
            found.message,
            fault=Fault.QUOTA,
            status=429,
            reply=reply and RawReply(429, reply.headers, reply.body),
            code=found.code,
            param=found.param,
            retry_after=_until_midnight(headers),
            of_model=found.of_model,
        )
    refused = status in (401, 403) or _REFUSED.search(found.message) is not None
    if refused and found.fault in _DOUBTFUL:
        return UpstreamError(
            f"{found.message.rstrip('.')}. {OVER}",
            fault=Fault.CREDENTIAL,
            status=found.status,
            reply=found.reply,
            code=found.code,
            param=found.param,
            retry_after=found.retry_after,
        )
    return found


def _until_midnight(headers: Headers) -> float | None:
    """Return the seconds from an answer's date to the next midnight in Beijing."""
    told = next((value for name, value in headers if name == b"date"), b"")
    try:
        now = parsedate_to_datetime(told.decode("latin-1")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return _DAY - (now + _BEIJING) % _DAY
