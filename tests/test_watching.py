"""The watcher all dialects share: which bytes are shown, whatever the dialect says."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.pieces import Pieces
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.watching import Watcher, count, total
from aiclient2api.errors import Fault, GatewayError, UpstreamError
from aiclient2api.values import Route, Usage


class Reader:
    """A dialect of four words: ``go``, ``end``, ``close`` and ``fail``."""

    def __init__(self) -> None:
        self.started = self.complete = self.closed_early = False
        self.failure: UpstreamError | None = None
        self.usage: Usage | None = None
        self.pieces = Pieces()
        self.texts: list[str] = []
        self.reply_id: str | None = None
        self.kept_ids: tuple[str, ...] = ()
        self.read: list[bytes] = []

    def record(self, *, event: bytes, data: bytes) -> bool:
        """Read one word; anything cut short is not whole."""
        self.read.append(data)
        self.started = self.started or data == b"go"
        self.complete = self.complete or data == b"end"
        self.closed_early = data == b"close" and not self.complete
        if data == b"fail":
            self.failure = UpstreamError("it failed", fault=Fault.SERVER, status=502)
        return data in (b"go", b"end", b"close", b"fail")

    def whole(self, *, body: bytes) -> bool:
        """Read a whole answer."""
        self.started = self.complete = body == b"{}"
        return body == b"{}"

    def error_frame(self, error: GatewayError) -> bytes:
        """Return the error's event."""
        return b"data: fail\n\n"


