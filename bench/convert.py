"""
Measure what the conversion of a streamed answer costs, without any network.

    bench/run convert
    bench/run convert --events 5000 --rounds 7

A stream of text deltas in one dialect is read and written in another. Told are
microseconds of processor time an event, the best of some rounds: to decode it, to encode
it, both together; then all of it as the relay has it, from reads of 16 KiB to the client's
bytes, cutting the stream into records included; and, to compare, the verbatim relay of the
same stream.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from functools import partial

from aiclient2api.conversation.events import TextDelta
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.convert import Watch, conversation_of, relayed, translated, written
from aiclient2api.framing.sse import Record, SSEFramer
from aiclient2api.interfaces import IDialect, IWireRequest
from aiclient2api.testing import chat_chunks, gemini_chunks, messages_events, responses_events
from aiclient2api.values import Event, Route, Usage

_READ = 16 * 1024
_USAGE = Usage(input=100, output=100, cached=5, reasoning=0)
_STREAMS: dict[str, Callable[..., list[bytes]]] = {
    "openai-chat": chat_chunks,
    "openai-responses": responses_events,
    "anthropic-messages": messages_events,
    "gemini": gemini_chunks,
}
_BODIES = {
    "openai-chat": b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}',
    "openai-responses": b'{"model":"m","stream":true,"input":"hi"}',
    "anthropic-messages": (
        b'{"model":"m","stream":true,"max_tokens":99,"messages":[{"role":"user","content":"hi"}]}'
    ),
    "gemini": b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}',
}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=4000, help="deltas a stream (default: 4000)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default: 7)")
    arguments = parser.parse_args()
    print("| upstream | client | decode | encode | both | as relayed | verbatim |")
    print("|---|---|---|---|---|---|---|")
    for row in rows(arguments.events, arguments.rounds):
        print(row, flush=True)


def rows(count: int, rounds: int) -> Iterator[str]:
    """Yield a row for each direction."""
    pieces = ["word " + "x" * (number % 20) for number in range(count)]
    for target in DIALECTS:
        data = b"".join(_STREAMS[target.name](pieces, usage=_USAGE))
        theirs = _request(target)
        framer = SSEFramer()
        records = [record for read in _reads(data) for record in framer.feed(read)]

        decode = partial(_decoded, target, theirs, records)
        events = decode()
        if sum(isinstance(event, TextDelta) for event in events) != count:
            raise SystemExit("the stream was not read whole: nothing was measured")
        decoding = _best(decode, rounds) / count
        plain = relayed(theirs, source=target).watch
        verbatim = _best(partial(_watched, plain, data), rounds) / count
        for source in DIALECTS:
            if source is not target:
                encoding = _best(partial(_encoded, source, events), rounds) / count
                watch = _translating(source, target)
                whole = _best(partial(_watched, watch, data), rounds) / count
                figures = (decoding, encoding, decoding + encoding, whole, verbatim)
                told = " | ".join(f"{seconds * 1e6:.2f}" for seconds in figures)
                yield f"| {target.name} | {source.name} | {told} |"


def _reads(data: bytes) -> Iterator[bytes]:
    return (data[at : at + _READ] for at in range(0, len(data), _READ))


def _request(dialect: IDialect) -> IWireRequest:
    route = Route(action="generate", model="m", streaming=True, framing="sse")
    request: IWireRequest = dialect.parse(body=_BODIES[dialect.name], route=route)
    return request


def _decoded(target: IDialect, theirs: IWireRequest, records: list[Record]) -> list[Event]:
    decoder = target.decoder(request=theirs)
    events: list[Event] = []
    for record in records:
        events += decoder.record(event=record.event, data=record.data) or ()
    return [*events, *decoder.end()]


def _encoded(source: IDialect, events: list[Event]) -> None:
    asked = _request(source)
    encoder = source.encoder(
        request=asked,
        conversation=conversation_of(asked),
        model="m",
        make_id=lambda: "0" * 48,
        now=time.time,
    )
    for event in events:
        encoder.encode(event=event)


def _translating(source: IDialect, target: IDialect) -> Watch:
    asked = _request(source)
    conversation = conversation_of(asked)
    return translated(
        written(asked, conversation, target),
        asked=asked,
        conversation=conversation,
        source=source,
        target=target,
        model="m",
        make_id=lambda: "0" * 48,
        now=time.time,
        remember=lambda seals, final: None,
    ).watch


def _watched(watch: Watch, data: bytes) -> None:
    watcher = watch(b"text/event-stream", False, 1 << 30)
    for read in _reads(data):
        watcher.feed(read)
    watcher.end()
    if not watcher.complete:
        raise SystemExit("the stream was not whole: nothing was measured")


def _best(run: Callable[[], object], rounds: int) -> float:
    """Return the processor time of the best of some rounds; collecting garbage is no part."""
    seconds = []
    for _ in range(rounds):
        gc.collect()
        gc.disable()
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
        gc.enable()
    return min(seconds)


if __name__ == "__main__":
    main()
