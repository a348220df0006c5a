"""
The upstreams of a soak: good answers of all dialects, and every fault there is.

    soak_upstream.py            writes its address as one line, then answers until it is ended

What is asked for says what is answered: ``good-SIZE`` is an answer of so many tokens at a
steady pace, a third of them with thoughts and a call of a tool; ``fault-N`` is fault N of
``tests/live/faults.py``. A count of what was asked is at ``/counts``.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twisted.internet import reactor

from aiclient2api.testing import (
    Received,
    Script,
    ScriptedUpstream,
    chat_body,
    chat_chunks,
    gemini_body,
    gemini_chunks,
    json_reply,
    messages_body,
    messages_events,
    raw_reply,
    responses_body,
    responses_events,
    sse_reply,
)
from aiclient2api.testing.streams import Call
from aiclient2api.values import Usage
from tests.live.faults import FAULTS, ROWS

GAP = 0.01
"""Seconds between two records."""

CALL = Call("call_1", "look", '{"where": "at the house by the water"}')
NAMES = sorted(FAULTS)
_WANTED = re.compile(r"(good|fault)-([0-9]+)")
_STREAMS: dict[str, Callable[..., list[bytes]]] = {
    "openai-chat": chat_chunks,
    "openai-responses": responses_events,
    "anthropic-messages": messages_events,
    "gemini": gemini_chunks,
}
_WHOLE: dict[str, Callable[..., bytes]] = {
    "openai-chat": chat_body,
    "openai-responses": responses_body,
    "anthropic-messages": messages_body,
    "gemini": gemini_body,
}


class Upstream:
    """Answers, and counts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def answer(self, request: Received) -> Script:
        """Return what *request* is answered with."""
        if request.target == "/counts":
            return json_reply(200, self.counts)
        body: Any = json.loads(request.body or b"{}")
        found = _WANTED.search(request.target) or _WANTED.search(str(body.get("model")))
        dialect, framing = _asked(request, body)
        if found is None:
            self.counts["unknown"] += 1
            return json_reply(404, {"error": {"message": "Nobody knows that."}})
        kind, number = found[1], int(found[2])
        self.counts[f"{dialect} {framing} {kind}"] += 1
        if kind == "good":
            return good(dialect, framing, number)
        row = next(row for row in ROWS if (row.dialect, row.framing) == (dialect, framing))
        return FAULTS[NAMES[number % len(NAMES)]](row).script


def good(dialect: str, framing: str, size: int) -> Script:
    """Return a good answer of so many tokens."""
    words: Sequence[str] = ["Time", *(" passes by the water",) * (size - 1)]
    usage = Usage(input=30, output=size)
    tools = [CALL] if size % 3 == 0 else []
    if framing == "whole":
        return raw_reply(200, _WHOLE[dialect]("".join(words), usage=usage, tools=tools))
    thinking = ["Let", " me", " see"] if tools and dialect != "gemini" else []
    stream = _STREAMS[dialect](words, usage=usage, tools=tools, thinking=thinking)
    return sse_reply(stream, gap=GAP)


def _asked(request: Received, body: Any) -> tuple[str, str]:
    path, _, query = request.target.partition("?")
    if "Content" in path:
        streamed = "stream" in path
        framing = "json_array" if streamed and "alt=sse" not in query else "sse"
        return "gemini", framing if streamed else "whole"
    dialect = {"completions": "openai-chat", "responses": "openai-responses"}.get(
        path.rpartition("/")[2], "anthropic-messages"
    )
    return dialect, "sse" if body.get("stream") else "whole"


def main() -> None:
    """Listen, say where, and go on until told to stop."""
    world: Any = reactor
    server = ScriptedUpstream(Upstream().answer)

    def forget() -> None:
        # Every request and connection would be kept for a test to look at.
        server.requests.clear()
        server.connections[:] = [each for each in server.connections if each.closed is None]
        world.callLater(1.0, forget)

    server.listen(world).addCallback(lambda _: print(server.url, flush=True))
    world.callWhenRunning(forget)
    world.run()


if __name__ == "__main__":
    main()
