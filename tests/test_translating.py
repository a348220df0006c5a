"""Translations: an answer in one dialect becomes one in another, or an error, never half."""

from __future__ import annotations

import json
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from aiclient2api.conversation.events import (
    CALL,
    REASONING,
    TEXT,
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
from aiclient2api.conversation.grammar import fold
from aiclient2api.conversation.seals import Seal
from aiclient2api.conversation.vault import Recollection
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.translating import Translation
from aiclient2api.errors import Fault, GatewayError, UpstreamError
from aiclient2api.interfaces import IEventDecoder, IEventEncoder, IWatcher
from aiclient2api.values import Route, Usage

SEAL = Seal("toy", "sealed")


@implementer(IEventDecoder)
class ToyDecoder:
    """Records are ``{"say": "..."}``, ``{"call": "..."}``, ``{"end": "..."}``, ``{"fail": 1}``."""

    arrays = True

    def __init__(self) -> None:
        self._blocks = 0
        self._reason = ""

    def record(self, *, event: bytes, data: bytes) -> Sequence[Event] | None:
        """Read one record."""
        try:
            told = json.loads(data)
        except ValueError:
            return None
        events: list[Event] = [] if self._blocks else [Started("toy-1", "toy")]
        if "say" in told:
            events += self._block(TEXT, TextDelta(self._blocks, told["say"]))
        if "think" in told:
            index = self._blocks
            events += self._block(REASONING, ReasoningDelta(index, told["think"]))
            events.insert(-1, Sealed(index, SEAL))
        if "call" in told:
            events += self._block(CALL, None, id="c1", name=told["call"])
        if "fail" in told:
            return [Failed(UpstreamError("It failed.", fault=Fault.SERVER, status=500))]
        self._reason = told.get("end", self._reason)
        return events

    def whole(self, *, body: bytes) -> Sequence[Event] | None:
        """Read all of it."""
        events = self.record(event=b"", data=body)
        return None if events is None else [*events, *self.end()]

    def end(self) -> Sequence[Event]:
        """Finish if the end was told."""
        if not self._reason:
            return []
        return [UsageReported(Usage(output=7)), Finished(self._reason)]

    def _block(self, kind: str, delta: Event | None, id: str = "", name: str = "") -> list[Event]:
        index = self._blocks
        self._blocks += 1
        opened: list[Event] = [BlockOpened(index, kind, id, name)]
        return [*opened, *([delta] if delta else []), BlockClosed(index)]


@implementer(IEventEncoder)
class ToyEncoder:
    """Writes a line for each event that says something."""

    final: bytes | None = b"toy"

    def encode(self, event: Event) -> bytes:
        """Write one event."""
        if isinstance(event, TextDelta):
            return b"text " + event.text.encode() + b"\n"
        if isinstance(event, BlockOpened) and event.kind == CALL:
            return b"call " + event.name.encode() + b"\n"
        if isinstance(event, Finished):
            return b"end " + event.reason.encode() + b"\n"
        return b""

    def error(self, error: GatewayError) -> bytes | None:
        """Write an error."""
        return b"error " + error.message.encode() + b"\n"

    def reply(self, events: Sequence[Event]) -> bytes:
        """Write a whole answer."""
        reply = fold(events)
        return json.dumps([[block.kind, block.text] for block in reply.blocks]).encode()


def sse(*records: object) -> bytes:
    """Return records as server-sent events."""
    return b"".join(b"data: " + json.dumps(record).encode() + b"\n\n" for record in records)


def _broken(recollection: Recollection, final: bytes | None) -> None:
    raise KeyError("a piece of the answer")


class TranslationTests(SynchronousTestCase):
    """A toy upstream before a toy client."""

    decoder: type[ToyDecoder] = ToyDecoder

    def translation(
        self,
        *,
        framing: str = "sse",
        streaming: bool = True,
        limit: int = 1000,
        names: dict[str, str] | None = None,
    ) -> Translation:
        """Return a translation; what it remembers goes to ``self.remembered``."""
        self.remembered: list[Recollection] = []
        stream = b"true" if streaming else b"false"
        body = b'{"model":"m","messages":[],"stream":' + stream + b"}"
        return Translation(
            decoder=self.decoder(),
            encoder=ToyEncoder(),
            theirs=OPENAI_CHAT.parse(body=body, route=Route(action="generate")),
            framing=framing,
            content_type=b"",
            want_text=True,
            limit=limit,
            names=names or {},
            remember=self._keep,
        )

    def _keep(self, recollection: Recollection, final: bytes | None) -> None:
        self.assertEqual(final, b"toy")
        self.remembered.append(recollection)

    def test_it_is_a_watcher(self) -> None:
        """The relay need not know that it translates."""
        verifyObject(IWatcher, self.translation())
        verifyObject(IEventDecoder, ToyDecoder())
        verifyObject(IEventEncoder, ToyEncoder())

    def test_a_stream_is_told_as_it_comes_and_ends_at_its_end(self) -> None:
        """Each piece at once; the end only when the upstream's body has ended as well."""
        translation = self.translation()
        self.assertEqual(translation.feed(sse({"say": "Hel"})), b"text Hel\n")
        self.assertTrue(translation.started)
        self.assertEqual(translation.feed(sse({"say": "lo"}, {"end": "end"})), b"text lo\n")
        self.assertFalse(translation.complete)
        self.assertEqual(translation.end(), b"end end\n")
        self.assertTrue(translation.complete)
        self.assertEqual((translation.text, translation.usage), ("Hello", Usage(output=7)))
        self.assertEqual(translation.events, 3)

    def test_nothing_is_kept_by_the_upstream(self) -> None:
        """What a client may go on from is kept by the gateway, which is told of it."""
        translation = self.translation()
        translation.feed(sse({"say": "Hi"}, {"end": "end"}))
        translation.end()
        self.assertIsNone(translation.reply_id)
        self.assertEqual(len(self.remembered), 1)

    def test_any_split_of_the_bytes_says_the_same(self) -> None:
        """A record cut in two is one record."""
        data = sse({"say": "Hé"}, {"call": "f"}, {"say": "😀"}, {"end": "end"})
        for at in range(len(data) + 1):
            translation = self.translation()
            told = translation.feed(data[:at]) + translation.feed(data[at:]) + translation.end()
            self.assertEqual(told.decode(), "text Hé\ncall f\ntext 😀\nend end\n")

    def test_a_cut_stream_never_ends(self) -> None:
        """Wherever it is cut: no end, and not complete."""
        data = sse({"say": "Hello"}, {"end": "end"})
        whole = len(data) - len(sse({"end": "end"}))
        for at in range(whole):
            translation = self.translation()
            told = translation.feed(data[:at]) + translation.end()
            self.assertFalse(translation.complete, at)
            self.assertNotIn(b"end", told)

    def test_an_end_before_the_upstreams_end_is_not_told(self) -> None:
        """An upstream may still break off behind its own end."""
        translation = self.translation()
        told = translation.feed(sse({"say": "Hello"}, {"end": "end"}))
        self.assertEqual(told, b"text Hello\n")
        broken = UpstreamError("It broke.", fault=Fault.TRUNCATED, status=502)
        self.assertEqual(translation.error_frame(broken), b"error It broke.\n")

    def test_an_error_in_a_stream_is_told_once_and_is_the_last(self) -> None:
        """In the client's own dialect."""
        translation = self.translation()
        told = translation.feed(sse({"say": "Hel"}, {"fail": 1}, {"say": "lo"}))
        self.assertEqual(told, b"text Hel\nerror It failed.\n")
        assert translation.failure is not None
        self.assertEqual(translation.failure.status, 500)
        self.assertEqual(translation.feed(sse({"say": "x"})).count(b"text"), 0)

    def test_a_record_that_is_no_json_is_an_error(self) -> None:
        """What it would have said is lost; that must not pass for an answer."""
        translation = self.translation()
        told = translation.feed(sse({"say": "Hel"}) + b"data: {brok\n\n" + sse({"end": "end"}))
        self.assertIn(b"error The upstream sent a record that is no JSON", told)
        assert translation.failure is not None
        self.assertEqual(translation.failure.code, "garbled_record")

    def test_a_whole_answer_comes_from_a_stream_in_one_piece(self) -> None:
        """Nothing before its end: until then a failure can still be a status."""
        translation = self.translation(framing="whole")
        self.assertEqual(translation.feed(sse({"say": "Hel"}, {"say": "lo"}, {"end": "end"})), b"")
        self.assertFalse(translation.started)
        self.assertEqual(translation.end(), b'[["text", "Hel"], ["text", "lo"]]')
        self.assertTrue(translation.complete)

    def test_a_stream_comes_from_a_whole_answer(self) -> None:
        """Some upstreams never stream, whatever they are asked."""
        translation = self.translation(streaming=False)
        self.assertEqual(translation.feed(b'{"say":"Hello","end":"end"}'), b"")
        self.assertEqual(translation.end(), b"text Hello\nend end\n")
        self.assertTrue(translation.complete)

    def test_half_a_whole_answer_is_none(self) -> None:
        """It is not complete, and nothing is shown of it."""
        translation = self.translation(framing="whole", streaming=False)
        self.assertEqual(translation.feed(b'{"say":"Hello","en') + translation.end(), b"")
        self.assertFalse(translation.complete)

    def test_an_array_that_is_never_closed_is_no_end(self) -> None:
        """Though its last element said so."""
        for closing, complete in ((b"]", True), (b"", False)):
            translation = self.translation()
            translation.feed(b'[{"say":"Hello"},{"end":"end"}' + closing)
            translation.end()
            self.assertEqual(translation.complete, complete)

    def test_a_framing_without_errors_has_none(self) -> None:
        """The relay breaks the connection instead."""
        for framing in ("whole", "json_array"):
            translation = self.translation(framing=framing)
            translation.feed(sse({"say": "Hel"}, {"fail": 1}))
            broken = UpstreamError("It broke.", fault=Fault.TRUNCATED, status=502)
            self.assertIsNone(translation.error_frame(broken))

    def test_an_answer_over_the_limit_is_given_up(self) -> None:
        """Parts of an answer are held to be told again; they must have a bound."""
        translation = self.translation(limit=100)
        error = self.failureResultOf_(translation)
        self.assertEqual(error.code, "answer_too_long")

    def test_what_merely_passes_is_not_held(self) -> None:
        """Only what is said counts in a stream, not what it came in; hidden bytes count."""
        pad = {"id": "x" * 500}

        class Pieces(ToyDecoder):
            def record(self, *, event: bytes, data: bytes) -> Sequence[Event] | None:
                return [TextDelta(0, "more")]

        self.patch(self, "decoder", Pieces)
        translation = self.translation(limit=1500)
        for _ in range(20):
            translation.feed(sse(pad))
        with self.assertRaises(UpstreamError):
            translation.feed(sse({"id": "x" * 3000}))
        translation = self.translation(framing="whole", limit=1500)
        with self.assertRaises(UpstreamError):
            for _ in range(20):
                translation.feed(sse(pad))

    def failureResultOf_(self, translation: Translation) -> UpstreamError:
        """Feed small records until it refuses."""
        try:
            for _ in range(100):
                translation.feed(sse({"say": "more"}))
        except UpstreamError as error:
            return error
        raise self.failureException("nothing was raised")

    def test_names_of_tools_are_the_clients_own_again(self) -> None:
        """However they had to be changed for the upstream."""
        translation = self.translation(names={"a_b": "a.b"})
        self.assertEqual(translation.feed(sse({"call": "a_b"})), b"call a.b\n")

    def test_an_answer_that_cannot_be_remembered(self) -> None:
        """It was paid for, and is told all the same; the log says where it went wrong."""
        self.patch(self, "_keep", _broken)
        translation = self.translation()
        said = translation.feed(sse({"say": "Hi"}, {"end": "end"}))
        self.assertEqual(said + translation.end(), b"text Hi\nend end\n")
        self.assertTrue(translation.complete)
        (logged,) = self.flushLoggedErrors(RuntimeError)
        self.assertEqual(logged.getErrorMessage(), "KeyError")

    def test_seals_are_remembered_once_the_answer_is_whole(self) -> None:
        """By the call they led to; a cut answer leaves nothing behind."""
        data = sse({"think": "hm"}, {"call": "f"}, {"end": "tool_use"})
        translation = self.translation()
        translation.feed(data)
        self.assertEqual(self.remembered, [])
        translation.end()
        (recollection,) = self.remembered
        (thought,) = recollection.thoughts().values()
        self.assertEqual([part.seal for part in thought.parts], [SEAL])
