"""PKCE: the vector of the RFC, and what makes it a secret."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.oauth.pkce import Proof, challenge_of, new_proof, new_state

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


class PkceTests(SynchronousTestCase):
    """A verifier, its challenge, and a state."""

    def test_the_vector_of_the_rfc(self) -> None:
        """RFC 7636, appendix B."""
        self.assertEqual(challenge_of(VERIFIER), CHALLENGE)
        self.assertEqual(Proof(VERIFIER).challenge, CHALLENGE)

    def test_a_new_one_is_32_random_bytes(self) -> None:
        """Of 43 characters that need no quoting, and made of what was random."""
        proof = new_proof(lambda size: b"\xff" * size)
        self.assertEqual(proof.verifier, "_" * 42 + "8")
        self.assertRegex(new_proof().verifier, r"\A[A-Za-z0-9_-]{43}\Z")
        self.assertNotEqual(new_proof(), new_proof())

    def test_the_verifier_is_not_printed(self) -> None:
        """Only the challenge may be seen before the code is redeemed."""
        self.assertNotIn(VERIFIER, repr(Proof(VERIFIER)))

    def test_a_state_is_as_hard_to_guess(self) -> None:
        """It has as many random bytes."""
        self.assertRegex(new_state(), r"\A[A-Za-z0-9_-]{43}\Z")
        self.assertNotEqual(new_state(), new_state())
