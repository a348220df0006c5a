"""
The fault catalogue, played: 22 faults, from every client's dialect to every upstream's.

``AICLIENT2API_LONG=1`` plays more, see `FullTests`. What is right stands in
`tests.faults.table`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.faults.answers import SPEAKERS
from tests.faults.stage import Played, Stage
from tests.faults.table import (
    CATALOGUE,
    ELSEWHERE,
    FAULTS,
    OTHERWISE,
    VERBATIM,
    Cell,
    cells,
    played,
)
from tests.faults.verdict import judge, judge_accounts

LONG = bool(os.environ.get("AICLIENT2API_LONG"))


class TableTests(SynchronousTestCase):
    """The table itself."""

    def test_no_cell_is_missing(self) -> None:
        """22 faults, four clients, four upstreams: each streamed cell is played somewhere."""
        self.assertEqual(22, len(FAULTS))
        self.assertEqual(set(FAULTS), set(CATALOGUE) | set(ELSEWHERE))
        pairs = set(itertools.product(SPEAKERS, SPEAKERS))
        self.assertEqual(16, len(pairs))
        found = {fault: set[tuple[str, str]]() for fault in CATALOGUE}
        for cell in played(cells()):
            found[cell.fault].add((cell.client, cell.upstream))
        for fault, met in found.items():
            self.assertEqual(pairs, met, fault)

    def test_every_exception_is_one(self) -> None:
        """What differs with the dialects is of a scene and a dialect that there are."""
        for fault, name, side in OTHERWISE:
            self.assertIn(name, CATALOGUE[fault])
            self.assertIn(side, {VERBATIM, *SPEAKERS})

    def test_reasons(self) -> None:
        """What is not played says why."""
        for cell in [*cells(), *cells(streamed=False)]:
            if isinstance(cell.asks, str):
                self.assertGreater(len(cell.asks), 10, cell)


class CatalogueTests(TestCase):
    """The table, played over sockets, all cells at once."""

    timeout = 240

    async def play(self, chosen: Sequence[Cell]) -> list[tuple[Cell, list[Played]]]:
        """Play and judge all of *chosen*; return what came of them."""
        stage = Stage(self, chosen)
        await stage.gateway.start()
        results = await stage.play_all()
        reports = stage.reports()
        wrong, good = [], []
        for cell, result in results:
            try:
                if isinstance(result, Exception):
                    raise result
                judge(cell, result)
                judge_accounts(cell, result, reports)
                good.append((cell, result))
            except Exception as fault:
                wrong.append(f"{cell.model}: {type(fault).__name__}: {str(fault)[:700]}")
        self.assertEqual([], stage.fake.strangers[:5])
        if wrong:
            self.fail(f"{len(wrong)} of {len(chosen)} cells:\n" + "\n".join(wrong))
        return good

    async def test_streams(self) -> None:
        """Every fault in a stream, between any two dialects, as the table has it."""
        await self.play(played(cells()))
