"""
Nothing here turns text into code, a command, an object or a query.

No sanitizing is needed where there is nothing to sanitize for. Read `ALLOWED` for the few
places that come near, and why.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PACKAGE = Path(__file__).resolve().parent.parent / "aiclient2api"

ALLOWED = {
    ("conversation/arguments.py", "literal_eval"): "reads literals only, and bounded ones",
    ("login_cli.py", "webbrowser"): "opens the vendor's login page for whoever typed 'login'",
}
"""By file and what it uses: the reason."""

QUERIES = {
    ("state/database.py", "statement"): "the tables' own definitions, a constant of the file",
    (
        "state/database.py",
        "f'SELECT {what} FROM entry WHERE {_NAMED} AND {_ALIVE}'",
    ): "*what* is one of two constants of its callers",
}
"""By file and statement: why it may be put together."""

_MODULES = """
code codeop commands ctypes dbm dill imp importlib jinja2 mako marshal multiprocessing pickle
popen2 pty runpy shelve subprocess webbrowser xml.sax xmlrpc yaml
"""
MODULES = frozenset(_MODULES.split())
"""Modules that make code, commands or objects of text."""

NAMES = frozenset(["__import__", "compile", "eval", "exec", "execfile"])
"""Built-in functions that do."""

_METHODS = """
execl execle execlp execlpe execv execve execvp execvpe fork forkpty popen posix_spawn
posix_spawnp spawnl spawnle spawnlp spawnlpe spawnv spawnve spawnvp spawnvpe startfile
spawnProcess getProcessOutput getProcessValue getProcessOutputAndValue namedAny namedModule
namedObject import_module run_module run_path literal_eval create_subprocess_exec
create_subprocess_shell enable_load_extension load_extension
"""
METHODS = frozenset(_METHODS.split())
"""Functions of modules, of the reactor and of connections that do; as ``x.name(...)``."""

_SYSTEM = "os.system"


def uses(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Return what of the above a file uses, and where."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{each.name}" for each in node.names)]
            for alias in node.names:
                if alias.name in METHODS | NAMES or names[0] + "." + alias.name == _SYSTEM:
                    yield alias.name, line
        else:
            names = []
        for name in names:
            if name in MODULES or name.partition(".")[0] in MODULES:
                yield name.partition(".")[0], line
                break
        if isinstance(node, ast.Name) and node.id in NAMES:
            yield node.id, line
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in METHODS or ast.unparse(node.func) == _SYSTEM:
                yield node.func.attr, line
            for keyword in node.keywords:
                if keyword.arg == "shell":
                    yield "shell=", line


def statements(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Return every SQL statement that something but a constant is put into, and where."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in ("execute", "executemany", "executescript") or not node.args:
            continue
        told = node.args[0]
        if isinstance(told, ast.Constant):
            continue
        if isinstance(told, ast.JoinedStr):
            put_in = [each.value for each in told.values if isinstance(each, ast.FormattedValue)]
            put_in = [each.args[0] if isinstance(each, ast.Call) else each for each in put_in]
            if all(isinstance(each, ast.Name) and each.id.isupper() for each in put_in):
                continue
        yield ast.unparse(told), node.lineno


TREES = {
    str(path.relative_to(PACKAGE)): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}


class NoExecutionTests(SynchronousTestCase):
    """The whole package, read."""

    def test_nothing_makes_code_or_commands_of_text(self) -> None:
        """No eval, no shell, no pickle, no template, in any file but those listed."""
        found = [
            f"{file}:{line}: {what}"
            for file, tree in TREES.items()
            for what, line in uses(tree)
            if (file, what) not in ALLOWED
        ]
        self.assertEqual(found, [])

    def test_every_exception_is_used(self) -> None:
        """One that is not any more is taken off the list."""
        for file, what in ALLOWED:
            self.assertIn(what, {name for name, _ in uses(TREES[file])}, file)

    def test_no_query_is_put_together(self) -> None:
        """Values go to the database beside a statement, never in it."""
        found = {(file, told) for file, tree in TREES.items() for told, _ in statements(tree)}
        self.assertEqual(found, set(QUERIES))

    def test_the_reading_would_notice(self) -> None:
        """Each way to do it is seen, wherever it stands."""
        for text in (
            "eval(x)",
            "def f():\n    return [exec(y) for y in z]",
            "__import__('os')",
            "f = compile",
            "import os\nos.system(x)",
            "import os.path, subprocess",
            "from subprocess import run",
            "from os import system",
            "from os import execv as go",
            "import pickle as p",
            "from yaml import load",
            "import xml.sax",
            "from importlib import import_module",
            "reactor.spawnProcess(x)",
            "run(x, y).popen(z)",
            "a.run(x, shell=True)",
            "connection.enable_load_extension(True)",
        ):
            self.assertTrue(list(uses(ast.parse(text))), text)
        for text in (
            "re.compile(x)",
            "json.loads(x)",
            "import os",
            "model.system",
            "import codecs",
        ):
            self.assertEqual(list(uses(ast.parse(text))), [], text)
        for text in ("c.execute(x)", "c.execute(f'{x}')", "c.execute('a' + b)"):
            self.assertTrue(list(statements(ast.parse(text))), text)
        for text in ("c.execute('a', (x,))", "c.execute(f'{_A} {len(_B)}')", "execute(x)"):
            self.assertEqual(list(statements(ast.parse(text))), [], text)
