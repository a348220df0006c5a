"""How long and how much answers are kept: ``stored_responses``."""

from __future__ import annotations

from aiclient2api.config import StoredResponses, report
from tests.config_fakes import ConfigTestCase


class StoredResponsesTests(ConfigTestCase):
    """What the object says."""

    def test_values(self) -> None:
        """What the object does not say keeps its default; any spelling will do."""
        found = self.load({"STORED_RESPONSES": {"ttl": "90.5", "itemBytes": 1000}})
        self.assertEqual(found.stored_responses, StoredResponses(ttl=90.5, item_bytes=1000))
        self.assertEqual(found.warnings, ())
        found = self.load({"storedResponses": {"bytes": 5000}})
        self.assertEqual(found.stored_responses, StoredResponses(bytes=5000))

    def test_off(self) -> None:
        """A time of 0 keeps nothing, and ``check`` says so."""
        found = self.load({"stored_responses": {"ttl": 0}})
        self.assertEqual(found.stored_responses.ttl, 0)
        self.assertIn("answers kept      no\n", report(found) + "\n")
        text = report(self.load({}))
        self.assertIn("answers kept      for 604800 s, up to 268435456 bytes", text)

    def test_faults(self) -> None:
        """Every fault is told at once, each with its key."""
        self.assertFault({"stored_responses": 5}, "stored_responses: is 5; write an object")
        self.assertFault({"stored_responses": False}, "stored_responses: is false; write an object")
        body = {"ttl": -1, "bytes": 0, "item_bytes": 2**30, "bites": 1}
        found = self.faults({"stored_responses": body})
        self.assertEqual(
            [fault.split(": ")[1] for fault in found],
            ["stored_responses.ttl", "stored_responses.bytes", "stored_responses.item_bytes"],
        )
        found_anyway = self.load({"stored_responses": {"bites": 1}})
        self.assertWarned(found_anyway, 'stored_responses."bites"', 'did you mean "bytes"?')
