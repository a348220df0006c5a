"""
What an answer loses in each dialect: declared here, and proved to be all.

Each function returns what of a whole answer its dialect can carry, in a form of its own. What
was written and read again must come to the same as what was meant. It must never know how any
of it is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from aiclient2api.conversation import call_ids, seals
from aiclient2api.conversation.events import CALL, MEDIA, REASONING, REFUSAL, TEXT, MediaDelta
from aiclient2api.conversation.grammar import Block, Reply, ended
from aiclient2api.conversation.seals import Seal
from aiclient2api.values import Usage

BETWEEN = "\n\n"
"""What stands between two sections of a thought where a dialect has no sections."""


class _Anything:
    """Equal to everything: what a dialect adds where nothing was told."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "anything"


ANYTHING: Any = _Anything()


class _AtLeast:
    """Equal to another one that holds all of its *members*, in order, and perhaps more."""

    def __init__(self, members: Iterable[Any]) -> None:
        self.members = tuple(members)

    def __eq__(self, other: object) -> bool:
        rest = iter(other.members if isinstance(other, _AtLeast) else ())
        return all(any(each == found for found in rest) for each in self.members)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"at least {self.members}"


@attrs.frozen
class Carried:
    """
    What a dialect can carry of an answer, to be compared.

    :ivar said: What was said, in the dialect's own order.
    """

    said: Any
    reason: str
    stop_sequence: str | None = None
    usage: Any = None


Projection = Callable[[Reply, bool], Carried]
"""Takes an answer, and whether it comes as a stream."""


# --- Anthropic Messages -------------------------------------------------------


def messages(reply: Reply, streamed: bool) -> Carried:
    """
    Messages: blocks, in order.

    Lost: refusals and media become texts; empty blocks; sections; seals of texts and calls;
    sources without an address, and where in the text they belong; how many tokens were spent
    on reasoning. Ids of calls are made plain. What a seal's issuer was is told in the seal, and
    that there is none, in another.
    """
    said: list[Any] = []
    for block in reply.blocks:
        if block.kind in (TEXT, REFUSAL) and block.text:
            cited = [(c.url, c.title, c.quoted) for c in block.citations if c.url]
            said.append((TEXT, block.text, cited))
        elif block.kind == MEDIA and block.media is not None:
            said.append((TEXT, told_of(block.media), []))
        elif block.kind == CALL:
            said.append((CALL, call_ids.plain(block.id), block.name, block.text))
        elif block.kind == REASONING and (block.text or block.seal):
            said.append((REASONING, BETWEEN.join(block.sections), _signature(block)))
    refused = any(block.kind == REFUSAL for block in reply.blocks)
    reason, stop = str(reply.reason), reply.stop_sequence
    if refused and reason in ("end", "stop_sequence"):
        reason, stop = "filtered", None
    return Carried(said, reason, stop, _messages_usage(reply.usage or Usage(), streamed))


def _signature(block: Block) -> tuple[str, bool]:
    if block.seal is None:
        return seals.carried(Seal("none", ""), "anthropic-messages"), False
    bare = block.seal.hidden and not block.text
    if bare and block.seal.issuer == "anthropic-messages":
        return block.seal.value, True
    return seals.carried(block.seal, "anthropic-messages"), bare


def _messages_usage(usage: Usage, streamed: bool) -> Any:
    # A stream begins with a count of one, as Anthropic's do.
    least = 1 if streamed else 0
    output = max(usage.output or 0, least)
    return (usage.input or 0, output, usage.cached or 0, usage.cache_write or 0)


def messages_read(reply: Reply, streamed: bool) -> Carried:
    """Return what was read of a Messages answer, in the form of `messages`."""
    said: list[Any] = []
    for block in reply.blocks:
        if block.kind == TEXT:
            said.append((TEXT, block.text, [(c.url, c.title, c.quoted) for c in block.citations]))
        elif block.kind == CALL:
            said.append((CALL, block.id, block.name, block.text))
        else:
            seal = block.seal
            signature = None if seal is None else (seal.value, seal.hidden)
            said.append((block.kind, block.text, signature))
    usage = reply.usage or Usage()
    told = (usage.input, usage.output, usage.cached, usage.cache_write)
    return Carried(said, str(reply.reason), reply.stop_sequence, told)


# --- OpenAI Responses ---------------------------------------------------------


