"""Who is asked next: accounts, providers and models, with real pools and upstreams in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.accounts.account import Law
from aiclient2api.accounts.affinity import Affinities
from aiclient2api.accounts.budget import RetryBudget
from aiclient2api.accounts.pool import AccountPool, Rules
from aiclient2api.dialects.convert import Converted, relayed
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.errors import (
    Fault,
    GatewayError,
    InvalidRequest,
    NoAccount,
    UnknownModel,
    UpstreamError,
)
from aiclient2api.exchange import Exchange, Patience, Way
from aiclient2api.providers.openai_custom import openai_custom as FACTORY
from aiclient2api.testing import (
    MemoryObserver,
    MemoryReply,
    MemoryResponse,
    MemoryUpstream,
    chat_chunks,
    one_account,
)
from aiclient2api.values import Affinity, ExchangeRecord, Headers, Route, Runtime, Usage

USAGE = Usage(input=3, output=1, cached=0, reasoning=0)
STREAM = b"".join(chat_chunks(["hi"], usage=USAGE))
SSE = ((b"content-type", b"text/event-stream"),)
JSON = ((b"content-type", b"application/json"),)


def well() -> MemoryResponse:
    """Return a good answer."""
    return MemoryResponse(200, SSE, [STREAM])


def refusal(status: int, code: str = "", wait: str | None = None) -> MemoryResponse:
    """Return an error answer."""
    headers = JSON if wait is None else (*JSON, (b"retry-after", wait.encode()))
    body = b'{"error":{"message":"no","code":"%s"}}' % code.encode()
    return MemoryResponse(status, headers, [body])


class FailoverCase(SynchronousTestCase):
    """One provider after the other, each with its own upstream and pool."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.observer = MemoryObserver()
        self.reply = MemoryReply()
        self.budget = RetryBudget()
        self.upstreams: dict[str, MemoryUpstream] = {}
        self.pools: dict[str, AccountPool] = {}

    def way(
        self,
        name: str,
        answers: Sequence[MemoryResponse | Exception | None],
        *,
        accounts: int = 1,
        model: str = "m",
        **rules: Any,
    ) -> Way:
        """Return a provider with so many accounts, whose upstream gives *answers* in turn."""
        upstream = self.upstreams[name] = MemoryUpstream(answers, clock=self.clock)
        provider = FACTORY.provider(name=name, runtime=Runtime(clock=self.clock, upstream=upstream))
        pool = self.pools[name] = AccountPool(
            name,
            clock=self.clock,
            now=lambda: 1.79e9 + self.clock.seconds(),
            jitter=lambda: 0.0,
            affinities=Affinities(ttl=3600.0, size=100),
        )
        listed = [
            one_account(
                name,
                FACTORY.settings(openai_api_key=f"sk-{n}", openai_base_url="http://127.0.0.1:1/v1"),
                id=f"{name}-{n}",
            )
            for n in range(accounts)
        ]
        pool.adopt(listed, Rules(**{"law": Law(faults=1), **rules}))
        return Way(provider, pool, model, "default" if name == "one" else "providerFallbackChain")

    def exchange(
        self,
        *ways: Way,
        patience: Patience = Patience(base_delay=0.0, wait=0.0),  # noqa: B008
        affinity: Affinity | None = None,
        wider: dict[str, Sequence[Way]] | None = None,
        unconvertible: Sequence[str] = (),
        action: str = "generate",
    ) -> Deferred[None]:
        """Start an exchange over *ways*."""
        body = b'{"model":"m","messages":[],"stream":true}'
        request = OPENAI_CHAT.parse(body=body, route=Route(action="generate"))
        asked = attrs.evolve(request, action=action)
        self.converted_for: list[str] = []

        async def convert(way: Way) -> Converted:
            self.converted_for.append(way.provider.name)
            if way.provider.name in unconvertible:
                raise InvalidRequest("It has no word for that.")
            return relayed(request.amended(model=way.model), source=OPENAI_CHAT)

        def head(record: ExchangeRecord, converted: Converted) -> Headers:
            return ((b"x-who", f"{record.provider} {record.account}".encode()),)

        self.record = ExchangeRecord(
            id="x1",
            caller="c",
            request=asked,
            provider=ways[0].provider.name,
            model="m",
            began=self.clock.seconds(),
        )
        exchange = Exchange(
            record=self.record,
            ways=ways,
            convert=convert,
            reply=self.reply,
            patience=patience,
            clock=self.clock,
            jitter=lambda: 0.0,
            observers=self.observer,
            budget=self.budget,
            head=head,
            wider=lambda way: (wider or {}).get(way.provider.name, ()),
            affinity=lambda: affinity,
        )
        return Deferred.fromCoroutine(exchange.run())

    def asked(self, name: str) -> list[str]:
        """Return with which account each attempt at a provider was made."""
        return [sent.request.account for sent in self.upstreams[name].sent]

    def assert_served(self, done: Deferred[None], who: str) -> None:
        """The client got all of the good answer, from *who*."""
        self.successResultOf(done)
        self.assertEqual((self.reply.status, self.reply.body), (200, STREAM))
        self.assertEqual(self.reply.header(b"x-who"), who.encode())
        self.assertEqual(self.observer.outcomes["x1"].how, "complete")
        self.assert_over()

    def assert_over(self) -> None:
        """Nothing is left under way: no lease, no timer, no part of the budget."""
        self.assertEqual(self.observer.told.count("ended"), 1)
        self.assertEqual((self.budget.working, self.budget.trying), (0, 0))
        for pool in self.pools.values():
            self.assertEqual({report.active for report in pool.report()}, {0})
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def error_of(self, done: Deferred[None]) -> GatewayError:
        """Return what the client is told."""
        error = self.failureResultOf(done).value
        assert isinstance(error, GatewayError)
        self.assertEqual(self.observer.outcomes["x1"].how, "failed")
        self.assert_over()
        return error


