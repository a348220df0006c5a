"""
Read an answer of this dialect, a stream of events or one response, into our own events.

Upstreams number and name their items as they please, leave out deltas, ``done`` events or
the list at the end: what is told is told once, wherever it stood first. It must never know
what is made of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from zope.interface import implementer

from aiclient2api.conversation.events import (
    REFUSAL,
    TEXT,
    Event,
    Failed,
    Finished,
    Started,
    UsageReported,
)
from aiclient2api.conversation.grammar import ended
from aiclient2api.dialects.faults import told_error
from aiclient2api.dialects.openai_responses.reply_items import (
    Blocks,
    CallItem,
    Item,
    MediaItem,
    MessageItem,
    ReasoningItem,
    Word,
    words,
)
from aiclient2api.dialects.openai_responses.watch import (
    RESPONSE,
    Response,
    failure_of,
    told_by,
    usage_of,
)
from aiclient2api.dialects.watching import count, decode, present, says, value
from aiclient2api.dialects.wire_request import entry
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.json_text import write
from aiclient2api.interfaces import IEventDecoder

T = TypeVar("T", bound=Item)


class Told(msgspec.Struct):
    """One event of a stream: the fields of all events together."""

    type: str = ""
    item_id: str = ""
    output_index: int = -1
    content_index: int = 0
    summary_index: int = 0
    delta: str = ""
    text: str = ""
    refusal: str = ""
    arguments: str = ""
    input: str = ""
    item: msgspec.Raw = msgspec.Raw()
    part: msgspec.Raw = msgspec.Raw()
    annotation: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    code: Any = None
    message: Any = None


_TOLD = msgspec.json.Decoder(Told)
_LOOSE = msgspec.json.Decoder(dict[str, Any])


class Family(Generic[T]):
    """
    The items of one kind, by place and by id.

    :param make: Makes an item of its id and its type.
    """

    def __init__(self, make: Callable[[str, str], T]) -> None:
        self.all: list[T] = []
        self._told: dict[Word, deque[T]] | None = None
        self._listed: set[int] = set()
        self._make = make
        self._at: dict[int, T] = {}
        self._ids: dict[str, T] = {}
        self._called: dict[str, T] = {}

    def at(self, told: Told, kind: str = "") -> T:
        """Return the item that *told* belongs to; ids count more than places."""
        item = self._ids.get(told.item_id)
        if item is None:
            item = self._at.get(told.output_index)
            if item is None or (item.finished and told.item_id not in ("", item.id)):
                item = self._new(told.output_index, told.item_id, kind)
        return item

    def begun(self, place: int, item: dict[str, Any], kind: str) -> T:
        """Return a new item, or the one that *item*, just begun, was taken for before."""
        found = self.known(place, item)
        id = _text(item, "id")
        if found is None or found.finished or (id and found.id and found.id != id):
            found = self._new(place, id, kind)
        return found

    def whole(self, place: int, item: dict[str, Any], kind: str) -> T | None:
        """Return which item is *item*, None if that was told already."""
        found = self.known(place, item)
        if found is not None and not found.finished:
            return found
        id, call = _text(item, "id"), _text(item, "call_id")
        if found is not None and (not id or id == found.id) and (not call or call == found.call):
            return None
        return self._new(place, id, kind)

    def listed(self, place: int, item: dict[str, Any], kind: str) -> T | None:
        """
        Return which item is *item* of the list at the end, None if that was told already.

        One that was told answers for one of the list: a model may well say the same twice.
        """
        if self._told is None:
            self._told = {}
            for each in self.all:
                word = each.told()
                if word is not None:
                    self._told.setdefault(word, deque()).append(each)
        found = self.known(place, item)
        if found is None:
            if self._answers(item, self._told):
                return None
            found = self._new(place, _text(item, "id"), kind)
        self._listed.add(id(found))
        return None if found.finished else found

    def _answers(self, item: dict[str, Any], told: Mapping[Word, deque[T]]) -> bool:
        """Say whether one that was told, and was not listed yet, answers for *item*."""
        for same in (told.get(word, ()) for word in words(item)):
            while same:
                each = same.popleft()
                if id(each) not in self._listed:
                    self._listed.add(id(each))
                    return True
        return False

    def note(self, item: T) -> None:
        """Note which call *item* is, once that is known."""
        if item.call:
            self._called.setdefault(item.call, item)

    def known(self, place: int, item: dict[str, Any]) -> T | None:
        """Return the item that has *item*'s id, its call, or its place, in this order."""
        found = self._ids.get(_text(item, "id"))
        if found is not None:
            return found
        call = _text(item, "call_id")
        found = self._called.get(call) if call else None
        if found is not None:
            return found
        found = self._at.get(place)
        # Two calls are not the same one because an upstream gave both the same place.
        return None if found is not None and call and found.call not in ("", call) else found

    def _new(self, place: int, id: str, kind: str) -> T:
        item = self._make(id, kind)
        self.all.append(item)
        self._at[place] = item
        if id:
            self._ids[id] = item
        return item


