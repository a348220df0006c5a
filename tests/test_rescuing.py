"""
Converted streams that are cut and gone on with, byte for byte: what a client cannot tell.

All four dialects before all four, without sockets: the stream that two runs make is the
stream that one would have made, wherever the first was cut.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.convert import conversation_of, translated
from aiclient2api.dialects.rescuing import NOT_REPRODUCED, Rescue
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.interfaces import IDialect, IWatcher
from aiclient2api.testing import (
    Call,
    chat_chunks,
    gemini_chunks,
    messages_events,
    responses_events,
)
from aiclient2api.values import Usage
from tests.both_ways import request_of

LONG = "AICLIENT2API_LONG" in os.environ
STREAMS: Mapping[str, Callable[..., Sequence[bytes]]] = {
    "openai-chat": chat_chunks,
    "openai-responses": responses_events,
    "anthropic-messages": messages_events,
    "gemini": gemini_chunks,
}
PIECES = ("Grüße, ", "世界\u2028", " — 😀 ", "and so on.")
OTHERS = ("Grü", "ße, 世界\u2028 — ", "😀 and so", " on.")
"""The same in other pieces."""
USAGE = Usage(input=7, output=5)
ENDS: Mapping[str, tuple[bytes, ...]] = {
    "openai-chat": (b"[DONE]", b'"finish_reason":"'),
    "openai-responses": (b"response.completed", b"response.incomplete"),
    "anthropic-messages": (b"message_stop", b'"stop_reason":"'),
    "gemini": (b'"finishReason"',),
}
"""What a client takes for an end."""
ERROR = UpstreamError("It broke.", fault=Fault.TRUNCATED, status=502)


def stream(target: IDialect, pieces: Sequence[str] = PIECES, **more: object) -> bytes:
    """Return a stream of *target*."""
    return b"".join(STREAMS[target.name](pieces, usage=USAGE, **more))


def behind(data: bytes, text: str = "世界") -> int:
    """Return where the record ends in which *text* stands."""
    return data.index(b"\n", data.index(text.encode())) + 3


def run(
    rescue: Rescue, source: IDialect, target: IDialect, *, continuing: bool = False
) -> IWatcher:
    """Begin a run of *target* for a client of *source*."""
    asked = request_of(source.name)
    converted = translated(
        request_of(target.name),
        asked=asked,
        conversation=conversation_of(asked),
        source=source,
        target=target,
        model="m",
        make_id=lambda: "0" * 24,
        now=lambda: 1730000000.0,
        remember=lambda recollection, final: None,
        rescue=rescue,
        continues=continuing,
    )
    return converted.watch(b"text/event-stream", True, 1 << 20)


def pairs() -> Iterator[tuple[str, IDialect, IDialect]]:
    """Yield every client's and every upstream's dialect."""
    for source in DIALECTS:
        for target in DIALECTS:
            yield f"{source.name} of {target.name}", source, target


def cut(source: IDialect, target: IDialect, data: bytes) -> tuple[Rescue, bytes] | None:
    """Return what a client was sent of *data* before the cut; None if it was nothing."""
    rescue = Rescue()
    watcher = run(rescue, source, target)
    sent = watcher.feed(data=data)
    if not watcher.started:
        return None
    rescue.begun = True
    return rescue, sent


class RepeatedTests(SynchronousTestCase):
    """Another run of the same request."""

    def places(self, source: IDialect, target: IDialect, data: bytes) -> Iterator[int]:
        """Yield where to cut: where what the client has got changes, and in between."""
        if LONG:
            yield from range(1, len(data))
            return
        watcher = run(Rescue(), source, target)
        for at in range(len(data)):
            if watcher.feed(data=data[at : at + 1]):
                yield at + 1
                yield at + 20

    def test_cut_anywhere(self) -> None:
        """The stream is that of one run, byte for byte; only how it is cut may differ."""
        for pair, source, target in pairs():
            thinking = {"thinking": ["Hm, ", "well."]}
            data = stream(target, **thinking)
            again = stream(target, OTHERS, **thinking)
            whole = run(Rescue(), source, target)
            uncut = whole.feed(data=data) + whole.end()
            resumed = 0
            for at in self.places(source, target, data):
                begun = cut(source, target, data[:at])
                if begun is None or begun[0].why_not is not None:
                    continue
                resumed += 1
                for second in (data, again):
                    rescue, sent = cut(source, target, data[:at]) or begun
                    watcher = run(rescue, source, target)
                    sent += watcher.feed(data=second) + watcher.end()
                    self.assertTrue(watcher.complete, f"{pair} at {at}")
                    self.assertEqual(watcher.text, "".join(PIECES))
                    if second is data:
                        self.assertEqual(sent, uncut, f"{pair} at {at}")
                    for mark in ENDS[source.name]:
                        self.assertEqual(sent.count(mark), uncut.count(mark), f"{pair} at {at}")
            self.assertGreater(resumed, len(PIECES), pair)

    def test_another_answer(self) -> None:
        """Nothing of it is sent, and it is no whole one, however it ends."""
        for pair, source, target in pairs():
            data = stream(target)
            at = behind(data)
            for pieces in (("Grüße, ", "Welt"), ("Grü",), ("Grüsse, 世界",)):
                rescue, _ = cut(source, target, data[:at]) or self.fail(pair)
                watcher = run(rescue, source, target)
                told = watcher.feed(data=stream(target, pieces)) + watcher.end()
                self.assertEqual((told, watcher.complete), (b"", False), pair)
                assert watcher.failure is not None
                self.assertEqual(watcher.failure.code, NOT_REPRODUCED)
                self.assertIsNone(rescue.why_not)
                self.assertEqual(watcher.text, "Grüße, 世界\u2028")

    def test_byte_by_byte(self) -> None:
        """However the bytes come in, a run catches up at the same place."""
        for pair, source, target in pairs():
            data = stream(target)
            at = behind(data)
            rescue, sent = cut(source, target, data[:at]) or self.fail(pair)
            watcher = run(rescue, source, target)
            for place in range(len(data)):
                sent += watcher.feed(data=data[place : place + 1])
            sent += watcher.end()
            whole = run(Rescue(), source, target)
            self.assertEqual(sent, whole.feed(data=data) + whole.end(), pair)

    def test_in_another_dialect(self) -> None:
        """The second run may be of an upstream that speaks something else."""
        for pair, source, target in pairs():
            data = stream(target)
            at = behind(data)
            for other in DIALECTS:
                rescue, sent = cut(source, target, data[:at]) or self.fail(pair)
                watcher = run(rescue, source, other)
                sent += watcher.feed(data=stream(other)) + watcher.end()
                self.assertTrue(watcher.complete, f"{pair}, then {other.name}")
                whole = run(Rescue(), source, target)
                uncut = whole.feed(data=data) + whole.end()
                for mark in ENDS[source.name]:
                    self.assertEqual(sent.count(mark), uncut.count(mark))

    def test_tool_calls(self) -> None:
        """Once one has begun, nobody goes on."""
        for pair, source, target in pairs():
            call = [Call("c1", "f", '{"a":1}'), Call("c2", "f", '{"a":2}')]
            data = stream(target, tools=call)
            if target.name == "gemini":
                at = data.index(b"c2")
            else:
                at = data.index(b"{\\", data.index(b"c1")) + 4
                at = data.index(b"\n\n", at) + 2
            rescue, sent = cut(source, target, data[:at]) or self.fail(pair)
            self.assertIn("tool call", rescue.why_not or "", pair)
            frame = rescue.error_frame(ERROR)
            for mark in ENDS[source.name]:
                self.assertNotIn(mark, sent + frame, pair)
            self.assertIn(b"It broke.", frame)


class ContinuedTests(SynchronousTestCase):
    """A run that goes on with the text so far."""

    def test_cut_between_pieces(self) -> None:
        """The client has the text of both runs, and one end."""
        for pair, source, target in pairs():
            frames = STREAMS[target.name](PIECES, usage=USAGE)
            whole = run(Rescue(), source, target)
            uncut = whole.feed(data=b"".join(frames)) + whole.end()
            for count in range(1, len(frames)):
                begun = cut(source, target, b"".join(frames[:count]))
                if begun is None:
                    continue
                rescue, sent = begun
                if (prefix := rescue.prefix) is None:
                    continue
                watcher = run(rescue, source, target, continuing=True)
                rest = "".join(PIECES)[len(prefix) :]
                sent += watcher.feed(data=stream(target, [rest])) + watcher.end()
                self.assertTrue(watcher.complete, f"{pair}: {count}")
                self.assertEqual(watcher.text, "".join(PIECES))
                for mark in ENDS[source.name]:
                    self.assertEqual(sent.count(mark), uncut.count(mark))

    def test_a_model_that_refused_once(self) -> None:
        """Is not asked so again."""
        source = target = DIALECTS[0]
        data = stream(target)
        rescue, _ = cut(source, target, data[: len(data) // 2]) or self.fail("nothing was sent")
        self.assertTrue(rescue.prefix)
        rescue.prefills = False
        self.assertIsNone(rescue.prefix)


class ToldTests(SynchronousTestCase):
    """What is said of it."""

    def test_comments(self) -> None:
        """Before the end, in one line each; none where clients would take it for data."""
        for pair, source, target in pairs():
            data = stream(target)
            at = behind(data)
            rescue, sent = cut(source, target, data[:at]) or self.fail(pair)
            rescue.comments = source.comments
            rescue.comment("resumed by 世\nx")
            watcher = run(rescue, source, target)
            sent += watcher.feed(data=data) + watcher.end()
            told = b"\n: aiclient2api: resumed by ??x\n\n"
            self.assertEqual(sent.count(told), int(source.name != "gemini"), pair)
            self.assertFalse(sent.endswith(told))

    def test_errors(self) -> None:
        """An error record of the upstream is not passed on: perhaps somebody goes on."""
        source = target = next(each for each in DIALECTS if each.name == "openai-chat")
        data = b"".join(chat_chunks(PIECES)[:3])
        broken = data + b'data: {"error":{"message":"busy","code":"rate_limit_exceeded"}}\n\n'
        rescue, sent = cut(source, target, data) or self.fail("nothing was sent")
        watcher = run(rescue, source, target)
        self.assertEqual(watcher.feed(data=broken), b"")
        assert watcher.failure is not None
        self.assertEqual(watcher.failure.fault, Fault.RATE_LIMIT)
        frame = rescue.error_frame(watcher.failure)
        self.assertIn(b"busy", frame)
        self.assertNotIn(b"busy", sent)

    def test_an_end_that_was_said(self) -> None:
        """Behind it there is nothing to go on with, though the body broke."""
        for pair, source, target in pairs():
            data = stream(target)
            rescue, _ = cut(source, target, data) or self.fail(pair)
            rescue.broke(ERROR, ("p", "m", "a"))
            self.assertIn("whole", rescue.why_not or "", pair)

    def test_nothing_sent(self) -> None:
        """As long as nothing was, each run begins anew."""
        source = target = DIALECTS[0]
        data = stream(target)
        rescue = Rescue()
        first = run(rescue, source, target)
        first.feed(data=data)
        rescue.lose("it was too long")
        watcher = run(rescue, source, target)
        self.assertIsNone(rescue.why_not)
        whole = run(Rescue(), source, target)
        self.assertEqual(
            watcher.feed(data=data) + watcher.end(), whole.feed(data=data) + whole.end()
        )
