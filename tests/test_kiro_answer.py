"""
Kiro's answers, taken out of Amazon's event stream: decoded, or known to be broken.

What comes out is judged by the reader of the Messages dialect, which was written for
Anthropic's own answers, and by the law of events.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.conversation.events import CALL, REASONING, TEXT, Event, Failed
from aiclient2api.conversation.grammar import Reply, fold
from aiclient2api.conversation.seals import PARCEL
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.sse import SSEFramer
from aiclient2api.interfaces import IEnvelope
from aiclient2api.providers._kiro_answer import Asked, KiroEnvelope
from aiclient2api.providers._kiro_text import SAID, THOUGHT, Stops, Thoughts
from aiclient2api.testing import (
    event_stream_message,
    kiro_call,
    kiro_error,
    kiro_event,
    kiro_exception,
    kiro_metadata,
    kiro_text,
    kiro_thought,
    kiro_tool,
    kiro_trifles,
)
from aiclient2api.values import Route, Usage
from tests.test_framing_aws_event_stream import CALL as CALL_FRAME
from tests.test_framing_aws_event_stream import EXCEPTION as EXCEPTION_FRAME
from tests.test_framing_aws_event_stream import TEXT as TEXT_FRAME

NOW = 1_800_000_000.0
USAGE = {
    "uncachedInputTokens": 7,
    "cacheReadInputTokens": 3,
    "cacheWriteInputTokens": 2,
    "outputTokens": 5,
    "totalTokens": 17,
}


def asked_request(*, streaming: bool = True) -> Any:
    """Return a request to be answered."""
    body = {"model": "claude-sonnet-4-5", "messages": [], "stream": streaming}
    return ANTHROPIC_MESSAGES.parse(body=json.dumps(body).encode(), route=Route(action="generate"))


def envelope(
    *,
    streaming: bool = True,
    thinks: bool = False,
    stop: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
) -> KiroEnvelope:
    """Return what takes one answer out."""
    asked = Asked("kiro-x", thinks, stop, lambda: names or {}, lambda: NOW)
    return KiroEnvelope(asked_request(streaming=streaming), asked)


def opened(pieces: Iterable[bytes], **asked: Any) -> bytes:
    """Return what comes out of an answer in *pieces* that ends well."""
    taking = envelope(**asked)
    return b"".join([*map(taking.open, pieces), taking.end()])


def events_of(body: bytes) -> list[Event] | None:
    """Return what a stream says, None if it is no whole one."""
    decoder = ANTHROPIC_MESSAGES.decoder(request=asked_request())
    events: list[Event] = []
    for record in SSEFramer().feed(body):
        told = decoder.record(event=record.event, data=record.data)
        assert told is not None, record.data
        events += told
    last = decoder.end()
    return [*events, *last] if last else None


def reply_of(body: bytes) -> Reply:
    """Return the whole answer that a stream comes to."""
    events = events_of(body)
    assert events is not None, body
    return fold(events)


def blocks_of(body: bytes) -> list[tuple[str, str]]:
    """Return the kind and the text of each block of a stream."""
    return [
        (block.kind, "\n\n".join(block.sections) if block.kind == REASONING else block.text)
        for block in reply_of(body).blocks
    ]


class TextTests(SynchronousTestCase):
    """What is said."""

    def test_interface(self) -> None:
        """It is an envelope, of a stream or of a whole answer."""
        for streaming, kind in ((True, b"text/event-stream"), (False, b"application/json")):
            taking = envelope(streaming=streaming)
            verifyObject(IEnvelope, taking)
            self.assertEqual(taking.content_type, kind)

    def test_the_published_frames(self) -> None:
        """A text, and a call that is broken off by an exception."""
        taking = envelope()
        self.assertIn(b'"text":"Hi"', taking.open(TEXT_FRAME))
        self.assertIn(b'"partial_json":"{\\"p\\":"', taking.open(CALL_FRAME))
        with self.assertRaises(UpstreamError) as caught:
            taking.open(EXCEPTION_FRAME)
        self.assertIs(caught.exception.fault, Fault.RATE_LIMIT)
        self.assertIn("slow down", caught.exception.message)
        self.assertEqual((taking.open(TEXT_FRAME), taking.end()), (b"", b""))

    def test_every_character(self) -> None:
        """Repeated pieces, backslashes, quotes and emoji: nothing is dropped or changed."""
        pieces = ["a", "a", "\n\n", "\n\n", "\\n", '"{', "é", "\U0001f600", "=="]
        body = opened([kiro_text(piece) for piece in pieces])
        self.assertEqual(blocks_of(body), [(TEXT, "".join(pieces))])
        self.assertEqual(reply_of(body).reason, "end")

    def test_order_of_events(self) -> None:
        """A start, a block, its pieces, its end, the reason, the end."""
        body = opened([kiro_text("a"), kiro_text("b"), kiro_metadata(USAGE)])
        records = SSEFramer().feed(body)
        self.assertEqual(
            [record.event.decode() for record in records],
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ],
        )
        start = json.loads(records[0].data)["message"]
        self.assertRegex(start["id"], r"^msg_[A-Za-z0-9]{24}$")
        self.assertEqual(start["model"], "claude-sonnet-4-5")

    def test_whole(self) -> None:
        """Who wants a whole answer gets one, and nothing before."""
        frames = [
            kiro_text("Hi "),
            kiro_text("there"),
            *kiro_call("t1", "f", ['{"a":', "1.10}"]),
            kiro_metadata(USAGE),
        ]
        taking = envelope(streaming=False)
        self.assertEqual([taking.open(frame) for frame in frames], [b""] * len(frames))
        told = json.loads(taking.end())
        self.assertEqual(
            told["content"],
            [
                {"type": "text", "text": "Hi there"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1.10}},
            ],
        )
        self.assertEqual((told["stop_reason"], told["role"]), ("tool_use", "assistant"))
        self.assertEqual(
            told["usage"],
            {
                "input_tokens": 7,
                "cache_creation_input_tokens": 2,
                "cache_read_input_tokens": 3,
                "output_tokens": 5,
            },
        )
        self.assertEqual(taking.end(), b"")

    def test_trifles(self) -> None:
        """Follow-ups, credits and whatever comes next year say nothing."""
        body = opened([*kiro_trifles(), kiro_text("a"), *kiro_trifles()])
        self.assertEqual(blocks_of(body), [(TEXT, "a")])

    def test_without_names(self) -> None:
        """Events that do not say what they are are known by what is in them."""
        told: Sequence[Mapping[str, Any]] = (
            {"content": "a"},
            {"followupPrompt": {}, "content": "b"},
            {"name": "f", "toolUseId": "t1", "input": '{"x":'},
            {"input": "1}"},
            {"stop": True},
            {"contextUsagePercentage": 3.5},
            {"tokenUsage": {"inputTokens": 4, "outputTokens": 2}},
        )
        body = opened([kiro_event("", each) for each in told])
        self.assertEqual(blocks_of(body), [(TEXT, "a"), (CALL, '{"x":1}')])
        self.assertEqual(reply_of(body).usage, Usage(4, 2, cached=0, cache_write=0))

    def test_wrapped(self) -> None:
        """An event may stand in an object under its own name."""
        frame = kiro_event("assistantResponseEvent", {"assistantResponseEvent": {"content": "a"}})
        self.assertEqual(blocks_of(opened([frame])), [(TEXT, "a")])


class UsageTests(SynchronousTestCase):
    """Tokens, and why it ended."""

    def test_spellings(self) -> None:
        """Both events tell them, in several ways."""
        for event in ("metadataEvent", "messageMetadataEvent"):
            for told, usage in (
                (USAGE, Usage(12, 5, cached=3, cache_write=2)),
                ({"inputTokens": 9, "outputTokens": 1}, Usage(9, 1)),
                ({"totalTokens": 9, "outputTokens": 1}, Usage(8, 1)),
            ):
                body = opened([kiro_text("a"), kiro_metadata(told, event=event)])
                found = reply_of(body).usage
                assert found is not None
                self.assertEqual((found.input, found.output), (usage.input, usage.output))

    def test_not_told(self) -> None:
        """What the service does not tell is not made up."""
        told = json.loads(opened([kiro_text("a")], streaming=False))
        self.assertEqual(set(told["usage"].values()), {0})
        for odd in (None, 3, {"inputTokens": "many"}, {}):
            frame = kiro_event("metadataEvent", {"tokenUsage": odd})
            self.assertEqual(blocks_of(opened([kiro_text("a"), frame])), [(TEXT, "a")])

    def test_reasons(self) -> None:
        """A told reason counts, but for calls, which are to be made."""
        for told, reason in (
            ("END_TURN", "end"),
            ("max_tokens", "length"),
            ("MAX_TOKENS", "length"),
            ("stop_sequence", "stop_sequence"),
            ("CONTENT_FILTERED", "filtered"),
            ("something new", "end"),
            ("TOOL_USE", "end"),
        ):
            body = opened([kiro_text("a"), kiro_metadata(None, told)])
            self.assertEqual(reply_of(body).reason, reason, told)
        body = opened([*kiro_call("t1", "f", []), kiro_metadata(None, "END_TURN")])
        self.assertEqual(reply_of(body).reason, "tool_use")

    def test_nothing_said(self) -> None:
        """An answer that says nothing is none, unless the service says why."""
        for frames in ([], [kiro_metadata(USAGE)], [kiro_text("")], kiro_trifles()):
            self.assertEqual(opened(frames), b"")
            self.assertEqual(opened(frames, streaming=False), b"")
        body = opened([kiro_metadata(USAGE, "CONTENT_FILTERED")])
        self.assertEqual(reply_of(body).reason, "filtered")


class CallTests(SynchronousTestCase):
    """Calls, each by its id."""

    def calls(self, *frames: bytes, **asked: Any) -> list[tuple[str, str, str]]:
        """Return id, name and arguments of each call."""
        blocks = reply_of(opened(frames, **asked)).blocks
        return [(block.id, block.name, block.text) for block in blocks if block.kind == CALL]

    def test_in_pieces(self) -> None:
        """The pieces make one, and pass as they come."""
        frames = kiro_call("t1", "f", ['{"a"', ": ", "1}"])
        self.assertEqual(self.calls(*frames), [("t1", "f", '{"a": 1}')])
        taking = envelope()
        told = [taking.open(frame) for frame in frames]
        self.assertTrue(all(told), told)

    def test_interleaved(self) -> None:
        """Two at once stay two, one after the other; text between them comes after."""
        frames = [
            kiro_text("let me"),
            kiro_tool("a", name="f", input='{"x":'),
            kiro_tool("b", name="g", input='{"y":'),
            kiro_tool("a", name="f", input="1}"),
            kiro_text("also"),
            kiro_tool("b", name="g", input="2}"),
            kiro_tool("b", name="g", stop=True),
            kiro_tool("a", name="f", stop=True),
        ]
        body = opened(frames)
        self.assertEqual(
            blocks_of(body),
            [(TEXT, "let me"), (CALL, '{"x":1}'), (CALL, '{"y":2}'), (TEXT, "also")],
        )
        told = json.loads(opened(frames, streaming=False))
        names = [block.get("name") for block in told["content"]]
        self.assertEqual(names, [None, "f", "g", None])

    def test_arguments(self) -> None:
        """None are an object without members; all at once they are that object."""
        self.assertEqual(self.calls(*kiro_call("t1", "f", [])), [("t1", "f", "{}")])
        self.assertEqual(self.calls(*kiro_call("t1", "f", [""])), [("t1", "f", "{}")])
        whole = kiro_tool("t1", name="f", input={"a": [1]}, stop=True)
        self.assertEqual(self.calls(whole), [("t1", "f", '{"a":[1]}')])
        twice = [kiro_tool("t1", name="f", input='{"a": 1}')]
        twice.append(kiro_tool("t1", input={"a": 1}, stop=True))
        self.assertEqual(self.calls(*twice), [("t1", "f", '{"a": 1}')])

    def test_lenient(self) -> None:
        """No id goes on with the last; a name may be late; an end may be told twice."""
        frames = [
            kiro_tool("t1", input='{"a":'),
            kiro_tool(name="f", input="1}"),
            kiro_tool(stop=True),
            kiro_tool("t1", stop=True),
        ]
        self.assertEqual(self.calls(*frames), [("t1", "f", '{"a":1}')])

    def test_names_come_back(self) -> None:
        """The client's own name is told, not the one that was sent."""
        frames = kiro_call("t1", "short", [])
        self.assertEqual(self.calls(*frames, names={"short": "long"}), [("t1", "long", "{}")])

    def test_nonsense(self) -> None:
        """Arguments that are none, no name, no beginning: an error, never half a call."""
        for frames in (
            kiro_call("t1", "f", ['{"a":']),
            kiro_call("t1", "f", ["[1]"]),
            kiro_call("t1", "f", ['"a"']),
            [kiro_tool("t1", input="{}", stop=True)],
            [kiro_tool(name="f", input="{}", stop=True)],
            [*kiro_call("t1", "f", ["{}"]), kiro_tool("t1", input="{}")],
            [kiro_tool("t1", name="f", input=[1], stop=True)],
            [
                kiro_tool("t1", name="f", input='{"a":1}'),
                kiro_tool("t1", input={"a": 2}, stop=True),
            ],
            [kiro_event("toolUseEvent", {"toolUseId": 3, "name": "f"})],
            [kiro_event("assistantResponseEvent", {"content": 3})],
            [kiro_event("assistantResponseEvent", b"[1]")],
            [kiro_event("assistantResponseEvent", b"\xff")],
        ):
            for streaming in (True, False):
                taking = envelope(streaming=streaming)
                with self.assertRaises(UpstreamError) as caught:
                    for frame in frames:
                        taking.open(frame)
                self.assertEqual(caught.exception.status, 502)
                self.assertEqual(taking.end(), b"")

    def test_left_open(self) -> None:
        """A call that has no end makes the answer a broken one."""
        frames = [kiro_text("a"), kiro_tool("t1", name="f", input='{"a":1}')]
        self.assertIsNone(events_of(opened(frames)))
        self.assertEqual(opened(frames, streaming=False), b"")