class AccountsTests(FailoverCase):
    """From one account to the next."""

    def test_every_fault_of_an_account_is_answered_by_another(self) -> None:
        """Key, permission, limits, capacity, errors, resets: the client never learns of it."""
        cut = b"".join(chat_chunks(["hi"])[:1])
        faults: dict[str, MemoryResponse | Exception] = {
            "401": refusal(401),
            "403": refusal(403),
            "404": refusal(404, "model_not_found"),
            "429": refusal(429),
            "429 with a hint": refusal(429, wait="7"),
            "quota": refusal(429, "insufficient_quota"),
            "500": refusal(500),
            "503": refusal(503),
            "html": MemoryResponse(502, ((b"content-type", b"text/html"),), [b"<html>"]),
            "refused": UpstreamError("no", fault=Fault.UNREACHABLE, status=502),
            "reset": UpstreamError("no", fault=Fault.RESET, status=502),
            "timeout": UpstreamError("no", fault=Fault.TIMEOUT, status=504),
            "cut before the first event": MemoryResponse(200, SSE, [cut], end=ConnectionLost()),
            "error first": MemoryResponse(
                200, SSE, [b'data: {"error":{"message":"busy","code":"rate_limit_exceeded"}}\n\n']
            ),
            "empty": MemoryResponse(200, SSE, []),
        }
        for name, fault in faults.items():
            self.setUp()
            patience = Patience(max_retries=0, wait=0.0)
            done = self.exchange(self.way("one", [fault, well()], accounts=2), patience=patience)
            self.assert_served(done, "one one-1")
            self.assertEqual(self.asked("one"), ["one-0", "one-1"], name)
            outcome = self.pools["one"].report()
            self.assertEqual([each.tally.failures for each in outcome], [1, 0], name)
            self.assertEqual(outcome[1].tally.output, 1)

    def test_the_same_account_is_asked_again_before_another_one_is(self) -> None:
        """A reset is tried again within the lease, once; nobody is leased twice."""
        reset = UpstreamError("no", fault=Fault.RESET, status=502)
        way = self.way("one", [reset, reset, well()], accounts=2)
        done = self.exchange(way, patience=Patience(max_retries=3, base_delay=0.1, wait=0.0))
        self.clock.pump([0.1, 0.2])
        self.assert_served(done, "one one-1")
        self.assertEqual(self.asked("one"), ["one-0"] * 2 + ["one-1"])

    def test_the_last_account_is_asked_as_often_as_ever(self) -> None:
        """Where nobody else is left the retries of the configuration count."""
        reset = UpstreamError("no", fault=Fault.RESET, status=502)
        way = self.way("one", [refusal(401), reset, reset, well()], accounts=2)
        done = self.exchange(way, patience=Patience(max_retries=3, base_delay=0.1, wait=0.0))
        self.clock.pump([0.1, 0.2])
        self.assert_served(done, "one one-1")
        self.assertEqual(self.asked("one"), ["one-0"] + ["one-1"] * 3)

    def test_nobody_waits_for_long_while_another_account_is_free(self) -> None:
        """Neither for a rate limit, however short, nor for a pause of over a second."""
        way = self.way("one", [refusal(429, wait="2"), well()], accounts=2)
        self.assert_served(self.exchange(way, patience=Patience(wait=0.0)), "one one-1")
        self.setUp()
        reset = UpstreamError("no", fault=Fault.RESET, status=502)
        way = self.way("one", [reset, well()], accounts=2)
        done = self.exchange(way, patience=Patience(base_delay=1.5, wait=0.0))
        self.assert_served(done, "one one-1")
        self.assertEqual(self.asked("one"), ["one-0", "one-1"])

    def test_alone_it_waits_as_ever(self) -> None:
        """A short rate limit of the only account is waited for within the lease."""
        done = self.exchange(self.way("one", [refusal(429, wait="7"), well()]))
        self.clock.advance(7)
        self.assert_served(done, "one one-0")

    def test_what_the_caller_is_at_fault_for_is_final(self) -> None:
        """A faulty request, a filter, a context that is too long: one attempt."""
        for answer, status in (
            (refusal(400), 400),
            (refusal(400, "content_filter"), 400),
            (refusal(400, "context_length_exceeded"), 400),
            (refusal(413), 413),
        ):
            self.setUp()
            error = self.error_of(self.exchange(self.way("one", [answer], accounts=3)))
            self.assertEqual(error.status, status)
            self.assertEqual(len(self.asked("one")), 1)
            self.assertTrue(all(r.standing.usable for r in self.pools["one"].report()))

    def test_after_the_first_byte_nobody_else_is_asked(self) -> None:
        """What was sent cannot be taken back."""
        cut = b"".join(chat_chunks(["hi"])[:2])
        way = self.way("one", [MemoryResponse(200, SSE, [cut], end=ConnectionLost())], accounts=2)
        self.successResultOf(self.exchange(way))
        self.assertEqual(len(self.asked("one")), 1)
        self.assertEqual(self.observer.outcomes["x1"].how, "truncated")

    def test_only_so_many_accounts_are_asked(self) -> None:
        """``credential_switch_max_retries`` others, then the error is told."""
        way = self.way("one", [refusal(401) for _ in range(4)], accounts=10)
        error = self.error_of(self.exchange(way, patience=Patience(max_switches=3, wait=0.0)))
        self.assertEqual(error.status, 401)
        self.assertEqual(self.asked("one"), [f"one-{n}" for n in range(4)])

    def test_a_fallback_is_asked_however_many_accounts_failed(self) -> None:
        """Each further way may be tried with one account at least."""
        one = self.way("one", [refusal(401) for _ in range(4)], accounts=8)
        two = self.way("two", [refusal(401)], accounts=3)
        three = self.way("three", [well()])
        done = self.exchange(one, two, three, patience=Patience(max_switches=3, wait=0.0))
        self.assert_served(done, "three three-0")
        self.assertEqual((len(self.asked("one")), len(self.asked("two"))), (4, 1))

    def test_the_error_names_whom_it_is_of(self) -> None:
        """Not who was asked last."""
        one = self.way("one", [refusal(429, wait="40")])
        two = self.way("two", [refusal(401)])
        self.error_of(self.exchange(one, two, patience=Patience(max_retries=0, wait=0.0)))
        self.assertEqual((self.record.provider, self.record.account), ("one", "one-0"))

    def test_what_is_no_answer_of_a_model_judges_nobody(self) -> None:
        """A count, or a stored answer, that fails rests no account and asks no other."""
        for action in ("count_tokens", "stored"):
            for answer in (refusal(404), refusal(429, wait="60"), refusal(500)):
                self.setUp()
                way = self.way("one", [answer], accounts=3)
                done = self.exchange(way, action=action, patience=Patience(max_retries=0))
                self.error_of(done)
                self.assertEqual(len(self.asked("one")), 1)
                self.assertTrue(all(r.standing.usable for r in self.pools["one"].report()))
        self.setUp()
        way = self.way("one", [refusal(401)], accounts=3)
        self.error_of(self.exchange(way, action="count_tokens"))
        self.assertEqual(self.pools["one"].report()[0].standing.reason, "credential")

    def test_what_the_request_refers_to(self) -> None:
        """A 404 that is not about the model is the caller's affair."""
        way = self.way("one", [refusal(404)], accounts=3)
        self.assertEqual(self.error_of(self.exchange(way)).status, 404)
        self.assertEqual(len(self.asked("one")), 1)
        self.assertTrue(all(r.standing.usable for r in self.pools["one"].report()))

    def test_of_several_errors_the_one_that_tells_most(self) -> None:
        """A limit that passes is told before a key that is wrong, whoever was asked last."""
        way = self.way("one", [refusal(429, wait="40"), refusal(401)], accounts=2)
        error = self.error_of(self.exchange(way))
        self.assertEqual((error.status, error.retry_after), (429, 40.0))
        self.setUp()
        answers = [refusal(429, wait="40"), refusal(429, wait="1500")]
        error = self.error_of(self.exchange(self.way("one", answers, accounts=2)))
        self.assertEqual((error.status, error.retry_after), (429, 40.0))

    def test_the_soonest_return_is_told(self) -> None:
        """Where the upstream said nothing, the caller still learns when to come back."""
        way = self.way("one", [refusal(429), refusal(429)], accounts=2)
        error = self.error_of(self.exchange(way))
        self.assertEqual((error.status, error.retry_after), (429, 5.0))
        self.setUp()
        way = self.way("one", [refusal(429, wait="60")])
        self.error_of(self.exchange(way))
        self.observer = MemoryObserver()
        refused = self.error_of(self.exchange(way))
        assert isinstance(refused, NoAccount)
        self.assertEqual((refused.status, refused.retry_after), (429, 60.0))
        self.assertEqual(len(self.asked("one")), 1)

    def test_a_short_rest_is_waited_for(self) -> None:
        """Within ``wait_for_account`` the request waits instead of being refused."""
        way = self.way("one", [refusal(429, wait="60"), refusal(429, wait="60"), well()])
        self.error_of(self.exchange(way))
        self.clock.advance(55)
        self.observer = MemoryObserver()
        done = self.exchange(way, patience=Patience(wait=10.0))
        self.assertNoResult(done)
        self.clock.advance(5)
        error = self.error_of(done)
        self.assertEqual((error.status, len(self.asked("one"))), (429, 2))

    def test_a_total_clock_ends_it(self) -> None:
        """No further account is asked once the time of the exchange is over."""
        way = self.way("one", [None, well()], accounts=2)
        done = self.exchange(way, patience=Patience(total=5.0, wait=0.0))
        self.clock.advance(5)
        self.assertEqual(self.error_of(done).status, 504)
        self.assertEqual(len(self.asked("one")), 1)

    def test_a_client_that_leaves_ends_it(self) -> None:
        """While a second account is asked, the connection to it is closed."""
        way = self.way("one", [refusal(401), None], accounts=2)
        done = self.exchange(way)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertTrue(self.upstreams["one"].sent[1].cancelled)
        self.assertEqual(self.observer.outcomes["x1"].how, "cancelled")
        self.assert_over()

    def test_an_answer_that_is_kept_belongs_to_its_account(self) -> None:
        """Its name leads later requests there."""
        way = self.way("one", [well() for _ in range(3)], accounts=3)
        affinity = Affinity(find=(), bind=("begin:x",))
        self.assert_served(self.exchange(way, affinity=affinity), "one one-0")
        for _ in range(2):
            self.observer, self.reply = MemoryObserver(), MemoryReply()
            later = Affinity(find=("begin:x",), bind=("begin:x",))
            self.assert_served(self.exchange(way, affinity=later), "one one-0")


