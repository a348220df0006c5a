"""
The init script as it is, with the real start-stop-daemon and another user than root.

Everything it touches is moved below a temporary directory by its own defaults file.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.installed import (
    ROOT,
    as_user,
    free_port,
    healthy,
    install,
    is_installed,
    python_for,
    until,
)

SCRIPT = ROOT / "etc" / "init.d" / "aiclient2api"
USER = "nobody"
PID_NAME = "gateway.pid"


@functools.cache
def prefix() -> Path:
    """
    Install the gateway once for all tests here, where `USER` can run it.

    :raise SkipTest: saying what is missing.
    """
    if os.getuid() != 0:
        raise SkipTest("only root can run an init script")
    if shutil.which("start-stop-daemon") is None:
        raise SkipTest("there is no start-stop-daemon (Debian: apt install dpkg)")
    if not is_installed():
        raise SkipTest("aiclient2api is not installed here; run bin/test")
    python = python_for(USER)
    if python is None:
        raise SkipTest(f"{USER} can run no Python of our version")
    directory = Path(tempfile.mkdtemp(prefix="aiclient2api-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    directory.chmod(0o755)
    install(directory / "opt", python=python)
    return directory


def alive(pid: int) -> bool:
    """Say whether a process is there, dead ones that nobody waited for left out."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


