"""
The seams of a dialect: its requests, the readers and writers of its answers.

They must never know a provider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

from aiclient2api.values import (
    HELD_LIMIT,
    Affinity,
    Endpoint,
    Event,
    KeptAnswer,
    Media,
    ModelInfo,
    Route,
    Sampling,
    SystemEdit,
)

if TYPE_CHECKING:
    from aiclient2api.errors import GatewayError


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
    losses = Attribute(
        "Codes of `conversation.losses`: what was left out when it was converted (tuple of str)."
    )

    def amended(
        *,
        model: str | None = None,
        system: SystemEdit | None = None,
        streaming: bool | None = None,
        sampling: Sampling | None = None,
    ) -> IWireRequest:
        """
        Return a copy with these changed; every other byte stays as it was.

        :raise InvalidRequest: if the part to be changed is not of the dialect's form.
        """

    def without_foreign_seals() -> IWireRequest:
        """
        Return a copy without what models of other dialects sealed; see `conversation.seals`.

        The same object, and so the very bytes, if it carries no such thing.
        """

    def to_bytes() -> bytes:
        """Return the body to send."""

    def system_text() -> str:
        """Return the system prompt's text, ``""`` if there is none. Decodes deeply."""

    def prompt_text() -> str:
        """Return the text of the last message, parts joined. Decodes deeply."""

    def affinity() -> Affinity:
        """
        Say which conversation this is a turn of.

        By what the client calls it, if it does so; else by how it begins: the system
        prompt and the first thing the user said. One that has no answer in it yet is
        found by a client's name only: asking the same twice makes no conversation.
        """


class IOpenAIChatRequest(IWireRequest):
    """A request in the OpenAI Chat Completions dialect."""


class IOpenAIResponsesRequest(IWireRequest):
    """A request in the OpenAI Responses dialect."""


class IAnthropicMessagesRequest(IWireRequest):
    """A request in the Anthropic Messages dialect."""


class IGeminiRequest(IWireRequest):
    """A request in the Gemini dialect."""


class IConversation(Interface):
    """
    One request in no dialect: what every conversion goes through.

    Adapting an `IWireRequest` to it reads the request; adapting it to a dialect's own
    request interface writes one. Either raises `InvalidRequest` where it cannot.
    """

    model = Attribute("The model asked for (str).")
    streaming = Attribute("True if the answer is to come as a stream (bool).")
    action = Attribute("``generate`` or ``count_tokens`` (str).")
    dropped = Attribute("Codes of what its reader found no word for (tuple of str).")


class IEventDecoder(Interface):
    """
    Reads one upstream answer, whatever it is, into events that obey `conversation.grammar`.
    """

    arrays = Attribute("True if a stream of this dialect may come as a JSON array (bool).")

    def record(*, event: bytes, data: bytes) -> Sequence[Event] | None:
        """
        Read one record of a stream.

        :param event: The event's name, ``b""`` where there is none.
        :return: What it says, often nothing; None if it is no whole record.
        """

    def whole(*, body: bytes) -> Sequence[Event] | None:
        """
        Read an answer that is no stream, to the `Finished` or `Failed` at its end.

        An answer to ``count_tokens`` is read as its usage, `Usage.input` being the count.

        :return: None if it is no whole answer.
        """

    def end() -> Sequence[Event]:
        """
        Note that a stream's body ended cleanly; return what was held back.

        `Finished` is among it if the semantic end was seen: a reason is never invented.
        """


class IEventEncoder(Interface):
    """
    Writes one answer for a client, from events that obey `conversation.grammar`.
    """

    def encode(event: Event) -> bytes:
        """Return what the client is to see of *event*, often nothing."""

    def error(error: GatewayError) -> bytes | None:
        """Return the end of a stream that fails, None where the framing has no place."""

    def reply(events: Sequence[Event]) -> bytes:
        """Return a whole answer, as one body, from all its events."""

    final = Attribute(
        "Once the end was written: the whole answer as JSON, if the dialect can go on from "
        "one (`IRemembering`), else None."
    )


class IWatcher(Interface):
    """
    A reader of one upstream answer: a passive one alters no byte, another translates.

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
    pieces = Attribute("How much of the answer was seen (`conversation.pieces.Pieces`).")
    reply_id = Attribute(
        "The answer's id, where a later request may go on from it by name and the upstream "
        "keeps it; else, and until it was seen, None (str)."
    )
    kept_ids = Attribute(
        "Ids of what else the upstream keeps of it, such as its items, for a later request "
        "to name; empty until they were seen, and where nothing is kept (`Sequence[str]`)."
    )
    framing = Attribute("``whole``, ``sse`` or ``json_array``: how it reads the bytes.")

    def feed(data: bytes) -> bytes:
        """
        Take the next bytes; return those that complete whole records.

        What a passive one returns, all in all, is a prefix of what it was fed.

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
    counts_tokens = Attribute("True if an upstream can be asked to count tokens (bool).")
    comments = Attribute("True if its clients skip comments in a stream (bool).")
    name_rule = Attribute("The `conversation.tool_names.Rule` that names of tools obey.")

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

    def needs_bytes(media: Media) -> bool:
        """Say whether an upstream must be given the bytes of media named by address."""

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

    def decoder(*, request: IWireRequest) -> IEventDecoder:
        """Return a reader, to be converted, for an upstream's answer to *request*."""

    def encoder(
        *,
        request: IWireRequest,
        conversation: IConversation,
        model: str,
        make_id: Callable[[], str],
        now: Callable[[], float],
    ) -> IEventEncoder:
        """
        Return a writer of a converted answer to *request*.

        :param request: As the client sent it.
        :param conversation: What was read of it.
        :param model: The model's name as the client asked for it.
        :param make_id: Returns 24 or more hexadecimal digits, new each time.
        :param now: Returns Unix seconds.
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


class IRemembering(Interface):
    """
    A dialect whose requests may go on from an earlier answer, kept by whoever gave it.

    Where the upstream speaks another dialect that is the gateway. Everything is text here:
    what is kept, and where, is none of the dialect's business.
    """

    def previous(request: IWireRequest) -> str | None:
        """Return the id of the answer that *request* goes on from, if it does."""

    def continued(request: IWireRequest, items: bytes) -> IWireRequest:
        """Return *request* with all of the conversation so far in it, and no such id."""

    def kept(request: IWireRequest, answer: bytes) -> KeptAnswer | None:
        """
        Return what to keep of a whole answer.

        :param request: With all of its conversation in it.
        :return: None if the client does not want it kept.
        """

    def missing(id: str) -> GatewayError:
        """Return the error for a request that goes on from what nobody keeps."""

    def unknown(id: str) -> GatewayError:
        """Return the error for a question after what nobody keeps."""

    def deleted(id: str) -> bytes:
        """Return the JSON that says that an answer is kept no longer."""


class IReferring(Interface):
    """A dialect whose requests may name what an upstream keeps, besides earlier answers."""

    def references(request: IWireRequest) -> Sequence[tuple[str, GatewayError]]:
        """
        Return the ids in *request* that upstreams give out for what they keep, each with
        the error for a caller whom it was not given to.
        """
