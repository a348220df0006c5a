"""
The seams outwards: the network, providers, and the accounts they are asked with.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from aiclient2api.interfaces.dialects import IWireRequest
from aiclient2api.values import (
    Account,
    AccountReport,
    Affinity,
    Credential,
    Headers,
    ModelInfo,
    Runtime,
    Traits,
    UpstreamRequest,
    Usage,
)

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IProtocol

    from aiclient2api.errors import UpstreamError


class IUpstreamResponse(Interface):
    """An answer whose headers are here and whose body is still to come."""

    status = Attribute("HTTP status (int).")
    headers = Attribute("`Headers`, content encoding already undone.")

    def deliver(receiver: IProtocol) -> None:
        """
        Start the body: ``makeConnection`` with a push producer as transport,
        ``dataReceived`` (also while paused), and ``connectionLost`` exactly once,
        with ``ResponseDone`` for a clean end, ``PotentialDataLoss`` for an end that
        only the connection's close marked, anything else for a break.
        """

    def abort() -> None:
        """Close the connection now; safe to call at any time, also twice."""


class IUpstream(Interface):
    """The way out."""

    def send(request: UpstreamRequest) -> Deferred[IUpstreamResponse]:
        """
        Send one request; fire at the response headers.

        Cancelling closes the connection, in every phase. Redirects are not followed.

        :raise UpstreamError: `Fault.UNREACHABLE` if no connection could be made (502),
            `Fault.TIMEOUT` if connecting took too long (504), `Fault.RESET` if it
            broke before the headers (502).
        """


class IEnvelope(Interface):
    """
    Takes one answer out of what an upstream wraps it in. Any split of the bytes is the same.
    """

    content_type = Attribute("What the opened bytes are, such as ``text/event-stream`` (bytes).")
    marks_end = Attribute(
        "True if the answer itself says where it ends. Where it does not, one that ends because "
        "its connection closed may have been cut, and counts as such (bool)."
    )

    def open(data: bytes) -> bytes:
        """
        Take the upstream's next bytes; return those of the dialect that they make.

        :raise UpstreamError: if they are damaged, or tell of an error.
        """

    def end() -> bytes:
        """
        Note the clean end of the body; return what is left.

        Never raises: what is not whole is dropped, and then the answer is not whole either.
        """


class IProvider(Interface):
    """
    One kind of upstream, under one configured name.

    It classifies errors; it never retries, waits or picks an account.
    """

    name = Attribute("Its configured name, such as ``openai-custom-b`` (str).")
    dialect = Attribute("The `IDialect` it speaks.")
    upstream = Attribute("The `IUpstream` its requests go through.")
    known_models = Attribute("Model ids known without asking (tuple of str).")
    counts_tokens = Attribute("True if it can be asked to count tokens (bool).")

    def traits(*, model: str) -> Traits:
        """Say what the upstream wants of a converted request for *model*. Pure."""

    def prepare(*, request: IWireRequest, account: Account) -> UpstreamRequest:
        """
        Dress a request of the provider's own dialect for the wire. Pure.

        :raise InvalidRequest: if the provider has no such action.
        """

    def classify(*, status: int, headers: Headers, body: bytes) -> UpstreamError:
        """
        Say what an answer with an error status means. Pure.

        The result's `reply` holds the upstream's answer for verbatim use.
        """

    def models(*, account: Account) -> Deferred[Sequence[ModelInfo]]:
        """
        Ask which models there are. Cancelling closes the connection.

        :raise UpstreamError: if the upstream cannot be asked.
        """


class IRenewing(Interface):
    """What a provider also provides whose accounts have credentials that expire."""

    def credential(*, account: Account, refused: Credential | None = None) -> Deferred[Credential]:
        """
        Return what the account is asked with now; renewed first where that is due.

        It is put into `Account.credential` before `IProvider` is asked for anything. One
        renewal at a time for each credential, in this process and all others; cancelling
        gives up the wait, never the renewal.

        :param refused: A credential that the upstream has just refused: it is not returned
            again.
        :raise UpstreamError: `Fault.CREDENTIAL` if there is none, with what the operator has
            to do; whatever the renewal ran into otherwise.
        """

    def renew_early(*, account: Account, seconds: float) -> Deferred[object]:
        """
        Renew the account's credential if it expires within so many seconds. Never fails.

        Called by a timer, so that no request has to wait for it.

        :return: Fires with the `UpstreamError` that kept it from being renewed, or None.
        """

    def version(*, account: Account) -> str:
        """
        Return what changes whenever the account's credential does, by whomever.

        Looks at the disk and is cheap: it is asked every few seconds.
        """


class IEnveloping(Interface):
    """What a provider also provides whose answers are not in its dialect's own form."""

    def envelope(*, request: IWireRequest) -> IEnvelope | None:
        """
        Return what takes a good answer to *request* out of what it comes in.

        :return: None where it comes as its dialect has it.
        """


