"""Responses: how the answers that are written end, or fail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from openai.types.responses import (
    ResponseErrorEvent,
    ResponseFailedEvent,
)
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.events import (
    CALL,
    MEDIA,
    REASONING,
    TEXT,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Event,
    Failed,
    Finished,
    MediaDelta,
    ReasoningDelta,
    Started,
    TextDelta,
)
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from tests.dialects.openai_responses.answers import OFFERED
from tests.dialects.openai_responses.judge import (
    ID,
    encoded,
    encoder,
    records,
)
from tests.live.strict import strict


def _final(stream: bytes) -> dict[str, Any]:
    *_, (_, last) = records(stream)
    response: dict[str, Any] = last["response"]
    return response


def _text(*pieces: str, reason: str = "end") -> list[Event]:
    deltas = [TextDelta(0, piece) for piece in pieces]
    return [Started(), BlockOpened(0, TEXT), *deltas, BlockClosed(0), Finished(reason)]


class SoundTests(SynchronousTestCase):
    """What the model made and this dialect cannot hold."""

    def test_a_sentence_stands_for_a_sound(self) -> None:
        """It is a text of its own, and no text beside it changes."""
        sound = "[Here the model made something of the type audio/wav, 4 bytes, which this API"
        sound += " cannot carry.]"
        media: list[Event] = [
            BlockOpened(0, MEDIA),
            MediaDelta(0, "audio/wav", "UklGRg=="),
            BlockClosed(0),
        ]
        text: list[Event] = [BlockOpened(1, TEXT), TextDelta(1, "Hi"), BlockClosed(1)]
        for events, wanted in (
            ([*media], [sound]),
            ([*media, *text], [sound, "Hi"]),
        ):
            (item,) = _final(encoded([Started(), *events, Finished("end")]))["output"]
            self.assertEqual([part["text"] for part in item["content"]], wanted)


def _call(reason: str, *pieces: str, name: str = "f") -> list[Event]:
    return [
        Started(),
        BlockOpened(0, CALL, "call_1", name),
        *(ArgumentsDelta(0, piece) for piece in pieces),
        BlockClosed(0),
        Finished(reason),
    ]


class EndTests(SynchronousTestCase):
    """How answers end."""

    def test_reasons(self) -> None:
        """What was cut is incomplete, and says why."""
        for reason, status, cut in (
            ("end", "completed", None),
            ("stop_sequence", "completed", None),
            ("paused", "completed", None),
            ("length", "incomplete", "max_output_tokens"),
            ("context", "incomplete", "max_output_tokens"),
            ("filtered", "incomplete", "content_filter"),
        ):
            stream = encoded(_text("Hi", reason=reason))
            *_, (name, _) = records(stream)
            self.assertEqual(name, f"response.{status}")
            final = _final(stream)
            self.assertEqual(final["status"], status)
            self.assertEqual(final["incomplete_details"], cut and {"reason": cut})
            self.assertEqual(final["output"][0]["status"], status)

    def test_a_call_that_was_cut(self) -> None:
        """It is never told to be complete, whatever kind of call it is."""
        for name in ("f", "patch", "local_shell"):
            stream = encoded(_call("length", '{"input":"rm -rf /', name=name), OFFERED)
            done = [e["item"] for kind, e in records(stream) if kind.endswith("item.done")]
            self.assertEqual([item["status"] for item in done], ["incomplete"])
            self.assertEqual(_final(stream)["output"], done)

    def test_a_whole_call_before_a_cut_text(self) -> None:
        """Only what was being told when it was cut is incomplete."""
        events = [*_call("end", "{}")[:-1], BlockOpened(1, TEXT), TextDelta(1, "x")]
        stream = encoded([*events, BlockClosed(1), Finished("length")])
        statuses = [item["status"] for item in _final(stream)["output"]]
        self.assertEqual(statuses, ["completed", "incomplete"])

    def test_no_usage(self) -> None:
        """What was not told is null."""
        self.assertIsNone(_final(encoded(_text("x")))["usage"])

    def test_final(self) -> None:
        """The response is there to be kept once it is whole, not before."""
        writer = encoder()
        *events, end = _text("x")
        for event in events:
            writer.encode(event)
            self.assertIsNone(writer.final)
        stream = writer.encode(end)
        assert writer.final is not None
        self.assertEqual(json.loads(writer.final), _final(stream))


class ErrorTests(SynchronousTestCase):
    """Streams that fail."""

    def error(self, events: Sequence[Event], error: Any) -> list[tuple[str, dict[str, Any]]]:
        """Return the events that tell of *error* behind *events*, having judged them."""
        writer = encoder()
        for event in events:
            writer.encode(event)
        told = writer.error(error)
        self.assertIsNone(writer.final)
        for _, each in records(told):
            code = each.get("response", {}).get("error", {}).get("code", "server_error")
            if code in ("server_error", "rate_limit_exceeded", "invalid_prompt"):
                each.get("response", {}).pop("store", None)
                failed = each["type"] == "response.failed"
                kind = ResponseFailedEvent if failed else ResponseErrorEvent
                strict(kind).model_validate_json(json.dumps(each))
        return list(records(told))

    def test_before_it_began(self) -> None:
        """There is no response yet that could fail."""
        ((name, event),) = self.error((), InvalidRequest("No.", code="bad", param="x"))
        self.assertEqual(name, "error")
        self.assertEqual(
            event,
            {
                "type": "error",
                "code": "bad",
                "message": "No.",
                "param": "x",
                "sequence_number": 0,
            },
        )

    def test_midway(self) -> None:
        """The response that fails holds what was whole, and nothing follows it."""
        thought: list[Event] = [
            Started(),
            BlockOpened(0, REASONING),
            ReasoningDelta(0, "hm"),
            BlockClosed(0),
            BlockOpened(1, TEXT),
            TextDelta(1, "Hi"),
        ]
        told = self.error(thought, UpstreamError("Busy.", fault=Fault.CAPACITY, status=529))
        (_, first), (name, second) = told
        self.assertEqual(name, "response.failed")
        self.assertEqual(second["sequence_number"], first["sequence_number"] + 1)
        self.assertEqual(first["sequence_number"], 11)
        response = second["response"]
        self.assertEqual((response["id"], response["status"]), (f"resp_{ID}", "failed"))
        self.assertEqual(response["error"], {"code": "server_error", "message": "Busy."})
        self.assertEqual([item["type"] for item in response["output"]], ["reasoning"])

    def test_words(self) -> None:
        """Errors have the words that agents act on."""
        for fault, code in (
            (Fault.CONTEXT, "context_length_exceeded"),
            (Fault.RATE_LIMIT, "rate_limit_exceeded"),
            (Fault.QUOTA, "insufficient_quota"),
            (Fault.POLICY, "invalid_prompt"),
            (Fault.TRUNCATED, "server_error"),
        ):
            error = UpstreamError("Oh.", fault=fault, status=400, code="overloaded_error")
            (_, first), (_, second) = self.error([Started()], error)
            self.assertEqual((first["code"], second["response"]["error"]["code"]), (code, code))

    def test_an_upstream_that_says_so(self) -> None:
        """Its failure is the end of the stream."""
        error = UpstreamError("Oh.", fault=Fault.SERVER, status=500)
        stream = encoded([Started(), Failed(error)])
        *_, (name, _) = records(stream)
        self.assertEqual(name, "response.failed")