class ProvidersTests(FailoverCase):
    """From one provider to the next."""

    def test_the_next_provider_answers(self) -> None:
        """Once no account of the first is left; the request is made afresh for it."""
        one = self.way("one", [refusal(401), refusal(401)], accounts=2)
        two = self.way("two", [well()], model="other")
        self.assert_served(self.exchange(one, two), "two two-0")
        self.assertEqual(self.converted_for, ["one", "one", "two"])
        body = self.upstreams["two"].sent[0].request.body
        assert body is not None
        self.assertIn(b'"other"', body)
        self.assertEqual((self.record.provider, self.record.model), ("two", "other"))

    def test_a_provider_whose_accounts_rest_is_passed_by(self) -> None:
        """It is not asked, and nobody waits for it while another one is free."""
        one = self.way("one", [refusal(429, wait="8")])
        self.error_of(self.exchange(one, patience=Patience(max_retries=0, wait=0.0)))
        self.observer = MemoryObserver()
        two = self.way("two", [well()])
        self.assert_served(self.exchange(one, two, patience=Patience(wait=10.0)), "two two-0")
        self.assertEqual(len(self.asked("one")), 1)

    def test_one_that_cannot_be_asked_such_a_thing_is_passed_by(self) -> None:
        """A way to fall back on whose dialect has no word for it is none."""
        one = self.way("one", [refusal(401)])
        two = self.way("two", [])
        three = self.way("three", [well()])
        done = self.exchange(one, two, three, unconvertible=["two"])
        self.assert_served(done, "three three-0")

    def test_the_first_one_that_cannot_is_the_callers_fault(self) -> None:
        """A request that the chosen provider cannot be asked is a 400, at once."""
        one, two = self.way("one", []), self.way("two", [well()])
        error = self.error_of(self.exchange(one, two, unconvertible=["one"]))
        self.assertEqual(error.status, 400)
        self.assertEqual(self.asked("two"), [])

    def test_a_policy_refusal_is_never_routed_round(self) -> None:
        """Nobody else is asked what one has refused."""
        one = self.way("one", [refusal(400, "content_filter")])
        error = self.error_of(self.exchange(one, self.way("two", [well()])))
        assert isinstance(error, UpstreamError)
        self.assertIs(error.fault, Fault.POLICY)
        self.assertEqual(self.asked("two"), [])

    def test_a_long_context_goes_to_a_wider_model_only(self) -> None:
        """Past whoever else stands in the chain."""
        one = self.way("one", [refusal(400, "context_length_exceeded")], accounts=2)
        two, wide = self.way("two", [well()]), self.way("wide", [well()])
        done = self.exchange(one, two, wide, wider={"one": [wide]})
        self.assert_served(done, "wide wide-0")
        self.assertEqual((len(self.asked("one")), self.asked("two")), (1, []))

    def test_another_model_of_the_same_account(self) -> None:
        """Where only the model was at fault, its account may be asked for another one."""
        for answer, asked in (
            (refusal(503, "model_capacity_exhausted"), 2),
            (refusal(503), 1),
            (refusal(404, "model_not_found"), 2),
            (refusal(400, "context_length_exceeded"), 2),
            (refusal(429, wait="60"), 1),
            (refusal(401), 1),
        ):
            self.setUp()
            one = self.way("one", [answer, well()])
            other = attrs.evolve(one, model="other")
            done = self.exchange(
                one,
                other,
                patience=Patience(max_retries=0, wait=0.0),
                wider={"one": [other]},
            )
            self.assertEqual(len(self.asked("one")), asked)
            if asked == 2:
                self.assert_served(done, "one one-0")
            else:
                self.error_of(done)

    def test_an_unknown_model_is_told_if_nobody_has_it(self) -> None:
        """A 404 of the upstream's own tells more than that nobody is left."""
        one = self.way("one", [refusal(404, "model_not_found")])
        error = self.error_of(self.exchange(one))
        self.assertEqual((error.status, error.code), (404, "model_not_found"))
        self.observer = MemoryObserver()
        self.assertIsInstance(self.error_of(self.exchange(one)), UnknownModel)
        self.assertEqual(len(self.asked("one")), 1)

    def test_who_waits_waits_for_the_first_that_returns(self) -> None:
        """Of all providers, whichever is back first."""
        one = self.way("one", [refusal(429, wait="9")])
        two = self.way("two", [refusal(429, wait="4"), well()])
        patience = Patience(max_retries=0, wait=0.0)
        self.error_of(self.exchange(one, two, patience=patience))
        self.observer = MemoryObserver()
        done = self.exchange(one, two, patience=Patience(max_retries=0, wait=5.0))
        self.assertNoResult(done)
        self.clock.advance(4)
        self.assert_served(done, "two two-0")


