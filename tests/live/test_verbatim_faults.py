"""
Every way an answer can go wrong, in every dialect and framing, over sockets.

`TABLE` says what a client gets to see of each fault; the cells are generated from it,
and a fault, dialect or framing without an expectation is a failure. Bytes that were
relayed are always the upstream's own, in order and from the start; what was cut off
never ends like something whole.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.trial.unittest import TestCase

from aiclient2api.testing import MemoryObserver, Received, Script
from tests.live.faults import FAULTS, MESSAGE, ROWS, SOON, Answer, Row
from tests.live.gateway import LiveGateway, Reply
from tests.live.measure import front, watched

# --- what a client gets -------------------------------------------------------


@attrs.frozen
class Expect:
    """
    What a client gets, and what observers are told.

    :ivar ends: ``clean``: as it should. ``told``: with an error record of ours behind
        the upstream's bytes. ``cut``: without its last chunk. ``error``: it is an error
        of ours and nothing else.
    :ivar how: As in `Outcome`.
    :ivar code: The error's, where it is ours.
    """

    status: int
    ends: str
    how: str
    code: str | None = None


GOOD = Expect(200, "clean", "complete")
FAILED = Expect(200, "clean", "failed")
FAILED_AND_CUT = Expect(200, "cut", "failed")
PASSED_ON = Expect(429, "clean", "failed")
LIMITED = Expect(429, "error", "failed")


def told(code: str = "upstream_truncated") -> Expect:
    """The stream broke off, and the client is told in its own dialect."""
    return Expect(200, "told", "truncated", code)


def cut(code: str = "upstream_truncated") -> Expect:
    """The body broke off, and so does the client's."""
    return Expect(200, "cut", "truncated", code)


def refused(status: int = 502, code: str | None = "upstream_truncated") -> Expect:
    """Nothing was sent yet, so the client gets a real status."""
    return Expect(status, "error", "failed", code)


AT_ONCE = 20
"""How many cells are played together: a busy machine must still keep the short clocks."""

NO_MIDDLE = "a whole answer is sent when it is all there; it has no middle"
NO_START = "it has no record before the first real event"

TABLE: dict[str, dict[str, Expect | str]] = {
    # The good ones: whatever the bytes look like, they pass unchanged.
    "good": {"sse": GOOD, "json_array": GOOD, "whole": GOOD},
    "comments and pings": {"sse": GOOD, "json_array": GOOD, "whole": GOOD},
    "crlf": {"sse": GOOD, "json_array": GOOD, "whole": GOOD},
    "split characters": {"sse": GOOD, "json_array": GOOD, "whole": GOOD},
    "a huge record": {"sse": GOOD, "json_array": GOOD, "whole": GOOD},
    "lone surrogates": {"sse": GOOD, "json_array": GOOD, "whole": GOOD},
    "bad utf-8": {"sse": GOOD, "json_array": GOOD, "whole": GOOD},
    "garbage mid-stream": {"sse": GOOD, "json_array": GOOD, "whole": refused()},
    "no terminator": {"sse": GOOD, "json_array": cut(), "whole": "it has none"},
    "until close": {"sse": GOOD, "json_array": GOOD, "whole": GOOD},
    "gzip": {"sse": GOOD, "json_array": GOOD, "whole": GOOD},
    "not the framing asked for": {"sse": GOOD, "json_array": GOOD, "whole": GOOD},
    "not the type it says": {"sse": GOOD, "json_array": GOOD, "whole": GOOD},
    "loose json": {"sse": GOOD, "json_array": GOOD, "whole": GOOD},
    # Errors that the upstream tells of itself.
    "error status": {"sse": PASSED_ON, "json_array": PASSED_ON, "whole": PASSED_ON},
    "error status, html": {
        "sse": refused(503, None),
        "json_array": refused(503, None),
        "whole": refused(503, None),
    },
    "error first": {"sse": LIMITED, "json_array": LIMITED, "whole": LIMITED},
    "error mid-stream": {"sse": FAILED, "json_array": FAILED_AND_CUT, "whole": NO_MIDDLE},
    "error after the end": {"sse": FAILED, "json_array": FAILED_AND_CUT, "whole": NO_MIDDLE},
    # Bodies that end, in order, where they should not.
    "empty": {"sse": refused(), "json_array": refused(), "whole": refused()},
    "html": {
        "sse": refused(code="no_answer"),
        "json_array": refused(code="no_answer"),
        "whole": refused(code="no_answer"),
    },
    "end before first": {"sse": refused(), "json_array": refused(), "whole": NO_START},
    "end mid-stream": {"sse": told(), "json_array": cut(), "whole": refused()},
    "end mid-record": {"sse": told(), "json_array": cut(), "whole": NO_MIDDLE},
    "gzip cut": {"sse": told(), "json_array": cut(), "whole": refused()},
    "until close, cut": {"sse": told(), "json_array": cut(), "whole": refused()},
    # Connections that break.
    "reset before headers": {
        "sse": refused(code="upstream_reset"),
        "json_array": refused(code="upstream_reset"),
        "whole": refused(code="upstream_reset"),
    },
    "close before headers": {
        "sse": refused(code="upstream_reset"),
        "json_array": refused(code="upstream_reset"),
        "whole": refused(code="upstream_reset"),
    },
    "reset before first": {"sse": refused(), "json_array": refused(), "whole": NO_START},
    "reset mid-stream": {"sse": told(), "json_array": cut(), "whole": refused()},
    "reset at the end": {"sse": told(), "json_array": cut(), "whole": refused()},
    "until close, reset": {"sse": told(), "json_array": cut(), "whole": refused()},
    "no last chunk": {"sse": told(), "json_array": cut(), "whole": refused()},
    "short of its length": {"sse": told(), "json_array": cut(), "whole": refused()},
    "a broken chunk": {"sse": told(), "json_array": cut(), "whole": refused()},
    # Upstreams that fall silent.
    "stall before headers": {
        "sse": refused(504, "response_headers_timeout"),
        "json_array": refused(504, "response_headers_timeout"),
        "whole": refused(504, "response_headers_timeout"),
    },
    "stall before first": {
        "sse": refused(504, "first_event_timeout"),
        "json_array": refused(504, "first_event_timeout"),
        "whole": refused(504, "idle_timeout"),
    },
    "stall mid-stream": {
        "sse": told("idle_timeout"),
        "json_array": cut("idle_timeout"),
        "whole": refused(504, "idle_timeout"),
    },
    "comments only": {
        "sse": refused(504, "first_event_timeout"),
        "json_array": refused(504, "first_event_timeout"),
        "whole": "it has no comments",
    },
    "comments only, mid-stream": {
        "sse": told("idle_timeout"),
        "json_array": cut("idle_timeout"),
        "whole": NO_MIDDLE,
    },
}

