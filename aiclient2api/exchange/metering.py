"""
What the answers of one exchange took, whoever gave them.

An upstream that is left before the end does not tell. Then its answer is estimated from
what was seen of it, and the prompt from the request, once and not before the exchange is
over. It must never know where that is booked.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.logger import Logger

from aiclient2api.conversation.counting import estimate
from aiclient2api.conversation.pieces import Pieces
from aiclient2api.dialects.convert import conversation_of
from aiclient2api.dialects.watching import total
from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import IWatcher, IWireRequest
from aiclient2api.values import Spent, Usage

NOTHING = Usage(input=0, output=0, cached=0, cache_write=0, reasoning=0)
"""What an exchange took in which nobody began to answer."""


def prompt_tokens(request: IWireRequest) -> int | None:
    """Return about how many tokens *request* is; None if nobody here understands it."""
    try:
        return estimate(conversation_of(request))
    except InvalidRequest:
        return None


@attrs.define
class Meter:
    """
    Counts the tokens of one exchange.

    :ivar prompt: Returns about how many tokens a request is, or None.
    """

    prompt: Callable[[IWireRequest], int | None] = prompt_tokens
    _watcher: IWatcher | None = attrs.field(default=None, init=False)
    _request: IWireRequest | None = attrs.field(default=None, init=False)
    _lost: Usage | None = attrs.field(default=None, init=False)
    _shown: Usage | None = attrs.field(default=None, init=False)
    _asked: bool = attrs.field(default=False, init=False)
    _estimated: bool = attrs.field(default=False, init=False)

    _log = Logger()

    def asked(self) -> None:
        """An upstream is asked, and may go to work without saying so."""
        self._asked = True

    def began(self, watcher: IWatcher, request: IWireRequest) -> None:
        """
        An upstream begins to answer.

        :param request: As it was asked.
        """
        self._watcher, self._request = watcher, request

    def failed(self) -> None:
        """The attempt failed, and the client has seen nothing of its answer, if there was one."""
        if self._watcher is not None:
            self._lost = added(self._lost, self._watcher.usage)
        self._watcher, self._asked = None, False

    def shown(self) -> None:
        """The answer broke off, and another one is to go on where the client stands."""
        usage, estimated = self._read()
        self._shown = added(self._shown, usage)
        self._estimated = self._estimated or estimated
        self._watcher, self._asked = None, False

    def spent(self, *, generated: bool = True) -> Spent:
        """
        Return what the exchange took. It is over.

        :param generated: False if no model was asked for anything, but for a count of tokens.
        """
        if not generated:
            return Spent(NOTHING)
        usage, estimated = self._read()
        # Whoever is asked and left before the head of the answer says nothing at all.
        estimated = estimated or self._estimated or (self._asked and usage is None)
        return Spent(added(self._shown, usage) or NOTHING, estimated, self._lost)

    def _read(self) -> tuple[Usage | None, bool]:
        """Return what the last answer took, and whether some of that is an estimate."""
        watcher, request = self._watcher, self._request
        if watcher is None or request is None:
            return None, False
        told: Usage = watcher.usage or Usage()
        output = told.output
        if output is None or not watcher.complete:
            output = generated_tokens(told, watcher.pieces)
        prompt = told.input if told.input is not None else self._prompt(request)
        usage = attrs.evolve(told, input=prompt, output=output)
        return usage, usage != told

    def _prompt(self, request: IWireRequest) -> int | None:
        try:
            return self.prompt(request)
        except Exception as caught:
            # An estimate is worth no exchange; and its own words may quote the prompt.
            kind = type(caught).__name__
            self._log.error("A prompt's tokens cannot be estimated: {kind}.", kind=kind)
            return None


def generated_tokens(told: Usage, pieces: Pieces) -> int:
    """
    Return how many tokens an answer is that did not come to its end.

    :param told: What was told until then: often nothing yet, or a count at the start that
        holds no more than the first token.
    """
    known = told.output or 0
    since = pieces.count - pieces.told_at
    if not since:
        return known
    if not pieces.told_at:
        return max(known, pieces.tokens())
    return known + round(pieces.tokens() * since / pieces.count)


def added(one: Usage | None, other: Usage | None) -> Usage | None:
    """Return the sum; what neither tells is not told."""
    if one is None or other is None:
        return one or other
    names = (each.name for each in attrs.fields(Usage))
    return Usage(**{name: total(getattr(one, name), getattr(other, name)) for name in names})
