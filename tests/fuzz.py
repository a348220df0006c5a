"""
Throw random and broken bytes at every reader, for as long as one likes.

``python -m tests.fuzz --minutes 5`` runs all targets, ``--target NAME`` (as often as wanted)
some, ``--seed SEED`` the same cases again; ``--case TARGET SEED`` runs one case again. A case
fails if anything but what may be raised is raised, if the law of its target is broken, if it
takes more than three seconds, or if it makes the process grow by more than 64 MB.

It is no test module: ``tests/test_fuzz.py`` runs a few cases of each target.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import attrs

from aiclient2api.conversation import arguments, call_ids, seals
from aiclient2api.conversation.grammar import Grammar
from aiclient2api.dialects.convert import conversation_of
from aiclient2api.errors import InvalidRequest, UpstreamError
from aiclient2api.framing.aws_event_stream import AWSEventStreamFramer
from aiclient2api.framing.json_array import JSONArrayFramer
from aiclient2api.framing.json_text import exact
from aiclient2api.framing.sse import SSEFramer
from aiclient2api.values import SystemEdit
from tests import fuzz_envelopes, fuzz_files, fuzz_http
from tests.both_ways import FRAMINGS, NAMES, parsed, read, written
from tests.event_streams import answer, failed
from tests.fuzz_envelopes import pieces
from tests.mutations import broken_json, broken_stream, encoded, records_of
from tests.recorded_requests import RECORDED
from tests.tape import Tape, text, value
from tests.test_request_properties import asked_badly
from tests.test_request_properties import written as request_in

SLOW = 3.0
"""Seconds that no case may take."""
GROWTH = 64 * 1024
"""Kilobytes by which no case may make the process grow."""


def _judge(name: str, tape: Tape, data: bytes, framing: str) -> None:
    grammar = Grammar()
    for event in read(name, pieces(tape, data), framing):
        grammar.take(event)


def _answer(tape: Tape) -> tuple[str, bytes]:
    name = tape.pick(NAMES)
    return name, written(name, failed(tape) if tape.one_in(6) else answer(tape))


def broken_answers(tape: Tape) -> None:
    """Streams with records lost, doubled, swapped, cut or full of wrong things."""
    name, data = _answer(tape)
    _judge(name, tape, broken_stream(tape, data), "sse")


def broken_wholes(tape: Tape) -> None:
    """Whole answers, and arrays, with wrong things in them."""
    name = tape.pick(NAMES)
    framing = tape.pick(FRAMINGS[name][1:])
    told = json.loads(written(name, answer(tape), framing))
    _judge(name, tape, encoded(broken_json(tape, told)), framing)


def flipped_answers(tape: Tape) -> None:
    """Streams with bytes changed, taken out or put in."""
    name, data = _answer(tape)
    raw = bytearray(data)
    for _ in range(1 + tape.number(6)):
        at = tape.number(len(raw) + 1)
        kind = tape.number(3)
        if kind == 0 and at < len(raw):
            raw[at] = tape.number(256)
        elif kind == 1:
            del raw[at : at + tape.number(9)]
        else:
            raw[at:at] = bytes(tape.several(lambda: tape.number(256), 4))
    _judge(name, tape, bytes(raw), tape.pick(FRAMINGS[name]))


def huge_answers(tape: Tape) -> None:
    """Streams of thousands of records, none of which may cost more than those before it."""
    name, data = _answer(tape)
    records = records_of(broken_stream(tape, data)) or [b"\n\n"]
    chosen = [tape.pick(records) for _ in range(3)]
    many = b"".join(chosen[number % 3] for number in range(3000))
    _judge(name, tape, data + many, "sse")
    numbered = b"".join(
        chosen[number % 3]
        .replace(b'"index":0', b'"index":%d' % number)
        .replace(b'_1"', b'_%d"' % number)
        for number in range(2000)
    )
    _judge(name, tape, numbered, "sse")


def any_json(tape: Tape) -> None:
    """Records that are nothing of the dialect."""
    name = tape.pick(NAMES)
    told = tape.several(lambda: value(tape, 4), 5)
    data = b"".join(b"data: " + encoded(each) + b"\n\n" for each in told)
    _judge(name, tape, data, "sse")
    _judge(name, tape, encoded(told), FRAMINGS[name][-2])
    _judge(name, tape, encoded(told[:1] and told[0]), "whole")


def deep_json(tape: Tape) -> None:
    """Values nested deeper than any stack."""
    name = tape.pick(NAMES)
    depth = tape.pick([200, 2000, 100_000])
    opening, closing = tape.pick([(b"[", b"]"), (b'{"a":', b"}"), (b'{"choices":[', b"]}")])
    inner = opening * depth + b"1" + closing * depth
    place = tape.pick([b"%s", b'{"choices":[{"delta":%s}]}', b'{"type":"x","response":%s}'])
    record = b"data: " + (place % inner) + b"\n\n"
    _judge(name, tape, record, "sse")
    _judge(name, tape, inner, "whole")


def any_bytes(tape: Tape) -> None:
    """Bytes that are nothing at all, to every reader and framer."""
    data = bytes(tape.several(lambda: tape.number(256), 400))
    name = tape.pick(NAMES)
    for framing in FRAMINGS[name]:
        _judge(name, tape, data, framing)
        _judge(name, tape, b"data: " + data + b"\n\n", framing)
    for framer in (SSEFramer(limit=4096), JSONArrayFramer(limit=4096)):
        for piece in pieces(tape, data * tape.pick([1, 30])):
            framer.feed(piece)
    aws = AWSEventStreamFramer(limit=4096)
    for piece in pieces(tape, data):
        aws.feed(piece)


def broken_requests(tape: Tape) -> None:
    """Recorded requests with wrong things in them: parsed, edited, read, written anew."""
    recorded = tape.pick(RECORDED)
    body = encoded(broken_json(tape, json.loads(recorded.body)))
    request = parsed(recorded.dialect, body, recorded.route)
    edit = SystemEdit(mode=tape.pick(["append", "overwrite"]), text="S", replacements=(("a", "b"),))
    request.amended(model="m2", system=edit, streaming=tape.one_in(2))
    request.without_foreign_seals().to_bytes()
    request.system_text()
    request.prompt_text()
    found = attrs.evolve(conversation_of(request), action="generate")
    for name in NAMES:
        request_in(name, found)


def flipped_requests(tape: Tape) -> None:
    """Recorded requests with bytes changed."""
    recorded = tape.pick(RECORDED)
    raw = bytearray(recorded.body)
    parcel = seals.carried(seals.Seal("gemini", "AA=="), "openai-chat").encode()
    for _ in range(1 + tape.number(5)):
        at = tape.number(len(raw) + 1)
        raw[at : at + tape.number(3)] = tape.pick(
            [b"", b'"', b"\\", b"\xff", b"{", b"null", parcel]
        )
    request = parsed(recorded.dialect, bytes(raw), recorded.route)
    request.without_foreign_seals().to_bytes()
    conversation_of(request)


def any_requests(tape: Tape) -> None:
    """Careless conversations, from every dialect to every other."""
    name, found = asked_badly(tape)
    request = request_in(name, found)
    if request is not None:
        again = conversation_of(request)
        for other in NAMES:
            request_in(other, again)


def hub(tape: Tape) -> None:
    """What is made of single texts: arguments, ids, seals."""
    told = "".join(tape.several(lambda: text(tape), 8)) * tape.pick([1, 1, 1, 3000])
    made = arguments.settled(told)
    assert isinstance(exact(made.encode()), dict)
    assert call_ids.original(call_ids.plain(told)) == told
    seals.taken(seals.PARCEL + told, "gemini")


def kiro(tape: Tape) -> None:
    """See `fuzz_envelopes.kiro`."""
    fuzz_envelopes.kiro(tape, _judge)


def code_assist(tape: Tape) -> None:
    """See `fuzz_envelopes.code_assist`."""
    fuzz_envelopes.code_assist(tape, _judge)


def qwen(tape: Tape) -> None:
    """See `fuzz_envelopes.qwen`."""
    fuzz_envelopes.qwen(tape, _judge)


TARGETS: Mapping[str, Callable[[Tape], None]] = {
    each.__name__: each
    for each in (
        broken_answers,
        broken_wholes,
        flipped_answers,
        huge_answers,
        any_json,
        deep_json,
        any_bytes,
        broken_requests,
        flipped_requests,
        any_requests,
        hub,
        kiro,
        code_assist,
        qwen,
        fuzz_http.requests,
        fuzz_files.configurations,
        fuzz_files.pool_edits,
        fuzz_files.credentials,
    )
}
_RARE = {"huge_answers": 40, "deep_json": 20, "flipped_requests": 3, "broken_requests": 2}
"""Targets that take their time, and one in how many rounds they are tried."""
_MAY_BE_RAISED = (InvalidRequest, UpstreamError)


def run(name: str, seed: str) -> str | None:
    """Run one case; return what is wrong with it, None if nothing is."""
    tape = Tape(random.Random(f"{name} {seed}").randbytes(800))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    try:
        TARGETS[name](tape)
    except _MAY_BE_RAISED:
        pass
    except Exception:
        return traceback.format_exc()
    taken = time.process_time() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown
    if taken > SLOW:
        return f"It took {taken:.1f} s."
    return f"The process grew by {grown} KB." if grown > GROWTH else None


def main(argv: list[str]) -> int:
    """Run for some minutes; print what failed, and how many cases there were."""
    parser = argparse.ArgumentParser("tests.fuzz", description="Break every reader there is.")
    parser.add_argument("--minutes", type=float, default=1.0, metavar="N")
    parser.add_argument("--seed", default=str(int(time.time())))
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), metavar="NAME")
    parser.add_argument("--case", nargs=2, metavar=("TARGET", "SEED"))
    told = parser.parse_args(argv)
    if told.case:
        wrong = run(*told.case)
        print(wrong or "Nothing is wrong with it.")
        return 1 if wrong else 0
    return _run_for(told.minutes * 60, told.seed, told.target or list(TARGETS))


def _run_for(seconds: float, seed: str, names: Sequence[str]) -> int:
    until = time.monotonic() + seconds
    done: Counter[str] = Counter()
    slowest: dict[str, float] = {}
    failures = 0
    number = 0
    while time.monotonic() < until:
        number += 1
        for name in names:
            if number % _RARE.get(name, 1) and len(names) > 1:
                continue
            began = time.process_time()
            wrong = run(name, f"{seed}-{number}")
            slowest[name] = max(slowest.get(name, 0.0), time.process_time() - began)
            done[name] += 1
            if wrong is not None:
                failures += 1
                print(
                    f"--- python -m tests.fuzz --case {name} {seed}-{number}\n{wrong}", flush=True
                )
    for name, count in done.items():
        print(f"{name}: {count} cases, the slowest took {slowest[name] * 1000:.0f} ms")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{sum(done.values())} cases, {failures} failed; at most {peak // 1024} MB")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
