"""
Qwen's models by the login of Qwen Code, in the Chat Completions dialect.

Discontinued upstream: Qwen ended the free tier of this login on 15 April 2026, and has
answered 401 to its tokens since. It stays for accounts that are still served.

Requests go out under our own name. Of the service's own headers those are sent that it reads:
that marks for its cache are meant, and which login the token is of. It must never alter a
prompt beyond putting its system messages together, as the service demands.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.plugin import IPlugin
from twisted.python.components import registerAdapter
from zope.interface import implementer

from aiclient2api import __version__
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
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
from aiclient2api.oauth.qwen_login import BASE as LOGIN
from aiclient2api.oauth.qwen_login import QwenLogins
from aiclient2api.oauth.requests import Asker
from aiclient2api.oauth.tokens import Source, TokenKeeper
from aiclient2api.observe.redaction import without_bytes
from aiclient2api.providers._qwen_answer import Uncalled
from aiclient2api.providers._qwen_faults import OVER, qwen_error
from aiclient2api.providers._qwen_request import fitted, offers_nothing
from aiclient2api.providers._qwen_token import (
    TOKEN_PATH,
    QwenRenewal,
    checked,
    credential_of,
)
from aiclient2api.upstream.answers import dressed, fetch, join, not_a_list
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
from aiclient2api.vendors import traits_of

# Where Qwen Code goes with a credential that names no address.
_BASE = "https://dashscope.aliyuncs.com/compatible-mode/v1"
_MODELS = ("coder-model", "vision-model", "qwen3-coder-plus", "qwen3-coder-flash")
_OURS = f"aiclient2api/{__version__}".encode("ascii")
_HEADERS = (
    (b"x-dashscope-cachecontrol", b"enable"),
    (b"x-dashscope-useragent", _OURS),
    (b"x-dashscope-authtype", b"qwen-oauth"),
)
# Qwen Code locks under this name whatever holds its credential; others add to the file's own.
_THEIRS = ("oauth_creds.json", "oauth_creds.lock")


@attrs.frozen(repr=False)
class QwenSettings:
    """Where the login is kept, and addresses; without a repr, so that no token is printed."""

    qwen_oauth_creds_file_path: Path | None = setting(
        kind="path", help="Credential file of Qwen Code, such as ~/.qwen/oauth_creds.json."
    )
    qwen_oauth_creds_base64: str | None = setting(
        kind="secret",
        help="The content of such a file in base64; its tokens are lost with the process.",
    )
    qwen_base_url: str | None = setting(
        kind="url", help="Base URL with its version; wins over the one that the login named."
    )
    qwen_oauth_base_url: str = setting(
        kind="url", default=LOGIN, help="Where the login service is."
    )


@implementer(IProvider, IRenewing, IEnveloping)
@attrs.frozen
class OpenAIQwenOAuth:
    """Qwen's service under one configured name."""

    name: str
    upstream: IUpstream
    clock: Clock
    tokens: Any = attrs.field(default=None, repr=False)
    known_models: tuple[str, ...] = _MODELS
    dialect: IDialect = OPENAI_CHAT
    counts_tokens: bool = False

    # --- IProvider ---------------------------------------------------------------

    def traits(self, *, model: str) -> Traits:
        """Say what is peculiar to Qwen's models, whatever they are called here."""
        return attrs.evolve(traits_of("qwen"), replays_reasoning=True)

    def prepare(self, *, request: IWireRequest, account: Account) -> UpstreamRequest:
        """Dress *request* for ``{base}/chat/completions``."""
        if request.action != "generate":
            raise InvalidRequest(
                f"{self.name} cannot do {request.action}: Qwen's service has no such call. Ask "
                "for an answer instead."
            )
        credential = self._held(account)
        streaming = request.streaming and request.framing == "sse"
        own = (
            (b"content-type", b"application/json"),
            (b"accept", b"text/event-stream" if streaming else b"application/json"),
            *_auth(credential),
            *_HEADERS,
        )
        return UpstreamRequest(
            method="POST",
            url=join(_base(account, credential), "/chat/completions", request.query),
            headers=dressed(own, request.headers),
            body=fitted(request),
            account=account.id,
            proxy=account.proxy,
        )

    def classify(self, *, status: int, headers: Headers, body: bytes) -> UpstreamError:
        """Say what an error answer means."""
        return qwen_error(provider=self.name, status=status, headers=headers, body=body)

    def models(self, *, account: Account) -> Deferred[Sequence[ModelInfo]]:
        """Ask ``{base}/models``, or return what *account* is said to support."""
        if account.supported:
            return succeed([ModelInfo(id=model) for model in account.supported])
        return Deferred.fromCoroutine(self._ask(account))

    async def _ask(self, account: Account) -> Sequence[ModelInfo]:
        credential = account.credential or await self.credential(account=account)
        request = UpstreamRequest(
            method="GET",
            url=join(_base(account, credential), "/models"),
            headers=((b"accept", b"application/json"), *_auth(credential), *_HEADERS),
            account=account.id,
            proxy=account.proxy,
        )
        secrets = (*account.secrets, *credential.secrets)
        try:
            body = await fetch(
                provider=self,
                request=request,
                clean=partial(without_bytes, secrets=secrets),
                clock=self.clock,
            )
        except UpstreamError as error:
            if error.fault is not Fault.NOT_FOUND:
                raise
            # Not every address that a login may name has a list.
            return [ModelInfo(id=model) for model in _MODELS]
        try:
            return self.dialect.read_models(body)
        except ValueError:
            raise not_a_list(self.name, "qwen_base_url") from None

    # --- IEnveloping -------------------------------------------------------------

    def envelope(self, *, request: IWireRequest) -> IEnvelope | None:
        """Return what drops calls, where the client offers nothing to call."""
        return Uncalled() if offers_nothing(request) else None

    # --- IRenewing ---------------------------------------------------------------

    def credential(
        self, *, account: Account, refused: Credential | None = None
    ) -> Deferred[Credential]:
        """Return the account's access token and where it is used, renewed if need be."""
        return Deferred.fromCoroutine(self._credential(account, refused))

    async def _credential(self, account: Account, refused: Credential | None) -> Credential:
        told = None if refused is None else refused.token
        document = await self._keeper(account).current(refused=told)
        return credential_of(checked(document, whose=self.name, remedy=self._hint))

    def renew_early(self, *, account: Account, seconds: float) -> Deferred[object]:
        """Renew the account's token if it expires within so many seconds. Never fails."""
        return Deferred.fromCoroutine(self._early(account, seconds))

    async def _early(self, account: Account, seconds: float) -> object:
        try:
            return await self._keeper(account).early(seconds)
        except UpstreamError as error:
            return error

    def version(self, *, account: Account) -> str:
        """Return what changes whenever the account's credential does."""
        try:
            return self._keeper(account).version
        except UpstreamError:
            return ""

    def _keeper(self, account: Account) -> TokenKeeper:
        base = account.settings.qwen_oauth_base_url or LOGIN
        if self.tokens is None:
            raise UpstreamError(
                f"{self.name} has nothing to keep tokens with. This is a bug: please report it.",
                fault=Fault.SERVER,
                status=500,
                code="gateway_bug",
            )
        keeper: TokenKeeper = self.tokens.keeper(
            source=self._source(account),
            renewal=QwenRenewal(
                asker=Asker(
                    upstream=self.upstream,
                    clock=self.clock,
                    whose="Qwen's login",
                    proxy=account.proxy,
                ),
                url=join(base, TOKEN_PATH),
                clock=self.clock,
                whose=self.name,
                login_hint=self._hint,
            ),
        )
        return keeper

    def _source(self, account: Account) -> Source:
        path, packed = (
            account.settings.qwen_oauth_creds_file_path,
            account.settings.qwen_oauth_creds_base64,
        )
        if path:
            file = Path(path).expanduser()
            lock = file.with_name(_THEIRS[1]) if file.name == _THEIRS[0] else None
            return Source(path=file, inline=None, lock=lock)
        if packed:
            return Source(path=None, inline=self._unpacked(packed), lock=None)
        raise self._lacking("has no credential")

    def _unpacked(self, packed: str) -> Mapping[str, Any]:
        try:
            document = json.loads(base64.b64decode(packed))
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise self._lacking("has a qwen_oauth_creds_base64 that is no JSON object in base64")
        return document

    def _held(self, account: Account) -> Credential:
        credential: Credential | None = account.credential
        if credential is None:
            raise self._lacking("has no token yet")
        return credential

    def _lacking(self, what: str) -> UpstreamError:
        return UpstreamError(
            f"{self.name} {what}. {self._hint}",
            fault=Fault.CREDENTIAL,
            status=401,
            code="no_credential",
        )

    @property
    def _hint(self) -> str:
        return (
            "Log in again with 'aiclient2api login openai-qwen-oauth' or with Qwen Code, and see "
            f"that qwen_oauth_creds_file_path names its file. {OVER}"
        )


