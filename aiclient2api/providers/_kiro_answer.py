"""
Kiro's answer, taken out of Amazon's event stream and told as a Messages answer.

Nobody documents the events, so they are read leniently: by their name, else by what is in
them, and those that are not known are passed over. What is damaged, broken off or told of as
an error never becomes an answer, nor the end of one. The service has no event for its end: an
answer is whole if the body ended cleanly after something was said and no call was left open.

Tokens are told as the service tells them, and not at all where it does not. A call's arguments
pass as they come, and must be an object when it ends.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import msgspec
from zope.interface import implementer

from aiclient2api.conversation.arguments import is_object
from aiclient2api.conversation.events import (
    CALL,
    REASONING,
    TEXT,
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Event,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.grammar import ended
from aiclient2api.dialects.anthropic_messages.write_reply import MessagesEncoder
from aiclient2api.dialects.watching import count, total
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.aws_event_stream import AWSEventStreamFramer, Message
from aiclient2api.framing.json_text import write
from aiclient2api.interfaces import IEnvelope, IWireRequest
from aiclient2api.providers._kiro_faults import kiro_exception
from aiclient2api.providers._kiro_text import THOUGHT, Stops, Thoughts
from aiclient2api.values import HELD_LIMIT, Usage

_REASONS = {
    "maxtokens": "length",
    "length": "length",
    "modelcontextwindowexceeded": "context",
    "stopsequence": "stop_sequence",
    "contentfiltered": "filtered",
    "contentfilter": "filtered",
    "guardrailintervened": "filtered",
    "refusal": "filtered",
    "tooluse": "tool_use",
    "endturn": "end",
    "stop": "end",
}
_MUTE = ("length", "context", "filtered")
"""Reasons for which an answer may be empty."""


@attrs.frozen
class Asked:
    """
    What the answer has to do with its request.

    :ivar provider: The provider's configured name.
    :ivar thinks: Whether the model was told to think: then its text holds thoughts.
    :ivar stop: Where the text is to end.
    :ivar names: Returns the names of tools as the client has them, by those sent.
    :ivar now: Returns Unix seconds.
    """

    provider: str
    thinks: bool
    stop: Sequence[str]
    names: Callable[[], Mapping[str, str]]
    now: Callable[[], float]


@attrs.define
class _Call:
    """A call in the making; *index* is -1 until its name is known, *whole* once it ended."""

    id: str
    index: int = -1
    text: str = ""
    told: int = 0
    whole: bool = False


class KiroReader:
    """Reads the messages of one answer."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._thoughts = Thoughts() if asked.thinks else None
        self._stops = Stops(asked.stop)
        self._events: list[Event] = [Started()]
        self._blocks = 0
        self._open: tuple[str, int] | None = None
        self._calls: dict[str, _Call] = {}
        self._last: _Call | None = None
        self._reason: str | None = None
        self._kinds: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            "assistantResponseEvent": self._text,
            "codeEvent": self._text,
            "reasoningContentEvent": self._thought,
            "toolUseEvent": self._tool,
            "metadataEvent": self._metadata,
            "messageMetadataEvent": self._metadata,
            "invalidStateEvent": self._invalid,
        }

    def take(self, message: Message) -> Sequence[Event]:
        """
        Return what one message says.

        :raise UpstreamError: if it tells of an error, or makes no sense.
        """
        kind = message.headers.get(":message-type", "event")
        if kind != "event" and self._stops.stopped is None:
            raise self._failure(message)
        if kind == "event":
            self._event(message)
        return self._taken()

    def end(self) -> Sequence[Event] | None:
        """Return the end of the answer, None if it is not a whole one."""
        if self._stops.stopped is None:
            self._settle()
        self._close()
        if any(not call.whole for call in self._calls.values()):
            return None
        if not self._blocks and self._reason not in _MUTE and self._stops.stopped is None:
            return None
        reason = ended(self._reason or "end", called=bool(self._calls))
        sequence = self._stops.stopped
        finished = Finished(reason) if sequence is None else Finished("stop_sequence", sequence)
        self._events.append(finished)
        return self._taken()

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _failure(self, message: Message) -> UpstreamError:
        headers = message.headers
        kind = headers.get(":exception-type") or headers.get(":error-code") or "UnknownError"
        return kiro_exception(
            provider=self._asked.provider,
            kind=str(kind),
            payload=message.payload,
            message=str(headers.get(":error-message", "")),
            now=self._asked.now(),
        )

    def _event(self, message: Message) -> None:
        name = message.headers.get(":event-type")
        if name is not None and name not in self._kinds:
            return
        try:
            told = msgspec.json.decode(message.payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise self._nonsense("sent an event that is no JSON object")
        inner = told.get(str(name)) if len(told) == 1 else None
        told = inner if isinstance(inner, dict) else told
        read = self._kinds[str(name)] if name is not None else self._guessed(told)
        if read is not None:
            read(told)

    def _guessed(self, told: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], None] | None:
        """Return how to read an event that has no name."""
        if "followupPrompt" in told:
            return None
        if "toolUseId" in told or "input" in told or ("stop" in told and "content" not in told):
            return self._tool
        if "content" in told:
            return self._text
        return self._metadata if "tokenUsage" in told or "stopReason" in told else None

    def _text(self, told: Mapping[str, Any]) -> None:
        text = self._string(told, "content")
        if not text or self._stops.stopped is not None:
            return
        if self._thoughts is None:
            self._say(text)
            return
        for kind, piece in self._thoughts.feed(text):
            self._piece(kind, piece)

    def _piece(self, kind: str, piece: str) -> None:
        if kind == THOUGHT:
            self._events.append(ReasoningDelta(self._block(REASONING), piece))
        else:
            self._say(piece)

    def _say(self, text: str) -> None:
        said = self._stops.feed(text)
        if said:
            self._events.append(TextDelta(self._block(TEXT), said))

    def _thought(self, told: Mapping[str, Any]) -> None:
        text = self._string(told, "text") or self._string(told, "content")
        if text and self._stops.stopped is None:
            self._let_go()
            self._events.append(ReasoningDelta(self._block(REASONING), text))

    def _block(self, kind: str) -> int:
        """Return the number of the open block of that kind; open one if need be."""
        if self._open is None or self._open[0] != kind:
            self._close()
            self._open = kind, self._opened(kind)
        return self._open[1]

    def _opened(self, kind: str, id: str = "", name: str = "") -> int:
        index = self._blocks
        self._blocks += 1
        self._events.append(BlockOpened(index, kind, id, name))
        return index

    def _close(self) -> None:
        if self._open is not None:
            self._events.append(BlockClosed(self._open[1]))
            self._open = None

    def _settle(self) -> None:
        """End the text: what was held back of it will not go on."""
        self._let_go()
        self._close()

    def _let_go(self) -> None:
        for kind, piece in self._thoughts.flush() if self._thoughts is not None else ():
            self._piece(kind, piece)
        rest = self._stops.flush()
        if rest:
            self._events.append(TextDelta(self._block(TEXT), rest))

    def _tool(self, told: Mapping[str, Any]) -> None:
        if self._stops.stopped is None:
            self._settle()
        id = self._string(told, "toolUseId")
        call = self._last if not id else self._calls.get(id)
        given = told.get("input")
        if call is None:
            if self._stops.stopped is not None:
                return
            if not id:
                raise self._nonsense("went on with a call that it had not begun")
            call = self._calls[id] = _Call(id)
        if call.whole:
            # Its end may be told twice; more of it is another matter.
            if given not in (None, ""):
                raise self._nonsense("went on with a call that had ended")
            return
        self._last = call
        self._name(call, self._string(told, "name"))
        self._fill(call, given)
        if told.get("stop") is True:
            self._stop(call)

    def _name(self, call: _Call, name: str) -> None:
        if call.index < 0 and name:
            name = self._asked.names().get(name, name)
            call.index = self._opened(CALL, call.id, name)

    def _fill(self, call: _Call, given: Any) -> None:
        if isinstance(given, str):
            call.text += given
            self._tell(call)
        elif isinstance(given, dict):
            # All of it at once; it is told at the end, for it may come again.
            text = write(given).decode() if given else ""
            if call.told and msgspec.json.decode(text or "{}") != _object(call.text):
                raise self._nonsense("told the arguments of a call twice, and not the same")
            call.text = call.text if call.told else text
        elif given is not None:
            raise self._nonsense("made a call with arguments that are no object")

    def _tell(self, call: _Call) -> None:
        rest = call.text[call.told :]
        if call.index >= 0 and rest:
            call.told = len(call.text)
            self._events.append(ArgumentsDelta(call.index, rest))

    def _stop(self, call: _Call) -> None:
        if call.index < 0:
            raise self._nonsense("called a tool and did not say which")
        self._tell(call)
        if call.text.strip() and not is_object(call.text):
            raise self._nonsense("made a call with arguments that are no JSON object")
        call.whole = True
        self._events.append(BlockClosed(call.index))

    def _metadata(self, told: Mapping[str, Any]) -> None:
        reason = told.get("stopReason")
        if isinstance(reason, str):
            word = "".join(filter(str.isalpha, reason)).lower()
            self._reason = _REASONS.get(word, self._reason)
        usage = usage_of(told.get("tokenUsage", told.get("usage")))
        if usage is not None:
            self._events.append(UsageReported(usage))

    def _invalid(self, told: Mapping[str, Any]) -> None:
        raise kiro_exception(
            provider=self._asked.provider,
            kind=self._string(told, "reason") or "InvalidState",
            payload=write(dict(told)),
            now=self._asked.now(),
        )

    def _string(self, told: Mapping[str, Any], key: str) -> str:
        value = told.get(key)
        if value is not None and not isinstance(value, str):
            raise self._nonsense(f"sent a {key} that is no text")
        return value or ""

    def _nonsense(self, what: str) -> UpstreamError:
        return UpstreamError(
            f"{self._asked.provider} {what}; the answer was given up. Try again.",
            fault=Fault.SERVER,
            status=502,
            code="bad_event",
        )


