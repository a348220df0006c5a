"""The webhook: which changes are told, in what words, and what becomes of failures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.interfaces import IUpstreamResponse
from aiclient2api.observe.webhook import (
    MOST_WAITING,
    PATIENCE,
    QUIET,
    RETRY_DELAY,
    Webhook,
)
from aiclient2api.testing import MemoryResponse, MemoryUpstream
from aiclient2api.values import Account, Standing, UpstreamRequest

URL = "https://hooks.example/services/T0/secret-path?token=secret-query"
ACCOUNT = Account(
    provider="openai-custom", id="id-1", settings=None, name="main", secrets=("sk-test-secret",)
)
READY = Standing(state="ready", usable=True, since=1700000000.0)
COOLING = Standing(
    state="cooling",
    usable=False,
    reason="rate_limit",
    message="slow down",
    since=1700000000.0,
    until=1700003600.0,
    next_try=1700000300.0,
)
PROBING = Standing(state="probing", usable=False, reason="rate_limit")
REFRESHING = Standing(state="refreshing", usable=False)
REJECTED = Standing(state="rejected", usable=False, reason="credential")


def taken() -> MemoryResponse:
    """Return an answer that takes the message."""
    return MemoryResponse(200, (), [b"ok"])


def unreachable() -> UpstreamError:
    """Return a connection that could not be made, to a place that must not be shown."""
    return UpstreamError(f"No connection to {URL}", fault=Fault.UNREACHABLE, status=502)


class WebhookTests(SynchronousTestCase):
    """`Webhook` over an upstream in memory."""

    def setUp(self) -> None:
        """Have a clock, and somewhere to post to."""
        self.clock = Clock()
        self.url: str | None = URL

    def webhook(self, *answers: MemoryResponse | Exception | None) -> Webhook:
        """Return a webhook whose posts get *answers*."""
        self.upstream = MemoryUpstream(answers, clock=self.clock)
        return Webhook(
            url=lambda: self.url,
            upstream=self.upstream,
            clock=self.clock,
            now=lambda: 1700000000.5,
        )

    def told(self) -> list[dict[str, Any]]:
        """Return the messages posted so far, decoded."""
        return [json.loads(sent.request.body or b"") for sent in self.upstream.sent]

    def ways(self) -> list[tuple[str, str]]:
        """Return from where to where each message posted says that an account went."""
        return [(each["from"], each["to"]) for each in self.told()]

    def went(self, webhook: Webhook, *standings: Standing, account: Account = ACCOUNT) -> None:
        """Let an account go from one standing to the next."""
        for before, after in pairwise(standings):
            webhook.changed(account=account, before=before, after=after)

    def logged(self, events: Sequence[Any]) -> list[str]:
        """Return the lines logged, none of which gives anything away."""
        lines = [str(formatEvent(event)) for event in events]
        for line in lines:
            self.assertNotIn("secret", line)
        return lines

    # --- what is told -----------------------------------------------------------

    def test_a_change_is_posted(self) -> None:
        """As JSON, with all there is to know of it."""
        self.went(self.webhook(taken()), READY, COOLING)
        self.assertEqual(
            self.told(),
            [
                {
                    "event": "account_state",
                    "provider": "openai-custom",
                    "uuid": "id-1",
                    "customName": "main",
                    "from": "ready",
                    "to": "cooling",
                    "reason": "rate_limit",
                    "message": "slow down",
                    "since": "2023-11-14T22:13:20.000Z",
                    "until": "2023-11-14T23:13:20.000Z",
                    "nextTry": "2023-11-14T22:18:20.000Z",
                    "usable": False,
                    "at": "2023-11-14T22:13:20.500Z",
                }
            ],
        )
        request = self.upstream.sent[0].request
        self.assertEqual((request.method, request.url, request.account), ("POST", URL, "webhook"))
        self.assertEqual(dict(request.headers)[b"content-type"], b"application/json")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_login_in_the_url_is_sent_as_one(self) -> None:
        """And does not stand in the URL."""
        self.url = "https://us%40er:pa%3Ass@hooks.example:8443/x?y=1"
        self.went(self.webhook(taken()), READY, COOLING)
        request = self.upstream.sent[0].request
        self.assertEqual(request.url, "https://hooks.example:8443/x?y=1")
        # us@er:pa:ss
        self.assertEqual(dict(request.headers)[b"authorization"], b"Basic dXNAZXI6cGE6c3M=")

    def test_no_secret_is_sent(self) -> None:
        """Should an upstream's words hold a key, its place says so."""
        ill = Standing(state="rejected", usable=False, message="bad key sk-test-secret \ud83d")
        self.went(self.webhook(taken()), READY, ill)
        self.assertEqual(self.told()[0]["message"], "bad key [secret] \ud83d")

    def test_a_try_that_fails_is_not_told(self) -> None:
        """However often it is tried: it cools and cools."""
        webhook = self.webhook(taken(), taken())
        self.went(webhook, READY, COOLING, PROBING, COOLING, PROBING, COOLING)
        self.assertEqual(self.ways(), [("ready", "cooling")])
        self.went(webhook, COOLING, PROBING, READY)
        self.assertEqual(self.ways()[1:], [("cooling", "ready")])

    def test_a_renewal_is_told_only_if_it_fails(self) -> None:
        """A token that is renewed every hour is no news."""
        webhook = self.webhook(taken())
        self.went(webhook, READY, REFRESHING, READY, REFRESHING, READY)
        self.assertEqual(self.ways(), [])
        self.went(webhook, READY, REFRESHING, REJECTED)
        self.assertEqual(self.ways(), [("ready", "rejected")])

    def test_one_passage_may_follow_another(self) -> None:
        """What counts is where it began."""
        self.went(self.webhook(taken()), REJECTED, PROBING, REFRESHING, READY)
        self.assertEqual(self.ways(), [("rejected", "ready")])

    def test_accounts_are_told_apart(self) -> None:
        """Also two of one id, with different providers."""
        other = Account(provider="claude-custom", id="id-1", settings=None)
        webhook = self.webhook(taken(), taken())
        self.went(webhook, COOLING, PROBING)
        self.went(webhook, REJECTED, PROBING, READY, account=other)
        self.went(webhook, PROBING, READY)
        self.assertEqual(self.ways(), [("rejected", "ready"), ("cooling", "ready")])

    def test_a_state_that_goes_on_is_not_told(self) -> None:
        """A longer rest is no new state."""
        self.went(self.webhook(), COOLING, COOLING)
        self.assertEqual(self.ways(), [])

    def test_nobody_is_told_where_none_is_to_be(self) -> None:
        """The address is asked for each time, so that a reload holds at once."""
        self.url = None
        webhook = self.webhook(taken())
        self.went(webhook, READY, COOLING)
        self.assertEqual(self.ways(), [])
        self.url = URL
        self.went(webhook, COOLING, READY)
        self.assertEqual(self.ways(), [("cooling", "ready")])

    # --- one at a time ----------------------------------------------------------

    def test_one_goes_after_the_other(self) -> None:
        """In the order in which they happened."""
        webhook = self.webhook(None, taken())
        self.went(webhook, READY, COOLING, READY)
        self.assertEqual(self.ways(), [("ready", "cooling")])
        self.upstream.sent[0].reply(taken())
        self.assertEqual(self.ways(), [("ready", "cooling"), ("cooling", "ready")])

    def test_of_too_many_the_oldest_are_dropped(self) -> None:
        """Counted and logged; the newest state is what a monitor needs."""
        webhook = self.webhook(None, *(taken() for _ in range(MOST_WAITING)))
        with capturedLogs() as events:
            for _ in range(MOST_WAITING // 2 + 1):
                self.went(webhook, READY, COOLING, READY)
        # One is at work, and one was too many.
        self.assertEqual(webhook.dropped, 1)
        self.assertEqual(len(self.logged(events)), 1)
        self.assertIn("too many changes wait", self.logged(events)[0])
        self.upstream.sent[0].reply(taken())
        self.assertEqual(len(self.told()), MOST_WAITING + 1)
        self.assertEqual(self.ways()[1], ("ready", "cooling"))

    def test_changes_that_wait_go_nowhere_once_the_url_is_gone(self) -> None:
        """A reload that switches it off holds for them, too."""
        webhook = self.webhook(None)
        self.went(webhook, READY, COOLING, READY)
        self.url = None
        self.upstream.sent[0].reply(taken())
        self.assertEqual(len(self.told()), 1)

    # --- failures ---------------------------------------------------------------

    def test_a_failure_is_tried_once_more(self) -> None:
        """A little later, and no more often."""
        for failure in (unreachable(), MemoryResponse(503), MemoryResponse(429)):
            webhook = self.webhook(failure, taken())
            self.went(webhook, READY, COOLING)
            self.clock.advance(RETRY_DELAY - 0.1)
            self.assertEqual(len(self.told()), 1)
            self.clock.advance(0.2)
            self.assertEqual(len(self.told()), 2)
            self.assertEqual(webhook.failed, 0)
            self.clock.advance(1)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_two_failures_are_given_up(self) -> None:
        """Logged without what gives access; the next change is told all the same."""
        webhook = self.webhook(unreachable(), MemoryResponse(500), taken())
        with capturedLogs() as events:
            self.went(webhook, READY, COOLING, READY)
            self.clock.advance(RETRY_DELAY)
        self.assertEqual((webhook.failed, len(self.told())), (1, 3))
        self.assertEqual(
            self.logged(events),
            [
                "The webhook at https://hooks.example was not told of changes of accounts (1): "
                "it answered 500. See whether health_alert_webhook_url is right and its server "
                "answers."
            ],
        )

    def test_a_refusal_is_final(self) -> None:
        """A 404 does not become a 200 by asking again; a redirect is not followed."""
        for status in (301, 401, 404):
            answer = MemoryResponse(status, (), [b"no"])
            webhook = self.webhook(answer)
            self.went(webhook, READY, COOLING)
            self.assertEqual((webhook.failed, len(self.told())), (1, 1))
            self.assertTrue(answer.aborted)

    def test_silence_is_cut_off(self) -> None:
        """After five seconds the connection is closed."""
        webhook = self.webhook(None, None)
        self.went(webhook, READY, COOLING)
        self.clock.advance(PATIENCE)
        self.assertTrue(self.upstream.sent[0].cancelled)
        self.clock.advance(RETRY_DELAY)
        self.clock.advance(PATIENCE)
        self.assertTrue(self.upstream.sent[1].cancelled)
        self.assertEqual(webhook.failed, 1)

    def test_an_answer_that_does_not_end_holds_nobody_up(self) -> None:
        """The status said that it was taken; time and bytes of the rest are bounded."""
        stalled = MemoryResponse(200, (), [b"o"], end=None)
        endless = MemoryResponse(200, (), [b"x" * 1024] * 100, end=None)
        webhook = self.webhook(stalled, endless, taken())
        self.went(webhook, READY, COOLING, READY, COOLING)
        self.clock.advance(PATIENCE)
        self.assertEqual((stalled.aborted, endless.aborted), (True, True))
        self.assertEqual((webhook.failed, len(self.told())), (0, 3))

    def test_failures_are_logged_once_a_minute(self) -> None:
        """With their number."""
        webhook = self.webhook(*(MemoryResponse(404) for _ in range(4)))
        with capturedLogs() as events:
            self.went(webhook, READY, COOLING, READY, COOLING)
            self.clock.advance(QUIET)
            self.went(webhook, COOLING, READY)
        lines = self.logged(events)
        self.assertEqual(len(lines), 2)
        self.assertIn("(1): it answered 404", lines[0])
        self.assertIn("(3): it answered 404", lines[1])

    def test_a_bug_on_the_way_out_stops_nothing(self) -> None:
        """Its words are not logged, and the next change is told."""
        webhook = self.webhook(ValueError("a secret"), taken())
        with capturedLogs() as events:
            self.went(webhook, READY, COOLING, READY)
        self.assertEqual((webhook.failed, len(self.told())), (1, 2))
        self.assertIn("ValueError", self.logged(events)[0])

    def test_a_way_out_that_raises_is_borne(self) -> None:
        """`changed` never does."""

        class Broken:
            def send(self, request: UpstreamRequest) -> Deferred[IUpstreamResponse]:
                raise ValueError("a secret")

        webhook = Webhook(
            url=lambda: URL,
            upstream=Broken(),  # type: ignore[arg-type]
            clock=self.clock,
            now=lambda: 0.0,
        )
        self.went(webhook, READY, COOLING)
        self.assertEqual(webhook.failed, 1)

    # --- the end ----------------------------------------------------------------

    def test_close_stops_what_is_at_work(self) -> None:
        """The connection is closed, what waits is dropped, and nothing begins any more."""
        webhook = self.webhook(None)
        self.went(webhook, READY, COOLING, READY)
        webhook.close()
        self.assertTrue(self.upstream.sent[0].cancelled)
        self.went(webhook, READY, COOLING)
        self.assertEqual(len(self.told()), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        webhook.close()

    def test_close_stops_an_answer_that_is_read(self) -> None:
        """Its connection is closed, too."""
        answer = MemoryResponse(200, (), [b"o"], end=None)
        webhook = self.webhook(answer)
        self.went(webhook, READY, COOLING, READY)
        webhook.close()
        self.clock.advance(0)
        self.assertTrue(answer.aborted)
        self.assertEqual((len(self.told()), self.clock.getDelayedCalls()), (1, []))

    def test_close_ends_the_wait_for_another_try(self) -> None:
        """No timer is left."""
        webhook = self.webhook(unreachable())
        self.went(webhook, READY, COOLING)
        webhook.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
