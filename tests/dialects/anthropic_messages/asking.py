"""Requests of the Messages dialect, read and written in one line each."""

from __future__ import annotations

import base64
import json
from typing import Any

from aiclient2api.conversation.losses import known
from aiclient2api.conversation.request import (
    Conversation,
    Part,
    Text,
    Tool,
    Turn,
)
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.dialects.anthropic_messages.request import MessagesRequest
from aiclient2api.dialects.anthropic_messages.write_request import write_request
from aiclient2api.dialects.convert import conversation_of
from aiclient2api.values import Route
from tests.dialects.anthropic_messages.judge import judge_request

NAME = "anthropic-messages"
CLAUDE = "claude-sonnet-4-5"
EPHEMERAL = {"type": "ephemeral"}
SEAL = Seal(NAME, "EqQB")
FOREIGN = Seal("gemini", "AAAA")
USER = Turn("user", (Text("hi"),))
TOOL = Tool("function", "f", "d", parameters={"type": "object"})


def request_of(model: str = CLAUDE, **fields: Any) -> MessagesRequest:
    """Return the request for a conversation with *fields*, judged."""
    fields.setdefault("turns", (USER,))
    conversation = Conversation(model, **{"streaming": False, **fields})
    request = write_request(conversation)
    judge_request(request.raw, counting=conversation.action == "count_tokens")
    assert all(map(known, request.losses)), request.losses
    return request


def asked(model: str = CLAUDE, **fields: Any) -> dict[str, Any]:
    """Return what the upstream is asked for a conversation with *fields*, and the losses."""
    request = request_of(model, **fields)
    told: dict[str, Any] = json.loads(request.raw)
    return {**told, "losses": request.losses}


def content(*parts: Part, role: str = "user", **fields: Any) -> tuple[list[Any], tuple[str, ...]]:
    """Return the blocks that *parts* become, and the losses."""
    turns = (USER, Turn("assistant", parts), USER) if role == "assistant" else (Turn(role, parts),)
    told = asked(turns=turns, **fields)
    message = told["messages"][1 if role == "assistant" else 0]
    return message["content"], told["losses"]


def text(words: str, **fields: Any) -> dict[str, Any]:
    """Return a text block."""
    return {"type": "text", "text": words, **fields}


def base64_of(words: str) -> str:
    """Return *words* as a file's data."""
    return base64.b64encode(words.encode()).decode()


def read(body: bytes, action: str = "generate") -> Conversation:
    """Return what *body* says."""
    request = ANTHROPIC_MESSAGES.parse(body=body, route=Route(action))
    return conversation_of(request)


def said(**fields: Any) -> Conversation:
    """Return what a small request with *fields* says."""
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    return read(json.dumps({**body, **fields}).encode())


def parts(*blocks: Any, role: str = "user") -> tuple[Part, ...]:
    """Return the parts that *blocks* are read as."""
    (turn,) = said(messages=[{"role": role, "content": list(blocks)}]).turns
    return turn.parts
