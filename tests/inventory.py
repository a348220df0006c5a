"""
What a conversation holds, item by item, and what of it is missing after a conversion.

Whatever is missing must have been declared: each item names the codes of losses that may
excuse it. That goes for every conversion; it must never know a dialect.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import attrs

from aiclient2api.conversation.arguments import settled
from aiclient2api.conversation.request import (
    Audio,
    Call,
    Conversation,
    File,
    Image,
    Inline,
    Media,
    Part,
    Reasoning,
    Refusal,
    Remote,
    Result,
    Text,
    Turn,
)
from aiclient2api.conversation.thinking import AUTO, NONE, budget_of, effort_of

_MEDIA_CODES = {Image: "image", File: "file", Audio: "audio"}
_DEFAULTS: Mapping[str, Any] = {
    "max_tokens": None,
    "temperature": 1,
    "top_p": 1,
    "top_k": None,
    "stop": (),
    "seed": None,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logprobs": None,
}
"""Settings, and what not to say of each comes to everywhere."""


@attrs.frozen
class Missing:
    """
    Something that was said and is there no more.

    :ivar excuses: The codes of losses, any of which would tell of it.
    """

    what: str
    excuses: tuple[str, ...]


def undeclared(before: Conversation, after: Conversation, losses: Iterable[str]) -> list[str]:
    """Return what *before* says, *after* does not, and *losses* do not tell of."""
    told = set(losses)
    return [
        f"{missing.what} (may be excused by {', '.join(missing.excuses) or 'nothing'})"
        for missing in _missing(before, after)
        if not told.intersection(missing.excuses)
    ]


def _missing(before: Conversation, after: Conversation) -> Iterator[Missing]:
    yield from _missing_words(before, after)
    yield from _missing_media(before, after)
    yield from _missing_calls(before, after)
    yield from _missing_thoughts(before, after)
    yield from _missing_marks(before, after)
    yield from _missing_tools(before, after)
    yield from _missing_settings(before, after)


# --- what was said ------------------------------------------------------------


def _words(conversation: Conversation, role: str) -> Iterator[str]:
    for text in conversation.system if role == "system" else ():
        yield text.text
    for turn in conversation.turns:
        if turn.role == role:
            for part in turn.parts:
                if isinstance(part, Text | Refusal):
                    yield part.text


def _missing_words(before: Conversation, after: Conversation) -> Iterator[Missing]:
    for role in ("system", "user", "assistant"):
        there = "\n".join(_words(after, role))
        at = 0
        for words in _words(before, role):
            # Blanks alone say nothing, and some dialects refuse them at an end.
            found = there.find(words.strip(), at)
            if found < 0:
                excuses = ("system_position",) if role == "system" else ()
                yield Missing(f"the {role}'s {words!r:.80}", excuses)
            else:
                at = found


def _pictures(parts: Iterable[Part]) -> Iterator[Image | File | Audio]:
    for part in parts:
        if isinstance(part, Result):
            yield from _pictures(part.parts)
        elif isinstance(part, Image | File | Audio):
            yield part


def _all_media(conversation: Conversation) -> list[Image | File | Audio]:
    return [each for turn in conversation.turns for each in _pictures(turn.parts)]


def _source(media: Media) -> str:
    if isinstance(media, Inline):
        return media.data
    return media.url if isinstance(media, Remote) else media.id


def _missing_media(before: Conversation, after: Conversation) -> Iterator[Missing]:
    there = [(type(each), _source(each.media)) for each in _all_media(after)]
    gone: list[Image | File | Audio] = []
    for each in _all_media(before):
        if (type(each), _source(each.media)) in there:
            there.remove((type(each), _source(each.media)))
        else:
            gone.append(each)
    # What an address leads to is not always told.
    sources = [source for _, source in there]
    for each in gone:
        if _source(each.media) not in sources:
            code = _MEDIA_CODES[type(each)]
            yield Missing(f"the {code} {_source(each.media):.40}", (code, "file_id"))
    yield from _missing_names(before, after)
    details = [each.detail for each in _all_media(after) if isinstance(each, Image)]
    for each in _all_media(before):
        if isinstance(each, Image) and each.detail not in (None, "auto", *details):
            yield Missing(f"the detail {each.detail}", ("detail", "image", "file_id"))


def _missing_names(before: Conversation, after: Conversation) -> Iterator[Missing]:
    texts = "\n".join(text for role in ("user", "assistant") for text in _words(after, role))
    names = [file.name for file in _all_media(after) if isinstance(file, File)]
    for each in _all_media(before):
        # An address is a name, too.
        named = isinstance(each, File) and isinstance(each.media, Inline) and each.name
        if named and named not in names and named not in texts:
            yield Missing(f"the file's name {named}", ("file", "file_id"))


def _calls(turns: Sequence[Turn]) -> Iterator[tuple[Call, Result | None]]:
    parts = [part for turn in turns for part in turn.parts]
    results = {part.id: part for part in parts if isinstance(part, Result)}
    for part in parts:
        if isinstance(part, Call):
            yield part, results.get(part.id)


def _missing_calls(before: Conversation, after: Conversation) -> Iterator[Missing]:
    wanted, found = list(_calls(before.turns)), list(_calls(after.turns))
    names = [(call.name, _json(call.arguments)) for call, _ in found]
    if names != [(call.name, _json(call.arguments)) for call, _ in wanted]:
        yield Missing(f"the calls {wanted}, for there are {found}", ())
        return
    for (call, result), (_, there) in zip(wanted, found, strict=True):
        if result is None:
            continue
        if there is None:
            yield Missing(f"the result of {call.id}", ())
            continue
        told = _flat(_text_of(there.parts))
        for part in result.parts:
            if isinstance(part, Text) and _flat(part.text) not in told:
                yield Missing(f"the result's {part.text!r:.80}", ("tool_result",))
        if result.is_error and not there.is_error:
            yield Missing(f"that {call.id} failed", ("tool_error",))
        media = [type(each) for each in _pictures(result.parts)]
        if media and media != [type(each) for each in _pictures(there.parts)]:
            yield Missing(
                f"the media in the result of {call.id}",
                ("tool_media", "image", "file", "audio", "file_id"),
            )


def _text_of(parts: Iterable[Part]) -> str:
    return "\n".join(part.text for part in parts if isinstance(part, Text))


def _flat(text: str) -> str:
    """Return *text*; if it is an object's JSON, without the spaces in it."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()
    return json.dumps(found) if isinstance(found, dict) else text.strip()


