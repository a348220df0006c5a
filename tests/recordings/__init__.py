"""
Requests recorded from real clients, as values; `README.md` says what is exact in them.

It names the dialect of each from the URL alone and imports nothing of the gateway, so
that the gateway's own idea of it can be tested against this one.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import attrs

FOLDER = Path(__file__).parent

CLIENTS = tuple(sorted({path.parent.name for path in FOLDER.glob("*/*.json")}))
"""The folders, a client each."""

_DIALECTS = (
    (r"/v1/chat/completions$", "openai-chat"),
    (r"/v1/responses$", "openai-responses"),
    (r"/v1/messages(/count_tokens)?$", "anthropic-messages"),
    (r"/(v1|v1beta)/models/[^/]+:\w+$", "gemini"),
)

_REDACTED = "<redacted>"


@attrs.frozen
class Recording:
    """
    One request of one client.

    :ivar client: Its folder.
    :ivar case: What the client was doing.
    :ivar target: Path and query, as sent.
    :ivar headers: In order, names in lower case.
    :ivar body: The decoded JSON, or None for a request without a body.
    """

    client: str
    case: str
    seq: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = attrs.field(repr=False)
    body: dict[str, Any] | None = attrs.field(repr=False)

    @property
    def name(self) -> str:
        """Return what to call it in a test's report."""
        return f"{self.client}/{self.case} #{self.seq} {self.method} {self.target}"

    @property
    def malformed(self) -> bool:
        """Say whether the client was made to send what no upstream would take."""
        return self.case == "err_bad_json"

    @property
    def path(self) -> str:
        """Return the target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """Return the target's query, still encoded."""
        return self.target.partition("?")[2]

    @property
    def dialect(self) -> str | None:
        """Return the name of the dialect the path belongs to; None where many share it."""
        found = (name for pattern, name in _DIALECTS if re.match(pattern, self.path))
        return next(found, None)

    @property
    def action(self) -> str:
        """Return what is asked for: ``generate``, ``count_tokens`` or ``other``."""
        if self.dialect is None:
            return "other"
        counting = self.path.endswith(("/count_tokens", ":countTokens"))
        return "count_tokens" if counting else "generate"

    @property
    def model(self) -> str:
        """Return the model asked for, wherever it stands."""
        if self.dialect == "gemini":
            return self.path.rpartition("/")[2].partition(":")[0]
        return "" if self.body is None else str(self.body["model"])

    @property
    def streaming(self) -> bool:
        """Say whether the client wants a stream."""
        if self.dialect == "gemini":
            return ":stream" in self.path
        return bool(self.body and self.body.get("stream"))

    @property
    def framing(self) -> str:
        """Return how the answer is to be framed: ``whole``, ``sse`` or ``json_array``."""
        if not self.streaming:
            return "whole"
        return "json_array" if self.dialect == "gemini" and "alt=sse" not in self.query else "sse"

    def with_key(self, key: str) -> tuple[tuple[str, str], ...]:
        """Return the headers with *key* where the client's own key stood."""
        return tuple((name, value.replace(_REDACTED, key)) for name, value in self.headers)

    def as_bytes(self, *, tight: bool = True, escaped: bool = False) -> bytes:
        """
        Write the body anew.

        :param tight: No space between the tokens, as JavaScript and httpx write.
        :param escaped: Only ASCII, as Python's own ``json`` writes.
        """
        if self.body is None:
            return b""
        separators = (",", ":") if tight else (", ", ": ")
        text = json.dumps(self.body, ensure_ascii=escaped, separators=separators)
        return text.encode()


@cache
def recordings(client: str) -> tuple[Recording, ...]:
    """Return the requests of *client*, in the order of their cases."""
    return tuple(_read(path) for path in sorted((FOLDER / client).glob("*.json")))


def all_recordings() -> tuple[Recording, ...]:
    """Return the requests of all clients."""
    return tuple(recording for client in CLIENTS for recording in recordings(client))


def _read(path: Path) -> Recording:
    stored = json.loads(path.read_bytes())
    return Recording(
        client=path.parent.name,
        case=stored["case"],
        seq=stored["seq"],
        method=stored["method"],
        target=stored["path"],
        headers=tuple((name.lower(), value) for name, value in stored["headers"].items()),
        body=stored["body"] or None,
    )
