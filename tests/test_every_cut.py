"""
Answers of every kind cut at every byte, for every client: never sold as whole.

`test_verbatim_cuts` and `test_converted_cuts` cut the streams of the four dialects. Here are
all answers there are, whole ones, arrays and those in envelopes as well, to all four clients,
through the relay, in three ways to end. ``AICLIENT2API_LONG=1`` makes all 194,100 cuts and
says how many they were; a run by ``bin/test`` makes 9,126, each byte of what is cut nowhere
else for one of the clients.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping

import attrs
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss

from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.convert import conversation_of, relayed, translated, written
from aiclient2api.exchange.opened import Opened
from aiclient2api.interfaces import IDialect, IEnvelope, IWatcher, IWireRequest
from aiclient2api.providers._code_assist_answer import Opening
from aiclient2api.providers._kiro_answer import Asked, KiroEnvelope
from aiclient2api.providers._qwen_answer import Uncalled
from aiclient2api.testing import (
    Call,
    CodeAssistAnswer,
    chat_body,
    chat_chunks,
    gemini_array,
    gemini_body,
    gemini_chunks,
    kiro_call,
    kiro_metadata,
    kiro_text,
    kiro_thought,
    messages_body,
    messages_events,
    responses_body,
    responses_events,
)
from tests.both_ways import BY_NAME
from tests.tape import LONG
from tests.test_convert import request
from tests.test_converted_cuts import ENDS
from tests.test_verbatim_cuts import play

TOOLS = [Call("call_1", "f", '{"a":1}')]
THINKING = ["Hm."]
TEXT = ["H\u00e9"]
_EVENT_STREAM = b"application/vnd.amazon.eventstream"
_SSE = b"text/event-stream"
_JSON = b"application/json"


@attrs.frozen
class Kind:
    """
    One answer of an upstream.

    :ivar ends: After how many bytes a clean end may be taken for the answer's own.
    :ivar envelope: What takes the answer out of what is around it.
    """

    name: str
    target: IDialect
    streaming: bool
    content_type: bytes
    data: bytes = attrs.field(repr=False)
    ends: frozenset[int] = attrs.field(repr=False)
    envelope: Callable[[IWireRequest], IEnvelope] | None = None
    marks_end: bool = True

    def watcher(self, source: IDialect) -> IWatcher:
        """Return what reads the answer for a client of *source*."""
        asked = request(source, streaming=self.streaming)
        if source is self.target:
            converted = relayed(asked, source=source)
        else:
            conversation = conversation_of(asked)
            converted = translated(
                written(asked, conversation, self.target),
                asked=asked,
                conversation=conversation,
                source=source,
                target=self.target,
                model="m",
                make_id=lambda: "0" * 32,
                now=time.time,
                remember=lambda recollection, final: None,
            )
        envelope = None if self.envelope is None else self.envelope(converted.request)
        told = self.content_type if envelope is None else envelope.content_type
        watcher: IWatcher = converted.watch(told, False, 1 << 20)
        return watcher if envelope is None else Opened(watcher, envelope)


def _from(data: bytes, mark: bytes) -> frozenset[int]:
    """Return where *data* may end once the record in which *mark* stands is whole."""
    at = data.index(mark)
    line_end = data.find(b"\n", at)
    at = len(data) if line_end < 0 else line_end
    return frozenset(range(len(data[:at].rstrip(b"\r")), len(data) + 1))


def _kiro() -> tuple[bytes, frozenset[int]]:
    """
    Return an event stream, and where it may end.

    The service has no event for its end: any whole event may be the last one if something
    was said and no call is open. What tells a cut from an end is the connection.
    """
    said = [*map(kiro_thought, THINKING), *map(kiro_text, TEXT)]
    call = kiro_call("call_1", "f", ['{"a"', ":1}"])
    told = [kiro_metadata({"outputTokens": 5}, "tool_use")]
    bounds = list(itertools.accumulate(map(len, [*said, *call, *told])))
    open_calls = range(len(said), len(said) + len(call) - 1)
    ends = {bound for at, bound in enumerate(bounds) if at not in open_calls}
    return b"".join([*said, *call, *told]), frozenset(ends)


def _in_kiro(asked: IWireRequest) -> IEnvelope:
    return KiroEnvelope(asked, Asked("kiro", False, (), lambda: {}, lambda: 1_800_000_000.0))


def _kinds() -> Iterator[Kind]:
    by = BY_NAME
    chat, responses = by["openai-chat"], by["openai-responses"]
    messages, gemini = by["anthropic-messages"], by["gemini"]
    wrapped = CodeAssistAnswer(
        ({"text": "Hm.", "thought": True}, {"text": "H\u00e9"}, {"functionCall": {"name": "f"}})
    )
    streams: Mapping[str, tuple[IDialect, list[bytes], bytes]] = {
        "chat": (
            chat,
            chat_chunks(TEXT, "tool_calls", thinking=THINKING, tools=TOOLS),
            b'"finish_reason":"tool_calls"',
        ),
        "responses": (
            responses,
            responses_events(TEXT, "completed", thinking=THINKING, tools=TOOLS),
            b'data: {"type":"response.completed"',
        ),
        "messages": (
            messages,
            messages_events(TEXT, "tool_use", thinking=THINKING, tools=TOOLS),
            b'"stop_reason":"tool_use"',
        ),
        "gemini": (
            gemini,
            gemini_chunks(TEXT, "STOP", thinking=THINKING, tools=TOOLS),
            b'"finishReason":"STOP"',
        ),
    }
    for name, (dialect, records, mark) in streams.items():
        data = b"".join(records)
        yield Kind(name, dialect, True, _SSE, data, _from(data, mark))
    array = gemini_array(streams["gemini"][1])
    closed = frozenset(range(len(array.rstrip()), len(array) + 1))
    yield Kind("gemini array", gemini, True, _JSON, array, closed)
    for name, dialect, body in (
        ("chat", chat, chat_body("H\u00e9", "tool_calls", thinking="Hm.", tools=TOOLS)),
        ("responses", responses, responses_body("H\u00e9", thinking="Hm.", tools=TOOLS)),
        ("messages", messages, messages_body("H\u00e9", "tool_use", tools=TOOLS)),
        ("gemini", gemini, gemini_body("H\u00e9", tools=TOOLS)),
    ):
        whole = frozenset((len(body),))
        yield Kind(f"{name} whole", dialect, False, _JSON, body, whole)
        if dialect is chat:
            yield Kind("qwen whole", chat, False, _SSE, body, whole, lambda asked: Uncalled())
    qwen = b"".join(streams["chat"][1])
    ends = _from(qwen, b'"finish_reason":"tool_calls"')
    yield Kind("qwen", chat, True, _SSE, qwen, ends, lambda asked: Uncalled())
    told = b"".join(wrapped.records())
    ends = _from(told, b'"finishReason"')
    yield Kind("code assist", gemini, True, _SSE, told, ends, lambda a: Opening(framing="sse"))
    answer = wrapped.response(wrapped.parts, last=True)
    body = json.dumps({"response": answer, **wrapped.fields}).encode()
    yield Kind(
        "code assist whole",
        gemini,
        False,
        _JSON,
        body,
        frozenset((len(body),)),
        lambda asked: Opening(framing="whole"),
    )
    events, ends = _kiro()
    yield Kind("kiro", messages, True, _EVENT_STREAM, events, ends, _in_kiro, False)
    yield Kind("kiro whole", messages, False, _EVENT_STREAM, events, ends, _in_kiro, False)


KINDS = tuple(_kinds())
CLEAN: tuple[Callable[[], Exception], ...] = (ResponseDone, PotentialDataLoss)
BROKEN: Callable[[], Exception] = lambda: ResponseFailed([Failure(ConnectionLost())])  # noqa: E731
ELSEWHERE = ("chat", "responses", "messages", "gemini")
"""Streams that `test_converted_cuts` cuts at every byte every time."""


class EveryCutTests(SynchronousTestCase):
    """Each kind of answer, each client, each byte, each ending."""

    def test_cut_at_every_byte(self) -> None:
        """No false success: what was cut is an error or nothing, and has no end in it."""
        counts: dict[str, int] = {}
        for kind in KINDS:
            for number, source in enumerate(DIALECTS):
                for cut in self.cuts(kind, number):
                    for end in self.endings(cut, number):
                        self.check(kind, source, cut, end)
                        counts[kind.name] = counts.get(kind.name, 0) + 1
        if LONG:
            print(f"\n{sum(counts.values())} cuts, no false success: {counts}")
        self.assertEqual(set(counts), {kind.name for kind in KINDS})

    def cuts(self, kind: Kind, number: int) -> range:
        """Return where an answer is cut for the client with *number*."""
        clients = 1 if LONG else len(DIALECTS) * (6 if kind.name in ELSEWHERE else 1)
        return range(number % clients, len(kind.data) + 1, clients)

    def endings(self, cut: int, number: int) -> tuple[Exception, ...]:
        """Return how the body ends there."""
        endings = (CLEAN[0](), CLEAN[1](), BROKEN())
        return endings if LONG else endings[(cut // 4 + number) % 3 :][:1]

    def check(self, kind: Kind, source: IDialect, cut: int, end: Exception) -> None:
        """Cut an answer after so many bytes, end it so, and judge what the client has."""
        where = f"{kind.name} for {source.name}, {cut} of {len(kind.data)}, {type(end).__name__}"
        watcher = kind.watcher(source)
        shown = [kind.data[:cut]] if cut else []
        reply, ending = play(watcher, shown, end, marks_end=kind.marks_end)
        complete = not isinstance(ending, Failure) and ending.how == "complete"
        if isinstance(end, ResponseFailed):
            self.assertFalse(complete, where)
        elif isinstance(end, PotentialDataLoss) and not kind.marks_end:
            # Nobody knows whether more was to come: also not where an event ends.
            self.assertFalse(complete, where)
        else:
            self.assertEqual(complete, cut in kind.ends, where)
        if complete:
            self.assertEqual(reply.ended, "finished", where)
            return
        if not kind.streaming:
            # It has no middle: nothing of it goes out before all of it is there.
            self.assertFalse(reply.begun, where)
        if source is kind.target and (cut in kind.ends or reply.ended == "aborted"):
            # The upstream's own end was relayed as it came. Behind it stands an error; an
            # array that is not closed can hold none, and breaks off.
            return
        for mark in ENDS[source.name]:
            self.assertNotIn(mark, reply.body, where)

    def test_uncut(self) -> None:
        """Each of them is an answer to each client, so that the cuts mean something."""
        for kind in KINDS:
            for source in DIALECTS:
                watcher = kind.watcher(source)
                reply, ending = play(watcher, [kind.data], ResponseDone())
                where = f"{kind.name} for {source.name}"
                assert not isinstance(ending, Failure), (where, ending)
                self.assertEqual(ending.how, "complete", where)
                said = reply.body.replace(b"\\u00e9", "\u00e9".encode())
                self.assertIn("H\u00e9".encode(), said, where)