def _json(text: str) -> Any:
    """Return what *text* says: keys in their order, and every digit of every number."""

    def members(pairs: list[tuple[str, Any]]) -> Any:
        return "object", pairs

    return json.loads(
        settled(text), object_pairs_hook=members, parse_float=Decimal, parse_int=Decimal
    )


def _missing_thoughts(before: Conversation, after: Conversation) -> Iterator[Missing]:
    there = [p for turn in after.turns for p in turn.parts if isinstance(p, Reasoning)]
    texts = "\n\n".join(part.text for part in there)
    sealed = [part.seal for part in there if part.seal is not None]
    for turn in before.turns:
        for part in turn.parts:
            if isinstance(part, Reasoning) and part.text not in texts:
                yield Missing(f"the thought {part.text!r:.80}", ("reasoning",))
            if isinstance(part, Reasoning) and part.seal is not None and part.seal not in sealed:
                yield Missing(f"the seal of the thought {part.text!r:.80}", ("reasoning",))


def _marks(conversation: Conversation) -> int:
    parts: list[Any] = [*conversation.system, *conversation.tools]
    parts += [part for turn in conversation.turns for part in turn.parts]
    parts += [each for part in parts if isinstance(part, Result) for each in part.parts]
    blank = [part for part in parts if isinstance(part, Text) and not part.text.strip()]
    marked = [part for part in parts if getattr(part, "cache", None) is not None]
    # A blank text is nothing to mark.
    return sum(part not in blank for part in marked)