class WatcherTests(SynchronousTestCase):
    """One answer, read by a reader that keeps what it is given."""

    def watcher(self, *, streaming: bool = True, content_type: bytes = b"") -> Watcher:
        """Return a watcher for the answer to a request of this kind."""
        body = b'{"model":"m","messages":[],"stream":%s}' % (b"true" if streaming else b"false")
        request = OPENAI_CHAT.parse(body=body, route=Route(action="generate"))
        self.reader = Reader()
        return Watcher(reader=self.reader, request=request, content_type=content_type, limit=1000)

    def test_only_whole_records_are_shown(self) -> None:
        """What is half here waits for its other half."""
        watcher = self.watcher()
        self.assertEqual(watcher.feed(b"data: go\n\ndata: e"), b"data: go\n\n")
        self.assertEqual(watcher.feed(b"nd\n\n"), b"data: end\n\n")
        self.assertEqual((watcher.end(), watcher.complete, watcher.events), (b"", True, 2))

    def test_nothing_follows_a_failure(self) -> None:
        """Not in the same read, and not in a later one."""
        watcher = self.watcher()
        shown = watcher.feed(b"data: go\n\ndata: fail\n\ndata: end\n\n")
        self.assertEqual(shown, b"data: go\n\ndata: fail\n\n")
        self.assertEqual(watcher.feed(b"data: end\n\n") + watcher.end(), b"")
        self.assertFalse(watcher.complete)

    def test_a_close_before_the_end_is_not_shown(self) -> None:
        """Nor anything behind it: clients would take the answer for whole."""
        watcher = self.watcher()
        self.assertEqual(watcher.feed(b"data: go\n\ndata: close\n\ndata: x\n\n"), b"data: go\n\n")
        self.assertEqual(watcher.feed(b"data: end\n\n") + watcher.end(), b"")
        self.assertFalse(watcher.complete)
        watcher = self.watcher()
        closing = b"data: end\n\ndata: close\n\n"
        self.assertEqual(watcher.feed(closing), closing)

    def test_a_last_record_without_its_blank_line_counts_if_it_is_whole(self) -> None:
        """Half a record is dropped, half a field's name too."""
        for rest, shown in ((b"data: end", b"data: end"), (b"data: en", b""), (b"dat", b"")):
            watcher = self.watcher()
            watcher.feed(b"data: go\n\n" + rest)
            self.assertEqual(watcher.end(), shown, rest)
            self.assertEqual(watcher.complete, rest == b"data: end")

    def test_the_first_byte_tells_what_it_is(self) -> None:
        """Not the content type, where a stream was asked for."""
        watcher = self.watcher(content_type=b"application/json")
        self.assertEqual(watcher.feed(b"\n data"), b"\n")
        self.assertEqual(watcher.framing, "sse")
        watcher = self.watcher(content_type=b"text/event-stream")
        self.assertEqual(watcher.feed(b" {"), b"")
        self.assertEqual(watcher.framing, "whole")
        self.assertIsNone(watcher.error_frame(GatewayError("x")))

    def test_a_garbled_start_is_no_answer(self) -> None:
        """Nothing was shown yet, so that somebody else may answer; later on it is passed on."""
        watcher = self.watcher()
        watcher.feed(b'data: {}\n\ndata: {"a\n\ndata: go\n\n')
        assert watcher.failure is not None
        self.assertEqual(watcher.failure.code, "garbled_record")
        self.assertEqual(self.reader.read, [b"{}", b'{"a'])
        # Had anything been sent all the same, it would end with an error.
        watcher = self.watcher()
        shown = watcher.feed(b'data: {}\n\ndata: {"a\n\ndata: go\n\n')
        self.assertEqual(shown, b"data: {}\n\ndata: fail\n\n")
        watcher = self.watcher()
        later = b'data: go\n\ndata: {"a\n\ndata: end\n\n'
        self.assertEqual(watcher.feed(later), later)
        self.assertIsNone(watcher.failure)

    def test_odd_records_before_the_start_are_passed_on(self) -> None:
        """No data, or JSON that is nothing to the dialect: proxies send such to keep awake."""
        odd = b"event: x\ndata:\n\ndata: 1\n\ndata: null\n\ndata: []\n\ndata:  \n\n"
        watcher = self.watcher()
        self.assertEqual(watcher.feed(odd + b"data: go\n\n"), odd + b"data: go\n\n")
        self.assertIsNone(watcher.failure)

    def test_a_page_is_no_answer(self) -> None:
        """It fails at its first byte, and is not called a broken stream."""
        for streaming in (True, False):
            watcher = self.watcher(streaming=streaming)
            self.assertEqual(watcher.feed(b"<html>"), b"")
            assert watcher.failure is not None
            self.assertEqual(watcher.failure.code, "no_answer")
            self.assertEqual(self.reader.read, [])

    def test_the_id_is_the_readers(self) -> None:
        """Whatever name the dialect says the answer can be found by."""
        watcher = self.watcher()
        self.assertIsNone(watcher.reply_id)
        self.reader.reply_id = "resp_1"
        self.assertEqual(watcher.reply_id, "resp_1")

    def test_only_responses_are_gone_on_from_by_name(self) -> None:
        """In all other dialects an answer has an id, too, but nobody keeps it."""
        told = (
            (OPENAI_CHAT, b'data: {"id":"x","choices":[{"delta":{"content":"a"}}]}\n\n'),
            (ANTHROPIC_MESSAGES, b'data: {"type":"message_start","message":{"id":"x"}}\n\n'),
            (GEMINI, b'data: {"responseId":"x","candidates":[{"finishReason":"STOP"}]}\n\n'),
        )
        for dialect, record in told:
            body = b'{"model":"m","messages":[],"contents":[],"stream":true}'
            route = Route("generate", model="m", streaming=True, framing="sse")
            request = dialect.parse(body=body, route=route)
            watcher = dialect.watcher(request=request, content_type=b"", want_text=False)
            self.assertEqual(watcher.feed(record), record)
            self.assertIsNone(watcher.reply_id)

    def test_an_answer_over_the_limit_is_given_up(self) -> None:
        """A record, or a whole answer: neither is held without bound."""
        self.assertRaises(UpstreamError, self.watcher().feed, b"data: " + b"x" * 1001)
        whole = self.watcher(streaming=False)
        whole.feed(b"{" + b" " * 900)
        self.assertRaises(UpstreamError, whole.feed, b" " * 100)


class CountTests(SynchronousTestCase):
    """Token counts as upstreams write them."""

    def test_the_first_that_is_a_count(self) -> None:
        """Zero counts; booleans, texts and numbers beyond all bounds do not."""
        self.assertEqual(count(None, 0, 5), 0)
        self.assertEqual(count("7", 3.0), 3)
        self.assertIsNone(count(True, "7", 10**400, float("inf"), 2**63))

    def test_a_sum_of_what_was_told(self) -> None:
        """Nothing told is not zero."""
        self.assertEqual(total(1, None, 2), 3)
        self.assertIsNone(total(None, None))
