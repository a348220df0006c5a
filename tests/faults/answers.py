"""
What upstreams say in each of the four dialects, well and badly: the lines of the fake.

`PLAYS` has everything that one attempt may be answered with, by name. Nothing here says
what a client is to get of it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

import attrs

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
    json_reply,
    raw_reply,
    sse_reply,
)
from aiclient2api.values import Headers, Usage
from tests.live.gateway import PROVIDERS
from tests.live.sdk import Answer, Sdk
from tests.live.test_sdk_anthropic import AnthropicSdk
from tests.live.test_sdk_google import GoogleSdk
from tests.live.test_sdk_openai_chat import ChatSdk
from tests.live.test_sdk_openai_responses import ResponsesSdk

SPEAKERS: Mapping[str, Sdk] = {
    "chat": ChatSdk(),
    "responses": ResponsesSdk(),
    "messages": AnthropicSdk(),
    "gemini": GoogleSdk(),
}
"""The dialects by the short names that this suite has for them."""

DIALECTS = {name: PROVIDERS[sdk.provider][0] for name, sdk in SPEAKERS.items()}
"""What the gateway calls them."""

PIECES = ("Grüße, ", "世界\u2028é")
NO_PREFILL = "This model does not support assistant message prefill."
CUT = "cut"
SEEDS = 1000
"""Each attempt of a cell has a seed of its own; those of the next cell are so many further."""
SLOW = 0.6
"""Seconds until the first token of an upstream that is slow, and in time."""

HTML = b"<html>\n\n<body>\n\n<h1>502 Bad Gateway</h1>nginx\n\n</body></html>\n"
GARBAGE = b'data: {"broken\n\n'


def answer(who: str, finish: str = "stop") -> Answer:
    """Return the answer of one account: no two accounts give the same, nor count the same."""
    number = "abcdefgw".index(who)
    usage = Usage(input=20 + number, output=9 + number, cached=5, cache_write=2, reasoning=4)
    return Answer((*PIECES, f"😀 says {who}."), finish=finish, usage=usage)


@attrs.frozen
class Asked:
    """
    One attempt that is to be answered.

    :ivar speaker: The dialect's short name.
    :ivar who: The account, by its letter.
    :ivar prefilled: True if the answer is to go on from a beginning.
    :ivar seed: Of everything that is left to chance.
    """

    speaker: str
    who: str
    streamed: bool
    prefilled: bool = False
    seed: int = 0

    @property
    def sdk(self) -> Sdk:
        """Return the dialect's table."""
        return SPEAKERS[self.speaker]

    def frames(self, finish: str = "stop") -> list[bytes]:
        """Return the good answer as a stream, or as a body of one piece."""
        told = answer(self.who, finish)
        return self.sdk.frames(told) if self.streamed else [self.sdk.body(told)]

    def begun(self) -> list[bytes]:
        """Return the frames up to the second piece of text; of a whole body, the half."""
        frames = self.frames()
        if not self.streamed:
            return [frames[0][: len(frames[0]) // 2]]
        mark = PIECES[1].encode()
        return frames[: next(at for at, frame in enumerate(frames) if mark in frame) + 1]

    def bare(self) -> list[bytes]:
        """Return the frames before the first real event."""
        return self.frames()[: self.sdk.handshake] if self.streamed else []

    def head(self, *more: tuple[bytes, bytes]) -> Head:
        """Return the head of a 200."""
        kind = b"text/event-stream" if self.streamed else b"application/json"
        return Head(200, ((b"content-type", kind), *more))

    def chunked(self, pieces: Sequence[bytes], *ends: Step) -> Script:
        """Send pieces, a chunk each, and end as told."""
        head = self.head((b"transfer-encoding", b"chunked"))
        return (head, *map(Chunk, pieces), *ends)

    def error(self, kind: str) -> tuple[int, dict[str, Any]]:
        """Return status and body of an error."""
        return _ERRORS[self.speaker](kind)

    def error_record(self, kind: str) -> bytes:
        """Return the record that tells of an error in the middle of a 200."""
        told = self.error(kind)[1]
        if self.speaker == "responses":
            inner = told["error"]
            told = {"type": "error", "sequence_number": 9, "param": None, **inner}
            told["type"] = "error"
        body = json.dumps(told).encode()
        if not self.streamed:
            return json.dumps(self.error(kind)[1]).encode()
        named = self.speaker in ("responses", "messages")
        return (b"event: error\n" if named else b"") + b"data: " + body + b"\n\n"


# --- errors, in the words of those who tell them --------------------------------------

_MESSAGES = {
    "limited": "Slow down.",
    "broken": "The server had an error.",
    "busy": "We are overloaded.",
}


def _openai(kind: str) -> tuple[int, dict[str, Any]]:
    status, type_, code, message = {
        "limited": (429, "requests", "rate_limit_exceeded", ""),
        "broken": (500, "server_error", None, ""),
        "busy": (503, "service_unavailable_error", None, ""),
        "context": (
            400,
            "invalid_request_error",
            "context_length_exceeded",
            "This model's maximum context length is 8192 tokens. However, you asked for 9000.",
        ),
        "filter": (
            400,
            "invalid_request_error",
            "content_filter",
            "The response was filtered due to the prompt triggering the content policy.",
        ),
        "prefill": (400, "invalid_request_error", None, NO_PREFILL),
    }[kind]
    told = {"message": message or _MESSAGES[kind], "type": type_, "param": None, "code": code}
    return status, {"error": told}


def _anthropic(kind: str) -> tuple[int, dict[str, Any]]:
    status, type_, message = {
        "limited": (429, "rate_limit_error", ""),
        "broken": (500, "api_error", ""),
        "busy": (503, "overloaded_error", ""),
        "context": (
            400,
            "invalid_request_error",
            "prompt is too long: 210000 tokens > 200000 maximum",
        ),
        "filter": (400, "invalid_request_error", "Output blocked by content filtering policy"),
        "prefill": (400, "invalid_request_error", NO_PREFILL),
    }[kind]
    told = {"type": type_, "message": message or _MESSAGES[kind]}
    return status, {"type": "error", "error": told, "request_id": "req_test"}


def _google(kind: str) -> tuple[int, dict[str, Any]]:
    status, name, message = {
        "limited": (429, "RESOURCE_EXHAUSTED", ""),
        "broken": (500, "INTERNAL", ""),
        "busy": (503, "UNAVAILABLE", ""),
        "context": (
            400,
            "INVALID_ARGUMENT",
            "The input token count (1200000) exceeds the maximum number of tokens allowed.",
        ),
        "prefill": (400, "INVALID_ARGUMENT", NO_PREFILL),
    }[kind]
    return status, {
        "error": {"code": status, "message": message or _MESSAGES[kind], "status": name}
    }


_ERRORS: Mapping[str, Callable[[str], tuple[int, dict[str, Any]]]] = {
    "chat": _openai,
    "responses": _openai,
    "messages": _anthropic,
    "gemini": _google,
}


# --- what one attempt may be answered with --------------------------------------------


def _good(asked: Asked, finish: str = "stop") -> Script:
    frames = asked.frames(finish)
    return sse_reply(frames) if asked.streamed else raw_reply(200, frames[0])


def _refusing(kind: str, *headers: tuple[bytes, bytes]) -> Callable[[Asked], Script]:
    def refuse(asked: Asked) -> Script:
        status, body = asked.error(kind)
        return json_reply(status, body, headers)

    return refuse


def _hinting(seconds: int) -> Callable[[Asked], Script]:
    return _refusing("limited", (b"retry-after", b"%d" % seconds))


def _slow(asked: Asked) -> Script:
    """Send the head, and the rest a while later."""
    bare = asked.bare()
    rest = asked.frames()[len(bare) :]
    return (*asked.chunked(bare, Wait(SLOW)), *map(Chunk, rest), EndChunks())


def _garbled(asked: Asked, frames: Sequence[bytes]) -> Script:
    """Send *frames* with a record that is no JSON behind them, and the rest of the answer."""
    if not asked.streamed:
        return raw_reply(200, b'{"id": nonsense}')
    rest = asked.frames()[len(frames) :]
    return asked.chunked([*frames, GARBAGE, *rest], EndChunks())


def _unterminated(asked: Asked) -> Script:
    """Leave out what follows the semantic end; of who has nothing there, the end itself."""
    frames = asked.frames()
    kept = {"chat": len(frames) - 1, "messages": len(frames) - 1}
    return sse_reply(frames[: kept.get(asked.speaker, len(frames) - asked.sdk.tail)])


def _filtered(asked: Asked) -> Script:
    """Refuse the prompt itself, as each vendor does."""
    if asked.speaker != "gemini":
        return _refusing("filter")(asked)
    told = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 20, "totalTokenCount": 20},
        "modelVersion": "test-model",
        "responseId": "test",
    }
    body = json.dumps(told).encode()
    return sse_reply([b"data: " + body + b"\r\n\r\n"]) if asked.streamed else raw_reply(200, body)