class ThoughtTests(SynchronousTestCase):
    """Thoughts, in tags or apart."""

    def test_in_tags(self) -> None:
        """They come out of the text, where they were asked for."""
        text = "\n<thinking>\nhm, `</thinking>` is a tag\n</thinking>\n\nYes"
        for size in (1, 3, len(text)):
            pieces = [kiro_text(text[at : at + size]) for at in range(0, len(text), size)]
            self.assertEqual(
                blocks_of(opened(pieces, thinks=True)),
                [(REASONING, "hm, `</thinking>` is a tag\n"), (TEXT, "Yes")],
            )
            self.assertEqual(blocks_of(opened(pieces)), [(TEXT, text)])

    def test_before_a_call(self) -> None:
        """A thought ends with its tag before a call, and at the end."""
        frames = [kiro_text("<thinking>hm</thinking>"), *kiro_call("t1", "f", [])]
        body = opened(frames, thinks=True)
        self.assertEqual(blocks_of(body), [(REASONING, "hm"), (CALL, "{}")])
        self.assertEqual(blocks_of(opened(frames[:1], thinks=True)), [(REASONING, "hm")])

    def test_apart(self) -> None:
        """Events of their own are thoughts, whether asked for or not."""
        for key in ("text", "content"):
            frames = [kiro_thought("h", key=key), kiro_thought("m", key=key), kiro_text("Yes")]
            self.assertEqual(blocks_of(opened(frames)), [(REASONING, "hm"), (TEXT, "Yes")])

    def test_no_signature(self) -> None:
        """Nobody signed them; what stands there keeps them from Anthropic."""
        told = json.loads(opened([kiro_thought("hm"), kiro_text("Yes")], streaming=False))
        self.assertTrue(told["content"][0]["signature"].startswith(PARCEL))

    def test_rules(self) -> None:
        """Quoted tags are talk, one newline goes, a tag in the text closes nothing."""
        for text, expected in (
            ("a", [(SAID, "a")]),
            ("<thinking>a", [(THOUGHT, "a")]),
            ("<thinking>\n\na</thinking>\n\nb", [(THOUGHT, "\na"), (SAID, "b")]),
            ("  \n<thinking>a</thinking>\n\nb", [(THOUGHT, "a"), (SAID, "b")]),
            ("so <thinking>a</thinking>\n\nb", [(SAID, "so "), (THOUGHT, "a"), (SAID, "b")]),
            ("`<thinking>` is", [(SAID, "`<thinking>` is")]),
            (
                "<thinking>a</thinking> b</thinking>\n\nc",
                [(THOUGHT, "a</thinking> b"), (SAID, "c")],
            ),
            ("<thinking>a</thinking>\r\n\r\nb", [(THOUGHT, "a"), (SAID, "b")]),
            ("<thinking>a</thinking>\n", [(THOUGHT, "a")]),
            (
                "<thinking>a</thinking>\n\n<thinking>b</thinking>\n\n",
                [(THOUGHT, "a"), (SAID, "<thinking>b</thinking>\n\n")],
            ),
            ("<thin", [(SAID, "<thin")]),
            (" \n", [(SAID, " \n")]),
            ("<thinking></thinking>\n\nb", [(SAID, "b")]),
        ):
            for size in (1, 2, 5, 100):
                self.assertEqual(_thoughts(text, size), expected, (text, size))

    @settings(deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                ["<thinking>", "</thinking>", "\n", "\n\n", " ", "a", "`", '"', "<", "\r\n", ">"]
            ),
            max_size=12,
        ).map("".join),
        st.integers(1, 20),
    )
    def test_any_split(self, text: str, size: int) -> None:
        """Wherever a text is cut, it is taken apart in the same way."""
        self.assertEqual(_thoughts(text, size), _thoughts(text, len(text) or 1))