@implementer(IEventDecoder)
class ResponsesDecoder:
    """One answer."""

    arrays = False

    def __init__(self) -> None:
        self._blocks = blocks = Blocks()
        self._started = False
        self._over = False
        self._reason: str | None = None
        self._messages = Family(lambda id, _: MessageItem(blocks, id))
        self._thoughts = Family(lambda id, _: ReasoningItem(blocks, id))
        self._calls = Family(lambda id, kind: CallItem(blocks, id, kind))
        self._media = Family(lambda id, _: MediaItem(blocks, id))

    def record(self, *, event: bytes, data: bytes) -> Sequence[Event] | None:
        """Read one event of a stream."""
        try:
            told = _TOLD.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            loose = _loosely(data)
            if loose is None:
                return self._no_event(event, data)
            told = loose
        out: list[Event] = []
        self._blocks.out = out
        kind = told.type or event.decode("utf-8", "replace")
        step = _STEPS.get(kind)
        if event == b"error" or (not kind and says(told.error)):
            step = ResponsesDecoder._fail
        if self._over and (self._reason is None or step is not ResponsesDecoder._fail):
            return ()
        if step is not None:
            if not self._started and step is not ResponsesDecoder._fail:
                self._start(told)
            step(self, told)
        return out

    def whole(self, *, body: bytes) -> Sequence[Event] | None:
        """Read a response."""
        answer = decode(RESPONSE, body)
        if answer is None:
            return None
        out: list[Event] = []
        self._blocks.out = out
        bare = not present(answer.output) and answer.object != "response"
        if says(answer.error) and (bare or answer.status in (None, "failed")):
            self._give_up(told_by(value(answer.error), stream=False))
            return out
        if bare:
            return None
        self._begin(answer)
        if answer.status == "failed":
            self._give_up(told_error(None, (), stream=False))
        elif answer.status in _NOT_YET:
            self._give_up(_unfinished(str(answer.status)))
        else:
            self._conclude(answer, cut=False)
            # Without a word that says so it is not whole: its connection may have broken.
            out += self.end() if answer.status in _ENDS else ()
        return out

    def end(self) -> Sequence[Event]:
        """Note the clean end of a stream."""
        if self._reason is None:
            return ()
        reason, self._reason = self._reason, None
        return (Finished(ended(reason, called=self._blocks.called)),)

    # --- what each event does ---

    def _text_delta(self, told: Told) -> None:
        if told.delta:
            self._messages.at(told).delta(TEXT, told.content_index, told.delta)

    def _text_done(self, told: Told) -> None:
        if told.text:
            self._messages.at(told).full(TEXT, told.content_index, told.text)

    def _refusal_delta(self, told: Told) -> None:
        if told.delta:
            self._messages.at(told).delta(REFUSAL, told.content_index, told.delta)

    def _refusal_done(self, told: Told) -> None:
        if told.refusal:
            self._messages.at(told).full(REFUSAL, told.content_index, told.refusal)

    def _annotation(self, told: Told) -> None:
        self._messages.at(told).cite(told.content_index, value(told.annotation))

    def _part_done(self, told: Told) -> None:
        part = value(told.part)
        if entry(part, "type") in ("output_text", "refusal"):
            self._messages.at(told).part_done(told.content_index, part)

    def _summary_delta(self, told: Told) -> None:
        if told.delta:
            self._thoughts.at(told).delta("summary", told.summary_index, told.delta)

    def _summary_done(self, told: Told) -> None:
        if told.text:
            self._thoughts.at(told).full("summary", told.summary_index, told.text)

    def _thought_delta(self, told: Told) -> None:
        if told.delta:
            self._thoughts.at(told).delta("content", told.content_index, told.delta)

    def _thought_done(self, told: Told) -> None:
        if told.text:
            self._thoughts.at(told).full("content", told.content_index, told.text)

    def _arguments_delta(self, told: Told) -> None:
        if told.delta:
            self._calls.at(told, "function_call").delta(told.delta)

    def _arguments_done(self, told: Told) -> None:
        if told.arguments:
            self._calls.at(told, "function_call").full(told.arguments)

    def _input_delta(self, told: Told) -> None:
        if told.delta:
            self._calls.at(told, "custom_tool_call").delta(told.delta)

    def _input_done(self, told: Told) -> None:
        if told.input:
            self._calls.at(told, "custom_tool_call").full(told.input)

    def _added(self, told: Told) -> None:
        item = value(told.item)
        family, kind = self._family(item)
        if family is not None:
            begun = family.begun(told.output_index, item, kind)
            begun.begin(item)
            family.note(begun)

    def _done(self, told: Told) -> None:
        item = value(told.item)
        family, kind = self._family(item)
        if family is None:
            return
        self._finish(family, family.whole(told.output_index, item, kind), item)

    def _bare(self, told: Told) -> None:
        """Do nothing: that it began is told before."""

    def _complete(self, told: Told) -> None:
        self._terminal(told, cut=False)

    def _incomplete(self, told: Told) -> None:
        self._terminal(told, cut=True)

    def _fail(self, told: Told) -> None:
        usage = usage_of(decode(RESPONSE, bytes(told.response)))
        if usage is not None and self._started:
            self._blocks.out.append(UsageReported(usage))
        self._give_up(failure_of(told.error, told.response, told.message, told.code))

    # --- the whole of it ---

    def _terminal(self, told: Told, *, cut: bool) -> None:
        answer = decode(RESPONSE, bytes(told.response)) or Response()
        if answer.status == "failed":
            self._fail(told)
        elif answer.status == "cancelled":
            self._give_up(_unfinished("cancelled"))
        elif answer.status is None or answer.status in (*_ENDS, *_NOT_YET):
            # Some repeat the response as it was when it began: the event counts.
            self._conclude(answer, cut=cut)

    def _conclude(self, answer: Response, *, cut: bool) -> None:
        items = value(answer.output)
        for place, item in enumerate(items if isinstance(items, list) else ()):
            family, kind = self._family(item)
            if family is not None:
                self._finish(family, family.listed(place, item, kind), item)
        for each in (self._messages, self._thoughts, self._calls):
            for open_item in each.all:
                open_item.close()
        usage = usage_of(answer)
        if usage is not None:
            self._blocks.out.append(UsageReported(usage))
        why = entry(answer.incomplete_details, "reason")
        cut = cut or self._blocks.cut or answer.status == "incomplete" or isinstance(why, str)
        self._reason = "end" if not cut else "filtered" if why == "content_filter" else "length"
        self._over = True

    def _finish(self, family: Family[Any], found: Item | None, item: dict[str, Any]) -> None:
        if item.get("status") == "incomplete" and family in (self._messages, self._calls):
            # Whatever is said of the answer: half a call must not be run.
            self._blocks.cut = True
        if found is not None:
            found.finish(item)
            family.note(found)

    def _family(self, item: Any) -> tuple[Family[Any] | None, str]:
        kind = _text(item, "type")
        if kind == "message":
            return self._messages, kind
        if kind == "reasoning":
            return self._thoughts, kind
        if kind in _CALLS:
            return self._calls, kind
        return (self._media if kind == "image_generation_call" else None), kind

    def _start(self, told: Told) -> None:
        self._begin(decode(RESPONSE, bytes(told.response)) or Response())

    def _begin(self, answer: Response) -> None:
        self._started = True
        id, model = answer.id, answer.model
        started = Started(
            id=id if isinstance(id, str) else "",
            model=model if isinstance(model, str) else "",
            created=count(answer.created_at) or 0,
        )
        self._blocks.answer = started.id
        self._blocks.out.append(started)

    def _give_up(self, error: UpstreamError) -> None:
        self._blocks.out.append(Failed(error))
        self._over = True
        self._reason = None

    def _no_event(self, event: bytes, data: bytes) -> Sequence[Event] | None:
        blank = data.strip()
        if blank in (b"", b"[DONE]") and event != b"error":
            return ()
        if event != b"error":
            return None
        if self._over and self._reason is None:
            return ()
        self._blocks.out = []
        self._give_up(told_error(None, ()))
        return self._blocks.out


