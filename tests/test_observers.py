"""
Many observers told as one.
"""

from __future__ import annotations

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.interfaces import IExchangeObserver
from aiclient2api.observe.observers import Observers
from aiclient2api.testing import MemoryObserver
from aiclient2api.values import ExchangeRecord, Outcome

RECORD = ExchangeRecord("x1", "me", None, "p", "m", 0.0)
OUTCOME = Outcome(how="complete", seconds=1.0)
BROKEN = UpstreamError("The upstream broke; try again.", fault=Fault.SERVER, status=502)


@implementer(IExchangeObserver)
class Grumpy:
    """An observer that breaks its contract."""

    wants_text = False

    def began(self, exchange: ExchangeRecord) -> None:
        raise ValueError("a prompt of mine")

    def attempt(self, exchange: ExchangeRecord, error: UpstreamError | None) -> None:
        raise ValueError("a prompt of mine")

    def first_byte(self, exchange: ExchangeRecord) -> None:
        raise ValueError("a prompt of mine")

    def ended(self, exchange: ExchangeRecord, outcome: Outcome) -> None:
        raise ValueError("a prompt of mine")


def tell_everything(observer: IExchangeObserver) -> None:
    """Tell of one exchange from beginning to end."""
    observer.began(exchange=RECORD)
    observer.attempt(exchange=RECORD, error=BROKEN)
    observer.first_byte(exchange=RECORD)
    observer.ended(exchange=RECORD, outcome=OUTCOME)


class ObserversTests(SynchronousTestCase):
    """`Observers`."""

    def test_it_is_an_observer(self) -> None:
        """It has all that the contract asks for."""
        verifyObject(IExchangeObserver, Observers())

    def test_each_is_told_everything(self) -> None:
        """Every observer hears of every step, with what belongs to it."""
        first, second = MemoryObserver(), MemoryObserver()
        tell_everything(Observers(first, second))
        for each in (first, second):
            self.assertEqual(each.told, ["began", "attempt", "first_byte", "ended"])
            self.assertEqual((each.errors, each.outcomes), ([BROKEN], {"x1": OUTCOME}))

    def test_text_is_collected_if_one_wants_it(self) -> None:
        """The answer's text is asked for only when somebody reads it."""
        quiet, reader = MemoryObserver(), MemoryObserver(wants_text=True)
        self.assertFalse(Observers().wants_text)
        self.assertFalse(Observers(quiet).wants_text)
        self.assertTrue(Observers(quiet, reader).wants_text)

    def test_one_that_raises_disturbs_nobody(self) -> None:
        """The others are told all the same; the log says who, when and where, no more."""
        after = MemoryObserver()
        with capturedLogs() as events:
            tell_everything(Observers(Grumpy(), after))
        self.assertEqual(after.told, ["began", "attempt", "first_byte", "ended"])
        self.assertEqual([each["event"] for each in events], after.told)
        for each in events:
            self.assertEqual((each["observer"], each["error"]), ("Grumpy", "ValueError"))
            self.assertIn("test_observers.py:", each["where"])
            self.assertNotIn("a prompt of mine", str(each))