def _thoughts(text: str, size: int) -> list[tuple[str, str]]:
    """Return the pieces of a text that comes so many characters at a time, joined."""
    reader = Thoughts()
    pieces = [
        piece for at in range(0, len(text), size) for piece in reader.feed(text[at : at + size])
    ]
    joined: list[tuple[str, str]] = []
    for kind, piece in [*pieces, *reader.flush()]:
        if joined and joined[-1][0] == kind:
            joined[-1] = kind, joined[-1][1] + piece
        else:
            joined.append((kind, piece))
    return joined


class StopTests(SynchronousTestCase):
    """Stop sequences, which the service does not know."""

    def test_stops(self) -> None:
        """The text ends before it, the client is told, and nothing comes after."""
        frames = [
            kiro_text("one EN"),
            kiro_text("D two"),
            *kiro_call("t1", "f", []),
            kiro_text("three"),
            kiro_metadata({"outputTokens": 9, "inputTokens": 1}),
        ]
        body = opened(frames, stop=["END", "###"])
        reply = reply_of(body)
        self.assertEqual(blocks_of(body), [(TEXT, "one ")])
        self.assertEqual((reply.reason, reply.stop_sequence), ("stop_sequence", "END"))
        assert reply.usage is not None
        self.assertEqual(reply.usage.output, 9)
        told = json.loads(opened(frames, stop=["END"], streaming=False))
        self.assertEqual((told["stop_reason"], told["stop_sequence"]), ("stop_sequence", "END"))

    def test_almost(self) -> None:
        """What only began like one is not lost."""
        body = opened([kiro_text("a EN"), *kiro_call("t1", "f", [])], stop=["END"])
        self.assertEqual(blocks_of(body), [(TEXT, "a EN"), (CALL, "{}")])
        self.assertEqual(blocks_of(opened([kiro_text("a EN")], stop=["END"])), [(TEXT, "a EN")])

    def test_at_once(self) -> None:
        """An answer may end before it began."""
        body = opened([kiro_text("END")], stop=["END"])
        self.assertEqual(reply_of(body).reason, "stop_sequence")

    def test_with_a_call_open(self) -> None:
        """A call that had begun still gets its end."""
        frames = [
            kiro_tool("t1", name="f", input='{"a":'),
            kiro_text("x END y"),
            kiro_tool("t1", input="1}", stop=True),
        ]
        body = opened(frames, stop=["END"])
        self.assertEqual(blocks_of(body), [(CALL, '{"a":1}'), (TEXT, "x ")])

    def test_not_in_thoughts(self) -> None:
        """A thought may hold one."""
        frames = [kiro_text("<thinking>END</thinking>\n\na END b")]
        body = opened(frames, thinks=True, stop=["END"])
        self.assertEqual(blocks_of(body), [(REASONING, "END"), (TEXT, "a ")])

    @given(st.text("abc", max_size=14), st.lists(st.text("abc", min_size=1, max_size=3)))
    def test_any_split(self, text: str, sequences: list[str]) -> None:
        """Wherever the text is cut, it ends at the same place."""
        found = set()
        for size in range(1, len(text) + 2):
            stops = Stops(sequences)
            said = "".join(stops.feed(text[at : at + size]) for at in range(0, len(text), size))
            found.add((said + stops.flush(), stops.stopped))
        self.assertEqual(len(found), 1)


