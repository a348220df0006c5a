"""
Going on from an earlier response: what is kept of one, and how it is put into a request.

OpenAI keeps responses for its clients; where another dialect answers, the gateway has to.
Text in, text out: it must never know where anything is kept.
"""

from __future__ import annotations

import re
from typing import Any

import attrs
import msgspec

from aiclient2api.dialects.openai_responses.request import ResponsesRequest
from aiclient2api.dialects.watching import decode, value
from aiclient2api.dialects.wire_request import Fields, entry, listed
from aiclient2api.errors import GatewayError, InvalidRequest, UnknownRoute
from aiclient2api.framing.json_text import write
from aiclient2api.values import KeptAnswer

_PREVIOUS = "previous_response_id"
_ID = re.compile(r"(?!\.+$)[A-Za-z0-9_.:-]{1,512}")


class _Item(msgspec.Struct):
    id: Any = None
    type: Any = None
    role: Any = None


class _Answer(msgspec.Struct):
    id: str
    output: msgspec.Raw


_ANSWER = msgspec.json.Decoder(_Answer)
_ITEMS = msgspec.json.Decoder(list[_Item])


def is_id(text: str) -> bool:
    """Say whether *text* can be a response's id: nothing that a URL reads as its own."""
    return _ID.fullmatch(text) is not None


def previous(request: ResponsesRequest) -> str | None:
    """
    Return the id of the response that *request* goes on from.

    :raise InvalidRequest: if it is no string.
    """
    member = request.body.check(_PREVIOUS, "string", "null", "absent")
    if member is None or request.body.kind(member) == "null":
        return None
    return str(value(msgspec.Raw(request.body.text.readable[member.start : member.end])))


def references(request: ResponsesRequest) -> list[tuple[str, GatewayError]]:
    """
    Return the ids of conversations, items and containers that *request* names, with errors.

    Files, vector stores and prompts are not among them: no answer gives one out, so whoever
    has the upstream's key made them for all who may ask here.
    """
    found: list[tuple[str, str, Any]] = []
    # Each of several of one name: nobody knows which one an upstream takes.
    for member in request.body.members:
        raw = msgspec.Raw(request.body.text.readable[member.start : member.end])
        if member.key == "conversation":
            told = value(raw)
            found.append(("Conversation", "conversation", told))
            found.append(("Conversation", "conversation.id", entry(told, "id")))
        elif member.key == "tools":
            for tool in listed(value(raw)):
                found.append(("Container", "tools", entry(tool, "container")))
        elif member.key == "input":
            for item in decode(_ITEMS, bytes(raw)) or ():
                # Without a type it is a reference as well, if nobody says it.
                if item.type == "item_reference" or (item.type is None and item.role is None):
                    found.append(("Item", "input", item.id))
    return [
        (id, InvalidRequest(f"{kind} with id '{id[:100]}' not found.", param=where))
        for kind, where, id in found
        if isinstance(id, str)
    ]


def wants_store(request: ResponsesRequest) -> bool:
    """
    Say whether the response is to be kept, which is so unless the client says no.

    :raise InvalidRequest: if the wish is neither true nor false.
    """
    member = request.body.one("store")
    return request.body.kind(member) in ("null", "absent") or request.body.flag("store")


def input_items(request: ResponsesRequest) -> bytes:
    """Return the items of *request*'s own input, as a JSON array."""
    member = request.body.check("input", "string", "array", "null", "absent")
    if member is None or request.body.kind(member) == "null":
        return b"[]"
    raw = request.body.raw(member)
    if request.body.kind(member) == "array":
        return raw
    text = msgspec.Raw(raw)
    content = [{"type": "input_text", "text": text}]
    return write([{"type": "message", "role": "user", "content": content}])


def expanded(request: ResponsesRequest, earlier: bytes) -> ResponsesRequest:
    """
    Return *request* with the *earlier* items before its own, and no earlier id.

    Every other byte stays as it was.

    :param earlier: A JSON array: `KeptAnswer.items`.
    """
    body = request.body
    id = previous(request)
    items = _joined(earlier, input_items(request))
    told = body.one(_PREVIOUS)
    given = body.one("input")
    if told is None:
        return request
    if given is None:
        edits = [(told.key_start, told.end, b'"input":' + items)]
    else:
        edits = [(given.start, given.end, items), body.without(told)]
    return attrs.evolve(
        request, body=Fields.of(body.text.spliced(edits)), previous=id or request.previous
    )


def kept(request: ResponsesRequest, answer: bytes) -> KeptAnswer | None:
    """
    Return what to keep of *answer*, so that a later request can go on from it.

    Instructions are not kept: each request brings its own.

    :param request: With all earlier items in it; see `expanded`.
    :param answer: The response object.
    :return: None if the client wants nothing kept, or *answer* is no response.
    """
    told = decode(_ANSWER, answer) if wants_store(request) else None
    output = b"" if told is None else bytes(told.output)
    if told is None or not told.id or output[:1] != b"[":
        return None
    items = _joined(input_items(request), output)
    return KeptAnswer(id=told.id, response=answer, items=items)


def missing(id: str) -> InvalidRequest:
    """Return the error for a request that goes on from what nobody knows, as OpenAI words it."""
    return InvalidRequest(
        f"Previous response with id '{id[:100]}' not found.",
        code="previous_response_not_found",
        param=_PREVIOUS,
    )


def not_found(id: str) -> UnknownRoute:
    """Return the error for an attempt to get or delete what is not kept, as OpenAI words it."""
    return UnknownRoute(f"Response with id '{id[:100]}' not found.")


def deleted(id: str) -> bytes:
    """Return the answer to the deletion of a response."""
    return write({"id": id, "object": "response", "deleted": True})


def _joined(first: bytes, second: bytes) -> bytes:
    """Return one JSON array of the elements of two."""
    inner = [array.strip()[1:-1].strip() for array in (first, second)]
    return b"[" + b",".join(each for each in inner if each) + b"]"
