"""How an upstream's answer ends, well or badly."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.events import (
    Failed,
    Finished,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.grammar import fold
from aiclient2api.errors import Fault
from aiclient2api.values import Usage
from tests.dialects.gemini.test_read_reply import (
    NAME,
    answer,
    chunked,
    decoder,
    folded,
    streamed,
    told,
    whole,
)
from tests.streams import stream


class EndTests(SynchronousTestCase):
    """Why an answer ended, and what went wrong."""

    def test_reasons(self) -> None:
        """Each of Google's is one of ours, by its name or its number."""
        for finish, reason in (
            ("STOP", "end"),
            ("MAX_TOKENS", "length"),
            ("SAFETY", "filtered"),
            ("RECITATION", "filtered"),
            ("LANGUAGE", "filtered"),
            ("BLOCKLIST", "filtered"),
            ("PROHIBITED_CONTENT", "filtered"),
            ("SPII", "filtered"),
            ("IMAGE_SAFETY", "filtered"),
            ("MODEL_ARMOR", "filtered"),
            ("OTHER", "end"),
            ("IMAGE_OTHER", "end"),
            ("NO_IMAGE", "end"),
            ("max_tokens", "length"),
            (1, "end"),
            (2, "length"),
            (2.0, "length"),
            (3, "filtered"),
            (4, "filtered"),
            (5, "end"),
            (8, "filtered"),
        ):
            for said in ({"text": "a"}, {"functionCall": {"name": "f"}}):
                found = folded(answer(said, finish=finish)).reason
                wanted = "tool_use" if reason == "end" and "text" not in said else reason
                self.assertEqual(found, wanted, finish)
        for nothing in (0, "", "FINISH_REASON_UNSPECIFIED"):
            unfinished = answer({"text": "a"}, finish=nothing)
            self.assertEqual(chunked(unfinished)[-1], TextDelta(0, "a"))
            self.assertIsNone(whole(unfinished))

    def failed(self, chunk: Any, code: str) -> str:
        """Return the message of the error that an answer is, streamed or whole."""
        messages = set()
        for events in (chunked(chunk), whole(chunk) or ()):
            failed = events[-1]
            assert isinstance(failed, Failed), events
            self.assertEqual(failed.error.code, code)
            self.assertEqual((failed.error.fault, failed.error.status), (Fault.SERVER, 502))
            fold(events)
            messages.add(failed.error.message)
        (message,) = messages
        return message

    def test_an_unknown_reason(self) -> None:
        """Is no end: nobody knows whether the answer is whole. The error names it."""
        for finish, word in (
            ("CANCELLED", "CANCELLED"),
            ("SOMETHING\nNEW" * 99, "SOMETHING_NEW"),
            (9, "9"),
            (99, "99"),
            (-1, "-1"),
            (True, "True"),
            ({"a": 1}, "a"),
        ):
            message = self.failed(
                answer({"text": "a"}, finish=finish), code="unknown_finish_reason"
            )
            self.assertIn(word, message)
            self.assertNotIn("\n", message)
            self.assertLess(len(message), 200)

    def test_nothing_at_all(self) -> None:
        """Is no answer but an error that may be tried again, unless something was refused."""
        empty: Any
        for empty in (
            answer(),
            answer({"text": ""}),
            answer({"text": "", "thought": True}),
            answer({"text": "", "thoughtSignature": "AAAA"}),
            answer({"functionCall": {"args": {}}}),
            answer(finish="OTHER", usageMetadata={"promptTokenCount": 3}),
            {"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]},
            {"candidates": [{"finishReason": 1}]},
        ):
            self.failed(empty, code="empty_answer")
        for said in (
            {"text": "Hm.", "thought": True},
            {"functionCall": {"name": "f"}},
            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        ):
            self.assertIsInstance(chunked(answer(said))[-1], Finished)
        for finish, reason in (("MAX_TOKENS", "length"), ("SAFETY", "filtered")):
            self.assertEqual(folded(answer(finish=finish)).reason, reason)
        blocked = {"promptFeedback": {"blockReason": "SAFETY"}}
        self.assertEqual(folded(blocked).reason, "filtered")

    def test_a_cut_stays_a_cut(self) -> None:
        """Whatever comes after it, and whatever was called."""
        call = {"functionCall": {"name": "f", "args": {}}}
        reply = folded(answer(call, finish="MAX_TOKENS"), answer(finish="STOP"))
        self.assertEqual(reply.reason, "length")
        self.assertEqual(folded(answer(call), answer({"text": ""})).reason, "tool_use")

    def test_a_broken_call(self) -> None:
        """Is an error that may be tried again, not an end."""
        for finish in ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"):
            broken = answer({"text": "a"}, finish=finish, usageMetadata={"promptTokenCount": 3})
            for events in (chunked(broken, answer({"text": "b"})), whole(broken) or ()):
                failed = events[-1]
                assert isinstance(failed, Failed)
                self.assertEqual(failed.error.code, "malformed_function_call")
                self.assertEqual((failed.error.fault, failed.error.status), (Fault.SERVER, 502))
                self.assertIn(UsageReported(Usage(input=3)), events)

    def test_errors(self) -> None:
        """An error ends everything, wherever it stands and however it is dressed."""
        error = {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED"}
        for events in (
            streamed([stream(NAME, "error_midway.sse")]),
            streamed([stream(NAME, "array_error_midway.json")], array=True),
            whole(stream(NAME, "bare_error.json")),
            whole(stream(NAME, "array_error_first.json")),
            chunked({"error": error}, answer()),
        ):
            failed = (events or ())[-1]
            assert isinstance(failed, Failed)
            self.assertEqual(failed.error.message, "Quota exceeded.")
            self.assertEqual((failed.error.fault, failed.error.status), (Fault.RATE_LIMIT, 429))
        (broken,) = chunked({"error": "It broke."})
        assert isinstance(broken, Failed)
        self.assertEqual(broken.error.message, "It broke.")
        told_of = decoder().record(event=b"error", data=b"<html>") or ()
        self.assertIsInstance(told_of[0], Failed)

    def test_what_is_no_chunk(self) -> None:
        """Broken JSON is told apart from what merely says nothing."""
        reader = decoder()
        self.assertIsNone(reader.record(event=b"", data=b'{"candidates":[{'))
        for data in (b"[DONE]", b"{}", b"5", b'"a"', b"null", b"[]", b"", b'{"error":{}}'):
            self.assertEqual(list(reader.record(event=b"", data=data) or [None][:0]), [], data)
            self.assertIsNotNone(reader.record(event=b"", data=data), data)

    def test_usage(self) -> None:
        """Prompts hold what tools brought, outputs what was thought; the last word counts."""
        told_of = {
            "promptTokenCount": 10,
            "toolUsePromptTokenCount": 5,
            "candidatesTokenCount": 3.0,
            "thoughtsTokenCount": 4,
            "cachedContentTokenCount": 2,
        }
        events = chunked(
            answer({"text": "a"}, finish=None, usageMetadata={"promptTokenCount": 10}),
            answer({"text": "b"}, finish=None, usageMetadata={"promptTokenCount": 10}),
            answer(),
            {"usageMetadata": told_of},
        )
        self.assertEqual(
            [event.usage for event in events if isinstance(event, UsageReported)],
            [Usage(input=10), Usage(input=15, output=7, cached=2, reasoning=4)],
        )
        self.assertEqual(events[-1], Finished("end"))
        odd = {"promptTokenCount": "x", "candidatesTokenCount": True, "thoughtsTokenCount": 1 << 70}
        self.assertEqual(folded(answer({"text": "a"}, usageMetadata=odd)).usage, Usage())

    def test_other_alternatives(self) -> None:
        """Only the first is read, whatever the others say."""
        second = {"index": 1, "content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"}
        chunk = answer({"text": "a"}, finish=None)
        chunk["candidates"].append(second)
        self.assertEqual(chunked(chunk)[-1], TextDelta(0, "a"))
        parts = [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"} for text in "ab"]
        chunk = {"candidates": parts}
        self.assertEqual(told(fold(whole(chunk) or ())), [("text", "a", None)])

    def test_what_is_of_another_form(self) -> None:
        """What can be used is used, the rest is passed over."""
        for chunk in (
            {"candidates": {"content": {"parts": {"text": "a"}}, "finishReason": "STOP"}},
            answer({"text": "a"}, None, 5, {"functionCall": []}, {"inlineData": 5}),
            answer({"text": "a"}, {"text": 5}, {"inlineData": {"data": []}}),
            answer(
                {"text": "a"}, usageMetadata=[], promptFeedback=5, modelVersion=[], responseId=1
            ),
        ):
            self.assertEqual(told(folded(chunk)), [("text", "a", None)], chunk)