def _base(account: Account, credential: Credential) -> str:
    """Return where requests go: as configured, else as the login named it, else as ever."""
    configured: str | None = account.settings.qwen_base_url
    if configured:
        return configured
    told = credential.details.get("resource_url", "").strip().rstrip("/")
    if not told:
        return _BASE
    url = told if told.startswith(("https://", "http://")) else f"https://{told}"
    return url if url.endswith("/v1") else f"{url}/v1"


def _auth(credential: Credential) -> Headers:
    return ((b"authorization", f"Bearer {credential.token}".encode()),)


@implementer(IPlugin, IProviderFactory)
class OpenAIQwenOAuthFactory:
    """Makes `OpenAIQwenOAuth` providers."""

    name = "openai-qwen-oauth"
    title = "Qwen by the login of Qwen Code (free tier discontinued upstream on 15 April 2026)"
    terms = (
        "Qwen ended the free tier of this login on 15 April 2026: logging in may still work, "
        "but requests are refused. The login was meant for Qwen Code, not for a gateway; for "
        "programs Alibaba offers API keys (openai-custom-dashscope)."
    )
    settings = QwenSettings
    needs_credential = True

    def provider(self, *, name: str, runtime: Runtime) -> IProvider:
        """Make the provider called *name*."""
        return OpenAIQwenOAuth(
            name=name, upstream=runtime.upstream, clock=runtime.clock, tokens=runtime.tokens
        )

    def defaults(self, *, name: str) -> Mapping[str, str]:
        """Imply nothing."""
        return {}


def _logins(factory: OpenAIQwenOAuthFactory) -> QwenLogins:
    return QwenLogins()


registerAdapter(_logins, OpenAIQwenOAuthFactory, ILogins)

openai_qwen_oauth = OpenAIQwenOAuthFactory()
