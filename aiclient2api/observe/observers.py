"""
One observer that stands for many, so that an exchange tells just one.

It knows nothing of what they do with what they are told.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from zope.interface import implementer

from aiclient2api.errors import UpstreamError
from aiclient2api.interfaces import IExchangeObserver
from aiclient2api.values import ExchangeRecord, Outcome


@implementer(IExchangeObserver)
class Observers:
    """
    Tells each of several observers in turn.

    One that raises breaks its contract: it is logged, and neither the exchange nor
    the other observers notice. The exception's own words are kept out of the log, for
    they may quote a prompt.
    """

    _log = Logger()

    def __init__(self, *observers: IExchangeObserver) -> None:
        self._observers = observers

    @property
    def wants_text(self) -> bool:
        """Return whether one of them wants the answer's text."""
        return any(each.wants_text for each in self._observers)

    def began(self, exchange: ExchangeRecord) -> None:
        self._tell("began", lambda each: each.began(exchange=exchange))

    def attempt(self, exchange: ExchangeRecord, error: UpstreamError | None) -> None:
        self._tell("attempt", lambda each: each.attempt(exchange=exchange, error=error))

    def first_byte(self, exchange: ExchangeRecord) -> None:
        self._tell("first_byte", lambda each: each.first_byte(exchange=exchange))

    def ended(self, exchange: ExchangeRecord, outcome: Outcome) -> None:
        self._tell("ended", lambda each: each.ended(exchange=exchange, outcome=outcome))

    def _tell(self, event: str, call: Callable[[IExchangeObserver], None]) -> None:
        for each in self._observers:
            try:
                call(each)
            except Exception as error:
                self._log.error(
                    "The observer {observer} failed when told of {event}: {error} at {where}.",
                    observer=type(each).__qualname__,
                    event=event,
                    error=type(error).__qualname__,
                    where=_origin(error),
                )


def _origin(error: BaseException) -> str:
    """Return file and line where *error* was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
