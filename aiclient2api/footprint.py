"""
What this process takes of the machine, and what it may: memory and open files.

Linux tells in /proc and /sys; where it does not, there is no limit that we know. It must
never know what the limits are for.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path

OF_A_GROUP = 0.8
"""The share of a control group's memory that we take: the kernel kills at all of it."""

OF_A_MACHINE = 0.5
"""The share of a machine's memory that we take: it is there for others, too."""

MOST_FILES = 65536
"""As many open files as anybody may want."""

_NO_LIMIT = 2**60
_ROOT = Path("/")


def resident() -> int:
    """Return the bytes of memory that this process has; 0 if nobody tells."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def memory_allowed(root: Path = _ROOT) -> int:
    """
    Return the bytes that this process should not go over, 0 if nobody tells.

    That is a share of its control group's limit, or of the memory of the machine,
    whichever is less.

    :param root: Where /proc and /sys are.
    """
    machine = _meminfo(root / "proc" / "meminfo")
    shares = [OF_A_MACHINE * machine, *(OF_A_GROUP * each for each in _groups(root))]
    return int(min((share for share in shares if share), default=0))


def raise_file_limit(most: int = MOST_FILES) -> int:
    """Let this process open as many files as its hard limit allows; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return most if soft == resource.RLIM_INFINITY else soft


def collect() -> None:
    """Collect what nobody refers to, and give free memory back to the kernel."""
    gc.collect()
    if _trim is not None:
        _trim(0)


def _meminfo(path: Path) -> int:
    for line in _read(path).splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0]) * 1024
    return 0


def _groups(root: Path) -> list[int]:
    """Return the limits of our control group and of all that it is in."""
    found = []
    mount = root / "sys" / "fs" / "cgroup"
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0":
            base, name = mount, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = mount / "memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be the host's, and not be there.
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), -1, -1):
            text = _read(base.joinpath(*parts[:depth], name)).strip()
            if text.isdigit() and int(text) < _NO_LIMIT:
                found.append(int(text))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        # Only the GNU library has it.
        return None
    return trim


_PAGE = os.sysconf("SC_PAGE_SIZE")
_trim = _malloc_trim()
