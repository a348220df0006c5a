"""
What conversions lose, held against the tables of ``docs/dialects.md``.

A row of a table says that something cannot be carried; here is what shows it, for each row
and each dialect, and that nothing is lost where the table has no mark.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.events import (
    CALL,
    MEDIA,
    REASONING,
    REFUSAL,
    TEXT,
    Cited,
    MediaDelta,
)
from aiclient2api.conversation.grammar import Block, Reply, unfold
from aiclient2api.conversation.losses import FAMILIES, LOSSES, known
from aiclient2api.conversation.request import (
    Audio,
    Call,
    Conversation,
    File,
    Image,
    Inline,
    OutputFormat,
    Part,
    Reasoning,
    Result,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.seals import PARCEL, Seal
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.convert import conversation_of, written
from aiclient2api.interfaces import IDialect, IWireRequest
from aiclient2api.values import Route, Usage

PAGE = Path(__file__).resolve().parent.parent / "docs" / "dialects.md"
COLUMNS = {
    "Chat": "openai-chat",
    "Responses": "openai-responses",
    "Messages": "anthropic-messages",
    "Gemini": "gemini",
}
MODELS = {
    "openai-chat": "gpt-4.1",
    "openai-responses": "gpt-4.1",
    "anthropic-messages": "claude-opus-4-1",
    "gemini": "gemini-2.5-pro",
}
"""One model of each dialect: what a model cannot do is no fault of the dialect."""
BY_NAME: Mapping[str, IDialect] = {dialect.name: dialect for dialect in DIALECTS}

_PNG = Inline("image/png", "iVBORw0KGgo=")
_FUNCTION = Tool("function", "f", parameters={"type": "object", "properties": {}})
_SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string", "minLength": 3}},
    "required": ["a"],
    "additionalProperties": False,
}
_GRAMMAR = {"format": {"type": "grammar", "syntax": "lark", "definition": "start: /a+/"}}


def said(*parts: Part, role: str = "user") -> tuple[Turn, ...]:
    """Return a conversation of one turn, with a question in front if it is the model's."""
    first = (Turn("user", (Text("hi"),)),) if role == "assistant" else ()
    return (*first, Turn(role, parts))


def looped(*results: Part, call: Call | None = None, thoughts: tuple[Part, ...] = ()) -> Any:
    """Return the turns of a question, a call and its results."""
    call = call or Call("c1", "f", "{}")
    return (
        Turn("user", (Text("hi"),)),
        Turn("assistant", (*thoughts, call)),
        Turn("user", results or (Result("c1", "f", (Text("ok"),)),)),
    )


_HI = said(Text("hi"))
_EPHEMERAL = {"type": "ephemeral"}

CASES: Mapping[str, Mapping[str, Any]] = {
    "audio": {"turns": said(Text("hi"), Audio(Inline("audio/wav", "UklGRg==")))},
    "cache_control": {"turns": said(Text("hi", _EPHEMERAL))},
    "detail": {"turns": said(Text("hi"), Image(_PNG, "low"))},
    "file": {"turns": said(Text("hi"), File(Inline("application/zip", "UEsDBA=="), "a.zip"))},
    "file_id": {"turns": said(Text("hi"), File(Uploaded("elsewhere", "f-1"), "a.pdf"))},
    "frequency_penalty": {"sampling": Sampling(frequency_penalty=0.5)},
    "image": {"turns": said(Text("hi"), Image(Inline("image/x-icon", "AAABAA==")))},
    "json_object": {"output": OutputFormat()},
    "logprobs": {"sampling": Sampling(logprobs=2)},
    "max_tokens": {"sampling": Sampling(max_tokens=5)},
    "metadata": {"metadata": {"a": "b"}},
    "parallel_tool_calls": {"tools": (_FUNCTION,), "parallel": False},
    "prefill": {"turns": said(Text("It is"), role="assistant")},
    "presence_penalty": {"sampling": Sampling(presence_penalty=0.5)},
    "prompt_cache_key": {"cache_key": "k"},
    "reasoning": {
        "tools": (_FUNCTION,),
        "turns": looped(thoughts=(Reasoning("Hm.", Seal("elsewhere", "s")),)),
    },
    "schema": {"tools": (attrs.evolve(_FUNCTION, parameters=_SCHEMA),)},
    "seed": {"sampling": Sampling(seed=7)},
    "stop": {"sampling": Sampling(stop=("a", "b", "c", "d", "e", "f"))},
    "strict": {"tools": (attrs.evolve(_FUNCTION, strict=True),)},
    "system_position": {
        "turns": (*_HI, *said(Text("ok"), role="assistant"), Turn("system", (Text("Now."),)), *_HI)
    },
    "temperature": {"sampling": Sampling(temperature=1.7)},
    "thinking": {"thinking": Thinking("xhigh")},
    "tool:web_search": {"tools": (_FUNCTION, Tool("web_search", "web_search"))},
    "tool_choice": {"tools": (_FUNCTION,), "tool_choice": ToolChoice("named", ("g",))},
    "tool_error": {
        "tools": (_FUNCTION,),
        "turns": looped(Result("c1", "f", (Text("boom"),), is_error=True)),
    },
    "tool_grammar": {"tools": (Tool("custom", "patch", "Patch.", raw=_GRAMMAR),)},
    "tool_media": {
        "tools": (_FUNCTION,),
        "turns": looped(Result("c1", "f", (Text("ok"), Image(_PNG)))),
    },
    "tool_result": {"turns": said(Result("c9", "f", (Text("ok"),)))},
    "top_k": {"sampling": Sampling(top_k=40)},
    "top_p": {"sampling": Sampling(temperature=0.5, top_p=0.9)},
    "user": {"user": "u-1"},
}
"""What to say, for each row of the table of requests."""


