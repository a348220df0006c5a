"""
A copy of the installed gateway that another user can run, for the deployment tests.

The environment the tests run in may lie where only its owner may look (root's home).
What ``requirements/run.txt`` lists and the gateway itself are copied out of it, and two
scripts stand in for those that pip would write. It knows nothing of any one test.
"""

from __future__ import annotations

import errno
import pwd
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "run.txt"

_SCRIPT = """\
#!{python} -s
import sys
sys.path[:0] = [{library!r}]
from {module} import {function}
sys.exit({function}())
"""


def locked(lock: Path = LOCK) -> list[str]:
    """Return the names that a lock file pins."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    return [line.partition("==")[0] for line in lines if "==" in line and line[0].isalnum()]


def python_for(user: str) -> str | None:
    """
    Return a Python of our own version that *user* can run, None if there is none.

    :param user: A user other than ours; we must be root.
    """
    version = f"python3.{sys.version_info.minor}"
    usual = [f"{place}/{version}" for place in ("/usr/bin", "/usr/local/bin")]
    for python in (str(Path(sys.executable).resolve()), *usual):
        try:
            trial = as_user(user, python, "-c", "import ctypes, ssl, sqlite3")
        except OSError:
            continue
        if trial.returncode == 0:
            return python
    return None


def as_user(user: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as *user* from ``/``."""
    return subprocess.run(
        command,
        user=user,
        group=pwd.getpwnam(user).pw_gid,
        extra_groups=(),
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def install(prefix: Path, *, python: str) -> None:
    """
    Put ``bin/twistd`` and ``bin/aiclient2api`` below *prefix*, with all they need.

    :raise PackageNotFoundError: if the gateway is not installed: run ``bin/test``.
    """
    library = prefix / "lib"
    for name in ("aiclient2api", *locked()):
        if name == "setuptools":
            continue
        for path in distribution(name).files or ():
            if ".." in path.parts:
                continue
            copy = library / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(str(path.locate())), copy)
    scripts = {
        "twistd": ("twisted.scripts.twistd", "run"),
        "aiclient2api": ("aiclient2api.cli", "main"),
    }
    for name, (module, function) in scripts.items():
        script = prefix / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(
            _SCRIPT.format(python=python, library=str(library), module=module, function=function)
        )
        script.chmod(0o755)
    # Twisted writes its plugin caches where only we may.
    twistd = [str(prefix / "bin" / "twistd"), "aiclient2api", "--help"]
    subprocess.run(twistd, cwd="/", stdout=subprocess.DEVNULL, check=True)


def fresh_clone(to: Path) -> None:
    """Copy what a clone of the checkout would hold, changes not yet committed included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        junk = shutil.ignore_patterns(".*_cache", ".venv*", "_trial_temp*", "__pycache__", "build")
        shutil.copytree(ROOT, to, ignore=junk)
        return
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def is_installed() -> bool:
    """Say whether the gateway is installed where we run, and not merely on the path."""
    try:
        files = distribution("aiclient2api").files or []
    except PackageNotFoundError:
        return False
    return any(path.as_posix() == "aiclient2api/values.py" for path in files)


def free_port(host: str = "127.0.0.1") -> int:
    """
    Return a port that nobody listens on.

    Nor does anybody who takes what the system gives: it gives none of these by itself, so
    that the port is still free when it is wanted.

    :raise OSError: if this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = random.SystemRandom().randrange(20000, 32768)
        with socket.socket(family) as probe:
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port


def until(holds: Callable[[], bool], *, seconds: float = 20.0) -> bool:
    """Ask again and again whether something holds; say whether it did in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def healthy(port: int) -> bool:
    """Say whether a gateway answers ``/health`` on *port* of 127.0.0.1."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
