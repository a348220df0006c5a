"""
A credential of Google's login: what is in it, until when it is good, how it is renewed.

It reads what Gemini CLI writes, what ``gcloud`` writes for programs, and what other gateways
made of both. It must never touch a credential file: that is the token keeper's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.json_values import number
from aiclient2api.oauth.credential_file import access_token, refresh_token
from aiclient2api.oauth.requests import Asker
from aiclient2api.providers._gemini_cli_client import Client
from aiclient2api.values import Clock

MARGIN = 300.0
"""Seconds before its end at which Google's own library takes a token for expired."""

_LASTS = 3599.0
# Larger numbers are milliseconds since 1970: as seconds it would be the year 5138.
_MILLISECONDS = 1e11


def expiry(document: Mapping[str, Any]) -> float | None:
    """
    Return when the access token expires, in Unix seconds.

    :return: 0.0 if there is no access token, as in what ``gcloud`` writes; None if nobody says.
    """
    if access_token(document) is None:
        return 0.0
    for place in _places(document):
        told = number(place.get("expiry_date"))
        if told is not None:
            return told / 1000 if told > _MILLISECONDS else told
        try:
            moment = datetime.fromisoformat(place["expiry"])
        except (KeyError, TypeError, ValueError):
            continue
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


def client_of(document: Mapping[str, Any]) -> Client | None:
    """Return the OAuth client that a document names, as what ``gcloud`` writes does."""
    for place in _places(document):
        id, secret = place.get("client_id"), place.get("client_secret")
        if isinstance(id, str) and id and isinstance(secret, str) and secret:
            return id, secret
    return None


def secrets_in(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return everything in a document that must be shown to nobody."""
    names = ("access_token", "refresh_token", "id_token", "client_secret")
    found = [place.get(name) for place in _places(document) for name in names]
    return tuple(dict.fromkeys(each for each in found if isinstance(each, str) and each))


@attrs.frozen
class GoogleRenewal:
    """
    How one account's tokens are renewed.

    :ivar url: The token endpoint.
    :ivar find_client: Fires with the OAuth client a document was made with, and what of it
        must be shown to nobody is known to whoever made this.
    :ivar whose: The provider's configured name.
    :ivar login_hint: What the operator has to do once no renewal is possible.
    """

    asker: Asker
    url: str
    clock: Clock
    find_client: Callable[[Mapping[str, Any]], Deferred[Client]]
    whose: str
    login_hint: str
    margin: float = MARGIN

    def expires(self, document: Mapping[str, Any]) -> float | None:
        """Return when the access token expires, in Unix seconds."""
        return expiry(document)

    def renew(self, document: Mapping[str, Any]) -> Deferred[Mapping[str, Any]]:
        """
        Ask for a new access token; fire with what changes in the document.

        :raise UpstreamError: `Fault.CREDENTIAL` if the refresh token is good no longer.
        """
        return Deferred.fromCoroutine(self._renew(document))

    async def _renew(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        kind = document.get("type")
        if isinstance(kind, str) and kind != "authorized_user":
            raise self._dead("is not one of a person's login", "credential_type")
        refresh = refresh_token(document)
        if refresh is None:
            raise self._dead("has no refresh token", "no_refresh_token")
        id, secret = await self.find_client(document)
        answer = await self.asker.form(
            self.url,
            {
                "client_id": id,
                "client_secret": secret,
                "refresh_token": refresh,
                "grant_type": "refresh_token",
            },
        )
        if answer.error == "invalid_grant":
            raise self._dead(
                f"has a refresh token that is good no longer ({answer.told or answer.error})",
                answer.error,
            )
        if answer.error in ("invalid_client", "unauthorized_client", "deleted_client"):
            raise UpstreamError(
                f"Google does not renew the token of {self.whose}, for it was not made with this "
                f"OAuth client ({answer.error}): write the id and the secret of the client it was "
                "made with into gemini_oauth_client_id and gemini_oauth_client_secret.",
                fault=Fault.PERMISSION,
                status=403,
                code=answer.error,
            )
        token = answer.text("access_token")
        if not answer.ok or not token:
            limited = answer.status == 429
            raise UpstreamError(
                f"Google's login did not renew the token of {self.whose} (status "
                f"{answer.status}{', ' + answer.error if answer.error else ''}): it is tried "
                "again later.",
                fault=Fault.RATE_LIMIT if limited else Fault.SERVER,
                status=429 if limited else 502,
                retry_after=answer.retry_after,
            )
        lasts = answer.number("expires_in", _LASTS)
        changes: dict[str, Any] = {
            "access_token": token,
            "expiry_date": int((self.clock.seconds() + lasts) * 1000),
        }
        # Google tells the refresh token only if it is another one: the old one stays, then.
        for name in ("refresh_token", "scope", "token_type", "id_token"):
            if answer.text(name):
                changes[name] = answer.text(name)
        return changes

    def _dead(self, what: str, code: str) -> UpstreamError:
        return UpstreamError(
            f"The credential of {self.whose} {what}: {self.login_hint}",
            fault=Fault.CREDENTIAL,
            status=401,
            code=code,
        )


def _places(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield document
    for name in ("token", "tokens"):
        inner = document.get(name)
        if isinstance(inner, Mapping):
            yield inner
