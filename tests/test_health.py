"""Health: the seed's answer, field by field."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api import __version__
from aiclient2api.web.health import greeting, liveness


class HealthTests(SynchronousTestCase):
    """What a monitor and a curious person read."""

    def test_liveness_is_what_monitors_of_the_older_versions_read(self) -> None:
        """Status, ISO time with milliseconds and Z, the default provider."""
        self.assertEqual(
            json.loads(liveness(provider="sandbox", seconds=1700000000.5)),
            {"status": "healthy", "timestamp": "2023-11-14T22:13:20.500Z", "provider": "sandbox"},
        )

    def test_the_root_says_who_answers(self) -> None:
        """Name, version and where to go."""
        told = json.loads(greeting(["/health"]))
        self.assertEqual((told["name"], told["version"]), ("aiclient2api", __version__))
        self.assertEqual(told["endpoints"], ["/health"])
