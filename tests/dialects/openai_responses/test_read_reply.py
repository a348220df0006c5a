"""Responses: what an upstream answers, read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from random import Random
from time import process_time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.conversation.events import (
    CALL,
    MEDIA,
    REASONING,
    REFUSAL,
    TEXT,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Cited,
    Event,
    Failed,
    Finished,
    MediaDelta,
    ReasoningDelta,
    Sealed,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.grammar import Grammar, fold
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.openai_responses.read_reply import ResponsesDecoder
from aiclient2api.dialects.openai_responses.request import NAME
from aiclient2api.errors import Fault
from aiclient2api.framing.sse import SSEFramer
from aiclient2api.interfaces import IEventDecoder
from aiclient2api.values import Usage
from tests.dialects.openai_responses.answers import ITEMS, answer_events, response
from tests.dialects.openai_responses.judge import decoded, told
from tests.streams import splits, stream

_USAGE = Usage(input=10, output=5, cached=4, reasoning=2)
_STARTED = Started("resp_1", "m", 1730000000)
_HI: list[Event] = [
    _STARTED,
    BlockOpened(0, TEXT, "msg_1"),
    TextDelta(0, "Hi "),
    TextDelta(0, "😀"),
    BlockClosed(0),
]


def _whole(answer: Any) -> list[Event]:
    events = ResponsesDecoder().whole(body=json.dumps(answer).encode())
    assert events is not None
    return [*events]


class StreamTests(SynchronousTestCase):
    """Streams, from the first event to the end of the body."""

    def test_golden(self) -> None:
        """Plain answers, cut ones, broken ones and those that never end, however they arrive."""
        for name, wanted in (
            ("plain.sse", [*_HI, UsageReported(_USAGE), Finished("end")]),
            ("incomplete.sse", [*_HI, UsageReported(_USAGE), Finished("length")]),
            ("never_finished.sse", _HI),
        ):
            data = stream("openai_responses", name)
            for pieces in splits(data) if name == "plain.sse" else [[data]]:
                framer, decoder, events = SSEFramer(), ResponsesDecoder(), list[Event]()
                for piece in pieces:
                    for record in framer.feed(piece):
                        events += decoder.record(event=record.event, data=record.data) or ()
                self.assertEqual([*events, *decoder.end()], wanted)

    def test_errors(self) -> None:
        """An error is the last thing that is told, with its fault."""
        failed = decoded(stream("openai_responses", "failed.sse"))
        self.assertEqual(failed[:-1], _HI)
        assert isinstance(failed[-1], Failed)
        error = failed[-1].error
        self.assertEqual((error.fault, error.status), (Fault.RATE_LIMIT, 429))
        self.assertEqual(error.message, "Too fast.")
        first = decoded(stream("openai_responses", "error_first.sse"))
        self.assertEqual(first[:1], [_STARTED])
        assert isinstance(first[1], Failed) and len(first) == 2
        self.assertEqual((first[1].error.fault, first[1].error.status), (Fault.SERVER, 500))

    def test_an_error_after_the_end_counts(self) -> None:
        """What was said to be whole is not, if an error follows."""
        end = {"type": "response.completed", "response": response([])}
        errors: list[dict[str, Any]] = [
            {"type": "error", "code": "server_error", "message": "It broke."},
            {"type": "response.failed", "response": {"error": {"message": "It broke."}}},
        ]
        for error in errors:
            events = decoded(told(end, error, end))
            assert isinstance(events[-1], Failed)
            self.assertEqual(events[-1].error.message, "It broke.")
            self.assertFalse(any(isinstance(event, Finished) for event in events))

    def test_everything_there_is(self) -> None:
        """Thoughts in sections, texts, sources, refusals, calls of all kinds, pictures."""
        seal = Seal(NAME, "gAAAA", id="rs_1")
        self.assertEqual(
            decoded(told(*answer_events())),
            [
                _STARTED,
                BlockOpened(0, REASONING, "rs_1"),
                ReasoningDelta(0, "s"),
                ReasoningDelta(0, "o"),
                ReasoningDelta(0, "b", 1),
                ReasoningDelta(0, "e", 1),
                Sealed(0, seal),
                BlockClosed(0),
                BlockOpened(1, TEXT, "msg_1"),
                TextDelta(1, "Hel"),
                TextDelta(1, "lo"),
                Cited(1, "https://x", "X", start=0, end=2),
                BlockClosed(1),
                BlockOpened(2, REFUSAL, "msg_1"),
                TextDelta(2, "No."),
                BlockClosed(2),
                BlockOpened(3, CALL, "call_1", "f"),
                ArgumentsDelta(3, '{"a":'),
                ArgumentsDelta(3, "1.10}"),
                BlockClosed(3),
                BlockOpened(4, CALL, "call_2", "p"),
                ArgumentsDelta(4, '{"input":"a\\"'),
                ArgumentsDelta(4, "b\\n"),
                ArgumentsDelta(4, '"}'),
                BlockClosed(4),
                BlockOpened(5, CALL, "call_3", "local_shell"),
                ArgumentsDelta(5, '{"command":["ls"],"env":{}}'),
                BlockClosed(5),
                BlockOpened(6, MEDIA, "ig_1"),
                MediaDelta(6, "image/webp", "aGk="),
                BlockClosed(6),
                UsageReported(_USAGE),
                Finished("tool_use"),
            ],
        )

    def test_whatever_is_left_out(self) -> None:
        """One telling of each item is enough, and several are not too many."""
        wanted = fold(decoded(told(*answer_events())))
        leaving_out: dict[str, Callable[[Mapping[str, Any]], bool]] = {
            "deltas": lambda event: ".delta" in event["type"],
            "done": lambda event: event["type"].endswith((".done",)),
            "all but items": lambda event: "output_item" not in event["type"],
            "all but done items": lambda event: event["type"] != "response.output_item.done",
            "all": lambda event: True,
            "added": lambda event: event["type"].endswith(".added"),
            "the start": lambda event: event["type"] == "response.created",
        }
        for name, left_out in leaving_out.items():
            *events, end = answer_events()
            some = [event for event in events if not left_out(event)]
            self.assertEqual(fold(decoded(told(*some, end))).blocks, wanted.blocks, name)
        self.assertEqual(fold(decoded(told(*answer_events(output=[])))), wanted)
        doubled: list[dict[str, Any]] = []
        for event in answer_events():
            doubled += [event] if ".delta" in event["type"] else [event, event]
        blocks = fold(decoded(told(*doubled))).blocks
        self.assertEqual(blocks[1].citations, wanted.blocks[1].citations * 2)
        self.assertEqual([blocks[0], *blocks[2:]], [wanted.blocks[0], *wanted.blocks[2:]])

    def test_ids_and_places_as_they_please(self) -> None:
        """Upstreams give no ids, new ids each time, no places, or one place for all."""
        wanted = [block.text for block in fold(decoded(told(*answer_events()))).blocks]
        odd: dict[str, Callable[[dict[str, Any], int], Any]] = {
            "no ids": lambda event, _: event.pop("item_id", None),
            "new ids": lambda event, number: event.update(item_id=f"x{number}"),
            "no places": lambda event, _: event.pop("output_index", None),
            "null places": lambda event, _: event.update(output_index=None),
            "one place": lambda event, _: event.update(output_index=0),
        }
        for name, change in odd.items():
            events = answer_events()
            for number, event in enumerate(events):
                change(event, number)
            blocks = fold(decoded(told(*events))).blocks
            self.assertEqual([block.text for block in blocks], wanted, name)

    def test_parallel_calls_that_interleave(self) -> None:
        """Each piece goes to the call it belongs to."""
        events = []
        for at in (0, 1):
            item = {"type": "function_call", "call_id": f"c{at}", "name": f"f{at}", "id": f"i{at}"}
            events.append({"type": "response.output_item.added", "output_index": at, "item": item})
        for piece, at in (('{"a":', 0), ('{"b":', 1), ("1}", 0), ("2}", 1)):
            kind = "response.function_call_arguments.delta"
            events.append({"type": kind, "output_index": at, "item_id": f"i{at}", "delta": piece})
        events.append({"type": "response.completed", "response": response([])})
        blocks = fold(decoded(told(*events))).blocks
        self.assertEqual([block.text for block in blocks], ['{"a":1}', '{"b":2}'])

    def test_two_calls_in_one_place(self) -> None:
        """Two calls that an upstream numbers alike are two calls."""
        calls = [
            {"type": "function_call", "call_id": f"c{n}", "name": "f", "arguments": f'{{"n":{n}}}'}
            for n in (1, 2)
        ]
        done = [
            {"type": "response.output_item.done", "output_index": 0, "item": call} for call in calls
        ]
        end = {"type": "response.completed", "response": response(calls)}
        blocks = fold(decoded(told(*done, end))).blocks
        self.assertEqual(
            [(block.id, block.text) for block in blocks],
            [
                ("c1", '{"n":1}'),
                ("c2", '{"n":2}'),
            ],
        )

    def test_thoughts_in_their_own_words(self) -> None:
        """Raw thoughts are thoughts; told as a summary, too, they are told once."""
        item = {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "short"}],
            "content": [{"type": "reasoning_text", "text": "long"}],
        }
        where = {"item_id": "rs_1", "output_index": 0, "content_index": 0}
        summary = {**where, "type": "response.reasoning_summary_text.delta", "summary_index": 0}
        events: list[dict[str, Any]] = [
            {**where, "type": "response.reasoning_text.delta", "delta": "lo"},
            {**summary, "delta": "short"},
            {**where, "type": "response.reasoning_text.done", "text": "long"},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": response([item])},
        ]
        (block,) = fold(decoded(told(*events))).blocks
        self.assertEqual((block.kind, block.sections, block.seal), (REASONING, ["long"], None))

    def test_reasons(self) -> None:
        """Why it ended is told by the last event, or by what it says of the response."""
        cut = {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
        short = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        reasons: list[tuple[str, dict[str, Any], str]] = [
            ("completed", {}, "end"),
            ("completed", {"status": "in_progress"}, "end"),
            ("incomplete", {"status": "incomplete"}, "length"),
            ("incomplete", short, "length"),
            ("incomplete", cut, "filtered"),
            ("completed", cut, "filtered"),
        ]
        for kind, fields, reason in reasons:
            end = {"type": f"response.{kind}", "response": response([], **fields)}
            self.assertEqual(decoded(told(end))[-1], Finished(reason))
        for fields in ({"status": "failed", "error": {"message": "Oh."}}, {"status": "failed"}):
            end = {"type": "response.completed", "response": response([], **fields)}
            self.assertIsInstance(decoded(told(end))[-1], Failed)
        end = {"type": "response.completed", "response": response([], status="cancelled")}
        self.assertIsInstance(decoded(told(end))[-1], Failed)
        end = {"type": "response.completed", "response": response([], status="expired")}
        self.assertIsNone(fold(decoded(told(end))).reason)

    def test_a_call_that_was_cut_stays_cut(self) -> None:
        """Its block is closed, but nobody is told to run it."""
        *events, _ = answer_events()
        head = [event for event in events if event.get("output_index") == 2][:2]
        end = {
            "type": "response.incomplete",
            "response": response([], incomplete_details={"reason": "max_output_tokens"}),
        }
        reply = fold(decoded(told(*head, end)))
        self.assertEqual((reply.blocks[0].text, reply.reason), ('{"a":', "length"))

    def test_the_end_is_told_at_the_end(self) -> None:
        """Not before the body has ended, and only if it was said that all was told."""
        events = decoded(told(*answer_events()), ends=False)
        self.assertIsInstance(events[-1], UsageReported)
        self.assertEqual(ResponsesDecoder().end(), ())

    def test_noise(self) -> None:
        """Pings, unknown events and ``[DONE]`` say nothing; what is no JSON is no event."""
        decoder = ResponsesDecoder()
        for event, data, wanted in (
            (b"keepalive", b"{}", []),
            (b"", b"[DONE]", ()),
            (b"ping", b"", ()),
            (b"", b'{"type":"response.brand_new","delta":"x"}', []),
            (b"", b'{"type":', None),
            (b"", b"17", None),
        ):
            self.assertEqual(decoder.record(event=event, data=data), wanted)
        self.assertEqual(decoder.end(), ())
        broken = decoder.record(event=b"error", data=b"oops")
        assert broken is not None and isinstance(broken[0], Failed)

    def test_odd_text(self) -> None:
        """Bytes that are no UTF-8, half characters and odd numbers spoil nothing else."""
        decoder = ResponsesDecoder()
        head = b'{"type":"response.output_text.delta","output_index":0,"delta":"'
        events: list[Event] = []
        for data in (
            head + b'a\\ud83d"}',
            head + b'b\xff"}',
            head + b'c","x":NaN}',
            b"\xef\xbb\xbf" + head + b'd","item_id":5,"content_index":null}',
        ):
            events += decoder.record(event=b"", data=data) or ()
        texts = [event.text for event in events if isinstance(event, TextDelta)]
        self.assertEqual(texts, ["a�", "b�", "c", "d"])


class WholeTests(SynchronousTestCase):
    """Answers that are no streams."""

    def test_contract(self) -> None:
        """The decoder is what it is said to be."""
        self.assertTrue(verifyObject(IEventDecoder, ResponsesDecoder()))

    def test_stream_and_whole_are_the_same(self) -> None:
        """An answer says the same however it comes."""
        self.assertEqual(fold(_whole(response(ITEMS))), fold(decoded(told(*answer_events()))))

    def test_failures(self) -> None:
        """Failed, refused and unfinished answers are told as such."""
        error = {"code": "context_length_exceeded", "message": "Too long."}
        for answer, fault in (
            (response([], status="failed", error=error), Fault.CONTEXT),
            ({"error": error}, Fault.CONTEXT),
            ({"error": "Oh."}, Fault.SERVER),
            (response([], status="failed"), Fault.SERVER),
            (response([], status="queued"), Fault.SERVER),
            (response([], status="in_progress"), Fault.SERVER),
            (response([], status="cancelled"), Fault.SERVER),
        ):
            events = _whole(answer)
            assert isinstance(events[-1], Failed), answer
            self.assertEqual(events[-1].error.fault, fault)
            fold(events)

    def test_no_answers(self) -> None:
        """What is no response is none."""
        for body in (b"", b"[]", b"{}", b'{"choices":[]}', b'{"output":'):
            self.assertIsNone(ResponsesDecoder().whole(body=body))

    def test_an_empty_answer_ends(self) -> None:
        """Without items and without usage, too."""
        events = _whole({"object": "response", "status": "completed", "output": []})
        self.assertEqual(events, [Started(), Finished("end")])

    def test_only_a_known_end_is_one(self) -> None:
        """An answer that does not say that it is whole may have been cut anywhere."""
        item = {"type": "message", "content": [{"type": "output_text", "text": "cut in"}]}
        for said in ({}, {"status": None}, {"status": "expired"}, {"status": "weird"}):
            reply = fold(_whole({"object": "response", "output": [item], **said}))
            self.assertEqual((reply.blocks[0].text, reply.reason), ("cut in", None))
        for status in ("failed", "cancelled", "queued", "in_progress"):
            events = _whole({"object": "response", "output": [item], "status": status})
            self.assertIsInstance(events[-1], Failed)

    def test_an_item_that_was_cut(self) -> None:
        """The answer was, then, whatever it says of itself."""
        call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":'}
        message = {"type": "message", "content": [{"type": "output_text", "text": "cut in"}]}
        for item in (call, message, {**call, "type": "custom_tool_call", "input": "cut in"}):
            cut = {**item, "status": "incomplete"}
            whole = fold(_whole(response([cut])))
            self.assertEqual(whole.reason, "length")
            done = {"type": "response.output_item.done", "output_index": 0, "item": cut}
            for output in ([], [cut]):
                end = {"type": "response.completed", "response": response(output)}
                self.assertEqual(fold(decoded(told(done, end))).reason, "length")
        thought = {"type": "reasoning", "id": "rs_1", "summary": [], "status": "incomplete"}
        self.assertEqual(fold(_whole(response([thought]))).reason, "end")

    def test_many_items(self) -> None:
        """Thousands are told apart as quickly as they come, known again or not."""
        calls = [
            {"type": "function_call", "call_id": f"c{n}", "name": "f", "arguments": "{}"}
            for n in range(6000)
        ]
        done = [
            {"type": "response.output_item.done", "output_index": n, "item": call}
            for n, call in enumerate(calls)
        ]
        texts = [
            {
                "type": "response.output_text.done",
                "item_id": f"a{n}",
                "output_index": 6000 + n,
                "text": f"x{n}",
            }
            for n in range(6000)
        ]
        messages = [
            {"type": "message", "id": f"b{n}", "content": [{"type": "text", "text": f"x{n}"}]}
            for n in reversed(range(6000))
        ]
        output = [*reversed(calls), *({"type": "web_search_call"} for _ in texts), *messages]
        end = {"type": "response.completed", "response": response(output)}
        began = process_time()
        blocks = fold(decoded(told(*done, *texts, end))).blocks
        self.assertLess(process_time() - began, 5.0)
        self.assertEqual(len(blocks), 12000)


class HostileTests(SynchronousTestCase):
    """Whatever an upstream sends, what is made of it obeys the law."""

    def test_any_order_of_any_events(self) -> None:
        """Events at random, spoilt at random, never break the grammar."""
        random = Random(11)
        for _ in range(1500):
            events = [*answer_events(), *answer_events()]
            random.shuffle(events)
            decoder, grammar = ResponsesDecoder(), Grammar()
            for event in events[: random.randint(1, len(events))]:
                spoilt = dict(event)
                for key in [*spoilt]:
                    if random.random() < 0.1:
                        spoilt[key] = random.choice(_VALUES)
                data = json.dumps(spoilt).encode()
                for made in decoder.record(event=b"", data=data) or ():
                    grammar.take(made)
            for made in decoder.end():
                grammar.take(made)

    def test_anyresponse(self) -> None:
        """So do responses."""
        random = Random(12)
        for _ in range(1500):
            answer = json.loads(json.dumps(response(ITEMS)))
            for _ in range(random.randint(1, 3)):
                holder: Any = answer
                while True:
                    keys = [*holder] if isinstance(holder, dict) else [*range(len(holder))]
                    if not keys:
                        break
                    key = random.choice(keys)
                    if not isinstance(holder[key], dict | list) or random.random() < 0.2:
                        holder[key] = json.loads(json.dumps(random.choice(_VALUES)))
                        break
                    holder = holder[key]
            grammar = Grammar()
            for made in ResponsesDecoder().whole(body=json.dumps(answer).encode()) or ():
                grammar.take(made)


_VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    7,
    1.5,
    10**40,
    "",
    "x",
    "msg_1",
    "fc_1",
    [],
    ["x"],
    {},
    {"type": "message", "content": [5, {"type": "output_text", "text": 5}]},
    {"type": "function_call", "arguments": {"a": 1}},
    {"type": "function_call", "name": "f"},
    {"type": "reasoning", "summary": "x", "content": [{"text": "y"}]},
]
