"""Responses: what a client is answered, written."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import (
    ResponseStreamEvent,
)
from pydantic import TypeAdapter
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.conversation.events import (
    CALL,
    REASONING,
    REFUSAL,
    TEXT,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Event,
    Finished,
    ReasoningDelta,
    Sealed,
    Started,
    TextDelta,
)
from aiclient2api.conversation.grammar import Block, fold
from aiclient2api.conversation.seals import Seal, carried
from aiclient2api.dialects.openai_responses.request import NAME, UNSEALED
from aiclient2api.interfaces import IEventEncoder
from tests.dialects.openai_responses.answers import EVENTS, OFFERED
from tests.dialects.openai_responses.judge import (
    ID,
    NOW,
    decoded,
    encoded,
    encoder,
    judge_response,
    judge_stream,
    records,
)


def _final(stream: bytes) -> dict[str, Any]:
    *_, (_, last) = records(stream)
    response: dict[str, Any] = last["response"]
    return response


def _text(*pieces: str, reason: str = "end") -> list[Event]:
    deltas = [TextDelta(0, piece) for piece in pieces]
    return [Started(), BlockOpened(0, TEXT), *deltas, BlockClosed(0), Finished(reason)]


class StreamTests(SynchronousTestCase):
    """Streams."""

    def test_contract(self) -> None:
        """The encoder is what it is said to be."""
        self.assertTrue(verifyObject(IEventEncoder, encoder()))

    def test_text(self) -> None:
        """A plain answer is told in OpenAI's own order, and again in full at each end."""
        stream = encoded(_text("Hi ", "you"))
        events = [event for _, event in records(stream)]
        self.assertEqual(
            [event["type"].removeprefix("response.") for event in events],
            [
                "created",
                "in_progress",
                "output_item.added",
                "content_part.added",
                "output_text.delta",
                "output_text.delta",
                "output_text.done",
                "content_part.done",
                "output_item.done",
                "completed",
            ],
        )
        self.assertEqual(events[0]["response"]["output"], [])
        self.assertEqual(events[0]["response"]["status"], "in_progress")
        self.assertEqual([event["delta"] for event in events[4:6]], ["Hi ", "you"])
        self.assertEqual(events[6]["text"], "Hi you")
        part = {"type": "output_text", "text": "Hi you", "annotations": [], "logprobs": []}
        item = {
            "type": "message",
            "id": f"msg_{ID}0000",
            "status": "completed",
            "role": "assistant",
            "content": [part],
        }
        self.assertEqual((events[7]["part"], events[8]["item"]), (part, item))
        self.assertEqual(events[9]["response"]["output"], [item])
        self.assertEqual(events[9]["response"]["id"], f"resp_{ID}")
        self.assertEqual(events[9]["response"]["created_at"], NOW)
        where = {(e["item_id"], e["output_index"], e["content_index"]) for e in events[3:8]}
        self.assertEqual(where, {(item["id"], 0, 0)})

    def test_everything_there_is(self) -> None:
        """Each kind of block is an item of its kind, told and told again."""
        stream = encoded(EVENTS, OFFERED)
        done = [e["item"] for name, e in records(stream) if name.endswith("item.done")]
        final = _final(stream)
        self.assertEqual(final["output"], done)
        self.assertEqual((final["status"], final["created_at"]), ("completed", 7))
        reasoning, message, first, second, patch, shell, spawn, say, picture = done
        self.assertEqual(
            reasoning,
            {
                "type": "reasoning",
                "id": f"rs_{ID}0000",
                "summary": [
                    {"type": "summary_text", "text": "so be"},
                    {"type": "summary_text", "text": "it"},
                ],
                "encrypted_content": carried(Seal("anthropic-messages", "c2ln"), NAME),
            },
        )
        source = {
            "type": "url_citation",
            "url": "https://x",
            "title": "X",
            "start_index": 0,
            "end_index": 3,
        }
        self.assertEqual(
            message["content"],
            [
                {
                    "type": "output_text",
                    "text": "Hello \U0001f600",
                    "annotations": [source],
                    "logprobs": [],
                },
                {"type": "refusal", "refusal": "No."},
            ],
        )
        call = {"type": "function_call", "name": "f", "status": "completed"}
        self.assertEqual(
            first,
            {**call, "id": f"fc_{ID}0002", "call_id": "call_1", "arguments": '{"a":1.10}'},
        )
        self.assertEqual((second["call_id"], second["arguments"]), ("call_2", "{}"))
        self.assertEqual(
            patch,
            {
                "type": "custom_tool_call",
                "id": f"ctc_{ID}0004",
                "call_id": "call_3",
                "name": "patch",
                "input": "a\nb",
            },
        )
        self.assertEqual(
            shell,
            {
                "type": "local_shell_call",
                "id": f"lsh_{ID}0005",
                "call_id": "call_4",
                "action": {"type": "exec", "command": ["ls", "-l"], "env": {}, "timeout_ms": 5},
                "status": "completed",
            },
        )
        self.assertEqual((spawn["name"], spawn["namespace"]), ("spawn", "agents"))
        self.assertEqual((say["type"], say["input"]), ("custom_tool_call", "hey"))
        self.assertEqual((say["name"], say["namespace"]), ("say", "agents"))
        self.assertEqual((picture["result"], picture["output_format"]), ("aGk=", "png"))
        self.assertEqual(
            final["usage"],
            {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
                "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 2},
                "total_tokens": 15,
            },
        )

    def test_deltas_add_up(self) -> None:
        """What a client gathers from deltas is what it is told at the end."""
        gathered: dict[tuple[str, int, int], str] = {}
        for name, event in records(encoded(EVENTS, OFFERED)):
            kind, _, what = name.removeprefix("response.").rpartition(".")
            at = event.get("content_index", event.get("summary_index", 0))
            key = (kind, event.get("output_index", 0), at)
            if what == "delta":
                gathered[key] = gathered.get(key, "") + event["delta"]
            elif what == "done" and key in gathered:
                fields = ("text", "refusal", "arguments", "input")
                full = next(event[field] for field in fields if field in event)
                self.assertEqual(gathered.pop(key), full)
        self.assertEqual(gathered, {})

    def test_the_library_takes_it(self) -> None:
        """OpenAI's own accumulator checks ids and order, and ends with the same response."""
        state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
        adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
        stream = encoded(EVENTS, OFFERED)
        for _, event in records(stream):
            state.handle_event(adapter.validate_python(event))
        response = state._completed_response
        self.assertEqual(response.output_text, "Hello \U0001f600")
        self.assertEqual(
            [item.type for item in response.output],
            [item["type"] for item in _final(stream)["output"]],
        )

    def test_blocks_that_overlap(self) -> None:
        """They come one after the other, each whole."""
        calls: list[Event] = [Started()]
        calls += [BlockOpened(at, CALL, f"c{at}", "f") for at in (0, 1, 2)]
        for piece in ('{"a"', ":1}"):
            calls += [ArgumentsDelta(at, piece) for at in (2, 0, 1)]
        calls += [BlockClosed(at) for at in (1, 2, 0)]
        stream = encoded([*calls, Finished("tool_use")])
        places = [event["output_index"] for _, event in records(stream) if "output_index" in event]
        self.assertEqual(places, sorted(places))
        output = _final(stream)["output"]
        self.assertEqual([item["call_id"] for item in output], ["c0", "c1", "c2"])
        self.assertEqual({item["arguments"] for item in output}, {'{"a":1}'})

    def test_texts_in_a_row_are_one_message(self) -> None:
        """Each is a part of its own; text behind a call is another message."""
        events: list[Event] = [Started()]
        for at, kind in enumerate((TEXT, TEXT, CALL, TEXT)):
            events.append(BlockOpened(at, kind, "c" if kind == CALL else "", "f"))
            events += [] if kind == CALL else [TextDelta(at, f"t{at}")]
            events.append(BlockClosed(at))
        output = _final(encoded([*events, Finished("tool_use")]))["output"]
        self.assertEqual([item["type"] for item in output], ["message", "function_call", "message"])
        self.assertEqual([part["text"] for part in output[0]["content"]], ["t0", "t1"])
        self.assertEqual(len({item["id"] for item in output}), 3)

    def test_half_characters(self) -> None:
        """A text that holds one is written all the same."""
        stream = encoded(_text("a\ud83d"))
        self.assertEqual(_final(stream)["output"][0]["content"][0]["text"], "a�")