EXCEPTIONS: dict[tuple[str, str, str], Expect | str] = {
    ("no terminator", "openai-responses", "sse"): "its stream has none",
    ("no terminator", "gemini", "sse"): "its stream has none",
}

STALLS = {name for name in TABLE if "stall" in name or "only" in name}


def expectation(fault: str, row: Row) -> Expect | str:
    """Return what the cell is to show, or why there is no such cell."""
    return EXCEPTIONS.get((fault, row.dialect, row.framing)) or TABLE[fault][row.framing]


# --- the cells ----------------------------------------------------------------


@attrs.frozen
class Cell:
    """One fault in one row."""

    fault: str
    row: Row
    expect: Expect
    answer: Answer

    @property
    def id(self) -> str:
        """Return what the request carries, so that the upstream knows what to play."""
        return f"{self.row.name}: {self.fault}"


def cells(chosen: Callable[[str], bool]) -> dict[str, Cell]:
    """Return the cells of the chosen faults, by id."""
    found = {}
    for fault, row in itertools.product(filter(chosen, FAULTS), ROWS):
        expect = expectation(fault, row)
        if isinstance(expect, Expect):
            cell = Cell(fault, row, expect, FAULTS[fault](row))
            found[cell.id] = cell
    return found


def _error_told(dialect: str, text: bytes) -> str:
    """Return the message of an error in the shape of *dialect*."""
    error = json.loads(text)["error"]
    shape = {
        "openai-chat": {"message", "type", "code", "param"},
        "openai-responses": {"message", "type", "code", "param"},
        "anthropic-messages": {"message", "type"},
        "gemini": {"message", "code", "status", "details"},
    }[dialect]
    assert set(error) == shape, error
    message: str = error["message"]
    return message


def _record_told(row: Row, rest: bytes) -> str:
    """Return the message of the one error that *rest* consists of."""
    records = rest.split(b"\n\n")
    assert records.pop() == b"", rest
    events = [dict(line.split(b": ", 1) for line in each.split(b"\n")) for each in records]
    if row.dialect == "openai-responses":
        kinds = [each[b"event"] for each in events]
        assert kinds == [b"error", b"response.failed"], kinds
        message = str(json.loads(events[0][b"data"])["message"])
        assert json.loads(events[1][b"data"])["response"]["error"]["message"] == message
        return message
    assert len(events) == 1, events
    if row.dialect == "anthropic-messages":
        assert events[0][b"event"] == b"error"
    return _error_told(row.dialect, events[0][b"data"])


