"""
A trace in words, for a terminal or for another program.

It knows what a trace consists of, and must never ask where it comes from or who reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo

import msgspec

from aiclient2api.observe.traces import Trace, TraceError, TraceStep, TraceUsage
from aiclient2api.observe.usage import Row, Tokens


def story(
    id: str, trace: Trace, zone: tzinfo | None = None, booked: Row | None = None
) -> Iterator[str]:
    """
    Yield the lines that tell of one exchange.

    :param zone: Whose time is told; None: that of this machine.
    :param booked: What was booked for it, where the upstream did not tell of tokens.
    """
    who = f"{shown(trace.model)} of {shown(trace.provider)}" if trace.provider else ""
    if trace.account:
        who += f", account {shown(trace.account)}"
    attempts = f"{trace.attempts} attempt{'s' * (trace.attempts != 1)}"
    facts = [
        ("began", _moment(trace.began, zone, "milliseconds")),
        (
            "asked",
            f"for {shown(trace.asked) or 'no model'} in {trace.dialect}"
            + (f", by {shown(trace.caller)[:16]}" if trace.caller else ""),
        ),
        ("answered" if trace.how == "complete" else "last tried", who),
        ("ended", f"{trace.how} after {trace.ended - trace.began:.3f} s, {attempts}"),
        ("usage", _usage(trace, booked)),
        ("error", _error(trace.error) if trace.error else ""),
    ]
    yield f"Request {shown(id)}"
    for name, told in facts:
        if told:
            yield f"  {name:<12}{told}"
    if trace.steps:
        yield ""
        yield from _steps(trace)


def _usage(trace: Trace, booked: Row | None) -> str:
    if trace.usage is not None:
        return _counts(trace.usage)
    if booked is None:
        return ""
    return _counts(booked.tokens) + " (estimated)" * booked.estimated


def _counts(tokens: TraceUsage | Tokens) -> str:
    counts = msgspec.structs.asdict(tokens).items()
    return ", ".join(
        f"{name.replace('_', ' ')} {count}" for name, count in counts if count is not None
    )


def _error(error: TraceError) -> str:
    words = [error.name, error.fault, str(error.status), shown(error.code)]
    told = " ".join(word for word in words if word) + f": {shown(error.message)}"
    if error.retry_after is not None:
        told += f" (try again after {error.retry_after:g} s)"
    return told


def _steps(trace: Trace) -> Iterator[str]:
    """Yield a line for each step, and one for those left out."""
    rows = []
    model = ""
    for step in trace.steps:
        rows.append((f"+{step.at:.3f} s", step.what, shown(step.provider), _detail(step, model)))
        model = step.model or model
    gap = (len(rows) + 1) // 2 if trace.left_out else None
    for number, line in enumerate(_aligned(rows, right=(0,))):
        if number == gap:
            yield f"  ... {trace.left_out} more steps ..."
        yield f"  {line}"


def _detail(step: TraceStep, model: str) -> str:
    """Say what a step adds, given the model that is known already."""
    parts = []
    if step.model and (step.model != model or step.what == "target"):
        parts.append(f"model {shown(step.model)}")
    if step.account:
        parts.append(f"account {shown(step.account)}")
    if step.status is not None:
        parts.append(str(step.status))
    told, why = " ".join(parts), shown(step.why)
    if not (told and why):
        return told or why
    # Of two pairs of brackets in one another nobody sees the ends.
    return f"{told}: {why}" if "(" in why else f"{told} ({why})"


def table(found: Sequence[tuple[str, Trace]], zone: tzinfo | None = None) -> Iterator[str]:
    """
    Yield one line for each exchange: when it began, its id, who answered, how, how long.

    :param zone: As `story` takes it.
    """
    rows = [
        (
            _moment(trace.began, zone, "seconds"),
            shown(id),
            shown(trace.model) or "-",
            shown(trace.provider) or "-",
            shown(trace.account) or "-",
            trace.how,
            f"{trace.ended - trace.began:.3f} s",
        )
        for id, trace in found
    ]
    return _aligned(rows, right=(6,))


def as_json(id: str, trace: Trace, booked: Row | None = None) -> str:
    """
    Return one exchange as an object on one line; times are Unix seconds.

    :param booked: See `story`.
    """
    told = {
        "id": id,
        **msgspec.structs.asdict(trace),
        "usage": trace.usage and msgspec.structs.asdict(trace.usage),
        "error": trace.error and msgspec.structs.asdict(trace.error),
        "steps": [msgspec.structs.asdict(step) for step in trace.steps],
    }
    if booked is not None:
        tokens = msgspec.structs.asdict(booked.tokens)
        told["booked"] = {**tokens, "estimated": booked.estimated}
    return msgspec.json.encode(told).decode()


def _moment(at: float, zone: tzinfo | None, precision: str) -> str:
    return datetime.fromtimestamp(at).astimezone(zone).isoformat(" ", precision)


def _aligned(rows: Sequence[Sequence[str]], *, right: Sequence[int]) -> Iterator[str]:
    """Yield the rows with each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def shown(text: str) -> str:
    """Return *text* without what a terminal would obey: a client chose some of it."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
