"""
What of an upstream's error may be shown: all but the secrets of the account it was asked with.

It must never know what the error means.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiclient2api.errors import RawReply, UpstreamError
from aiclient2api.observe.redaction import SHORTEST, without, without_bytes


def without_secrets(error: UpstreamError, secrets: Sequence[str]) -> UpstreamError:
    """Return *error* with every one of *secrets* cut out of what a client may see."""
    if not any(len(secret) >= SHORTEST for secret in secrets):
        return error
    reply = error.reply
    if reply is not None:
        headers = tuple((name, without_bytes(value, secrets)) for name, value in reply.headers)
        reply = RawReply(reply.status, headers, without_bytes(reply.body, secrets))
    return UpstreamError(
        without(error.message, secrets),
        fault=error.fault,
        status=error.status,
        reply=reply,
        code=None if error.code is None else without(error.code, secrets),
        param=None if error.param is None else without(error.param, secrets),
        retry_after=error.retry_after,
        of_model=error.of_model,
    )