class VerbatimFaultsTests(TestCase):
    """The table, played."""

    timeout = 60

    def test_no_cell_is_missing(self) -> None:
        """Every fault has a script and an expectation, or a reason, for every row."""
        self.assertEqual(set(TABLE), set(FAULTS))
        self.assertEqual(9, len(ROWS))
        self.assertEqual(4, len({row.dialect for row in ROWS}))
        for fault, row in itertools.product(TABLE, ROWS):
            self.assertIn(row.framing, TABLE[fault], fault)
            self.assertTrue(expectation(fault, row), (fault, row.name))
        for fault, dialect, framing in EXCEPTIONS:
            self.assertIn(fault, TABLE)
            self.assertIn((dialect, framing), [(row.dialect, row.framing) for row in ROWS])

    async def test_faults(self) -> None:
        """Answers that are odd, told to be wrong, or broken off."""
        await self._play(cells(lambda fault: fault not in STALLS))

    async def test_stalls(self) -> None:
        """Answers that stand still, until our clocks run out."""
        stalled = cells(lambda fault: fault in STALLS)
        played = 0
        for clock in ("response_headers", "first_event", "idle"):
            # The others stay long: on a busy machine a short one might go off before it.
            due = {
                id: cell for id, cell in stalled.items() if cell.expect.code == f"{clock}_timeout"
            }
            await self._play(due, timeouts={clock: SOON})
            played += len(due)
        self.assertEqual(len(stalled), played)

    async def _play(self, chosen: dict[str, Cell], **config: object) -> None:
        observer = watched(self)

        def answer(request: Received) -> Script:
            return chosen[json.loads(request.body)["cell"]].answer.script

        config = {"request_max_retries": 0, **config}
        gateway = await LiveGateway(self, answer=answer, config=config).start()
        wrong: list[str] = []
        queue = list(chosen.values())
        while batch := queue[:AT_ONCE]:
            del queue[:AT_ONCE]
            asking = [Deferred.fromCoroutine(self._ask(gateway, cell)) for cell in batch]
            results: Sequence[tuple[bool, Any]] = await DeferredList(asking, consumeErrors=True)
            for cell, (success, result) in zip(batch, results, strict=True):
                try:
                    if not success:
                        result.raiseException()
                    self._judge(cell, result, observer)
                except Exception as fault:
                    wrong.append(f"{cell.id}: {type(fault).__name__}: {str(fault)[:600]}")
        self.assertEqual(0, front(gateway).in_flight)
        if wrong:
            self.fail(f"{len(wrong)} of {len(chosen)} cells:\n" + "\n".join(wrong))

    async def _ask(self, gateway: LiveGateway, cell: Cell) -> Reply:
        row = cell.row
        headers = (*gateway.bearer, ("model-provider", row.provider))
        body = json.dumps({**row.request, "cell": cell.id}).encode()
        return await gateway.request("POST", row.path, headers, body)

    def _judge(self, cell: Cell, reply: Reply, observer: MemoryObserver) -> None:
        expect, shown = cell.expect, cell.answer.shown
        self.assertEqual(expect.status, reply.status, reply.body[:300])
        self.assertEqual(expect.ends != "cut", reply.complete)
        outcome = observer.outcomes[(reply.header(b"x-aiclient2api-request-id") or b"").decode()]
        self.assertEqual(expect.how, outcome.how)
        if expect.code is not None:
            self.assertEqual(expect.code, outcome.error.code)
        self.assertEqual(expect.how == "complete", outcome.error is None)
        if expect in (FAILED, FAILED_AND_CUT, LIMITED):
            self.assertEqual(MESSAGE, outcome.error.message)
        if expect.ends == "error":
            self.assertEqual(b"%d" % len(reply.body), reply.header(b"content-length"))
            message = _error_told(cell.row.dialect, reply.body)
            self.assertIn(outcome.error.message, message)
            return
        assert shown is not None
        self.assertTrue(reply.body.startswith(shown), reply.body[-300:])
        rest = reply.body[len(shown) :]
        while cell.answer.filler and rest.startswith(cell.answer.filler):
            rest = rest.removeprefix(cell.answer.filler)
        if expect.ends == "told":
            self.assertEqual(outcome.error.message, _record_told(cell.row, rest))
        else:
            self.assertEqual(b"", rest)
        if expect is PASSED_ON:
            self.assertEqual(b"77", reply.header(b"retry-after"))
            self.assertEqual(b"req-1", reply.header(b"x-request-id"))
            self.assertIsNone(reply.header(b"set-cookie"))