class FailureTests(SynchronousTestCase):
    """What breaks an answer off."""

    def failed(self, *frames: bytes) -> UpstreamError:
        """Return what an answer of *frames* fails with, each on its own."""
        taking = envelope()
        with self.assertRaises(UpstreamError) as caught:
            for frame in frames:
                taking.open(frame)
        return caught.exception

    def test_exceptions(self) -> None:
        """Each has its fault, and the account's own is told from the model's."""
        for frame, fault, status in (
            (kiro_exception("ThrottlingException", "slow"), Fault.RATE_LIMIT, 429),
            (
                kiro_exception("ThrottlingException", "x", "INSUFFICIENT_MODEL_CAPACITY"),
                Fault.CAPACITY,
                429,
            ),
            (
                kiro_exception("ThrottlingException", "x", "MONTHLY_REQUEST_COUNT"),
                Fault.QUOTA,
                429,
            ),
            (kiro_exception("AccessDeniedException", "token expired"), Fault.CREDENTIAL, 403),
            (kiro_exception("AccessDeniedException", "suspended"), Fault.PERMISSION, 403),
            (
                kiro_exception("ValidationException", "x", "CONTENT_LENGTH_EXCEEDS_THRESHOLD"),
                Fault.CONTEXT,
                400,
            ),
            (kiro_exception("InternalServerException", "oops"), Fault.SERVER, 502),
            (kiro_exception("ServiceUnavailableException", "oops"), Fault.CAPACITY, 503),
            (kiro_error("InternalError", "oops"), Fault.SERVER, 502),
            (
                kiro_event("invalidStateEvent", {"reason": "BAD", "message": "oops"}),
                Fault.SERVER,
                502,
            ),
            (event_stream_message({":message-type": "news"}, b"{}"), Fault.SERVER, 502),
        ):
            for frames in ((frame,), (kiro_text("a"), frame)):
                error = self.failed(*frames)
                self.assertEqual((error.fault, error.status), (fault, status), error.message)
                self.assertTrue(error.message.startswith("kiro-x "))
        error = self.failed(kiro_exception("ThrottlingException", "x", "MONTHLY_REQUEST_COUNT"))
        # From 15 January 2027, 08:00, to 1 February.
        self.assertEqual(error.retry_after, 16 * 86400 + 16 * 3600)

    def test_just_behind_a_text(self) -> None:
        """What was said in the same breath is not lost, and the error is told behind it."""
        for frame, fault in (
            (kiro_exception("ThrottlingException", "slow"), Fault.RATE_LIMIT),
            (kiro_exception("ValidationException", "Input is too long."), Fault.CONTEXT),
        ):
            taking = envelope()
            body = taking.open(kiro_text("a") + frame)
            self.assertEqual(taking.end(), b"")
            decoder = ANTHROPIC_MESSAGES.decoder(request=asked_request())
            events = [
                event
                for record in SSEFramer().feed(body)
                for event in decoder.record(event=record.event, data=record.data) or ()
            ]
            last = events[-1]
            assert isinstance(last, Failed)
            self.assertIs(last.error.fault, fault)

    def test_whole(self) -> None:
        """Who waits for all of it is told of nothing else."""
        taking = envelope(streaming=False)
        with self.assertRaises(UpstreamError):
            taking.open(kiro_text("a") + kiro_exception("ThrottlingException", "slow"))
        self.assertEqual(taking.end(), b"")

    def test_no_event_stream(self) -> None:
        """A page of HTML is no answer."""
        with self.assertRaises(UpstreamError) as caught:
            envelope().open(b"<html><body>hello, this is nginx</body></html>")
        self.assertEqual(caught.exception.code, "bad_frame")


