"""
What tests of the catalogue are made of: cells played and judged, and a log of all of them.

It knows no single cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from aiclient2api.accounts.account import PACES, Kind, Pace
from tests.faults.stage import Played, Stage
from tests.faults.table import Cell
from tests.faults.verdict import judge, judge_accounts

LOG = Path("faults.log")
"""In trial's temporary directory: a line for each cell, and a summary."""


_REST: Any = PACES
_LONG = Pace(first=30.0, longest=30.0, hinted=60.0)
"""Rests that outlast a cell on the busiest machine."""


class CatalogueCase(TestCase):
    """Plays many cells on one stage."""

    async def play(
        self, chosen: Sequence[Cell], log: Path | None = None, *, returning: bool = False
    ) -> None:
        """
        Play and judge all of *chosen*.

        :param log: Where a line is added for each of them.
        :param returning: True: accounts rest as long as ever. Otherwise they are not to be
            back before their cell is over, however busy the machine is.
        """
        rest = _REST[Kind.UPSTREAM_FAULT]
        if not returning:
            _REST.update({Kind.UPSTREAM_FAULT: _LONG})
            self.addCleanup(_REST.update, {Kind.UPSTREAM_FAULT: rest})
        stage = Stage(self, chosen)
        await stage.gateway.start()
        results = await stage.play_all()
        reports = stage.reports()
        wrong, lines = [], []
        for cell, result in results:
            try:
                if isinstance(result, Exception):
                    raise result
                judge(cell, result)
                judge_accounts(cell, result, reports)
                verdict = "ok"
            except Exception as fault:
                verdict = f"{type(fault).__name__}: {str(fault)[:700]}"
                wrong.append(f"{cell.model}: {verdict}")
            lines.append(_line(cell, result, verdict))
        if log is not None:
            with log.open("a") as file:
                file.writelines(lines)
        await stage.gateway.stop()
        _REST.update({Kind.UPSTREAM_FAULT: rest})
        self.assertEqual([], stage.fake.strangers[:5])
        if wrong:
            self.fail(f"{len(wrong)} of {len(chosen)} cells:\n" + "\n".join(wrong))


def _line(cell: Cell, result: list[Played] | Exception, verdict: str) -> str:
    way = "stream" if cell.streamed else "whole"
    words = [f"{cell.fault}/{cell.name}#{cell.seed}", cell.client, cell.upstream, way]
    if not isinstance(result, Exception):
        words += [
            "|".join(each.asked or "-" for each in result),
            "|".join(f"{each.reply.status} {each.trace.how}" for each in result),
            f"{sum(each.seconds for each in result):.3f}",
        ]
    return "\t".join([*words, verdict.replace("\n", " ")]) + "\n"


def summary(log: Path) -> str:
    """Return how many cells there are in a log, by fault, and how many went wrong."""
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    faults = Counter(row[0].partition("/")[0] for row in rows)
    wrong = sum(row[-1] != "ok" for row in rows)
    attempts = sum(len(row[4].replace("|", "").replace("-", "")) for row in rows if len(row) > 5)
    requests = sum(row[4].count("|") + 1 for row in rows if len(row) > 5)
    told = ", ".join(f"{fault} {count}" for fault, count in faults.items())
    return (
        f"{len(rows)} cells, {wrong} wrong; {requests} requests, {attempts} attempts at upstreams"
        f" ({told})"
    )
