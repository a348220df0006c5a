"""
Kiro's credential document: whose it is, where it belongs, until when it is good, its renewal.

There are two kinds. Social logins are renewed by Kiro itself, in one region. Builder IDs and
an organisation's Identity Center are renewed by AWS, in the region they were issued in, with a
client's registration that the IDE keeps in a second file; of all the files beside a credential
exactly that one is read. Where requests go is another region, which the profile tells.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.json_values import number
from aiclient2api.oauth.requests import Answer, Asker, seconds_left
from aiclient2api.values import Clock, Credential

REGION = "us-east-1"
"""Where social logins are, and who is said to be nowhere else."""

SERVED = ("us-east-1", "eu-central-1")
"""Regions in which the service is known to be."""

FILE_NAME = "kiro-auth-token.json"
"""What the IDE calls its credential file."""

SOCIAL_URL = "https://prod.{{region}}.auth.desktop.kiro.dev/refreshToken"
OIDC_URL = "https://oidc.{{region}}.amazonaws.com/token"

MARGIN = 30.0
"""Seconds before its end at which a token counts as expired."""

_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d{1,2}")
_ARN_REGION = re.compile(r"arn:[a-z-]+:[a-z]+:([a-z0-9-]+):")
_HASH = re.compile(r"[0-9A-Fa-f]{8,128}")
_LONGEST_REGISTRATION = 64 * 1024
# Larger numbers are milliseconds since 1970: as seconds it would be the year 5138.
_MILLISECONDS = 1e11
_DEAD = ("invalid_grant", "expired_token", "access_denied")
_FRACTION = re.compile(r"(\.\d{6})\d+")


def unpacked(packed: str) -> Mapping[str, Any] | None:
    """Return the document that stands in base64, None if there is none."""
    try:
        text = packed.translate(str.maketrans("-_", "+/"))
        document = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def is_social(document: Mapping[str, Any]) -> bool:
    """Say whether Kiro itself renews the login; how one logged in is not always told."""
    method = _text(document, "authMethod").lower()
    if method:
        return method == "social"
    registered = _text(document, "clientId") and _text(document, "clientSecret")
    return not (registered or _text(document, "clientIdHash"))


def service_region(document: Mapping[str, Any]) -> str:
    """Return where requests go."""
    if is_social(document):
        return REGION
    found = _ARN_REGION.match(_text(document, "profileArn"))
    return _region(found[1] if found is not None else "")


def oidc_region(document: Mapping[str, Any]) -> str:
    """Return where AWS issued the login."""
    return _region(_text(document, "idcRegion") or _text(document, "region"))


def filled(url: str, region: str) -> str:
    """Return a configured address with its region put in."""
    return url.replace("{{region}}", region)


def expiry(document: Mapping[str, Any]) -> float | None:
    """
    Return when the access token expires, in Unix seconds; None if nobody says.

    A time without a zone is UTC; a number may count seconds or milliseconds.
    """
    told = document.get("expiresAt")
    if isinstance(told, str) and told.strip().isdigit() and len(told) < 20:
        told = int(told)
    moments = number(told)
    if moments is not None and moments > 0:
        return moments / 1000 if moments > _MILLISECONDS else moments
    if not isinstance(told, str):
        return None
    try:
        moment = datetime.fromisoformat(_FRACTION.sub(r"\1", told.strip()))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def credential_of(document: Mapping[str, Any]) -> Credential:
    """Return what requests are made with."""
    secrets = (document.get(key) for key in ("accessToken", "refreshToken", "clientSecret"))
    arn = _text(document, "profileArn")
    return Credential(
        _text(document, "accessToken"),
        details={"region": service_region(document), **({"profile_arn": arn} if arn else {})},
        secrets=tuple(secret for secret in secrets if isinstance(secret, str) and secret),
    )


@attrs.frozen
class KiroRenewal:
    """
    How one account's tokens are renewed.

    :ivar whose: The provider's configured name.
    :ivar folder: Where the credential file is, and a registration beside it; None for none.
    :ivar login_hint: What the operator has to do once no renewal is possible.
    """

    asker: Asker
    clock: Clock
    whose: str
    login_hint: str
    folder: Path | None = None
    social_url: str = SOCIAL_URL
    oidc_url: str = OIDC_URL
    margin: float = MARGIN

    def expires(self, document: Mapping[str, Any]) -> float | None:
        """Return when the access token expires, in Unix seconds."""
        return expiry(document)

    def renew(self, document: Mapping[str, Any]) -> Deferred[Mapping[str, Any]]:
        """
        Ask for new tokens; fire with what changes in the document.

        :raise UpstreamError: `Fault.CREDENTIAL` if the refresh token is good no longer.
        """
        return Deferred.fromCoroutine(self._renew(document))

    async def _renew(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        refresh = _text(document, "refreshToken")
        social = is_social(document)
        if social:
            url = filled(self.social_url, REGION)
            answer = await self.asker.json(url, {"refreshToken": refresh})
        else:
            client, secret = self._registration(document)
            url = filled(self.oidc_url, oidc_region(document))
            answer = await self.asker.json(
                url,
                {
                    "refreshToken": refresh,
                    "clientId": client,
                    "clientSecret": secret,
                    "grantType": "refresh_token",
                },
            )
        if not answer.ok:
            raise self._refused(answer, social=social, region=oidc_region(document))
        token = answer.text("accessToken")
        if not token:
            raise UpstreamError(
                f"The login of {self.whose} was renewed without an access token: it is tried "
                "again later.",
                fault=Fault.SERVER,
                status=502,
            )
        ends = self.clock.seconds() + seconds_left(answer)
        changes = {"accessToken": token, "expiresAt": _moment(ends)}
        # What is not told stays as it was.
        for key in ("refreshToken", *(("profileArn",) if social else ())):
            if answer.text(key):
                changes[key] = answer.text(key)
        return changes

    def _registration(self, document: Mapping[str, Any]) -> tuple[str, str]:
        named, found = _text(document, "clientIdHash"), document
        own = _text(document, "clientId") and _text(document, "clientSecret")
        if not own and self.folder is not None and _HASH.fullmatch(named):
            found = _read(self.folder / f"{named}.json")
        client, secret = _text(found, "clientId"), _text(found, "clientSecret")
        if client and secret:
            return client, secret
        where = f" the file {named}.json beside the credential," if _HASH.fullmatch(named) else ""
        raise UpstreamError(
            f"The login of {self.whose} cannot be renewed without its client's registration:"
            f"{where} or clientId and clientSecret in it, are missing. Copy them along, or "
            f"{self.login_hint[:1].lower()}{self.login_hint[1:]}",
            fault=Fault.PERMISSION,
            status=403,
            code="no_registration",
        )

    def _refused(self, answer: Answer, *, social: bool, region: str) -> UpstreamError:
        word = answer.error or str(answer.status)
        why = f"{word}: {answer.told}" if answer.told and answer.told != word else word
        refused = f"The login of {self.whose} was not renewed ({why.rstrip('.')})."
        if answer.error in _DEAD or (social and answer.status in (400, 401)):
            return self._dead(refused, answer)
        if answer.error == "invalid_client":
            # It is good for some ninety days.
            return self._dead(f"{refused} Its client's registration is over.", answer)
        if answer.error == "invalid_request":
            return UpstreamError(
                f"{refused} It was asked for in {region}; if it was issued elsewhere, put that "
                "region into the credential file as idcRegion.",
                fault=Fault.PERMISSION,
                status=403,
                code="invalid_request",
            )
        if answer.status == 401:
            return self._dead(refused, answer)
        limited = answer.status == 429
        return UpstreamError(
            f"{refused} It is tried again later.",
            fault=Fault.RATE_LIMIT if limited else Fault.SERVER,
            status=429 if limited else 502,
            retry_after=answer.retry_after,
        )

    def _dead(self, refused: str, answer: Answer) -> UpstreamError:
        return UpstreamError(
            f"{refused} {self.login_hint}",
            fault=Fault.CREDENTIAL,
            status=401,
            code=answer.error or None,
        )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LONGEST_REGISTRATION))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _region(text: str) -> str:
    # It becomes part of a host's name, and comes out of a file.
    return text if _REGION.fullmatch(text) else REGION


def _moment(seconds: float) -> str:
    told = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return told.replace("+00:00", "Z")


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""
