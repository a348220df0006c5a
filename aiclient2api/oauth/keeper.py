"""
One credential and its tokens: handed out while they are good, renewed once for everybody.

The rules that keep an account from being lost stand here. A refresh token that may be used
once only is read under the lock, used, and its successor is on the disk before anybody gets
the new access token. Whatever others write is believed before anything of ours. It must never
know a vendor: what expires when, and how it is renewed, says a `Renewal`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.oauth import troubles
from aiclient2api.oauth.credential_file import (
    Found,
    Stamp,
    access_token,
    digest,
    identity,
    refresh_token,
)
from aiclient2api.oauth.places import Place, Unreadable
from aiclient2api.oauth.sharing import Shared, detached
from aiclient2api.oauth.troubles import own
from aiclient2api.values import Clock, Jitter

LEAST = 30.0
"""Seconds between two renewals, unless a token was refused: our clock may be wrong."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 20.0
"""Seconds between renewals that fail."""

_LONGEST_HINT = 300.0
"""Seconds: what a token endpoint wants at most of us."""

_COARSE = 2.0
"""Seconds; some file systems tell no finer when a file changed."""

_CLOSING = 5.0
"""Seconds that a renewal under way is given at the end."""

_ROUNDS = 4
"""How often others may change the credential under our hands before we give up."""


Met = Callable[[Mapping[str, Any]], None]
"""Told of a document whose tokens are used from now on."""


def no_one(document: Mapping[str, Any]) -> None:
    """Be told of a document, and forget it."""


class Renewal(Protocol):
    """How credentials of one kind are renewed. A provider has one."""

    @property
    def margin(self) -> float:
        """Return how many seconds before its expiry a token counts as expired."""

    @property
    def login_hint(self) -> str:
        """Return what the operator has to do once no renewal is possible. A sentence."""

    def expires(self, document: Mapping[str, Any]) -> float | None:
        """Return when the document's access token expires, in Unix seconds; None: unknown."""

    def renew(self, document: Mapping[str, Any]) -> Deferred[Mapping[str, Any]]:
        """
        Use the document's refresh token. Called once at a time.

        :return: Fires with the keys to merge into the document, the access token, the refresh
            token if there is a new one, and the expiry among them.
        :raise UpstreamError: `Fault.CREDENTIAL` if the refresh token is dead; anything else
            passes.
        """


