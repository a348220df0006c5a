"""
Answers written and read again, in one dialect: what a client and an upstream would make of it.

The bytes go through the very framers that a relay uses. It knows the dialects only by name
and by their smallest requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from aiclient2api.conversation.events import Event
from aiclient2api.conversation.grammar import Reply, fold
from aiclient2api.conversation.pieces import Pieces
from aiclient2api.conversation.request import Conversation
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.convert import conversation_of
from aiclient2api.dialects.watching import Watcher
from aiclient2api.errors import GatewayError, UpstreamError
from aiclient2api.interfaces import IDialect, IEventDecoder, IEventEncoder, IWireRequest
from aiclient2api.values import HELD_LIMIT, Route, Usage

BY_NAME: dict[str, IDialect] = {dialect.name: dialect for dialect in DIALECTS}
NAMES = tuple(sorted(BY_NAME))
FRAMINGS: dict[str, tuple[str, ...]] = {
    "anthropic-messages": ("sse", "whole"),
    "gemini": ("sse", "json_array", "whole"),
    "openai-chat": ("sse", "whole"),
    "openai-responses": ("sse", "whole"),
}
"""The ways in which an answer of each dialect can be framed."""

_ASKED: dict[str, dict[str, Any]] = {
    "openai-chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "openai-responses": {"model": "m", "input": "hi"},
    "anthropic-messages": {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    },
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
}


def request_of(name: str, framing: str = "sse") -> IWireRequest:
    """Return the smallest request in the dialect *name* whose answer is framed as *framing*."""
    streaming = framing != "whole"
    body = dict(_ASKED[name])
    if name == "gemini":
        route = Route("generate", model="m", streaming=streaming, framing=framing)
    else:
        route = Route("generate")
        body["stream"] = streaming
        if name == "openai-chat" and streaming:
            body["stream_options"] = {"include_usage": True}
    return parsed(name, msgspec.json.encode(body), route)


def parsed(name: str, body: bytes, route: Route) -> IWireRequest:
    """Return *body* as a request in the dialect *name*."""
    request: IWireRequest = BY_NAME[name].parse(body=body, route=route)
    return request


def encoder_of(name: str, framing: str = "sse") -> IEventEncoder:
    """Return a writer of an answer."""
    request = request_of(name, framing)
    conversation: Conversation = conversation_of(request)
    made: IEventEncoder = BY_NAME[name].encoder(
        request=request,
        conversation=conversation,
        model="m",
        make_id=lambda: "0" * 24,
        now=lambda: 1730000000.0,
    )
    return made


def decoder_of(name: str, framing: str = "sse") -> IEventDecoder:
    """Return a reader of an answer."""
    made: IEventDecoder = BY_NAME[name].decoder(request=request_of(name, framing))
    return made


def written(name: str, events: Sequence[Event], framing: str = "sse") -> bytes:
    """Return the answer that *events* make, in the dialect *name*."""
    encoder = encoder_of(name, framing)
    if framing == "whole":
        return encoder.reply(events=events)
    return b"".join(encoder.encode(event=event) for event in events)


class _Gathering:
    """What a `Watcher` takes for the dialect's reader: it decodes, and keeps the events."""

    closed_early = False
    started = True
    complete = False
    failure: UpstreamError | None = None
    usage: Usage | None = None
    reply_id: str | None = None
    kept_ids: tuple[str, ...] = ()

    def __init__(self, decoder: IEventDecoder) -> None:
        self.decoder = decoder
        self.texts: list[str] = []
        self.pieces = Pieces()
        self.events: list[Event] = []
        self.garbled = 0

    def record(self, *, event: bytes, data: bytes) -> bool:
        """Read one record."""
        return self._take(self.decoder.record(event=event, data=data))

    def whole(self, *, body: bytes) -> bool:
        """Read a whole answer."""
        return self._take(self.decoder.whole(body=body))

    def error_frame(self, error: GatewayError) -> bytes:
        """Return nothing: nobody is told."""
        return b""

    def _take(self, events: Sequence[Event] | None) -> bool:
        if events is None:
            self.garbled += 1
            return False
        self.events += events
        return True


def read(name: str, pieces: Iterable[bytes], framing: str = "sse") -> list[Event]:
    """Return the events in the answer that comes in *pieces*, to its clean end."""
    reader = _Gathering(decoder_of(name, framing))
    watcher = Watcher(
        reader=reader,
        request=request_of(name, framing),
        content_type=b"",
        limit=HELD_LIMIT,
        arrays=reader.decoder.arrays,
    )
    for piece in pieces:
        watcher.feed(piece)
    watcher.end()
    if watcher.framing != "whole":
        reader.events += reader.decoder.end()
    return reader.events


def there_and_back(name: str, events: Sequence[Event], framing: str = "sse") -> Reply:
    """
    Return the answer that *events* make, after it was written and read in the dialect *name*.

    :raise GrammarError: if what was read breaks the law.
    """
    return fold(read(name, [written(name, events, framing)], framing))
