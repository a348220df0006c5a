"""
The watch on memory: above a mark nothing new is begun, until it is below a lower one.

It must never know how memory is measured, nor what a request is.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from aiclient2api.state.timers import every
from aiclient2api.values import Clock
from aiclient2api.web.load import Load

SECONDS = 0.5
"""Between two looks."""

LOW = 0.9
"""The share of the high mark below which requests are taken again."""

CROWD = 50
"""So many requests under way at once are a crowd: when it has gone, its memory may go, too."""

LEFT = 0.25
"""The share of a crowd that may be left when it has gone."""

SETTLED = 8
"""Looks for which the rest of it is waited for."""


class Watermark:
    """
    One process's memory, looked at now and then.

    :param load: Told when to begin nothing new.
    :param high: Returns the high mark in bytes; 0 is off.
    :param resident: Returns the bytes that the process has.
    :param relieve: Closes the connections on which nothing is asked; returns how many.
    :param collect: Collects garbage, and gives memory that is free back to the machine.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: Clock,
        load: Load,
        high: Callable[[], int],
        resident: Callable[[], int],
        relieve: Callable[[], int],
        collect: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._load = load
        self._high = high
        self._resident = resident
        self._relieve = relieve
        self._collect = collect
        self._crowd = self._looks = 0
        self._looking: LoopingCall | None = None

    def start(self) -> None:
        """Look now, and again until stopped."""
        self._looking = every(self._clock, SECONDS, self.look)

    def stop(self) -> None:
        """Look no more."""
        looking, self._looking = self._looking, None
        if looking is not None and looking.running:
            looking.stop()

    def look(self) -> None:
        """Compare memory with the marks once."""
        load, high = self._load, self._high()
        if load.shedding:
            if high:
                # What ended meanwhile is free, but not given back by itself.
                self._collect()
            now = self._resident()
            if now < LOW * high or not high:
                load.shedding = False
                self._log.info(
                    "Memory is at {now} of {high} MiB; requests are taken again.",
                    now=now >> 20,
                    high=high >> 20,
                )
            return
        self._watch_crowd()
        now = self._resident()
        if not high or now <= high:
            return
        closed = self._relieve()
        self._collect()
        load.shedding = True
        self._log.warn(
            "Memory was at {now} MiB, over limits.memory_bytes ({high} MiB): {count} requests"
            " under way go on, nothing new is begun; {closed} idle connections were closed.",
            now=now >> 20,
            high=high >> 20,
            count=load.in_flight,
            closed=closed,
        )

    def _watch_crowd(self) -> None:
        """
        Give memory back once many requests have come and gone.

        Connections that were cut stand in cycles with what was not sent to them, and
        Python would look for such only after much more has been made.
        """
        under_way = self._load.in_flight
        self._crowd = max(self._crowd, under_way)
        if self._crowd >= CROWD and under_way <= LEFT * self._crowd:
            self._crowd = under_way
            self._looks = SETTLED
        elif self._looks:
            self._looks -= 1
            if not self._looks:
                self._collect()
