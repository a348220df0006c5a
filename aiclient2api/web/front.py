"""
The front of the resource tree: what every request goes through before its route.

It gives each request an id, takes the provider prefix off the path, answers
preflights, counts what is in flight, and writes the one access-log line. It must
never know what a route does.
"""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Callable, Mapping

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import ITCPTransport
from twisted.logger import Logger
from twisted.web.resource import IResource, Resource

from aiclient2api.errors import (
    Forbidden,
    GatewayError,
    InvalidRequest,
    Unauthorized,
    UnsupportedEncoding,
    UpstreamError,
)
from aiclient2api.interfaces import IDialect
from aiclient2api.values import Caller, Headers
from aiclient2api.web.channel import ID_HEADER, SERVER, GatewayRequest
from aiclient2api.web.origins import refusal
from aiclient2api.web.replies import error_reply, prepare_error
from aiclient2api.web.setup import Setup
from aiclient2api.web.target import peer_name

ALLOWED_HEADERS = (
    b"authorization, content-type, x-api-key, x-goog-api-key, x-goog-api-client, "
    b"anthropic-version, anthropic-beta, anthropic-dangerous-direct-browser-access, "
    b"model-provider, accept, x-requested-with"
)
OPERATORS = ("/health", "/ready", "/provider_health", "/provider_health/reset")
"""Paths of no dialect, for those who run the gateway."""
LONGEST_PATH = 256
"""Characters of a path that leads nowhere which are looked at and told of."""
OPERATORS_BYTES = 64 * 1024
"""Bytes that one of their requests may have and still not be counted."""
_VERSIONS = ("v1", "v1beta")
_ALLOWED_FAMILIES = ("x-stainless-", "anthropic-", "x-goog-")


def presented_keys(request: GatewayRequest) -> list[str]:
    """Return every key *request* carries, in any of the four forms."""
    headers = request.requestHeaders
    keys = list(request.query_keys)
    for value in headers.getRawHeaders(b"authorization", ()):
        scheme, _, credential = value.strip().partition(b" ")
        if scheme.lower() == b"bearer":
            keys.append(credential.strip().decode("utf-8", "surrogateescape"))
    for name in (b"x-api-key", b"x-goog-api-key"):
        for value in headers.getRawHeaders(name, ()):
            keys.append(value.strip().decode("utf-8", "surrogateescape"))
    return [key for key in keys if key]


def caller_of(request: GatewayRequest, setup: Setup) -> Caller:
    """
    Return who sends *request*.

    :raise Unauthorized: if it carries no key of ours.
    :raise Forbidden: if nobody is asked for one, and a page sent it that is not listed.
    """
    caller: Caller = setup.keyring.who(presented=presented_keys(request))
    # No browser gets at a Unix socket.
    if setup.keyring.open and isinstance(request.getClientAddress(), IPv4Address | IPv6Address):
        refused = refusal(
            origins=_texts(request, b"origin"),
            hosts=_texts(request, b"host"),
            listed=setup.cors_origins,
        )
        if refused is not None:
            raise refused
    return caller


def _texts(request: GatewayRequest, name: bytes) -> list[str]:
    values = request.requestHeaders.getRawHeaders(name, ())
    return [value.decode("utf-8", "replace").strip() for value in values]


def first_headers(request: GatewayRequest) -> Mapping[bytes, bytes]:
    """Return *request*'s headers, names in lower case, lines of one name joined."""
    return {
        name.lower(): b", ".join(values)
        for name, values in request.requestHeaders.getAllRawHeaders()
    }


def allowed_origin(request: GatewayRequest, setup: Setup) -> Headers:
    """Return the headers that let the page which sent *request* read the answer."""
    origin = request.requestHeaders.getRawHeaders(b"origin", [b""])[0]
    listed = setup.cors_origins
    if not origin or not ("*" in listed or origin.decode("ascii", "replace") in listed):
        return ()
    return (
        (b"access-control-allow-origin", origin),
        (b"vary", b"origin"),
        (
            b"access-control-expose-headers",
            b"retry-after, request-id, x-request-id, " + ID_HEADER,
        ),
    )