def _unprefilled(asked: Asked) -> Script:
    """Answer well, but go on from no beginning."""
    return _refusing("prefill")(asked) if asked.prefilled else _good(asked)


def _another(asked: Asked) -> Script:
    """Answer something else, and go on from no beginning."""
    if asked.prefilled:
        return _refusing("prefill")(asked)
    return sse_reply([frame.replace("Grüße".encode(), b"Salve") for frame in asked.frames()])


def _error_first(kind: str) -> Callable[[Asked], Script]:
    def play(asked: Asked) -> Script:
        record = asked.error_record(kind)
        if not asked.streamed:
            return raw_reply(200, record)
        return asked.chunked([*asked.bare(), record], EndChunks())

    return play


def _error_mid(asked: Asked) -> Script:
    """Tell of an error in the middle; what follows looks like an end, and is none."""
    begun = asked.begun()
    rest = asked.frames()[len(begun) :]
    return asked.chunked([*begun, asked.error_record("busy"), *rest], EndChunks())


def _gzip(asked: Asked) -> Script:
    packed = gzip.compress(b"".join(asked.frames()))
    head = asked.head((b"transfer-encoding", b"chunked"), (b"content-encoding", b"gzip"))
    at = Random(asked.seed).randrange(1, len(packed))
    return (head, Chunk(packed[:at]), Chunk(packed[at:]), EndChunks())


