"""
Calls that are made again and again, whatever becomes of each.

``LoopingCall`` stops for ever after its first failing call, and says so to nobody.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from aiclient2api.values import Clock

_log = Logger()


def every(clock: Clock, seconds: float, call: Callable[[], object]) -> LoopingCall:
    """
    Make a call now and then each so many seconds, until the result is stopped.

    While a call that returned a Deferred is under way, no other is made.

    :param call: What it raises is logged and does not end the series.
    """

    def once() -> object:
        return maybeDeferred(call).addErrback(_failed)

    def _failed(failure: Failure) -> None:
        # Its words may quote anything.
        kind, name = type(failure.value).__qualname__, getattr(call, "__qualname__", "a call")
        _log.error("{name} failed: {kind}. This is a bug.", name=name, kind=kind)

    loop = LoopingCall(once)
    loop.clock = clock
    loop.start(seconds)
    return loop
