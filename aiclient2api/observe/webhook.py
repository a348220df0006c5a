"""
Tell another program of accounts that change their state: a POST for each change.

Nobody waits for it, and it never fails at anybody: what cannot be told is counted and
logged. It must never know what the states mean beyond which of them are a passage, and
nothing that gives access stands in what it sends or logs.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from aiclient2api.errors import UpstreamError
from aiclient2api.interfaces import IUpstream, IUpstreamResponse
from aiclient2api.observe.moments import moment
from aiclient2api.observe.redaction import redacted
from aiclient2api.values import Account, Clock, Headers, Standing, UpstreamRequest

PATIENCE = 5.0
"""Seconds that one POST may take, its answer included."""

RETRY_DELAY = 2.0
"""Seconds before a POST that failed is sent once more."""

MOST_WAITING = 100
"""Changes that wait to be told; of more, the oldest are dropped."""

QUIET = 60.0
"""Seconds between two log lines about changes that could not be told."""

_ANSWER_LIMIT = 16 * 1024
_PASSAGES = frozenset({"probing", "refreshing"})
_WORTH_REPEATING = frozenset({408, 425, 429})


class Webhook:
    """
    Posts the changes of accounts, one at a time, in order.

    :param url: Returns where to, or None to tell nobody; asked for each change. A user
        name and password in it are sent as such.
    :param clean: Takes secrets out of what upstreams said, other accounts' as well.
    :param now: Returns Unix seconds.
    :ivar dropped: Changes that were never told because too many waited.
    :ivar failed: Changes that were never told because nobody took them.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        url: Callable[[], str | None],
        upstream: IUpstream,
        clock: Clock,
        now: Callable[[], float],
        clean: Callable[[str], str] = str,
    ) -> None:
        self._clean = clean
        self.dropped = self.failed = 0
        self._url = url
        self._upstream = upstream
        self._clock = clock
        self._now = now
        self._came_from: dict[tuple[str, str], str] = {}
        self._waiting: deque[bytes] = deque()
        self._working: Deferred[None] | None = None
        self._busy = self._closed = False
        self._unlogged = 0
        self._logged_at: float | None = None

    def changed(self, account: Account, before: Standing, after: Standing) -> None:
        """
        Take note that *account* has changed. Never raises, never waits.

        A passage is not told of, only where it led to: nothing if that is where it came from.
        """
        key = (account.provider, account.id)
        if after.state in _PASSAGES:
            if before.state not in _PASSAGES:
                self._came_from[key] = before.state
            return
        came_from = self._came_from.pop(key, before.state)
        if came_from == after.state or self._closed or not self._url():
            return
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1
            self._complain("too many changes wait to be told")
        self._waiting.append(self._message(account, came_from, after))
        self._begin()

    def close(self) -> None:
        """Tell no more, and close the connection if one is at work."""
        self._closed = True
        self._waiting.clear()
        if self._working is not None:
            self._working.cancel()

    def _message(self, account: Account, came_from: str, after: Standing) -> bytes:
        told = {
            "event": "account_state",
            "provider": account.provider,
            "uuid": account.id,
            "customName": account.name,
            "from": came_from,
            "to": after.state,
            "reason": after.reason,
            "message": self._clean(redacted(after.message, account.secrets)),
            "since": moment(after.since),
            "until": moment(after.until),
            "nextTry": moment(after.next_try),
            "usable": after.usable,
            "at": moment(self._now()),
        }
        # Escaped to ASCII, for an upstream's words may hold a lone surrogate.
        return json.dumps(told, separators=(",", ":")).encode("ascii")

    def _begin(self) -> None:
        if self._busy:
            return
        self._busy = True
        self._working = Deferred.fromCoroutine(self._work())
        self._working.addErrback(self._stopped)
        self._working.addBoth(self._ended)

    def _stopped(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            kind = type(failure.value).__qualname__
            self._log.error("The webhook stopped: {kind}. This is a bug.", kind=kind)

    def _ended(self, _: object) -> None:
        self._busy = False
        self._working = None

    async def _work(self) -> None:
        while self._waiting:
            message = self._waiting.popleft()
            url = self._url()
            if url:
                await self._tell(url, message)

    async def _tell(self, url: str, message: bytes) -> None:
        again, why = await self._post(url, message)
        if again:
            await self._pause()
            _, why = await self._post(url, message)
        if why:
            self.failed += 1
            self._complain(why, url)

    async def _post(self, url: str, message: bytes) -> tuple[bool, str]:
        """Return whether it is worth sending again, and why it was not taken if so."""
        try:
            return await self._sent(_request(url, message))
        except CancelledError:
            raise
        except UpstreamError as error:
            return True, f"it could not be reached ({error.fault.value})"
        except Exception as error:
            # A URL that cannot be read, or a bug: what waits behind it must not suffer.
            return False, f"the request failed ({type(error).__qualname__})"

    async def _sent(self, request: UpstreamRequest) -> tuple[bool, str]:
        ends = self._clock.seconds() + PATIENCE
        sending = self._upstream.send(request=request)
        try:
            response = await sending.addTimeout(PATIENCE, self._clock)
        except TimeoutError:
            return True, f"it did not answer within {PATIENCE:g} s"
        if not 200 <= response.status < 300:
            response.abort()
            again = response.status >= 500 or response.status in _WORTH_REPEATING
            return again, f"it answered {response.status}"
        # Read only so that the connection can be kept: it was taken whatever follows.
        drain = _Drain(response)
        response.deliver(receiver=drain)
        with suppress(TimeoutError):
            await drain.done.addTimeout(max(ends - self._clock.seconds(), 0.0), self._clock)
        return False, ""

    def _pause(self) -> Deferred[None]:
        timer = self._clock.callLater(RETRY_DELAY, lambda: pause.callback(None))
        pause: Deferred[None] = Deferred(lambda _: timer.cancel())
        return pause

    def _complain(self, why: str, url: str | None = None) -> None:
        self._unlogged += 1
        now = self._clock.seconds()
        if self._logged_at is not None and now - self._logged_at < QUIET:
            return
        self._logged_at = now
        self._log.warn(
            "The webhook{place} was not told of changes of accounts ({count}): {why}. See whether "
            "health_alert_webhook_url is right and its server answers.",
            place=f" at {_shown(url)}" if url else "",
            count=self._unlogged,
            why=why,
        )
        self._unlogged = 0


class _Drain(Protocol):
    """Reads a body and keeps nothing of it; closes the connection if it grows too long."""

    def __init__(self, response: IUpstreamResponse) -> None:
        self._response = response
        self._room = _ANSWER_LIMIT
        self.done: Deferred[None] = Deferred(lambda _: response.abort())

    def dataReceived(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room < 0:
            self._response.abort()
            self._finish()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._finish()

    def _finish(self) -> None:
        if not self.done.called:
            self.done.callback(None)


def _request(url: str, message: bytes) -> UpstreamRequest:
    headers: Headers = (
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, */*"),
    )
    parts = urlsplit(url)
    if "@" in parts.netloc:
        login, _, place = parts.netloc.rpartition("@")
        url = urlunsplit(parts._replace(netloc=place, fragment=""))
        headers += ((b"authorization", b"Basic " + b64encode(unquote_to_bytes(login))),)
    return UpstreamRequest(method="POST", url=url, headers=headers, body=message, account="webhook")


def _shown(url: str) -> str:
    """Return the origin of *url*: paths and queries of webhooks give access to something."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{parts.hostname or ''}{port}"
