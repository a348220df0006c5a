"""
Clients that leave, and upstreams that count what they sent until they saw it.

An `Abort` is one client: what it asks, of whom, and what became of it. Its upstream sends
one token a record, in its own dialect, and tells of tokens as real ones do: some at the
end only, some the prompt at the start, some with every record. Nothing here knows in which
phase anybody leaves, nor what is right.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import attrs

from aiclient2api.testing import (
    STREAM_HEAD,
    Chunk,
    Connection,
    Hold,
    Received,
    Script,
    Step,
    Wait,
    chat_chunks,
    gemini_chunks,
    messages_events,
    responses_events,
)
from aiclient2api.values import Usage
from tests.live.gateway import PROVIDERS, LiveGateway, Wire

WORDS = (" time", " word", " house", " water", " people", " little", " garden", " under")
"""Each is one token to every vocabulary in use, and none is part of a dialect's own words."""

PROMPT = 30
"""Tokens of every prompt, as upstreams that tell tell."""

GAP = 0.02
"""Seconds between two tokens."""

_NUMBER = re.compile(rb"m-([0-9]+)x")
_SPOKEN = re.compile(b"|".join(word.strip().encode() for word in WORDS))


def _fin(wire: Wire) -> None:
    wire.transport.loseConnection()  # type: ignore[union-attr]


def _rst(wire: Wire) -> None:
    wire.abort()


def _half(wire: Wire) -> None:
    wire.transport.loseWriteConnection()  # type: ignore[union-attr]


LEAVING: Sequence[Callable[[Wire], None]] = (_fin, _rst, _half)
"""Politely, by a break, and only the sending half."""


@attrs.define(eq=False)
class Abort:
    """
    One client that leaves.

    :ivar dialect: What it speaks.
    :ivar provider: Whom it asks.
    :ivar tells: Whether its upstream tells of tokens before the end.
    :ivar goal: Tokens after which it leaves.
    :ivar sent: Tokens that its upstream has sent until now, or until it saw the close.
    :ivar connection: The upstream's end, once it was asked.
    :ivar left: Reactor seconds.
    :ivar stood_still: Seconds for which this process had waited for a processor by then.
    """

    number: int
    dialect: str
    provider: str
    tells: bool
    goal: int
    streaming: bool = True
    sent: int = 0
    asked: int = 0
    connection: Connection | None = None
    left: float = 0.0
    stood_still: float = 0.0
    wire: Wire | None = None

    @property
    def model(self) -> str:
        """Return what it asks for."""
        return f"{self.provider}:m-{self.number}x"

    @property
    def target(self) -> str:
        """Return the dialect that its upstream speaks."""
        return PROVIDERS[self.provider][0]

    @property
    def received(self) -> int:
        """Return how many tokens have reached it."""
        return 0 if self.wire is None else len(_SPOKEN.findall(bytes(self.wire.received)))

    def request(self, key: str, image: str | None = None) -> bytes:
        """Return the request, head and body; with a picture to look at, if there is one."""
        target, body = self._asked(image)
        data = json.dumps(body).encode()
        head = (
            f"POST {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data

    def _asked(self, image: str | None) -> tuple[str, dict[str, Any]]:
        said = "Tell me of the house by the water."
        asked: dict[str, Any] = {"model": self.model, "stream": self.streaming}
        match self.dialect:
            case "gemini":
                verb = "streamGenerateContent?alt=sse" if self.streaming else "generateContent"
                contents = [{"role": "user", "parts": [{"text": said}]}]
                return f"/v1beta/models/{self.model}:{verb}", {"contents": contents}
            case "openai-responses":
                parts = [{"type": "input_text", "text": said}]
                if image:
                    parts.append({"type": "input_image", "image_url": image})
                return "/v1/responses", {**asked, "input": [{"role": "user", "content": parts}]}
            case "anthropic-messages":
                content: list[dict[str, Any]] = [{"type": "text", "text": said}]
                if image:
                    source = {"type": "url", "url": image}
                    content.append({"type": "image", "source": source})
                messages = [{"role": "user", "content": content}]
                return "/v1/messages", {**asked, "max_tokens": 999, "messages": messages}
        content = [{"type": "text", "text": said}]
        if image:
            content.append({"type": "image_url", "image_url": {"url": image}})
        messages = [{"role": "user", "content": content}]
        return "/v1/chat/completions", {**asked, "messages": messages}


Play = Callable[[Abort], Iterator[Step]]
"""What an upstream does for one client, step by step, counting what it sends."""


@attrs.define
class Crowd:
    """
    Clients of one gateway, for each pair of dialects in turn.

    :ivar play: What upstreams do.
    :ivar strangers: Requests of nobody in the crowd.
    """

    gateway: LiveGateway
    play: Play
    aborts: dict[int, Abort] = attrs.field(factory=dict)
    strangers: list[Received] = attrs.field(factory=list)

    def add(self, count: int, rng: random.Random, **changes: Any) -> list[Abort]:
        """Make so many clients."""
        providers = list(PROVIDERS)
        dialects = [PROVIDERS[name][0] for name in providers]
        for number in range(count):
            pair = number % 16
            self.aborts[number] = Abort(
                number=number,
                dialect=dialects[pair // 4],
                provider=changes.get("provider") or providers[pair % 4],
                tells=bool(number // 16 % 2),
                goal=rng.randint(4, 40),
                streaming=changes.get("streaming", True),
            )
        return list(self.aborts.values())

    def answer(self, request: Received) -> Script:
        """Be the upstream of whoever asks."""
        found = _NUMBER.search(request.target.encode()) or _NUMBER.search(request.body)
        if found is None:
            self.strangers.append(request)
            return (Hold(),)
        abort = self.aborts[int(found[1])]
        abort.connection = request.connection
        abort.asked += 1
        # Whoever plays it takes one step after the other.
        return cast(Script, self.play(abort))


def frames(abort: Abort) -> Iterator[tuple[bytes, bool]]:
    """Yield the records of an answer without end, and whether there is a token in each."""
    told = Usage(input=PROMPT, output=1)
    make = partial(_STREAMS[abort.target], [WORDS[0]])
    stream = make(usage=told) if abort.tells or abort.target == "anthropic-messages" else make()
    first = next(at for at, frame in enumerate(stream) if WORDS[0].encode() in frame)
    yield from ((frame, False) for frame in stream[:first])
    count = 0
    while True:
        word = WORDS[count % len(WORDS)]
        count += 1
        if abort.target == "gemini":
            yield _gemini(word, count if abort.tells else None), True
        else:
            yield stream[first].replace(WORDS[0].encode(), word.encode()), True


def tokens(abort: Abort, *, most: int = 1000, gap: float = GAP) -> Iterator[Step]:
    """Send tokens, and count them."""
    yield STREAM_HEAD
    for frame, token in frames(abort):
        if abort.sent >= most:
            return
        abort.sent += token
        yield Chunk(frame)
        if token:
            yield Wait(gap)


def _gemini(word: str, count: int | None) -> bytes:
    content = {"role": "model", "parts": [{"text": word}]}
    chunk: dict[str, Any] = {"candidates": [{"index": 0, "content": content}]}
    if count is not None:
        chunk["usageMetadata"] = {"promptTokenCount": PROMPT, "candidatesTokenCount": count}
    return b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n"


_STREAMS: dict[str, Callable[..., list[bytes]]] = {
    "openai-chat": chat_chunks,
    "openai-responses": responses_events,
    "anthropic-messages": messages_events,
    "gemini": gemini_chunks,
}
