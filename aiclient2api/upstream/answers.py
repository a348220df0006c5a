"""
What providers share on both sides of a request: URLs, headers, and small bodies read whole.

It must never know a provider's or a dialect's name, and never retry. What an error
answer means is said in `faults`; streams are the relay's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from urllib.parse import quote, urlencode

import hyperlink
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.interfaces import IProvider, IUpstreamResponse
from aiclient2api.values import Clock, Headers, UpstreamRequest

ERROR_BODY_LIMIT = 256 * 1024
"""Bytes of an upstream's error answer that are read; the rest is dropped."""

ERROR_BODY_SECONDS = 10.0
"""Seconds an error answer's body may take; what came by then has to do."""

LIST_LIMIT = 4 * 1024 * 1024
"""How many bytes a model list may have."""

_PASSED = frozenset(
    (
        b"content-type",
        b"retry-after",
        b"retry-after-ms",
        b"request-id",
        b"x-request-id",
        b"x-should-retry",
        b"openai-processing-ms",
        b"openai-version",
        b"cache-control",
    )
)
_PASSED_PREFIXES = (b"anthropic-ratelimit-", b"x-ratelimit-")

# A client's own credentials and cookies are meant for this gateway, never for upstream.
_NEVER_SENT = frozenset(
    (b"authorization", b"proxy-authorization", b"x-api-key", b"x-goog-api-key", b"cookie")
)

_STEPS = frozenset((".", ".."))
_VERSION = re.compile(r"v\d\w*")


# --- outwards: URLs and headers ---------------------------------------------


def join(base: str, path: str, query: Sequence[tuple[str, str]] = ()) -> str:
    """
    Append *path* to a configured base URL, which is never second-guessed.

    :param path: Begins with a slash and is ready for the wire.
    :param query: Arguments to add; those of *base* itself stay in front.
    :return: An ASCII URL.
    """
    stem, _, arguments = base.partition("?")
    told = "&".join(part for part in (arguments, urlencode(query)) if part)
    url = stem.rstrip("/") + path + (f"?{told}" if told else "")
    if url.isascii():
        return url
    return hyperlink.URL.from_text(url).to_uri().to_text()


def versioned(base: str) -> bool:
    """Say whether a base URL ends in a version segment such as ``/v1`` or ``/v1beta``."""
    last = base.partition("?")[0].rstrip("/").rpartition("/")[2]
    return _VERSION.fullmatch(last) is not None


def path_segment(text: str) -> str:
    """
    Return *text*, a name that a client gave, percent-quoted for a URL's path; slashes stay.

    :raise InvalidRequest: if a URL would take parts of it for steps to another place.
    """
    # Some servers take a backslash for a slash, also one that was quoted.
    if not _STEPS.isdisjoint(text.replace("\\", "/").split("/")):
        raise InvalidRequest(
            "A model's name has no parts '.' or '..' between its slashes; send its real name.",
            code="invalid_value",
            param="model",
        )
    return quote(text, safe="/")


def dressed(own: Headers, passed: Headers) -> Headers:
    """
    Return the headers of a request: ours, then the client's that do not collide.

    A client's credentials are dropped here whatever its dialect lets pass.
    """
    taken = {name for name, _ in own} | _NEVER_SENT
    return own + tuple(line for line in passed if line[0] not in taken)


def passed_headers(headers: Headers) -> Headers:
    """
    Return those of an upstream's headers that may reach a client.

    Cookies, hop-by-hop headers, lengths, encodings and organization ids stay here.
    """
    return tuple(
        line for line in headers if line[0] in _PASSED or line[0].startswith(_PASSED_PREFIXES)
    )


# --- inwards: bodies --------------------------------------------------------