class BudgetTests(FailoverCase):
    """An outage is not multiplied."""

    def down(self) -> UpstreamError:
        """Return a connection that could not be made."""
        return UpstreamError("nobody listens", fault=Fault.UNREACHABLE, status=502)

    def test_beyond_the_budget_the_error_is_told_at_once(self) -> None:
        """Neither the same account nor another one is asked again."""
        self.budget = RetryBudget(share=0.2, floor=0)
        error = self.error_of(self.exchange(self.way("one", [self.down()], accounts=3)))
        self.assertEqual(error.status, 502)
        self.assertEqual(len(self.asked("one")), 1)

    def test_limits_of_an_account_are_not_an_outage(self) -> None:
        """Another account is asked whatever the budget says."""
        self.budget = RetryBudget(share=0.0, floor=0)
        way = self.way("one", [refusal(429), refusal(401), well()], accounts=3)
        self.assert_served(self.exchange(way), "one one-2")

    def test_an_exchange_counts_once(self) -> None:
        """However many further tries it makes, and only while it makes them."""
        self.budget = RetryBudget(share=0.0, floor=1)
        way = self.way("one", [self.down(), self.down(), None], accounts=3)
        done = self.exchange(way, patience=Patience(max_retries=0, wait=0.0))
        self.assertEqual((self.budget.working, self.budget.trying), (1, 1))
        self.assertFalse(self.budget.allows())
        self.upstreams["one"].sent[2].reply(well())
        self.assert_served(done, "one one-2")

    def test_an_answer_that_begins_needs_no_more_of_it(self) -> None:
        """A long stream that was saved once does not keep others from being saved."""
        self.budget = RetryBudget(share=0.0, floor=1)
        begun = MemoryResponse(200, SSE, [STREAM[:-40]], end=None)
        done = self.exchange(
            self.way("one", [self.down(), begun], accounts=2),
            patience=Patience(max_retries=0, wait=0.0),
        )
        self.assertTrue(self.reply.begun)
        self.assertTrue(self.budget.allows())
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assert_over()

    def test_the_share_is_of_what_is_at_work(self) -> None:
        """20 % of 100 are 20; of 10 the floor counts."""
        budget = RetryBudget(share=0.2, floor=3)
        for working, allowed in ((100, 20), (10, 3), (0, 3)):
            budget.working, budget.trying = working, 0
            while budget.allows():
                budget.trying += 1
            self.assertEqual(budget.trying, allowed)


