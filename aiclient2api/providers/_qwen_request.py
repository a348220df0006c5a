"""
What Qwen's service wants of a request that Chat Completions does not: one leading system
message, and a tool where none is offered.

Bytes in, bytes out: what need not change stays as the client wrote it. It must never know an
account, and never put words into a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiclient2api.dialects import system_prompt
from aiclient2api.dialects.wire_request import Fields, kind_at, wrong
from aiclient2api.framing.json_text import Edit, Member, check
from aiclient2api.interfaces import IWireRequest

PLACEHOLDER = "nothing_to_call"
"""The tool that is offered where the client offers none."""

_ROLES = ("system", "developer")
_MARK = b'"cache_control":{"type":"ephemeral"}'
_PLACEHOLDER = (
    b'[{"type":"function","function":{"name":"' + PLACEHOLDER.encode() + b'",'
    b'"description":"There is nothing to call. Answer in text.",'
    b'"parameters":{"type":"object","properties":{}}}}]'
)


def fitted(request: IWireRequest) -> bytes:
    """
    Return the body of *request* as Qwen's service takes it.

    The texts of all system and developer messages stand in one message in front, in their
    order. A body without messages is somebody else's mistake, and stays as it is.

    :raise InvalidRequest: if a field that is looked at stands there twice, or is of the wrong
        form.
    """
    body = Fields.of(check(request.to_bytes()))
    messages = body.one("messages")
    if body.kind(messages) != "array" or messages is None:
        return body.text.raw
    edits = [*_system_edits(body, messages), *_tool_edits(body, streaming=request.streaming)]
    return body.text.spliced(edits).raw


def offers_nothing(request: IWireRequest) -> bool:
    """
    Say whether the answer to *request* may hold calls that nobody can answer.

    Qwen's models, when they stream and no tool is offered, call some at times, or say what
    means nothing. So they are offered a tool that stands for none, and its calls are dropped.
    """
    if not request.streaming or request.action != "generate":
        return False
    body = Fields.of(check(request.to_bytes()))
    return _lacks(body, "tools") and _lacks(body, "functions")


def _tool_edits(body: Fields, *, streaming: bool) -> Iterator[Edit]:
    tools = body.one("tools")
    if not _lacks(body, "tools"):
        return
    if streaming and _lacks(body, "functions"):
        yield body.put("tools", _PLACEHOLDER)
    elif tools is not None:
        # "[] is too short - 'tools'"
        yield body.without(tools)


def _lacks(body: Fields, key: str) -> bool:
    member = body.one(key)
    if member is None or body.kind(member) == "null":
        return True
    return body.kind(member) == "array" and not body.text.elements(member.start)


def _system_edits(body: Fields, messages: Member) -> list[Edit]:
    text = body.text
    items = text.elements(messages.start)
    found = system_prompt.with_role(text, items, _ROLES)
    parts: list[bytes] = []
    for index in found:
        parts += _parts(Fields.of(text, items[index][0], f"messages[{index}]"))
    if found == [0] and _stands(body, items[0]) and b'"cache_control"' in text.raw:
        return []
    # Whoever marks something knows what is worth keeping; there may be four marks only.
    if b'"cache_control"' not in text.raw:
        last = parts[-1] if parts else b'{"type":"text","text":""}'
        parts[-1:] = [last[:-1].rstrip() + b"," + _MARK + b"}"]
    parts = parts or [b'{"type":"text","text":""}']
    message = b'{"role":"system","content":[' + b",".join(parts) + b"]}"
    kept = len(items) > len(found)
    start = items[0][0] if items else messages.start + 1
    front: Edit = (start, start, message + (b"," if kept else b""))
    return [front, *system_prompt.dropped(items, found)]


def _stands(body: Fields, place: tuple[int, int]) -> bool:
    """Say whether the first message is a system message made of parts."""
    message = Fields.of(body.text, place[0])
    role, content = message.one("role"), message.one("content")
    if role is None or content is None or message.raw(role) != b'"system"':
        return False
    return message.kind(content) == "array" and bool(body.text.elements(content.start))


def _parts(message: Fields) -> Iterator[bytes]:
    """Yield the parts of a message's content, each as it was written."""
    content = message.one("content")
    where = message.path("content")
    if content is None or message.kind(content) == "null":
        return
    text = message.text
    if message.kind(content) == "array":
        places = text.elements(content.start)
    else:
        places = [(content.start, content.end)]
    for start, end in places:
        kind = kind_at(text, start)
        if kind == "object":
            yield text.raw[start:end]
        elif kind != "string":
            raise wrong(where, kind, "a string or a list of text parts")
        elif end - start > len('""'):
            yield b'{"type":"text","text":' + text.raw[start:end] + b"}"