def _missing_marks(before: Conversation, after: Conversation) -> Iterator[Missing]:
    if _marks(after) < _marks(before):
        yield Missing("a cache marker", ("cache_control", "attribution"))


# --- what else was asked ------------------------------------------------------


def _missing_tools(before: Conversation, after: Conversation) -> Iterator[Missing]:
    there = {tool.flat_name: tool for tool in after.tools}
    for tool in before.tools:
        found = there.get(tool.flat_name)
        if found is None:
            if tool.kind == "web_search" and any(t.kind == "web_search" for t in after.tools):
                continue
            yield Missing(f"the tool {tool.flat_name}", (f"tool:{tool.kind}", "tool_choice"))
            continue
        if tool.description and tool.description not in found.description:
            yield Missing(f"the description of {tool.flat_name}", ())
        if tool.kind == "function" and not _covers(found.parameters, tool.parameters):
            yield Missing(f"the schema of {tool.flat_name}", ("schema", "tool_grammar"))
        if tool.strict and not found.strict:
            yield Missing(f"that {tool.flat_name} is strict", ("strict",))
    choice, got = before.tool_choice, after.tool_choice
    if choice is not None and choice.mode != "auto" and before.tools:
        same = (
            got is not None
            and (
                (choice.mode == got.mode and choice.allowed[:1] == got.allowed[:1])
                # One of one is that one.
                or (choice.mode == "named" and choice.allowed[:1] == got.allowed)
            )
        )
        if not same:
            yield Missing(f"the choice {choice}, for there is {got}", ("tool_choice",))
    if before.parallel is False and after.parallel is not False and _may_call(after):
        yield Missing("that calls come one by one", ("parallel_tool_calls", "tool_choice"))


def _may_call(conversation: Conversation) -> bool:
    choice = conversation.tool_choice
    return bool(conversation.tools) and (choice is None or choice.mode != "none")


def _covers(found: Any, wanted: Any) -> bool:
    """Say whether *found* says all that *wanted* does, and perhaps more."""
    if isinstance(wanted, Mapping):
        # Nothing under a key says as much as no key.
        return isinstance(found, Mapping) and all(
            _covers(found.get(key), value) for key, value in wanted.items() if value != {}
        )
    return wanted is None or bool(found == wanted)


def _missing_settings(before: Conversation, after: Conversation) -> Iterator[Missing]:
    for name, default in _DEFAULTS.items():
        asked, got = getattr(before.sampling, name), getattr(after.sampling, name)
        if asked not in (None, default) and asked != got:
            yield Missing(f"{name} {asked}, for it is {got}", (name,))
    for name, code in (("user", "user"), ("cache_key", "prompt_cache_key")):
        if getattr(before, name) and getattr(before, name) != getattr(after, name):
            yield Missing(name, (code,))
    if before.metadata and before.metadata != after.metadata:
        yield Missing("metadata", ("metadata",))
    if before.streaming != after.streaming:
        yield Missing("whether to stream", ())
    if before.output is not None:
        schema = before.output.schema
        if after.output is None or (schema is not None and after.output.schema is None):
            yield Missing("the form of the answer", ("output_format", "json_object"))
        elif not _covers(after.output.schema, schema):
            yield Missing("the schema of the answer", ("schema", "output_format"))
        elif before.output.strict and after.output.strict is False:
            # Where it cannot be said, it is always so.
            yield Missing("that the answer is held to the schema", ("strict", "output_format"))
    if before.thinking is not None:
        wanted = effort_of(before.thinking)
        found = None if after.thinking is None else effort_of(after.thinking)
        budget = None if after.thinking is None else budget_of(after.thinking)
        # Not to say is to leave it to the model; not to think is what many do by themselves.
        same = wanted in (None, found) or (wanted in (AUTO, NONE) and found is None)
        same = same or (wanted == AUTO and found != NONE)
        if not same and budget_of(before.thinking) != budget:
            yield Missing(f"to think {wanted}, for it is {found}", ("thinking",))
