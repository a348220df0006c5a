"""Turns as messages, and what is in them."""

from __future__ import annotations

import attrs
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
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.dialects.anthropic_messages.write_request import write_request
from aiclient2api.errors import InvalidRequest
from aiclient2api.values import Traits
from tests.dialects.anthropic_messages.asking import (
    CLAUDE,
    EPHEMERAL,
    FOREIGN,
    NAME,
    SEAL,
    TOOL,
    USER,
    asked,
    base64_of,
    content,
    request_of,
    text,
)


class TurnTests(SynchronousTestCase):
    """Who speaks when."""

    def test_the_user_begins(self) -> None:
        """A history that begins with the assistant is told to be a part of one."""
        told = asked(turns=(Turn("assistant", (Text("hello"),)), USER))
        self.assertEqual([m["role"] for m in told["messages"]], ["user", "assistant", "user"])
        self.assertIn("beginning", told["messages"][0]["content"][0]["text"])

    def test_without_a_user(self) -> None:
        """There is nothing to ask."""
        for turns in ((), (Turn("assistant", (Text("a"),)),), (Turn("user", (Text(" \n"),)),)):
            conversation = Conversation(CLAUDE, False, turns=turns, system=(Text("S"),))
            error = self.assertRaises(InvalidRequest, write_request, conversation)
            self.assertEqual(error.param, "messages")

    def test_neighbours_are_one(self) -> None:
        """Also those between whom nothing was said that could be sent."""
        turns = (USER, Turn("assistant", (Text(""), Reasoning("x"))), Turn("user", (Text("b"),)))
        told = asked(turns=turns)
        self.assertEqual(told["messages"], [{"role": "user", "content": [text("hi"), text("b")]}])
        self.assertEqual(told["losses"], ("reasoning",))

    def test_instructions_in_between(self) -> None:
        """They move to the front, and that is a loss only where something was before them."""
        system = Turn("system", (Text("now"),))
        told = asked(system=(Text("S"),), turns=(USER, system))
        self.assertEqual(told["system"], [text("S"), text("now")])
        self.assertEqual(told["losses"], ("system_position",))
        self.assertEqual(asked(turns=(system, USER))["losses"], ())

    def test_a_turn_that_says_nothing(self) -> None:
        """Those before and after it are one, and in order."""
        turns = (
            USER,
            Turn("assistant", (Text("a"),)),
            Turn("user", (Text(" "),)),
            Turn("assistant", (Reasoning("hm", SEAL), Text("b"), Call("c", "f"))),
        )
        kinds = [each["type"] for each in asked(turns=turns)["messages"][1]["content"]]
        self.assertEqual(kinds, ["thinking", "text", "text", "tool_use"])

    def test_blanks(self) -> None:
        """Empty texts go, and the last words of the assistant end in none."""
        turns = (USER, Turn("assistant", (Text(" "), Text("so \n"))))
        told = asked("claude-sonnet-4-5", turns=turns, system=(Text("\t"),))
        self.assertEqual(told["messages"][1]["content"], [text(" so")])
        self.assertNotIn("system", told)
        self.assertEqual(told["losses"], ("part:text",))

    def test_blanks_between_texts(self) -> None:
        """They go with the text before them, or behind them if there is none."""
        blank = Text("\n", EPHEMERAL)
        blocks, losses = content(Text("\t"), Text(" "), Text("a"), blank, Text(""), Text("b"))
        self.assertEqual(
            (blocks, losses), ([text("\t a\n", cache_control=EPHEMERAL), text("b")], ())
        )
        picture = Image(Inline("image/png", "AAAA"))
        blocks, losses = content(Text("a"), picture, Text("\n"), picture, Text(" "), Text("b"))
        self.assertEqual([each["type"] for each in blocks], ["text", "image", "image", "text"])
        self.assertEqual((blocks[3], losses), (text(" b"), ("part:text",)))
        told = asked(system=(Text("a"), Text("\n"), Text("b")))
        self.assertEqual((told["system"], told["losses"]), ([text("a\n"), text("b")], ()))
        answer = Result("c", parts=(Text("a"), Text("\n"), Text("b")))
        turns = (USER, Turn("assistant", (Call("c", "f"),)), Turn("user", (answer,)))
        (block,) = asked(turns=turns, tools=(TOOL,))["messages"][2]["content"]
        self.assertEqual(block["content"], [text("a\n"), text("b")])

    def test_prefill(self) -> None:
        """Models that go on with no turn of theirs are asked to go on in a new one."""
        turns = (USER, Turn("assistant", (Text("{"),)))
        self.assertEqual(len(asked("claude-sonnet-4-5", turns=turns)["messages"]), 2)
        told = asked("claude-opus-4-6", turns=turns)
        self.assertEqual(told["messages"][-1], {"role": "user", "content": [text("Please go on.")]})
        self.assertEqual(told["losses"], ("prefill",))

    def test_calls_and_results_that_have_no_other(self) -> None:
        """A call is answered, a result is told."""
        turns = (USER, Turn("assistant", (Call("a", "f"),)), Turn("user", (Result("b"),)))
        told = asked(turns=turns, tools=(TOOL,))
        answer, words = told["messages"][2]["content"]
        self.assertEqual((answer["content"], answer["is_error"]), (UNANSWERED, True))
        self.assertEqual(words["type"], "text")
        self.assertEqual(told["losses"], ("tool_result",))


