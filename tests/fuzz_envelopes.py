"""
What the fuzzer throws at envelopes: answers of Kiro, Code Assist and Qwen, damaged on the way.

The law: what comes out is an answer of the dialect that breaks no law of it, or an error;
and an event stream of which a byte was changed is never taken for a whole answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from aiclient2api.interfaces import IEnvelope
from aiclient2api.providers._code_assist_answer import Opening
from aiclient2api.providers._kiro_answer import Asked, KiroEnvelope
from aiclient2api.providers._qwen_answer import Uncalled
from aiclient2api.testing import (
    Call,
    CodeAssistAnswer,
    chat_chunks,
    kiro_call,
    kiro_error,
    kiro_event,
    kiro_exception,
    kiro_metadata,
    kiro_text,
    kiro_thought,
    kiro_trifles,
)
from tests.both_ways import request_of
from tests.mutations import broken_json, broken_stream, encoded
from tests.tape import Tape, arguments, text, value

Judge = Callable[[str, Tape, bytes, str], None]


def pieces(tape: Tape, data: bytes) -> Iterator[bytes]:
    """Return *data* in pieces of one size, at most some thousands of them."""
    size = tape.pick([len(data) or 1, 1, 2, 7, 100, 4096])
    size = max(size, len(data) // 5000)
    for at in range(0, len(data), size):
        yield data[at : at + size]


def opened(tape: Tape, envelope: IEnvelope, data: bytes) -> bytes:
    """Return what comes out of an envelope, to its clean end."""
    shown = [envelope.open(data=piece) for piece in pieces(tape, data)]
    return b"".join([*shown, envelope.end()])


def _kiro_messages(tape: Tape) -> list[bytes]:
    told: list[bytes] = []
    for number in range(1 + tape.number(5)):
        kind = tape.number(6)
        if kind < 2:
            told.append(kiro_text(text(tape)))
        elif kind == 2:
            told.append(kiro_thought(text(tape)))
        elif kind == 3:
            told += kiro_call(f"t{number}", tape.pick(("f", "g")), [arguments(tape)])
        elif kind == 4:
            told.append(kiro_event(tape.pick(("assistantResponseEvent", "", "x")), value(tape)))
        else:
            told.append(tape.pick(kiro_trifles()))
    told.append(kiro_metadata({"outputTokens": 5}, tape.pick((None, "END_TURN", "tool_use", "x"))))
    if tape.one_in(6):
        at = tape.number(len(told) + 1)
        told.insert(
            at, tape.pick((kiro_exception("ThrottlingException", "no"), kiro_error("1", "")))
        )
    return told


def _shuffled(tape: Tape, records: list[bytes]) -> None:
    for _ in range(tape.number(3)):
        at = tape.number(len(records)) if records else 0
        kind = tape.number(3)
        if kind == 0:
            del records[at : at + 1]
        elif records:
            records.insert(tape.number(len(records) + 1), records[at])


def kiro(tape: Tape, judge: Judge) -> None:
    """Event streams with messages lost, doubled, swapped, and bytes changed."""
    records = _kiro_messages(tape)
    _shuffled(tape, records)
    data = bytearray(b"".join(records))
    for _ in range(tape.number(3)):
        at = tape.number(len(data) + 1)
        data[at : at + tape.number(4)] = bytes(tape.several(lambda: tape.number(256), 4))
    framing = tape.pick(("sse", "whole"))
    asked = Asked("kiro", tape.one_in(2), (), lambda: {}, lambda: 1_800_000_000.0)
    envelope = KiroEnvelope(request_of("anthropic-messages", framing), asked)
    judge("anthropic-messages", tape, opened(tape, envelope, bytes(data)), framing)


def code_assist(tape: Tape, judge: Judge) -> None:
    """Wrapped Gemini answers, in any framing, with wrong things in them."""
    parts = [{"text": text(tape)} for _ in range(1 + tape.number(4))]
    framing = tape.pick(("sse", "json_array", "whole"))
    data = b"".join(CodeAssistAnswer(tuple(parts)).records())
    kind = tape.number(4)
    if kind == 0:
        data = broken_stream(tape, data)
    elif kind < 3:
        told = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: ")]
        data = encoded(broken_json(tape, told if kind == 1 else told[0]))
    raw = bytearray(data)
    for _ in range(tape.number(3)):
        at = tape.number(len(raw) + 1)
        raw[at : at + tape.number(3)] = bytes(tape.several(lambda: tape.number(256), 3))
    judge("gemini", tape, opened(tape, Opening(framing=framing), bytes(raw)), framing)


def qwen(tape: Tape, judge: Judge) -> None:
    """Streams with calls that nobody offered a tool for, broken."""
    calls = [Call("c", "nothing_to_call", arguments(tape))] if tape.one_in(2) else []
    chunks = chat_chunks([text(tape)], tools=calls, thinking=[text(tape)])
    data = broken_stream(tape, b"".join(chunks))
    if tape.one_in(4):
        data = encoded(broken_json(tape, json.loads(chunks[tape.number(3)][6:])))
    judge("openai-chat", tape, opened(tape, Uncalled(), data), "sse")
