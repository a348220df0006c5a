"""The relay: bytes as they come, the truth about how they ended, and every clock."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed
from twisted.web.http import PotentialDataLoss

from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.testing import MemoryReply, MemoryResponse, chat_body, chat_chunks
from aiclient2api.upstream.relay import Clocks, Ending, Relay
from aiclient2api.values import Route

FRAMES = chat_chunks(["Hel", "lo"])
BARE, FIRST = FRAMES[0], FRAMES[1]
STREAM = b"".join(FRAMES)
ERROR = b'data: {"error":{"message":"busy","type":"server_error"}}\n\n'


class RelayCase(SynchronousTestCase):
    """One answer, from an upstream in memory to a client in memory."""

    def setUp(self) -> None:
        """Relay a Chat Completions stream with all clocks on."""
        self.clock = Clock()
        self.reply = MemoryReply()
        self.lengths: list[int | None] = []

    def relay(
        self,
        *,
        streaming: bool = True,
        clocks: Clocks = Clocks(first_event=30, idle=10, total=0),  # noqa: B008
        pieces: tuple[bytes, ...] = (),
        content_type: bytes = b"",
        marks_end: bool = True,
    ) -> Relay:
        """Start relaying an open body that begins with *pieces*."""
        body = b'{"model":"m","messages":[],"stream":%s}' % (b"true" if streaming else b"false")
        request = OPENAI_CHAT.parse(body=body, route=Route(action="generate"))
        self.response = MemoryResponse(pieces=pieces, end=None)
        self.watcher = OPENAI_CHAT.watcher(
            request=request, content_type=content_type, want_text=False
        )
        relay = Relay(
            response=self.response,
            watcher=self.watcher,
            reply=self.reply,
            begin=self.begin,
            clean=lambda record: record.replace(b"s3cret", b"[secret]"),
            clock=self.clock,
            clocks=clocks,
            marks_end=marks_end,
        )
        self.response.deliver(receiver=relay)
        return relay

    def begin(self, length: int | None) -> None:
        """Send the head."""
        self.lengths.append(length)
        self.reply.begin(200, ())

    def fault_of(self, relay: Relay) -> Fault:
        """Return why an attempt failed with nothing sent."""
        error = self.failureResultOf(relay.done, UpstreamError).value
        self.assertFalse(self.reply.begun)
        self.assertTrue(self.response.aborted or self.response.lost is not None)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return error.fault

    def ending_of(self, relay: Relay) -> Ending:
        """Return how the answer ended; nothing of it is left running."""
        ending = self.successResultOf(relay.done)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIsNone(self.reply.producer)
        return ending


class RelayTests(RelayCase):
    """Answers as they should be, and as they break off."""

    def test_every_byte_arrives_unchanged_at_any_split(self) -> None:
        """Wherever the reads are cut, the client gets the same bytes."""
        for size in (1, 2, 3, 7, 50, len(STREAM)):
            self.reply = MemoryReply()
            relay = self.relay()
            for at in range(0, len(STREAM), size):
                self.response.push(STREAM[at : at + size])
            self.response.finish()
            self.assertEqual(self.ending_of(relay).how, "complete")
            self.assertEqual(self.reply.body, STREAM)
            self.assertEqual(self.reply.ended, "finished")

    def test_one_read_is_one_write(self) -> None:
        """Twenty events that came in one read go out in one write."""
        relay = self.relay()
        self.response.push(BARE + FIRST)
        self.response.push(FIRST * 20)
        self.assertEqual(self.reply.writes, [BARE + FIRST, FIRST * 20])
        relay.done.cancel()
        self.failureResultOf(relay.done, CancelledError)

    def test_the_head_waits_for_the_first_real_event(self) -> None:
        """A comment and a delta with a role only are held back, then sent verbatim."""
        relay = self.relay()
        self.response.push(b": hello\n\n" + BARE)
        self.assertFalse(self.reply.begun)
        self.response.push(FIRST)
        self.assertTrue(self.reply.begun)
        self.assertEqual(self.reply.body, b": hello\n\n" + BARE + FIRST)
        self.assertEqual(self.lengths, [None])
        relay.done.cancel()
        self.failureResultOf(relay.done, CancelledError)

    def test_an_error_as_first_event_sends_nothing(self) -> None:
        """It may still become a status or another attempt."""
        relay = self.relay()
        self.response.push(BARE + ERROR)
        self.assertEqual(self.fault_of(relay), Fault.SERVER)

    def test_an_end_before_the_first_event_sends_nothing(self) -> None:
        """A 200 with an empty body is no answer."""
        relay = self.relay()
        self.response.push(BARE)
        self.response.finish()
        self.assertEqual(self.fault_of(relay), Fault.TRUNCATED)

    def test_a_stream_cut_cleanly_ends_in_an_error(self) -> None:
        """A clean end of file without finish_reason is not success, and gets no [DONE]."""
        relay = self.relay()
        self.response.push(BARE + FIRST + b'data: {"choices":[{"del')
        self.response.finish()
        self.assertEqual(self.ending_of(relay).how, "truncated")
        tail = self.reply.body.removeprefix(BARE + FIRST)
        self.assertTrue(tail.startswith(b'data: {"error":{'), tail)
        self.assertNotIn(b"[DONE]", tail)
        self.assertNotIn(b'"del', tail)

    def test_a_broken_connection_ends_in_an_error(self) -> None:
        """Also when the semantic end was seen: the rest may be missing."""
        for seen in (BARE + FIRST, STREAM):
            self.reply = MemoryReply()
            relay = self.relay()
            self.response.push(seen)
            self.response.lose(ResponseFailed([Failure(ConnectionLost())]))
            self.assertEqual(self.ending_of(relay).how, "truncated")
            self.assertIn(b'"code":"upstream_truncated"', self.reply.body)

    def test_an_end_marked_by_the_close_counts_if_the_answer_is_complete(self) -> None:
        """HTTP/1.0 upstreams have no other way to end."""
        relay = self.relay()
        self.response.push(STREAM)
        self.response.lose(PotentialDataLoss())
        self.assertEqual(self.ending_of(relay).how, "complete")

    def test_a_close_is_no_end_of_an_answer_without_a_mark_of_its_own(self) -> None:
        """Whether more was to come nobody knows: it may have been cut."""
        relay = self.relay(marks_end=False)
        self.response.push(STREAM)
        self.response.lose(PotentialDataLoss())
        self.assertEqual(self.ending_of(relay).how, "truncated")

    def test_a_missing_done_is_no_fault_and_is_not_added(self) -> None:
        """finish_reason is the end; the relay writes nothing of its own."""
        relay = self.relay()
        self.response.push(b"".join(FRAMES[:-1]))
        self.response.finish()
        self.assertEqual(self.ending_of(relay).how, "complete")
        self.assertEqual(self.reply.body, b"".join(FRAMES[:-1]))

    def test_nothing_follows_an_error_record(self) -> None:
        """The upstream's own error goes out verbatim, its [DONE] does not."""
        relay = self.relay()
        self.response.push(BARE + FIRST)
        self.response.push(ERROR + b"data: [DONE]\n\n")
        self.assertEqual(self.ending_of(relay).how, "failed")
        self.assertEqual(self.reply.body, BARE + FIRST + ERROR)
        self.assertEqual(self.reply.ended, "finished")
        self.assertTrue(self.response.aborted)

    def test_a_whole_answer_is_sent_when_it_is_done(self) -> None:
        """With its length, and not before its last byte."""
        relay, body = self.relay(streaming=False), chat_body("hello")
        self.response.push(body[:-1])
        self.assertFalse(self.reply.begun)
        self.response.push(body[-1:])
        self.response.finish()
        self.assertEqual(self.ending_of(relay).how, "complete")
        self.assertEqual((self.reply.body, self.lengths), (body, [len(body)]))

    def test_a_cut_whole_answer_sends_nothing(self) -> None:
        """The client gets an error with a status, not half a body."""
        relay = self.relay(streaming=False)
        self.response.push(chat_body("hello")[:-10])
        self.response.finish()
        self.assertEqual(self.fault_of(relay), Fault.TRUNCATED)

    def test_a_slow_client_pauses_the_upstream(self) -> None:
        """And what was read already is still passed on."""
        relay = self.relay()
        self.response.push(BARE + FIRST)
        self.reply.slow()
        self.assertTrue(self.response.paused)
        self.response.push(FIRST)
        self.assertEqual(self.reply.body, BARE + FIRST + FIRST)
        self.reply.drain()
        self.assertFalse(self.response.paused)
        relay.done.cancel()
        self.failureResultOf(relay.done, CancelledError)

    def test_a_client_that_leaves_closes_the_upstream(self) -> None:
        """Before and after the first event."""
        for pieces in ((), (BARE + FIRST,)):
            self.reply = MemoryReply()
            relay = self.relay(pieces=pieces)
            relay.done.cancel()
            self.failureResultOf(relay.done, CancelledError)
            self.assertTrue(self.response.aborted)
            self.assertIsNone(self.reply.producer)
            self.assertIsNone(self.reply.ended)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_upstream_without_a_first_event_is_given_up(self) -> None:
        """Comments and bare starts do not count as one."""
        relay = self.relay()
        self.clock.advance(29)
        self.response.push(b": working\n\n" + BARE)
        self.clock.advance(1)
        self.assertEqual(self.fault_of(relay), Fault.TIMEOUT)

    def test_silence_between_events_is_given_up(self) -> None:
        """The client is told which clock it was; comments do not count as events."""
        relay = self.relay(pieces=(BARE + FIRST,))
        self.clock.advance(9)
        self.response.push(FIRST)
        self.clock.advance(9)
        self.response.push(b": still here\n\n")
        self.clock.advance(1)
        ending = self.ending_of(relay)
        assert ending.error is not None
        self.assertEqual(ending.error.fault, Fault.TIMEOUT)
        self.assertIn(b"timeouts.idle", self.reply.body)
        self.assertTrue(self.response.aborted)

    def test_the_idle_clock_stands_still_for_a_slow_client(self) -> None:
        """The upstream is not silent, it is held up by us."""
        relay = self.relay(pieces=(BARE + FIRST,))
        self.reply.slow()
        self.clock.advance(3600)
        self.assertNoResult(relay.done)
        self.reply.drain()
        self.clock.advance(10)
        self.assertEqual(self.ending_of(relay).how, "truncated")

    def test_the_total_clock_ends_a_stream_that_never_stops(self) -> None:
        """However lively it is."""
        relay = self.relay(clocks=Clocks(first_event=30, idle=10, total=20))
        for _ in range(20):
            self.response.push(BARE + FIRST)
            self.clock.advance(1)
        self.assertEqual(self.ending_of(relay).how, "truncated")
        self.assertIn(b"timeouts.total", self.reply.body)

    def test_zero_turns_a_clock_off(self) -> None:
        """No timer runs at all."""
        relay = self.relay(clocks=Clocks(first_event=0, idle=0, total=0))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        relay.done.cancel()
        self.failureResultOf(relay.done, CancelledError)

    def test_a_body_that_was_all_there_is_relayed_at_once(self) -> None:
        """A response whose body came with its headers is no special case."""
        body = b'{"model":"m","messages":[],"stream":true}'
        request = OPENAI_CHAT.parse(body=body, route=Route(action="generate"))
        self.response = MemoryResponse(pieces=[STREAM])
        relay = Relay(
            response=self.response,
            watcher=OPENAI_CHAT.watcher(request=request, content_type=b"", want_text=False),
            reply=self.reply,
            begin=self.begin,
            clean=lambda record: record.replace(b"s3cret", b"[secret]"),
            clock=self.clock,
            clocks=Clocks(first_event=30, idle=10, total=20),
        )
        self.response.deliver(receiver=relay)
        self.assertEqual(self.ending_of(relay).how, "complete")
        self.assertEqual(self.reply.body, STREAM)

    def test_a_done_without_an_end_is_not_shown(self) -> None:
        """Clients stop reading at [DONE]; an error behind it would never be seen."""
        relay = self.relay()
        self.response.push(BARE + FIRST + b"data: [DONE]\n\n")
        self.assertEqual(self.reply.body, BARE + FIRST)
        self.response.finish()
        self.assertEqual(self.ending_of(relay).how, "truncated")
        self.assertNotIn(b"[DONE]", self.reply.body)
        self.assertIn(b"upstream_truncated", self.reply.body)


