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
from aiclient2api.testing.code_assist_answers import (
    CODE_ASSIST_FAULTS,
    CodeAssistAnswer,
    Refusal,
)
from aiclient2api.testing.fake_code_assist import Asked, FakeCodeAssist
from aiclient2api.testing.fake_kiro import (
    KIRO_MODELS,
    KIRO_STREAM_HEAD,
    FakeKiro,
    kiro_refusal,
    kiro_reply,
)
from aiclient2api.testing.fake_kiro_frames import (
    event_stream_message,
    kiro_call,
    kiro_error,
    kiro_event,
    kiro_exception,
    kiro_metadata,
    kiro_text,
    kiro_thought,
    kiro_tool,
    kiro_trifles,
)
from aiclient2api.testing.fake_qwen import QWEN_CLIENT, QWEN_MODELS, FakeQwen, QwenReply
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
    "CODE_ASSIST_FAULTS",
    "KIRO_MODELS",
    "KIRO_STREAM_HEAD",
    "QWEN_CLIENT",
    "QWEN_MODELS",
    "SEAL",
    "STREAM_HEAD",
    "Asked",
    "Blackhole",
    "Call",
    "Chunk",
    "Close",
    "CodeAssistAnswer",
    "Connection",
    "EndChunks",
    "FakeCodeAssist",
    "FakeKiro",
    "FakeQwen",
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
    "QwenReply",
    "Received",
    "Refusal",
    "Reset",
    "Script",
    "ScriptedUpstream",
    "Send",
    "Sent",
    "Step",
    "Wait",
    "chat_body",
    "chat_chunks",
    "event_stream_message",
    "gemini_array",
    "gemini_body",
    "gemini_chunks",
    "json_reply",
    "kiro_call",
    "kiro_error",
    "kiro_event",
    "kiro_exception",
    "kiro_metadata",
    "kiro_refusal",
    "kiro_reply",
    "kiro_text",
    "kiro_thought",
    "kiro_tool",
    "kiro_trifles",
    "messages_body",
    "messages_events",
    "one_account",
    "raw_reply",
    "responses_body",
    "responses_events",
    "sse_reply",
]
