"""
No core dumps: what a crash would leave on a disk holds every key and every prompt.

Linux's finer way, ``PR_SET_DUMPABLE``, is not gone: it gives the process's entries in
``/proc`` to root, and ``start-stop-daemon --user`` and monitors know a process by them.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

FILTER = Path("/proc/self/coredump_filter")
"""Which memory a dump would hold. A dump that a program is fed knows no limit but this."""


def forbid() -> None:
    """Let this process and its children leave no core dump; for good, where that is possible."""
    if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):
        # A sandbox may not allow it; then the gateway is better than no gateway.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        FILTER.write_text("0")
