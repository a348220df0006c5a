"""
Incidents of gateways like this one, held against what the program is made of.

What a package brings along, what it can start, and what it can be made to evaluate. Each
test names its incident; the table in ``docs/security.md`` names each test. What a running
gateway does is in `test_incidents`.
"""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Unauthorized
from aiclient2api.web.keys import Keyring
from tests.installed import ROOT, fresh_clone, locked
from tests.state_files import FileStoreFixture
from tests.test_layers import MODULES, layer

STARTERS = re.compile(
    r"(subprocess|multiprocessing|pty|commands|concurrent\.futures\.process|twisted\.internet\.utils)"
    r"(\..*)?|os\.(system|popen|exec\w+|spawn\w+|posix_spawn\w*|startfile|fork\w*)"
    r"|asyncio\.create_subprocess\w*"
)
"""Names of what starts a program."""
STARTING_METHODS = ("spawnProcess",)

EVALUATORS = ("eval", "exec", "compile", "__import__")
"""Built-in functions that run a text."""
EVALUATING = re.compile(
    r"(pickle|marshal|shelve|dill|code|codeop|runpy|importlib|jinja2|mako|yaml|chevron"
    r"|string\.Template|twisted\.web\.template|twisted\.persisted)(\..*)?"
)
"""Modules that run, build or fill in what a text says."""

SAMPLE = """
import os, subprocess as s
from os import execv
from jinja2 import Template
import pickle
def f(x, log, reactor):
    eval(x); __import__(x); os.system(x); reactor.spawnProcess(x)
    x.format(1); "{}".format(x); log.info(x); log.info("{x}", x=x)
    cursor.execute("SELECT " + x); cursor.execute(f"SELECT {x}"); cursor.execute("SELECT 1")
    cursor.execute("SELECT * FROM t WHERE a LIKE ?", x)
"""
"""What the searches below must find."""


