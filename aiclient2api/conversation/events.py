"""
The dozen things that happen in an answer, in order, whoever gave it.

Small mutable classes, because one is made for every token. What may follow what
is said in `grammar`; they must never know bytes.
"""

from __future__ import annotations

import attrs

from aiclient2api.conversation.seals import Seal
from aiclient2api.errors import UpstreamError
from aiclient2api.values import Usage

TEXT = "text"
REFUSAL = "refusal"
REASONING = "reasoning"
CALL = "call"
MEDIA = "media"
KINDS = (TEXT, REFUSAL, REASONING, CALL, MEDIA)
"""Kinds of blocks. Text and refusals take `TextDelta`, calls `ArgumentsDelta`."""

REASONS = ("end", "stop_sequence", "length", "context", "tool_use", "filtered", "paused")
"""
Why an answer ended: by itself; at a stop sequence; at the limit of tokens; at the end of
the model's window; to have tools called; refused or filtered; to be gone on with.
"""


@attrs.define
class Started:
    """
    The answer begins. Always the first event.

    :ivar id: The upstream's id for it, ``""`` if it gave none.
    :ivar model: The model the upstream says it is.
    :ivar created: Unix seconds, 0 if not told.
    """

    id: str = ""
    model: str = ""
    created: int = 0


@attrs.define
class BlockOpened:
    """
    A block begins. Blocks are numbered from 0; several may be open.

    :ivar kind: One of `KINDS`.
    :ivar id: A call's id, never empty; for other kinds the upstream's, may be ``""``.
    :ivar name: A call's tool, never empty.
    """

    index: int
    kind: str
    id: str = ""
    name: str = ""


@attrs.define
class TextDelta:
    """More text of a text or a refusal; never empty."""

    index: int
    text: str


@attrs.define
class ReasoningDelta:
    """
    More of a thought; never empty.

    :ivar section: A model may tell its thoughts in sections; counts from 0 and only grows.
    """

    index: int
    text: str
    section: int = 0


@attrs.define
class Sealed:
    """A block's seal. At most one a block; reasoning, calls and text may have one."""

    index: int
    seal: Seal


@attrs.define
class ArgumentsDelta:
    """More JSON text of a call's arguments; never empty. No delta at all means ``{}``."""

    index: int
    json: str


@attrs.define
class MediaDelta:
    """
    A whole picture or sound. One a block.

    :ivar data: Standard base64.
    """

    index: int
    mime: str
    data: str


@attrs.define
class Cited:
    """
    A source of what a text block says.

    :ivar start: Where in the block's text it applies, in characters; None if not told.
    :ivar quoted: What the source says.
    """

    index: int
    url: str = ""
    title: str = ""
    quoted: str = ""
    start: int | None = None
    end: int | None = None


@attrs.define
class BlockClosed:
    """A block is whole."""

    index: int


@attrs.define
class UsageReported:
    """Token counts so far; a later report replaces an earlier one."""

    usage: Usage


@attrs.define
class Finished:
    """
    The answer is whole. The last event, all blocks being closed.

    :ivar reason: One of `REASONS`.
    :ivar stop_sequence: The sequence it stopped at, if that was told.
    """

    reason: str
    stop_sequence: str | None = None


@attrs.define
class Failed:
    """The upstream said that it failed. The last event, wherever it comes."""

    error: UpstreamError


Event = (
    Started
    | BlockOpened
    | TextDelta
    | ReasoningDelta
    | Sealed
    | ArgumentsDelta
    | MediaDelta
    | Cited
    | BlockClosed
    | UsageReported
    | Finished
    | Failed
)