def responses(reply: Reply, streamed: bool) -> Carried:
    """
    Responses: blocks, in order.

    Lost: empty texts and thoughts; seals of texts and calls; sources without an address, and
    what they say; that the answer was paused, or stopped at a sequence. Sounds become text.
    Counts that were not told are 0.
    """
    said: list[Any] = []
    for block in reply.blocks:
        if block.kind in (TEXT, REFUSAL):
            cited = [
                (c.url, c.title, c.start or 0, ANYTHING if c.end is None else c.end)
                for c in block.citations
                if c.url
            ]
            if block.text or cited:
                said.append((block.kind, block.text, cited))
        elif block.kind == MEDIA and block.media is not None:
            if block.media.mime.startswith("image/"):
                said.append((MEDIA, block.media.mime, block.media.data))
            else:
                said.append((TEXT, told_of(block.media), []))
        elif block.kind == CALL:
            said.append((CALL, block.id, block.name, block.text))
        elif block.kind == REASONING and (block.text or block.seal):
            said.append((REASONING, block.sections, _encrypted(block)))
    cut = {"length": "length", "context": "length", "filtered": "filtered"}
    return Carried(
        said,
        ended(cut.get(str(reply.reason), "end"), called=_called(reply)),
        usage=reply.usage and _counted(reply.usage),
    )


def _encrypted(block: Block) -> str | None:
    seal = block.seal
    if seal is None:
        return None
    own = seal.issuer == "openai-responses" and seal.id == block.id and not seal.hidden
    return seal.value if own else seals.carried(seal, "openai-responses")


def responses_read(reply: Reply, streamed: bool) -> Carried:
    """Return what was read of a Responses answer, in the form of `responses`."""
    said: list[Any] = []
    for block in reply.blocks:
        if block.kind in (TEXT, REFUSAL):
            cited = [(c.url, c.title, c.start, c.end) for c in block.citations]
            said.append((block.kind, block.text, cited))
        elif block.media is not None:
            said.append((MEDIA, block.media.mime, block.media.data))
        elif block.kind == CALL:
            said.append((CALL, block.id, block.name, block.text))
        else:
            said.append((REASONING, block.sections, block.seal and block.seal.value))
    return Carried(said, str(reply.reason), usage=reply.usage and _counted(reply.usage))


def _counted(usage: Usage) -> Usage:
    return Usage(*(count or 0 for count in attrs.astuple(usage)))


# --- OpenAI Chat Completions --------------------------------------------------


def chat(reply: Reply, streamed: bool) -> Carried:
    """
    Chat Completions: one thought, one text, one refusal, pictures and calls, in no order.

    Lost: where one text ends and the next begins; sections; sounds become text; seals of
    texts and thoughts; what a source says, and where it is, without an address; in a
    stream, sources of a text that is not the last thing said, which come too late. That the
    answer was paused or stopped at a sequence is not told, nor is the end of the window.
    """
    places: dict[int, int] = {}
    text = ""
    for index, block in enumerate(reply.blocks):
        places[index] = len(text)
        text += _in_chat(block)
    cited = [
        (
            c.url,
            c.title,
            places[index] + (c.start or 0),
            places[index] + (len(block.text) if c.end is None else c.end),
        )
        for index, block in enumerate(reply.blocks)
        for c in block.citations
        if c.url
    ]
    told = streamed and any(block.kind != TEXT for block in reply.blocks)
    reason = {"stop_sequence": "end", "context": "length", "paused": "end"}
    return Carried(
        {
            "thought": BETWEEN.join(s for b in reply.blocks for s in b.sections),
            "text": text,
            "refusal": _joined(reply, REFUSAL),
            "cited": ANYTHING if told or not text else cited,
            "media": [
                (block.media.mime, block.media.data)
                for block in reply.blocks
                if block.media is not None and block.media.mime.startswith("image/")
            ],
            "calls": [
                (b.id, b.name, b.text, b.seal and seals.carried(b.seal, "openai-chat"))
                for b in reply.blocks
                if b.kind == CALL
            ],
        },
        ended(reason.get(str(reply.reason), str(reply.reason)), called=_called(reply)),
        usage=reply.usage and _counted(reply.usage),
    )


def _in_chat(block: Block) -> str:
    if block.media is not None and not block.media.mime.startswith("image/"):
        return told_of(block.media)
    return block.text if block.kind == TEXT else ""


def chat_read(reply: Reply, streamed: bool) -> Carried:
    """Return what was read of a Chat answer, in the form of `chat`."""
    return Carried(
        {
            "thought": _joined(reply, REASONING),
            "text": _joined(reply, TEXT),
            "refusal": _joined(reply, REFUSAL),
            "cited": [(c.url, c.title, c.start, c.end) for b in reply.blocks for c in b.citations],
            "media": [(b.media.mime, b.media.data) for b in reply.blocks if b.media is not None],
            "calls": [
                (b.id, b.name, b.text, b.seal and b.seal.value)
                for b in reply.blocks
                if b.kind == CALL
            ],
        },
        str(reply.reason),
        usage=reply.usage and _counted(reply.usage),
    )


