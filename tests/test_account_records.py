"""What is kept of an account: all of it comes back, and no credential is in it."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.accounts import records
from aiclient2api.accounts.account import Event, Kind, Law, Phase, State
from aiclient2api.providers.openai_custom import openai_custom
from aiclient2api.values import Account, Tally

NOW = 1.79e9


def account(key: str, url: str = "http://127.0.0.1:1/v1") -> Account:
    """Return an account with a credential."""
    settings = openai_custom.settings(openai_api_key=key, openai_base_url=url)
    return Account(provider="openai-custom", id="a", settings=settings, secrets=(key,))


@st.composite
def states(draw: st.DrawFn) -> State:
    """Draw a state that a life may lead to."""
    law, state, now = Law(), State(), NOW
    for kind in draw(st.lists(st.sampled_from(Kind), max_size=6)):
        hint = draw(st.one_of(st.none(), st.floats(0, 1e9)))
        state = law.next(state, Event(kind, hint=hint, message=draw(st.text(max_size=5))), now)
        now += draw(st.floats(0, 1e4))
    return state


class RecordTests(SynchronousTestCase):
    """There and back."""

    @given(
        states(),
        st.dictionaries(st.text(max_size=5), states(), max_size=3),
        st.lists(st.integers(0, 2**53), min_size=7, max_size=7),
        st.text(max_size=8),
    )
    def test_all_of_it_comes_back(
        self, state: State, models: dict[str, State], counts: list[int], model: str
    ) -> None:
        """But for a try that is under way, which is over when the process is."""
        tally = Tally(
            requests=counts[0],
            failures=counts[1],
            input=counts[2],
            output=counts[3],
            cached=counts[4],
            cache_write=counts[5],
            reasoning=counts[6],
            last_used=NOW,
        )
        try:
            value = records.encoded(b"12345678", state, models, tally, model)
        except UnicodeEncodeError:
            # A lone surrogate; what an upstream says was made sendable before.
            return
        known = records.decoded(value, b"12345678")
        assert known is not None
        self.assertTrue(known.same)
        passing = (Phase.PROBING, Phase.REFRESHING)
        self.assertEqual(known.state == state, state.phase not in passing)
        self.assertNotIn(known.state.phase, passing)
        self.assertEqual(set(known.models), set(models))
        self.assertEqual((known.tally, known.last_model), (tally, model))

    @given(st.binary(max_size=80))
    def test_anything_else_is_no_record(self, value: bytes) -> None:
        """Whatever stands there, reading it raises nothing."""
        self.assertIsNone(records.decoded(value, b"12345678"))

    def test_a_record_with_words_we_do_not_know_is_none(self) -> None:
        """One that a later version wrote is left alone."""
        good = records.encoded(b"1", State(), {}, Tally(), "")
        self.assertIsNone(records.decoded(good.replace(b"ready", b"other"), b"1"))
        self.assertIsNotNone(records.decoded(good, b"2"))

    def test_no_credential_is_kept(self) -> None:
        """A digest of eight bytes says whether it is another one."""
        digest = records.credential_digest(account("sk-canary-0123456789"))
        self.assertEqual(len(digest), 8)
        self.assertEqual(digest, records.credential_digest(account("sk-canary-0123456789")))
        self.assertNotEqual(digest, records.credential_digest(account("sk-other")))
        moved = account("sk-canary-0123456789", "http://127.0.0.1:2/v1")
        self.assertNotEqual(digest, records.credential_digest(moved))
        value = records.encoded(digest, State(), {}, Tally(), "m")
        self.assertNotIn(b"canary", value)

    def test_an_account_without_settings_has_a_digest_too(self) -> None:
        """The sandbox has nothing to set."""
        bare = attrs.evolve(account("x"), settings=None)
        self.assertEqual(len(records.credential_digest(bare)), 8)
