"""
A Messages request as Kiro is asked it.

The service answers whatever it does not like with one and the same sentence, so every rule
that is known of it is obeyed here: turns alternate, none is empty, results answer the calls
just before them, nothing is null. It adds nothing of its own to a prompt but what stands in
for something missing. It must never know an address or a token.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from aiclient2api.conversation import arguments, call_ids
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
    Refusal,
    Remote,
    Result,
    Text,
    Turn,
)
from aiclient2api.conversation.turns import hoisted, settled
from aiclient2api.dialects.convert import conversation_of
from aiclient2api.dialects.wire_request import entry
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.framing.json_text import exact, masked, read, write
from aiclient2api.interfaces import IWireRequest
from aiclient2api.providers._kiro_models import kiro_model
from aiclient2api.providers._kiro_tools import sent_names, specifications, without_nothing

LONGEST = 900 * 1024
"""Bytes of a request; what other gateways found to be safe."""

GO_ON = "Continue"
ANSWERED = "Tool results provided."
LOOK = "Please analyze the attached image."
NOTHING = "."
"""What stands where a turn says nothing."""

BEGINNING = "(The beginning of this conversation is not shown.)"

_ORIGIN = "AI_EDITOR"
_FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_TEXTS = ("application/json", "application/xml", "application/yaml", "application/javascript")
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "aiclient2api:kiro")
_LONGEST_ID = 64
_LEAST_BUDGET, _MOST_BUDGET = 1024, 24576
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium"}
_ANY_JSON = "Answer with one JSON object and nothing else: no prose, no code fence."
_THIS_JSON = (
    "Answer with JSON and nothing else: no prose, no code fence. It must be valid for this"
    " JSON Schema:\n"
)


def kiro_body(request: IWireRequest, *, account: str, arn: str | None) -> bytes:
    """
    Return the body that asks what *request* asks.

    :param account: Its id: conversations of two accounts have nothing in common.
    :param arn: The account's profile, if it has one.
    :raise InvalidRequest: if it asks for what cannot be had, or says nothing.
    :raise UpstreamError: `Fault.CONTEXT` if it is too long.
    """
    conversation = conversation_of(request)
    _check_choice(conversation)
    names = sent_names(conversation)
    moved, _ = hoisted(conversation)
    thinking = thinking_words(request, conversation)
    writer = _Writer(kiro_model(conversation.model), names, thinks=bool(thinking))
    items = writer.items(settled(moved.turns).turns)
    tools, added = specifications(conversation, names)
    system = "\n\n".join(
        filter(None, (*(text.text for text in moved.system), *added, *_form(conversation.output)))
    )
    instructions = "\n".join(filter(None, (thinking, system)))
    said = items[0].text
    if instructions:
        items[0].text = f"{instructions}\n\n{said}" if said else instructions
    items[-1].tools = tools
    *history, current = [writer.item(each) for each in items]
    named = "\0".join((account, conversation.model, system, said))
    state = {
        "agentTaskType": "vibe",
        "chatTriggerType": "MANUAL",
        "conversationId": str(uuid.uuid5(_NAMESPACE, _sendable(named))),
        "currentMessage": current,
        **({"history": history} if history else {}),
    }
    body = write({"conversationState": state, **({"profileArn": arn} if arn else {})})
    if len(body) > LONGEST:
        raise UpstreamError(
            f"The conversation is longer than the {LONGEST // 1024} KiB that Kiro takes, tools "
            "and images included; make it shorter.",
            fault=Fault.CONTEXT,
            status=400,
            code="context_length_exceeded",
        )
    return body


def thinking_words(request: IWireRequest, conversation: Conversation) -> str:
    """
    Return the words that make the model think, ``""`` where it is not to.

    An effort alone is no wish for thoughts: that is what ``thinking`` says in this dialect.
    """
    thinking = conversation.thinking
    if thinking is None:
        return ""
    asked = entry(entry(read(request.to_bytes()), "thinking"), "type")
    if asked not in ("enabled", "adaptive"):
        return ""
    budget = thinking.budget
    if budget is not None and budget > 0:
        tokens = min(max(budget, _LEAST_BUDGET), _MOST_BUDGET)
        return (
            "<thinking_mode>enabled</thinking_mode>"
            f"<max_thinking_length>{tokens}</max_thinking_length>"
        )
    effort = _EFFORTS.get(thinking.effort or "", "high")
    return f"<thinking_mode>adaptive</thinking_mode><thinking_effort>{effort}</thinking_effort>"


def _check_choice(conversation: Conversation) -> None:
    choice = conversation.tool_choice
    if choice is not None and choice.mode not in ("auto", "none"):
        raise InvalidRequest(
            "Kiro cannot be made to call a tool; let it choose (tool_choice auto), or ask another"
            " provider.",
            code="unsupported_tool_choice",
            param="tool_choice",
        )


def _form(output: OutputFormat | None) -> Iterable[str]:
    if output is None:
        return ()
    if output.schema is None:
        return (_ANY_JSON,)
    return (_THIS_JSON + write(output.schema).decode(),)


@attrs.define
class _Item:
    """One turn, in the making."""

    role: str
    text: str = ""
    images: list[dict[str, Any]] = attrs.field(factory=list)
    results: list[dict[str, Any]] = attrs.field(factory=list)
    calls: list[dict[str, Any]] = attrs.field(factory=list)
    tools: list[dict[str, Any]] = attrs.field(factory=list)


@attrs.define
class _Writer:
    """
    Writes turns.

    :ivar names: What each tool is sent as.
    :ivar thinks: Whether thoughts of earlier turns go back: a model that is not to think
        would copy the tags they stand in.
    """

    _model: str
    _names: dict[str, str]
    _thinks: bool

    def items(self, turns: Sequence[Turn]) -> list[_Item]:
        """
        Return the turns, the user's first and last.

        :raise InvalidRequest: if there is none.
        """
        items = [self._turn(turn) for turn in turns]
        # Claude Code begins some answers itself, which cannot be gone on from here.
        if items and _is_begun(items[-1]):
            items.pop()
        if not items:
            raise InvalidRequest(
                "The conversation holds no message; send one.",
                code="missing_field",
                param="messages",
            )
        if items[0].role == "assistant":
            items.insert(0, _Item("user", BEGINNING))
        if items[-1].role == "assistant":
            items.append(_Item("user", GO_ON))
        return items

    def item(self, item: _Item) -> dict[str, Any]:
        """Return a turn as it is sent."""
        text = item.text if item.text.strip() else _instead(item)
        if item.role == "assistant":
            calls = {"toolUses": item.calls} if item.calls else {}
            return {"assistantResponseMessage": {"content": text, **calls}}
        message: dict[str, Any] = {"content": text, "modelId": self._model, "origin": _ORIGIN}
        if item.images:
            message["images"] = item.images
        context = {"tools": item.tools, "toolResults": item.results}
        context = {key: value for key, value in context.items() if value}
        if context:
            message["userInputMessageContext"] = context
        return {"userInputMessage": message}

    def _turn(self, turn: Turn) -> _Item:
        item = _Item(turn.role)
        texts: list[str] = []
        thoughts: list[str] = []
        for part in turn.parts:
            if isinstance(part, Result):
                item.results.append(self._result(part, item.images))
            elif isinstance(part, Call):
                item.calls.append(self._call(part))
            elif isinstance(part, Reasoning):
                thoughts += [part.text] if part.text and self._thinks else []
            else:
                texts += self._said(part, item.images)
        said = "\n".join(texts)
        if thoughts and turn.role == "assistant":
            said = f"<thinking>{''.join(thoughts)}</thinking>\n\n{said}"
        item.text = said
        return item

    def _call(self, call: Call) -> dict[str, Any]:
        given = exact(masked(arguments.settled(call.arguments).encode()))
        return {
            "toolUseId": _id(call.id),
            "name": self._names[call.name],
            "input": without_nothing(given),
        }

    def _result(self, result: Result, images: list[dict[str, Any]]) -> dict[str, Any]:
        before = len(images)
        texts = [text for part in result.parts for text in self._said(part, images)]
        told = "\n".join(texts)
        if not told.strip():
            told = LOOK if len(images) > before else "(no output)"
        return {
            "toolUseId": _id(result.id),
            "status": "error" if result.is_error else "success",
            "content": [{"text": told}],
        }

    def _said(self, part: Part, images: list[dict[str, Any]]) -> Iterable[str]:
        """Return the text of a part; a picture goes to *images*."""
        if isinstance(part, Text | Refusal):
            return (part.text,)
        if isinstance(part, Image | File) and isinstance(part.media, Inline):
            mime = part.media.mime.partition(";")[0].strip().lower().replace("/jpg", "/jpeg")
            if mime in _FORMATS:
                images.append(_picture(_FORMATS[mime], part.media.data))
                return ()
            if isinstance(part, File) and (mime.startswith("text/") or mime in _TEXTS):
                head = f"{part.name}:\n" if part.name else ""
                return (head + _decoded(part.media.data).decode("utf-8", "replace"),)
        if isinstance(part, Image) and isinstance(part.media, Remote):
            raise InvalidRequest(
                "Kiro fetches no images; send the image itself, as base64.",
                code="unsupported_image",
                param="messages",
            )
        if isinstance(part, Image | File | Audio):
            what = {Image: "An image", File: "A file", Audio: "A sound"}[type(part)]
            name = f" ({part.name})" if isinstance(part, File) and part.name else ""
            return (f"[{what}{name} is left out: it cannot be sent here.]",)
        return ()


def _is_begun(item: _Item) -> bool:
    return item.role == "assistant" and item.text.strip() == "{" and not item.calls


def _picture(format: str, data: str) -> dict[str, Any]:
    data = "".join(data.split())
    if not _decoded(data):
        raise InvalidRequest(
            "An image is empty; send its bytes as base64.", code="invalid_image", param="messages"
        )
    return {"format": format, "source": {"bytes": data}}


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        raise InvalidRequest(
            "The data of an image or a file is not valid base64; encode it anew.",
            code="invalid_base64",
            param="messages",
        ) from None


def _instead(item: _Item) -> str:
    if item.role == "assistant":
        return NOTHING
    if item.results:
        return ANSWERED
    return LOOK if item.images else GO_ON


def _id(id: str) -> str:
    return call_ids.short(call_ids.plain(id), _LONGEST_ID)


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