class Front(Resource):
    """
    The root resource.

    :param tree: The resource that routes what is left of the path.
    :param setup: Returns the setup in force.
    """

    isLeaf = True
    _log = Logger()

    def __init__(self, tree: IResource, setup: Callable[[], Setup]) -> None:
        super().__init__()
        self._tree = tree
        self._setup = setup
        self._in_flight: set[GatewayRequest] = set()

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return len(self._in_flight)

    def render(self, request: GatewayRequest) -> int | bytes:
        """Answer one request. Called by ``twisted.web``."""
        setup = self._setup()
        request.exchange_id = uuid.uuid4().hex
        request.setHeader(b"server", SERVER)
        request.setHeader(ID_HEADER, request.exchange_id.encode())
        self._count(request)
        request.setHeader(b"x-content-type-options", b"nosniff")
        for name, value in allowed_origin(request, setup):
            request.setHeader(name, value)
        try:
            segments = [segment.decode("utf-8") for segment in request.postpath or ()]
        except UnicodeDecodeError:
            error = InvalidRequest("The path is not UTF-8; percent-encode it as UTF-8.")
            dialect = dialect_of(request.path.decode("ascii", "replace"), setup)
            return prepare_error(request, error, dialect, setup.scrubber)
        request.path_provider, segments = split_path(segments, setup)
        request.postpath = [segment.encode() for segment in segments]
        if request.method == b"OPTIONS":
            return self._preflight(request)
        if request.place is None:
            full = self._take(request, "/" + "/".join(segments))
            if full is not None:
                dialect = dialect_of(request.path.decode("ascii", "replace"), setup)
                return prepare_error(request, full, dialect, setup.scrubber)
        # IResource.render is untyped.
        answer: int | bytes = self._tree.render(request)
        return answer

    def admit(self, request: GatewayRequest) -> GatewayError | None:
        """Refuse before it is read a body from someone without a key, compressed, or too much."""
        try:
            caller_of(request, self._setup())
        except (Unauthorized, Forbidden) as error:
            return error
        codings = b",".join(request.requestHeaders.getRawHeaders(b"content-encoding", ()))
        if codings.strip(b", \t").lower() not in (b"", b"identity"):
            # A few bytes of it could fill the memory. Every official client sends it plain.
            return UnsupportedEncoding(
                "The request body is compressed (Content-Encoding), and the gateway opens no "
                "compressed requests; send it uncompressed, without that header.",
                code="unsupported_content_encoding",
            )
        size = request.announced
        if size is None or size > OPERATORS_BYTES:
            return self._take(request, None, size or 0)
        return self._take(request, request.target.decode("ascii", "replace"), size)

    def _take(
        self, request: GatewayRequest, path: str | None, size: int = 0
    ) -> GatewayError | None:
        """Count *request*, or say why it is one too many; those of operators never are."""
        setup = self._setup()
        if path == "/" or path in OPERATORS:
            return None
        try:
            caller = caller_of(request, setup)
        except (Unauthorized, Forbidden):
            # The route says so, at once.
            return None
        place = setup.load.take(caller.id, size)
        if isinstance(place, GatewayError):
            return place
        request.place = place
        return None

    def render_refusal(
        self, error: GatewayError, target: bytes, request: GatewayRequest
    ) -> tuple[int, Headers, bytes]:
        """Return the answer to a request that never came to a route."""
        setup = self._setup()
        dialect = dialect_of(target.decode("ascii", "replace"), setup)
        status, headers, body = error_reply(error, dialect, setup.scrubber)
        return status, (*headers, *allowed_origin(request, setup)), body

    def interrupt(self, error: UpstreamError) -> None:
        """Have all requests in flight end now, with *error* in the place of an answer."""
        for request in tuple(self._in_flight):
            if request.interrupt is not None:
                request.interrupt(error)

    def cut_off(self) -> None:
        """Close the connections of all requests in flight."""
        for request in tuple(self._in_flight):
            ITCPTransport(request.transport).abortConnection()

    def _count(self, request: GatewayRequest) -> None:
        began = self._setup().clock.seconds()
        self._in_flight.add(request)

        def over(result: object) -> None:
            self._in_flight.discard(request)
            self._log.info(
                "{peer} {method} {path} {status} {size} B {seconds:.3f} s {id}{gone}",
                peer=peer_name(request.getClientAddress()),
                method=request.method.decode("ascii", "replace"),
                path=request.path.decode("ascii", "replace"),
                status=request.code,
                size=request.sentLength,
                seconds=self._setup().clock.seconds() - began,
                id=request.exchange_id,
                gone="" if result is None else " (connection lost)",
            )

        request.notifyFinish().addBoth(over)

    def _preflight(self, request: GatewayRequest) -> bytes:
        methods = b"GET, HEAD, POST, DELETE, OPTIONS"
        request.setResponseCode(204)
        request.setHeader(b"allow", methods)
        if request.responseHeaders.hasHeader(b"access-control-allow-origin"):
            asked = request.requestHeaders.getRawHeaders(b"access-control-request-headers", [b""])
            wanted = (
                name.strip().lower() for name in asked[0].decode("ascii", "replace").split(",")
            )
            extra = [name for name in wanted if name.startswith(_ALLOWED_FAMILIES)]
            request.setHeader(b"access-control-allow-methods", methods)
            request.setHeader(
                b"access-control-allow-headers",
                b", ".join([ALLOWED_HEADERS, *(name.encode() for name in extra)]),
            )
            request.setHeader(b"access-control-max-age", b"86400")
        return b""


