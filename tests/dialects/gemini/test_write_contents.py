"""What Google is told of the conversation so far."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import (
    Audio,
    Call,
    Conversation,
    File,
    Image,
    Inline,
    Reasoning,
    Refusal,
    Remote,
    Result,
    Text,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.seals import Seal
from aiclient2api.conversation.turns import UNANSWERED
from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.dialects.gemini.request import NAME
from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import IGeminiRequest
from tests.dialects.gemini.test_write_request import (
    BYPASS,
    HI,
    PNG,
    answer,
    assistant,
    body,
    call,
    contents,
    function,
    losses,
    model,
    said,
    user,
    written,
)


class TurnTests(SynchronousTestCase):
    """Who said what."""

    def test_order(self) -> None:
        """The user begins, nobody speaks twice in a row, nothing is empty."""
        self.assertEqual(
            contents(assistant(Text("a")), user(Text("b")), user(Text(""), Text("c"))),
            [said({"text": "Go on."}), model({"text": "a"}), said({"text": "b"}, {"text": "c"})],
        )
        gone = assistant(Reasoning("x"))
        self.assertEqual(contents(HI, gone, HI), [said({"text": "hi"}, {"text": "hi"})])
        self.assertEqual(
            contents(HI, assistant(Text("pre"))), [*contents(HI), model({"text": "pre"})]
        )

    def test_nothing_to_say(self) -> None:
        """Is no request."""
        for turns in ((user(Text("")),), (gone := assistant(Reasoning("x")),), (gone, gone)):
            self.assertRaises(InvalidRequest, written, *turns)
        error = self.assertRaises(
            InvalidRequest, IGeminiRequest, Conversation("m", streaming=False, system=(Text("s"),))
        )
        self.assertEqual(error.code, "empty_conversation")

    def test_instructions_in_between(self) -> None:
        """Move to the front."""
        turns = (HI, Turn("system", (Text("b"),)), assistant(Text("c")), HI)
        told = body(*turns, system=(Text("a"), Text("")))
        self.assertEqual(
            told["systemInstruction"], {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}
        )
        self.assertEqual(losses(*turns), ("system_position",))

    def test_thoughts(self) -> None:
        """Those that Google sealed go back to it, no others."""
        own, foreign = Seal(NAME, "AAAA"), Seal("anthropic-messages", "EqQB")
        turns = (
            HI,
            assistant(Reasoning("a", own), Reasoning("b", foreign), Reasoning("c"), Text("d")),
        )
        sealed = {"text": "a", "thought": True, "thoughtSignature": "AAAA"}
        self.assertEqual(contents(*turns)[1], model(sealed, {"text": "d"}))
        self.assertEqual(losses(*turns), ("reasoning",))

    def test_signatures_of_calls(self) -> None:
        """The first call of each turn has one, its own or the word for none."""
        own, foreign = Seal(NAME, "AAAA"), Seal("anthropic-messages", "EqQB")
        for seals, signatures in (
            ((None, None), (BYPASS, None)),
            ((own, None), ("AAAA", None)),
            ((None, own), (BYPASS, "AAAA")),
            ((foreign, foreign), (BYPASS, None)),
        ):
            calls = [Call(f"c{at}", "f", "{}", seal) for at, seal in enumerate(seals)]
            turns = (HI, assistant(*calls), HI, assistant(Call("d", "f")))
            _, first, _, second, _ = contents(*turns)
            expected = [call(signature=signature) for signature in signatures]
            self.assertEqual(first["parts"], expected)
            self.assertEqual(second["parts"], [call()])

    def test_arguments(self) -> None:
        """Go as they came, or as what they were meant to be."""
        for arguments, expected in (
            ('{"a":1.10,"b":12345678901234567890}', b'{"a":1.10,"b":12345678901234567890}'),
            ("", b"{}"),
            ("[1]", b'{"value":[1]}'),
            ("{'a': 1}", b'{"a":1}'),
            ("nonsense", b'{"raw_arguments":"nonsense"}'),
            ('{"a":"\\ud83d"}', b'{"a":"\\ufffd"}'),
        ):
            raw = written(HI, assistant(Call("c", "f", arguments))).raw
            self.assertIn(b'"args":' + expected, raw)

    def test_answers(self) -> None:
        """Texts are wrapped, objects are what they are; each goes to its call, in order."""
        for text, is_error, response in (
            ("r", False, {"result": "r"}),
            ("", False, {"result": ""}),
            ('{"a":1}', False, {"a": 1}),
            ("[1]", False, {"result": "[1]"}),
            ("r", True, {"error": "r"}),
            ('{"a":1}', True, {"error": {"a": 1}}),
        ):
            turns = (HI, assistant(Call("c", "f")), user(Result("c", "", (Text(text),), is_error)))
            self.assertEqual(contents(*turns)[2], said(answer(response)))
        turns = (
            HI,
            assistant(Call("c", "f"), Call("d", "g"), Call("e", "h")),
            user(Text("then"), Result("d", parts=(Text("2"), Text("3"))), Result("c")),
        )
        missing = answer({"error": UNANSWERED}, "h")
        self.assertEqual(
            contents(*turns)[2],
            said(answer({"result": ""}), answer({"result": "23"}, "g"), missing, {"text": "then"}),
        )
        self.assertEqual(losses(*turns), ("tool_result",))

    def test_media_in_answers(self) -> None:
        """Come after all the answers."""
        picture = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
        turns = (
            HI,
            assistant(Call("c", "f"), Call("d", "f")),
            user(Result("c", parts=(Image(PNG),)), Result("d", parts=(Text("r"),))),
        )
        self.assertEqual(
            contents(*turns)[2],
            said(answer({"result": "The answer follows."}), answer({"result": "r"}), picture),
        )
        self.assertEqual(losses(*turns), ("tool_media",))

    def test_refusals_and_caches(self) -> None:
        """A refusal is text, a cache marker has no place."""
        marker = {"type": "ephemeral"}
        for turns in (
            (HI, assistant(Refusal("No."), Refusal("")), HI),
            (user(Text("hi", marker)), assistant(Text("No.")), HI),
        ):
            self.assertEqual(contents(*turns)[1], model({"text": "No."}))
        self.assertEqual(losses(user(Text("hi", marker))), ("cache_control",))
        self.assertEqual(losses(system=(Text("s", marker),)), ("cache_control",))
        self.assertEqual(losses(tools=(function(cache=marker),)), ("cache_control",))


class MediaTests(SynchronousTestCase):
    """Pictures, sounds and files."""

    def parts(self, *parts: Any) -> list[Any]:
        """Return what becomes of *parts*."""
        found: list[Any] = contents(user(*parts))[0]["parts"]
        return found

    def inline(self, mime: str) -> dict[str, Any]:
        """Return media as a part."""
        return {"inlineData": {"mimeType": mime, "data": "AAAA"}}

    def test_bytes(self) -> None:
        """Go with their type; documents that are text go as text."""
        for part, mime in (
            (Image(PNG), "image/png"),
            (Audio(Inline("audio/wav", "AAAA")), "audio/wav"),
            (Audio(Inline("video/mp4", "AAAA")), "video/mp4"),
            (File(Inline("application/pdf", "AAAA")), "application/pdf"),
            (File(Inline("text/csv", "AAAA")), "text/csv"),
            (File(Inline("application/json", "AAAA")), "text/plain"),
            (File(Inline("application/ld+json", "AAAA")), "text/plain"),
        ):
            self.assertEqual(self.parts(part), [self.inline(mime)])
            self.assertEqual(losses(user(part)), ())

    def test_names(self) -> None:
        """Stand in front of the file."""
        told = self.parts(File(Inline("application/pdf", "AAAA"), "a.pdf"))
        self.assertEqual(told, [{"text": "a.pdf:"}, self.inline("application/pdf")])

    def test_documents_that_cannot_be_read(self) -> None:
        """Are told of."""
        office = File(Inline("application/vnd.ms-excel", "AAAA"), "a.xls")
        (told,) = self.parts(office)
        self.assertIn("a.xls", told["text"])
        self.assertEqual(losses(user(office)), ("file",))

    def test_files(self) -> None:
        """Google's own are pointed to, those of others told of."""
        own = Image(Uploaded(NAME, "gs://b/a.png"))
        self.assertEqual(self.parts(own), [{"fileData": {"fileUri": "gs://b/a.png"}}])
        for part in (
            Image(Uploaded("openai-responses", "file-1")),
            File(Uploaded("anthropic-messages", "x"), "file-1"),
        ):
            (told,) = self.parts(part)
            self.assertIn("file-1", told["text"])
            self.assertEqual(losses(user(part)), ("file_id",))

    def test_addresses(self) -> None:
        """Google reads its own and videos; for others it needs the bytes."""
        for url, needed in (
            ("https://example.com/a.png", True),
            ("https://notyoutube.com/a", True),
            ("http://[x", True),
            ("gs://b/a.png", False),
            ("https://www.youtube.com/watch?v=x", False),
            ("https://youtu.be/x", False),
            ("https://generativelanguage.googleapis.com/v1beta/files/x", False),
            ("https://generativelanguage.googleapis.com/v1beta/models/x", True),
        ):
            media = Remote(url, "image/png")
            self.assertEqual(GEMINI.needs_bytes(media=media), needed, url)
            if needed:
                error = self.assertRaises(InvalidRequest, written, user(Image(media)))
                self.assertEqual(error.code, "remote_media")
                self.assertIn("fetch_images", error.message)
            else:
                file = {"fileUri": url, "mimeType": "image/png"}
                self.assertEqual(self.parts(Image(media)), [{"fileData": file}])
        for known_there in (PNG, Uploaded(NAME, "x")):
            self.assertFalse(GEMINI.needs_bytes(media=known_there))

    def test_detail(self) -> None:
        """Cannot be said."""
        self.assertEqual(losses(user(Image(PNG, "auto"))), ())
        self.assertEqual(losses(user(Image(PNG, "low"))), ("detail",))
