"""
Ask an authorization server one thing: a form or JSON goes out, a JSON object comes back.

The answer is bounded in size and time. It never repeats what was sent, which is nothing
but secrets, and it neither tries again nor knows what an answer means.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.interfaces import IUpstream, IUpstreamResponse
from aiclient2api.upstream.hints import header_wait
from aiclient2api.values import Clock, Headers, UpstreamRequest

ANSWER_LIMIT = 256 * 1024
"""Bytes of an answer that are read; a real one has some thousand."""

SECONDS = 30.0
"""How long one question may take, connecting included."""

_TOLD = 300
_SHORTEST = 4


@attrs.frozen
class Answer:
    """
    What an authorization server said.

    :ivar document: The JSON object; empty where an error came with something else.
    :ivar error: The word by which it names an error, or ``""``.
    :ivar told: What it says of the error for people, without what was sent; or ``""``.
    :ivar retry_after: Seconds after which it wants to be asked again, None if it does not say.
    """

    status: int
    document: Mapping[str, Any] = attrs.field(repr=False)
    error: str = ""
    told: str = attrs.field(default="", repr=False)
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        """True if it did what it was asked for."""
        return 200 <= self.status < 300

    def text(self, key: str) -> str:
        """Return a text of the document, ``""`` if there is none."""
        value = self.document.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str, default: float) -> float:
        """Return a number of the document that is above 0, else *default*."""
        value = self.document.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return default
        # A nonsense as large as this would outlast the process.
        return float(value) if 0 < value < 10**9 else default


@attrs.frozen
class Asker:
    """
    The way to one authorization server.

    :ivar whose: How a sentence calls it, such as ``Google's login``.
    :ivar proxy: A proxy's URL, or None for what the environment says.
    """

    upstream: IUpstream
    clock: Clock
    whose: str
    proxy: str | None = attrs.field(default=None, repr=False)
    seconds: float = SECONDS

    def form(self, url: str, fields: Mapping[str, str], headers: Headers = ()) -> Deferred[Answer]:
        """
        Post a form; fire with any answer that is one, of whatever status below 500.

        Cancelling closes the connection.

        :raise UpstreamError: if there is none: no connection, no time, no JSON, a 5xx.
        """
        body = urlencode(fields).encode("ascii")
        return self._post(url, b"application/x-www-form-urlencoded", body, fields, headers)

    def json(self, url: str, fields: Mapping[str, Any], headers: Headers = ()) -> Deferred[Answer]:
        """Post JSON; otherwise as `form`."""
        body = json.dumps(fields).encode("ascii")
        return self._post(url, b"application/json", body, fields, headers)

    def _post(
        self, url: str, kind: bytes, body: bytes, sent: Mapping[str, Any], headers: Headers
    ) -> Deferred[Answer]:
        own = ((b"content-type", kind), (b"accept", b"application/json"))
        request = UpstreamRequest("POST", url, (*own, *headers), body, proxy=self.proxy, once=True)
        asking = Deferred.fromCoroutine(self._asked(request, sent))
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            asking.cancel()

        timer = self.clock.callLater(self.seconds, expire)

        def settle(result: Answer | Failure) -> Answer | Failure:
            if timer.active():
                timer.cancel()
            if late and isinstance(result, Failure):
                return Failure(
                    UpstreamError(
                        f"{self.whose} at {_host(url)} did not answer within {self.seconds:g} "
                        "seconds: try again, or look at the network and its proxy.",
                        fault=Fault.TIMEOUT,
                        status=504,
                    )
                )
            return result

        return asking.addBoth(settle)

    async def _asked(self, request: UpstreamRequest, sent: Mapping[str, Any]) -> Answer:
        response = await self.upstream.send(request=request)
        body = await _read(response)
        wait = header_wait(response.headers)
        where = f"{self.whose} at {_host(request.url)}"
        document = _object(body)
        if response.status >= 500:
            raise UpstreamError(
                f"{where} is out of order (status {response.status}): try again later.",
                fault=Fault.SERVER,
                status=502,
                retry_after=wait,
            )
        if document is None and response.status < 400:
            raise UpstreamError(
                f"{where} answered with something else than a JSON object (status "
                f"{response.status}): see whether that address is right.",
                fault=Fault.SERVER,
                status=502,
            )
        found = document or {}
        values = [value for value in sent.values() if isinstance(value, str)]
        return Answer(response.status, found, _word(found), _told(found, values), wait)


def seconds_left(answer: Answer) -> float:
    """Return how long an access token is good for; an hour if nobody says."""
    return answer.number("expires_in", answer.number("expiresIn", 3600.0))


def incomplete(whose: str, what: str) -> UpstreamError:
    """Return the error for a login that ended without something that is needed."""
    return UpstreamError(
        f"{whose} gave no {what}: begin the login again; if that stays so, it has changed.",
        fault=Fault.SERVER,
        status=502,
    )


def refused(whose: str, answer: Answer) -> UpstreamError:
    """Return the error for an answer that refuses for good."""
    why = answer.told or answer.error or "it does not say why"
    return UpstreamError(
        f"{whose} refuses (status {answer.status}): {why.rstrip('.')}. Begin the login again.",
        fault=Fault.CREDENTIAL,
        status=401,
        code=answer.error or None,
    )


class _Body(Protocol):
    """Gathers what there is room for; more than that is an error."""

    def __init__(self, response: IUpstreamResponse) -> None:
        self._response = response
        self._parts: list[bytes] = []
        self._room = ANSWER_LIMIT
        self.done: Deferred[bytes] = Deferred(lambda _: response.abort())

    def dataReceived(self, data: bytes) -> None:
        """Keep it, while there is room."""
        if self.done.called:
            return
        self._room -= len(data)
        self._parts.append(data)
        if self._room < 0:
            self._response.abort()
            self.done.errback(
                UpstreamError(
                    f"A login's server sent more than {ANSWER_LIMIT} bytes: see whether its "
                    "address is right.",
                    fault=Fault.SERVER,
                    status=502,
                )
            )

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Hand over what came, if that is all of it."""
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._parts))
            return
        self.done.errback(
            UpstreamError(
                "A login's server broke the connection in the middle of its answer: try again.",
                fault=Fault.RESET,
                status=502,
            )
        )


def _read(response: IUpstreamResponse) -> Deferred[bytes]:
    body = _Body(response)
    response.deliver(receiver=body)
    return body.done


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _word(document: Mapping[str, Any]) -> str:
    error = document.get("error")
    # Some nest it, as Google's other APIs do.
    if isinstance(error, dict):
        error = error.get("status") or error.get("code")
    return error if isinstance(error, str) and len(error) < 100 else ""


def _told(document: Mapping[str, Any], sent: Iterable[str]) -> str:
    for key in ("error_description", "message", "Message", "error"):
        value = document.get(key)
        if isinstance(value, str) and value:
            for secret in sorted(sent, key=len, reverse=True):
                if len(secret) >= _SHORTEST:
                    value = value.replace(secret, "[secret]")
            return printable(value)[:_TOLD]
    return ""


def printable(text: str) -> str:
    """Return *text* as one line without anything that a terminal would obey."""
    return "".join(each if each.isprintable() else " " for each in text).strip()


def _host(url: str) -> str:
    parts = urlsplit(url)
    return printable(parts.netloc.rpartition("@")[2])
