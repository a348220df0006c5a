"""
Whose pid file it is while one process takes over from another.

twistd writes the file before there is anything to take over, refuses to start beside one that
names a living process, and deletes it at its end whoever is named there by then. So the new
process begins with a name of its own. This file knows nothing of the gateway.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

SUFFIX = ".new"
"""What the name ends in until this process has taken over."""

_KEY = "pidfile"


class PidFile:
    """
    The pid file of a process that twistd runs.

    :param twistd: twistd's own options, which it looks at again when it ends.
    """

    def __init__(self, twistd: MutableMapping[str, Any]) -> None:
        self._twistd = twistd
        self._final: str | None = None

    def stand_by(self) -> None:
        """Use another name until `take`. To be called before twistd looks at it."""
        name = self._twistd.get(_KEY)
        if name:
            self._final = name
            self._twistd[_KEY] = name + SUFFIX

    def take(self) -> None:
        """
        Take the name that was the other process's.

        :raise OSError: if that cannot be done; then the file keeps its other name.
        """
        if self._final is not None:
            os.replace(self._final + SUFFIX, self._final)
            self._twistd[_KEY], self._final = self._final, None

    def leave(self) -> None:
        """Leave the file to the process that has taken over."""
        if self._twistd.get(_KEY):
            self._twistd[_KEY] = ""

    def restore(self) -> None:
        """Write it again: who wanted to take over has not, but may have taken the file."""
        name = self._twistd.get(_KEY)
        if name:
            with suppress(OSError), open(name, "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