_ENDS = ("completed", "incomplete")
_NOT_YET = ("queued", "in_progress", "cancelled")
_CALLS = ("function_call", "custom_tool_call", "local_shell_call", "shell_call")


_STEPS: dict[str, Callable[[ResponsesDecoder, Told], None]] = {
    "response.created": ResponsesDecoder._bare,
    "response.in_progress": ResponsesDecoder._bare,
    "response.queued": ResponsesDecoder._bare,
    "response.output_item.added": ResponsesDecoder._added,
    "response.output_item.done": ResponsesDecoder._done,
    "response.content_part.done": ResponsesDecoder._part_done,
    "response.output_text.delta": ResponsesDecoder._text_delta,
    "response.output_text.done": ResponsesDecoder._text_done,
    "response.output_text.annotation.added": ResponsesDecoder._annotation,
    "response.refusal.delta": ResponsesDecoder._refusal_delta,
    "response.refusal.done": ResponsesDecoder._refusal_done,
    "response.reasoning_summary_text.delta": ResponsesDecoder._summary_delta,
    "response.reasoning_summary_text.done": ResponsesDecoder._summary_done,
    "response.reasoning_text.delta": ResponsesDecoder._thought_delta,
    "response.reasoning_text.done": ResponsesDecoder._thought_done,
    "response.function_call_arguments.delta": ResponsesDecoder._arguments_delta,
    "response.function_call_arguments.done": ResponsesDecoder._arguments_done,
    "response.custom_tool_call_input.delta": ResponsesDecoder._input_delta,
    "response.custom_tool_call_input.done": ResponsesDecoder._input_done,
    "response.completed": ResponsesDecoder._complete,
    "response.incomplete": ResponsesDecoder._incomplete,
    "response.failed": ResponsesDecoder._fail,
    "error": ResponsesDecoder._fail,
}


def _loosely(data: bytes) -> Told | None:
    """Read an event some of whose fields are not of the right form; these count as absent."""
    fields = decode(_LOOSE, data)
    if fields is None:
        return None
    told = Told(code=fields.get("code"), message=fields.get("message"))
    for name in ("type", "item_id", "delta", "text", "refusal", "arguments", "input"):
        if isinstance(fields.get(name), str):
            setattr(told, name, fields[name])
    for name in ("output_index", "content_index", "summary_index"):
        number = count(fields.get(name))
        if number is not None:
            setattr(told, name, number)
    for name in ("item", "part", "annotation", "response", "error"):
        if fields.get(name) is not None:
            try:
                setattr(told, name, msgspec.Raw(write(fields[name])))
            except RecursionError:
                return None
    return told


def _unfinished(status: str) -> UpstreamError:
    return UpstreamError(
        f"The upstream answered before its answer was whole (its status is {status}); ask for"
        " a stream, or not in the background.",
        fault=Fault.SERVER,
        status=502,
        code="unfinished_answer",
    )


def _text(item: Any, key: str) -> str:
    found = entry(item, key)
    return found if isinstance(found, str) else ""
