"""
What a strict client makes of the bytes it got: text, end, usage, error, in any dialect.

Every record before an error is held to the official SDK's own model of it. It shares no
code with what wrote the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from pydantic import ValidationError

from tests.faults.answers import DIALECTS
from tests.strict_replies import judge_record, judge_reply

ERROR_FIELDS = {
    "chat": ({"message", "type"}, {"code", "param"}),
    "responses": ({"message", "type"}, {"code", "param"}),
    "messages": ({"message", "type"}, set()),
    "gemini": ({"message", "code", "status"}, {"details"}),
}
"""What an error must have in each dialect, and what it may."""


class Unreadable(AssertionError):
    """A strict client cannot make sense of it."""


@attrs.define
class View:
    """
    What a client saw.

    :ivar finish: The dialect's own words for how it ended.
    :ivar usage: Prompt and completion tokens, as told last.
    :ivar error: The message of the error it was told of.
    :ivar terminated: True if what follows the end in this dialect came.
    :ivar garbage: How many records were no JSON.
    """

    text: str = ""
    finish: list[str] = attrs.field(factory=list)
    usage: tuple[int, int] | None = None
    error: str | None = None
    terminated: bool = False
    garbage: int = 0

    @property
    def ended(self) -> bool:
        """Say whether anything in it could be taken for an end."""
        return bool(self.finish) or self.terminated


def error_message(client: str, body: bytes) -> str:
    """
    Return the message of an error answer.

    :raise Unreadable: if it is not what *client* knows for an error.
    """
    try:
        told = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError) as wrong:
        raise Unreadable(f"{body[:200]!r} is no error") from wrong
    if client == "messages" and json.loads(body).get("type") != "error":
        raise Unreadable(f"{body[:200]!r} has no type")
    must, may = ERROR_FIELDS[client]
    if not must <= set(told) <= must | may:
        raise Unreadable(f"an error of {sorted(told)}")
    if not (isinstance(told["message"], str) and told["message"]):
        raise Unreadable(f"{body[:200]!r} says nothing")
    message: str = told["message"]
    return message


def whole(client: str, body: bytes) -> View:
    """Read an answer in one piece."""
    try:
        judge_reply(DIALECTS[client], body)
    except (ValidationError, ValueError) as wrong:
        raise Unreadable(str(wrong)[:500]) from wrong
    view = View()
    _WHOLE[client](view, json.loads(body))
    return view


def stream(client: str, body: bytes) -> View:
    """Read a stream; nothing may come behind an error."""
    view = View()
    for event, data in _records(body):
        if view.error is not None and not _told_twice(client, event):
            raise Unreadable(f"behind the error came {data[:200]!r}")
        if data == "[DONE]":
            view.terminated = True
            continue
        try:
            told = json.loads(data)
        except ValueError:
            view.garbage += 1
            continue
        if _is_error(client, event, told):
            _take_error(client, view, told)
            continue
        try:
            judge_record(DIALECTS[client], event, told)
        except (ValidationError, AssertionError, KeyError) as wrong:
            raise Unreadable(f"{data[:200]}: {str(wrong)[:500]}") from wrong
        _RECORD[client](view, told)
    return view


def _records(body: bytes) -> list[tuple[str, str]]:
    """Return name and data of the records, with those that have no data left out."""
    if body and not body.endswith((b"\n\n", b"\r\n\r\n")):
        raise Unreadable(f"it ends within a record: {body[-100:]!r}")
    found = []
    for record in body.decode().replace("\r\n", "\n").split("\n\n"):
        lines = [line.partition(":") for line in record.split("\n") if line]
        named: dict[str, list[str]] = {}
        for name, _, value in lines:
            named.setdefault(name, []).append(value.removeprefix(" "))
        if "data" in named:
            found.append(("".join(named.get("event", [])), "\n".join(named["data"])))
    return found


# --- errors within a stream ------------------------------------------------------------


def _is_error(client: str, event: str, told: Any) -> bool:
    if client == "responses":
        return event in ("error", "response.failed")
    return event == "error" or "error" in told


def _told_twice(client: str, event: str) -> bool:
    """Say whether it is what Responses has to tell of the same error once more."""
    return client == "responses" and event == "response.failed"


def _take_error(client: str, view: View, told: Mapping[str, Any]) -> None:
    if client != "responses":
        view.error = error_message(client, json.dumps(told).encode())
    elif told["type"] == "error":
        view.error = told["message"]
    else:
        failed = told["response"]
        message = failed["error"]["message"]
        if failed["status"] != "failed" or view.error not in (None, message):
            raise Unreadable(f"the response failed otherwise: {told}")
        view.error = message


# --- the dialects ------------------------------------------------------------------------


def _chat_usage(view: View, usage: Any) -> None:
    if usage:
        view.usage = usage["prompt_tokens"], usage["completion_tokens"]


def _chat_record(view: View, told: Any) -> None:
    for choice in told["choices"]:
        view.text += choice["delta"].get("content") or ""
        if choice.get("finish_reason"):
            view.finish.append(choice["finish_reason"])
    _chat_usage(view, told.get("usage"))


def _chat_whole(view: View, told: Any) -> None:
    (choice,) = told["choices"]
    view.text = choice["message"].get("content") or ""
    view.finish.append(choice["finish_reason"])
    _chat_usage(view, told.get("usage"))
    view.terminated = True


def _responses_record(view: View, told: Any) -> None:
    kind = told["type"]
    if kind == "response.output_text.delta":
        view.text += told["delta"]
    elif kind in ("response.completed", "response.incomplete"):
        text = view.text
        view.text = ""
        _responses_whole(view, told["response"])
        if view.text != text:
            raise Unreadable(f"the end has {view.text!r}, the deltas {text!r}")


def _responses_whole(view: View, told: Any) -> None:
    for item in told["output"]:
        for part in item.get("content") or ():
            view.text += part.get("text", "")
    why = (told.get("incomplete_details") or {}).get("reason")
    view.finish.append(why or told["status"])
    if told.get("usage"):
        view.usage = told["usage"]["input_tokens"], told["usage"]["output_tokens"]
    view.terminated = True


def _messages_usage(view: View, usage: Any) -> None:
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    given = sum(usage.get(name) or 0 for name in names)
    before = view.usage or (0, 0)
    view.usage = given or before[0], usage.get("output_tokens") or before[1]


def _messages_record(view: View, told: Any) -> None:
    kind = told["type"]
    if kind == "message_start":
        _messages_usage(view, told["message"]["usage"])
    elif kind == "content_block_delta":
        view.text += told["delta"].get("text", "")
    elif kind == "message_delta":
        view.finish.append(told["delta"]["stop_reason"])
        _messages_usage(view, told["usage"])
    elif kind == "message_stop":
        view.terminated = True


def _messages_whole(view: View, told: Any) -> None:
    view.text = "".join(block.get("text", "") for block in told["content"])
    view.finish.append(told["stop_reason"])
    _messages_usage(view, told["usage"])
    view.terminated = True


def _gemini(view: View, told: Any) -> None:
    for candidate in told.get("candidates") or ():
        for part in (candidate.get("content") or {}).get("parts") or ():
            view.text += part.get("text", "")
        if candidate.get("finishReason"):
            view.finish.append(candidate["finishReason"])
    blocked = (told.get("promptFeedback") or {}).get("blockReason")
    if blocked:
        view.finish.append(blocked)
    usage = told.get("usageMetadata")
    if usage:
        made = (usage.get("candidatesTokenCount") or 0) + (usage.get("thoughtsTokenCount") or 0)
        view.usage = usage.get("promptTokenCount") or 0, made
    view.terminated = view.terminated or bool(view.finish)


_RECORD = {
    "chat": _chat_record,
    "responses": _responses_record,
    "messages": _messages_record,
    "gemini": _gemini,
}
_WHOLE = {
    "chat": _chat_whole,
    "responses": _responses_whole,
    "messages": _messages_whole,
    "gemini": _gemini,
}

FINISHED: Mapping[str, Sequence[str]] = {
    "chat": ("stop",),
    "responses": ("completed",),
    "messages": ("end_turn",),
    "gemini": ("STOP",),
}
"""What each dialect says where an answer came to its own end."""
FILTERED: Mapping[str, Sequence[str]] = {
    "chat": ("content_filter",),
    "responses": ("content_filter",),
    "messages": ("refusal",),
    "gemini": ("SAFETY", "PROHIBITED_CONTENT"),
}
"""The same where a filter ended it."""
