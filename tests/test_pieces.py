"""How many tokens an answer is of which nobody told: counted where they pass one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.counting import tokens_in
from aiclient2api.conversation.pieces import SAMPLE, Pieces, pieces_of
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.convert import conversation_of, relayed, translated, written
from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.interfaces import IDialect, IWatcher, IWireRequest
from aiclient2api.testing import (
    chat_body,
    chat_chunks,
    gemini_body,
    gemini_chunks,
    messages_body,
    messages_events,
    responses_body,
    responses_events,
)
from aiclient2api.testing.streams import Call
from aiclient2api.values import Route

WORDS = [
    "The",
    " gateway",
    " reads",
    " what",
    " the",
    " model",
    " writes",
    " and",
    " counts",
    " it",
]
PROSE = " ".join(["It answers every request in the words of whoever asked."] * 40)
BODIES: dict[str, dict[str, object]] = {
    "openai-chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "openai-responses": {"model": "m", "input": "hi"},
    "anthropic-messages": {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    },
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
}
STREAMS: dict[str, Callable[..., list[bytes]]] = {
    "openai-chat": chat_chunks,
    "openai-responses": responses_events,
    "anthropic-messages": messages_events,
    "gemini": gemini_chunks,
}
WHOLE: dict[str, Callable[..., bytes]] = {
    "openai-chat": chat_body,
    "openai-responses": responses_body,
    "anthropic-messages": messages_body,
    "gemini": gemini_body,
}


def asked(dialect: IDialect, *, streaming: bool = True) -> IWireRequest:
    """Return a request in *dialect*."""
    body = dict(BODIES[dialect.name])
    if dialect.name != "gemini":
        body["stream"] = streaming
    framing = "sse" if streaming else "whole"
    route = Route("generate", model="m", streaming=streaming, framing=framing)
    request: IWireRequest = dialect.parse(body=json.dumps(body).encode(), route=route)
    return request


def watcher(source: IDialect, target: IDialect, *, streaming: bool = True) -> IWatcher:
    """Return the reader of what *target* answers to a client who speaks *source*."""
    request = asked(source, streaming=streaming)
    if source is target:
        return relayed(request, source=source).watch(b"", False, 1 << 20)
    conversation = conversation_of(request)
    return translated(
        written(request, conversation, target),
        asked=request,
        conversation=conversation,
        source=source,
        target=target,
        model="m",
        make_id=lambda: "0" * 48,
        now=lambda: 0.0,
        remember=lambda seals, final: None,
    ).watch(b"", False, 1 << 20)


class PiecesTests(SynchronousTestCase):
    """`Pieces`, fed by hand."""

    def pieces(self, texts: Sequence[str]) -> Pieces:
        """Return what was seen of *texts*."""
        pieces = Pieces()
        for text in texts:
            pieces.add(text, len(text))
        return pieces

    def test_nothing(self) -> None:
        """Nothing is no token."""
        self.assertEqual(Pieces().tokens(), 0)

    def test_a_token_a_piece(self) -> None:
        """Where each piece looks like a token they are counted, exactly."""
        for times in (1, 7, 100):
            self.assertEqual(self.pieces(WORDS * times).tokens(), 10 * times)

    def test_large_pieces(self) -> None:
        """Where a piece is a paragraph its text is measured."""
        by_shape = tokens_in(PROSE)
        self.assertEqual(self.pieces([PROSE]).tokens(), by_shape)
        self.assertApproximates(self.pieces([PROSE] * 50).tokens() / (50 * by_shape), 1, 0.05)

    def test_pieces_smaller_than_a_token(self) -> None:
        """Letter by letter no text gets dearer by half."""
        spelt = self.pieces(list(PROSE)).tokens()
        self.assertApproximates(spelt / tokens_in(PROSE), 1, 0.5)

    def test_a_sample_is_kept_and_no_more(self) -> None:
        """However long an answer is, little of it stays in memory."""
        pieces = self.pieces(WORDS * 1000)
        self.assertEqual(len(pieces.sample), SAMPLE)


class AnswersTests(SynchronousTestCase):
    """What watchers count, of answers in all dialects, relayed and converted."""

    def test_every_text_piece_is_counted(self) -> None:
        """Of a stream that breaks off, in each pair of dialects: as many as were sent."""
        for target in DIALECTS:
            stream = STREAMS[target.name](WORDS * 3)
            first = next(at for at, record in enumerate(stream) if b"The" in record)
            for source in DIALECTS:
                for sent in (0, 1, 5, 30):
                    reader = watcher(source, target)
                    reader.feed(b"".join(stream[: first + sent]))
                    told = (reader.pieces.tokens(), reader.pieces.count)
                    self.assertEqual(told, (sent, sent), (source.name, target.name))

    def test_thoughts_and_calls_are_counted(self) -> None:
        """They are tokens as well."""
        for target in DIALECTS:
            stream = STREAMS[target.name](
                ["Done"],
                thinking=["I", " think"],
                tools=[Call("call_1", "look", '{"where": "in the house"}')],
            )
            for source in DIALECTS:
                reader = watcher(source, target)
                reader.feed(b"".join(stream))
                where = (source.name, target.name)
                self.assertIn(reader.pieces.count, (4, 5), where)
                self.assertIn(reader.pieces.tokens(), range(4, 30), where)

    def test_what_is_told_with_a_piece_counts_it(self) -> None:
        """Where the upstream tells with each piece, nothing is left to be estimated."""
        gemini = {
            "candidates": [{"content": {"role": "model", "parts": [{"text": " two words"}]}}],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2},
        }
        chat = {
            "choices": [{"index": 0, "delta": {"content": " two words"}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        }
        for record, target in ((gemini, GEMINI), (chat, OPENAI_CHAT)):
            untold = {name: part for name, part in record.items() if "sage" not in name}
            for source in DIALECTS:
                reader = watcher(source, target)
                reader.feed(b"data: " + json.dumps(record).encode() + b"\n\n")
                seen = (reader.pieces.told_at, reader.pieces.count)
                self.assertEqual(seen, (1, 1), (source.name, target.name))
                reader.feed(b"data: " + json.dumps(untold).encode() + b"\n\n")
                seen = (reader.pieces.told_at, reader.pieces.count)
                self.assertEqual(seen, (1, 2), (source.name, target.name))

    def test_pictures_are_not_counted(self) -> None:
        """A piece that is no text says nothing of tokens, and does not stay in memory."""
        data = "x" * 100_000
        parts = [{"inlineData": {"mimeType": "image/png", "data": data}}]
        gemini = {"candidates": [{"content": {"parts": parts}}]}
        chat = {"choices": [{"delta": {"content": "", "images": [data]}}]}
        for record, dialect in ((gemini, GEMINI), (chat, OPENAI_CHAT)):
            reader = watcher(dialect, dialect)
            reader.feed(b"data: " + json.dumps(record).encode() + b"\n\n")
            self.assertTrue(reader.started)
            self.assertEqual(reader.pieces.sample, [])

    def test_half_of_a_whole_answer(self) -> None:
        """Of an answer that is no stream its text so far is measured."""
        for target in DIALECTS:
            body = WHOLE[target.name](PROSE)
            start = body.index(PROSE.encode())
            for source in DIALECTS:
                reader = watcher(source, target, streaming=False)
                reader.feed(body[: start + 1000])
                self.assertEqual(reader.pieces.tokens(), tokens_in(PROSE[:1000]))

    def test_a_body_of_no_texts(self) -> None:
        """Ids, names and numbers are none."""
        self.assertEqual(pieces_of(b'{"id":"x","model":"gpt-5","choices":[{"ind').tokens(), 0)

    def test_escapes_in_a_body(self) -> None:
        """A text is read as it was meant, also if it breaks off in an escape."""
        (text,) = pieces_of(b'{"content":"a\\n\\"b\\" \\u00e9"}').sample
        self.assertEqual(text, 'a\n"b" \u00e9')
        (text,) = pieces_of(b'{"content":"abc\\').sample
        self.assertEqual(text, "abc")
        (text,) = pieces_of(b'{"type":"tool_use","input":{"city":"Rome {x}","n":[1]}}').sample
        self.assertIn("Rome {x}", text)