class WholeTests(SynchronousTestCase):
    """Answers that are no streams."""

    def test_whole_and_stream_are_the_same(self) -> None:
        """A response says what its stream ends with."""
        response = json.loads(encoder(OFFERED).reply(EVENTS))
        judge_response(response)
        self.assertEqual(response, _final(encoded(EVENTS, OFFERED)))


class EchoTests(SynchronousTestCase):
    """What a response repeats of its request."""

    def test_defaults(self) -> None:
        """What was not asked for has OpenAI's default."""
        response = json.loads(encoder(model="asked").reply(_text("x")))
        judge_response(response)
        for key, value in (
            ("model", "asked"),
            ("instructions", None),
            ("tools", []),
            ("tool_choice", "auto"),
            ("temperature", 1.0),
            ("parallel_tool_calls", True),
            ("metadata", {}),
            ("text", {"format": {"type": "text"}}),
            ("truncation", "disabled"),
            ("previous_response_id", None),
            ("store", True),
            ("error", None),
        ):
            self.assertEqual(response[key], value, key)

    def test_what_was_asked_for(self) -> None:
        """The rest is repeated as it was sent."""
        told = {
            **OFFERED,
            "instructions": "Be brief.",
            "tool_choice": {"type": "function", "name": "f"},
            "temperature": 0.5,
            "top_p": 0.25,
            "max_output_tokens": 9,
            "parallel_tool_calls": False,
            "metadata": {"k": "v"},
            "reasoning": {"effort": "low"},
            "store": False,
            "user": "u",
            "prompt_cache_key": "key",
        }
        response = json.loads(encoder(told).reply(_text("x")))
        judge_response(response)
        self.assertEqual({key: response[key] for key in told}, told)