def _gzip_cut(asked: Asked) -> Script:
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    packed = packer.compress(b"".join(asked.begun())) + packer.flush(zlib.Z_SYNC_FLUSH)
    head = asked.head((b"transfer-encoding", b"chunked"), (b"content-encoding", b"gzip"))
    return (head, Chunk(packed), EndChunks())


def _short(asked: Asked) -> Script:
    length = b"%d" % sum(map(len, asked.frames()))
    return (asked.head((b"content-length", length)), Send(b"".join(asked.begun())), Close())


def _longer(asked: Asked) -> Script:
    """Send all of the answer and promise more: nobody can know that it was all."""
    frames = asked.frames()
    length = b"%d" % (sum(map(len, frames)) + 7)
    return (asked.head((b"content-length", length)), Send(b"".join(frames)), Close())


def _split(asked: Asked) -> Script:
    """Send most bytes of characters that have several in a read of their own."""
    data, start = b"".join(asked.frames()), 0
    steps: list[Step] = []
    random = Random(asked.seed)
    for at in (each for each in _inside(data) if random.random() < 0.75):
        steps += [Chunk(data[start:at]), Wait(0.001)]
        start = at
    return asked.chunked([], *steps, Chunk(data[start:]), EndChunks())


def _split_once(asked: Asked) -> Script:
    """Send all of it in two reads that divide one character; each seed another one."""
    data = b"".join(asked.frames())
    places = list(_inside(data))
    at = places[asked.seed // SEEDS % len(places)]
    return asked.chunked([data[:at]], Wait(0.01), Chunk(data[at:]), EndChunks())


def _inside(data: bytes) -> Iterator[int]:
    """Yield all places within characters of several bytes."""
    return (at for at, byte in enumerate(data) if byte & 0xC0 == 0x80)


PLAYS: Mapping[str, Callable[[Asked], Script]] = {
    "good": _good,
    "429": _refusing("limited"),
    "429, back in 1": _hinting(1),
    "429, back in 60": _hinting(60),
    "500": _refusing("broken"),
    "503": _refusing("busy"),
    "reset": lambda asked: (Reset(),),
    "silence": lambda asked: (Hold(),),
    "head only": lambda asked: asked.chunked(asked.bare(), Hold()),
    "slow": _slow,
    CUT: lambda asked: asked.chunked(asked.begun(), Close()),
    "cut early": lambda asked: asked.chunked(asked.bare(), Close()),
    "stall": lambda asked: asked.chunked(asked.begun(), Hold()),
    "garbage first": lambda asked: _garbled(asked, asked.bare()),
    "garbage": lambda asked: _garbled(asked, asked.begun()),
    "unterminated": _unterminated,
    "too long": _refusing("context"),
    "filtered": _filtered,
    "filtered midway": lambda asked: _good(asked, "filtered"),
    "no prefill": _unprefilled,
    "another, no prefill": _another,
    "limited first": _error_first("limited"),
    "busy first": _error_first("busy"),
    "busy midway": _error_mid,
    "gzip": _gzip,
    "gzip cut": _gzip_cut,
    "html": lambda asked: raw_reply(502, HTML, content_type=b"text/html"),
    "short": _short,
    "short by its end": _longer,
    "split": _split,
    "split once": _split_once,
}


SPOKEN = frozenset({"short by its end"})
"""What sends all of the text, though it does not end well."""
COUNTED = frozenset(
    {
        CUT,
        "head only",
        "cut early",
        "garbage first",
        "limited first",
        "busy first",
    }
)
"""What sends the start of an answer, where Anthropic's counts the prompt, and no whole answer."""


def hint(play: str) -> float | None:
    """Return the seconds in which an upstream says that it is back, if it says so."""
    _, _, seconds = play.partition(", back in ")
    return float(seconds) if seconds else None


def key_of(headers: Headers) -> str:
    """Return the key that a request to an upstream came with."""
    named = dict(headers)
    for name in (b"x-api-key", b"x-goog-api-key", b"authorization"):
        if name in named:
            return named[name].decode().removeprefix("Bearer ")
    return ""
