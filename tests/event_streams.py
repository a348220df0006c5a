"""
Answers that no model gave: every legal sequence of events, for hypothesis to choose from.

Legal is what `aiclient2api.conversation.grammar` says is; a sequence here is as unpleasant
as that allows. It must never know a dialect, but for the names that issue seals.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from hypothesis import strategies as st

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
from aiclient2api.conversation.grammar import ended
from aiclient2api.conversation.seals import Seal
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.values import Usage
from tests.tape import BASE64, IDS, NAMES, Tape, arguments, drawn, text

ISSUERS = ("openai-chat", "openai-responses", "anthropic-messages", "gemini")


def answers(
    *, kinds: Sequence[str] = KINDS, reasons: Sequence[str] = REASONS, overlap: bool = True
) -> st.SearchStrategy[list[Event]]:
    """
    Return whole answers.

    :param kinds: What kinds of blocks they may hold.
    :param reasons: Why they may have ended, before their calls are looked at.
    :param overlap: Whether any blocks may be open at a time. If not, only calls are, along
        with one block of another kind: what real upstreams do.
    """
    return drawn(lambda tape: answer(tape, kinds=kinds, reasons=reasons, overlap=overlap))


def failures() -> st.SearchStrategy[list[Event]]:
    """Return answers that fail at any point."""
    return drawn(failed)


def answer(
    tape: Tape,
    *,
    kinds: Sequence[str] = KINDS,
    reasons: Sequence[str] = REASONS,
    overlap: bool = True,
) -> list[Event]:
    """Return a whole answer, as `tape` has it."""
    chosen = tape.several(lambda: tape.pick(kinds), 4)
    first = tape.number(len(IDS))
    blocks = [
        _block(tape, at, kind, IDS[(first + at) % len(IDS)]) for at, kind in enumerate(chosen)
    ]
    told = _interleaved(tape, blocks, overlap)
    places = sorted(tape.several(lambda: tape.number(len(told) + 1), 2))
    usage = Usage()
    for number, place in enumerate(places):
        usage = _more(tape, usage)
        told.insert(place + number, UsageReported(usage))
    start = Started(tape.pick(["", "id-1"]), tape.pick(["", "model-1"]), tape.pick([0, 1730000000]))
    reason = ended(tape.pick(reasons), called=CALL in chosen)
    stop = tape.pick([None, "STOP"]) if reason == "stop_sequence" else None
    return [start, *told, Finished(reason, stop)]


def failed(tape: Tape) -> list[Event]:
    """Return an answer that fails at some point, perhaps before it began."""
    told = answer(tape)
    error = UpstreamError(
        tape.pick(["Overloaded", "No.\n\ndata: x", "\N{SNOWMAN}"]),
        fault=tape.pick(list(Fault)),
        status=tape.pick([400, 401, 429, 500, 529]),
        code=tape.pick([None, "a_code"]),
    )
    return [*told[: tape.number(len(told))], Failed(error)]


def seal(tape: Tape) -> Seal:
    """Return a seal of any issuer, as it would write one."""
    issuer = tape.pick(ISSUERS)
    id = tape.pick(["", "rs_1"]) if issuer == "openai-responses" else ""
    return Seal(issuer, tape.pick(BASE64), id=id)


def _more(tape: Tape, usage: Usage) -> Usage:
    """Return counts that add up, or none at all; those of *usage*, and more."""

    def count(known: int | None) -> int | None:
        return tape.pick([known, (known or 0) + tape.number(1000)])

    cached, cache_write = count(usage.cached), count(usage.cache_write)
    reasoning = count(usage.reasoning)
    before = (usage.cached or 0) + (usage.cache_write or 0)
    fresh = count(None if usage.input is None else usage.input - before)
    seen = count(None if usage.output is None else usage.output - (usage.reasoning or 0))
    if fresh is None:
        cached = cache_write = None
    if seen is None:
        reasoning = None
    return Usage(
        input=None if fresh is None else fresh + (cached or 0) + (cache_write or 0),
        output=None if seen is None else seen + (reasoning or 0),
        cached=cached,
        cache_write=cache_write,
        reasoning=reasoning,
    )


def _block(tape: Tape, index: int, kind: str, call_id: str) -> list[Event]:
    own = f"rs_{index}" if kind == REASONING else f"item_{index}"
    id = call_id if kind == CALL else tape.pick(["", own])
    name = tape.pick(NAMES) if kind == CALL else ""
    return [BlockOpened(index, kind, id, name), *_filling(tape, index, kind), BlockClosed(index)]


def _filling(tape: Tape, index: int, kind: str) -> list[Event]:
    """Return the events between a block's opening and its close."""
    if kind == MEDIA:
        mime = tape.pick(["image/png", "image/jpeg", "audio/wav"])
        return [MediaDelta(index, mime, tape.pick(BASE64))]
    filling: list[Event] = []
    if kind == CALL:
        whole = arguments(tape)
        if whole != "{}" or tape.one_in(2):
            filling = [ArgumentsDelta(index, piece) for piece in _pieces(tape, whole)]
    elif kind == REASONING:
        section = 0
        for _ in range(tape.number(4)):
            filling.append(ReasoningDelta(index, text(tape), section))
            section += tape.number(2)
    else:
        filling = [TextDelta(index, each) for each in tape.several(lambda: text(tape), 3)]
    if kind == TEXT and tape.one_in(4):
        filling.insert(tape.number(len(filling) + 1), _citation(tape, index))
    if kind != REFUSAL and tape.one_in(3):
        found = seal(tape)
        if kind == REASONING and not filling and found.issuer == "anthropic-messages":
            # A thought that was never shown is a seal and nothing else.
            found = attrs.evolve(found, hidden=True)
        filling.insert(tape.number(len(filling) + 1), Sealed(index, found))
    return filling


def _pieces(tape: Tape, whole: str) -> list[str]:
    size = tape.pick([len(whole), 1, 3, 7])
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def _citation(tape: Tape, index: int) -> Cited:
    return Cited(
        index,
        url=tape.pick(["https://example.org/a", ""]),
        title=tape.pick(["A title", ""]),
        quoted=tape.pick(["it says so", ""]),
        start=tape.pick([None, 0, 5]),
        end=tape.pick([None, 5, 9]),
    )


def _interleaved(tape: Tape, blocks: Sequence[list[Event]], overlap: bool) -> list[Event]:
    """Mix *blocks*, opening them in their order; one after the other is the likeliest."""
    if not tape.one_in(2):
        return [event for block in blocks for event in block]
    rest = [list(block) for block in blocks]
    unopened = 0
    told: list[Event] = []
    while any(rest):
        ready = [index for index in range(unopened) if rest[index]]
        alone = overlap or not any(_stays_alone(blocks[index]) for index in ready)
        if unopened < len(rest) and (alone or not _stays_alone(blocks[unopened])):
            ready.append(unopened)
        index = tape.pick(ready)
        unopened = max(unopened, index + 1)
        told.append(rest[index].pop(0))
    return told


def _stays_alone(block: Sequence[Event]) -> bool:
    return isinstance(block[0], BlockOpened) and block[0].kind != CALL
