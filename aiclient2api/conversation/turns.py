"""
Put turns into the order that every upstream insists on.

Calls are answered at once, all of them and only they; neighbours of one role are one
turn. Clients write histories in every other way, too. It must never know a dialect:
what only one of them wants is done by its own writer.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
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
    :ivar losses: ``tool_result`` if a result had no call or a call no result, or there were
        several results for one call.
    """

    turns: tuple[Turn, ...]
    losses: tuple[str, ...] = ()


def settled(turns: Iterable[Turn]) -> Settled:
    """
    Return *turns* in order.

    Of several results for one call the last one counts, as it does for the model's vendor.
    A result without a call becomes text. Some upstreams begin to count their calls anew with
    each answer: a call whose id another had before gets an id of its own, and so does its
    result.
    """
    merged = joined(turns)
    answered = _Answered(merged)
    lost, number = answered.lost, 0
    out = _Gathered()
    for turn in merged:
        parts: list[Part] = []
        answers: list[Part] = []
        for part in turn.parts:
            if isinstance(part, Result):
                if part.id not in answered.calls:
                    lost = True
                    parts += _told(part)
            elif not isinstance(part, Call):
                parts.append(part)
            elif turn.role != "assistant":
                lost = True
            else:
                id, found = answered.ids[number], answered.results[number]
                number += 1
                parts.append(part if part.id == id else attrs.evolve(part, id=id))
                lost = lost or found is None
                answer = found or Result(id, parts=(Text(UNANSWERED),), is_error=True)
                # What counts is whose answer it is, whatever name the client gave it.
                answers.append(attrs.evolve(answer, id=id, name=part.name))
        out.add(turn.role, parts)
        out.add("user", answers)
    return Settled(tuple(out.turns()), ("tool_result",) if lost else ())


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
    out = _Gathered()
    for turn in turns:
        out.add(turn.role, turn.parts)
    return out.turns()


class _Gathered:
    """Turns in the making, neighbours of one role in one."""

    def __init__(self) -> None:
        self._said: list[tuple[str, list[Part]]] = []

    def add(self, role: str, parts: Sequence[Part]) -> None:
        """Let *role* say *parts*, if there are any."""
        if not parts:
            return
        if not self._said or self._said[-1][0] != role:
            self._said.append((role, []))
        self._said[-1][1].extend(parts)

    def turns(self) -> list[Turn]:
        """Return what was said."""
        return [Turn(role, tuple(parts)) for role, parts in self._said]


class _Answered:
    """
    The model's calls in their order, each with an id that no other has and its result.

    A result belongs to the nearest call before it that has its id and no result yet; to the
    first of them, if several were made at once.

    :ivar calls: How many calls there are of each id.
    :ivar lost: Whether there were results for which no call was left.
    """

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.ids: list[str] = []
        self.results: list[Result | None] = []
        self.lost = False
        self.calls: Counter[str] = Counter()
        # By id, those of each turn that wait for a result, and the last one of all.
        self._waiting: dict[str, list[deque[int]]] = defaultdict(list)
        self._latest: dict[str, int] = {}
        self._taken = {
            part.id for turn in turns for part in turn.parts if isinstance(part, Call | Result)
        }
        early: list[Result] = []
        for turn in turns:
            asked: dict[str, deque[int]] = {}
            for part in turn.parts:
                if isinstance(part, Call) and turn.role == "assistant":
                    self._ask(part.id, asked)
                elif isinstance(part, Result):
                    if part.id in self.calls:
                        self._answer(part)
                    else:
                        early.append(part)
        self._answer_early([result for result in early if result.id in self.calls])

    def _ask(self, id: str, asked: dict[str, deque[int]]) -> None:
        if not asked.get(id):
            asked[id] = deque()
            self._waiting[id].append(asked[id])
        asked[id].append(len(self.ids))
        self._latest[id] = len(self.ids)
        self.results.append(None)
        self.calls[id] += 1
        made, count = id, self.calls[id]
        if count > 1:
            made = f"{id}_{count}"
            while made in self._taken:
                made += "_"
            self._taken.add(made)
        self.ids.append(made)

    def _answer(self, result: Result) -> None:
        waiting = self._waiting[result.id]
        if waiting:
            number = waiting[-1].popleft()
            if not waiting[-1]:
                waiting.pop()
        else:
            number, self.lost = self._latest[result.id], True
        self.results[number] = result

    def _answer_early(self, results: Sequence[Result]) -> None:
        """Take *results* that stood before any call of their ids: each goes to the first left."""
        left = {
            id: deque(number for numbers in groups for number in numbers)
            for id, groups in self._waiting.items()
        }
        last: dict[str, int] = {}
        for result in results:
            free = left[result.id]
            if free:
                last[result.id] = free.popleft()
            else:
                self.lost = True
            if result.id in last:
                self.results[last[result.id]] = result


def _told(result: Result) -> list[Part]:
    name = result.name or result.id
    head = f"The tool {name} answered:" if name else "A tool answered:"
    media = [part for part in result.parts if isinstance(part, Image | File | Audio)]
    return [Text(f"{head}\n{text_of(result.parts)}"), *media]
