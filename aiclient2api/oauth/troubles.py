"""
What callers are told when a credential cannot be had, in sentences with a remedy.

It must never know a token: whatever else went wrong is told by its kind only.
"""

from __future__ import annotations

from twisted.logger import Logger

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.oauth.credential_file import NotWritable
from aiclient2api.oauth.locks import LockTaken
from aiclient2api.oauth.places import Unreadable

_log = Logger()


def told(raised: Exception, *, title: str, hint: str) -> UpstreamError:
    """
    Return what a caller is told of whatever a renewal or a write ran into.

    :param title: What the credential is called.
    :param hint: How to log in anew.
    """
    if isinstance(raised, UpstreamError):
        return raised
    if isinstance(raised, NotWritable):
        return UpstreamError(
            str(raised), fault=Fault.CREDENTIAL, status=401, code="credential_not_writable"
        )
    if isinstance(raised, Unreadable):
        return unreadable(raised, hint=hint)
    if isinstance(raised, LockTaken):
        return UpstreamError(
            f"Another program has had {title} locked for too long. Remove the lock file beside it "
            "if no such program runs.",
            fault=Fault.TIMEOUT,
            status=504,
            code="credential_locked",
        )
    if isinstance(raised, OSError):
        why = raised.strerror or type(raised).__name__
        return UpstreamError(
            f"A lock for {title} cannot be made ({why}). Let the gateway's user write to its "
            "folder, or give it a copy of the file in a folder of its own.",
            fault=Fault.CREDENTIAL,
            status=401,
            code="credential_not_writable",
        )
    # Its words may quote a token.
    kind = type(raised).__qualname__
    _log.error("Renewing {title} failed: {kind}. This is a bug.", title=title, kind=kind)
    return UpstreamError(
        f"A bug of the gateway kept it from renewing {title}; its log says more.",
        fault=Fault.SERVER,
        status=502,
    )


def unreadable(raised: Unreadable, *, hint: str) -> UpstreamError:
    """Return what is told where there is no credential to be had."""
    return UpstreamError(
        f"{raised} {hint}", fault=Fault.CREDENTIAL, status=401, code="credential_unreadable"
    )


def expired(title: str, *, hint: str) -> UpstreamError:
    """Return what is told where a token is no longer good and nothing can renew it."""
    return UpstreamError(
        f"The access token in {title} is no longer good, and there is no refresh token with it. "
        f"{hint}",
        fault=Fault.CREDENTIAL,
        status=401,
        code="credential_expired",
    )


def dead(title: str, *, hint: str) -> UpstreamError:
    """Return what is told once a refresh token was refused."""
    return UpstreamError(
        f"The login in {title} is no longer accepted. {hint}",
        fault=Fault.CREDENTIAL,
        status=401,
        code="credential_expired",
    )


def stopping() -> UpstreamError:
    """Return what is told at the end."""
    return UpstreamError(
        "The gateway is stopping and renews no more tokens. Ask again once it runs.",
        fault=Fault.SERVER,
        status=503,
    )


def unsteady(title: str) -> UpstreamError:
    """Return what is told where others are always quicker."""
    return UpstreamError(
        f"Other programs change {title} all the time. Give the gateway a login of its own.",
        fault=Fault.SERVER,
        status=503,
    )


def own(error: UpstreamError, *, retry_after: float | None = None) -> UpstreamError:
    """Return an error of one's own: each raise leaves its traces in what is raised."""
    return UpstreamError(
        error.message,
        fault=error.fault,
        status=error.status,
        reply=error.reply,
        code=error.code,
        param=error.param,
        retry_after=error.retry_after if retry_after is None else retry_after,
        of_model=error.of_model,
    )
