"""The device grant: how often is asked, and which answers end it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.interfaces import ILoginFlow
from aiclient2api.oauth.device import LONGEST, DeviceCode, DeviceLogin, Pace, device_code
from aiclient2api.oauth.qwen_login import PACE
from aiclient2api.oauth.requests import Answer

NAMES = {
    "secret": "device_code",
    "code": "user_code",
    "url": "verification_uri",
    "whole": "verification_uri_complete",
    "seconds": "expires_in",
    "interval": "interval",
}
PENDING = Answer(400, {}, "authorization_pending")
SLOWER = Answer(400, {}, "slow_down")
STEADY = Pace()
GRANTED = Answer(200, {"access_token": "t"})


class Telling:
    """A vendor that answers as it is told to."""

    whose = "The vendor's login"

    def __init__(self, clock: Clock, answers: list[Any], interval: float = 5.0) -> None:
        self.clock = clock
        self.answers = answers
        self.asked: list[float] = []
        self.given = DeviceCode("d-secret", "AB-CD", "https://v.example/d", "", 600.0, interval)

    def begin(self) -> Deferred[DeviceCode]:
        """Give a code."""
        return succeed(self.given)

    def ask(self, secret: str) -> Deferred[Answer]:
        """Give the next answer, and note when."""
        assert secret == "d-secret"
        self.asked.append(self.clock.seconds())
        answer = self.answers.pop(0) if self.answers else PENDING
        if isinstance(answer, Deferred):
            return answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def credential(self, answer: Answer) -> Mapping[str, Any]:
        """Give the answer itself."""
        return answer.document


class DeviceLoginTests(SynchronousTestCase):
    """Asking until somebody has logged in."""

    def begun(self, answers: list[Any], pace: Pace = STEADY, interval: float = 5.0) -> Any:
        """Start a login and wait for its end."""
        self.clock = Clock()
        self.vendor = Telling(self.clock, answers, interval)
        self.flow = DeviceLogin(self.vendor, clock=self.clock, pace=pace, now=lambda: 1000.0)
        verifyObject(ILoginFlow, self.flow)
        self.successResultOf(self.flow.start())
        return self.flow.finish()

    def run_for(self, seconds: int) -> None:
        """Let time pass, half a second at a time."""
        self.clock.pump([0.5] * (2 * seconds))

    def refused(self, answer: Any) -> UpstreamError:
        """Return what a login ends with after *answer*; nothing is left of it."""
        finishing = self.begun([answer])
        self.run_for(5)
        error = self.failureResultOf(finishing, UpstreamError).value
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.run_for(60)
        self.assertEqual(len(self.vendor.asked), 1)
        assert isinstance(error, UpstreamError)
        return error

    def test_a_login(self) -> None:
        """The code is shown, its secret half is not, and the credential comes in the end."""
        finishing = self.begun([PENDING, PENDING, GRANTED])
        self.assertEqual((self.flow.code, self.flow.url), ("AB-CD", "https://v.example/d"))
        self.assertEqual(self.flow.expires, 1600.0)
        self.assertNotIn("d-secret", repr(self.vendor.given))
        self.run_for(15)
        self.assertEqual(self.successResultOf(finishing), {"access_token": "t"})
        self.assertEqual(self.vendor.asked, [5.0, 10.0, 15.0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slowing_down(self) -> None:
        """Each "slow down" makes the wait longer for good, as RFC 8628 has it."""
        self.begun([SLOWER, SLOWER, PENDING, GRANTED])
        self.run_for(60)
        self.assertEqual(self.vendor.asked, [5.0, 15.0, 30.0, 45.0])

    def test_slowing_down_as_qwen_does(self) -> None:
        """By half, to ten seconds at most, and back once a plain "not yet" comes."""
        answers = [Answer(429, {}, "slow_down")] * 6 + [PENDING, GRANTED]
        self.begun(answers, PACE, interval=2.0)
        self.run_for(90)
        waits = [b - a for a, b in zip(self.vendor.asked, self.vendor.asked[1:], strict=False)]
        self.assertEqual(waits, [3.0, 4.5, 7.0, 10.0, 10.0, 10.0, 2.0])

    def test_a_429_without_a_word_is_slow_down(self) -> None:
        """So is one that says something else."""
        finishing = self.begun([Answer(429, {}), GRANTED])
        self.run_for(14)
        self.assertNoResult(finishing)
        self.run_for(1)
        self.successResultOf(finishing)

    def test_a_200_that_is_pending(self) -> None:
        """Some say "not yet" with a good status."""
        finishing = self.begun([Answer(200, {"status": "pending"}), GRANTED])
        self.run_for(10)
        self.successResultOf(finishing)

    def test_words_of_aws(self) -> None:
        """Names of exceptions mean the same."""
        finishing = self.begun([Answer(400, {}, "AuthorizationPendingException"), GRANTED])
        self.run_for(10)
        self.successResultOf(finishing)

    def test_trouble_on_the_way_is_passing(self) -> None:
        """An upstream that cannot be reached is asked again, later."""
        gone = UpstreamError("gone", fault=Fault.UNREACHABLE, status=502)
        finishing = self.begun([gone, GRANTED])
        self.run_for(15)
        self.successResultOf(finishing)
        self.assertEqual(self.vendor.asked, [5.0, 15.0])

    def test_denied(self) -> None:
        """Whoever says no in the browser ends it."""
        self.assertIn(
            "refused in the browser", self.refused(Answer(400, {}, "access_denied")).message
        )

    def test_expired(self) -> None:
        """So does a code that is not good any more, in either way of saying it."""
        for answer in (Answer(400, {}, "expired_token"), Answer(401, {})):
            self.assertIn("has expired", self.refused(answer).message)

    def test_anything_else_ends_it(self) -> None:
        """With the vendor's own words."""
        error = self.refused(Answer(400, {}, "invalid_client", "who are you?"))
        self.assertIn("who are you?", error.message)
        self.assertIn("401", self.refused(Answer(401, {}, "invalid_client")).message)

    def test_nobody_logs_in(self) -> None:
        """It ends when the code does, and not a question later."""
        finishing = self.begun([])
        self.run_for(599)
        self.assertNoResult(finishing)
        self.run_for(1)
        self.assertIn("expired", self.failureResultOf(finishing, UpstreamError).value.message)
        self.assertLessEqual(self.vendor.asked[-1], 595.0)

    def test_giving_up(self) -> None:
        """While it waits, and while it asks: nothing goes on."""
        finishing = self.begun([])
        finishing.cancel()
        self.failureResultOf(finishing, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        cancelled: list[bool] = []
        finishing = self.begun([Deferred(lambda _: cancelled.append(True))])
        self.run_for(5)
        finishing.cancel()
        self.failureResultOf(finishing, CancelledError)
        self.assertEqual((cancelled, self.clock.getDelayedCalls()), ([True], []))

    def test_there_is_nothing_to_paste(self) -> None:
        """Who pastes an address is told what to do instead."""
        self.begun([])
        with self.assertRaises(InvalidRequest) as caught:
            self.flow.paste("https://v.example/d?code=1")
        self.assertIn("type its code", caught.exception.message)

    def test_it_must_be_started(self) -> None:
        """Without a code there is nothing to ask for."""
        flow = DeviceLogin(Telling(Clock(), []), clock=Clock())
        self.failureResultOf(flow.finish(), InvalidRequest)


class DeviceCodeTests(SynchronousTestCase):
    """Reading the first answer."""

    def read(self, **more: Any) -> DeviceCode:
        """Return what an answer comes to."""
        told = {
            "device_code": "d",
            "user_code": "U",
            "verification_uri": "https://v.example",
            **more,
        }
        return device_code(Answer(200, told), whose="It", names=NAMES, interval=2.0)

    def test_what_is_left_out(self) -> None:
        """It has a default."""
        found = self.read()
        self.assertEqual((found.interval, found.seconds, found.whole), (2.0, 600.0, ""))

    def test_what_it_says(self) -> None:
        """It holds, within reason."""
        found = self.read(interval=7, expires_in=900)
        self.assertEqual((found.interval, found.seconds), (7.0, 900.0))
        self.assertEqual(self.read(expires_in=10**8).seconds, LONGEST)

    def test_a_terminal_obeys_nothing_of_it(self) -> None:
        """A code with control characters loses them."""
        self.assertEqual(self.read(user_code="A\x1b[2JB").code, "A [2JB")

    def test_only_web_pages_are_opened(self) -> None:
        """No file, no program, no plain http beyond this machine."""
        for url in ("file:///etc/passwd", "javascript:1", "http://v.example", "x-app://a"):
            self.assertRaises(UpstreamError, self.read, verification_uri=url)
        self.assertEqual(
            self.read(verification_uri="http://127.0.0.1:1/").url, "http://127.0.0.1:1/"
        )

    def test_none_at_all(self) -> None:
        """An answer without one, and a refusal, say so."""
        self.assertRaises(UpstreamError, self.read, device_code="")
        with self.assertRaises(UpstreamError) as caught:
            device_code(Answer(400, {}, "no", "not you"), whose="It", names=NAMES, interval=2.0)
        self.assertIn("not you", caught.exception.message)
