"""
What ``docs/security.md`` says of tests, held against the tests.

Each incident has one, each that is named exists, and none of those made for an incident is
missing from the table.
"""

from __future__ import annotations

import ast
import re
from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from tests import test_incidents, test_incidents_source
from tests.installed import ROOT

SECURITY = ROOT / "docs/security.md"
TITLE = "## Incidents of gateways like this one"

INCIDENTS = (
    *("LiteLLM 1.82.7 and 1.82.8", "CVE-2026-42208", "CVE-2026-42271", "CVE-2026-48710"),
    *("CVE-2026-35030", "CVE-2026-35029", "CVE-2026-42203", "GHSA-xqmj-j6mv-4862"),
    *("CVE-2026-12772", "CVE-2026-12795", "CVE-2026-12796", "CVE-2026-12798"),
    *("CVE-2024-6587", "CVE-2024-8984", "CVE-2024-2952", "CVE-2024-4264", "CVE-2024-5751"),
    *("CVE-2024-6825", "CVE-2024-5225", "CVE-2024-9606", "CVE-2025-0330", "CVE-2025-11203"),
    *("CVE-2026-41432", "CVE-2026-30886", "CVE-2026-25591", "CVE-2025-59146"),
    *("CVE-2025-62155", "GHSA-8hmm-4crw-vm2c", "CLIProxyAPI a6cb16bb", "Portkey"),
    *("gh-aw-firewall#1454", "NextAPI", "arXiv 2604.08407", "GreyNoise", "NuClide"),
    *("CVE-2022-24801", "CVE-2023-46137", "CVE-2024-41671", "CVE-2022-39348"),
    *("CVE-2024-41810", "CVE-2022-21712"),
)
"""Every incident that is known of gateways of this kind, and of what they are built on."""

_TEST = re.compile(r"`(tests\.[\w.]+)`")
_ID = re.compile(r"CVE-\d{4}-\d+|GHSA-[\w-]+")


@cache
def rows() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the table: each incident's first cell, and the tests of its last."""
    section = SECURITY.read_text(encoding="utf-8").partition(TITLE)[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:2] == "| "]
    return tuple((cells[0], tuple(_TEST.findall(cells[-1]))) for cells in lines[2:])


@cache
def methods(module: str) -> frozenset[str]:
    """Return the dotted names of the methods in a module; to import some takes seconds."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        f"{module}.{case.name}.{each.name}"
        for case in tree.body
        if isinstance(case, ast.ClassDef)
        for each in case.body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def exists(name: str) -> bool:
    """Say whether *name* is the dotted name of a test."""
    return name.rpartition(".")[2].startswith("test_") and name in methods(name.rsplit(".", 2)[0])


class IncidentTableTests(SynchronousTestCase):
    """The table of incidents."""

    def test_every_incident_has_a_row(self) -> None:
        """None is forgotten, none stands there twice, and none came in that is not known."""
        firsts = [first for first, _ in rows()]
        for incident in INCIDENTS:
            self.assertEqual(sum(incident in first for first in firsts), 1, incident)
        ids = {id for first in firsts for id in _ID.findall(first)}
        self.assertEqual(ids - set(INCIDENTS), set())

    def test_every_row_has_a_test_that_exists(self) -> None:
        """A test that is renamed or removed is missed here."""
        for first, tests in rows():
            self.assertTrue(tests, first)
            for name in tests:
                self.assertTrue(exists(name), name)
        self.assertFalse(exists("tests.test_keys.KeyringTests.test_that_was_removed"))

    def test_every_test_of_an_incident_stands_in_the_table(self) -> None:
        """But those that prove the others; and what a docstring names, a row names."""
        named = {name for _, tests in rows() for name in tests}
        proofs = {"test_a_key_opens_them"}
        for module in (test_incidents, test_incidents_source):
            for case in vars(module).values():
                if not (isinstance(case, type) and case.__module__ == module.__name__):
                    continue
                for name in vars(case):
                    if name.startswith("test_") and name not in proofs:
                        dotted = f"{module.__name__}.{case.__name__}.{name}"
                        self.assertIn(dotted, named)
                        told = _ID.findall(str(getattr(case, name).__doc__))
                        self.assertEqual(set(told) - set(INCIDENTS), set(), dotted)

    def test_how_to_report_is_found_from_the_top(self) -> None:
        """Where people and forges look first."""
        told = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
        self.assertIn("(docs/security.md#reporting)", told)
