"""
What a user gets: a fresh clone that starts by itself, and an install with nothing missing.
"""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from aiclient2api import __version__
from tests.installed import ROOT, fresh_clone, is_installed, locked, until

PROVIDERS = [
    "claude-custom",
    "claude-kiro-oauth",
    "gemini-cli-oauth",
    "gemini-custom",
    "openai-custom",
    "openai-qwen-oauth",
    "openaiResponses-custom",
    "sandbox",
]

# What bin/aiclient2api runs besides Python.
TOOLS = ("sh", "dirname", "find", "flock", "mkdir", "readlink", "sha256sum", "sort", "xargs")

# In pieces, so that this file does not hold what it forbids.
FORBIDDEN = [
    re.compile(pattern)
    for pattern in (
        r"GOC" r"SPX-",
        r"/work" r"/",
        r"\.\./sha" r"red",
        r"file:///" r"opt",
        r"\bsk-[A-Za-z0-9_-]{2" r"4,}",
        r"\bAI" r"za[A-Za-z0-9_-]{30}",
        r"\bya" r"29\.[A-Za-z0-9_-]{20}",
        r"\bgh" r"[pousr]_[A-Za-z0-9]{30}",
    )
]


class FreshCloneTests(SynchronousTestCase):
    """``bin/aiclient2api`` on a machine that has only Python."""

    def setUp(self) -> None:
        """Clone; nothing is installed yet."""
        top = Path(tempfile.mkdtemp(prefix="aiclient2api-"))
        self.addCleanup(shutil.rmtree, top, ignore_errors=True)
        self.clone = top / "a clone"
        fresh_clone(self.clone)
        self.elsewhere = top / "elsewhere"
        self.elsewhere.mkdir()
        # A link is how people put it on their path.
        self.command = self.elsewhere / "gateway"
        self.command.symlink_to(self.clone / "bin" / "aiclient2api")

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command from another directory, in a process group of its own."""
        return subprocess.Popen(
            [str(self.command), *arguments],
            cwd=self.elsewhere,
            env={name: value for name, value in os.environ.items() if "AICLIENT2API" not in name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def version(self) -> str:
        """Run ``--version`` to its end; return what the script said besides."""
        return self.finish(self.begin("--version"))

    def finish(self, started: subprocess.Popen[str]) -> str:
        """Await a ``--version``; return what the script said besides."""
        out, err = started.communicate(timeout=300)
        self.assertEqual((started.returncode, out), (0, f"aiclient2api {__version__}\n"), err)
        return err

    def test_the_life_of_a_clone(self) -> None:
        """
        An install that is killed is done again; two starts at once install once; the
        next start installs nothing; after a change of the sources the new code runs,
        and a module that was deleted is gone.
        """
        venv = self.clone / ".venv"
        killed = self.begin("--version")
        self.assertTrue(until((venv / "bin" / "pip").exists, seconds=60))
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()

        said = [self.finish(each) for each in (self.begin("--version"), self.begin("--version"))]
        self.assertEqual("".join(said).count("installing aiclient2api"), 1, said)

        self.assertEqual(self.version(), "")
        left = {path.name for path in self.clone.iterdir()} - {path.name for path in ROOT.iterdir()}
        self.assertEqual(left - {".venv", ".venv.lock"}, set())
        self.assertEqual([path.name for path in self.elsewhere.iterdir()], ["gateway"])

        package = next(venv.glob("lib/python3.*/site-packages/aiclient2api"))
        extra = self.clone / "aiclient2api" / "extra.py"
        extra.write_text('"""Nothing."""\n')
        self.assertNotIn("installing what", self.version())
        self.assertTrue((package / "extra.py").exists())
        extra.unlink()
        self.assertIn("installing aiclient2api", self.version())
        self.assertFalse((package / "extra.py").exists())
        self.assertEqual(self.version(), "")

    def test_without_a_usable_python_it_says_so(self) -> None:
        """An old Python, or one that cannot make environments, is named with the remedy."""
        old = self.elsewhere / "python3"
        places = "/usr/sbin:/usr/bin:/sbin:/bin"
        for code, remedy in (("exit 1", "3.11"), ('case "$*" in *ensurepip*) exit 1; esac', "apt")):
            old.write_text(f"#!/bin/sh\n{code}\n")
            old.chmod(0o755)
            # Only these commands are there: no other Python to fall back to.
            tools = self.elsewhere / "tools"
            shutil.rmtree(tools, ignore_errors=True)
            tools.mkdir()
            for name in TOOLS:
                found = shutil.which(name, path=places)
                if found is not None:
                    (tools / name).symlink_to(found)
            done = subprocess.run(
                [str(self.command)],
                env={"PATH": str(tools), "PYTHON": str(old)},
                capture_output=True,
                text=True,
            )
            self.assertEqual(done.returncode, 1)
            self.assertIn(remedy, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)


class InstalledTests(SynchronousTestCase):
    """The installed package, seen from ``/`` with the checkout out of sight."""

    def setUp(self) -> None:
        """There must be one."""
        if not is_installed():
            raise SkipTest("aiclient2api is not installed here; run bin/test")

    def see(self, *command: str) -> str:
        """Run a command of the environment from ``/``; return what it printed."""
        done = subprocess.run(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def python(self, *lines: str) -> list[str]:
        """Run Python lines isolated from the checkout; return the list they print."""
        found = ast.literal_eval(self.see("python3", "-I", "-c", "\n".join(lines)))
        assert isinstance(found, list)
        return found

    def test_every_file_is_there(self) -> None:
        """Modules and data files are those of the checkout, none missing, none old."""
        installed = self.python(
            "import aiclient2api, pathlib",
            "top = pathlib.Path(aiclient2api.__file__).parent",
            "files = (p for p in top.rglob('*') if p.is_file() and p.suffix != '.pyc')",
            "print([str(p.relative_to(top)) for p in files if p.name != 'dropin.cache'])",
        )
        package = ROOT / "aiclient2api"
        ours = [path for path in package.rglob("*") if path.is_file()]
        names = [str(path.relative_to(package)) for path in ours if path.suffix != ".pyc"]
        self.assertEqual(
            sorted(installed), sorted(name for name in names if "dropin.cache" not in name)
        )

    def test_every_module_imports(self) -> None:
        """No module needs what only the tests install."""
        failed = self.python(
            "import importlib, pkgutil, aiclient2api",
            "failed = []",
            "for found in pkgutil.walk_packages(aiclient2api.__path__, 'aiclient2api.'):",
            "    try:",
            "        importlib.import_module(found.name)",
            "    except Exception as error:",
            "        failed.append(f'{found.name}: {error!r}')",
            "print(failed)",
        )
        self.assertEqual(failed, [])

    def test_the_plugins_are_exactly_these(self) -> None:
        """Every built-in provider is found: a plugin whose import fails would be skipped."""
        names = self.python(
            "import aiclient2api.providers",
            "from aiclient2api.interfaces import IProviderFactory",
            "from twisted.plugin import getPlugins",
            "print([each.name for each in getPlugins(IProviderFactory, aiclient2api.providers)])",
        )
        self.assertEqual(sorted(names), PROVIDERS)

    def test_every_way_to_start(self) -> None:
        """``twistd`` lists it once; ``aiclient2api`` and ``python -m`` are the same."""
        listed = [line.split() for line in self.see("twistd", "--help").splitlines()]
        self.assertEqual([line[0] for line in listed if line].count("aiclient2api"), 1)
        for option in ("--config", "--listen", "--state-dir"):
            self.assertIn(option, self.see("twistd", "aiclient2api", "--help"))
        shown = self.see("aiclient2api", "--help")
        self.assertIn("check", shown)
        self.assertEqual(self.see("python3", "-m", "aiclient2api", "--help"), shown)


class RepositoryTests(SynchronousTestCase):
    """What lies in the repository."""

    def pins(self, lock: str) -> dict[str, str]:
        """Return the text of each requirement in a lock, hashes included."""
        text = (ROOT / "requirements" / lock).read_text()
        blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
        return {block.partition("==")[0]: block for block in blocks if "==" in block}

    def test_locks_are_whole(self) -> None:
        """Each pin has the hashes of a wheel and an sdist at least; no index is named."""
        for lock in ("run.txt", "test.txt"):
            pins = self.pins(lock)
            self.assertGreater(len(pins), 10)
            few = [name for name, block in pins.items() if block.count("--hash=sha256:") < 2]
            self.assertEqual(few, [])
            lines = (ROOT / "requirements" / lock).read_text().splitlines()
            odd = [line for line in lines if line.startswith("-") or "://" in line or " @ " in line]
            self.assertEqual(odd, [])

    def test_locks_agree(self) -> None:
        """The tests run with the very versions that users get."""
        run, test = self.pins("run.txt"), self.pins("test.txt")
        versions = {name: block.split()[0] for name, block in run.items()}
        self.assertEqual(versions, {name: test[name].split()[0] for name in versions})

    def test_the_lock_covers_what_we_need(self) -> None:
        """Every requirement in setup.cfg, and what builds the package, is pinned."""
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        pinned = locked()
        self.assertEqual(self.missing(setup["options"]["install_requires"], pinned), [])
        self.assertIn("setuptools", pinned)
        everything = locked(ROOT / "requirements" / "test.txt")
        for extra in setup["options.extras_require"].values():
            self.assertEqual(self.missing(extra, everything), [])

    def missing(self, wanted: str, pinned: Sequence[str]) -> list[str]:
        """Return the requirements, one a line, that are not pinned."""
        names = re.findall(r"^[A-Za-z0-9._-]+", wanted, flags=re.MULTILINE)
        assert names
        return [name for name in names if name.lower().replace(".", "-") not in pinned]

    def test_nothing_private_is_in_it(self) -> None:
        """No file holds a credential, or a path of the machine it was written on."""
        clone = Path(self.mktemp())
        fresh_clone(clone)
        found = []
        for path in clone.rglob("*"):
            if path.is_file():
                text = path.read_bytes().decode("utf-8", "replace")
                found += [f"{path}: {each.pattern}" for each in FORBIDDEN if each.search(text)]
        self.assertEqual(found, [])

    def test_the_licence_is_the_gpl(self) -> None:
        """The text and the name of the licence agree."""
        self.assertIn("Version 3, 29 June 2007", (ROOT / "LICENSE").read_text())
        self.assertIn("license = GPL-3.0-or-later\n", (ROOT / "setup.cfg").read_text())