class SealTests(SynchronousTestCase):
    """Thoughts and what belongs to them."""

    def item(self, *events: Event, id: str = "") -> Any:
        """Return the item of a thought."""
        thought = [Started(), BlockOpened(0, REASONING, id), *events, BlockClosed(0)]
        (item,) = _final(encoded([*thought, Finished("end")]))["output"]
        return item

    def test_openais_own(self) -> None:
        """Its seal and its id are what they were, so that it can be sent back as it is."""
        item = self.item(Sealed(0, Seal(NAME, "gAAAA", id="rs_1")), id="rs_1")
        self.assertEqual(
            item,
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"},
        )
        seal = Seal(NAME, "gAAAA", id="rs_2")
        self.assertEqual(self.item(Sealed(0, seal))["encrypted_content"], carried(seal, NAME))

    def test_none_at_all(self) -> None:
        """A thought without a seal is marked as not OpenAI's, which does not know its id."""
        item = self.item(ReasoningDelta(0, "hm"), id="not-openais")
        self.assertEqual((item["id"], item["encrypted_content"]), (f"rs_{ID}0000", UNSEALED))


class RoundTripTests(SynchronousTestCase):
    """What is written is read as it was."""

    def seen(self, block: Block) -> Any:
        """Return what must survive of a block."""
        text = json.loads(block.text) if block.kind == CALL else block.text
        seal = block.seal if block.kind == REASONING else None
        sealed = seal and (seal.value if seal.issuer == NAME else carried(seal, NAME))
        cited = [(each.url, each.title, each.start, each.end) for each in block.citations]
        media = block.media and (block.media.mime, block.media.data)
        own_id = block.id if block.kind == CALL else ""
        return (block.kind, own_id, block.name, text, block.sections, sealed, media, cited)

    def test_there_and_back(self) -> None:
        """A stream, and a whole answer, hold all that was told."""
        wanted = fold(EVENTS)
        reply = fold(decoded(encoded(EVENTS, OFFERED)))
        self.assertEqual([*map(self.seen, reply.blocks)], [*map(self.seen, wanted.blocks)])
        self.assertEqual((reply.reason, reply.usage), (wanted.reason, wanted.usage))

    def test_any_answer(self) -> None:
        """However its blocks overlap, it is well-formed and nothing is lost."""
        random = Random(3)
        for _ in range(150):
            events = _random_answer(random)
            wanted = {block.id or block.text: block for block in fold(events).blocks}
            stream = b"".join(map(encoder(OFFERED).encode, events))
            if random.random() < 0.2:
                judge_stream(stream)
            reply = fold(decoded(stream))
            got = {block.id if block.kind == CALL else block.text: block for block in reply.blocks}
            self.assertEqual(got.keys(), wanted.keys())
            for key, block in got.items():
                self.assertEqual(self.seen(block), self.seen(wanted[key]))


def _random_answer(random: Random) -> list[Event]:
    events: list[Event] = [Started()]
    open_blocks: dict[int, str] = {}
    count = 0
    while count < 6 or open_blocks:
        if count < 6 and (not open_blocks or random.random() < 0.4):
            kind = random.choice((TEXT, REFUSAL, REASONING, CALL))
            name = random.choice(("f", "patch", "agents__spawn"))
            call = kind == CALL
            events.append(BlockOpened(count, kind, f"c{count}" if call else "", name * call))
            if call and name == "patch":
                events.append(ArgumentsDelta(count, '{"input":"x'))
                events.append(ArgumentsDelta(count, f'{count}"}}'))
            elif call:
                events.append(ArgumentsDelta(count, f'{{"n":{count}}}'))
            open_blocks[count] = kind
            count += 1
            continue
        at = random.choice([*open_blocks])
        if random.random() < 0.5 and open_blocks[at] != CALL:
            thinks = open_blocks[at] == REASONING
            events.append(ReasoningDelta(at, f"r{at} ") if thinks else TextDelta(at, f"t{at} "))
        elif open_blocks[at] == CALL or any(
            isinstance(event, TextDelta | ReasoningDelta) and event.index == at for event in events
        ):
            events.append(BlockClosed(at))
            del open_blocks[at]
    return [*events, Finished("end")]
