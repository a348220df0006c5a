"""
Requests that no client sent: any conversation, for hypothesis to choose from.

Two kinds. A `history` is whatever a careless client may send: calls without answers, answers
without calls, turns in any order. A `conversation` is in order, so that what becomes of it
can be told beforehand. It must never know a dialect, but for the names that issue seals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from aiclient2api.conversation.request import (
    Audio,
    Call,
    Conversation,
    File,
    Image,
    Inline,
    Media,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Remote,
    Result,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    Turn,
    Uploaded,
)
from tests.event_streams import ISSUERS, seal
from tests.tape import BASE64, IDS, NAMES, Tape, arguments, drawn, text

_URLS = ("https://example.org/a.png", "http://example.org/x?y=1&z=2", "gs://bucket/a.pdf")
_GOOGLES = "https://generativelanguage.googleapis.com/v1beta/files/x1"
"""An address at Google's own store: nobody else can read from it."""
_SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "object", "properties": {}},
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    {
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": ["a", "b"], "description": "d"},
            "n": {"type": "integer"},
            "list": {"type": "array", "items": {"type": "number"}},
        },
    },
)
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "auto")


def histories() -> st.SearchStrategy[tuple[Turn, ...]]:
    """Return the turns of careless clients."""
    return drawn(history)


def conversations() -> st.SearchStrategy[Conversation]:
    """Return conversations that are in order."""
    return drawn(conversation, size=400)


def history(tape: Tape) -> tuple[Turn, ...]:
    """Return turns in any order, with any parts but in the instructions."""
    return tuple(tape.several(lambda: _any_turn(tape), 6))


def _any_turn(tape: Tape) -> Turn:
    role = tape.pick(["user", "assistant", "user", "assistant", "system"])
    if role == "system":
        return Turn(role, tuple(tape.several(lambda: Text(text(tape)), 2)))
    makers: list[Callable[[Tape], Part]] = [
        said,
        said,
        picture,
        thought,
        lambda tape: Call(tape.pick(IDS[:4]), tape.pick(NAMES), arguments(tape)),
        lambda tape: Result(
            tape.pick(IDS[:4]),
            tape.pick(["", "f"]),
            tuple(tape.several(lambda: said(tape), 2)),
            is_error=tape.one_in(2),
        ),
    ]
    return Turn(role, tuple(tape.several(lambda: tape.pick(makers)(tape), 4)))


# --- parts --------------------------------------------------------------------


def said(tape: Tape) -> Text:
    """Return a text; now and then one that a cache marker follows."""
    cache = {"type": "ephemeral"} if tape.one_in(12) else None
    return Text(text(tape), cache=cache)


def media(tape: Tape, mime: str) -> Media:
    """Return media of the type *mime*, wherever they lie."""
    kind = tape.number(6)
    if kind == 4:
        return Remote(tape.pick(_URLS), tape.pick(["", mime]))
    if kind == 5:
        issuer = tape.pick(ISSUERS)
        return Uploaded(issuer, _GOOGLES if issuer == "gemini" else "file-1")
    return Inline(mime, tape.pick(BASE64))


def picture(tape: Tape) -> Image:
    """Return a picture."""
    mime = tape.pick(["image/png", "image/jpeg", "image/webp"])
    return Image(media(tape, mime), tape.pick([None, None, "low", "high"]))


def document(tape: Tape) -> File:
    """Return a document."""
    return File(media(tape, "application/pdf"), tape.pick(["", "a.pdf", "r\xe9sum\xe9.pdf"]))


def sound(tape: Tape) -> Audio:
    """Return a piece of sound."""
    return Audio(Inline(tape.pick(["audio/wav", "audio/mpeg"]), tape.pick(BASE64)))


def thought(tape: Tape) -> Reasoning:
    """Return a thought, sealed by anybody or by nobody."""
    return Reasoning(text(tape), tape.maybe(lambda: seal(tape)))


# --- a conversation in order --------------------------------------------------


