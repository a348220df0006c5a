"""
Seals: through a client of another dialect and back, unopened.
"""

from __future__ import annotations

import base64
import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.seals import PARCEL, Seal, carried, taken
from tests.event_streams import ISSUERS
from tests.tape import cases

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_SEALS = st.builds(
    Seal,
    issuer=st.sampled_from(ISSUERS),
    value=_TEXT | _TEXT.map(lambda text: PARCEL + text),
    id=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9),
    hidden=st.booleans(),
)
_STANDARD = re.compile(r"[A-Za-z0-9+/]*={0,2}")


class CarriedTests(SynchronousTestCase):
    """Out and back in."""

    def test_a_seal_of_the_clients_own_dialect_is_itself(self) -> None:
        """A Claude client of a Claude upstream sees the very signature."""
        self.assertEqual("EqQB", carried(Seal("anthropic-messages", "EqQB"), "anthropic-messages"))
        self.assertEqual(Seal("anthropic-messages", "EqQB"), taken("EqQB", "anthropic-messages"))

    def test_a_seal_of_another_is_a_parcel(self) -> None:
        """It tells its issuer, its id, and whether the thought was ever shown."""
        seal = Seal("openai-responses", "gAAAA", id="rs_1", hidden=True)
        parcel = carried(seal, "anthropic-messages")
        self.assertTrue(parcel.startswith(PARCEL))
        for dialect in ISSUERS:
            self.assertEqual(seal, taken(parcel, dialect))

    def test_what_a_seal_has_beside_its_value_needs_a_parcel(self) -> None:
        """Not even the issuer's own dialect has a place for everything."""
        for seal in (Seal("gemini", "AA==", id="x"), Seal("gemini", "AA==", hidden=True)):
            self.assertTrue(carried(seal, "gemini").startswith(PARCEL))
            self.assertEqual(seal, taken(carried(seal, "gemini"), "gemini"))

    def test_a_value_that_looks_like_a_parcel_is_packed_again(self) -> None:
        """The upstream may be a gateway like this one, whose parcels come back unopened."""
        inner = carried(Seal("gemini", "AA=="), "anthropic-messages")
        seal = Seal("anthropic-messages", inner)
        self.assertNotEqual(inner, carried(seal, "anthropic-messages"))
        self.assertEqual(seal, taken(carried(seal, "anthropic-messages"), "anthropic-messages"))

    def test_an_id_that_would_tear_the_parcel_is_made_fit(self) -> None:
        """A broken upstream's id costs its id, never the seal."""
        parcel = carried(Seal("openai-responses", "E", id="a\0b"), "gemini")
        self.assertEqual(Seal("openai-responses", "E", id="ab"), taken(parcel, "gemini"))

    def test_a_torn_parcel_is_nobodys(self) -> None:
        """What a client damaged is given to no upstream."""
        for torn in (PARCEL, PARCEL + "!!", PARCEL + "AAAA", PARCEL + "/w==", PARCEL + "\xe9"):
            self.assertEqual(Seal(issuer="", value=""), taken(torn, "gemini"))

    def test_a_parcel_that_was_cut_or_altered_is_nobodys(self) -> None:
        """Half a signature is none: its issuer would refuse the whole conversation."""
        parcel = carried(Seal("anthropic-messages", "EqRA" * 40, id="rs_1"), "openai-responses")
        for cut in range(len(PARCEL), len(parcel.rstrip("="))):
            self.assertEqual(Seal(issuer="", value=""), taken(parcel[:cut], "gemini"), cut)
        for more in (parcel.rstrip("=") + "AAAA", parcel.replace("RXFSQ", "RXFSR", 1)):
            self.assertNotEqual(parcel, more)
            self.assertEqual(Seal(issuer="", value=""), taken(more, "gemini"))

    def test_what_is_no_parcel_is_the_dialects_own(self) -> None:
        """Even if it is no seal at all."""
        for text in ("", "x", PARCEL[:-1], " " + PARCEL):
            self.assertEqual(Seal("gemini", text), taken(text, "gemini"))

    def test_a_seal_is_not_shown_in_logs(self) -> None:
        """What is opaque is also nobody's business."""
        self.assertNotIn("secret", repr(Seal("gemini", "secret")))

    @cases(200)
    @given(_SEALS, st.sampled_from(ISSUERS))
    def test_every_seal_finds_its_way_back(self, seal: Seal, dialect: str) -> None:
        """Through a client of any dialect, byte for byte."""
        self.assertEqual(seal, taken(carried(seal, dialect), dialect))

    @cases(100)
    @given(_SEALS, st.sampled_from(ISSUERS))
    def test_a_parcel_is_base64_wherever_that_is_asked_for(self, seal: Seal, dialect: str) -> None:
        """Also for a client that writes the other alphabet, or no padding."""
        parcel = carried(seal, dialect)
        if not parcel.startswith(PARCEL) or parcel == seal.value:
            return
        self.assertIsNotNone(_STANDARD.fullmatch(parcel))
        raw = base64.b64decode(parcel, validate=True)
        urlsafe = base64.urlsafe_b64encode(raw).decode()
        for written in (urlsafe, urlsafe.rstrip("="), parcel.rstrip("=")):
            self.assertEqual(seal, taken(written, dialect))

    @cases(100)
    @given(_TEXT, st.sampled_from(ISSUERS))
    def test_anything_can_be_taken(self, text: str, dialect: str) -> None:
        """A client may send any text for a seal; nothing raises."""
        for told in (text, PARCEL + text):
            self.assertIn(taken(told, dialect).issuer, (dialect, "", *ISSUERS, text))
