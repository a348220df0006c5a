"""
Good answers of every dialect and framing, and every way an upstream can spoil them.

`ROWS` are the good answers, record by record; `FAULTS` turns one into the script of an
upstream. Nothing here says what a client is to get of it.
"""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import msgspec

from aiclient2api.testing import (
    Chunk,
    Close,
    EndChunks,
    Head,
    Hold,
    Reset,
    Script,
    Send,
    Step,
    Wait,
    chat_body,
    chat_chunks,
    gemini_array,
    gemini_body,
    gemini_chunks,
    messages_body,
    messages_events,
    raw_reply,
    responses_body,
    responses_events,
)

PIECES = ["Grüße\u2028", "世\u0085界", "😀 and so on"]
TEXT = "".join(PIECES)
MESSAGE = "Slow down."
HTML = b"<html>\n\n<body>\n\nWelcome to the hotel network.\n\n</body></html>\n"
SOON = 0.3
"""Seconds of the clocks that are to run out."""

LATER = 0.5
"""Seconds after which what was sent before has been read: a reset would discard it."""


@attrs.frozen
class Row:
    """
    A good answer of one dialect in one framing, record by record.

    :ivar records: In order; one after the other they are the whole body.
    :ivar first: Index of the first real event.
    :ivar end: Index of the record with the semantic end.
    :ivar error: The record by which an upstream tells of an error.
    :ivar refusal: The body it sends with an error status.
    """

    dialect: str
    framing: str
    provider: str
    path: str
    request: dict[str, Any]
    records: tuple[bytes, ...]
    first: int
    end: int
    error: bytes
    refusal: bytes

    @property
    def name(self) -> str:
        """Return what to call it in a failure."""
        return f"{self.dialect} {self.framing}"

    @property
    def body(self) -> bytes:
        """Return all of it."""
        return b"".join(self.records)

    @property
    def middle(self) -> int:
        """Return how many records are shown where a fault is in the middle."""
        return self.first + 2

    @property
    def shown(self) -> bytes:
        """Return the records before a fault in the middle."""
        return b"".join(self.records[: self.middle])

    @property
    def content_type(self) -> bytes:
        """Return what the upstream calls it."""
        return b"text/event-stream" if self.framing == "sse" else b"application/json"


def _rows() -> list[Row]:
    """Return one row for each dialect and framing."""
    chat_error = {"message": MESSAGE, "type": "requests", "code": "rate_limit_exceeded"}
    messages_error = {"type": "error", "error": {"type": "rate_limit_error", "message": MESSAGE}}
    gemini_error = {"error": {"code": 429, "message": MESSAGE, "status": "RESOURCE_EXHAUSTED"}}
    gemini_path = "/v1beta/models/m-1:"
    chat: dict[str, Any] = {"model": "m-1", "messages": []}
    responses: dict[str, Any] = {"model": "m-1", "input": "hi"}
    gemini: dict[str, Any] = {"contents": []}

    def two(
        dialect: str,
        provider: str,
        paths: tuple[str, str],
        request: dict[str, Any],
        stream: Sequence[bytes],
        ends: tuple[int, int],
        errors: tuple[bytes, object],
        whole: bytes,
    ) -> list[Row]:
        """Return the row of a stream and the row of the same answer in one piece."""
        refusal = json.dumps(errors[1]).encode()
        record = errors[0] + b"\n\n"
        asked = request if dialect == "gemini" else {**request, "stream": True}
        return [
            Row(dialect, "sse", provider, paths[0], asked, tuple(stream), *ends, record, refusal),
            Row(dialect, "whole", provider, paths[1], request, (whole,), 0, 0, refusal, refusal),
        ]

    stream = chat_chunks(PIECES)
    rows = two(
        "openai-chat",
        "openai-custom",
        ("/v1/chat/completions",) * 2,
        chat,
        stream,
        (1, len(stream) - 2),
        (b"data: " + json.dumps({"error": chat_error}).encode(), {"error": chat_error}),
        chat_body(TEXT),
    )
    stream = responses_events(PIECES)
    event = {"type": "error", **{key: chat_error[key] for key in ("code", "message")}}
    rows += two(
        "openai-responses",
        "openaiResponses-custom",
        ("/v1/responses",) * 2,
        responses,
        stream,
        (2, len(stream) - 1),
        (b"event: error\ndata: " + json.dumps(event).encode(), {"error": chat_error}),
        responses_body(TEXT),
    )
    stream = messages_events(PIECES)
    rows += two(
        "anthropic-messages",
        "claude-custom",
        ("/v1/messages",) * 2,
        {**chat, "max_tokens": 9},
        stream,
        (2, len(stream) - 2),
        (b"event: error\ndata: " + json.dumps(messages_error).encode(), messages_error),
        messages_body(TEXT),
    )
    stream = gemini_chunks(PIECES)
    told = json.dumps(gemini_error).encode()
    rows += two(
        "gemini",
        "gemini-custom",
        (f"{gemini_path}streamGenerateContent?alt=sse", f"{gemini_path}generateContent"),
        gemini,
        stream,
        (0, len(stream) - 1),
        (b"data: " + told, gemini_error),
        gemini_body(TEXT),
    )
    elements = [gemini_array([frame])[1:-1] for frame in stream]
    array = (b"[" + elements[0], *(b",\r\n" + each for each in elements[1:]), b"]")
    path = f"{gemini_path}streamGenerateContent"
    rows.append(Row("gemini", "json_array", "gemini-custom", path, gemini, array, 0, 3, told, told))
    return rows


