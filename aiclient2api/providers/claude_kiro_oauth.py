"""
Claude by the login of the Kiro IDE, in the Messages dialect.

Nothing of this API is published: what is known of it comes from other gateways and from
those whose requests it refused. Kiro's accounts are meant for Kiro's own clients.

What is sent along with a request: the token; ``amz-sdk-invocation-id``, new each time, and
``amz-sdk-request``, which every client of Amazon's sends; ``x-amzn-codewhisperer-optout``, so
that nothing is kept to train on; and ``x-amzn-kiro-agent-mode``, which says that this is no
question of an editor's. We go by our own name: no version of the IDE, no id of a machine.

What a request cannot say there: it is refused if it would force the model to call a tool, or
gives an image by its address, for neither can be had in another way. Left out without a
word, for the service has nothing like it: ``max_tokens``, ``temperature``, ``top_p``,
``top_k``, ``disable_parallel_tool_use``, ``metadata``, cache markers, the vendor's own tools,
thoughts' seals. Stop sequences are heeded here, while the answer passes. A form of the answer
is asked for in words, and so are thoughts. There is no prompt of ours in front of anyone's.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.plugin import IPlugin
from twisted.python.components import registerAdapter
from zope.interface import implementer

from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.framing.json_text import read
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
from aiclient2api.oauth.kiro_login import KiroLogins
from aiclient2api.oauth.requests import Asker
from aiclient2api.oauth.tokens import Source, TokenKeeper
from aiclient2api.observe.redaction import without_bytes
from aiclient2api.providers._kiro_answer import KiroEnvelope
from aiclient2api.providers._kiro_asked import asked_of
from aiclient2api.providers._kiro_faults import BASE_KEY, kiro_error
from aiclient2api.providers._kiro_models import KNOWN, NAMES
from aiclient2api.providers._kiro_request import kiro_body
from aiclient2api.providers._kiro_token import (
    FILE_NAME,
    OIDC_URL,
    REGION,
    SERVED,
    SOCIAL_URL,
    KiroRenewal,
    credential_of,
    filled,
    is_social,
    oidc_region,
    unpacked,
)
from aiclient2api.providers._kiro_usage import KiroUsage, usage_of
from aiclient2api.upstream.answers import fetch, join
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

_BASE = "https://q.{{region}}.amazonaws.com"
# The one region in which profiles are asked for at a host of another name.
_PROFILES = "https://codewhisperer.us-east-1.amazonaws.com"
_GENERATE = "/generateAssistantResponse"
_LIST_PROFILES = (
    (b"content-type", b"application/x-amz-json-1.0"),
    (b"x-amz-target", b"AmazonCodeWhispererService.ListAvailableProfiles"),
)
_USAGE = (("origin", "AI_EDITOR"), ("resourceType", "AGENTIC_REQUEST"))

PATIENCE = 600.0
"""Seconds after which an account without a profile is asked for one again."""


@attrs.frozen(repr=False)
class KiroSettings:
    """Where the login is kept, and addresses; without a repr, so that no token is printed."""

    kiro_oauth_creds_file_path: Path | None = setting(
        kind="path", help="Credential file of Kiro, or of AIClient-2-API."
    )
    kiro_oauth_creds_base64: str | None = setting(
        kind="secret",
        help="The content of such a file in base64; its tokens are lost with the process.",
    )
    kiro_oauth_creds_dir_path: Path | None = setting(
        kind="path", help=f"Folder with {FILE_NAME} in it, such as ~/.aws/sso/cache."
    )
    kiro_base_url: str | None = setting(
        kind="text", help=f"Where the service is, instead of {_BASE}."
    )
    kiro_refresh_url: str | None = setting(
        kind="text", help=f"Where social logins are renewed, instead of {SOCIAL_URL}."
    )
    kiro_refresh_idc_url: str | None = setting(
        kind="text", help=f"Where AWS renews logins, instead of {OIDC_URL}."
    )
    kiro_request_min_interval_ms: str | None = setting(
        kind="text", help="Milliseconds from the start of one request to that of the next."
    )


@attrs.define(eq=False)
class _Memory:
    """
    What a provider remembers while it runs.

    :ivar next_start: Clock seconds at which the next request may begin.
    :ivar asked: By account, when its profile was asked for in vain.
    """

    next_start: float = 0.0
    asked: dict[str, float] = attrs.field(factory=dict)


@implementer(IProvider, IRenewing, IEnveloping)
@attrs.frozen
class ClaudeKiroOAuth:
    """Kiro's service under one configured name."""

    name: str
    upstream: IUpstream
    clock: Clock
    tokens: Any = attrs.field(default=None, repr=False)
    known_models: tuple[str, ...] = KNOWN
    dialect: IDialect = ANTHROPIC_MESSAGES
    counts_tokens: bool = False
    _memory: _Memory = attrs.field(factory=_Memory, init=False, repr=False, eq=False)

    _log = Logger()

    # --- IProvider ---------------------------------------------------------------

    def traits(self, *, model: str) -> Traits:
        """Say that thoughts go back without seals, and no seal goes anywhere else."""
        return Traits(family="kiro", replays_reasoning=True, words_only=True)

    def prepare(self, *, request: IWireRequest, account: Account) -> UpstreamRequest:
        """
        Put *request* into the service's own form.

        :raise InvalidRequest: if the service has no such call, or cannot do what is asked.
        :raise UpstreamError: `Fault.CONTEXT` if the conversation is too long for it.
        """
        if request.action != "generate":
            raise InvalidRequest(
                f"{self.name} cannot do {request.action}: Kiro's service has no such call. Ask "
                "for an answer instead."
            )
        credential = self._held(account)
        arn = credential.details.get("profile_arn")
        own = (
            (b"content-type", b"application/json"),
            (b"accept", b"application/json"),
            *_headers(credential),
            (b"x-amzn-kiro-agent-mode", b"vibe"),
        )
        return UpstreamRequest(
            method="POST",
            url=join(_base(account, _region(credential)), _GENERATE),
            headers=own,
            body=kiro_body(request, account=account.id, arn=arn),
            account=account.id,
            proxy=account.proxy,
        )

    def classify(self, *, status: int, headers: Headers, body: bytes) -> UpstreamError:
        """Say what an error answer means; it is never passed on as it is."""
        return kiro_error(provider=self.name, status=status, headers=headers, body=body)

    def models(self, *, account: Account) -> Deferred[Sequence[ModelInfo]]:
        """Return what *account* is said to support, else what the service is known to have."""
        return succeed([ModelInfo(id=model) for model in account.supported or NAMES])

    # --- IEnveloping -------------------------------------------------------------

    def envelope(self, *, request: IWireRequest) -> IEnvelope | None:
        """Return what makes a Messages answer of an event stream."""
        asked = asked_of(request, provider=self.name, now=self.clock.seconds)
        return KiroEnvelope(request, asked)

    # --- IRenewing ---------------------------------------------------------------

    def credential(
        self, *, account: Account, refused: Credential | None = None
    ) -> Deferred[Credential]:
        """
        Return the account's token, its profile and its region; renewed if need be.

        It waits for the account's turn where requests are kept apart.
        """
        return Deferred.fromCoroutine(self._credential(account, refused))

    async def _credential(self, account: Account, refused: Credential | None) -> Credential:
        await self._turn(account)
        keeper = self._keeper(account)
        told = None if refused is None else refused.token
        document = await keeper.current(refused=told)
        if not document.get("profileArn"):
            found = await self._profile(account, document)
            if found is not None:
                document = {**document, "profileArn": found}
                await self._remember(keeper, found)
        return credential_of(document)

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

    # --- what only Kiro has ------------------------------------------------------

    def usage(self, account: Account) -> Deferred[KiroUsage]:
        """
        Ask how much of its plan an account has used. Cancelling closes the connection.

        :raise UpstreamError: if the service refuses, or answers something else.
        """
        return Deferred.fromCoroutine(self._usage(account))

    async def _usage(self, account: Account) -> KiroUsage:
        credential = account.credential or await self.credential(account=account)
        arn = credential.details.get("profile_arn")
        profile = (("profileArn", arn),) if arn else ()
        request = UpstreamRequest(
            method="GET",
            url=join(
                _base(account, _region(credential)),
                "/getUsageLimits",
                (("isEmailRequired", "true"), *_USAGE, *profile),
            ),
            headers=((b"accept", b"application/json"), *_headers(credential)),
            account=account.id,
            proxy=account.proxy,
        )
        body = await self._fetched(account, credential, request)
        try:
            return usage_of(body)
        except ValueError:
            raise UpstreamError(
                f"{self.name} answered the question for its limits with something else: see "
                f"whether {BASE_KEY} is right.",
                fault=Fault.SERVER,
                status=502,
            ) from None

    async def _profile(self, account: Account, document: Mapping[str, Any]) -> str | None:
        """Return the one profile that a login may use; None if there is none, or no telling."""
        token = str(document.get("accessToken"))
        asked = self._memory.asked
        now = self.clock.seconds()
        if now - asked.get(account.id, now - PATIENCE) < PATIENCE:
            return None
        asked[account.id] = now
        home = REGION if is_social(document) else oidc_region(document)
        regions = sorted(SERVED, key=lambda region: (region != home, SERVED.index(region)))
        if "{{region}}" not in (account.settings.kiro_base_url or _BASE):
            regions = regions[:1]
        for region in regions[:1] if is_social(document) else regions:
            credential = Credential(token, secrets=credential_of(document).secrets)
            try:
                body = await self._fetched(
                    account, credential, self._profiles_of(account, region, credential)
                )
            except UpstreamError as error:
                self._log.info(
                    "{provider}: {region} tells no profile of {account}: {message}",
                    provider=self.name,
                    region=region,
                    account=account.id,
                    message=error.message,
                )
                continue
            found = _arns(read(body))
            if found:
                del asked[account.id]
                return found[0]
        return None

    def _profiles_of(
        self, account: Account, region: str, credential: Credential
    ) -> UpstreamRequest:
        base = _base(account, region)
        if not account.settings.kiro_base_url and region == REGION:
            base = _PROFILES
        return UpstreamRequest(
            method="POST",
            url=join(base, "/"),
            headers=(*_LIST_PROFILES, *_headers(credential)),
            body=b"{}",
            account=account.id,
            proxy=account.proxy,
        )

    async def _remember(self, keeper: TokenKeeper, arn: str) -> None:
        try:
            await keeper.merge({"profileArn": arn})
        except UpstreamError as error:
            # It serves all the same, and is asked for again next time.
            self._log.warn(
                "{provider}: a profile that was found cannot be kept: {message}",
                provider=self.name,
                message=error.message,
            )

    async def _fetched(
        self, account: Account, credential: Credential, request: UpstreamRequest
    ) -> bytes:
        secrets = (*account.secrets, *credential.secrets)
        clean = partial(without_bytes, secrets=secrets)
        return await fetch(provider=self, request=request, clean=clean, clock=self.clock)

    async def _turn(self, account: Account) -> None:
        pause = _milliseconds(account.settings.kiro_request_min_interval_ms)
        if not pause:
            return
        now = self.clock.seconds()
        start = max(now, self._memory.next_start)
        self._memory.next_start = start + pause
        if start > now:
            await deferLater(self.clock, start - now)

    def _held(self, account: Account) -> Credential:
        if account.credential is not None and account.credential.token:
            return account.credential
        raise self._lacking("has no token to ask with")

    def _keeper(self, account: Account) -> TokenKeeper:
        if self.tokens is None:
            raise UpstreamError(
                f"{self.name} has nothing to keep tokens with. This is a bug: please report it.",
                fault=Fault.SERVER,
                status=500,
                code="gateway_bug",
            )
        settings = account.settings
        source = self._source(account)
        renewal = KiroRenewal(
            asker=Asker(self.upstream, self.clock, "Kiro's login", account.proxy),
            clock=self.clock,
            whose=self.name,
            login_hint=self._hint,
            folder=None if source.path is None else source.path.parent,
            social_url=_with(settings.kiro_refresh_url or SOCIAL_URL, "/refreshToken"),
            oidc_url=_with(settings.kiro_refresh_idc_url or OIDC_URL, "/token"),
        )
        keeper: TokenKeeper = self.tokens.keeper(source=source, renewal=renewal)
        return keeper

    def _source(self, account: Account) -> Source:
        """Return where the credential is: a file, a folder's, or in the configuration."""
        settings = account.settings
        if settings.kiro_oauth_creds_file_path:
            return Source(path=Path(settings.kiro_oauth_creds_file_path).expanduser())
        if settings.kiro_oauth_creds_dir_path:
            return Source(path=Path(settings.kiro_oauth_creds_dir_path).expanduser() / FILE_NAME)
        packed = settings.kiro_oauth_creds_base64
        if not packed:
            raise self._lacking("has no credential")
        document = unpacked(packed)
        if document is None:
            raise self._lacking("has a kiro_oauth_creds_base64 that is no JSON object in base64")
        return Source(inline=document)

    def _lacking(self, what: str) -> UpstreamError:
        return UpstreamError(
            f"An account of {self.name} {what}. {self._hint}",
            fault=Fault.CREDENTIAL,
            status=401,
            code="no_credential",
        )

    @property
    def _hint(self) -> str:
        return (
            "Log in again with 'aiclient2api login claude-kiro-oauth', or in Kiro, and see that "
            "kiro_oauth_creds_file_path names the file."
        )


