"""
The authorization code grant with PKCE: log in in a browser, which comes back to us.

It comes back to an address on this machine, or a person pastes the one it ended up at. A
vendor says which addresses there are and how a code is redeemed; nothing of that is here.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qs, urlencode, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from aiclient2api.errors import Fault, GatewayError, InvalidRequest, UpstreamError
from aiclient2api.interfaces import ILoginFlow
from aiclient2api.oauth.callback import HOST, Door, Page
from aiclient2api.oauth.pkce import METHOD, Proof, new_proof, new_state
from aiclient2api.oauth.requests import printable
from aiclient2api.values import Clock

PATIENCE = 600.0
"""Seconds that a person has for logging in."""

LONGEST_URL = 16 * 1024
"""Characters of what is pasted that are looked at."""


class Vendor(Protocol):
    """How one vendor is asked."""

    @property
    def whose(self) -> str:
        """Return how a sentence calls it, such as ``Qwen\'s login``."""

    def address(self, *, redirect: str, state: str, challenge: str) -> str:
        """Return what is opened in the browser; the challenge's method is `pkce.METHOD`."""

    def redeem(self, *, code: str, verifier: str, redirect: str) -> Deferred[Mapping[str, Any]]:
        """
        Give the code for a credential document. Cancelling closes the connection.

        :raise UpstreamError: if it is refused.
        """