def conversation(tape: Tape) -> Conversation:
    """Return a conversation in which every call is answered, at once."""
    tools = _tools(tape)
    return Conversation(
        model="m",
        streaming=tape.one_in(2),
        turns=_turns(tape),
        system=tuple(tape.several(lambda: said(tape), 2)),
        tools=tools,
        tool_choice=_choice(tape, tools) if tools else None,
        parallel=tape.pick([None, None, True, False]),
        sampling=_sampling(tape),
        output=_output(tape) if tape.one_in(4) else None,
        thinking=_thinking(tape) if tape.one_in(3) else None,
        user=tape.pick(["", "", "user-1"]),
        metadata={"k": "v"} if tape.one_in(8) else None,
        cache_key="key-1" if tape.one_in(8) else "",
    )


def _turns(tape: Tape) -> tuple[Turn, ...]:
    ids = iter((*IDS[tape.number(len(IDS)) :], "call_8", "call_9", "call_10", "call_11"))
    turns: list[Turn] = [Turn("user", _given(tape))]
    for _ in range(tape.number(3)):
        if tape.one_in(6):
            turns.append(Turn("system", (Text(text(tape)),)))
        calls = tape.several(lambda: Call(next(ids), tape.pick(NAMES), arguments(tape)), 2)
        turns.append(Turn("assistant", (*_said(tape), *calls) or (Text("yes"),)))
        answers = [_answer(tape, call) for call in calls]
        turns.append(Turn("user", (*answers, *_given(tape))))
    return tuple(turns)


def _given(tape: Tape) -> tuple[Part, ...]:
    makers: list[Callable[[Tape], Part]] = [said, said, said, said, picture, document, sound]
    return (Text("asked"), *tape.several(lambda: tape.pick(makers)(tape), 2))


def _said(tape: Tape) -> tuple[Part, ...]:
    parts: list[Part] = []
    if tape.one_in(3):
        parts.append(thought(tape))
    parts += tape.several(lambda: Text(text(tape)), 2)
    if tape.one_in(10):
        parts.append(Refusal(text(tape)))
    return tuple(parts)


def _answer(tape: Tape, call: Call) -> Result:
    makers: list[Callable[[Tape], Text | Image]] = [said, said, said, picture]
    parts = tuple(tape.several(lambda: tape.pick(makers)(tape), 2))
    return Result(call.id, call.name, parts, is_error=tape.one_in(4))


# --- what else is asked -------------------------------------------------------


def _tools(tape: Tape) -> tuple[Tool, ...]:
    return tuple(
        Tool(
            "function",
            name,
            description=tape.pick(["", "What it does."]),
            parameters=tape.pick((None, *_SCHEMAS)),
            strict=tape.pick([None, None, False, True]),
        )
        for name in NAMES[: tape.number(4)]
    )


def _choice(tape: Tape, tools: Sequence[Tool]) -> ToolChoice | None:
    mode = tape.pick([None, "auto", "none", "required", "named"])
    if mode is None:
        return None
    return ToolChoice(mode, (tools[0].flat_name,) if mode == "named" else ())


def _sampling(tape: Tape) -> Sampling:
    def maybe(*values: Any) -> Any:
        return tape.pick([None, None, *values])

    return Sampling(
        max_tokens=maybe(1, 100, 32000),
        temperature=maybe(0, 0.5, 1, 2),
        top_p=maybe(0, 0.9, 1),
        top_k=maybe(1, 40),
        stop=tuple(tape.pick([(), (), ("END",), ("a", "b"), ("1", "2", "3", "4", "5", "6")])),
        seed=maybe(0, 7),
        presence_penalty=maybe(0, -0.5),
        frequency_penalty=maybe(0, 1.5),
        logprobs=maybe(0, 5),
    )


def _output(tape: Tape) -> OutputFormat:
    if tape.one_in(3):
        return OutputFormat()
    return OutputFormat(
        tape.pick(_SCHEMAS),
        name=tape.pick(["", "answer"]),
        description=tape.pick(["", "d"]),
        strict=tape.pick([None, True]),
    )


def _thinking(tape: Tape) -> Thinking:
    if tape.one_in(2):
        return Thinking(budget=tape.pick([-1, 0, 1024, 8000]), shown=tape.pick([None, True, False]))
    return Thinking(effort=tape.pick(_EFFORTS), shown=tape.pick([None, True, False]))
