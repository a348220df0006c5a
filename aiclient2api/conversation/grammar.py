"""
The law of events: what may follow what, and what a whole answer is made of.

``Started (UsageReported | Opened Delta* Closed)* (Finished | Failed)``, several blocks
open at a time. Readers of answers are tested against it, writers may rely on it. It
must never know a dialect.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from aiclient2api.conversation.events import (
    CALL,
    KINDS,
    MEDIA,
    REASONING,
    REASONS,
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
from aiclient2api.conversation.seals import Seal
from aiclient2api.values import Usage

_TAKES: dict[type, tuple[str, ...]] = {
    TextDelta: (TEXT, REFUSAL),
    ReasoningDelta: (REASONING,),
    ArgumentsDelta: (CALL,),
    MediaDelta: (MEDIA,),
    Cited: (TEXT,),
    Sealed: (TEXT, REASONING, CALL),
}


class GrammarError(Exception):
    """An event where none of its kind may stand: a bug of whoever made it."""


@attrs.define
class Block:
    """
    One block of a whole answer.

    :ivar text: Text, thought or arguments (``{}`` if no delta came), as it was told.
    :ivar sections: A thought's sections; one, if it has any text.
    :ivar closed: False if the answer ended in the middle of it.
    """

    kind: str
    id: str = ""
    name: str = ""
    text: str = ""
    sections: list[str] = attrs.field(factory=list)
    seal: Seal | None = None
    media: MediaDelta | None = None
    citations: list[Cited] = attrs.field(factory=list)
    closed: bool = False


@attrs.define
class Reply:
    """
    A whole answer.

    :ivar reason: One of `REASONS`, or None if it never finished.
    """

    id: str = ""
    model: str = ""
    created: int = 0
    blocks: list[Block] = attrs.field(factory=list)
    usage: Usage | None = None
    reason: str | None = None
    stop_sequence: str | None = None


class Grammar:
    """
    A judge of events, and what they have made so far.

    :ivar reply: The answer up to now.
    """

    def __init__(self) -> None:
        self.reply = Reply()
        # For each block the pieces of each of its sections; only thoughts have several.
        self._pieces: list[list[list[str]]] = []
        self._started = False
        self._over = False

    def take(self, event: Event) -> None:
        """
        Take the next event.

        :raise GrammarError: if it may not stand here.
        """
        if self._over:
            raise GrammarError(f"{event} after the end")
        if isinstance(event, Failed):
            # An upstream may fail before it has begun.
            self._over = True
            return
        if isinstance(event, Started) == self._started:
            raise GrammarError(f"{event}: an answer starts once, with its first event")
        self._step(event)

    def _step(self, event: Event) -> None:
        reply = self.reply
        if isinstance(event, Started):
            self._started = True
            reply.id, reply.model, reply.created = event.id, event.model, event.created
        elif isinstance(event, BlockOpened):
            self._open(event)
        elif isinstance(event, UsageReported):
            reply.usage = event.usage
        elif isinstance(event, Finished):
            if event.reason not in REASONS:
                raise GrammarError(f"{event}: no such reason")
            if not all(block.closed for block in reply.blocks):
                raise GrammarError(f"{event} with a block open")
            self._over = True
            reply.reason, reply.stop_sequence = event.reason, event.stop_sequence
        else:
            self._fill(event)

    def _open(self, event: BlockOpened) -> None:
        blocks = self.reply.blocks
        if event.index != len(blocks) or event.kind not in KINDS:
            raise GrammarError(f"{event}: block {len(blocks)} comes next")
        if event.kind == CALL and not (event.id and event.name):
            raise GrammarError(f"{event}: a call has an id and a name")
        text = "{}" if event.kind == CALL else ""
        blocks.append(Block(event.kind, event.id, event.name, text))
        self._pieces.append([])

    def _fill(self, event: Event) -> None:
        index: int = event.index  # type: ignore[union-attr]  # only block events come here
        blocks = self.reply.blocks
        if not 0 <= index < len(blocks) or blocks[index].closed:
            raise GrammarError(f"{event}: that block is not open")
        block, pieces = blocks[index], self._pieces[index]
        takers = _TAKES.get(type(event))
        if takers is not None and block.kind not in takers:
            raise GrammarError(f"{event} in a block of kind {block.kind}")
        if isinstance(event, BlockClosed):
            if block.kind == MEDIA and block.media is None:
                raise GrammarError(f"{event}: it holds no media")
            block.closed = True
            _join(block, pieces)
        elif isinstance(event, TextDelta | ArgumentsDelta):
            text = event.text if isinstance(event, TextDelta) else event.json
            if not text:
                raise GrammarError(f"{event} is empty")
            if not pieces:
                pieces.append([])
            pieces[0].append(text)
        elif isinstance(event, ReasoningDelta):
            self._think(event, pieces)
        elif isinstance(event, Sealed):
            if block.seal is not None:
                raise GrammarError(f"{event}: it is sealed already")
            block.seal = event.seal
        elif isinstance(event, MediaDelta):
            if block.media is not None:
                raise GrammarError(f"{event}: it holds one already")
            block.media = event
        elif isinstance(event, Cited):
            block.citations.append(event)

    def _think(self, event: ReasoningDelta, pieces: list[list[str]]) -> None:
        last = len(pieces) - 1
        if not event.text or event.section not in (max(last, 0), last + 1):
            raise GrammarError(f"{event}: it is empty, or its section is out of turn")
        if event.section > last:
            pieces.append([])
        pieces[-1].append(event.text)


def fold(events: Iterable[Event]) -> Reply:
    """
    Return the whole answer that *events* make.

    :raise GrammarError: if they break the law.
    """
    grammar = Grammar()
    for event in events:
        grammar.take(event)
    for block, pieces in zip(grammar.reply.blocks, grammar._pieces, strict=True):
        if not block.closed:
            _join(block, pieces)
    return grammar.reply


def unfold(reply: Reply) -> Sequence[Event]:
    """Return the events that make *reply*, each block in one piece."""
    events: list[Event] = [Started(reply.id, reply.model, reply.created)]
    for index, block in enumerate(reply.blocks):
        events.append(BlockOpened(index, block.kind, block.id, block.name))
        if block.kind in (TEXT, REFUSAL) and block.text:
            events.append(TextDelta(index, block.text))
        elif block.kind == REASONING:
            sections = block.sections or ([block.text] if block.text else [])
            events += [ReasoningDelta(index, text, at) for at, text in enumerate(sections)]
        elif block.kind == CALL and block.text not in ("", "{}"):
            events.append(ArgumentsDelta(index, block.text))
        elif block.media is not None:
            events.append(attrs.evolve(block.media, index=index))
        events += [attrs.evolve(cited, index=index) for cited in block.citations]
        if block.seal is not None:
            events.append(Sealed(index, block.seal))
        if block.closed or reply.reason is not None:
            events.append(BlockClosed(index))
    if reply.usage is not None:
        events.append(UsageReported(reply.usage))
    if reply.reason is not None:
        events.append(Finished(reply.reason, reply.stop_sequence))
    return events


def ended(reason: str, *, called: bool) -> str:
    """
    Return why an answer ended, given what it holds.

    Upstreams disagree with themselves: Gemini has no word for "call these tools", others
    use it without a call. An answer that was cut stays cut, lest half a call be run.

    :param called: Whether it holds a call.
    """
    if called and reason in ("end", "stop_sequence"):
        return "tool_use"
    if reason == "tool_use" and not called:
        return "end"
    return reason


def _join(block: Block, pieces: list[list[str]]) -> None:
    sections = ["".join(section) for section in pieces]
    if block.kind == REASONING:
        block.sections = sections
    if sections:
        block.text = "".join(sections)
