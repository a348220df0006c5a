"""
Read an answer in one dialect and write it in another, while it passes.

To the relay it looks like any other watcher: bytes in, bytes out. How the bytes are framed
and how many may be held is judged by the very watcher that relays verbatim; what they mean
by the upstream's dialect; how it is said by the client's. It must never know either.

The end is told only once the upstream's body has ended, too: nothing that looks like an
end may reach a client before it is certain that nothing can go wrong any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from aiclient2api.conversation.events import (
    ArgumentsDelta,
    BlockClosed,
    BlockOpened,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    Sealed,
    Started,
    TextDelta,
    UsageReported,
)
from aiclient2api.conversation.families import leaving
from aiclient2api.conversation.pieces import Pieces
from aiclient2api.conversation.vault import Recollection
from aiclient2api.dialects.watching import Watcher, garbled
from aiclient2api.errors import Fault, GatewayError, UpstreamError
from aiclient2api.interfaces import IEventDecoder, IEventEncoder, IWatcher, IWireRequest
from aiclient2api.values import Usage

Remember = Callable[[Recollection, bytes | None], None]

_HANDSHAKE = (Started, UsageReported)
_EACH = 64
"""Bytes that a piece takes beside its text, as long as it is held."""
_ENVELOPE = 1024
"""Bytes of a record that say nothing by themselves: its ids, names and braces."""
_REMEMBERED = (BlockOpened, ReasoningDelta, ArgumentsDelta, BlockClosed, Sealed)


class _Translator:
    """
    What a `Watcher` takes for the dialect's reader: it decodes, and encodes at once.

    :ivar out: The client's bytes so far, until they are taken.
    :ivar held: Bytes of the answer that may still be held, by whomever.
    """

    closed_early = False
    reply_id: str | None = None
    kept_ids: Sequence[str] = ()

    def __init__(
        self,
        *,
        decoder: IEventDecoder,
        encoder: IEventEncoder,
        streaming: bool,
        want_text: bool,
        names: Mapping[str, str],
        family: str,
    ) -> None:
        self.started = False
        self.failure: UpstreamError | None = None
        self.usage: Usage | None = None
        self.texts: list[str] = []
        self.pieces = Pieces()
        self.out: list[bytes] = []
        self.held = 0
        self.finished: Finished | None = None
        self.ending = False
        self.recollection = Recollection()
        self._decoder = decoder
        self._encode = encoder.encode
        self._encoder = encoder
        self._streaming = streaming
        self._want_text = want_text
        self._names = names
        self._family = family
        self._events: list[Event] = []
        self._counted = False

    @property
    def complete(self) -> bool:
        """True once the answer is known to be whole."""
        return self.finished is not None

    def record(self, *, event: bytes, data: bytes) -> bool:
        """Read one record of a stream."""
        events = self._decoder.record(event=event, data=data)
        if events is None:
            if not self.ending:
                self.failure = garbled()
            return False
        self.held += _weight(events, len(data)) if self._streaming else len(data)
        for each in events:
            self._take(each)
        if self._counted:
            # Only now: what it counts may come behind it in the same record.
            self._counted = False
            self.pieces.told()
        return True

    def whole(self, *, body: bytes) -> bool:
        """Read an answer that is no stream."""
        events = self._decoder.whole(body=body)
        if events is None:
            return False
        for each in events:
            self._take(each)
        return True

    def end(self) -> None:
        """Take what the decoder held back to the end of a stream."""
        for each in self._decoder.end():
            self._take(each)

    def had_ended(self) -> bool:
        """Say whether the end was told of; nothing may be read after that."""
        left = () if self.finished is not None else self._decoder.end()
        return self.finished is not None or any(isinstance(each, Finished) for each in left)

    def close(self) -> None:
        """Write the end, or the whole of an answer that is no stream."""
        assert self.finished is not None
        if self._streaming:
            self.out.append(self._encode(event=self.finished))
        else:
            self.out.append(self._encoder.reply(events=[*self._events, self.finished]))

    @property
    def final(self) -> bytes | None:
        """The whole answer, for later; see `IEventEncoder`."""
        final: bytes | None = self._encoder.final
        return final

    def error_frame(self, error: GatewayError) -> bytes:
        """Return the record that tells of *error*; see `IEventEncoder`."""
        return self._encoder.error(error=error) or b""

    def _take(self, event: Event) -> None:
        kind = type(event)
        if kind is TextDelta:
            self.started = True
            text = event.text  # type: ignore[union-attr]
            self.pieces.add(text, len(text))
            if self._want_text:
                self.texts.append(text)
        elif not self._noted(event):
            return
        if self._streaming:
            self.out.append(self._encode(event=event))
        else:
            self._events.append(event)

    def _noted(self, event: Event) -> bool:
        """Note what *event* says beside its part of the answer; say whether to write it now."""
        if isinstance(event, Finished):
            self.finished = event
            return False
        if isinstance(event, Failed):
            self.failure = event.error
            return False
        if isinstance(event, UsageReported):
            self.usage = event.usage
            self._counted = event.usage.output is not None
        elif isinstance(event, _REMEMBERED):
            if isinstance(event, ReasoningDelta):
                self.pieces.add(event.text, len(event.text))
            elif isinstance(event, ArgumentsDelta):
                self.pieces.add(event.json, len(event.json))
            if isinstance(event, BlockOpened) and event.name in self._names:
                event.name = self._names[event.name]
            elif isinstance(event, Sealed):
                leaving(event, self._family)
            self.recollection.take(event)
        if not isinstance(event, _HANDSHAKE):
            self.started = True
        return True


@implementer(IWatcher)
class Translation:
    """
    A watcher that translates.

    :param theirs: The request as the upstream was asked.
    :param framing: How the client wants the answer framed.
    :param names: Tools' names as the upstream knows them, to those of the client, where
        they differ.
    :param family: Whose models the upstream serves, see `Traits`.
    :param remember: Given the seals of an answer that was whole, and the answer itself
        where a later request may refer to it.
    :ivar framing: How the client's answer is framed, whatever the upstream's is.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        decoder: IEventDecoder,
        encoder: IEventEncoder,
        theirs: IWireRequest,
        framing: str,
        content_type: bytes,
        want_text: bool,
        limit: int,
        names: Mapping[str, str],
        remember: Remember,
        family: str = "",
    ) -> None:
        self.framing = framing
        self._streaming = framing != "whole"
        self._remember = remember
        self._translator = _Translator(
            decoder=decoder,
            encoder=encoder,
            streaming=self._streaming,
            want_text=want_text,
            names=names,
            family=family,
        )
        self._watcher = Watcher(
            reader=self._translator,
            request=theirs,
            content_type=content_type,
            limit=limit,
            arrays=decoder.arrays,
        )
        self._whole = False
        self._limit = limit

    @property
    def events(self) -> int:
        """How many records of the upstream were seen."""
        return self._watcher.events

    @property
    def started(self) -> bool:
        """True once the client is to see something; for a whole answer, at its end."""
        return self._whole or (self._streaming and self._translator.started)

    @property
    def complete(self) -> bool:
        """True once the upstream's answer has ended, and was whole."""
        return self._whole

    @property
    def failure(self) -> UpstreamError | None:
        """What the upstream said went wrong."""
        return self._translator.failure

    @property
    def usage(self) -> Usage | None:
        """The tokens told so far."""
        return self._translator.usage

    @property
    def text(self) -> str:
        """The answer's text so far, if it was asked for."""
        return "".join(self._translator.texts)

    @property
    def pieces(self) -> Pieces:
        """How much of the upstream's answer was seen."""
        return self._watcher.pieces

    @property
    def reply_id(self) -> str | None:
        """None: what the client is told is kept here, and the upstream's id is not told."""
        return None

    @property
    def kept_ids(self) -> Sequence[str]:
        """None, for the same reason."""
        return ()

    def feed(self, data: bytes) -> bytes:
        """
        Take the upstream's next bytes; return the client's.

        :raise UpstreamError: if what is held of the answer grows over the limit: parts of
            it are told again at its end. What merely passes is as long as it likes.
        """
        self._watcher.feed(data)
        if self._translator.held > self._limit:
            raise _too_long(self._limit)
        return self._taken()

    def end(self) -> bytes:
        """Note the clean end of the upstream's body; return the last of the client's bytes."""
        translator, watcher = self._translator, self._watcher
        translator.ending = True
        watcher.end()
        if translator.failure is None and watcher.framing != "whole":
            translator.end()
        if translator.failure is None and watcher.complete:
            self._whole = True
            translator.close()
            self._keep()
        return self._taken()

    def had_ended(self) -> bool:
        """
        Say whether the upstream told why its answer ended, although its body broke.

        To be asked when nothing more is fed.
        """
        return self._translator.had_ended()

    def error_frame(self, error: GatewayError) -> bytes | None:
        """Return the record that tells of *error*, None where the framing has none."""
        if self.framing != "sse":
            return None
        return self._translator.error_frame(error)

    def _keep(self) -> None:
        """Remember the answer; whatever fails here, the answer itself is whole."""
        try:
            self._remember(self._translator.recollection, self._translator.final)
        except Exception as caught:
            # Its own words may hold a piece of the answer: only its kind and place are told.
            told = RuntimeError(type(caught).__name__)
            self._log.failure(
                "Remembering an answer failed", Failure(told, RuntimeError, caught.__traceback__)
            )

    def _taken(self) -> bytes:
        translator = self._translator
        pieces, translator.out = translator.out, []
        if translator.failure is not None and self.framing == "sse":
            pieces.append(translator.error_frame(translator.failure))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _weight(events: Sequence[Event], size: int) -> int:
    """
    Return how much may be held for later of a record of *size* bytes that told *events*.

    Of a mere piece that is its text. A record that told of anything else, or of less than
    it may hold, counts as a whole.
    """
    told = 0
    for event in events:
        if type(event) is TextDelta or type(event) is ReasoningDelta:
            told += _EACH + len(event.text)
        elif type(event) is ArgumentsDelta:
            told += _EACH + len(event.json)
        else:
            return size
    return told if told + _ENVELOPE > size else size


def _too_long(limit: int) -> UpstreamError:
    return UpstreamError(
        f"The upstream's answer is over {limit} bytes, more than is converted from one"
        " dialect to another (limits.held_bytes); ask for a smaller answer.",
        fault=Fault.SERVER,
        status=502,
        code="answer_too_long",
    )
