"""
What processes cost, read from /proc: processor time and resident memory. Linux only.

It measures whatever it is pointed at, and ends only what `Child` started. It must never
know what a gateway is.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def listeners(port: int) -> set[int]:
    """Return the ids of the processes that listen on a TCP port, as far as we may see."""
    wanted = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _read(table).splitlines()[1:]:
            column = line.split()
            if column[3] == "0A" and int(column[1].rpartition(":")[2], 16) == port:
                wanted.add(f"socket:[{column[9]}]")
    return {
        int(link.parts[2]) for link in Path("/proc").glob("[0-9]*/fd/*") if _target(link) in wanted
    }


def tree(roots: Iterable[int]) -> set[int]:
    """Return *roots* and all their descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        if fields := _stat(entry):
            children.setdefault(int(fields[1]), []).append(int(entry.parts[2]))
    found: set[int] = set()
    left = list(roots)
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children.get(pid, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time, user and system, that *pids* have used."""
    stats = (_stat(Path(f"/proc/{pid}/stat")) for pid in pids)
    return sum(int(fields[11]) + int(fields[12]) for fields in stats if fields) / _TICK


def machine_seconds() -> float:
    """Return the processor time that the whole machine has spent working."""
    rows = (line.split() for line in _read("/proc/stat").splitlines() if re.match(r"cpu\d", line))
    return sum(sum(map(int, row[1:4])) + sum(map(int, row[6:9])) for row in rows) / _TICK


def resident_mb(pids: Iterable[int]) -> float:
    """Return the resident memory of *pids* in MiB."""
    found = (re.search(r"VmRSS:\s+(\d+)", _read(f"/proc/{pid}/status")) for pid in pids)
    return sum(int(match.group(1)) for match in found if match) / 1024


class Child:
    """
    One process that we started, and end.

    :param cores: The processor cores it may use; None: all.
    :param log: Where its output goes.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        cores: set[int] | None = None,
    ) -> None:
        self.log = log
        self.began = time.monotonic()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=None if env is None else dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),
            )

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Say whether it still runs."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """Return the end of what it said."""
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """End it: asked to first, then made to."""
        for number, patience in ((signal.SIGTERM, 12), (signal.SIGKILL, 5)):
            if self.alive:
                self._process.send_signal(number)
                try:
                    self._process.wait(patience)
                except subprocess.TimeoutExpired:
                    continue


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _stat(path: Path) -> list[str]:
    """Return the fields behind the name, which may itself hold spaces and brackets."""
    return _read(str(path)).rpartition(")")[2].split()


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
