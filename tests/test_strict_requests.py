"""
The judges of requests take what the SDKs send, and refuse what they would not.

A judge that refuses nothing would prove nothing.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.recordings import all_recordings
from tests.strict_requests import judge

_MESSAGE = {"role": "user", "content": "hi"}
_SMALL: dict[str, dict[str, Any]] = {
    "openai-chat": {"model": "m", "messages": [_MESSAGE]},
    "openai-responses": {"model": "m", "input": [_MESSAGE]},
    "anthropic-messages": {"model": "m", "max_tokens": 1, "messages": [_MESSAGE]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
}
_BAD_PART: dict[str, dict[str, Any]] = {
    "openai-chat": {"messages": [{"role": "user", "content": [{"type": "text", "txet": "hi"}]}]},
    "openai-responses": {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi", "x": 1}]}]
    },
    "anthropic-messages": {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
    "gemini": {"contents": [{"role": "user", "parts": [{"inlineData": {"mime": "image/png"}}]}]},
}
_NOT_FROM_SDKS = ("claude-code", "codex", "gemini-cli", "qwen-code", "langchain", "litellm")


class JudgeTests(SynchronousTestCase):
    """One body, one verdict."""

    def test_a_small_request_is_taken(self) -> None:
        """What is right is right, streamed or not."""
        for dialect, body in _SMALL.items():
            judge(dialect, body)
            if dialect != "gemini":
                judge(dialect, {**body, "stream": True})

    def test_an_unknown_field_is_refused(self) -> None:
        """A field that the vendor does not know never goes unseen."""
        for dialect, body in _SMALL.items():
            with self.assertRaises(ValueError, msg=dialect):
                judge(dialect, {**body, "surprise": 1})

    def test_a_missing_field_is_refused(self) -> None:
        """A request without its messages, model or limit is none; Responses may do without."""
        for dialect, body in _SMALL.items():
            for field in body if dialect != "openai-responses" else ():
                less = {name: value for name, value in body.items() if name != field}
                with self.assertRaises(ValueError, msg=(dialect, field)):
                    judge(dialect, less)

    def test_a_bad_part_is_refused_however_deep(self) -> None:
        """Lists are looked through, unions too."""
        for dialect, body in _SMALL.items():
            with self.assertRaises(ValueError, msg=dialect):
                judge(dialect, {**body, **_BAD_PART[dialect]})

    def test_a_number_for_a_text_is_refused(self) -> None:
        """Types are as strict as JSON's own."""
        for dialect, field in (
            ("openai-chat", "temperature"),
            ("openai-responses", "temperature"),
            ("anthropic-messages", "temperature"),
        ):
            with self.assertRaises(ValueError, msg=dialect):
                judge(dialect, {**_SMALL[dialect], field: "1"})

    def test_a_word_that_google_does_not_know_is_refused(self) -> None:
        """The SDK would only warn of it."""
        for mode, right in (("ANY", True), ("SOMETIMES", False)):
            body = {**_SMALL["gemini"], "toolConfig": {"functionCallingConfig": {"mode": mode}}}
            if right:
                judge("gemini", body)
            else:
                self.assertRaises(ValueError, judge, "gemini", body)

    def test_snake_case_is_not_what_google_documents(self) -> None:
        """We write one spelling, whatever is read."""
        body = {**_SMALL["gemini"], "system_instruction": {"parts": [{"text": "S"}]}}
        self.assertRaises(ValueError, judge, "gemini", body)

    def test_what_may_be_sent_beyond_the_types_is_taken(self) -> None:
        """The short list of extensions works where it says, and nowhere else."""
        said = {"role": "assistant", "content": "x", "reasoning_content": "hm"}
        judge("openai-chat", {"model": "m", "messages": [said]})
        with self.assertRaises(ValueError):
            judge("openai-chat", {"model": "m", "messages": [{**said, "role": "user"}]})
        judge("anthropic-messages", {**_SMALL["anthropic-messages"], "temperature": 1})
        thought = {"type": "reasoning", "summary": [], "encrypted_content": "E"}
        judge("openai-responses", {"model": "m", "input": [thought]})

    def test_a_count_is_judged_by_its_own_type(self) -> None:
        """A question for a number of tokens has no limit of tokens, and needs none."""
        body = {"model": "m", "messages": [_MESSAGE]}
        judge("anthropic-messages", body, action="count_tokens")
        with self.assertRaises(ValueError):
            judge("anthropic-messages", {**body, "max_tokens": 1}, action="count_tokens")
        contents = _SMALL["gemini"]
        judge("gemini", contents, action="count_tokens")
        inner = {"model": "models/m", **contents}
        judge("gemini", {"generateContentRequest": inner}, action="count_tokens")
        with self.assertRaises(ValueError):
            judge("gemini", {**contents, "tools": []}, action="count_tokens")


class RecordedRequestsTests(SynchronousTestCase):
    """What the SDKs really sent is what their types say."""

    def test_every_recorded_request_of_an_sdk_is_taken(self) -> None:
        """The judges are no stricter than the clients are."""
        seen = 0
        for each in all_recordings():
            if each.body is None or each.dialect is None or each.client in _NOT_FROM_SDKS:
                continue
            # The Gemini SDK mixes its two spellings, and a test has a broken body on purpose;
            # the answer's own form, given back without its id, is in no type.
            if each.dialect == "gemini" or each.malformed or each.case == "input_items":
                continue
            judge(each.dialect, each.body, action=each.action)
            seen += 1
        self.assertGreater(seen, 80)
