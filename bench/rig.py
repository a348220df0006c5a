"""
What every measurement stands on: the C tools, the fake provider, a gateway before it.

Everything is on 127.0.0.1, on ports that were free, in a temporary folder that is gone
afterwards; what was started is ended. It must never know what is measured.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import processes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
KEY = "sk-bench"


def installed() -> bool:
    """Say whether this Python has an aiclient2api of its own."""
    return importlib.util.find_spec("aiclient2api") is not None


def measured() -> str:
    """Return which gateway is measured, for the head of a report."""
    where = "installed" if installed() else "checkout"
    version = ".".join(map(str, sys.version_info[:3]))
    return f"aiclient2api ({where}), Python {version}, {os.cpu_count()} cores"


def cores() -> tuple[set[int], set[int]]:
    """Return the cores of the gateway, and those of the provider and the generator."""
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[0]}, {allowed[-1]}


class Rig(contextlib.ExitStack):
    """
    The bench itself; use it in a ``with`` statement.

    :param upstream_port: Where the fake provider listens; 0: on some free port.
    :ivar folder: Temporary.
    :ivar tool_cores: Of all that is no gateway.
    """

    def __init__(self, upstream_port: int = 0) -> None:
        super().__init__()
        if upstream_port and processes.listeners(upstream_port):
            raise SystemExit(f"bench: port {upstream_port} is taken; end what listens there.")
        self.upstream_port = upstream_port or free_port()
        self._gateway_cores, self.tool_cores = cores()
        self.folder = Path(tempfile.mkdtemp(prefix="aiclient2api-bench-"))
        self.callback(shutil.rmtree, self.folder, ignore_errors=True)
        # What is begun must end, also if the rest of this cannot be done.
        with contextlib.ExitStack() as unless_ready:
            unless_ready.callback(self.close)
            self._build("fakeup")
            self._build("loadgen")
            command = [str(self.folder / "fakeup"), "-p", str(self.upstream_port)]
            log = self.folder / "fakeup.log"
            upstream = processes.Child(command, log=log, cores=self.tool_cores)
            self.callback(upstream.stop)
            wait_until_healthy(self.upstream_port, upstream)
            unless_ready.pop_all()

    def home(self) -> Path:
        """Return a new folder for a gateway's files."""
        return Path(tempfile.mkdtemp(prefix="gateway-", dir=self.folder))

    def gateway(
        self,
        *,
        pycache: Path | None = None,
        home: Path | None = None,
        config: Mapping[str, object] | None = None,
    ) -> tuple[processes.Child, int, float]:
        """
        Start our gateway in front of the fake provider.

        :param pycache: Where compiled bytecode is looked for and kept.
        :param home: Where its files are, from an earlier start too; None: in a new folder.
        :param config: What stands in its configuration besides.
        :return: The process, its port, and the seconds until ``/health`` was answered.
        """
        port = free_port()
        home = self.home() if home is None else home
        settings = {**self._config(port, home), **(config or {})}
        (home / "config.json").write_text(json.dumps(settings))
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.lower().endswith("_proxy") and not name.startswith("AICLIENT2API_")
        }
        environ["HOME"] = str(home)
        if not installed():
            environ["PYTHONPATH"] = str(ROOT)
        if pycache is not None:
            environ.pop("PYTHONDONTWRITEBYTECODE", None)
            environ["PYTHONPYCACHEPREFIX"] = str(pycache)
        child = processes.Child(
            [sys.executable, "-m", "aiclient2api", "--config", str(home / "config.json")],
            log=home / "log",
            cwd=home,
            env=environ,
            cores=self._gateway_cores,
        )
        self.callback(child.stop)
        wait_until_healthy(port, child)
        return child, port, time.monotonic() - child.began

    def load(self, *options: str, port: int, seconds: float) -> dict[str, Any]:
        """
        Run the load generator against a port.

        :param seconds: After which it is given up.
        :return: What it counted, by its own names.
        """
        command = [str(self.folder / "loadgen"), "-a", f"127.0.0.1:{port}", *options]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, self.tool_cores),
        )
        counted: dict[str, Any] = json.loads(done.stdout)
        return counted

    def _build(self, tool: str) -> None:
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise SystemExit("bench: a C compiler is needed; on Debian: apt install gcc libc6-dev")
        source, target = HERE / f"{tool}.c", self.folder / tool
        subprocess.run([compiler, "-O2", "-w", "-o", target, source], check=True)

    def _config(self, port: int, home: Path) -> Mapping[str, object]:
        url = f"http://127.0.0.1:{self.upstream_port}"
        return {
            "listen": [f"tcp:{port}:interface=127.0.0.1"],
            "required_api_key": KEY,
            "model_provider": "openai-custom",
            "openai_api_key": "sk-upstream",
            "openai_base_url": f"{url}/v1",
            "claude_api_key": "sk-upstream",
            "claude_base_url": url,
            "gemini_api_key": "sk-upstream",
            "gemini_api_base_url": url,
            "state_dir": str(home / "state"),
        }


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def healthy(port: int, path: str = "/health") -> bool:
    """Say whether *path* is answered with a 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until_healthy(port: int, child: processes.Child, seconds: float = 60) -> None:
    """
    Ask for ``/health`` until it is answered.

    :raise SystemExit: if the process ends first, or time runs out.
    """
    while not healthy(port):
        if not child.alive or time.monotonic() - child.began > seconds:
            raise SystemExit(f"bench: it did not start:\n{child.last_words()}")
        time.sleep(0.005)