def request_of(source: str, body: Mapping[str, Any], action: str = "generate") -> IWireRequest:
    """Return a request in the dialect *source*."""
    route = Route(action=action, model="m", streaming=False)
    return BY_NAME[source].parse(body=json.dumps(body).encode(), route=route)


_CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
_RESPONSES = {"model": "m", "input": "hi"}
_MESSAGES = {**_CHAT, "max_tokens": 99}
_GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
BODIES: Mapping[str, Mapping[str, Any]] = {
    "openai-chat": _CHAT,
    "openai-responses": _RESPONSES,
    "anthropic-messages": _MESSAGES,
    "gemini": _GEMINI,
}

READ: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("openai-chat", "n"): {"n": 2},
    ("openai-chat", "name"): {"messages": [{"role": "user", "name": "Bo", "content": "hi"}]},
    ("openai-chat", "output_format"): {"response_format": {"type": "grammar", "grammar": "a"}},
    ("openai-chat", "field:service_tier"): {"service_tier": "flex"},
    ("openai-chat", "field:logit_bias"): {"logit_bias": {"1": 2}},
    ("openai-chat", "field:modalities"): {"modalities": ["text", "audio"]},
    ("openai-chat", "field:prediction"): {"prediction": {"type": "content", "content": "a"}},
    ("openai-chat", "field:verbosity"): {"verbosity": "low"},
    ("openai-responses", "field:truncation"): {"truncation": "auto"},
    ("openai-responses", "field:service_tier"): {"service_tier": "flex"},
    ("openai-responses", "field:max_tool_calls"): {"max_tool_calls": 3},
    ("openai-responses", "tool:file_search"): {
        "tools": [{"type": "file_search", "vector_store_ids": ["v"]}]
    },
    ("openai-responses", "tool:code_interpreter"): {
        "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]
    },
    ("openai-responses", "tool:mcp"): {"tools": [{"type": "mcp", "server_label": "s"}]},
    ("openai-responses", "tool:image_generation"): {"tools": [{"type": "image_generation"}]},
    ("openai-responses", "part:web_search_call"): {
        "input": [
            {"role": "user", "content": "hi"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        ]
    },
    ("anthropic-messages", "attribution"): {
        "system": [{"type": "text", "text": "x-anthropic-billing-header: cc_version=1"}]
    },
    ("anthropic-messages", "citations"): {
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "document",
                        "citations": {"enabled": True},
                        "source": {"type": "text", "media_type": "text/plain", "data": "a"},
                    }
                ],
            }
        ]
    },
    ("anthropic-messages", "field:container"): {"container": "c"},
    ("anthropic-messages", "field:context_management"): {"context_management": {"edits": []}},
    ("anthropic-messages", "field:mcp_servers"): {"mcp_servers": [{"type": "url", "url": "u"}]},
    ("anthropic-messages", "field:service_tier"): {"service_tier": "auto"},
    ("anthropic-messages", "field:tools.input_examples"): {
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "input_examples": [{"a": 1}]}]
    },
    ("anthropic-messages", "tool:bash_20250124"): {
        "tools": [{"type": "bash_20250124", "name": "bash"}]
    },
    ("anthropic-messages", "tool:text_editor_20250728"): {
        "tools": [{"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}]
    },
    ("anthropic-messages", "part:server_tool_use"): {
        "messages": [
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
                    {"type": "text", "text": "ok"},
                ],
            },
            {"role": "user", "content": "so?"},
        ]
    },
    ("gemini", "n"): {"generationConfig": {"candidateCount": 2}},
    ("gemini", "cached_content"): {"cachedContent": "cachedContents/1"},
    ("gemini", "field:safetySettings"): {
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    },
    ("gemini", "tool:codeExecution"): {"tools": [{"codeExecution": {}}]},
    ("gemini", "tool:urlContext"): {"tools": [{"urlContext": {}}]},
    ("gemini", "part:executableCode"): {
        "contents": [
            {"role": "user", "parts": [{"text": "hi"}]},
            {
                "role": "model",
                "parts": [
                    {"executableCode": {"language": "PYTHON", "code": "1"}},
                    {"text": "ok"},
                ],
            },
            {"role": "user", "parts": [{"text": "so?"}]},
        ]
    },
}
"""What a client of each dialect may say that only its own dialect knows: each row, a request."""