class TokenKeeper:
    """
    A credential, kept good. Get one from a `TokenBook`.

    :ivar renewal: How it is renewed; another one after a reload.
    """

    _log = Logger()

    def __init__(
        self,
        place: Place,
        renewal: Renewal,
        *,
        clock: Clock,
        now: Callable[[], float],
        jitter: Jitter,
        met: Met = no_one,
    ) -> None:
        self.renewal = renewal
        self._met = met
        self._place = place
        self._clock = clock
        self._now = now
        self._jitter = jitter
        self._reading = Shared(self._read)
        self._renewing = Shared(self._renew)
        self._alone = DeferredLock()
        self._closed = False
        # What was read last, and what the file looked like then.
        self._document: Mapping[str, Any] | None = None
        self._stamp: Stamp | None = None
        self._since = 0.0
        self._settled = False
        self._broken: tuple[Stamp, UpstreamError] | None = None
        self._told_unreadable = False
        # What became of tokens, by their digests.
        self._refused: str | None = None
        self._dead: str | None = None
        # Of our own renewals.
        self._renewed: float | None = None
        self._lifetime: float | None = None
        self._unsaved: tuple[str, Mapping[str, Any]] | None = None
        self._waiting: Deferred[Any] | None = None
        self._failures = 0
        self._pause_ends = 0.0
        self._error: UpstreamError | None = None

    def current(self, *, refused: str | None = None) -> Deferred[Mapping[str, Any]]:
        """
        Return the credential with an access token that is good; renewed if that is due.

        Others may renew it as well, in this process and elsewhere, and log in anew: what they
        write is used. Cancelling gives up the wait, never the renewal.

        :param refused: An access token that the upstream refused: another one is returned.
        :raise UpstreamError: `Fault.CREDENTIAL` with what the operator has to do, if there is
            nothing to renew it with; else what the renewal ran into, if the token that there
            is has expired.
        """
        return Deferred.fromCoroutine(self._current(refused))

    def early(self, seconds: float) -> Deferred[UpstreamError | None]:
        """
        Renew if the token expires within so many seconds, give or take a tenth. Never fails.

        Tokens that live for less than twice as long are renewed in the middle of their lives.

        :return: Fires with what kept it from being renewed.
        """
        return Deferred.fromCoroutine(self._early(seconds))

    def merge(self, changes: Mapping[str, Any]) -> Deferred[None]:
        """
        Write more keys into the credential, such as a project that was found.

        Cancelling gives up the wait only.

        :raise UpstreamError: if they cannot be written.
        """
        return detached(self._merge(changes))

    @property
    def version(self) -> str:
        """Return what changes whenever the credential does, by whomever. Looks at the disk."""
        return "-".join(str(each) for each in self._place.stamp() or ("absent",))

    def close(self) -> Deferred[None]:
        """Renew no more. Fires once what is under way is written, or after five seconds."""
        return Deferred.fromCoroutine(self._close())

    # --- handing out -----------------------------------------------------------------

    async def _current(self, refused: str | None) -> Mapping[str, Any]:
        for _ in range(_ROUNDS):
            document = await self._look()
            if refused is not None and access_token(document) == refused:
                self._refused = digest(refused)
            if self._is_good(document, refused):
                return document
            error = self._hindered(document) or await self._renewing.join()
            if error is not None:
                break
        else:
            error = troubles.unsteady(self._place.title)
        # Somebody else may have done better meanwhile; and what is still valid serves.
        document = await self._look()
        if self._is_good(document, refused) or self._is_valid(document, refused):
            return document
        raise own(error)

    async def _early(self, seconds: float) -> UpstreamError | None:
        try:
            document = await self._look()
            if not self._is_near(document, seconds):
                return None
            error = self._hindered(document) or await self._renewing.join()
            return None if error is None else own(error)
        except CancelledError:
            raise
        except Exception as raised:
            return self._told(raised)

    async def _look(self) -> Mapping[str, Any]:
        """Return what the place holds now; what it held before, if it cannot be read."""
        stamp = self._place.stamp()
        # A change within the same tick of the file system's clock shows in nothing but the
        # content: that is read once more when the tick is over.
        steady = self._settled or self._clock.seconds() - self._since < _COARSE
        if self._document is not None and None is not stamp == self._stamp and steady:
            return self._document
        if self._broken is not None and self._broken[0] == stamp:
            error: UpstreamError | None = self._broken[1]
        else:
            error = await self._reading.join()
        if self._document is not None and (error is None or self._is_valid(self._document, None)):
            return self._document
        assert error is not None
        raise own(error)

    async def _read(self) -> UpstreamError | None:
        stamp = self._place.stamp()
        try:
            self._take(await self._place.read())
        except Unreadable as raised:
            error = troubles.unreadable(raised, hint=self.renewal.login_hint)
            self._broken = None if stamp is None else (stamp, error)
            if self._document is not None and not self._told_unreadable:
                self._told_unreadable = True
                self._log.warn(
                    "{error} What it held before is used for as long as it is valid.",
                    error=str(raised),
                )
            return error
        return None

    def _take(self, found: Found) -> None:
        self._met(found.document)
        now = self._clock.seconds()
        self._settled = found.stamp == self._stamp and now - self._since >= _COARSE
        if found.stamp != self._stamp:
            self._stamp, self._since = found.stamp, now
        if self._document is None or identity(found.document) != identity(self._document):
            # With other tokens all may be well again.
            self._failures, self._pause_ends, self._error = 0, 0.0, None
        self._broken, self._told_unreadable = None, False
        self._document = MappingProxyType(dict(found.document))

    # --- judging ---------------------------------------------------------------------

    def _is_good(self, document: Mapping[str, Any], refused: str | None) -> bool:
        """Say whether the token is to be used without a thought of renewing it."""
        token = access_token(document)
        if token is None or token == refused:
            return False
        if self._refused is not None and digest(token) == self._refused:
            return False
        expires = self.renewal.expires(document)
        return (
            expires is None
            or self._now() < expires - self.renewal.margin
            or self._was_just_renewed()
        )

    def _is_valid(self, document: Mapping[str, Any], refused: str | None) -> bool:
        """Say whether the token may serve where it cannot be renewed."""
        token = access_token(document)
        if token is None or token == refused:
            return False
        expires = self.renewal.expires(document)
        return expires is None or self._now() < expires

    def _is_near(self, document: Mapping[str, Any], seconds: float) -> bool:
        if access_token(document) is None:
            return True
        expires = self.renewal.expires(document)
        if expires is None or self._was_just_renewed():
            return False
        near = seconds * (1 - 0.1 * self._jitter())
        if self._lifetime is not None:
            near = min(near, self._lifetime / 2)
        return self._now() >= expires - max(near, self.renewal.margin)

    def _was_just_renewed(self) -> bool:
        return self._renewed is not None and self._clock.seconds() - self._renewed < LEAST

    def _hindered(self, document: Mapping[str, Any]) -> UpstreamError | None:
        """Return why a renewal need not be tried now."""
        if self._renewing.busy:
            return None
        if self._closed:
            return troubles.stopping()
        left = self._pause_ends - self._clock.seconds()
        # More than that is no pause of ours: the clock was set back.
        if self._error is not None and 0 < left <= _LONGEST_HINT:
            # How long a credential's account rests is not ours to say.
            is_passing = self._error.fault is not Fault.CREDENTIAL
            return own(self._error, retry_after=left if is_passing else None)
        return None if self._unsaved is not None else self._unrenewable(document)

    def _unrenewable(self, document: Mapping[str, Any]) -> UpstreamError | None:
        refresh = refresh_token(document)
        title, hint = self._place.title, self.renewal.login_hint
        if refresh is None:
            return troubles.expired(title, hint=hint)
        return troubles.dead(title, hint=hint) if digest(refresh) == self._dead else None

    # --- renewing --------------------------------------------------------------------

    async def _renew(self) -> UpstreamError | None:
        seen = None if self._document is None else access_token(self._document)
        try:
            async with self._locked():
                return await self._renew_locked(seen)
        except CancelledError:
            # Only `close` does that, and whoever waits was not cancelled by anybody.
            return troubles.stopping()
        except Exception as raised:
            error = self._told(raised)
            self._failed(error)
            return error

    async def _renew_locked(self, seen: str | None) -> UpstreamError | None:
        """
        Renew, or find that somebody else did; return why nothing can be renewed.

        :param seen: The access token for which the renewal was asked.
        """
        if self._unsaved is not None:
            used, changes = self._unsaved
            await self._save(used, changes, self._document or {})
            return None
        for _ in range(_ROUNDS):
            await self._place.prepare()
            found = await self._place.read()
            self._take(found)
            document = found.document
            if access_token(document) != seen and self._is_good(document, None):
                return None
            error = self._unrenewable(document)
            if error is not None:
                return error
            used = refresh_token(document) or ""
            try:
                changes = await self._cut_short_by_close(self.renewal.renew(document))
            except UpstreamError as refusal:
                if refusal.fault is not Fault.CREDENTIAL:
                    raise
                # A client that knows no lock may have used it just before us.
                found = await self._place.read()
                self._take(found)
                if identity(found.document) == identity(document):
                    self._bury(used)
            else:
                self._met(changes)
                if await self._save(used, changes, document):
                    return None
            # Another login, or another client's renewal: what it wrote is newer.
            seen = access_token(document)
        raise troubles.unsteady(self._place.title)

    def _bury(self, refresh: str) -> None:
        self._dead = digest(refresh)
        self._log.error(
            "The login in {place} is no longer accepted. {hint}",
            place=self._place.title,
            hint=self.renewal.login_hint,
        )

    async def _save(self, used: str, changes: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
        """Write a renewal; return False if there is another login by now."""
        # Whatever comes between, these tokens are all that is left of the account.
        self._unsaved = (used, changes)
        found = await self._place.write(changes, used=used, instead=before)
        self._unsaved = None
        self._take(found)
        if not found.written:
            return False
        self._renewed = self._clock.seconds()
        expires = self.renewal.expires(found.document)
        self._lifetime = None if expires is None else max(expires - self._now(), 0.0)
        self._log.info(
            "The token in {place} was renewed; it is good for {minutes} minutes.",
            place=self._place.title,
            minutes="unknown" if self._lifetime is None else round(self._lifetime / 60),
        )
        return True

    def _failed(self, error: UpstreamError) -> None:
        self._failures += 1
        pause = min(_FIRST_PAUSE * 2.0 ** min(self._failures - 1, 30), _LONGEST_PAUSE)
        pause *= 1 - self._jitter() / 2
        if error.retry_after is not None:
            pause = max(pause, min(error.retry_after, _LONGEST_HINT))
        self._error = error
        self._pause_ends = self._clock.seconds() + pause
        if self._failures == 1:
            self._log.warn(
                "The token in {place} could not be renewed: {message}",
                place=self._place.title,
                message=error.message,
            )

    async def _merge(self, changes: Mapping[str, Any]) -> None:
        try:
            async with self._locked():
                self._take(await self._place.write(changes))
        except CancelledError:
            raise troubles.stopping() from None
        except Exception as raised:
            raise self._told(raised) from None

    def _told(self, raised: Exception) -> UpstreamError:
        return troubles.told(raised, title=self._place.title, hint=self.renewal.login_hint)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        await self._alone.acquire()
        try:
            await self._cut_short_by_close(Deferred.fromCoroutine(self._place.lock()))
            try:
                yield
            finally:
                await self._place.unlock()
        finally:
            self._alone.release()

    async def _cut_short_by_close(self, waiting: Deferred[Any]) -> Any:
        self._waiting = waiting
        try:
            return await waiting
        finally:
            self._waiting = None

    async def _close(self) -> None:
        self._closed = True
        for seconds in (_CLOSING, 1.0):
            try:
                await self._alone.acquire().addTimeout(seconds, self._clock)
            except TimedOut:
                if self._waiting is not None:
                    self._waiting.cancel()
            else:
                self._alone.release()
                break
        if self._unsaved is not None:
            with suppress(TimedOut):
                await self._renewing.join().addTimeout(1.0, self._clock)
