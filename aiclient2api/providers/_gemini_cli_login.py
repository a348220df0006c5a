"""
The login of Gemini CLI: where an account keeps it, and with which OAuth client it is renewed.

It must never know what a token is used for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.interfaces import IUpstream
from aiclient2api.oauth.credential_file import access_token
from aiclient2api.oauth.google_login import TOKEN
from aiclient2api.oauth.requests import Asker
from aiclient2api.oauth.tokens import Source, TokenKeeper
from aiclient2api.providers._gemini_cli_client import Client, installed_client
from aiclient2api.providers._google_token import GoogleRenewal, client_of, secrets_in
from aiclient2api.values import Account, Clock

HINT = (
    "log in again with 'aiclient2api login gemini-cli-oauth', or with Gemini CLI, and see that "
    "gemini_oauth_creds_file_path names its file."
)


@attrs.frozen
class Login:
    """
    The logins of one provider's accounts.

    :ivar whose: The provider's configured name.
    :ivar in_thread: Calls a function that waits for the disk; returns a Deferred. None: in the
        clock's own threads.
    :ivar find_installed: Finds the OAuth client of the Gemini CLI on this machine.
    """

    whose: str
    upstream: IUpstream
    clock: Clock
    tokens: Any = attrs.field(default=None, repr=False)
    in_thread: Callable[..., Deferred[Any]] | None = attrs.field(default=None, repr=False)
    find_installed: Callable[[], Client | None] = installed_client
    # Not compared: it is filled while it is used, and a provider is a key of mappings.
    _found: list[Client] = attrs.field(factory=list, init=False, repr=False, eq=False)

    def keeper(self, account: Account) -> TokenKeeper:
        """
        Return who keeps the account's tokens.

        :raise UpstreamError: if the account has none.
        """
        if self.tokens is None:
            raise UpstreamError(
                f"{self.whose} has nothing to keep tokens with. This is a bug: please report it.",
                fault=Fault.SERVER,
                status=500,
                code="gateway_bug",
            )
        keeper: TokenKeeper = self.tokens.keeper(
            source=self._source(account),
            renewal=GoogleRenewal(
                asker=Asker(
                    upstream=self.upstream,
                    clock=self.clock,
                    whose="Google's login",
                    proxy=account.proxy,
                ),
                url=account.settings.gemini_oauth_token_url or TOKEN,
                clock=self.clock,
                find_client=partial(self._client_for, account),
                whose=self.whose,
                login_hint=HINT,
            ),
        )
        return keeper

    def token(self, document: Mapping[str, Any]) -> str:
        """
        Return the access token in *document*.

        :raise UpstreamError: if there is none.
        """
        token = access_token(document)
        if token is None:
            raise self._lacking("has a credential without an access token")
        return token

    def secrets(self, account: Account, document: Mapping[str, Any]) -> tuple[str, ...]:
        """Return everything of the account's login that must be shown to nobody."""
        written = account.settings.gemini_oauth_client_secret
        clients = (written, *(secret for _, secret in self._found))
        return (*secrets_in(document), *(each for each in clients if each))

    def _source(self, account: Account) -> Source:
        path = account.settings.gemini_oauth_creds_file_path
        packed = account.settings.gemini_oauth_creds_base64
        if path:
            return Source(path=Path(path).expanduser(), inline=None, lock=None)
        if not packed:
            raise self._lacking("has no credential")
        try:
            document = json.loads(base64.b64decode(packed))
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise self._lacking("has a gemini_oauth_creds_base64 that is no JSON object in base64")
        return Source(path=None, inline=document, lock=None)

    def _client_for(self, account: Account, document: Mapping[str, Any]) -> Deferred[Client]:
        return Deferred.fromCoroutine(self._client(account, document))

    async def _client(self, account: Account, document: Mapping[str, Any]) -> Client:
        settings = account.settings
        told = _pair(settings.gemini_oauth_client_id, settings.gemini_oauth_client_secret)
        told = told or client_of(document)
        if told is not None:
            return told
        if not self._found:
            found = await self._threaded(self.find_installed)
            if found is None:
                raise _no_client(self.whose)
            self._found.append(found)
        return self._found[0]

    def _threaded(self, function: Callable[[], Any]) -> Deferred[Any]:
        if self.in_thread is not None:
            return self.in_thread(function)
        return deferToThreadPool(self.clock, self.clock.getThreadPool(), function)

    def _lacking(self, what: str) -> UpstreamError:
        return UpstreamError(
            f"{self.whose} {what}: {HINT}",
            fault=Fault.CREDENTIAL,
            status=401,
            code="no_credential",
        )


def login_client(settings: Mapping[str, Any]) -> Client:
    """
    Return the OAuth client to log in with. Waits for the disk.

    :param settings: The provider's settings by their keys.
    :raise UpstreamError: if there is none, with what to do.
    """
    found = _pair(
        settings.get("gemini_oauth_client_id"), settings.get("gemini_oauth_client_secret")
    )
    found = found or installed_client()
    if found is None:
        raise _no_client("gemini-cli-oauth")
    return found


def _pair(id: str | None, secret: str | None) -> Client | None:
    return (id, secret) if id and secret else None


def _no_client(whose: str) -> UpstreamError:
    return UpstreamError(
        f"{whose} knows no OAuth client, which is what logs in and renews tokens: install Gemini "
        "CLI on this machine, or write gemini_oauth_client_id and gemini_oauth_client_secret as "
        "they stand in its source.",
        fault=Fault.PERMISSION,
        status=403,
        code="no_oauth_client",
    )
