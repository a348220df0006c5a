"""
How much room there is in earnest: what is configured, within what the machine allows.

It must never know a request; `web.load` counts them.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from aiclient2api import footprint
from aiclient2api.config.settings import Limits
from aiclient2api.values import Clock
from aiclient2api.watermark import Watermark
from aiclient2api.web.load import Load

SPARE_FILES = 128
"""Open files that are no client's and no upstream's: logs, state, credentials."""


class Headroom:
    """
    The limits that the process lives by, from its start on.

    :param limits: Returns what is configured.
    :param relieve: Closes the connections on which nothing is asked; returns how many.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: Clock,
        load: Load,
        limits: Callable[[], Limits],
        relieve: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._files = self._share = 0
        self._watermark = Watermark(
            clock=clock,
            load=load,
            high=self.memory,
            resident=footprint.resident,
            relieve=relieve,
            collect=footprint.collect,
        )

    def start(self) -> None:
        """Find out what the machine allows, and watch memory from now on."""
        self._files = footprint.raise_file_limit()
        self._share = footprint.memory_allowed()
        wanted, most = self._limits().connections, self.connections()
        if most < wanted:
            self._log.warn(
                "The process may open {files} files: at most {most} connections are taken, not "
                "{wanted} (limits.connections). Raise its limit of open files (LimitNOFILE, "
                "ulimit -n).",
                files=self._files,
                most=most,
                wanted=wanted,
            )
        self._watermark.start()

    def stop(self) -> None:
        """Watch no more."""
        self._watermark.stop()

    def connections(self) -> int:
        """Return how many there may be; each request needs another one to an upstream."""
        limits = self._limits()
        if not self._files:
            return limits.connections
        most = max(self._files // 4, self._files - limits.in_flight - SPARE_FILES)
        return min(limits.connections or most, most)

    def memory(self) -> int:
        """Return the bytes from which on nothing new is begun; 0 is off."""
        marked = self._limits().memory_bytes
        return self._share if marked is None else marked