@cache
def parsed(name: str) -> ast.Module:
    """Return a module of the package."""
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def reached() -> Iterator[tuple[str, ast.Module]]:
    """Yield the modules that a request can reach: all but those that start the program."""
    for name in MODULES:
        if (layer(name) or 0) < 7:
            yield name, parsed(name)


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted name of everything that is imported, and each attribute of a module."""
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules[alias.asname or alias.name] = alias.name
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{modules.get(node.value.id, '')}.{node.attr}"


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call, with the last word of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield f".{node.func.attr}", node
            elif isinstance(node.func, ast.Name):
                yield node.func.id, node


def starts(tree: ast.Module) -> list[str]:
    """Return what in a module starts a program."""
    found = [name for name in imported(tree) if STARTERS.fullmatch(name)]
    return found + [name for name, _ in calls(tree) if name.lstrip(".") in STARTING_METHODS]


def evaluates(tree: ast.Module) -> list[str]:
    """Return what in a module runs a text, or fills one in."""
    found = [name for name in imported(tree) if EVALUATING.fullmatch(name)]
    return found + [name for name, _ in calls(tree) if name in EVALUATORS]


def formats(tree: ast.Module) -> list[int]:
    """Return the lines on which a text is filled in that does not stand in the source."""
    wrong, written = [], Written(tree)
    for name, call in calls(tree):
        if not isinstance(call.func, ast.Attribute):
            continue
        whose = ast.unparse(call.func.value)
        if name in (".format", ".format_map") and whose != "msgspec.json":
            told = call.func.value
        elif whose in ("_log", "self._log", "log") and call.args:
            told = call.args[0]
        else:
            continue
        if not written(told):
            wrong.append(call.lineno)
    return wrong


def statements(tree: ast.Module) -> Iterator[tuple[int, ast.expr]]:
    """Yield what is executed in a database."""
    for name, call in calls(tree):
        if name in (".execute", ".executemany", ".executescript", ".runQuery", ".runOperation"):
            yield call.lineno, call.args[0]


class Written:
    """
    Which expressions of a module are constant: written by us, whatever is asked for.

    Constants of the module, loops over them, and parameters that are given constants only.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._names = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name) and target.id.isupper()
        }

    def __call__(self, told: ast.expr) -> bool:
        """Say whether an expression is constant."""
        if isinstance(told, ast.Constant):
            return True
        if isinstance(told, ast.JoinedStr):
            return all(map(self, told.values))
        if isinstance(told, ast.FormattedValue):
            return self(told.value)
        if isinstance(told, ast.Call):
            return isinstance(told.func, ast.Name) and told.func.id == "len" and self(told.args[0])
        if isinstance(told, ast.Subscript):
            return self(told.value)
        if isinstance(told, ast.Name):
            return told.id in self._names or self._looped(told.id) or self._given(told.id)
        return False

    def _looped(self, name: str) -> bool:
        loops = [
            node.iter
            for node in ast.walk(self._tree)
            if isinstance(node, ast.For)
            and isinstance(node.target, ast.Name)
            and node.target.id == name
        ]
        return bool(loops) and all(map(self, loops))

    def _given(self, name: str) -> bool:
        """Say whether *name* is a parameter of a private function that is given constants."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("_"):
                names = [each.arg for each in node.args.args]
                if name in names:
                    at = names.index(name) - (names[0] == "self")
                    given = [c.args[at] for n, c in calls(self._tree) if n.lstrip(".") == node.name]
                    return bool(given) and all(isinstance(each, ast.Constant) for each in given)
        return False


class SupplyChainTests(SynchronousTestCase):
    """LiteLLM 1.82.7 and 1.82.8 on PyPI: what was installed was not what was published."""

    def test_the_wheel_is_the_source_and_nothing_else(self) -> None:
        """LiteLLM on PyPI: each file of the artifact is one of the repository, byte for byte."""
        clone, out = Path(self.mktemp()), Path(self.mktemp()).absolute()
        fresh_clone(clone)
        out.mkdir()
        build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
        subprocess.run(
            [sys.executable, "-c", build, str(out)],
            cwd=clone,
            check=True,
            capture_output=True,
            timeout=300,
        )
        (path,) = out.iterdir()
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
            about = {name for name in names if name.split("/")[0].endswith(".dist-info")}
            code = sorted(set(names) - about)
            for name in code:
                self.assertEqual(wheel.read(name), (ROOT / name).read_bytes(), name)
            (entry,) = [name for name in about if name.endswith("/entry_points.txt")]
            started = configparser.ConfigParser()
            started.read_string(wheel.read(entry).decode())
        ours = [
            str(path.relative_to(clone))
            for top in ("aiclient2api", "twisted")
            for path in (clone / top).rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        ]
        self.assertEqual(code, sorted(ours))
        self.assertEqual(
            {name.partition("/")[2] for name in about},
            {
                "METADATA",
                "RECORD",
                "WHEEL",
                "entry_points.txt",
                "licenses/LICENSE",
                "top_level.txt",
            },
        )
        self.assertEqual(
            {section: dict(started[section]) for section in started.sections()},
            {"console_scripts": {"aiclient2api": "aiclient2api.cli:main"}},
        )

    def test_nothing_runs_when_an_interpreter_starts(self) -> None:
        """LiteLLM on PyPI: no dependency has a ``.pth`` file but the one that is well known."""
        found = {
            name: [file.name for file in distribution(name).files or () if file.suffix == ".pth"]
            for name in locked()
        }
        found = {name: files for name, files in found.items() if files}
        # Its reason: https://setuptools.pypa.io/en/latest/deprecated/distutils-legacy.html
        self.assertEqual(found, {"setuptools": ["distutils-precedence.pth"]})
        clone = Path(self.mktemp())
        fresh_clone(clone)
        self.assertEqual([*clone.rglob("*.pth"), *clone.rglob("*customize.py")], [])

    def test_twisted_is_one_that_was_mended(self) -> None:
        """twisted.web: no version with a hole that is known may be installed."""
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        (wanted,) = re.findall(
            r"^twisted\[tls\]>=([\d.]+)$", setup["options"]["install_requires"], re.M
        )
        self.assertGreaterEqual(tuple(map(int, wanted.split("."))), (24, 7))
        pinned = re.findall(
            r"^twisted==([\d.]+)", (ROOT / "requirements/run.txt").read_text(), re.M
        )
        self.assertGreaterEqual(tuple(map(int, pinned[0].split("."))), (24, 7))


class CodeTests(SynchronousTestCase):
    """What a request can reach."""

    def test_no_program_is_started(self) -> None:
        """CVE-2026-42271: nothing that a request reaches can start a program at all."""
        found = {name: starts(tree) for name, tree in reached()}
        self.assertEqual({name: names for name, names in found.items() if names}, {})

    def test_nothing_is_evaluated(self) -> None:
        """CVE-2024-4264, -5751, -6825: no text is ever run, nor an object made from bytes."""
        found = {name: evaluates(tree) for name, tree in reached()}
        self.assertEqual({name: names for name, names in found.items() if names}, {})

    def test_nothing_is_a_template(self) -> None:
        """CVE-2026-42203, CVE-2024-2952: only texts that stand in the source are filled in."""
        found = {name: formats(tree) for name, tree in reached()}
        self.assertEqual({name: lines for name, lines in found.items() if lines}, {})

    def test_forwarded_addresses_are_not_read(self) -> None:
        """CLIProxyAPI a6cb16bb: there is no code that could believe such a header."""
        believed = re.compile(r"forwarded|x-real-ip|client-ip|proxy_protocol", re.IGNORECASE)
        found = [
            f"{name}:{node.lineno}"
            for name, tree in reached()
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and believed.search(
                node.value.decode("latin-1") if isinstance(node.value, bytes) else str(node.value)
            )
        ]
        self.assertEqual(found, [])

    def test_the_searches_find_what_they_look_for(self) -> None:
        """A search that finds nothing anywhere proves nothing."""
        tree = ast.parse(SAMPLE)
        self.assertEqual(
            set(starts(tree)), {"subprocess", "os.execv", "os.system", ".spawnProcess"}
        )
        self.assertEqual(set(evaluates(tree)), {"jinja2.Template", "pickle", "eval", "__import__"})
        self.assertEqual(formats(tree), [8, 8])
        written = Written(tree)
        self.assertEqual(
            [written(told) for _, told in statements(tree)], [False, False, True, True]
        )
        self.assertEqual(len(list(reached())) > 100, True)


class SqlTests(SynchronousTestCase):
    """What a database is asked."""

    def executed(self) -> Iterator[tuple[str, ast.expr, Written]]:
        """Yield each statement of the whole program, with where it stands."""
        for name in MODULES:
            tree = parsed(name)
            for line, told in statements(tree):
                yield f"{name}:{line}", told, Written(tree)

    def test_every_statement_is_constant(self) -> None:
        """CVE-2026-42208, CVE-2024-5225: what is asked for is a parameter, never a part of it."""
        found = list(self.executed())
        self.assertGreater(len(found), 15)
        self.assertEqual([where for where, told, written in found if not written(told)], [])
        self.assertEqual({where.partition(":")[0] for where, *_ in found}, {"state.database"})

    def test_nothing_is_looked_for_by_a_pattern(self) -> None:
        """CVE-2026-25591: no LIKE, nor its kin, anywhere."""
        tree = parsed("state.database")
        patterns = re.compile(r"\b(LIKE|GLOB|REGEXP|MATCH|SIMILAR)\b")
        found = [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and patterns.search(node.value)
        ]
        self.assertEqual(found, [])
        self.assertTrue(patterns.search("a LIKE ?"))


HOSTILE = (
    "' OR '1'='1",
    "'; DROP TABLE entry; --",
    '" OR ""="',
    "x' UNION SELECT value FROM entry --",
    "\\'; DELETE FROM entry; --",
    "%",
    "_",
    "%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%a",
    "[a-z]*",
    "\0",
    "\ud800",
    "' || (SELECT group_concat(value) FROM entry) || '",
    "Ａ＇ OR １=１",
    "9" * 5000,
)
"""What a caller may write where a name is expected."""


class HostileNameTests(FileStoreFixture):
    """Such names in the real store."""

    async def test_names_are_values(self) -> None:
        """CVE-2026-42208, CVE-2026-25591: each finds what is called just so, and nothing else."""
        self.limit(total=10_000_000, one=10_000)
        self.put("mine", b"secret")
        for name in HOSTILE:
            for owner in (name, "o"):
                self.assertIsNone(await self.store.get(namespace="n", owner=owner, key=name))
                self.assertFalse(await self.store.delete(namespace="n", owner=owner, key=name))
            self.assertEqual(await self.store.scan(namespace="n", owner=name), {})
            self.store.put(namespace="n", owner=name, key=name, value=b"theirs", ttl=None)
        await self.done()
        for name in HOSTILE:
            self.assertEqual(await self.store.scan(namespace="n", owner=name), {name: b"theirs"})
            self.assertTrue(await self.store.delete(namespace="n", owner=name, key=name))
        await self.done()
        self.assertEqual(self.rows("value"), [b"secret"])

    async def test_a_key_is_compared_and_not_looked_up(self) -> None:
        """CVE-2026-42208: who calls is known without a database, whatever is presented."""
        ring = Keyring(["a-key"])
        for name in HOSTILE:
            error = self.assertRaises(Unauthorized, ring.who, presented=[name, f"a-key{name}"])
            self.assertNotIn(name, str(error))
        self.assertNotIn("state", {each.split(".")[0] for each in self.imports_of("web.keys")})

    def imports_of(self, name: str) -> set[str]:
        """Return what of ours a module imports."""
        tree = parsed(name)
        names = {each for each in imported(tree) if each.startswith("aiclient2api.")}
        return {each.removeprefix("aiclient2api.") for each in names}
