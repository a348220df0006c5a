"""
What a conversion had to leave out, by name.

A loss is a short code that a client can read in a header and an operator in
``docs/dialects.md``. Nothing is left out without one. It must never decide what is lost.
"""

from __future__ import annotations

from collections.abc import Iterable

LOSSES = {
    "attribution": "Claude Code's billing line in the system prompt is not sent to others.",
    "audio": "Sound is replaced by a sentence that says so.",
    "cache_control": "Cache markers have no place in the target.",
    "cached_content": "A prompt cached with one vendor cannot be read by another.",
    "citations": "Where a text came from is not sent back.",
    "detail": "How closely to look at an image cannot be said.",
    "file": "A file is replaced by a sentence that names it.",
    "file_id": "A file that lies with one vendor is replaced by a sentence that names it.",
    "frequency_penalty": "The target has no such setting.",
    "image": "An image is replaced by a sentence that says so.",
    "json_object": "JSON without a schema can only be asked for in words.",
    "logprobs": "The target tells no log probabilities.",
    "max_tokens": "The target has no limit of tokens.",
    "metadata": "Free-form metadata has no place in the target.",
    "n": "One alternative is asked for, however many were wanted.",
    "name": "Names of participants have no place in the target.",
    "output_format": "The target cannot be held to a schema.",
    "parallel_tool_calls": "Whether tools may be called at once cannot be said.",
    "prefill": "The target begins a new turn instead of going on with the last one.",
    "presence_penalty": "The target has no such setting.",
    "prompt_cache_key": "The target finds its cache by itself.",
    "reasoning": "Thoughts of another vendor's model are not sent to this one.",
    "schema": "Parts of a JSON Schema are told in its descriptions instead.",
    "seed": "The target has no such setting.",
    "stop": "The target takes no stop sequences, or not so many.",
    "strict": "Whether arguments are held to the schema cannot be said.",
    "system_position": "Instructions given in between move to the front.",
    "temperature": "The target does not take a temperature together with what else was asked.",
    "thinking": "How much to think cannot be said, or not so exactly.",
    "tool_choice": "The target cannot be made to choose like that.",
    "tool_error": "That a tool failed is told in its answer's text.",
    "tool_grammar": "The grammar of a tool's input is told in its description.",
    "tool_media": "Media in a tool's answer move into the turn after it.",
    "tool_result": "An answer without a call is told as text, a call without one is answered.",
    "top_k": "The target has no such setting.",
    "top_p": "The target does not take it together with what else was asked.",
    "user": "The end user's id has no place in the target.",
}
"""Codes that stand for themselves, with what happens."""

FAMILIES = {
    "field": "A field that only its own dialect knows is not sent.",
    "part": "A part of a turn that only its own dialect knows is not sent.",
    "tool": "A tool that only its own vendor runs, or the second of one name, is not offered.",
}
"""Codes with a name behind a colon, such as ``field:service_tier``."""


def known(code: str) -> bool:
    """Say whether *code* is one of ours."""
    family, colon, name = code.partition(":")
    return code in LOSSES or (bool(colon) and bool(name) and family in FAMILIES)


def merged(*groups: Iterable[str]) -> tuple[str, ...]:
    """Return all codes once, in the order in which they first occur."""
    return tuple(dict.fromkeys(code for group in groups for code in group))
