"""
Pools over sockets: one account fails in each way there is, and the client sees only successes.

Three accounts of a provider stand behind a gateway; the upstream tells them apart by
their keys. So it is for every dialect, streamed and whole, and across dialects.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from aiclient2api.testing import (
    Close,
    EndChunks,
    Head,
    Hold,
    Received,
    Reset,
    Script,
    Send,
    json_reply,
    raw_reply,
)
from tests.live.faults import ROWS, Row
from tests.live.gateway import PROVIDERS, LiveGateway, Reply, good_answer
from tests.live.measure import report

BAD = "sk-bad"
STREAMED = tuple(row for row in ROWS if row.framing == "sse")
SHORT = {"response_headers": 2.0, "first_event": 2.0, "idle": 2.0}
"""Clocks for an upstream that falls silent; for the others they are as long as ever."""


def refused(status: int, body: object, wait: int | None = None) -> Script:
    """Return an error answer, perhaps with a hint when to come back."""
    more = () if wait is None else ((b"retry-after", b"%d" % wait),)
    return json_reply(status, body, more)


def told(code: str, **more: object) -> dict[str, object]:
    """Return an error body that all vendors' readers understand."""
    return {"error": {"message": "It says no.", "code": code, "type": code, **more}}


QUOTA = {
    "error": {
        "code": 429,
        "message": "You exceeded your current quota.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}],
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7200s"},
        ],
    }
}

WAYS: Mapping[str, Callable[[Row], Script]] = {
    "401": lambda row: refused(401, told("invalid_api_key")),
    "403": lambda row: refused(403, told("permission_denied")),
    "429 with a hint": lambda row: refused(429, told("rate_limit_exceeded"), wait=60),
    "429 without a hint": lambda row: refused(429, told("rate_limit_exceeded")),
    "quota with a reset": lambda row: refused(429, QUOTA),
    "500": lambda row: refused(500, told("server_error")),
    "503": lambda row: refused(503, told("overloaded_error")),
    "html 502": lambda row: raw_reply(502, b"<html>bad</html>", content_type=b"text/html"),
    "reset": lambda row: (Reset(),),
    "silence": lambda row: (Hold(),),
    "silence after the head": lambda row: (
        Head(200, ((b"content-type", row.content_type), (b"transfer-encoding", b"chunked"))),
        Hold(),
    ),
    "cut before the first event": lambda row: (
        Head(200, ((b"content-type", row.content_type), (b"transfer-encoding", b"chunked"))),
        *((Send(b"%x\r\n%s\r\n" % (len(first), first)),) if (first := _start(row)) else ()),
        Close(),
    ),
    "empty": lambda row: (
        Head(200, ((b"content-type", row.content_type), (b"transfer-encoding", b"chunked"))),
        EndChunks(),
    ),
    "an error as first event": lambda row: raw_reply(200, row.error, content_type=row.content_type),
}
"""By name: what the upstream does with one of the accounts."""

REQUESTS = 12

_TURN = [{"role": "user", "content": "hi"}]
ASKED: Mapping[str, Mapping[str, object]] = {
    "openai-chat": {"model": "m-1", "messages": _TURN},
    "openai-responses": {"model": "m-1", "input": "hi"},
    "anthropic-messages": {"model": "m-1", "max_tokens": 9, "messages": _TURN},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
}
"""By dialect: a request that says something, so that it can be converted."""


def _start(row: Row) -> bytes:
    """Return what comes before the first real event."""
    return b"".join(row.records[: row.first])


@attrs.define
class Play:
    """
    What came of one way to fail.

    :ivar asked: Requests that arrived, by the account's key.
    :ivar picked: Answers, by the account that gave them.
    :ivar failures: Leases that ended in a fault.
    """

    asked: Counter[str] = attrs.field(factory=Counter)
    picked: Counter[str] = attrs.field(factory=Counter)
    replies: list[Reply] = attrs.field(factory=list)
    failures: int = 0


