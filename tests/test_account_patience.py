"""An account with patience of its own, beside others that have the configuration's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiclient2api.accounts.account import Law
from aiclient2api.accounts.pool import Rules
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.exchange import Patience, Way
from aiclient2api.providers.openai_custom import openai_custom as FACTORY
from aiclient2api.testing import MemoryResponse, one_account
from tests.test_failover import SSE, FailoverCase, well


def reset() -> UpstreamError:
    """Return a connection that broke, which is worth another try."""
    return UpstreamError("no", fault=Fault.RESET, status=502)


class AccountPatienceTests(FailoverCase):
    """Retries and clocks of one account."""

    def patient(
        self,
        answers: Sequence[MemoryResponse | Exception | None],
        *patience: Mapping[str, float],
    ) -> Way:
        """Return a provider with an account for each *patience*, asked in this order."""
        way = self.way("one", answers)
        listed = [
            one_account(
                "one",
                FACTORY.settings(openai_api_key=f"sk-{n}", openai_base_url="http://127.0.0.1:1/v1"),
                id=f"one-{n}",
                priority=-n,
                patience=own,
            )
            for n, own in enumerate(patience)
        ]
        self.pools["one"].adopt(listed, Rules(law=Law(faults=1)))
        return way

    def test_one_is_asked_once_and_another_as_often_as_is_configured(self) -> None:
        """``max_retries: 0`` holds for its account; the next one has the configuration's."""
        way = self.patient([reset() for _ in range(3)] + [well()], {"max_retries": 0}, {})
        done = self.exchange(way, patience=Patience(max_retries=2, base_delay=0.1, wait=0.0))
        self.clock.pump([0.1, 0.2])
        self.assert_served(done, "one one-1")
        self.assertEqual(self.asked("one"), ["one-0"] + ["one-1"] * 3)

    def test_one_is_asked_more_often_than_is_configured(self) -> None:
        """Its own retries after its own delay, where the configuration has none."""
        own = {"max_retries": 2, "base_delay": 4.0}
        way = self.patient([reset(), reset(), well()], own)
        done = self.exchange(way, patience=Patience(max_retries=0, base_delay=0.1, wait=0.0))
        self.clock.advance(3.9)
        self.assertEqual(self.asked("one"), ["one-0"])
        self.clock.pump([0.1, 7.9])
        self.assertEqual(self.asked("one"), ["one-0"] * 2)
        self.clock.advance(0.1)
        self.assert_served(done, "one one-0")

    def test_its_own_clock_for_headers(self) -> None:
        """One is given up after its own time, the next one has the time of the configuration."""
        way = self.patient([None, None], {"response_headers": 2.0}, {})
        done = self.exchange(way, patience=Patience(response_headers=60.0, wait=0.0))
        self.clock.advance(1.9)
        self.assertEqual(self.asked("one"), ["one-0"])
        self.clock.advance(0.1)
        self.assertEqual(self.asked("one"), ["one-0", "one-1"])
        self.clock.advance(59)
        self.upstreams["one"].sent[1].reply(well())
        self.assert_served(done, "one one-1")

    def test_its_own_clock_for_the_first_event(self) -> None:
        """A stream that does not begin is given up after the time of its account."""
        silent = MemoryResponse(200, SSE, [], end=None)
        way = self.patient([silent, None], {"first_event": 3.0, "max_retries": 0}, {})
        done = self.exchange(way, patience=Patience(first_event=0.0, idle=0.0, wait=0.0))
        self.clock.advance(3)
        self.assertTrue(silent.aborted)
        self.clock.advance(0)
        self.upstreams["one"].sent[1].reply(well())
        self.assert_served(done, "one one-1")

    def test_the_exchange_ends_when_it_ends(self) -> None:
        """However patient an account is, the total clock of the configuration counts."""
        way = self.patient([None], {"response_headers": 0.0, "first_event": 0.0, "idle": 0.0})
        done = self.exchange(way, patience=Patience(total=5.0, wait=0.0))
        self.clock.advance(5)
        self.assertEqual(self.error_of(done).status, 504)
