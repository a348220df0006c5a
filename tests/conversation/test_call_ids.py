"""
Ids of calls: fit for whoever is particular, and back again with nothing to remember.
"""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.call_ids import original, plain, short
from tests.tape import IDS, cases

_FIT = re.compile(r"[A-Za-z0-9_-]+")
_ANY = st.text(max_size=40) | st.sampled_from(IDS) | st.text("callx_YQ=-", max_size=12)


class PlainTests(SynchronousTestCase):
    """The way to the client and back."""

    def test_a_plain_id_is_itself(self) -> None:
        """Ids that upstreams usually give don't change."""
        for id in ("call_abc123", "toolu_01X-y", "1"):
            self.assertEqual(id, plain(id))
            self.assertEqual(id, original(id))

    def test_an_odd_id_is_packed(self) -> None:
        """Moonshot's dots and colons are nothing that Messages takes."""
        self.assertEqual("callx_ZnVuY3Rpb25zLmY6MA", plain("functions.f:0"))
        self.assertEqual("functions.f:0", original("callx_ZnVuY3Rpb25zLmY6MA"))

    def test_an_id_that_looks_packed_is_not_mistaken(self) -> None:
        """What a client made up comes to no harm."""
        for id in ("callx_", "callx_!", "callx_YQ==", "callx_YQ\n", "callx_\xe9", "callx_A"):
            self.assertEqual(id, original(plain(id)))
        for id in ("callx_!", "callx_A", "callx_YR", "callx_YQ"):
            # "a" is plain, so nobody packs it: "callx_YQ" was an id of its own.
            self.assertEqual(id, original(id))

    def test_half_an_emoji_stays_packed(self) -> None:
        """No upstream could be sent such an id; whoever made it up keeps what it sent."""
        for id in ("\ud83d", "a\ude00b"):
            self.assertEqual(plain(id), original(plain(id)))

    @cases(250)
    @given(_ANY)
    def test_any_id_finds_its_way_back(self, id: str) -> None:
        """The upstream gets the very id that it gave."""
        made = plain(id)
        self.assertIsNotNone(_FIT.fullmatch(made))
        self.assertEqual(id, original(made))

    @cases(150)
    @given(_ANY, _ANY)
    def test_no_two_ids_become_one(self, one: str, other: str) -> None:
        """Two calls stay two calls."""
        self.assertEqual(one == other, plain(one) == plain(other))

    @cases(100)
    @given(_ANY)
    def test_original_takes_anything(self, id: str) -> None:
        """What a client sends may be no id of ours at all."""
        self.assertIn(original(id), (id, original(id)))
        self.assertEqual(original(id), original(plain(original(id))))


class ShortTests(SynchronousTestCase):
    """The way to an upstream that counts characters."""

    def test_a_short_id_is_itself(self) -> None:
        """Nothing changes without need."""
        self.assertEqual("x" * 64, short("x" * 64, 64))

    def test_a_long_id_is_cut_the_same_way_each_time(self) -> None:
        """A call and its answer still belong together, and two calls stay two."""
        one, other = "x" * 65, "x" * 66
        self.assertEqual(64, len(short(one, 64)))
        self.assertEqual(40, len(short(one, 40)))
        self.assertEqual(short(one, 64), short("x" * 65, 64))
        self.assertNotEqual(short(one, 64), short(other, 64))
        self.assertIsNotNone(_FIT.fullmatch(short(one, 64)))

    @cases(100)
    @given(st.text(max_size=100), st.integers(20, 80))
    def test_none_is_longer_than_the_limit(self, id: str, limit: int) -> None:
        """Whatever the id, lone surrogates included."""
        self.assertLessEqual(len(short(id, limit)), limit)
