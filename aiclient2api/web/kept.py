"""
Answers that later requests refer to: kept for their caller, found again, forgotten.

Kept here where the upstream keeps nothing itself; where it does, it is remembered whose
they are. It must never know which dialect has such requests, nor how things are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from aiclient2api.interfaces import IDialect, IReferring, IRemembering, IWireRequest
from aiclient2api.values import KeptAnswer


class Answers(Protocol):
    """Where answers are kept, each for the caller it was given to."""

    def keep(self, owner: str, answer: KeptAnswer) -> None:
        """Keep an answer; it can be found from now on."""

    def find(self, owner: str, id: str) -> Deferred[KeptAnswer | None]:
        """Return an answer of *owner*, None if there is none."""

    def forget(self, owner: str, id: str) -> Deferred[bool]:
        """Forget an answer; say whether there was one."""


class Given(Protocol):
    """What is known of ids that upstreams gave out."""

    def give(self, owner: str, provider: str, ids: Iterable[str], account: str) -> None:
        """Remember who was given *ids*, and which account keeps what they stand for."""

    def keeper(self, owner: str, provider: str, id: str) -> Deferred[str | None]:
        """Return the account that gave *id* to *owner*, None if none is known to have."""


@attrs.frozen
class Remembering:
    """
    What one caller's requests in one dialect may refer to.

    :ivar answers: None if nothing is kept.
    :ivar given: None if nobody remembers what upstreams gave out.
    :ivar sole: True if there is nobody but this caller: an id that nobody knows may be the
        caller's then, for it is nobody else's.
    """

    dialect: IDialect
    owner: str
    answers: Answers | None
    given: Given | None = None
    sole: bool = False

    @property
    def applies(self) -> bool:
        """Say whether requests of the dialect may name what an upstream keeps."""
        return IReferring(self.dialect, None) is not None

    async def keepers(self, request: IWireRequest, providers: Sequence[str]) -> tuple[str, ...]:
        """
        Return the accounts that keep what *request* goes on from.

        :param providers: Those that speak the dialect and may be asked.
        """
        remembering = IRemembering(self.dialect, None)
        id = None if remembering is None else remembering.previous(request=request)
        if id is None:
            return ()
        found = [await self.keeper(provider, id) for provider in providers]
        return tuple(account for account in found if account is not None)

    async def keeper(self, provider: str, id: str) -> str | None:
        """Return the account of *provider* that gave *id* to this caller, if one did."""
        return None if self.given is None else await self.given.keeper(self.owner, provider, id)

    async def may_name(self, provider: str, id: str) -> bool:
        """Say whether *provider* may be asked for what it keeps under *id*."""
        return self.sole or await self.keeper(provider, id) is not None

    async def continued(self, request: IWireRequest, *, verbatim: str | None) -> IWireRequest:
        """
        Return *request* with the conversation in it that it goes on from.

        :param verbatim: The provider that is asked, if it speaks the same dialect: it may
            know what we don't.
        :raise GatewayError: if nobody does, or if it is not this caller's.
        """
        remembering = IRemembering(self.dialect, None)
        id = None if remembering is None else remembering.previous(request=request)
        if remembering is not None and id is not None:
            found = None if self.answers is None else await self.answers.find(self.owner, id)
            if found is not None:
                request = IWireRequest(remembering.continued(request=request, items=found.items))
            elif verbatim is None or not await self.may_name(verbatim, id):
                raise remembering.missing(id=id)
        referring = IReferring(self.dialect, None)
        if referring is not None and verbatim is not None and not self.sole:
            for named, error in referring.references(request=request):
                if not await self.may_name(verbatim, named):
                    raise error
        return request

    def keep(self, request: IWireRequest, answer: bytes) -> None:
        """Keep *answer*, if its client wants that."""
        remembering = IRemembering(self.dialect, None)
        if remembering is None or self.answers is None:
            return
        kept = remembering.kept(request=request, answer=answer)
        if kept is not None:
            self.answers.keep(self.owner, kept)

    def given_by(self, provider: str, account: str) -> Callable[[Iterable[str]], None]:
        """Return what remembers that *account* gave ids to this caller."""

        def give(ids: Iterable[str]) -> None:
            if self.given is not None:
                self.given.give(self.owner, provider, ids, account)

        return give

    async def found(self, id: str) -> bytes | None:
        """Return a kept answer as JSON, None if there is none."""
        found = None if self.answers is None else await self.answers.find(self.owner, id)
        return None if found is None else found.response

    async def forgotten(self, id: str) -> bytes | None:
        """Forget an answer; return the JSON that says so, None if there was none."""
        if self.answers is None or not await self.answers.forget(self.owner, id):
            return None
        deleted: bytes = IRemembering(self.dialect).deleted(id=id)
        return deleted
