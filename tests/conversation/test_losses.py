"""
What was left out, by name.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.losses import FAMILIES, LOSSES, known, merged


class LossesTests(SynchronousTestCase):
    """Codes that a client can read and an operator look up."""

    def test_every_code_is_known_and_told_in_a_sentence(self) -> None:
        """There is no code without an explanation."""
        for code, sentence in (*LOSSES.items(), *FAMILIES.items()):
            self.assertTrue(sentence.endswith("."), code)
            self.assertNotIn(":", code)
        for code in LOSSES:
            self.assertTrue(known(code), code)
        for family in FAMILIES:
            self.assertTrue(known(f"{family}:x:y"), family)

    def test_they_stand_in_order(self) -> None:
        """A code is found where it is looked for."""
        self.assertEqual(sorted(LOSSES), list(LOSSES))
        self.assertEqual(sorted(FAMILIES), list(FAMILIES))

    def test_what_is_no_code_is_not_known(self) -> None:
        """A family needs a name, and a name a family."""
        for code in ("", "field", "field:", "tool", ":x", "fields:x", "seed:", "Seed", "x"):
            self.assertFalse(known(code), code)

    def test_merged_codes_come_once_in_order(self) -> None:
        """The header does not repeat itself."""
        self.assertEqual(("b", "a", "c"), merged(["b", "a"], (), ("a", "c", "b")))
        self.assertEqual((), merged())
