"""
Estimate how many tokens a conversation is, for upstreams that cannot be asked.

Every model family cuts text differently, and the gateway has none of their vocabularies.
So text is reduced to its shape (letters, digits, spaces, scripts), and what tokenizers
make of shapes was measured: see ``docs/token_counts.md``. A client that counts in order
to stay below a limit is better served by a little too much than by too little. This file
must never know a dialect or a model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from math import ceil

from aiclient2api.conversation import media_tokens
from aiclient2api.conversation.request import (
    Audio,
    Call,
    Conversation,
    File,
    Image,
    Part,
    Reasoning,
    Refusal,
    Result,
    Text,
    Tool,
    Turn,
)
from aiclient2api.conversation.tools import as_function

# --- what a conversation costs beside its texts ---------------------------------
# From the chat templates that models are published with (Qwen 3's, Gemma 3's), rounded up.

_ANSWER = 3
"""The head of the answer that the model is to write."""
_TURN = 5
"""Who speaks, and where it ends; the system prompt has it, too."""
_TOOLS = 350
"""How tools are called. Qwen 3 is told in 82 tokens, models of Claude 3 in 159 to 530."""
_TOOL = 12
"""What stands around one definition."""
_CALL = 12
_RESULT = 10
_VENDOR_TOOL = 500
"""A tool that its vendor runs comes with instructions that nobody else sees."""
_SEAL = 3 / 16
"""Tokens for a character of a sealed thought: base64 of what is about four bytes each."""

# --- what text costs ------------------------------------------------------------

_ENOUGH = 32 * 1024
"""Characters that are looked at; of a longer text so many are, all over it."""
_SLICES = 256

_CONTINUATION = bytes(range(0x80, 0xC0))
"""Bytes of UTF-8 that only go on with a character. Without them a byte is a character."""
_CLASSES = {
    "a": "az",
    "A": "AZ",
    "0": "09",
    " ": "  ",
    "\n": "\n\n\r\r",
    "\t": "\t\t",
    "_": "__",
    "-": "--==**##~~++..",
    # By the first byte of a character, so roughly by its script:
    "q": "\xc0\xc2",  # signs of Latin-1
    "e": "\xc3\xc3",  # letters of Latin-1
    "l": "\xc4\xc5\xc7\xcd",  # more Latin; IPA, accents of their own
    "v": "\xc6\xc6\xe1\xe1",  # Vietnamese; Georgian, Khmer and others
    "g": "\xce\xcf",  # Greek
    "r": "\xd0\xd3",  # Cyrillic
    "w": "\xd4\xd7",  # Armenian, Hebrew
    "b": "\xd8\xdf",  # Arabic and others
    "i": "\xe0\xe0",  # the scripts of India, Thai
    "u": "\xe2\xe2",  # dashes, quotes, arrows, boxes
    "k": "\xe3\xe3",  # kana, CJK punctuation
    "c": "\xe4\xe9",  # Chinese characters
    "h": "\xea\xed",  # Hangul
    "f": "\xee\xef",  # full-width forms
    "m": "\xf0\xff",  # emoji, rare Chinese characters
}
"""Classes of bytes: pairs of the first and the last one. All others are ``p``."""
_WORD_CLASSES = {"W": "azAZ", "D": "09"}
"""The same for the shape that shows words and numbers only. All others are ``.``."""

_COSTS = (
    (b"a", 0.07),  # each letter; the first ones of a word are in the price of the word
    (b"a" * 12, 3.6),  # a run that is no word: a key, a hash, base32
    (b"Aa", 0.53),  # a word with a capital
    (b"aA", 0.62),  # camelCase
    (b"AA", 0.58),  # CAPITALS
    (b"0", 0.56),  # digits: some families take three at a time, some one
    (b"  ", 0.73),
    (b"    ", -1.2),  # indentation: long runs are one token
    (b"\n", 0.94),  # a line
    (b"\n\n", -1.2),
    (b"\t", 0.7),
    (b"p", 0.94),  # punctuation
    (b"pp", -1.0),  # such as ");" is often one token
    (b"-", 0.52),  # rules and operators
    (b"----", -1.6),  # such as a rule under a heading
    (b"_", 0.52),  # snake_case
    (b"q", 0.72),
    (b"e", 0.43),
    (b"l", 2.2),
    (b"v", 0.4),
    (b"g", 0.54),
    (b"r", 0.32),
    (b"w", 0.6),
    (b"b", 0.44),
    (b"i", 0.63),
    (b"u", 1.08),
    (b"k", 0.7),
    (b"c", 0.74),
    (b"h", 0.85),
    (b"f", 0.7),
    (b"m", 2.16),
)
"""
What is found in the shape of a text, and how many tokens one such find is.

