"""
The Containerfile, done line by line in an empty directory instead of an image.

The instructions run as they stand, but for three absolute directories and the port,
which are moved: a mapping of plain text, seen in `moved`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.installed import ROOT, free_port, fresh_clone, healthy, python_for, until

CONTAINERFILE = ROOT / "Containerfile"
DIRECTORIES = ("/opt/aiclient2api", "/var/lib/aiclient2api", "/src")
STEPS = {"WORKDIR", "COPY", "RUN", "USER", "ENV", "HEALTHCHECK", "CMD"}
NOTES = {"FROM", "VOLUME", "EXPOSE"}


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Containerfile as (word, rest), lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    pairs = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in pairs]


class ContainerTests(SynchronousTestCase):
    """``Containerfile``."""

    def setUp(self) -> None:
        """Make the empty directory, and a fresh clone to build from."""
        if os.getuid() != 0:
            raise SkipTest("only root can build for another user")
        python = python_for("nobody")
        if python is None:
            raise SkipTest("another user than root can run no Python of our version")
        self.image = Path(tempfile.mkdtemp(prefix="aiclient2api-"))
        self.addCleanup(shutil.rmtree, self.image, ignore_errors=True)
        self.image.chmod(0o755)
        self.port = free_port()
        self.context = Path(self.mktemp()).absolute()
        fresh_clone(self.context)
        # The image's own python3 is the first on its path; so is this one.
        first = self.image / "python"
        first.mkdir()
        (first / "python3").symlink_to(python)
        keep = {name: value for name, value in os.environ.items() if "AICLIENT2API" not in name}
        self.env = {**keep, "PATH": f"{first}:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.workdir = self.image
        self.user: int | None = None

    def moved(self, text: str) -> str:
        """Return an instruction with its directories and its port moved."""
        for directory in DIRECTORIES:
            text = re.sub(rf"(?<![\w/]){directory}(?![\w-])", str(self.image) + directory, text)
        return text.replace("3000", str(self.port))

    def run_line(self, arguments: list[str], *, seconds: int = 300) -> None:
        """Run one command of the file to its end; it must succeed."""
        done = subprocess.run(
            arguments,
            cwd=self.workdir,
            env=self.env,
            user=self.user,
            group=self.user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        self.assertEqual(done.returncode, 0, f"{arguments}\n{done.stdout}")

    def copy(self, rest: str) -> None:
        """Do a COPY from the build context, as the builder would."""
        *sources, target = rest.split()
        for source in sources:
            origin, goal = self.context / source, self.workdir / target
            if origin.is_dir():
                shutil.copytree(origin, goal, dirs_exist_ok=True)
                continue
            if target.endswith("/"):
                goal = goal / origin.name
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, goal)

    def build(self) -> tuple[list[str], list[str]]:
        """Follow the file; return the commands of HEALTHCHECK and of CMD."""
        health = command = None
        for word, rest in instructions(CONTAINERFILE.read_text()):
            self.assertIn(word, STEPS | NOTES, "an instruction this test does not know")
            rest = self.moved(rest)
            if word == "WORKDIR":
                self.workdir = Path(rest)
                self.workdir.mkdir(parents=True, exist_ok=True)
            elif word == "COPY":
                self.copy(rest)
            elif word == "RUN":
                self.run_line(["/bin/sh", "-c", rest])
            elif word == "USER":
                self.user = int(rest.partition(":")[0])
            elif word == "ENV":
                for pair in shlex.split(rest):
                    name, _, value = pair.partition("=")
                    self.env[name] = value
            elif word == "HEALTHCHECK":
                health = json.loads(rest.partition("CMD ")[2])
            elif word == "CMD":
                command = json.loads(rest)
        assert health is not None and command is not None
        return health, command

    def test_it_builds_and_runs(self) -> None:
        """The image builds from a fresh clone, and its command serves as another user."""
        health, command = self.build()
        out = (self.image / "log").open("w+")
        self.addCleanup(out.close)
        gateway = subprocess.Popen(
            command,
            cwd=self.workdir,
            env=self.env,
            user=self.user,
            group=self.user,
            extra_groups=(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )

        def end() -> None:
            if gateway.poll() is None:
                gateway.kill()
            gateway.wait()

        self.addCleanup(end)
        came_up = until(lambda: healthy(self.port) or gateway.poll() is not None)
        log = (self.image / "log").read_text()
        self.assertTrue(came_up and gateway.poll() is None, log)
        self.assertEqual(os.stat(f"/proc/{gateway.pid}").st_uid, self.user)
        self.run_line(health, seconds=10)

        keys = [path for path in self.workdir.iterdir() if "key" in path.name]
        self.assertEqual([path.stat().st_mode & 0o777 for path in keys], [0o600])
        self.assertIn(keys[0].read_text().strip(), log)

        gateway.send_signal(signal.SIGTERM)
        gateway.wait(timeout=20)
        # twistd stops in order, then dies of the signal it was sent (PID 1 cannot).
        self.assertIn(gateway.returncode, (0, -signal.SIGTERM))
        self.assertIn("Server Shut Down", (self.image / "log").read_text())

    def test_a_broken_line_is_seen(self) -> None:
        """This test would notice a RUN line that fails."""
        self.assertRaises(self.failureException, self.run_line, ["/bin/sh", "-c", "exit 3"])
