"""
The device authorization grant: a code is typed elsewhere, and we ask until it was (RFC 8628).

A vendor says how it is asked; the rules of asking are here. It knows no vendor's words for
a credential, and never shows the secret half of a code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.interfaces import ILoginFlow
from aiclient2api.oauth.requests import Answer, printable, refused
from aiclient2api.values import Clock

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
"""What the token endpoint is asked for."""

LONGEST = 1800.0
"""Seconds after which a login is given up, whatever the vendor says of its code."""

_PASSING = (Fault.UNREACHABLE, Fault.TIMEOUT, Fault.RESET, Fault.SERVER)


@attrs.frozen
class DeviceCode:
    """
    What a vendor answers the first question with.

    :ivar secret: The half by which we ask.
    :ivar code: The half that a person types or compares.
    :ivar url: Where; *whole* is the same with the code in it, or ``""``.
    :ivar seconds: How long both are good for.
    :ivar interval: Seconds between two questions.
    """

    secret: str = attrs.field(repr=False)
    code: str = attrs.field(repr=False)
    url: str = attrs.field(repr=False)
    whole: str = attrs.field(repr=False)
    seconds: float
    interval: float


class Vendor(Protocol):
    """How one vendor is asked."""

    @property
    def whose(self) -> str:
        """Return how a sentence calls it, such as ``Qwen\'s login``."""

    def begin(self) -> Deferred[DeviceCode]:
        """Ask for a code. Cancelling closes the connection."""

    def ask(self, secret: str) -> Deferred[Answer]:
        """Ask whether the person has logged in. Cancelling closes the connection."""

    def credential(self, answer: Answer) -> Mapping[str, Any]:
        """
        Make the credential document of the answer that grants it.

        :raise UpstreamError: if something is missing.
        """


@attrs.frozen
class Pace:
    """
    How the time between two questions grows and shrinks.

    :ivar plus: Seconds that are added when we are told to slow down (RFC 8628: 5).
    :ivar times: What it is multiplied with then.
    :ivar longest: It does not grow beyond this.
    :ivar recovers: True if a plain "not yet" takes it back to where it began.
    """

    plus: float = 5.0
    times: float = 1.0
    longest: float = 60.0
    recovers: bool = False

    def slower(self, interval: float) -> float:
        """Return the interval after one "slow down"."""
        return max(interval, min(interval * self.times + self.plus, self.longest))


def device_code(
    answer: Answer, *, whose: str, names: Mapping[str, str], interval: float
) -> DeviceCode:
    """
    Read the first answer of a vendor.

    :param names: How it spells ``secret``, ``code``, ``url``, ``whole``, ``seconds`` and
        ``interval``.
    :param interval: What holds if it says none.
    :raise UpstreamError: if it refuses, or something is missing.
    """
    if not answer.ok:
        raise refused(whose, answer)
    found = {key: answer.text(names[key]) for key in ("secret", "code", "url", "whole")}
    if not found["secret"] or not (found["url"] or found["whole"]):
        raise UpstreamError(
            f"{whose} gave no code to log in with: try again; if that stays so, it has changed "
            "and cannot be used.",
            fault=Fault.SERVER,
            status=502,
        )
    for key in ("url", "whole"):
        found[key] = _web(found[key], whose)
    return DeviceCode(
        found["secret"],
        printable(found["code"])[:100],
        found["url"],
        found["whole"],
        min(answer.number(names["seconds"], 600.0), LONGEST),
        answer.number(names["interval"], interval),
    )


@implementer(ILoginFlow)
class DeviceLogin:
    """
    One login by a code.

    :param pace: How we slow down when told to.
    :param now: Returns Unix seconds.
    """

    def __init__(
        self,
        vendor: Vendor,
        *,
        clock: Clock,
        pace: Pace = Pace(),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.url = ""
        self.code: str | None = None
        self.expires = 0.0
        self.hint = "Open the address, log in, and compare or type the code."
        self._vendor = vendor
        self._clock = clock
        self._pace = pace
        self._now = now
        self._found: DeviceCode | None = None
        self._ends = 0.0

    def start(self) -> Deferred[None]:
        """Get the code."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        found = await self._vendor.begin()
        self.url = found.whole or found.url
        self.code = found.code or None
        self.expires = self._now() + found.seconds
        # Whether time is up is told by the clock that nobody sets.
        self._ends = self._clock.seconds() + found.seconds
        self._found = found

    def finish(self) -> Deferred[Mapping[str, Any]]:
        """Ask until the person has logged in."""
        return Deferred.fromCoroutine(self._finish())

    def paste(self, url: str) -> None:
        """Refuse: there is nothing to paste."""
        raise InvalidRequest(
            "This login waits for no address: open the one it shows, in a browser anywhere, and "
            "type its code there."
        )

    async def _finish(self) -> Mapping[str, Any]:
        found = self._found
        if found is None:
            raise InvalidRequest("The login has not been started: start it first.")
        interval = found.interval
        while True:
            left = self._ends - self._clock.seconds()
            await deferLater(self._clock, max(0.0, min(interval, left)), lambda: None)
            if self._clock.seconds() >= self._ends:
                raise self._expired()
            try:
                answer = await self._vendor.ask(found.secret)
            except CancelledError:
                raise
            except UpstreamError as error:
                if error.fault not in _PASSING:
                    raise
                interval = self._pace.slower(interval)
                continue
            word = _word(answer)
            if word == "granted":
                return self._vendor.credential(answer)
            if word == "slow_down":
                interval = self._pace.slower(interval)
            elif word == "authorization_pending":
                interval = found.interval if self._pace.recovers else interval
            elif word == "access_denied":
                raise UpstreamError(
                    f"The login was refused in the browser; {self._vendor.whose} gives no account. "
                    "Begin again if that was not meant.",
                    fault=Fault.CREDENTIAL,
                    status=401,
                    code=word,
                )
            elif word == "expired_token":
                raise self._expired()
            else:
                raise refused(self._vendor.whose, answer)

    def _expired(self) -> UpstreamError:
        return UpstreamError(
            "The code has expired before anybody logged in with it: begin the login again.",
            fault=Fault.CREDENTIAL,
            status=401,
            code="expired_token",
        )


_WORDS = {
    "authorizationpendingexception": "authorization_pending",
    "slowdownexception": "slow_down",
    "expiredtokenexception": "expired_token",
    "accessdeniedexception": "access_denied",
}


def _word(answer: Answer) -> str:
    """Return what an answer comes to, in the words of RFC 8628; ``granted`` for a token."""
    if answer.ok:
        pending = answer.document.get("status") == "pending"
        return "authorization_pending" if pending else "granted"
    error = _WORDS.get(answer.error.lower(), answer.error)
    if error in ("authorization_pending", "slow_down", "expired_token", "access_denied"):
        return error
    if answer.status == 429:
        return "slow_down"
    if answer.status == 401 and not error.endswith("_client"):
        return "expired_token"
    return error


def _web(url: str, whose: str) -> str:
    if not url:
        return ""
    parts = urlsplit(url)
    here = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and here):
        raise UpstreamError(
            f"{whose} names an address that is no https URL; it is not opened. The server at "
            "the other end may not be who it should be.",
            fault=Fault.SERVER,
            status=502,
        )
    return printable(url).replace(" ", "%20")
