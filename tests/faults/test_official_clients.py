"""
Some cells of the catalogue, read by the official SDKs: what they raise, and what they believe.

Which cells is left to chance, the same for every run; ``AICLIENT2API_LONG=1`` plays all
that a library's own patience allows.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.faults.answers import PIECES, SPEAKERS, answer
from tests.faults.stage import Stage, provider
from tests.faults.table import Cell, cells, played

LONG = bool(os.environ.get("AICLIENT2API_LONG"))


class OfficialClientTests(TestCase):
    """A library before a provider in which everything goes wrong."""

    timeout = 600

    async def test_no_library_is_deceived(self) -> None:
        """Answered in full, an exception, or text without an end: as the table has it."""
        chosen = _chosen()
        stage = Stage(self, chosen)
        await stage.gateway.start()
        wrong: list[str] = []
        for start in range(0, len(chosen), 8):
            batch = chosen[start : start + 8]
            asking = [deferToThread(self.read, stage, cell) for cell in batch]
            found: Sequence[Any] = await gatherResults(asking)
            for cell, (events, error) in zip(batch, found, strict=True):
                try:
                    self.judge(cell, events, error)
                except Exception as fault:
                    wrong.append(f"{cell.model}: {type(fault).__name__}: {str(fault)[:400]}")
        if wrong:
            self.fail(f"{len(wrong)} of {len(chosen)} cells:\n" + "\n".join(wrong))

    def read(self, stage: Stage, cell: Cell) -> tuple[list[Any], Exception | None]:
        """Ask for a stream; return its events and what was raised. Blocks."""
        sdk = SPEAKERS[cell.client]
        url = f"{stage.gateway.url}/{provider(cell, 'a')}{sdk.bases[0]}"
        client = sdk.client(url, stage.gateway.key)
        events: list[Any] = []
        try:
            for event in sdk.stream(client, {**sdk.asked["plain"], "model": cell.model}):
                events.append(event)
        except Exception as error:
            return events, error
        finally:
            sdk.close(client)
        return events, None

    def judge(self, cell: Cell, events: list[Any], error: Exception | None) -> None:
        """See that the library believes what is true."""
        sdk = SPEAKERS[cell.client]
        ask = cell.asks[0]
        if ask.ends == "answered":
            self.assertIsNone(error)
            self.assertTrue(sdk.ended(events))
            self.assertEqual("".join(answer(ask.asked[-1]).pieces), sdk.text(events))
            return
        self.assertFalse(sdk.ended(events))
        if ask.ends == "error":
            self.assertIsNotNone(error, "nothing was raised")
            self.assertEqual(ask.status, sdk.status(error))
            self.assertEqual([], events)
            return
        self.assertTrue(sdk.text(events).startswith("".join(PIECES)))
        if sdk.midway is None:
            self.assertIsNone(error)
            self.assertTrue(sdk.troubles(events))
        else:
            self.assertIsInstance(error, sdk.midway)


def _chosen() -> list[Cell]:
    """Return some cells of each pair and each kind of end, or all of them."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in played(cells()):
        ends = cell.asks[0].ends
        if ends in ("answered", "error", "told") and cell.scene.plays["a"] != ("short by its end",):
            groups.setdefault((cell.client, cell.upstream, ends), []).append(cell)
    if LONG:
        return list(itertools.chain.from_iterable(groups.values()))
    return [Random("".join(key)).choice(found) for key, found in groups.items()]
