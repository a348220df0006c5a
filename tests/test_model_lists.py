"""Model lists: who is asked, what is known without asking, and what that comes to."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.values import Account, CustomModel, ModelInfo, Sampling
from aiclient2api.web.model_lists import FRESH, MOST, PATIENCE, REST, merged
from tests.model_lists_fixture import Fixture, Provider, account, down


class ListingTests(Fixture):
    """One account, asked of its upstream and remembered."""

    def test_a_list_is_asked_for_again_when_it_is_old(self) -> None:
        """And not before."""
        provider = Provider(a=["m1"])
        self.assertEqual(self.listed(provider, account("a")), ["m1"])
        provider.serving["a"] = ["m1", "m2"]
        self.clock.advance(FRESH - 1)
        self.assertEqual(self.listed(provider, account("a")), ["m1"])
        self.clock.advance(1)
        self.assertEqual(self.listed(provider, account("a")), ["m1", "m2"])

    def test_the_last_good_list_outlives_the_upstream(self) -> None:
        """However long that is away; and it is not asked at every listing meanwhile."""
        provider = Provider(a=["m1"])
        self.listed(provider, account("a"))
        del provider.serving["a"]
        self.clock.advance(1000 * FRESH)
        self.assertEqual(self.listed(provider, account("a")), ["m1"])
        self.assertEqual(self.listed(provider, account("a")), ["m1"])
        self.assertEqual(len(provider.asked), 2)
        self.clock.advance(REST)
        provider.serving["a"] = ["m2"]
        self.assertEqual(self.listed(provider, account("a")), ["m2"])

    def test_built_in_names_serve_where_there_never_was_a_list(self) -> None:
        """Without what the operator denies."""
        provider = Provider(("k", "l"))
        self.assertEqual(self.listed(provider, account("a", unsupported=("l",))), ["k"])

    def test_if_nothing_is_known_the_error_is_told(self) -> None:
        """To each who asks, and the upstream is asked each time."""
        provider = Provider()
        for count in (1, 2):
            self.failureResultOf(self.listing(provider, account("a")), UpstreamError)
            self.assertEqual(len(provider.asked), count)

    def test_an_upstream_that_does_not_answer_is_given_up(self) -> None:
        """A list must not hang."""
        provider = Provider(a=Deferred())
        asking = self.listing(provider, account("a"))
        self.assertNoResult(asking)
        self.clock.advance(PATIENCE)
        error = self.failureResultOf(asking, UpstreamError).value
        self.assertEqual(error.fault, Fault.TIMEOUT)

    def test_a_credential_in_a_refusal_is_cut_out(self) -> None:
        """Upstreams echo keys; callers must not see them."""
        provider = Provider(a=down("bad key sk-test-1"))
        asking = self.listing(provider, account("a", secrets=("sk-test-1",)))
        self.assertNotIn("sk-test-1", self.failureResultOf(asking, UpstreamError).value.message)

    def test_what_the_operator_allows_is_the_list(self) -> None:
        """Nothing is asked; and what is denied is left out of what was."""
        provider = Provider(("k",), b=["m1", "m2"])
        allowed = account("a", supported=("only",))
        self.assertEqual(self.listed(provider, allowed), ["only"])
        self.assertEqual(self.known(provider, allowed), ["only"])
        self.assertEqual(provider.asked, [])
        self.assertEqual(self.listed(provider, account("b", unsupported=("m1",))), ["m2"])

    def test_a_fault_of_our_own_is_not_hidden(self) -> None:
        """Only what an upstream does is made up for."""
        provider = Provider(("k",), a=Failure(ZeroDivisionError()))
        self.failureResultOf(self.listing(provider, account("a")), ZeroDivisionError)

    def test_without_accounts_there_is_nothing(self) -> None:
        """Nobody to ask is no error."""
        self.assertEqual(self.listed(Provider(("k",))), [])


class UnionTests(Fixture):
    """Several accounts: what any of them serves."""

    def test_the_union_in_order(self) -> None:
        """The first account's models first, each once."""
        provider = Provider(a=["m1", "m2"], b=["m2", "m3"])
        accounts = (account("a"), account("b"), account("c", supported=("m4", "m1")))
        self.assertEqual(self.listed(provider, *accounts), ["m1", "m2", "m3", "m4"])
        self.assertEqual(self.known(provider, *accounts), ["m1", "m2", "m3", "m4"])

    def test_only_the_usable_ones_are_asked_for(self) -> None:
        """What others serve is not listed, if these were asked."""
        provider = Provider(a=["m1"], b=["m2"])
        accounts = (account("a"), account("b"))
        self.listed(provider, *accounts)
        self.assertEqual(self.listed(provider, accounts[1]), ["m2"])

    def test_one_that_is_down_hides_nobody(self) -> None:
        """Others at the same place answer for it; elsewhere what is built in does."""
        provider = Provider(("k",), b=["m1"])
        self.assertEqual(self.listed(provider, account("a"), account("b")), ["m1"])
        self.assertEqual(
            self.listed(provider, account("c", "https://two.example"), account("b")), ["k", "m1"]
        )

    def test_denied_by_one_is_served_by_another(self) -> None:
        """A model is missing only if all who are there deny it."""
        provider = Provider(a=["m1", "m2"])
        accounts = [account(id, unsupported=("m1",)) for id in "abcdefgh"]
        self.assertEqual(self.listed(provider, *accounts), ["m2"])
        accounts.append(account("z"))
        self.assertEqual(self.listed(provider, *accounts), ["m2", "m1"])

    def test_a_word_that_nobody_renewed_fades(self) -> None:
        """One who was asked in another's stead is not believed for ever."""
        provider = Provider(b=["old"])
        accounts = (account("a"), account("b"))
        self.listed(provider, *accounts)
        provider.serving = {"a": ["new"]}
        self.clock.advance(2 * FRESH)
        self.assertEqual(self.listed(provider, *accounts), ["new"])


