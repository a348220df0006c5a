"""
Who may import whom: every module has a layer, and looks only downwards.

Read `LAYERS` to know the house. A new module must be given a place there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PACKAGE = Path(__file__).resolve().parent.parent / "aiclient2api"

LAYERS = {
    0: ["discreet", "errors", "values", "interfaces"],
    1: ["conversation", "framing"],
    2: [
        "dialects",
        "policy",
        "vendors",
        "accounts.account",
        "accounts.affinity",
        "accounts.budget",
        "accounts.lines",
        "accounts.records",
        "accounts.roster",
        "accounts.selection",
        "upstream.hints",
    ],
    3: [
        "cut_routes",
        "fallbacks",
        "upstream",
        "oauth",
        "observe",
        "state",
        "timers",
        "accounts.store",
    ],
    4: ["providers"],
    5: [
        "exchange",
        "conversions",
        "probes",
        "probe_request",
        "renewals",
        "accounts.leases",
        "accounts.pool",
        "accounts.pools",
        "accounts.telling",
        "accounts.waiting",
    ],
    6: ["web"],
    7: [
        "tap",
        "cli",
        "config",
        "assembly",
        "banner",
        "service",
        "draining",
        "handing",
        "listeners",
        "notify",
        "options",
        "pidfile",
        "statedir",
        "logfile",
        "scrubbing",
        "coredumps",
        "following",
        "footprint",
        "headroom",
        "watermark",
        "explain",
        "accounts_cli",
        "import_cli",
        "login_cli",
        "testing",
        "__main__",
    ],
}
LOOKS_AT = {
    0: {0},
    1: {0},
    2: {0, 1},
    3: {0, 1, 2},
    4: {0, 1, 2, 3},
    5: {0, 1, 2, 3},
    6: {0, 1, 2, 3, 5},
    7: set(range(8)),
}
PURE = {0, 1, 2}
EDGES = ("twisted.internet", "twisted.web", "treq", "klein")
REACTOR = "twisted.internet.reactor"


def module_name(path: Path) -> str:
    """Return the dotted name below the package, ``""`` for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def layer(name: str) -> int | None:
    """Return the layer of a module, None if `LAYERS` has no place for it."""
    for number, places in LAYERS.items():
        for place in places:
            if name == place or name.startswith((place + ".", place + "_")):
                return number
    # A package that holds several layers, such as accounts, is a docstring only.
    holds_others = any(place.startswith(name + ".") for each in LAYERS.values() for place in each)
    return 0 if name == "" or holds_others else None


def imports(path: Path) -> Iterator[tuple[str, bool, bool]]:
    """Yield (dotted name, for types only, at module level) of every import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types: set[ast.AST] = set()
    in_functions: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            in_functions.update(ast.walk(node))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for_types.update(child for line in node.body for child in ast.walk(line))
    for node in ast.walk(tree):
        types_only, top = node in for_types, node not in in_functions
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, types_only, top
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                package = ["aiclient2api", *path.relative_to(PACKAGE).parts[:-1]]
                above = package[: len(package) - node.level + 1]
                origin = ".".join([*above, origin]).rstrip(".")
            for alias in node.names:
                yield f"{origin}.{alias.name}", types_only, top


def ours(name: str) -> str | None:
    """Return our module that an imported name belongs to, None if it isn't ours."""
    if name != "aiclient2api" and not name.startswith("aiclient2api."):
        return None
    below = name.removeprefix("aiclient2api").removeprefix(".")
    return below if below in MODULES else below.rpartition(".")[0]


def may_look(here: str, there: str) -> bool:
    """Say whether module *here* may import module *there*."""
    mine, other = layer(here), layer(there)
    if mine is None or other is None or here == "" or there == "":
        return there == ""
    if mine == other == 4:
        return there.rpartition(".")[2].startswith("_") or there == "providers"
    together = here.partition(".")[0] == there.partition(".")[0] and mine == other
    return together or other in LOOKS_AT[mine]


class LayersTests(SynchronousTestCase):
    """The import graph of the package."""

    def test_every_module_has_a_place(self) -> None:
        """A module that `LAYERS` does not name cannot slip in."""
        self.assertEqual([name for name in MODULES if layer(name) is None], [])

    def test_every_place_is_known_once(self) -> None:
        """No name stands in two layers."""
        places = [place for each in LAYERS.values() for place in each]
        self.assertEqual(len(places), len(set(places)))

    def test_nobody_looks_up(self) -> None:
        """Each module imports only from the layers below it, for types as well."""
        wrong = [
            f"{here} imports {there}"
            for here, path in MODULES.items()
            for name, _, _ in imports(path)
            if (there := ours(name)) is not None and not may_look(here, there)
        ]
        self.assertEqual(wrong, [])

    def test_the_middle_is_pure(self) -> None:
        """Layers 0 to 2 import no network code; they may name its types."""
        wrong = [
            f"{here} imports {name}"
            for here, path in MODULES.items()
            if layer(here) in PURE
            for name, types_only, _ in imports(path)
            if not types_only and f"{name}.".startswith(tuple(f"{edge}." for edge in EDGES))
        ]
        self.assertEqual(wrong, [])

    def test_only_tap_knows_the_reactor(self) -> None:
        """The reactor is imported by tap alone, and there inside a function."""
        seen = [
            (here, top)
            for here, path in MODULES.items()
            for name, _, top in imports(path)
            if name == REACTOR
        ]
        self.assertEqual([each for each in seen if each != ("tap", False)], [])

    def test_the_rules_bite(self) -> None:
        """A provider may not see web, another provider, the pool or the exchange."""
        for there in ("web.site", "providers.sandbox", "accounts.pool", "exchange", "tap"):
            self.assertFalse(may_look("providers.openai_custom", there), there)
        self.assertTrue(may_look("providers.openai_custom", "providers._base_url"))
        self.assertFalse(may_look("accounts.account", "accounts.pool"))
        self.assertFalse(may_look("web.api", "providers.sandbox"))
        self.assertFalse(may_look("exchange", "providers.sandbox"))
        self.assertTrue(may_look("tap", "providers.sandbox"))
