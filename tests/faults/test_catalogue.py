"""
The fault catalogue, played: 22 faults, from every client's dialect to every upstream's.

``AICLIENT2API_LONG=1`` plays more, see `FullTests`. What is right stands in
`tests.faults.table`.
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.faults.answers import SPEAKERS
from tests.faults.case import LOG, CatalogueCase, summary
from tests.faults.table import (
    CATALOGUE,
    ELSEWHERE,
    FAULTS,
    OTHERWISE,
    VERBATIM,
    cells,
    played,
)

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs/faults.md"
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
            self.assertEqual(bool(cell.asks), not cell.reason, cell)
            self.assertTrue(cell.asks or len(cell.reason) > 10, cell)


class DocumentedTests(SynchronousTestCase):
    """``docs/faults.md``, held against the table."""

    def test_every_fault_is_told(self) -> None:
        """A row for each fault, in order, with every status and code that clients meet."""
        rows = [line.split(" | ") for line in DOCUMENT.read_text("utf-8").splitlines()]
        told = {row[0].removeprefix("| "): " ".join(row[1:]) for row in rows if len(row) == 3}
        for heading in ("Fault", "---"):
            told.pop(heading)
        self.assertEqual(list(FAULTS.values()), list(told))
        codes = {ask.code for cell in played(cells()) for ask in cell.asks if ask.code}
        for fault, title in FAULTS.items():
            asks = {ask for cell in played(cells()) if cell.fault == fault for ask in cell.asks}
            named = set(re.findall(r"`([^`]+)`", told[title])) & codes
            self.assertEqual({ask.code for ask in asks if ask.code}, named, title)
            statuses = {str(ask.status) for ask in asks if ask.ends == "error"}
            found = set(re.findall(r"\b[45]\d\d\b", told[title].replace("As with 503", "")))
            self.assertEqual(statuses, found, title)


class CatalogueTests(CatalogueCase):
    """The table, played over sockets, all cells at once."""

    timeout = 600

    async def test_streams(self) -> None:
        """Every fault in a stream, between any two dialects, as the table has it."""
        await self.play(played(cells()))


class FullTests(CatalogueCase):
    """
    More of it: whole answers, several seeds, every split character, accounts that return.

    A line for each cell is in ``faults.log`` in trial's temporary directory: fault, scene and
    seed; client; upstream; streamed or whole; the accounts that were asked, a letter for each
    attempt, and what came of it, by request; seconds; and what was wrong.
    """

    timeout = 3600
    if not LONG:
        skip = "takes minutes; set AICLIENT2API_LONG=1, or run tox -e faults"

    async def test_all(self) -> None:
        """Every scene there is, streamed and whole."""
        seeds = range(1, 3)
        LOG.unlink(missing_ok=True)
        try:
            for seed in seeds:
                await self.play(played(cells(seeds=[seed])), LOG)
                await self.play(played(cells(streamed=False, seeds=[seed])), LOG)
            for streamed in (True, False):
                slow = [each for each in cells(streamed=streamed, long=True) if each.scene.long]
                await self.play(played([each for each in slow if each.scene.seeds > 1]), LOG)
                # By themselves: they are to be quicker than an account is back.
                returning = [each for each in slow if each.scene.seeds == 1]
                await self.play(played(returning), LOG, returning=True)
        finally:
            told = summary(LOG)
            with LOG.open("a") as file:
                file.write(f"# {told}\n")
            print(f"\nfault catalogue: {told}")
