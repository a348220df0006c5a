"""What was told of models: how it outlives accounts that change, and the gateway."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from aiclient2api.state.memory import MemoryStore
from aiclient2api.values import Account, ModelInfo
from aiclient2api.web.model_lists import FRESH, MOST, NAMESPACE, ModelLists
from tests.model_lists_fixture import Fixture, Provider, Settings, account


class ReloadTests(Fixture):
    """Accounts that change."""

    def test_an_account_elsewhere_is_asked_anew(self) -> None:
        """Another base URL serves other models; nothing of the old ones is left."""
        provider = Provider(a=["old"])
        self.listed(provider, account("a"))
        provider.serving["a"] = ["new"]
        moved = account("a", "https://two.example")
        self.lists.keep([moved])
        self.assertEqual(self.known(provider, moved), [])
        self.assertEqual(self.listed(provider, moved), ["new"])

    def test_another_key_is_asked_anew(self) -> None:
        """Until then what was known of the place is what is known."""
        provider = Provider(a=["old"])
        self.listed(provider, account("a"))
        provider.serving["a"] = ["new"]
        changed = attrs.evolve(account("a"), settings=Settings("another key"))
        self.lists.keep([changed])
        self.assertEqual(self.known(provider, changed), ["old"])
        self.assertEqual(self.listed(provider, changed), ["new"])
        self.assertEqual(self.known(provider, changed), ["new"])

    def test_a_speaker_that_goes_leaves_his_word(self) -> None:
        """An edit of the pools file must not make models unknown that others serve."""
        accounts = [account(f"a{number}") for number in range(2 * MOST)]
        provider = Provider(**{each.id: ["m"] for each in accounts[:MOST]})
        self.listed(provider, *accounts)
        self.lists.keep(accounts[MOST:])
        self.assertEqual(self.known(provider, *accounts[MOST:]), ["m"])
        self.lists.keep([])
        self.assertEqual(self.known(provider, *accounts), [])

    def test_what_has_no_say_in_the_models_changes_nothing(self) -> None:
        """Another priority is no reason to ask."""
        provider = Provider(a=["m"])
        self.listed(provider, account("a"))
        changed = account("a", priority=3, name="mine")
        self.lists.keep([changed])
        self.listed(provider, changed)
        self.assertEqual(provider.asked, ["a"])

    def test_a_question_of_the_old_settings_tells_nothing(self) -> None:
        """Its listing ends, and the new account is asked itself."""
        answer: Deferred[Any] = Deferred()
        provider = Provider(a=answer)
        old = self.listing(provider, account("a"))
        provider.serving["a"] = ["new"]
        moved = account("a", "https://two.example")
        self.assertEqual(self.listed(provider, moved), ["new"])
        answer.callback([ModelInfo(id="old")])
        self.successResultOf(old)
        self.assertEqual(self.known(provider, moved), ["new"])


class StoreTests(Fixture):
    """Lists that outlive the gateway."""

    def setUp(self) -> None:
        """Begin with an empty store."""
        super().setUp()
        self.store = MemoryStore(clock=self.clock, now=lambda: self.now)
        self.restart()

    def restart(self, *accounts: Account) -> None:
        """Forget all but the store, and load."""
        self.clock = Clock()
        self.lists = ModelLists(self.clock, self.store, lambda: self.now)
        self.assertIsNone(self.successResultOf(self.lists.load("p", accounts)))

    def test_a_list_survives_with_all_that_is_in_it(self) -> None:
        """So that what an upstream said of a model is told on."""
        model = ModelInfo(
            id="m",
            owned_by="o",
            created=5,
            display_name="M",
            input_limit=6,
            output_limit=7,
            raw_dialect="openai-chat",
            raw={"id": "m", "more": [1, {"x": None}]},
        )
        self.listed(Provider(a=[model]), account("a"))
        self.restart(account("a"))
        listed = self.successResultOf(self.listing(Provider(), account("a")))
        self.assertEqual(listed, [model])
        self.assertEqual(self.known(Provider(), account("a")), ["m"])
        self.assertEqual(self.lists.window("p", "m"), 6)

    def test_its_age_counts_on(self) -> None:
        """A young one is not asked for again; an old one is, and serves if that fails."""
        self.listed(Provider(a=["m"]), account("a"))
        self.now += FRESH - 1
        self.restart(account("a"))
        provider = Provider()
        self.assertEqual(self.listed(provider, account("a")), ["m"])
        self.assertEqual(provider.asked, [])
        self.clock.advance(1)
        self.assertEqual(self.listed(provider, account("a")), ["m"])
        self.assertEqual(provider.asked, ["a"])

    def test_a_clock_that_was_set_back_makes_no_list_last(self) -> None:
        """It is as old as it can be said to be: not at all."""
        self.listed(Provider(a=["m"]), account("a"))
        self.now -= 1_000_000
        self.restart(account("a"))
        self.clock.advance(FRESH)
        self.assertEqual(self.listed(Provider(a=["n"]), account("a")), ["n"])

    def test_of_another_place_nothing_is_loaded(self) -> None:
        """The base URL was changed while the gateway was down."""
        self.listed(Provider(a=["m"]), account("a"))
        moved = account("a", "https://two.example")
        self.restart(moved)
        self.assertEqual(self.known(Provider(), moved), [])

    def test_who_is_gone_still_speaks_for_his_place(self) -> None:
        """Another account at the same place serves the same, and is asked itself."""
        self.listed(Provider(a=["m"]), account("a"))
        self.restart(account("b"))
        self.assertEqual(self.known(Provider(), account("b")), ["m"])
        self.assertEqual(self.listed(Provider(b=["n"]), account("b")), ["n"])

    def test_settings_may_have_no_address(self) -> None:
        """Such accounts are all at one place."""
        plain = Account(provider="p", id="a", settings=None)
        self.listed(Provider(a=["m"]), plain)
        self.restart(plain)
        self.assertEqual(self.known(Provider(), plain), ["m"])

    def test_what_was_told_meanwhile_counts_more(self) -> None:
        """A store that is slow must not undo it."""
        self.listed(Provider(a=["old"]), account("a"))
        self.restart()
        provider = Provider(a=["new"])
        self.listed(provider, account("a"))
        self.successResultOf(self.lists.load("p", [account("a")]))
        self.assertEqual(self.known(provider, account("a")), ["new"])

    def test_what_cannot_be_read_is_as_if_it_were_not_there(self) -> None:
        """Damage and the forms of other versions."""
        for value in (b"", b"\xc1", b"\x93\xa12\xcb", b"\x90"):
            self.store.put(namespace=NAMESPACE, owner="p", key="a", value=value, ttl=None)
            self.restart(account("a"))
            self.assertEqual(self.known(Provider(), account("a")), [])

    def test_what_cannot_be_kept_is_listed_all_the_same(self) -> None:
        """JSON has numbers that the store's form has not."""
        provider = Provider(a=[ModelInfo(id="m", raw={"n": 2**70})])
        self.assertEqual(self.listed(provider, account("a")), ["m"])

    def test_no_secret_is_kept(self) -> None:
        """Neither a key nor a password in a URL."""
        secret = account("a", "https://me:sk-secret@one.example")
        self.listed(Provider(a=["m"]), secret)
        kept = self.successResultOf(self.store.scan(namespace=NAMESPACE, owner="p"))
        self.assertEqual(list(kept), ["a"])
        self.assertNotIn(b"sk-secret", kept["a"])
        self.assertNotIn(b"key-a", kept["a"])

    def test_without_a_store_there_is_nothing_to_load(self) -> None:
        """And that is no fault."""
        lists = ModelLists(self.clock)
        self.assertIsNone(self.successResultOf(lists.load("p", [account("a")])))
