"""
Every seam of the house, a contract each.

Nothing here imports another module of ours but `errors` and `values`. Methods are called with
keywords, always: zope's ``verifyObject`` counts arguments but not their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from aiclient2api.values import (
    HELD_LIMIT,
    Account,
    Caller,
    Endpoint,
    ExchangeRecord,
    Headers,
    ModelInfo,
    Outcome,
    Route,
    Runtime,
    SystemEdit,
    UpstreamRequest,
    Usage,
)

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IProtocol, IPushProducer

    from aiclient2api.errors import GatewayError, UpstreamError


# --- dialects ---------------------------------------------------------------


class IWireRequest(Interface):
    """
    One request in some dialect. Immutable.

    Each dialect has a sub-interface of its own and nothing else: it says which
    dialect the bytes are in, so that adaptation can choose.
    """

    dialect = Attribute("Name of the dialect the bytes are in (str).")
    action = Attribute("``generate`` or ``count_tokens`` (str).")
    model = Attribute("The model asked for, prefix and all until it is amended (str).")
    streaming = Attribute("True if the answer is to come as a stream (bool).")
    framing = Attribute("How the answer is framed: ``whole``, ``sse``, ``json_array``.")
    raw = Attribute("The body as it stands (bytes).")
    headers = Attribute("Client headers to pass on upstream (`Headers`).")
    query = Attribute("Client query arguments to pass on upstream (pairs of str).")

    def amended(
        *,
        model: str | None = None,
        system: SystemEdit | None = None,
        streaming: bool | None = None,
    ) -> IWireRequest:
        """
        Return a copy with these changed; every other byte stays as it was.

        :raise InvalidRequest: if the part to be changed is not of the dialect's form.
        """

    def to_bytes() -> bytes:
        """Return the body to send."""

    def system_text() -> str:
        """Return the system prompt's text, ``""`` if there is none. Decodes deeply."""

    def prompt_text() -> str:
        """Return the text of the last message, parts joined. Decodes deeply."""


class IOpenAIChatRequest(IWireRequest):
    """A request in the OpenAI Chat Completions dialect."""


class IOpenAIResponsesRequest(IWireRequest):
    """A request in the OpenAI Responses dialect."""


class IAnthropicMessagesRequest(IWireRequest):
    """A request in the Anthropic Messages dialect."""


class IGeminiRequest(IWireRequest):
    """A request in the Gemini dialect."""


class IWatcher(Interface):
    """
    A passive reader of one upstream answer: sees the bytes, never alters them.

    It cuts the bytes at record boundaries, so that a record that never finished is
    never shown to a client. Any split of the bytes gives the same verdict.
    """

    started = Attribute(
        "True once the first real event was seen: neither a comment, a ping nor a "
        "bare start. For a whole answer: only at its end (bool)."
    )
    complete = Attribute("True once the dialect's semantic end was seen (bool).")
    failure = Attribute(
        "An `UpstreamError` once an error record was seen, else None. Nothing after "
        "that record is ever returned."
    )
    events = Attribute("How many records other than comments were seen (int).")
    usage = Attribute("The `Usage` told so far, or None.")
    text = Attribute("The answer's text so far; empty unless it was asked for (str).")
    framing = Attribute("``whole``, ``sse`` or ``json_array``: how it reads the bytes.")

    def feed(data: bytes) -> bytes:
        """
        Take the next bytes; return those that complete whole records.

        The concatenation of all returned bytes is a prefix of all bytes fed.

        :raise UpstreamError: if a record grows over the limit (`Fault.SERVER`).
        """

    def end() -> bytes:
        """
        Note that the HTTP body ended cleanly; return the remaining bytes.

        A last record without its blank line counts if it is a whole one; anything
        less is dropped. Afterwards `complete` is final.
        """

    def error_frame(error: GatewayError) -> bytes | None:
        """
        Return the record that tells the client of *error* in its own dialect.

        :return: None where the framing cannot carry one (whole, JSON array): the
            connection is then to be aborted without its last chunk.
        """


