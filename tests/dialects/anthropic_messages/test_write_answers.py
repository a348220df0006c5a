"""What a client of Messages is answered, as a stream or whole."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation import call_ids, seals
from aiclient2api.conversation.events import (
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Cited,
    Event,
    Finished,
    MediaDelta,
    ReasoningDelta,
    Sealed,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.values import Usage
from tests.dialects.anthropic_messages.answering import (
    NAME,
    accumulated,
    encoder,
    message_of,
    stream_of,
    text,
)
from tests.strict_replies import judge_reply


class AnswerTests(SynchronousTestCase):
    """What holds for streams and whole answers alike."""

    def both(self, *events: Event, **fields: Any) -> dict[str, Any]:
        """Return the message that *events* make; the stream of them must make the same."""
        message = message_of(events, **fields)
        made = accumulated(stream_of(events, **fields))
        self.assertEqual(made["content"], message["content"])
        self.assertEqual(made["stop_reason"], message["stop_reason"])
        self.assertEqual(made.get("stop_sequence"), message["stop_sequence"])
        return message

    def test_stop_reasons(self) -> None:
        """Every reason has its word."""
        for reason, word in (
            ("end", "end_turn"),
            ("length", "max_tokens"),
            ("context", "model_context_window_exceeded"),
            ("filtered", "refusal"),
            ("paused", "pause_turn"),
        ):
            message = self.both(Started(), *text("a"), Finished(reason))
            self.assertEqual(message["stop_reason"], word)

    def test_stop_sequences(self) -> None:
        """The one it was, if that is known or beyond doubt."""
        for finished, given, wanted in (
            (Finished("stop_sequence", "END"), ["x", "END"], "END"),
            (Finished("stop_sequence"), ["END"], "END"),
            (Finished("stop_sequence"), ["x", "END"], None),
            (Finished("end"), ["END"], None),
        ):
            message = self.both(Started(), finished, stop_sequences=given)
            self.assertEqual(message["stop_sequence"], wanted)

    def test_refusals(self) -> None:
        """What a model says instead of an answer is text, and the reason tells."""
        message = self.both(
            Started(),
            BlockOpened(0, "refusal"),
            TextDelta(0, "No."),
            BlockClosed(0),
            Finished("end"),
        )
        self.assertEqual(message["content"], [{"type": "text", "text": "No."}])
        self.assertEqual(message["stop_reason"], "refusal")

    def test_seals(self) -> None:
        """Another vendor's are carried in the signature, Claude's own are there as they were."""
        foreign, own = Seal("gemini", "AAAA"), Seal(NAME, "EqQB")
        for seal, wanted in ((foreign, seals.carried(foreign, NAME)), (own, "EqQB")):
            message = self.both(
                Started(),
                BlockOpened(0, "reasoning"),
                ReasoningDelta(0, "hm"),
                Sealed(0, seal),
                BlockClosed(0),
                Finished("end"),
            )
            self.assertEqual(
                message["content"],
                [{"type": "thinking", "thinking": "hm", "signature": wanted}],
            )
            self.assertEqual(seals.taken(wanted, NAME), seal)

    def test_hidden_thoughts(self) -> None:
        """Are redacted ones."""
        foreign = Seal("openai-responses", "gAAA", id="rs_1", hidden=True)
        own = Seal(NAME, "Em", hidden=True)
        for seal, wanted in ((foreign, seals.carried(foreign, NAME)), (own, "Em")):
            message = self.both(
                Started(),
                BlockOpened(0, "reasoning"),
                Sealed(0, seal),
                BlockClosed(0),
                Finished("end"),
            )
            self.assertEqual(message["content"], [{"type": "redacted_thinking", "data": wanted}])

    def test_sections_of_thoughts(self) -> None:
        """A blank line stands between them."""
        message = self.both(
            Started(),
            BlockOpened(0, "reasoning"),
            ReasoningDelta(0, "a"),
            ReasoningDelta(0, "b", 1),
            ReasoningDelta(0, "c", 1),
            BlockClosed(0),
            Finished("end"),
        )
        self.assertEqual(message["content"][0]["thinking"], "a\n\nbc")

    def test_ids_of_calls(self) -> None:
        """Only letters and digits, and the client brings the upstream's own back."""
        message = self.both(
            Started(),
            BlockOpened(0, "call", "call.1:x", "f"),
            BlockClosed(0),
            Finished("tool_use"),
        )
        id = message["content"][0]["id"]
        self.assertRegex(id, r"^[A-Za-z0-9_-]+$")
        self.assertEqual(call_ids.original(id), "call.1:x")

    def test_media(self) -> None:
        """There is no place for a picture, so a sentence says what it was."""
        message = self.both(
            Started(),
            BlockOpened(0, "media"),
            MediaDelta(0, "image/png", "AAAAAA=="),
            BlockClosed(0),
            Finished("end"),
        )
        (block,) = message["content"]
        self.assertIn("image/png, 4 bytes", block["text"])

    def test_citations(self) -> None:
        """They name their source, and what Anthropic would want along with it is a parcel."""
        message = message_of(
            [
                Started(),
                BlockOpened(0, "text"),
                TextDelta(0, "Grüße"),
                Cited(0, "https://e.x", "T", "q", 0, 5),
                Cited(0, "", "a document"),
                BlockClosed(0),
                Finished("end"),
            ]
        )
        (citation,) = message["content"][0]["citations"]
        index = citation.pop("encrypted_index")
        self.assertTrue(index.startswith(seals.PARCEL))
        self.assertEqual(
            citation,
            {
                "type": "web_search_result_location",
                "url": "https://e.x",
                "title": "T",
                "cited_text": "q",
            },
        )

    def test_arguments_in_a_whole_answer(self) -> None:
        """Digits and order stay; what is no object becomes one."""
        for arguments, wanted in (
            ('{"z":1.10,"a":12345678901234567890123}',) * 2,
            ("{'a': 1}", '{"a":1}'),
            ("7", '{"value":7}'),
        ):
            events: list[Event] = [
                Started(),
                BlockOpened(0, "call", "a", "f"),
                ArgumentsDelta(0, arguments),
                BlockClosed(0),
                Finished("tool_use"),
            ]
            body = encoder().reply(events=events)
            self.assertIn(b'"input":' + wanted.encode() + b"}", body)

    def test_ids_of_answers(self) -> None:
        """They come from the upstream's, or are new."""
        for given, wanted in (
            ("chatcmpl-A1_b", "msg_A1_b"),
            ("msg_1", "msg_1"),
            ("resp_x", "msg_x"),
            ("a b/ç", "msg_ab"),
            ("", "msg_0123456789abcdef01234567"),
        ):
            message = self.both(Started(given), Finished("end"))
            self.assertEqual(message["id"], wanted)

    def test_usage(self) -> None:
        """What was read from a cache or written to one is counted apart."""
        usage = Usage(input=10, output=7, cached=4, cache_write=3, reasoning=2)
        message = self.both(Started(), UsageReported(usage), Finished("end"))
        self.assertEqual(
            message["usage"],
            {
                "input_tokens": 3,
                "cache_creation_input_tokens": 3,
                "cache_read_input_tokens": 4,
                "output_tokens": 7,
            },
        )
        odd = message_of([Started(), UsageReported(Usage(input=1, cached=9)), Finished("end")])
        self.assertEqual(odd["usage"]["input_tokens"], 0)

    def test_counts(self) -> None:
        """A count of tokens is one number."""
        events = (Started(), UsageReported(Usage(input=7)), Finished("end"))
        body = encoder("count_tokens").reply(events=events)
        self.assertEqual(body, b'{"input_tokens":7}')
        judge_reply(NAME, body)

    def test_context_overflow(self) -> None:
        """Claude Code makes the conversation shorter when it reads these words."""
        for message, wanted in (
            (
                "maximum context length is 8192 tokens, you sent 9000",
                "prompt is too long: 9000 tokens > 8192 maximum"
                " (maximum context length is 8192 tokens, you sent 9000)",
            ),
            ("too much", "prompt is too long: too much"),
            ("prompt is too long: 9 tokens > 8 maximum",) * 2,
        ):
            error = UpstreamError(message, fault=Fault.CONTEXT, status=413)
            status, body = ANTHROPIC_MESSAGES.render_error(error)
            self.assertEqual(status, 400)
            self.assertEqual(
                json.loads(body)["error"],
                {"type": "invalid_request_error", "message": wanted},
            )
