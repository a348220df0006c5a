"""
Go on with a converted stream that broke off: one writer for the client, a reader a run.

A run that has to catch up tells the client nothing; see `conversation.splicing`. How the
answer ends, if nobody can go on with it, is left to whoever runs the exchange: no end and no
error is written here. It must never know a dialect, nor who is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from zope.interface import implementer

from aiclient2api.conversation.events import Event
from aiclient2api.conversation.pieces import Pieces
from aiclient2api.conversation.splicing import NotReproducedError, Splicer
from aiclient2api.dialects.translating import Translation
from aiclient2api.errors import Fault, GatewayError, UpstreamError
from aiclient2api.interfaces import IEventEncoder, IWatcher
from aiclient2api.values import HELD_LIMIT, Usage

NOT_REPRODUCED = "not_reproduced"
"""The code of the error for a run that tells something else than what was told."""

_LONGEST = 400
"""Characters of one comment."""


@attrs.define(eq=False)
class Rescue:
    """
    One client's answer, over all runs.

    :ivar comments: Whether the client's reader skips comments in a stream.
    :ivar limit: Bytes of the answer that may be held (``limits.held_bytes``).
    :ivar begun: True once something of the answer was sent.
    :ivar prefills: False once a model would not go on with the text so far.
    :ivar cut: What the answer broke off with, the last time.
    :ivar cut_by: Provider, model and account that were answering then.
    :ivar cut_at: How many characters of text the client had then.
    """

    comments: bool = True
    limit: int = HELD_LIMIT
    begun: bool = False
    prefills: bool = True
    cut: UpstreamError | None = None
    cut_by: tuple[str, str, str] | None = None
    cut_at: int = 0
    _splicer: Splicer = attrs.field(init=False)
    _encoder: IEventEncoder | None = attrs.field(default=None, init=False)
    _reader: Rescued | None = attrs.field(default=None, init=False)
    _told: list[str] = attrs.field(factory=list, init=False)
    _lost: str | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._splicer = Splicer(self.limit)

    @property
    def prefix(self) -> str | None:
        """The text so far, if a model may be asked to go on with it, else None."""
        return self._splicer.prefix or None if self.begun and self.prefills else None

    @property
    def why_not(self) -> str | None:
        """Why no other run can go on, None if one can."""
        return self._lost or self._splicer.why_not

    def run(
        self,
        translation: Callable[[IEventEncoder], Translation],
        encoder: Callable[[], IEventEncoder],
        *,
        continuing: bool,
        want_text: bool,
    ) -> IWatcher:
        """
        Begin a run; return its reader.

        :param encoder: Makes the writer. It is called anew as long as nothing was sent.
        :param continuing: Whether the run was asked to go on behind `prefix`.
        :param want_text: Whether the answer's text is to be told.
        """
        if self._encoder is None or not self.begun:
            self._encoder = encoder()
            self._splicer, self._lost = Splicer(self.limit), None
        elif continuing:
            self._splicer.go_on()
        else:
            self._splicer.repeat()
        writer = _Writer(self._splicer, self._encoder)
        self._reader = Rescued(self, translation(writer), self._splicer, want_text)
        return self._reader

    def lose(self, why: str) -> None:
        """Note that no run can go on any more: what the client has is not known."""
        self._lost = why

    def broke(self, error: UpstreamError, by: tuple[str, str, str]) -> None:
        """Note that the last run broke off behind something that the client was sent."""
        self.cut, self.cut_by, self.cut_at = error, by, self._splicer.characters
        if self._reader is not None and self._reader.had_ended():
            self.lose("the upstream had said that the answer was whole")

    def comment(self, text: str) -> None:
        """Have *text* stand in a comment at the end of the stream."""
        self._told.append(text)

    def closing(self) -> bytes:
        """Return the comments that are still to be written."""
        told, self._told = self._told, []
        if not self.comments:
            return b""
        return b"".join(b": aiclient2api: " + _line(text) + b"\n\n" for text in told)

    def error_frame(self, error: GatewayError) -> bytes:
        """Return the end of an answer that nobody goes on with."""
        told = b"" if self._encoder is None else self._encoder.error(error=error)
        return self.closing() + (told or b"")


@implementer(IEventEncoder)
class _Writer:
    """Writes what one run adds to the answer."""

    def __init__(self, splicer: Splicer, encoder: IEventEncoder) -> None:
        self._take = splicer.take
        self._encoder = encoder

    @property
    def final(self) -> bytes | None:
        """See `IEventEncoder`."""
        final: bytes | None = self._encoder.final
        return final

    def encode(self, event: Event) -> bytes:
        """Return what the client is to see of *event*, if it is news."""
        return b"".join([self._encoder.encode(event=each) for each in self._take(event)])

    def error(self, error: GatewayError) -> bytes:
        """Return nothing: perhaps somebody goes on."""
        return b""

    def reply(self, events: Sequence[Event]) -> bytes:
        """Return a whole answer; there is none in a stream."""
        raise AssertionError("only streams are gone on with")


@implementer(IWatcher)
class Rescued:
    """The reader of one run."""

    def __init__(
        self, rescue: Rescue, translation: Translation, splicer: Splicer, want_text: bool
    ) -> None:
        self._rescue = rescue
        self._translation = translation
        self._splicer = splicer
        self._want_text = want_text
        self._failure: UpstreamError | None = None

    @property
    def started(self) -> bool:
        """True once the run has told all that the client has, and goes on."""
        return self._splicer.caught_up and self._translation.started

    @property
    def complete(self) -> bool:
        """True once the answer is whole."""
        return self._failure is None and self._translation.complete

    @property
    def failure(self) -> UpstreamError | None:
        """What the upstream said went wrong, or that it tells something else."""
        return self._failure or self._translation.failure

    @property
    def events(self) -> int:
        """How many records of the upstream were seen in this run."""
        return self._translation.events

    @property
    def usage(self) -> Usage | None:
        """The tokens told of this run."""
        return self._translation.usage

    @property
    def pieces(self) -> Pieces:
        """How much of this run was seen."""
        return self._translation.pieces

    @property
    def text(self) -> str:
        """The answer's text so far, if it was asked for."""
        return (self._splicer.text or self._translation.text) if self._want_text else ""

    @property
    def reply_id(self) -> str | None:
        """None; see `Translation`."""
        return None

    @property
    def kept_ids(self) -> Sequence[str]:
        """None; see `Translation`."""
        return ()

    @property
    def framing(self) -> str:
        """How the client's answer is framed."""
        return self._translation.framing

    def feed(self, data: bytes) -> bytes:
        """Take the upstream's next bytes; return the client's."""
        if self._failure is not None:
            return b""
        try:
            out = self._translation.feed(data)
        except NotReproducedError as caught:
            self._differs(caught)
            return b""
        except UpstreamError:
            # What was written last may not have been returned.
            self._rescue.lose("a part of the answer was too long")
            raise
        return out

    def had_ended(self) -> bool:
        """Say whether the run told the end of the answer, though its body broke."""
        return self._splicer.caught_up and self._translation.had_ended()

    def end(self) -> bytes:
        """Note the clean end of the upstream's body; return the last of the client's bytes."""
        if self._failure is not None:
            return b""
        try:
            last = self._translation.end()
        except NotReproducedError as caught:
            self._differs(caught)
            return b""
        if self.complete:
            return self._rescue.closing() + last
        return last

    def error_frame(self, error: GatewayError) -> bytes | None:
        """Return nothing: how the answer ends is not decided here."""
        return b""

    def _differs(self, caught: NotReproducedError) -> None:
        self._failure = UpstreamError(
            f"Another run of the request does not tell what was told before: {caught}.",
            fault=Fault.TRUNCATED,
            status=502,
            code=NOT_REPRODUCED,
        )


def _line(text: str) -> bytes:
    plain = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    return plain[:_LONGEST].encode()
