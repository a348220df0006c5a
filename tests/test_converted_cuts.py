"""A converted stream that is cut at any byte: never an end that the upstream did not give."""

from __future__ import annotations

import time
from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.convert import conversation_of, translated, written
from aiclient2api.interfaces import IDialect, IWatcher
from aiclient2api.testing import (
    Call,
    chat_chunks,
    gemini_chunks,
    messages_events,
    responses_events,
)
from tests.test_convert import request

_TOOLS = [Call("call_1", "f", '{"a":1}')]
_THINKING = ["Hm."]
STREAMS: Mapping[str, tuple[bytes, bytes]] = {
    "openai-chat": (
        b"".join(chat_chunks(["Hé"], "tool_calls", thinking=_THINKING, tools=_TOOLS)),
        b'"finish_reason":"tool_calls"',
    ),
    "openai-responses": (
        b"".join(responses_events(["Hé"], "completed", thinking=_THINKING, tools=_TOOLS)),
        b"event: response.completed",
    ),
    "anthropic-messages": (
        b"".join(messages_events(["Hé"], "tool_use", thinking=_THINKING, tools=_TOOLS)),
        b'"stop_reason":"tool_use"',
    ),
    "gemini": (
        b"".join(gemini_chunks(["Hé"], "STOP", thinking=_THINKING, tools=_TOOLS)),
        b'"finishReason":"STOP"',
    ),
}
"""A stream of each dialect, and where in it its end begins."""
ENDS: Mapping[str, tuple[bytes, ...]] = {
    "openai-chat": (b"[DONE]", b'"finish_reason":"'),
    "openai-responses": (b"response.completed", b"response.incomplete"),
    "anthropic-messages": (b"message_stop", b'"stop_reason":"'),
    "gemini": (b'"finishReason"',),
}
"""What a client takes for an end."""


def translation(source: IDialect, target: IDialect) -> IWatcher:
    """Return what turns an answer of *target* into one for a client of *source*."""
    asked = request(source, streaming=True)
    conversation = conversation_of(asked)
    converted = translated(
        written(asked, conversation, target),
        asked=asked,
        conversation=conversation,
        source=source,
        target=target,
        model="m",
        make_id=lambda: "0" * 32,
        now=time.time,
        remember=lambda recollection, final: None,
    )
    return converted.watch(b"text/event-stream", False, 1 << 20)


class ConvertedCutTests(SynchronousTestCase):
    """Each pair of dialects, each byte."""

    def test_cut_at_every_byte(self) -> None:
        """Before the upstream's own end nothing looks like one; the whole stream ends."""
        for target in DIALECTS:
            stream, marker = STREAMS[target.name]
            end = stream.index(marker)
            for source in DIALECTS:
                if source is target:
                    continue
                pair = f"{target.name} for {source.name}"
                for at in range(len(stream) + 1):
                    watcher = translation(source, target)
                    told = watcher.feed(data=stream[:at]) + watcher.end()
                    if at <= end:
                        self.assertFalse(watcher.complete, f"{pair} at {at}")
                    if not watcher.complete:
                        for mark in ENDS[source.name]:
                            self.assertNotIn(mark, told, f"{pair} at {at}")
                self.assertTrue(watcher.complete, pair)
                self.assertIn(ENDS[source.name][0], told, pair)
