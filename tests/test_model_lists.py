"""Model lists: what is known without asking, and what outlives an upstream."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.values import Account, ModelInfo
from aiclient2api.web.model_lists import FRESH, PATIENCE, ModelLists


class Provider:
    """A provider that can be asked for its models."""

    name = "p"

    def __init__(self, *answers: Sequence[str] | None, known: tuple[str, ...] = ()) -> None:
        self.known_models = known
        self.answers = list(answers)

    def models(self, *, account: Account) -> Deferred[Sequence[ModelInfo]]:
        """Give the next answer; None is an upstream that is down."""
        answer = self.answers.pop(0)
        if answer is None:
            return fail(UpstreamError("down", fault=Fault.UNREACHABLE, status=502))
        return succeed([ModelInfo(id=model) for model in answer])


class ModelListTests(SynchronousTestCase):
    """Asked of the upstream, remembered, and never on a request's path."""

    def setUp(self) -> None:
        """Start with nothing known."""
        self.clock = Clock()
        self.lists = ModelLists(self.clock)
        self.account = Account(provider="p", id="a", settings=None)

    def listed(self, provider: Provider, account: Account | None = None) -> list[str]:
        """Return the ids listed."""
        asking = Deferred.fromCoroutine(
            self.lists.listed(provider, account or self.account)  # type: ignore[arg-type]
        )
        return [model.id for model in self.successResultOf(asking)]

    def known(self, provider: Provider, account: Account | None = None) -> list[str]:
        """Return the ids known."""
        return list(self.lists.known(provider, [account or self.account]))  # type: ignore[arg-type]

    def test_a_list_is_asked_for_again_when_it_is_old(self) -> None:
        """And not before."""
        provider = Provider(["m1"], ["m1", "m2"])
        self.assertEqual(self.listed(provider), ["m1"])
        self.clock.advance(FRESH - 1)
        self.assertEqual(self.listed(provider), ["m1"])
        self.clock.advance(1)
        self.assertEqual(self.listed(provider), ["m1", "m2"])

    def test_the_last_good_list_outlives_the_upstream(self) -> None:
        """Built-in names serve where there never was one; else the error is told."""
        provider = Provider(["m1"], None)
        self.listed(provider)
        self.clock.advance(FRESH)
        self.assertEqual(self.listed(provider), ["m1"])
        self.lists = ModelLists(self.clock)
        self.assertEqual(self.listed(Provider(None, known=("k",))), ["k"])
        self.lists = ModelLists(self.clock)
        asking = Deferred.fromCoroutine(
            self.lists.listed(Provider(None), self.account)  # type: ignore[arg-type]
        )
        self.failureResultOf(asking, UpstreamError)

    def test_an_upstream_that_does_not_answer_is_given_up(self) -> None:
        """A list must not hang, nor be waited for when an old one is there."""
        provider = Provider(["m1"])
        self.listed(provider)
        self.clock.advance(FRESH)
        waiting: Deferred[Sequence[ModelInfo]] = Deferred()
        self.patch(provider, "models", lambda *, account: waiting)
        asking = Deferred.fromCoroutine(
            self.lists.listed(provider, self.account)  # type: ignore[arg-type]
        )
        self.assertNoResult(asking)
        self.clock.advance(PATIENCE)
        self.assertEqual([model.id for model in self.successResultOf(asking)], ["m1"])

    def test_a_credential_in_a_refusal_is_cut_out(self) -> None:
        """Upstreams echo keys; callers must not see them."""
        provider = Provider(None)
        error = UpstreamError("bad key sk-test-1", fault=Fault.CREDENTIAL, status=401)
        self.patch(provider, "models", lambda *, account: fail(error))
        account = Account(provider="p", id="a", settings=None, secrets=("sk-test-1",))
        asking = Deferred.fromCoroutine(
            self.lists.listed(provider, account)  # type: ignore[arg-type]
        )
        told = self.failureResultOf(asking, UpstreamError).value
        self.assertNotIn("sk-test-1", told.message)

    def test_an_account_that_changed_is_asked_anew(self) -> None:
        """Another key or base URL may serve other models."""
        provider = Provider(["old"], ["new"])
        self.listed(provider)
        other = Account(provider="p", id="a", settings="another base URL")
        self.lists.keep([other])
        self.assertEqual(self.known(provider), [])
        self.assertEqual(self.listed(provider, other), ["new"])

    def test_what_the_operator_allows_is_the_list(self) -> None:
        """Nothing is asked; and what is denied is left out of what was."""
        allowed = Account(provider="p", id="a", settings=None, supported=("only",))
        self.assertEqual(self.listed(Provider(), allowed), ["only"])
        self.assertEqual(self.known(Provider(known=("k",)), allowed), ["only"])
        denied = Account(provider="p", id="a", settings=None, unsupported=("m1",))
        self.assertEqual(self.listed(Provider(["m1", "m2"]), denied), ["m2"])

    def test_knowing_asks_nobody(self) -> None:
        """Built-in names and the last good list, each once."""
        provider = Provider(["live", "k"], known=("k",))
        self.assertEqual(self.known(provider), ["k"])
        self.listed(provider)
        self.assertEqual(self.known(provider), ["k", "live"])
