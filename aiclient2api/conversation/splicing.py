"""
One answer made of several runs, none of which a client can tell from the next.

What was told of an answer that broke off cannot be taken back. So another run of the same
request is held back until it has told the very same again, or it goes on with the text so
far; from there on its events are the answer's. It must never know bytes, nor who answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from aiclient2api.conversation.events import (
    CALL,
    REASONING,
    REFUSAL,
    TEXT,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Cited,
    Event,
    Failed,
    Finished,
    MediaDelta,
    ReasoningDelta,
    Sealed,
    Started,
    TextDelta,
    UsageReported,
)

_EACH = 64
"""Bytes that a piece takes beside its text, as long as it is held."""


class NotReproducedError(Exception):
    """A run that does not tell what was told before; its message says where it differs."""


@attrs.define
class _Told:
    """
    What was told of one block.

    :ivar sections: The pieces of each section; of a text there is one.
    """

    kind: str
    sections: list[list[str]] = attrs.field(factory=list)
    citations: list[Cited] = attrs.field(factory=list)
    media: MediaDelta | None = None
    sealed: bool = False
    closed: bool = False


@attrs.define
class _Expected:
    """
    What a run has to tell of one block, and how far it has got.

    :ivar section: The section it is in, and *at* the place in it.
    :ivar beyond: True once it has told more than was told before.
    """

    kind: str
    sections: list[str]
    citations: Sequence[Cited] = ()
    media: MediaDelta | None = None
    sealed: bool = False
    closed: bool = False
    opened: bool = attrs.field(default=False, init=False)
    section: int = attrs.field(default=0, init=False)
    at: int = attrs.field(default=0, init=False)
    cited: int = attrs.field(default=0, init=False)
    shown: bool = attrs.field(default=False, init=False)
    beyond: bool = attrs.field(default=False, init=False)
    ended: bool = attrs.field(default=False, init=False)

    @property
    def reproduced(self) -> bool:
        """True once all that it holds was told again; its end may still be missing."""
        last = len(self.sections) - 1
        return (
            self.opened
            and self.section >= last
            and (last < 0 or self.section > last or self.at == len(self.sections[last]))
            and self.cited >= len(self.citations)
            and (self.media is None or self.shown)
        )

    @property
    def done(self) -> bool:
        """True once it stands where it stood when the answer broke off."""
        return self.reproduced and (self.ended or not self.closed)

    def rest(self, section: int, text: str) -> str:
        """
        Take more of the text; return what of it was not told before.

        :raise NotReproducedError: if it differs.
        """
        if self.beyond:
            return text
        if section > self.section:
            if self.sections and self.at < len(self.sections[self.section]):
                raise NotReproducedError("a thought ends earlier")
            self.section, self.at = section, 0
        told = self.sections[section] if section < len(self.sections) else ""
        known = min(len(told) - self.at, len(text))
        if not told.startswith(text[:known], self.at):
            raise NotReproducedError("its text differs")
        self.at += known
        rest = text[known:]
        if rest:
            if section + 1 < len(self.sections) or self.closed:
                raise NotReproducedError("its text goes on where the first one ended")
            self.beyond = True
        return rest


class _Rehearsal:
    """
    A run that has not yet caught up with what was told.

    :param continuing: Whether it goes on with the one block that is expected, rather than
        beginning anew.
    :ivar events: What is to be told once it has, its blocks numbered as in the run.
    :ivar shift: What is to be added to the numbers of the run's blocks.
    """

    def __init__(
        self, expected: Sequence[_Expected], *, shift: int, continuing: bool, limit: int
    ) -> None:
        self.events: list[Event] = []
        self.shift = shift
        self._expected = list(expected)
        self._continuing = continuing
        self._limit = limit
        self._held = 0
        self._usage: UsageReported | None = None

    @property
    def done(self) -> bool:
        """True once everything was reproduced."""
        return all(block.done for block in self._expected)

    def released(self) -> Iterator[Event]:
        """Yield what was held back, its blocks numbered as in the answer."""
        if self._usage is not None:
            yield self._usage
        for event in self.events:
            yield moved(event, self.shift)

    def take(self, event: Event) -> None:
        """
        Take the run's next event.

        :raise NotReproducedError: if it cannot follow what was told.
        """
        if isinstance(event, UsageReported):
            self._usage = event
        elif isinstance(event, BlockOpened) and event.index < len(self._expected):
            self._open(event)
        elif isinstance(event, Finished):
            self._finish(event)
        elif isinstance(event, Started | Failed):
            return
        elif event.index >= len(self._expected):
            self._hold(event)
        else:
            self._compare(self._expected[event.index], event)

    def _open(self, event: BlockOpened) -> None:
        block = self._expected[event.index]
        if event.kind == block.kind:
            block.opened = True
        elif self._continuing and event.kind != REASONING and not any(block.sections):
            self._leave()
            self._hold(event)
        else:
            raise NotReproducedError(f"it tells {event.kind} where there was {block.kind}")

    def _leave(self) -> None:
        """Let what was told stand as it is: the run goes on with something else."""
        self.events.append(BlockClosed(-1))
        self._expected = []
        self.shift += 1

    def _finish(self, event: Finished) -> None:
        if self._continuing and self._expected and not any(self._expected[0].sections):
            # The model has nothing to add.
            self._leave()
        elif not self.done:
            raise NotReproducedError("it ended earlier")
        self.events.append(event)

    def _compare(self, block: _Expected, event: Event) -> None:
        if isinstance(event, TextDelta):
            rest = block.rest(0, event.text)
            if rest:
                self._hold(TextDelta(event.index, rest))
        elif isinstance(event, ReasoningDelta):
            rest = block.rest(event.section, event.text)
            if rest:
                self._hold(ReasoningDelta(event.index, rest, event.section))
        elif isinstance(event, BlockClosed):
            if not block.reproduced:
                raise NotReproducedError("a part of it ended earlier")
            block.ended = True
            if not block.closed:
                self._hold(event)
        elif isinstance(event, Sealed):
            # Each run has a seal of its own, and one is as good as the other.
            if not (block.sealed or block.closed):
                self._hold(event)
        elif isinstance(event, Cited):
            self._cite(block, event)
        elif isinstance(event, MediaDelta):
            self._show(block, event)

    def _cite(self, block: _Expected, event: Cited) -> None:
        if block.cited < len(block.citations):
            known = block.citations[block.cited]
            if attrs.evolve(event, index=known.index) != known:
                raise NotReproducedError("it names another source")
            block.cited += 1
        elif block.closed:
            raise NotReproducedError("it names one more source")
        else:
            self._hold(event)

    def _show(self, block: _Expected, event: MediaDelta) -> None:
        if block.media is None:
            self._hold(event)
        elif (event.mime, event.data) != (block.media.mime, block.media.data):
            raise NotReproducedError("it made something else")
        block.shown = True

    def _hold(self, event: Event) -> None:
        self.events.append(event)
        self._held += weight(event)
        if self._held > self._limit:
            raise NotReproducedError("more has to be held back than may be held")


class Splicer:
    """
    Takes the events of one run after the other; returns those of one answer.

    What it returns, all in all, obeys `conversation.grammar` if each run does.

    :param limit: Bytes of what was told that are held for comparison.
    :ivar characters: How many characters of text were told.
    :ivar why_not: Why no other run can go on, None if one can.
    """

    def __init__(self, limit: int) -> None:
        self.characters = 0
        self.why_not: str | None = None
        self._limit = limit
        self._held = 0
        self._started = False
        self._blocks: list[_Told] = []
        self._sealed: set[int] = set()
        self._rehearsal: _Rehearsal | None = None
        self._shift = 0

    @property
    def caught_up(self) -> bool:
        """True if what the run tells is news."""
        return self._rehearsal is None

    @property
    def text(self) -> str:
        """The text told so far, as far as it is held."""
        return "".join(
            piece
            for block in self._blocks
            if block.kind in (TEXT, REFUSAL)
            for section in block.sections
            for piece in section
        )

    @property
    def prefix(self) -> str | None:
        """
        What a model may be given as the beginning of its own answer, without the blanks at
        its end; None if more was told than the text that it would go on with.
        """
        if not self._blocks:
            return None
        *before, last = self._blocks
        if last.kind != TEXT or last.closed or last.citations or last.sealed:
            return None
        if not all(block.kind == REASONING and block.closed for block in before):
            return None
        return _joined(last)[0].rstrip() if last.sections else None

    def repeat(self) -> None:
        """Begin a run that has to tell all again."""
        expected = [
            _Expected(
                block.kind,
                _joined(block),
                tuple(block.citations),
                block.media,
                block.sealed,
                block.closed,
            )
            for block in self._blocks
        ]
        self._begin(_Rehearsal(expected, shift=0, continuing=False, limit=self._limit))

    def go_on(self) -> None:
        """Begin a run that goes on behind `prefix`."""
        text = _joined(self._blocks[-1])[0]
        blanks = text[len(text.rstrip()) :]
        expected = _Expected(TEXT, [blanks] if blanks else [])
        shift = len(self._blocks) - 1
        self._begin(_Rehearsal([expected], shift=shift, continuing=True, limit=self._limit))

    def _begin(self, rehearsal: _Rehearsal) -> None:
        assert self.why_not is None, "what was told is not known any more"
        self._shift = rehearsal.shift
        self._rehearsal = None if rehearsal.done else rehearsal

    def take(self, event: Event) -> Sequence[Event]:
        """
        Take the run's next event; return what the answer has more by it.

        :raise NotReproducedError: if it cannot follow what was told. Nothing more may be
            taken of that run then.
        """
        if isinstance(event, Started):
            if self._started:
                return ()
            self._started = True
            return (event,)
        rehearsal = self._rehearsal
        if rehearsal is None:
            return self._news((moved(event, self._shift),))
        rehearsal.take(event)
        if not rehearsal.done:
            return ()
        self._rehearsal, self._shift = None, rehearsal.shift
        return self._news(tuple(rehearsal.released()))

    def _news(self, events: Sequence[Event]) -> Sequence[Event]:
        told: list[Event] = []
        for event in events:
            if isinstance(event, Sealed):
                # The seal that was told stays.
                if event.index in self._sealed:
                    continue
                self._sealed.add(event.index)
            self._note(event)
            told.append(event)
        return told

    def _note(self, event: Event) -> None:
        """Keep what was told, unless nothing can come of it any more."""
        if isinstance(event, TextDelta):
            self.characters += len(event.text)
        if self.why_not is not None:
            return
        self._held += weight(event)
        if self._held > self._limit:
            self._forget("the answer is longer than may be held (limits.held_bytes)")
        elif isinstance(event, BlockOpened):
            if event.kind == CALL:
                self._forget("a tool call had begun, and those are never put together")
            elif event.kind == REFUSAL:
                self._forget("the model had begun to refuse")
            else:
                self._blocks.append(_Told(event.kind))
        elif isinstance(event, TextDelta):
            self._more(event.index, 0, event.text)
        elif isinstance(event, ReasoningDelta):
            self._more(event.index, event.section, event.text)
        elif isinstance(event, Sealed):
            self._blocks[event.index].sealed = True
        elif isinstance(event, MediaDelta):
            self._blocks[event.index].media = event
        elif isinstance(event, Cited):
            self._blocks[event.index].citations.append(event)
        elif isinstance(event, BlockClosed):
            self._blocks[event.index].closed = True

    def _more(self, index: int, section: int, text: str) -> None:
        sections = self._blocks[index].sections
        if section >= len(sections):
            sections.append([])
        sections[-1].append(text)

    def _forget(self, why: str) -> None:
        self.why_not = why
        self._blocks = []


def moved(event: Event, shift: int) -> Event:
    """Number the block of *event* *shift* higher; it is changed, not copied."""
    if shift and not isinstance(event, Started | UsageReported | Finished | Failed):
        event.index += shift
    return event


def weight(event: Event) -> int:
    """Return how many bytes *event* takes, roughly, as long as it is held."""
    if isinstance(event, TextDelta | ReasoningDelta):
        return _EACH + len(event.text)
    if isinstance(event, ArgumentsDelta):
        return _EACH + len(event.json)
    if isinstance(event, MediaDelta):
        return _EACH + len(event.data)
    if isinstance(event, Sealed):
        return _EACH + len(event.seal.value)
    if isinstance(event, Cited):
        return _EACH + len(event.url) + len(event.title) + len(event.quoted)
    return _EACH


def _joined(block: _Told) -> list[str]:
    return ["".join(pieces) for pieces in block.sections]
