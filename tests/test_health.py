"""Health: the seed's answer field by field, readiness, and what is told of accounts."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from aiclient2api import __version__
from aiclient2api.errors import InvalidRequest, NoAccount
from aiclient2api.interfaces import IAccountPool, ILease
from aiclient2api.values import Account, AccountReport, Affinity, Standing, Tally
from aiclient2api.web.health import greeting, liveness, provider_health, readiness, reset

READY = Standing(state="ready", usable=True)
COOLING = Standing(
    state="cooling",
    usable=False,
    reason="rate_limit",
    message="slow down",
    since=1700000000.0,
    until=1700003600.0,
    next_try=1700000300.0,
)


@implementer(IAccountPool)
@attrs.define
class ReportingPool:
    """A pool that only tells how its accounts fare, as the test says."""

    reports: Sequence[AccountReport] = ()
    resets: list[Sequence[str]] = attrs.field(factory=list)

    def acquire(
        self,
        *,
        model: str,
        exclude: Collection[str] = (),
        affinity: Affinity | None = None,
        wait: float = 0.0,
        limit: float | None = None,
        note: Callable[[str, str, str], None] | None = None,
    ) -> Deferred[ILease]:
        return fail(NoAccount("This pool leases nothing.", code="none"))

    def ready(self, *, model: str, exclude: Collection[str] = ()) -> bool:
        return self.usable()

    def soonest(self, *, model: str, exclude: Collection[str] = ()) -> float | None:
        return None

    def usable(self) -> bool:
        return any(report.standing.usable for report in self.reports)

    def snapshot(self) -> Sequence[Account]:
        return [each.account for each in self.reports if not each.account.disabled]

    def report(self) -> Sequence[AccountReport]:
        return self.reports

    def probe(self, id: str, model: str) -> ILease | None:
        return None

    def due(self) -> Sequence[str]:
        return ()

    def last_model(self, id: str) -> str | None:
        return None

    def reset(self, ids: Collection[str]) -> Sequence[str]:
        found = [each.account.id for each in self.reports if each.account.id in ids]
        self.resets.append(found)
        return found


def told_of(
    id: str,
    standing: Standing = READY,
    *,
    provider: str = "openai-custom",
    active: int = 0,
    tally: Tally | None = None,
    models: dict[str, Standing] | None = None,
    **fields: Any,
) -> AccountReport:
    """Return a report of one account."""
    account = Account(provider=provider, id=id, settings=None, **fields)
    return AccountReport(account, standing, models or {}, active, tally or Tally())


def pool(*reports: AccountReport) -> ReportingPool:
    """Return a pool of these."""
    return ReportingPool(reports)


class HealthTests(SynchronousTestCase):
    """What a monitor and a curious person read."""

    def test_liveness_is_what_monitors_of_the_older_versions_read(self) -> None:
        """Status, ISO time with milliseconds and Z, the default provider."""
        self.assertEqual(
            json.loads(liveness(provider="sandbox", seconds=1700000000.5)),
            {"status": "healthy", "timestamp": "2023-11-14T22:13:20.500Z", "provider": "sandbox"},
        )

    def test_the_root_says_who_answers(self) -> None:
        """Name and where to go; the version only to those with a key."""
        self.assertNotIn("version", json.loads(greeting(["/health"], detail=False)))
        told = json.loads(greeting(["/health"], detail=True))
        self.assertEqual((told["name"], told["version"]), ("aiclient2api", __version__))
        self.assertEqual(told["endpoints"], ["/health"])


class ReadinessTests(SynchronousTestCase):
    """``GET /ready``."""

    def setUp(self) -> None:
        """Have one pool that can answer, and one that cannot."""
        self.good = pool(told_of("a"))
        self.bad = pool(told_of("b", COOLING))
        self.pools: dict[str, ReportingPool] = {"good": self.good, "bad": self.bad}

    def ready(
        self,
        *defaults: str,
        chain: dict[str, list[str]] | None = None,
        asked: str | None = None,
        detail: bool = True,
    ) -> tuple[int, dict[str, Any]]:
        """Return the status and the decoded body."""
        status, body = readiness(
            pools=self.pools,
            defaults=defaults,
            chain=lambda name: (chain or {}).get(name, []),
            asked=asked,
            detail=detail,
        )
        return status, json.loads(body)

    def test_the_double_keeps_the_contract(self) -> None:
        """These tests judge what the real pool would be asked."""
        self.assertTrue(verifyObject(IAccountPool, self.good))

    def test_a_default_provider_that_can_answer_is_ready(self) -> None:
        """Whatever the others do."""
        self.assertEqual(self.ready("good")[0], 200)

    def test_a_default_provider_without_a_usable_account_is_not(self) -> None:
        """503, with a sentence and the pools that are empty."""
        status, body = self.ready("bad")
        self.assertEqual(status, 503)
        self.assertEqual((body["ready"], body["empty"]), (False, ["bad"]))
        self.assertIn("No account of bad can be used now", body["message"])

    def test_a_fallback_makes_it_ready(self) -> None:
        """For requests are answered."""
        status, body = self.ready("bad", chain={"bad": ["good"]})
        self.assertEqual((status, body["ready"], body["empty"]), (200, True, ["bad"]))
        self.assertEqual(body["providers"], {"bad": False, "good": True})

    def test_a_fallback_that_rests_as_well_does_not(self) -> None:
        """Both are named."""
        self.pools["worse"] = self.bad
        status, body = self.ready("bad", chain={"bad": ["worse"]})
        self.assertEqual((status, body["empty"]), (503, ["bad", "worse"]))

    def test_a_default_provider_that_is_not_there_is_not_ready(self) -> None:
        """One that was never seated has no account either."""
        self.assertEqual(self.ready("gone")[0], 503)

    def test_without_a_default_any_pool_will_do(self) -> None:
        """In ``auto`` mode the model decides."""
        self.assertEqual(self.ready()[0], 200)
        del self.pools["good"]
        self.assertEqual(self.ready()[0], 503)
        self.pools.clear()
        self.assertEqual(self.ready()[0], 503)

    def test_one_of_several_defaults_is_enough(self) -> None:
        """Callers of some dialect are answered."""
        self.assertEqual(self.ready("bad", "good")[0], 200)

    def test_one_provider_can_be_asked_for(self) -> None:
        """Its own accounts count, not those it falls back to."""
        chain = {"bad": ["good"]}
        self.assertEqual(self.ready("good", chain=chain, asked="bad")[0], 503)
        self.assertEqual(self.ready("bad", chain=chain, asked="good")[0], 200)
        self.assertEqual(self.ready("bad", asked="auto")[0], 200)

    def test_an_unknown_provider_is_not_found(self) -> None:
        """404, with those that there are."""
        status, body = self.ready("good", asked="x")
        self.assertEqual(status, 404)
        self.assertEqual(body["message"], "There is no provider 'x' here; there are: bad, good.")

    def test_without_a_key_no_name_is_told(self) -> None:
        """A scanner learns true or false, and nothing else."""
        for status, asked in ((503, None), (200, "good"), (404, "x")):
            told = self.ready("bad", asked=asked, detail=False)
            self.assertEqual(told, (status, {"ready": status == 200}))


class ProviderHealthTests(SynchronousTestCase):
    """``GET /provider_health``."""

    def told(
        self,
        *reports: AccountReport,
        provider: str | None = None,
        name: str | None = None,
        threshold: str | None = None,
    ) -> dict[str, Any]:
        """Return the decoded body for these accounts, all in the pools of their providers."""
        pools: dict[str, ReportingPool] = {}
        for report in reports:
            owner = report.account.provider
            pools[owner] = pool(*(*pools.get(owner, pool()).reports, report))
        body = provider_health(
            pools=pools, provider=provider, name=name, threshold=threshold, now=1700000000.5
        )
        return json.loads(body)

    def test_an_account_that_is_well(self) -> None:
        """The older versions' fields, then its state, its work and its tokens."""
        tally = Tally(
            requests=7,
            failures=1,
            input=100,
            output=20,
            cached=60,
            cache_write=5,
            reasoning=3,
            last_used=1700000000.0,
        )
        told = self.told(told_of("id-1", name="main", active=2, tally=tally))
        self.assertEqual(
            told,
            {
                "timestamp": "2023-11-14T22:13:20.500Z",
                "items": [
                    {
                        "uuid": "id-1",
                        "customName": "main",
                        "isHealthy": True,
                        "isDisabled": False,
                        "lastErrorTime": None,
                        "lastErrorMessage": None,
                        "needsRefresh": False,
                        "identify": "main::openai-custom",
                        "provider": "openai-custom",
                        "state": "ready",
                        "reason": "",
                        "message": "",
                        "since": None,
                        "until": None,
                        "nextTry": None,
                        "active": 2,
                        "requests": 7,
                        "failures": 1,
                        "tokens": {
                            "input": 100,
                            "output": 20,
                            "cached": 60,
                            "cacheWrite": 5,
                            "reasoning": 3,
                        },
                        "lastUsed": "2023-11-14T22:13:20.000Z",
                        "models": {},
                    }
                ],
                "count": 1,
                "unhealthyCount": 0,
                "unhealthyRatio": 0.0,
                "unhealthySummeryMessage": None,
                "summaryHealth": True,
            },
        )

    def test_an_account_that_rests(self) -> None:
        """Why, since when, until when, and when it is tried again whatever was said."""
        told = self.told(told_of("id-1", COOLING))
        item = told["items"][0]
        self.assertEqual((item["state"], item["reason"]), ("cooling", "rate_limit"))
        self.assertEqual(item["since"], "2023-11-14T22:13:20.000Z")
        self.assertEqual(item["until"], "2023-11-14T23:13:20.000Z")
        self.assertEqual(item["nextTry"], "2023-11-14T22:18:20.000Z")
        self.assertFalse(item["isHealthy"])
        self.assertEqual(item["lastErrorTime"], item["since"])
        self.assertEqual(item["lastErrorMessage"], "slow down")
        self.assertEqual(told["unhealthySummeryMessage"], "id-1::openai-custom")

    def test_a_model_that_rests(self) -> None:
        """The account is well, one of its models is not."""
        told = self.told(told_of("id-1", models={"m": COOLING}))
        self.assertTrue(told["items"][0]["isHealthy"])
        model = told["items"][0]["models"]["m"]
        self.assertEqual(
            (model["state"], model["nextTry"]), ("cooling", "2023-11-14T22:18:20.000Z")
        )

    def test_an_account_whose_token_is_being_renewed(self) -> None:
        """needsRefresh, as the older versions called it."""
        told = self.told(told_of("a", Standing(state="refreshing", usable=False)))
        self.assertTrue(told["items"][0]["needsRefresh"])

    def test_disabled_accounts_are_listed_and_not_counted(self) -> None:
        """They are nobody's illness."""
        off = Standing(state="disabled", usable=False)
        told = self.told(told_of("a"), told_of("b", off, disabled=True))
        self.assertEqual([each["isDisabled"] for each in told["items"]], [False, True])
        self.assertEqual((told["count"], told["unhealthyCount"]), (1, 0))
        self.assertTrue(told["summaryHealth"])

    def test_nothing_to_count_is_not_healthy(self) -> None:
        """A monitor is not told that all is well where nobody could answer."""
        off = Standing(state="disabled", usable=False)
        self.assertFalse(self.told(told_of("b", off, disabled=True))["summaryHealth"])
        self.assertFalse(self.told()["summaryHealth"])

    def test_the_ratio_is_rounded_and_judged_exactly(self) -> None:
        """One in three is 0.33, and more than a third of nothing is bearable at 0.34."""
        reports = (told_of("a"), told_of("b"), told_of("c", COOLING))
        told = self.told(*reports)
        self.assertEqual((told["unhealthyRatio"], told["summaryHealth"]), (0.33, False))
        self.assertFalse(self.told(*reports, threshold="0.33")["summaryHealth"])
        self.assertTrue(self.told(*reports, threshold="0.34")["summaryHealth"])

    def test_the_summary_names_each_unhealthy_account(self) -> None:
        """A line each."""
        told = self.told(
            told_of("a", COOLING, name="one"), told_of("b", COOLING, provider="claude-custom")
        )
        self.assertEqual(told["unhealthySummeryMessage"], "one::openai-custom\nb::claude-custom")

    def test_one_provider_or_name_can_be_asked_for(self) -> None:
        """The counts are of those."""
        reports = (
            told_of("a", name="x"),
            told_of("b", name="y"),
            told_of("c", name="x", provider="claude-custom"),
        )

        def ids(**asked: str) -> list[str]:
            return [each["uuid"] for each in self.told(*reports, **asked)["items"]]

        self.assertEqual(ids(provider="openai-custom"), ["a", "b"])
        self.assertEqual(ids(name="x"), ["a", "c"])
        self.assertEqual(ids(provider="claude-custom", name="y"), [])

    def test_what_cannot_be_meant_is_refused(self) -> None:
        """A threshold that is no share, a provider that is not there."""
        for wrong in ("half", "nan", "inf", "-1", "1e999"):
            with self.assertRaises(InvalidRequest) as caught:
                self.told(told_of("a"), threshold=wrong)
            self.assertEqual(caught.exception.param, "unhealthRatioThreshold")
        with self.assertRaises(InvalidRequest) as caught:
            self.told(told_of("a"), provider="x")
        self.assertIn("there are: openai-custom.", caught.exception.message)


