"""
Gemini requests in the envelope that Code Assist wants around them.

The body is spliced, never decoded and encoded again: what the client wrote stays, but for
what that service does not take. It must never know which account asks, nor where.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiclient2api.dialects.gemini.request import NESTED, SYSTEM, GeminiRequest
from aiclient2api.dialects.system_prompt import dropped
from aiclient2api.dialects.wire_request import Fields, objects
from aiclient2api.framing.json_text import Edit, check, quote, splice
from aiclient2api.interfaces import IWireRequest

# Inside the envelope these are taken in camelCase only; what lies deeper, in both spellings.
_CAMEL = {
    "system_instruction": "systemInstruction",
    "generation_config": "generationConfig",
    "safety_settings": "safetySettings",
    "tool_config": "toolConfig",
    "cached_content": "cachedContent",
}
_MARKS = ("thought", "thoughtSignature", "thought_signature")


def wrapped(request: IWireRequest, project: str) -> bytes:
    """
    Return the body that asks for the answer to *request*.

    :param project: On whose account it goes; ``""`` if that is not known.
    """
    told = [(b"model", quote(_bare(request.model)))]
    if project:
        told.append((b"project", quote(project)))
    told.append((b"request", _inner(_fields(request))))
    return b"{" + b",".join(b'"' + key + b'":' + value for key, value in told) + b"}"


def wrapped_count(request: IWireRequest) -> bytes:
    """
    Return the body that asks how many tokens *request* has.

    Nothing but a model and contents is known to be taken there. So that a count is not far too
    low, a system instruction is counted as what a user says, and so is the text of the tools.
    """
    body = _fields(request)
    member = body.one(*NESTED)
    if member is not None and body.kind(member) == "object":
        body = Fields.of(body.text, member.start, member.key)
    contents = b",".join(_counted(body))
    model = quote("models/" + _bare(request.model))
    return b'{"request":{"model":' + model + b',"contents":[' + contents + b"]}}"


def _bare(model: str) -> str:
    return model.removeprefix("models/")


def _fields(request: IWireRequest) -> Fields:
    if isinstance(request, GeminiRequest):
        return request.body
    return Fields.of(check(request.to_bytes()))


def _inner(body: Fields) -> bytes:
    keys = [member.key for member in body.members]
    places = [(member.key_start, member.end) for member in body.members]
    edits = dropped(places, [at for at, key in enumerate(keys) if key == "model"])
    for member in body.members:
        camel = _CAMEL.get(member.key)
        if camel is not None and camel not in keys:
            edits.append((member.key_start, member.start, quote(camel) + b":"))
    contents = body.one("contents")
    if contents is not None and body.kind(contents) == "object":
        edits += [(contents.start, contents.start, b"["), (contents.end, contents.end, b"]")]
        edits += _spoken(Fields.of(body.text, contents.start))
    elif contents is not None and body.kind(contents) == "array":
        for start, _ in objects(body, contents):
            edits += _spoken(Fields.of(body.text, start))
    return splice(body.text.raw, edits).strip()


def _spoken(content: Fields) -> list[Edit]:
    """Return the edit that says who speaks, where nobody does."""
    role = content.one("role")
    if role is not None and content.raw(role) not in (b'""', b"null"):
        return []
    return [content.put("role", b'"user"')]


def _counted(body: Fields) -> Iterator[bytes]:
    """Yield what is counted, as contents."""
    system = body.one(*SYSTEM)
    if system is not None and body.kind(system) == "object":
        instruction = Fields.of(body.text, system.start)
        parts = instruction.one("parts")
        if parts is not None and instruction.raw(parts).strip(b"[] \t\r\n") not in (b"", b"null"):
            said = instruction.raw(parts)
            said = said if instruction.kind(parts) == "array" else b"[" + said + b"]"
            yield b'{"role":"user","parts":' + said + b"}"
    contents = body.one("contents")
    kind = body.kind(contents)
    if contents is not None and kind in ("array", "object"):
        places = (
            list(objects(body, contents)) if kind == "array" else [(contents.start, contents.end)]
        )
        for start, end in places:
            content = Fields.of(body.text, start)
            edits = [*_spoken(content), *_unthought(content)]
            moved = [(at - start, to - start, new) for at, to, new in edits]
            yield splice(body.text.raw[start:end], moved)
    tools = body.one("tools")
    if tools is not None and body.kind(tools) == "array" and body.raw(tools) != b"[]":
        text = quote(body.text.readable[tools.start : tools.end].decode())
        yield b'{"role":"user","parts":[{"text":' + text + b"}]}"


def _unthought(content: Fields) -> Iterator[Edit]:
    """Yield the edits after which no part is a thought: the endpoint takes none."""
    parts = content.one("parts")
    if parts is None or content.kind(parts) != "array":
        return
    for start, _ in objects(content, parts):
        part = Fields.of(content.text, start)
        thought = part.one("thought")
        if thought is None:
            continue
        if any(member.key not in _MARKS for member in part.members):
            yield part.without(thought)
        else:
            yield thought.key_start, thought.end, b'"text":""'
