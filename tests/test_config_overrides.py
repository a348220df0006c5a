"""
What an account says for itself alone of the keys that config.json has for all.
"""

from __future__ import annotations

import sys
from typing import Any

import attrs

from aiclient2api.config.keys import ACCOUNT_KEYS, KEYS, TIMEOUT_KEYS
from aiclient2api.exchange import Patience
from aiclient2api.values import Account
from tests.config_fakes import ConfigTestCase

FOR_ONE = {"request_max_retries", "request_base_delay", "timeouts"}
"""Keys of both files that are about patience."""


class OverrideTests(ConfigTestCase):
    """Retries and clocks of a single account."""

    def accounts(self, *entries: dict[str, Any], warned: int = 0) -> tuple[Account, ...]:
        """Load accounts of one provider, each with a key of its own, and so many warnings."""
        told = [{"OPENAI_API_KEY": f"sk-{at}", **entry} for at, entry in enumerate(entries)]
        found = self.load(pools={"openai-custom": told})
        self.assertEqual(len(found.warnings), warned, found.warnings)
        return found.providers["openai-custom"].accounts

    def test_all_that_holds_for_one(self) -> None:
        """Each is taken under the name the exchange has for it, delays in seconds."""
        (account,) = self.accounts(
            {
                "request_max_retries": 7,
                "request_base_delay": 250,
                "timeouts": {"response_headers": 5, "first_event": 2.5, "idle": 0},
            }
        )
        patience = attrs.evolve(Patience(total=900.0), **dict[str, Any](account.patience))
        self.assertEqual(
            patience,
            Patience(
                max_retries=7,
                base_delay=0.25,
                response_headers=5.0,
                first_event=2.5,
                idle=0.0,
                total=900.0,
            ),
        )
        self.assertIsInstance(patience.max_retries, int)

    def test_any_spelling(self) -> None:
        """Snake case, capitals and camel case are one key here as well, numbers may be quoted."""
        found = self.accounts(
            {"REQUEST_MAX_RETRIES": 1, "REQUEST_BASE_DELAY": 10, "TIMEOUTS": {"FIRST_EVENT": 4}},
            {"requestMaxRetries": "1", "requestBaseDelay": 10, "timeouts": {"firstEvent": "4"}},
            {"request_max_retries": 1, "request_base_delay": 10.0, "Timeouts": {"first_event": 4}},
        )
        wanted = {"max_retries": 1, "base_delay": 0.01, "first_event": 4.0}
        self.assertEqual([account.patience for account in found], [wanted] * 3)

    def test_nothing_said_is_nothing_overridden(self) -> None:
        """What is absent or null is left to config.json, zeros are said; each by itself."""
        found = self.accounts(
            {},
            {"REQUEST_MAX_RETRIES": None, "timeouts": None},
            {"timeouts": {"idle": None}},
            {"requestMaxRetries": 0, "request_base_delay": 0, "timeouts": {"idle": 0}},
            {"timeouts": {"_comment": "slow", "idle": 9}},
        )
        self.assertEqual(
            [account.patience for account in found],
            [{}, {}, {}, {"max_retries": 0, "base_delay": 0.0, "idle": 0.0}, {"idle": 9.0}],
        )

    def test_the_configuration_is_for_the_others(self) -> None:
        """An account's own values change nothing for all, and those for all are not copied."""
        body = {"request_max_retries": 4, "timeouts": {"idle": 44}}
        entries = [
            {"OPENAI_API_KEY": "sk-a", "REQUEST_MAX_RETRIES": 0, "timeouts": {"idle": 1}},
            {"OPENAI_API_KEY": "sk-b"},
        ]
        found = self.load(body, pools={"openai-custom": entries})
        one, other = found.providers["openai-custom"].accounts
        self.assertEqual((found.max_retries, found.timeouts.idle), (4, 44.0))
        self.assertEqual((one.patience, other.patience), ({"max_retries": 0, "idle": 1.0}, {}))
        self.assertEqual(found.warnings, ())

    def test_the_account_of_the_shared_keys_has_none(self) -> None:
        """What config.json says for all is the gateway's patience, and no account's."""
        found = self.load({"openai_api_key": "sk-a", "request_max_retries": 4})
        (account,) = found.providers["openai-custom"].accounts
        self.assertEqual(account.patience, {})

    def test_clocks_that_are_for_all(self) -> None:
        """Those that are no account's are warned of, each by its place, and the rest holds."""
        given = {key.name: 8 for key in TIMEOUT_KEYS}
        entries = [{"OPENAI_API_KEY": "sk-a", "TIMEOUTS": given}]
        found = self.load(pools={"openai-custom": entries})
        (account,) = found.providers["openai-custom"].accounts
        own = {"response_headers", "first_event", "idle"}
        self.assertEqual(account.patience, dict.fromkeys(own, 8.0))
        self.assertEqual(len(found.warnings), len(given) - len(own))
        for name in set(given) - own:
            where = f"provider_pools.json: openai-custom[0].TIMEOUTS.{name}: "
            self.assertWarned(found, where, "no effect in an account", "config.json")

    def test_a_clock_nobody_knows(self) -> None:
        """A slip within an account's clocks is told with the one that was meant."""
        entries = [{"OPENAI_API_KEY": "sk-a", "timeouts": {"first_evnt": 5}}]
        found = self.load(pools={"openai-custom": entries})
        where = "provider_pools.json: openai-custom[0].timeouts."
        self.assertWarned(found, where, '"first_evnt"', '"first_event"?')

    def test_keys_that_are_for_the_gateway(self) -> None:
        """All other keys of config.json are warned of in an account, and have no effect there."""
        taken = FOR_ONE | {key.name for key in ACCOUNT_KEYS}
        idle = [key.name for key in KEYS if key.name not in taken]
        self.assertIn("port", idle)
        (account,) = self.accounts(dict.fromkeys(idle, "x"), warned=len(idle))
        self.assertEqual(account.patience, {})

    def test_faults_are_told_together(self) -> None:
        """Every wrong value of every account, by its place, beside those of config.json."""
        wrong: dict[str, Any] = {
            "REQUEST_MAX_RETRIES": 101,
            "requestBaseDelay": 0.5,
            "timeouts": {"response_headers": -1, "first_event": "soon", "IDLE": True},
        }
        entries = [
            {"OPENAI_API_KEY": "sk-a", **wrong},
            {"OPENAI_API_KEY": "sk-b", "isDisabled": True, "timeouts": 5, "request_max_retries": 1},
            {"OPENAI_API_KEY": "sk-c", "request_max_retries": 1, "REQUEST_MAX_RETRIES": 2},
        ]
        found = self.faults({"port": "x"}, pools={"openai-custom": entries})
        self.assertEqual(
            {fault.rpartition(": ")[0] for fault in found},
            {
                "config.json: port",
                *(
                    f"provider_pools.json: openai-custom[{place}"
                    for place in (
                        "0].REQUEST_MAX_RETRIES",
                        "0].requestBaseDelay",
                        "0].timeouts.response_headers",
                        "0].timeouts.first_event",
                        "0].timeouts.IDLE",
                        "1].timeouts",
                        "2].request_max_retries",
                    )
                ),
            },
        )
        self.assertEqual(len(found), 8)
        said = "\n".join(found)
        self.assertIn("write a whole number from 0 to 100", said)
        self.assertIn("openai-custom[1].timeouts: is 5; write an object in braces", said)
        self.assertIn("is written twice", said)

    def test_a_provider_that_is_not_built(self) -> None:
        """Its accounts' retries and clocks are checked, and nothing is said of the rest."""
        entry = {"FORWARD_API_KEY": "sk-a", "timeouts": {"total": 5, "idle": 5}}
        found = self.load(pools={"forward-api": [entry]})
        self.assertEqual([said for said in found.warnings if "timeouts" in said], [])
        entry["timeouts"] = {"idle": "x"}
        self.assertFault({}, "forward-api[0].timeouts.idle", pools={"forward-api": [entry]})