class OneFailingTests(TestCase):
    """A pool of three, one of which fails in each way."""

    timeout = 120

    async def test_the_client_sees_only_successes(self) -> None:
        """In every dialect, streamed and whole; and the failing account is left alone soon."""
        cells: dict[str, list[int]] = {}
        for name, way in WAYS.items():
            clocks = SHORT if "silence" in name else {}
            plays = await gatherResults(
                [Deferred.fromCoroutine(self.play(row, way(row), clocks)) for row in ROWS]
            )
            for row, play in zip(ROWS, plays, strict=True):
                where = f"{row.name}: {name}"
                for reply in play.replies:
                    self.assertEqual(reply.status, 200, (where, reply.body[:300]))
                    self.assertTrue(reply.complete, where)
                self.assertEqual(len({reply.body for reply in play.replies}), 1, where)
                good = sum(play.asked[key] for key in ("sk-good-1", "sk-good-2"))
                self.assertEqual(good, REQUESTS, where)
                # Three faults in a row rest an account. Each is of two attempts at most, and
                # each of these may be made anew where a kept connection was closed.
                self.assertLessEqual(play.failures, 5, where)
                self.assertLessEqual(play.asked[BAD], 4 * play.failures, where)
                self.assertNotIn("bad", play.picked, where)
                cells.setdefault(name, []).append(play.asked[BAD])
        for name, attempts in cells.items():
            report(
                f"one of three fails, {name}",
                cells=len(attempts),
                requests=REQUESTS * len(attempts),
                attempts_at_the_failing_one=sum(attempts),
                most_in_a_cell=max(attempts),
            )

    async def play(self, row: Row, script: Script, clocks: Mapping[str, float]) -> Play:
        """Send requests one after the other, some at once."""
        play = Play()

        def answer(request: Received) -> Script:
            key = _key(request)
            play.asked[key] += 1
            return script if key == BAD else good_answer(request)

        gateway = await _gateway(self, row, answer, timeouts=clocks).start()
        for _ in range(REQUESTS // 3):
            asking = [_ask(gateway, row) for _ in range(3)]
            play.replies += await gatherResults(asking)
        for reply in play.replies:
            play.picked[(reply.header(b"x-aiclient2api-account") or b"").decode()] += 1
        pool = gateway.world.pools()[row.provider]
        play.failures = sum(each.tally.failures for each in pool.report())
        await gateway.stop()
        return play


def _key(request: Received) -> str:
    headers = dict(request.headers)
    for name in (b"x-api-key", b"x-goog-api-key", b"authorization"):
        if name in headers:
            return headers[name].decode().removeprefix("Bearer ")
    return ""


def _gateway(
    test: TestCase, row: Row, answer: Callable[[Received], Script], **config: Any
) -> LiveGateway:
    key_name = PROVIDERS[row.provider][1]

    def accounts(gateway: LiveGateway) -> list[dict[str, object]]:
        keys = {"bad": BAD, "good-1": "sk-good-1", "good-2": "sk-good-2"}
        return [
            gateway.entry(row.provider, **{key_name: key, "uuid": id}) for id, key in keys.items()
        ]

    settings = {"request_base_delay": 10, **config}
    return LiveGateway(
        test,
        default=row.provider,
        config=settings,
        answer=answer,
        accounts={row.provider: accounts},
        resting=True,
    )


def _ask(gateway: LiveGateway, row: Row) -> Deferred[Reply]:
    streaming = {"stream": True} if row.request.get("stream") else {}
    body = json.dumps({**ASKED[row.dialect], **streaming}).encode()
    return Deferred.fromCoroutine(gateway.request("POST", row.path, gateway.bearer, body))


class ChainTests(TestCase):
    """From one provider to another, of whatever dialect."""

    timeout = 60

    async def test_every_dialect_falls_back_on_every_other(self) -> None:
        """The client is answered in its own dialect by a provider of another."""
        for row in ROWS:
            for other in STREAMED:
                if other.provider == row.provider:
                    continue
                await self.fall_back(row, other)

    async def fall_back(self, row: Row, other: Row) -> None:
        """Let the one provider be down and the other one answer."""
        gateway = LiveGateway(
            self,
            default=row.provider,
            config={
                "request_max_retries": 0,
                "providerFallbackChain": {row.provider: [other.provider]},
            },
            resting=True,
        )
        await gateway.start()
        gateway.answers[row.provider] = lambda request: refused(503, told("overloaded_error"))
        reply = await _ask(gateway, row)
        where = f"{row.name} to {other.provider}"
        self.assertEqual(reply.status, 200, (where, reply.body[:300]))
        self.assertTrue(reply.complete, where)
        self.assertEqual(reply.header(b"x-aiclient2api-provider"), other.provider.encode(), where)
        for piece in ("Grüße, ", "世界", "😀 and so on."):
            self.assertIn(piece.encode(), reply.body, where)
        self.assertEqual(len(gateway.upstreams[row.provider].requests), 1, where)
        await gateway.stop()

    async def test_a_mapped_model(self) -> None:
        """``claude-*`` is answered by another provider's model, and the client's name stays."""
        gateway = LiveGateway(
            self,
            default="claude-custom",
            config={
                "request_max_retries": 0,
                "modelFallbackMapping": {
                    "claude-*": {"targetProviderType": "openai-custom", "targetModel": "gpt-x"}
                },
            },
            resting=True,
        )
        await gateway.start()
        gateway.answers["claude-custom"] = lambda request: refused(401, told("bad"))
        body = json.dumps(
            {
                "model": "claude-opus-9",
                "max_tokens": 9,
                "messages": [{"role": "user", "content": "hi"}],
            }
        ).encode()
        reply = await gateway.request("POST", "/v1/messages", gateway.bearer, body)
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual(reply.json()["model"], "claude-opus-9")
        self.assertEqual(reply.header(b"x-aiclient2api-model"), b"gpt-x")
        (sent,) = gateway.upstreams["openai-custom"].requests
        self.assertEqual(json.loads(sent.body)["model"], "gpt-x")

    async def test_all_are_cooling(self) -> None:
        """429 in the caller's dialect, with the soonest return of all."""
        for row in ROWS:
            gateway = await _gateway(
                self,
                row,
                lambda request: refused(
                    429, told("rate_limit_exceeded"), wait=40 if _key(request) == BAD else 90
                ),
            ).start()
            await _ask(gateway, row)
            reply = await _ask(gateway, row)
            self.assertEqual(reply.status, 429, row.name)
            self.assertIn(reply.header(b"retry-after"), (b"39", b"40"), row.name)
            self.assertIn(b"3 cooling (rate_limit)", reply.body, row.name)
            self.assertEqual(len(gateway.upstreams[row.provider].requests), 3, row.name)
            await gateway.stop()