class IDialect(Interface):
    """
    One wire format, as spoken by clients and by upstreams. Stateless.
    """

    name = Attribute("``openai-chat``, ``openai-responses``, ``anthropic-messages``, ``gemini``.")
    title = Attribute("The name people use, such as ``OpenAI Chat Completions``.")
    request_interface = Attribute("The dialect's sub-interface of `IWireRequest`.")
    endpoints = Attribute("Tuple of `Endpoint` this dialect answers on.")

    def claims(*, headers: Mapping[bytes, bytes]) -> bool:
        """
        Say whether a request on a shared path (``GET /v1/models``) is in this dialect.

        :param headers: Lower-case names to the first value of each.
        """

    def route(
        *,
        endpoint: Endpoint,
        rest: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[bytes, bytes],
    ) -> Route:
        """
        Read the URL and the headers.

        :param rest: What ``<path:rest>`` matched, percent-decoded, or ``""``.
        :raise UnknownRoute: if *rest* is no route of the dialect.
        """

    def parse(*, body: bytes, route: Route) -> IWireRequest:
        """
        Check a body as far as policy and relay need, and no further.

        :raise InvalidRequest: if it is empty, no JSON object, no UTF-8, nested over
            256 deep, names ``model``, ``stream`` or the system key twice, or one of
            the fields we read is of a wrong type.
        """

    def watcher(
        *,
        request: IWireRequest,
        content_type: bytes,
        want_text: bool,
        limit: int = HELD_LIMIT,
    ) -> IWatcher:
        """
        Return a reader for the answer to *request*.

        :param content_type: What the upstream says it sends (may be empty).
        :param want_text: Collect the answer's text (for the prompt log).
        :param limit: Bytes that one record, or a whole answer, may have.
        """

    def render_error(error: GatewayError) -> tuple[int, bytes]:
        """Return status and JSON body of *error* in this dialect."""

    def render_models(models: Sequence[ModelInfo]) -> bytes:
        """Return the JSON of a model list."""

    def render_model(model: ModelInfo) -> bytes:
        """Return the JSON of one model."""

    def example(*, model: str) -> tuple[str, bytes]:
        """Return path and body of a small request to try the gateway with."""

    def read_models(body: bytes) -> Sequence[ModelInfo]:
        """
        Read an upstream's model list.

        :raise ValueError: if it is not one.
        """


# --- upstream ---------------------------------------------------------------


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


# --- providers and accounts -------------------------------------------------


class IProvider(Interface):
    """
    One kind of upstream, under one configured name.

    It classifies errors; it never retries, waits or picks an account.
    """

    name = Attribute("Its configured name, such as ``openai-custom-b`` (str).")
    dialect = Attribute("The `IDialect` it speaks.")
    upstream = Attribute("The `IUpstream` its requests go through.")
    known_models = Attribute("Model ids known without asking (tuple of str).")

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

    def succeeded(usage: Usage | None) -> None:
        """The exchange ended well."""

    def failed(error: UpstreamError) -> None:
        """The account or its upstream failed."""

    def abandoned() -> None:
        """The client left, or the attempt ended through no fault of the account."""


class IAccountPool(Interface):
    """The accounts of one provider."""

    def acquire(*, model: str, exclude: Sequence[str] = ()) -> Deferred[ILease]:
        """
        Lease an account that serves *model*. Cancelling gives up the wait.

        :param exclude: Ids of accounts already leased in this exchange.
        :raise ProviderUnavailable: if there is none.
        :raise UnknownModel: if no account serves that model.
        """

    def snapshot() -> Sequence[Account]:
        """Return the accounts as configured."""


# --- the front --------------------------------------------------------------


class IKeyring(Interface):
    """The keys that may call."""

    def who(*, presented: Sequence[str]) -> Caller:
        """
        Return whose key is among those presented. Compares digests in constant time.

        :raise Unauthorized: if none is ours.
        """


class IClientReply(Interface):
    """The answer under way to one client. Nothing is sent before `begin`."""

    begun = Attribute("True once `begin` was called (bool).")

    def begin(status: int, headers: Headers) -> None:
        """Send the head. Once."""

    def write(data: bytes) -> None:
        """Send body bytes."""

    def finish() -> None:
        """End the body cleanly."""

    def abort() -> None:
        """Close the connection without the body's clean end."""

    def register_producer(producer: IPushProducer) -> None:
        """Let a slow client pause *producer*."""

    def unregister_producer() -> None:
        """Undo `register_producer`; safe when nothing is registered."""


class IExchangeObserver(Interface):
    """
    Someone told of every exchange. Must not block, must not raise.
    """

    wants_text = Attribute("True if `Outcome.text` is to be filled (bool).")

    def began(exchange: ExchangeRecord) -> None:
        """A request passed policy and is about to be sent."""

    def attempt(exchange: ExchangeRecord, error: UpstreamError | None) -> None:
        """One attempt ended: well if *error* is None."""

    def first_byte(exchange: ExchangeRecord) -> None:
        """The first byte goes to the client."""

    def ended(exchange: ExchangeRecord, outcome: Outcome) -> None:
        """The exchange is over. Called exactly once."""
