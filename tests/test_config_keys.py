"""
The table of configuration keys, and that the manual says the same.
"""

from __future__ import annotations

import json
from pathlib import Path

from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

import aiclient2api.providers
from aiclient2api.config.accounts import keys_of, kinds_of
from aiclient2api.config.flags import FLAGS
from aiclient2api.config.key import folded, is_comment, nearest
from aiclient2api.config.keys import (
    ACCOUNT_KEYS,
    FETCH_KEYS,
    KEYS,
    LIMIT_KEYS,
    STORED_KEYS,
    TIMEOUT_KEYS,
)
from aiclient2api.config.later_keys import ACCOUNT_STATE, LATER, UNBUILT
from aiclient2api.config.pool_keys import (
    AFFINITY_KEYS,
    BUDGET_KEYS,
    MODEL_KEYS,
    PROBE_KEYS,
    SCHEDULED_KEYS,
    STRATEGIES,
    TARGET_KEYS,
)
from aiclient2api.interfaces import IProviderFactory

ROOT = Path(__file__).resolve().parent.parent
PARTS = {
    "affinity": AFFINITY_KEYS,
    "retry_budget": BUDGET_KEYS,
    "probe": PROBE_KEYS,
    "scheduled_health_check": SCHEDULED_KEYS,
    "model_fallback_mapping": TARGET_KEYS,
    "custom_models": MODEL_KEYS,
}
"""Objects and the keys in them."""


class TableTests(SynchronousTestCase):
    """The table itself."""

    def test_no_name_stands_for_two_keys(self) -> None:
        """In whatever spelling, a name means one key."""
        for table in (
            KEYS,
            ACCOUNT_KEYS,
            TIMEOUT_KEYS,
            LIMIT_KEYS,
            FETCH_KEYS,
            STORED_KEYS,
            AFFINITY_KEYS,
            BUDGET_KEYS,
            PROBE_KEYS,
            SCHEDULED_KEYS,
            TARGET_KEYS,
            MODEL_KEYS,
        ):
            seen: dict[str, str] = {}
            for key in table:
                for name in {folded(name) for name in (key.name, key.node, *key.also)}:
                    self.assertEqual(seen.setdefault(name, key.name), key.name)

    def test_what_does_nothing_yet_says_so(self) -> None:
        """A key that has no effect is in the list of those, and nobody else is."""
        idle = {key.name for key in (*LATER, *ACCOUNT_STATE)}
        for key in (*KEYS, *ACCOUNT_KEYS, *LIMIT_KEYS):
            self.assertEqual(key.later, key.name in idle, key.name)

    def test_names_are_snake_case(self) -> None:
        """The name in the table is the one in the manual's first column."""
        tables = (key for table in PARTS.values() for key in table)
        for key in (*KEYS, *ACCOUNT_KEYS, *tables, *keys_of(kinds_of(()))):
            self.assertRegex(key.name, r"^[a-z0-9]+(_[a-z0-9]+)*$")


class SpellingTests(SynchronousTestCase):
    """How names are compared."""

    def test_spellings_of_one_name(self) -> None:
        """snake_case, UPPER_CASE and camelCase of a name are the same."""
        spellings = ("request_max_retries", "REQUEST_MAX_RETRIES", "requestMaxRetries")
        self.assertEqual(len({folded(spelling) for spelling in spellings}), 1)

    def test_nearest(self) -> None:
        """A slip is answered with the name that was meant, in the user's style."""
        known = ("required_api_key", "openaiResponses-custom", "port")
        self.assertEqual(nearest("requiredApiKye", known), "required_api_key")
        self.assertEqual(nearest("REQUIRED_API_KYE", known), "REQUIRED_API_KEY")
        self.assertEqual(nearest("openairesponse-custom", known), "openaiResponses-custom")
        self.assertIsNone(nearest("zebra", known))

    def test_remarks(self) -> None:
        """A key that begins like a remark is one."""
        self.assertTrue(all(map(is_comment, ("_comment", "//", "$schema", "# port"))))
        self.assertFalse(is_comment("port"))


