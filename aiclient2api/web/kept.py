"""
Answers that later requests refer to: kept for their caller, found again, forgotten.

Only where the dialect has such requests and the upstream keeps nothing itself. It must
never know which dialect that is, nor how things are kept.
"""

from __future__ import annotations

from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from aiclient2api.interfaces import IDialect, IRemembering, IWireRequest
from aiclient2api.values import KeptAnswer


class Answers(Protocol):
    """Where answers are kept, each for the caller it was given to."""

    def keep(self, owner: str, answer: KeptAnswer) -> None:
        """Keep an answer; it can be found from now on."""

    def find(self, owner: str, id: str) -> Deferred[KeptAnswer | None]:
        """Return an answer of *owner*, None if there is none."""

    def forget(self, owner: str, id: str) -> Deferred[bool]:
        """Forget an answer; say whether there was one."""


@attrs.frozen
class Remembering:
    """
    What one caller's requests in one dialect may refer to.

    :ivar answers: None if nothing is kept.
    """

    dialect: IDialect
    owner: str
    answers: Answers | None

    async def continued(self, request: IWireRequest, *, verbatim: bool) -> IWireRequest:
        """
        Return *request* with the conversation in it that it goes on from.

        :param verbatim: True if an upstream of the same dialect may know what we don't.
        :raise GatewayError: if nobody does.
        """
        remembering = IRemembering(self.dialect, None)
        id = None if remembering is None else remembering.previous(request=request)
        if id is None:
            return request
        found = None if self.answers is None else await self.answers.find(self.owner, id)
        if found is not None:
            return IWireRequest(remembering.continued(request=request, items=found.items))
        if verbatim:
            return request
        raise remembering.missing(id=id)

    def keep(self, request: IWireRequest, answer: bytes) -> None:
        """Keep *answer*, if its client wants that."""
        remembering = IRemembering(self.dialect, None)
        if remembering is None or self.answers is None:
            return
        kept = remembering.kept(request=request, answer=answer)
        if kept is not None:
            self.answers.keep(self.owner, kept)

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
