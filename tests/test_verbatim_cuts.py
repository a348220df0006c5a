"""
Streams cut at every byte, relayed without a socket.

Whatever is cut off, and however the connection ends: an answer counts as complete only
if its semantic end was seen and its body ended cleanly, and the client is given the
upstream's own bytes from the start, whole records only, and at most one error behind.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence

import attrs
import msgspec
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss

from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.openai_responses import OPENAI_RESPONSES
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.interfaces import IDialect, IWatcher
from aiclient2api.testing import (
    Call,
    MemoryReply,
    MemoryResponse,
    chat_body,
    chat_chunks,
    gemini_array,
    gemini_body,
    gemini_chunks,
    messages_body,
    messages_events,
    responses_body,
    responses_events,
)
from aiclient2api.upstream.relay import Clocks, Ending, Relay
from aiclient2api.values import Route, Usage

PIECES = ["Grü\u2028ße", "😀"]
TOOLS = [Call("call_1", "look", '{"at":"me"}')]
USAGE = Usage(input=3, output=2, cached=1, reasoning=0)
ERROR = UpstreamError("Stop.", fault=Fault.SERVER, status=500)

_BODIES: dict[str, dict[str, object]] = {
    "openai-chat": {"model": "m", "messages": []},
    "openai-responses": {"model": "m"},
    "anthropic-messages": {"model": "m", "messages": [], "max_tokens": 9},
    "gemini": {"contents": []},
}


@attrs.frozen
class Stream:
    """
    A good answer, record by record.

    :ivar first: Index of the first real event.
    :ivar end: Index of the record with the semantic end.
    """

    dialect: IDialect
    framing: str
    records: tuple[bytes, ...]
    first: int
    end: int

    @property
    def name(self) -> str:
        """Return what to call it in a failure."""
        return f"{self.dialect.name} {self.framing}"

    @property
    def data(self) -> bytes:
        """Return all of it."""
        return b"".join(self.records)

    @property
    def bounds(self) -> list[int]:
        """Return where each record ends."""
        return list(itertools.accumulate(map(len, self.records)))

    @property
    def whole_from(self) -> int:
        """Return after how many bytes the semantic end has been seen."""
        if self.framing != "sse":
            return len(self.data)
        # Its blank line may be missing: the record is a whole one without it.
        record = self.records[self.end]
        return self.bounds[self.end] - len(record) + len(record.rstrip(b"\r\n"))

    def watcher(self) -> IWatcher:
        """Return a new watcher of it."""
        stream = self.framing != "whole"
        body = {**_BODIES[self.dialect.name], "stream": stream}
        told = self.framing if self.dialect is GEMINI and stream else None
        route = Route("generate", model="m", streaming=stream, framing=told)
        request = self.dialect.parse(body=json.dumps(body).encode(), route=route)
        return self.dialect.watcher(request=request, content_type=b"", want_text=False)


def _streams() -> Iterator[Stream]:
    chat = chat_chunks(PIECES, usage=USAGE, tools=TOOLS)
    yield Stream(OPENAI_CHAT, "sse", tuple(chat), 1, len(chat) - 3)
    responses = responses_events(PIECES, usage=USAGE, tools=TOOLS)
    yield Stream(OPENAI_RESPONSES, "sse", tuple(responses), 2, len(responses) - 1)
    messages = messages_events(PIECES, usage=USAGE, tools=TOOLS)
    yield Stream(ANTHROPIC_MESSAGES, "sse", tuple(messages), 2, len(messages) - 2)
    gemini = gemini_chunks(PIECES, usage=USAGE, tools=TOOLS)
    yield Stream(GEMINI, "sse", tuple(gemini), 0, len(gemini) - 1)
    elements = [gemini_array([frame])[1:-1] for frame in gemini]
    array = (b"[" + elements[0], *(b",\r\n" + each for each in elements[1:]), b"]")
    yield Stream(GEMINI, "json_array", array, 0, len(array) - 1)
    for dialect, body in (
        (OPENAI_CHAT, chat_body("Grüße", tools=TOOLS)),
        (OPENAI_RESPONSES, responses_body("Grüße", tools=TOOLS)),
        (ANTHROPIC_MESSAGES, messages_body("Grüße", tools=TOOLS)),
        (GEMINI, gemini_body("Grüße", tools=TOOLS)),
    ):
        yield Stream(dialect, "whole", (body,), 0, 0)


STREAMS = tuple(_streams())


def _crlf(stream: Stream) -> Stream:
    records = (each.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for each in stream.records)
    return attrs.evolve(stream, records=tuple(records))


def play(
    watcher: IWatcher, pieces: Sequence[bytes], end: Exception, *, marks_end: bool = True
) -> tuple[MemoryReply, Ending | Failure]:
    """Relay *pieces* and *end*; return what the client got and how it ended."""
    reply, clock = MemoryReply(), Clock()
    response = MemoryResponse(pieces=pieces, end=end)
    relay = Relay(
        response=response,
        watcher=watcher,
        reply=reply,
        begin=lambda length: reply.begin(200, ()),
        clean=lambda record: record,
        clock=clock,
        clocks=Clocks(first_event=30, idle=30, total=60),
        marks_end=marks_end,
    )
    response.deliver(receiver=relay)
    ended: list[Ending | Failure] = []
    relay.done.addBoth(ended.append)
    assert len(ended) == 1, "The relay has not ended, although the body has."
    assert not clock.getDelayedCalls(), "A clock still runs."
    assert reply.producer is None, "The upstream is still registered with the client."
    return reply, ended[0]


CLEAN = (ResponseDone, PotentialDataLoss)
ENDS: tuple[Callable[[], Exception], ...] = (
    ResponseDone,
    PotentialDataLoss,
    lambda: ResponseFailed([Failure(ConnectionLost())]),
)


class CutTests(SynchronousTestCase):
    """Golden streams of every dialect and framing."""

    def test_cut_at_every_byte(self) -> None:
        """A cut is never taken for an end, and an end never for a cut."""
        for stream in STREAMS:
            for cut, make in itertools.product(range(len(stream.data) + 1), ENDS):
                self.check(stream, cut, make())

    def test_cut_at_every_byte_with_crlf(self) -> None:
        """The same where lines end in CR and LF."""
        for stream in map(_crlf, STREAMS[:4]):
            for cut, make in itertools.product(range(len(stream.data) + 1), ENDS):
                self.check(stream, cut, make())

    def check(self, stream: Stream, cut: int, end: Exception) -> None:
        """Cut *stream* after so many bytes, end it so, and judge."""
        where = f"{stream.name}, cut at {cut} of {len(stream.data)}, {type(end).__name__}"
        reply, ending = play(stream.watcher(), [stream.data[:cut]] if cut else [], end)
        complete = isinstance(end, CLEAN) and cut >= stream.whole_from
        if isinstance(ending, Failure):
            self.assertFalse(complete, where)
            self.assertFalse(reply.begun, where)
            assert isinstance(ending.value, UpstreamError)
            self.assertEqual(Fault.TRUNCATED, ending.value.fault, where)
            if stream.framing != "whole":
                self.assertLess(cut, stream.bounds[stream.first], where)
            return
        self.assertEqual("complete" if complete else "truncated", ending.how, where)
        self.assertEqual(complete, ending.error is None, where)
        if complete:
            self.assertEqual("finished", reply.ended, where)
            shown = reply.body
        else:
            self.assertNotEqual("whole", stream.framing, where)
            cannot_tell = stream.framing == "json_array"
            self.assertEqual("aborted" if cannot_tell else "finished", reply.ended, where)
            told = b"" if cannot_tell else self.error_at_end(stream, reply.body, ending, where)
            shown = reply.body.removesuffix(told)
        self.assertTrue(stream.data[:cut].startswith(shown), where)
        # Whole records, all of them, and no half of one.
        due = max((bound for bound in stream.bounds if bound <= cut), default=0)
        self.assertGreaterEqual(len(shown), due, where)
        if len(shown) > due:
            bound = next(bound for bound in stream.bounds if bound > due)
            self.assertEqual(b"", stream.data[len(shown) : bound].strip(b"\r\n"), where)

    def error_at_end(self, stream: Stream, body: bytes, ending: Ending, where: str) -> bytes:
        """Return the one error record at the end of *body*."""
        assert ending.error is not None
        at = body.rfind(b"event: error\n")
        at = body.rfind(b"data: ") if at < 0 else at
        record = body[at:]
        self.assertIn(ending.error.message.encode(), record, where)
        self.assertTrue(record.endswith(b"\n\n"), where)
        # Responses tells it twice: as an event, and as the end of the response.
        told = 2 if stream.dialect is OPENAI_RESPONSES else 1
        self.assertEqual(told, record.count(b"\n\n"), where)
        for looks_like_an_end in (b"[DONE]", b"message_stop", b"completed", b"STOP"):
            self.assertNotIn(looks_like_an_end, record, where)
        return record

    def test_pieces_do_not_matter(self) -> None:
        """Byte by byte, the answer is the same and just as complete."""
        for stream in STREAMS:
            data = stream.data
            pieces = [data[at : at + 1] for at in range(len(data))]
            reply, ending = play(stream.watcher(), pieces, ResponseDone())
            self.assertEqual(Ending("complete"), ending, stream.name)
            self.assertEqual(data, reply.body, stream.name)
            self.assertEqual("finished", reply.ended, stream.name)


class ErrorRecordTests(SynchronousTestCase):
    """Streams in which the upstream tells of an error."""

    def test_nothing_follows_an_error(self) -> None:
        """Wherever the error stands and however it is split, it is the last thing seen."""
        for stream in STREAMS:
            if stream.framing == "whole":
                continue
            error = self.error_of(stream)
            for at in range(stream.first + 1, len(stream.records)):
                before = b"".join(stream.records[:at])
                rest = error + b"".join(stream.records[at:])
                for split in range(len(error) + 1):
                    pieces = [before, rest[:split], rest[split:]]
                    reply, ending = play(
                        stream.watcher(), list(filter(None, pieces)), ResponseDone()
                    )
                    where = f"{stream.name}, error at {at}, split at {split}"
                    self.assertIsInstance(ending, Ending, where)
                    assert isinstance(ending, Ending)
                    self.assertEqual("failed", ending.how, where)
                    self.assertEqual(before + error, reply.body, where)

    def test_an_error_before_everything_sends_nothing(self) -> None:
        """Behind any number of bare starts an error can still become a status."""
        for stream in STREAMS:
            if stream.framing == "whole":
                continue
            error = self.error_of(stream).removeprefix(b",")
            opening = b"[" if stream.framing == "json_array" else b""
            for at in range(stream.first + 1):
                data = opening + b"".join(stream.records[:at]) + error + stream.data
                for split in range(len(opening), len(opening) + len(error) + 1):
                    pieces = [data[:split], data[split:]]
                    reply, ending = play(
                        stream.watcher(), list(filter(None, pieces)), ResponseDone()
                    )
                    where = f"{stream.name}, error at {at}, split at {split}"
                    self.assertIsInstance(ending, Failure, where)
                    self.assertFalse(reply.begun, where)

    def error_of(self, stream: Stream) -> bytes:
        """Return an error record for *stream*."""
        frame = stream.watcher().error_frame(error=ERROR)
        if frame is not None:
            return frame
        return b"," + msgspec.json.encode({"error": {"code": 500, "message": "Stop."}})
