"""
Run the gateway as the ``aiclient2api`` command does, and tell what it holds.

    soak_gateway.py SOCKET [options of aiclient2api run]

On the Unix socket SOCKET one line of JSON is written to whoever connects: how many
delayed calls, Deferreds, coroutines, relays and the like there are. Of the gateway itself
nothing is changed. Warnings are shown, each time, so that the log has them.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import sys
import warnings
from collections import Counter
from types import CoroutineType
from typing import Any

from twisted.internet import protocol

WATCHED = (
    "Deferred",
    "DelayedCall",
    "Relay",
    "Exchange",
    "Asking",
    "Meter",
    "Watcher",
    "Translation",
    "GatewayChannel",
    "GatewayRequest",
    "Line",
    "HTTP11ClientProtocol",
    "Failure",
    "coroutine",
)


class Teller(protocol.Protocol):
    """Tells, and hangs up. A line ``quiet`` beforehand lets it collect what is garbage."""

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        from twisted.internet import reactor

        world: Any = reactor
        if b"quiet" in data:
            gc.collect()
            # What was freed is the system's again, so that resident memory tells something.
            with contextlib.suppress(AttributeError, OSError):
                ctypes.CDLL(None).malloc_trim(0)
        objects = gc.get_objects()
        counts = Counter(
            "coroutine" if isinstance(each, CoroutineType) else type(each).__name__
            for each in objects
        )
        told = {name: counts[name] for name in WATCHED}
        told["blocks"] = sys.getallocatedblocks()
        told["objects"] = len(objects)
        told["delayed calls"] = len(world.getDelayedCalls())
        told["selectables"] = len(world.getReaders())
        # What is counted must not be what counts.
        del objects
        assert self.transport is not None
        self.transport.write(json.dumps(told).encode() + b"\n")
        self.transport.loseConnection()


def main() -> int:
    """Listen on the socket once the reactor runs, and run the gateway."""
    from twisted.internet import reactor

    from aiclient2api.cli import main as command

    warnings.simplefilter("always", ResourceWarning)
    warnings.simplefilter("always", RuntimeWarning)
    path, *arguments = sys.argv[1:]
    factory = protocol.Factory.forProtocol(Teller)
    factory.noisy = False
    world: Any = reactor
    world.callWhenRunning(lambda: world.listenUNIX(path, factory, mode=0o600))
    return command(["run", *arguments])


if __name__ == "__main__":
    sys.exit(main())
