"""
Doubles for the tests of this project and of third-party providers.

The one place to import them from: doubles in memory (an upstream, a client's reply,
accounts and their pool, an observer), upstreams over real loopback sockets, the
scripts these play, and well-formed answers of all four dialects::

    from aiclient2api.testing import ScriptedUpstream, chat_chunks, sse_reply

    upstream = ScriptedUpstream([sse_reply(chat_chunks(["Hel", "lo"]))])
    yield upstream.listen(reactor)

They do what the contracts in `aiclient2api.interfaces` say, raise `AssertionError`
where their user breaks one, and never import the reactor.
"""

from __future__ import annotations

from aiclient2api.testing.accounts import FixedLease, FixedPool, one_account
from aiclient2api.testing.memory import (
    HeldThreads,
    MemoryObserver,
    MemoryReply,
    MemoryResponse,
    MemoryUpstream,
    Sent,
)
from aiclient2api.testing.scripts import (
    STREAM_HEAD,
    Chunk,
    Close,
    EndChunks,
    Flood,
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
from aiclient2api.testing.sockets import Blackhole, Connection, Received, ScriptedUpstream
from aiclient2api.testing.streams import (
    SEAL,
    Call,
    chat_body,
    chat_chunks,
    gemini_array,
    gemini_body,
    gemini_chunks,
    messages_body,
    messages_events,
    responses_body,
    responses_events,
)

__all__ = [
    "SEAL",
    "STREAM_HEAD",
    "Blackhole",
    "Call",
    "Chunk",
    "Close",
    "Connection",
    "EndChunks",
    "FixedLease",
    "FixedPool",
    "Flood",
    "Head",
    "HeldThreads",
    "Hold",
    "MemoryObserver",
    "MemoryReply",
    "MemoryResponse",
    "MemoryUpstream",
    "Received",
    "Reset",
    "Script",
    "ScriptedUpstream",
    "Send",
    "Sent",
    "Step",
    "Wait",
    "chat_body",
    "chat_chunks",
    "gemini_array",
    "gemini_body",
    "gemini_chunks",
    "json_reply",
    "messages_body",
    "messages_events",
    "one_account",
    "raw_reply",
    "responses_body",
    "responses_events",
    "sse_reply",
]