class TraceTests(FailoverCase):
    """What is noted on the way."""

    def test_every_step_is_there(self) -> None:
        """Who was passed by, who was chosen, what each attempt came to."""
        reset = UpstreamError("It broke.", fault=Fault.RESET, status=502)
        one = self.way("one", [refusal(401), reset, reset], accounts=2)
        two = self.way("two", [well()])
        done = self.exchange(one, two, patience=Patience(max_retries=1, base_delay=0.5, wait=0.0))
        self.clock.advance(0.5)
        self.assert_served(done, "two two-0")
        steps = [(s.what, s.provider, s.account, s.status) for s in self.record.steps]
        self.assertEqual(
            steps,
            [
                ("target", "one", "", None),
                ("chosen", "one", "one-0", None),
                ("attempt", "one", "one-0", 401),
                ("skipped", "one", "one-0", None),
                ("chosen", "one", "one-1", None),
                ("attempt", "one", "one-1", 502),
                ("retry", "one", "one-1", None),
                ("attempt", "one", "one-1", 502),
                ("skipped", "one", "one-0", None),
                ("skipped", "one", "one-1", None),
                ("refused", "one", "", None),
                ("target", "two", "", None),
                ("chosen", "two", "two-0", None),
                ("attempt", "two", "two-0", 200),
                ("ended", "", "", None),
            ],
        )
        self.assertEqual(self.record.steps[7].at, 0.5)
        self.assertNotIn("sk-", repr(self.record.steps))