def _base(account: Account, region: str) -> str:
    told = (account.settings.kiro_base_url or _BASE).rstrip("/")
    # The address that AIClient-2-API is configured with has it at its end.
    return filled(told.removesuffix(_GENERATE), region)


def _region(credential: Credential) -> str:
    return credential.details.get("region", REGION)


def _with(url: str, ending: str) -> str:
    url = url.rstrip("/")
    return url if url.endswith(ending) else url + ending


def _headers(credential: Credential) -> Headers:
    return (
        (b"authorization", f"Bearer {credential.token}".encode()),
        (b"amz-sdk-invocation-id", str(uuid.uuid4()).encode()),
        (b"amz-sdk-request", b"attempt=1; max=1"),
        (b"x-amzn-codewhisperer-optout", b"true"),
    )


def _arns(told: Any) -> list[str]:
    profiles = told.get("profiles") if isinstance(told, dict) else None
    found = [
        profile.get("arn")
        for profile in (profiles if isinstance(profiles, list) else ())
        if isinstance(profile, dict)
    ]
    return [arn for arn in found if isinstance(arn, str) and arn]


def _milliseconds(told: str | None) -> float:
    """Return so many milliseconds as seconds; what is no number is none."""
    text = (told or "").strip()
    return int(text) / 1000 if text.isascii() and text.isdigit() and len(text) < 8 else 0.0


@implementer(IPlugin, IProviderFactory)
class ClaudeKiroOAuthFactory:
    """Makes `ClaudeKiroOAuth` providers."""

    name = "claude-kiro-oauth"
    title = "Claude by the login of Kiro (social, AWS Builder ID, IAM Identity Center)"
    terms = (
        "Not allowed, as far as is known: Kiro's accounts are meant for Kiro's own clients, "
        "under AWS's terms, and its API is not published. AWS has suspended accounts that were "
        "used through gateways. For programs there are API keys, of Anthropic or by Amazon "
        "Bedrock."
    )
    settings = KiroSettings
    needs_credential = True

    def provider(self, *, name: str, runtime: Runtime) -> IProvider:
        """Make the provider called *name*."""
        return ClaudeKiroOAuth(
            name=name, upstream=runtime.upstream, clock=runtime.clock, tokens=runtime.tokens
        )

    def defaults(self, *, name: str) -> Mapping[str, str]:
        """Imply nothing."""
        return {}


def _logins(factory: ClaudeKiroOAuthFactory) -> KiroLogins:
    return KiroLogins()


registerAdapter(_logins, ClaudeKiroOAuthFactory, ILogins)

claude_kiro_oauth = ClaudeKiroOAuthFactory()
