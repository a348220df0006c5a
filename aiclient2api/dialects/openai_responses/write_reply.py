"""
Write an answer of this dialect, from our own events: a stream, or one response.

A whole response is what a stream of it ends with, so the two cannot differ. It must never
know which dialect the answer came in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zope.interface import implementer

from aiclient2api.conversation.events import (
    CALL,
    REASONING,
    REFUSAL,
    TEXT,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Cited,
    Event,
    Failed,
    Finished,
    MediaDelta,
    ReasoningDelta,
    Sealed,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.request import Conversation, Tool
from aiclient2api.conversation.sequencing import OneAtATime
from aiclient2api.conversation.tool_names import known
from aiclient2api.dialects.openai_responses.media_words import told_of
from aiclient2api.dialects.openai_responses.request import ResponsesRequest
from aiclient2api.dialects.openai_responses.shapes import ResponseShape, code_of
from aiclient2api.dialects.openai_responses.write_items import (
    CallWriter,
    Frames,
    ImageWriter,
    MessageWriter,
    OpenItem,
    ReasoningWriter,
)
from aiclient2api.errors import GatewayError
from aiclient2api.interfaces import IEventEncoder
from aiclient2api.values import Usage

_PREFIXES = {"function": "fc_", "custom": "ctc_", "local_shell": "lsh_"}
_CUT = {
    "length": "max_output_tokens",
    "context": "max_output_tokens",
    "filtered": "content_filter",
}


@implementer(IEventEncoder)
class ResponsesEncoder:
    """
    One answer.

    :param request: As the client sent it: the response repeats much of it.
    :param conversation: What was read of it: its tools say what form a call has.
    :ivar final: The JSON of the response once it is whole, else None.
    """

    def __init__(
        self,
        *,
        request: ResponsesRequest,
        conversation: Conversation,
        model: str,
        make_id: Callable[[], str],
        now: Callable[[], float],
    ) -> None:
        self.final: bytes | None = None
        self._request = request
        self._tools = known(conversation.tools)
        self._model = model
        self._id = make_id()
        self._now = now
        self._frames = Frames()
        self._order = OneAtATime()
        self._shape: ResponseShape | None = None
        self._items: list[bytes] = []
        self._usage: Usage | None = None
        # The item under way. It may be whole already: whether it was cut, and whether a
        # message goes on, only the next event tells.
        self._item: OpenItem | None = None
        self._text: MessageWriter | None = None
        # Nearly all events are more of the block that is open; these take a shorter way.
        self._hot_kind: type | None = None
        self._hot_index = -1
        self._hot: Callable[[Any], bytes] = self._nothing

    def encode(self, event: Event) -> bytes:
        """Return what the client is to see of *event*."""
        if type(event) is self._hot_kind and event.index == self._hot_index:  # type: ignore[union-attr]
            return self._hot(event)
        told = [_STEPS[type(each)](self, each) for each in self._order.take(event)]
        return told[0] if len(told) == 1 else b"".join(told)

    def error(self, error: GatewayError) -> bytes:
        """
        Return the ``error`` event, and ``response.failed`` if the response had begun.

        Agents look at the second only, simple readers at the first only.
        """
        told = {"code": code_of(error), "message": error.message, "param": error.param}
        frame = self._frames.event("error", **told)
        if self._shape is None:
            return frame
        failed = self._shape.written("failed", self._items, usage=self._usage, error=error)
        return frame + self._frames.lifecycle("failed", failed)

    def reply(self, events: Sequence[Event]) -> bytes:
        """Return a whole response."""
        for event in events:
            self.encode(event)
        assert self.final is not None, "a whole answer ends with Finished"
        return self.final

    # --- what each event does ---

    def _started(self, event: Started) -> bytes:
        self._shape = ResponseShape.of(
            self._request,
            id=f"resp_{self._id}",
            created=event.created or int(self._now()),
            model=self._model,
        )
        body = self._shape.written("in_progress", ())
        return self._frames.lifecycle("created", body) + self._frames.lifecycle("in_progress", body)

    def _opened(self, event: BlockOpened) -> bytes:
        if event.kind in (TEXT, REFUSAL):
            before = b""
            if self._text is None:
                before = self._item_done(cut=False)
                self._text = MessageWriter(self._frames, len(self._items), self._name("msg_"))
                self._item = self._text
                before += self._text.opened()
            self._heat(TextDelta, event.index, self._text.text)
            return before + self._text.part(event.kind)
        before = self._item_done(cut=False)
        item = self._item = self._new(event)
        if isinstance(item, ReasoningWriter):
            self._heat(ReasoningDelta, event.index, item.thought)
        elif isinstance(item, CallWriter):
            self._heat(ArgumentsDelta, event.index, item.arguments)
        return before if item is None else before + item.opened()

    def _new(self, event: BlockOpened) -> OpenItem | None:
        place = len(self._items)
        if event.kind == CALL:
            tool = self._tools.get(event.name) or Tool("function", event.name)
            id = self._name(_PREFIXES.get(tool.kind, "fc_"))
            return CallWriter(self._frames, place, id, event.id, tool)
        if event.kind == REASONING:
            # The issuer's own id belongs to its seal; another dialect's has no meaning here.
            id = event.id if event.id.startswith("rs_") else self._name("rs_")
            return ReasoningWriter(self._frames, place, id)
        return None

    def _cited(self, event: Cited) -> bytes:
        return b"" if self._text is None else self._text.cited(event)

    def _sealed(self, event: Sealed) -> bytes:
        # Seals of texts and calls have no place in their items.
        return self._item.sealed(event.seal) if isinstance(self._item, ReasoningWriter) else b""

    def _delta(self, event: TextDelta | ReasoningDelta | ArgumentsDelta) -> bytes:
        # One that had to wait for its turn.
        return self._hot(event)

    def _media_delta(self, event: MediaDelta) -> bytes:
        if not event.mime.startswith("image/"):
            # Sounds have no place in an answer of this dialect.
            opened = self._opened(BlockOpened(event.index, TEXT))
            return opened + self._hot(TextDelta(event.index, told_of(event)))
        place, name = len(self._items), self._name("ig_")
        self._item = ImageWriter(self._frames, place, name, event)
        return self._item.opened()

    def _closed(self, event: BlockClosed) -> bytes:
        self._hot_kind = None
        if self._text is not None:
            return self._text.part_done()
        # The last call of an answer that was cut must not be taken for a whole one.
        return b"" if isinstance(self._item, CallWriter) else self._item_done(cut=False)

    def _usage_reported(self, event: UsageReported) -> bytes:
        self._usage = event.usage
        return b""

    def _finished(self, event: Finished) -> bytes:
        assert self._shape is not None, "an answer begins with Started"
        cut = _CUT.get(event.reason)
        told = self._item_done(cut=cut is not None)
        status = "completed" if cut is None else "incomplete"
        self.final = self._shape.written(status, self._items, usage=self._usage, cut=cut)
        return told + self._frames.lifecycle(status, self.final)

    def _failed(self, event: Failed) -> bytes:
        return self.error(event.error)

    # --- the parts of it ---

    def _item_done(self, *, cut: bool) -> bytes:
        if self._item is None:
            return b""
        told, item = self._item.done(cut=cut)
        self._items.append(item)
        self._item = self._text = None
        return told

    def _heat(self, kind: type, index: int, write: Callable[[Any], bytes]) -> None:
        self._hot_kind, self._hot_index, self._hot = kind, index, write

    def _nothing(self, event: Event) -> bytes:
        return b""

    def _name(self, prefix: str) -> str:
        return f"{prefix}{self._id}{len(self._items):04x}"


_STEPS: dict[type, Callable[[ResponsesEncoder, Any], bytes]] = {
    Started: ResponsesEncoder._started,
    BlockOpened: ResponsesEncoder._opened,
    TextDelta: ResponsesEncoder._delta,
    ReasoningDelta: ResponsesEncoder._delta,
    Sealed: ResponsesEncoder._sealed,
    ArgumentsDelta: ResponsesEncoder._delta,
    MediaDelta: ResponsesEncoder._media_delta,
    Cited: ResponsesEncoder._cited,
    BlockClosed: ResponsesEncoder._closed,
    UsageReported: ResponsesEncoder._usage_reported,
    Finished: ResponsesEncoder._finished,
    Failed: ResponsesEncoder._failed,
}
