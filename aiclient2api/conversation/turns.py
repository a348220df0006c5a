"""
Put turns into the order that every upstream insists on.

Calls are answered at once, all of them and only they; neighbours of one role are one
turn. Clients write histories in every other way, too. It must never know a dialect:
what only one of them wants is done by its own writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from aiclient2api.conversation.request import (
    Audio,
    Call,
    Conversation,
    File,
    Image,
    Part,
    Reasoning,
    Result,
    Text,
    Turn,
)

UNANSWERED = "The tool gave no answer."
"""What a call is answered with that a client left without a result."""


@attrs.frozen
class Settled:
    """
    Turns in order, and what had to be done for it.

    :ivar turns: User and assistant alternate, but for system turns in between. The turn
        after an assistant's calls begins with their results, in the order of the calls.
    :ivar losses: ``tool_result`` if a result had no call or a call no result, or there was
        more than one of either.
    """

    turns: tuple[Turn, ...]
    losses: tuple[str, ...] = ()


def settled(turns: Iterable[Turn]) -> Settled:
    """
    Return *turns* in order.

    Of several results for one call the last one counts, as it does for the model's vendor.
    A result without a call becomes text.
    """
    merged = joined(turns)
    results, lost = _results(merged)
    out: list[Turn] = []
    known = {call.id for turn in merged if turn.role == "assistant" for call in called(turn)}
    used: set[str] = set()
    for turn in merged:
        parts: list[Part] = []
        answers: list[Part] = []
        for part in turn.parts:
            if isinstance(part, Result):
                if part.id not in known:
                    lost = True
                    parts += _told(part)
            elif not isinstance(part, Call):
                parts.append(part)
            elif turn.role != "assistant" or part.id in used:
                lost = True
            else:
                used.add(part.id)
                parts.append(part)
                found = results.get(part.id)
                lost = lost or found is None
                answer = found or Result(part.id, parts=(Text(UNANSWERED),), is_error=True)
                # What counts is whose answer it is, whatever name the client gave it.
                answers.append(attrs.evolve(answer, name=part.name))
        _add(out, turn.role, parts)
        _add(out, "user", answers)
    return Settled(tuple(out), ("tool_result",) if lost else ())


def hoisted(conversation: Conversation) -> tuple[Conversation, tuple[str, ...]]:
    """
    Return *conversation* with the instructions given in between moved to its front.

    :return: And ``system_position`` if any were behind another turn.
    """
    system = list(conversation.system)
    turns: list[Turn] = []
    moved = False
    for turn in conversation.turns:
        if turn.role == "system":
            moved = moved or bool(turns)
            system += [part for part in turn.parts if isinstance(part, Text)]
        else:
            turns.append(turn)
    settled_turns = tuple(joined(turns))
    return (
        attrs.evolve(conversation, system=tuple(system), turns=settled_turns),
        ("system_position",) if moved else (),
    )


def text_of(parts: Iterable[Part]) -> str:
    """Return the texts among *parts*, a line apart."""
    return "\n".join(part.text for part in parts if isinstance(part, Text))


def called(turn: Turn) -> Sequence[Call]:
    """Return the calls in a turn."""
    return [part for part in turn.parts if isinstance(part, Call)]


def thoughts(turn: Turn) -> Sequence[Reasoning]:
    """Return the thoughts in a turn."""
    return [part for part in turn.parts if isinstance(part, Reasoning)]


def joined(turns: Iterable[Turn]) -> list[Turn]:
    """Return *turns* with neighbours of one role made one."""
    out: list[Turn] = []
    for turn in turns:
        _add(out, turn.role, turn.parts)
    return out


def _add(out: list[Turn], role: str, parts: Sequence[Part]) -> None:
    if not parts:
        return
    if out and out[-1].role == role:
        out[-1] = Turn(role, (*out[-1].parts, *parts))
    else:
        out.append(Turn(role, tuple(parts)))


def _results(turns: Sequence[Turn]) -> tuple[dict[str, Result], bool]:
    """Return the last result for each call, and whether there were others."""
    found = [part for turn in turns for part in turn.parts if isinstance(part, Result)]
    last = {result.id: result for result in found}
    return last, len(last) < len(found)


def _told(result: Result) -> list[Part]:
    name = result.name or result.id
    head = f"The tool {name} answered:" if name else "A tool answered:"
    media = [part for part in result.parts if isinstance(part, Image | File | Audio)]
    return [Text(f"{head}\n{text_of(result.parts)}"), *media]