ROWS = _rows()


# --- what an upstream does ----------------------------------------------------


@attrs.frozen
class Answer:
    """
    What the upstream sends, and how much of it a client may see.

    :ivar shown: None: nothing at all.
    :ivar filler: May follow any number of times.
    """

    script: Script
    shown: bytes | None = None
    filler: bytes = b""


def _head(row: Row, *more: tuple[bytes, bytes]) -> Head:
    return Head(200, ((b"content-type", row.content_type), *more))


def _chunked(row: Row, *more: tuple[bytes, bytes]) -> Head:
    return _head(row, (b"transfer-encoding", b"chunked"), *more)


def _pieces(row: Row, pieces: Sequence[bytes], *ends: Step) -> Answer:
    """Send pieces, a chunk each, and end as told; all of it may be seen."""
    script = (_chunked(row), *map(Chunk, pieces), *ends)
    return Answer(script, b"".join(pieces))


def _partly(row: Row, *ends: Step) -> Answer:
    """Send the first half and end as told; only whole records may be seen."""
    if row.framing == "whole":
        half = row.body[: len(row.body) // 2]
        return Answer((_chunked(row), Chunk(half), *ends))
    return _pieces(row, row.records[: row.middle], *ends)


def _bare(row: Row, *ends: Step) -> Answer:
    """Send what comes before the first real event."""
    records = row.records[: row.first] if row.framing == "sse" else ()
    return Answer((_chunked(row), *map(Chunk, records), *ends))


def _comments(row: Row) -> tuple[bytes, ...]:
    if row.framing != "sse":
        return (b"\n", b" \r\n")
    pings = (b": keep-alive\n\n", b":\n\n")
    return (*pings, b'event: ping\ndata: {"type": "ping"}\n\n') if "messages" in row.name else pings


def _pretty(row: Row) -> bytes:
    if row.framing == "sse":
        return row.body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return msgspec.json.format(row.body, indent=2).replace(b"\n", b"\r\n")


def _replaced(row: Row, new: bytes) -> Answer:
    """Send the answer with its first letters replaced."""
    pieces = [record.replace("Grüße".encode(), new) for record in row.records]
    assert b"".join(pieces) != row.body
    return _pieces(row, pieces, EndChunks())


def _split(row: Row) -> Answer:
    """Send every multi-byte character of the text in a read of its own for each byte."""
    steps: list[Step] = []
    for record in row.records:
        marks = [at for at in range(1, len(record)) if record[at] & 0xC0 == 0x80]
        for start, end in itertools.pairwise([0, *marks[:6], len(record)]):
            steps += [Chunk(record[start:end]), Wait(0.002)]
    return Answer((_chunked(row), *steps, EndChunks()), row.body)


def _garbage(row: Row) -> Answer:
    if row.framing == "whole":
        return Answer(raw_reply(200, b'{"id": nonsense}'))
    if row.framing == "sse":
        odd = b'data: {"broken\n\nnonsense line\n\nevent: odd\ndata\n\ndata: [1, 2\n\n'
    else:
        odd = b',\r\n{"a" nonsense}'
    pieces = [*row.records[: row.middle], odd, *row.records[row.middle :]]
    return _pieces(row, pieces, EndChunks())


def _error_mid(row: Row, at: int) -> Answer:
    error = b",\r\n" + row.error if row.framing == "json_array" else row.error
    shown = b"".join(row.records[:at]) + error
    pieces = (Chunk(b"".join(row.records[:at])), Wait(LATER), Chunk(error))
    # What comes behind the error looks like an end, and must not be seen.
    return Answer((_chunked(row), *pieces, *map(Chunk, row.records[at:]), EndChunks()), shown)


def _error_first(row: Row) -> Answer:
    if row.framing == "whole":
        return Answer(raw_reply(200, row.error))
    if row.framing == "json_array":
        return Answer(_pieces(row, [b"[" + row.error, b"]"], EndChunks()).script)
    pieces = [*row.records[: row.first], row.error, *row.records[row.first :]]
    return Answer(_pieces(row, pieces, EndChunks()).script)


def _no_terminator(row: Row) -> Answer:
    end = row.end + 1 if row.framing == "sse" else row.end
    return _pieces(row, row.records[:end], EndChunks())


def _mid_record(row: Row) -> Answer:
    half = row.records[row.middle]
    answer = _partly(row, Chunk(half[: len(half) // 2]), EndChunks())
    return answer


def _gzip(row: Row) -> Answer:
    packed = gzip.compress(row.body)
    head = _chunked(row, (b"content-encoding", b"gzip"))
    return Answer((head, Chunk(packed[:20]), Chunk(packed[20:]), EndChunks()), row.body)


def _gzip_cut(row: Row) -> Answer:
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    shown = row.shown if row.framing != "whole" else row.body[:-9]
    packed = packer.compress(shown) + packer.flush(zlib.Z_SYNC_FLUSH)
    head = _chunked(row, (b"content-encoding", b"gzip"))
    return Answer((head, Chunk(packed), EndChunks()), None if row.framing == "whole" else shown)


def _until_close(row: Row, body: bytes) -> Answer:
    return Answer((_head(row, (b"connection", b"close")), Send(body), Close()), body)


def _until_close_cut(row: Row) -> Answer:
    shown = row.shown if row.framing != "whole" else row.body[:-9]
    answer = _until_close(row, shown)
    return attrs.evolve(answer, shown=None) if row.framing == "whole" else answer


def _until_close_reset(row: Row) -> Answer:
    """Send everything: but a reset is no close, so nobody can know that it was."""
    script = (_head(row), Send(row.body), Wait(LATER), Reset())
    return Answer(script, None if row.framing == "whole" else row.body)


def _short(row: Row) -> Answer:
    shown = row.shown if row.framing != "whole" else row.body[:-9]
    script = (_head(row, (b"content-length", b"%d" % len(row.body))), Send(shown), Close())
    return Answer(script, None if row.framing == "whole" else shown)


def _broken_chunk(row: Row) -> Answer:
    return _partly(row, Send(b"what?\r\nnot a chunk\r\n"), Hold())


def _error_status(row: Row) -> Answer:
    headers = ((b"retry-after", b"77"), (b"x-request-id", b"req-1"), (b"set-cookie", b"a=b"))
    return Answer(raw_reply(429, row.refusal, headers=headers), row.refusal)


def _other_framing(row: Row) -> Answer:
    """Send a whole answer to who asked for a stream, and the reverse."""
    other = "sse" if row.framing == "whole" else "whole"
    theirs = next(r for r in ROWS if r.dialect == row.dialect and r.framing == other)
    return _pieces(theirs, theirs.records, EndChunks())


def _mislabelled(row: Row) -> Answer:
    """Send what was asked for, under a wrong name."""
    name = b"application/json" if row.framing == "sse" else b"text/plain"
    return Answer((Head(200, ((b"content-type", name),)), Send(row.body), Close()), row.body)


def _with_comments(row: Row) -> Answer:
    more = _comments(row)
    if row.framing == "sse":
        each = [piece for record in row.records for piece in (*more, record)]
        return _pieces(row, [*each, *more], EndChunks())
    return _pieces(row, [*more, *row.records, *more], EndChunks())


def _only_comments(row: Row, answer: Answer) -> Answer:
    """Keep sending comments: they are no events. Blank space is none either."""
    more = [step for _ in range(12) for step in (Chunk(_comments(row)[0]), Wait(SOON / 4))]
    filler = _comments(row)[0] if row.framing == "sse" else b""
    return Answer((*answer.script, *more, Hold()), answer.shown, filler)


FAULTS: dict[str, Callable[[Row], Answer]] = {
    "good": lambda row: _pieces(row, row.records, EndChunks()),
    "comments and pings": _with_comments,
    "crlf": lambda row: _pieces(row, [_pretty(row)], EndChunks()),
    "split characters": _split,
    "a huge record": lambda row: _replaced(row, b"long" * 500_000),
    "lone surrogates": lambda row: _replaced(row, rb"\ud83d"),
    "bad utf-8": lambda row: _replaced(row, b"Gr\xfc\xdfe\xff"),
    "garbage mid-stream": _garbage,
    "no terminator": _no_terminator,
    "until close": lambda row: _until_close(row, row.body),
    "gzip": _gzip,
    "not the framing asked for": _other_framing,
    "not the type it says": _mislabelled,
    "loose json": lambda row: _replaced(row, b"a\tb\x01"),
    "error status": _error_status,
    "error status, html": lambda row: Answer(raw_reply(503, HTML, content_type=b"text/html")),
    "error first": _error_first,
    "error mid-stream": lambda row: _error_mid(row, row.middle),
    "error after the end": lambda row: _error_mid(
        row, row.end + 1 if row.framing == "sse" else row.end
    ),
    "empty": lambda row: Answer(raw_reply(200, b"", content_type=row.content_type)),
    "html": lambda row: Answer(raw_reply(200, HTML, content_type=b"text/html")),
    "end before first": lambda row: _bare(row, EndChunks()),
    "end mid-stream": lambda row: _partly(row, EndChunks()),
    "end mid-record": _mid_record,
    "gzip cut": _gzip_cut,
    "until close, cut": _until_close_cut,
    "until close, reset": _until_close_reset,
    "reset before headers": lambda row: Answer((Reset(),)),
    "close before headers": lambda row: Answer((Close(),)),
    "reset before first": lambda row: _bare(row, Wait(LATER), Reset()),
    "reset mid-stream": lambda row: _partly(row, Wait(LATER), Reset()),
    "reset at the end": lambda row: _at_the_end(row, Wait(LATER), Reset()),
    "no last chunk": lambda row: _at_the_end(row, Close()),
    "short of its length": _short,
    "a broken chunk": _broken_chunk,
    "stall before headers": lambda row: Answer((Hold(),)),
    "stall before first": lambda row: _bare(row, Hold()),
    "stall mid-stream": lambda row: _partly(row, Hold()),
    "comments only": lambda row: _only_comments(row, _bare(row)),
    "comments only, mid-stream": lambda row: _only_comments(row, _partly(row)),
}


def _at_the_end(row: Row, *ends: Step) -> Answer:
    """Send everything but the last chunk: nobody can know that it was everything."""
    answer = _pieces(row, row.records, *ends)
    return attrs.evolve(answer, shown=None) if row.framing == "whole" else answer
