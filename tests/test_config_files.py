"""
Documents of keys: spellings, precedence, and faults that are gathered, not raised.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.config.files import Document, Findings, Reading, command_line
from aiclient2api.config.keys import HOST, PORT, REQUEST_MAX_RETRIES, TIMEOUT_KEYS, TIMEOUTS
from aiclient2api.config.values import Place

PLACE = Place(Path("/f"), Path("/c"), None)


class DocumentTests(SynchronousTestCase):
    """One object of keys."""

    def test_labels(self) -> None:
        """What is said of a value names it as the user wrote it."""
        document = Document("f.json: ", PLACE, {"SERVER_PORT": 1})
        found = document.given(PORT, Findings())
        self.assertEqual(found and found.where, "f.json: SERVER_PORT")
        flags = command_line({"port": "1", "host": None, "nonsense": 1}, PLACE)
        found = flags.given(PORT, Findings())
        self.assertEqual(found and found.where, "--port")
        self.assertIsNone(flags.given(HOST, Findings()))

    def test_values_are_not_in_the_repr(self) -> None:
        """A document may be logged by mistake without giving a key away."""
        self.assertNotIn("hush", repr(Document("f.json: ", PLACE, {"required_api_key": "hush"})))


class ReadingTests(SynchronousTestCase):
    """Several documents as one."""

    def setUp(self) -> None:
        """Make a command line over a file."""
        self.findings = Findings()
        flags = command_line({"port": "1"}, PLACE)
        file = Document("f.json: ", PLACE, {"port": 2, "requestMaxRetries": "x", "timeouts": 5})
        self.reading = Reading((flags, file), self.findings)

    def test_the_first_wins(self) -> None:
        """An earlier document beats a later one; a default stands behind all."""
        self.assertEqual(self.reading.take(PORT), 1)
        self.assertIsNone(self.reading.take(HOST))

    def test_faults_are_gathered_once(self) -> None:
        """A wrong value is noted, once however often it is asked for, and work goes on."""
        for _ in range(2):
            self.assertEqual(self.reading.take(REQUEST_MAX_RETRIES), 3)
        self.assertEqual(
            list(self.findings.faults),
            ['f.json: requestMaxRetries: is "x"; write a whole number, such as 3'],
        )

    def test_parts(self) -> None:
        """An object within is read by its own keys, with its path in every sentence."""
        given = self.reading.given(TIMEOUTS)
        assert given is not None
        self.assertEqual(self.reading.part(given, TIMEOUT_KEYS).take(TIMEOUT_KEYS[0]), 10.0)
        self.assertEqual(
            list(self.findings.faults), ["f.json: timeouts: is 5; write an object in braces"]
        )
