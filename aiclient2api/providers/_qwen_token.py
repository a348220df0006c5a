"""
Qwen's credential document: what is in it, until when it is good, how it is renewed.

Qwen Code keeps it in ``~/.qwen/oauth_creds.json`` and refuses one that lacks a field, so ours
never does. It must never touch a file: that is the token keeper's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.json_values import number, string
from aiclient2api.oauth.qwen_login import CLIENT
from aiclient2api.oauth.requests import Asker
from aiclient2api.values import Clock, Credential

TOKEN_PATH = "/api/v1/oauth2/token"

MARGIN = 30.0
"""Seconds before its end at which Qwen Code takes a token for expired."""

_TEXTS = ("access_token", "refresh_token", "token_type")
_LASTS = 21600.0
# Seconds; a lifetime as long as this is nonsense, as is one of no time at all.
_TOO_LONG = 1e9
# Larger numbers are milliseconds since 1970: as seconds it would be the year 5138.
_MILLISECONDS = 1e11
_DEAD = (400, 401)


def expiry(document: Mapping[str, Any]) -> float:
    """
    Return when the access token expires, in Unix seconds.

    :return: 0.0 if that is not told. What the login service answered says how long the token
        lasts, but not since when: such a document is renewed first, and complete then.
    """
    told = number(document.get("expiry_date"))
    if told is not None:
        return told / 1000 if told > _MILLISECONDS else told
    try:
        moment = datetime.fromisoformat(document["expired"])
    except (KeyError, TypeError, ValueError):
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def document_of(told: Mapping[str, Any], *, now: float) -> dict[str, Any]:
    """
    Return the keys of a credential document that an answer with tokens makes.

    :param told: What the login service answered.
    :param now: Unix seconds.
    :raise ValueError: if there is no access token in it.
    """
    if not string(told.get("access_token")):
        raise ValueError("no access token")
    lasts = number(told.get("expires_in"))
    document: dict[str, Any] = {
        key: told[key] for key in ("access_token", "refresh_token") if string(told.get(key))
    }
    document["token_type"] = string(told.get("token_type")) or "Bearer"
    if string(told.get("resource_url")):
        document["resource_url"] = told["resource_url"]
    if lasts is None or not 0 < lasts < _TOO_LONG:
        # Believed, it would have the token renewed again and again, or never.
        lasts = _LASTS
    document["expiry_date"] = int((now + lasts) * 1000)
    return document


def lacking(document: Mapping[str, Any]) -> Sequence[str]:
    """Return the keys without which Qwen Code refuses a document."""
    found = [key for key in _TEXTS if not string(document.get(key))]
    dated = any(number(document.get(key)) is not None for key in ("expiry_date", "expires_in"))
    return found if dated or expiry(document) else [*found, "expiry_date"]


def checked(document: Mapping[str, Any], *, whose: str, remedy: str) -> Mapping[str, Any]:
    """
    Return *document* if it holds what Qwen Code insists on.

    :param whose: Whose it is, for the message.
    :param remedy: What to do about it, a sentence.
    :raise UpstreamError: if something is missing.
    """
    missing = lacking(document)
    if missing:
        raise UpstreamError(
            f"The credential of {whose} lacks {', '.join(missing)}. {remedy}",
            fault=Fault.CREDENTIAL,
            status=401,
            code="credential_incomplete",
        )
    return document


def credential_of(document: Mapping[str, Any]) -> Credential:
    """Return what requests are made with."""
    token, refresh = document["access_token"], document["refresh_token"]
    where = string(document.get("resource_url"))
    return Credential(
        token, details={"resource_url": where} if where else {}, secrets=(token, refresh)
    )


@attrs.frozen
class QwenRenewal:
    """
    How one account's tokens are renewed.

    :ivar url: The token endpoint.
    :ivar whose: The provider's configured name.
    :ivar login_hint: What the operator has to do once no renewal is possible, a sentence.
    """

    asker: Asker
    url: str
    clock: Clock
    whose: str
    login_hint: str
    margin: float = MARGIN

    def expires(self, document: Mapping[str, Any]) -> float | None:
        """
        Return when the access token expires, in Unix seconds.

        Of a document that lacks something it is not said: it is not renewed, for a refresh
        token would be used up in vain, but refused by `checked`.
        """
        return None if lacking(document) else expiry(document)

    def renew(self, document: Mapping[str, Any]) -> Deferred[Mapping[str, Any]]:
        """
        Ask for new tokens; fire with what changes in the document.

        :raise UpstreamError: `Fault.CREDENTIAL` if the refresh token is good no longer.
        """
        return Deferred.fromCoroutine(self._renew(document))

    async def _renew(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = await self.asker.form(
            self.url,
            {
                "grant_type": "refresh_token",
                "refresh_token": document["refresh_token"],
                "client_id": CLIENT,
            },
        )
        if answer.status in _DEAD:
            raise UpstreamError(
                f"Qwen's login renews the tokens of {self.whose} no more "
                f"({answer.error or answer.status}). {self.login_hint}",
                fault=Fault.CREDENTIAL,
                status=401,
                code=answer.error or None,
            )
        try:
            if not answer.ok:
                raise ValueError("refused")
            return document_of(answer.document, now=self.clock.seconds())
        except ValueError:
            limited = answer.status == 429
            raise UpstreamError(
                f"Qwen's login did not renew the tokens of {self.whose} (status "
                f"{answer.status}): it is tried again later.",
                fault=Fault.RATE_LIMIT if limited else Fault.SERVER,
                status=429 if limited else 502,
                retry_after=answer.retry_after,
            ) from None