# --- Gemini -------------------------------------------------------------------


def gemini(reply: Reply, streamed: bool) -> Carried:
    """
    Gemini: parts, in order; neighbours of one kind cannot be told apart.

    Lost: where one text ends and the next begins; sections; that a refusal was one, but for
    the reason; seals of texts, which may go to the thought before; the spacing of arguments;
    sources without an address, and what they say. Calls of an answer that was cut are left
    out unless they are certainly whole. Tokens written to a cache are not told of. In a
    stream, a block that waits for another stands where it is told, not where it was opened.
    """
    cut = reply.reason in ("length", "context", "filtered")
    last = len(reply.blocks) - 1
    said: list[Any] = []
    for index, block in enumerate(reply.blocks):
        if block.kind != CALL or not cut or _json(block.text) or index < last:
            said += _gemini_part(block, BETWEEN)
    refused = any(block.kind == REFUSAL for block in reply.blocks)
    reason = {"length": "length", "context": "length", "filtered": "filtered"}
    told = reason.get(str(reply.reason), "filtered" if refused else "end")
    # An answer that says nothing is one that failed, however it ends.
    silent = told == "end" and not any(part[0] in (CALL, MEDIA) or part[1] for part in said)
    return Carried(
        _gemini_order(said, streamed),
        "None" if silent else ended(told, called=any(part[0] == CALL for part in said)),
        usage=_gemini_usage(reply.usage),
    )


def gemini_read(reply: Reply, streamed: bool) -> Carried:
    """Return what was read of a Gemini answer, in the form of `gemini`."""
    said = [part for block in reply.blocks for part in _gemini_part(block, "")]
    usage = _gemini_usage(reply.usage)
    return Carried(_gemini_order(said, streamed), str(reply.reason), usage=usage)


def _gemini_part(block: Block, between: str) -> Iterator[Any]:
    if block.kind == CALL:
        yield CALL, block.id, block.name, _json(block.text), block.seal
    elif block.media is not None:
        yield MEDIA, block.media.mime, block.media.data
    elif block.kind == REASONING:
        yield REASONING, between.join(block.sections)
        if block.seal is not None:
            yield "seal", block.seal
    else:
        yield TEXT, block.text


def _gemini_order(said: Sequence[Any], streamed: bool) -> Any:
    seals_told = _AtLeast(part[1] for part in said if part[0] == "seal")
    parts = [part for part in said if part[0] != "seal"]
    if not streamed:
        return seals_told, list(_runs(parts))
    kinds = {kind: "".join(p[1] for p in parts if p[0] == kind) for kind in (TEXT, REASONING)}
    return (
        seals_told,
        kinds,
        [part for part in parts if part[0] == MEDIA],
        sorted((part for part in parts if part[0] == CALL), key=lambda part: str(part[1])),
    )


def _runs(said: Sequence[Any]) -> Iterator[Any]:
    """Yield what was said, neighbours of one kind being one, and nothing empty."""
    run: Any = None
    for part in said:
        if part[0] not in (TEXT, REASONING):
            if run is not None:
                yield run
            run = None
            yield part
        elif part[1]:
            if run is not None and run[0] != part[0]:
                yield run
                run = None
            run = part if run is None else (run[0], run[1] + part[1])
    if run is not None:
        yield run


def _gemini_usage(usage: Usage | None) -> Any:
    told = usage or Usage()
    return told.input or 0, told.output or 0, told.cached, told.reasoning


# --- all of them --------------------------------------------------------------

PROJECTIONS: Mapping[str, tuple[Projection, Projection]] = {
    "anthropic-messages": (messages, messages_read),
    "gemini": (gemini, gemini_read),
    "openai-chat": (chat, chat_read),
    "openai-responses": (responses, responses_read),
}
"""What is meant, and what was read, by dialect."""


def told_of(media: MediaDelta) -> str:
    """Return the sentence that stands where a dialect has no place for *media*."""
    size = len(media.data) * 3 // 4 - media.data[-2:].count("=")
    return (
        f"[Here the model made something of the type {media.mime}, {size} bytes, which this API"
        " cannot carry.]"
    )


def _called(reply: Reply) -> bool:
    return any(block.kind == CALL for block in reply.blocks)


def _joined(reply: Reply, kind: str) -> str:
    return "".join(block.text for block in reply.blocks if block.kind == kind)


def _json(text: str) -> Any:
    """Return what *text* says, with its numbers as they were written and its keys in order."""

    def digits(number: str) -> Any:
        return "number", number

    def members(pairs: list[tuple[str, Any]]) -> Any:
        return "object", tuple(pairs)

    found = json.loads(text, object_pairs_hook=members, parse_float=digits, parse_int=digits)
    return () if found == ("object", ()) else found
