"""
How Code Assist finds a project for an account and takes it in, and what it tells of allowances.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, RawReply, UpstreamError
from aiclient2api.providers._code_assist_project import Projects, discovered
from aiclient2api.providers._code_assist_quota import QuotaBucket, buckets_in
from aiclient2api.testing import CODE_ASSIST_FAULTS

METADATA = {
    "ideType": "IDE_UNSPECIFIED",
    "platform": "PLATFORM_UNSPECIFIED",
    "pluginType": "GEMINI",
}
FREE = {"id": "free-tier", "isDefault": True}


class ProjectTests(SynchronousTestCase):
    """How an account's project is found."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.called: list[tuple[str, Any]] = []

    def find(self, *answers: Any) -> Deferred[str]:
        """Look for the project where Google answers so, one answer a call."""
        left = list(answers)

        async def call(path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
            self.called.append((path, body))
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            found: Mapping[str, Any] = answer
            return found

        return Deferred.fromCoroutine(discovered(whose="g", call=call, clock=self.clock))

    def refused(self, *answers: Any) -> UpstreamError:
        """Return the error that the search ends with."""
        error = self.failureResultOf(self.find(*answers), UpstreamError).value
        assert isinstance(error, UpstreamError)
        return error

    def test_onboarded(self) -> None:
        """An account that is taken in has one already; nothing empty is asked with."""
        told = {"currentTier": FREE, "cloudaicompanionProject": "p"}
        self.assertEqual(self.successResultOf(self.find(told)), "p")
        self.assertEqual(self.called, [(":loadCodeAssist", {"metadata": METADATA})])

    def test_onboarding(self) -> None:
        """One that is new is taken in, without a project; the operation is asked after."""
        operation = {"name": "operations/1", "done": False}
        done = {"done": True, "response": {"cloudaicompanionProject": {"id": "p"}}}
        finding = self.find({"allowedTiers": [FREE]}, operation, operation, done)
        self.clock.advance(5)
        self.assertNoResult(finding)
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(finding), "p")
        self.assertEqual(
            self.called[1:],
            [
                (":onboardUser", {"tierId": "free-tier", "metadata": METADATA}),
                ("/operations/1", None),
                ("/operations/1", None),
            ],
        )

    def test_onboarding_without_a_name(self) -> None:
        """An operation without a name is asked after by beginning it again."""
        done = {"done": True, "response": {"cloudaicompanionProject": {"id": "p"}}}
        finding = self.find({}, {"done": False}, done)
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(finding), "p")
        self.assertEqual([path for path, _ in self.called[1:]], [":onboardUser"] * 2)
        self.assertEqual(self.called[1][1]["tierId"], "legacy-tier")

    def test_onboarding_that_does_not_end(self) -> None:
        """After 24 questions it is given up for now."""
        finding = self.find({"allowedTiers": [FREE]}, {"name": "operations/1"})
        self.clock.pump([5.0] * 24)
        error = self.failureResultOf(finding, UpstreamError).value
        self.assertEqual((error.code, len(self.called)), ("onboarding_timeout", 26))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_onboarding_that_fails(self) -> None:
        """What Google says of it is told."""
        failed = {"done": True, "error": {"code": 7, "message": "No such user."}}
        error = self.refused({"allowedTiers": [FREE]}, failed)
        self.assertEqual(error.fault, Fault.PERMISSION)
        self.assertIn("No such user", error.message)

    def test_verification(self) -> None:
        """An account that must be verified is told where."""
        tier = {"reasonCode": "VALIDATION_REQUIRED", "validationUrl": "https://a.test/v"}
        error = self.refused({"ineligibleTiers": [tier], "allowedTiers": [FREE]})
        self.assertIn("https://a.test/v", error.message)
        self.assertEqual(error.code, "validation_required")

    def test_ineligible(self) -> None:
        """Whom Google does not serve is told all its reasons."""
        tiers = [
            {"reasonCode": "RESTRICTED_AGE", "reasonMessage": "Too young."},
            {"reasonCode": "DASHER_USER"},
        ]
        for told in (
            {"ineligibleTiers": tiers},
            {"ineligibleTiers": tiers, "currentTier": {"id": "standard-tier"}},
        ):
            error = self.refused(told)
            self.assertIn("Too young; DASHER_USER", error.message)
            self.assertEqual(error.code, "ineligible")

    def test_project_needed(self) -> None:
        """A tier that comes with no project needs one that is written down."""
        own = {"id": "standard-tier", "isDefault": True, "userDefinedCloudaicompanionProject": True}
        for answers in (
            ({"currentTier": {"id": "standard-tier"}},),
            ({"allowedTiers": [own]},),
            ({"allowedTiers": [FREE]}, {"done": True, "response": {}}),
        ):
            error = self.refused(*answers)
            self.assertEqual((error.code, error.status), ("project_needed", 403))
            self.assertIn("project_id", error.message)

    def test_service_controls(self) -> None:
        """Behind VPC service controls the tier is taken for granted; other errors stand."""
        locked = CODE_ASSIST_FAULTS["no permission"].body
        body = json.loads(json.dumps(locked))
        body["error"]["details"] = [{"reason": "SECURITY_POLICY_VIOLATED"}]
        for told, code in ((body, "project_needed"), (locked, None)):
            reply = RawReply(403, (), json.dumps(told).encode())
            raised = UpstreamError("No.", fault=Fault.PERMISSION, status=403, reply=reply)
            self.assertEqual(self.refused(raised).code, code)

    def test_one_search(self) -> None:
        """Who asks at the same time waits for the same search; who leaves stops nothing."""
        projects, gate = Projects(), Deferred[str]()
        looked: list[int] = []

        async def look() -> str:
            looked.append(1)
            return await gate

        first, second = (Deferred.fromCoroutine(projects.get("k", look)) for _ in range(2))
        first.cancel()
        self.failureResultOf(first)
        gate.callback("p")
        self.assertEqual(self.successResultOf(second), "p")
        third = Deferred.fromCoroutine(projects.get("k", look))
        self.assertEqual(self.successResultOf(third), "p")
        self.assertEqual(looked, [1])

    def test_a_search_that_failed_is_made_again(self) -> None:
        """A failure is everybody's who waited, and nobody's who comes later."""
        projects = Projects()

        async def look() -> str:
            raise UpstreamError("No.", fault=Fault.SERVER, status=502)

        async def other() -> str:
            return "p"

        self.failureResultOf(Deferred.fromCoroutine(projects.get("k", look)), UpstreamError)
        found = Deferred.fromCoroutine(projects.get("k", other))
        self.assertEqual(self.successResultOf(found), "p")


class QuotaTests(SynchronousTestCase):
    """What is left of an allowance."""

    def test_buckets(self) -> None:
        """What is told is read; what is not understood is not told."""
        bucket = {
            "remainingAmount": "998",
            "remainingFraction": 0.5,
            "resetTime": "1970-01-01T00:01:00Z",
            "tokenType": "REQUESTS",
            "modelId": "m",
        }
        odd = {"remainingAmount": "-", "remainingFraction": True, "resetTime": "soon", "modelId": 1}
        self.assertEqual(
            buckets_in({"buckets": [bucket, odd, 3, {"remainingFraction": 10**400}]}),
            [QuotaBucket("m", 0.5, 998, "REQUESTS", 60.0), QuotaBucket(""), QuotaBucket("")],
        )
        self.assertEqual(buckets_in({}), [])
