"""
Gemini by the login of Gemini CLI, through Google's Code Assist.

Google forbids other programs to use this login, and has suspended accounts for it: see
`GeminiCLIOAuthFactory.terms`. Requests go out under our own name, which the service takes; no
prompt id and no session id are made up. It must never change what a client says beyond what
the service does not take.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.plugin import IPlugin
from twisted.python.components import registerAdapter
from zope.interface import implementer

from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.framing.json_text import read, write
from aiclient2api.interfaces import (
    IDialect,
    IEnvelope,
    IEnveloping,
    ILogins,
    IProvider,
    IProviderFactory,
    IRenewing,
    IUpstream,
    IWireRequest,
)
from aiclient2api.oauth.credential_file import refresh_token
from aiclient2api.oauth.google_login import TOKEN, GoogleLogins
from aiclient2api.observe.redaction import without_bytes
from aiclient2api.providers._code_assist_answer import Opening
from aiclient2api.providers._code_assist_faults import BASE_KEY, code_assist_error
from aiclient2api.providers._code_assist_project import Projects, discovered
from aiclient2api.providers._code_assist_quota import QuotaBucket, buckets_in
from aiclient2api.providers._code_assist_request import wrapped, wrapped_count
from aiclient2api.providers._gemini_cli_login import Login, login_client
from aiclient2api.upstream.answers import dressed, fetch, join, versioned
from aiclient2api.upstream.deadlines import within
from aiclient2api.values import (
    Account,
    Clock,
    Credential,
    Headers,
    ModelInfo,
    Runtime,
    Traits,
    UpstreamRequest,
    setting,
)

_BASE = "https://cloudcode-pa.googleapis.com"
_VERSION = "/v1internal"
# The service has no list of its own.
_MODELS = (
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-3-pro-preview",
    "gemini-3-flash-preview",
    "gemini-3.1-pro-preview",
    "gemini-3.1-flash-lite-preview",
    "gemini-3.5-flash",
)
_CALL_SECONDS = 60.0


@attrs.frozen(repr=False)
class GeminiCLISettings:
    """Where the login is kept, and addresses; without a repr, so that no token is printed."""

    gemini_oauth_creds_file_path: Path | None = setting(
        kind="path", help="Credential file of Gemini CLI, such as ~/.gemini/oauth_creds.json."
    )
    gemini_oauth_creds_base64: str | None = setting(
        kind="secret",
        help="The content of such a file in base64; its tokens are lost with the process.",
    )
    project_id: str | None = setting(
        kind="text", help="Id (not number) of a Google Cloud project; else it is asked for."
    )
    gemini_base_url: str = setting(
        kind="url", default=_BASE, help="Base URL of Code Assist, with or without /v1internal."
    )
    gemini_oauth_client_id: str | None = setting(
        kind="text",
        help="Id of the OAuth client the login was made with; else that of your Gemini CLI.",
    )
    gemini_oauth_client_secret: str | None = setting(
        kind="text", help="Secret of that OAuth client."
    )
    gemini_oauth_token_url: str = setting(
        kind="url", default=TOKEN, help="Where tokens are renewed."
    )


@implementer(IProvider, IRenewing, IEnveloping)
@attrs.frozen
class GeminiCLIOAuth:
    """Code Assist under one configured name."""

    name: str
    upstream: IUpstream
    clock: Clock
    login: Login
    known_models: tuple[str, ...] = _MODELS
    dialect: IDialect = GEMINI
    counts_tokens: bool = True
    _projects: Projects = attrs.field(factory=Projects, init=False, repr=False)

    # --- IProvider ---------------------------------------------------------------

    def traits(self, *, model: str) -> Traits:
        """Return nothing peculiar: there is one vendor."""
        return Traits()

    def prepare(self, *, request: IWireRequest, account: Account) -> UpstreamRequest:
        """Dress *request* for ``v1internal:{verb}``, with its body in an envelope."""
        credential = account.credential
        query: tuple[tuple[str, str], ...] = ()
        if request.action == "count_tokens":
            verb, body = "countTokens", wrapped_count(request)
        elif request.action == "generate":
            project = credential.details.get("project", "") if credential else ""
            body = wrapped(request, project)
            verb = "generateContent"
            if request.streaming:
                # However the client wants it: Code Assist has no JSON array.
                verb, query = "streamGenerateContent", (("alt", "sse"),)
        else:
            raise InvalidRequest(
                f"{self.name} cannot do {request.action}: Code Assist has no such call."
            )
        accept = b"text/event-stream" if query else b"application/json"
        own = (
            (b"content-type", b"application/json"),
            (b"accept", accept),
            *(_auth(credential.token) if credential else ()),
        )
        return UpstreamRequest(
            method="POST",
            url=_url(account, f":{verb}", query),
            headers=dressed(own, request.headers),
            body=body,
            account=account.id,
            proxy=account.proxy,
        )

    def classify(self, *, status: int, headers: Headers, body: bytes) -> UpstreamError:
        """Say what an error answer means."""
        return code_assist_error(provider=self.name, status=status, headers=headers, body=body)

    def models(self, *, account: Account) -> Deferred[Sequence[ModelInfo]]:
        """Return what *account* is said to support, else a fixed list: there is no other."""
        models = account.supported or _MODELS
        return succeed([ModelInfo(id=model, owned_by="google") for model in models])

    def usage(self, *, account: Account) -> Deferred[Sequence[QuotaBucket]]:
        """
        Ask how much is left of the account's allowances. Cancelling closes the connection.

        :raise UpstreamError: if the upstream cannot be asked.
        """
        return Deferred.fromCoroutine(self._usage(account))

    async def _usage(self, account: Account) -> Sequence[QuotaBucket]:
        credential = account.credential or await self.credential(account=account)
        call = self._call(account, credential.token, credential.secrets)
        told = await call(":retrieveUserQuota", {"project": credential.details["project"]})
        return buckets_in(told)

    # --- IEnveloping -------------------------------------------------------------

    def envelope(self, *, request: IWireRequest) -> IEnvelope | None:
        """Return what opens the answer; a count of tokens comes without an envelope."""
        return Opening(framing=request.framing) if request.action == "generate" else None

    # --- IRenewing ---------------------------------------------------------------

    def credential(
        self, *, account: Account, refused: Credential | None = None
    ) -> Deferred[Credential]:
        """Return the account's access token and its project, renewed and found if need be."""
        return Deferred.fromCoroutine(self._credential(account, refused))

    async def _credential(self, account: Account, refused: Credential | None) -> Credential:
        keeper = self.login.keeper(account)
        document = await keeper.current(refused=None if refused is None else refused.token)
        token = self.login.token(document)
        project = self._configured(account, document)
        if not project:
            try:
                project = await self._discovered(account, document, token)
            except UpstreamError as error:
                if error.fault is not Fault.CREDENTIAL:
                    raise
                # Revoked before its time, as by a login elsewhere: once more with another.
                document = await keeper.current(refused=token)
                token = self.login.token(document)
                project = await self._discovered(account, document, token)
        return Credential(
            token,
            details={"project": project},
            secrets=self.login.secrets(account, document),
        )

    def renew_early(self, *, account: Account, seconds: float) -> Deferred[object]:
        """Renew the account's token if it expires within so many seconds. Never fails."""
        try:
            keeper = self.login.keeper(account)
        except UpstreamError as error:
            return succeed(error)
        renewing: Deferred[Any] = keeper.early(seconds)
        return renewing

    def version(self, *, account: Account) -> str:
        """Return what changes whenever the account's credential does."""
        try:
            return self.login.keeper(account).version
        except UpstreamError:
            return ""

    # --- the account's project -----------------------------------------------------

    def _configured(self, account: Account, document: Mapping[str, Any]) -> str:
        """Return the project that somebody wrote down, or ``""``."""
        written: str = (account.settings.project_id or "").strip()
        if written.isdigit():
            raise UpstreamError(
                f"{self.name}: project_id is a project's number, and Google wants its id: write "
                "the id, as the Google Cloud console shows it.",
                fault=Fault.PERMISSION,
                status=403,
                code="project_number",
            )
        kept = document.get("project_id")
        if written or not isinstance(kept, str) or kept.isdigit():
            return written
        return kept.strip()

    async def _discovered(self, account: Account, document: Mapping[str, Any], token: str) -> str:
        # The login, not the account: a file may be replaced by somebody else's.
        login = refresh_token(document) or token
        told = "\0".join((login, account.id, account.settings.gemini_base_url or ""))
        call = self._call(account, token, self.login.secrets(account, document))
        return await self._projects.get(
            hashlib.sha256(told.encode()).hexdigest(),
            partial(discovered, whose=self.name, call=call, clock=self.clock),
        )

    def _call(
        self, account: Account, token: str, secrets: Sequence[str]
    ) -> Callable[[str, Mapping[str, Any] | None], Awaitable[Mapping[str, Any]]]:
        async def call(path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
            kind = () if body is None else ((b"content-type", b"application/json"),)
            request = UpstreamRequest(
                method="GET" if body is None else "POST",
                url=_url(account, path),
                headers=(*kind, (b"accept", b"application/json"), *_auth(token)),
                body=None if body is None else write(body),
                account=account.id,
                proxy=account.proxy,
            )
            clean = partial(without_bytes, secrets=secrets)
            asking = Deferred.fromCoroutine(
                fetch(provider=self, request=request, clean=clean, clock=self.clock)
            )
            told = read(await within(self.clock, _CALL_SECONDS, asking, self._late))
            if isinstance(told, dict):
                return told
            raise UpstreamError(
                f"{self.name} answered with something else than a JSON object: see whether "
                f"{BASE_KEY} is right.",
                fault=Fault.SERVER,
                status=502,
            )

        return call

    def _late(self) -> UpstreamError:
        return UpstreamError(
            f"{self.name} did not answer within {_CALL_SECONDS:g} seconds: try again later.",
            fault=Fault.TIMEOUT,
            status=504,
        )


def _url(account: Account, path: str, query: Sequence[tuple[str, str]] = ()) -> str:
    base = account.settings.gemini_base_url or _BASE
    return join(base, path if versioned(base) else _VERSION + path, query)


def _auth(token: str) -> Headers:
    return ((b"authorization", f"Bearer {token}".encode()),)


@implementer(IPlugin, IProviderFactory)
class GeminiCLIOAuthFactory:
    """Makes `GeminiCLIOAuth` providers."""

    name = "gemini-cli-oauth"
    title = "Gemini by the login of Gemini CLI (Code Assist)"
    terms = (
        "Google's terms forbid the use of this login by any program but its own, and Google has "
        "suspended accounts for it; in June 2026 it withdrew the login for personal accounts. "
        "Use it only with an account whose loss you can bear, or an API key (gemini-custom)."
    )
    settings = GeminiCLISettings
    needs_credential = True

    def provider(self, *, name: str, runtime: Runtime) -> IProvider:
        """Make the provider called *name*."""
        login = Login(
            whose=name, upstream=runtime.upstream, clock=runtime.clock, tokens=runtime.tokens
        )
        return GeminiCLIOAuth(
            name=name, upstream=runtime.upstream, clock=runtime.clock, login=login
        )

    def defaults(self, *, name: str) -> Mapping[str, str]:
        """Return nothing: there is one vendor."""
        return {}


def _logins(factory: GeminiCLIOAuthFactory) -> GoogleLogins:
    return GoogleLogins(find_client=login_client)


registerAdapter(_logins, GeminiCLIOAuthFactory, ILogins)

gemini_cli_oauth = GeminiCLIOAuthFactory()