FRAMES = (
    kiro_text("<thinking>hm</thinking>\n\nÄ "),
    kiro_text("\U0001f600"),
    kiro_tool("a", name="f", input='{"x":'),
    kiro_tool("b", name="g", input="{}", stop=True),
    kiro_tool("a", input="1}", stop=True),
    kiro_metadata(USAGE, "TOOL_USE"),
)
STREAM = b"".join(FRAMES)


class EveryByteTests(SynchronousTestCase):
    """Every cut, every flipped bit: decoded or known to be broken, never garbage."""

    def setUp(self) -> None:
        whole = opened(FRAMES, thinks=True)
        self.blocks = blocks_of(whole)
        self.assertEqual(len(self.blocks), 4)

    def test_every_split(self) -> None:
        """In two pieces anywhere, and in pieces of any size, it is the same answer."""
        for at in range(len(STREAM) + 1):
            body = opened([STREAM[:at], STREAM[at:]], thinks=True)
            self.assertEqual(blocks_of(body), self.blocks)
        for size in (1, 2, 7, 64):
            pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
            self.assertEqual(blocks_of(opened(pieces, thinks=True)), self.blocks)

    def test_every_truncation(self) -> None:
        """An answer that ends early is no whole one, but at the end of a message."""
        ends = set()
        at = 0
        for frame in FRAMES:
            at += len(frame)
            ends.add(at)
        for at in range(len(STREAM)):
            body = opened([STREAM[:at]], thinks=True)
            told = events_of(body)
            whole = opened([STREAM[:at]], thinks=True, streaming=False)
            if at not in ends:
                self.assertIsNone(told, at)
                self.assertEqual(whole, b"")
                continue
            # Nobody can tell these from a whole answer, unless a call is left open.
            calls = at > len(FRAMES[0] + FRAMES[1])
            closed = at >= len(b"".join(FRAMES[:5]))
            self.assertEqual(told is None, calls and not closed)
            self.assertEqual(whole == b"", told is None)

    def test_every_flipped_bit(self) -> None:
        """One wrong bit anywhere, and there is no whole answer."""
        text, call = kiro_text("Ä \U0001f600"), kiro_tool("a", name="f", input="{}", stop=True)
        for at in range(len(text + call)):
            for bit in range(8):
                broken = bytearray(text + call)
                broken[at] ^= 1 << bit
                taking = envelope()
                out = [b""]
                try:
                    for piece in (broken[: len(text)], broken[len(text) :]):
                        out.append(taking.open(bytes(piece)))
                except UpstreamError as error:
                    self.assertIn(error.code, ("bad_frame", "record_too_long"))
                out.append(taking.end())
                body = b"".join(out)
                self.assertNotIn(b"message_stop", body)
                self.assertNotIn(b"message_delta", body)
                for record in SSEFramer().feed(body):
                    told = json.loads(record.data)
                    said = told.get("delta", {}).get("text", "")
                    self.assertIn(said, ("", "Ä \U0001f600"))