class MislabelledTests(RelayCase):
    """Answers that are not framed as was asked: only their bytes tell."""

    def test_a_whole_answer_to_a_stream_request(self) -> None:
        """It is sent when it is all there, with its length."""
        relay, body = self.relay(), chat_body("hello")
        self.response.push(body[:9])
        self.response.push(body[9:])
        self.assertFalse(self.reply.begun)
        self.response.finish()
        self.assertEqual(self.ending_of(relay).how, "complete")
        self.assertEqual((self.reply.body, self.lengths), (body, [len(body)]))

    def test_a_whole_answer_is_bounded_by_silence(self) -> None:
        """From its first byte on: however long it takes, as long as it comes."""
        relay, body = self.relay(), chat_body("hello")
        for _ in range(6):
            self.response.push(body[:1])
            self.clock.advance(9)
        self.assertNoResult(relay.done)
        self.clock.advance(1)
        self.assertEqual(self.fault_of(relay), Fault.TIMEOUT)

    def test_nothing_but_blanks_is_bounded_as_a_stream(self) -> None:
        """A blank line tells nothing of what is to come."""
        relay = self.relay()
        for _ in range(29):
            self.response.push(b"\r\n")
            self.clock.advance(1)
        self.assertNoResult(relay.done)
        self.clock.advance(1)
        self.assertEqual(self.fault_of(relay), Fault.TIMEOUT)

    def test_events_called_json_are_a_stream(self) -> None:
        """They go out as they come, and their first one ends the wait for it."""
        relay = self.relay(content_type=b"application/json")
        self.clock.advance(29)
        self.response.push(b"\n" + BARE + FIRST)
        self.assertEqual(self.reply.body, b"\n" + BARE + FIRST)
        self.clock.advance(9)
        self.assertNoResult(relay.done)
        self.response.push(STREAM.removeprefix(BARE + FIRST))
        self.response.finish()
        self.assertEqual(self.ending_of(relay).how, "complete")
        self.assertEqual(self.lengths, [None])

    def test_a_page_of_html_is_no_answer(self) -> None:
        """It is given up at its first byte, and says what to look at."""
        for streaming in (True, False):
            relay = self.relay(streaming=streaming)
            self.response.push(b"<html>")
            error = self.failureResultOf(relay.done, UpstreamError).value
            self.assertEqual((error.code, error.status), ("no_answer", 502))
            self.assertIn("base URL", error.message)
            self.assertFalse(self.reply.begun)
            self.assertTrue(self.response.aborted)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_empty_body_is_cut_short(self) -> None:
        """Nothing is nothing, not a page."""
        relay = self.relay()
        self.response.finish()
        self.assertEqual(self.fault_of(relay), Fault.TRUNCATED)

    def test_a_break_told_as_a_finish(self) -> None:
        """As the first event it sends nothing; behind others it is the last thing seen."""
        broken = b'data: {"choices":[{"delta":{},"finish_reason":"network_error"}]}\n\n'
        relay = self.relay()
        self.response.push(BARE + broken)
        self.assertEqual(self.fault_of(relay), Fault.SERVER)
        relay = self.relay()
        self.response.push(BARE + FIRST)
        self.response.push(broken + b"data: [DONE]\n\n")
        self.assertEqual(self.ending_of(relay).how, "failed")
        self.assertEqual(self.reply.body, BARE + FIRST + broken)