class PartTests(SynchronousTestCase):
    """What is in a turn."""

    def test_images(self) -> None:
        """By bytes and by address; of what cannot be sent there is a word."""
        blocks, losses = content(
            Image(Inline("image/jpg", "AAAA"), detail="auto"),
            Image(Remote("https://e.x/a.png"), cache=EPHEMERAL),
            Image(Uploaded(NAME, "file_1")),
            Image(Inline("image/tiff", "AAAA"), detail="low"),
            Image(Remote("http://e.x/a.png")),
            Image(Uploaded("openai-responses", "file-2")),
        )
        self.assertEqual(
            blocks[:3],
            [
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"},
                },
                {
                    "type": "image",
                    "source": {"type": "url", "url": "https://e.x/a.png"},
                    "cache_control": EPHEMERAL,
                },
                {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
            ],
        )
        self.assertEqual([block["type"] for block in blocks[3:]], ["text"] * 3)
        self.assertIn("image/tiff", blocks[3]["text"])
        self.assertIn("http://e.x/a.png", blocks[4]["text"])
        self.assertIn("file-2", blocks[5]["text"])
        self.assertEqual(losses, ("detail", "image", "file_id"))

    def test_uploads_need_a_beta(self) -> None:
        """Files that lie with Anthropic are asked for under a header of their own."""
        request = request_of(turns=(Turn("user", (File(Uploaded(NAME, "file_1")),)),))
        self.assertEqual(request.headers, ((b"anthropic-beta", b"files-api-2025-04-14"),))
        self.assertEqual(request_of().headers, ())

    def test_files(self) -> None:
        """PDFs and texts are documents, other things are named."""
        blocks, losses = content(
            File(Inline("application/pdf", "AAAA"), "a.pdf"),
            File(Inline("text/csv; charset=utf-8", base64_of("Grüße")), cache=EPHEMERAL),
            File(Remote("https://e.x/b.pdf")),
            File(Inline("image/png", "AAAA")),
            File(Inline("application/zip", "AAAA"), "c.zip"),
            File(Remote("https://e.x/d", "text/plain")),
            File(Inline("text/plain", "!")),
            Audio(Inline("audio/wav", "AAAA")),
        )
        self.assertEqual(
            blocks[:4],
            [
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
                    "title": "a.pdf",
                },
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "Grüße"},
                    "cache_control": EPHEMERAL,
                },
                {"type": "document", "source": {"type": "url", "url": "https://e.x/b.pdf"}},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
                },
            ],
        )
        self.assertEqual([block["type"] for block in blocks[4:]], ["text"] * 4)
        self.assertIn("c.zip", blocks[4]["text"])
        self.assertIn("audio/wav", blocks[7]["text"])
        self.assertEqual(losses, ("file", "audio"))

    def test_what_has_to_be_fetched(self) -> None:
        """Anthropic fetches pictures and PDFs over https, and nothing else."""
        for media, wanted in (
            (Remote("https://e.x/a"), False),
            (Remote("https://e.x/a", "image/png"), False),
            (Remote("https://e.x/a", "application/pdf"), False),
            (Remote("https://e.x/a", "text/plain"), True),
            (Remote("http://e.x/a"), True),
            (Remote("gs://b/a"), False),
            (Inline("image/png", "AAAA"), False),
        ):
            self.assertEqual(ANTHROPIC_MESSAGES.needs_bytes(media), wanted, media)

    def test_the_assistant_sends_words_only(self) -> None:
        """Its pictures are told of, its refusals are what it said."""
        blocks, losses = content(
            Image(Remote("https://e.x/a.png")), Refusal("No."), role="assistant"
        )
        self.assertEqual((blocks[1], losses), (text("No."), ("image",)))
        self.assertEqual(blocks[0]["type"], "text")

    def test_thoughts(self) -> None:
        """Only those go back that Claude sealed, to the letter."""
        blocks, losses = content(
            Reasoning("a", SEAL),
            Reasoning("b"),
            Reasoning("c", FOREIGN),
            Reasoning("", Seal(NAME, "Em", hidden=True)),
            Text("t"),
            Reasoning("", SEAL),
            Text("u"),
            role="assistant",
        )
        self.assertEqual(
            blocks,
            [
                {"type": "thinking", "thinking": "a", "signature": "EqQB"},
                {"type": "redacted_thinking", "data": "Em"},
                text("t"),
                {"type": "thinking", "thinking": "", "signature": "EqQB"},
                text("u"),
            ],
        )
        self.assertEqual(losses, ("reasoning",))

    def test_answers_that_were_cut(self) -> None:
        """A thought that led to nothing cannot be the last thing that was said."""
        blocks, losses = content(Text("t"), Reasoning("a", SEAL), role="assistant")
        self.assertEqual((blocks, losses), ([text("t")], ("reasoning",)))

    def test_thoughts_for_those_who_want_them_unsealed(self) -> None:
        """Moonshot wants some before every call, whoever had them."""
        traits = Traits(replays_reasoning=True, reasoning_with_calls=True)
        blocks, losses = content(
            Reasoning("b"), Call("a", "f"), role="assistant", model="kimi-k2", traits=traits
        )
        self.assertEqual(blocks[0], {"type": "thinking", "thinking": "b", "signature": ""})
        self.assertEqual(losses, ("tool_result",))
        blocks, _ = content(Call("a", "f"), role="assistant", model="kimi-k2", traits=traits)
        self.assertEqual([block["type"] for block in blocks], ["thinking", "tool_use"])
        self.assertTrue(blocks[0]["thinking"])

    def test_results(self) -> None:
        """With pictures, with nothing, and with a failure of which nothing is known."""
        calls = Turn("assistant", tuple(Call(f"c{n}", "f") for n in range(4)))
        results = Turn(
            "user",
            (
                Result("c0", parts=(Text("a"), Image(Inline("image/png", "AAAA")))),
                Result("c1"),
                Result("c2", is_error=True),
                Result("c3", parts=(Text("d"),), cache=EPHEMERAL),
            ),
        )
        told = asked(turns=(USER, calls, results), tools=(TOOL,))
        first, second, third, fourth = told["messages"][2]["content"]
        self.assertEqual([block["type"] for block in first["content"]], ["text", "image"])
        self.assertEqual(second, {"type": "tool_result", "tool_use_id": "c1"})
        self.assertEqual((third["content"], third["is_error"]), ("The tool failed.", True))
        self.assertEqual((fourth["content"], fourth["cache_control"]), ("d", EPHEMERAL))
        self.assertEqual(told["losses"], ())

    def test_cache_markers(self) -> None:
        """Four are allowed, and the last ones are worth most."""
        marked = Text("t", {"type": "ephemeral", "ttl": "1h", "scope": "x"})
        told = asked(
            tools=(attrs.evolve(TOOL, cache=EPHEMERAL),),
            system=(marked, marked),
            turns=(Turn("user", (marked, marked, Text("u", {"type": "odd"}))),),
        )
        self.assertNotIn("cache_control", told["tools"][0])
        wanted = text("t", cache_control={"type": "ephemeral", "ttl": "1h"})
        self.assertEqual(told["system"], [wanted, wanted])
        self.assertEqual(told["messages"][0]["content"], [wanted, wanted, text("u")])
        self.assertEqual(told["losses"], ("cache_control",))