_REPLY = Reply("id-1", "m", 1, reason="end", usage=Usage(input=5, output=3))


def block(kind: str, text: str = "", **fields: Any) -> Block:
    """Return a block of an answer."""
    sections = fields.pop("sections", [text] if kind == REASONING and text else [])
    return Block(kind, text=text, sections=sections, closed=True, **fields)


_SEAL = Seal("elsewhere", "s")
_SOUND = MediaDelta(0, "audio/wav", "UklGRg==")
_UNNAMED = [Cited(0, title="A book", quoted="so")]
ANSWERED: Mapping[tuple[str, str], tuple[Reply, str, str]] = {
    ("openai-chat", "seal of a thought"): (
        attrs.evolve(_REPLY, blocks=[block(REASONING, "Hm.", seal=_SEAL), block(TEXT, "Hi.")]),
        '"reasoning_content":"Hm."',
        PARCEL,
    ),
    ("openai-chat", "sound"): (
        attrs.evolve(_REPLY, blocks=[block(MEDIA, media=_SOUND)]),
        "audio/wav",
        "UklGRg",
    ),
    ("openai-chat", "source without an address"): (
        attrs.evolve(_REPLY, blocks=[block(TEXT, "Hi.", citations=_UNNAMED)]),
        '"content":"Hi."',
        "A book",
    ),
    ("openai-chat", "stop sequence"): (
        attrs.evolve(_REPLY, reason="stop_sequence", stop_sequence="END"),
        '"finish_reason":"stop"',
        "END",
    ),
    ("openai-chat", "pause"): (
        attrs.evolve(_REPLY, reason="paused"),
        '"finish_reason":"stop"',
        "pause",
    ),
    ("openai-responses", "seal of a call"): (
        attrs.evolve(_REPLY, blocks=[block(CALL, "{}", id="c1", name="f", seal=_SEAL)]),
        '"call_id":"c1"',
        PARCEL,
    ),
    ("openai-responses", "sound"): (
        attrs.evolve(_REPLY, blocks=[block(MEDIA, media=_SOUND)]),
        "audio/wav",
        "UklGRg",
    ),
    ("openai-responses", "source without an address"): (
        attrs.evolve(_REPLY, blocks=[block(TEXT, "Hi.", citations=_UNNAMED)]),
        '"text":"Hi."',
        "A book",
    ),
    ("openai-responses", "stop sequence"): (
        attrs.evolve(_REPLY, reason="stop_sequence", stop_sequence="END"),
        '"status":"completed"',
        "END",
    ),
    ("openai-responses", "pause"): (
        attrs.evolve(_REPLY, reason="paused"),
        '"status":"completed"',
        "pause",
    ),
    ("anthropic-messages", "seal of a call"): (
        attrs.evolve(_REPLY, blocks=[block(CALL, "{}", id="c1", name="f", seal=_SEAL)]),
        '"id":"c1"',
        PARCEL,
    ),
    ("anthropic-messages", "picture or sound"): (
        attrs.evolve(
            _REPLY, blocks=[block(MEDIA, media=MediaDelta(0, "image/png", "iVBORw0KGgo="))]
        ),
        "image/png",
        "iVBORw0KGgo",
    ),
    ("anthropic-messages", "refusal"): (
        attrs.evolve(_REPLY, blocks=[block(REFUSAL, "No.")]),
        '"text":"No."',
        '"type":"refusal"',
    ),
    ("anthropic-messages", "source without an address"): (
        attrs.evolve(_REPLY, blocks=[block(TEXT, "Hi.", citations=_UNNAMED)]),
        '"text":"Hi."',
        "A book",
    ),
    ("anthropic-messages", "reasoning tokens"): (
        attrs.evolve(_REPLY, usage=Usage(input=5, output=3777, reasoning=3333)),
        '"output_tokens":3777',
        "3333",
    ),
    ("gemini", "refusal"): (
        attrs.evolve(_REPLY, blocks=[block(REFUSAL, "No.")]),
        '"finishReason":"SAFETY"',
        "refusal",
    ),
    ("gemini", "cache writes"): (
        attrs.evolve(_REPLY, usage=Usage(input=5, output=3, cache_write=3333)),
        '"promptTokenCount":5',
        "3333",
    ),
    ("gemini", "stop sequence"): (
        attrs.evolve(_REPLY, reason="stop_sequence", stop_sequence="END"),
        '"finishReason":"STOP"',
        "END",
    ),
    ("gemini", "pause"): (
        attrs.evolve(_REPLY, reason="paused"),
        '"finishReason":"STOP"',
        "pause",
    ),
}
"""An answer for each row of the table of answers: what is in it then, and what is not."""


