"""The command line: check, version, help and what a typo gives."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import aiclient2api
from aiclient2api import __version__
from aiclient2api.cli import main
from tests.installed import free_port

PACKAGE = Path(aiclient2api.__file__).parent.parent


class CommandTests(SynchronousTestCase):
    """What a person types, and what comes back."""

    def setUp(self) -> None:
        """Work in an empty directory, far from any real configuration."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.patch(os, "environ", {"HOME": str(self.folder)})
        self.out, self.err = io.StringIO(), io.StringIO()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Be in the directory and keep what is printed."""
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(self.out),
            contextlib.redirect_stderr(self.err),
        ):
            yield

    def run_command(self, *arguments: str) -> int:
        """Run a command; return its exit status."""
        with self.inside():
            return main(arguments)

    def write(self, **config: object) -> str:
        """Write a configuration file; return its name."""
        (self.folder / "my.json").write_text(json.dumps(config))
        return "my.json"

    def test_version_and_help(self) -> None:
        """Both exit with 0; the help says what to type."""
        self.assertEqual(self.run_command("--version"), 0)
        self.assertIn(__version__, self.out.getvalue())
        self.assertEqual(self.run_command("--help"), 0)
        self.assertIn("aiclient2api check --config", self.out.getvalue())

    def test_the_options_of_run_are_told_without_starting_it(self) -> None:
        """Under the name that was typed."""
        self.assertEqual(self.run_command("run", "--help"), 0)
        self.assertIn("Usage: aiclient2api run [options]", self.out.getvalue())
        self.assertIn("--state-dir", self.out.getvalue())

    def test_a_command_that_is_none_is_a_usage_error(self) -> None:
        """With the usage, on standard error."""
        self.assertEqual(self.run_command("chekc"), 2)
        self.assertIn("'chekc'", self.err.getvalue())
        self.assertIn("Usage:", self.err.getvalue())

    def test_check_without_a_configuration(self) -> None:
        """The defaults are fine."""
        self.assertEqual(self.run_command("check"), 0)
        self.assertIn("sandbox", self.out.getvalue())
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_check_lists_every_fault(self) -> None:
        """All at once, with key paths, and a status that scripts can read."""
        timeouts = {"connect": "x", "conect": 1}
        name = self.write(port="abc", request_max_retries=-1, timeouts=timeouts)
        self.assertEqual(self.run_command("check", "--config", name), 1)
        shown = self.err.getvalue()
        for key in ("port", "request_max_retries", "timeouts.connect"):
            self.assertIn(key, shown)
        self.assertIn("3 faults", shown)
        self.assertIn("conect", shown)

    def test_check_shows_no_key(self) -> None:
        """Neither the callers' nor an account's."""
        name = self.write(required_api_key="caller-secret", openai_api_key="sk-test-secret")
        self.assertEqual(self.run_command("check", "--config", name), 0)
        shown = self.out.getvalue() + self.err.getvalue()
        self.assertNotIn("secret", shown)
        self.assertIn("openai-custom", shown)

    def test_check_of_a_missing_file_is_a_fault(self) -> None:
        """A file that was named has to be there."""
        self.assertEqual(self.run_command("check", "--config", "none.json"), 1)
        self.assertIn("none.json", self.err.getvalue())

    def test_a_flag_that_is_none_is_a_usage_error(self) -> None:
        """It is named, under the command that was typed."""
        for command in ("check", "run"):
            self.assertEqual(self.run_command(command, "--prot", "1"), 2)
            self.assertIn(f"aiclient2api {command}:", self.err.getvalue())
            self.assertIn("prot", self.err.getvalue())

    def test_accounts(self) -> None:
        """One is added, and listed, with the options of ``run`` anywhere."""
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = str(found.getsockname()[1])
        added = ("accounts", "add", "openai-custom", "--name", "mine", "--key", "sk-test-secret")
        self.assertEqual(self.run_command(*added), 0)
        self.assertEqual(self.run_command("accounts", "list", "--port", port), 0)
        shown = self.out.getvalue()
        self.assertIn("openai-custom", shown.splitlines()[-2])
        self.assertIn("mine", shown.splitlines()[-2])
        self.assertNotIn("secret", shown + self.err.getvalue())

    def test_what_other_commands_take(self) -> None:
        """Each has a help of its own, and refuses what it does not know."""
        for command in ("accounts", "explain", "login", "import"):
            self.assertEqual(self.run_command(command, "--help"), 0)
            self.assertIn(f"aiclient2api {command}", self.out.getvalue())
            self.assertEqual(self.run_command(command, "--prot", "1"), 2)
            self.assertIn(f"aiclient2api {command}:", self.err.getvalue())

    def test_run_lists_faults_as_check_does(self) -> None:
        """With the same exit status, and nothing started."""
        name = self.write(port="abc")
        self.assertEqual(self.run_command("run", "--config", name), 1)
        self.assertIn("port", self.err.getvalue())


class StartTests(SynchronousTestCase):
    """What only a real start shows."""

    def test_a_port_that_is_taken_is_said_in_one_line(self) -> None:
        """Not in a traceback; with what to do about it."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ended = subprocess.run(
                [sys.executable, "-m", "aiclient2api", "--port", str(port), "--state-dir", "state"],
                cwd=folder,
                env={**os.environ, "HOME": str(folder)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        self.assertEqual(ended.returncode, 1)
        self.assertIn(f"127.0.0.1:{port} is in use", ended.stderr)
        self.assertNotIn("Traceback", ended.stderr + ended.stdout)

    def test_a_crash_leaves_no_core_dump(self) -> None:
        """Not by a limit raised again, nor through a program that dumps are fed to."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        port = free_port()
        gateway = subprocess.Popen(
            [sys.executable, "-m", "aiclient2api", "--port", str(port), "--state-dir", "state"],
            cwd=folder,
            env={**os.environ, "HOME": str(folder), "PYTHONPATH": str(PACKAGE)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(gateway.wait, 30)
        self.addCleanup(gateway.kill)
        self.connected(port).close()
        limits = Path(f"/proc/{gateway.pid}/limits").read_text()
        self.assertRegex(limits, r"Max core file size +0 +0 +bytes")
        dumped = Path(f"/proc/{gateway.pid}/coredump_filter").read_text()
        self.assertEqual(int(dumped, 16), 0)

    def test_a_stop_lets_a_stream_finish(self) -> None:
        """SIGTERM in the middle of it: nobody new is let in, and the answer is whole."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        port = free_port()
        gateway = subprocess.Popen(
            [
                *(sys.executable, "-m", "aiclient2api"),
                *("--port", str(port), "--api-key", "k", "--state-dir", "state"),
            ],
            cwd=folder,
            env={**os.environ, "HOME": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(gateway.wait, 30)
        self.addCleanup(gateway.kill)
        body = b'{"model":"sandbox","stream":true,"messages":[{"role":"user","content":"hi"}]}'
        request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer k\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        with self.connected(port) as client:
            client.sendall(request)
            answer = client.recv(65536)
            gateway.send_signal(signal.SIGTERM)
            self.assertNotIn(b"[DONE]", answer)
            while piece := client.recv(65536):
                answer += piece
        self.assertIn(b"[DONE]", answer)
        self.assertTrue(answer.endswith(b"0\r\n\r\n"))
        self.assertIn(gateway.wait(30), (0, -signal.SIGTERM))
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port))

    def connected(self, port: int) -> socket.socket:
        """Connect as soon as somebody listens; give up after half a minute."""
        for _ in range(1500):
            with contextlib.suppress(ConnectionRefusedError):
                return socket.create_connection(("127.0.0.1", port), 30)
            time.sleep(0.02)
        self.fail("nobody listens")