class ManualTests(SynchronousTestCase):
    """docs/configuration.md."""

    def setUp(self) -> None:
        """Read the manual."""
        self.manual = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

    def test_every_key_is_there(self) -> None:
        """Every key is in the manual, in both spellings."""
        for key in (*KEYS, *ACCOUNT_KEYS):
            self.assertIn(f"`{key.node}`", self.manual)
            self.assertRegex(self.manual, rf"`(limits\.)?{key.name}`")
        for part, keys in (
            ("timeouts", TIMEOUT_KEYS),
            ("limits", LIMIT_KEYS),
            ("stored_responses", STORED_KEYS),
        ):
            for key in keys:
                default = "a share" if key.default is None else f"{key.default:.0f}"
                self.assertIn(f"| `{part}.{key.name}` | {default} |", self.manual)

    def test_every_bound_on_what_is_fetched(self) -> None:
        """Each key of `fetch_images` is in the manual with its default."""
        enabled, *bounds = FETCH_KEYS
        self.assertIn(f"| `fetch_images.{enabled.name}` | `false` |", self.manual)
        for key in bounds:
            self.assertIn(f"| `fetch_images.{key.name}` | {key.default} |", self.manual)

    def test_defaults_are_those_of_the_table(self) -> None:
        """Where the table has a plain default, the manual names it."""
        for key in (*KEYS, *ACCOUNT_KEYS):
            if isinstance(key.default, (str, int)) and key.default != "":
                shown = str(key.default)
                if isinstance(key.default, bool):
                    shown = json.dumps(key.default)
                self.assertIn(f"| `{key.name}` | `{key.node}` | `{shown}` |", self.manual)

    def test_every_key_of_the_rules(self) -> None:
        """Each key within an object of rules is there, with a plain number as its default."""
        for part, table in PARTS.items():
            for key in table:
                begin = f"| `{part}.{key.name}` |"
                rows = [row for row in self.manual.splitlines() if row.startswith(begin)]
                self.assertEqual(len(rows), 1, begin)
                if key.also:
                    self.assertIn(f"| `{key.also[0]}` |", rows[0])
                if isinstance(key.default, (int, float)) and not isinstance(key.default, bool):
                    self.assertIn(f"| {key.default:g} |", rows[0])

    def test_every_strategy(self) -> None:
        """Each way to choose an account is there."""
        for strategy in STRATEGIES:
            self.assertIn(f"| {strategy} | ", self.manual)

    def test_every_setting_of_a_provider(self) -> None:
        """Every setting of every built-in provider is there, with its default."""
        for factory in getPlugins(IProviderFactory, aiclient2api.providers):
            (kind, *_) = kinds_of((factory,))
            for field in kind.fields:
                key = field.key
                (row,) = (
                    line
                    for line in self.manual.splitlines()
                    if line.startswith(f"| `{key.name}` |")
                )
                self.assertIn(f"| `{key.node}` |", row)
                self.assertIn(f"| `{key.default}` |" if key.default else "| none |", row)

    def test_every_provider_that_is_not_built(self) -> None:
        """Every provider that is known but not built is there with its keys."""
        for name, fields in UNBUILT.items():
            listed = ", ".join(f"`{key}`" for key, _ in fields)
            self.assertIn(f"| `{name}` | {listed} |", self.manual)

    def test_every_flag(self) -> None:
        """Every flag is there with what it takes."""
        for flag in FLAGS:
            shown = f"{flag.name} {flag.metavar}".replace("|", "\\|")
            self.assertIn(f"| `{shown}` |", self.manual)

    def test_no_key_that_is_not_there(self) -> None:
        """The manual's tables promise no key that is unknown."""
        known = {key.name for key in (*KEYS, *ACCOUNT_KEYS)}
        known |= {f"timeouts.{key.name}" for key in TIMEOUT_KEYS}
        known |= {f"limits.{key.name}" for key in LIMIT_KEYS}
        known |= {f"fetch_images.{key.name}" for key in FETCH_KEYS}
        known |= {f"stored_responses.{key.name}" for key in STORED_KEYS}
        known |= {f"{part}.{key.name}" for part, table in PARTS.items() for key in table}
        tables = self.manual.split("### Who may call")
        promised = {
            line.split("`")[1]
            for line in (tables[0] + self.manual.split("## Understood")[1]).splitlines()
            if line.startswith("| `")
        }
        self.assertEqual(promised - known, set())