class IProviderFactory(IPlugin):
    """A kind of provider, found as a plugin of ``aiclient2api.providers``."""

    name = Attribute("The base name, such as ``openai-custom`` (str).")
    title = Attribute("One line for people (str).")
    terms = Attribute("What the upstream's terms say about use through a gateway (str).")
    settings = Attribute("An attrs class; its fields are configuration keys (`setting`).")
    needs_credential = Attribute("False if it works with no key at all, as sandbox does.")

    def provider(*, name: str, runtime: Runtime) -> IProvider:
        """Make the provider, under its full configured name."""

    def defaults(*, name: str) -> Mapping[str, str]:
        """
        Return settings implied by a grouped name, such as a vendor preset's base URL.

        Explicit settings win over them.
        """


class ILease(Interface):
    """
    The use of one account by one exchange. Exactly one of the three ends it.
    """

    account = Attribute("The leased `Account`.")

    def answered() -> None:
        """The upstream has begun a real answer: whatever kept the account is over."""

    def succeeded(usage: Usage | None) -> None:
        """The exchange ended well."""

    def failed(error: UpstreamError, usage: Usage | None = None) -> None:
        """The account or its upstream failed, perhaps after part of an answer."""

    def abandoned(usage: Usage | None = None) -> None:
        """The client left, or the attempt ended through no fault of the account."""


class IAccountPool(Interface):
    """
    The accounts of one provider.

    No account is leased while it rests. One whose rest is over is leased to one exchange
    only, until it is known whether that went well.
    """

    def acquire(
        *,
        model: str,
        exclude: Collection[str] = (),
        affinity: Affinity | None = None,
        wait: float = 0.0,
        limit: float | None = None,
        note: Callable[[str, str, str], None] | None = None,
    ) -> Deferred[ILease]:
        """
        Lease an account that serves *model*. Cancelling gives up the wait.

        Waits for an account that is busy, if its queue has room; and for one that rests, if
        it returns soon enough.

        :param model: ``""`` for what concerns no model.
        :param exclude: Ids of accounts already leased in this exchange.
        :param affinity: The conversation it is for: its account is taken, if it can be.
        :param wait: Seconds to wait for an account that rests.
        :param limit: Seconds that any wait may take, None for no such limit.
        :param note: Told ``(what, account id, why)`` of what was considered; *what* as in
            `Step`.
        :raise NoAccount: if there is none, any more or yet.
        :raise UnknownModel: if no account serves that model.
        """

    def ready(*, model: str, exclude: Collection[str] = ()) -> bool:
        """Say whether `acquire` would lease one at once. Costs little."""

    def soonest(*, model: str, exclude: Collection[str] = ()) -> float | None:
        """Return in how many seconds `acquire` would lease one; None if nobody knows."""

    def usable() -> bool:
        """Say whether any account can serve anything now or within a second."""

    def snapshot() -> Sequence[Account]:
        """Return the accounts as configured, without those that are disabled."""

    def report() -> Sequence[AccountReport]:
        """Return how every account fares, in the order of the configuration."""

    def probe(id: str, model: str) -> ILease | None:
        """Lease just this account, if it may be leased now; None otherwise."""

    def due() -> Sequence[str]:
        """Return the ids of accounts that rest and may be tried now."""

    def last_model(id: str) -> str | None:
        """Return the model that an account answered last, if any."""

    def reset(ids: Collection[str]) -> Sequence[str]:
        """
        Forget why these accounts rest; they are ready at once, unless disabled.

        :return: The ids that there are.
        """