def split_path(segments: list[str], setup: Setup) -> tuple[str | None, list[str]]:
    """
    Take a trailing slash, a provider prefix and a doubled ``/v1`` off a path.

    ``claude-custom/v1/v1/messages`` comes of a base URL that ends in ``/v1`` given
    to a client that adds its own; ``v1beta/v1/models/...`` likewise.
    """
    # By index: a path may have sixty thousand segments, each of them empty.
    first, end = 0, len(segments)
    while end > 1 and segments[end - 1] == "":
        end -= 1
    provider = None
    if setup.directory.is_provider(segments[0]):
        provider, first = segments[0], 1
    while end - first > 2 and segments[first] in _VERSIONS and segments[first + 1] in _VERSIONS:
        first += 1
    # A lone provider is its root: some clients look there before anything else.
    return provider, segments[first:end] or [""]


def nearest_path(path: str, setup: Setup) -> tuple[str, IDialect]:
    """Return the path most like *path* that is answered, and a dialect to say so in."""
    # Paths of no dialect are told of in the one that claims whatever is left.
    endpoints = dict.fromkeys((*OPERATORS, "/"), setup.dialects[-1]) | {
        endpoint.path: dialect for dialect in setup.dialects for endpoint in dialect.endpoints
    }
    plain = {known.replace("<path:rest>", "MODEL"): known for known in endpoints}
    # Cut: the comparison's cost grows with both lengths, and no key was asked for yet.
    best = difflib.get_close_matches(path[:LONGEST_PATH], plain, n=1, cutoff=0.0)
    known = plain[best[0]]
    return best[0], endpoints[known]


def dialect_of(path: str, setup: Setup) -> IDialect:
    """
    Return the dialect an error on *path* is told in: that of the route it names, or
    of the one it is most like.
    """
    segments = path.partition("?")[0].lstrip("/").split("/")
    _, segments = split_path(segments, setup)
    plain = "/" + "/".join(segments)
    for dialect in setup.dialects:
        for endpoint in dialect.endpoints:
            stem, wild, _ = endpoint.path.partition("<path:rest>")
            if endpoint.method == "POST" and (
                plain == stem or (wild and plain.startswith(stem) and ":" in plain)
            ):
                return dialect
    return nearest_path(plain, setup)[1]
