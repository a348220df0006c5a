"""
Calls that nobody offered a tool for, dropped from answers: at every split, and nothing else.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.framing.sse import SSEFramer
from aiclient2api.interfaces import IEnvelope
from aiclient2api.providers._qwen_answer import Uncalled
from aiclient2api.testing import Call, chat_body, chat_chunks
from aiclient2api.values import Usage

CALLS = (Call("c1", "nothing_to_call", '{"a":"\u00e4\u2028"}'), Call("c2", "stray"))
USAGE = Usage(input=3, output=2)


def opened(*pieces: bytes) -> bytes:
    """Return what is shown of an answer that comes in *pieces*."""
    envelope = Uncalled()
    shown = [envelope.open(piece) for piece in pieces]
    return b"".join([*shown, envelope.end()])


def records(stream: bytes) -> list[Any]:
    """Return the chunks of a stream, decoded, ``[DONE]`` as it is."""
    framer = SSEFramer()
    found = [each.data for each in framer.feed(stream)]
    return [each if each == b"[DONE]" else json.loads(each) for each in found]


class UncalledTests(SynchronousTestCase):
    """Streams and documents with calls in them."""

    def test_interface(self) -> None:
        """It is an envelope."""
        verifyObject(IEnvelope, Uncalled())

    def test_a_stream_without_calls(self) -> None:
        """Not a byte changes, whatever the lines end in."""
        stream = b"".join(chat_chunks(["a", "b"], usage=USAGE, thinking=["t"]))
        for told in (stream, stream.replace(b"\n", b"\r\n"), b": hi\n\n" + stream, b"\n" + stream):
            self.assertEqual(opened(told), told)

    def test_a_stream_with_calls(self) -> None:
        """Text, thoughts, usage and the end stay; the calls and their reason go."""
        with_calls = chat_chunks(["a"], "tool_calls", USAGE, thinking=["t"], tools=CALLS)
        without = chat_chunks(["a"], "stop", USAGE, thinking=["t"])
        self.assertEqual(records(opened(b"".join(with_calls))), records(b"".join(without)))

    def test_every_split(self) -> None:
        """Cut anywhere, in two or in single bytes, it is the same."""
        for tail in (b"", b"\r\n"):
            stream = b"".join(chat_chunks(["\u00e4"], "tool_calls", tools=CALLS)) + tail
            shown = opened(stream)
            self.assertNotIn(b"stray", shown)
            for at in range(len(stream) + 1):
                self.assertEqual(opened(stream[:at], stream[at:]), shown, at)
            self.assertEqual(opened(*(stream[at : at + 1] for at in range(len(stream)))), shown)

    def test_text_beside_a_call(self) -> None:
        """A chunk that says something as well is kept, without its call."""
        calls = {"tool_calls": [{"index": 0, "id": "c"}], "function_call": {"name": "f"}}
        delta = {"content": "x", **calls}
        chunk = {"id": "i", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        shown = records(opened(b"data: " + json.dumps(chunk).encode() + b"\n\n"))
        self.assertEqual(shown[0]["choices"][0]["delta"], {"content": "x"})
        self.assertEqual(shown[0]["id"], "i")

    def test_talk_of_calls(self) -> None:
        """Text that speaks of tool_calls, and what is no chunk, passes as it came."""
        for data in (
            b'{"choices":[{"delta":{"content":"\\"tool_calls\\": []"}}]}',
            b'{"error":{"message":"tool_calls"}}',
            b"tool_calls",
            b'{"choices":3,"x":"tool_calls"}',
            b'{"choices":["tool_calls",{"delta":"tool_calls"}]}',
        ):
            record = b"event: e\ndata:" + data + b"\n\n"
            self.assertEqual(opened(record), record)

    def test_a_document(self) -> None:
        """An answer in one piece loses its calls, and says nothing instead, at every split."""
        body = chat_body("", "tool_calls", USAGE, tools=CALLS)
        shown = opened(body)
        choice = json.loads(shown)["choices"][0]
        self.assertEqual(choice["finish_reason"], "stop")
        self.assertEqual(choice["message"]["content"], "")
        self.assertNotIn("tool_calls", choice["message"])
        for at in range(len(body) + 1):
            self.assertEqual(opened(body[:at], body[at:]), shown)
        plain = b"\xef\xbb\xbf " + chat_body("hi")
        for at in range(len(plain) + 1):
            self.assertEqual(opened(plain[:at], plain[at:]), plain)

    def test_what_breaks_off(self) -> None:
        """An unfinished record is shown as it is: whoever reads it sees that it is none."""
        stream = b"".join(chat_chunks(["a"], "tool_calls", tools=CALLS))
        cut = stream[: stream.index(b"stray")]
        last = cut.rindex(b"data:")
        self.assertEqual(opened(cut), opened(cut[:last]) + cut[last:])
        for start in (b"", b"\n", b"\xef\xbb"):
            self.assertEqual(opened(start), start)
        self.assertEqual(opened(b'{"choices":'), b'{"choices":')

    def test_a_last_record_without_its_blank_line(self) -> None:
        """It counts, and loses its calls as well."""
        last = chat_chunks([], "tool_calls", tools=CALLS)[-2]
        shown = records(opened(last.rstrip(b"\n")))
        self.assertEqual(shown[0]["choices"][0]["finish_reason"], "stop")

    def test_too_long(self) -> None:
        """A document beyond what is held is passed on: to refuse it is the relay's business."""
        envelope = Uncalled(limit=10)
        self.assertEqual(envelope.open(b'{"a":"bcdefghi'), b'{"a":"bcdefghi')
