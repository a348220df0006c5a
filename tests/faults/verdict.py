"""
Both sides of a cell held against the table: what the client saw, and what upstreams saw.

It raises `AssertionError` with words for the first thing that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from aiclient2api.values import AccountReport, Usage
from tests.faults import reading
from tests.faults.answers import COUNTED, NO_PREFILL, PIECES, SPEAKERS, SPOKEN, Asked, answer, hint
from tests.faults.reading import View
from tests.faults.stage import BASE_DELAY, Played, account, model, provider
from tests.faults.table import Ask, Cell

_EARLY = 0.002
"""Seconds by which clocks may differ."""


def judge(cell: Cell, played: list[Played]) -> None:
    """See that all requests of *cell* came to what the table says."""
    asks = cell.asks
    assert len(played) == len(asks)
    for number, (ask, found) in enumerate(zip(asks, played, strict=True)):
        try:
            _upstream_side(cell, ask, found)
            _names(cell, ask, found)
            _client_side(cell, ask, found)
        except AssertionError as wrong:
            raise AssertionError(f"request {number}: {wrong}") from wrong


def judge_accounts(cell: Cell, played: list[Played], reports: Mapping[str, AccountReport]) -> None:
    """See that those rest who should, and that each has booked what it answered."""
    for who in cell.scene.plays:
        report = reports[account(cell, who)]
        resting = report.standing.state != "ready"
        _same(who in cell.scene.resting, resting, f"{who} rests: {report.standing}")
        given = sum(_given(cell, who, found) for found in played)
        _same(given, report.tally.input, f"prompt tokens booked on {who}")


def _given(cell: Cell, who: str, found: Played) -> int:
    """Return the prompt tokens that an account counts for one request."""
    if cell.scene.on_cut and cell.streamed:
        # Booked are the tokens of all runs; each account counts its own.
        if found.trace.how == "complete" and found.asked.endswith(who):
            return answer(who).usage.input or 0
    elif found.trace.account == account(cell, who):
        return found.trace.usage.input or 0 if found.trace.usage is not None else 0
    # Somebody else had to answer; yet it may have counted the prompt before it failed.
    return _counted(cell, who, [each.play for each in found.attempts if each.who == who][-1:])


def _counted(cell: Cell, who: str, plays: list[str]) -> int:
    """Return the prompt tokens that an upstream told of in answers that came to nothing."""
    speaker = cell.stand_in if who == "w" else cell.upstream
    if speaker != "messages" or not cell.streamed:
        return 0
    return (answer(who).usage.input or 0) * sum(play in COUNTED for play in plays)


# --- what upstreams saw ------------------------------------------------------------------


def _upstream_side(cell: Cell, ask: Ask, found: Played) -> None:
    _same(ask.asked, found.asked, f"who was asked; the client got {found.reply.body[-300:]!r}")
    tries = 0
    for before, after in zip(found.attempts, found.attempts[1:], strict=False):
        tries = tries + 1 if before.who == after.who else 0
        if not tries:
            continue
        told = hint(before.play)
        least = BASE_DELAY * 2.0 ** (tries - 1) / 2 if told is None else told
        gap = after.at - before.at
        assert gap >= least - _EARLY, f"{after.who} was asked again after {gap:.3f} s"


def _names(cell: Cell, ask: Ask, found: Played) -> None:
    """See that headers and trace name who answered, or is to blame."""
    trace = found.trace
    _same(len(ask.asked), trace.attempts, "attempts in the trace")
    steps = [step.account for step in trace.steps if step.what == "attempt"]
    _same([account(cell, who) for who in ask.asked], steps, "attempts in the trace's steps")
    _same(ask.how, trace.how, f"how it ended ({trace.error})")
    if ask.code:
        _same(ask.code, trace.error and trace.error.code, "the error's code")
    who = ask.answering or "a"
    head = ask.headed or who
    _same(provider(cell, head), found.header("provider"), "provider in the head")
    _same(model(cell, head), found.header("model"), "model in the head")
    _same(provider(cell, who), trace.provider, "provider in the trace")
    _same(model(cell, who), trace.model, "model in the trace")
    row = found.booked
    _same(
        (trace.provider, trace.model, trace.account),
        (row.provider, row.model, row.account),
        "booked on",
    )
    _same((trace.how, trace.attempts), (row.how, row.attempts), "how it ended, as booked")
    if ask.asked:
        _same(account(cell, head), found.header("account"), "account in the head")
        _same(account(cell, who), trace.account, "account in the trace")
    else:
        _same(None, found.header("account"), "account in the head")


# --- what the client saw -----------------------------------------------------------------


def _client_side(cell: Cell, ask: Ask, found: Played) -> None:
    reply, client = found.reply, cell.client
    _same(ask.status, reply.status, f"the status of {reply.body[:300]!r}")
    assert reply.complete, "the body broke off"
    assert NO_PREFILL.encode() not in reply.body, "the client was told of the prefill"
    later = reply.header(b"retry-after")
    assert (later is not None) == ask.later, f"Retry-After is {later!r}"
    if ask.later:
        _later(ask, found)
    if ask.ends == "error":
        assert reading.error_message(client, reply.body)
        _same((0, 0), (found.booked.tokens.input, found.booked.tokens.output), "tokens booked")
        assert (reply.header(b"content-type") or b"").startswith(b"application/json")
        return
    view = (reading.stream if cell.streamed else reading.whole)(client, reply.body)
    _VIEWS[ask.ends](cell, ask, found, view)


def _later(ask: Ask, found: Played) -> None:
    """See that the client is sent away for as long as the accounts rest, and no longer."""
    hints = [told for each in found.attempts if (told := hint(each.play)) is not None]
    told = float(found.reply.header(b"retry-after") or b"0")
    assert 1 <= told <= max(hints, default=60.0), told
    if hints:
        assert told >= min(hints) - 5, told


def _answered(cell: Cell, ask: Ask, found: Played, view: View) -> None:
    who = ask.asked[-1]
    good = answer(who)
    _same("".join(good.pieces), view.text, "the text")
    _same(None, view.error, "an error")
    _same(0, view.garbage, "records that are no JSON")
    assert len(view.finish) == 1, view.finish
    assert view.finish[0] in reading.FINISHED[cell.client], view.finish
    untold = cell.verbatim and found.attempts[-1].play == "unterminated"
    _same(not untold, view.terminated, "a terminator")
    _same((good.usage.input, good.usage.output), view.usage, "tokens told")
    speaker = cell.stand_in if who == "w" else cell.upstream
    _tokens(cell, good.usage, found, SPEAKERS[speaker].untold)
    if speaker == cell.client and not untold and not cell.scene.on_cut:
        frames = b"".join(Asked(speaker, who, cell.streamed).frames())
        assert found.reply.body == frames, "the bytes were changed"


def _passed_on(cell: Cell, ask: Ask, found: Played, view: View) -> None:
    _same(1, view.garbage, "records that are no JSON")
    view.garbage = 0
    found = attrs.evolve(
        found,
        reply=attrs.evolve(
            found.reply, body=found.reply.body.replace(b'data: {"broken\n\n', b"", 1)
        ),
    )
    _answered(cell, ask, found, view)


def _filtered(cell: Cell, ask: Ask, found: Played, view: View) -> None:
    _same(None, view.error, "an error")
    assert len(view.finish) == 1, view.finish
    assert view.finish[0] in reading.FILTERED[cell.client], view.finish
    blocked = found.attempts[-1].play == "filtered"
    _same("" if blocked else "".join(answer("a").pieces), view.text, "the text")


def _told(cell: Cell, ask: Ask, found: Played, view: View) -> None:
    assert view.error, "no error was told"
    ended = ask.ends == "told late"
    assert view.ended == ended, f"what looks like an end: {view.finish}, {view.terminated}"
    # All of its text was sent where only the end is missing, unless they come together.
    play = next(each.play for each in found.attempts if each.who == ask.answering)
    spoken = play in SPOKEN or (play == "unterminated" and cell.upstream != "gemini")
    shown = answer(ask.answering).pieces if spoken else PIECES
    _same("".join(shown), view.text, "the text before the error")
    row = found.booked
    assert row.tokens.input and row.tokens.output, f"nothing was booked: {row.tokens}"
    if cell.upstream == "messages":
        # It tells what the prompt is before it answers.
        _same(answer("a").usage.input, row.tokens.input, "tokens booked")
    elif play not in SPOKEN:
        assert row.estimated, row.tokens


_VIEWS = {
    "answered": _answered,
    "passed on": _passed_on,
    "filtered": _filtered,
    "told": _told,
    "told late": _told,
}


def _tokens(cell: Cell, wanted: Usage, found: Played, untold: frozenset[str]) -> None:
    """See that what was answered is booked, and apart from it what was lost on the way."""
    row = found.booked
    if cell.scene.on_cut and cell.streamed:
        # All runs are paid for.
        assert (row.tokens.input or 0) >= (wanted.input or 0), row.tokens
        assert (row.tokens.output or 0) >= (wanted.output or 0), row.tokens
        return
    assert not row.estimated, row.tokens
    for field in attrs.fields(Usage):
        if field.name not in untold:
            _same(
                getattr(wanted, field.name), getattr(row.tokens, field.name), f"{field.name} booked"
            )
    lost = sum(_counted(cell, each.who, [each.play]) for each in found.attempts[:-1])
    _same(lost, row.lost.input or 0 if row.lost is not None else 0, "tokens booked as lost")


def _same(wanted: object, found: object, what: str) -> None:
    assert wanted == found, f"{what}: {found!r} instead of {wanted!r}"