class ThousandsTests(ConfigTestCase):
    """What it costs in a large pool."""

    def test_each_costs_the_same(self) -> None:
        """What an account's own clocks cost does not grow with the pool."""
        more = {"REQUEST_MAX_RETRIES": 0, "timeouts": {"idle": 5, "first_event": 5}}
        few, many = self._each(20, 120, more), self._each(120, 620, more)
        self.assertLess(abs(many - few), few / 100)

    def test_a_number_costs_what_others_do(self) -> None:
        """Retries and delay are read as fast as priority and weight."""
        own = self._each(20, 120, {"REQUEST_MAX_RETRIES": 0, "REQUEST_BASE_DELAY": 1})
        others = self._each(20, 120, {"PRIORITY": 0, "WEIGHT": 1})
        self.assertLess(own, others * 1.05)

    def _each(self, few: int, many: int, more: dict[str, Any]) -> float:
        """Return how many functions are called for one account more."""
        return (self._calls(many, more) - self._calls(few, more)) / (many - few)

    def _calls(self, count: int, more: dict[str, Any]) -> int:
        entries = [
            {"uuid": f"u{at}", "OPENAI_API_KEY": f"sk-{at:040}", **more} for at in range(count)
        ]
        self.write("provider_pools.json", {"openai-custom": entries})
        calls = 0

        def seen(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(seen)
        try:
            found = self.load()
        finally:
            sys.setprofile(before)
        self.assertEqual(len(found.providers["openai-custom"].accounts), count)
        return calls