class _Collector(Protocol):
    """Gathers a body of bounded size into one Deferred."""

    def __init__(self, response: IUpstreamResponse, limit: int, *, strict: bool) -> None:
        self._strict = strict
        self._response = response
        self._room = limit
        self._limit = limit
        self._parts: list[bytes] = []
        self._open = True
        self.result: Deferred[bytes] = Deferred(lambda _: self._close())

    def _close(self) -> None:
        self._open = False
        self._parts.clear()
        self._response.abort()

    def dataReceived(self, data: bytes) -> None:
        if not self._open:
            return
        self._room -= len(data)
        self._parts.append(data)
        if self._room >= 0:
            return
        body = b"".join(self._parts)[: self._limit]
        self._close()
        if not self._strict:
            self.result.callback(body)
        else:
            self.result.errback(
                UpstreamError(
                    f"The upstream's answer is over {self._limit} bytes, more than is read "
                    "of one that must be held whole: see whether its base URL is right.",
                    fault=Fault.SERVER,
                    status=502,
                )
            )

    def stop_waiting(self) -> None:
        """Be content with what came."""
        body = b"".join(self._parts)
        self._close()
        self.result.callback(body)

    def connectionLost(self, reason: Failure | None = None) -> None:
        if not self._open:
            return
        self._open = False
        whole = reason is None or reason.check(ResponseDone, PotentialDataLoss)
        if whole or not self._strict:
            self.result.callback(b"".join(self._parts))
            return
        self.result.errback(
            UpstreamError(
                "The upstream broke the connection in the middle of its answer: try again.",
                fault=Fault.RESET,
                status=502,
            )
        )


def collect(response: IUpstreamResponse, limit: int) -> Deferred[bytes]:
    """
    Read a whole body. Cancelling aborts the response and drops what was read.

    :param limit: Bytes.
    :raise UpstreamError: `Fault.SERVER` if the body is longer than *limit*,
        `Fault.RESET` if the connection breaks before its end.
    """
    return _collected(response, _Collector(response, limit, strict=True))


def peek(
    response: IUpstreamResponse, limit: int, *, clock: Clock, seconds: float
) -> Deferred[bytes]:
    """
    Read as much of an error's body as comes, up to *limit* bytes: it never fails.

    The status has told most by then, and must not be lost because the body is too long,
    breaks off or stalls. Cancelling aborts the response.

    :param seconds: How long to read at most; above 0.
    """
    collector = _Collector(response, limit, strict=False)
    reading = _collected(response, collector)
    if reading.called:
        return reading
    timer = clock.callLater(seconds, collector.stop_waiting)

    def settle(result: bytes | Failure) -> bytes | Failure:
        if timer.active():
            timer.cancel()
        return result

    return reading.addBoth(settle)


def _collected(response: IUpstreamResponse, collector: _Collector) -> Deferred[bytes]:
    response.deliver(receiver=collector)
    return collector.result


async def refusal(
    *,
    provider: IProvider,
    response: IUpstreamResponse,
    clean: Callable[[bytes], bytes],
    clock: Clock,
    seconds: float = ERROR_BODY_SECONDS,
) -> UpstreamError:
    """
    Read an error answer and return what *provider* makes of it.

    Secrets are cut out before anyone reads it: whoever shortens a text later cannot cut
    one in two and leave a part. Cancelling the coroutine's Deferred closes the connection.

    :param clean: Cuts the secrets of the account that asked out of a header or a body.
    """
    body = await peek(response, ERROR_BODY_LIMIT, clock=clock, seconds=seconds)
    return provider.classify(
        status=response.status,
        headers=tuple((name, clean(value)) for name, value in response.headers),
        body=clean(body),
    )


async def fetch(
    *,
    provider: IProvider,
    request: UpstreamRequest,
    clean: Callable[[bytes], bytes],
    clock: Clock,
    limit: int = LIST_LIMIT,
) -> bytes:
    """
    Send a request of the provider's own (a model list) and return the body of its 200.

    Cancelling the coroutine's Deferred closes the connection.

    :param clean: As `refusal` takes it.
    :raise UpstreamError: whatever *provider* makes of any other status.
    """
    response = await provider.upstream.send(request=request)
    if response.status == 200:
        return await collect(response, limit)
    raise await refusal(provider=provider, response=response, clean=clean, clock=clock)


def not_a_list(provider: str, base_key: str) -> UpstreamError:
    """Return the error for a model list that is none."""
    return UpstreamError(
        f"{provider} answered the question for its models with something else than a list "
        f"of models: see whether {base_key} is right, or name the models in supportedModels.",
        fault=Fault.SERVER,
        status=502,
    )
