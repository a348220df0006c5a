"""Blocks of messages, as the hub understands them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation import call_ids, seals
from aiclient2api.conversation.losses import known
from aiclient2api.conversation.request import (
    Call,
    File,
    Image,
    Inline,
    Reasoning,
    Remote,
    Result,
    Text,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.seals import Seal
from tests.dialects.anthropic_messages.asking import EPHEMERAL, NAME, base64_of, parts, read, said


class BlockTests(SynchronousTestCase):
    """Blocks of a message."""

    def test_cache_markers_stay_with_their_blocks(self) -> None:
        """They are worth money with a vendor that has them, too."""
        conversation = said(
            system=[{"type": "text", "text": "s", "cache_control": EPHEMERAL}],
            tools=[{"name": "f", "input_schema": {}, "cache_control": EPHEMERAL}],
            messages=[
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "t", "cache_control": EPHEMERAL}],
                }
            ],
        )
        self.assertEqual(conversation.system, (Text("s", EPHEMERAL),))
        self.assertEqual(conversation.turns[0].parts, (Text("t", EPHEMERAL),))
        self.assertEqual(conversation.tools[0].cache, EPHEMERAL)

    def test_attribution(self) -> None:
        """Claude Code's billing line goes, whatever stands below it stays."""
        line = "x-anthropic-billing-header: cc_version=2"
        conversation = said(system=f"{line}\nBe brief.")
        self.assertEqual(conversation.system, (Text("Be brief."),))
        self.assertEqual(conversation.dropped, ("attribution",))
        self.assertEqual(parts({"type": "text", "text": line}), (Text(line),))

    def test_system_messages(self) -> None:
        """Instructions between the turns are instructions."""
        messages = [
            {"role": "user", "content": "a"},
            {"role": "system", "content": [{"type": "text", "text": "b"}]},
        ]
        turns = said(messages=messages).turns
        self.assertEqual(turns, (Turn("user", (Text("a"),)), Turn("system", (Text("b"),))))

    def test_images(self) -> None:
        """By bytes, by address, or by the id of an upload."""
        sources = [
            {"type": "base64", "media_type": "image/png", "data": "AAAA"},
            {"type": "url", "url": "https://e.x/a.png"},
            {"type": "url", "url": "data:image/gif;base64,BBBB"},
            {"type": "file", "file_id": "file_1"},
        ]
        found = parts(*({"type": "image", "source": source} for source in sources))
        self.assertEqual(
            found,
            (
                Image(Inline("image/png", "AAAA")),
                Image(Remote("https://e.x/a.png")),
                Image(Inline("image/gif", "BBBB")),
                Image(Uploaded(NAME, "file_1")),
            ),
        )

    def test_documents(self) -> None:
        """PDFs and texts are files; a text keeps its letters."""
        found = parts(
            {
                "type": "document",
                "title": "a.pdf",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
            },
            {
                "type": "document",
                "context": "Of last year.",
                "source": {"type": "text", "media_type": "text/plain", "data": "Grüße"},
            },
            {"type": "document", "source": {"type": "url", "url": "https://e.x/b.pdf"}},
            {
                "type": "document",
                "source": {
                    "type": "content",
                    "content": [
                        {"type": "text", "text": "c"},
                        {"type": "image", "source": {"type": "url", "url": "https://e.x/c.png"}},
                    ],
                },
            },
        )
        self.assertEqual(
            found,
            (
                File(Inline("application/pdf", "AAAA"), "a.pdf"),
                Text("Of last year."),
                File(Inline("text/plain", base64_of("Grüße"))),
                File(Remote("https://e.x/b.pdf")),
                File(Inline("text/plain", base64_of("c"))),
                Image(Remote("https://e.x/c.png")),
            ),
        )

    def test_thoughts(self) -> None:
        """A signature is kept to the letter; without one there is no seal."""
        found = parts(
            {"type": "thinking", "thinking": "hm", "signature": "EqQB+/=="},
            {"type": "thinking", "thinking": "ho", "signature": ""},
            {"type": "thinking", "thinking": "", "signature": "Eq"},
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "redacted_thinking", "data": "Em"},
            role="assistant",
        )
        self.assertEqual(
            found,
            (
                Reasoning("hm", Seal(NAME, "EqQB+/==")),
                Reasoning("ho"),
                Reasoning("", Seal(NAME, "Eq")),
                Reasoning("", Seal(NAME, "Em", hidden=True)),
            ),
        )

    def test_carried_seals(self) -> None:
        """What another vendor's model sealed finds its issuer again."""
        seal = Seal("openai-responses", "gAAA", id="rs_1")
        hidden = Seal(NAME, "Em", hidden=True)
        found = parts(
            {"type": "thinking", "thinking": "hm", "signature": seals.carried(seal, NAME)},
            {"type": "redacted_thinking", "data": seals.carried(seal, NAME)},
            {"type": "redacted_thinking", "data": seals.carried(hidden, NAME)},
            {"type": "redacted_thinking", "data": seals.PARCEL + "!"},
            role="assistant",
        )
        self.assertEqual(found, (Reasoning("hm", seal), Reasoning("", seal), Reasoning("", hidden)))

    def test_numbers_of_arguments_keep_their_digits(self) -> None:
        """As does the order of their keys."""
        given = b'{"z":1.10,"a":12345678901234567890123,"m":[1e400,-0]}'
        body = (
            b'{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":['
            b'{"type":"tool_use","id":"t","name":"f","input":' + given + b"}]}]}"
        )
        (call,) = read(body).turns[0].parts
        self.assertEqual(call, Call("t", "f", given.decode()))

    def test_ids_of_other_vendors_come_back(self) -> None:
        """A call keeps the id its upstream gave, whatever the client had to call it."""
        strange = "call.1:x"
        found = parts(
            {"type": "tool_use", "id": call_ids.plain(strange), "name": "f", "input": None},
            role="assistant",
        )
        self.assertEqual(found, (Call(strange, "f", "{}"),))
        (result,) = parts({"type": "tool_result", "tool_use_id": call_ids.plain(strange)})
        self.assertEqual(result, Result(strange))

    def test_media_in_results(self) -> None:
        """Screenshots, documents and what a search found."""
        (result,) = parts(
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "cache_control": EPHEMERAL,
                "content": [
                    {"type": "image", "source": {"type": "url", "url": "https://e.x/a"}},
                    {
                        "type": "search_result",
                        "title": "T",
                        "source": "https://e.x/s",
                        "content": [{"type": "text", "text": "found"}],
                    },
                ],
            }
        )
        self.assertEqual(
            result,
            Result(
                "t",
                parts=(Image(Remote("https://e.x/a")), Text("T\nhttps://e.x/s\nfound")),
                cache=EPHEMERAL,
            ),
        )

    def test_what_has_no_word_is_named(self) -> None:
        """Blocks that only Anthropic knows go, each under its own name."""
        conversation = said(
            messages=[
                {
                    "role": "assistant",
                    "content": [
                        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                        {"type": "odd one\r\n", "x": 1},
                        {"type": "image", "source": {"type": "telepathy"}},
                        {"type": "text", "text": "t", "citations": [{"type": "char_location"}]},
                    ],
                },
                {"role": "system", "content": [{"type": "thinking", "thinking": "x"}]},
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "t",
                            "content": [{"type": "tool_reference", "tool_name": "f"}],
                        }
                    ],
                },
            ]
        )
        self.assertEqual(
            conversation.dropped,
            (
                "part:server_tool_use",
                "part:web_search_tool_result",
                "part:odd_one__",
                "part:image.telepathy",
                "citations",
                "part:reasoning",
                "part:tool_reference",
            ),
        )
        self.assertTrue(all(map(known, conversation.dropped)))
        self.assertEqual(conversation.turns[0], Turn("assistant", (Text("t"),)))

    def test_fields_that_have_no_word_are_named(self) -> None:
        """Of messages and of blocks, once; what says nothing is not."""
        call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
        found = {"type": "search_result", "source": "s", "title": "t", "content": []}
        conversation = said(
            messages=[
                {
                    "role": "assistant",
                    "weird": 1,
                    "content": [
                        {"type": "text", "text": "a", "foo": 1, "bar": None, "citations": None},
                        {"type": "text", "text": "b", "foo": 2, "citations": []},
                        {"type": "thinking", "thinking": "c", "cache_control": EPHEMERAL},
                        {**call, "caller": {"type": "direct"}},
                        {**call, "caller": {"type": "code_execution_20250825", "tool_id": "x"}},
                    ],
                },
                {"role": "user", "content": [{**found, "citations": {"enabled": True}}]},
            ]
        )
        wanted = "field:messages.weird", "field:text.foo", "cache_control", "field:tool_use.caller"
        self.assertEqual(conversation.dropped, (*wanted, "citations"))
        self.assertTrue(all(map(known, conversation.dropped)))
