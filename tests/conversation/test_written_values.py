"""
Values of a conversation as JSON: whatever stands in them, it can be written.
"""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.framing.json_text import write


class WriteTests(SynchronousTestCase):
    """What msgspec refuses by itself."""

    def test_half_an_emoji_may_stand_beside_an_exact_number(self) -> None:
        """A schema holds numbers as they were told, and any text."""
        value: dict[str, Any] = {"a": [msgspec.Raw(b"1.10"), "x\ud83d"], "\ude00": 10**30}
        self.assertEqual(
            '{"a":[1.10,"x\ufffd"],"\ufffd":1000000000000000000000000000000}'.encode(),
            write(value),
        )

    def test_two_halves_of_an_emoji_are_one(self) -> None:
        """And what else there is stays what it is."""
        value = {"a": "\ud83d\ude00", "b": (True, None, 1.5, -(2**63), 2**64), "c": "\ud83d"}
        self.assertEqual(
            '{"a":"\U0001f600","b":[true,null,1.5,-9223372036854775808,18446744073709551616],'
            '"c":"\ufffd"}'.encode(),
            write(value),
        )