class InitScriptTests(SynchronousTestCase):
    """``etc/init.d/aiclient2api``."""

    def setUp(self) -> None:
        """Write a configuration and a defaults file."""
        opt = prefix() / "opt"
        self.here = Path(tempfile.mkdtemp(dir=prefix()))
        self.here.chmod(0o755)
        self.port = free_port()
        self.config = self.here / "config.json"
        self.pidfile = self.here / "run" / PID_NAME
        self.log = self.here / "log" / "gateway.log"
        self.state = self.here / "state"
        self.settings = {
            "USER": USER,
            "DAEMON": f"{opt}/bin/twistd",
            "CHECK": f"{opt}/bin/aiclient2api",
            "CONFIG": str(self.config),
            "STATE_DIR": str(self.state),
            "PIDFILE": str(self.pidfile),
            "LOGFILE": str(self.log),
            "STOP_WAIT": "TERM/20/KILL/5",
        }
        self.set()
        self.configure(host="127.0.0.1", port=self.port, required_api_key="sk-test")
        self.addCleanup(self.end_it)

    def end_it(self) -> None:
        """Leave no process behind, whatever failed."""
        if self.pidfile.exists() and self.pid_text().isdigit():
            pid = int(self.pid_text())
            if alive(pid) and self.owner(pid) == USER:
                os.kill(pid, signal.SIGKILL)

    def set(self, **settings: str) -> None:
        """Write the defaults file, with these set otherwise."""
        lines = [f"{name}='{value}'\n" for name, value in {**self.settings, **settings}.items()]
        (self.here / "default").write_text("".join(lines))

    def configure(self, **config: object) -> None:
        """Write the gateway's configuration."""
        self.config.write_text(json.dumps(config))

    def run_script(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the script as root's init would."""
        return subprocess.run(
            [str(SCRIPT), *arguments],
            env={"AICLIENT2API_DEFAULTS": str(self.here / "default")},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def expect(self, action: str, code: int) -> str:
        """Run one action, check its exit code, and return all it said."""
        done = self.run_script(action)
        said = done.stdout + done.stderr
        log = self.log.read_text() if self.log.exists() else "(no log)"
        self.assertEqual(done.returncode, code, f"{action}: {said}\n{log}")
        return said

    def pid_text(self) -> str:
        """Return what stands in the pid file."""
        return self.pidfile.read_text().strip()

    def owner(self, pid: int) -> str:
        """Return the user a process runs as."""
        return pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_name

    def test_a_day_in_its_life(self) -> None:
        """Start, status, start, reload, restart, stop, stop: each code, each effect."""
        self.expect("status", 3)
        self.expect("reload", 7)
        self.expect("upgrade", 7)
        self.expect("start", 0)
        first = int(self.pid_text())
        self.assertTrue(healthy(self.port))
        self.assertEqual(self.owner(first), USER)
        self.assertEqual(self.pidfile.owner(), USER)
        self.assertIn(str(first), self.expect("status", 0))

        self.expect("start", 0)
        self.assertEqual(int(self.pid_text()), first)

        self.configure(host="127.0.0.1", port=self.port, required_api_key=["sk-test", "sk-two"])
        self.expect("reload", 0)
        self.assertTrue(until(lambda: "was reloaded" in self.log.read_text()))
        self.expect("force-reload", 0)
        self.assertTrue(healthy(self.port))
        self.assertEqual(int(self.pid_text()), first)

        self.expect("restart", 0)
        second = int(self.pid_text())
        self.assertNotEqual(second, first)
        self.assertTrue(until(lambda: not alive(first)))
        self.assertTrue(healthy(self.port))
        self.assertEqual(sorted(path.name for path in self.pidfile.parent.iterdir()), [PID_NAME])
        self.assertIn(str(second), self.expect("status", 0))
        self.expect("upgrade", 0)
        first, second = second, int(self.pid_text())
        self.assertNotEqual(second, first)
        self.assertTrue(until(lambda: not alive(first)))
        self.assertEqual(int(self.pid_text()), second)

        self.expect("stop", 0)
        self.assertFalse(alive(second))
        self.assertFalse(self.pidfile.exists())
        self.expect("stop", 0)
        self.expect("status", 3)
        self.expect("try-restart", 0)
        self.expect("status", 3)

    def test_what_it_writes_is_its_own(self) -> None:
        """Log and state belong to the gateway's user, and nobody else can read them."""
        self.settings["EXTRA_ARGS"] = "--log-level debug"
        self.set()
        self.configure(host="127.0.0.1", port=self.port)
        self.expect("start", 0)
        for path in (self.log, self.state, *self.state.iterdir()):
            try:
                found = path.stat()
            except FileNotFoundError:
                # SQLite's journal comes and goes with each transaction.
                self.assertTrue(path.name.endswith("-journal"), path)
                continue
            self.assertEqual(pwd.getpwuid(found.st_uid).pw_name, USER, path)
            self.assertEqual(found.st_mode & 0o077, 0, path)
        rotated = self.log.rename(self.log.with_suffix(".1"))
        os.kill(int(self.pid_text()), signal.SIGUSR1)
        self.assertTrue(until(self.log.exists))
        self.expect("stop", 0)
        self.assertIn("listens on", rotated.read_text())

    def test_a_stale_pid_file_is_no_obstacle(self) -> None:
        """A pid file of a dead process, of someone else's, or of nonsense: it starts."""
        self.pidfile.parent.mkdir()
        gone = subprocess.Popen(["true"])
        gone.wait()
        for text, code in ((str(gone.pid), 1), (str(os.getpid()), 1), ("nonsense", 4)):
            self.pidfile.write_text(text)
            self.expect("status", code)
        self.expect("stop", 0)
        self.pidfile.write_text(str(os.getpid()))
        self.expect("start", 0)
        self.assertNotEqual(self.pid_text(), str(os.getpid()))
        self.assertTrue(healthy(self.port))
        self.expect("stop", 0)

    def test_a_port_that_is_taken_is_told(self) -> None:
        """With the port taken, start says so, fails, and leaves nothing behind."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", self.port))
            other.listen()
            said = self.expect("start", 1)
            self.assertIn(f"127.0.0.1:{self.port}", said)
            self.assertIn(str(self.log), said)
            self.assertFalse(self.pidfile.exists())
            self.expect("status", 3)
        self.expect("start", 0)
        self.expect("stop", 0)

    def test_a_bad_configuration_changes_nothing(self) -> None:
        """Faults are printed with code 6, and what runs goes on running."""
        self.expect("start", 0)
        pid = self.pid_text()
        self.configure(host="127.0.0.1", port="no port")
        for action in ("reload", "restart", "try-restart", "force-reload"):
            self.assertIn("port", self.expect(action, 6))
        self.assertEqual(self.pid_text(), pid)
        self.assertTrue(healthy(self.port))
        self.config.unlink()
        self.assertIn(str(self.config), self.expect("restart", 6))
        self.expect("stop", 0)
        self.expect("start", 6)

    def test_a_new_process_that_cannot_start_changes_nothing(self) -> None:
        """A port that is taken ends the new one; the old one serves on, and keeps its pid file."""
        self.expect("start", 0)
        pid = self.pid_text()
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            ports = (self.port, other.getsockname()[1])
            listen = [f"tcp:{port}:interface=127.0.0.1" for port in ports]
            self.configure(listen=listen, required_api_key="sk-test")
            for action in ("restart", "upgrade"):
                self.assertIn("goes on", self.expect(action, 1))
        self.assertEqual(self.pid_text(), pid)
        self.assertTrue(healthy(self.port))
        self.assertEqual([path.name for path in self.pidfile.parent.iterdir()], [PID_NAME])
        (self.state / "hand-over").unlink()
        self.assertIn("restart", self.expect("upgrade", 1))
        self.configure(host="127.0.0.1", port=self.port, required_api_key="sk-test")
        self.expect("restart", 0)
        self.assertNotEqual(self.pid_text(), pid)
        self.expect("stop", 0)

    def test_the_other_codes(self) -> None:
        """2 is bad usage, 4 not root, 5 not installed or no such user."""
        self.assertIn("Usage", self.run_script().stderr)
        self.expect("dance", 2)
        self.set(DAEMON="/nowhere/twistd")
        self.expect("start", 5)
        self.expect("stop", 0)
        self.set(USER="no-such-user")
        self.expect("start", 5)
        script = shutil.copy(SCRIPT, self.here / "script")
        for action in ("start", "stop", "restart", "reload"):
            done = as_user(USER, str(script), action)
            self.assertEqual(done.returncode, 4, done.stderr)


class StaticTests(SynchronousTestCase):
    """What can be said of the files in ``etc`` without running them."""

    def test_scripts_parse(self) -> None:
        """Every shell script is one for a POSIX shell."""
        scripts = [SCRIPT, ROOT / "etc/default/aiclient2api", *sorted((ROOT / "bin").iterdir())]
        for script in (*scripts, ROOT / ".ci/run"):
            done = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_defaults_are_those_of_the_script(self) -> None:
        """The defaults file shows in comments what the script does without it."""
        script = SCRIPT.read_text().splitlines()
        shown = [
            line[1:]
            for line in (ROOT / "etc/default/aiclient2api").read_text().splitlines()
            if line.startswith("#") and "=" in line and line[1].isupper()
        ]
        self.assertGreater(len(shown), 6)
        self.assertEqual([line for line in shown if line not in script], [])

    def test_logrotate_takes_its_file(self) -> None:
        """logrotate finds nothing wrong with its configuration."""
        if shutil.which("logrotate", path="/usr/sbin:/usr/bin") is None:
            raise SkipTest("there is no logrotate")
        text = (ROOT / "etc/logrotate.d/aiclient2api").read_text()
        copy = Path(self.mktemp())
        copy.write_text(text.replace("su aiclient2api aiclient2api", "su root root"))
        copy.chmod(0o644)
        done = subprocess.run(
            ["logrotate", "--debug", "--state", self.mktemp(), str(copy)],
            env={"PATH": "/usr/sbin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("error", done.stderr)

    def test_systemd_takes_its_unit(self) -> None:
        """systemd-analyze finds nothing wrong with the unit."""
        if shutil.which("systemd-analyze") is None:
            raise SkipTest("there is no systemd-analyze")
        text = (ROOT / "etc/systemd/aiclient2api.service").read_text()
        listening = (ROOT / "etc/systemd/aiclient2api.socket").read_text()
        unit = Path(self.mktemp()) / "aiclient2api.service"
        unit.parent.mkdir()
        unit.with_suffix(".socket").write_text(listening)
        text = text.replace("/opt/aiclient2api/bin/", "/bin/").replace("/bin/twistd", "/bin/true")
        unit.write_text(text.replace("/bin/aiclient2api ", "/bin/true "))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(unit), str(unit.with_suffix(".socket"))],
            capture_output=True,
            text=True,
        )
        about_us = [line for line in done.stderr.splitlines() if "aiclient2api" in line]
        self.assertEqual((done.returncode, about_us), (0, []), done.stderr)