@implementer(ILoginFlow)
class CodeLogin:
    """
    One login in a browser.

    :param reactor: Listens, and is the clock.
    :param path: Where the browser is sent back to on this machine.
    :param port: 0 for a free one; None: nobody listens, the address is pasted.
    :param redirect: The address the browser is sent back to, if it is no address of this
        machine.
    :param now: Returns Unix seconds.
    :param new_proof: Makes the PKCE proof; *new_state* the state.
    """

    def __init__(
        self,
        vendor: Vendor,
        *,
        reactor: Clock,
        path: str,
        port: int | None = 0,
        redirect: str | None = None,
        hint: str = "",
        seconds: float = PATIENCE,
        now: Callable[[], float] = time.time,
        new_proof: Callable[[], Proof] = new_proof,
        new_state: Callable[[], str] = new_state,
    ) -> None:
        self.url = ""
        self.code: str | None = None
        self.expires = 0.0
        self.hint = hint or (
            "Log in in the browser. If it runs on another machine, it ends up at an address that "
            "it cannot open: paste that address here."
        )
        self._vendor = vendor
        self._reactor = reactor
        self._path = path
        self._port = port
        self._redirect = redirect or ""
        self._seconds = seconds
        self._now = now
        self._proof = new_proof()
        self._state = new_state()
        self._door = Door(reactor=reactor, path=path, visited=self._visited)
        self._timer: Any = None
        self._came: str | UpstreamError | None = None
        self._over = False
        self._wakes: Deferred[None] | None = None

    def start(self) -> Deferred[None]:
        """Begin to listen, and make the address."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        if self._port is not None:
            self._door.open(self._port)
        if not self._redirect:
            self._redirect = f"http://{HOST}:{self._door.port}{self._path}"
        self.url = self._vendor.address(
            redirect=self._redirect, state=self._state, challenge=self._proof.challenge
        )
        self.expires = self._now() + self._seconds
        self._timer = self._reactor.callLater(self._seconds, self._too_late)

    def finish(self) -> Deferred[Mapping[str, Any]]:
        """Wait for the code, and redeem it."""
        return Deferred.fromCoroutine(self._finish())

    def paste(self, url: str) -> None:
        """Take the address that the browser ended up at."""
        text = url.strip()
        if len(text) > LONGEST_URL:
            raise InvalidRequest("That is too long for the address of a login; copy it alone.")
        parts = urlsplit(text) if text.isprintable() else None
        if parts is None or not (parts.query or parts.fragment):
            raise InvalidRequest(
                "That is no address of a finished login; copy all of what the browser's address "
                f"bar shows in the end: it begins with {self._shown()}."
            )
        try:
            self._visited(parts.query or parts.fragment)
        except Page as page:
            raise InvalidRequest(page.text) from None

    def _shown(self) -> str:
        return self._redirect.partition("?")[0] or "http"

    def _visited(self, query: str) -> None:
        """Take a browser's answer, if it belongs to this login."""
        try:
            found = parse_qs(query, keep_blank_values=True, max_num_fields=100)
        except ValueError:
            raise Page(400, "That address cannot be read; copy all of it.") from None
        state, codes, errors = (found.get(name, []) for name in ("state", "code", "error"))
        if not codes and not errors:
            raise Page(
                400,
                "That address has no code in it: log in first, and copy the one where the browser "
                f"ends up. It begins with {self._shown()}.",
            )
        # Compared as bytes: of other texts the comparison would tell by failing.
        mine = self._state.encode()
        if len(state) != 1 or not hmac.compare_digest(state[0].encode("utf-8", "replace"), mine):
            raise Page(
                400,
                "That is the answer to another login (its state is not ours), and was not used; "
                "open the address that this login shows.",
            )
        if self._over or self._came is not None:
            raise Page(409, "This login has its answer already; there is nothing more to do.")
        if errors:
            told = printable((found.get("error_description") or errors)[0])[:300]
            self._came = self._refusal(told, errors[0])
        elif len(codes) == 1 and codes[0]:
            self._came = codes[0]
        else:
            raise Page(400, "That address has more than one code in it, or an empty one.")
        self._wake()

    def _refusal(self, told: str, word: str) -> UpstreamError:
        return UpstreamError(
            f"{self._vendor.whose} gives no account: {told.rstrip('.') or 'it does not say why'}. "
            "Begin the login again.",
            fault=Fault.CREDENTIAL,
            status=401,
            code=printable(word)[:100],
        )

    def _too_late(self) -> None:
        self._timer = None
        if self._came is None:
            self._came = UpstreamError(
                f"Nobody has logged in within {self._seconds / 60:g} minutes: begin the login "
                "again.",
                fault=Fault.TIMEOUT,
                status=504,
            )
            self._wake()

    def _wake(self) -> None:
        wakes, self._wakes = self._wakes, None
        if wakes is not None:
            wakes.callback(None)

    async def _finish(self) -> Mapping[str, Any]:
        try:
            if not self.url:
                raise InvalidRequest("The login has not been started: start it first.")
            if self._came is None:
                self._wakes = Deferred()
                await self._wakes
            came = self._came
            if isinstance(came, UpstreamError):
                raise came
            assert came is not None
            document = await self._vendor.redeem(
                code=came, verifier=self._proof.verifier, redirect=self._redirect
            )
        except CancelledError:
            self._door.tell("Given up", "This login was given up.", status=409)
            raise
        except GatewayError as error:
            self._door.tell("No account was added", error.message, status=400)
            raise
        else:
            self._door.tell(
                "Logged in", "You may close this page; the rest stands where you began the login."
            )
            return document
        finally:
            self._over = True
            self._wakes = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._door.close()


def with_query(url: str, arguments: Mapping[str, str]) -> str:
    """Return *url* with these arguments behind it."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode(arguments)}"


def proven(state: str, challenge: str) -> Mapping[str, str]:
    """Return the arguments of RFC 7636 and the state, which every vendor takes alike."""
    return {"state": state, "code_challenge": challenge, "code_challenge_method": METHOD}


def port_of(options: Mapping[str, str], default: int | None = 0) -> int | None:
    """
    Return which port was asked for.

    :raise InvalidRequest: if it is none.
    """
    told = options.get("port")
    if told is None:
        return default
    if not (told.isascii() and told.isdecimal() and 0 <= int(told) < 65536):
        raise InvalidRequest("--port takes a number from 1 to 65535, or 0 for any that is free.")
    return int(told)