class ResetTests(SynchronousTestCase):
    """``POST /provider_health/reset``."""

    def setUp(self) -> None:
        """Have two providers."""
        self.first = pool(told_of("a", COOLING), told_of("b", disabled=True))
        self.second = pool(told_of("c"))
        self.pools = {"first": self.first, "second": self.second}

    def reset(self, body: object) -> dict[str, Any]:
        """Return the decoded answer to *body*."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, answer = reset(pools=self.pools, body=raw)
        self.assertEqual(status, 200)
        return json.loads(answer)

    def test_accounts_by_their_ids(self) -> None:
        """Wherever they are; those that nobody has are named."""
        told = self.reset({"accounts": ["a", "c", "x", "x"]})
        self.assertEqual(told, {"reset": ["a", "c"], "unknown": ["x"]})
        self.assertEqual((self.first.resets, self.second.resets), ([["a"]], [["c"]]))

    def test_accounts_of_one_provider(self) -> None:
        """The others' are not found there."""
        told = self.reset({"provider": "second", "accounts": ["a", "c"]})
        self.assertEqual(told, {"reset": ["c"], "unknown": ["a"]})
        self.assertEqual(self.first.resets, [])

    def test_all_accounts(self) -> None:
        """Of one provider, or of all; but for those that are disabled."""
        self.assertEqual(self.reset({"provider": "first"})["reset"], ["a"])
        everything: tuple[object, ...] = ({}, b"", b" \n")
        for body in everything:
            self.assertEqual(self.reset(body), {"reset": ["a", "c"], "unknown": []})

    def test_no_account_is_no_account(self) -> None:
        """An empty list does not mean all."""
        self.assertEqual(self.reset({"accounts": []}), {"reset": [], "unknown": []})

    def test_what_cannot_be_meant_is_refused(self) -> None:
        """With what would be right, and nothing is reset."""
        wrong: tuple[tuple[object, str | None], ...] = (
            (b"{", None),
            (b"[" * 100_000, None),
            (b"\xff", None),
            ([], None),
            ({"provider": 1}, "provider"),
            ({"provider": "x"}, "provider"),
            ({"accounts": "a"}, "accounts"),
            ({"accounts": [1]}, "accounts"),
            ({"acounts": ["a"]}, "acounts"),
        )
        for body, param in wrong:
            with self.assertRaises(InvalidRequest) as caught:
                self.reset(body)
            self.assertEqual(caught.exception.param, param, str(body)[:40])
        self.assertEqual((self.first.resets, self.second.resets), ([], []))