@implementer(IEnvelope)
class KiroEnvelope:
    """
    Takes one answer out of the event stream.

    :param request: The Messages request that it answers: with events for a stream, and as one
        message for a whole answer, for the service only ever streams.
    """

    marks_end = False

    def __init__(self, request: IWireRequest, asked: Asked) -> None:
        self._streaming = request.framing == "sse"
        self.content_type = b"text/event-stream" if self._streaming else b"application/json"
        self._framer = AWSEventStreamFramer()
        self._reader = KiroReader(asked)
        self._encoder = MessagesEncoder(
            action="generate",
            model=request.model,
            make_id=lambda: secrets.token_hex(16),
            stop=asked.stop,
        )
        self._events: list[Event] = []
        self._held = 0
        self._over = False

    def open(self, data: bytes) -> bytes:
        """
        Take bytes of the event stream.

        :raise UpstreamError: for what went wrong; but if something was said just before it,
            then what was said is returned, and an error event behind it.
        """
        if self._over:
            return b""
        out: list[bytes] = []
        try:
            for message in self._framer.feed(data):
                self._note(self._reader.take(message), len(message.payload), out)
        except UpstreamError as error:
            self._over = True
            told = b"".join(out)
            if not told:
                raise
            return told + (self._encoder.error(error) or b"")
        return b"".join(out)

    def end(self) -> bytes:
        """Return the end of the answer, or all of it; nothing if it is not whole."""
        if self._over or self._framer.rest:
            return b""
        self._over = True
        events = self._reader.end()
        if events is None:
            return b""
        if self._streaming:
            return b"".join(map(self._encoder.encode, events))
        return self._encoder.reply([*self._events, *events])

    def _note(self, events: Sequence[Event], size: int, out: list[bytes]) -> None:
        if self._streaming:
            out += filter(None, map(self._encoder.encode, events))
            return
        self._held += size
        if self._held > HELD_LIMIT:
            raise UpstreamError(
                f"The upstream's answer is over {HELD_LIMIT} bytes and was given up. Ask for a"
                " stream, or for a smaller answer.",
                fault=Fault.SERVER,
                status=502,
                code="record_too_long",
            )
        self._events += events


def usage_of(told: Any) -> Usage | None:
    """Return the counts that an event tells, None if it tells none."""
    if not isinstance(told, dict):
        return None
    fresh, given, output, whole, cached, written = (
        count(told.get(key))
        for key in (
            "uncachedInputTokens",
            "inputTokens",
            "outputTokens",
            "totalTokens",
            "cacheReadInputTokens",
            "cacheWriteInputTokens",
        )
    )
    if fresh is not None:
        given = total(fresh, cached, written)
    elif given is None and whole is not None and output is not None:
        given = max(0, whole - output)
    usage = Usage(input=given, output=output, cached=cached, cache_write=written)
    return None if usage == Usage() else usage


def _object(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