Fitted, not thought up: the words say what a line is about, not why it is so many. A run
is counted in pieces that do not overlap, so ``pp`` is half as many as ``p``.
"""
_WORD_COSTS = (
    (b".W", 0.67),  # a word
    (b"DW", 1.49),  # a word behind a digit, as in base64 and hexadecimal numbers
    (b".D", 1.0),  # a number
    (b"WD", 0.81),  # a number behind a word
)
"""The same for the shape of words and numbers."""


def estimate(conversation: Conversation) -> int:
    """
    Return about how many tokens *conversation* is as a prompt.

    Instructions, turns with all that is in them, tools and a schema for the answer. Every
    part takes its time, but of their texts no more is read than of a single one.
    """
    texts = list(_texts(conversation))
    return ceil(_text_cost("\n".join(texts)) + _cost_beside(conversation))


def tokens_in(text: str) -> int:
    """Return about how many tokens *text* is; 0 only for ``""``."""
    return ceil(_text_cost(text))


def _text_cost(text: str) -> float:
    if not text:
        return 0.0
    looked_at = _sample(text)
    raw = looked_at.encode("utf-8", "surrogatepass")
    shape = raw.translate(_SHAPE, _CONTINUATION)
    words = b"." + raw.translate(_WORD_SHAPE, _CONTINUATION)
    cost = sum(each * shape.count(find) for find, each in _COSTS)
    cost += sum(each * words.count(find) for find, each in _WORD_COSTS)
    return max(1.0, cost * len(text) / len(looked_at))


def _sample(text: str) -> str:
    """Return *text*, or slices from all over it if it is long."""
    if len(text) <= _ENOUGH:
        return text
    width = _ENOUGH // _SLICES
    starts = [(len(text) - width) * number // (_SLICES - 1) for number in range(_SLICES)]
    return "".join(text[start : start + width] for start in starts)


# --- the parts of a conversation ------------------------------------------------


def _texts(conversation: Conversation) -> Iterator[str]:
    """Yield every text that the model is shown."""
    for text in conversation.system:
        yield text.text
    for turn in conversation.turns:
        yield from _part_texts(turn.parts)
    for tool in conversation.tools:
        yield from _tool_texts(tool)
    if conversation.output is not None and conversation.output.schema is not None:
        yield _json(conversation.output.schema)


def _part_texts(parts: Iterable[Part]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Text | Refusal | Reasoning):
            yield part.text
        elif isinstance(part, Call):
            yield part.name
            yield part.arguments
        elif isinstance(part, Result):
            yield from _part_texts(part.parts)
        elif isinstance(part, File):
            yield part.name


def _tool_texts(tool: Tool) -> Iterator[str]:
    try:
        function, _ = as_function(tool)
    except ValueError:
        return
    yield function.flat_name
    yield function.description
    if function.parameters is not None:
        yield _json(function.parameters)


def _cost_beside(conversation: Conversation) -> float:
    """Return what *conversation* costs beside its texts."""
    cost = _ANSWER + (_TURN if conversation.system else 0.0)
    cost += sum(_turn_cost(turn) for turn in conversation.turns)
    if conversation.tools:
        cost += _TOOLS
    for tool in conversation.tools:
        cost += _VENDOR_TOOL if tool.kind == "web_search" else _TOOL
    return cost


def _turn_cost(turn: Turn) -> float:
    return _TURN + sum(_part_cost(part) for part in turn.parts)


def _part_cost(part: Part) -> float:
    """Return what one part costs beside the texts in it."""
    if isinstance(part, Image | File | Audio):
        return media_tokens.tokens_of(part, tokens_in)
    if isinstance(part, Call):
        return _CALL
    if isinstance(part, Result):
        return _RESULT + sum(_part_cost(each) for each in part.parts)
    if isinstance(part, Reasoning) and part.seal is not None and not part.text:
        return _SEAL * len(part.seal.value)
    return 0.0


def _json(value: object) -> str:
    """Return *value* about as a model is shown it; a number that is odd is one digit."""
    return json.dumps(value, ensure_ascii=False, default=lambda odd: 0)


def _table(classes: dict[str, str], other: str) -> bytes:
    """Return the table for `bytes.translate` that puts the class for each byte."""
    table = bytearray(other.encode() * 256)
    for name, pairs in classes.items():
        ends = pairs.encode("latin-1")
        for first, last in zip(ends[::2], ends[1::2], strict=True):
            table[first : last + 1] = name.encode() * (last + 1 - first)
    return bytes(table)


_SHAPE = _table(_CLASSES, "p")
_WORD_SHAPE = _table(_WORD_CLASSES, ".")
