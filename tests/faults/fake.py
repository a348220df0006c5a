"""
A provider in which everything goes wrong: the model that is asked for says what.

It speaks all four dialects, refuses what no real service would take, and notes every
attempt with its time. It knows no gateway.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from aiclient2api.testing import Connection, Received, Script, json_reply
from tests.faults.answers import DIALECTS, PLAYS, SEEDS, Asked, key_of
from tests.faults.table import Cell
from tests.strict_requests import judge

WIDER = ".wider"
"""What the name of a stand-in ends with."""


def key(cell: Cell, who: str) -> str:
    """Return the key of an account of *cell*."""
    return f"sk-{cell.model}-{who}"


@attrs.frozen
class Attempt:
    """
    One request that arrived.

    :ivar at: Reactor seconds.
    :ivar who: The account it came from, by its letter.
    :ivar play: What it is answered with.
    """

    at: float
    who: str
    play: str


@attrs.define
class FaultyProvider:
    """
    Answers for the upstreams of all dialects.

    :ivar attempts: What arrived, by the model of the cell.
    :ivar repeats: How often a kept connection turned out to be closed already: then a request
        is sent once more at once, on a new one, and that is no further attempt.
    :ivar strangers: What nobody should have sent, in words.
    """

    _cells: dict[str, Cell] = attrs.field(factory=dict, init=False)
    attempts: dict[str, list[Attempt]] = attrs.field(factory=dict, init=False)
    repeats: int = attrs.field(default=0, init=False)
    strangers: list[str] = attrs.field(factory=list, init=False)
    _kept: set[Connection] = attrs.field(factory=set, init=False)

    def know(self, cells: Iterable[Cell]) -> None:
        """Answer for these from now on."""
        for cell in cells:
            self._cells[cell.model] = cell
            self.attempts[cell.model] = []

    def speaking(self, speaker: str) -> Callable[[Received], Script]:
        """Return what answers for the upstream of one dialect."""
        return lambda request: self._answer(speaker, request)

    def _answer(self, speaker: str, request: Received) -> Script:
        body = json.loads(request.body)
        model, streamed = _asked(speaker, request, body)
        cell = self._cells.get(model.removesuffix(WIDER))
        who = key_of(request.headers).rpartition("-")[2]
        if cell is None or cell.scene.plays.get(who) is None:
            return self._strange(f"nobody has a model {model!r} for {who!r}")
        expected = cell.stand_in if who == "w" else cell.upstream
        if speaker != expected or model.endswith(WIDER) != (who == "w"):
            return self._strange(f"{model} was asked of {speaker} with the key of {who}")
        if speaker != cell.client:
            # What is relayed verbatim is the client's own business.
            try:
                judge(DIALECTS[speaker], body)
            except ValueError as error:
                return self._strange(f"{model}: {error}")
        before = self.attempts[cell.model]
        plays = cell.scene.plays[who]
        count = sum(attempt.who == who for attempt in before)
        play = plays[min(count, len(plays) - 1)]
        if play == "reset" and request.connection in self._kept:
            self.repeats += 1
            return PLAYS[play](Asked(speaker, who, streamed))
        self._kept.add(request.connection)
        before.append(Attempt(request.at, who, play))
        seed = cell.seed * SEEDS + len(before)
        return PLAYS[play](Asked(speaker, who, streamed, _prefilled(speaker, body), seed))

    def _strange(self, why: str) -> Script:
        self.strangers.append(why)
        return json_reply(400, {"error": {"message": f"The fake provider: {why}"}})


def _asked(speaker: str, request: Received, body: Any) -> tuple[str, bool]:
    """Return the model, and whether a stream was asked for."""
    if speaker == "gemini":
        model, _, method = request.target.rpartition("/models/")[2].partition(":")
        return model, method.startswith("stream")
    return body["model"], bool(body.get("stream"))


def _prefilled(speaker: str, body: Any) -> bool:
    """Say whether the last word is the assistant's own."""
    turns = body.get({"responses": "input", "gemini": "contents"}.get(speaker, "messages"))
    last = turns[-1] if isinstance(turns, list) and turns else {}
    return last.get("role") in ("assistant", "model")
