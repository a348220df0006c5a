"""Moments as monitors read them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.observe.moments import moment


class MomentTests(SynchronousTestCase):
    """`moment`."""

    def test_a_moment_is_in_utc(self) -> None:
        """With milliseconds and a Z, wherever the gateway runs."""
        self.assertEqual(moment(1700000000.5), "2023-11-14T22:13:20.500Z")

    def test_never_is_no_moment(self) -> None:
        """Neither None nor 0 is a day in 1970, and no number makes it fail."""
        for never in (None, 0.0, float("inf"), float("nan"), 1e300):
            self.assertIsNone(moment(never), never)