def answer(client: str, reply: Reply) -> str:
    """Return *reply* as a client of that dialect gets it, whole."""
    request = request_of(client, BODIES[client])
    encoder = BY_NAME[client].encoder(
        request=request,
        conversation=conversation_of(request),
        model="m",
        make_id=lambda: "0" * 48,
        now=lambda: 1.0,
    )
    return encoder.reply(events=unfold(reply)).decode()


def losses(target: str, said: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what is lost on the way to *target*."""
    fields = {"turns": _HI, "sampling": Sampling(), **said}
    if target == "anthropic-messages" and fields["sampling"].max_tokens is None:
        fields["sampling"] = attrs.evolve(fields["sampling"], max_tokens=9000)
    conversation = Conversation(model=MODELS[target], streaming=False, **fields)
    source = next(name for name in BODIES if name != target)
    request = request_of(source, BODIES[source])
    return written(request, conversation, BY_NAME[target]).losses


def tables() -> list[list[list[str]]]:
    """Return the tables of the page, as rows of cells."""
    found: list[list[list[str]]] = [[]]
    for line in PAGE.read_text("utf-8").split("\n"):
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def table(first: str) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table whose first column is called *first*."""
    for head, _, *rows in tables():
        if head[0] == first:
            return head, rows
    raise AssertionError(f"no table begins with {first}")


class RequestLossesTests(SynchronousTestCase):
    """The table of what a provider cannot be told."""

    def test_every_row_and_every_mark(self) -> None:
        """What is marked is lost and named, what is not marked is carried."""
        head, rows = table("Code")
        targets = [(column, COLUMNS[name]) for column, name in enumerate(head) if name in COLUMNS]
        self.assertEqual(len(targets), 4)
        codes = [row[0].strip("`") for row in rows]
        self.assertEqual(sorted(codes), sorted(CASES))
        for row in rows:
            code = row[0].strip("`")
            for column, target in targets:
                lost = losses(target, CASES[code])
                self.assertEqual(bool(row[column]), code in lost, (code, target, lost))
                self.assertEqual([each for each in lost if not known(each)], [])

    def test_a_plain_request_loses_nothing(self) -> None:
        """In any direction."""
        for target in BY_NAME:
            self.assertEqual(losses(target, {}), (), target)


class ReadLossesTests(SynchronousTestCase):
    """The table of what only a client's own dialect knows."""

    def test_every_row(self) -> None:
        """It is named whatever dialect it goes to, and only then."""
        _, rows = table("Client")
        told = {(COLUMNS[row[0]], row[1].strip("`")) for row in rows}
        self.assertEqual(sorted(told), sorted(READ))
        for (source, code), fields in READ.items():
            request = request_of(source, {**BODIES[source], **fields})
            self.assertEqual(conversation_of(request).dropped, (code,), (source, code))
            for target in BY_NAME.values():
                if target.name != source:
                    theirs = written(request, conversation_of(request), target)
                    self.assertEqual(theirs.losses, (code,), (source, target.name))

    def test_every_code_is_explained(self) -> None:
        """The page has a row for each code there is, and each is used by somebody."""
        shown = {code for _, code in READ} | set(CASES)
        families = {code.partition(":")[0] for code in shown}
        self.assertEqual(set(LOSSES) - shown, set())
        self.assertEqual(set(FAMILIES) - families, set())
        self.assertEqual([code for code in shown if not known(code)], [])


class AnswerLossesTests(SynchronousTestCase):
    """The table of what a client cannot be told of an answer."""

    def test_every_row(self) -> None:
        """It is not there; what stands in its place is."""
        _, rows = table("Answer to")
        told = {(COLUMNS[row[0]], row[1]) for row in rows}
        self.assertEqual(sorted(told), sorted(ANSWERED))
        for (client, what), (reply, present, absent) in ANSWERED.items():
            body = answer(client, reply)
            self.assertIn(present, body, (client, what))
            self.assertNotIn(absent, body, (client, what))