class AskingTests(Fixture):
    """Who is asked, when there are many."""

    def pool(self, count: int, url: str = "https://one.example") -> list[Account]:
        """Return so many accounts at one place."""
        return [account(f"{url[8:11]}-{number}", url) for number in range(count)]

    def test_a_few_speak_for_thousands(self) -> None:
        """And they do not change from one listing to the next."""
        accounts = self.pool(3000)
        provider = Provider(**{each.id: ["m"] for each in accounts})
        for _ in range(3):
            self.assertEqual(self.listed(provider, *accounts), ["m"])
        self.assertEqual(provider.asked, [each.id for each in accounts[:MOST]])

    def test_every_place_is_asked(self) -> None:
        """One account of each base URL goes first; if they are many, by and by."""
        accounts = self.pool(MOST)
        places = [account(f"{n}", f"https://{n}.example") for n in range(MOST)]
        provider = Provider(**{each.id: [each.id] for each in (*accounts, *places)})
        listed = self.listed(provider, *accounts, *places)
        self.assertEqual(provider.asked, [accounts[0].id, "0", "1", "2", "3"])
        self.assertNotIn("4", listed)
        listed = self.listed(provider, *accounts, *places)
        self.assertEqual(provider.asked[MOST:], ["4"])
        self.assertEqual(listed, [accounts[0].id, "0", "1", "2", "3", "4"])

    def test_who_failed_is_replaced(self) -> None:
        """Until somebody speaks for that place; then nobody is asked in vain."""
        accounts = self.pool(3 * MOST)
        provider = Provider(**{accounts[MOST].id: ["m"]})
        self.failureResultOf(self.listing(provider, *accounts), UpstreamError)
        self.assertEqual(self.listed(provider, *accounts), ["m"])
        self.assertEqual(len(provider.asked), 2 * MOST)
        self.assertEqual(self.listed(provider, *accounts), ["m"])
        self.assertEqual(len(provider.asked), 2 * MOST)

    def test_at_most_so_many_at_once(self) -> None:
        """Also where two listings ask of different accounts."""
        accounts = self.pool(2 * MOST)
        waiting: dict[str, Deferred[Any]] = {each.id: Deferred() for each in accounts}
        provider = Provider(**waiting)
        first = self.listing(provider, *accounts[:MOST])
        second = self.listing(provider, *accounts[MOST:])
        self.assertEqual(len(provider.asked), MOST)
        waiting[accounts[0].id].callback([ModelInfo(id="m")])
        self.assertEqual(len(provider.asked), MOST + 1)
        for each in accounts[1:]:
            waiting[each.id].callback([ModelInfo(id="m")])
        for listing in (first, second):
            self.assertEqual([each.id for each in self.successResultOf(listing)], ["m"])

    def test_two_listings_share_a_question(self) -> None:
        """One answer serves both."""
        answer: Deferred[Any] = Deferred()
        provider = Provider(a=answer)
        listings = [self.listing(provider, account("a")) for _ in range(2)]
        answer.callback([ModelInfo(id="m")])
        for listing in listings:
            self.assertEqual([each.id for each in self.successResultOf(listing)], ["m"])
        self.assertEqual(provider.asked, ["a"])

    def test_who_leaves_takes_nothing_from_others(self) -> None:
        """Cancelling one of two listings lets the other have its answer."""
        answer: Deferred[Any] = Deferred()
        provider = Provider(a=answer)
        leaving, staying = (self.listing(provider, account("a")) for _ in range(2))
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        answer.callback([ModelInfo(id="m")])
        self.assertEqual(len(self.successResultOf(staying)), 1)

    def test_the_last_one_to_leave_ends_the_question(self) -> None:
        """The upstream is not kept busy for nobody, and the next one asks anew."""
        cancelled: list[object] = []
        answer: Deferred[Any] = Deferred(cancelled.append)
        provider = Provider(a=answer, b=answer)
        listings = [self.listing(provider, account("a")) for _ in range(2)]
        listings[0].cancel()
        self.assertEqual(cancelled, [])
        listings[1].cancel()
        self.assertEqual(cancelled, [answer])
        for listing in listings:
            self.failureResultOf(listing, CancelledError)
        provider.serving["a"] = ["m"]
        self.assertEqual(self.listed(provider, account("a")), ["m"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_question_that_ends_late_blames_nobody(self) -> None:
        """A provider may turn a cancellation into an error of its own."""

        def refuse(answer: Deferred[Any]) -> None:
            answer.errback(down())

        provider = Provider(a=Deferred(refuse), b=["m"])
        accounts = (account("a"), account("b", "https://two.example"))
        leaving = self.listing(provider, *accounts)
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        provider.serving["a"] = ["n"]
        self.assertEqual(self.listed(provider, *accounts), ["n", "m"])

    def test_a_waiting_question_can_be_left(self) -> None:
        """One that waits for room is never asked then."""
        accounts = self.pool(MOST + 1)
        provider = Provider(**{each.id: Deferred() for each in accounts})
        first = self.listing(provider, *accounts[:MOST])
        second = self.listing(provider, accounts[MOST])
        second.cancel()
        self.failureResultOf(second, CancelledError)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(len(provider.asked), MOST)


class KnowingTests(Fixture):
    """What routing looks at, for every request."""

    def test_knowing_asks_nobody(self) -> None:
        """Built-in names and the last good list, each once."""
        provider = Provider(("k",), a=["live", "k"])
        self.assertEqual(self.known(provider, account("a")), ["k"])
        self.assertEqual(provider.asked, [])
        self.listed(provider, account("a"))
        self.assertEqual(self.known(provider, account("a")), ["k", "live"])

    def test_allowed_models_do_not_hide_other_accounts(self) -> None:
        """One account's list is not the provider's."""
        provider = Provider(("k",))
        accounts = (account("a", supported=("only",)), account("b"))
        self.assertEqual(self.known(provider, *accounts), ["only", "k"])

    def test_what_is_denied_is_not_known(self) -> None:
        """Neither a built-in name nor a listed one."""
        provider = Provider(("k",), a=["m", "n"])
        denying = account("a", unsupported=("k", "m"))
        self.listed(provider, denying)
        self.assertEqual(self.known(provider, denying), ["n"])

    def test_nothing_is_looked_at_twice(self) -> None:
        """Until a list or the accounts change, or the provider is built anew."""
        provider = Provider(("k",), a=["m"])
        accounts = (account("a"),)

        def known(accounts: Collection[Account]) -> Collection[str]:
            return self.lists.known(provider, accounts)  # type: ignore[arg-type]

        first = known(accounts)
        self.assertIs(known(accounts), first)
        self.assertIs(known((account("a"),)), first)
        self.assertIs(known([account("a")]), first)
        self.assertEqual(provider.looks, 1)
        self.assertEqual(list(known((*accounts, account("b", supported=("o",))))), ["k", "o"])
        self.assertEqual(list(known(accounts)), ["k"])
        self.listed(provider, *accounts)
        self.assertEqual(list(known(accounts)), ["k", "m"])
        provider = Provider(("l",))
        self.assertEqual(list(known(accounts)), ["l", "m"])

    def test_a_list_that_is_changed_in_place_is_seen(self) -> None:
        """Only what cannot change is trusted to be the same."""
        provider = Provider()
        accounts = [account("a", supported=("m",))]
        self.assertEqual(list(self.lists.known(provider, accounts)), ["m"])  # type: ignore[arg-type]
        accounts[0] = account("a", supported=("n",))
        self.assertEqual(list(self.lists.known(provider, accounts)), ["n"])  # type: ignore[arg-type]


class WindowTests(Fixture):
    """How much a model takes."""

    def test_what_the_upstream_told(self) -> None:
        """In the list's own field, or as upstreams of OpenAI's dialect call it."""
        provider = Provider(
            a=[
                ModelInfo(id="gpt-4o", input_limit=7),
                ModelInfo(id="x", raw={"context_length": 8}),
                ModelInfo(id="y", raw={"max_model_len": 9}),
            ]
        )
        self.assertEqual(self.lists.window("p", "gpt-4o"), 128_000)
        self.listed(provider, account("a"))
        for model, tokens in (("gpt-4o", 7), ("x", 8), ("y", 9)):
            self.assertEqual(self.lists.window("p", model), tokens)
        self.assertEqual(self.lists.window("other", "gpt-4o"), 128_000)

    def test_nonsense_is_not_believed(self) -> None:
        """Then the vendor's word counts, and else there is none."""
        sizes: tuple[Any, ...] = (0, -1, True, "8192", 1.5, None)
        provider = Provider(
            a=[ModelInfo(id=f"gpt-4o-{size}", raw={"context_length": size}) for size in sizes]
        )
        self.listed(provider, account("a"))
        for size in sizes:
            self.assertEqual(self.lists.window("p", f"gpt-4o-{size}"), 128_000)
        self.assertIsNone(self.lists.window("p", "llama"))

    def test_the_newest_word_counts(self) -> None:
        """A limit may grow."""
        provider = Provider(a=[ModelInfo(id="m", input_limit=1)])
        self.listed(provider, account("a"))
        self.clock.advance(FRESH)
        provider.serving = {"b": [ModelInfo(id="m", input_limit=2)]}
        self.listed(provider, account("a"), account("b"))
        self.assertEqual(self.lists.window("p", "m"), 2)


class MergedTests(SynchronousTestCase):
    """The operator's own models among the others."""

    custom = CustomModel(
        id="coder",
        provider="p",
        model="m",
        name="Coder",
        context=1000,
        sampling=Sampling(max_tokens=50),
    )

    def test_what_is_listed(self) -> None:
        """Its id, its name, its limits, and under whom."""
        self.assertEqual(
            merged([], [self.custom]),
            [
                ModelInfo(
                    id="coder",
                    owned_by="p",
                    display_name="Coder",
                    input_limit=1000,
                    output_limit=50,
                )
            ],
        )

    def test_it_takes_the_place_of_one_of_the_same_name(self) -> None:
        """Others come last."""
        models = [ModelInfo(id="coder"), ModelInfo(id="m")]
        other = attrs.evolve(self.custom, id="other")
        listed = merged(models, [other, self.custom])
        self.assertEqual([each.id for each in listed], ["coder", "m", "other"])
        self.assertEqual(listed[0].display_name, "Coder")

    def test_under_one_provider(self) -> None:
        """The owner's name counts, where there is one."""
        owned = attrs.evolve(self.custom, id="owned", owner="q")
        for provider, ids in (("p", ["coder"]), ("q", ["owned"]), ("r", [])):
            listed = merged([], [self.custom, owned], provider)
            self.assertEqual([each.id for each in listed], ids)
            self.assertEqual([each.owned_by for each in listed], [provider] * len(ids))

    def test_the_first_of_a_name_is_listed(self) -> None:
        """It is the one that a request goes to."""
        second = attrs.evolve(self.custom, name="Second")
        self.assertEqual(
            [each.display_name for each in merged([], [self.custom, second])], ["Coder"]
        )