class OwnBugTests(RelayCase):
    """What is left open, and what a client sees, where the gateway itself fails."""

    def bug(self) -> Callable[..., None]:
        """Return a function that fails with a piece of the answer in its words."""

        def fail(*_: object, **__: object) -> None:
            raise ValueError("Hel")

        return fail

    def logged(self, times: int = 1) -> None:
        """Check that a fault was logged, and nothing of the answer with it."""
        failures = self.flushLoggedErrors()
        self.assertEqual(len(failures), times)
        for failure in failures:
            self.assertIn("ValueError", failure.getErrorMessage())
            self.assertIn("test_relay", failure.getTraceback())
            self.assertNotIn("Hel", failure.getErrorMessage())

    def refused(self, relay: Relay) -> None:
        """Check that the exchange is told, nothing was sent and nothing is left open."""
        error = self.failureResultOf(relay.done, UpstreamError).value
        self.assertEqual((error.code, error.status), ("gateway_bug", 502))
        self.assertFalse(self.reply.begun)
        self.assertTrue(self.response.aborted or self.response.lost is not None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_before_the_head(self) -> None:
        """Whether a record, the end or the head cannot be dealt with."""
        for broken in ("feed", "end", "begin"):
            relay = self.relay(clocks=Clocks(first_event=30, idle=10, total=60))
            self.patch(self.reply if broken == "begin" else self.watcher, broken, self.bug())
            self.response.push(BARE + FIRST if broken == "begin" else BARE)
            if broken == "end":
                self.response.finish()
            self.refused(relay)
            self.logged()

    def test_after_the_head(self) -> None:
        """The client is told, as after any break; nothing that follows is sent."""
        for broken in ("feed", "end"):
            self.reply = MemoryReply()
            relay = self.relay(pieces=(BARE + FIRST,))
            self.patch(self.watcher, broken, self.bug())
            if broken == "feed":
                self.response.push(FIRST)
            else:
                self.response.finish()
            ending = self.ending_of(relay)
            assert ending.error is not None
            self.assertEqual((ending.how, ending.error.code), ("truncated", "gateway_bug"))
            self.assertIn(b'"code":"gateway_bug"', self.reply.body)
            self.assertEqual(self.reply.ended, "finished")
            self.logged()

    def test_while_the_answer_is_being_ended(self) -> None:
        """The client's connection is cut, and the exchange still hears of it."""
        relay = self.relay(pieces=(BARE + FIRST,))
        self.patch(self.reply, "finish", self.bug())
        self.response.push(STREAM.removeprefix(BARE + FIRST))
        self.response.finish()
        self.assertEqual(self.ending_of(relay).how, "truncated")
        self.assertEqual(self.reply.ended, "aborted")
        self.logged()

    def test_while_the_client_is_being_told(self) -> None:
        """Also when it began with a clock that ran out."""
        relay = self.relay(pieces=(BARE + FIRST,))
        self.patch(self.watcher, "error_frame", self.bug())
        self.clock.advance(10)
        self.assertEqual(self.ending_of(relay).how, "truncated")
        self.assertEqual(self.reply.ended, "aborted")
        self.assertTrue(self.response.aborted)
        self.logged()

    def test_one_bug_after_another(self) -> None:
        """The second does not leave open what the first was to close."""
        relay = self.relay(pieces=(BARE + FIRST,))
        self.patch(self.watcher, "feed", self.bug())
        self.patch(self.watcher, "error_frame", self.bug())
        self.response.push(FIRST)
        self.assertEqual(self.ending_of(relay).how, "truncated")
        self.assertEqual(self.reply.ended, "aborted")
        self.logged(2)

    def test_a_key_in_an_error_record_is_cut_out(self) -> None:
        """The record goes out otherwise unchanged; answers are not looked at for keys."""
        record = ERROR.replace(b"busy", b"bad key s3cret")
        relay = self.relay()
        self.response.push(BARE + FIRST.replace(b"Hel", b"s3cret"))
        self.response.push(record)
        self.assertEqual(self.ending_of(relay).how, "failed")
        self.assertTrue(self.reply.body.endswith(record.replace(b"s3cret", b"[secret]")))
        self.assertEqual(self.reply.body.count(b"s3cret"), 1)
